"""The command line: its words, exit codes and JSON. Where a model is not the point, none loads."""

import json
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dnd_engine.cli import app
from tests.dnd_engine.hub_server import TOKEN, Hub

PROMPTS = "\n".join(f"Write the phrase in capital letters: item number {i}" for i in range(20))


def dnd(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "capitals.txt"
    path.write_text(PROMPTS, encoding="utf-8")
    return path


def task_folder(folder: Path, *, response: str = "a") -> Path:
    """Two tiny tasks; `response` is the answer of every test item of the first."""
    head = "slug,family,category,metric,licence,description,split\n"
    rows = "first,one,c,exact,CC0,First,train\nsecond,two,c,exact,CC0,Second,heldout\n"
    folder.mkdir()
    (folder / "tasks.csv").write_text(head + rows, encoding="utf-8")
    for slug in ("first", "second"):
        place = folder / "tasks" / slug
        place.mkdir(parents=True)
        for side in ("train", "test"):
            lines = [
                {
                    "prompt": f"{slug}\n\n{side} {i}",
                    "response": response if (slug, side) == ("first", "test") else str(i),
                }
                for i in range(12)
            ]
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (place / f"{side}.jsonl").write_text(text, encoding="utf-8")
    return folder


def test_help_names_every_command() -> None:
    shown = dnd("--help").stdout
    commands = (
        "generate",
        "refine",
        "chat",
        "inspect",
        "export",
        "push",
        "train",
        "evaluate",
        "tasks",
        "info",
        "collect",
        "bench",
    )
    assert [name for name in commands if name not in shown] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate"], "no prompt files. Name some, or use --bucket"),
        (["generate", "missing.txt"], "missing.txt"),
        (["generate", "--bucket", "nonsense"], "expected NAME=WEIGHT:FILE,FILE"),
        (["train", "no-recipe.yaml"], "recipe `no-recipe.yaml` cannot be read"),
        (["export", "a.zip", "--out", "a", "--format", "onnx"], "`format` must be peft, merged"),
        (["push", "a.zip", "some one/sql"], "`some one/sql` cannot be a repository: expected"),
        (["tasks", "list", "nowhere"], "no `tasks.csv` in `nowhere`"),
    ],
)
def test_a_failure_is_its_message_alone_with_exit_code_1(
    arguments: list[str], message: str
) -> None:
    result = dnd(*arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_a_push_without_a_token_is_refused_before_anything_loads(logged_out: None) -> None:
    result = dnd("push", "a.zip", "someone/sql")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: no token for the Hugging Face Hub. Log in with")


def test_wrong_usage_has_exit_code_2() -> None:
    assert dnd("generate", "--no-such-flag").exit_code == 2
    assert dnd("chat", "hello").exit_code == 2
    assert dnd("export", "a.zip").exit_code == 2
    assert dnd("push", "a.zip").exit_code == 2


def test_every_unreadable_file_is_named_at_once(tmp_path: Path, prompts: Path) -> None:
    empty, broken = tmp_path / "empty.txt", tmp_path / "broken.jsonl"
    empty.write_text("", encoding="utf-8")
    broken.write_text('{"prompt": "fine"}\n[1]\n', encoding="utf-8")
    result = dnd("generate", prompts, empty, broken)
    assert result.exit_code == 1
    assert "empty.txt" in result.stderr
    assert "broken.jsonl, line 2" in result.stderr


def test_an_unknown_generator_folder_is_refused_before_any_weights_load(
    tmp_path: Path, prompts: Path
) -> None:
    result = dnd("generate", prompts, "--generator", tmp_path / "nothing")
    assert result.exit_code == 1
    assert "no generator folder at" in result.stderr


def test_tasks_list_and_check_pass_a_sound_folder(tmp_path: Path) -> None:
    folder = task_folder(tmp_path / "tasks", response="a")
    (folder / "tasks" / "first" / "test.jsonl").write_text(
        "".join(f'{{"prompt": "x\\n\\n{i}", "response": "{i}"}}\n' for i in range(12)), "utf-8"
    )
    listed = json.loads(dnd("tasks", "list", folder, "--json").stdout)
    assert [row["slug"] for row in listed["tasks"]] == ["first", "second"]
    checked = dnd("tasks", "check", folder, "--json")
    assert checked.exit_code == 0
    assert json.loads(checked.stdout)["num_test"] == 24


def test_tasks_check_fails_on_a_constant_answer(tmp_path: Path) -> None:
    result = dnd("tasks", "check", task_folder(tmp_path / "tasks"))
    assert result.exit_code == 1
    assert "first: 12 of 12 test responses are 'a'" in result.stdout


@pytest.mark.real
def test_refine_trains_an_adapter_on_its_prompts_and_writes_another(tmp_path: Path) -> None:
    rows = "".join(f'"Give the first word.\n\nred {i} blue",red\n' for i in range(12))
    (prompts := tmp_path / "first.csv").write_text("prompt,label\n" + rows, encoding="utf-8")
    start, out = tmp_path / "start.zip", tmp_path / "refined.zip"
    assert dnd("generate", prompts, "--out", start, "--json").exit_code == 0
    result = dnd("refine", start, prompts, "--labels", "--steps", 3, "--out", out, "--json")
    assert result.exit_code == 0, result.stderr
    values = json.loads(result.stdout)
    assert values["num_prompts"] == 12
    assert values["effect"] != values["effect_before"]
    seen = json.loads(dnd("inspect", out, "--json").stdout)
    assert seen["sha256"] == values["sha256"] != values["from_sha256"]
    assert seen["provenance"]["refined"]["from_sha256"] == values["from_sha256"]
    again = dnd("refine", start, prompts, "--labels", "--steps", 3, "--out", out, "--json")
    assert json.loads(again.stdout)["sha256"] == values["sha256"]


@pytest.mark.real
def test_generate_inspect_and_chat_work_on_what_they_write(tmp_path: Path, prompts: Path) -> None:
    out = tmp_path / "adapter.zip"
    made = dnd("generate", prompts, "--out", out, "--json")
    assert made.exit_code == 0, made.stderr
    values = json.loads(made.stdout)
    assert values["num_prompts"] == 20
    assert set(values["seconds"]) == {"load", "encode", "decode", "write"}
    assert len(values["nearest_tasks"]) == 5
    assert set(zipfile.ZipFile(out).namelist()) == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "README.md",
        "provenance.json",
    }
    seen = json.loads(dnd("inspect", out, "--prompts", prompts, "--json").stdout)
    assert seen["sha256"] == values["sha256"]
    assert seen["effect"] == pytest.approx(values["effect"], rel=1e-3)
    said = json.loads(dnd("chat", "--adapter", out, "--max-new-tokens", "8", "hi", "--json").stdout)
    assert said["base"]["text"]
    assert said["adapted"]["text"]
    assert said["adapter_sha256"] == values["sha256"]


