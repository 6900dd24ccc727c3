"""How many threads compute: what the machine gives now, not what it has.

Threads of one product wait for each other. If another process holds a core, the one that got it
waits its turn and all others with it: beside two busy processes on two cores, one thread writes
about twice as many tokens as two. Knows processor times; knows no models.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch

__all__ = ["Threads", "cores_given", "keep_within_limits", "threads_for"]

_INTERVAL = 0.5
"""Seconds between two looks at the processors; their times are counted in hundredths."""

_WORTH = 0.6
"""Least share of a core that must be free for one more thread to pay."""

_CGROUP = Path("/sys/fs/cgroup")


def cores_given(cgroup: Path = _CGROUP) -> int:
    """Cores this process may use: its affinity, and no more than its container's quota.

    Args:
        cgroup: Where Linux mounts control groups.
    """
    cores = len(_own_cores())
    quota = _quota(cgroup)
    # Rounded down: a thread beyond the quota is paused for the rest of each period.
    return cores if quota is None else max(1, min(cores, int(quota)))


def _own_cores() -> list[int]:
    """Numbers of the cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _quota(cgroup: Path) -> float | None:
    """Cores that a container may use on average; None if it has no limit."""
    try:
        if (limits := cgroup / "cpu.max").exists():
            quota, period = limits.read_text("ascii").split()
        else:
            quota, period = (
                (cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text("ascii").strip()
                for name in ("quota", "period")
            )
    except OSError:
        return None
    if quota in ("max", "-1"):
        return None
    return int(quota) / int(period)


def keep_within_limits() -> None:
    """Give torch no more threads than its process may run on."""
    if torch.get_num_threads() > cores_given():
        torch.set_num_threads(cores_given())


class Threads:
    """Torch's number of threads for chat, chosen again while it writes.

    Never more than torch has at the beginning, so a number that was set is a limit. For chat alone:
    sums of large products depend on the number of threads, and the same prompts must give the same
    adapter on a busy machine too.
    """

    def __init__(self) -> None:
        self._most = torch.get_num_threads()
        self._chosen = self._most
        self._last = _Times.now()

    @contextmanager
    def that_pay(self) -> Iterator[None]:
        """Use as many threads inside the `with` block as find a free core; for one token.

        Guard it: torch's number is one for the process.
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
    """Return how many threads pay on so many free cores."""
    return max(1, min(most, int(free + 1 - _WORTH)))


class _Times:
    """Seconds that cores were idle, and that this process computed."""

    def __init__(self, at: float, idle: float, own: float) -> None:
        self.at = at
        self._idle = idle
        self._own = own

    @classmethod
    def now(cls) -> "_Times":
        every = psutil.cpu_times(percpu=True)
        # Where cores are hidden, fewer are listed than numbers say.
        listed = [every[n] for n in _own_cores() if n < len(every)]
        mine = psutil.Process().cpu_times()
        return cls(time.monotonic(), sum(core.idle for core in listed), mine.user + mine.system)

    def free_since(self, earlier: "_Times") -> float:
        """Cores that no other process used meanwhile."""
        spent = (self._idle - earlier._idle) + (self._own - earlier._own)
        return spent / (self.at - earlier.at)
