"""Instructions: phrases in frames, five for training, two for validation, one for the test side.

A *phrase* says what to do (`reverse the order of the words`) or asks (`which city is named?`);
phrases come in groups that share a verb. A *frame* stands around it (`Please {p}.`). Training never
sees the test wording, neither its frame nor its verb. The validation wordings have frames of their
own too, at the end of the train side; training leaves them out only as far as it holds back that
end (see `write`).
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from dnd_engine.errors import ConfigError
from dnd_engine.tasks.lists import read_lists

Phrases = tuple[tuple[str, ...], ...]
"""Groups of phrases that share a verb. The last group is for the test side."""

_ORDERS: Mapping[str, tuple[str, ...]] = {
    "train": (
        # Twice, so that the plain form comes twice as often.
        "{P}.",
        "{P}.",
        "{P}, please.",
        "Please {p}.",
        "Task: {p}.",
        "Read the text and {p}.",
        "Take the text below and {p}.",
        "Your job is to {p}.",
        "I need you to {p}.",
        "Could you {p}?",
        "For the input below, {p}.",
    ),
    "validation": ("You should {p}.", "Now {p}.", "I want you to {p}."),
    "test": ("What you have to do: {p}.",),
}
_QUESTIONS: Mapping[str, tuple[str, ...]] = {
    "train": (
        "{P}",
        "{P}",
        "Read the text. {P}",
        "Question: {p}",
        "{P} Answer briefly.",
        "Look at the input. {P}",
    ),
    "validation": ("Tell me: {p}", "Answer the question: {p}", "Say it: {p}"),
    "test": ("Please answer this: {p}",),
}
_NUM_TRAIN, _NUM_VALIDATION = 5, 2


@dataclass(frozen=True, slots=True)
class Wordings:
    """Eight different instructions for one operation."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


def phrases(*each: str) -> Phrases:
    """Phrases of which every one has a verb of its own."""
    return tuple((phrase,) for phrase in each)


def label_phrases(conditions: Sequence[str], yes: str, no: str) -> Phrases:
    """Ways to ask for `yes` where a condition holds, else `no`.

    The last phrase, with the last condition, is for tests.
    """
    *seen, last = read_lists("phrases")["one-of-two"]
    return (
        *(tuple(way.format(yes=yes, no=no, when=when) for when in conditions) for way in seen),
        (last.format(yes=yes, no=no, test=conditions[-1]),),
    )


def class_phrases(attribute: str, labels: Mapping[str, str]) -> Phrases:
    """Ways to ask for an attribute, such as `topic`, by labels for its meanings."""
    # Not `sport for sport`.
    *others, last = (
        label if label == meaning else f"{label} for {meaning}" for meaning, label in labels.items()
    )
    listed = f"{', '.join(others)} or {last}"
    ways = read_lists("phrases")["one-of-several"]
    return phrases(*(way.format(attribute=attribute, labels=listed) for way in ways))


def make_wordings(name: str, groups: Phrases, tails: Sequence[str] = ()) -> Wordings:
    """Choose the wordings of an operation; they depend on its name alone.

    Args:
        name: The operation, for the draw and for messages.
        groups: Three or more groups of phrases.
        tails: Sentences of which one follows the phrase; the last is for the test side.

    Raises:
        ConfigError: If the phrases do not give eight different instructions.
    """
    rng = random.Random(f"wording:{name}")
    seen = [rng.sample(group, len(group)) for group in groups[:-1]]
    # Round after round over the verbs, so that each occurs before one occurs twice.
    turns = [p for p in chain.from_iterable(zip_longest(*seen)) if p is not None]
    trained = _draw(rng, turns, tails[:-1], "train", _NUM_TRAIN)
    # Continue after the phrases that training has used.
    turns = turns[_NUM_TRAIN % len(turns) :] + turns[: _NUM_TRAIN % len(turns)]
    validation = _draw(rng, turns, tails[:-1], "validation", _NUM_VALIDATION)
    test = _draw(rng, groups[-1], tails[-1:], "test", 1)
    found = len({*trained, *validation, *test})
    if len(groups) < 3 or found < _NUM_TRAIN + _NUM_VALIDATION + 1:
        raise ConfigError(
            f"operation `{name}`: expected three groups of phrases and eight different wordings, "
            f"got {len(groups)} and {found}. Add phrases."
        )
    return Wordings(trained, validation, test)


def _draw(
    rng: random.Random, turns: Sequence[str], tails: Sequence[str], part: str, count: int
) -> tuple[str, ...]:
    """`count` instructions, each of its own frame and phrase as far as they reach."""
    orders = rng.sample(_ORDERS[part], len(_ORDERS[part]))
    questions = rng.sample(_QUESTIONS[part], len(_QUESTIONS[part]))
    found: list[str] = []
    turn = 0
    # Too few phrases and frames only repeat themselves, so give up; `make_wordings` raises then.
    while len(found) < count and turn < 10 * count:
        phrase = turns[turn % len(turns)]
        frames = questions if phrase.endswith("?") else orders
        frame = frames[turn % len(frames)]
        text = frame.format(p=phrase, P=phrase[0].upper() + phrase[1:])
        if tails:
            text = f"{text} {rng.choice(tails)}"
        if text not in found:
            found.append(text)
        turn += 1
    return tuple(found)
