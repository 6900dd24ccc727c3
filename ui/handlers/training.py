"""A training or a collection, watched while it runs."""

import gradio as gr

from dnd_engine.errors import DndError
from ui.handlers.base import HandlerBase, Updates
from ui.markup import faults
from ui.panels.training import all_numbers_html, training_html

__all__ = ["TrainingHandlers"]


class TrainingHandlers(HandlerBase):
    """Events of the Training tab, which looks anew while it is open and the run moves."""

    def watch_run(self, index: int) -> Updates:
        """Look at one of the run folders."""
        try:
            seen = self._runs[index].look()
        except DndError as error:
            return {
                "training": faults(self._text.TRAINING_UNREADABLE, str(error)),
                "training_all_box": gr.Accordion(visible=False),
                "training_timer": gr.Timer(active=True),
            }
        numbers = all_numbers_html(self._text, seen)
        return {
            "training": training_html(self._text, seen),
            "training_all_box": gr.Accordion(visible=bool(numbers)),
            "training_all": numbers,
            "training_timer": gr.Timer(active=seen.state != "finished"),
        }

    def rest(self) -> Updates:
        """Look no more, once another tab is open."""
        return {"training_timer": gr.Timer(active=False)}
