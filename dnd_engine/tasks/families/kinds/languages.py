"""Short sentences in five languages, on four subjects, independently."""

import random
from collections.abc import Iterator, Mapping

from dnd_engine.tasks.families.inputs import Item, Make
from dnd_engine.tasks.families.kinds.answers import classes, two_labels
from dnd_engine.tasks.families.operation import Operation
from dnd_engine.tasks.families.words import Vocabulary

__all__ = ["INPUTS", "operations"]

_SENTENCES = {
    ("English", "weather"): (
        "It is raining in {city}.",
        "The wind is cold in {city}.",
        "It snows a lot in {city}.",
    ),
    ("English", "food"): (
        "{name} eats bread and cheese.",
        "{name} is cooking soup.",
        "{name} likes apples.",
    ),
    ("English", "family"): (
        "{name} is my sister.",
        "The mother of {name} lives here.",
        "{name} has two brothers.",
    ),
    ("English", "work"): (
        "{name} works in a bank in {city}.",
        "The office of {name} is closed.",
        "{name} writes a letter to the boss.",
    ),
    ("French", "weather"): (
        "Il pleut à {city}.",
        "Le vent est froid à {city}.",
        "Il neige beaucoup à {city}.",
    ),
    ("French", "food"): (
        "{name} mange du pain et du fromage.",
        "{name} prépare une soupe.",
        "{name} aime les pommes.",
    ),
    ("French", "family"): (
        "{name} est ma sœur.",
        "La mère de {name} habite ici.",
        "{name} a deux frères.",
    ),
    ("French", "work"): (
        "{name} travaille dans une banque à {city}.",
        "Le bureau de {name} est fermé.",
        "{name} écrit une lettre au chef.",
    ),
    ("German", "weather"): (
        "Es regnet in {city}.",
        "Der Wind ist kalt in {city}.",
        "Es schneit viel in {city}.",
    ),
    ("German", "food"): (
        "{name} isst Brot und Käse.",
        "{name} kocht eine Suppe.",
        "{name} mag Äpfel.",
    ),
    ("German", "family"): (
        "{name} ist meine Schwester.",
        "Die Mutter von {name} wohnt hier.",
        "{name} hat zwei Brüder.",
    ),
    ("German", "work"): (
        "{name} arbeitet in einer Bank in {city}.",
        "Das Büro von {name} ist geschlossen.",
        "{name} schreibt dem Chef einen Brief.",
    ),
    ("Spanish", "weather"): (
        "Llueve en {city}.",
        "El viento es frío en {city}.",
        "Nieva mucho en {city}.",
    ),
    ("Spanish", "food"): (
        "{name} come pan y queso.",
        "{name} prepara una sopa.",
        "A {name} le gustan las manzanas.",
    ),
    ("Spanish", "family"): (
        "{name} es mi hermana.",
        "La madre de {name} vive aquí.",
        "{name} tiene dos hermanos.",
    ),
    ("Spanish", "work"): (
        "{name} trabaja en un banco en {city}.",
        "La oficina de {name} está cerrada.",
        "{name} escribe una carta al jefe.",
    ),
    ("Italian", "weather"): (
        "Piove a {city}.",
        "Il vento è freddo a {city}.",
        "Nevica molto a {city}.",
    ),
    ("Italian", "food"): (
        "{name} mangia pane e formaggio.",
        "{name} cucina una zuppa.",
        "A {name} piacciono le mele.",
    ),
    ("Italian", "family"): (
        "{name} è mia sorella.",
        "La madre di {name} abita qui.",
        "{name} ha due fratelli.",
    ),
    ("Italian", "work"): (
        "{name} lavora in una banca a {city}.",
        "L'ufficio di {name} è chiuso.",
        "{name} scrive una lettera al capo.",
    ),
}
_LANGUAGES = ("English", "French", "German", "Spanish", "Italian")
_SUBJECTS = ("weather", "food", "family", "work")


def _foreign(rng: random.Random, vocab: Vocabulary) -> Item:
    language, subject = rng.choice(_LANGUAGES), rng.choice(_SUBJECTS)
    sentence = rng.choice(_SENTENCES[language, subject])
    name, city = rng.choice(vocab.names), rng.choice(vocab.cities)
    return Item(sentence.format(name=name, city=city), {"language": language, "subject": subject})


INPUTS: Mapping[str, Make] = {"foreign": _foreign}


def operations() -> Iterator[Operation]:
    """Name the language or the subject, under several sets of labels."""
    for labels in (
        _LANGUAGES,
        ("en", "fr", "de", "es", "it"),
        ("A", "B", "C", "D", "E"),
        ("hello", "bonjour", "hallo", "hola", "ciao"),
    ):
        yield classes(
            f"language-as-{labels[0]}",
            "language",
            "classification",
            "foreign",
            "language",
            _LANGUAGES,
            labels,
            fact_name="language",
        )
    for names in (_SUBJECTS, ("1", "2", "3", "4"), ("cloud", "plate", "house", "desk")):
        yield classes(
            f"subject-as-{names[0]}",
            "subject",
            "topic",
            "foreign",
            "subject",
            _SUBJECTS,
            names,
            fact_name="subject",
        )
    for language, yes, no in (
        ("French", "yes", "no"),
        ("German", "ja", "nein"),
        ("English", "keep", "translate"),
    ):
        conditions = (f"the sentence is in {language}", f"it is written in {language}")
        yield two_labels(
            "language", "classification", "foreign", conditions, ("language", language), (yes, no)
        )
