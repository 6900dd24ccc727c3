"""The library: adapters stored on disk with name, recipe, checks, votes and scores.

Each adapter has a folder named by a random key, so that a user's name never becomes a path. The
folder holds the PEFT files at strength 1, and `entry.json` with the rest. Changes are atomic and
hold a lock that all processes share. A damaged entry is listed with the reason and does not hide
the others. This module loads no model and imports no torch.
"""

import json
import os
import re
import secrets
import shutil
import time
import unicodedata
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from datetime import MAXYEAR, MINYEAR, UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from filelock import FileLock, Timeout
from pydantic import NonNegativeInt, TypeAdapter, ValidationError

from dnd_engine.config import check_strength
from dnd_engine.errors import ConfigError, LibraryError, RecipeError
from dnd_engine.files import (
    move,
    obstacle,
    remove_leftovers,
    user_folder,
    write_whole,
    written_aside,
)
from dnd_engine.limits import FIXED
from dnd_engine.lora.changes import AnsweredBy, ChangedBy, answered_by, changed_by
from dnd_engine.lora.provenance import NearestTask, Recipe, read_recipe
from dnd_engine.measure.kept import Scores
from dnd_engine.notes import first_of, noted
from dnd_engine.prompts.files import PromptFile
from dnd_engine.prompts.words import one_line, shorten
from dnd_engine.recipe_file import checked_late, validation_words

if TYPE_CHECKING:
    from dnd_engine.lora.adapter import Adapter

FORMAT: Final = 1
"""Format version of `entry.json`."""
KEEP_DAYS = 30
"""Days for which a deleted adapter can be restored."""
_PATIENCE = 30.0
"""Seconds to wait for another process. No change takes even one second."""
_KEY = re.compile(r"[0-9a-f]{12}")
_ENTRY, _TEXTS = "entry.json", "recipe.json"
_CONFIG, _WEIGHTS, _PROVENANCE = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "provenance.json",
)


@checked_late
@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """The contents of `entry.json`: what the PEFT files of an adapter do not contain."""

    # A later version's entry is listed as damaged instead of being misread.
    format: Literal[1] = FORMAT
    name: str
    created: datetime
    imported: bool = False
    """Whether it was imported from a file."""
    sha256: str
    """SHA-256 of its weights at strength 1."""
    strength: float = 1.0
    num_prompts: NonNegativeInt = 0
    kept_energy: float | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    nearest_tasks: list[NearestTask] = field(default_factory=list)
    checks: dict[str, Any] = field(default_factory=dict)
    """Results of its checks; see `checks.registry.as_checks`."""
    votes: dict[str, int] = field(default_factory=dict)
    scores: dict[str, Scores] = field(default_factory=dict)
    """Scores by the name of the file of labelled rows."""


_RECORD = TypeAdapter(_Record)
_UNLISTED = {"format", "teaching", "kept_energy", "seconds", "nearest_tasks"}
"""Fields of an entry that a list leaves out; `Library.load` hands those of its record to the
adapter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry(_Record):
    """An adapter in the library, without its weights: its record, and what its PEFT files say."""

    key: str
    """The name of its folder. It never changes."""
    base: str
    r: int
    num_bytes: int
    """Size of its weights."""
    recipe: Recipe | None
    """How to recreate it at its strength; None if unknown. It contains prompt texts only if the
    user chose to keep them."""
    trained: AnsweredBy | None
    """Whose answers it was trained on, if it was. If so, it has no recipe."""
    teaching: Mapping[str, Any] = field(default_factory=dict)
    """Sections of its provenance on teaching; see `lora.changes.taught_score`."""

    @property
    def changed_by(self) -> ChangedBy | None:
        """How it was changed after generation; None if it was not."""
        imprinted = self.recipe is not None and self.recipe.imprint is not None
        return changed_by({**self.teaching, **({"imprint": True} if imprinted else {})})

    @property
    def buckets(self) -> list[tuple[str, float, int]]:
        """Name, weight and number of prompts of each bucket in its recipe."""
        return (
            [(b.name, b.weight, b.num_prompts) for b in self.recipe.buckets] if self.recipe else []
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON, without prompt texts."""
        entry = replace(self, recipe=self.recipe and self.recipe.without_texts())
        values: dict[str, Any] = _LISTED.dump_python(entry, mode="json", exclude=_UNLISTED)
        return values


