"""Refine: a short training on a user's own prompts, from a generated adapter on.

Zero-shot ends where a task is unlike anything trained. Tens of steps teach the adapter to answer
on the bare input alone as a teacher does on the full prompt: the base that reads the instruction,
the labels of the prompts, or whoever else answers. Training begins with the first answers and goes
on while others are asked for; a few prompts are held back for a score on the way. Knows examples
and weight tokens; knows no buckets, no files and no metrics.

Source: Snell et al. 2022, arXiv:2209.15189, for context distillation.
"""

import logging
import random
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from collections.abc import Generator as Steps
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import takewhile, zip_longest
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dnd_engine.config import RefineConfig
from dnd_engine.errors import RemoteError, TrainingError
from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.lora.layout import LoRALayout
from dnd_engine.models.base import BaseModel
from dnd_engine.models.runtime import Runtime
from dnd_engine.notes import joined, noted
from dnd_engine.scoring.answers import answer
from dnd_engine.scoring.questions import open_question, text_of
from dnd_engine.tasks.folder import Example
from dnd_engine.training.examples import PackedExamples, answer_logits
from dnd_engine.training.finetune.lessons import Lesson, label_loss, short_enough, train_on_lessons
from dnd_engine.training.finetune.steps import check_points
from dnd_engine.training.teacher import Said, listen, teacher_divergence

logger = logging.getLogger(__name__)

ASKED_TOGETHER = 16
"""Prompts that the teacher answers in one batch; between batches others may use the base."""

_MIN_HELD_BACK, _MAX_HELD_BACK = 2, 8
"""Prompts held back for a score: one small batch of answers."""

_MIN_TO_DIVIDE = 8
"""With fewer prompts, the training needs them all."""

AnswersOf = Callable[[Sequence[Example]], Steps[Sequence[str | None], None, None]]
"""Answers to full prompts, in their order and some at a time; None where one cannot be learnt."""

ScoreOf = Callable[[Float[Tensor, "tokens rows cols"], Sequence[Example]], Sequence[float]]
"""Scores of weight tokens on the bare inputs of examples, each 0 to 1."""

_Taken = tuple[Lesson, Example, Said | None]
"""What can be learnt of one answer."""


@dataclass(frozen=True, slots=True)
class RefineStep:
    """How far a refinement is."""

    stage: Literal["ask", "refine"]
    done: int
    """Prompts asked, or steps trained."""
    total: int
    loss: float | None = None
    """Loss of the step in nats per answer token; None while the teacher answers."""
    seconds_left: float | None = None
    """Estimated from the steps so far; None before the first."""
    answers: tuple[str, ...] = ()
    """The teacher's, before the first step; each on one line."""
    score: float | None = None
    """The latest on the prompts held back; None without any."""
    score_before: float | None = None
    """Before the first step."""
    num_held_back: int = 0


@dataclass(frozen=True, slots=True)
class Refined:
    """What a refinement made."""

    tokens: Float[Tensor, "tokens rows cols"]
    """Weight tokens in float32 on the CPU."""
    prompts: tuple[str, ...]
    """Those that were learnt from."""
    commonest_share: float
    """Share of answers that are the most common one; 1 if all are the same."""
    steps: int
    score: float | None = None
    score_before: float | None = None
    num_held_back: int = 0
    scores: Mapping[str, float] = field(default_factory=dict)
    """After the last step, by prompt held back."""
    num_lost: int = 0
    """Prompts without an answer because the teacher's server failed on the way."""


@dataclass(slots=True)
class _Answered:
    """What is learnt and what is held back, as the answers come."""

    chosen: Sequence[Example]
    num_held_back: int
    """How many of the chosen, from the first."""
    batches: Iterator[Sequence[_Taken | None]]
    num_asked: int = 0
    num_lost: int = 0
    """Prompts that a server which failed does not answer any more."""
    lessons: list[Lesson] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)
    held_back: list[_Taken] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    """All of them, each on one line."""

    def are_too_few(self, least: int) -> bool:
        """Whether more answers are needed to train on."""
        return len(self.answers) < least or len(self.lessons) < max(1, least - _MIN_HELD_BACK)

    def take(self) -> bool:
        """Take the next answers; False if there are no more."""
        batch = next(self.batches, None)
        for answered in batch or ():
            self.num_asked += 1
            if answered is None:
                continue
            self.answers.append(answered[0].answer)
            if self.num_asked <= self.num_held_back:
                self.held_back.append(answered)
            else:
                self._learn(answered)
        return batch is not None

    def take_if_any(self) -> None:
        """Take the next answers; what was learnt already outlives a server that fails."""
        try:
            self.take()
        except RemoteError:
            self.num_lost = len(self.chosen) - self.num_asked
            # Without its message, which may quote a reply and so a prompt.
            logger.warning("The teacher failed; training goes on with what it said.")

    def hold_back_fewer(self, least: int) -> None:
        """Learn what was held back where too little else came."""
        while len(self.held_back) > _MIN_HELD_BACK and self.are_too_few(least):
            self._learn(self.held_back.pop())

    def _learn(self, answered: _Taken) -> None:
        lesson, _example, said = answered
        self.lessons.append(lesson)
        if said is not None:
            self.said.append(said)


