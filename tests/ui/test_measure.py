"""Measure and Train as plain functions, with an engine without models."""

import copy
import csv
import errno
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from dnd_engine.config import MeasureConfig
from dnd_engine.library import Library
from dnd_engine.limits import PromptLimits, ServerLimits
from dnd_engine.measure.results import MeasureStep
from dnd_engine.prompts.files import PromptFile, read_prompt_file
from tests.present import present
from tests.ui.fake_adapter import FakeAdapter
from tests.ui.fake_engine import FakeEngine
from tests.ui.listed import events as events_of_page
from tests.ui.orders import SAMPLING, chat, make
from tests.ui.test_library import at_home, library  # noqa: F401 - fixtures
from tests.until import until
from ui.canvas import Arrangement
from ui.engine_calls import EngineCalls
from ui.engine_handle import EngineHandle
from ui.handlers import Handlers
from ui.session_files import SessionFiles
from ui.shared import App, Updates
from ui.state import Session
from ui.tabs.measure import events
from ui.tabs.measure.view import measured_html
from ui.text import localized, score_number, speaking

Arrange = Callable[..., Arrangement]
RequestOf = Callable[[str], gr.Request]


@pytest.fixture
def session(on: Handlers, arrange: Arrange, request_of: RequestOf) -> Session:
    """A visit with an adapter in the bar."""
    session = Session()
    make(on, session, arrange(SQL={"a.txt": "one\ntwo\n"}), request_of("s"))
    return session


@pytest.fixture
def rows(tmp_path: Path) -> Callable[..., str]:
    """Write rows with labels, as they come from an upload."""

    def write(
        count: int = 40,
        word: str = "good",
        name: str = "rows.jsonl",
        head: str = "Say yes.\n\n",
        **more: str,
    ) -> str:
        label = {"label": "yes", **more}
        lines = ({"prompt": f"{head}{word} {i}", **label} for i in range(count))
        folder = tmp_path / "gradio" / "secret"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
        return str(folder / name)

    return write


Rows = Callable[..., str]


def measure(
    on: Handlers, session: Session, path: str, request: gr.Request, **options: Any
) -> list[Updates]:
    on.measure.read_labelled(session, path, gr.Request())
    begun = on.measure.begin_measure(session, options.get("limit", 20), options.get("seen", False))
    return [
        begun,
        *on.measure.measure(session),
        on.measure.show_measured(session, request),
    ]


def train(
    on: Handlers, session: Session, request: gr.Request, steps: int = 20, *, warm: bool = False
) -> list[Updates]:
    begun = on.measure.begin_training(session, steps, warm)
    return [
        begun,
        *on.measure.measure(session),
        on.measure.show_measured(session, request),
    ]


def test_without_an_adapter_the_tab_says_what_to_do(on: Handlers) -> None:
    updates = on.measure.open_measure(Session())
    assert updates["measure_empty"].visible is True
    assert updates["measure_order"].visible is False
    assert on.measure.begin_measure(Session(), 20, False) == {}
    assert on.measure.begin_training(Session(), 20, False)["measure_train"].interactive is False
    assert on.measure.stop_measure(Session(), gr.Request()) == {}
    assert on.measure.measure_broke(Session(), gr.Request()) == {}


