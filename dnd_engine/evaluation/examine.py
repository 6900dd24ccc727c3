"""The examination: a generator against its base and its controls, on new items of given tasks.

Conditions are prompts of a task's train side, scores are of its test side. An item counts when
greedy generation would give the reference to the last token, the end of turn included; that is
read off one forward pass. Rows that are not measured here yet are left out, never filled in.
"""

import csv
import hashlib
import json
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from dnd_engine.adapter import Adapter
from dnd_engine.buckets import Bucket
from dnd_engine.engine import Engine
from dnd_engine.errors import ConfigError
from dnd_engine.evaluation.statistics import Interval, clustered_interval
from dnd_engine.generator import GeneratorFolder, check_base
from dnd_engine.lora import FittedLoRA
from dnd_engine.models import fingerprint
from dnd_engine.prompts import Prompt, PromptFile
from dnd_engine.training.examples import Mode, encode_example, pack, response_losses
from dnd_engine.training.tasks import Task

__all__ = ["MODES", "ROWS", "ExaminationConfig", "examine"]

ROWS = ("base", "multi_task_lora", "generator", "generator_wrong")
"""Measured rows: the base alone; one LoRA trained on all tasks; the generator with the task's own
prompts; the same with prompts of a task of another family."""

MODES: tuple[Mode, ...] = ("full", "bare")

_MAX_TOKENS = 256
"""Longer items are left out, for every row alike."""

_PACKED_ITEMS = 16
"""Items that share a row; attention within it grows with the square."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExaminationConfig:
    """What to measure, and how much of it."""

    out: Path
    rows: tuple[str, ...] = ROWS
    modes: tuple[Mode, ...] = MODES
    split: str | None = "heldout"
    multi_task_lora: Path | None = None
    """Generator folder of kind `multi_task_lora`; its row is left out without one."""
    limit_tasks: int | None = None
    limit_items: int = 10
    condition_prompts: int = 64
    """Prompts of the train side that a condition is drawn from."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (("rows", ROWS), ("modes", MODES)):
            strays = [value for value in getattr(self, name) if value not in known]
            if strays or not getattr(self, name):
                raise ConfigError(
                    f"`{name}` must be some of {', '.join(known)}, got {', '.join(strays) or '-'}."
                )
        for name in ("limit_items", "condition_prompts", "limit_tasks"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"`{name}` must be at least 1, got {getattr(self, name)}.")


@dataclass(frozen=True, slots=True)
class TaskScore:
    """One task under one row and mode."""

    row: str
    mode: Mode
    slug: str
    family: str
    category: str
    exact: float
    """Share of items answered exactly."""
    nll: float
    """Nats per answer token."""
    n_items: int


def examine(
    engine: Engine, tasks: Sequence[Task], config: ExaminationConfig, command: str = ""
) -> dict[str, Any]:
    """Measure every row on every task; write and return the report.

    The engine must not be used by others meanwhile: the base wears what is being examined.

    Task scores are appended to `scores.jsonl` as they come, and a second call with the same
    settings continues after them.

    Args:
        engine: With the generator to examine.
        tasks: As loaded; cut to `limit_tasks` by a seeded draw over all of them.
        config: What to measure.
        command: Printed in the report, so that a reader can repeat it.

    Returns:
        What `report.json` holds.
    """
    started = time.monotonic()
    if not tasks:
        raise ConfigError("no tasks to examine: the split holds none that the generator knows.")
    if config.rows == ("multi_task_lora",) and config.multi_task_lora is None:
        raise ConfigError("the row multi_task_lora needs the folder of that LoRA.")
    config.out.mkdir(parents=True, exist_ok=True)
    chosen = _choose(tasks, config)
    rows = [
        row for row in config.rows if row != "multi_task_lora" or config.multi_task_lora is not None
    ]
    scores = _Scores(config.out / "scores.jsonl", _hash(engine, config, chosen))
    makers = _Makers(engine, chosen, config)
    todo = [
        (task, row)
        for task in chosen
        for row in rows
        if not all(scores.has(row, mode, task.info.slug) for mode in config.modes)
    ]
    for task, row in tqdm(todo, desc="Examine", unit="row"):
        worn = makers.wear(row, task)
        for mode in config.modes:
            if not scores.has(row, mode, task.info.slug):
                scores.add(_score(engine, task, row, mode, worn, config))
    report = _report(engine, scores.all, rows, config, command)
    report["seconds"] = round(time.monotonic() - started, 1)
    _write(report, scores.all, config.out)
    return report


