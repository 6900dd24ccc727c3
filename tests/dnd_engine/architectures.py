"""A tiny random base of every supported architecture, from its real config class.

Sizes are small enough that windows, caps and groups of heads all matter within a few tokens.
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    HeliumConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)

from tests.dnd_engine.tiny import CONFIG, byte_tokenizer

_SIZES: dict[str, Any] = CONFIG | {
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
WINDOW = 6

CONFIGS: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**_SIZES, tie_word_embeddings=True),
    "mistral": MistralConfig(**_SIZES, sliding_window=WINDOW),
    "qwen2": Qwen2Config(
        **_SIZES, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1
    ),
    "qwen3": Qwen3Config(**_SIZES, head_dim=32),
    "gemma2": Gemma2Config(
        **_SIZES,
        head_dim=16,
        query_pre_attn_scalar=16,
        sliding_window=WINDOW,
        attn_logit_softcapping=2.0,
        final_logit_softcapping=5.0,
    ),
    "gemma3_text": Gemma3TextConfig(
        **_SIZES,
        head_dim=16,
        query_pre_attn_scalar=16,
        sliding_window=WINDOW,
        layer_types=["sliding_attention", "full_attention"],
    ),
    "smollm3": SmolLM3Config(**_SIZES, no_rope_layers=[1, 0]),
    "phi3": Phi3Config(**_SIZES, sliding_window=WINDOW),
}
LIKE_LLAMA_CPP: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": None},
    "qwen2": {"use_sliding_window": False, "sliding_window": None, "layer_types": None},
    "gemma2": {"sliding_window": 64},
    "gemma3_text": {"sliding_window": 64, "layer_types": ["sliding_attention"] * 2},
    "smollm3": {"no_rope_layers": [1, 1]},
    "phi3": {"sliding_window": None},
}
"""What llama.cpp decides by itself for so few layers: which have a window, which turn positions."""
HELIUM = HeliumConfig(**_SIZES, head_dim=16)
"""An architecture that nobody registered."""


def save_base(config: PretrainedConfig, folder: Path) -> Path:
    """A model folder with random weights, norms and biases among them."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    for name, weight in model.named_parameters():
        if "norm" in name or name.endswith("bias"):
            # Gemma's norms keep how far they are from 1.
            nn.init.uniform_(weight, -0.3, 0.3)
            if "gemma" not in config.model_type:
                weight.data += 1
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder
