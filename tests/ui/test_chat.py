"""Comparing: asked again, edited, without the instruction, marked, blind, voted on and kept."""

import json
import re
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from dnd_engine.config import Sampling
from dnd_engine.errors import DndError
from dnd_engine.limits import PromptLimits
from dnd_engine.models.replies import Reply
from dnd_engine.tasks.folder import Example
from tests.present import present
from tests.ui.fake_adapter import FakeAdapter
from tests.ui.fake_engine import FakeEngine, handle_of
from tests.ui.orders import SAMPLING, answered, drawn, last, visitor
from tests.ui.orders import make as make_of
from ui.canvas import Arrangement
from ui.engine_calls import EngineCalls
from ui.handlers import Handlers
from ui.markup import TIMES
from ui.session_files import SessionFiles
from ui.shared import App, Updates
from ui.state import Answer, AskMode, Session, Turn, Vote
from ui.tabs.workbench.compare.differences import marked
from ui.tabs.workbench.compare.transcript import write_transcript
from ui.tabs.workbench.compare.view import head_html
from ui.tabs.workbench.compare.votes_view import votes_html, win_rate
from ui.text import speaking

Arrange = Callable[..., Arrangement]
RequestOf = Callable[[str], gr.Request]
Make = Callable[..., Updates]
Chat = Callable[..., Updates]

_MOST_PARTS = 1000


