"""The teacher of context distillation: the base with the instruction in its input.

The teacher reads *full* prompts. What it says of each answer token is kept once, as its 16
likeliest next tokens and the rest of the mass, so that a student on *bare* inputs can be compared
with it at every step for nothing.

Source: Snell et al. 2022, arXiv:2209.15189, for context distillation.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from dnd_engine.models.base import BaseModel
from dnd_engine.tasks.folder import Example
from dnd_engine.training.examples import answer_logits, encode_example, pack

TOP = 16
"""Next tokens that are kept of each position. Source: Doc-to-LoRA keeps as many."""

_ROW_EXAMPLES = 8
"""Examples that share a row when the teacher reads them."""


Said = tuple[Tensor, Tensor, Tensor]
"""What the teacher says at each answer token of one example: its likeliest next tokens and their
log-probabilities, both (answer tokens, top), and the log of the mass of all other tokens."""


def teacher_divergence(
    logits: Float[Tensor, "answer_tokens vocabulary"],
    tokens: Tensor,
    log_probs: Float[Tensor, "answer_tokens top"],
    rest: Float[Tensor, " answer_tokens"],
) -> Float[Tensor, " answer_tokens"]:
    """KL divergence of the student from the teacher, all tokens not kept counted as one.

    Args:
        logits: The student's.
        tokens: The teacher's likeliest next tokens, (answer tokens, top).
        log_probs: Log-probabilities of these tokens under the teacher.
        rest: Log of the teacher's mass on all others.
    """
    ours = logits.log_softmax(dim=-1).gather(1, tokens)
    # Its floor, which the teacher has too, keeps the gradient finite.
    our_rest = _log_rest(ours)
    kept = (log_probs.exp() * (log_probs - ours)).sum(dim=-1)
    return kept + rest.exp() * (rest - our_rest)


def listen(examples: Sequence[Example], base: BaseModel) -> list[Said]:
    """Return what the model, in its current state, predicts at the answer tokens of full prompts.

    Nobody else may use the base meanwhile; call it in inference mode.
    """
    found = (encode_example(base.tokenizer, example, "full") for example in examples)
    encoded = [example for example in found if example is not None]
    said: list[Said] = []
    for first in range(0, len(encoded), _ROW_EXAMPLES):
        row = encoded[first : first + _ROW_EXAMPLES]
        logits, _ = answer_logits(base.model, pack([row]).to(base.device))
        top = logits.log_softmax(dim=-1).topk(TOP, dim=-1)
        # Half the size of int64, which only `gather` needs.
        parts = (top.indices.to(torch.int32), top.values, _log_rest(top.values))
        lengths = [len(e.ids) - e.start for e in row]
        said += zip(*(part.cpu().split(lengths) for part in parts), strict=True)
    return said


def _log_rest(log_probs: Float[Tensor, "answer_tokens top"]) -> Float[Tensor, " answer_tokens"]:
    """Log of one minus the mass of the kept tokens, kept from minus infinity."""
    return torch.log1p(-log_probs.exp().sum(dim=-1).clamp(max=1 - 1e-6))
