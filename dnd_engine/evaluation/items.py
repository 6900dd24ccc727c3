"""One task's items of an examination, the same for every row and mode."""

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dnd_engine.scoring.questions import ask
from dnd_engine.tasks.folder import Example, Mode, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_TOKENS = 256
"""Items whose full prompt and reference are longer are left out, for every row and mode."""

_MARGIN = 8
"""Tokens that an answer may be longer than its task's longest reference; one that runs on is wrong
anyway."""

_MAX_NEW_TOKENS = 96


@dataclass(frozen=True, slots=True)
class EvalItems:
    """One task's items, the same for every row."""

    task: Task
    items: tuple[int, ...]
    """Indices of the test side."""
    max_new_tokens: int

    @classmethod
    def of(
        cls, task: Task, tokenizer: "PreTrainedTokenizerBase", *, limit: int, seed: int
    ) -> "EvalItems":
        """Draw up to `limit` items by `seed`, short ones only."""
        order = list(range(len(task.test)))
        # By task, so that its items stay the same whatever others are examined.
        random.Random(f"{seed}:items:{task.info.slug}").shuffle(order)
        items: list[int] = []
        longest = 0
        for index in order:
            # The length of the full prompt decides for both modes, which then have the same items.
            asked = ask(tokenizer, task.test[index], "full", max_new_tokens=0)
            if len(asked.prompt) + len(asked.reference) <= MAX_TOKENS:
                items.append(index)
                longest = max(longest, len(asked.reference))
            if len(items) == limit:
                break
        return cls(task, tuple(items), min(longest + _MARGIN, _MAX_NEW_TOKENS))

    @property
    def slug(self) -> str:
        """Slug of the task."""
        return self.task.info.slug

    def asked(self, mode: Mode) -> list[tuple[int, Example]]:
        """The items that can be asked in a mode: bare mode needs a bare input."""
        found = [(index, self.task.test[index]) for index in self.items]
        return [(i, e) for i, e in found if mode == "full" or e.bare is not None]
