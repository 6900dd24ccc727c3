"""Splits a prompt into instruction and input. This is the only place that decides where.

Training, chat, Refine, Measure and the checks all remove the instruction in the same way, so an
adapter is used on the inputs it was trained for. Imports no torch.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

_GAP = re.compile(r"\n(?:[^\S\n]*\n)+")
"""One or more blank lines. A line of spaces and tabs counts as blank."""

_HEAD_END = re.compile(r"([:.?!]['\"”)]?) ")
"""End of an instruction that is followed by its input on the same line."""
_ABBREVIATED = re.compile(r"\b(?:Mrs?|Ms|Dr|Prof|Rev|St|vs|e\.g|i\.e)\.$")
"""An abbreviation, as in "Reply to Mrs. Green", rather than the end of a sentence. A list, because
the short words of "Answer Yes or No." and "A or B." do end one."""

_MIN_SHARING = 3
"""Minimum number of prompts for a common beginning not to be a coincidence."""
_MIN_LINE_WORDS, _MIN_HEAD_WORDS = 2, 3
"""Minimum words of an instruction that is a first line, or the beginning of a line. "Review:" names
the text, and does not say what to do with it."""


@dataclass(frozen=True, slots=True)
class PromptParts:
    """A prompt, cut at its first blank line."""

    instruction: str
    """The text above the blank line; the whole prompt if there is none."""
    input: str | None
    """The text below it, with its indentation and further blank lines; None if there is none."""

    @property
    def bare(self) -> str:
        """Return the input without its instruction; the whole prompt if it has no input."""
        return self.instruction if self.input is None else self.input

    @property
    def joined(self) -> str:
        """Return the prompt with one blank line between its parts."""
        return self.instruction if self.input is None else f"{self.instruction}\n\n{self.input}"


def split_prompt(prompt: str) -> PromptParts:
    r"""Cut a prompt into instruction and input.

    `\r\n` and `\r` count as `\n`. White space around the prompt is stripped first, so a prompt
    that ends with a blank line has no input.
    """
    text = prompt.replace("\r\n", "\n").replace("\r", "\n").strip()
    if (gap := _GAP.search(text)) is None:
        return PromptParts(text, None)
    # The input keeps its indentation: an adapter must meet the string that it was trained on.
    return PromptParts(text[: gap.start()], text[gap.end() :])


def shared_head(prompts: Sequence[str]) -> str | None:
    """Return the beginning that all prompts share, if it may be their instruction.

    It is the first line, or its beginning up to a colon or the end of a sentence: people write
    "Translate to French: cat" as often as they put the input below.

    Args:
        prompts: Distinct, stripped prompts.

    Returns:
        The instruction; None if there is none, or if any prompt has a blank line.
    """
    if len(prompts) < _MIN_SHARING or any(split_prompt(p).input is not None for p in prompts):
        return None
    first = prompts[0].partition("\n")[0]
    if all(prompt.startswith(f"{first}\n") for prompt in prompts):
        # A letter's "Dear Sir or Madam," is not an instruction.
        is_one = len(first.split()) >= _MIN_LINE_WORDS and not first.rstrip().endswith(",")
        return first if is_one else None
    # What the least and the greatest string share, all share: linear, whatever the prompts hold.
    least, greatest = min(prompts), max(prompts)
    pairs = zip(least, greatest, strict=False)
    shared = least[: sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))]
    heads = [shared[: end.end(1)] for end in _HEAD_END.finditer(shared.partition("\n")[0])]
    # The last end that all share, because an instruction may have several sentences and colons.
    head = next((head for head in reversed(heads) if not _ABBREVIATED.search(head)), "")
    return head if len(head.split()) >= _MIN_HEAD_WORDS else None


def close_blank_lines(instruction: str) -> str:
    """Remove blank lines from an instruction, because the first one would end it."""
    lines = (line.rstrip() for line in instruction.splitlines())
    return "\n".join(line for line in lines if line).strip()
