"""Things that several parts of the page count."""

from ui.text.words import ngettext

__all__ = ["count_files", "count_prompts"]


def count_files(count: int) -> str:
    """Say how many files."""
    return ngettext("{number} file", "{number} files", count)


def count_prompts(count: int) -> str:
    """Say how many prompts."""
    return ngettext("{number} prompt", "{number} prompts", count)
