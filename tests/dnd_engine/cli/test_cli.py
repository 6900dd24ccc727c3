"""The command line: its words, exit codes and JSON. Where a model is not the point, none loads."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner, Result

from dnd_engine.cli import app
from dnd_engine.cli.adapters import _show_growing
from dnd_engine.cli.common import plain_errors, progress_bar, typed_arguments
from dnd_engine.cli.prompts import read_buckets
from dnd_engine.cli.refine import _score_words
from dnd_engine.cli.structure import is_foreign
from dnd_engine.config import EngineConfig
from dnd_engine.errors import ConfigError
from dnd_engine.export import llama_quantize
from dnd_engine.files import asset_path, sha256_of
from dnd_engine.library import Library
from dnd_engine.limits import FIXED
from dnd_engine.lora.adapter import write_files
from dnd_engine.models.replies import ChatStep, Reply, StopReason
from dnd_engine.progress import Progress
from dnd_engine.prompts.reading import Choices
from dnd_engine.tasks.families.sample import MIN_OPERATIONS
from dnd_engine.tasks.families.write import _MIN_TRAIN
from tests.dnd_engine.hub_server import TOKEN, Hub
from tests.dnd_engine.serving.chat_server import running_chat
from tests.dnd_engine.tiny import make_adapter, save_larger

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
        "propose",
        "chat",
        "inspect",
        "export",
        "push",
        "measure",
        "train",
        "watch",
        "evaluate",
        "tasks",
        "info",
        "collect",
        "bench",
        "library",
        "import",
    )
    assert [name for name in commands if name not in shown] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate"], "no prompt files. Name some, or use --bucket"),
        (["generate", "missing.txt"], "missing.txt"),
        (["generate", "--bucket", "nonsense"], "expected NAME=WEIGHT:FILE,FILE"),
        (
            ["train", "no-recipe.yaml"],
            "Error: recipe `no-recipe.yaml` cannot be read: No such file or directory. Name a YAML",
        ),
        (["generate", "--strength", "50"], "`strength` must be between -10 and 10, got 50"),
        (["generate", "--seed", "-1"], "`seed` must be between 0 and"),
        (["measure", "a.zip", "a.csv", "--seed", "-1"], "`seed` must be between 0 and"),
        (["evaluate", "--tasks", "a", "--out", "b", "--seed", "-1"], "`seed` must be between 0"),
        (["generate", "--save-recipe", "n" * 300], "cannot be written: File name too long"),
        (["export", "a.zip", "--out", "a", "--format", "onnx"], "`format` must be one of peft"),
        (["push", "a.zip", "some one/sql"], "`some one/sql` cannot be a repository: expected"),
        (["inspect", ""], "the adapter is an empty text. Name a PEFT folder or zip, or one in"),
        (["export", " ", "--out", "a.zip"], "the adapter is an empty text."),
        (["watch", "nowhere"], "no folder `nowhere`. Expected the --out folder of `dnd train`"),
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


def test_four_bits_without_a_quantiser_are_refused_before_anything_loads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(llama_quantize, "PACKAGE", "no_such_package")
    monkeypatch.setenv("PATH", "")
    result = dnd("export", "a.zip", "--format", "merged-gguf-q4_k_m", "--out", "a.gguf")
    assert result.exit_code == 1
    assert "pip install llama-cpp-py-sync" in result.stderr


def test_a_push_without_a_token_is_refused_before_anything_loads(logged_out: None) -> None:
    result = dnd("push", "a.zip", "someone/sql")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: no token for the Hugging Face Hub. Log in with")


def test_wrong_usage_has_exit_code_2() -> None:
    assert dnd("generate", "--no-such-flag").exit_code == 2
    assert dnd("chat", "hello").exit_code == 2
    assert dnd("export", "a.zip").exit_code == 2
    assert dnd("push", "a.zip").exit_code == 2


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--metric", "bleu", "expected one of auto, choice, exact"),
        ("--modes", "bare, odd", "expected some of bare, full, got 'odd'"),
    ],
)
def test_measure_knows_its_metrics_and_modes(option: str, value: str, message: str) -> None:
    result = dnd("measure", "adapter.zip", "rows.csv", option, value)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_every_unreadable_file_is_named_at_once(tmp_path: Path, prompts: Path) -> None:
    empty, broken = tmp_path / "empty.txt", tmp_path / "broken.jsonl"
    empty.write_text("", encoding="utf-8")
    broken.write_text('{"prompt": "fine"}\n[1]\n', encoding="utf-8")
    result = dnd("generate", prompts, empty, broken)
    assert result.exit_code == 1
    assert "empty.txt" in result.stderr
    assert "broken.jsonl, line 2" in result.stderr


def test_a_comma_in_a_bucket_is_said_to_separate_files(tmp_path: Path, prompts: Path) -> None:
    (tmp_path / "a,b.txt").write_text("Hello\n", encoding="utf-8")
    told = "In --bucket, a comma separates files. Rename a file whose name has one."
    assert told in dnd("generate", "--bucket", f"x=1:{tmp_path / 'a,b.txt'}").stderr
    assert told not in dnd("generate", "--bucket", f"x=1:{tmp_path / 'none.txt'}").stderr
    (empty := tmp_path / "empty.txt").touch()
    assert told not in dnd("generate", "--bucket", f"x=1:{prompts},{empty}").stderr


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


def test_tasks_of_long_names_are_listed_in_columns(tmp_path: Path) -> None:
    folder = task_folder(tmp_path / "tasks")
    index = (folder / "tasks.csv").read_text(encoding="utf-8")
    (folder / "tasks.csv").write_text(index.replace("first,", "f" * 50 + ","), encoding="utf-8")
    first, second = dnd("tasks", "list", folder).stdout.splitlines()
    assert first.index(" train") == second.index(" heldout") == 50


@pytest.mark.parametrize(
    ("option", "least"), [("--train", _MIN_TRAIN), ("--operations", MIN_OPERATIONS)]
)
def test_tasks_make_states_the_ranges_that_it_accepts(
    tmp_path: Path, option: str, least: int
) -> None:
    result = dnd("tasks", "make", tmp_path / "new", option, least - 1)
    assert result.exit_code == 2
    assert f"greater than or equal to {least}" in result.stderr


def test_tasks_check_names_every_broken_file_beside_the_other_faults(tmp_path: Path) -> None:
    folder = task_folder(tmp_path / "tasks", response="a")
    side = folder / "tasks" / "second"
    (side / "train.jsonl").write_text("{", encoding="utf-8")
    (side / "test.jsonl").unlink()
    checked = dnd("tasks", "check", folder, "--json")
    assert checked.exit_code == 1
    values = json.loads(checked.stdout)
    assert (values["num_tasks"], values["num_train"], values["num_test"]) == (2, 12, 12)
    train, test = values["faults"]["second"]
    assert f"`{side / 'train.jsonl'}`: line 1" in train
    assert f"`{side / 'test.jsonl'}` is missing." in test
    assert "12 of 12 test responses are 'a'" in values["faults"]["first"][0]
    said = dnd("tasks", "check", folder)
    assert said.exit_code == 1
    assert "2 tasks: 2 with errors, 0 with warnings." in said.stdout
    for name in ("train", "test"):
        (folder / "tasks" / "first" / f"{name}.jsonl").unlink()
    assert json.loads(dnd("tasks", "check", folder, "--json").stdout)["num_train"] == 0


def test_tasks_check_fails_on_a_constant_answer(tmp_path: Path) -> None:
    result = dnd("tasks", "check", task_folder(tmp_path / "tasks"))
    assert result.exit_code == 1
    assert "first: 12 of 12 test responses are 'a'" in result.stdout


@pytest.mark.parametrize(
    ("command", "recipe", "told"),
    [
        ("train", "tiny", "` needs tasks and out. Write them into the file, or give --tasks and "),
        ("train", "collect-tiny", "` is one of `dnd collect`: its setting(s) batch_size, "),
        ("collect", "tiny", "` is one of `dnd train`: its setting(s) "),
        ("collect", "dataset-boolq", "`: unknown setting(s) "),
    ],
)
def test_a_recipe_that_lacks_settings_or_is_anothers_says_how_to_go_on(
    command: str, recipe: str, told: str
) -> None:
    result = dnd(command, asset_path("recipes", f"{recipe}.yaml"))
    assert result.exit_code == 1, result.exception
    assert f"{recipe}.yaml{told}" in result.stderr


@pytest.mark.parametrize("command", ["train", "collect"])
def test_a_run_in_a_file_is_refused_by_its_name(tmp_path: Path, command: str) -> None:
    recipe = {"train": "tiny", "collect": "collect-tiny"}[command]
    (out := tmp_path / "mine.zip").touch()
    asked = ("--tasks", task_folder(tmp_path / "tasks"), "--out", out)
    result = dnd(command, asset_path("recipes", f"{recipe}.yaml"), *asked)
    assert result.exit_code == 1, result.exception
    assert f"`{out}` is a file, not a folder. Choose another --out." in result.stderr


@pytest.mark.parametrize(
    ("command", "runs", "sign"),
    [
        ("train", "dnd_engine.training.trainer.train", "checkpoint.safetensors"),
        ("collect", "dnd_engine.training.finetune.collect.collect", "manifest.json"),
    ],
)
def test_resume_says_where_it_finds_nothing_to_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, runs: str, sign: str
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise ConfigError("stopped")

    monkeypatch.setattr(runs, stop)
    recipe = {"train": "tiny", "collect": "collect-tiny"}[command]
    out = tmp_path / "run"
    asked = (command, asset_path("recipes", f"{recipe}.yaml"), "--tasks", tmp_path, "--out", out)
    told = f"`{out}` holds no run to resume, so a new one begins.\n"
    assert dnd(*asked).stderr == "Error: stopped\n"
    assert dnd(*asked, "--resume").stderr == f"{told}Error: stopped\n"
    out.mkdir()
    (out / sign).touch()
    assert dnd(*asked, "--resume").stderr == "Error: stopped\n"


def test_an_evaluation_reads_tasks_and_place_before_models_load(tmp_path: Path) -> None:
    folder = task_folder(tmp_path / "tasks")
    # A generator that does not exist is what loading would complain about.
    asked = ("evaluate", "--tasks", folder, "--generator", tmp_path / "none")
    (out := tmp_path / "mine.zip").touch()
    assert f"`{out}` is a file, not a folder" in dnd(*asked, "--out", out).stderr
    (folder / "tasks" / "second" / "test.jsonl").write_text("{", encoding="utf-8")
    result = dnd(*asked, "--out", tmp_path / "report")
    assert result.exit_code == 1
    assert "test.jsonl`: line 1: broken JSON" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["chat", "--adapter", "nothing.zip", "hi"],
        ["inspect", "nothing.zip"],
        ["refine", "nothing.zip", "prompts.txt"],
        ["import", "nothing.zip"],
        ["library", "show", "nothing.zip"],
        ["library", "export", "nothing.zip"],
    ],
)
def test_a_missing_adapter_is_refused_before_models_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("loaded")

    for module in ("adapters", "refine"):
        monkeypatch.setattr(f"dnd_engine.cli.{module}.load_engine", fail)
    monkeypatch.setattr("dnd_engine.models.sources.resolve", fail)
    result = dnd(*arguments, "--library", tmp_path / "library")
    assert result.exit_code == 1, result.exception
    assert "Error: no adapter" in result.stderr
    assert "nothing.zip" in result.stderr


def test_the_library_is_listed_and_changed_without_torch(tmp_path: Path) -> None:
    """They answer at once."""
    code = (
        "import sys; from dnd_engine.cli import app\n"
        "try: app(['library', 'list', '--json', '--library', sys.argv[1]])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'transformers', 'peft'} & set(sys.modules)"
    )
    run = [sys.executable, "-c", code, str(tmp_path / "library")]
    done = subprocess.run(run, capture_output=True, check=True, text=True)
    assert json.loads(done.stdout) == {"library": str(tmp_path / "library"), "adapters": []}


def test_library_commands_do_what_they_say(tmp_path: Path) -> None:
    place = ("--library", tmp_path / "library")
    shelf = Library(tmp_path / "library")
    shelf.add(make_adapter(name="one"))

    def names() -> list[str]:
        listed = json.loads(dnd("library", "list", "--json", *place).stdout)
        return [entry["name"] for entry in listed["adapters"]]

    assert dnd("library", "duplicate", "one", *place).stdout == "Copied to one-2.\n"
    assert dnd("library", "rename", "one", "first", *place).stdout == "Renamed to first.\n"
    assert names() == ["one-2", "first"]
    shown = json.loads(dnd("library", "show", "first", "--json", *place).stdout)
    assert shown["sha256"] == make_adapter().sha256
    assert Path(shown["path"], "adapter_config.json").is_file()
    assert "Recipe: unknown" in dnd("library", "show", "first", *place).stdout
    shelf.update("first", checks={"strength": 0.5, "words": ["It works."]}, votes={"base": 2})
    facts = dnd("library", "show", "first", *place).stdout
    assert "Checks at strength 0.5:\n  It works.\nVotes: base 2\n" in facts
    shelf.update("first", checks={"words": "of another tool"})
    assert "Checks" not in dnd("library", "show", "first", *place).stdout
    deleted = dnd("library", "delete", "first", *place).stdout
    assert f"`dnd library undo {shown['key']}` restores it" in deleted
    assert names() == ["one-2"]
    assert "first" in dnd("library", "list", "--deleted", *place).stdout
    assert dnd("library", "undo", *place).stdout == "Restored first.\n"
    assert names() == ["one-2", "first"]
    (shelf.path("one-2") / "entry.json").unlink()
    assert "damaged: `entry.json`: No such file" in dnd("library", "list", *place).stdout
    dnd("library", "delete", "first", *place)
    assert dnd("library", "empty-trash", *place).stdout == "Removed permanently: 1.\n"
    assert (
        json.loads(dnd("library", "list", "--deleted", "--json", *place).stdout)["adapters"] == []
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["rename", "one", "a/b"], 1, "is not a valid name for an adapter"),
        (["rename", "two", "x"], 1, "no adapter `two` in the library"),
        (["show", "one", "--save-recipe", "r.json"], 1, "`one` has no recipe"),
        (["undo"], 1, "nothing to restore"),
        (["rename", "one"], 2, "Missing argument"),
        (["list", "--no-such-flag"], 2, "No such option"),
    ],
)
def test_library_commands_fail_with_a_message(
    tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    Library(tmp_path / "library").add(make_adapter(name="one"))
    result = dnd("library", *arguments, "--library", tmp_path / "library")
    assert result.exit_code == code
    assert message in result.stderr
    assert result.stdout == ""


def test_an_imported_adapter_is_checked_kept_and_exported(
    tmp_path: Path, tiny_folder: Path
) -> None:
    """Against the base's config alone: no weights load."""
    place = ("--library", tmp_path / "library")
    given = make_adapter(base_id=str(tiny_folder)).save(tmp_path / "theirs.zip")
    result = dnd("import", given, "--base", tiny_folder, "--json", *place)
    assert result.exit_code == 0, result.stderr
    kept = json.loads(result.stdout)
    assert (kept["name"], kept["imported"], kept["sha256"]) == (
        "theirs",
        True,
        make_adapter().sha256,
    )
    assert dnd("import", given, "--name", "theirs", *place).exit_code == 1, "the name is taken"
    Library(tmp_path / "library").update("theirs", strength=0.5)
    out = tmp_path / "out.zip"
    done = json.loads(dnd("library", "export", "theirs", "--out", out, "--json", *place).stdout)
    assert done["sha256"] == make_adapter().with_strength(0.5).sha256
    weights = zipfile.ZipFile(out).read("adapter_model.safetensors")
    assert hashlib.sha256(weights).hexdigest() == done["sha256"]


