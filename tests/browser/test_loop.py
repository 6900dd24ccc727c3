"""The loop: synthesize, chat, checks, download; loading, failing, stopping; two visitors."""

import json
import re
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import ViewportSize, expect

from dnd_engine.errors import AssetError
from tests.browser.conftest import DESK, PHONE, Serve, Visit, Visits, has_class
from tests.conftest import Write
from tests.ui.fake_engine import FakeEngine, Loading, handle_of
from tests.until import until
from ui.engine_handle import EngineHandle

pytestmark = pytest.mark.browser


def test_synthesize_shows_its_stages_and_what_was_made(visit: Visit, engine: FakeEngine) -> None:
    visit.page.locator("#dnd-example-all").click()
    expect(visit.page.locator("#dnd-synthesize")).to_be_enabled()
    stages = visit.page.locator("#dnd-stages")
    with engine.pace.held("synthesis"):
        visit.page.locator("#dnd-synthesize").click()
        expect(stages).to_contain_text("Making the adapter")
        expect(stages.locator("li.is-running")).to_have_count(1)
        visit.shot("synthesizing")
    bar = visit.page.locator("#dnd-adapter")
    expect(bar).to_contain_text("78 prompts from 7 files")
    for fact in ("weights in 0.43 s", "rank 4", "2.4 MB", "sql-legal-tone"):
        expect(bar).to_contain_text(fact)
    stages.locator("summary").click()
    for stage in ("Read prompts", "Encode", "Decode", "Check"):
        expect(stages.locator("li.is-done").filter(has_text=stage)).to_have_count(1)
    expect(visit.page.locator("#dnd-checks")).to_contain_text("Changes the model")
    expect(visit.page.locator("#dnd-checks")).to_contain_text("Question to SQL over one table")
    expect(visit.page.locator(".dnd-strip")).to_contain_text("3 buckets, 7 files, 78 prompts")
    expect(visit.page.locator("#dnd-synthesize")).to_be_hidden()
    visit.page.get_by_role("button", name="Edit prompts").click()
    expect(visit.page.locator(".dnd-card")).to_have_count(7)
    expect(visit.page.locator("#dnd-synthesize")).to_be_visible()
    visit.card("replies.txt").locator(".dnd-x").click()
    expect(bar).to_contain_text("Not made from the buckets as they are now.")
    visit.page.get_by_role("button", name="Fold away").click()
    expect(visit.page.locator(".dnd-edit")).to_be_focused()
    expect(visit.page.locator("#dnd-synthesize")).to_be_hidden()
    assert engine.calls[-1]["mix"] == "pool"


def test_mix_and_seed_reach_the_engine(visit: Visit, engine: FakeEngine) -> None:
    # Before there is an adapter, nothing is folded away.
    expect(visit.page.locator(".dnd-fold-away")).to_be_hidden()
    visit.page.locator("#dnd-advanced").get_by_text("Advanced").click()
    expect(visit.page.get_by_text("Sum adapters")).to_be_hidden()
    visit.page.locator("#dnd-example-all").click()
    expect(visit.page.locator("#dnd-hint")).to_have_text("7 files, 78 prompts")
    visit.page.get_by_text("Sum adapters").click()
    seed = visit.page.get_by_label("Seed").first
    visit.enter(seed, "7")
    visit.synthesize()
    expect(seed).to_have_value("7")
    assert (engine.calls[-1]["mix"], engine.calls[-1]["seed"]) == ("sum", 7)
    expect(visit.page.locator("#dnd-adapter")).to_contain_text("keeps 91 % of the change")


