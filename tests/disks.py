"""Disks that fail: full at any flush, refusing large files, or cut off from power."""

import errno
import os
import resource
import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from dnd_engine import files
from dnd_engine.exchange import exchange


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


@contextmanager
def power_cuts(folder: Path, copies: Path) -> Iterator[list[Path]]:
    """Note what a power cut would leave of a folder, after each move that the block makes.

    The disk is one of the two worst there are. Neither keeps a byte that was not flushed: files
    whose last bytes were not are empty. One keeps every name at once, the other those that a folder
    had when it was last flushed.

    Yields:
        Copies of the folder, two for each cut, the last from the end of the block.
    """
    found: list[Path] = []
    flush, move = os.fsync, os.replace
    disk = _Disk()

    def fsync(number: int) -> None:
        flush(number)
        inode = os.fstat(number).st_ino
        for path in [folder, *folder.rglob("*")]:
            if path.exists() and path.stat().st_ino == inode and not path.is_symlink():
                disk.flush(path)

    def replace(source: Any, target: Any) -> None:
        move(source, target)
        cut()

    def swap(one: Path, other: Path) -> bool:
        done = exchange(one, other)
        cut()
        return done

    def cut() -> None:
        copy = copies / f"{len(found)}"
        shutil.copytree(folder, copy)
        for path in _files(folder):
            if disk.files.get(path.stat().st_ino) != path.read_bytes():
                (copy / path.relative_to(folder)).write_bytes(b"")
        flushed = copies / f"{len(found) + 1}"
        disk.copy(folder.stat().st_ino, flushed)
        found.extend((copy, flushed))

    with ExitStack() as opened, pytest.MonkeyPatch.context() as patch:
        opened.callback(disk.close)
        if folder.exists():
            for path in [folder, *folder.rglob("*")]:
                disk.flush(path)
        patch.setattr(os, "fsync", fsync)
        patch.setattr(os, "replace", replace)
        patch.setattr(files, "exchange", swap)
        yield found
        cut()


class _Disk:
    """What was flushed, by the numbers that the system gives files and folders."""

    def __init__(self) -> None:
        self.files: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}
        self._links: dict[int, str] = {}
        self._opened: dict[int, int] = {}

    def flush(self, path: Path) -> None:
        """Keep the bytes of a file, or the names in a folder."""
        number = self._number(path)
        if path.is_symlink():
            return
        if path.is_dir():
            self._names[number] = {child.name: self._number(child) for child in path.iterdir()}
        else:
            self.files[number] = path.read_bytes()

    def copy(self, number: int, place: Path) -> None:
        """Write what is kept of a folder, which is nothing if it was never flushed."""
        place.mkdir(parents=True)
        for name, child in self._names.get(number, {}).items():
            if child in self._links:
                (place / name).symlink_to(self._links[child])
            elif stat.S_ISDIR(os.fstat(self._opened[child]).st_mode):
                self.copy(child, place / name)
            else:
                (place / name).write_bytes(self.files.get(child, b""))

    def _number(self, path: Path) -> int:
        number = path.lstat().st_ino
        if number not in self._opened:
            # Open until the end, or a later file would get the number of a deleted one.
            self._opened[number] = os.open(path, os.O_PATH | os.O_NOFOLLOW)
            if path.is_symlink():
                self._links[number] = str(path.readlink())
        return number

    def close(self) -> None:
        for number in self._opened.values():
            os.close(number)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
