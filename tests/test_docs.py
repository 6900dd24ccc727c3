"""What README and docs promise: their commands run as printed, or say what they would need."""

import hashlib
import json
import re
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from dnd_engine.cli import app
from tests.dnd_engine.test_engine import LETTERS
from tests.dnd_engine.tiny import save_tiny
from tests.serving import fetch_page, free_port

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"),
        *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
    ]
)

FIRST = ("python3 -m venv .venv && .venv/bin/pip install -e . && ", "bash tests/run.sh")
"""Commands of the README that bring a reader to where these tests begin."""

SMALLER: dict[str, dict[str, str]] = {
    "README.md": {
        "generate": "",
        "chat": "--max-new-tokens 4",
        "inspect": "",
        "refine": "--steps 1",
        "export": "",
    },
    "docs/cost-at-scale.md": {"plan": ""},
    "docs/measure.md": {"generate": "", "measure": "--limit-items 3 --steps 1"},
    "docs/own-base.md": {
        "info": "",
        "generate": "",
        "chat": "--max-new-tokens 4",
        "inspect": "",
        "export": "",
    },
    "docs/serving.md": {"generate": "--no-imprint", "inspect": "", "publish": "", "export": ""},
    "docs/deploy.md": {"deploy": ""},
    "docs/own-tasks.md": {
        "tasks list": "",
        "tasks check": "",
        "tasks make": "--operations 12 --train 40 --test 2",
        "train": "--steps 1",
        "evaluate": "--limit-items 1 --modes bare --draws 1 --base my-base",
    },
    "docs/pipeline.md": {
        "tasks make": "--operations 12 --train 40 --test 2",
        "tasks check": "",
        "collect": "",
        "train": "--steps 1",
        "evaluate": "--limit-items 1 --modes bare --base my-base",
        "serve": "--base my-base",
    },
}
"""What is added to each command of a page to make it small; of an option given twice, the last
counts."""

RECIPES: dict[str, dict[str, Any]] = {
    "tiny.yaml": {
        "base": "my-base",
        "max_tokens": 480,
        "row_tokens": 960,
        "tasks_per_step": 2,
        "examples_per_task": 2,
        "validation_tasks": 2,
    },
    "collect-tiny.yaml": {
        "base": "my-base",
        "max_tokens": 480,
        "steps": 2,
        "num_snapshots": 1,
        "validation_examples": 1,
    },
}
"""What is changed in the recipes that the page names: a tiny base, whose tokens are bytes."""


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def commands(page: str) -> Iterator[tuple[str, list[str]]]:
    """Each command of a page: its name, and its arguments at the smaller size."""
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            program, *arguments = shlex.split(line, comments=True)
            assert program == "dnd", f"`{line}` cannot be tested: {program} is not ours"
            name = " ".join(arguments[:2] if arguments[0] == "tasks" else arguments[:1])
            assert name in SMALLER[page], f"`{line}` is not tested: add `dnd {name}` to SMALLER"
            yield name, [*arguments, *shlex.split(SMALLER[page][name])]


def run(page: str) -> None:
    """Run the commands of a page in order, in the folder of now."""
    done = set()
    for name, arguments in commands(page):
        if name == "serve":
            assert_it_serves(arguments)
        else:
            result = CliRunner().invoke(app, arguments)
            assert result.exit_code == 0, f"{arguments}: {result.output} {result.exception!r}"
        done.add(name)
    assert done == set(SMALLER[page])


@pytest.mark.parametrize("page", PAGES)
def test_a_command_runs_here_or_says_what_it_would_need(page: str) -> None:
    """`bash` blocks are run below; others begin with what they need and this place has not."""
    text = (ROOT / page).read_text(encoding="utf-8")
    languages = re.findall(r"^```(\w*).*\n.*?^```", text, flags=re.DOTALL | re.MULTILINE)
    assert set(languages) <= {"bash", "sh", "python", "json", "mermaid", ""}
    assert page in SMALLER or not blocks(page, "bash")
    for block in blocks(page, "sh"):
        said = re.match("# (Needs|Takes|Installs) ", block)
        assert said or block.startswith(FIRST), f"{page}: {block}"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            file, _, heading = target.partition("#")
            found = path.parent / file if file else path
            assert found.exists(), f"{page}: {target}"
            assert not heading or heading in anchors(found), f"{page}: {target}"


def test_the_readme_leads_to_every_page() -> None:
    listed = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## More\n")[2]
    assert {page for page in PAGES if page.startswith("docs/")} <= set(
        re.findall(r"\]\((docs/[\w-]+\.md)\)", listed)
    )


