"""The regression of one layer: inputs and wanted changes to a low-rank update.

With inputs u (the layer's, one row per matched token) and wanted changes e of its output, the
update W minimises

    Σ w ‖e - W u‖² + λ n tr(W C Wᵀ),

where C is the mean outer product of the layer's inputs on ordinary messages, plus a little of the
identity. λ grows until the mean squared change of outputs on ordinary messages, along the leading
directions of C, is within a limit: with a fixed λ, many prompts would change ordinary answers more
than few. It is solved in the dual (row) space, because there are fewer rows than input dimensions.

Sources: the penalty is that of MEMIT (Meng et al. 2022, arXiv:2210.07229); a context as a weight
update of the MLP is Dherin et al. 2025, arXiv:2507.16003; thought patches by least squares are
Mazzawi et al. 2025, arXiv:2510.08734. Reduced rank: Izenman 1975.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

_EXACT_WIDTH = 2048
"""Maximum width for computing all eigenvectors (cubic time); the embedded base's layers are 1,536
wide. For wider ones only the leading ones are computed: 4 s of one core at 4,864 (0.5 B)."""

_SPARE, _ROUNDS = 64, 3
"""Randomised search for leading directions: oversampling, and number of power iterations."""

_CLOSE, _MIN_GROWTH, _FIRST_GROWTH, _MAX_GROWTH, _MAX_RIDGES = 0.8, 1.05, 4.0, 100.0, 12
"""Search for λ: share of the limit that is close enough to it; growth from the largest λ that was
too small, at least `_FIRST_GROWTH` until one is large enough; number of tries."""


@dataclass(frozen=True, slots=True)
class Penalty:
    """C = floor · (I + P diag(gains) Pᵀ), the penalty of one layer.

    Kept as its leading directions, since C itself grows with the square of the layer's width.
    """

    directions: Float[Tensor, "inputs kept"]
    """P, orthonormal columns."""
    gains: Float[Tensor, " kept"]
    """Extra cost of a change along each direction, relative to the floor."""
    floor: float
    """Cost of a change along any other direction."""
    size: float
    """Mean square, summed over dimensions, of the layer's own outputs on ordinary messages."""

    @classmethod
    def of(
        cls,
        inputs: Float[Tensor, "rows inputs"],
        outputs: Float[Tensor, "rows outputs"],
        weights: Float[Tensor, " rows"],
        *,
        floor: float,
        most: int,
    ) -> "Penalty":
        """Compute the penalty from a layer's inputs and outputs.

        Args:
            inputs: A layer's inputs on ordinary messages.
            outputs: Its outputs for them, in the units of the wanted changes.
            weights: Weight of each row.
            floor: Share of the mean variance to add to every direction.
            most: Maximum number of directions to keep.
        """
        shares = weights / weights.sum()
        width = inputs.shape[1]
        size = float((outputs.square().sum(dim=1) * shares).sum())
        # The mean of the eigenvalues from the trace, without computing them.
        base = floor * float((inputs.square().sum(dim=1) * shares).sum()) / width
        kept = min(most, width)
        if width > _EXACT_WIDTH:
            values, vectors = _leading_directions(inputs * shares.sqrt()[:, None], kept)
            return cls(directions=vectors, gains=values / base, floor=base, size=size)
        # Rounding can leave eigenvalues just below zero.
        values, vectors = torch.linalg.eigh((inputs * shares[:, None]).T @ inputs)
        base = floor * float(values.clamp(min=0).mean())
        return cls(
            directions=vectors[:, -kept:].contiguous(),
            gains=values[-kept:].clamp(min=0) / base,
            floor=base,
            size=size,
        )

    def divide(
        self, rows: Float[Tensor, "rows inputs"]
    ) -> tuple[Float[Tensor, "rows inputs"], Float[Tensor, "rows kept"]]:
        """Return rows · C⁻¹, and each row's effect along the leading directions.

        The effect is rows · C⁻¹ · P √(floor · gains). For W = Dᵀ U C⁻¹, the mean squared change of
        ordinary outputs is ‖Dᵀ · effect(U)‖².
        """
        # Woodbury: C is a multiple of the identity plus a few directions, so its inverse is too.
        along = rows @ self.directions
        divided = (rows - along * (self.gains / (1 + self.gains)) @ self.directions.T) / self.floor
        return divided, along * ((self.gains / self.floor).sqrt() / (1 + self.gains))


