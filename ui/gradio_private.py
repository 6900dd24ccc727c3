"""What has no public name in Gradio's queue and sessions; nothing else touches private parts."""

import inspect
import time
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import gradio as gr
from fastapi import HTTPException
from gradio.context import LocalContext
from gradio.route_utils import FnIndexInferError
from gradio.routes import file_upload_statuses
from gradio.state_holder import SessionState, StateHolder

from dnd_engine.limits import ServerLimits
from ui.language import language_of
from ui.text import _, speaking
from ui.traffic import sender_of

__all__ = [
    "LAUNCH_SETTINGS",
    "MAX_ID_CHARS",
    "QUEUE_SETTINGS",
    "UNKNOWN_EVENT",
    "Pages",
    "bound_queue",
    "caller_left",
    "calm_queue",
    "forget_upload",
    "launch_settings",
    "name_unknown_events",
    "queue_gauges",
    "too_long_id",
]

MAX_ID_CHARS = 100
"""Longest name that a client may give its session or upload: Gradio keeps thousands of them. Its
own have about ten characters."""

QUEUE_SETTINGS: dict[str, Any] = {
    # Gradio looks for work a thousand times a second, and each look holds up the engine's thread:
    # a token took 9 % longer.
    "sleep_when_free": 0.01,
    # Nothing here sends `gr.Progress`.
    "progress_update_sleep_when_free": 1.0,
    # After every event it sums all of them up with pandas, for a page that is not served here.
    "ANAYLTICS_CACHE_FREQUENCY": 1_000_000,  # as Gradio spells it
}


LAUNCH_SETTINGS: dict[str, Any] = {
    # Gradio asks for its own page once, and does not start if that takes more than three seconds,
    # as it does on a busy machine.
    "_frontend": False,
}
"""Arguments of `launch` without a public name; see `launch_settings`."""


def launch_settings() -> dict[str, Any]:
    """Return `LAUNCH_SETTINGS`, but for those that this version of Gradio does not have.

    `tests/ui/test_gradio_private.py` says when one is gone.
    """
    known = inspect.signature(gr.Blocks.launch).parameters
    return {name: value for name, value in LAUNCH_SETTINGS.items() if name in known}


class _UnknownEventError(KeyError):
    """A call names an event by a number that none has."""


UNKNOWN_EVENT = (_UnknownEventError, FnIndexInferError)
"""What Gradio's routes end with if a call names no event of the page."""


class _Events(dict[Any, Any]):
    def __missing__(self, key: Any) -> Any:
        raise _UnknownEventError(key)


def name_unknown_events(demo: gr.Blocks) -> None:
    """Have a call of an event that does not exist end with `UNKNOWN_EVENT`.

    Gradio's routes end with a KeyError there, which could be anything.
    """
    demo.default_config.fns = _Events(demo.default_config.fns)


def calm_queue(demo: gr.Blocks) -> None:
    """Have the queue look less often for what is rare here; call it after `demo.queue`.

    A setting that this version of Gradio does not have is left out: it saves time and changes
    nothing else. `tests/ui/test_gradio_private.py` says when one is gone or has a public name.
    """
    queue = demo._queue
    for name, value in QUEUE_SETTINGS.items():
        if hasattr(queue, name):
            setattr(queue, name, value)


def bound_queue(demo: gr.Blocks, limits: ServerLimits) -> None:
    """Have the queue hold so many calls of one address, and tell those it cannot hold what to do.

    Without it one client fills the queue with calls that it never listens to.
    """
    queue = demo._queue
    queue.max_size = None  # counted here, with words of our own
    push = queue.push

    async def push_within_limits(body: Any, request: Any, username: str | None) -> Any:
        with speaking(language_of(request)):
            refuse_beyond_limits(body, request)
        return await push(body=body, request=request, username=username)

    def refuse_beyond_limits(body: Any, request: Any) -> None:
        if len(body.session_hash or "") > MAX_ID_CHARS:
            raise HTTPException(HTTPStatus.BAD_REQUEST, too_long_id())
        if body.fn_index not in demo.fns:
            raise _UnknownEventError(body.fn_index)
        waiting = [e for lane in queue.event_queue_per_concurrency_id.values() for e in lane.queue]
        if len(waiting) >= limits.queued_calls:
            words = _(
                "The app is busy: {number} calls wait already. Try again in a minute, or run the "
                "app on your own computer.",
                number=len(waiting),
            )
            # Gradio's page answers a 503 with words of its own, in English.
            by_page = "sec-fetch-site" in request.headers
            busy = HTTPStatus.TOO_MANY_REQUESTS if by_page else HTTPStatus.SERVICE_UNAVAILABLE
            raise HTTPException(busy, words, headers={"Retry-After": "60"})
        running = [event for job in queue.active_jobs if job for event in job if event.alive]
        visitor = sender_of(request)
        mine = sum(sender_of(event.request) == visitor for event in (*waiting, *running))
        if mine >= limits.queued_calls_per_visitor:
            raise HTTPException(
                HTTPStatus.TOO_MANY_REQUESTS,
                _(
                    "{number} calls from your address wait or run already, which is the limit. "
                    "Wait for their answers first.",
                    number=mine,
                ),
                headers={"Retry-After": "10"},
            )

    queue.push = push_within_limits  # type: ignore[method-assign]  # this queue alone


