"""The regression equals its textbook form, computed the slow way in the space of the inputs."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dnd_engine.imprint.solve import Penalty, Update, solve

ROWS, INPUTS, OUTPUTS, PROMPTS = 24, 30, 7, 6
RIDGE = 0.3
NO_LIMIT = 1e6


def problem(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    inputs = torch.randn(ROWS, INPUTS, generator=random, dtype=torch.float64)
    truth = torch.randn(OUTPUTS, INPUTS, generator=random, dtype=torch.float64)
    noise = torch.randn(ROWS, OUTPUTS, generator=random, dtype=torch.float64)
    weights = torch.rand(ROWS, generator=random, dtype=torch.float64) + 0.5
    return inputs, inputs @ truth.T + noise, torch.arange(ROWS) // (ROWS // PROMPTS), weights


def ordinary(most: int = INPUTS) -> Penalty:
    random = torch.Generator().manual_seed(1)
    scales = torch.linspace(3, 0.1, INPUTS, dtype=torch.float64)
    inputs = torch.randn(400, INPUTS, generator=random, dtype=torch.float64) * scales
    outputs = inputs[:, :OUTPUTS]
    return Penalty.of(inputs, outputs, torch.ones(400, dtype=torch.float64), floor=0.1, most=most)


def dense(penalty: Penalty) -> Tensor:
    eye = torch.eye(INPUTS, dtype=torch.float64)
    return penalty.floor * (eye + (penalty.directions * penalty.gains) @ penalty.directions.T)


def textbook(inputs: Tensor, wanted: Tensor, weights: Tensor, ridge: float) -> Tensor:
    """W = Σ w e uᵀ (Σ w u uᵀ + λ C)⁻¹."""
    gram = inputs.T @ (weights[:, None] * inputs) + ridge * dense(ordinary())
    solved: Tensor = torch.linalg.solve(gram, inputs.T @ (weights[:, None] * wanted))
    return solved.T


def fit(r: int = OUTPUTS) -> Update:
    return solve(*problem(), ordinary(), ridge=RIDGE, ordinary_change=NO_LIMIT, r=r)


def test_the_penalty_is_the_covariance_of_ordinary_inputs_and_its_floor() -> None:
    random = torch.Generator().manual_seed(2)
    inputs = torch.randn(50, INPUTS, generator=random, dtype=torch.float64)
    weights = torch.rand(50, generator=random, dtype=torch.float64)
    outputs = torch.randn(50, OUTPUTS, generator=random, dtype=torch.float64)
    penalty = Penalty.of(inputs, outputs, weights, floor=0.5, most=INPUTS)
    covariance = (inputs * weights[:, None]).T @ inputs / weights.sum()
    expected = covariance + penalty.floor * torch.eye(INPUTS, dtype=torch.float64)
    torch.testing.assert_close(dense(penalty), expected)
    assert penalty.floor == pytest.approx(0.5 * float(covariance.diagonal().mean()))
    squares = outputs.square().sum(dim=1)
    assert penalty.size == pytest.approx(float((squares * weights).sum() / weights.sum()))


def test_dividing_by_the_penalty_undoes_it_also_where_directions_were_dropped() -> None:
    rows = problem()[0]
    for penalty in (ordinary(), ordinary(most=5)):
        torch.testing.assert_close(penalty.divide(rows)[0] @ dense(penalty), rows)


def test_full_rank_is_the_textbook_ridge_regression() -> None:
    inputs, wanted, _, weights = problem()
    update = fit()
    expected = textbook(inputs, wanted, weights, RIDGE * float(weights.sum()))
    torch.testing.assert_close(update.b @ update.a, expected)


def test_its_gradient_is_that_of_the_textbook_regression() -> None:
    inputs, wanted, groups, weights = problem()
    pull = torch.randn(OUTPUTS, INPUTS, generator=torch.Generator().manual_seed(3)).double()

    def gradients(of: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, ...]:
        u, e = inputs.clone().requires_grad_(), wanted.clone().requires_grad_()
        return torch.autograd.grad((of(u, e) * pull).sum(), (u, e))

    def ours(u: Tensor, e: Tensor) -> Tensor:
        # Neither the limit nor the rank binds, so nothing that is held constant changes.
        update = solve(
            u, e, groups, weights, ordinary(), ridge=RIDGE, ordinary_change=NO_LIMIT, r=OUTPUTS
        )
        return update.b @ update.a

    def theirs(u: Tensor, e: Tensor) -> Tensor:
        return textbook(u, e, weights, RIDGE * float(weights.sum()))

    torch.testing.assert_close(gradients(ours), gradients(theirs))


def test_what_is_explained_is_what_refits_without_each_prompt_predict() -> None:
    inputs, wanted, groups, weights = problem()
    error = 0.0
    for prompt in range(PROMPTS):
        out = groups == prompt
        # The ridge stays that of all rows: leaving out must not change the penalty.
        part = textbook(inputs[~out], wanted[~out], weights[~out], RIDGE * float(weights.sum()))
        missed = (wanted[out] - inputs[out] @ part.T).square()
        error += float((weights[out][:, None] * missed).sum())
    total = float((weights[:, None] * wanted.square()).sum())
    assert fit().explained == pytest.approx(1 - error / total)


def changed(update: Update, penalty: Penalty) -> float:
    """Mean squared change of outputs on ordinary messages, relative to the outputs."""
    along = update.b @ update.a @ penalty.directions
    return float((along.square() @ (penalty.floor * penalty.gains)).sum()) / penalty.size


def test_the_change_of_ordinary_outputs_is_measured_on_ordinary_inputs() -> None:
    random = torch.Generator().manual_seed(4)
    inputs = torch.randn(300, INPUTS, generator=random, dtype=torch.float64)
    weights = torch.rand(300, generator=random, dtype=torch.float64)
    penalty = Penalty.of(inputs, inputs, weights, floor=0.1, most=INPUTS)
    change = fit().b @ fit().a
    squares = (inputs @ change.T).square().sum(dim=1)
    expected = float((squares * weights).sum() / (inputs.square().sum(dim=1) * weights).sum())
    assert changed(fit(), penalty) == pytest.approx(expected)


@pytest.mark.parametrize("share", [0.98, 0.8, 0.5, 0.1, 0.01])
@pytest.mark.parametrize("rows", [1, 4, ROWS])
@pytest.mark.parametrize("alike", [False, True])
def test_the_ridge_grows_until_ordinary_outputs_change_little_enough(
    share: float, rows: int, alike: bool
) -> None:
    inputs, wanted, groups, weights = (part[:rows] for part in problem())
    if alike:
        inputs = inputs[:1] + 1e-3 * inputs
    penalty = ordinary()

    def fitted(limit: float) -> Update:
        of = inputs, wanted, groups, weights, penalty
        return solve(*of, ridge=1e-4, ordinary_change=limit, r=OUTPUTS)

    free = fitted(NO_LIMIT)
    limit = share * changed(free, penalty)
    # Nearly the smallest such ridge: it does not change less than it need.
    assert 0.7 * limit < changed(fitted(limit), penalty) <= limit * (1 + 1e-9)
    assert torch.equal(fitted(limit / share * 2).b, free.b)


def test_many_prompts_change_ordinary_outputs_no_more_than_few() -> None:
    penalty, changes = ordinary(), []
    for limit in (NO_LIMIT, 0.1):
        for rows in (8, ROWS):
            inputs, wanted, groups, weights = (part[:rows] for part in problem())
            of = inputs, wanted, groups, weights, penalty
            update = solve(*of, ridge=1e-3, ordinary_change=limit, r=OUTPUTS)
            changes.append(changed(update, penalty))
    few, many, *limited = changes
    assert many > 2 * few > 0.2
    assert max(limited) <= 0.1


def test_a_lower_rank_is_the_best_one_by_the_fitted_criterion() -> None:
    """No rank-2 change of the same rows does better, random ones and nearby ones included."""
    inputs, wanted, _, weights = problem()
    ridge = RIDGE * float(weights.sum())
    penalty = dense(ordinary())

    def loss(weight: Tensor) -> float:
        missed = weights[:, None] * (wanted - inputs @ weight.T).square()
        return float(missed.sum() + ridge * torch.trace(weight @ penalty @ weight.T))

    update = fit(r=2)
    best = loss(update.b @ update.a)
    assert best > loss(textbook(inputs, wanted, weights, ridge))
    random = torch.Generator().manual_seed(3)
    for scale in (1e-3, 1e-2, 1e-1, 1.0):
        for _ in range(20):
            a = update.a + scale * torch.randn(2, INPUTS, generator=random, dtype=torch.float64)
            b = update.b + scale * torch.randn(OUTPUTS, 2, generator=random, dtype=torch.float64)
            assert loss(b @ a) >= best


@pytest.mark.parametrize("rows", [2, 4, 6])
def test_fewer_rows_than_outputs_give_the_same_update(rows: int) -> None:
    """Copies of rows, weighing as much together, are the same problem with many rows."""
    inputs, wanted, groups, weights = (part[:rows] for part in problem())
    few = solve(
        inputs, wanted, groups, weights, ordinary(), ridge=RIDGE, ordinary_change=NO_LIMIT, r=2
    )
    many = solve(
        inputs.repeat(6, 1),
        wanted.repeat(6, 1),
        groups.repeat(6),
        weights.repeat(6) / 6,
        ordinary(),
        ridge=RIDGE,
        ordinary_change=NO_LIMIT,
        r=2,
    )
    torch.testing.assert_close(few.b @ few.a, many.b @ many.a)


def test_one_prompt_explains_nothing_since_there_is_nothing_to_leave_out() -> None:
    inputs, wanted, groups, weights = problem()
    update = solve(
        inputs,
        wanted,
        torch.zeros_like(groups),
        weights,
        ordinary(),
        ridge=RIDGE,
        ordinary_change=NO_LIMIT,
        r=2,
    )
    assert update.explained == 0


def test_a_direction_that_ordinary_inputs_use_changes_less() -> None:
    """The same wanted change, asked for along a busy and along a quiet direction."""
    penalty = ordinary()
    busy, quiet = penalty.directions[:, -1], penalty.directions[:, 0]
    changed = []
    for direction in (busy, quiet):
        inputs = direction[None].repeat(4, 1)
        update = solve(
            inputs,
            torch.ones(4, 1, dtype=torch.float64),
            torch.arange(4),
            torch.ones(4, dtype=torch.float64),
            penalty,
            ridge=RIDGE,
            ordinary_change=NO_LIMIT,
            r=1,
        )
        changed.append(float((update.b @ update.a @ direction).abs()))
    assert changed[0] < changed[1]


def test_leading_directions_of_a_wide_layer_are_those_of_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Found without the rest, which would take minutes a layer in a base of .5 B."""
    random = torch.Generator().manual_seed(3)
    scales = 1 / torch.arange(1, 201, dtype=torch.float64)
    inputs = torch.randn(500, 200, generator=random, dtype=torch.float64) * scales
    weights = torch.rand(500, generator=random, dtype=torch.float64)
    exact = Penalty.of(inputs, inputs, weights, floor=0.1, most=12)
    monkeypatch.setattr("dnd_engine.imprint.solve._EXACT_WIDTH", 100)
    monkeypatch.setattr("dnd_engine.imprint.solve._SPARE", 20)
    found = Penalty.of(inputs, inputs, weights, floor=0.1, most=12)
    assert found.floor == pytest.approx(exact.floor)
    torch.testing.assert_close(found.gains, exact.gains, rtol=1e-3, atol=0)
    overlap = found.directions.T @ exact.directions
    torch.testing.assert_close(overlap.abs(), torch.eye(12, dtype=torch.float64), rtol=0, atol=0.02)
    again = Penalty.of(inputs, inputs, weights, floor=0.1, most=12)
    assert torch.equal(again.directions, found.directions)
