"""Two languages: each visitor in their own, all the way through; a switch keeps the visit."""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit, Visits
from tests.conftest import Write
from tests.ui.fake_engine import FakeEngine

pytestmark = pytest.mark.browser


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
    visit.revisit()
    expect(page.get_by_role("button", name="Browse files")).to_be_visible()
    page.get_by_role("link", name="Deutsch").focus()
    page.keyboard.press("Enter")
    expect(german).to_be_visible()
    visit.revisit()
    expect(german).to_be_visible()


def test_of_switches_in_a_row_the_last_one_counts(visit: Visit) -> None:
    page = visit.page
    german = page.get_by_role("heading", name="Prompts ablegen. Adapter bekommen.")
    click = (
        "codes => codes.forEach((code) => document.querySelector(`a[data-lang=${code}]`).click())"
    )
    page.evaluate(click, ["en", "de"])
    expect(german).to_be_visible()
    # From here it goes to English first; to Gradio, the first switch ends late on a slow machine.
    page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": 10})
    page.evaluate(click, ["en", "de"])
    page.wait_for_function("document.documentElement.lang === 'en'")
    expect(german).to_be_visible()
    expect(page.locator("html")).to_have_attribute("lang", "de")


def test_gradios_own_words_are_in_the_language_of_the_page(visits: Visits, write: Write) -> None:
    visit = visits(locale="fr-FR")
    page, field = visit.page, visit.page.locator("#dnd-measure-file")
    visit.drop([write("mine.txt", "one\ntwo\nthree\n")], "SQL")
    visit.ready("mine.txt")
    visit.synthesize()
    page.get_by_role("tab", name="Measure").click()
    expect(field).to_contain_text("Drop File Here")
    visit.revisit("?lang=de")
    page.get_by_role("tab", name="Messen").click()
    expect(field).to_contain_text("Datei hier ablegen")
    # What readers of the screen hear of them, too, also after a switch.
    steps = page.locator("#dnd-train-steps")
    expect(steps.get_by_label("Zahlenfeld: Schritte")).to_be_visible()
    page.get_by_role("link", name="English").click()
    expect(steps.get_by_label("number input for Steps")).to_be_visible()
    page.get_by_role("link", name="Deutsch").click()
    expect(steps.get_by_label("Zahlenfeld: Schritte")).to_be_visible()


def test_faults_of_files_are_in_the_visitors_language_and_follow_a_switch(
    visits: Visits, write: Write
) -> None:
    visit = visits(locale="de-DE")
    path, zone = write("bad.jsonl", '{"prompt": 1}\n'), visit.page.locator(".dnd-zone")
    visit.drop_on(zone, [path], visit.page.locator(".dnd-canvas"))
    card = visit.card("bad.jsonl")
    expect(card).to_contain_text("Zeile 1: erwartet wird ein Objekt mit einer Zeichenkette")
    expect(card).to_contain_text("gefunden: eine Zahl unter prompt.")
    refused, live = visit.page.locator(".dnd-errors"), visit.page.locator(".dnd-live")
    visit.drop_on(card, [write("photo.png", b"")], visit.page.locator(".dnd-bucket"))
    expect(refused).to_contain_text("PNG ist keine Prompt-Datei.")
    expect(live).to_contain_text("bad.jsonl wird nicht verwendet")
    visit.page.get_by_role("link", name="English").click()
    expect(card).to_contain_text("Line 1: expected an object with a string")
    expect(refused).to_contain_text("PNG is not a prompt file.")
    # What was announced is over, and is not said again.
    expect(live).to_be_empty()


def test_english_can_be_chosen_where_no_cookie_is_kept(visits: Visits) -> None:
    """As in a frame of another site: the choice is in the address then."""
    visit = visits(locale="de-DE")
    visit.revisit("?lang=en")
    expect(visit.page.get_by_role("button", name="Browse files")).to_be_visible()
    visit.page.context.clear_cookies()
    visit.reload()
    expect(visit.page.get_by_role("button", name="Browse files")).to_be_visible()


