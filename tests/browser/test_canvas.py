"""The canvas in a real browser: files from the desktop, cards, buckets, and all that is bad."""

import pytest
from playwright.sync_api import Route, expect

from tests.browser.conftest import PHONE, Visit, Visits, has_class
from tests.conftest import Write

pytestmark = pytest.mark.browser

LINES = "one\ntwo\nthree\n"


def test_files_from_the_desktop_land_in_the_bucket_they_are_dropped_on(
    visit: Visit, write: Write
) -> None:
    visit.drop([write("a.txt", LINES), write("b.csv", "question,label\nq1,x\nq2,y\n")], "Legal")
    visit.ready("a.txt")
    expect(visit.ready("b.csv")).to_contain_text("2 prompts")
    visit.has("Legal", "a.txt", "b.csv")
    expect(visit.bucket("Legal").locator(".dnd-count")).to_have_text("2 files, 5 prompts")
    expect(visit.card("b.csv")).to_contain_text("Label column label left out")
    expect(visit.page.locator("#dnd-hint")).to_have_text("2 files, 5 prompts")
    visit.shot("canvas-dropped")


def test_the_first_file_makes_and_names_the_bucket(visit: Visit, write: Write) -> None:
    zone = visit.page.get_by_role("button", name="Drop prompt files here, or click to choose")
    expect(zone).to_contain_text("Answer yes or no.")
    expect(visit.page.locator(".dnd-bucket")).to_have_count(0)
    visit.page.locator("#dnd-advanced").get_by_text("Advanced").click()
    expect(visit.page.locator("#dnd-imprint")).to_be_visible()
    expect(visit.page.locator("#dnd-mix")).to_be_hidden()
    visit.shot("canvas-empty")
    visit.drop_on(zone, [write("disk_errors-2024.txt", LINES)], visit.page.locator(".dnd-canvas"))
    visit.ready("disk_errors-2024.txt")
    visit.has("disk errors 2024", "disk_errors-2024.txt")
    expect(zone).to_be_hidden()
    expect(visit.page.locator(".dnd-weight")).to_be_hidden()
    expect(visit.page.locator("#dnd-mix")).to_be_hidden()
    visit.drop([write("b.txt", LINES)], "Legal")
    visit.ready("b.txt")
    expect(visit.page.locator("#dnd-mix")).to_be_visible()
    for name in ("disk errors 2024", "Legal"):
        expect(visit.bucket(name).locator(".dnd-weight")).to_be_visible()


def test_the_first_file_that_can_be_used_names_the_bucket(visit: Visit, write: Write) -> None:
    table = "ticket\nMy screen is black.\nI forgot it.\n"
    mail = "From: Ann\nTo: Bob\nSubject: Lunch\n\nShall we?\n"
    files = [write("old.doc", "?"), write("empty.txt", ""), write("mail.txt", mail)]
    files.append(write("tickets.csv", table))
    visit.drop_on(visit.page.locator(".dnd-zone"), files, visit.page.locator(".dnd-canvas"))
    expect(visit.page.locator(".dnd-live")).to_contain_text("1 file added to tickets.")
    visit.has("tickets", "empty.txt", "mail.txt", "tickets.csv")
    # That name stays, whatever comes and goes.
    visit.drop([write("more.txt", LINES)], "tickets")
    visit.ready("more.txt")
    visit.card("tickets.csv").get_by_role("button", name="Remove tickets.csv").click()
    visit.has("tickets", "empty.txt", "mail.txt", "more.txt")


@pytest.mark.parametrize("named", ["", "Mine"])
def test_a_later_file_names_the_bucket_of_a_broken_one_unless_somebody_has(
    visit: Visit, write: Write, named: str
) -> None:
    zone = visit.page.locator(".dnd-zone")
    visit.drop_on(zone, [write("a.txt", "")], visit.page.locator(".dnd-canvas"))
    expect(visit.card("a.txt")).to_have_class(has_class("is-error"))
    if named:
        visit.rename(visit.page.locator(".dnd-title"), named)
    visit.drop_on(visit.page.locator(".dnd-bucket"), [write("b.txt", LINES)])
    visit.ready("b.txt")
    visit.has(named or "b", "a.txt", "b.txt")


def test_the_bucket_of_a_file_goes_with_its_last_file(visit: Visit, write: Write) -> None:
    zone = visit.page.locator(".dnd-zone")
    visit.drop_on(zone, [write("a.txt", LINES)], visit.page.locator(".dnd-canvas"))
    visit.ready("a.txt").get_by_role("button", name="Remove a.txt").click()
    expect(zone).to_be_visible()
    visit.page.get_by_role("button", name="Undo").click()
    expect(visit.card("a.txt", within="a")).to_be_visible()


def test_the_empty_zone_is_used_with_the_keyboard(visit: Visit, write: Write) -> None:
    zone = visit.page.locator(".dnd-zone")
    with visit.page.expect_file_chooser() as chooser:
        zone.press(
            "Enter"
        )  # focuses it at once before: a page that still loads takes the focus away
    chooser.value.set_files(write("a.txt", LINES))
    visit.ready("a.txt")


@pytest.mark.parametrize("place", ["#dnd-box textarea", "footer", ".dnd-strip", "#dnd-show-me"])
def test_a_file_dropped_anywhere_lands_in_the_bucket_in_use(
    visit: Visit, write: Write, place: str
) -> None:
    if place == "#dnd-show-me":
        mark = visit.page.locator(".dnd-canvas")
    else:
        visit.drop([write("a.txt", LINES)], "SQL")
        visit.drop([write("b.txt", LINES)], "Legal")
        visit.ready("b.txt")
        mark = visit.bucket("Legal")
    if place == ".dnd-strip":
        visit.synthesize()
        mark = visit.page.locator(".dnd-canvas")
    visit.drop_on(visit.page.locator(place).first, [write("late.txt", LINES)], mark)
    visit.ready("late.txt")
    bucket = "late" if place == "#dnd-show-me" else "Legal"
    expect(visit.card("late.txt", within=bucket)).to_be_visible()
    expect(visit.card("late.txt")).to_be_visible()


