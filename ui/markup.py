"""Small pieces of HTML. Callers escape text of visitors and models with `esc`."""

import html
import re
from collections.abc import Iterable

from dnd_engine.prompts.words import cut, one_line
from ui.text import _, drawn

TIMES = "\u00d7"
"""Separates an adapter's name and its strength."""

RING = "<span class='dnd-ring' aria-hidden='true'></span>"
"""Turns while something runs."""

_PATHS = {
    "check": "M2 7.5l3.2 3.2L12 3.5",
    "warn": "M7 1.5L13.3 12.5H.7zM7 5.5v3.2M7 10.3v.4",
    "error": "M7 1a6 6 0 1 0 0 12A6 6 0 0 0 7 1M5 5l4 4M9 5l-4 4",
    "info": "M7 1a6 6 0 1 0 0 12A6 6 0 0 0 7 1M7 6.3V10M7 4v.4",
    "dot": "M7 5.5a1.5 1.5 0 1 0 0 3 1.5 1.5 0 0 0 0-3",
    "again": "M11.8 3v2.8H9M11.5 5.5A5 5 0 1 0 12 7.8",
    "edit": "M2.5 11.5l.5-2.4 6.2-6.2 1.9 1.9-6.2 6.2zM8 4l1.9 1.9",
    "copy": "M4.5 4.5V2.2h7.3v7.3H9.5M2.2 4.5h7.3v7.3H2.2z",
}
_QUOTED = re.compile(r"`([^`\n]+)`")
# An answer that is still being written has not closed its fence.
_FENCE = re.compile(r"```[^\n`]*\n(.*?)(?:```|\Z)", re.DOTALL)


def esc(text: object) -> str:
    """Escape for use as HTML text or within a quoted attribute."""
    return html.escape(str(text), quote=True)


def prose(text: object) -> str:
    """Escape a message of the engine, and format text in backticks as code."""
    # Escaped first: the only markup is what this adds.
    return _QUOTED.sub(r"<code>\1</code>", esc(text))


def icon(name: str) -> str:
    """Return a decorative icon; the words beside it carry the meaning."""
    return (
        f'<svg class="dnd-icon dnd-icon-{name}" viewBox="0 0 14 14" aria-hidden="true">'
        f'<path d="{_PATHS[name]}"/></svg>'
    )


def presses(words: str, selector: str, *, field: str = "") -> str:
    """Draw words of ours as a link that presses other buttons of the page; see `page.js`.

    Args:
        words: The words, HTML.
        selector: All buttons to press.
        field: Field that they show, to type into at once; empty if there is none.
    """
    then = f" data-focuses='{field}'" if field else ""
    return (
        f"<button type='button' class='dnd-link' data-presses='{selector}'{then}>{words}</button>"
    )


def heading(title: str, *more: str) -> str:
    """Draw a heading with details; all arguments are HTML."""
    return f"<h2 class='dnd-heading'>{title}</h2>{quiet(' '.join(more))}"


def tab_heading(title: str, more: str) -> str:
    """Draw the heading of a whole tab; both arguments are HTML."""
    return f"<header class='dnd-report-head'><h2>{title}</h2>{more}</header>"


def quiet(words: str) -> str:
    """Draw a paragraph that explains, less prominent than what it is about; `words` are HTML."""
    return f"<p class='dnd-sub'>{words}</p>"


def facts(words: str) -> str:
    """Draw words in small print; `words` are HTML."""
    return f"<p class='dnd-facts'>{words}</p>"


def label_html(words: str) -> str:
    """Draw a label in small print before its buttons; `words` are HTML."""
    return f"<span class='dnd-facts'>{words}</span>"


def section(title: str, body: str, name: str = "", aside: str = "") -> str:
    """Draw a panel; all arguments are HTML.

    Args:
        title: Its heading.
        body: What is below.
        name: Its further CSS class, without `dnd-`; may be empty.
        aside: Small print beside the heading; may be empty.
    """
    kind = f" dnd-{name}" if name else ""
    head = f"<h3 class='dnd-heading'>{title}</h3>"
    if aside:
        head = f"<div class='dnd-row'>{head}{label_html(aside)}</div>"
    return f"<section class='dnd-panel{kind}'>{head}{body}</section>"


