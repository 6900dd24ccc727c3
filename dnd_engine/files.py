"""Files that appear whole or not at all, and where the files shipped with the project are."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dnd_engine.errors import AssetError

__all__ = ["asset_path", "written_aside"]

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
def written_aside(path: Path) -> Iterator[Path]:
    """Give a place beside `path` to write to, and move what is there once the `with` block ends.

    What was at `path` is replaced. If the block raises, it stays and nothing else does.

    Yields:
        A path that does not exist yet, for a file or a folder.

    Raises:
        OSError: If the disk refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as parent:
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
