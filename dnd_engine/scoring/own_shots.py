"""Few-shot examples that a teacher writes itself: its own surest answers to other prompts.

A teacher that is unsure of a task answers much better after it has seen a few of them as earlier
turns of the chat. One that is sure answers worse, so it sees none (docs/LOG.md has the figures).
Knows token ids and adapters; knows no buckets and no labels.

Source: Wan et al. 2023, arXiv:2305.14926, for examples chosen by the model's own confidence.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.models.runtime import Runtime
from dnd_engine.scoring.answers import answer_batch
from dnd_engine.scoring.questions import Answer, open_question, short_shots, text_of
from dnd_engine.tasks.folder import Example

_MAX_ASKED = 16
"""Prompts that are answered to choose from: one batch of answers."""


@dataclass(frozen=True, slots=True)
class FirstAnswers:
    """A teacher's first answers to a few prompts, and which of them it sees from then on."""

    shots: tuple[Example, ...]
    """Empty if the teacher is sure enough without."""
    final: Mapping[int, Answer]
    """Answers that stay, by index of the prompt: those that are shown, or all without shots."""


def first_answers(
    runtime: Runtime,
    teacher: FittedLoRA | None,
    prompts: Sequence[str],
    *,
    num_shots: int,
    shots_below: float,
    max_new_tokens: int,
    seed: int,
    watch_from: int | None = None,
) -> FirstAnswers:
    """Answer up to 16 whole prompts, and choose the answers that the teacher sees before others.

    Args:
        runtime: The frozen base; its lock is held during the one batch.
        teacher: Adapter that answers; None is the base.
        prompts: Distinct whole prompts of one task, short enough. Of more than 16, some are drawn.
        num_shots: Maximum number of answers to show. With 0 nothing is asked.
        shots_below: Mean sureness from which on none is shown.
        max_new_tokens: Maximum length of an answer.
        seed: Seed of the draw.
        watch_from: See `scoring.answers.answer`.

    Returns:
        Shots and the answers that stay.
    """
    if not num_shots:
        return FirstAnswers((), {})
    drawn: Sequence[int] = range(len(prompts))
    if len(prompts) > _MAX_ASKED:
        drawn = random.Random(seed).sample(drawn, _MAX_ASKED)
    tokenizer = runtime.base.tokenizer
    questions = [open_question(tokenizer, prompts[n], max_new_tokens) for n in drawn]
    answers = answer_batch(runtime, questions, teacher, watch_from=watch_from, log_probs=True)
    found = dict(zip(drawn, answers, strict=True))
    real = [answer.sureness for answer in answers if answer.ids]
    if not real or fmean(real) >= shots_below:
        return FirstAnswers((), found)
    # An answer that was cut off would show that answers end anywhere.
    whole = {n: answer for n, answer in found.items() if 0 < len(answer.ids) < max_new_tokens}
    ranked = {prompts[n]: text_of(tokenizer, found[n]) for n in _by_sureness(whole)}
    shots = short_shots(
        tokenizer,
        (Example(*one) for one in ranked.items()),
        int(runtime.base.config["max_position_embeddings"]),
        # At most half, so that the answers to others can gain by them.
        most=min(num_shots, len(found) // 2),
    )
    shown = {shot.prompt for shot in shots}
    return FirstAnswers(shots, {n: found[n] for n in found if not shots or prompts[n] in shown})


def answers_again(
    runtime: Runtime, teacher: FittedLoRA | None, prompts: Sequence[str], max_new_tokens: int
) -> tuple[Example, ...]:
    """Return the shots that a teacher once chose, from their whole prompts."""
    if not prompts:
        return ()
    tokenizer = runtime.base.tokenizer
    questions = [open_question(tokenizer, prompt, max_new_tokens) for prompt in prompts]
    answers = answer_batch(runtime, questions, teacher)
    return tuple(
        Example(prompt, text_of(tokenizer, answer))
        for prompt, answer in zip(prompts, answers, strict=True)
    )


def _by_sureness(answers: Mapping[int, Answer]) -> list[int]:
    """Order answers: the surest of each distinct one first."""
    met: Counter[tuple[int, ...]] = Counter()
    ranked: list[tuple[int, float, int]] = []
    for n in sorted(answers, key=lambda n: -answers[n].sureness):
        ranked.append((met[answers[n].ids], -answers[n].sureness, n))
        met[answers[n].ids] += 1
    return [n for *_, n in sorted(ranked)]