def test_what_became_of_a_file_dropped_below_the_canvas_is_scrolled_to(
    visits: Visits, write: Write
) -> None:
    visit = visits(size={"width": 1440, "height": 600})
    visit.add_first(write("a.txt", LINES))
    visit.synthesize()
    visit.drop_on(
        visit.page.locator("footer").first,
        [write("late.txt", LINES)],
        visit.page.locator(".dnd-canvas"),
    )
    expect(visit.ready("late.txt")).to_be_in_viewport(ratio=0.9)
    visit.page.locator(".dnd-footer").scroll_into_view_if_needed()
    expect(visit.card("late.txt")).not_to_be_in_viewport()
    photo = write("photo.png", "no prompts")
    visit.drop_on(visit.page.locator("footer").first, [photo], visit.bucket("a"))
    expect(visit.page.locator(".dnd-errors")).to_be_in_viewport(ratio=0.9)


def test_a_file_dropped_on_another_tab_opens_the_workbench(visit: Visit, write: Write) -> None:
    visit.page.get_by_role("tab", name="Report card").click()
    expect(visit.page.locator(".dnd-zone")).to_be_hidden()
    visit.drop_on(
        visit.page.get_by_role("tab", name="Report card"),
        [write("a.txt", LINES)],
        visit.page.locator(".dnd-canvas"),
    )
    expect(visit.ready("a.txt")).to_be_visible()


def test_files_of_several_tasks_are_given_buckets_of_their_own(visit: Visit, write: Write) -> None:
    asks = ["Translate it", "Name the animal", "Count the words"]
    files = [
        write(f"{n}.txt", f"{ask}.\n\none\n---\n{ask}.\n\ntwo\n") for n, ask in enumerate(asks)
    ]
    visit.drop(files, 'My "own"')
    way = visit.page.get_by_role("button", name="give each file its own bucket")
    way.click()
    visit.has('My "own"', "0.txt")
    visit.has("1", "1.txt")
    visit.has("2", "2.txt")
    expect(visit.page.locator(".dnd-forecast-of")).to_have_count(3)
    visit.page.get_by_role("button", name="Undo").click()
    visit.has('My "own"', "0.txt", "1.txt", "2.txt")
    expect(visit.page.locator(".dnd-bucket")).to_have_count(1)


def test_browse_files_adds_to_the_bucket_in_use(visit: Visit, write: Write) -> None:
    visit.add_first(write("first.txt", LINES))
    visit.add_bucket("SQL")
    with visit.page.expect_file_chooser() as chooser:
        visit.page.get_by_role("button", name="Browse files").click()
    chooser.value.set_files(write("a.txt", LINES))
    visit.ready("a.txt")
    visit.has("SQL", "a.txt")


def test_pasted_prompts_become_a_card(visit: Visit) -> None:
    visit.page.get_by_role("button", name="Paste prompts").click()
    expect(visit.page.locator(".dnd-paste-bucket")).to_be_hidden()
    visit.page.locator(".dnd-pasteboard textarea").fill("first\nsecond")
    visit.page.get_by_role("button", name="Add prompts").click()
    expect(visit.ready("pasted-1.txt")).to_contain_text("2 prompts")
    visit.has("My prompts", "pasted-1.txt")
    visit.add_bucket("Tone of voice")
    visit.page.get_by_role("button", name="Paste prompts").click()
    visit.page.locator(".dnd-pasteboard textarea").fill("third")
    visit.page.get_by_role("button", name="Add prompts").click()
    visit.ready("pasted-2.txt")
    visit.has("Tone of voice", "pasted-2.txt")
    visit.page.get_by_role("button", name="Paste prompts").click()
    visit.page.locator(".dnd-pasteboard textarea").fill("fourth")
    visit.page.locator(".dnd-paste-bucket").select_option(label="My prompts")
    visit.page.locator(".dnd-pasteboard textarea").press("Control+Enter")
    visit.ready("pasted-3.txt")
    visit.has("My prompts", "pasted-1.txt", "pasted-3.txt")
    # The canvas folds, and what had the focus is hidden.
    expect(visit.page.locator(".dnd-paste")).to_be_focused()
    expect(visit.page.locator("#dnd-synthesize")).to_be_enabled()
    visit.page.keyboard.press("s")
    expect(visit.page.locator(".dnd-edit")).to_be_focused()


_COPY = """([files, text, html]) => {
    const copied = new DataTransfer();
    for (const [name, content] of files) copied.items.add(new File([content], name));
    if (text) copied.setData("text/plain", text);
    if (html) copied.setData("text/html", html);
    window.testCopied = copied;
}"""
_PASTE = """target => target.dispatchEvent(new ClipboardEvent(
    "paste", { clipboardData: window.testCopied, bubbles: true, cancelable: true }
))"""


def copy(visit: Visit, *files: tuple[str, str], text: str = "", html: str = "") -> None:
    """Put something in what `paste` pastes: a page cannot put files in the real clipboard."""
    visit.page.evaluate(_COPY, [files, text, html])


def paste(visit: Visit, at: str = "body") -> None:
    visit.page.locator(at).first.evaluate(_PASTE)


def test_ctrl_v_adds_the_copied_text_unless_it_is_pasted_into_a_field(visits: Visits) -> None:
    visit = visits(permissions=["clipboard-read", "clipboard-write"])
    keyboard, box = visit.page.keyboard, visit.page.locator("#dnd-box textarea")
    visit.page.evaluate("navigator.clipboard.writeText('first\\nsecond')")
    box.press("Control+v")
    expect(box).to_have_value("first\nsecond")
    expect(visit.page.locator(".dnd-card")).to_have_count(0)
    visit.page.locator(".dnd-zone").focus()
    keyboard.press("Control+v")
    expect(visit.ready("pasted-1.txt")).to_contain_text("2 prompts")
    visit.has("My prompts", "pasted-1.txt")
    expect(visit.page.locator(".dnd-live")).to_have_text("1 file added to My prompts.")
    visit.ready("pasted-1.txt").locator(".dnd-preview").click()
    expect(visit.page.get_by_role("dialog", name="pasted-1.txt")).to_be_visible()
    keyboard.press("Control+v")
    keyboard.press("Escape")
    visit.page.get_by_role("tab", name="Library").click()
    keyboard.press("Control+v")
    visit.page.get_by_role("tab", name="Workbench").click()
    keyboard.press("Control+v")
    visit.ready("pasted-2.txt")
    visit.has("My prompts", "pasted-1.txt", "pasted-2.txt")


