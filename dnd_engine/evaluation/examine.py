"""The examination: a generator against its base and its controls, on new items of given tasks.

Conditions are prompts of a task's train side, scores are of its test side. Every item is answered
under every row (see `rows`), graded (see `metrics`), and appended to `scores.jsonl` as it comes; a
second call with the same settings continues, and rows, modes and draws may grow between calls.
"""

import hashlib
import json
import math
import os
import random
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from dnd_engine.engine import Engine
from dnd_engine.errors import ConfigError
from dnd_engine.evaluation import distances
from dnd_engine.evaluation.metrics import Grader, TrainedOperations
from dnd_engine.evaluation.report import build_report, write_report
from dnd_engine.evaluation.rows import Outfit, Wardrobe, ask
from dnd_engine.evaluation.scores import (
    DEFAULT_ROWS,
    MODES,
    REFINED,
    ROWS,
    SHOWN_CHARACTERS,
    ItemScore,
    Mode,
    ReportMeta,
)
from dnd_engine.evaluation.scoring import Answer, Question, answer, batches
from dnd_engine.training import formats
from dnd_engine.training.tasks import HOLDOUTS, SPLITS, Example, Task, load_tasks

__all__ = ["ExaminationConfig", "choose_tasks", "examine"]

_MAX_TOKENS = 256
"""Items whose full prompt and reference are longer are left out, for every row and mode alike."""

_MARGIN = 8
"""Tokens that an answer may be longer than its task's longest reference; one that runs on is wrong
anyway."""

_MAX_NEW_TOKENS = 96

_CHUNK_ITEMS = 128
"""Items answered between two writes to disk: two full batches."""

_COMPARED_TASKS = 64
"""Tasks whose generated adapters are kept in memory and compared with each other."""

_LORAS = ("other LoRAs", "or name the collection used before")
_SOURCES = {
    "multi_task_lora": ("another multi-task LoRA", "or name the one used before"),
    **dict.fromkeys(REFINED, ("other settings of refining", "or leave the row out")),
}
"""Row to what differs if its source does, and the other way out; `_LORAS` for all others."""

_Key = tuple[str, str, int, str]
"""Row, mode, draw and task."""


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
    """Prompt draws of the row `generator`."""
    condition_prompts: int = 64
    """Prompts of the train side that a condition is drawn from."""
    adapters: Path | None = None
    """Collection of trained LoRAs; the rows that need one are left out without."""
    multi_task_lora: Path | None = None
    """Generator folder of kind `multi_task_lora`; its row is left out without one."""
    run: Path | None = None
    """Run folder of the generator, for what training cost."""
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
        for name in ("limit_items", "condition_prompts", "draws"):
            if getattr(self, name) < 1:
                raise ConfigError(f"`{name}` must be at least 1, got {getattr(self, name)}.")


def choose_tasks(
    folders: Sequence[Path],
    trained: Sequence[str],
    *,
    variants: Sequence[str] = (),
    split: str,
    holdouts: Sequence[str] = (),
    limit: int | None = None,
    seed: int = 0,
) -> tuple[Task, ...]:
    """Load the tasks to examine a generator on.

    Args:
        folders: Task folders.
        trained: Slugs of the tasks that the generator was trained on.
        variants: Those that it was trained on in an answer format, as `slug~format`.
        split: `heldout` takes the folders' held-out tasks; `train` takes their train tasks, as far
            as the generator was trained on them, as they are: their variants would multiply them.
        holdouts: For `heldout`, the kinds of novelty to take; none takes what the folders hold.
            `pair` and `format` are made here, from tasks that the generator was trained on; pairs
            are in formats that it knows from other tasks.
        limit: Tasks, drawn by seed, as many of each kind of novelty.
        seed: Of the draw, and of the wording of formats.

    Raises:
        ConfigError: If a name is unknown, nothing is left, or pairs are asked for of a generator
            that knows no format.
        TaskError: If a folder is malformed, or holds no task of the split.
    """
    strays = [name for name in holdouts if name not in HOLDOUTS]
    if strays or split not in SPLITS:
        raise ConfigError(
            f"expected a split of {', '.join(SPLITS)} and holdouts of {', '.join(HOLDOUTS)}, got "
            f"{', '.join((split, *holdouts))}."
        )
    if holdouts and split == "train":
        raise ConfigError("`holdouts` are kinds of held-out tasks. Leave them out, or the split.")
    if limit is not None and limit < 1:
        raise ConfigError(f"`limit` must be at least 1, got {limit}.")
    known = {slug.partition("~")[2] for slug in variants}
    if "pair" in holdouts and not known:
        raise ConfigError(
            "a `pair` is a known task in a known answer format, and the generator names no format "
            "that it was trained in. Leave pairs out, or train one with `format_variants`."
        )
    found: list[Task] = []
    if split == "train" or {"pair", "format"} & set(holdouts):
        plain = [t for t in load_tasks(folders, split="train") if t.info.slug in set(trained)]
        if split == "train":
            found += plain
        everything = max(1, len(plain) * len(formats.FORMATS))
        count = limit or everything
        if "pair" in holdouts:
            pairs = formats.unseen_pairs(plain, limit=everything, seed=seed)
            found += [task for task in pairs if task.info.answer_format in known][:count]
        if "format" in holdouts:
            found += formats.unseen_formats(plain, limit=count, seed=seed)
    if split == "heldout" and (not holdouts or set(holdouts) - {"pair", "format"}):
        found += [
            task
            for task in load_tasks(folders, split="heldout")
            if not holdouts or task.info.holdout in holdouts
        ]
    if not found:
        raise ConfigError(
            f"no tasks to examine: {', '.join(str(f) for f in folders)} hold none of split {split}"
            + (f" and holdout {', '.join(holdouts)}" if holdouts else " that the generator knows")
            + "."
        )
    ordered = sorted(found, key=lambda task: task.info.slug)
    if limit is not None and limit < len(ordered):
        ordered = sorted(_draw_tasks(ordered, limit, seed), key=lambda task: task.info.slug)
    return tuple(ordered)


