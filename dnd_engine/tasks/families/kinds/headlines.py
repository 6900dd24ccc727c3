"""News lines: a topic and a time, past or future, independently; in some city."""

import random
from collections.abc import Iterator, Mapping

from dnd_engine.tasks.families.inputs import Item, Make
from dnd_engine.tasks.families.kinds.answers import classes, listed, two_labels
from dnd_engine.tasks.families.operation import Operation
from dnd_engine.tasks.families.words import Vocabulary
from dnd_engine.tasks.lists import read_lists

_WHEN = {
    "past": ("yesterday", "last week", "last month"),
    "future": ("tomorrow", "next week", "next month"),
}


def _headline(rng: random.Random, vocab: Vocabulary) -> Item:
    events = read_lists("headlines")
    topic, time = rng.choice(sorted(events)), rng.choice(sorted(_WHEN))
    who, base, past = rng.choice(vocab.part(events[topic])).split(" / ")
    city = rng.choice(vocab.cities)
    headlines = {"past": f"{who} {past} in {city}", "future": f"{who} will {base} in {city}"}
    text = f"{headlines[time]} {rng.choice(_WHEN[time])}" if rng.random() < 0.5 else headlines[time]
    return Item(f"{text}.", {"topic": topic, "time": time, "city": city, "who": who, **headlines})


INPUTS: Mapping[str, Make] = {"headline": _headline}
_SINGLE = (
    ("sport", "yes", "no", ("it is about sport", "the news is about sport")),
    ("food", "eat", "skip", ("it is about food", "the news is about food")),
    ("music", "true", "false", ("it is about music", "the news is about music")),
    ("weather", "sky", "earth", ("it is about the weather", "the news is about the weather")),
    ("health", "apple", "arrow", ("it is about health", "the news is about health")),
    ("travel", "go", "stay", ("it is about travel", "the news is about travelling")),
)


def operations() -> Iterator[Operation]:
    """Classify by topic or time, and tell again in another way."""
    topics = tuple(read_lists("headlines"))
    labels = (topics, tuple("ABCDEFGH"), tuple("12345678"))
    yield from classes("topic", "topic", "headline", "topic", ("topic", topics), *labels)
    for topic, yes, no, conditions in _SINGLE:
        yield from two_labels("topic", "topic", "headline", conditions, ("topic", topic), (yes, no))
    conditions = ("it has happened already", "the news is in the past")
    pairs = (("past", "future"), ("done", "planned"), ("no", "yes"), ("A", "B"))
    yield from two_labels(
        "news-time", "classification", "headline", conditions, ("time", "past"), *pairs
    )
    yield from listed("headline")
