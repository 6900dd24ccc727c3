"""`dnd doctor --audit` says what pip-audit found, and when it could find nothing."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dnd_engine.cli import app
from dnd_engine.cli.doctor import audit, read_audit

SOUND = {"name": "a", "version": "1", "vulns": []}
FOUND = {"id": "PYSEC-1", "fix_versions": ["1.1"], "description": "long"}
BAD = {"name": "b", "version": "1", "vulns": [FOUND]}
SKIPPED = {"name": "c", "skip_reason": "Dependency not found"}


def test_vulnerable_packages_are_named_with_the_version_that_fixes_them() -> None:
    found = read_audit(json.dumps({"dependencies": [SOUND, BAD, SKIPPED], "fixes": []}))
    assert found["said"] == ("1 of 2 packages have known vulnerabilities. 1 could not be audited.")
    assert found["vulnerable"] == {"b 1": [{"advisory": "PYSEC-1", "fixed_in": ["1.1"]}]}


def test_a_person_reads_words_and_a_script_values(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {
        "machine": {"cores": None, "devices": ["cpu", "H100"]},
        "places": {"cache": {"path": "~/x", "bytes": 3}},
        "set": {"HF_TOKEN": True},
        "last_errors": [{"time": "now", "words": "It's full."}],
    }
    monkeypatch.setattr("dnd_engine.cli.doctor.examination", lambda: found)
    assert CliRunner().invoke(app, ["doctor"]).stdout == (
        "machine:\n  cores: none\n  devices: cpu, H100\n"
        "places:\n  cache: path ~/x, bytes 3\n"
        "set:\n  HF_TOKEN: yes\n"
        "last_errors:\n  1: time now, words It's full.\n"
    )
    assert json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout) == found


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        (json.dumps({"dependencies": [SKIPPED]}), "No advisory source knows any of 1 packages"),
        ("", "pip-audit failed"),
        ("[]", "pip-audit failed"),
    ],
)
def test_what_was_not_audited_does_not_look_sound(printed: str, said: str) -> None:
    found = read_audit(printed)
    assert found["said"].startswith(said)
    assert "nothing was audited" in found["said"]
    assert (found["audited"], found["vulnerable"]) == (0, {})


def test_why_pip_audit_failed_is_told() -> None:
    failed = "Traceback:\n  ...\nConnectionError: no route to host\n"
    assert read_audit("", failed)["said"].endswith("audited: ConnectionError: no route to host")
    assert read_audit("", " ")["said"].endswith("audited: it does not say why")


def test_pip_audit_is_asked_if_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install pip-audit" in audit()["said"]
    monkeypatch.undo()
    (tmp_path / "pip_audit.py").write_text(
        f"import json\nprint(json.dumps({{'dependencies': [{SOUND!r}]}}))\nraise SystemExit(1)"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert audit()["said"] == "0 of 1 packages have known vulnerabilities."
