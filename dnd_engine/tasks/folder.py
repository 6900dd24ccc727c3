"""Task folders: `tasks.csv` and `tasks/<slug>/{train,test}.jsonl` to checked `Task`s, and back.

Knows the schema and nothing of tokens or models, nor whether the labels make sense (see `audit`).
A prompt is an instruction, a blank line and an input; the *bare input* is what follows the first
blank line.
"""

import csv
import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dnd_engine.errors import TaskError
from dnd_engine.files import obstacle, written_aside
from dnd_engine.notes import first_of
from dnd_engine.prompts.readers.items import parse_json
from dnd_engine.prompts.reading import Finding
from dnd_engine.prompts.split import split_prompt

COLUMNS = ("slug", "family", "category", "metric", "licence", "description", "split")
"""Every index has these."""

OPTIONAL_COLUMNS = ("licence_class", "holdout", "operation", "order")
"""Read where an index has them; it may have more, which are left alone."""

SPLITS = ("train", "heldout")
METRICS = ("choice", "exact", "rouge", "bleu")
_MAX_SLUG = 200
"""Bytes of a slug; file systems take 255 for a name."""
HOLDOUTS = ("family", "primitive", "composition", "pair", "format")
ORDERS = ("", "fixed")

Mode = Literal["full", "bare"]
"""Whether the base sees the instruction and the input, or only the bare input."""


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt and its reference response."""

    prompt: str
    response: str
    options: tuple[str, ...] = ()

    @property
    def bare(self) -> str | None:
        """The input without its instruction; None if the prompt has no blank line."""
        return split_prompt(self.prompt).input


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
    holdout: str = ""
    """What is new about a held-out task, of `HOLDOUTS`; empty for a train task."""
    operation: str = ""
    """Name of the procedural operation that makes the answers; empty where there is none."""
    order: str = ""
    """`fixed` if a list in another order is another answer; empty if it may be the same."""
    answer_format: str = ""
    """Name of the format that answers are asked in; made in memory, never stored."""
    variant: str = ""
    """What sets a variant of a stored task apart, a format or a label set; its slug is the task's,
    `~` and this. Made in memory too."""

    @property
    def plain_slug(self) -> str:
        """The slug of the stored task, without the variant."""
        return self.slug.removesuffix(f"~{self.variant}")


@dataclass(frozen=True, slots=True)
class Task:
    """A task with its examples."""

    info: TaskInfo
    train: tuple[Example, ...]
    test: tuple[Example, ...]


def held_back(task: Task, count: int) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Split a train side into what is trained on and its last `count` examples, for validation.

    A train side may repeat an input under other wordings. What asks about a held-back input is not
    trained on either, or a validation on bare inputs would be of examples known by heart.
    """
    held = task.train[-count:]
    inputs = {_input(example) for example in held}
    return tuple(e for e in task.train[:-count] if _input(e) not in inputs), held


def _input(example: Example) -> str:
    """The bare input; the prompt where there is none."""
    return example.prompt if example.bare is None else example.bare


def read_index(folder: Path) -> tuple[TaskInfo, ...]:
    """Read `tasks.csv`.

    Raises:
        TaskError: If it is missing, lacks a column, or a row is malformed; all faults at once.
    """
    path = folder / "tasks.csv"
    if not path.is_file():
        raise TaskError(f"no `tasks.csv` in `{folder}`. A task folder holds it beside `tasks/`.")
    try:
        # `csv` finds line ends itself, as a quoted cell may hold some.
        # A cell that a short row lacks is an empty one.
        reader = csv.DictReader(io.StringIO(_read_text(path), newline=""), restval="")
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        # `line_num`, as counting rows would miss blank lines and line breaks inside cells.
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise TaskError(f"`{path}` is no CSV table: {error}.") from error
    if missing:
        raise TaskError(f"`{path}` lacks the column(s) {', '.join(missing)}.")
    faults = [f"line {line}: {words}" for line, row in rows for words in _faults(row)]
    faults += _repeated([row["slug"] for _, row in rows])
    _raise_all(f"`{path}`", faults)
    return tuple(
        TaskInfo(
            **{name: row[name] for name in COLUMNS},
            licence_class=row.get("licence_class") or "unknown",
            # Indexes without the column hold out whole families.
            holdout=row.get("holdout") or ("family" if row["split"] == "heldout" else ""),
            operation=row.get("operation") or "",
            order=row.get("order") or "",
        )
        for _, row in rows
    )


