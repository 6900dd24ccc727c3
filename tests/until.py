"""Waits for what another thread or process does, however slow the machine is."""

import time
from collections.abc import Callable


def until(holds: Callable[[], bool], seconds: float = 120) -> None:
    """Return as soon as a condition holds.

    Raises:
        AssertionError: If it does not within `seconds`: by then something is broken.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"it did not happen within {seconds:g} s"
        time.sleep(0.01)
