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
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.models.base import output_layer
from dnd_engine.models.key_values import KeyValues

__all__ = ["FusedLoRA", "PackedLlama", "refusal"]

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
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"} or (name == "MistralForCausalLM" and config.sliding_window):
        return "it attends to a sliding window"
    return None


@dataclass(frozen=True, slots=True)
class FusedLoRA:
    """Adapters in the form that the packed forward pass applies."""

    factors: list[list[Tensor]]
    """For each block, A (groups, r, in) and scaled B (groups, out, r) of its four merged layers,
    float32; empty where no adapter applies. Ranks of merged layers are concatenated."""
    num_groups: int
    """Number of groups, including those without adapters."""
    num_bare: int


class PackedLlama:
    """A frozen model's forward pass, with its own copy of the linear layers' weights.

    Args:
        model: A model that `refusal` accepts. Its weights must not change afterwards.
    """

    def __init__(self, model: nn.Module) -> None:
        inner: Any = model.get_submodule("model")
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
        # Doubled, because `_rms_norm` runs on a vector and its negative.
        norms = ("input_layernorm.weight", "post_attention_layernorm.weight")
        self._norms = [
            [
                *(block.get_parameter(name).repeat(2) for name in norms),
                *self._head_norms(block.self_attn),
            ]
            for block in inner.layers
        ]
        self._last_norm: Tensor = inner.norm.weight.repeat(2)
        self._head = _packed([output_layer(model)])

    def _head_norms(self, attention: Any) -> list[Tensor]:
        """Return the scales of Qwen3's query and key norms, one row per head."""
        if not hasattr(attention, "q_norm"):
            return []
        scales = (attention.q_norm.weight, self._heads), (attention.k_norm.weight, self._kv_heads)
        return [torch.cat([scale.expand(count, -1) for scale, count in scales])]

    @torch.inference_mode()
    def fuse(self, fitted: FittedLoRA | None) -> FusedLoRA | None:
        """Convert adapters to the form that `hidden` applies; None if they change nothing."""
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

    @torch.inference_mode()
    def hidden(
        self,
        ids: Int[Tensor, "rows new"],
        positions: Int[Tensor, "rows new"],
        visible: Bool[Tensor, "rows 1 new keys"] | None,
        past: KeyValues,
        active: FusedLoRA | None = None,
    ) -> Float[Tensor, "rows new width"]:
        """Run every block over new tokens.

        Args:
            ids: Ids of the new tokens.
            positions: Positions of the tokens in their texts.
            visible: Tokens that each new one may attend to, itself the last; None means all that
                precede it.
            past: Keys and values of past tokens, extended in place.
            active: Adapters of equal groups of rows.
        """
        rows, new = ids.shape
        # Without a mask, several new tokens must be the first ones of an empty cache.
        assert visible is not None or new == 1 or past.length == 0
        x = nn.functional.embedding(ids.reshape(-1), self._embed)
        mask = None
        if visible is not None:
            # Additive from the start; a boolean mask would be converted in every layer.
            mask = x.new_zeros(visible.shape).masked_fill_(~visible, float("-inf"))
        cos, sin = self._rotary(x, positions)
        # A rotation subtracts in its first half. With the sign moved into the sines, it is one
        # fused multiply-add of the swapped halves (see `_attend`).
        half = sin.shape[-1] // 2
        sin = torch.cat([-sin[..., :half], sin[..., half:]], dim=-1)
        y: Tensor = _compiled()(
            x,
            self._weights,
            self._biases,
            self._norms,
            active.factors if active else [],
            rows * active.num_bare // active.num_groups * new if active else 0,
            _FEW_POSITIONS,
            cos.reshape(rows * new, 1, -1),
            sin.reshape(rows * new, 1, -1),
            mask,
            past.extend(new),
            rows,
            self._heads,
            self._kv_heads,
            self._scale,
            self._eps,
        )
        states: Tensor = _rms_norm(y, self._last_norm, self._eps)
        return states.view(rows, new, -1)

    @torch.inference_mode()
    def logits(self, hidden: Float[Tensor, "rows width"]) -> Float[Tensor, "rows vocabulary"]:
        """Compute logits from hidden states."""
        logits: Tensor = torch.ops.mkldnn._linear_pointwise.default(
            hidden, self._head, None, "none", [], ""
        )
        return logits


def _packed(layers: Sequence[nn.Linear]) -> Tensor:
    """Return the weights of layers with a common input, in oneDNN's layout."""
    weight = torch.cat([layer.weight for layer in layers]) if len(layers) > 1 else layers[0].weight
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
    """Merge A^T and B^T of several layers into one A and B; empty if there are none."""
    given = [pair for pair in factors if pair is not None]
    if not given:
        return torch.empty(0), torch.empty(0)
    # Stacked in A and block-diagonal in B: one product serves all merged layers, and no layer gets
    # another's adapter.
    down = torch.cat([down for down, _ in given], dim=2)
    up = torch.zeros(len(down), sum(sizes), down.shape[2])
    row = column = 0
    for pair, size in zip(factors, sizes, strict=True):
        if pair is not None:
            r = pair[1].shape[1]
            up[:, row : row + size, column : column + r] = pair[1].mT
            column += r
        row += size
    return down.mT.float().contiguous(), up


