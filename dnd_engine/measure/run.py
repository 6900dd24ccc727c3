"""Scores rows on labelled items, and trains LoRAs beside them, step by step.

Every step contains all results so far, so that stopping loses nothing. The base is locked for one
batch or one training step at a time. Knows adapters as weight tokens; knows no files.
"""

import time
from collections.abc import Generator as Steps
from collections.abc import Sequence
from dataclasses import asdict, replace
from random import Random
from typing import Any

import torch

from dnd_engine.config import LabelledConfig
from dnd_engine.errors import MeasureError
from dnd_engine.lora.adapter import Adapter
from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.lora.seen import with_met
from dnd_engine.measure.results import EvalPass, ItemResult, Measurement, MeasureStep, Row
from dnd_engine.models.runtime import Runtime
from dnd_engine.notes import noted
from dnd_engine.scoring.answers import answer, batches
from dnd_engine.scoring.metrics import Grader
from dnd_engine.scoring.questions import Answer, ask, choose_shots, text_of
from dnd_engine.tasks.folder import Example
from dnd_engine.training.finetune.lessons import Descent, draw_labelled, train_on_lessons
from dnd_engine.training.finetune.steps import check_points, shared_start

_ITEMS_AT_ONCE = 16
"""Items per batch. Between batches, others may use the base, and the operation can be cancelled."""


def measure(
    runtime: Runtime,
    adapter: FittedLoRA,
    shared: FittedLoRA | None,
    measured: Measurement,
) -> Steps[MeasureStep, None, Measurement]:
    """Score the base, the adapter, the part that all adapters share, and few-shot prompts.

    `measured` has the rows, split, and no results yet. The base is locked for one batch at a time.
    Without a generator, adapters share no part.

    Yields:
        All results so far, after every batch.
    """
    base = runtime.base
    sides = measured.sides
    room = int(base.config["max_position_embeddings"])
    shots = choose_shots(base.tokenizer, sides.train, room, Random(f"{measured.seed}:shots"))
    # Most informative rows first, for users who stop early.
    setups: list[tuple[Row, FittedLoRA | None, tuple[Example, ...]]] = [
        ("base", None, ()),
        ("adapter", adapter, ()),
        ("shared_lora", shared, ()),
        ("few_shot", None, shots),
    ]
    left_out: dict[Row, str] = {}
    if shared is None:
        left_out["shared_lora"] = noted(
            "the base has no generator, whose adapters could share a part."
        )
    if not shots:
        left_out["few_shot"] = noted("no row is left that is short enough to be shown.")
    setups = [setup for setup in setups if setup[0] not in left_out]
    measured = replace(measured, left_out=left_out)
    passes = [
        (EvalPass(row=row, mode=mode), active, shown)
        for row, active, shown in setups
        for mode in sides.modes
    ]
    return (yield from _score(runtime, measured, passes))


def train(
    runtime: Runtime,
    adapter: Adapter,
    measured: Measurement,
    config: LabelledConfig,
    *,
    warm_start: bool,
    origin: dict[str, Any],
) -> Steps[MeasureStep, None, Measurement]:
    """Train a LoRA on the train side, and score it on the test side at intervals.

    Args:
        runtime: The frozen base; its lock is held for one batch or step at a time.
        adapter: Adapter that provides the layout, and the starting point if `warm_start`.
        measured: Earlier measurement of that adapter.
        config: Training settings.
        warm_start: Start from the adapter instead of from scratch.
        origin: Provenance of a LoRA from scratch.

    Yields:
        All results so far, after every training step and scoring batch.

    Returns:
        The extended measurement; it replaces an earlier run from the same starting point.

    Raises:
        TrainingError: If too few rows are usable, or a loss is not finite.
        MeasureError: If another adapter was measured.
    """
    if measured.adapter_sha256 != adapter.sha256:
        raise MeasureError(
            "`{adapter}` is not the adapter that was measured ({measured}). Measure it first.",
            adapter=adapter.name,
            measured=measured.adapter,
        )
    base = runtime.base
    sides = measured.sides
    row: Row = "warm_lora" if warm_start else "trained_lora"
    lessons = draw_labelled(base, sides.train, config)
    # Scaled: training starts from the adapter at the strength at which it was measured.
    start = adapter.scaled_tokens.float()
    if not warm_start:
        start = shared_start(adapter.layout, config.seed)
    recipe = asdict(config) | {"num_examples": len(lessons)}
    same = "adapter" if warm_start else "base"
    # Until the first point is scored, an earlier run stays, since there is nothing new yet.
    shown = measured
    measured = replace(
        measured,
        passes=(
            *(s for s in measured.passes if s.row != row),
            # At step 0 the LoRA equals the adapter, or the base, because B is zero; reuse those
            # scores.
            *(replace(s, row=row, seconds=0.0) for s in measured.passes if s.row == same),
        ),
        recipes={**measured.recipes, row: recipe},
        # Drop the LoRA of an earlier run together with its curve: the new scores are not its own.
        trained={r: made for r, made in measured.trained.items() if r != row},
    )
    points = check_points(config.steps)
    scoring = [s.seconds for s in measured.passes if s.row == "adapter"]
    cost = sum(scoring)  # estimated cost of scoring one point
    seconds = 0.0
    for done in train_on_lessons(runtime, start, adapter.layout, lessons, config, name="training"):
        seconds += done.seconds
        left = seconds / done.step * (config.steps - done.step)
        # Scoring each point to come is assumed to take as long as scoring the last one, or the
        # adapter before the first.
        left += cost * sum(point >= done.step for point in points)
        yield MeasureStep(
            stage="train",
            row=row,
            done=done.step,
            total=config.steps,
            measured=shown,
            loss=done.loss,
            seconds_left=left,
        )
        if done.step not in points:
            continue
        made = _trained(adapter, done, seconds, recipe, warm_start, origin)
        active = runtime.host.fit(made.scaled_tokens[None], made.layout)
        measured = replace(measured, trained={**measured.trained, row: made})
        fresh = [
            EvalPass(row=row, mode=mode, steps=done.step, train_seconds=seconds)
            for mode in sides.modes
        ]
        for step in _score(runtime, measured, [(one, active, ()) for one in fresh]):
            measured = step.measured
            cost = sum(s.seconds for s in measured.passes if (s.row, s.steps) == (row, done.step))
            # The rest of the training follows this point.
            yield replace(step, seconds_left=max(0.0, left - cost))
        shown = measured
    return measured


