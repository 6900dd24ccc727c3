"""Calls of events: how many wait, whose turn it is, and how long answers are kept."""

import asyncio
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import gradio as gr
from fastapi import HTTPException
from gradio.queueing import Event
from gradio.route_utils import API_PREFIX
from gradio.server_messages import ProcessCompletedMessage
from gradio.utils import LRUCache, error_payload

from dnd_engine.limits import ServerLimits
from ui.faults import report_fault
from ui.language import language_of
from ui.server.gradio_private.event_ids import UnknownEventError
from ui.server.shares import BODY_KEY, HeldBytes, Share
from ui.server.visitors import MAX_ID_CHARS, mcp_client_left, sender_of, unfit_id
from ui.text import _, speaking

_STREAM, _CALL = f"{API_PREFIX}/queue/data", f"{API_PREFIX}/call/"
"""Routes by which callers listen: all calls of a page, and one call of the API."""

_STREAM_HOLD = "held"
"""Id of a call that never was, for which the stream of a page stays open."""

_STREAM_HOLD_SECONDS = 3
"""How long it stays open after the page's last call. A browser opens only six connections to a
host, so it cannot stay for good."""


class _Messages(LRUCache[str, Any]):
    """Messages by session, without Gradio's limit on their number.

    A stream that breaks off deletes its session's. A page that opens a stream while it closes
    another then got a 404.
    """

    def __init__(self, is_shared: Callable[[str], bool]) -> None:
        # Beyond a number, Gradio would drop a session that still waits for its answers.
        super().__init__(sys.maxsize)
        self._is_shared = is_shared

    def __delitem__(self, session: str) -> None:
        if not self._is_shared(session):
            super().__delitem__(session)


@dataclass(slots=True)
class _Call:
    """A call, from when it came until its answer was fetched."""

    session: str
    visitor: str
    turn: int
    came: float
    body: HeldBytes
    ended: float | None = None
    num_bytes: int = 0
    """Memory of its messages, roughly."""


@dataclass(slots=True)
class _Use:
    """The use of a session that a client named."""

    visitor: str
    last: float
    """When it last had a call."""


