"""What the README promises: its Python runs as printed, and the app starts as on a Space."""

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.real
def test_the_readme_python_runs_as_printed(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    base, adapted = done.stdout.rsplit(" | ", 1)
    assert base.strip()
    assert adapted.strip()
    assert (tmp_path / "sql.zip").is_file()


@pytest.mark.real
def test_the_app_starts_where_a_space_expects_it(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    space = {"SPACE_ID": "someone/drag-and-drop-llms", "GRADIO_SERVER_PORT": str(port)}
    app = subprocess.Popen(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env={**os.environ, **space},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        # 127.0.0.2 answers only if the app listens on all addresses, as a Space's proxy needs it.
        assert "Drag-and-Drop LLMs" in _fetch(f"http://127.0.0.2:{port}/", app)
    finally:
        app.terminate()
        app.wait(timeout=20)


def _fetch(url: str, app: subprocess.Popen[str]) -> str:
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
