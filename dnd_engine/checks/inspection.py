"""What an adapter does to its base: effect on the next token, size by layer, nearest tasks.

Measurements only; what is much or little is for the reader, or the window, to say. What to expect
is told in terms of the generator's own examination on unseen tasks, if there was one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from dnd_engine.checks.ablation import Conditioning
from dnd_engine.checks.agreement import Agreement
from dnd_engine.errors import AdapterError, GeneratorError
from dnd_engine.generator.folder import TaskCentroid
from dnd_engine.lora.adapter import Adapter, NearestTask
from dnd_engine.lora.layout import LoRALayout
from dnd_engine.lora.provenance import validation_words

__all__ = [
    "Familiarity",
    "Inspection",
    "Outlook",
    "as_checks",
    "base_norms",
    "familiarity",
    "kl_to_base",
    "nearest_tasks",
    "outlook",
    "recall",
    "relative_norms",
    "strongest_effect",
]

_ENOUGH_PROMPTS = 4
"""The mean of fewer lies farther from everything: of 60 examined tasks one prompt put 8 below all
that was examined, two prompts 2, and four to 32 prompts 1 or 2, that lowest task among them."""

_MODE = "bare"
"""Inputs that gains are told of: without the instruction, the adapter alone must carry it."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What adapters like this one did on the unseen tasks that their generator was examined on."""

    n_tasks: int
    """Tasks whose adapters agreed about as often with the model that is told the instruction."""
    gain: float
    """Mean score that these adapters added to the base, on inputs without instruction."""
    low: float
    high: float
    """95 % interval of `gain`."""
    rank_correlation: float | None
    """Of agreement and gain over all examined tasks: about 0 where the one says nothing of the
    other. None if it could not be measured."""


@dataclass(frozen=True, slots=True)
class Familiarity:
    """How near prompts are to training, beside the unseen tasks that the generator was examined on.

    Nearness is the cosine of the mean embedding to that of the nearest training task.
    """

    similarity: float
    num_prompts: int
    """Prompts that it is the mean of."""
    lowest: float
    highest: float
    """Of the examined tasks: how near the least and the most familiar were."""
    n_tasks: int
    """Tasks that were examined."""
    rank_correlation: float | None
    """Of nearness and gain, over them: about 0 where the one says nothing of the other. None if it
    could not be measured."""
    low: float | None
    high: float | None
    """95 % interval of `rank_correlation`."""

    @property
    def is_unlike(self) -> bool:
        """Whether enough prompts are farther from training than all that was ever examined."""
        return self.num_prompts >= _ENOUGH_PROMPTS and self.similarity < self.lowest


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
    agreement: Agreement | None = None
    """Whether the adapter carries the instruction; None without prompts that can say, or if it was
    refined, and so taught what is asked here."""
    outlook: Outlook | None = None
    """None without `agreement`, or if no examined adapter agreed about as often."""
    strongest: float | None = None
    """Largest effect of an adapter in the generator's examination, in nats; None without one."""
    familiarity: Familiarity | None = None
    """None if the nearest tasks are unknown, or without an examination."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checks:
    """As `as_checks` writes it, for what reads it back."""

    effect: float | None = None
    agreement: Agreement | None = None
    outlook: Outlook | None = None
    familiarity: Familiarity | None = None
    conditioning: Conditioning | None = None


_CHECKS = TypeAdapter(_Checks)


def as_checks(
    adapter: Adapter, found: Inspection, proof: Conditioning | None = None
) -> dict[str, Any]:
    """Put what was measured of an adapter into plain values, for `Adapter.checks`."""
    measured = {
        "strength": adapter.strength,
        "effect": found.effect,
        "agreement": found.agreement and asdict(found.agreement),
        "outlook": found.outlook and asdict(found.outlook),
        "familiarity": found.familiarity and asdict(found.familiarity),
        "conditioning": proof and asdict(proof),
    }
    return {name: value for name, value in measured.items() if value is not None}


def kl_to_base(
    base_logits: Float[Tensor, "rows vocabulary"], adapted_logits: Float[Tensor, "rows vocabulary"]
) -> Float[Tensor, " rows"]:
    """KL(adapted ‖ base) in nats, computed in float32."""
    base = base_logits.float().log_softmax(dim=-1)
    adapted = adapted_logits.float().log_softmax(dim=-1)
    return (adapted.exp() * (adapted - base)).sum(dim=-1)


def recall(
    checks: Mapping[str, Any], nearest: Sequence[NearestTask], strongest: float | None
) -> tuple[Inspection | None, Conditioning | None]:
    """Read what was measured before, the reverse of `as_checks`.

    Args:
        checks: Of an adapter that was kept.
        nearest: Its nearest tasks.
        strongest: Of the generator's examination.

    Returns:
        What `as_checks` was given, as far as it is in there; None for what was not measured. How
        many prompts the effect was measured on is not known any more.

    Raises:
        AdapterError: If they are not what `as_checks` writes.
    """
    try:
        kept = _CHECKS.validate_python(checks)
    except ValidationError as error:
        raise AdapterError(
            f"the checks that are kept with the adapter are damaged: {validation_words(error)}. "
            "Measure it anew."
        ) from error
    if kept.effect is None:
        return None, None
    found = Inspection(
        effect=kept.effect,
        relative_norms={},
        nearest_tasks=tuple(nearest),
        num_prompts=0,
        agreement=kept.agreement,
        outlook=kept.outlook,
        strongest=strongest,
        familiarity=kept.familiarity,
    )
    return found, kept.conditioning


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
