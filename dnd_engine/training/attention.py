"""Attention of packed training rows, block by block, for training on a CPU.

A packed row is a shared prefix and examples that see the prefix and themselves (see
`examples.pack`). Fused attention computes the whole square of such a row, and on a CPU its backward
pass costs three to four times what plain matrix products do: together a quarter to a half of a
training step. Here every example becomes a short row of its own, padded to the longest, whose keys
are the prefix and its own tokens. Knows tensors and transformers' registry of attention functions;
knows no texts and no adapters.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface

_NAME = "dnd_blocks"

_KEPT_SCORES = 8_000_000
"""More scores of a layer than that are computed again for the gradient, which takes a tenth of a
step: every example of a step is padded to the longest, and one of 150 tokens would make the scores
of 30 layers a gigabyte."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """The positions of the tokens in packed rows, as if each block had its own row.

    Block 0 of a row is its prefix, the others are its examples; `size` is the longest one's length.
    """

    slots: Int[Tensor, "rows blocks size"]
    """Position in the packed row; 0 in the padding."""
    filled: Bool[Tensor, "rows blocks size"]
    """False in the padding at the end of a block."""
    prefix: int
    """Tokens of the prefix."""
    length: int
    """Tokens of a packed row."""

    def moves(self, key_heads: int, group: int) -> "_Moves":
        """How to rearrange (rows, key_heads · group, length, width) for these blocks."""
        rows, blocks, size = self.slots.shape
        shape = (rows, key_heads, group, blocks, size)
        # Number all vectors of the packed rows, and see which one each place in the blocks needs.
        numbers = torch.arange(rows * key_heads * group * self.length, device=self.slots.device)
        grid = numbers.view(rows, key_heads, group, self.length)
        places = self.slots.view(rows, 1, 1, -1).expand(-1, key_heads, group, -1)
        # The axis of blocks comes before that of the group: query heads that share a key head then
        # lie in one matrix, and keys need no copy for each of them.
        taken = grid.gather(3, places).view(shape).transpose(2, 3).flatten()
        real = self.filled[:, None, None].expand(shape).transpose(2, 3).flatten()
        # The way back. Padding of the packed rows is in no block, and takes vector 0.
        found = torch.zeros_like(numbers)
        found[taken[real]] = torch.arange(len(taken), device=taken.device)[real]
        known = torch.zeros_like(numbers, dtype=torch.bool)
        known[taken[real]] = True
        return _Moves(taken, real, found, known)


@dataclass(frozen=True, slots=True)
class _Moves:
    """A permutation with padding on both sides, for vectors in the rows of a matrix."""

    taken: Tensor
    """Place in the packed rows of every vector in the blocks."""
    real: Tensor
    """False for padding in the blocks."""
    found: Tensor
    """Place in the blocks of every vector in the packed rows."""
    known: Tensor
    """False for padding in the packed rows."""

    def into_blocks(self, x: Tensor) -> Tensor:
        moved: Tensor = _Move.apply(x, self.taken, self.found, self.known)  # type: ignore[no-untyped-call]  # torch leaves `apply` untyped
        return moved

    def into_rows(self, x: Tensor) -> Tensor:
        moved: Tensor = _Move.apply(x, self.found, self.taken, self.real)  # type: ignore[no-untyped-call]  # torch leaves `apply` untyped
        return moved


class _Move(torch.autograd.Function):
    """Pick vectors by number. Its gradient picks too, where indexing would add them one by one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, there: Tensor, back: Tensor, kept: Tensor) -> Tensor:
        ctx.save_for_backward(back, kept)
        # Padding takes some real vector: finite, hidden as a key, and unused as a query.
        return x.index_select(0, there)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        back, kept = ctx.saved_tensors
        # Each vector has one place at most, so there is nothing to add up. In place is safe on
        # what `index_select` has just made.
        return grad.index_select(0, back).mul_(kept[:, None]), None, None, None


@dataclass(frozen=True, slots=True)
class _Plan:
    """What every layer needs of the blocks, made once a step."""

    blocks: Blocks
    mask: Tensor
    """(rows, 1, blocks, 1, size, prefix + size), added to the scores."""
    queries: _Moves
    keys: _Moves


def cut_into_blocks(owner: Int[Tensor, "rows length"], prefix: int) -> Blocks:
    """Find the blocks of packed rows.

    Args:
        owner: Number of the example that a position belongs to, rising along the rows; -1 for
            padding. What it holds in the prefix does not matter.
        prefix: Tokens that every row begins with.
    """
    rows, length = owner.shape
    # A copy, because the loss reads the batch's own numbers later.
    owner = owner.clone()
    owner[:, :prefix] = -1
    # Examples are numbered through the whole batch, blocks from 1 in each row.
    first = owner.masked_fill(owner < 0, torch.iinfo(owner.dtype).max).amin(dim=1, keepdim=True)
    block = torch.where(owner < 0, -1, owner - first + 1)
    block[:, :prefix] = 0
    # Whether a position belongs to a block: (rows, blocks, length).
    mine = block[:, None] == torch.arange(int(block.max()) + 1, device=owner.device)[:, None]
    size = int(mine.sum(dim=-1).max())
    slots = torch.zeros(rows, mine.shape[1], size, dtype=torch.long, device=owner.device)
    filled = torch.zeros_like(slots, dtype=torch.bool)
    row, number, position = mine.nonzero(as_tuple=True)
    # A token's place in its block is the number of the block's tokens before it.
    place = mine.cumsum(dim=-1)[row, number, position] - 1
    slots[row, number, place] = position
    filled[row, number, place] = True
    return Blocks(slots, filled, prefix, length)


