"""The keyboard does everything, the list tells how, and typing is never disturbed."""

import threading
from collections.abc import Generator
from typing import Any

import pytest
from playwright.sync_api import ViewportSize, expect

from dnd_engine.progress import Progress
from tests.browser.conftest import AT_REST, DESK, MAX_MS, PHONE, Visit, Visits
from tests.conftest import Write
from tests.ui.fake_engine import FakeEngine

pytestmark = pytest.mark.browser
ONE_GROUP = "buttons => buttons.length > 1 && new Set(buttons.map(one => one.name)).size === 1"


def test_the_whole_loop_needs_no_mouse(visit: Visit, write: Write, engine: FakeEngine) -> None:
    page = visit.page
    press = page.keyboard.press
    press("p")
    expect(page.locator(".dnd-browse")).to_be_focused()
    page.locator(".dnd-picker").set_input_files([write("one.txt", "one\ntwo\n")])
    visit.ready("one.txt")
    page.get_by_role("button", name="Add bucket").press("Enter")
    visit.rename(page.locator(".dnd-title").last, "Legal")
    press("Escape")
    press("p")
    expect(visit.card("one.txt")).to_be_focused()
    press("ArrowRight")
    expect(visit.card("one.txt", "Legal")).to_be_focused()
    expect(page.locator("#dnd-synthesize")).to_be_enabled()
    press("s")
    expect(page.locator("#dnd-adapter")).to_contain_text("2 prompts from 1 file")
    press("q")
    expect(page.locator("#dnd-box textarea")).to_be_focused()
    page.keyboard.type("Was q, s and 1 typed?")
    expect(page.locator("#dnd-box textarea")).to_have_value("Was q, s and 1 typed?")
    press("Enter")
    expect(visit.answer("right")).to_contain_text("asked Was q, s and 1 typed?")
    visit.idle()
    press("Escape")
    expect(page.locator("#dnd-box textarea")).not_to_be_focused()
    asked = len(engine.asked)
    press("a")
    visit.until(lambda: len(engine.asked) == asked + 1)
    expect(page.locator("#dnd-again")).to_be_visible()
    visit.idle()
    press("d")
    expect(page.locator("#dnd-differences input")).to_be_checked()
    expect(page.locator("#dnd-panes mark").first).to_be_visible()
    press("b")
    expect(page.locator("#dnd-blind input")).to_be_checked()
    expect(page.locator("#dnd-vote-a")).to_be_hidden()  # these answers were seen
    visit.ask("Another question?")
    visit.idle()
    press("Escape")
    expect(page.locator("#dnd-vote-a")).to_be_visible()
    press("1")
    expect(page.locator("#dnd-tally")).to_contain_text("1")
    expect(page.locator("#dnd-vote-a")).to_be_hidden()
    press("b")
    expect(page.locator("#dnd-blind input")).not_to_be_checked()
    press("e")
    expect(page.locator("#dnd-box textarea")).to_have_value("Another question?")
    expect(page.locator("#dnd-box textarea")).to_be_focused()
    press("Escape")
    expect(page.locator("#dnd-editing")).to_be_hidden()
    press("Escape")
    expect(page.locator("#dnd-box textarea")).not_to_be_focused()
    press("k")
    expect(page.locator("#dnd-keep-now")).to_be_visible()
    press("k")
    expect(page.locator("#dnd-keep-now")).to_be_hidden()
    press("r")
    expect(page.locator("#dnd-teach-start")).to_be_visible()
    press("r")
    expect(page.locator("#dnd-teach-start")).to_be_hidden()
    press("p")
    expect(page.locator(".dnd-edit")).to_be_focused()


def test_arrow_keys_choose_among_radio_buttons_and_tab_leaves_them(
    visit: Visit, write: Write
) -> None:
    page = visit.page
    page.locator(".dnd-picker").set_input_files([write("one.txt", "one\ntwo\n")])
    visit.ready("one.txt")
    visit.synthesize()
    buttons = page.locator("#dnd-mode input[type=radio]")
    visit.until(lambda: buttons.evaluate_all(ONE_GROUP))
    buttons.first.focus()
    for number in (1, 2):
        page.keyboard.press("ArrowDown")
        expect(buttons.nth(number)).to_be_focused()
        expect(buttons.nth(number)).to_be_checked()
    expect(page.get_by_text("Both read the input alone")).to_be_visible()
    page.keyboard.press("Tab")
    assert page.evaluate("!document.activeElement.closest('#dnd-mode')")


