"""The laws of the engine: what may import what, what loads torch, where a base is taken apart."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterable
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
import torch
from beartype.roar import BeartypeCallHintParamViolation
from jaxtyping import TypeCheckError

import dnd_engine
from dnd_engine.lora.weight_tokens import standardise
from dnd_engine.prompts.buckets import Bucket
from dnd_engine.prompts.files import from_texts

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "dnd_engine").rglob("*.py"))

ORDER = [
    "notes",
    "errors",
    "limits",
    "config",
    "progress",
    "exchange",
    "files",
    "tables",
    "server_log",
    "charts",
    "wording",
    "recipe_file",
    "cluster",
    "prompts",
    "tasks",
    "lora",
    "models",
    "generator",
    "export",
    "serving",
    "scoring",
    "imprint",
    "training",
    "teach",
    "checks",
    "measure",
    "synthesis",
    "library",
    "engine",
    "bench",
    "evaluation",
    "plan",
    "cli",
]
"""The engine's packages and single modules, from the ground up (see docs/architecture.md)."""


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


def test_a_package_imports_only_from_those_before_it() -> None:
    """Imports inside functions count: they hide from Python's loader, not from a reader."""
    upward = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in MODULES
        if (here := package(path)) is not None
        for name in sorted(imported(path))
        if (there := name.split(".")[1] if name.startswith("dnd_engine.") else None) in ORDER
        and ORDER.index(there) > ORDER.index(here)
    ]
    assert not upward


def test_every_package_has_its_place_in_the_order() -> None:
    assert {package(path) for path in MODULES} - {None} == set(ORDER)


def test_readme_and_the_page_on_architecture_name_every_package() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (tree,) = re.findall(r"^dnd_engine/ .*?^ui/", readme, flags=re.DOTALL | re.MULTILINE)
    table = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("| in `ui/`")
    for name in ORDER:
        assert re.search(rf"^  .*\b{name}\b", tree, flags=re.MULTILINE), name
        assert re.search(rf"^\|.*`{name}/?`.*\|", table[0], flags=re.MULTILINE), name


def package(path: Path) -> str | None:
    """The package, or module beside the packages, that a file belongs to; None for the two faces.

    `dnd_engine/__init__.py` names the public API and loads it on first use. `hyperconv.py` hands on
    a class under an address that code outside this repository imports.
    """
    top = path.relative_to(ROOT / "dnd_engine").with_suffix("").parts[0]
    return None if top in ("__init__", "hyperconv") else top


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


def test_the_insides_of_a_base_are_named_in_one_package() -> None:
    """Another architecture is a change in `models`, and in the layout where a LoRA needs it."""
    home = ROOT / "dnd_engine" / "models", ROOT / "dnd_engine" / "lora" / "layout.py"
    named = re.compile(r"lm_head|model\.layers|model\.model\b")
    assert all(named.search(p.read_text(encoding="utf-8")) for p in (home[0] / "base.py", home[1]))
    sources = [*MODULES, *(ROOT / "ui").rglob("*.py")]
    elsewhere = [p for p in sources if not any(p.is_relative_to(place) for place in home)]
    assert not [p for p in elsewhere if named.search(p.read_text(encoding="utf-8"))]


def loaded_by(code: str, *heavy: str) -> str:
    """Which of some modules are loaded after `code` ran in a fresh Python."""
    run = [
        sys.executable,
        "-c",
        f"import sys, importlib; {code}; print({set(heavy)} & {{*sys.modules}})",
    ]
    return subprocess.run(run, cwd=ROOT, capture_output=True, check=True, text=True).stdout.strip()


def imports(names: Iterable[str]) -> str:
    return f"[importlib.import_module('dnd_engine.' + name) for name in {sorted(names)}]"


def test_modules_that_read_prompts_do_not_load_torch() -> None:
    """A bad file is refused before any model loads, so refusing must not cost torch's start."""
    names = ["errors", "config", "progress", "files", "recipe_file"]
    names += [f"prompts.{path.stem}" for path in (ROOT / "dnd_engine/prompts").glob("[!_]*.py")]
    names += ["lora.layout", "lora.provenance", "library"]
    code = f"{imports(names)}; from dnd_engine import Bucket, EngineConfig, read_prompt_file"
    assert loaded_by(code, "torch", "transformers", "peft", "gradio", "numpy") == "set()"


def test_task_data_and_results_do_not_load_torch() -> None:
    """Checking tasks and showing what was found need no model; the label audit needs numpy.

    SciPy is only needed to compute.
    """
    tasks = (ROOT / "dnd_engine" / "tasks").rglob("[!_]*.py")
    names = {".".join(p.relative_to(ROOT / "dnd_engine").with_suffix("").parts) for p in tasks}
    assert len(names) > 15
    names |= {"models.replies", "generator.config", "generator.info"}
    names |= {"export.registry"}
    names |= {f"plan.{path.stem}" for path in (ROOT / "dnd_engine/plan").glob("[!_]*.py")}
    names |= {"training.recipe", "training.watch", "scoring.questions", "scoring.statistics"}
    names |= {"scoring.scores", "generator.report", "checks.results", "checks.registry"}
    names |= {"measure.kept", "bench.config", "bench.results"}
    names |= {
        "measure.sides",
        "measure.results",
        "evaluation.verdicts",
        "evaluation.report",
        "wording",
    }
    assert loaded_by(imports(names), "torch", "transformers", "gradio", "scipy") == "set()"


def class_names(folder: str, *, dataclasses_only: bool) -> set[str]:
    return {
        node.name
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
        if not dataclasses_only
        or any(ast.unparse(d).startswith("dataclass") for d in node.decorator_list)
    }


@pytest.mark.slow
def test_no_double_redeclares_a_dataclass_of_the_engine() -> None:
    """A copy drifts from what the engine returns: a double builds the engine's own results."""
    engines = class_names("dnd_engine", dataclasses_only=True)
    assert "Familiarity" in engines
    both = class_names("tests", dataclasses_only=False) & engines
    assert both == set(), "rename those in tests, or use the engine's"


@pytest.mark.parametrize("name", dnd_engine.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(dnd_engine, name).__name__ == name


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module `dnd_engine` has no attribute 'Motor'"):
        dnd_engine.Motor  # noqa: B018  # the access is the test


def test_annotations_are_checked_in_tests() -> None:
    """They are promises only while the hook is on (see pyproject.toml and `conftest.py`)."""
    with pytest.raises(TypeCheckError, match="tokens rows cols"):
        standardise(torch.zeros(2, 2))
    wrong: Any = 7
    with pytest.raises(BeartypeCallHintParamViolation, match="not instance of"):
        from_texts(["one"], name=wrong)
    with pytest.raises(BeartypeCallHintParamViolation, match="not instance of"):
        Bucket(wrong, 1.0, ())