@dataclass(frozen=True, slots=True)
class Update:
    """A low-rank change of one layer."""

    a: Float[Tensor, "r inputs"]
    b: Float[Tensor, "outputs r"]
    explained: float
    """Share of the wanted change that the full-rank update predicts for left-out prompts, leaving
    out one at a time; negative if it does more harm than good."""


def solve(
    inputs: Float[Tensor, "rows inputs"],
    wanted: Float[Tensor, "rows outputs"],
    groups: Int[Tensor, " rows"],
    weights: Float[Tensor, " rows"],
    penalty: Penalty,
    *,
    ridge: float,
    ordinary_change: float,
    r: int,
) -> Update:
    """Fit the update of one layer.

    Differentiable in inputs and wanted changes, with λ and the directions of the rank as constants.

    Args:
        inputs: The layer's inputs, in float32.
        wanted: How its outputs should change, in float32.
        groups: Which prompt each row belongs to; a prompt is left out as a whole.
        weights: Weight of each row.
        penalty: Cost of changing ordinary outputs.
        ridge: Minimum λ, relative to the fit.
        ordinary_change: Limit of the mean squared change of outputs on ordinary messages, relative
            to the outputs, by the update of full rank.
        r: Rank of the update.
    """
    # Square roots, because both sides of the squared error are scaled.
    scale = weights.sqrt()[:, None]
    u, e = inputs * scale, wanted * scale
    divided, effects = penalty.divide(u)
    gram, limit = divided @ u.T, ordinary_change * penalty.size
    with torch.no_grad():
        dual = _dual_within(gram, e, effects, ridge * float(weights.sum()), limit)
        # The best rank r is that of the fitted outputs plus the penalty, which is EᵀHE: Izenman's
        # reduced-rank regression, for a penalised fit.
        top = _leading(e, dual.fitted, r)
        explained = _explained(e, dual.solution, dual.factor, groups)
    solution = dual.solution
    if gram.requires_grad or e.requires_grad:
        solution = torch.cholesky_solve(e, torch.linalg.cholesky(_ridged(gram, dual.ridge)))
    return Update(a=(solution @ top).T @ divided, b=top, explained=explained)


def _ridged(gram: Float[Tensor, "rows rows"], ridge: float) -> Float[Tensor, "rows rows"]:
    ridged = gram.clone()
    ridged.diagonal().add_(ridge)
    return ridged


@dataclass(frozen=True, slots=True)
class _Dual:
    """The full-rank solution in the space of the rows, for one ridge."""

    ridge: float
    factor: Float[Tensor, "rows rows"]
    """Cholesky factor of the Gram matrix with its ridge."""
    solution: Float[Tensor, "rows outputs"]
    fitted: Float[Tensor, "rows outputs"]
    """Outputs of the update for the rows."""
    change: float
    """Mean squared change of ordinary outputs."""

    @classmethod
    def of(
        cls,
        gram: Float[Tensor, "rows rows"],
        wanted: Float[Tensor, "rows outputs"],
        effects: Float[Tensor, "rows kept"],
        ridge: float,
    ) -> "_Dual":
        factor = torch.linalg.cholesky(_ridged(gram, ridge))
        solution = torch.cholesky_solve(wanted, factor)
        # The residual is the ridge times the solution D, so this is the Gram matrix times D.
        fitted = wanted - ridge * solution
        return cls(ridge, factor, solution, fitted, float((solution.T @ effects).square().sum()))


