"""Prompt-task batches: several tasks, a row of examples each, one condition per task.

Everything a step sees is a function of (seed, step), so runs can be compared and resumed exactly.
Examples are tokenised when they are drawn: that is a hundredth of a step, where tokenising all
variants of all tasks would take minutes at every start.
"""

import hashlib
import random
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from dnd_engine.errors import ConfigError, TrainingError
from dnd_engine.models.encoder import PromptEncoder
from dnd_engine.models.new_tokens import shared_length
from dnd_engine.tasks.folder import Example, Task, held_back
from dnd_engine.tasks.shared_inputs import SharedInputs
from dnd_engine.training.checkpoint import read_cached, write_tensors
from dnd_engine.training.examples import (
    EncodedExample,
    PackedExamples,
    encode_example,
    encode_short,
    pack,
)
from dnd_engine.training.recipe import TrainRecipe

Role = Literal["train", "validation"]
"""Whether a task is trained on, or belongs to a family that only validates."""

_LENGTH_BUCKETS = 4
"""Tasks of one step come from one quarter of the lengths, so that rows have similar lengths."""

_MIN_EXAMPLES = 16
"""Tasks with fewer examples would be learnt by heart."""

_PROBED_EXAMPLES = 16
"""Examples of a task that are tokenised at the start, to know its typical length."""

_OVERFLOWS = 3
"""Examples that may fail to fit what is left of a row before it counts as full."""


@dataclass(frozen=True, slots=True)
class TaskPool:
    """A task's training examples, and a few that are held back."""

    task: Task
    role: Role
    examples: tuple[Example, ...]
    """To be drawn from; some may turn out too long."""
    prompts: tuple[str, ...]
    """Prompts that conditions are drawn from."""
    validation: tuple[EncodedExample, ...]
    """Held back. Bare where the task has bare inputs and no teacher is trained, else full."""
    length: float
    """Typical number of tokens."""


@dataclass(frozen=True, slots=True)
class TaskCondition:
    """Encoded training prompts of one task."""

    read: Callable[[], Float[Tensor, "prompts length width"]]
    """Maps the tokens, in bfloat16, from the cache file, as many as the longest prompt has: the
    zeros after them would change nothing. Nobody keeps them: 64 prompts of 48 tokens, 384 wide, are
    2.4 MB, so the mapped pages of 1,000 tasks would soon be 2.4 GB of the process."""
    mask: Bool[Tensor, "prompts length"]
    centroid: Float[Tensor, " centroid_width"]


