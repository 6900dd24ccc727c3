"""What one visit and all visits together may hold."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from dnd_engine.library import Library
from dnd_engine.limits import FIXED, PromptLimits, ServerLimits
from dnd_engine.prompts.buckets import Bucket
from dnd_engine.prompts.files import from_texts
from tests.ui.conftest import OWNERS_KEY
from tests.ui.fake_adapter import FakeAdapter
from tests.ui.fake_engine import handle_of
from tests.ui.orders import make
from ui.build import build_ui
from ui.canvas import Arrangement, CanvasBucket
from ui.engine_calls import EngineCalls
from ui.engine_handle import EngineHandle
from ui.fields import Textbox
from ui.handlers import Handlers
from ui.owner import Owner
from ui.session_files import SessionFiles
from ui.shared import App
from ui.state import Answer, Made, Session, Turn

Within = Callable[[ServerLimits], Handlers]


@pytest.fixture
def within(handle: EngineHandle, files: SessionFiles, tmp_path: Path) -> Within:
    """Return handlers that keep to some limits."""

    def build(limits: ServerLimits) -> Handlers:
        return Handlers(App(EngineCalls(handle), PromptLimits(), files, tmp_path, server=limits))

    return build


def test_the_bytes_of_a_visit_and_of_all_visits_are_bounded(
    within: Within,
    arrange: Callable[..., Arrangement],
    request_of: Callable[[str], gr.Request],
    files: SessionFiles,
) -> None:
    few = ServerLimits(readings_per_visit_bytes=10_000, readings_bytes=25_000, readings_per_visit=3)
    on = within(few)

    def read(session: Session, visit: str, number: int, size: int) -> str:
        canvas = arrange(A={f"{number}.txt": "x" * size})
        on.prompts.update_prompts(canvas, session, request_of(visit))
        return session.readings[f"A/{number}.txt"].error

    one, two, three = Session(), Session(), Session()
    assert read(one, "1", 1, 6_000) == ""
    assert "removed ones count" in read(one, "1", 2, 6_000), "the first is on the canvas no more"
    assert read(one, "1", 3, 3_000) == ""
    assert "which is the limit" in read(one, "1", 4, 1)
    assert read(two, "2", 1, 7_900) == ""
    assert "other visits" in read(three, "3", 1, 7_900)
    files.remove("1")
    assert read(three, "3", 2, 7_900) == "", "who leaves makes room"


def test_prompts_count_what_they_take_in_memory(
    within: Within,
    arrange: Callable[..., Arrangement],
    request_of: Callable[[str], gr.Request],
    files: SessionFiles,
) -> None:
    """Files of 50 kB had taken 560 MB each, and hundreds of them were allowed."""
    few = ServerLimits(readings_per_visit_bytes=250_000, readings_bytes=450_000)
    on = within(few)
    lines = "\n".join(f"item {number}" for number in range(100))
    text = f"{'Classify this. ' * 100}\n\n{lines}"

    def read(session: Session, visit: str, name: str) -> str:
        on.prompts.update_prompts(arrange(A={name: text}), session, request_of(visit))
        return session.readings[f"A/{name}"].error

    one, two, three = Session(), Session(), Session()
    assert read(one, "1", "a.txt") == ""
    assert files.reading_bytes("1") == one.num_bytes > 150_000
    assert "more than 0 MB of memory, which is the limit" in read(one, "1", "b.txt")
    assert one.readings["A/b.txt"].whole is None
    assert files.reading_bytes("1") - one.num_bytes == len(text), "the refused one is on disk"
    assert read(two, "2", "a.txt") == ""
    assert "other visits" in read(three, "3", "a.txt")
    # Reading a file in another way counts what it takes then.
    (card,) = arrange(A={"a.txt": text}).cards
    laid = Arrangement((CanvasBucket("A", 1.0, (replace(card, split="lines"),)),))
    on.prompts.update_prompts(laid, one, request_of("1"))
    assert files.reading_bytes("1") < 25_000
    one.delete_files()
    two.delete_files()
    assert read(three, "3", "b.txt") == ""


def test_an_adapter_counts_the_prompts_that_it_was_made_from() -> None:
    session = Session(limits=ServerLimits(adapters_per_session_bytes=500_000))
    for number in range(4):
        texts = [f"{number} {place} {'x' * 1_000}" for place in range(200)]
        bucket = Bucket("A", 1.0, (from_texts(texts, name="a"),))
        adapter = FakeAdapter(name="a", sha256=f"{number}", num_prompts=1, num_bytes=1)
        session.take(Made(original=adapter, adapter=adapter, made_from="", buckets=(bucket,)))
    assert [one.key for one in session.shelf] == ["2", "3"]
    assert 400_000 < session.num_bytes < 500_000


def test_files_that_arrive_together_are_counted_one_by_one(
    within: Within,
    arrange: Callable[..., Arrangement],
    request_of: Callable[[str], gr.Request],
    files: SessionFiles,
) -> None:
    few = ServerLimits(readings_per_visit=2)
    on = within(few)
    session, canvas = Session(), arrange(A={f"{n}.txt": "one" for n in range(3)})
    on.prompts.update_prompts(canvas, session, request_of("s"))
    first, second, third = (reading.error for reading in session.readings.values())
    assert first == second == ""
    assert "has read 2 files, which is the limit" in third


def test_only_the_last_zips_and_exports_of_an_adapter_stay(
    on: Handlers,
    arrange: Callable[..., Arrangement],
    request_of: Callable[[str], gr.Request],
    files: SessionFiles,
) -> None:
    session, here = Session(), request_of("s")
    make(on, session, arrange(SQL={"a.txt": "one"}), here)
    first = session.made
    assert first is not None
    links = [first.archive]
    for number in range(1, 12):
        on.adapter.set_strength(session, number / 20)
        on.adapter.prepare_download(session, here)
        # The link of a moment ago may be clicked before the page shows the new one.
        links.append(first.archive)
        assert all(link is not None and link.is_file() for link in links[-2:])
        done = list(on.export.export(session, "gguf", "", True, "", here))[-1]
        assert Path(done["export_file"].value["path"]).is_file()
    for ending in ("zip", "gguf"):
        assert len(list(files.folder("s").rglob(f"*.{ending}"))) == 2
    # Another adapter has files of its own.
    make(on, session, arrange(SQL={"b.txt": "two"}), here)
    assert all(link is not None and link.is_file() for link in links[-2:])
    assert len(list(files.folder("s").rglob("*.zip"))) == 3


def test_files_of_an_adapter_that_the_shelf_dropped_go_after_a_while(
    within: Within, arrange: Callable[..., Arrangement], request_of: Callable[[str], gr.Request]
) -> None:
    few = ServerLimits(adapters_per_session=1)
    on = within(few)
    session, here = Session(limits=few), request_of("s")
    archives = []
    for number in range(3):
        make(on, session, arrange(SQL={f"{number}.txt": str(number)}), here)
        assert session.made is not None
        assert session.made.archive is not None
        archives.append(session.made.archive)
    first, second, third = archives
    assert first.is_file(), "its download may have just begun"
    os.utime(first.parent, (0, 0))
    os.utime(third.parent, (0, 0))
    make(on, session, arrange(SQL={"4.txt": "4"}), here)
    assert [archive.exists() for archive in (first, second, third)] == [False, True, True]


def test_a_zip_that_is_gone_is_written_again(
    on: Handlers, arrange: Callable[..., Arrangement], request_of: Callable[[str], gr.Request]
) -> None:
    session, here = Session(), request_of("s")
    make(on, session, arrange(SQL={"a.txt": "one"}), here)
    assert session.made is not None
    assert session.made.archive is not None
    written = session.made.archive.stat()
    assert on.adapter.prepare_download(session, here)["download"].interactive is True
    assert session.made.archive.stat() == written
    session.made.archive.unlink()
    assert on.adapter.show(session)["download"].interactive is False
    assert on.adapter.prepare_download(session, here)["download"].interactive is True
    assert session.made.archive.is_file()


def test_the_files_of_a_visit_are_bounded_and_the_owners_are_not(
    handle: EngineHandle,
    arrange: Callable[..., Arrangement],
    request_of: Callable[..., gr.Request],
    files: SessionFiles,
    tmp_path: Path,
) -> None:
    few = ServerLimits(files_per_visit_bytes=9_000_000)
    owner = Owner(Library(tmp_path / "library"), OWNERS_KEY)
    app = App(EngineCalls(handle), PromptLimits(), files, tmp_path / "cache", owner, server=few)
    on, home, away = Handlers(app), request_of("home"), request_of("s", cookie="")
    session = on.visit.open(Session(), "en", "", away)["session"]
    make(on, session, arrange(SQL={"a.txt": "one"}), away)
    assert session.made is not None
    on.library.keep(session, "mine", False, away)
    key = on.library.open_library(session, None, away)["library_kept"].value
    full = "would take more than 9.0 MB on disk, which is the limit. Delete adapters in the Library"
    # As large as an adapter of a real base.
    (weights,) = files.folder("s").glob("library/*/*/adapter_model.safetensors")
    weights.write_bytes(bytes(8_000_000))
    assert full in on.library.keep(session, "more", False, away)["keep_told"]
    assert full in on.library.duplicate_kept(session, key, away)["library_told"]
    *_, told = on.library.import_file(session, str(session.made.archive), away)
    assert full in told["library_told"]
    *_, told = on.export.export(session, "gguf", "", True, "", away)
    assert full in told["export_told"]
    on.adapter.set_strength(session, 0.5)
    assert full in on.adapter.prepare_download(session, away)["warning"]
    large = arrange(SQL={"b.txt": "x" * 3_000_000})
    on.prompts.update_prompts(large, session, away)
    assert full in session.readings["SQL/b.txt"].error
    # The way out that the sentence names.
    on.library.delete_kept(session, key, away)
    assert on.adapter.prepare_download(session, away)["download"].interactive is True
    assert "Kept" in on.library.keep(session, "more", False, away)["keep_told"]

    own = on.visit.open(Session(), "en", "", home)["session"]
    make(on, own, arrange(SQL={"a.txt": "one"}), home)
    (files.folder("home") / "large").write_bytes(bytes(10_000_000))
    on.adapter.set_strength(own, 0.5)
    assert on.adapter.prepare_download(own, home)["download"].interactive is True
    assert "Kept" in on.library.keep(own, "mine", False, home)["keep_told"]


def test_a_visit_that_writes_once_counts_for_its_address(
    within: Within, arrange: Callable[..., Arrangement], request_of: Callable[[str], gr.Request]
) -> None:
    """Sizes were taken before each write only, so many visits could fill the disk together."""
    on = within(ServerLimits(files_per_visitor_bytes=7_000))
    errors = []
    for page in "abc":
        here = request_of(page)
        session = on.visit.open(Session(), "en", "", here)["session"]
        on.prompts.update_prompts(arrange(A={"a.txt": "x" * 3_000}), session, here)
        errors.append(session.readings["A/a.txt"].error)
    assert errors[:2] == ["", ""]
    assert "too many files of other visits" in errors[2]


@pytest.mark.slow
def test_stored_texts_count_as_what_they_take_and_not_as_their_files(
    within: Within, arrange: Callable[..., Arrangement], request_of: Callable[[str], gr.Request]
) -> None:
    few = ServerLimits(files_per_visit_bytes=3_000_000)
    on = within(few)
    session, here = Session(), request_of("s")
    # Less than 200 kB as a file, and more than 1 MB in the library.
    text = "\n".join(f"Is {number} odd?" for number in range(9_000))
    make(on, session, arrange(SQL={"a.txt": text}), here)
    assert "more than 3.0 MB on disk" in on.library.keep(session, "mine", True, here)["keep_told"]
    assert "Kept" in on.library.keep(session, "mine", False, here)["keep_told"]


@pytest.mark.slow
def test_every_text_field_keeps_to_its_length_whoever_sends_the_text() -> None:
    """Gradio asks only the browser to, so one client could have had a visit hold gigabytes."""
    demo = build_ui(handle_of(), PromptLimits())
    typed = [block for block in demo.blocks.values() if isinstance(block, gr.Textbox)]
    assert len(typed) > 10
    for field in typed:
        assert isinstance(field, Textbox), field.label
        assert field.max_length is not None
        assert field.preprocess("x" * field.max_length) == "x" * field.max_length
        with pytest.raises(gr.Error, match="Expected a text of at most"):
            field.preprocess("x" * (field.max_length + 1))
    assert Textbox(render=False).max_length == FIXED.max_line_chars
    assert Textbox(render=False).preprocess(None) == "", "a program may send none"


def test_a_conversation_has_so_many_questions_and_the_last_can_still_be_edited(
    within: Within,
) -> None:
    on = within(ServerLimits())
    turns = [Turn(f"{number}?", Answer("base")) for number in range(FIXED.max_turns)]
    session = Session(turns=turns)
    with pytest.raises(gr.Error, match="200 questions, which is the limit"):
        on.compare.ask("One more?", "written", session)
    on.compare.edit(session, "")
    assert "send" in on.compare.ask("Another?", "written", session)
    assert [turn.question for turn in session.turns[-2:]] == ["198?", "Another?"]
    on.compare.clear_chat(session)
    assert "send" in on.compare.ask("One more?", "written", session)


def test_the_browser_draws_a_bounded_text_field_as_gradios_own() -> None:
    given: dict[str, Any] = {
        "lines": 1,
        "max_lines": 6,
        "label": "Ask",
        "placeholder": "?",
        "max_length": 7,
    }
    assert Textbox("v", **given).get_config() == gr.Textbox("v", **given).get_config()
