"""Checks the destination of an export and writes to it atomically."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from dnd_engine.errors import DndError, ExportError
from dnd_engine.export.registry import EXPORTS, ExportTarget
from dnd_engine.files import obstacle, written_aside


def check_place(path: Path, target: ExportTarget) -> None:
    """Check a destination, before anything is computed for it.

    Args:
        path: Destination. An existing file is replaced; a folder only if it is empty or contains
            only an earlier export's files.
        target: The export's target.

    Raises:
        ExportError: If `path` is not what the target needs, is taken, or cannot be written to.
    """
    # A folder's name may contain a dot, so an ending that no format has counts as none.
    ending = path.suffix.lower()
    suffix = ending if ending in target.suffixes else ""
    if suffix not in target.suffixes:
        raise ExportError(f"`{path}` must end in {target.suffixes[0]}. Choose another name.")
    if not suffix and ending in {s for t in EXPORTS.values() for s in t.suffixes if s}:
        raise ExportError(f"`{path}` is a file's name, and this format is a folder. Drop the end.")
    # First, because looking at a path may fail for the same reason.
    if (reason := obstacle(path)) is not None:
        raise ExportError(f"`{path}` cannot be written: {reason}. Choose another place.")
    if path.exists() and path.is_dir() == bool(suffix):
        kind = "a folder" if path.is_dir() else "a file"
        raise ExportError(f"`{path}` is {kind}. Choose another name, or remove it.")
    # Writing replaces a folder with everything in it.
    if path.is_dir() and {file.name for file in path.iterdir()} - target.own_files:
        raise ExportError(f"`{path}` holds other files. Choose a new or an empty folder.")


@contextmanager
def exported_aside(path: Path, target: ExportTarget) -> Iterator[Path]:
    """Check a destination, and yield a new path that replaces it when complete.

    Raises:
        ExportError: As `check_place` does, or if the disk refuses a write.
    """
    check_place(path, target)
    try:
        with written_aside(path) as aside:
            yield aside
    except DndError:
        # Some of these are `OSError`s too, and already say what to do.
        raise
    # safetensors writes in Rust and reports a full disk with its own exception.
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ExportError(
            f"`{path}` cannot be written: {reason}. Nothing was kept; choose another place."
        ) from error
