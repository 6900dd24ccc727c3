"""Customer messages: a feeling about a product, a request and a degree of hurry, independently.

The same messages are classified by feeling, department, hurry and area, asked for the product, and
answered in several set ways.
"""

import random
from collections.abc import Iterator, Mapping

from dnd_engine.tasks.families.inputs import Item, Make
from dnd_engine.tasks.families.kinds.answers import classes, fact, filled, from_facts, two_labels
from dnd_engine.tasks.families.operation import Operation
from dnd_engine.tasks.families.wording import phrases
from dnd_engine.tasks.families.words import Vocabulary

__all__ = ["INPUTS", "operations"]

_AREAS = {
    "kitchen": ("kettle", "toaster", "teapot", "oven", "mixer", "saucepan", "grill", "blender"),
    "garden": ("shovel", "lawnmower", "hose", "rake", "wheelbarrow", "hedge cutter", "parasol"),
    "office": ("printer", "keyboard", "monitor", "stapler", "desk chair", "laptop", "scanner"),
}
_FEELINGS = {
    "happy": (
        "I love the {p}.",
        "The {p} works beautifully.",
        "My {p} is a joy to use.",
        "The {p} is even better than I hoped.",
        "We are delighted with the {p}.",
        "The {p} looks perfect.",
        "What a wonderful {p}!",
        "The {p} was a great buy.",
        "Everyone here admires the {p}.",
    ),
    "unhappy": (
        "The {p} broke after a day.",
        "I am tired of the {p}.",
        "My {p} is a pain to use.",
        "The {p} never worked.",
        "We regret buying the {p}.",
        "The {p} is noisy and weak.",
        "What a useless {p}!",
        "The {p} fell apart.",
        "Nobody here likes the {p}.",
    ),
}
_DEPARTMENTS = {  # the same openings everywhere, so that only the matter tells
    "billing": (
        "Please send me the invoice.",
        "How do I pay by card?",
        "Is the bill correct?",
        "When must I pay?",
        "I paid too much.",
        "Can I pay in two parts?",
    ),
    "shipping": (
        "Please deliver to my neighbour.",
        "How do I track the parcel?",
        "Is the package on its way?",
        "When will the parcel come?",
        "I moved to a new address.",
        "Can the postman leave the parcel outside?",
    ),
    "support": (
        "Please explain the blinking light.",
        "How do I switch it on?",
        "Is there a manual?",
        "When must I change the battery?",
        "I cannot reset it.",
        "Can I wash the filter?",
    ),
    "sales": (
        "Please send me your catalogue.",
        "How do I order three more?",
        "Is there a discount for schools?",
        "When does the new model come out?",
        "I want a larger one.",
        "Can you offer it in green?",
    ),
}
_HURRIES = {
    "urgent": (
        "I need an answer today.",
        "This cannot wait.",
        "Reply at once.",
        "It is urgent.",
        "Answer me within the hour.",
        "The deadline is near.",
    ),
    "calm": (
        "There is no rush.",
        "Take your time.",
        "Next week is soon enough.",
        "Answer whenever you like.",
        "It can wait.",
        "No hurry at all.",
    ),
}


def _message(rng: random.Random, vocab: Vocabulary) -> Item:
    feeling, department = rng.choice(sorted(_FEELINGS)), rng.choice(sorted(_DEPARTMENTS))
    hurry, area = rng.choice(sorted(_HURRIES)), rng.choice(sorted(_AREAS))
    product = rng.choice(vocab.part(_AREAS[area]))
    opinion = rng.choice(vocab.part(_FEELINGS[feeling])).format(p=product)
    request = rng.choice(vocab.part(_DEPARTMENTS[department]))
    wait = rng.choice(vocab.part(_HURRIES[hurry]))
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
    for labels in (
        ("happy", "unhappy"),
        ("positive", "negative"),
        ("good", "bad"),
        ("yes", "no"),
        ("up", "down"),
        ("sun", "rain"),
        ("A", "B"),
    ):
        yield two_labels(
            "message-feeling", "sentiment", "message", _HAPPY, ("feeling", "happy"), labels
        )
    for labels in (
        ("urgent", "calm"),
        ("high", "low"),
        ("yes", "no"),
        ("now", "later"),
        ("1", "2"),
        ("fire", "ice"),
    ):
        yield two_labels(
            "message-hurry",
            "intent",
            "message",
            _URGENT,
            ("hurry", "urgent"),
            labels,
            held_out=True,
        )
    for department, conditions, labels in (
        ("shipping", _SHIPPING, ("parcel", "other")),
        ("shipping", _SHIPPING, ("yes", "no")),
        ("billing", _BILLING, ("money", "other")),
        ("billing", _BILLING, ("true", "false")),
    ):
        yield two_labels(
            "message-department",
            "intent",
            "message",
            conditions,
            ("department", department),
            labels,
        )
    for attribute, values, category, names in (
        ("department", tuple(_DEPARTMENTS), "intent", ("A", "B", "C", "D")),
        (
            "department",
            tuple(_DEPARTMENTS),
            "intent",
            ("cash desk", "post room", "workshop", "shop"),
        ),
        ("department", tuple(_DEPARTMENTS), "intent", ("4", "3", "2", "1")),
        ("department", tuple(_DEPARTMENTS), "intent", tuple(_DEPARTMENTS)),
        ("area", tuple(_AREAS), "topic", tuple(_AREAS)),
        ("area", tuple(_AREAS), "topic", ("X", "Y", "Z")),
        ("area", tuple(_AREAS), "topic", ("food", "grass", "paper")),
    ):
        yield classes(
            f"message-{attribute}-as-{names[0].replace(' ', '-')}",
            f"message-{attribute}",
            category,
            "message",
            attribute,
            values,
            names,
            fact_name=attribute,
        )
    yield from _extracted()
    yield from _replies()


_HAPPY = ("the writer is happy with the product", "the customer likes the product")
_URGENT = ("the writer is in a hurry", "the customer needs a quick answer")
_SHIPPING = ("the request is about a delivery", "the customer asks about a parcel")
_BILLING = ("the request is about paying", "the customer asks about money owed")


def _extracted() -> Iterator[Operation]:
    yield from_facts(
        "message-product",
        "message-product",
        "extraction",
        "message",
        phrases(
            "extract the product",
            "which product is it about?",
            "give the name of the product only",
            "find the thing that the customer bought",
            "write down the product",
        ),
        fact("product"),
    )
    yield from_facts(
        "message-ticket",
        "message-ticket",
        "extraction",
        "message",
        phrases(
            "write a ticket: the product, a slash, then billing, shipping, support or sales",
            "give product/department, where the department is billing, shipping, support or sales",
            "note the product and its department (billing, shipping, support, sales) with a slash",
            "sum it up as product/department, with billing, shipping, support or sales",
        ),
        filled("{product}/{department}"),
    )
    yield from_facts(
        "message-mood-ticket",
        "message-ticket",
        "extraction",
        "message",
        phrases(
            "write a ticket: happy or unhappy, a colon, then the product",
            "give the mood (happy or unhappy), a colon and the product",
            "note whether the customer is happy or unhappy, then a colon and the product",
            "sum it up as happy or unhappy, a colon and the product",
        ),
        filled("{feeling}: {product}"),
    )


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