def too_long_id() -> str:
    """Say that a client's name for its session or upload is too long."""
    return _(
        "session_hash and upload_id: expected at most {number} characters.", number=MAX_ID_CHARS
    )


def forget_upload(upload_id: str) -> None:
    """Let go of how far an upload was: Gradio keeps some of that for ever."""
    file_upload_statuses.stop_tracking(upload_id)
    file_upload_statuses._signals.pop(upload_id, None)


def queue_gauges(demo: gr.Blocks) -> dict[str, float]:
    """Return how many calls wait and run."""
    queue = demo._queue
    return {
        "calls_waiting": len(queue),
        "calls_running": sum(len(job) for job in queue.active_jobs if job),
    }


def caller_left() -> Callable[[], bool]:
    """Return what tells whether the caller of the event that runs here has gone away.

    Gradio stops the steps of a generator whose page was closed, but lets a plain function go on.
    """
    blocks, event_id = LocalContext.blocks.get(None), LocalContext.event_id.get(None)
    if blocks is None or event_id is None:
        return lambda: False  # called directly: nobody waits in the queue
    events = blocks._queue.event_ids_to_events

    def left() -> bool:
        event = events.get(event_id)
        return event is None or not event.alive

    return left


class Page(SessionState):
    """What the server holds of one open page: the state of its components."""

    def __init__(self, blocks: gr.Blocks, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.used = clock()
        self.closed: float | None = None
        super().__init__(blocks)
        # A copy of the whole page's configuration, .7 MB for each visitor, from which Gradio makes
        # links that restore a page. The gate closes those.
        self.config_values = _Nothing()

    @property
    def is_closed(self) -> bool:
        """Whether its browser tab was closed, and nothing came from it since."""
        return self.closed is not None and self.used <= self.closed

    @is_closed.setter
    def is_closed(self, closed: bool) -> None:  # Gradio sets it
        self.closed = self._clock() if closed else None


class _Nothing(dict[Any, Any]):
    """A dict that keeps nothing and has an empty dict for everything."""

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def __missing__(self, key: Any) -> dict[Any, Any]:
        return {}


class Pages(StateHolder):
    """The open pages: so many, and none for long after its tab was closed.

    Gradio's own holder keeps 10,000 pages, open or closed, until others need their place.

    Args:
        blocks: What the pages show.
        limits: How many, and how long.
        clock: Tells the time in seconds.
    """

    def __init__(
        self,
        blocks: gr.Blocks,
        limits: ServerLimits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Gradio's
        self.set_blocks(blocks)
        self._limits, self._clock = limits, clock
        self._attended: Counter[str] = Counter()

    def __getitem__(self, session_id: str) -> SessionState:
        """Return the page of a session; a new one takes the place of the one missed least."""
        page = self.session_data.get(session_id)
        if page is None:
            if len(session_id) > MAX_ID_CHARS:
                raise HTTPException(HTTPStatus.BAD_REQUEST, too_long_id())
            while len(self.session_data) >= self._limits.sessions:
                self._drop(min(self.session_data, key=self._missed))
            page = self.session_data[session_id] = Page(self.blocks, self._clock)
        assert isinstance(page, Page)
        page.used = self._clock()
        return page

    def gauges(self) -> dict[str, float]:
        """Return how many pages there are, and how many stay connected."""
        return {"pages": len(self.session_data), "pages_connected": len(self._attended)}

    def attend(self, session_id: str) -> None:
        """Note that a page is open in a browser that stays connected."""
        self._attended[session_id] += 1

    def abandon(self, session_id: str) -> None:
        """Note that one of its connections ended."""
        self._attended[session_id] -= 1
        self._attended += Counter()  # without those at 0

    def delete_all_expired_state(self) -> None:
        """Drop pages that were closed or unused for long. Gradio calls this each second."""
        now = self._clock()
        for session_id, page in list(self.session_data.items()):
            assert isinstance(page, Page)
            closed = page.is_closed and now - page.used > self._limits.closed_seconds
            if closed or now - page.used > self._limits.session_seconds:
                self._drop(session_id)

    def _missed(self, session_id: str) -> tuple[bool, float]:
        """Order pages: those nobody looks at go first, those used longest ago before others."""
        page = self.session_data[session_id]
        assert isinstance(page, Page)
        return self._attended[session_id] > 0 and not page.is_closed, page.used

    def _drop(self, session_id: str) -> None:
        self.delete_state(session_id)  # what it held on disk goes too
        del self.session_data[session_id]
