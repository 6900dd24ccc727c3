"""Cost of an evaluation: items in batches as `dnd evaluate` answers them, and one at a time."""

from collections.abc import Sequence

import torch

from dnd_engine.bench.config import BenchConfig
from dnd_engine.bench.measurement import instructed_bucket, timed
from dnd_engine.engine import Engine
from dnd_engine.models.forward import HookedForward
from dnd_engine.scoring.answers import answer, batches
from dnd_engine.scoring.questions import ask
from dnd_engine.tasks.folder import Example

_OPTIONS = 4
"""Answers to choose from, the right one included."""

_MAX_NEW_TOKENS = 16
"""About what evaluated tasks allow: eight tokens more than their longest answer."""

Asked = Sequence[tuple[int, int]]
"""Questions of one task, each as the numbers of task and question."""


class Examination:
    """Seconds per item, with an adapter for each task as in the row `generator`."""

    def __init__(self, engine: Engine, config: BenchConfig) -> None:
        self._runtime = engine.runtime
        num_tasks, num_items = config.examined_items
        names = [f"task {number}" for number in range(1, num_tasks + 1)]
        buckets = [instructed_bucket(num_items, config.seed, name) for name in names]
        made = [engine.generate([bucket], imprinted=False) for bucket in buckets]
        self._layout = made[0].layout
        self._tokens = torch.stack([adapter.scaled_tokens.float() for adapter in made])
        tokenizer = self._runtime.base.tokenizer
        self._questions = [
            [
                ask(tokenizer, _item(prompt.text), "full", max_new_tokens=_MAX_NEW_TOKENS)
                for prompt in bucket.prompts
            ]
            for bucket in buckets
        ]

    def __call__(self, number: int) -> dict[str, float]:
        """Time all items in batches, and one of each task alone through transformers' modules."""
        runtime, questions = self._runtime, self._questions
        together = list(batches(questions, shared=False))
        alone = [[[(task, number % len(asked))]] for task, asked in enumerate(questions)]
        modules = HookedForward(runtime.base, runtime.host.applying)
        found = {"examination": self._per_item(together)}
        with runtime.through(modules):
            found["examination_loop"] = self._per_item(alone)
        return found

    def _per_item(self, work: Sequence[Sequence[Asked]]) -> float:
        """Return the seconds per item of answering batch by batch."""
        with timed(self._runtime.base.device) as spent:
            for batch in work:
                tasks = [part[0][0] for part in batch]
                fitted = self._runtime.host.fit(self._tokens[tasks], self._layout)
                asked = [[self._questions[task][item] for task, item in part] for part in batch]
                answer(self._runtime, asked, fitted)
        return spent[0] / sum(len(part) for batch in work for part in batch)


def _item(prompt: str) -> Example:
    """Make an item from a prompt that asks for the last word of its line."""
    options = tuple(dict.fromkeys(prompt.split()[::-1]))[:_OPTIONS]
    return Example(prompt, options[0], options)
