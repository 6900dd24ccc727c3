"""Primitives on records, scenes, prices, dates and halves: named things in a text."""

import re
from collections.abc import Callable, Mapping

from dnd_engine.tasks.families.operation import OnText, Primitive, TextFunction
from dnd_engine.tasks.families.scopes import find_entity
from dnd_engine.tasks.families.words import MONTHS

__all__ = ["PRIMITIVES"]

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


def _value(key: str) -> OnText:
    return OnText(
        name=f"lookup-{key}",
        kind="record",
        function=_of_record(lambda record: record.get(key)),
        phrases=(
            f"give the {key}",
            f"what is the {key}?",
            f"look up the {key}",
            f"return the value of {key}",
            f"find out the {key} and write it down",
        ),
    )


def _shape(name: str, change: Callable[[Mapping[str, str]], str | None], *phrases: str) -> OnText:
    return OnText(
        name=f"record-{name}", kind="record", function=_of_record(change), phrases=phrases
    )


def _without(record: Mapping[str, str], key: str) -> str | None:
    if key not in record:
        return None
    return "\n".join(f"{k}: {v}" for k, v in record.items() if k != key)


def _entity(entity: str, called: str, question: str) -> OnText:
    return OnText(
        name=f"pick-{entity}",
        kind="scene",
        function=lambda text: find_entity(entity, text),
        phrases=(
            f"extract the {called}",
            question,
            f"give only the {called}",
            f"find the {called} in the text",
            f"write down the {called}",
        ),
    )


def _two(first: str, second: str) -> OnText:
    def function(text: str) -> str | None:
        found = find_entity(first, text), find_entity(second, text)
        return None if found[0] is None or found[1] is None else f"{found[0]}, {found[1]}"

    return OnText(
        name=f"pick-{first}-{second}",
        kind="scene",
        function=function,
        phrases=(
            f"extract the {first} and the {second}, separated by a comma",
            f"give only the {first} and then the {second}, with a comma between",
            f"find the {first} and the {second} and list them with a comma",
            f"write down the {first}, a comma and the {second}",
        ),
    )


def _removed(entity: str, *phrases: str) -> OnText:
    def function(text: str) -> str | None:
        found = find_entity(entity, text)
        return None if found is None else text.replace(f"{found} ", "", 1)

    return OnText(name=f"remove-{entity}", kind="scene", function=function, phrases=phrases)


def _one(
    name: str,
    kind: str,
    pattern: re.Pattern[str],
    change: Callable[[re.Match[str]], str],
    *phrases: str,
) -> OnText:
    """The only match in a text, written another way in its place."""

    def function(text: str) -> str | None:
        return pattern.sub(change, text) if len(pattern.findall(text)) == 1 else None

    return OnText(name=name, kind=kind, function=function, phrases=phrases)


def _only(
    name: str,
    kind: str,
    pattern: re.Pattern[str],
    change: Callable[[re.Match[str]], str],
    *phrases: str,
) -> OnText:
    """The only match in a text, alone."""

    def function(text: str) -> str | None:
        found = list(pattern.finditer(text))
        return change(found[0]) if len(found) == 1 else None

    return OnText(name=name, kind=kind, function=function, phrases=phrases)


def _month(match: re.Match[str]) -> str:
    number = int(match[2])
    return MONTHS[number - 1] if 1 <= number <= len(MONTHS) else match[2]


def _half(name: str, change: Callable[[re.Match[str]], str], *phrases: str) -> OnText:
    def function(text: str) -> str | None:
        match = _HALVES.fullmatch(text)
        return change(match) if match else None

    return OnText(name=f"dash-{name}", kind="halves", function=function, phrases=phrases)


