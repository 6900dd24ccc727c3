"""What a forward pass reads: new tokens of some rows, with their place among earlier ones."""

from typing import Any, NamedTuple

from jaxtyping import Bool, Int
from torch import Tensor

from dnd_engine.models.key_values import KeyValues

__all__ = ["NewTokens"]


class NewTokens(NamedTuple):
    """New tokens of some rows."""

    ids: Int[Tensor, "rows new"]
    positions: Int[Tensor, "rows new"]
    """Positions of the tokens in their texts."""
    visible: Bool[Tensor, "rows 1 new keys"] | None
    """Tokens that each new one may attend to, itself the last. None means all that precede it, and
    needs one new token or an empty cache."""
    past: KeyValues
    """Keys and values of past tokens, extended in place."""
    prepared: Any = None
    """The rows' adapters, from `Forward.prepare`."""
