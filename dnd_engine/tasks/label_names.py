"""Label names: a classification task, answered with other words for the same classes.

An unseen task may sort texts into `urgent` and `later`, and only its prompts name these words. One
label set a task teaches a generator to recall labels, not to read them; with several, named in the
instruction, the same inputs have other answers.

Source: Rajendran et al. 2020, arXiv:2007.05549, for new labels as augmentation of meta-learning.
"""

import random
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from dnd_engine.tasks.folder import Example, Task
from dnd_engine.tasks.formats import asking
from dnd_engine.tasks.lists import read_lists

_MAX_LABELS = 6
_MAX_CHARS = 20
"""Longest label; longer ones are answers."""
_MIN_SHARE = 0.02
"""Minimum share of the training answers that the rarest label must have."""

# A frame, and what fills it once for each label. That names the old label too, because the task's
# own instruction explains only the old ones.
_WORDINGS = (
    ("Answer {}.", "{new} for {old}"),
    ("Use these words: {}.", "{new} for {old}"),
    ("Name them {}.", "{new} instead of {old}"),
    ("The labels are {}.", "{new} ({old})"),
    ("Where it is {}.", "{old}, write {new}"),
    ("Reply with {}.", "{new} if it is {old}"),
    ("Labels: {}.", "{old} = {new}"),
    ("Say {}.", "{new} to mean {old}"),
)


def label_set(task: Task) -> tuple[str, ...]:
    """The labels of a classification task, sorted; empty if a task is none.

    It is one if all answers are of a few short words, each of them often.
    """
    if task.info.metric not in ("choice", "exact") or task.info.answer_format:
        return ()
    counts: dict[str, int] = {}
    for example in task.train:
        counts[example.response] = counts.get(example.response, 0) + 1
        # Most tasks are no classification, and show it within a few examples.
        if len(counts) > _MAX_LABELS:
            return ()
    named = {option for example in (*task.train, *task.test) for option in example.options}
    labels = sorted(named | {e.response for e in task.test} | set(counts))
    short = all(len(label) <= _MAX_CHARS and "\n" not in label for label in labels)
    # Counted in training: a label that only options or the test side have is never learned.
    often = all(counts.get(label, 0) >= _MIN_SHARE * len(task.train) for label in labels)
    return tuple(labels) if len(labels) > 1 and short and often else ()


def relabelled(task: Task, number: int, seed: int) -> Task:
    """A classification task in no format, made to ask for other labels and answer with these.

    Label sets have a `number` from 1, and each task has its own; `seed` draws labels and wordings.
    Call it for tasks that have a `label_set`.
    """
    labels = label_set(task)
    rng = random.Random(f"{seed}:labels:{task.info.slug}:{number}")
    names = dict(zip(labels, _new_labels(labels, rng), strict=True))
    return Task(
        replace(
            task.info,
            slug=f"{task.info.slug}~labels-{number}",
            description=f"{task.info.description} {_sentence(names, _WORDINGS[0], labels)}".strip(),
            variant=f"labels-{number}",
            operation="",  # which knows its own labels only
        ),
        tuple(_relabelled(e, names, rng) for e in task.train),
        tuple(_relabelled(e, names, rng) for e in task.test),
    )


def relabelled_tasks(tasks: Iterable[Task], *, per_task: int, seed: int) -> tuple[Task, ...]:
    """Copies of the classification tasks with other labels, `per_task` of each."""
    numbers = range(1, per_task + 1)
    return tuple(relabelled(t, n, seed) for t in tasks if label_set(t) for n in numbers)


def _new_labels(labels: Sequence[str], rng: random.Random) -> list[str]:
    """As many labels, none of them an old one: a known set, letters, digits, or any words."""
    count, taken = len(labels), {label.casefold() for label in labels}
    lists = read_lists("labels")
    # Label sets as people make them; a task with fewer classes uses the first ones.
    schemes = [scheme.split() for scheme in lists["schemes"]]
    sets = [scheme[:count] for scheme in schemes if len(scheme) >= count]
    words = " ".join(lists["words"]).split()
    first = rng.choice("AKPX")
    letters = string.ascii_uppercase[string.ascii_uppercase.index(first) :][:count]
    lowest = rng.choice((0, 1))
    kinds = [
        rng.choice(sets),
        # Listed twice, so that words are drawn twice as often.
        rng.sample(words, count),
        rng.sample(words, count),
        # From X on there are three letters; more labels take words.
        list(letters) if len(letters) == count else rng.sample(words, count),
        [str(lowest + n) for n in range(count)],
    ]
    chosen = rng.choice(kinds)
    # Otherwise `yes` would always rename the alphabetically first of the old labels.
    rng.shuffle(chosen)
    # An old label as a new name could mean either class. Enough words are left, so this ends.
    if taken & {label.casefold() for label in chosen}:
        return _new_labels(labels, rng)
    case = rng.choice((str.lower, str.lower, str.title))
    return [label if len(label) == 1 else case(label) for label in chosen]


def _relabelled(example: Example, names: Mapping[str, str], rng: random.Random) -> Example:
    # Another order in each prompt, so that a place in the list says nothing.
    order = rng.sample(list(names), len(names))
    return Example(
        asking(example.prompt, _sentence(names, rng.choice(_WORDINGS), order)),
        names[example.response],
        tuple(names[option] for option in example.options),
    )


def _sentence(names: Mapping[str, str], wording: tuple[str, str], order: Sequence[str]) -> str:
    frame, part = wording
    parts = [part.format(old=old, new=names[old]) for old in order]
    return frame.format(f"{', '.join(parts[:-1])} and {parts[-1]}")
