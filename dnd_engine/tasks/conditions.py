"""Conditions and the items that are scored: an adapter must not be made from what it is scored on.

Knows tasks and their texts, and no model.
"""

from collections.abc import Iterable, Sequence

from dnd_engine.errors import TaskError
from dnd_engine.prompts.split import split_prompt
from dnd_engine.prompts.words import shorten
from dnd_engine.tasks.folder import Example


def check_conditions(conditions: Iterable[str], scored: Sequence[Example]) -> None:
    """Refuse conditions that hold an item to be scored.

    Args:
        conditions: Prompts that an adapter is made from.
        scored: Items that it will be scored on.

    Raises:
        TaskError: If `unscored` would take one out.
    """
    given = list(conditions)
    free = set(unscored(given, scored))
    held = [text for text in given if text not in free]
    if held:
        raise TaskError(
            f"{len(held)} of {len(given)} condition prompts hold items that are scored, such as "
            f"{shorten(held[0], 60)!r}. Draw conditions from the train side, without what the "
            "test side repeats (`unscored`)."
        )


def unscored(
    conditions: Iterable[str], scored: Sequence[Example], *, by_input: bool | None = None
) -> list[str]:
    """Take out the prompts that hold a scored item.

    That is, its whole prompt or, under whatever instruction, its bare input, up to white space. A
    bare input counts only where it identifies an item: where nearly every item has an instruction
    of its own, part of the input is before the blank line. Pass `by_input` where more than the
    scored items tells whether it does: a few of them may have an instruction each by chance.
    """
    items = {spaced(example.prompt) for example in scored}
    if bare_identifies(scored) if by_input is None else by_input:
        items |= {spaced(example.bare) for example in scored if example.bare}

    def held(text: str) -> bool:
        # `items` holds bare inputs too, so a condition without any instruction is also compared.
        bare = split_prompt(text).input
        return spaced(text) in items or (bare is not None and spaced(bare) in items)

    return [text for text in conditions if not held(text)]


def bare_identifies(examples: Sequence[Example]) -> bool:
    """Whether the text before the blank line is an instruction, not a part of the input."""
    parts = [split_prompt(example.prompt) for example in examples]
    heads = [part.instruction for part in parts if part.input is not None]
    return len(set(heads)) <= len(heads) / 2


def spaced(text: str) -> str:
    """One space between words: exact but for the layout."""
    return " ".join(text.split())
