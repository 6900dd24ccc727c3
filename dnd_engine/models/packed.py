"""A Llama-style forward pass for few tokens on a CPU, where reading weights costs most.

oneDNN reads a plain matrix slowly, and every module, hook and small operation of a block adds
overhead. So the linear layers are copied once into oneDNN's own layout, q/k/v and gate/up each as
one matrix, and all blocks run as one compiled function. Adapters are applied per group of rows, as
in `lora.apply`. Knows weights, tokens and caches; knows no conversations. `refusal` tells which
models it does not support.
"""

import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.models.attention import attends_plainly
from dnd_engine.models.base import BaseModel, output_layer
from dnd_engine.models.forward import Forward
from dnd_engine.models.memory import free_bytes
from dnd_engine.models.new_tokens import NewTokens

_ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")

_PACK_ROWS = 2
"""Rows that oneDNN optimises the layout for: a twin chat's. Other numbers are as fast."""

_FEW_POSITIONS = 64
"""Up to this many positions, the low-rank product runs in float32: a bfloat16 product of one row
takes about 50 µs to set up, five times as long as the product itself."""

_MERGED = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.o_proj",),
    ("mlp.gate_proj", "mlp.up_proj"),
    ("mlp.down_proj",),
)
"""Linear layers of a block, grouped by their input."""


