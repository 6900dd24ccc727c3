"""What every measurement of the bench shares: a clock, a counter, made-up input, the machine."""

import os
import platform
import random
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import psutil
import torch
from torch.utils.flop_counter import FlopCounterMode

from dnd_engine.engine import Engine
from dnd_engine.generator.config import GeneratorConfig
from dnd_engine.models.base import BaseModel, best_dtype
from dnd_engine.prompts.buckets import Bucket
from dnd_engine.prompts.files import from_texts

__all__ = [
    "Measurement",
    "counted",
    "generator_config",
    "instructed_bucket",
    "machine_of",
    "peak_megabytes",
    "prompt_bucket",
    "resident_megabytes",
    "timed",
    "token_ids",
]

_WORDS = ("the", "film", "letter", "city", "was", "long", "kind", "in", "and", "never", "early")


class Measurement(ABC):
    """Something that is measured once a round."""

    @abstractmethod
    def __call__(self, number: int) -> dict[str, float]:
        """Measure, given the round's number, -1 for the one thrown away.

        Names without a dot are seconds; `side.tokens` are positions computed, `ready.name` seconds
        of a part of the way to an adapter that is ready.
        """

    def flops(self) -> dict[str, float]:
        """Floating point operations of what is compared; empty where they say nothing."""
        return {}


@contextmanager
def timed(device: torch.device) -> Iterator[list[float]]:
    """Seconds of the `with` block, as the list's one entry once it has ended."""
    spent: list[float] = []
    _synchronise(device)
    started = time.perf_counter()
    yield spent
    _synchronise(device)
    spent.append(time.perf_counter() - started)


def counted(run: Callable[[], object]) -> float:
    """Floating point operations of a call, as torch counts them."""
    counter = FlopCounterMode(display=False)
    with counter:
        run()
    return float(counter.get_total_flops())


def _synchronise(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize()


def generator_config(engine: Engine) -> GeneratorConfig:
    """Sizes and training of the loaded generator."""
    return engine.generator.config


def prompt_bucket(num_prompts: int, seed: int) -> Bucket:
    """Distinct prompts longer than the encoder reads."""
    rng = random.Random(f"{seed}:bench:prompts")
    texts = [f"{i}: {' '.join(rng.choices(_WORDS, k=60))}" for i in range(1, num_prompts + 1)]
    return Bucket("bench", 1.0, (from_texts(texts, name="bench"),))


def instructed_bucket(num_prompts: int, seed: int, name: str = "bench") -> Bucket:
    """Short prompts of one instruction and different inputs."""
    rng = random.Random(f"{seed}:bench:instructed:{name}")
    inputs = [f"{i}: {' '.join(rng.choices(_WORDS, k=8))}" for i in range(1, num_prompts + 1)]
    texts = [f"Write the last word of the line.\n\n{given}" for given in inputs]
    return Bucket(name, 1.0, (from_texts(texts, name=name),))


def token_ids(base: BaseModel, count: int, rng: random.Random) -> list[int]:
    """Draw token ids at random."""
    return rng.choices(range(base.config["vocab_size"]), k=count)


def resident_megabytes() -> float:
    """Memory that the process has resident now."""
    resident: int = psutil.Process().memory_info().rss
    return round(resident / 1e6, 1)


def peak_megabytes() -> float:
    """Most memory the process has had resident since it began."""
    if sys.platform == "win32":
        peak = psutil.Process().memory_info().peak_wset
    else:
        import resource

        # Kilobytes, but on macOS bytes.
        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return round(peak / 1e6, 1)


def machine_of(base: BaseModel) -> dict[str, Any]:
    """What the numbers hold for; nothing that names the machine or its owner."""
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
