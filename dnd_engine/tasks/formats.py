"""Answer formats: any short-answer task, asked for and answered in brackets, JSON, a tag and so on.

A model can separate format and operation only if each occurs with many of the other. So formats are
put on tasks when these are used, not when they are stored. One pair in five of task and format is
never trained, and two formats are not trained at all.
"""

import hashlib
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from types import MappingProxyType

from dnd_engine.errors import ConfigError
from dnd_engine.prompts.split import split_prompt
from dnd_engine.tasks.folder import Example, Task

__all__ = [
    "FORMATS",
    "AnswerFormat",
    "asking",
    "expand",
    "formatted",
    "is_short_answer",
    "pair_is_held_out",
    "unseen_formats",
    "unseen_pairs",
]

_SHORT_CHARS = 80
"""Median answer of a short-answer task."""
_MAX_CHARS = 200
"""Longest answer of a short-answer task."""
_HELD_OUT_PAIRS = 5
"""One pair of task and format in this many is held out."""
_VALIDATION_EXAMPLES = 20
"""Last train examples, which use the validation wordings. Those of them that the trainer does not
hold back (see `validation_examples` of its recipe) are trained on."""
_NUM_VALIDATION, _NUM_TEST = 2, 1
"""Wordings at the end of each list: of the last train examples, and of the test side, which are
never trained on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFormat:
    """Something around an answer, and how instructions ask for it."""

    name: str
    before: str
    after: str
    wordings: tuple[str, ...]
    """Sentences that ask for it: of most train examples, then two of the last, one of the test."""
    held_out: bool = False
    """Never trained."""

    def wrap(self, answer: str) -> str:
        """Put an answer into the format."""
        return f"{self.before}{answer}{self.after}"

    def unwrap(self, text: str) -> str | None:
        """Take the answer out; None unless the whole text is in the format, around something."""
        inside = text.removeprefix(self.before).removesuffix(self.after)
        return inside if inside.strip() and self.wrap(inside) == text else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _JsonFormat(AnswerFormat):
    """A JSON object with one key; quotes and backslashes in the answer are escaped."""

    def wrap(self, answer: str) -> str:
        inside = json.dumps(answer, ensure_ascii=False)
        return f"{self.before}{inside}{self.after}"

    def unwrap(self, text: str) -> str | None:
        """JSON leaves white space open, and so does this."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if not isinstance(value, dict) or list(value) != ["answer"]:
            return None
        inside = value["answer"]
        return inside if isinstance(inside, str) and inside.strip() else None


