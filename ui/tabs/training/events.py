"""A training or a collection, watched while it runs."""

import gradio as gr

from dnd_engine.errors import DndError
from ui.markup import faults
from ui.shared import App, Updates
from ui.state import Session
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

    def open_runs(self, session: Session, index: int) -> Updates:
        """Look at a run now that its tab is open, and go on to do so."""
        session.watching = True
        return self.watch_run(index)

    def follow_run(self, session: Session, index: int) -> Updates:
        """Look at it again, if the tab is still open.

        What an earlier look says of the timer may arrive after the tab was left, and start it.
        """
        return self.watch_run(index) if session.watching else self.rest(session)

    def watch_run(self, index: int) -> Updates:
        """Look at it, and say to go on while it is not finished."""
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

    def rest(self, session: Session) -> Updates:
        """Look no more, once another tab is open."""
        session.watching = False
        return {"watch_timer": gr.Timer(active=False)}

    def _look(self, index: int) -> tuple[str, bool]:
        """Draw a run, and tell whether it is finished."""
        try:
            seen = self._app.runs[index].look()
        except DndError as error:
            return faults(_("The run cannot be read."), str(error)), False
        return watch_html(seen), seen.state == "finished"
