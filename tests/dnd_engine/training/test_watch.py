"""A run's folder is read while the run writes to it, and tells what it can and no more."""

import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from dnd_engine.cli import app
from dnd_engine.errors import TrainingError
from dnd_engine.files import only_call_on
from dnd_engine.training.collection_files import LossRow, Run, Snapshot, write_losses
from dnd_engine.training.run_log import Row, parse_log, smoothed
from dnd_engine.training.watch import Collecting, RunFolder, Training

ROOT = Path(__file__).parents[3]
NOW = 1_900_000_000.0


def step(number: int, **more: float) -> dict[str, Any]:
    return {"step": number, "loss": 4 / number, "tokens": 200, "seconds": 2.0, **more}


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def train_folder(tmp_path: Path) -> Callable[..., Path]:
    """Write a folder of `dnd train`, last touched some seconds before `NOW`."""

    def make(
        text: str | None = None,
        recipe: dict[str, Any] | None = None,
        result: dict[str, Any] | None = None,
        idle: float = 1.0,
    ) -> Path:
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        if text is not None:
            (folder / "log.jsonl").write_text(text)
        if recipe is not None:
            (folder / "recipe.json").write_text(json.dumps(recipe))
        if result is not None:
            (folder / "generator").mkdir(exist_ok=True)
            training = {"result": result, "recipe": {"kind": "generator", "steps": 3}}
            (folder / "generator" / "config.json").write_text(json.dumps({"training": training}))
        for path in (*folder.iterdir(), folder):
            os.utime(path, (NOW - idle, NOW - idle))
        return folder

    return make


def look(folder: Path) -> Training:
    found = RunFolder(folder, clock=lambda: NOW).look()
    assert isinstance(found, Training)
    return found


def test_a_running_training_tells_its_progress(train_folder: Callable[..., Path]) -> None:
    rows = [step(1), step(2, between_task_share=0.01, watch_seconds=2.0), step(3)]
    recipe = {"kind": "generator", "steps": 13}
    seen = look(train_folder(lines(*rows), recipe, idle=5))
    assert (seen.name, seen.kind, seen.state) == ("run", "generator", "running")
    assert (seen.done, seen.total, seen.idle_seconds) == (3, 13, 5)
    assert seen.tokens_per_second == 100
    # Ten steps of 2 s each, and what watching took per step.
    assert seen.seconds_left == pytest.approx(10 * (2 + 2 / 3))
    assert seen.curve("between_task_share") == [(2, 0.01)]
    assert seen.latest()["between_task_share"] == (2, 0.01)
    assert seen.latest()["loss"] == (3, 4 / 3)


def test_a_run_that_moves_no_more_is_called_still_and_nothing_worse(
    train_folder: Callable[..., Path],
) -> None:
    text, recipe = lines(step(1)), {"steps": 9}
    assert look(train_folder(text, recipe, idle=119)).state == "running"
    assert look(train_folder(text, recipe, idle=121)).state == "still"
    slow = lines(step(1, watch_seconds=100.0))
    assert look(train_folder(slow, recipe, idle=300)).state == "running"
    assert look(train_folder(slow, recipe, idle=310)).state == "still"


def test_a_run_is_finished_once_its_generator_holds_its_last_step(
    train_folder: Callable[..., Path],
) -> None:
    three = lines(step(1), step(2), step(3))
    assert look(train_folder(three, {"steps": 3})).state == "running"
    done = look(train_folder(three, {"steps": 3}, {"steps": 3, "stopped_early": False}, idle=1e6))
    assert (done.state, done.stopped_early, done.seconds_left) == ("finished", False, None)
    # Resumed with more steps: the generator is that of an earlier end.
    assert look(train_folder(three, {"steps": 9}, {"steps": 3}, idle=1e6)).state == "still"
    early = look(train_folder(three, {"steps": 9}, {"steps": 3, "stopped_early": True}))
    assert (early.state, early.stopped_early) == ("finished", True)


