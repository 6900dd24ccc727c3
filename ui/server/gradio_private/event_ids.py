"""Events by their number or id: unknown ones, and whether the caller of one has left."""

from collections.abc import Callable
from typing import Any

import gradio as gr
from gradio.context import LocalContext
from gradio.route_utils import FnIndexInferError

from ui.server.visitors import mcp_client_left


class UnknownEventError(KeyError):
    """A call refers to an event by an unknown number."""


UNKNOWN_EVENT = (UnknownEventError, FnIndexInferError)
"""Exceptions of Gradio's routes for calls of unknown events."""


class _Events(dict[Any, Any]):
    def __missing__(self, key: Any) -> Any:
        raise UnknownEventError(key)


def name_unknown_events(demo: gr.Blocks) -> None:
    """Make calls of unknown events raise `UNKNOWN_EVENT`.

    Gradio raises a plain KeyError, which could have any cause.
    """
    demo.default_config.fns = _Events(demo.default_config.fns)


def caller_left() -> Callable[[], bool]:
    """Return a function that tells whether the caller of the current event has disconnected.

    Gradio stops a generator whose page was closed, but not a plain function.
    """
    blocks, event_id = LocalContext.blocks.get(None), LocalContext.event_id.get(None)
    if blocks is None or event_id is None:
        return lambda: False  # called directly, without the queue
    events = blocks._queue.event_ids_to_events

    def left() -> bool:
        event = events.get(event_id)
        return event is None or not event.alive or mcp_client_left(event.request)

    return left
