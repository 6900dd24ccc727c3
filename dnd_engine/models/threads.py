"""Chooses how work is spread over threads, and how many from the cores that are free now.

The threads of one product wait for each other. If another process occupies a core, the thread
scheduled there delays all others: beside two busy processes on two cores, one thread generates
about twice as many tokens as two. So a chat's token has as many threads as find a free core, and
work of independent parts has a thread for each part. Knows processor times; knows no models.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

import psutil
import torch

_INTERVAL = 0.5
"""Seconds between samples of processor times, which have a resolution of .01 s."""

_WORTH = 0.6
"""Minimum free share of a core for one more thread to pay off."""

_CGROUP = Path("/sys/fs/cgroup")
"""Mount point of Linux control groups."""

_Part = TypeVar("_Part")
_Result = TypeVar("_Result")


def in_parallel(function: Callable[[_Part], _Result], parts: Iterable[_Part]) -> list[_Result]:
    """Apply a function to independent parts, several at a time, and return the results in order.

    Each part is computed by one thread. So no thread waits for another until the end, which is
    faster than several threads for one part, most of all beside other processes; and results are
    bit-identical for every number of threads.

    Args:
        function: Computes on the CPU. It runs in other threads, so inference mode and other
            contexts of torch do not apply there.
        parts: Its arguments.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        return list(map(function, parts))
    return list(_workers(threads).map(function, parts))


@cache
def _workers(count: int) -> ThreadPoolExecutor:
    """Start threads that each compute alone."""
    # Torch has a number of threads for the calling thread, and one for threads that have not asked
    # yet. Setting the first sets the second too, so it is set back once all workers have theirs.
    started = threading.Barrier(count + 1)

    def start() -> None:
        _compute_with(1)
        started.wait()

    pool = ThreadPoolExecutor(count, "one-part", initializer=start)
    for _ in range(count):
        pool.submit(int)  # a pool starts a thread when it has work
    started.wait()
    torch.set_num_threads(count)
    return pool


def _compute_with(number: int) -> None:
    """Set the number of threads of a thread that may be new."""
    torch.get_num_threads()  # a thread that asks first after setting gets what others start with
    torch.set_num_threads(number)


# A forked process has the pool, but not its threads.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_workers.cache_clear)


def cores_given() -> int:
    """Return the cores this process may use, by affinity and container quota."""
    cores, quota = len(_own_cores()), _quota()
    # Round down: a thread beyond the quota is paused for the rest of each period.
    return cores if quota is None else max(1, min(cores, int(quota)))


def _own_cores() -> list[int]:
    """Return the numbers of the cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _quota() -> float | None:
    """Return the average cores a container may use; None without a limit."""
    try:
        # Version 2 of control groups has `QUOTA PERIOD` in one file, with `max` for no limit;
        # version 1 has a file for each, with -1 for no limit.
        if (limits := _CGROUP / "cpu.max").exists():
            quota, period = limits.read_text("ascii").split()
        else:
            quota, period = (
                (_CGROUP / "cpu" / f"cpu.cfs_{name}_us").read_text("ascii").strip()
                for name in ("quota", "period")
            )
    except OSError:
        return None
    if quota in ("max", "-1"):
        return None
    return int(quota) / int(period)


def keep_within_limits() -> None:
    """Limit torch's threads to the cores its process may use."""
    if torch.get_num_threads() > cores_given():
        torch.set_num_threads(cores_given())


class Threads:
    """Adapts torch's number of threads during chat.

    Torch's initial number is the maximum, so that a user's setting is respected. For chat only: the
    rounding of large products depends on the number of threads, and the same prompts must always
    give the same adapter.
    """

    def __init__(self) -> None:
        self._most = torch.get_num_threads()
        self._chosen = self._most
        self._last = _Times.now()

    def use_all(self) -> None:
        """Let the calling thread compute with torch's initial number.

        Call it in a thread that may compute for the first time while another one chats. It would
        keep the chat's number for good: see `that_pay`.
        """
        _compute_with(self._most)

    @contextmanager
    def that_pay(self) -> Iterator[None]:
        """Use one thread per free core inside the `with` block, for one token.

        Hold a lock: torch's number is the calling thread's own, but threads that compute for the
        first time inherit the one that was set last.
        """
        if self._most > 1 and time.monotonic() - self._last.at >= _INTERVAL:
            now = _Times.now()
            self._chosen = threads_for(now.free_since(self._last), self._most)
            self._last = now
        if self._chosen == self._most:
            yield
            return
        torch.set_num_threads(self._chosen)
        try:
            yield
        finally:
            torch.set_num_threads(self._most)


def threads_for(free: float, most: int) -> int:
    """Return how many threads pay off with this many free cores."""
    # A core counts once it is free for `_WORTH` of the time, hence no plain rounding.
    return max(1, min(most, int(free + 1 - _WORTH)))


@dataclass(frozen=True, slots=True)
class _Times:
    """Idle seconds of the cores, and seconds that this process computed."""

    at: float
    idle: float
    own: float

    @classmethod
    def now(cls) -> "_Times":
        every = psutil.cpu_times(percpu=True)
        # Where cores are hidden, fewer are listed than the numbers suggest.
        listed = [every[n] for n in _own_cores() if n < len(every)]
        mine = psutil.Process().cpu_times()
        return cls(time.monotonic(), sum(core.idle for core in listed), mine.user + mine.system)

    def free_since(self, earlier: "_Times") -> float:
        """Return how many cores no other process used in the meantime."""
        spent = (self.idle - earlier.idle) + (self.own - earlier.own)
        return spent / (self.at - earlier.at)
