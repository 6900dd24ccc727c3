"""Primitives that keep or drop words."""

from collections.abc import Callable

from dnd_engine.tasks.families.operation import OnWords, Primitives
from dnd_engine.tasks.families.scopes import WordsFunction

_ORDINALS = ("first", "second", "third", "fourth")


def _keep(size: int, choose: Callable[[list[str]], list[str]]) -> WordsFunction:
    """Some of the words; texts of fewer than `size` words and empty results do not apply."""

    def function(words: list[str]) -> str | None:
        return " ".join(choose(words)) or None if len(words) >= size else None

    return function


def _first(number: int, spans: tuple[str, ...]) -> OnWords:
    words = "word" if number == 1 else f"{('two', 'three')[number - 2]} words"
    return OnWords(
        name=f"first-{number}",
        function=_keep(number, lambda w: w[:number]),
        phrases=(
            f"keep only the first {words}{{inside}}",
            f"give the first {words}{{inside}}",
            f"drop all but the first {words}{{inside}}",
            f"cut everything after the {_ORDINALS[number - 1]} word{{inside}}",
            f"write down the first {words}{{inside}}",
        ),
        spans=spans,
    )


def _last(number: int, spans: tuple[str, ...]) -> OnWords:
    words = "word" if number == 1 else f"{('two', 'three')[number - 2]} words"
    return OnWords(
        name=f"last-{number}",
        function=_keep(number, lambda w: w[-number:]),
        phrases=(
            f"keep only the last {words}{{inside}}",
            f"give the final {words}{{inside}}",
            f"drop all but the last {words}{{inside}}",
            f"return the last {words}{{inside}}",
            f"write down the last {words}{{inside}}",
        ),
        spans=spans,
    )


def _nth(index: int, spans: tuple[str, ...]) -> OnWords:
    ordinal = _ORDINALS[index]
    return OnWords(
        name=f"nth-{index + 1}",
        function=_keep(index + 1, lambda w: [w[index]]),
        phrases=(
            f"keep only the {ordinal} word{{inside}}",
            f"give the {ordinal} word{{inside}}",
            f"find word number {index + 1}{{inside}}",
            f"return the {ordinal} word{{inside}}",
            f"write down the {ordinal} word{{inside}}",
        ),
        spans=spans,
    )


def _drop(
    name: str, words: str, choose: Callable[[list[str]], list[str]], spans: tuple[str, ...]
) -> OnWords:
    return OnWords(
        name=f"drop-{name}",
        function=_keep(2, choose),
        phrases=(
            f"remove the {words}{{inside}}",
            f"delete the {words}{{inside}}",
            f"leave out the {words}{{inside}}",
            f"drop the {words}{{inside}}",
            f"take away the {words}{{inside}}",
        ),
        spans=spans,
    )


def _extreme(name: str, rest: str, sign: int) -> OnWords:
    def function(words: list[str]) -> str | None:
        # With sign -1, the shortest word has the largest value.
        longest = max((sign * len(w) for w in words), default=0)
        found = [w for w in words if sign * len(w) == longest]
        # A tie has no right answer, and a single word is no choice.
        return found[0] if len(found) == 1 < len(words) else None

    return OnWords(
        name=name,
        function=function,
        phrases=(
            f"give the {name} word{{inside}}",
            f"find the {name} word{{inside}}",
            f"keep only the {name} word{{inside}}",
            f"return the word{{inside}} with the {rest} letters",
            f"pick the {name} of the words{{inside}}",
        ),
        spans=("", "each-line"),
    )


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
        _first(1, ("", "each-line", "each-item")),
        _first(2, ("", "each-line")),
        _first(3, ("",)),
    ),
    ("last", "string"): (
        _last(1, ("", "each-line", "each-item")),
        _last(2, ("", "each-line")),
        _last(3, ("",)),
    ),
    ("nth", "string"): (_nth(1, ("", "each-line", "each-item")), _nth(2, ("",)), _nth(3, ("",))),
    ("drop", "string"): (
        _drop(
            "first",
            "first word",
            lambda w: w[1:],
            ("", "each-line", "last-line", "each-item", "after-colon", "first-sentence"),
        ),
        _drop(
            "last",
            "last word",
            lambda w: w[:-1],
            ("", "each-line", "first-line", "each-item", "after-colon", "last-sentence"),
        ),
        _drop("second", "second word", lambda w: w[:1] + w[2:], ("", "each-line")),
        _drop("first-two", "first two words", lambda w: w[2:], ("",)),
        _drop("last-two", "last two words", lambda w: w[:-2], ("",)),
        _drop("ends", "first and the last word", lambda w: w[1:-1], ("", "after-colon")),
    ),
    ("ends", "string"): (OnWords("ends", _keep(3, lambda w: [w[0], w[-1]])),),
    ("extreme", "string"): (_extreme("longest", "most", 1), _extreme("shortest", "fewest", -1)),
    ("vowel", "string"): (
        OnWords("vowel-keep", lambda words: _some(words, _vowel), spans=("", "each-line")),
        OnWords(
            "vowel-drop",
            lambda words: _some(words, lambda w: not _vowel(w)),
            spans=("", "first-sentence", "after-colon"),
        ),
    ),
    ("alternate", "string"): (
        OnWords("alternate-odd", _keep(3, lambda w: w[::2])),
        OnWords("alternate-even", _keep(3, lambda w: w[1::2])),
    ),
    ("capitals", "string"): (
        OnWords("capitals-keep", lambda words: _some(words, _capital), spans=("", "each-line")),
        OnWords(
            "capitals-drop",
            lambda words: _some(words, lambda w: not _capital(w)),
            spans=("", "each-line", "after-colon", "last-line"),
        ),
    ),
}
