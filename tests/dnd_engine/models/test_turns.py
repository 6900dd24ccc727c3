"""Chats and syntheses go before checks, and chats before training.

A check pauses between two forward passes, a training between two steps and between two passes of
what it asks.
"""

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import pytest

from dnd_engine.config import LabelledConfig, Sampling
from dnd_engine.models import turns
from dnd_engine.models.base import BaseModel
from dnd_engine.models.decode import decode
from dnd_engine.models.runtime import Runtime
from dnd_engine.models.turns import TurnLock, is_patient, patient
from dnd_engine.scoring.answers import answer
from dnd_engine.scoring.questions import Question
from dnd_engine.tasks.folder import Example
from dnd_engine.training.finetune.lessons import Descent, Lesson, label_loss, train_on_lessons
from tests.dnd_engine.tiny import LAYOUT, random_tokens, user
from tests.until import until


class WatchedLock(TurnLock):
    """Counts the patient threads that wait for urgent work to end, one at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.num_waiting = 0

    def wait_for_urgent(self) -> None:
        """Count who waits."""
        self.num_waiting += is_patient()
        super().wait_for_urgent()
        self.num_waiting -= is_patient()


@contextmanager
def beside(work: Callable[[], object]) -> Iterator[threading.Thread]:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield thread
    thread.join(120)
    assert not thread.is_alive()


def test_patient_work_waits_for_nobody_while_somebody_needs_its_result() -> None:
    lock, ended = WatchedLock(), threading.Event()

    def check() -> None:
        with patient():
            lock.wait_for_urgent()
        ended.set()

    with lock.urgent(), beside(check):
        until(lambda: lock.num_waiting == 1)
        with lock.hurrying():
            assert ended.wait(turns._PATIENCE_SECONDS / 2)


def test_a_check_pauses_for_a_chat_between_two_words_and_goes_on_after_it(base: BaseModel) -> None:
    lock = WatchedLock()
    runtime = replace(Runtime.of(base, LAYOUT), lock=lock)
    events: list[str] = []
    first_word = threading.Event()
    hidden = runtime.forward.hidden

    def check() -> None:
        question = Question(base.chat_ids("Hi"), (base.turn_end,), (), 12)
        with patient(), runtime.lock:
            answer(runtime, [[question]], None)
        events.append("checked")

    def watched(*args: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            events.append("check")
            first_word.set()
        return hidden(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime.forward, "hidden", watched)
        chat = decode(runtime, [user("Hello")], lambda: None, Sampling(max_new_tokens=6))
        with beside(check):
            assert first_word.wait(120)
            next(chat)
            until(lambda: lock.num_waiting == 1)  # in the middle of its answer
            events.append("chat")
            for _ in chat:
                assert lock.num_waiting == 1
                events.append("chat")
    start, end = events.index("chat"), len(events) - events[::-1].index("chat")
    assert set(events[start:end]) == {"chat"}
    assert events[-1] == "checked"
    assert set(events[end:-1]) == {"check"}


def test_a_chat_that_is_left_lets_the_check_go_on(base: BaseModel) -> None:
    lock = WatchedLock()
    runtime = replace(Runtime.of(base, LAYOUT), lock=lock)
    chat = decode(runtime, [user("Hello")], lambda: None, Sampling(max_new_tokens=6))
    next(chat)

    def check() -> None:
        with patient(), runtime.lock:
            pass

    with beside(check):
        until(lambda: lock.num_waiting == 1)
        chat.close()


def test_a_check_does_not_wait_for_what_it_makes_itself() -> None:
    lock = TurnLock()
    with patient(), lock.urgent(), lock:
        assert lock.locked()


def test_a_check_takes_a_step_now_and_then_where_somebody_always_chats(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "_PATIENCE_SECONDS", 0.01)
    lock = TurnLock()
    with lock.urgent(), patient(), lock:
        assert lock.locked()


def test_an_imprint_waits_for_a_first_adapter_and_a_moment_for_the_next_in_the_queue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for limit in ("_COURTESY_SECONDS", "_NEXT_SECONDS"):
        monkeypatch.setattr(turns, limit, 240.0)
    lock = TurnLock()
    waited = threading.Event()

    def imprint() -> None:
        lock.wait_for_awaited()
        waited.set()

    with lock.awaited(), lock.awaited():
        pass
    with beside(imprint):
        assert not waited.wait(0.1), "the next may begin"
        with lock.awaited():
            monkeypatch.setattr(turns, "_NEXT_SECONDS", 0.0)
            assert not waited.wait(0.1)


def test_an_imprint_goes_on_where_visitors_come_one_after_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "_COURTESY_SECONDS", 0.01)
    lock = TurnLock()
    with lock.awaited(), beside(lock.wait_for_awaited):
        pass


def test_an_imprint_waits_for_no_control_of_a_check(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("_COURTESY_SECONDS", "_NEXT_SECONDS"):
        monkeypatch.setattr(turns, limit, 240.0)
    lock = TurnLock()
    with patient(), lock.awaited(), beside(lock.wait_for_awaited):
        pass
    with beside(lock.wait_for_awaited):
        pass


def training(
    runtime: Runtime, steps: int, begins: Callable[[], object] = lambda: None
) -> Generator[Descent]:
    """Train on one example.

    Args:
        runtime: The base.
        steps: Number of steps.
        begins: Called at every step, with the lock held.
    """

    def loss(*args: Any) -> Any:
        begins()
        return label_loss(*args)

    lessons = [Lesson.of(runtime.base, Example("Say it.\n\nab", "a"))]
    config = LabelledConfig(steps=steps, least_examples=1, batch_size=1)
    start = random_tokens(seed=1)
    return train_on_lessons(runtime, start, LAYOUT, lessons, config, name="training", loss=loss)


@pytest.mark.slow
def test_a_chat_beside_two_trainings_waits_for_one_step_of_one_of_them(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "_CHAT_SECONDS", 240.0)
    runtime = Runtime.of(base, LAYOUT)
    begun, chatted = threading.Semaphore(0), threading.Event()

    def train() -> None:
        with closing(training(runtime, 1000, begun.release)) as steps:
            for _ in steps:
                if chatted.is_set():
                    return

    with beside(train), beside(train):
        try:
            for _ in range(4):
                assert begun.acquire(timeout=120)
            chat = decode(runtime, [user("Hello")], lambda: None, Sampling(max_new_tokens=6))
            next(chat)
            while begun.acquire(blocking=False):
                pass
            # It may have been about to begin when the chat came.
            begun.acquire(timeout=0.1)
            for _ in chat:
                assert not begun.acquire(timeout=0.1), "the next step waits for the whole answer"
            assert begun.acquire(timeout=120)
        finally:
            chatted.set()


@contextmanager
def chatting(runtime: Runtime) -> Iterator[None]:
    """Somebody whose answer has begun and does not end."""
    sampling = Sampling(max_new_tokens=6)
    with closing(decode(runtime, [user("Hello")], lambda: None, sampling)) as chat:
        next(chat)
        yield


def test_training_goes_on_where_somebody_always_chats(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "_CHAT_SECONDS", 0.01)
    runtime = Runtime.of(base, LAYOUT)
    with chatting(runtime):
        assert len(list(training(runtime, 3))) == 3


def test_what_training_asks_pauses_for_a_chat_between_two_words(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "_PASS_SECONDS", 240.0)
    runtime = Runtime.of(base, LAYOUT)
    events: list[str] = []
    asked = threading.Event()
    hidden = runtime.forward.hidden

    def watched(*args: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            events.append("asked")
            asked.set()
        return hidden(*args)

    def ask() -> None:
        question = Question(base.chat_ids("Hi"), (base.turn_end,), (), 12)
        with runtime.lock.after_chats(lets_in=True):
            answer(runtime, [[question]], None)
            assert runtime.lock._lets_chats_in

    monkeypatch.setattr(runtime.forward, "hidden", watched)
    chat = decode(runtime, [user("Hello")], lambda: None, Sampling(max_new_tokens=6))
    with beside(ask):
        assert asked.wait(120)
        next(chat)
        events.append("chat")
        for _ in chat:
            events.append("chat")
    first, last = events.index("chat"), len(events) - events[::-1].index("chat")
    assert set(events[first:last]) == {"chat"}
    assert "asked" in events[last:]
    assert not runtime.lock._lets_chats_in


def test_what_training_asks_goes_on_where_somebody_always_chats(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ("_CHAT_SECONDS", "_PASS_SECONDS"):
        monkeypatch.setattr(turns, limit, 0.01)
    runtime = Runtime.of(base, LAYOUT)
    question = Question(base.chat_ids("Hi"), (base.turn_end,), (), 12)
    with chatting(runtime), runtime.lock.after_chats(lets_in=True):
        assert answer(runtime, [[question]], None)


def test_what_a_measurement_times_does_not_wait_for_chats(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "_CHAT_SECONDS", 0.01)
    runtime = Runtime.of(base, LAYOUT)
    with chatting(runtime):
        with runtime.lock.after_chats():
            monkeypatch.setattr(threading.Condition, "wait_for", None)
            runtime.lock.give_way()
            assert runtime.lock.locked()
        monkeypatch.undo()


def test_a_check_does_not_let_training_wait_for_its_own_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "_CHAT_SECONDS", 240.0)
    lock = TurnLock()
    with patient(), lock.urgent(chats=True):
        assert not lock._chats
        with lock.after_chats():
            assert lock.locked()


def test_a_check_does_not_wait_for_a_chat_that_its_own_thread_has_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Until the check ends, nobody can ask for the next word."""
    for name in ("_PATIENCE_SECONDS", "_CHAT_SECONDS"):
        monkeypatch.setattr(turns, name, 3600.0)
    lock = TurnLock()

    def chats_and_checks() -> None:
        with lock.urgent(chats=True):
            with patient(), lock:
                pass
            with lock.after_chats():
                pass

    with beside(chats_and_checks):
        pass
    with patient(), lock.urgent():
        assert not lock._urgent, "patient work is not waited for"
    assert not lock._chats