def refusal(model: nn.Module) -> str | None:
    """Return why a model must run through transformers' own modules; None if it need not."""
    name = type(model).__name__
    if name not in _ARCHITECTURES:
        return f"{name} is no architecture that the packed forward pass knows"
    weight = model.get_parameter("model.embed_tokens.weight")
    if weight.device.type != "cpu":
        return f"the model is on {weight.device.type}"
    if not (torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return "this build of torch has no oneDNN"
    if weight.dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return "oneDNN has no bfloat16 on this processor"
    config: Any = model.config
    if config.hidden_act not in ("silu", "swish"):
        return f"its activation is {config.hidden_act}"
    if not attends_plainly(model):
        return "it attends to a sliding window"
    needed = sum(m.weight.nbytes for m in model.modules() if isinstance(m, nn.Linear))
    # The rest is for caches, and for other programs.
    if 2 * needed > (free := free_bytes()):
        return f"its packed copy would take {needed / 1e6:.0f} MB, and {free / 1e6:.0f} MB are free"
    return None


@dataclass(frozen=True, slots=True)
class FusedLoRA:
    """Adapters in the form that the packed forward pass applies."""

    factors: list[list[Tensor]]
    """For each block, A (groups, r, in) and scaled B (groups, out, r) of its four merged layers,
    float32; empty where no adapter applies. Ranks of merged layers are concatenated. A single group
    has no axis of its own, because every token of a chat would have to select it."""
    num_groups: int
    """Number of groups, including those without adapters."""
    num_bare: int


class PackedForward(Forward):
    """Forward pass with a copy of the linear layers' weights, packed for few tokens on a CPU.

    Args:
        base: A base whose model `refusal` accepts. Its weights must not change afterwards.
    """

    def __init__(self, base: BaseModel) -> None:
        super().__init__(base)
        inner: Any = base.model.get_submodule("model")
        attention: Any = inner.layers[0].self_attn
        self._embed: Tensor = inner.embed_tokens.weight
        self._rotary: Any = inner.rotary_emb
        width = attention.head_dim
        self._heads = attention.q_proj.out_features // width
        self._kv_heads = attention.k_proj.out_features // width
        self._scale = float(attention.scaling)
        self._eps = float(inner.norm.variance_epsilon)
        merged = [
            [[block.get_submodule(name) for name in names] for names in _MERGED]
            for block in inner.layers
        ]
        self._sizes = [[layer.out_features for layer in layers] for layers in merged[0]]
        self._weights = [[_packed(layers) for layers in block] for block in merged]
        self._biases = [[_bias(layers) for layers in block] for block in merged]
        # Twice (2, width), because `_rms_norm` runs on a vector and its negative.
        norms = ("input_layernorm.weight", "post_attention_layernorm.weight")
        self._norms = [
            [
                *(block.get_parameter(name).repeat(2, 1) for name in norms),
                *self._head_norms(block.self_attn),
            ]
            for block in inner.layers
        ]
        self._last_norm: Tensor = inner.norm.weight.repeat(2, 1)
        self._signs = self._last_norm.new_tensor([[1.0], [-1.0]])
        self._head = _packed([output_layer(base.model)])

    def _head_norms(self, attention: Any) -> list[Tensor]:
        """Return the scales of Qwen3's query and key norms, one row per head."""
        if not hasattr(attention, "q_norm"):
            return []
        scales = (attention.q_norm.weight, self._heads), (attention.k_norm.weight, self._kv_heads)
        return [torch.cat([scale.expand(count, -1) for scale, count in scales])]

    @torch.inference_mode()
    def prepare(self, fitted: FittedLoRA | None) -> FusedLoRA | None:
        """Merge the factors of merged layers; None if the adapters change nothing."""
        if fitted is None or not fitted.factors:
            return None
        blocks = [
            [
                factor
                for names, sizes in zip(_MERGED, self._sizes, strict=True)
                for factor in _joined(
                    [fitted.factors.get(f"model.layers.{number}.{name}") for name in names], sizes
                )
            ]
            for number in range(len(self._weights))
        ]
        return FusedLoRA(blocks, fitted.num_groups + fitted.num_bare, fitted.num_bare)

    def hidden(self, tokens: NewTokens) -> Tensor:
        """Run all blocks as one compiled function."""
        return self.joined_hidden([tokens])[0]

    @torch.inference_mode()
    def joined_hidden(self, parts: Sequence[NewTokens]) -> list[Float[Tensor, "rows new width"]]:
        """Run every block over new tokens; the weights are read once for all parts.

        Args:
            parts: Tokens with caches of their own. Several must be of one token a row.
        """
        for part in parts:
            assert part.ids.shape[1] == 1 or len(parts) == 1
            # Without a mask, several new tokens must be the first ones of an empty cache.
            assert part.visible is not None or part.ids.shape[1] == 1 or part.past.length == 0
            assert part.watch is None or len(parts) == 1
        watch = parts[0].watch
        new = parts[0].ids.shape[1]
        x = nn.functional.embedding(torch.cat([p.ids.reshape(-1) for p in parts]), self._embed)
        cos, sin = self._rotary(x, torch.cat([part.positions for part in parts]))
        # A rotation subtracts in its first half. With the sign moved into the sines, it is one
        # fused multiply-add of the swapped halves (see `_attend`).
        half = sin.shape[-1] // 2
        sin = torch.cat([-sin[..., :half], sin[..., half:]], dim=-1)
        y: Tensor
        y, outputs = _compiled()(
            x,
            self._weights,
            self._biases,
            self._norms,
            self._signs,
            [part.prepared.factors if part.prepared else [] for part in parts],
            [_num_bare(part) for part in parts],
            # An argument, because TorchScript reads no globals of Python.
            _FEW_POSITIONS,
            # (tokens, 1, head width), to broadcast over heads.
            cos.reshape(len(x), 1, -1),
            sin.reshape(len(x), 1, -1),
            # Additive from the start; a boolean mask would be converted in every layer.
            [
                None
                if part.visible is None
                else x.new_zeros(part.visible.shape).masked_fill_(~part.visible, float("-inf"))
                for part in parts
            ],
            [part.past.extend(new) for part in parts],
            [len(part.ids) for part in parts],
            None if watch is None else watch.places,
            0 if watch is None else watch.first,
            self._heads,
            self._kv_heads,
            self._scale,
            self._eps,
        )
        if watch is not None:
            watch.outputs.extend(outputs)
        states: Tensor = _rms_norm(y, self._last_norm, self._signs, self._eps)
        return list(states.view(-1, new, states.shape[1]).split([len(p.ids) for p in parts]))

    @torch.inference_mode()
    def logits(self, hidden: Float[Tensor, "rows width"]) -> Float[Tensor, "rows vocabulary"]:
        """Compute logits from hidden states."""
        # Naming the overload saves torch the choice: over half of the time of a small product.
        logits: Tensor = torch.ops.mkldnn._linear_pointwise.default(
            hidden, self._head, None, "none", [], ""
        )
        return logits


def _num_bare(part: NewTokens) -> int:
    """Return the number of tokens that no adapter applies to; they come first."""
    fused: FusedLoRA | None = part.prepared
    if fused is None:
        return 0
    return part.ids.numel() * fused.num_bare // fused.num_groups


def _packed(layers: Sequence[nn.Linear]) -> Tensor:
    """Return the weights of layers with a common input, in oneDNN's layout."""
    weight = torch.cat([layer.weight for layer in layers]) if len(layers) > 1 else layers[0].weight
    # The result is opaque: only oneDNN's own operators, such as `_linear_pointwise`, can read it.
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), _PACK_ROWS)
    return packed


