"""The Training tab: there only if the operator named runs, honest about them, and safe to show."""

import json
import os
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from dnd_engine.errors import TrainingError
from dnd_engine.limits import PromptLimits
from dnd_engine.training.collection_files import LossRow, write_losses
from dnd_engine.training.watch import RunFolder
from tests.dnd_engine.training.test_watch import lora, write_manifest
from tests.ui.fake_engine import handle_of
from ui.build import build_ui
from ui.engine_calls import EngineCalls
from ui.engine_handle import EngineHandle
from ui.handlers import Handlers
from ui.serve import serve
from ui.session_files import SessionFiles
from ui.shared import App
from ui.state import Session
from ui.tabs.training.view import all_numbers_html, watch_html
from ui.text import languages, speaking

EVIL = "<img src=x onerror=alert(1)>"
RECIPE = {"kind": "generator", "steps": 400, "validate_every": 100, "warmup_steps": 20, "r": 4}


def logged(number: int, **more: float) -> dict[str, Any]:
    values = {"step": number, "loss": 3 / number, "tokens": 500, "seconds": 1.0}
    if number % 50 == 0:
        values |= {"delta_norm": 9.5, "between_task_share": 0.02, "probe_loss": 1.0}
        values |= {"probe_loss_wrong_prompts": 2.0, "probe_wrong_prompt_gap": 1.0}
    if number % 100 == 0:
        values |= {"validation_loss": 1.25, "validation_loss_wrong_prompts": 2.75}
        values |= {"validation_wrong_prompt_gap": 1.5, "validation_exact": 0.25}
    return values | more


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "long-run"
    path.mkdir()
    (path / "recipe.json").write_text(json.dumps(RECIPE))
    return path


@pytest.fixture
def watching(handle: EngineHandle, files: SessionFiles, folder: Path) -> Handlers:
    runs = [RunFolder(folder)]
    return Handlers(App(EngineCalls(handle), PromptLimits(), files, folder.parent, None, runs))


def write(folder: Path, steps: int, **more: float) -> None:
    text = "".join(json.dumps(logged(n, **more)) + "\n" for n in range(1, steps + 1))
    (folder / "log.jsonl").write_text(text)


def tabs(demo: gr.Blocks) -> set[str]:
    return {str(block.label) for block in demo.blocks.values() if isinstance(block, gr.Tab)}


@pytest.mark.slow
def test_the_tab_is_there_only_if_a_run_was_named(folder: Path) -> None:
    handle = handle_of()
    without = build_ui(handle, PromptLimits())
    assert "Training" not in tabs(without)
    demo = build_ui(handle, PromptLimits(), runs=[RunFolder(folder)])
    assert "Training" in tabs(demo)
    # Nothing ticks before the tab is opened, and nobody but the page is offered any of it.
    timers = [block for block in demo.blocks.values() if isinstance(block, gr.Timer)]
    assert [timer.active for timer in timers].count(False) == 1
    public = {fn.api_name for fn in demo.fns.values() if fn.api_visibility == "public"}
    assert public == {fn.api_name for fn in without.fns.values() if fn.api_visibility == "public"}


def test_serving_another_folder_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(TrainingError, match=r"is no folder of a run: expected `log\.jsonl` or"):
        serve(run_folders=[tmp_path])


def test_a_run_is_followed_from_before_its_first_step_to_its_end(
    watching: Handlers, folder: Path
) -> None:
    updates = watching.watch.watch_run(0)
    assert "It has not written a step yet" in updates["watch"]
    assert "0 of 400" in updates["watch"]
    assert "Nothing was measured yet." in watching.watch.all_numbers(0)["watch_all"]
    assert updates["watch_timer"].active is True
    write(folder, 40)
    drawn = watching.watch.watch_run(0)["watch"]
    assert "40 of 400" in drawn
    assert "<dd>about 6 min</dd>" in drawn
    assert "<dd>500</dd>" in drawn  # tokens a second
    assert "The first validation comes at step 100." in drawn
    write(folder, 400)
    drawn = watching.watch.watch_run(0)["watch"]
    assert "right prompts: 1.25 at step 100, 1.25 at step 400" in drawn
    assert "wrong prompts: 2.75 at step 100, 2.75 at step 400" in drawn
    assert "Nats per token. Above 0 and growing" in drawn
    assert "below .001 the run has collapsed" in drawn
    assert "Collapsed." not in drawn
    (folder / "generator").mkdir()
    config = {"training": {"result": {"steps": 400}}}
    (folder / "generator" / "config.json").write_text(json.dumps(config))
    updates = watching.watch.watch_run(0)
    assert "Finished" in updates["watch"]
    assert updates["watch_timer"].active is False
    assert watching.watch.choose_run(0)["watch_all_box"].open is False


