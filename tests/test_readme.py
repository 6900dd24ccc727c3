"""What the README promises: its Python runs as printed, and the app starts as on a Space."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving import fetch_page, free_port

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
    assert adapted.strip() == "SELECT COUNT(*) FROM films WHERE year = 2003"
    assert "SELECT" not in base
    assert (tmp_path / "sql.zip").is_file()


def test_the_app_tells_how_it_is_set_and_refuses_options() -> None:
    """It has no options, and --help once started the server."""

    def start(option: str) -> subprocess.CompletedProcess[str]:
        run = [sys.executable, "app.py", option]
        return subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)

    told = start("--help")
    assert told.returncode == 0, told.stderr
    assert "GRADIO_SERVER_PORT" in told.stdout
    assert "dnd serve --help" in told.stdout
    refused = start("--port=80")
    assert refused.returncode == 2
    assert "unrecognized arguments: --port=80" in refused.stderr


@pytest.mark.slow
def test_the_app_says_what_is_wrong_with_a_setting() -> None:
    done = subprocess.run(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env={**os.environ, "DND_AUTH": "me:short"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Error: `--auth` or `DND_AUTH`: expected USER:PASSWORD")


@pytest.mark.real
def test_the_app_starts_where_a_space_expects_it(tmp_path: Path) -> None:
    port = free_port()
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
        assert "Drag-and-Drop LLMs" in fetch_page(f"http://127.0.0.2:{port}/", app)
    finally:
        app.terminate()
        app.wait(timeout=300)
