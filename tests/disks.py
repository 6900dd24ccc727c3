"""Disks that fail: full at any write, refusing large files, or cut off from power."""

import errno
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dnd_engine import files
from dnd_engine.exchange import exchange

__all__ = ["PowerCut", "files_up_to", "full_at"]


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Let the system refuse larger files, as a full disk would; a log of the tests included."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def full_at(number: int) -> Iterator[list[Path]]:
    """Have the disk be full from the n-th flush on, where a system tells what it could not keep.

    Yields:
        What was flushed before.
    """
    done: list[Path] = []
    flush = files.sync

    def full(path: Path) -> None:
        if len(done) >= number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done.append(path)
        flush(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "sync", full)
        yield done


class PowerCut:
    """A disk that keeps every name at once, and no byte that was not flushed: the worst of both.

    At each move, and at the end, `check` is given a copy of the folder as a power cut at this
    moment would leave it: files whose last bytes were not flushed are empty.

    Args:
        folder: What to look at.
        check: Raises if what is there is neither the old state nor the new.
    """

    def __init__(self, folder: Path, check: Callable[[Path], None]) -> None:
        self.folder, self.check = folder, check
        self.cuts = 0
        self._kept: dict[int, bytes] = {}

    @contextmanager
    def watching(self, copies: Path) -> Iterator["PowerCut"]:
        """Watch what the block writes; what was there before it had been flushed."""
        self._copies = copies
        for path in self._files():
            self._kept[path.stat().st_ino] = path.read_bytes()
        flush, move = os.fsync, os.replace

        def fsync(number: int) -> None:
            flush(number)
            place = Path(f"/proc/self/fd/{number}")
            if place.is_file():
                self._kept[os.fstat(number).st_ino] = place.read_bytes()

        def replace(source: Any, target: Any) -> None:
            move(source, target)
            self._cut()

        def swap(one: Path, other: Path) -> bool:
            done = exchange(one, other)
            self._cut()
            return done

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            patch.setattr(os, "replace", replace)
            patch.setattr(files, "exchange", swap)
            yield self
        self._cut()

    def _files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]

    def _cut(self) -> None:
        self.cuts += 1
        copy = self._copies / str(self.cuts)
        shutil.copytree(self.folder, copy)
        for path in self._files():
            now = path.read_bytes()
            if self._kept.get(path.stat().st_ino) != now:
                (copy / path.relative_to(self.folder)).write_bytes(b"")
        self.check(copy)
        shutil.rmtree(copy)
