"""Threads wait for each other awake for a moment, and then asleep."""

import os
import subprocess
import sys

import pytest

from dnd_engine.cli.common import wait_briefly

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


@pytest.mark.parametrize(
    ("platform", "policy", "rounds"), [("linux", "ACTIVE", "4000"), ("darwin", "PASSIVE", None)]
)
def test_threads_wait_awake_for_a_moment_only(
    platform: str, policy: str, rounds: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no number of rounds can be set, "active" would be for ever."""
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that it is restored
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "platform", platform)
    wait_briefly()
    assert [os.environ.get(name) for name in NAMES] == [policy, rounds]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"OMP_WAIT_POLICY": "PASSIVE"}, ["PASSIVE", None]),
        ({"GOMP_SPINCOUNT": "77"}, ["ACTIVE", "77"]),
        ({"OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": "77"}, ["ACTIVE", "77"]),
    ],
)
def test_what_is_set_stays(
    given: dict[str, str], kept: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A policy that somebody chose counts whole."""
    for name in NAMES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", "linux")
    wait_briefly()
    assert [os.environ.get(name) for name in NAMES] == kept


def test_it_is_set_before_torch_is_imported() -> None:
    """OpenMP reads it with torch, and only once."""
    code = "import sys, app, dnd_engine.cli; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