def test_a_look_that_arrives_after_its_tab_was_left_starts_no_more_of_them(
    watching: Handlers, folder: Path
) -> None:
    write(folder, 40)
    visit = Session()
    assert watching.watch.open_runs(visit, 0)["watch_timer"].active is True
    assert "40 of 400" in watching.watch.follow_run(visit, 0)["watch"]
    assert watching.watch.rest(visit)["watch_timer"].active is False
    # The timer was started by the look before, once more: it stops, and no file is read.
    late = watching.watch.follow_run(visit, 0)
    assert late.keys() == {"watch_timer"}
    assert late["watch_timer"].active is False


def test_a_run_that_stopped_moving_or_collapsed_says_so(watching: Handlers, folder: Path) -> None:
    write(folder, 60, between_task_share=1e-5)
    for path in folder.iterdir():
        os.utime(path, (1_000_000_000, 1_000_000_000))
    drawn = watching.watch.watch_run(0)["watch"]
    assert "<b>Not moving</b>" in drawn
    assert "<b>Collapsed.</b> At step 60, adapters of different tasks are nearly identical" in drawn
    assert "role='alert'" in drawn


def test_a_damaged_folder_says_why_and_is_looked_at_again(watching: Handlers, folder: Path) -> None:
    (folder / "recipe.json").write_text("{")
    updates = watching.watch.watch_run(0)
    assert "<code>recipe.json</code> cannot be read" in updates["watch"]
    assert str(folder.parent) not in updates["watch"]
    assert updates["watch_timer"].active is True
    assert watching.watch.all_numbers(0) == {"watch_all": ""}


def test_all_numbers_are_those_of_the_log(watching: Handlers, folder: Path) -> None:
    write(folder, 120)
    table = watching.watch.all_numbers(0)["watch_all"]
    assert table.count("<tr>") == 1 + 2  # steps 50 and 100
    assert "<th scope='col'>validation_wrong_prompt_gap</th>" in table
    assert table.index("<td>100</td>") < table.index("<td>50</td>")


def test_a_collection_shows_its_loras_and_those_in_training(tmp_path: Path) -> None:
    write_manifest(tmp_path, 5, lora("one"), lora("two"))
    write_losses(tmp_path / "three" / "seed-0", [LossRow(n, 2.0 / n) for n in range(1, 9)])
    seen = RunFolder(tmp_path).look()
    drawn = watch_html(seen)
    assert "2 of 5" in drawn
    assert drawn.count("<g class='row'") == 2
    assert ".50, was 2.50" in drawn
    assert "three: 2 at step 1, .25 at step 8" in drawn
    assert "<b>short</b> <span lang='en'>3 examples</span>" in drawn
    assert "<td>one</td>" in all_numbers_html(seen)


@pytest.mark.parametrize("code", languages())
def test_whatever_a_folder_holds_is_escaped(tmp_path: Path, code: str) -> None:
    train, collection = tmp_path / EVIL.replace("/", ""), tmp_path / "collection"
    for path in (train, collection):
        path.mkdir()
    (train / "recipe.json").write_text(json.dumps({"kind": [EVIL], "base": EVIL, "r": {"x": EVIL}}))
    write(train, 100, **{EVIL: 1.0})
    evil = {**lora("one"), "family": EVIL, "licence": EVIL, "start_reason": EVIL}
    write_manifest(collection, 3, evil)
    manifest = json.loads((collection / "manifest.json").read_text())
    manifest |= {"left_out": {EVIL: EVIL}, "recipe": {"base": EVIL, "steps": EVIL}}
    (collection / "manifest.json").write_text(json.dumps(manifest))
    for path in (train, collection):
        seen = RunFolder(path).look()
        with speaking(code):
            drawn = watch_html(seen) + all_numbers_html(seen)
        assert "<img" not in drawn
        assert "&lt;img" in drawn
