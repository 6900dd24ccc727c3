"""The loss of answer tokens over a large vocabulary, without keeping its logits.

Over 49,152 words the logits of one step's answers are a few hundred megabytes in float32, and
going over them again and again (softmax, its gradient, copies) took a quarter of a training step on
a CPU. Here a few dozen tokens at a time become a loss and, at once, its gradient, which is as small
as the hidden state. Knows tensors only.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_CHUNK = 64
"""Tokens at a time: 12 MB of float32 logits, which a processor's last cache holds."""


def token_losses(
    hidden: Float[Tensor, "tokens width"],
    head: Float[Tensor, "vocabulary width"],
    targets: Int[Tensor, " tokens"],
    cap: float | None = None,
) -> tuple[Float[Tensor, " tokens"], Bool[Tensor, " tokens"]]:
    """Negative log-likelihood of each target in float32, and whether it is the likeliest word.

    Args:
        hidden: Last hidden states; the loss is differentiable in them.
        head: Weights of the output layer, which must be frozen.
        targets: The words to be predicted.
        cap: Logits are `cap * tanh(logits / cap)`; None leaves them.
    """
    assert not head.requires_grad, "the gradient of the output layer is not computed"
    nll, hits = _TokenLosses.apply(hidden, head, targets, cap)  # type: ignore[no-untyped-call]  # torch leaves `apply` untyped
    return nll, hits


class _TokenLosses(torch.autograd.Function):
    """The gradient of a token's loss is (softmax - one-hot) · head, whatever comes after it."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor, cap: float | None
    ) -> tuple[Tensor, Tensor]:
        nll = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        hits = torch.empty(len(hidden), dtype=torch.bool, device=hidden.device)
        # A validation needs no gradient, which is half of the matrix products.
        needed = ctx.needs_input_grad[0]
        grads = torch.empty_like(hidden) if needed else None
        for start in range(0, len(hidden), _CHUNK):
            here = slice(start, start + _CHUNK)
            asked = targets[here, None]
            raw = hidden[here] @ head.T
            slope = None
            if cap is not None:
                # The derivative of cap · tanh(x / cap) is 1 - tanh²(x / cap).
                bent = torch.tanh(raw.float() / cap)
                raw, slope = cap * bent, 1 - bent.square()
            logits = torch.log_softmax(raw, dim=-1, dtype=torch.float32)
            hits[here] = logits.argmax(dim=-1) == asked[:, 0]
            nll[here] = -logits.gather(1, asked)[:, 0]
            if grads is not None:
                # Softmax minus one-hot. In place, because loss and hit have been read by now.
                wrong = logits.exp_().scatter_add_(
                    1, asked, -torch.ones_like(asked, dtype=logits.dtype)
                )
                if slope is not None:
                    wrong *= slope
                # `out=` is allowed, because autograd is off inside of `forward`.
                torch.mm(wrong.to(head.dtype), head, out=grads[here])
        ctx.save_for_backward(grads)
        ctx.mark_non_differentiable(hits)
        return nll, hits

    @staticmethod
    def backward(ctx: Any, nll_grad: Tensor, _hits_grad: Tensor) -> tuple[Tensor, None, None, None]:
        (grads,) = ctx.saved_tensors
        # The losses' gradient is float32 and would promote that of a bfloat16 base.
        return (grads * nll_grad[:, None]).to(grads.dtype), None, None, None
