"""The frozen base: loading from a resolved folder, fingerprint, hidden states and logits.

Supports any causal language model of transformers whose logits come from its output layer alone.
`sources` finds its files.
"""

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from dnd_engine.errors import AssetError, ConfigError
from dnd_engine.lora.layout import LoRALayout, architecture_of
from dnd_engine.models.attention import layer_kinds, needs_eager
from dnd_engine.models.chat_format import chat_ids, turn_end
from dnd_engine.models.memory import check_memory, weight_bytes
from dnd_engine.models.own_code import refuse_own_code
from dnd_engine.models.sources import (
    BASES,
    LOADING_FAULTS,
    OnFraction,
    ResolvedWeights,
    first_line,
    resolve,
)

_ODD_LOGITS: Mapping[str, float | None] = {
    "logits_scaling": 1,
    "logit_scale": 1,
    "lm_head_multiplier": 1,
}
"""Settings of Granite, Cohere and Falcon-H1 that change logits, with the values that do not."""


_FINGERPRINT_TOLERANCE = 0.02
"""Allowed relative difference of a base's fingerprint: 4-bit quantisation of SmolLM2 changes it by
less, another fine-tune of the same architecture by more."""


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A resident, frozen causal language model."""

    weights: ResolvedWeights
    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    device: torch.device

    @property
    def config(self) -> dict[str, Any]:
        """The Hugging Face config as a mapping."""
        values: dict[str, Any] = self.model.config.to_dict()  # type: ignore[union-attr,operator]  # a method; torch's types say tensor
        return values

    @property
    def num_layers(self) -> int:
        """Number of transformer blocks."""
        return int(self.config["num_hidden_layers"])

    def chat_ids(self, content: str) -> tuple[int, ...]:
        """Tokenise one user turn, up to the start of the answer."""
        return tuple(chat_ids(self.tokenizer, [{"role": "user", "content": content}]))

    @property
    def turn_end(self) -> int:
        """Return the token that ends an answer."""
        return turn_end(self.tokenizer)


def best_device(wanted: str | None = None) -> torch.device:
    """Return the requested device, or the best one available.

    Raises:
        ConfigError: If the requested device is not available.
    """
    present = ["cpu"]
    if torch.backends.mps.is_available():
        present.insert(0, "mps")
    if torch.cuda.is_available():
        present.insert(0, "cuda")
    if wanted is None:
        return torch.device(present[0])
    if wanted.split(":")[0] not in present:
        raise ConfigError(f"device `{wanted}` is not here; this machine has {', '.join(present)}.")
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise ConfigError(f"`{wanted}` is no device: {first_line(error)}") from error
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        cards = ", ".join(f"cuda:{number}" for number in range(count))
        raise ConfigError(f"device `{wanted}` is not here; this machine has {cards}.")
    return device


def best_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 where it is faster than float32, else float32."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if fast else torch.float32
    if device.type == "cpu":
        # Matrix units multiply bfloat16 several times as fast as float32, and AMD's vector units
        # twice (at one core of a Zen 4: 106 against 52 GFLOP/s). Intel's vector units reach half
        # of float32's rate in oneDNN (86 against 165 on a Xeon with AVX512-BF16).
        unit = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        fast = unit.get("amx_tile") or (
            unit.get("avx512_bf16") and unit.get("cpu_name", "").startswith("AMD")
        )
        return torch.bfloat16 if fast else torch.float32
    return torch.float32


def read_config(folder: Path) -> dict[str, Any]:
    """Read the Hugging Face config in a base's folder, without its weights.

    Raises:
        AssetError: If the folder has no readable config.
    """
    values: dict[str, Any] = _config(folder).to_dict()
    return values


def resolve_base(
    name: str,
    device: torch.device,
    dtype: torch.dtype,
    cache_dir: Path | None = None,
    on_fraction: OnFraction = lambda doing, name, fraction: None,
) -> ResolvedWeights:
    """Find or download a base that `load_base` will load; see `sources.resolve`.

    An unknown architecture, or a base that does not fit, is refused before its weights are
    downloaded or hashed.

    Raises:
        AssetError, LayoutError: As `resolve` and `check_base` say.
    """
    check = partial(check_base, device=device, dtype=dtype)
    return resolve(name, BASES, cache_dir, on_fraction, check)


def check_base(
    folder: Path,
    name: str,
    num_bytes: int | None = None,
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> Any:
    """Check a base before any weight is read.

    Args:
        folder: Its folder, with `config.json`.
        name: Its name for messages.
        num_bytes: Size of its weights as they are stored; None if they are in the folder.
        device: Device to load it on.
        dtype: Dtype to load it in.

    Returns:
        Its config.

    Raises:
        AssetError: If it has no config that can be read, is quantised, or does not fit into memory.
        LayoutError: If its architecture is not supported.
    """
    config = _config(folder)
    architecture_of(config.to_dict())
    if getattr(config, "quantization_config", None) is not None:
        raise AssetError(
            "{model} is quantised, and adapters are made for whole weights. Name the model that it "
            "was made from, or a GGUF file of it.",
            model=name,
        )
    if num_bytes is None:
        needed = weight_bytes(folder, dtype)
    else:
        stored = config.dtype if isinstance(config.dtype, torch.dtype) else torch.float32
        needed = num_bytes * dtype.itemsize // stored.itemsize
    check_memory(needed, name, device)
    return config


def load_base(weights: ResolvedWeights, device: torch.device, dtype: torch.dtype) -> BaseModel:
    """Load a frozen base and its tokenizer from a resolved folder.

    Raises:
        AssetError: If the folder has no causal language model with safetensors weights, its logits
            do not come from the output layer alone, or it does not fit into memory.
        LayoutError: If its architecture is not supported.
    """
    config = check_base(weights.path, weights.hub_id, device=device, dtype=dtype)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            weights.path,
            dtype=dtype,
            attn_implementation="eager" if needs_eager(config) else None,
            local_files_only=True,
            # Unpickling weights would run whatever code their author put there.
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(
            weights.path, local_files_only=True, trust_remote_code=False
        )
    except LOADING_FAULTS as error:
        raise _unloadable(weights.path, error) from error
    model, report = loaded
    if missing := sorted(report["missing_keys"]):
        # transformers would initialise missing weights randomly, with only a warning.
        raise AssetError(
            "`{folder}` lacks {number} weights that its config asks for ({keys}). Fetch the model "
            "again.",
            folder=str(weights.path),
            number=len(missing),
            keys=", ".join(missing[:3]),
        )
    _check_logits(model, weights.path)
    if tokenizer.chat_template is None:
        raise AssetError(
            "{model} has no chat template. Choose an instruction-tuned base.",
            model=weights.hub_id,
        )
    turn_end(tokenizer)  # a template that refuses answers is reported here, and not in a chat
    model.train(mode=False)
    model.requires_grad_(False)
    module: nn.Module = model
    return BaseModel(weights, module.to(device), tokenizer, device)


def _config(folder: Path) -> Any:
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except LOADING_FAULTS as error:
        raise _unloadable(folder, error) from error


def _unloadable(folder: Path, error: Exception) -> AssetError:
    refuse_own_code(folder, error)
    return AssetError(
        "`{folder}` is no causal language model that can be loaded: {reason}",
        folder=str(folder),
        reason=first_line(error),
    )


def _check_logits(model: Any, path: Path) -> None:
    """Reject a base whose logits differ from those that training and chat compute."""
    config = model.config.get_text_config()
    odd = [
        f"`{name}` {value}"
        for name, plain in _ODD_LOGITS.items()
        if (value := getattr(config, name, None)) is not None and value != plain
    ]
    if getattr(model.get_output_embeddings(), "bias", None) is not None:
        odd.append("a bias in its output layer")
    if odd:
        raise AssetError(
            f"`{path}` ({config.model_type}) has {' and '.join(odd)}, which training and chat do "
            "not compute. Use a base whose logits are its output layer's alone, such as SmolLM2, "
            "Llama, Qwen2.5 or Qwen3."
        )


def fingerprint(base: BaseModel) -> dict[str, Any]:
    """Compute properties that identify a base and survive quantisation.

    Returns:
        `architecture`: the sizes that determine layout and vocabulary. `norms`: the RMS of each
        layer's input-norm weights, which GGUF files keep in float32.
    """
    config = base.config
    names = ("model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")
    heads = ("num_attention_heads", "num_key_value_heads")
    layout = LoRALayout.from_config(config)
    layers = sorted({t.layer for t in layout.targets})
    weights = [block(base.model, n).get_parameter("input_layernorm.weight") for n in layers]
    norms = [round(float(weight.float().square().mean().sqrt()), 4) for weight in weights]
    return {"architecture": {name: config.get(name) for name in names + heads}, "norms": norms}


def fingerprint_difference(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> str | None:
    """Describe how a base differs from the expected one; None if it is the same.

    Args:
        wanted: Stored fingerprint; one without norms matches no base.
        found: Fingerprint of the loaded base.
    """
    for name, value in wanted.get("architecture", {}).items():
        if found["architecture"].get(name) != value:
            return f"`{name}` is {found['architecture'].get(name)}, expected {value}"
    theirs, ours = wanted.get("norms", []), found["norms"]
    # A stored fingerprint may have another number of norms; the lengths are compared below.
    differences = [abs(a - b) / max(abs(b), 1e-6) for a, b in zip(ours, theirs, strict=False)]
    # Written as a negation, so that NaN is rejected too.
    same = theirs and len(ours) == len(theirs)
    if same and all(d <= _FINGERPRINT_TOLERANCE for d in differences):
        return None
    return (
        "it has the same shape but other weights (norm scales differ by "
        f"{max(differences, default=math.inf):.0%}, allowed {_FINGERPRINT_TOLERANCE:.0%})"
    )


def end_tokens(base: BaseModel) -> set[int]:
    """Return all tokens that end an answer: the template's, tokenizer's and generation config's."""
    ends: Any = base.model.generation_config.eos_token_id  # type: ignore[union-attr]  # likewise
    known = ends if isinstance(ends, list) else [ends]
    return {int(e) for e in (*known, base.turn_end, base.tokenizer.eos_token_id) if e is not None}


