"""Reads the prompt files in a zip as one file."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from dnd_engine.errors import BrokenItemsError, PromptFileError
from dnd_engine.notes import Note, counted, joined, noted
from dnd_engine.prompts.readers.zips import Members, open_zip
from dnd_engine.prompts.reading import (
    NO_COLUMNS,
    Asked,
    Entry,
    Reading,
    check_memory,
    text_bytes,
)
from dnd_engine.prompts.words import display_name, quoted, use_formats

_ZIP = ".zip"
_ADAPTER = "adapter_config.json"
"""What PEFT's files of every adapter contain."""
_NOTED_FILES = 3
"""Maximum number of files with notes; more would overload the card."""


@dataclass(slots=True)
class _Found:
    """Contents of an archive's files."""

    read: dict[str, Reading] = field(default_factory=dict)
    doubtful: dict[str, Reading] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    num_salvable: int = 0
    """Usable prompts in files that have broken ones."""


def read_zip(data: bytes, asked: Asked) -> Reading:
    """Read every prompt file in an archive; skip and list other files and nested archives."""
    members = open_zip(data, asked, noted("a zip archive"))
    visible = [name for name in members.names if not _hidden(name)]
    if any(PurePosixPath(name).name == _ADAPTER for name in visible):
        # Its settings and checks would pass for prompts.
        raise PromptFileError(
            "{name}: expected prompt files in it, found an adapter. Import it in the Library.",
            name=asked.name,
        )
    known = asked.formats.keys() - {_ZIP}
    wanted = [name for name in visible if _suffix(name) in known]
    strange = [name for name in visible if _suffix(name) not in known]
    if not wanted:
        raise PromptFileError(
            "{name}: expected prompt files in it, found {files}. {use}",
            name=asked.name,
            files=_listed(strange) or noted("none"),
            use=use_formats(suffix for suffix in asked.formats if suffix != _ZIP),
        )
    if len(wanted) > asked.limits.max_files:
        raise PromptFileError(
            "{name}: expected at most {most} prompt files in it, got {found}. Split it.",
            name=asked.name,
            most=asked.limits.max_files,
            found=len(wanted),
        )
    found = _read_members(members, wanted, asked)
    notes = _settle_faults(found, asked)
    doubt = _settle_doubts(found, notes)
    if asked.choices.name_columns and not any(asked.formats[_suffix(n)].has_labels for n in wanted):
        notes.append(NO_COLUMNS)
    if strange:
        notes.append(noted("Left out {files}: no prompt files.", files=_listed(strange)))
    read = _listed([*found.read])
    notes.insert(
        0,
        counted(
            "Read {number} file: {files}.",
            "Read {number} files: {files}.",
            len(found.read),
            files=read,
        ),
    )
    if len(found.read) <= _NOTED_FILES:
        notes += [_note_on(name, n) for name, r in found.read.items() for n in r.notes]
    entries = [
        Entry(entry.place, entry.text, entry.label, display_name(name))
        for name, reading in found.read.items()
        for entry in reading.entries
    ]
    return Reading(entries=entries, split="files", unit="prompt", notes=notes, doubt=doubt)


def _read_members(members: Members, wanted: Sequence[str], asked: Asked) -> _Found:
    found, num_rows, num_bytes = _Found(), 0, 0
    # Office files are zips themselves; together they may unpack to no more than one archive.
    num_packed = sum(asked.formats[_suffix(name)].packed for name in wanted)
    share = asked.limits.max_total_bytes // max(1, num_packed)
    for name in wanted:
        format = asked.formats[_suffix(name)]
        inner = replace(
            asked,
            name=f"{asked.name}, {display_name(name)}",
            # Prompts are left out of the archive, not of each of its files.
            choices=replace(asked.choices, without=()),
            limits=replace(asked.limits, max_total_bytes=share) if format.packed else asked.limits,
        )
        content = b""
        try:
            if not (content := members.read(name)):
                raise PromptFileError("{name}: the file is empty. Remove it.", name=inner.name)
            reading = format.read(content, inner)
        except PromptFileError as error:
            # The number of prompts is unknown, but at most the number of separators.
            num_rows += content.count(b"\n") + content.count(b",")
            found.faults[name] = str(error)
            if isinstance(error, BrokenItemsError):
                found.num_salvable += error.num_good
        else:
            num_rows += len(reading.entries)
            num_bytes += text_bytes(text for e in reading.entries for text in (e.text, e.label))
            (found.doubtful if reading.doubt else found.read)[name] = reading
        asked.bound(num_rows, "rows")
        check_memory(num_bytes, asked.name, asked.limits)
    return found


def _settle_faults(found: _Found, asked: Asked) -> list[Note]:
    """Raise the faults of all files together, or note which files were skipped."""
    if not found.faults:
        return []
    num_good = found.num_salvable + sum(len(r.entries) for r in found.read.values())
    if asked.choices.skip_broken and num_good:
        left_out = _listed([*found.faults])
        return [noted("Left out {files}, which cannot be read.", files=left_out)]
    message = joined([*found.faults.values()], "\n")
    raise BrokenItemsError(message, num_good) if num_good else PromptFileError(message)


def _settle_doubts(found: _Found, notes: list[Note]) -> str:
    """Skip files that do not look like prompts; if all look so, use them and express the doubt."""
    if not found.doubtful:
        return ""
    if found.read:
        left_out = _listed([*found.doubtful])
        notes.append(noted("Left out {files}: not likely to be prompts.", files=left_out))
        return ""
    found.read = found.doubtful
    name, reading = next(iter(found.doubtful.items()))
    return _note_on(name, reading.doubt)


def _note_on(name: str, note: str) -> Note:
    return noted("{name}: {note}", name=display_name(name), note=note)


def _listed(names: Sequence[str]) -> str:
    return quoted([display_name(name) for name in names]) if names else ""


def _suffix(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).suffix.lower()


def _hidden(name: str) -> bool:
    """Return whether a file is an operating system's metadata."""
    parts = name.replace("\\", "/").split("/")
    # For each `a.txt`, macOS packs its attributes as `__MACOSX/._a.txt`.
    return "__MACOSX" in parts or any(part.startswith(".") for part in parts)
