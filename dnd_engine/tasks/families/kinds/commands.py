"""Requests to do something, said in another tone: `Repair the lamp for Maria.`."""

import random
from collections.abc import Iterator, Mapping

from dnd_engine.tasks.families.inputs import Item, Make
from dnd_engine.tasks.families.kinds.answers import filled, from_facts
from dnd_engine.tasks.families.operation import Operation
from dnd_engine.tasks.families.wording import phrases
from dnd_engine.tasks.families.words import DAYS, Vocabulary


def _command(rng: random.Random, vocab: Vocabulary) -> Item:
    verb, thing = rng.choice(vocab.verbs), rng.choice(vocab.things)
    end = rng.choice((f" for {rng.choice(vocab.names)}", f" on {rng.choice(DAYS)}"))
    rest = f"the {rng.choice(vocab.adjectives)} {thing}{end}"
    return Item(
        f"{verb.base.capitalize()} {rest}.",
        {"base": verb.base, "past": verb.past, "ing": verb.ing, "rest": rest},
    )


INPUTS: Mapping[str, Make] = {"command": _command}

_TONES: Mapping[str, tuple[tuple[str, str, str], ...]] = {
    "tone-polite": (
        ("please", "Please {base} {rest}.", "politely, with Please at the beginning"),
        ("could", "Could you {base} {rest}?", "as a polite question that starts with Could you"),
        (
            "grateful",
            "I would be grateful if you could {base} {rest}.",
            "formally, beginning with I would be grateful if you could",
        ),
        (
            "kind",
            "Would you be so kind as to {base} {rest}?",
            "very politely, with Would you be so kind as to",
        ),
    ),
    "tone-casual": (
        ("hey", "Hey, {base} {rest}, ok?", "casually, with Hey in front and ok? behind"),
        ("mate", "Just {base} {rest}, mate.", "casually, with Just in front and mate behind"),
        (
            "pirate",
            "Arr, {base} {rest}, matey!",
            "like a pirate, with Arr in front and matey! behind",
        ),
        ("lets", "Let's {base} {rest}!", "as a cheerful proposal that starts with Let's"),
    ),
    "tone-strict": (
        ("now", "You must {base} {rest} now!", "as a strict order with You must and now!"),
        ("again", "I will not ask again: {base} {rest}.", "angrily, after I will not ask again:"),
        ("not", "Do not {base} {rest}.", "as a ban that starts with Do not"),
    ),
    "tone-report": (
        ("done", "I {past} {rest}.", "as a report in the past tense that starts with I"),
        ("promise", "I will {base} {rest}.", "as a promise that starts with I will"),
        ("doing", "I am {ing} {rest}.", "as something you are doing, with I am"),
        ("forgot", "I forgot to {base} {rest}.", "as an apology that starts with I forgot to"),
    ),
}


def operations() -> Iterator[Operation]:
    """One operation per tone."""
    for family, tones in _TONES.items():
        for name, template, how in tones:
            yield from_facts(
                f"{family}-{name}",
                family,
                "style",
                "command",
                phrases(
                    f"say it {how}",
                    f"rewrite the request {how}",
                    f"put the sentence {how}",
                    f"word the request {how}",
                    f"express it {how}",
                ),
                filled(template),
            )
