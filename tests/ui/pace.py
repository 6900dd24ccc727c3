"""Lets a test hold a `FakeEngine` in a state until it has looked, however slow the machine is."""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeVar

_Work = Literal["chat", "export", "imprint", "measure", "refine", "synthesis", "train"]
_Step = TypeVar("_Step")


class Pace:
    """Computes at once, but for what a test holds."""

    def __init__(self) -> None:
        self._held: dict[_Work, int] = {}
        self._changed = threading.Condition()

    @contextmanager
    def held(self, work: _Work, at: int = 1) -> Iterator[None]:
        """Keep work of a kind at its step number `at`, where it can be stopped."""
        with self._changed:
            self._held[work] = at
        try:
            yield
        finally:
            with self._changed:
                del self._held[work]
                self._changed.notify_all()

    def goes_on(self, work: _Work, step: int, seconds: float) -> bool:
        """Wait for a moment at most; return whether nobody holds this step any more."""
        with self._changed:
            return self._changed.wait_for(
                lambda: step < self._held.get(work, math.inf), timeout=seconds
            )

    def stay(self, work: _Work, step: int, said: _Step) -> Iterator[_Step]:
        """Say what was said again while this step is held: who stopped the work ends it there."""
        while not self.goes_on(work, step, 0.1):
            yield said
