"""Base of our own components, for which Gradio must write no `.pyi` file."""

from typing import Any
from unittest import mock

from gradio import component_meta


class WithoutStub(component_meta.ComponentMeta):
    """Stops Gradio from writing a `.pyi` beside a component, where type checkers would find it."""

    def __new__(cls, name: str, bases: tuple[type, ...], attrs: dict[str, Any]) -> Any:
        """Make the class."""
        # Gradio has no switch for this, and calls the writer while it makes the class.
        with mock.patch.object(component_meta, "create_or_modify_pyi"):
            return super().__new__(cls, name, bases, attrs)  # type: ignore[no-untyped-call]  # Gradio's
