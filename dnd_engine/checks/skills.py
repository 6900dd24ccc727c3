"""Whether an adapter harms what the base can do: a few questions whose answers are known.

The shipped questions (`assets/known-answers.csv`, ours) are sums, plurals, opposites, spelling and
facts. An answer is right if its beginning names one of the expected words. `ordinary` asks whether
the manner of answers stays; this asks whether they stay right.
"""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass

from dnd_engine.checks.results import Skills
from dnd_engine.files import asset_path
from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.models.runtime import Runtime
from dnd_engine.scoring.answers import answer
from dnd_engine.scoring.questions import Question

__all__ = ["ANSWER_TOKENS", "KnownAnswer", "known_answers", "right_answers", "skills"]

ANSWER_TOKENS = 20
"""The embedded base names the answer within its first sentence."""


@dataclass(frozen=True, slots=True)
class KnownAnswer:
    """A question, and words of which any one makes an answer right."""

    question: str
    answers: tuple[str, ...]

    def is_right(self, text: str) -> bool:
        """Return whether a text names the answer; capitals count if it is all in capitals."""
        return any(
            re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, 0 if word.isupper() else re.I)
            for word in self.answers
        )


def known_answers() -> tuple[KnownAnswer, ...]:
    """Return the shipped questions."""
    with asset_path("known-answers.csv").open(encoding="utf-8", newline="") as file:
        return tuple(
            KnownAnswer(row["question"], tuple(row["answers"].split("|")))
            for row in csv.DictReader(file)
        )


def right_answers(
    runtime: Runtime, fitted: FittedLoRA | None, items: Sequence[KnownAnswer]
) -> tuple[bool, ...]:
    """Answer questions greedily, in one batch.

    Args:
        runtime: Of the base; its lock is held for the batch.
        fitted: One adapter, or None for the base.
        items: What is asked.

    Returns:
        Which of them are answered right.
    """
    base = runtime.base
    questions = [
        Question(base.chat_ids(item.question), (base.turn_end,), (), ANSWER_TOKENS)
        for item in items
    ]
    with runtime.lock:
        (answers,) = answer(runtime, [questions], fitted)
    texts = [str(base.tokenizer.decode(list(one.ids))) for one in answers]
    return tuple(item.is_right(text) for item, text in zip(items, texts, strict=True))


def skills(runtime: Runtime, fitted: FittedLoRA, before: Sequence[bool]) -> Skills:
    """Count the shipped questions that are answered right before and after an adapter.

    Args:
        runtime: Of the base.
        fitted: The adapter.
        before: Which of them the base answers right.
    """
    after = right_answers(runtime, fitted, known_answers())
    lost = sum(was and not now for was, now in zip(before, after, strict=True))
    return Skills(sum(before), sum(after), lost, len(after))
