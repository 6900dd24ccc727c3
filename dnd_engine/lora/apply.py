"""Applies LoRA adapters to a frozen base, a different adapter for each row of a batch.

The base never changes. Forward hooks on its linear layers add the low-rank term while a context
manager is open, and nothing otherwise. Training applies one adapter per task in the batch; twin
chat applies a zero adapter and a real one.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from dnd_engine.errors import LayoutMismatchError
from dnd_engine.lora.layout import LoRALayout


class LoRAHost:
    """A frozen base to which you can apply one adapter per group of batch rows.

    Args:
        model: A causal language model with the module paths of the layout.
        layout: The linear layers to adapt.

    Raises:
        LayoutMismatchError: If a target layer is missing or has other sizes.
    """

    def __init__(self, model: nn.Module, layout: LoRALayout) -> None:
        self.model = model
        self.layout = layout
        self._active = FittedLoRA({})
        modules = dict(model.named_modules())
        for target in layout.targets:
            module = modules.get(target.path)
            sizes = (target.in_features, target.out_features)
            if not isinstance(module, nn.Linear):
                raise LayoutMismatchError(f"the base has no linear layer `{target.path}`.")
            if (module.in_features, module.out_features) != sizes:
                raise LayoutMismatchError(
                    f"`{target.path}` is {module.in_features} to {module.out_features}, "
                    f"the layout says {sizes[0]} to {sizes[1]}."
                )
            module.register_forward_hook(self._hook(target.path))

    def _hook(self, path: str):  # type: ignore[no-untyped-def]  # torch types hooks as Callable[..., Any]
        def add_low_rank(_module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            factors = self._active.factors.get(path)
            if factors is None:
                return output
            down, up = factors
            groups, bare = down.shape[0], self._active.num_bare
            x, y = args[0], output
            if bare:
                # Bare rows come first in the batch; they are skipped, not multiplied by zeros.
                rows = x.shape[0] * bare // (bare + groups)
                x, y = x[rows:], y[rows:]
            if x.shape[0] != groups:
                # All rows of a group become one, so that one product serves it. `view`, not
                # `reshape`: the sum must be written into the output and not into a copy.
                x, y = x.reshape(groups, -1, x.shape[-1]), y.view(groups, -1, y.shape[-1])
            # In place is safe: for its gradient, a linear layer saves its input, never its output.
            y.baddbmm_(torch.bmm(x, down), up)
            return output

        return add_low_rank

    @contextmanager
    def applying(self, fitted: "FittedLoRA | None") -> Iterator[None]:
        """Apply adapters to every forward pass inside the `with` block.

        It is not reentrant and not thread-safe, so callers that share a base must hold a lock.

        Args:
            fitted: One adapter per group. The rows of the batch are split into that many equal,
                consecutive groups. None applies nothing.
        """
        self._active = fitted or FittedLoRA({})
        try:
            yield
        finally:
            self._active = FittedLoRA({})

    def recompute(self) -> None:
        """Enable gradient checkpointing: backward passes recompute blocks instead of storing them.

        This adds half as much work. A block is recomputed under the adapters of its forward pass.
        """

        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            # Called during the forward pass. By the backward pass its `applying` is over, so its
            # adapters are remembered here.
            return nullcontext(), self.applying(self._active)

        # Reentrant checkpointing takes no contexts, and gives no gradient to factors where its
        # inputs need none. Nothing in a frozen base is random, so no random state is kept.
        how = {"use_reentrant": False, "preserve_rng_state": False, "context_fn": contexts}
        model: Any = self.model  # the transformers model
        model.activation_checkpointing_enable(activation_checkpointing_kwargs=how)
        for module in self.model.modules():
            if isinstance(module, GradientCheckpointingLayer):
                # Set it on the block alone, not on its modules, so that their dropout stays off.
                module.training = True

    def fit(
        self, tokens: Float[Tensor, "groups tokens rows cols"], layout: LoRALayout | None = None
    ) -> "FittedLoRA":
        """Cut weight tokens into the factors that each layer adds. This is differentiable.

        Args:
            tokens: Plain weight tokens of one adapter per group; zeros leave the base unchanged.
            layout: The layout of the tokens, if it differs from the host's (another rank, or fewer
                target modules).
        """
        layout = layout or self.layout
        weight = next(self.model.parameters())
        groups, _, r, _ = tokens.shape
        matrices = tuple(layout.matrices())
        # Split once: with a slice per matrix, the gradient of each slice is a full-size tensor.
        cuts = torch.split(tokens.to(weight), [m.num_tokens for m in matrices], dim=1)
        downs: dict[str, Tensor] = {}
        factors: dict[str, tuple[Tensor, Tensor]] = {}
        for m, cut in zip(matrices, cuts, strict=True):
            if m.side == "A":
                downs[m.target.path] = cut.transpose(2, 3).reshape(groups, m.long, r)  # A^T
            else:
                up = cut.transpose(1, 2).reshape(groups, r, m.long)  # B^T
                factors[m.target.path] = (downs[m.target.path], up * layout.spec.scaling)
        return FittedLoRA(factors)


@dataclass(frozen=True, slots=True)
class FittedLoRA:
    """Adapters in the form that a host applies."""

    factors: Mapping[str, tuple[Tensor, Tensor]]
    """Maps a layer path to A^T (groups, in, r) and scaled B^T (groups, r, out)."""
    num_bare: int = 0
    """Number of groups before those of `factors`, to which no adapter is applied."""

    @property
    def num_groups(self) -> int:
        """Number of row groups that `factors` covers; may be 0."""
        return next((down.shape[0] for down, _ in self.factors.values()), 0)

    @classmethod
    def stack(cls, fitted: "Sequence[FittedLoRA | None]") -> "FittedLoRA":
        """Make one group for each adapter; their ranks and layers may differ.

        Lower ranks are padded with zeros, which add nothing.

        Args:
            fitted: Adapters of one group each. None makes a group without an adapter.
        """
        found: dict[str, dict[int, tuple[Tensor, Tensor]]] = {}
        for group, one in enumerate(fitted):
            for path, factors in (one.factors if one else {}).items():
                found.setdefault(path, {})[group] = factors
        stacked = {}
        for path, groups in found.items():
            r = max(down.shape[-1] for down, _ in groups.values())
            down, up = next(iter(groups.values()))
            downs = down.new_zeros(len(fitted), down.shape[1], r)
            ups = up.new_zeros(len(fitted), r, up.shape[-1])
            for group, (down, up) in groups.items():
                downs[group, :, : down.shape[-1]] = down[0]
                ups[group, : up.shape[1]] = up[0]
            stacked[path] = (downs, ups)
        return cls(stacked)

    def without_bare(self) -> "FittedLoRA":
        """Skip the computation for leading groups whose B is zero; their rows stay the base's.

        For twin chat this halves the arithmetic, and small matrix products avoid the set-up cost of
        large ones.
        """
        if not self.factors:
            return self
        ups = [up for _, up in self.factors.values()]
        groups = len(ups[0])
        changes = [any(bool(up[group].any()) for up in ups) for group in range(groups)]
        # Leading groups alone, because the hook takes one slice of the batch.
        first = changes.index(True) if any(changes) else groups
        kept = {path: (down[first:], up[first:]) for path, (down, up) in self.factors.items()}
        return FittedLoRA(kept if first < groups else {}, self.num_bare + first)


def recomputes(model: nn.Module) -> bool:
    """Return whether gradient checkpointing is on, so that blocks run again for a gradient."""
    blocks = (m for m in model.modules() if isinstance(m, GradientCheckpointingLayer))
    return any(block.gradient_checkpointing for block in blocks)
