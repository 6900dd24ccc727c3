"""The laws of the window: what may import what, and who knows threads."""

import ast
import re
from pathlib import Path

import pytest

from tests.dnd_engine.test_layers import imported

ROOT = Path(__file__).parents[2]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in sorted((ROOT / "ui").rglob("*.py"))
}
VIEWS = [name for name in MODULES if name.endswith("view")]
EVENTS = [name for name in MODULES if name.endswith("events")]
WIRING = [name for name in MODULES if name.endswith("wiring")]
ABOVE = {*EVENTS, *WIRING, "ui.handlers", "ui.page", "ui.build"}
"""What no view knows."""
AT_THE_ENGINE = {"ui.engine_calls", "ui.engine_thread", "ui.engine_handle"}
"""The one module that handlers call, and the two it is built on."""


def test_the_page_on_architecture_names_every_module_and_package() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = {
        name.strip("`/")
        for row in re.findall(r"^\| (`.*?) \|", text.partition("| in `ui/`")[2], flags=re.MULTILINE)
        for name in row.split(", ")
    }
    assert named - {"locale"} == {name.split(".")[1] for name in MODULES} - {"__init__"}


def test_every_tab_has_a_view_and_events_and_wires_itself() -> None:
    parts = [path for path in (ROOT / "ui" / "tabs").iterdir() if (path / "__init__.py").exists()]
    parts += [path for path in (ROOT / "ui/tabs/workbench").iterdir() if path.is_dir()]
    parts = [path for path in parts if path.name not in ("workbench", "__pycache__")]
    assert len(parts) >= 10
    for part in parts:
        assert list(part.glob("*events.py")), part
        assert (part / "wiring.py").exists(), part
        # What runs draw is part of what they are: `ui.stages`.
        assert (part / "view.py").exists() or part.name == "runs", part


@pytest.mark.parametrize("name", [*VIEWS, "ui.stages", "ui.canvas"])
def test_a_view_imports_no_events(name: str) -> None:
    assert not imported(MODULES[name]) & ABOVE


@pytest.mark.parametrize("name", [*EVENTS, "ui.handlers"])
def test_events_do_not_know_which_component_a_slot_is(name: str) -> None:
    assert not imported(MODULES[name]) & {*WIRING, "ui.page", "ui.build"}


def test_the_page_is_a_table_of_contents() -> None:
    assert len(MODULES["ui.build"].read_text(encoding="utf-8").splitlines()) < 200


def test_the_state_imports_neither_views_nor_events() -> None:
    assert not imported(MODULES["ui.state"]) & {*VIEWS, *ABOVE}


@pytest.mark.parametrize("name", MODULES)
def test_only_the_calls_of_the_engine_know_threads_and_gpu_marks(name: str) -> None:
    if name in AT_THE_ENGINE:
        return
    known = {"threading", "concurrent.futures", "queue", "ui.engine_thread", "spaces"}
    known |= {"ui.spaces.gpu", "ui.spaces.borrows_gpu"}
    if name in ("ui.api_shelf", "ui.line", "ui.visits", "ui.server.gradio_private.start"):
        known -= {"threading"}  # what requests share has a lock, and so has a patch of Gradio
    if name == "ui.spaces":
        known -= {"spaces"}  # it makes the mark
    assert not imported(MODULES[name]) & known


def test_what_every_request_passes_knows_no_part_of_the_page_and_is_in_no_circle() -> None:
    below = {"ui.faults", "ui.language", "ui.owner", "ui.spaces"}
    server = {name for name in MODULES if name.startswith("ui.server.")}
    for name in server:
        found = imported(MODULES[name]) & {*MODULES}
        assert {one for one in found if not one.startswith("ui.text")} <= below | server, name
    for name in below:
        assert not imported(MODULES[name]) & server, name


@pytest.mark.parametrize("name", [*EVENTS, "ui.handlers", "ui.api", "ui.api_shelf"])
def test_handlers_are_composed_and_inherit_nothing(name: str) -> None:
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef):
            bases = {ast.unparse(base) for base in node.bases}
            assert bases <= {"TypedDict", "Exception"}, node.name


def gradio_names(tree: ast.AST) -> set[str]:
    """Return the names of Gradio that a module uses, such as `Blocks`."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found |= {node.attr} if node.value.id in ("gr", "gradio") else set()
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "gradio":
            found |= {alias.name for alias in node.names}
    return found


def test_nothing_of_gradio_that_reaches_beyond_the_page_is_used() -> None:
    code = [*MODULES.values(), ROOT / "app.py"]
    used = set().union(*(gradio_names(ast.parse(path.read_text("utf-8"))) for path in code))
    assert "Blocks" in used, "names are found"
    # They serve another page with this computer's token, log each visitor of a page outside of the
    # Hub in as this computer's user, and list folders.
    assert not used & {"load", "LoginButton", "FileExplorer"}
    seen = gradio_names(ast.parse("from gradio import load\ngr.FileExplorer()"))
    assert seen == {"load", "FileExplorer"}