_LISTED = TypeAdapter(Entry)


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryName:
    """An adapter in the library by name alone, small enough to hold for a long time."""

    key: str
    name: str
    sha256: str
    """SHA-256 of its weights at strength 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedEntry:
    """A library folder that cannot be read. You can delete it by its key."""

    key: str
    reason: str
    created: datetime
    """When the folder last changed."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"key": self.key, "damaged": self.reason, "created": self.created.isoformat()}


def check_name(name: str) -> str:
    """Clean a name to one line and return it.

    Raises:
        LibraryError: If it is empty, too long, or looks like a path or an option.
    """
    cleaned = one_line(name)
    if not cleaned:
        raise LibraryError(noted("an adapter needs a name. Type one."))
    if (
        len(cleaned) > FIXED.max_name_chars
        or cleaned[0] in ".-~"
        or any(char in "/\\:" for char in cleaned)
    ):
        raise LibraryError(
            "`{name}` is not a valid name for an adapter: expected 1 to {most} characters without "
            "`/`, `\\` and `:`, not beginning with `.`, `-` or `~`.",
            name=shorten(cleaned, 80),
            most=FIXED.max_name_chars,
        )
    return cleaned


def _folded(name: str) -> str:
    """Return what names that look the same have in common: `é` has two spellings in Unicode."""
    return unicodedata.normalize("NFC", name).casefold()


