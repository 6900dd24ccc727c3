"""Training state on disk: parameters and AdamW moments in one safetensors file.

Randomness is derived from (seed, step), so a resumed run needs only the step number in addition.
"""

import errno
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dnd_engine.errors import DndError, TrainingError
from dnd_engine.files import written_aside

_NOTES = "notes"


def save_checkpoint(
    path: Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    step: int,
    notes: Mapping[str, str] | None = None,
) -> None:
    """Write the state after `step` steps, with notes for `read_notes`, in one move.

    Raises:
        TrainingError: If the disk refuses; the checkpoint before it stays.
    """
    # Safetensors, unlike pickle, holds no code, but only a flat map of tensors. So the optimizer's
    # state is stored under the names of the parameters.
    names = {id(p): name for name, p in module.named_parameters()}
    tensors: dict[str, Tensor] = {f"module.{k}": v for k, v in module.state_dict().items()}
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            tensors[f"optimizer.{names[id(parameter)]}.{key}"] = torch.as_tensor(value)
    write_tensors(path, tensors, {**(notes or {}), "step": str(step)})


def load_checkpoint(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Restore module and optimizer in place; returns the steps done.

    Raises:
        TrainingError: If the file is damaged.
    """
    step = int(read_notes(path)["step"])
    tensors = load_file(path)
    prefix = "module."
    module.load_state_dict(
        {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    )
    for name, parameter in module.named_parameters():
        prefix = f"optimizer.{name}."
        state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        # A parameter that no step has updated has no state, such as an unused decoder's.
        if state:
            # AdamW counts its steps on the CPU and keeps its moments beside the parameter.
            optimizer.state[parameter] = {
                k: v if k == "step" else v.to(parameter.device) for k, v in state.items()
            }
    return step


def read_notes(path: Path) -> dict[str, str]:
    """What was kept beside the tensors of a file of `write_tensors`.

    Raises:
        TrainingError: If the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            found: dict[str, str] = json.loads((file.metadata() or {}).get(_NOTES, "{}"))
            return found
    except (SafetensorError, OSError) as error:
        raise TrainingError(f"checkpoint `{path}` cannot be read: {error}") from error


@contextmanager
def naming_the_disk(folder: Path) -> Iterator[None]:
    """Say which run ended, and how to go on, where a disk refuses what is not a checkpoint."""
    try:
        yield
    except DndError:
        # Some of ours are an OSError too, and already say what to do.
        raise
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise TrainingError(
            f"the run in `{folder}` ended: {error.strerror or error}. What was written before is "
            f"whole: {'make room and ' if full else ''}continue with --resume."
        ) from error


def read_cached(path: Path) -> dict[str, Tensor] | None:
    """Tensors of a cache file, mapped into memory; None if it must be made, or made again."""
    try:
        return load_file(path)
    except (SafetensorError, OSError):
        return None


def write_tensors(path: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> None:
    """Write tensors beside their place, then rename; two writers at once do no harm.

    Raises:
        TrainingError: If the disk refuses; a file that was there before stays as it was.
    """
    try:
        with written_aside(path) as aside:
            save_file(
                # Safetensors refuses tensors that are not contiguous.
                {k: v.detach().contiguous() for k, v in tensors.items()},
                aside,
                # One entry: safetensors writes several in a random order, and equal runs shall
                # leave equal bytes.
                metadata={_NOTES: json.dumps(dict(notes), sort_keys=True)},
            )
    except (SafetensorError, OSError) as error:
        # Safetensors writes in Rust, and tells what the system said in its message only.
        found = re.search(r"(?:I/O error|IoError)[(: ]+(.+?) \(os error", str(error))
        reason = found[1] if found else str(error)
        raise TrainingError(
            f"`{path}` cannot be written: {reason}. What was written before is whole: make room "
            "and continue with --resume."
        ) from error
