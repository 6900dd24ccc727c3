"""Measures how far an adapter moves the base's next token."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from dnd_engine.errors import AdapterError
from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.models.base import next_token_logits
from dnd_engine.models.new_tokens import left_padded
from dnd_engine.models.runtime import Runtime

_MAX_TOKENS = 256
_MAX_ROWS = 2
"""Prompts per forward pass. A chat waits until the current pass ends, so passes are short."""


@torch.inference_mode()
def effect(runtime: Runtime, fitted: FittedLoRA, strength: float, prompts: Sequence[str]) -> float:
    """Measure how far an adapter, fitted at a strength, moves the base's first answer token.

    The runtime's lock is held for one forward pass at a time.

    Returns:
        Mean KL(adapted ‖ base) over the prompts, in nats.

    Raises:
        AdapterError: The adapter makes the logits overflow.
    """
    # The end of a prompt decides the answer, so truncate long prompts at the beginning.
    rows = [runtime.base.chat_ids(prompt)[-_MAX_TOKENS:] for prompt in prompts]
    # One pass for both: the first half of the rows is the base's, the second the adapter's.
    pair = FittedLoRA.stack([None, fitted if strength else None]).without_bare()
    few = [rows[at : at + _MAX_ROWS] for at in range(0, len(rows), _MAX_ROWS)]
    found = float(torch.cat([_moved(runtime, pair, some) for some in few]).mean())
    if not math.isfinite(found):
        raise AdapterError(
            "the adapter makes the model's scores NaN or infinite at strength {strength:g}. Lower "
            "the strength, or use another adapter.",
            strength=strength,
        )
    return found


def _moved(
    runtime: Runtime, pair: FittedLoRA, rows: Sequence[tuple[int, ...]]
) -> Float[Tensor, " rows"]:
    """Return the KL divergence of a few rows, in one pass."""
    base = runtime.base
    ids, real = left_padded([*rows, *rows], base.device)
    with runtime.lock, runtime.host.applying(pair):
        plain, adapted = next_token_logits(base.model, ids, real.long()).chunk(2)
    return kl_to_base(plain, adapted)


def kl_to_base(
    base_logits: Float[Tensor, "rows vocabulary"], adapted_logits: Float[Tensor, "rows vocabulary"]
) -> Float[Tensor, " rows"]:
    """Return KL(adapted ‖ base) in nats, computed in float32."""
    base = base_logits.float().log_softmax(dim=-1)
    adapted = adapted_logits.float().log_softmax(dim=-1)
    return (adapted.exp() * (adapted - base)).sum(dim=-1)
