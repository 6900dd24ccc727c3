"""Prompts to condition: token-level sentence embeddings of a prompt batch.

Wraps a frozen sentence-transformers model. Knows text in, tensors out; knows nothing of LoRA.
Source: Liang et al. 2025 use token-level `last_hidden_state` of a MiniLM, without pooling.
"""

import hashlib
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from sentence_transformers import SentenceTransformer
from torch import Tensor

from dnd_engine.limits import FIXED

__all__ = ["POOLED_LENGTH", "EncodedPrompts", "PromptEncoder", "PromptMemory"]

POOLED_LENGTH = 48
"""Tokens of a prompt that its pooled embedding is the mean of, where there is no generator to say
how many it reads."""

_BATCH_PROMPTS = 16
"""Measured on two CPUs: larger batches leave the cache, smaller ones waste time between layers."""

_LENGTH_STEP = 8
"""Prompts are padded to a multiple of so many tokens."""

_CHARACTERS_PER_TOKEN = 16
"""Only so much of a long prompt is tokenised at first; words are shorter than that."""


@dataclass(frozen=True, slots=True)
class EncodedPrompts:
    """Prompts as the encoder sees them, in the order given."""

    tokens: Float[Tensor, "prompts length width"]
    """Token embeddings, zero after the end of a prompt unless padding is kept."""
    mask: Bool[Tensor, "prompts length"]
    """True where there is a token, or padding that is kept."""
    pooled: Float[Tensor, "prompts pooled_width"]
    """Mean over all tokens read, at unit length: for similarity between tasks."""


class PromptMemory:
    """What an encoder made of the last few hundred prompts, so that none is read twice.

    Its keys are digests: it holds no text. Keep one for each person, as long as their prompts.
    """

    def __init__(self) -> None:
        self._rows: OrderedDict[bytes, tuple[Tensor, Tensor, Tensor]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def num_bytes(self) -> int:
        """Size of what it holds."""
        rows = list(self._rows.values())  # others may encode meanwhile
        return sum(part.nbytes for row in rows for part in row)

    def encode(self, encoder: "PromptEncoder", texts: Sequence[str], length: int) -> EncodedPrompts:
        """Encode prompts, those that are not remembered at least; see `PromptEncoder.encode`."""
        read_by = f"{encoder.identity} {length}"
        keys = [hashlib.sha256(f"{read_by} {text}".encode()).digest() for text in texts]
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._rows}
        encoded = encoder.encode(list(new.values()), length)
        for row, key in enumerate(new):
            # A copy, since a view would keep the whole batch.
            self._rows[key] = (
                encoded.tokens[row].clone(),
                encoded.mask[row].clone(),
                encoded.pooled[row].clone(),
            )
        rows = [self._rows[key] for key in keys]
        for key in keys:
            self._rows.move_to_end(key)
        while len(self._rows) > FIXED.max_encoded_prompts:
            self._rows.popitem(last=False)
        if not rows:
            return encoded
        tokens, mask, pooled = (torch.stack(parts) for parts in zip(*rows, strict=True))
        return EncodedPrompts(tokens, mask, pooled)


class PromptEncoder:
    """A resident text encoder.

    Args:
        folder: A sentence-transformers model folder.
        device: Where it runs.
        dtype: Compute type; bfloat16 halves the time where the hardware has it.
        keeps_padding: Pad all prompts to one length and keep what the model makes of the padding,
            as the paper's code does. The model's attention skips it either way.
    """

    def __init__(
        self,
        folder: Path,
        device: torch.device,
        dtype: torch.dtype,
        *,
        keeps_padding: bool = False,
    ) -> None:
        self._model = SentenceTransformer(
            str(folder), device=str(device), model_kwargs={"dtype": dtype}, local_files_only=True
        )
        self._model.eval()
        self.device = device
        self.width = int(self._model.get_embedding_dimension() or 0)
        self.keeps_padding = keeps_padding
        self.identity = f"{folder} {dtype} {keeps_padding}"
        """Tells its embeddings from another's."""

    @property
    def longest(self) -> int | None:
        """Tokens of a prompt that it reads at most; None if any number."""
        config = getattr(self._model[0], "config", None)
        return getattr(config, "max_position_embeddings", None)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], length: int) -> EncodedPrompts:
        """Encode prompts, cut to their first `length` tokens.

        Batches hold prompts of about as many tokens, so little time goes into padding. All have
        as many rows, empty ones if need be: then sums are made in the same order whatever stands
        in the other rows, and a prompt is encoded the same, to the last bit, in any batch.
        """
        tokens = torch.zeros(len(texts), length, self.width)
        mask = torch.zeros(len(texts), length, dtype=torch.bool)
        pooled = torch.zeros(len(texts), self.width)
        ids = self._tokenise(texts, length)
        lengths = [length if self.keeps_padding else len(row) for row in ids]
        for rows, read in _batches(lengths, length):
            padded = torch.full((_BATCH_PROMPTS, read), self._padding)
            here = torch.zeros(_BATCH_PROMPTS, read, dtype=torch.bool)
            here[len(rows) :, 0] = True  # attention needs something to read
            for place, row in enumerate(rows):
                padded[place, : len(ids[row])] = torch.tensor(ids[row])
                here[place, : len(ids[row])] = True
            out = self._model(
                {
                    "input_ids": padded.to(self.device),
                    "attention_mask": here.long().to(self.device),
                }
            )
            filled = slice(len(rows))
            kept = torch.ones_like(here) if self.keeps_padding else here
            mask[rows, :read] = kept[filled]
            embeddings = out["token_embeddings"].float().cpu() * kept[..., None]
            tokens[rows, :read] = embeddings[filled]
            pooled[rows] = out["sentence_embedding"].float().cpu()[filled]
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


def _batches(lengths: Sequence[int], longest: int) -> Iterator[tuple[list[int], int]]:
    """Group prompts by token count; yield the rows of a batch, and how many tokens it reads."""
    groups: dict[int, list[int]] = defaultdict(list)
    for row, tokens in enumerate(lengths):
        groups[min(longest, -(-tokens // _LENGTH_STEP) * _LENGTH_STEP)].append(row)
    for read, rows in groups.items():
        for start in range(0, len(rows), _BATCH_PROMPTS):
            yield rows[start : start + _BATCH_PROMPTS], read


def _without_last_word(text: str) -> str:
    """All but the last word, which may have been cut; a single word stays."""
    return " ".join(text.rsplit(maxsplit=1)[:1])
