"""Hostile files never end in a raw exception: each is read or refused in words.

The usual run takes a hundred cases of each surface. The long one takes 100,000 new ones:

    python -m pytest tests/fuzz --hypothesis-profile fuzz
"""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dnd_engine.errors import DndError
from dnd_engine.generator.folder import GeneratorFolder, TaskCentroid, save_generator
from dnd_engine.lora.adapter import write_files
from dnd_engine.lora.provenance import read_recipe as read_adapter_recipe
from dnd_engine.lora.reader import read_adapter
from dnd_engine.plan.hardware import read_hardware
from dnd_engine.prompts.files import FORMATS, read_prompt_file
from dnd_engine.tables import cell
from dnd_engine.tasks.folder import load_tasks
from dnd_engine.training.recipe import TrainRecipe
from tests.dnd_engine.generator.test_generator import trained
from tests.dnd_engine.tiny import BASE_ID, CONFIG, CPU, make_adapter
from tests.fuzz.surfaces import (
    INDEX,
    LINES,
    PROMPTS,
    RECIPE,
    SURFACES,
    lay_out,
    reader_of,
    refuses_or_reads,
)

pytestmark = pytest.mark.slow
LOOSE = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

# Strings that JSON and YAML can escape although no file can hold them, and other odd values.
TEXT = st.text(st.characters(codec=None), max_size=20) | st.sampled_from(
    ["\ud800", "=cmd|' /C calc'!A0", "../../x", "~nobody-there/x", "\0", "x" * 300, "1e999", "NaN"]
)
VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**400, max_value=10**401)
    | st.floats()
    | TEXT,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(TEXT | st.integers(), inner, max_size=4)
    ),
    max_leaves=8,
)
TRAIN_FIELDS = st.sampled_from(list(TrainRecipe.__dataclass_fields__))


def mutated(data: bytes, seed: int) -> bytes:
    """Change, drop, repeat or insert some bytes."""
    draw = random.Random(seed)
    out = bytearray(data)
    for _ in range(draw.randint(1, 8)):
        at = draw.randrange(len(out) + 1)
        kind = draw.randrange(4)
        if kind == 0 and at < len(out):
            out[at] = draw.randrange(256)
        elif kind == 1:
            del out[at : at + draw.randint(1, 20)]
        elif kind == 2:
            out[at:at] = out[at : at + draw.randint(1, 40)]
        else:
            out[at:at] = draw.choice([b"\x00", b"\xff", b"[" * 3000, b"9" * 5000, b"\\ud800", b'"'])
    return bytes(out)


@LOOSE
@given(st.dictionaries(TRAIN_FIELDS, VALUE, max_size=6), st.integers(0, 2**32))
@example({"steps": 10**400}, 0)
def test_training_recipes(tmp_path: Path, values: dict[str, Any], seed: int) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(yaml.safe_dump({"tasks": "t", "out": "o"} | values).encode(errors="replace"))
    refuses_or_reads(lambda: TrainRecipe.read(path))
    path.write_bytes(mutated(b"tasks: t\nout: o\nsteps: 10\nbare_share: 0.5\nbase: x\n", seed))
    refuses_or_reads(lambda: TrainRecipe.read(path))


def bomb(levels: int) -> str:
    """Write a list of ten lists of ten lists, and so on, in a few hundred bytes."""
    value = f"&a0 [{', '.join(['lol'] * 10)}]"
    for level in range(1, levels):
        value = f"&a{level} [{value}{f', *a{level - 1}' * 9}]"
    return value


RAW = [
    "tasks: t\nout: o\nsteps: " + bomb(9),
    "<<: &a {tasks: t}\nout: o\nmore: *a",
    "steps: !!timestamp soon",
    "steps: !!bool maybe",
    "steps: !!int ''",
    "steps: !" + "x" * 5000,
    "steps: 2020-01-01T00:00:00+99:99",
]
"""YAML that PyYAML reads into too much, or ends in an exception of its own."""


@pytest.mark.parametrize(
    "text",
    [
        *RAW,
        "tasks: t\nout: o\nsteps: " + "x" * 100_000,
        "tasks: t\nout: o\nsteps: [" + "1, " * 50_000 + "]",
        "#" * 200_001,
        "tasks: t\nout: " + "[" * 5000,
        "steps: " + "9" * 5000,
        "steps: 0x" + "9" * 6000,
        "steps: -0x" + "9" * 6000,
        "max_tokens: 0x" + "9" * 6000,
        "0x" + "9" * 6000 + ": 1",
        "bare_share: 1" + "0" * 400,
        "out: 2020-13-45",
        "out: ~nobody-is-called-that/x\ntasks: t",
        "out: !!python/object/apply:os.system ['true']",
        "&a [*a, *a]",
        "? [1, 2]\n: 3",
        "\ufeff",
    ],
)
def test_training_recipes_that_had_ended_in_a_raw_exception(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DndError, match=r"r\.yaml") as refused:
        TrainRecipe.read(path)
    assert len(str(refused.value)) < 2_500


