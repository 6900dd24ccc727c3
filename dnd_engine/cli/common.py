"""Shared code of the commands: options, error handling, loading models with progress, output."""

import inspect
import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import typer

from dnd_engine.cluster import Cluster
from dnd_engine.config import EngineConfig
from dnd_engine.errors import AdapterError, ConfigError, DndError, LibraryError
from dnd_engine.files import expanded, write_whole
from dnd_engine.library import Library
from dnd_engine.models.allocator import importing
from dnd_engine.progress import in_english

if TYPE_CHECKING:
    from dnd_engine.engine import Engine
    from dnd_engine.lora.adapter import Adapter
    from dnd_engine.progress import Progress

P = ParamSpec("P")
T = TypeVar("T")

INTERRUPTED = 130
"""Exit code of a program stopped with Ctrl-C (128 + SIGINT)."""

DEFAULT_BASE = EngineConfig().base

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Plot = Annotated[Path | None, typer.Option(help="SVG file to draw the figures in.")]
BaseOption = Annotated[
    str, typer.Option(help="Base model: smollm2-135m-instruct, Hub id, folder or GGUF file.")
]
CacheOption = Annotated[Path | None, typer.Option(help="Cache folder for converted weights.")]
LibraryOption = Annotated[
    Path | None, typer.Option("--library", help="Library folder; default: your own.")
]
BucketOption = Annotated[
    list[str] | None,
    typer.Option(help="Named, weighted bucket: NAME=WEIGHT:FILE,FILE; may be repeated."),
]
AdapterArgument = Annotated[
    str, typer.Argument(help="PEFT folder or zip, or a name in the library.")
]
StrengthOption = Annotated[
    float | None, typer.Option(help="Strength to write the adapter at; default: its own.")
]

TokenOption = Annotated[
    str | None,
    typer.Option(help="Token with write access; default: HF_TOKEN or your `hf auth login`."),
]

_ENGINE: dict[str, Any] = {
    "base": BaseOption,
    "generator": Annotated[
        Path | None,
        typer.Option(
            help="Generator folder, or none to imprint alone; default: the one shipped for the "
            "base."
        ),
    ],
    "device": Annotated[
        str | None, typer.Option(help="cpu, cuda or mps; default: the best available.")
    ],
    "cache_dir": CacheOption,
}
"""Options that become an `EngineConfig`."""

_CLUSTER: dict[str, Any] = {
    "ray": Annotated[
        str | None,
        typer.Option(
            help="Run as jobs of this Ray cluster: HOST:PORT of its head, auto on one of its "
            "machines, or local for this machine alone."
        ),
    ],
    "job_cpus": Annotated[float | None, typer.Option(help="CPUs of a job; default: 1.")],
    "job_gpus": Annotated[float | None, typer.Option(help="GPUs of a job; default: 0.")],
    "job_retries": Annotated[
        int | None,
        typer.Option(
            help="How often a job starts again if its process or machine dies; default: 3."
        ),
    ],
}
"""Options that become a `Cluster`."""

_DEFAULTS = {"base": DEFAULT_BASE}
"""Defaults of these options; all others are None."""

_LAST = ("library", "run_folders", "as_json")
"""Options that the help lists last, after those of the engine."""


def engine_options(command: Callable[..., T]) -> Callable[..., T]:
    """Add the engine's options to a command and pass them as its first parameter, a config."""
    return _with_options(command, _ENGINE, lambda asked: EngineConfig(**asked))


def cluster_options(command: Callable[..., T]) -> Callable[..., T]:
    """Add the options of a Ray cluster; the first parameter becomes a `Cluster` or None."""

    def cluster(asked: dict[str, Any]) -> Cluster | None:
        address = asked.pop("ray")
        given = {name: value for name, value in asked.items() if value is not None}
        if address is not None:
            return Cluster(address=address, **{n.removeprefix("job_"): v for n, v in given.items()})
        if given:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise typer.BadParameter("is for jobs on a cluster: add --ray.", param_hint=names)
        return None

    return _with_options(command, _CLUSTER, cluster)


def _with_options(
    command: Callable[..., T],
    added: dict[str, Any],
    first_argument: Callable[[dict[str, Any]], object],
) -> Callable[..., T]:
    """Replace a command's first parameter by the options that construct it."""
    signature = inspect.signature(command)
    _, *own = signature.parameters.values()
    # Positional parameters without a default could not follow those with one.
    kind = inspect.Parameter.KEYWORD_ONLY
    options = [
        inspect.Parameter(name, kind, default=_DEFAULTS.get(name), annotation=annotation)
        for name, annotation in added.items()
    ]
    parameters = sorted(
        [*(parameter.replace(kind=kind) for parameter in own), *options],
        key=lambda parameter: parameter.name in _LAST,
    )

    @wraps(command)
    def wrapped(*given: Any, **named: Any) -> T:
        # Decorators stack: `given` holds the first parameters that outer ones have constructed.
        asked = {name: named.pop(name, _DEFAULTS.get(name)) for name in added}
        return command(first_argument(asked), *given, **named)

    # Typer builds the command line from both attributes.
    wrapped.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # functions take any
    wrapped.__annotations__ = {p.name: p.annotation for p in parameters}
    return wrapped


