"""The steps of the engine, in the visitor's language."""

import re
from typing import TYPE_CHECKING

from ui.text import ENGLISH, N_, _, language, localized

if TYPE_CHECKING:
    from dnd_engine.progress import Progress

__all__ = ["step_words"]

_STEPS = {
    r"“(?P<answer>.*)” to (?P<same>\d+) of (?P<number>\d+) prompts": N_(
        "“{answer}” to {same} of {number} prompts"
    ),
    r"“(?P<answer>.*)” to (?P<same>\d+) of (?P<number>\d+) prompts, (?P<different>\d+) different "
    r"answers": N_("“{answer}” to {same} of {number} prompts, {different} different answers"),
    r"Loss (?P<loss>[\d.]+)": N_("Loss {loss}"),
    r"Loss (?P<loss>[\d.]+), (?P<seconds>\d+) s left": N_("Loss {loss}, {seconds} s left"),
    r"On (?P<number>\d+) prompts": N_("On {number} prompts"),
    r"(?P<done>[\d.]+) of (?P<total>[\d.]+) MB": N_("{done} of {total} MB"),
}


def step_words(progress: "Progress") -> str:
    """Say how far a step is; what is not known here is left out in another language."""
    if language().code == ENGLISH:
        return progress.detail
    for pattern, words in _STEPS.items():
        if found := re.fullmatch(pattern, progress.detail):
            values = {
                name: value if name == "answer" else localized(value)
                for name, value in found.groupdict().items()
            }
            return _(words, **values)
    return ""