def test_weights_are_mixed_anew_from_the_folded_canvas(visit: Visit, engine: FakeEngine) -> None:
    visit.page.locator("#dnd-example-all").click()
    expect(visit.page.locator("#dnd-synthesize")).to_be_enabled()
    visit.synthesize()
    code = visit.page.locator("#dnd-adapter code")
    first = code.inner_text()
    another = re.compile(rf"^(?!{first})\w{{8}}$")
    mute = visit.page.get_by_role("button", name="Mute Legal")
    mute.click()
    expect(mute).to_have_attribute("aria-pressed", "true")
    summary = visit.page.locator(".dnd-strip-text")
    expect(summary).to_have_text("2 buckets, 4 files, 52 prompts; 3 files not used")
    expect(code).to_have_text(another)
    expect(visit.page.locator("#dnd-adapter")).not_to_contain_text(
        "Not made from the buckets as they are now."
    )
    visit.shot("remix")
    before, after = engine.calls[-2:]
    assert set(before["weights"]) - set(after["weights"]) == {"Legal"}
    assert before["memory"] is after["memory"]
    mute.click()
    expect(code).to_have_text(first)
    weight = visit.page.get_by_role("slider", name="Weight of Legal in the mix")
    weight.focus()
    weight.press("ArrowLeft")
    expect(code).to_have_text(another)
    assert engine.calls[-1]["weights"]["Legal"] == pytest.approx(before["weights"]["Legal"] - 0.1)
    expect(visit.page.locator("#dnd-download")).to_be_enabled()
    visit.check_accessible()
    # Faster than the page answers: the last one counts.
    for _press in range(4):
        weight.press("ArrowLeft")
    least = pytest.approx(before["weights"]["Legal"] - 0.5)
    until(lambda: engine.calls[-1]["weights"]["Legal"] == least)
    expect(visit.page.locator("#dnd-adapter")).not_to_contain_text(
        "Not made from the buckets as they are now."
    )
    visit.page.get_by_role("button", name="Mute Legal").click()
    until(lambda: "Legal" not in engine.calls[-1]["weights"])
    visit.page.get_by_role("button", name="Mute SQL").click()
    until(lambda: "SQL" not in engine.calls[-1]["weights"])
    expect(visit.page.locator("#dnd-adapter")).not_to_contain_text(
        "Not made from the buckets as they are now."
    )
    visit.page.get_by_role("button", name="Mute Tone of voice").click()
    expect(summary).to_have_text("Every bucket with prompts is muted")
    # Then the server knows all three: a reload loses what it does not know.
    expect(visit.page.locator("#dnd-adapter")).to_contain_text(
        "Not made from the buckets as they are now."
    )
    visit.page.add_init_script(_TELL_TWICE)
    visit.reload()
    visit.page.get_by_role("button", name="Mute Legal").click()
    expect(weight).to_have_value(f"{before['weights']['Legal'] - 0.5:.1f}")
    visit.page.evaluate("window.testAgain()")  # Gradio may do so by itself on a busy machine
    expect(weight).to_have_value(f"{before['weights']['Legal'] - 0.5:.1f}")


_TELL_TWICE = """window.addEventListener("dnd-inbox", ({ detail }) => {
    if (detail.op !== "restore" || window.testAgain) return;
    const copy = structuredClone(detail); // the canvas changes what it was given
    window.testAgain = () => window.dispatchEvent(new CustomEvent("dnd-inbox", { detail: copy }));
})"""
"""Keeps the message that restores the visit, to tell the canvas of it again."""


def test_answers_that_are_read_stay_open_when_a_weight_is_changed(
    visit: Visit, engine: FakeEngine
) -> None:
    page = visit.page
    page.locator("#dnd-example-all").click()
    expect(page.locator("#dnd-synthesize")).to_be_enabled()
    visit.synthesize()
    expect(page.locator("#dnd-warning .dnd-verdict")).to_be_visible()
    page.get_by_text("Read the answers").click()
    expect(page.locator("#dnd-warning tbody tr").first).to_be_visible()
    # A shade shows where a phone cuts the table off.
    expect(page.locator("#dnd-warning .dnd-table")).not_to_have_css("background-image", "none")
    code = page.locator("#dnd-adapter code")
    first = code.inner_text()
    page.get_by_role("button", name="Mute Legal").click()
    expect(code).not_to_have_text(first)
    expect(page.locator("#dnd-checks .dnd-verdicts")).to_be_visible()
    expect(page.locator("#dnd-warning tbody tr").first).to_be_visible()
    expect(page.locator("#dnd-warning details").first).not_to_have_attribute("open", "")
    second = code.inner_text()
    with engine.pace.held("synthesis"):
        page.get_by_role("button", name="Mute Legal").click()
        expect(page.locator(".dnd-made[data-doing]")).to_be_attached()
        page.get_by_text("Read the answers").click()
    expect(code).not_to_have_text(second)
    expect(page.locator("#dnd-warning .dnd-verdict")).to_be_visible()
    expect(page.locator("#dnd-warning tbody tr").first).to_be_hidden()
    # What was open when its place was kept leaves no hole.
    visit.until(lambda: page.locator("#dnd-warning").evaluate(_ROOM_BELOW) <= 4)


_ROOM_BELOW = """told => {
    const { bottom } = told.querySelector(".dnd-verdict").getBoundingClientRect();
    return told.getBoundingClientRect().bottom - bottom;
}"""
"""Empty room below the verdict, in pixels."""

_TOP = """() => {
  const { top } = document.getElementById("dnd-loop").getBoundingClientRect();
  return Math.round(top + scrollY);
}"""
"""Returns the place of the chat on the page."""

_WATCH_CHAT = f"""() => {{
  window.tops = [];
  const look = () => {{
    const top = ({_TOP})();
    if (window.tops.at(-1) !== top) window.tops.push(top);
    requestAnimationFrame(look);
  }};
  look();
}}"""
"""Records each place of the chat on the page."""

