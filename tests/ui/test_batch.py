"""Many inputs at once, and what the comparison sends: handlers as plain functions."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from dnd_engine.limits import FIXED
from tests.ui.fake_engine import FakeEngine
from tests.ui.orders import drawn
from tests.ui.orders import make as make_of
from ui.canvas import Arrangement
from ui.handlers import Handlers
from ui.shared import Updates
from ui.state import AskMode, Session

Arrange = Callable[..., Arrangement]
RequestOf = Callable[[str], gr.Request]

SAMPLING = ("", 16, 0.0, 0, 1.0, 0, 1.0, False)
Ask = Callable[..., Updates]


def texts(instruction: str, *inputs: str) -> str:
    """Write a file of prompts that share an instruction."""
    return "\n---\n".join(f"{instruction}\n\n{given}" for given in inputs)


@pytest.fixture
def request_here(request_of: RequestOf) -> gr.Request:
    return request_of("batch")


@pytest.fixture
def made(on: Handlers, arrange: Arrange, request_here: gr.Request) -> Session:
    """A visit with an adapter of prompts that have an instruction."""
    session = Session()
    file = texts("Say it in French.", "one", "two", "three")
    make_of(on, session, arrange(French={"a.txt": file}), request_here)
    return session


@pytest.fixture
def ask(on: Handlers, request_here: gr.Request) -> Ask:
    """Ask many inputs, and return everything that was drawn last."""

    def run(session: Session, text: str, mode: AskMode = "written", told: str = "") -> Updates:
        updates = dict(on.batch.begin(text, mode, told, session))
        for step in on.batch.answer(session, *SAMPLING):
            updates |= step
        return updates | on.batch.answered(session, request_here)

    return run


def test_every_input_is_answered_by_both_models_in_batches(
    made: Session, ask: Ask, engine: FakeEngine
) -> None:
    updates = ask(made, "\n".join(f"word {n}" for n in range(10)))
    table = updates["batch_table"]
    assert table.count("<tr>") == 11
    assert "10 of 10 inputs answered." in table
    assert "word 9" in table
    assert [len(rows) for rows in engine.asked] == [16, 4]
    assert made.batch is not None
    assert all(reply is not None for row in made.batch.replies for reply in row)


def test_the_table_says_how_many_answers_are_the_same(made: Session, ask: Ask) -> None:
    assert "Both give the same answer to 2." in ask(made, "SAME one\ntwo")["batch_table"]
    assert "Both give the same answer to 0." in ask(made, "one\ntwo")["batch_table"]


def test_before_an_adapter_the_base_answers_alone(ask: Ask, engine: FakeEngine) -> None:
    table = ask(Session(), "a\nb")["batch_table"]
    assert [len(rows) for rows in engine.asked] == [2]
    assert table.count("<th scope='col'>") == 2
    assert "same answer" not in table


def test_the_table_names_who_answered_when_another_adapter_of_the_name_is_chosen(
    on: Handlers, arrange: Arrange, made: Session, ask: Ask, request_here: gr.Request
) -> None:
    answering = made.made
    assert answering is not None
    ask(made, "one")
    others = texts("Say it in French.", "four", "five")
    make_of(on, made, arrange(French={"b.txt": others}), request_here)
    updates = on.batch.put_back(made, request_here)
    assert updates["batch_box"].open is True
    head = f"{answering.adapter.name} {answering.key[:8]}"
    assert f"<th scope='col'>{head}</th>" in updates["batch_table"]
    with Path(updates["batch_file"].value["path"]).open(encoding="utf-8", newline="") as file:
        assert next(csv.reader(file)) == ["input", "Base", head]


def test_only_the_left_model_reads_the_instruction_where_only_it_is_told(
    made: Session, ask: Ask, engine: FakeEngine
) -> None:
    table = ask(made, "four", "told", "Say it in French.")["batch_table"]
    left, right = ([m[-1]["content"] for m in engine.asked[-1]][n] for n in (0, 1))
    assert (left, right) == ("Say it in French.\n\nfour", "four")
    assert "with the instruction" in table


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (" \n\n", "Type or paste your inputs first"),
        ("a\n" * (FIXED.max_batch_inputs + 1), f"21 inputs: at most {FIXED.max_batch_inputs}"),
        ("a\n" + "b" * 2001, "Input 2 has 2,001 characters: at most 2,000"),
        ("BREAK", "longer than the model can read"),
    ],
)
def test_inputs_that_cannot_be_asked_are_named_and_the_next_ones_work(
    made: Session, ask: Ask, text: str, told: str
) -> None:
    updates = ask(made, text)
    assert told in updates["batch_table"]
    assert updates["batch_start"].visible is True
    assert "1 of 1 inputs answered." in ask(made, "fine")["batch_table"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (" \n\n", "Type or paste your inputs first"),
        ("a\n" + "b" * 2001, "Input 2 has 2,001 characters: at most 2,000"),
        ("BREAK", "longer than the model can read"),
    ],
)
def test_inputs_that_are_refused_take_no_earlier_table_away(
    on: Handlers, made: Session, ask: Ask, request_here: gr.Request, text: str, told: str
) -> None:
    first = ask(made, "kept")
    for _again in range(2):
        updates = ask(made, text)
        assert told in updates["batch_table"]
        assert updates["batch_table"].endswith(first["batch_table"])
        assert updates["batch_start"].visible is True
        assert updates["batch_file"].visible is True
        with Path(updates["batch_file"].value["path"]).open(encoding="utf-8", newline="") as file:
            assert [row[0] for row in csv.reader(file)] == ["input", "kept"]
    assert on.batch.put_back(made, request_here)["batch_table"] == first["batch_table"]
    assert "kept" not in ask(made, "fine")["batch_table"]


def test_an_unexpected_error_before_any_answer_takes_no_earlier_table_away(
    on: Handlers, made: Session, ask: Ask, request_here: gr.Request
) -> None:
    first = ask(made, "kept")
    on.batch.begin("new", "written", "", made)
    updates = on.batch.broke(made)
    assert "Something broke that should not have" in updates["batch_table"]
    assert updates["batch_table"].endswith(first["batch_table"])
    assert on.batch.answered(made, request_here)["batch_file"].visible is True


def test_an_error_takes_away_no_earlier_answer(made: Session, ask: Ask) -> None:
    inputs = [*(f"word {n}" for n in range(8)), "BREAK"]
    updates = ask(made, "\n".join(inputs))
    assert "longer than the model can read" in updates["batch_table"]
    assert "8 of 9 inputs answered." in updates["batch_table"]
    with Path(updates["batch_file"].value["path"]).open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    assert [row[0] for row in rows if all(row)] == inputs[:8]


def test_answers_are_kept_as_csv_that_no_spreadsheet_computes(made: Session, ask: Ask) -> None:
    updates = ask(made, "=1+1\nplain")
    with Path(updates["batch_file"].value["path"]).open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert [row[0] for row in rows] == ["input", "'=1+1", "plain"]
    assert all(len(row) == 3 and all(row) for row in rows)


def test_stop_keeps_what_was_answered(
    on: Handlers, made: Session, request_here: gr.Request, engine: FakeEngine
) -> None:
    on.batch.begin("\n".join("Say more" for _ in range(9)), "written", "", made)
    steps = on.batch.answer(made, *SAMPLING)
    last: Updates = {}
    with engine.pace.held("chat"):
        drawn(steps)
        on.batch.stop(made)
        for step in steps:
            last = step
    assert "Stopped." in last["batch_table"]
    assert len(engine.asked) == 1
    assert on.batch.answered(made, request_here)["batch_start"].visible is True


def test_a_table_is_of_one_strength_though_the_slider_moves_meanwhile(
    on: Handlers, made: Session
) -> None:
    assert made.made is not None
    weights = made.made.adapter.sha256[:8]
    on.batch.begin("\n".join(f"word {n}" for n in range(9)), "written", "", made)
    for _step in on.batch.answer(made, *SAMPLING):
        on.adapter.set_strength(made, 0.5)
    assert made.batch is not None
    answers = [row[1].text for row in made.batch.replies if row[1] is not None]
    assert len(answers) == 9
    assert all(text.endswith(f"under {weights}") for text in answers)


def test_inputs_and_answers_are_shown_as_text(made: Session, ask: Ask) -> None:
    table = ask(made, "<img src=x onerror=alert(1)>")["batch_table"]
    assert "<img" not in table
    assert "&lt;img" in table


def test_prompts_with_an_instruction_tell_only_the_left_model_until_another_is_chosen(
    on: Handlers, made: Session
) -> None:
    made.compared_as = None  # draw all of it
    updates = on.compare.compared(made)
    assert updates["mode"].value == "told"
    assert updates["told_with"].value == "Say it in French."
    assert updates["told_with"].visible is True
    assert "Base reads the instruction and your input" in updates["compare_head"]
    chosen = on.compare.choose_mode(made, "bare")
    assert chosen["told_with"].visible is False
    assert "mode" not in chosen, "a late answer would take back a later choice"
    assert "Both read the input alone" in chosen["compare_head"]
    assert on.compare.compared(made)["mode"].value is None, "or it may take back a later choice"
    made.compared_as = None
    assert on.compare.compared(made)["mode"].value == "bare"


def test_an_instruction_of_several_lines_is_listed_on_one(
    on: Handlers, arrange: Arrange, request_here: gr.Request
) -> None:
    session = Session()
    file = texts("Say it.\nIn French.", "one", "two")
    make_of(on, session, arrange(French={"a.txt": file}), request_here)
    session.compared_as = None  # draw all of it
    listed = on.compare.compared(session)["told_with"]
    assert listed.choices == [("French: Say it. In French.", "Say it.\nIn French.")]


def test_prompts_without_an_instruction_are_sent_as_written(
    on: Handlers, arrange: Arrange, request_here: gr.Request
) -> None:
    session = Session()
    make_of(on, session, arrange(SQL={"a.txt": "one\n"}), request_here)
    assert on.compare.compared(session)["mode"].value is None, "a page begins with it"
    session.compared_as = None  # draw all of it
    assert on.compare.compared(session)["mode"].value == "written"


def test_the_told_model_reads_the_instruction_of_the_bucket_that_a_suggestion_is_from(
    on: Handlers, arrange: Arrange, request_here: gr.Request, engine: FakeEngine
) -> None:
    session = Session()
    both: dict[str, Any] = {
        "French": {"a.txt": texts("Say it in French.", "one", "two")},
        "Law": {"b.txt": texts("Name the clause.", "Pay at once.", "Leave.")},
    }
    make_of(on, session, arrange(**both), request_here)
    on.compare.compared(session)
    assert session.told_with == "Say it in French."
    index = session.suggestions.index("Leave.")
    assert on.compare.suggest(index, session)["told_with"] == "Name the clause."
    on.compare.ask("Leave.", "told", session)
    for _step in on.compare.answer(session, *SAMPLING):
        pass
    contents = [messages[-1]["content"] for messages in engine.asked[-1]]
    assert contents == ["Name the clause.\n\nLeave.", "Leave."]


def test_while_blind_the_question_does_not_tell_which_side_reads_the_instruction(
    on: Handlers, made: Session
) -> None:
    on.compare.compared(made)
    asked = on.compare.ask("four", "told", made)
    assert "Say it in French." in asked["left_pane"]
    for _step in on.compare.answer(made, *SAMPLING):
        pass
    hidden = on.compare.go_blind(made, True)
    assert "One reads the instruction" in hidden["compare_head"]
    for pane in ("left_pane", "right_pane"):
        assert "Say it in French." not in hidden[pane].split("dnd-answer-text")[0]


@pytest.fixture
def of_two_buckets(on: Handlers, arrange: Arrange, request_here: gr.Request) -> Session:
    """An adapter of two buckets with different instructions."""
    session = Session()
    both: dict[str, Any] = {
        "French": {"a.txt": texts("Say it in French.", "one", "two")},
        "Law": {"b.txt": texts("Name the <clause>.", "Pay at once.", "Leave.")},
    }
    make_of(on, session, arrange(**both), request_here)
    return session


def test_of_several_instructions_the_chat_says_which_one_the_base_reads(
    on: Handlers, of_two_buckets: Session
) -> None:
    session = of_two_buckets
    session.compared_as = None  # draw all of it
    head = on.compare.compared(session)["compare_head"]
    assert "Base reads “Say it in French.” before your input" in head
    assert "choose another instruction below" in head
    head = on.compare.choose_instruction(session, "Name the <clause>.")["compare_head"]
    assert "Base reads “Name the &lt;clause&gt;.” before your input" in head
    head = on.compare.suggest(session.suggestions.index("two"), session)["compare_head"]
    assert "“Say it in French.”" in head
    hidden = on.compare.go_blind(session, True)["compare_head"]
    assert "One reads “Say it in French.” before your input" in hidden
    assert "“" not in on.compare.choose_mode(session, "bare")["compare_head"]


def test_the_table_says_which_instruction_the_base_reads_and_that_there_are_others(
    on: Handlers, of_two_buckets: Session, made: Session
) -> None:
    chosen = "Name the <clause>."
    table = on.batch.begin("Leave.", "told", chosen, of_two_buckets)["batch_table"]
    assert "Base reads “Name the &lt;clause&gt;.” before each input that has no" in table
    assert "choose it above, under “Instruction for the base model”" in table
    table = on.batch.begin("three", "told", "Say it in French.", made)["batch_table"]
    assert "Base reads “Say it in French.” before each input that has no" in table
    assert "choose it above" not in table
    of_two_buckets.batch = None
    table = on.batch.begin("Leave.", "bare", chosen, of_two_buckets)["batch_table"]
    assert "reads “" not in table
