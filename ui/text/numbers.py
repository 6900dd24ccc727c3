"""Formats numbers, sizes and dates in the current language."""

import re
from datetime import datetime

from babel.dates import format_date, format_time
from babel.numbers import get_decimal_symbol, get_group_symbol

from dnd_engine import wording
from dnd_engine.charts import clock, short
from ui.text.catalogue import language

_NO_ZERO = re.compile(r"(?<!\d)\.(?=\d)")
"""The point of a number without a leading zero."""


def number(value: float, spec: str = ",") -> str:
    """Format a number; `spec` is that of `format`, which Babel's own patterns cannot express."""
    return localized(format(value, spec))


def localized(digits: str) -> str:
    """Localise the separators of a number that Python formatted."""
    locale = language().locale
    if get_decimal_symbol(locale) != ".":
        # Only a point can begin a number: ",38" would read as part of the sentence.
        digits = _NO_ZERO.sub("0.", digits)
    # In one pass, since German has the two signs the other way round.
    signs = str.maketrans({",": get_group_symbol(locale), ".": get_decimal_symbol(locale)})
    return digits.translate(signs)


def day(moment: datetime) -> str:
    """Format a date with the time of day."""
    locale = language().locale
    date = format_date(moment, "medium", locale=locale)
    return f"{date}, {format_time(moment, 'short', tzinfo=moment.tzinfo, locale=locale)}"


def size(num_bytes: int) -> str:
    """Format the size of a file."""
    return localized(wording.size(num_bytes))


def score_number(value: float, *, signed: bool = False) -> str:
    """Format a score or a difference as the engine does: .14, -.03, never rounded to zero."""
    return localized(wording.signed(value) if signed else wording.number(value))


def short_number(value: float) -> str:
    """Format with three significant figures, without a leading zero."""
    return localized(short(value))


def clock_words(seconds: float) -> str:
    """Format seconds in a fitting unit of time."""
    return localized(clock(seconds))
