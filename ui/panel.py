"""Parts of the page, and the names that handlers call their components by."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import gradio as gr
from gradio.blocks import Block

from dnd_engine.files import asset_path


class SlotError(Exception):
    """The names of components are inconsistent: a bug."""


class Panel:
    """A part of the page: its constructor lays out the components that are its attributes.

    The name of an attribute is the slot that handlers use, so that each component is named once. A
    dataclass would name it as a field, where it is laid out, and where it is passed on.
    """

    PREFIX: ClassVar[str] = ""
    """Comes before the names of its slots."""


def button(words: str, elem_id: str, **look: Any) -> gr.Button:
    """Lay out a button that is as wide as its words, unless `look` says otherwise."""
    return gr.Button(words, elem_id=elem_id, **{"size": "md", "min_width": 0, **look})


def script(*names: str) -> str:
    """Return scripts of `assets`, one after the other, as the script of a component."""
    return "\n".join(asset_path(f"{name}.js").read_text(encoding="utf-8") for name in names)


def slots_of(*panels: Panel) -> dict[str, Block]:
    """Return the components of panels by the names of their attributes.

    An attribute with several components gives one slot each: `take` with the keys `a` and `b` gives
    `take_a` and `take_b`, a sequence `take_0` and `take_1`. Nested panels give their own slots.

    Raises:
        SlotError: If two components would have the same name, or an attribute is something else.
    """
    slots: dict[str, Block] = {}
    for name, block in (named for panel in panels for named in _named(panel)):
        if name in slots:
            raise SlotError(
                f"Two components are named `{name}`: rename an attribute of their panels."
            )
        slots[name] = block
    return slots


def _named(panel: Panel) -> Iterator[tuple[str, Block]]:
    attributes: Mapping[str, Any] = vars(panel)
    for attribute, value in attributes.items():
        name = f"{panel.PREFIX}{attribute}"
        if isinstance(value, Block):
            yield name, value
        elif isinstance(value, Panel):
            yield from _named(value)
        elif isinstance(value, Mapping):
            yield from ((f"{name}_{key}", block) for key, block in value.items())
        elif isinstance(value, tuple):
            yield from ((f"{name}_{index}", block) for index, block in enumerate(value))
        else:
            raise SlotError(
                f"`{type(panel).__name__}.{attribute}`: expected a component, a mapping or tuple "
                f"of components, or a panel, got {type(value).__name__}."
            )
