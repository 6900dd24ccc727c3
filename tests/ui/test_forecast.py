"""Forecasts come once the prompts are read, and are asked for once."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import gradio as gr
import pytest

from dnd_engine.checks.results import Forecast
from dnd_engine.errors import DndError, GeneratorError
from dnd_engine.generator.report import ForecastBand, ForecastGauge, Report
from dnd_engine.prompts.buckets import Bucket
from dnd_engine.prompts.files import read_prompt_file
from tests.ui.fake_engine import FakeEngine
from ui.canvas import Arrangement, BucketData, CanvasData, PromptCanvas
from ui.engine_calls import EngineCalls
from ui.engine_handle import EngineHandle
from ui.handlers import Handlers
from ui.state import Session
from ui.tabs.workbench.prompts import events
from ui.tabs.workbench.prompts.events import buckets_on
from ui.tabs.workbench.prompts.forecast_view import forecast_html

Arrange = Callable[..., Arrangement]
RequestOf = Callable[[str], gr.Request]

FILE = "\n".join(f'{{"prompt": "Say it in French.\\n\\nGood {n}."}}' for n in range(3))


@pytest.fixture
def drop(on: Handlers, request_of: RequestOf) -> Callable[[Session, Arrangement], str]:
    """Put an arrangement on the canvas, and return what the page then foretells."""

    def dropped(session: Session, arrangement: Arrangement) -> str:
        told = on.prompts.update_prompts(arrangement, session, request_of("s"))["forecast"]
        for updates in on.prompts.forecast(session):
            told = updates.get("forecast", told)
        return str(told)

    return dropped


def test_each_bucket_is_asked_once_under_any_name_and_weight(
    drop: Callable[[Session, Arrangement], str], arrange: Arrange, engine: FakeEngine
) -> None:
    session = Session()
    told = drop(session, arrange(SQL={"a.jsonl": FILE}, Legal={"b.jsonl": FILE + "\n"}))
    assert engine.forecasts == ["SQL", "Legal"]
    assert "the model is unsure" in told
    assert "the model is sure" in told
    assert told.count("<li>") == 2
    again = drop(session, arrange({"Law": 0.5}, Law={"b.jsonl": FILE + "\n"}))
    assert engine.forecasts == ["SQL", "Legal"]
    assert again.count("<li>") == 1
    assert "the model is sure" in again


def test_prompts_are_encoded_before_they_are_forecast_where_the_synthesis_finds_them(
    drop: Callable[[Session, Arrangement], str],
    arrange: Arrange,
    engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = Session(settings={"mix": "sum", "seed": 3.0})
    monkeypatch.setattr(engine, "forecast", lambda bucket: seen.append(len(engine.read)))
    seen: list[int] = []
    drop(session, arrange(SQL={"a.jsonl": FILE}, Legal={"b.jsonl": FILE + "\n"}))
    assert seen == [1, 1]
    assert session.memory is not None
    assert engine.read[0]["names"] == {"SQL", "Legal"}
    assert engine.read[0]["memory"] is session.memory
    assert (engine.read[0]["mix"], engine.read[0]["seed"]) == ("sum", 3)
    drop(Session(), arrange(SQL={"a.jsonl": FILE}))
    assert (engine.read[1]["mix"], engine.read[1]["seed"]) == ("pool", 0)


def test_what_cannot_be_encoded_ahead_is_forecast_all_the_same(
    drop: Callable[[Session, Arrangement], str],
    arrange: Arrange,
    engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine, "read_ahead", Mock(side_effect=DndError("out of memory")))
    assert "<li>" in drop(Session(), arrange(SQL={"a.jsonl": FILE}))


def test_a_muted_bucket_and_prompts_without_instruction_get_no_forecast(
    drop: Callable[[Session, Arrangement], str],
    on: Handlers,
    arrange: Arrange,
    engine: FakeEngine,
) -> None:
    assert drop(Session(), arrange({"SQL": 0.0}, SQL={"a.jsonl": FILE})) == ""
    assert engine.forecasts == []
    session = Session()
    notes = arrange(Notes={"a.txt": "Dentist on Tuesday at 9\nBuy paint\n"})
    told = drop(session, notes)
    assert "<b>No instruction found.</b> <span><button" in told
    assert ">Type one under Advanced</button>; without it, this bucket is not" in told
    assert "Why?" not in told
    assert engine.forecasts == ["Notes"]
    both = drop(session, arrange(Notes={"a.txt": "one\n"}, SQL={"a.jsonl": FILE}))
    assert both.count("<li>") == 2
    assert "Notes:</span><b>No instruction found" in both
    assert (
        "data-focuses='[data-bucket=&quot;id-Notes&quot;] .dnd-own'>Type one there</button>" in both
    )
    mixed = drop(session, arrange(Notes={"a.txt": "one\ntwo\n", "b.jsonl": FILE}))
    assert "<b>No instruction in 2 of 5 prompts.</b> <span><button" in mixed
    assert ">Type one under Advanced</button>; without it, they are not" in mixed
    assert mixed.count("<li>") == 2
    on.prompts.set_instruction("Name the kind of note.", session)
    assert "No instruction found" not in drop(session, notes)


def test_a_synthesis_ends_it(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    session = Session()
    arrangement = arrange(SQL={"a.jsonl": FILE})
    on.prompts.update_prompts(arrangement, session, request_of("s"))
    on.synthesis.begin_synthesis(arrangement, session)
    assert not any("forecast" in updates for updates in on.prompts.forecast(session))
    assert engine.forecasts == []


def test_a_newer_canvas_ends_it_after_the_current_bucket(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    session = Session()
    both = arrange(SQL={"a.jsonl": FILE}, Legal={"b.jsonl": FILE + "\n"})
    on.prompts.update_prompts(both, session, request_of("s"))
    steps = on.prompts.forecast(session)
    assert "forecast" in next(steps)
    on.prompts.update_prompts(arrange(SQL={"a.jsonl": FILE}), session, request_of("s"))
    assert list(steps) == []
    assert engine.forecasts == ["SQL"]


def test_other_models_are_asked_again_and_get_no_forecast_of_the_earlier_ones(
    drop: Callable[[Session, Arrangement], str],
    arrange: Arrange,
    engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session, canvas = Session(), arrange(SQL={"a.jsonl": FILE})
    first = drop(session, canvas)
    monkeypatch.setattr(engine, "info", replace(engine.info, teacher_sha256="f" * 64))
    assert drop(session, canvas) == first
    assert engine.forecasts == ["SQL", "SQL"]


def test_a_forecast_of_models_that_were_switched_meanwhile_is_not_kept(
    drop: Callable[[Session, Arrangement], str],
    arrange: Arrange,
    engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forecast(bucket: Bucket) -> Forecast:
        monkeypatch.setattr(engine, "info", replace(engine.info, generator_sha256="f" * 64))
        return Forecast(sureness=0.9, num_prompts=len(bucket.prompts))

    monkeypatch.setattr(engine, "forecast", forecast)
    session = Session()
    assert drop(session, arrange(SQL={"a.jsonl": FILE})) == ""
    assert session.forecasts == {}


def test_a_model_that_does_not_load_gives_none(
    on: Handlers, arrange: Arrange, request_of: RequestOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_args: object) -> Iterator[None]:
        yield None
        raise DndError("no such model")

    session = Session()
    on.prompts.update_prompts(arrange(SQL={"a.jsonl": FILE}), session, request_of("s"))
    monkeypatch.setattr(EngineCalls, "until_ready", failing)
    assert list(on.prompts.forecast(session)) == [{}]


def test_an_error_of_the_engine_is_told(
    on: Handlers,
    arrange: Arrange,
    request_of: RequestOf,
    engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forecast(bucket: Bucket) -> Forecast:
        raise DndError("the teacher is damaged.")

    monkeypatch.setattr(engine, "forecast", forecast)
    session = Session()
    on.prompts.update_prompts(arrange(SQL={"a.jsonl": FILE}), session, request_of("s"))
    with pytest.raises(DndError, match=r"the teacher is damaged\."):
        list(on.prompts.forecast(session))


def test_a_damaged_report_does_not_break_the_canvas(
    drop: Callable[[Session, Arrangement], str],
    arrange: Arrange,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def damaged(self: FakeEngine) -> dict[str, Report]:
        raise GeneratorError("the report is damaged.")

    monkeypatch.setattr(FakeEngine, "reports", property(damaged), raising=False)
    assert "the model is" in drop(Session(), arrange(SQL={"a.jsonl": FILE}))


@pytest.mark.parametrize("waiting", [False, True])
def test_a_switch_of_models_meanwhile_ends_it_without_an_error(
    waiting: bool,
    on: Handlers,
    arrange: Arrange,
    request_of: RequestOf,
    engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whether the old model still answers, or the forecast was waiting for its turn."""

    def forecast(bucket: Bucket) -> Forecast:
        monkeypatch.setattr(EngineHandle, "engine", None)  # as while others are loaded
        if waiting:
            raise DndError("The engine is not loaded.")
        return Forecast(sureness=0.9, num_prompts=len(bucket.prompts))

    monkeypatch.setattr(engine, "forecast", forecast)
    session = Session()
    on.prompts.update_prompts(arrange(SQL={"a.jsonl": FILE}), session, request_of("s"))
    assert list(on.prompts.forecast(session)) == []
    assert session.forecasts == {}


