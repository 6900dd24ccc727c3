"""Contract clauses: who shall, may or shall not do what to whom, and for how long."""

import random
from collections.abc import Iterator, Mapping

from dnd_engine.tasks.families.inputs import Item, Make
from dnd_engine.tasks.families.kinds.answers import classes, listed, two_labels
from dnd_engine.tasks.families.operation import Operation
from dnd_engine.tasks.families.words import Vocabulary

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
        # An empty fact has no answer (see `filled`), so questions about it skip this clause.
        "amount": amount if amount in act else "",
    }
    return Item(f"The {pair[0]} {mode} {act} {time}.", facts)


INPUTS: Mapping[str, Make] = {"clause": _clause}


def operations() -> Iterator[Operation]:
    """Type, parties, amounts, times and duties of a clause."""
    sorts = tuple(_ACTS)
    yield from classes(
        "clause-type",
        "legal",
        "clause",
        "subject of the clause",
        ("sort", sorts),
        sorts,
        ("A", "B", "C", "D"),
        ("coin", "truck", "lock", "tool"),
    )
    yield from listed("clause", options={"clause-time-unit": ("days", "weeks", "months", "years")})
    modes = tuple(_MODES.values())
    yield from classes(
        "clause-duty",
        "legal",
        "clause",
        "kind of rule",
        ("mode", modes),
        modes,
        ("D", "R", "B"),
        ("blue", "green", "red"),
        held_out=True,
    )
    obliged = ("the party is obliged to act", "the clause says shall, not may or shall not")
    pairs = (("yes", "no"), ("bound", "free"), ("must", "maybe"))
    yield from two_labels(
        "clause-duty", "legal", "clause", obliged, ("mode", "duty"), *pairs, held_out=True
    )
