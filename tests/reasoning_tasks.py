"""Make tasks of the generators of reasoning-gym, which nobody here wrote.

    PYTHONHASHSEED=0 python -m tests.reasoning_tasks FOLDER

Needs `pip install reasoning-gym==0.1.25` (Apache-2.0), which is no dependency. Some generators draw
from sets, so the same tasks need the same hash seed. Every second
generator, by name, is for training; the others are held out whole.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dnd_engine.tasks.folder import Example, Task, TaskInfo, check_new, write_tasks

_PROBED, _DRAWN = 40, 1_000
"""Questions drawn to see whether they fit, and then to choose from."""
_LEFT_OUT = ("codeio", "composite")
"""The one runs programs that come as data, the other wants to be told its parts."""
_TRAIN, _TEST = 200, 40
_MAX_QUESTION, _MAX_ANSWER = 480, 60
"""Characters. A base of 135 M parameters is not examined on longer ones."""
_MIN_WORDS = 3
"""Words of an instruction. Where less is common to all questions, their wordings differ."""


def main(out: Path) -> None:
    """Write the task folder, and print how many tasks it has."""
    # Here, as the package is only there where somebody installed it.
    import reasoning_gym
    from reasoning_gym.factory import DATASETS

    check_new(out)
    tasks: list[Task] = []
    for name in sorted(set(DATASETS) - set(_LEFT_OUT)):
        dataset = reasoning_gym.create_dataset(name, size=_DRAWN, seed=0)
        if _fits([dataset[i] for i in range(_PROBED)]):
            split = "heldout" if len(tasks) % 2 else "train"
            task = _task(name, [dataset[i] for i in range(_DRAWN)], split)
            tasks += [task] if task else []
    write_tasks(out, tasks)
    held_out = sum(task.info.split == "heldout" for task in tasks)
    sys.stdout.write(f"{len(tasks)} tasks, {held_out} of them held out\n")


def _fits(items: Sequence[Mapping[str, Any]]) -> bool:
    """Whether most questions are short and begin or end with the same instruction."""
    pairs = _short(items)
    head, tail = _shared([question for question, _ in pairs])
    return 2 * len(pairs) > len(items) and len(f"{head} {tail}".split()) >= _MIN_WORDS


def _short(items: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Questions and answers that are not too long; some puzzles have no one answer."""
    pairs = [(str(item["question"]).strip(), str(item["answer"] or "").strip()) for item in items]
    return [(q, a) for q, a in pairs if len(q) <= _MAX_QUESTION and 0 < len(a) <= _MAX_ANSWER]


def _task(name: str, items: Sequence[Mapping[str, Any]], split: str) -> Task | None:
    """One generator's questions as a task, or None where too few are left."""
    short = _short(items)
    head, tail = _shared([q for q, _ in short])
    instruction = " ".join(f"{head} {tail}".split())
    # One answer a question, and no question on both sides.
    unique = {q.removeprefix(head).removesuffix(tail).strip(): a for q, a in short}
    examples = [Example(f"{instruction}\n\n{text}", a) for text, a in unique.items() if text]
    if len(examples) < _TRAIN + _TEST:
        return None
    slug = f"gym-{name.replace('_', '-')}"
    info = TaskInfo(
        slug=slug,
        family=slug,
        category="reasoning",
        metric="exact",
        licence="Apache-2.0",
        licence_class="open",
        description=instruction[:120],
        split=split,
    )
    return Task(info, tuple(examples[:_TRAIN]), tuple(examples[_TRAIN : _TRAIN + _TEST]))


def _shared(questions: Sequence[str]) -> tuple[str, str]:
    """What all questions begin and end with, whole words only."""
    head = _common(questions)
    tail = _common([question[len(head) :][::-1] for question in questions])[::-1]
    return head[: _last_space(head)], tail[_first_space(tail) :]


def _common(texts: Sequence[str]) -> str:
    """The beginning of all texts, which the first and the last by the alphabet share too."""
    first, last = min(texts, default=""), max(texts, default="")
    pairs = zip(first, last, strict=False)
    return first[: next((i for i, (a, b) in enumerate(pairs) if a != b), len(first))]


def _last_space(text: str) -> int:
    return max(text.rfind(" "), text.rfind("\n")) + 1


def _first_space(text: str) -> int:
    found = [i for i in (text.find(" "), text.find("\n")) if i >= 0]
    return min(found, default=len(text))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