def _draw_tasks(tasks: Sequence[Task], limit: int, seed: int) -> list[Task]:
    """Some tasks, as many of each kind of novelty as there are, or as fit alike."""
    kinds: dict[str, list[Task]] = defaultdict(list)
    for task in tasks:
        kinds[task.info.holdout].append(task)
    rng = random.Random(f"{seed}:tasks")
    shuffled = [rng.sample(kinds[kind], len(kinds[kind])) for kind in sorted(kinds)]
    in_turn = (task for turn in zip_longest(*shuffled) for task in turn if task is not None)
    return list(islice(in_turn, limit))


def examine(
    engine: Engine,
    tasks: Sequence[Task],
    config: ExaminationConfig,
    *,
    trained: Sequence[Task] = (),
    command: str = "",
    data: str = "",
) -> dict[str, Any]:
    """Measure every row on every task; write and return the report.

    Args:
        engine: With the generator to examine; others may use it meanwhile, between batches.
        tasks: All are examined; see `choose_tasks`.
        config: What to measure.
        trained: Tasks that the generator was trained on, which its adapters are compared with where
            there is no collection.
        command: Printed in the report, so that a reader can repeat it.
        data: The tasks in words, likewise.

    Returns:
        What `report.json` holds.

    Raises:
        ConfigError: If there is nothing to measure, `out` holds scores of other settings, or a task
            is examined as held out that the generator was trained on or chosen by.
    """
    started = time.monotonic()
    if not tasks:
        raise ConfigError("no tasks to examine.")
    if config.split == "heldout":
        _refuse_trained(
            tasks,
            {row["task"] for row in engine.training_data},
            set(engine.training_variants),
            {row["task"] for row in engine.validation_data},
        )
    steps = None if config.run is None else _read_log(config.run)
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
    papers = [_Paper.of(task, wardrobe.tokenizer, config) for task in tasks]
    papers = [paper for paper in papers if paper.items]
    told = [data] if data else [f"{len(tasks)} tasks."]
    if len(papers) < len(tasks):
        told.append(
            f"{len(tasks) - len(papers)} of them have no item of at most {_MAX_TOKENS} tokens."
        )
    if not papers:
        raise ConfigError(
            f"none of the {len(tasks)} tasks has an item of at most {_MAX_TOKENS} tokens."
        )
    ledger = _Ledger.open(config.out, _hash(engine, config, papers), papers)
    ledger.agree({row: wardrobe.source(row) for row in rows})
    session = _Session(engine, wardrobe, ledger, papers)
    session.measure(rows, config.modes)
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
        distances=session.distances() if "generator" in rows else {},
        cost=_cost(engine, wardrobe, ledger, steps),
        trained_families=tuple(sorted({row["family"] for row in engine.training_data})),
    )
    report = build_report(
        wanted,
        meta,
        tasks=tasks,
        similarities=ledger.similarities,
        checks=ledger.checks,
        other_format=[
            task.info.slug
            for task in tasks
            if (source := wardrobe.wrong_source(task)) is not None
            and source.info.answer_format != task.info.answer_format
        ],
    )
    report["seconds"] = round(time.monotonic() - started, 1)
    write_report(report, wanted, config.out)
    return report


