"""Measures what a mix costs: several tasks in one adapter, and each of them alone.

    python -m dnd_engine.bench.mixes

The everyday tasks are drawn into groups by seed, and held-out written tasks into groups whose
inputs differ, as those of buckets that somebody mixes should. Each task is a bucket, and adapters
are made as the page makes them by default. It works on a checkout, and takes about ten minutes on
two cores.
"""

import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dnd_engine.checks.ordinary import ordinary_share
from dnd_engine.engine import Engine
from dnd_engine.errors import ConfigError
from dnd_engine.files import asset_path
from dnd_engine.generator.installed import encoder_name
from dnd_engine.limits import check_least
from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.models.encoder import POOLED_LENGTH, PromptEncoder
from dnd_engine.models.runtime import Runtime
from dnd_engine.models.sources import resolve_encoder
from dnd_engine.prompts.buckets import Bucket
from dnd_engine.prompts.files import from_texts
from dnd_engine.prompts.split import split_prompt
from dnd_engine.scoring.answers import answer_all
from dnd_engine.scoring.metrics import Grader
from dnd_engine.scoring.questions import ask, text_of
from dnd_engine.tasks.folder import Task, load_tasks

_MAX_NEW_TOKENS = 48
"""More than any answer of the everyday tasks."""

_CANDIDATES = 400
"""Random groups of which the one is taken whose inputs differ most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MixConfig:
    """How mixes are made and scored."""

    num_prompts: int = 16
    """Prompts of each task."""
    num_items: int = 8
    """Bare inputs that each task is scored on."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_least(self, 1, "num_prompts", "num_items")


@dataclass(frozen=True, slots=True, kw_only=True)
class MixResult:
    """What the mixes of one kind reach, as means."""

    kind: str
    num_mixes: int
    score: float
    """Mean over tasks, on bare inputs."""
    alone: float
    """The same for adapters of one task each."""
    ordinary: float
    """Share of ordinary messages that the mixes leave alone (see `ordinary_share`)."""
    ordinary_alone: float


def draw_groups(tasks: Sequence[Task], size: int, seed: int) -> list[list[Task]]:
    """Draw as many groups of a size as there are tasks for; leave out the rest.

    Raises:
        ConfigError: If there are too few tasks for one group.
    """
    _check_enough(tasks, size, 1)
    order = random.Random(f"{seed}:mixes:{size}").sample(tasks, len(tasks))
    return [order[start : start + size] for start in range(0, len(order) - size + 1, size)]


def draw_unlike_groups(
    tasks: Sequence[Task],
    size: int,
    count: int,
    seed: int,
    vectors: Callable[[Task], Float[Tensor, "inputs width"]],
) -> list[list[Task]]:
    """Draw groups, one after the other, each the one of many whose inputs differ most.

    No task is in two groups. `vectors` returns the unit vectors of a task's inputs.

    Raises:
        ConfigError: If there are too few tasks for so many groups.
    """
    _check_enough(tasks, size, count)
    rng, left, groups = random.Random(f"{seed}:unlike mixes:{size}"), list(tasks), []
    by_slug = {task.info.slug: vectors(task) for task in tasks}
    for _ in range(count):
        drawn = (rng.sample(left, size) for _ in range(_CANDIDATES))
        group = max(drawn, key=lambda some: apartness([by_slug[t.info.slug] for t in some]))
        groups.append(group)
        left = [task for task in left if task not in group]
    return groups


def apartness(vectors: Sequence[Float[Tensor, "inputs width"]]) -> float:
    """Return the share of inputs whose nearest other input is one of the same task.

    Inputs are unit vectors, by task.
    """
    joined = torch.cat(list(vectors))
    counts = torch.tensor([len(some) for some in vectors])
    owners: Int[Tensor, " inputs"] = torch.arange(len(counts)).repeat_interleave(counts)
    likeness = (joined @ joined.T).fill_diagonal_(-torch.inf)
    return float((owners[likeness.argmax(dim=1)] == owners).double().mean())


def measure_mixes(
    engine: Engine, groups: Mapping[str, Sequence[Sequence[Task]]], config: MixConfig | None = None
) -> Iterator[MixResult]:
    """Make and score adapters of groups of tasks, and one of each task.

    Yields:
        One result for each kind of groups. Their tasks have instructions and inputs.
    """
    config = config or MixConfig()
    runtime = engine.runtime
    before = engine.ordinary_answers()
    by_slug = {task.info.slug: task for of in groups.values() for group in of for task in group}

    # Cached, because a task is alone the same beside any group.
    @cache
    def measured(*slugs: str) -> tuple[list[float], float]:
        """Return the score of each task under their common adapter, and its ordinary share."""
        of = [by_slug[slug] for slug in slugs]
        made = engine.generate([_bucket(task, config) for task in of], seed=config.seed)
        fitted = runtime.host.fit(made.scaled_tokens[None], made.layout)
        scores = [score_bare(runtime, fitted, task, config.num_items) for task in of]
        return scores, ordinary_share(runtime, fitted, before).share

    for kind, tasks in groups.items():
        slugs = [[task.info.slug for task in group] for group in tasks]
        mixed = [measured(*group) for group in slugs]
        alone = [measured(slug) for group in slugs for slug in group]
        yield MixResult(
            kind=kind,
            num_mixes=len(slugs),
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


def _check_enough(tasks: Sequence[Task], size: int, count: int) -> None:
    if size * count > len(tasks):
        raise ConfigError(
            f"{count} mixes of {size} tasks need {size * count}, got {len(tasks)}. Give more tasks."
        )


def _vectors(engine: Engine, config: MixConfig) -> Callable[[Task], Float[Tensor, "inputs width"]]:
    """Return what encodes the inputs of a task's prompts, without their instructions."""
    weights = resolve_encoder(
        encoder_name(engine.config, None), torch.float32, engine.config.cache_dir
    )
    encoder = PromptEncoder(weights.path, torch.device("cpu"), torch.float32)

    @cache
    def encoded(task: Task) -> Tensor:
        prompts = [example.prompt for example in task.train[: config.num_prompts]]
        return encoder.encode([split_prompt(text).bare for text in prompts], POOLED_LENGTH).pooled

    return encoded


def _bucket(task: Task, config: MixConfig) -> Bucket:
    texts = [example.prompt for example in task.train[: config.num_prompts]]
    return Bucket(task.info.slug, 1.0, (from_texts(texts, name=task.info.slug),))


def main() -> None:
    """Measure mixes of the everyday and of the held-out written tasks, a line for each kind."""
    engine, config = Engine.load(), MixConfig()
    everyday = load_tasks(asset_path("tasks", "everyday"))
    written = load_tasks(asset_path("tasks", "written"), split="heldout")
    vectors = _vectors(engine, config)
    groups = {
        "four everyday tasks": draw_groups(everyday, 4, config.seed),
        "eight everyday tasks": draw_groups(everyday, 8, config.seed),
        "eight unlike written tasks": draw_unlike_groups(written, 8, 8, config.seed, vectors),
    }
    for found in measure_mixes(engine, groups, config):
        own = fmean(apartness([vectors(task) for task in group]) for group in groups[found.kind])
        sys.stdout.write(
            f"{found.num_mixes} mixes of {found.kind}: score {found.score:.3f}, alone "
            f"{found.alone:.3f}, kept {found.score / found.alone:.2f}; ordinary messages kept "
            f"{found.ordinary:.2f}, alone {found.ordinary_alone:.2f}; nearest input of the same "
            f"task {own:.2f}\n"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
