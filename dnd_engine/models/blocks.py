"""Rows of tokens on their way through a base, one transformer block at a time.

A forward pass that stops after every block, so that a caller can look at the states and change
them before the next block reads them. Knows tokens and states; knows no prompts and no adapters.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dnd_engine.models.base import BaseModel, block

__all__ = ["BlockPass"]


class BlockPass:
    """Some rows of one batch between two blocks of a base.

    Rows are padded on the right. A block is causal, so no token sees the padding after it, and
    there is nothing to mask.

    Args:
        base: The frozen base; guard it while `advance` runs.
        rows: Token ids, none empty.
    """

    def __init__(self, base: BaseModel, rows: Sequence[Sequence[int]]) -> None:
        self._model = base.model
        lengths = [len(row) for row in rows]
        ids = torch.zeros(len(rows), max(lengths), dtype=torch.long)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row)
        ids = ids.to(base.device)
        embeddings: nn.Module = self._model.get_input_embeddings()  # type: ignore[operator]
        self.states: Float[Tensor, "rows length width"] = embeddings(ids)
        """What the next block reads."""
        self.inputs: Float[Tensor, "rows length inputs"] | None = None
        """What the `down_proj` of the last block read; None before the first."""
        self._positions = torch.arange(ids.shape[1], device=base.device)[None]
        rotary: nn.Module = self._model.model.rotary_emb  # type: ignore[union-attr,assignment]
        self._rotary = rotary(self.states, self._positions)

    def advance(self, index: int) -> None:
        """Run one block; call it for 0, 1, 2 and so on."""
        layer = block(self._model, index)

        def keep(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
            self.inputs = args[0]

        hook = layer.get_submodule("mlp.down_proj").register_forward_pre_hook(keep)
        try:
            self.states = layer(
                self.states,
                attention_mask=None,
                position_ids=self._positions,
                position_embeddings=self._rotary,
            )
        finally:
            hook.remove()

    def add(self, a: Float[Tensor, "r inputs"], b: Float[Tensor, "width r"]) -> None:
        """Change the last block's output as a LoRA on its `down_proj` would."""
        assert self.inputs is not None
        self.states = self.states + (self.inputs @ a.T) @ b.T
