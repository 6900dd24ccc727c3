"""Switching the models, which only the owner of the computer may do."""

from dataclasses import replace
from typing import TYPE_CHECKING

import gradio as gr

from dnd_engine.errors import DndError
from ui.frame.events import PageEvents
from ui.frame.models_view import OTHER, choice_words, load_words, told_html
from ui.markup import faults, quiet, remark
from ui.shared import App, Updates, locked_words
from ui.state import Session
from ui.text import _, note_words

if TYPE_CHECKING:
    from dnd_engine.generator.installed import Availability, Choice


class ModelsEvents:
    """Events of the model chooser."""

    def __init__(self, app: App, page: PageEvents) -> None:
        self._app = app
        self._page = page

    def open(self, session: Session, request: gr.Request) -> Updates:
        """List the installed models, with the loaded ones selected."""
        if not self._app.is_own(request):
            # The page is older than the app's last start, which made another key. Said below the
            # header: outside of the queue, Gradio drops messages for its corner.
            told = {"load_box": gr.Row(visible=True), "load": remark(locked_words())}
            return {**self._page.refresh_load(session, request), **told}
        choices, now = self._app.calls.choices()
        listed = [(choice_words(one, choices), one.key) for one in choices]
        return {
            "models_box": gr.Column(visible=True),
            "models_choice": gr.Radio(choices=[*listed, (_("Another base"), OTHER)], value=now.key),
            **self._describe(now),
            "models_base": gr.Textbox(visible=False),
        }

    def close(self) -> Updates:
        """Close the chooser without changes."""
        return {"models_box": gr.Column(visible=False)}

    def choose(self, key: str, typed: str, request: gr.Request) -> Updates:
        """Describe the size and download of a choice, without network requests."""
        if not self._app.is_own(request):
            return {}  # the description reveals which files exist
        choice = self._chosen(key, typed)
        if choice is None:
            words = _("Imprint makes adapters for any supported base. Name one.")
            described = _not_loadable(quiet(words))
        else:
            described = self._describe(choice)
        return {"models_base": gr.Textbox(visible=key == OTHER), **described}

    def load(
        self, key: str, typed: str, looked_up: str, session: Session, request: gr.Request
    ) -> Updates:
        """Look up a size on the Hub, or switch the models.

        `looked_up` is the base whose size was looked up before.
        """
        choice = self._chosen(key, typed)
        if choice is None or not self._app.is_own(request):
            return {}
        try:
            found = self._app.calls.availability(choice)
            # The first press only asks the Hub for the size, so that nothing large comes unasked.
            if found.download_bytes is None and looked_up != choice.base:
                asked = self._app.calls.availability(choice, ask_hub=True)
                return {"models_looked_up": choice.base, **_described(choice, asked)}
            self._app.calls.switch(choice)
        except DndError as error:
            return {"models_told": _refused(error)}
        return {**self.close(), **self._page.refresh_load(session, request)}

    def _chosen(self, key: str, typed: str) -> "Choice | None":
        """Return the selected choice; None while the name is empty."""
        choices, now = self._app.calls.choices()
        if key == OTHER:
            alone = replace(now, generator=None, generator_bytes=0)
            return replace(alone, base=typed.strip()) if typed.strip() else None
        return next((one for one in choices if one.key == key), None)

    def _describe(self, choice: "Choice") -> Updates:
        try:
            return _described(choice, self._app.calls.availability(choice))
        except DndError as error:
            return _not_loadable(_refused(error))


def _not_loadable(told: str) -> Updates:
    return {"models_told": told, "models_load": gr.Button(load_words(None), interactive=False)}


def _described(choice: "Choice", found: "Availability") -> Updates:
    return {
        "models_told": told_html(choice, found),
        "models_load": gr.Button(load_words(found), interactive=True),
    }


def _refused(error: DndError) -> str:
    return faults(_("These models cannot be loaded."), note_words(str(error)))
