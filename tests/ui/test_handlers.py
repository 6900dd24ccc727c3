"""Handlers as plain functions, with an engine without models."""

import errno
import re
import shutil
import threading
import zipfile
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from filelock import Timeout

from dnd_engine.checks.registry import inspected, recall
from dnd_engine.checks.results import (
    Conditioning,
    Control,
    Inspection,
    Ordinary,
    Outlook,
    Skills,
)
from dnd_engine.checks.verdict import Agreement, Answered, BucketShare, Labels, judge
from dnd_engine.errors import AdapterError, AssetError, DndError, LibraryError
from dnd_engine.limits import PromptLimits
from dnd_engine.lora.changes import ChangedBy
from dnd_engine.lora.provenance import NearestTask
from dnd_engine.prompts.examples import load_examples
from tests.present import present
from tests.ui.fake_engine import FOUND_TO_WORK, GAINED, IDLE, FakeEngine, Loading, familiarity
from tests.ui.listed import events
from tests.ui.orders import (
    SAMPLING,
    answered,
    chat,
    drawn,
    last,
    make,
    sent,
    synthesized,
    visitor,
)
from tests.until import until
from ui.canvas import Arrangement, CanvasBucket
from ui.engine_calls import EngineCalls
from ui.engine_handle import EngineHandle
from ui.faults import public_words
from ui.handlers import Handlers
from ui.session_files import SessionFiles
from ui.shared import App
from ui.stages import StageKey, Stages
from ui.state import Session
from ui.tabs.workbench.adapter.checks_view import checks_html
from ui.tabs.workbench.adapter.judgement_view import Judgement
from ui.tabs.workbench.adapter.learnt import Learnt, LearntPart
from ui.tabs.workbench.adapter.norms_view import norms_html
from ui.tabs.workbench.adapter.proof_view import proof_html
from ui.tabs.workbench.adapter.view import fingerprint
from ui.text import speaking

Arrange = Callable[..., Arrangement]
RequestOf = Callable[[str], gr.Request]

EVIL = "<img src=x onerror=alert(1)>${1}"

CONTROL = Control("wrong", 1.81, 0.58, 0.45, 0.71)
BASE_ALONE = Control("base", 3.26, 2.03, 1.7, 2.35)


