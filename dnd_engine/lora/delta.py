"""Compares weight changes ΔW = B·A without computing them.

With scaling s, <s B A, s B' A'> = s² Σ (BᵀB') ∘ (A A'ᵀ), which needs only r by r matrices. The
training monitors and the evaluation compare adapters this way.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from dnd_engine.errors import LayoutMismatchError
from dnd_engine.lora.layout import LoRALayout


def delta_gram(
    adapters: Sequence[Float[Tensor, "tokens rows cols"]], layout: LoRALayout
) -> Float[Tensor, "adapters adapters"]:
    """Return the inner products of all pairs of ΔW, scaling included, on the CPU in float64.

    Products use float32, or float64 if the first adapter does. The sum over layers uses float64.

    Args:
        adapters: Plain weight tokens of at least one adapter.
        layout: The layout of all adapters.

    Raises:
        LayoutMismatchError: If the tokens of an adapter do not fit the layout.
    """
    expected = layout.grid()
    for number, tokens in enumerate(adapters):
        if tuple(tokens.shape) != expected:
            raise LayoutMismatchError(
                f"adapter {number} has weight tokens of shape {tuple(tokens.shape)}, the layout's "
                f"is {expected}. Compare adapters of one layout."
            )
    dtype = torch.float64 if adapters[0].dtype == torch.float64 else torch.float32
    r, count = layout.spec.r, len(adapters)
    total = torch.zeros(count, count, dtype=torch.float64)
    downs: dict[str, Tensor] = {}
    for matrix in layout.matrices():
        first, last = matrix.first_token, matrix.first_token + matrix.num_tokens
        # One matrix at a time, so that the copy in `dtype` stays small.
        long = torch.stack([tokens[first:last] for tokens in adapters]).to(dtype)
        rows = long.transpose(1, 2).reshape(count * r, matrix.long)
        # (adapters, r, adapters, r): A·A'ᵀ, or BᵀB', because tokens hold B transposed.
        products = (rows @ rows.T).view(count, r, count, r)
        if matrix.side == "A":
            downs[matrix.target.path] = products
        else:
            # Popped, so that only one layer's products are in memory at a time.
            of_layer = (products * downs.pop(matrix.target.path)).sum(dim=(1, 3))
            total += of_layer.to(torch.float64).cpu()
    return layout.spec.scaling**2 * total
