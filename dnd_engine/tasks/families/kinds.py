"""Input kinds whose makers know facts that the text does not spell out (see `answers`)."""

import random
import re
from collections.abc import Mapping
from dataclasses import asdict

from dnd_engine.tasks.families.inputs import Item, Make
from dnd_engine.tasks.families.words import COLOURS, DAYS, MONTHS, Vocabulary
from dnd_engine.tasks.lists import read_lists

_REPLIES = {"happy": "Thank you!", "unhappy": "We are sorry"}


def _message(rng: random.Random, vocab: Vocabulary) -> Item:
    """A feeling about a product, a request and a degree of hurry, independently."""
    # The requests of all departments have the same openings: only the matter tells them apart.
    departments = ("billing", "sales", "shipping", "support")
    feeling, department = rng.choice(("happy", "unhappy")), rng.choice(departments)
    hurry, area = rng.choice(("calm", "urgent")), rng.choice(("garden", "kitchen", "office"))
    lists = read_lists("messages")
    product = rng.choice(vocab.part(lists[area]))
    opinion = rng.choice(vocab.part(lists[feeling])).format(p=product)
    request = rng.choice(vocab.part(lists[department]))
    wait = rng.choice(vocab.part(lists[hurry]))
    facts = {
        "feeling": feeling,
        "reply": _REPLIES[feeling],
        "department": department,
        "hurry": hurry,
        "area": area,
        "product": product,
    }
    return Item(f"{opinion} {request} {wait}", facts)


_WHEN = {
    "past": ("yesterday", "last week", "last month"),
    "future": ("tomorrow", "next week", "next month"),
}


def _headline(rng: random.Random, vocab: Vocabulary) -> Item:
    """A topic and a time, past or future, independently; in some city."""
    events = read_lists("headlines")
    topic, time = rng.choice(sorted(events)), rng.choice(sorted(_WHEN))
    who, base, past = rng.choice(vocab.part(events[topic])).split(" / ")
    city = rng.choice(vocab.cities)
    headlines = {"past": f"{who} {past} in {city}", "future": f"{who} will {base} in {city}"}
    text = f"{headlines[time]} {rng.choice(_WHEN[time])}" if rng.random() < 0.5 else headlines[time]
    return Item(f"{text}.", {"topic": topic, "time": time, "city": city, "who": who, **headlines})


def _foreign(rng: random.Random, vocab: Vocabulary) -> Item:
    """A short sentence in one of five languages, on one of four subjects, independently."""
    language = rng.choice(("English", "French", "German", "Spanish", "Italian"))
    subject = rng.choice(("weather", "food", "family", "work"))
    # Not `vocab.part`: a handful of sentences is too few to share out. Each has a name or a city,
    # and these differ between the sides.
    sentence = rng.choice(read_lists("languages")[f"{language} {subject}"])
    name, city = rng.choice(vocab.names), rng.choice(vocab.cities)
    return Item(sentence.format(name=name, city=city), {"language": language, "subject": subject})


def _text(rng: random.Random, vocab: Vocabulary) -> Item:
    """A text message: wanted or spam, and what it asks the reader to do, independently."""
    lists = read_lists("texts")
    sort, action = rng.choice(("spam", "wanted")), rng.choice(("call", "visit", "write"))
    opening = rng.choice(vocab.part(lists[sort])).format(
        thing=rng.choice(vocab.things), city=rng.choice(vocab.cities), name=rng.choice(vocab.names)
    )
    # Both sides share these few requests: their texts differ by the openings.
    asked = rng.choice(lists[action]).format(n=rng.randint(1000, 9999))
    return Item(f"{opening} {asked}", {"sort": sort, "action": action})


def _booking(rng: random.Random, vocab: Vocabulary) -> Item:
    """A spoken request: book, cancel, move or ask for something on some day."""
    lists = read_lists("bookings")
    intent, day = rng.choice(("ask", "book", "cancel", "move")), rng.choice(DAYS)
    thing, name = rng.choice(vocab.part(lists["thing"])), rng.choice(vocab.names)
    text = rng.choice(vocab.part(lists[intent])).format(thing=thing, day=day, name=name)
    return Item(text, {"intent": intent, "thing": thing, "day": day})