def test_a_switch_says_everything_again_and_keeps_the_visit(visits: Visits, write: Write) -> None:
    visit = visits()
    page = visit.page
    page.evaluate("window.sameDocument = true")
    visit.page.locator("#dnd-example-legal").click()
    expect(visit.bucket("Legal").locator(".dnd-card.is-ready")).to_have_count(3)
    visit.drop([write("mine.txt", "one\ntwo\nthree\n")], "Tone of voice")
    visit.ready("mine.txt")
    for name in ("clauses.md", "duties.csv", "more-clauses.jsonl"):
        visit.card(name).locator(".dnd-where").select_option(label="Tone of voice")
        visit.card(name).get_by_role("button", name=f"Remove {name}").click()
    page.locator(".dnd-range").nth(1).fill("1.5")
    visit.synthesize()
    expect(page.locator("#dnd-checks")).to_contain_text("Changes the model")
    visit.ask("What is it?")
    visit.idle()
    answer = visit.answer("right").text_content()
    page.get_by_text("Sampling", exact=True).click()
    visit.enter(page.get_by_label("Seed").last, "7")
    page.locator("#dnd-box textarea").fill("Half typed")

    page.get_by_role("link", name="Deutsch").click()
    expect(page.get_by_role("tab", name="Werkbank")).to_be_visible()
    expect(page.locator("html")).to_have_attribute("lang", "de")
    expect(page.get_by_role("link", name="Deutsch")).to_have_attribute("aria-current", "page")
    expect(page.locator("#dnd-synthesize")).to_have_text("Adapter erzeugen")
    expect(page.locator("#dnd-adapter")).to_contain_text("3 Prompts aus 1 Datei")
    expect(page.locator("#dnd-download")).to_contain_text("PEFT-Zip herunterladen")
    expect(page.locator("#dnd-checks")).to_contain_text("Ändert das Modell")
    expect(page.locator("#dnd-stages")).to_contain_text("Wie er entstand")
    expect(page.locator("#dnd-pane-right")).to_contain_text("Tok./s")
    expect(page.locator("#dnd-mode")).to_contain_text("Wie geschrieben")
    expect(page.locator(".dnd-strip")).to_contain_text("1 Gruppe, 1 Datei, 3 Prompts")
    expect(page.locator("#dnd-take-open")).to_have_attribute("title", "Taste: K")
    assert visit.answer("right").text_content() == answer
    expect(page.get_by_label("Startwert").last).to_have_value("7")
    expect(page.locator("#dnd-box textarea")).to_have_value("Half typed")
    page.get_by_role("button", name="Prompts bearbeiten").click()
    # Nobody named the empty bucket, and the name of the full one is the adapter's.
    for number, title in enumerate(("Verträge", "Tone of voice")):
        expect(page.locator(".dnd-title").nth(number)).to_have_value(title)
    expect(page.locator(".dnd-drop").first).to_have_text("Dateien hier ablegen")
    expect(page.locator(".dnd-notes")).to_have_text("Als ein Prompt je Zeile gelesen.")
    expect(
        page.get_by_role("spinbutton", name="Gewicht von Tone of voice, als Zahl")
    ).to_have_value("1.5")
    visit.check_accessible()

    # What comes next is in the new language; so is what is told of what comes.
    visit.ask("Und jetzt?")
    visit.idle()
    expect(page.locator("#dnd-pane-left .dnd-answer-facts").last).to_contain_text("Tok./s")
    page.get_by_role("tab", name="Sammlung").click()
    expect(page.locator("#dnd-library")).to_contain_text("Noch nichts behalten.")
    page.get_by_role("link", name="English").click()
    expect(page.locator("#dnd-library")).to_contain_text("Nothing kept yet.")
    page.get_by_role("tab", name="Workbench").click()
    expect(page.locator("#dnd-adapter")).to_contain_text("3 prompts from 1 file")
    assert page.evaluate("window.sameDocument")


def test_a_switch_in_the_middle_of_a_run_changes_what_the_run_says(
    visit: Visit, write: Write, engine: FakeEngine
) -> None:
    page = visit.page
    visit.drop([write("mine.txt", "one\ntwo\nthree\n")], "SQL")
    visit.ready("mine.txt")
    with engine.pace.held("synthesis"):
        page.locator("#dnd-synthesize").click()
        expect(page.locator("#dnd-stages")).to_contain_text("Making the adapter")
        page.get_by_role("link", name="Deutsch").click()
        expect(page.locator("#dnd-stages")).to_contain_text("Der Adapter entsteht")
    expect(page.locator("#dnd-adapter")).to_contain_text("3 Prompts aus 1 Datei")
    expect(page.locator("#dnd-download")).to_contain_text("PEFT-Zip herunterladen")


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


_SHOWN = """node => {
    const range = document.createRange();
    range.selectNodeContents(node);
    const [words, box] = [range.getBoundingClientRect(), node.getBoundingClientRect()];
    const beyond = node.scrollWidth > node.clientWidth;
    return words.top >= box.bottom ? "nothing" : beyond ? "a part" : "all";
}"""


@pytest.mark.parametrize(("width", "shown"), [(1440, "all"), (1000, "nothing")])
def test_the_line_beside_the_title_is_shown_in_full_or_not_at_all(
    visits: Visits, width: int, shown: str
) -> None:
    visit = visits(locale="de-DE", size={"width": width, "height": 900})
    expect(visit.page.locator(".dnd-chip code")).to_have_count(1)  # the engine is there
    assert visit.page.locator(".dnd-header p").evaluate(_SHOWN) == shown
