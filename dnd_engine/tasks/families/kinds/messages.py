"""Customer messages: a feeling about a product, a request and a degree of hurry, independently.

The same messages are classified by feeling, department, hurry and area, asked for the product, and
answered in several set ways.
"""

import random
from collections.abc import Iterator, Mapping

from dnd_engine.tasks.families.inputs import Item, Make
from dnd_engine.tasks.families.kinds.answers import classes, filled, from_facts, listed, two_labels
from dnd_engine.tasks.families.operation import Operation
from dnd_engine.tasks.families.wording import phrases
from dnd_engine.tasks.families.words import Vocabulary
from dnd_engine.tasks.lists import read_lists

_AREAS = ("kitchen", "garden", "office")
_FEELINGS = ("happy", "unhappy")
_DEPARTMENTS = ("billing", "shipping", "support", "sales")
"""Their requests have the same openings, so that only the matter tells them apart."""
_HURRIES = ("urgent", "calm")


def _message(rng: random.Random, vocab: Vocabulary) -> Item:
    feeling, department = rng.choice(sorted(_FEELINGS)), rng.choice(sorted(_DEPARTMENTS))
    hurry, area = rng.choice(sorted(_HURRIES)), rng.choice(sorted(_AREAS))
    lists = read_lists("messages")
    product = rng.choice(vocab.part(lists[area]))
    opinion = rng.choice(vocab.part(lists[feeling])).format(p=product)
    request = rng.choice(vocab.part(lists[department]))
    wait = rng.choice(vocab.part(lists[hurry]))
    return Item(
        f"{opinion} {request} {wait}",
        {
            "feeling": feeling,
            "department": department,
            "hurry": hurry,
            "area": area,
            "product": product,
        },
    )


INPUTS: Mapping[str, Make] = {"message": _message}


def operations() -> Iterator[Operation]:
    """Classify, extract and reply."""
    yield from two_labels(
        "message-feeling",
        "sentiment",
        "message",
        ("the writer is happy with the product", "the customer likes the product"),
        ("feeling", "happy"),
        ("happy", "unhappy"),
        ("positive", "negative"),
        ("good", "bad"),
        ("yes", "no"),
        ("up", "down"),
        ("sun", "rain"),
        ("A", "B"),
    )
    yield from two_labels(
        "message-hurry",
        "intent",
        "message",
        ("the writer is in a hurry", "the customer needs a quick answer"),
        ("hurry", "urgent"),
        ("urgent", "calm"),
        ("high", "low"),
        ("yes", "no"),
        ("now", "later"),
        ("1", "2"),
        ("fire", "ice"),
        held_out=True,
    )
    yield from two_labels(
        "message-department",
        "intent",
        "message",
        ("the request is about a delivery", "the customer asks about a parcel"),
        ("department", "shipping"),
        ("parcel", "other"),
        ("yes", "no"),
    )
    yield from two_labels(
        "message-department",
        "intent",
        "message",
        ("the request is about paying", "the customer asks about money owed"),
        ("department", "billing"),
        ("money", "other"),
        ("true", "false"),
    )
    yield from classes(
        "message-department",
        "intent",
        "message",
        "department",
        ("department", _DEPARTMENTS),
        ("A", "B", "C", "D"),
        ("cash desk", "post room", "workshop", "shop"),
        ("4", "3", "2", "1"),
        _DEPARTMENTS,
    )
    areas = (_AREAS, ("X", "Y", "Z"), ("food", "grass", "paper"))
    yield from classes("message-area", "topic", "message", "area", ("area", _AREAS), *areas)
    yield from listed("message")
    yield from _replies()


def _replies() -> Iterator[Operation]:
    for name, template in (
        ("sorry", "We are sorry about the {product}."),
        ("thanks", "Thank you for your words about the {product}."),
        ("check", "A colleague will check the {product} for you."),
        ("casual", "Hi! Got it, we will look at the {product}."),
        ("formal", "Dear customer, we confirm your message on the {product}."),
    ):
        shown = template.format(product="<product>")
        yield from_facts(
            f"reply-{name}",
            "reply",
            "style",
            "message",
            phrases(
                f'reply with "{shown}" and put the product in',
                f'answer "{shown}" with the right product',
                f'fill the product of the message into "{shown}"',
                f'write "{shown}" for the product that is meant',
            ),
            filled(template),
        )
    yield from_facts(
        "reply-mood",
        "reply",
        "style",
        "message",
        phrases(
            'answer happy customers "Thank you!" and unhappy ones "We are sorry"',
            'reply "Thank you!" to praise and "We are sorry" to a complaint',
            'write "Thank you!" if the writer is happy and "We are sorry" if not',
            'choose the reply, "Thank you!" for a happy customer, else "We are sorry"',
        ),
        lambda facts: "Thank you!" if facts["feeling"] == "happy" else "We are sorry",
        options=("Thank you!", "We are sorry"),
    )
    yield from_facts(
        "reply-desk",
        "reply",
        "style",
        "message",
        phrases(
            'tell the writer "Our X team will answer"; X is billing, shipping, support or sales',
            'reply "Our X team will answer", where X is billing, shipping, support or sales',
            'say "Our X team will answer" and choose X from billing, shipping, support, sales',
            'write "Our X team will answer" for the right X: billing, shipping, support or sales',
        ),
        filled("Our {department} team will answer"),
    )