def test_copied_files_are_added_to_the_bucket_in_use(visit: Visit, write: Write) -> None:
    visit.drop([write("a.txt", LINES)], "SQL")
    visit.add_bucket("Legal")
    # File managers copy names as text beside their files.
    copy(visit, ("b.txt", LINES), ("c.txt", LINES), text="b.txt\nc.txt")
    paste(visit)
    visit.ready("c.txt")
    visit.has("Legal", "b.txt", "c.txt")
    copy(visit, ("photo.png", "no prompts"))
    paste(visit, ".dnd-foot")
    expect(visit.page.locator(".dnd-errors")).to_contain_text("photo.png")


def test_cells_of_a_spreadsheet_are_pasted_as_text_not_as_their_picture(visit: Visit) -> None:
    copy(visit, ("image.png", "a picture"), text="one\ntwo", html="<table></table>")
    paste(visit)
    expect(visit.ready("pasted-1.txt")).to_contain_text("2 prompts")
    expect(visit.page.locator(".dnd-errors")).to_be_hidden()


def test_a_clipboard_without_words_is_refused_as_the_form_refuses_it(visit: Visit) -> None:
    live = visit.page.locator(".dnd-live")
    visit.page.get_by_role("button", name="Paste prompts").click()
    visit.page.get_by_role("button", name="Add prompts").click()
    words = "Write or paste a prompt first."
    expect(live).to_have_text(words)
    live.evaluate("node => { node.textContent = ''; }")
    copy(visit, text=" \n")
    paste(visit)
    expect(live).to_have_text(words)
    expect(visit.page.locator(".dnd-card")).to_have_count(0)


def test_pasting_unfolds_the_canvas_and_the_mouse_wheel_pastes_nothing(
    visit: Visit, write: Write
) -> None:
    visit.add_first(write("a.txt", LINES))
    visit.synthesize()
    expect(visit.page.locator(".dnd-strip")).to_be_visible()
    copy(visit, text="one\ntwo")
    visit.page.locator(".dnd-strip-text").click(button="middle")
    paste(visit)
    expect(visit.page.locator(".dnd-strip")).to_be_visible()
    visit.page.keyboard.press("Control")
    paste(visit)
    expect(visit.ready("pasted-1.txt")).to_be_visible()
    visit.has("a", "a.txt", "pasted-1.txt")


def test_escape_closes_the_pasteboard_and_keeps_its_text(visit: Visit) -> None:
    paste = visit.page.get_by_role("button", name="Paste prompts")
    paste.click()
    text = visit.page.locator(".dnd-pasteboard textarea")
    text.fill("first\nsecond")
    text.press("Escape")
    expect(text).to_be_hidden()
    expect(paste).to_be_focused()
    paste.press("Enter")
    expect(text).to_have_value("first\nsecond")
    expect(text).to_be_focused()


@pytest.mark.parametrize("hold_ms", [0, 300])
def test_a_card_is_dragged_with_the_mouse(visit: Visit, write: Write, hold_ms: int) -> None:
    visit.drop([write("a.txt", LINES)], "SQL")
    visit.add_bucket("Legal")
    card = visit.ready("a.txt")
    start = visit.box(card.locator(".dnd-name"))
    end = visit.box(visit.bucket("Legal").locator(".dnd-list"))
    mouse = visit.page.mouse
    mouse.move(start["x"] + 10, start["y"] + 5)
    mouse.down()
    mouse.move(start["x"] + 30, start["y"] + 15, steps=4)
    mouse.move(end["x"] + end["width"] / 2, end["y"] + 40, steps=14)
    if hold_ms:
        expect(visit.bucket("Legal")).to_have_class(has_class("is-target"))
        visit.shot("canvas-dragging", full=False)
        visit.page.wait_for_timeout(hold_ms)
    mouse.up()
    expect(visit.card("a.txt", within="Legal")).to_be_visible()
    visit.has("SQL")
    expect(visit.bucket("Legal").locator(".dnd-count")).to_have_text("1 file, 3 prompts")


def test_a_card_is_dragged_with_a_finger(visits: Visits, write: Write) -> None:
    visit = visits(size=PHONE, has_touch=True, is_mobile=True)
    visit.drop([write("a.txt", LINES)], "SQL")
    visit.add_bucket("Legal")
    card = visit.ready("a.txt")
    card.evaluate("node => window.scrollBy(0, node.getBoundingClientRect().top - 100)")
    box = visit.box(card.locator(".dnd-name"))
    x, y = box["x"] + 20, box["y"] + 8
    session = visit.page.context.new_cdp_session(visit.page)

    def touch(kind: str, points: list[dict[str, float]]) -> None:
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", [{"x": x, "y": y}])
    expect(card).to_have_class(has_class("sortable-chosen"))  # held for long enough
    target = visit.box(visit.bucket("Legal").locator(".dnd-list"))
    end_y = min(target["y"] + 30, PHONE["height"] - 110)
    for step in range(1, 16):
        touch("touchMove", [{"x": x, "y": y + (end_y - y) * step / 15}])
        visit.page.wait_for_timeout(16)
    # The page looks every 50 ms where the finger is.
    expect(visit.bucket("Legal")).to_have_class(has_class("is-target"))
    touch("touchEnd", [])
    expect(visit.card("a.txt", within="Legal")).to_be_visible()


def test_a_card_is_moved_and_removed_with_the_keyboard(visit: Visit, write: Write) -> None:
    visit.drop([write("a.txt", LINES)], "SQL")
    visit.add_bucket("Legal")
    visit.drop([write("b.txt", LINES)], "SQL")
    visit.ready("a.txt")
    visit.ready("b.txt").focus()
    visit.page.keyboard.press("ArrowUp")
    visit.has("SQL", "b.txt", "a.txt")
    expect(visit.card("b.txt")).to_be_focused()
    visit.page.keyboard.press("ArrowRight")
    visit.has("Legal", "b.txt")
    expect(visit.card("b.txt")).to_be_focused()
    expect(visit.page.locator(".dnd-live")).to_have_text("b.txt moved to Legal.")
    visit.page.keyboard.press("Delete")
    visit.has("Legal")
    expect(visit.page.locator(".dnd-undo")).to_be_focused()
    visit.page.keyboard.press("Enter")
    expect(visit.card("b.txt", within="Legal")).to_contain_text("3 prompts")


def test_a_card_is_moved_with_its_select(visit: Visit, write: Write) -> None:
    visit.drop([write("a.txt", LINES)], "SQL")
    visit.add_bucket("Tone of voice")
    visit.ready("a.txt").locator(".dnd-where").select_option(label="Tone of voice")
    visit.has("Tone of voice", "a.txt")


