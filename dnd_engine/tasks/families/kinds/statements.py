"""Statements in the present tense, rewritten in grammar: `Maria paints the old door.`."""

import random
from collections.abc import Iterator, Mapping

from dnd_engine.tasks.families.inputs import Item, Make
from dnd_engine.tasks.families.kinds.answers import listed
from dnd_engine.tasks.families.operation import Operation
from dnd_engine.tasks.families.words import Vocabulary


def _statement(rng: random.Random, vocab: Vocabulary) -> Item:
    name, verb, thing = rng.choice(vocab.names), rng.choice(vocab.verbs), rng.choice(vocab.things)
    style = rng.randrange(3)
    what = thing if style == 0 else f"{rng.choice(vocab.adjectives)} {thing}"
    end = f" in {rng.choice(vocab.cities)}" if style == 2 else ""
    facts = {
        "name": name,
        "what": what,
        "end": end,
        "base": verb.base,
        "command": verb.base.capitalize(),
        "third": verb.third,
        "past": verb.past,
        "participle": verb.participle,
        "ing": verb.ing,
    }
    return Item(f"{name} {verb.third} the {what}{end}.", facts)


INPUTS: Mapping[str, Make] = {"statement": _statement}


def operations() -> Iterator[Operation]:
    """One operation per template; those of one form are a family."""
    return listed("statement", held_out=("question",))
