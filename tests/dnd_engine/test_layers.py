"""The engine knows nothing of the window, and its modules import only from below."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import torch
from jaxtyping import TypeCheckError

import dnd_engine
from dnd_engine.lora.weight_tokens import standardise

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "dnd_engine").rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Every module a file names in an import, however deep in a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_engine_module_imports_the_window(path: Path) -> None:
    tops = {name.split(".")[0] for name in imported(path)}
    assert not tops & {"gradio", "gradio_client", "ui", "app", "tests"}


def test_engine_modules_do_not_import_in_circles() -> None:
    """`__init__` is left out: it names the public API, and loads it on first use."""
    names = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in MODULES}
    graph = {
        name: imported(path) & set(names)
        for name, path in names.items()
        if not name.endswith("__init__")
    }
    assert len(graph) > 15
    assert len(tuple(TopologicalSorter(graph).static_order())) == len(graph)  # else CycleError


def test_modules_that_read_prompts_do_not_load_torch() -> None:
    """A bad file is refused before any model loads, so refusing must not cost torch's start."""
    names = ("errors", "config", "files", "prompts.files", "prompts.buckets", "prompts.examples")
    names += ("lora.layout", "lora.provenance", "library")
    code = (
        f"import sys, importlib; [importlib.import_module('dnd_engine.' + n) for n in {names}];"
        "from dnd_engine import Bucket, EngineConfig, read_prompt_file;"
        "print({'torch', 'transformers', 'peft', 'gradio', 'numpy'} & set(sys.modules))"
    )
    run = [sys.executable, "-c", code]
    assert subprocess.run(run, cwd=ROOT, capture_output=True, check=True).stdout == b"set()\n"


@pytest.mark.parametrize("name", dnd_engine.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(dnd_engine, name).__name__ == name


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module `dnd_engine` has no attribute 'Motor'"):
        dnd_engine.Motor  # noqa: B018  # the access is the test


def test_shape_annotations_are_checked_in_tests() -> None:
    """The annotations are promises only while jaxtyping's hook is on (see pyproject.toml)."""
    with pytest.raises(TypeCheckError, match="tokens rows cols"):
        standardise(torch.zeros(2, 2))
