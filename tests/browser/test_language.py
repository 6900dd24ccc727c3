"""Two languages: each visitor in their own, all the way through, and the choice is kept."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visits

pytestmark = pytest.mark.browser
Write = Callable[[str, str | bytes], Path]


def test_the_browser_s_language_is_the_page_s_until_another_is_chosen(visits: Visits) -> None:
    visit = visits(locale="de-DE")
    page = visit.page
    german = page.get_by_role("heading", name="Prompts ablegen. Adapter bekommen.")
    expect(german).to_be_visible()
    expect(page.locator("html")).to_have_attribute("lang", "de")
    page.get_by_role("link", name="English").click()
    expect(page.get_by_role("heading", name="Drop prompts. Get an adapter.")).to_be_visible()
    expect(page.locator("html")).to_have_attribute("lang", "en")
    expect(page.get_by_role("link", name="English")).to_have_attribute("aria-current", "page")
    page.goto(visit.url)
    expect(page.get_by_role("button", name="Browse files")).to_be_visible()
    page.get_by_role("link", name="Deutsch").focus()
    page.keyboard.press("Enter")
    expect(german).to_be_visible()
    page.goto(visit.url)
    expect(german).to_be_visible()


def test_english_can_be_chosen_where_no_cookie_is_kept(visits: Visits) -> None:
    """As in a frame of another site: the choice is in the address then."""
    visit = visits(locale="de-DE")
    visit.page.goto(f"{visit.url}/?lang=en")
    expect(visit.page.get_by_role("button", name="Browse files")).to_be_visible()
    visit.page.context.clear_cookies()
    visit.reload()
    expect(visit.page.get_by_role("button", name="Browse files")).to_be_visible()


def test_two_visitors_read_two_languages_at_once(visits: Visits, write: Write) -> None:
    english, german = visits(), visits(locale="de-DE")
    path = write("one.txt", "eins\nzwei\n")
    english.drop([path], "SQL")
    german.page.locator(".dnd-picker").set_input_files([path])
    german.ready("one.txt")
    english.ready("one.txt")
    for visit in (english, german):
        visit.page.locator("#dnd-synthesize").click()
    expect(german.page.locator("#dnd-adapter")).to_contain_text("2 Prompts aus 1 Datei")
    expect(english.page.locator("#dnd-adapter")).to_contain_text("2 prompts from 1 file")
    expect(german.page.locator("#dnd-adapter")).to_contain_text("Gewichte in 0,43 s")
    expect(german.page.locator("#dnd-checks")).to_contain_text("Ändert das Modell")
    expect(english.page.locator("#dnd-checks")).to_contain_text("Changes the model")
    german.ask("Was?")
    german.idle()
    expect(german.page.locator("#dnd-pane-right .dnd-answer-facts")).to_contain_text("Tok./s")
