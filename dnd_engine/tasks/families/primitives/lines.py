"""Primitives on lines, on comma-separated lists and on sentences."""

from collections.abc import Callable, Sequence

from dnd_engine.tasks.families.operation import OnText, Primitive, TextFunction
from dnd_engine.tasks.families.words import NUMBERS

__all__ = ["PRIMITIVES"]

Parts = list[str]


def _lines(change: Callable[[Parts], str | None]) -> TextFunction:
    """A function of the two or more lines of a text."""

    def function(text: str) -> str | None:
        parts = text.split("\n")
        return change(parts) if len(parts) > 1 else None

    return function


def _items(change: Callable[[Parts], str | None]) -> TextFunction:
    """A function of the two or more items of a comma-separated line."""

    def function(text: str) -> str | None:
        parts = text.split(", ")
        return change(parts) if len(parts) > 1 and "\n" not in text and "." not in text else None

    return function


def _sentences(change: Callable[[Parts], str | None]) -> TextFunction:
    """A function of the two or more sentences of a line; they come without their full stops."""

    def function(text: str) -> str | None:
        if "\n" in text or not text.endswith("."):
            return None
        parts = text[:-1].split(". ")
        return change(parts) if len(parts) > 1 else None

    return function


def _ended(parts: Sequence[str], end: str = ".", separator: str = " ") -> str:
    return separator.join(f"{part}{end}" for part in parts)


def _sorted(parts: Parts, *, down: bool = False) -> Parts | None:
    """By the alphabet, case ignored; does not apply where first words repeat or hold digits."""
    firsts = ["".join(part.split()[:1]).casefold() for part in parts]
    if len(set(firsts)) < len(firsts) or not all(first.isalpha() for first in firsts):
        return None
    return sorted(parts, key=str.casefold, reverse=down)


def _join_or_none(parts: Parts | None, separator: str) -> str | None:
    return None if parts is None else separator.join(parts)


def _line(name: str, change: Callable[[Parts], str | None], *phrases: str) -> OnText:
    return OnText(name=f"line-{name}", kind="lines", function=_lines(change), phrases=phrases)


def _item(name: str, change: Callable[[Parts], str | None], *phrases: str) -> OnText:
    return OnText(name=f"item-{name}", kind="items", function=_items(change), phrases=phrases)


def _said(name: str, change: Callable[[Parts], str | None], *phrases: str) -> OnText:
    return OnText(
        name=f"sentence-{name}", kind="sentences", function=_sentences(change), phrases=phrases
    )


def _prefixed(name: str, what: str, prefix: Callable[[int], str]) -> tuple[OnText, OnText]:
    """Something before each line, for lines and for lists turned into lines."""

    def change(parts: Parts) -> str:
        return "\n".join(f"{prefix(i)}{part}" for i, part in enumerate(parts, start=1))

    return (
        _line(
            f"prefix-{name}",
            change,
            f"put {what} before each line",
            f"start every line with {what}",
            f"add {what} at the beginning of each line",
            f"place {what} in front of all lines",
        ),
        _item(
            f"list-{name}",
            change,
            f"write each item on its own line, with {what} before it",
            f"turn the list into lines that start with {what}",
            f"give every item a line of its own that begins with {what}",
            f"split the list into lines and place {what} in front of each",
        ),
    )


def _suffixed(sign: str) -> Callable[[Parts], str]:
    return lambda parts: "\n".join(f"{part}{sign}" for part in parts)


