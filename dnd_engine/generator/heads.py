"""The registry of decoder heads: networks that turn a condition into weight tokens.

`hyperconv` is the paper's; `mlp` is compared with it at the same size. Imports no torch until a
head is built, so that settings can be checked without it.

Sources: hyperconv, Liang et al. 2025, arXiv:2506.16406; mlp, after Charakorn et al. 2025
(Text-to-LoRA), arXiv:2506.06105.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dnd_engine.errors import ConfigError
from dnd_engine.generator.stage import Stage
from dnd_engine.lora.layout import LoRALayout

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSettings:
    """What a head is built from."""

    layout: LoRALayout
    features: tuple[Stage, ...]
    """Decoder stages; the first is (prompts, length, width), the last the token grid. Only the
    hyper-convolutional decoder has stages between them."""
    kernel_size: int
    """Kernel size of the hyper-convolutional decoder."""
    head_options: Mapping[str, int] = field(default_factory=dict)
    """Options of the head. `GeneratorConfig` fills in missing ones, so that a later version with
    other defaults rebuilds the same head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A kind of decoder."""

    build: "Callable[[HeadSettings], nn.Module]"
    """Builds the decoder: a module that maps a standardised condition (batch, prompts, length,
    width) to weight tokens (batch, tokens, rows, cols). Its initial output is zero, so that an
    untrained generator leaves the base unchanged."""
    options: Mapping[str, int] = field(default_factory=dict)
    """Option names and defaults. The defaults give every head about 6 to 7 M parameters on
    SmolLM2-135M, so that heads are compared at equal size."""
    learning_rate: float = 5e-4
    """Default peak learning rate of the decoder. Source: feasibility runs of `hyperconv`,
    untuned."""
    has_stages: bool = False
    """Whether the head uses intermediate stages and the kernel size."""


def head_named(name: object) -> Head:
    """Look up a head.

    Raises:
        ConfigError: If there is no such head.
    """
    if not isinstance(name, str) or name not in HEADS:
        raise ConfigError(f"`head` must be one of {', '.join(HEADS)}, got {name!r}.")
    return HEADS[name]


def _hyperconv(settings: HeadSettings) -> "nn.Module":
    from dnd_engine.generator.hyperconv import HyperConvDecoder

    decoder = HyperConvDecoder(settings.features, settings.kernel_size)
    # Zero here alone: if the layer before wrote zeros as well, the weights of both would have no
    # gradient.
    for parameter in decoder.last_convolution.parameters():
        parameter.data.zero_()
    return decoder


def _mlp(settings: HeadSettings) -> "nn.Module":
    from dnd_engine.generator.mlp import MLPHead

    return MLPHead(settings.layout, settings.features[0], settings.head_options["hidden"])


HEADS: dict[str, Head] = {
    "hyperconv": Head(build=_hyperconv, has_stages=True),
    "mlp": Head(build=_mlp, options={"hidden": 512}),  # the width of the trunk
}
"""Heads by the name that recipes and `config.json` use."""
