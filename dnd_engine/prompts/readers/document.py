"""Reads Word documents: paragraphs are treated as lines of a text file, without its headings."""

import re
from collections.abc import Container
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, get_args

from dnd_engine.errors import PromptFileError
from dnd_engine.notes import noted
from dnd_engine.prompts.readers.text import headings_left_out, read_text
from dnd_engine.prompts.readers.zips import open_zip
from dnd_engine.prompts.reading import Asked, Reading, Split

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_BODY, _STYLES = "word/document.xml", "word/styles.xml"
_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
# Word's “Strict Open XML Document” has its own namespaces.
_STRICT = "{http://purl.oclc.org/ooxml/wordprocessingml/main}"
# Variants of one thing, of which a program reads the first that it understands: a text box is
# written once for Word 2010 and later, and once more for older programs.
_VARIANTS = "{http://schemas.openxmlformats.org/markup-compatibility/2006}AlternateContent"
# Equations, also in the strict form.
_MATHS = (
    "{http://schemas.openxmlformats.org/officeDocument/2006/math}",
    "{http://purl.oclc.org/ooxml/officeDocument/math}",
)
_MATH_TEXTS = [f"{math}t" for math in _MATHS]
_RUNS = [f"{space}r" for space in (_WORD, _STRICT, *_MATHS)]
# A `softHyphen` is no character: it shows only where a line ends.
_CHARACTERS = {"tab": "\t", "ptab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
# Word names its own styles in English, whatever its language.
_HEADING = re.compile(r"(toc )?heading( \d)?|title|subtitle", re.IGNORECASE)
_LIST = re.compile(r"list (bullet|number)( \d)?", re.IGNORECASE)


class _Paragraph(NamedTuple):
    text: str
    is_heading: bool
    is_item: bool
    """Whether it is an item of a list."""
    in_cell: bool
    """Whether it is in a table."""


def read_docx(data: bytes, asked: Asked) -> Reading:
    """Read a document's text without headers, footnotes, comments, and deleted and hidden text."""
    # Lazy, because only this format needs it. It has no type stubs.
    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import ParseError, fromstring

    members = open_zip(data, asked, noted("a Word document"))
    if _BODY not in members.names:
        raise PromptFileError(
            "{name}: expected a Word document, got an archive without `{part}`. Save it as docx "
            "again.",
            name=asked.name,
            part=_BODY,
        )
    try:
        # Strict: Word never declares entities, which could unpack to gigabytes.
        body: Element = fromstring(members.read(_BODY), forbid_dtd=True)
        headings, lists = set[str](), set[str]()
        if _STYLES in members.names:
            styles: Element = fromstring(members.read(_STYLES), forbid_dtd=True)
            headings, lists = _styles(styles, _HEADING), _styles(styles, _LIST)
        paragraphs = _paragraphs(body, headings, lists)
    except (ParseError, DefusedXmlException, RecursionError, ValueError) as error:
        raise PromptFileError(
            "{name}: expected a Word document, got XML that does not read. Save it as docx again.",
            name=asked.name,
        ) from error
    text = _joined(paragraphs)
    if not text.strip():
        raise PromptFileError(
            "{name}: expected at least one prompt, got a document without text. Pictures are not "
            "read.",
            name=asked.name,
        )
    reading = _without_headings(read_text(text, asked), paragraphs, asked)
    if any(p.in_cell and p.text.strip() for p in paragraphs):
        reading.notes.append(
            noted(
                "The document holds a table: each paragraph of a cell was read as a line of its "
                "own."
            )
        )
    return reading


def _without_headings(reading: Reading, paragraphs: list[_Paragraph], asked: Asked) -> Reading:
    """Read the paragraphs again without headings, if these would be prompts of their own."""
    num_headings = sum(p.is_heading and bool(p.text.strip()) for p in paragraphs)
    text = _joined([p for p in paragraphs if not p.is_heading])
    # Elsewhere a heading is a part of a prompt, such as the instruction above a list.
    alone = asked.split == "auto" and reading.split in ("lines", "paragraphs")
    if not (alone and num_headings and text.strip()):
        return reading
    found = read_text(text, asked)
    return replace(
        found,
        split="titled" if found.split in get_args(Split) else found.split,
        # Headings show what a text is, minutes for example.
        doubt=reading.doubt,
        notes=[*found.notes, headings_left_out(num_headings)],
    )


def _joined(paragraphs: list[_Paragraph]) -> str:
    """Join paragraphs as the lines of a text.

    Word shows a gap between an instruction and a list below it, and keeps no empty paragraph there.
    A blank line stands for it, if the list is all that follows.
    """
    lines = [p.text for p in paragraphs]
    head, *items = [n for n, p in enumerate(paragraphs) if p.text.strip()] or [-1]
    if items and all(paragraphs[n].is_item for n in items):
        first = paragraphs[head]
        if not (first.is_item or first.is_heading):
            lines.insert(head + 1, "")
    return "\n".join(lines)


def _styles(styles: "Element", names: re.Pattern[str]) -> set[str]:
    """Return the ids of styles by their names; ids are in the language of the program."""
    return {
        _value(style, "styleId")
        for style in styles
        if any(_name(part) == "name" and names.fullmatch(_value(part)) for part in style)
    }


def _paragraphs(
    body: "Element", headings: Container[str], lists: Container[str]
) -> list[_Paragraph]:
    """Return the paragraphs. Nested ones, as in text boxes, are separate lines."""
    found: list[tuple[list[str], _Properties, bool]] = []
    # A single walk without recursion, because a hostile file may nest thousands.
    left: list[tuple[Element, list[str] | None, bool]] = [(body, None, False)]
    while left:
        node, inside, in_cell = left.pop()
        name = _name(node)
        in_cell |= name == "tc"
        # Text that was moved away is read again where it went. Properties name tabs, but hold none.
        if name in ("moveFrom", "pPr") or (node.tag in _RUNS and _is_hidden(node)):
            continue
        if name == "p":
            inside = []
            found.append((inside, _properties(node), in_cell))
        elif inside is not None:
            # Deleted text is in `delText` and field codes are in `instrText`, so both are left out.
            is_text = name == "t" or node.tag in _MATH_TEXTS
            inside.append(node.text or "" if is_text else _CHARACTERS.get(name, ""))
        # Reversed, because the last one is popped first.
        children = node[:1] if node.tag == _VARIANTS else node[:]
        left.extend((child, inside, in_cell) for child in reversed(children))
    paragraphs: list[_Paragraph] = []
    for parts, (style, is_item, is_gone), in_cell in found:
        text = "".join(parts)
        # What is left of one that is gone is no blank line, which would separate prompts.
        if text or not is_gone:
            is_item |= style in lists
            paragraphs.append(_Paragraph(text, style in headings, is_item, in_cell))
    return paragraphs


class _Properties(NamedTuple):
    style: str
    """Id of the paragraph's style; empty without one."""
    is_item: bool
    """Whether it has the mark of a list."""
    is_gone: bool
    """Whether its end is deleted, moved away or hidden."""


def _properties(paragraph: "Element") -> _Properties:
    style, is_item, is_gone = "", False, False
    for properties in paragraph[:1]:  # Word writes them first
        for part in properties if _name(properties) == "pPr" else ():
            if _name(part) == "pStyle":
                style = _value(part)
            is_item |= _name(part) == "numPr"
            if _name(part) == "rPr":
                is_gone = _hides(part) or any(_name(mark) in ("del", "moveFrom") for mark in part)
    return _Properties(style, is_item, is_gone)


def _is_hidden(run: "Element") -> bool:
    return any(_name(part) == "rPr" and _hides(part) for part in run)


def _hides(properties: "Element") -> bool:
    """Return whether properties of a run hide it."""
    return any(
        _name(part) == "vanish" and _value(part) not in ("false", "0", "off") for part in properties
    )


def _value(node: "Element", name: str = "val") -> str:
    return node.get(f"{_WORD}{name}") or node.get(f"{_STRICT}{name}") or ""


def _name(node: "Element") -> str:
    for space in (_WORD, _STRICT):
        if isinstance(node.tag, str) and node.tag.startswith(space):
            return node.tag.removeprefix(space)
    return ""
