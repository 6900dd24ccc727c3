"""Marks the words of one answer that the other does not have."""

import difflib
import re

from ui.markup import esc
from ui.text import _

__all__ = ["marked"]

# White space counts as a word, so that joining the words gives the text back.
_WORDS = re.compile(r"\s+|\w+|[^\w\s]")
_MIN_SHARED = 0.3
"""Minimum share of common words for marking; below it, marks would cover everything."""


def marked(mine: str, other: str) -> str:
    """Escape an answer, with the words marked that the other lacks.

    If the answers share almost no words, only the first differing one is marked.
    """
    words, theirs = _WORDS.findall(mine), _WORDS.findall(other)
    # With `autojunk`, difflib would skip the commonest words of long answers.
    matcher = difflib.SequenceMatcher(None, words, theirs, autojunk=False)
    # The ratio of `SequenceMatcher`, but without white space.
    if _shared(words, matcher) * 2 < _MIN_SHARED * (_count(words) + _count(theirs)):
        pairs = zip(words, theirs, strict=False)
        # If one answer begins with the other, the fork is where the shorter one ends.
        fork = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(words), len(theirs)))
        return (
            esc("".join(words[:fork]))
            + _mark("".join(words[fork : fork + 1]), _("from here on, almost no words in common"))
            + esc("".join(words[fork + 1 :]))
        )
    parts = []
    for kind, start, end, *_theirs in matcher.get_opcodes():
        piece = "".join(words[start:end])
        parts.append(esc(piece) if kind == "equal" else _mark(piece, _("not in the other answer")))
    return "".join(parts)


def _shared(words: list[str], matcher: difflib.SequenceMatcher[str]) -> int:
    blocks = matcher.get_matching_blocks()
    return sum(_count(words[block.a : block.a + block.size]) for block in blocks)


def _count(words: list[str]) -> int:
    """Count words and punctuation, but no spaces, which every answer has."""
    return sum(not word.isspace() for word in words)


def _mark(words: str, title: str) -> str:
    return f"<mark title='{esc(title)}'>{esc(words)}</mark>" if words else ""
