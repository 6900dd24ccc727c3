"""The page as a whole: nothing public by accident, nothing loaded on import, no telemetry."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from dnd_engine.errors import ConfigError
from dnd_engine.limits import PromptLimits
from tests.present import present
from tests.ui.fake_engine import handle_of
from ui.build import build_ui
from ui.page import UnlistedSlotError
from ui.panel import Panel, SlotError, slots_of
from ui.serve import _check_port_variable, launch_options, listening_port
from ui.shared import Updates
from ui.state import Session
from ui.tabs.workbench.teach.events import TeachEvents

ROOT = Path(__file__).parents[2]


def test_a_port_that_cannot_be_used_is_refused_before_models_load(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"port {port}: .*in use.*GRADIO_SERVER_PORT"):
            listening_port("127.0.0.1", port)
    assert listening_port("127.0.0.1", port) == port
    monkeypatch.setenv("GRADIO_SERVER_PORT", str(port))
    assert listening_port("127.0.0.1", None) == port
    for wrong in ("http", "70000"):
        monkeypatch.setenv("GRADIO_SERVER_PORT", wrong)
        with pytest.raises(ConfigError, match=f"port {wrong}: "):
            listening_port("127.0.0.1", None)


def test_a_port_in_the_environment_is_looked_at_before_gradio_reads_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As `${PORT:-}` of a Compose file gives an empty one."""
    for given, port in (("", None), ("http", 7861), ("7862", None)):
        monkeypatch.setenv("GRADIO_SERVER_PORT", given)
        _check_port_variable(port)
        assert os.environ.get("GRADIO_SERVER_PORT") == (given if given == "7862" else None)
    monkeypatch.setenv("GRADIO_SERVER_PORT", "http")
    with pytest.raises(ConfigError, match="GRADIO_SERVER_PORT: expected a number from 1 to 65535"):
        _check_port_variable(None)


@pytest.mark.slow
def test_building_the_page_loads_no_model_and_sends_nothing() -> None:
    code = (
        "import os, sys, app; "
        "from dnd_engine.config import EngineConfig; "
        "from ui.build import build_ui; "
        "from ui.engine_handle import EngineHandle; "
        "handle = EngineHandle.of(EngineConfig()); "
        "demo = build_ui(handle, EngineConfig().limits); "
        "assert handle.snapshot().status == 'idle'; "
        "slow = {'torch', 'transformers', 'scipy'} & {*sys.modules}; "
        "assert not slow, f'{slow} was imported'; "
        "assert os.environ['GRADIO_ANALYTICS_ENABLED'] == 'False'; "
        "assert demo.analytics_enabled is False"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=600)


def test_events_are_private_and_the_engine_takes_one_at_a_time() -> None:
    demo = build_ui(handle_of(), PromptLimits())
    by_name = {fn.api_name: fn for fn in demo.fns.values()}
    public = {name for name, fn in by_name.items() if fn.api_visibility == "public"}
    assert public == {"make_adapter", "chat", "inspect", "list_adapters", "download"}
    assert {fn.api_visibility for name, fn in by_name.items() if name not in public} == {"private"}
    assert all(by_name[name].queue for name in public)
    engine_events = [fn for fn in demo.fns.values() if fn.concurrency_id == "engine"]
    assert len(engine_events) >= 5
    assert {fn.concurrency_limit for fn in engine_events} == {1}


def test_a_step_of_a_run_sets_the_loading_status_of_no_component() -> None:
    # Of none, not of the default: `None` would be all outputs, in the page as in Python.
    statuses = [
        fn.get_config()["show_progress_on"]
        for fn in build_ui(handle_of(), PromptLimits()).fns.values()
        if fn.api_visibility == "private" and fn.outputs
    ]
    assert statuses == [[]] * len(statuses)


def test_the_last_of_several_choices_in_a_row_counts() -> None:
    demo = build_ui(handle_of(), PromptLimits())
    modes = {
        fn.trigger_mode
        for fn in demo.fns.values()
        if any(event == "input" for _, event in fn.targets)
    }
    assert modes == {"always_last"}


