"""Whether an adapter carries its instruction: it answers without, the model answers with it.

A teacher answers the whole prompt: the imprint's teacher, else the model with the part that all of
a generator's adapters share. The adapter answers the bare input. Where both answers are equal, the
adapter does not need the instruction. This takes no labels, and over unseen tasks it predicts an
adapter's gain (a report says how well). Knows token ids and adapters; gives no verdict.
"""

from collections.abc import Sequence
from itertools import islice

from dnd_engine.checks.results import Agreement
from dnd_engine.checks.verdict import BucketShare
from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.models.base import BaseModel
from dnd_engine.models.runtime import Runtime
from dnd_engine.scoring.answers import answer
from dnd_engine.scoring.questions import Answer, Question
from dnd_engine.tasks.folder import Example, Mode
from dnd_engine.training.examples import encode_example

_MAX_PROMPTS = 8
"""Two batches of this many answers take one to two seconds on two CPU cores."""
_MAX_TOKENS = 384
"""Longer prompts are skipped, as by imprint (`ImprintConfig.max_tokens`)."""
_MAX_NEW_TOKENS = 24
"""Tokens to compare: the beginnings of long answers."""
_UNSURE = 0.7
"""Loss in nats per token of an answer under its own model, above which the model is unsure."""


def agreement(
    runtime: Runtime,
    adapter: FittedLoRA,
    lessons: Sequence[tuple[str, FittedLoRA | None, Sequence[str]]],
    *,
    left_out: bool = False,
) -> Agreement | None:
    """Compare greedy answers to the first few prompts that have a removable instruction.

    Args:
        runtime: The frozen base; its lock is held for one batch at a time.
        adapter: Adapter that answers bare inputs.
        lessons: Names of buckets with their teachers and prompts, each an instruction, a blank
            line and an input. A teacher of None is the base. The limit on prompts is shared among
            them.
        left_out: Whether an imprint was fitted to other prompts.

    Returns:
        The agreement; None if no prompt is short enough and has a blank line.
    """
    wavering = 0
    parts: list[BucketShare] = []
    for bucket, teacher, prompts in lessons:
        # At least one prompt for each teacher, however many there are.
        most = _MAX_PROMPTS // len(lessons) or 1
        told = answers_when_told(runtime, teacher, prompts, most=most)
        if not told:
            continue
        asked = [prompts[number] for number in told]
        with runtime.lock:
            (answers,) = answer(runtime, [bare_questions(runtime.base, asked)], adapter)
        # Score the teacher's answers under the teacher itself: it may be unsure of some.
        again = full_questions(runtime.base, asked, [*told.values()])
        with runtime.lock:
            (sure,) = answer(runtime, [again], teacher)
        same = sum(one.ids == other.ids for one, other in zip(answers, told.values(), strict=True))
        wavering += sum(one.nll > _UNSURE for one in sure)
        parts.append(BucketShare(bucket, same, len(told)))
    if not parts:
        return None
    return Agreement(
        sum(part.same for part in parts),
        sum(part.num_prompts for part in parts),
        left_out,
        wavering,
        tuple(parts) if len(parts) > 1 else (),
    )


def answers_when_told(
    runtime: Runtime,
    teacher: FittedLoRA | None,
    prompts: Sequence[str],
    most: int | None = None,
) -> dict[int, Answer]:
    """Answer whole prompts greedily.

    Returns:
        Answers by index of the prompt, for the first `most` prompts that are short enough and have
        a blank line.
    """
    # Lazily: of thousands of prompts, only those up to the last chosen one are tokenised.
    examples = ((number, Example(prompt, "")) for number, prompt in enumerate(prompts))
    asked = (
        (number, example)
        for number, example in examples
        if example.bare is not None and len(_prompt(runtime.base, example, "full")) <= _MAX_TOKENS
    )
    chosen = dict(islice(asked, most))
    if not chosen:
        return {}
    questions = [_question(runtime.base, example, "full") for example in chosen.values()]
    with runtime.lock:
        (answers,) = answer(runtime, [questions], teacher)
    return dict(zip(chosen, answers, strict=True))


def bare_questions(
    base: BaseModel, prompts: Sequence[str], references: Sequence[Answer] | None = None
) -> list[Question]:
    """Build questions from prompts without their instruction.

    Args:
        base: Base model whose tokenizer is used.
        prompts: Prompts with a blank line each.
        references: Answers to compute the loss of, instead of generating. Without them the loss is
            meaningless.
    """
    questions = [_question(base, Example(prompt, ""), "bare") for prompt in prompts]
    return questions if references is None else _weighing(questions, references)


def full_questions(
    base: BaseModel, prompts: Sequence[str], references: Sequence[Answer]
) -> list[Question]:
    """Build questions that score given answers to whole prompts, without generating."""
    return _weighing(
        [_question(base, Example(prompt, ""), "full") for prompt in prompts], references
    )


def _weighing(questions: Sequence[Question], references: Sequence[Answer]) -> list[Question]:
    return [one.weighing(given) for one, given in zip(questions, references, strict=True)]


def _prompt(base: BaseModel, example: Example, mode: Mode) -> tuple[int, ...]:
    encoded = encode_example(base.tokenizer, example, mode)
    assert encoded is not None
    return encoded.ids[: encoded.start]


def _question(base: BaseModel, example: Example, mode: Mode) -> Question:
    # Every question needs a reference. This one lends its end of turn to `weighing`; its loss means
    # nothing.
    return Question(_prompt(base, example, mode), (base.turn_end,), (), _MAX_NEW_TOKENS)
