"""Two ways to run a base over new tokens with adapters: packed, or through its own modules.

Callers read tokens through `Forward` and need not know which it is. Knows models and adapters;
knows no conversations.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import psutil
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.models.attention import as_argument, masks_for
from dnd_engine.models.base import BaseModel, last_hidden, logits_of
from dnd_engine.models.key_values import KeyValues
from dnd_engine.models.packed import PackedLlama, refusal

__all__ = ["Forward", "HookedForward", "PackedForward", "choose_forward"]

Applying = Callable[[FittedLoRA | None], AbstractContextManager[None]]


class Forward(ABC):
    """A frozen base, asked for states and logits of new tokens."""

    name: str
    """As bench and logs call it."""

    def __init__(self, base: BaseModel) -> None:
        self._base = base

    def new_cache(self, num_rows: int) -> KeyValues:
        """Begin with rows that have read nothing."""
        like = self._base.model.get_parameter("model.embed_tokens.weight")
        return KeyValues.empty(self._base.config, num_rows, like)

    @abstractmethod
    def prepare(self, fitted: FittedLoRA | None) -> Any:
        """Bring adapters into the form that `hidden` takes; do it once, not at every token."""

    @abstractmethod
    def hidden(
        self,
        ids: Int[Tensor, "rows new"],
        positions: Int[Tensor, "rows new"],
        visible: Bool[Tensor, "rows 1 new keys"] | None,
        past: KeyValues,
        prepared: Any,
    ) -> Float[Tensor, "rows new width"]:
        """Run new tokens through every block.

        Args:
            ids: New tokens.
            positions: Of the tokens in their texts.
            visible: Which tokens each may look at, itself the last; None if all that precede it,
                either for one new token or for the first ones.
            past: Keys and values of past tokens, extended in place.
            prepared: What `prepare` made of the rows' adapters.
        """

    @abstractmethod
    def logits(self, hidden: Float[Tensor, "rows width"]) -> Float[Tensor, "rows vocabulary"]:
        """Turn states into logits."""


class PackedForward(Forward):
    """With weights laid out for few tokens on a CPU."""

    name = "packed"

    def __init__(self, base: BaseModel) -> None:
        super().__init__(base)
        self._packed = PackedLlama(base.model)

    def prepare(self, fitted: FittedLoRA | None) -> Any:
        """Merge the factors of layers that are merged."""
        return self._packed.fuse(fitted)

    def hidden(
        self, ids: Tensor, positions: Tensor, visible: Tensor | None, past: KeyValues, prepared: Any
    ) -> Tensor:
        """Run all blocks as one compiled function."""
        return self._packed.hidden(ids, positions, visible, past, prepared)

    def logits(self, hidden: Tensor) -> Tensor:
        """Multiply by the packed output layer."""
        return self._packed.logits(hidden)


class HookedForward(Forward):
    """Through transformers' modules, whatever their architecture and device.

    Args:
        base: The base.
        applying: Applies adapters to it for a while; guard both while `hidden` runs.
        reason: Why it is not packed.
    """

    name = "hooked"

    def __init__(self, base: BaseModel, applying: Applying, reason: str) -> None:
        super().__init__(base)
        self._applying = applying
        self.reason = reason

    def prepare(self, fitted: FittedLoRA | None) -> Any:
        """Keep the adapters as they are; hooks add them."""
        return fitted

    @torch.inference_mode()
    def hidden(
        self, ids: Tensor, positions: Tensor, visible: Tensor | None, past: KeyValues, prepared: Any
    ) -> Tensor:
        """Run the modules while their hooks add the adapters."""
        if visible is None and past.length:
            # Without a mask, attention runs each query head on its own, which on a CPU takes three
            # to six times as long.
            shape = (len(ids), 1, 1, past.length + 1)
            visible = torch.ones(shape, dtype=torch.bool, device=ids.device)
        model = self._base.model
        key_positions = past.place(positions)
        mask = None
        if visible is not None:
            mask = as_argument(model, masks_for(model, visible, positions, key_positions))
        with self._applying(prepared):
            return last_hidden(
                model,
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                cache=past,
                use_cache=True,
            )

    @torch.inference_mode()
    def logits(self, hidden: Tensor) -> Tensor:
        """Run the output layer."""
        # A state cut out of a longer tensor would have the whole vocabulary matrix copied.
        return logits_of(self._base.model, hidden.contiguous())


def choose_forward(base: BaseModel, applying: Applying) -> Forward:
    """Pack the base where that is possible and its memory is there."""
    reason = refusal(base.model) or _too_large(base.model)
    return HookedForward(base, applying, reason) if reason else PackedForward(base)


def _too_large(model: nn.Module) -> str | None:
    """The packed copy may take half of the memory that is free."""
    needed = sum(
        module.weight.nbytes for module in model.modules() if isinstance(module, nn.Linear)
    )
    free: int = psutil.virtual_memory().available
    if 2 * needed <= free:
        return None
    return f"its packed copy would take {needed / 1e6:.0f} MB, and {free / 1e6:.0f} MB are free"
