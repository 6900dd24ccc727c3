"""Swaps two files or folders in one atomic step."""

import ctypes
import errno
import os
import sys
from pathlib import Path

# Linux, `fcntl.h`: paths are relative to the working folder, as everywhere else.
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # Linux, renameat2
_RENAME_SWAP = 2  # macOS, renamex_np
# Errors of kernels and file systems that cannot exchange.
_UNSUPPORTED = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EXDEV})


def exchange(one: Path, other: Path) -> bool:
    """Swap two existing files or folders of one disk.

    Returns:
        Whether they were swapped; False if the system or file system does not support it.

    Raises:
        OSError: One of them does not exist, or the disk refused.
    """
    # `os` has no such call, and `os.replace` cannot replace a folder that holds something.
    first, second = os.fsencode(one), os.fsencode(other)
    try:
        # Without `use_errno`, ctypes may overwrite the error before `get_errno` reads it.
        libc = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            failed = libc.renamex_np(first, second, _RENAME_SWAP)
        else:
            failed = libc.renameat2(_AT_FDCWD, first, _AT_FDCWD, second, _RENAME_EXCHANGE)
    except (AttributeError, OSError, TypeError):
        return False  # The call is missing: Windows, or an old C library.
    if not failed:
        return True
    code = ctypes.get_errno()
    if code in _UNSUPPORTED:
        return False
    # The fourth argument is an error number of Windows.
    raise OSError(code, os.strerror(code), str(one), None, str(other))
