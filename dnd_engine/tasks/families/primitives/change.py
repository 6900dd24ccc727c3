"""Primitives that change single words."""

from dnd_engine.tasks.families.operation import Primitives, Variant, on_word, on_words


def _capitalised(word: str) -> str:
    """First letter a capital, the others as they are."""
    # `str.capitalize` would lower the others.
    return word[:1].upper() + word[1:]


def _marked(name: str, sign: str, pair: str, places: str) -> Variant:
    return on_word(
        f"mark-{name}", lambda word: f"{pair[0]}{word}{pair[1]}", places, "mark", sign=sign
    )


def _added(name: str, template: str, what: str, places: str) -> Variant:
    return on_word(f"add-{name}", template.format, places, "add", what=what)


def _replaced(name: str, new: str, places: str) -> Variant:
    return on_word(f"replace-{name}", lambda word: new, places, "replace", new=new)


PRIMITIVES: Primitives = {
    ("upper", "string"): (
        on_word(
            "upper",
            str.upper,
            "each-word first-word last-word second-word odd-words first-word-of-each-line "
            "last-word-of-each-line each-word-of-first-line each-word-of-last-line "
            "first-word-of-each-item last-word-of-each-item each-word-of-after-colon "
            "last-word-of-after-colon each-word-of-first-sentence each-word-of-last-sentence "
            "name city colour day",
        ),
    ),
    ("lower", "string"): (
        on_word(
            "lower",
            str.lower,
            "each-word first-word last-word odd-words first-word-of-each-line "
            "each-word-of-first-line each-word-of-last-line each-word-of-after-colon "
            "last-word-of-each-item each-word-of-first-sentence name city day",
        ),
    ),
    ("title", "string"): (
        on_word(
            "title",
            _capitalised,
            "each-word last-word second-word odd-words first-word-of-each-line "
            "last-word-of-each-line first-word-of-each-item last-word-of-each-item "
            "each-word-of-after-colon each-word-of-first-sentence each-word-of-last-sentence "
            "colour",
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
            "angles", "angle brackets", "<>", "first-word odd-words day last-word-of-after-colon"
        ),
        _marked("slashes", "slashes", "//", "each-word last-word number last-word-of-each-item"),
    ),
    ("add", "string"): (
        _added(
            "hash",
            "#{}",
            "a hash sign directly before",
            "each-word last-word city last-word-of-each-line",
        ),
        _added(
            "bang",
            "{}!",
            "an exclamation mark directly after",
            "each-word first-word name last-word-of-each-item",
        ),
        _added(
            "query",
            "{}?",
            "a question mark directly after",
            "second-word last-word colour first-word-of-each-line",
        ),
        _added(
            "new",
            "new {}",
            "the word new before",
            "last-word each-word first-word-of-each-item last-word-of-after-colon",
        ),
        _added(
            "no",
            "no {}",
            "the word no before",
            "first-word odd-words last-word-of-each-line each-word-of-after-colon",
        ),
        _added(
            "too",
            "{} too",
            "the word too after",
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
        on_word(
            "repeat",
            lambda word: f"{word} {word}",
            "each-word first-word last-word second-word first-word-of-each-line "
            "last-word-of-each-item each-word-of-after-colon name colour",
        ),
        on_words("repeat-all", lambda words: " ".join(words * 2), "whole each-line after-colon"),
        on_words("repeat-comma", lambda words: ", ".join([" ".join(words)] * 3), "whole each-line"),
    ),
}
