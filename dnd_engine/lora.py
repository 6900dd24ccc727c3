"""Applies generated LoRA adapters to a frozen base, a different one for each row of a batch.

The base is never changed: forward hooks on its linear layers add the low-rank term while a context
manager is open, and add nothing otherwise. Training uses one adapter per task of a batch, twin chat
one zero and one real adapter. Knows weight tokens and modules; knows no prompts and no files.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dnd_engine.errors import LayoutMismatchError
from dnd_engine.layout import LoRALayout

__all__ = ["FittedLoRA", "LoRAHost"]


class LoRAHost:
    """A frozen base that can wear one adapter per group of batch rows.

    Args:
        model: A causal language model whose module paths are the layout's.
        layout: Which linear layers are adapted.

    Raises:
        LayoutMismatchError: If a target layer is missing or has other sizes.
    """

    def __init__(self, model: nn.Module, layout: LoRALayout) -> None:
        self.model = model
        self.layout = layout
        self._active: Mapping[str, tuple[Tensor, Tensor]] = {}
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
            factors = self._active.get(path)
            if factors is None:
                return output
            down, up = factors
            groups = down.shape[0]
            x = args[0].reshape(groups, -1, down.shape[1])
            y = output.reshape(groups, -1, up.shape[2])
            return torch.baddbmm(y, torch.bmm(x, down), up).view_as(output)

        return add_low_rank

    @contextmanager
    def wearing(self, fitted: "FittedLoRA | None") -> Iterator[None]:
        """Add adapters to every forward pass inside the `with` block.

        Not reentrant and not thread-safe: callers that share a base hold a lock around it.

        Args:
            fitted: One adapter per group; the batch's rows are split into that many equal
                consecutive groups. None leaves the base bare.
        """
        self._active = {} if fitted is None else fitted.factors
        try:
            yield
        finally:
            self._active = {}

    def fit(
        self, tokens: Float[Tensor, "groups tokens rows cols"], layout: LoRALayout | None = None
    ) -> "FittedLoRA":
        """Cut weight tokens into the factors each layer adds; differentiable.

        Args:
            tokens: Plain weight tokens of one adapter per group; zeros for the bare base.
            layout: Theirs, if it is not the host's (another rank, or fewer target modules).
        """
        layout = layout or self.layout
        weight = next(self.model.parameters())
        groups, _, r, _ = tokens.shape
        matrices = tuple(layout.matrices())
        # One split, not a slice per matrix: the gradient of each slice would be a full-size tensor.
        cuts = torch.split(tokens.to(weight), [m.num_tokens for m in matrices], dim=1)
        downs: dict[str, Tensor] = {}
        factors: dict[str, tuple[Tensor, Tensor]] = {}
        for m, cut in zip(matrices, cuts, strict=True):
            if m.side == "A":
                downs[m.target.path] = cut.transpose(2, 3).reshape(groups, m.long, r)
            else:
                up = cut.transpose(1, 2).reshape(groups, r, m.long)
                factors[m.target.path] = (downs[m.target.path], up * layout.spec.scaling)
        return FittedLoRA(factors)


@dataclass(frozen=True, slots=True)
class FittedLoRA:
    """Adapters as a host adds them."""

    factors: Mapping[str, tuple[Tensor, Tensor]]
    """Layer path to A^T (groups, in, r) and scaled B^T (groups, r, out)."""
