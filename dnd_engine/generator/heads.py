"""The registry of decoder heads: networks that turn a condition into weight tokens.

`hyperconv` is the paper's; `mlp` is compared with it at the same size. Imports no torch until a
head is built, so that settings can be checked without it.

Sources: hyperconv, Liang et al. 2025, arXiv:2506.16406; mlp, after Charakorn et al. 2025
(Text-to-LoRA), arXiv:2506.06105.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from dnd_engine.errors import ConfigError
from dnd_engine.generator.stage import Stage
from dnd_engine.lora.layout import LoRALayout

if TYPE_CHECKING:
    from torch import nn

__all__ = ["HEADS", "Head", "HeadSettings", "head_named"]


@runtime_checkable
class HeadSettings(Protocol):
    """What a head is built from: the part of a `GeneratorConfig` that heads read."""

    @property
    def layout(self) -> LoRALayout:
        """The LoRA to write."""

    @property
    def features(self) -> tuple[Stage, ...]:
        """The stages; the first is the shape of a condition, the last the grid of tokens."""

    @property
    def kernel_size(self) -> int:
        """Kernel size, for a head that has stages."""

    @property
    def head_options(self) -> Mapping[str, int]:
        """All of the head's options."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """One kind of decoder."""

    build: "Callable[[HeadSettings], nn.Module]"
    """Makes the decoder: a module that maps a standardised condition (batch, prompts, length,
    width) to weight tokens (batch, tokens, rows, cols). It starts with zero tokens, so that an
    untrained generator is exactly the base."""
    options: Mapping[str, int] = field(default_factory=dict)
    """Names and defaults. The defaults give every head about 6 to 7 M parameters on SmolLM2-135M,
    so that heads are compared at one size."""
    learning_rate: float = 5e-4
    """Peak of the decoder's learning rate where a recipe names none. Source: feasibility runs of
    `hyperconv`, untuned."""
    has_stages: bool = False
    """Whether it uses the stages between the first and the last, and the kernel size."""


def head_named(name: object) -> Head:
    """Look up a head.

    Raises:
        ConfigError: If there is none of this name.
    """
    if not isinstance(name, str) or name not in HEADS:
        raise ConfigError(f"`head` must be one of {', '.join(HEADS)}, got {name!r}.")
    return HEADS[name]


def _hyperconv(settings: HeadSettings) -> "nn.Module":
    from dnd_engine.generator.hyperconv import HyperConvDecoder

    decoder = HyperConvDecoder(settings.features, settings.kernel_size)
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
"""By the name that recipes and `config.json` use."""
