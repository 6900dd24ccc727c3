"""Prompts to condition: token-level sentence embeddings of a prompt batch.

Wraps a frozen sentence-transformers model. Knows text in, tensors out; knows nothing of LoRA.
Source: Liang et al. 2025 use token-level `last_hidden_state` of a MiniLM, without pooling.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from sentence_transformers import SentenceTransformer
from torch import Tensor

__all__ = ["POOLED_LENGTH", "ConditionSource", "EncodedPrompts", "PromptEncoder"]

POOLED_LENGTH = 48
"""Tokens of a prompt that its pooled embedding is the mean of, where the condition does not come
from the encoder and so has no such length of its own."""

_BATCH_PROMPTS = 16
"""Measured on two CPUs: larger batches leave the cache, smaller ones waste time between layers."""

_CHARACTERS_PER_TOKEN = 16
"""Of a long prompt so much is tokenised at first; words are shorter than that."""


@dataclass(frozen=True, slots=True)
class EncodedPrompts:
    """Prompts as a condition source sees them, in the order given."""

    tokens: Float[Tensor, "prompts length width"]
    """Token embeddings, zero after the end of a prompt; or other vectors that make the condition
    (see `activations`)."""
    mask: Bool[Tensor, "prompts length"]
    """True where there is a token."""
    pooled: Float[Tensor, "prompts pooled_width"]
    """Mean over all tokens read, at unit length: for similarity between tasks."""


@runtime_checkable
class ConditionSource(Protocol):
    """What reads prompts: the text encoder, or the base itself."""

    @property
    def width(self) -> int:
        """Channels of a condition."""
        ...

    def encode(self, texts: Sequence[str], length: int) -> EncodedPrompts:
        """Read prompts, `length` positions each."""
        ...


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

        Batches hold prompts of as many tokens, so little time goes into padding; the order of
        `texts` is restored.
        """
        tokens = torch.zeros(len(texts), length, self.width)
        mask = torch.zeros(len(texts), length, dtype=torch.bool)
        pooled = torch.zeros(len(texts), self.width)
        ids = self._tokenise(texts, length)
        order = sorted(range(len(texts)), key=lambda i: len(ids[i]))
        for start in range(0, len(order), _BATCH_PROMPTS):
            rows = order[start : start + _BATCH_PROMPTS]
            read = len(ids[rows[-1]])
            padded = torch.tensor([ids[i] + [self._padding] * (read - len(ids[i])) for i in rows])
            lengths = torch.tensor([len(ids[i]) for i in rows])
            here = torch.arange(read) < lengths[:, None]
            out = self._model(
                {
                    "input_ids": padded.to(self.device),
                    "attention_mask": here.long().to(self.device),
                }
            )
            mask[rows, :read] = here
            tokens[rows, :read] = out["token_embeddings"].float().cpu() * here[..., None]
            pooled[rows] = out["sentence_embedding"].float().cpu()
        return EncodedPrompts(tokens, mask, pooled)

    @property
    def _padding(self) -> int:
        return int(self._model.tokenizer.pad_token_id or 0)

    def _tokenise(self, texts: Sequence[str], length: int) -> list[list[int]]:
        """Token ids, the special ones included, at most `length`.

        A prompt may be thousands of characters long, and only its first few hundred are read. So
        it is cut between two words first, and tokenised whole only if that left too few tokens.
        """
        room = _CHARACTERS_PER_TOKEN * length
        beginnings = [t if len(t) <= room else _without_last_word(t[:room]) for t in texts]
        ids = self._ids(beginnings, length)
        short = [i for i, b in enumerate(beginnings) if b is not texts[i] and len(ids[i]) < length]
        for i, whole in zip(short, self._ids([texts[i] for i in short], length), strict=True):
            ids[i] = whole
        return ids

    def _ids(self, texts: list[str], length: int) -> list[list[int]]:
        if not texts:
            return []
        found: list[list[int]] = self._model.tokenizer(
            texts, truncation=True, max_length=length, return_attention_mask=False
        )["input_ids"]
        return found


def _without_last_word(text: str) -> str:
    """All but the last word, which may have been cut; a single word stays."""
    return " ".join(text.rsplit(maxsplit=1)[:1])