class _Makers:
    """What the base wears for a row: made from prompts of the train side only."""

    def __init__(self, engine: Engine, tasks: Sequence[Task], config: ExaminationConfig) -> None:
        self.engine = engine
        self.config = config
        self.tasks = tasks
        self.adapters: dict[str, Adapter] = {}
        self.shared: FittedLoRA | None = None
        if config.multi_task_lora is not None:
            folder = GeneratorFolder.open(config.multi_task_lora)
            if folder.config.training.get("kind") != "multi_task_lora":
                raise ConfigError(
                    f"`{config.multi_task_lora}` is a generator, not a multi-task LoRA. Train one "
                    "with `dnd train --kind multi_task_lora`."
                )
            check_base(folder.config, engine.info.base_id, fingerprint(engine.base))
            module = folder.load(engine.base.device, torch.float32)
            self.shared = engine.host.fit(module.shared[None], folder.config.layout)

    def wear(self, row: str, task: Task) -> FittedLoRA | None:
        if row == "base":
            return None
        if row == "multi_task_lora":
            return self.shared
        source = task if row == "generator" else self._wrong(task)
        adapter = self._adapter(source)
        return self.engine.host.fit(adapter.worn_tokens[None], adapter.layout)

    def _adapter(self, task: Task) -> Adapter:
        slug = task.info.slug
        if slug not in self.adapters:
            rng = random.Random(f"{self.config.seed}:condition:{slug}")
            count = min(self.config.condition_prompts, len(task.train))
            texts = [example.prompt for example in rng.sample(task.train, count)]
            self.adapters[slug] = self.engine.generate(
                [Bucket(slug, 1.0, (_as_file(slug, texts),))], seed=self.config.seed
            )
        return self.adapters[slug]

    def _wrong(self, task: Task) -> Task:
        """A seeded task of another family; itself only where there is no other family."""
        others = [t for t in self.tasks if t.info.family != task.info.family]
        rng = random.Random(f"{self.config.seed}:wrong:{task.info.slug}")
        return rng.choice(others or list(self.tasks))


class _Scores:
    """Task scores on disk, one line each, for exactly one set of settings."""

    def __init__(self, path: Path, settings: str) -> None:
        self.path = path
        self.all: list[TaskScore] = []
        if path.exists():
            whole, _, _torn = path.read_text(encoding="utf-8").rpartition("\n")
            path.write_text(whole + "\n", encoding="utf-8")
            head, *lines = whole.splitlines() or [settings]
            if head != settings:
                raise ConfigError(
                    f"`{path}` holds scores of other settings or another generator. "
                    "Choose another --out, or remove it."
                )
            self.all = [TaskScore(**json.loads(line)) for line in lines]
        else:
            path.write_text(settings + "\n", encoding="utf-8")

    def has(self, row: str, mode: str, slug: str) -> bool:
        return any(s.row == row and s.mode == mode and s.slug == slug for s in self.all)

    def add(self, score: TaskScore | None) -> None:
        if score is not None:
            self.all.append(score)
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(asdict(score)) + "\n")


@torch.inference_mode()
def _score(
    engine: Engine,
    task: Task,
    row: str,
    mode: Mode,
    worn: FittedLoRA | None,
    config: ExaminationConfig,
) -> TaskScore | None:
    """Score the same items for every row; None if the task has none in this mode."""
    rng = random.Random(f"{config.seed}:items:{task.info.slug}")
    items = rng.sample(task.test, len(task.test))
    encoded = (encode_example(engine.base.tokenizer, item, mode) for item in items)
    fitting = [e for e in encoded if e is not None and len(e.ids) <= _MAX_TOKENS]
    fitting = fitting[: config.limit_items]
    if not fitting:
        return None
    exact, nll = 0.0, 0.0
    for start in range(0, len(fitting), _PACKED_ITEMS):
        packed = pack([fitting[start : start + _PACKED_ITEMS]])
        with engine.host.wearing(worn):
            losses = response_losses(engine.base.model, packed.to(engine.base.device))
        exact += float(losses.exact.sum())
        nll += float(losses.nll.sum())
    return TaskScore(
        row=row,
        mode=mode,
        slug=task.info.slug,
        family=task.info.family,
        category=task.info.category,
        exact=exact / len(fitting),
        nll=nll / len(fitting),
        n_items=len(fitting),
    )


def _choose(tasks: Sequence[Task], config: ExaminationConfig) -> list[Task]:
    chosen = sorted(tasks, key=lambda task: task.info.slug)
    if config.limit_tasks is not None and config.limit_tasks < len(chosen):
        rng = random.Random(f"{config.seed}:tasks")
        chosen = sorted(rng.sample(chosen, config.limit_tasks), key=lambda task: task.info.slug)
    return chosen