def evidence(title: str, body: str) -> str:
    """Draw a part of a panel; both arguments are HTML."""
    return f"<div class='dnd-evidence'><h3>{title}</h3>{body}</div>"


def table(head: Iterable[str], *bodies: str) -> str:
    """Draw a table of one or more groups of rows; all arguments are HTML.

    A column without a head has an empty one.
    """
    cells = "".join(f"<th scope='col'>{words}</th>" if words else "<td></td>" for words in head)
    groups = "".join(f"<tbody>{rows}</tbody>" for rows in bodies)
    return f"<table><thead><tr>{cells}</tr></thead>{groups}</table>"


def scrolling(title: str, drawn: str, name: str = "") -> str:
    """Draw a table, given as HTML, that may be wider than a phone; `name` is as in `section`."""
    kind = f" dnd-{name}" if name else ""
    # A scrolling area must be reachable by keyboard.
    focus = f"tabindex='0' role='region' aria-label='{esc(title)}'"
    return f"<div class='dnd-table{kind}' {focus}>{drawn}</div>"


def none_yet(words: str) -> str:
    """Draw a placeholder for empty content; `words` are HTML."""
    return f"<p class='dnd-none'>{words}</p>"


def notice(words: str) -> str:
    """Draw a notice of a finished action; `words` are HTML."""
    return f"<div class='dnd-notice' role='status'>{icon('check')}<div>{words}</div></div>"


def remark(words: str) -> str:
    """Draw a notice of something to know, where nothing was done; `words` are HTML."""
    return f"<div class='dnd-notice' role='status'>{icon('info')}<div>{words}</div></div>"


def busy(words: str) -> str:
    """Draw a line about a running action; `words` are HTML."""
    return f"<div class='dnd-notice' role='status'>{RING}<div>{words}</div></div>"


def error_notice(message: str, title: str = "") -> str:
    """Draw the message of an error, with its line breaks; `title` is HTML."""
    words = f"<span class='dnd-pre'>{prose(message)}</span>"
    if title:
        words = f"<div><b>{title}</b> {words}</div>"
    return f"<div class='dnd-notice is-error' role='alert'>{icon('error')}{words}</div>"


def why(evidence: str) -> str:
    """Fold away evidence that needs explanation; `evidence` is HTML and may be empty."""
    if not evidence:
        return ""
    return f"<details class='dnd-fold'><summary>{_('Why?')}</summary>{evidence}</details>"


def faults(title: str, message: str) -> str:
    """Draw an error with its faults, one per line of the message; `title` is HTML."""
    lines = [prose(line.strip()) for line in message.splitlines() if line.strip()]
    items = "".join(f"<li>{line[:1].upper()}{line[1:]}</li>" for line in lines)
    return (
        f"<div class='dnd-notice is-error' role='alert'>{icon('error')}<div><b>{title}</b>"
        f"<ul class='dnd-faults'>{items}</ul></div></div>"
    )


def unfenced(text: str) -> str:
    """Remove code fences, for comparing words."""
    return _FENCE.sub(lambda fence: fence.group(1), text)


def code_blocks(text: str) -> str:
    """Escape a model's answer and format fenced code. No other markup is interpreted."""
    parts: list[str] = []
    end = 0
    for fence in _FENCE.finditer(text):
        parts.append(esc(text[end : fence.start()].rstrip("\n")))
        parts.append(f"<pre><code>{esc(fence.group(1).rstrip())}</code></pre>")
        end = fence.end()
    parts.append(esc(text[end:].lstrip("\n") if end else text))
    return "".join(parts)


def brief(text: str, limit: int) -> str:
    """Put a text on one line of at most `limit` characters."""
    return cut(one_line(text.replace("\n", " ")), limit)


def sentence(message: str, name: str = "") -> str:
    """Capitalise a message: the engine's begin in lower case, to be embedded in others.

    The name of a file at its beginning keeps its case.
    """

    def capitalise(text: str) -> str:
        return text if name and text.startswith(name) else text[:1].upper() + text[1:]

    return drawn(capitalise, message)
