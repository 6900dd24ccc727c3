"""Operations that are generators: they yield how far they are, and return what they made."""

from collections.abc import Callable, Generator
from typing import TypeVar

__all__ = ["finish"]

Step = TypeVar("Step")
Made = TypeVar("Made")


def finish(
    steps: Generator[Step, None, Made], on_step: Callable[[Step], object] | None = None
) -> Made:
    """Run an operation to its end.

    Args:
        steps: The operation, not yet ended.
        on_step: Told of every step.

    Returns:
        What it made.
    """
    while True:
        try:
            step = next(steps)
        except StopIteration as stop:
            made: Made = stop.value
            return made
        if on_step is not None:
            on_step(step)
