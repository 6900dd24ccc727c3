"""`SECURITY.md` says what the code does."""

import re
from dataclasses import asdict
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dnd_engine.cli import add_commands, app
from dnd_engine.errors import ConfigError
from dnd_engine.limits import FIXED, PromptLimits, ServerLimits
from tests.test_docs import ROOT
from ui.serve import login

PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")


def test_the_page_quotes_every_limit_and_no_other() -> None:
    quoted = {
        name: int(value.replace(",", ""))
        for name, value in re.findall(r"^\| `(\w+)` \| ([\d,]+) \|", PAGE, re.MULTILINE)
    }
    stated = {**asdict(ServerLimits()), **asdict(PromptLimits()), **asdict(FIXED)}
    assert stated.pop("teacher_servers") == ()
    assert "| `teacher_servers` | none |" in PAGE
    assert quoted == stated


def test_every_test_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`(tests/[\w/]+(?:\.py)?)`", PAGE))
    assert len(named) >= 5
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="`sessions` must be at least 1, got 0"):
        ServerLimits(sessions=0)


def test_limits_are_set_by_name() -> None:
    limits = ServerLimits.of(["sessions=3", "queued_calls=7", "sessions=4"])
    assert limits == ServerLimits(sessions=4, queued_calls=7)
    for setting in ("sessions", "sessions=", "sessions=few", "sessions=-1", "=1"):
        with pytest.raises(ConfigError, match=r"expected NAME=NUMBER, got .*queued_calls_per_vis"):
            ServerLimits.of([setting])
    with pytest.raises(ConfigError, match=r"there is no limit 'max_files'\. .*: sessions, "):
        ServerLimits.of(["max_files=3"])
    with pytest.raises(ConfigError, match="`sessions` must be at least 1, got 0"):
        ServerLimits.of(["sessions=0"])


@pytest.mark.parametrize("account", ["", "user", "user:", "user:short", ":long-password"])
def test_a_login_needs_a_name_and_a_password_and_is_not_quoted(account: str) -> None:
    with pytest.raises(ConfigError, match="expected USER:PASSWORD") as raised:
        login(account)
    assert "short" not in str(raised.value)
    assert login("user:pass:word")[1] == "pass:word"


def test_an_image_takes_limits_and_login_from_its_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr("ui.build.build_ui", lambda *given: seen.update(limits=given[-1]))
    monkeypatch.setattr("ui.serve.run", lambda _page, _handle, given, *_: seen.update(given))

    def start(limits: str, account: str) -> Result:
        environment = {"DND_LIMITS": limits, "DND_AUTH": account}
        return CliRunner().invoke(app, ["serve"], env=environment)

    add_commands()
    assert start("sessions=7  queued_calls_per_visitor=40", "me:a long password").exit_code == 0
    assert seen["limits"] == ServerLimits(sessions=7, queued_calls_per_visitor=40)
    assert seen["auth"] == ("me", "a long password")
    assert start("", "").exit_code == 0
    assert (seen["limits"], seen["auth"]) == (ServerLimits(), None)
    refused = start("sessions", "")
    assert refused.exit_code == 1
    assert "`DND_LIMITS`: expected NAME=NUMBER" in refused.stderr


@pytest.mark.parametrize("given", ["option", "environment"])
def test_tools_and_a_login_are_refused_together(
    monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    """Every tool failed, naming the server's inner address, and their list needed no login."""
    monkeypatch.setattr("ui.serve.run", lambda *_, **__: None)
    account = "user:long-password"
    add_commands()
    result = CliRunner().invoke(
        app,
        ["serve", "--mcp", *(["--auth", account] if given == "option" else [])],
        env={"DND_AUTH": account if given == "environment" else ""},
    )
    assert result.exit_code == 1
    assert "`--mcp` does not work with `--auth` or `DND_AUTH`" in result.stderr
    assert "long-password" not in result.output
