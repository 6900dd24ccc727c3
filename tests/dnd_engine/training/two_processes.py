"""One process of a training run in several; a launcher starts it as a script.

It trains on the CPU in float32, so that the run is the same on every machine. After every step it
adds a line to `held.RANK` in the run folder: the bytes of all tensors in the process.
"""

import gc
import os
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from dnd_engine.training import setup
from dnd_engine.training.recipe import TrainRecipe
from dnd_engine.training.trainer import _Run, train

HELD = "held"


def tensor_bytes() -> int:
    """Return the bytes of every tensor's storage in this process."""
    from torch.distributed.tensor import DTensor

    gc.collect()
    sizes = {}
    for found in gc.get_objects():
        # Not `isinstance`, which would ask modules that load what they are asked for. The values of
        # a distributed tensor are a tensor of their own.
        # oneDNN's hide their storage.
        if (
            issubclass(type(found), torch.Tensor)
            and not issubclass(type(found), DTensor)
            and not found.is_mkldnn
        ):
            storage = found.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
    return sum(sizes.values())


if __name__ == "__main__":
    recipe = TrainRecipe.read(Path(sys.argv[1]))
    take_step = _Run._step

    def measured_step(run: _Run, step: int) -> dict[str, Any]:
        values = take_step(run, step)
        with (recipe.out / f"{HELD}.{os.environ.get('RANK', 0)}").open("a") as file:
            file.write(f"{tensor_bytes()}\n")
        return values

    with (
        patch.object(_Run, "_step", measured_step),
        patch.multiple(
            setup, best_device=lambda: torch.device("cpu"), best_dtype=lambda device: torch.float32
        ),
    ):
        train(recipe, resume="--resume" in sys.argv)
