"""The examination: a generator against its base and its controls, on new items of given tasks.

Conditions are prompts of a task's train side, scores are of its test side. Every item is answered
under every row (see `baselines`), graded (see `metrics`) and appended to `scores.jsonl` at once. A
second call with the same settings continues; rows, modes and draws may grow between calls.
"""

import hashlib
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from tqdm import tqdm

from dnd_engine.checks.ordinary import (
    BaseAnswers,
    base_answers,
    check_messages,
    ordinary_share,
)
from dnd_engine.config import check_least
from dnd_engine.engine import Engine
from dnd_engine.errors import ConfigError
from dnd_engine.evaluation import distances
from dnd_engine.evaluation.baselines import Baselines, Setup
from dnd_engine.evaluation.cost import cost_of, read_log
from dnd_engine.evaluation.items import MAX_TOKENS, EvalItems
from dnd_engine.evaluation.report import build_report, write_report
from dnd_engine.evaluation.result_store import ResultStore
from dnd_engine.evaluation.selection import refuse_trained
from dnd_engine.generator.report import Cosine, Distances, Report
from dnd_engine.scoring.answers import answer, batches
from dnd_engine.scoring.metrics import Grader, TrainedOperations
from dnd_engine.scoring.questions import Answer, Question, ask
from dnd_engine.scoring.scores import (
    DEFAULT_ROWS,
    DRAWN,
    MODES,
    ROWS,
    SHOWN_CHARACTERS,
    ItemScore,
    ReportMeta,
)
from dnd_engine.tasks.folder import SPLITS, Example, Mode, Task

__all__ = ["ExaminationConfig", "examine"]

_CHUNK_ITEMS = 128
"""Items answered between two writes to disk: two full batches."""

