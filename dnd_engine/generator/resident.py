"""A generator in memory with its prompt encoder: prompts in, weight tokens out.

Knows conditions and prompt batches; knows no adapters and no checks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dnd_engine.generator.folder import Generator, GeneratorFolder
from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.lora.layout import LoRALayout
from dnd_engine.models.encoder import EncodedPrompts, PromptEncoder, PromptMemory
from dnd_engine.models.runtime import Runtime


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
        length = self.folder.config.length
        # The base's lock covers encoder and decoder too, because they share its device.
        with self.runtime.lock:
            encoded = memory.encode(self.encoder, distinct, length)
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
            condition = self.generator.standardise(
                prompts.tokens.to(device), prompts.mask.to(device)
            )
            # (batches, prompts, length, width): prompt i goes to batch i mod `batches`.
            dealt = condition.reshape(size, batches, *condition.shape[1:]).transpose(0, 1)
            dtype = next(self.generator.decoder.parameters()).dtype
            tokens: Tensor = self.generator(dealt.to(dtype))
        # Rounded as files store it, so that chat applies exactly what a download contains.
        return tokens.float().mean(dim=0).to(torch.bfloat16).cpu()

    def towards_shared(
        self, tokens: Float[Tensor, "tokens rows cols"], own_share: float
    ) -> Float[Tensor, "tokens rows cols"]:
        """Interpolate between an adapter and the part that all adapters share.

        Args:
            tokens: Weight tokens from `decode`.
            own_share: Share of the difference to keep; all of it if nothing is shared.
        """
        shared = self.generator.shared.detach().cpu().float()
        # Converted decoders share nothing, and moving towards zero would only weaken the adapter.
        if own_share == 1 or not shared.any():
            return tokens
        return shared.lerp(tokens.float(), own_share).to(tokens.dtype)

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
