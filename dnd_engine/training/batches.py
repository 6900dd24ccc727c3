"""Prompt-task batches: several tasks, a few examples each, one condition per task.

Everything a step sees is a function of (seed, step), so runs can be compared and resumed exactly.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from dnd_engine.encoder import PromptEncoder
from dnd_engine.training.examples import EncodedExample, Mode, PackedExamples, encode_example, pack
from dnd_engine.training.recipe import TrainRecipe
from dnd_engine.training.tasks import Example, Task

__all__ = ["Batch", "ConditionPool", "TaskPool", "build_pools", "draw_batch", "validation_batches"]

_LENGTH_BUCKETS = 4
"""Tasks of one step come from one quarter of the lengths, which halves the padding."""


@dataclass(frozen=True, slots=True)
class TaskPool:
    """A task's tokenised training examples, by mode."""

    task: Task
    full: tuple[EncodedExample, ...]
    bare: tuple[EncodedExample, ...]
    validation: tuple[EncodedExample, ...]
    """Bare where the task has bare inputs, else full."""

    @property
    def length(self) -> float:
        """Typical number of tokens."""
        return median(len(e.ids) for e in (self.bare or self.full))


@dataclass(frozen=True, slots=True)
class ConditionPool:
    """Encoded training prompts of every task, in half the memory of float32."""

    tokens: Float[Tensor, "tasks pool length width"]
    mask: Bool[Tensor, "tasks pool length"]
    sizes: Int[Tensor, " tasks"]
    """Prompts of each task that are real; the rest of its rows is empty."""
    centroids: Float[Tensor, "tasks width"]

    def draw(
        self, task: int, num_prompts: int, rng: random.Random
    ) -> tuple[Float[Tensor, "prompts length width"], Bool[Tensor, "prompts length"]]:
        """A fresh prompt batch of one task; repeats only if the task has too few prompts."""
        size = int(self.sizes[task])
        rows = rng.sample(range(size), min(size, num_prompts))
        rows = (rows * (num_prompts // len(rows) + 1))[:num_prompts]
        return self.tokens[task, rows].float(), self.mask[task, rows]

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each channel over all real tokens."""
        real = self.tokens[self.mask].float()
        return real.mean(dim=0), real.std(dim=0)


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's examples, a group per task, and the condition of each group."""

    tasks: tuple[int, ...]
    """Whose prompts condition each group."""
    examples: PackedExamples
    prompts: Float[Tensor, "tasks prompts length width"] | None
    mask: Bool[Tensor, "tasks prompts length"] | None

    @property
    def num_tokens(self) -> int:
        """Positions the base computes, padding included."""
        return self.examples.ids.numel()


def build_pools(
    tasks: Iterable[Task], tokenizer: PreTrainedTokenizerBase, recipe: TrainRecipe
) -> tuple[TaskPool, ...]:
    """Tokenise the train sides; tasks with too few short examples are left out."""
    pools = []
    for task in tqdm(list(tasks), desc="Tokenise tasks", leave=False):
        held = recipe.validation_examples
        full = _encode(task.train[:-held], tokenizer, "full", recipe.max_tokens)
        bare = _encode(task.train[:-held], tokenizer, "bare", recipe.max_tokens)
        check = _encode(
            task.train[-held:], tokenizer, "bare" if bare else "full", recipe.max_tokens
        )
        if len(full) >= 8 * recipe.examples_per_task and check:
            pools.append(TaskPool(task, full, bare, check))
    return tuple(pools)


def build_conditions(
    pools: Sequence[TaskPool], encoder: PromptEncoder, recipe: TrainRecipe
) -> ConditionPool:
    """Encode `pool_prompts` training prompts of every task, once."""
    num, length, width = recipe.pool_prompts, recipe.stages[0][1], encoder.width
    tokens = torch.zeros(len(pools), num, length, width, dtype=torch.bfloat16)
    mask = torch.zeros(len(pools), num, length, dtype=torch.bool)
    sizes = torch.zeros(len(pools), dtype=torch.long)
    centroids = torch.zeros(len(pools), width)
    for row, pool in enumerate(tqdm(pools, desc="Encode prompts", leave=False)):
        prompts = [e.prompt for e in pool.task.train[: -recipe.validation_examples]]
        rng = random.Random(f"{recipe.seed}:{pool.task.info.slug}")
        chosen = rng.sample(prompts, min(num, len(prompts)))
        encoded = encoder.encode(chosen, length)
        tokens[row, : len(chosen)] = encoded.tokens.to(torch.bfloat16)
        mask[row, : len(chosen)] = encoded.mask
        sizes[row] = len(chosen)
        centroids[row] = encoded.pooled.mean(dim=0)
    return ConditionPool(tokens, mask, sizes, centroids)


def draw_batch(
    pools: Sequence[TaskPool], conditions: ConditionPool | None, recipe: TrainRecipe, step: int
) -> Batch:
    """The batch of one step."""
    rng = random.Random(f"{recipe.seed}:{step}")
    by_length = sorted(range(len(pools)), key=lambda i: pools[i].length)
    size = -(-len(pools) // min(_LENGTH_BUCKETS, max(1, len(pools) // recipe.tasks_per_step)))
    start = rng.randrange(-(-len(pools) // size)) * size
    bucket = by_length[start : start + size]
    tasks = tuple(rng.sample(bucket, min(recipe.tasks_per_step, len(bucket))))
    groups = [
        [_draw_example(pools[i], recipe.bare_share, rng) for _ in range(recipe.examples_per_task)]
        for i in tasks
    ]
    return _batch(tasks, groups, conditions, recipe, rng)


def validation_batches(
    pools: Sequence[TaskPool],
    conditions: ConditionPool | None,
    recipe: TrainRecipe,
    *,
    wrong: bool = False,
) -> Iterable[Batch]:
    """The held-back examples of every task; `wrong` conditions each on another task's prompts."""
    order = sorted(range(len(pools)), key=lambda i: pools[i].length)
    for start in range(0, len(order), recipe.tasks_per_step):
        tasks = order[start : start + recipe.tasks_per_step]
        rng = random.Random(f"{recipe.seed}:validation:{start}")
        groups = [pools[i].validation for i in tasks]
        sources = [(i + len(pools) // 2) % len(pools) for i in tasks] if wrong else tasks
        yield _batch(tuple(sources), groups, conditions, recipe, rng)


def _draw_example(pool: TaskPool, bare_share: float, rng: random.Random) -> EncodedExample:
    bare = pool.bare and rng.random() < bare_share
    return rng.choice(pool.bare if bare else pool.full)


def _batch(
    tasks: tuple[int, ...],
    groups: Sequence[Sequence[EncodedExample]],
    conditions: ConditionPool | None,
    recipe: TrainRecipe,
    rng: random.Random,
) -> Batch:
    examples = pack(groups)
    if conditions is None:
        return Batch(tasks, examples, None, None)
    drawn = [conditions.draw(i, recipe.stages[0][0], rng) for i in tasks]
    prompts, masks = zip(*drawn, strict=True)
    return Batch(tasks, examples, torch.stack(prompts), torch.stack(masks))


def _encode(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, mode: Mode, max_tokens: int
) -> tuple[EncodedExample, ...]:
    encoded = (encode_example(tokenizer, e, mode) for e in examples)
    return tuple(e for e in encoded if e is not None and len(e.ids) <= max_tokens)
