"""Llama 3's stretched rotary positions, as its config and as a GGUF file state them.

The config has a few numbers. A GGUF file has a factor for each pair of a head's numbers, by which
llama.cpp slows their rotation down, and not the numbers that the factors were made from.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

FACTORS = "rope_freqs.weight"
"""llama.cpp's name for the factors."""

LLAMA3 = "llama3"
"""transformers' name for this way of stretching."""

_PUBLISHED = {
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
"""The same in Llama 3.1, 3.2 and 3.3. Source: their `config.json`."""

_TOLERANCE = 1e-4
"""Largest relative difference of factors: both sides compute them in float32."""


def factors_of(config: Any) -> Float[Tensor, " pairs"]:
    """Return the factors that a GGUF file of a Llama holds; the config may be stretched or not."""
    plain, _ = LlamaRotaryEmbedding.compute_default_rope_parameters(config)
    stretched = LlamaRotaryEmbedding(config).get_buffer("inv_freq")
    return plain / stretched


def stretch(config: Any, factors: Float[Tensor, " pairs"]) -> None:
    """Set a Llama's config to the factors of a GGUF file, in place.

    Raises:
        ValueError: If Llama 3 does not stretch positions like that.
    """
    config.rope_parameters = {
        "rope_type": LLAMA3,
        "rope_theta": config.rope_parameters["rope_theta"],
        # The slowest pairs are slowed down by the whole factor.
        "factor": float(factors.max()),
        **_PUBLISHED,
    }
    expected = factors_of(config)
    if len(factors) != len(expected) or not torch.allclose(factors, expected, rtol=_TOLERANCE):
        raise ValueError("Llama 3 does not stretch positions by these factors")
