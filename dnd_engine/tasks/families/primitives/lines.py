"""Primitives on lines, on comma-separated lists and on sentences."""

from collections.abc import Callable, Sequence
from functools import partial

from dnd_engine.tasks.families.operation import Primitives, Variant, on_text
from dnd_engine.tasks.families.scopes import TextFunction, split_items, split_lines
from dnd_engine.tasks.families.words import spelled

Parts = list[str]


def _of(split: Callable[[str], Parts], change: Callable[[Parts], str | None]) -> TextFunction:
    """A function of the two or more parts of a text."""

    def function(text: str) -> str | None:
        parts = split(text)
        return change(parts) if len(parts) > 1 else None

    return function


def _split_sentences(text: str) -> Parts:
    """The sentences of a line, without their full stops; none where it is no text of sentences."""
    return text[:-1].split(". ") if "\n" not in text and text.endswith(".") else []


def _ended(parts: Sequence[str], end: str = ".", separator: str = " ") -> str:
    return separator.join(f"{part}{end}" for part in parts)


def _sorted(parts: Parts, separator: str) -> str | None:
    """By the alphabet, case ignored; does not apply where first words repeat or hold digits."""
    firsts = ["".join(part.split()[:1]).casefold() for part in parts]
    if len(set(firsts)) < len(firsts) or not all(first.isalpha() for first in firsts):
        return None
    return separator.join(sorted(parts, key=str.casefold))


def _line(
    name: str, change: Callable[[Parts], str | None], said: str = "", **slots: str
) -> Variant:
    return on_text("lines", f"line-{name}", _of(split_lines, change), said, **slots)


def _item(
    name: str, change: Callable[[Parts], str | None], said: str = "", **slots: str
) -> Variant:
    return on_text("items", f"item-{name}", _of(split_items, change), said, **slots)


def _joined_last(sign: str) -> Variant:
    def change(parts: Parts) -> str:
        return f"{', '.join(parts[:-1])} {sign} {parts[-1]}"

    return _item(f"join-{sign}", change, "item-join-last", sign=sign)


def _said(
    name: str, change: Callable[[Parts], str | None], said: str = "", **slots: str
) -> Variant:
    return on_text("sentences", f"sentence-{name}", _of(_split_sentences, change), said, **slots)


def _ended_by(name: str, sign: str, one: str, many: str) -> Variant:
    return _said(name, partial(_ended, end=sign), "sentence-end", one=one, many=many)


def _prefixed(name: str, what: str, prefix: Callable[[int], str]) -> tuple[Variant, Variant]:
    """Something before each line, for lines and for lists turned into lines."""

    def change(parts: Parts) -> str:
        return "\n".join(f"{prefix(i)}{part}" for i, part in enumerate(parts, start=1))

    return (
        _line(f"prefix-{name}", change, "line-prefix", what=what),
        _item(f"list-{name}", change, "item-list", what=what),
    )


PRIMITIVES: Primitives = {
    ("line-pick", "string"): (
        _line("first", lambda p: p[0], "line-pick", which="first", place="top"),
        _line("last", lambda p: p[-1], "line-pick", which="last", place="bottom"),
        _line("second", lambda p: p[1]),
        _line("drop-first", lambda p: "\n".join(p[1:]), "line-drop", which="first", place="top"),
        _line("drop-last", lambda p: "\n".join(p[:-1]), "line-drop", which="last", place="bottom"),
    ),
    ("line-order", "string"): (
        _line("reverse", lambda p: "\n".join(p[::-1])),
        _line("sort", partial(_sorted, separator="\n")),
        _line("swap", lambda p: "\n".join([p[1], p[0], *p[2:]])),
    ),
    ("line-join", "format"): tuple(
        _line(f"join-{name}", separator.join, "line-join", signs=signs)
        for name, signs, separator in (
            ("comma", "commas", ", "),
            ("bar", "vertical bars", " | "),
            ("semicolon", "semicolons", "; "),
            ("slash", "slashes", " / "),
            ("space", "spaces", " "),
        )
    ),
    ("line-prefix", "format"): tuple(
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
    ("line-suffix", "format"): tuple(
        _line(f"suffix-{name}", partial(_ended, end=sign, separator="\n"), "line-suffix", what=what)
        for name, what, sign in (
            ("stop", "a full stop", "."),
            ("semicolon", "a semicolon", ";"),
            ("done", "a space and the word done", " done"),
        )
    ),
    ("item-pick", "extraction"): (
        _item("first", lambda p: p[0], "item-pick", which="first", does="opens"),
        _item("last", lambda p: p[-1], "item-pick", which="last", does="closes"),
        _item("second", lambda p: p[1]),
        _item("drop-first", lambda p: ", ".join(p[1:]), "item-drop", which="first", does="opens"),
        _item("drop-last", lambda p: ", ".join(p[:-1]), "item-drop", which="last", does="closes"),
    ),
    ("item-order", "string"): (
        _item("reverse", lambda p: ", ".join(p[::-1])),
        _item("sort", partial(_sorted, separator=", ")),
        _item("swap", lambda p: ", ".join([p[-1], *p[1:-1], p[0]])),
    ),
    ("item-join", "format"): (
        *(
            _item(f"join-{name}", separator.join, "item-join", signs=signs)
            for name, signs, separator in (
                ("semicolon", "semicolons", "; "),
                ("bar", "vertical bars", " | "),
                ("slash", "slashes", " / "),
                ("plus", "plus signs", " + "),
            )
        ),
        _joined_last("and"),
        _joined_last("or"),
        _item("join-lines", "\n".join),
    ),
    ("part-count", "string"): (
        _line("count", lambda p: str(len(p))),
        _item("count", lambda p: str(len(p))),
        _item("count-spelled", lambda p: spelled(len(p))),
    ),
    ("sentence-pick", "extraction"): (
        _said("first", lambda p: f"{p[0]}.", "sentence-pick", which="first", place="beginning"),
        _said("last", lambda p: f"{p[-1]}.", "sentence-pick", which="last", place="end"),
        # Of two sentences, this would leave what `sentence-last` gives.
        _said("drop-first", lambda p: _ended(p[1:]) if len(p) > 2 else None),
    ),
    ("sentence-order", "string"): (_said("reverse", lambda p: _ended(p[::-1])),),
    ("sentence-end", "format"): (
        _ended_by("bang", "!", "an exclamation mark", "exclamation marks"),
        _ended_by("query", "?", "a question mark", "question marks"),
        _said("dots", lambda p: _ended(p, "...")),
        _said("none", lambda p: _ended(p, "")),
        _said("lines", lambda p: _ended(p, separator="\n")),
        _said("semicolon", lambda p: "; ".join(p) + "."),
    ),
}