_COMPARED_TASKS = 64
"""Tasks whose generated adapters are kept in memory and compared with each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExaminationConfig:
    """What to measure, and how much of it."""

    out: Path
    rows: tuple[str, ...] = DEFAULT_ROWS
    modes: tuple[Mode, ...] = MODES
    split: str = "heldout"
    """`train` is for tasks that training saw, and says nothing of generalisation."""
    limit_items: int = 10
    """Test items per task, drawn by seed."""
    draws: int = 3
    """Prompt draws of the rows in `DRAWN`."""
    condition_prompts: int = 64
    """Prompts of the train side that a condition is drawn from."""
    adapters: Path | None = None
    """Collection of trained LoRAs; the rows that need one are left out without."""
    multi_task_lora: Path | None = None
    """Generator folder of kind `multi_task_lora`; its row is left out without one."""
    runs: tuple[Path, ...] = ()
    """Run folders of the generator and of what it was started from, for what training cost."""
    seed: int = 0

    def __post_init__(self) -> None:
        known: tuple[tuple[str, Sequence[str], Sequence[str]], ...] = (
            ("rows", self.rows, ROWS),
            ("modes", self.modes, MODES),
            ("split", (self.split,), SPLITS),
        )
        for name, values, allowed in known:
            strays = [value for value in values if value not in allowed]
            if strays or not values or len(set(values)) < len(values):
                raise ConfigError(
                    f"`{name}` must be some of {', '.join(allowed)}, each once; got "
                    f"{', '.join(strays or values) or 'none'}."
                )
        if len(set(self.runs)) < len(self.runs):
            raise ConfigError("`runs` names a run twice, which would count its cost twice.")
        check_least(self, 1, "limit_items", "condition_prompts", "draws")


def examine(
    engine: Engine,
    tasks: Sequence[Task],
    config: ExaminationConfig,
    *,
    trained: Sequence[Task] = (),
    command: str = "",
    data: str = "",
) -> Report:
    """Measure every row on every task; write and return the report.

    Args:
        engine: With the generator to examine; others may use it meanwhile, between batches.
        tasks: All are examined; see `selection`.
        config: What to measure.
        trained: Tasks that the generator was trained on, which its adapters are compared with;
            without them, the collection's LoRAs of training tasks are.
        command: Printed in the report, so that a reader can repeat it.
        data: The tasks in words, likewise.

    Raises:
        ConfigError: If there is nothing to measure, `out` holds scores of other settings, or a task
            is examined as held out that the generator was trained on or chosen by.
    """
    started = time.monotonic()
    if not tasks:
        raise ConfigError("no tasks to examine.")
    if config.split == "heldout":
        refuse_trained(
            tasks,
            {row["task"] for row in engine.training_data},
            set(engine.training_variants),
            {row["task"] for row in engine.validation_data},
        )
    steps = [step for run in config.runs for step in read_log(run)] or None
    told = [data] if data else [f"{len(tasks)} tasks."]
    if steps and engine.training_steps and len(steps) != engine.training_steps:
        told.append(
            f"The runs named hold {len(steps)} of the generator's {engine.training_steps} steps; "
            "the cost is of those alone."
        )
    baselines = Baselines(
        engine,
        tasks,
        seed=config.seed,
        condition_prompts=config.condition_prompts,
        draws=config.draws,
        adapters=config.adapters,
        multi_task_lora=config.multi_task_lora,
        trained=trained,
    )
    reasons = {row: why for row in config.rows if (why := baselines.why_not(row)) is not None}
    rows = tuple(row for row in ROWS if row in config.rows and row not in reasons)
    if not rows:
        words = "; ".join(f"{row} {why}" for row, why in reasons.items())
        raise ConfigError(f"no row can be measured: {words}.")
    all_items = [
        EvalItems.of(task, baselines.tokenizer, limit=config.limit_items, seed=config.seed)
        for task in tasks
    ]
    all_items = [of_task for of_task in all_items if of_task.items]
    if len(all_items) < len(tasks):
        told.append(
            f"{len(tasks) - len(all_items)} of them have no item of at most {MAX_TOKENS} tokens."
        )
    if not all_items:
        raise ConfigError(
            f"none of the {len(tasks)} tasks has an item of at most {MAX_TOKENS} tokens."
        )
    store = ResultStore.open(config.out, _hash(engine, config, all_items), all_items)
    store.agree({row: baselines.source(row) for row in rows})
    session = _Session(engine, baselines, store, all_items)
    session.measure(rows, config.modes)
    session.check_ordinary(rows)
    if "generator" in rows:
        session.inspect()
    wanted = [
        score
        for score in store.scores
        if score.row in rows
        and score.mode in config.modes
        and score.draw < baselines.draws(score.row)
    ]
    if not wanted:
        raise ConfigError(
            f"no item could be scored in mode {', '.join(config.modes)} under {', '.join(rows)}."
        )
    found = {score.row for score in wanted}
    reasons |= {row: why for row, why in baselines.reasons().items() if row not in found}
    cosine, between = session.distances() if "generator" in rows else (Cosine(), Distances())
    meta = ReportMeta(
        command=command,
        seed=config.seed,
        split=config.split,
        generator=engine.generator.path.name,
        generator_sha256=engine.generator.sha256,
        base=engine.info.base_id,
        rows=rows,
        modes=config.modes,
        data=" ".join([*told, *baselines.gaps(len(all_items))]),
        left_out=reasons,
        cosine=cosine,
        distances=between,
        cost=cost_of(engine, baselines.collection, store, steps),
        trained_families=tuple(sorted({row["family"] for row in engine.training_data})),
    )
    report = build_report(
        wanted,
        meta,
        tasks=tasks,
        similarities=store.similarities,
        checks=store.checks,
        ordinary=store.ordinary,
        other_format=[
            task.info.slug
            for task in tasks
            if (source := baselines.wrong_source(task)) is not None
            and source.info.answer_format != task.info.answer_format
        ],
    )
    report = replace(report, seconds=round(time.monotonic() - started, 1))
    write_report(report, wanted, config.out)
    return report


class _Session:
    """Answers what the store lacks, chunk by chunk."""

    def __init__(
        self,
        engine: Engine,
        baselines: Baselines,
        store: ResultStore,
        all_items: Sequence[EvalItems],
    ) -> None:
        self.engine = engine
        self.baselines = baselines
        self.store = store
        # Tasks with answers of one length are neighbours, so that their batches end together.
        self.all_items = sorted(
            all_items, key=lambda of_task: (of_task.max_new_tokens, of_task.slug)
        )
        self.graders = {of_task.slug: Grader(of_task.task) for of_task in all_items}
        self.operations = TrainedOperations()
        order = sorted(self.graders)
        random.Random("compared").shuffle(order)
        self.compared = frozenset(order[:_COMPARED_TASKS])
        self.generated: dict[str, dict[int, Setup]] = defaultdict(dict)
        """Task to its adapters by draw, of the compared tasks."""
        self._ordinary: BaseAnswers | None = None
        """What the base answers to ordinary messages, once it is asked for."""

    def measure(self, rows: Sequence[str], modes: Sequence[Mode]) -> None:
        """Fill the store."""
        todo = [
            (row, draw, mode, of_task)
            for row in rows
            for draw in range(self.baselines.draws(row))
            for mode in modes
            for of_task in self.all_items
            if not self.store.has(row, mode, draw, of_task.slug)
        ]
        total = sum(len(of_task.asked(mode)) for _, _, mode, of_task in todo)
        jobs: dict[tuple[str, int], dict[str, list[Mode]]] = defaultdict(lambda: defaultdict(list))
        for row, draw, mode, of_task in todo:
            jobs[row, draw][of_task.slug].append(mode)
        with tqdm(total=total, desc="Examine", unit="item", smoothing=0.05) as bar:
            for (row, draw), wanted in jobs.items():
                bar.set_postfix_str(row, refresh=False)
                all_items = [of_task for of_task in self.all_items if of_task.slug in wanted]
                for chunk in _chunks(all_items):
                    self._chunk(row, draw, chunk, wanted, bar)

    def check_ordinary(self, rows: Sequence[str]) -> None:
        """Check the adapters that a killed run scored and did not check; they are made again."""
        for row in [row for row in rows if row in DRAWN]:
            known = self.store.ordinary.get(row, {})
            lacking = [of_task.task for of_task in self.all_items if of_task.slug not in known]
            for task in lacking:
                self._check_ordinary(row, {task.info.slug: self.baselines.setup(row, task, 0)})

    def _check_ordinary(self, row: str, setups: Mapping[str, Setup | None]) -> None:
        """Count the ordinary messages that the first adapters of a row leave alone."""
        if row not in DRAWN:
            return
        runtime, known, shares = self.engine.runtime, self.store.ordinary.get(row, {}), {}
        for slug, setup in setups.items():
            if slug in known or setup is None:
                continue
            if self._ordinary is None:
                self._ordinary = base_answers(runtime, check_messages())
            assert setup.tokens is not None
            fitted = runtime.host.fit(setup.tokens[None], setup.layout)
            shares[slug] = ordinary_share(runtime, fitted, self._ordinary).share
        self.store.leaves_alone(row, shares)

    def inspect(self) -> None:
        """Inspect an adapter of each task that the store lacks, off the clock of its row."""
        lacking = [p.task for p in self.all_items if p.slug not in self.store.checks]
        for task in tqdm(lacking, desc="Inspect", unit="task", leave=False):
            found = self.baselines.inspect(task)
            if found is None:
                continue
            agrees = None if found.agreement is None else found.agreement.share
            similarity = max((near.similarity for near in found.nearest_tasks), default=None)
            self.store.check(task.info.slug, agrees, found.effect, similarity)

    def _chunk(
        self,
        row: str,
        draw: int,
        chunk: Sequence[EvalItems],
        wanted: Mapping[str, Sequence[Mode]],
        bar: "tqdm[Any]",
    ) -> None:
        """Answer some tasks under one row and draw, in the modes that each still wants."""
        started = time.monotonic()
        setups = {of_task.slug: self._setup(row, of_task.task, draw) for of_task in chunk}
        scores: list[ItemScore] = []
        for mode in dict.fromkeys(mode for modes in wanted.values() for mode in modes):
            groups = []
            for of_task in chunk:
                slug = of_task.slug
                setup = setups[slug]
                items = of_task.asked(mode) if mode in wanted[slug] else []
                if setup is None:
                    bar.update(len(items))
                elif items:
                    groups.append((of_task, setup, items))
            scores += self._answer(row, draw, mode, groups, bar)
        self.store.add(scores, row, time.monotonic() - started)
        if draw == 0:
            self._check_ordinary(row, setups)

    def _answer(
        self,
        row: str,
        draw: int,
        mode: Mode,
        groups: Sequence[tuple[EvalItems, Setup, Sequence[tuple[int, Example]]]],
        bar: "tqdm[Any]",
    ) -> Iterator[ItemScore]:
        """Answer and grade; one group is one task and its setup."""
        tokenizer = self.baselines.tokenizer
        asked = [
            [
                ask(
                    tokenizer,
                    example,
                    mode,
                    shots=setup.shots,
                    max_new_tokens=of_task.max_new_tokens,
                )
                for _, example in items
            ]
            for of_task, setup, items in groups
        ]
        for batch in batches(asked, shared=self.baselines.is_common(row)):
            setups = [groups[part[0][0]][1] for part in batch]
            questions = [[asked[g][q] for g, q in part] for part in batch]
            answers = self._answer_as(setups, questions)
            for part, replies in zip(batch, answers, strict=True):
                for (g, q), reply in zip(part, replies, strict=True):
                    of_task, _, items = groups[g]
                    yield self._grade(row, draw, mode, of_task, items[q], reply)
            bar.update(sum(map(len, batch)))

    def _answer_as(
        self, setups: Sequence[Setup], questions: Sequence[Sequence[Question]]
    ) -> list[list[Answer]]:
        runtime = self.engine.runtime
        with runtime.lock:
            fitted = None
            if setups[0].tokens is not None:
                tokens = [setup.tokens.float() for setup in setups if setup.tokens is not None]
                stacked = torch.stack(tokens).to(runtime.base.device)
                with torch.inference_mode():
                    fitted = runtime.host.fit(stacked, setups[0].layout)
            return answer(runtime, questions, fitted)

    def _grade(
        self,
        row: str,
        draw: int,
        mode: Mode,
        of_task: EvalItems,
        item: tuple[int, Example],
        reply: Answer,
    ) -> ItemScore:
        info, (index, example) = of_task.task.info, item
        text = str(self.baselines.tokenizer.decode(list(reply.ids), skip_special_tokens=True))
        grader = self.graders[info.slug]
        grade = grader.grade(example, text)
        likeliest = min(zip(reply.option_nlls, example.options, strict=True), default=None)
        return ItemScore(
            row=row,
            mode=mode,
            draw=draw,
            slug=info.slug,
            family=info.family,
            category=info.category,
            holdout=info.holdout,
            item=index,
            score=grade.score,
            exact=grade.exact,
            format_ok=grade.format_ok,
            content_ok=grade.content_ok,
            choice=None if likeliest is None else likeliest[1] == example.response,
            nll=reply.nll,
            substituted=self.operations.substituted(grader, example, text),
            text=text[:SHOWN_CHARACTERS],
        )

    def _setup(self, row: str, task: Task, draw: int) -> Setup | None:
        setup = self.baselines.setup(row, task, draw)
        slug = task.info.slug
        if setup is not None and setup.imprint_seconds is not None:
            self.store.imprint_seconds.setdefault(row, []).append(setup.imprint_seconds)
        if setup is not None and setup.refine_seconds is not None:
            self.store.refine_seconds.setdefault(row, []).append(setup.refine_seconds)
        if setup is not None and row == "generator":
            if setup.synthesis_seconds is not None:
                self.store.synthesis_seconds.append(setup.synthesis_seconds)
            if slug in self.compared:
                self.generated[slug][draw] = setup
        return setup

    def distances(self) -> tuple[Cosine, Distances]:
        """Compare generated adapters; those that an earlier call scored are made again."""
        generated: dict[str, list[torch.Tensor]] = {}
        layout = None
        for of_task in self.all_items:
            slug = of_task.slug
            for draw in range(self.baselines.draws("generator")) if slug in self.compared else ():
                setup = self.generated[slug].get(draw)
                setup = setup or self.baselines.setup("generator", of_task.task, draw)
                if setup is not None and setup.tokens is not None:
                    generated.setdefault(slug, []).append(setup.tokens)
                    layout = setup.layout
        if layout is None:
            return Cosine(), Distances()
        training = self.baselines.training_adapters(layout)
        source: Literal["", "generated", "collected"] = ""
        if training is not None:
            source = "generated" if self.baselines.trained else "collected"
        return distances.measure(generated, training, layout, source)


def _chunks(all_items: Sequence[EvalItems]) -> Iterator[list[EvalItems]]:
    """Runs of tasks with about `_CHUNK_ITEMS` items."""
    chunk: list[EvalItems] = []
    for of_task in all_items:
        chunk.append(of_task)
        if sum(len(p.items) for p in chunk) >= _CHUNK_ITEMS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _hash(engine: Engine, config: ExaminationConfig, all_items: Sequence[EvalItems]) -> str:
    """What stored scores belong to: the generator, the items, and what conditions are drawn from.

    Rows, modes and draws may grow between calls; nothing else may.
    """
    digest = hashlib.sha256()
    values = (
        engine.generator.sha256,
        engine.info.base_sha256,
        config.condition_prompts,
        config.seed,
    )
    digest.update(repr(values).encode())
    for of_task in all_items:
        digest.update(repr((of_task.items, of_task.max_new_tokens)).encode())
        digest.update(repr(of_task.task).encode())
    return digest.hexdigest()
