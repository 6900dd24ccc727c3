"""What `docs/pipeline.md` promises: its commands run in order, as printed but for their size."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from dnd_engine.cli import app
from tests.serving import fetch_page, free_port

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[1]

SMALLER = {
    "tasks make": "--operations 12 --train 40 --test 2",
    "tasks check": "",
    "collect": "",
    "train": "--steps 1",
    "evaluate": "--limit-items 1 --modes bare",
    "serve": "",
}
"""What is added to each command of the page to make it small; of an option given twice, the last
counts."""

RECIPES: dict[str, dict[str, Any]] = {
    "tiny.yaml": {"tasks_per_step": 2, "examples_per_task": 2, "validation_tasks": 2},
    "collect-tiny.yaml": {"steps": 2, "num_snapshots": 1, "validation_examples": 1},
}
"""What is changed in the recipes that the page names."""


def commands() -> Iterator[tuple[str, list[str]]]:
    """Each command of the page: its name, and its arguments at the smaller size."""
    page = (ROOT / "docs" / "pipeline.md").read_text(encoding="utf-8")
    for block in re.findall(r"^```bash\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            program, *arguments = shlex.split(line)
            assert program == "dnd", f"`{line}` cannot be tested: {program} is not ours"
            name = " ".join(arguments[:2] if arguments[0] == "tasks" else arguments[:1])
            assert name in SMALLER, f"`{line}` is not tested: add `dnd {name}` to SMALLER"
            yield name, [*arguments, *shlex.split(SMALLER[name])]


def test_the_commands_of_the_pipeline_page_run_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipes = tmp_path / "assets" / "recipes"
    recipes.mkdir(parents=True)
    for file, changes in RECIPES.items():
        shipped = yaml.safe_load((ROOT / "assets" / "recipes" / file).read_text(encoding="utf-8"))
        (recipes / file).write_text(yaml.safe_dump({**shipped, **changes}), encoding="utf-8")
    done = []
    for name, arguments in commands():
        if name == "serve":
            assert_it_serves(arguments)
        else:
            result = CliRunner().invoke(app, arguments)
            assert result.exit_code == 0, f"{arguments}: {result.output} {result.exception!r}"
        done.append(name)
    assert set(done) == set(SMALLER)

    report = json.loads(Path("work/report/report.json").read_text(encoding="utf-8"))
    asked = next(a for name, a in commands() if name == "evaluate")
    rows = asked[asked.index("--rows") + 1].split(",")
    tasks = {row["row"]: row["n_tasks"] for row in report["rows"] if not row["holdout"]}
    assert tasks == dict.fromkeys(rows, 3), "every row has every kind of holdout"
    assert Path("work/generator/generator/reports/heldout.json").is_file()


def assert_it_serves(arguments: list[str]) -> None:
    port = free_port()
    served = subprocess.Popen(
        [sys.executable, "-m", "dnd_engine.cli", *arguments, "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert "Drag-and-Drop LLMs" in fetch_page(f"http://127.0.0.1:{port}/", served)
    finally:
        served.terminate()
        served.wait(timeout=20)
