"""Intervals that treat a family of tasks as the unit, and the tests beside them."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from dnd_engine.errors import ConfigError
from dnd_engine.scoring import statistics
from dnd_engine.scoring.scores import ItemScore
from dnd_engine.scoring.statistics import (
    MIN_UNITS,
    Cell,
    cells,
    clustered_interval,
    holm,
    interval,
    paired,
    rank_correlation,
    share_of_gap,
    sign_test,
    task_means,
)
from tests.present import present


def item(
    slug: str, number: int, score: float, *, draw: int = 0, family: str | None = None
) -> ItemScore:
    return ItemScore(
        row="generator",
        mode="bare",
        draw=draw,
        slug=slug,
        family=family or slug,
        category="x",
        holdout="family",
        item=number,
        score=score,
        exact=score == 1,
        format_ok=None,
        content_ok=None,
        choice=None,
        nll=1.0,
        text="",
    )


def flat(values: dict[str, dict[str, list[float]]]) -> list[Cell]:
    """Family to task to item values, as cells."""
    return [
        Cell(family, task, i, value)
        for family, tasks in values.items()
        for task, found in tasks.items()
        for i, value in enumerate(found)
    ]


def test_the_mean_is_over_tasks_and_the_interval_holds_it() -> None:
    found = clustered_interval({"a": [1.0, 1.0, 0.0], "b": [0.0]}, seed=0)
    assert found.mean == pytest.approx(0.5)
    assert found.low <= found.mean <= found.high


def test_many_tasks_of_one_family_do_not_narrow_the_interval() -> None:
    few = clustered_interval({"a": [1.0], "b": [0.0], "c": [1.0], "d": [0.0]}, seed=0)
    many = clustered_interval(
        {"a": [1.0] * 50, "b": [0.0] * 50, "c": [1.0] * 50, "d": [0.0] * 50}, seed=0
    )
    assert many.high - many.low == pytest.approx(few.high - few.low, abs=0.02)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = {"a": [0.1, 0.4], "b": [0.9], "c": [0.3, 0.2, 0.6]}
    assert clustered_interval(values, seed=3) == clustered_interval(values, seed=3)


def test_draws_are_averaged_within_an_item_and_items_within_a_task() -> None:
    scores = [
        item("a", 0, 1.0, draw=0),
        item("a", 0, 0.0, draw=1),
        item("a", 1, 0.0),
        item("b", 0, 1.0),
    ]
    found = cells(scores, lambda s: s.score)
    assert [c.value for c in found] == [0.5, 0.0, 1.0]
    assert task_means(found) == {"a": {"a": 0.25}, "b": {"b": 1.0}}
    assert interval(found, seed=0).mean == pytest.approx(0.625)


def test_numbers_that_were_not_measured_are_left_out() -> None:
    scores = [item("a", 0, 1.0), item("b", 0, 0.0)]
    assert len(cells(scores, lambda s: s.score if s.slug == "a" else None)) == 1


def test_copies_of_a_task_within_its_family_do_not_narrow_the_interval() -> None:
    once = flat({f: {f: [0.1 * n, 0.2]} for n, f in enumerate("abcdef")})
    copies = [
        Cell(c.family, f"{c.task}-{copy}", c.item, c.value) for c in once for copy in range(20)
    ]
    plain, copied = interval(once, seed=0), interval(copies, seed=0)
    assert (copied.low, copied.high) == pytest.approx((plain.low, plain.high))


def test_the_interval_covers_the_truth_about_as_often_as_it_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Eight families of three tasks with five items: family effects, and item noise of 0 or 1."""
    monkeypatch.setattr(statistics, "DRAWS", 400)
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        chances = rng.beta(2, 2, size=8)  # mean .5
        found = flat(
            {
                f"f{n}": {
                    f"f{n}t{task}": (rng.random(5) < p).astype(float).tolist() for task in range(3)
                }
                for n, p in enumerate(chances)
            }
        )
        inside = interval(found, seed=trial)
        covered += inside.low <= 0.5 <= inside.high
    assert 0.91 <= covered / 300 <= 0.985


def test_one_family_alone_is_judged_by_its_items_and_says_so() -> None:
    found = interval(flat({"a": {"a": [1.0, 0.0, 1.0, 0.0]}}), seed=0)
    assert found.unit == "items"
    assert found.units == 4
    assert found.low < found.mean < found.high


def test_an_interval_tells_when_its_families_or_items_are_too_few_to_rule_out_luck() -> None:
    """The least n with 2^-n under 2.5 %, the share of a tail."""
    assert 2.0**-MIN_UNITS < 0.025 < 2.0 ** -(MIN_UNITS - 1)
    for count in (2, MIN_UNITS - 1, MIN_UNITS):
        many = {f"f{n}": {f"t{n}": [0.1 + 0.01 * n]} for n in range(count)}
        found = interval(flat(many), seed=0)
        assert found.above_zero
        assert (found.units, found.too_few) == (count, count < MIN_UNITS)
    uneven = interval(flat({"a": {"a": [1.0] * 9, "b": [1.0]}}), seed=0)
    assert (uneven.units, uneven.too_few) == (1, True)


