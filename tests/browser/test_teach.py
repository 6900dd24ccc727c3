"""Teach in a real browser: three doors, stopped, undone, failed; for everyone."""

import functools
import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import ViewportSize, expect

from dnd_engine.library import Library
from tests.browser.conftest import DESK, PHONE, Serve, Visit, Visits
from tests.browser.test_keys import ONE_GROUP
from tests.conftest import Write
from tests.dnd_engine.serving.chat_server import running_chat
from tests.ui.fake_engine import FakeEngine, handle_of
from ui.owner import Owner
from ui.shared import Updates
from ui.state import Session
from ui.tabs.workbench.teach.answers import TypedAnswers
from ui.tabs.workbench.teach.events import TeachEvents

pytestmark = pytest.mark.browser


def prompts(count: int, word: str = "good", **more: str) -> str:
    rows = ({"prompt": f"Say yes.\n\n{word} {i}", **more} for i in range(count))
    return "".join(json.dumps(row) + "\n" for row in rows)


def made(visit: Visit, path: Path) -> str:
    """Make an adapter of a file, and return its hash."""
    visit.drop([path], "SQL")
    visit.ready(path.name)
    visit.synthesize()
    expect(visit.page.locator("#dnd-checks .dnd-verdicts")).to_be_visible()
    return visit.page.locator("#dnd-adapter code").inner_text()


def refined(visit: Visit) -> None:
    expect(visit.page.locator("#dnd-adapter")).to_contain_text("taught in 28 s")


def test_refine_makes_another_adapter_and_undo_brings_the_first_back(
    visit: Visit, write: Write, engine: FakeEngine
) -> None:
    page = visit.page
    before = made(visit, write("a.jsonl", prompts(9)))
    norms = page.locator("#dnd-norms .dnd-heat")
    map_before = norms.inner_html()
    expect(page.locator("#dnd-teach")).to_be_hidden()
    expect(page.locator("#dnd-undo")).to_be_hidden()
    visit.enter(page.locator("#dnd-strength input[type=number]"), "1.4")
    expect(page.locator("#dnd-adapter code")).not_to_have_text(before)
    expect(page.locator("#dnd-download")).to_be_enabled()
    before = page.locator("#dnd-adapter code").inner_text()
    page.locator("#dnd-teach-open").click()
    page.locator("#dnd-teach-door").get_by_label("The model itself").check()
    offer = page.locator("#dnd-teach")
    expect(offer).to_contain_text("learns to give the same answers without it")
    page.locator("#dnd-teach-start").click()
    stages = page.locator("#dnd-stages")
    refined(visit)
    expect(offer).to_be_hidden()
    expect(page.locator("#dnd-adapter code")).not_to_have_text(before)
    expect(page.locator("#dnd-strength input[type=number]")).to_have_value("1")
    visit.until(lambda: norms.inner_html() != map_before)
    expect(page.locator("#dnd-checks")).to_contain_text("Changes the model")
    with page.expect_download() as download:
        page.locator("#dnd-download").click()
    assert download.value.suggested_filename.startswith("sql-taught-")
    stages.locator("summary").click()
    for stage in ("Ask", "Teach", "Check"):
        expect(stages.locator("li.is-done").filter(has_text=stage)).to_have_count(1)
    visit.ask("After")
    visit.idle()
    refinements, calls = len(engine.refinements), len(engine.calls)
    page.locator("#dnd-undo").click()
    expect(page.get_by_text("can still be chosen in Compare.")).to_be_visible()
    expect(page.locator("#dnd-adapter code")).to_have_text(before)
    expect(page.locator("#dnd-undo")).to_be_hidden()
    expect(page.locator("#dnd-strength input[type=number]")).to_have_value("1.4")
    expect(page.locator("#dnd-checks")).to_contain_text("Changes the model")
    expect(page.locator("#dnd-stages summary")).to_contain_text("How it was made")
    expect(page.locator("#dnd-adapter")).not_to_contain_text("taught in")
    visit.until(lambda: norms.inner_html() == map_before)
    with page.expect_download() as download:
        page.locator("#dnd-download").click()
    assert download.value.suggested_filename == f"sql-{before}.zip"
    visit.ask("Back")
    visit.idle()
    expect(visit.answer("right")).to_contain_text(before)
    assert (len(engine.refinements), len(engine.calls)) == (refinements, calls)


