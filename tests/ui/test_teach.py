"""Refine and Undo as plain functions, with an engine without models."""

import json
import time
from collections.abc import Callable, Generator
from dataclasses import replace

import gradio as gr

from tests.ui.fake_engine import FakeEngine
from tests.ui.orders import make, synthesized
from ui.canvas import Arrangement
from ui.handlers import Handlers, Updates
from ui.state import Session

Arrange = Callable[..., Arrangement]
RequestOf = Callable[[str], gr.Request]


def prompts(count: int, word: str = "good", **more: str) -> str:
    """A JSONL file of prompts: an instruction, a blank line, an input."""
    rows = ({"prompt": f"Say yes.\n\n{word} {i}", **more} for i in range(count))
    return "".join(json.dumps(row) + "\n" for row in rows)


def refine(
    on: Handlers, session: Session, request: gr.Request, *, labels: bool = False
) -> list[Updates]:
    return [
        on.teach.begin(session, labels),
        *on.teach.teach(session, request),
        on.runs.show_run(session),
    ]


def test_a_refined_adapter_takes_the_place_of_the_one_before(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    session = Session()
    make(on, session, arrange(SQL={"a.jsonl": prompts(9)}), request_of("s"))
    before = session.made
    assert before is not None
    on.adapter.set_strength(session, 1.5)
    started, *steps, done = refine(on, session, request_of("s"))
    assert started["teach_stop"].visible is True
    assert started["teach_box"].visible is True
    assert any("s left" in update["stages"] for update in steps)
    assert "“yes.” to 4 of 9 prompts, 3 different answers" in done["stages"]
    made = session.made
    assert made is not None
    assert made.adapter.sha256 != before.adapter.sha256
    assert made.norms != before.norms
    assert made.archive is not None
    assert made.archive != before.archive
    assert engine.refinements[-1]["from"] == before.adapter.sha256
    assert done["strength"] == 1.0
    assert "refined in 28 s" in done["adapter_facts"]
    assert made.adapter.sha256[:8] in done["adapter_facts"]
    assert "How it was refined" in done["stages"]
    assert done["undo"].visible is True
    assert done["teach_box"].visible is False
    assert done["teach_open"].visible is True
    assert done["teach_open"].interactive is True
    assert "Measuring" in done["checks"]
    assert "Changes the model" in on.adapter.check(session)["checks"]


def test_one_answer_for_all_is_a_reason_to_doubt(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    session = Session()
    make(on, session, arrange(SQL={"a.jsonl": prompts(9, "ALIKE")}), request_of("s"))
    refine(on, session, request_of("s"))
    checked = on.adapter.check(session)
    assert "Learnt one answer for all" in checked["checks"]
    assert "one and the same answer for nearly all" in checked["warning"]
    assert "unlikely to help" not in checked["warning"]
    assert session.made is not None
    strange = replace(
        session.made.adapter, provenance={**session.made.adapter.provenance, "refined": "x"}
    )
    session.made.adapter = strange
    assert session.made.taught == "refined"


def test_undo_goes_back_at_once_with_all_that_was_known(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    session = Session()
    make(on, session, arrange(SQL={"a.jsonl": prompts(9)}), request_of("s"))
    on.adapter.check(session)
    on.adapter.set_strength(session, 0.5)
    on.adapter.prepare_download(session, request_of("s"))
    before = session.made
    assert before is not None
    refine(on, session, request_of("s"))
    refine(on, session, request_of("s"))
    on.teach.undo(session)
    undone = on.teach.undo(session)
    assert session.made is before
    assert undone["strength"] == 0.5
    assert undone["undo"].visible is False
    assert before.archive is not None
    assert undone["download"].value["orig_name"] == before.archive.name
    assert "Changes the model" in undone["checks"]
    assert "How it was made" in undone["stages"]
    assert "refined" not in undone["adapter_facts"]
    assert on.adapter.check(session) == {}
    assert on.adapter.prepare_download(session, request_of("s")) == {}
    assert on.teach.undo(session) == {}
    assert len(engine.calls) == 1


def test_a_new_synthesis_clears_undo(on: Handlers, arrange: Arrange, request_of: RequestOf) -> None:
    session = Session()
    arrangement = arrange(SQL={"a.jsonl": prompts(9)})
    make(on, session, arrangement, request_of("s"))
    refine(on, session, request_of("s"))
    assert make(on, session, arrangement, request_of("s"))["undo"].visible is False
    assert on.teach.undo(session) == {}


def test_it_learns_from_what_the_adapter_was_made_from_not_from_the_canvas(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    session = Session()
    make(on, session, arrange(SQL={"a.jsonl": prompts(9, "old")}), request_of("s"))
    on.prompts.update_prompts(arrange(SQL={"b.jsonl": prompts(9, "new")}), session, request_of("s"))
    done = refine(on, session, request_of("s"))[-1]
    assert all("old" in text for text in engine.refinements[-1]["texts"])
    assert "Made from earlier prompts." in done["adapter_facts"]


def test_stop_keeps_the_adapter_and_closes_the_engine(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    session = Session()
    make(on, session, arrange(SQL={"a.jsonl": prompts(9)}), request_of("s"))
    before = session.made
    engine.stage_seconds = 0.5
    on.teach.begin(session, False)
    steps = on.teach.teach(session, request_of("s"))
    while "Loss" not in next(steps)["stages"]:
        pass
    stopped = on.runs.stop_run(session)
    assert "The adapter is unchanged." in stopped["stages"]
    assert stopped["teach_start"].visible is True
    assert stopped["teach_open"].interactive is True
    list(steps)
    assert session.made is before
    wait_for(lambda: engine.closed_refinements == 1)
    assert engine.refinements[-1]["steps"] < 5


def test_a_page_that_is_closed_ends_the_refinement(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    session = Session()
    make(on, session, arrange(SQL={"a.jsonl": prompts(9)}), request_of("s"))
    engine.stage_seconds = 0.5
    on.teach.begin(session, False)
    steps = on.teach.teach(session, request_of("s"))
    while "Loss" not in next(steps)["stages"]:
        pass
    assert isinstance(steps, Generator)
    steps.close()
    wait_for(lambda: engine.closed_refinements == 1)
    assert engine.refinements[-1]["steps"] < 5


def test_a_synthesis_ordered_meanwhile_stops_the_refinement_without_a_word_of_it(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    session = Session()
    arrangement = arrange(SQL={"a.jsonl": prompts(9)})
    make(on, session, arrangement, request_of("s"))
    engine.stage_seconds = 0.1
    on.teach.begin(session, False)
    steps = on.teach.teach(session, request_of("s"))
    next(steps)
    ordered = on.synthesis.begin_synthesis(arrangement, session)
    assert ordered["teach_box"].visible is False
    assert ordered["teach_open"].interactive is False
    (update,) = steps
    assert "Refin" not in update["stages"]
    assert on.runs.show_run(session) == {}
    done = synthesized(on, session, request_of("s"))
    assert done["teach_open"].interactive is True
    assert session.made is not None
    assert not session.made.refined


def test_one_that_waits_in_the_queue_never_starts_once_stopped(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    session = Session()
    assert on.teach.begin(session, False) == {}
    assert on.runs.stop_run(session) == {}
    make(on, session, arrange(SQL={"a.jsonl": prompts(9)}), request_of("s"))
    on.teach.begin(session, False)
    on.runs.stop_run(session)
    assert list(on.teach.teach(session, request_of("s"))) == []
    assert engine.refinements == []


def test_too_few_prompts_are_told_and_the_adapter_stays(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    session = Session()
    make(on, session, arrange(SQL={"a.txt": "one\ntwo\n"}), request_of("s"))
    before = session.made
    failed = refine(on, session, request_of("s"))[-1]
    assert "Refining failed; the adapter is unchanged." in failed["stages"]
    assert "Refine needs 8 or more" in failed["stages"]
    assert "got 0 (2 without a blank line)" in failed["stages"]
    assert "is-failed" in failed["stages"]
    assert failed["teach_start"].visible is True
    assert session.made is before


def test_an_unforeseen_error_puts_the_buttons_back(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    session = Session()
    make(on, session, arrange(SQL={"a.jsonl": prompts(9)}), request_of("s"))
    on.teach.begin(session, False)
    broke = on.runs.run_broke(session)
    assert "Something broke" in broke["stages"]
    assert broke["teach_stop"].visible is False
    assert on.runs.run_broke(Session()) == {}


def test_labels_are_offered_only_where_enough_prompts_have_one(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    for count, label, offered in (
        (9, {}, False),
        (7, {"label": "x"}, False),
        (8, {"label": "x"}, True),
    ):
        session = Session()
        name = f"{count}{len(label)}.jsonl"
        updates = make(on, session, arrange(SQL={name: prompts(count, **label)}), request_of("s"))
        assert updates["teach_labels"].visible is offered
        assert updates["teach_labels"].value is False
        assert updates["teach_labels"].interactive is True
    started, *_, done = refine(on, session, request_of("s"), labels=True)
    assert engine.refinements[-1]["labels"] is True
    assert "Ask" not in started["stages"]
    assert "refined on labels in 28 s" in done["adapter_facts"]


def test_a_doubtful_adapter_comes_with_the_offer_and_a_refined_one_without(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    session = Session()
    make(on, session, arrange(SQL={"a.jsonl": prompts(9, "NOTHING")}), request_of("s"))
    doubtful = on.adapter.check(session)
    assert doubtful["teach_box"].visible is True
    assert "refine it below" in doubtful["warning"]
    refine(on, session, request_of("s"))
    updates = on.adapter.check(session)
    assert updates["warning"] == ""
    assert "teach_box" not in updates
    assert updates["download"].variant == "primary"
    assert "Refined on your prompts" in updates["checks"]
    assert on.teach.undo(session)["teach_box"].visible is True


def test_visits_refine_their_own(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    one, two = Session(), Session()
    make(on, one, arrange(SQL={"a.jsonl": prompts(9, "mine")}), request_of("one"))
    make(on, two, arrange(SQL={"b.jsonl": prompts(9, "yours")}), request_of("two"))
    kept = two.made
    refine(on, one, request_of("one"))
    assert all("mine" in text for text in engine.refinements[-1]["texts"])
    assert two.made is kept
    assert two.run is not one.run
    assert on.teach.undo(two) == {}


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(200):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it never came true")
