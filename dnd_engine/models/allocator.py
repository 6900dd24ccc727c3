"""Settings of glibc's memory allocator. Other C libraries have none of them, and keep theirs."""

import ctypes
import os
from contextlib import suppress

_M_ARENA_MAX = -8
"""From glibc's `malloc.h`."""


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
