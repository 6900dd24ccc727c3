"""Little texts with several facts to extract: order mails, meeting notes and adverts."""

import random
from collections.abc import Iterator, Mapping

from dnd_engine.tasks.families.inputs import Item, Make
from dnd_engine.tasks.families.kinds.answers import fact, filled, from_facts
from dnd_engine.tasks.families.operation import Operation
from dnd_engine.tasks.families.wording import phrases
from dnd_engine.tasks.families.words import DAYS, MONTHS, Vocabulary

_SUBJECTS = (
    "the budget",
    "the new roof",
    "holiday plans",
    "the summer party",
    "road safety",
    "the website",
    "exam dates",
    "the bus timetable",
    "staff training",
    "the recycling rules",
    "next year's rent",
    "the school garden",
)
_MATERIALS = ("wood", "glass", "steel", "leather", "plastic", "brass", "silk", "straw", "clay")


def _mail(rng: random.Random, vocab: Vocabulary) -> Item:
    name, city, thing = rng.choice(vocab.names), rng.choice(vocab.cities), rng.choice(vocab.things)
    number, date = str(rng.randint(10000, 99999)), f"{rng.randint(2, 28)} {rng.choice(MONTHS)}"
    # `.example` is reserved (RFC 2606), so no address is anybody's.
    address = f"{name.lower()}{rng.randint(1, 99)}@{rng.choice(('mail', 'post', 'box'))}.example"
    text = rng.choice(
        (
            f"Hello, I am {name}. My {thing}, order {number} of {date}, has not reached {city}. "
            f"Write to {address}.",
            f"On {date} I ordered a new {thing}, number {number}, to {city}. "
            f"Contact: {name}, {address}.",
            f"Order {number}: the {thing} came to {city} on {date}, but broken. {name}, {address}",
            f"{name} here. Please send order {number} from {date}, the {thing}, to {city}. "
            f"Mail {address}.",
        )
    )
    return Item(
        text,
        {
            "name": name,
            "city": city,
            "product": thing,
            "number": number,
            "date": date,
            "email": address,
        },
    )


def _meeting(rng: random.Random, vocab: Vocabulary) -> Item:
    name, day = rng.choice(vocab.names), rng.choice(DAYS)
    time, room = f"{rng.randint(8, 18)}:{rng.choice(('00', '15', '30', '45'))}", rng.randint(2, 99)
    subject, city = rng.choice(vocab.part(_SUBJECTS)), rng.choice(vocab.cities)
    text = rng.choice(
        (
            f"{name} speaks about {subject} on {day} at {time} in room {room}, {city} office.",
            f"Meeting in {city}, {day} {time}, room {room}: {name} presents {subject}.",
            f"Please come to room {room} in {city} at {time} on {day}. {name} explains {subject}.",
            f"On {day}, {time}, we discuss {subject} with {name} in room {room}, {city}.",
        )
    )
    facts = {"speaker": name, "day": day, "time": time, "room": str(room), "subject": subject}
    return Item(text, {**facts, "city": city})


def _advert(rng: random.Random, vocab: Vocabulary) -> Item:
    name, city, thing = rng.choice(vocab.names), rng.choice(vocab.cities), rng.choice(vocab.things)
    material, size = rng.choice(vocab.part(_MATERIALS)), f"{rng.randint(10, 250)} cm"
    phone, age = f"555 {rng.randint(1000, 9999)}", f"{rng.randint(2, 40)} years"
    text = rng.choice(
        (
            f"For sale: {material} {thing}, {size}, {age} old, in {city}. {name}, {phone}",
            f"{name} in {city} sells one {material} {thing} of {size}, call {phone}. Age: {age}.",
            f"{thing.capitalize()}, used for {age}, {material}, {size}. "
            f"Phone {name} in {city}: {phone}.",
            f"Call {phone}, ask for {name}: {thing} in {city}, {size}, {material}, {age} old.",
        )
    )
    return Item(text, {"material": material, "size": size, "phone": phone, "age": age})


INPUTS: Mapping[str, Make] = {"mail": _mail, "meeting": _meeting, "advert": _advert}

_FIELDS: Mapping[str, Mapping[str, str]] = {
    "mail": {
        "name": "name of the customer",
        "city": "city",
        "product": "product",
        "number": "order number",
        "date": "date",
        "email": "email address",
    },
    "meeting": {
        "speaker": "name of the speaker",
        "day": "weekday",
        "time": "time of day",
        "room": "room number",
        "subject": "subject of the talk",
        "city": "city",
    },
    "advert": {
        "material": "material",
        "size": "size with its unit",
        "phone": "phone number",
        "age": "age with its unit",
    },
}
_PAIRS = (
    ("mail", "name", "number", ", ", "a comma"),
    ("mail", "product", "city", " to ", "the word to"),
    ("mail", "date", "product", ": ", "a colon"),
    ("meeting", "speaker", "time", " at ", "the word at"),
    ("meeting", "day", "room", ", ", "a comma"),
    ("advert", "material", "size", ", ", "a comma"),
    ("advert", "phone", "material", ": ", "a colon"),
)
_HELD_OUT = "advert"


def operations() -> Iterator[Operation]:
    """Each field alone, and some pairs."""
    for kind, fields in _FIELDS.items():
        for field, called in fields.items():
            yield from_facts(
                f"{kind}-{field}",
                f"{kind}-facts",
                "extraction",
                kind,
                phrases(
                    f"extract the {called}",
                    f"what is the {called}?",
                    f"give the {called} and nothing else",
                    f"find the {called} in the text",
                    f"copy the {called} out of the text",
                ),
                fact(field),
                held_out=kind == _HELD_OUT,
            )
    for kind, first, second, mark, called in _PAIRS:
        a, b = _FIELDS[kind][first], _FIELDS[kind][second]
        yield from_facts(
            f"{kind}-{first}-{second}",
            f"{kind}-facts",
            "extraction",
            kind,
            phrases(
                f"extract the {a} and the {b} with {called} between them",
                f"give the {a}, then {called}, then the {b}",
                f"find the {a} and the {b} and join them by {called}",
                f"copy the {a} and, after {called}, the {b}",
            ),
            filled(f"{{{first}}}{mark}{{{second}}}"),
            held_out=kind == _HELD_OUT,
        )