_HOLD_FRAMES = """() => {
  const draw = window.requestAnimationFrame, later = [];
  window.requestAnimationFrame = (frame) => later.push(frame);
  window.letFramesGo = () => {
    window.requestAnimationFrame = draw;
    later.forEach((frame) => draw(frame));
  };
}"""
"""Draws no frame of the page's until it may, as a busy machine draws few."""


def judge_two_buckets(visit: Visit, write: Write, word: str) -> None:
    """Make an adapter of two buckets, and wait for its verdict and its zip."""
    page = visit.page
    for name in ("SQL", "Two"):
        if name == "Two":
            visit.add_bucket(name)
        rows = [json.dumps({"prompt": f"Say yes.\n\n{word} {name} {i}"}) for i in range(9)]
        visit.drop([write(f"{name}.jsonl", "\n".join(rows))], name)
        visit.ready(f"{name}.jsonl")
    visit.synthesize()
    expect(page.locator("#dnd-checks .dnd-verdicts")).to_be_visible()
    expect(page.locator("#dnd-undo")).to_be_visible()
    if "NOTHING" not in word:
        page.locator("#dnd-teach-open").click()
    expect(page.locator("#dnd-teach")).to_be_visible()
    expect(page.locator("#dnd-download")).to_be_enabled()


def test_the_chat_stays_in_its_place_where_frames_are_late(
    visits: Visits, engine: FakeEngine, write: Write
) -> None:
    visit = visits(size=PHONE)
    page = visit.page
    judge_two_buckets(visit, write, "IMPRINT NOTHING")
    before = page.evaluate(_TOP)
    page.evaluate(_HOLD_FRAMES)
    with engine.pace.held("imprint"):
        page.get_by_role("slider", name=re.compile("Weight of")).first.press("ArrowLeft")
        expect(page.locator("#dnd-stages")).to_contain_text("Imprinting the instruction")
        expect(page.locator("#dnd-warning")).to_contain_text("The verdict follows")
        assert page.evaluate(_TOP) == before
        page.evaluate("window.letFramesGo()")
    expect(page.locator("#dnd-warning .dnd-verdict")).to_be_visible()
    assert page.evaluate(_TOP) == before


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("word", ["IMPRINT", "IMPRINT NOTHING"])
def test_the_chat_stays_in_its_place_while_a_weight_is_changed(
    visits: Visits, engine: FakeEngine, write: Write, size: ViewportSize, word: str
) -> None:
    visit = visits(size=size)
    page = visit.page
    judge_two_buckets(visit, write, word)
    code = page.locator("#dnd-adapter code")
    first = code.inner_text()
    page.evaluate(_WATCH_CHAT)
    with engine.pace.held("imprint"):
        weight = page.get_by_role("slider", name=re.compile("Weight of")).first
        weight.focus()
        weight.press("ArrowLeft")
        expect(page.locator("#dnd-imprint-stop")).to_be_visible()
        expect(page.locator("#dnd-stages")).to_contain_text("Imprinting the instruction")
        expect(page.locator("#dnd-undo")).to_be_disabled()
        visit.shot("remix-imprint")
        visit.check_accessible()
    expect(code).not_to_have_text(first)
    expect(page.locator("#dnd-imprint-stop")).to_be_hidden()
    expect(page.locator("#dnd-warning .dnd-verdict")).to_be_visible()
    expect(page.locator("#dnd-undo")).to_be_enabled()
    expect(page.locator("#dnd-teach")).to_be_visible()
    tops = page.evaluate("window.tops")
    assert max(tops) - min(tops) <= 4, tops
    with engine.pace.held("imprint"):
        for _press in range(2):  # the second while the imprint of the first runs
            before = code.inner_text()
            weight.press("ArrowLeft")
            expect(code).not_to_have_text(before)
            expect(page.locator("#dnd-imprint-stop")).to_be_visible()
            expect(page.locator("#dnd-undo")).to_be_disabled()
    expect(page.locator("#dnd-undo")).to_be_enabled()


def test_three_buckets_and_edit_are_in_one_line_of_a_desk(visit: Visit) -> None:
    page = visit.page
    page.locator("#dnd-example-all").click()
    expect(page.locator("#dnd-synthesize")).to_be_enabled()
    visit.synthesize()
    height = visit.box(page.locator(".dnd-strip"))["height"]
    page.get_by_role("button", name="Mute Legal").click()
    # This has the most to say, and German the longer words for it.
    for words in ("3 files not used", "3 Dateien nicht benutzt"):
        if "Dateien" in words:
            page.locator("a[data-lang=de]").click()
        expect(page.locator(".dnd-strip-text")).to_contain_text(words)
        edit, last = (visit.box(page.locator(one).last) for one in (".dnd-edit", ".dnd-mute"))
        assert edit["y"] < last["y"] + last["height"]
        assert visit.box(page.locator(".dnd-strip"))["height"] == height


