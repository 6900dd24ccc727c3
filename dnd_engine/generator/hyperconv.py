"""The paper's hyper-convolutional decoder (HCD): condition embeddings to weight tokens.

Only `nn.Module`s live here. They know axes and kernels; they know neither text nor LoRA. The same
class serves the authors' sizes (1.1 B parameters for Qwen2.5-0.5B) and compact ones that a laptop
trains: only `features` differs.

Source: Liang et al. 2025, arXiv:2506.16406; parameter names follow the authors' release, so their
weights load unchanged.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dnd_engine.errors import ConfigError, LayoutMismatchError
from dnd_engine.generator.stage import Stage
from dnd_engine.limits import check_odd


def _conv(inputs: int, outputs: int, kernel_size: int, *, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel_size, padding="same", bias=bias)


class _AxisMixer(nn.Module):
    """Map (H, W) to (H', W'), convolving once with W and once with H as the channel axis.

    Two branches take the two orders; the second is squashed, the only non-linearity apart from the
    norm. They are averaged with a bias per output cell:
    `y = (conv1h(conv1w(x)) + tanh(conv2w(conv2h(x))) + bias) / 3`.
    """

    def __init__(self, source: Stage, target: Stage, kernel_size: int) -> None:
        super().__init__()
        (_, height, width), (_, new_height, new_width) = source, target
        # Names are the authors' parameter names, so that their checkpoints load.
        self.bias = nn.Parameter(torch.zeros(new_height, new_width))
        self.norm = nn.LayerNorm((height, width))
        self.conv1w = _conv(width, new_width, kernel_size)
        self.conv1h = _conv(height, new_height, kernel_size)
        self.conv2h = _conv(height, new_height, kernel_size)
        self.conv2w = _conv(width, new_width, kernel_size)

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels new_height new_width"]:
        x = self.norm(x)
        width_first = _over_height(self.conv1h, _over_width(self.conv1w, x))
        height_first = _over_width(self.conv2w, _over_height(self.conv2h, x))
        mixed: Tensor = (width_first + torch.tanh(height_first) + self.bias) / 3
        return mixed


def _over_width(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Convolve with W as the channel axis, over the (H, channels) plane."""
    out: Tensor = conv(x.transpose(1, 3)).transpose(1, 3)
    return out


def _over_height(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Convolve with H as the channel axis, over the (channels, W) plane.

    The two planes are oriented differently, as in the authors' code: kernels are not symmetric, so
    their weights only reproduce their outputs this way.
    """
    out: Tensor = conv(x.transpose(1, 2)).transpose(1, 2)
    return out


class HyperConvLayer(nn.Module):
    """One stage: mix the axes (`linear1`), then convolve N channels to N' (`linear2`)."""

    def __init__(self, source: Stage, target: Stage, kernel_size: int) -> None:
        super().__init__()
        self.linear1 = _AxisMixer(source, target, kernel_size)
        self.linear2 = _conv(source[0], target[0], kernel_size, bias=True)
        self.is_residual = tuple(source) == tuple(target)

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch new_channels new_height new_width"]:
        """Map one stage to the next; equal shapes add the input (no released config has any)."""
        y: Tensor = self.linear2(self.linear1(x))
        return x + y if self.is_residual else y

    def mean(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "1 new_channels new_height new_width"]:
        """Map a batch and average it; `linear2`, which is linear, then runs once."""
        y: Tensor = self.linear2(self.linear1(x).mean(dim=0, keepdim=True))
        return x.mean(dim=0, keepdim=True) + y if self.is_residual else y


class HyperConvBlock(nn.Module):
    """All stages in sequence."""

    def __init__(self, features: Sequence[Stage], kernel_size: int) -> None:
        super().__init__()
        self.module_list = nn.ModuleList(
            HyperConvLayer(source, target, kernel_size) for source, target in pairwise(features)
        )

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch new_channels new_height new_width"]:
        """Run all stages."""
        for layer in self.module_list:
            x = layer(x)
        return x


class HyperConvDecoder(nn.Module):
    """Condition embeddings of a prompt batch to LoRA weight tokens.

    Args:
        features: Stages, at least two: the first is (prompts, length, width) of the condition, the
            last (tokens, rows, columns) of the weight tokens.
        kernel_size: Odd side of every convolution kernel. Source: the authors use 9 and 11.

    Raises:
        ConfigError: If there are fewer than two stages or the kernel is even.
    """

    def __init__(self, features: Sequence[Sequence[int]], kernel_size: int) -> None:
        super().__init__()
        if len(features) < 2 or any(len(stage) != 3 or min(stage) < 1 for stage in features):
            raise ConfigError(
                "`features` must be two or more (channels, height, width) of positive numbers, "
                f"got {features!r}."
            )
        # An even kernel has no centre, so padding to the same size would shift the plane.
        check_odd("kernel_size", kernel_size)
        self.features: tuple[Stage, ...] = tuple((n, h, w) for n, h, w in features)
        self.decoder = HyperConvBlock(self.features, kernel_size)

    @property
    def last_convolution(self) -> nn.Conv2d:
        """The layer that outputs weight tokens; zeroing it zeroes the decoder's output."""
        layer = self.decoder.module_list[-1]
        assert isinstance(layer, HyperConvLayer)
        return layer.linear2

    def forward(
        self, condition: Float[Tensor, "batch prompts length width"]
    ) -> Float[Tensor, "batch tokens rows cols"]:
        """Decode condition embeddings into weight tokens.

        Args:
            condition: Encoder output, one prompt batch per batch entry.

        Returns:
            Weight tokens, still scaled (see `weight_tokens` and `generator`).

        Raises:
            LayoutMismatchError: If (prompts, length, width) is not the decoder's first stage.

        Source: Liang et al. 2025, arXiv:2506.16406, hyper-convolutional decoder.
        """
        self._check(condition)
        tokens: Tensor = self.decoder(condition)
        return tokens

    def mean(
        self, condition: Float[Tensor, "batch prompts length width"]
    ) -> Float[Tensor, "1 tokens rows cols"]:
        """Decode like `forward` and average the batch, without the last convolution for each entry.

        Raises:
            LayoutMismatchError: As in `forward`.
        """
        self._check(condition)
        *layers, last = self.decoder.module_list
        x = condition
        for layer in layers:
            x = layer(x)
        assert isinstance(last, HyperConvLayer)
        return last.mean(x)

    def _check(self, condition: Tensor) -> None:
        if tuple(condition.shape[1:]) != self.features[0]:
            raise LayoutMismatchError(
                f"expected a condition of (prompts, length, width) {self.features[0]}, "
                f"got {tuple(condition.shape[1:])}."
            )
