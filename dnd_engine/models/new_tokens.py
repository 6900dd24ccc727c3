"""What a forward pass reads: new tokens of some rows, with their place among earlier ones."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor

from dnd_engine.models.key_values import KeyValues


@dataclass(frozen=True, slots=True)
class StateWatch:
    """States between blocks that a forward pass keeps."""

    first: int
    """Lowest block whose output is kept."""
    places: Int[Tensor, " places"]
    """Tokens to keep, counted through all rows."""
    outputs: list[Float[Tensor, "places width"]] = field(default_factory=list)
    """Output of each block from `first` up, filled by the pass."""


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
    watch: StateWatch | None = None
    """States to keep; several parts of one pass must have none."""
