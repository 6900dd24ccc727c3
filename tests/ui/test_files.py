"""What visitors choose for a file on the canvas, and what the canvas shows of it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gradio as gr
import pytest
from pydantic import ValidationError

from dnd_engine.prompts.reading import Choices
from tests.ui.orders import make
from ui.canvas import Arrangement, CanvasData, Looking
from ui.handlers import Handlers
from ui.markup import faults, prose
from ui.session_files import SessionFiles
from ui.state import Session
from ui.tabs.workbench.prompts.events import buckets_on

TABLE = "id,ask,body\n1,Name the animal.,a dog\n2,Name it.,a cat\n3,Name it.,a cow\n"
MAIL = "From: Ann\nTo: Bob\nSubject: Lunch\n\nShall we?\n"

Arrange = Callable[..., Arrangement]


def chosen(arrangement: Arrangement, **card: Any) -> Arrangement:
    """Return an arrangement whose only card was changed."""
    (bucket,) = arrangement.buckets
    (before,) = bucket.cards
    after = replace(before, version=before.version + 1, **card)
    return replace(arrangement, buckets=(replace(bucket, cards=(after,)),))


def read(on: Handlers, arrangement: Arrangement, session: Session) -> dict[str, Any]:
    """Return what the canvas shows of its only card."""
    request = gr.Request()
    request.session_hash = "files"
    inbox = on.prompts.update_prompts(arrangement, session, request)["inbox"]
    (told,) = inbox["readings"].values()
    return {**told, "looked": inbox["looked"]}


def texts(arrangement: Arrangement, session: Session) -> list[str]:
    return [p.text for bucket in buckets_on(arrangement, session) for p in bucket.prompts]


def in_memory(session: Session) -> int:
    wholes = [reading.whole for reading in session.readings.values()]
    return sum(whole.memory_bytes for whole in wholes if whole is not None)


def test_columns_that_were_chosen_are_read_and_kept_in_the_recipe(
    on: Handlers, arrange: Arrange, request_of: Callable[[str], gr.Request]
) -> None:
    session, laid = Session(), arrange(SQL={"t.csv": TABLE})
    assert read(on, laid, session)["version"] == 0
    assert texts(laid, session)[0] == "Name the animal."  # the longest
    choices = Choices(text="body", instruction="ask")
    laid = chosen(laid, choices=choices)
    told = read(on, laid, session)
    assert (told["version"], told["num_prompts"]) == (1, 3)
    assert texts(laid, session)[0] == "Name the animal.\n\na dog"
    make(on, session, laid, request_of("files"))
    assert session.made is not None
    (bucket,) = session.made.buckets
    assert bucket.files[0].choices == choices


def test_files_that_arrive_together_are_read_again_from_copies_of_their_own(
    on: Handlers, arrange: Arrange, files: SessionFiles, request_of: Callable[[str], gr.Request]
) -> None:
    contents = {"a.txt": "one\ntwo", "b.txt": "three\nfour", "c.csv": "text\nfive\nsix\n"}
    session, laid = Session(), arrange(SQL=contents)
    on.prompts.update_prompts(laid, session, request_of("s"))
    assert files.reading_bytes("s") == in_memory(session)
    (bucket,) = laid.buckets
    cards = [replace(card, version=1, choices=Choices(without=(1,))) for card in bucket.cards]
    laid = replace(laid, buckets=(replace(bucket, cards=tuple(cards)),))
    on.prompts.update_prompts(laid, session, request_of("s"))
    assert texts(laid, session) == ["one", "three", "five"]
    more = arrange(Legal={"d.txt": "seven\neight"})
    on.prompts.update_prompts(more, session, request_of("s"))
    split = chosen(more, split="lines")
    on.prompts.update_prompts(split, session, request_of("s"))
    assert texts(split, session) == ["seven", "eight"]
    assert files.reading_bytes("s") == in_memory(session)
    assert len(list(files.folder("s").iterdir())) == len(session.readings) == 4


def test_a_reload_while_files_are_read_mixes_up_none_of_their_copies(
    on: Handlers,
    arrange: Arrange,
    request_of: Callable[[str], gr.Request],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = on.visit.open(Session(), "en", "", request_of("old"))["session"]
    first = arrange(A={"a.txt": "one"})
    on.prompts.update_prompts(first, old, request_of("old"))
    key, taken = old.key, list[Session]()

    def check(session: Session, page: str, num_bytes: int) -> None:
        if not taken:
            taken.append(on.visit.open(Session(), "en", key, request_of("new"))["session"])

    monkeypatch.setattr(on.app.visits, "check_writing", check)
    more = arrange(A={"a.txt": "one"}, B={"b.txt": "two", "c.txt": "three"})
    assert on.prompts.update_prompts(more, old, request_of("old")) == {}
    (new,) = taken
    again = chosen(first, split="lines")
    on.prompts.update_prompts(again, new, request_of("new"))
    assert texts(again, new) == ["one"]


def test_prompts_removed_by_hand_are_neither_used_nor_forgotten(
    on: Handlers, arrange: Arrange
) -> None:
    session, laid = Session(), arrange(SQL={"a.txt": "one\ntwo\nthree"})
    read(on, laid, session)
    laid = chosen(laid, choices=Choices(without=(1,)))
    laid = replace(laid, looking=Looking(card="SQL/a.txt"))
    told = read(on, laid, session)
    assert told["num_prompts"] == 2
    assert texts(laid, session) == ["one", "three"]
    assert [prompt["input"] for prompt in told["looked"]["prompts"]] == ["one", "two", "three"]
    laid = chosen(laid, choices=Choices(without=(0, 1, 2)))
    told = read(on, laid, session)
    assert told["error"].startswith(
        "Expected at least one prompt, got none, since all were removed"
    )
    assert told["looked"]["num_prompts"] == 3
    assert texts(laid, session) == []


def test_a_table_without_a_column_of_text_asks_which_to_read(
    on: Handlers, arrange: Arrange
) -> None:
    session, laid = Session(), arrange(SQL={"a.csv": "label,answer\nyes,A dog.\nno,A cat.\n"})
    laid = replace(laid, looking=Looking(card="SQL/a.csv"))
    told = read(on, laid, session)
    assert "expected a column of text" in told["error"].lower()
    assert told["opens"]
    assert [column["name"] for column in told["looked"]["columns"]] == ["label", "answer"]
    assert told["looked"]["columns"][1]["samples"] == ("A dog.", "A cat.")
    laid = chosen(laid, choices=Choices(text="answer"))
    assert read(on, laid, session)["error"] == ""
    assert texts(laid, session) == ["A dog.", "A cat."]


def test_a_file_that_is_hardly_prompts_waits_until_it_is_accepted(
    on: Handlers, arrange: Arrange
) -> None:
    session, laid = Session(), arrange(SQL={"mail.txt": MAIL})
    told = read(on, laid, session)
    assert told["doubt"] == "This looks like an e-mail, not like a list of prompts."
    assert texts(laid, session) == []
    laid = chosen(laid, accepted=True)
    assert read(on, laid, session)["doubt"] == ""
    assert len(texts(laid, session)) == 2


def test_the_good_lines_of_a_broken_file_are_offered(on: Handlers, arrange: Arrange) -> None:
    session, laid = Session(), arrange(SQL={"a.jsonl": '"one"\n[\n"two"\n'})
    told = read(on, laid, session)
    assert told["error"].startswith("Line 2: expected an object")
    assert told["num_good"] == 2
    laid = chosen(laid, choices=Choices(skip_broken=True))
    assert read(on, laid, session)["num_good"] == 0
    assert texts(laid, session) == ["one", "two"]


@pytest.mark.parametrize(
    ("contents", "hint"),
    [
        ({"mail.txt": MAIL}, "1 file waits for your choice on its card."),
        (
            {"mail.txt": MAIL, "a.jsonl": '"one"\n[', "a.csv": "label,answer\nyes,A dog.\n"},
            "3 files wait for your choice on their cards.",
        ),
        ({"a.jsonl": "["}, "No file can be read yet."),
    ],
)
def test_the_hint_says_that_files_wait_for_a_choice(
    on: Handlers,
    arrange: Arrange,
    request_of: Callable[[str], gr.Request],
    contents: dict[str, str],
    hint: str,
) -> None:
    updates = on.prompts.update_prompts(arrange(SQL=contents), Session(), request_of("s"))
    assert hint in updates["hint"]


def test_prompts_are_searched_in_instruction_and_input(on: Handlers, arrange: Arrange) -> None:
    text = "\n---\n".join(f"Name the COLOUR.\n\nthing {n}" for n in range(30))
    session, laid = Session(), arrange(SQL={"a.txt": text})
    looking = Looking(card="SQL/a.txt", query="colour thing 7", most=5)
    looked = read(on, replace(laid, looking=looking), session)["looked"]
    assert [prompt["place"] for prompt in looked["prompts"]] == [7, 17, 27]
    assert looked["prompts"][0] == {
        "place": 7,
        "instruction": "Name the COLOUR.",
        "input": "thing 7",
        "label": "",
    }
    assert (looked["num_found"], looked["num_prompts"]) == (3, 30)
    gone = replace(laid, looking=Looking(card="no such card"))
    request = gr.Request()
    request.session_hash = "files"
    told = on.prompts.update_prompts(gone, session, request)
    assert told["inbox"]["looked"] is None


@pytest.mark.parametrize(
    "card",
    [
        {"choices": {"text": "x" * 300}},
        {"choices": {"without": [0] * 30_000}},
        {"choices": {"without": ["../etc"]}},
        {"version": "x"},
    ],
)
def test_absurd_choices_are_refused(card: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CanvasData.model_validate({"cards": [{"id": "a", "name": "a.txt", **card}]})
    with pytest.raises(ValidationError):
        CanvasData.model_validate({"looking": {"card": "a", "most": 10**9}})


def test_what_the_engine_quotes_is_code_and_still_escaped() -> None:
    assert prose("Read `a<b`, not ``.") == "Read <code>a&lt;b</code>, not ``."
    assert "<code>&lt;img&gt;</code>" in faults("Not read", "column `<img>` is missing")
