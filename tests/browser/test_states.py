"""Every state the page can be in, open to everyone, in two looks.

`DND_SHOTS=1` photographs them, and `DND_ALL_LOOKS=1` takes the other looks too: to look at after a
change of the page.
"""

# ruff: noqa: D102 - the names say it

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import ViewportSize, expect

from dnd_engine.errors import AssetError
from dnd_engine.library import Library
from dnd_engine.training.watch import RunFolder
from tests.browser.conftest import DESK, PHONE, Serve, Visit, Visits
from tests.browser.test_teach import prompts
from tests.conftest import Write
from tests.dnd_engine.training.test_watch import lora, write_manifest
from tests.ui.fake_engine import FakeEngine, Loading, handle_of
from tests.ui.test_watch import RECIPE, write
from ui import text
from ui.engine_handle import EngineHandle
from ui.owner import Owner

pytestmark = pytest.mark.browser


@dataclass(frozen=True)
class Look:
    """How a visitor sees the page."""

    locale: str
    dark: bool
    size: ViewportSize

    def __str__(self) -> str:
        return f"{self.locale[:2]}-{'dark' if self.dark else 'light'}-{self.size['width']}"


LOOKS = [Look("en-US", False, DESK), Look("de-DE", True, PHONE)]
"""Between them both languages, themes and sizes."""
if os.environ.get("DND_ALL_LOOKS"):
    LOOKS += [
        Look("en-US", True, DESK),
        Look("en-US", False, PHONE),
        Look("en-US", True, PHONE),
        Look("de-DE", False, DESK),
    ]


@dataclass
class Sight:
    """A visit that is looked at in every state it reaches."""

    visit: Visit
    look: Look

    def glimpse(self, name: str) -> None:
        """Photograph a state that does not last."""
        self.visit.page.evaluate("window.scrollTo(0, 0)")
        self.visit.shot(f"state-{self.look}-{name}")

    def see(self, name: str) -> None:
        self.glimpse(name)
        self.visit.check_accessible()
        self.visit.page.evaluate("window.scrollTo(0, 0)")

    def stage(self, name: str) -> str:
        with text.speaking(self.look.locale[:2]):
            return text._(name)

    def put(self, *paths: Path) -> None:
        """Choose files, for the first bucket or the one used last."""
        self.visit.page.locator(".dnd-picker").set_input_files(paths)

    def rename(self, name: str) -> None:
        title = self.visit.page.locator(".dnd-title").first
        title.fill(name)
        title.press("Enter")

    def make(self) -> None:
        page = self.visit.page
        page.locator("#dnd-synthesize").click()
        expect(page.locator("#dnd-checks .dnd-verdicts")).to_be_visible()
        expect(page.locator("#dnd-download")).to_be_enabled()

    def open_tab(self, name: str) -> None:
        """On a phone, from the menu that holds what the row of tabs has no room for."""
        page = self.visit.page
        if self.look.size == PHONE:
            page.locator(".overflow-menu > button").click()
            page.locator(".overflow-dropdown button", has_text=name).click()
        else:
            page.get_by_role("tab", name=name).click()

    def edit(self) -> None:
        self.visit.page.locator(".dnd-edit").click()


Sights = Callable[..., Sight]


@pytest.fixture(params=LOOKS, ids=str)
def sights(visits: Visits, request: pytest.FixtureRequest) -> Sights:
    look: Look = request.param

    def open_page(*where: Any) -> Sight:
        return Sight(visits(*where, dark=look.dark, size=look.size, locale=look.locale), look)

    return open_page


def test_prompts_and_their_faults(sights: Sights, write: Write) -> None:
    sight = sights()
    page = sight.visit.page
    expect(page.locator(".dnd-chip code")).to_have_count(1)
    sight.see("01-empty")
    sight.put(write("one.txt", "a long prompt\nof three lines\nin all"), write("scan.pdf", "x"))
    sight.visit.ready("one.txt")
    sight.put(write("empty.txt", ""), write("bad.jsonl", '{"prompt": 1}\n[]\n'), write("b.pdf", ""))
    expect(page.locator(".dnd-card.is-error")).to_have_count(2)
    page.locator(".dnd-add").click()  # weights appear with the second bucket
    page.locator(".dnd-title").first.focus()
    sight.visit.card("empty.txt").locator(".dnd-x").click()
    page.locator(".dnd-number").first.fill("-1")
    page.locator(".dnd-number").first.press("Tab")
    page.locator(".dnd-paste").click()
    sight.see("02-faults")
    page.locator(".dnd-paste-cancel").click()
    sight.visit.card("one.txt").locator(".dnd-see").click()
    expect(page.locator(".dnd-look-list li")).to_have_count(3)
    sight.see("03-prompts")
    page.keyboard.press("Escape")
    for _ in range(2):
        page.locator(".dnd-remove-bucket").first.click()
    sight.see("03-no-bucket")


