"""What the commands share: options, errors in words, loading with progress, output."""

import inspect
import json
import os
import re
import sys
import warnings
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import typer

from dnd_engine.config import EngineConfig
from dnd_engine.errors import AdapterError, DndError, LibraryError
from dnd_engine.progress import in_english

if TYPE_CHECKING:
    from dnd_engine.engine import Engine
    from dnd_engine.library import Library
    from dnd_engine.lora.adapter import Adapter
    from dnd_engine.progress import Progress

__all__ = [
    "DEFAULT_BASE",
    "AdapterArgument",
    "BaseOption",
    "CacheOption",
    "Json",
    "LibraryOption",
    "check_exists",
    "engine_options",
    "find_adapter",
    "find_kept",
    "load_engine",
    "plain_errors",
    "quiet_libraries",
    "show",
    "typed_arguments",
]

P = ParamSpec("P")
T = TypeVar("T")

DEFAULT_BASE = EngineConfig().base

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
BaseOption = Annotated[str, typer.Option(help="Base model: embedded name, Hub id or folder.")]
CacheOption = Annotated[Path | None, typer.Option(help="Where converted weights are kept.")]
LibraryOption = Annotated[
    Path | None, typer.Option("--library", help="Library folder; default: the user's own.")
]


AdapterArgument = Annotated[
    str, typer.Argument(help="PEFT folder or zip, or a name of the library.")
]

_GENERATOR = typer.Option(help="Generator folder; default: the one shipped for the base.")
_ENGINE: dict[str, tuple[Any, Any]] = {
    "base": (BaseOption, DEFAULT_BASE),
    "generator": (Annotated[Path | None, _GENERATOR], None),
    "device": (
        Annotated[str | None, typer.Option(help="cpu, cuda or mps; default: the best.")],
        None,
    ),
    "cache_dir": (CacheOption, None),
}
"""Options that make an `EngineConfig`, with their defaults."""

_LAST = ("library", "run_folders", "as_json")
"""Options that the help names after those of the engine."""


def engine_options(command: Callable[..., T]) -> Callable[..., T]:
    """Give a command the options of the engine, and from these its first parameter, `config`."""
    signature = inspect.signature(command)
    _, *own = signature.parameters.values()
    kind = inspect.Parameter.KEYWORD_ONLY
    engine = [
        inspect.Parameter(name, kind, default=default, annotation=annotation)
        for name, (annotation, default) in _ENGINE.items()
    ]
    own = [parameter.replace(kind=kind) for parameter in own]
    first = [parameter for parameter in own if parameter.name not in _LAST]
    last = [parameter for parameter in own if parameter.name in _LAST]

    @wraps(command)
    def wrapped(**given: Any) -> T:
        asked = {name: given.pop(name, default) for name, (_, default) in _ENGINE.items()}
        return command(EngineConfig(**asked), **given)

    parameters = [*first, *engine, *last]
    # Typer reads both to make the command line.
    wrapped.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in parameters}
    return wrapped


def plain_errors(command: Callable[P, T]) -> Callable[P, T]:
    """Turn a `DndError` into its message and exit code 1; anything else is a bug and shows."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except DndError as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(1) from error

    return wrapped


def quiet_libraries() -> None:
    """Leave out a warning that users can do nothing about: PEFT uses an old name."""
    warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)


def load_engine(config: EngineConfig) -> "Engine":
    """Load the models, with progress on stderr."""
    from transformers.utils import logging as transformers_logging

    from dnd_engine.engine import Engine

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    quiet_libraries()
    shown: set[str] = set()

    def report(progress: "Progress") -> None:
        words = in_english(progress)
        if progress.fraction is not None and progress.stage == "download":
            typer.echo(f"\r{words} {progress.fraction:4.0%}", err=True, nl=False)
        elif words not in shown:
            shown.add(words)
            typer.echo(f"\r{words}", err=True)

    return Engine.load(config, on_progress=report)


def check_exists(path: Path) -> None:
    """Refuse a path without anything before models load."""
    if not os.path.lexists(path):
        raise AdapterError(f"no adapter at `{path}`. Expected a PEFT folder or zip.")


def find_adapter(named: str, library: Path | None = None) -> "Callable[[Engine], Adapter]":
    """Find an adapter by path or by its name in the library, before any model loads.

    Returns:
        What reads and checks it, once there is an engine.

    Raises:
        AdapterError: If there is neither.
    """
    kept = find_kept(named, library)
    if kept is None:
        return lambda engine: engine.read_adapter(named)
    shelf, key = kept
    return lambda engine: shelf.load(key, engine.read_adapter)


def find_kept(named: str, library: Path | None = None) -> "tuple[Library, str] | None":
    """Find an adapter in the library: which, and its key there; None if it is named by a path.

    Raises:
        AdapterError: If there is neither.
    """
    from dnd_engine.library import Library

    if os.path.lexists(named):
        return None
    shelf = Library(library)
    try:
        return shelf, shelf.get(named).key
    except LibraryError as error:
        raise AdapterError(
            f"no adapter at `{named}`. Expected a PEFT folder or zip, or a name that `dnd library "
            f"list` shows: {error}"
        ) from error


def show(values: dict[str, Any], as_json: bool, words: str) -> None:
    """Print one JSON object, or the same in words."""
    typer.echo(json.dumps(values, default=str) if as_json else words)


def typed_arguments() -> list[str]:
    """The command as typed, paths cut to their last part: reports leave this machine."""
    return [re.sub(r"[^\s=]*/(?=[^/\s])", "", a.rstrip("/")) for a in sys.argv[1:]]
