"""Spoken requests: book, cancel, move or ask for something on some day."""

import random
from collections.abc import Iterator, Mapping

from dnd_engine.tasks.families.inputs import Item, Make
from dnd_engine.tasks.families.kinds.answers import classes, fact, filled, from_facts, two_labels
from dnd_engine.tasks.families.operation import Operation
from dnd_engine.tasks.families.wording import phrases
from dnd_engine.tasks.families.words import DAYS, Vocabulary

__all__ = ["INPUTS", "operations"]

_INTENTS = {
    "book": (
        "book a {thing} for {day}",
        "I would like a {thing} on {day}",
        "reserve a {thing} for {name} on {day}",
        "can I get a {thing} on {day}",
        "{name} needs a {thing} for {day}",
        "please arrange a {thing} on {day}",
    ),
    "cancel": (
        "cancel my {thing} on {day}",
        "I no longer need the {thing} on {day}",
        "call off the {thing} that {name} has on {day}",
        "please drop the {thing} for {day}",
        "{name} does not want the {thing} on {day} any more",
        "forget about the {thing} on {day}",
    ),
    "move": (
        "move my {thing} to {day}",
        "can the {thing} be on {day} instead",
        "shift the {thing} of {name} to {day}",
        "please change the {thing} to {day}",
        "{name} would rather have the {thing} on {day}",
        "put the {thing} off until {day}",
    ),
    "ask": (
        "what does the {thing} on {day} cost",
        "when does my {thing} on {day} begin",
        "is the {thing} of {name} on {day} confirmed",
        "who else comes to the {thing} on {day}",
        "how long does the {thing} on {day} take",
        "tell me about the {thing} that {name} has on {day}",
    ),
}
_THINGS = (
    "table",
    "hotel room",
    "flight",
    "taxi",
    "haircut",
    "train seat",
    "guided tour",
    "tennis court",
    "dentist visit",
    "rental car",
    "piano lesson",
    "boat trip",
)


def _booking(rng: random.Random, vocab: Vocabulary) -> Item:
    intent, day = rng.choice(sorted(_INTENTS)), rng.choice(DAYS)
    thing, name = rng.choice(vocab.part(_THINGS)), rng.choice(vocab.names)
    text = rng.choice(vocab.part(_INTENTS[intent])).format(thing=thing, day=day, name=name)
    return Item(text, {"intent": intent, "thing": thing, "day": day})


INPUTS: Mapping[str, Make] = {"booking": _booking}


def operations() -> Iterator[Operation]:
    """Intent under several sets of labels, slots, and a parse of both."""
    intents = tuple(_INTENTS)
    for labels in (
        intents,
        ("A", "B", "C", "D"),
        ("order", "refund", "change", "question"),
        ("green", "red", "blue", "white"),
    ):
        yield classes(
            f"intent-as-{labels[0]}",
            "intent",
            "intent",
            "booking",
            "intent",
            intents,
            labels,
            fact_name="intent",
        )
    for intent, yes, no, conditions in (
        ("cancel", "yes", "no", ("the speaker wants to cancel", "a booking is given up")),
        ("ask", "help", "act", ("the speaker only asks for information", "it is a question")),
    ):
        yield two_labels("intent", "intent", "booking", conditions, ("intent", intent), (yes, no))
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