def _bias(layers: Sequence[nn.Linear]) -> Tensor | None:
    if all(layer.bias is None for layer in layers):
        return None
    return torch.cat(
        [
            layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias
            for layer in layers
        ]
    )


def _joined(
    factors: Sequence[tuple[Tensor, Tensor] | None], sizes: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Merge A^T and B^T of several layers into one A and B; empty if nothing changes.

    A single group has no axis of its own.
    """
    given = [pair for pair in factors if pair is not None]
    # An imprint has B at zero in its lower layers, whose products would cost a token .02 ms each.
    if not any(bool(up.any()) for _, up in given):
        return torch.empty(0), torch.empty(0)
    # Stacked in A and block-diagonal in B: one product serves all merged layers, and no layer gets
    # another's adapter.
    down = torch.cat([down for down, _ in given], dim=2)
    # Stored as B^T: products of few tokens with it take about three quarters of the time.
    up = torch.zeros(len(down), down.shape[2], sum(sizes), dtype=torch.float32)
    row = column = 0
    for pair, size in zip(factors, sizes, strict=True):
        if pair is not None:
            r = pair[1].shape[1]
            up[:, column : column + r, row : row + size] = pair[1]
            column += r
        row += size
    return down.mT.float().contiguous().squeeze(0), up.mT.squeeze(0)


@cache
def _compiled() -> Callable[..., tuple[Tensor, list[Tensor]]]:
    """Compile the blocks without Python between operations, which saves a tenth of a token's time.

    Unlike inductor, TorchScript needs no compiler on the machine. It supports Python up to 3.13;
    later versions run the same function uncompiled.
    """
    run: Callable[..., tuple[Tensor, list[Tensor]]] = _run_blocks
    if sys.version_info >= (3, 14):
        return run
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        run = torch.jit.script(_run_blocks)
    return run


# TorchScript compiles the functions below from their source and annotations.


@no_type_check
def _run_blocks(
    x: Tensor,
    weights: list[list[Tensor]],
    biases: list[list[Tensor | None]],
    norms: list[list[Tensor]],
    signs: Tensor,
    factors: list[list[list[Tensor]]],
    bare: list[int],
    few: int,
    cos: Tensor,
    sin: Tensor,
    masks: list[Tensor | None],
    cached: list[tuple[list[Tensor], list[Tensor], list[Tensor]]],
    rows: list[int],
    watched: Tensor | None,
    first_watched: int,
    heads: int,
    kv_heads: int,
    scale: float,
    eps: float,
) -> tuple[Tensor, list[Tensor]]:
    # x is (tokens, width), part by part; `starts` has the first token of each part and the end.
    new = x.shape[0] // sum(rows)
    starts = [0]
    for count in rows:
        starts.append(starts[-1] + count * new)
    outputs: list[Tensor] = []
    for number in range(len(weights)):
        # A block's `factors` are A and B of each merged layer in turn, hence 0, 2, 4 and 6 below.
        weight, bias, norm = weights[number], biases[number], norms[number]
        y = _rms_norm(x, norm[0], signs, eps)
        qkv = torch.ops.mkldnn._linear_pointwise(y, weight[0], bias[0], "none", [], "")
        _add_low_ranks(y, qkv, factors, number, 0, bare, starts, few)
        y = _attend(
            qkv,
            norm[2] if len(norm) > 2 else None,
            eps,
            number,
            rows,
            starts,
            heads,
            kv_heads,
            cos,
            sin,
            masks,
            cached,
            scale,
        )
        # Adding the residual inside the product saves one pass over memory.
        x = torch.ops.mkldnn._linear_pointwise(y, x, weight[1], bias[1], "add")
        _add_low_ranks(y, x, factors, number, 2, bare, starts, few)
        y = _rms_norm(x, norm[1], signs, eps)
        both = torch.ops.mkldnn._linear_pointwise(y, weight[2], bias[2], "none", [], "")
        _add_low_ranks(y, both, factors, number, 4, bare, starts, few)
        gate, up = both.chunk(2, dim=1)
        y = torch.nn.functional.silu(gate).mul_(up)
        x = torch.ops.mkldnn._linear_pointwise(y, x, weight[3], bias[3], "add")
        _add_low_ranks(y, x, factors, number, 6, bare, starts, few)
        if watched is not None and number >= first_watched:
            outputs.append(x[watched])
    return x, outputs


@no_type_check
def _add_low_ranks(
    x: Tensor,
    y: Tensor,
    factors: list[list[list[Tensor]]],
    number: int,
    first: int,
    bare: list[int],
    starts: list[int],
    few: int,
) -> None:
    for part in range(len(bare)):
        if len(factors[part]) > 0:
            down, up = factors[part][number][first], factors[part][number][first + 1]
            # A single part is the whole tensor; slicing would cost time at every layer.
            if len(bare) == 1:
                _add_low_rank(x, y, down, up, bare[part], few)
            else:
                start, end = starts[part], starts[part + 1]
                _add_low_rank(x[start:end], y[start:end], down, up, bare[part], few)


@no_type_check
def _rms_norm(x: Tensor, twice: Tensor, signs: Tensor, eps: float) -> Tensor:
    # A vector followed by its negative has mean zero, so its layer norm, a single kernel, is an RMS
    # norm. torch's own RMS norm takes seven kernels on a CPU.
    return torch.layer_norm(x.unsqueeze(1) * signs, twice.shape, twice, None, eps)[:, 0]


@no_type_check
def _add_low_rank(x: Tensor, y: Tensor, down: Tensor, up: Tensor, bare: int, few: int) -> None:
    if down.numel() == 0:
        return
    # One adapted token, as in every step of a chat: a plain vector product is enough.
    if x.shape[0] == bare + 1:
        low = torch.mv(down, x[bare].float())
        y[bare].add_(torch.mv(up, low).to(y.dtype))
        return
    if down.dim() == 2:
        down, up = down.unsqueeze(0), up.unsqueeze(0)
    groups = down.shape[0]
    x = x[bare:].reshape(groups, -1, x.shape[1])
    # `view` and not `reshape`, which may copy: the sum must reach the caller's tensor.
    y = y[bare:].view(groups, -1, y.shape[1])
    if x.shape[1] <= few:
        y.add_(torch.bmm(torch.bmm(x.float(), down.mT), up.mT).to(y.dtype))
    else:
        y.baddbmm_(torch.bmm(x, down.to(x.dtype).mT), up.to(x.dtype).mT)


@no_type_check
def _attend(
    qkv: Tensor,
    head_norm: Tensor | None,
    eps: float,
    number: int,
    rows: list[int],
    starts: list[int],
    heads: int,
    kv_heads: int,
    cos: Tensor,
    sin: Tensor,
    masks: list[Tensor | None],
    cached: list[tuple[list[Tensor], list[Tensor], list[Tensor]]],
    scale: float,
) -> Tensor:
    width = cos.shape[2]
    every = qkv.view(qkv.shape[0], -1, width)  # (tokens, heads + 2 kv_heads, width)
    turned = every[:, : heads + kv_heads]
    # Rotate queries and keys together, in place: both come from the merged product.
    if head_norm is not None:
        turned.copy_(torch.rms_norm(turned, (width,), None, eps) * head_norm)
    first, second = turned.chunk(2, dim=-1)
    swapped = torch.cat((second, first), dim=-1)
    turned.mul_(cos).addcmul_(swapped, sin)
    found: list[Tensor] = []
    for part in range(len(rows)):
        places, all_keys, all_values = cached[part]
        place, keys, values = places[number], all_keys[number], all_values[number]
        own = every[starts[part] : starts[part + 1]]
        # One new token a row: no position axis is needed.
        if own.shape[0] == rows[part]:
            # The cache has keys and values in the order of the merged product, so one copy stores
            # both.
            place.copy_(own[:, heads:].unsqueeze(2))
            # Treat the queries of one key head as one sequence: attention then reads each key
            # once, not once per query.
            queries = own[:, :heads].view(rows[part], kv_heads, -1, width)
            states = torch.nn.functional.scaled_dot_product_attention(
                queries, keys, values, attn_mask=masks[part], scale=scale
            )
            found.append(states.reshape(rows[part], -1))
        else:
            split = own.view(rows[part], own.shape[0] // rows[part], -1, width).transpose(1, 2)
            place.copy_(split[:, heads:])
            states = torch.nn.functional.scaled_dot_product_attention(
                split[:, :heads],
                keys,
                values,
                attn_mask=masks[part],
                # Without a mask the cache was empty, so queries and keys are the same tokens.
                is_causal=masks[part] is None,
                scale=scale,
                enable_gqa=True,
            )
            found.append(states.transpose(1, 2).reshape(own.shape[0], -1))
    return found[0] if len(found) == 1 else torch.cat(found)