def refine(
    runtime: Runtime,
    start: Float[Tensor, "tokens rows cols"],
    layout: LoRALayout,
    examples: Sequence[Example],
    teacher: FittedLoRA | None,
    config: RefineConfig,
    *,
    answers: AnswersOf | None = None,
    score: ScoreOf | None = None,
    unfitted: Collection[str] = (),
    groups: Sequence[Collection[str]] = (),
    enough: Callable[[], bool] | None = None,
) -> Steps[RefineStep, None, Refined]:
    """Train weight tokens on a few examples, step by step; closing the iterator cancels.

    Args:
        runtime: The frozen base; its lock is held during each batch and step, not between them.
        start: Weight tokens to start from; not changed.
        layout: Layout of the weight tokens.
        examples: Prompts; those without a bare input are left out. Responses count only if
            `config.labels`; then those without one are left out instead, and a prompt without an
            instruction is its own input.
        teacher: The adapter applied while the base answers full prompts; unused if others do.
        config: How long and how fast.
        answers: Who answers instead of the base.
        score: Scores the prompts that are held back; without it, none is.
        unfitted: Prompts that the start was not fitted to, if it was fitted to others: the first
            to be held back.
        groups: Prompts of each kind: all kinds are learnt equally, and each is held back if it can.
        enough: Asked after every step; True ends the training with what was learnt.

    Yields:
        Progress, before every batch of questions that training waits for, after the last of them,
        and after every step.

    Raises:
        TrainingError: If too few examples can be used, or the loss or its gradient is not finite.
    """
    chosen = choose(examples, runtime.base, config, first=unfitted, groups=groups)
    # Closed however the training ends, so that the teacher's server gets no more requests.
    with closing(_batches(runtime, chosen, teacher, answers, config)) as batches:
        held_back = 0 if score is None else _num_held_back(chosen, config, unfitted, len(groups))
        answered = _Answered(chosen, held_back, batches)
        yield from _ask_first(answered, config, outside=answers is not None)
        return (yield from _train(runtime, start, layout, answered, config, score, enough))


def _train(
    runtime: Runtime,
    start: Float[Tensor, "tokens rows cols"],
    layout: LoRALayout,
    answered: _Answered,
    config: RefineConfig,
    score: ScoreOf | None,
    enough: Callable[[], bool] | None,
) -> Steps[RefineStep, None, Refined]:
    """Train on what was answered, and take further answers on the way."""
    last = config.stop_after or config.steps
    points = check_points(last)
    # Fixed from here on: answers that come later are learnt.
    held_back = [example for _lesson, example, _said in answered.held_back]
    before = now = () if score is None or not held_back else score(start, held_back)
    seconds = 0.0
    # `said` and `lessons` grow together, also during training, so a lesson's number serves both.
    steps = train_on_lessons(
        runtime,
        start,
        layout,
        answered.lessons,
        config,
        name="refine",
        final_share=0.1,
        loss=partial(_teacher_loss, answered.said) if answered.said else label_loss,
    )
    with closing(steps):
        for done in steps:
            seconds += done.seconds
            ends = done.step == last or (enough is not None and enough())
            if score is not None and held_back and (ends or done.step in points):
                # Between two steps the lock is free. It is not reentrant, and `score` takes it.
                now = score(done.tokens, held_back)
            left = seconds / done.step * (last - done.step)
            yield RefineStep(
                "refine",
                done.step,
                last,
                done.loss,
                left,
                score=_mean(now),
                score_before=_mean(before),
                num_held_back=len(held_back),
            )
            if ends:
                break
            if config.ask_every and done.step % config.ask_every == 0:
                answered.take_if_any()
    ((_, commonest),) = Counter(answered.answers).most_common(1)
    return Refined(
        done.tokens.cpu(),
        done.learnt,
        commonest_share=commonest / len(answered.answers),
        steps=done.step,
        score=_mean(now),
        score_before=_mean(before),
        num_held_back=len(held_back),
        scores=dict(zip((example.prompt for example in held_back), now, strict=False)),
        num_lost=answered.num_lost,
    )


def _mean(scores: Sequence[float]) -> float | None:
    return sum(scores) / len(scores) if scores else None


