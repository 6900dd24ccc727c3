"""The outermost layer for all requests: headers, cross-site checks, sizes and the owner's key.

It wraps everything that Gradio serves (see `gated`). Gradio lets any web page on this computer, on
any port, call the app with the visitor's cookies; here no other site may write, and none may read a
response.
"""

import asyncio
import errno
import json
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, suppress
from dataclasses import asdict
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from fastapi.exceptions import RequestValidationError
from python_multipart.exceptions import FormParserError
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dnd_engine.limits import FIXED, ServerLimits
from dnd_engine.server_log import SERVER_LIMITS, log_numbers
from ui.faults import report_fault
from ui.language import language_of
from ui.owner import Owner
from ui.server.bodies import MIN_CHARGED, BoundedBody, ChargedFiles
from ui.server.gradio_private import (
    MAX_ID_CHARS,
    UNKNOWN_EVENT,
    Calls,
    Pages,
    forget_upload,
    name_unknown_events,
    unfit_id,
)
from ui.server.shares import HELD, HeldBytes, Share, SlidingShare
from ui.server.visitors import CALL, address_of, caller_of, open_call, sender_of
from ui.server.watch import Watch
from ui.spaces import on_space, public_address
from ui.text import _, speaking

logger = logging.getLogger(__name__)

# Without OPTIONS, so that preflights of other sites are refused.
_READING = frozenset({"GET", "HEAD"})
_API = "/gradio_api"
_HEARTBEAT = f"{_API}/heartbeat/"
_UPLOAD = f"{_API}/upload"
_MCP = f"{_API}/mcp"
_ROUTE = re.compile(rf"({_API})?/[a-z_]*")

_CLOSED = (
    "/openapi.json",
    f"{_API}/openapi.json",
    # Stores the state of a page on the server.
    f"{_API}/deep_link",
    # Fetches addresses for the caller.
    f"{_API}/proxy=",
    f"{_API}/process_recording",
    f"{_API}/run-history",
    f"{_API}/vibe-",
    f"{_API}/undo-vibe-edit",
    f"{_API}/dev/",
    # Bypasses the queue, with values that nobody checked.
    f"{_API}/component_server",
    f"{_API}/stream/",
    "/monitoring",
)
"""Prefixes of Gradio's routes that this page does not use."""
# The first two, which `--schema` opens.
_SCHEMAS = _CLOSED[:2]
_IDS = frozenset({"session_hash", "upload_id"})
"""Parameters that a client chooses and Gradio stores."""
_FORGET_SECONDS = 60.0
"""How long an upload's progress can be queried after it ended."""

_POLICY = {
    "default-src": "'self'",
    # Gradio embeds its configuration as an inline script, and runs the canvas's script as a
    # function body.
    "script-src": "'self' 'unsafe-inline' 'unsafe-eval'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "media-src": "'self' data: blob:",
    "worker-src": "'self' blob:",
    "connect-src": "'self'",
    "object-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
}


