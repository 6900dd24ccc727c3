"""One page for all languages: shown in the visitor's own, and switched in place.

Gradio's `gr.I18n` translates labels in the browser, but only into the browser's language, and
without numbers in messages. So the page is built once, in English, from texts that can be
retranslated (`ui.text.Words`). A request for the page is answered in the language that the visitor
chose (`?lang=`, else a cookie), or else in the browser's. From then on the language is part of the
visit: events draw in it, and the switch is an event that retranslates every text. Nothing is
reloaded, so files, adapter and conversation stay.
"""

from collections.abc import Mapping
from typing import Any

import gradio as gr
from gradio.blocks import Block
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ui.text import ENGLISH, language, languages, said, speaking

_COOKIE = "dnd-language"
_YEAR = 365 * 24 * 3600


def said_of(block: Block) -> dict[str, Any]:
    """Return a component's arguments that contain words, in the current language."""
    arguments = {name: (old, said(old)) for name, old in block.constructor_args.items()}
    return {name: new for name, (old, new) in arguments.items() if new is not old}


def say_again(block: Block, drawn: Any = None) -> Any:
    """Return an update of a component's texts to the current language.

    A handler's update of the component, `drawn`, takes precedence.
    """
    if isinstance(drawn, Block):
        return gr.update(**{**said_of(block), **drawn.constructor_args})
    return gr.update(**said_of(block) if drawn is None else {**said_of(block), "value": drawn})


class SpokenBlocks(gr.Blocks):
    """Blocks whose initial configuration is in the current language, and events in their visit's.

    Otherwise a page would start in English and switch a moment later, and what is said outside of
    handlers, of refused values and unforeseen errors, would be English.
    """

    async def process_api(
        self, block_fn: Any, inputs: Any, state: Any = None, *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        """Run an event in the language of its visit; see `gr.Blocks.process_api`."""
        with speaking(self._language_of(block_fn, state)):
            return await super().process_api(block_fn, inputs, state, *args, **kwargs)

    def _language_of(self, block_fn: Any, state: Any) -> str:
        # The visit is the first input of every event of the page; see `ui.page`. Others have none.
        first = next(iter(block_fn.inputs), None)
        number = next((number for number, block in self.blocks.items() if block is first), None)
        visit = None if state is None or number not in state else state[number]
        return getattr(visit, "language", ENGLISH)

    @property
    def config(self) -> Any:
        """The configuration that Gradio serves."""
        code = language().code
        # Translated once for each language, because every request for the page reads this.
        if code not in self._said:
            components = [self._say(component) for component in self._config["components"]]
            self._said[code] = {**self._config, "components": components}
        return self._said[code]

    @config.setter
    def config(self, config: Any) -> None:  # set by Gradio, more than once
        self._config = config
        self._said: dict[str, Any] = {}

    def _say(self, component: Mapping[str, Any]) -> Mapping[str, Any]:
        words, props = said_of(self.blocks[component["id"]]), component["props"]
        if own := props.get("props"):  # properties of a `gr.HTML` that are not Gradio's
            own = {name: words.pop(name, value) for name, value in own.items()}
            words["props"] = own
        return {**component, "props": {**props, **words}}


def preferred(accepted: str) -> str:
    """Return the code of our language that an Accept-Language header prefers."""
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
    # `min` keeps the first of equals, in the header's order; `sort` would order them by name.
    return min(liked, key=lambda entry: entry[0])[1] if liked else ENGLISH


def language_of(request: Request) -> str:
    """Return the code of the language to answer a request in."""
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
        """Pass the request on with its language set."""
        request = Request(scope) if scope["type"] == "http" else None
        if request is None or not is_front_page(request):
            await self._app(scope, receive, send)
            return
        chosen = request.query_params.get("lang", "")

        async def send_and_keep(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                # Or a cache would give one visitor's language to all.
                headers.add_vary_header("Accept-Language, Cookie")
                if chosen in languages():
                    headers.append("set-cookie", _cookie(chosen, request))
            await send(message)

        with speaking(language_of(request)):
            await self._app(scope, receive, send_and_keep)


def is_front_page(request: Request) -> bool:
    """Return whether a request is for the page itself."""
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    return request.method == "GET" and path in ("", "/")


def _cookie(code: str, request: Request) -> str:
    # A Space is embedded in a frame of another site, which would not receive a Lax cookie.
    framed = request.url.scheme == "https"
    # Not HttpOnly: `assets/page.js` sets it too, when the language is switched in place.
    kept = "SameSite=None; Secure" if framed else "SameSite=Lax"
    return f"{_COOKIE}={code}; Max-Age={_YEAR}; Path=/; {kept}"
