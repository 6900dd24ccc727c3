"""Hostile files never end in a raw exception: each is read or refused in words.

The usual run takes a hundred cases of each surface. The long one takes 100,000 new ones:

    python -m pytest tests/fuzz --hypothesis-profile fuzz
"""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dnd_engine.errors import DndError
from dnd_engine.lora.adapter import write_files
from dnd_engine.lora.provenance import read_recipe as read_adapter_recipe
from dnd_engine.lora.reader import read_adapter
from dnd_engine.tables import cell
from dnd_engine.tasks.folder import load_tasks
from dnd_engine.training.recipe import TrainRecipe
from tests.dnd_engine.tiny import BASE_ID, CONFIG, make_adapter

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


def refuses_or_reads(read: Callable[[], Any]) -> None:
    said = "read"
    try:
        read()
    except DndError as error:
        said = str(error)
    assert said.strip()


@LOOSE
@given(st.dictionaries(TRAIN_FIELDS, VALUE, max_size=6), st.integers(0, 2**32))
@example({"steps": 10**400}, 0)
def test_training_recipes(tmp_path: Path, values: dict[str, Any], seed: int) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(yaml.safe_dump({"tasks": "t", "out": "o"} | values).encode(errors="replace"))
    refuses_or_reads(lambda: TrainRecipe.read(path))
    path.write_bytes(mutated(b"tasks: t\nout: o\nsteps: 10\nbare_share: 0.5\nbase: x\n", seed))
    refuses_or_reads(lambda: TrainRecipe.read(path))


@pytest.mark.parametrize(
    "text",
    [
        "tasks: t\nout: " + "[" * 5000,
        "steps: " + "9" * 5000,
        "steps: 0x" + "9" * 6000,
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
    with pytest.raises(DndError, match=r"r\.yaml"):
        TrainRecipe.read(path)


INDEX = (
    "slug,family,category,metric,licence,description,split\n"
    "one,f,c,exact,MIT,words,train\ntwo,f,c,exact,MIT,words,heldout\n"
)
LINES = '{"prompt": "a\\n\\nb", "response": "c"}\n' * 3


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
    whole = {"buckets": [{"name": "a", "weight": 1.0}], "mix": "pool", "seed": 0}
    key = random.Random(seed).choice(list(whole))
    path.write_bytes(json.dumps(whole | {key: value}, default=str).encode())
    refuses_or_reads(lambda: read_adapter_recipe(path))
    path.write_bytes(mutated(json.dumps(whole).encode(), seed))
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
