"""Inserts a script that runs before Gradio's own.

Gradio closes its connections as soon as the browser asks whether to leave the page, so a visitor
who stays has a dead page. And it says its own words in the browser's language, whatever the page's.
Only a script that runs earlier can prevent either, and Gradio has no hook for one. It also marks a
page whose visit is on its way, before an empty canvas is drawn.
"""

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dnd_engine.files import asset_path
from ui.language import is_front_page
from ui.text import language

_HEAD = b"<head>"


class FirstScript:
    """Middleware that inserts `assets/first.js` at the top of the page."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._script = asset_path("first.js").read_text(encoding="utf-8")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and insert the script into the response."""
        if scope["type"] != "http" or not is_front_page(Request(scope)):
            await self._app(scope, receive, send)
            return
        # Request it uncompressed, or the place to insert could not be found.
        asked = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
        started: list[Message] = []
        # Held until it is whole, because its new length must be sent before it.
        body = bytearray()

        async def collect(message: Message) -> None:
            if message["type"] == "http.response.start":
                started.append(message)
                return
            body.extend(message.get("body", b""))
            if message.get("more_body"):
                return
            script = f"<script data-lang='{language().code}'>{self._script}</script>"
            page = bytes(body).replace(_HEAD, _HEAD + script.encode(), 1)
            MutableHeaders(scope=started[0])["content-length"] = str(len(page))
            await send(started[0])
            await send({"type": "http.response.body", "body": page})

        await self._app({**scope, "headers": asked}, receive, collect)
