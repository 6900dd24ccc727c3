"""What `docs/api.md` promises: each of its examples runs as printed, but for the app's address."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.serving import serving
from ui.engine_handle import EngineHandle

if TYPE_CHECKING:
    from dnd_engine.engine import Engine

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("few_questions")]

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def url(real_engine: "Engine") -> Iterator[str]:
    with serving(EngineHandle(lambda on_progress: real_engine), mcp=True) as address:
        yield address


PATIENT = """
import functools, gradio_client
gradio_client.Client = functools.partial(gradio_client.Client, httpx_kwargs={"timeout": 900})
"""
"""Has the client wait longer for a reply than httpx's five seconds: a busy machine is no fault."""


def examples(kind: str) -> list[str]:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^```python ?(\w*)\n", page, flags=re.MULTILINE)) == {
        "engine",
        "client",
        "mcp",
    }
    return re.findall(rf"^```python {kind}\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)


def run(code: str, folder: Path) -> str:
    (folder / "assets").symlink_to(ROOT / "assets")
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "GRADIO_TEMP_DIR": str(folder / "gradio")},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_engine_example_runs_as_printed(
    resident: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (code,) = examples("engine")
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    monkeypatch.chdir(tmp_path)
    exec(code, {})  # the page's own lines
    assert "got no bucket" in capsys.readouterr().out
    assert (tmp_path / "sql.zip").is_file()


@pytest.mark.parametrize(("number", "told"), [(0, "SQL"), (1, "weight between -2 and 2, got 3")])
def test_the_client_examples_run_as_printed(
    url: str, tmp_path: Path, number: int, told: str
) -> None:
    code = PATIENT + examples("client")[number]
    assert told.lower() in run(code.replace("http://127.0.0.1:7860", url), tmp_path).lower()


def test_the_mcp_example_runs_as_printed(url: str, tmp_path: Path) -> None:
    (code,) = examples("mcp")
    shown = run(code.replace("http://127.0.0.1:7860", url), tmp_path)
    assert shown.startswith("['make_adapter', 'chat', 'inspect', 'list_adapters', 'download']")
    assert " | " in shown
