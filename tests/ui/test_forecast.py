"""Forecasts come once the prompts are read, and are asked for once."""

import dataclasses
from collections.abc import Callable

import gradio as gr
import pytest

from dnd_engine.checks.results import Forecast
from dnd_engine.generator.report import ForecastBand, ForecastGauge
from tests.ui.fake_engine import FakeEngine
from ui.canvas import Arrangement
from ui.handlers import Handlers
from ui.state import Session
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
    assert engine.foreseen == ["SQL", "Legal"]
    assert "Expect little" in told
    assert "Good chance" in told
    assert told.count("<li>") == 2
    again = drop(session, arrange({"Law": 0.5}, Law={"b.jsonl": FILE + "\n"}))
    assert engine.foreseen == ["SQL", "Legal"]
    assert again.count("<li>") == 1
    assert "Good chance" in again


def test_a_muted_bucket_and_prompts_without_instruction_get_no_forecast(
    drop: Callable[[Session, Arrangement], str], arrange: Arrange, engine: FakeEngine
) -> None:
    assert drop(Session(), arrange({"SQL": 0.0}, SQL={"a.jsonl": FILE})) == ""
    assert engine.foreseen == []
    assert drop(Session(), arrange(Notes={"a.txt": "one\ntwo\n"})) == ""
    assert engine.foreseen == ["Notes"]


def test_a_synthesis_ends_it(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    session = Session()
    arrangement = arrange(SQL={"a.jsonl": FILE})
    on.prompts.update_prompts(arrangement, session, request_of("s"))
    on.synthesis.begin_synthesis(arrangement, session)
    assert not any("forecast" in updates for updates in on.prompts.forecast(session))
    assert engine.foreseen == []


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
    assert engine.foreseen == ["SQL"]


def test_it_says_how_such_forecasts_turned_out() -> None:
    band = ForecastBand(begin=0.6, end=1.0, score=0.71, low=0.58, high=0.84, n_tasks=21)
    gauge = ForecastGauge(row="generator_imprint", bands=(band,), predicts_score=None, tasks=())
    found = [("<b>Q</b>", Forecast(sureness=0.75, num_prompts=8))]
    told = forecast_html(found, gauge)
    assert "a probability of 0.75 (mean of 8 prompts)" in told
    assert "On 21 unseen tasks" in told
    assert "71 times in 100" in told
    assert "<b>Q</b>" not in told
    two = forecast_html([*found, ("Legal", Forecast(sureness=0.1, num_prompts=2))], gauge)
    assert "&lt;b&gt;Q&lt;/b&gt;" in two
    assert "Expect little" in two
    without = forecast_html(found, dataclasses.replace(gauge, bands=()))
    assert "unseen" not in without
    assert forecast_html([]) == ""
