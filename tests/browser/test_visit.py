"""A visit outlives its page: reload, crash, a closed browser; and no other visitor finds it."""

import time
from pathlib import Path

import pytest
from playwright.sync_api import APIResponse, Page, Route, expect

from dnd_engine.limits import ServerLimits
from tests.browser.conftest import AT_REST, PHONE, Serve, Visit, Visits
from tests.conftest import Write
from tests.serving import free_port, serving
from tests.ui.fake_engine import FakeEngine, handle_of

pytestmark = pytest.mark.browser
LINES = "one\ntwo\nthree\n"


def fill(visit: Visit, write: Write) -> None:
    """Do a bit of everything that is to come back."""
    page = visit.page
    visit.drop([write("a.txt", LINES)], "SQL")
    visit.drop([write("b.txt", LINES + "four\n")], "Leases")
    visit.ready("a.txt")
    visit.ready("b.txt")
    visit.bucket("Leases").locator(".dnd-number").fill("1.5")
    visit.bucket("Leases").locator(".dnd-number").press("Enter")
    page.get_by_text("Advanced", exact=True).click()
    visit.enter(page.locator("#dnd-instruction textarea"), "Say it as a pirate.")
    visit.synthesize()
    expect(page.locator("#dnd-checks .dnd-verdicts")).to_be_visible()
    visit.enter(page.locator("#dnd-strength input[type=number]"), "1.5")
    expect(page.locator("#dnd-download")).to_contain_text("Download")
    page.get_by_text("Sampling", exact=True).click()
    visit.enter(page.get_by_label("System prompt"), "Be brief.")
    page.locator("#dnd-blind input").click()
    visit.ask("What is a lease?")
    visit.idle()
    page.locator("#dnd-vote-a").click()
    expect(page.locator("#dnd-tally")).to_contain_text("1")
    expect(page.locator("#dnd-pane-left")).to_contain_text("better")


def test_a_chat_comes_back_with_the_choice_of_its_instruction_and_without_a_jump(
    visits: Visits,
) -> None:
    visit = visits(size=PHONE)
    page = visit.page
    page.locator("#dnd-example-sql").click()
    expect(page.locator("#dnd-synthesize")).to_be_enabled()
    visit.synthesize()
    visit.ask("Count the films of 1999.")
    visit.idle()
    told_with = page.locator("#dnd-told-with input")
    chosen = told_with.input_value()
    assert chosen.startswith("SQL: ")
    visit.reload()
    expect(page.locator("#dnd-pane-left .dnd-asked")).to_have_count(1)
    expect(told_with).to_have_value(chosen)
    page.evaluate(AT_REST)
    assert page.evaluate("scrollY") == 0


def check_all_is_back(visit: Visit) -> None:
    page = visit.page
    expect(page.locator("#dnd-pane-left .dnd-asked")).to_contain_text("What is a lease?")
    expect(page.locator("#dnd-pane-right .dnd-answer-text")).to_have_count(1)
    expect(page.locator("#dnd-panes")).to_contain_text("1.50")
    expect(page.locator("#dnd-tally")).to_be_visible()
    expect(page.locator("#dnd-blind input")).to_be_checked()
    expect(page.locator("#dnd-adapter")).to_contain_text("prompts from 2 files")
    expect(page.locator("#dnd-strength input[type=number]")).to_have_value("1.5")
    expect(page.locator("#dnd-download")).to_contain_text("Download")
    expect(page.locator(".dnd-strip")).to_contain_text("2 buckets, 2 files, 7 prompts")
    page.get_by_role("button", name="Edit prompts").click()
    expect(visit.card("a.txt", within="SQL")).to_contain_text("3 prompts")
    expect(visit.card("b.txt", within="Leases")).to_contain_text("4 prompts")
    expect(visit.bucket("Leases").locator(".dnd-number")).to_have_value("1.5")
    expect(page.locator("#dnd-synthesize")).to_be_enabled()
    page.get_by_text("Advanced", exact=True).click()
    expect(page.locator("#dnd-instruction textarea")).to_have_value("Say it as a pirate.")
    page.get_by_text("Sampling", exact=True).click()
    expect(page.get_by_label("System prompt")).to_have_value("Be brief.")


