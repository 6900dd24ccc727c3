"""Visits that outlive their page: found by their key alone, taken over, expired, bounded."""

import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import gradio as gr
import pytest
from fastapi import Request

from dnd_engine.errors import NoRoomError
from dnd_engine.library import Library
from dnd_engine.limits import ServerLimits
from dnd_engine.prompts.files import read_prompt_file
from tests.ui.fake_adapter import FakeAdapter
from tests.ui.fake_engine import FakeEngine
from tests.ui.orders import SAMPLING, chat, make
from ui.canvas import Arrangement
from ui.fields import Number, Slider
from ui.handlers import Handlers
from ui.page import by_slot
from ui.session_files import SessionFiles
from ui.shared import Updates
from ui.state import Answer, Batch, CardReading, Found, Kept, Made, Session, Turn
from ui.visits import Visits

RequestOf = Callable[[str], gr.Request]


@dataclass
class Clock:
    """A clock that tests set; it begins at the time that events of a page give their visit."""

    now: float = field(default_factory=time.monotonic)

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def made_of(num_bytes: int, name: str) -> Made:
    """An adapter of some size, as a visit holds it."""
    adapter = FakeAdapter(name=name, sha256=name, num_prompts=1, num_bytes=num_bytes)
    return Made(original=adapter, adapter=adapter, made_from="", buckets=())


def sent_by(page: str, address: str = "", language: str = "en") -> gr.Request:
    """A request with an address and a language, which fixtures have none of."""
    headers = [(b"accept-language", language.encode())]
    sender = {"type": "http", "headers": headers, "query_string": b"", "client": (address, 0)}
    return gr.Request(Request(sender), session_hash=page)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def visits(files: SessionFiles, clock: Clock) -> Visits:
    return Visits(files, ServerLimits(visit_seconds=100, left_visits_bytes=5_000_000), clock)


def begun(visits: Visits, files: SessionFiles, page: str, visitor: str = "") -> Session:
    """Begin a visit with a file."""
    visit, outcome = visits.open("", page, Session(), visitor)
    assert outcome == "new"
    (files.folder(page) / "prompts-0.txt").write_text("one")
    visit.folder = files.folder(page)
    return visit


def test_a_key_finds_its_own_visit_and_no_other(visits: Visits, files: SessionFiles) -> None:
    mine, theirs = begun(visits, files, "a"), begun(visits, files, "b")
    mine.instruction, theirs.instruction = "mine", "theirs"
    visits.leave("a")
    found, outcome = visits.open(mine.key, "c", Session())
    assert (found.instruction, outcome) == ("mine", "back")
    assert (files.folder("c") / "prompts-0.txt").is_file()
    for wrong in (theirs.key[:-1], theirs.key + "x", theirs.key * 9, "\ud800", "é"):
        other, outcome = visits.open(wrong, "d", Session())
        assert (other.instruction, outcome) == ("", "lost")
        assert not list(files.folder("d").iterdir())


def test_a_visit_reloaded_again_and_again_keeps_no_trace_of_its_former_pages(
    visits: Visits, files: SessionFiles
) -> None:
    visit = begun(visits, files, "page 0")
    for number in range(1, 20):
        visits.leave(f"page {number - 1}")
        visit, outcome = visits.open(visit.key, f"page {number}", Session())
        assert outcome == "back"
    place = files.folder("page 19")
    assert (place / "prompts-0.txt").is_file()
    assert place not in [files.folder(f"page {number}") for number in range(19)]


def test_all_visits_together_hold_no_more_than_they_may(files: SessionFiles, clock: Clock) -> None:
    visits = Visits(files, ServerLimits(visits_bytes=5_000_000), clock)
    held = []
    for page in "abc":
        visit, _outcome = visits.open("", page, Session())
        visit.take(made_of(2_000_000, page))
        held.append(visit)
        clock.now += 1
    visits.open("", "d", Session())
    assert [bool(visit.shelf) for visit in held] == [False, True, True]
    assert held[0].over == "ended"


