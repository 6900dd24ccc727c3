"""Sizes of hyper-convolutional decoders, ours and the paper's, computed from their stages.

Those of the paper's that project their prompts are counted with their projection.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

from dnd_engine.generator.stage import Stage
from dnd_engine.lora.layout import LoRALayout, LoRASpec
from dnd_engine.plan.shapes import BaseShape
from dnd_engine.training.recipe import TrainRecipe

# The defaults of `dnd train`, read from it so that plans follow when they change.
_RECIPE: Mapping[str, Any] = {f.name: f.default for f in fields(TrainRecipe)}
OUR_STAGES: Sequence[Stage] = _RECIPE["stages"]
_OUR_KERNEL: int = _RECIPE["kernel_size"]

_SMALL: Sequence[Stage] = (
    (128, 384, 384),
    (128, 200, 300),
    (128, 100, 256),
    (256, 50, 200),
    (512, 50, 200),
    (1024, 25, 200),
    (1024, 10, 200),
    (2048, 10, 200),
)
_MIDDLE: Sequence[Stage] = (
    (16, 1000, 384),
    (64, 500, 300),
    (256, 125, 300),
    (512, 64, 300),
    (1024, 64, 256),
    (2048, 32, 256),
)
_LARGE: Sequence[Stage] = (
    (16, 1000, 384),
    (64, 500, 384),
    (256, 125, 400),
    (512, 64, 400),
    (1024, 64, 400),
    (2048, 32, 400),
)
"""The authors' released stages for Qwen2.5-0.5B, 1.5B (coding) and 7B, without the last."""
_READS_TOKENS = 26_624
"""Tokens of a prompt that the latter two, for coding, read and project."""


@dataclass(frozen=True, slots=True)
class DecoderSize:
    """Parameters of a decoder, and operations per prompt batch."""

    parameters: int
    forward_flops: int
    """Two per multiplication in a convolution or a projection; other operations are not counted."""
    last_flops: int
    """Those of the last convolution, which the mean of several batches needs only once."""


def size_of(
    features: Sequence[Stage], kernel_size: int, reads_tokens: int | None = None
) -> DecoderSize:
    """Compute the size of a `HyperConvDecoder` with these stages.

    `reads_tokens` are those that a `Projection` before it reads, all of them filled; None without
    one.
    """
    parameters = flops = last_flops = 0
    if reads_tokens is not None:
        prompts, length, width = features[0]
        products = reads_tokens * length + length**2
        parameters += products + 2 * length  # with the biases of both layers
        flops += 2 * prompts * width * products
    square = kernel_size**2
    for (n, h, w), (new_n, new_h, new_w) in pairwise(features):
        # Each of the two branches convolves over both axes.
        mixers = 2 * square * (w * new_w + h * new_h)
        last = square * n * new_n
        # Last come the biases of the last convolution and of each new cell, and the norm's weight
        # and bias, each as large as the old plane.
        parameters += mixers + last + new_n + new_h * new_w + 2 * h * w
        # One branch maps W before H and the other after it, so each kernel runs over the old and
        # the new size of the other axis.
        flops += 2 * square * w * new_w * n * (h + new_h) + 2 * square * h * new_h * n * (w + new_w)
        last_flops = 2 * last * new_h * new_w
        flops += last_flops
    return DecoderSize(parameters, flops, last_flops)


def our_decoder(layout: LoRALayout) -> DecoderSize:
    """Compute the size of `dnd train`'s default decoder for a layout, without the shared tokens."""
    return size_of((*OUR_STAGES, layout.grid()), _OUR_KERNEL)


def papers_spec(shape: BaseShape) -> LoRASpec:
    """Return the LoRA that the paper trains on a base of this size."""
    # `_is_small` draws the line at one billion, between the released sizes of 0.5 and 1.5 billion.
    return LoRASpec(r=8, lora_alpha=16) if _is_small(shape) else LoRASpec(r=16, lora_alpha=32)


def papers_decoder(shape: BaseShape) -> tuple[DecoderSize, bool]:
    """Compute the size of the authors' decoder for a base with a layout for `papers_spec`.

    Returns:
        The size, and whether the authors released exactly these stages. For other bases, the stages
        of the next released size are used, with the last stage that the base's LoRA needs.
    """
    layout = shape.layout
    stages, kernel, reads_tokens = _SMALL, 9, None
    if not _is_small(shape):
        # Four billion lies between the released sizes of 1.5 and 7 billion.
        stages = _MIDDLE if shape.parameters < 4e9 else _LARGE
        kernel, reads_tokens = 11, _READS_TOKENS
    # The authors' tokens carry their scale in a border.
    grid = layout.grid("standardised")
    # The last stages of the released decoders, which tell their bases apart.
    released = grid in {(4296, 10, 130), (4508, 18, 258), (4928, 18, 514)}
    return size_of((*stages, grid), kernel, reads_tokens), released


def _is_small(shape: BaseShape) -> bool:
    return shape.parameters < 1e9
