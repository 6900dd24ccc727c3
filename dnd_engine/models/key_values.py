"""A key-value cache with preallocated memory.

One tensor holds all layers, so that a new token copies no past, and rows are selected, copied or
joined in one operation. Serves transformers' models (`update`) and the packed forward pass
(`extend`). Knows sizes and positions; knows no tokens and no masks.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

_GROWTH = 64
"""Number of positions to grow by."""


class KeyValues:
    """Keys and values of some rows.

    Args:
        held: Keys of all heads, then values of all heads, per layer; not copied.
        length: Number of filled positions.
    """

    def __init__(self, held: Float[Tensor, "layers rows heads room width"], length: int) -> None:
        self._held = held
        # Position in its text of each cached token, (rows, room); padding makes it differ from the
        # place in the cache.
        self._at = held.new_zeros(held.shape[1], held.shape[3], dtype=torch.long)
        self.length = length
        """Number of filled positions."""

    @classmethod
    def empty(cls, config: Mapping[str, Any], num_rows: int, like: Tensor) -> "KeyValues":
        """Create an empty cache.

        Args:
            config: Hugging Face config of the base.
            num_rows: Number of rows.
            like: Tensor whose dtype and device to use.
        """
        heads = int(config["num_attention_heads"])
        kv_heads = int(config.get("num_key_value_heads") or heads)
        width = int(config.get("head_dim") or config["hidden_size"] // heads)
        layers = int(config["num_hidden_layers"])
        return cls(like.new_empty(layers, num_rows, 2 * kv_heads, 0, width), 0)

    # transformers calls the following three methods.

    def get_seq_length(self, _layer: int = 0) -> int:
        """Return the number of filled positions."""
        return self.length

    get_query_offset = get_seq_length  # the next token's place in the cache

    def get_mask_sizes(self, new: int, _layer: int = 0) -> tuple[int, int]:
        """Return the number of keys that new tokens see, and the index of the first."""
        return self.length + new, 0

    def extend(self, new: int) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Reserve new positions, which the caller fills.

        Returns:
            Per layer: a view (rows, heads, new, width) to fill with new keys and values; all keys;
            all values, both including the new ones.
        """
        # Positions are not recorded here: only sliding windows need them, and packed bases have
        # none.
        start, end = self.length, self.length + new
        self._make_room(end)
        self.length = end
        keys, values = self._held[:, :, :, :end].chunk(2, dim=2)
        new_ones = self._held[:, :, :, start:end]
        return list(new_ones.unbind()), list(keys.unbind()), list(values.unbind())

    def place(self, positions: Int[Tensor, "rows new"]) -> Int[Tensor, "rows keys"]:
        """Record the positions of new tokens in their texts, before they are read.

        Returns:
            Positions of all tokens, the new ones last.
        """
        end = self.length + positions.shape[1]
        self._make_room(end)
        self._at[:, self.length : end] = positions
        return self._at[:, :end]

    def update(
        self, keys: Tensor, values: Tensor, layer: int, **_options: object
    ) -> tuple[Tensor, Tensor]:
        """Append to one layer and return all its keys and values, as transformers requires."""
        end = self.length + keys.shape[2]
        self._make_room(end)
        every_key, every_value = self._held[layer, :, :, :end].chunk(2, dim=1)
        every_key[:, :, self.length :] = keys
        every_value[:, :, self.length :] = values
        # Every layer appends behind the same past, so the length grows after the last one.
        if layer == len(self._held) - 1:
            self.length = end
        return every_key, every_value

    def _make_room(self, length: int) -> None:
        layers, rows, heads, room, width = self._held.shape
        if length <= room:
            return
        # Growing copies the whole past, so grow by many positions at a time.
        larger = self._held.new_empty(layers, rows, heads, -(-length // _GROWTH) * _GROWTH, width)
        larger[:, :, :, : self.length] = self._filled
        self._held = larger
        self._at = nn.functional.pad(self._at, (0, larger.shape[3] - room))

    @property
    def _filled(self) -> Tensor:
        return self._held[:, :, :, : self.length]

    def crop(self, length: int) -> None:
        """Drop positions beyond a length."""
        assert length <= self.length
        self.length = length

    def copies(self, row: int, count: int) -> "KeyValues":
        """Return a cache with copies of one row."""
        held = self._filled[:, row : row + 1]
        copies = KeyValues(held.repeat(1, count, 1, 1, 1), self.length)
        copies._at[:] = self._at[row, : self.length]
        return copies

    def select(self, rows: Tensor) -> None:
        """Keep the given rows, by index."""
        self._held = self._held.index_select(1, rows)
        self._at = self._at.index_select(0, rows)

    @classmethod
    def joined(cls, parts: Sequence["KeyValues"], index: Sequence[int]) -> "KeyValues":
        """Concatenate rows of several caches; shorter ones are padded with zeros.

        Args:
            parts: Caches of one base.
            index: For each place, the index of its row among all parts.
        """
        length = max(part.length for part in parts)
        layers, _, heads, _, width = parts[0]._held.shape
        room = -(-length // _GROWTH) * _GROWTH
        # Zeros, because masked positions still enter attention's sum with weight 0, and in
        # uninitialised memory 0 times NaN would be NaN.
        held = parts[0]._held.new_zeros(layers, len(index), heads, room, width)
        owners = [(part, row) for part in parts for row in range(part._held.shape[1])]
        joined = cls(held, length)
        for place, number in enumerate(index):
            part, row = owners[number]
            held[:, place, :, : part.length] = part._filled[:, row]
            joined._at[place, : part.length] = part._at[row, : part.length]
        return joined
