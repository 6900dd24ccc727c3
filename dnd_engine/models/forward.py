"""A base's forward pass with adapters: the interface, and the pass through the base's own modules.

`packed` has the other implementation. Knows models and adapters; knows no conversations.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.models.attention import as_argument, masks_for
from dnd_engine.models.base import BaseModel, block, last_hidden, logits_of
from dnd_engine.models.key_values import KeyValues
from dnd_engine.models.new_tokens import NewTokens, StateWatch

Applying = Callable[[FittedLoRA | None], AbstractContextManager[None]]


class Forward(ABC):
    """Forward pass of a frozen base over new tokens."""

    def __init__(self, base: BaseModel) -> None:
        self._base = base

    def new_cache(self, num_rows: int) -> KeyValues:
        """Return an empty cache for new rows."""
        like = self._base.model.get_parameter("model.embed_tokens.weight")
        return KeyValues.empty(self._base.config, num_rows, like)

    @abstractmethod
    def prepare(self, fitted: FittedLoRA | None) -> Any:
        """Convert adapters to the form that `hidden` takes; call it once, not per token."""

    @abstractmethod
    def hidden(self, tokens: NewTokens) -> Float[Tensor, "rows new width"]:
        """Run new tokens through every block."""

    @abstractmethod
    def logits(self, hidden: Float[Tensor, "rows width"]) -> Float[Tensor, "rows vocabulary"]:
        """Compute logits from hidden states."""


class HookedForward(Forward):
    """Forward pass through transformers' modules, for any architecture and device.

    Args:
        base: The frozen base.
        applying: Applies adapters to the base; hold the lock while `hidden` runs.
    """

    def __init__(self, base: BaseModel, applying: Applying) -> None:
        super().__init__(base)
        self._applying = applying

    def prepare(self, fitted: FittedLoRA | None) -> Any:
        """Return the adapters unchanged; hooks apply them."""
        return fitted

    @torch.inference_mode()
    def hidden(self, tokens: NewTokens) -> Tensor:
        """Run the modules while hooks apply the adapters."""
        visible, past = tokens.visible, tokens.past
        if visible is None and past.length:
            # Without a mask, attention processes each query head separately, which takes three to
            # six times as long on a CPU.
            shape = (len(tokens.ids), 1, 1, past.length + 1)
            visible = torch.ones(shape, dtype=torch.bool, device=tokens.ids.device)
        model = self._base.model
        # Before the pass, which counts the new tokens as past ones.
        key_positions = past.place(tokens.positions)
        mask = None
        if visible is not None:
            mask = as_argument(model, masks_for(model, visible, tokens.positions, key_positions))
        with self._applying(tokens.prepared), self._watching(tokens.watch):
            return last_hidden(
                model,
                input_ids=tokens.ids,
                attention_mask=mask,
                position_ids=tokens.positions,
                cache=past,
                use_cache=True,
            )

    @contextmanager
    def _watching(self, watch: StateWatch | None) -> Iterator[None]:
        """Keep block outputs of passes inside the `with` block."""
        if watch is None:
            yield
            return

        def keep(_module: nn.Module, _args: tuple[Tensor, ...], states: Tensor) -> None:
            watch.outputs.append(states.flatten(0, 1)[watch.places])

        blocks = range(watch.first, self._base.num_layers)
        hooks = [block(self._base.model, n).register_forward_hook(keep) for n in blocks]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @torch.inference_mode()
    def logits(self, hidden: Tensor) -> Tensor:
        """Run the output layer."""
        # Copy: with a slice of a longer tensor, the product would copy the whole vocabulary matrix.
        return logits_of(self._base.model, hidden.contiguous())
