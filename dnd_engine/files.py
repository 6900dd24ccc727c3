"""Files that appear whole or not at all, and where the files shipped with the project are."""

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
    """Path of a shipped file or folder.

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
    """Give a place beside `path` to write to, and move what is there once the `with` block ends.

    What was at `path` is replaced. If the block raises, it stays and nothing else does. Two writers
    of one path do not disturb each other: the last to end wins. A process that is killed leaves its
    place behind (see `remove_leftovers`).

    Args:
        path: What is written, a file or a folder.
        inside: A folder of the same disk to write in meanwhile; the one `path` is in, if None.

    Yields:
        A path that does not exist yet, for a file or a folder.

    Raises:
        OSError: If the disk refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=inside or path.parent, prefix=_ASIDE) as parent:
        aside, old = Path(parent) / path.name, Path(parent) / f"{path.name}.old"
        yield aside
        # A folder cannot replace a filled one in one move: a failing second move undoes the first.
        # So does an interrupt, or the old folder would go with the place beside.
        try:
            if path.is_dir():
                os.replace(path, old)
            os.replace(aside, path)
        except BaseException:
            if old.exists() and not path.exists():
                os.replace(old, path)
            raise


def write_whole(path: Path, data: str | bytes) -> None:
    """Write a file that appears whole or not at all; text becomes UTF-8.

    Raises:
        OSError: If the disk refuses; what was there before stays.
    """
    with written_aside(path) as aside:
        aside.write_bytes(data.encode() if isinstance(data, str) else data)


def is_leftover(path: Path) -> bool:
    """Whether a path is what `written_aside` writes to, now or until its process was killed."""
    return path.name.startswith(_ASIDE)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes were writing; only where no other process writes now."""
    for path in folder.glob(f"{_ASIDE}*"):
        shutil.rmtree(path)
