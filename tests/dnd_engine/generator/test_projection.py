"""The projection computes what the authors' code computes, and refuses what it was not made for."""

import pytest
import torch
from torch import Tensor

from dnd_engine.errors import LayoutMismatchError
from dnd_engine.generator.projection import Projection


def authors(projection: Projection, tokens: Tensor) -> Tensor:
    """Their three steps: reshape, two linear layers, reshape. No axis is transposed."""
    batch, prompts, read, width = tokens.shape
    rows = tokens.reshape(batch, prompts, width, read)
    for layer in (projection.down_proj, projection.gate_proj):
        rows = rows @ layer.weight.T + layer.bias
    return rows.reshape(batch, prompts, -1, width)


@pytest.fixture
def projection() -> Projection:
    torch.manual_seed(0)
    return Projection(12, 5)


def test_it_computes_the_authors_steps(projection: Projection) -> None:
    tokens = torch.randn(2, 3, 12, 4)
    found = projection(tokens)
    assert found.shape == (2, 3, 5, 4)
    torch.testing.assert_close(found, authors(projection, tokens))


@pytest.mark.parametrize("read", [1, 3, 5, 11])
def test_missing_tokens_count_as_zeros(projection: Projection, read: int) -> None:
    tokens = torch.randn(2, 3, 12, 4)
    tokens[:, :, read:] = 0
    found = projection(tokens[:, :, :read])
    torch.testing.assert_close(found, authors(projection, tokens))


def test_it_begins_as_the_authors_does(projection: Projection) -> None:
    names = ["down_proj.weight", "down_proj.bias", "gate_proj.weight", "gate_proj.bias"]
    assert list(projection.state_dict()) == names
    large = Projection(400, 300)
    for layer in (large.down_proj, large.gate_proj):
        assert layer.weight.std().item() == pytest.approx(1, abs=0.01)


def test_more_tokens_than_it_reads_are_refused(projection: Projection) -> None:
    with pytest.raises(LayoutMismatchError, match=r"at most 12 tokens a prompt, got 13\."):
        projection(torch.zeros(1, 1, 13, 4))
