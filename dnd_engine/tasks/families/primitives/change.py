"""Primitives that change single words."""

from collections.abc import Callable

from dnd_engine.tasks.families.operation import OnWord, OnWords, Primitives


def _capitalised(word: str) -> str:
    """First letter a capital, the others as they are."""
    # `str.capitalize` would lower the others.
    return word[:1].upper() + word[1:]


def _marked(name: str, sign: str, pair: str, places: str) -> OnWord:
    return OnWord(
        name=f"mark-{name}",
        function=lambda word: f"{pair[0]}{word}{pair[1]}",
        phrases=(
            f"put {{word}} in {sign}",
            f"write {{word}} in {sign}",
            f"enclose {{word}} in {sign}",
            f"mark {{word}} with {sign} around it",
            f"surround {{word}} with {sign}",
        ),
        places=places,
    )


def _added(name: str, what: str, where: str, add: Callable[[str], str], places: str) -> OnWord:
    return OnWord(
        name=f"add-{name}",
        function=add,
        phrases=(
            f"put {what} {where} {{word}}",
            f"add {what} {where} {{word}}",
            f"insert {what} {where} {{word}}",
            f"place {what} {where} {{word}}",
            f"write {what} {where} {{word}}",
        ),
        places=places,
    )


def _replaced(name: str, new: str, places: str) -> OnWord:
    return OnWord(
        name=f"replace-{name}",
        function=lambda word: new,
        phrases=(
            f"replace {{word}} with {new}",
            f"put {new} in place of {{word}}",
            f"write {new} instead of {{word}}",
            f"change {{word}} to {new}",
            f"exchange {{word}} for {new}",
        ),
        places=places,
    )


PRIMITIVES: Primitives = {
    ("upper", "string"): (
        OnWord(
            "upper",
            str.upper,
            places=(
                "each-word first-word last-word second-word odd-words first-word-of-each-line "
                "last-word-of-each-line each-word-of-first-line each-word-of-last-line "
                "first-word-of-each-item last-word-of-each-item each-word-of-after-colon "
                "last-word-of-after-colon each-word-of-first-sentence each-word-of-last-sentence "
                "name city colour day"
            ),
        ),
    ),
    ("lower", "string"): (
        OnWord(
            "lower",
            str.lower,
            places=(
                "each-word first-word last-word odd-words first-word-of-each-line "
                "each-word-of-first-line each-word-of-last-line each-word-of-after-colon "
                "last-word-of-each-item each-word-of-first-sentence name city day"
            ),
        ),
    ),
    ("title", "string"): (
        OnWord(
            "title",
            _capitalised,
            places=(
                "each-word last-word second-word odd-words first-word-of-each-line "
                "last-word-of-each-line first-word-of-each-item last-word-of-each-item "
                "each-word-of-after-colon each-word-of-first-sentence each-word-of-last-sentence "
                "colour"
            ),
        ),
    ),
    ("mark", "format"): (
        _marked(
            "quotes",
            "double quotes",
            '""',
            "each-word first-word last-word city first-word-of-each-line",
        ),
        _marked(
            "square", "square brackets", "[]", "each-word last-word name last-word-of-each-line"
        ),
        _marked(
            "underscores",
            "underscores",
            "__",
            "each-word second-word colour first-word-of-each-item",
        ),
        _marked(
            "angles",
            "angle brackets",
            "<>",
            "first-word odd-words day last-word-of-after-colon",
        ),
        _marked("slashes", "slashes", "//", "each-word last-word number last-word-of-each-item"),
    ),
    ("add", "string"): (
        _added(
            "hash",
            "a hash sign",
            "directly before",
            lambda w: f"#{w}",
            "each-word last-word city last-word-of-each-line",
        ),
        _added(
            "bang",
            "an exclamation mark",
            "directly after",
            lambda w: f"{w}!",
            "each-word first-word name last-word-of-each-item",
        ),
        _added(
            "query",
            "a question mark",
            "directly after",
            lambda w: f"{w}?",
            "second-word last-word colour first-word-of-each-line",
        ),
        _added(
            "new",
            "the word new",
            "before",
            lambda w: f"new {w}",
            "last-word each-word first-word-of-each-item last-word-of-after-colon",
        ),
        _added(
            "no",
            "the word no",
            "before",
            lambda w: f"no {w}",
            "first-word odd-words last-word-of-each-line each-word-of-after-colon",
        ),
        _added(
            "too",
            "the word too",
            "after",
            lambda w: f"{w} too",
            "last-word name first-word-of-each-line last-word-of-each-item",
        ),
    ),
    ("replace", "string"): (
        _replaced(
            "blank",
            "___",
            "first-word last-word second-word last-word-of-each-line "
            "last-word-of-each-item first-word-of-after-colon name city",
        ),
        _replaced("fruit", "pineapple", "last-word second-word odd-words"),
        _replaced("sam", "Sam", "name"),
        _replaced("paris", "Paris", "city"),
        _replaced("orange", "orange", "colour"),
        _replaced("thousand", "1000", "number"),
        _replaced("payday", "payday", "day"),
        _replaced("tag", "[hidden]", "number day first-word-of-each-line"),
    ),
    ("repeat", "string"): (
        OnWord(
            "repeat",
            lambda word: f"{word} {word}",
            places=(
                "each-word first-word last-word second-word first-word-of-each-line "
                "last-word-of-each-item each-word-of-after-colon name colour"
            ),
        ),
        OnWords(
            "repeat-all", lambda words: " ".join(words * 2), spans=("", "each-line", "after-colon")
        ),
        OnWords(
            "repeat-comma", lambda words: ", ".join([" ".join(words)] * 3), spans=("", "each-line")
        ),
    ),
}
