"""Intervals that treat a family of tasks as the unit."""

import pytest

from dnd_engine.evaluation.statistics import clustered_interval


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
