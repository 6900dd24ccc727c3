"""Text messages: wanted or spam, and what they ask the reader to do, independently."""

import random
from collections.abc import Iterator, Mapping

from dnd_engine.tasks.families.inputs import Item, Make
from dnd_engine.tasks.families.kinds.answers import classes, two_labels
from dnd_engine.tasks.families.operation import Operation
from dnd_engine.tasks.families.words import Vocabulary
from dnd_engine.tasks.lists import read_lists

_SORTS = ("spam", "wanted")
_ACTIONS = ("call", "write", "visit")


def _text(rng: random.Random, vocab: Vocabulary) -> Item:
    sort, action = rng.choice(sorted(_SORTS)), rng.choice(sorted(_ACTIONS))
    opening = rng.choice(vocab.part(read_lists("texts")[sort])).format(
        thing=rng.choice(vocab.things), city=rng.choice(vocab.cities), name=rng.choice(vocab.names)
    )
    # Both sides share these few requests: their texts differ by the openings.
    asked = rng.choice(read_lists("texts")[action]).format(n=rng.randint(1000, 9999))
    return Item(f"{opening} {asked}", {"sort": sort, "action": action})


INPUTS: Mapping[str, Make] = {"text": _text}


def operations() -> Iterator[Operation]:
    """Spam or not, and the action, under several sets of labels."""
    conditions = ("the message is spam", "it is unwanted advertising")
    pairs = (("spam", "ham"), ("junk", "mail"), ("yes", "no"), ("stop", "go"))
    yield from two_labels("spam", "safety", "text", conditions, ("sort", "spam"), *pairs)
    yield from classes(
        "action",
        "intent",
        "text",
        "action that the reader is asked for",
        ("action", _ACTIONS),
        _ACTIONS,
        ("A", "B", "C"),
        ("phone", "computer", "shoes"),
    )