PRIMITIVES = (
    Primitive(
        name="line-pick",
        category="string",
        variants=(
            _line(
                "first",
                lambda p: p[0],
                "keep only the first line",
                "give the first line",
                "drop all lines but the first",
                "write down the top line",
            ),
            _line(
                "last",
                lambda p: p[-1],
                "keep only the last line",
                "give the last line",
                "drop all lines but the last",
                "write down the bottom line",
            ),
            _line(
                "second",
                lambda p: p[1],
                "keep only the second line",
                "give the second line",
                "return line number two",
                "write down the second line",
            ),
            _line(
                "drop-first",
                lambda p: "\n".join(p[1:]),
                "remove the first line",
                "delete the top line",
                "leave out the first line",
                "take away the first line",
            ),
            _line(
                "drop-last",
                lambda p: "\n".join(p[:-1]),
                "remove the last line",
                "delete the bottom line",
                "leave out the last line",
                "take away the last line",
            ),
        ),
    ),
    Primitive(
        name="line-order",
        category="string",
        variants=(
            _line(
                "reverse",
                lambda p: "\n".join(p[::-1]),
                "reverse the order of the lines",
                "write the lines from the last to the first",
                "put the lines in the opposite order",
                "turn the order of the lines around",
            ),
            _line(
                "sort",
                lambda p: _join_or_none(_sorted(p), "\n"),
                "sort the lines alphabetically",
                "put the lines in alphabetical order",
                "arrange the lines from A to Z",
                "order the lines by the alphabet",
            ),
            _line(
                "swap",
                lambda p: "\n".join([p[1], p[0], *p[2:]]),
                "swap the first two lines",
                "exchange the first and the second line",
                "let the first two lines trade places",
                "switch the two top lines around",
            ),
        ),
    ),
    Primitive(
        name="line-join",
        category="format",
        variants=tuple(
            _line(
                f"join-{name}",
                separator.join,
                f"write the lines as one line, separated by {signs}",
                f"join all lines with {signs}",
                f"put everything on one line with {signs} between the old lines",
                f"merge the lines into one, with {signs} in between",
            )
            for name, signs, separator in (
                ("comma", "commas", ", "),
                ("bar", "vertical bars", " | "),
                ("semicolon", "semicolons", "; "),
                ("slash", "slashes", " / "),
                ("space", "spaces", " "),
            )
        ),
    ),
    Primitive(
        name="line-prefix",
        category="format",
        variants=tuple(
            variant
            for prefix in (
                _prefixed("numbers", "1. 2. 3. and so on", lambda i: f"{i}. "),
                _prefixed("dash", "a dash and a space", lambda i: "- "),
                _prefixed("star", "a star and a space", lambda i: "* "),
                _prefixed("quote", "a > sign and a space", lambda i: "> "),
                _prefixed("step", "Step 1: Step 2: and so on", lambda i: f"Step {i}: "),
                _prefixed("todo", "the word todo and a space", lambda i: "todo "),
            )
            for variant in prefix
        ),
    ),
    Primitive(
        name="line-suffix",
        category="format",
        variants=tuple(
            _line(
                f"suffix-{name}",
                _suffixed(sign),
                f"put {what} at the end of each line",
                f"end every line with {what}",
                f"add {what} to each line",
                f"close all lines with {what}",
            )
            for name, what, sign in (
                ("stop", "a full stop", "."),
                ("semicolon", "a semicolon", ";"),
                ("done", "a space and the word done", " done"),
            )
        ),
    ),
    Primitive(
        name="item-pick",
        category="extraction",
        variants=(
            _item(
                "first",
                lambda p: p[0],
                "give the first item of the list",
                "keep only the first item",
                "drop every item but the first",
                "write down the item that opens the list",
            ),
            _item(
                "last",
                lambda p: p[-1],
                "give the last item of the list",
                "keep only the last item",
                "drop every item but the last",
                "write down the item that closes the list",
            ),
            _item(
                "second",
                lambda p: p[1],
                "give the second item of the list",
                "keep only the second item",
                "return item number two",
                "write down the item in second place",
            ),
            _item(
                "drop-first",
                lambda p: ", ".join(p[1:]),
                "remove the first item from the list",
                "delete the first item",
                "leave out the item that opens the list",
                "take the first item away",
            ),
            _item(
                "drop-last",
                lambda p: ", ".join(p[:-1]),
                "remove the last item from the list",
                "delete the last item",
                "leave out the item that closes the list",
                "take the last item away",
            ),
        ),
    ),
    Primitive(
        name="item-order",
        category="string",
        variants=(
            _item(
                "reverse",
                lambda p: ", ".join(p[::-1]),
                "reverse the list",
                "write the items from the last to the first",
                "put the items of the list in the opposite order",
                "turn the order of the items around",
            ),
            _item(
                "sort",
                lambda p: _join_or_none(_sorted(p), ", "),
                "sort the items of the list alphabetically",
                "put the items in alphabetical order",
                "arrange the list from A to Z",
                "order the items by the alphabet",
            ),
            _item(
                "swap",
                lambda p: ", ".join([p[-1], *p[1:-1], p[0]]),
                "swap the first and the last item",
                "exchange the two outer items of the list",
                "let the first and the last item trade places",
                "switch the first item and the last one around",
            ),
        ),
    ),
    Primitive(
        name="item-join",
        category="format",
        variants=(
            *(
                _item(
                    f"join-{name}",
                    separator.join,
                    f"separate the items by {signs} instead of commas",
                    f"replace the commas of the list by {signs}",
                    f"write the list with {signs} between the items",
                    f"change the commas into {signs}",
                )
                for name, signs, separator in (
                    ("semicolon", "semicolons", "; "),
                    ("bar", "vertical bars", " | "),
                    ("slash", "slashes", " / "),
                    ("plus", "plus signs", " + "),
                )
            ),
            _item(
                "join-and",
                lambda p: f"{', '.join(p[:-1])} and {p[-1]}",
                "put and instead of the last comma",
                "write the list with and before the last item",
                "replace the last comma by the word and",
                "join the last two items by and, not by a comma",
            ),
            _item(
                "join-or",
                lambda p: f"{', '.join(p[:-1])} or {p[-1]}",
                "put or instead of the last comma",
                "write the list with or before the last item",
                "replace the last comma by the word or",
                "join the last two items by or, not by a comma",
            ),
            _item(
                "join-lines",
                "\n".join,
                "write each item on its own line",
                "turn the list into lines without commas",
                "split the list, one item per line",
                "give every item a line of its own",
            ),
        ),
    ),
    Primitive(
        name="part-count",
        category="string",
        variants=(
            _line(
                "count",
                lambda p: str(len(p)),
                "count the lines",
                "give the number of lines as a digit",
                "say in digits how many lines there are",
                "work out the line count",
            ),
            _item(
                "count",
                lambda p: str(len(p)),
                "count the items of the list",
                "give the number of items as a digit",
                "say in digits how many items the list has",
                "work out the item count",
            ),
            _item(
                "count-spelled",
                lambda p: NUMBERS[len(p)] if len(p) < len(NUMBERS) else None,
                "count the items and spell the number out",
                "give the number of list items as a number word",
                "say how many items the list has, as a word such as three",
                "work out the item count and write it in letters",
            ),
        ),
    ),
    Primitive(
        name="sentence-pick",
        category="extraction",
        variants=(
            _said(
                "first",
                lambda p: f"{p[0]}.",
                "keep only the first sentence",
                "give the first sentence",
                "drop all sentences but the first",
                "write down the sentence at the beginning",
            ),
            _said(
                "last",
                lambda p: f"{p[-1]}.",
                "keep only the last sentence",
                "give the last sentence",
                "drop all sentences but the last",
                "write down the sentence at the end",
            ),
            _said(
                "drop-first",
                lambda p: _ended(p[1:]) if len(p) > 2 else None,
                "remove the first sentence",
                "delete the first sentence",
                "leave out the first of the sentences",
                "take the first sentence away",
            ),
        ),
    ),
    Primitive(
        name="sentence-order",
        category="string",
        variants=(
            _said(
                "reverse",
                lambda p: _ended(p[::-1]),
                "reverse the order of the sentences",
                "write the sentences from the last to the first",
                "put the sentences in the opposite order",
                "turn the order of the sentences around",
            ),
        ),
    ),
    Primitive(
        name="sentence-end",
        category="format",
        variants=(
            _said(
                "bang",
                lambda p: _ended(p, "!"),
                "end every sentence with an exclamation mark instead of a full stop",
                "replace the full stops by exclamation marks",
                "change each full stop into an exclamation mark",
                "write exclamation marks where full stops stand",
            ),
            _said(
                "query",
                lambda p: _ended(p, "?"),
                "end every sentence with a question mark instead of a full stop",
                "replace the full stops by question marks",
                "change each full stop into a question mark",
                "write question marks where full stops stand",
            ),
            _said(
                "dots",
                lambda p: _ended(p, "..."),
                "end every sentence with three dots instead of a full stop",
                "replace each full stop by three dots",
                "change the full stops into three dots each",
                "write three dots where a full stop stands",
            ),
            _said(
                "none",
                lambda p: _ended(p, ""),
                "remove the full stops",
                "delete every full stop",
                "write the sentences without full stops",
                "take the full stops away",
            ),
            _said(
                "lines",
                lambda p: _ended(p, separator="\n"),
                "write each sentence on its own line",
                "start a new line after every full stop",
                "split the text, one sentence per line",
                "give every sentence a line of its own",
            ),
            _said(
                "semicolon",
                lambda p: "; ".join(p) + ".",
                "join the sentences with semicolons instead of full stops, keeping the last one",
                "replace every full stop but the last by a semicolon",
                "change all full stops except the final one into semicolons",
                "write semicolons between the sentences instead of full stops",
            ),
        ),
    ),
)
