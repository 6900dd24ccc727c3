"""Measure in a real browser: rows are dropped, scored, learnt; what was trained is taken away."""

import csv
import json
import re
import time
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import ViewportSize, expect

from dnd_engine.prompts.files import PromptFile, read_prompt_file
from tests.browser.conftest import PHONE, Visit, Visits
from tests.browser.test_teach import made, prompts
from tests.conftest import Write
from tests.ui.fake_engine import FakeEngine

pytestmark = pytest.mark.browser
NARROW = ViewportSize(width=320, height=640)


def open_tab(visit: Visit) -> None:
    visit.page.get_by_role("tab", name="Measure").click()


def drop_rows(visit: Visit, path: Path) -> None:
    """Drop a file on the place for rows, as the operating system delivers it."""
    place = visit.page.locator("#dnd-measure-file")
    expect(place).to_be_visible()
    visit.drop_on(place, [path], marks=False)


def test_rows_are_scored_and_learnt_and_the_lora_is_taken_to_the_workbench(
    visit: Visit, write: Write, tmp_path: Path, engine: FakeEngine
) -> None:
    page = visit.page
    open_tab(visit)
    expect(page.locator("#dnd-measure-empty")).to_be_visible()
    expect(page.locator("#dnd-measure")).to_be_hidden()
    page.get_by_role("tab", name="Workbench").click()
    before = made(visit, write("a.jsonl", prompts(9)))
    open_tab(visit)
    expect(page.locator("#dnd-measure-of")).to_contain_text(before)
    expect(page.locator("#dnd-measure-start")).to_be_disabled()
    drop_rows(visit, write("unlabelled.jsonl", prompts(9)))
    expect(page.locator("#dnd-measure-told .is-error")).to_contain_text(
        "expected a label", ignore_case=True
    )
    expect(page.locator("#dnd-measure-start")).to_be_disabled()
    page.locator("#dnd-measure-file button[aria-label]").first.click()
    expect(page.locator("#dnd-measure-told .is-error")).to_be_hidden()
    drop_rows(visit, write("rows.jsonl", prompts(40, label="yes")))
    expect(page.locator("#dnd-measure-told")).to_contain_text("40 prompts, 40 with a label")
    limit = page.locator("#dnd-measure-limit")
    words, number = (visit.box(limit.locator(one)) for one in (".info-text", "[type=number]"))
    assert words["x"] + words["width"] <= number["x"] - 8

    page.locator("#dnd-measure-start").click()
    found = page.locator("#dnd-measured")
    expect(found.locator(".dnd-worth")).to_contain_text("this adapter scores .60")
    expect(page.locator("#dnd-measure-stages summary")).to_contain_text("How it was measured")
    expect(found.locator("tr.is-adapter").first).to_contain_text(".60")
    expect(found.get_by_role("img", name="Bare inputs")).to_be_visible()
    with page.expect_download() as download:
        page.locator("#dnd-measured-items").click()
    download.value.save_as(tmp_path / "items.csv")
    with (tmp_path / "items.csv").open(newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 4 * 2 * 20
    with page.expect_download() as download:
        page.locator("#dnd-measured-json").click()
    download.value.save_as(tmp_path / "measured.json")
    assert json.loads((tmp_path / "measured.json").read_text())["adapter"] == "sql"

    details = page.locator("#dnd-measured-notes")
    details.get_by_role("button").click()
    expect(details.locator("li").first).to_be_visible()
    with engine.pace.held("train", at=6):
        page.locator("#dnd-train-start").click()
        expect(page.locator("#dnd-measure-stages li.is-running")).to_contain_text("of 40, loss")
        expect(found.locator(".mark.is-labels")).not_to_have_count(0)  # drawn while it trains
    expect(page.locator("#dnd-measure-stages summary")).to_contain_text("How it was trained")
    expect(found.locator(".mark.is-labels")).to_have_count(8)
    expect(details.locator("li").first).to_be_visible()  # results drawn again do not fold it
    expect(found).to_contain_text("scored as much after 3.0 s of training, in 10 steps")
    page.locator("#dnd-take-trained_lora").click()
    bar = page.locator("#dnd-adapter")
    expect(bar).to_contain_text("sql-trained-from-scratch")
    expect(bar).to_contain_text("trained on labels in 12 s")
    expect(page.locator("#dnd-choice-right")).to_be_visible()
    expect(page.locator("#dnd-warning")).to_be_focused()
    expect(page.locator("#dnd-download")).to_be_enabled()
    with page.expect_download() as download:
        page.locator("#dnd-download").click()
    assert download.value.suggested_filename.startswith("sql-trained-from-scratch-")
    visit.ask("After")
    visit.idle()
    open_tab(visit)
    expect(found).to_contain_text("the Workbench now has sql-trained-from-scratch")


def test_which_column_holds_the_labels_can_be_chosen(
    visit: Visit, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = visit.page
    made(visit, write("a.jsonl", prompts(9)))
    open_tab(visit)
    table = "\n".join(f"Say yes to {i},north,{'yes' if i % 2 else 'no'}" for i in range(40))
    rows = page.locator("#dnd-measure-file input[type=file]")
    rows.set_input_files(write("rows.csv", f"question,region,verdict\n{table}\n"))
    told, columns = page.locator("#dnd-measure-told"), page.locator("#dnd-measure-columns")
    expect(told).to_contain_text("rows.csv: choose the column that holds the right answers.")
    expect(page.locator("#dnd-measure-start")).to_be_disabled()
    visit.shot("measure-columns", full=False)
    columns.get_by_label("Label").focus()
    columns.get_by_label("Label").select_option("verdict")
    expect(told).to_contain_text("rows.csv: 40 prompts, 40 with a label.")
    expect(columns.locator("th.is-used")).to_have_text(["questionPrompt", "verdictLabel"])
    expect(columns.get_by_label("Label")).to_be_focused()
    visit.check_accessible()
    page.get_by_role("link", name="Deutsch").click()
    expect(columns.locator("th .dnd-role")).to_have_text(["Prompt", "Label"])
    expect(columns.locator("label").first).to_contain_text("Prompt oder Eingabe")
    visit.reload()
    page.get_by_role("tab", name="Messen").click()
    expect(told).to_contain_text("rows.csv: 40 Prompts, 40 mit Label.")
    expect(page.locator("#dnd-measure-file")).to_contain_text(re.compile(r"rows\s*\.csv"))

    def slowly(*args: Any, **kwargs: Any) -> PromptFile:
        time.sleep(0.5)
        return read_prompt_file(*args, **kwargs)

    # Choices made before the answer to the first one count too.
    monkeypatch.setattr("ui.tabs.measure.events.read_prompt_file", slowly)
    columns.evaluate(
        """async (section) => {
            const choices = [["label", "region"], ["instruction", "verdict"], ["label", ""]];
            for (const [role, name] of choices) {
                const menu = section.querySelector(`[data-role=${role}]`);
                menu.value = name;
                menu.dispatchEvent(new Event("change"));
                await new Promise((go) => setTimeout(go, 300));
            }
        }"""
    )
    used = columns.locator("th.is-used")
    expect(used).to_have_text(["questionPrompt", "verdictAnweisung"])
    columns.get_by_label("Label").select_option("region")
    expect(told).to_contain_text("40 mit Label.")
    page.locator("#dnd-measure-start").click()
    expect(page.locator("#dnd-measured")).to_contain_text("rows.csv")
    # Other rows take their place, wherever on the tab they are let go.
    other = write("other.jsonl", prompts(30, label="yes"))
    visit.drop_on(page.locator("#dnd-measure-of"), [other], page.locator("#dnd-measure-file"))
    expect(told).to_contain_text("other.jsonl: 30 Prompts, 30 mit Label.")


def test_the_focus_goes_from_measure_and_train_to_stop_and_back(
    visit: Visit, write: Write, engine: FakeEngine
) -> None:
    page = visit.page
    made(visit, write("a.jsonl", prompts(9)))
    open_tab(visit)
    page.locator("#dnd-measure-file input[type=file]").set_input_files(
        write("rows.jsonl", prompts(40, label="yes"))
    )
    works: tuple[tuple[Literal["measure", "train"], int], ...] = (("measure", 1), ("train", 6))
    for work, step in works:
        start, stop = page.locator(f"#dnd-{work}-start"), page.locator(f"#dnd-{work}-stop")
        for stops in (True, False):
            expect(start).to_be_enabled()
            with engine.pace.held(work, at=step):
                start.press("Enter")
                expect(stop).to_be_focused()
                if stops:
                    stop.press("Enter")
                    expect(start).to_be_focused()
            expect(start).to_be_focused()
        expect(page.locator("#dnd-measure-stages summary")).to_be_visible()


def test_stop_stays_when_the_end_of_the_run_before_arrives_late(
    visit: Visit, write: Write, engine: FakeEngine
) -> None:
    page = visit.page
    made(visit, write("a.jsonl", prompts(9)))
    open_tab(visit)
    page.locator("#dnd-measure-file input[type=file]").set_input_files(
        write("rows.jsonl", prompts(40, label="yes"))
    )
    start, stop = page.locator("#dnd-measure-start"), page.locator("#dnd-measure-stop")
    with engine.pace.held("measure", at=1):
        start.click()
        deliver = visit.keep_back("show_measured")
        stop.click()
        expect(start).to_be_enabled()
    with engine.pace.held("measure", at=1):
        start.click()
        expect(stop).to_be_visible()
        deliver()
        expect(stop).to_be_visible()
        expect(start).to_be_hidden()
    expect(start).to_be_enabled()


def test_a_training_from_the_adapter_stops_at_once_and_the_chat_goes_on(
    visit: Visit, write: Write, engine: FakeEngine
) -> None:
    page, closed = visit.page, engine.closed_measurements
    made(visit, write("a.jsonl", prompts(9)))
    open_tab(visit)
    page.locator("#dnd-measure-file input[type=file]").set_input_files(
        write("rows.jsonl", prompts(40, label="yes"))
    )
    stages = page.locator("#dnd-measure-stages")
    with engine.pace.held("measure"):
        page.locator("#dnd-measure-start").click()
        expect(page.locator("#dnd-measured tr.is-base").first).to_be_visible()
        page.locator("#dnd-measure-stop").click()
        expect(stages).to_contain_text("Results so far are below.")
        expect(page.locator("#dnd-measured-json")).to_be_visible()
        expect(page.locator("#dnd-measure-start")).to_be_enabled()

    page.locator("#dnd-measure-start").click()
    expect(stages.locator("summary")).to_contain_text("How it was measured")
    page.get_by_label("Start from this adapter").check()
    with engine.pace.held("train", at=6):
        page.locator("#dnd-train-start").click()
        expect(stages.locator("li.is-running")).to_contain_text("loss")
        page.get_by_role("tab", name="Workbench").click()
        visit.ask("Meanwhile")
        expect(visit.answer("right")).to_contain_text("SELECT")
        open_tab(visit)
        expect(page.locator("#dnd-measured .mark.is-also").first).to_be_visible()
        page.keyboard.press("Escape")
        expect(stages).to_contain_text("The last scored LoRA")
        expect(page.locator("#dnd-train-start")).to_be_enabled()
        visit.until(lambda: engine.closed_measurements >= closed + 3)


def test_on_a_phone_long_words_on_buttons_wrap(visits: Visits, write: Write) -> None:
    visit = visits(size=PHONE, locale="de-DE")
    page = visit.page
    page.locator(".dnd-picker").set_input_files([write("a.jsonl", prompts(9))])
    visit.ready("a.jsonl")
    page.locator("#dnd-synthesize").click()
    expect(page.locator("#dnd-download")).to_be_enabled()
    page.get_by_role("tab", name="Messen").click()
    page.locator("#dnd-measure-file input[type=file]").set_input_files(
        write("rows.jsonl", prompts(40, label="yes"))
    )
    page.locator("#dnd-measure-start").click()
    expect(page.locator("#dnd-train-start")).to_be_enabled()
    page.locator("#dnd-train-warm input").check()
    page.locator("#dnd-train-start").click()
    take = page.locator("#dnd-take-warm_lora")
    expect(take).to_be_visible()
    page.set_viewport_size(NARROW)
    take.scroll_into_view_if_needed()
    visit.shot("measure-take-phone", full=False)
    box = visit.box(take)
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= NARROW["width"]
    assert take.evaluate("button => button.scrollWidth <= button.clientWidth")


def test_it_can_be_done_from_the_keyboard(visit: Visit, write: Write, engine: FakeEngine) -> None:
    page = visit.page
    made(visit, write("a.jsonl", prompts(9)))
    open_tab(visit)
    page.locator("#dnd-measure-file input[type=file]").set_input_files(
        write("rows.jsonl", prompts(12, label="yes"))
    )
    expect(page.locator("#dnd-measure-start")).to_be_enabled()
    page.locator("#dnd-measure-seen input").focus()
    page.keyboard.press("Tab")
    expect(page.locator("#dnd-measure-start")).to_be_focused()
    with engine.pace.held("measure"):
        page.keyboard.press("Enter")
        expect(page.locator("#dnd-measure-stop")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("#dnd-measure-stages")).to_contain_text("Stopped")
