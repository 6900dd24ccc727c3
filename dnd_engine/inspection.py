"""What an adapter does to its base: effect on the next token, size by layer, nearest tasks.

Measurements only; what is much or little is for the reader, or the window, to say. What to expect
is told in terms of the generator's own examination on unseen tasks, if there was one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dnd_engine.adapter import Adapter, NearestTask
from dnd_engine.agreement import Agreement
from dnd_engine.conditioning import Conditioning, Control
from dnd_engine.errors import AdapterError, GeneratorError
from dnd_engine.generator import TaskCentroid
from dnd_engine.layout import LoRALayout

__all__ = [
    "Inspection",
    "Outlook",
    "as_checks",
    "base_norms",
    "kl_to_base",
    "nearest_tasks",
    "outlook",
    "recall",
    "relative_norms",
    "strongest_effect",
]

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


def as_checks(
    adapter: Adapter, found: Inspection, proof: Conditioning | None = None
) -> dict[str, Any]:
    """Put what was measured of an adapter into plain values, for `Adapter.checks`."""
    measured = {
        "strength": adapter.strength,
        "effect": found.effect,
        "agreement": found.agreement and asdict(found.agreement),
        "outlook": found.outlook and asdict(found.outlook),
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
    if checks.get("effect") is None:
        return None, None
    try:
        agreed, worth, proof = (checks.get(k) for k in ("agreement", "outlook", "conditioning"))
        found = Inspection(
            effect=float(checks["effect"]),
            relative_norms={},
            nearest_tasks=tuple(nearest),
            num_prompts=0,
            agreement=agreed and Agreement(**agreed),
            outlook=worth and Outlook(**worth),
            strongest=strongest,
        )
        if proof:
            controls = tuple(Control(**control) for control in proof["controls"])
            proof = Conditioning(
                **{**proof, "controls": controls, "wrong_from": tuple(proof["wrong_from"])}
            )
    except (KeyError, TypeError, ValueError) as error:
        raise AdapterError(
            f"the checks that are kept with the adapter are damaged: {error!r}. Measure it anew."
        ) from error
    return found, proof or None


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
        raise GeneratorError(
            f"the generator's report on held-out tasks is damaged: {error!r}. Write it anew with "
            "`dnd evaluate --card`."
        ) from error


def strongest_effect(report: Mapping[str, Any] | None) -> float | None:
    """Largest effect that an examined adapter had on its own prompts; None if it is not known.

    Raises:
        GeneratorError: If the report is not one of ours.
    """
    value = (report or {}).get("strongest_effect")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise GeneratorError(
            f"the generator's report on held-out tasks is damaged: `strongest_effect` is {value!r}."
            " Write it anew with `dnd evaluate --card`."
        )
    return float(value)
