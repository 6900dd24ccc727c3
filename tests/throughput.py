"""Measure what a training step takes in each of several processes, in processor time.

    python -m tests.throughput RECIPE TASKS
    torchrun --nproc-per-node 2 -m tests.throughput RECIPE TASKS

Processor time is what a step takes where each process has a core of its own, even if it has not.
"""

import sys
import tempfile
import time
from pathlib import Path

from dnd_engine.training.recipe import TrainRecipe
from dnd_engine.training.trainer import _Run

STEPS = 5


def main(recipe: Path, tasks: Path) -> None:
    """Print a line for each process."""
    with tempfile.TemporaryDirectory() as out:
        read = TrainRecipe.read(recipe, tasks=[tasks], out=Path(out) / "run", threads=1)
        run = _Run(read, resume=False)
        run._step(0)
        run.processes.wait()
        before = time.process_time()
        for step in range(1, STEPS + 1):
            run._step(step)
        seconds = (time.process_time() - before) / STEPS
        which = f"process {run.processes.rank + 1} of {run.processes.count}"
        print(f"{which}: {seconds:.2f} s a step")  # noqa: T201 - what it is for
        run.processes.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
