"""Intervals, differences and tests for scores of many tasks, with the family as the unit.

Prompt draws are averaged within an item and items within a task; tasks have equal weight. The
bootstrap resamples families only. The mean of a family already contains the noise of its tasks and
items, so resampling items as well would count that noise twice: with k items per task and no
difference between families, the variance doubles. With a single family, nothing can be inferred
about others; then items are resampled, as the interval's `unit` states.

Percentiles are widened for few families, because the plain bootstrap is too narrow there. An
interval of zero width means that no item differed, not that none could: with n families and no
success, a share of up to about 3/n is still possible. Nor can widening exceed the range of the
data: if n families differ by chance alone, all are above zero once in 2^n times, and then even the
widest bootstrap interval is. So with fewer than `MIN_UNITS`, an interval decides nothing.

Source of the widening: Hesterberg 2015, arXiv:1411.5279, "expanded percentiles".
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist, fmean
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from dnd_engine.errors import ConfigError
from dnd_engine.scoring.scores import ItemScore

DRAWS = 2000
"""Number of bootstrap samples."""

MIN_GAP = 0.02
"""Minimum gap; a share of a smaller one would be a ratio of noise, and is not given."""

_LEVEL = 0.95

MIN_UNITS = math.ceil(math.log2(2 / (1 - _LEVEL)))
"""Minimum number of families (or items of a single family) for an interval to decide anything: 6,
so that all are on one side of zero by chance in less than 2.5 %."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float
    units: int
    """Number of resampled families, or items of the task with the fewest."""
    unit: Literal["families", "items"] = "families"
    """Unit of resampling; items only if all tasks are of one family."""

    @property
    def too_few(self) -> bool:
        """Return whether there are too few units for a 95 % interval to mean anything."""
        return self.units < MIN_UNITS

    @property
    def above_zero(self) -> bool:
        """Return whether the interval is above zero."""
        return self.low > 0

    @property
    def below_zero(self) -> bool:
        """Return whether the interval is below zero."""
        return self.high < 0


def with_width(found: Interval, low: float, high: float) -> Interval:
    """Give an interval without width the one that its few equal values leave possible.

    Where all of n values are equal, up to a share z² / (n + z²) of all others may differ (Wilson's
    interval of 0 of n), each by as much as the range of an item, `low` to `high`, allows.
    """
    if found.low < found.high:
        return found
    z2 = NormalDist().inv_cdf((1 + _LEVEL) / 2) ** 2
    share = z2 / (found.units + z2)
    return replace(
        found,
        low=found.mean + share * (low - found.mean),
        high=found.mean + share * (high - found.mean),
    )


class Cell(NamedTuple):
    """One number for one item, averaged over prompt draws. A tuple, because there are very many."""

    family: str
    task: str
    item: int
    value: float


def cells(
    scores: Iterable[ItemScore], value: Callable[[ItemScore], float | None]
) -> tuple[Cell, ...]:
    """Extract a value of every score of one row and mode, and average it over prompt draws.

    Scores whose value is None are skipped.
    """
    found: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    for score in scores:
        number = value(score)
        if number is not None:
            found[score.family, score.slug, score.item].append(float(number))
    return tuple(Cell(*key, fmean(found[key])) for key in sorted(found))


def paired(ours: Iterable[Cell], theirs: Iterable[Cell]) -> tuple[Cell, ...]:
    """Return ours minus theirs, for items that both have."""
    other = {(cell.task, cell.item): cell.value for cell in theirs}
    return tuple(
        cell._replace(value=cell.value - other[cell.task, cell.item])
        for cell in ours
        if (cell.task, cell.item) in other
    )


def task_means(of: Iterable[Cell]) -> dict[str, dict[str, float]]:
    """Return the mean over items, by family and task."""
    items: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for cell in of:
        items[cell.family][cell.task].append(cell.value)
    return {
        family: {task: fmean(values) for task, values in tasks.items()}
        for family, tasks in items.items()
    }


def interval(of: Sequence[Cell], *, seed: int) -> Interval:
    """Compute the mean over tasks and its interval.

    Raises:
        ConfigError: If there is no cell.
    """
    means = task_means(of)
    if len(means) > 1:
        return clustered_interval({f: [*tasks.values()] for f, tasks in means.items()}, seed=seed)
    if not means:
        raise ConfigError("an interval needs at least one score, got none.")
    by_task: dict[str, list[float]] = defaultdict(list)
    for cell in of:
        by_task[cell.task].append(cell.value)
    rng = np.random.default_rng(seed)
    # Items are resampled within their task, so that tasks keep equal weight.
    sums = np.zeros(DRAWS)
    for values in by_task.values():
        drawn = rng.integers(len(values), size=(DRAWS, len(values)))  # (draws, items)
        sums += np.asarray(values)[drawn].mean(axis=1)
    mean = fmean([fmean(values) for values in by_task.values()])
    # Few items need widening just as few families do.
    fewest = min(len(values) for values in by_task.values())
    low, high = _ends(sums / len(by_task), fewest)
    return Interval(mean, low, high, fewest, "items")


