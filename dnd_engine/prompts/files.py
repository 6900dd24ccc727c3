"""Reads prompt files of many formats, and describes in plain words how it read them.

Knows limits, cleaning and the registry of formats; `readers/` knows the formats. Knows no buckets
and no model, and imports no torch: a bad file is rejected before any weights load. A label is
stored beside its prompt, and is never part of its text.
"""

import hashlib
import json
import os
import stat
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import get_args

from dnd_engine.errors import PromptFileError
from dnd_engine.limits import PromptLimits
from dnd_engine.notes import Note, counted, noted
from dnd_engine.prompts.readers.archive import read_zip
from dnd_engine.prompts.readers.decoding import of_text
from dnd_engine.prompts.readers.delimited import read_csv, read_tsv
from dnd_engine.prompts.readers.document import read_docx
from dnd_engine.prompts.readers.items import read_json, read_jsonl
from dnd_engine.prompts.readers.notebook import read_notebook
from dnd_engine.prompts.readers.parquet import read_parquet
from dnd_engine.prompts.readers.spreadsheet import read_xlsx
from dnd_engine.prompts.readers.text import read_text
from dnd_engine.prompts.reading import (
    NO_COLUMNS,
    Asked,
    Choices,
    Column,
    Entry,
    Format,
    Reading,
    Split,
    SplitMode,
    check_memory,
    text_bytes,
)
from dnd_engine.prompts.split import shared_head
from dnd_engine.prompts.words import display_name, megabytes, one_line, printable, use_formats

FORMATS: dict[str, Format] = {
    ".txt": Format(read=of_text(read_text), has_labels=False, splits=True),
    ".md": Format(read=of_text(read_text), has_labels=False, splits=True),
    ".csv": Format(read=of_text(read_csv)),
    ".tsv": Format(read=of_text(read_tsv)),
    ".jsonl": Format(read=of_text(read_jsonl)),
    ".json": Format(read=of_text(read_json)),
    ".parquet": Format(read=read_parquet),
    ".xlsx": Format(read=read_xlsx, packed=True),
    ".docx": Format(read=read_docx, has_labels=False, splits=True, packed=True),
    ".ipynb": Format(read=of_text(read_notebook), has_labels=False),
    ".zip": Format(read=read_zip, has_labels=False, packed=True),
}
"""Formats by file suffix."""

_DEFAULT_LIMITS = PromptLimits()
_DEFAULT_CHOICES = Choices()
_PROMPT_BYTES = 100
"""Memory of a `Prompt` without its texts: the object, its line and its place in a tuple."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One prompt and its location."""

    text: str
    """Stripped, in Unicode NFC, without control characters except tab and newline."""
    file: str
    """Display name of its file."""
    line: int
    """Position from 1: the line where it starts, the item of a JSON array, or the row of a
    table."""
    label: str | None = None
    """Cleaned label of the prompt; None if it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptFile:
    """The distinct prompts of one file, and how they were read."""

    name: str
    """Display name. Cleaned, but untrusted: escape it, and never open it as a path."""
    prompts: tuple[Prompt, ...]
    split: SplitMode
    column: str | None
    """Column or key that the prompts came from; None for plain text, or if items differ."""
    notes: tuple[Note, ...]
    """Sentences to show: how the file was read, and what was ignored, dropped or cut."""
    num_bytes: int
    sha256: str
    """Hash of the file's bytes."""
    choices: Choices = _DEFAULT_CHOICES
    """Reading options that a person chose."""
    columns: tuple[Column, ...] = ()
    """Selectable columns; may be empty."""
    doubt: str = ""
    """A sentence why these may not be prompts; empty without doubts."""
    memory_bytes: int = field(init=False, compare=False)
    """Memory that the prompts take, which may be thousands of times `num_bytes`."""

    def __post_init__(self) -> None:
        texts = (text for p in self.prompts for text in (p.text, p.label, p.file))
        num_bytes = text_bytes(texts) + _PROMPT_BYTES * len(self.prompts)
        object.__setattr__(self, "memory_bytes", num_bytes)


