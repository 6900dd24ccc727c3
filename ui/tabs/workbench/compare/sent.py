"""What each side of a comparison reads of a question. Imports no torch."""

from collections.abc import Sequence

from dnd_engine.prompts.buckets import Bucket
from dnd_engine.prompts.split import split_prompt
from ui.state import AskMode, Place

_MAX_INSTRUCTIONS = 20
"""Maximum length of the list; nobody would read more."""


def instructions_of(buckets: Sequence[Bucket]) -> list[tuple[str, str]]:
    """List distinct pairs of bucket name and instruction, in the order of the prompts."""
    found = (
        (bucket.name, parts.instruction)
        for bucket in buckets
        for parts in (split_prompt(prompt.text) for prompt in bucket.prompts)
        if parts.input is not None
    )
    return list(dict.fromkeys(found))[:_MAX_INSTRUCTIONS]


def has_several_instructions(buckets: Sequence[Bucket]) -> bool:
    """Return whether one instruction does not fit all prompts."""
    return len({instruction for _name, instruction in instructions_of(buckets)}) > 1


def is_told(mode: AskMode, place: Place) -> bool:
    """Return whether this side reads the instruction."""
    return mode == "written" or (mode == "told" and place == "left")


def sent(question: str, mode: AskMode, place: Place, instruction: str = "") -> str:
    """Return the question as this side reads it.

    Args:
        question: Text as typed. With a blank line it contains its own instruction.
        mode: Which sides read the instruction.
        place: The side.
        instruction: Added on the instructed side to a question without one, but never in mode *as
            written*.
    """
    parts = split_prompt(question)
    if not is_told(mode, place):
        return parts.bare
    # A question with an instruction of its own keeps it.
    if mode == "told" and parts.input is None and instruction:
        return f"{instruction}\n\n{question}"
    return question