def _statement(rng: random.Random, vocab: Vocabulary) -> Item:
    """A sentence in the present tense: `Maria paints the old door.`."""
    name, verb, thing = rng.choice(vocab.names), rng.choice(vocab.verbs), rng.choice(vocab.things)
    style = rng.randrange(3)
    what = thing if style == 0 else f"{rng.choice(vocab.adjectives)} {thing}"
    end = f" in {rng.choice(vocab.cities)}" if style == 2 else ""
    facts = {"name": name, "what": what, "end": end, "command": verb.base.capitalize()}
    return Item(f"{name} {verb.third} the {what}{end}.", {**facts, **asdict(verb)})


def _command(rng: random.Random, vocab: Vocabulary) -> Item:
    """A request to do something: `Repair the lamp for Maria.`."""
    verb, thing = rng.choice(vocab.verbs), rng.choice(vocab.things)
    end = rng.choice((f" for {rng.choice(vocab.names)}", f" on {rng.choice(DAYS)}"))
    rest = f"the {rng.choice(vocab.adjectives)} {thing}{end}"
    return Item(f"{verb.base.capitalize()} {rest}.", {"rest": rest, **asdict(verb)})


_PARTIES = (
    ("Tenant", "Owner"),
    ("Buyer", "Seller"),
    ("Client", "Supplier"),
    ("Borrower", "Bank"),
    ("Author", "Publisher"),
    ("Carrier", "Shipper"),
    ("Employee", "Company"),
    ("Agent", "Artist"),
    ("Farmer", "Mill"),
)
_ACTS = {
    "payment": ("pay {n} euros to the {b}", "pay the {b} a fee of {n} euros"),
    "delivery": ("deliver {n} {thing}s to the {b}", "hand {n} {thing}s over to the {b}"),
    "secrecy": ("show the papers of the {b} to others", "speak about the plans of the {b}"),
    "use": ("use the {thing} of the {b}", "keep the {thing} of the {b}"),
}
_MODES = {"shall": "duty", "may": "right", "shall not": "ban"}
_TIMES = ("within {t} days", "for {t} months", "within {t} weeks", "for {t} years")


def _clause(rng: random.Random, vocab: Vocabulary) -> Item:
    """Who shall, may or shall not do what to whom, and for how long."""
    pair = list(rng.choice(vocab.part(_PARTIES)))
    rng.shuffle(pair)
    sort, mode = rng.choice(sorted(_ACTS)), rng.choice(sorted(_MODES))
    amount, time = str(rng.randint(11, 990)), rng.choice(_TIMES).format(t=rng.randint(2, 10))
    thing = rng.choice(vocab.things)
    act = rng.choice(_ACTS[sort]).format(n=amount, b=pair[1], thing=thing)
    facts = {
        "sort": sort,
        "mode": _MODES[mode],
        "actor": pair[0],
        "other": pair[1],
        "time": time,
        "span": time.partition(" ")[2],
        "unit": time.split()[2],
        # An empty fact is no answer, so questions about it skip this clause.
        "amount": amount if amount in act else "",
    }
    return Item(f"The {pair[0]} {mode} {act} {time}.", facts)


def _mail(rng: random.Random, vocab: Vocabulary) -> Item:
    """A complaint about an order."""
    name, city, thing = rng.choice(vocab.names), rng.choice(vocab.cities), rng.choice(vocab.things)
    number, date = str(rng.randint(10000, 99999)), f"{rng.randint(2, 28)} {rng.choice(MONTHS)}"
    # `.example` is reserved (RFC 2606), so no address is anybody's.
    address = f"{name.lower()}{rng.randint(1, 99)}@{rng.choice(('mail', 'post', 'box'))}.example"
    forms = (
        f"Hello, I am {name}. My {thing}, order {number} of {date}, has not reached {city}. "
        f"Write to {address}.",
        f"On {date} I ordered a new {thing}, number {number}, to {city}. "
        f"Contact: {name}, {address}.",
        f"Order {number}: the {thing} came to {city} on {date}, but broken. {name}, {address}",
        f"{name} here. Please send order {number} from {date}, the {thing}, to {city}. "
        f"Mail {address}.",
    )
    facts = {"name": name, "city": city, "product": thing, "number": number, "date": date}
    return Item(rng.choice(forms), {**facts, "email": address})


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


