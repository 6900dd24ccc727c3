"""The primitives: each module holds those of one nature and lists them in `PRIMITIVES`."""

from dnd_engine.tasks.families.operation import Primitives
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

__all__ = ["HELD_OUT", "PRIMITIVES"]

HELD_OUT = ("capitals", "rotate", "repeat", "date", "dash")
"""Never part of anything trained."""

PRIMITIVES: Primitives = {
    key: variants
    for module in (select, order, change, shape, lines, facts, numbers, judge)
    for key, variants in module.PRIMITIVES.items()
}
