"""What the page says, in the visitor's language. Short, true, no exclamation marks.

Sentences are English, in the code, where they are used: `_("Drop files first.")`. Each other
language is a gettext catalogue in `ui/locale`. `python -m ui.text` brings the catalogues up to date
with the code, and lists what they lack; what is missing is said in English.

What the engine says (faults of files, errors, notes on what was read) and what a generator's report
says stays English: it is one process for all visitors, and its command line reads the same.
"""

from ui.text.catalogue import ENGLISH, language, languages, speaking
from ui.text.counts import count_files, count_prompts
from ui.text.numbers import (
    clock_words,
    day,
    duration,
    localized,
    number,
    score_number,
    short_number,
    size,
)
from ui.text.words import N_, Words, _, drawn, ngettext, said, script_words

__all__ = [
    "ENGLISH",
    "N_",
    "Words",
    "_",
    "clock_words",
    "count_files",
    "count_prompts",
    "day",
    "drawn",
    "duration",
    "language",
    "languages",
    "localized",
    "ngettext",
    "number",
    "said",
    "score_number",
    "script_words",
    "short_number",
    "size",
    "speaking",
]
