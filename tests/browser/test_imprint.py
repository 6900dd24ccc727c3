"""Imprint in a real browser: it follows Synthesize by itself, is stopped, undone, switched off."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.browser.test_teach import prompts
from tests.conftest import Write
from tests.ui.fake_engine import FakeEngine

pytestmark = pytest.mark.browser


def test_it_follows_synthesize_while_one_chats_and_can_be_undone_stopped_and_switched_off(
    visit: Visit, write: Write, engine: FakeEngine
) -> None:
    page = visit.page
    bar, stages, stop = (
        page.locator(f"#dnd-{name}") for name in ("adapter", "stages", "imprint-stop")
    )
    code = page.locator("#dnd-adapter code")
    path = write("a.jsonl", prompts(9, "IMPRINT"))
    visit.drop([path], "SQL")
    visit.ready(path.name)
    visit.synthesize()
    expect(bar).to_contain_text("then imprinted in 3.2 s")
    expect(stages.locator("summary")).to_contain_text("How it was imprinted")
    expect(stop).to_be_hidden()
    expect(page.locator("#dnd-checks")).to_contain_text("Imprinted with your instruction")
    imprinted = code.inner_text()
    visit.ask("After")
    visit.idle()
    expect(visit.answer("right")).to_contain_text(imprinted)
    page.get_by_role("button", name="Undo imprint").click()
    expect(code).not_to_have_text(imprinted)
    expect(bar).not_to_contain_text("imprinted")
    expect(page.locator("#dnd-checks")).to_contain_text("Carries the instruction")
    generated = code.inner_text()

    # The page's own button again, with an engine that takes its time.
    with engine.pace.held("imprint"):
        page.get_by_role("button", name="Edit prompts").click()
        page.locator("#dnd-synthesize").click()
        expect(stages).to_contain_text(re.compile(r"Asking with the instruction: \d of 9 prompts"))
        expect(page.locator("#dnd-checks")).to_contain_text("Measured as soon as")
        visit.ask("Meanwhile")
        expect(visit.answer("right")).to_contain_text("SELECT")
        visit.shot("imprinting")
        stop.click()
        expect(stages).to_contain_text("Stopped. The adapter is unchanged.")
        expect(stop).to_be_hidden()
    expect(code).to_have_text(generated)
    expect(page.locator("#dnd-checks")).to_contain_text("Carries the instruction")

    # A reload ends it too; what was lost can be ordered again.
    again = page.locator("#dnd-imprint-now")
    with engine.pace.held("imprint"):
        again.click()
        expect(stages).to_contain_text(re.compile(r"Asking with the instruction: \d of 9 prompts"))
        expect(again).to_be_hidden()
        visit.reload()
        expect(stages).to_contain_text("Interrupted when the page was left")
        expect(code).to_have_text(generated)
    again.click()
    expect(code).to_have_text(imprinted)
    expect(again).to_be_hidden()
    page.get_by_role("button", name="Undo imprint").click()
    expect(code).to_have_text(generated)
    expect(again).to_be_visible()

    count = len(engine.imprints)
    page.get_by_role("button", name="Edit prompts").click()
    page.locator("#dnd-advanced").get_by_text("Advanced").click()
    page.get_by_label("Imprint the instruction").uncheck()
    page.locator("#dnd-synthesize").click()
    expect(stages.locator("summary")).to_contain_text("How it was made")
    expect(page.locator("#dnd-checks")).to_contain_text("Carries the instruction")
    expect(code).to_have_text(generated)
    expect(page.locator("#dnd-download")).to_be_enabled()
    # The event of the imprint that was not wanted has ended by now, and has changed nothing.
    expect(stages.locator("summary")).to_contain_text("How it was made")
    expect(page.locator("#dnd-strength input[type=number]")).to_have_value("1")
    assert len(engine.imprints) == count
    visit.check_accessible()


def test_what_cannot_be_imprinted_is_told_in_one_calm_line(visit: Visit, write: Write) -> None:
    page = visit.page
    path = write("plain.txt", "one\ntwo\n")
    visit.drop([path], "SQL")
    visit.ready(path.name)
    visit.synthesize()
    note = page.locator("#dnd-adapter .dnd-note")
    expect(note).to_contain_text("Not imprinted: no prompt has an instruction and an input.")
    expect(page.locator("#dnd-stages summary")).to_contain_text("How it was made")
    expect(page.locator(".dnd-notice.is-error:visible")).to_have_count(0)
    visit.check_accessible()


def test_the_verdict_leads_from_the_folded_prompts_to_the_missing_instruction(
    visit: Visit, write: Write
) -> None:
    page = visit.page
    for name, bucket, content in (
        ("a.jsonl", "SQL", prompts(9, "IMPRINT")),
        ("b.txt", "Tone", "one\ntwo\n"),
    ):
        visit.drop([write(name, content)], bucket)
        visit.ready(name)
    visit.synthesize()
    verdict = page.locator("#dnd-warning")
    expect(verdict).to_contain_text("Bucket Tone was not imprinted")
    expect(page.locator("#dnd-synthesize")).to_be_hidden()
    verdict.get_by_role("button", name="Type one under Advanced").click()
    expect(page.locator("#dnd-instruction textarea")).to_be_focused()
    expect(page.locator("#dnd-synthesize")).to_be_visible()