def _meeting(rng: random.Random, vocab: Vocabulary) -> Item:
    """An invitation to a talk."""
    name, day = rng.choice(vocab.names), rng.choice(DAYS)
    time, room = f"{rng.randint(8, 18)}:{rng.choice(('00', '15', '30', '45'))}", rng.randint(2, 99)
    subject, city = rng.choice(vocab.part(_SUBJECTS)), rng.choice(vocab.cities)
    forms = (
        f"{name} speaks about {subject} on {day} at {time} in room {room}, {city} office.",
        f"Meeting in {city}, {day} {time}, room {room}: {name} presents {subject}.",
        f"Please come to room {room} in {city} at {time} on {day}. {name} explains {subject}.",
        f"On {day}, {time}, we discuss {subject} with {name} in room {room}, {city}.",
    )
    facts = {"speaker": name, "day": day, "time": time, "room": str(room), "subject": subject}
    return Item(rng.choice(forms), {**facts, "city": city})


_MATERIALS = ("wood", "glass", "steel", "leather", "plastic", "brass", "silk", "straw", "clay")


def _advert(rng: random.Random, vocab: Vocabulary) -> Item:
    """A used thing for sale."""
    name, city, thing = rng.choice(vocab.names), rng.choice(vocab.cities), rng.choice(vocab.things)
    material, size = rng.choice(vocab.part(_MATERIALS)), f"{rng.randint(10, 250)} cm"
    phone, age = f"555 {rng.randint(1000, 9999)}", f"{rng.randint(2, 40)} years"
    forms = (
        f"For sale: {material} {thing}, {size}, {age} old, in {city}. {name}, {phone}",
        f"{name} in {city} sells one {material} {thing} of {size}, call {phone}. Age: {age}.",
        f"{thing.capitalize()}, used for {age}, {material}, {size}. "
        f"Phone {name} in {city}: {phone}.",
        f"Call {phone}, ask for {name}: {thing} in {city}, {size}, {material}, {age} old.",
    )
    return Item(rng.choice(forms), {"material": material, "size": size, "phone": phone, "age": age})


_TABLES = (
    "shops name city sales",
    "books title author pages",
    "cars model colour price",
    "trips name city days",
    "plants label colour height",
    "rooms code city beds",
    "songs title singer length",
    "boats name owner speed",
    "games title maker players",
    "coats brand colour size",
    "farms name city area",
    "parcels code sender weight",
)
"""Name and columns: the one to show, one of text to filter by, and one of numbers."""


def _question(rng: random.Random, vocab: Vocabulary) -> Item:
    """A question to one table, below its name and columns."""
    table, title, text, number = rng.choice(vocab.part(_TABLES)).split()
    shape = rng.choice(("list", "count", "most", "average"))
    values = {"city": vocab.cities, "colour": COLOURS}.get(text, vocab.names)
    value, limit = rng.choice(values), rng.randint(2, 90)
    if rng.random() < 0.5:
        said, where, column = f"whose {text} is {value}", f"{text} = '{value}'", text
    else:
        word, sign = ("below", "<") if rng.random() < 0.5 else ("above", ">")
        said, where, column = f"with {number} {word} {limit}", f"{number} {sign} {limit}", number
    asked, select, order = {
        "list": (f"Which {table} are there {said}?", title, ""),
        "count": (f"How many {table} are there {said}?", "COUNT(*)", ""),
        "most": (
            f"Of the {table} {said}, which has the highest {number}?",
            title,
            f" ORDER BY {number} DESC LIMIT 1",
        ),
        "average": (f"What is the average {number} of {table} {said}?", f"AVG({number})", ""),
    }[shape]
    columns = [title, text, number]
    rng.shuffle(columns)
    sql = f"SELECT {select} FROM {table} WHERE {where}{order}"
    facts = {
        "shape": shape,
        "sql": sql,
        # Safe on names and values too: none is written in capitals throughout.
        "lower": re.sub(r"\b[A-Z]+\b", lambda word: word[0].lower(), sql) + ";",
        "where": where,
        "select": select,
        "column": column,
        "table": table,
    }
    return Item(f"{table}: {', '.join(columns)}\n{asked}", facts)


KINDS: Mapping[str, Make] = {
    "message": _message,
    "headline": _headline,
    "foreign": _foreign,
    "text": _text,
    "booking": _booking,
    "statement": _statement,
    "command": _command,
    "clause": _clause,
    "mail": _mail,
    "meeting": _meeting,
    "advert": _advert,
    "table": _question,
}