def test_a_visit_keeps_adapters_up_to_their_number_and_bytes(tmp_path: Path) -> None:
    session = Session(limits=ServerLimits(adapters_per_session=3))
    for number in range(5):
        session.take(made_of(1_000_000, f"{number}"))
    assert [one.key for one in session.shelf] == ["2", "3", "4"]
    for one in session.shelf[1:]:
        one.kept = Kept(Library(tmp_path), one.key)
    session.beside = session.shelf[1]
    session.take(made_of(1_000_000, "5"))
    assert [one.key for one in session.shelf] == ["2", "3", "5"], "the library has the other"
    session = Session(limits=ServerLimits(adapters_per_session_bytes=2_500_000))
    for number in range(5):
        session.take(made_of(1_000_000, f"{number}"))
    assert [one.key for one in session.shelf] == ["3", "4"]


def test_undo_goes_back_a_few_adapters_and_holds_no_more() -> None:
    session = Session(limits=ServerLimits(adapters_per_session=1))
    for number in range(9):
        made = made_of(1_000_000, f"{number}")
        made.before = session.made
        session.take(made)
    assert session.num_bytes == 6_000_000


def test_adapters_that_only_answers_still_hold_count_as_bytes_of_a_visit() -> None:
    session = Session(limits=ServerLimits(adapters_per_session=1))
    for number in range(3):
        made = made_of(1_000_000, f"{number}")
        session.take(made)
        session.turns.append(Turn("Hi", left=Answer("base"), right=Answer("it", made)))
    session.batch = Batch(("Hi",), left=made_of(1_000_000, "left"), right=session.made)
    assert len(session.shelf) == 1
    assert session.num_bytes == 4_000_000
    session.turns, session.batch = [], None
    assert session.num_bytes == 1_000_000


def test_loras_that_a_measurement_trained_count_as_bytes_of_a_visit() -> None:
    made, lora = made_of(1_000_000, "made"), made_of(2_000_000, "lora").adapter
    measured = SimpleNamespace(trained={"trained_lora": lora})
    file = SimpleNamespace(memory_bytes=3)
    session = Session(found=cast("Any", Found)(made, made.adapter, file, measured))
    session.take(made)
    assert session.num_bytes == 3_000_003