def test_a_visit_comes_back_after_a_reload_and_goes_on(visit: Visit, write: Write) -> None:
    fill(visit, write)
    visit.reload()
    check_all_is_back(visit)
    visit.shot("visit-back")
    visit.ask("And now?")
    visit.idle()
    expect(visit.page.locator("#dnd-pane-right .dnd-answer-text")).to_have_count(2)
    with visit.page.expect_download() as saved:
        visit.page.locator("#dnd-download").click()
    assert Path(saved.value.path()).stat().st_size > 100


def test_a_page_says_that_its_visit_is_on_its_way_until_it_is_back(
    visit: Visit, write: Write
) -> None:
    page = visit.page
    restoring, offers = page.locator(".dnd-restoring"), page.locator("#dnd-show, #dnd-examples")
    expect(restoring).to_be_hidden()
    visit.drop([write("a.txt", LINES)], "SQL")
    visit.ready("a.txt")
    held: list[Route] = []
    busy = True
    page.route(
        "**/gradio_api/run/**", lambda route: held.append(route) if busy else route.continue_()
    )
    page.reload()
    expect(restoring.get_by_role("status")).to_have_text("Restoring your visit …")
    for one in (*offers.all(), page.locator(".dnd-canvas")):
        expect(one).to_be_hidden()
    visit.shot("visit-restoring", full=False)
    busy = False
    for route in held:
        route.continue_()
    visit.ready("a.txt")
    expect(restoring).to_be_hidden()
    visit.forgive_what_broke_off()


def test_a_question_that_is_asked_while_the_page_opens_stays_on_it(visit: Visit) -> None:
    """The answer that opens the page came after it on a slow line, and knew of no question."""
    page = visit.page
    held: list[tuple[Route, APIResponse]] = []

    def hold(route: Route) -> None:
        answer = route.fetch()
        if "visit_key" in answer.text():
            held.append((route, answer))
        else:
            route.fulfill(response=answer)

    page.route("**/gradio_api/run/**", hold)
    page.reload()
    visit.ask("Hello there")
    visit.idle()
    ((route, opens),) = held
    route.fulfill(response=opens)
    visit.forgive_what_broke_off()
    page.evaluate(AT_REST)
    expect(page.locator("#dnd-pane-left .dnd-asked")).to_have_text("Hello there")
    expect(visit.answer("left")).to_contain_text("in general.")
    page.unroute_all(behavior="wait")


def test_a_visit_that_cannot_be_restored_is_said_to_be_so(visit: Visit, write: Write) -> None:
    page = visit.page
    visit.drop([write("a.txt", LINES)], "SQL")
    visit.ready("a.txt")
    page.route("**/gradio_api/run/**", lambda route: route.fulfill(status=500, json={}))
    page.reload()
    restoring = page.locator(".dnd-restoring")
    expect(restoring).to_contain_text("could not be restored")
    visit.shot("visit-not-restored", full=False)
    page.unroute("**/gradio_api/run/**")
    restoring.get_by_role("button", name="Reload").click()
    visit.ready("a.txt")
    visit.console.clear()  # it complains of what failed


def test_what_is_offered_to_those_without_files_goes_with_the_first_file(
    visit: Visit, write: Write
) -> None:
    page = visit.page
    offers = (page.locator("#dnd-show"), page.get_by_text("No files at hand?"))
    for one in offers:
        expect(one).to_be_visible()
    visit.add_first(write("a.txt", LINES))
    for one in offers:
        expect(one).to_be_hidden()
    expect(page.get_by_text("Add an example:")).to_be_visible()
    page.get_by_role("button", name="Remove a.txt").click()
    for one in offers:
        expect(one).to_be_visible()


def test_it_comes_back_when_the_browser_was_closed_or_its_tab_crashed(
    visits: Visits, write: Write
) -> None:
    visit = visits()
    fill(visit, write)
    state = visit.page.context.storage_state()
    crashed = visit.page
    again = visits(storage_state=state)
    check_all_is_back(again)
    # The crashed tab never said that it goes; here it has not gone at all.
    expect(crashed.locator("#dnd-adapter")).to_be_visible()


