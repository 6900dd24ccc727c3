"""Primitives that keep or drop words."""

from collections.abc import Callable

from dnd_engine.tasks.families.operation import Primitives, Variant, on_words
from dnd_engine.tasks.families.scopes import WordsFunction

_ORDINALS = ("first", "second", "third", "fourth")
_COUNTED = ("word", "two words", "three words")


def _keep(size: int, choose: Callable[[list[str]], list[str]]) -> WordsFunction:
    """Some of the words; texts of fewer than `size` words and empty results do not apply."""

    def function(words: list[str]) -> str | None:
        return " ".join(choose(words)) or None if len(words) >= size else None

    return function


def _first(number: int, spans: str) -> Variant:
    function = _keep(number, lambda w: w[:number])
    words, ordinal = _COUNTED[number - 1], _ORDINALS[number - 1]
    return on_words(f"first-{number}", function, spans, "first", words=words, ordinal=ordinal)


def _last(number: int, spans: str) -> Variant:
    function = _keep(number, lambda w: w[-number:])
    return on_words(f"last-{number}", function, spans, "last", words=_COUNTED[number - 1])


def _nth(number: int, spans: str = "whole") -> Variant:
    function = _keep(number, lambda w: [w[number - 1]])
    ordinal = _ORDINALS[number - 1]
    return on_words(f"nth-{number}", function, spans, "nth", ordinal=ordinal, number=str(number))


def _drop(
    name: str, words: str, choose: Callable[[list[str]], list[str]], spans: str = "whole"
) -> Variant:
    return on_words(f"drop-{name}", _keep(2, choose), spans, "drop", words=words)


def _extreme(name: str, rest: str, sign: int) -> Variant:
    def function(words: list[str]) -> str | None:
        # With sign -1, the shortest word has the largest value.
        longest = max((sign * len(w) for w in words), default=0)
        found = [w for w in words if sign * len(w) == longest]
        # A tie has no right answer, and a single word is no choice.
        return found[0] if len(found) == 1 < len(words) else None

    return on_words(name, function, "whole each-line", "extreme", which=name, rest=rest)


def _some(words: list[str], test: Callable[[str], bool]) -> str | None:
    """The words that pass; does not apply where all do or none does."""
    kept = [w for w in words if test(w)]
    return " ".join(kept) if 0 < len(kept) < len(words) else None


def _vowel(word: str) -> bool:
    return word[0].lower() in "aeiou"


def _capital(word: str) -> bool:
    return word[0].isupper()


PRIMITIVES: Primitives = {
    ("first", "string"): (
        _first(1, "whole each-line each-item"),
        _first(2, "whole each-line"),
        _first(3, "whole"),
    ),
    ("last", "string"): (
        _last(1, "whole each-line each-item"),
        _last(2, "whole each-line"),
        _last(3, "whole"),
    ),
    ("nth", "string"): (_nth(2, "whole each-line each-item"), _nth(3), _nth(4)),
    ("drop", "string"): (
        _drop(
            "first",
            "first word",
            lambda w: w[1:],
            "whole each-line last-line each-item after-colon first-sentence",
        ),
        _drop(
            "last",
            "last word",
            lambda w: w[:-1],
            "whole each-line first-line each-item after-colon last-sentence",
        ),
        _drop("second", "second word", lambda w: w[:1] + w[2:], "whole each-line"),
        _drop("first-two", "first two words", lambda w: w[2:]),
        _drop("last-two", "last two words", lambda w: w[:-2]),
        _drop("ends", "first and the last word", lambda w: w[1:-1], "whole after-colon"),
    ),
    ("ends", "string"): (on_words("ends", _keep(3, lambda w: [w[0], w[-1]])),),
    ("extreme", "string"): (_extreme("longest", "most", 1), _extreme("shortest", "fewest", -1)),
    ("vowel", "string"): (
        on_words("vowel-keep", lambda words: _some(words, _vowel), "whole each-line"),
        on_words(
            "vowel-drop",
            lambda words: _some(words, lambda w: not _vowel(w)),
            "whole first-sentence after-colon",
        ),
    ),
    ("alternate", "string"): (
        on_words("alternate-odd", _keep(3, lambda w: w[::2])),
        on_words("alternate-even", _keep(3, lambda w: w[1::2])),
    ),
    ("capitals", "string"): (
        on_words("capitals-keep", lambda words: _some(words, _capital), "whole each-line"),
        on_words(
            "capitals-drop",
            lambda words: _some(words, lambda w: not _capital(w)),
            "whole each-line after-colon last-line",
        ),
    ),
}
