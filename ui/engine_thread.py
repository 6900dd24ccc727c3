"""The thread that runs the engine, with temporary ones while it is busy.

OpenMP gives a team of workers to every thread that uses it. Once all teams together outnumber the
cores, workers no longer wait actively for the next operation, and on two cores everything takes
half as long again. A server would run handlers in any free thread, so computation is gathered here,
in one thread with one team, as far as it does not run at the same time. (Where threads wait asleep,
as `app.py` asks of OpenMP, chats of several threads lose nothing by their teams.)
"""

import atexit
import contextvars
import logging
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

from dnd_engine.errors import DndError
from dnd_engine.models.allocator import give_back
from ui.text import _

logger = logging.getLogger(__name__)

_GRACE_SECONDS = 0.02
"""How long work waits for a thread that may be about to become free."""
TICK_SECONDS = 0.25
"""Interval of redrawing a running clock: each redraw takes time from the computation."""

_LONG_SECONDS = 1.0
"""Work that takes at least this long gives memory back. An export would otherwise keep 400 MB."""

_END_SECONDS = 60.0
"""Maximum wait of an ending process for the step being computed."""

_Result = TypeVar("_Result")
_Work = Callable[[], None]


class Stop(threading.Event):
    """Cancels a computation at its next step, once set."""


class EngineThread:
    """Runs computations. While it is busy, further ones get temporary threads.

    An ending process waits a while for the current step: the interpreter kills threads at any
    point, and inside torch that aborts the process.
    """

    def __init__(self) -> None:
        self.ending = threading.Event()
        """Set when the process ends."""
        self._idle = threading.Condition()
        self._work: queue.SimpleQueue[_Work] = queue.SimpleQueue()
        self._started = False
        self._busy = False
        self._beside = 0
        self._here = threading.local()
        self.prepare: Callable[[], None] = lambda: None
        """Called in each thread before it computes."""
        self._dismissed = threading.Event()
        """Set to end the current steps."""

    def start(self, work: _Work, *, beside: bool = False) -> None:
        """Start work without waiting for it.

        With `beside`, use a separate thread even if this one is free, because the work takes long.

        Raises:
            RuntimeError: If the process is ending.
        """
        with self._idle:
            # The result of finished work arrives a moment before its thread is free again.
            free = not beside and self._idle.wait_for(
                lambda: not self._busy, timeout=_GRACE_SECONDS
            )
            if self.ending.is_set():
                raise RuntimeError("The engine computes no more: the process ends.")
            if not self._started:
                # A daemon, because at exit the interpreter would wait for it for ever. `_end` waits
                # instead, for a limited time.
                threading.Thread(target=self._serve, name="engine", daemon=True).start()
                atexit.register(self._end)
                self._started = True
            if free:
                self._busy = True
                self._work.put(work)
            else:
                threading.Thread(
                    target=self._serve_once, args=(work,), name="engine-beside", daemon=True
                ).start()
                self._beside += 1

    def dismiss(self, seconds: float) -> None:
        """Cancel all running steps, and wait at most this long for them."""
        # A new event first, so that what starts from now on is not dismissed.
        dismissed, self._dismissed = self._dismissed, threading.Event()
        dismissed.set()
        with self._idle:
            self._idle.wait_for(lambda: not self._busy and not self._beside, timeout=seconds)

    def run(self, function: Callable[..., _Result], *args: Any) -> _Result:
        """Run a function in this thread and return its result; calls from this thread run directly.

        Raises:
            Exception: Raised by the function.
        """
        if getattr(self._here, "computes", False):
            return function(*args)
        future: Future[_Result] = Future()
        # The visitor's language goes along.
        context = contextvars.copy_context()

        def work() -> None:
            try:
                future.set_result(context.run(function, *args))
            except BaseException as error:  # noqa: BLE001 - raised again by `result`
                future.set_exception(error)

        self.start(work)
        return future.result()

    def ticking(
        self, steps: Iterator[Any], stop: Stop | None = None, *, beside: bool = False
    ) -> Generator[Any, None, None]:
        """Run an iterator in this thread; yield its items, and None at each tick without one.

        Ends early when `stop` is set or the process ends. The running step is then the last, and
        its result is dropped. See `start` for `beside`.

        Raises:
            DndError: If all steps were dismissed.
        """
        stop = stop or Stop()
        # Keep the current event, because `dismiss` puts another in its place.
        dismissed = self._dismissed
        out: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        left = threading.Event()

        def run() -> None:
            try:
                for item in steps:
                    out.put(("item", item))
                    if any(one.is_set() for one in (stop, left, dismissed, self.ending)):
                        break
            except BaseException as error:  # noqa: BLE001 - raised again below, in the handler
                out.put(("error", error))
            else:
                out.put(("end", None))
            finally:
                # Not in the handler: a generator that another thread runs cannot be closed.
                close = getattr(steps, "close", None)
                if close is not None:
                    close()

        # Copy the context of the request: ZeroGPU lends a GPU to its visitor.
        context = contextvars.copy_context()
        self.start(lambda: context.run(run), beside=beside)
        try:
            # Stop ends this loop at once, although the current step is still computed to its end.
            while not stop.is_set():
                if dismissed.is_set():
                    raise DndError(_("Ended: other models are loaded. Start it again."))
                try:
                    kind, item = out.get(timeout=TICK_SECONDS)
                except queue.Empty:
                    yield None
                    continue
                if kind == "error":
                    raise item
                if kind == "end":
                    return
                yield item
        finally:
            left.set()  # the page was closed and wants no more steps

    def _serve(self) -> None:
        while True:
            self._do(self._work.get())
            with self._idle:
                self._busy = False
                self._idle.notify_all()

    def _serve_once(self, work: _Work) -> None:
        self._do(work)
        with self._idle:
            self._beside -= 1
            self._idle.notify_all()

    def _end(self) -> None:
        with self._idle:
            self.ending.set()
            if self._busy or self._beside:
                logger.warning("Waiting for what is being computed")
            self._idle.wait_for(lambda: not self._busy and not self._beside, timeout=_END_SECONDS)

    def _do(self, work: _Work) -> None:
        self._here.computes = True
        started = time.monotonic()
        try:
            self.prepare()
            work()
        except BaseException:
            # The caller has been told or has left; the thread goes on for others.
            logger.exception("Work of the engine ended badly")
        if time.monotonic() - started >= _LONG_SECONDS:
            give_back()
