"""Further wordings of the instructions of tasks, which a training draws from.

Most public tasks ask in one wording, which a model then learns as a name of the task. Read in
seven, an instruction has to be understood.

Source: Sanh et al. 2021, arXiv:2110.08207, who found that more prompts a task help on unseen tasks.
"""

import hashlib
import io
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from dnd_engine.errors import TaskError
from dnd_engine.prompts.split import split_prompt
from dnd_engine.tasks.folder import Example, Task, check_whole

_FIELDS = ("slug", "instruction_sha256", "wordings")

Wordings = Mapping[tuple[str, str], Sequence[str]]
"""By a task's slug and the digest of one of its instructions, others that ask for the same."""


def read_wordings(path: Path) -> Wordings:
    """Read a file of wordings: JSON Lines with `slug`, `instruction_sha256` and a list `wordings`.

    The digest stands for the task's own instruction, so that the file holds nothing of its data.

    Raises:
        TaskError: If it cannot be read, or a line is malformed; names the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"`{path}` cannot be read: {error}.") from error
    found: dict[tuple[str, str], Sequence[str]] = {}
    for number, line in enumerate(io.StringIO(text), start=1):
        if line.strip():
            slug, digest, wordings = _parse(line, f"`{path}`, line {number}")
            found[slug, digest] = wordings
    return found


def reworded(task: Task, wordings: Wordings, seed: int) -> Task:
    """The task with the instruction of each training example drawn from all its wordings.

    Test sides are left as they are, and so are instructions without other wordings. The draws of
    one task do not depend on other tasks.
    """
    rng = random.Random(f"{seed}:wordings:{task.info.slug}")
    return replace(
        task, train=tuple(_reworded(e, task.info.slug, wordings, rng) for e in task.train)
    )


def instruction_digest(instruction: str) -> str:
    """The SHA-256 by which a file of wordings knows an instruction."""
    return hashlib.sha256(instruction.encode()).hexdigest()


def _parse(line: str, where: str) -> tuple[str, str, Sequence[str]]:
    """One line of a file of wordings."""
    try:
        values = json.loads(line)
        slug, digest, wordings = (values[name] for name in _FIELDS)
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise TaskError(
            f"{where}: expected a JSON object with {', '.join(f'`{n}`' for n in _FIELDS)}, got "
            f"{line.strip()[:80]!r}."
        ) from error
    if not isinstance(wordings, list):
        raise TaskError(f"{where}: `wordings` must be a list, got a {type(wordings).__name__}.")
    if not isinstance(slug, str) or not isinstance(digest, str):
        raise TaskError(f"{where}: `slug` and `instruction_sha256` must be text.")
    for text in wordings:
        # A blank line would end the instruction before its end.
        if not isinstance(text, str) or split_prompt(f"{text}\n\nx").instruction != text:
            raise TaskError(f"{where}: expected text without a blank line, got {text!r:.80}.")
        try:
            check_whole("wordings", text)
        except ValueError as error:
            raise TaskError(f"{where}: {error}.") from error
    return slug, digest, wordings


def _reworded(example: Example, slug: str, wordings: Wordings, rng: random.Random) -> Example:
    parts = split_prompt(example.prompt)
    others = wordings.get((slug, instruction_digest(parts.instruction)), ())
    wording = rng.choice((parts.instruction, *others))
    if parts.input is None or wording == parts.instruction:
        return example
    return replace(example, prompt=f"{wording}\n\n{parts.input}")
