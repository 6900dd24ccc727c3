"""Answers the items of an examination that a store lacks, chunk by chunk.

Knows an engine, its baselines and a store; does not know which tasks are examined, or why.
"""

import random
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from tqdm import tqdm

from dnd_engine.checks.ordinary import ordinary_share
from dnd_engine.checks.skills import skills
from dnd_engine.engine import Engine
from dnd_engine.evaluation import distances
from dnd_engine.evaluation.baselines import Baselines, Setup
from dnd_engine.evaluation.items import EvalItems
from dnd_engine.evaluation.result_store import ResultStore
from dnd_engine.evaluation.steering import SteeredForward
from dnd_engine.generator.report import Cosine, Distances
from dnd_engine.scoring.answers import answer, batches
from dnd_engine.scoring.metrics import Grader
from dnd_engine.scoring.questions import Answer, Question, ask, text_of
from dnd_engine.scoring.scores import DRAWN, FORECAST_ROW, SHOWN_CHARACTERS, ItemScore
from dnd_engine.tasks.folder import Example, Mode, Task

_CHUNK_ITEMS = 128
"""Items answered between two writes to disk: two full batches."""

_COMPARED_TASKS = 64
"""Tasks whose generated adapters are kept in memory and compared with each other."""


class EvalPass:
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
        self.graders = {of_task.slug: Grader.of(of_task.task) for of_task in all_items}
        order = sorted(self.graders)
        # A fixed seed, so that a call that continues compares the same tasks.
        random.Random("compared").shuffle(order)
        self.compared = frozenset(order[:_COMPARED_TASKS])
        self.generated: dict[str, dict[int, Setup]] = defaultdict(dict)
        """Task to its adapters by draw, of the compared tasks."""

    def lacks(self, rows: Sequence[str], modes: Sequence[Mode], of_task: EvalItems) -> bool:
        """Whether the store lacks a score of a task."""
        return any(True for _ in self._lacking(rows, modes, [of_task]))

    def _lacking(
        self, rows: Sequence[str], modes: Sequence[Mode], tasks: Sequence[EvalItems]
    ) -> Iterator[tuple[str, int, Mode, EvalItems]]:
        """Iterate over what the store lacks: row, draw, mode and task."""
        for row in rows:
            for draw in range(self.baselines.draws(row)):
                for mode in modes:
                    for of_task in tasks:
                        # Without bare inputs a task never has scores in bare mode, and lacks none.
                        asked = of_task.asked(mode)
                        if asked and not self.store.has(row, mode, draw, of_task.slug):
                            yield row, draw, mode, of_task

    def fill(self, rows: Sequence[str], modes: Sequence[Mode]) -> None:
        """Measure what the store lacks: scores, and what is found without labels."""
        self._measure(rows, modes)
        self._check_unchecked(rows)
        if FORECAST_ROW in rows:
            self._forecast()
        if "generator" in rows:
            self._inspect()

    def _measure(self, rows: Sequence[str], modes: Sequence[Mode]) -> None:
        todo = list(self._lacking(rows, modes, self.all_items))
        total = sum(len(of_task.asked(mode)) for _, _, mode, of_task in todo)
        jobs: dict[tuple[str, int], dict[str, list[Mode]]] = defaultdict(lambda: defaultdict(list))
        # An adapter is made once, for all modes in which its task lacks scores.
        for row, draw, mode, of_task in todo:
            jobs[row, draw][of_task.slug].append(mode)
        with tqdm(total=total, desc="Examine", unit="item", smoothing=0.05) as bar:
            for (row, draw), wanted in jobs.items():
                bar.set_postfix_str(row, refresh=False)
                all_items = [of_task for of_task in self.all_items if of_task.slug in wanted]
                for chunk in chunks(all_items):
                    self._chunk(row, draw, chunk, wanted, bar)

    def _check_unchecked(self, rows: Sequence[str]) -> None:
        """Check the adapters that were scored and not checked; they are made again.

        A killed run leaves some, and a run of an earlier version, which checked less.
        """
        for row in [row for row in rows if row in DRAWN]:
            # Measuring has just tried to make those that a row lacks.
            lacking = self.baselines.missing.get(row, {})
            for task in [p.task for p in self.all_items if p.slug not in lacking]:
                if not self._is_checked(row, task.info.slug):
                    # Task by task, because each is written before the next is made.
                    self._check(row, {task.info.slug: self.baselines.setup(row, task, 0)})

    def _is_checked(self, row: str, slug: str) -> bool:
        judged = row != FORECAST_ROW or slug in self.store.found.adapter_verdicts
        return judged and self.store.has_side_effects(row, slug)

    def _check(self, row: str, setups: Mapping[str, Setup | None]) -> None:
        """Check the first adapters of a row as the page does, where the store lacks that."""
        self._check_side_effects(row, setups)
        if row == FORECAST_ROW:
            self._judge(setups)

    def _judge(self, setups: Mapping[str, Setup | None]) -> None:
        """Keep the verdict that users get on each adapter, which its scores put to the test."""
        for task in [of_task.task for of_task in self.all_items]:
            slug = task.info.slug
            setup = setups.get(slug)
            if setup is None or slug in self.store.found.adapter_verdicts:
                continue
            assert setup.imprinted is not None
            self.store.keep_verdict(slug, self.baselines.verdict(task, setup.imprinted))

    def _check_side_effects(self, row: str, setups: Mapping[str, Setup | None]) -> None:
        """Check what the first adapters of a row do to answers that are not about their task.

        Not a choice of its own, because it is cheap: 24 short answers take half as long as the
        ordinary messages, about 3 s an adapter of the embedded base on one core.
        """
        if row not in DRAWN:
            return
        runtime, known = self.engine.runtime, self.store.found
        ordinary, right = known.ordinary.get(row, {}), known.skills.get(row, {})
        shares, found = {}, {}
        for slug, setup in setups.items():
            if setup is None or self.store.has_side_effects(row, slug):
                continue
            before = self.engine.ordinary_answers()
            assert setup.tokens is not None
            fitted = runtime.host.fit(setup.tokens[None], setup.layout)
            if slug not in ordinary:
                shares[slug] = ordinary_share(runtime, fitted, before).share
            if slug not in right:
                found[slug] = skills(runtime, fitted, before.known)
        self.store.keep_side_effects(row, shares, found)

    def _inspect(self) -> None:
        """Inspect an adapter of each task that the store lacks, off the clock of its row."""
        lacking = [p.task for p in self.all_items if p.slug not in self.store.found.checks]
        for task in tqdm(lacking, desc="Inspect", unit="task", leave=False):
            found = self.baselines.inspect(task)
            if found is None:
                continue
            agrees = None if found.agreement is None else found.agreement.share
            similarity = max((near.similarity for near in found.nearest_tasks), default=None)
            self.store.check(task.info.slug, agrees, found.effect, similarity)

    def _forecast(self) -> None:
        """Forecast each task that the store lacks, for the row that a forecast is about."""
        lacking = [p.task for p in self.all_items if p.slug not in self.store.found.sureness]
        for task in tqdm(lacking, desc="Forecast", unit="task", leave=False):
            found = self.baselines.forecast(task)
            # None is kept too: another call would only find it again.
            self.store.keep_sureness(task.info.slug, found.sureness if found else None)

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
                    # Items that cannot be answered count as done, or the bar would never be full.
                    bar.update(len(items))
                elif items:
                    groups.append((of_task, setup, items))
            scores += self._answer(row, draw, mode, groups, bar)
        self.store.add(scores, row, time.monotonic() - started)
        # After `add`, which stops the row's clock: these checks are no part of its cost.
        if draw == 0:
            self._check(row, setups)

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
        asked = []
        for of_task, setup, items in groups:
            shots, most = setup.shots, of_task.max_new_tokens
            asked.append(
                [ask(tokenizer, e, mode, shots=shots, max_new_tokens=most) for _, e in items]
            )
        for batch in batches(asked, shared=self.baselines.is_common(row)):
            # Under a common row, questions of several tasks share a part, and its adapter is that
            # of any of them.
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
        # Held for one batch, so that chats can go on between two.
        with runtime.lock:
            if setups[0].steering is not None:
                return self._answer_steered(setups, questions)
            fitted = None
            # Under one row all setups have an adapter, or none has.
            if setups[0].tokens is not None:
                tokens = [setup.tokens.float() for setup in setups if setup.tokens is not None]
                stacked = torch.stack(tokens).to(runtime.base.device)
                with torch.inference_mode():
                    fitted = runtime.host.fit(stacked, setups[0].layout)
            return answer(runtime, questions, fitted)

    def _answer_steered(
        self, setups: Sequence[Setup], questions: Sequence[Sequence[Question]]
    ) -> list[list[Answer]]:
        """Answer as `_answer_as` does, one task after the other, each under its own vector."""
        runtime = self.engine.runtime
        replies = []
        for setup, asked in zip(setups, questions, strict=True):
            assert setup.steering is not None
            steered = SteeredForward(runtime.base, runtime.host.applying, setup.steering)
            with runtime.through(steered):
                replies += answer(runtime, [asked], None)
        return replies

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
        text = text_of(self.baselines.tokenizer, reply)
        # The whole text is graded; only what is stored is cut.
        grade = self.graders[info.slug].grade(example, text)
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
            choice=reply.right_is_likeliest(example),
            nll=reply.nll,
            text=text[:SHOWN_CHARACTERS],
        )

    def _setup(self, row: str, task: Task, draw: int) -> Setup | None:
        setup = self.baselines.setup(row, task, draw)
        slug = task.info.slug
        if setup is not None and setup.imprint_seconds is not None:
            self.store.found.imprint_seconds.setdefault(row, []).append(setup.imprint_seconds)
        if setup is not None and setup.refine_seconds is not None:
            self.store.found.refine_seconds.setdefault(row, []).append(setup.refine_seconds)
        if setup is not None and row == "generator":
            if setup.synthesis_seconds is not None:
                self.store.found.synthesis_seconds.append(setup.synthesis_seconds)
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
        training, source = self.baselines.training_adapters(layout)
        return distances.measure_distances(generated, training, layout, source)


def chunks(all_items: Sequence[EvalItems]) -> Iterator[list[EvalItems]]:
    """Runs of tasks with about `_CHUNK_ITEMS` items."""
    chunk: list[EvalItems] = []
    for of_task in all_items:
        chunk.append(of_task)
        if sum(len(p.items) for p in chunk) >= _CHUNK_ITEMS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
