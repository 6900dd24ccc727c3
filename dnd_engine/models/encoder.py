"""Encodes prompts to a condition: token-level sentence embeddings of a prompt batch.

Wraps a frozen sentence-transformers model. Knows text in, tensors out; knows nothing of LoRA.
Source: Liang et al. 2025 use token-level `last_hidden_state` of a MiniLM, without pooling.
"""

import hashlib
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from sentence_transformers import SentenceTransformer
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from dnd_engine.errors import AssetError
from dnd_engine.limits import FIXED
from dnd_engine.models.own_code import refuse_own_code
from dnd_engine.models.sources import LOADING_FAULTS, first_line
from dnd_engine.models.threads import in_parallel

POOLED_LENGTH = 48
"""Tokens per prompt in its pooled embedding, if no generator determines the number."""

_BATCH_PROMPTS, _BATCH_PROMPTS_CPU = 16, 8
"""Prompts read at a time; on a CPU by one thread, with others beside it. Measured on two cores:
16 prompts are read twice as fast in two batches as in one, and 128 a tenth slower in 16 than in 8.
Smaller ones waste time between layers."""

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
    """Mean over all tokens, of the first piece if a prompt is read in pieces, normalised to unit
    length: for similarity between tasks."""


@runtime_checkable
class PromptReader(Protocol):
    """What encodes prompts: a `PromptEncoder`, or one with more behind it."""

    @property
    def identity(self) -> str:
        """Identifies its embeddings, to keep those of different readers apart."""

    def encode(self, texts: Sequence[str], length: int) -> EncodedPrompts:
        """Encode prompts to `length` vectors each."""


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
        return sum(map(_num_bytes, rows))

    def encode(self, reader: PromptReader, texts: Sequence[str], length: int) -> EncodedPrompts:
        """Encode prompts that are not cached, and return all; see `PromptEncoder.encode`."""
        read_by = f"{reader.identity} {length}"
        keys = [hashlib.sha256(f"{read_by} {text}".encode()).digest() for text in texts]
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._rows}
        encoded = reader.encode(list(new.values()), length)
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
        size = self.num_bytes
        while len(self._rows) > FIXED.max_encoded_prompts or size > FIXED.max_encoded_bytes:
            _, dropped = self._rows.popitem(last=False)
            size -= _num_bytes(dropped)
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
        AssetError: If the folder has no such model, or one that needs code of its own.
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
        except LOADING_FAULTS as error:
            refuse_own_code(folder, error)
            raise AssetError(
                "`{folder}` is no sentence encoder that can be loaded: {reason}",
                folder=str(folder),
                reason=first_line(error),
            ) from error
        self._model.eval()
        self.device = device
        self.width = int(self._model.get_embedding_dimension() or 0)
        self.keeps_padding = keeps_padding
        self.identity = f"{folder} {dtype} {keeps_padding}"
        """Identifies its embeddings, to keep those of different encoders apart."""

    @property
    def longest(self) -> int | None:
        """Maximum tokens that are read at once; None without a limit."""
        config = getattr(self._model[0], "config", None)
        positions: int | None = getattr(config, "max_position_embeddings", None)
        if positions is None:
            return None
        # Encoders like RoBERTa count positions from the one after that of padding.
        padding = [
            module.padding_idx
            for name, module in self._model[0].named_modules()
            if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding)
        ]
        return positions - max((index + 1 for index in padding if index is not None), default=0)

    def count_tokens(self, texts: Sequence[str], length: int) -> list[int]:
        """Count the tokens of prompts, at most `length` each, special tokens included."""
        return list(map(len, self._tokenise(texts, length)))

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], length: int, *, trimmed: bool = False) -> EncodedPrompts:
        """Encode prompts, truncated to their first `length` tokens.

        If that is more than the encoder reads at once, the tokens are cut into pieces, and each is
        encoded by itself: positions start again, and only the first begins with [CLS]. Source: the
        authors' code.

        Args:
            texts: The prompts.
            length: Most tokens of a prompt, and how many vectors are returned for it.
            trimmed: Return only as many vectors as the longest of these prompts has; whole pieces
                if padding is kept. What would follow is zeros, or then `padding`.
        """
        ids = self._tokenise(texts, length)
        window = min(length, self.longest or length)
        if not texts or (window == length and not trimmed):
            return self._read(ids, length)
        cut = [[row[at : at + window] for at in range(0, max(1, len(row)), window)] for row in ids]
        read = self._read([piece for pieces in cut for piece in pieces], window)
        counts = [len(pieces) for pieces in cut]
        tokens, mask = (
            pad_sequence([part.flatten(0, 1) for part in parts.split(counts)], batch_first=True)
            for parts in (read.tokens, read.mask)
        )
        if trimmed:
            length = int(mask.sum(dim=1).max())
        # By a negative number too, which cuts.
        tokens = pad(tokens, (0, 0, 0, length - tokens.shape[1]))
        mask = pad(mask, (0, length - mask.shape[1]))
        if self.keeps_padding and not mask.all():
            # All prompts are cut at the same places, so each vector depends on its place alone.
            tokens = tokens.where(mask[..., None], self.padding(length))
            mask = torch.ones_like(mask)
        return EncodedPrompts(tokens, mask, torch.stack([p[0] for p in read.pooled.split(counts)]))

    def padding(self, length: int) -> Float[Tensor, "length width"]:
        """Return the vectors of pieces that no token of a prompt is in, with padding kept."""
        piece = self._empty_piece
        return piece.repeat(-(-length // len(piece)), 1)[:length]

    @cached_property
    def _empty_piece(self) -> Float[Tensor, "window width"]:
        """The encoding of a piece of padding alone, which is always the same.

        With no token to attend to, attention is undefined. Here it gives zeros, as torch's does
        since 2.5. By torch's source, so it was for the authors, with bfloat16 autocast on GPUs,
        where their mask, the least float32, becomes minus infinity; nobody has seen it here. (In
        float32 on a CPU, their mask gives the mean of the padding instead.)
        """
        assert self.longest is not None
        ids = torch.full((1, self.longest), self._padding)
        # Of torch's kernels, this one promises zeros on every device.
        with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH):
            tokens, _ = self._run(ids, torch.zeros_like(ids, dtype=torch.bool))
        return tokens[0]

    def _read(self, ids: Sequence[Sequence[int]], length: int) -> EncodedPrompts:
        """Encode rows of at most `length` token ids.

        Batches contain rows of similar length, to reduce padding. All batches have the same number
        of rows, padded with empty ones: then sums have the same order whatever the other rows are,
        and a row's encoding is bit-identical in any batch. On a CPU each batch has one thread.
        """
        # With types, as wherever visitors compute: while another thread loads a model, transformers
        # changes the default of the whole process.
        tokens = torch.zeros(len(ids), length, self.width, dtype=torch.float32)
        mask = torch.zeros(len(ids), length, dtype=torch.bool)
        pooled = torch.zeros(len(ids), self.width, dtype=torch.float32)
        lengths = [length if self.keeps_padding else len(row) for row in ids]
        on_cpu = self.device.type == "cpu"
        size = _BATCH_PROMPTS_CPU if on_cpu else _BATCH_PROMPTS

        @torch.inference_mode()
        def read_batch(batch: tuple[list[int], int]) -> None:
            rows, read = batch
            padded = torch.full((size, read), self._padding)
            here = torch.zeros(size, read, dtype=torch.bool)
            here[len(rows) :, 0] = True  # attention needs at least one token
            for place, row in enumerate(rows):
                padded[place, : len(ids[row])] = torch.tensor(ids[row])
                here[place, : len(ids[row])] = True
            embeddings, means = self._run(padded, here)
            filled = slice(len(rows))
            kept = torch.ones_like(here) if self.keeps_padding else here
            mask[rows, :read] = kept[filled]
            tokens[rows, :read] = (embeddings * kept[..., None])[filled]
            pooled[rows] = means[filled]

        batches = _batches(lengths, length, size)
        if on_cpu:
            in_parallel(read_batch, batches)
        else:
            for batch in batches:
                read_batch(batch)
        return EncodedPrompts(tokens, mask, pooled)

    def _run(
        self, ids: Int[Tensor, "rows length"], mask: Bool[Tensor, "rows length"]
    ) -> tuple[Float[Tensor, "rows length width"], Float[Tensor, "rows pooled_width"]]:
        # The bare modules, because the library's `encode` sorts prompts by characters, not tokens,
        # and its batches vary in size.
        out = self._model(
            {
                "input_ids": ids.to(self.device),
                "attention_mask": mask.long().to(self.device),
            }
        )
        return out["token_embeddings"].float().cpu(), out["sentence_embedding"].float().cpu()

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


def _num_bytes(row: tuple[Tensor, ...]) -> int:
    return sum(part.nbytes for part in row)


def _batches(lengths: Sequence[int], longest: int, size: int) -> Iterator[tuple[list[int], int]]:
    """Group prompts by token count; yield each batch's row indices and padded length."""
    groups: dict[int, list[int]] = defaultdict(list)
    for row, tokens in enumerate(lengths):
        groups[min(longest, -(-tokens // _LENGTH_STEP) * _LENGTH_STEP)].append(row)
    for read, rows in groups.items():
        for start in range(0, len(rows), size):
            yield rows[start : start + size], read


def _without_last_word(text: str) -> str:
    """Drop the last word, which may be cut off, unless it is the only one."""
    return " ".join(text.rsplit(maxsplit=1)[:1])
