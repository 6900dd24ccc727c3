"""Four small tasks on made-up words, as task folders, and the logs of runs on them."""

import csv
import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dnd_engine.training.recipe import TrainRecipe

WORDS = [a + b + c for a in "kmprst" for b in "aeiou" for c in "lnx"]
JOBS: dict[str, tuple[str, Callable[[str], str]]] = {
    "first": ("Give the first letter.", lambda w: w[0]),
    "last": ("Give the last letter.", lambda w: w[-1]),
    "upper": ("Write in capitals.", str.upper),
    "length": ("How many letters?", lambda w: str(len(w))),
}
ALL_JOBS = JOBS | {
    "alone": ("Say it backwards.", lambda w: w[::-1]),
    "vowel": ("Answer yes if it has an a, else no.", lambda w: "yes" if "a" in w else "no"),
}


def lines(examples: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(example) + "\n" for example in examples)


def write_tasks(
    folder: Path,
    slugs: tuple[str, ...] = tuple(JOBS),
    words: Mapping[str, int] | None = None,
) -> Path:
    """A task folder: 30 train and 10 test examples each, all with a bare input.

    Tasks with one number in `words` share their inputs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "tasks.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        columns = "slug,family,category,metric,licence,licence_class,description,split"
        writer.writerow(columns.split(","))
        for slug in slugs:
            instruction = ALL_JOBS[slug][0]
            row = (slug, slug, "letters", "exact", "MIT", "permissive", instruction, "train")
            writer.writerow(row)
    for number, slug in enumerate(slugs):
        instruction, job = ALL_JOBS[slug]
        pool = WORDS if words is None or slug in words else [word * 2 for word in WORDS]
        chosen = random.Random((words or {}).get(slug, number)).sample(pool, 40)
        examples = [{"prompt": f"{instruction}\n\n{w}", "response": job(w)} for w in chosen]
        side = folder / "tasks" / slug
        side.mkdir(parents=True)
        (side / "train.jsonl").write_text(lines(examples[:30]))
        (side / "test.jsonl").write_text(lines(examples[30:]))
    return folder


def logged(recipe: TrainRecipe) -> list[dict[str, Any]]:
    """The rows of a run's log."""
    return [json.loads(line) for line in (recipe.out / "log.jsonl").read_text().splitlines()]
