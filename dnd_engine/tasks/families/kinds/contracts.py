"""Contract clauses: who shall, may or shall not do what to whom, and for how long."""

import random
from collections.abc import Iterator, Mapping

from dnd_engine.tasks.families.inputs import Item, Make
from dnd_engine.tasks.families.kinds.answers import classes, fact, from_facts, two_labels
from dnd_engine.tasks.families.operation import Operation
from dnd_engine.tasks.families.wording import phrases
from dnd_engine.tasks.families.words import Vocabulary

__all__ = ["INPUTS", "operations"]

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
    facts = {"sort": sort, "mode": _MODES[mode], "actor": pair[0], "other": pair[1], "time": time}
    if amount in act:
        facts["amount"] = amount
    return Item(f"The {pair[0]} {mode} {act} {time}.", facts)


INPUTS: Mapping[str, Make] = {"clause": _clause}


def operations() -> Iterator[Operation]:
    """Type, parties, amounts, times and duties of a clause."""
    sorts = tuple(_ACTS)
    for labels in (sorts, ("A", "B", "C", "D"), ("coin", "truck", "lock", "tool")):
        yield classes(
            f"clause-type-as-{labels[0]}",
            "clause-type",
            "legal",
            "clause",
            "subject of the clause",
            sorts,
            labels,
            fact_name="sort",
        )
    yield _pick(
        "clause-party",
        "actor",
        "give the party that acts, without The",
        "which party is the clause addressed to, without The?",
        "name the party whose behaviour is regulated, without The",
        "write down the party at the beginning of the clause, without The",
    )
    yield _pick(
        "clause-party",
        "other",
        "give the other party of the clause, without the",
        "which party is named second, without the?",
        "name the party that does not act, without the",
        "write down the second party of the clause, without the",
    )
    yield _pick(
        "clause-time",
        "time",
        "give the time limit with its first word",
        "how long is the time, in the words of the clause?",
        "extract the time span from its first word on",
        "write down the time limit as the clause has it",
    )
    yield from_facts(
        "clause-time-short",
        "clause-time",
        "legal",
        "clause",
        phrases(
            "give the time as number and unit",
            "how many days, weeks, months or years are named?",
            "extract the time span, number and unit only",
            "write down the number and the unit of time",
        ),
        lambda facts: facts["time"].partition(" ")[2],
    )
    yield from_facts(
        "clause-time-unit",
        "clause-time",
        "legal",
        "clause",
        phrases(
            "give the unit of time: days, weeks, months or years",
            "which unit of time is used?",
            "extract the word for the unit of time",
            "write down the unit of time alone",
        ),
        lambda facts: facts["time"].split()[2],
        options=("days", "weeks", "months", "years"),
    )
    yield _pick(
        "clause-amount",
        "amount",
        "give the amount in digits",
        "how many euros or things are named?",
        "extract the number of euros or things",
        "write down the amount alone",
    )
    modes = tuple(_MODES.values())
    for names in (modes, ("D", "R", "B"), ("blue", "green", "red")):
        yield classes(
            f"clause-duty-as-{names[0]}",
            "clause-duty",
            "legal",
            "clause",
            "kind of rule",
            modes,
            names,
            fact_name="mode",
            held_out=True,
        )
    obliged = ("the party is obliged to act", "the clause says shall, not may or shall not")
    for pair in (("yes", "no"), ("bound", "free"), ("must", "maybe")):
        yield two_labels(
            "clause-duty", "legal", "clause", obliged, ("mode", "duty"), pair, held_out=True
        )


def _pick(family: str, attribute: str, *ways: str) -> Operation:
    return from_facts(
        f"{family}-{attribute}",
        family,
        "legal",
        "clause",
        phrases(*ways),
        fact(attribute),
    )
