"""Several tasks on the very same inputs, so that only their prompts tell them apart.

A generator that can guess a task from its inputs need not read the prompts. Tasks of one input
kind, and the variants of one task, have inputs in common; a procedural task can moreover
answer any input of its kind. Knows tasks and their texts; knows no tokens.

Source: Yin et al. 2020, arXiv:1912.03820, for mutually exclusive tasks.
"""

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence

from dnd_engine.prompts.split import split_prompt
from dnd_engine.tasks.families import apply_operation
from dnd_engine.tasks.folder import Example, Task
from dnd_engine.tasks.formats import ANSWER_FORMATS

_MIN_SHARE = 0.5
"""Share of the inputs that a task must have answers for."""


class SharedInputs:
    """Finds tasks for the same inputs.

    Args:
        tasks: By their position among all tasks: a task and the examples of it that are trained
            on (see `held_back`).
    """

    def __init__(self, tasks: Mapping[int, tuple[Task, Sequence[Example]]]) -> None:
        self._tasks = tasks
        self._own = {
            i: {e.bare: e for e in examples if e.bare is not None}
            for i, (_, examples) in tasks.items()
        }
        # Inputs that a task is validated on, which it may not answer for another task either.
        self._held = {
            i: {e.bare for e in task.train} - self._own[i].keys() for i, (task, _) in tasks.items()
        }
        self._owners: dict[str, list[int]] = defaultdict(list)
        for i, inputs in self._own.items():
            for text in inputs:
                self._owners[text].append(i)

        self.anchors = [i for i in tasks if self._has_partner(i)]
        """Tasks that have inputs in common with another one than their own variants."""

    def draw(self, num_tasks: int, num_inputs: int, rng: random.Random) -> dict[int, list[Example]]:
        """Inputs of one task, and what it and others make of them.

        Others come from the tasks that have any input in common with the anchor, which are those of
        its kind: different tasks first, then further variants of the same ones. None of them
        answers all inputs as another does.

        Returns:
            Examples on the same inputs, task by task, the anchor first; fewer tasks than asked for
            if no more can join, and none if nothing is shared at all.
        """
        if not self.anchors:
            return {}
        anchor = rng.choice(self.anchors)
        inputs = self._own[anchor]
        texts = rng.sample(list(inputs), min(len(inputs), num_inputs))
        # Sorted, so that the draw depends on `rng` alone.
        same = sorted({i for text in inputs for i in self._owners[text]} - {anchor})
        rows = {anchor: self._show(anchor, texts, rng)}
        waiting = rng.sample(same, len(same))
        for again in (False, True):
            bases = {self._tasks[i][0].info.plain_slug for i in rows}
            for i in waiting:
                if len(rows) == num_tasks:
                    return _as_lists(rows)
                base = self._tasks[i][0].info.plain_slug
                if i in rows or (base in bases and not again):
                    continue
                row = self._show(i, texts, rng)
                enough = len(row) >= max(1, _MIN_SHARE * len(texts))
                # Two tasks that agree are learned without reading which of them is asked for.
                if enough and not any(_agree(row, other) for other in rows.values()):
                    rows[i] = row
                    bases.add(base)
        return _as_lists(rows)

    def _has_partner(self, task: int) -> bool:
        base = self._tasks[task][0].info.plain_slug
        return any(
            self._tasks[other][0].info.plain_slug != base
            for text in self._own[task]
            for other in self._owners[text]
        )

    def _show(self, task: int, texts: Sequence[str], rng: random.Random) -> dict[str, Example]:
        """A task's examples on some inputs; those it has no answer for are left out."""
        row = {}
        for text in texts:
            example = self._own[task].get(text) or self._make(task, text, rng)
            if example is not None:
                row[text] = example
        return row

    def _make(self, number: int, text: str, rng: random.Random) -> Example | None:
        """What a procedural task makes of another's input; not of one it is validated on."""
        task, examples = self._tasks[number]
        info = task.info
        if not info.operation or text in self._held[number]:
            return None
        answer = apply_operation(info.operation, text)
        # Answers that repeat their input show no operation; `families.write` leaves them out too.
        if answer is None or answer == text:
            return None
        if info.answer_format:
            answer = ANSWER_FORMATS[info.answer_format].wrap(answer)
        # The words of a train example ask for the task's answer format as well.
        instruction = split_prompt(rng.choice(examples).prompt).instruction
        return Example(f"{instruction}\n\n{text}", answer)


def _agree(one: dict[str, Example], other: dict[str, Example]) -> bool:
    """Whether two tasks give the same answers to all their common inputs."""
    # Tasks without a common input agree too, and so are not shown together.
    common = one.keys() & other.keys()
    return all(one[text].response == other[text].response for text in common)


def _as_lists(rows: dict[int, dict[str, Example]]) -> dict[int, list[Example]]:
    return {task: list(row.values()) for task, row in rows.items()}
