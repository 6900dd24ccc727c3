"""Length buckets: every step is as large as the recipe says."""

from pathlib import Path

import pytest
import torch

from dnd_engine.tasks.folder import Example, Task
from dnd_engine.training.batches import ConditionPool, Sampler, TaskCondition, TaskPool
from dnd_engine.training.recipe import TrainRecipe
from tests.dnd_engine.tiny import byte_tokenizer
from tests.task_info import task_info


def pool(number: int) -> TaskPool:
    task = Task(task_info(f"t{number}"), (Example(f"Say it.\n\n{number}", "yes"),), ())
    return TaskPool(task, "train", task.train, ("Say it.",), (), 10.0 + number)


@pytest.mark.parametrize("count", [25, 13, 12, 6, 5])
def test_length_buckets_are_as_even_as_can_be(count: int) -> None:
    """25 tasks at 6 a step were 7, 7, 7 and 4: small steps for the longest, drawn too often."""
    recipe = TrainRecipe(
        tasks=(Path("t"),), out=Path("o"), tasks_per_step=6, stages=((1, 2, 3), (1, 2, 3))
    )
    tokens, mask = torch.zeros(1, 2, 3), torch.ones(1, 2, dtype=torch.bool)
    one = TaskCondition(lambda: tokens, mask, torch.zeros(3))
    pools = [pool(n) for n in range(count)]
    sampler = Sampler(pools, ConditionPool((one,) * count), byte_tokenizer(), recipe)
    drawn = [sampler.draw(step, with_examples=False).tasks for step in range(200)]
    assert {len(tasks) for tasks in drawn} == {min(6, count)}
    assert {task for tasks in drawn for task in tasks} == set(range(count))