def test_files_are_read_once_and_each_card_gets_its_answer(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    session = Session()
    arrangement = arrange(SQL={"a.txt": "one\ntwo\n", "bad.jsonl": '{"prompt": 1}\n'})
    updates = on.prompts.update_prompts(arrangement, session, request_of("s"))
    readings = updates["inbox"]["readings"]
    assert readings["SQL/a.txt"]["num_prompts"] == 2
    assert readings["SQL/bad.jsonl"]["error"].startswith("Line 1: ")
    assert "1 file, 2 prompts; 1 file not used" in updates["hint"]
    assert updates["synthesize"].interactive is True
    for card in arrangement.cards:
        assert card.upload is not None
        card.upload.unlink()
    again = on.prompts.update_prompts(arrangement, session, request_of("s"))
    assert again["inbox"]["readings"]["SQL/a.txt"]["num_prompts"] == 2


def test_the_faults_of_a_file_and_of_buckets_are_said_in_the_language_of_the_page(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    session = Session()
    arrangement = arrange(SQL={"bad.jsonl": '{"prompt": 1}\n"two"\n', "a.txt": "one\ntwo\n"})
    muted = replace(arrangement, buckets=(replace(arrangement.buckets[0], weight=0.0),))
    with speaking("de"):
        updates = on.prompts.update_prompts(muted, session, request_of("s"))
    assert updates["inbox"]["readings"]["SQL/bad.jsonl"]["error"] == (
        'Zeile 1: erwartet wird ein Objekt mit einer Zeichenkette "prompt", gefunden: eine Zahl '
        "unter `prompt`. Ein JSON-Objekt je Zeile schreiben."
    )
    assert "Jede Gruppe mit Prompts hat das Gewicht 0." in updates["hint"]
    again = on.prompts.readings_again(muted, session)["inbox"]["readings"]
    assert again["SQL/bad.jsonl"]["error"].startswith("Line 1: expected an object")


def test_a_lost_upload_is_told_on_its_card(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    arrangement = arrange(SQL={"a.txt": "one\n"})
    assert arrangement.cards[0].upload is not None
    arrangement.cards[0].upload.unlink()
    session = Session()
    updates = on.prompts.update_prompts(arrangement, session, request_of("s"))
    assert "upload is gone" in updates["inbox"]["readings"]["SQL/a.txt"]["error"]
    (bucket,) = arrangement.buckets
    cards = tuple(replace(card, split="lines", version=1) for card in bucket.cards)
    again = replace(arrangement, buckets=(replace(bucket, cards=cards),))
    updates = on.prompts.update_prompts(again, session, request_of("s"))
    assert "upload is gone" in updates["inbox"]["readings"]["SQL/a.txt"]["error"]
    assert updates["synthesize"].interactive is False


@pytest.mark.parametrize(
    ("arrangement", "hint"),
    [
        (Arrangement(), "Drop prompt files first."),
        (Arrangement((CanvasBucket("SQL", 1.0, ()),)), "Drop prompt files first."),
    ],
)
def test_synthesize_is_off_and_says_why(
    on: Handlers, request_of: RequestOf, arrangement: Arrangement, hint: str
) -> None:
    updates = on.prompts.update_prompts(arrangement, Session(), request_of("s"))
    assert hint in updates["hint"]
    assert updates["synthesize"].interactive is False


def test_weights_all_zero_switch_synthesize_off(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    arrangement = arrange({"SQL": 0.0}, SQL={"a.txt": "one\n"})
    updates = on.prompts.update_prompts(arrangement, Session(), request_of("s"))
    assert "has weight 0" in updates["hint"]
    assert updates["synthesize"].interactive is False


def test_where_a_negative_weight_counts_is_said_before_synthesize(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    session = Session()
    arrangement = arrange({"SQL": -0.5}, SQL={"a.txt": "one\n"})
    updates = on.prompts.update_prompts(arrangement, session, request_of("s"))
    assert "A pool has no negative weights" in updates["hint"]
    assert updates["synthesize"].interactive is False
    updates = on.prompts.set_mix("sum", session)
    assert "1 file, 1 prompt; negative weights count only in a sum" in updates["hint"]
    assert updates["synthesize"].interactive is True
    assert on.prompts.set_mix("pool", session)["synthesize"].interactive is False


def test_whether_there_is_a_pool_is_known_once_models_are_loaded(
    on: Handlers, engine: FakeEngine, arrange: Arrange, request_of: RequestOf
) -> None:
    session = Session()
    arrangement = arrange({"SQL": -0.5}, SQL={"a.txt": "one\n"})
    on.prompts.update_prompts(arrangement, session, request_of("s"))
    engine.info = replace(engine.info, generator_id=None, generator_sha256=None)
    steps = on.prompts.forecast(session)
    told = next(step for step in steps if "hint" in step)
    assert "negative weights count only in a sum without imprint" in told["hint"]
    assert told["synthesize"].interactive is True
    assert next(steps) == {}, "Gradio repeats the last one at the end, when it may be outdated"


def test_prompts_that_a_bucket_has_twice_are_told(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    """Beside the number of all, which the canvas shows."""
    same = "one\ntwo\n"
    twice = arrange(SQL={"a.txt": same, "b.txt": f"{same}three\n"})
    updates = on.prompts.update_prompts(twice, Session(), request_of("s"))
    assert "2 files, 5 prompts, 2 of them repeated" in updates["hint"]
    readings = updates["inbox"]["readings"].values()
    assert sum(reading["num_prompts"] for reading in readings) == 5
    apart = arrange(SQL={"a.txt": same}, Other={"b.txt": same})
    updates = on.prompts.update_prompts(apart, Session(), request_of("s"))
    assert "2 files, 4 prompts<" in updates["hint"]


def test_synthesis_goes_through_its_stages_and_leaves_a_verified_zip(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    session = Session()
    arrangement = arrange(SQL={"a.txt": "one\ntwo\n"}, Legal={"b.txt": "three\n"})
    updates = make(on, session, arrangement, request_of("s"), mix="sum")
    assert session.made is not None
    assert session.made.archive is not None
    assert session.made.archive.is_file()
    assert "3 prompts from 2 files" in updates["adapter_facts"]
    assert "keeps 91 % of the change" in updates["adapter_facts"]
    assert updates["inbox"] == {"op": "fold"}
    (call,) = engine.calls
    assert (call["mix"], call["seed"], call["texts"]) == ("sum", 0, ["one", "three", "two"])
    for stage in ("Read prompts", "Encode", "Decode", "Check"):
        assert stage in updates["stages"]
    checks = on.adapter.check(session)
    assert "Changes the model" in checks["checks"]
    assert "It works without the instruction." in checks["warning"]
    assert "is-warn" not in checks["warning"]


def test_a_stopped_synthesis_makes_nothing_even_from_the_queue(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    session = Session()
    arrangement = arrange(SQL={"a.txt": "one\n"})
    on.prompts.update_prompts(arrangement, session, request_of("s"))
    on.synthesis.begin_synthesis(arrangement, session)
    assert "No new adapter was made" in on.runs.stop_run(session)["stages"]
    assert list(on.synthesis.synthesize(session, "pool", 0, request_of("s"))) == []
    assert engine.calls == []
    assert session.made is None


def test_show_me_asks_its_question_once_an_adapter_came_of_it_and_only_then(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    (example, *_) = load_examples()
    session = Session()
    message = on.prompts.show_me(example, session)["inbox"]
    assert message["tell_when_read"] is True
    assert [file["name"] for file in message["sets"][0]["files"]] == list(example.files)
    arrangement = arrange(SQL={"a.txt": "one\n"})
    on.prompts.update_prompts(arrangement, session, request_of("s"))
    on.synthesis.begin_shown(arrangement, session)
    on.runs.stop_run(session)
    on.prompts.show_me(example, session)
    assert on.compare.ask_shown(session) == {}, "the events of the stopped run go on"
    on.synthesis.begin_shown(arrangement, session)
    assert on.compare.ask_shown(session) == {}, "and may be late"
    synthesized(on, session, request_of("s"))
    assert "send" in on.compare.ask_shown(session)
    assert session.turns[-1].question == example.question
    assert session.turns[-1].right is not None
    assert on.compare.ask_shown(session) == {}


def test_a_failure_is_shown_where_it_happened(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    session = Session()
    updates = make(on, session, arrange(SQL={"a.txt": "FAIL\n"}), request_of("s"))
    assert "out of memory" in updates["stages"]
    assert "is-failed" in updates["stages"]
    assert updates["synthesize"].visible is True
    assert session.made is None


def test_strength_scales_without_synthesis_and_asks_for_a_new_zip(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    session = Session()
    make(on, session, arrange(SQL={"a.txt": "one\n"}), request_of("s"))
    assert session.made is not None
    before = session.made.adapter.sha256
    assert on.adapter.set_strength(session, 1.0) == {}
    updates = on.adapter.set_strength(session, 0.5)
    assert session.made.adapter.sha256 != before
    assert updates["download"].interactive is False
    assert on.adapter.prepare_download(session, request_of("s"))["download"].interactive is True
    # Of two changes in a row, the first event may write the zip of the second, before the page
    # hears that it is being prepared.
    again = on.adapter.prepare_download(session, request_of("s"))
    assert again["download"].interactive is True
    on.adapter.set_strength(session, 2.0)
    refused = on.adapter.prepare_download(session, request_of("s"))
    assert "3 keys missing" in refused["warning"]
    assert session.made.archive is None
    assert len(engine.calls) == 1


def test_the_facts_say_at_which_strength_the_checks_were_made(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    session = Session()
    make(on, session, arrange(SQL={"a.txt": "one\n"}), request_of("s"))
    measured = "measured at strength 1, not at this one"
    assert measured not in on.adapter.set_strength(session, 0.5)["adapter_facts"]
    # They are made as the adapter was, whatever the slider says by then.
    assert measured in on.adapter.check(session)["adapter_facts"]
    assert measured in on.adapter.set_strength(session, 0)["adapter_facts"]
    assert measured not in on.adapter.set_strength(session, 1)["adapter_facts"]


def test_a_useless_adapter_is_offered_with_a_warning(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    session = Session()
    make(on, session, arrange(SQL={"a.txt": "NOTHING\n"}), request_of("s"))
    updates = on.adapter.check(session)
    assert "unlikely to help" in updates["warning"]
    assert updates["download"].label == "Download anyway"
    assert updates["download"].variant == "secondary"


def test_both_sides_answer_and_say_who_spoke(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    session = Session()
    make(on, session, arrange(SQL={"a.txt": "one\n"}), request_of("s"))
    updates = chat(on, session, "Which?")
    assert session.made is not None
    assert "in general." in updates["left_pane"]
    assert "<pre><code>SELECT name" in updates["right_pane"]
    assert f"{session.made.adapter.sha256[:8]} \u00d7 1.00" in updates["right_pane"]
    assert "base 9c41e0" in updates["left_pane"]


def test_words_of_people_and_models_are_escaped(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    session = Session()
    name = f"{EVIL}.txt"
    updates = make(on, session, arrange(**{EVIL: {name: f"{EVIL}\n"}}), request_of("s"))
    panes = chat(on, session, EVIL)
    for shown in (*updates.values(), *panes.values()):
        if isinstance(shown, str):
            assert "<img" not in shown
    assert "&lt;img" in panes["left_pane"]
    assert "&lt;img" in panes["right_pane"]


def test_stop_ends_the_stream_and_keeps_the_words(on: Handlers, engine: FakeEngine) -> None:
    session = Session()
    on.compare.ask("Say more", "written", session)
    stream = on.compare.answer(session, *SAMPLING)
    with engine.pace.held("chat", at=3):
        drawn(stream)
        stopped = on.compare.stop_chat(session)
        assert "stopped" in stopped["left_pane"]
        assert stopped["send"].visible is True
        list(stream)
        assert on.compare.answered(session, visitor()).keys() <= {
            "keep_row",
            "keep_markdown",
            "keep_json",
            "keep_votes",
        }
        reply = session.turns[0].left.reply
        assert reply is not None
        assert 0 < reply.num_tokens <= 3
        until(lambda: engine.closed_chats == 1)


def test_a_question_is_answered_once(on: Handlers, engine: FakeEngine) -> None:
    """Each way to ask has a stream of its own: Enter began a second one beside Send's."""
    session = Session()
    on.compare.ask("Say more", "written", session)
    stream = on.compare.answer(session, *SAMPLING)
    with engine.pace.held("chat"):
        drawn(stream)
        assert on.compare.ask("", "written", session) == {}
        assert list(on.compare.answer(session, *SAMPLING)) == []
    assert len(list(stream)) > 0
    assert session.turns[0].finished


def test_a_closed_stream_closes_the_engine(on: Handlers, engine: FakeEngine) -> None:
    session = Session()
    on.compare.ask("Say more", "written", session)
    stream = on.compare.answer(session, *SAMPLING)
    assert isinstance(stream, Generator)
    with engine.pace.held("chat"):
        drawn(stream)
        stream.close()
        until(lambda: engine.closed_chats == 1)


def test_what_was_stopped_takes_nothing_from_what_is_asked_after(
    on: Handlers, engine: FakeEngine
) -> None:
    session = Session()
    on.compare.ask("Say more", "written", session)
    with engine.pace.held("chat"):
        stopped = on.compare.answer(session, *SAMPLING)
        drawn(stopped)
        on.compare.stop_chat(session)
        on.compare.ask_again(session)
        # It ends only now, and the page shows the new order already.
        assert "…" in last(stopped)["left_pane"]
    final = answered(on, session, visitor())
    assert final["send"].visible is True
    assert session.turns[0].left.finished
    assert not session.turns[0].left.stopped

    on.compare.ask("LONG again", "written", session)
    with engine.pace.held("chat"):
        cleared = on.compare.answer(session, *SAMPLING)
        drawn(cleared)
        on.compare.clear_chat(session)
        # Gradio sends the last of a stream again when it ends.
        assert "LONG" not in last(cleared)["left_pane"]
    assert on.compare.answered(session, visitor()) == {}


def test_drawing_holds_up_no_token(on: Handlers, engine: FakeEngine) -> None:
    session = Session()
    on.compare.ask("Who?", "written", session)
    stream = on.compare.answer(session, *SAMPLING)
    drawn(stream)
    # The page asks for nothing more, and the answers are written to their end all the same.
    until(lambda: engine.closed_chats == 1)
    assert isinstance(stream, Generator)
    stream.close()


def test_bad_settings_and_engine_errors_end_in_words(on: Handlers) -> None:
    session = Session()
    updates = chat(on, session, "Hi", "", 64, 99.0, 1.0, 0, 1.0, 0, False)
    assert "<code>temperature</code> must be between" in updates["left_pane"]
    assert "longer than the model can read" in chat(on, session, "BREAK")["left_pane"]
    assert updates["send"].visible is True


def test_earlier_turns_go_along_only_when_asked(on: Handlers, engine: FakeEngine) -> None:
    session = Session()
    chat(on, session, "First")
    chat(on, session, "Second")
    chat(on, session, "Third", "Be brief.", 64, 0.0, 0, 1.0, 0, 1.0, True)
    sent = [conversations[0] for conversations in engine.asked]
    assert [len(messages) for messages in sent] == [1, 1, 6]
    assert sent[2][0] == {"role": "system", "content": "Be brief."}


def test_an_empty_or_second_question_changes_nothing(on: Handlers) -> None:
    session = Session()
    assert on.compare.ask("   ", "written", session) == {}
    on.compare.ask("First", "written", session)
    assert on.compare.ask("Second", "written", session) == {}
    assert len(session.turns) == 1


def test_sessions_share_nothing(
    on: Handlers, files: SessionFiles, arrange: Arrange, request_of: RequestOf
) -> None:
    one, two = Session(), Session()
    on.visit.open(one, "en", "", request_of("one"))
    make(on, one, arrange(SQL={"a.txt": "one\n"}), request_of("one"))
    make(on, two, arrange(SQL={"a.txt": "one\n", "b.txt": "two\n"}), request_of("two"))
    chat(on, one, "from one")
    assert one.made is not None
    assert two.made is not None
    assert one.made.adapter.sha256 != two.made.adapter.sha256
    assert two.turns == []
    assert files.folder("one") != files.folder("two")
    gone, stays = one.made.archive, two.made.archive
    assert gone is not None
    assert stays is not None
    on.visit.forget(request_of("one"))
    assert one.made is None
    assert not gone.exists()
    assert stays.exists()


def test_the_folder_of_a_visit_cannot_be_guessed(tmp_path: Path) -> None:
    assert SessionFiles(tmp_path).folder("s") != SessionFiles(tmp_path).folder("s")
    assert SessionFiles(tmp_path).folder("../../etc").parent == tmp_path


@pytest.mark.slow
def test_a_failed_load_is_told_and_tried_again(files: SessionFiles, tmp_path: Path) -> None:
    engine = FakeEngine()
    failures = [AssetError("No network, so the base model could not be fetched.")]

    def load(on_progress: Callable[..., None]) -> FakeEngine:
        if failures:
            raise failures.pop()
        return engine

    handle = EngineHandle(load)
    on = Handlers(App(EngineCalls(handle), PromptLimits(), files, tmp_path))
    handle.start()
    with pytest.raises(AssetError, match="No network"):
        handle.wait(60)
    updates = on.page.refresh_load(Session(), gr.Request())
    assert "No network" in updates["load"]
    assert updates["retry"].visible is True
    assert updates["timer"].active is False
    on.page.retry_load(Session(), gr.Request())
    assert handle.wait(60) is engine
    assert on.page.refresh_load(Session(), gr.Request())["load"] == ""


@pytest.mark.parametrize(
    ("error", "shared"), [(RuntimeError("/boom"), False), (AssetError("No /boom."), True)]
)
def test_a_load_that_fails_inside_gives_visitors_a_reference(
    error: Exception, shared: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def load(on_progress: Callable[..., None]) -> FakeEngine:
        raise error

    handle = EngineHandle(load, shared=shared)
    handle.start()
    with pytest.raises(DndError, match=r"Reference: [0-9a-f]{8}") as told:
        handle.wait(60)
    assert str(handle.snapshot().error) == str(told.value)
    assert "boom" not in str(told.value)
    reference = str(told.value).rsplit(" ", 1)[1].rstrip(".")
    assert f"fault {reference} in load: {type(error).__name__}" in caplog.text


def test_a_library_that_another_process_holds_is_no_fault_of_the_disk() -> None:
    """A lock's Timeout is an `OSError`, and visitors read that something broke."""
    busy = LibraryError("The library is in use by another process. Try again.")
    busy.__cause__ = Timeout("/secret/lock")
    assert public_words(busy, "keep", lambda words: words) == str(busy)
    refused = LibraryError("`/secret` cannot be written.")
    for cause in (PermissionError(errno.EACCES, "denied", "/secret"), shutil.Error(["/secret"])):
        refused.__cause__ = cause
        assert "Reference: " in public_words(refused, "keep", lambda words: words)


def test_synthesis_waits_for_the_engine_with_progress(
    files: SessionFiles, tmp_path: Path, arrange: Arrange, request_of: RequestOf
) -> None:
    handle = EngineHandle(load := Loading())
    on = Handlers(App(EngineCalls(handle), PromptLimits(), files, tmp_path))
    session = Session()
    arrangement = arrange(SQL={"a.txt": "one\n"})
    on.prompts.update_prompts(arrangement, session, request_of("s"))
    on.synthesis.begin_synthesis(arrangement, session)
    updates = on.synthesis.synthesize(session, "pool", 0, request_of("s"))
    while "Download" not in (html := next(updates)["stages"]) or "a-base==1" not in html:
        pass
    load.fetched.set()
    list(updates)
    assert session.made is not None


def test_only_the_thread_of_the_handle_loads_the_engine() -> None:
    names: list[str] = []

    def load(on_progress: Callable[..., None]) -> FakeEngine:
        names.append(threading.current_thread().name)
        return FakeEngine()

    handle = EngineHandle(load)
    for _ in range(3):
        handle.start()
    handle.wait(60)
    handle.start()
    assert names == ["engine"]


def test_stages_draw_real_times_on_one_clock() -> None:
    now = [0.0]
    stages = Stages(keys=("read", "encode"), clock=lambda: now[0])
    stages.enter("read")
    now[0] = 0.5
    stages.enter("encode")
    now[0] = 2.0
    html = stages.html()
    assert "left:0.00%;width:max(25.00%" in html
    assert "left:25.00%;width:max(75.00%" in html
    stages.finish("failed", "<b>no</b>")
    stages.finish("done")
    assert stages.ended == "failed"
    stages.enter("encode", "a step that came late")
    assert "a step that came late" not in stages.html()
    assert "is-running" not in stages.html()
    assert "&lt;b&gt;no" in stages.html()


def test_the_clock_of_a_run_that_waited_adds_up_with_the_times_of_its_adapter() -> None:
    now = [0.0]
    stages = Stages(("wait", "ask", "imprint", "check"), "imprint", lambda: now[0])
    begins: dict[StageKey, float] = {"wait": 0.0, "ask": 60.0, "imprint": 100.0, "check": 188.0}
    for key, begin in begins.items():
        now[0] = begin
        stages.enter(key)
    now[0] = 220.0
    assert "of which" not in stages.html(), "the rows say so while it runs"
    stages.finish("done")
    told = stages.html().partition("</summary>")[0]
    assert ">220.00 s</span>" in told
    assert "of which 60.00 s waiting for the engine, 32.00 s verifying the file" in told
    with speaking("de"):
        assert "davon 60,00 s auf das Modell gewartet, 32,00 s die Datei geprüft" in stages.html()
    remake = Stages(("wait", "encode", "check"), "remake", lambda: now[0])
    remake.enter("wait")
    remake.enter("load")
    assert [key for key in remake._rows if key != "wait"] == ["load", "encode", "check"]
    short = Stages(("read", "check"), clock=lambda: now[0])
    short.enter("read")
    now[0] += 0.4
    short.enter("check")
    now[0] += 0.51
    short.finish("done")
    assert ">0.91 s</span><span class='dnd-facts'>, of which 0.51 s verifying" in short.html()
    quick = Stages(("read", "check"), clock=lambda: now[0])
    quick.enter("read")
    quick.enter("check")
    now[0] += 0.4
    quick.finish("done")
    assert "of which" not in quick.html()


def test_an_adapter_whose_page_left_before_it_was_drawn_gets_its_fingerprint_later(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    session, request = Session(), request_of("s")
    arrangement = arrange(SQL={"a.txt": "one\n"})
    on.prompts.update_prompts(arrangement, session, request)
    on.synthesis.begin_synthesis(arrangement, session)
    first = sent(on.synthesis.synthesize(session, "pool", 0, request))
    # Its place is kept until it is measured.
    assert '<svg class="dnd-fingerprint" aria-hidden' in first["adapter_facts"]
    drawn = on.adapter.show(session)
    assert "<rect" in drawn["adapter_facts"]
    assert "dnd-heat" in drawn["norms"]


def test_a_fingerprint_uses_the_whole_ramp_and_shows_what_did_not_change() -> None:
    drawn = fingerprint(((0.0, -1.0, 0.5), (0.0, 2.0, 0.1)))
    assert re.findall('class="h(.)"', drawn) == ["0", "1", "3", "0", "4", "2"]
    assert fingerprint(((0.0, 0.0),)) == ""


def test_checks_never_tick_what_was_not_measured() -> None:
    assert "dnd-icon-check" not in checks_html("failed", message="out of memory")
    assert "Could not be measured" in checks_html("failed", message="out of memory")
    assert norms_html({}) == ""


def test_checks_that_failed_say_so_above_the_chat_and_can_be_run_again(
    on: Handlers,
    arrange: Arrange,
    request_of: RequestOf,
    engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_args: object) -> Inspection:
        raise AdapterError("out of memory")

    session = Session()
    make(on, session, arrange(SQL={"a.txt": "one\n"}), request_of("s"))
    with monkeypatch.context() as patch:
        patch.setattr(engine, "inspect", fails)
        failed = on.adapter.check(session)
    broken = on.adapter.check_broke(session)
    for updates, reason in ((failed, "Out of memory"), (broken, "Something broke")):
        assert "The checks could not be finished" in updates["warning"]
        assert reason in updates["warning"]
        assert updates["check_again"].visible is True
    again = on.adapter.check_again(session)
    assert "Checking whether it works" in again["warning"]
    assert again["check_again"].visible is False
    done = on.adapter.check(session)
    assert "could not be finished" not in done["warning"]
    assert done["check_again"].visible is False
    # What failed was not the check, and must not hide its result.
    assert on.adapter.check_broke(session)["checks"] == done["checks"]
    # An unexpected error is reported the same way, whatever started the checks.
    assert len(events()["AdapterEvents.check_broke"]) == len(events()["AdapterEvents.check"])


def test_checks_end_though_other_models_are_loaded_meanwhile(
    on: Handlers,
    arrange: Arrange,
    request_of: RequestOf,
    engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = Session()
    make(on, session, arrange(SQL={"a.txt": "one\n"}), request_of("s"))
    made = present(session.made)
    inspect, prove = engine.inspect, engine.prove
    with monkeypatch.context() as patch:

        def inspected(*args: Any, **kwargs: Any) -> Inspection:
            patch.setattr(EngineHandle, "engine", None)
            return inspect(*args, **kwargs)

        patch.setattr(engine, "inspect", inspected)
        checked = on.adapter.check(session)
    assert "Checking whether it works" not in checked["warning"]
    assert made.original.checks["proved"] is False
    with monkeypatch.context() as patch:

        def proved(*args: Any, **kwargs: Any) -> Generator[Any, None, Conditioning | None]:
            patch.setattr(EngineHandle, "engine", None)
            return (yield from prove(*args, **kwargs))

        patch.setattr(engine, "prove", proved)
        *_, shown = on.adapter.prove(session)
    assert made.original.checks["proved"] is True
    assert shown["prove"].value == "Measure again"
    assert "Something broke" in on.adapter.prove_broke()["proof"]


def test_without_an_instruction_nobody_can_tell_and_the_way_out_is_named() -> None:
    told = Judgement(Inspection(0.4, {}, (), 16)).html()
    assert "Nobody can tell yet whether it works." in told
    assert "type it under Advanced" in told
    assert "is-warn" not in told
    assert Judgement(Inspection(None, {}, (), 0)).html() == "", "its prompts are unknown"
    plain = Judgement(Inspection(0.4, {}, (), 16), known_why=True, without_any=True)
    assert "dnd-instruction" in plain.html(), "a link leads to its field"
    assert "#dnd-teach-open" not in plain.html()
    labelled = replace(plain, labelled=True, teachable=True)
    assert "#dnd-teach-open" in labelled.html()


RAISED, LOWERED = (
    f"Teaching {verb} the score on the prompts held back from it." for verb in ("raised", "lowered")
)
BY_ONE = (
    "Teaching lowered the score on the prompts held back from it by one prompt at most, which may "
    "be chance."
)
NOT_RAISED = (
    "Teaching did not raise the score on the prompts held back from it; it may have helped with "
    "other prompts."
)


@pytest.mark.parametrize(
    ("count", "before", "now", "head", "brought", "mark"),
    [
        (8, 0.25, 0.75, "It works without the instruction.", RAISED, "check"),
        (8, 0.75, 0.75, "It works without", NOT_RAISED, "check"),
        (4, 0.25, 1.0, "It works without the instruction.", RAISED, "check"),
        (
            4,
            0.25,
            0.75,
            "It seems to work without the instruction, judged on 4 prompts",
            RAISED,
            "info",
        ),
        (
            2,
            0.5,
            1.0,
            "It seems to work without the instruction, judged on 2 prompts",
            RAISED,
            "info",
        ),
        (4, 0.25, 0.5, "It works in part without", RAISED, "info"),
        (4, 0.4, 0.4, "It works poorly without", NOT_RAISED, "warn"),
        (8, 1.0, 0.75, "It works without", LOWERED, "warn"),
        (3, 1.0, 2 / 3, "It works in part without", BY_ONE, "warn"),
        (8, 0.625, 0.6, "It works in part without", BY_ONE, "warn"),  # longer answers
    ],
)
def test_after_teaching_the_held_back_prompts_are_the_verdict(
    count: int, before: float, now: float, head: str, brought: str, mark: str
) -> None:
    found = Inspection(0.4, {}, (), 16)
    learnt = Learnt(count, before, now, by_itself=False)
    judged = Judgement(found, changed_by="person", learnt=learnt, undoable=True)
    told = judged.html()
    assert f"<b>{head}" in told
    assert f"{brought} {count} held-back prompts: {before:.0%}".replace("%", " %") in told
    assert f"dnd-icon-{mark}" in told
    warned = judged.warns
    assert ("is-warn" in told) == ("You can undo" in told) == warned == (mark == "warn")
    assert ("Only the expected wording counts." in told) == (now < 0.5)
    # Whoever corrected them is not advised to.
    assert "correct its answers yourself" not in told
    taught = replace(judged, changed_by="teacher", teachable=True)
    assert ("You can undo, or correct its answers yourself" in taught.html()) == warned
    # One from the library has no Undo, and without its prompts nothing to correct.
    loaded = replace(taught, undoable=False)
    assert ("You can correct its answers yourself" in loaded.html()) == warned
    assert "undo" not in loaded.html()
    assert "You can" not in replace(loaded, teachable=False).html()


def test_after_teaching_a_mix_the_figures_of_each_bucket_stay() -> None:
    found = Inspection(0.4, {}, (), 16)

    def told(learnt: Learnt) -> str:
        return Judgement(found, changed_by="itself", learnt=learnt).html()

    parts = (LearntPart("recipe", 4, 1.0), LearntPart("<b>rubbish", 4, 0.5))
    uneven = told(Learnt(8, 0.25, 0.75, by_itself=True, by_bucket=parts))
    assert "for recipe (4 of 4), and for some prompts of &lt;b&gt;rubbish (2 of 4)." in uneven
    assert "Whether its answers are right, only you can tell." in uneven
    assert "dnd-icon-check" not in uneven
    assert "is-warn" not in uneven
    parts = (LearntPart("recipe", 4, 1.0), LearntPart("rubbish", 4, 0.25))
    assert "is-warn" in told(Learnt(8, 0.25, 0.625, by_itself=True, by_bucket=parts))
    parts = (LearntPart("recipe", 4, 1.0), LearntPart("rubbish", 4, 0.75))
    even = told(Learnt(8, 0.25, 0.875, by_itself=True, by_bucket=parts))
    assert "<b>It works without the instruction.</b>" in even
    assert "recipe (4 of 4). rubbish (3 of 4)." in even.partition("<details>")[2]
    assert "only you can tell" in even
    parts = (LearntPart("recipe", 3, 0.41), LearntPart("rubbish", 3, 0.0))
    poor = told(Learnt(6, 0.0, 0.2, by_itself=True, by_bucket=parts))
    assert "recipe (41 % of 3)" in poor
    assert str(LearntPart("recipe", 3, 0.667).words) == "recipe (2 of 3)"
    assert "only you can tell" not in poor
    parts = (LearntPart("recipe", 8, 1.0), LearntPart("rubbish", 0, 0.0))
    unchecked = told(Learnt(8, 0.25, 1.0, by_itself=True, by_bucket=parts))
    assert (
        "It seems to work without the instruction for recipe; rubbish was not checked." in unchecked
    )
    parts = (LearntPart("recipe", 8, 0.0), LearntPart("rubbish", 0, 0.0))
    unchecked = told(Learnt(8, 0.25, 0.0, by_itself=True, by_bucket=parts))
    assert "No prompt of rubbish was held back for the check." in unchecked


def test_to_come_closer_to_poor_answers_is_no_help() -> None:
    learnt = Learnt(4, 0.0, 0.75, by_itself=True, from_poor=True)
    told = Judgement(Inspection(0.4, {}, (), 16), changed_by="itself", learnt=learnt).html()
    assert "the model that taught it does not know the task" in told
    assert "It came closer to that model" in told
    assert RAISED not in told


def test_teaching_that_harms_other_answers_is_no_plain_success() -> None:
    found = Inspection(0.4, {}, (), 16, skills=Skills(20, 2, 18, 60))
    learnt = Learnt(4, 0.0, 0.75, by_itself=True)
    told = Judgement(found, changed_by="itself", learnt=learnt).html()
    assert "2 of 60 unrelated questions right, where the base has 20" in told
    assert "0 % answered as its teacher does before, 75 % after the last step" in told
    assert "dnd-icon-check" not in told


def test_who_gave_enough_prompts_is_not_asked_for_more() -> None:
    agrees = Agreement(0, 8, left_out=True, wavering=8)
    found = Inspection(0.4, {}, (), 16, agrees, verdict=judge(agrees))
    assert "16 or more work best" in Judgement(found, num_prompts=12).html()
    assert "16 or more" not in Judgement(found, num_prompts=20).html()


def test_an_instruction_that_is_not_imprinted_is_said_to_be_the_cause() -> None:
    agrees = Agreement(1, 8)
    found = Inspection(0.4, {}, (), 16, agrees, verdict=judge(agrees))
    told = Judgement(found, num_prompts=20, imprintable=True).html()
    assert "press Imprint above" in told
    assert "teach" not in told


def test_a_bucket_behind_a_verdict_is_named_as_plain_text() -> None:
    parts = (BucketShare("<b>Notes", 1, 4), BucketShare("Bills", 7, 8))
    agrees = Agreement(8, 12, left_out=True, by_bucket=parts)
    told = Judgement(Inspection(0.4, {}, (), 16, agrees, verdict=judge(agrees))).html()
    assert "&lt;b&gt;Notes: 1 of 4. Bills: 7 of 8." in told.partition("<details>")[2]


def test_a_bucket_that_a_favourable_verdict_hides_is_named_beside_it() -> None:
    parts = (BucketShare("<b>Notes", 2, 4), BucketShare("Bills", 4, 4))
    agrees = Agreement(6, 8, left_out=True, by_bucket=parts)
    found = Inspection(0.4, {}, (), 16, agrees, verdict=(verdict := judge(agrees)))
    told = Judgement(found).html()
    assert (
        "<b>It works without the instruction for Bills (4 of 4), and for some prompts of "
        "&lt;b&gt;Notes (2 of 4).</b>" in told
    )
    assert "For &lt;b&gt;Notes, send the instruction with your input, or teach" in told
    assert "dnd-icon-check" not in told
    assert "Carries the instruction in part" in checks_html("done", found)
    parts = (BucketShare("Notes", 0, 4), BucketShare("Bills", 4, 4))
    agrees = Agreement(4, 8, left_out=True, by_bucket=parts)
    failed = Inspection(0.4, {}, (), 16, agrees, verdict=judge(agrees))
    told = Judgement(failed).html()
    assert "for Bills (4 of 4), but not for Notes (0 of 4).</b>" in told
    assert "is-warn" in told
    assert "is-doubt" in checks_html("done", failed)
    parts = (BucketShare("Notes", 3, 4), BucketShare("Bills", 4, 4))

    told = Judgement(replace(found, verdict=replace(verdict, same=7, by_bucket=parts))).html()
    assert "<b>It works without the instruction.</b>" in told
    assert "dnd-icon-check" in told


def test_the_answers_that_a_verdict_rests_on_can_be_read() -> None:
    one = Answered(
        bucket="Notes", input="<i>milk", bare="tea", instructed="<b>tea", same=False, label="tea"
    )
    agrees = Agreement(1, 2, answers=(one, replace(one, bare="cup", same=True, label=None)))
    found = Inspection(0.4, {}, (), 16, agrees, verdict=judge(agrees))
    told = Judgement(found).html().partition("Read the answers")[2]
    assert "A tick means: as the model answers with the instruction." in told
    assert "<th scope='row'>&lt;i&gt;milk</th>" in told
    assert "another answer: </span>tea</td><td>&lt;b&gt;tea</td><td>tea</td>" in told
    assert "the same: </span>cup</td><td>&lt;b&gt;tea</td><td></td>" in told
    assert "Bucket" not in told, "there is one bucket only"
    labelled = replace(
        agrees,
        labels=Labels(3, 3, 4),
        answers=(one, replace(one, bucket="Bills", right=True), replace(one, label=None)),
    )
    told = Judgement(replace(found, verdict=judge(labelled))).html()
    assert "A tick means: right by the label." in told
    assert "<td>Bills</td>" in told
    assert (told.count("right: </span>"), told.count("wrong: </span>")) == (1, 1)
    assert "<td>tea</td>" in told, "an answer without a label counts for nothing here"
    known, _proof = recall(inspected(found), (), None)
    assert known is not None
    assert "Read the answers" not in Judgement(known).html(), "nothing stored contains prompts"


def test_instructions_that_are_needed_can_be_sent() -> None:
    agrees = Agreement(2, 8, left_out=True)
    found = Inspection(0.4, {}, (), 16, agrees, verdict=judge(agrees))
    assert "Send the instruction with your input, or teach the adapter." in Judgement(found).html()
    told = Judgement(found, teachable=True).html()
    assert "data-presses='#dnd-teach-open'>teach the adapter</button>." in told


@pytest.mark.parametrize(
    ("agreement", "outlook", "title", "doubt"),
    [
        (Agreement(8, 8), GAINED, "Carries the instruction", False),
        (Agreement(4, 8), GAINED, "Carries the instruction in part", False),
        (Agreement(3, 8), GAINED, "Carries the instruction in part", True),
        (Agreement(0, 8), IDLE, "Does not carry the instruction", True),
        (Agreement(0, 8), None, "Does not carry the instruction", True),
        (Agreement(0, 8), GAINED, "Does not carry the instruction", True),
        (Agreement(0, 3), IDLE, "Does not carry the instruction", True),
    ],
)
def test_checks_tell_whether_the_instruction_is_carried_and_doubt_with_reason(
    agreement: Agreement, outlook: Outlook | None, title: str, doubt: bool
) -> None:
    found = Inspection(0.4, {}, (), 16, agreement, outlook)
    html = checks_html("done", found)
    assert f"<b>{title}</b>" in html
    assert f"{agreement.same} of {agreement.num_prompts}" in html
    assert ("is-doubt" in html) == doubt
    assert ("does not carry your instruction" in Judgement(found).html()) == (agreement.same == 0)


@pytest.mark.parametrize(
    ("right", "told", "head", "line", "mark"),
    [
        (7, 7, "It works without the instruction.", "Right by your labels", "check"),
        (5, 7, "It works without the instruction for some prompts only: 5 of 8.", "Right", "info"),
        (0, 7, "It works only with the instruction.", "Wrong by your labels", "warn"),
        (1, 2, "It does not work: teach it.", "The model does not know the task", "warn"),
    ],
)
def test_where_prompts_have_labels_these_decide(
    right: int, told: int, head: str, line: str, mark: str
) -> None:
    agrees = Agreement(8, 8, left_out=True, labels=Labels(right, told, 8))
    found = Inspection(0.4, {}, (), 16, agrees, verdict=judge(agrees))
    html, lines = Judgement(found).html(), checks_html("done", found)
    assert f"<b>{head}</b>" in html
    assert "only you can tell" not in html
    assert f"By your labels, {right} of 8 answers are right without the instruction" in html
    assert ("By your labels" in html.partition("<details>")[0]) == (line.startswith("The model"))
    assert f"<b>{line}" in lines
    assert f"dnd-icon-{mark}" in html
    assert "Carries the instruction" not in lines
    assert ("teach it below" in html) == Judgement(found).warns == (mark == "warn")


def test_what_a_run_ends_with_leaves_answers_that_are_written_alone(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    """On a slow machine it may reach the page after the answer to a question asked at once."""
    session, page = Session(), request_of("s")
    canvas = arrange(SQL={"a.txt": "one\n\ntwo\n"})
    assert {"left_pane", "right_pane"} <= make(on, session, canvas, page).keys()
    on.synthesis.begin_synthesis(canvas, session)
    list(on.synthesis.synthesize(session, "sum", 1, page))
    on.compare.ask("Hello", "written", session)
    ended = on.runs.show_run(session)
    assert "adapter_facts" in ended
    assert not {"left_pane", "right_pane"} & ended.keys()


def test_a_new_adapter_takes_the_verdict_on_the_one_before_away(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    """It stood for seconds beside the new one's name, until the next event answered."""
    session, page = Session(), request_of("s")
    first = make(on, session, arrange(SQL={"a.txt": "one\n\ntwo\n"}), page)
    on.adapter.check(session)
    on.synthesis.begin_synthesis(arrange(SQL={"a.txt": "three\n\nfour\n"}), session)
    (handed,) = (
        shown
        for shown in on.synthesis.synthesize(session, "pool", 0, page)
        if "adapter_facts" in shown
    )
    assert handed["adapter_facts"] != first["adapter_facts"]
    assert "Checking" in handed["warning"]


@pytest.mark.parametrize(
    ("same", "wavering", "head", "mark", "doubt"),
    [
        (8, 0, "It works without the instruction.", "check", False),
        (6, 0, "It works without the instruction.", "check", False),
        (5, 0, "It works without the instruction for some prompts only: 5 of 8.", "info", False),
        (3, 0, "It rarely works without the instruction: for 3 of 8 prompts.", "warn", False),
        (1, 0, "It rarely works without the instruction: for 1 of 8 prompts.", "warn", False),
        (0, 0, "At best, it works with the instruction.", "warn", False),
        (8, 5, "It does not work: teach it.", "warn", True),
    ],
)
def test_the_verdict_comes_in_one_sentence_with_its_reasons(
    same: int, wavering: int, head: str, mark: str, doubt: bool
) -> None:
    agrees = Agreement(same, 8, left_out=True, wavering=wavering)
    found = Inspection(0.4, {}, (), 16, agrees, verdict=judge(agrees))
    html = Judgement(found).html()
    assert f"<b>{head}</b>" in html
    assert html.count("<b>") == 1
    assert f"Of 8 prompts left out of the fit, it answers {same}" in html
    assert f"dnd-icon-{mark}" in html
    assert ("is-warn" in html) == (mark == "warn")
    assert Judgement(found).warns == (mark == "warn")
    assert ("teach it below" in html) == Judgement(found).is_doubtful == (doubt or same == 0)
    lines = checks_html("done", found)
    assert ("is-doubt" in lines) == (mark == "warn")
    # Nothing says that its answers are poor.
    assert ("The model is unsure of the task" in lines) == doubt
    assert "The model does not know" not in lines
    assert ("Carries the instruction" in lines) == (not doubt and same > 0)
    (visible, _folded) = html.split("<details>")
    assert ("only you can tell" in visible) == (mark in ("check", "info"))
    assert ("unsure of its answer to 5 of 8 prompts" in visible) == doubt
    with speaking("de"):
        german = Judgement(found).html()
        assert head not in german
        assert "beantwortet er ohne die Anweisung" in german


@pytest.mark.parametrize(
    ("same", "title", "doubt"),
    [
        (52, "Other answers keep their style", False),
        (51, "Changes the style of a few other answers", False),
        (48, "Changes the style of a few other answers", False),
        (47, "Changes the style of some other answers", False),
        (32, "Changes the style of some other answers", False),
        (31, "Changes the style of other answers", True),
        (0, "Changes the style of other answers", True),
    ],
)
def test_checks_tell_whether_other_questions_are_left_alone(
    same: int, title: str, doubt: bool
) -> None:
    """The number counts what is kept under every title: 64 of 64 is never bad."""
    found = Inspection(0.4, {}, (), 16, Agreement(8, 8), ordinary=Ordinary(same, 64, 0.5))
    html = checks_html("done", found)
    assert f"<b>{title}</b>" in html
    assert f">{same} of 64 kept<" in html
    assert ("is-doubt" in html) == Judgement(found).warns == doubt
    judged = Judgement(replace(found, agreement=None)).html()
    assert ("changes answers that it should leave alone" in judged) == doubt
    assert ("is-warn" in judged) == doubt


@pytest.mark.parametrize(
    ("after", "title", "counted", "doubt"),
    [
        (18, "Other answers stay right", "18 of 24 right, base 20", False),
        (15, "Gets a few more questions wrong", "15 of 24 right, base 20", False),
        (14, "Gets other questions wrong", "14 of 24 right, base 20", True),
    ],
)
def test_checks_tell_whether_unrelated_answers_stay_right(
    after: int, title: str, counted: str, doubt: bool
) -> None:
    found = Inspection(0.4, {}, (), 16, Agreement(8, 8), skills=Skills(20, after, 20 - after, 24))
    html = checks_html("done", found)
    assert f"<b>{title}</b>" in html
    assert html.count(f">{counted}<") == 1
    assert "unrelated questions" not in html  # one row
    assert ("is-doubt" in html) == Judgement(found).warns == doubt


def test_few_prompts_earn_no_tick() -> None:
    found = Inspection(None, {}, (), 3, Agreement(3, 3))
    assert "dnd-icon-check" not in checks_html("done", found)


def test_checks_tell_what_agreement_was_worth_on_unseen_tasks_where_that_is_known() -> None:
    known = Inspection(0.4, {}, (), 16, Agreement(8, 8), GAINED)
    html = checks_html("done", known)
    assert "On 12 unseen tasks with about as much agreement" in html
    assert "changed the score by +0.43 (+0.22 to +0.61) without the instruction" in html
    assert "Rank correlation of agreement and gain: +0.57." in html
    unknown = checks_html("done", replace(known, outlook=None))
    assert "unseen task" not in unknown
    unranked = replace(known, outlook=replace(GAINED, rank_correlation=None))
    assert "Rank" not in checks_html("done", unranked)
    imprinted = replace(known, outlook=None, precedent=FOUND_TO_WORK)
    html = checks_html("done", imprinted, changed_by="imprint")
    assert "unseen tasks with this verdict (17), imprinted adapters of this generator" in html
    assert "scored 0.46 (0.29 to 0.63) without the instruction" in html


@pytest.mark.parametrize("changed_by", ["imprint", "itself"])
def test_what_adapters_gained_before_an_imprint_is_not_told_of_later_ones(
    changed_by: ChangedBy,
) -> None:
    """Earlier versions kept an outlook with them, and not always a verdict to tell it by."""
    kept = Inspection(0.4, {}, (), 0, Agreement(8, 8), GAINED)
    assert "changed the score by" in checks_html("done", kept)
    assert "changed the score by" not in checks_html("done", kept, changed_by=changed_by)


@pytest.mark.parametrize(
    ("effect", "strongest", "told"), [(12.5, 12.0, True), (12.5, None, False), (20.5, None, True)]
)
def test_an_adapter_is_called_too_strong_beside_examined_ones_or_a_plain_bound(
    effect: float, strongest: float | None, told: bool
) -> None:
    found = Inspection(effect, {}, (), 16, Agreement(8, 8), None, strongest)
    assert ("unusually much" in checks_html("done", found)) == told
    warning = Judgement(found).html()
    assert ("may garble answers" in warning) == told
    assert "teach it below" not in warning
    assert not Judgement(found).is_doubtful


@pytest.mark.parametrize(("similarity", "unlike"), [(0.42, True), (0.43, False), (0.9, False)])
def test_prompts_farther_from_training_than_all_that_was_examined_are_warned_of(
    similarity: float, unlike: bool
) -> None:
    nearest = (NearestTask("wikisql", "Question to SQL", similarity),)
    found = Inspection(0.4, {}, nearest, 16, Agreement(8, 8), familiarity=familiarity(similarity))
    html = checks_html("done", found)
    assert ("Far from the generator" in html) == unlike
    assert "the nearest training task of 80 unseen tasks was at 0.43 to 0.97." in html
    assert "a rank correlation of -0.22 (-0.44 to +0.05), where 0 is nothing." in html
    warning = Judgement(found).html()
    assert ("are far from what" in warning) == ("teach it below" in warning) == unlike
    assert "strength" not in warning
    assert Judgement(found).is_doubtful == Judgement(found).warns == unlike
    imprinted = checks_html("done", found, changed_by="imprint")
    assert ("Far from the generator" in imprinted) == unlike
    assert "is-doubt" not in imprinted
    assert not Judgement(found, changed_by="imprint").warns
    assert not Judgement(found, changed_by="imprint").is_doubtful
    refined = checks_html("done", found, changed_by="itself")
    assert "Far from the generator" not in refined
    unexamined = checks_html("done", replace(found, familiarity=None))
    assert "unseen tasks" not in unexamined


def test_more_strength_is_not_advised_where_it_is_too_strong() -> None:
    found = Inspection(13.0, {}, (), 16, Agreement(0, 8), IDLE, 12.0)
    warning = Judgement(found).html()
    assert "try a lower strength" in warning
    assert "teach it below" in warning
    assert "More strength" not in warning
    weak = replace(found, effect=0.5)
    assert "More strength" in Judgement(weak).html()


def test_what_speaks_twice_against_an_adapter_is_said_under_one_head() -> None:
    found = Inspection(0.001, {}, (), 16, Agreement(0, 8), IDLE)
    warning = Judgement(found).html()
    assert warning.count("unlikely to help") == 1
    assert "as it was. It does not carry your instruction." in warning


def test_prompts_without_an_instruction_are_told_so_and_cast_no_doubt() -> None:
    found = Inspection(0.4, {}, (), 16)
    assert "No instruction to leave out" in checks_html("done", found)
    assert not Judgement(found).is_doubtful


def test_a_refined_adapter_is_not_praised_for_what_it_was_taught() -> None:
    found = Inspection(0.4, {}, (), 16)
    html = checks_html("done", found, changed_by="itself")
    assert "Taught on your prompts" in html
    assert "instruction to leave out" not in html
    assert Judgement(found, changed_by="itself").html() == ""


def test_a_proof_is_shown_and_goes_onto_the_card_of_a_new_zip(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    session = Session()
    make(on, session, arrange(SQL={"a.txt": "one\ntwo\n"}), request_of("s"))
    assert list(on.adapter.prove(session)) == []  # not before the first checks
    on.adapter.check(session)
    made = session.made
    assert made is not None
    assert "download" in on.adapter.prepare_download(session, request_of("s"))
    *steps, last = on.adapter.prove(session)
    assert "shuffled prompts" in steps[0]["proof"]
    assert "Yes." in last["proof"]
    assert "Word order barely matters" in last["proof"]
    assert "+0.58" in last["proof"]
    assert "download" in on.adapter.prepare_download(session, request_of("s"))
    assert made.archive is not None
    with zipfile.ZipFile(made.archive) as archive:
        assert "'proved': True" in archive.read("README.md").decode()


@pytest.mark.parametrize(
    ("bucket", "words"),
    [
        ("Doubt", "made from another task's prompts does about as well"),
        ("Few", "This needs two prompts"),
    ],
)
def test_what_could_not_be_proved_is_told(
    on: Handlers, arrange: Arrange, request_of: RequestOf, bucket: str, words: str
) -> None:
    session = Session()
    make(on, session, arrange(**{bucket: {"a.txt": "one\n"}}), request_of("s"))
    on.adapter.check(session)
    *_, last = on.adapter.prove(session)
    assert words in last["proof"]
    assert "Yes." not in last["proof"]


def test_a_proof_that_failed_quotes_as_every_error_does() -> None:
    drawn = proof_html(None, failed="`q_proj` is <b>\nmissing.")
    assert "<code>q_proj</code> is &lt;b&gt;\nmissing." in drawn


@pytest.mark.parametrize(
    ("controls", "words"),
    [
        ((CONTROL, BASE_ALONE), "Yes. Other prompts do clearly worse."),
        ((replace(CONTROL, low=-0.1), BASE_ALONE), "prompts does about as well."),
        ((replace(CONTROL, low=-0.9, high=-0.1), BASE_ALONE), "prompts does better."),
        ((BASE_ALONE,), "Not known: no adapter could be made from another task's prompts."),
    ],
)
def test_a_proof_without_a_generator_concludes_from_the_controls_it_has(
    controls: tuple[Control, ...], words: str
) -> None:
    proof = Conditioning(1.23, 16, controls, ("Tone",))
    drawn = proof_html(proof)
    assert " nats per token</small>" in drawn
    assert words in drawn
    assert proof.depends == ("Yes." in drawn)
    assert drawn.count("<li>") == len(controls)
    assert "Word order" not in drawn


def test_a_proof_promises_no_control_that_a_base_without_generator_lacks() -> None:
    offered = proof_html(None)
    assert "one made from another task's prompts" in offered
    assert "shuffled" not in offered


def test_nobody_calls_an_adapter_stale_that_is_about_to_be_remixed(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    session = Session()
    files = {"SQL": {"a.txt": "one\n"}, "Legal": {"b.txt": "two\n"}}
    make(on, session, arrange(**files), request_of("s"))
    lighter = arrange({"SQL": 0.5}, **files)
    told = on.prompts.update_prompts(replace(lighter, remixing=True), session, request_of("s"))
    assert "adapter_facts" not in told
    told = on.prompts.update_prompts(lighter, session, request_of("s"))
    assert "Not made from the buckets as they are now" in told["adapter_facts"]


def test_a_remix_that_is_faster_than_the_reading_of_its_canvas_is_not_called_stale(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    session = Session()
    files = {"SQL": {"a.txt": "one\n"}, "Legal": {"b.txt": "two\n"}}
    make(on, session, arrange(**files), request_of("s"))
    lighter = replace(arrange({"SQL": 0.5}, **files), remixing=True)
    on.synthesis.begin_remix(lighter, session)
    shown = synthesized(on, session, request_of("s"))
    assert session.canvas != lighter
    assert session.made is not None
    assert [bucket.weight for bucket in session.made.buckets] == [0.5, 1.0]
    assert "Not made from" not in shown["adapter_facts"]
