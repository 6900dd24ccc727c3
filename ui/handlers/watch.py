"""A training or a collection, watched while it runs."""

import gradio as gr

from dnd_engine.errors import DndError
from ui.handlers.base import HandlerBase, Updates
from ui.markup import faults
from ui.panels.watch import all_numbers_html, watch_html

__all__ = ["WatchHandlers"]


class WatchHandlers(HandlerBase):
    """Events of the Training tab, which looks anew while it is open and the run moves."""

    def choose_run(self, index: int) -> Updates:
        """Look at another of the run folders."""
        return {**self.watch_run(index), "watch_all_box": gr.Accordion(open=False)}

    def watch_run(self, index: int) -> Updates:
        """Look at it again, and go on to do so while it is not finished."""
        try:
            seen = self._runs[index].look()
        except DndError as error:
            words = faults(self._text.WATCH_UNREADABLE, str(error))
            return {"watch": words, "watch_timer": gr.Timer(active=True)}
        return {
            "watch": watch_html(self._text, seen),
            "watch_timer": gr.Timer(active=seen.state != "finished"),
        }

    def all_numbers(self, index: int) -> Updates:
        """List all that was measured, when that is opened."""
        try:
            return {"watch_all": all_numbers_html(self._text, self._runs[index].look())}
        except DndError:
            return {"watch_all": ""}  # the view above says why

    def rest(self) -> Updates:
        """Look no more, once another tab is open."""
        return {"watch_timer": gr.Timer(active=False)}