def test_a_run_that_stops_and_one_that_fails(
    sights: Sights, write: Write, engine: FakeEngine
) -> None:
    sight = sights()
    page = sight.visit.page
    sight.put(write("a.txt", "one\ntwo\n"))
    sight.visit.ready("a.txt")
    with engine.pace.held("synthesis"):
        page.locator("#dnd-synthesize").click()
        expect(page.locator("#dnd-stages li.is-running")).to_contain_text(sight.stage("Encode"))
        sight.glimpse("04-running")
        page.keyboard.press("Escape")
        expect(page.locator("#dnd-synthesize")).to_be_visible()
    sight.see("05-stopped")
    page.locator(".dnd-clear").click()
    sight.put(write("bad.txt", "FAIL here\nplease\n"))
    sight.visit.ready("bad.txt")
    page.locator("#dnd-synthesize").click()
    expect(page.locator("#dnd-stages li.is-failed")).to_be_visible()
    sight.see("06-failed")


def test_loading_and_failing_to(sights: Sights, serve: Serve, write: Write) -> None:
    load = Loading(AssetError("The wheel of the base model could not be fetched: no network."))
    sight = sights(serve(EngineHandle(load)))
    page = sight.visit.page
    expect(page.locator("#dnd-load progress")).to_be_visible()
    sight.put(write("a.txt", "one\ntwo\n"))
    sight.visit.ready("a.txt")
    page.locator("#dnd-synthesize").click()
    expect(page.locator("#dnd-stages li.is-running")).to_contain_text("40 %")
    sight.see("07-downloading")
    load.fetched.set()
    expect(page.locator("#dnd-retry")).to_be_visible()
    sight.see("08-load-failed")


def test_an_adapter_its_checks_and_the_chat(sights: Sights, engine: FakeEngine) -> None:
    sight = sights()
    page = sight.visit.page
    page.locator("#dnd-example-all").click()
    expect(page.locator("#dnd-synthesize")).to_be_enabled()
    sight.see("09-files")
    sight.make()
    page.locator(".dnd-verdict summary").last.click()
    expect(page.locator(".dnd-verdict tbody tr").first).to_be_visible()
    sight.see("10-made")
    with engine.pace.held("chat", at=2):
        sight.visit.ask("Answer with SQL.\n\nQuestion: How many cars are red?")
        expect(page.locator("#dnd-panes .dnd-cursor")).to_have_count(2)
        sight.glimpse("11-answering")
    sight.visit.idle()
    page.keyboard.press("Escape")
    page.keyboard.press("d")
    expect(page.locator("#dnd-panes mark").first).to_be_visible()
    page.locator("#dnd-sampling button").first.click()
    sight.see("12-differences")
    page.keyboard.press("b")
    expect(page.locator("#dnd-tally")).to_be_visible()
    sight.visit.ask("Answer with SQL.\n\nQuestion: How many cars are blue?")
    sight.visit.idle()
    page.keyboard.press("Escape")
    expect(page.locator("#dnd-vote-a")).to_be_visible()
    sight.see("13-blind")
    page.keyboard.press("1")
    expect(page.locator("#dnd-tally .dnd-counts")).to_be_visible()
    sight.see("14-voted")
    page.keyboard.press("b")
    page.locator(".dnd-mute").nth(1).click()
    expect(page.locator("#dnd-choice-right")).to_be_visible()
    expect(page.locator("#dnd-checks .dnd-verdicts")).to_be_visible()
    page.locator("#dnd-choice-left label").nth(1).click()
    sight.visit.ask("Question: Which?")
    sight.visit.idle()
    sight.see("15-remixed-and-two-adapters")
    page.locator("#dnd-prove").click()
    expect(page.locator("#dnd-proof .dnd-controls")).to_be_visible()
    sight.see("16-proof")
    page.get_by_role("tab").last.click()
    expect(page.locator("#dnd-report .dnd-forest-mode")).to_have_count(2)
    sight.see("17-report")