def test_a_refused_import_prints_every_fault_and_keeps_nothing(
    tmp_path: Path, tiny_folder: Path
) -> None:
    files = make_adapter().files()
    config = json.loads(files["adapter_config.json"]) | {"use_dora": True, "r": 0}
    files["adapter_config.json"] = json.dumps(config).encode()
    path = write_files(files | {"provenance.json": b"{"}, tmp_path / "bad.zip")
    result = dnd("import", path, "--base", tiny_folder, "--library", tmp_path / "library")
    assert result.exit_code == 1
    for words in ("use_dora", "`r` must be a whole number", "is damaged", "was made for example"):
        assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert Library(tmp_path / "library").entries() == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--recipe", "none.json"], 1, "recipe `none.json` cannot be read"),
        (
            ["--recipe", "none.json", "--seed", "3"],
            2,
            "--recipe already sets buckets, mix, strength and",
        ),
        (["--name", "a/b"], 1, "is not a valid name for an adapter"),
    ],
)
def test_a_wrong_recipe_or_name_is_refused_before_models_load(
    prompts: Path, arguments: list[str], code: int, message: str
) -> None:
    result = dnd("generate", prompts, *arguments)
    assert result.exit_code == code
    assert message in " ".join(result.stderr.split())


def test_a_negative_weight_in_a_pool_is_refused_before_models_load(
    monkeypatch: pytest.MonkeyPatch, prompts: Path
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr("dnd_engine.cli.adapters.load_engine", fail)
    result = dnd("generate", prompts, "--bucket", f"less=-0.5:{prompts}")
    assert result.exit_code == 1, result.exception
    assert "Bucket `less`: expected a weight of at least 0 in a pool, got -0.5." in result.stderr
    assert "Raise it, or mix by sum." in result.stderr


def test_a_taught_adapter_is_not_proved(monkeypatch: pytest.MonkeyPatch, prompts: Path) -> None:
    """Adapters from other prompts were not taught, so it cannot be compared with them."""
    taught = SimpleNamespace(refinements=("taught",))
    monkeypatch.setattr("dnd_engine.cli.adapters.read_given_recipe", lambda *_: taught)
    result = dnd("generate", "--recipe", "taught.json", prompts, "--prove")
    assert result.exit_code == 2
    assert "--prove needs an adapter that was not trained further" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "{folder}/full"], "full` holds other files"),
        (["--out", "{folder}/a.gguf"], "this format is a folder"),
        (["--out", "{folder}/file/a.zip"], "file` is not a folder. Choose another place."),
        # Its permissions let root write there.
        (["--out", "/proc/a.zip"], "`/proc/a.zip` cannot be written: "),
        (["--save-recipe", "{folder}/full"], "full` cannot be written: it is a folder."),
        (["--save-recipe", "{folder}/file/r.json"], "file` is not a folder. Choose another place."),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_models_load(
    tmp_path: Path, prompts: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    (tmp_path / "file").touch()
    words = [word.format(folder=tmp_path) for word in arguments]
    # A generator that does not exist is what loading would complain about.
    result = dnd("generate", prompts, *words, "--generator", tmp_path / "none")
    assert result.exit_code == 1
    assert message in result.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["chat", "hi", "--adapter", "none", "--base-only"], ("--adapter", "--base-only")),
        (["generate", "a.txt", "--include-texts"], ("--include-texts", "--save-recipe", "--keep")),
        (["inspect", "a", "--instruction", "Say it."], ("--instruction", "--prompts")),
    ],
)
def test_options_without_effect_are_refused_by_name(
    arguments: list[str], named: tuple[str, ...]
) -> None:
    result = dnd(*arguments)
    assert result.exit_code == 2
    assert [option for option in named if option not in result.stderr] == []