def attend_in_blocks(
    _module: nn.Module,
    query: Float[Tensor, "rows heads length width"],
    key: Float[Tensor, "rows key_heads length width"],
    value: Float[Tensor, "rows key_heads length width"],
    attention_mask: None,  # noqa: ARG001 - transformers passes it
    *,
    scaling: float,
    blocks: _Plan,
    **_options: Any,
) -> tuple[Float[Tensor, "rows length heads width"], None]:
    """Attend within prefix and examples; an attention function as transformers calls it.

    A key head serves `heads / key_heads` query heads. The mask is unused: the blocks say it all.

    Returns:
        Attended values, anything in the padding, and None for the scores.
    """
    width = query.shape[-1]
    rows, count, size = blocks.blocks.slots.shape
    key_heads, prefix = key.shape[1], blocks.blocks.prefix

    def keyed(x: Tensor) -> Tensor:
        own = blocks.keys.into_blocks(x.reshape(-1, width)).view(rows, key_heads, count, size, -1)
        # Expanded, not moved: autograd then adds up what all blocks send back to the prefix.
        shared = x[:, :, None, :prefix].expand(-1, -1, count, -1, -1)
        return torch.cat([shared, own], dim=3).flatten(0, 2)

    asked = blocks.queries.into_blocks(query.reshape(-1, width)).view(
        rows * key_heads * count, -1, width
    )

    def attend(asked: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        scores = torch.bmm(asked, keys.transpose(1, 2))
        # In place: neither `bmm` nor `softmax` keeps the raw scores for its gradient.
        scores.view(rows, key_heads, count, -1, size, prefix + size).add_(blocks.mask)
        return torch.bmm(torch.softmax(scores, dim=-1), values)

    # The factor goes on the keys, which are fewer numbers than the scores.
    keys, values = keyed(key * scaling), keyed(value)
    attended: Tensor
    if len(asked) * asked.shape[1] * keys.shape[1] <= _KEPT_SCORES:
        attended = attend(asked, keys, values)
    else:
        # Without the state of random numbers, as nothing here is random.
        again = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
        attended = again(attend, asked, keys, values)
    rearranged = blocks.queries.into_rows(attended.view(-1, width))
    return rearranged.view_as(query).transpose(1, 2), None


@contextmanager
def attending_in_blocks(
    model: nn.Module, owner: Int[Tensor, "rows length"], prefix: int
) -> Iterator[dict[str, Any]]:
    """Let a model attend in blocks.

    Like applying an adapter this changes the model while the `with` block lasts: callers that share
    a base hold a lock around it. `cut_into_blocks` describes `owner` and `prefix`.

    Yields:
        Arguments for the model's forward pass in addition to ids and positions.
    """
    config: Any = model.config
    heads, key_heads = config.num_attention_heads, config.num_key_value_heads
    cut = cut_into_blocks(owner, prefix)
    causal = torch.ones(cut.slots.shape[-1], cut.slots.shape[-1], dtype=torch.bool).tril()
    own = causal.to(owner.device) & cut.filled[:, :, None, :]
    # Softmax over no key at all gives NaN, and its gradient would reach every weight.
    own |= torch.eye(len(causal), dtype=torch.bool, device=owner.device)  # padding sees itself
    shared = torch.ones(*cut.slots.shape, prefix, dtype=torch.bool, device=owner.device)
    shared[:, 0] = False  # the prefix is its own block
    visible = torch.cat([shared, own], dim=-1)[:, None, :, None]
    mask = torch.zeros(visible.shape, dtype=next(model.parameters()).dtype, device=owner.device)
    plan = _Plan(
        cut,
        mask.masked_fill_(~visible, -torch.inf),
        cut.moves(key_heads, heads // key_heads),
        cut.moves(key_heads, 1),
    )
    # transformers finds attention functions by name, and makes no mask for a name of ours.
    AttentionInterface.register(_NAME, attend_in_blocks)
    usual = config._attn_implementation
    model.set_attn_implementation(_NAME)  # type: ignore[operator]  # a method; torch's types say tensor
    try:
        yield {"blocks": plan}
    finally:
        model.set_attn_implementation(usual)  # type: ignore[operator]  # a method; torch's types say tensor
