"""Compare an imprint of any base, which needs no generator, with what `dnd plan` says of it.

    python -m tests.imprint_costs BASE TFLOPS REACHED

BASE is a base as `--base` names it. TFLOPS is the fastest bfloat16 product of a core of this
machine, and REACHED the share of it that a synthesis reaches. Processor time is measured, so other
work on the machine counts little.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import mean
from typing import Any
from unittest.mock import patch

import torch
from torch.utils.flop_counter import FlopCounterMode

from dnd_engine.bench.measurement import instructed_bucket, peak_megabytes, resident_megabytes
from dnd_engine.config import NO_GENERATOR, EngineConfig, ImprintConfig
from dnd_engine.engine import Engine
from dnd_engine.imprint import fit
from dnd_engine.imprint.ordinary import measure_ordinary, ordinary_messages
from dnd_engine.lora.layout import LoRASpec
from dnd_engine.models.forward import HookedForward
from dnd_engine.models.new_tokens import shared_length
from dnd_engine.plan.costs import Workload, make_plan
from dnd_engine.plan.hardware import read_hardware
from dnd_engine.progress import finish
from dnd_engine.prompts.buckets import Bucket
from dnd_engine.scoring.answers import answer_in_batches
from dnd_engine.synthesis.imprint import imprint_alone

BUCKET = instructed_bucket(21, seed=0)
"""16 prompts are fitted, and the others left out."""


def imprint(engine: Engine, bucket: Bucket) -> None:
    """Make an adapter of a bucket by imprint alone."""
    finish(imprint_alone(engine._loaded, [bucket], ImprintConfig()))


def counted(engine: Engine, bucket: Bucket) -> tuple[int, Workload]:
    """Return the operations of an imprint as torch counts them, and what it had to do."""
    prompts: list[tuple[int, ...]] = []
    answers: list[int] = []

    def listened(runtime: Any, questions: Any, *args: Any, **options: Any) -> Any:
        prompts.extend(question.prompt for question in questions)
        for batch in answer_in_batches(runtime, questions, *args, **options):
            answers.extend(len(questions[number].answered(one)) for number, one in batch)
            yield batch

    runtime = engine.runtime
    # Torch does not count products with packed weights.
    modules = HookedForward(runtime.base, runtime.host.applying)
    with (
        patch.object(fit, "answer_in_batches", listened),
        runtime.through(modules),
        FlopCounterMode(display=False) as counter,
    ):
        imprint(engine, bucket)
    work = Workload(
        imprint_prompts=len(prompts),
        imprint_tokens=round(mean(map(len, prompts))),
        imprint_shared_tokens=shared_length(prompts),
        imprint_answer_tokens=round(mean(answers)),
    )
    return counter.get_total_flops(), work


def processor_seconds(run: Callable[[], object]) -> float:
    """Return the processor time of a call."""
    started = time.process_time()
    run()
    return time.process_time() - started


def main(base: str, tflops: float, reached: float) -> None:
    """Print what was measured beside what is planned."""
    torch.set_num_threads(1)
    before = resident_megabytes()
    engine = Engine.load(EngineConfig(base=base, generator=NO_GENERATOR, device="cpu"))
    # The first one measures ordinary activity too, unless the cache has it.
    imprint(engine, BUCKET)
    measured = {
        "imprint_seconds": min(
            processor_seconds(lambda: imprint(engine, BUCKET)) for _ in range(3)
        ),
        "imprint_memory_gb": (peak_megabytes() - before) / 1000,
    }
    steps = measure_ordinary(
        engine.runtime,
        ordinary_messages(),
        fit.first_layer(engine.base.num_layers, ImprintConfig()),
    )
    measured["ordinary_seconds"] = processor_seconds(lambda: finish(steps))
    measured["imprint_flops"], work = counted(engine, BUCKET)
    core = replace(read_hardware()["cpu-2-cores"], tflops=tflops, reached_forward=reached)
    plan = make_plan(str(engine.info.base_path), LoRASpec(), core, work)
    for key, value in measured.items():
        print(f"{key}: measured {value:.4g}, planned {plan[key]:.4g}")  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))
