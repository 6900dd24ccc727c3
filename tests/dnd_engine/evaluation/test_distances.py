"""Distances between adapters, against weight changes written out in full."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from dnd_engine.errors import ConfigError, LayoutMismatchError
from dnd_engine.evaluation.distances import measure_distances
from dnd_engine.lora.delta import delta_gram
from dnd_engine.lora.weight_tokens import detokenize, tokenize
from tests.dnd_engine.tiny import LAYOUT, delta, random_tokens
from tests.present import present


def explicit(tokens: Tensor) -> Tensor:
    """ΔW of all layers, flat."""
    found = delta(detokenize(tokens.double(), LAYOUT), LAYOUT)
    return torch.cat([found[t.path].flatten() for t in LAYOUT.targets])


def cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))


def jitter(tokens: Tensor, seed: int, size: float = 0.01) -> Tensor:
    return tokens + random_tokens(seed=seed, size=size)


def test_inner_products_are_those_of_the_weight_changes() -> None:
    adapters = [random_tokens(seed=s).double() for s in range(4)]
    flat = torch.stack([explicit(a) for a in adapters])
    np.testing.assert_allclose(delta_gram(adapters, LAYOUT), (flat @ flat.T).numpy(), rtol=1e-10)


def test_float32_is_precise_enough() -> None:
    adapters = [random_tokens(seed=s) for s in range(3)]
    flat = torch.stack([explicit(a) for a in adapters])
    np.testing.assert_allclose(
        delta_gram(adapters, LAYOUT), (flat @ flat.T).numpy(), rtol=1e-4, atol=1e-5
    )


def test_other_factors_of_the_same_weight_change_are_the_same_point() -> None:
    tokens = random_tokens(seed=1).double()
    state = detokenize(tokens, LAYOUT)
    turn = torch.linalg.qr(random_tokens(seed=2)[0][:, :4].double())[0]
    turned = {
        key: turn @ value if "lora_A" in key else value @ turn.T for key, value in state.items()
    }
    cosine, _ = measure_distances({"a": [tokens, tokenize(turned, LAYOUT)]}, {}, LAYOUT)
    assert cosine.same_task == pytest.approx(1)


def test_cosines_are_those_of_the_weight_changes_raw_and_centred() -> None:
    generated = {
        slug: [jitter(random_tokens(seed=n), 10 * n + d, 0.03).double() for d in range(2)]
        for n, slug in enumerate("abc")
    }
    flat = [(slug, explicit(t)) for slug, draws in generated.items() for t in draws]
    mean = torch.stack([v for _, v in flat]).mean(dim=0)
    means, _ = measure_distances(generated, {}, LAYOUT)
    for suffix, centre in (("", torch.zeros_like(mean)), ("_centred", mean)):
        same: list[float] = []
        different: list[float] = []
        for (a, x), (b, y) in itertools.combinations(flat, 2):
            (same if a == b else different).append(cosine(x - centre, y - centre))
        assert getattr(means, f"same_task{suffix}") == pytest.approx(np.mean(same), abs=1e-6)
        assert getattr(means, f"different_task{suffix}") == pytest.approx(
            np.mean(different), abs=1e-6
        )


def test_every_task_counts_alike_in_the_mean_however_many_draws_it_has() -> None:
    a, b = (random_tokens(seed=s).double() for s in (1, 2))
    cosine, _ = measure_distances({"a": [a, a, a], "b": [b]}, {}, LAYOUT)
    assert cosine.different_task_centred == pytest.approx(-1)


def test_distances_to_training_are_those_of_the_weight_changes() -> None:
    training = {f"t{s}": random_tokens(seed=s).double() for s in range(4)}
    mine = random_tokens(seed=9).double()
    flat = {name: explicit(t) for name, t in training.items()}
    mean = torch.stack(list(flat.values())).mean(dim=0)
    unit = np.sqrt(np.mean([float((v - mean).square().sum()) for v in flat.values()]))
    to_each = [float((explicit(mine) - v).norm()) / unit for v in flat.values()]
    found = present(measure_distances({"a": [mine]}, training, LAYOUT)[1].nearest)
    assert found.generated["a"] == found.median == pytest.approx(min(to_each), rel=1e-5)
    between = [
        min(float((v - w).norm()) / unit for w in flat.values() if w is not v)
        for v in flat.values()
    ]
    assert found.training_median == pytest.approx(np.median(between), rel=1e-5)


def test_a_copy_of_a_training_adapter_has_no_distance() -> None:
    training = {f"t{s}": random_tokens(seed=s) for s in range(4)}
    _, found = measure_distances({"a": [training["t2"]]}, training, LAYOUT)
    assert present(present(found.nearest).ratio) < 0.01


def test_a_generator_that_gives_one_adapter_for_all_has_nothing_left_when_centred() -> None:
    one = random_tokens(seed=1)
    found, _ = measure_distances({"a": [one, one], "b": [one, one]}, {}, LAYOUT)
    assert found.same_task == found.different_task == pytest.approx(1, abs=1e-5)
    assert found.same_task_centred is found.different_task_centred is None


def test_without_training_adapters_those_comparisons_are_left_out() -> None:
    cosine, found = measure_distances({"a": [random_tokens(seed=1)]}, {}, LAYOUT)
    assert found.nearest is None
    assert cosine.same_task is None
    assert found.n_training == 0


def test_training_adapters_that_are_all_alike_give_no_distances() -> None:
    one = random_tokens(seed=1)
    _, found = measure_distances(
        {"a": [random_tokens(seed=2)]}, {"t": one, "u": one.clone()}, LAYOUT
    )
    assert found.nearest is None


def test_faults_say_what_is_wrong() -> None:
    with pytest.raises(ConfigError, match="at least one generated adapter"):
        measure_distances({}, {}, LAYOUT)
    with pytest.raises(LayoutMismatchError, match="adapter 1 has weight tokens of shape"):
        measure_distances({"a": [random_tokens(), random_tokens()[1:]]}, {}, LAYOUT)