def read_prompt_file(
    path: Path | str,
    *,
    name: str | None = None,
    split: Split = "auto",
    choices: Choices = _DEFAULT_CHOICES,
    limits: PromptLimits = _DEFAULT_LIMITS,
) -> PromptFile:
    """Read one file of unlabeled prompts.

    Args:
        path: A regular file; anything else is refused.
        name: Original name before upload; its suffix determines the format.
        split: How to split txt, md and docx. "auto" splits at `---` lines; without any, at blank
            lines, except those between a repeated instruction and its inputs; without those, at
            every line. It also puts a blank line below an instruction that all prompts of a file
            begin with, in any format.
        choices: Columns to use instead of the detected ones, and prompts to leave out.
        limits: Maximum bytes, prompts and characters.

    Returns:
        At least one distinct prompt, in file order.

    Raises:
        PromptFileError: With every fault of the file; a `BrokenItemsError` if some of its prompts
            are usable.
    """
    path = Path(path)
    shown = display_name(path.name if name is None else name)
    suffix = PurePosixPath(shown).suffix.lower()
    if suffix not in FORMATS:
        kind = suffix[1:].upper() or noted("a name without a suffix")
        # Unlike `Path.is_dir`, this does not raise for an inaccessible path.
        kind = noted("a folder") if os.path.isdir(path) else kind  # noqa: PTH112
        raise PromptFileError(
            "{name}: {kind} is not a prompt file. {use}",
            name=shown,
            kind=kind,
            use=use_formats(FORMATS),
        )
    data = _read_bytes(path, shown, limits)
    if not data:
        raise PromptFileError(
            "{name}: expected at least one prompt, got an empty file. Choose another file.",
            name=shown,
        )
    asked = Asked(name=shown, split=split, limits=limits, choices=choices, formats=FORMATS)
    format = FORMATS[suffix]
    reading = format.read(data, asked)
    if choices.name_columns and not format.has_labels and reading.split != "files":
        reading.notes.append(NO_COLUMNS)
    prompts, mode = _clean(reading, shown, limits), reading.split
    # Any other value is a person's explicit choice.
    if split == "auto" and (head := shared_head([prompt.text for prompt in prompts])) is not None:
        alike = len(prompts)
        prompts = _with_blank_line(prompts, head)
        _note_duplicates(alike - len(prompts), reading)
        reading.notes.append(
            noted(
                "All begin with “{head}”, which was read as their instruction. If it ends "
                "elsewhere, put a blank line there in each prompt.",
                head=one_line(head),
            )
        )
        # A recipe requests `lines` and the like again, which would leave the instruction there.
        mode = "shared" if mode in get_args(Split) else mode
    file = PromptFile(
        name=shown,
        prompts=prompts,
        split=mode,
        column=reading.column,
        notes=tuple(reading.notes),
        num_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        # `without` puts back the indices that are valid.
        choices=replace(choices, without=()),
        columns=reading.columns,
        doubt=reading.doubt,
    )
    return without(file, choices.without)


def without(file: PromptFile, places: Sequence[int]) -> PromptFile:
    """Remove prompts from a fully read file.

    Args:
        file: A file without removed prompts.
        places: Indices of its prompts, from 0. Invalid ones are ignored.

    Raises:
        PromptFileError: If no prompt is left.
    """
    gone = {place for place in places if 0 <= place < len(file.prompts)}
    if not gone:
        return file
    if len(gone) == len(file.prompts):
        raise PromptFileError(
            "{name}: expected at least one prompt, got none, since all were removed. Bring some "
            "back, or remove the file.",
            name=file.name,
        )
    kept = tuple(prompt for place, prompt in enumerate(file.prompts) if place not in gone)
    note = counted(
        "{number} prompt removed by hand.", "{number} prompts removed by hand.", len(gone)
    )
    return replace(
        file,
        prompts=kept,
        notes=(*file.notes, note),
        choices=replace(file.choices, without=tuple(sorted(gone))),
    )


def from_texts(
    texts: Sequence[str],
    *,
    name: str,
    labels: Sequence[str | None] | None = None,
    limits: PromptLimits = _DEFAULT_LIMITS,
) -> PromptFile:
    """Make a prompt file from texts in memory.

    Texts are cleaned and limited as in a file. Size and hash are those of a JSONL file with the
    same strings (or objects with `prompt` and `label`), so that dropping that file gives the same
    adapter and provenance. `labels` has one for each text, None for a text without a label;
    `limits` bound bytes, prompts and characters.

    Raises:
        PromptFileError: If no text is left after cleaning, or there are too many or too large ones.
    """
    shown = display_name(name)
    given = [None] * len(texts) if labels is None else labels
    pairs = list(zip(texts, given, strict=True))
    items = texts if labels is None else [{"prompt": t, "label": label} for t, label in pairs]
    # ASCII escapes, because a text may hold lone surrogates, which UTF-8 cannot encode.
    data = "".join(f"{json.dumps(item)}\n" for item in items).encode()
    _check_size(len(data), shown, limits)
    entries = [Entry(place, text, label) for place, (text, label) in enumerate(pairs, 1)]
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


def labelled_suffixes() -> list[str]:
    """Return the formats that can contain labels, without dots."""
    return [suffix[1:] for suffix, format in FORMATS.items() if format.has_labels]


