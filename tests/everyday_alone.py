"""Measure imprint alone on everyday tasks, for a base that has no generator.

    python -m tests.everyday_alone BASE OUT.json [--tasks 7] [--items 8] [--cache-dir FOLDER]

Every third task in alphabetical order. An adapter is made from its unlabeled training prompts; the
base with and without the instruction, and the adapter without it, answer other prompts of the task.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from dnd_engine.config import NO_GENERATOR, EngineConfig, MeasureConfig
from dnd_engine.engine import Engine
from dnd_engine.errors import DndError
from dnd_engine.files import asset_path
from dnd_engine.prompts.buckets import Bucket
from dnd_engine.prompts.files import from_texts


def measure(engine: Engine, folder: Path, items: int) -> dict[str, Any]:
    """Return the scores of one task, and what its adapter took."""
    rows = {
        side: [json.loads(line) for line in (folder / f"{side}.jsonl").read_text().splitlines()]
        for side in ("train", "test")
    }
    prompts = from_texts([row["prompt"] for row in rows["train"]], name="train.jsonl")
    made = engine.generate([Bucket(folder.name, 1.0, (prompts,))])
    every = rows["test"] + rows["train"]
    labelled = from_texts(
        [row["prompt"] for row in every],
        labels=[row["response"] for row in every],
        name="labelled.jsonl",
    )
    found: dict[str, Any] = {"seconds": made.making_seconds}
    for step in engine.measure(made, labelled, MeasureConfig(limit_items=items)):
        if step.row == "few_shot":
            break
        for row in step.measured.rows:
            found[f"{row.row} {row.mode}"] = (row.score.mean, row.num_items)
    return found


def main() -> None:
    """Write one line a task as it is done, and the whole at the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base")
    parser.add_argument("out", type=Path)
    parser.add_argument("--tasks", type=int, default=7)
    parser.add_argument("--items", type=int, default=8)
    parser.add_argument("--cache-dir", type=Path)
    given = parser.parse_args()
    started = time.monotonic()
    engine = Engine.load(
        EngineConfig(base=given.base, generator=NO_GENERATOR, cache_dir=given.cache_dir)
    )
    found: dict[str, Any] = {}
    for folder in sorted(asset_path("tasks", "everyday", "tasks").iterdir())[::3][: given.tasks]:
        try:
            found[folder.name] = measure(engine, folder, given.items)
        except DndError as error:
            found[folder.name] = {"error": str(error)}
        found[folder.name]["at"] = round(time.monotonic() - started)
        print(folder.name, found[folder.name], flush=True)  # noqa: T201 - what it is for
        given.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
