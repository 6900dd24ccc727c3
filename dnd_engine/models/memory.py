"""Checks that weights fit into memory before anything is loaded."""

from pathlib import Path

import psutil
import torch
from safetensors import SafetensorError, safe_open

from dnd_engine.errors import AssetError

__all__ = ["check_memory", "free_bytes", "weight_bytes"]

_GROUP = Path("/sys/fs/cgroup")
"""Linux's limits of a container; psutil only knows the whole machine."""

_ROOM = 1.1
"""Factor for memory beside the weights: states, caches, the text encoder."""


def free_bytes(device: torch.device | None = None) -> int:
    """Return the free memory of a device; None is the CPU."""
    if device is not None and device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
        return free
    # MPS has no memory of its own and shares the CPU's.
    available = int(psutil.virtual_memory().available)
    try:
        most = int((_GROUP / "memory.max").read_text())
        return min(available, most - int((_GROUP / "memory.current").read_text()))
    except (OSError, ValueError):  # no container, or no limit
        return available


def check_memory(needed: int, what: str, device: torch.device | None = None) -> None:
    """Raise if something does not fit into memory.

    Args:
        needed: Bytes of weights.
        what: Name for the message.
        device: Device; None is the CPU.

    Raises:
        AssetError: With the needed and the free memory.
    """
    needed, free = int(_ROOM * needed), free_bytes(device)
    if needed > free:
        raise AssetError(
            f"{what} needs about {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free "
            f"on {device or 'this machine'}. Choose a smaller model, close other programs, or use "
            "a larger machine."
        )


def weight_bytes(folder: Path, dtype: torch.dtype) -> int:
    """Return the bytes of a model folder's weights in a dtype, from their headers alone.

    Unreadable files count as 0: loading them later gives a better error.
    """
    total = 0
    for path in folder.glob("*.safetensors"):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118  # no mapping
                    shape = torch.Size(file.get_slice(name).get_shape())
                    total += shape.numel() * dtype.itemsize
        except (OSError, SafetensorError):
            continue
    return total
