"""What a forward pass reads: new tokens of some rows, with their place among earlier ones."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
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


def left_padded(
    rows: Sequence[Sequence[int]], device: torch.device, fill: int = 0
) -> tuple[Int[Tensor, "rows length"], Bool[Tensor, "rows length"]]:
    """Pad rows on the left, so that the last column has the last token of every row.

    Returns:
        Ids of the tokens, and True for those that are no padding.
    """
    length = max(map(len, rows))
    ids = torch.tensor([[fill] * (length - len(row)) + [*row] for row in rows], device=device)
    pads = torch.tensor([[length - len(row)] for row in rows], device=device)
    return ids, torch.arange(length, device=device) >= pads


def shared_length(rows: Sequence[Sequence[int]]) -> int:
    """Return the number of tokens that all rows begin with."""
    columns = enumerate(zip(*rows, strict=False))
    # A tuple counts faster than a set is made.
    differing = (place for place, column in columns if column.count(column[0]) < len(column))
    return next(differing, min(map(len, rows), default=0))
