"""One process of a training run in several; a launcher starts it as a script.

It trains on the CPU in float32, so that the run is the same on every machine.
"""

import sys
from pathlib import Path
from unittest.mock import patch

import torch

from dnd_engine.training import setup
from dnd_engine.training.recipe import TrainRecipe
from dnd_engine.training.trainer import train

if __name__ == "__main__":
    with patch.multiple(
        setup, best_device=lambda: torch.device("cpu"), best_dtype=lambda device: torch.float32
    ):
        train(TrainRecipe.read(Path(sys.argv[1])), resume="--resume" in sys.argv)
