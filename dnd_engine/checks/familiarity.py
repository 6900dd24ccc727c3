"""How an adapter and its prompts compare with the generator's training tasks.

Nearness to training tasks is a cosine of mean embeddings. Expectations come from the generator's
report on unseen tasks, if it has one.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from dnd_engine.checks.results import Familiarity, Outlook, Precedent
from dnd_engine.checks.verdict import AdapterVerdict, Agreement
from dnd_engine.generator.folder import TaskCentroid
from dnd_engine.generator.report import Report, VerdictGauge
from dnd_engine.lora.provenance import NearestTask
from dnd_engine.tasks.folder import Mode

_MODE: Mode = "bare"
"""Gains are measured on bare inputs, where the adapter alone must carry the instruction."""


def nearest_tasks(
    prompts: Float[Tensor, "prompts width"], tasks: Sequence[TaskCentroid], count: int = 5
) -> tuple[NearestTask, ...]:
    """Return the training tasks whose prompts are most similar, by cosine of mean embeddings."""
    if not tasks:
        return ()
    here = nn.functional.normalize(prompts.mean(dim=0), dim=0)
    known = torch.from_numpy(np.array([task.centroid for task in tasks], np.float32))
    centroids = nn.functional.normalize(known, dim=1)
    similarities, rows = (centroids @ here).topk(min(count, len(tasks)))
    return tuple(
        NearestTask(tasks[i].slug, tasks[i].description, round(s, 4))
        for s, i in zip(similarities.tolist(), rows.tolist(), strict=True)
    )


def outlook(found: Agreement | None, report: Report | None) -> Outlook | None:
    """Compare an adapter with those of the unseen tasks that its generator was evaluated on.

    These are as the generator made them, before any imprint.
    """
    gauge = report and report.agreement
    if found is None or not gauge:
        return None
    bands = (b for b in gauge.bands if b.mode == _MODE and b.begin <= found.share <= b.end)
    if (band := next(bands, None)) is None:
        return None
    ranked = gauge.predicts_gain.get(_MODE)
    return Outlook(
        n_tasks=band.n_tasks,
        gain=band.gain,
        low=band.low,
        high=band.high,
        rank_correlation=ranked.rank_correlation if ranked else None,
    )


def precedent(verdict: AdapterVerdict | None, gauge: VerdictGauge | None) -> Precedent | None:
    """Compare an imprinted adapter with evaluated ones by its teacher that got the same verdict.

    Returns:
        Their scores; None for a verdict of another kind: by labels, on fitted prompts or on a mix.
    """
    if verdict is None or gauge is None:
        return None
    if verdict.by_labels or not verdict.left_out or verdict.by_bucket:
        return None
    if (band := gauge.band_of(verdict.degree)) is None:
        return None
    return Precedent(n_tasks=band.n_tasks, score=band.score, low=band.low, high=band.high)


def familiarity(
    nearest: Sequence[NearestTask], num_prompts: int, report: Report | None
) -> Familiarity | None:
    """Compare prompts with those of the unseen tasks that the generator was evaluated on."""
    gauge = report and report.similarity
    if not nearest or not gauge:
        return None
    places = [task.similarity for task in gauge.tasks]
    ranked = gauge.predicts_gain.get(_MODE)
    return Familiarity(
        similarity=max(task.similarity for task in nearest),
        num_prompts=num_prompts,
        lowest=min(places),
        highest=max(places),
        n_tasks=len(places),
        rank_correlation=ranked.rank_correlation if ranked else None,
        low=ranked.low if ranked else None,
        high=ranked.high if ranked else None,
    )