def test_the_chat_goes_on_meanwhile_and_stop_keeps_the_adapter(
    visit: Visit, write: Write, engine: FakeEngine
) -> None:
    page = visit.page
    before = made(visit, write("a.jsonl", prompts(9)))
    page.locator("#dnd-teach-open").click()
    page.locator("#dnd-teach-door").get_by_label("The model itself").check()
    with engine.pace.held("refine"):
        page.locator("#dnd-teach-start").click()
        running = page.locator("#dnd-stages li.is-running")
        expect(running).to_contain_text("answered as the teacher does")
        hidden = "detail => detail.scrollWidth - detail.clientWidth"
        assert running.locator(".dnd-stage-detail").evaluate(hidden) == 0
        expect(page.locator("#dnd-teach-open")).to_be_disabled()
        visit.ask("Meanwhile")
        expect(visit.answer("right")).to_contain_text("SELECT")
        expect(page.locator("#dnd-stages")).to_contain_text("Teaching the adapter")
        page.locator("#dnd-teach-stop").click()
        refined(visit)
    expect(page.locator("#dnd-adapter")).to_contain_text(
        re.compile(r"4 held-back prompts: \d+ % answered as its teacher does before")
    )
    expect(page.locator("#dnd-adapter code")).not_to_have_text(before)
    assert engine.refinements[-1]["steps"] == 1
    page.locator("#dnd-undo").click()
    expect(page.locator("#dnd-adapter code")).to_have_text(before)


def test_an_adapter_that_does_nothing_is_offered_a_way_out(visit: Visit, write: Write) -> None:
    page = visit.page
    made(visit, write("far.jsonl", prompts(9, "NOTHING")))
    expect(page.locator("#dnd-warning")).to_contain_text("You can teach it below")
    expect(page.locator("#dnd-teach")).to_be_visible()
    page.locator("#dnd-teach-later").click()
    expect(page.locator("#dnd-teach")).to_be_hidden()
    page.locator("#dnd-teach-open").click()
    page.locator("#dnd-teach-door").get_by_label("The model itself").check()
    page.locator("#dnd-teach-start").click()
    refined(visit)
    expect(page.locator("#dnd-checks")).to_contain_text("Taught on your prompts")
    expect(page.locator("#dnd-warning")).to_contain_text(
        "Teaching raised the score on the prompts held back from it."
    )
    expect(page.locator("#dnd-download")).to_have_text("Download PEFT zip")
    page.locator("#dnd-undo").click()
    expect(page.locator("#dnd-warning")).to_contain_text("unlikely to help")
    expect(page.locator("#dnd-download")).to_have_text("Download anyway")


def test_too_few_prompts_are_told_and_nothing_is_lost(visit: Visit, write: Write) -> None:
    page = visit.page
    before = made(visit, write("short.txt", "one\ntwo\nthree\n"))
    page.locator("#dnd-teach-open").click()
    page.locator("#dnd-teach-door").get_by_label("The model itself").check()
    page.locator("#dnd-teach-start").click()
    stages = page.locator("#dnd-stages")
    expect(stages).to_contain_text("Teaching failed; the adapter is unchanged.")
    expect(stages).to_contain_text("Put a blank line between instruction and input")
    expect(stages.locator("li.is-failed")).to_contain_text("Ask")
    expect(page.locator("#dnd-adapter code")).to_have_text(before)
    expect(page.locator("#dnd-teach-start")).to_be_visible()
    expect(page.locator("#dnd-download")).to_be_enabled()


