"""Kinds of input whose answers need facts that the text does not spell out, with their operations.

Each module has `INPUTS`, makers of items by kind, and `operations()`.
"""

from collections.abc import Iterator, Mapping

from dnd_engine.tasks.families.inputs import Make
from dnd_engine.tasks.families.kinds import (
    bookings,
    commands,
    contracts,
    headlines,
    languages,
    messages,
    notes,
    statements,
    tables,
    texts,
)
from dnd_engine.tasks.families.operation import Operation

__all__ = ["INPUTS", "operations"]

_MODULES = (
    messages,
    headlines,
    languages,
    texts,
    bookings,
    statements,
    commands,
    contracts,
    notes,
    tables,
)

INPUTS: Mapping[str, Make] = {
    kind: make for module in _MODULES for kind, make in module.INPUTS.items()
}


def operations() -> Iterator[Operation]:
    """Those of all kinds."""
    for module in _MODULES:
        yield from module.operations()
