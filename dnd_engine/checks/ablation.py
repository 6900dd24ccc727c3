"""Whether an adapter depends on the prompts it was made from.

On some of its own prompts without their instruction, the adapter is compared with controls from the
same generator: one made from another task's prompts, one made from its own prompts with shuffled
words, the part that all adapters share, and no adapter. The score is the loss on the instructed
model's answers: those of the imprint's teacher, else of the shared part. If a control scores as
well, the prompts made no difference. Takes no labels and gives no verdict.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Literal

import numpy as np

from dnd_engine.checks.agreement import bare_questions, instructed_answers
from dnd_engine.checks.results import CONTROLS, Conditioning, Control, ControlName
from dnd_engine.checks.subject import Reference
from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.models.runtime import Runtime
from dnd_engine.prompts.buckets import Bucket
from dnd_engine.prompts.files import PromptFile
from dnd_engine.prompts.split import split_prompt
from dnd_engine.scoring.answers import answer_batch
from dnd_engine.scoring.questions import Answer

MAX_PROMPTS = 16
"""Each prompt is answered once and read by five models: a few seconds on two CPU cores."""

Candidate = tuple[ControlName | Literal["adapter"], FittedLoRA | None, Sequence[int]]
"""Name of the condition, active adapter, and indices of the prompts it is measured on: each bucket
has a wrong adapter of its own."""


def compare_conditions(
    runtime: Runtime,
    references: Sequence[Reference],
    candidates: Sequence[Candidate],
    wrong_from: Sequence[str],
) -> Conditioning | None:
    """Score all candidates on their teachers' answers to the instructed prompts.

    Args:
        runtime: The frozen base; its lock is held for one batch at a time.
        references: Each bucket's teacher and prompts, which are an instruction, a blank line and an
            input. Candidates count the prompts of all buckets, one after the other.
        candidates: Conditions, one of them `adapter`. Those of one name cover all prompts.
        wrong_from: Names of the buckets behind the wrong adapters.

    Returns:
        The comparison; None with fewer than two short prompts that have a blank line.
    """
    prompts: list[str] = []
    instructed: dict[int, Answer] = {}
    for reference in references:
        answers = instructed_answers(runtime, reference.teacher, reference.prompts)
        instructed |= {len(prompts) + number: answer for number, answer in answers.items()}
        prompts += reference.prompts
    if len(instructed) < 2:
        return None
    # By condition and prompt: the wrong adapters of several buckets make up one control.
    found: dict[str, dict[int, float]] = {}
    for name, active, numbers in candidates:
        mine = [number for number in numbers if number in instructed]
        if not mine:
            continue
        questions = bare_questions(
            runtime.base, [prompts[n] for n in mine], [instructed[n] for n in mine]
        )
        scored = answer_batch(runtime, questions, active)
        found.setdefault(name, {}).update((n, a.nll) for n, a in zip(mine, scored, strict=True))
    nlls = {name: np.array([losses[n] for n in instructed]) for name, losses in found.items()}
    own = nlls["adapter"]
    controls = tuple(
        Control(name, float(nlls[name].mean()), *_saved(nlls[name] - own))
        for name in CONTROLS
        if name in nlls
    )
    return Conditioning(float(own.mean()), len(instructed), controls, tuple(wrong_from))


def _saved(differences: "np.ndarray[Any, np.dtype[np.float64]]") -> tuple[float, float, float]:
    """Return the mean and its 95 % interval."""
    mean = float(differences.mean())
    if np.ptp(differences) == 0:  # nothing varies: Student's t would divide by zero
        return mean, mean, mean
    from scipy.stats import ttest_1samp  # takes half a second

    low, high = ttest_1samp(differences, 0).confidence_interval(0.95)
    return mean, float(low), float(high)


def shuffled(buckets: Sequence[Bucket], seed: int) -> tuple[Bucket, ...]:
    """Return the buckets with the words of every prompt shuffled."""
    # A string seed gives the same numbers in every process, unlike its `hash`.
    chance = random.Random(f"{seed}:shuffled")

    def turn(bucket: Bucket, file: PromptFile) -> PromptFile:
        whole = map(bucket.whole, file.prompts)
        prompts = (replace(p, text=shuffle_words(p.text, chance)) for p in whole)
        return replace(file, prompts=tuple(prompts))

    # The instruction is among the shuffled words, so none is left to put above them.
    return tuple(
        replace(b, files=tuple(turn(b, file) for file in b.files), instruction="") for b in buckets
    )


def shuffle_words(text: str, chance: random.Random) -> str:
    """Shuffle the words of a text; line breaks are lost."""
    words = text.split()
    chance.shuffle(words)
    return " ".join(words)


def others(
    buckets: Sequence[Bucket], elsewhere: Sequence[Bucket]
) -> list[tuple[Bucket, tuple[Bucket, ...]]]:
    """Choose the buckets that each bucket's wrong adapter is made from.

    Of several buckets, each gets the others; a single one gets those from elsewhere.
    """
    if len(buckets) < 2:
        return [(mine, tuple(elsewhere)) for mine in buckets]
    return [(mine, tuple(b for b in buckets if b is not mine)) for mine in buckets]


def some_prompts(bucket: Bucket, most: int) -> list[str]:
    """Return the first few prompts that have a removable instruction."""
    telling = (p.text for p in bucket.prompts if split_prompt(p.text).input is not None)
    return list(islice(telling, most))
