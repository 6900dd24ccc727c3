"""The shipped written tasks keep to what their page says."""

from dnd_engine.files import asset_path
from dnd_engine.prompts.split import split_prompt
from dnd_engine.tasks.folder import load_tasks

WRITTEN = load_tasks(asset_path("tasks", "written"))


def test_every_prompt_has_one_of_eight_instructions() -> None:
    assert len(WRITTEN) == 739
    assert len({task.info.family for task in WRITTEN}) == 727
    for task in WRITTEN:
        parts = [split_prompt(example.prompt) for example in task.train]
        assert all(part.input for part in parts), task.info.slug
        assert len({part.instruction for part in parts}) == 8, task.info.slug


def test_no_family_is_both_trained_on_and_held_out() -> None:
    held_out = [task.info for task in WRITTEN if task.info.split == "heldout"]
    assert len(held_out) == 120
    assert len({info.family for info in held_out}) == 114
    trained = {task.info.family for task in WRITTEN if task.info.split == "train"}
    assert not trained & {info.family for info in held_out}


def test_nothing_of_the_development_set_is_among_them() -> None:
    everyday = load_tasks(asset_path("tasks", "everyday"))
    kept_apart = {e.prompt for task in everyday for e in (*task.train, *task.test)}
    assert not kept_apart & {example.prompt for task in WRITTEN for example in task.train}
    instructions = {split_prompt(prompt).instruction for prompt in kept_apart}
    for task in WRITTEN:
        assert not instructions & {split_prompt(e.prompt).instruction for e in task.train}