def test_tab_leaves_no_list_of_choices_open(visit: Visit) -> None:
    page = visit.page
    page.locator("#dnd-example-sql").click()
    expect(page.locator("#dnd-synthesize")).to_be_enabled()
    visit.synthesize()
    choices, field = page.get_by_role("listbox"), page.locator("#dnd-told-with input")
    field.focus()
    for leave, come_back in (("Tab", "Shift+Tab"), ("Shift+Tab", "Tab")):
        expect(choices).to_be_visible()
        page.keyboard.press(leave)
        expect(field).not_to_be_focused()
        page.evaluate(AT_REST)
        expect(choices).to_be_hidden()
        page.keyboard.press(come_back)
        expect(field).to_be_focused()


def test_the_focus_goes_on_when_the_pressed_button_goes(visit: Visit, engine: FakeEngine) -> None:
    page = visit.page
    page.locator("#dnd-example-sql").click()
    synthesize, stop = page.locator("#dnd-synthesize"), page.locator("#dnd-stop-synthesis")
    expect(synthesize).to_be_enabled()
    with engine.pace.held("synthesis"):
        synthesize.press("Enter")
        expect(stop).to_be_focused()
        stop.press("Enter")
        expect(synthesize).to_be_focused()
    synthesize.press("Enter")
    expect(page.locator("#dnd-warning")).to_be_focused()
    expect(page.locator("#dnd-checks .dnd-verdicts")).to_be_visible()
    expect(page.locator("#dnd-warning")).to_be_focused()


def test_the_focus_goes_on_from_a_button_that_is_only_hidden(visit: Visit, write: Write) -> None:
    """Nothing may change on the page after the browser has taken the focus away."""
    page = visit.page
    visit.add_first(write("one.txt", "one\ntwo\n"))
    visit.synthesize()
    expect(page.locator("#dnd-checks .dnd-verdicts")).to_be_visible()
    page.locator(".dnd-edit").click()
    page.locator("#dnd-synthesize").focus()
    page.evaluate(AT_REST)
    page.evaluate("document.querySelector('#dnd-action').style.display = 'none'")
    expect(page.locator("#dnd-warning")).to_be_focused()


def test_the_focus_goes_on_in_the_chat_and_below_it(visit: Visit, engine: FakeEngine) -> None:
    page = visit.page
    page.locator("#dnd-example-sql").click()
    expect(page.locator("#dnd-synthesize")).to_be_enabled()
    visit.synthesize()
    expect(page.locator("#dnd-checks .dnd-verdicts")).to_be_visible()
    page.locator("#dnd-blind input").check()
    expect(page.locator("#dnd-tally")).to_be_visible()
    visit.ask("Which one?")
    visit.idle()
    page.locator("#dnd-vote-b").press("Enter")
    expect(page.locator("#dnd-vote-b")).to_be_hidden()
    expect(page.locator("#dnd-box textarea")).to_be_focused()
    again, stop = page.locator("#dnd-again"), page.locator("#dnd-stop-chat")
    with engine.pace.held("chat"):
        again.press("Enter")
        expect(stop).to_be_focused()
    expect(again).to_be_focused()
    page.locator("#dnd-batch button").first.click()
    visit.enter(page.locator("#dnd-batch-inputs textarea"), "first\nsecond")
    start, stop = page.locator("#dnd-batch-start"), page.locator("#dnd-batch-stop")
    for stops in (False, True):
        with engine.pace.held("chat"):
            start.press("Enter")
            expect(stop).to_be_focused()
            if stops:
                stop.press("Enter")
        expect(start).to_be_focused()


