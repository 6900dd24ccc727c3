"""Monitors show what a falling loss hides, and the log and pictures hold what was measured."""

from collections.abc import Sequence

import pytest
import torch

from dnd_engine.lora.weight_tokens import detokenize
from dnd_engine.tasks.folder import Task
from dnd_engine.tasks.formats import ANSWER_FORMATS
from dnd_engine.training.batches import Role, TaskPool
from dnd_engine.training.monitors import (
    GroupNLL,
    Probe,
    choose_probe,
    measure_probe,
    weight_statistics,
)
from tests.dnd_engine.tiny import LAYOUT, delta, random_tokens
from tests.task_info import task_info


def pool(family: str, answer_format: str = "", role: Role = "train") -> TaskPool:
    info = task_info(
        f"{family}~{answer_format}",
        family=family,
        answer_format=answer_format if answer_format in ANSWER_FORMATS else "",
        variant=answer_format,
    )
    return TaskPool(Task(info, (), ()), role, (), (), (), 10.0)


POOLS = [
    *(pool(f"f{n}", form) for n in range(6) for form in ("", "json", "tag")),
    pool("v0", "", "validation"),
    pool("v1", "json", "validation"),
]


def test_wrong_prompts_are_another_familys_and_the_other_operations_in_the_same_format() -> None:
    roles: tuple[Role, ...] = ("train", "validation")
    for role in roles:
        probe = choose_probe(POOLS, role, 10, seed=0)
        assert len(probe.tasks) == (10 if role == "train" else 2)
        for task, wrong, other in zip(probe.tasks, probe.wrong, probe.other_operation, strict=True):
            info = POOLS[task].task.info
            assert POOLS[task].role == role
            assert wrong is not None
            assert other is not None
            assert POOLS[wrong].task.info.family != info.family
            assert POOLS[other].task.info.family != info.family
            assert POOLS[other].task.info.answer_format == info.answer_format


def test_tasks_with_other_labels_are_neither_watched_nor_wrong_prompts() -> None:
    """Their prompts name other labels, so their losses would say nothing of the operation."""
    pools = [pool("a"), pool("b", "labels-1"), pool("c", "labels-2"), pool("d")]
    probe = choose_probe(pools, "train", 4, 0)
    assert probe.tasks == (0, 3)
    assert probe.wrong == probe.other_operation == (3, 0)
    # Where there are no others, their loss is watched all the same.
    probe = choose_probe(pools[1:3], "train", 4, 0)
    assert (probe.tasks, probe.wrong) == ((0, 1), (None, None))


def test_a_probe_is_a_function_of_its_seed() -> None:
    assert choose_probe(POOLS, "train", 5, 1) == choose_probe(POOLS, "train", 5, 1)
    assert choose_probe(POOLS, "train", 5, 1) != choose_probe(POOLS, "train", 5, 2)


def test_a_task_without_a_stranger_has_no_wrong_prompts() -> None:
    probe = choose_probe([pool("a", "json"), pool("b"), pool("b")], "train", 3, 0)
    assert probe.tasks == (0, 1, 2)
    assert probe.other_operation[0] is None, "no other family has its format"
    assert choose_probe([pool("a"), pool("a")], "train", 2, 0).wrong == (None, None)


def test_gap_and_gain_are_paired_differences_of_tasks() -> None:
    """Each against the right prompts of the very same tasks."""
    probe = Probe((0, 1, 2), (3, None, 4), (None, 5, 3))
    costs = {(0, 0): 1.0, (1, 1): 2.0, (2, 2): 4.0, (0, 3): 3.0, (2, 4): 5.0, (1, 5): 2.5}
    costs[2, 3] = 3.9

    def measure(tasks: Sequence[int], sources: Sequence[int]) -> list[GroupNLL]:
        return [GroupNLL(costs[pair], 0.25) for pair in zip(tasks, sources, strict=True)]

    assert measure_probe(probe, measure, "x") == {
        "x_loss": round(7 / 3, 5),
        "x_exact": 0.25,
        "x_loss_wrong_prompts": 4.0,
        "x_wrong_prompt_gap": 1.5,
        "x_operation_gain": pytest.approx(0.2),
    }
    assert set(measure_probe(probe, measure, "x", compare=False)) == {"x_loss", "x_exact"}
    assert measure_probe(Probe((), (), ()), measure, "x") == {}


def test_weight_statistics_are_those_of_the_explicit_deltas() -> None:
    tokens = torch.stack([random_tokens(seed=1) + random_tokens(seed=s) for s in range(2, 6)])
    flat = torch.stack(
        [
            torch.cat([d.flatten() for d in delta(detokenize(t, LAYOUT), LAYOUT).values()])
            for t in tokens
        ]
    )
    found = weight_statistics(tokens, LAYOUT)
    squares = flat.square().sum(dim=1).mean()
    assert found.norm == pytest.approx(float(squares.sqrt()), rel=1e-4)
    centred = (flat - flat.mean(dim=0)).square().sum(dim=1).mean()
    assert found.between_share == pytest.approx(float(centred / squares), rel=1e-3)
    cosines = torch.nn.functional.cosine_similarity(flat[:, None], flat[None], dim=2)
    assert found.cosine == pytest.approx(float((cosines.sum() - 4) / 12), rel=1e-3)


def test_equal_adapters_have_no_variance_between_tasks() -> None:
    """What the collapsed run looked like: to rounding, whatever the size."""
    same = random_tokens(seed=1).expand(5, -1, -1, -1)
    assert weight_statistics(same, LAYOUT).between_share < 1e-5
    assert weight_statistics(same, LAYOUT).cosine == pytest.approx(1, abs=1e-5)
    nothing = weight_statistics(torch.zeros_like(same), LAYOUT)
    assert (nothing.norm, nothing.between_share) == (0, 0)
