"""Where an export may go, and that it gets there whole."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from dnd_engine.errors import DndError, ExportError
from dnd_engine.files import written_aside

__all__ = ["exported_aside"]


@contextmanager
def exported_aside(path: Path, suffix: str) -> Iterator[Path]:
    """Check a place, and give another to write to until all is written.

    Args:
        path: Where the export goes. A file there is replaced; a folder only if it is empty.
        suffix: The file's; empty for a folder.

    Yields:
        A path that does not exist yet.

    Raises:
        ExportError: If `path` is not what the format needs, is taken, or cannot be written to.
    """
    if suffix and path.suffix != suffix:
        raise ExportError(f"`{path}` must end in {suffix}. Choose another name.")
    if not suffix and path.suffix in (".zip", ".gguf"):
        raise ExportError(
            f"`{path}` is a file's name, and a merged model is a folder. Drop the end."
        )
    if path.exists() and path.is_dir() == bool(suffix):
        kind = "a folder" if path.is_dir() else "a file"
        raise ExportError(f"`{path}` is {kind}. Choose another name, or remove it.")
    if path.is_dir() and any(path.iterdir()):
        raise ExportError(f"`{path}` holds files. Choose a new or an empty folder.")
    try:
        with written_aside(path) as aside:
            yield aside
    except DndError:
        raise
    # Safetensors writes in Rust, and tells of a full disk in its own way.
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ExportError(
            f"`{path}` cannot be written: {reason}. Nothing was kept; choose another place."
        ) from error