def test_buttons_beside_each_other_are_equally_high_on_a_phone(visits: Visits) -> None:
    visit = visits(size=PHONE)
    visit.revisit("?lang=de")
    page = visit.page
    page.locator("#dnd-example-sql").click()
    expect(page.locator("#dnd-synthesize")).to_be_enabled()
    page.locator("#dnd-synthesize").click()
    expect(page.locator("#dnd-teach-open")).to_be_visible()
    keep, teach = (visit.box(page.locator(f"#dnd-{one}-open")) for one in ("take", "teach"))
    assert keep["height"] == teach["height"]
    visit.shot("phone-buttons")


def test_both_answers_stream_at_once_and_differ(visit: Visit, engine: FakeEngine) -> None:
    visit.page.locator("#dnd-example-all").click()
    expect(visit.page.locator("#dnd-synthesize")).to_be_enabled()
    visit.synthesize()
    visit.page.locator(".dnd-suggestion").first.click()
    expect(visit.page.locator("#dnd-box textarea")).to_have_value("Count the films from 2003.")
    with engine.pace.held("chat", at=2):
        visit.page.locator("#dnd-send").click()
        for side, words in (("left", "The question"), ("right", "SELECT name")):
            expect(visit.page.locator(f"#dnd-pane-{side} .dnd-cursor")).to_be_visible()
            expect(visit.answer(side)).to_contain_text(words)
        visit.shot("chat-streaming")
    visit.idle()
    expect(visit.answer("left")).to_contain_text("in general.")
    expect(visit.answer("right").locator("pre")).to_contain_text("SELECT name")
    facts = visit.page.locator("#dnd-pane-right .dnd-answer-facts")
    expect(facts).to_contain_text("\u00d7 1.00")
    expect(facts).to_contain_text("48 tok/s")
    expect(visit.page.locator("#dnd-pane-left .dnd-answer-facts")).to_contain_text("base 9c41e0")
    visit.shot("ready")


def test_the_base_answers_before_there_is_an_adapter(visit: Visit) -> None:
    visit.ask("Hello there")
    visit.idle()
    expect(visit.answer("left")).to_contain_text("in general.")
    expect(visit.page.locator("#dnd-pane-right")).to_contain_text("Asked before there was")


def test_equal_answers_are_called_equal(visit: Visit) -> None:
    visit.page.locator("#dnd-example-tone").click()
    expect(visit.page.locator("#dnd-synthesize")).to_be_enabled()
    visit.synthesize()
    expect(visit.page.get_by_label("Tell only the base model")).to_be_checked()
    visit.page.get_by_label("As written").check()  # both sides read the same
    visit.ask("SAME again")
    visit.idle()
    expect(visit.page.locator("#dnd-pane-right")).to_contain_text("both answers are the same")


def test_stop_keeps_the_words_so_far_and_the_next_question_works(
    visit: Visit, engine: FakeEngine
) -> None:
    closed = engine.closed_chats
    with engine.pace.held("chat", at=8):
        visit.ask("Answer please")
        expect(visit.answer("left")).to_contain_text("several ways")
        visit.page.locator("#dnd-stop-chat").click()
        expect(visit.page.locator("#dnd-pane-left .dnd-answer-facts")).to_contain_text("stopped")
        visit.until(lambda: engine.closed_chats > closed)
    expect(visit.answer("left")).to_have_text("The question can be answered in several ways.")
    visit.shot("chat-stopped")
    visit.ask("And now")
    visit.idle()
    expect(visit.answer("left")).to_contain_text("in general.")
    visit.page.locator("#dnd-clear-chat").click()
    expect(visit.page.locator("#dnd-pane-left .dnd-answer")).to_have_count(0)


_ONE_THEN_THE_OTHER = """([one, other]) => {
    document.querySelector(one).click();
    const press = () => {
        const button = document.querySelector(other);
        if (button !== null && button.offsetParent !== null) button.click();
        else requestAnimationFrame(press);
    };
    press();
}"""