def test_a_table_of_answers_alone_comes_back_when_its_page_was_closed(visits: Visits) -> None:
    visit = visits()
    page = visit.page
    page.get_by_text("Ask many at once", exact=True).click()
    page.locator("#dnd-batch-inputs textarea").fill("One\nTwo")
    page.locator("#dnd-batch-start").click()
    expect(page.locator("#dnd-batch-file")).to_be_visible()
    state = page.context.storage_state()
    page.context.close()
    time.sleep(1)  # until the server knows
    again = visits(storage_state=state)
    expect(again.page.locator("#dnd-batch-table tbody tr")).to_have_count(2)
    expect(again.page.locator("#dnd-batch-file")).to_be_visible()


def test_the_newest_tab_takes_the_visit_over_and_the_one_before_says_so(
    visit: Visit, write: Write
) -> None:
    first = visit.page
    visit.drop([write("a.txt", LINES)], "SQL")
    visit.ready("a.txt")
    second = Visit(first.context.new_page(), visit.url)
    second.page.goto(visit.url)
    second.ready("a.txt")
    expect(first.get_by_role("dialog", name="Open in another tab")).to_be_visible()
    visit.shot("visit-moved")
    # Whatever the first tab still sends changes nothing.
    first.keyboard.press("Escape")
    first.evaluate("document.querySelector('.dnd-moved').close()")
    first.get_by_role("button", name="Remove a.txt").click()
    first.wait_for_timeout(500)
    second.synthesize()
    expect(second.page.locator("#dnd-adapter")).to_contain_text("from 1 file")
    first.evaluate("document.querySelector('.dnd-moved').showModal()")
    go_on = first.get_by_role("button", name="Continue here")
    fill = "node => getComputedStyle(node).backgroundColor"
    expect(go_on).to_have_css("background-color", first.locator("#dnd-send").evaluate(fill))
    go_on.click()
    expect(first.locator("#dnd-adapter")).to_contain_text("from 1 file")
    visit.forgive_what_broke_off()
    expect(second.page.get_by_role("dialog", name="Open in another tab")).to_be_visible()


def test_a_page_goes_on_when_others_have_taken_its_place_on_the_server(
    visits: Visits, serve: Serve, write: Write
) -> None:
    url = serve(handle_of(FakeEngine()), server=ServerLimits(sessions=1))
    visit = visits(url)
    visit.drop([write("a.txt", LINES)], "SQL")
    visit.ready("a.txt")
    visits(url)
    visit.synthesize()
    expect(visit.page.locator("#dnd-adapter")).to_contain_text("from 1 file")
    visit.ask("What is a lease?")
    visit.idle()
    visit.reload()
    expect(visit.page.locator("#dnd-pane-right .dnd-answer")).to_be_visible()


def test_a_page_says_of_its_calls_that_they_are_its_own(visit: Visit, write: Write) -> None:
    """By this the server knows whose stream of answers to keep open."""
    with visit.page.expect_request("**/queue/join*") as sent:
        visit.drop([write("a.txt", LINES)], "SQL")
    assert sent.value.headers["x-gradio-user"] == "app"


def test_a_private_window_and_a_guessed_key_find_nothing(visits: Visits, write: Write) -> None:
    visit = visits()
    visit.drop([write("a.txt", LINES)], "SQL")
    visit.ready("a.txt")
    key = visit.page.evaluate("localStorage.getItem('dnd-visit')")
    assert len(key) >= 43
    private = visits()
    expect(private.page.locator(".dnd-card")).to_have_count(0)
    assert private.page.evaluate("localStorage.getItem('dnd-visit')") != key
    near = key[:-1] + ("A" if key[-1] != "A" else "B")
    private.page.evaluate("key => localStorage.setItem('dnd-visit', key)", near)
    private.reload()
    expect(private.page.locator(".dnd-card")).to_have_count(0)
    visit.reload()
    visit.ready("a.txt")


