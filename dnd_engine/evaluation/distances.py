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
    nearest = None
    if len(training) > 1:
        # Only training adapters make the centre and the unit: what is examined must not move what
        # it is measured by.
        weights = np.concatenate([np.zeros(len(owners)), np.full(len(training), 1 / len(training))])
        centred = _centre(products, weights)
        norms = np.diag(centred)[len(owners) :]
        # Of training adapters that are all alike, centring leaves rounding errors to divide by.
        if norms.mean() > _ROUNDING * np.abs(products).max():
            nearest = _nearest(centred, owners, tasks, len(training))
    return Cosine(
        **{name: _round(of.mean()) if len(of) else None for name, of in pairs.items()}
    ), Distances(
        n_tasks=len(tasks),
        n_training=len(training),
        nearest=nearest,
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
    mine, theirs = to_training.min(axis=1), between.min(axis=1)
    middle, training_middle = float(np.median(mine)), float(np.median(theirs))
    return Closeness(
        generated={slug: _round(mine[owners == i].mean()) for i, slug in enumerate(tasks)},
        median=_round(middle),
        training_median=_round(training_middle),
        ratio=_round(middle / training_middle) if training_middle > 0 else None,
    )


def _round(value: Any) -> float:
    """Six places: same-task cosines differ in the fourth. No negative zero."""
    return round(float(value), 6) + 0.0
