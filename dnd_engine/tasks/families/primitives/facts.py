"""Primitives on records, scenes, prices, dates and halves: named things in a text."""

import re
from collections.abc import Callable, Mapping
from functools import partial

from dnd_engine.tasks.families.operation import Primitives, Variant, on_text
from dnd_engine.tasks.families.scopes import TextFunction, find_entity
from dnd_engine.tasks.families.words import MONTHS

_PRICE = re.compile(r"\$(\d+)")
_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)")
_HALVES = re.compile(r"([^\n-]+) - ([^\n-]+)")


def _record(text: str) -> Mapping[str, str] | None:
    """The `key: value` lines of a text, two or more."""
    rows = [line.partition(": ") for line in text.split("\n")]
    if len(rows) < 2 or not all(key and colon and value for key, colon, value in rows):
        return None
    return {key: value for key, _, value in rows}


def _of_record(change: Callable[[Mapping[str, str]], str | None]) -> TextFunction:
    def function(text: str) -> str | None:
        record = _record(text)
        return None if record is None else change(record)

    return function


def _value(key: str) -> Variant:
    function = _of_record(lambda record: record.get(key))
    return on_text("record", f"lookup-{key}", function, "lookup", key=key)


def _shape(name: str, change: Callable[[Mapping[str, str]], str | None]) -> Variant:
    return on_text("record", f"record-{name}", _of_record(change))


def _without(record: Mapping[str, str], key: str) -> str | None:
    if key not in record:
        return None
    return "\n".join(f"{k}: {v}" for k, v in record.items() if k != key)


def _entity(entity: str, called: str, question: str) -> Variant:
    function = partial(find_entity, entity)
    return on_text("scene", f"pick-{entity}", function, "pick", called=called, question=question)


def _two(first: str, second: str) -> Variant:
    def function(text: str) -> str | None:
        found = find_entity(first, text), find_entity(second, text)
        return None if found[0] is None or found[1] is None else f"{found[0]}, {found[1]}"

    return on_text(
        "scene", f"pick-{first}-{second}", function, "pick-two", first=first, second=second
    )


def _removed(entity: str) -> Variant:
    def function(text: str) -> str | None:
        found = find_entity(entity, text)
        # Only at the start of a word, because `red` also ends `repaired`.
        return None if found is None else re.sub(rf"\b{found} ", "", text)

    return on_text("scene", f"remove-{entity}", function)


def _one(
    name: str, kind: str, pattern: re.Pattern[str], change: Callable[[re.Match[str]], str]
) -> Variant:
    """The only match in a text, written another way in its place."""

    def function(text: str) -> str | None:
        # Of two matches, the instruction would not say which is meant.
        return pattern.sub(change, text) if len(pattern.findall(text)) == 1 else None

    return on_text(kind, name, function)


def _only(
    name: str, kind: str, pattern: re.Pattern[str], change: Callable[[re.Match[str]], str]
) -> Variant:
    """The only match in a text, alone."""

    def function(text: str) -> str | None:
        found = list(pattern.finditer(text))
        return change(found[0]) if len(found) == 1 else None

    return on_text(kind, name, function)


def _month(match: re.Match[str]) -> str:
    # Any text may come here, also one with a month 13.
    number = int(match[2])
    return MONTHS[number - 1] if 1 <= number <= len(MONTHS) else match[2]


def _half(name: str, change: Callable[[re.Match[str]], str]) -> Variant:
    def function(text: str) -> str | None:
        match = _HALVES.fullmatch(text)
        return change(match) if match else None

    return on_text("halves", f"dash-{name}", function)


PRIMITIVES: Primitives = {
    ("lookup", "extraction"): tuple(
        map(_value, ("name", "city", "item", "amount", "colour", "day"))
    ),
    ("record-shape", "format"): (
        _shape("keys", lambda record: ", ".join(record)),
        _shape("values", lambda record: ", ".join(record.values())),
        _shape("inline", lambda record: "; ".join(f"{k}: {v}" for k, v in record.items())),
        _shape("equals", lambda record: "\n".join(f"{k}={v}" for k, v in record.items())),
        _shape("swap", lambda record: "\n".join(f"{v}: {k}" for k, v in record.items())),
        _shape("drop-name", lambda record: _without(record, "name")),
        _shape("drop-city", lambda record: _without(record, "city")),
    ),
    ("pick", "extraction"): (
        _entity("name", "name of the person", "who is named?"),
        _entity("city", "city", "which city is mentioned?"),
        _entity("colour", "colour", "which colour is it?"),
        _entity("day", "weekday", "on which day was it?"),
        _entity("number", "number", "how many are there?"),
        _two("name", "city"),
        _two("colour", "day"),
        _two("city", "number"),
    ),
    ("remove", "string"): (_removed("colour"), _removed("number")),
    ("currency", "format"): (
        _one("currency-word", "priced", _PRICE, lambda m: f"{m[1]} dollars"),
        _one("currency-code", "priced", _PRICE, lambda m: f"USD {m[1]}"),
        _one("currency-cents", "priced", _PRICE, lambda m: f"${m[1]}.00"),
        _one("currency-euro", "priced", _PRICE, lambda m: f"{m[1]} euros"),
        _only("currency-pick", "priced", _PRICE, lambda m: m[0]),
        _only("currency-number", "priced", _PRICE, lambda m: m[1]),
    ),
    ("date", "format"): (
        _one("date-long", "dated", _DATE, lambda m: f"{int(m[3])} {_month(m)} {m[1]}"),
        _one("date-slashes", "dated", _DATE, lambda m: f"{m[3]}/{m[2]}/{m[1]}"),
        _one("date-dots", "dated", _DATE, lambda m: f"{m[1]}.{m[2]}.{m[3]}"),
        _only("date-year", "dated", _DATE, lambda m: m[1]),
        _only("date-month", "dated", _DATE, _month),
        _only("date-pick", "dated", _DATE, lambda m: m[0]),
        _only("date-day-month", "dated", _DATE, lambda m: f"{int(m[3])} {_month(m)}"),
    ),
    ("dash", "format"): (
        _half("before", lambda m: m[1]),
        _half("after", lambda m: m[2]),
        _half("swap", lambda m: f"{m[2]} - {m[1]}"),
        _half("colon", lambda m: f"{m[1]}: {m[2]}"),
        _half("lines", lambda m: f"{m[1]}\n{m[2]}"),
        _half("with", lambda m: f"{m[1]} with {m[2]}"),
        _half("upper", lambda m: f"{m[1].upper()} - {m[2]}"),
    ),
}
