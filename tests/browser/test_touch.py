"""On a phone: what a finger presses is large enough to hit, and rules for narrow screens hold."""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import PHONE, Visit, Visits

pytestmark = pytest.mark.browser

SMALL = """() => [...document.querySelectorAll("button, a, input, select, textarea, summary")]
  .map((node) => node.matches("[type=radio], [type=checkbox]") ? node.closest("label") : node)
  .filter((node) => node.getClientRects().length && node.checkVisibility())
  .map((node) => [node.getBoundingClientRect(), node])
  .filter(([box]) => box.width > 1 && box.height > 1 && box.height < 40)
  .map(([box, node]) => `${node.tagName} ${node.id || node.className}: ${box.height}`)"""


def test_synthesize_is_in_reach_above_its_place_and_covers_nothing_below(visits: Visits) -> None:
    visit = visits(size=PHONE)
    page = visit.page
    page.locator("#dnd-example-sql").click()
    visit.synthesize()
    page.get_by_role("button", name="Edit prompts").click()
    synthesize = page.locator("#dnd-synthesize")
    page.locator(".dnd-top").scroll_into_view_if_needed()
    expect(synthesize).to_be_in_viewport()
    page.locator("#dnd-box").scroll_into_view_if_needed()
    expect(synthesize).not_to_be_in_viewport()


def test_a_finger_is_asked_to_tap_and_a_mouse_to_drop_or_click(visits: Visits) -> None:
    for touch, asked in ((True, "Tap to choose"), (False, "Drop prompt files here, or click")):
        zone = visits(size=PHONE, has_touch=touch).page.get_by_role("button", name=asked)
        expect(zone.locator("strong:visible")).to_have_count(1)


def test_nothing_to_press_is_lower_than_40_px_on_a_phone(visits: Visits) -> None:
    visit = visits(size=PHONE, has_touch=True)
    page = visit.page
    page.locator("#dnd-example-sql").click()
    expect(page.locator(".dnd-card.is-ready").first).to_be_visible()
    visit.until(lambda: page.evaluate(SMALL) == [])
    visit.synthesize()
    expect(page.locator("#dnd-checks")).to_contain_text("Changes the model")
    for words in ("Why?", "Read the answers"):
        page.locator(".dnd-verdict summary").get_by_text(words).click()
    expect(page.locator(".dnd-verdict details[open]")).to_have_count(2)
    visit.ask("Hi")
    visit.idle()
    page.get_by_text("Sampling", exact=True).click()
    page.get_by_label("System prompt").wait_for()
    visit.until(lambda: page.evaluate(SMALL) == [])
    visit.shot("touch")
    visit.check_accessible()


_UNDONE = """() => {
    const rules = [...document.styleSheets].flatMap((sheet) => [...sheet.cssRules]);
    const plain = (rule) => rule instanceof CSSStyleRule;
    const undone = [];
    rules.forEach((media, place) => {
        if (!(media instanceof CSSMediaRule) || !media.conditionText.includes("max-width")) return;
        for (const narrow of [...media.cssRules].filter(plain)) {
            for (const later of rules.slice(place + 1).filter(plain)) {
                if (later.selectorText !== narrow.selectorText) continue;
                for (const name of narrow.style) {
                    const wins = narrow.style.getPropertyPriority(name) === "important";
                    if (!wins && later.style.getPropertyValue(name)) {
                        undone.push(`${narrow.selectorText}: ${name}`);
                    }
                }
            }
        }
    });
    return undone.filter((one) => one.includes("dnd-"));
}"""


def test_no_later_rule_undoes_one_for_narrow_screens(visit: Visit) -> None:
    """A later rule for wide screens must not undo the one for narrow screens."""
    assert visit.page.evaluate(_UNDONE) == []
