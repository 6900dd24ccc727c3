"""How the threads of one product wait for each other. Imports no torch: OpenMP reads this once."""

import os
import sys


def wait_briefly() -> None:
    """Let threads wait awake for a moment, then asleep, unless the environment says otherwise.

    Call it before torch is imported. Threads that stay awake take the core from the one they wait
    for when other processes compute too. Threads that sleep at once wake too late for the next
    product: on two idle cores a token of a chat then takes 1.7 times as long.
    """
    if "OMP_WAIT_POLICY" in os.environ:
        return
    if sys.platform != "linux":
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        return
    # Rounds that libgomp waits awake: .05 to .2 ms. With the policy "passive" there would be none
    # as soon as several threads of the program compute in turn.
    os.environ.setdefault("GOMP_SPINCOUNT", "4000")
    os.environ["OMP_WAIT_POLICY"] = "ACTIVE"