def test_what_is_ordered_right_after_stop_is_done(
    visit: Visit, write: Write, engine: FakeEngine
) -> None:
    page = visit.page
    visit.drop([write("a.txt", "one\ntwo\n")], "SQL")
    visit.ready("a.txt")
    made = len(engine.calls)
    with engine.pace.held("synthesis"):
        page.locator("#dnd-synthesize").click()
        expect(page.locator("#dnd-stages li.is-running")).to_contain_text("Encode")
        page.evaluate(_ONE_THEN_THE_OTHER, ["#dnd-stop-synthesis", "#dnd-synthesize"])
        visit.until(lambda: len(engine.calls) == made + 2)
    expect(page.locator("#dnd-download")).to_be_enabled()
    with engine.pace.held("chat", at=8):
        visit.ask("Answer please")
        expect(visit.answer("left")).to_contain_text("several ways")
        page.locator("#dnd-box textarea").fill("And now")
        asked = len(engine.asked)
        page.evaluate(_ONE_THEN_THE_OTHER, ["#dnd-stop-chat", "#dnd-send"])
        visit.until(lambda: len(engine.asked) == asked + 1)
    expect(page.locator("#dnd-pane-left .dnd-asked")).to_have_count(2)
    expect(visit.answer("left")).to_contain_text("in general.")
    page.locator("#dnd-clear-chat").click()
    expect(page.locator("#dnd-pane-left .dnd-asked")).to_have_count(0)
    with engine.pace.held("chat", at=8):
        visit.ask("Answer please")
        expect(visit.answer("left")).to_contain_text("several ways")
        asked = len(engine.asked)
        page.evaluate(_ONE_THEN_THE_OTHER, ["#dnd-stop-chat", "#dnd-again"])
        visit.until(lambda: len(engine.asked) == asked + 1)
        expect(visit.answer("left")).to_contain_text("several ways")
        expect(page.locator("#dnd-stop-chat")).to_be_visible()
        page.wait_for_timeout(400)
        expect(page.locator("#dnd-stop-chat")).to_be_visible()
        page.locator("#dnd-stop-chat").click()


def test_stop_stays_when_the_end_of_what_was_stopped_before_arrives_late(
    visit: Visit, write: Write, engine: FakeEngine
) -> None:
    page = visit.page
    visit.drop([write("a.txt", "one\ntwo\n")], "SQL")
    visit.ready("a.txt")
    start, stop = page.locator("#dnd-synthesize"), page.locator("#dnd-stop-synthesis")
    deliver = visit.keep_back("show_run")
    with engine.pace.held("synthesis"):
        start.click()
        stop.click()
        expect(start).to_be_visible()
    with engine.pace.held("synthesis"):
        start.click()
        expect(stop).to_be_visible()
        deliver()
        expect(stop).to_be_visible()
        expect(start).to_be_hidden()
    expect(page.locator("#dnd-download")).to_be_enabled()
    send, stop = page.locator("#dnd-send"), page.locator("#dnd-stop-chat")
    deliver = visit.keep_back("answered")
    with engine.pace.held("chat", at=8):
        visit.ask("Answer please")
        expect(visit.answer("left")).to_contain_text("several ways")
        stop.click()
        expect(send).to_be_visible()
    with engine.pace.held("chat", at=8):
        visit.ask("And now")
        expect(stop).to_be_visible()
        deliver()
        expect(stop).to_be_visible()
        expect(send).to_be_hidden()
    visit.idle()


def test_sampling_settings_are_used_and_an_answer_can_fail(visit: Visit) -> None:
    visit.page.locator("#dnd-sampling").get_by_text("Sampling").click()
    visit.enter(visit.page.locator("#dnd-sampling input[type=number]").first, "8")
    visit.ask("Short")
    visit.idle()
    expect(visit.page.locator("#dnd-pane-left .dnd-answer-facts")).to_contain_text(
        "cut at 8 tokens"
    )
    visit.ask("BREAK it")
    visit.idle()
    expect(visit.page.locator("#dnd-pane-left")).to_contain_text("longer than the model can read")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_an_adapter_can_be_put_beside_others(visits: Visits, dark: bool) -> None:
    visit = visits(dark=dark)
    visit.page.locator("#dnd-example-sql").click()
    expect(visit.page.locator("#dnd-synthesize")).to_be_enabled()
    visit.synthesize()
    visit.page.get_by_role("button", name="Find out").click()
    proof = visit.page.locator("#dnd-proof")
    expect(proof).to_contain_text("Made from another task's prompts (Tone of voice)")
    expect(proof.get_by_role("button", name="Measure again")).to_be_visible()
    expect(visit.page.locator("#dnd-download")).to_be_enabled()
    visit.check_accessible()
    visit.page.evaluate("window.scrollTo(0, 0)")
    visit.shot(f"proof-{'dark' if dark else 'light'}")


def test_the_zip_that_is_offered_was_verified_and_opens(visit: Visit) -> None:
    visit.page.locator("#dnd-example-sql").click()
    expect(visit.page.locator("#dnd-synthesize")).to_be_enabled()
    visit.synthesize()
    with visit.page.expect_download() as download:
        visit.page.locator("#dnd-download").click()
    name = download.value.suggested_filename
    assert name.startswith("sql-")
    assert name.endswith(".zip")
    with zipfile.ZipFile(download.value.path()) as archive:
        assert sorted(archive.namelist()) == [
            "README.md",
            "adapter_config.json",
            "adapter_model.safetensors",
            "provenance.json",
        ]