@pytest.mark.real
def test_export_and_push_take_what_generate_writes(tmp_path: Path, prompts: Path, hub: Hub) -> None:
    made = tmp_path / "made.zip"
    sha256 = json.loads(dnd("generate", prompts, "--out", made, "--json").stdout)["sha256"]
    for format, name in (("peft", "a.zip"), ("merged", "whole"), ("gguf", "a.gguf")):
        result = dnd("export", made, "--format", format, "--out", tmp_path / name, "--json")
        assert result.exit_code == 0, result.stderr
        values = json.loads(result.stdout)
        assert (values["path"], values["format"]) == (str(tmp_path / name), format)
        assert values["sha256"] == sha256
        assert str(tmp_path / name).removesuffix(".zip") in values["usage"]
        assert (tmp_path / name).exists()
    stronger = dnd("export", made, "--strength", 2, "--out", tmp_path / "b.zip", "--json")
    assert json.loads(stronger.stdout)["sha256"] != sha256

    pushed = dnd("push", made, "someone/sql", "--token", TOKEN, "--prompts", prompts, "--json")
    assert pushed.exit_code == 0, pushed.stderr
    values = json.loads(pushed.stdout)
    assert (values["url"], values["private"]) == (f"{hub.url}/someone/sql", True)
    assert values["sha256"] == sha256
    card = hub.files["someone/sql"]["README.md"].decode()
    assert "## Checks on prompts it was made from, at strength 1" in card
    assert TOKEN not in pushed.output
    # Nothing of the prompts went over the wire, in a file or besides.
    said = hub.sent + b"".join(hub.files["someone/sql"].values())
    assert b"capitals.txt" in said
    assert b"Write the phrase" not in said