def _score(
    runtime: Runtime,
    measured: Measurement,
    passes: Sequence[tuple[EvalPass, FittedLoRA | None, Sequence[Example]]],
) -> Steps[MeasureStep, None, Measurement]:
    """Answer all items of new passes in batches, each pass with its LoRA and shots."""
    tokenizer, sides = runtime.base.tokenizer, measured.sides
    grader = Grader(sides.metric)
    total = sum(len(sides.asked(eval_pass.mode)) for eval_pass, _, _ in passes)
    done, spent = 0, 0.0
    for eval_pass, active, shots in passes:
        before = measured.passes
        items = sides.asked(eval_pass.mode)
        questions = [
            ask(tokenizer, e, eval_pass.mode, shots=shots, max_new_tokens=sides.max_new_tokens)
            for _, e in items
        ]
        # Sorted by `batches`, so that little is padded, but cut into smaller batches here.
        order = [at for batch in batches([questions], shared=True) for _, at in batch[0]]
        for first in range(0, len(order), _ITEMS_AT_ONCE):
            part = order[first : first + _ITEMS_AT_ONCE]
            with runtime.lock.after_chats():
                # After the lock is taken: waiting for others is no cost of the row.
                started = time.monotonic()
                (answers,) = answer(runtime, [[questions[q] for q in part]], active)
                seconds = time.monotonic() - started
            graded = [
                _result(grader, *items[q], reply, text_of(tokenizer, reply))
                for q, reply in zip(part, answers, strict=True)
            ]
            eval_pass = replace(
                eval_pass, seconds=eval_pass.seconds + seconds, items=(*eval_pass.items, *graded)
            )
            # A pass grows with each batch, so each replaces the one before.
            measured = replace(measured, passes=(*before, eval_pass))
            done, spent = done + len(part), spent + seconds
            yield MeasureStep(
                stage="score",
                row=eval_pass.row,
                done=done,
                total=total,
                measured=measured,
                seconds_left=spent / done * (total - done),
            )
    return measured


def _result(grader: Grader, line: int, example: Example, reply: Answer, text: str) -> ItemResult:
    return ItemResult(
        line=line,
        score=grader.grade(example, text).score,
        choice=reply.right_is_likeliest(example),
        nll=reply.nll,
        text=text,
    )


def _trained(
    adapter: Adapter,
    done: Descent,
    seconds: float,
    recipe: dict[str, Any],
    warm_start: bool,
    origin: dict[str, Any],
) -> Adapter:
    """Return the current LoRA as an adapter, with its provenance."""
    # A copy, because the next step changes the tokens in place. In bfloat16, as adapters are kept,
    # so that what is scored is what the user gets.
    tokens = done.tokens.to("cpu", torch.bfloat16)
    trained = {
        "labels": True,
        "start": "adapter" if warm_start else "scratch",
        **recipe,
        # Those done, which may be fewer than the recipe's.
        "steps": done.step,
    }
    if warm_start:
        trained["from_sha256"] = adapter.sha256
        return adapter.with_tokens(
            tokens,
            name=f"{adapter.name}-trained",
            strength=1.0,
            provenance=with_met(
                {**adapter.provenance, "trained": trained},
                done.learnt,
                labels=True,
                after=adapter.provenance,
            ),
            seconds=adapter.seconds_with("train", seconds),
        )
    return Adapter(
        name=f"{adapter.name}-trained-from-scratch",
        tokens=tokens,
        layout=adapter.layout,
        base_id=adapter.base_id,
        provenance=with_met({**origin, "trained": trained}, done.learnt, labels=True),
        num_prompts=len(done.learnt),
        seconds={"train": seconds},
    )