class Library:
    """A folder of adapters. Any number of objects and processes may share it.

    Methods identify an adapter by its name, ignoring case, or by its key. They raise a
    `LibraryError` if there is no such adapter, it is damaged, a new name is taken or invalid, a
    strength is out of bounds, or the folder cannot be read or written to.

    Args:
        root: The folder, created on the first write. None selects the user's own library.
    """

    def __init__(self, root: Path | str | None = None) -> None:
        self.root = user_folder("library") if root is None else Path(root)
        self._kept, self._trash = self.root / "entries", self.root / "trash"

    def entries(self) -> "list[Entry | DamagedEntry]":
        """Return all adapters, newest first."""
        # Reading takes no lock: entries appear and change by one rename each.
        return _read_all(self._kept)

    def entry_names(self) -> list[EntryName]:
        """Return the names of all adapters, newest first, without reading recipes.

        An adapter is included even if files other than `entry.json` are damaged.
        """
        found: list[tuple[datetime, EntryName]] = []
        for folder in _folders(self._kept):
            # `entries` gives the reason.
            with suppress(LibraryError):
                record = _read_record(folder)
                one = EntryName(key=folder.name, name=record.name, sha256=record.sha256)
                found.append((record.created, one))
        found.sort(key=lambda dated: (dated[0], dated[1].key), reverse=True)
        return [one for _created, one in found]

    def deleted(self) -> "list[Entry | DamagedEntry]":
        """Return the adapters that `undo` can restore, last deleted first."""
        found = _read_all(self._trash)
        return sorted(found, key=lambda e: _deleted_at(self._trash / e.key), reverse=True)

    def get(self, name: str) -> Entry:
        """Find an adapter."""
        found = self._find(name)
        if isinstance(found, DamagedEntry):
            raise LibraryError(
                "the adapter `{key}` in the library is damaged: {reason} Remove it with `dnd "
                "library delete {key}`.",
                key=found.key,
                reason=found.reason,
            )
        return found

    def path(self, name: str) -> Path:
        """Return the PEFT folder of an adapter at strength 1. Do not write to it."""
        return self._kept / self.get(name).key

    def load(self, name: str, read: "Callable[[Path], Adapter]") -> "Adapter":
        """Load an adapter at its stored strength.

        `Engine.read_adapter` as `read` checks the files against the loaded base, and may raise an
        `AdapterError` or a `BaseMismatchError`.
        """
        entry = self.get(name)
        # The digest is checked only here, because a list would have to read all weights.
        adapter = read(self._kept / entry.key)
        if adapter.sha256 != entry.sha256:
            raise LibraryError(
                "the weights of `{adapter}` in the library were changed: SHA-256 {found}…, "
                "expected {expected}…. Import it again, or delete it.",
                adapter=entry.name,
                found=adapter.sha256[:12],
                expected=entry.sha256[:12],
            )
        return replace(
            adapter,
            name=entry.name,
            strength=entry.strength,
            num_prompts=entry.num_prompts,
            seconds=entry.seconds,
            nearest_tasks=tuple(entry.nearest_tasks),
            checks=entry.checks,
            kept_energy=entry.kept_energy,
        )

    def add(
        self,
        adapter: "Adapter",
        name: str | None = None,
        *,
        texts: Iterable[PromptFile] = (),
        imported: bool = False,
    ) -> Entry:
        """Add an adapter.

        Args:
            adapter: A generated adapter, or one read from a file.
            name: None uses the adapter's own name, with a number if it is taken.
            texts: The prompt files it was made from, to store their texts as well. Without them,
                only names, hashes and counts are stored.
            imported: Whether it was imported from a file.

        Raises:
            RecipeError: If the adapter was not made from `texts`.
        """
        # Store it at strength 1: scaling folded weights again would add rounding errors.
        plain = adapter.with_strength(1.0)
        files = plain.files()
        if texts := tuple(texts):
            recipe = plain.recipe.with_texts(texts)
            files[_TEXTS] = (json.dumps(recipe.to_json(), ensure_ascii=False) + "\n").encode()
        record = _Record(
            name=_own_name(adapter.name) if name is None else check_name(name),
            created=datetime.now(UTC),
            imported=imported,
            sha256=plain.sha256,
            strength=adapter.strength,
            num_prompts=adapter.num_prompts,
            kept_energy=adapter.kept_energy,
            seconds=dict(adapter.seconds),
            nearest_tasks=list(adapter.nearest_tasks),
            checks=dict(adapter.checks),
        )
        # The weights are serialised by now, because others wait for this lock.
        with self._changing():
            if name is None:
                record = replace(record, name=self._free_name(record.name))
            self._refuse_taken(record.name)

            def write(folder: Path) -> None:
                folder.mkdir()
                for file, data in files.items():
                    (folder / file).write_bytes(data)

            return self._enter(record, write)

    def check_place(self) -> None:
        """Check that adapters can be kept. Call this before making one for the library."""
        if (reason := obstacle(self._kept / "entry")) is not None:
            raise LibraryError(
                "the library `{folder}` cannot be changed: {reason}. Choose another folder.",
                folder=str(self.root),
                reason=reason,
            )

    def check_free(self, name: str) -> str:
        """Clean a new name and return it. Call this before making an adapter for it."""
        name = check_name(name)
        self._refuse_taken(name)
        return name

    def rename(self, name: str, new_name: str) -> Entry:
        """Rename an adapter."""
        new_name = check_name(new_name)
        with self._changing():
            entry = self.get(name)
            # Its own name is free to it: a change of case alone is a change.
            self._refuse_taken(new_name, but=entry.key)
            return self._change(entry.key, name=new_name)

    def duplicate(self, name: str, new_name: str | None = None) -> Entry:
        """Copy an adapter with its checks, votes and scores."""
        chosen = None if new_name is None else check_name(new_name)
        with self._changing():
            entry = self.get(name)
            chosen = chosen or self._free_name(entry.name)
            self._refuse_taken(chosen)
            source = self._kept / entry.key
            record = replace(_read_record(source), name=chosen, created=datetime.now(UTC))
            return self._enter(record, lambda folder: shutil.copytree(source, folder))

    def update(
        self,
        name: str,
        *,
        strength: float | None = None,
        checks: Mapping[str, Any] | None = None,
        votes: Mapping[str, int] | None = None,
        scores: Mapping[str, Scores] | None = None,
    ) -> Entry:
        """Update what the library knows about an adapter.

        Args:
            name: Name or key.
            strength: Replaces its strength.
            checks: Replace its checks.
            votes: Counts to add, so that processes do not overwrite each other's votes. Negative
                counts take votes back.
            scores: Scores to add, by file of labelled rows. They replace those of a file with the
                same name.
        """
        if strength is not None and not -10 <= strength <= 10:
            raise LibraryError(f"`strength` must be between -10 and 10, got {strength}.")
        with self._changing():
            # Read under the lock, or votes that another process adds meanwhile would be lost.
            entry = self.get(name)
            counts = Counter(entry.votes)
            counts.update(votes or {})
            return self._change(
                entry.key,
                strength=entry.strength if strength is None else float(strength),
                checks=dict(entry.checks if checks is None else checks),
                votes={option: max(0, count) for option, count in counts.items()},
                scores={**entry.scores, **(scores or {})},
            )

    def delete(self, name: str) -> "Entry | DamagedEntry":
        """Move an adapter to the trash, even a damaged one; `undo` restores it.

        This also removes adapters that were deleted more than `KEEP_DAYS` days ago.
        """
        with self._changing():
            found = self._find(name)
            # Set the time before the move: if the process is killed in between, the adapter must
            # not look as if it was deleted long ago.
            os.utime(self._kept / found.key, follow_symlinks=False)
            move(self._kept / found.key, self._trash / found.key)
            oldest = time.time() - KEEP_DAYS * 86_400
            # Files and links too: what does not belong here must not make every deletion fail.
            for old in list(self._trash.iterdir()):
                if _deleted_at(old) < oldest:
                    _remove(old)
            return found

    def undo(self, key: str | None = None) -> "Entry | DamagedEntry":
        """Restore the adapter that was deleted last, or the one with a key.

        Its name gets a number if it has been taken since.
        """
        with self._changing():
            found = [e for e in self.deleted() if key in (None, e.key)]
            if not found and key:
                raise LibraryError(
                    "nothing to restore: no adapter was deleted in the last {days} days with the "
                    "key `{key}`.",
                    days=KEEP_DAYS,
                    key=key,
                )
            if not found:
                raise LibraryError(
                    "nothing to restore: no adapter was deleted in the last {days} days.",
                    days=KEEP_DAYS,
                )
            back = found[0]
            if isinstance(back, Entry):
                free = self._free_name(back.name)
                record = replace(_read_record(self._trash / back.key), name=free)
                # Renamed while still in the trash, because another entry may have its name by now.
                _write_record(self._trash / back.key, record)
                back = replace(back, name=free)
            move(self._trash / back.key, self._kept / back.key)
            return back

    def empty_trash(self) -> int:
        """Remove all deleted adapters permanently and return their number."""
        with self._changing():
            found = self.deleted()
            if self._trash.exists():
                shutil.rmtree(self._trash)
            return len(found)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Hold the lock and turn disk errors into messages."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            # A new lock object each time: threads exclude each other too, so changes must not nest.
            with FileLock(self.root / ".lock", timeout=_PATIENCE):
                yield
        except Timeout as error:
            raise LibraryError(
                "the library `{folder}` is in use by another process for over {seconds:.0f} "
                "seconds. Try again.",
                folder=str(self.root),
                seconds=_PATIENCE,
            ) from error
        except OSError as error:
            reason = error.strerror or str(error)
            if isinstance(error, shutil.Error) and isinstance(error.args[0], list):
                # `copytree` lists source, target and reason of each file.
                reason = str(error.args[0][0][-1]).partition(": ")[0]
            raise LibraryError(
                "the library `{folder}` cannot be changed: {reason}. Free some space, or choose "
                "another folder.",
                folder=str(self.root),
                reason=reason,
            ) from error

    def _find(self, name: str) -> "Entry | DamagedEntry":
        entries = self.entries()
        wanted = _folded(one_line(name))
        # Keys first: the page passes keys, and another adapter's name may look like one.
        for entry in entries:
            if entry.key == wanted:
                return entry
        for entry in entries:
            if isinstance(entry, Entry) and _folded(entry.name) == wanted:
                return entry
        names = [e.name for e in entries if isinstance(e, Entry)]
        about = {
            "adapter": shorten(one_line(name), 80),
            "folder": str(self.root),
            "known": first_of(names, 8) if names else noted("none"),
        }
        if damaged := len(entries) - len(names):
            # Whose names nobody knows, so it may be one of them.
            raise LibraryError(
                "no adapter `{adapter}` in the library `{folder}`; it holds {known}. Others in it "
                "are damaged ({damaged}); `dnd library list` shows all.",
                **about,
                damaged=damaged,
            )
        raise LibraryError(
            "no adapter `{adapter}` in the library `{folder}`; it holds {known}.", **about
        )

    def _names(self) -> dict[str, str]:
        """Map names, as they are compared, to keys."""
        return {_folded(e.name): e.key for e in self.entries() if isinstance(e, Entry)}

    def _refuse_taken(self, name: str, but: str | None = None) -> None:
        if self._names().get(_folded(name), but) != but:
            raise LibraryError(
                "the library has an adapter `{adapter}`. Choose another name, or rename that one.",
                adapter=name,
            )

    def _free_name(self, name: str) -> str:
        """Return the name, with the first free number if it is taken."""
        taken = self._names()
        if _folded(name) not in taken:
            return name
        # Room for a dash and four digits.
        stem = re.sub(r"-\d{1,4}$", "", name)[: FIXED.max_name_chars - 5]
        # One more than there are names, so that one of them is free.
        numbers = (f"{stem}-{number}" for number in range(2, len(taken) + 3))
        return next(numbered for numbered in numbers if _folded(numbered) not in taken)

    def _enter(self, record: _Record, write: Callable[[Path], object]) -> Entry:
        """Write a new entry atomically."""
        self._kept.mkdir(exist_ok=True)
        key = secrets.token_hex(6)
        remove_leftovers(self.root)  # safe, because we hold the lock
        with written_aside(self._kept / key, inside=self.root) as folder:
            write(folder)
            _write_record(folder, record)
            _read(folder)  # what cannot be read back is not entered
        return _read(self._kept / key)

    def _change(self, key: str, **changes: Any) -> Entry:
        folder = self._kept / key
        _write_record(folder, replace(_read_record(folder), **changes))
        return _read(folder)