class SlowReader(FakeEngine):
    """Reads a prompt of many parts, for 10 s or until the caller leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.num_read = 0
        self.freed = threading.Event()

    def compare(self, *_: Any, **__: Any) -> Generator[list[Reply], None, None]:
        """Yield after each part, as the engine does."""
        try:
            while self.num_read < _MOST_PARTS:
                time.sleep(0.01)
                self.num_read += 1
                yield [Reply("", 0, None, 0.0, 0.0)]
        finally:
            self.freed.set()


DRAWN = ("", 64, 1.0, 7, 1.0, 0, 1.0, False)


@pytest.fixture
def request_here(request_of: RequestOf) -> gr.Request:
    return request_of("chat")


@pytest.fixture
def make(on: Handlers, arrange: Arrange, request_here: gr.Request) -> Make:
    """Synthesize from one prompt."""

    def synthesize(session: Session, prompt: str = "one") -> Updates:
        arrangement = arrange(**{prompt.split()[0]: {"a.txt": f"{prompt}\n"}})
        return make_of(on, session, arrangement, request_here)

    return synthesize


@pytest.fixture
def chat(on: Handlers, request_here: gr.Request) -> Chat:
    def ask(
        session: Session, question: str, mode: AskMode = "written", settings: Any = SAMPLING
    ) -> Updates:
        on.compare.ask(question, mode, session)
        return answered(on, session, request_here, settings)

    return ask


def test_asked_again_both_sides_answer_anew_with_other_words_drawn(
    on: Handlers, make: Make, chat: Chat, engine: FakeEngine, request_here: gr.Request
) -> None:
    session = Session()
    make(session)
    first = chat(session, "Hi", settings=DRAWN)
    assert first["again"].visible is True
    assert "seed 7" in first["left_pane"]
    on.compare.ask_again(session)
    second = answered(on, session, request_here, DRAWN)
    assert "seed 8" in second["left_pane"]
    assert "seed 8" in second["right_pane"]
    assert len(engine.asked) == 2
    assert len(session.turns) == 1


def test_one_side_alone_is_asked_again_and_the_other_stays(
    on: Handlers, make: Make, chat: Chat, engine: FakeEngine, request_here: gr.Request
) -> None:
    session = Session()
    make(session)
    chat(session, "Hi", settings=DRAWN)
    kept = session.turns[0].left.reply
    started = on.compare.ask_again(session, "right")
    assert "…" in started["right_pane"]
    assert "…" not in started["left_pane"]
    updates = answered(on, session, request_here, DRAWN)
    assert session.turns[0].left.reply is kept
    assert len(engine.asked[-1]) == 1
    assert "seed 7" in updates["left_pane"]
    assert "seed 8" in updates["right_pane"]


def test_nothing_is_asked_again_while_answers_come(on: Handlers, make: Make) -> None:
    session = Session()
    assert on.compare.ask_again(session) == {}
    make(session)
    on.compare.ask("Hi", "written", session)
    assert on.compare.ask_again(session) == {}
    assert on.compare.edit(session, "") == {}


def test_an_edited_question_takes_the_place_of_the_old_one_once_it_is_sent(
    on: Handlers, chat: Chat
) -> None:
    session = Session()
    chat(session, "First")
    chat(session, "Secnod", "bare")
    updates = on.compare.edit(session, "")
    assert (updates["box"], updates["mode"].value) == ("Secnod", "bare")
    assert [turn.question for turn in session.turns] == ["First", "Secnod"]
    assert "Secnod" in updates["left_pane"]
    assert on.compare.ask("  ", "bare", session) == {}
    assert [turn.question for turn in session.turns] == ["First", "Secnod"]
    chat(session, "Second", "bare")
    assert [turn.question for turn in session.turns] == ["First", "Second"]
    chat(session, "Third")
    assert [turn.question for turn in session.turns] == ["First", "Second", "Third"]


@pytest.mark.parametrize("end", ["clear", "again"])
def test_an_edit_that_ends_otherwise_gives_back_what_was_typed(
    on: Handlers, chat: Chat, end: str
) -> None:
    session = Session()
    chat(session, "First", "bare")
    session.mode = "written"
    on.compare.edit(session, "half typed")
    ended = on.compare.clear_chat if end == "clear" else on.compare.ask_again
    updates = ended(session)
    assert (updates["box"], updates["mode"].value) == ("half typed", "written")
    assert session.mode == "written"
    assert updates["edit_row"].visible is False
    assert on.compare.cancel_edit(session) == {}


def test_an_edit_that_is_cancelled_changes_nothing(on: Handlers, chat: Chat) -> None:
    session = Session()
    chat(session, "First")
    before = session.turns[0]
    on.compare.choose_mode(session, "bare")
    on.compare.edit(session, "half typed")
    on.compare.edit(session, "First")  # pressed again
    updates = on.compare.cancel_edit(session)
    assert (updates["box"], updates["mode"].value) == ("half typed", "bare")
    assert session.turns == [before]
    assert on.compare.cancel_edit(session) == {}


@pytest.mark.parametrize(
    ("mode", "sent"),
    [
        ("written", ["Say it in French.\n\nHello", "Say it in French.\n\nHello"]),
        ("bare", ["Hello", "Hello"]),
        ("told", ["Say it in French.\n\nHello", "Hello"]),
    ],
)
def test_the_instruction_is_left_out_where_one_asks_and_shown_struck(
    make: Make, chat: Chat, engine: FakeEngine, mode: AskMode, sent: list[str]
) -> None:
    session = Session()
    make(session)
    updates = chat(session, "Say it in French.\n\nHello", mode)
    assert [messages[-1]["content"] for messages in engine.asked[-1]] == sent
    for pane, words in zip(("left_pane", "right_pane"), sent, strict=True):
        assert ("<s " in updates[pane]) == (words == "Hello")


def test_a_question_without_a_blank_line_is_sent_whole(chat: Chat, engine: FakeEngine) -> None:
    chat(Session(), "Hello", "bare")
    assert engine.asked[-1][0][-1]["content"] == "Hello"


@pytest.mark.parametrize(
    "question", ["Run it.\n\n    x = 1\n", "Say it.\n \nab", "Say it.\r\n\r\nab", "Say it.\n\n\nab"]
)
def test_what_is_sent_without_the_instruction_is_what_training_saw(
    chat: Chat, engine: FakeEngine, question: str
) -> None:
    chat(Session(), question, "bare")
    assert engine.asked[-1][0][-1]["content"] == Example(question, "").bare


# Two adapters


def test_any_two_adapters_of_a_visit_stand_beside_each_other(
    on: Handlers, make: Make, chat: Chat
) -> None:
    session = Session()
    alone = make(session, "one")
    assert alone["left_choice"].visible is False
    one = session.made
    assert one is not None
    both = make(session, "two")
    assert [key for _, key in both["left_choice"].choices] == ["", one.key]
    on.compare.stand_beside(session, one.key)
    updates = chat(session, "Which?")
    assert "is-other" in updates["left_pane"]
    assert f"under {one.adapter.sha256[:8]}" in updates["left_pane"]
    assert session.made is not None
    assert f"under {session.made.adapter.sha256[:8]}" in updates["right_pane"]
    on.compare.stand_beside(session, "")
    assert "base 9c41e0" in chat(session, "And the base?")["left_pane"].rpartition("And")[2]


def test_with_two_adapters_the_mode_names_the_one_that_reads_the_instruction(
    on: Handlers, make: Make, chat: Chat
) -> None:
    session = Session()
    make(session, "one")
    one = session.made
    assert one is not None
    make(session, "two")
    updates = on.compare.stand_beside(session, one.key)
    assert ("Tell only the other adapter", "told") in updates["mode"].choices
    assert updates["told_with"].label == "Instruction for the other adapter"
    session.told_with = "Answer yes or no."
    kept = chat(session, "Is it late?", "told")
    written = Path(kept["keep_markdown"].value["path"]).read_text()
    assert "What is sent: Tell only the other adapter." in written
    assert "Instruction for the other adapter:\n\n> Answer yes or no.\n" in written
    again = on.compare.compared(session)
    assert again["mode"].choices == again["told_with"].choices == [], "or they lose the focus"
    with speaking("de"):
        session.compared_as = None  # as the switch of the language does
        choices = on.compare.compared(session)["mode"].choices
        assert ("Anweisung nur für den anderen Adapter", "told") in choices
    updates = on.compare.stand_beside(session, "")
    assert ("Tell only the base model", "told") in updates["mode"].choices
    assert updates["told_with"].label == "Instruction for the base model"


def test_a_choice_made_while_the_words_above_are_drawn_has_the_last_word(
    on: Handlers, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or they say that both read what you write, beside a button that says otherwise."""
    session = Session()
    make(session, "one")
    choice = threading.Thread()

    def slowly(session: Session, mode: AskMode) -> str:
        nonlocal choice
        if not choice.ident:
            choice = threading.Thread(target=on.compare.choose_mode, args=(session, "bare"))
            choice.start()
            choice.join(0.3)
        return head_html(session, mode)

    monkeypatch.setattr("ui.tabs.workbench.compare.events.head_html", slowly)
    session.mode = "told"
    on.compare.compared(session)
    choice.join()
    shown = present(session.compared_as)
    assert (shown.mode, shown.head) == ("bare", head_html(session, "bare"))


