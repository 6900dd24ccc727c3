"""Phrases for counts that several parts of the page use."""

from ui.text.words import ngettext


def count_files(count: int) -> str:
    """Format a number of files."""
    return ngettext("{number} file", "{number} files", count)


def count_prompts(count: int) -> str:
    """Format a number of prompts."""
    return ngettext("{number} prompt", "{number} prompts", count)