@cache
def _compiled() -> Callable[..., Tensor]:
    """Compile the blocks without Python between operations, which saves a tenth of a token's time.

    Unlike inductor, TorchScript needs no compiler on the machine. It supports Python up to 3.13;
    later versions run the same function uncompiled.
    """
    run: Callable[..., Tensor] = _run_blocks
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
    factors: list[list[Tensor]],
    bare: int,
    few: int,
    cos: Tensor,
    sin: Tensor,
    mask: Tensor | None,
    cached: tuple[list[Tensor], list[Tensor], list[Tensor]],
    rows: int,
    heads: int,
    kv_heads: int,
    scale: float,
    eps: float,
) -> Tensor:
    places, all_keys, all_values = cached
    for number in range(len(weights)):
        weight, bias, norm = weights[number], biases[number], norms[number]
        y = _rms_norm(x, norm[0], eps)
        qkv = torch.ops.mkldnn._linear_pointwise(y, weight[0], bias[0], "none", [], "")
        if len(factors) > 0:
            _add_low_rank(y, qkv, factors[number][0], factors[number][1], bare, few)
        y = _attend(
            qkv,
            norm[2] if len(norm) > 2 else None,
            eps,
            rows,
            heads,
            kv_heads,
            cos,
            sin,
            mask,
            places[number],
            all_keys[number],
            all_values[number],
            scale,
        )
        # Adding the residual inside the product saves one pass over memory.
        x = torch.ops.mkldnn._linear_pointwise(y, x, weight[1], bias[1], "add")
        if len(factors) > 0:
            _add_low_rank(y, x, factors[number][2], factors[number][3], bare, few)
        y = _rms_norm(x, norm[1], eps)
        both = torch.ops.mkldnn._linear_pointwise(y, weight[2], bias[2], "none", [], "")
        if len(factors) > 0:
            _add_low_rank(y, both, factors[number][4], factors[number][5], bare, few)
        gate, up = both.chunk(2, dim=1)
        y = torch.nn.functional.silu(gate).mul_(up)
        x = torch.ops.mkldnn._linear_pointwise(y, x, weight[3], bias[3], "add")
        if len(factors) > 0:
            _add_low_rank(y, x, factors[number][6], factors[number][7], bare, few)
    return x


@no_type_check
def _rms_norm(x: Tensor, twice: Tensor, eps: float) -> Tensor:
    # A vector followed by its negative has mean zero, so its layer norm, a single kernel, is an RMS
    # norm. torch's own RMS norm takes seven kernels on a CPU.
    both = torch.layer_norm(torch.cat((x, -x), dim=1), twice.shape, twice, None, eps)
    return both[:, : x.shape[1]]


@no_type_check
def _add_low_rank(x: Tensor, y: Tensor, down: Tensor, up: Tensor, bare: int, few: int) -> None:
    if down.numel() == 0:
        return
    # One adapted token, as in every step of a chat: a plain vector product is enough.
    if x.shape[0] == bare + 1:
        low = torch.mv(down[0], x[bare].float())
        y[bare].add_(torch.mv(up[0], low).to(y.dtype))
        return
    groups = down.shape[0]
    x = x[bare:].reshape(groups, -1, x.shape[1])
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
    rows: int,
    heads: int,
    kv_heads: int,
    cos: Tensor,
    sin: Tensor,
    mask: Tensor | None,
    place: Tensor,
    keys: Tensor,
    values: Tensor,
    scale: float,
) -> Tensor:
    width = cos.shape[2]
    new = qkv.shape[0] // rows
    every = qkv.view(qkv.shape[0], -1, width)
    turned = every[:, : heads + kv_heads]
    # Rotate queries and keys together, in place: both come from the merged product.
    if head_norm is not None:
        turned.copy_(torch.rms_norm(turned, (width,), None, eps) * head_norm)
    first, second = turned.chunk(2, dim=-1)
    swapped = torch.cat((second, first), dim=-1)
    turned.mul_(cos).addcmul_(swapped, sin)
    if new == 1:
        place.copy_(every[:, heads:].unsqueeze(2))
        # Treat the queries of one key head as one sequence: attention then reads each key once, not
        # once per query.
        queries = every[:, :heads].view(rows, kv_heads, -1, width)
        states = torch.nn.functional.scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, scale=scale
        )
        return states.reshape(rows, -1)
    split = every.view(rows, new, -1, width).transpose(1, 2)
    place.copy_(split[:, heads:])
    states = torch.nn.functional.scaled_dot_product_attention(
        split[:, :heads],
        keys,
        values,
        attn_mask=mask,
        is_causal=mask is None,
        scale=scale,
        enable_gqa=True,
    )
    return states.transpose(1, 2).reshape(qkv.shape[0], -1)
