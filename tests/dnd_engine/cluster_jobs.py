"""What the jobs of `test_cluster.py` do, in a module that their processes load quickly."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

DEADLINE_SECONDS = 400


def square(number: int) -> int:
    return number * number


def node(number: int) -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())


def refuse(number: int) -> int:
    from dnd_engine.errors import TrainingError

    raise TrainingError(f"no {number}")


def die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def fail(number: int) -> int:
    return number // 0


def train_and_die_once(work: Callable[[Any], Any], marks: Path, group: Any) -> Any:
    """Train a group, on the CPU in float32; the first of all dies after its second checkpoint.

    Nobody begins before both nodes have a job, so that each has its share.
    """
    from unittest.mock import patch

    import ray
    import torch

    from dnd_engine.training import checkpoint
    from dnd_engine.training.finetune import collect_runs

    context = ray.get_runtime_context()
    (marks / f"node-{context.get_node_id()}").touch()
    # A process that is free may take the second attempt, so its number is not enough.
    (marks / f"attempt-{os.getpid()}-{time.monotonic_ns()}").touch()
    wait_for(lambda: len([*marks.glob("node-*")]) == 2)
    save, saved = checkpoint.save_checkpoint, 0

    def save_and_die(*arguments: Any) -> None:
        nonlocal saved
        save(*arguments)
        saved += 1
        if saved == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    with patch.multiple(
        collect_runs,
        best_device=lambda: torch.device("cpu"),
        best_dtype=lambda device: torch.float32,
        save_checkpoint=save_and_die if is_first(marks / "dies") else save,
    ):
        return work(group)


def is_first(mark: Path) -> bool:
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "the other node never got a job"
        time.sleep(0.1)
