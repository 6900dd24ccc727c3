"""Chats and syntheses go before checks: a check pauses between two forward passes."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from dnd_engine.config import Sampling
from dnd_engine.models import turns
from dnd_engine.models.base import BaseModel
from dnd_engine.models.decode import decode
from dnd_engine.models.runtime import Runtime
from dnd_engine.models.turns import TurnLock, is_patient, patient
from dnd_engine.scoring.answers import answer
from dnd_engine.scoring.questions import Question
from tests.dnd_engine.tiny import LAYOUT, user
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
            events.append("chatted")
    start, end = events.index("chat"), events.index("chatted")
    assert end == start + 1
    assert events[-1] == "checked"
    assert set(events[end + 1 : -1]) == {"check"}


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