PRIMITIVES = (
    Primitive(
        name="lookup",
        category="extraction",
        variants=tuple(map(_value, ("name", "city", "item", "amount", "colour", "day"))),
    ),
    Primitive(
        name="record-shape",
        category="format",
        variants=(
            _shape(
                "keys",
                lambda record: ", ".join(record),
                "list the keys only, with commas",
                "give the field names, separated by commas",
                "write what stands before each colon, as a list with commas",
                "name all fields in one line with commas",
            ),
            _shape(
                "values",
                lambda record: ", ".join(record.values()),
                "list the values only, with commas",
                "give all values without their keys, separated by commas",
                "write what stands after each colon, as a list with commas",
                "name all values in one line with commas",
            ),
            _shape(
                "inline",
                lambda record: "; ".join(f"{k}: {v}" for k, v in record.items()),
                "write the record on one line with semicolons",
                "put all fields on a single line, separated by semicolons",
                "join the lines of the record with semicolons",
                "merge the fields into one line, semicolons between",
            ),
            _shape(
                "equals",
                lambda record: "\n".join(f"{k}={v}" for k, v in record.items()),
                "write each field as key=value",
                "replace every colon and its space by an equals sign",
                "change the notation to key=value, one per line",
                "use equals signs without spaces instead of the colons",
            ),
            _shape(
                "swap",
                lambda record: "\n".join(f"{v}: {k}" for k, v in record.items()),
                "swap key and value in every line",
                "put the value before the colon and the key behind it",
                "exchange the two sides of each colon",
                "let key and value trade places in all lines",
            ),
            _shape(
                "drop-name",
                lambda record: _without(record, "name"),
                "remove the line with the name",
                "delete the name field",
                "leave out the name line",
                "take the name away from the record",
            ),
            _shape(
                "drop-city",
                lambda record: _without(record, "city"),
                "remove the line with the city",
                "delete the city field",
                "leave out the city line",
                "take the city away from the record",
            ),
        ),
    ),
    Primitive(
        name="pick",
        category="extraction",
        variants=(
            _entity("name", "name of the person", "who is named?"),
            _entity("city", "city", "which city is mentioned?"),
            _entity("colour", "colour", "which colour is it?"),
            _entity("day", "weekday", "on which day was it?"),
            _entity("number", "number", "how many are there?"),
            _two("name", "city"),
            _two("colour", "day"),
            _two("city", "number"),
        ),
    ),
    Primitive(
        name="remove",
        category="string",
        variants=(
            _removed(
                "colour",
                "remove the colour word",
                "delete the word for the colour",
                "leave out the colour",
                "take the colour away",
            ),
            _removed(
                "number",
                "remove the number",
                "delete the figure",
                "leave out the number",
                "take the number away",
            ),
        ),
    ),
    Primitive(
        name="currency",
        category="format",
        variants=(
            _one(
                "currency-word",
                "priced",
                _PRICE,
                lambda m: f"{m[1]} dollars",
                "write the price with the word dollars instead of the sign",
                "replace the dollar sign by the word dollars after the number",
                "turn the price into a number and the word dollars",
                "spell the dollar sign out behind the number",
            ),
            _one(
                "currency-code",
                "priced",
                _PRICE,
                lambda m: f"USD {m[1]}",
                "write USD and a space instead of the dollar sign",
                "replace the dollar sign by USD, with a space before the number",
                "turn the sign of the price into the code USD before the number",
                "use the code USD in front of the number, not the sign",
            ),
            _one(
                "currency-cents",
                "priced",
                _PRICE,
                lambda m: f"${m[1]}.00",
                "write the price with two zeros for the cents",
                "add .00 to the price",
                "show the price with cents, as in $5.00",
                "extend the price by .00",
            ),
            _one(
                "currency-euro",
                "priced",
                _PRICE,
                lambda m: f"{m[1]} euros",
                "give the price in euros, with the same number",
                "change the dollars into as many euros, writing the word euros",
                "replace the dollar price by the same number of euros",
                "put the number and the word euros in place of the price",
            ),
            _only(
                "currency-pick",
                "priced",
                _PRICE,
                lambda m: m[0],
                "extract the price",
                "what is the price?",
                "give only the price with its sign",
                "find the price in the text",
                "write down the price as it stands",
            ),
            _only(
                "currency-number",
                "priced",
                _PRICE,
                lambda m: m[1],
                "give the price as a bare number without the sign",
                "extract the number of dollars, digits only",
                "find the price and leave its sign out",
                "write down the digits of the price",
            ),
        ),
    ),
    Primitive(
        name="date",
        category="format",
        held_out=True,
        variants=(
            _one(
                "date-long",
                "dated",
                _DATE,
                lambda m: f"{int(m[3])} {_month(m)} {m[1]}",
                "write the date as day, month name and year, as in 5 March 2020",
                "change the date to the form 5 March 2020",
                "give the date with the month in words, day first",
                "spell the month of the date out, in the order day month year",
            ),
            _one(
                "date-slashes",
                "dated",
                _DATE,
                lambda m: f"{m[3]}/{m[2]}/{m[1]}",
                "write the date with slashes, as in 31/12/2020",
                "change the date to day/month/year",
                "turn the date around to the form 31/12/2020",
                "put the date in the order day, month, year with slashes",
            ),
            _one(
                "date-dots",
                "dated",
                _DATE,
                lambda m: f"{m[1]}.{m[2]}.{m[3]}",
                "write the date with dots instead of hyphens",
                "replace the hyphens of the date by dots",
                "change the date to the form 2020.12.31",
                "put dots where the date has hyphens",
            ),
            _only(
                "date-year",
                "dated",
                _DATE,
                lambda m: m[1],
                "give the year",
                "which year is it?",
                "extract the year of the date",
                "write down the year alone",
            ),
            _only(
                "date-month",
                "dated",
                _DATE,
                _month,
                "give the name of the month",
                "which month is it, in words?",
                "name the month of the date",
                "write down the month as a word",
            ),
            _only(
                "date-pick",
                "dated",
                _DATE,
                lambda m: m[0],
                "extract the date as it stands",
                "give only the date, unchanged",
                "find the date in the text and copy it",
                "write down the date without any change",
            ),
            _only(
                "date-day-month",
                "dated",
                _DATE,
                lambda m: f"{int(m[3])} {_month(m)}",
                "give day and month of the date, as in 5 March",
                "extract the day and the name of the month, without the year",
                "say on which day of which month it is, as in 5 March",
                "write down the day and then the month as a word",
            ),
        ),
    ),
    Primitive(
        name="dash",
        category="format",
        held_out=True,
        variants=(
            _half(
                "before",
                lambda m: m[1],
                "keep only what stands before the dash",
                "give the part to the left of the dash",
                "drop the dash and everything after it",
                "write down the words that come before the dash",
            ),
            _half(
                "after",
                lambda m: m[2],
                "keep only what stands after the dash",
                "give the part to the right of the dash",
                "drop the dash and everything before it",
                "write down the words that come after the dash",
            ),
            _half(
                "swap",
                lambda m: f"{m[2]} - {m[1]}",
                "swap the two sides of the dash",
                "put the right side before the dash and the left side after it",
                "exchange the parts on both sides of the dash",
                "let the two halves trade places around the dash",
            ),
            _half(
                "colon",
                lambda m: f"{m[1]}: {m[2]}",
                "write a colon instead of the dash",
                "replace the dash and the space before it by a colon",
                "change the dash to a colon",
                "put a colon where the dash stands",
            ),
            _half(
                "lines",
                lambda m: f"{m[1]}\n{m[2]}",
                "write the two sides of the dash on two lines",
                "split the text at the dash into two lines",
                "replace the dash by a line break",
                "start a new line where the dash stands",
            ),
            _half(
                "with",
                lambda m: f"{m[1]} with {m[2]}",
                "write the word with instead of the dash",
                "replace the dash by the word with",
                "change the dash to the word with",
                "put the word with where the dash stands",
            ),
            _half(
                "upper",
                lambda m: f"{m[1].upper()} - {m[2]}",
                "write everything before the dash in capitals and leave the rest",
                "put the left side of the dash in upper case; keep the right side",
                "make the part before the dash all caps and nothing else",
                "set the words before the dash in block capitals, the others as they are",
            ),
        ),
    ),
)
