"""The outermost layer of the app: what each request passes, in order.

It wraps everything that Gradio serves (see `gated`).
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, suppress
from dataclasses import asdict
from functools import partial
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dnd_engine.limits import ServerLimits
from dnd_engine.server_log import SERVER_LIMITS, log_numbers
from ui.owner import Owner
from ui.server.bodies import Bodies, BoundedBody
from ui.server.checks import closed_routes, frequent_logins, long_names, other_sites, owners_key
from ui.server.gradio_private.calls import Calls
from ui.server.gradio_private.event_ids import name_unknown_events
from ui.server.gradio_private.pages import Pages
from ui.server.gradio_private.uploads import forget_upload
from ui.server.headers import safe_headers
from ui.server.refusals import Refusal, refusal_for, unfit_body
from ui.server.routes import HEARTBEAT, MCP, READING, UPLOAD, path_of
from ui.server.shares import Share, SlidingShare
from ui.server.visitors import CALL, address_of, caller_of, open_call, sender_of
from ui.server.watch import Watch
from ui.text import _

logger = logging.getLogger(__name__)

_Check = Callable[[Request], ASGIApp | None]
"""Returns the answer to a request that goes no further; None lets it pass."""
_FORGET_SECONDS = 60.0
"""How long an upload's progress can be queried after it ended."""


