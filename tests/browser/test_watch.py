"""A log that grows while somebody watches, in Chromium."""

# ruff: noqa: D102 - the names say it

import json
from pathlib import Path

import pytest
from playwright.sync_api import expect

from dnd_engine.training.watch import Collecting, RunFolder, Training
from tests.browser.conftest import Serve, Visits
from tests.ui.fake_engine import handle_of
from tests.ui.test_watch import RECIPE, logged

pytestmark = pytest.mark.browser


QUIET = 2.0
"""Seconds in which a page that looks does so several times."""


class CountedFolder(RunFolder):
    """Counts how often it is looked at."""

    looks = 0

    def look(self) -> Training | Collecting:
        self.looks += 1
        return super().look()


def add(folder: Path, first: int, last: int, end: str = "\n") -> None:
    text = "\n".join(json.dumps(logged(n)) for n in range(first, last + 1)) + end
    with (folder / "log.jsonl").open("a") as log:
        log.write(text)


def test_a_growing_log_is_seen_while_its_tab_is_open_and_not_read_otherwise(
    visits: Visits, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ui.tabs.training.view._REFRESH_SECONDS", 0.5)
    (tmp_path / "recipe.json").write_text(json.dumps(RECIPE))
    folder = CountedFolder(tmp_path)
    visit = visits(serve(handle_of(), runs=[folder]))
    page = visit.page
    visit.until_still(lambda: folder.looks, QUIET)
    assert folder.looks == 1  # when the server was started
    page.get_by_role("tab", name="Training").click()
    run = page.locator("#dnd-watch .dnd-run")
    expect(run).to_contain_text("has not written a step yet")
    add(tmp_path, 1, 60)
    expect(run).to_contain_text("60 of 400")
    expect(run).to_contain_text("about 6 min")
    plots = page.locator("#dnd-watch .dnd-chart")
    expect(plots).to_have_count(3)
    page.locator("#dnd-watch-all > button").click()
    table = page.locator("#dnd-watch-all table")
    expect(table.locator("tbody tr")).to_have_count(1)
    # Half a line waits; and what is unfolded stays so while the view is drawn again.
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write(json.dumps(logged(61))[:25])
    looks = folder.looks
    visit.until(lambda: folder.looks >= looks + 2)
    expect(run).to_contain_text("60 of 400")
    expect(table).to_be_visible()
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write(json.dumps(logged(61))[25:] + "\n")
    add(tmp_path, 62, 100)
    expect(run).to_contain_text("100 of 400")
    expect(plots).to_have_count(4)
    told = "Validation, tasks in training, nats per answer token: wrong prompts: 2.75 at step 100"
    expect(page.get_by_role("img", name=told)).to_be_visible()
    visit.check_accessible()
    page.get_by_role("tab", name="Workbench").click()
    visit.until_still(lambda: folder.looks, QUIET)
    (tmp_path / "generator").mkdir()
    config = {"training": {"result": {"steps": 400}}}
    (tmp_path / "generator" / "config.json").write_text(json.dumps(config))
    add(tmp_path, 101, 400)
    page.get_by_role("tab", name="Training").click()
    expect(run).to_contain_text("Finished")
    visit.until_still(lambda: folder.looks, QUIET)