class Gate:
    """The outermost middleware.

    Args:
        app: The wrapped app.
        limits: Limits on sizes and rates.
        owner: Owner of the key; None without an owner's library.
        pages: Receives which pages stay connected.
        calls: Receives which calls are listened to.
        watch: Health and metrics; None serves neither.
        schema: Whether to serve the OpenAPI schema.
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
        self._app = app
        self._pages = pages
        self._calls = calls
        self._watch = watch
        self._connected = Share(limits.sessions_per_visitor)
        self._limits = limits
        self._owner = owner
        self._closed = tuple(path for path in _CLOSED if not (schema and path in _SCHEMAS))
        self._headers = _safe_headers()
        self._uploads = SlidingShare(
            limits.upload_seconds, limits.uploads_per_visitor_bytes, limits.uploads_bytes
        )
        # One of the largest fits, also if an operator raises that limit alone.
        each = max(limits.bodies_per_visitor_bytes, limits.request_bytes)
        self._bodies = Share(each, max(limits.bodies_bytes, each))
        self._logins = SlidingShare(60, limits.logins_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reject a request, answer it, or pass it on."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # nothing here uses websockets
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                if self._watch is not None:
                    self._watch.counters.answers[message["status"]] += 1
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers[name] = value
            await send(message)

        request = Request(scope)
        if (caller := caller_of(request.headers)) is not None:
            # Gradio calls its own queue for an MCP client; that counts for the client's address.
            scope = {**scope, "client": (caller, 0)}
            request = Request(scope)
        with speaking(language_of(request)):
            answer = self._answer(request)
        if answer is not None:
            await answer(scope, receive, send_safely)
            return
        async with self._attending(request) as welcome:
            if not welcome:
                with speaking(language_of(request)):
                    words = _(
                        "Your address has too many pages or MCP clients open. Close some, and try "
                        "again."
                    )
                refusal = _refuse(HTTPStatus.TOO_MANY_REQUESTS, words)
                await refusal(scope, receive, send_safely)
                return
            await self._pass_on(request, receive, send_safely)

    async def _pass_on(self, request: Request, receive: Receive, send: Send) -> None:
        scope, path = request.scope, _path(request)
        held = scope[HELD] = HeldBytes(self._bodies, sender_of(request))
        most, files = self._most_bytes(path), self._files(request, path)
        body = BoundedBody(receive, most, held, self._limits.body_seconds, files)
        outcome = _Answer(send, body)
        try:
            await self._to_gradio(request, body.receive, outcome.send)
        except Exception as error:  # noqa: BLE001 - a server prints it, with the values in it
            with speaking(language_of(request)):
                refusal = self._cut_off(body) or _words_for(error, path)
            # The status of a stream is sent already, so it can only be ended.
            if outcome.streams:
                await outcome.end()
            elif not outcome.begun:
                await refusal(scope, receive, send)
            return
        finally:
            if not held.is_handed_over:
                held.release()
            if path.startswith(_UPLOAD) and (upload := request.query_params.get("upload_id")):
                asyncio.get_running_loop().call_later(_FORGET_SECONDS, forget_upload, upload)
        with speaking(language_of(request)):
            cut = self._cut_off(body)
        if cut is not None and not outcome.begun:
            await cut(scope, receive, send)
            return
        await outcome.release()

    async def _to_gradio(self, request: Request, receive: Receive, send: Send) -> None:
        headers = MutableHeaders(raw=[*request.scope["headers"]])
        # Gradio adds a header that lets the site of an Origin read the response.
        del headers["origin"]
        path = _path(request)
        with ExitStack() as during:
            if self._calls is not None and request.method == "GET":
                session = request.query_params.get("session_hash")
                during.enter_context(self._calls.listening(path, session))
            if path.startswith(_MCP):
                # Gradio calls its own queue for the client and with the client's headers. Such a
                # call counts for its address, whatever the headers claim, and ends with it.
                address = address_of(request)
                headers["x-forwarded-for"] = address  # read on a Space
                headers[CALL] = during.enter_context(open_call(address))
            await self._app({**request.scope, "headers": headers.raw}, receive, send)

    def _cut_off(self, body: BoundedBody) -> Response | None:
        """Return the response for a body that was cut off; None if it was not."""
        if body.too_many:
            return self._too_much()
        if body.too_fine:
            return _refuse(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                _(
                    "The request has too many lists or items: expected at most {brackets} opening "
                    "brackets and {commas} commas. Send the prompts in several calls, or as files.",
                    brackets=FIXED.max_json_brackets,
                    commas=FIXED.max_json_commas,
                ),
            )
        if body.without_room:
            return _refuse(
                HTTPStatus.TOO_MANY_REQUESTS,
                _("Too many large requests at once. Wait for the others to end, and try again."),
            )
        if body.too_slow:
            words = _(
                "The request did not arrive within {number} seconds. Send the prompts in several "
                "calls, or as files.",
                number=self._limits.body_seconds,
            )
            return _refuse(HTTPStatus.REQUEST_TIMEOUT, words)
        return _too_large(body.most) if body.too_large else None

    def _files(self, request: Request, path: str) -> ChargedFiles | None:
        """Return a counter for the files of an upload; `_may_write` has charged the first."""
        if request.method in _READING or not path.startswith(_UPLOAD):
            return None
        visitor, headers = sender_of(request), request.headers
        # A number by now: `_may_write` refuses others.
        paid = max(int(headers.get("content-length", "0")), MIN_CHARGED)
        kind = headers.get("content-type", "")
        return ChargedFiles(kind, lambda owed: self._uploads.take(visitor, owed), paid)

    def _too_much(self) -> Response:
        return _refuse(
            HTTPStatus.TOO_MANY_REQUESTS,
            _(
                "Too much was uploaded lately. Wait {number} minutes, and upload again.",
                number=self._limits.upload_seconds // 60,
            ),
        )

    @asynccontextmanager
    async def _attending(self, request: Request) -> AsyncIterator[bool]:
        """Track a page while it stays connected; yield False if its address has too many."""
        path = _path(request)
        # A page keeps this one request open for as long as it is shown, and an MCP client its
        # stream of messages.
        is_page = path.startswith(_HEARTBEAT)
        if not (is_page or (path.startswith(_MCP) and request.method in _READING)):
            yield True
            return
        page, visitor = path.removeprefix(_HEARTBEAT), sender_of(request)
        if not self._connected.take(visitor):
            yield False
            return
        if is_page and self._pages is not None:
            self._pages.attend(page)
        try:
            yield True
        finally:
            self._connected.give_back(visitor)
            if is_page and self._pages is not None:
                self._pages.abandon(page)

    def _answer(self, request: Request) -> Response | None:
        """Return the gate's own response; None passes the request on."""
        path = _path(request)
        # No file's name here has control characters, and Gradio fails on some of them.
        if path.startswith(self._closed) or any(c.isascii() and not c.isprintable() for c in path):
            return _refuse(HTTPStatus.NOT_FOUND, _("This page does not serve that."))
        named = [path.removeprefix(_HEARTBEAT)] if path.startswith(_HEARTBEAT) else []
        named += [value for key, value in request.query_params.multi_items() if key in _IDS]
        if any(len(name) > MAX_ID_CHARS for name in named):
            return _refuse(HTTPStatus.BAD_REQUEST, unfit_id())
        if request.method not in _READING:
            return self._may_write(request, path)
        if self._watch is not None and (told := self._watch.answer(path)) is not None:
            return told
        if self._owner is not None and path in ("", "/"):
            taken = self._owner.admit(request.headers, request.url.query)
            if taken is not None:
                place, cookie = taken
                answer = RedirectResponse(place, HTTPStatus.SEE_OTHER)
                # No cache may keep the cookie, which is the key.
                answer.headers["cache-control"] = "no-store"
                if cookie is not None:
                    answer.headers["set-cookie"] = cookie
                return answer
        return None

    def _may_write(self, request: Request, path: str) -> Response | None:
        if _is_foreign(request):
            return _refuse(
                HTTPStatus.FORBIDDEN,
                _(
                    "Another site sent this. Call the app from its own page, or from a program, "
                    "which sends no Origin. Behind a proxy, forward the Host header or set "
                    "GRADIO_ROOT_PATH to the public address."
                ),
            )
        try:
            length = int(request.headers.get("content-length", "0"))
        except ValueError:
            length = -1
        if length < 0:
            return _refuse(HTTPStatus.BAD_REQUEST, _("Content-Length: expected a number of bytes."))
        most = self._most_bytes(path)
        if length > most:
            return _too_large(most)
        visitor = sender_of(request)
        if path.startswith(_UPLOAD):
            if "content-length" not in request.headers:
                return _refuse(HTTPStatus.LENGTH_REQUIRED, _("Uploads must state their length."))
            if not self._uploads.take(visitor, max(length, MIN_CHARGED)):
                return self._too_much()
        # Per address and not per name, or anybody could lock others out.
        if path.startswith("/login") and not self._logins.take(visitor):
            return _refuse(
                HTTPStatus.TOO_MANY_REQUESTS, _("Too many attempts to log in. Wait a minute.")
            )
        return None

    def _most_bytes(self, path: str) -> int:
        upload = path.startswith(_UPLOAD)
        # Besides the file, a form contains its name.
        return self._limits.upload_bytes + 100_000 if upload else self._limits.request_bytes


