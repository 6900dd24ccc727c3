"""One page for all languages: shown in the visitor's own, and switched in place.

Gradio's own `gr.I18n` translates labels in the browser, but always into the browser's language: a
page can neither choose nor change it, and messages with numbers in them do not fit in. So the page
is built once, in English, of texts that can be said again (`ui.text.Words`). A request for the page
is answered in the language that the visitor chose (`?lang=`, else a cookie), or that their browser
asks for. From then on the language is part of the visit, like its files: an event draws in it, and
the switch is an event that says every text of the page again. Nothing is reloaded, so the files,
the adapter and the conversation stay.
"""

from collections.abc import Mapping
from typing import Any

import gradio as gr
from gradio.blocks import Block
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ui.faults import GuardedBlocks
from ui.text import ENGLISH, language, languages, said, speaking

__all__ = [
    "LanguageChoice",
    "SpokenBlocks",
    "is_front_page",
    "language_of",
    "preferred",
    "said_of",
    "say_again",
]

_COOKIE = "dnd-language"
_YEAR = 365 * 24 * 3600


def said_of(block: Block) -> dict[str, Any]:
    """Return the arguments of a component that hold words, in the language that is spoken now."""
    arguments = {name: (old, said(old)) for name, old in block.constructor_args.items()}
    return {name: new for name, (old, new) in arguments.items() if new is not old}


def say_again(block: Block, drawn: Any = None) -> Any:
    """Return the update that says a component's texts in the language that is spoken now.

    Args:
        block: The component as it was laid out.
        drawn: What a handler updates it with; that counts where both say something.
    """
    if isinstance(drawn, Block):
        return gr.update(**{**said_of(block), **drawn.constructor_args})
    return gr.update(**said_of(block) if drawn is None else {**said_of(block), "value": drawn})


class SpokenBlocks(GuardedBlocks):
    """Blocks whose configuration, which is what a page starts from, comes in the language spoken.

    Without this a page would start in English and change to the visitor's language a moment later.
    """

    @property
    def config(self) -> Any:
        """The configuration that Gradio serves."""
        code = language().code
        if code not in self._said:
            components = [self._say(component) for component in self._config["components"]]
            self._said[code] = {**self._config, "components": components}
        return self._said[code]

    @config.setter
    def config(self, config: Any) -> None:  # Gradio sets it, more than once
        self._config = config
        self._said: dict[str, Any] = {}

    def _say(self, component: Mapping[str, Any]) -> Mapping[str, Any]:
        words, props = said_of(self.blocks[component["id"]]), component["props"]
        if own := props.get("props"):  # of a `gr.HTML`, those that are none of Gradio's
            own = {name: words.pop(name, value) for name, value in own.items()}
            words["props"] = own
        return {**component, "props": {**props, **words}}


def preferred(accepted: str) -> str:
    """Return the code of the language that an Accept-Language header likes best of ours."""
    liked: list[tuple[float, str]] = []
    for entry in accepted.split(","):
        tag, _sep, weight = entry.replace(" ", "").partition(";q=")
        code = tag.partition("-")[0].lower()
        try:
            quality = float(weight or 1)
        except ValueError:
            continue
        if code in languages() and quality > 0:
            liked.append((-quality, code))
    # The first of equals, as the header has them; `sort` would put them by name.
    return min(liked, key=lambda entry: entry[0])[1] if liked else ENGLISH


def language_of(request: Request) -> str:
    """Return the code of the language in which to answer a request."""
    chosen = request.query_params.get("lang", "")
    code = chosen if chosen in languages() else request.cookies.get(_COOKIE, "")
    return code if code in languages() else preferred(request.headers.get("accept-language", ""))


class LanguageChoice:
    """Middleware that answers a request for the page in the visitor's language.

    `?lang=de` chooses, and the choice is kept in a cookie.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, with the language set in which to answer."""
        request = Request(scope) if scope["type"] == "http" else None
        if request is None or not is_front_page(request):
            await self._app(scope, receive, send)
            return
        chosen = request.query_params.get("lang", "")

        async def send_and_keep(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.add_vary_header("Accept-Language, Cookie")
                if chosen in languages():
                    headers.append("set-cookie", _cookie(chosen, request))
            await send(message)

        with speaking(language_of(request)):
            await self._app(scope, receive, send_and_keep)


def is_front_page(request: Request) -> bool:
    """Whether a request is for the page itself."""
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    return request.method == "GET" and path in ("", "/")


def _cookie(code: str, request: Request) -> str:
    # A Space is shown in a frame of another site, which a Lax cookie would not reach.
    framed = request.url.scheme == "https"
    kept = "SameSite=None; Secure" if framed else "SameSite=Lax"
    return f"{_COOKIE}={code}; Max-Age={_YEAR}; Path=/; {kept}"
