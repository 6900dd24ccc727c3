"""The sentences with the numbers behind a verdict, and how a report's text is read back.

A report keeps them as English text. `read_back` tells messages and values apart again, by the
messages that the text was made of, so that the page can say them in another language.
"""

import re
import string
from collections.abc import Sequence
from functools import cache

from dnd_engine.notes import Note, joined, noted
from dnd_engine.wording import LISTED, MEASURED_ROWS, N_, ROWS

LEVEL = N_("{row} {mean} ({low} to {high})")
DIFFERENCE = N_("{mean} ({low} to {high})")
DIFFERENCE_OF_ITEMS = N_("{mean} ({low} to {high}, over items of one family)")
_PARTS = (LEVEL, DIFFERENCE, DIFFERENCE_OF_ITEMS, LISTED)

NOT_MEASURED = N_("Not measured: {row}.")
BOTH = N_("{row} {mean}, {other} {other_mean}.")
BY = N_("Difference {difference}.")
BY_SEVERAL = N_("Differences {differences}.")
MATCH = N_("{level}; {other_level}; difference {difference}.")
OVER = N_("Over {row} {difference}.")
WITH_CONTROLS = N_("{level}; {levels}.")
LIKELIER_ONLY = N_(
    "The reference is likelier with the right prompts, by {differences} nats a token, but no more "
    "answers come out right."
)
GAIN = N_(
    "With the right prompts the reference gains {difference} nats a token over another task's; it "
    "gains on {share} of {number} tasks."
)
GAP = N_(
    "{level} against {mean} for a LoRA trained on labels: {share} of the gap ({share_low} to "
    "{share_high})."
)
FORMAT = N_("The answer format is right in {share}.")
ALL_THE_SAME = N_("Every item scores the same with the right prompts and with another task's.")
RIGHT_MINUS_WRONG = N_(
    "Right minus wrong prompts: score {difference}, reference likelier by {other_difference} nats "
    "a token."
)
ONE_ADAPTER = N_("All tasks get one and the same adapter.")
COSINES = N_("Centred cosine of ΔW: same task {mean}, different tasks {other_mean}.")
ALL_AS_NEAREST = N_("Every item scores as with the nearest training task's LoRA.")
MINUS_NEAREST = N_(
    "Generator minus nearest training LoRA: score {difference}, loss {other_difference} nats a "
    "token."
)
DISTANCE = N_(
    "ΔW is {mean} times as far from its nearest training adapter as training tasks are from each "
    "other."
)
_SENTENCES = (
    *(NOT_MEASURED, BOTH, BY, BY_SEVERAL, MATCH, OVER, WITH_CONTROLS, LIKELIER_ONLY, GAIN, GAP),
    *(FORMAT, ALL_THE_SAME, RIGHT_MINUS_WRONG, ONE_ADAPTER, COSINES, ALL_AS_NEAREST),
    *(MINUS_NEAREST, DISTANCE),
)

_NUMBER, _SHARE = r"[-+]?\d*\.?\d+", r"-?\d+ %"
_ENDS = rf"{_NUMBER} \({_NUMBER} to {_NUMBER}(?:, over items of one family)?\)"
_VALUES = {
    **dict.fromkeys(("mean", "other_mean", "low", "high", "number"), _NUMBER),
    **dict.fromkeys(("share", "share_low", "share_high"), _SHARE),
    **dict.fromkeys(("difference", "other_difference"), _ENDS),
    **dict.fromkeys(("row", "other"), r"[^();]+?"),
    **dict.fromkeys(("level", "other_level"), rf"[^();]+? {_ENDS}"),
}
"""Patterns of values by their names in messages. Others, such as `levels`, list several."""
_NAMES = frozenset({*ROWS.values(), *MEASURED_ROWS.values(), N_("Generator")})


def read_back(text: str) -> Note | None:
    """Return evidence with messages and values apart; None if it is of another version."""
    found = []
    for sentence in re.split(r"(?<=\.) (?=[A-ZΔ])", text):
        note = _read(sentence, _SENTENCES)
        if note is None:
            return None
        found.append(note)
    return joined(found, " ")


def _read(text: str, messages: Sequence[str]) -> Note | None:
    for message in messages:
        if match := _pattern(message).fullmatch(text):
            values = {name: _value(part) for name, part in match.groupdict().items()}
            return noted(message, **values)
    return None


def _value(text: str) -> str:
    """Return a value, as a note if it has words."""
    return noted(text) if text in _NAMES else _read(text, _PARTS) or text


@cache
def _pattern(message: str) -> re.Pattern[str]:
    parts = []
    for words, name, _spec, _conversion in string.Formatter().parse(message):
        parts.append(re.escape(words))
        if name is not None:
            parts.append(f"(?P<{name}>{_VALUES.get(name, '.+')})")
    return re.compile("".join(parts))
