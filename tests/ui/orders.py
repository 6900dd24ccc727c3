"""Orders, carried out as the page has them: the work step by step, then what is shown of it."""

from collections.abc import Iterable, Iterator
from functools import reduce
from operator import or_
from typing import Any

import gradio as gr

from ui.canvas import Arrangement
from ui.handlers import Handlers
from ui.shared import Updates
from ui.state import Session

SAMPLING = ("", 64, 0.0, 0, 1.0, 0, 1.0, False)
"""As the chat's handlers take it: greedy, 64 tokens at most."""


def last(updates: Iterator[Updates]) -> Updates:
    return list(updates)[-1]


def sent(updates: Iterable[Updates]) -> Updates:
    """Return what the page holds after all of them."""
    return reduce(or_, updates, {})


def make(
    on: Handlers, session: Session, arrangement: Arrangement, request: gr.Request, mix: Any = "pool"
) -> Updates:
    """Lay files on the canvas and make an adapter of them."""
    on.prompts.update_prompts(arrangement, session, request)
    on.synthesis.begin_synthesis(arrangement, session)
    return synthesized(on, session, request, mix)


def synthesized(on: Handlers, session: Session, request: gr.Request, mix: Any = "pool") -> Updates:
    """Carry out the synthesis that was ordered."""
    list(on.synthesis.synthesize(session, mix, 0, request))
    return on.runs.show_run(session)


def visitor(session_hash: str = "chat") -> gr.Request:
    return gr.Request(session_hash=session_hash)


def chat(on: Handlers, session: Session, question: str, *settings: Any) -> Updates:
    """Ask and answer."""
    on.compare.ask(question, "written", session)
    return answered(on, session, visitor(), settings or SAMPLING)


def drawn(stream: Iterator[Updates]) -> Updates:
    """Wait for the next step that draws something."""
    return next(updates for updates in stream if updates)


def answered(
    on: Handlers, session: Session, request: gr.Request, settings: Any = SAMPLING
) -> Updates:
    """Answer what was asked."""
    return {**last(on.compare.answer(session, *settings)), **on.compare.answered(session, request)}
