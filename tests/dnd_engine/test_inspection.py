"""Measurements of an adapter are what their definitions say."""

from typing import Any

import pytest
import torch

from dnd_engine.adapter import NearestTask
from dnd_engine.errors import GeneratorError
from dnd_engine.generator import TaskCentroid
from dnd_engine.inspection import (
    base_norms,
    familiarity,
    kl_to_base,
    nearest_tasks,
    relative_norms,
)
from dnd_engine.models import BaseModel
from tests.dnd_engine.tiny import LAYOUT, delta, make_adapter


def test_the_effect_is_the_divergence_from_the_base() -> None:
    """Against torch's own, and zero for equal rows whatever their offset."""
    base, adapted = torch.randn(3, 50), torch.randn(3, 50)
    expected = torch.nn.functional.kl_div(
        base.log_softmax(-1), adapted.softmax(-1), reduction="none"
    ).sum(-1)
    torch.testing.assert_close(kl_to_base(base, adapted), expected)
    assert kl_to_base(base, base + 5).abs().max() < 1e-5
    assert not torch.allclose(kl_to_base(base, adapted), kl_to_base(adapted, base))


@pytest.mark.parametrize("strength", [1.0, -3.0, 0.0])
def test_norms_are_those_of_the_explicit_change(base: BaseModel, strength: float) -> None:
    made = make_adapter().with_strength(strength)
    found = relative_norms(made, base_norms(base.model, LAYOUT))
    assert list(found) == list(LAYOUT.spec.target_modules)
    for path, change in delta(made.state, LAYOUT).items():
        layer, module = int(path.split(".")[2]), path.split(".")[-1]
        weight = base.model.get_parameter(f"{path}.weight").double()
        assert found[module][layer] == pytest.approx(
            float(change.norm() / weight.norm()), rel=1e-4, abs=1e-9
        )


def test_nearest_tasks_come_by_cosine_of_the_mean() -> None:
    tasks = [
        TaskCentroid("right", "d", (0.0, 5.0)),
        TaskCentroid("diagonal", "d", (1.0, 1.0)),
        TaskCentroid("opposite", "d", (0.0, -1.0)),
    ]
    prompts = torch.tensor([[1.0, 2.0], [-1.0, 2.0]])  # their mean points up
    found = nearest_tasks(prompts, tasks, count=2)
    assert [(t.slug, t.similarity) for t in found] == [("right", 1.0), ("diagonal", 0.7071)]
    assert len(nearest_tasks(prompts, tasks)) == 3
    assert nearest_tasks(prompts, []) == ()


def near(similarity: float) -> tuple[NearestTask, ...]:
    return (NearestTask("far", "d", 0.1), NearestTask("near", "d", similarity))


def examined(**changes: Any) -> dict[str, Any]:
    """Six tasks, in thirds of two."""
    gains = [
        {"mode": mode, "from": a, "to": b, "gain": gain, "low": gain - 0.1, "high": gain + 0.1}
        for mode, shift in (("full", 0.5), ("bare", 0.0))
        for a, b, gain in ((0.1, 0.2, shift), (0.3, 0.5, shift + 0.1), (0.6, 0.9, shift + 0.3))
    ]
    similarity = {
        "tasks": [{"slug": "x", "similarity": s} for s in (0.1, 0.2, 0.3, 0.5, 0.6, 0.9)],
        "gains": gains,
        "predicts_gain": {"bare": {"rank_correlation": 0.4, "low": 0.1, "high": 0.6}},
    }
    return {"similarity": similarity | changes}


@pytest.mark.parametrize(
    ("similarity", "nearer_than", "gain"),
    [(0.05, 0, 0.0), (0.24, 2 / 6, 0.0), (0.26, 2 / 6, 0.1), (0.5, 3 / 6, 0.1), (0.99, 1, 0.3)],
)
def test_familiarity_is_told_by_the_unseen_tasks_that_were_about_as_near(
    similarity: float, nearer_than: float, gain: float
) -> None:
    found = familiarity(near(similarity), examined())
    assert found is not None
    assert (found.similarity, found.n_tasks) == (max(similarity, 0.1), 6)
    assert found.nearer_than == pytest.approx(nearer_than)
    assert (found.gain, found.low, found.high) == pytest.approx((gain, gain - 0.1, gain + 0.1))
    assert found.rank_correlation == 0.4


def test_without_an_examination_or_nearest_tasks_nothing_is_said_of_familiarity() -> None:
    assert familiarity(near(0.5), None) is None
    assert familiarity(near(0.5), {"similarity": None}) is None
    assert familiarity((), examined()) is None
    assert familiarity(near(0.5), examined(gains=[])) is None
    found = familiarity(near(0.5), examined(predicts_gain={}))
    assert found is not None
    assert found.rank_correlation is None


@pytest.mark.parametrize("damage", [{"gains": 3}, {"tasks": [{}]}, {"predicts_gain": []}])
def test_a_damaged_report_is_named_and_not_taken_for_none(damage: dict[str, Any]) -> None:
    with pytest.raises(GeneratorError, match="report on held-out tasks is damaged"):
        familiarity(near(0.5), examined(**damage))
