"""The loss of answer tokens, chunk by chunk, is torch's own."""

import pytest
import torch
from torch import nn

from dnd_engine.training.token_loss import token_losses


@pytest.mark.parametrize("count", [1, 64, 65, 200])
def test_losses_and_gradients_are_those_of_torch_cross_entropy(count: int) -> None:
    """Parity of float32 with torch's float64, to 1e-5: chunks full, cut short, and alone."""
    generator = torch.Generator().manual_seed(count)
    head = torch.randn(97, 16, generator=generator, dtype=torch.float64)
    ours = torch.randn(count, 16, generator=generator, dtype=torch.float64, requires_grad=True)
    theirs = ours.detach().clone().requires_grad_()
    targets = torch.randint(97, (count,), generator=generator)
    weights = torch.rand(count, generator=generator)
    nll, hits = token_losses(ours, head, targets)
    expected = nn.functional.cross_entropy(theirs @ head.T, targets, reduction="none")
    assert torch.allclose(nll.double(), expected, atol=1e-5)
    assert torch.equal(hits, (theirs @ head.T).argmax(dim=-1) == targets)
    (nll * weights).sum().backward()
    (expected * weights).sum().backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-5)


def test_hits_are_the_likeliest_words() -> None:
    head = torch.eye(5)
    hidden = torch.tensor([[0.0, 9, 0, 0, 0], [0, 0, 0, 9, 0]])
    nll, hits = token_losses(hidden, head, torch.tensor([1, 4]))
    assert hits.tolist() == [True, False]
    assert nll[0] < 0.01
    assert nll[1] > 8


def test_without_a_gradient_the_losses_are_the_same() -> None:
    hidden, head = torch.randn(70, 8, requires_grad=True), torch.randn(30, 8)
    targets = torch.randint(30, (70,))
    with torch.no_grad():
        bare, _ = token_losses(hidden, head, targets)
    assert torch.equal(bare, token_losses(hidden, head, targets)[0].detach())
    assert not bare.requires_grad


def test_a_trainable_output_layer_is_a_bug_and_not_silently_frozen() -> None:
    head = torch.randn(30, 8, requires_grad=True)
    with pytest.raises(AssertionError, match="output layer"):
        token_losses(torch.randn(2, 8), head, torch.tensor([0, 1]))