def _read_all(place: Path) -> "list[Entry | DamagedEntry]":
    found: list[Entry | DamagedEntry] = []
    for folder in _folders(place):
        try:
            found.append(_read(folder))
        except LibraryError as error:
            if folder.is_dir():  # otherwise another process has just deleted it
                changed = datetime.fromtimestamp(_deleted_at(folder), UTC)
                found.append(DamagedEntry(key=folder.name, reason=str(error), created=changed))
    return sorted(found, key=lambda entry: (entry.created, entry.key), reverse=True)


def _folders(place: Path) -> list[Path]:
    try:
        # Until somebody writes to a library, the folders above may be missing, too.
        folders = [] if _is_missing(place) else list(place.iterdir())
    except OSError as error:
        raise LibraryError(
            "the library `{folder}` cannot be read: {reason}. Name another folder.",
            folder=str(place),
            reason=error.strerror or str(error),
        ) from error
    # Anything else is not an adapter of the library.
    return [folder for folder in folders if _KEY.fullmatch(folder.name)]


def _is_missing(place: Path) -> bool:
    """Return whether a folder was never made, and not that something else is in its place."""
    return not place.exists() and (place.parent.is_dir() or not place.parent.exists())


def _read(folder: Path) -> Entry:
    """Read an entry without its weights; raise a `LibraryError` if it is damaged."""
    record = _read_record(folder)
    config = _read_object(folder / _CONFIG)
    base, r = config.get("base_model_name_or_path"), config.get("r")
    origin = _read_object(folder / _PROVENANCE)
    if not isinstance(base, str) or type(r) is not int:  # True is an int, too
        raise LibraryError(f"`{_CONFIG}` names no base or no rank.")
    try:
        num_bytes = (folder / _WEIGHTS).stat().st_size
    except OSError as error:
        raise LibraryError(f"`{_WEIGHTS}`: {error.strerror or error}.") from error
    return Entry(
        **{each.name: getattr(record, each.name) for each in fields(record)},
        key=folder.name,
        base=base,
        r=r,
        num_bytes=num_bytes,
        recipe=_read_recipe(folder, record, origin),
        trained=answered_by(origin["trained"]) if "trained" in origin else None,
        teaching={name: origin[name] for name in ("trained", "refined") if name in origin},
    )


