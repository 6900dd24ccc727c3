"""Where a prompt's instruction ends and its input begins: the only place that decides it.

Training, chat, Refine, Measure and the checks all leave the instruction out in the same way, so an
adapter is asked for what it was trained on. Knows texts only, and imports no torch.
"""

import re
from dataclasses import dataclass

__all__ = ["PromptParts", "split_prompt"]

_GAP = re.compile(r"\n(?:[^\S\n]*\n)+")
"""One blank line or more; spaces and tabs do not make a line less blank."""


@dataclass(frozen=True, slots=True)
class PromptParts:
    """A prompt, cut at its first blank line."""

    instruction: str
    """What stands above the blank line; the whole prompt if there is none."""
    input: str | None
    """What stands below it, indentation and further blank lines included; None if there is none."""

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

    Line ends of Windows (`\r\n`) and of old Macs (`\r`) count as `\n`. White space around the
    prompt is dropped first, so a prompt that ends with a blank line has no input.

    Args:
        prompt: As a file, a chat or an API call has it.
    """
    text = prompt.replace("\r\n", "\n").replace("\r", "\n").strip()
    if (gap := _GAP.search(text)) is None:
        return PromptParts(text, None)
    return PromptParts(text[: gap.start()], text[gap.end() :])
