"""News lines: a topic and a time, past or future, independently; in some city."""

import random
from collections.abc import Iterator, Mapping

from dnd_engine.tasks.families.inputs import Item, Make
from dnd_engine.tasks.families.kinds.answers import classes, fact, filled, from_facts, two_labels
from dnd_engine.tasks.families.operation import Operation
from dnd_engine.tasks.families.wording import phrases
from dnd_engine.tasks.families.words import Vocabulary

__all__ = ["INPUTS", "operations"]

_EVENTS = {
    "sport": (
        ("The home team", "win the final", "won the final"),
        ("Two runners", "break the record", "broke the record"),
        ("The goalkeeper", "stop three penalties", "stopped three penalties"),
        ("A young swimmer", "take the medal", "took the medal"),
        ("The tennis club", "lose the last set", "lost the last set"),
        ("The coach", "train a new striker", "trained a new striker"),
    ),
    "food": (
        ("A famous cook", "serve fish soup", "served fish soup"),
        ("The baker", "sell onion bread", "sold onion bread"),
        ("Many guests", "taste the new cheese", "tasted the new cheese"),
        ("A small restaurant", "fry potatoes all night", "fried potatoes all night"),
        ("The market", "offer ripe plums", "offered ripe plums"),
        ("Four waiters", "bring the dessert", "brought the dessert"),
    ),
    "music": (
        ("A choir", "sing old songs", "sang old songs"),
        ("The orchestra", "play a symphony", "played a symphony"),
        ("Three drummers", "give a concert", "gave a concert"),
        ("A violinist", "tune her strings", "tuned her strings"),
        ("The band", "record an album", "recorded an album"),
        ("A pianist", "perform a sonata", "performed a sonata"),
    ),
    "weather": (
        ("Heavy rain", "soak the streets", "soaked the streets"),
        ("A storm", "bend the trees", "bent the trees"),
        ("Thick fog", "hide the towers", "hid the towers"),
        ("Snow", "cover the roofs", "covered the roofs"),
        ("The sun", "dry the fields", "dried the fields"),
        ("Strong wind", "blow hats away", "blew hats away"),
    ),
    "money": (
        ("The bank", "raise its rates", "raised its rates"),
        ("Investors", "buy more shares", "bought more shares"),
        ("The tax office", "lower the fee", "lowered the fee"),
        ("A company", "double its profit", "doubled its profit"),
        ("The currency", "lose some value", "lost some value"),
        ("Two traders", "sell their bonds", "sold their bonds"),
    ),
    "health": (
        ("The nurses", "treat the flu", "treated the flu"),
        ("A surgeon", "mend a broken knee", "mended a broken knee"),
        ("The hospital", "test a vaccine", "tested a vaccine"),
        ("Dentists", "check all teeth", "checked all teeth"),
        ("A doctor", "cure the fever", "cured the fever"),
        ("The clinic", "order new medicine", "ordered new medicine"),
    ),
    "school": (
        ("The pupils", "write an exam", "wrote an exam"),
        ("A teacher", "explain fractions", "explained fractions"),
        ("The students", "read their essays", "read their essays"),
        ("Six classes", "learn the alphabet", "learned the alphabet"),
        ("The headmaster", "open a classroom", "opened a classroom"),
        ("A professor", "hold a lecture", "held a lecture"),
    ),
    "travel": (
        ("Tourists", "book every hotel", "booked every hotel"),
        ("The airline", "add two flights", "added two flights"),
        ("A ferry", "carry holiday guests", "carried holiday guests"),
        ("The night train", "leave the station", "left the station"),
        ("Backpackers", "visit the old castle", "visited the old castle"),
        ("The guide", "lead a bus tour", "led a bus tour"),
    ),
}
_WHEN = {
    "past": ("yesterday", "last week", "last month"),
    "future": ("tomorrow", "next week", "next month"),
}


def _headline(rng: random.Random, vocab: Vocabulary) -> Item:
    topic, time = rng.choice(sorted(_EVENTS)), rng.choice(sorted(_WHEN))
    who, base, past = rng.choice(vocab.part(_EVENTS[topic]))
    city = rng.choice(vocab.cities)
    told = {
        "past": f"{who} {past} in {city}",
        "future": f"{who} will {base} in {city}",
    }
    text = f"{told[time]} {rng.choice(_WHEN[time])}" if rng.random() < 0.5 else told[time]
    return Item(f"{text}.", {"topic": topic, "time": time, "city": city, "who": who, **told})


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
    topics = tuple(_EVENTS)
    for labels in (topics, tuple("ABCDEFGH"), tuple("12345678")):
        yield classes(
            f"topic-as-{labels[0]}",
            "topic",
            "topic",
            "headline",
            "topic",
            topics,
            labels,
            fact_name="topic",
        )
    for topic, yes, no, conditions in _SINGLE:
        yield two_labels("topic", "topic", "headline", conditions, ("topic", topic), (yes, no))
    conditions = ("it has happened already", "the news is in the past")
    for yes, no in (("past", "future"), ("done", "planned"), ("no", "yes"), ("A", "B")):
        yield two_labels(
            "news-time", "classification", "headline", conditions, ("time", "past"), (yes, no)
        )
    yield from _retold()


def _retold() -> Iterator[Operation]:
    yield from_facts(
        "news-to-future",
        "news-tense",
        "grammar",
        "headline",
        phrases(
            "write it with will, without a word such as tomorrow and without a full stop",
            "put it into the future with will; leave out any time and the full stop",
            "tell it as something that will happen, without time words or full stop",
            "turn it into the future form with will, dropping time words and the full stop",
        ),
        fact("future"),
    )
    yield from_facts(
        "news-to-past",
        "news-tense",
        "grammar",
        "headline",
        phrases(
            "write it in the past tense, without a word such as yesterday and without a full stop",
            "put it into the past; leave out any time and the full stop",
            "tell it as something that happened, without time words or full stop",
            "turn it into the past tense, dropping time words and the full stop",
        ),
        fact("past"),
    )
    yield from_facts(
        "news-city",
        "news-pick",
        "extraction",
        "headline",
        phrases(
            "give the city of the news",
            "where does it happen?",
            "extract the city",
            "write down the place name",
        ),
        fact("city"),
    )
    yield from_facts(
        "news-who",
        "news-pick",
        "extraction",
        "headline",
        phrases(
            "give the subject of the sentence",
            "who or what does it?",
            "extract the words before the verb",
            "write down who or what acts",
        ),
        fact("who"),
    )
    yield from_facts(
        "news-tag",
        "news-tag",
        "extraction",
        "headline",
        phrases(
            f"write a tag of topic and city with a slash; topics are {', '.join(_EVENTS)}",
            f"give topic/city, with one of the topics {', '.join(_EVENTS)}",
            f"note the topic ({', '.join(_EVENTS)}), a slash and the city",
            f"sum it up as topic/city, the topic being one of {', '.join(_EVENTS)}",
        ),
        filled("{topic}/{city}"),
    )
