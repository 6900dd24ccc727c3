"""Size of an adapter's update by layer, and a picture that distinguishes adapters at a glance."""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dnd_engine.lora.adapter import Adapter
from dnd_engine.lora.layout import LoRALayout
from dnd_engine.lora.weight_tokens import detokenize

_THUMBPRINT_ROWS = 7
"""One row per matrix of a block; adapters with fewer matrices get several rows for each."""


def base_norms(model: nn.Module, layout: LoRALayout) -> dict[str, float]:
    """Return the Frobenius norm of every target weight, by path.

    For a weight of zeros it is 1, so that changes relative to it are absolute ones.
    """
    return {
        t.path: float(model.get_parameter(f"{t.path}.weight").float().norm()) or 1.0
        for t in layout.targets
    }


def relative_norms(adapter: Adapter, norms: Mapping[str, float]) -> dict[str, tuple[float, ...]]:
    """Return ‖ΔW‖/‖W‖ per module and layer, without forming ΔW.

    ‖B·A‖² = tr((B^T·B)(A·A^T)), two r-by-r products.
    """
    state = {key: value.float() for key, value in adapter.state.items()}
    found: dict[str, list[float]] = {}
    for target in adapter.layout.targets:
        a = state[target.key("A")]
        b = state[target.key("B")]
        # Rounding may make the trace of a tiny update negative.
        squared = torch.trace((b.T @ b) @ (a @ a.T)).clamp(min=0)
        delta = adapter.layout.spec.scaling * float(squared.sqrt())
        found.setdefault(target.module, []).append(delta / norms[target.path])
    return {module: tuple(values) for module, values in found.items()}


def thumbprint(
    adapter: Adapter,
    norms: Mapping[str, float],
    mean: Float[Tensor, "tokens rows cols"] | None = None,
) -> tuple[tuple[float, ...], ...]:
    """Project each update onto fixed random directions, so that different adapters look different.

    Norms alone look alike: those of any two adapters of the shipped generator correlate by .98.

    Args:
        adapter: Adapter of any target modules.
        norms: Norms of the target weights, from `base_norms`.
        mean: Part that all adapters of its kind share, in the same layout; subtracted first.

    Returns:
        Rows of one signed number per layer; 0 where nothing changed.
    """
    states = [(1.0, adapter.state)]
    if mean is not None:
        states.append((-1.0, detokenize(mean.to(adapter.tokens.dtype), adapter.layout)))
    modules = list(dict.fromkeys(target.module for target in adapter.layout.targets))
    found: dict[tuple[str, int], list[float]] = {}
    for target in adapter.layout.targets:
        for row in range(math.ceil(_THUMBPRINT_ROWS / len(modules))):
            random = torch.Generator().manual_seed(row)  # the same directions for every adapter
            # B has shape (out, r), A has (r, in).
            rows_of_b, columns_of_a = (states[0][1][target.key(s)].shape for s in "BA")
            left = torch.randn(rows_of_b[0], generator=random, dtype=torch.float32)
            right = torch.randn(columns_of_a[1], generator=random, dtype=torch.float32)
            # left · B·A · right as (left · B) · (A · right), which never forms ΔW.
            value = sum(
                sign
                * float(
                    (left @ state[target.key("B")].float())
                    @ (state[target.key("A")].float() @ right)
                )
                for sign, state in states
            )
            found.setdefault((target.module, row), []).append(value / norms[target.path])
    return tuple(tuple(values) for values in found.values())
