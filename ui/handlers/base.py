"""What the handlers of all parts share."""

import hashlib
import json
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from dnd_engine.config import PromptLimits
from dnd_engine.errors import DndError, LibraryError
from dnd_engine.library import Library
from dnd_engine.prompts.buckets import Bucket
from dnd_engine.training.watch import RunFolder
from ui.canvas import Arrangement
from ui.engine_handle import EngineHandle
from ui.engine_thread import TICK_SECONDS
from ui.markup import TIMES, esc, sentence
from ui.panels.adapter_bar import adapter_html
from ui.panels.compare import View, pane_html
from ui.panels.header import progress_words
from ui.spaces import is_forwarded
from ui.state import Made, Session, SessionFiles
from ui.text import _, count_files, count_prompts

if TYPE_CHECKING:
    from dnd_engine.engine import Engine

__all__ = [
    "HandlerBase",
    "Updates",
    "broke",
    "fingerprint",
    "told",
    "used_words",
    "without_name",
]

Updates = dict[str, Any]
"""Slot name -> new value."""


class HandlerBase:
    """What handlers work with.

    Args:
        handle: Of the engine, ready or not.
        limits: What files may amount to.
        files: Where visits keep their files.
        cache: Gradio's cache, whose files a canvas may name.
        own: The library of this computer's user; None on a server for others, where each visit has
            one of its own.
        runs: Folders of runs to watch.
    """

    def __init__(
        self,
        handle: EngineHandle,
        limits: PromptLimits,
        files: SessionFiles,
        cache: Path,
        own: Library | None = None,
        runs: Sequence[RunFolder] = (),
    ) -> None:
        self._handle = handle
        self._limits = limits
        self._files = files
        self._cache = cache
        self._own = own
        self._runs = runs
        self._ticking = handle.thread.ticking

    def _buckets(self, arrangement: Arrangement, session: Session) -> list[Bucket]:
        """Return the buckets with the files that could be read."""
        return [
            Bucket(
                bucket.name,
                bucket.weight,
                tuple(
                    reading.file
                    for card in bucket.cards
                    if (reading := session.readings.get(card.id)) and reading.file is not None
                ),
            )
            for bucket in arrangement.buckets
        ]

    def _facts(self, session: Session) -> str:
        made = session.made
        assert made is not None
        stale = bool(session.arrangement and made.made_from) and (
            session.arrangement != made.made_from
        )
        num_files = sum(len(bucket.files) for bucket in made.buckets)
        return adapter_html(made.adapter, made.norms, stale=stale, num_files=num_files)

    def _panes(self, session: Session) -> Updates:
        engine = self._handle.engine
        base_name = engine.info.base_id.rpartition("/")[2] if engine else ""
        made, beside = session.made, session.beside
        view = View(
            names=(beside.adapter.name if beside else base_name, made.adapter.name if made else ""),
            beside=beside,
            made=made,
            differences=session.differences,
            blind=session.blind,
        )
        return {
            "left_pane": pane_html(session.turns, "left", view),
            "right_pane": pane_html(session.turns, "right", view),
        }

    def _library(self, session: Session, request: gr.Request) -> Library:
        """The user's own library, or the one that ends with the visit."""
        if self._is_own(request):
            assert self._own is not None
            return self._own
        session.folder = self._files.folder(request.session_hash or "")
        return Library(session.folder / "library")

    def _is_own(self, request: gr.Request) -> bool:
        """Whether the visitor is this computer's user, whose library and login are theirs."""
        return self._own is not None and not is_forwarded(request.headers)

    def _note(self, made: Made, **found: Any) -> None:
        """Write what became of an adapter to its entry, if it is kept; see `Library.update`."""
        if made.kept is None:
            return
        try:
            if made.kept.entry is not None:
                made.kept.library.update(made.kept.key, **found)
        except LibraryError as error:
            gr.Warning(esc(error))

    def _label(self, made: Made | None) -> str:
        """Name who answers: hash and strength of an adapter, or hash of the base.

        In English: what is shown comes from `panels.compare.label_words`.
        """
        if made is not None:
            return f"{made.adapter.sha256[:8]} {TIMES} {made.adapter.strength:.2f}"
        engine = self._handle.engine
        return f"base {engine.info.base_sha256[:6]}" if engine else "base"

    def _until_ready(self) -> Iterator[str]:
        """Wait for the engine, telling how far it is.

        Raises:
            DndError: What the load failed with.
        """
        self._handle.start()
        while self._handle.wait(TICK_SECONDS) is None:
            yield progress_words(self._handle.snapshot())

    def _ready_engine(self) -> "Engine":
        engine = self._handle.engine
        if engine is None:
            raise DndError(_("The engine is not loaded."))
        return engine


def told(steps: Generator[Any, None, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what a generator of the engine yields and returns, as pairs that can be pickled."""
    try:
        while True:
            try:
                yield "progress", next(steps)
            except StopIteration as done:
                yield "result", done.value
                return
    finally:
        steps.close()


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
    """Name what lies on a canvas, to see whether it changed; order within a bucket is nothing."""
    what = [
        (bucket.name, bucket.weight, sorted((f.sha256, f.split) for f in bucket.files))
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
