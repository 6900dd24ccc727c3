"""Running an operation to its end."""

from collections.abc import Generator

import pytest

from dnd_engine.progress import duration, finish


def counting(to: int) -> Generator[int, None, str]:
    yield from range(to)
    if to > 5:
        raise ValueError("too far")
    return "made"


def test_an_operation_is_run_to_its_end_and_every_step_is_told() -> None:
    seen: list[int] = []
    assert finish(counting(3), seen.append) == "made"
    assert seen == [0, 1, 2]
    assert finish(counting(0)) == "made"


def test_what_an_operation_raises_comes_through() -> None:
    with pytest.raises(ValueError, match="too far"):
        finish(counting(6))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (42, "42 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (420, "7 min"),
        (7800, "2 h 10 min"),
    ],
)
def test_a_time_is_said_in_units_of_its_size(seconds: float, words: str) -> None:
    assert duration(seconds) == words
