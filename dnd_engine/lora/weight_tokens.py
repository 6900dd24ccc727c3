"""Weight tokens: converts a LoRA state to a grid of equal tokens and back, exactly.

There are two schemes. *Plain* tokens (tokens, r, width) are the numbers themselves. *Standardised*
tokens (tokens, r + 2, width + 2) are the authors' scheme: each token has zero mean and unit
variance, and two border rows and columns hold its scale, so that a decoder trained by
reconstruction must predict it.

Source of the second: Liang et al. 2025, arXiv:2506.16406, and the numbers of their release.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from dnd_engine.errors import LayoutMismatchError
from dnd_engine.lora.layout import BORDER, LoRALayout, Matrix
from dnd_engine.notes import first_of

LoRAState = dict[str, Tensor]
"""Maps PEFT keys, without an adapter name, to A (r, in) and B (out, r)."""

# The authors' code for the scale. It is nearly flat for small deviations: an error of 0.01 in the
# code can make a deviation of 0.001 negative. So our own generators use the plain scheme.
_MEAN_FACTOR, _STD_FACTOR, _STD_OFFSET, _STD_SHIFT = 8.0, 0.9, 0.1, 1.6


def tokenize(state: Mapping[str, Tensor], layout: LoRALayout) -> Float[Tensor, "tokens rows cols"]:
    """Cut every A and B into plain weight tokens.

    Raises:
        LayoutMismatchError: With every missing, unexpected or misshapen key of `state`.
    """
    check_state(state, layout)
    return torch.cat([_cut(state[m.key], m, layout.width) for m in layout.matrices()])


def detokenize(tokens: Float[Tensor, "tokens rows cols"], layout: LoRALayout) -> LoRAState:
    """Undo `tokenize`. B is contiguous in the result.

    Raises:
        LayoutMismatchError: If the grid is not the layout's.
    """
    expected = layout.grid()
    if tuple(tokens.shape) != expected:
        raise LayoutMismatchError(
            f"expected weight tokens of shape {expected}, got {tuple(tokens.shape)}."
        )
    return {
        m.key: _join(tokens[m.first_token : m.first_token + m.num_tokens], m)
        for m in layout.matrices()
    }


def check_state(state: Mapping[str, Tensor], layout: LoRALayout) -> None:
    """Raise if a state does not fit the layout, with all its faults in one message.

    Raises:
        LayoutMismatchError: If keys or shapes differ from the layout's.
    """
    expected = {m.key: _shape(m, layout.spec.r) for m in layout.matrices()}
    faults = [f"missing {key}" for key in expected if key not in state]
    faults += [f"unexpected {key}" for key in state if key not in expected]
    faults += [
        f"{key} is {tuple(state[key].shape)}, expected {shape}"
        for key, shape in expected.items()
        if key in state and tuple(state[key].shape) != shape
    ]
    if faults:
        raise LayoutMismatchError(f"LoRA state: {first_of(faults, 5, '; ')}.")


def standardise(
    tokens: Float[Tensor, "tokens rows cols"],
) -> Float[Tensor, "tokens bordered_rows bordered_cols"]:
    """Convert plain to standardised tokens: unit variance inside, the scale in the border.

    Border cells in even columns hold 8·mean, in odd columns log(0.9·std + 0.1) + 1.6.
    """
    mean = tokens.mean(dim=(1, 2), keepdim=True)
    # Divided by n - 1, torch's default, as in the authors' tokens.
    std = tokens.std(dim=(1, 2), keepdim=True)
    count, rows, cols = tokens.shape
    out = tokens.new_empty(count, rows + BORDER, cols + BORDER)
    # The codes go everywhere first; the inside is then written over them.
    out[:, :, 0::2] = mean * _MEAN_FACTOR
    out[:, :, 1::2] = torch.log(std * _STD_FACTOR + _STD_OFFSET) + _STD_SHIFT
    out[:, :rows, :cols] = (tokens - mean) / std
    return out


def destandardise(
    tokens: Float[Tensor, "tokens bordered_rows bordered_cols"],
) -> Float[Tensor, "tokens rows cols"]:
    """Undo `standardise`.

    A scale code is the mean over its cells in the border rows, averaged with the mean over its
    border column; the corner counts in both. As in the authors' code, the even and the odd cells
    of the column give two codes, and the function averages the decoded scales, not the codes.
    """
    rows, cols = tokens.shape[1] - BORDER, tokens.shape[2] - BORDER

    def codes(parity: int) -> Float[Tensor, "halves tokens"]:
        in_rows = tokens[:, rows:, parity::2].mean(dim=(1, 2))
        # Of the two border columns, the one whose number has this parity.
        column = tokens[:, :, cols + (cols + parity) % 2]
        return torch.stack([(in_rows + column[:, half::2].mean(dim=1)) / 2 for half in (0, 1)])

    mean = (codes(0) / _MEAN_FACTOR).mean(dim=0)
    std = ((torch.exp(codes(1) - _STD_SHIFT) - _STD_OFFSET) / _STD_FACTOR).mean(dim=0)
    return tokens[:, :rows, :cols] * std[:, None, None] + mean[:, None, None]


def _shape(matrix: Matrix, r: int) -> tuple[int, int]:
    return (r, matrix.long) if matrix.side == "A" else (matrix.long, r)


def _cut(weight: Tensor, matrix: Matrix, width: int) -> Tensor:
    rows = weight if matrix.side == "A" else weight.T  # (r, long)
    return rows.reshape(rows.shape[0], matrix.num_tokens, width).transpose(0, 1)


def _join(tokens: Tensor, matrix: Matrix) -> Tensor:
    rows = tokens.transpose(0, 1).reshape(tokens.shape[1], matrix.long)  # (r, long)
    return rows if matrix.side == "A" else rows.T.contiguous()


def with_zeros(
    tokens: Float[Tensor, "tokens rows cols"], layout: LoRALayout, whole: LoRALayout
) -> Float[Tensor, "all_tokens rows cols"]:
    """Return weight tokens of some layers among those of more, with zeros for the others.

    Args:
        tokens: Plain weight tokens.
        layout: Their layout.
        whole: A layout of the same width and rank, with these targets and more.
    """
    if layout.targets == whole.targets:
        return tokens
    places = {m.key: m.first_token for m in whole.matrices()}
    padded = tokens.new_zeros(whole.num_tokens, *tokens.shape[1:])
    for m in layout.matrices():
        first = places[m.key]
        padded[first : first + m.num_tokens] = tokens[m.first_token : m.first_token + m.num_tokens]
    return padded
