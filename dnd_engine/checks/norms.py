"""How large an adapter's update is, layer by layer, beside the weights that it changes."""

from collections.abc import Mapping

import torch
from torch import nn

from dnd_engine.lora.adapter import Adapter
from dnd_engine.lora.layout import LoRALayout

__all__ = ["base_norms", "relative_norms"]


def base_norms(model: nn.Module, layout: LoRALayout) -> dict[str, float]:
    """Frobenius norm of every target weight, by path."""
    return {
        t.path: float(model.get_parameter(f"{t.path}.weight").float().norm())
        for t in layout.targets
    }


def relative_norms(adapter: Adapter, norms: Mapping[str, float]) -> dict[str, tuple[float, ...]]:
    """‖ΔW‖/‖W‖ per module and layer, without forming ΔW.

    ‖B·A‖² = tr((B^T·B)(A·A^T)), two r-by-r products.
    """
    state = {key: value.float() for key, value in adapter.state.items()}
    found: dict[str, list[float]] = {}
    for target in adapter.layout.targets:
        a = state[target.key("A")]
        b = state[target.key("B")]
        squared = torch.trace((b.T @ b) @ (a @ a.T)).clamp(min=0)
        delta = adapter.layout.spec.scaling * float(squared.sqrt())
        found.setdefault(target.module, []).append(delta / norms[target.path])
    return {module: tuple(values) for module, values in found.items()}
