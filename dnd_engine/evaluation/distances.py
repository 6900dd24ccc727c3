"""How generated adapters lie to each other and to training adapters, as weight changes ΔW = B·A.

Everything follows from inner products of ΔW (see `delta`), so hundreds of adapters are compared at
the cost of r by r products. Knows weight tokens and layouts; knows no prompts, tasks or scores.

ΔW is compared, never A and B themselves: the same ΔW has endlessly many factors. All adapters share
much (the common part of a generator, the answer style of all training tasks), so raw cosines are
high for any pair; *centred* ones are taken after subtracting the mean ΔW over tasks.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from jaxtyping import Float
from torch import Tensor

from dnd_engine.errors import ConfigError
from dnd_engine.generator.report import Closeness, Cosine, Distances
from dnd_engine.lora.delta import delta_gram
from dnd_engine.lora.layout import LoRALayout

_RIDGE = 1e-8
"""Share of the mean squared norm. Training ΔWs may be linearly dependent, or nearly so."""

_ROUNDING = 1e-6
"""Squared norms below this share of the largest are rounding errors of float32: where all adapters
are the same, that is what centring leaves."""

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


def measure_distances(
    generated: Mapping[str, Sequence[Float[Tensor, "tokens rows cols"]]],
    training: Mapping[str, Float[Tensor, "tokens rows cols"]],
    layout: LoRALayout,
    source: Literal["", "generated", "collected"] = "",
) -> tuple[Cosine, Distances]:
    """Compare generated adapters with each other and with training adapters.

    Args:
        generated: Task to its adapters, one per prompt draw.
        training: Training task to its adapter; may be empty.
        layout: Layout of all adapters.
        source: Where the training adapters come from.

    Returns:
        Mean cosines over pairs, of two prompt draws of one task and of two tasks, and the rest.
        Comparisons with training need at least two training adapters that differ.

    Raises:
        ConfigError: If no adapter was generated.
        LayoutMismatchError: If a grid is not the layout's.
    """
    tasks = [slug for slug, adapters in generated.items() if adapters]
    if not tasks:
        raise ConfigError("distances need at least one generated adapter, got none.")
    draws = [len(generated[slug]) for slug in tasks]
    owners = np.repeat(np.arange(len(tasks)), draws)  # index of each generated adapter's task
    everything = [a for slug in tasks for a in generated[slug]]
    everything += training.values()
    # Generated adapters first, in the order of `owners`, then those of training.
    products = delta_gram(everything, layout).numpy()
    mine = products[: len(owners), : len(owners)]
    # Tasks count alike in the mean, however many draws they have.
    weights = np.repeat([1 / (len(tasks) * count) for count in draws], draws)
    floor = _ROUNDING * float(np.diag(mine).max())
    pairs = {
        **_pairs(_cosines(mine, floor), owners, ""),
        **_pairs(_cosines(_centre(mine, weights), floor), owners, "_centred"),
    }
    nearest = outside_span = None
    if len(training) > 1:
        # Only training adapters make the centre and the unit: what is examined must not move what
        # it is measured by.
        weights = np.concatenate([np.zeros(len(owners)), np.full(len(training), 1 / len(training))])
        centred = _centre(products, weights)
        norms = np.diag(centred)[len(owners) :]
        # Of training adapters that are all alike, centring leaves rounding errors to divide by.
        if norms.mean() > _ROUNDING * np.abs(products).max():
            nearest = _nearest(centred, owners, tasks, len(training))
            outside_span = _outside_span(centred, owners, tasks, len(training))
    return Cosine(
        **{name: _round(of.mean()) if len(of) else None for name, of in pairs.items()}
    ), Distances(
        n_tasks=len(tasks),
        n_adapters=len(owners),
        n_training=len(training),
        nearest=nearest,
        outside_span=outside_span,
        training=source,
    )


def _centre(products: Array, weights: Array) -> Array:
    """Inner products after subtracting the weighted mean of all."""
    # With m the weighted mean, <a - m, b - m> = <a, b> - <a, m> - <b, m> + <m, m>.
    toward = products @ weights
    centred: Array = products - toward[:, None] - toward[None, :] + weights @ toward
    return centred


def _cosines(products: Array, floor: float) -> Array:
    """Not a number where a squared norm is not above the floor."""
    squared = np.diag(products)
    norms = np.sqrt(np.where(squared > floor, squared, np.nan))
    cosines: Array = np.clip(products / np.outer(norms, norms), -1, 1)
    return cosines


def _pairs(cosines: Array, owners: Indices, suffix: str) -> dict[str, Array]:
    # Each pair once, and no adapter with itself.
    known = np.triu(np.ones_like(cosines, dtype=bool), k=1) & ~np.isnan(cosines)
    same = owners[:, None] == owners[None, :]
    return {
        f"same_task{suffix}": cosines[known & same],
        f"different_task{suffix}": cosines[known & ~same],
    }


def _nearest(centred: Array, owners: Indices, tasks: Sequence[str], training: int) -> Closeness:
    count = len(owners)
    squared = np.diag(centred)
    # The root mean square norm of the training adapters.
    unit = float(np.sqrt(squared[count:].mean()))
    # ‖a - b‖² = ‖a‖² + ‖b‖² - 2 <a, b>, which rounding may put just below zero.
    distances = np.sqrt(np.clip(squared[:, None] + squared[None, :] - 2 * centred, 0, None)) / unit
    to_training = distances[:count, count:]
    # No adapter is its own nearest.
    between = distances[count:, count:] + np.diag(np.full(training, np.inf))
    return _against(to_training.min(axis=1), owners, tasks, between.min(axis=1))


def _outside_span(
    centred: Array, owners: Indices, tasks: Sequence[str], training: int
) -> Closeness:
    count = len(owners)
    # Inner products of training adapters with each other, and with generated ones.
    inner, side = centred[count:, count:], centred[count:, :count]
    ridge = _RIDGE * float(np.trace(inner)) / training
    # The squared norm of a projection onto the span, from inner products alone: sᵀ G⁻¹ s.
    inside = (side * np.linalg.solve(inner + ridge * np.eye(training), side)).sum(axis=0)
    left_out = np.empty(training)
    for i in range(training):
        others = np.flatnonzero(np.arange(training) != i)
        # The mean of all holds the left-out adapter, which would give its direction away.
        weights = np.where(np.arange(training) == i, 0.0, 1 / (training - 1))
        again = _centre(inner, weights)
        square = again[np.ix_(others, others)] + ridge * np.eye(training - 1)
        toward = again[others, i]
        left_out[i] = _outside(again[i, i], toward @ np.linalg.solve(square, toward))
    return _against(_outside(np.diag(centred)[:count], inside), owners, tasks, left_out)


def _outside(squared: Any, inside: Any) -> Any:
    """Share of a norm that is left, from the squared norm and its squared part inside."""
    whole = np.maximum(squared, np.finfo(np.float64).tiny)
    return np.sqrt(np.clip(1 - inside / whole, 0, 1))


def _against(values: Array, owners: Indices, tasks: Sequence[str], left_out: Array) -> Closeness:
    mine, theirs = float(np.median(values)), float(np.median(left_out))
    return Closeness(
        generated={slug: _round(values[owners == i].mean()) for i, slug in enumerate(tasks)},
        median=_round(mine),
        training_median=_round(theirs),
        ratio=_round(mine / theirs) if theirs > 0 else None,
    )


def _round(value: Any) -> float:
    """Six places: same-task cosines differ in the fourth. No negative zero."""
    return round(float(value), 6) + 0.0
