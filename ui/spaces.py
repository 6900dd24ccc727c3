"""Where the app runs: for its own user or for others, and on ZeroGPU, which lends GPUs."""

import ipaddress
import os
from collections.abc import Callable
from typing import Any, TypeVar

_Function = TypeVar("_Function", bound=Callable[..., Any])


def on_space() -> bool:
    """Return whether this is a Space of the Hugging Face Hub."""
    return bool(os.environ.get("SPACE_ID"))


def public_address() -> str:
    """Return the public address behind a proxy; empty if none is configured."""
    address = os.environ.get("GRADIO_ROOT_PATH", "")
    return address if address.startswith(("http://", "https://")) else ""


def serves_others(host: str) -> bool:
    """Return whether others than this computer's user may visit an app that listens at `host`."""
    # A public address means a proxy, which lets others reach even a loopback address.
    if on_space() or os.environ.get("GRADIO_ROOT_PATH"):
        return True
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        # Any other name may lead anywhere.
        return host != "localhost"


def borrows_gpu() -> bool:
    """Return whether this is ZeroGPU, where marked functions run in another process."""
    return bool(os.environ.get("SPACES_ZERO_GPU"))


def gpu(function: _Function, seconds: int = 20) -> _Function:
    """Mark a function that needs the GPU; outside of ZeroGPU, return it unchanged.

    The function runs in a forked worker. Arguments and results are pickled, so it must take the
    engine from its closure.
    """
    if not borrows_gpu():
        return function
    import spaces  # type: ignore[import-not-found,unused-ignore]  # part of the Space's image

    marked: _Function = spaces.GPU(duration=seconds)(function)
    return marked
