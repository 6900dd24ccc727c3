"""Atomic writes, and the location of the files shipped with the project."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dnd_engine.errors import AssetError

__all__ = ["asset_path", "is_leftover", "remove_leftovers", "write_whole", "written_aside"]

_ASIDE = ".aside-"

# A wheel carries `assets/` inside the package; a checkout has it beside the package.
_PLACES = (Path(__file__).parent / "assets", Path(__file__).parents[1] / "assets")


def asset_path(*parts: str) -> Path:
    """Return the path of a shipped file or folder.

    Raises:
        AssetError: If it is missing, which means a broken installation.
    """
    for place in _PLACES:
        path = place.joinpath(*parts)
        if path.exists():
            return path
    raise AssetError(
        f"the shipped file `assets/{'/'.join(parts)}` is missing. Install the project again."
    )


@contextmanager
def written_aside(path: Path, *, inside: Path | None = None) -> Iterator[Path]:
    """Write a file or folder atomically.

    Write to the yielded path. When the `with` block ends, the result replaces `path`. If the block
    raises, `path` is unchanged. Several writers of one path do not interfere: the last one to
    finish wins. A killed process leaves a temporary folder behind (see `remove_leftovers`).

    Args:
        path: The file or folder to write.
        inside: Where to put the temporary folder, on the same disk. Defaults to the parent of
            `path`.

    Yields:
        A path that does not exist yet.

    Raises:
        OSError: If the disk refuses a write.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=inside or path.parent, prefix=_ASIDE) as parent:
        aside, old = Path(parent) / path.name, Path(parent) / f"{path.name}.old"
        yield aside
        # A folder that is not empty cannot be replaced in one move. If the second move fails or is
        # interrupted, undo the first, or the old folder would be deleted with the temporary one.
        try:
            if path.is_dir():
                os.replace(path, old)
            os.replace(aside, path)
        except BaseException:
            if old.exists() and not path.exists():
                os.replace(old, path)
            raise


def write_whole(path: Path, data: str | bytes) -> None:
    """Write a file atomically. Text is encoded as UTF-8.

    Raises:
        OSError: If the disk refuses a write. The old file is unchanged.
    """
    with written_aside(path) as aside:
        aside.write_bytes(data.encode() if isinstance(data, str) else data)


def is_leftover(path: Path) -> bool:
    """Whether a path is a temporary folder of `written_aside`, current or left by a killed run."""
    return path.name.startswith(_ASIDE)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left. Call it only if no other process is writing there."""
    for path in folder.glob(f"{_ASIDE}*"):
        shutil.rmtree(path)
