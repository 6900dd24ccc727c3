"""Results of an export or a push, in plain values; imports no torch."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """An adapter written to disk in another tool's format."""

    path: Path
    format: str
    """A key of `export.registry.EXPORTS`."""
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
