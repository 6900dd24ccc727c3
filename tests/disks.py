"""Disks that fail: full at any flush, refusing large files, or cut off from power."""

import errno
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
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

    The disk is the worst there is: it keeps every name at once, and no byte that was not flushed.
    Files whose last bytes were not are empty.

    Yields:
        Copies of the folder, one for each cut, the last from the end of the block.
    """
    found: list[Path] = []
    kept = {path.stat().st_ino: path.read_bytes() for path in _files(folder)}
    flush, move = os.fsync, os.replace

    def fsync(number: int) -> None:
        flush(number)
        inode = os.fstat(number).st_ino
        for path in _files(folder):
            if path.stat().st_ino == inode:
                kept[inode] = path.read_bytes()

    def replace(source: Any, target: Any) -> None:
        move(source, target)
        cut()

    def swap(one: Path, other: Path) -> bool:
        done = exchange(one, other)
        cut()
        return done

    def cut() -> None:
        copy = copies / str(len(found))
        shutil.copytree(folder, copy)
        for path in _files(folder):
            if kept.get(path.stat().st_ino) != path.read_bytes():
                (copy / path.relative_to(folder)).write_bytes(b"")
        found.append(copy)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        patch.setattr(os, "replace", replace)
        patch.setattr(files, "exchange", swap)
        yield found
        cut()


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