def propose(
    runtime: Runtime, examples: Sequence[Example], teacher: FittedLoRA | None, config: RefineConfig
) -> Iterator[list[str | None]]:
    """Let the base answer full prompts, a batch at a time.

    Yields:
        One answer each; None where it is empty or does not end.
    """
    for first in range(0, len(examples), ASKED_TOGETHER):
        part = examples[first : first + ASKED_TOGETHER]
        with runtime.lock.after_chats(lets_in=True):
            texts = _greedy_answers(runtime, part, teacher, config)
        # After the lock is given back, because the caller may take any time.
        yield texts


def _greedy_answers(
    runtime: Runtime, examples: Sequence[Example], teacher: FittedLoRA | None, config: RefineConfig
) -> list[str | None]:
    """Answer full prompts in one batch; None where an answer is empty or does not end."""
    tokenizer, most = runtime.base.tokenizer, config.max_answer_tokens
    questions = [open_question(tokenizer, example.prompt, most) for example in examples]
    (answers,) = answer(runtime, [questions], teacher)
    return [
        text_of(tokenizer, one).strip() or None if len(one.ids) < most else None for one in answers
    ]


def _ask_first(answered: _Answered, config: RefineConfig, *, outside: bool) -> Iterator[RefineStep]:
    """Ask as many prompts as training needs to begin, and tell what was answered."""
    total, least = len(answered.chosen), config.least_prompts
    while not config.ask_every or answered.are_too_few(least):
        if not config.labels and answered.num_asked < total:
            yield RefineStep("ask", answered.num_asked, total)
        if not answered.take():
            break
    answered.hold_back_fewer(least)
    if answered.are_too_few(least):
        count = len(answered.answers)
        raise TrainingError(
            noted(
                "teaching: the better model gave answers that can be learnt to {count} of {total} "
                "prompts, {least} are needed. The others were empty, cut off, refused, or longer "
                "than {most} tokens with their prompt. Give prompts that ask for short answers, or "
                "choose another model.",
                count=count,
                total=total,
                least=least,
                most=config.max_tokens,
            )
            if outside
            else noted(
                "teaching: the teacher ended its answer within {most} tokens for {count} of "
                "{total} prompts, {least} are needed. Give prompts that ask for short answers, or "
                "labelled ones.",
                most=config.max_answer_tokens,
                count=count,
                total=total,
                least=least,
            )
        )
    if not config.labels:
        asked = answered.num_asked
        yield RefineStep("ask", asked, total, answers=tuple(answered.answers))


def _batches(
    runtime: Runtime,
    chosen: Sequence[Example],
    teacher: FittedLoRA | None,
    answers: AnswersOf | None,
    config: RefineConfig,
) -> Steps[Sequence[_Taken | None], None, None]:
    """Return what is learnt of each chosen example, a batch at a time, as it is asked for."""
    base = runtime.base
    if config.labels:
        yield [(Lesson.of(base, example), example, None) for example in chosen]
    elif answers is None:
        for first in range(0, len(chosen), ASKED_TOGETHER):
            part = chosen[first : first + ASKED_TOGETHER]
            with runtime.lock.after_chats(lets_in=True):
                asked = _ask(runtime, part, teacher, config)
            # Without the lock, as in `propose`.
            yield asked
    else:
        with closing(answers(chosen)) as batches:
            rest = iter(chosen)
            for texts in batches:
                given = [(next(rest), text) for text in texts]
                yield [_outside(base, example, text, config) for example, text in given]


def _outside(
    base: BaseModel, example: Example, text: str | None, config: RefineConfig
) -> tuple[Lesson, Example, None] | None:
    """Take an answer from elsewhere, if it is one and short enough to learn."""
    if not text:
        return None
    example = replace(example, response=text)
    lesson = Lesson.of(base, example)
    return (lesson, example, None) if len(lesson.full.ids) <= config.max_tokens else None


def _num_held_back(
    chosen: Sequence[Example], config: RefineConfig, unfitted: Collection[str], num_groups: int
) -> int:
    if not config.held_back_share or len(chosen) < _MIN_TO_DIVIDE:
        return 0
    least = max(_MIN_HELD_BACK, num_groups)
    count = min(max(int(len(chosen) * config.held_back_share), least), _MAX_HELD_BACK)
    # `choose` puts them first. Fewer is better than some that the start already knows.
    fresh = sum(1 for _ in takewhile(lambda example: example.prompt in unfitted, chosen))
    return min(count, max(fresh, least)) if fresh else count


