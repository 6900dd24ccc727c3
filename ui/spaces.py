"""Where the app runs: for its own user or for others, and on ZeroGPU, which lends a GPU."""

import ipaddress
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

__all__ = ["borrows_gpu", "gpu", "is_forwarded", "on_space", "serves_others"]

_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
"""Headers that proxies add."""

_Function = TypeVar("_Function", bound=Callable[..., Any])


def on_space() -> bool:
    """Whether this is a Space of the Hugging Face Hub."""
    return bool(os.environ.get("SPACE_ID"))


def is_forwarded(headers: Mapping[str, str]) -> bool:
    """Whether a request came through a proxy, so that its visitor may be anybody.

    A page that only this computer can open may stand behind a server that all can. Proxies that
    leave no trace in the headers are not noticed: they need GRADIO_ROOT_PATH.

    Args:
        headers: Of the request, by names in small letters.
    """
    if any(name in headers for name in _FORWARDED):
        return True
    host = headers.get("host", "localhost")
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    return serves_others(name.strip("[]"))


def serves_others(host: str) -> bool:
    """Whether visitors may be others than this computer's user.

    Args:
        host: Address that is listened on.
    """
    if on_space() or os.environ.get("GRADIO_ROOT_PATH"):
        return True
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


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
