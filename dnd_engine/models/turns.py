"""The lock of a resident base, and who goes first: a visitor who waits, or a check that can.

Everyone takes the lock for a step at a time, but steps of equal right share the machine evenly, and
a chat beside a check then writes a few tokens a second. So urgent work says while it runs, and
patient work takes no step in that time. Knows no models.
"""

import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from contextvars import ContextVar
from typing import TypeVar

__all__ = ["TurnLock", "is_patient", "patient", "urgently"]

_PATIENCE_SECONDS = 20.0
"""How long patient work waits for a step at most. On a server where somebody always chats, a check
would never end otherwise."""

_patient: ContextVar[bool] = ContextVar("patient", default=False)

_Step = TypeVar("_Step")
_Result = TypeVar("_Result")


class TurnLock:
    """A lock that patient work leaves to urgent work; for all other work, a plain lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition()
        self._num_urgent = 0

    def __enter__(self) -> None:
        self._wait_for_urgent()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def locked(self) -> bool:
        """Return whether somebody holds it."""
        return self._lock.locked()

    @contextmanager
    def urgent(self) -> Iterator[None]:
        """Keep patient work from its next step inside the `with` block.

        Does nothing where patient work itself chats or synthesizes.
        """
        count = not _patient.get()
        with self._changed:
            self._num_urgent += count
        try:
            yield
        finally:
            with self._changed:
                self._num_urgent -= count
                self._changed.notify_all()

    def give_way(self) -> None:
        """Let urgent work go first in the middle of what holds the lock, where nothing is active.

        Call it between two forward passes of a long answer. Only patient work ever lets go.
        """
        if _patient.get() and self._num_urgent:
            self._lock.release()
            try:
                self._wait_for_urgent()
            finally:
                self._lock.acquire()

    def _wait_for_urgent(self) -> None:
        if not _patient.get():
            return
        with self._changed:
            self._changed.wait_for(lambda: not self._num_urgent, timeout=_PATIENCE_SECONDS)


def urgently(
    lock: TurnLock, steps: Generator[_Step, None, _Result]
) -> Generator[_Step, None, _Result]:
    """Run an operation as urgent work, from its first step until it ends or is closed."""
    with lock.urgent(), closing(steps):
        return (yield from steps)


@contextmanager
def patient() -> Iterator[None]:
    """Take the lock as patient work inside the `with` block, which must not yield."""
    before = _patient.set(True)
    try:
        yield
    finally:
        _patient.reset(before)


def is_patient() -> bool:
    """Return whether patient work asks: it takes short steps, so that nobody waits for one."""
    return _patient.get()