FORMATS: Mapping[str, AnswerFormat] = MappingProxyType(
    {
        found.name: found
        for found in (
            _JsonFormat(
                name="json",
                before='{"answer": ',
                after="}",
                wordings=(
                    "Give the answer as a JSON object with the key answer.",
                    "Reply in JSON, with the answer under the key answer.",
                    "Output JSON with one field, answer.",
                    "Write the result as a JSON object whose only key is answer.",
                    "Use JSON for the reply; the key is answer.",
                    "Put the answer into a JSON object, key answer.",
                    "Return a JSON object that has the answer under answer.",
                    "Your reply must be a JSON object with a field called answer.",
                ),
            ),
            AnswerFormat(
                name="square",
                before="[",
                after="]",
                wordings=(
                    "Put the answer in square brackets.",
                    "Enclose your answer in square brackets.",
                    "Reply with the answer between [ and ].",
                    "Write the result inside square brackets.",
                    "Use square brackets around the answer.",
                    "The answer goes between square brackets.",
                    "Wrap the answer in [ ].",
                    "Your reply must start with [ and end with ].",
                ),
            ),
            AnswerFormat(
                name="quotes",
                before='"',
                after='"',
                wordings=(
                    "Put the answer in double quotes.",
                    "Enclose your answer in quotation marks.",
                    "Reply with the answer between double quotes.",
                    "Write the result inside quotation marks.",
                    "Use double quotes around the answer.",
                    "The answer goes between quotation marks.",
                    "Wrap the answer in double quotes.",
                    "Your reply must start and end with a double quote.",
                ),
            ),
            AnswerFormat(
                name="tag",
                before="<answer>",
                after="</answer>",
                wordings=(
                    "Put the answer in an answer tag.",
                    "Enclose your answer in <answer> and </answer>.",
                    "Reply with the answer inside an XML tag named answer.",
                    "Write the result between <answer> tags.",
                    "Use an <answer> element for the reply.",
                    "The answer goes into an XML element called answer.",
                    "Wrap the answer in <answer> tags.",
                    "Your reply must start with <answer> and end with </answer>.",
                ),
            ),
            AnswerFormat(
                name="prefix",
                before="Answer: ",
                after="",
                wordings=(
                    "Start your reply with Answer: and a space.",
                    "Write Answer: in front of the answer.",
                    "Reply in the form Answer: x.",
                    "Begin with the word Answer and a colon.",
                    "Put Answer: before the result.",
                    "Let the reply begin with Answer: and a space.",
                    "Use the form Answer: followed by the answer.",
                    "Your reply must open with Answer and a colon.",
                ),
            ),
            AnswerFormat(
                name="bullet",
                before="- ",
                after="",
                wordings=(
                    "Give the answer as a bullet point with a dash.",
                    "Start your reply with a dash and a space.",
                    "Write the answer as a list item, dash first.",
                    "Put a dash and a space before the answer.",
                    "Reply with one bullet that begins with a dash.",
                    "Format the answer as a dashed list item.",
                    "Use a dash as a bullet in front of the answer.",
                    "Your reply must be a single bullet point with a dash.",
                ),
            ),
            AnswerFormat(
                name="arrow",
                before="-> ",
                after="",
                wordings=(
                    "Put an arrow, ->, before the answer.",
                    "Start your reply with -> and a space.",
                    "Write the answer after an arrow ->.",
                    "Reply in the form -> x.",
                    "Let an arrow -> point to the answer.",
                    "Begin with the arrow ->.",
                    "Use -> in front of the result.",
                    "Your reply must open with an arrow, ->.",
                ),
            ),
            AnswerFormat(
                name="backticks",
                before="`",
                after="`",
                wordings=(
                    "Put the answer in backticks.",
                    "Enclose your answer in single backticks.",
                    "Reply with the answer as inline code.",
                    "Write the result between backticks.",
                    "Use backticks around the answer.",
                    "Format the answer as inline code with backticks.",
                    "Wrap the answer in backticks.",
                    "Your reply must start and end with a backtick.",
                ),
            ),
            AnswerFormat(
                name="bold",
                before="**",
                after="**",
                held_out=True,
                wordings=(
                    "Write the answer in bold, between double stars.",
                    "Put two stars before and two stars after the answer.",
                    "Make the answer bold in Markdown.",
                    "Enclose your answer in double asterisks.",
                    "Reply with the answer in Markdown bold.",
                    "Use ** around the answer.",
                    "Wrap the answer in double stars.",
                    "Your reply must start and end with **.",
                ),
            ),
            AnswerFormat(
                name="round",
                before="(",
                after=")",
                held_out=True,
                wordings=(
                    "Put the answer in round brackets.",
                    "Enclose your answer in parentheses.",
                    "Reply with the answer between ( and ).",
                    "Write the result inside parentheses.",
                    "Use round brackets around the answer.",
                    "The answer goes between parentheses.",
                    "Wrap the answer in ( ).",
                    "Your reply must start with ( and end with ).",
                ),
            ),
        )
    }
)
"""By name; the last two are held out."""


def is_short_answer(task: Task) -> bool:
    """Whether a format around the answers of a task makes sense.

    So it does where answers are compared as a whole, are single lines and mostly short, and where
    the task is not in a format already.
    """
    answers = [e.response for e in (*task.train, *task.test)]
    return (
        task.info.metric in ("choice", "exact")
        and not task.info.answer_format
        and not any("\n" in answer or len(answer) > _MAX_CHARS for answer in answers)
        and median(map(len, answers)) <= _SHORT_CHARS
    )


