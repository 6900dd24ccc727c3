"""The shipped everyday tasks, a development set that imprint was tuned on, are sound."""

from dnd_engine.files import asset_path
from dnd_engine.prompts.split import split_prompt
from dnd_engine.tasks.folder import load_tasks


def test_everyday_tasks_have_an_instruction_and_share_no_input_between_sides() -> None:
    tasks = load_tasks(asset_path("tasks", "everyday"), split="heldout")
    assert len(tasks) == 20
    for task in tasks:
        sides = [{split_prompt(e.prompt).input for e in side} for side in (task.train, task.test)]
        assert None not in sides[0] | sides[1]
        assert not sides[0] & sides[1], task.info.slug
        assert (len(task.train), len(task.test)) == (20, 15)