def test_it_keeps_the_newest_of_many(
    drop: Callable[[Session, Arrangement], str],
    arrange: Arrange,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events, "_MAX_FORECASTS", 2)
    session = Session()
    for n in range(3):
        drop(session, arrange(SQL={f"{n}.jsonl": FILE + "\n" * n}))
    assert len(session.forecasts) == 2


def test_what_is_typed_waits_until_it_is_complete(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    session = Session()
    on.prompts.update_prompts(arrange(Notes={"a.txt": "one\ntwo\n"}), session, request_of("s"))
    assert "forecast" not in on.prompts.set_instruction("Say it in French.", session)
    assert engine.forecasts == []
    assert any("<li>" in updates.get("forecast", "") for updates in on.prompts.forecast(session))


def test_nothing_is_asked_on_a_borrowed_gpu(
    drop: Callable[[Session, Arrangement], str],
    arrange: Arrange,
    engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SPACES_ZERO_GPU", "1")
    assert drop(Session(), arrange(SQL={"a.jsonl": FILE})) == ""
    assert engine.forecasts == []


def test_it_says_how_forecasts_of_the_same_model_turned_out(
    drop: Callable[[Session, Arrangement], str], arrange: Arrange, engine: FakeEngine
) -> None:
    band = ForecastBand(begin=0.6, end=1.0, score=0.71, low=0.58, high=0.84, n_tasks=21)
    gauge = ForecastGauge(
        teacher_sha256=engine.info.teacher_sha256, bands=(band,), predicts_score=None, tasks=()
    )
    engine.reports["written"] = replace(engine.reports["heldout"], forecast=gauge)
    canvas = arrange(Legal={"a.jsonl": FILE})
    told = drop(Session(), canvas)
    assert "where it was this sure, adapters were right about 71 times in 100" in told
    assert "a probability of 0.80, the mean of 3 prompts" in told
    assert "On 21 unseen tasks" in told
    assert "(95 % interval 0.58 to 0.84)" in told
    other = replace(gauge, teacher_sha256="f" * 64)
    engine.reports["written"] = replace(engine.reports["heldout"], forecast=other)
    assert "71" not in drop(Session(), canvas)


@pytest.mark.parametrize(("score", "sign"), [(0.71, "check"), (0.44, "info"), (0.1, "warn")])
def test_the_sign_goes_by_how_often_adapters_were_right(score: float, sign: str) -> None:
    """A tick beside 44 times in 100 would promise what the sentence takes back."""
    band = ForecastBand(begin=0.6, end=1.0, score=score, low=0.0, high=1.0, n_tasks=21)
    gauge = ForecastGauge(teacher_sha256="", bands=(band,), predicts_score=None, tasks=())
    sure = Forecast(sureness=0.99, num_prompts=3)
    assert f"dnd-icon-{sign}" in forecast_html([(Bucket("Legal"), sure)], gauge)
    assert "dnd-icon-check" in forecast_html([(Bucket("Legal"), sure)]), "nothing was measured"


def test_too_few_prompts_are_said_to_be_few(tmp_path: Path) -> None:
    for number, words in ((1, "1 prompt is too few"), (7, "7 prompts are few"), (8, "")):
        path = tmp_path / f"{number}.txt"
        path.write_text("\n".join(f"Name the colour of {n}." for n in range(number)))
        bucket = Bucket("Legal", files=(read_prompt_file(path),))
        told = forecast_html([(bucket, Forecast(sureness=0.99, num_prompts=3))])
        assert words in told
        assert ("tested on none" in told) == bool(words)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("Is this message a bug or a wish?\n\nThe app crashes when I open the camera", False),
        ("Ist das ein Fehler oder ein Wunsch?\n\nDie App stürzt ab", True),
        ("Zeg of dit bericht een fout of een wens is.\n\nDe app crasht steeds", True),
    ],
)
def test_the_language_is_named_as_a_cause_where_it_may_be_one(
    tmp_path: Path, text: str, named: bool
) -> None:
    path = tmp_path / "a.txt"
    path.write_text(text)
    bucket = Bucket("Tickets", files=(read_prompt_file(path),))
    for sureness, doubtful in ((0.3, True), (0.99, False)):
        found = forecast_html([(bucket, Forecast(sureness=sureness, num_prompts=1))])
        assert ("may be the language" in found) == (named and doubtful)


