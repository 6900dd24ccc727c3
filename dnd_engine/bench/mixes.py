"""Measures what a mix costs: several tasks in one adapter, and each of them alone.

    python -m dnd_engine.bench.mixes

The everyday tasks are drawn into groups by seed. Each task is a bucket, and adapters are made as
the page makes them by default. It works on a checkout, and takes some minutes on two cores.
"""

import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean

from dnd_engine.checks.ordinary import base_answers, check_messages, ordinary_share
from dnd_engine.engine import Engine
from dnd_engine.errors import ConfigError
from dnd_engine.files import asset_path
from dnd_engine.limits import check_least
from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.models.runtime import Runtime
from dnd_engine.prompts.buckets import Bucket
from dnd_engine.prompts.files import from_texts
from dnd_engine.scoring.answers import answer_all
from dnd_engine.scoring.metrics import Grader
from dnd_engine.scoring.questions import ask, text_of
from dnd_engine.tasks.folder import Task, load_tasks

_MAX_NEW_TOKENS = 48
"""More than any answer of the everyday tasks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MixConfig:
    """The mixes to measure."""

    sizes: tuple[int, ...] = (4, 8)
    """Numbers of tasks in one adapter."""
    num_prompts: int = 16
    """Prompts of each task."""
    num_items: int = 8
    """Bare inputs that each task is scored on."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_least(self, 1, "num_prompts", "num_items")
        if not self.sizes or min(self.sizes) < 1:
            raise ConfigError(f"`sizes` must be one or more numbers from 1, got {self.sizes}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class MixResult:
    """What all mixes of one size reach, as means."""

    size: int
    num_mixes: int
    score: float
    """Mean over tasks, on bare inputs."""
    alone: float
    """The same for adapters of one task each."""
    ordinary: float
    """Share of ordinary messages that the mixes leave alone (see `ordinary_share`)."""
    ordinary_alone: float


def draw_groups(tasks: Sequence[Task], size: int, seed: int) -> list[list[Task]]:
    """Draw as many groups of a size as there are tasks for; the rest is left out."""
    order = random.Random(f"{seed}:mixes:{size}").sample(tasks, len(tasks))
    return [order[start : start + size] for start in range(0, len(order) - size + 1, size)]


def measure_mixes(
    engine: Engine, tasks: Sequence[Task], config: MixConfig | None = None
) -> Iterator[MixResult]:
    """Make and score adapters of groups of tasks, and one of each task.

    Args:
        engine: Makes the adapters.
        tasks: Tasks with instructions and inputs.
        config: Sizes of groups and samples.

    Yields:
        One result a size.

    Raises:
        ConfigError: If there are fewer tasks than the largest mix has.
    """
    config = config or MixConfig()
    if (largest := max(config.sizes)) > len(tasks):
        raise ConfigError(
            f"a mix of {largest} tasks needs as many, got {len(tasks)}. Give more tasks, or "
            "smaller `sizes`."
        )
    runtime = engine.runtime
    before = base_answers(runtime, check_messages())
    by_slug = {task.info.slug: task for task in tasks}

    # Cached, because a task is alone the same beside any group.
    @cache
    def measured(*slugs: str) -> tuple[list[float], float]:
        """Return the score of each task under their common adapter, and its ordinary share."""
        of = [by_slug[slug] for slug in slugs]
        made = engine.generate([_bucket(task, config) for task in of], seed=config.seed)
        fitted = runtime.host.fit(made.scaled_tokens[None], made.layout)
        scores = [score_bare(runtime, fitted, task, config.num_items) for task in of]
        return scores, ordinary_share(runtime, fitted, before).share

    for size in config.sizes:
        groups = [[t.info.slug for t in group] for group in draw_groups(tasks, size, config.seed)]
        mixed = [measured(*group) for group in groups]
        alone = [measured(slug) for group in groups for slug in group]
        yield MixResult(
            size=size,
            num_mixes=len(groups),
            score=fmean(score for scores, _ in mixed for score in scores),
            alone=fmean(score for scores, _ in alone for score in scores),
            ordinary=fmean(share for _, share in mixed),
            ordinary_alone=fmean(share for _, share in alone),
        )


def score_bare(runtime: Runtime, fitted: FittedLoRA, task: Task, num_items: int) -> float:
    """Return the mean score of an adapter's greedy answers to a task's first bare inputs."""
    tokenizer, grader, items = runtime.base.tokenizer, Grader.of(task), task.test[:num_items]
    asked = [ask(tokenizer, item, "bare", max_new_tokens=_MAX_NEW_TOKENS) for item in items]
    answers = answer_all(runtime, asked, fitted)
    return fmean(
        grader.grade(item, text_of(tokenizer, answer)).score
        for item, answer in zip(items, answers, strict=True)
    )


def _bucket(task: Task, config: MixConfig) -> Bucket:
    texts = [example.prompt for example in task.train[: config.num_prompts]]
    return Bucket(task.info.slug, 1.0, (from_texts(texts, name=task.info.slug),))


def main() -> None:
    """Measure mixes of the everyday tasks, and print a line for each size."""
    tasks = load_tasks(asset_path("tasks", "everyday"))
    for found in measure_mixes(Engine.load(), tasks):
        sys.stdout.write(
            f"{found.num_mixes} mixes of {found.size}: score {found.score:.3f}, the same tasks "
            f"alone {found.alone:.3f}; ordinary messages kept {found.ordinary:.2f}, alone "
            f"{found.ordinary_alone:.2f}\n"
        )


if __name__ == "__main__":
    main()
