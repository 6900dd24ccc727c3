"""The registry of export targets, the formats of other tools, and what an export returns.

Imports no torch until something is written, so that a page or a command can list the targets.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dnd_engine.errors import ConfigError, ExportError
from dnd_engine.export import mlx, ollama
from dnd_engine.export.quantise import missing, quantise
from dnd_engine.lora.provenance import FILES
from dnd_engine.lora.usage import (
    GGUF_BASE,
    gguf_model_usage,
    gguf_usage,
    merged_usage,
    mlx_usage,
    ollama_usage,
    peft_usage,
)
from dnd_engine.notes import Note
from dnd_engine.wording import N_

if TYPE_CHECKING:
    from dnd_engine.export.gguf_model import Precision
    from dnd_engine.export.verify import Verifier
    from dnd_engine.lora.adapter import Adapter
    from dnd_engine.models.base import BaseModel


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportTarget:
    """One export format."""

    title: str
    """Display name. `N_` marks titles and notes, which the page translates."""
    suffixes: tuple[str, ...]
    """Allowed path suffixes; the empty string means a folder."""
    write: "Callable[[Adapter, BaseModel, Path], None]"
    """Writes the adapter, at its strength, to a path that does not exist yet."""
    usage: "Callable[[Adapter, str], str]"
    """Returns code or a command line that uses the export at a path."""
    verify: "Callable[[Verifier, Adapter, Path], float] | None" = None
    """Lets the other tool read the export, and returns the largest difference of logits; raises
    `VerificationError`. None if no such tool is available."""
    quantise: "Callable[[Path], None] | None" = None
    """Replaces a verified GGUF file by one of fewer bits, whose logits may differ by any amount."""
    missing: "Callable[[], Note | None]" = lambda: None
    """Returns what has to be installed first; None if nothing."""
    own_files: frozenset[str] = frozenset()
    """File names of an export; a folder with no other files may be overwritten."""
    file_name: str = ""
    """Name of the download, if other than the adapter's; commands of other formats may name it."""
    whole_model: bool = False
    """Whether the export is as large as the base. The page then offers it only on the user's own
    computer."""
    note: str = ""
    """Caveat to show with the usage."""

    def check_installed(self) -> None:
        """Check that all is installed that this format needs.

        Raises:
            ExportError: If something is missing.
        """
        if (words := self.missing()) is not None:
            raise ExportError(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """An adapter written to disk in another tool's format."""

    path: Path
    format: str
    """A key of `EXPORTS`."""
    num_bytes: int
    usage: str
    """Python code or a command line to copy."""
    difference: float | None
    """Largest difference of logits from the resident adapter's, relative to the largest logit; None
    if no tool that reads the format is available."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """An adapter on the model hub."""

    url: str
    private: bool
    usage: str
    """Python code to copy."""


def export_target(name: str) -> ExportTarget:
    """Look up a target.

    Raises:
        ConfigError: If there is no such target.
    """
    if name not in EXPORTS:
        raise ConfigError(f"`format` must be one of {', '.join(EXPORTS)}, got {name!r}.")
    return EXPORTS[name]


def _write_peft(adapter: "Adapter", base: "BaseModel", path: Path) -> None:  # noqa: ARG001  # all take it
    from dnd_engine.lora.adapter import put_files

    put_files(adapter.files(), path)


def _write_merged(adapter: "Adapter", base: "BaseModel", path: Path) -> None:
    from dnd_engine.export.merged import write_merged

    write_merged(adapter, base.weights.path, path)


def _write_gguf(adapter: "Adapter", base: "BaseModel", path: Path) -> None:
    from dnd_engine.export.gguf import write_gguf

    write_gguf(adapter, base.config, path)


def _write_mlx(adapter: "Adapter", base: "BaseModel", path: Path) -> None:
    from dnd_engine.lora.adapter import put_files

    put_files(mlx.mlx_files(adapter, base.num_layers), path)


def _gguf_model(precision: "Precision") -> "Callable[[Adapter, BaseModel, Path], None]":
    def write(adapter: "Adapter", base: "BaseModel", path: Path) -> None:
        from dnd_engine.export.gguf_model import write_model
        from dnd_engine.export.merged import merge

        model = merge(adapter, base.weights.path)
        write_model(model, base.tokenizer, adapter.name, path, precision)

    return write


def _write_base(adapter: "Adapter", base: "BaseModel", path: Path) -> None:
    from dnd_engine.export.gguf_model import write_model
    from dnd_engine.export.merged import load

    # From disk, because the resident base may be on a GPU and in another dtype.
    write_model(load(base.weights.path), base.tokenizer, adapter.base_id, path, "f16")


def _write_ollama(adapter: "Adapter", base: "BaseModel", path: Path) -> None:
    path.mkdir()
    _gguf_model("q8_0")(adapter, base, path / ollama.MODEL)
    (path / ollama.MODELFILE).write_text(ollama.modelfile(base.tokenizer), encoding="utf-8")


_MERGED_GGUF = ExportTarget(
    title=N_("Merged model as GGUF, 16 bits"),
    suffixes=(".gguf",),
    write=_gguf_model("f16"),
    verify=lambda verifier, adapter, path: verifier.gguf_model(adapter, path),
    usage=lambda adapter, place: gguf_model_usage(place),
    whole_model=True,
    note=N_(
        "For Ollama, export “Merged model for Ollama” (`ollama`): it brings the chat template."
    ),
)

EXPORTS: dict[str, ExportTarget] = {
    "peft": ExportTarget(
        title=N_("PEFT adapter"),
        suffixes=(".zip", ""),
        write=_write_peft,
        verify=lambda verifier, adapter, path: verifier.peft(adapter, path),
        usage=lambda adapter, place: peft_usage(adapter.base_id, place),
        own_files=frozenset(FILES),
    ),
    "gguf": ExportTarget(
        title=N_("GGUF for llama.cpp"),
        suffixes=(".gguf",),
        write=_write_gguf,
        usage=lambda adapter, place: gguf_usage(place),
        note=N_(
            "base.gguf is the base model as a GGUF file: download one, or export “Base model as "
            "GGUF” (`base-gguf`) on your own computer."
        ),
    ),
    "mlx": ExportTarget(
        title=N_("Adapter for MLX"),
        suffixes=("", ".zip"),
        write=_write_mlx,
        usage=lambda adapter, place: mlx_usage(adapter.base_id, place),
        own_files=frozenset({mlx.CONFIG, mlx.WEIGHTS}),
        note=N_("For mlx-lm on a Mac. Unpack a zip first."),
    ),
    "merged": ExportTarget(
        title=N_("Merged model"),
        suffixes=("",),
        write=_write_merged,
        verify=lambda verifier, adapter, path: verifier.transformers(adapter, path),
        usage=lambda adapter, place: merged_usage(place),
        whole_model=True,
    ),
    "base-gguf": replace(
        _MERGED_GGUF,
        title=N_("Base model as GGUF"),
        write=_write_base,
        # At strength 0, an adapter leaves the base as it is.
        verify=lambda verifier, adapter, path: verifier.gguf_model(
            adapter.with_strength(0.0), path
        ),
        note=N_("Load adapters onto it with --lora."),
        file_name=GGUF_BASE,
    ),
    "merged-gguf": _MERGED_GGUF,
    "merged-gguf-q8": replace(
        _MERGED_GGUF, title=N_("Merged model as GGUF, 8 bits"), write=_gguf_model("q8_0")
    ),
    "merged-gguf-q4_k_m": replace(
        _MERGED_GGUF,
        title=N_("Merged model as GGUF, 4 bits (Q4_K_M)"),
        note=N_(
            "Four bits change answers more than eight. Matrices that do not fit llama.cpp's "
            "blocks of 256 keep 5 or 8 bits, so small models shrink less."
        ),
        quantise=quantise,
        missing=missing,
    ),
    "ollama": ExportTarget(
        title=N_("Merged model for Ollama"),
        suffixes=("",),
        write=_write_ollama,
        verify=lambda verifier, adapter, path: verifier.gguf_model(adapter, path / ollama.MODEL),
        usage=lambda adapter, place: ollama_usage(adapter.name, place),
        own_files=frozenset({ollama.MODELFILE, ollama.MODEL}),
        whole_model=True,
    ),
}
"""Targets by the name that `dnd export --format` takes."""
