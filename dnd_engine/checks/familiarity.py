"""How an adapter and its prompts compare with the tasks that the generator has seen.

Nearness to training tasks is a cosine of mean embeddings. What to expect comes from the generator's
report on unseen tasks, if it has one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dnd_engine.checks.results import Agreement, Familiarity, Outlook
from dnd_engine.errors import GeneratorError
from dnd_engine.generator.folder import TaskCentroid
from dnd_engine.lora.provenance import NearestTask

__all__ = ["familiarity", "nearest_tasks", "outlook", "strongest_effect"]

_MODE = "bare"
"""Inputs that gains are told of: without the instruction, the adapter alone must carry it."""


def nearest_tasks(
    prompts: Float[Tensor, "prompts width"], tasks: Sequence[TaskCentroid], count: int = 5
) -> tuple[NearestTask, ...]:
    """Training tasks whose prompts are most like these, by cosine of mean embeddings."""
    if not tasks:
        return ()
    here = nn.functional.normalize(prompts.mean(dim=0), dim=0)
    centroids = nn.functional.normalize(torch.tensor([t.centroid for t in tasks]), dim=1)
    similarities, rows = (centroids @ here).topk(min(count, len(tasks)))
    return tuple(
        NearestTask(tasks[i].slug, tasks[i].description, round(s, 4))
        for s, i in zip(similarities.tolist(), rows.tolist(), strict=True)
    )


def outlook(found: Agreement | None, report: Mapping[str, Any] | None) -> Outlook | None:
    """Place an adapter among those of the unseen tasks that its generator was examined on.

    Args:
        found: How often it agrees with the model that is told the instruction.
        report: The generator's report on held-out tasks, as it lies in its folder.

    Raises:
        GeneratorError: If the report is not one of ours.
    """
    gauge = (report or {}).get("agreement")
    if found is None or not gauge:
        return None
    try:
        bands = (
            band
            for band in gauge["bands"]
            if band["mode"] == _MODE and band["from"] <= found.share <= band["to"]
        )
        if (band := next(bands, None)) is None:
            return None
        correlation = gauge["predicts_gain"].get(_MODE)
        return Outlook(
            n_tasks=int(band["n_tasks"]),
            gain=float(band["gain"]),
            low=float(band["low"]),
            high=float(band["high"]),
            rank_correlation=correlation and float(correlation["rank_correlation"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _damaged(repr(error)) from error


def familiarity(
    nearest: Sequence[NearestTask], num_prompts: int, report: Mapping[str, Any] | None
) -> Familiarity | None:
    """Place prompts among those of the unseen tasks that the generator was examined on.

    Args:
        nearest: Training tasks whose prompts are most like them.
        num_prompts: How many there are.
        report: The generator's report on held-out tasks, as it lies in its folder.

    Raises:
        GeneratorError: If the report is not one of ours.
    """
    gauge = (report or {}).get("similarity")
    if not nearest or not gauge:
        return None
    try:
        places = [float(task["similarity"]) for task in gauge["tasks"]]
        ranked = gauge["predicts_gain"].get(_MODE)
        return Familiarity(
            similarity=max(task.similarity for task in nearest),
            num_prompts=num_prompts,
            lowest=min(places),
            highest=max(places),
            n_tasks=len(places),
            rank_correlation=ranked and float(ranked["rank_correlation"]),
            low=ranked and float(ranked["low"]),
            high=ranked and float(ranked["high"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _damaged(repr(error)) from error


def strongest_effect(report: Mapping[str, Any] | None) -> float | None:
    """Largest effect that an examined adapter had on its own prompts; None if it is not known.

    Raises:
        GeneratorError: If the report is not one of ours.
    """
    value = (report or {}).get("strongest_effect")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _damaged(f"`strongest_effect` is {value!r}")
    return float(value)


def _damaged(fault: str) -> GeneratorError:
    return GeneratorError(
        f"the generator's report on held-out tasks is damaged: {fault}. Write it anew with "
        "`dnd evaluate --card`."
    )
