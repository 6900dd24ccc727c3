"""Events of the Training tab, which follows a run."""

import gradio as gr

from dnd_engine.errors import DndError
from ui.markup import faults
from ui.shared import App, Updates
from ui.state import Session
from ui.tabs.training.view import all_numbers_html, watch_html
from ui.text import _, note_words


class WatchEvents:
    """Events of the Training tab, which refreshes while it is open and the run is unfinished."""

    def __init__(self, app: App) -> None:
        self._app = app

    def choose_run(self, index: int) -> Updates:
        """Switch to another run folder."""
        return {**self.watch_run(index), "watch_all_box": gr.Accordion(open=False)}

    def open_runs(self, session: Session, index: int) -> Updates:
        """Draw a run when its tab opens, and start following it."""
        session.watching = True
        return self.watch_run(index)

    def follow_run(self, session: Session, index: int) -> Updates:
        """Redraw the run, if the tab is still open.

        A late update may restart the timer after the tab was left, so check that it is open.
        """
        return self.watch_run(index) if session.watching else self.rest(session)

    def watch_run(self, index: int) -> Updates:
        """Draw a run, and keep the timer active while it is unfinished."""
        try:
            seen = self._app.runs[index].look()
        except DndError as error:
            words = faults(_("The run cannot be read."), note_words(str(error)))
            # Goes on: a file that is just being written can be read next time.
            return {"watch": words, "watch_timer": gr.Timer(active=True)}
        return {"watch": watch_html(seen), "watch_timer": gr.Timer(active=seen.state != "finished")}

    def all_numbers(self, index: int) -> Updates:
        """List all measured numbers, when that section is opened."""
        try:
            return {"watch_all": all_numbers_html(self._app.runs[index].look())}
        except DndError:
            return {"watch_all": ""}  # the view above shows the reason

    def rest(self, session: Session) -> Updates:
        """Stop following once another tab is open."""
        session.watching = False
        return {"watch_timer": gr.Timer(active=False)}
