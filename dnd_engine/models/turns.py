"""The lock of a resident base, which prefers visitors to checks that can wait.

The lock is held for one step at a time. With equal priority, a chat beside a check would get only a
few tokens a second. So urgent work announces itself, and patient work takes no step meanwhile. A
visitor who waits for a first adapter goes even before the imprints of those who have one. Training
lets chats go before each of its steps. Knows no models.
"""

import threading
import time
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from contextvars import ContextVar
from typing import TypeVar

_PATIENCE_SECONDS = 20.0
"""Maximum wait of patient work for a step. Otherwise a check would never end on a server where
somebody always chats."""

_COURTESY_SECONDS = 2.0
"""Maximum wait of an imprint for a step. Otherwise visitors who come one after another would keep
it from ending."""

_CHAT_SECONDS = 1.5
"""Maximum wait of all training together for chats, before each step. On two cores that is 70 tokens
for each step. Otherwise a training would never end on a server where somebody always chats."""

_PASS_SECONDS = 0.3
"""Maximum wait for chats between two forward passes of an answer that training asks for: a few
times what a pass takes."""

_NEXT_SECONDS = 0.05
"""How soon after one visitor the next of a queue begins."""

_patient: ContextVar[bool] = ContextVar("patient", default=False)

_Step = TypeVar("_Step")
_Result = TypeVar("_Result")


class TurnLock:
    """A lock on which patient work yields to urgent work; for all other work, a plain lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition()
        self._urgent = Counter[int]()
        """Urgent work by the thread that began it."""
        self._chats = Counter[int]()
        """Those of it that chat."""
        self._num_awaited = 0
        self._num_hurrying = 0
        self._training = threading.Lock()
        """Held while a training step waits for chats, and during that step."""
        self._lets_chats_in = False
        """Whether the lock's holder gives way to chats; written with the lock only."""
        self._last_awaited = float("-inf")

    def __enter__(self) -> None:
        # Before the lock: with it, this thread would block what it waits for.
        self.wait_for_urgent()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def locked(self) -> bool:
        """Return whether the lock is held."""
        return self._lock.locked()

    @contextmanager
    def urgent(self, *, chats: bool = False) -> Iterator[None]:
        """Make patient work wait inside the `with` block, and training too for a chat.

        Does nothing if patient work itself chats or synthesizes.
        """
        # Read once: a generator may be closed in another context than it began in, and must take
        # back what it added.
        count, thread = not _patient.get(), threading.get_ident()
        with self._changed:
            if count:
                self._urgent[thread] += 1
                self._chats[thread] += chats
        try:
            yield
        finally:
            with self._changed:
                if count:
                    # This also drops zeros.
                    self._urgent -= Counter([thread])
                    self._chats -= Counter([thread] * chats)
                self._changed.notify_all()

    @contextmanager
    def hurrying(self) -> Iterator[None]:
        """Make patient work wait for nobody inside the `with` block: somebody needs its result.

        Does nothing in patient work.
        """
        count = not _patient.get()
        with self._changed:
            self._num_hurrying += count
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._num_hurrying -= count

    @contextmanager
    def after_chats(self, *, lets_in: bool = False) -> Iterator[None]:
        """Hold the lock for a step of training, or of a measurement, once nobody chats.

        It does not wait for chats for ever.

        Args:
            lets_in: Whether `give_way` lets chats in during the step. Do not time such a step.
        """
        # One training at a time, or a chat would be delayed by a step of each.
        with self._training:
            with self._changed:
                self._changed.wait_for(lambda: not _others(self._chats), timeout=_CHAT_SECONDS)
            with self:
                self._lets_chats_in = lets_in
                try:
                    yield
                finally:
                    self._lets_chats_in = False

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Make imprints wait inside the `with` block: a visitor waits for a first adapter.

        Does nothing in patient work. It may wait for an imprint, and the two would wait for each
        other until patience ends.
        """
        if _patient.get():
            yield
            return
        with self._changed:
            self._num_awaited += 1
        try:
            yield
        finally:
            with self._changed:
                self._num_awaited -= 1
                self._last_awaited = time.monotonic()
                self._changed.notify_all()

    def wait_for_awaited(self) -> None:
        """Wait until no visitor waits for a first adapter, or courtesy ends.

        Call it without the lock.
        """
        end = time.monotonic() + _COURTESY_SECONDS
        with self._changed:
            while (now := time.monotonic()) < end:
                # The next of a queue begins a moment after the last.
                free_from = self._last_awaited + _NEXT_SECONDS
                if not self._num_awaited and now >= free_from:
                    return
                self._changed.wait((end if self._num_awaited else min(end, free_from)) - now)

    def give_way(self) -> None:
        """Let urgent work run while this thread holds the lock and no adapter is active.

        Call it between two forward passes of a long answer. Only patient work yields, and
        steps of `after_chats` that let chats in.
        """
        # Read without the condition: an outdated number costs one forward pass at most.
        for_all, lets_in = self._must_wait(), self._lets_chats_in
        if not for_all and not (lets_in and _others(self._chats)):
            return
        self._lets_chats_in = False
        self._lock.release()
        try:
            if for_all:
                self.wait_for_urgent()
            else:
                with self._changed:
                    self._changed.wait_for(lambda: not _others(self._chats), timeout=_PASS_SECONDS)
        finally:
            # The caller's `with` block releases the lock, so it must be held even after an error.
            self._lock.acquire()
            self._lets_chats_in = lets_in

    def wait_for_urgent(self) -> None:
        """Wait until nothing is urgent, or patience ends. Only patient work waits."""
        if not _patient.get():
            return
        with self._changed:
            self._changed.wait_for(lambda: not self._must_wait(), timeout=_PATIENCE_SECONDS)

    def _must_wait(self) -> bool:
        return _patient.get() and not self._num_hurrying and _others(self._urgent)


def _others(work: Mapping[int, int]) -> bool:
    """Return whether another thread than this one does such work.

    A chat that this thread has begun, and takes to its end, takes no step while the thread waits.
    """
    # A copy, because this is also called without the condition.
    here = threading.get_ident()
    return any(count and thread != here for thread, count in list(work.items()))


def urgently(
    lock: TurnLock, steps: Generator[_Step, None, _Result]
) -> Generator[_Step, None, _Result]:
    """Run an operation as urgent work, until it ends or is closed."""
    with lock.urgent(), closing(steps):
        return (yield from steps)


@contextmanager
def patient() -> Iterator[None]:
    """Take the lock with patient priority inside the `with` block, which must not yield."""
    # A generator shares its caller's context: a yield inside would make the caller patient too.
    before = _patient.set(True)
    try:
        yield
    finally:
        _patient.reset(before)


def is_patient() -> bool:
    """Return whether the caller is patient work, which takes short steps so that nobody waits."""
    return _patient.get()
