"""Fields for numbers that take the nearest value they allow.

Gradio answers a number beyond a field's limits, as somebody types it, with an error of the server.
"""

import gradio as gr

from ui.without_stub import WithoutStub

__all__ = ["NumberField", "Slider"]


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
