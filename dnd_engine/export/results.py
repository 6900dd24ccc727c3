"""What an export or a push left behind, in plain values; imports no torch."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Exported", "Pushed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """An adapter on the disk, in the format of another tool."""

    path: Path
    format: str
    """One of `export.registry.EXPORTS`."""
    num_bytes: int
    usage: str
    """Python, or a command line, to copy."""
    difference: float | None
    """Largest difference of logits from the resident adapter's, relative to the largest logit;
    None where no tool that reads the format is at hand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """An adapter on the model hub."""

    url: str
    private: bool
    usage: str
    """Python to copy."""
