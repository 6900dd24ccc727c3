"""Hugging Face ZeroGPU: borrow a GPU for one call where there is one to borrow."""

import os
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["borrows_gpu", "gpu"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def borrows_gpu() -> bool:
    """Whether this is ZeroGPU, where marked functions run in another process."""
    return bool(os.environ.get("SPACES_ZERO_GPU"))


def gpu(function: _Function, seconds: int = 20) -> _Function:
    """Mark a function that needs the GPU; anywhere but on ZeroGPU it comes back unchanged.

    The marked function runs in a forked worker: what goes in and comes out is pickled, so it takes
    the engine from its closure and never as an argument.
    """
    if not borrows_gpu():
        return function
    import spaces  # type: ignore[import-not-found,unused-ignore]  # part of the Space's image

    marked: _Function = spaces.GPU(duration=seconds)(function)
    return marked