def test_doubt_refine_and_a_proof_that_fails(
    sights: Sights, write: Write, engine: FakeEngine
) -> None:
    sight = sights()
    page = sight.visit.page
    sight.put(write("few.jsonl", prompts(7, "NOTHING", label="yes")))
    sight.visit.ready("few.jsonl")
    sight.rename("Broken")
    sight.make()
    page.locator("#dnd-prove").click()
    expect(page.locator("#dnd-proof .is-error")).to_be_visible()
    page.locator(".dnd-verdict summary").last.click()
    sight.see("18-warning-and-proof-failed")
    page.locator("#dnd-teach-door input[value=itself]").check()
    page.locator("#dnd-teach-start").click()
    expect(page.locator("#dnd-stages li.is-failed")).to_be_visible()
    sight.see("19-teach-failed")
    sight.edit()
    sight.put(write("more.jsonl", prompts(9, "fine", label="yes")))
    sight.visit.ready("more.jsonl")
    page.locator("#dnd-synthesize").click()
    expect(page.locator("#dnd-teach")).to_be_visible()
    page.locator("#dnd-teach-door input[value=mine]").check()
    page.locator("#dnd-teach-labels input").uncheck()
    page.locator("#dnd-teach-propose").click()
    expect(page.locator("#dnd-teach-answer-0 textarea")).to_be_visible()
    sight.see("20-teach-by-me")
    page.locator("#dnd-teach-door input[value=itself]").check()
    with engine.pace.held("refine"):
        page.locator("#dnd-teach-start").click()
        expect(page.locator("#dnd-stages li.is-running")).to_contain_text(sight.stage("Teach"))
        sight.glimpse("21-teaching")
    expect(page.locator("#dnd-undo")).to_be_visible()
    expect(page.locator("#dnd-checks .dnd-verdicts")).to_be_visible()
    sight.see("22-taught")


def test_keep_export_and_the_library(
    sights: Sights, serve: Serve, write: Write, tmp_path: Path
) -> None:
    engine, library = FakeEngine(), Library(tmp_path / "library")
    owner = Owner(library)
    sight = sights(serve(handle_of(engine), owner=owner), owner)
    page = sight.visit.page
    page.get_by_role("tab").nth(1).click()
    expect(page.locator("#dnd-library-empty")).to_be_visible()
    sight.see("23-library-empty")
    page.get_by_role("tab").nth(0).click()
    page.locator("#dnd-example-all").click()
    expect(page.locator("#dnd-synthesize")).to_be_enabled()
    sight.make()
    page.keyboard.press("k")
    page.locator("#dnd-keep-now").click()
    expect(page.locator("#dnd-keep-told .dnd-notice")).to_be_visible()
    page.locator("#dnd-export").click()
    expect(page.locator("#dnd-export-file")).to_be_visible()
    sight.see("24-kept-and-exported")
    page.locator("#dnd-export-format input[value='hub']").check()
    expect(page.locator("#dnd-hub-token")).to_be_visible()
    page.locator("#dnd-export").click()
    expect(page.locator("#dnd-export-told .is-error")).to_be_visible()
    sight.see("25-push-refused")
    page.locator("#dnd-export-format input[value='merged']").check()
    with engine.pace.held("export"):
        page.locator("#dnd-export").click()
        expect(page.locator("#dnd-export-told .dnd-ring")).to_be_visible()
        sight.glimpse("26-merging")
    expect(page.locator("#dnd-export")).to_be_enabled()
    (kept,) = library.entries()
    library.update(kept.key, votes={"won": 6, "lost": 2})
    broken = library.duplicate(kept.key, "broken")
    (library.path("broken") / "entry.json").write_text("{")
    library.duplicate(kept.key, "a copy")
    for number in range(12):
        library.duplicate(kept.key, f"copy {number}")
    library.delete(library.duplicate(kept.key, "gone").key)
    page.get_by_role("tab").nth(1).click()
    expect(page.locator("#dnd-kept label")).to_have_count(15)
    listed = page.locator("#dnd-kept .wrap:has(label)")
    # More than fit are scrolled to, instead of standing in a second column that nobody sees.
    assert listed.evaluate("list => list.scrollWidth <= list.clientWidth")
    assert listed.evaluate("list => list.scrollHeight > list.clientHeight")
    import_ = page.locator("#dnd-import")
    sight.visit.drop_on(page.locator("#dnd-kept"), [write("evil.zip", "no zip")], import_)
    expect(page.locator("#dnd-library-told .is-error li")).to_have_count(2)
    sight.see("27-library-and-a-refused-file")
    page.locator(".dnd-models-open").click()
    expect(page.locator("#dnd-models-told")).not_to_be_empty()
    sight.see("28-models")
    page.locator(f"#dnd-kept input[value='{broken.key}']").check()
    expect(page.locator("#dnd-kept-load")).to_be_hidden()
    sight.see("28-damaged-chosen")


