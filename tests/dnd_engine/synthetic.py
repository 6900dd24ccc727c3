"""Invented item scores of some forty tasks, with planted generators: not results."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from dnd_engine.generator.report import Closeness, Cosine, Cost, Distances
from dnd_engine.scoring.scores import DRAWN, MODES, ROWS, ItemScore, ReportMeta
from dnd_engine.tasks.folder import Example, Mode, Task
from tests.task_info import task_info

_CHANCES = {
    "base": (0.01, 0.05),
    "few_shot": (0.06, 0.15),
    "mean_lora": (0.02, 0.12),
    "multi_task_lora": (0.03, 0.42),
    "nearest_lora": (0.08, 0.25),
    "generator": (0.3, 0.43),
    "generator_wrong": (0.02, 0.3),
    "generator_shuffled": (0.12, 0.36),
    "generator_constant": (0.02, 0.33),
    "imprint": (0.04, 0.06),
    "generator_imprint": (0.4, 0.44),
    "generator_imprint_wrong": (0.02, 0.2),
    "steering_vector": (0.03, 0.06),
    "shared_lora": (0.02, 0.55),
    "trained_teacher": (0.03, 0.6),
    "generator_refined_15": (0.4, 0.48),
    "generator_refined_30": (0.46, 0.5),
    "generator_refined": (0.5, 0.52),
    "scratch_refined_15": (0.1, 0.3),
    "scratch_refined_30": (0.25, 0.4),
    "scratch_refined": (0.4, 0.45),
    "imprint_refined_15": (0.52, 0.5),
    "imprint_taught_20": (0.55, 0.6),
    "labelled_5": (0.1, 0.2),
    "labelled_10": (0.2, 0.3),
    "labelled_20": (0.4, 0.5),
    "labelled_40": (0.8, 0.8),
    "imprint_labelled_20": (0.6, 0.7),
    "imprint_labelled_40": (0.7, 0.75),
    "oracle_lora": (0.85, 0.88),
}
"""Row to its chance on bare inputs and on full prompts."""

CHANCES: dict[Mode, dict[str, float]] = {
    "bare": {row: bare for row, (bare, _full) in _CHANCES.items()},
    "full": {row: full for row, (_bare, full) in _CHANCES.items()},
}
"""A generator that reads its prompts."""

COSINE = Cosine(
    same_task=0.9991,
    different_task=0.79,
    same_task_centred=0.97,
    different_task_centred=-0.02,
)

DISTANCES = Distances(
    n_tasks=40,
    n_training=60,
    nearest=Closeness(generated={}, median=0.7, training_median=0.8, ratio=0.9),
    training="collected",
)

_CATEGORIES = ("classify", "transform", "lexical", "dates", "sql")
_HOLDOUTS = ("primitive", "composition", "family")


def tasks(count: int = 40, items: int = 8) -> list[Task]:
    """Unseen tasks, two to a family."""
    return [
        Task(
            task_info(
                f"task-{n:02}",
                family=f"family-{n // 2:02}",
                category=_CATEGORIES[n // 2 % len(_CATEGORIES)],
                description=f"Invented task {n}",
                split="heldout",
            ),
            (),
            tuple(
                Example(f"Do thing {n}.\n\ninput {i}", f"answer {i} | {n}") for i in range(items)
            ),
        )
        for n in range(count)
    ]


def scores(
    chances: Mapping[Mode, Mapping[str, float]] | None = None,
    *,
    of: Sequence[Task] | None = None,
    draws: int = 3,
    copies: Mapping[str, str] | None = None,
) -> list[ItemScore]:
    """Scores of rows that get each item right with a given chance, up to a task's own difficulty.

    Args:
        chances: Mode to row to chance.
        of: The tasks.
        draws: Prompt draws of the rows in `DRAWN`.
        copies: Row to the row whose every score and text it repeats.
    """
    copies = copies or {}
    found = []
    for mode, rows in (chances or CHANCES).items():
        for row in rows:
            source = copies.get(row, row)
            for task in tasks() if of is None else of:
                for draw in range(draws if row in DRAWN else 1):
                    # A copy repeats its source's first draw, whatever its own number.
                    rng = random.Random(f"{mode}:{source}:{draw if source == row else 0}")
                    found += _task_scores(rng, row, mode, draw, task, rows[source])
    return found


def _task_scores(
    rng: random.Random, row: str, mode: Mode, draw: int, task: Task, chance: float
) -> list[ItemScore]:
    number = int(task.info.slug.rsplit("-", 1)[1])
    family = random.Random(task.info.family).uniform(-0.25, 0.25)  # the same for all rows
    rng = random.Random(f"{rng.random()}:{task.info.slug}")
    likely = chance + family * min(chance, 1 - chance)
    found = []
    for item in range(len(task.test)):
        # Some items are easier for every row, which is what pairing is for.
        luck = rng.random(), random.Random(f"{mode}:{task.info.slug}:{item}").random()
        right = luck[rng.random() < 0.7] < likely
        formatted = right or rng.random() < 0.8
        found.append(
            ItemScore(
                row=row,
                mode=mode,
                draw=draw,
                slug=task.info.slug,
                family=task.info.family,
                category=task.info.category,
                holdout=_HOLDOUTS[number // 2 % 3] if task.info.split == "heldout" else "",
                item=item,
                score=float(right),
                exact=right,
                format_ok=formatted if number % 2 else None,
                content_ok=right if number % 2 and formatted else None,
                choice=right or rng.random() < 0.5 if number % 5 == 0 else None,
                nll=round(3 - 2.5 * likely + rng.gauss(0, 0.15), 4),
                text=task.test[item].response if right else f"wrong `{item}` | <b>no</b>",
            )
        )
    return found


def meta(**fields: Any) -> ReportMeta:
    """A report's frame."""
    values: dict[str, Any] = {
        "command": "dnd evaluate --tasks tasks --split heldout --out report",
        "seed": 0,
        "split": "heldout",
        "generator": "invented",
        "generator_sha256": "a1c94e" + "0" * 58,
        "base": "example/tiny-llama",
        "rows": ROWS,
        "modes": MODES,
        "data": "40 invented tasks of 20 families, 8 items each.",
        "cost": Cost(
            synthesis_seconds=0.32,
            training_seconds=18000.0,
            lora_seconds=24.0,
            break_even_tasks=760,
            imprint_seconds={
                "generator_imprint": 7.0,
                "imprint_refined_15": 7.5,
                "imprint_taught_20": 7.5,
                "imprint_labelled_20": 7.5,
                "imprint_labelled_40": 7.5,
            },
            refine_seconds={
                "imprint_refined_15": 16.0,
                "imprint_taught_20": 24.0,
                "imprint_labelled_20": 18.0,
                "imprint_labelled_40": 36.0,
                "generator_refined_15": 16.0,
                "generator_refined_30": 26.0,
                "generator_refined": 45.0,
                "scratch_refined_15": 16.5,
                "scratch_refined_30": 26.5,
                "scratch_refined": 45.5,
                "labelled_5": 4.0,
                "labelled_10": 8.0,
                "labelled_20": 16.0,
                "labelled_40": 32.0,
            },
        ),
        "cosine": COSINE,
        "distances": DISTANCES,
    }
    return ReportMeta(**(values | fields))


def similarities(of: Sequence[Task]) -> dict[str, float]:
    """Task to similarity."""
    rng = random.Random("similarities")
    return {task.info.slug: round(rng.uniform(0.2, 0.8), 3) for task in of}


def checks(of: Sequence[Task]) -> dict[str, dict[str, float | None]]:
    """Task to what an inspection says; the first one's prompts cannot be asked bare."""
    rng = random.Random("checks")
    found: dict[str, dict[str, float | None]] = {
        task.info.slug: {"agreement": rng.randint(0, 8) / 8, "effect": 1.0 + i % 11}
        for i, task in enumerate(of)
    }
    found[of[0].info.slug]["agreement"] = None
    return found