def test_what_arrives_late_takes_back_no_choice_made_meanwhile(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    """Checks that end draw the words above the chat as they are, and may arrive after a choice."""
    session = Session()
    file = "Say it.\n\none\n---\nSay it.\n\ntwo\n"
    make_of(on, session, arrange(SQL={"a.txt": file}), request_of("s"))
    late = on.compare.compared(session)
    chosen = on.compare.choose_mode(session, "bare")
    assert "Both read the input alone" in chosen["compare_head"]
    assert chosen["told_with"].visible is False
    assert late.keys() == {"mode", "told_with"}
    assert all(update._constructor_args[0] == {} for update in late.values()), "nothing drawn"
    again = on.compare.choose_mode(session, "told")
    assert "Base reads the instruction" in again["compare_head"]
    assert again["told_with"].visible is True


def test_a_page_that_is_loaded_again_gets_all_that_is_above_the_chat(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    visit = on.visit.open(Session(), "en", "", request_of("a"))["session"]
    file = "Say it.\n\none\n---\nSay it.\n\ntwo\n"
    make_of(on, visit, arrange(SQL={"a.txt": file}), request_of("a"))
    back = on.visit.open(Session(), "en", visit.key, request_of("b"))
    assert back["told_with"].choices == [("SQL: Say it.", "Say it.")]
    assert back["told_with"].value == "Say it."
    assert ("Tell only the base model", "told") in back["mode"].choices


def test_an_adapter_and_its_imprint_are_told_apart(on: Handlers, make: Make) -> None:
    session = Session()
    make(session, "one")
    plain = present(session.made)
    imprint = FakeAdapter(name="one", sha256="1", num_prompts=1, provenance={"imprint": {}})
    session.take(replace(plain, original=imprint, adapter=imprint, before=plain))
    names = dict(on.compare.sides(session)["right_choice"].choices)
    assert list(names) == ["one, imprinted", "one, before imprint"]


def test_an_earlier_adapter_is_taken_from_the_shelf(on: Handlers, make: Make) -> None:
    session = Session()
    make(session, "one")
    one = session.made
    make(session, "two")
    two = session.made
    assert one is not None
    assert two is not None
    on.compare.stand_beside(session, one.key)
    updates = on.adapter.choose(session, one.key)
    assert session.made is one
    assert session.beside is None, "nothing is compared with itself"
    assert updates["right_choice"].value == one.key
    assert [key for _, key in updates["left_choice"].choices] == ["", two.key]
    assert on.adapter.choose(session, "of another visit") == {}


def test_equal_answers_are_called_equal_whoever_gave_them(
    on: Handlers, make: Make, chat: Chat
) -> None:
    session = Session()
    make(session, "one")
    one = session.made
    make(session, "two")
    assert one is not None
    for key in ("", one.key):
        on.compare.clear_chat(session)
        on.compare.stand_beside(session, key)
        assert "both answers are the same" not in chat(session, "Other")["right_pane"]
        updates = chat(session, "SAME")
        assert "both answers are the same, word for word" in updates["right_pane"]
        assert "both answers are the same" not in updates["left_pane"]


def test_an_adapter_that_answers_as_the_instructed_base_does_is_no_reason_to_doubt(
    make: Make, chat: Chat
) -> None:
    session = Session()
    make(session)
    session.told_with = "Say it in French."
    for question in ("SAME", "Say it in French.\n\nSAME"):
        pane = chat(session, question, "told")["right_pane"]
        assert "as the base answers with the instruction" in pane
        assert "is-doubt" not in pane
        session.turns = []
    session.told_with = ""
    assert "is-doubt" in chat(session, "SAME", "told")["right_pane"], "nobody was told anything"


def test_a_vote_reveals_who_answered_then(
    on: Handlers, make: Make, chat: Chat, request_here: gr.Request
) -> None:
    session = Session()
    make(session, "one")
    one = session.made
    make(session, "two")
    assert one is not None
    on.compare.go_blind(session, True)
    chat(session, "Hi")
    on.compare.vote("tie", session, request_here)
    session.turns[-1].swapped = False
    left = on.compare.stand_beside(session, one.key)["left_pane"]
    assert "<b>Base</b>" in left
    assert "Other adapter" not in left


def test_names_are_hidden_again_after_what_was_drawn_before(on: Handlers, make: Make) -> None:
    session = Session()
    late = make(session, "one")
    assert "one" in late["right_pane"]
    assert on.compare.hide_names(session) == {}
    now = on.compare.go_blind(session, True)
    again = on.compare.hide_names(session)
    assert again.keys() == now.keys()
    for pane in ("left_pane", "right_pane"):
        assert again[pane] == now[pane] != late.get(pane)


def test_a_line_tells_where_another_adapter_takes_over(
    on: Handlers, make: Make, chat: Chat
) -> None:
    session = Session()
    chat(session, "Before any")
    make(session, "one")
    one = session.made
    assert one is not None
    assert "From here on" not in chat(session, "First")["right_pane"]
    updates = make(session, "two")
    two = session.made
    assert two is not None
    head, line, rest = updates["right_pane"].partition("From here on: ")
    assert line
    assert "First" in head
    assert two.key[:8] in rest
    assert "From here on" not in updates["left_pane"]
    panes = chat(session, "Second")
    assert panes["right_pane"].index("From here on") < panes["right_pane"].index("Second")
    left = on.compare.stand_beside(session, one.key)["left_pane"]
    assert one.key[:8] in left.partition("From here on: ")[2]
    blind = on.compare.go_blind(session, True)
    for pane in (blind["left_pane"], blind["right_pane"]):
        assert pane.count("From here on: other models") == 2
        assert f"<code>{one.key[:8]}" not in pane
    for pane in (
        on.adapter.choose(session, one.key)["left_pane"],
        on.adapter.choose(session, two.key)["left_pane"],
    ):
        assert f"<code>{two.key[:8]}" not in pane


def test_an_adapter_made_twice_is_on_the_shelf_once(make: Make) -> None:
    session = Session()
    for prompt in ("one", "two", "one"):
        make(session, prompt)
    assert len(session.shelf) == 2
    assert session.shelf[-1] is session.made


# Strength


@contextmanager
def slid(
    on: Handlers, make: Make, engine: FakeEngine
) -> Iterator[tuple[Session, Iterator[Updates]]]:
    """Move the slider during an answer, which is held there inside the block."""
    session = Session()
    make(session)
    on.compare.ask("Hi", "written", session)
    with engine.pace.held("chat"):
        stream = on.compare.answer(session, *SAMPLING)
        drawn(stream)
        on.adapter.set_strength(session, 0.5)
        yield session, stream


def test_the_slider_acts_on_the_next_word(on: Handlers, make: Make, engine: FakeEngine) -> None:
    with slid(on, make, engine) as (session, stream):
        pass
    updates = last(stream)
    assert [engine.strengths[0], engine.strengths[-1]] == [[1.0], [0.5]]
    assert session.made is not None
    label = f"1.00 then {session.made.adapter.sha256[:8]} {TIMES} 0.50"
    assert label in updates["right_pane"]


def test_an_answer_that_was_stopped_names_the_strength_that_it_ended_with(
    on: Handlers, make: Make, engine: FakeEngine
) -> None:
    with slid(on, make, engine) as (session, stream):
        drawn(stream)
        on.compare.stop_chat(session)
        last(stream)
    assert " then " in session.turns[-1].sides["right"].label


# Differences


def test_words_that_differ_are_marked_and_escaped() -> None:
    one = marked("The <b>red</b> car is fast.", "The <b>blue</b> car is fast.")
    assert "<b>" not in one
    assert re.findall(r"<mark[^>]*>(.*?)</mark>", one) == ["red"]
    assert "<mark" not in marked("The same.", "The same.")


def test_all_differing_words_are_marked_even_where_few_are_shared() -> None:
    sentence, word = "The aisle in produce is the produce aisle.", "produce"
    assert re.sub(r"<mark[^>]*>.*?</mark>", "", marked(sentence, word)).split() == ["produce"]
    assert "<mark" not in marked(word, sentence)
    assert marked("", word) == ""


def test_lists_of_what_never_agrees_are_marked_without_making_everybody_wait() -> None:
    """Every comma equals every other; the exact way took 16 s for these."""
    numbers, letters = (", ".join(f"{kind}{i}" for i in range(400)) for kind in "nl")
    started = time.process_time()
    drawn = marked(numbers, letters)
    assert time.process_time() - started < 5
    assert re.sub(r"<[^>]*>", "", drawn) == numbers


def test_white_space_before_a_marked_word_is_not_marked() -> None:
    assert re.sub(r" title='[^']*'", "", marked("a  new word", "a word")) == (
        "a  <mark>new</mark> word"
    )


def test_marks_come_when_both_have_ended(on: Handlers, make: Make, chat: Chat) -> None:
    session = Session()
    make(session)
    on.compare.mark_differences(session, True)
    on.compare.ask("Hi", "written", session)
    session.turns[-1].left.reply = None
    updates = chat(session, "ignored while the first runs")
    assert "<mark" in updates["left_pane"]
    assert "<mark" in updates["right_pane"]
    assert "<mark" not in on.compare.mark_differences(session, False)["left_pane"]


# Blind


def blind_session(on: Handlers, make: Make) -> Session:
    session = Session()
    make(session)
    updates = on.compare.go_blind(session, True)
    assert updates["strength"].interactive is False
    assert updates["checks"].visible is False
    assert updates["votes"].visible is True
    return session


@pytest.mark.parametrize("swapped", [False, True])
def test_a_blind_answer_gives_nothing_away_before_the_vote(
    on: Handlers, make: Make, chat: Chat, request_here: gr.Request, *, swapped: bool
) -> None:
    session = blind_session(on, make)
    assert session.made is not None
    on.compare.ask("Hi", "written", session)
    session.turns[-1].swapped = swapped
    updates = answered(on, session, request_here)
    shown = updates["left_pane"] + updates["right_pane"]
    for secret in (
        "Base",
        "Adapted",
        "9c41e0",
        f"{TIMES} 1.00",
        "tok/s",
        "is-base",
    ):
        assert secret not in shown
    assert updates["vote_row"].visible is True
    adapted, base = ("left_pane", "right_pane") if swapped else ("right_pane", "left_pane")
    assert "SELECT" in updates[adapted]
    assert "in general" in updates[base]
    told = on.compare.vote("a", session, request_here)
    assert session.turns[-1].vote == ("right" if swapped else "left")
    assert told["vote_row"].visible is False
    assert "Adapted" in told[adapted]
    assert "Base" in told[base]
    assert "Base better" in told["left_pane"] or swapped
    assert on.compare.vote("b", session, request_here) == {}, "one vote a question"


def test_answers_that_were_seen_with_their_names_are_not_voted_on(
    on: Handlers, make: Make, chat: Chat, request_here: gr.Request
) -> None:
    session = Session()
    make(session)
    chat(session, "Hi")
    assert on.compare.go_blind(session, True)["vote_row"].visible is False
    assert on.compare.vote("a", session, request_here) == {}
    on.compare.ask_again(session)
    # Greedy answers are the same again.
    assert answered(on, session, request_here)["vote_row"].visible is False
    assert chat(session, "New")["vote_row"].visible is True
    on.compare.go_blind(session, False)
    assert on.compare.go_blind(session, True)["vote_row"].visible is False, "seen in between"
    chat(session, "Newer")
    assert on.compare.vote("a", session, request_here)["vote_row"].visible is False
    on.compare.ask_again(session)
    assert answered(on, session, request_here)["vote_row"].visible is False, "the vote told"


def test_seen_again_both_stand_in_their_places(on: Handlers, make: Make, chat: Chat) -> None:
    session = blind_session(on, make)
    chat(session, "Hi")
    session.turns[-1].swapped = True
    updates = on.compare.go_blind(session, False)
    assert "in general" in updates["left_pane"]
    assert "SELECT" in updates["right_pane"]
    assert updates["strength"].interactive is True


def test_blind_or_not_an_answer_that_still_comes_can_be_stopped(
    on: Handlers, make: Make, engine: FakeEngine, request_here: gr.Request
) -> None:
    session = Session()
    make(session)
    on.compare.ask("Hi", "written", session)
    with engine.pace.held("chat"):
        stream = on.compare.answer(session, *SAMPLING)
        drawn(stream)
        for blind in (True, False):
            shown = on.compare.go_blind(session, blind)
            assert (shown["stop_chat"].visible, shown["send"].visible) == (True, False)
            assert (shown["again"].visible, shown["vote_row"].visible) == (False, False)
    last(stream)
    ended = on.compare.answered(session, request_here)
    assert (ended["stop_chat"].visible, ended["send"].visible) == (False, True)


def test_an_answer_that_failed_is_not_voted_on(
    on: Handlers, make: Make, chat: Chat, request_here: gr.Request
) -> None:
    session = blind_session(on, make)
    assert chat(session, "BREAK it")["vote_row"].visible is False
    assert on.compare.vote("a", session, request_here) == {}


def test_who_stands_first_is_drawn(on: Handlers, make: Make, chat: Chat) -> None:
    session = blind_session(on, make)
    for number in range(40):
        chat(session, f"Question {number}")
    assert {turn.swapped for turn in session.turns} == {False, True}


def test_a_win_rate_counts_votes_that_prefer_a_side() -> None:
    """Wilson's interval of 7 of 10 is .397 to .892."""
    votes: list[Any] = ["right"] * 7 + ["left"] * 3 + ["tie", "bad"]
    rate = win_rate(votes)
    assert rate is not None
    assert rate == pytest.approx((0.7, 0.397, 0.892), abs=5e-4)
    assert win_rate(["tie", "bad"]) is None


def test_the_tally_keeps_pairs_apart_and_says_when_votes_are_few() -> None:
    votes: list[tuple[str, Vote]] = [("<i>one", "right"), ("two", "tie"), ("<i>one", "left")]
    turns = [Turn("?", Answer("base 9c41e0"), Answer(who), vote=vote) for who, vote in votes]
    drawn = votes_html([*turns, Turn("?", Answer("base"))])
    assert drawn.count("<h3>") == 2
    assert "<i>one" not in drawn
    assert "Too few votes to tell." in drawn
    assert "No vote for either yet." in drawn
    sure = [Turn("?", Answer("base"), Answer("one"), vote="right")] * 9
    assert "Too few votes to tell." not in votes_html(sure)
    with speaking("de"):
        assert "<code>Basis 9c41e0</code>" in votes_html(turns)


# Kept


def test_a_conversation_to_read_names_the_adapter_and_the_added_instruction(
    on: Handlers, make: Make, chat: Chat
) -> None:
    session = Session()
    make(session)
    assert session.made is not None
    session.told_with = "Answer yes or no."
    chat(session, "Is it late?", "told")
    kept = chat(session, "Answer in French.\n\nIs it early?", "told")
    first, second = Path(kept["keep_markdown"].value["path"]).read_text().split("## Question")[1:]
    assert "Instruction for the base model:\n\n> Answer yes or no.\n" in first
    assert "Answer yes or no." not in second  # it has one of its own
    assert f"### `{session.made.adapter.name} {session.made.key[:8]} " in first
    assert "### `base " in first


def test_a_kept_answer_names_the_weights_and_the_strength_that_gave_it(
    on: Handlers, make: Make, chat: Chat, request_here: gr.Request
) -> None:
    session = Session()
    make(session)
    assert session.made is not None
    on.compare.ask("Hi", "written", session)
    on.adapter.set_strength(session, 0.5)  # while the question is queued
    answered(on, session, request_here)
    halved = session.made.adapter.sha256
    on.adapter.set_strength(session, 2.0)
    kept = chat(session, "And now?")
    rows = json.loads(Path(kept["keep_json"].value["path"]).read_text())["turns"]
    found = [(row["right"]["strength"], row["right"]["adapter_sha256"]) for row in rows]
    assert found == [(0.5, halved), (2.0, session.made.adapter.sha256)]
    assert "Strength: 1.00" not in Path(kept["keep_markdown"].value["path"]).read_text()


def test_conversation_and_votes_are_kept_as_files_of_the_visit(
    on: Handlers, make: Make, chat: Chat, request_here: gr.Request
) -> None:
    session = blind_session(on, make)
    first = chat(session, "# Not a heading\n\nHi", "told")
    assert first["keep_votes"].visible is False
    on.compare.vote("tie", session, request_here)
    updates = chat(session, "And now?")
    markdown, whole, votes = (
        Path(updates[f"keep_{name}"].value["path"]) for name in ("markdown", "json", "votes")
    )
    assert "\n# Not" not in markdown.read_text()
    assert "> # Not a heading" in markdown.read_text()
    kept = json.loads(whole.read_text())
    rows = kept["turns"]
    assert datetime.fromisoformat(kept["written"]) >= datetime.fromisoformat(rows[1]["asked"])
    assert rows[0]["sampling"]["temperature"] == 0
    assert rows[0]["system_prompt"] == ""
    assert rows[0]["right"]["strength"] == 1
    assert rows[0]["left"]["strength"] is None
    assert session.made is not None
    assert [row["question"] for row in rows] == ["# Not a heading\n\nHi", "And now?"]
    assert rows[0]["sent"] == "told"
    assert rows[0]["right"]["adapter_sha256"] == session.made.adapter.sha256
    assert rows[0]["left"]["adapter_sha256"] is None
    voted = [json.loads(line) for line in votes.read_text().splitlines()]
    assert [row["vote"] for row in voted] == ["tie"]
    cleared = on.compare.clear_chat(session)
    assert cleared["keep_row"].visible is False


def test_an_answer_that_was_asked_again_has_its_own_settings_in_the_exports(
    on: Handlers, make: Make, chat: Chat, tmp_path: Path
) -> None:
    session = Session()
    make(session)
    chat(session, "Hello")
    one, *_ = write_transcript(session.turns, tmp_path)
    assert one.read_text().count("Maximum tokens") == 1, "said once for both"
    on.compare.ask_again(session, "right")
    settings = ("Be a pirate.", 8, 1.5, 7, 0.5, 5, 1.2, False)
    answered(on, session, visitor(), settings)
    markdown, whole, _votes = write_transcript(session.turns, tmp_path)
    left, right = re.split("### ", markdown.read_text())[1:]
    assert ("Temperature: 0;" in left, "pirate" in left) == (True, False)
    assert ("Temperature: 1.5;" in right, "pirate" in right) == (True, True)
    (row,) = json.loads(whole.read_text())["turns"]
    assert row["left"]["sampling"]["temperature"] == 0
    assert row["right"]["sampling"]["temperature"] == row["sampling"]["temperature"] == 1.5
    assert (row["left"]["system_prompt"], row["system_prompt"]) == ("", "Be a pirate.")


def test_a_caller_who_leaves_while_a_prompt_is_read_ends_the_reading() -> None:
    """Otherwise the engine reads on for nobody, beside those who come after."""
    engine = SlowReader()
    handle = handle_of(engine)
    handle.start()
    assert handle.wait(60) is engine
    calls = EngineCalls(handle)
    steps = calls.compare([([], None)], Sampling())
    with pytest.raises(DndError, match="the caller left"):
        calls.last(steps, lambda: engine.num_read > 1)
    assert engine.freed.wait(60)
    assert engine.num_read < _MOST_PARTS


def test_a_page_that_is_closed_while_a_prompt_is_read_ends_the_reading(
    files: SessionFiles, tmp_path: Path
) -> None:
    engine, session = SlowReader(), Session()
    handle = handle_of(engine)
    handle.start()
    assert handle.wait(60) is engine
    on = Handlers(App(EngineCalls(handle), PromptLimits(), files, tmp_path))
    on.compare.ask("A long question", "written", session)
    steps = on.compare.answer(session, *SAMPLING)
    assert next(steps) == {}, "nothing to draw yet"
    steps.close()  # type: ignore[attr-defined]  # a generator
    assert engine.freed.wait(60)
    assert engine.num_read < _MOST_PARTS
