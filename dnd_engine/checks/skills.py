"""Whether an adapter harms the base's abilities, tested on a few questions with known answers.

The shipped questions (`assets/known-answers.csv`, ours) are sums, plurals, opposites, spelling and
facts. An answer is right if its beginning names one of the expected words. `ordinary` checks
whether answers keep their style; this checks whether they stay right.
"""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass

from dnd_engine.checks.results import Skills
from dnd_engine.files import asset_path
from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.models.runtime import Runtime
from dnd_engine.scoring.answers import answer_batch
from dnd_engine.scoring.questions import open_question, text_of

ANSWER_TOKENS = 20
"""The embedded base names the answer within its first sentence."""


@dataclass(frozen=True, slots=True)
class KnownAnswer:
    """A question, and words of which any one counts as a right answer."""

    question: str
    answers: tuple[str, ...]

    def is_right(self, text: str) -> bool:
        """Return whether a text contains the answer. Case matters if the answer is all capitals."""
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
    """Answer questions greedily in one batch, and return whether each answer is right.

    Without an adapter, the base answers.
    """
    tokenizer = runtime.base.tokenizer
    questions = [open_question(tokenizer, item.question, ANSWER_TOKENS) for item in items]
    answers = answer_batch(runtime, questions, fitted)
    pairs = zip(items, answers, strict=True)
    return tuple(item.is_right(text_of(tokenizer, one)) for item, one in pairs)


def skills(runtime: Runtime, fitted: FittedLoRA, before: Sequence[bool]) -> Skills:
    """Count the shipped questions answered right by the base (`before`) and with the adapter."""
    after = right_answers(runtime, fitted, known_answers())
    lost = sum(was and not now for was, now in zip(before, after, strict=True))
    return Skills(sum(before), sum(after), lost, len(after))