def test_trainings_and_a_collection_watched(sights: Sights, serve: Serve, tmp_path: Path) -> None:
    names = ("starting", "sound", "collapsed", "collection")
    folders = [tmp_path / name for name in names]
    for folder in folders:
        folder.mkdir()
        if folder.name != "collection":
            (folder / "recipe.json").write_text(json.dumps(RECIPE))
    write(folders[1], 230)
    write(folders[2], 130, between_task_share=1e-5)
    write_manifest(folders[3], 9, lora("one"), lora("a-task-with-a-long-name-in-every-respect"))
    runs = [RunFolder(folder) for folder in folders]
    sight = sights(serve(handle_of(), runs=runs))
    page = sight.visit.page
    sight.open_tab("Training")
    for number, name in enumerate(names):
        page.locator("#dnd-watch-run input").nth(number).check()
        expect(page.locator("#dnd-watch h2")).to_have_text(name)
        if name == "sound":
            page.locator("#dnd-watch-all > button").click()
            expect(page.locator("#dnd-watch-all tbody tr")).to_have_count(4)
        sight.see(f"{29 + number}-training-{name}")


def test_measuring_training_and_what_was_found(
    sights: Sights, write: Write, engine: FakeEngine
) -> None:
    sight = sights()
    page = sight.visit.page
    tabs = page.get_by_role("tab")
    tabs.nth(2).click()
    expect(page.locator("#dnd-measure-empty")).to_be_visible()
    sight.see("33-measure-empty")
    tabs.nth(0).click()
    page.locator("#dnd-example-sql").click()
    expect(page.locator("#dnd-synthesize")).to_be_enabled()
    sight.make()
    tabs.nth(2).click()
    rows = page.locator("#dnd-measure-file input[type=file]")
    rows.set_input_files(write("unlabelled.jsonl", prompts(9)))
    expect(page.locator("#dnd-measure-told .is-error")).to_be_visible()
    sight.see("34-measure-refused")
    page.locator("#dnd-measure-file button[aria-label]").first.click()
    expect(rows).to_be_attached()
    rows.set_input_files(write("rows.jsonl", prompts(80, label="yes")))
    expect(page.locator("#dnd-measure-start")).to_be_enabled()
    sight.see("35-measure-rows")
    with engine.pace.held("measure", at=4):
        page.locator("#dnd-measure-start").click()
        expect(page.locator("#dnd-measured tr.is-adapter").first).to_be_visible()
        sight.glimpse("36-measuring")
        page.locator("#dnd-measure-stop").click()
        expect(page.locator("#dnd-measure-stages .dnd-notice")).to_be_visible()
    sight.see("37-measure-stopped")
    page.locator("#dnd-measure-start").click()
    expect(page.locator("#dnd-measure-stages details")).to_be_visible()
    sight.see("38-measured")
    with engine.pace.held("train", at=6):
        page.locator("#dnd-train-start").click()
        expect(page.locator("#dnd-measured .mark.is-labels").first).to_be_visible()
        sight.glimpse("39-training")
    expect(page.locator("#dnd-measure-stages details")).to_be_visible()
    page.locator("#dnd-train-warm input").check()
    page.locator("#dnd-train-start").click()
    expect(page.locator("#dnd-take-warm_lora")).to_be_visible()
    expect(page.locator("#dnd-measure-stages details")).to_be_visible()
    sight.see("40-trained")
    page.locator("#dnd-take-trained_lora").click()
    expect(page.locator("#dnd-choice-right")).to_be_visible()
    expect(page.locator("#dnd-checks .dnd-verdicts")).to_be_visible()
    sight.see("41-trained-in-the-bar")
    tabs.nth(2).click()
    expect(page.locator("#dnd-measured .dnd-notice")).to_be_visible()
    sight.see("42-measured-of-another")