def test_checks_do_not_take_the_place_of_the_next_visitors_synthesis() -> None:
    demo = build_ui(handle_of(), PromptLimits())
    lanes = {
        name: {fn.concurrency_id for fn in demo.fns.values() if fn.name == name}
        for name in ("synthesize", "answer", "check", "prepare_download")
    }
    assert lanes["synthesize"] == {"engine"}
    # Those of the chat, and those of a table of inputs, which are many.
    assert lanes["answer"] == {"chat", "batch"}
    assert lanes["check"] == lanes["prepare_download"] == {"check"}
    # Or the page would drop the check of an adapter while it waits for that of the one before.
    checks = [
        fn.trigger_mode for fn in demo.fns.values() if fn.name in ("check", "prepare_download")
    ]
    assert set(checks) == {"always_last"}


def test_a_stream_without_a_step_leaves_the_page_as_it_is() -> None:
    demo = build_ui(handle_of(), PromptLimits())
    streams = [fn for fn in demo.fns.values() if fn.name == "imprint"]
    assert len(streams) == 4
    for stream in streams:
        visit = Session()  # nothing was ordered
        assert list(present(stream.fn)(visit, gr.Request(), visit, gr.Request())) == [
            [gr.skip()] * len(stream.outputs)
        ]


def test_a_handler_that_updates_a_slot_its_event_does_not_list_raises(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(TeachEvents, "open", open_too_much)
    demo = build_ui(handle_of(), PromptLimits())
    (event,) = (fn for fn in demo.fns.values() if fn.name == "open_too_much")
    with pytest.raises(UnlistedSlotError, match="`open_too_much` updates take_box, which"):
        present(event.fn)(Session(), gr.Request())


def open_too_much(self: TeachEvents) -> Updates:
    return {"teach_box": gr.Row(visible=True), "take_box": gr.Row(visible=True)}


class _Inner(Panel):
    PREFIX = "inner_"

    def __init__(self) -> None:
        self.start = gr.Button("b")
        self.keep = {"json": gr.Button("c")}


class _Outer(Panel):
    def __init__(self) -> None:
        self.start = gr.Button("a")
        self.tries = (gr.Button("d"), gr.Button("e"))
        self.inner = _Inner()


def test_slots_are_named_by_the_attributes_of_panels() -> None:
    with gr.Blocks():
        outer = _Outer()
    assert {name: getattr(slot, "value", None) for name, slot in slots_of(outer).items()} == {
        **{"start": "a", "tries_0": "d", "tries_1": "e"},
        **{"inner_start": "b", "inner_keep_json": "c"},
    }


def test_two_components_of_one_name_are_refused() -> None:
    with gr.Blocks():
        inner = _Inner()
    with pytest.raises(SlotError, match="Two components are named `inner_start`"):
        slots_of(inner, inner)


def test_an_attribute_of_a_panel_that_is_no_component_is_refused() -> None:
    with gr.Blocks():
        inner = _Inner()
    no_component: Any = "no component"
    inner.start = no_component
    with pytest.raises(SlotError, match=r"`_Inner.start`: expected a component, .* got str"):
        slots_of(inner)


def test_a_launch_keeps_visits_private() -> None:
    options = launch_options(PromptLimits())
    for name in ("share", "run_history", "enable_monitoring", "ssr_mode", "mcp_server"):
        assert options[name] is False
    # Prompt files have a limit of their own, of 5 MB; this one is for adapters.
    assert options["max_file_size"] == 64_000_000
    assert "allowed_paths" not in options


def test_looks_come_from_this_machine_alone() -> None:
    names = ("app.css", "canvas.js", "canvas.html", "page.js", "transcript.js", "words.js")
    for name in names:
        source = (ROOT / "assets" / name).read_text(encoding="utf-8")
        source = source.replace("http://www.w3.org/2000/svg", "")
        assert not re.search("https?://", source)
        assert "@import" not in source
