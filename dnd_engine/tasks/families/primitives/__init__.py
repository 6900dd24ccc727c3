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

PRIMITIVES: tuple[Primitive, ...] = (
    *select.PRIMITIVES,
    *order.PRIMITIVES,
    *change.PRIMITIVES,
    *shape.PRIMITIVES,
    *lines.PRIMITIVES,
    *facts.PRIMITIVES,
    *numbers.PRIMITIVES,
    *judge.PRIMITIVES,
)
