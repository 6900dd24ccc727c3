"""What a test relies on being there, said once for the reader and for mypy."""

from typing import TypeVar

_Value = TypeVar("_Value")


def present(value: _Value | None) -> _Value:
    """Return a value that may be None by its type, and is not here."""
    assert value is not None
    return value
