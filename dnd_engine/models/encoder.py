"""Encodes prompts to a condition: token-level sentence embeddings of a prompt batch.

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
from dnd_engine.models.own_code import refuse_own_code

POOLED_LENGTH = 48
"""Tokens per prompt in its pooled embedding, if no generator determines the number."""

_BATCH_PROMPTS = 16
"""Measured on two CPUs: larger batches exceed the cache, smaller ones waste time between layers."""

_LENGTH_STEP = 8
"""Prompts are padded to a multiple of this many tokens."""

_CHARACTERS_PER_TOKEN = 16
"""Assumed characters per token when cutting long prompts before tokenising; words are shorter."""


@dataclass(frozen=True, slots=True)
class EncodedPrompts:
    """Encoded prompts, in the order given."""

    tokens: Float[Tensor, "prompts length width"]
    """Token embeddings, zero after the end of a prompt unless padding is kept."""
    mask: Bool[Tensor, "prompts length"]
    """True for tokens, and for padding that is kept."""
    pooled: Float[Tensor, "prompts pooled_width"]
    """Mean over all tokens, normalised to unit length: for similarity between tasks."""


class PromptMemory:
    """A cache of the last few hundred encoded prompts.

    Keys are digests, so it contains no text. Keep one per visitor, as long as their prompts.
    """

    def __init__(self) -> None:
        self._rows: OrderedDict[bytes, tuple[Tensor, Tensor, Tensor]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def num_bytes(self) -> int:
        """Memory in use."""
        rows = list(self._rows.values())  # a copy, because other threads may encode meanwhile
        return sum(part.nbytes for row in rows for part in row)

    def encode(self, encoder: "PromptEncoder", texts: Sequence[str], length: int) -> EncodedPrompts:
        """Encode prompts that are not cached, and return all; see `PromptEncoder.encode`."""
        read_by = f"{encoder.identity} {length}"
        keys = [hashlib.sha256(f"{read_by} {text}".encode()).digest() for text in texts]
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._rows}
        encoded = encoder.encode(list(new.values()), length)
        for row, key in enumerate(new):
            # Copy, because a view would keep the whole batch in memory.
            self._rows[key] = (
                encoded.tokens[row].clone(),
                encoded.mask[row].clone(),
                encoded.pooled[row].clone(),
            )
        # Collect before the oldest are dropped: one call may have more prompts than are kept.
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
        device: Device to run on.
        dtype: Compute type; bfloat16 halves the time where the hardware has it.
        keeps_padding: Pad all prompts to one length and keep the embeddings of padding, as the
            paper's code does. Attention ignores padding either way.

    Raises:
        AssetError: If the model needs code of its own.
    """

    def __init__(
        self,
        folder: Path,
        device: torch.device,
        dtype: torch.dtype,
        *,
        keeps_padding: bool = False,
    ) -> None:
        try:
            self._model = SentenceTransformer(
                str(folder),
                device=str(device),
                model_kwargs={"dtype": dtype},
                local_files_only=True,
                trust_remote_code=False,
            )
        except ValueError as error:
            refuse_own_code(folder, error)
            raise
        self._model.eval()
        self.device = device
        self.width = int(self._model.get_embedding_dimension() or 0)
        self.keeps_padding = keeps_padding
        self.identity = f"{folder} {dtype} {keeps_padding}"
        """Identifies its embeddings, to keep those of different encoders apart."""

    @property
    def longest(self) -> int | None:
        """Maximum tokens per prompt; None without a limit."""
        config = getattr(self._model[0], "config", None)
        return getattr(config, "max_position_embeddings", None)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], length: int) -> EncodedPrompts:
        """Encode prompts, truncated to their first `length` tokens.

        Batches contain prompts of similar length, to reduce padding. All batches have the same
        number of rows, padded with empty ones: then sums have the same order whatever the other
        rows are, and a prompt's encoding is bit-identical in any batch.
        """
        tokens = torch.zeros(len(texts), length, self.width)
        mask = torch.zeros(len(texts), length, dtype=torch.bool)
        pooled = torch.zeros(len(texts), self.width)
        ids = self._tokenise(texts, length)
        lengths = [length if self.keeps_padding else len(row) for row in ids]
        for rows, read in _batches(lengths, length):
            padded = torch.full((_BATCH_PROMPTS, read), self._padding)
            here = torch.zeros(_BATCH_PROMPTS, read, dtype=torch.bool)
            here[len(rows) :, 0] = True  # attention needs at least one token
            for place, row in enumerate(rows):
                padded[place, : len(ids[row])] = torch.tensor(ids[row])
                here[place, : len(ids[row])] = True
            # The bare modules, because the library's `encode` sorts prompts by characters, not
            # tokens, and its batches vary in size.
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
        """Tokenise texts to at most `length` ids, special tokens included.

        A prompt may have thousands of characters, but only the first few hundred are used. So it is
        cut between two words first, and tokenised whole only if that gives too few tokens.
        """
        room = _CHARACTERS_PER_TOKEN * length
        beginnings = [t if len(t) <= room else _without_last_word(t[:room]) for t in texts]
        ids = self._ids(beginnings, length)
        # `is not`: only a text that was cut can have lost tokens.
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
    """Group prompts by token count; yield each batch's row indices and padded length."""
    groups: dict[int, list[int]] = defaultdict(list)
    for row, tokens in enumerate(lengths):
        groups[min(longest, -(-tokens // _LENGTH_STEP) * _LENGTH_STEP)].append(row)
    for read, rows in groups.items():
        for start in range(0, len(rows), _BATCH_PROMPTS):
            yield rows[start : start + _BATCH_PROMPTS], read


def _without_last_word(text: str) -> str:
    """Drop the last word, which may be cut off, unless it is the only one."""
    return " ".join(text.rsplit(maxsplit=1)[:1])
