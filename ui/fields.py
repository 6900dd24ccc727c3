"""Input fields that enforce their limits on the server.

Gradio raises a server error if a visitor types a number beyond a field's limits. It checks the
length of a text only in the browser, so a program could send any amount.

The browser draws a component by the name of its class, so these have the names of Gradio's own.
"""

from typing import Any

import gradio as gr
from gradio.blocks import Block

from dnd_engine.limits import FIXED
from ui.text import _


class Textbox(gr.Textbox):
    """A text with a maximum length, by default that of a line."""

    # Gradio forwards positional arguments by the names in this signature, so `value` is named.
    def __init__(
        self, value: Any = None, *, max_length: int = FIXED.max_line_chars, **kwargs: Any
    ) -> None:
        super().__init__(value, max_length=max_length, **kwargs)

    def get_config(self, cls: type[Block] | None = None) -> dict[str, Any]:
        """Return the config for the browser: Gradio derives property names from a signature."""
        return super().get_config(cls or gr.Textbox)

    def preprocess(self, payload: str | None) -> str:
        """Return the text; a program that sends none gives an empty one.

        Raises:
            gr.Error: If it is too long.
        """
        text = payload or ""
        check_length(text, self.max_length or FIXED.max_line_chars)
        return super().preprocess(text) or ""


def check_length(text: str, most: int) -> None:
    """Refuse a text that is too long.

    Raises:
        gr.Error: If it has more characters than `most`.
    """
    if len(text) > most:
        words = _(
            "Expected a text of at most {most} characters, got {found}. Shorten it.",
            most=most,
            found=len(text),
        )
        raise gr.Error(words, print_exception=False)


class Slider(gr.Slider):
    """A slider with a number field."""

    def preprocess(self, payload: float | None) -> float:
        """Clamp a value to the range; an empty field gives the lowest."""
        return super().preprocess(self.minimum if payload is None else _within(self, payload))


class Number(gr.Number):
    """A number field."""

    def preprocess(self, payload: float | None) -> float | int | None:
        """Clamp a number to the range; an empty field gives None."""
        return super().preprocess(None if payload is None else _within(self, payload))


def _within(field: gr.Slider | gr.Number, value: float) -> float:
    if field.maximum is not None:
        value = min(value, field.maximum)
    if field.minimum is not None:
        value = max(value, field.minimum)
    return value