class _Answer:
    """The app's response, held back if it may have to be replaced.

    Starlette answers an uncaught error with "Internal Server Error" and then raises it. A body that
    was cut off looks to it like a disconnected client.
    """

    def __init__(self, send: Send, body: BoundedBody) -> None:
        self._send = send
        self._body = body
        self._held: list[Message] = []
        self.begun = False
        """Whether part of it was sent to the client."""
        self.streams = False
        """Whether it is an event stream, which reports its own end."""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            kind = Headers(raw=message.get("headers", [])).get("content-type", "")
            self.streams = kind.startswith("text/event-stream")
        failed = message.get("status") == HTTPStatus.INTERNAL_SERVER_ERROR
        # Once one part is held, all that follow must wait behind it.
        if self._held or failed or (self._body.is_cut and not self.begun):
            self._held.append(message)
            return
        self.begun = True
        await self._send(message)

    async def release(self) -> None:
        """Send the response that was held back."""
        for message in self._held:
            await self._send(message)

    async def end(self) -> None:
        """Complete an event stream, so that the client does not see a broken connection."""
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
        app.add_exception_handler(RequestValidationError, _unfit)
        app.middleware_stack = Gate(
            app.build_middleware_stack(),
            limits,
            owner,
            pages=pages,
            calls=calls,
            watch=watch,
            schema=schema,
        )
        numbers = {name: n for name, n in asdict(limits).items() if isinstance(n, int)}
        log_numbers(logger, SERVER_LIMITS, numbers)
        with watch.counting_faults():
            watching = [asyncio.create_task(work) for work in (watch.log(), calls.watch())]
            try:
                yield
            finally:
                for task in watching:
                    task.cancel()
                    # One logs once more before it ends, so wait for it.
                    with suppress(asyncio.CancelledError):
                        await task

    return lifespan