def test_answers_are_printed_as_they_grow_and_end_as_a_pipe_gets_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def reply(text: str, stop: StopReason | None = None) -> Reply:
        return Reply(text, 1, stop, 0.0, 0.0)

    printed: list[str] = []

    def steps() -> Iterator[ChatStep]:
        yield ChatStep(reply("One"), reply("Un"))
        printed.append(capsys.readouterr().out)
        yield ChatStep(reply("One two", "eos"), reply("Un"))
        printed.append(capsys.readouterr().out)
        yield ChatStep(reply("One two", "eos"), reply("Un deux", "eos"))

    _show_growing(steps())
    printed.append(capsys.readouterr().out)
    assert printed == ["Base:\nOne", " two\n\nAdapted:\nUn", " deux\n"]


def test_an_answer_that_changes_what_was_printed_is_printed_again_whole(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Some tokenizers remove a space before what comes next."""

    def reply(text: str, stop: StopReason | None = None) -> Reply:
        return Reply(text, 1, stop, 0.0, 0.0)

    _show_growing(
        [ChatStep(reply("It 's"), None), ChatStep(reply("It's so", "eos"), reply("Yes", "eos"))]
    )
    assert capsys.readouterr().out == "Base:\nIt 's\nBase:\nIt's so\n\nAdapted:\nYes\n"


def test_ctrl_c_is_a_word_and_exit_code_130(capsys: pytest.CaptureFixture[str]) -> None:
    @plain_errors
    def command() -> None:
        raise KeyboardInterrupt

    with pytest.raises(typer.Exit) as stopped:
        command()
    assert stopped.value.exit_code == 130
    assert capsys.readouterr().err == "\nStopped.\n"


def test_the_bar_has_no_stray_comma_and_ends_done(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar() as show_progress:
        show_progress(Progress("encode", 0.0, 0.0, "read"))
        show_progress(Progress("check", None, 0.0, "run_checks"))
    lines = [line.strip() for line in capsys.readouterr().err.split("\r") if line.strip()]
    assert any(line.startswith("Encode   0%|") for line in lines)
    assert any(line.endswith("| Reading all prompts") for line in lines)
    assert "Check: Comparing its answers with those of the base" in lines
    assert lines[-1].startswith("Done 100%|")
    assert not any(", " in line for line in lines)


@pytest.mark.parametrize("command", [("generate",), ("inspect", "{adapter}", "--prompts")])
def test_an_instruction_that_no_bucket_takes_is_refused_before_models_load(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    own = tmp_path / "own.jsonl"
    own.write_text(json.dumps({"prompt": "Write capitals.\n\nitem"}), encoding="utf-8")
    adapter = write_files(make_adapter().files(), tmp_path / "adapter")
    arguments = [word.format(adapter=adapter) for word in command]
    result = dnd(*arguments, own, "--instruction", "Write it backwards.")
    assert result.exit_code == 1
    assert "no prompt takes --instruction" in result.stderr


def test_prompts_without_an_instruction_are_told_so_before_models_load(tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("Dentist on Tuesday at 9\nBuy paint\n", encoding="utf-8")
    result = dnd("generate", notes, "--generator", tmp_path / "none")
    assert result.exit_code == 1
    assert "prompts: no instruction found, so this bucket is not imprinted" in result.stderr
    assert "Give one with --instruction." in result.stderr


def test_the_prompts_of_a_bucket_that_have_no_instruction_are_counted(tmp_path: Path) -> None:
    notes, own = tmp_path / "notes.txt", tmp_path / "own.jsonl"
    notes.write_text("Dentist on Tuesday at 9\nBuy paint\n", encoding="utf-8")
    own.write_text(json.dumps({"prompt": "Name the kind.\n\nMilk"}), encoding="utf-8")
    arguments = ("generate", notes, own, "--generator", tmp_path / "none")
    told = dnd(*arguments).stderr
    assert "prompts: 2 of 3 prompts have no instruction and are not imprinted. Give one" in told
    assert "--instruction" not in dnd(*arguments, "--instruction", "Name the kind.").stderr


@pytest.mark.parametrize("odd", ["link", "pipe", "large"])
def test_inspect_reads_no_config_that_may_never_end(tmp_path: Path, odd: str) -> None:
    adapter = write_files(make_adapter().files(), tmp_path / "adapter")
    config = adapter / "adapter_config.json"
    assert is_foreign(adapter, "another/base")
    own = config.rename(tmp_path / "elsewhere.json")
    if odd == "link":
        config.symlink_to(own)
    elif odd == "pipe":
        os.mkfifo(config)
    else:
        config.write_bytes(own.read_bytes() + b" " * FIXED.max_settings_bytes)
    assert not is_foreign(adapter, "another/base")


def test_inspect_says_that_prompts_without_an_instruction_get_no_verdict(tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("Dentist on Tuesday at 9\nBuy paint\n", encoding="utf-8")
    adapter = write_files(make_adapter().files(), tmp_path / "adapter")
    told = dnd("inspect", adapter, "--prompts", notes, "--files").stderr
    assert "so this bucket is left out of the verdict" in told
    assert "imprinted" not in told


def test_prompts_are_not_ignored_for_an_adapter_that_is_checked_by_its_files(
    tmp_path: Path,
) -> None:
    own = tmp_path / "own.jsonl"
    own.write_text(json.dumps({"prompt": "Write capitals.\n\nitem"}), encoding="utf-8")
    adapter = write_files(make_adapter().files(), tmp_path / "adapter")
    result = dnd("inspect", adapter, "--prompts", own, "--files")
    assert result.exit_code == 1
    assert "Leave out --prompts" in result.stderr
    assert dnd("inspect", adapter, "--files").exit_code == 0


@pytest.mark.real
@pytest.mark.usefixtures("resident")
def test_an_instruction_typed_for_plain_inputs_is_imprinted_and_judged(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Words of either sort; the model itself knows which, once it is asked."""
    names = ["dog", "cat", "horse", "cow", "apple", "pizza", "bread", "cheese"]
    inputs = [f"I saw a {name} {where}." for name in names for where in ("today", "in town")]
    file, out, recipe = tmp_path / "plain.txt", tmp_path / "a.zip", tmp_path / "recipe.json"
    file.write_text("\n".join(inputs), encoding="utf-8")
    asked = "Does the sentence name an animal or a food? Answer animal or food."
    made = dnd(
        *("generate", file, "--instruction", asked, "--out", out, "--save-recipe", recipe, "--json")
    )
    assert made.exit_code == 0, made.stderr
    values = json.loads(made.stdout)
    assert values["not_imprinted"] is None
    assert values["imprint"]["num_prompts"] == 12
    assert values["verdict"]["left_out"] is True
    assert values["verdict"]["num_prompts"] == 4
    assert values["ordinary"]["num_messages"] == 64
    words = dnd("inspect", out, "--prompts", file, "--instruction", asked).stdout
    card = zipfile.ZipFile(out).read("README.md").decode()
    for text in (words, card):
        assert f"Of 4 prompts left out of the fit, it answers {values['verdict']['same']} " in text
        assert f"answers {values['ordinary']['same']} of 64 ordinary messages" in text
    request.getfixturevalue("few_questions")  # by now, all have been asked twice
    again = dnd("generate", "--recipe", recipe, file, "--out", tmp_path / "b.zip", "--json")
    assert json.loads(again.stdout)["matches_recipe"] is True


@pytest.mark.real
@pytest.mark.usefixtures("resident", "few_questions")
def test_a_recipe_makes_the_same_adapter_again_and_the_library_keeps_it(
    tmp_path: Path, prompts: Path
) -> None:
    place = ("--library", tmp_path / "library")
    recipe = tmp_path / "recipe.json"
    first = dnd(
        *("generate", prompts, "--strength", 0.7, "--save-recipe", recipe, "--json"),
        *("--name", "capitals", *place),
    )
    assert first.exit_code == 0, first.stderr
    values = json.loads(first.stdout)
    assert (values["adapter"], values["kept_as"], values["matches_recipe"]) == (
        None,
        "capitals",
        None,
    )
    assert "item number" not in recipe.read_text(encoding="utf-8")

    lost = dnd("generate", "--recipe", recipe, tmp_path / "library")
    assert lost.exit_code == 1
    assert "`capitals.txt` (20 prompts, SHA-256" in lost.stderr
    prompts.rename(tmp_path / "renamed")
    out = tmp_path / "again.zip"
    again = dnd("generate", "--recipe", recipe, tmp_path, "--out", out, "--json", *place)
    assert again.exit_code == 0, again.stderr
    assert json.loads(again.stdout)["sha256"] == values["sha256"]
    assert json.loads(again.stdout)["matches_recipe"] is True

    exported = dnd("library", "export", "capitals", "--out", tmp_path / "e.zip", "--json", *place)
    assert json.loads(exported.stdout)["sha256"] == values["sha256"]
    said = dnd("chat", "--adapter", "capitals", "--max-new-tokens", 4, "hi", "--json", *place)
    assert json.loads(said.stdout)["adapter_sha256"] == values["sha256"]
    assert json.loads(dnd("inspect", "capitals", "--json", *place).stdout)["num_parameters"]


@pytest.mark.real
@pytest.mark.usefixtures("resident", "few_questions")
def test_refine_trains_an_adapter_on_its_prompts_and_writes_another(tmp_path: Path) -> None:
    rows = "".join(f'"Give the first word.\n\nred {i} blue",red\n' for i in range(12))
    (prompts := tmp_path / "first.csv").write_text("prompt,label\n" + rows, encoding="utf-8")
    start, out = tmp_path / "start.zip", tmp_path / "refined.zip"
    assert dnd("generate", prompts, "--out", start, "--json").exit_code == 0
    result = dnd("refine", start, prompts, "--labels", "--steps", 3, "--out", out, "--json")
    assert result.exit_code == 0, result.stderr
    values = json.loads(result.stdout)
    assert (values["num_prompts"], values["commonest_share"]) == (9, 1.0)
    assert values["num_held_back"] == 3
    assert "Label column `label` left out of the prompts; checks, teaching" in result.stderr
    assert 0 <= values["score_before"] <= 1
    assert "The base gave the same answer" not in result.stderr, "labels have no teacher"
    assert values["effect"] != values["effect_before"]
    seen = json.loads(dnd("inspect", out, "--json").stdout)
    assert seen["sha256"] == values["sha256"] != values["from_sha256"]
    assert seen["provenance"]["refined"]["from_sha256"] == values["from_sha256"]
    again = dnd("refine", start, prompts, "--labels", "--steps", 3, "--out", out, "--json")
    assert json.loads(again.stdout)["sha256"] == values["sha256"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["refine", "a.zip", "--teacher", ""], "give --teacher the address"),
        (["refine", "a.zip", "--teacher-model", "wise"], "give --teacher the address"),
        (["refine", "a.zip", "--teacher-base", "b", "--labels"], "choose one of --labels, --teac"),
        (["refine", "a.zip", "--teacher-base", "b", "--teacher", "http://c"], "choose one of --la"),
        (["propose", "a.txt", "--out", "answers.csv"], "--out must end in .jsonl, got"),
    ],
)
def test_who_teaches_and_where_answers_go_is_checked_before_models_load(
    monkeypatch: pytest.MonkeyPatch, command: list[str], message: str
) -> None:
    monkeypatch.setattr("dnd_engine.cli.refine.load_engine", None)
    result = dnd(*command)
    assert result.exit_code == 2, result.exception
    assert message in result.stderr


