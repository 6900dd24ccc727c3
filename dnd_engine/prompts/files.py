"""Prompt files -> prompts: reads text, tables and JSON, and says in plain words how it read them.

Knows formats, encodings and limits. Knows no buckets and no model, and imports no torch: a bad file
is refused before any weights load. Prompts are unlabeled: a label is kept beside its prompt, for
refining only, and is never part of its text.
"""

import codecs
import csv
import hashlib
import io
import itertools
import json
import math
import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from dnd_engine.config import PromptLimits
from dnd_engine.errors import PromptFileError

__all__ = [
    "FORMATS",
    "LABEL_KEYS",
    "PROMPT_KEYS",
    "Asked",
    "Format",
    "Prompt",
    "PromptFile",
    "Reading",
    "Split",
    "SplitMode",
    "display_name",
    "from_texts",
    "labelled_suffixes",
    "read_prompt_file",
]

PROMPT_KEYS = ("prompt", "text", "question", "instruction", "input")
"""Columns and keys that hold the prompt, the first one present winning. Where there is no `prompt`,
`instruction` and `input` together come before the rest: in Alpaca files `text` holds the answer."""
LABEL_KEYS = frozenset(
    ["label", "labels", "answer", "answers", "response", "output", "target", "completion", "gold"]
)

Split = Literal["auto", "separator", "lines", "paragraphs"]
"""How a text file is to be cut into prompts."""
SplitMode = Literal["separator", "lines", "paragraphs", "pairs", "rows", "objects"]
"""How a file was cut into prompts."""

_SEPARATOR = "---"
_TOLD_FAULTS = 5
_DEFAULT_LIMITS = PromptLimits()
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters but tab and newline, and lone surrogates, which no tokenizer can encode."""
_MAGIC = {
    b"%PDF-": "a PDF",
    b"PK\x03\x04": "a zip archive, or a docx or xlsx",
    b"\xd0\xcf\x11\xe0": "an old Office document",
    b"{\\rtf": "an RTF document",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF87a": "a GIF image",
    b"GIF89a": "a GIF image",
    b"\x1f\x8b": "a gzip archive",
    b"PAR1": "a parquet table",
    b"SQLite format 3": "an SQLite database",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One prompt, and where it was found."""

    text: str
    """Stripped, in Unicode NFC, without control characters but tab and newline."""
    file: str
    """Display name of its file."""
    line: int
    """From 1: the line where it starts; in a JSON array the item, in parquet the row."""
    label: str | None = None
    """What a label column or key says of it, cleaned alike; only refining with labels reads it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptFile:
    """The distinct prompts of one file, and how they were read."""

    name: str
    """Display name. Cleaned, but still a stranger's words: escape it, and never open it."""
    prompts: tuple[Prompt, ...]
    split: SplitMode
    column: str | None
    """Column or key the prompts came from; None for plain text and where items differ."""
    notes: tuple[str, ...]
    """Sentences to show: how the file was read, what was ignored, dropped or cut."""
    num_bytes: int
    sha256: str
    """Of the file's bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a reader is told besides the bytes of its file."""

    name: str
    """Display name, for errors."""
    split: Split
    limits: PromptLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a reader found."""

    entries: list[tuple[int, str, str | None]]
    """Place, raw text and raw label of each prompt, before cleaning."""
    split: SplitMode
    unit: str
    """What a place counts: `line`, `item` or `row`."""
    column: str | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How files of one suffix are read."""

    read: Callable[[bytes, Asked], Reading]
    """Raises `PromptFileError` with every fault. Never gets an empty file."""
    has_labels: bool = True
    """Whether it has a place for labels, so that rows for measuring can be in it."""


class _Finding(Exception):
    """What stood where a prompt was expected."""


