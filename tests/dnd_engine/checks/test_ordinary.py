"""Ordinary messages are answered as before where the base's own answers stay as likely."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dnd_engine.checks.ordinary import (
    LIMIT,
    base_answers,
    check_messages,
    kept_base_answers,
    ordinary_share,
)
from dnd_engine.checks.skills import known_answers
from dnd_engine.imprint.ordinary import ordinary_messages
from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.models.runtime import Runtime
from tests.dnd_engine.tiny import LAYOUT, random_tokens, stock_answer

MESSAGES = ("What is a good book?", "Hi", "Tell me a joke about a racing pigeon.")


def fitted(runtime: Runtime, tokens: Tensor) -> FittedLoRA:
    return runtime.host.fit(tokens[None], LAYOUT)


def losses(
    runtime: Runtime, prompts: Sequence[tuple[int, ...]], active: FittedLoRA | None
) -> list[float]:
    """By transformers: the base's greedy answer of 16 tokens, and its loss under an adapter."""
    found = []
    for prompt in prompts:
        answer = stock_answer(runtime.base.model, prompt, max_new_tokens=16)
        full = torch.tensor([[*prompt, *answer]])
        with torch.inference_mode(), runtime.host.applying(active):
            logits = runtime.base.model(input_ids=full).logits
        start = len(prompt)
        predicted = logits[0, start - 1 : -1].float()
        found.append(float(torch.nn.functional.cross_entropy(predicted, full[0, start:])))
    return found


@pytest.mark.slow
def test_it_counts_messages_whose_answer_stays_as_likely(runtime: Runtime) -> None:
    expected = base_answers(runtime, MESSAGES)
    prompts = [runtime.base.chat_ids(text) for text in MESSAGES]
    assert expected.nlls == pytest.approx(losses(runtime, prompts, None), abs=1e-4)
    counts = set()
    for size in (0.01, 0.05, 0.1, 0.3):
        active = fitted(runtime, random_tokens(seed=1, size=size))
        worse = [
            after - before
            for after, before in zip(
                losses(runtime, prompts, active), losses(runtime, prompts, None), strict=True
            )
        ]
        found = ordinary_share(runtime, active, expected)
        assert found.same == sum(value <= LIMIT for value in worse)
        assert (found.num_messages, found.limit) == (len(MESSAGES), LIMIT)
        counts.add(found.share)
    assert {0.0, 1.0} <= counts


def test_the_messages_are_none_that_imprints_are_fitted_to() -> None:
    messages = check_messages()
    assert len(messages) == len(set(messages)) == 64
    assert all(messages)
    assert not set(messages) & set(ordinary_messages())


@pytest.mark.slow
def test_the_bases_answers_are_kept_and_damaged_ones_found_again(
    runtime: Runtime, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = kept_base_answers(runtime, tmp_path / "cache")
    assert len(found.questions) == 64
    assert len(found.known) == len(known_answers())
    assert replace(found, known=()) == base_answers(runtime, check_messages())
    (path,) = (tmp_path / "cache").iterdir()
    assert kept_base_answers(runtime, tmp_path / "cache") == found
    assert "damaged" not in caplog.text
    path.write_text('{"questions": 3}')
    assert kept_base_answers(runtime, tmp_path / "cache") == found
    assert "damaged" in caplog.text
    path.write_text(path.read_text().replace(str(found.nlls[0]), "7.5"))
    assert kept_base_answers(runtime, tmp_path / "cache").nlls[0] == 7.5, "read, not asked again"


def test_a_cache_that_cannot_be_written_costs_only_time(
    runtime: Runtime, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file")
    assert len(kept_base_answers(runtime, tmp_path / "cache").nlls) == 64
    assert "are not kept" in caplog.text