def anchors(page: Path) -> set[str]:
    """Name the headings of a page as GitHub links to them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.real
@pytest.mark.usefixtures("resident", "few_questions")
def test_the_commands_of_the_readme_run_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    Path("assets").symlink_to(ROOT / "assets")
    run("README.md")
    assert weights(Path("sql.zip")) != weights(Path("again.zip")) != weights(Path("refined.zip"))
    assert (
        json.loads(Path("sql.json").read_text())["sha256"]
        == hashlib.sha256(weights(Path("again.zip"))).hexdigest()
    )
    assert Path("sql-merged/model.safetensors").is_file()
    assert Path("sql.gguf").is_file()


def weights(archive: Path) -> bytes:
    with zipfile.ZipFile(archive) as files:
        return files.read("adapter_model.safetensors")


def test_the_commands_of_the_cost_page_run_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("assets").symlink_to(ROOT / "assets")
    run("docs/cost-at-scale.md")
    assert Path("plan.svg").read_text(encoding="utf-8").startswith("<svg")


@pytest.mark.slow
def test_the_commands_of_the_page_on_bases_run_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    save_tiny(tmp_path / "my-base")
    Path("prompts.md").write_text("\n---\n".join(LETTERS), encoding="utf-8")
    run("docs/own-base.md")
    assert Path("adapter.gguf").read_bytes().startswith(b"GGUF")
    (code,) = blocks("docs/own-base.md", "python")
    exec(code, {})  # the page's own lines
    assert weights(Path("mine.zip"))


@pytest.mark.real
@pytest.mark.usefixtures("resident", "few_questions")
def test_the_commands_of_the_measure_page_run_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [f"{first}{rest}" for first in "bcdfghlmnprst" for rest in ("at", "ill", "ore")]
    asked = [f"Write the word twice.\n\n{word}" for word in words]
    pd.DataFrame({"prompt": asked[:16]}).to_csv("prompts.csv", index=False)
    rows = pd.DataFrame({"prompt": asked, "label": [f"{word} {word}" for word in words]})
    rows[16:].to_csv("rows.csv", index=False)
    run("docs/measure.md")
    measured = json.loads(Path("measured/measurement.json").read_text(encoding="utf-8"))
    assert {"base", "adapter", "trained_lora", "warm_lora"} <= {r["row"] for r in measured["rows"]}


def test_the_commands_of_the_deploy_page_run_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("code").symlink_to(ROOT)
    run("docs/deploy.md")


@pytest.mark.real
@pytest.mark.usefixtures("resident", "few_questions")
def test_the_commands_of_the_serving_page_run_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("assets").symlink_to(ROOT / "assets")
    run("docs/serving.md")
    assert Path("adapters/sql/adapter_config.json").is_file()
    assert Path("sql-ollama/Modelfile").is_file()
    assert Path("sql-q8.gguf").stat().st_size < 0.6 * Path("base.gguf").stat().st_size


def own_tasks(folder: Path) -> None:
    """The folder that the page describes, its rows and keys as printed there."""
    index, example = blocks("docs/own-tasks.md", "")[0], blocks("docs/own-tasks.md", "json")[0]
    folder.mkdir()
    (folder / "tasks.csv").write_text(index, encoding="utf-8")
    keys = json.loads(example)
    makers: dict[str, Any] = {
        "ticket-team": lambda n: (
            (f"Parcel {n} is late.", "shipping") if n % 2 else (f"Bill {n} is wrong.", "billing")
        ),
        "ticket-urgent": lambda n: (
            (f"Stop order {n} at once!", "urgent")
            if n % 3
            else (f"Say thanks to number {n}.", "normal")
        ),
        "invoice-total": lambda n: (f"Pens 2, ink {n}, total {n + 2}.", str(n + 2)),
    }
    for line in index.splitlines()[1:]:
        slug, _, _, _, _, description, _ = line.split(",")
        for side, numbers in (("train", range(30)), ("test", range(30, 36))):
            path = folder / "tasks" / slug / f"{side}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w", encoding="utf-8") as file:
                for text, answer in map(makers[slug], numbers):
                    row = dict(zip(keys, (f"{description}.\n\n{text}", answer), strict=True))
                    file.write(json.dumps(row) + "\n")


@pytest.mark.slow
def test_the_commands_of_the_own_tasks_page_run_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_tiny(Path("my-base"))
    own_tasks(Path("mine"))
    recipes = tmp_path / "assets" / "recipes"
    recipes.mkdir(parents=True)
    shipped = yaml.safe_load((ROOT / "assets/recipes/tiny.yaml").read_text(encoding="utf-8"))
    (recipes / "tiny.yaml").write_text(yaml.safe_dump({**shipped, **RECIPES["tiny.yaml"]}))
    run("docs/own-tasks.md")
    assert Path("work/report/REPORT.md").is_file()


@pytest.mark.slow
def test_the_commands_of_the_pipeline_page_run_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_tiny(Path("my-base"))
    recipes = tmp_path / "assets" / "recipes"
    recipes.mkdir(parents=True)
    for file, changes in RECIPES.items():
        shipped = yaml.safe_load((ROOT / "assets" / "recipes" / file).read_text(encoding="utf-8"))
        (recipes / file).write_text(yaml.safe_dump({**shipped, **changes}), encoding="utf-8")
    run("docs/pipeline.md")

    report = json.loads(Path("work/report/report.json").read_text(encoding="utf-8"))
    asked = next(a for name, a in commands("docs/pipeline.md") if name == "evaluate")
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
        served.wait(timeout=60)
