"""Keys and values of the tokens that rows have read, in memory taken ahead.

One tensor holds every layer, so a new token copies none of the past, and rows are chosen, copied or
joined in one operation. Serves transformers' models (`update`) and the packed forward pass
(`extend`). Knows sizes and positions; knows no tokens and no masks.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

__all__ = ["KeyValues"]

_GROWTH = 64
"""Positions that memory grows by."""


class KeyValues:
    """A cache for some rows.

    Args:
        held: Keys of all heads, then values of all heads, of each layer; the memory is used.
        length: Positions of it that are filled.
    """

    def __init__(self, held: Float[Tensor, "layers rows heads room width"], length: int) -> None:
        self._held = held
        self._at = held.new_zeros(held.shape[1], held.shape[3], dtype=torch.long)
        self.length = length
        """Positions that are filled."""

    @classmethod
    def empty(cls, config: Mapping[str, Any], num_rows: int, like: Tensor) -> "KeyValues":
        """Begin with rows that have read nothing.

        Args:
            config: The base's Hugging Face config.
            num_rows: Rows.
            like: Has the dtype and device of the states.
        """
        heads = int(config["num_attention_heads"])
        kv_heads = int(config.get("num_key_value_heads") or heads)
        width = int(config.get("head_dim") or config["hidden_size"] // heads)
        layers = int(config["num_hidden_layers"])
        return cls(like.new_empty(layers, num_rows, 2 * kv_heads, 0, width), 0)

    # transformers asks under the following three names.

    def get_seq_length(self, _layer: int = 0) -> int:
        """Return the filled positions."""
        return self.length

    def get_query_offset(self, _layer: int = 0) -> int:
        """Return the position of the next token among those kept."""
        return self.length

    def get_mask_sizes(self, new: int, _layer: int = 0) -> tuple[int, int]:
        """Return how many keys new tokens see, and the position of the first."""
        return self.length + new, 0

    def extend(self, new: int) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Take new positions, which the caller fills.

        Returns:
            For each layer where keys and values of the new positions go, (rows, heads, new, width);
            then all keys, and all values, the new ones among them.
        """
        start, end = self.length, self.length + new
        self._make_room(end)
        self.length = end
        keys, values = self._held[:, :, :, :end].chunk(2, dim=2)
        new_ones = self._held[:, :, :, start:end]
        return list(new_ones.unbind()), list(keys.unbind()), list(values.unbind())

    def place(self, positions: Int[Tensor, "rows new"]) -> Int[Tensor, "rows keys"]:
        """Note the positions of new tokens in their texts, before they are read.

        Returns:
            The positions of all, the new ones last.
        """
        end = self.length + positions.shape[1]
        self._make_room(end)
        self._at[:, self.length : end] = positions
        return self._at[:, :end]

    def update(
        self, keys: Tensor, values: Tensor, layer: int, **_options: object
    ) -> tuple[Tensor, Tensor]:
        """Append to one layer and return all of it, as transformers asks of a cache."""
        end = self.length + keys.shape[2]
        self._make_room(end)
        every_key, every_value = self._held[layer, :, :, :end].chunk(2, dim=1)
        every_key[:, :, self.length :] = keys
        every_value[:, :, self.length :] = values
        if layer == len(self._held) - 1:
            self.length = end
        return every_key, every_value

    def _make_room(self, length: int) -> None:
        layers, rows, heads, room, width = self._held.shape
        if length <= room:
            return
        larger = self._held.new_empty(layers, rows, heads, -(-length // _GROWTH) * _GROWTH, width)
        larger[:, :, :, : self.length] = self._filled
        self._held = larger
        self._at = nn.functional.pad(self._at, (0, larger.shape[3] - room))

    @property
    def _filled(self) -> Tensor:
        return self._held[:, :, :, : self.length]

    def crop(self, length: int) -> None:
        """Forget what is beyond a length."""
        assert length <= self.length
        self.length = length

    def copies(self, row: int, count: int) -> "KeyValues":
        """Make rows that have all read what one of these has."""
        held = self._filled[:, row : row + 1]
        copies = KeyValues(held.repeat(1, count, 1, 1, 1), self.length)
        copies._at[:] = self._at[row, : self.length]
        return copies

    def select(self, rows: Tensor) -> None:
        """Keep some rows, by their numbers."""
        self._held = self._held.index_select(1, rows)
        self._at = self._at.index_select(0, rows)

    @classmethod
    def joined(cls, parts: Sequence["KeyValues"], index: Sequence[int]) -> "KeyValues":
        """Put rows of several caches below each other; shorter ones end in positions of zeros.

        Args:
            parts: Caches of one base.
            index: Which row of all goes to each place.
        """
        length = max(part.length for part in parts)
        layers, _, heads, _, width = parts[0]._held.shape
        room = -(-length // _GROWTH) * _GROWTH
        held = parts[0]._held.new_zeros(layers, len(index), heads, room, width)
        owners = [(part, row) for part in parts for row in range(part._held.shape[1])]
        joined = cls(held, length)
        for place, number in enumerate(index):
            part, row = owners[number]
            held[:, place, :, : part.length] = part._filled[:, row]
            joined._at[place, : part.length] = part._at[row, : part.length]
        return joined