def plain_errors(command: Callable[P, T]) -> Callable[P, T]:
    """Turn a `DndError` into its message and exit code 1, and Ctrl-C into a word and code 130.

    Other exceptions are bugs and pass.
    """

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            # Shells leave the `~` of `--out=~/x.zip` to the program.
            kwargs.update({name: _at_home(value) for name, value in kwargs.items()})
            return command(*args, **kwargs)
        except DndError as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(1) from error
        except KeyboardInterrupt as stop:
            # On a line of its own: an answer or a download may be in the middle of one.
            typer.echo("\nStopped.", err=True)
            raise typer.Exit(INTERRUPTED) from stop

    return wrapped


def _at_home(value: Any) -> Any:
    """Expand the `~` of a path, or of each in a list."""
    if isinstance(value, list):
        return [_at_home(each) for each in value]
    return expanded(str(value)) if isinstance(value, Path) else value


def check_apart(written: Mapping[str, Path | None], read: Iterable[Path]) -> None:
    """Raise a `ConfigError` if a file is written twice, or over one that is read.

    `written` has the paths by the options that name them.
    """
    taken = {os.path.realpath(path) for path in read}
    for option, path in written.items():
        if path is None:
            continue
        place = os.path.realpath(path)
        if place in taken:
            raise ConfigError(
                f"--{option}: this command also reads or writes `{path}`. Name another file."
            )
        taken.add(place)


def known(option: str, text: str, allowed: Sequence[T]) -> tuple[T, ...]:
    """Split comma-separated names and return them in the order of `allowed`.

    Raises:
        typer.BadParameter: If one of them is not allowed.
    """
    found = [part.strip() for part in text.split(",")]
    if strays := [part for part in found if part not in allowed]:
        raise typer.BadParameter(
            f"expected some of {', '.join(map(str, allowed))}, got {', '.join(map(repr, strays))}.",
            param_hint=f"'--{option}'",
        )
    return tuple(each for each in allowed if each in found)


def one_of(option: str, text: str, allowed: Sequence[T]) -> T:
    """Return the allowed value that an option names, or raise `typer.BadParameter`."""
    for each in allowed:
        if each == text.strip():
            return each
    raise typer.BadParameter(
        f"expected one of {', '.join(map(str, allowed))}, got {text!r}.", param_hint=f"'--{option}'"
    )


def at_strength(strength: float | None, adapter: "Adapter") -> "Adapter":
    """Return an adapter at the strength of a `StrengthOption`."""
    return adapter if strength is None else adapter.with_strength(strength)


def wait_briefly() -> None:
    """Let threads wait awake for a moment, then asleep, unless the environment says otherwise.

    Call it before torch is imported. Threads that stay awake take the core from the one they wait
    for when other processes compute too. Threads that sleep at once wake too late for the next
    product: on two idle cores a token of a chat then takes 1.7 times as long.
    """
    if "OMP_WAIT_POLICY" in os.environ:
        return
    if sys.platform != "linux":
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        return
    # Rounds that libgomp waits awake: .05 to .2 ms. With the policy "passive" there would be none
    # as soon as several threads of the program compute in turn.
    os.environ.setdefault("GOMP_SPINCOUNT", "4000")
    os.environ["OMP_WAIT_POLICY"] = "ACTIVE"


def quiet_libraries() -> None:
    """Hide a warning that users cannot act on: PEFT uses a deprecated name."""
    warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)


def load_engine(config: EngineConfig) -> "Engine":
    """Load the models, with progress on stderr."""
    with importing("torch"):
        from transformers.utils import logging as transformers_logging

        from dnd_engine.engine import Engine

    transformers_logging.disable_progress_bar()
    quiet_libraries()
    shown: set[str] = set()

    def report(progress: "Progress") -> None:
        words = in_english(progress)
        # A download redraws its line; everything else is said once.
        if progress.fraction is not None and progress.stage == "download":
            typer.echo(f"\r{words} {progress.fraction:4.0%}", err=True, nl=False)
        elif words not in shown:
            shown.add(words)
            typer.echo(f"\r{words}", err=True)

    return Engine.load(config, on_progress=report)


