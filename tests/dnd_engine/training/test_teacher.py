"""A teacher's own answers end at any token that ends an answer of its base."""

from typing import Any

import pytest
import torch

from dnd_engine.models.base import BaseModel
from dnd_engine.tasks.folder import Example
from dnd_engine.training import teacher


def test_greedy_answers_end_at_any_end_token_and_hold_no_special_ones(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = base.tokenizer

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    other = ids("!")[0]
    written = [[*ids("ab"), other, *ids("xx")], [1, *ids("cd"), 2, 2], ids("efghi")]
    given: dict[str, Any] = {}

    def generate(input_ids: torch.Tensor, **more: Any) -> torch.Tensor:
        given.update(more)
        return torch.cat([input_ids, torch.tensor(written)], dim=1)

    monkeypatch.setattr(teacher, "end_tokens", lambda base: {2, other})
    monkeypatch.setattr(base.model, "generate", generate)
    examples = [Example(f"Say.\n\n{n}", "x") for n in range(3)]
    assert teacher.greedy_answers(examples, base, 5) == ["ab", "cd", None]
    assert given["eos_token_id"] == sorted({2, other})