def test_names_are_only_ever_text() -> None:
    found = [
        (Bucket(name), Forecast(sureness=0.75, num_prompts=1)) for name in ("<b>Q</b>", "Legal")
    ]
    told = forecast_html(found)
    assert "&lt;b&gt;Q&lt;/b&gt;:" in told
    assert "its own answer to 1 prompt a probability of 0.75" in told
    assert forecast_html([]) == ""


def test_one_answer_to_all_is_said_before_the_adapter_learns_it() -> None:
    found = Forecast(sureness=0.99, num_prompts=8, alike=True)
    drawn = forecast_html([(Bucket("a"), found)])
    assert "one and the same answer to all 8 that were asked" in drawn
    assert "dnd-icon-warn" in drawn


def test_an_instruction_typed_for_several_buckets_is_pointed_out(
    drop: Callable[[Session, Arrangement], str], arrange: Arrange, on: Handlers
) -> None:
    session = Session()
    on.prompts.set_instruction("Name the mood.", session)
    both = drop(session, arrange(A={"a.txt": "one\n"}, B={"b.txt": "two\n"}))
    assert "The instruction you typed applies to A and B." in both
    assert (
        "data-focuses='[data-bucket=&quot;id-A&quot;] .dnd-own'>type each one's own in its" in both
    )
    told = drop(session, arrange(A={"a.txt": "one\n"}, B={"b.jsonl": FILE}))
    assert "you typed" not in told