def test_encoded_prompts_and_labelled_rows_count_as_bytes_of_a_visit(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("prompt,label\na,1\nb,2\n")
    session = Session(rows=CardReading(split="auto", copy=path, file=read_prompt_file(path)))
    assert session.labelled is not None
    rows = session.labelled.memory_bytes
    assert session.num_bytes == rows > path.stat().st_size
    session.memory = memory = FakeEngine.new_memory()
    memory.num_bytes = 7
    assert session.num_bytes == rows + 7


def test_the_bytes_of_a_visit_are_counted_while_it_reads_files(tmp_path: Path) -> None:
    session = Session()

    class BeingRead:
        @property
        def whole(self) -> None:
            """Stand for a moment at which another thread has read the next file."""
            session.readings["next"] = CardReading(split="auto", copy=tmp_path)

    session.readings["first"] = cast("CardReading", BeingRead())
    assert session.num_bytes == 0
    assert len(session.readings) == 2


def test_keys_are_long_differ_and_are_not_shown(files: SessionFiles) -> None:
    keys = {Session().key for _ in range(100)}
    assert len(keys) == 100
    assert min(map(len, keys)) >= 43  # 32 random bytes
    session = Session()
    assert session.key not in repr(session)
    files.resolve_with(lambda _page: session.key)
    assert session.key not in str(files.folder("page"))


def test_gradio_gives_every_page_a_visit_of_its_own() -> None:
    state = gr.State(Session())
    assert deepcopy(state.value).key != deepcopy(state.value).key


def test_the_newest_page_takes_a_visit_over(visits: Visits, files: SessionFiles) -> None:
    old = begun(visits, files, "old")
    key, old.instruction = old.key, "kept"
    new, _ = visits.open(key, "new", Session())
    assert (new.key, new.instruction, new.over) == (key, "kept", "")
    assert (old.over, old.instruction, old.folder) == ("moved", "", None)
    visits.leave("old")  # after the new one has come, as in a reload
    again, outcome = visits.open(key, "newer", Session())
    assert (again.instruction, outcome) == ("kept", "back")
    assert (files.folder("newer") / "prompts-0.txt").is_file()


def test_a_page_that_lost_its_visit_changes_nothing_any_more(
    visits: Visits, files: SessionFiles, request_of: RequestOf
) -> None:
    old = begun(visits, files, "old")
    called: list[Any] = []
    slots = {"box": gr.Textbox()}

    def note(what: Any = "tick") -> Updates:
        called.append(what)
        return {}

    order = by_slot(lambda session: note(session), slots, visits)
    tick = by_slot(lambda: note(), slots, visits)
    request = request_of("old")
    order(old, request, old)
    visits.open(old.key, "new", Session())
    order(old, request, old)
    tick(old, request)
    assert called == [old, "tick"]
    new, _ = visits.open("", "other", Session())
    visits.end("other")
    with pytest.raises(gr.Error, match="has ended"):
        order(new, sent_by("other"), new)


def test_a_visit_ends_with_its_files_a_while_after_its_last_use(
    visits: Visits, files: SessionFiles, clock: Clock
) -> None:
    visit = begun(visits, files, "a")
    folder, key = files.folder("a"), visit.key
    visits.leave("a")
    clock.now += 99
    found, outcome = visits.open(key, "b", Session())
    assert outcome == "back"
    clock.now += 99
    visits.leave("b")  # leaving is no use
    clock.now += 2
    _, outcome = visits.open(key, "c", Session())
    assert outcome == "lost"
    assert not folder.exists()
    assert found.over == "ended"


def test_a_visit_that_ends_stops_its_runs_and_leaves_no_files(
    on: Handlers,
    engine: FakeEngine,
    files: SessionFiles,
    arrange: Callable[..., Arrangement],
    request_of: RequestOf,
) -> None:
    request = request_of("a")
    visit = on.visit.open(Session(), "en", "", request)["session"]
    laid = arrange(SQL={"a.txt": "one\n"})
    on.prompts.update_prompts(laid, visit, request)
    on.synthesis.begin_synthesis(laid, visit)
    run = visit.run
    with engine.pace.held("synthesis"):
        steps = on.synthesis.synthesize(visit, "pool", 0, request)
        next(steps)
        on.visit.forget(request)
        assert run.stop.is_set()
    list(steps)
    assert run.stages.ended == "stopped"
    assert not list(files.root.glob("visit-*"))


def test_one_that_is_open_and_used_does_not_end(
    visits: Visits, files: SessionFiles, clock: Clock
) -> None:
    visit = begun(visits, files, "a")
    for _ in range(5):
        clock.now += 60
        visit.used = clock.now
        visits.open("", "other", Session())
    assert visit.over == ""


def test_weights_of_visits_without_a_page_are_bounded_the_oldest_go_first(
    on: Handlers,
    visits: Visits,
    files: SessionFiles,
    clock: Clock,
    arrange: Callable[..., Arrangement],
    request_of: RequestOf,
) -> None:
    made = []
    for number in range(4):
        page = f"page-{number}"
        visit, _ = visits.open("", page, Session())
        make(on, visit, arrange(SQL={"a.txt": f"{number}\n"}), request_of(page))
        assert 2_000_000 < visit.num_bytes < 3_000_000
        clock.now += 1
        visit.used = clock.now
        visits.leave(page)
        made.append(visit)
    assert [visit.over for visit in made] == ["ended", "ended", "", ""]
    # One that is open counts for nothing, however much it holds.
    opened, _ = visits.open(made[2].key, "again", Session())
    make(on, opened, arrange(SQL={"a.txt": "more\n"}), request_of("again"))
    visits.open("", "other", Session())
    assert opened.over == ""


def may_read(visits: Visits, num_bytes: int, visitor: str = "") -> bool:
    try:
        visits.check_reading(Session(visitor=visitor), "new", num_bytes)
    except NoRoomError:
        return False
    return True


def may_write(visits: Visits, num_bytes: int, visitor: str) -> bool:
    try:
        visits.check_writing(Session(visitor=visitor), "new", num_bytes)
    except NoRoomError:
        return False
    return True


def test_visits_without_a_page_are_counted_and_make_room_for_new_files(
    files: SessionFiles, clock: Clock
) -> None:
    visits = Visits(files, ServerLimits(left_visits=2, readings_bytes=7), clock)
    left = []
    for page in "abc":
        left.append(begun(visits, files, page))  # three bytes each
        clock.now += 1
        left[-1].used = clock.now
        visits.leave(page)
    assert [visit.over for visit in left] == ["ended", "", ""]
    opened = begun(visits, files, "d")
    assert not may_read(visits, 5)
    assert [visit.over for visit in left] == ["ended", "", ""], "it would not have been enough"
    assert may_read(visits, 4)
    assert [visit.over for visit in (*left, opened)] == ["ended", "ended", "ended", ""]


def test_no_visit_of_an_address_goes_for_what_the_total_refuses(
    files: SessionFiles, clock: Clock
) -> None:
    limits = ServerLimits(readings_per_visitor_bytes=6, readings_bytes=7)
    visits = Visits(files, limits, clock)
    # Three bytes each.
    both = [begun(visits, files, page, visitor) for page, visitor in ("ao", "bm")]
    clock.now += 1
    visits.leave("b")
    assert not may_read(visits, 5, "m")
    assert [visit.over for visit in both] == ["", ""]
    assert may_read(visits, 4, "m")
    assert [visit.over for visit in both] == ["", "ended"]


def test_one_address_cannot_take_the_room_of_the_others(files: SessionFiles, clock: Clock) -> None:
    limits = ServerLimits(
        readings_per_visitor_bytes=6, readings_bytes=100, sessions=1, left_visits=2
    )
    visits = Visits(files, limits, clock)
    flood = [begun(visits, files, page, "flood") for page in "ab"]  # three bytes each
    assert not may_read(visits, 1, "flood")
    assert may_read(visits, 6, "other")
    mine = begun(visits, files, "mine", "other")
    for page in "cdefg":
        clock.now += 1
        begun(visits, files, page, "flood")
    assert mine.over == "", "though it was unused for longest"
    assert flood[0].over == "ended"


def test_a_client_that_never_opens_its_visits_has_the_share_of_one_address(
    files: SessionFiles, clock: Clock
) -> None:
    visits = Visits(files, ServerLimits(readings_per_visitor_bytes=6, visit_seconds=100), clock)

    def read(session: Session, request: gr.Request) -> Updates:
        visits.check_reading(session, request.session_hash or "", 3)
        session.folder = files.folder(request.session_hash or "")
        (session.folder / "prompts-0.txt").write_text("one")
        return {}

    def event(page: str, address: str) -> Session:
        request, session = sent_by(page, address), Session()
        by_slot(read, {"box": gr.Textbox()}, visits)(session, request, session, request)
        return session

    flood = [event(page, "192.0.2.1") for page in "ab"]
    with pytest.raises(NoRoomError, match="files of other visits"):
        event("c", "192.0.2.1")
    event("d", "192.0.2.2")
    folder = files.folder("a")
    clock.now += 101
    visits.leave("d")
    assert [visit.over for visit in flood] == ["ended", "ended"]
    assert not folder.exists()


def test_events_before_a_page_opens_its_visit_leave_nothing_behind(
    files: SessionFiles, clock: Clock
) -> None:
    visits = Visits(files, ServerLimits(sessions=1, left_visits=1), clock)
    mine, other = (begun(visits, files, page) for page in "ab")
    clock.now += 1
    early = Session()
    visits.of_page(early, "c", "")
    folder = files.folder("c")
    found, outcome = visits.open(mine.key, "c", early)
    assert (outcome, early.over, folder.exists()) == ("back", "moved", False)
    # Still under way when the page had opened its visit.
    visits.of_page(early, "c", "")
    assert (files.folder("c") / "prompts-0.txt").is_file()
    assert (found.over, other.over) == ("", "")
    assert len(visits._visits) == 2


def test_a_page_keeps_its_visit_when_the_server_has_dropped_its_state(
    visits: Visits, files: SessionFiles, clock: Clock
) -> None:
    mine = begun(visits, files, "a")
    slots, given = {"box": gr.Textbox()}, list[Session]()

    def note(session: Session) -> Updates:
        given.append(session)
        return {}

    def step(session: Session) -> Iterator[Updates]:
        yield note(session)

    def event(page: str) -> None:
        blank = Session()
        by_slot(note, slots, visits)(blank, sent_by(page), blank)
        blank = Session()
        list(by_slot(step, slots, visits)(blank, sent_by(page), blank))

    event("a")
    newer, _outcome = visits.open(mine.key, "b", Session())
    event("a")  # a newer page has it
    event("b")
    assert all(one is two for one, two in zip(given, [mine, mine, newer, newer], strict=True))
    clock.now += visits._limits.visit_seconds + 1
    visits.open("", "other", Session())
    for page in "ab":
        visits.leave(page)
        with pytest.raises(gr.Error, match="Dieser Besuch ist beendet"):
            by_slot(note, slots, visits)(blank := Session(), sent_by(page, language="de"), blank)
    assert len(visits._visits) == 1


def test_pages_of_ended_visits_are_forgotten_at_last(files: SessionFiles) -> None:
    visits = Visits(files, ServerLimits(sessions=1, left_visits=1), Clock())
    for number in range(9):
        visits.open("", f"{number}", Session())
        visits.end(f"{number}")
    visits.leave("other")
    assert list(visits._pages) == ["7", "8"]


def test_files_on_disk_are_bounded_for_an_address_and_in_all(
    files: SessionFiles, clock: Clock
) -> None:
    limits = ServerLimits(files_per_visitor_bytes=6, files_bytes=10)
    visits = Visits(files, limits, clock)
    flood = [begun(visits, files, page, "flood") for page in "ab"]  # three bytes each
    begun(visits, files, "c", "other")
    for page in "abc":
        files.measure(page)
    assert not may_write(visits, 1, "flood")
    assert may_write(visits, 1, "other")
    assert not may_write(visits, 2, "other"), "the total"
    clock.now += 1
    flood[1].used = clock.now
    visits.leave("b")
    assert may_write(visits, 2, "other")
    assert [visit.over for visit in flood] == ["", "ended"], "without a page"
    assert may_write(visits, 3, "flood")


def test_an_empty_visit_is_kept_as_well_but_goes_first(files: SessionFiles, clock: Clock) -> None:
    visits = Visits(files, ServerLimits(left_visits=2), clock)
    worked, empty = begun(visits, files, "a"), visits.open("", "b", Session())[0]
    for page in "ab":
        clock.now += 1
        visits.leave(page)
    # A page whose connection had broken may be worked on.
    clock.now += 1
    empty.instruction, empty.used = "Be brief.", clock.now
    assert visits.open(empty.key, "c", Session())[0].instruction == "Be brief."
    for page in "de":
        visits.open("", page, Session())
        clock.now += 1
        visits.leave(page)
    assert worked.over == ""
    assert len(visits._visits) == 3


def test_a_visit_that_only_answered_a_table_is_not_empty() -> None:
    assert Session().is_empty
    assert not Session(batch=Batch(inputs=("one",))).is_empty
    assert not Session(settings={"settings_system": "Be brief."}).is_empty


def test_a_visit_without_a_page_leaves_no_files_behind(
    files: SessionFiles, clock: Clock, visits: Visits
) -> None:
    visit, _ = visits.open("", "a", Session())
    folder = files.folder("a")
    (folder / "conversation.md").write_text("What?")
    visits.leave("a")
    clock.now += 101
    visits.open("", "b", Session())
    assert visit.over == "ended"
    assert not folder.exists()


def test_all_of_a_visit_is_drawn_again(
    on: Handlers, arrange: Callable[..., Arrangement], request_of: RequestOf
) -> None:
    visit = on.visit.open(Session(), "en", "", request_of("a"))["session"]
    make(on, visit, arrange({"SQL": 1.5}, SQL={"a.txt": "one\n"}), request_of("a"))
    chat(on, visit, "Hi")
    on.adapter.set_strength(visit, 0.5)
    on.visit.remember(("seed",), visit, 7)
    on.compare.choose_mode(visit, "bare")
    on.visit.leave(request_of("a"))
    key = visit.key
    back = on.visit.open(Session(), "de", key, request_of("b"))
    assert back["session"].key == key
    assert (back["seed"], back["mode"].value) == (7, "bare")
    inbox = back["inbox"]
    assert (inbox["op"], inbox["folded"]) == ("restore", True)
    assert [(b["name"], b["weight"]) for b in inbox["buckets"]] == [("SQL", 1.5)]
    (card,) = inbox["cards"]
    assert inbox["readings"][card["id"]]["num_prompts"] == 1
    assert "Hi" in back["left_pane"]
    assert back["strength"] == 0.5
    assert back["stages"]


@pytest.mark.parametrize("key", [None, 1, ["x"]])
def test_a_key_that_is_no_text_opens_a_new_visit(
    on: Handlers, request_of: RequestOf, key: Any
) -> None:
    fresh = Session()
    assert on.visit.open(fresh, "en", key, request_of("a"))["session"] is fresh


def test_what_ran_when_the_page_was_left_is_said_to_be_interrupted(
    on: Handlers, arrange: Callable[..., Arrangement], request_of: RequestOf
) -> None:
    visit = on.visit.open(Session(), "en", "", request_of("a"))["session"]
    arrangement = arrange(SQL={"a.txt": "one\n"})
    on.prompts.update_prompts(arrangement, visit, request_of("a"))
    on.synthesis.begin_synthesis(arrangement, visit)
    on.compare.ask("Hi", "written", visit)
    on.batch.begin("one\ntwo", "written", "", visit)
    run, key = visit.run, visit.key
    back = on.visit.open(Session(), "en", key, request_of("b"))
    assert run is not None
    assert run.stop.is_set()
    assert "Interrupted when the page was left" in back["stages"]
    assert back["session"].turns[0].finished
    assert "stopped" in back["left_pane"]
    assert back["send"].visible
    assert (back["batch_inputs"], back["batch_start"].visible) == ("one\ntwo", True)
    assert "0 of 2 inputs answered." in back["batch_table"]
    visit = back["session"]
    assert visit.batch.stop.is_set()
    assert on.batch.begin("three", "written", "", visit)["batch_stop"].visible, "not stuck"


def test_the_rows_to_measure_on_come_back_in_their_box(
    on: Handlers, request_of: RequestOf, tmp_path: Path
) -> None:
    visit = on.visit.open(Session(), "en", "", request_of("a"))["session"]
    (tmp_path / "my rows.csv").write_text("prompt,label\none,yes\ntwo,no\n")
    on.measure.read_labelled(visit, str(tmp_path / "my rows.csv"), request_of("a"))
    back = on.visit.open(Session(), "en", visit.key, request_of("b"))
    assert "<b>my rows.csv</b>" in back["measure_told"]
    assert Path(back["measure_file"]).name == "my rows.csv"
    on.measure.read_labelled(back["session"], None, request_of("b"))
    back = on.visit.open(Session(), "en", visit.key, request_of("c"))
    assert back.get("measure_file") is None


def test_a_table_of_answers_comes_back_with_its_file(on: Handlers, request_of: RequestOf) -> None:
    visit = on.visit.open(Session(), "en", "", request_of("a"))["session"]
    on.batch.begin("one", "written", "", visit)
    list(on.batch.answer(visit, *SAMPLING))
    back = on.visit.open(Session(), "en", visit.key, request_of("b"))
    assert back["batch_inputs"] == "one"
    assert back["batch_file"].visible
    assert Path(back["batch_file"].value["path"]).read_text().startswith("input,")


def test_a_number_beyond_its_limits_becomes_the_nearest_one() -> None:
    assert Slider(-0.5, 2.0).preprocess(99) == 2
    assert Slider(-0.5, 2.0).preprocess(-7) == -0.5
    assert Slider(-0.5, 2.0).preprocess(None) == -0.5
    assert Number(minimum=0, maximum=9).preprocess(-1) == 0
    assert Number(minimum=0).preprocess(10**6) == 10**6
    assert Number().preprocess(None) is None