def test_strength_acts_on_the_next_message_without_a_new_synthesis(
    visit: Visit, engine: FakeEngine
) -> None:
    visit.page.locator("#dnd-example-sql").click()
    expect(visit.page.locator("#dnd-synthesize")).to_be_enabled()
    visit.synthesize()
    calls = len(engine.calls)
    before = visit.page.locator("#dnd-adapter code").inner_text()
    number = visit.page.locator("#dnd-strength input[type=number]")

    def is_stronger() -> bool:
        # What comes after a synthesis sets the strength, too, and may undo what is typed just then.
        visit.idle()
        for value in ("1.5", "1.6"):
            visit.enter(number, value)
        visit.idle()
        # Only the second is large enough for it.
        return "answers may become garbled" in visit.page.locator("#dnd-adapter").inner_text()

    visit.until(is_stronger)
    expect(visit.page.locator("#dnd-adapter code")).not_to_have_text(before)
    expect(visit.page.locator("#dnd-download")).to_be_enabled()
    visit.ask("Now")
    visit.idle()
    expect(visit.page.locator("#dnd-pane-right .dnd-answer-facts")).to_contain_text("\u00d7 1.60")
    assert len(engine.calls) == calls
    visit.enter(number, "2")
    expect(visit.page.locator("#dnd-warning")).to_contain_text("3 keys missing after reload")
    expect(visit.page.locator("#dnd-download")).to_be_disabled()


def test_an_emptied_strength_stays_what_it_was(visit: Visit, write: Write) -> None:
    visit.drop([write("a.txt", "one\ntwo\n")], "SQL")
    visit.ready("a.txt")
    visit.synthesize()
    expect(visit.page.locator("#dnd-checks .dnd-verdicts")).to_be_visible()
    strength = visit.page.locator("#dnd-strength input[type=number]")
    visit.enter(strength, "1.5")
    strength.fill("")
    strength.press("Tab")
    expect(strength).to_have_value("1.5")
    strength.fill("99")
    strength.press("Enter")
    expect(strength).to_have_value("2")
    expect(strength).to_be_focused()
    visit.enter(strength, "1.5")
    visit.ask("Now")
    visit.idle()
    expect(visit.page.locator("#dnd-pane-right .dnd-answer-facts")).to_contain_text("\u00d7 1.50")


def test_an_adapter_that_does_nothing_is_called_that(visit: Visit, write: Write) -> None:
    visit.drop([write("latin.txt", "NOTHING apertura\nhispanica\n")], "Legal")
    visit.ready("latin.txt")
    visit.synthesize()
    expect(visit.page.locator("#dnd-warning")).to_contain_text("unlikely to help")
    expect(visit.page.locator("#dnd-checks")).to_contain_text("Does nothing measurable")
    expect(visit.page.locator("#dnd-download")).to_have_text("Download anyway")
    expect(visit.page.locator("#dnd-download")).to_have_class(has_class("secondary"))
    visit.shot("warning")


def test_a_failed_synthesis_says_why_and_loses_nothing(visit: Visit, write: Write) -> None:
    visit.drop([write("bad.txt", "FAIL here\nplease\n")], "SQL")
    visit.ready("bad.txt")
    visit.page.locator("#dnd-synthesize").click()
    stages = visit.page.locator("#dnd-stages")
    expect(stages).to_contain_text("ran out of memory at prompt 3")
    expect(stages.locator("li.is-failed")).to_contain_text("Encode")
    expect(visit.card("bad.txt")).to_be_visible()
    expect(visit.page.locator("#dnd-synthesize")).to_be_enabled()
    visit.shot("failed")


def test_a_synthesis_can_be_stopped(visit: Visit, write: Write, engine: FakeEngine) -> None:
    visit.drop([write("a.txt", "one\ntwo\n")], "SQL")
    visit.ready("a.txt")
    with engine.pace.held("synthesis"):
        visit.page.locator("#dnd-synthesize").click()
        expect(visit.page.locator("#dnd-stages li.is-running")).to_contain_text("Encode")
        visit.page.get_by_role("button", name="Stop").first.click()
        expect(visit.page.locator("#dnd-stages")).to_contain_text("No new adapter was made")
    expect(visit.page.locator("#dnd-synthesize")).to_be_enabled()
    expect(visit.page.locator("#dnd-adapter")).to_be_hidden()
    visit.shot("stopped")


def test_the_chip_says_what_goes_on_and_who_waits_sees_the_queue_move(
    visits: Visits, write: Write, engine: FakeEngine
) -> None:
    one, two = visits(), visits()
    with engine.pace.held("synthesis"):
        for visit, said in ((one, "Synthesizing"), (two, "In the queue")):
            expect(visit.page.locator(".dnd-chip-device")).to_have_text("CPU · Ready")
            visit.drop([write("a.txt", LINES)], "SQL")
            visit.ready("a.txt")
            visit.page.locator("#dnd-synthesize").click()
            expect(visit.page.locator(".dnd-chip-device")).to_have_text(f"CPU · {said}")
        queue = two.page.locator("#dnd-stages li.is-running")
        # A page that another test closed while its run was queued counts for a while.
        expect(queue).to_contain_text(re.compile(r"[1-9] ahead of you"))
        waited = queue.inner_text()
        two.until(lambda: queue.inner_text() != waited)
        two.shot("queue")
    for visit in (one, two):
        expect(visit.page.locator("#dnd-adapter")).to_contain_text("3 prompts")
        expect(visit.page.locator(".dnd-chip-device")).to_have_text("CPU · Ready")