def _refuse_trained(
    tasks: Sequence[Task], trained: Set[str], variants: Set[str], validating: Set[str]
) -> None:
    """Refuse to call tasks unseen that training has seen, in whatever answer format.

    Args:
        tasks: To be examined as held out.
        trained: Slugs of tasks that the generator was trained on.
        variants: Those in a format, as `slug~format`.
        validating: Slugs of tasks that chose the step whose weights it has.
    """
    known = trained | {slug.partition("~")[0] for slug in variants}
    seen, chose = [], []
    for task in tasks:
        slug = task.info.slug
        # A pair or a format is unseen although its task is not.
        is_variant = task.info.holdout in ("pair", "format")
        if slug in (variants if is_variant else known):
            seen.append(slug)
        elif slug.partition("~")[0] in validating and not is_variant:
            chose.append(slug)
    if seen:
        raise ConfigError(
            f"{len(seen)} of the tasks to examine as held out are tasks that the generator was "
            f"trained on, such as `{min(seen)}`. A score on them says nothing of unseen tasks: "
            "examine them with --split train, or take a generator that did not see them."
        )
    if chose:
        raise ConfigError(
            f"{len(chose)} of the tasks to examine as held out chose the weights of the generator, "
            f"such as `{min(chose)}`: training validated on their families. A score on them is too "
            "good for unseen tasks: leave them out, or take a generator that was not chosen by "
            "them."
        )


@dataclass(frozen=True, slots=True)
class _Paper:
    """One task's items, the same for every row."""

    task: Task
    items: tuple[int, ...]
    """Indices of the test side."""
    max_new_tokens: int

    @classmethod
    def of(
        cls, task: Task, tokenizer: PreTrainedTokenizerBase, config: ExaminationConfig
    ) -> "_Paper":
        """Draw items, short ones only."""
        order = list(range(len(task.test)))
        random.Random(f"{config.seed}:items:{task.info.slug}").shuffle(order)
        items: list[int] = []
        longest = 0
        for index in order:
            asked = ask(tokenizer, task.test[index], "full", max_new_tokens=0)
            if len(asked.prompt) + len(asked.reference) <= _MAX_TOKENS:
                items.append(index)
                longest = max(longest, len(asked.reference))
            if len(items) == config.limit_items:
                break
        return cls(task, tuple(items), min(longest + _MARGIN, _MAX_NEW_TOKENS))

    def asked(self, mode: Mode) -> list[tuple[int, Example]]:
        """The items that can be asked in a mode: bare mode needs a bare input."""
        found = [(index, self.task.test[index]) for index in self.items]
        return [(i, e) for i, e in found if mode == "full" or e.bare is not None]