def _report(
    engine: Engine,
    scores: Sequence[TaskScore],
    rows: Sequence[str],
    config: ExaminationConfig,
    command: str,
) -> dict[str, Any]:
    lines = []
    for mode in config.modes:
        for row in rows:
            found = [s for s in scores if s.row == row and s.mode == mode]
            if found:
                lines.append(_line(row, mode, found, config))
    contrasts = [
        _contrast(mode, row, scores, config)
        for mode in config.modes
        for row in rows
        if row != "generator" and "generator" in rows
    ]
    return {
        "command": command,
        "seed": config.seed,
        "split": config.split,
        "metric": "exact match of greedy generation, teacher-forced",
        "generator": engine.info.generator_id,
        "generator_sha256": engine.info.generator_sha256,
        "base": engine.info.base_id,
        "rows": lines,
        "contrasts": [c for c in contrasts if c is not None],
    }


def _line(
    row: str, mode: Mode, scores: Sequence[TaskScore], config: ExaminationConfig
) -> dict[str, Any]:
    interval = _interval(scores, lambda s: s.exact, config.seed)
    categories = sorted({s.category for s in scores})
    return {
        "row": row,
        "mode": mode,
        "split": config.split,
        "score": round(interval.mean, 4),
        "low": round(interval.low, 4),
        "high": round(interval.high, 4),
        "nll": round(sum(s.nll for s in scores) / len(scores), 4),
        "n_tasks": len(scores),
        "n_items": sum(s.n_items for s in scores),
        "per_category": {
            c: round(_mean(s.exact for s in scores if s.category == c), 4) for c in categories
        },
    }


def _contrast(
    mode: Mode, row: str, scores: Sequence[TaskScore], config: ExaminationConfig
) -> dict[str, Any] | None:
    """The generator minus another row, paired by task."""
    other = {s.slug: s for s in scores if s.row == row and s.mode == mode}
    ours = [s for s in scores if s.row == "generator" and s.mode == mode and s.slug in other]
    if not ours:
        return None
    interval = _interval(ours, lambda s: s.exact - other[s.slug].exact, config.seed)
    return {
        "mode": mode,
        "minus": row,
        "difference": round(interval.mean, 4),
        "low": round(interval.low, 4),
        "high": round(interval.high, 4),
    }


def _interval(
    scores: Iterable[TaskScore], value: Callable[[TaskScore], float], seed: int
) -> Interval:
    by_family: dict[str, list[float]] = defaultdict(list)
    for score in scores:
        by_family[score.family].append(value(score))
    return clustered_interval(by_family, seed=seed)


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


def _write(report: dict[str, Any], scores: Sequence[TaskScore], out: Path) -> None:
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    with (out / "report.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(TaskScore.__slots__))
        writer.writeheader()
        writer.writerows(asdict(score) for score in scores)
    (out / "REPORT.md").write_text(report_markdown(report), encoding="utf-8")


def report_markdown(report: dict[str, Any]) -> str:
    """The report as people read it; every row that was measured, whatever it says."""
    lines = [
        f"`{report['command']}`" if report["command"] else "",
        "",
        f"Metric: {report['metric']}. Seed {report['seed']}. Intervals: 95 %, bootstrap over task "
        "families.",
        "",
        "| inputs | row | exact match | 95 % interval | nats per token | tasks | items |",
        "| --- | --- | ---: | --- | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {r['mode']} | {r['row']} | {r['score']:.3f} | {r['low']:.3f} to {r['high']:.3f} "
        f"| {r['nll']:.2f} | {r['n_tasks']} | {r['n_items']} |"
        for r in report["rows"]
    ]
    lines += [
        "",
        "| inputs | generator minus | difference | 95 % interval |",
        "| --- | --- | ---: | --- |",
    ]
    lines += [
        f"| {c['mode']} | {c['minus']} | {c['difference']:+.3f} "
        f"| {c['low']:+.3f} to {c['high']:+.3f} |"
        for c in report["contrasts"]
    ]
    return "\n".join([*lines, ""])


def _as_file(name: str, texts: Sequence[str]) -> PromptFile:
    distinct = list(dict.fromkeys(texts))
    data = "\0".join(distinct).encode()
    return PromptFile(
        name=name,
        prompts=tuple(
            Prompt(text=text, file=name, line=i) for i, text in enumerate(distinct, start=1)
        ),
        split="objects",
        column=None,
        notes=(),
        num_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def _hash(engine: Engine, config: ExaminationConfig, tasks: Sequence[Task]) -> str:
    """What stored scores belong to. Rows and modes may grow between calls; nothing else may."""
    multi = None
    if config.multi_task_lora is not None:
        multi = GeneratorFolder.open(config.multi_task_lora).sha256
    values = (
        engine.info.generator_sha256,
        engine.info.base_sha256,
        multi,
        config.limit_items,
        config.condition_prompts,
        config.seed,
        [task.info.slug for task in tasks],
    )
    return hashlib.sha256(repr(values).encode()).hexdigest()