def test_answers_corrected_by_hand_are_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prompts: Path
) -> None:
    monkeypatch.setattr("dnd_engine.cli.refine.load_engine", None)
    (out := tmp_path / "answers.jsonl").write_text("corrected", encoding="utf-8")
    result = dnd("propose", prompts, "--out", out)
    assert result.exit_code == 1, result.exception
    assert "already exists. Move it, or choose another --out." in result.stderr
    assert out.read_text(encoding="utf-8") == "corrected"


@pytest.mark.parametrize(
    ("labels", "taught", "reference"),
    [
        (True, False, "the labels"),
        (False, True, "the teacher's answers"),
        (False, False, "the model's own answers with it"),
    ],
)
def test_a_score_says_on_how_many_prompts_and_against_what(
    labels: bool, taught: bool, reference: str
) -> None:
    refined = {"num_held_back": 4, "score": 1.0, "score_before": 0.5}
    said = _score_words(refined, labels=labels, taught=taught)
    assert said.startswith("On 4 more prompts, held back from training, the adapter")
    assert f"scored 0.50 before and 1.00 after, compared with {reference}." in said
    assert _score_words({"score": None}, labels=labels, taught=taught) == ""


def test_a_larger_base_that_is_none_is_refused_before_models_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prompts: Path
) -> None:
    monkeypatch.setattr("dnd_engine.cli.refine.load_engine", None)
    (tmp_path / "a.zip").touch()
    result = dnd("refine", tmp_path / "a.zip", prompts, "--teacher-base", tmp_path / "larger")
    assert result.exit_code == 1, result.exception
    assert "no model folder at" in result.stderr


