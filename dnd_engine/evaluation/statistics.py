"""Intervals for scores of many tasks: a bootstrap whose unit is the family."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Interval", "clustered_interval"]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float


def clustered_interval(
    values: Mapping[str, Sequence[float]], *, seed: int, draws: int = 2000
) -> Interval:
    """Mean over tasks, with an interval that treats a family as the unit.

    Tasks of one family share sources and operations, so they are drawn together: families are
    drawn with replacement, and every task of a drawn family counts.

    Args:
        values: Family to one score per task.
        seed: Of the bootstrap.
        draws: Bootstrap samples.
    """
    families = [np.asarray(v, dtype=float) for v in values.values() if len(v)]
    sums = np.array([v.sum() for v in families])
    counts = np.array([len(v) for v in families])
    chosen = np.random.default_rng(seed).integers(len(families), size=(draws, len(families)))
    means = sums[chosen].sum(axis=1) / counts[chosen].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(sums.sum() / counts.sum()), float(low), float(high))
