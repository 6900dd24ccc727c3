"""Whether an adapter carries its instruction: answers without it beside the model's with it.

The model wears what all of a generator's adapters share, reads the whole prompt and answers; the
adapter answers the bare input alone. Where both say the same, the adapter needs no instruction.
This takes no labels, and over unseen tasks it foretells what an adapter gains (a report says how
well). Knows token ids and adapters; judges nothing.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from dnd_engine.checks.results import Agreement
from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.models.base import BaseModel
from dnd_engine.models.runtime import Runtime
from dnd_engine.scoring.answers import answer
from dnd_engine.scoring.questions import Answer, Question
from dnd_engine.tasks.folder import Example, Mode
from dnd_engine.training.examples import encode_example

__all__ = ["agreement", "answers_when_told", "bare_questions"]

_MOST_PROMPTS = 8
"""Two batches of so many answers take one to two seconds on two CPU cores."""
_MOST_TOKENS = 256
"""Longer prompts are left out."""
_MOST_NEW_TOKENS = 24
"""What is compared: the beginnings of long answers."""


def agreement(
    runtime: Runtime,
    adapter: FittedLoRA,
    teacher: FittedLoRA,
    prompts: Sequence[str],
) -> Agreement | None:
    """Compare greedy answers to the first few prompts that can be asked without instruction.

    Args:
        runtime: The frozen base; its lock is held for one batch at a time.
        adapter: Answers bare inputs.
        teacher: Answers whole prompts.
        prompts: Instruction, blank line and input.

    Returns:
        None if no prompt is short enough and has a blank line.
    """
    told = answers_when_told(runtime, teacher, prompts, most=_MOST_PROMPTS)
    if not told:
        return None
    questions = bare_questions(runtime.base, [prompts[number] for number in told])
    with runtime.lock:
        (answers,) = answer(runtime, [questions], adapter)
    same = sum(one.ids == other.ids for one, other in zip(answers, told.values(), strict=True))
    return Agreement(same, len(told))


def answers_when_told(
    runtime: Runtime,
    teacher: FittedLoRA,
    prompts: Sequence[str],
    most: int | None = None,
) -> dict[int, Answer]:
    """Answer whole prompts greedily.

    Returns:
        By the number of the prompt; those that are long, or have no blank line, are left out, and
        those beyond the first `most`.
    """
    examples = ((number, Example(prompt, "")) for number, prompt in enumerate(prompts))
    asked = (
        (number, example)
        for number, example in examples
        if example.bare is not None and len(_prompt(runtime.base, example, "full")) <= _MOST_TOKENS
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
    """Ask prompts without their instruction.

    Args:
        base: Whose tokens they are.
        prompts: With a blank line each.
        references: Answers whose loss is asked for, and then nothing is written. Without them
            the loss says nothing.
    """
    questions = [_question(base, Example(prompt, ""), "bare") for prompt in prompts]
    if references is None:
        return questions
    return [
        replace(
            question,
            max_new_tokens=0,
            # An answer that was cut off has no end to be scored.
            reference=other.ids
            if len(other.ids) == _MOST_NEW_TOKENS
            else (*other.ids, *question.reference),
        )
        for question, other in zip(questions, references, strict=True)
    ]


def _prompt(base: BaseModel, example: Example, mode: Mode) -> tuple[int, ...]:
    encoded = encode_example(base.tokenizer, example, mode)
    assert encoded is not None
    return encoded.ids[: encoded.start]


def _question(base: BaseModel, example: Example, mode: Mode) -> Question:
    end = base.tokenizer.eos_token_id
    assert isinstance(end, int)
    return Question(_prompt(base, example, mode), (end,), (), _MOST_NEW_TOKENS)