def formatted(task: Task, name: str, seed: int) -> Task:
    """A task whose prompts ask for a format, and whose answers and options stand in it.

    Args:
        task: A short-answer task in no format; it stays as it is.
        name: Of the format.
        seed: Of the wordings. The last train examples and the test side have wordings of their own;
            only those of the test side are never trained on.

    Raises:
        ConfigError: If there is no such format, or the task is not for one.
    """
    if name not in FORMATS:
        raise ConfigError(f"format {name!r}: expected one of {', '.join(FORMATS)}.")
    if not is_short_answer(task):
        raise ConfigError(
            f"task `{task.info.slug}`: expected short answers in no format yet, to put them into "
            f"the format {name}. Ask `is_short_answer` first."
        )
    chosen = FORMATS[name]
    rng = random.Random(f"{seed}:format:{task.info.slug}:{name}")
    last = len(chosen.wordings) - _NUM_TEST
    trained, checked = chosen.wordings[: last - _NUM_VALIDATION], chosen.wordings[:last]
    # A small task keeps most of its examples for training.
    held = min(_VALIDATION_EXAMPLES, len(task.train) // 5)
    cut = len(task.train) - held
    return Task(
        replace(
            task.info,
            slug=f"{task.info.slug}~{name}",
            description=f"{task.info.description} {trained[0]}".strip(),
            answer_format=name,
            variant=name,
        ),
        (
            *(_formatted(e, chosen, rng.choice(trained)) for e in task.train[:cut]),
            *(
                _formatted(e, chosen, rng.choice(checked[-_NUM_VALIDATION:]))
                for e in task.train[cut:]
            ),
        ),
        tuple(_formatted(e, chosen, chosen.wordings[-1]) for e in task.test),
    )


def pair_is_held_out(slug: str, name: str) -> bool:
    """Whether a task is never trained in a format; so it is for about one pair in five.

    Args:
        slug: Of the task in no format.
        name: Of the format.
    """
    digest = hashlib.sha256(f"{slug}~{name}".encode()).digest()
    return int.from_bytes(digest[:8]) % _HELD_OUT_PAIRS == 0


def expand(tasks: Iterable[Task], *, per_task: int, seed: int) -> tuple[Task, ...]:
    """Tasks for training: each as it is and, if its answers are short, in some formats.

    Args:
        tasks: In no format.
        per_task: Formats of each at most, of those that are trained with it.
        seed: Of the choice of formats and wordings.

    Raises:
        ConfigError: If `per_task` is negative.
    """
    if per_task < 0:
        raise ConfigError(f"`per_task` must be 0 or more, got {per_task}.")
    found: list[Task] = []
    for task in tasks:
        found.append(task)
        if per_task and is_short_answer(task):
            slug = task.info.slug
            names = [n for n in _names(held_out=False) if not pair_is_held_out(slug, n)]
            rng = random.Random(f"{seed}:formats:{slug}")
            chosen = rng.sample(names, min(per_task, len(names)))
            found += [formatted(task, name, seed) for name in chosen]
    return tuple(found)


def unseen_pairs(tasks: Iterable[Task], *, limit: int, seed: int) -> tuple[Task, ...]:
    """Trained tasks in trained formats that were never put together, for evaluation.

    Args:
        tasks: Of the train split, in no format.
        limit: Pairs at most, drawn by seed.
        seed: Of the draw and the wordings.
    """
    pairs = [
        (task, name)
        for task in tasks
        if is_short_answer(task)
        for name in _names(held_out=False)
        if pair_is_held_out(task.info.slug, name)
    ]
    return _unseen(pairs, "pair", limit, seed)


def unseen_formats(tasks: Iterable[Task], *, limit: int, seed: int) -> tuple[Task, ...]:
    """Trained tasks in formats that are never trained, for evaluation.

    Args:
        tasks: Of the train split, in no format.
        limit: Pairs of task and format at most, drawn by seed.
        seed: Of the draw and the wordings.
    """
    names = _names(held_out=True)
    pairs = [(task, name) for task in tasks if is_short_answer(task) for name in names]
    return _unseen(pairs, "format", limit, seed)


def _unseen(
    pairs: Sequence[tuple[Task, str]], holdout: str, limit: int, seed: int
) -> tuple[Task, ...]:
    if limit < 1:
        raise ConfigError(f"`limit` must be at least 1, got {limit}.")
    chosen = random.Random(f"{seed}:unseen:{holdout}").sample(pairs, min(limit, len(pairs)))
    made = (formatted(task, name, seed) for task, name in chosen)
    return tuple(
        Task(replace(task.info, split="heldout", holdout=holdout), task.train, task.test)
        for task in made
    )


def _names(*, held_out: bool) -> list[str]:
    return [name for name, found in FORMATS.items() if found.held_out == held_out]


def _formatted(example: Example, chosen: AnswerFormat, wording: str) -> Example:
    return Example(
        asking(example.prompt, wording),
        chosen.wrap(example.response),
        tuple(map(chosen.wrap, example.options)),
    )


def asking(prompt: str, sentence: str) -> str:
    """A prompt with a sentence at the end of its instruction, so that the bare input stays."""
    parts = split_prompt(prompt)
    instruction = parts.instruction.rstrip()
    if "\n" in instruction:
        between = "\n"
    elif instruction[-1:].isalnum():
        between = ". "
    else:
        between = " "
    return replace(parts, instruction=f"{instruction}{between}{sentence}").joined