def clustered_interval(values: Mapping[str, Sequence[float]], *, seed: int) -> Interval:
    """Compute the mean over tasks, with an interval that treats a family as the unit.

    Tasks of one family share sources and operations, so families are resampled with all their
    tasks. `values` has the tasks' scores by family: at least one family, each with at least one.
    """
    sums, counts = _sums(values)
    chosen = _choices(len(values), seed)
    # A ratio of sums, not a mean of families' means, so that tasks have equal weight.
    means = sums[chosen].sum(axis=1) / counts[chosen].sum(axis=1)
    low, high = _ends(means, len(values))
    return Interval(float(sums.sum() / counts.sum()), low, high, len(values))


def share_of_gap(part: Sequence[Cell], gap: Sequence[Cell], *, seed: int) -> Interval | None:
    """Compute the share of a gap that a part closes: the ratio of their sums over the same tasks.

    The part may be generator minus base, and the gap oracle minus base. Both sums use the same
    resampled families, so that a family has the same weight in both. Single tasks are never
    divided, because their gaps are often pure noise.

    Returns:
        The share; None if the gap is under `MIN_GAP`, its interval includes zero, or there are
        fewer than two families.
    """
    parts, gaps = task_means(part), task_means(gap)
    shared = {
        family: tuple(task for task in tasks if task in gaps.get(family, {}))
        for family, tasks in parts.items()
    }
    shared = {family: tasks for family, tasks in shared.items() if tasks}
    if len(shared) < 2:
        return None
    inner = {f: tuple(gaps[f][task] for task in tasks) for f, tasks in shared.items()}
    whole = clustered_interval(inner, seed=seed)
    if whole.mean < MIN_GAP or not whole.above_zero:
        return None
    above, _ = _sums({f: tuple(parts[f][task] for task in tasks) for f, tasks in shared.items()})
    below, _ = _sums(inner)
    chosen = _choices(len(shared), seed)
    tops, bottoms = above[chosen].sum(axis=1), below[chosen].sum(axis=1)
    positive = bottoms > 0  # nearly all, since the gap's interval is clear of zero
    low, high = _ends(tops[positive] / bottoms[positive], len(shared))
    return Interval(float(above.sum() / below.sum()), low, high, len(shared))


def rank_correlation(
    pairs: Mapping[str, Sequence[tuple[float, float]]], *, seed: int
) -> Interval | None:
    """Compute Spearman's rank correlation over all tasks, resampling families.

    `pairs` has two numbers a task, by family. Samples in which one side is constant are skipped.

    Returns:
        The correlation; None with fewer than three families, or if one side is constant.
    """
    families = [np.asarray(v, dtype=np.float64) for v in pairs.values() if len(v)]
    if len(families) < 3:
        return None
    mean = _spearman(np.concatenate(families))
    if math.isnan(mean):
        return None
    drawn = [
        _spearman(np.concatenate([families[i] for i in chosen]))
        for chosen in _choices(len(families), seed)
    ]
    low, high = _ends(np.array([r for r in drawn if not math.isnan(r)]), len(families))
    return Interval(mean, low, high, len(families))


def sign_test(differences: Iterable[float]) -> float:
    """Compute the exact two-sided sign test of the split into ups and downs.

    Ties are left out. It is a blunt check on the interval: it treats tasks as independent and
    ignores the size of differences.

    Returns:
        The p-value; 1 if nothing differs.
    """
    from scipy.special import bdtr  # SciPy takes a tenth of a second, which few need

    signs = [d > 0 for d in differences if d != 0]
    fewer = min(sum(signs), len(signs) - sum(signs))
    # With as many ups as downs, both tails contain the middle, and their sum exceeds 1.
    return min(1.0, 2 * float(bdtr(fewer, len(signs), 0.5))) if signs else 1.0


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Return Holm's correction of the p-values of one family of contrasts, in the given order."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, i in enumerate(order):
        # A larger p-value must not get a smaller corrected one.
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[i]))
        corrected[i] = highest
    return tuple(corrected)


def _spearman(pairs: Array) -> float:
    """Return Spearman's correlation; NaN if a side is constant. Ties share their mean rank."""
    from scipy.stats import rankdata  # takes half a second, which few who import this need

    ranks = rankdata(pairs, axis=0)
    centred = ranks - ranks.mean(axis=0)
    norms = np.sqrt((centred**2).sum(axis=0))
    return float(centred[:, 0] @ centred[:, 1] / norms.prod()) if norms.all() else math.nan


def _sums(families: Mapping[str, Sequence[float]]) -> tuple[Array, Array]:
    sums = np.array([math.fsum(v) for v in families.values()], dtype=np.float64)
    return sums, np.array([len(v) for v in families.values()], dtype=np.float64)


def _choices(families: int, seed: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(seed).integers(families, size=(DRAWS, families))


def _ends(means: Array, units: int) -> tuple[float, float]:
    from scipy.special import stdtrit  # as above

    tail = (1 - _LEVEL) / 2
    # One unit alone has no degrees of freedom to widen by.
    if units > 1:
        # A bootstrap's variance lacks the factor n/(n-1), and its tails are those of a normal
        # distribution, not of Student's t. So take the percentile where the t interval would end.
        widened = math.sqrt(units / (units - 1)) * float(stdtrit(units - 1, 1 - tail))
        tail = NormalDist().cdf(-widened)
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)
