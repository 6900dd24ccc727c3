"""Settings of Gradio's queue that have no public name. Nothing else touches its private parts."""

from typing import Any

import gradio as gr

__all__ = ["QUEUE_SETTINGS", "calm_queue"]

QUEUE_SETTINGS: dict[str, Any] = {
    # Gradio looks for work a thousand times a second, and each look holds up the engine's thread:
    # a token took 9 % longer.
    "sleep_when_free": 0.01,
    # Nothing here sends `gr.Progress`.
    "progress_update_sleep_when_free": 1.0,
    # After every event it sums all of them up with pandas, for a page that is not served here.
    "ANAYLTICS_CACHE_FREQUENCY": 1_000_000,  # as Gradio spells it
}


def calm_queue(demo: gr.Blocks) -> None:
    """Have the queue look less often for what is rare here; call it after `demo.queue`.

    A setting that this version of Gradio does not have is left out: it saves time and changes
    nothing else. `tests/ui/test_gradio_private.py` says when one is gone or has a public name.
    """
    queue = demo._queue
    for name, value in QUEUE_SETTINGS.items():
        if hasattr(queue, name):
            setattr(queue, name, value)
