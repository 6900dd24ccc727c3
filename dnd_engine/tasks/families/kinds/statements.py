"""Statements in the present tense, rewritten in grammar: `Maria paints the old door.`."""

import random
from collections.abc import Iterator, Mapping

from dnd_engine.tasks.families.inputs import Item, Make
from dnd_engine.tasks.families.kinds.answers import filled, from_facts
from dnd_engine.tasks.families.operation import Operation
from dnd_engine.tasks.families.wording import phrases
from dnd_engine.tasks.families.words import Vocabulary

__all__ = ["INPUTS", "operations"]


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

_TEMPLATES: Mapping[str, tuple[tuple[str, str, tuple[str, ...]], ...]] = {
    "tense": (
        (
            "past",
            "{name} {past} the {what}{end}.",
            (
                "put the sentence into the past tense",
                "write the sentence in the past tense",
                "say that it happened in the past",
                "turn the sentence into the simple past",
            ),
        ),
        (
            "future",
            "{name} will {base} the {what}{end}.",
            (
                "put the sentence into the future with will",
                "write the sentence in the future tense with will",
                "say that it will happen",
                "turn the sentence into the future with will",
            ),
        ),
        (
            "progressive",
            "{name} is {ing} the {what}{end}.",
            (
                "put the sentence into the present continuous",
                "write the sentence with is and the ing form",
                "say that it is happening right now, with the ing form",
                "turn the sentence into the present continuous form",
            ),
        ),
        (
            "perfect",
            "{name} has {participle} the {what}{end}.",
            (
                "put the sentence into the present perfect",
                "write the sentence with has and the participle",
                "say that it has happened, with has",
                "turn the sentence into the present perfect form",
            ),
        ),
    ),
    "voice": (
        (
            "passive",
            "The {what} is {participle} by {name}{end}.",
            (
                "put the sentence into the passive",
                "write the sentence in the passive voice",
                "say it with the thing first and by before the name",
                "turn the sentence into the passive form",
            ),
        ),
        (
            "passive-past",
            "The {what} was {participle} by {name}{end}.",
            (
                "put the sentence into the passive with was",
                "write the sentence in the passive voice of the past tense",
                "say it with the thing first, was, and by before the name",
                "turn the sentence into the past passive form",
            ),
        ),
        (
            "passive-short",
            "The {what} is {participle}{end}.",
            (
                "put the sentence into the passive and leave the person out",
                "write the sentence in the passive voice without the name",
                "say it in the passive, not saying who does it",
                "turn the sentence into the passive form without by",
            ),
        ),
    ),
    "negation": (
        (
            "negate",
            "{name} does not {base} the {what}{end}.",
            (
                "negate the sentence with does not",
                "write the opposite of the sentence with does not",
                "say that it does not happen",
                "turn the sentence into its negative with does not",
            ),
        ),
        (
            "never",
            "{name} never {third} the {what}{end}.",
            (
                "put never before the verb",
                "write the sentence with never",
                "say that it never happens",
                "turn the sentence into one with never",
            ),
        ),
        (
            "nobody",
            "Nobody {third} the {what}{end}.",
            (
                "put Nobody in place of the person",
                "write the sentence with Nobody as its subject",
                "say that nobody does it",
                "turn the subject of the sentence into Nobody",
            ),
        ),
    ),
    "modal": (
        (
            "can",
            "{name} can {base} the {what}{end}.",
            (
                "put can into the sentence",
                "write the sentence with can",
                "say that the person is able to do it, with can",
                "turn the sentence into one with can",
            ),
        ),
        (
            "must",
            "{name} must {base} the {what}{end}.",
            (
                "put must into the sentence",
                "write the sentence with must",
                "say that the person has to do it, with must",
                "turn the sentence into one with must",
            ),
        ),
        (
            "wants",
            "{name} wants to {base} the {what}{end}.",
            (
                "put wants to into the sentence",
                "write the sentence with wants to",
                "say that the person wants to do it",
                "turn the sentence into one with wants to",
            ),
        ),
    ),
    "person": (
        (
            "i",
            "I {base} the {what}{end}.",
            (
                "put the sentence into the first person with I",
                "write the sentence with I instead of the name",
                "say it as if you did it yourself",
                "turn the sentence into one about I",
            ),
        ),
        (
            "they",
            "They {base} the {what}{end}.",
            (
                "put They in place of the name and fit the verb",
                "write the sentence with They instead of the name",
                "say it about several people, with They",
                "turn the sentence into one about They",
            ),
        ),
        (
            "imperative",
            "{command} the {what}{end}!",
            (
                "put the sentence into the imperative with an exclamation mark",
                "write the sentence as a command with an exclamation mark",
                "say it as an order to do it, ending with an exclamation mark",
                "turn the sentence into a command that ends with an exclamation mark",
            ),
        ),
    ),
    "roles": (
        (
            "who",
            "{name}",
            (
                "give the person who does it",
                "who does it?",
                "name the subject of the sentence",
                "write down the one who acts",
            ),
        ),
        (
            "what",
            "the {what}",
            (
                "give the object of the sentence with its article",
                "what is the object of the sentence, with the?",
                "name the thing that it is done to, with the",
                "write down the object, the included",
            ),
        ),
        (
            "verb",
            "{base}",
            (
                "give the verb in its base form",
                "which verb is used, in its base form?",
                "name the verb without its ending",
                "write down the infinitive of the verb, without to",
            ),
        ),
        (
            "triple",
            "{name} | {base} | {what}",
            (
                "give person, base verb and thing with bars: x | y | z",
                "write subject | verb | object, with the base form and no article",
                "break the sentence into name | verb | thing, the verb in its base form",
                "note name, infinitive and object with bars between them",
            ),
        ),
    ),
    "question": (
        (
            "does",
            "Does {name} {base} the {what}{end}?",
            (
                "turn the sentence into a yes-no question with Does",
                "ask whether it is so, beginning with Does",
                "make a question that starts with Does",
                "rewrite the sentence as a Does question",
            ),
        ),
        (
            "who",
            "Who {third} the {what}{end}?",
            (
                "turn the sentence into a question with Who",
                "ask for the person, beginning with Who",
                "make a question that starts with Who",
                "rewrite the sentence as a Who question",
            ),
        ),
        (
            "what",
            "What does {name} {base}{end}?",
            (
                "turn the sentence into a question with What",
                "ask for the thing, beginning with What",
                "make a question that starts with What",
                "rewrite the sentence as a What question",
            ),
        ),
        (
            "why",
            "Why does {name} {base} the {what}{end}?",
            (
                "turn the sentence into a question with Why",
                "ask for the reason, beginning with Why",
                "make a question that starts with Why",
                "rewrite the sentence as a Why question",
            ),
        ),
    ),
    "reported": (
        (
            "say",
            "They say that {name} {third} the {what}{end}.",
            (
                "begin with They say that",
                "report the sentence after They say that",
                "put They say that in front of the sentence",
                "turn the sentence into one that starts with They say that",
            ),
        ),
        (
            "cleft",
            "It is {name} who {third} the {what}{end}.",
            (
                "stress the person with It is ... who",
                "rewrite the sentence as It is ... who ...",
                "begin with It is, the name and who",
                "turn the sentence into one of the form It is ... who",
            ),
        ),
        (
            "if",
            "If {name} {third} the {what}{end}, we leave.",
            (
                "write the sentence as an if clause followed by we leave",
                "put If before the sentence and , we leave after it",
                "say that we leave if it happens, the if part first",
                "turn the sentence into a condition that ends with we leave",
            ),
        ),
    ),
}
_HELD_OUT = "question"


def operations() -> Iterator[Operation]:
    """One operation per template; a table row is a family."""
    for family, templates in _TEMPLATES.items():
        for name, template, ways in templates:
            yield from_facts(
                f"{family}-{name}",
                family,
                "extraction" if family == "roles" else "grammar",
                "statement",
                phrases(*ways),
                filled(template),
                held_out=family == _HELD_OUT,
            )
