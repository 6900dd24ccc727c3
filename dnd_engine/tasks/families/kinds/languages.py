"""Short sentences in five languages, on four subjects, independently."""

import random
from collections.abc import Iterator, Mapping

from dnd_engine.tasks.families.inputs import Item, Make
from dnd_engine.tasks.families.kinds.answers import classes, two_labels
from dnd_engine.tasks.families.operation import Operation
from dnd_engine.tasks.families.words import Vocabulary
from dnd_engine.tasks.lists import read_lists

_LANGUAGES = ("English", "French", "German", "Spanish", "Italian")
_SUBJECTS = ("weather", "food", "family", "work")


def _foreign(rng: random.Random, vocab: Vocabulary) -> Item:
    language, subject = rng.choice(_LANGUAGES), rng.choice(_SUBJECTS)
    # Not `vocab.part`: a handful of sentences is too few to share out. Each has a name or a city,
    # and these differ between the sides.
    sentence = rng.choice(read_lists("languages")[f"{language} {subject}"])
    name, city = rng.choice(vocab.names), rng.choice(vocab.cities)
    return Item(sentence.format(name=name, city=city), {"language": language, "subject": subject})


INPUTS: Mapping[str, Make] = {"foreign": _foreign}


def operations() -> Iterator[Operation]:
    """Name the language or the subject, under several sets of labels."""
    yield from classes(
        "language",
        "classification",
        "foreign",
        "language",
        ("language", _LANGUAGES),
        _LANGUAGES,
        ("en", "fr", "de", "es", "it"),
        ("A", "B", "C", "D", "E"),
        ("hello", "bonjour", "hallo", "hola", "ciao"),
    )
    labels = (_SUBJECTS, ("1", "2", "3", "4"), ("cloud", "plate", "house", "desk"))
    yield from classes("subject", "topic", "foreign", "subject", ("subject", _SUBJECTS), *labels)
    for language, yes, no in (
        ("French", "yes", "no"),
        ("German", "ja", "nein"),
        ("English", "keep", "translate"),
    ):
        conditions = (f"the sentence is in {language}", f"it is written in {language}")
        yield from two_labels(
            "language", "classification", "foreign", conditions, ("language", language), (yes, no)
        )
