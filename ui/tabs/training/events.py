"""A training or a collection, watched while it runs."""

import gradio as gr

from dnd_engine.errors import DndError
from ui.markup import faults
from ui.shared import App, Updates
from ui.tabs.training.view import all_numbers_html, watch_html
from ui.text import _

__all__ = ["WatchEvents"]


class WatchEvents:
    """Events of the Training tab, which refreshes while it is open and the run moves."""

    def __init__(self, app: App) -> None:
        self._app = app

    def choose_run(self, index: int) -> Updates:
        """Look at another of the run folders."""
        return {**self.watch_run(index), "watch_all_box": gr.Accordion(open=False)}

    def watch_run(self, index: int) -> Updates:
        """Look at it again, and go on to do so while it is not finished."""
        words, finished = self._look(index)
        return {"watch": words, "watch_timer": gr.Timer(active=not finished)}

    def draw_run(self, index: int) -> Updates:
        """Draw it once."""
        return {"watch": self._look(index)[0]}

    def all_numbers(self, index: int) -> Updates:
        """List all that was measured, when that is opened."""
        try:
            return {"watch_all": all_numbers_html(self._app.runs[index].look())}
        except DndError:
            return {"watch_all": ""}  # the view above says why

    def rest(self) -> Updates:
        """Look no more, once another tab is open."""
        return {"watch_timer": gr.Timer(active=False)}

    def _look(self, index: int) -> tuple[str, bool]:
        """Draw a run, and tell whether it is finished."""
        try:
            seen = self._app.runs[index].look()
        except DndError as error:
            return faults(_("The run cannot be read."), str(error)), False
        return watch_html(seen), seen.state == "finished"