def _path(request: Request) -> str:
    path: str = request.scope["path"]
    return path.removeprefix(request.scope.get("root_path", ""))


def _is_foreign(request: Request) -> bool:
    """Return whether a page of another site sent a request."""
    # Browsers set this header themselves, beyond any script's control, on encrypted pages and on
    # this computer.
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        # `none` is an address that was typed. `same-site` is foreign: other ports of this computer
        # are the same site.
        return site not in ("same-origin", "none")
    origin = request.headers.get("origin")
    if origin is None:
        return False  # not a browser
    try:
        from_host = urlsplit(origin).netloc
    except ValueError:
        return True  # no browser sends this
    public = public_address()
    # Scripts cannot set Host, and X-Forwarded-Host only if a preflight allows it, which none does.
    hosts = {request.headers.get("host"), request.headers.get("x-forwarded-host")}
    return from_host not in hosts | ({urlsplit(public).netloc} if public else set())


def _safe_headers() -> dict[str, str]:
    # The Hub embeds a Space in a frame of its own page.
    frames = "'self' https://huggingface.co" if on_space() else "'self'"
    policy = "; ".join(
        f"{name} {value}" for name, value in {**_POLICY, "frame-ancestors": frames}.items()
    )
    safe = {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "referrer-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
    }
    # This header allows no list of sites, so it cannot express what a Space needs.
    return safe if on_space() else {**safe, "x-frame-options": "SAMEORIGIN"}


def _refuse(status: HTTPStatus, words: str) -> Response:
    # The format that Gradio's page and clients expect: they show the detail.
    detail = json.dumps({"detail": words})
    return PlainTextResponse(detail, status, media_type="application/json")


def _words_for(error: Exception, path: str) -> Response:
    """Return the response to a request that failed; unexpected errors are logged."""
    if isinstance(error, UNKNOWN_EVENT):
        words = _("There is no event of that name or number. Reload the page, or see docs/api.md.")
        return _refuse(HTTPStatus.NOT_FOUND, words)
    unknown_page = isinstance(error, KeyError) and path in ("", "/")  # by `?page=`
    if unknown_page or getattr(error, "errno", None) == errno.ENAMETOOLONG:
        return _refuse(HTTPStatus.NOT_FOUND, _("This page does not serve that."))
    if isinstance(error, (KeyError, TypeError, ValueError)) and path.startswith(f"{_API}/call/v2/"):
        words = _("Expected an endpoint's arguments by name. docs/api.md shows calls that work.")
        return _refuse(HTTPStatus.BAD_REQUEST, words)
    if isinstance(error.__cause__, HTTPException):  # from a stream that has reported it
        return _refuse(HTTPStatus(error.__cause__.status_code), str(error.__cause__.detail))
    if isinstance(error, ClientDisconnect):
        return Response(status_code=HTTPStatus.BAD_REQUEST)  # nobody reads it
    if isinstance(error, (TypeError, FormParserError)) and path.startswith(_UPLOAD):
        # Gradio's parser fails on a field without a file name, or on a long boundary between
        # fields; that is the client's fault.
        words = _("Upload: expected files in fields named `files`, each with a file name.")
        return _refuse(HTTPStatus.BAD_REQUEST, words)
    # Log only the route: the rest is a file name, a visit's hash or typed text.
    route = _ROUTE.match(path)
    return _refuse(
        HTTPStatus.INTERNAL_SERVER_ERROR, report_fault(error, route[0] if route else "/")
    )


def _unfit(request: Request, error: Exception) -> Response:
    """Return the response to a body that a route cannot parse.

    FastAPI's own response repeats the body, whatever its length, and fails on NaN and infinity.
    """
    assert isinstance(error, RequestValidationError)
    # Never `fault["input"]`, which is the body.
    faults = [(".".join(map(str, fault["loc"])), fault["msg"]) for fault in error.errors()[:3]]
    told = "; ".join(f"`{place[:60]}`: {message[:120]}" for place, message in faults)
    with speaking(language_of(request)):
        return _refuse(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            _("The request has another shape than expected ({faults}).", faults=told),
        )


def _too_large(most: int) -> Response:
    return _refuse(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        _("The request is too large: expected at most {number} MB.", number=most // 1_000_000),
    )
