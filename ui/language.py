"""Sends a visitor to the page in their language: the one chosen, else what their browser asks for.

Each language is a page of its own, so nothing here is remembered by the server: the choice is a
cookie in the visitor's browser, and two visitors with two languages never meet.
"""

from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from ui.text import ENGLISH, LANGUAGES

__all__ = ["LanguageSwitch", "preferred"]

_COOKIE = "dnd-language"
_YEAR = 365 * 24 * 3600


def preferred(accepted: str) -> str:
    """Return the code of the language that an Accept-Language header likes best of ours."""
    liked: list[tuple[float, str]] = []
    for entry in accepted.split(","):
        tag, _, weight = entry.strip().partition(";q=")
        code = tag.partition("-")[0].lower()
        try:
            quality = float(weight or 1)
        except ValueError:
            continue
        if code in LANGUAGES and quality > 0:
            liked.append((-quality, code))
    # The first of equals, as the header has them; `sort` would put them by name.
    return min(liked, key=lambda entry: entry[0])[1] if liked else ENGLISH.CODE


class LanguageSwitch:
    """Middleware that answers for `/` alone: `?lang=de` chooses, and the choice is kept."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Redirect to another language's page, or pass the request on."""
        target = _target(Request(scope)) if scope["type"] == "http" else None
        await (target or self._app)(scope, receive, send)


def _target(request: Request) -> RedirectResponse | None:
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    if request.method != "GET" or path not in ("", "/"):
        return None
    chosen = request.query_params.get("lang", "")
    code = chosen if chosen in LANGUAGES else request.cookies.get(_COOKIE, "")
    if code not in LANGUAGES:
        code = preferred(request.headers.get("accept-language", ""))
    if chosen not in LANGUAGES and code == ENGLISH.CODE:
        return None
    others = [(key, value) for key, value in parse_qsl(request.url.query) if key != "lang"]
    page = "./" if code == ENGLISH.CODE else f"./{code}"
    # Relative: behind a proxy the page may live below any path.
    response = RedirectResponse(f"{page}?{urlencode(others)}" if others else page, 302)
    if chosen == code:
        # A Space is shown in a frame of another site, which a Lax cookie would not reach.
        framed = request.url.scheme == "https"
        response.set_cookie(
            _COOKIE, code, _YEAR, samesite="none" if framed else "lax", secure=framed
        )
    return response
