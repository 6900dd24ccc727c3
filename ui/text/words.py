"""Messages: English in the code, translated on the page.

`_("Drop files first.")` is all that a new sentence needs; `python -m ui.text` then lists missing
translations. A message may contain HTML and named placeholders, with a format for numbers. The
caller escapes their values.

The results can be retranslated, so that a page is built once and can still switch: see `Words`.
"""

import json
import string
from collections.abc import Callable, Mapping
from typing import Any

from dnd_engine.notes import Note, Value
from ui.text.catalogue import language
from ui.text.numbers import number


class Words(str):
    """A text that remembers how it was made, so that it can be retranslated."""

    __slots__ = ("_make",)
    _make: Callable[[], str]

    def __new__(cls, make: Callable[[], str]) -> "Words":
        """Make the text in the current language."""
        words = super().__new__(cls, make())
        words._make = make
        return words

    def again(self) -> str:
        """Make it again in the current language."""
        return self._make()

    def __str__(self) -> str:
        return self  # Gradio calls `str` on labels, which would lose how they were made

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        # By `join`, because `str(self)` is this object.
        return str, ("".join(self),)  # copied and pickled as a plain string


def _(message: str, /, **values: Any) -> str:
    """Translate a message and insert values; numbers are localised."""
    return Words(lambda: _fill(_translated(message), values))


def ngettext(one: str, other: str, count: int, /, **values: Any) -> str:
    """Translate a message about `count` things, which it calls `{number}`."""

    def make() -> str:
        words = language().messages.ngettext(one, other, count)
        return _fill(words, {"number": number(count), **values})

    return Words(make)


def note_words(note: str) -> str:
    """Translate a note of the engine, such as an error's message; other texts stay as they are."""
    if not isinstance(note, Note):
        return note
    values = {name: _value(value) for name, value in note.values.items()}
    if len(note.messages) == 1:
        return _fill(_translated(note.messages[0]), values)
    one, other = note.messages
    count = note.values["number"]
    assert isinstance(count, int)
    return _fill(language().messages.ngettext(one, other, count), values)


def _value(value: Value) -> Value:
    if isinstance(value, str):
        return note_words(value)
    # Not a float, whose format is in the message.
    return number(value) if isinstance(value, int) else value


def drawn(draw: Callable[..., str], *args: Any, **kwargs: Any) -> str:
    """Draw something with messages, so that it can be redrawn in another language."""
    # Arguments may hold words too, which were made in an earlier language.
    return Words(lambda: draw(*said(args), **said(kwargs)))


def said(value: Any) -> Any:
    """Return a value with all its words in the current language.

    Returns:
        A copy of lists, tuples and mappings, or the value itself if it contains no words.
    """
    if isinstance(value, Words):
        return value.again()
    if isinstance(value, list | tuple):
        found = [said(part) for part in value]
        # By identity: equal words may have been made in another language.
        changed = any(new is not old for new, old in zip(found, value, strict=True))
        return type(value)(found) if changed else value
    if isinstance(value, Mapping):
        found_by_key = {key: said(part) for key, part in value.items()}
        return found_by_key if any(found_by_key[k] is not value[k] for k in value) else value
    return value


def script_words(*more: str) -> str:
    """Return the messages of the scripts, and `more` of the code, as JSON for `assets/words.js`."""
    now = language()
    messages = {**now.scripts, **{message: _translated(message) for message in more}}
    return json.dumps({"code": now.code, "plural": now.plural, "messages": messages})


def _translated(message: str) -> str:
    # In gettext, the empty message is the catalogue's header.
    return language().messages.gettext(message) if message else ""


def _fill(words: str, values: Mapping[str, Any]) -> str:
    return _Filler().vformat(words, (), values) if values else words


class _Filler(string.Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        # The value may have been made in an earlier language than the sentence around it.
        if isinstance(value, Words):
            return value.again()
        if isinstance(value, int | float):
            return number(value, format_spec)
        return str(value)