def _read_recipe(folder: Path, record: _Record, origin: Mapping[str, Any]) -> Recipe | None:
    with_texts = (folder / _TEXTS).exists()
    try:
        # The provenance of a trained one would recreate the adapter that it began from.
        if "trained" in origin or (not with_texts and "format" not in origin):
            return None  # trained on answers, or made by another tool
        recipe = read_recipe(folder / (_TEXTS if with_texts else _PROVENANCE))
    except RecipeError as error:
        raise LibraryError(str(error)) from error
    # Files of two adapters may have been mixed by hand.
    if recipe.sha256 != record.sha256:
        raise LibraryError("its recipe belongs to another adapter.")
    if record.strength == 1:
        return recipe
    # The digest is that of the weights at strength 1.
    return replace(recipe, strength=record.strength, sha256=None)


def _remove(path: Path) -> None:
    """Remove a file, folder or link, but never the target of a link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _read_record(folder: Path) -> _Record:
    # A link could make this read, change and delete what is outside of the library.
    if folder.is_symlink():
        raise LibraryError("it is a link, which the library does not follow.")
    try:
        # Editors on Windows put a mark before the text.
        record = _RECORD.validate_json((folder / _ENTRY).read_bytes().removeprefix(BOM_UTF8))
        # The file may have been edited, and names become file names in exports.
        check_name(record.name)
        check_strength(record.strength)
    except ConfigError as error:
        raise LibraryError(f"`{_ENTRY}`: {error}") from error
    except OSError as error:
        raise LibraryError(f"`{_ENTRY}`: {error.strerror or error}.") from error
    except ValidationError as error:
        raise LibraryError(f"`{_ENTRY}`: {validation_words(error)}.") from error
    # Entries are sorted by it, and times with and without a zone cannot be compared.
    if record.created.tzinfo is None:
        raise LibraryError(f"`{_ENTRY}`: `created` has no time zone.")
    # Another time zone could be in a year that has no date.
    if not MINYEAR < record.created.year < MAXYEAR:
        raise LibraryError(f"`{_ENTRY}`: `created` is in the year {record.created.year}.")
    return record


def _write_record(folder: Path, record: _Record) -> None:
    values = _RECORD.dump_python(record, mode="json")
    write_whole(folder / _ENTRY, json.dumps(values, indent=1, ensure_ascii=False) + "\n")


def _read_object(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except OSError as error:
        raise LibraryError(f"`{path.name}`: {error.strerror or error}.") from error
    # JSON that is nested too deep is a RecursionError.
    except (ValueError, RecursionError) as error:
        raise LibraryError(f"`{path.name}` is not JSON: {error}.") from error
    if not isinstance(values, dict):
        raise LibraryError(f"`{path.name}` must be an object.")
    return values


def _deleted_at(folder: Path) -> float:
    """Return when a folder was last touched; 0 if it is gone."""
    try:
        # `delete` sets it. Not `stat`: a damaged entry may be a broken link.
        return folder.lstat().st_mtime
    except OSError:
        return 0.0


def _own_name(name: str) -> str:
    """Turn an adapter's own name, which may be anything, into a valid one."""
    cleaned = re.sub(r"[/\\:]+", "-", one_line(name)).lstrip(".-~ ")[: FIXED.max_name_chars].strip()
    return cleaned or "adapter"