def test_numbers_beyond_any_run_are_not_calculated_with(train_folder: Callable[..., Path]) -> None:
    seen = look(train_folder(lines(step(1)), {"steps": 10**400}))
    assert (seen.total, seen.seconds_left) == (None, None)
    assert (
        look(train_folder(lines({**step(1), "seconds": 1e308}), {"steps": 9})).seconds_left is None
    )
    with pytest.raises(TrainingError, match=r"`run` holds a number that is too large \("):
        look(train_folder(lines(*({**step(n), "seconds": 1e308} for n in (1, 2)))))


def test_older_runs_without_a_recipe_beside_their_log(train_folder: Callable[..., Path]) -> None:
    seen = look(train_folder(lines(step(1), step(2, between_task_share=0.1))))
    assert (seen.kind, seen.total, seen.seconds_left) == ("generator", None, None)
    assert look(train_folder(lines(step(1)))).kind == "unknown"
    finished = look(train_folder(lines(step(1), step(2), step(3)), result={"steps": 3}))
    assert (finished.kind, finished.total, finished.state) == ("generator", 3, "finished")


def test_a_run_that_has_not_begun_is_a_state_of_its_own(
    tmp_path: Path, train_folder: Callable[..., Path]
) -> None:
    (tmp_path / "empty").mkdir()
    assert look(tmp_path / "empty").state == "starting"
    (tmp_path / "encoding" / "cache").mkdir(parents=True)
    with only_call_on(tmp_path / "encoding"):
        assert look(tmp_path / "encoding").state == "starting"
    assert look(tmp_path / "encoding").state == "starting"
    seen = look(train_folder(recipe={"kind": "multi_task_lora", "steps": 9}))
    assert (seen.state, seen.kind, seen.done, seen.total) == ("starting", "multi_task_lora", 0, 9)
    assert look(train_folder('{"step": 1, "lo')).state == "starting"