@pytest.mark.slow
def test_a_larger_base_trains_an_adapter_and_is_named(tmp_path: Path, tiny_folder: Path) -> None:
    (prompts := tmp_path / "first.txt").write_text(
        "\n---\n".join(f"Give it.\n\n{a}{b}" for a in "abcdef" for b in "klmn"), encoding="utf-8"
    )
    place = ("--base", tiny_folder, "--cache-dir", tmp_path / "cache", "--device", "cpu", "--json")
    start = make_adapter(base_id=str(tiny_folder)).save(tmp_path / "start.zip")
    larger = ("--teacher-base", save_larger(tmp_path / "larger"), "--steps", 1)
    out = tmp_path / "taught.zip"
    result = dnd("refine", start, prompts, *larger, "--out", out, *place)
    assert result.exit_code == 0, result.stderr
    values = json.loads(result.stdout)
    assert (values["teacher"], values["labels"]) == ("larger", False)
    read = json.loads(dnd("inspect", out, *place).stdout)["provenance"]["trained"]
    assert (read["answers"], read["teacher"]) == ("teacher", "larger")
    assert read["teacher_sha256"] == sha256_of(tmp_path / "larger" / "model.safetensors")


@pytest.mark.real
@pytest.mark.usefixtures("resident", "few_questions")
def test_corrected_answers_and_a_better_teacher_train_an_adapter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (prompts := tmp_path / "first.txt").write_text(
        "\n---\n".join(f"Give the first word.\n\nred {i} blue" for i in range(10)), encoding="utf-8"
    )
    start, out, table = tmp_path / "start.zip", tmp_path / "taught.zip", tmp_path / "a.jsonl"
    assert dnd("generate", prompts, "--out", start, "--json").exit_code == 0
    proposed = dnd("propose", prompts, "--limit", 8, "--out", table, "--json")
    assert len(json.loads(proposed.stdout)["answers"]) == 8, proposed.stderr
    lines = table.read_text(encoding="utf-8").splitlines()
    rows = [{**json.loads(line), "label": "red"} for line in lines]
    (corrected := tmp_path / "b.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
    )
    by_me = dnd("refine", start, corrected, "--labels", "--steps", 1, "--out", out, "--json")
    assert json.loads(by_me.stdout)["num_prompts"] == 6, by_me.stderr
    monkeypatch.setenv("DND_TEACHER_KEY", "sk-secret")
    with running_chat(lambda server, body: server.answer(body, "red")) as server:
        options = ("--teacher", server.url, "--teacher-model", "wise", "--steps", 1)
        result = dnd("refine", start, prompts, *options, "--out", out, "--json")
    assert json.loads(result.stdout)["teacher"] == "wise", result.stderr
    assert set(server.keys) == {"Bearer sk-secret"}
    assert "sk-secret" not in result.stdout + result.stderr
    read = json.loads(dnd("inspect", out, "--json").stdout)["provenance"]["trained"]
    assert (read["answers"], read["teacher"]) == ("teacher", "wise")
    both = dnd("refine", start, prompts, *options, "--labels")
    assert both.exit_code == 2
    assert "choose one of --labels, --teacher and --teacher-base" in both.stderr


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (None, [], "rows.csv: expected a file, found nothing there"),
        ("prompt,label\na,\n", [], "rows.csv: expected a label beside each prompt, got none for 1"),
        ("text,bin\na,b\n", [], "got the columns `text`, `bin`. Rename the one with the right"),
        ("prompt,label\na,b\n", ["--steps", 0], "`steps` must be at least 1, got 0"),
        ("prompt,label\na,b\n", ["--out", "taken"], "is a file. Name a folder"),
    ],
)
def test_measure_refuses_what_it_cannot_measure_before_models_load(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str | None,
    options: list[object],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dnd_engine.cli.measure.load_engine", None)
    Path("taken").write_text("", encoding="utf-8")
    if text is not None:
        Path("rows.csv").write_text(text, encoding="utf-8")
    result = dnd("measure", "adapter.zip", "rows.csv", *options)
    assert result.exit_code == 1, result.exception
    assert message in result.stderr


@pytest.mark.real
@pytest.mark.usefixtures("resident", "few_questions")
def test_measure_scores_trains_and_writes(tmp_path: Path) -> None:
    words = [
        "amber",
        "basil",
        "cedar",
        "delta",
        "ember",
        "fjord",
        "grove",
        "heron",
        "ivory",
        "jade",
        "kelp",
        "lotus",
    ]
    texts = [f"{a} {b}" for a in words for b in words if a < b][:60]
    rows = [f'"Write it in capital letters.\n\n{text}",{text.upper()}\n' for text in texts]
    (data := tmp_path / "rows.csv").write_text("prompt,label\n" + "".join(rows), encoding="utf-8")
    (some := tmp_path / "some.csv").write_text("prompt,label\n" + "".join(rows[:20]), "utf-8")
    adapter, out = tmp_path / "adapter.zip", tmp_path / "out"
    assert dnd("generate", some, "--out", adapter, "--json").exit_code == 0
    asked = ("--train", "--steps", 10, "--limit-items", 8, "--modes", "bare", "--out", out)
    result = dnd("measure", adapter, data, *asked, "--json")
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout)
    assert (values["data"]["num_seen"], values["data"]["num_seen_scored"]) == (20, 0)
    points = [(r["row"], r["steps"]) for r in values["rows"]]
    trained = [("trained_lora", steps) for steps in (0, 5, 10)]
    rest = [(row, 0) for row in ("base", "few_shot", "shared_lora", "adapter")]
    assert points == [*rest, *trained]
    assert all(r["n_items"] == 8 for r in values["rows"])
    nll = {(r["row"], r["steps"]): r["nll"] for r in values["rows"]}
    assert nll["trained_lora", 10] < nll["trained_lora", 0] == nll["base", 0]
    # It was imprinted, and its file does not record how long that took.
    assert values["synthesis_seconds"] is None
    assert {Path(file).name for file in values["files"]} == {p.name for p in out.iterdir()}
    assert {"measurement.json", "items.csv", "plot.svg", "trained.zip"} <= {
        p.name for p in out.iterdir()
    }
    card = zipfile.ZipFile(out / "trained.zip").read("README.md").decode()
    assert "trained on labels" in card
    refused = dnd("measure", adapter, some)
    assert refused.exit_code == 1
    assert "the prompts or inputs of all 20 labelled rows, so none is left" in refused.stderr
    # The LoRA belongs to the scores beside it, which a training that fails replaces, too.
    (few := tmp_path / "few.csv").write_text("prompt,label\n" + "".join(rows[-12:]), "utf-8")
    failed = dnd("measure", adapter, few, "--train", "--modes", "bare", "--out", out)
    assert failed.exit_code == 1
    assert "labelled rows" in failed.stderr
    assert {p.name for p in out.iterdir()} == {Path(file).name for file in values["files"]} - {
        "trained.zip"
    }


