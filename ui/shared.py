"""Objects and functions that all handlers share."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from dnd_engine.errors import DndError, LibraryError
from dnd_engine.library import Library
from dnd_engine.limits import PromptLimits, ServerLimits
from dnd_engine.prompts.buckets import Bucket
from dnd_engine.training.watch import RunFolder
from ui.engine_calls import EngineCalls
from ui.faults import public_words
from ui.line import Line
from ui.markup import TIMES, esc, sentence
from ui.owner import Owner
from ui.session_files import SessionFiles
from ui.state import Made, Session
from ui.text import _, count_files, count_prompts, drawn, note_words
from ui.visits import Visits

Updates = dict[str, Any]
"""Slot name -> new value."""


@dataclass(slots=True, eq=False)
class App:
    """Objects that all handlers use."""

    calls: EngineCalls
    limits: PromptLimits
    files: SessionFiles
    cache: Path
    """Gradio's cache; a canvas may only refer to its files."""
    own: Owner | None = None
    """This computer's user with their library; None on a server for others, where each visit has a
    library of its own."""
    runs: Sequence[RunFolder] = ()
    """Run folders that visitors may watch."""
    server: ServerLimits = field(default_factory=ServerLimits)
    line: Line = field(default_factory=Line)
    visits: Visits = field(init=False)
    """Visits by the keys stored in browsers."""

    def __post_init__(self) -> None:
        self.visits = Visits(self.files, self.server)

    def is_own(self, request: gr.Request) -> bool:
        """Return whether the visitor is this computer's user, who may use library and login."""
        return self.own is not None and self.own.owns(request.headers)

    def is_locked_out(self, request: gr.Request) -> bool:
        """Return whether there is an owner's library that this visitor has not opened."""
        return self.own is not None and not self.own.owns(request.headers)

    def library(self, session: Session, request: gr.Request) -> Library:
        """Return the user's own library, or the visit's temporary one."""
        if self.own is not None and self.own.owns(request.headers):
            return self.own.library
        # The visit must know its folder, so that the folder is removed with the visit.
        session.folder = self.files.folder(request.session_hash or "")
        return Library(session.folder / "library")

    def error_words(self, session: Session, error: DndError, doing: str) -> str:
        """Return an error's message for the page of a visit; see `ui.faults.public_words`."""
        # To the owner, the folder and the advice are of use.
        if session.own:
            return drawn(note_words, str(error))
        return public_words(error, doing, self.files.redacted)

    def note(self, session: Session, made: Made, **found: Any) -> None:
        """Store new results in an adapter's library entry, if it has one; see `Library.update`."""
        if made.kept is None:
            return
        try:
            # It may have been deleted since, which is no error.
            if made.kept.entry is not None:
                made.kept.library.update(made.kept.key, **found)
        except LibraryError as error:
            words = self.error_words(session, error, "note")
            gr.Warning(esc(words), title=_("Not noted in the library."))

    def label(self, made: Made | None) -> str:
        """Return the label of a model: hash and strength of an adapter, or hash of the base.

        In English; `tabs.workbench.compare.view.label_words` translates it.
        """
        if made is not None:
            return f"{made.adapter.sha256[:8]} {TIMES} {made.adapter.strength:.2f}"
        engine = self.calls.engine
        return f"base {engine.info.base_sha256[:6]}" if engine else "base"


def locked_words() -> str:
    """Say why the owner's library, login and models are closed, and how to open them."""
    return _(
        "Opened without its key, this page has a library that ends with the visit, and cannot "
        "change the models. The owner of this computer opens theirs with the address that the app "
        "printed when it started."
    )


def broke() -> str:
    """Return the message for an unexpected error."""
    return _("Something broke that should not have. The app's log has the details; try again.")


def used_words(buckets: Sequence[Bucket], num_unused: int) -> str:
    """Describe what Synthesize would use, and that some files are left out."""
    files = count_files(sum(len(bucket.files) for bucket in buckets))
    # Count by file, as the canvas does, and say how many are repeated.
    num_prompts = sum(len(file.prompts) for bucket in buckets for file in bucket.files)
    used = f"{files}, {count_prompts(num_prompts)}"
    if repeated := num_prompts - sum(bucket.num_prompts for bucket in buckets):
        used = _("{used}, {repeated} of them repeated", used=used, repeated=repeated)
    if num_unused:
        used = _("{used}; {files} not used", used=used, files=count_files(num_unused))
    return used


def fingerprint(buckets: Sequence[Bucket]) -> str:
    """Identify the contents of a canvas, to detect changes; order within a bucket is ignored."""
    what = [
        (
            bucket.name,
            bucket.weight,
            # One file read with other options gives other prompts.
            sorted((f.sha256, f.split, repr(f.choices)) for f in bucket.files),
            bucket.instruction,
        )
        for bucket in buckets
        # Empty and muted buckets do not change the adapter.
        if bucket.files and bucket.weight != 0
    ]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def file_faults(error: DndError, name: str) -> str:
    """Return a file's faults without its name: the card beside them shows it."""
    return drawn(_without_name, str(error), name)


def _without_name(message: str, name: str) -> str:
    lines = []
    for line in note_words(message).split("\n"):
        bare = line.removeprefix(f"{name}: ").removeprefix(f"{name}, ")
        lines.append(sentence(bare))
    return "\n".join(lines)
