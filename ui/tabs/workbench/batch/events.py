"""Events of the batch table: ask many inputs, draw answers as they come, export CSV."""

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import gradio as gr

from dnd_engine.errors import DndError
from dnd_engine.limits import FIXED
from ui.markup import error_notice, remark
from ui.shared import App, Updates, broke
from ui.state import AskMode, Batch, Place, Session
from ui.tabs.workbench.batch.view import batch_html, write_batch
from ui.tabs.workbench.compare.sent import sent
from ui.tabs.workbench.compare.settings import Settings
from ui.text import _, number, said

if TYPE_CHECKING:
    from dnd_engine.lora.adapter import Adapter
    from ui.engine_calls import Row

_TOGETHER = 8
"""Inputs per batch: fewer need less memory, and the first answers appear sooner."""


class BatchEvents:
    """Events of the table."""

    def __init__(self, app: App) -> None:
        self._app = app

    def begin(self, text: str, mode: AskMode, instruction: str | None, session: Session) -> Updates:
        """Accept the inputs, one per line, or show their faults; the typed text stays.

        Earlier answers stay until there are new ones: below what was refused, and with their file,
        which `answered` offers again.
        """
        # Also after Stop, until the answers that are being computed have ended.
        if session.batch is not None and session.batch.running:
            return {}
        inputs = tuple(line.strip() for line in text.splitlines() if line.strip())
        earlier, fault = _with_answers(session.batch), _fault(inputs)
        if not inputs or (fault and earlier is not None):
            refused = remark(_("Type or paste your inputs first, one per line."))
            if fault:
                refused = error_notice(said(fault))
            session.batch = earlier
            return {"batch_table": refused + batch_html(earlier), **_buttons(running=False)}
        # Taken now: the visitor may choose others, or move the slider, while the table fills.
        beside, made = session.beside, session.made
        left, right = (None if one is None else one.adapter for one in (beside, made))
        batch = Batch(
            inputs,
            mode,
            instruction or "",
            beside,
            made,
            (left, right),
            # Input by input: the left reply, and the right one if there are two models.
            [[None] * (1 + (made is not None)) for _number in inputs],
            error=fault,
            earlier=earlier,
        )
        batch.running = not batch.error
        session.batch = batch
        return {"batch_table": batch_html(batch), **_buttons(running=batch.running)}

    def answer(self, session: Session, *settings: Any) -> Iterator[Updates]:
        """Answer the inputs in batches, and draw the table as it fills; see `Settings.of`."""
        batch = session.batch
        if batch is None or not batch.running:
            return
        try:
            asking = Settings.of(*settings)
            for _state in self._app.calls.until_ready(batch.stop, ticks=2):
                yield {}
            for first in range(0, len(batch.inputs), _TOGETHER):
                if batch.stop.is_set():
                    break
                for is_new in self._some(batch, first, asking):
                    if is_new:
                        batch.earlier = None
                    yield {"batch_table": batch_html(batch)} if is_new else {}
        except DndError as error:
            yield _failed(session, batch, self._app.error_words(session, error, "batch"))
            return
        batch.running = False
        yield {"batch_table": batch_html(batch)}

    def answered(self, session: Session, request: gr.Request) -> Updates:
        """Restore the buttons, and offer the answers as a file."""
        batch = session.batch
        if batch is None or batch.running:
            return {}
        # An error may come after minutes of answers, which are kept as after Stop.
        if not batch.answered:
            return _buttons(running=False)
        folder = self._app.files.folder(request.session_hash or "")
        path = write_batch(batch, folder / "answers.csv")
        return {
            **_buttons(running=False),
            "batch_file": gr.DownloadButton(value=str(path), visible=True),
        }

    def put_back(self, session: Session, request: gr.Request) -> Updates:
        """Restore the table with its inputs and its file, and unfold it."""
        if session.batch is None:
            return {}
        offered = _buttons(running=session.batch.running)
        # As for the conversation: a full disk must not keep the visit from coming back.
        with suppress(OSError):
            offered = self.answered(session, request)
        return {
            "batch_box": gr.Accordion(open=True),
            "batch_table": batch_html(session.batch),
            "batch_inputs": "\n".join(session.batch.inputs),
            **offered,
        }

    def stop(self, session: Session) -> Updates:
        """Stop at the next token, keeping the answers so far."""
        if session.batch is not None:
            session.batch.stop.set()
        return {}

    def broke(self, session: Session) -> Updates:
        """Restore the buttons after an unexpected error."""
        if session.batch is None:
            return _buttons(running=False)
        return {**_failed(session, session.batch, broke()), **_buttons(running=False)}

    def _some(self, batch: Batch, first: int, asking: Settings) -> Iterator[bool]:
        """Answer one batch of inputs: all rows of the left model, then all of the right one."""
        numbers = range(first, min(first + _TOGETHER, len(batch.inputs)))
        left, right = batch.adapters
        sides: list[tuple[Place, Adapter | None]] = [("left", left)]
        if batch.compares:
            sides.append(("right", right))
        asked = [(place, adapter, n) for place, adapter in sides for n in numbers]
        rows: list[Row] = [
            (_messages(batch, n, place, asking.system), adapter) for place, adapter, n in asked
        ]
        for replies in self._app.calls.compare(rows, asking.sampling, None, batch.stop):
            if replies is not None:
                for (place, _adapter, n), reply in zip(asked, replies, strict=True):
                    # False is 0, the left one.
                    batch.replies[n][place == "right"] = reply
            yield replies is not None


def _messages(batch: Batch, number: int, place: Place, system: str) -> list[dict[str, str]]:
    words = sent(batch.inputs[number], batch.mode, place, batch.instruction)
    messages = [{"role": "system", "content": system}] if system else []
    return [*messages, {"role": "user", "content": words}]


def _fault(inputs: tuple[str, ...]) -> str:
    """Describe why these inputs cannot be asked; empty if they can."""
    if len(inputs) > FIXED.max_batch_inputs:
        return _(
            "{found} inputs: at most {most} can be asked at once. Remove some lines.",
            found=number(len(inputs)),
            most=FIXED.max_batch_inputs,
        )
    for index, given in enumerate(inputs, start=1):
        if len(given) > FIXED.max_batch_chars:
            return _(
                "Input {index} has {found} characters: at most {most} are read. Shorten it.",
                index=index,
                found=number(len(given)),
                most=number(FIXED.max_batch_chars),
            )
    return ""


def _with_answers(batch: Batch | None) -> Batch | None:
    """Return a table or else the one before it: the last with an answer, if there is one."""
    return batch if batch is None or batch.answered else batch.earlier


def _failed(session: Session, batch: Batch, error: str) -> Updates:
    """End a table with an error; one without any answer gives way to the table before."""
    batch.error, batch.running = error, False
    earlier = _with_answers(batch)
    if earlier is None or earlier is batch or session.batch is not batch:
        return {"batch_table": batch_html(batch)}
    session.batch = earlier
    return {"batch_table": error_notice(said(error)) + batch_html(earlier)}


def _buttons(*, running: bool) -> Updates:
    return {
        "batch_start": gr.Button(visible=not running),
        "batch_stop": gr.Button(visible=running),
        "batch_file": gr.DownloadButton(visible=False),
    }
