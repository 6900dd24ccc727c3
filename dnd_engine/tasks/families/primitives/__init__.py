"""The primitives: each module holds those of one nature and lists them in `PRIMITIVES`."""

from dnd_engine.tasks.families.operation import Primitive
from dnd_engine.tasks.families.primitives import (
    change,
    facts,
    judge,
    lines,
    numbers,
    order,
    select,
    shape,
)

__all__ = ["PRIMITIVES"]

_HELD_OUT = ("capitals", "rotate", "repeat", "date", "dash")
"""Never part of anything trained."""

PRIMITIVES = tuple(
    Primitive(name, category, variants, name in _HELD_OUT)
    for module in (select, order, change, shape, lines, facts, numbers, judge)
    for (name, category), variants in module.PRIMITIVES.items()
)
