"""`ui.server.gradio_private` is needed for as long as these pass."""

import ast
import inspect
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest
from gradio.route_utils import delete_files_created_by_app
from gradio.routes import App

from dnd_engine.limits import PromptLimits
from tests.serving import serving
from tests.ui.fake_engine import handle_of
from ui.build import build_ui
from ui.server.gradio_private.start import QUEUE_SETTINGS, launch_settings

UI = Path(__file__).parents[2] / "ui"


def test_the_settings_that_are_changed_still_exist_and_still_matter() -> None:
    usual = vars(gr.Blocks().queue()._queue)
    built = vars(build_ui(handle_of(), PromptLimits())._queue)
    for name, value in QUEUE_SETTINGS.items():
        assert name in usual, f"Gradio's queue has no `{name}` any more: remove it"
        assert usual[name] < value, f"Gradio's own `{name}` is calm enough: remove it"
        assert built[name] == value


def test_old_uploads_are_deleted_and_what_a_visit_offers_for_download_is_not(
    tmp_path: Path,
) -> None:
    demo = build_ui(handle_of(), PromptLimits())
    uploaded, offered = tmp_path / "prompts.txt", tmp_path / "adapter.zip"
    for path in (uploaded, offered):
        path.touch()
    demo.upload_file_set.add(str(uploaded))
    for block in demo.blocks.values():
        block.temp_files.add(str(offered))
    delete_files_created_by_app(demo, age=None)
    assert [path.exists() for path in (uploaded, offered)] == [False, True]


def test_an_argument_of_launch_without_a_public_name_is_given_where_it_exists(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert launch_settings() == {"_frontend": False}, "Gradio has it no more: remove it"
    monkeypatch.setattr(gr.Blocks, "launch", lambda self, frontend=True: None)
    assert launch_settings() == {}


def test_gradio_has_no_public_name_for_them_yet() -> None:
    known = {
        *("self", "status_update_rate", "api_open", "max_size"),
        "default_concurrency_limit",
    }
    new = set(inspect.signature(gr.Blocks.queue).parameters) - known
    assert not new, f"See whether {new} can take the place of `ui.server.gradio_private`."


@pytest.mark.slow
@pytest.mark.parametrize(("first", "parses"), [("ui.build", False), ("gradio", True)])
def test_no_component_is_parsed_for_its_stub(first: str, parses: bool) -> None:
    """Gradio's own are where it is imported before the page; ours get no stub even then."""
    code = f"""
import ast, importlib, sys
callers, parse = set(), ast.parse
def counting(*given, **named):
    callers.add(sys._getframe(1).f_code.co_name)
    return parse(*given, **named)
ast.parse = counting
importlib.import_module("{first}")
print("extract_class_source_code" in callers)
import ui.build
"""
    run = [sys.executable, "-c", code]
    ran = subprocess.run(run, cwd=UI.parent, capture_output=True, check=True, text=True)
    assert ran.stdout.split() == [str(parses)], "does Gradio still write stubs on import?"
    assert not [*UI.rglob("*.pyi")]


def test_a_page_is_built_without_an_app_and_launched_with_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[gr.Blocks] = []
    create = App.create_app

    def counting(blocks: gr.Blocks, *rest: Any, **named: Any) -> App:
        made.append(blocks)
        return create(blocks, *rest, **named)

    monkeypatch.setattr(App, "create_app", counting)
    with gr.Blocks() as plain:
        pass
    plain.queue()
    assert made, "Gradio makes no early apps any more: remove `one_app`"
    made.clear()
    with serving(handle_of()):
        assert len(made) == 1


@pytest.mark.slow
def test_a_server_starts_on_a_machine_too_busy_to_answer_gradio_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gradio.networking.url_ok", lambda url: False)
    with serving(handle_of()) as url:
        assert httpx.get(f"{url}/health/live", timeout=60).status_code == 200
    with gr.Blocks() as plain:
        gr.HTML("")
    with closing(plain), pytest.raises(ValueError, match="shareable link"):  # or remove the setting
        plain.launch(prevent_thread_lock=True, quiet=True)


@pytest.mark.parametrize("path", sorted(UI.rglob("*.py")), ids=lambda p: str(p.relative_to(UI)))
def test_private_parts_of_others_are_touched_in_that_folder_alone(path: Path) -> None:
    tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    used = [node for node in tree if isinstance(node, ast.Attribute) and is_private(node.attr)]
    own = {node.attr for node in used if ast.unparse(node.value) in ("self", "cls")}
    touched = [f"line {node.lineno}: {ast.unparse(node)}" for node in used if node.attr not in own]
    assert path.parent.name == "gradio_private" or not touched


PUBLIC = {"blocks", "components", "data_classes", "events", "exceptions"}
"""Modules of Gradio whose names its guides use, or that `gr` itself hands on."""


@pytest.mark.parametrize("path", sorted(UI.rglob("*.py")), ids=lambda p: str(p.relative_to(UI)))
def test_modules_of_gradio_without_a_guide_are_imported_there_alone(path: Path) -> None:
    modules = {
        module
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for module in imports_of(node)
        if module.split(".")[0] == "gradio"
    }
    known = {"gradio", *(f"gradio.{name}" for name in PUBLIC)}
    assert path.parent.name == "gradio_private" or modules <= known


def imports_of(node: ast.AST) -> set[str]:
    """Return the modules that a statement imports, with those that it takes from `gradio`."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.module == "gradio":
        return {f"gradio.{alias.name}" for alias in node.names}
    return {node.module or ""} if isinstance(node, ast.ImportFrom) else set()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from gradio.utils import get_upload_folder", {"gradio.utils"}),
        ("from gradio import routes", {"gradio.routes"}),
        ("import gradio.queueing as q", {"gradio.queueing"}),
        ("import gradio as gr", {"gradio"}),
    ],
)
def test_an_import_is_found_however_it_is_written(source: str, found: set[str]) -> None:
    assert imports_of(ast.parse(source).body[0]) == found


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")
