"""Files and folders that appear whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["written_aside"]


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