class Gate:
    """The outermost middleware, which also reports connected pages, and calls that are listened to.

    Without a `watch` it serves neither health nor metrics.
    """

    def __init__(
        self,
        app: ASGIApp,
        limits: ServerLimits,
        owner: Owner | None = None,
        *,
        pages: Pages | None = None,
        calls: Calls | None = None,
        watch: Watch | None = None,
        schema: bool = False,
    ) -> None:
        self._app, self._pages, self._calls, self._watch = app, pages, calls, watch
        self._bodies = Bodies(limits)
        self._connected = Share(limits.sessions_per_visitor)
        self._headers = safe_headers()
        self._checks: list[_Check] = [
            partial(closed_routes, schema),
            long_names,
            other_sites,
            self._bodies.check,
            partial(frequent_logins, SlidingShare(Share(limits.logins_per_minute), 60)),
            *([watch.answer] if watch is not None else []),
            *([partial(owners_key, owner)] if owner is not None else []),
        ]
        """In the order in which they run; the first answer is sent."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, answer it, or pass it on."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # nothing here uses websockets
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        if (caller := caller_of(request.headers)) is not None:
            # Gradio calls its own queue for an MCP client; that counts for the client's address.
            request = Request({**scope, "client": (caller, 0)})
        send = self._with_headers(send)
        with ExitStack() as connection:
            checks: list[_Check] = [*self._checks, partial(self._connect, connection)]
            for check in checks:
                if (answer := check(request)) is not None:
                    await answer(request.scope, receive, send)
                    return
            await self._pass_on(request, receive, send)

    def _with_headers(self, send: Send) -> Send:
        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                if self._watch is not None:
                    self._watch.counters.answers[message["status"]] += 1
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        return send_safely

    def _connect(self, connection: ExitStack, request: Request) -> Refusal | None:
        """Count a page or an MCP client while it stays connected, unless its address has many."""
        path, visitor = path_of(request), sender_of(request)
        # A page keeps this one request open for as long as it is shown, and an MCP client its
        # stream of messages.
        is_page = path.startswith(HEARTBEAT)
        if not (is_page or (path.startswith(MCP) and request.method in READING)):
            return None
        if not self._connected.take(visitor):
            words = _(
                "Your address has too many pages or MCP clients open. Close some, and try again."
            )
            return Refusal(HTTPStatus.TOO_MANY_REQUESTS, words)
        connection.callback(self._connected.give_back, visitor)
        if is_page and self._pages is not None:
            page = path.removeprefix(HEARTBEAT)
            self._pages.attended.take(page)
            connection.callback(self._pages.attended.give_back, page)
        return None

    async def _pass_on(self, request: Request, receive: Receive, send: Send) -> None:
        """Let Gradio answer, with a bounded body and errors in words."""
        body = self._bodies.receive(request, receive)
        answer = _Answer(send, body)
        refusal: ASGIApp | None
        try:
            await self._to_gradio(request, body.receive, answer.send)
            refusal = body.refusal
        except Exception as error:  # noqa: BLE001 - a server prints it, with the values in it
            refusal = body.refusal or refusal_for(error, request)
            await answer.break_off()
        finally:
            body.release()
            upload = request.query_params.get("upload_id")
            if upload and path_of(request).startswith(UPLOAD):
                asyncio.get_running_loop().call_later(_FORGET_SECONDS, forget_upload, upload)
        if refusal is not None and not answer.begun:
            await refusal(request.scope, receive, send)
        else:
            await answer.release()

    async def _to_gradio(self, request: Request, receive: Receive, send: Send) -> None:
        headers = MutableHeaders(raw=[*request.scope["headers"]])
        # Gradio adds a header that lets the site of an Origin read the response.
        del headers["origin"]
        path = path_of(request)
        with ExitStack() as during:
            if self._calls is not None and request.method == "GET":
                session = request.query_params.get("session_hash")
                during.enter_context(self._calls.listening(path, session))
            if path.startswith(MCP):
                # Gradio calls its own queue for the client and with the client's headers. Such a
                # call counts for its address, whatever the headers claim, and ends with it.
                address = address_of(request)
                headers["x-forwarded-for"] = address  # read on a Space
                headers[CALL] = during.enter_context(open_call(address))
            await self._app({**request.scope, "headers": headers.raw}, receive, send)


class _Answer:
    """The app's response, deferred if it may have to be replaced.

    Starlette answers an uncaught error with "Internal Server Error" and then raises it. A body that
    was cut off looks to it like a disconnected client.
    """

    def __init__(self, send: Send, body: BoundedBody) -> None:
        self._send, self._body = send, body
        self._deferred: list[Message] = []
        self._streams = False
        """Whether it is an event stream, which reports its own end."""
        self.begun = False
        """Whether part of it was sent to the client."""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            kind = Headers(raw=message.get("headers", [])).get("content-type", "")
            self._streams = kind.startswith("text/event-stream")
        failed = message.get("status") == HTTPStatus.INTERNAL_SERVER_ERROR
        # Once one part is deferred, all that follow must wait behind it.
        if self._deferred or failed or (self._body.refusal and not self.begun):
            self._deferred.append(message)
            return
        self.begun = True
        await self._send(message)

    async def release(self) -> None:
        """Send the response that was deferred."""
        for message in self._deferred:
            await self._send(message)

    async def break_off(self) -> None:
        """Complete an event stream, whose status is sent, so that its connection does not break."""
        if self.begun and self._streams:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})


def gated(
    limits: ServerLimits,
    owner: Owner | None = None,
    *,
    status: Callable[[], str] = lambda: "ready",
    metrics: bool = False,
    schema: bool = False,
) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """Return a lifespan that wraps an app in the gate, and limits its queue and pages.

    Gradio adds its own middleware outside of any it is given, so the gate wraps the finished stack
    before the first request.
    """

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        demo = app.get_blocks()
        name_unknown_events(demo)
        calls = Calls(demo, limits)
        app.state_holder = pages = Pages(demo, limits)
        watch = Watch(
            lambda: "failed" if calls.stopped else status(),
            lambda: {**pages.gauges(), **calls.gauges()},
            metrics,
        )
        # Before the stack is built, which takes over the handlers.
        app.add_exception_handler(RequestValidationError, unfit_body)
        stack = app.build_middleware_stack()
        app.middleware_stack = Gate(
            stack, limits, owner, pages=pages, calls=calls, watch=watch, schema=schema
        )
        numbers = {name: n for name, n in asdict(limits).items() if isinstance(n, int)}
        log_numbers(logger, SERVER_LIMITS, numbers)
        logging.getLogger("ui.faults").addHandler(watch.counters)
        watching = [asyncio.create_task(work) for work in (watch.log(), calls.watch())]
        try:
            yield
        finally:
            for task in watching:
                task.cancel()
                # One logs once more before it ends, so wait for it.
                with suppress(asyncio.CancelledError):
                    await task
            logging.getLogger("ui.faults").removeHandler(watch.counters)

    return lifespan