def test_a_visit_that_comes_back_shows_its_adapter_in_a_tab_that_was_opened_too_early(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    visit = on.visit.open(Session(), "en", "", request_of("a"))["session"]
    make(on, visit, arrange(SQL={"a.txt": "one\ntwo\n"}), request_of("a"))
    back = on.visit.open(Session(), "en", visit.key, request_of("b"))
    assert back["measure_empty"].visible is False
    assert back["measure_order"].visible is True
    assert back["session"].made.adapter.sha256[:8] in back["measure_of"]


def test_an_open_tab_names_the_adapter_of_a_run_that_ends(
    on: Handlers, session: Session, arrange: Arrange, request_of: RequestOf
) -> None:
    before = present(session.made)
    make(on, session, arrange(Tone={"b.txt": "three\n"}), request_of("s"))
    told = on.measure.name_adapter(session)["measure_of"]
    assert present(session.made).key[:8] in told
    assert before.key[:8] not in told
    page = events_of_page()
    assert len(page["MeasureEvents.name_adapter"]) == len(page["RunEvents.show_run"])


def test_the_adapter_in_the_bar_is_named_and_rows_are_counted(
    on: Handlers, session: Session, rows: Rows
) -> None:
    assert session.made is not None
    opened = on.measure.open_measure(session)
    assert opened["measure_order"].visible is True
    assert session.made.adapter.sha256[:8] in opened["measure_of"]
    assert opened["measure_start"].interactive is False
    read = on.measure.read_labelled(session, rows(12), gr.Request())
    assert "12 prompts, 12 with a label" in read["measure_told"]
    assert read["measure_start"].interactive is True
    twice = rows(12)
    text = Path(twice).read_text()
    Path(twice).write_text(f"{text}{text.splitlines()[-1]}\n")
    read = on.measure.read_labelled(session, twice, gr.Request())
    assert "12 with a label. " in read["measure_told"]
    assert "1 duplicate dropped." in read["measure_told"]
    assert (
        on.measure.read_labelled(session, None, gr.Request())["measure_start"].interactive is False
    )


@pytest.mark.parametrize(
    ("provenance", "words"),
    [
        ({"generator_sha256": "g"}, "made from prompts alone and knows no labels"),
        ({"generator_sha256": "g", "imprint": {}}, "learnt the model's own answers and knows no"),
        ({"imprint": {}}, "learnt the model's own answers and knows no labels"),
        ({"generator_sha256": "g", "refined": {"labels": False}}, "the model's own answers"),
        ({"generator_sha256": "g", "refined": {"labels": True}}, "learnt the labels of some"),
        ({"imprint": {}, "trained": {"labels": True}}, "learnt the labels of some prompts"),
        ({"imprint": {}, "trained": {"answers": "person"}}, "answers that a person gave to some"),
        ({"imprint": {}, "trained": {"answers": "teacher"}}, "a better model's answers to some"),
        ({}, ""),
    ],
)
def test_what_the_adapter_learnt_from_is_said(
    on: Handlers, session: Session, provenance: dict[str, Any], words: str
) -> None:
    made = present(session.made)
    made.adapter = replace(made.adapter, provenance=provenance)
    told = unescape(on.measure.open_measure(session)["measure_of"])
    assert words in told
    assert ("learnt" in told or "made from" in told) == bool(words)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("rows.csv", "prompt\none\n", "expected a label beside each prompt"),
        ("meeting notes.txt", "one\n", "txt files have no columns. Use csv, tsv"),
        ("rows.pdf", "%PDF", "PDF is not a prompt file"),
        ("rows.jsonl", "[]", "Line 1"),
        ("<b>.csv", "prompt\none\n", "&lt;b&gt;.csv"),
    ],
)
def test_files_that_cannot_be_measured_on_are_refused_in_plain_words(
    on: Handlers, session: Session, tmp_path: Path, name: str, text: str, words: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    told = on.measure.read_labelled(session, str(path), gr.Request())
    assert words.lower() in told["measure_told"].lower()
    assert str(tmp_path) not in told["measure_told"]
    assert "<b>.csv" not in told["measure_told"]
    assert told["measure_start"].interactive is False


class Chosen(gr.EventData):
    """What the page sends when columns are chosen."""

    def __init__(self, **roles: object) -> None:
        super().__init__(None, {"text": "", "instruction": "", "label": "", **roles})


def test_columns_are_chosen_and_make_other_rows(
    on: Handlers, session: Session, tmp_path: Path, request_of: RequestOf
) -> None:
    path, page = tmp_path / "rows.csv", request_of("s")
    cells = "\n".join(f"Say yes to {i},south,{'no' if i % 2 else 'yes'}" for i in range(40))
    path.write_text(f"question,region,verdict\n{cells}\n")
    read = on.measure.read_labelled(session, str(path), page)
    assert "choose the column" in read["measure_told"]
    assert read["measure_start"].interactive is False
    path.unlink()  # as uploads go after a while
    read = on.measure.choose_columns(session, Chosen(label="verdict"), page)
    assert "40 with a label" in read["measure_told"]
    columns = json.loads(read["measure_columns"])["columns"]
    assert [column["role"] for column in columns] == ["text", "", "label"]
    assert {p.label for p in present(session.labelled).prompts} == {"yes", "no"}
    on.measure.begin_measure(session, 20, False)
    list(on.measure.measure(session))
    on.measure.show_measured(session, page)
    other = on.measure.choose_columns(session, Chosen(label="region"), page)
    assert {p.label for p in present(session.labelled).prompts} == {"south"}
    assert other["measure_train"].interactive is False, "these are other rows"
    wrong = on.measure.choose_columns(session, Chosen(label="no such"), page)
    assert "expected a column" in wrong["measure_told"].lower()
    assert json.loads(wrong["measure_columns"])["columns"], "another can be chosen"
    assert on.measure.choose_columns(session, Chosen(label=["a list"]), page) == {}
    assert on.measure.choose_columns(Session(), Chosen(), page) == {}


@pytest.mark.parametrize("then", ["removed", "replaced", "chosen"])
def test_rows_that_are_read_late_do_not_replace_later_ones(
    on: Handlers,
    session: Session,
    rows: Rows,
    request_of: RequestOf,
    monkeypatch: pytest.MonkeyPatch,
    then: str,
) -> None:
    page, other = request_of("s"), rows(3, name="other.jsonl")
    on.measure.read_labelled(session, rows(region="south"), page)
    read = read_prompt_file

    def slowly(*args: Any, **kwargs: Any) -> PromptFile:
        file = read(*args, **kwargs)
        monkeypatch.setattr(events, "read_prompt_file", read)
        if then == "chosen":
            on.measure.choose_columns(session, Chosen(label="region"), page)
        else:
            on.measure.read_labelled(session, other if then == "replaced" else None, page)
        return file

    monkeypatch.setattr(events, "read_prompt_file", slowly)
    assert on.measure.choose_columns(session, Chosen(label="label"), page) == {}
    if then == "removed":
        assert session.rows is None
        return
    labels = [prompt.label for prompt in present(session.labelled).prompts]
    assert labels == (["yes"] * 3 if then == "replaced" else ["south"] * 40)


def test_rows_count_what_they_take_in_memory(
    handle: EngineHandle, files: SessionFiles, rows: Rows, tmp_path: Path
) -> None:
    few = ServerLimits(readings_per_visit_bytes=100_000)
    on = Handlers(App(EngineCalls(handle), PromptLimits(), files, tmp_path / "cache", server=few))
    session, page = Session(), gr.Request(session_hash="s")
    on.measure.read_labelled(session, rows(100), page)
    assert session.labelled is not None
    assert files.reading_bytes("s") == session.num_bytes == session.labelled.memory_bytes
    told = on.measure.read_labelled(session, rows(600), page)["measure_told"]
    assert "which is the limit" in told
    assert present(session).labelled is None
    assert files.reading_bytes("s") == session.num_bytes == 0
    on.measure.read_labelled(session, rows(100), page)
    assert session.labelled is not None, "those before have gone"


def test_a_file_that_is_gone_is_told_without_its_place(
    on: Handlers, session: Session, tmp_path: Path
) -> None:
    gone = str(tmp_path / "gone.csv")
    told = on.measure.read_labelled(session, gone, gr.Request())["measure_told"]
    assert "is-error" in told
    assert str(tmp_path) not in told


def test_a_measurement_tells_verdicts_a_table_a_picture_and_files(
    on: Handlers, session: Session, rows: Rows, request_of: RequestOf
) -> None:
    begun, *steps, done = measure(on, session, rows(), request_of("s"))
    assert begun["measure_stop"].visible is True
    assert begun["measure_start"].visible is False
    assert begun["measure_train"].interactive is False
    assert any("s left" in u["measure_stages"] and "answers" in u["measure_stages"] for u in steps)
    assert any("16 of 20" in u.get("measure_found", "") for u in steps)
    assert done["measure_start"].visible is True
    assert done["measure_train"].interactive is True
    assert "How it was measured" in done["measure_stages"]
    drawn = done["measure_found"]
    assert "Bare inputs: this adapter scores <b>.60</b>" in drawn
    assert "A clear gain over: Base (+.50," in drawn
    assert "<th scope='row'>What all adapters share</th><td><b>.30</b></td>" in drawn
    assert "Adapter .60 (430 ms)" in drawn
    assert "Made from" not in drawn
    assert done["measure_take_row"].visible is False
    assert done["measure_keep_row"].visible is True
    whole = json.loads(Path(done["measure_keep_json"].value["path"]).read_text())
    assert {r["row"] for r in whole["rows"]} == {"base", "adapter", "shared_lora", "few_shot"}
    with Path(done["measure_keep_items"].value["path"]).open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 4 * 2 * 20
    assert (
        "| Bare | This adapter |" in Path(done["measure_keep_markdown"].value["path"]).read_text()
    )


def test_details_are_apart_from_what_each_step_draws_again(
    on: Handlers, session: Session, rows: Rows, request_of: RequestOf
) -> None:
    """Drawn again, an unfolded section would fold itself."""
    done = measure(on, session, rows(), request_of("s"))[-1]
    assert "<details" not in done["measure_found"]
    assert "Intervals are 95 %" in done["measure_notes"]
    assert "nats per token" in done["measure_notes"]
    assert "nats" not in done["measure_found"]
    assert "open" not in done["measure_notes_box"].constructor_args
    assert done["measure_notes_box"].visible is True


def test_how_it_was_measured_is_said_in_the_language_of_the_page(
    on: Handlers, session: Session, rows: Rows, request_of: RequestOf
) -> None:
    done = measure(on, session, rows(), request_of("s"))[-1]
    english = done["measure_notes"]
    with speaking("de"):
        german = on.measure.again(session)["measure_notes"]
    lines = [re.findall("<li>(.*?)</li>", drawn) for drawn in (english, german)]
    assert len(lines[0]) == len(lines[1]) >= 3
    assert not {*lines[0]} & {*lines[1]}
    assert "Intervalle zu 95 %" in german


def test_rows_without_an_instruction_are_named_and_qualify_the_verdict(
    on: Handlers, session: Session, rows: Rows, request_of: RequestOf
) -> None:
    drawn = measure(on, session, rows(head=""), request_of("s"))[-1]["measure_found"]
    assert "As in your file: this adapter scores <b>.60</b>" in drawn
    assert "so the base was not told the task." in drawn
    assert "Full prompts" not in drawn
    told = measure(on, session, rows(), request_of("s"))[-1]["measure_found"]
    assert "not told the task" not in told


def test_rows_that_the_adapter_has_met_are_scored_only_when_allowed(
    on: Handlers, session: Session, rows: Rows, request_of: RequestOf
) -> None:
    path = rows(word="MET")
    failed = measure(on, session, path, request_of("s"))[-1]
    assert "Measuring did not finish." in failed["measure_stages"]
    assert "or tick “Score prompts it was made from too”" in failed["measure_stages"]
    assert "Queue" not in failed["measure_stages"], "the queue did not fail"
    assert failed["measure_start"].interactive is True
    assert "measure_found" not in failed
    assert "measure_found" in measure(on, session, path, request_of("s"), seen=True)[-1]


def test_a_failure_keeps_what_was_measured_before(
    on: Handlers, session: Session, rows: Rows, request_of: RequestOf
) -> None:
    measure(on, session, rows(), request_of("s"))
    failed = measure(on, session, rows(word="MET", name="met.jsonl"), request_of("s"))[-1]
    assert "rows.jsonl" in failed["measure_found"]
    assert "met.jsonl: the adapter was made from" in failed["measure_stages"], "in its own case"


def test_train_is_offered_only_with_enough_rows_to_learn_from(
    on: Handlers, session: Session, rows: Rows, request_of: RequestOf
) -> None:
    done = measure(on, session, rows(15), request_of("s"))[-1]
    assert done["measure_train"].interactive is True
    done = measure(on, session, rows(14), request_of("s"))[-1]
    assert "7 left to learn from" in done["measure_found"]
    assert done["measure_train"].interactive is False
    assert (
        "at least 8 labelled rows that are not scored, but only 7 are left."
        in done["measure_train_of"]
    )
    assert on.measure.begin_training(session, 20, False)["measure_train"].interactive is False
    done = measure(on, session, rows(14), request_of("s"), limit=6)[-1]
    assert done["measure_train"].interactive is True


def until_told(updates: Iterator[Updates], words: str) -> None:
    while words not in next(updates).get("measure_found", ""):
        pass


def test_stop_acts_at_once_and_keeps_what_was_found(
    on: Handlers, session: Session, rows: Rows, request_of: RequestOf, engine: FakeEngine
) -> None:
    on.measure.read_labelled(session, rows(), gr.Request())
    on.measure.begin_measure(session, 20, False)
    steps = on.measure.measure(session)
    with engine.pace.held("measure"):
        until_told(steps, "16 of 20")
        stopped = on.measure.stop_measure(session, request_of("s"))
        list(steps)
        until(lambda: engine.closed_measurements == 1)
    assert "Results so far are below." in stopped["measure_stages"]
    assert "16 of 20" in stopped["measure_found"]
    assert stopped["measure_start"].interactive is True
    assert stopped["measure_keep_row"].visible is True
    measure(on, session, rows(), request_of("s"))
    on.measure.begin_training(session, 20, False)
    steps = on.measure.measure(session)
    with engine.pace.held("train"):
        while "loss" not in next(steps)["measure_stages"]:
            pass
        early = on.measure.stop_measure(session, request_of("s"))["measure_stages"]
        assert "Stopped before anything was scored" in early
        assert "stand below" not in early
        list(steps)
    assert on.measure.stop_measure(session, request_of("s")) == {}


def test_one_that_waits_in_the_queue_never_starts_once_stopped(
    on: Handlers, session: Session, rows: Rows, request_of: RequestOf, engine: FakeEngine
) -> None:
    on.measure.read_labelled(session, rows(), gr.Request())
    on.measure.begin_measure(session, 20, False)
    on.measure.stop_measure(session, request_of("s"))
    assert list(on.measure.measure(session)) == []
    assert engine.closed_measurements == 0


def test_a_run_that_another_replaces_stands_in_nobodys_way(
    on: Handlers, session: Session, rows: Rows
) -> None:
    on.measure.read_labelled(session, rows(), gr.Request())
    on.measure.begin_measure(session, 20, False)
    assert "ahead" not in on.measure.begin_measure(session, 20, False)["measure_stages"]


def test_a_training_draws_its_curve_and_says_when_it_got_as_far(
    on: Handlers, session: Session, rows: Rows, request_of: RequestOf
) -> None:
    measure(on, session, rows(), request_of("s"))
    begun, *steps, done = train(on, session, request_of("s"))
    assert begun["measure_train_stop"].visible is True
    assert begun["measure_start"].interactive is False
    assert any("step 3 of 20, loss 0.667" in u["measure_stages"] for u in steps)
    assert any("about 5 s left" in u["measure_stages"] for u in steps)
    curves = [u["measure_found"].count("class='mark is-labels'") for u in steps if len(u) > 1]
    assert sorted(set(curves)) == [0, 2, 4, 6], "a point more after 5, 10 and 20 steps, twice"
    drawn = done["measure_found"]
    assert drawn.count("class='mark is-labels'") == 6
    assert "scored as much after 3.0 s of training, in 10 steps" in drawn
    assert "LoRA trained from scratch, 20 steps" in drawn
    assert "LoRA trained from scratch" not in steps[0]["measure_found"], "nothing is scored yet"
    assert "LoRA trained from scratch, 0 steps (" not in steps[0]["measure_found"], "it is the base"
    assert any("scoring after 5 steps" in u["measure_stages"] for u in steps)
    assert "How it was trained" in done["measure_stages"]
    assert done["measure_take_trained_lora"].visible is True
    assert done["measure_take_warm_lora"].visible is False
    done = train(on, session, request_of("s"), 5, warm=True)[-1]
    assert done["measure_take_warm_lora"].visible is True
    assert "LoRA trained from this adapter, 5 steps" in done["measure_found"]


def test_a_training_in_another_process_draws_no_more_than_one_in_this(
    on: Handlers,
    session: Session,
    rows: Rows,
    request_of: RequestOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On ZeroGPU a step without a new result brings a copy of those before."""
    plain = FakeEngine.train_lora

    def copied(*args: Any, **options: Any) -> Iterator[MeasureStep]:
        yield from map(copy.deepcopy, plain(*args, **options))

    monkeypatch.setattr(FakeEngine, "train_lora", copied)
    measure(on, session, rows(), request_of("s"))
    _begun, *steps, _done = train(on, session, request_of("s"))
    drawn = ["measure_found" in updates for updates in steps]
    assert sum(drawn) == 8, "at the start and the end, and twice each after 5, 10 and 20 steps"
    assert len(drawn) > 20


def test_a_trained_lora_takes_the_bar_and_is_kept_with_its_score(
    at_home: Handlers,  # noqa: F811 - the imported fixture
    library: Library,  # noqa: F811 - the imported fixture
    session: Session,
    rows: Rows,
    request_of: RequestOf,
) -> None:
    on, before = at_home, session.made
    assert list(on.measure.take_trained("trained_lora", session, request_of("s"))) == []
    measure(on, session, rows(), request_of("s"))
    train(on, session, request_of("s"))
    shown = list(on.measure.take_trained("trained_lora", session, request_of("s")))[-1]
    made = session.made
    assert made is not None
    assert made is not before
    assert session.shelf == [before, made]
    assert made.archive is not None
    assert shown["tabs"].selected == "workbench"
    assert "sql-trained-from-scratch" in shown["adapter_facts"]
    assert "trained on labels in 6 s" in shown["adapter_facts"]
    assert "weights in" not in shown["adapter_facts"]
    assert shown["keep_texts"].visible is False
    assert shown["undo"].visible is False
    assert "the Workbench now has" in on.measure.open_measure(session)["measure_found"]
    assert "Trained on your labels" in on.adapter.check(session)["checks"]
    on.library.keep(session, "trained", False, request_of("s"))
    (scores,) = library.get("trained").scores.values()
    assert (scores.own, scores.brief[0]) == ("trained_lora", ("bare", 0.8, 0.1))


def test_scores_go_to_the_entry_of_an_adapter_kept_before_or_after(
    at_home: Handlers,  # noqa: F811 - the imported fixture
    library: Library,  # noqa: F811 - the imported fixture
    session: Session,
    rows: Rows,
    request_of: RequestOf,
) -> None:
    on = at_home
    measure(on, session, rows(), request_of("s"))
    on.library.keep(session, "vault", False, request_of("s"))
    assert library.get("vault").scores["rows.jsonl"].brief[0] == ("bare", 0.6, 0.1)
    measure(on, session, rows(name="more.jsonl"), request_of("s"))
    assert set(library.get("vault").scores) == {"rows.jsonl", "more.jsonl"}
    ((words, _),) = on.library.open_library(session, None, request_of("s"))["library_kept"].choices
    assert "rows.jsonl: Bare inputs .60 (base .10), Full prompts .60 (base .10)" in words
    library.update("vault", strength=0.5)
    ((words, _),) = on.library.open_library(session, None, request_of("s"))["library_kept"].choices
    assert "rows.jsonl, at strength 1.00: Bare inputs .60" in words


def test_what_was_measured_says_of_which_adapter_it_is(
    on: Handlers, session: Session, rows: Rows, request_of: RequestOf
) -> None:
    on.adapter.set_strength(session, 0.5)
    drawn = measure(on, session, rows(), request_of("s"))[-1]["measure_found"]
    assert "strength 0.50" in drawn
    assert "the Workbench now has" not in drawn
    on.adapter.set_strength(session, 1.0)
    assert "the Workbench now has <b>sql</b>" in on.measure.open_measure(session)["measure_found"]


def test_train_waits_until_what_the_tab_shows_was_measured(
    on: Handlers, session: Session, rows: Rows, request_of: RequestOf
) -> None:
    path = rows()
    done = measure(on, session, path, request_of("s"))[-1]
    assert "<b>rows.jsonl</b>, compared with <b>sql</b>" in done["measure_train_of"]
    other = on.measure.read_labelled(session, rows(name="more.jsonl", word="bad"), gr.Request())
    assert other["measure_train"].interactive is False
    assert "Measure the Workbench" in other["measure_train_of"]
    run = session.measuring
    on.measure.begin_training(session, 20, False)
    assert session.measuring is run
    assert (
        on.measure.read_labelled(session, path, gr.Request())["measure_train"].interactive is True
    )
    on.adapter.set_strength(session, 0.5)
    assert on.measure.open_measure(session)["measure_train"].interactive is False


def test_a_trained_lora_stays_with_the_visit_when_a_new_run_takes_its_place(
    on: Handlers, session: Session, rows: Rows, request_of: RequestOf
) -> None:
    measure(on, session, rows(), request_of("s"))
    train(on, session, request_of("s"))
    made = present(session.made)
    first = present(session.found).measured.trained["trained_lora"]
    assert [one.key for one in session.shelf] == [made.key]
    steps = train(on, session, request_of("s"), 5)
    told = [step for step in steps if step.get("measure_take_told")]
    assert [one.key for one in session.shelf] == [made.key, first.sha256]
    assert len(told) == 1
    assert first.sha256[:8] in told[0]["measure_take_told"]
    assert told[0]["right_choice"].visible is True
    second = present(session.found).measured.trained["trained_lora"]
    measure(on, session, rows(), request_of("s"))
    assert present(session.found).measured.trained == {}
    assert [one.key for one in session.shelf][1:] == [first.sha256, second.sha256]
    assert present(session.made).key == session.shelf[0].key
    kept = session.shelf[1]
    assert kept.archive is None, "a full disk would lose it"
    on.adapter.choose(session, kept.key)
    on.adapter.prepare_download(session, request_of("s"))
    assert kept.archive is not None
    on.adapter.choose(session, made.key)
    assert kept.scores["rows.jsonl"].brief[0] == ("bare", 0.8, 0.1)
    assert isinstance(kept.original, FakeAdapter)
    for number in range(30):  # the one in the bar never loses its place
        session.shelve(replace(kept, original=replace(kept.original, sha256=f"{number}")))
    assert len(session.shelf) == 20
    assert session.shelf[0] is session.made


@pytest.mark.parametrize("place", ["conversation", "table", "measurement"])
def test_a_visit_comes_back_though_the_disk_is_full(
    on: Handlers,
    arrange: Arrange,
    rows: Rows,
    request_of: RequestOf,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    session = on.visit.open(Session(), "en", "", request_of("s"))["session"]
    make(on, session, arrange(SQL={"a.txt": "one\ntwo\n"}), request_of("s"))
    if place == "conversation":
        chat(on, session, "Hi")
    elif place == "table":
        on.batch.begin("Hi", "written", "", session)
        list(on.batch.answer(session, *SAMPLING))
    else:
        measure(on, session, rows(), request_of("s"))

    def full(*_what: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("ui.tabs.workbench.compare.events.write_transcript", full)
    monkeypatch.setattr("ui.tabs.workbench.batch.events.write_batch", full)
    monkeypatch.setattr("ui.tabs.measure.events.write_whole", full)
    back = on.visit.open(Session(), "en", session.key, request_of("new"))
    assert back["session"].made is not None
    drawn = {"conversation": "right_pane", "table": "batch_table", "measurement": "measure_found"}
    assert back[drawn[place]]


def test_taking_a_lora_twice_forgets_nothing_of_it(
    on: Handlers, session: Session, rows: Rows, request_of: RequestOf
) -> None:
    measure(on, session, rows(), request_of("s"))
    train(on, session, request_of("s"))
    list(on.measure.take_trained("trained_lora", session, request_of("s")))
    once = present(session.made)
    on.adapter.check(session)
    on.adapter.set_strength(session, 0.5)
    on.adapter.choose(session, session.shelf[0].key)
    list(on.measure.take_trained("trained_lora", session, request_of("s")))
    assert session.made is once
    assert once.inspection is not None
    assert once.adapter.strength == 0.5


def test_a_trained_lora_is_refined_on_rows_that_are_not_scored(
    on: Handlers, session: Session, rows: Rows, request_of: RequestOf
) -> None:
    measure(on, session, rows(), request_of("s"))
    train(on, session, request_of("s"))
    list(on.measure.take_trained("trained_lora", session, request_of("s")))
    ((file,),) = (bucket.files for bucket in present(session.made).buckets)
    sides = present(session.found).measured.sides
    assert {p.text for p in file.prompts} == {e.prompt for e in sides.train}


def test_results_of_different_rows_are_different_files(
    on: Handlers, session: Session, rows: Rows, request_of: RequestOf
) -> None:
    places = set()
    for word in ("good", "bad"):
        done = measure(on, session, rows(word=word), request_of("s"))[-1]
        places.add(done["measure_keep_json"].value["path"])
    assert len(places) == 2
    assert all(Path(place).exists() for place in places)


def test_where_others_are_served_runs_are_shorter(
    on: Handlers,
    at_home: Handlers,  # noqa: F811 - the imported fixture
    session: Session,
    rows: Rows,
) -> None:
    for handlers, most in ((on, 60), (at_home, 200)):
        handlers.measure.read_labelled(session, rows(), gr.Request())
        handlers.measure.begin_measure(session, 200, False)
        run = present(session.measuring)
        assert isinstance(run.config, MeasureConfig)
        assert run.config.limit_items == most
        run.stages.finish("done")


def test_what_the_adapter_took_says_whether_labels_and_guesses_are_in_it(
    on: Handlers, session: Session, rows: Rows, request_of: RequestOf
) -> None:
    drawn = measure(on, session, rows(), request_of("s"))[-1]["measure_found"]
    assert "took 0.43 s, without labels" in drawn
    made, found = present(session.made), present(session.found)
    guessed = replace(found, measured=replace(found.measured, synthesis_estimated=True))
    assert "takes about 0.43 s here" in measured_html(guessed, made)
    learnt = replace(found.adapter, provenance={"refined": {"labels": True}})
    drawn = measured_html(replace(found, adapter=learnt), made)
    assert "its training on answers included" in drawn
    assert "without labels" not in drawn


def test_everything_is_drawn_within_the_picture(
    on: Handlers, session: Session, rows: Rows, request_of: RequestOf
) -> None:
    measure(on, session, rows(), request_of("s"))
    train(on, session, request_of("s"), 5, warm=True)
    made, found = present(session.made), present(session.found)
    late = replace(found.measured, synthesis_seconds=1.5)  # as long as the training
    high = [replace(s, items=tuple(replace(i, score=1.0) for i in s.items)) for s in late.passes]
    best = replace(late, passes=tuple(high))
    drawn = measured_html(replace(found, measured=best), made)
    marks = [float(x) for x in re.findall(r"class='mark is-also' cx='([\d.]+)%", drawn)]
    assert marks
    assert max(marks) < 100
    names = [float(y) for y in re.findall(r"class='end is-\w+' x='100%' dx='9' y='([\d.]+)", drawn)]
    assert len(names) == 2 * 3
    assert min(names) >= 0


def test_an_unforeseen_error_puts_the_buttons_back(
    on: Handlers, session: Session, rows: Rows, request_of: RequestOf
) -> None:
    on.measure.read_labelled(session, rows(), gr.Request())
    on.measure.begin_measure(session, 20, False)
    broke = on.measure.measure_broke(session, request_of("s"))
    assert "Something broke" in broke["measure_stages"]
    assert broke["measure_start"].visible is True
    assert "Something broke" in on.measure.take_broke()["measure_take_told"]


def test_scores_are_written_as_the_engine_writes_them() -> None:
    told = [score_number(value) for value in (0, 0.141, 1, 0.004, -0.03)]
    assert told == ["0", ".14", "1.00", ".004", "-.03"]
    signed = [score_number(value, signed=True) for value in (0, 0.141, -0.03)]
    assert signed == ["0", "+.14", "-.03"]
    with speaking("de"):
        assert score_number(0.141) == "0,14", "a comma does not begin a number"
        assert score_number(-0.03, signed=True) == "-0,03"
        assert localized("1,234.5") == "1.234,5"
