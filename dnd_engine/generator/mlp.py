"""The MLP head: a pooled condition, one trunk, and an output layer per size of a LoRA matrix.

Knows layouts and conditions; knows neither the base nor where a condition comes from.

Source: after Charakorn et al. 2025 (Text-to-LoRA), arXiv:2506.06105.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dnd_engine.errors import LayoutMismatchError
from dnd_engine.generator.stage import Stage
from dnd_engine.lora.layout import LoRALayout

_EMBEDDING_STD = 0.5
"""Initial standard deviation of the embeddings. Their sum is then about as large as the normalised
condition, so that neither dominates at the start."""


def pool_condition(
    condition: Float[Tensor, "batch prompts length width"],
) -> Float[Tensor, "batch width"]:
    """Average all real tokens of all prompts, in float32.

    Padding is exactly zero after `Generator.standardise`, and is ignored.
    """
    num_tokens = (condition != 0).any(dim=-1).sum(dim=(1, 2))
    total = condition.float().sum(dim=(1, 2))
    # Without any token, zeros instead of NaN.
    return total / num_tokens.clamp(min=1)[:, None]


class _ResidualBlock(nn.Module):
    """Two linear layers beside a skip connection."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.first = nn.Linear(hidden, hidden)
        self.second = nn.Linear(hidden, hidden)

    def forward(
        self, x: Float[Tensor, "batch matrices hidden"]
    ) -> Float[Tensor, "batch matrices hidden"]:
        y: Tensor = x + self.second(nn.functional.silu(self.first(self.norm(x))))
        return y


class _Trunk(nn.Module):
    """Combines the pooled condition with the layer, module and side of each LoRA matrix."""

    layer_of: Tensor
    module_of: Tensor
    side_of: Tensor

    def __init__(self, layout: LoRALayout, condition: Stage, hidden: int) -> None:
        super().__init__()
        self.condition = condition
        matrices = tuple(layout.matrices())
        names = list(dict.fromkeys(m.target.module for m in matrices))
        # Indices follow from the layout, so they are not saved with the weights.
        for name, numbers in (
            ("layer_of", [m.target.layer for m in matrices]),
            ("module_of", [names.index(m.target.module) for m in matrices]),
            ("side_of", ["AB".index(m.side) for m in matrices]),
        ):
            self.register_buffer(name, torch.tensor(numbers), persistent=False)
        self.read = nn.Linear(condition[2], hidden)
        self.read_norm = nn.LayerNorm(hidden)
        self.layer = nn.Embedding(max(m.target.layer for m in matrices) + 1, hidden)
        self.module = nn.Embedding(len(names), hidden)
        self.side = nn.Embedding(2, hidden)
        for embedding in (self.layer, self.module, self.side):
            nn.init.normal_(embedding.weight, std=_EMBEDDING_STD)
        self.blocks = nn.Sequential(_ResidualBlock(hidden), _ResidualBlock(hidden))
        self.norm = nn.LayerNorm(hidden)

    def forward(
        self, condition: Float[Tensor, "batch prompts length width"]
    ) -> Float[Tensor, "batch matrices hidden"]:
        if tuple(condition.shape[1:]) != self.condition:
            raise LayoutMismatchError(
                f"expected a condition of (prompts, length, width) {self.condition}, "
                f"got {tuple(condition.shape[1:])}."
            )
        pooled = pool_condition(condition).to(self.read.weight.dtype)
        task = self.read_norm(self.read(pooled))
        place = self.layer(self.layer_of) + self.module(self.module_of) + self.side(self.side_of)
        features: Tensor = self.norm(self.blocks(task[:, None] + place))
        return features


class MLPHead(nn.Module):
    """Pooled condition, shared trunk, and one output layer per size of a LoRA matrix."""

    order: Tensor

    def __init__(self, layout: LoRALayout, condition: Stage, hidden: int) -> None:
        super().__init__()
        self.trunk = _Trunk(layout, condition, hidden)
        self.cell = (layout.spec.r, layout.width)
        self.members: dict[int, list[int]] = {}
        tokens: dict[int, list[int]] = {}
        # Matrices of one size share an output layer: one layer per matrix would hold most weights.
        for number, m in enumerate(layout.matrices()):
            self.members.setdefault(m.num_tokens, []).append(number)
            own = range(m.first_token, m.first_token + m.num_tokens)
            tokens.setdefault(m.num_tokens, []).extend(own)
        self.outputs = nn.ModuleDict(
            {str(size): nn.Linear(hidden, size * self.cell[0] * self.cell[1]) for size in tokens}
        )
        for output in self.outputs.values():
            assert isinstance(output, nn.Linear)
            # Start with zero output, so that training starts from exactly the shared tokens.
            nn.init.zeros_(output.weight)
            nn.init.zeros_(output.bias)
        written = torch.tensor([token for group in tokens.values() for token in group])
        # Outputs are ordered by size; this restores the layout's order.
        self.register_buffer("order", written.argsort(), persistent=False)

    def forward(
        self, condition: Float[Tensor, "batch prompts length width"]
    ) -> Float[Tensor, "batch tokens rows cols"]:
        """Decode a standardised condition into weight tokens.

        Raises:
            LayoutMismatchError: If the condition's shape is not the config's.
        """
        features = self.trunk(condition)
        parts = [
            self.outputs[str(size)](features[:, numbers]).reshape(len(features), -1, *self.cell)
            for size, numbers in self.members.items()
        ]
        return torch.cat(parts, dim=1)[:, self.order]