def test_other_folders_are_refused_with_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"no folder `.*none`\. Expected the --out folder of"):
        RunFolder(tmp_path / "none")
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).touch()
    wanted = (
        r"is no folder of a run: expected `log\.jsonl` or `recipe\.json` of `dnd train`, or "
        r"`manifest\.json` of `dnd collect`, found config\.json, model\.safetensors\. Name the"
    )
    with pytest.raises(TrainingError, match=wanted):
        RunFolder(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("log.jsonl", "no json\n", r"`log\.jsonl` is no log of `dnd train`: expected one JSON"),
        ("log.jsonl", '{"step": "1", "loss": 2}\n', r"`log\.jsonl` is no log of `dnd train`"),
        ("recipe.json", "{", r"`recipe\.json` cannot be read: Expecting"),
        ("manifest.json", "[]", r"`manifest\.json` cannot be read: TypeError"),
        ("manifest.json", "{}", r"`manifest\.json` cannot be read: KeyError\('format'\)"),
    ],
)
def test_files_that_are_not_ours_are_refused_without_naming_the_folder(
    tmp_path: Path, name: str, text: str, told: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(TrainingError, match=told) as refused:
        RunFolder(tmp_path)
    assert str(tmp_path) not in str(refused.value)


# The log


def test_a_folder_that_went_is_told_without_naming_where_it_was(
    train_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = train_folder()
    watched = RunFolder(folder)
    shutil.rmtree(folder)
    with pytest.raises(TrainingError, match="cannot be read: No such file") as told:
        watched.look()
    assert str(tmp_path) not in str(told.value)


def rows_of(folder: RunFolder) -> tuple[Row, ...]:
    seen = folder.look()
    assert isinstance(seen, Training)
    return seen.rows


def test_a_growing_log_is_read_up_to_its_last_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    reader = RunFolder(tmp_path)
    assert rows_of(reader) == ()
    whole, half = lines(step(1), step(2)), json.dumps(step(3))
    path.write_text(whole + half[:20])
    assert [row["step"] for row in rows_of(reader)] == [1, 2]
    with path.open("a") as log:
        log.write(half[20:] + "\n" + lines(step(4)))
    first = rows_of(reader)
    assert [row["step"] for row in first] == [1, 2, 3, 4]
    assert rows_of(reader) is first  # not parsed again


def test_a_resumed_run_forgets_the_steps_that_it_does_again(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(lines(step(1), step(2), step(3)))
    reader = RunFolder(tmp_path)
    assert len(rows_of(reader)) == 3
    aside = tmp_path / "aside"
    aside.write_text(lines(step(1), *(step(n, seconds=1.5) for n in range(2, 9))))
    aside.replace(path)
    assert [row["seconds"] for row in rows_of(reader)] == [2.0] + 7 * [1.5]
    path.unlink()
    assert rows_of(reader) == ()


def test_only_finite_numbers_of_whole_steps_are_kept() -> None:
    hostile = '{"step": 2, "loss": NaN}\n[]\n"x"\n{"step": 3}\n' + "[" * 100_000 + "\n"
    odd = {**step(4), "warning": "collapsed", "ok": True, "big": 10**400, "nested": {"a": 1}}
    text = lines(step(1)) + hostile + lines(odd, {**step(5), "gap": float("inf")})
    rows = parse_log(text.encode())
    assert [row["step"] for row in rows] == [1, 5]
    assert "gap" not in rows[1]


def test_ten_thousand_steps_are_looked_at_in_no_time(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(lines(*(step(n, probe_loss=1.0) for n in range(1, 10_001))))
    folder = RunFolder(tmp_path)
    started = time.process_time()
    assert folder.look().done == 10_000
    # A tenth of that, on a processor of its own; reading the log for each step takes minutes.
    assert time.process_time() - started < 1


def test_the_moving_average_is_that_of_the_plots() -> None:
    values = [5.0, 1.0, 3.0, 2.5, 0.5, 4.0]
    expected = pd.Series(values).ewm(span=25).mean().tolist()
    assert smoothed(values) == pytest.approx(expected)


# A collection


def lora(slug: str) -> dict[str, Any]:
    return Run(
        slug=slug,
        seed=0,
        split="train",
        family="f",
        category="c",
        licence="MIT",
        train_sha256="0",
        num_examples=40,
        start=30,
        start_reason="latest",
        steps=30,
        first_loss=3.0,
        last_loss=1.0,
        first_validation_loss=2.5,
        last_validation_loss=0.5,
        first_validation_exact=0.0,
        last_validation_exact=0.75,
        snapshots=(Snapshot(30, "0"),),
    ).to_json()


def write_manifest(folder: Path, planned: int, *runs: dict[str, Any]) -> None:
    recipe = {"steps": 30, "tasks_at_once": 2, "checkpoint_every": 10}
    manifest = {
        "format": 1,
        "base": {"id": "b", "fingerprint": {"architecture": {}, "norms": [1.0]}},
        "init": {"seed": 0, "sha256": "0"},
        "lora": {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]},
        "layout": [[0, "q_proj", 64, 64]],
        "recipe": recipe,
        "planned": planned,
        "left_out": {"short": "3 examples"},
        "runs": runs,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for run in runs:
        write_losses(folder / run["slug"] / "seed-0", [LossRow(0, 2.0, seconds=60.0)])


def test_a_collection_tells_what_is_done_and_what_is_in_training(tmp_path: Path) -> None:
    write_manifest(tmp_path, 4, lora("one"))
    rows = [LossRow(n, 3.0 - n / 10, seconds=2.0) for n in range(11)]
    write_losses(tmp_path / "two" / "seed-0", rows)
    seen = RunFolder(tmp_path).look()
    assert isinstance(seen, Collecting)
    assert (seen.kind, seen.state, seen.done, seen.total) == ("collection", "running", 1, 4)
    assert list(seen.curves) == [("two", 0)]
    assert seen.left_out == {"short": "3 examples"}
    # Three times 30 steps at (60 + 22) s for 40 of them, less what the second has done.
    assert seen.seconds_left == pytest.approx(90 * 82 / 40 - 22)
    write_manifest(tmp_path, 1, lora("one"))
    assert RunFolder(tmp_path).look().state == "finished"


def test_a_collection_without_a_step_is_starting_and_a_damaged_curve_is_named(
    tmp_path: Path,
) -> None:
    write_manifest(tmp_path, 4)
    seen = RunFolder(tmp_path).look()
    assert (seen.state, seen.done, seen.seconds_left) == ("starting", 0, None)
    (tmp_path / "two" / "seed-0").mkdir(parents=True)
    (tmp_path / "two" / "seed-0" / "losses.csv").write_text("step\nx\n")
    with pytest.raises(TrainingError, match=r"^`two/seed-0/losses\.csv` cannot be read, or is"):
        RunFolder(tmp_path)
    write_manifest(tmp_path, 4, {**lora("one"), "steps": "1"})
    with pytest.raises(TrainingError, match="`steps` of `one` is '1', expected a number"):
        RunFolder(tmp_path)
    write_manifest(tmp_path, 4, {**lora("one"), "steps": 10**30})
    with pytest.raises(TrainingError, match=r"^`manifest\.json` cannot be read: OverflowErr"):
        RunFolder(tmp_path)


def test_a_curve_that_is_infinite_is_damaged(tmp_path: Path) -> None:
    write_manifest(tmp_path, 4)
    write_losses(tmp_path / "two" / "seed-0", [LossRow(1, 3.0, seconds=math.inf)])
    with pytest.raises(TrainingError, match=r"^`two/seed-0/losses\.csv` cannot be read, or is"):
        RunFolder(tmp_path)


def test_watching_loads_no_torch() -> None:
    code = (
        "import sys, dnd_engine.training.watch;"
        "print({'torch', 'numpy', 'pandas'} & set(sys.modules))"
    )
    run = [sys.executable, "-c", code]
    assert subprocess.run(run, cwd=ROOT, capture_output=True, check=True).stdout == b"set()\n"


# The command


def test_the_command_tells_a_training_in_words_and_as_json(
    train_folder: Callable[..., Path],
) -> None:
    rows = [step(n) for n in range(1, 1200)]
    rows[-1] |= {"validation_loss": 1.25, "between_task_share": 0.5}
    folder = train_folder(lines(*rows), {"kind": "generator", "steps": 3000}, idle=0)
    told = CliRunner().invoke(app, ["watch", str(folder)]).stdout.splitlines()
    assert told[0].startswith("run (generator): ")
    assert told[1] == "1,199 of 3,000 steps, 1 h 0 min left at this pace, 100 tokens a second"
    values = json.loads(CliRunner().invoke(app, ["watch", str(folder), "--json"]).stdout)
    assert (values["done"], values["total"], values["kind"]) == (1199, 3000, "generator")
    assert values["latest"]["between_task_share"] == {"step": 1199, "value": 0.5}
    assert "rows" not in values
    train_folder(lines(*rows, step(1200, between_task_share=2e-5)), idle=0)
    told = CliRunner().invoke(app, ["watch", str(folder)]).stdout.splitlines()
    assert told[1].endswith(", collapsed: adapters of different tasks are nearly the same")


def test_the_command_tells_a_collection(tmp_path: Path) -> None:
    write_manifest(tmp_path, 4, lora("one"))
    write_losses(tmp_path / "two" / "seed-0", [LossRow(0), LossRow(1, 3.0, seconds=1.0)])
    told = CliRunner().invoke(app, ["watch", str(tmp_path)]).stdout
    assert "(collection): running, last change" in told
    assert "1 of 4 LoRAs" in told
    values = json.loads(CliRunner().invoke(app, ["watch", str(tmp_path), "--json"]).stdout)
    assert values["curves"][0]["slug"] == "two"
    assert values["runs"][0]["last_validation_loss"] == 0.5


def test_following_tells_each_move_once_and_ends_with_the_run(
    train_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = train_folder(recipe={"steps": 2}, idle=1)
    moves = iter(
        (
            {},
            {"text": lines(step(1)), "idle": 0.5},
            {"text": lines(step(1), step(2)), "result": {"steps": 2}, "idle": 0.2},
        )
    )
    monkeypatch.setattr("time.sleep", lambda _: train_folder(**next(moves)))
    told = CliRunner().invoke(app, ["watch", str(folder), "--follow"]).stdout
    assert [line for line in told.splitlines() if " steps" in line] == [
        "0 of 2 steps",
        "1 of 2 steps, 2 s left at this pace, 100 tokens a second",
        "2 of 2 steps, 100 tokens a second",
    ]
