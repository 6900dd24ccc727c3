"""The twin chat: one question, one batch, two answers."""

import threading
import time
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr

from dnd_engine.config import Sampling
from dnd_engine.errors import DndError
from ui import text
from ui.handlers.base import TICK_SECONDS, HandlerBase, Updates
from ui.panels.header import progress_words
from ui.spaces import gpu
from ui.state import Session, Turn

if TYPE_CHECKING:
    from dnd_engine.adapter import Adapter

__all__ = ["ChatHandlers"]

_STREAM_SECONDS = 0.06
"""Least time between two redraws of a stream: the eye sees no more, and each costs a message."""


class ChatHandlers(HandlerBase):
    """Events of the chat."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._chat_steps = gpu(self._chat_steps_here)

    def ask(self, question: str, session: Session) -> Updates:
        """Take a question: show it on both sides at once, before the queue."""
        question = question.strip()
        if not question:
            return {}
        if session.turns and not session.turns[-1].finished:
            return {}  # one at a time; the words stay in the box
        made = session.made
        turn = Turn(question, waiting="…")
        if made is not None:
            turn.adapter = made.adapter
            turn.label = f"{made.adapter.sha256[:8]} {text.TIMES} {made.adapter.strength:.2f}"
        session.turns.append(turn)
        session.stop_chat = threading.Event()
        return {
            "box": "",
            "send": gr.Button(visible=False),
            "stop_chat": gr.Button(visible=True),
            **self._panes(session),
        }

    def answer(
        self,
        session: Session,
        system: str | None,
        max_tokens: float,
        temperature: float,
        top_p: float,
        top_k: float,
        penalty: float,
        seed: float,
        context: bool,
    ) -> Iterator[Updates]:
        """Stream both answers to the last question."""
        stop = session.stop_chat
        turn = session.turns[-1] if session.turns else None
        if turn is None or stop is None or turn.finished:
            return
        try:
            while self._handle.wait(2 * TICK_SECONDS) is None:
                if stop.is_set():
                    break
                self._handle.start()
                turn.waiting = progress_words(self._handle.snapshot())
                yield self._panes(session)
            if not stop.is_set():
                sampling = Sampling(
                    max_new_tokens=int(max_tokens),
                    temperature=float(temperature),
                    top_p=float(top_p),
                    top_k=int(top_k),
                    repetition_penalty=float(penalty),
                    seed=int(seed or 0),
                )
                turn.base_label = f"base {self._ready_engine().info.base_sha256[:6]}"
                base, adapted = _messages(session.turns, system or "", context)
                for _ in self._stream(turn, base, adapted, sampling, stop):
                    yield self._panes(session)
        except DndError as error:
            turn.error = str(error)
        turn.stopped = turn.stopped or not turn.finished
        yield {**self._panes(session), **_chat_idle()}

    def _stream(
        self,
        turn: Turn,
        base: list[dict[str, str]],
        adapted: list[dict[str, str]],
        sampling: Sampling,
        stop: threading.Event,
    ) -> Iterator[None]:
        steps = self._chat_steps(base, adapted, turn.adapter, sampling)
        shown = 0.0
        try:
            for step in steps:
                turn.base, turn.adapted = step.base, step.adapted
                if stop.is_set():
                    return
                if (now := time.monotonic()) - shown >= _STREAM_SECONDS:
                    shown = now
                    yield None
        finally:
            steps.close()

    def _chat_steps_here(
        self,
        base: list[dict[str, str]],
        adapted: list[dict[str, str]],
        adapter: "Adapter | None",
        sampling: Sampling,
    ) -> Generator[Any, None, None]:
        yield from self._ready_engine().chat(
            base, adapted if adapter is not None else None, adapter=adapter, sampling=sampling
        )

    def stop_chat(self, session: Session) -> Updates:
        """Stop at the next token; the words so far stay."""
        if session.stop_chat is not None:
            session.stop_chat.set()
        if session.turns and not session.turns[-1].finished:
            session.turns[-1].stopped = True
        return {**self._panes(session), **_chat_idle()}

    def clear_chat(self, session: Session) -> Updates:
        """Forget the conversation."""
        if session.stop_chat is not None:
            session.stop_chat.set()
        session.turns = []
        return {**self._panes(session), **_chat_idle()}

    def chat_broke(self, session: Session) -> Updates:
        """Put the buttons back after an error nobody foresaw."""
        if session.turns and not session.turns[-1].finished:
            session.turns[-1].error = text.BROKE
        return {**self._panes(session), **_chat_idle()}

    def suggest(self, index: int, session: Session) -> Updates:
        """Put a suggested question in the box."""
        if index >= len(session.suggestions):
            return {}
        return {"box": session.suggestions[index]}


def _messages(
    turns: Sequence[Turn], system: str, context: bool
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Build what each side is sent: with context, its own earlier answers."""
    start = [{"role": "system", "content": system.strip()}] if system.strip() else []
    base, adapted = list(start), list(start)
    for turn in turns[:-1] if context else ():
        for messages, reply in ((base, turn.base), (adapted, turn.adapted)):
            if reply is not None and reply.text:
                messages.append({"role": "user", "content": turn.question})
                messages.append({"role": "assistant", "content": reply.text})
    for messages in (base, adapted):
        messages.append({"role": "user", "content": turns[-1].question})
    return base, adapted


def _chat_idle() -> Updates:
    return {"send": gr.Button(visible=True), "stop_chat": gr.Button(visible=False)}
