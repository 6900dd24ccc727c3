"""The `dnd publish` command: publishes an adapter to a serving engine."""

import hashlib
import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dnd_engine.cli.common import (
    AdapterArgument,
    Json,
    LibraryOption,
    StrengthOption,
    at_strength,
    engine_options,
    find_adapter,
    load_engine,
    plain_errors,
    show,
)
from dnd_engine.config import EngineConfig, Sampling
from dnd_engine.errors import ConfigError
from dnd_engine.files import user_folder
from dnd_engine.prompts.words import one_line

if TYPE_CHECKING:
    from dnd_engine.engine import Engine
    from dnd_engine.lora.adapter import Adapter
    from dnd_engine.serving.engines import Published

GGUF = ".gguf"
_SAME_WORDS = 3
"""Words with which an answer here and on a server must begin alike."""


@plain_errors
@engine_options
def publish(
    config: EngineConfig,
    adapter: AdapterArgument,
    to: Annotated[
        Path | None,
        typer.Option(
            help="DIR/NAME: a folder in DIR, which vLLM's resolver reads; NAME.gguf for "
            "llama-server. With --engine, default: your data folder."
        ),
    ] = None,
    engine: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="ENGINE URL",
            help="vllm, sglang or llama-server, and where it runs: load the adapter there.",
        ),
    ] = None,
    served: Annotated[
        str | None,
        typer.Option(help="What the server calls the base; default: the adapter's base."),
    ] = None,
    key: Annotated[
        str,
        typer.Option(
            envvar="DND_SERVER_KEY", show_envvar=True, help="Key of the server; stored nowhere."
        ),
    ] = "",
    ask: Annotated[
        str | None,
        typer.Option(help="Question whose answer must change when the adapter is active."),
    ] = None,
    strength: StrengthOption = None,
    library: LibraryOption = None,
    as_json: Json = False,
) -> None:
    """Publish an adapter to vLLM, SGLang, Ray Serve or llama-server.

    The folder appears whole or not at all. With --engine, the server loads the adapter and
    must list it. One question then proves that it changes the base's answer.
    """
    from dnd_engine.serving.contract import check_files
    from dnd_engine.serving.engines import QUESTION, Offer, engine_target
    from dnd_engine.serving.server import Server

    if to is None and engine is None:
        raise ConfigError("say where to: --to DIR/NAME, --engine ENGINE URL, or both.")
    target = None if engine is None else engine_target(engine[0])
    server = None if engine is None else Server(engine[1], key=key)
    kind = None if to is None else _kind(to)
    if to is not None and target is not None and kind != target.suffix:
        wanted = "a folder" if not target.suffix else f"a {target.suffix} file"
        raise ConfigError(f"{target.title} reads {wanted}, and `{to}` is none. Change --to.")
    if to is not None and kind is None:
        raise ConfigError(
            f"servers read folders and .gguf files, and `{to}` is neither. Change --to to DIR/NAME "
            "or NAME.gguf."
        )
    if server is not None:
        # Before anything is loaded or written for a server that is not there.
        server.models()
    find = find_adapter(adapter, library)
    loaded = load_engine(config)
    own = at_strength(strength, find(loaded))
    # Engines match an adapter to its base by name alone.
    read = own if served is None else replace(own, base_id=served)
    # Not in a temporary folder: a server reads it whenever it starts.
    place = (
        to or user_folder("published") / f"{_file_name(read.name)}{target.suffix if target else ''}"
    )
    checked = check_files(read.files())
    # Before the export: a running server may read the folder as soon as it is there.
    checked.demand(read.name)
    is_gguf = place.suffix == GGUF
    # A folder's name may contain dots, such as in a version, which `stem` would cut.
    name = place.stem if is_gguf else place.name
    before = _digest(place)
    exported = loaded.export(read, "gguf" if is_gguf else "peft", place)
    published = None
    warnings = list(checked.warnings)
    if target is not None and server is not None:
        offer = Offer(
            place=exported.path,
            name=name,
            base_id=read.base_id,
            question=ask or QUESTION,
            is_new=_digest(exported.path) != before,
        )
        published = target.publish(server, offer)
        if is_gguf:
            warnings += _other_answer(loaded, own, published, offer.question)
    show(
        {
            "path": str(exported.path),
            "name": name,
            "base": read.base_id,
            "sha256": read.sha256,
            "warnings": warnings,
            "published": published and asdict(published),
        },
        as_json,
        "\n".join(_words(exported.path, read, warnings, published)),
    )


def _kind(path: Path) -> str | None:
    """Return the suffix of what servers read, empty for a folder; None for what they do not read.

    A version may end a folder's name, such as `.5`, but no file type: a PEFT export would write a
    zip.
    """
    if path.suffix == GGUF:
        return GGUF
    return None if path.suffix[1:].isalpha() else ""


def _digest(path: Path) -> bytes | None:
    """Return the hash of a file; None for a folder, which servers load again, and for nothing."""
    return hashlib.sha256(path.read_bytes()).digest() if path.is_file() else None


def _other_answer(
    engine: "Engine", adapter: "Adapter", published: "Published", question: str
) -> list[str]:
    """Warn if the adapter begins its answer otherwise here than on the server.

    No error: a server's base may be quantised, and rounding may change an answer.
    """
    from dnd_engine.serving.server import ANSWER_TOKENS

    sampling = Sampling(max_new_tokens=ANSWER_TOKENS)
    asked = [[{"role": "user", "content": question}]]
    answer = ""
    for (reply,) in engine.compare(asked, [adapter], sampling=sampling):
        answer = reply.text
    if answer.split()[:_SAME_WORDS] == published.adapted_answer.split()[:_SAME_WORDS]:
        return []
    return [
        f"here the adapter answers {answer!r}. If the server was not restarted since the file "
        "was last written, it still holds an earlier adapter"
    ]


def _file_name(name: str) -> str:
    """Reduce an adapter's name to characters that are safe in every file system and URL."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "adapter"


def _words(
    path: Path, adapter: "Adapter", warnings: Sequence[str], published: "Published | None"
) -> list[str]:
    lines = [f"{path}: for `{adapter.base_id}`, rank {adapter.r}"]
    lines += [f"Warning: {warning}." for warning in warnings]
    if published is None:
        if path.suffix == ".gguf":
            return [*lines, f"Start `llama-server -m base.gguf --lora {shlex.quote(str(path))}`."]
        return [
            *lines,
            "vLLM finds it by itself when started with --enable-lora and "
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True VLLM_PLUGINS=lora_filesystem_resolver "
            f"VLLM_LORA_RESOLVER_CACHE_DIR={shlex.quote(str(path.resolve().parent))}. "
            f'Then ask for "model": {json.dumps(path.name)}.',
        ]
    return [
        *lines,
        f"{published.url} answers with it: put {json.dumps(dict(published.request))} into a "
        "request.",
        # A server's words may hold line breaks, and escape sequences of a terminal.
        *(
            f"{who} {one_line(' '.join(said.split()))}"
            for who, said in (
                ("Base:   ", published.base_answer),
                ("Adapter:", published.adapted_answer),
            )
        ),
    ]
