"""Builds attention masks in the form that a base's own modules take.

Callers pass visibility as booleans. Some bases also have sliding-window layers, some need additive
masks, and some need one mask per kind of layer. Knows configs and masks; knows no weights.
"""

from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

FULL, _WINDOW = "full_attention", "sliding_attention"
"""transformers' names for the two kinds of layers."""


def needs_eager(config: Any) -> bool:
    """Return whether attention scores are capped, which only eager attention computes."""
    return getattr(config, "attn_logit_softcapping", None) is not None


def layer_kinds(config: Any) -> tuple[str, ...]:
    """Return the kind of attention of each layer."""
    if kinds := _setting(config, "layer_types"):
        return tuple(kinds)
    # Configs without that list, such as Mistral's and Phi-3's, have one window for all layers.
    kind = FULL if _setting(config, "sliding_window") is None else _WINDOW
    return (kind,) * int(config.num_hidden_layers)


def attends_plainly(model: nn.Module) -> bool:
    """Return whether every layer attends to all visible tokens, with uncapped scores."""
    config: Any = model.config
    return set(layer_kinds(config)) == {FULL} and not needs_eager(config)


def masks_for(
    model: nn.Module,
    visible: Bool[Tensor, "rows 1 new keys"],
    positions: Int[Tensor, "rows new"],
    key_positions: Int[Tensor, "rows keys"],
) -> dict[str, Tensor]:
    """Return a mask for each kind of layer.

    Args:
        model: A causal language model.
        visible: Keys that each new token may attend to.
        positions: Positions of the new tokens in their texts.
        key_positions: Positions of all tokens, the new ones last. A window is measured in
            positions, so that padding and gaps in a cache do not matter.
    """
    config: Any = model.config
    found = {}
    for kind in dict.fromkeys(layer_kinds(config)):
        mask = visible
        if kind == _WINDOW:
            # (rows, 1, new, keys); `visible` already excludes later keys.
            distance = positions[:, None, :, None] - key_positions[:, None, None, :]
            mask = visible & (distance < config.sliding_window)
        # Eager attention adds its mask to the scores; the fused kernels take booleans.
        if config._attn_implementation == "eager":
            dtype = next(model.parameters()).dtype
            zeros = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
            mask = zeros.masked_fill_(~mask, torch.finfo(dtype).min)
        found[kind] = mask
    return found


def as_argument(model: nn.Module, masks: dict[str, Tensor]) -> Tensor | dict[str, Tensor]:
    """Return the model's `attention_mask` argument."""
    config: Any = model.config
    # Models that name the kind of each layer look masks up by kind; the others take one tensor.
    return masks if _setting(config, "layer_types") else next(iter(masks.values()))


def _setting(config: Any, name: str) -> Any:
    """Return a setting that the config's architecture has; None for others.

    A config keeps every entry of its file: a Llama's may hold a window, which its model ignores.
    """
    return getattr(config, name) if hasattr(type(config), name) else None
