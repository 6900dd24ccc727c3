"""Marks the words of one answer that the other does not have."""

import difflib
import re

from ui.markup import esc
from ui.text import _

# White space counts as a word, so that joining the words gives the text back.
_WORDS = re.compile(r"\s+|\w+|[^\w\s]")


def marked(mine: str, other: str) -> str:
    """Escape an answer, with the words marked that the other lacks."""
    words, theirs = _WORDS.findall(mine), _WORDS.findall(other)
    # With `autojunk`, difflib would skip the commonest words of long answers.
    matcher = difflib.SequenceMatcher(None, words, theirs, autojunk=False)
    parts = []
    for kind, start, end, *_theirs in matcher.get_opcodes():
        piece = "".join(words[start:end])
        if piece and kind != "equal":
            title = esc(_("not in the other answer"))
            parts.append(f"<mark title='{title}'>{esc(piece)}</mark>")
        else:
            parts.append(esc(piece))
    return "".join(parts)
