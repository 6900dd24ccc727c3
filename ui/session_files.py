"""The files of visits on disk: a folder for each, what it takes, and when it goes.

Knows nothing of what a visit is: `ui.visits` says which page shows which.
"""

import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dnd_engine.lora.adapter import Adapter

PROMPTS = "prompts-"
"""Prefix of the names of a visit's own copies of prompt files."""
LABELLED = "labelled"
"""Name of the rows to measure on, among what a visit has read."""
_ADAPTER = "adapter-"
"""Prefix of the names of folders with a visit's zips and exports of one adapter."""
_KEY_CHARS = 16
"""Characters of an adapter's key in such a name."""
_EARLIER = 1
"""Number of earlier files to keep beside a new one."""
_NEW_SECONDS = 600
"""Age until which the files of an unknown adapter are kept."""


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0  # its visit ended meanwhile


def file_stem(name: str) -> str:
    """Return an adapter's name, which may be anything, as the name of a file or download."""
    safe = "".join(c if c.isalnum() and c.isascii() else "-" for c in name).strip("-")
    return safe[:40] or "adapter"


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0  # its visit ended meanwhile


class SessionFiles:
    """A folder for each visit, inside Gradio's cache, removed when the visit ends.

    Gradio serves files of its cache to anybody who knows their path, so the folder's name is
    secret: it is derived from a value that only the browser knows and a key of this process.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._key = secrets.token_bytes(16)
        self._visit_of: Callable[[str], str] = lambda session_hash: session_hash
        self._held: dict[Path, dict[str, int]] = {}
        """Memory of what was read, by folder and name."""
        self._sizes: dict[Path, int] = {}
        """Size of each visit's folder when it was last measured."""
        # Uploads are in folders named by a hash.
        roots = "|".join({re.escape(str(path)) for path in (root, root.resolve())})
        self._inside = re.compile(rf"(?:{roots})(?:[\\/](?:visit-)?[0-9a-f]+)?[\\/]?")

    def resolve_with(self, visit_of: Callable[[str], str]) -> None:
        """Go by visits from now on.

        `visit_of` returns the key of the visit that a page shows, and returns anything else as it
        is: the key itself, or the id of an adapter of the API, which belongs to no visit.
        """
        self._visit_of = visit_of

    def folder(self, session_hash: str) -> Path:
        """Return the folder of a page's visit, created on first use."""
        folder = self._path(session_hash)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def archive(
        self, adapter: "Adapter", session_hash: str, key: str = "", kind: str = "zip"
    ) -> Path:
        """Return the path for the zip of an adapter, or for an export of another kind.

        `key` is the `Made.key` of a visit's adapter; empty for one of the API. Its files of one
        kind, at any strength, share a folder, so that `supersede` and `tidy` find them.
        """
        folder = self.folder(session_hash)
        if key:
            folder /= f"{_ADAPTER}{key[:_KEY_CHARS]}-{kind}"
            folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{file_stem(adapter.name)}-{adapter.sha256[:8]}.zip"

    def supersede(self, newest: Path, pattern: str = "*") -> None:
        """Remove earlier files beside a new one, except the last: it may be about to be downloaded.

        `pattern` matches the names of the files that it replaces.
        """
        earlier = [file for file in newest.parent.glob(pattern) if file.is_file()]
        earlier = sorted((f for f in earlier if f != newest), key=_changed, reverse=True)
        for file in earlier[_EARLIER:]:
            # Windows refuses this while the file is downloaded; then the next one removes it.
            with suppress(OSError):
                file.unlink()

    def tidy(self, session_hash: str, keys: Collection[str]) -> None:
        """Remove the files of adapters that a visit no longer has; `keys` are of those it has."""
        kept, now = {key[:_KEY_CHARS] for key in keys}, time.time()
        for folder in self._path(session_hash).glob(f"{_ADAPTER}*"):
            key = folder.name.removeprefix(_ADAPTER).partition("-")[0]
            # A new one may belong to an adapter that another event is about to put on the shelf.
            if key not in kept and now - _changed(folder) > _NEW_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)

    def measure(self, session_hash: str) -> int:
        """Return the size of all files of a visit, and note it for `measured_bytes`."""
        folder = self._path(session_hash)
        # Not `rglob`, which fails if a folder goes while it looks.
        size = sum(_size(Path(at) / name) for at, _, names in os.walk(folder) for name in names)
        self._sizes[folder] = size
        return size

    def expect(self, session_hash: str, num_bytes: int) -> None:
        """Count files that a visit is about to write, until it is measured again."""
        folder = self._path(session_hash)
        self._sizes[folder] = self._sizes.get(folder, 0) + num_bytes

    def measured_bytes(self, session_hash: str | None = None) -> int:
        """Return the size of one visit's files, or of all, as last measured or expected.

        Reading all folders at each write would take longer than most writes.
        """
        if session_hash is not None:
            return self._sizes.get(self._path(session_hash), 0)
        for folder in list(self._sizes):
            # Some folders go with their visit without a word to this class.
            if not folder.is_dir():
                self._sizes.pop(folder, None)
        return sum(list(self._sizes.values()))

    def hold(self, session_hash: str, name: str, num_bytes: int) -> None:
        """Count what the prompts of a file take in memory, if that is more than on disk."""
        self._held.setdefault(self._path(session_hash), {})[name] = num_bytes
        # A visit may also remove its own folder.
        for folder in [folder for folder in list(self._held) if not folder.is_dir()]:
            self._held.pop(folder, None)

    def redacted(self, words: str) -> str:
        """Return a message without the folders in it, whose names are secret."""
        return self._inside.sub(lambda found: "" if found[0][-1] in "\\/" else "…", words)

    def reading_bytes(self, session_hash: str | None = None) -> int:
        """Return what the prompt files read by one visit, or by all, take on disk or in memory."""
        if session_hash is not None:
            return self._reading_bytes(self._path(session_hash))
        return sum(map(self._reading_bytes, self.root.glob("visit-*")))

    def _reading_bytes(self, folder: Path) -> int:
        # On disk, so that copies kept for Undo count even if they cannot be read.
        sizes = {file.name: _size(file) for file in folder.glob(f"{PROMPTS}*")}
        held = dict(self._held.get(folder, {}))
        return sum(max(sizes.get(name, 0), held.get(name, 0)) for name in sizes.keys() | held)

    def remove(self, session_hash: str) -> None:
        """Remove all files of the visit."""
        folder = self._path(session_hash)
        self._held.pop(folder, None)
        shutil.rmtree(folder, ignore_errors=True)

    def _path(self, session_hash: str) -> Path:
        visit = self._visit_of(session_hash)
        # Keyed, or whoever sees a session's hash could find its files.
        digest = hashlib.blake2b(visit.encode(), key=self._key, digest_size=16)
        return self.root / f"visit-{digest.hexdigest()}"
