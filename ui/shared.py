"""What the handlers of all parts share."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from dnd_engine.config import PromptLimits
from dnd_engine.errors import LibraryError
from dnd_engine.library import Library
from dnd_engine.limits import ServerLimits
from dnd_engine.prompts.buckets import Bucket
from dnd_engine.training.watch import RunFolder
from ui.engine_calls import EngineCalls
from ui.line import Line
from ui.markup import TIMES, esc, sentence
from ui.owner import Owner
from ui.state import Made, Session, SessionFiles
from ui.text import _, count_files, count_prompts
from ui.visits import Visits

__all__ = [
    "App",
    "Updates",
    "broke",
    "fingerprint",
    "locked_words",
    "note",
    "used_words",
    "without_name",
]

Updates = dict[str, Any]
"""Slot name -> new value."""


@dataclass(frozen=True, slots=True)
class App:
    """What the handlers of all parts work with."""

    calls: EngineCalls
    limits: PromptLimits
    """What prompt files may amount to."""
    files: SessionFiles
    """Where visits keep their files."""
    cache: Path
    """Gradio's cache, whose files a canvas may name."""
    own: Owner | None = None
    """This computer's user, with their library; None on a server for others, where each visit has a
    library of its own."""
    runs: Sequence[RunFolder] = ()
    """Folders of runs to watch."""
    server: ServerLimits = field(default_factory=ServerLimits)
    """What visitors may take."""
    line: Line = field(default_factory=Line)
    """The runs that wait for each other."""
    visits: Visits = field(init=False)
    """The visits, by the keys that their browsers hold."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "visits", Visits(self.files, self.server))

    def is_own(self, request: gr.Request) -> bool:
        """Whether the visitor is this computer's user, whose library and login are theirs."""
        return self.own is not None and self.own.owns(request.headers)

    def is_locked_out(self, request: gr.Request) -> bool:
        """Whether there is an owner's library that this visitor did not open with its key."""
        return self.own is not None and not self.own.owns(request.headers)

    def library(self, session: Session, request: gr.Request) -> Library:
        """Return the user's own library, or the one that ends with the visit."""
        if self.own is not None and self.own.owns(request.headers):
            return self.own.library
        session.folder = self.files.folder(request.session_hash or "")
        return Library(session.folder / "library")

    def label(self, made: Made | None) -> str:
        """Name who answers: hash and strength of an adapter, or hash of the base.

        In English: what is shown comes from `tabs.workbench.compare.view.label_words`.
        """
        if made is not None:
            return f"{made.adapter.sha256[:8]} {TIMES} {made.adapter.strength:.2f}"
        engine = self.calls.engine
        return f"base {engine.info.base_sha256[:6]}" if engine else "base"


def note(made: Made, **found: Any) -> None:
    """Write what became of an adapter to its entry, if it is kept; see `Library.update`."""
    if made.kept is None:
        return
    try:
        if made.kept.entry is not None:
            made.kept.library.update(made.kept.key, **found)
    except LibraryError as error:
        gr.Warning(esc(error))


def locked_words() -> str:
    """Say why the owner's library and login are closed, and what opens them."""
    return _(
        "Opened without its key, this page has a library that ends with the visit. "
        "The owner of this computer opens theirs with the address that the app printed when it "
        "started."
    )


def broke() -> str:
    """Tell of an error nobody foresaw."""
    return _("Something broke that should not have. The app's log has the details; try again.")


def used_words(buckets: Sequence[Bucket], num_unused: int) -> str:
    """Say what Synthesize would use, and that some files are left out."""
    files = count_files(sum(len(bucket.files) for bucket in buckets))
    used = f"{files}, {count_prompts(sum(bucket.num_prompts for bucket in buckets))}"
    if num_unused:
        used = _("{used}; {files} not used", used=used, files=count_files(num_unused))
    return used


def fingerprint(buckets: Sequence[Bucket]) -> str:
    """Name what is on a canvas, to see whether it changed; order within a bucket is nothing."""
    what = [
        (
            bucket.name,
            bucket.weight,
            sorted((f.sha256, f.split, repr(f.choices)) for f in bucket.files),
            bucket.instruction,
        )
        for bucket in buckets
        if bucket.files and bucket.weight != 0
    ]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def without_name(message: str, name: str) -> str:
    """Drop the file's name from its faults: what is drawn beside them shows it."""
    lines = []
    for line in message.split("\n"):
        bare = line.removeprefix(f"{name}: ").removeprefix(f"{name}, ")
        lines.append(sentence(bare))
    return "\n".join(lines)
