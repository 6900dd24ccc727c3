"""Decodes bytes to text: UTF-8, UTF-16 with a byte order mark, and legacy encodings."""

import codecs
import re
from collections.abc import Callable

from charset_normalizer import from_bytes

from dnd_engine.errors import PromptFileError
from dnd_engine.notes import Note, noted
from dnd_engine.prompts.reading import Asked, Reading
from dnd_engine.prompts.words import use_formats

_MAGIC = {
    b"%PDF-": noted("a PDF"),
    b"PK\x03\x04": noted("a zip archive, or a docx or xlsx"),
    b"\xd0\xcf\x11\xe0": noted("an old Office document"),
    b"{\\rtf": noted("an RTF document"),
    b"\x89PNG": noted("a PNG image"),
    b"\xff\xd8\xff": noted("a JPEG image"),
    b"GIF87a": noted("a GIF image"),
    b"GIF89a": noted("a GIF image"),
    b"\x1f\x8b": noted("a gzip archive"),
    b"PAR1": noted("a parquet table"),
    b"SQLite format 3": noted("an SQLite database"),
}
_LEGACY = {
    "cp1252": "Windows-1252 (Western European)",
    "cp1250": "Windows-1250 (Central European)",
    "cp1251": "Windows-1251 (Cyrillic)",
    "cp1253": "Windows-1253 (Greek)",
    "cp1254": "Windows-1254 (Turkish)",
    "cp1255": "Windows-1255 (Hebrew)",
    "cp1256": "Windows-1256 (Arabic)",
    "koi8_r": "KOI8-R (Cyrillic)",
    "cp932": "Shift JIS (Japanese)",
    "euc_jp": "EUC-JP (Japanese)",
    "gb18030": "GB 18030 (Chinese)",
    "big5": "Big5 (Chinese)",
    "cp949": "EUC-KR (Korean)",
}
"""Legacy encodings of plain text, the most common first."""
_NO_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
"""Bytes that do not occur in text of any of these encodings."""


def of_text(read: Callable[[str, Asked], Reading]) -> Callable[[bytes, Asked], Reading]:
    """Turn a reader of text into a reader of bytes."""

    def decode_and_read(data: bytes, asked: Asked) -> Reading:
        text, notes = decode(data, asked)
        if not text.strip():
            raise PromptFileError(
                "{name}: expected at least one prompt, got only white space. Choose another file.",
                name=asked.name,
            )
        reading = read(text, asked)
        reading.notes.extend(notes)
        return reading

    return decode_and_read


def decode(data: bytes, asked: Asked) -> tuple[str, list[Note]]:
    """Return the text with plain newlines, and a note if it was not UTF-8.

    Raises:
        PromptFileError: If the data is binary or damaged.
    """
    # Before decoding, because RTF is plain ASCII, and a PDF may be.
    for magic, kind in _MAGIC.items():
        if data.startswith(magic):
            raise PromptFileError(
                "{name}: expected text, got what looks like {kind}. {use}",
                name=asked.name,
                kind=kind,
                use=use_formats(asked.formats),
            )
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    encoding, shown = ("utf-16", "UTF-16") if utf16 else ("utf-8-sig", "UTF-8")
    notes: list[Note] = [noted("Decoded from UTF-16.")] if utf16 else []
    try:
        text = data.decode(encoding)
        # NUL is valid Unicode, but a sign of binary data, UTF-32, or UTF-16 without its mark.
        fault = text.find("\0")
        finding = noted("a NUL byte")
    except UnicodeDecodeError as error:
        legacy = None if utf16 else _decode_legacy(data, error.start)
        if legacy is not None:
            text, notes, fault = *legacy, -1
        else:
            text = data[: error.start].decode(encoding, "replace")
            fault = len(text)
            finding = noted("the byte {byte}", byte=f"0x{data[error.start]:02X}")
    if fault >= 0:
        line = text.count("\n", 0, fault) + 1
        raise PromptFileError(
            "{name}, line {line}: expected {encoding} text, got {finding}. If it is text, save it "
            "as UTF-8.",
            name=asked.name,
            line=str(line),
            encoding=shown,
            finding=finding,
        )
    return text.replace("\r\n", "\n").replace("\r", "\n"), notes


def _decode_legacy(data: bytes, start: int) -> tuple[str, list[Note]] | None:
    """Decode text in a legacy encoding; None if it is binary or damaged UTF-8."""
    # Bytes beyond ASCII that decode as UTF-8 are no coincidence: the file is damaged UTF-8.
    if not data[:start].isascii() or _NO_TEXT.search(data):
        return None
    found = from_bytes(data, cp_isolation=[*_LEGACY])
    if (best := found.best()) is None:
        return None
    # Short texts fit several encodings equally well; the most common is right most often.
    as_good = {
        name
        for match in found
        if (match.chaos, match.coherence) == (best.chaos, best.coherence)
        for name in match.could_be_from_charset
    }
    encoding = next((name for name in _LEGACY if name in as_good), best.encoding)
    note = noted(
        "Not UTF-8, so decoded as {encoding}. If letters look wrong, save the file as UTF-8.",
        encoding=_LEGACY.get(encoding, encoding),
    )
    return data.decode(encoding), [note]
