"""Tools for all measurements: clock, operation counter, synthetic input, machine information."""

import os
import platform
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import psutil
import torch
from torch.utils.flop_counter import FlopCounterMode

from dnd_engine.models.base import BaseModel, best_dtype
from dnd_engine.models.replies import Reply
from dnd_engine.prompts.buckets import Bucket
from dnd_engine.prompts.files import from_texts

_WORDS = ("the", "film", "letter", "city", "was", "long", "kind", "in", "and", "never", "early")


Measurement = Callable[[int], dict[str, float]]
"""Measures one round, given its number; -1 is the discarded one. In the result, names without a dot
are seconds, `side.tokens` counts computed positions, and `ready.name` is the seconds of one step
towards a ready adapter."""


@contextmanager
def timed(device: torch.device) -> Iterator[list[float]]:
    """Time the `with` block; the yielded list holds the seconds once it has ended."""
    spent: list[float] = []
    # A GPU computes asynchronously: wait for earlier work here, and below for the measured work.
    _synchronise(device)
    started = time.perf_counter()
    yield spent
    _synchronise(device)
    spent.append(time.perf_counter() - started)


def seconds_per_token(steps: Iterator[Sequence[Reply]], device: torch.device) -> float:
    """Time the tokens of answers after the first; 0 if there is no other."""
    # Not timed, because the first token includes reading the prompt.
    next(step for step in steps if step[0].num_tokens)
    with timed(device) as spent:
        count = sum(1 for _ in steps)
    return spent[0] / count if count else 0.0


def counted(run: Callable[[], object]) -> float:
    """Count the floating point operations of a call with torch's counter."""
    counter, threads = FlopCounterMode(display=False), torch.get_num_threads()
    # With one thread nothing is computed in others, which the counter does not see.
    torch.set_num_threads(1)
    try:
        with counter:
            run()
    finally:
        torch.set_num_threads(threads)
    return float(counter.get_total_flops())


def _synchronise(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize()


def prompt_bucket(num_prompts: int, seed: int) -> Bucket:
    """Make distinct prompts longer than the encoder reads."""
    rng = random.Random(f"{seed}:bench:prompts")
    texts = [f"{i}: {' '.join(rng.choices(_WORDS, k=60))}" for i in range(1, num_prompts + 1)]
    return Bucket("bench", 1.0, (from_texts(texts, name="bench"),))


def instructed_bucket(num_prompts: int, seed: int, name: str = "bench") -> Bucket:
    """Make short prompts with one instruction and different inputs."""
    rng = random.Random(f"{seed}:bench:instructed:{name}")
    inputs = [f"{i}: {' '.join(rng.choices(_WORDS, k=8))}" for i in range(1, num_prompts + 1)]
    texts = [f"Write the last word of the line.\n\n{given}" for given in inputs]
    return Bucket(name, 1.0, (from_texts(texts, name=name),))


def story_question(number: int) -> str:
    """Return a question whose answer is long."""
    return f"Tell me a long story about {number} dragons."


def token_ids(base: BaseModel, count: int, rng: random.Random) -> list[int]:
    """Draw token ids at random."""
    return rng.choices(range(base.config["vocab_size"]), k=count)


def idle_memory(device: torch.device) -> dict[str, float]:
    """Return the memory in use, and measure the card's peaks from here on.

    Returns:
        Megabytes as in `BenchResult.memory_mb`: `idle`, and `cuda_idle` on a CUDA device.
    """
    memory = {"idle": resident_megabytes()}
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        memory["cuda_idle"] = _megabytes(torch.cuda.memory_allocated(device))
    return memory


def peak_memory(device: torch.device, name: str = "peak") -> dict[str, float]:
    """Return the peaks since `idle_memory` under `name`, and the card's under `cuda_` and `name`.

    The process's own peak counts from its start.
    """
    memory = {name: peak_megabytes()}
    if device.type == "cuda":
        memory[f"cuda_{name}"] = _megabytes(torch.cuda.max_memory_allocated(device))
    return memory


def resident_megabytes() -> float:
    """Return the process's current resident memory."""
    return _megabytes(psutil.Process().memory_info().rss)


def peak_megabytes() -> float:
    """Return the process's peak resident memory."""
    if sys.platform == "win32":
        peak = psutil.Process().memory_info().peak_wset
    else:
        import resource

        # `ru_maxrss` is in kilobytes, except on macOS, where it is in bytes.
        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return _megabytes(peak)


def _megabytes(num_bytes: int) -> float:
    return round(num_bytes / 1e6, 1)


def machine_of(base: BaseModel) -> dict[str, Any]:
    """Describe hardware and versions, without naming the machine or its owner."""
    device = base.device
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "load_average": round(psutil.getloadavg()[0], 2),
        "torch_threads": torch.get_num_threads(),
        "device": str(device),
        "accelerator": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "dtype": str(best_dtype(device)).removeprefix("torch."),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "transformers", "peft")},
        },
    }