def _dual_within(
    gram: Float[Tensor, "rows rows"],
    wanted: Float[Tensor, "rows outputs"],
    effects: Float[Tensor, "rows kept"],
    ridge: float,
    limit: float,
) -> _Dual:
    """Solve with the smallest ridge, or nearly, that keeps the change of ordinary outputs small."""
    dual = _Dual.of(gram, wanted, effects, ridge)
    over = under = None
    for _ in range(_MAX_RIDGES):
        if dual.change > limit:
            over = dual
        else:
            under = dual
            if over is None or dual.change > _CLOSE * limit:
                break
        assert over is not None
        # The change falls with about the root of the ridge, until it is known better.
        power, aim = 2.0, (1 + _CLOSE) / 2 * limit
        if under is not None and 0 < under.change < over.change:
            power = math.log(under.ridge / over.ridge) / math.log(over.change / under.change)
        growth = (over.change / aim) ** power if aim > 0 else math.inf
        least = _FIRST_GROWTH if under is None else _MIN_GROWTH
        growth = min(max(growth, least), _MAX_GROWTH)
        dual = _Dual.of(gram, wanted, effects, over.ridge * growth)
    return under or dual


def _leading_directions(
    rows: Float[Tensor, "rows inputs"], count: int
) -> tuple[Float[Tensor, " kept"], Float[Tensor, "inputs kept"]]:
    """Return the largest eigenvalues of RᵀR, ascending, and their eigenvectors.

    Random directions are multiplied by RᵀR a few times, so that the large ones win. Source: Halko,
    Martinsson and Tropp 2011, arXiv:0909.4061. Seeded, so that a base always has the same penalty.
    """
    width = rows.shape[1]
    chance = torch.Generator().manual_seed(0)
    size = width, min(count + _SPARE, width)
    found = torch.randn(size, generator=chance, dtype=torch.float32).to(rows)
    for _ in range(_ROUNDS):
        found, _triangle = torch.linalg.qr(rows.T @ (rows @ found))
    image = rows @ found
    values, turned = torch.linalg.eigh(image.T @ image)
    return values[-count:].clamp(min=0), (found @ turned[:, -count:]).contiguous()


def _leading(
    wanted: Float[Tensor, "rows outputs"], fitted: Float[Tensor, "rows outputs"], r: int
) -> Float[Tensor, "outputs r"]:
    """Return the eigenvectors of the r largest eigenvalues of EᵀHE, in ascending order.

    `wanted` is E and `fitted` is HE, with H symmetric.
    """
    rows, outputs = wanted.shape
    if r <= rows < outputs:
        # All eigenvectors are in the row space of E, so work in that smaller space.
        basis, triangle = torch.linalg.qr(wanted.T)
        inner = triangle @ (fitted @ basis)
        # Symmetric up to rounding; `eigh` reads only one triangle.
        _, vectors = torch.linalg.eigh((inner + inner.T) / 2)
        top: Tensor = basis @ vectors[:, -r:]
        return top
    outer = wanted.T @ fitted
    _, vectors = torch.linalg.eigh((outer + outer.T) / 2)
    top = vectors[:, -r:]
    return top


def _explained(
    wanted: Float[Tensor, "rows outputs"],
    dual: Float[Tensor, "rows outputs"],
    factor: Float[Tensor, "rows rows"],
    groups: Int[Tensor, " rows"],
) -> float:
    """Return the share of each prompt's change that a fit to the others predicts, in closed form.

    Leaving rows S out changes their residual to (K⁻¹)_SS⁻¹ (K⁻¹ e)_S, with K the Gram matrix and
    its ridge. A single prompt cannot be left out, and explains nothing.
    """
    total = float(wanted.square().sum())
    order = torch.argsort(groups, stable=True)
    sizes = torch.unique_consecutive(groups[order], return_counts=True)[1].tolist()
    if len(sizes) < 2 or total == 0:
        return 0.0
    inverse = torch.cholesky_inverse(factor)
    error = sum(
        float(torch.linalg.solve(inverse[own][:, own], dual[own]).square().sum())
        for own in torch.split(order, sizes)
    )
    return 1 - error / total
