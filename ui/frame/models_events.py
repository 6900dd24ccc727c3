"""The owner exchanges the models: other visitors of a computer may not."""

from dataclasses import replace
from typing import TYPE_CHECKING

import gradio as gr

from dnd_engine.errors import DndError
from ui.frame.events import PageEvents
from ui.frame.models_view import OTHER, choice_words, load_words, told_html
from ui.markup import faults
from ui.shared import App, Updates, locked_words
from ui.state import Session
from ui.text import _

if TYPE_CHECKING:
    from dnd_engine.generator.installed import Availability, Choice

__all__ = ["ModelsEvents"]


class ModelsEvents:
    """Events of the choice of models."""

    def __init__(self, app: App, page: PageEvents) -> None:
        self._app = app
        self._page = page

    def open(self, request: gr.Request) -> Updates:
        """List what is installed, and choose what is loaded."""
        if not self._app.is_own(request):
            gr.Info(locked_words())
            return {}
        choices, now = self._app.calls.choices()
        listed = [(choice_words(one, choices), one.key) for one in choices]
        return {
            "models_box": gr.Column(visible=True),
            "models_choice": gr.Radio(choices=[*listed, (_("Another base"), OTHER)], value=now.key),
            **self._describe(now),
            "models_base": gr.Textbox(visible=False),
        }

    def close(self) -> Updates:
        """Leave everything as it is."""
        return {"models_box": gr.Column(visible=False)}

    def choose(self, key: str, typed: str, request: gr.Request) -> Updates:
        """Say what a choice takes; nobody is asked for it."""
        if not self._app.is_own(request):
            return {}  # what is told shows which files there are
        shown = {"models_base": gr.Textbox(visible=key == OTHER)}
        choice = self._chosen(key, typed)
        if choice is None:
            words = _("Imprint makes adapters for any supported base. Name one.")
            told = {"models_told": f"<p class='dnd-sub'>{words}</p>"}
            return {**shown, **told, "models_load": gr.Button(load_words(None), interactive=False)}
        return {**shown, **self._describe(choice)}

    def load(
        self, key: str, typed: str, looked_up: str, session: Session, request: gr.Request
    ) -> Updates:
        """Look up what only the Hub knows; else exchange the models.

        Args:
            key: What is chosen.
            typed: A base that is not listed.
            looked_up: The base of which the Hub has said the size.
            session: The visit.
            request: Whose it is.
        """
        choice = self._chosen(key, typed)
        if choice is None or not self._app.is_own(request):
            return {}
        try:
            found = self._app.calls.availability(choice)
            if found.download_bytes is None and looked_up != choice.base:
                asked = self._app.calls.availability(choice, ask_hub=True)
                return {"models_looked_up": choice.base, **_described(choice, asked)}
            self._app.calls.switch(choice)
        except DndError as error:
            return {"models_told": _refused(error)}
        return {**self.close(), **self._page.refresh_load(session)}

    def _chosen(self, key: str, typed: str) -> "Choice | None":
        """Return what is chosen; None while nothing is typed."""
        choices, now = self._app.calls.choices()
        if key == OTHER:
            alone = replace(now, generator=None, generator_bytes=0)
            return replace(alone, base=typed.strip()) if typed.strip() else None
        return next((one for one in choices if one.key == key), None)

    def _describe(self, choice: "Choice") -> Updates:
        try:
            return _described(choice, self._app.calls.availability(choice))
        except DndError as error:
            return {
                "models_told": _refused(error),
                "models_load": gr.Button(load_words(None), interactive=False),
            }


def _described(choice: "Choice", found: "Availability") -> Updates:
    return {
        "models_told": told_html(choice, found),
        "models_load": gr.Button(load_words(found), interactive=True),
    }


def _refused(error: DndError) -> str:
    return faults(_("These models cannot be loaded."), str(error))