def test_a_name_that_another_bucket_has_is_refused_where_one_sees_it(
    visit: Visit, write: Write
) -> None:
    visit.drop([write("a.txt", LINES)], "SQL")
    visit.add_bucket("Legal")
    title, refused = visit.page.locator(".dnd-title").last, visit.page.locator(".dnd-refused")
    title.fill("SQL")
    title.press("Enter")
    expect(refused).to_contain_text("There is already a bucket named SQL.")
    expect(refused).to_be_in_viewport()
    expect(title).to_have_value("Legal")


def test_a_refused_name_is_settled_by_another_name_or_a_run(visit: Visit, write: Write) -> None:
    for name in ("SQL", "Legal"):
        visit.drop([write(f"{name}.txt", LINES)], name)
        visit.ready(f"{name}.txt")
    title, refused = visit.page.locator(".dnd-title").last, visit.page.locator(".dnd-refused")

    def refuse() -> None:
        title.fill("")
        title.press("Enter")
        expect(refused).to_have_text("A bucket needs a name.Close")

    refuse()
    title.fill("Films")
    title.press("Enter")
    expect(refused).to_be_hidden()
    refuse()
    visit.synthesize()
    expect(refused).to_be_hidden()
    visit.page.get_by_role("button", name="Edit prompts").click()
    refuse()
    visit.page.get_by_role("button", name="Fold away").click()
    visit.page.locator(".dnd-mute").last.click()
    expect(refused).to_be_hidden()


def test_buckets_are_renamed_added_weighted_removed_and_brought_back(
    visit: Visit, write: Write
) -> None:
    visit.drop([write("a.txt", LINES)], "SQL")
    visit.ready("a.txt")
    visit.add_bucket("Legal")
    title = visit.bucket("SQL").locator(".dnd-title")
    title.fill("Analyst")
    title.press("Enter")
    expect(visit.bucket("Analyst").locator(".dnd-card")).to_have_count(1)
    taken = visit.bucket("Legal").locator(".dnd-title")
    taken.fill("Analyst")
    taken.press("Enter")
    expect(taken).to_have_value("Legal")
    visit.page.get_by_role("button", name="Add bucket").click()
    visit.page.keyboard.type("Spare")
    visit.page.keyboard.press("Enter")
    expect(visit.bucket("Spare")).to_be_visible()
    number = visit.bucket("Analyst").locator(".dnd-number")
    number.fill("0")
    number.press("Enter")
    expect(visit.bucket("Analyst")).to_contain_text("Kept, not used.")
    expect(visit.page.locator("#dnd-hint")).to_contain_text("has weight 0")
    number.fill("1.5")
    number.press("Enter")
    expect(visit.bucket("Analyst")).to_contain_text("100 % of the batch")
    visit.page.get_by_role("button", name="Remove bucket Analyst").click()
    expect(visit.bucket("Analyst")).to_have_count(0)
    expect(visit.page.locator("#dnd-synthesize")).to_be_disabled()
    visit.page.get_by_role("button", name="Undo").click()
    expect(visit.card("a.txt", within="Analyst")).to_be_visible()
    expect(visit.bucket("Analyst").locator(".dnd-number")).to_have_value("1.5")
    expect(visit.page.locator("#dnd-synthesize")).to_be_enabled()


def test_a_new_bucket_shows_the_name_that_its_first_file_gives_it(
    visit: Visit, write: Write
) -> None:
    visit.drop([write("a.txt", "one\n")], "SQL")
    visit.page.get_by_role("button", name="Add bucket").click()
    title = visit.page.locator(".dnd-title").last
    expect(title).to_be_focused()
    visit.drop_on(visit.bucket("New bucket"), [write("bills.txt", "two\n")])
    expect(title).to_have_value("bills")


def test_ctrl_z_takes_back_what_was_done_on_the_canvas(visit: Visit, write: Write) -> None:
    keyboard = visit.page.keyboard
    first, other = "SQL", "Legal"
    visit.drop([write("a.txt", LINES)], first)
    visit.ready("a.txt")
    visit.add_bucket(other)
    visit.card("a.txt").get_by_label("Bucket of a.txt").select_option(other)
    expect(visit.card("a.txt", within=other)).to_be_visible()
    visit.card("a.txt").focus()
    keyboard.press("Delete")
    expect(visit.card("a.txt")).to_have_count(0)
    keyboard.press("Control+z")
    expect(visit.card("a.txt", within=other)).to_be_visible()
    keyboard.press("Control+z")
    expect(visit.card("a.txt", within=first)).to_be_visible()
    # A field has an undo of its own.
    visit.page.locator("#dnd-box textarea").fill("typed")
    visit.card("a.txt").focus()
    keyboard.press("Delete")
    visit.page.locator("#dnd-box textarea").focus()
    keyboard.press("Control+z")
    expect(visit.card("a.txt")).to_have_count(0)


def test_the_live_region_says_added_of_files_that_were_read_alone(
    visit: Visit, write: Write
) -> None:
    live = visit.page.locator(".dnd-live")
    visit.add_first(write("first.txt", LINES))
    bucket = "first"
    visit.drop([write("bad.jsonl", '["no"]\n')], bucket)
    expect(live).to_contain_text("bad.jsonl is not used:")
    expect(live).not_to_contain_text("added")
    visit.drop([write("good.txt", LINES)], bucket)
    expect(live).to_have_text(f"1 file added to {bucket}.")


def test_clear_brings_the_empty_zone_back_and_undo_the_files(visit: Visit, write: Write) -> None:
    visit.drop([write("a.txt", LINES)], "SQL")
    visit.ready("a.txt")
    visit.page.locator(".dnd-clear").click()
    expect(visit.page.locator(".dnd-zone")).to_be_visible()
    expect(visit.page.locator("#dnd-hint")).to_have_text("Drop prompt files first.")
    expect(visit.page.locator("#dnd-synthesize")).to_be_disabled()
    visit.page.get_by_role("button", name="Undo").click()
    expect(visit.card("a.txt", within="SQL")).to_be_visible()


def test_examples_loaded_after_clear_are_not_mixed_with_what_undo_would_bring_back(
    visit: Visit, write: Write
) -> None:
    visit.add_first(write("a.txt", LINES))
    visit.page.locator(".dnd-clear").click()
    undo = visit.page.get_by_role("button", name="Undo")
    expect(undo).to_be_visible()
    visit.page.locator("#dnd-example-sql").click()
    expect(visit.page.locator(".dnd-card").first).to_be_visible()
    expect(undo).to_be_hidden()


