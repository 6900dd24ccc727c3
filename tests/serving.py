"""Serves the app in this process, or waits for one that was started in another."""

import itertools
import os
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

# Before Gradio is imported: it reads this once.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import httpx
import pytest
from gradio.blocks import Block

from dnd_engine.limits import PromptLimits, ServerLimits
from dnd_engine.training.watch import RunFolder
from tests.until import until
from ui.build import build_ui
from ui.engine_handle import EngineHandle
from ui.owner import Owner
from ui.serve import launch_options, trusted_proxies


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
    with _building():
        demo = build_ui(handle, limits, owner, runs, server)
    if start:
        handle.start()
    options = {
        # Not that of an earlier server: a client of it that still runs would come back to this one.
        "server_port": free_port(),
        **launch_options(limits, owner, server=server, mcp=mcp),
        **launch,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORWARDED_ALLOW_IPS", trusted_proxies())  # as `dnd serve` does
        _, url, _ = demo.launch(
            server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, **options
        )
    try:
        yield url.rstrip("/")
    finally:
        demo.close(verbose=False)


@contextmanager
def _building() -> Iterator[None]:
    """Let only this thread add to the page that it builds.

    Gradio keeps that page in a global variable, and HTML in an event's update is a container, which
    joins it: an earlier server may still answer a page of its own.
    """
    builder = threading.get_ident()
    render: Callable[[Block], Block] = Block.render

    def own(block: Block) -> Block:
        return render(block) if threading.get_ident() == builder else block

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Block, "render", own)
        yield


def fetch(url: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
    """Return the app's answer; on a busy machine it may take longer than httpx waits by itself."""
    return httpx.get(url, headers=headers, timeout=120)


def until_healthy(url: str, server: subprocess.Popen[Any], said: Path | None = None) -> None:
    """Wait until a serving engine's `/health` answers; fail with its last words if it ends."""

    def is_ready() -> bool:
        last = said.read_text()[-3000:] if said is not None else "the server ended"
        assert server.poll() is None, last
        with suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=30) as answer:
            return bool(answer.status == 200)
        return False

    until(is_ready, 600)


_PORTS = itertools.count(int(os.environ.get("GRADIO_SERVER_PORT", "7860")) + 100)
"""After those that Gradio tries."""


def free_port() -> int:
    """Return a port that nothing listens on, and that nobody takes before the caller does."""
    for port in _PORTS:
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port
    raise AssertionError("all ports are taken")


def fetch_page(url: str, app: subprocess.Popen[Any]) -> str:
    """The page, as soon as it is served; the app's own words if it ends before."""
    pages: list[str] = []

    def is_served() -> bool:
        if app.poll() is not None:
            raise AssertionError(app.stdout.read() if app.stdout else f"exit {app.returncode}")
        with suppress(OSError), urllib.request.urlopen(url, timeout=30) as response:
            pages.append(response.read().decode())
        return bool(pages)

    until(is_served, 600)
    return pages[0]