def test_an_adapter_is_taught_by_a_better_model_and_by_me(
    visits: Visits, serve: Serve, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = spy_on_kept_answers(monkeypatch)
    engine = FakeEngine()
    owner = Owner(Library(tmp_path / "library"))
    url = serve(handle_of(engine), owner=owner)
    visit = visits(url, owner, size=PHONE)
    page = visit.page
    visit.add_first(write("a.jsonl", prompts(9, label="of course")))
    visit.synthesize()
    expect(page.locator("#dnd-checks .dnd-verdicts")).to_be_visible()
    page.locator("#dnd-teach-open").click()
    page.locator("#dnd-teach-door").get_by_label("A better model").check()
    with running_chat(lambda server, body: server.answer(body, "wise")) as server:
        address, key = (page.locator(f"#dnd-teach-{name} input") for name in ("url", "key"))
        page.locator("#dnd-teach-place").get_by_label("On this computer").check()
        expect(page.locator("#dnd-teach-base-told")).to_contain_text("Change models")
        expect(address).to_be_hidden()
        base = page.locator("#dnd-teach-base input")
        visit.enter(base, str(tmp_path / "none"))
        expect(page.locator("#dnd-teach-base-told")).to_contain_text("No model at")
        (larger := tmp_path / "larger").mkdir()
        (larger / "model.safetensors").write_bytes(b"x" * 1_500_000)
        base.fill(str(larger))
        base.press("Enter")
        expect(page.locator("#dnd-teach-base-told")).to_contain_text("larger: 1.5 MB on disk.")
        visit.check_accessible()
        page.locator("#dnd-teach-place").get_by_label("On a server").check()
        visit.enter(address, "nowhere")
        visit.enter(page.locator("#dnd-teach-model input"), "sage")
        page.locator("#dnd-teach-start").click()
        expect(page.locator("#dnd-teach-told")).to_contain_text("is no address")
        address.fill(server.url)
        key.fill("sk-secret")
        visit.check_accessible()
        assert server.asked == []
        page.locator("#dnd-teach-start").click()
        expect(page.locator("#dnd-adapter")).to_contain_text("then taught by sage in 12 s")
        assert set(server.keys) == {"Bearer sk-secret"}
    page.locator("#dnd-undo").click()
    expect(page.locator("#dnd-adapter")).not_to_contain_text("taught")
    page.locator("#dnd-teach-open").click()
    expect(page.locator("#dnd-teach-door").get_by_label("A better model")).to_be_checked()
    expect(key).to_have_value("")
    page.locator("#dnd-teach-door").get_by_label("I do").check()
    expect(page.get_by_role("button", name="Propose answers")).to_be_hidden()
    page.get_by_label("Learn from the labels").uncheck()
    page.get_by_role("button", name="Propose answers").click()
    first = page.get_by_label("good 0")
    expect(first).to_have_value("of course")
    visit.enter(first, "no")
    first.press("Enter")
    expect(first).to_have_value("no")
    expect(page.locator("#dnd-teach-answer-1 textarea")).to_be_focused()
    visit.check_accessible()
    page.locator("#dnd-teach-answer-8 textarea").fill("")
    page.locator("#dnd-teach-answer-8 textarea").blur()
    visit.until(lambda: bool(kept) and (kept[-1][0], kept[-1][8]) == ("no", ""))
    visit.reload()
    # The panel is open, or the corrections would seem to be lost.
    expect(first).to_have_value("no")
    expect(page.locator("#dnd-teach-start")).to_be_visible()
    page.locator("#dnd-teach-start").click()
    expect(page.locator("#dnd-adapter")).to_contain_text("then taught by you in 12 s")
    answers = engine.taught[-1]
    assert (len(answers), answers["Say yes.\n\ngood 0"]) == (8, "no")
    page.locator("#dnd-teach-open").click()
    page.get_by_label("Learn from the labels").check()
    page.locator("#dnd-teach-start").click()
    expect(page.locator("#dnd-adapter")).to_contain_text("taught with labels in 28 s")


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_the_progress_stays_on_the_screen_when_the_form_folds(
    visits: Visits, write: Write, engine: FakeEngine, size: ViewportSize
) -> None:
    visit = visits(size=size)
    page = visit.page
    made(visit, write("a.jsonl", prompts(20)))
    visit.ask("Hi")
    visit.idle()
    page.locator("#dnd-teach-open").click()
    page.get_by_role("button", name="Propose answers").click()
    expect(page.locator("#dnd-teach-answer-15")).to_be_visible()
    with engine.pace.held("refine"):
        page.locator("#dnd-teach-start").click()
        expect(page.locator("#dnd-teach-doors")).to_be_hidden()
        expect(page.locator("#dnd-stages li.is-running")).to_be_in_viewport()
        expect(page.locator("#dnd-teach-stop")).to_be_in_viewport()
        page.locator("#dnd-teach-stop").click()


def spy_on_kept_answers(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What the server has kept of typed answers: a page that leaves loses the rest."""
    kept: list[tuple[str, ...]] = []
    keep = TeachEvents.keep_answers

    @functools.wraps(keep)
    def spied(self: TeachEvents, session: Session, typed: TypedAnswers) -> Updates:
        updates = keep(self, session, typed)
        kept.append(typed.answers)
        return updates

    monkeypatch.setattr(TeachEvents, "keep_answers", spied)
    return kept


def test_an_answer_survives_a_reload_with_the_cursor_still_in_its_field(
    visits: Visits, serve: Serve, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = spy_on_kept_answers(monkeypatch)
    visit = visits(serve(handle_of(FakeEngine())))
    page = visit.page
    made(visit, write("a.jsonl", prompts(9)))
    page.locator("#dnd-teach-open").click()
    page.get_by_role("button", name="Propose answers").click()
    first = page.get_by_label("good 0")
    expect(first).to_have_value("yes.")
    first.fill("never mind")
    expect(first).to_be_focused()
    visit.until(lambda: bool(kept) and kept[-1][0] == "never mind")
    page.keyboard.type(" that")
    visit.reload()  # while it is typed
    expect(first).to_have_value("never mind that")


_TELL_TWICE = """window.Function = new Proxy(Function, { apply(make, self, args) {
    const run = Reflect.apply(make, self, args);
    if (!String(args.at(-1)).includes("dnd-teach-answer-")) return run;
    return (element, trigger, props, server, upload, watch) => {
        const told = [];
        let first = props.value;
        run(element, trigger, props, server, upload, (names, tell) => {
            watch(names, () => { first = props.value; tell(); });
            told.push(tell);
        });
        window.testAgain = () => { props.value = first; told.forEach((tell) => tell()); };
    };
} })"""
"""Keeps the proposed answers that Gradio gives to the fields, to give them once more."""


def test_a_typed_answer_stays_when_the_proposed_ones_come_again(
    visits: Visits, serve: Serve, write: Write
) -> None:
    engine = FakeEngine()
    visit = visits(serve(handle_of(engine)))
    page = visit.page
    page.add_init_script(_TELL_TWICE)
    visit.reload()
    made(visit, write("a.jsonl", prompts(9)))
    page.locator("#dnd-teach-open").click()
    page.get_by_role("button", name="Propose answers").click()
    first = page.get_by_label("good 0")
    expect(first).to_have_value("yes.")
    first.fill("no")
    page.evaluate("window.testAgain()")  # Gradio may do so by itself on a busy machine
    expect(first).to_have_value("no")
    page.locator("#dnd-teach-start").click()
    expect(page.locator("#dnd-adapter")).to_contain_text("then taught by you in 12 s")
    assert engine.taught[-1]["Say yes.\n\ngood 0"] == "no"


def test_teach_can_be_done_from_the_keyboard(
    visit: Visit, write: Write, engine: FakeEngine
) -> None:
    page = visit.page
    made(visit, write("a.jsonl", prompts(9, label="yes")))
    page.locator("#dnd-teach-open").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#dnd-teach-start")).to_be_visible()
    doors = page.locator("#dnd-teach-door input")
    visit.until(lambda: doors.evaluate_all(ONE_GROUP))
    for folded in ("Why?", "Read the answers"):
        page.keyboard.press("Tab")
        expect(page.locator("#dnd-warning summary").get_by_text(folded)).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#dnd-teach-door").get_by_label("I do")).to_be_focused()
    labels = page.get_by_label("Learn from the labels")
    expect(labels).to_be_visible()
    page.keyboard.press("Tab")
    expect(labels).to_be_focused()
    expect(labels).to_be_checked()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_focused()
    with engine.pace.held("refine", at=0):
        page.keyboard.press("Enter")
        stop = page.locator("#dnd-teach-stop")
        expect(stop).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("#dnd-stages")).to_contain_text("The adapter is unchanged.")


def test_two_visitors_refine_their_own(visits: Visits, write: Write) -> None:
    one, two = visits(), visits()
    path = write("a.jsonl", prompts(9))
    before = made(one, path)
    assert made(two, path) == before
    one.page.locator("#dnd-teach-open").click()
    one.page.locator("#dnd-teach-door").get_by_label("The model itself").check()
    one.page.locator("#dnd-teach-start").click()
    refined(one)
    expect(two.page.locator("#dnd-adapter code")).to_have_text(before)
    expect(two.page.locator("#dnd-undo")).to_be_hidden()
    two.ask("Mine")
    two.idle()
    expect(two.answer("right")).to_contain_text(before)
