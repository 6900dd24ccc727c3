"""What whoever keeps a server running can see of it, and that nothing of a visitor is in it."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import torch

from dnd_engine.cli.doctor import without_paths
from dnd_engine.limits import ServerLimits
from dnd_engine.server_log import (
    SERVER_COUNTERS,
    SERVER_LIMITS,
    Terse,
    last_lines,
    last_numbers,
    log_numbers,
    logging_to,
)
from tests.serving import fetch, serving
from tests.ui.fake_engine import handle_of
from ui.faults import report_fault
from ui.serve import launch_options
from ui.server.watch import Counters

SECRET = "a visitor's secret"


@pytest.mark.slow
def test_health_says_whether_the_engine_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    handle = handle_of()
    from dnd_engine.limits import PromptLimits

    lifespan = launch_options(PromptLimits(), handle=handle)["app_kwargs"]["lifespan"]
    with serving(handle, start=False, app_kwargs={"lifespan": lifespan}) as url:
        assert fetch(f"{url}/health/live").json() == {"status": "live"}
        waiting = fetch(f"{url}/health/ready")
        assert (waiting.status_code, waiting.json()) == (503, {"status": "idle"})
        handle.start()
        handle.wait(120)
        ready = fetch(f"{url}/health/ready")
        assert (ready.status_code, ready.json()) == (200, {"status": "ready"})
        assert fetch(f"{url}/metrics").status_code == 404, "only if asked for"


@pytest.mark.slow
def test_a_lost_card_is_not_ready_until_another_process_starts() -> None:
    with serving(handle_of()) as url:
        for words in ("CUDA error: out of memory", "MPS backend out of memory"):
            report_fault(RuntimeError(words), "a test")
            report_fault(torch.AcceleratorError(words), "a test")
        assert fetch(f"{url}/health/ready").status_code == 200
        report_fault(torch.AcceleratorError("CUDA error: device-side assert triggered"), "a test")
        told = fetch(f"{url}/health/ready")
        assert (told.status_code, told.json()) == (503, {"status": "failed"})
        assert fetch(f"{url}/health/live").status_code == 200


@pytest.mark.slow
def test_nothing_that_a_visitor_types_says_that_the_card_is_lost() -> None:
    """A name with the words "cuda error" did, until the server was started again."""
    with serving(handle_of()) as url:
        fetch(f"{url}/static/cuda%20error{'a' * 300}")
        file = {"path": "/cuda error", "meta": {"_type": "gradio.FileData"}}
        body = {"data": [file, "", "", 8, 0, 1, 0, 1, 0]}
        called = httpx.post(f"{url}/gradio_api/call/chat", json=body, timeout=120).json()
        fetch(f"{url}/gradio_api/call/chat/{called['event_id']}")
        assert fetch(f"{url}/health/ready").json() == {"status": "ready"}


@pytest.mark.slow
def test_metrics_count_answers_faults_and_pages() -> None:
    from dnd_engine.limits import PromptLimits

    options = launch_options(PromptLimits(), server=ServerLimits(), metrics=True)
    handle = handle_of()
    with serving(handle, app_kwargs=options["app_kwargs"]) as url:
        httpx.post(
            f"{url}/gradio_api/upload", headers={"origin": "https://evil.example"}, timeout=120
        )
        report_fault(ValueError(SECRET), "a test")
        told = fetch(f"{url}/metrics").text
        lines = dict(line.rsplit(" ", 1) for line in told.splitlines() if line[0] != "#")
        assert lines['dnd_answers_total{status="403"}'] == "1"
        assert lines["dnd_faults_total"] == "1"
        assert lines["dnd_pages"] == lines["dnd_calls_waiting"] == "0"
        assert SECRET not in told


def test_the_log_has_places_and_no_values_and_stays_small(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "serve.jsonl"
    with logging_to(path):
        try:
            raise ValueError(SECRET)
        except ValueError as error:
            report_fault(error, "a test")
            logging.getLogger("ui.engine_thread").exception("Work of the engine ended badly")
        for _ in range(20):
            logging.getLogger("dnd_engine").info("x" * 500_000)
    written = list(path.parent.iterdir())
    assert sum(file.stat().st_size for file in written) < 9_000_000
    with logging_to(path):
        report_fault(ValueError(SECRET), "another test")
    (last,) = last_lines(path)
    assert last["message"].startswith("fault ")
    assert "another test: ValueError" in last["message"]
    text = "".join(file.read_text() for file in written)
    assert SECRET not in text
    assert all(json.loads(line) for line in text.splitlines())
    path.write_text('{"level": "error", "message": "a"}\n{"level": "err')
    assert [line["message"] for line in last_lines(path)] == ["a"]


def test_what_was_logged_before_a_rotation_is_found(tmp_path: Path) -> None:
    path = tmp_path / "serve.jsonl"
    with logging_to(path):
        log_numbers(logging.getLogger("ui.server.gate"), SERVER_LIMITS, {"sessions": 7})
        logging.getLogger("ui.server.gate").error("a")
        for _ in range(6):
            logging.getLogger("dnd_engine").info("x" * 500_000)
        logging.getLogger("ui.server.gate").error("b")
    assert "sessions" not in path.read_text()
    assert last_numbers(path, SERVER_LIMITS)["sessions"] == 7
    assert [line["message"] for line in last_lines(path)] == ["a", "b"]


def test_libraries_say_a_thing_once_a_minute_and_without_values() -> None:
    now = [0.0]
    terse, said = Terse(lambda: now[0]), []
    for at in (0, 1, 59, 61):
        now[0] = at
        record = logging.LogRecord(
            "asyncio", logging.ERROR, "", 0, "Task failed\nfuture: %s", ("a prompt",), None
        )
        try:
            raise OSError("a prompt")
        except OSError:
            record.exc_info = sys.exc_info()
        if terse.filter(record):
            said.append(logging.Formatter().format(record))
    assert said == ["Task failed (OSError)"] * 2


def test_a_library_s_warning_is_logged_with_its_place_once_a_minute(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "serve.jsonl"
    with logging_to(log):
        for number in range(3):
            try:
                raise ValueError(SECRET)
            except ValueError:
                logging.getLogger("library").exception("%s %d", SECRET, number)
            logging.getLogger("library").info(SECRET)
    said = capsys.readouterr().err
    assert SECRET not in said + log.read_text()
    (line,) = map(json.loads, log.read_text().splitlines())
    assert json.loads(said) == line
    assert line["message"].startswith("error at security/test_watch:")
    assert (line["from"], line["error"]) == ("library", "ValueError")


@pytest.mark.slow
def test_a_request_over_mcp_prints_nothing_of_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # Without those of the tests: a library adds one to a root logger that has none.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    log = tmp_path / "serve.jsonl"
    said: tuple[dict[str, object], ...]
    said = {"arguments": SECRET}, {"arguments": {"message": [SECRET]}}, {"name": SECRET}
    accepted = {"accept": "application/json, text/event-stream"}
    with logging_to(log), serving(handle_of(), mcp=True) as url:
        for number, params in enumerate(said * 3):
            body = {"jsonrpc": "2.0", "id": number, "method": "tools/call"}
            answer = httpx.post(
                f"{url}/gradio_api/mcp/",
                json=body | {"params": {"name": "chat"} | params},
                headers=accepted,
                timeout=120,
            )
            assert answer.status_code == 200
        try:
            raise ValueError(SECRET)
        except ValueError:
            logging.getLogger("ui.engine_thread").exception("Work of the engine ended badly")
    printed = "".join(capfd.readouterr())
    assert SECRET not in printed + log.read_text()
    assert "warning at shared/session:" in printed
    assert len(printed) < 3000
    assert "Work of the engine ended badly" in printed


def test_equal_faults_are_logged_once_a_minute_with_one_reference_and_all_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, counters = tmp_path / "serve.jsonl", Counters()
    logging.getLogger("ui.faults").addHandler(counters)
    try:
        with logging_to(log):
            told = {report_fault(ValueError(f"{SECRET} {n}"), "a test") for n in range(3)}
            other = report_fault(ValueError(SECRET), "another test")
    finally:
        logging.getLogger("ui.faults").removeHandler(counters)
    assert counters.faults == 4
    (words,) = told
    assert words != other
    lines = log.read_text().splitlines()
    assert lines == capsys.readouterr().err.splitlines()
    logged = [json.loads(line)["message"].split()[1] for line in lines]
    assert [f"Reference: {reference}." for reference in logged] == [
        said[said.index("Reference") :] for said in (words, other)
    ]


def test_a_log_that_cannot_be_written_stops_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    with logging_to(tmp_path / "file" / "serve.jsonl"):
        report_fault(ValueError(SECRET), "a test")
    said = capsys.readouterr().err
    assert "Going on without it." in said
    assert "fault " in said
    assert SECRET not in said


@pytest.mark.slow
def test_a_server_logs_its_limits_and_at_its_end_its_counters(tmp_path: Path) -> None:
    from dnd_engine.limits import PromptLimits

    log = tmp_path / "serve.jsonl"
    options = launch_options(PromptLimits(), server=ServerLimits(sessions=7))
    handle = handle_of()
    with logging_to(log), serving(handle, app_kwargs=options["app_kwargs"]) as url:
        fetch(f"{url}/no/such/page")
        assert last_numbers(log, SERVER_LIMITS)["sessions"] == 7
    counters = last_numbers(log, SERVER_COUNTERS)
    assert (counters["answers_404"], counters["faults"]) == (1, 0)


@pytest.mark.slow
def test_the_doctor_tells_versions_limits_and_errors_and_nothing_private(tmp_path: Path) -> None:
    home = tmp_path / "home-of-somebody"
    environment = {
        **os.environ,
        "HOME": str(home),
        "HF_TOKEN": "hf_secret",
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_DATA_HOME": str(home / "data"),
        "XDG_CACHE_HOME": str(home / "cache"),
    }
    log = home / "state" / "drag-and-drop-llms" / "log" / "serve.jsonl"
    log.parent.mkdir(parents=True)
    with logging_to(log):
        logger = logging.getLogger("ui.server.gate")
        log_numbers(logger, SERVER_COUNTERS, {"faults": 1})
        log_numbers(logger, SERVER_COUNTERS, {"faults": 2})
        logger.error("fault 1234 in chat: no model at `%s`", home / "models")
    done = subprocess.run(
        [sys.executable, "-m", "dnd_engine.cli", "doctor", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["versions"]["gradio"].startswith("6.")
    assert found["limits"]["max_files"] == 60
    assert found["last_errors"][0]["message"] == "fault 1234 in chat: no model at `<path>`"
    assert found["server_counters"]["faults"] == 2
    assert found["server_limits"] == {}
    assert found["set"]["HF_TOKEN"] is True
    assert found["places"]["library"]["path"].startswith("~")
    assert "hf_secret" not in done.stdout
    assert str(home) not in done.stdout


@pytest.mark.parametrize(
    ("logged", "told"),
    [
        ("Not offered: `/data/acme merger/gen`: bad", "Not offered: `<path>`: bad"),
        ("`~/acme/gen` and `/gen`", "`<path>` and `<path>`"),
        ("[Errno 2] No such file: '/data/acme/gen'", "[Errno 2] No such file: '<path>'"),
        ("no file /data/acme/gen, /data/b/", "no file <path>, <path>"),
        ("in file:///srv/private/x or //server/share/x", "in <path> or <path>"),
        (r"`C:\Users\acme` or \\acme\gen: bad", "`<path>` or <path>: bad"),
    ],
)
def test_the_doctor_names_no_folder_of_a_log(logged: str, told: str) -> None:
    assert without_paths(logged) == told


@pytest.mark.parametrize(
    "logged",
    [
        "fault 1234 in /gradio_api/upload: OSError at ui.server.gate:12 a < ui.server.gate:34 b",
        "fault 1234 in /: KeyError at ui.server.gate:12 a",
        "warning at starlette/routing:12",
        "https://example.org/a/b answered 404",
        "`HuggingFaceTB/SmolLM2-135M-Instruct` has no generator",
    ],
)
def test_the_doctor_still_tells_routes_places_and_models(logged: str) -> None:
    assert without_paths(logged) == logged
