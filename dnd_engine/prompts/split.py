"""Splits a prompt into instruction and input. This is the only place that decides where.

Training, chat, Refine, Measure and the checks all remove the instruction in the same way, so an
adapter is used on the inputs it was trained for. Imports no torch.
"""

import re
from dataclasses import dataclass

__all__ = ["PromptParts", "close_blank_lines", "split_prompt"]

_GAP = re.compile(r"\n(?:[^\S\n]*\n)+")
"""One or more blank lines. A line of spaces and tabs counts as blank."""


@dataclass(frozen=True, slots=True)
class PromptParts:
    """A prompt, cut at its first blank line."""

    instruction: str
    """The text above the blank line; the whole prompt if there is none."""
    input: str | None
    """The text below it, with its indentation and further blank lines; None if there is none."""

    @property
    def bare(self) -> str:
        """The input without its instruction; the whole prompt where nothing can be left out."""
        return self.instruction if self.input is None else self.input

    @property
    def joined(self) -> str:
        """The prompt again, with one blank line between its parts."""
        return self.instruction if self.input is None else f"{self.instruction}\n\n{self.input}"


def split_prompt(prompt: str) -> PromptParts:
    r"""Cut a prompt into instruction and input.

    `\r\n` and `\r` count as `\n`. White space around the prompt is stripped first, so a prompt
    that ends with a blank line has no input.

    Args:
        prompt: Text from a file, a chat or an API call.
    """
    text = prompt.replace("\r\n", "\n").replace("\r", "\n").strip()
    if (gap := _GAP.search(text)) is None:
        return PromptParts(text, None)
    return PromptParts(text[: gap.start()], text[gap.end() :])


def close_blank_lines(instruction: str) -> str:
    """Return an instruction without blank lines, each of which would end it there."""
    lines = (line.rstrip() for line in instruction.splitlines())
    return "\n".join(line for line in lines if line).strip()