class _Session:
    """Answers what the ledger lacks, chunk by chunk."""

    def __init__(
        self, engine: Engine, wardrobe: Wardrobe, ledger: "_Ledger", papers: Sequence[_Paper]
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

    def _chunk(
        self,
        row: str,
        draw: int,
        chunk: Sequence[_Paper],
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

    def _answer(
        self,
        row: str,
        draw: int,
        mode: Mode,
        groups: Sequence[tuple[_Paper, Outfit, Sequence[tuple[int, Example]]]],
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
        with self.engine.exclusive() as (base, host):
            fitted = None
            if worn[0].tokens is not None:
                tokens = [outfit.tokens.float() for outfit in worn if outfit.tokens is not None]
                stacked = torch.stack(tokens).to(base.device)
                with torch.inference_mode():
                    fitted = host.fit(stacked, worn[0].layout)
            return answer(base, host, questions, fitted)

    def _grade(
        self,
        row: str,
        draw: int,
        mode: Mode,
        paper: _Paper,
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
        if outfit is not None and outfit.refine_seconds is not None:
            self.ledger.refine_seconds.setdefault(row, []).append(outfit.refine_seconds)
        if outfit is not None and row == "generator":
            if outfit.synthesis_seconds is not None:
                self.ledger.synthesis_seconds.append(outfit.synthesis_seconds)
            if draw == 0 and self.wardrobe.nearest[slug]:
                self.ledger.similarities[slug] = self.wardrobe.nearest[slug][0].similarity
            if draw == 0:
                found = self.wardrobe.inspected[slug]
                agrees = None if found.agreement is None else found.agreement.share
                self.ledger.checks[slug] = {"agreement": agrees, "effect": found.effect}
            if slug in self.compared:
                self.generated[slug][draw] = outfit
        return outfit

    def distances(self) -> dict[str, Any]:
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
            return {}
        training = self.wardrobe.training_adapters(layout)
        found = distances.measure(generated, training, layout)
        return found | {"training": "collected" if self.wardrobe.collection else "generated"}


def _chunks(papers: Sequence[_Paper]) -> Iterator[list[_Paper]]:
    """Runs of tasks with about `_CHUNK_ITEMS` items."""
    chunk: list[_Paper] = []
    for paper in papers:
        chunk.append(paper)
        if sum(len(p.items) for p in chunk) >= _CHUNK_ITEMS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


@dataclass(slots=True)
class _Ledger:
    """Scores on disk, for exactly one set of settings.

    `scores.jsonl` holds one item score a line and only ever grows; `examination.json` says what the
    scores belong to, and what measuring them took.
    """

    out: Path
    settings: str
    sources: dict[str, str] = field(default_factory=dict)
    """Row to the hash of what it is made of."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Row to what measuring it took."""
    synthesis_seconds: list[float] = field(default_factory=list)
    refine_seconds: dict[str, list[float]] = field(default_factory=dict)
    """Refined row to what refining took, task by task."""
    similarities: dict[str, float] = field(default_factory=dict)
    """Task to the similarity of its prompts to those of the nearest training task."""
    checks: dict[str, dict[str, float | None]] = field(default_factory=dict)
    """Task to `agreement` and `effect` of its first adapter, on the prompts it was made from."""
    agreed: dict[str, str] = field(default_factory=dict)
    """As `sources`, of the rows that this call measures; written with their first scores."""
    scores: list[ItemScore] = field(default_factory=list)
    _done: Counter[_Key] = field(default_factory=Counter)

    @classmethod
    def open(cls, out: Path, settings: str, papers: Sequence[_Paper]) -> "_Ledger":
        """Start in an empty folder, or continue.

        What a killed run left of a task is forgotten: half a line, or some of its items.

        Raises:
            ConfigError: If the folder holds scores of other settings, or they are damaged.
        """
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"`{out}` cannot be a report folder: {error.strerror or error}. Choose another "
                "--out."
            ) from error
        ledger = cls(out, settings)
        if not ledger._head.exists():
            if ledger._lines.exists():
                raise ledger._other()
            ledger._write_head()
            return ledger
        try:
            head = json.loads(ledger._head.read_text(encoding="utf-8"))
            if head["settings"] != settings:
                raise ledger._other()
            sources = dict(head["sources"])
            ledger.seconds = dict(head["seconds"])
            ledger.synthesis_seconds = list(head["synthesis_seconds"])
            ledger.refine_seconds = dict(head["refine_seconds"])
            ledger.similarities = dict(head["similarities"])
            ledger.checks = dict(head["checks"])
            text = ledger._lines.read_text(encoding="utf-8") if ledger._lines.exists() else ""
            whole, _, _ = text.rpartition("\n")
            found = [ItemScore(**json.loads(line)) for line in whole.splitlines()]
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(
                f"`{out}` holds damaged scores ({error!r}). Remove the folder, or choose another "
                "--out."
            ) from error
        counts = Counter(_key(score) for score in found)
        expected = {
            (mode, paper.task.info.slug): len(paper.asked(mode))
            for paper in papers
            for mode in MODES
        }
        ledger.scores = [
            score
            for score in found
            if counts[_key(score)] == expected.get((score.mode, score.slug))
        ]
        ledger._done = Counter(_key(score) for score in ledger.scores)
        scored = {score.row for score in ledger.scores}
        ledger.sources = {row: source for row, source in sources.items() if row in scored}
        kept = "".join(_line(score) for score in ledger.scores)
        if kept != text:
            _replace(ledger._lines, kept)
        return ledger

    def agree(self, sources: Mapping[str, str]) -> None:
        """Check what rows are made of; a row measured with another source is refused.

        Raises:
            ConfigError: If it was.
        """
        for row, source in sources.items():
            if self.sources.get(row, source) != source:
                what, way_out = _SOURCES.get(row, _LORAS)
                raise ConfigError(
                    f"`{self.out}` holds scores of the row {row} made with {what}. "
                    f"Choose another --out, {way_out}."
                )
        self.agreed = dict(sources)

    def has(self, row: str, mode: Mode, draw: int, slug: str) -> bool:
        """Whether a task is scored under a row, mode and draw."""
        return self._done[row, mode, draw, slug] > 0

    def add(self, scores: Sequence[ItemScore], row: str, seconds: float) -> None:
        """Append scores, in one write.

        The head comes first: what it says of scores that a kill keeps from being written is found
        again when they are, but the other way round it would be lost.
        """
        if scores:
            self.seconds[row] = round(self.seconds.get(row, 0.0) + seconds, 2)
            self.sources[row] = self.agreed[row]
        self._write_head()
        with self._lines.open("a", encoding="utf-8") as stream:
            stream.write("".join(map(_line, scores)))
        self.scores += scores
        self._done.update(map(_key, scores))

    @property
    def _head(self) -> Path:
        return self.out / "examination.json"

    @property
    def _lines(self) -> Path:
        return self.out / "scores.jsonl"

    def _write_head(self) -> None:
        names = ("settings", "sources", "seconds", "synthesis_seconds", "refine_seconds")
        values = {name: getattr(self, name) for name in (*names, "similarities", "checks")}
        _replace(self._head, json.dumps(values, indent=1) + "\n")

    def _other(self) -> ConfigError:
        return ConfigError(
            f"`{self.out}` holds scores of other settings, other items or another generator. "
            "Choose another --out, or remove it."
        )


def _key(score: ItemScore) -> _Key:
    return score.row, score.mode, score.draw, score.slug


def _line(score: ItemScore) -> str:
    return json.dumps(asdict(score)) + "\n"


def _replace(path: Path, text: str) -> None:
    aside = path.with_name(f"{path.name}.partial")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)


def _hash(engine: Engine, config: ExaminationConfig, papers: Sequence[_Paper]) -> str:
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


def _cost(
    engine: Engine,
    wardrobe: Wardrobe,
    ledger: _Ledger,
    steps: Sequence[Mapping[str, Any]] | None,
) -> dict[str, Any]:
    """What things took; training and LoRAs as their own folders say, on whatever machine that was.

    Collecting cost the generator the runs of train tasks, of all seeds, as training draws from all;
    held-out oracles are no part of it. Training leaves out encoding prompts and asking a teacher,
    which no log holds; the report says so.

    Estimates count 2 floating point operations per parameter and token of a forward pass, and as
    many again for a backward pass through frozen weights.
    """
    cost: dict[str, Any] = {"row_seconds": dict(ledger.seconds)}
    if ledger.synthesis_seconds:
        cost["synthesis_seconds"] = round(statistics.median(ledger.synthesis_seconds), 3)
    if ledger.refine_seconds:
        cost["refine_seconds"] = {
            row: round(statistics.median(seconds), 2)
            for row, seconds in ledger.refine_seconds.items()
        }
    per_token = 4 * engine.info.base_parameters
    estimates: dict[str, float] = {}
    if steps is not None:
        cost["training_seconds"] = round(
            sum(float(s["seconds"]) + float(s.get("watch_seconds", 0)) for s in steps), 1
        )
        cost["training_leaves_out"] = "encoding prompts, asking a teacher"
        estimates["training_flops"] = float(per_token * sum(int(s["tokens"]) for s in steps))
    if wardrobe.collection is not None:
        runs, recipe = wardrobe.collection.runs, wardrobe.collection.manifest["recipe"]
        trained = [run.seconds for run in runs if run.split == "train"]
        cost["collection_seconds"] = round(sum(trained), 1)
        cost["lora_seconds"] = round(statistics.mean(run.seconds for run in runs), 2)
        tokens = recipe["batch_size"] * recipe["max_tokens"]
        estimates["lora_flops_at_most"] = float(
            per_token * tokens * statistics.mean(run.steps for run in runs)
        )
    if {"synthesis_seconds", "training_seconds", "lora_seconds"} <= cost.keys():
        saved = cost["lora_seconds"] - cost["synthesis_seconds"]
        for name, spent in (
            ("break_even_tasks", cost["training_seconds"] + cost["collection_seconds"]),
            ("break_even_tasks_without_collection", cost["training_seconds"]),
        ):
            cost[name] = math.ceil(spent / saved) if saved > 0 else None
    if estimates:
        cost["estimates_not_measured"] = estimates
    return cost


def _read_log(run: Path) -> list[dict[str, Any]]:
    try:
        lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
        steps = [json.loads(line) for line in lines]
        if not steps or not all({"seconds", "tokens"} <= step.keys() for step in steps):
            raise ValueError("a step lacks `seconds` or `tokens`, or there is none")
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"`{run}` is no run folder with a sound `log.jsonl`: {error}. Name the folder that "
            "`dnd train` wrote to, or leave --run out."
        ) from error
    return steps
