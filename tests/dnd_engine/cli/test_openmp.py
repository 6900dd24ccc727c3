"""Threads wait for each other awake for a moment, and then asleep."""

import os
import subprocess
import sys

import pytest

from dnd_engine.cli.openmp import wait_briefly

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def test_threads_wait_awake_for_a_moment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that it is restored
        monkeypatch.delenv(name)
    wait_briefly()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    assert 1000 <= int(os.environ["GOMP_SPINCOUNT"]) <= 10_000


def test_what_is_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, "own")
    wait_briefly()
    assert [os.environ[name] for name in NAMES] == ["own", "own"]


def test_it_is_set_before_torch_is_imported() -> None:
    """OpenMP reads it with torch, and only once."""
    code = "import sys, app, dnd_engine.cli; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
