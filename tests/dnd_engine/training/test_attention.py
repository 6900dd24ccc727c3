"""Attention in blocks gives what the model's own attention gives, gradients included."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from dnd_engine.lora.apply import LoRAHost
from dnd_engine.models.base import BaseModel
from dnd_engine.training import attention, examples
from dnd_engine.training.attention import attending_in_blocks, cut_into_blocks
from dnd_engine.training.examples import EncodedExample, PackedExamples, pack, response_losses
from tests.dnd_engine.tiny import CONFIG, LAYOUT, random_tokens


def example(prompt: int, answer: int, seed: int, prefix: int = 3) -> EncodedExample:
    """`prefix` tokens that all examples share, then random ones."""
    generator = torch.Generator().manual_seed(seed)
    own = torch.randint(3, 260, (prompt + answer,), generator=generator)
    own[0] = 3 + seed  # no two begin alike
    return EncodedExample((*range(10, 10 + prefix), *own.tolist()), prefix + prompt)


EVEN = [[example(4, 2, 0), example(7, 3, 1)], [example(3, 1, 2), example(5, 5, 3)]]
UNEVEN = [[example(9, 2, 0)], [example(3, 1, 1), example(2, 4, 2), example(6, 2, 3)]]
PREFIX_LONGEST = [[example(2, 1, 0, 20)], [example(3, 2, 1, 20)]]
NO_PREFIX = [[example(4, 2, 0, 0)], [example(3, 3, 1, 0)]]


def own_attention(
    model: torch.nn.Module, batch: PackedExamples
) -> AbstractContextManager[dict[str, Any]]:
    return nullcontext({"attention_mask": batch.visible})


@pytest.fixture
def scored(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> Callable[[PackedExamples, bool], tuple[Tensor, Tensor]]:
    """Losses of a batch and the gradient of their weighted sum in the active tokens."""
    host = LoRAHost(base.model, LAYOUT)

    def score(batch: PackedExamples, in_blocks: bool) -> tuple[Tensor, Tensor]:
        tokens = torch.stack([random_tokens(seed=n) for n in range(len(batch.ids))])
        tokens.requires_grad_()
        with monkeypatch.context() as patch, host.applying(host.fit(tokens)):
            if not in_blocks:
                patch.setattr(examples, "_attention", own_attention)
            nll = response_losses(base.model, batch).nll
        (nll * torch.arange(1, len(nll) + 1)).sum().backward()
        assert tokens.grad is not None
        return nll.detach(), tokens.grad

    return score


@pytest.mark.parametrize(
    "groups",
    [EVEN, UNEVEN, PREFIX_LONGEST, NO_PREFIX],
    ids=["even", "uneven", "prefix longest", "no prefix"],
)
def test_blocks_change_neither_losses_nor_gradients(
    groups: list[list[EncodedExample]],
    scored: Callable[[PackedExamples, bool], tuple[Tensor, Tensor]],
) -> None:
    batch = pack(groups)
    (nll, grad), (own_nll, own_grad) = scored(batch, True), scored(batch, False)
    torch.testing.assert_close(nll, own_nll, atol=1e-5, rtol=1e-5)
    assert own_grad.abs().max() > 0.01
    torch.testing.assert_close(grad, own_grad, atol=1e-5 * float(own_grad.abs().max()), rtol=1e-4)


def test_scores_that_are_computed_again_are_the_same(
    scored: Callable[[PackedExamples, bool], tuple[Tensor, Tensor]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch = pack(UNEVEN)
    nll, grad = scored(batch, True)
    asked = Mock(wraps=checkpoint)
    monkeypatch.setattr(attention, "checkpoint", asked)
    monkeypatch.setattr(attention, "_KEPT_SCORES", 0)
    again_nll, again_grad = scored(batch, True)
    assert asked.call_count == CONFIG["num_hidden_layers"]
    assert torch.equal(again_nll, nll)
    assert torch.equal(again_grad, grad)


def test_the_blocks_of_a_row_are_its_prefix_and_its_examples() -> None:
    owner = torch.tensor([[9, 9, 0, 0, 0, 1, -1], [9, 9, 2, 3, 3, 3, 3]])
    blocks = cut_into_blocks(owner, prefix=2)
    assert (blocks.prefix, blocks.length) == (2, 7)
    assert blocks.slots.shape == (2, 3, 4)
    held = [
        [blocks.slots[row, n][blocks.filled[row, n]].tolist() for n in range(3)] for row in (0, 1)
    ]
    assert held == [[[0, 1], [2, 3, 4], [5]], [[0, 1], [2], [3, 4, 5, 6]]]


def test_moving_into_blocks_and_back_is_undone_but_for_padding() -> None:
    owner = torch.tensor([[9, 9, 0, 0, 0, 1, -1], [9, 9, 2, 3, 3, 3, 3]])
    moves = cut_into_blocks(owner, prefix=2).moves(key_heads=2, group=3)
    x = torch.randn(2, 6, 7, 5)
    there = moves.into_blocks(x.flatten(0, 2))
    assert there.shape == (2 * 2 * 3 * 3 * 4, 5)
    back = moves.into_rows(there).view_as(x)
    assert torch.equal(back[0, :, :6], x[0, :, :6])
    assert torch.equal(back[1], x[1])


def test_the_models_own_attention_comes_back_even_after_an_error(base: BaseModel) -> None:
    assert isinstance(base.model, PreTrainedModel)
    config = base.model.config
    usual = config._attn_implementation
    owner = torch.tensor([[1, 0, 0]])

    def stopped_midway() -> None:
        with attending_in_blocks(base.model, owner, prefix=1):
            assert config._attn_implementation != usual
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped_midway()
    assert config._attn_implementation == usual


def test_without_a_gradient_the_model_attends_as_ever(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores of an examination do not depend on how training is made fast."""

    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(examples, "attending_in_blocks", refuse)
    with torch.no_grad():
        assert response_losses(base.model, pack(EVEN)).nll.isfinite().all()
    with pytest.raises(AssertionError):
        response_losses(base.model, pack(EVEN))