def test_no_scores_have_no_interval() -> None:
    with pytest.raises(ConfigError, match="at least one score"):
        interval([], seed=0)


def test_differences_are_of_the_items_that_both_rows_have() -> None:
    ours = flat({"a": {"a": [1.0, 1.0]}, "b": {"b": [0.5]}})
    theirs = flat({"a": {"a": [0.25]}, "c": {"c": [0.0]}})
    assert paired(ours, theirs) == (Cell("a", "a", 0, 0.75),)


def test_pairing_sees_a_small_steady_gain_that_unpaired_intervals_hide() -> None:
    rng = np.random.default_rng(1)
    base = flat({f"f{n}": {f"t{n}": [float(v)]} for n, v in enumerate(rng.random(30))})
    better = [Cell(c.family, c.task, c.item, c.value + 0.03) for c in base]
    difference = interval(paired(better, base), seed=0)
    assert difference.above_zero
    assert interval(better, seed=0).low < interval(base, seed=0).mean


def test_the_share_of_a_gap_is_a_ratio_of_sums() -> None:
    part = flat({"a": {"a": [0.1]}, "b": {"b": [0.3]}, "c": {"c": [0.2]}})
    gap = flat({"a": {"a": [0.8]}, "b": {"b": [0.8]}, "c": {"c": [0.8]}})
    found = present(share_of_gap(part, gap, seed=0))
    assert found.mean == pytest.approx(0.25)
    assert 0.125 <= found.low < 0.25 < found.high <= 0.375


@pytest.mark.parametrize("gap", [[0.0, 0.0, 0.0], [0.6, -0.5, 0.1], [0.01, 0.01, 0.01]])
def test_there_is_no_share_of_a_gap_that_is_not_there(gap: list[float]) -> None:
    part = flat({f: {f: [0.1]} for f in "abc"})
    assert (
        share_of_gap(part, flat({f: {f: [g]} for f, g in zip("abc", gap, strict=True)}), seed=0)
        is None
    )


def test_the_sign_test_gives_the_textbook_values() -> None:
    """39 of 60 and 18 of 24 are the least that pass .05."""
    assert sign_test([1.0] * 5) == pytest.approx(2 / 32)
    assert sign_test([1.0] * 39 + [-1.0] * 21) < 0.05 < sign_test([1.0] * 38 + [-1.0] * 22)
    assert sign_test([1.0] * 18 + [-1.0] * 6) < 0.05 < sign_test([1.0] * 17 + [-1.0] * 7)
    assert sign_test([0.0, 0.0]) == sign_test([]) == sign_test([1.0, -1.0]) == 1.0


def test_ties_do_not_count_in_the_sign_test() -> None:
    assert sign_test([1.0] * 6 + [0.0] * 50) == sign_test([1.0] * 6)


def test_holm_gives_the_textbook_values_in_the_order_given() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([0.6, 0.7]) == (1.0, 1.0)
    assert holm([]) == ()


# Rank correlation


def test_rank_correlation_is_scipys_with_ties() -> None:
    pairs = {"a": [(0.1, 1.0), (0.2, 1.0)], "b": [(0.2, 3.0)], "c": [(0.5, 2.0), (0.9, 8.0)]}
    found = present(rank_correlation(pairs, seed=0))
    flat = [pair for of_family in pairs.values() for pair in of_family]
    expected = spearmanr([x for x, _ in flat], [y for _, y in flat]).statistic
    assert found.mean == pytest.approx(float(expected))
    assert found.low <= found.mean <= found.high


def test_rank_correlation_of_one_order_is_one_and_needs_variety() -> None:
    rising = {str(n): [(n, n**2)] for n in range(1, 8)}
    found = present(rank_correlation(rising, seed=0))
    assert (found.mean, found.low, found.high) == pytest.approx((1, 1, 1))
    assert rank_correlation({str(n): [(n, 1.0)] for n in range(8)}, seed=0) is None
    assert rank_correlation({"a": [(1, 2), (2, 3)], "b": [(3, 1)]}, seed=0) is None
    assert rank_correlation({}, seed=0) is None


def test_a_family_of_many_tasks_does_not_count_as_many_families() -> None:
    """Tasks of a family lie close together: as families of their own they would say far more."""
    places = ((1, 2), (2, 1), (3, 5), (4, 3), (5, 4))
    tasks = [[(x + 0.1 * n, y + 0.1 * n) for n in range(4)] for x, y in places]
    together = rank_correlation({str(n): own for n, own in enumerate(tasks)}, seed=0)
    flat = [pair for own in tasks for pair in own]
    alone = present(rank_correlation({str(n): [pair] for n, pair in enumerate(flat)}, seed=0))
    assert together is not None
    assert alone.mean == together.mean
    assert together.high - together.low > 1.3 * (alone.high - alone.low)
