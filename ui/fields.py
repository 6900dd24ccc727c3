"""Fields that keep to their limits, whoever sends the value.

Gradio answers a number beyond a field's limits, as somebody types it, with an error of the server.
It leaves the length of a text to the browser, so a program could have a visit hold any amount.
"""

from typing import Any

import gradio as gr
from gradio.blocks import Block

from dnd_engine.limits import FIXED
from ui.text import _
from ui.without_stub import WithoutStub

__all__ = ["NumberField", "Slider", "Textbox"]


class Textbox(gr.Textbox, metaclass=WithoutStub):
    """A text of so many characters at most: by default, of a line."""

    # Gradio hands positional arguments on by the names of this signature, so the value is named.
    def __init__(
        self, value: Any = None, *, max_length: int = FIXED.max_line_chars, **kwargs: Any
    ) -> None:
        super().__init__(value, max_length=max_length, **kwargs)

    def get_config(self, cls: type[Block] | None = None) -> dict[str, Any]:
        """Describe it to the browser: Gradio reads the names of properties from a signature."""
        return super().get_config(cls or gr.Textbox)

    def preprocess(self, payload: str | None) -> str | None:
        """Return the text.

        Raises:
            gr.Error: If it is too long.
        """
        most = self.max_length or FIXED.max_line_chars
        if payload is not None and len(payload) > most:
            words = _(
                "Expected a text of at most {most} characters, got {found}. Shorten it.",
                most=most,
                found=len(payload),
            )
            raise gr.Error(words, print_exception=False)
        return super().preprocess(payload)

    def get_block_name(self) -> str:
        """Name the component whose look it has."""
        return "textbox"


class Slider(gr.Slider, metaclass=WithoutStub):
    """A slider whose number may be typed."""

    def preprocess(self, payload: float | None) -> float:
        """Return the nearest value of the range; the lowest if the field is empty."""
        return super().preprocess(self.minimum if payload is None else _within(self, payload))

    def get_block_name(self) -> str:
        """Name the component whose look it has."""
        return "slider"


class NumberField(gr.Number, metaclass=WithoutStub):
    """A number that is typed."""

    def preprocess(self, payload: float | None) -> float | int | None:
        """Return the nearest number allowed, or None if the field is empty."""
        return super().preprocess(None if payload is None else _within(self, payload))

    def get_block_name(self) -> str:
        """Name the component whose look it has."""
        return "number"


def _within(field: gr.Slider | gr.Number, value: float) -> float:
    if field.maximum is not None:
        value = min(value, field.maximum)
    if field.minimum is not None:
        value = max(value, field.minimum)
    return value
