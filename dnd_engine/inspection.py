"""What an adapter does to its base: effect on the next token, size by layer, nearest tasks.

Measurements only; what is much or little is for the reader, or the window, to say. How familiar
prompts are is told in terms of the generator's own examination on unseen tasks, if there was one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dnd_engine.adapter import Adapter, NearestTask
from dnd_engine.errors import GeneratorError
from dnd_engine.generator import TaskCentroid
from dnd_engine.layout import LoRALayout

__all__ = [
    "Familiarity",
    "Inspection",
    "base_norms",
    "familiarity",
    "kl_to_base",
    "nearest_tasks",
    "relative_norms",
]

_MODE = "bare"
"""Inputs that gains are told of: without the instruction, the adapter alone must carry it."""


@dataclass(frozen=True, slots=True)
class Familiarity:
    """How near prompts are to what the generator was trained on, beside examined unseen tasks."""

    similarity: float
    """To the nearest training task."""
    nearer_than: float
    """Share of the examined tasks whose prompts were further from training than these."""
    n_tasks: int
    gain: float
    """Mean score that adapters added to the base on the third of those tasks which is nearest to
    these prompts in similarity, bare inputs."""
    low: float
    high: float
    """95 % interval of `gain`."""
    rank_correlation: float | None
    """Of similarity and gain over all examined tasks: about 0 where the one says nothing of the
    other. None if it could not be measured."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was measured of one adapter."""

    effect: float | None
    """Mean KL(adapted ‖ base) of the first answer token over the prompts, in nats; None without
    prompts."""
    relative_norms: Mapping[str, tuple[float, ...]]
    """Module name to ‖ΔW‖/‖W‖ (Frobenius) of each layer."""
    nearest_tasks: tuple[NearestTask, ...]
    num_prompts: int
    """Prompts that `effect` was measured on."""
    familiarity: Familiarity | None = None
    """None where the adapter names no nearest tasks, or its generator was not examined."""


def kl_to_base(
    base_logits: Float[Tensor, "rows vocabulary"], adapted_logits: Float[Tensor, "rows vocabulary"]
) -> Float[Tensor, " rows"]:
    """KL(adapted ‖ base) in nats, computed in float32."""
    base = base_logits.float().log_softmax(dim=-1)
    adapted = adapted_logits.float().log_softmax(dim=-1)
    return (adapted.exp() * (adapted - base)).sum(dim=-1)


def base_norms(model: nn.Module, layout: LoRALayout) -> dict[str, float]:
    """Frobenius norm of every target weight, by path."""
    return {
        t.path: float(model.get_parameter(f"{t.path}.weight").float().norm())
        for t in layout.targets
    }


def relative_norms(adapter: Adapter, norms: Mapping[str, float]) -> dict[str, tuple[float, ...]]:
    """‖ΔW‖/‖W‖ per module and layer, without forming ΔW.

    ‖B·A‖² = tr((B^T·B)(A·A^T)), two r-by-r products.
    """
    state = {key: value.float() for key, value in adapter.state.items()}
    found: dict[str, list[float]] = {}
    for target in adapter.layout.targets:
        a = state[f"base_model.model.{target.path}.lora_A.weight"]
        b = state[f"base_model.model.{target.path}.lora_B.weight"]
        squared = torch.trace((b.T @ b) @ (a @ a.T)).clamp(min=0)
        delta = adapter.layout.spec.scaling * float(squared.sqrt())
        found.setdefault(target.module, []).append(delta / norms[target.path])
    return {module: tuple(values) for module, values in found.items()}


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


def familiarity(
    nearest: Sequence[NearestTask], report: Mapping[str, Any] | None
) -> Familiarity | None:
    """Place prompts among the unseen tasks that their generator was examined on.

    Args:
        nearest: Training tasks most like the prompts.
        report: The generator's report on held-out tasks, as it lies in its folder.

    Raises:
        GeneratorError: If the report is not one of ours.
    """
    found = (report or {}).get("similarity")
    if not nearest or not found:
        return None
    here = max(task.similarity for task in nearest)
    try:
        others = [float(task["similarity"]) for task in found["tasks"]]
        thirds = [third for third in found["gains"] if third["mode"] == _MODE]
        if not others or not thirds:
            return None
        third = min(thirds, key=lambda t: max(t["from"] - here, here - t["to"], 0.0))
        correlation = found["predicts_gain"].get(_MODE)
        return Familiarity(
            similarity=here,
            nearer_than=sum(other < here for other in others) / len(others),
            n_tasks=len(others),
            gain=float(third["gain"]),
            low=float(third["low"]),
            high=float(third["high"]),
            rank_correlation=correlation and float(correlation["rank_correlation"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise GeneratorError(
            f"the generator's report on held-out tasks is damaged: {error!r}. Write it anew with "
            "`dnd evaluate --card`."
        ) from error