class Calls:
    """The calls in the queue and the answers that nobody has fetched yet.

    Without limits, one client could fill the queue with calls whose answers it never reads: Gradio
    runs a call to its end if nobody ever listened, and keeps its answer for ever. Somebody listens
    to a call while a stream of its session is open (`queue/data` or `call/NAME/EVENT_ID`).

    The stream of a page stays open for some seconds after its last call. Gradio closes it at once:
    nobody then listens to a call that is taken at the same moment, if its reply overtakes the
    message that the stream closes, and the page waits for its answer for ever.

    Create it after `demo.queue`.
    """

    def __init__(
        self,
        demo: gr.Blocks,
        limits: ServerLimits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._demo, self._limits, self._clock = demo, limits, clock
        self._queue = queue = demo._queue
        self._calls: dict[str, _Call] = {}
        """By event id, the oldest first."""
        self._listeners = Share()
        """Open streams, by session."""
        self._used: dict[str, _Use] = {}
        """The sessions that clients named and used recently."""
        self._num_arriving = 0
        self.num_sweeps = 0
        queue.max_size = None  # limited here instead, with our own message
        self._events, self._lanes = queue.event_ids_to_events, queue.event_queue_per_concurrency_id
        self._pending = queue.pending_event_ids_session
        self._messages = queue.pending_messages_per_session = _Messages(self._is_shared)
        self._push, self._clean = queue.push, queue.clean_events
        self._send = queue.send_message
        # This queue alone.
        queue.push = self._push_within_limits  # type: ignore[method-assign]
        queue.clean_events = self._clean_all  # type: ignore[method-assign]
        queue.send_message = self._send_if_kept  # type: ignore[method-assign]

    @contextmanager
    def listening(self, path: str, session: str | None) -> Iterator[None]:
        """Record that a request of a stream listens to a session for as long as it is open.

        The path says whose: the `session` among its parameters, or that of one call.
        """
        if path.startswith(_CALL):
            # The stream has the messages of all calls of the session, not only of the named one.
            call = self._calls.get(path.rpartition("/")[2])
            session = None if call is None else call.session
        elif path != _STREAM:
            session = None
        if session is None:
            yield
            return
        self._listeners.take(session)
        try:
            yield
        finally:
            self._listeners.give_back(session)

    def gauges(self) -> dict[str, float]:
        """Return the numbers of waiting and running calls, and of answers that wait."""
        return {
            "calls_waiting": len(self._queue),
            "calls_running": sum(len(job) for job in self._queue.active_jobs if job),
            "answers_waiting": sum(call.ended is not None for call in self._calls.values()),
        }

    @property
    def stopped(self) -> bool:
        """Return whether the queue takes no more calls."""
        return self._queue.stopped

    async def watch(self) -> None:
        """Sweep every second until cancelled."""
        while True:
            await asyncio.sleep(1)
            try:
                self.sweep()
            except Exception as error:  # noqa: BLE001 - without sweeps, calls and answers pile up
                report_fault(error, "sweep")
            self.num_sweeps += 1

    def sweep(self) -> None:
        """End calls that nobody listens to, and drop old answers and unused sessions."""
        self._sweep_calls()
        self._sweep_sessions()

    def _sweep_calls(self) -> None:
        now, answers = self._clock(), defaultdict[str, list[str]](list)
        for event_id, call in list(self._calls.items()):
            event = self._events.get(event_id)
            is_attended = self._is_attended(event_id)
            if event is None:
                call.body.release()
            if event is not None:
                late = not is_attended and now - call.came > self._limits.unattended_seconds
                # Gradio's own client listens for MCP clients that left.
                left = mcp_client_left(event.request) and self._waits(event)
                if event.alive and (late or left):
                    self._end(event)
            elif event_id not in self._pending.get(call.session, ()):
                del self._calls[event_id]  # its answer was fetched
            else:
                call.ended = now if call.ended is None else call.ended
                if not is_attended and now - call.ended > self._limits.answer_seconds:
                    self._drop(event_id)
                else:
                    answers[call.visitor].append(event_id)
        limits = self._limits
        self._drop_beyond(answers, len, limits.answers_per_visitor, limits.answers)
        # Those on their way to somebody count for nothing here: of a long answer on a slow line,
        # most messages have arrived already, and a page without the last one waits for ever.
        unheard = {
            visitor: [event_id for event_id in mine if not self._is_attended(event_id)]
            for visitor, mine in answers.items()
        }
        each, most = limits.answers_per_visitor_bytes, limits.answers_bytes
        self._drop_beyond(unheard, self._memory_of, each, most)

    def _is_attended(self, event_id: str) -> bool:
        return self._calls[event_id].session in self._listeners.amounts

    def _memory_of(self, event_ids: list[str]) -> int:
        return sum(self._calls[event_id].num_bytes for event_id in event_ids)

    def _drop_beyond(
        self, answers: dict[str, list[str]], size: Callable[[list[str]], int], each: int, most: int
    ) -> None:
        """Drop the oldest answers of visitors beyond a limit on each one's and on all."""
        for mine in answers.values():
            while size(mine) > each:
                self._drop(mine.pop(0))
        while sum(map(size, answers.values())) > most:
            self._drop(max(answers.values(), key=size).pop(0))

    def _sweep_sessions(self) -> None:
        now = self._clock()
        called = {call.session for call in self._calls.values()}
        idle: list[str] = []
        for session, use in list(self._used.items()):
            if session in called:
                use.last = now
            elif now - use.last > _STREAM_HOLD_SECONDS:
                self._end_stream(session)
                idle.append(session)
        # A client may open a stream after an earlier one has brought it all answers.
        idle.sort(key=lambda session: self._used[session].last, reverse=True)
        kept = Counter[str]()
        for session in idle:
            use = self._used[session]
            kept[use.visitor] += 1
            late = now - use.last > self._limits.unattended_seconds
            if late or kept[use.visitor] > self._limits.sessions_per_visitor:
                del self._used[session]
        # Gradio itself keeps an entry for each session that ever called. It has one of a call that
        # is on its way into the queue before that call is among ours.
        if self._num_arriving:
            return
        used_sessions = called | self._listeners.amounts.keys() | self._used.keys()
        for table in (self._pending, self._messages):
            for session in table.keys() - used_sessions:
                del table[session]

    async def _push_within_limits(self, body: Any, request: Any, username: str | None) -> Any:
        visitor = sender_of(request)
        with speaking(language_of(request)):
            self._refuse_beyond_limits(body, request, visitor)
        _slim(body, request, self._demo.fns[body.fn_index].collects_event_data)
        # Before the call is in the queue, which would run it even if this failed.
        held: HeldBytes = request.scope[BODY_KEY]
        # Gradio names the others by their only call, whose answer is fetched once.
        is_named = bool(body.session_hash)
        self._num_arriving += 1
        try:
            pushed = await self._push(body=body, request=request, username=username)
            event = self._events.get(str(pushed[1]))
            if event is not None:
                self._line_up(event, visitor, held)
                if is_named:
                    self._used[event.session_hash] = _Use(visitor, self._clock())
                    if _by_page(request):
                        self._pending[event.session_hash].add(_STREAM_HOLD)
        finally:
            self._num_arriving -= 1
        return pushed

    def _is_shared(self, session: str) -> bool:
        return self._listeners.amounts[session] > 1

    async def _clean_all(
        self, *, session_hash: str | None = None, event_id: str | None = None
    ) -> None:
        # Asked for by a stream that broke off, which still counts as open.
        if session_hash is not None and self._is_shared(session_hash):
            return
        await self._clean(session_hash=session_hash, event_id=event_id)
        # Gradio forgets the calls that wait, and keeps the ids of those that run for ever.
        for key, call in list(self._calls.items()):
            if call.session == session_hash or key == event_id:
                self._drop(key)
        if session_hash is not None:
            self._used.pop(session_hash, None)
            self._pending.get(session_hash, set()).discard(_STREAM_HOLD)

    def _send_if_kept(self, event: Event, event_message: Any) -> None:
        # Where Gradio raises, its queue stops for everybody.
        if event.session_hash in self._messages:
            if (call := self._calls.get(event._id)) is not None:
                call.num_bytes += _num_bytes(getattr(event_message, "output", None))
            self._send(event, event_message)

    def _refuse_beyond_limits(self, body: Any, request: Any, visitor: str) -> None:
        # Gradio keeps the messages of an empty name where it does not look for them.
        if body.session_hash is not None and not 0 < len(body.session_hash) <= MAX_ID_CHARS:
            raise HTTPException(HTTPStatus.BAD_REQUEST, unfit_id())
        # `in` does not call `__missing__`, so the error is raised here.
        if body.fn_index not in self._demo.fns:
            raise UnknownEventError(body.fn_index)
        # All lanes together: each has a queue of its own.
        lanes = self._lanes.values()
        waiting = [event for lane in lanes for event in lane.queue]
        if len(waiting) >= self._limits.queued_calls:
            words = _(
                "The app is busy: {number} calls wait already. Try again in a minute, or run the "
                "app on your own computer.",
                number=len(waiting),
            )
            # For a 503, Gradio's page shows its own English message.
            by_page = _by_page(request)
            busy = HTTPStatus.TOO_MANY_REQUESTS if by_page else HTTPStatus.SERVICE_UNAVAILABLE
            raise HTTPException(busy, words, headers={"Retry-After": "60"})
        mine = len(self._of((*waiting, *self._running()), visitor))
        if mine >= self._limits.queued_calls_per_visitor:
            raise HTTPException(
                HTTPStatus.TOO_MANY_REQUESTS,
                _(
                    "{number} calls from your address wait or run already, which is the limit. "
                    "Wait for their answers first.",
                    number=mine,
                ),
                headers={"Retry-After": "10"},
            )

    def _running(self) -> list[Event]:
        # An event whose caller left ends at its next step, and no longer counts.
        return [event for job in self._queue.active_jobs if job for event in job if event.alive]

    def _of(self, events: Iterable[Event], visitor: str | None = None) -> list[_Call]:
        """Return the calls of events, or only those of one visitor."""
        calls = [self._calls[event._id] for event in events if event._id in self._calls]
        return [call for call in calls if visitor in (None, call.visitor)]

    def _waits(self, event: Event) -> bool:
        return event in self._lanes[event.concurrency_id].queue

    def _line_up(self, event: Event, visitor: str, held: HeldBytes) -> None:
        """Record a new call, and let addresses take turns in its lane.

        The turn of a call is one after that of its address's latest call, or that of the call which
        began last, if this is later. So an address with ten calls waits after one with a single
        call, and nobody waits for ever.
        """
        lane = self._lanes[event.concurrency_id]
        running = [one for one in self._running() if one.concurrency_id == event.concurrency_id]
        first = min((call.turn for call in self._of(lane.queue)), default=0)
        begun = max((call.turn for call in self._of(running)), default=first)
        mine = self._of((*running, *lane.queue), visitor)
        turn = max(begun, max((call.turn for call in mine), default=-1) + 1)
        held.is_handed_over = True
        self._calls[event._id] = _Call(event.session_hash, visitor, turn, self._clock(), held)
        before = list(lane.queue)
        lane.queue.sort(key=lambda one: self._calls[one._id].turn if one._id in self._calls else 0)
        if lane.queue != before:
            self._queue.broadcast_estimations(event.concurrency_id)

    def _end(self, event: Event) -> None:
        """End a call whose caller left, with a message for one who listens later."""
        with speaking(language_of(event.request)):
            words = _(
                "Nobody listened for the answer to this call for {number} seconds, so it was "
                "ended. Listen sooner.",
                number=self._limits.unattended_seconds,
            )
            error = gr.Error(words, title=_("Error"))
        output = error_payload(error, show_error=True)
        self._queue.send_message(event, ProcessCompletedMessage(output=output, success=False))
        event.alive = False
        if self._waits(event):
            self._lanes[event.concurrency_id].queue.remove(event)
            self._events.pop(event._id, None)

    def _end_stream(self, session: str) -> None:
        """Let the stream of a page end once no calls are left."""
        ids = self._pending.get(session, set())
        messages = self._messages.get(session)
        if _STREAM_HOLD in ids and messages is not None and session in self._listeners.amounts:
            last = ProcessCompletedMessage(event_id=_STREAM_HOLD, output={}, success=True)
            messages.put_nowait(last)
        ids.discard(_STREAM_HOLD)

    def _drop(self, event_id: str) -> None:
        """Forget a call with the messages that nobody fetched."""
        call = self._calls.pop(event_id)
        call.body.release()
        self._pending.get(call.session, set()).discard(event_id)
        messages = self._messages.get(call.session)
        if messages is None:
            return
        for message in [messages.get_nowait() for _one in range(messages.qsize())]:
            if message.event_id != event_id:
                messages.put_nowait(message)


def _slim(body: Any, request: Any, reads_event_data: bool) -> None:
    """Drop what nobody reads of a call, which Gradio keeps until the call ends."""
    if not reads_event_data:
        body.event_data = None
    # The body as bytes, and as JSON.
    for copy in ("_body", "_json"):
        vars(request).pop(copy, None)


def _num_bytes(value: Any) -> int:
    """Return roughly the memory of what a message says."""
    if isinstance(value, dict):
        return sum(map(_num_bytes, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(_num_bytes, value))
    return sys.getsizeof(value)


def _by_page(request: Any) -> bool:
    """Return whether Gradio's own page sent a call."""
    return bool(request.headers.get("x-gradio-user") == "app")
