"""The thread in which the engine computes: one that stays, others only while it is busy.

OpenMP gives a team of workers to every thread that calls it. As soon as all teams together
outnumber the cores, their workers no longer wait awake for the next operation, and on two cores
everything takes half as long again. A server hands its work to whichever thread is free; so what
computes is gathered here, in one thread with one team.
"""

import atexit
import contextvars
import logging
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

from dnd_engine.errors import DndError
from ui.text import _

__all__ = ["TICK_SECONDS", "EngineThread", "Stop"]

logger = logging.getLogger(__name__)

_GRACE_SECONDS = 0.02
"""How long work waits for a thread that may just have become free."""
TICK_SECONDS = 0.25
"""How often a running clock is redrawn: each time takes from what it shows the time of."""

_END_SECONDS = 60.0
"""How long a process that ends waits for what is being computed."""

_Result = TypeVar("_Result")
_Work = Callable[[], None]


class Stop(threading.Event):
    """Ends what is being computed at its next step, once it is set."""


class EngineThread:
    """Runs what computes. While it is busy more work gets threads that end with it.

    A process that ends waits a while for the step that is computed: the interpreter cuts a thread
    off wherever it is, and inside of torch that aborts the process, whatever it had achieved.
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
        self._dismissed = threading.Event()
        """Set for the steps that run now, once they are to end."""

    def start(self, work: _Work, *, beside: bool = False) -> None:
        """Have work done soon, and return.

        Args:
            work: What to do.
            beside: Whether it gets a thread of its own even where this one is free, since it takes
                long and others wait.

        Raises:
            RuntimeError: The process ends.
        """
        with self._idle:
            # What has just been done is reported a moment before the thread is free again.
            free = not beside and self._idle.wait_for(
                lambda: not self._busy, timeout=_GRACE_SECONDS
            )
            if self.ending.is_set():
                raise RuntimeError("The engine computes no more: the process ends.")
            if not self._started:
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
        """End all steps that run here, and wait so long at most until nothing is computed."""
        dismissed, self._dismissed = self._dismissed, threading.Event()
        dismissed.set()
        with self._idle:
            self._idle.wait_for(lambda: not self._busy and not self._beside, timeout=seconds)

    def run(self, function: Callable[..., _Result], *args: Any) -> _Result:
        """Return what a function returns. What runs here already goes on where it is.

        Raises:
            Exception: What the function raises.
        """
        if getattr(self._here, "computes", False):
            return function(*args)
        future: Future[_Result] = Future()
        context = contextvars.copy_context()

        def work() -> None:
            try:
                future.set_result(context.run(function, *args))
            except BaseException as error:  # noqa: BLE001 - raised again by `result`
                future.set_exception(error)

        self.start(work)
        return future.result()

    def ticking(
        self, steps: Iterator[Any], stop: Stop, *, beside: bool = False
    ) -> Generator[Any, None, None]:
        """Run an iterator here; yield its items as they come, and None while it is silent.

        Ends early when `stop` is set. The step that is running then ends unseen, and is the last;
        likewise when the process ends.

        Args:
            steps: What to run.
            stop: Set by others.
            beside: As in `start`.

        Raises:
            DndError: If all steps were dismissed.
        """
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
                close = getattr(steps, "close", None)
                if close is not None:
                    close()

        # Whose request it is goes along: a borrowed GPU is lent to somebody.
        context = contextvars.copy_context()
        self.start(lambda: context.run(run), beside=beside)
        try:
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
            left.set()  # a page that was closed wants no more steps

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
        try:
            work()
        except BaseException:
            # Whoever ordered it has been told, or left; the thread goes on for others.
            logger.exception("Work of the engine ended badly")
