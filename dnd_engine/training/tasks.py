"""Task folders: `tasks.csv` and `tasks/<slug>/{train,test}.jsonl` to checked `Task`s.

Knows the schema and nothing of tokens or models. A prompt is an instruction, a blank line and an
input; the *bare input* is what follows the first blank line.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dnd_engine.errors import TaskError

__all__ = ["Example", "Task", "TaskInfo", "audit_task", "load_tasks", "read_index"]

COLUMNS = ("slug", "family", "category", "metric", "licence", "description", "split")
SPLITS = ("train", "heldout")
METRICS = ("choice", "exact", "rouge", "bleu")

_CONSTANT_SHARE = 0.95
"""A test side on which one answer is right this often measures nothing."""


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt and its reference response."""

    prompt: str
    response: str
    options: tuple[str, ...] = ()

    @property
    def bare(self) -> str | None:
        """The input without its instruction; None if the prompt has no blank line."""
        _, separator, rest = self.prompt.partition("\n\n")
        return rest if separator and rest.strip() else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskInfo:
    """A row of `tasks.csv`."""

    slug: str
    family: str
    category: str
    metric: str
    licence: str
    licence_class: str
    description: str
    split: str


@dataclass(frozen=True, slots=True)
class Task:
    """A task with its examples."""

    info: TaskInfo
    train: tuple[Example, ...]
    test: tuple[Example, ...]


def read_index(folder: Path) -> tuple[TaskInfo, ...]:
    """Read `tasks.csv`.

    Raises:
        TaskError: If it is missing, lacks a column, or a row is malformed; all faults at once.
    """
    path = folder / "tasks.csv"
    if not path.is_file():
        raise TaskError(f"no `tasks.csv` in `{folder}`. A task folder holds it beside `tasks/`.")
    try:
        reader = csv.DictReader(io.StringIO(_read_text(path), newline=""))
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        rows = list(reader)
    except csv.Error as error:
        raise TaskError(f"`{path}` is no CSV table: {error}.") from error
    if missing:
        raise TaskError(f"`{path}` lacks the column(s) {', '.join(missing)}.")
    faults: list[str] = []
    for line, row in enumerate(rows, start=2):
        slug = row["slug"] or ""
        if not slug or Path(slug).name != slug or slug.startswith("."):
            faults.append(f"line {line}: `slug` {slug!r} is not a plain folder name")
        if row["split"] not in SPLITS:
            faults.append(
                f"line {line}: `split` is {row['split']!r}, expected {' or '.join(SPLITS)}"
            )
        if row["metric"] not in METRICS:
            faults.append(
                f"line {line}: `metric` is {row['metric']!r}, not of {', '.join(METRICS)}"
            )
    repeated = [slug for slug, count in Counter(row["slug"] for row in rows).items() if count > 1]
    faults += [f"slug `{slug}` stands twice" for slug in repeated]
    _raise_all(f"`{path}`", faults)
    return tuple(
        TaskInfo(
            **{name: row[name] or "" for name in COLUMNS},
            licence_class=row.get("licence_class") or "unknown",
        )
        for row in rows
    )


def load_tasks(
    folder: Path,
    *,
    split: str | None = None,
    without_licence_classes: Sequence[str] = (),
) -> tuple[Task, ...]:
    """Load the tasks of a folder, or some of them.

    Args:
        folder: Holds `tasks.csv` and `tasks/`.
        split: `train` or `heldout`; None is both.
        without_licence_classes: Values of `licence_class` to leave out.

    Raises:
        TaskError: If the index or an example file is malformed, or nothing is left.
    """
    index = read_index(folder)
    chosen = [
        info
        for info in index
        if (split is None or info.split == split)
        and info.licence_class not in without_licence_classes
    ]
    if not chosen:
        raise TaskError(f"`{folder}` has no task with split {split!r} that passes the filters.")
    return tuple(
        Task(
            info,
            _read_examples(folder / "tasks" / info.slug / "train.jsonl"),
            _read_examples(folder / "tasks" / info.slug / "test.jsonl"),
        )
        for info in chosen
    )


def audit_task(task: Task) -> list[str]:
    """Defects that make a score meaningless, in words; an empty list is a pass."""
    faults: list[str] = []
    golds = Counter(example.response for example in task.test)
    answer, count = golds.most_common(1)[0]
    if len(task.test) >= 10 and count / len(task.test) >= _CONSTANT_SHARE:
        faults.append(f"{count} of {len(task.test)} test responses are {answer!r}")
    shared = {e.prompt for e in task.train} & {e.prompt for e in task.test}
    if shared:
        faults.append(f"{len(shared)} prompts are in both train and test")
    for side, examples in (("train", task.train), ("test", task.test)):
        stray = [e for e in examples if e.options and e.response not in e.options]
        if stray:
            faults.append(f"{side}: {len(stray)} responses are not among their options")
        if task.info.metric == "choice" and any(len(e.options) < 2 for e in examples):
            faults.append(f"{side}: a choice task needs two or more options in every line")
    return faults


def _read_examples(path: Path) -> tuple[Example, ...]:
    if not path.is_file():
        raise TaskError(f"`{path}` is missing.")
    examples: list[Example] = []
    faults: list[str] = []
    for line, text in enumerate(_read_text(path).split("\n"), start=1):
        if not text.strip():
            continue
        try:
            examples.append(_example(json.loads(text)))
        except (ValueError, RecursionError) as error:
            faults.append(f"line {line}: {error}")
    if not examples and not faults:
        faults.append("no examples")
    _raise_all(f"`{path}`", faults)
    return tuple(examples)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise TaskError(f"`{path}` is not UTF-8: {error}.") from error


def _example(value: Any) -> Example:
    if not isinstance(value, dict):
        raise ValueError(f"expected an object, got a {type(value).__name__}")
    for name in ("prompt", "response"):
        if not isinstance(value.get(name), str) or not value[name].strip():
            raise ValueError(f"expected a non-empty string `{name}`")
    options = value.get("options") or []
    if not isinstance(options, list) or not all(isinstance(o, str) for o in options):
        raise ValueError("expected `options` to be a list of strings")
    return Example(value["prompt"], value["response"], tuple(options))


def _raise_all(where: str, faults: Sequence[str]) -> None:
    if faults:
        more = f"; and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise TaskError(f"{where}: {'; '.join(faults[:5])}{more}.")