def load_tasks(
    folders: Path | Sequence[Path],
    *,
    split: str | None = None,
    without_licence_classes: Sequence[str] = (),
) -> tuple[Task, ...]:
    """Load the tasks of one or several folders, or some of them.

    Args:
        folders: Each holds `tasks.csv` and `tasks/`; the order is kept.
        split: `train` or `heldout`; None is both.
        without_licence_classes: Values of `licence_class` to leave out.

    Raises:
        TaskError: If an index or an example file is malformed, a slug is in two folders, or
            nothing is left.
    """
    return tuple(
        Task(info, _read_examples(side / "train.jsonl"), _read_examples(side / "test.jsonl"))
        for side, info in _chosen(folders, split, without_licence_classes)
    )


def load_sound_tasks(
    folders: Path | Sequence[Path],
) -> tuple[tuple[Task, ...], dict[str, list[str]]]:
    """Load the tasks whose files are sound, and say what is wrong with the others.

    Args:
        folders: As for `load_tasks`.

    Returns:
        The sound tasks, and for the slug of each other one a sentence per damaged file.

    Raises:
        TaskError: If an index is malformed, a slug is in two folders, or there is no task.
    """
    tasks: list[Task] = []
    faults: dict[str, list[str]] = {}
    for place, info in _chosen(folders):
        sides: list[tuple[Example, ...]] = []
        for name in ("train.jsonl", "test.jsonl"):
            try:
                sides.append(_read_examples(place / name))
            except TaskError as error:
                faults.setdefault(info.slug, []).append(str(error))
        if info.slug not in faults:
            tasks.append(Task(info, *sides))
    return tuple(tasks), faults


def _chosen(
    folders: Path | Sequence[Path],
    split: str | None = None,
    without_licence_classes: Sequence[str] = (),
) -> list[tuple[Path, TaskInfo]]:
    """Return the folder and the index row of each task to load; see `load_tasks`."""
    folders = (folders,) if isinstance(folders, Path) else tuple(folders)
    named = ", ".join(f"`{folder}`" for folder in folders)
    found = [(folder, info) for folder in folders for info in read_index(folder)]
    # Collections, reports and cards know a task by its slug alone.
    _raise_all(named, _repeated([info.slug for _, info in found]))
    # Filter by the index, so that the files of tasks left out are never opened.
    chosen = [
        (folder / "tasks" / info.slug, info)
        for folder, info in found
        if (split is None or info.split == split)
        and info.licence_class not in without_licence_classes
    ]
    if not chosen:
        raise TaskError(
            f"{named or 'no folder'} has no task with split {split!r} that passes the filters."
        )
    return chosen


def hash_train(task: Task) -> str:
    """SHA-256 of a task's train side, prompts and responses: what a LoRA of it was trained on."""
    # JSON marks where a text ends: joined texts of other examples could be the same bytes.
    text = json.dumps([(e.prompt, e.response) for e in task.train])
    return hashlib.sha256(text.encode()).hexdigest()


def check_new(out: Path, slugs: Sequence[str] = ()) -> None:
    """Refuse a new folder of tasks before they are made, which may take long.

    Raises:
        TaskError: If something exists at `out`, nothing can be written there, or a slug comes
            twice.
    """
    if os.path.lexists(out):
        raise TaskError(f"`{out}` is there already. Choose another folder, or remove it.")
    if (reason := obstacle(out)) is not None:
        raise TaskError(f"`{out}` cannot be written: {reason}. Choose another folder.")
    _raise_all(f"`{out}`", _repeated(slugs))


def is_folder_name(slug: str) -> bool:
    """Whether a task can have this slug: it becomes a folder, in the task folder and nowhere else.

    `../x` would reach outside. `Path.name` lets `..` pass, so a leading dot is refused too.
    """
    plain = slug.isprintable() and Path(slug).name == slug and not slug.startswith(".")
    return bool(slug.strip()) and plain and len(slug.encode()) <= _MAX_SLUG


def write_tasks(out: Path, tasks: Sequence[Task], more: Sequence[Mapping[str, str]] = ()) -> None:
    """Write a task folder that `load_tasks` reads back, aside first, then renamed.

    Args:
        out: The new folder.
        tasks: Those to write.
        more: For each task the same further columns of the index, which are for people.

    Raises:
        TaskError: If something exists at `out`, the disk refuses a write, or an index of these
            tasks would be refused.
    """
    check_new(out)
    # Without `answer_format` and `variant`: variants are never stored.
    columns = (*COLUMNS, *OPTIONAL_COLUMNS)
    rows: list[dict[str, Any]] = [
        # The counts are for people too; `read_index` leaves them alone.
        {name: getattr(task.info, name) for name in columns}
        | {"n_train": len(task.train), "n_test": len(task.test)}
        | dict(extra)
        for task, extra in zip(tasks, more or [{}] * len(tasks), strict=True)
    ]
    faults = [f"task `{row['slug']}`: {words}" for row in rows for words in _faults(row)]
    faults += _repeated([task.info.slug for task in tasks])
    _raise_all(f"`{out}`", faults)
    try:
        with written_aside(out) as aside:
            _write(aside, rows, tasks)
    except OSError as error:
        raise TaskError(
            f"`{out}` cannot be written: {error.strerror or error}. Free some space, or choose "
            "another folder."
        ) from error


