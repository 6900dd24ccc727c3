"""All operations by name, created on first use."""

from collections import Counter
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from dnd_engine.errors import ConfigError
from dnd_engine.tasks.families import answers, inputs, kinds
from dnd_engine.tasks.families.compositions import compositions
from dnd_engine.tasks.families.inputs import Make
from dnd_engine.tasks.families.operation import Operation, in_scope
from dnd_engine.tasks.families.primitives import HELD_OUT, PRIMITIVES


@cache
def all_operations() -> Mapping[str, Operation]:
    """Every operation of every primitive, composition and kind.

    Raises:
        ConfigError: If two share a name.
    """
    single = [
        in_scope(variant, scope, family, category, held_out=family in HELD_OUT)
        for (family, category), variants in PRIMITIVES.items()
        for variant in variants
        for scope in variant.scopes
    ]
    composed = compositions({op.name: op for op in single})
    everything = (*single, *composed, *answers.operations())
    # A name is the slug of a folder, and what `operation` in a stored index stands for.
    names = Counter(op.name for op in everything)
    repeated = [name for name, count in names.items() if count > 1]
    if repeated:
        raise ConfigError(f"operation names must differ, got more than one {repeated[0]!r}.")
    return MappingProxyType({op.name: op for op in everything})


def all_inputs() -> Mapping[str, Make]:
    """Makers of items by input kind."""
    return {**inputs.KINDS, **kinds.KINDS}


def apply_operation(name: str, text: str) -> str | None:
    """Apply an operation to a text.

    Args:
        name: As in the column `operation` of `tasks.csv`.
        text: Any bare input, also one of another operation.

    Returns:
        The answer; None if the operation does not apply to the text, or is no function of the text
        alone, as classification and SQL are.

    Raises:
        ConfigError: If there is no such operation.
    """
    operation = all_operations().get(name)
    if operation is None:
        raise ConfigError(f"there is no operation {name!r}; `all_operations` has them all.")
    # An input of another operation may have empty parts, and an empty text is no answer.
    return (operation.run(text) or None) if operation.run is not None else None
