"""The projection of thousands of tokens of a prompt to as many vectors as a decoder reads.

Knows tensors only, neither text nor LoRA.

Source: names, operations and initial values are those of the authors' code for the bases of 1.5B
and 7B, Liang et al. 2025, arXiv:2506.16406.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dnd_engine.errors import LayoutMismatchError


class Projection(nn.Module):
    """Two linear layers with nothing between them: `reads_tokens` become `length` vectors."""

    def __init__(self, reads_tokens: int, length: int) -> None:
        super().__init__()
        # Names are the authors' parameter names, so that their checkpoints load.
        self.down_proj = nn.Linear(reads_tokens, length)
        self.gate_proj = nn.Linear(length, length)
        for layer in (self.down_proj, self.gate_proj):
            # So large only because a decoder begins with a norm.
            nn.init.normal_(layer.weight)

    def forward(
        self, tokens: Float[Tensor, "batch prompts read width"]
    ) -> Float[Tensor, "batch prompts length width"]:
        """Project every prompt by itself.

        Args:
            tokens: Standardised embeddings. Prompts may have fewer than the tokens that are read:
                what they lack counts as zeros, and takes neither memory nor time.

        Raises:
            LayoutMismatchError: If there are more.
        """
        size, (*_, read, width) = self.down_proj.in_features, tokens.shape
        if read > size:
            raise LayoutMismatchError(f"expected at most {size:,} tokens a prompt, got {read:,}.")
        # Not a transpose: the authors reshape (tokens, width) to (width, tokens), so a row holds
        # all channels of some neighbouring tokens instead of one channel of all tokens. Their
        # weights have learnt to read these rows, and only these.
        flat = tokens.flatten(2)
        rows = -(-read * width // size)
        flat = nn.functional.pad(flat, (0, rows * size - read * width))
        projected = self.gate_proj(self.down_proj(flat.unflatten(2, (rows, size))))
        # All other rows are zeros, of which the biases remain.
        rest = self.gate_proj(self.down_proj.bias).expand(*tokens.shape[:2], width - rows, -1)
        # Reshaped back, again without a transpose.
        back: Tensor = torch.cat([projected, rest], dim=2).flatten(2).unflatten(2, (-1, width))
        return back
