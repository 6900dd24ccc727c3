"""Which texts ROUGE can compare. Below `scoring`, because the audit of tasks asks it too."""

import re

_TOKEN = re.compile(r"[a-z0-9]+")


def rouge_words(text: str) -> int:
    """Count the words that the ROUGE scorer reads: runs of the letters a to z and digits."""
    return len(_TOKEN.findall(text.lower()))


def rouge_reads(text: str) -> bool:
    """Return whether ROUGE reads something of a text, and at least half of its letters.

    It drops all others: of "нет, никогда 5" it reads the 5, and takes every answer with a 5 for
    right.
    """
    letters = [letter.isascii() for letter in text if letter.isalpha()]
    return rouge_words(text) > 0 and 2 * sum(letters) >= len(letters)
