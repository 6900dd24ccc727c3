"""Measurements of an adapter are what their definitions say."""

import pytest
import torch

from dnd_engine.generator import TaskCentroid
from dnd_engine.inspection import base_norms, kl_to_base, nearest_tasks, relative_norms
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
