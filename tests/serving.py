"""Waits for the app, in whatever way it was started."""

import socket
import subprocess
import time
import urllib.request

__all__ = ["fetch_page", "free_port"]


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def fetch_page(url: str, app: subprocess.Popen[str]) -> str:
    """The page, as soon as it is served; the app's own words if it ends before."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if app.poll() is not None:
            raise AssertionError(app.stdout.read() if app.stdout else "")
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                text: str = response.read().decode()
                return text
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"no page at {url}")
