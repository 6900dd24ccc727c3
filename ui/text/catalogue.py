"""The languages of the page, one gettext catalogue each, and the current language.

English is the source and has no catalogue: its sentences are in the code, where they are used. A
new language is a new folder in `ui/locale`.

Catalogues are read from `.po` files on first use, which takes some ten milliseconds. Compiled `.mo`
files would save that, but may be outdated, and an editable install and a Space would each need a
compile step.
"""

import gettext
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from babel import Locale
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

ENGLISH = "en"
"""Language of the code, and the fallback for visitors."""

LOCALES = Path(__file__).parents[1] / "locale"
_FILE = Path("LC_MESSAGES", "messages.po")
_SCRIPTS = "assets/"
"""Folder of scripts and templates whose messages the browser needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """A language of the page."""

    code: str
    locale: Locale
    messages: gettext.NullTranslations = field(default_factory=gettext.NullTranslations)
    scripts: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    """Translated messages of the page's scripts; plural forms as a tuple."""
    plural: str = "(n != 1)"
    """Index of the plural form for `n` things, as a C expression that JavaScript reads too."""

    @property
    def name(self) -> str:
        """Return its name in the language itself."""
        return self.locale.display_name or self.code


@cache
def languages() -> Mapping[str, Language]:
    """Return all languages by code, in the order of the language switch."""
    english = Language(code=ENGLISH, locale=Locale.parse(ENGLISH))
    others = (_load(path.parents[1].name) for path in sorted(LOCALES.glob(f"*/{_FILE}")))
    return {one.code: one for one in (english, *others)}


def read_catalogue(code: str) -> Catalog:
    """Read a language's `.po` file."""
    with (LOCALES / code / _FILE).open("rb") as file:
        return read_po(file, locale=code)


# Gettext's own convention: drawing code asks for words, and the request determines the language. A
# context variable gives simultaneous visitors their own language, and follows work into the
# engine's threads.
_spoken: ContextVar[str] = ContextVar("language", default=ENGLISH)


def language() -> Language:
    """Return the current language: English, unless inside `speaking`."""
    return languages()[_spoken.get()]


@contextmanager
def speaking(code: str) -> Iterator[None]:
    """Set the current language inside the `with` block.

    Raises:
        KeyError: If there is no such language.
    """
    before = _spoken.set(languages()[code].code)
    try:
        yield
    finally:
        _spoken.reset(before)


def _load(code: str) -> Language:
    catalogue = read_catalogue(code)
    # Python's gettext reads nothing but `.mo`, so one is made in memory.
    compiled = io.BytesIO()
    write_mo(compiled, catalogue)  # omits fuzzy and missing translations, so that English is used
    compiled.seek(0)
    scripts: dict[str, str | tuple[str, ...]] = {
        message.id if isinstance(message.id, str) else message.id[0]: (
            message.string if isinstance(message.string, str) else tuple(message.string)
        )
        for message in catalogue
        if any(path.startswith(_SCRIPTS) for path, _ in message.locations)
        and message.string
        and not message.fuzzy
    }
    return Language(
        code=code,
        locale=Locale.parse(code),
        messages=gettext.GNUTranslations(compiled),
        scripts=scripts,
        plural=catalogue.plural_expr,
    )