BAD = {
    "empty.txt": (b"", "empty file"),
    "photo.txt": (b"\x89PNG\r\n" + bytes(200), "PNG image"),
    "binary.txt": (bytes(range(256)), "expected UTF-8"),
    "damaged.txt": ("Größe\n".encode() + b"\xff", "save it as UTF-8"),
    "broken.jsonl": (b'{"prompt": "fine"}\n{"prompt": \n', "Line 2"),
    "list.jsonl": (b'{"prompt": "fine"}\n["no"]\n', "got a list"),
    "numbers.csv": (b"a,b\n1,2\n", "expected a column of text"),
    "blank.txt": (b" \n \n", "white space"),
}


def test_every_bad_file_has_its_own_message_and_nothing_else_is_lost(
    visit: Visit, write: Write
) -> None:
    visit.drop([write("good.txt", LINES)], "Legal")
    visit.ready("good.txt")
    for name, (content, words) in BAD.items():
        visit.drop([write(name, content)], "SQL")
        card = visit.card(name)
        expect(card).to_have_class(has_class("is-error"))
        expect(card.locator(".dnd-fault")).to_contain_text(words, ignore_case=True)
    expect(visit.page.locator(".dnd-card")).not_to_contain_text(["`"])
    visit.drop([write("scan.pdf", b"%PDF-"), write("huge.csv", b"p\n" + b"x" * 50_000_000)], "SQL")
    errors = visit.page.locator(".dnd-errors")
    expect(errors).to_contain_text("2 of 2 files were not added.")
    expect(errors).to_contain_text("PDF is not a prompt file.")
    expect(errors).to_contain_text("50.1 MB; the limit is 5 MB a file.")
    expect(visit.card("good.txt", within="Legal")).to_contain_text("3 prompts")
    expect(visit.page.locator("#dnd-hint")).to_have_text(
        f"1 file, 3 prompts; {len(BAD)} files not used"
    )
    visit.shot("canvas-errors")
    visit.synthesize()
    expect(visit.page.locator("#dnd-adapter")).to_contain_text("3 prompts from 1 file")


def test_names_of_files_and_buckets_are_only_ever_text(visit: Visit, write: Write) -> None:
    names = [
        "${window.pwned=1}.txt",
        "`{{constructor}}`.txt",
        "<img src=x onerror=window.pwned=1>.txt",
        "<script>window.pwned=1<.txt",
        "..%2f..%2fetc%2fpasswd.txt",
    ]
    visit.drop([write(name, f"{name}\nsecond\n") for name in names], "SQL")
    for name in names:
        expect(visit.card(name)).to_have_class(has_class("is-ready"))
    visit.add_bucket("Legal")
    title = visit.bucket("Legal").locator(".dnd-title")
    title.fill("<b onmouseover=window.pwned=1>${window.pwned=1}")
    title.press("Enter")
    visit.page.locator(".dnd-card").first.locator(".dnd-where").select_option(index=1)
    visit.synthesize()
    visit.ask("<img src=x onerror=window.pwned=1> ${window.pwned=1}")
    visit.idle()
    expect(visit.page.locator("#dnd-pane-left .dnd-asked")).to_contain_text("<img src=x")
    assert visit.page.evaluate("window.pwned") is None
    assert visit.page.locator("#dnd-tabs img[src=x]").count() == 0
    visit.shot("canvas-hostile-names")


def test_another_way_of_splitting_is_tried_on_request(visit: Visit, write: Write) -> None:
    visit.drop([write("poem.txt", "a\nb\n\nc\nd\n")], "SQL")
    card = visit.ready("poem.txt")
    expect(card).to_contain_text("2 prompts")
    card.locator(".dnd-split").select_option("lines")
    expect(visit.card("poem.txt")).to_contain_text("4 prompts")
    expect(visit.page.locator("#dnd-hint")).to_have_text("1 file, 4 prompts")


def test_one_long_prompt_asks_whether_to_split(visit: Visit, write: Write) -> None:
    visit.drop([write("tone.md", "---\nOur tone is warm\nbrief\nnever loud\n")], "SQL")
    card = visit.ready("tone.md")
    expect(card).to_contain_text("Read as one long prompt.")
    card.get_by_role("button", name="Split by line: tone.md").click()
    expect(visit.card("tone.md")).not_to_contain_text("Read as one long prompt.")
    expect(visit.card("tone.md")).not_to_contain_text("1 prompt ")


def test_forty_files_at_once_are_all_read(visit: Visit, write: Write) -> None:
    visit.drop([write(f"f{number}.txt", f"prompt {number}\n") for number in range(40)], "SQL")
    expect(visit.page.locator("#dnd-hint")).to_have_text("40 files, 40 prompts")
    expect(visit.page.locator(".dnd-card.is-ready")).to_have_count(40)


def test_examples_are_ordinary_cards(visit: Visit) -> None:
    visit.page.locator("#dnd-example-sql").click()
    expect(visit.bucket("SQL").locator(".dnd-card.is-ready")).to_have_count(2)
    visit.page.locator("#dnd-example-sql").click()
    visit.page.locator("#dnd-example-all").click()
    expect(visit.page.locator("#dnd-hint")).to_have_text("7 files, 78 prompts")
    weights = [visit.bucket(name).locator(".dnd-number") for name in ("SQL", "Legal")]
    expect(weights[0]).to_have_value("1.0")
    expect(weights[1]).to_have_value("0.7")
    visit.card("replies.txt").locator(".dnd-where").select_option(label="SQL")
    expect(visit.card("replies.txt", within="SQL")).to_be_visible()
    visit.shot("canvas-examples")


# The prompts of a file


def test_a_card_opens_its_prompts_which_are_searched_and_removed(
    visit: Visit, write: Write
) -> None:
    text = "\n---\n".join(f"Name the colour.\n\nthing number {n}" for n in range(1, 61))
    visit.drop([write("things.txt", text)], "SQL")
    visit.ready("things.txt").locator(".dnd-preview").click()
    dialog = visit.page.get_by_role("dialog", name="things.txt")
    items = dialog.locator(".dnd-look-list li")
    expect(items).to_have_count(50)
    expect(items.first.locator(".dnd-look-instruction")).to_have_text("Name the colour.")
    expect(items.first.locator(".dnd-look-input")).to_have_text("thing number 1")
    dialog.get_by_role("button", name="Show more").click()
    expect(items).to_have_count(60)
    dialog.get_by_label("Search").fill("number 42")
    expect(items).to_have_count(1)
    expect(dialog.get_by_role("status")).to_have_text("1 of 60 prompts found")
    dialog.get_by_role("button", name="Remove prompt 42").click()
    expect(dialog.get_by_role("button", name="Bring back prompt 42")).to_be_focused()
    expect(visit.page.locator("#dnd-hint")).to_have_text("1 file, 59 prompts")
    visit.shot("canvas-prompts", full=False)
    visit.check_accessible()
    dialog.get_by_role("button", name="Bring back prompt 42").click()
    expect(visit.page.locator("#dnd-hint")).to_have_text("1 file, 60 prompts")
    visit.page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(visit.card("things.txt")).to_be_focused()
    visit.page.keyboard.press("Enter")
    expect(dialog).to_be_visible()


