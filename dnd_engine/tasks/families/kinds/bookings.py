"""Spoken requests: book, cancel, move or ask for something on some day."""

import random
from collections.abc import Iterator, Mapping

from dnd_engine.tasks.families.inputs import Item, Make
from dnd_engine.tasks.families.kinds.answers import classes, fact, filled, from_facts, two_labels
from dnd_engine.tasks.families.operation import Operation
from dnd_engine.tasks.families.wording import phrases
from dnd_engine.tasks.families.words import DAYS, Vocabulary
from dnd_engine.tasks.lists import read_lists

_INTENTS = ("book", "cancel", "move", "ask")


def _booking(rng: random.Random, vocab: Vocabulary) -> Item:
    lists = read_lists("bookings")
    intent, day = rng.choice(sorted(_INTENTS)), rng.choice(DAYS)
    thing, name = rng.choice(vocab.part(lists["thing"])), rng.choice(vocab.names)
    text = rng.choice(vocab.part(lists[intent])).format(thing=thing, day=day, name=name)
    return Item(text, {"intent": intent, "thing": thing, "day": day})


INPUTS: Mapping[str, Make] = {"booking": _booking}


def operations() -> Iterator[Operation]:
    """Intent under several sets of labels, slots, and a parse of both."""
    yield from classes(
        "intent",
        "intent",
        "booking",
        "intent",
        ("intent", _INTENTS),
        _INTENTS,
        ("A", "B", "C", "D"),
        ("order", "refund", "change", "question"),
        ("green", "red", "blue", "white"),
    )
    for intent, yes, no, conditions in (
        ("cancel", "yes", "no", ("the speaker wants to cancel", "a booking is given up")),
        ("ask", "help", "act", ("the speaker only asks for information", "it is a question")),
    ):
        holds = ("intent", intent)
        yield from two_labels("intent", "intent", "booking", conditions, holds, (yes, no))
    for slot, called in (("thing", "thing that is booked"), ("day", "day")):
        yield from_facts(
            f"slot-{slot}",
            "slot",
            "extraction",
            "booking",
            phrases(
                f"extract the {called}",
                f"what is the {called}?",
                f"give the {called} only",
                f"find the {called} in the request",
                f"write down the {called}",
            ),
            fact(slot),
        )
    for name, shown, template in (
        ("colon", "intent: thing, day", "{intent}: {thing}, {day}"),
        ("equals", "intent=..., thing=...", "intent={intent}, thing={thing}"),
        ("bars", "day|intent|thing", "{day}|{intent}|{thing}"),
        ("words", "intent thing day", "{intent} {thing} {day}"),
    ):
        yield from_facts(
            f"parse-{name}",
            "parse",
            "extraction",
            "booking",
            phrases(
                f"parse the request as {shown}, with the intents {_LISTED}",
                f"write the request in the form {shown}; intents are {_LISTED}",
                f"fill in {shown} for the request, the intent being {_LISTED}",
                f"turn the request into {shown}, where intent is {_LISTED}",
            ),
            filled(template),
            held_out=True,
        )


_LISTED = "book, cancel, move or ask"
