"""A steering vector, the simplest rival of an imprint: a constant added to the states of a layer.

It is the mean of what an instruction changes in the state at a prompt's last token, and is added to
every token's state. Source: contrastive activation addition (Rimsky et al. 2024, arXiv:2312.06681),
with prompts that have and lack the instruction as the contrast.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.models.base import BaseModel, block
from dnd_engine.models.blocks import BlockPass, cut_rows
from dnd_engine.models.forward import Applying, HookedForward
from dnd_engine.models.new_tokens import NewTokens
from dnd_engine.models.runtime import Runtime

DEPTH = 0.5
"""Where the vector is added, as a share of the base's blocks: the best of five places, at the
vector's own length (docs/LOG.md)."""


@dataclass(frozen=True, slots=True)
class Steering:
    """A vector and the block whose output it is added to."""

    block: int
    change: Float[Tensor, " width"] = field(repr=False)


@torch.inference_mode()
def steering_between(
    runtime: Runtime, prompts: Sequence[tuple[str, str]], teacher: FittedLoRA | None
) -> Steering:
    """Compute the mean change that an instruction makes, with its teacher, to the bare base.

    Args:
        runtime: Runtime of the base; its lock is held for one block at a time.
        prompts: Pairs of the whole prompt and its input without the instruction; at least one.
        teacher: Adapter that reads the whole prompts; None is the base alone.
    """
    base = runtime.base
    index = int(DEPTH * base.num_layers)
    whole, bare = zip(*prompts, strict=True)
    change = _mean_state(runtime, whole, teacher, index) - _mean_state(runtime, bare, None, index)
    return Steering(index, change)


def _mean_state(
    runtime: Runtime, texts: Sequence[str], active: FittedLoRA | None, index: int
) -> Float[Tensor, " width"]:
    """Return the mean output of a block at the last token of each text."""
    base = runtime.base
    rows = [base.chat_ids(text) for text in texts]
    last: list[Tensor] = []
    for numbers in cut_rows(rows):
        blocks = BlockPass(base, [rows[n] for n in numbers])
        for number in range(index + 1):
            with runtime.lock, runtime.host.applying(active):
                blocks.advance(number)
        last.append(blocks.states[[places[-1] for places in blocks.places]].float())
    return torch.cat(last).mean(dim=0)


class SteeredForward(HookedForward):
    """Forward pass of the base with a steering vector."""

    def __init__(self, base: BaseModel, applying: Applying, steering: Steering) -> None:
        super().__init__(base, applying)
        self._steering = steering

    def hidden(self, tokens: NewTokens) -> Tensor:
        """Run the modules while a hook adds the vector."""

        def steer(_module: nn.Module, _args: tuple[Tensor, ...], states: Tensor) -> Tensor:
            return states + self._steering.change.to(states)

        hook = block(self._base.model, self._steering.block).register_forward_hook(steer)
        try:
            return super().hidden(tokens)
        finally:
            hook.remove()
