"""Questions to one table: its name and columns, a line break, the question."""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from dnd_engine.tasks.families.inputs import Item, Make
from dnd_engine.tasks.families.kinds.answers import classes, fact, from_facts
from dnd_engine.tasks.families.operation import Operation
from dnd_engine.tasks.families.wording import phrases
from dnd_engine.tasks.families.words import COLOURS, Vocabulary

__all__ = ["INPUTS", "operations"]


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
    return Item(
        f"{table.name}: {', '.join(columns)}\n{asked}",
        {
            "shape": shape,
            "sql": f"SELECT {select} FROM {table.name} WHERE {test}{order}",
            "where": test,
            "select": select,
            "column": column,
            "table": table.name,
            "asked": asked,
        },
    )


INPUTS: Mapping[str, Make] = {"table": _question}


def operations() -> Iterator[Operation]:
    """The query, its parts, and its shape."""
    for name, field, ways in (
        (
            "query",
            "sql",
            (
                "write the SQL query",
                "answer with a query in SQL",
                "turn the question into SQL",
                "translate the question to a SQL statement",
                "give the SQL that answers the question",
            ),
        ),
        (
            "where",
            "where",
            (
                "write the SQL condition that follows WHERE",
                "answer with the WHERE condition only, without the word",
                "turn the filter of the question into a SQL condition",
                "give the condition of the WHERE clause, nothing more",
            ),
        ),
        (
            "select",
            "select",
            (
                "write what stands between SELECT and FROM in the query",
                "answer with the selected expression of the SQL query",
                "turn what is asked for into the part after SELECT",
                "give the part of the query that SELECT returns",
            ),
        ),
        (
            "column",
            "column",
            (
                "write the column that the question filters by",
                "answer with the name of the column in the condition",
                "find the column that the filter looks at",
                "give the column that is compared to a value",
            ),
        ),
        (
            "table",
            "table",
            (
                "write the name of the table",
                "answer with the table name only",
                "find out which table is asked",
                "give the table that the question is put to",
            ),
        ),
    ):
        family = "sql-query" if name == "query" else "sql-part"
        yield _sql(name, family, phrases(*ways), fact(field))
    yield _sql(
        "lower",
        "sql-query",
        phrases(
            "write the SQL query with its keywords in small letters, ending with a semicolon",
            "answer with a query in lower-case SQL and a semicolon",
            "turn the question into SQL, keywords in small letters, semicolon at the end",
            "give the SQL with lower-case keywords and a final semicolon",
        ),
        lambda facts: _lowered(facts["sql"]),
    )
    for labels in (_SHAPES, ("A", "B", "C", "D")):
        yield classes(
            f"sql-shape-as-{labels[0]}",
            "sql-shape",
            "sql",
            "table",
            "kind of question",
            _SHAPES,
            labels,
            fact_name="shape",
        )


def _sql(
    name: str,
    family: str,
    ways: tuple[tuple[str, ...], ...],
    answer: Callable[[Mapping[str, str]], str | None],
) -> Operation:
    return from_facts(f"sql-{name}", family, "sql", "table", ways, answer)


def _lowered(sql: str) -> str:
    keywords = ("SELECT", "FROM", "WHERE", "COUNT", "AVG", "ORDER BY", "DESC", "LIMIT")
    for keyword in keywords:
        sql = sql.replace(keyword, keyword.lower())
    return f"{sql};"
