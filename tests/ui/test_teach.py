"""Teach and Undo as plain functions, with an engine without models."""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest

from dnd_engine.checks.verdict import Agreement, judge
from dnd_engine.config import EngineConfig, RefineConfig
from dnd_engine.library import Library
from dnd_engine.limits import PromptLimits
from dnd_engine.tasks.folder import Example
from dnd_engine.teach.local import LocalTeacher
from tests.dnd_engine.serving.chat_server import running_chat
from tests.present import present
from tests.ui.conftest import OWNERS_KEY
from tests.ui.fake_adapter import FakeAdapter
from tests.ui.fake_engine import FakeEngine
from tests.ui.orders import make, synthesized
from tests.until import until
from ui.canvas import Arrangement
from ui.engine_calls import EngineCalls
from ui.engine_handle import EngineHandle
from ui.handlers import Handlers
from ui.owner import Owner
from ui.session_files import SessionFiles
from ui.shared import App, Updates
from ui.state import Made, Session
from ui.tabs.workbench.adapter.learnt import LearntPart, learnt
from ui.tabs.workbench.adapter.view import adapter_html
from ui.tabs.workbench.teach.answers import NUM_ROWS, AnswerFields, AnswersData, TypedAnswers
from ui.tabs.workbench.teach.events import rows
from ui.tabs.workbench.teach.view import PROPOSED_TOGETHER, Door, Place, TeachPanel

Arrange = Callable[..., Arrangement]
RequestOf = Callable[[str], gr.Request]


def prompts(count: int, word: str = "good", **more: str) -> str:
    """A JSONL file of prompts: an instruction, a blank line, an input."""
    rows = ({"prompt": f"Say yes.\n\n{word} {i}", **more} for i in range(count))
    return "".join(json.dumps(row) + "\n" for row in rows)


def begin(
    on: Handlers,
    session: Session,
    request: gr.Request,
    door: Door = "itself",
    *answers: str,
    labels: bool = False,
    server: tuple[str, str, str] = ("", "", ""),
    base: str | None = None,
) -> Updates:
    """Press Start; a base is a model on this computer."""
    place: Place = "server" if base is None else "local"
    sent = (*server, base or "", typed(session, *answers))
    return on.teach.begin(session, door, labels, place, *sent, request)


def typed(session: Session, *answers: str) -> TypedAnswers:
    """What a page sends that shows the proposed answers of the visit."""
    return TypedAnswers("" if session.proposed is None else session.proposed.key, answers)


def refine(
    on: Handlers, session: Session, request: gr.Request, *, labels: bool = False
) -> list[Updates]:
    return [
        begin(on, session, request, "mine" if labels else "itself", labels=labels),
        *on.teach.teach(session, request),
        on.runs.show_run(session),
    ]


