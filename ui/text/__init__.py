"""Every sentence the page shows, one file a language. Short, true, no exclamation marks.

A page is built in one language, so whoever draws takes a `Text` as its first argument. What the
engine says (faults of files, errors, notes on what was read) and what stands in a generator's
report stays English: it is one process for all visitors, and its command line reads the same.
"""

from collections.abc import Mapping

from ui.text.english import English as Text
from ui.text.german import German

__all__ = ["ENGLISH", "LANGUAGES", "Text"]

ENGLISH = Text()
"""The source, and what a visitor gets who reads none of the others."""

LANGUAGES: Mapping[str, Text] = {text.CODE: text for text in (ENGLISH, German())}
"""By code, in the order in which the switch offers them."""
