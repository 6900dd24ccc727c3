"""What is refused, or answered, by a request's headers alone: other sites, names, logins, the key.

Gradio lets any web page on this computer, on any port, call the app with the visitor's cookies;
here no other site may write, and none may read a response.
"""

from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse

from ui.owner import Owner
from ui.server.refusals import Refusal, not_served
from ui.server.routes import CLOSED, HEARTBEAT, READING, SCHEMAS, path_of
from ui.server.shares import SlidingShare
from ui.server.visitors import MAX_ID_CHARS, sender_of, unfit_id
from ui.spaces import public_address
from ui.text import _

_IDS = frozenset({"session_hash", "upload_id"})
"""Parameters that a client chooses and Gradio stores."""


def closed_routes(schema: bool, request: Request) -> Refusal | None:
    """Refuse routes that this page does not use; with `schema`, serve that of all routes."""
    path, closed = path_of(request), CLOSED if schema else (*CLOSED, *SCHEMAS)
    # No file's name here has control characters, and Gradio fails on some of them.
    unprintable = any(c.isascii() and not c.isprintable() for c in path)
    return not_served() if unprintable or path.startswith(closed) else None


def long_names(request: Request) -> Refusal | None:
    """Refuse long names of sessions and uploads."""
    path = path_of(request)
    named = [value for key, value in request.query_params.multi_items() if key in _IDS]
    if path.startswith(HEARTBEAT):
        named.append(path.removeprefix(HEARTBEAT))
    if any(len(name) > MAX_ID_CHARS for name in named):
        return Refusal(HTTPStatus.BAD_REQUEST, unfit_id())
    return None


def other_sites(request: Request) -> Refusal | None:
    """Refuse what a page of another site would write."""
    if request.method in READING or not _is_foreign(request):
        return None
    words = _(
        "Another site sent this. Call the app from its own page, or from a program, "
        "which sends no Origin. Behind a proxy, forward the Host header or set "
        "GRADIO_ROOT_PATH to the public address."
    )
    return Refusal(HTTPStatus.FORBIDDEN, words)


def _is_foreign(request: Request) -> bool:
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


def frequent_logins(logins: SlidingShare, request: Request) -> Refusal | None:
    """Refuse logins from an address with too many recent attempts."""
    if request.method in READING or not path_of(request).startswith("/login"):
        return None
    # Per address and not per name, or anybody could lock others out.
    if logins.take(sender_of(request)):
        return None
    return Refusal(HTTPStatus.TOO_MANY_REQUESTS, _("Too many attempts to log in. Wait a minute."))


def owners_key(owner: Owner, request: Request) -> RedirectResponse | None:
    """Take the owner's key out of the address, and set the cookie that it gives."""
    if request.method not in READING or path_of(request) not in ("", "/"):
        return None
    if (taken := owner.admit(request.headers, request.url.query)) is None:
        return None
    place, cookie = taken
    answer = RedirectResponse(place, HTTPStatus.SEE_OTHER)
    # No cache may keep the cookie, which is the key.
    answer.headers["cache-control"] = "no-store"
    if cookie is not None:
        answer.headers["set-cookie"] = cookie
    return answer
