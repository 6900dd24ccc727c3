"""The words of the page, in the visitor's language. Short, true, no exclamation marks.

Sentences are in the code, in English: `_("Drop files first.")`. Each other language is a gettext
catalogue in `ui/locale`. `python -m ui.text` updates the catalogues from the code and lists missing
translations, which fall back to English.

The engine speaks English, because one process serves all visitors, and the command line shows the
same. What it says to a visitor keeps message and values apart (`dnd_engine.notes`), so that
`note_words` can translate it. Errors that only a developer meets are plain English strings.
"""

from dnd_engine.progress import duration
from dnd_engine.wording import N_
from ui.text.catalogue import ENGLISH, language, languages, speaking
from ui.text.counts import count_files, count_prompts
from ui.text.numbers import clock_words, day, localized, number, score_number, short_number, size
from ui.text.words import Words, _, drawn, ngettext, note_words, said, script_words

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
    "note_words",
    "number",
    "said",
    "score_number",
    "script_words",
    "short_number",
    "size",
    "speaking",
]