@pytest.mark.parametrize(
    "text",
    [
        *RAW,
        "a: 2020-13-45",
        "a: " + "[" * 5000,
        "a: " + "9" * 5000,
        "a: {tflops: 1" + "0" * 400 + "}",
        "[1, 2]",
        "1: 2",
        "",
        "#" * 200_001,
    ],
)
def test_tables_of_hardware_that_had_ended_in_a_raw_exception(tmp_path: Path, text: str) -> None:
    path = tmp_path / "hardware.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DndError, match=r"hardware\.yaml") as refused:
        read_hardware(path)
    assert len(str(refused.value)) < 2_500


def test_aliases_are_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("tasks: &t t\nout: *t\n")
    with pytest.raises(
        DndError, match=r"line 2, column 6: .* got an alias \(`\*name`\)\. Write the value itself"
    ):
        TrainRecipe.read(path)


@LOOSE
@given(st.integers(0, 2**32), st.sampled_from(["tasks.csv", "train.jsonl", "test.jsonl"]), TEXT)
def test_task_folders(tmp_path: Path, seed: int, which: str, slug: str) -> None:
    slug = slug.encode(errors="replace").decode()
    content = {"tasks.csv": INDEX.replace("two", slug) if seed % 3 == 0 else INDEX}
    content |= {"train.jsonl": LINES, "test.jsonl": LINES}
    for name, text in content.items():
        data = mutated(text.encode(), seed) if name == which else text.encode()
        for task in ("one", "two") if name != "tasks.csv" else ("",):
            place = tmp_path / "tasks" / task / name if task else tmp_path / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
    refuses_or_reads(lambda: load_tasks(tmp_path))


@pytest.mark.parametrize("name", SURFACES)
def test_the_files_that_are_mutated_read(tmp_path: Path, name: str) -> None:
    assert reader_of(lay_out(tmp_path, name))()


def test_every_prompt_format_is_fuzzed() -> None:
    assert {Path(name).suffix for name in PROMPTS} == FORMATS.keys()


@LOOSE
@given(st.sampled_from([*PROMPTS]), st.integers(0, 2**32))
def test_prompt_files(tmp_path: Path, name: str, seed: int) -> None:
    path = tmp_path / name
    path.write_bytes(mutated(PROMPTS[name], seed))
    refuses_or_reads(lambda: read_prompt_file(path))


@LOOSE
@given(VALUE, st.integers(0, 2**32), st.sampled_from(["config.json", "tasks.json"]))
def test_generators(generator: Path, value: Any, seed: int, name: str) -> None:
    path = generator / name
    whole = path.read_bytes()
    try:
        if seed % 2:
            path.write_bytes(mutated(whole, seed))
        else:
            values = json.loads(whole)
            part = values[0] if isinstance(values, list) else values
            part[random.Random(seed).choice([*part])] = value
            path.write_text(json.dumps(values, default=str))
        refuses_or_reads(lambda: GeneratorFolder.open(generator).load(CPU, torch.float32))
    finally:
        path.write_bytes(whole)


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("generators") / "made"
    save_generator(trained(), path, [TaskCentroid("a", "d", (0.5,) * 384)], "# Card")
    return path


@LOOSE
@given(VALUE, st.integers(0, 2**32), st.integers(0, 3))
def test_adapters(tmp_path: Path, value: Any, seed: int, which: int) -> None:
    files = make_adapter().files()
    name = list(files)[which]
    if seed % 2:
        files[name] = mutated(files[name], seed)
    else:
        files["provenance.json"] = json.dumps(
            {"note": value, "buckets": value}, default=str
        ).encode()
    path = write_files(files, tmp_path / "a.zip")

    def read_and_write() -> None:
        adapter = read_adapter(path, CONFIG, BASE_ID)
        adapter.save(tmp_path / "b.zip")

    refuses_or_reads(read_and_write)


@LOOSE
@given(VALUE, st.integers(0, 2**32))
def test_recipes_of_adapters(tmp_path: Path, value: Any, seed: int) -> None:
    path = tmp_path / "recipe.json"
    key = random.Random(seed).choice(list(RECIPE))
    path.write_bytes(json.dumps(RECIPE | {key: value}, default=str).encode())
    refuses_or_reads(lambda: read_adapter_recipe(path))
    path.write_bytes(mutated(SURFACES["recipe.json"], seed))
    refuses_or_reads(lambda: read_adapter_recipe(path))


@given(st.text(max_size=30))
@example("=cmd|' /C calc'!A0")
@example("@SUM(1)")
@example("+1+cmd")
@example("-1+2")
@example("\t=1")
@example(" =1")
@example("\r=1")
def test_no_cell_is_a_formula(text: str) -> None:
    shown = cell(text)
    assert shown in (text, f"'{text}")
    begins = shown.lstrip()[:1]
    assert begins not in ("=", "@")
    assert begins not in ("+", "-") or shown.strip().strip("+-.,%0123456789eE") == ""
    assert shown[:1] not in ("\t", "\r", "\n")


def test_numbers_stay_numbers() -> None:
    for value in (-1, 2.5, None, "-1", "+3.5", "-1e-3", "12 %", "plain"):
        assert cell(value) == value
