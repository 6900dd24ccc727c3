"""Marks the words of one answer that the other does not have."""

import re
from collections import Counter
from difflib import SequenceMatcher

from ui.markup import esc
from ui.text import _

_WORDS = re.compile(r"\s*(?:\w+|[^\w\s])|\s+")
"""Words with the white space before them, so that joining them gives the text back. A blank that
was a word of its own would equal every other blank."""

_MOST_WORK = 1_000_000
"""Pairs of equal words times the length, beyond which words that come too often do not count: on
lists of numbers, the exact way takes many seconds."""


def marked(mine: str, other: str) -> str:
    """Escape an answer, with the words marked that the other lacks."""
    words = _WORDS.findall(mine)
    ours, theirs = ([w.strip() for w in found] for found in (words, _WORDS.findall(other)))
    # With `autojunk`, difflib skips the commonest words of long answers.
    matcher = SequenceMatcher(None, ours, theirs, autojunk=_work(ours, theirs) > _MOST_WORK)
    parts = []
    for kind, start, end, *_theirs in matcher.get_opcodes():
        piece = "".join(words[start:end])
        if kind != "equal" and (said := piece.lstrip()):
            title = esc(_("not in the other answer"))
            parts.append(f"{piece[: -len(said)]}<mark title='{title}'>{esc(said)}</mark>")
        else:
            parts.append(esc(piece))
    return "".join(parts)


def _work(ours: list[str], theirs: list[str]) -> int:
    counts = Counter(theirs)
    pairs = sum(number * counts[word] for word, number in Counter(ours).items())
    return pairs * min(len(ours), len(theirs))
