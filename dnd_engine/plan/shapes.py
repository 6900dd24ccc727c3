"""The sizes of a base model, from a shipped config, a file or the Hub.

Counts parameters; reads no weights.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from dnd_engine.errors import ConfigError, LayoutError
from dnd_engine.files import asset_path, expanded
from dnd_engine.limits import FIXED
from dnd_engine.lora.layout import LoRALayout, LoRASpec, architecture_of, config_size

_CONFIG = "config.json"
_ALIASES = {"smollm2-135m-instruct": "HuggingFaceTB/SmolLM2-135M-Instruct"}
"""Names of embedded models, as other commands accept them."""
_TIED = ("gemma2", "gemma3_text", "smollm3")
"""Architectures whose embeddings transformers ties by default."""

_MAY_HAVE_BIAS = ("gemma2", "gemma3_text", "llama", "qwen3", "smollm3")
"""Architectures that heed `attention_bias`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseShape:
    """Sizes of a base that costs depend on."""

    name: str
    layout: LoRALayout
    """Layout of the LoRA to generate."""
    hidden_size: int
    intermediate_size: int
    num_layers: int
    key_value_size: int
    """Output size of `k_proj`."""
    block_parameters: int
    """Weights of the linear layers in all blocks, which every token is multiplied with."""
    head_parameters: int
    """Weights of the output layer, which only predicted tokens reach."""
    outer_parameters: int
    """Parameters outside the blocks: embeddings, output layer and the norm before it."""
    parameters: int
    """All parameters as a model card counts them: tied embeddings once."""

    @classmethod
    def from_config(cls, name: str, config: Mapping[str, Any], spec: LoRASpec) -> "BaseShape":
        """Read the sizes from a config.

        Raises:
            LayoutError: If a needed size is missing or out of bounds, a switch is neither true nor
                false, or the architecture is not supported.
        """
        layout = LoRALayout.from_config(config, spec)
        # All linear layers, which the LoRA may adapt only in part.
        everything = LoRALayout.from_config(config)
        vocabulary = config_size(config, "vocab_size", most=FIXED.max_vocabulary)
        hidden = int(config["hidden_size"])
        blocks = sum(t.in_features * t.out_features for t in everything.targets)
        head = vocabulary * hidden
        tied = _flag(config, "tie_word_embeddings", config.get("model_type") in _TIED)
        num_layers = int(config["num_hidden_layers"])
        outer = head * (1 if tied else 2) + hidden
        return cls(
            name=name,
            layout=layout,
            hidden_size=hidden,
            intermediate_size=int(config["intermediate_size"]),
            num_layers=num_layers,
            key_value_size=_key_value_size(config),
            block_parameters=blocks,
            head_parameters=head,
            outer_parameters=outer,
            parameters=blocks + num_layers * _norms_and_biases(config) + outer,
        )


def _flag(config: Mapping[str, Any], name: str, default: bool = False) -> bool:
    value = config.get(name, default)
    # `"false"` is true in Python.
    if value is not None and not isinstance(value, bool):
        raise LayoutError(f"the base's config needs true or false in `{name}`, got {value!r:.40}.")
    return bool(value)


def _key_value_size(config: Mapping[str, Any]) -> int:
    heads = int(config["num_attention_heads"])
    head_dim = config.get("head_dim") or int(config["hidden_size"]) // heads
    return int(head_dim) * int(config.get("num_key_value_heads") or heads)


def _norms_and_biases(config: Mapping[str, Any]) -> int:
    """Count norms and biases of a block, about a thousandth of its weights."""
    hidden, model_type = int(config["hidden_size"]), config.get("model_type")
    heads = int(config["num_attention_heads"])
    head_dim = int(config.get("head_dim") or hidden // heads)
    # The block's two norms, and in some families two more after its halves.
    found = (4 if architecture_of(config).mlp_norm else 2) * hidden
    # Qwen 2 always has biases on queries, keys and values, but its config does not say so.
    has_bias = _flag(config, "attention_bias") and model_type in _MAY_HAVE_BIAS
    if model_type == "qwen2" or has_bias:
        found += head_dim * heads + 2 * _key_value_size(config)
    if has_bias:
        found += hidden  # on the output of attention, too
    if _flag(config, "mlp_bias") and model_type in ("llama", "smollm3"):
        found += 2 * int(config["intermediate_size"]) + hidden
    # Norms of queries and keys, each as wide as a head.
    if model_type in ("qwen3", "gemma3_text"):
        found += 2 * head_dim
    return found


@cache
def shipped_shapes() -> Mapping[str, Mapping[str, Any]]:
    """Return the shipped configs by Hub id, smallest first."""
    found = yaml.safe_load(asset_path("plan", "bases.yaml").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def read_shape(base: str, spec: LoRASpec) -> BaseShape:
    """Find a base's sizes.

    Args:
        base: Shipped Hub id or its last part, shipped name, `config.json` or its folder, or
            another Hub id, whose config is downloaded.
        spec: The LoRA to generate.

    Raises:
        ConfigError: If there is no such config, or it is not a model's.
        LayoutError: If it does not describe a supported architecture.
    """
    shipped = shipped_shapes()
    by_name = {name.lower(): name for name in shipped}
    by_name |= {name.split("/")[1].lower(): name for name in shipped}
    known = _ALIASES.get(base.lower()) or by_name.get(base.lower())
    if known:
        return BaseShape.from_config(known, shipped[known], spec)
    path = expanded(base)
    try:
        path = path / _CONFIG if path.is_dir() else path
        is_here = path.is_file()
    except OSError as error:  # too long, or inside a folder without access
        raise ConfigError(
            f"base `{base[:80]}` cannot be read: {error.strerror}. Name a known base, a Hub id, or "
            "a `config.json` that you may read."
        ) from error
    if not is_here:
        path = _from_hub(base)
    return BaseShape.from_config(base, _read(path, base), spec)


def _read(path: Path, base: str) -> Mapping[str, Any]:
    if _is_gguf(path):
        raise ConfigError(
            f"base `{base}` is a GGUF file, and a plan is made from a model's `config.json`. Name "
            "the model's Hub id, its folder or its `config.json`."
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"the config of base `{base}` cannot be read as JSON: {error}. Expected a model's "
            "`config.json`."
        ) from error
    if isinstance(config, dict):
        # Before sizes are missed: a multimodal model, which training refuses too, nests them.
        architecture_of(config)
    if not isinstance(config, dict) or "hidden_size" not in config:
        raise ConfigError(
            f"the config of base `{base}` holds no `hidden_size`, so it describes no language "
            "model. Name a model's `config.json`."
        )
    return config


def _is_gguf(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(4) == b"GGUF"
    except OSError:
        return False


def _from_hub(base: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    known = ", ".join(name.split("/")[1] for name in shipped_shapes())
    advice = f"Known without a download: {known}. Or name a local `config.json`."
    try:
        if "/" not in base:
            raise HFValidationError("no user")
        return Path(hf_hub_download(base, _CONFIG))
    except HFValidationError as error:
        raise ConfigError(
            f"there is no base `{base}`: no shipped config, no file or folder, and no Hub id. "
            f"{advice}"
        ) from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ConfigError(
            f"the config of base `{base}` cannot be fetched from the Hub "
            f"({type(error).__name__}). {advice}"
        ) from error