class _Faults:
    """The faults of one file: all counted, the first few told, raised once."""

    def __init__(self, name: str, unit: str) -> None:
        self.name, self.unit = name, unit
        self.told: list[str] = []
        self.count = 0

    def add(self, place: int, fault: str) -> None:
        self.count += 1
        if self.count <= _TOLD_FAULTS:
            self.told.append(f"{self.name}, {self.unit} {place}: {fault}.")

    def raise_any(self, way_out: str) -> None:
        if self.count > _TOLD_FAULTS:
            self.told.append(f"And {self.count - _TOLD_FAULTS:,} more.")
        if self.told:
            raise PromptFileError("\n".join(self.told) + f" {way_out}")


def read_prompt_file(
    path: Path,
    *,
    name: str | None = None,
    split: Split = "auto",
    limits: PromptLimits = _DEFAULT_LIMITS,
) -> PromptFile:
    """Read one file of unlabeled prompts.

    Args:
        path: A regular file; nothing else is opened.
        name: The name it had before it was uploaded; its suffix tells the format.
        split: For txt and md. A line `---` separates prompts; without one, blank lines do, but not
            those between an instruction that is always the same and its inputs; and without those,
            every line is a prompt ("auto").
        limits: Bytes, prompts and characters allowed.

    Returns:
        At least one prompt, duplicates dropped, in file order.

    Raises:
        PromptFileError: With every fault of the file, whatever it holds.
    """
    shown = display_name(path.name if name is None else name)
    suffix = PurePosixPath(shown).suffix.lower()
    if suffix not in FORMATS:
        kind = suffix[1:].upper() or "a name without a suffix"
        # Unlike `Path.is_dir`, this does not raise where the path cannot be looked at.
        kind = "a folder" if os.path.isdir(path) else kind  # noqa: PTH112
        raise PromptFileError(f"{shown}: {kind} is not a prompt file. {_accepted()}")
    data = _read_bytes(path, shown, limits)
    if not data:
        raise PromptFileError(
            f"{shown}: expected at least one prompt, got an empty file. Write one prompt per line."
        )
    reading = FORMATS[suffix].read(data, Asked(name=shown, split=split, limits=limits))
    return PromptFile(
        name=shown,
        prompts=_clean(reading, shown, limits),
        split=reading.split,
        column=reading.column,
        notes=tuple(reading.notes),
        num_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def from_texts(
    texts: Sequence[str],
    *,
    name: str,
    labels: Sequence[str | None] | None = None,
    limits: PromptLimits = _DEFAULT_LIMITS,
) -> PromptFile:
    """Make a prompt file of texts that come from no file.

    They are cleaned and limited as a file's are. Size and hash are those of the JSONL file that
    holds the same strings (or objects with `prompt` and `label`), so that dropping that file gives
    the same adapter, its provenance included.

    Args:
        texts: One prompt each.
        name: Display name.
        labels: One for each text; None where a text has none.
        limits: Bytes, prompts and characters allowed.

    Raises:
        PromptFileError: If nothing is left of the texts, or they are too many or too large.
    """
    shown = display_name(name)
    given = [None] * len(texts) if labels is None else labels
    pairs = list(zip(texts, given, strict=True))
    items = texts if labels is None else [{"prompt": t, "label": label} for t, label in pairs]
    data = "".join(f"{json.dumps(item)}\n" for item in items).encode()
    _check_size(len(data), shown, limits)
    entries = [(place, text, label) for place, (text, label) in enumerate(pairs, 1)]
    reading = Reading(entries=entries, split="objects", unit="text")
    return PromptFile(
        name=shown,
        prompts=_clean(reading, shown, limits),
        split=reading.split,
        column=None if labels is None else "prompt",
        notes=tuple(reading.notes),
        num_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def display_name(name: str) -> str:
    """Return the last part of a path on one line of at most 120 characters, suffix kept."""
    return shorten(one_line(name.replace("\\", "/").rpartition("/")[2]) or "unnamed", 120)


def one_line(text: str) -> str:
    """Strip what does not print, such as control and direction characters, and outer spaces."""
    # A space of another width counts as a space: macOS writes such ones into file names.
    spaced = (" " if unicodedata.category(char) == "Zs" else char for char in text)
    return "".join(char for char in spaced if char.isprintable()).strip()


def shorten(text: str, limit: int) -> str:
    """Cut the middle out of a text that is longer than `limit` characters."""
    head = limit // 2
    return text if len(text) <= limit else f"{text[:head]}…{text[head + 1 - limit :]}"


def megabytes(num_bytes: int) -> str:
    """Return a size in MB, rounded up, so that a file over the limit never reads as the limit."""
    return f"{math.ceil(num_bytes / 1e5) / 10:,g} MB"


def _read_bytes(path: Path, name: str, limits: PromptLimits) -> bytes:
    data = b""
    try:
        status = path.stat()
        size = status.st_size
        if stat.S_ISREG(status.st_mode) and size <= limits.max_file_bytes:
            with path.open("rb") as file:
                # Bounded once more: a file may grow, and those in /proc state a size of zero.
                data = file.read(limits.max_file_bytes + 1)
            size = len(data)
    except FileNotFoundError:
        raise PromptFileError(
            f"{name}: expected a file, found nothing there. Check the path."
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        reason = (error.strerror if isinstance(error, OSError) else None) or "not a valid path"
        raise PromptFileError(
            f"{name}: expected a readable file, got an error ({reason}). Check the path."
        ) from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or device"
        raise PromptFileError(f"{name}: expected a file, got {kind}. Name the files one by one.")
    _check_size(size, name, limits)
    return data


def _check_size(num_bytes: int, name: str, limits: PromptLimits) -> None:
    if num_bytes > limits.max_file_bytes:
        raise PromptFileError(
            f"{name}: {megabytes(num_bytes)}; the limit is {limits.max_file_bytes / 1e6:g} MB a "
            "file. Split it, or keep a sample of it."
        )


def _decode(data: bytes, name: str) -> tuple[str, list[str]]:
    """Return the text with plain newlines, and a note if it was not UTF-8."""
    for magic, kind in _MAGIC.items():
        if data.startswith(magic):
            raise PromptFileError(
                f"{name}: expected text, got what looks like {kind}. {_accepted()}"
            )
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    encoding, shown = ("utf-16", "UTF-16") if utf16 else ("utf-8-sig", "UTF-8")
    try:
        text = data.decode(encoding)
        fault = text.find("\0")
        finding = "a NUL byte"
    except UnicodeDecodeError as error:
        text = data[: error.start].decode(encoding, "replace")
        fault = len(text)
        finding = f"the byte 0x{data[error.start]:02X}"
    if fault >= 0:
        line = text.count("\n", 0, fault) + 1
        raise PromptFileError(
            f"{name}, line {line}: expected {shown} text, got {finding}. "
            "If it is text, save it as UTF-8."
        )
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text, ["Decoded from UTF-16."] if utf16 else []


def _of_text(read: Callable[[str, Asked], Reading]) -> Callable[[bytes, Asked], Reading]:
    """Make a reader of bytes from one of text."""

    def decode_and_read(data: bytes, asked: Asked) -> Reading:
        text, notes = _decode(data, asked.name)
        if not text.strip():
            raise PromptFileError(
                f"{asked.name}: expected at least one prompt, got only white space. Write one "
                "prompt per line."
            )
        reading = read(text, asked)
        reading.notes.extend(notes)
        return reading

    return decode_and_read


def _read_text(text: str, asked: Asked) -> Reading:
    split = asked.split
    lines = text.split("\n")
    bare = [line.strip() for line in lines]
    mode: SplitMode
    if split != "auto":
        mode = split
    elif _SEPARATOR in bare:
        mode = "separator"
    else:
        mode = "paragraphs" if "\n\n" in "\n".join(bare).strip() else "lines"
    note = {
        "separator": f"Read as prompts separated by lines of `{_SEPARATOR}`.",
        "paragraphs": "Read as one prompt per paragraph: blank lines separate prompts.",
        "lines": "Read as one prompt per line.",
    }[mode]
    if split == "auto" and mode == "paragraphs":
        note += f" If prompts hold blank lines themselves, put a line `{_SEPARATOR}` between them."
    gap = _SEPARATOR if mode == "separator" else ""
    entries: list[tuple[int, str, str | None]] = []
    for is_gap, group in itertools.groupby(range(len(lines)), key=lambda i: bare[i] == gap):
        block = list(itertools.dropwhile(lambda i: not bare[i], group))
        if mode == "lines":
            entries.extend((i + 1, lines[i], None) for i in block)
        elif block and not is_gap:
            entries.append((block[0] + 1, "\n".join(lines[i] for i in block), None))
    if split == "auto" and mode == "paragraphs" and _takes_turns([text for _, text, _ in entries]):
        mode = "pairs"
        note = (
            "Every other paragraph is the same, so each was read together with the one below it, "
            "as one prompt."
        )
        pairs = zip(entries[::2], entries[1::2], strict=True)
        entries = [(place, f"{head}\n\n{rest}", None) for (place, head, _), (_, rest, _) in pairs]
    return Reading(entries=entries, split=mode, unit="line", notes=[note])


def _takes_turns(paragraphs: Sequence[str]) -> bool:
    """Whether one instruction stands above every input: A, x, A, y, A, z."""
    heads = {text.strip() for text in paragraphs[::2]}
    rests = {text.strip() for text in paragraphs[1::2]}
    return len(heads) == 1 and len(paragraphs) % 2 == 0 and len(rests) >= 2 and not heads & rests


def _delimiter(text: str) -> str:
    """Return the delimiter that stands most often in the header line, or one that cannot occur."""
    unquoted = re.sub(r'"[^"]*"', "quoted", text)
    header = next(line for line in unquoted.split("\n") if line.strip())
    found = max(",;\t", key=header.count)
    # One column has no delimiter, so its commas are text. NUL was refused on decoding.
    return found if found in header else "\0"


def _read_csv(text: str, asked: Asked) -> Reading:
    return _read_delimited(text, asked, _delimiter(text))


def _read_tsv(text: str, asked: Asked) -> Reading:
    return _read_delimited(text, asked, "\t")


def _read_delimited(text: str, asked: Asked, delimiter: str) -> Reading:
    faults = _Faults(asked.name, "line")
    records: list[tuple[int, list[str]]] = []
    # Strict: an unclosed quote would otherwise swallow the rest of the file into one prompt.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    start = 1
    try:
        for record in reader:
            if any(cell.strip() for cell in record):
                records.append((start, record))
            width = len(records[0][1]) if records else 0
            if any(cell.strip() for cell in record[width:]):
                faults.add(start, f"expected {_count(width, 'field')}, got {len(record):,}")
            start = reader.line_num + 1
    except csv.Error as error:
        faults.add(start, f"expected a CSV record, got an error ({one_line(str(error))})")
    faults.raise_any(
        'Put fields that hold delimiters or quotes in "quotes", and double the quotes within.'
    )
    return _read_table(asked.name, "line", records[0][1] if records else [], records[1:])


def _read_table(
    name: str, unit: str, header: Sequence[str], rows: list[tuple[int, list[str]]]
) -> Reading:
    """Choose the prompt column: by name, else the text column that is longest on average."""
    chars: Counter[int] = Counter()
    filled: Counter[int] = Counter()
    textual: set[int] = set()
    for _, row in rows:
        for index, cell in enumerate(row):
            if cell.strip():
                chars[index] += len(cell)
                filled[index] += 1
                if index not in textual and not _is_number(cell):
                    textual.add(index)
    keys = [column.strip().casefold() for column in header]
    labels = [index for index, key in enumerate(keys) if key in LABEL_KEYS]
    named = {keys[index]: index for index in sorted(filled, reverse=True)}
    notes = []
    if chosen := [named[key] for key in _prompt_keys(named)]:
        notes.append(f"Read {_named('column', [header[index] for index in chosen])}.")
    elif unlabeled := textual.difference(labels):
        chosen = [max(sorted(unlabeled), key=lambda index: chars[index] / filled[index])]
        notes.append(
            f"No column is named {', '.join(PROMPT_KEYS[:-1])} or {PROMPT_KEYS[-1]}; read "
            f"{_quoted([header[chosen[0]]])}, the longest text column."
        )
        if unit == "line":
            notes.append("The first row was taken as column names.")
    elif rows:
        raise PromptFileError(
            f"{name}: expected a column of text, found only {_named('column', header)}, "
            "which hold numbers, labels or nothing. Name the column of prompts `prompt`."
        )
    if labels:
        notes.append(_label_note("column", [header[index] for index in labels]))
    entries = [
        (
            place,
            "\n\n".join(row[i] for i in chosen if i < len(row) and row[i].strip()),
            next((row[i] for i in labels if i < len(row) and row[i].strip()), None),
        )
        for place, row in rows
    ]
    column = " + ".join(shorten(one_line(header[index]), 60) for index in chosen) or None
    return Reading(entries=entries, split="rows", unit=unit, column=column, notes=notes)


def _read_json(text: str, asked: Asked) -> Reading:
    return _read_items(text, asked.name, by_line=False)


def _read_jsonl(text: str, asked: Asked) -> Reading:
    return _read_items(text, asked.name, by_line=True)


def _read_items(text: str, name: str, *, by_line: bool) -> Reading:
    items: Iterable[tuple[int, Any]]
    if by_line:
        faults, way_out = _Faults(name, "line"), "Write one JSON object per line."
        items = ((place, line) for place, line in enumerate(text.split("\n"), 1) if line.strip())
    else:
        faults, way_out = _Faults(name, "item"), 'Write strings, or objects with a "prompt".'
        try:
            items = enumerate(_array(_parse_json(text)), 1)
        except _Finding as finding:
            raise PromptFileError(
                f"{name}: expected an array of prompts, or an object with one array, "
                f"got {finding}. Name the file .jsonl if it holds one JSON object per line."
            ) from None
    entries: list[tuple[int, str, str | None]] = []
    found: set[str] = set()
    labels: set[str] = set()
    for place, item in items:
        try:
            prompt, key, given = _item_text(_parse_json(item) if by_line else item)
        except _Finding as finding:
            faults.add(place, f'expected an object with a string "prompt", got {finding}')
        else:
            entries.append((place, prompt, next(filter(None, given.values()), None)))
            found.add(key)
            labels |= given.keys()
    faults.raise_any(way_out)
    keys = sorted(found - {""})
    notes = [f"Read {_named('key', keys)}." if keys else "Read as plain strings."]
    if "messages" in keys:
        notes.append("Of each chat, the last user turn was read.")
    if labels:
        notes.append(_label_note("key", sorted(labels)))
    same = len(found) == len(keys) == 1
    return Reading(
        entries=entries,
        split="objects",
        unit=faults.unit,
        column=keys[0] if same else None,
        notes=notes,
    )


def _parse_json(text: str) -> object:
    try:
        parsed: object = json.loads(text)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if "\n" in text else ""
        raise _Finding(f"broken JSON ({error.msg}, {line}column {error.colno})") from None
    except RecursionError:
        raise _Finding("JSON that is nested too deeply") from None
    except ValueError:  # Python refuses integers of more than 4,300 digits
        raise _Finding("a number with too many digits") from None
    return parsed


def _array(document: object) -> list[object]:
    """Return the items of a JSON file: its array, its object's only array, or its one prompt."""
    if isinstance(document, list):
        return document
    try:
        _item_text(document)
    except _Finding:
        if not isinstance(document, dict):
            raise
        arrays = [value for value in document.values() if isinstance(value, list)]
        if len(arrays) != 1:
            raise _Finding(f"an object with {_count(len(arrays), 'array')}") from None
        return arrays[0]
    return [document]


def _item_text(item: object) -> tuple[str, str, dict[str, str]]:
    """Return a JSON item's prompt, the key it stood under ("" for a string), and its labels.

    Labels are by key, in the item's order; what is no text, number or truth value is empty.
    """
    if isinstance(item, str):
        return item, "", {}
    if not isinstance(item, dict):
        raise _Finding(_kind(item))
    fields = {key.strip().casefold(): value for key, value in item.items()}
    labels = {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in fields.items()
        if key in LABEL_KEYS and isinstance(value, str | int | float)
    }
    labels = {key: labels.get(key, "") for key in fields if key in LABEL_KEYS}
    texts = {key: value for key, value in fields.items() if isinstance(value, str)}
    if chosen := _prompt_keys(texts):
        text = "\n\n".join(texts[key] for key in chosen if texts[key].strip())
        return text, " + ".join(chosen), labels
    if isinstance(turns := fields.get("messages"), list):
        users = [turn for turn in turns if isinstance(turn, dict) and turn.get("role") == "user"]
        if users and isinstance(content := users[-1].get("content"), str):
            return content, "messages", labels
        raise _Finding("`messages` without a user turn of text")
    for key in PROMPT_KEYS:
        if key in fields:
            raise _Finding(f"{_kind(fields[key])} under `{key}`")
    raise _Finding(f"an object with {_named('key', list(item))}")


def _read_parquet(data: bytes, asked: Asked) -> Reading:
    name, limits = asked.name, asked.limits
    # Imported here: only this format needs it. It has no type stubs.
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    try:
        file = pq.ParquetFile(io.BytesIO(data))
        groups = [file.metadata.row_group(index) for index in range(file.num_row_groups)]
        num_rows = sum(group.num_rows for group in groups)
        unpacked = sum(group.total_byte_size for group in groups)
        kinds = {column.name: column.type for column in file.schema_arrow}
        is_text = (pa.types.is_string, pa.types.is_large_string, pa.types.is_dictionary)
        text = [column for column, kind in kinds.items() if any(test(kind) for test in is_text)]
        # Compression and dictionaries can pack gigabytes into a small file: so bytes and rows are
        # bounded before anything is unpacked, and repeated cells stay references to one string.
        if num_rows > limits.max_prompts:
            raise PromptFileError(
                f"{name}: expected at most {limits.max_prompts:,} rows, got {num_rows:,}. "
                "Split the file, or keep a sample of it."
            )
        if unpacked > limits.max_total_bytes:
            raise PromptFileError(
                f"{name}: {megabytes(unpacked)} when unpacked; the limit is "
                f"{limits.max_total_bytes / 1e6:g} MB. Split it, or keep a sample of it."
            )
        table = pq.ParquetFile(io.BytesIO(data), read_dictionary=text).read(columns=text)
        table.validate(full=True)  # a damaged file may hold indices outside its dictionary
        if table.num_rows != num_rows:
            raise pa.ArrowInvalid("rows are missing")
        cells = [_cells(column, 2 * limits.max_prompt_chars) for column in table.columns]
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise PromptFileError(
            f"{name}: expected a parquet table, got something that does not read as one. "
            "Write it again, or save it as jsonl."
        ) from error
    header = [*table.column_names, *(column for column in kinds if column not in text)]
    rows = [(row + 1, [column[row] for column in cells]) for row in range(num_rows)]
    return _read_table(name, "row", header, rows)


def _cells(column: Any, max_chars: int) -> list[str]:
    """Return a column's cells; cut here too, since one long text may stand in every row."""
    cells: list[str] = []
    for chunk in column.dictionary_encode().chunks:
        words = chunk.dictionary.to_pylist()
        words = [word[:max_chars] if isinstance(word, str) else "" for word in words]
        cells.extend("" if index is None else words[index] for index in chunk.indices.to_pylist())
    return cells


def _clean(reading: Reading, name: str, limits: PromptLimits) -> tuple[Prompt, ...]:
    """Return the distinct prompts, adding what was skipped, dropped or cut to the notes."""
    prompts: dict[str, Prompt] = {}
    empty = duplicates = cut = 0
    for place, raw, raw_label in reading.entries:
        text, kept = _clean_text(raw, limits.max_prompt_chars)
        if not any(char.isprintable() and char != " " for char in kept):
            empty += 1
        elif kept in prompts:
            duplicates += 1
        elif len(prompts) == limits.max_prompts:
            raise PromptFileError(
                f"{name}, {reading.unit} {place}: expected at most {limits.max_prompts:,} prompts, "
                "got one more. Split the file, or keep a sample of it."
            )
        else:
            cut += len(text) > limits.max_prompt_chars
            label = None if raw_label is None else _clean_text(raw_label, limits.max_prompt_chars)
            prompts[kept] = Prompt(
                text=kept, file=name, line=place, label=label[1] or None if label else None
            )
    if not prompts:
        only_header = reading.split == "rows" and not reading.entries
        finding = "column names alone" if only_header else "none that holds text"
        raise PromptFileError(
            f"{name}: expected at least one prompt, got {finding}. Add prompts, or remove the file."
        )
    if empty:
        reading.notes.append(f"{_count(empty, 'empty prompt')} skipped.")
    if duplicates:
        reading.notes.append(f"{_count(duplicates, 'duplicate')} dropped.")
    if cut:
        reading.notes.append(
            f"{_count(cut, 'prompt')} cut at {limits.max_prompt_chars:,} characters."
        )
    return tuple(prompts.values())


def _clean_text(raw: str, most: int) -> tuple[str, str]:
    """Return a text without what does not print, whole and cut to a number of characters."""
    text = _CONTROLS.sub("", raw.replace("\r\n", "\n")).strip()
    # Cut before normalising, whose time may grow with the square of the length; and again after it,
    # since it can lengthen a text.
    return text, unicodedata.normalize("NFC", text[:most])[:most].rstrip()


def _label_note(thing: str, names: Sequence[str]) -> str:
    return f"Label {_named(thing, names)} ignored; refining can learn from it."


def _prompt_keys(present: Collection[str]) -> list[str]:
    """Return which of the keys make up the prompt: one, or instruction and input, or none."""
    if "prompt" not in present and "instruction" in present and "input" in present:
        return ["instruction", "input"]
    return [key for key in PROMPT_KEYS if key in present][:1]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _kind(value: object) -> str:
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    return "null" if value is None else kinds.get(type(value), "a number")


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def _quoted(names: Sequence[str]) -> str:
    """List names for a message; they are a stranger's, so cleaned, and neither many nor long."""
    shown = [f"`{shorten(one_line(name), 40)}`" for name in names[:8]]
    return ", ".join(shown) + (f" and {len(names) - 8:,} more" if len(names) > 8 else "")


def _named(thing: str, names: Sequence[str]) -> str:
    return f"{thing}{'' if len(names) == 1 else 's'} {_quoted(names) or '(none)'}"


FORMATS: dict[str, Format] = {
    ".txt": Format(read=_of_text(_read_text), has_labels=False),
    ".md": Format(read=_of_text(_read_text), has_labels=False),
    ".csv": Format(read=_of_text(_read_csv)),
    ".tsv": Format(read=_of_text(_read_tsv)),
    ".jsonl": Format(read=_of_text(_read_jsonl)),
    ".json": Format(read=_of_text(_read_json)),
    ".parquet": Format(read=_read_parquet),
}
"""By suffix. At the end of the file, since readers are named in it."""


def labelled_suffixes() -> list[str]:
    """Return the formats that have a place for labels, without dots."""
    return [suffix[1:] for suffix, format in FORMATS.items() if format.has_labels]


def _accepted() -> str:
    *others, last = (suffix[1:] for suffix in FORMATS)
    return f"Use {', '.join(others)} or {last}."
