"""Applies generated LoRA adapters to a frozen base, a different one for each row of a batch.

The base is never changed: forward hooks on its linear layers add the low-rank term while a context
manager is open, and add nothing otherwise. Training uses one adapter per task of a batch, twin chat
one zero and one real adapter. Knows weight tokens and modules; knows no prompts and no files.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dnd_engine.errors import LayoutMismatchError
from dnd_engine.lora.layout import LoRALayout

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
        self._worn = FittedLoRA({})
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
            factors = self._worn.factors.get(path)
            if factors is None:
                return output
            down, up = factors
            groups, bare = down.shape[0], self._worn.num_bare
            x, y = args[0], output
            if bare:
                rows = x.shape[0] * bare // (bare + groups)
                x, y = x[rows:], y[rows:]
            if x.shape[0] != groups:
                x, y = x.reshape(groups, -1, x.shape[-1]), y.view(groups, -1, y.shape[-1])
            # In place: a linear layer keeps its input for the gradient, never its output.
            y.baddbmm_(torch.bmm(x, down), up)
            return output

        return add_low_rank

    @contextmanager
    def wearing(self, fitted: "FittedLoRA | None") -> Iterator[None]:
        """Add adapters to every forward pass inside the `with` block.

        Not reentrant and not thread-safe: callers that share a base hold a lock around it.

        Args:
            fitted: One adapter per group; the batch's rows are split into that many equal
                consecutive groups. None leaves the base bare.
        """
        self._worn = fitted or FittedLoRA({})
        try:
            yield
        finally:
            self._worn = FittedLoRA({})

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
    num_bare: int = 0
    """Groups of rows that stand before those of `factors` and wear nothing."""

    @property
    def num_groups(self) -> int:
        """Groups of rows that `factors` are for; 0 if there are none."""
        return next((down.shape[0] for down, _ in self.factors.values()), 0)

    @classmethod
    def stack(cls, fitted: "Sequence[FittedLoRA | None]") -> "FittedLoRA":
        """One group for each adapter, whatever ranks and layers they have; None wears nothing.

        Lower ranks are filled up with zeros, which add nothing.

        Args:
            fitted: Of one group each.
        """
        found: dict[str, dict[int, tuple[Tensor, Tensor]]] = {}
        for group, one in enumerate(fitted):
            for path, factors in (one.factors if one else {}).items():
                found.setdefault(path, {})[group] = factors
        stacked = {}
        for path, groups in found.items():
            (_, wide, _), (_, _, out) = (factor.shape for factor in next(iter(groups.values())))
            r = max(down.shape[-1] for down, _ in groups.values())
            like, _ = next(iter(groups.values()))
            downs = like.new_zeros(len(fitted), wide, r)
            ups = like.new_zeros(len(fitted), r, out)
            for group, (down, up) in groups.items():
                downs[group, :, : down.shape[-1]] = down[0]
                ups[group, : up.shape[1]] = up[0]
            stacked[path] = (downs, ups)
        return cls(stacked)

    def without_bare(self) -> "FittedLoRA":
        """The same, leading groups whose B is zero no longer computed: their rows stay the base's.

        Of two rows this halves the arithmetic, and lets small products skip the setting-up of large
        ones.
        """
        if not self.factors:
            return self
        ups = [up for _, up in self.factors.values()]
        groups = len(ups[0])
        worn = [any(bool(up[group].any()) for up in ups) for group in range(groups)]
        first = worn.index(True) if any(worn) else groups
        kept = {path: (down[first:], up[first:]) for path, (down, up) in self.factors.items()}
        return FittedLoRA(kept if first < groups else {}, self.num_bare + first)