@contextmanager
def learning(
    on: Handlers, session: Session, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> Iterator[tuple[Made | None, Iterator[Updates]]]:
    """Teach an adapter until something was learnt, and stay there.

    Yields:
        The adapter before, and the steps that are left.
    """
    make(on, session, arrange(SQL={"a.jsonl": prompts(9)}), request_of("s"))
    before = session.made
    begin(on, session, request_of("s"))
    steps = on.teach.teach(session, request_of("s"))
    with engine.pace.held("refine"):
        words = "25 % of 4 held-back prompts answered as the teacher does, 25 % before"
        while words not in next(steps)["stages"]:
            pass
        yield before, steps


def test_the_time_left_goes_with_the_teaching(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    """A page that was left and comes back would else promise an end to what has ended."""
    session = Session()
    with learning(on, session, arrange, request_of, engine) as (_before, steps):
        run = session.run
        assert run is not None
        assert re.search(r"about \d+ s left", run.stages.html())
        run.stages.interrupt()
        assert isinstance(steps, Generator)
        steps.close()
    ended = run.stages.html()
    assert "Interrupted when the page was left" in ended
    assert "25 % of 4 held-back prompts" in ended
    assert not re.search(r"\d+ s left", ended)
    done = refine(on, session, request_of("s"))[-1]
    assert "How it was taught" in done["stages"]
    assert not re.search(r"\d+ s left", done["stages"])


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
    assert started["teach_doors"].visible is False
    assert started["teach_box"].visible is True
    assert any("held-back prompts answered" in update["stages"] for update in steps)
    assert "“yes.” to 4 of 9 prompts, 3 different answers" in done["stages"]
    made = session.made
    assert made is not None
    assert made.adapter.sha256 != before.adapter.sha256
    assert made.norms != before.norms
    assert made.archive is not None
    assert made.archive != before.archive
    assert engine.refinements[-1]["from"] == before.adapter.sha256
    assert done["strength"] == 1.0
    assert "taught in 28 s" in done["adapter_facts"]
    assert made.adapter.sha256[:8] in done["adapter_facts"]
    assert "How it was taught" in done["stages"]
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
    assert session.made.changed_by == "itself"


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
    assert "taught" not in undone["adapter_facts"]
    assert on.adapter.check(session)["checks"] == undone["checks"]
    assert on.adapter.prepare_download(session, request_of("s"))["download"].interactive is True
    assert on.teach.undo(session) == {}
    assert len(engine.calls) == 1


def test_adapters_of_one_name_are_told_apart_by_who_taught_them(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    session, request = Session(), request_of("s")
    make(on, session, arrange(SQL={"a.jsonl": prompts(9, label="x")}), request)
    refine(on, session, request)
    on.teach.undo(session)
    done = refine(on, session, request, labels=True)[-1]
    names = [name for name, _key in done["right_choice"].choices]
    assert names == ["sql-taught, with labels", "sql-taught, by the model itself", "sql"]
    on.teach.undo(session)
    answers = on.teach.propose(session)
    while session.proposed is None:
        next(answers)
    begin(on, session, request, "mine", *["yes"] * 9)
    list(on.teach.teach(session, request))
    done = on.runs.show_run(session)
    assert done["right_choice"].choices[0][0] == "sql-taught, by hand"


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
    assert "Not made from the buckets as they are now." in done["adapter_facts"]


def test_another_weight_leaves_a_taught_adapter_until_a_new_one_is_asked_for(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    """It says so; what somebody taught for minutes must not be gone for a click on Mute."""
    session, files = Session(), {"A": {"a.jsonl": prompts(9)}, "B": {"b.jsonl": prompts(9, "b")}}
    make(on, session, arrange(**files), request_of("s"))
    refine(on, session, request_of("s"))
    taught = session.made
    muted = replace(arrange({"B": 0.0}, **files), remixing=True)
    told = on.prompts.update_prompts(muted, session, request_of("s"))
    assert "A taught adapter stays as it is." in told["adapter_facts"]
    assert on.synthesis.begin_remix(muted, session) == {}
    assert list(on.synthesis.synthesize(session, "pool", 0, request_of("s"))) == []
    assert session.made is taught
    on.teach.undo(session)
    on.synthesis.begin_remix(muted, session)
    list(on.synthesis.synthesize(session, "pool", 0, request_of("s")))
    assert len(engine.calls) == 2


@pytest.mark.parametrize("score", [math.nan, math.inf, 7.0])
def test_a_strangers_score_that_is_no_share_is_not_shown(score: float) -> None:
    trained = {"num_held_back": 4, "score_before": 0.5, "score": score, "num_lost": -1}
    adapter = FakeAdapter(name="a", sha256="0", num_prompts=8, provenance={"trained": trained})
    drawn = adapter_html(Made(adapter, adapter, "", ()), stale=False)
    assert "held-back" not in drawn
    assert "server failed" not in drawn
    trained |= {"score": 0.75, "num_lost": 3}
    drawn = adapter_html(Made(adapter, adapter, "", ()), stale=False)
    assert "4 held-back prompts: 50 % right before, 75 % after" in drawn
    assert "server failed on the way. Prompts without an answer: 3." in drawn
    part = {"bucket": "SQL", "num_held_back": 4, "score": 0.75}
    adapter.provenance["trained"]["by_bucket"] = [part]
    assert present(learnt(adapter.provenance)).by_bucket == (LearntPart("SQL", 4, 0.75),)
    for wrong in (5, [3], [part, {**part, "score": score}], [{**part, "num_held_back": -1}]):
        adapter.provenance["trained"]["by_bucket"] = wrong
        assert present(learnt(adapter.provenance)).by_bucket == ()


def test_teaching_that_was_stopped_before_it_works_is_said_to_go_on() -> None:
    trained = {"num_held_back": 4, "score_before": 0.0, "score": 0.25, "stop_after": 3}
    assert "stopped early" in present(learnt({"trained": trained})).caution
    assert "stopped early" in present(learnt({"refined": trained})).caution
    assert "stopped early" not in present(learnt({"trained": {**trained, "score": 1.0}})).caution
    del trained["stop_after"]
    assert "stopped early" not in present(learnt({"trained": trained})).caution
    assert present(learnt({"refined": trained})).caution == ""


GENERATED = {"generator_sha256": "9c41e0"}


@pytest.mark.parametrize(
    ("seconds", "origin", "told"),
    [
        ({"total": 2.0}, GENERATED, "weights in 2.00 s"),
        (
            {"total": 2.0, "imprint": 3.0, "refine": 4.0},
            GENERATED,
            "weights in 2.00 s, then imprinted in 3.0 s, then taught in 4 s",
        ),
        ({"imprint": 3.0}, GENERATED, "then imprinted in 3.0 s"),
        ({"refine": 4.0}, GENERATED, "then taught in 4 s"),
        ({"refine": 4.0, "train": 5.0}, {}, "then taught in 4 s, trained on labels in 5 s"),
        ({"train": 5.0}, {}, "trained on labels in 5 s"),
        (
            {"total": 3.0, "imprint": 3.0, "refine": 4.0},
            {},
            "imprinted in 3.0 s, without a generator, then taught in 4 s",
        ),
    ],
)
def test_only_known_seconds_of_an_adapter_are_told(
    seconds: dict[str, float], origin: dict[str, str], told: str
) -> None:
    """One read from a file has those of later steps alone."""
    known = {**origin, **{"refined": {"labels": False}}}
    adapter = FakeAdapter(name="a", sha256="0", num_prompts=8, seconds=seconds, provenance=known)
    drawn = adapter_html(Made(adapter, adapter, "", ()), stale=False)
    assert f"<p class='dnd-facts'>8 prompts · {told}</p>" in drawn


def test_stop_keeps_what_was_learnt(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    session = Session()
    with learning(on, session, arrange, request_of, engine) as (before, steps):
        stopped = on.teach.stop(session)
        assert stopped["teach_stop"].interactive is False
        list(steps)
    assert engine.refinements[-1]["steps"] == 1
    assert session.made is not None
    assert session.made is not before
    assert session.made.before is before
    assert on.runs.show_run(session)["teach_stop"].interactive is True


def test_stop_before_the_first_step_keeps_the_adapter(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    session = Session()
    make(on, session, arrange(SQL={"a.jsonl": prompts(9)}), request_of("s"))
    before = session.made
    begin(on, session, request_of("s"))
    steps = on.teach.teach(session, request_of("s"))
    with engine.pace.held("refine", at=0):
        next(steps)
        assert "The adapter is unchanged." in on.teach.stop(session)["stages"]
        list(steps)
    assert session.made is before


def test_answers_are_proposed_corrected_and_learnt(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    session = Session()
    shown = make(on, session, arrange(SQL={"a.jsonl": prompts(9)}), request_of("s"))
    assert shown["teach_first"].visible is True, "it says what Start needs"
    assert on.teach.use_labels(session, True)["teach_first"].visible is False
    told = begin(on, session, request_of("s"), "mine")["teach_told"]
    assert "Press Propose answers first" in told
    running, found = on.teach.propose(session)
    assert running["teach_propose"].interactive is False
    assert found["teach_rows"].visible is True
    assert on.teach.use_labels(session, False)["teach_first"].visible is False
    fields = found["teach_answers"].rows
    assert [field.prompt for field in fields] == [f"good {n}" for n in range(9)]
    assert fields[0].answer == "yes."
    told = begin(on, session, request_of("s"), "mine", *["no"] * 7, "", " ")["teach_told"]
    assert "8 answers or more are needed, got 7" in told
    assert session.run is not None
    assert session.run.kind == "synthesis"
    on.teach.keep_answers(session, typed(session, *["maybe"] * NUM_ROWS))
    assert rows(session)["teach_answers"].rows[8].answer == "maybe", "a visit brings them back"
    assert on.adapter.show(session)["teach_box"].visible is True
    *_, found = on.teach.propose(session)
    assert found["teach_answers"].rows[8].answer == "maybe", "asking again keeps corrections"
    assert "no more prompts" in found["teach_told"]
    started = begin(on, session, request_of("s"), "mine", *["no"] * 8, "")
    assert "Ask" not in started["stages"]
    list(on.teach.teach(session, request_of("s")))
    done = on.runs.show_run(session)
    assert engine.taught == [{f"Say yes.\n\ngood {n}": "no" for n in range(8)}]
    assert "then taught by you in 12 s" in done["adapter_facts"]
    assert (
        "4 held-back prompts: 25 % right before, 75 % after the last step" in done["adapter_facts"]
    )
    assert done["teach_rows"].visible is True
    assert done["teach_box"].visible is False
    assert done["keep_texts"].visible is False
    make(on, session, arrange(SQL={"b.jsonl": prompts(9, "other")}), request_of("s"))
    assert "Press Propose" in begin(on, session, request_of("s"), "mine", "x")["teach_told"]


def test_more_prompts_are_proposed_equally_many_of_each_bucket(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    """The first prompts of a file are not the ones that need correcting most."""
    session = Session()
    arrangement = arrange(
        {"Off": -1.0},
        Bins={"a.jsonl": prompts(30, "bin")},
        Few={"b.jsonl": prompts(3, "few")},
        Off={"c.jsonl": prompts(9, "off")},
        Plain={"d.txt": "no input\n"},
    )
    make(on, session, arrangement, request_of("s"))
    found = list(on.teach.propose(session))[-1]
    assert session.proposed is not None
    assert Counter(session.proposed.names) == {"Few": 3, "Bins": 13}
    first = found["teach_answers"].rows[0]
    assert (first.prompt, first.about) == ("few 0", "Few")
    on.teach.keep_answers(session, typed(session, "corrected"))  # of a page that shows one so far
    found = list(on.teach.propose(session))[-1]
    assert found["teach_told"] == ""
    assert found["teach_answers"].rows[0].answer == "corrected"
    assert len(found["teach_answers"].rows) == 32
    found = list(on.teach.propose(session))[-1]
    assert len(set(session.proposed.prompts)) == 33, "all of them, each once"
    begin(on, session, request_of("s"), "mine", "corrected", *["no"] * 32)
    list(on.teach.teach(session, request_of("s")))
    assert len(engine.taught[-1]) == 33


def test_corrections_hold_for_the_same_prompts_of_the_next_adapter(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    session, file = Session(), {"a.jsonl": prompts(9)}
    make(on, session, arrange(A=file), request_of("s"))
    list(on.teach.propose(session))
    on.teach.keep_answers(session, typed(session, "no", ""))
    make(on, session, arrange(A=file, B={"b.jsonl": prompts(9, "other")}), request_of("s"))
    *_, found = on.teach.propose(session)
    answers = {row.prompt: row.answer for row in found["teach_answers"].rows}
    assert [answers[f"good {n}"] for n in range(3)] == ["no", "", "yes."]
    assert answers["other 0"] == "yes."
    # Also after answers of an adapter between that has none of them.
    make(on, session, arrange(B={"b.jsonl": prompts(9, "other")}), request_of("s"))
    list(on.teach.propose(session))
    make(on, session, arrange(A=file), request_of("s"))
    *_, found = on.teach.propose(session)
    answers = {row.prompt: row.answer for row in found["teach_answers"].rows}
    assert [answers[f"good {n}"] for n in range(3)] == ["no", "", "yes."]


def test_answers_to_prompts_of_another_adapter_are_not_learnt(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    session, request = Session(), request_of("s")
    make(on, session, arrange(A={"a.jsonl": prompts(9)}), request)
    list(on.teach.propose(session))
    shown = typed(session, *["no"] * 9)
    make(on, session, arrange(B={"b.jsonl": prompts(9, "other")}), request)
    *_, found = on.teach.propose(session)
    on.teach.keep_answers(session, shown)  # the page has not drawn the others yet
    told = on.teach.begin(session, "mine", False, "server", "", "", "", "", shown, request)
    assert "The answers have just changed" in told["teach_told"]
    assert rows(session)["teach_answers"].rows == found["teach_answers"].rows
    assert "stages" in begin(on, session, request, "mine", "no")


def test_answers_of_a_program_are_limited_as_those_of_the_page() -> None:
    fields = AnswerFields()
    assert fields.preprocess(None) == TypedAnswers()
    rows = [{"prompt": "No", "answer": "yes"}, {"answer": ""}]
    sent = AnswersData.model_validate({"rows": rows, "proposal": "a"})
    assert fields.preprocess(sent) == TypedAnswers("a", ("yes", ""))
    with pytest.raises(gr.Error, match="at most 2000 characters, got 2001"):
        fields.preprocess(AnswersData.model_validate({"rows": [{"answer": "a" * 2001}]}))
    with pytest.raises(ValueError, match="at most 64 items"):
        AnswersData.model_validate({"rows": [{"answer": "yes"}] * 65})


def test_no_more_are_proposed_than_training_takes(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    session = Session()
    make(on, session, arrange(SQL={"a.jsonl": prompts(NUM_ROWS + 9)}), request_of("s"))
    for _press in range(NUM_ROWS // PROPOSED_TOGETHER + 1):
        *_, found = on.teach.propose(session)
    assert session.proposed is not None
    assert len(session.proposed.prompts) == NUM_ROWS
    assert "no more prompts" in found["teach_told"]


def test_prompts_that_hold_no_input_are_told(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    session = Session()
    assert list(on.teach.propose(session)) == []
    make(on, session, arrange(SQL={"a.txt": "one\ntwo\n"}), request_of("s"))
    _running, failed = on.teach.propose(session)
    assert "got 0" in failed["teach_told"]
    assert failed["teach_propose"].interactive is True


def test_a_better_model_is_asked_once_started_and_its_key_is_forgotten(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    session = Session()
    make(on, session, arrange(SQL={"a.jsonl": prompts(9)}), request_of("s"))
    with running_chat(lambda server, body: server.answer(body, "wise")) as server:
        own(on, server.url)
        door = (server.url, "sage", "sk-secret")
        started = begin(on, session, request_of("s"), "better", server=door)
        assert server.asked == []
        assert started["teach_key"] == ""
        first, *_rest = on.teach.teach(session, request_of("s"))
        assert "sage answers your prompts" in first["stages"]
        assert set(server.keys) == {"Bearer sk-secret"}
    assert set(engine.taught[-1].values()) == {"wise"}
    done = on.runs.show_run(session)
    assert "then taught by sage in 12 s" in done["adapter_facts"]
    assert "sk-secret" not in repr(session)
    assert session.run is not None
    assert session.run.answers is None


def test_visitors_of_a_shared_server_name_only_servers_on_its_list(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    session = Session()
    make(on, session, arrange(SQL={"a.jsonl": prompts(9)}), request_of("s"))
    with running_chat() as server:
        for url in (server.url, "http://169.254.169.254/"):
            door = (url, "sage", "sk-secret")
            told = begin(on, session, request_of("s"), "better", server=door)["teach_told"]
            assert "may not be asked from this server" in told
            assert "sk-secret" not in told
        assert server.asked == []
    assert engine.taught == []


@pytest.fixture
def owned(
    handle: EngineHandle, files: SessionFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Handlers:
    """The page of this computer's user, who has one base of the Hub."""
    monkeypatch.setattr("dnd_engine.generator.installed._cached_bases", lambda: iter(["a/base"]))
    handle.config = EngineConfig(device="cpu", cache_dir=tmp_path / "cache")
    owner = Owner(Library(tmp_path / "library"), key=OWNERS_KEY)
    return Handlers(App(EngineCalls(handle), PromptLimits(), files, tmp_path / "cache", owner))


@pytest.fixture
def larger(tmp_path: Path) -> Path:
    """A folder as large as a base."""
    (folder := tmp_path / "larger").mkdir()
    (folder / "model.safetensors").write_bytes(b"x" * 1_500_000)
    return folder


def test_a_model_on_this_computer_is_asked_by_its_owner(
    owned: Handlers,
    arrange: Arrange,
    request_of: RequestOf,
    engine: FakeEngine,
    larger: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[LocalTeacher] = []

    def answers(teacher: LocalTeacher, examples: Sequence[Example]) -> Iterator[list[str]]:
        asked.append(teacher)
        yield ["wise"] * len(examples)

    monkeypatch.setattr(LocalTeacher, "answers", answers)
    session = Session()
    make(owned, session, arrange(SQL={"a.jsonl": prompts(9)}), request_of("s"))
    begin(owned, session, request_of("s"), "better", base=f" {larger} ")
    assert asked == []
    first, *_rest = owned.teach.teach(session, request_of("s"))
    assert "larger answers your prompts" in first["stages"]
    (teacher,) = asked
    assert (teacher.base, teacher.device) == (str(larger), "cpu")
    assert teacher.cache_dir == owned.app.calls.config.cache_dir
    assert set(engine.taught[-1].values()) == {"wise"}
    assert "then taught by larger in 12 s" in owned.runs.show_run(session)["adapter_facts"]


def test_the_owner_reads_which_models_are_here_and_how_large_one_is(
    owned: Handlers, request_of: RequestOf, larger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(base: str) -> str:
        shown = owned.teach.choose_place("local", base, request_of("s"))
        assert (shown["teach_server"].visible, shown["teach_local"].visible) == (False, True)
        return str(shown["teach_base_told"])

    # Without the base in use, which is no better model.
    listed = told(" ")
    assert "Listed under “Change models”: Qwen/Qwen2.5-Coder-0.5B-Instruct, a/base." in listed
    assert "larger: 1.5 MB on disk." in told(str(larger))
    assert "No model at" in told("/no/such")
    assert "is not on this computer. Load it once with “Change models” above" in told("no/such")
    monkeypatch.setattr("dnd_engine.generator.installed._cached_bases", lambda: iter([]))
    monkeypatch.setattr("dnd_engine.generator.installed.SHIPPED", {})
    assert "No other model is known yet." in told("")
    back = owned.teach.choose_place("server", "/no/such", request_of("s"))
    assert (back["teach_server"].visible, back["teach_local"].visible) == (True, False)
    assert back["teach_base_told"] == ""


def test_another_adapter_is_looked_at_without_losing_stop(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    session = Session()
    make(on, session, arrange(A={"a.jsonl": prompts(9, "other")}), request_of("s"))
    first = session.made
    assert first is not None
    with learning(on, session, arrange, request_of, engine) as (_before, steps):
        shown = on.adapter.choose(session, first.key)
        assert shown["teach_box"].visible is True
        assert "data-doing" in shown["stages"]
        run = session.run
        assert run is not None
        changed = arrange(SQL={"a.jsonl": prompts(9)})
        on.prompts.update_prompts(changed, session, request_of("s"))
        told = on.synthesis.begin_remix(changed, session)
        assert "Not made from the buckets as they are now" in told["adapter_facts"]
        assert session.run is run, "another weight does not end it either"
        run.stop.set()
        list(steps)


@pytest.mark.parametrize("base", ["", "/no/such", "no/such"])
def test_a_model_that_is_not_here_is_told_at_start(
    owned: Handlers, arrange: Arrange, request_of: RequestOf, base: str
) -> None:
    session = Session()
    make(owned, session, arrange(SQL={"a.jsonl": prompts(9)}), request_of("s"))
    told = begin(owned, session, request_of("s"), "better", base=base)["teach_told"]
    assert "Not started." in told
    assert session.run is not None
    assert session.run.kind == "synthesis"


def test_others_cannot_name_a_model_of_this_computer(
    owned: Handlers,
    on: Handlers,
    arrange: Arrange,
    request_of: RequestOf,
    engine: FakeEngine,
    larger: Path,
) -> None:
    stranger = gr.Request(session_hash="s", headers={"host": "127.0.0.1:7860"})
    for handlers, request in ((owned, stranger), (on, request_of("s"))):
        session = Session()
        make(handlers, session, arrange(SQL={"a.jsonl": prompts(9)}), request)
        for base in (str(larger), "/no/such", ""):
            told = begin(handlers, session, request, "better", base=base)["teach_told"]
            assert "Only the owner of this computer may let its models teach." in told
            assert ("Opened without its key" in told) == (handlers is owned)
            told = handlers.teach.choose_place("local", base, request)["teach_base_told"]
            assert "Only the owner" in told
            assert "smollm2" not in told
    assert engine.taught == []


def test_without_the_key_a_better_model_is_said_to_be_closed_before_start(
    owned: Handlers, on: Handlers, request_of: RequestOf
) -> None:
    stranger = gr.Request(session_hash="s", headers={"host": "127.0.0.1:7860"})
    shown = owned.teach.choose(Session(), "better", stranger)
    assert "Only the owner of this computer" in shown["teach_told"]
    assert "the address that the app printed" in shown["teach_told"]
    assert not any(shown[f"teach_{name}"].visible for name in ("place", "server", "local"))
    assert not shown["teach_start"].interactive
    assert owned.teach.choose(Session(), "itself", stranger)["teach_start"].interactive
    # Servers that the operator allows are open to everybody.
    own(owned, "https://a")
    shown = owned.teach.choose(Session(), "better", stranger)
    assert shown["teach_start"].interactive
    assert "This page may ask: https://a" in shown["teach_told"]
    assert shown["teach_server"].visible is True
    assert shown["teach_place"].visible is False
    # The owner, and visitors of a server for others, see what the layout offers.
    for handlers in (owned, on):
        shown = handlers.teach.choose(Session(), "better", request_of("s"))
        assert shown["teach_told"] == ""
        assert "teach_place" not in shown


@pytest.mark.parametrize("shared", [True, False])
def test_only_the_page_of_a_computers_user_offers_its_models(shared: bool) -> None:
    with gr.Blocks():
        panel = TeachPanel(shared=shared, teachers=["https://a"], stop_keeps=True)
    assert panel.place.visible is not shared
    assert panel.place.value == "server"
    assert panel.local.visible is False


def test_teaching_is_said_to_take_as_long_as_was_measured() -> None:
    results = (Path(__file__).parents[2] / "docs/results.md").read_text(encoding="utf-8")
    measured = re.search(rf"^\| \| \| {RefineConfig().steps} \| (\d+) \|", results, re.MULTILINE)
    assert measured is not None
    assert 60 <= int(measured[1]) <= 120
    with gr.Blocks() as page:
        TeachPanel(shared=False, teachers=(), stop_keeps=True)
    (words,) = (b.value for b in page.blocks.values() if b.elem_id == "dnd-teach-words")
    assert "half a minute to two minutes on a CPU" in words


def own(on: Handlers, url: str) -> None:
    """Allow a server, as its operator does."""
    on.app.server = replace(on.app.server, teacher_servers=(url,))


def test_stop_keeps_the_adapter_and_closes_the_engine(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    session = Session()
    with learning(on, session, arrange, request_of, engine) as (before, steps):
        stopped = on.runs.stop_run(session)
        assert "The adapter is unchanged." in stopped["stages"]
        assert stopped["teach_start"].visible is True
        assert stopped["teach_open"].interactive is True
        list(steps)
        assert session.made is before
        until(lambda: engine.closed_refinements == 1)
    assert engine.refinements[-1]["steps"] == 1


def test_a_page_that_is_closed_ends_the_refinement(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    session = Session()
    with learning(on, session, arrange, request_of, engine) as (_before, steps):
        assert isinstance(steps, Generator)
        steps.close()
        assert session.run is not None
        assert session.run.stages.ended == "stopped", "nobody waits for it"
        until(lambda: engine.closed_refinements == 1)
    assert engine.refinements[-1]["steps"] == 1


def test_a_synthesis_ordered_meanwhile_stops_the_refinement_without_a_word_of_it(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    session = Session()
    arrangement = arrange(SQL={"a.jsonl": prompts(9)})
    make(on, session, arrangement, request_of("s"))
    begin(on, session, request_of("s"))
    steps = on.teach.teach(session, request_of("s"))
    with engine.pace.held("refine"):
        next(steps)
        assert session.run is not None
        refinement = session.run.stages
        ordered = on.synthesis.begin_synthesis(arrangement, session)
        assert refinement.ended == "stopped", "nobody waits for it"
        assert ordered["teach_box"].visible is False
        assert ordered["teach_open"].interactive is False
        (update,) = steps
    assert "Teach" not in update["stages"]
    assert on.runs.show_run(session) == {}
    synthesized(on, session, request_of("s"))
    assert on.imprint.begin_imprint(session, False)["teach_open"].interactive is True
    assert session.made is not None
    assert not session.made.adapter.was_trained


def test_one_that_waits_in_the_queue_never_starts_once_stopped(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    session = Session()
    assert begin(on, session, request_of("s")) == {}
    assert on.runs.stop_run(session) == {}
    make(on, session, arrange(SQL={"a.jsonl": prompts(9)}), request_of("s"))
    begin(on, session, request_of("s"))
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
    assert "Teaching failed; the adapter is unchanged." in failed["stages"]
    assert "Teaching needs 8 or more" in failed["stages"]
    assert "got 0 (2 without a blank line)" in failed["stages"]
    assert "is-failed" in failed["stages"]
    assert failed["teach_start"].visible is True
    assert session.made is before


def test_a_failure_goes_once_another_teacher_is_chosen(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    session = Session()
    make(on, session, arrange(SQL={"a.txt": "one\ntwo\n"}), request_of("s"))
    request = request_of("s")
    assert "stages" not in on.teach.choose(session, "better", request), "nothing failed yet"
    assert "Teaching failed" in refine(on, session, request)[-1]["stages"]
    chosen = on.teach.choose(session, "mine", request)
    assert "Teaching failed" not in chosen["stages"]
    assert "How it was made" in chosen["stages"]


def test_an_unforeseen_error_puts_the_buttons_back(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    session = Session()
    make(on, session, arrange(SQL={"a.jsonl": prompts(9)}), request_of("s"))
    begin(on, session, request_of("s"))
    broke = on.runs.run_broke(session)
    assert "Something broke" in broke["stages"]
    assert broke["teach_stop"].visible is False
    assert on.runs.run_broke(Session()) == {}


def test_the_visitor_is_the_teacher_unless_somebody_else_is_chosen() -> None:
    """Gradient steps on the model's own answers add nothing to an imprint."""
    with gr.Blocks():
        panel = TeachPanel(shared=False, teachers=(), stop_keeps=True)
    assert panel.door.value == "mine"
    assert panel.mine.visible
    assert panel.itself.visible is panel.better.visible is False
    assert "Right answers teach by far the most" in str(panel.door.info)


def test_labels_teach_again_after_a_reload(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    visit = on.visit.open(Session(), "en", "", request_of("a"))["session"]
    make(on, visit, arrange(SQL={"a.jsonl": prompts(9, label="x")}), request_of("a"))
    on.visit.leave(request_of("a"))
    back = on.visit.open(Session(), "en", visit.key, request_of("b"))
    assert "teach_door" not in back, "the new page has selected the visitor"
    assert back["teach_labels"].value is True


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
        assert updates["teach_labels"].value is offered
        assert updates["teach_labels"].interactive is True
        assert updates["teach_propose"].visible is not offered, "there is nothing to correct"
    assert on.teach.use_labels(session, False)["teach_propose"].visible is True
    list(on.teach.propose(session))
    shown = on.adapter.show(session)
    assert shown["teach_labels"].value is False, "answers to correct are not passed over"
    assert shown["teach_propose"].visible is shown["teach_rows"].visible is True
    assert on.teach.use_labels(session, True)["teach_rows"].visible is False
    started, *steps, done = refine(on, session, request_of("s"), labels=True)
    assert engine.refinements[-1]["labels"] is True
    assert any("held-back prompts right" in update["stages"] for update in steps)
    assert any(
        re.search(r"% before · <span[^>]*>\d+ % done<", update["stages"]) for update in steps
    )
    assert "Ask" not in started["stages"]
    assert "taught with labels in 28 s" in done["adapter_facts"]


def test_a_doubtful_adapter_comes_with_the_offer_and_a_refined_one_without(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    session = Session()
    make(on, session, arrange(SQL={"a.jsonl": prompts(9, "NOTHING")}), request_of("s"))
    doubtful = on.adapter.check(session)
    assert doubtful["teach_box"].visible is True
    assert "press Imprint above" in doubtful["warning"]
    refine(on, session, request_of("s"))
    updates = on.adapter.check(session)
    assert "Teaching raised the score on the prompts held back from it." in updates["warning"]
    assert "is-warn" not in updates["warning"]
    assert "teach_box" not in updates
    assert updates["download"].variant == "primary"
    assert "Taught on your prompts" in updates["checks"]
    assert on.teach.undo(session)["teach_box"].visible is True


def test_answers_of_a_model_that_does_not_know_the_task_teach_no_success(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    session = Session()
    make(on, session, arrange(SQL={"a.jsonl": prompts(9)}), request_of("s"))
    on.adapter.check(session)
    start = session.made
    assert start is not None
    assert start.inspection is not None
    unsure = judge(Agreement(8, 8, wavering=8))
    start.inspection = replace(start.inspection, verdict=unsure)
    for _again in range(2):
        refine(on, session, request_of("s"))
        updates = on.adapter.check(session)
        assert "the model that taught it does not know the task" in updates["warning"]
        assert "is-warn" in updates["warning"]
        assert updates["download"].variant == "secondary"


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