def test_a_bucket_s_own_instruction_comes_before_the_one_for_all(
    drop: Callable[[Session, Arrangement], str], arrange: Arrange, on: Handlers
) -> None:
    session = Session()
    on.prompts.set_instruction("Name the mood.", session)
    laid = arrange(A={"a.txt": "one\n"}, B={"b.txt": "two\n"}, C={"c.jsonl": FILE})
    own = [replace(bucket, instruction=" Rhyme. ") for bucket in laid.buckets]
    mixed = replace(laid, buckets=(own[0], laid.buckets[1], own[2]))
    assert "you typed" not in drop(session, mixed)
    typed = [bucket.instruction for bucket in buckets_on(mixed, session)]
    assert typed == ["Rhyme.", "Name the mood.", ""], "C's prompts have their own"
    again = PromptCanvas().preprocess(CanvasData(**mixed.to_message()))
    assert [bucket.instruction for bucket in again.buckets] == [" Rhyme. ", "", " Rhyme. "]
    long = CanvasData(buckets=[BucketData(id="a", name="A", instruction="x" * 9_000)])
    assert len(PromptCanvas().preprocess(long).buckets[0].instruction) == 2_000


def test_files_of_several_tasks_in_one_bucket_are_noticed(
    drop: Callable[[Session, Arrangement], str], arrange: Arrange
) -> None:
    other = FILE.replace("Say it in French", "Name the time of day")
    told = drop(Session(), arrange(A={"a.jsonl": FILE, "b.jsonl": other}))
    assert "The files have 2 different instructions." in told
    assert "data-presses='[data-bucket=&quot;id-A&quot;] .dnd-spread'" in told
    apart = drop(Session(), arrange(A={"a.jsonl": FILE}, B={"b.jsonl": other}))
    assert "different instructions" not in apart
    # A file of several wordings says that they are wordings.
    several = drop(Session(), arrange(A={"a.jsonl": f"{FILE}\n{other}", "b.jsonl": other}))
    assert "different instructions" not in several