@dataclass(frozen=True, slots=True)
class ConditionPool:
    """Encoded training prompts of every task."""

    tasks: tuple[TaskCondition, ...]

    @classmethod
    def unread(cls, count: int) -> "ConditionPool":
        """Return the pool of a run that reads no condition, so that none is encoded."""
        # One token of one prompt keeps the axes of conditions; nobody looks at the values.
        tokens = torch.zeros(1, 1, 1)
        nothing = TaskCondition(lambda: tokens, torch.ones(1, 1).bool(), torch.zeros(1))
        return cls((nothing,) * count)

    def draw(
        self, task: int, num_prompts: int, rng: random.Random
    ) -> tuple[Float[Tensor, "prompts length width"], Bool[Tensor, "prompts length"]]:
        """A fresh prompt batch of one task; repeats only if the task has too few prompts."""
        pool = self.tasks[task]
        size = len(pool.mask)
        rows = rng.sample(range(size), min(size, num_prompts))
        rows = (rows * (num_prompts // len(rows) + 1))[:num_prompts]
        return pool.read()[rows].float(), pool.mask[rows]

    def statistics(
        self, tasks: Iterable[int]
    ) -> tuple[Float[Tensor, " width"], Float[Tensor, " width"]]:
        """Mean and deviation of each channel over all real tokens of the prompts of some tasks.

        Task by task and in double precision, so that memory and rounding stay small.
        """
        count, total, squares = torch.tensor(0.0), torch.tensor(0.0), torch.tensor(0.0)
        for task in tasks:
            pool = self.tasks[task]
            real = pool.read().double() * pool.mask[..., None]
            count = count + pool.mask.double().sum()
            total, squares = total + real.sum(dim=(0, 1)), squares + real.square().sum(dim=(0, 1))
        mean = total / count
        variance = (squares - count * mean.square()) / (count - 1).clamp(min=1)
        # Rounding may leave the variance of a constant channel, which MiniLM has, below zero.
        return mean.float(), variance.clamp(min=0).sqrt().float()


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's examples, a group per task, and the condition of each group."""

    step: int
    """-1 for held-back examples."""
    tasks: tuple[int, ...]
    """Whose examples the groups hold."""
    examples: PackedExamples | None
    """None if the step was drawn without."""
    prompts: Float[Tensor, "tasks prompts length width"]
    mask: Bool[Tensor, "tasks prompts length"]

    @property
    def num_examples(self) -> int:
        """Examples of all groups."""
        return 0 if self.examples is None else self.examples.num_examples

    @property
    def num_tokens(self) -> int:
        """Positions the base computes, padding included."""
        return 0 if self.examples is None else self.examples.ids.numel()


def split_families(tasks: Sequence[Task], wanted: tuple[str, ...] | float, seed: int) -> set[str]:
    """Families that validate instead of training: those named, or a share drawn by seed.

    Raises:
        ConfigError: If a name is no family of the tasks, or no family is left to train on.
    """
    families = sorted({task.info.family for task in tasks})
    if isinstance(wanted, tuple):
        chosen = set(wanted)
        if unknown := sorted(chosen - set(families)):
            raise ConfigError(
                f"`validation_families`: {', '.join(unknown)} are no families of the training "
                f"tasks. `tasks.csv` names {len(families)}, such as {', '.join(families[:3])}."
            )
    else:
        count = max(1, round(wanted * len(families))) if wanted else 0
        chosen = set(random.Random(f"{seed}:validation families").sample(families, count))
    if len(chosen) == len(families):
        raise ConfigError("`validation_families` takes all families; none is left to train on.")
    return chosen


def build_pools(
    tasks: Iterable[Task],
    tokenizer: PreTrainedTokenizerBase,
    recipe: TrainRecipe,
    validation_families: Collection[str],
) -> tuple[TaskPool, ...]:
    """Prepare the train sides; tasks with too few short examples are left out."""
    pools = []
    for task in tqdm(list(tasks), desc="Look through tasks", leave=False):
        examples, held = held_back(task, recipe.validation_examples)
        if len(examples) < _MIN_EXAMPLES:
            continue
        # Random numbers of their own for each task and purpose, so that adding or removing a task
        # changes no draw of the others.
        rng = random.Random(f"{recipe.seed}:probe:{task.info.slug}")
        probed = rng.sample(examples, _PROBED_EXAMPLES)
        full = encode_short(tokenizer, probed, "full", recipe.max_tokens)
        bare = encode_short(tokenizer, probed, "bare", recipe.max_tokens)
        reads_bare = bool(bare) and recipe.kind != "teacher"
        check = encode_short(tokenizer, held, "bare" if reads_bare else "full", recipe.max_tokens)
        # If half of the probe fits, `_fill_row` always finds an example that does.
        if 2 * len(full) >= len(probed) and check:
            role: Role = "validation" if task.info.family in validation_families else "train"
            length = median(len(e.ids) for e in (bare if reads_bare else full))
            # Sorted, because a set of strings has a different order in every process.
            prompts = sorted({e.prompt for e in examples})
            rng = random.Random(f"{recipe.seed}:condition:{task.info.slug}")
            prompts = rng.sample(prompts, min(recipe.pool_prompts, len(prompts)))
            pools.append(TaskPool(task, role, examples, tuple(prompts), check, length))
    return tuple(pools)


def condition_path(pool: TaskPool, identity: str, recipe: TrainRecipe) -> Path:
    """Where a task's encoded prompts are kept; see `encode_conditions`."""
    # The key leaves out the number of prompts in a condition, which matters only at each draw.
    length = str(recipe.read_length) + (" trimmed" if recipe.reads_tokens else "")
    key = "\0".join((identity, length, *pool.prompts))
    digest = hashlib.sha256(key.encode()).hexdigest()[:32]
    return recipe.cache_folder / "conditions" / f"{digest}.safetensors"


def encode_conditions(
    pools: Sequence[TaskPool],
    encoder: PromptEncoder,
    identity: str,
    recipe: TrainRecipe,
) -> ConditionPool:
    """Encode the prompts of every task, once.

    Each task's are a file of the cache, under a name made of everything they depend on. So an
    interrupted encoding goes on where it stopped, and other runs on the same tasks start at once.
    `identity` names the encoder and its weights.

    Raises:
        TrainingError: If the disk refuses.
    """
    conditions = []
    for pool in tqdm(pools, desc="Encode prompts", unit="task", leave=False):
        path = condition_path(pool, identity, recipe)
        tensors = read_cached(path)
        if tensors is None:
            projects = recipe.reads_tokens is not None
            encoded = encoder.encode(pool.prompts, recipe.read_length, trimmed=projects)
            tensors = {
                "tokens": encoded.tokens.to(torch.bfloat16),
                "mask": encoded.mask,
                "centroid": encoded.pooled.float().mean(dim=0),
            }
            write_tensors(path, tensors, {"reader": identity})
        # Copied, because a tensor of a mapped file keeps the whole file mapped.
        mask, centroid = tensors["mask"].clone(), tensors["centroid"].clone()
        conditions.append(TaskCondition(partial(_mapped_tokens, path), mask, centroid))
    return ConditionPool(tuple(conditions))


def _mapped_tokens(path: Path) -> Float[Tensor, "prompts length width"]:
    """Map a task's encoded prompts from its cache file."""
    tensors = read_cached(path)
    if tensors is None:
        raise TrainingError(
            f"`{path}` held encoded prompts when the run began, and cannot be read now. Continue "
            "with --resume, which encodes them again."
        )
    return tensors["tokens"]


class Sampler:
    """Draws the batches of a run, which refer to tasks by their position in the pools."""

    def __init__(
        self,
        pools: Sequence[TaskPool],
        conditions: ConditionPool,
        tokenizer: PreTrainedTokenizerBase,
        recipe: TrainRecipe,
    ) -> None:
        self._pools = pools
        self._conditions = conditions
        self._tokenizer = tokenizer
        self._recipe = recipe
        trained = [i for i, pool in enumerate(pools) if pool.role == "train"]
        by_length = sorted(trained, key=lambda i: pools[i].length)
        # A bucket must hold the tasks of a step, so few tasks make fewer buckets.
        buckets = min(_LENGTH_BUCKETS, max(1, len(trained) // recipe.tasks_per_step))
        # As even as can be: a small bucket's tasks would come up more often than others.
        bounds = [i * len(trained) // buckets for i in range(buckets + 1)]
        self._buckets = [by_length[start:end] for start, end in pairwise(bounds)]
        self._trained = trained
        self._shared = SharedInputs({i: (pools[i].task, pools[i].examples) for i in trained})
        self._categories = defaultdict(list)
        for i in trained:
            self._categories[self._category(i)].append(i)
        # Each from another task, because examples of one task share its instruction too.
        firsts = (encode_example(tokenizer, pools[i].examples[0], "full") for i in trained[:8])
        # An estimate for the budget of rows; `pack` finds the true prefix of each batch.
        self._prefix = shared_length([e.ids for e in firsts if e is not None])

    def draw(self, step: int, *, with_examples: bool = True) -> Batch:
        """The batch of one step."""
        (whole,) = self.draw_shares(step, range(1), of=1, with_examples=with_examples)
        return whole

    def draw_shares(
        self, step: int, shares: Sequence[int], *, of: int, with_examples: bool = True
    ) -> list[Batch]:
        """Some shares of the batch of a step; share `k` has every `of`-th task from the `k`-th on.

        All of it is drawn, so that the shares of one step belong together.
        """
        # Seeded with text, which Python digests by SHA-512: the same in every process.
        recipe, rng = self._recipe, random.Random(f"{self._recipe.seed}:{step}")
        shown: Mapping[int, Sequence[Example]] = {}
        if rng.random() < recipe.shared_input_share:
            tasks, shown = self._tasks_with_shared_inputs(rng)
        else:
            bucket = rng.choice(self._buckets)
            tasks = tuple(rng.sample(bucket, min(recipe.tasks_per_step, len(bucket))))
        rows = [self._fill_row(i, shown.get(i), rng) for i in tasks] if with_examples else []
        prompts, mask = self.conditions(tasks, rng)
        found = []
        for share in shares:
            own = list(range(share, len(tasks), of))
            examples = pack([rows[i] for i in own]) if rows and own else None
            chosen = tuple(tasks[i] for i in own)
            found.append(Batch(step, chosen, examples, prompts[own], mask[own]))
        return found

    def conditions(
        self, tasks: Sequence[int], rng: random.Random | None = None
    ) -> tuple[Float[Tensor, "tasks prompts length width"], Bool[Tensor, "tasks prompts length"]]:
        """A prompt batch of each task and its mask.

        Without `rng`, the prompts of a task are always the same, so that differences between two
        measurements are not differences of the draw.
        """
        size, seed = self._recipe.stages[0][0], self._recipe.seed
        drawn = [
            self._conditions.draw(i, size, rng or random.Random(f"{seed}:validation:{i}"))
            for i in tasks
        ]
        # Where conditions are projected, they are as long as the longest prompt of their task.
        longest = max(mask.shape[1] for _, mask in drawn)
        prompts = [pad(tokens, (0, 0, 0, longest - tokens.shape[1])) for tokens, _ in drawn]
        masks = [pad(mask, (0, longest - mask.shape[1])) for _, mask in drawn]
        return torch.stack(prompts), torch.stack(masks)

    def held_back(self, tasks: Sequence[int], sources: Sequence[int]) -> Iterator[Batch]:
        """The held-back examples of some tasks, each conditioned on prompts of its source."""
        # Tasks of similar length share a pass, which saves padding.
        order = sorted(range(len(tasks)), key=lambda k: self._pools[tasks[k]].length)
        size = self._recipe.tasks_per_step
        for start in range(0, len(order), size):
            chunk = order[start : start + size]
            here = tuple(tasks[k] for k in chunk)
            groups = [self._pools[i].validation for i in here]
            conditions = self.conditions([sources[k] for k in chunk])
            yield Batch(-1, here, pack(groups), *conditions)

    def _tasks_with_shared_inputs(
        self, rng: random.Random
    ) -> tuple[tuple[int, ...], Mapping[int, Sequence[Example]]]:
        """Tasks on the same inputs, and their examples on them.

        Where too few tasks share inputs, tasks of the same category, which at least look similar,
        join with inputs of their own.
        """
        count = self._recipe.tasks_per_step
        rows = self._shared.draw(count, self._recipe.examples_per_task, rng)
        # If no inputs are shared at all, one task sets the category.
        tasks = [*rows] or [rng.choice(self._trained)]
        similar = [i for i in self._categories[self._category(tasks[0])] if i not in tasks]
        more = rng.sample(similar, min(len(similar), count - len(tasks)))
        return (*tasks, *more), rows

    def _category(self, pool: int) -> str:
        return self._pools[pool].task.info.category

    def _fill_row(
        self, pool: int, shown: Sequence[Example] | None, rng: random.Random
    ) -> list[EncodedExample]:
        """Different examples of a task, until the row is full; at least one.

        They are those that the step shows, or else all of its own, shuffled.
        """
        recipe, own = self._recipe, self._pools[pool].examples
        examples = rng.sample(own, len(own)) if shown is None else shown
        row: list[EncodedExample] = []
        used, overflows = self._prefix, 0
        for example in examples:
            is_bare = rng.random() < recipe.bare_share and example.bare is not None
            encoded = encode_example(self._tokenizer, example, "bare" if is_bare else "full")
            if encoded is None or len(encoded.ids) > recipe.max_tokens:
                continue
            length = len(encoded.ids) - self._prefix
            if row and used + length > recipe.row_tokens:
                # A shorter one may still fit.
                overflows += 1
                if overflows == _OVERFLOWS:
                    break
                continue
            row.append(encoded)
            used += length
            if len(row) == recipe.examples_per_task:
                break
        # Shared inputs may all be too long for this task's answers; `build_pools` has seen that
        # others are not.
        return row or self._fill_row(pool, None, rng)
