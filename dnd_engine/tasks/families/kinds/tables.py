"""Questions to one table: its name and columns, a line break, the question."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dnd_engine.tasks.families.inputs import Item, Make
from dnd_engine.tasks.families.kinds.answers import classes, listed
from dnd_engine.tasks.families.operation import Operation
from dnd_engine.tasks.families.words import COLOURS, Vocabulary


@dataclass(frozen=True, slots=True)
class _Table:
    """One text column to filter by and one of numbers."""

    name: str
    title: str
    text: str
    number: str


_TABLES = (
    _Table("shops", "name", "city", "sales"),
    _Table("books", "title", "author", "pages"),
    _Table("cars", "model", "colour", "price"),
    _Table("trips", "name", "city", "days"),
    _Table("plants", "label", "colour", "height"),
    _Table("rooms", "code", "city", "beds"),
    _Table("songs", "title", "singer", "length"),
    _Table("boats", "name", "owner", "speed"),
    _Table("games", "title", "maker", "players"),
    _Table("coats", "brand", "colour", "size"),
    _Table("farms", "name", "city", "area"),
    _Table("parcels", "code", "sender", "weight"),
)
_SHAPES = ("list", "count", "most", "average")


def _question(rng: random.Random, vocab: Vocabulary) -> Item:
    table, shape = rng.choice(vocab.part(_TABLES)), rng.choice(_SHAPES)
    values = {"city": vocab.cities, "colour": COLOURS}.get(table.text, vocab.names)
    value, limit = rng.choice(values), rng.randint(2, 90)
    if rng.random() < 0.5:
        said = f"whose {table.text} is {value}"
        test = f"{table.text} = '{value}'"
        column = table.text
    else:
        less = rng.random() < 0.5
        said = f"with {table.number} {'below' if less else 'above'} {limit}"
        test = f"{table.number} {'<' if less else '>'} {limit}"
        column = table.number
    asked, select, order = {
        "list": (f"Which {table.name} are there {said}?", table.title, ""),
        "count": (f"How many {table.name} are there {said}?", "COUNT(*)", ""),
        "most": (
            f"Of the {table.name} {said}, which has the highest {table.number}?",
            table.title,
            f" ORDER BY {table.number} DESC LIMIT 1",
        ),
        "average": (
            f"What is the average {table.number} of {table.name} {said}?",
            f"AVG({table.number})",
            "",
        ),
    }[shape]
    columns = [table.title, table.text, table.number]
    rng.shuffle(columns)
    sql = f"SELECT {select} FROM {table.name} WHERE {test}{order}"
    return Item(
        f"{table.name}: {', '.join(columns)}\n{asked}",
        {
            "shape": shape,
            "sql": sql,
            "lower": _lowered(sql),
            "where": test,
            "select": select,
            "column": column,
            "table": table.name,
        },
    )


INPUTS: Mapping[str, Make] = {"table": _question}


def operations() -> Iterator[Operation]:
    """The query, its parts, and its shape."""
    yield from listed("table")
    asked = ("shape", _SHAPES)
    labels = (_SHAPES, ("A", "B", "C", "D"))
    yield from classes("sql-shape", "sql", "table", "kind of question", asked, *labels)


def _lowered(sql: str) -> str:
    keywords = ("SELECT", "FROM", "WHERE", "COUNT", "AVG", "ORDER BY", "DESC", "LIMIT")
    # Safe on values too: none is written in capitals throughout.
    for keyword in keywords:
        sql = sql.replace(keyword, keyword.lower())
    return f"{sql};"