def test_ctrl_z_brings_a_removed_prompt_back_in_the_dialog_and_after_it(
    visit: Visit, write: Write
) -> None:
    hint, keyboard = visit.page.locator("#dnd-hint"), visit.page.keyboard
    visit.drop([write("a.txt", LINES), write("b.txt", "four\nfive\n")], "SQL")
    visit.card("b.txt").get_by_role("button", name="Remove b.txt").click()
    visit.ready("a.txt").locator(".dnd-preview").click()
    dialog = visit.page.get_by_role("dialog", name="a.txt")
    remove = dialog.get_by_role("button", name="Remove prompt")
    expect(remove).to_have_count(3)
    # What the dialog hides stays as it is.
    keyboard.press("Control+z")
    for number in (1, 2, 3):
        dialog.get_by_role("button", name=f"Remove prompt {number}").click()
        expect(dialog.get_by_role("button", name=f"Bring back prompt {number}")).to_be_focused()
    keyboard.press("Control+z")
    expect(dialog.get_by_role("button", name="Remove prompt 3")).to_be_focused()
    # What its button brought back is not brought back once more.
    dialog.get_by_role("button", name="Bring back prompt 2").click()
    expect(remove).to_have_count(2)
    expect(hint).to_have_text("1 file, 2 prompts")
    keyboard.press("Escape")
    expect(visit.page.locator(".dnd-toast")).to_contain_text("Prompt 1 of a.txt removed.")
    keyboard.press("Control+z")
    expect(hint).to_have_text("1 file, 3 prompts")
    keyboard.press("Control+z")
    expect(hint).to_have_text("2 files, 5 prompts")


def test_prompts_removed_before_a_file_was_split_again_are_not_brought_back(
    visit: Visit, write: Write
) -> None:
    visit.drop([write("poem.txt", "a\nb\n\nc\nd\n")], "SQL")
    visit.ready("poem.txt").locator(".dnd-preview").click()
    dialog = visit.page.get_by_role("dialog", name="poem.txt")
    dialog.get_by_role("button", name="Remove prompt 1").click()
    expect(visit.page.locator("#dnd-hint")).to_have_text("1 file, 1 prompt")
    visit.page.keyboard.press("Escape")
    toast = visit.page.locator(".dnd-toast")
    expect(toast).to_contain_text("Prompt 1 of poem.txt removed.")
    visit.card("poem.txt").locator(".dnd-split").select_option("lines")
    expect(visit.ready("poem.txt")).to_contain_text("4 prompts")
    expect(toast).not_to_contain_text("Prompt 1")


def test_columns_are_chosen_beside_their_first_rows(visit: Visit, write: Write) -> None:
    rows = "id,ticket,team,ask\n1,My screen is black.,hardware,Name the team.\n"
    visit.drop([write("t.csv", rows + "2,I forgot my word.,accounts,Name the team.\n")], "SQL")
    visit.ready("t.csv").get_by_role("button", name="See prompts and columns: t.csv").click()
    dialog = visit.page.get_by_role("dialog", name="t.csv")
    expect(dialog.get_by_label("Prompt or input")).to_have_value("ticket")
    expect(dialog.locator("td").first).to_have_text("My screen is black.")
    dialog.get_by_label("Instruction").focus()
    dialog.get_by_label("Instruction").select_option("ask")
    expect(dialog.locator(".dnd-look-instruction").first).to_have_text("Name the team.")
    expect(dialog.get_by_label("Instruction")).to_be_focused()
    dialog.get_by_label("Label").select_option("team")
    expect(dialog.locator(".dnd-look-list li").first).to_contain_text("Label: hardware")
    # What is used is seen on a phone, too, which has no room for all.
    expect(dialog.locator("th").last).to_have_text("id")
    # Where other columns are tried, what was removed is still removed afterwards.
    dialog.get_by_role("button", name="Remove prompt 2").click()
    back = dialog.get_by_role("button", name="Bring back prompt 2")
    expect(back).to_be_visible()
    dialog.get_by_label("Label").select_option("id")
    expect(dialog.locator(".dnd-look-list li").first).to_contain_text("Label: 1")
    expect(back).to_have_count(0)
    dialog.get_by_label("Label").select_option("team")
    expect(back).to_be_visible()
    expect(visit.page.locator("#dnd-hint")).to_have_text("1 file, 1 prompt")
    back.click()
    expect(visit.page.locator("#dnd-hint")).to_have_text("1 file, 2 prompts")
    visit.shot("canvas-columns", full=False)
    # Both choices count, though the second one comes before the first is answered.
    dialog.evaluate(
        """dialog => {
          for (const [role, column] of [["instruction", ""], ["label", "id"]]) {
            const menu = dialog.querySelector(`[data-role="${role}"]`);
            menu.value = column;
            menu.dispatchEvent(new Event("change"));
          }
        }"""
    )
    expect(dialog.locator(".dnd-look-list li").first).to_contain_text("Label: 1")
    expect(dialog.locator(".dnd-look-instruction")).to_have_count(0)
    dialog.get_by_label("Instruction").select_option("ask")
    dialog.get_by_role("button", name="Close the prompts").click()
    expect(visit.card("t.csv")).to_contain_text("below the instruction in ask, as chosen")


