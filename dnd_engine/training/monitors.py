"""Watches a run: do the prompts matter, do adapters of different tasks differ, does it generalise?

A falling loss does not reveal a generator that ignores its prompts: a run in which all adapters are
the same trained as smoothly as a sound one. These numbers do show it, from the first hundred
steps. Everything is kept in `log.jsonl`, one line a step, and drawn into `monitors.svg`.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from jaxtyping import Float
from torch import Tensor

from dnd_engine.lora.delta import delta_gram
from dnd_engine.lora.layout import LoRALayout
from dnd_engine.training.batches import Role, TaskPool


@dataclass(frozen=True, slots=True)
class GroupNLL:
    """Held-back examples of one task under some prompts."""

    nll: float
    """Nats per answer token, mean over examples."""
    exact: float
    """Share of examples whose answer is right in every token."""


MeasureNLL = Callable[[Sequence[int], Sequence[int]], Sequence[GroupNLL]]
"""Tasks, and whose prompts stand in for each's, to what their held-back examples cost."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A fixed set of tasks to look at, and two other tasks for each, whose prompts are wrong."""

    tasks: tuple[int, ...]
    wrong: tuple[int | None, ...]
    """A task of another family; None where there is only one."""
    other_operation: tuple[int | None, ...]
    """A task of another family and of the same answer format; None where there is none."""


def choose_probe(pools: Sequence[TaskPool], role: Role, limit: int, seed: int) -> Probe:
    """Draw up to `limit` tasks of a role, named by position, and wrong prompts for each."""
    given = [i for i, pool in enumerate(pools) if pool.role == role]
    # Where all have other labels than their own, wrong prompts say less, but the loss as much.
    members = [i for i in given if not _is_relabelled(pools[i])] or given
    rng = random.Random(f"{seed}:probe:{role}")
    tasks = tuple(sorted(rng.sample(members, min(limit, len(members)))))
    wrong: list[int | None] = []
    other: list[int | None] = []
    for task in tasks:
        info = pools[task].task.info
        strangers = [
            i
            for i, p in enumerate(pools)
            if p.task.info.family != info.family and not _is_relabelled(p)
        ]
        similar = [i for i in strangers if pools[i].task.info.answer_format == info.answer_format]
        wrong.append(rng.choice(strangers) if strangers else None)
        other.append(rng.choice(similar) if similar else None)
    return Probe(tasks, tuple(wrong), tuple(other))


def _is_relabelled(pool: TaskPool) -> bool:
    """Whether a task has other labels than its own: wrong prompts would name wrong labels too."""
    info = pool.task.info
    return bool(info.variant) and not info.answer_format


def measure_probe(
    probe: Probe, measure: MeasureNLL, prefix: str, *, compare: bool = True
) -> dict[str, float]:
    """Loss under the right prompts, and how much worse wrong ones are.

    `compare` is False where prompts can make no difference, and leaves the wrong ones out.

    Returns:
        `<prefix>_loss`, `<prefix>_exact`, and where there is something to compare with,
        `<prefix>_loss_wrong_prompts`, `<prefix>_wrong_prompt_gap` and `<prefix>_operation_gain`:
        the loss under prompts of another family, that minus the right prompts' on the same tasks,
        and the latter again with prompts of the same answer format, so that only the operation is
        wrong. Nats per answer token; tasks have equal weight. Empty for a probe without tasks, as
        there are without validation families.
    """
    if not probe.tasks:
        return {}
    right = dict(zip(probe.tasks, measure(probe.tasks, probe.tasks), strict=True))
    values = {
        f"{prefix}_loss": fmean(r.nll for r in right.values()),
        f"{prefix}_exact": fmean(r.exact for r in right.values()),
    }
    sources = {"wrong_prompt_gap": probe.wrong, "operation_gain": probe.other_operation}
    for name, others in sources.items() if compare else ():
        pairs = [(t, s) for t, s in zip(probe.tasks, others, strict=True) if s is not None]
        if pairs:
            # Some tasks may lack wrong prompts, so each is compared with its own right ones, not
            # with the mean of all.
            wrong = [g.nll for g in measure(*zip(*pairs, strict=True))]
            if name == "wrong_prompt_gap":
                values[f"{prefix}_loss_wrong_prompts"] = fmean(wrong)
            values[f"{prefix}_{name}"] = fmean(
                nll - right[task].nll for nll, (task, _) in zip(wrong, pairs, strict=True)
            )
    return {name: round(value, 5) for name, value in values.items()}


@dataclass(frozen=True, slots=True)
class WeightStatistics:
    """How large adapters are, and how different from task to task."""

    norm: float
    """Root mean square of ‖ΔW‖ over tasks."""
    between_share: float
    """Mean squared distance of the tasks' ΔW from their mean, relative to their mean square."""
    cosine: float
    """Mean cosine of the ΔWs of two tasks."""


def weight_statistics(
    tokens: Float[Tensor, "tasks tokens rows cols"], layout: LoRALayout
) -> WeightStatistics:
    """Compare generated adapters, one per task, by inner products of their ΔWs."""
    gram = delta_gram(tuple(tokens), layout)
    count, squares = len(gram), gram.diagonal()
    mean_square = float(squares.mean())
    # At the start B is zero, and so is every ΔW.
    if mean_square == 0 or count < 2:
        return WeightStatistics(mean_square**0.5, 0.0, 1.0)
    # E‖x - mean‖² = E‖x‖² - ‖mean‖², and ‖mean‖² is the mean of all inner products.
    share = 1 - float(gram.mean()) / mean_square
    norms = squares.clamp(min=1e-30).sqrt()
    cosines = gram / norms[:, None] / norms
    # Without the diagonal, whose `count` cosines are 1.
    between = (float(cosines.sum()) - count) / (count * (count - 1))
    return WeightStatistics(mean_square**0.5, max(0.0, share), between)
