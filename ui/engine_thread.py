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
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

__all__ = ["TICK_SECONDS", "EngineThread", "ticking"]

logger = logging.getLogger(__name__)

_GRACE_SECONDS = 0.02
"""How long work waits for a thread that may just have become free."""
TICK_SECONDS = 0.25
"""How often a running clock is redrawn: each time takes from what it shows the time of."""

_END_SECONDS = 60.0
"""How long a process that ends waits for what is being computed."""

_Result = TypeVar("_Result")
_Work = Callable[[], None]


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

    def start(self, work: _Work) -> None:
        """Have work done soon, and return.

        Raises:
            RuntimeError: The process ends.
        """
        with self._idle:
            # What has just been done is told a moment before the thread is free again.
            free = self._idle.wait_for(lambda: not self._busy, timeout=_GRACE_SECONDS)
            if self.ending.is_set():
                raise RuntimeError("The engine computes no more: the process ends.")
            if free:
                self._busy = True
            else:
                self._beside += 1
            if not self._started:
                self._started = True
                atexit.register(self._end)
                threading.Thread(target=self._serve, name="engine", daemon=True).start()
        if free:
            self._work.put(work)
        else:
            _new_thread(lambda: self._serve_once(work))

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

    def ticking(self, steps: Iterator[Any], stop: threading.Event) -> Iterator[Any]:
        """Run an iterator here; see `ticking`."""
        return ticking(steps, stop, self.start, self.ending)

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
            self._idle.wait_for(lambda: not self._busy and not self._beside, timeout=_END_SECONDS)

    def _do(self, work: _Work) -> None:
        self._here.computes = True
        try:
            work()
        except BaseException:
            # Whoever ordered it has been told, or left; the thread goes on for others.
            logger.exception("Work of the engine ended badly")


def _new_thread(work: _Work) -> None:
    """Start work in a thread of its own."""
    threading.Thread(target=work, name="engine-beside", daemon=True).start()


def ticking(
    steps: Iterator[Any],
    stop: threading.Event,
    start: Callable[[_Work], None] = _new_thread,
    ending: threading.Event | None = None,
) -> Iterator[Any]:
    """Run an iterator in a thread; yield its items as they come, and None while it is silent.

    Ends early when `stop` is set. The step that is running then ends unseen, and is the last.

    Args:
        steps: What to run.
        stop: Set by others.
        start: Starts the work in a thread.
        ending: Set when the process ends; like `stop`, but for the last moment.
    """
    out: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    left = threading.Event()

    def run() -> None:
        try:
            for item in steps:
                out.put(("item", item))
                if stop.is_set() or left.is_set() or (ending is not None and ending.is_set()):
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
    start(lambda: context.run(run))
    try:
        while not stop.is_set():
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
