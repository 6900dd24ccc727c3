"""Prompts to condition: token-level sentence embeddings of a prompt batch.

Wraps a frozen sentence-transformers model. Knows text in, tensors out; knows nothing of LoRA.
Source: Liang et al. 2025 use token-level `last_hidden_state` of a MiniLM, without pooling.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from sentence_transformers import SentenceTransformer
from torch import Tensor

__all__ = ["EncodedPrompts", "PromptEncoder"]

_BATCH_PROMPTS = 32


@dataclass(frozen=True, slots=True)
class EncodedPrompts:
    """Prompts as the encoder sees them, in the order given."""

    tokens: Float[Tensor, "prompts length width"]
    """Token embeddings, zero after the end of a prompt."""
    mask: Bool[Tensor, "prompts length"]
    """True where there is a token."""
    pooled: Float[Tensor, "prompts width"]
    """Mean over all tokens read, at unit length: for similarity between tasks."""


class PromptEncoder:
    """A resident text encoder.

    Args:
        folder: A sentence-transformers model folder.
        device: Where it runs.
        dtype: Compute type; bfloat16 halves the time where the hardware has it.
    """

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        self._model = SentenceTransformer(
            str(folder), device=str(device), model_kwargs={"dtype": dtype}, local_files_only=True
        )
        self._model.eval()
        self.device = device
        self.width = int(self._model.get_embedding_dimension() or 0)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], length: int) -> EncodedPrompts:
        """Encode prompts, cut to their first `length` tokens.

        Batches hold prompts of similar length, so little time goes into padding; the order of
        `texts` is restored.
        """
        tokens = torch.zeros(len(texts), length, self.width)
        mask = torch.zeros(len(texts), length, dtype=torch.bool)
        pooled = torch.zeros(len(texts), self.width)
        self._model.max_seq_length = length
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), _BATCH_PROMPTS):
            rows = order[start : start + _BATCH_PROMPTS]
            features = self._model.preprocess([texts[i] for i in rows])
            features = {
                k: v.to(self.device) if isinstance(v, Tensor) else v for k, v in features.items()
            }
            out = self._model(features)
            here = out["attention_mask"].bool()
            read = here.shape[1]
            vectors = out["token_embeddings"] * here[..., None]
            tokens[rows, :read] = vectors.float().cpu()
            mask[rows, :read] = here.cpu()
            pooled[rows] = out["sentence_embedding"].float().cpu()
        return EncodedPrompts(tokens, mask, pooled)
