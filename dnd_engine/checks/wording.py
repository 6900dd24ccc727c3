"""What checks found, in words: one place for the command line, cards and the page.

A sentence keeps its message and its values apart, so that the page can say it in another language:
the messages of this package are in its catalogues. Imports no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Sentence"]


@dataclass(frozen=True, slots=True)
class Sentence:
    """A message in English, with named placeholders, and what goes into them."""

    message: str
    values: Mapping[str, float | str] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return it in English."""
        return self.message.format(**self.values)