def test_a_visit_that_is_gone_is_said_to_be_gone(visits: Visits) -> None:
    visit = visits()
    visit.page.evaluate("localStorage.setItem('dnd-visit', 'of-another-day')")
    visit.page.evaluate(
        "window.addEventListener('pagehide', () => localStorage.removeItem('dnd-visit-empty'))"
    )
    visit.reload()
    lost = visit.page.locator(".dnd-lost")
    expect(lost).to_contain_text("Your last visit is no longer here")
    visit.shot("visit-lost")
    lost.get_by_role("button", name="Close").click()
    expect(lost).to_be_hidden()
    visit.reload()
    expect(visit.page.locator(".dnd-canvas")).to_be_visible()
    expect(lost).to_be_hidden()


def test_a_page_older_than_the_app_says_so(visits: Visits, write: Write) -> None:
    port = free_port()
    with serving(handle_of(FakeEngine()), server_port=port) as url:
        visit = visits(url)
        visit.drop([write("a.txt", LINES)], "SQL")
        visit.ready("a.txt")
        restarted = visit.page.locator(".dnd-restarted")
        expect(restarted).to_be_hidden()
    # Gradio asks for this where a stream broke off, and then loads the page before it is read.
    visit.page.route("**/app_id", lambda route: route.abort())
    with serving(handle_of(FakeEngine()), server_port=port):
        visit.page.get_by_role("tab", name="Library").click()
        expect(restarted).to_contain_text("no longer has what you see here")
        visit.check_accessible()
        visit.shot("restarted", full=False)
        restarted.get_by_role("button", name="Reload").click()
        expect(visit.page.locator(".dnd-lost")).to_contain_text("Your last visit")
        expect(restarted).to_be_hidden()
        visit.page.context.close()
    visit.console.clear()  # the stream that the first one had open


def test_a_visit_can_be_deleted_at_once(visit: Visit, write: Write) -> None:
    page = visit.page
    visit.drop([write("a.txt", LINES)], "SQL")
    visit.ready("a.txt")
    key = page.evaluate("localStorage.getItem('dnd-visit')")
    page.get_by_role("button", name="Delete this visit").click()
    dialog = page.get_by_role("dialog", name="Delete this visit?")
    visit.shot("visit-delete")
    with page.expect_navigation():
        dialog.get_by_role("button", name="Delete", exact=True).click()
    expect(page.locator(".dnd-zone")).to_be_visible()
    expect(page.locator(".dnd-card")).to_have_count(0)
    visit.forgive_what_broke_off()
    page.evaluate("key => localStorage.setItem('dnd-visit', key)", key)
    visit.reload()
    expect(page.locator(".dnd-zone")).to_be_visible()
    expect(page.locator(".dnd-card")).to_have_count(0)


def asks_before_leaving(page: Page) -> bool:
    """Whether leaving would ask; finding out by leaving would end the page where it does not."""
    return bool(page.evaluate("dndLeavingLoses()"))


def test_leaving_asks_only_where_something_would_be_lost(
    visit: Visit, write: Write, engine: FakeEngine
) -> None:
    page, box = visit.page, visit.page.locator("#dnd-batch-inputs textarea")
    assert not asks_before_leaving(page)
    visit.drop([write("a.txt", LINES)], "SQL")
    visit.ready("a.txt")
    assert not asks_before_leaving(page)
    with engine.pace.held("synthesis"):
        page.locator("#dnd-synthesize").click()
        expect(page.locator("#dnd-stop-synthesis")).to_be_visible()
        assert asks_before_leaving(page)
        page.locator("#dnd-stop-synthesis").click()
        expect(page.locator("#dnd-synthesize")).to_be_visible()
    visit.until(lambda: not asks_before_leaving(page))
    page.locator("#dnd-box textarea").fill("Comes back")
    assert not asks_before_leaving(page)
    page.get_by_text("Ask many at once", exact=True).click()
    box.click()
    box.press_sequentially("Half an input")
    with page.expect_event("dialog") as asked:
        page.evaluate("setTimeout(() => location.reload())")
    assert asked.value.type == "beforeunload"
    asked.value.dismiss()
    # Whoever stays can go on.
    expect(box).to_have_value("Half an input")
    page.locator("#dnd-send").click()
    expect(page.locator("#dnd-keep")).to_be_visible()  # answered
    box.fill("")
    visit.until(lambda: not asks_before_leaving(page))


