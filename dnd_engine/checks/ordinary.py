"""Whether an adapter leaves ordinary messages alone: the model should answer as the base does.

The base answers messages that are unrelated to any task, greedily. Base and adapted model then
score these answers, and a message counts as unchanged where the base's answer is about as likely
under both. The shipped messages (`assets/ordinary-check.txt`, ours) are disjoint from those that
the imprint's penalty uses. The base's answers are computed once per base and cached on disk.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from dnd_engine.checks.results import Ordinary
from dnd_engine.checks.skills import ANSWER_TOKENS, known_answers, right_answers
from dnd_engine.files import asset_path, write_whole
from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.models.runtime import Runtime
from dnd_engine.scoring.answers import answer_all
from dnd_engine.scoring.questions import Question, open_question

logger = logging.getLogger(__name__)

_ANSWER_TOKENS = 16
"""Tokens of the base's answer to compare: the beginning shows its style."""

LIMIT = 0.5
"""Nats per token by which the base's answer may become less likely before it counts as changed."""


@dataclass(frozen=True, slots=True)
class BaseAnswers:
    """The base's answers to messages, as references for scoring."""

    questions: tuple[Question, ...]
    """Each scores an answer of the base and generates nothing, see `Question.weighing`."""
    nlls: tuple[float, ...]
    """The base's own loss on each answer, in nats per token."""
    known: tuple[bool, ...] = ()
    """Whether the base answers each question with a known answer right (see `skills`)."""


_BASE_ANSWERS = TypeAdapter(BaseAnswers)


def check_messages() -> tuple[str, ...]:
    """Return the shipped messages."""
    text = asset_path("ordinary-check.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())


def base_answers(runtime: Runtime, messages: Sequence[str]) -> BaseAnswers:
    """Let the base answer messages, each in a chat of its own.

    The result serves every adapter. The runtime's lock is held for one batch at a time.
    """
    tokenizer = runtime.base.tokenizer
    asked = [open_question(tokenizer, text, _ANSWER_TOKENS) for text in messages]
    answers = answer_all(runtime, asked, None)
    questions = tuple(one.weighing(given) for one, given in zip(asked, answers, strict=True))
    nlls = tuple(one.nll for one in answer_all(runtime, questions, None))
    return BaseAnswers(questions, nlls)


def kept_base_answers(runtime: Runtime, cache: Path) -> BaseAnswers:
    """Return the base's answers to shipped messages and questions, kept in a cache folder."""
    messages, items = check_messages(), known_answers()
    # Cached per device type: a GPU and a CPU round differently, so answers may differ.
    device, dtype = runtime.base.device.type, str(next(runtime.base.model.parameters()).dtype)
    key = repr(
        (runtime.base.weights.sha256, device, dtype, _ANSWER_TOKENS, messages, ANSWER_TOKENS, items)
    )
    # Bases of equal weights may have other templates, as after an update on the Hub.
    key += repr(open_question(runtime.base.tokenizer, messages[0], _ANSWER_TOKENS).prompt)
    path = cache / f"answers-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    if path.is_file():
        try:
            return _BASE_ANSWERS.validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            logger.warning("Asking ordinary messages again: `%s` is damaged (%s).", path, error)
    found = base_answers(runtime, messages)
    found = replace(found, known=right_answers(runtime, None, items))
    try:
        write_whole(path, json.dumps(asdict(found)))
    except OSError as error:
        # Only time is lost: the next start asks the base again.
        logger.warning("Answers to ordinary messages are not kept in `%s`: %s.", cache, error)
    return found


def ordinary_share(runtime: Runtime, fitted: FittedLoRA, expected: BaseAnswers) -> Ordinary:
    """Count messages that the adapted model answers as the base does (see `kept_base_answers`)."""
    found = answer_all(runtime, expected.questions, fitted)
    # Losses rather than equal tokens: most answers that differ are still in the base's manner.
    same = sum(one.nll <= nll + LIMIT for one, nll in zip(found, expected.nlls, strict=True))
    return Ordinary(same, len(found), LIMIT)
