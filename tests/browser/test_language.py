"""Two languages: each visitor in their own, all the way through, and the choice is kept."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import DESK, PHONE, Visits

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
    expect(german.page.locator("#dnd-adapter")).to_contain_text("erzeugt in 0,43 s")
    expect(german.page.locator("#dnd-checks")).to_contain_text("Ändert das Modell")
    expect(english.page.locator("#dnd-checks")).to_contain_text("Changes the model")
    german.ask("Was?")
    german.idle()
    expect(german.page.locator("#dnd-pane-right .dnd-answer-facts")).to_contain_text("Tok./s")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_german_stands_in_nobody_s_way(
    visits: Visits, write: Write, dark: bool, size: dict[str, int]
) -> None:
    visit = visits(dark=dark, size=size, locale="de-DE")
    page, kind = visit.page, f"{'dark' if dark else 'light'}-{size['width']}"
    expect(page.locator("#dnd-hint")).to_contain_text("Erst Dateien")
    visit.shot(f"german-first-{kind}")
    visit.check_accessible()
    page.locator("#dnd-example-all").click()
    expect(page.locator("#dnd-hint")).to_have_text("7 Dateien, 78 Prompts")
    page.locator(".dnd-picker").set_input_files([write("scan.pdf", "x"), write("leer.txt", "")])
    expect(page.locator(".dnd-card.is-error")).to_have_count(1)
    expect(page.locator(".dnd-errors")).to_contain_text("1 von 2 Dateien")
    visit.shot(f"german-canvas-{kind}")
    visit.check_accessible()
    page.locator("#dnd-synthesize").click()
    expect(page.locator("#dnd-checks")).to_contain_text("Trägt die Anweisung", timeout=20_000)
    visit.ask("Frage: welche?")
    visit.idle()
    page.locator("#dnd-refine-open").click()
    expect(page.locator("#dnd-refine-start")).to_be_visible()
    page.evaluate("window.scrollTo(0, 0)")
    visit.shot(f"german-ready-{kind}")
    visit.check_accessible()
    page.get_by_role("tab", name="Zeugnis").click()
    expect(page.locator("#dnd-report")).to_contain_text("Wie gut ist dieser Generator")
    visit.shot(f"german-report-{kind}")
    visit.check_accessible()