def test_a_file_that_could_not_be_used_still_opens(visit: Visit, write: Write) -> None:
    """Else columns could not be chosen, nor prompts brought back."""
    visit.drop([write("t.csv", "label,answer\nyes,A dog.\nno,A cat.\n")], "SQL")
    card = visit.card("t.csv")
    expect(card).to_contain_text("expected a column of text", ignore_case=True)
    card.get_by_role("button", name="See prompts and columns: t.csv").click()
    dialog = visit.page.get_by_role("dialog", name="t.csv")
    dialog.get_by_label("Prompt or input").select_option("answer")
    items = dialog.locator(".dnd-look-list li")
    expect(items).to_have_count(2)
    for number in (1, 2):
        dialog.get_by_role("button", name=f"Remove prompt {number}").click()
    expect(dialog.locator(".dnd-look-fault")).to_contain_text("Bring some back")
    dialog.get_by_role("button", name="Close the prompts").click()
    card.get_by_role("button", name="See prompts and columns: t.csv").click()
    dialog.get_by_role("button", name="Bring back prompt 1").click()
    expect(visit.page.locator("#dnd-hint")).to_have_text("1 file, 1 prompt")


def test_a_text_that_is_hardly_prompts_waits_until_somebody_says_so(
    visit: Visit, write: Write
) -> None:
    mail = "From: Ann\nTo: Bob\nSubject: Lunch\n\nShall we?\n\nAnn"
    zone = visit.page.locator(".dnd-zone")
    visit.drop_on(zone, [write("lunch.txt", mail)], visit.page.locator(".dnd-canvas"))
    card = visit.card("lunch.txt")
    expect(card).to_contain_text("This looks like an e-mail, not like a list of prompts.")
    expect(visit.page.locator("#dnd-synthesize")).to_be_disabled()
    hint = visit.page.locator("#dnd-hint")
    expect(hint).to_have_text("1 file waits for your choice on its card.")
    expect(visit.page.locator(".dnd-live")).to_contain_text("lunch.txt is not used")
    card.get_by_role("button", name="Use as prompts: lunch.txt").click()
    visit.ready("lunch.txt")
    expect(hint).to_have_text("1 file, 3 prompts")


def test_the_good_lines_of_a_broken_file_are_used_on_request(visit: Visit, write: Write) -> None:
    lines = '{"prompt": "one"}\n{"prompt": \n{"prompt": "two"}\n'
    visit.drop([write("a.jsonl", lines)], "SQL")
    card = visit.card("a.jsonl")
    card.get_by_role("button", name="Use the 2 good prompts: a.jsonl").click()
    expect(visit.ready("a.jsonl")).to_contain_text("Skipped line 2, which cannot be read.")
    expect(visit.page.locator("#dnd-hint")).to_have_text("1 file, 2 prompts")


def test_equal_faults_of_several_files_are_one_message(visit: Visit, write: Write) -> None:
    scans = [write(f"{n}.pdf", b"%PDF-") for n in range(3)]
    visit.drop_on(visit.page.locator(".dnd-zone"), scans, visit.page.locator(".dnd-canvas"))
    errors = visit.page.locator(".dnd-errors")
    expect(errors.locator("li")).to_have_count(1)
    expect(errors).to_contain_text("0.pdf, 1.pdf, 2.pdf")
    # It has all the room that there is.
    assert visit.box(errors.locator("li"))["width"] > 0.9 * visit.box(errors)["width"]


def test_files_of_other_kinds_are_one_message_that_lists_the_right_kinds_once(
    visit: Visit, write: Write
) -> None:
    files = [write(name, b"?") for name in ("photo.png", "old.doc", "older.doc", "README")]
    visit.drop_on(visit.page.locator(".dnd-zone"), files, visit.page.locator(".dnd-canvas"))
    [message] = visit.page.locator(".dnd-errors li").all()
    expect(message).to_contain_text("photo.png, old.doc, older.doc, README")
    expect(message).to_contain_text(
        "A name without a suffix, DOC and PNG are not prompt files. Use txt, md,"
    )


def test_a_fault_that_several_files_share_is_said_in_full_once(visit: Visit, write: Write) -> None:
    broken = [write(f"{n}.jsonl", '{"prompt": "fine"}\n{"prompt": \n') for n in range(3)]
    fault, like = "Line 2: expected an object", "The same fault as in 0.jsonl."
    files = [*broken, write("list.jsonl", "[]")]
    visit.drop_on(visit.page.locator(".dnd-zone"), files, visit.page.locator(".dnd-canvas"))
    live = visit.page.locator(".dnd-live")
    expect(live).to_contain_text("3 files are not used: Line 2: expected")
    expect(live).to_contain_text("list.jsonl is not used: Line 1: expected")
    assert live.inner_text().count("Line 2") == 1
    faults = visit.page.locator(".dnd-card .dnd-fault")
    expect(faults).to_have_count(4)
    expect(faults.nth(0)).to_contain_text(fault)
    expect(faults.nth(1)).to_have_text(like)
    expect(faults.nth(2)).to_have_text(like)
    expect(faults.nth(3)).to_contain_text("Line 1: expected an object")
    visit.shot("canvas-equal-faults")
    visit.card("1.jsonl").get_by_role("button", name="Use the 1 good prompt").click()
    visit.ready("1.jsonl")
    # The full message goes on to the next file.
    visit.card("0.jsonl").get_by_role("button", name="Remove 0.jsonl").click()
    expect(visit.card("2.jsonl").locator(".dnd-fault")).to_contain_text(fault)


def test_on_a_phone_the_instruction_is_typed_above_the_button_that_sticks(
    visits: Visits, write: Write
) -> None:
    visit = visits(size=PHONE)
    visit.add_first(write("plain.txt", LINES))
    visit.page.get_by_role("button", name="Type one under Advanced").click()
    box, bar = visit.page.locator("#dnd-instruction textarea"), visit.page.locator("#dnd-go")
    expect(box).to_be_focused()

    def is_above() -> bool:
        typed = visit.box(box)
        return typed["y"] + typed["height"] <= visit.box(bar)["y"]

    visit.until(is_above)


def test_each_bucket_has_a_forecast_before_synthesize(visit: Visit, write: Write) -> None:
    told = "".join(
        f'{{"prompt": "Name the colour.\\n\\nThe {n} is red."}}\n' for n in ("car", "hat")
    )
    forecast = visit.page.locator("#dnd-forecast")
    expect(forecast).to_be_hidden()
    visit.drop([write("plain.txt", LINES)], "SQL")
    visit.ready("plain.txt")
    visit.drop([write("told.jsonl", told)], "Legal")
    visit.ready("told.jsonl")
    lines = forecast.get_by_role("listitem")
    # Prompts without an instruction cannot be asked with it.
    expect(lines.first).to_contain_text("No instruction found.")
    for _ in range(2):  # what is open stays so
        lines.first.get_by_role("button", name="Type one there").click()
        expect(visit.bucket("SQL").locator(".dnd-own")).to_be_focused()
    expect(lines.last).to_contain_text("Given your instruction, the model is sure of its answers.")
    forecast.get_by_text("Why?").click()
    expect(forecast).to_contain_text("a probability of 0.80, the mean of 2 prompts")
    visit.page.get_by_role("link", name="Deutsch").click()
    expect(lines.last).to_contain_text("sicher")
    visit.shot("forecast")
    visit.card("told.jsonl").get_by_role("button", name="told.jsonl entfernen").click()
    expect(lines).to_have_count(1)
    visit.card("plain.txt").get_by_role("button", name="plain.txt entfernen").click()
    expect(forecast).to_be_hidden()