def _read_bytes(path: Path, name: str, limits: PromptLimits) -> bytes:
    data = b""
    try:
        status = path.stat()
        size = status.st_size
        # Opening a pipe would wait for a writer, and a device may have no end.
        if stat.S_ISREG(status.st_mode) and size <= limits.max_file_bytes:
            with path.open("rb") as file:
                # Check again while reading: a file may grow, and files in /proc report a size of
                # zero.
                data = file.read(limits.max_file_bytes + 1)
            size = len(data)
    except FileNotFoundError:
        raise PromptFileError(
            "{name}: expected a file, found nothing there. Check the path.", name=name
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        words = error.strerror if isinstance(error, OSError) else None
        raise PromptFileError(
            "{name}: expected a readable file, got an error ({reason}). Check the path.",
            name=name,
            reason=words or noted("not a valid path"),
        ) from error
    if not stat.S_ISREG(status.st_mode):
        is_folder = stat.S_ISDIR(status.st_mode)
        raise PromptFileError(
            "{name}: expected a file, got {kind}. Name the files one by one.",
            name=name,
            kind=noted("a folder") if is_folder else noted("a pipe or device"),
        )
    _check_size(size, name, limits)
    return data


def _check_size(num_bytes: int, name: str, limits: PromptLimits) -> None:
    if num_bytes > limits.max_file_bytes:
        raise PromptFileError(
            "{name}: {size:,g} MB; the limit is {most:g} MB a file. Split it, or keep a sample of "
            "it.",
            name=name,
            size=megabytes(num_bytes),
            most=limits.max_file_bytes / 1e6,
        )


def _clean(reading: Reading, name: str, limits: PromptLimits) -> tuple[Prompt, ...]:
    """Return the distinct prompts, and note what was skipped, dropped or cut."""
    prompts: dict[str, Prompt] = {}
    # Most prompts share their label and the name of their file, in memory too.
    labels: dict[str | None, str | None] = {None: None}
    files = {"": name}
    num_bytes = empty = duplicates = contrary = cut = 0
    for place, raw, raw_label, part in reading.entries:
        text, kept = _clean_text(raw, limits.max_prompt_chars)
        if raw_label is not None and raw_label not in labels:
            labels[raw_label] = _clean_text(raw_label, limits.max_prompt_chars)[1] or None
            num_bytes += sys.getsizeof(labels[raw_label])
        label = labels[raw_label]
        # Zero-width and other invisible characters alone are no prompt.
        if not any(char.isprintable() and char != " " for char in kept):
            empty += 1
        elif kept in prompts:
            duplicates += 1
            known = prompts[kept]
            if known.label is None:
                prompts[kept] = replace(known, label=label)
            else:
                contrary += label not in (None, known.label)
        elif len(prompts) == limits.max_prompts:
            raise PromptFileError(
                "{name}, {unit} {place}: expected at most {most} prompts, got one more. Split the "
                "file, or keep a sample of it.",
                name=name,
                unit=noted(reading.unit),
                place=str(place),
                most=limits.max_prompts,
            )
        else:
            cut += len(text) > limits.max_prompt_chars
            prompts[kept] = Prompt(
                text=kept,
                file=files.setdefault(part, f"{name}/{part}"),
                line=place,
                label=label,
            )
            num_bytes += sys.getsizeof(kept) + _PROMPT_BYTES
        # At once: readers share what is equal in their texts, but here each prompt is a new text.
        check_memory(num_bytes, name, limits)
    if not prompts:
        only_header = reading.split == "rows" and not reading.entries
        raise PromptFileError(
            "{name}: expected at least one prompt, got {finding}. Add prompts, or remove the file.",
            name=name,
            finding=noted("column names alone") if only_header else noted("none that holds text"),
        )
    if empty:
        reading.notes.append(
            counted("{number} empty prompt skipped.", "{number} empty prompts skipped.", empty)
        )
    _note_duplicates(duplicates, reading)
    if contrary:
        reading.notes.append(
            counted(
                "{number} of them had another label than the prompt that was kept.",
                "{number} of them had another label than the prompt that was kept.",
                contrary,
            )
        )
    if cut:
        reading.notes.append(
            counted(
                "{number} prompt cut at {most} characters.",
                "{number} prompts cut at {most} characters.",
                cut,
                most=limits.max_prompt_chars,
            )
        )
    return tuple(prompts.values())


def _with_blank_line(prompts: Sequence[Prompt], head: str) -> tuple[Prompt, ...]:
    """Put a blank line below what all prompts begin with, as `split_prompt` needs it.

    Those that then differ in nothing, since only the space there was another, are one prompt.
    """
    found: dict[str, Prompt] = {}
    for prompt in prompts:
        text = f"{head}\n\n{prompt.text[len(head) :].strip()}"
        known = found.setdefault(text, replace(prompt, text=text))
        if known.label is None:
            found[text] = replace(known, label=prompt.label)
    return tuple(found.values())


def _note_duplicates(number: int, reading: Reading) -> None:
    if number:
        reading.notes.append(
            counted("{number} duplicate dropped.", "{number} duplicates dropped.", number)
        )


def _clean_text(raw: str, most: int) -> tuple[str, str]:
    """Return a text without unprintable characters, whole and cut to a number of characters."""
    text = printable(raw).strip()
    # Cut before normalising, which may take quadratic time, and again after it, because it can
    # lengthen a text.
    return text, unicodedata.normalize("NFC", text[:most])[:most].rstrip()
