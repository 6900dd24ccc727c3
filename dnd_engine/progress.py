"""Operations that are generators: they yield how far they are, and return what they made."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["Progress", "duration", "finish"]

Step = TypeVar("Step")
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an operation is."""

    stage: str
    """`download`, `load`, `encode`, `decode` or `check`."""
    fraction: float | None
    """Of the stage, 0 to 1; None if it cannot be known."""
    elapsed_seconds: float
    """Since the operation began."""
    detail: str = ""


def duration(seconds: float) -> str:
    """A time as people say it: 42 s, 7 min, 2 h 10 min."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


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