@pytest.mark.real
@pytest.mark.usefixtures("few_questions")
def test_generate_inspect_and_chat_work_on_what_they_write(tmp_path: Path, prompts: Path) -> None:
    out = tmp_path / "adapter.zip"
    made = dnd("generate", prompts, "--out", out, "--json")
    assert made.exit_code == 0, made.stderr
    for words in ("Writing weights", "Asking with the instruction: 15 of 15", "Layer 30 of 30"):
        assert words in made.stderr
    values = json.loads(made.stdout)
    assert values["num_prompts"] == 20
    # Its instruction is what all prompts begin with, up to the colon.
    assert set(values["seconds"]) == {"load", "encode", "decode", "write", "imprint"}
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
    assert seen["familiarity"] == values["familiarity"] is not None
    said = json.loads(dnd("chat", "--adapter", out, "--max-new-tokens", "8", "hi", "--json").stdout)
    assert said["base"]["text"]
    assert said["adapted"]["text"]
    assert said["adapter_sha256"] == values["sha256"]


@pytest.mark.real
@pytest.mark.usefixtures("resident", "few_questions")
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


# Prompt files as people have them


def test_columns_are_chosen_and_broken_lines_skipped_at_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, lines, mail = (tmp_path / name for name in ("a.csv", "b.jsonl", "c.txt"))
    table.write_text("id,ask,body\n1,Name it.,a dog\n2,Name it.,a cat\n", encoding="utf-8")
    lines.write_text('{"body": "a cow"}\n{"body": \n', encoding="utf-8")
    mail.write_text("From: Ann\nTo: Bob\nSubject: Lunch\n\nShall we?\n", encoding="utf-8")
    choices = Choices(text="body", instruction="ask")
    (bucket,) = read_buckets([table], [], EngineConfig(), choices)
    assert [p.text for p in bucket.prompts] == ["Name it.\n\na dog", "Name it.\n\na cat"]

    refused = dnd("generate", lines, "--column", "body")
    assert refused.exit_code == 1
    assert "Or use the 1 good prompt with --skip-broken." in refused.stderr
    skipping = Choices(text="body", skip_broken=True)
    (bucket,) = read_buckets([lines, mail], [], EngineConfig(), skipping)
    assert bucket.prompts[0].text == "a cow"
    assert (
        "c.txt: This looks like an e-mail, not like a list of prompts." in capsys.readouterr().err
    )

    missing = dnd("generate", table, "--column", "text")
    assert missing.exit_code == 1
    assert "expected a column `text`, found columns `id`, `ask`, `body`" in missing.stderr
    with_recipe = dnd("generate", "--recipe", tmp_path / "r.json", "--column", "body")
    assert with_recipe.exit_code == 2