@contextmanager
def progress_bar() -> "Iterator[Callable[[Progress], None]]":
    """Draw the steps of an operation in one line on stderr, as the yielded function gets them."""
    from tqdm import tqdm

    measured = "{desc} {percentage:3.0f}%|{bar}| {postfix[0]}"
    # A list, because tqdm puts a comma before a postfix that is a string.
    first: Any = [""]  # tqdm's documentation passes lists; its types do not know them
    with tqdm(total=1.0, bar_format=measured, postfix=first) as bar:

        def draw(stage: str, fraction: float | None, words: str) -> None:
            # Without a share, a bar would stay at 0 % or fall back to it.
            bar.bar_format = "{desc}: {postfix[0]}" if fraction is None else measured
            bar.set_description_str(stage.capitalize(), refresh=False)
            first[0] = words
            bar.n = fraction or 0.0
            bar.refresh()

        def show_progress(progress: "Progress") -> None:
            draw(progress.stage, progress.fraction, in_english(progress))

        yield show_progress
        draw("Done", 1.0, "")


def check_exists(path: Path) -> None:
    """Raise if nothing exists at a path, before any model loads."""
    # A broken link counts as existing: the reader says what is wrong with it.
    if not os.path.lexists(path):
        raise AdapterError(f"no adapter at `{path}`. Expected a PEFT folder or zip.")


def find_adapter(named: str, library: Path | None) -> "Callable[[Engine], Adapter]":
    """Find an adapter by its path or its name in the library, before any model loads.

    Returns:
        A function that reads and checks the adapter with a loaded engine.

    Raises:
        AdapterError: If there is neither such a path nor such a name.
    """
    kept = find_kept(named, library)
    if kept is None:
        return lambda engine: engine.read_adapter(expanded(named))
    shelf, key = kept
    return lambda engine: shelf.load(key, engine.read_adapter)


def find_kept(named: str, library: Path | None) -> tuple[Library, str] | None:
    """Return the library and an adapter's key in it; None if `named` is a path.

    Raises:
        AdapterError: If there is neither such a path nor such a name, or `named` is empty.
    """
    # An empty path would mean the current folder, which is never intended.
    if not named.strip():
        raise AdapterError(
            "the adapter is an empty text. Name a PEFT folder or zip, or one in the library."
        )
    # A path takes precedence over a name.
    if os.path.lexists(expanded(named)):
        return None
    shelf = Library(library)
    try:
        return shelf, shelf.get(named).key
    except LibraryError as error:
        raise AdapterError(
            f"no adapter at `{named}`. Expected a PEFT folder or zip, or a name from `dnd library "
            f"list`: {error}"
        ) from error


def show(values: dict[str, Any], as_json: bool, words: str) -> None:
    """Print the values as one JSON object, or print the text.

    Raises:
        ConfigError: If the output cannot be written, as on a full disk.
    """
    try:
        typer.echo(json.dumps(values, default=str) if as_json else words)
        if sys.stdout is not None:  # as it is where it was closed
            sys.stdout.flush()
    except BrokenPipeError:
        raise  # whoever reads has seen enough
    except OSError as error:
        # What is left in the buffer would be written, and fail, once more at the end.
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        raise ConfigError(
            f"the output cannot be written: {error.strerror or error}. Free some space, or write "
            "elsewhere."
        ) from error


def check_plot(path: Path | None) -> None:
    """Reject a chart file that does not end in .svg, before anything is measured."""
    if path is not None and path.suffix != ".svg":
        raise ConfigError(f"`plot` must end in .svg, got `{path}`.")


def write_text(path: Path, text: str) -> None:
    """Write a text file, or raise a `ConfigError` that says why not."""
    try:
        write_whole(path, text)
    except OSError as error:
        raise ConfigError(
            f"`{path}` cannot be written: {error.strerror or error}. Choose another place."
        ) from error


def typed_arguments() -> list[str]:
    """Return the command as typed, with paths cut to their last part.

    Reports are shared, so they must not show the folders of this machine. Ids of the Hub stay.
    """
    typed = sys.argv[1:]
    return [_without_folders(*pair) for pair in zip(["", *typed], typed, strict=False)]


_MAY_NAME_HUB_IDS = ("--base", "--teacher-base")


def _without_folders(before: str, argument: str) -> str:
    option, _, value = argument.partition("=")
    if not option.startswith("--"):
        option, value = before, argument
    is_id = option in _MAY_NAME_HUB_IDS and re.fullmatch(r"\w[\w.-]*/[\w.-]+", value)
    if is_id and not Path(value).exists():
        return argument
    # A folder's name may hold blanks. Commas separate paths.
    return re.sub(r"[^=,]*/(?=[^/,])", "", argument.rstrip("/"))


def counted_words(number: int, thing: str) -> str:
    """Return a number and what is counted, in the plural unless it is one."""
    return f"{number:,} {thing}" + ("" if number == 1 else "s")
