"""Comparing: asked again, edited, marked, blind and voted on, any two adapters, and kept."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Download, ViewportSize, expect

from dnd_engine.library import Library
from tests.browser.conftest import AT_REST, DESK, PHONE, Serve, Visit, Visits
from tests.conftest import Write
from tests.ui.fake_adapter import FakeAdapter, digest
from tests.ui.fake_engine import FakeEngine, handle_of
from ui.owner import Owner

pytestmark = pytest.mark.browser

QUESTION = "Answer with SQL.\n\nQuestion: How many cars are red?"
IS_IN_LINE = """name => {
  const [box, line] = [name, name.parentElement].map(node => node.getBoundingClientRect());
  return box.left >= line.left && box.right <= line.right;
}"""

FILLED = """names => names.map(name => {
  const words = document.createRange();
  words.selectNodeContents(name);
  const lines = [...words.getClientRects()];
  return Math.max(...lines.map(line => line.width)) / name.clientWidth;
})"""
"""How much of its width each name takes, from 0 to 1."""

LEVEL = "heads => new Set(heads.map(head => head.getBoundingClientRect().top)).size === 1"


def with_adapter(visit: Visit) -> Visit:
    visit.page.locator("#dnd-example-sql").click()
    expect(visit.page.locator("#dnd-synthesize")).to_be_enabled()
    visit.synthesize()
    return visit


def answered(visit: Visit, question: str) -> None:
    visit.ask(question)
    visit.idle()
    expect(visit.answer("right")).to_be_visible()


def test_a_paste_that_does_not_fit_is_said(visit: Visit) -> None:
    page = visit.page
    page.get_by_role("button", name="Paste prompts").click()
    page.locator(".dnd-pasteboard textarea").fill("word " * 4_100)
    page.locator(".dnd-pasteboard textarea").press("Control+A")
    page.locator(".dnd-pasteboard textarea").press("Control+C")
    page.locator(".dnd-pasteboard textarea").press("Escape")
    box = page.locator("#dnd-box textarea")
    box.press("Control+V")
    expect(box).to_have_js_property(
        "validationMessage", "Only the first part fits: 20,000 of 20,500 characters."
    )
    box.press("Control+A")
    box.press("Control+V")
    # A moment after the paste, which takes the words of the one before away.
    expect(box).to_have_js_property(
        "validationMessage", "Only the first part fits: 20,000 of 20,500 characters."
    )
    box.fill("word")
    expect(box).to_have_js_property("validationMessage", "")


def test_one_side_can_be_asked_again_and_a_question_edited(
    visit: Visit, engine: FakeEngine
) -> None:
    with_adapter(visit)
    answered(visit, "First try")
    asked = len(engine.asked)
    visit.page.get_by_role("button", name="Ask Adapted again").click()
    visit.until(lambda: [len(rows) for rows in engine.asked[asked:]] == [1])
    visit.idle()
    visit.page.locator("#dnd-again").click()
    visit.until(lambda: [len(rows) for rows in engine.asked[asked:]] == [1, 2])
    visit.idle()
    expect(visit.page.get_by_role("button", name="Ask Adapted again")).to_be_visible()
    visit.page.get_by_role("button", name="Edit and resend").click()
    box = visit.page.locator("#dnd-box textarea")
    expect(box).to_have_value("First try")
    box.fill("Second try")
    box.press("Enter")
    expect(visit.page.locator("#dnd-pane-right .dnd-asked")).to_have_text("Second try")
    visit.idle()
    expect(visit.page.locator("#dnd-pane-right .dnd-asked")).to_have_text("Second try")


def test_the_panes_scroll_together_question_by_question(visit: Visit) -> None:
    with_adapter(visit)
    for question in ("LONG one", "Two", "LONG three"):
        answered(visit, question)
    tops = """(side) => {
        const box = document.querySelector(`#dnd-pane-${side} .dnd-log`);
        const last = [...box.querySelectorAll('.dnd-asked-row')].at(-1);
        return last.getBoundingClientRect().top - box.getBoundingClientRect().top;
    }"""
    rows = """(side) => [...document.querySelectorAll(`#dnd-pane-${side} .dnd-asked-row`)].map(
        (row) => Math.round(row.offsetTop))"""
    visit.until(lambda: visit.page.evaluate(rows, "left") == visit.page.evaluate(rows, "right"))
    visit.page.locator("#dnd-pane-left .dnd-log").hover()
    before = visit.page.evaluate(tops, "left")
    visit.page.mouse.wheel(0, -5000)
    visit.until(lambda: visit.page.evaluate(tops, "left") > before)
    top = "document.querySelector('#dnd-pane-right .dnd-log').scrollTop"
    visit.until(lambda: visit.page.evaluate(top) == 0)
    visit.page.mouse.wheel(0, 60)
    visit.until(lambda: 0 < visit.page.evaluate(top) < 200)
    visit.page.mouse.wheel(0, 5000)
    left = "(box => box.scrollHeight - box.clientHeight - box.scrollTop)"
    below = f"{left}(document.querySelector('#dnd-pane-right .dnd-log'))"
    visit.until(lambda: visit.page.evaluate(below) < 2)


def test_both_panes_show_the_newest_answer_after_another_tab_size_or_question(
    visit: Visit,
) -> None:
    with_adapter(visit)
    for question in ("LONG one", "LONG two", "LONG three"):
        answered(visit, question)
    below = """() => [...document.querySelectorAll("#dnd-panes .dnd-log")].map(
        (box) => Math.round(box.scrollHeight - box.clientHeight - box.scrollTop))"""

    def shows_newest() -> None:
        visit.until(lambda: visit.page.evaluate(below) == [0, 0])

    for tab in ("Library", "Workbench"):
        visit.page.get_by_role("tab", name=tab).click()
        visit.page.wait_for_timeout(300)
    shows_newest()
    visit.page.set_viewport_size(PHONE)
    visit.page.wait_for_timeout(300)
    shows_newest()
    visit.page.set_viewport_size(DESK)
    visit.page.locator("#dnd-pane-left .dnd-log").hover()
    visit.page.mouse.wheel(0, -5000)
    visit.until(lambda: min(visit.page.evaluate(below)) > 100)
    answered(visit, "LONG four")
    shows_newest()
    visit.page.locator("#dnd-pane-left .dnd-log").hover()
    visit.page.mouse.wheel(0, -5000)
    visit.until(lambda: min(visit.page.evaluate(below)) > 100)
    visit.page.locator("#dnd-again").click()
    visit.idle()
    shows_newest()


def test_a_newcomers_answer_stays_on_a_phones_screen_until_they_scroll_away(
    visits: Visits,
) -> None:
    visit = visits(size=PHONE)
    page = visit.page
    page.locator("#dnd-show-me").click()
    expect(visit.answer("right")).to_be_in_viewport()
    visit.idle()
    expect(page.locator("#dnd-download")).to_be_enabled()
    expect(page.locator("#dnd-warning .dnd-verdict")).to_be_in_viewport(ratio=0.9)
    expect(visit.answer("right")).to_be_in_viewport()
    grow = """() => {
        const more = document.createElement('div');
        more.style.height = '1000px';
        document.querySelector('#dnd-compare').before(more);
    }"""
    page.evaluate(grow)
    expect(visit.answer("right")).to_be_in_viewport()
    expect(visit.answer("left")).to_be_in_viewport()

    page.mouse.move(PHONE["width"] / 2, 60)
    page.mouse.wheel(0, -5000)
    expect(visit.answer("right")).not_to_be_in_viewport()
    page.evaluate(grow)
    page.wait_for_timeout(300)
    expect(visit.answer("right")).not_to_be_in_viewport()


def test_what_is_left_out_is_struck_and_not_sent(visit: Visit, engine: FakeEngine) -> None:
    with_adapter(visit)
    expect(visit.page.get_by_label("Tell only the base model")).to_be_checked()
    answered(visit, QUESTION)
    sent = [messages[-1]["content"] for messages in engine.asked[-1]]
    assert sent == [QUESTION, "Question: How many cars are red?"]
    expect(visit.page.locator("#dnd-pane-left .dnd-asked s")).to_have_count(0)
    expect(visit.page.locator("#dnd-pane-right .dnd-asked s")).to_have_text("Answer with SQL.")
    visit.page.get_by_role("checkbox", name="Differences").check()
    expect(visit.page.locator("#dnd-pane-right .dnd-answer mark").first).to_be_visible()
    visit.shot("compare-differences")


def test_the_instruction_of_the_base_is_right_above_the_question(
    visit: Visit, write: Write
) -> None:
    for name, instruction in (("French", "Say it in French."), ("Law", "Name the clause.")):
        prompts = [f"{instruction}\n\nSentence {number}." for number in range(8)]
        visit.drop([write(f"{name}.txt", "\n---\n".join(prompts))], name)
        visit.ready(f"{name}.txt")
    visit.synthesize()
    chosen = visit.page.locator("#dnd-told-with input")
    expect(chosen).to_have_value("French: Say it in French.")
    gap = """() => document.querySelector("#dnd-box").getBoundingClientRect().top
        - document.querySelector("#dnd-told-with").getBoundingClientRect().bottom"""
    visit.until(lambda: 0 <= visit.page.evaluate(gap) < 40)


def test_on_a_phone_the_panel_to_keep_comes_into_view(visits: Visits) -> None:
    visit = with_adapter(visits(size=PHONE))
    visit.page.locator("#dnd-take-open").click()
    expect(visit.page.locator("#dnd-keep-name input")).to_be_in_viewport()


def test_an_adapter_without_an_instruction_is_not_said_to_know_one(
    visit: Visit, write: Write
) -> None:
    visit.add_first(write("plain.txt", "one\ntwo\n"))
    visit.synthesize()
    expect(visit.page.locator("#dnd-adapter")).to_contain_text("Not imprinted")
    pane = visit.page.locator("#dnd-pane-right")
    expect(pane).to_contain_text("No instruction was imprinted.")


def test_on_a_phone_a_is_above_b_while_votes_are_blind(visits: Visits) -> None:
    """Else the adapter, for which one waits, is the first."""
    visit = with_adapter(visits(size=PHONE))
    left, right = visit.page.locator("#dnd-pane-left"), visit.page.locator("#dnd-pane-right")
    visit.until(lambda: visit.box(right)["y"] < visit.box(left)["y"])
    visit.page.locator("#dnd-blind input").click()
    visit.until(lambda: visit.box(left)["y"] < visit.box(right)["y"])


def test_votes_are_blind_until_they_are_given_and_are_kept(visit: Visit) -> None:
    with_adapter(visit)
    visit.page.get_by_role("checkbox", name="Blind").check()
    tally = visit.page.locator("#dnd-tally")
    expect(tally).to_be_visible()
    expect(visit.page.locator("#dnd-checks")).to_be_hidden()
    panes = visit.page.locator("#dnd-panes")
    for number, vote in enumerate(("A is better", "B is better", "Tie"), start=1):
        answered(visit, f"Question {number}")
        expect(panes.locator(".dnd-side h3")).to_have_text(["A", "B"])
        if number == 1:
            expect(panes).not_to_contain_text("Adapted")
            expect(panes).not_to_contain_text("base 9c41e0")
            visit.shot("compare-blind")
        visit.page.get_by_role("button", name=vote).click()
        expect(visit.page.locator("#dnd-votes")).to_be_hidden()
        expect(panes.locator(".dnd-answer-facts").get_by_text("Adapted")).to_have_count(number)
    expect(tally).to_contain_text("95 % interval")
    visit.shot("compare-voted")
    votes = kept(visit, "votes")
    lines = [json.loads(line) for line in Path(votes.path()).read_text().splitlines()]
    assert [line["question"] for line in lines] == [f"Question {n}" for n in (1, 2, 3)]
    assert lines[2]["vote"] == "tie"
    assert "Question 1" in Path(kept(visit, "markdown").path()).read_text()
    assert len(json.loads(Path(kept(visit, "json").path()).read_text())["turns"]) == 3
    visit.page.get_by_role("checkbox", name="Blind").uncheck()
    expect(panes.locator(".dnd-side h3")).to_have_text(["Base", "Adapted"])
    expect(visit.page.locator("#dnd-checks")).to_be_visible()


def kept(visit: Visit, kind: str) -> Download:
    with visit.page.expect_download() as download:
        visit.page.locator(f"#dnd-keep-{kind}").click()
    return download.value


def adapter_called(name: str) -> FakeAdapter:
    """Make an adapter with weights of its own."""
    weights = digest(name)
    return FakeAdapter(name=name, sha256=weights, num_prompts=9, provenance={"root": weights})


def test_the_chosen_name_stays_in_view_when_the_names_around_it_change(
    visits: Visits, serve: Serve, write: Write, tmp_path: Path
) -> None:
    owner = Owner(Library(tmp_path / "library"))
    for name in (f"Tone of voice {number}" for number in range(6)):
        owner.library.add(adapter_called(name), name)
    visit = visits(serve(handle_of(FakeEngine()), owner=owner), owner)
    names = visit.page.locator("#dnd-choice-right")
    names.get_by_text("Tone of voice 0").click()
    chosen = names.locator("label.selected")
    expect(chosen).to_have_text("Tone of voice 0")
    visit.until(lambda: chosen.evaluate(IS_IN_LINE))
    visit.add_first(write("new.txt", "One\nTwo\n"))
    visit.synthesize()
    expect(chosen).to_have_text("new")
    expect(visit.page.locator("#dnd-checks .dnd-verdicts")).to_be_visible()  # all is drawn
    visit.until(lambda: chosen.evaluate(IS_IN_LINE))
    # Who scrolls looks for another name.
    names.locator(".wrap:has(label)").evaluate("line => line.scrollLeft = line.scrollWidth")
    visit.ask("Meanwhile")
    visit.idle()
    assert not chosen.evaluate(IS_IN_LINE)


def test_the_chosen_name_is_in_view_where_another_tab_was_open_meanwhile(
    visits: Visits, serve: Serve, tmp_path: Path
) -> None:
    owner = Owner(Library(tmp_path / "library"))
    for name in (f"Tone of voice {number}" for number in range(6)):
        owner.library.add(adapter_called(name), name)
    visit = visits(serve(handle_of(FakeEngine()), owner=owner), owner)
    page, tabs = visit.page, visit.page.get_by_role("tab")
    names = page.locator("#dnd-choice-right")
    names.get_by_text("Tone of voice 2").click()
    chosen = names.locator("label.selected")
    expect(chosen).to_have_text("Tone of voice 2")
    expect(page.locator("#dnd-checks .dnd-verdicts")).to_be_visible()  # all is drawn
    visit.until(lambda: chosen.evaluate(IS_IN_LINE))
    tabs.nth(1).click()
    expect(names).to_be_hidden()
    page.set_viewport_size(PHONE)
    page.evaluate(AT_REST)
    tabs.nth(0).click()
    visit.until(lambda: chosen.evaluate(IS_IN_LINE))


def test_long_names_are_shown_to_their_end_on_every_screen(
    visits: Visits, serve: Serve, tmp_path: Path
) -> None:
    owner = Owner(Library(tmp_path / "library"))
    long = [f"Answers to letters about the heating, winter of 2024, {end}" for end in "AB"]
    for name in ("SQL", *long):
        owner.library.add(adapter_called(name), name)
    visit = visits(serve(handle_of(FakeEngine()), owner=owner), owner)
    page = visit.page
    page.locator("#dnd-choice-right").get_by_text(long[0]).click()
    page.locator("#dnd-choice-left").get_by_text(long[1]).click()
    heads = page.locator(".dnd-side-head")
    expect(heads.locator(".dnd-facts")).to_have_text([long[1], long[0]])
    names = page.locator(".dnd-choice label span, .dnd-side-head .dnd-facts")
    whole = "names => names.every(name => name.scrollWidth <= name.clientWidth)"
    chips = page.locator(".dnd-choice label span")
    for width in (390, 768, 1280, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        visit.until(lambda: names.evaluate_all(whole))
        assert min(chips.evaluate_all(FILLED)) > 0.75
        visit.shot(f"compare-long-names-{width}", full=False)
    # Side by side, the titles are at one height, whatever names are above them.
    page.locator("#dnd-choice-left").get_by_text("SQL").click()
    expect(heads.locator(".dnd-facts").first).to_have_text("SQL")
    visit.until(lambda: heads.evaluate_all(LEVEL))
    visit.check_accessible()


def test_any_two_adapters_of_the_library_are_two_clicks_away(
    visits: Visits, serve: Serve, tmp_path: Path
) -> None:
    owner = Owner(Library(tmp_path / "library"))
    for name in ("SQL", "Tone of voice", "Colours"):
        owner.library.add(adapter_called(name), name)
    visit = visits(serve(handle_of(FakeEngine()), owner=owner), owner)
    left, right = (visit.page.locator(f"#dnd-choice-{side}") for side in ("left", "right"))
    names = visit.page.locator(".dnd-side-head .dnd-facts")
    expect(left.locator("label")).to_have_text(["Base"])
    right.get_by_text("Tone of voice").click()
    expect(names.last).to_have_text("Tone of voice")
    left.get_by_text("SQL").click()
    expect(names).to_have_text(["SQL", "Tone of voice"])
    visit.check_accessible()
    answered(visit, "Which of you?")
    hashes = [digest(name)[:8] for name in ("SQL", "Tone of voice")]
    expect(visit.page.locator(".dnd-answer-facts")).to_contain_text(hashes)
    visit.shot("compare-two-adapters")
    # The titles stay at one height if one side has more to say.
    visit.page.evaluate(
        "document.querySelector('#dnd-pane-left .dnd-log').style.minHeight = '40em'"
    )
    heads = visit.page.locator(".dnd-side-head")
    visit.until(lambda: heads.evaluate_all(LEVEL))
    # The same by keyboard: an arrow passes to the next one.
    left.get_by_role("radio", name="SQL").press("ArrowUp")
    expect(names).to_have_text(["Colours", "Tone of voice"])
    # While blind, a name above a side would tell which model it is.
    visit.page.get_by_role("checkbox", name="Blind").check()
    expect(visit.page.locator(".dnd-choice")).to_have_count(0)
    visit.reload()
    expect(visit.page.locator(".dnd-side-head h3")).to_have_text(["A", "B"])
    expect(visit.page.locator(".dnd-choice")).to_have_count(0)
    visit.page.get_by_role("checkbox", name="Blind").uncheck()
    expect(left.get_by_role("radio", name="Colours")).to_be_checked()
    expect(right.get_by_role("radio", name="Tone of voice")).to_be_checked()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_every_control_of_the_chat_is_within_anyones_reach(
    visits: Visits, dark: bool, size: ViewportSize
) -> None:
    visit = with_adapter(visits(dark=dark, size=size))
    visit.page.get_by_role("checkbox", name="Differences").check()
    answered(visit, QUESTION)
    kind = f"{'dark' if dark else 'light'}-{size['width']}"
    visit.check_accessible()
    visit.shot(f"compare-{kind}")
    visit.page.get_by_role("checkbox", name="Blind").check()
    answered(visit, "And blind?")
    visit.check_accessible()
    visit.shot(f"compare-blind-{kind}")
