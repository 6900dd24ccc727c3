"""Checks that weights fit into memory before anything is loaded."""

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil
import torch

from dnd_engine.errors import AssetError
from dnd_engine.notes import noted

_GROUP = Path("/sys/fs/cgroup")
"""Linux's limits of a container; psutil only knows the whole machine."""

_VERSIONS = (
    ("", "memory.max", "memory.current", "inactive_file"),
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Control groups, version 2 and version 1: the folder, the files of the limit and of what is used,
and which line of `memory.stat` counts what can be dropped."""

_MAX_HEADER_BYTES = 100_000_000
"""Longest header that the safetensors format allows."""

_ROOM = 1.1
"""Factor for memory beside the weights: states, caches, the text encoder."""


def free_bytes(device: torch.device | None = None) -> int:
    """Return the free memory of a device; None is the CPU."""
    if device is not None and device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
        return free
    # MPS has no memory of its own and shares the CPU's.
    available = int(psutil.virtual_memory().available)
    return min([available, *_left_to_group()])


def _left_to_group() -> Iterator[int]:
    """Yield what a container's limit leaves; nothing without a limit."""
    for folder, limit, used, cached in _VERSIONS:
        try:
            most, now = (int((_GROUP / folder / name).read_text()) for name in (limit, used))
            stat = dict(map(str.split, (_GROUP / folder / "memory.stat").read_text().splitlines()))
        except (OSError, ValueError):  # the other version, or no limit
            continue
        # Cached files count as used, such as the weights that were just hashed, but the system
        # drops inactive ones before it refuses memory.
        yield most - now + int(stat.get(cached, 0))


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
            "{what} needs about {needed:.1f} GB of memory, and {free:.1f} GB are free on "
            "{device}. Choose a smaller model, close other programs, or use a larger machine.",
            what=what,
            needed=needed / 1e9,
            free=free / 1e9,
            device=str(device) if device else noted("this machine"),
        )


def loaded_files(names: Iterable[str]) -> list[str]:
    """Select the files that a model's weights are loaded from.

    These are neither in subfolders nor a second copy of the weights in another layout, as Mistral's
    `consolidated.safetensors` is.

    Args:
        names: Paths of files inside the model's folder, with slashes.
    """
    weights = [name for name in names if "/" not in name and name.endswith(".safetensors")]
    return [name for name in weights if name.startswith("model")] or weights


def weight_bytes(folder: Path, dtype: torch.dtype) -> int:
    """Return the bytes of a model folder's weights in a dtype, from their headers alone.

    Unreadable files count as 0: loading them later gives a better error.
    """
    total = 0
    for name in loaded_files(path.name for path in folder.glob("*.safetensors")):
        # Not with `safe_open`, which maps the file into memory: the system may refuse that for the
        # very files that are too large.
        try:
            with (folder / name).open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                if length > _MAX_HEADER_BYTES:
                    continue
                header = json.loads(file.read(length))
            shapes = [entry["shape"] for key, entry in header.items() if key != "__metadata__"]
            total += int(sum(math.prod(shape) for shape in shapes)) * dtype.itemsize
        # What is no header may be any JSON: of another type, with infinite numbers, or nested.
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            OverflowError,
            RecursionError,
        ):
            continue
    return total
