"""Serves the app in this process, or waits for one that was started in another."""

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

# Before Gradio is imported: it reads this once.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

from dnd_engine.config import PromptLimits
from dnd_engine.limits import ServerLimits
from dnd_engine.training.watch import RunFolder
from ui.build import build_ui
from ui.engine_handle import EngineHandle
from ui.owner import Owner
from ui.serve import launch_options

__all__ = ["fetch_page", "free_port", "serving"]


@contextmanager
def serving(
    handle: EngineHandle,
    *,
    start: bool = True,
    mcp: bool = False,
    owner: Owner | None = None,
    runs: Sequence[RunFolder] = (),
    server: ServerLimits | None = None,
    **launch: Any,
) -> Iterator[str]:
    """Serve the app at the address that comes back."""
    limits = PromptLimits()
    demo = build_ui(handle, limits, owner, runs, server)
    if start:
        handle.start()
    options = {**launch_options(limits, owner, server=server, mcp=mcp), **launch}
    _, url, _ = demo.launch(
        server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, **options
    )
    try:
        yield url.rstrip("/")
    finally:
        demo.close(verbose=False)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def fetch_page(url: str, app: subprocess.Popen[Any], seconds: float = 120) -> str:
    """The page, as soon as it is served; the app's own words if it ends before."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if app.poll() is not None:
            raise AssertionError(app.stdout.read() if app.stdout else f"exit {app.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                text: str = response.read().decode()
                return text
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"no page at {url}")
