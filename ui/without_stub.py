"""Components of our own, of which Gradio writes no `.pyi` beside their module."""

from typing import Any
from unittest import mock

from gradio import component_meta

__all__ = ["WithoutStub"]


class WithoutStub(component_meta.ComponentMeta):
    """Keeps Gradio from writing a `.pyi` beside a component, where type checkers would find it."""

    def __new__(cls, name: str, bases: tuple[type, ...], attrs: dict[str, Any]) -> Any:
        """Make the class."""
        with mock.patch.object(component_meta, "create_or_modify_pyi"):
            return super().__new__(cls, name, bases, attrs)  # type: ignore[no-untyped-call]  # Gradio's
