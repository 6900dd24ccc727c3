"""A generator in memory with its prompt encoder: prompts in, weight tokens out.

Knows conditions and prompt batches; knows no adapters and no checks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dnd_engine.generator.folder import Generator, GeneratorFolder
from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.lora.layout import LoRALayout
from dnd_engine.lora.weight_tokens import with_zeros
from dnd_engine.models.encoder import EncodedPrompts, PromptEncoder, PromptMemory, PromptReader
from dnd_engine.models.runtime import Runtime

_PROJECTED_TOGETHER = 16
"""Prompts whose tokens are in memory at the same time while they are projected. 16 of 26,624 tokens
take 650 MB; those of ordinary prompts take one piece of the encoder each, 13 MB."""


@dataclass(frozen=True, slots=True)
class _ProjectingReader:
    """An encoder with the projection of a generator behind it.

    Only the vectors that a decoder reads are kept, 1.5 MB a prompt.
    """

    encoder: PromptEncoder
    generator: Generator
    identity: str

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], length: int) -> EncodedPrompts:
        """Encode prompts and project each to `length` vectors, already standardised."""
        reads = self.generator.config.read_length
        width = self.generator.config.width
        projected = torch.zeros(len(texts), length, width, dtype=torch.float32)
        pooled = torch.zeros(len(texts), width, dtype=torch.float32)
        for first in range(0, len(texts), _PROJECTED_TOGETHER):
            some = texts[first : first + _PROJECTED_TOGETHER]
            encoded = self.encoder.encode(some, reads, trimmed=True)
            pooled[first : first + len(some)] = encoded.pooled
            # One at a time, because each fills up with padding to all the tokens that are read.
            for row in range(len(some)):
                projected[first + row] = self._project(encoded.tokens[row], encoded.mask[row])
        return EncodedPrompts(projected, torch.ones(len(texts), length).bool(), pooled)

    def _project(
        self, tokens: Float[Tensor, "read width"], mask: Bool[Tensor, " read"]
    ) -> Float[Tensor, "length width"]:
        reads = self.generator.config.read_length
        if self.encoder.keeps_padding and len(tokens) < reads:
            # From the start, since its pieces are cut at the same places as those of a prompt.
            tokens = torch.cat([tokens, self.encoder.padding(reads)[len(tokens) :]])
            mask = torch.ones(reads, dtype=torch.bool)
        device, dtype = self.generator.shared.device, _dtype(self.generator)
        condition = self.generator.standardise(tokens.to(device), mask.to(device))
        return self.generator.project(condition[None, None].to(dtype))[0, 0].float().cpu()


@dataclass(frozen=True, slots=True)
class ResidentGenerator:
    """One generator, loaded for one base."""

    folder: GeneratorFolder
    generator: Generator
    encoder: PromptEncoder
    runtime: Runtime
    teacher: Float[Tensor, "tokens rows cols"] | None
    """Weight tokens of the trained teacher, which answers whole prompts; None without one."""

    @property
    def layout(self) -> LoRALayout:
        """Layout of its weight tokens."""
        return self.folder.config.layout

    @property
    def num_prompts(self) -> int:
        """Number of prompts in one condition."""
        return self.folder.config.num_prompts

    def encode(
        self, texts: Sequence[str], distinct: Sequence[str], memory: PromptMemory
    ) -> EncodedPrompts:
        """Encode the prompts of one condition.

        Args:
            texts: Prompts in the order of the condition, possibly repeated.
            distinct: The same prompts without repetition.
            memory: Cache of encoded prompts.
        """
        config = self.folder.config
        reader: PromptReader = self.encoder
        if config.reads_tokens is not None:
            # What is projected is the generator's own, so another must not find it in the memory.
            identity = f"{self.encoder.identity} {self.folder.sha256}"
            reader = _ProjectingReader(self.encoder, self.generator, identity)
        # The base's lock covers encoder and decoder too, because they share its device.
        with self.runtime.lock:
            encoded = memory.encode(reader, distinct, config.length)
        rows = torch.tensor([distinct.index(text) for text in texts])
        return EncodedPrompts(encoded.tokens[rows], encoded.mask[rows], encoded.pooled[rows])

    @torch.inference_mode()
    def decode(self, prompts: EncodedPrompts) -> Float[Tensor, "tokens rows cols"]:
        """Decode prompt batches and average their weight tokens.

        Sampled prompts are ordered by bucket; dealing them out in turn gives every batch the same
        shares.
        """
        size, device = self.num_prompts, self.runtime.base.device
        batches = len(prompts.tokens) // size
        with self.runtime.lock:
            condition = prompts.tokens.to(device)
            # What is projected was standardised before.
            if self.generator.projection is None:
                condition = self.generator.standardise(condition, prompts.mask.to(device))
            # (batches, prompts, length, width): prompt i goes to batch i mod `batches`.
            dealt = condition.reshape(size, batches, *condition.shape[1:]).transpose(0, 1)
            tokens = self.generator.decode_mean(dealt.to(_dtype(self.generator)))
        # Rounded as files store it, so that chat applies exactly what a download contains.
        return tokens.to(torch.bfloat16).cpu()

    def towards_shared(
        self, tokens: Float[Tensor, "tokens rows cols"], own_share: float
    ) -> Float[Tensor, "tokens rows cols"]:
        """Keep a share of the difference between what `decode` returns and what all adapters share.

        If nothing is shared, keep all of it.
        """
        shared = self.generator.shared.detach().cpu().float()
        # Converted decoders share nothing, and moving towards zero would only weaken the adapter.
        if own_share == 1 or not shared.any():
            return tokens
        return shared.lerp(tokens.float(), own_share).to(tokens.dtype)

    def in_all_layers(
        self, tokens: Float[Tensor, "tokens rows cols"]
    ) -> tuple[Float[Tensor, "all_tokens rows cols"], LoRALayout]:
        """Add zeros for the base's layers that the generator does not adapt.

        Adapters have all layers: settings that leave some out are not known to every tool that
        reads PEFT's files.
        """
        whole = LoRALayout.from_config(self.runtime.base.config, self.layout.spec)
        return with_zeros(tokens, self.layout, whole), whole

    def fit(self, tokens: Float[Tensor, "tokens rows cols"]) -> FittedLoRA:
        """Convert weight tokens to the form that the base's host applies."""
        return self.runtime.host.fit(tokens[None], self.layout)

    def fit_shared(self) -> FittedLoRA:
        """Return the part that all of its adapters share, which follows instructions well."""
        return self.fit(self.generator.shared.detach().to(torch.bfloat16))

    def fit_teacher(self) -> FittedLoRA | None:
        """Return the trained teacher, which follows instructions better; None if there is none."""
        if self.teacher is None:
            return None
        layout = self.layout.with_rank(self.teacher.shape[1])
        return self.runtime.host.fit(self.teacher[None], layout)


def _dtype(generator: Generator) -> torch.dtype:
    """Return the compute type of a generator's networks."""
    return next(generator.decoder.parameters()).dtype
