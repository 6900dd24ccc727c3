"""How curves are labelled."""

import pytest

from ui.curves import apart, short_number


def test_labels_stand_apart_and_within_the_picture() -> None:
    placed = apart([(0.99, "b"), (0.2, "a"), (1.0, "c")], 0.1)
    assert placed == [(pytest.approx(y), name) for y, name in ((0.11, "a"), (0.9, "b"), (1, "c"))]


def test_numbers_below_one_have_no_leading_zero() -> None:
    told = [short_number(value) for value in (0.14, -0.003, 0, -2.5, 1234)]
    assert told == [".14", "-.003", "0", "-2.5", "1234"]