# Functions, not methods of `BaseModel`, because `bench` applies them to PEFT's copy of a base.
def last_hidden(model: nn.Module, **inputs: Any) -> Float[Tensor, "rows length width"]:
    """Run a causal language model up to its output layer."""
    states: Tensor = model.model(**inputs).last_hidden_state  # type: ignore[operator]  # a method; torch's types say tensor
    return states


def output_layer(model: nn.Module) -> nn.Linear:
    """Return the layer that turns hidden states into logits; see `logits_of`."""
    head = model.lm_head
    assert isinstance(head, nn.Linear)
    return head


def logit_cap(model: nn.Module) -> float | None:
    """Return the bound that the base caps logits to, as Gemma 2 does; None without a cap."""
    config: Any = model.config
    cap = getattr(config, "final_logit_softcapping", None)
    return None if cap is None else float(cap)


def logits_of(
    model: nn.Module, hidden: Float[Tensor, "*batch width"]
) -> Float[Tensor, "*batch vocabulary"]:
    """Turn hidden states into logits, capped where the base caps them."""
    logits: Tensor = output_layer(model)(hidden)
    cap = logit_cap(model)
    return logits if cap is None else cap * torch.tanh(logits / cap)


def rotary(
    model: nn.Module,
    states: Float[Tensor, "tokens width"],
    positions: Int[Tensor, "one tokens"],
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the rotary embeddings of positions for each kind of layer."""
    embed: Any = model.get_submodule("model.rotary_emb")
    kinds = set(layer_kinds(model.config))
    if "layer_type" in inspect.signature(type(embed).forward).parameters:
        return {kind: embed(states, positions, kind) for kind in kinds}  # Gemma 3 has two
    found = embed(states, positions)
    return dict.fromkeys(kinds, found)


def mlp_norm(model: nn.Module, index: int) -> nn.Module | None:
    """Return the norm that a block applies to the output of its `down_proj`, if any."""
    config: Any = model.config
    name = architecture_of(config.to_dict()).mlp_norm
    return block(model, index).get_submodule(name) if name else None


def block(model: nn.Module, index: int) -> nn.Module:
    """Return one transformer block, by index from 0."""
    return model.get_submodule(f"model.layers.{index}")


@torch.inference_mode()
def next_token_logits(
    model: nn.Module,
    ids: Int[Tensor, "rows length"],
    mask: Int[Tensor, "rows length"] | None = None,
) -> Float[Tensor, "rows vocabulary"]:
    """Run left-padded rows and return the logits of the last position.

    The mask is 1 for real tokens, and None if there is no padding.
    """
    positions = None
    if mask is not None:
        # Count from each row's first real token, so that padding shifts no position.
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    hidden = last_hidden(
        model, input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False
    )
    # Not by `logits_to_keep`, whose slice is not contiguous: the product then copies the whole
    # vocabulary matrix once per row.
    return logits_of(model, hidden[:, -1].contiguous())