def test_each_of_several_buckets_has_a_field_for_its_instruction(
    visit: Visit, write: Write
) -> None:
    own = visit.page.locator(".dnd-own:visible")
    visit.drop([write("a.txt", LINES)], "Mood")
    visit.ready("a.txt")
    expect(own).to_have_count(0)
    visit.drop([write("told.csv", 'prompt\n"Rhyme.\n\nred"\n')], "Rhyme")
    visit.ready("told.csv")
    expect(own).to_have_count(1)
    field = visit.page.get_by_label("Instruction for the prompts of Mood that have none")
    forecast = visit.page.locator("#dnd-forecast")
    expect(forecast).to_contain_text("No instruction found.")
    field.fill("Name the mood.")  # and never left
    expect(forecast).not_to_contain_text("No instruction found.")
    visit.synthesize()
    visit.revisit()
    visit.page.get_by_role("button", name="Edit prompts").click()
    expect(field).to_have_value("Name the mood.")
    visit.check_accessible()


@pytest.mark.parametrize("arrives", [True, False], ids=["arrives", "fails"])
def test_a_file_removed_while_it_is_uploaded_keeps_nothing_waiting(
    visits: Visits, write: Write, arrives: bool
) -> None:
    visit = visits()
    page = visit.page
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/gradio_api/upload**", hold)
    page.locator(".dnd-picker").set_input_files(write("a.txt", "Say yes.\n\none\n"))
    visit.until(lambda: len(held) == 1)
    page.locator(".dnd-card .dnd-x").first.click()
    if arrives:
        held[0].continue_()
        page.unroute("**/gradio_api/upload**")
        page.locator("#dnd-show-me").click()
        expect(page.locator("#dnd-pane-left .dnd-asked")).to_have_count(1)
    else:
        held[0].abort()
        expect(page.locator(".dnd-errors")).to_be_visible()
        page.locator(".dnd-undo").click()
        expect(page.locator(".dnd-card")).to_have_count(0)
        visit.console.clear()  # the upload that was broken off


def test_a_failed_upload_leaves_nothing_behind_even_under_the_pointer(
    visits: Visits, write: Write
) -> None:
    visit = visits()
    page = visit.page
    held: list[Route] = []
    page.route("**/gradio_api/upload**", lambda route: held.append(route))
    page.locator(".dnd-picker").set_input_files(write("a.txt", "Say yes.\n\none\n"))
    visit.until(lambda: len(held) == 1)
    box = visit.box(page.locator(".dnd-card"))
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 8)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40, steps=5)
    expect(page.locator(".dnd-lifted")).to_have_count(1)
    held[0].abort()
    expect(page.locator(".dnd-errors")).to_be_visible()
    page.mouse.up()
    expect(page.locator(".dnd-card")).to_have_count(0)
    expect(page.locator(".dnd-bucket")).to_have_count(0)
    visit.console.clear()  # the upload that was broken off


def test_text_that_is_dragged_from_another_page_is_added(visit: Visit, write: Write) -> None:
    canvas = visit.page.locator(".dnd-canvas")
    visit.drop_text(canvas, "Say yes.\n\none\n---\nSay yes.\n\ntwo")
    expect(visit.ready("pasted-1.txt")).to_contain_text("2 prompts")
    visit.add_bucket("Two")
    visit.drop_text(visit.bucket("Two"), "Name a colour.\nName a day.")
    visit.ready("pasted-2.txt")
    visit.has("Two", "pasted-2.txt")


def test_the_forecast_acts_on_a_bucket_of_any_name(visit: Visit, write: Write) -> None:
    """A name was cut within its last character, and another one given before it was pressed."""
    files = [
        write(f"{stem}.jsonl", f'{{"prompt": "{instruction}\\n\\nThe car is red."}}\n')
        for stem, instruction in (("a" * 59 + "😀", "Name the colour."), ("b", "Name the thing."))
    ]
    visit.drop_on(visit.page.locator(".dnd-zone"), files, visit.page.locator(".dnd-canvas"))
    expect(visit.page.locator(".dnd-title")).to_have_value("a" * 59)
    apart = visit.page.get_by_role("button", name="give each file its own bucket")
    expect(apart).to_be_visible()
    apart.click()
    expect(visit.page.locator(".dnd-bucket")).to_have_count(2)


def test_an_emptied_weight_stays_what_it_was(visit: Visit, write: Write) -> None:
    visit.drop([write("a.txt", "one\ntwo\n")], "SQL")
    visit.add_bucket("Two")
    weight = visit.bucket("SQL").locator(".dnd-number")
    weight.fill("1.5")
    weight.press("Tab")
    expect(weight).to_have_value("1.5")
    weight.fill("")
    weight.press("Tab")
    expect(weight).to_have_value("1.5")


def test_a_weight_that_is_being_typed_stays_when_a_file_has_been_read(
    visit: Visit, write: Write
) -> None:
    visit.drop([write("a.txt", LINES)], "SQL")
    visit.drop([write("b.txt", LINES)], "Legal")
    visit.ready("b.txt")
    held: list[Route] = []
    visit.page.route("**/gradio_api/upload**", lambda route: held.append(route))
    visit.drop([write("c.txt", LINES)], "SQL")
    visit.until(lambda: len(held) == 1)
    weight = visit.bucket("SQL").locator(".dnd-number")
    weight.select_text()
    weight.press_sequentially("0.5")
    held[0].continue_()
    visit.ready("c.txt")
    expect(weight).to_have_value("0.5")
    weight.press("Tab")
    expect(visit.bucket("SQL").locator(".dnd-share")).to_have_text("33 % of the batch")
    weight.fill("5")
    weight.press("Enter")
    expect(weight).to_have_value("2.0")
