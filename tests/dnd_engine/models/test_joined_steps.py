"""Chats that run at the same time share forward passes, and each answers as it would alone."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from dnd_engine.config import Sampling
from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.models import joined_steps
from dnd_engine.models.decode import decode
from dnd_engine.models.joined_steps import JoinedSteps
from dnd_engine.models.new_tokens import NewTokens
from dnd_engine.models.packed import PackedForward
from dnd_engine.models.runtime import Runtime
from dnd_engine.models.turns import patient
from tests.dnd_engine.tiny import random_tokens, user
from tests.until import until

GREEDY = Sampling(max_new_tokens=24)
QUESTIONS = ("Hi", "A longer question", "Hi", "What is this, and why is it so long?")


def twins(runtime: Runtime) -> list[FittedLoRA | None]:
    """One visitor has no adapter, the others have one each."""
    size = torch.zeros_like(random_tokens())
    made = [torch.stack([size, random_tokens(seed=seed, size=0.3)]) for seed in (1, 2, 3)]
    return [None, *map(runtime.host.fit, made)]


def answers(runtime: Runtime, question: str, active: FittedLoRA | None) -> list[str]:
    *_, last = decode(runtime, [user(question), user(question)], lambda: active, GREEDY)
    return [reply.text for reply in last]


def two_tokens(stream: Iterator[object]) -> None:
    next(stream), next(stream)


def packed(runtime: Runtime) -> PackedForward:
    assert isinstance(runtime.forward, PackedForward)
    return runtime.forward


@contextmanager
def passes() -> Iterator[list[int]]:
    """The number of chats in each joined pass."""
    seen: list[int] = []
    once = joined_steps._compute

    def counted(forward: PackedForward, requests: list[Any]) -> None:
        seen.append(len(requests))
        once(forward, requests)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joined_steps, "_compute", counted)
        yield seen


def test_visitors_share_passes_and_are_answered_as_if_alone(runtime: Runtime) -> None:
    asked = list(zip(QUESTIONS, twins(runtime), strict=True))
    alone = [answers(runtime, *each) for each in asked]
    with passes() as seen, ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda each: answers(runtime, *each), asked))
    assert found == alone
    assert sum(seen) == 4 * 23
    # How many join depends on when the system runs their threads; the next test has all four.
    assert max(seen) > 1


def test_a_chat_joins_the_pass_after_the_running_one(runtime: Runtime) -> None:
    """All that ask while a pass runs are computed together, by one of them."""
    streams = [decode(runtime, [user(q)], lambda: None, GREEDY) for q in QUESTIONS]
    for stream in streams:
        next(stream)
    with passes() as seen, ThreadPoolExecutor(4) as pool:
        with runtime.lock:
            futures = [pool.submit(next, stream) for stream in streams]
            until(lambda: len(runtime.joined._waiting) == 4)
        for future in futures:
            future.result(60)
    assert seen == [4]


def test_chats_of_one_thread_do_not_wait_for_each_other(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dnd_engine.models.joined_steps._LINGER_SECONDS", None)  # for ever
    streams = [decode(runtime, [user(q)], lambda: None, GREEDY) for q in QUESTIONS[:2]]
    with passes() as seen:
        for _ in zip(*streams, strict=True):
            pass
    assert set(seen) == {1}


def test_nobody_waits_for_a_chat_that_was_left(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = [decode(runtime, [user(q)], lambda: None, GREEDY) for q in QUESTIONS[:2]]
    for stream in streams:
        next(stream)
    with ThreadPoolExecutor(2) as pool:
        with runtime.lock:
            futures = [pool.submit(next, stream) for stream in streams]
            until(lambda: len(runtime.joined._waiting) == 2)
        for future in futures:
            future.result(60)
    assert len(runtime.joined._expected) == 2
    monkeypatch.setattr("dnd_engine.models.joined_steps._LINGER_SECONDS", None)
    streams[0].close()
    assert len(list(streams[1])) == 22


def test_a_chat_that_pauses_is_waited_for_once(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float | None] = []
    wait_for = threading.Condition.wait_for

    def watched(self: Any, ready: Callable[[], bool], timeout: float | None = None) -> bool:
        if timeout is not None and not ready():
            waits.append(timeout)
        return wait_for(self, ready, timeout)

    paused, other = (decode(runtime, [user(q)], lambda: None, GREEDY) for q in QUESTIONS[:2])
    with ThreadPoolExecutor(1) as pool:
        pool.submit(two_tokens, paused).result(60)
    monkeypatch.setattr(threading.Condition, "wait_for", watched)
    assert len(list(other)) == 24
    assert len(waits) == 1


def test_an_error_reaches_every_chat_of_the_pass_and_the_next_one_works(runtime: Runtime) -> None:
    alone = answers(runtime, "Hi", None)
    streams = [decode(runtime, [user(q)], lambda: None, GREEDY) for q in QUESTIONS[:2]]
    for stream in streams:
        next(stream)

    def fail(_chats: object) -> None:
        raise RuntimeError("out of memory")

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setattr(runtime.forward, "joined_hidden", fail)
        with runtime.lock:
            futures = [pool.submit(next, stream) for stream in streams]
            until(lambda: len(runtime.joined._waiting) == 2)
        for future in futures:
            with pytest.raises(RuntimeError, match="out of memory"):
                future.result(60)
    assert not runtime.lock.locked()
    assert answers(runtime, "Hi", None) == alone


def test_an_interrupted_leader_leaves_the_lead(runtime: Runtime) -> None:
    joined, forward = JoinedSteps(), packed(runtime)
    one = torch.zeros(1, 1, dtype=torch.long)
    tokens = NewTokens(one, one, None, forward.new_cache(1))

    @contextmanager
    def interrupted() -> Iterator[None]:
        raise KeyboardInterrupt
        yield

    with joined.chat() as chat, pytest.raises(KeyboardInterrupt):
        joined.logits(chat, forward, tokens, interrupted)
    assert (joined._has_leader, joined._waiting) == (False, [])


def test_one_who_is_interrupted_while_waiting_for_others_leaves_the_lead(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_joined: JoinedSteps) -> bool:
        raise KeyboardInterrupt

    stream = decode(runtime, [user("Hi")], lambda: None, GREEDY)
    next(stream)
    with monkeypatch.context() as patch:
        patch.setattr(JoinedSteps, "_all_wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            next(stream)
    assert (runtime.joined._has_leader, runtime.joined._waiting) == (False, [])
    assert answers(runtime, "Hi", None)


def test_an_interrupt_is_for_one_thread_and_the_others_fail_with_an_error(
    runtime: Runtime,
) -> None:
    streams = [decode(runtime, [user(q)], lambda: None, GREEDY) for q in QUESTIONS[:2]]
    for stream in streams:
        next(stream)

    def interrupted(_chats: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setattr(runtime.forward, "joined_hidden", interrupted)
        with runtime.lock:
            futures = [pool.submit(next, stream) for stream in streams]
            until(lambda: len(runtime.joined._waiting) == 2)
        errors = {type(future.exception(60)) for future in futures}
    assert errors == {KeyboardInterrupt, RuntimeError}


def test_patient_work_takes_its_tokens_alone(runtime: Runtime) -> None:
    stream = decode(runtime, [user("Hi")], lambda: None, GREEDY)
    with passes() as seen:
        for _ in range(3):
            with patient():
                next(stream)
    assert seen == []
