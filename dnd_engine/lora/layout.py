"""Maps every LoRA matrix of a base model to its place in the grid of weight tokens.

A layout comes from a Hugging Face config, without weights, or from a file of ours. This module
knows shapes and names, and `ARCHITECTURES`, the kinds of base that are supported. It imports no
torch and does not know how tokens are scaled.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from dnd_engine.errors import ConfigError, LayoutError
from dnd_engine.limits import FIXED
from dnd_engine.notes import joined, noted

TARGET_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "gate_proj", "down_proj")
"""The seven linear layers of a Llama-style block, in the authors' token order."""

OUTPUT_LAYER = "lm_head"
OUTSIDE_BLOCKS = (OUTPUT_LAYER, "model.embed_tokens")
"""Paths of the layers outside of the blocks, which no generated LoRA adapts."""

TokenScheme = Literal["plain", "standardised"]
"""How a weight token stores numbers (see `weight_tokens`)."""

BORDER = 2
"""Extra rows and columns of a standardised token, which hold its scale."""

FUSED_MODULES = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
"""Linear layers of a block with fused projections: q, k and v are one layer, and so are gate and
up."""

_MODULES = tuple(dict.fromkeys((*TARGET_MODULES, *FUSED_MODULES)))
# The layers of attention, and no others, begin with q, k, v or o.
_PARENTS = {name: "self_attn" if name[0] in "qkvo" else "mlp" for name in _MODULES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """Properties of a base architecture that its config does not tell.

    Grouped heads, biases, tied embeddings, norms of queries and keys, capped logits and sliding
    windows are read from the config or the model; they need no entry here.
    """

    modules: tuple[str, ...] = TARGET_MODULES
    """The linear layers of a block, in token order."""
    gguf: str | None = None
    """llama.cpp's name for the architecture; None if it is not supported there."""
    gguf_pairs: bool = False
    """Whether llama.cpp's converter reorders the rows of queries and keys into rotary pairs."""
    mlp_norm: str = ""
    """Name of the norm on the output of `down_proj`; empty if there is none."""


ARCHITECTURES: dict[str, Architecture] = {
    "llama": Architecture(gguf="llama", gguf_pairs=True),
    "mistral": Architecture(gguf="llama", gguf_pairs=True),
    "qwen2": Architecture(gguf="qwen2"),
    "qwen3": Architecture(gguf="qwen3"),
    "gemma2": Architecture(gguf="gemma2", mlp_norm="post_feedforward_layernorm"),
    "gemma3_text": Architecture(gguf="gemma3", mlp_norm="post_feedforward_layernorm"),
    "smollm3": Architecture(gguf="smollm3", gguf_pairs=True),
    "phi3": Architecture(gguf="phi3", modules=FUSED_MODULES),
}
"""Architectures by the `model_type` of a Hugging Face config. To support another one that
transformers runs, with blocks at `model.layers` that have `self_attn` and `mlp`, add an entry
here."""


def architecture_of(config: Mapping[str, Any]) -> Architecture:
    """Return the architecture of a base.

    Args:
        config: Config of the base. Without a `model_type` it counts as Llama.

    Raises:
        LayoutError: If the architecture is not supported.
    """
    model_type = config.get("model_type", "llama")
    # A file may hold any JSON value here, and looking up a list would raise.
    if isinstance(model_type, str) and model_type in ARCHITECTURES:
        return ARCHITECTURES[model_type]
    fault = noted(
        "the architecture {architecture} is not supported; {known} are.",
        architecture=repr(model_type),
        known=", ".join(ARCHITECTURES),
    )
    way_out = noted(
        "To add one, describe its blocks in `ARCHITECTURES` of `dnd_engine/lora/layout.py`; "
        "docs/own-base.md says what else may be needed."
    )
    sees = model_type in ("gemma3", "mllama", "qwen2_vl", "qwen2_5_vl", "mistral3")
    more = [noted("It also reads images; take the text-only model.")] if sees else []
    raise LayoutError(joined([fault, *more, way_out], " "))


@dataclass(frozen=True, slots=True, kw_only=True)
class LoRASpec:
    """The LoRA to generate: rank, alpha and target modules, named as in PEFT."""

    r: int = 4
    """Rank. 4 on all linear layers is what feasibility runs trained; the paper uses 8 and 16."""
    lora_alpha: int = 8
    """Scaling is `lora_alpha / r`; the paper's ratio of 2."""
    target_modules: tuple[str, ...] = TARGET_MODULES
    """Module names. All seven together mean all layers of a block, even if some are fused."""

    def __post_init__(self) -> None:
        if self.r < 1:
            raise ConfigError(f"`r` must be at least 1, got {self.r}.")
        if self.lora_alpha < 1:
            raise ConfigError(f"`lora_alpha` must be at least 1, got {self.lora_alpha}.")
        unknown = [name for name in self.target_modules if name not in _MODULES]
        if unknown or not self.target_modules:
            raise ConfigError(
                f"`target_modules` must be some of {', '.join(_MODULES)}, "
                f"got {', '.join(self.target_modules) or 'none'}."
            )

    @property
    def scaling(self) -> float:
        """Factor on B·A."""
        return self.lora_alpha / self.r


@dataclass(frozen=True, slots=True)
class Target:
    """One adapted linear layer of the base."""

    layer: int
    module: str
    in_features: int
    out_features: int

    @property
    def path(self) -> str:
        """Module path inside the base, e.g. `model.layers.0.self_attn.q_proj`."""
        return f"model.layers.{self.layer}.{_PARENTS[self.module]}.{self.module}"

    def key(self, side: str) -> str:
        """Return PEFT's state-dict key of matrix `A` or `B`, without an adapter name."""
        return f"base_model.model.{self.path}.lora_{side}.weight"


@dataclass(frozen=True, slots=True)
class Matrix:
    """One LoRA matrix and the weight tokens that hold it.

    A (r, in) is cut along `in`; B (out, r) is transposed and cut along `out`, so a token always has
    the rank as its rows.
    """

    target: Target
    side: str
    """`A` or `B`."""
    long: int
    """Entries along the cut axis: in_features for A, out_features for B."""
    first_token: int
    num_tokens: int

    @property
    def key(self) -> str:
        """PEFT's state-dict key, without an adapter name."""
        return self.target.key(self.side)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoRALayout:
    """All targets of one base model and the token grid (tokens, r, width) they fill exactly.

    The width is the greatest common divisor of all long axes, so nothing is ever padded. This gives
    the authors' widths (128 for Qwen2.5-0.5B, 256 for 1.5B, 512 for 7B) without a table.
    """

    spec: LoRASpec
    targets: tuple[Target, ...]

    @classmethod
    def from_config(cls, config: Mapping[str, Any], spec: LoRASpec | None = None) -> "LoRALayout":
        """Derive the layout of a base.

        Args:
            config: The base's `config.json`, as a mapping.
            spec: The LoRA to generate.

        Raises:
            LayoutError: If the architecture is not supported, a needed size is missing,
                inconsistent or out of bounds, or the spec names layers that this architecture
                does not have.
        """
        spec = _adapted(spec or LoRASpec(), config)
        hidden = config_size(config, "hidden_size")
        heads = config_size(config, "num_attention_heads")
        kv_heads = config_size(config, "num_key_value_heads", default=heads)
        if hidden % heads and config.get("head_dim") is None:
            raise LayoutError(
                f"`hidden_size` {hidden} is not divisible by `num_attention_heads` {heads}, and "
                "the config names no `head_dim`."
            )
        # Heads of Qwen3 and Gemma are wider or narrower than hidden / heads.
        head_dim = config_size(config, "head_dim", default=hidden // heads)
        intermediate = config_size(config, "intermediate_size")
        num_layers = config_size(config, "num_hidden_layers", most=FIXED.max_layers)
        shapes = {
            "q_proj": (hidden, heads * head_dim),
            "k_proj": (hidden, kv_heads * head_dim),
            "v_proj": (hidden, kv_heads * head_dim),
            "o_proj": (heads * head_dim, hidden),
            "up_proj": (hidden, intermediate),
            "gate_proj": (hidden, intermediate),
            "down_proj": (intermediate, hidden),
            "qkv_proj": (hidden, (heads + 2 * kv_heads) * head_dim),
            "gate_up_proj": (hidden, 2 * intermediate),
        }
        return cls(
            spec=spec,
            targets=tuple(
                Target(layer, module, *shapes[module])
                for layer in range(num_layers)
                # In the architecture's order, not the spec's: tokens have one order for all
                # generators.
                for module in architecture_of(config).modules
                if module in spec.target_modules
            ),
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "LoRALayout":
        """Undo `to_json`.

        Args:
            values: A mapping with `lora` and `layout`; other keys are ignored.

        Raises:
            ConfigError: If a number is not whole or out of bounds, or if targets and
                `target_modules` disagree.
            KeyError, TypeError, ValueError: If a field is missing or of the wrong type.
        """
        lora = values["lora"]
        spec = LoRASpec(
            r=whole_number(lora["r"], "r"),
            lora_alpha=whole_number(lora["lora_alpha"], "lora_alpha"),
            target_modules=tuple(lora["target_modules"]),
        )
        targets = []
        for layer, module, inputs, outputs in values["layout"]:
            if module not in _MODULES or module not in spec.target_modules:
                raise ConfigError(f"`layout` names {module!r}, which `target_modules` does not.")
            targets.append(
                Target(
                    whole_number(layer, "layout", least=0),  # layers count from 0
                    module,
                    whole_number(inputs, "layout"),
                    whole_number(outputs, "layout"),
                )
            )
        if not targets or len({t.path for t in targets}) != len(targets):
            raise ConfigError("`layout` must list at least one adapted layer, and each only once.")
        return cls(spec=spec, targets=tuple(targets))

    def to_json(self) -> dict[str, Any]:
        """Return the fields `lora` and `layout` of our files."""
        return {
            "lora": {**asdict(self.spec), "target_modules": list(self.spec.target_modules)},
            "layout": [[t.layer, t.module, t.in_features, t.out_features] for t in self.targets],
        }

    @property
    def width(self) -> int:
        """Columns of a weight token."""
        return math.gcd(*(size for t in self.targets for size in (t.in_features, t.out_features)))

    @property
    def num_tokens(self) -> int:
        """Number of weight tokens in an adapter."""
        return sum(t.in_features + t.out_features for t in self.targets) // self.width

    def with_rank(self, r: int) -> "LoRALayout":
        """Return the same layout at another rank, with the same factor on B·A.

        Raises:
            LayoutError: If `lora_alpha` would not be a whole number.
        """
        alpha = self.spec.scaling * r
        if alpha != round(alpha):
            raise LayoutError(
                f"a factor of {self.spec.scaling} on B·A needs a rank of which it makes a whole "
                f"`lora_alpha`, got rank {r}."
            )
        return replace(self, spec=replace(self.spec, r=r, lora_alpha=round(alpha)))

    def from_layer(self, first: int) -> "LoRALayout":
        """Return the same layout without the blocks below one, counted from 0.

        Raises:
            LayoutError: If nothing would be left.
        """
        targets = tuple(t for t in self.targets if t.layer >= first)
        if not targets:
            highest = max(t.layer for t in self.targets)
            raise LayoutError(
                f"no layer from {first} on can be adapted: the base's layers are 0 to {highest}."
            )
        return replace(self, targets=targets)

    def grid(self, scheme: TokenScheme = "plain") -> tuple[int, int, int]:
        """Return (tokens, rows, columns) of an adapter in one scheme."""
        border = BORDER if scheme == "standardised" else 0
        return self.num_tokens, self.spec.r + border, self.width + border

    @property
    def num_parameters(self) -> int:
        """Number of entries in all A and B matrices."""
        return self.num_tokens * self.spec.r * self.width

    def matrices(self) -> Iterator[Matrix]:
        """Yield every A and B in token order: layer by layer, A before B (the authors' order)."""
        width, first = self.width, 0
        for target in self.targets:
            for side, long in (("A", target.in_features), ("B", target.out_features)):
                yield Matrix(target, side, long, first, long // width)
                first += long // width


def _adapted(spec: LoRASpec, config: Mapping[str, Any]) -> LoRASpec:
    """Replace "all seven modules" by the names that the architecture uses."""
    modules = architecture_of(config).modules
    if spec.target_modules == TARGET_MODULES:
        return spec if modules == TARGET_MODULES else replace(spec, target_modules=modules)
    if strays := [name for name in spec.target_modules if name not in modules]:
        raise LayoutError(
            f"a {config.get('model_type', 'llama')} base has no layer {', '.join(strays)}; its "
            f"layers are {', '.join(modules)}."
        )
    return spec


def whole_number(value: Any, name: str, most: int = FIXED.max_layer_size, least: int = 1) -> int:
    """Check a number from a file.

    Raises:
        ConfigError: If it is out of bounds or not an integer; JSON's 4.0, "4" and true are not.
    """
    if type(value) is not int or not least <= value <= most:
        raise ConfigError(
            f"`{name}` must hold whole numbers between {least} and {most:,}, got {value!r}."
        )
    return value


def config_size(
    config: Mapping[str, Any],
    name: str,
    default: int | None = None,
    most: int = FIXED.max_layer_size,
) -> int:
    """Read a size from a base's config, where it may be missing or null if there is a default.

    Raises:
        LayoutError: If it is not a positive integer, or is out of bounds.
    """
    value = config.get(name)
    if value is None:
        value = default
    # `True` is an int in Python.
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise LayoutError(
            f"the base's config needs a positive integer `{name}`, got {value!r}. "
            f"Supported are {', '.join(ARCHITECTURES)} models."
        )
    if value > most:
        raise LayoutError(
            f"the base's config states {f'{value:,}':.40} in `{name}`, expected at most {most:,}."
        )
    return value
