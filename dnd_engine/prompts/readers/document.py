"""Reads Word documents: paragraphs are treated as lines of a text file."""

from typing import TYPE_CHECKING

from dnd_engine.errors import PromptFileError
from dnd_engine.notes import noted
from dnd_engine.prompts.readers.text import read_text
from dnd_engine.prompts.readers.zips import open_zip
from dnd_engine.prompts.reading import Asked, Reading

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_BODY = "word/document.xml"
_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
# Word's “Strict Open XML Document” has its own namespaces.
_STRICT = "{http://purl.oclc.org/ooxml/wordprocessingml/main}"
# Variants of one thing, of which a program reads the first that it understands: a text box is
# written once for Word 2010 and later, and once more for older programs.
_VARIANTS = "{http://schemas.openxmlformats.org/markup-compatibility/2006}AlternateContent"
_WHITE = {"tab": "\t", "br": "\n", "cr": "\n"}


def read_docx(data: bytes, asked: Asked) -> Reading:
    """Read a document's text without headers, footnotes, comments and deleted text."""
    # Lazy, because only this format needs it. It has no type stubs.
    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import ParseError, fromstring

    members = open_zip(data, asked, noted("a Word document"))
    if _BODY not in members.names:
        raise PromptFileError(
            noted(
                "{name}: expected a Word document, got an archive without `{part}`. Save it as "
                "docx again.",
                name=asked.name,
                part=_BODY,
            )
        )
    try:
        # Strict: Word never declares entities, which could unpack to gigabytes.
        body: Element = fromstring(members.read(_BODY), forbid_dtd=True)
        text = "\n".join(_paragraphs(body))
    except (ParseError, DefusedXmlException, RecursionError, ValueError) as error:
        raise PromptFileError(
            noted(
                "{name}: expected a Word document, got XML that does not read. Save it as docx "
                "again.",
                name=asked.name,
            )
        ) from error
    if not text.strip():
        raise PromptFileError(
            noted(
                "{name}: expected at least one prompt, got a document without text. Pictures are "
                "not read.",
                name=asked.name,
            )
        )
    return read_text(text, asked)


def _paragraphs(body: "Element") -> list[str]:
    """Return the texts of paragraphs. Nested paragraphs, as in text boxes, are separate lines."""
    found: list[list[str]] = []
    # A single walk without recursion, because a hostile file may nest thousands.
    left: list[tuple[Element, list[str] | None]] = [(body, None)]
    while left:
        node, inside = left.pop()
        name = _name(node)
        if name == "p":
            inside = []
            found.append(inside)
        elif inside is not None:
            # Deleted text is in `delText` and field codes are in `instrText`, so both are left out.
            inside.append(node.text or "" if name == "t" else _WHITE.get(name, ""))
        # Reversed, because the last one is popped first.
        children = node[:1] if node.tag == _VARIANTS else node[:]
        left.extend((child, inside) for child in reversed(children))
    return ["".join(parts) for parts in found]


def _name(node: "Element") -> str:
    for space in (_WORD, _STRICT):
        if isinstance(node.tag, str) and node.tag.startswith(space):
            return node.tag.removeprefix(space)
    return ""