def choose(
    examples: Sequence[Example],
    base: BaseModel,
    config: RefineConfig,
    *,
    first: Collection[str] = (),
    groups: Sequence[Collection[str]] = (),
    whole: bool = False,
) -> list[Example]:
    """A seeded draw of distinct prompts that can be learnt from, short enough for a step.

    Args:
        examples: Prompts to draw from.
        base: Its tokenizer measures the prompts.
        config: Seed and limits of the draw.
        first: Prompts to hold back; as many as are ever held back come before all others.
        groups: Prompts of each kind, which are drawn in turn.
        whole: Whether a prompt without an instruction counts too; see also
            `RefineConfig.learn_whole`.
    """
    distinct = {e.prompt: e for e in examples}
    learnable = {p: e for p, e in distinct.items() if e.response or not config.labels}
    whole = whole or (config.labels and config.learn_whole)
    split = [p for p, e in learnable.items() if whole or e.bare is not None]
    # Sorted before the shuffle, so that the draw does not depend on the order of buckets.
    order = sorted(split)
    random.Random(f"{config.seed}:refine").shuffle(order)
    # No more than are held back, so that the others are still a draw of all.
    fresh = [distinct[p] for p in _in_turn([p for p in order if p in first], groups)]
    ahead, _ = short_enough(base, fresh, most=_MAX_HELD_BACK, max_tokens=config.max_tokens)
    held = [example.prompt for example in ahead]
    order = [*held, *_in_turn([prompt for prompt in order if prompt not in held], groups)]
    # Without labels, what an example answers must not matter.
    drawn = [
        distinct[prompt] if config.labels else replace(distinct[prompt], response="")
        for prompt in order
    ]
    chosen, too_long = short_enough(
        base, drawn, most=config.max_prompts, max_tokens=config.max_tokens
    )
    if len(chosen) < config.least_prompts:
        unlabelled, unsplit = len(distinct) - len(learnable), len(learnable) - len(split)
        unusable = [
            (unlabelled, noted("{number} without a label", number=unlabelled)),
            (unsplit, noted("{number} without a blank line", number=unsplit)),
            (
                too_long,
                noted(
                    "{number} of more than {most} tokens", number=too_long, most=config.max_tokens
                ),
            ),
        ]
        found = noted("{number} of {total}", number=len(chosen), total=len(distinct))
        if reasons := joined([words for count, words in unusable if count], ", "):
            found = noted("{found} ({reasons})", found=found, reasons=reasons)
        raise TrainingError(
            "teaching needs {least} or more different prompts {kind}; got {found}. Add "
            "prompts, or fix those that do not fit.",
            least=config.least_prompts,
            kind=noted("with a label")
            if config.labels
            else noted("of a fitting length")
            if whole
            else noted("with an instruction, a blank line and an input"),
            found=found,
        )
    return chosen


def _in_turn(prompts: Sequence[str], groups: Sequence[Collection[str]]) -> list[str]:
    """Take one prompt of each group after the other; those of no group come last."""
    decks = [[prompt for prompt in prompts if prompt in group] for group in groups]
    taken = (prompt for turn in zip_longest(*decks) for prompt in turn if prompt is not None)
    # A prompt of two groups counts once; the last part has those of no group.
    return list(dict.fromkeys([*taken, *prompts]))


@torch.inference_mode()
def _ask(
    runtime: Runtime, examples: Sequence[Example], teacher: FittedLoRA | None, config: RefineConfig
) -> list[tuple[Lesson, Example, Said] | None]:
    """Return what the teacher says of full prompts; None where no answer ends within the limit."""
    base = runtime.base
    texts = _greedy_answers(runtime, examples, teacher, config)
    answered = [replace(e, response=t) if t else None for e, t in zip(examples, texts, strict=True)]
    ended = [example for example in answered if example is not None]
    # Answers are stripped and tokenised again, so what the teacher says of each token is read again
    # and not taken from the generation.
    with runtime.host.applying(teacher):
        said = iter(listen(ended, base))
    return [None if e is None else (Lesson.of(base, e), e, next(said)) for e in answered]


def _teacher_loss(
    said: Sequence[Said], model: nn.Module, batch: PackedExamples, numbers: Sequence[int]
) -> Tensor:
    """Nats per answer token from the teacher, mean over lessons."""
    logits, _ = answer_logits(model, batch)
    # An answer has the same tokens with and without its instruction, so positions agree.
    parts = zip(*(said[number] for number in numbers), strict=True)
    top, log_probs, rest = (torch.cat(part).to(logits.device) for part in parts)
    divergence = teacher_divergence(logits, top.long(), log_probs, rest)
    owner = batch.owner[batch.predicts]
    counts = torch.bincount(owner, minlength=len(numbers))
    sums = divergence.new_zeros(len(numbers)).index_add(0, owner, divergence)
    return (sums / counts).mean()
