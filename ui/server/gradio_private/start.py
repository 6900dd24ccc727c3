"""What Gradio does when a page is built, its queue made and its server started."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any
from unittest import mock

import gradio as gr
from gradio.routes import App

QUEUE_SETTINGS: dict[str, Any] = {
    # By default Gradio polls for work a thousand times a second, which delays the engine's thread:
    # a token took 9 % longer.
    "sleep_when_free": 0.01,
    # `gr.Progress` is not used here.
    "progress_update_sleep_when_free": 1.0,
    # After every event Gradio aggregates all of them with pandas, for a page that is closed here.
    "ANAYLTICS_CACHE_FREQUENCY": 1_000_000,  # Gradio's spelling
}

_BUILDING = Lock()


@contextmanager
def one_app() -> Iterator[None]:
    """Build a page within it, to spare it the apps that `launch` replaces.

    Gradio makes one when the blocks end and one with each queue, with all routes, as if each were
    served. No other thread may launch a page meanwhile.
    """
    # Of two patches at once, the first would be restored last, and stay.
    with _BUILDING, mock.patch.object(App, "create_app", return_value=None):
        yield


def calm_queue(demo: gr.Blocks) -> None:
    """Make the queue poll less often; call it after `demo.queue`.

    Settings that this version of Gradio lacks are skipped: they only save time.
    `tests/ui/test_gradio_private.py` fails when one is gone or has a public name.
    """
    queue = demo._queue
    for name, value in QUEUE_SETTINGS.items():
        if hasattr(queue, name):
            setattr(queue, name, value)


def launch_settings() -> dict[str, Any]:
    """Return the private argument of `launch`, if this version of Gradio has it.

    `tests/ui/test_gradio_private.py` fails when it is gone.
    """
    # Gradio requests its own page once at launch, and fails if that takes more than three seconds,
    # as it may on a busy machine.
    is_known = "_frontend" in inspect.signature(gr.Blocks.launch).parameters
    return {"_frontend": False} if is_known else {}