def test_a_shared_command_shows_ids_of_the_hub_and_no_folders(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "one").mkdir(parents=True)
    typed = [
        *("--base", "Some/Base-1.5B", f"--out={tmp_path}/x", "--tasks", "client/tasks"),
        *("--teacher-base=Some/Base", "--base=runs/one", "../up/two/", "~/three"),
        *("/home/Ann Bee/my runs/four", "--in=/a b/ c/five,/d e/six/,seven", "eight, nine"),
    ]
    monkeypatch.setattr(sys, "argv", ["dnd", *typed])
    assert typed_arguments() == [
        *("--base", "Some/Base-1.5B", "--out=x", "--tasks", "tasks"),
        *("--teacher-base=Some/Base", "--base=one", "two", "three"),
        *("four", "--in=five,six/,seven", "eight, nine"),
    ]


@pytest.mark.parametrize(
    ("out", "recipe"),
    [("films.zip", None), ("a.zip", "a.zip"), ("a.zip", "sub/../films.zip"), ("a.zip", "b.csv")],
)
def test_nothing_is_written_over_what_a_command_reads(
    out: str, recipe: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    more = () if recipe is None else ("--save-recipe", recipe)
    found = dnd("generate", "films.zip", "--bucket", "B=1:b.csv", "--out", out, *more)
    assert found.exit_code == 1
    assert "this command also reads or writes" in found.stderr


def test_an_export_replaces_neither_its_adapter_nor_its_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = make_adapter().save(tmp_path / "a.zip").read_bytes()
    (tmp_path / "base.gguf").touch()
    whole = ("--format", "merged-gguf", "--base", "base.gguf", "--out", "base.gguf")
    for asked in (("--out", "a.zip"), whole):
        found = dnd("export", "a.zip", *asked)
        assert found.exit_code == 1
        assert f"--out: this command also reads or writes `{asked[-1]}`." in found.stderr
    assert (tmp_path / "a.zip").read_bytes() == made
    # A name of the library is no path: what fails here is the search for it.
    for command in ("export", "refine"):
        files = ("a.zip",) if command == "refine" else ()
        found = dnd(command, "french", *files, "--out", "french", "--library", tmp_path / "library")
        assert found.exit_code == 1
        assert "also reads or writes" not in found.stderr
        assert "french" in found.stderr


def test_rows_are_not_replaced_by_their_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m").mkdir()
    rows = tmp_path / "m" / "items.csv"
    rows.write_text("prompt,label\nSay yes.,yes\n", encoding="utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    lora = tmp_path / "m" / "trained.zip"
    for adapter, path in (
        ("a.zip", "m/items.csv"),
        ("m/trained.zip", "m/trained.zip"),
        ("~/m/trained.zip", str(lora)),
    ):
        rows_of = path if path.endswith(".csv") else "rows.csv"
        (tmp_path / "rows.csv").write_text(rows.read_text())
        found = dnd("measure", adapter, rows_of, "--out", "m")
        assert found.exit_code == 1
        assert f"The result would replace `{path}`. Choose another folder." in found.stderr
    assert rows.read_text().endswith("yes\n")


def test_a_tilde_is_ones_home_wherever_the_shell_left_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert f"No adapters in {tmp_path}/kept" in dnd("library", "list", "--library=~/kept").stdout
    told = dnd("generate", "--bucket", "A=1:~/none.csv", "--out=~/a.zip").stderr
    assert "none.csv: expected a file, found nothing there" in told


def test_a_question_from_standard_input_is_looked_at_before_models_load() -> None:
    for typed, words in ((b" \n", "no message"), (b"\xff", "not UTF-8")):
        found = CliRunner().invoke(app, ["chat", "-", "--base-only"], input=typed)
        assert found.exit_code == 2
        assert words in found.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_output_that_cannot_be_written_is_an_error_of_one_line() -> None:
    code = "from dnd_engine.cli import app; app()"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code, "library", "list", "--library", "nowhere"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("Error: the output cannot be written: No space left on device. ")
    assert done.stderr.count("\n") == 1


def test_answers_are_not_proposed_for_a_place_that_cannot_be_written(
    tmp_path: Path, prompts: Path
) -> None:
    (tmp_path / "file").write_text("")
    found = dnd("propose", prompts, "--out", tmp_path / "file" / "a.jsonl")
    assert found.exit_code == 1
    assert "cannot be written: `" in found.stderr