def test_the_focus_goes_to_the_proposed_answers(
    visit: Visit, write: Write, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, seen, ask = visit.page, threading.Event(), engine.propose

    def propose(*args: Any, **kwargs: Any) -> Generator[Progress, None, dict[str, str]]:
        seen.wait(MAX_MS / 1000)
        return (yield from ask(*args, **kwargs))

    monkeypatch.setattr(engine, "propose", propose)
    prompts = [f"Say it in French.\n\nSentence {number}." for number in range(9)]
    visit.add_first(write("french.txt", "\n---\n".join(prompts)))
    visit.synthesize()
    expect(page.locator("#dnd-checks .dnd-verdicts")).to_be_visible()
    page.locator("#dnd-teach-open").click()
    propose_button = page.locator("#dnd-teach-propose")
    propose_button.press("Enter")
    expect(propose_button).to_be_disabled()
    expect(propose_button).not_to_be_focused()
    seen.set()
    expect(page.locator("#dnd-teach-answers textarea").first).to_be_focused()


def test_the_focus_stays_with_who_has_moved_it(visit: Visit, engine: FakeEngine) -> None:
    page = visit.page
    page.locator("#dnd-example-sql").click()
    expect(page.locator("#dnd-synthesize")).to_be_enabled()
    box = page.locator("#dnd-box textarea")
    with engine.pace.held("synthesis"):
        page.locator("#dnd-synthesize").press("Enter")
        expect(page.locator("#dnd-stop-synthesis")).to_be_focused()
        box.focus()
    expect(page.locator("#dnd-checks .dnd-verdicts")).to_be_visible()
    expect(box).to_be_focused()


@pytest.mark.parametrize("acts", [False, True], ids=["waits", "acts"])
def test_progress_and_verdict_come_into_view_unless_somebody_has_acted(
    visits: Visits, engine: FakeEngine, acts: bool
) -> None:
    visit = visits(size=ViewportSize(width=390, height=400))
    page = visit.page
    page.locator("#dnd-example-sql").click()
    expect(page.locator("#dnd-synthesize")).to_be_enabled()
    with engine.pace.held("synthesis"):
        page.locator("#dnd-synthesize").click()
        running = page.locator("#dnd-stages li.is-running")
        expect(running).to_contain_text("Encode")
        expect(running).to_be_in_viewport()
        # As when what is above grows.
        page.evaluate("window.scrollTo(0, document.documentElement.scrollHeight)")
        if acts:
            page.keyboard.press("End")
    verdict = page.locator("#dnd-warning .dnd-verdict")
    expect(verdict).to_be_attached()
    page.evaluate(AT_REST)
    if acts:
        expect(verdict).not_to_be_in_viewport()
    else:
        expect(verdict).to_be_in_viewport()


def test_escape_stops_what_runs(visit: Visit, write: Write, engine: FakeEngine) -> None:
    page = visit.page
    with engine.pace.held("chat", at=8):
        visit.ask("Answer please")
        expect(visit.answer("left")).to_contain_text("several ways")
        page.locator("#dnd-box textarea").focus()
        page.keyboard.press("Escape")
        expect(page.locator("#dnd-pane-left .dnd-answer-facts")).to_contain_text("stopped")
    page.locator("#dnd-batch button").first.click()
    visit.enter(page.locator("#dnd-batch-inputs textarea"), "first\nsecond")
    with engine.pace.held("chat"):
        page.locator("#dnd-batch-start").click()
        expect(page.locator("#dnd-batch-stop")).to_be_visible()
        page.locator("body").press("Escape")
        expect(page.locator("#dnd-batch-stop")).to_be_hidden()
    visit.drop([write("a.txt", "one\ntwo\n")], "SQL")
    visit.ready("a.txt")
    with engine.pace.held("synthesis"):
        page.locator("#dnd-synthesize").click()
        expect(page.locator("#dnd-stages li.is-running")).to_contain_text("Encode")
        page.keyboard.press("Escape")
        expect(page.locator("#dnd-stages")).to_contain_text("No new adapter was made")


def test_keys_do_nothing_behind_an_open_dialog(visit: Visit, engine: FakeEngine) -> None:
    page = visit.page
    sure = page.locator(".dnd-forget-sure")
    with engine.pace.held("chat", at=8):
        visit.ask("Answer please")
        expect(visit.answer("left")).to_contain_text("several ways")
        page.locator(".dnd-forget").click()
        expect(sure).to_have_attribute("open", "")
        page.keyboard.press("q")
        page.keyboard.press("Escape")
        expect(sure).not_to_have_attribute("open", "")
        expect(page.locator("#dnd-box textarea")).not_to_be_focused()
    visit.idle()
    expect(page.locator("#dnd-pane-left .dnd-answer-facts")).not_to_contain_text("stopped")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("locale", ["en-US", "de-DE"])
def test_the_list_of_keys_opens_tells_and_can_switch_them_off(
    visits: Visits, dark: bool, size: ViewportSize, locale: str
) -> None:
    visit = visits(dark=dark, size=size, locale=locale)
    page = visit.page
    dialog = page.get_by_role("dialog")
    opens = page.locator(".dnd-keys-open")
    expect(opens).to_have_attribute("aria-keyshortcuts", "?")
    # As Gradio does when it draws the header again in place.
    opens.evaluate("node => node.removeAttribute('aria-keyshortcuts')")
    expect(opens).to_have_attribute("aria-keyshortcuts", "?")
    page.keyboard.press("?")
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.locator(".dnd-keys-open").click()
    expect(dialog).to_be_visible()
    visit.shot(f"keys-{locale[:2]}-{'dark' if dark else 'light'}-{size['width']}", full=False)
    visit.check_accessible()
    page.keyboard.press("q")
    expect(page.locator("#dnd-box textarea")).not_to_be_focused()
    switch = dialog.get_by_role("checkbox")
    switch.uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("q")
    page.keyboard.press("?")
    expect(dialog).to_be_hidden()
    expect(page.locator("#dnd-box textarea")).not_to_be_focused()
    expect(page.locator(".dnd-keys-open")).not_to_have_attribute("aria-keyshortcuts", "?")
    visit.reload()
    expect(page.locator(".dnd-zone")).to_be_visible()
    # What opens the list is there by then.
    expect(page.locator(".dnd-keys-on input")).not_to_be_checked()
    page.locator(".dnd-keys-open").click()
    switch.check()
    page.keyboard.press("Escape")
    page.keyboard.press("q")
    expect(page.locator("#dnd-box textarea")).to_be_focused()


def test_a_press_counts_if_the_page_moves_under_it_and_not_if_the_pointer_does(
    visit: Visit, engine: FakeEngine
) -> None:
    """What is drawn above a button between press and release had made it no click."""
    page, made = visit.page, len(engine.calls)
    page.locator("#dnd-example-sql").click()
    synthesize = page.locator("#dnd-synthesize")
    expect(synthesize).to_be_enabled()
    expect(page.locator("#dnd-forecast").get_by_role("listitem")).to_have_count(1)
    box = visit.box(synthesize)
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for away in (200, 0):
        page.mouse.move(x, y)
        page.mouse.down()
        if away:
            page.mouse.move(x, y - away)
        else:
            page.evaluate("document.querySelector('#dnd-forecast').style.paddingTop = '200px'")
            page.evaluate(AT_REST)
        page.mouse.up()
    expect(page.locator("#dnd-checks .dnd-verdicts")).to_be_visible()
    assert len(engine.calls) == made + 1


def test_a_press_on_a_box_to_tick_counts_if_the_page_moves_under_it(
    visit: Visit, engine: FakeEngine
) -> None:
    page = visit.page
    page.locator("#dnd-example-sql").click()
    expect(page.locator("#dnd-synthesize")).to_be_enabled()
    visit.synthesize()
    expect(page.locator("#dnd-checks .dnd-verdicts")).to_be_visible()
    blind = page.locator("#dnd-blind input")
    blind.scroll_into_view_if_needed()
    for ticked in (True, False):
        box = visit.box(blind)
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.down()
        # As when the verdict is drawn.
        padding = "200px" if ticked else ""
        page.evaluate(f"document.querySelector('#dnd-warning').style.paddingTop = '{padding}'")
        page.evaluate(AT_REST)
        page.mouse.up()
        expect(blind).to_be_checked(checked=ticked)
        expect(page.locator("#dnd-tally")).to_be_visible(visible=ticked)


def test_keys_with_a_modifier_are_left_to_others(visit: Visit) -> None:
    page = visit.page
    for keys in ("Control+q", "Alt+q", "Shift+Q", "Meta+b"):
        page.keyboard.press(keys)
    page.wait_for_timeout(200)
    expect(page.locator("#dnd-box textarea")).not_to_be_focused()
    expect(page.get_by_role("button", name="Synthesize")).to_have_attribute("title", "Key: S")
    expect(page.locator("#dnd-synthesize")).to_have_attribute("aria-keyshortcuts", "S")


LEAVE_TAB = """() => {
    const draw = window.requestAnimationFrame, later = [];
    Object.defineProperty(document, "hidden", { get: () => true, configurable: true });
    window.requestAnimationFrame = (frame) => later.push(frame);
    window.comeBack = () => {
        delete document.hidden;
        window.requestAnimationFrame = draw;
        later.forEach((frame) => draw(frame));
        document.dispatchEvent(new Event("visibilitychange"));
    };
    document.dispatchEvent(new Event("visibilitychange"));
}"""
"""As a browser does with a tab in the background: nothing is drawn until it is shown again."""


def test_show_me_can_be_stopped_while_it_synthesizes_and_while_it_answers(
    visit: Visit, engine: FakeEngine
) -> None:
    page = visit.page
    with engine.pace.held("synthesis"):
        page.locator("#dnd-show-me").click()
        expect(page.locator("#dnd-stages li.is-running")).to_contain_text("Encode")
        page.evaluate(LEAVE_TAB)
        page.locator("#dnd-stop-synthesis").dispatch_event("click")
        expect(page.locator("#dnd-stages")).to_contain_text("No new adapter was made")
        page.evaluate("comeBack()")
        expect(page.locator(".dnd-card")).to_have_count(2)
        page.locator(".dnd-clear").click()
    with engine.pace.held("chat", at=2):
        page.locator("#dnd-show-me").click()
        expect(visit.answer("right")).to_contain_text("SELECT")
        page.locator("#dnd-stop-chat").click()
        expect(page.locator("#dnd-pane-left .dnd-answer-facts")).to_contain_text("stopped")
    expect(page.locator("#dnd-checks")).to_contain_text("Changes the model")
    visit.idle()
    expect(page.locator("#dnd-pane-left .dnd-asked")).to_have_count(1)
