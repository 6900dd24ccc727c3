"""Answers to requests that are refused, or that failed."""

import errno
import json
import re
from dataclasses import dataclass
from http import HTTPStatus

from fastapi.exceptions import RequestValidationError
from python_multipart.exceptions import FormParserError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ui.faults import report_fault
from ui.language import language_of
from ui.server.gradio_private.event_ids import UNKNOWN_EVENT
from ui.server.routes import API, UPLOAD, path_of
from ui.text import _, said, speaking

_ROUTE = re.compile(rf"({API})?/[a-z_]*")


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer, as an ASGI app, that says why in the language of its request."""

    status: HTTPStatus
    words: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        with speaking(language_of(Request(scope))):
            # The format that Gradio's page and clients expect: they show the detail.
            detail = json.dumps({"detail": said(self.words)})
        answer = PlainTextResponse(detail, self.status, media_type="application/json")
        await answer(scope, receive, send)


def not_served() -> Refusal:
    """Return the answer to a request for something that this page does not serve."""
    return Refusal(HTTPStatus.NOT_FOUND, _("This page does not serve that."))


def refusal_for(error: Exception, request: Request) -> ASGIApp:
    """Return the answer to a request that raised an error; unexpected ones are logged."""
    path = path_of(request)
    if isinstance(error, UNKNOWN_EVENT):
        words = _("There is no event of that name or number. Reload the page, or see docs/api.md.")
        return Refusal(HTTPStatus.NOT_FOUND, words)
    unknown_page = isinstance(error, KeyError) and path in ("", "/")  # by `?page=`
    if unknown_page or getattr(error, "errno", None) == errno.ENAMETOOLONG:
        return not_served()
    if isinstance(error, (KeyError, TypeError, ValueError)) and path.startswith(f"{API}/call/v2/"):
        words = _("Expected an endpoint's arguments by name. docs/api.md shows calls that work.")
        return Refusal(HTTPStatus.BAD_REQUEST, words)
    if isinstance(error.__cause__, HTTPException):  # from a stream that has reported it
        return Refusal(HTTPStatus(error.__cause__.status_code), str(error.__cause__.detail))
    if isinstance(error, ClientDisconnect):
        return Response(status_code=HTTPStatus.BAD_REQUEST)  # nobody reads it
    if isinstance(error, (TypeError, FormParserError)) and path.startswith(UPLOAD):
        # Gradio's parser fails on a field without a file name, or on a long boundary between
        # fields; that is the client's fault.
        words = _("Upload: expected files in fields named `files`, each with a file name.")
        return Refusal(HTTPStatus.BAD_REQUEST, words)
    # Log only the route: the rest is a file name, a visit's hash or typed text.
    route = _ROUTE.match(path)
    with speaking(language_of(request)):
        words = report_fault(error, route[0] if route else "/")
    return Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, words)


def unfit_body(_request: Request, error: Exception) -> Refusal:
    """Return the answer to a body that a route cannot parse.

    FastAPI's own answer repeats the body, whatever its length, and fails on NaN and infinity.
    """
    assert isinstance(error, RequestValidationError)
    # Never `fault["input"]`, which is the body.
    faults = [(".".join(map(str, fault["loc"])), fault["msg"]) for fault in error.errors()[:3]]
    shown = "; ".join(f"`{place[:60]}`: {message[:120]}" for place, message in faults)
    words = _("The request has another shape than expected ({faults}).", faults=shown)
    return Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, words)
