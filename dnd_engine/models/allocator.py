"""Settings of Python's garbage collector and of glibc's allocator; other C libraries lack them."""

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_M_ARENA_MAX = -8
"""From glibc's `malloc.h`."""


@contextmanager
def importing(library: str) -> Iterator[None]:
    """Import a library for the first time without garbage collections, a fifth of the time.

    No collection looks at what exists afterwards: modules stay for as long as the process, and a
    look at all of torch and transformers stops every thread for .4 s.
    """
    if library in sys.modules:
        yield  # an engine that is replaced must not be kept
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def share_arenas() -> None:
    """Let all threads share two memory arenas.

    Otherwise each thread that computes keeps what it once used in an arena of its own: 170 MB after
    six chats at a time, and slowly more. Arenas that exist already stay.
    """
    if "MALLOC_ARENA_MAX" not in os.environ:
        with suppress(AttributeError, OSError, TypeError):  # no glibc
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


def give_back() -> None:
    """Return freed memory to the system. It takes a few milliseconds.

    Otherwise what was freed below something that is still in use stays with the process.
    """
    with suppress(AttributeError, OSError, TypeError):  # no glibc
        ctypes.CDLL(None).malloc_trim(0)
