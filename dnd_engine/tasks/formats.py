"""Answer formats: any short-answer task, asked for and answered in brackets, JSON, a tag and so on.

A model can separate format and operation only if each occurs with many of the other. So formats are
put on tasks when these are used, not when they are stored. One pair in five of task and format is
never trained, and two formats are not trained at all.
"""

import hashlib
import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, replace
from statistics import median
from types import MappingProxyType
from typing import Literal

from dnd_engine.prompts.split import split_prompt
from dnd_engine.tasks.folder import Example, Task
from dnd_engine.tasks.lists import read_lists

_SHORT_CHARS = 80
"""Median answer of a short-answer task."""
_MAX_CHARS = 200
"""Longest answer of a short-answer task."""
_HELD_OUT_PAIRS = 5
"""One pair of task and format in this many is held out."""
_VALIDATION_EXAMPLES = 20
"""Last train examples, which use the validation wordings. Those of them that the trainer does not
hold back (see `validation_examples` of its recipe) are trained on."""


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """Something around an answer, and how instructions ask for it."""

    name: str
    _: KW_ONLY
    before: str
    after: str = ""
    held_out: bool = False
    """Never trained."""

    @property
    def wordings(self) -> tuple[str, ...]:
        """Sentences that ask for it.

        Of the last three, two are for the last train examples and one is for the test side.
        """
        return read_lists("formats")[self.name]

    def wrap(self, answer: str) -> str:
        """Put an answer into the format."""
        return f"{self.before}{answer}{self.after}"

    def unwrap(self, text: str) -> str | None:
        """Take the answer out; None unless the whole text is in the format, around something."""
        # Wrapping it again finds a mark that was missing, and `***`, where both marks share a star.
        inside = text.removeprefix(self.before).removesuffix(self.after)
        return inside if inside.strip() and self.wrap(inside) == text else None


@dataclass(frozen=True, slots=True)
class _JsonFormat(AnswerFormat):
    """A JSON object with one key; quotes and backslashes in the answer are escaped."""

    def wrap(self, answer: str) -> str:
        # Letters stay readable: `ä`, not `\u00e4`.
        inside = json.dumps(answer, ensure_ascii=False)
        return f"{self.before}{inside}{self.after}"

    def unwrap(self, text: str) -> str | None:
        """JSON leaves white space open, and so does this."""
        try:
            value = json.loads(text)
        # A model may write opening brackets until it is stopped, too deep for the parser.
        except (ValueError, RecursionError):
            return None
        if not isinstance(value, dict) or list(value) != ["answer"]:
            return None
        inside = value["answer"]
        return inside if isinstance(inside, str) and inside.strip() else None


ANSWER_FORMATS: Mapping[str, AnswerFormat] = MappingProxyType(
    {
        found.name: found
        for found in (
            # `expand` draws from this order: another one gives other tasks for the same seed.
            _JsonFormat("json", before='{"answer": ', after="}"),
            AnswerFormat("square", before="[", after="]"),
            AnswerFormat("quotes", before='"', after='"'),
            AnswerFormat("tag", before="<answer>", after="</answer>"),
            AnswerFormat("prefix", before="Answer: "),
            AnswerFormat("bullet", before="- "),
            AnswerFormat("arrow", before="-> "),
            AnswerFormat("backticks", before="`", after="`"),
            AnswerFormat("bold", before="**", after="**", held_out=True),
            AnswerFormat("round", before="(", after=")", held_out=True),
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
    """A task made to ask and answer in a format of `ANSWER_FORMATS`; `seed` draws the wordings.

    Call it for tasks of which `is_short_answer` is true.

    The last train examples and the test side have wordings of their own; only those of the test
    side are never trained on.
    """
    chosen = ANSWER_FORMATS[name]
    rng = random.Random(f"{seed}:format:{task.info.slug}:{name}")
    *trained, first, second, tested = chosen.wordings
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
            *(_formatted(e, chosen, rng.choice((first, second))) for e in task.train[cut:]),
        ),
        tuple(_formatted(e, chosen, tested) for e in task.test),
    )


def pair_is_held_out(slug: str, name: str) -> bool:
    """Whether a task is never trained in a format; so it is for about one pair in five."""
    # Without a seed, so that every training leaves out the same pairs, which every evaluation can
    # then use. `hash` would not do: it differs between processes.
    digest = hashlib.sha256(f"{slug}~{name}".encode()).digest()
    return int.from_bytes(digest[:8]) % _HELD_OUT_PAIRS == 0


def expand(tasks: Iterable[Task], *, per_task: int, seed: int) -> tuple[Task, ...]:
    """Tasks for training: each as it is and, if its answers are short, in some formats.

    Up to `per_task` formats are drawn from those that are trained with it.
    """
    found: list[Task] = []
    for task in tasks:
        found.append(task)
        if per_task and is_short_answer(task):
            slug = task.info.slug
            names = [n for n in _names(held_out=False) if not pair_is_held_out(slug, n)]
            # Seeded by the task, so that its formats do not depend on the other tasks.
            rng = random.Random(f"{seed}:formats:{slug}")
            chosen = rng.sample(names, min(per_task, len(names)))
            found += [formatted(task, name, seed) for name in chosen]
    return tuple(found)


def unseen(
    tasks: Iterable[Task],
    holdout: Literal["pair", "format"],
    *,
    limit: int | None = None,
    seed: int,
) -> tuple[Task, ...]:
    """Trained tasks in formats that they were never trained in, for evaluation.

    Args:
        tasks: Those of the train split, in no format.
        holdout: `pair` for trained formats that were never put together with the task, `format`
            for formats that are never trained.
        limit: Maximum number of pairs of task and format; None is all.
        seed: Draws these pairs, and wordings.
    """
    names = _names(held_out=holdout == "format")
    pairs = [
        (task, name)
        for task in tasks
        if is_short_answer(task)
        for name in names
        if holdout == "format" or pair_is_held_out(task.info.slug, name)
    ]
    count = len(pairs) if limit is None else min(limit, len(pairs))
    chosen = random.Random(f"{seed}:unseen:{holdout}").sample(pairs, count)
    made = (formatted(task, name, seed) for task, name in chosen)
    return tuple(
        Task(replace(task.info, split="heldout", holdout=holdout), task.train, task.test)
        for task in made
    )


def _names(*, held_out: bool) -> list[str]:
    return [name for name, found in ANSWER_FORMATS.items() if found.held_out == held_out]


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
        # The last of several lines may belong to a text, so the sentence does not continue it.
        between = "\n"
    elif instruction[-1:].isalnum():
        between = ". "
    else:
        between = " "
    return replace(parts, instruction=f"{instruction}{between}{sentence}").joined
