"""What the handlers of all parts share."""

import hashlib
import json
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dnd_engine.buckets import Bucket
from dnd_engine.config import PromptLimits
from dnd_engine.errors import DndError
from ui.canvas import Arrangement
from ui.engine_handle import EngineHandle
from ui.panels.adapter_bar import adapter_html
from ui.panels.compare import View, pane_html
from ui.state import Session, SessionFiles
from ui.text import Text

if TYPE_CHECKING:
    from dnd_engine.engine import Engine

__all__ = [
    "TICK_SECONDS",
    "HandlerBase",
    "Updates",
    "bare",
    "cut",
    "fingerprint",
    "told",
    "used_words",
]

Updates = dict[str, Any]
"""Slot name -> new value."""

TICK_SECONDS = 0.15
"""How often a running clock is redrawn."""


class HandlerBase:
    """What handlers work with.

    Args:
        text: The words of the page.
        handle: Of the engine, ready or not.
        limits: What files may amount to.
        files: Where visits keep their files.
        cache: Gradio's cache, whose files a canvas may name.
    """

    def __init__(
        self,
        text: Text,
        handle: EngineHandle,
        limits: PromptLimits,
        files: SessionFiles,
        cache: Path,
    ) -> None:
        self._text = text
        self._handle = handle
        self._limits = limits
        self._files = files
        self._cache = cache

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
        stale = bool(session.arrangement) and session.arrangement != made.made_from
        num_files = sum(len(bucket.files) for bucket in made.buckets)
        return adapter_html(self._text, made.adapter, made.norms, stale=stale, num_files=num_files)

    def _panes(self, session: Session) -> Updates:
        engine = self._handle.engine
        base_name = engine.info.base_id.rpartition("/")[2] if engine else ""
        made, beside = session.made, session.beside
        view = View(
            names=(beside.adapter.name if beside else base_name, made.adapter.name if made else ""),
            beside_adapter=beside is not None,
            has_adapter=made is not None,
            differences=session.differences,
            blind=session.blind,
        )
        return {
            "left_pane": pane_html(self._text, session.turns, "left", view),
            "right_pane": pane_html(self._text, session.turns, "right", view),
        }

    def _ready_engine(self) -> "Engine":
        engine = self._handle.engine
        if engine is None:
            raise DndError(self._text.NOT_LOADED)
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


def used_words(text: Text, buckets: Sequence[Bucket], num_unused: int) -> str:
    """Say what Synthesize would use, and that some files are left out."""
    files = text.count(sum(len(bucket.files) for bucket in buckets), "file")
    prompts = text.count(sum(bucket.num_prompts for bucket in buckets), "prompt")
    used = text.fill(text.USED, files=files, prompts=prompts)
    if num_unused:
        used = text.fill(text.USED_NOT, used=used, files=text.count(num_unused, "file"))
    return used


def fingerprint(buckets: Sequence[Bucket]) -> str:
    """Name what lies on a canvas, to see whether it changed; order within a bucket is nothing."""
    what = [
        (bucket.name, bucket.weight, sorted((f.sha256, f.split) for f in bucket.files))
        for bucket in buckets
        if bucket.files and bucket.weight != 0
    ]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def cut(words: str, limit: int) -> str:
    """Cut the end off a text that is longer than `limit` characters."""
    return words if len(words) <= limit else words[: limit - 1].rstrip() + "…"


def bare(prompt: str) -> str:
    """Return what follows the first blank line: the input without its instruction."""
    head, gap, rest = prompt.partition("\n\n")
    return rest.strip() if gap and rest.strip() else head
