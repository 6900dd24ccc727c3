"""Recognizes texts that are unlikely prompts: mail, letters, logs, code, running text.

A list of prompts may quote any of these. So only files without `---` separators are examined, and
only for signs that a list of prompts does not show.
"""

import re
from collections.abc import Callable, Iterable
from itertools import islice

from dnd_engine.limits import PromptLimits
from dnd_engine.notes import Note, noted

_LOOKED_AT = 20_000
"""Number of characters to examine: the beginning shows what a text is."""

# English, German, Spanish and French, which puts a space before a colon.
_MAIL = re.compile(
    r"(from|to|cc|bcc|subject|date|sent|reply-to|message-id|received|return-path"
    r"|von|an|betreff|datum|gesendet|de|para|asunto|objet|à)\s?:\s*\S",
    re.IGNORECASE,
)
_MINUTES = re.compile(
    r"[-#*\s\d.)]*(minutes\b|meeting notes|attendees|participants|present|apologies|absent|agenda"
    r"|action items?|next meeting|adjourn"
    r"|protokoll|teilnehmer(?:innen)?|anwesend|tagesordnung|beschlüsse)\b",
    re.IGNORECASE,
)
_HEADING = re.compile(r"#{1,6} \S")
_DOCUMENTATION = re.compile(
    r"```|~~~|!?\[[^\]]*\]\([^)]+\)|[#\s]*(installation|usage|license|getting started|contributing"
    r"|table of contents|requirements|changelog)\s*$",
    re.IGNORECASE,
)
# No `?`, `!` or `.` in between: “Hi there, how is the weather?” is a prompt.
_GREETING = re.compile(
    r"(dear|hi|hello|sehr geehrte|liebe[rs]?|hallo|cher|chère|estimad[oa])\b[^?!.]{0,60}[,!]?$",
    re.IGNORECASE,
)
_FAREWELL = re.compile(
    r"(kind regards|best regards|regards|best wishes|yours \w+|sincerely|cheers"
    r"|mit freundlichen grüßen|viele grüße|beste grüße|cordialement|atentamente)\b[,.]?$",
    re.IGNORECASE,
)
_LOG = re.compile(r"\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d|\[?\w{3} +\d+ \d\d:\d\d:\d\d|\d\d:\d\d:\d\d")
# Case matters here: “Import duties: what are they?” is a prompt.
_CODE = re.compile(
    r"(#!/|import \w|from \w+ import|def \w+\(|class \w+[(:{]|function \w+\(|#include\s*<"
    r"|public \w+|const \w+ =|let \w+ =|package \w+;?$|using \w+;|return\b.*;$|[{}]\s*;?$)"
)

_SENTENCE_END = re.compile(r"[.!?]\s|。")
_LONGEST_LINE = PromptLimits().max_prompt_chars
"""Characters that a prompt may have by default; a longer one would be cut."""
_MIN_SENTENCES = 20


_ENGLISH = frozenset(["the", "to", "and", "this", "that", "with", "for", "which", "what", "are"])
_LEAST_ENGLISH = 0.02
"""Share of these among the words of English prompts: of 1,059 tasks, one has less, arithmetic."""


def seem_english(texts: Iterable[str]) -> bool:
    """Return whether the first texts have the small words of English."""
    words = re.findall(r"[^\W\d_]+", " ".join(islice(texts, 64))[:_LOOKED_AT].lower())
    return sum(word in _ENGLISH for word in words) >= _LEAST_ENGLISH * len(words)


def doubt(text: str) -> str:
    """Describe what a text looks like, if it does not look like a list of prompts.

    Args:
        text: A text without `---` lines, not blank.

    Returns:
        A sentence; empty if the text may be prompts.
    """
    # Skip leading blank lines, which could fill all that is looked at.
    beginning = text.lstrip()[:_LOOKED_AT]
    lines = [line.strip() for line in beginning.splitlines() if line.strip()]
    for kind, looks_so in _KINDS.items():
        if looks_so(lines):
            return noted("This looks like {kind}, not like a list of prompts.", kind=kind)
    return ""


def _matches(pattern: re.Pattern[str], lines: list[str]) -> int:
    return sum(pattern.match(line) is not None for line in lines)


def _is_mail(lines: list[str]) -> bool:
    # Different fields, because prompts may all begin with `Subject:`.
    heads = {found[1].lower() for line in lines[:12] if (found := _MAIL.match(line))}
    return _MAIL.match(lines[0]) is not None and len(heads) >= 3


def _is_minutes(lines: list[str]) -> bool:
    return len({found[1].lower() for line in lines if (found := _MINUTES.match(line))}) >= 3


def _is_documentation(lines: list[str]) -> bool:
    # Prompts may be Markdown as well, so headings alone say nothing.
    headed = _HEADING.match(lines[0]) is not None and _matches(_HEADING, lines) >= 2
    return headed and sum(_DOCUMENTATION.search(line) is not None for line in lines) >= 2


def _is_letter(lines: list[str]) -> bool:
    greets = any(_GREETING.match(line) for line in lines[:8])
    return greets and any(_FAREWELL.match(line) for line in lines[-6:])


def _is_log(lines: list[str]) -> bool:
    return len(lines) >= 3 and _matches(_LOG, lines) > 0.6 * len(lines)


def _is_code(lines: list[str]) -> bool:
    # Most lines of a program match no pattern, so even a third that do is a clear sign.
    return lines[0].startswith("#!/") or (
        len(lines) >= 5 and _matches(_CODE, lines) > 0.3 * len(lines)
    )


def _is_running_text(lines: list[str]) -> bool:
    long = [line for line in lines if len(line) > _LONGEST_LINE]
    most = 2 * sum(map(len, long)) > sum(map(len, lines))
    return most and any(len(_SENTENCE_END.findall(line)) >= _MIN_SENTENCES for line in long)


# The first that fits is named: an e-mail may read like a letter too.
_KINDS: dict[Note, Callable[[list[str]], bool]] = {
    noted("an e-mail"): _is_mail,
    noted("the minutes of a meeting"): _is_minutes,
    noted("a README or other documentation"): _is_documentation,
    noted("a letter"): _is_letter,
    noted("a log"): _is_log,
    noted("program code"): _is_code,
    noted("a document"): _is_running_text,
}
