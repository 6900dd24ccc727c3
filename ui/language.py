"""Sends a visitor to the page in their language: the one chosen, else what their browser asks for.

Each language is a page of its own, so nothing here is remembered by the server: the choice is a
cookie in the visitor's browser, and two visitors with two languages never meet.
"""

from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ui.text import ENGLISH, LANGUAGES

__all__ = ["LanguageSwitch", "preferred"]

_COOKIE = "dnd-language"
_YEAR = 365 * 24 * 3600


def preferred(accepted: str) -> str:
    """Return the code of the language that an Accept-Language header likes best of ours."""
    liked: list[tuple[float, str]] = []
    for entry in accepted.split(","):
        tag, _, weight = entry.replace(" ", "").partition(";q=")
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
        request = Request(scope) if scope["type"] == "http" else None
        if request is None or not _is_front_page(request):
            await self._app(scope, receive, send)
            return
        chosen = request.query_params.get("lang", "")
        code = chosen if chosen in LANGUAGES else request.cookies.get(_COOKIE, "")
        if code not in LANGUAGES:
            code = preferred(request.headers.get("accept-language", ""))

        async def send_and_keep(message: Message) -> None:
            if chosen in LANGUAGES and message["type"] == "http.response.start":
                MutableHeaders(scope=message).append("set-cookie", _cookie(chosen, request))
            await send(message)

        # English stays where it is asked for: the cookie may be blocked where a page is framed, and
        # a redirect would then lead back to the browser's own language.
        answer = self._app if code == ENGLISH.CODE else _redirect(code, request)
        await answer(scope, receive, send_and_keep)


def _is_front_page(request: Request) -> bool:
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    return request.method == "GET" and path in ("", "/")


def _redirect(code: str, request: Request) -> RedirectResponse:
    others = [(key, value) for key, value in parse_qsl(request.url.query) if key != "lang"]
    # Relative: behind a proxy the page may live below any path.
    return RedirectResponse(f"./{code}?{urlencode(others)}" if others else f"./{code}", 302)


def _cookie(code: str, request: Request) -> str:
    # A Space is shown in a frame of another site, which a Lax cookie would not reach.
    framed = request.url.scheme == "https"
    kept = "SameSite=None; Secure" if framed else "SameSite=Lax"
    return f"{_COOKIE}={code}; Max-Age={_YEAR}; Path=/; {kept}"