def _write(out: Path, rows: Sequence[dict[str, Any]], tasks: Sequence[Task]) -> None:
    out.mkdir()
    with (out / "tasks.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    for task in tasks:
        side = out / "tasks" / task.info.slug
        side.mkdir(parents=True)
        (side / "train.jsonl").write_bytes(_lines(task.train))
        (side / "test.jsonl").write_bytes(_lines(task.test))


def _lines(examples: Sequence[Example]) -> bytes:
    """One object a line, the same bytes on every system.

    U+2028 and the like are escaped, as some readers split lines there.
    """
    values = (
        {"prompt": e.prompt, "response": e.response}
        | ({"options": list(e.options)} if e.options else {})
        for e in examples
    )
    return "".join(json.dumps(value, ensure_ascii=True) + "\n" for value in values).encode()


def _faults(row: dict[str, Any]) -> list[str]:
    """What is wrong with one row of an index, in words."""
    slug, split, metric = row["slug"], row["split"], row["metric"]
    holdout = row.get("holdout") or ""
    faults = []
    if not is_folder_name(slug):
        faults.append(f"`slug` {slug[:80]!r} is not a plain folder name")
    # Tasks without a family would count as one, whose scores have an interval of no width.
    faults += [f"`{name}` is empty" for name in ("family", "category") if not row[name].strip()]
    if split not in SPLITS:
        faults.append(f"`split` is {split!r}, expected {' or '.join(SPLITS)}")
    if metric not in METRICS:
        faults.append(f"`metric` is {metric!r}, not of {', '.join(METRICS)}")
    if holdout and holdout not in HOLDOUTS:
        faults.append(f"`holdout` is {holdout!r}, not of {', '.join(HOLDOUTS)}")
    if (order := row.get("order") or "") not in ORDERS:
        faults.append(f"`order` is {order!r}, expected `fixed` or nothing")
    if holdout and split == "train":
        faults.append(f"`holdout` is {holdout!r}, but the task is for training")
    return faults


def _repeated(slugs: Sequence[str]) -> list[str]:
    counts = Counter(slugs)
    return [f"slug `{slug}` is there twice" for slug, count in counts.items() if count > 1]


def _read_examples(path: Path) -> tuple[Example, ...]:
    if not path.is_file():
        raise TaskError(
            f"`{path}` is missing. Each task of `tasks.csv` has a folder in `tasks/` with "
            "train.jsonl and test.jsonl."
        )
    examples: list[Example] = []
    faults: list[str] = []
    # Not `splitlines`: it also splits at U+2028 and the like, which JSON may hold as they are.
    for line, text in enumerate(io.StringIO(_read_text(path), newline=None), start=1):
        if not text.strip():
            continue
        try:
            examples.append(_example(parse_json(text.rstrip())))
        except (Finding, ValueError) as error:
            faults.append(f"line {line}: {error}")
    if not examples and not faults:
        faults.append("no examples")
    _raise_all(
        f"`{path}`", faults, "Write one JSON object a line, with the texts `prompt` and `response`."
    )
    return tuple(examples)


def _read_text(path: Path) -> str:
    try:
        # Not `read_text`: it changes line ends, also those inside a cell. Editors on Windows may
        # begin a file with a byte order mark.
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TaskError(f"`{path}` is not UTF-8: {error}.") from error
    except OSError as error:
        raise TaskError(f"`{path}` cannot be read: {error.strerror or error}.") from error


def _example(value: Any) -> Example:
    if not isinstance(value, dict):
        raise ValueError(f"expected an object, got a {type(value).__name__}")
    for name in ("prompt", "response"):
        if not isinstance(value.get(name), str) or not value[name].strip():
            raise ValueError(f"expected a non-empty string `{name}`")
    options = value.get("options") or []
    if not isinstance(options, list) or not all(isinstance(o, str) for o in options):
        raise ValueError("expected `options` to be a list of strings")
    read = {"prompt": value["prompt"], "response": value["response"], "options": "".join(options)}
    for name, text in read.items():
        check_whole(name, text)
    return Example(value["prompt"], value["response"], tuple(options))


def check_whole(name: str, text: str) -> None:
    r"""Refuse half a character such as `\ud800`: legal JSON that fails wherever it is encoded.

    Raises:
        ValueError: If the text named `name` holds one.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"`{name}` holds half a character, which no file can hold") from None


def _raise_all(where: str, faults: Sequence[str], way_out: str = "") -> None:
    if faults:
        told = first_of(faults, 5, "; ")
        raise TaskError(f"{where}: {told}.{way_out and f' {way_out}'}")
