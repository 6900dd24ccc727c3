"""Sentences that describe check results, for the command line, cards and the page.

A sentence keeps message and values apart, so that the page can translate it: its catalogues include
the messages of this package. Imports no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Sentence:
    """An English message with named placeholders, and their values."""

    message: str
    values: Mapping[str, float | str] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return the English text."""
        # Names of buckets are values, so braces in them are not taken for placeholders.
        return self.message.format(**self.values)
