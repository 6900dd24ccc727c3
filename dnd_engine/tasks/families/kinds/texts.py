"""Text messages: wanted or spam, and what they ask the reader to do, independently."""

import random
from collections.abc import Iterator, Mapping

from dnd_engine.tasks.families.inputs import Item, Make
from dnd_engine.tasks.families.kinds.answers import classes, two_labels
from dnd_engine.tasks.families.operation import Operation
from dnd_engine.tasks.families.words import Vocabulary

__all__ = ["INPUTS", "operations"]

_OPENINGS = {
    "spam": (
        "You have won a free {thing}!",
        "Cheap loans in {city}, approved at once!",
        "Lose weight fast with our {thing}!",
        "Your prize of $9000 is waiting!",
        "{name}, make money from home!",
        "Last chance: every {thing} for one dollar!",
        "Secret offer for lucky winners in {city}!",
        "Get rich with {name}'s method!",
        "Claim your free holiday in {city}!",
    ),
    "wanted": (
        "Hi, it's {name}, I am late.",
        "Grandma fell asleep in {city}.",
        "Your {thing} is still at my place.",
        "{name} and I are cooking tonight.",
        "The meeting in {city} moved to noon.",
        "I found your keys under the {thing}.",
        "The school trip to {city} starts at eight.",
        "{name} lost the {thing} again.",
        "The plumber came to see {name}.",
    ),
}
_ACTIONS = {
    "call": ("Call me on 555 {n}.", "Please ring 555 {n}.", "Phone 555 {n} soon."),
    "write": (
        "Send an email to {n}@mail.example.",
        "Write to {n}@post.example.",
        "Mail {n}@box.example.",
    ),
    "visit": ("Come to room {n}.", "Drop by at {n} Mill Road.", "Meet us at desk {n}."),
}


def _text(rng: random.Random, vocab: Vocabulary) -> Item:
    sort, action = rng.choice(sorted(_OPENINGS)), rng.choice(sorted(_ACTIONS))
    opening = rng.choice(vocab.part(_OPENINGS[sort])).format(
        thing=rng.choice(vocab.things), city=rng.choice(vocab.cities), name=rng.choice(vocab.names)
    )
    asked = rng.choice(_ACTIONS[action]).format(n=rng.randint(1000, 9999))
    return Item(f"{opening} {asked}", {"sort": sort, "action": action})


INPUTS: Mapping[str, Make] = {"text": _text}


def operations() -> Iterator[Operation]:
    """Spam or not, and the action, under several sets of labels."""
    conditions = ("the message is spam", "it is unwanted advertising")
    for labels in (("spam", "ham"), ("junk", "mail"), ("yes", "no"), ("stop", "go")):
        yield two_labels("spam", "safety", "text", conditions, ("sort", "spam"), labels)
    actions = tuple(_ACTIONS)
    for names in (actions, ("A", "B", "C"), ("phone", "computer", "shoes")):
        yield classes(
            f"action-as-{names[0]}",
            "action",
            "intent",
            "text",
            "action that the reader is asked for",
            actions,
            names,
            fact_name="action",
        )
