"""The examination: a generator against its base and its controls, on new items of given tasks.

Conditions are prompts of a task's train side, scores are of its test side. Every item is answered
under every row (see `rows`), graded (see `metrics`), and appended to `scores.jsonl` as it comes; a
second call with the same settings continues, and rows, modes and draws may grow between calls.
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
from dnd_engine.evaluation.cost import cost_of, read_log
from dnd_engine.evaluation.ledger import Ledger
from dnd_engine.evaluation.papers import MAX_TOKENS, Paper
from dnd_engine.evaluation.report import build_report, write_report
from dnd_engine.evaluation.rows import Outfit, Wardrobe
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
    wardrobe = Wardrobe(
        engine,
        tasks,
        seed=config.seed,
        condition_prompts=config.condition_prompts,
        draws=config.draws,
        adapters=config.adapters,
        multi_task_lora=config.multi_task_lora,
        trained=trained,
    )
    reasons = {row: why for row in config.rows if (why := wardrobe.why_not(row)) is not None}
    rows = tuple(row for row in ROWS if row in config.rows and row not in reasons)
    if not rows:
        words = "; ".join(f"{row} {why}" for row, why in reasons.items())
        raise ConfigError(f"no row can be measured: {words}.")
    papers = [
        Paper.of(task, wardrobe.tokenizer, limit=config.limit_items, seed=config.seed)
        for task in tasks
    ]
    papers = [paper for paper in papers if paper.items]
    if len(papers) < len(tasks):
        told.append(
            f"{len(tasks) - len(papers)} of them have no item of at most {MAX_TOKENS} tokens."
        )
    if not papers:
        raise ConfigError(
            f"none of the {len(tasks)} tasks has an item of at most {MAX_TOKENS} tokens."
        )
    ledger = Ledger.open(config.out, _hash(engine, config, papers), papers)
    ledger.agree({row: wardrobe.source(row) for row in rows})
    session = _Session(engine, wardrobe, ledger, papers)
    session.measure(rows, config.modes)
    session.check_ordinary(rows)
    if "generator" in rows:
        session.inspect()
    wanted = [
        score
        for score in ledger.scores
        if score.row in rows
        and score.mode in config.modes
        and score.draw < wardrobe.draws(score.row)
    ]
    if not wanted:
        raise ConfigError(
            f"no item could be scored in mode {', '.join(config.modes)} under {', '.join(rows)}."
        )
    found = {score.row for score in wanted}
    reasons |= {row: why for row, why in wardrobe.reasons().items() if row not in found}
    cosine, between = session.distances() if "generator" in rows else (Cosine(), Distances())
    meta = ReportMeta(
        command=command,
        seed=config.seed,
        split=config.split,
        generator=engine.info.generator_id,
        generator_sha256=engine.info.generator_sha256,
        base=engine.info.base_id,
        rows=rows,
        modes=config.modes,
        data=" ".join([*told, *wardrobe.gaps(len(papers))]),
        left_out=reasons,
        cosine=cosine,
        distances=between,
        cost=cost_of(engine, wardrobe.collection, ledger, steps),
        trained_families=tuple(sorted({row["family"] for row in engine.training_data})),
    )
    report = build_report(
        wanted,
        meta,
        tasks=tasks,
        similarities=ledger.similarities,
        checks=ledger.checks,
        ordinary=ledger.ordinary,
        other_format=[
            task.info.slug
            for task in tasks
            if (source := wardrobe.wrong_source(task)) is not None
            and source.info.answer_format != task.info.answer_format
        ],
    )
    report = replace(report, seconds=round(time.monotonic() - started, 1))
    write_report(report, wanted, config.out)
    return report


class _Session:
    """Answers what the ledger lacks, chunk by chunk."""

    def __init__(
        self, engine: Engine, wardrobe: Wardrobe, ledger: "Ledger", papers: Sequence[Paper]
    ) -> None:
        self.engine = engine
        self.wardrobe = wardrobe
        self.ledger = ledger
        # Tasks with answers of one length stand side by side, so that their batches end together.
        self.papers = sorted(papers, key=lambda paper: (paper.max_new_tokens, paper.task.info.slug))
        self.graders = {paper.task.info.slug: Grader(paper.task) for paper in papers}
        self.operations = TrainedOperations()
        order = sorted(self.graders)
        random.Random("compared").shuffle(order)
        self.compared = frozenset(order[:_COMPARED_TASKS])
        self.generated: dict[str, dict[int, Outfit]] = defaultdict(dict)
        """Task to its adapters by draw, of the compared tasks."""
        self._ordinary: BaseAnswers | None = None
        """What the base answers to ordinary messages, once it is asked for."""

    def measure(self, rows: Sequence[str], modes: Sequence[Mode]) -> None:
        """Fill the ledger."""
        todo = [
            (row, draw, mode, paper)
            for row in rows
            for draw in range(self.wardrobe.draws(row))
            for mode in modes
            for paper in self.papers
            if not self.ledger.has(row, mode, draw, paper.task.info.slug)
        ]
        total = sum(len(paper.asked(mode)) for _, _, mode, paper in todo)
        jobs: dict[tuple[str, int], dict[str, list[Mode]]] = defaultdict(lambda: defaultdict(list))
        for row, draw, mode, paper in todo:
            jobs[row, draw][paper.task.info.slug].append(mode)
        with tqdm(total=total, desc="Examine", unit="item", smoothing=0.05) as bar:
            for (row, draw), wanted in jobs.items():
                bar.set_postfix_str(row, refresh=False)
                papers = [paper for paper in self.papers if paper.task.info.slug in wanted]
                for chunk in _chunks(papers):
                    self._chunk(row, draw, chunk, wanted, bar)

    def check_ordinary(self, rows: Sequence[str]) -> None:
        """Check the adapters that a killed run scored and did not check; they are made again."""
        for row in [row for row in rows if row in DRAWN]:
            known = self.ledger.ordinary.get(row, {})
            lacking = [paper.task for paper in self.papers if paper.task.info.slug not in known]
            for task in lacking:
                self._check_ordinary(row, {task.info.slug: self.wardrobe.outfit(row, task, 0)})

    def _check_ordinary(self, row: str, outfits: Mapping[str, Outfit | None]) -> None:
        """Count the ordinary messages that the first adapters of a row leave alone."""
        if row not in DRAWN:
            return
        runtime, known, shares = self.engine.runtime, self.ledger.ordinary.get(row, {}), {}
        for slug, outfit in outfits.items():
            if slug in known or outfit is None:
                continue
            if self._ordinary is None:
                self._ordinary = base_answers(runtime, check_messages())
            assert outfit.tokens is not None
            fitted = runtime.host.fit(outfit.tokens[None], outfit.layout)
            shares[slug] = ordinary_share(runtime, fitted, self._ordinary).share
        self.ledger.leaves_alone(row, shares)

    def inspect(self) -> None:
        """Inspect an adapter of each task that the ledger lacks, off the clock of its row."""
        lacking = [p.task for p in self.papers if p.task.info.slug not in self.ledger.checks]
        for task in tqdm(lacking, desc="Inspect", unit="task", leave=False):
            found = self.wardrobe.inspect(task)
            if found is None:
                continue
            agrees = None if found.agreement is None else found.agreement.share
            similarity = max((near.similarity for near in found.nearest_tasks), default=None)
            self.ledger.check(task.info.slug, agrees, found.effect, similarity)

    def _chunk(
        self,
        row: str,
        draw: int,
        chunk: Sequence[Paper],
        wanted: Mapping[str, Sequence[Mode]],
        bar: "tqdm[Any]",
    ) -> None:
        """Answer some tasks under one row and draw, in the modes that each still wants."""
        started = time.monotonic()
        outfits = {paper.task.info.slug: self._outfit(row, paper.task, draw) for paper in chunk}
        scores: list[ItemScore] = []
        for mode in dict.fromkeys(mode for modes in wanted.values() for mode in modes):
            groups = []
            for paper in chunk:
                slug = paper.task.info.slug
                outfit = outfits[slug]
                items = paper.asked(mode) if mode in wanted[slug] else []
                if outfit is None:
                    bar.update(len(items))
                elif items:
                    groups.append((paper, outfit, items))
            scores += self._answer(row, draw, mode, groups, bar)
        self.ledger.add(scores, row, time.monotonic() - started)
        if draw == 0:
            self._check_ordinary(row, outfits)

    def _answer(
        self,
        row: str,
        draw: int,
        mode: Mode,
        groups: Sequence[tuple[Paper, Outfit, Sequence[tuple[int, Example]]]],
        bar: "tqdm[Any]",
    ) -> Iterator[ItemScore]:
        """Answer and grade; one group is one task with what it wears."""
        tokenizer = self.wardrobe.tokenizer
        asked = [
            [
                ask(
                    tokenizer,
                    example,
                    mode,
                    shots=outfit.shots,
                    max_new_tokens=paper.max_new_tokens,
                )
                for _, example in items
            ]
            for paper, outfit, items in groups
        ]
        for batch in batches(asked, shared=self.wardrobe.is_common(row)):
            worn = [groups[part[0][0]][1] for part in batch]
            questions = [[asked[g][q] for g, q in part] for part in batch]
            answers = self._wearing(worn, questions)
            for part, replies in zip(batch, answers, strict=True):
                for (g, q), reply in zip(part, replies, strict=True):
                    paper, _, items = groups[g]
                    yield self._grade(row, draw, mode, paper, items[q], reply)
            bar.update(sum(map(len, batch)))

    def _wearing(
        self, worn: Sequence[Outfit], questions: Sequence[Sequence[Question]]
    ) -> list[list[Answer]]:
        runtime = self.engine.runtime
        with runtime.lock:
            fitted = None
            if worn[0].tokens is not None:
                tokens = [outfit.tokens.float() for outfit in worn if outfit.tokens is not None]
                stacked = torch.stack(tokens).to(runtime.base.device)
                with torch.inference_mode():
                    fitted = runtime.host.fit(stacked, worn[0].layout)
            return answer(runtime, questions, fitted)

    def _grade(
        self,
        row: str,
        draw: int,
        mode: Mode,
        paper: Paper,
        item: tuple[int, Example],
        reply: Answer,
    ) -> ItemScore:
        info, (index, example) = paper.task.info, item
        text = str(self.wardrobe.tokenizer.decode(list(reply.ids), skip_special_tokens=True))
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

    def _outfit(self, row: str, task: Task, draw: int) -> Outfit | None:
        outfit = self.wardrobe.outfit(row, task, draw)
        slug = task.info.slug
        if outfit is not None and outfit.imprint_seconds is not None:
            self.ledger.imprint_seconds.setdefault(row, []).append(outfit.imprint_seconds)
        if outfit is not None and outfit.refine_seconds is not None:
            self.ledger.refine_seconds.setdefault(row, []).append(outfit.refine_seconds)
        if outfit is not None and row == "generator":
            if outfit.synthesis_seconds is not None:
                self.ledger.synthesis_seconds.append(outfit.synthesis_seconds)
            if slug in self.compared:
                self.generated[slug][draw] = outfit
        return outfit

    def distances(self) -> tuple[Cosine, Distances]:
        """Compare generated adapters; those that an earlier call scored are made again."""
        generated: dict[str, list[torch.Tensor]] = {}
        layout = None
        for paper in self.papers:
            slug = paper.task.info.slug
            for draw in range(self.wardrobe.draws("generator")) if slug in self.compared else ():
                outfit = self.generated[slug].get(draw)
                outfit = outfit or self.wardrobe.outfit("generator", paper.task, draw)
                if outfit is not None and outfit.tokens is not None:
                    generated.setdefault(slug, []).append(outfit.tokens)
                    layout = outfit.layout
        if layout is None:
            return Cosine(), Distances()
        training = self.wardrobe.training_adapters(layout)
        source: Literal["", "generated", "collected"] = ""
        if training is not None:
            source = "generated" if self.wardrobe.trained else "collected"
        return distances.measure(generated, training, layout, source)


def _chunks(papers: Sequence[Paper]) -> Iterator[list[Paper]]:
    """Runs of tasks with about `_CHUNK_ITEMS` items."""
    chunk: list[Paper] = []
    for paper in papers:
        chunk.append(paper)
        if sum(len(p.items) for p in chunk) >= _CHUNK_ITEMS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _hash(engine: Engine, config: ExaminationConfig, papers: Sequence[Paper]) -> str:
    """What stored scores belong to: the generator, the items, and what conditions are drawn from.

    Rows, modes and draws may grow between calls; nothing else may.
    """
    digest = hashlib.sha256()
    values = (
        engine.info.generator_sha256,
        engine.info.base_sha256,
        config.condition_prompts,
        config.seed,
    )
    digest.update(repr(values).encode())
    for paper in papers:
        digest.update(repr((paper.items, paper.max_new_tokens)).encode())
        digest.update(repr(paper.task).encode())
    return digest.hexdigest()
