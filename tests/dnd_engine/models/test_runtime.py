"""Base, adapter host and lock travel as one."""

import ast
from pathlib import Path

import pytest

import dnd_engine
from dnd_engine.lora.apply import LoRAHost
from dnd_engine.models.base import BaseModel
from dnd_engine.models.runtime import Runtime
from tests.dnd_engine.tiny import LAYOUT, tiny_base

PACKAGE = Path(dnd_engine.__file__).parent


def parameters(function: ast.FunctionDef) -> set[str]:
    arguments = function.args
    return {a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}


@pytest.mark.slow
def test_no_function_takes_the_parts_of_a_runtime_one_by_one() -> None:
    loose = [
        f"{path.relative_to(PACKAGE)}: {node.name}"
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef) and "host" in parameters(node)
    ]
    assert loose == []


def test_a_runtime_reaches_every_layer_unless_told_fewer(base: BaseModel) -> None:
    assert set(LAYOUT.targets) == set(Runtime.of(base).host.layout.targets)
    assert Runtime.of(base, LAYOUT).host.layout is LAYOUT


def test_the_host_must_be_of_the_same_model(base: BaseModel, tiny_folder: Path) -> None:
    other = tiny_base(tiny_folder)
    with pytest.raises(AssertionError):
        Runtime(base, LoRAHost(other.model, LAYOUT))