def test_a_question_that_was_not_sent_comes_back_until_it_is(visit: Visit) -> None:
    box = visit.page.locator("#dnd-box textarea")
    box.fill("Half a question")
    visit.reload()
    expect(box).to_have_value("Half a question")
    visit.page.locator("#dnd-send").click()
    expect(visit.page.locator("#dnd-pane-left .dnd-asked")).to_have_text("Half a question")
    visit.idle()
    visit.reload()
    expect(visit.page.locator("#dnd-pane-left .dnd-asked")).to_have_text("Half a question")
    expect(box).to_have_value("")
    box.fill("A secret")
    visit.page.get_by_role("button", name="Delete this visit").click()
    visit.page.locator(".dnd-forget-yes").click()
    expect(visit.page.locator("#dnd-pane-left .dnd-asked")).to_have_count(0)
    visit.forgive_what_broke_off()
    expect(box).to_have_value("")


def test_an_edit_keeps_the_old_turn_until_the_new_one_is_sent(visit: Visit) -> None:
    page, box = visit.page, visit.page.locator("#dnd-box textarea")
    asked = page.locator("#dnd-pane-left .dnd-asked")
    visit.ask("First try")
    visit.idle()
    answer = visit.answer("left").text_content()
    box.fill("Half typed")
    page.get_by_role("button", name="Edit and resend").click()
    expect(box).to_have_value("First try")
    expect(box).to_be_focused()
    expect(page.locator("#dnd-editing")).to_be_visible()
    visit.shot("chat-editing")
    expect(asked).to_have_text("First try")
    assert visit.answer("left").text_content() == answer
    box.press("Escape")
    expect(box).to_have_value("Half typed")
    expect(page.locator("#dnd-editing")).to_be_hidden()
    expect(asked).to_have_text("First try")
    page.get_by_role("button", name="Edit and resend").click()
    expect(box).to_have_value("First try")
    page.get_by_role("button", name="Cancel edit").click()
    expect(box).to_have_value("Half typed")
    page.get_by_role("button", name="Edit and resend").click()
    expect(box).to_have_value("First try")
    box.fill("Second try")
    page.locator("#dnd-send").click()
    expect(asked).to_have_text("Second try")
    visit.idle()
    expect(page.locator("#dnd-editing")).to_be_hidden()


ELSEWHERE = """() => {
  Object.defineProperty(document, "hidden", { get: () => window.elsewhere ?? false });
  window.notified = [];
  window.Notification = class {
    static permission = "default";
    static async requestPermission() { return (this.permission = "granted"); }
    constructor(title, { body }) { window.notified.push(body); }
  };
}"""


def test_the_end_of_a_long_run_is_told_to_who_looks_elsewhere(
    visit: Visit, write: Write, engine: FakeEngine
) -> None:
    page = visit.page
    page.add_init_script(f"({ELSEWHERE})()")
    visit.reload()
    usual = page.title()
    many = "\n---\n".join(f"Say yes.\n\n{number}" for number in range(9))
    visit.drop([write("many.txt", many)], "SQL")
    visit.ready("many.txt")
    visit.synthesize()
    expect(page.locator("#dnd-checks .dnd-verdicts")).to_be_visible()
    page.locator("#dnd-teach-open").click()
    page.locator("#dnd-teach-door").get_by_label("The model itself").check()
    with engine.pace.held("refine"):
        page.locator("#dnd-teach-start").click()
        expect(page).to_have_title(f"Teaching the adapter · {usual}")
        page.get_by_role("button", name="Notify me when it ends").click()
        expect(page.get_by_text("You will be notified")).to_be_visible()
        visit.shot("waiting")
        page.evaluate("window.elsewhere = true")
    visit.until(lambda: page.evaluate("notified.length") == 1)
    assert page.evaluate("notified[0]") == "✓ How it was taught"
    expect(page).to_have_title(f"✓ How it was taught · {usual}")
    page.evaluate("window.elsewhere = false")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page).to_have_title(usual)
