"""Label names: other words for the same classes, read off the instruction."""

import re

import pytest

from dnd_engine.tasks.folder import Example, Task
from dnd_engine.tasks.label_names import label_set, relabelled, relabelled_tasks
from tests.task_info import task_info


def task(labels: tuple[str, ...] = ("urgent", "later"), metric: str = "choice") -> Task:
    """A task of 60 train and 6 test examples, its labels in turn."""
    info = task_info("hurry", metric=metric, operation="hurry")
    examples = tuple(
        Example(
            f"Is it urgent?\n\nmessage {i}",
            labels[i % len(labels)],
            labels if metric == "choice" else (),
        )
        for i in range(66)
    )
    return Task(info, examples[:60], examples[60:])


@pytest.mark.parametrize("metric", ["choice", "exact"])
@pytest.mark.parametrize("labels", [("no", "yes"), ("1", "2", "3"), tuple("ABCDEF")])
def test_a_task_of_a_few_short_answers_is_a_classification(
    labels: tuple[str, ...], metric: str
) -> None:
    assert label_set(task(labels, metric)) == labels


@pytest.mark.parametrize(
    "other",
    [
        task(tuple("ABCDEFG")),
        task(("yes",)),
        task(("yes", "a label of more than twenty letters")),
        task(("yes", "two\nlines")),
        task(metric="rouge"),
        Task(task().info, task().train[:1] * 59 + task().train[1:2], task().test),
        Task(task().info, task().train, (*task().test, Example("Is it?\n\nx", "never"))),
    ],
    ids=["many", "one", "long", "lines", "texts", "rare", "only tested"],
)
def test_other_tasks_have_no_labels_to_rename(other: Task) -> None:
    assert label_set(other) == ()
    assert relabelled_tasks([other], per_task=2, seed=0) == ()


@pytest.mark.parametrize("labels", [("later", "urgent"), ("1", "2", "3"), tuple("ABCDEF")])
@pytest.mark.parametrize("seed", range(30))
def test_labels_are_renamed_one_to_one_and_the_instruction_says_how(
    labels: tuple[str, ...], seed: int
) -> None:
    plain = task(labels)
    made = relabelled(plain, 1, seed)
    pairs = {
        (a.response, b.response)
        for a, b in zip((*plain.train, *plain.test), (*made.train, *made.test), strict=True)
    }
    names = dict(pairs)
    assert len(pairs) == len(names) == len(set(names.values())) == len(labels)
    lowered = {label.casefold() for label in labels}
    assert not lowered & {new.casefold() for new in names.values()}
    for before, after in zip(plain.train, made.train, strict=True):
        assert after.bare == before.bare
        assert after.options == tuple(names[option] for option in before.options)
        asked = after.prompt.removeprefix("Is it urgent? ").partition("\n\n")[0]
        assert told(asked, labels) == names


READ = (
    (r"Answer (.*)\.", r"(?P<new>\w+) for (?P<old>\w+)"),
    (r"Use these words: (.*)\.", r"(?P<new>\w+) for (?P<old>\w+)"),
    (r"Name them (.*)\.", r"(?P<new>\w+) instead of (?P<old>\w+)"),
    (r"The labels are (.*)\.", r"(?P<new>\w+) \((?P<old>\w+)\)"),
    (r"Where it is (.*)\.", r"(?P<old>\w+), write (?P<new>\w+)"),
    (r"Reply with (.*)\.", r"(?P<new>\w+) if it is (?P<old>\w+)"),
    (r"Labels: (.*)\.", r"(?P<old>\w+) = (?P<new>\w+)"),
    (r"Say (.*)\.", r"(?P<new>\w+) to mean (?P<old>\w+)"),
)
"""What a reader makes of each wording."""


def told(asked: str, labels: tuple[str, ...]) -> dict[str, str]:
    """Old label to new one, as an instruction says."""
    found = [
        {m["old"]: m["new"] for m in re.finditer(part, whole[1])}
        for frame, part in READ
        if (whole := re.fullmatch(frame, asked))
    ]
    (names,) = found
    assert set(names) == set(labels)
    return names


def test_every_variant_has_labels_of_its_own() -> None:
    made = relabelled_tasks([task()], per_task=3, seed=0)
    assert [t.info.slug for t in made] == ["hurry~labels-1", "hurry~labels-2", "hurry~labels-3"]
    assert {t.info.plain_slug for t in made} == {"hurry"}
    assert len({t.train[0].response for t in made}) == 3
    # What makes the operation's answers knows its own labels only.
    assert {t.info.operation for t in made} == {""}
    assert relabelled_tasks([task()], per_task=3, seed=0) == made
    assert relabelled_tasks([task()], per_task=3, seed=1) != made


def test_words_of_the_instruction_vary() -> None:
    made = relabelled(task(), 1, 0)
    asked = {example.prompt.partition("\n\n")[0] for example in made.train}
    assert len(asked) > 8
