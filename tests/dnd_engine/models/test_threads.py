"""Chat has as many threads as find a free core, and leaves torch's number as it was."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from dnd_engine.models import threads
from dnd_engine.models.threads import (
    Threads,
    cores_given,
    in_parallel,
    keep_within_limits,
    threads_for,
)


@pytest.mark.parametrize(
    ("free", "most", "expected"),
    [(2.0, 2, 2), (1.7, 2, 2), (1.5, 2, 1), (1.0, 2, 1), (0.3, 2, 1), (0.0, 8, 1), (7.9, 4, 4)],
)
def test_a_thread_needs_most_of_a_core(free: float, most: int, expected: int) -> None:
    assert threads_for(free, most) == expected


@pytest.mark.parametrize(
    ("quota", "expected"), [("max 100000", 8), ("150000 100000", 1), ("400000 100000", 4)]
)
def test_a_containers_quota_limits_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, expected: int
) -> None:
    monkeypatch.setattr(threads, "_own_cores", lambda: list(range(8)))
    monkeypatch.setattr(threads, "_CGROUP", tmp_path)
    (tmp_path / "cpu.max").write_text(quota)
    assert cores_given() == expected


def test_the_older_layout_of_control_groups_is_read_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "_own_cores", lambda: list(range(8)))
    monkeypatch.setattr(threads, "_CGROUP", tmp_path)
    assert cores_given() == 8
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    for quota, expected in (("-1", 8), ("300000", 3)):
        (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
        assert cores_given() == expected


class Torch:
    """A number of threads without the threads."""

    def __init__(self, number: int) -> None:
        self.number = number

    def get_num_threads(self) -> int:
        """As torch's."""
        return self.number

    def set_num_threads(self, number: int) -> None:
        """As torch's."""
        self.number = number


@pytest.fixture
def fake_torch(monkeypatch: pytest.MonkeyPatch) -> Torch:
    fake = Torch(4)
    monkeypatch.setattr(threads, "torch", fake)
    return fake


def test_threads_follow_the_free_cores_while_working(
    monkeypatch: pytest.MonkeyPatch, fake_torch: Torch
) -> None:
    monkeypatch.setattr(threads, "_INTERVAL", 0.0)
    chosen = Threads()
    for free, expected in ((4.0, 4), (1.2, 1), (2.9, 3), (4.0, 4)):
        monkeypatch.setattr(threads._Times, "free_since", lambda self, earlier, free=free: free)
        with chosen.that_pay():
            assert fake_torch.number == expected
        assert fake_torch.number == 4


def test_a_failing_token_leaves_torchs_number(
    monkeypatch: pytest.MonkeyPatch, fake_torch: Torch
) -> None:
    monkeypatch.setattr(threads, "_INTERVAL", 0.0)
    monkeypatch.setattr(threads._Times, "free_since", lambda self, earlier: 1.0)
    with pytest.raises(RuntimeError), Threads().that_pay():
        raise RuntimeError
    assert fake_torch.number == 4


def test_a_number_that_was_set_is_a_limit(
    monkeypatch: pytest.MonkeyPatch, fake_torch: Torch
) -> None:
    monkeypatch.setattr(threads, "_INTERVAL", 0.0)
    fake_torch.number = 1
    monkeypatch.setattr(threads._Times, "free_since", lambda self, earlier: 8.0)
    with Threads().that_pay():
        assert fake_torch.number == 1


@pytest.mark.usefixtures("three_threads")
def test_a_chat_does_not_limit_threads_that_begin_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threads, "_INTERVAL", 0.0)
    monkeypatch.setattr(threads._Times, "free_since", lambda self, earlier: 1.0)
    chosen, seen = Threads(), list[int]()

    def begin() -> None:
        chosen.use_all()
        seen.append(torch.get_num_threads())

    with chosen.that_pay():
        beside = threading.Thread(target=begin)
        beside.start()
        beside.join()
        assert torch.get_num_threads() == 1
    assert seen == [3]


def test_torch_keeps_within_the_quota(monkeypatch: pytest.MonkeyPatch, fake_torch: Torch) -> None:
    for given, expected in ((8, 4), (2, 2)):
        monkeypatch.setattr(threads, "cores_given", lambda given=given: given)
        keep_within_limits()
        assert fake_torch.number == expected


def test_free_cores_are_those_that_others_leave() -> None:
    """Computing here does not count against this process."""
    before = threads._Times(0.0, idle=10.0, own=1.0)
    after = threads._Times(2.0, idle=11.0, own=2.5)
    assert after.free_since(before) == pytest.approx(1.25)
    assert threads._Times.now().at > 0
    assert torch.get_num_threads() >= 1


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
def test_parts_have_a_thread_each_and_results_keep_their_order() -> None:
    meeting = threading.Barrier(3)

    def part(number: int) -> tuple[int, int, int]:
        meeting.wait(60)  # three are computed at a time
        return number, threading.get_ident(), torch.get_num_threads()

    numbers, idents, threads_of_torch = zip(*in_parallel(part, range(6)), strict=True)
    assert numbers == tuple(range(6))
    assert len(set(idents)) == 3
    assert set(threads_of_torch) == {1}
    # Neither the caller nor threads that ask later compute with one.
    seen = [torch.get_num_threads()]
    later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert seen == [3, 3]


@pytest.mark.usefixtures("three_threads")
def test_a_failing_part_fails_the_whole() -> None:
    with pytest.raises(ZeroDivisionError):
        in_parallel(lambda number: 1 // number, [2, 1, 0])
    assert in_parallel(lambda number: 1 // number, [2, 1]) == [0, 1]


def test_with_one_thread_parts_are_computed_in_turn() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert set(in_parallel(lambda _: threading.get_ident(), range(3))) == {
            threading.get_ident()
        }
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.usefixtures("three_threads")
def test_a_forked_process_has_threads_of_its_own() -> None:
    """As on ZeroGPU. With those of its parent, which are not there, it would wait for ever."""
    in_parallel(abs, [1])
    child = os.fork()
    if child == 0:
        os._exit(0 if in_parallel(abs, [-1, -2]) == [1, 2] else 1)
    for _ in range(600):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        time.sleep(0.1)
    else:
        os.kill(child, 9)
        os.waitpid(child, 0)
        pytest.fail("the child waits")
    assert os.waitstatus_to_exitcode(status) == 0
