"""Primitives that put words into another order."""

from collections.abc import Callable

from dnd_engine.tasks.families.operation import Primitives, Variant, on_words
from dnd_engine.tasks.families.scopes import SPANS, WordsFunction


def _moved(size: int, move: Callable[[list[str]], list[str]]) -> WordsFunction:
    def function(words: list[str]) -> str | None:
        return " ".join(move(words)) if len(words) >= size else None

    return function


def _sorted(words: list[str], *, down: bool) -> str | None:
    """By the alphabet, case ignored; does not apply to numbers and repeated words."""
    folded = {w.casefold() for w in words}
    if len(words) < 2 or len(folded) < len(words) or not all(w.isalpha() for w in words):
        return None
    return " ".join(sorted(words, key=str.casefold, reverse=down))


def _swap(
    name: str, words: str, each: str, move: Callable[[list[str]], list[str]], spans: str
) -> Variant:
    return on_words(f"swap-{name}", _moved(2, move), spans, "swap", words=words, each=each)


PRIMITIVES: Primitives = {
    ("reverse", "string"): (on_words("reverse", _moved(2, lambda w: w[::-1]), " ".join(SPANS)),),
    ("sort", "string"): (
        on_words(
            "sort-up",
            lambda words: _sorted(words, down=False),
            "whole each-line each-item after-colon",
        ),
        on_words("sort-down", lambda words: _sorted(words, down=True), "whole after-colon"),
    ),
    ("swap", "string"): (
        _swap(
            "ends",
            "the first and the last word",
            "the two outer words",
            lambda w: [w[-1], *w[1:-1], w[0]],
            "whole each-line after-colon first-sentence",
        ),
        _swap(
            "first-two",
            "the first two words",
            "the two opening words",
            lambda w: [w[1], w[0], *w[2:]],
            "whole after-colon last-line",
        ),
        _swap(
            "last-two",
            "the last two words",
            "the two closing words",
            lambda w: [*w[:-2], w[-1], w[-2]],
            "whole last-sentence",
        ),
    ),
    ("rotate", "string"): (
        on_words(
            "rotate-left",
            # Two words rotate into their reverse, which is trained.
            _moved(3, lambda w: [*w[1:], w[0]]),
            "whole after-colon first-sentence last-line",
        ),
        on_words(
            "rotate-right",
            _moved(3, lambda w: [w[-1], *w[:-1]]),
            "whole after-colon last-sentence first-line",
        ),
    ),
}
