"""What reads strangers' files, by the name of a file, and a sound one to begin with.

For the tests of this folder, and for guided fuzzing, which follows the branches that a case takes
and so finds what chance does not. By hand, on Linux, as long as you like for each surface:

    pip install atheris
    python -m tests.fuzz.surfaces a.zip -max_total_time=600
"""

import io
import json
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd


def _packed(**members: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return data.getvalue()


def _sheet() -> bytes:
    book, data = openpyxl.Workbook(), io.BytesIO()
    for row in (["prompt", "label"], ["Say a.", 1], ["Say b.", 2]):
        book.active.append(row)
    book.save(data)
    return data.getvalue()


def _table() -> bytes:
    data = io.BytesIO()
    pd.DataFrame({"prompt": ["Say a.", "Say b."], "label": [1, 2]}).to_parquet(data)
    return data.getvalue()


LINES = '{"prompt": "a\\n\\nb", "response": "c"}\n' * 3
_CHAT = '{"messages": [{"role": "user", "content": "Say a."}]}\n'
PROMPTS = {
    "a.txt": b"Say it.\n\na\n\nSay it.\n\nb\n",
    "a.md": b"Say a.\n---\nSay b.\n",
    "a.csv": b'prompt,label\n"Say a, b",1\nSay b.,2\n',
    "a.tsv": b"instruction\tinput\nSay it.\ta\n",
    "a.jsonl": LINES.encode() + _CHAT.encode(),
    "a.json": b'{"rows": [{"question": "a?", "answer": 1}, "b"]}',
    "a.ipynb": b'{"cells": [{"cell_type": "markdown", "source": ["Say a."]}], "nbformat": 4}',
    "a.zip": _packed(**{"a.txt": "Say a.\n", "b/c.jsonl": LINES}),
    "a.docx": _packed(
        **{
            "word/document.xml": '<w:document xmlns:w="http://schemas.openxmlformats.org/'
            'wordprocessingml/2006/main"><w:body><w:p><w:r><w:t>Say a.</w:t></w:r></w:p>'
            "</w:body></w:document>"
        }
    ),
    "a.xlsx": _sheet(),
    "a.parquet": _table(),
}
INDEX = (
    "slug,family,category,metric,licence,description,split\n"
    "one,f,c,exact,MIT,words,train\ntwo,f,c,exact,MIT,words,heldout\n"
)
RECIPE = {
    "format": 1,
    "base": "base",
    "base_sha256": "b" * 64,
    "encoder": "encoder",
    "encoder_sha256": "e" * 64,
    "generator": "generator",
    "generator_sha256": "f" * 64,
    "mix": "pool",
    "seed": 3,
    "buckets": [
        {
            "name": "A",
            "weight": 1.0,
            "num_prompts": 2,
            "files": [
                {
                    "name": "a.jsonl",
                    "sha256": "6" * 64,
                    "split": "objects",
                    "num_prompts": 2,
                    "prompts_sha256": "7" * 64,
                }
            ],
        }
    ],
    "refined_before": [],
    "folded": [0.5],
    "strength": 0.5,
    "sha256": "a" * 64,
}
SURFACES = {
    **PROMPTS,
    "tasks.csv": INDEX.encode(),
    "train.yaml": b"tasks: t\nout: o\nsteps: 10\nbare_share: 0.5\nbase: x\n",
    "recipe.json": json.dumps(RECIPE).encode(),
}


def refuses_or_reads(read: Callable[[], Any]) -> None:
    """Check that a file is read, or refused in words."""
    from dnd_engine.errors import DndError

    said = "read"
    try:
        read()
    except DndError as error:
        said = str(error)
    assert said.strip()


def reader_of(path: Path) -> Callable[[], Any]:
    """Return what reads a file of this name."""
    from dnd_engine.lora.provenance import read_recipe
    from dnd_engine.prompts.files import read_prompt_file
    from dnd_engine.tasks.folder import load_tasks
    from dnd_engine.training.recipe import TrainRecipe

    special: dict[str, Callable[[], Any]] = {
        "tasks.csv": lambda: load_tasks(path.parent),
        "train.yaml": lambda: TrainRecipe.read(path),
        "recipe.json": lambda: read_recipe(path),
    }
    return special.get(path.name, lambda: read_prompt_file(path))


def lay_out(folder: Path, name: str) -> Path:
    """Write a sound file of a surface, and what must lie beside it."""
    for task in ("one", "two") if name == "tasks.csv" else ():
        (folder / "tasks" / task).mkdir(parents=True)
        for part in ("train.jsonl", "test.jsonl"):
            (folder / "tasks" / task / part).write_text(LINES, encoding="utf-8")
    path = folder / name
    path.write_bytes(SURFACES[name])
    return path


def main() -> None:
    """Fuzz the surface that the first argument names; the rest are libFuzzer's."""
    import atheris

    with (
        tempfile.TemporaryDirectory() as seeds,
        tempfile.TemporaryDirectory() as folder,
        atheris.instrument_imports(include=["dnd_engine"]),
    ):
        name = sys.argv.pop(1)
        path = lay_out(Path(folder), name)
        read = reader_of(path)
        (Path(seeds) / name).write_bytes(SURFACES[name])

        def once(data: bytes) -> None:
            path.write_bytes(data)
            refuses_or_reads(read)

        atheris.Setup([*sys.argv, seeds], once)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