def test_gradio_runs_no_clock_of_its_own(
    visit: Visit, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = threading.Event()
    compare = engine.compare

    def slow(*args: Any, **more: Any) -> Any:
        looked.wait(600)
        return compare(*args, **more)

    monkeypatch.setattr(engine, "compare", slow)
    try:
        visit.ask("Hi")
        expect(visit.page.locator("#dnd-send")).to_be_hidden()  # it runs
        clocks = visit.page.locator(".progress-text").count()
    finally:
        looked.set()
    assert clocks == 0


def test_two_visitors_never_see_each_other(visits: Visits, write: Write) -> None:
    one, two = visits(), visits()
    one.drop([write("same.txt", LINES)], "SQL")
    two.drop([write("same.txt", LINES)], "Legal")
    two.drop([write("mine.txt", "private\nwords\n")], "Legal")
    one.ready("same.txt")
    two.ready("same.txt")
    two.ready("mine.txt")
    expect(one.bucket("Legal")).to_have_count(0)
    one.page.locator("#dnd-synthesize").click()
    two.page.locator("#dnd-synthesize").click()
    for visit, facts in ((one, "3 prompts from 1 file"), (two, "5 prompts from 2 files")):
        expect(visit.page.locator("#dnd-adapter")).to_contain_text(facts)
    one.ask("from one")
    two.ask("from two")
    hashes = []
    for visit, words, other in ((one, "from one", "from two"), (two, "from two", "from one")):
        visit.idle()
        expect(visit.answer("right")).to_contain_text(f"asked {words}")
        expect(visit.page.locator("#dnd-pane-right")).not_to_contain_text(other)
        hashes.append(visit.page.locator("#dnd-adapter code").inner_text())
        expect(visit.answer("right")).to_contain_text(hashes[-1])
    assert hashes[0] != hashes[1]


LINES = "one\ntwo\nthree\n"


def test_the_page_is_usable_while_the_engine_loads(
    visits: Visits, serve: Serve, write: Write
) -> None:
    load = Loading()
    visit = visits(serve(EngineHandle(load)))
    expect(visit.page.locator("#dnd-load")).to_contain_text("Downloading the base model")
    visit.shot("loading")
    visit.drop([write("a.txt", LINES)], "SQL")
    visit.ready("a.txt")
    visit.page.locator("#dnd-synthesize").click()
    expect(visit.page.locator("#dnd-stages li.is-running")).to_contain_text("Download")
    visit.shot("loading-synthesizing")
    load.fetched.set()
    expect(visit.page.locator("#dnd-adapter")).to_contain_text("3 prompts")
    expect(visit.page.locator("#dnd-load")).to_be_hidden()
    expect(visit.page.locator("#dnd-header")).to_contain_text("CPU · Ready")
    expect(visit.page.locator("#dnd-checks")).to_contain_text("Changes the model")


def test_a_page_that_nobody_uses_draws_nothing(visit: Visit, write: Write) -> None:
    # Of the browser's own frames, so before the page's first script.
    visit.page.add_init_script("""(() => {
        const ask = window.requestAnimationFrame;
        window.testFrames = 0;
        window.requestAnimationFrame = (draw) => { window.testFrames += 1; return ask(draw); };
    })()""")
    visit.reload()
    visit.drop([write("a.txt", LINES)], "SQL")
    visit.ready("a.txt")
    visit.synthesize()
    visit.ask("Hello?")
    visit.idle()
    assert visit.page.evaluate("window.testFrames") > 0
    visit.until_still(lambda: int(visit.page.evaluate("window.testFrames")), 1)


def test_a_failed_load_says_why_and_can_be_tried_again(visits: Visits, serve: Serve) -> None:
    outcomes = [AssetError("The wheel of the base model could not be fetched: no network.")]

    def load(on_progress: Callable[..., None]) -> FakeEngine:
        if outcomes:
            raise outcomes.pop()
        return FakeEngine()

    visit = visits(serve(EngineHandle(load)))
    expect(visit.page.locator("#dnd-load")).to_contain_text("no network")
    visit.shot("load-failed")
    visit.page.get_by_role("button", name="Retry").click()
    expect(visit.page.locator("#dnd-header")).to_contain_text("CPU · Ready")
    expect(visit.page.locator("#dnd-load")).to_be_hidden()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_the_report_card_shows_pictures_first_and_every_part_of_the_examination(
    visits: Visits, dark: bool, size: ViewportSize
) -> None:
    visit = visits(dark=dark, size=size)
    visit.page.get_by_role("tab", name="Report card").click()
    report, more = (visit.page.locator(f"#dnd-{half}") for half in ("report", "report-more"))
    expect(report).to_contain_text("How good is this generator on unseen tasks?")
    expect(report.locator(".dnd-forest-mode")).to_have_count(2)
    expect(more.locator(".dnd-verdict-card")).to_have_count(2)
    visit.check_accessible()
    visit.page.evaluate("window.scrollTo(0, 0)")
    visit.shot(f"report-{'dark' if dark else 'light'}-{size['width']}")
    visit.page.get_by_label("New operations", exact=True).check()
    expect(report).to_contain_text("New operations")
    expect(more.locator(".dnd-failures")).to_have_count(0)
    visit.page.get_by_label("Loss").check()
    expect(report).to_contain_text("in nats per token")
    visit.page.get_by_label("Seen tasks, new items", exact=True).check()
    expect(report).to_contain_text("tasks it was trained on")
    visit.page.locator("#dnd-report-all").get_by_text("All numbers").click()
    expect(visit.page.locator("#dnd-report-card")).to_contain_text("A generator of no models")


def test_the_report_card_waits_for_the_engine(visits: Visits, serve: Serve) -> None:
    load = Loading()
    visit = visits(serve(EngineHandle(load)))
    visit.page.get_by_role("tab", name="Report card").click()
    expect(visit.page.locator("#dnd-report-card")).to_contain_text("Not loaded yet")
    load.fetched.set()


def test_a_generator_without_reports_shows_its_card(visits: Visits, serve: Serve) -> None:
    engine = FakeEngine()
    engine.reports = {}
    visit = visits(serve(handle_of(engine)))
    expect(visit.page.locator("#dnd-header")).to_contain_text("CPU · Ready")
    visit.page.get_by_role("tab", name="Report card").click()
    expect(visit.page.locator("#dnd-report-card")).to_contain_text("A generator of no models")
    expect(visit.page.locator("#dnd-report-card")).to_be_visible()
    visit.shot("report-card-only")


def test_the_triangles_of_closed_sections_point_right(visit: Visit) -> None:
    turned = "icon => getComputedStyle(icon).transform"
    icon = visit.page.locator("#dnd-sampling .label-wrap .icon")
    # A triangle that points down, turned to the left by a right angle.
    visit.until(lambda: icon.evaluate(turned) == "matrix(0, -1, 1, 0, 0, 0)")
    icon.click()
    visit.until(lambda: icon.evaluate(turned) != "matrix(0, -1, 1, 0, 0, 0)")


def test_motion_stops_for_those_who_ask(visits: Visits) -> None:
    visit = visits(reduced_motion="reduce")
    visit.page.locator("#dnd-example-sql").click()
    card = visit.page.locator(".dnd-card.is-ready").first
    expect(card).to_be_visible()
    assert card.evaluate("node => getComputedStyle(node).animationName") == "none"


def test_files_of_a_visit_go_when_it_is_deleted(visits: Visits, write: Write) -> None:
    from gradio.utils import get_upload_folder

    def folders() -> set[Path]:
        return set(Path(get_upload_folder()).glob("visit-*"))

    before = folders()
    visit = visits()
    visit.drop([write("a.txt", LINES)], "SQL")
    visit.ready("a.txt")
    visit.synthesize()
    # The last of what a synthesis starts; a step of a deleted visit would be refused.
    expect(visit.page.locator("#dnd-checks")).to_contain_text("Changes the model")
    mine = folders() - before
    assert mine
    visit.page.get_by_role("button", name="Delete this visit").click()
    with visit.page.expect_event("load"):  # the page loads again
        visit.page.locator(".dnd-forget-yes").click()
    visit.until(lambda: not folders() & mine)
    visit.forgive_what_broke_off()


def test_many_inputs_are_answered_in_a_table_that_can_be_kept(visit: Visit, write: Write) -> None:
    page = visit.page
    visit.drop([write("a.txt", "Say yes.\n\none\n---\nSay yes.\n\ntwo\n")], "SQL")
    visit.ready("a.txt")
    visit.synthesize()
    expect(page.locator("#dnd-compare-head")).to_contain_text("Base reads the instruction")
    page.locator("#dnd-batch button").first.click()
    visit.enter(page.locator("#dnd-batch-inputs textarea"), "first\nsecond\nthird")
    page.locator("#dnd-batch-start").click()
    table = page.locator("#dnd-batch-table")
    expect(table).to_contain_text("3 of 3 inputs answered.")
    expect(table.locator("tbody tr")).to_have_count(3)
    assert visit.box(table.locator("table"))["width"] > 0.95 * visit.box(table)["width"]
    with page.expect_download() as download:
        page.locator("#dnd-batch-file").click()
    rows = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert rows[0].startswith("input,")
    visit.shot("batch")
