"""Which tasks a generator is examined on, and that they are what they are called.

A task that training saw, in whatever format, or that chose the weights, is never unseen.
"""

import random
from collections import defaultdict
from collections.abc import Sequence, Set
from itertools import islice, zip_longest
from pathlib import Path

from dnd_engine.errors import ConfigError
from dnd_engine.tasks import formats
from dnd_engine.tasks.folder import HOLDOUTS, SPLITS, Task, load_tasks


def choose_tasks(
    folders: Sequence[Path],
    trained: Sequence[str],
    *,
    variants: Sequence[str] = (),
    split: str,
    holdouts: Sequence[str] = (),
    limit: int | None = None,
    seed: int = 0,
) -> tuple[Task, ...]:
    """Load the tasks to examine a generator on.

    Args:
        folders: Task folders.
        trained: Slugs of the tasks that the generator was trained on.
        variants: Those that it was trained on in an answer format, as `slug~format`, or with other
            labels.
        split: `heldout` takes the folders' held-out tasks; `train` takes their train tasks, as far
            as the generator was trained on them, as they are: their variants would multiply them.
        holdouts: For `heldout`, the kinds of novelty to take; none takes what the folders hold.
            `pair` and `format` are made here, from tasks that the generator was trained on; pairs
            are in formats that it knows from other tasks.
        limit: Tasks, drawn by seed, as many of each kind of novelty.
        seed: Draws tasks and the wordings of formats.

    Raises:
        ConfigError: If a name is unknown, nothing is left, or pairs are asked for of a generator
            that knows no format.
        TaskError: If a folder is malformed, or holds no task of the split.
    """
    strays = [name for name in holdouts if name not in HOLDOUTS]
    if strays or split not in SPLITS:
        raise ConfigError(
            f"expected a split of {', '.join(SPLITS)} and holdouts of {', '.join(HOLDOUTS)}, got "
            f"{', '.join((split, *holdouts))}."
        )
    if holdouts and split == "train":
        raise ConfigError("`holdouts` are kinds of held-out tasks. Leave them out, or the split.")
    if limit is not None and limit < 1:
        raise ConfigError(f"`limit` must be at least 1, got {limit}.")
    # Variants with other labels are called `slug~labels-1`, which is no format.
    known = {slug.partition("~")[2] for slug in variants} & formats.ANSWER_FORMATS.keys()
    if "pair" in holdouts and not known:
        raise ConfigError(
            "a `pair` is a known task in a known answer format, and the generator names no format "
            "that it was trained in. Leave pairs out, or train one with `format_variants`."
        )
    found: list[Task] = []
    if split == "train" or {"pair", "format"} & set(holdouts):
        plain = [t for t in load_tasks(folders, split="train") if t.info.slug in set(trained)]
        if split == "train":
            found += plain
        if "pair" in holdouts:
            # All of them, in random order: those in formats that the generator does not know must
            # not use up the limit.
            pairs = formats.unseen(plain, "pair", seed=seed)
            found += [task for task in pairs if task.info.answer_format in known][:limit]
        if "format" in holdouts:
            found += formats.unseen(plain, "format", limit=limit, seed=seed)
    if split == "heldout" and (not holdouts or set(holdouts) - {"pair", "format"}):
        found += [
            task
            for task in load_tasks(folders, split="heldout")
            if not holdouts or task.info.holdout in holdouts
        ]
    if not found:
        raise ConfigError(
            f"no tasks to examine: {', '.join(str(f) for f in folders)} hold none of split {split}"
            + (f" and holdout {', '.join(holdouts)}" if holdouts else " that the generator knows")
            + "."
        )
    # Sorted before drawing, so that the order of folders does not matter.
    ordered = sorted(found, key=lambda task: task.info.slug)
    if limit is not None and limit < len(ordered):
        ordered = sorted(_draw_tasks(ordered, limit, seed), key=lambda task: task.info.slug)
    return tuple(ordered)


def _draw_tasks(tasks: Sequence[Task], limit: int, seed: int) -> list[Task]:
    """Some tasks, as many of each kind of novelty, as far as there are enough."""
    kinds: dict[str, list[Task]] = defaultdict(list)
    for task in tasks:
        kinds[task.info.holdout].append(task)
    rng = random.Random(f"{seed}:tasks")
    shuffled = [rng.sample(kinds[kind], len(kinds[kind])) for kind in sorted(kinds)]
    # A kind that has run out leaves its turns to the others.
    in_turn = (task for turn in zip_longest(*shuffled) for task in turn if task is not None)
    return list(islice(in_turn, limit))


def refuse_trained(
    tasks: Sequence[Task], trained: Set[str], variants: Set[str], validating: Set[str]
) -> None:
    """Refuse to call tasks unseen that training has seen, in whatever answer format.

    Args:
        tasks: To be examined as held out.
        trained: Slugs of tasks that the generator was trained on.
        variants: Those in a format, as `slug~format`.
        validating: Slugs of tasks that chose the step whose weights it has.
    """
    # A task that was trained in some format only is known too.
    known = trained | {slug.partition("~")[0] for slug in variants}
    seen, chose = [], []
    for task in tasks:
        slug = task.info.slug
        # A pair or a format is unseen although its task is not.
        is_variant = task.info.holdout in ("pair", "format")
        if slug in (variants if is_variant else known):
            seen.append(slug)
        elif slug.partition("~")[0] in validating and not is_variant:
            chose.append(slug)
    if seen:
        raise ConfigError(
            f"{len(seen)} of the tasks to examine as held out are tasks that the generator was "
            f"trained on, such as `{min(seen)}`. A score on them says nothing of unseen tasks: "
            "examine them with --split train, or take a generator that did not see them."
        )
    if chose:
        raise ConfigError(
            f"{len(chose)} of the tasks to examine as held out chose the weights of the generator, "
            f"such as `{min(chose)}`: training validated on their families. A score on them is too "
            "good for unseen tasks: leave them out, or take a generator that was not chosen by "
            "them."
        )
