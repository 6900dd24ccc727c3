"""Invented reports in the form that `dnd evaluate` writes: pictures to look at, not results."""

from typing import Any

SHA = "a1c94e" + "0" * 58

_ROWS = {
    "base": (0.0, 0.01, 5.1),
    "few_shot": (0.05, 0.12, 3.8),
    "mean_lora": (0.01, 0.09, 4.0),
    "nearest_lora": (0.04, 0.21, 3.2),
    "multi_task_lora": (0.01, 0.41, 2.9),
    "generator": (0.14, 0.40, 2.1),
    "generator_wrong": (0.0, 0.24, 3.9),
    "generator_shuffled": (0.03, 0.33, 2.6),
    "oracle_lora": (0.83, 0.88, 0.5),
}


def report(split: str = "heldout", generator_sha256: str = SHA) -> dict[str, Any]:
    """A whole report, with one part measured apart."""
    rows = [
        {
            "row": row,
            "mode": mode,
            "split": split,
            "holdout": holdout,
            "score": score,
            "low": max(0.0, score - 0.06),
            "high": min(1.0, score + 0.07),
            "n_tasks": 19,
            "n_items": 380,
            "draws": 3 if row == "generator" else 1,
            "format_share": min(1.0, score + 0.5),
            "nll": nll,
            "per_category": {"classify": score, "transform": score / 2, "sql": score / 3},
        }
        for holdout in (None, "primitive", "family")
        for row, (bare, full, nll) in _ROWS.items()
        for mode, score in (("bare", bare), ("full", full))
    ]
    return {
        "command": "dnd evaluate --tasks tasks --split heldout --out report",
        "seed": 0,
        "split": split,
        "generator": "fake",
        "generator_sha256": generator_sha256,
        "base": "fake",
        "rows": rows,
        "verdicts": [
            {
                "name": "depends_on_prompts",
                "holds": True,
                "good": True,
                "words": "Bare: the prompts carry the task. Generator .14 (.09 to .20), wrong "
                "prompts 0.",
            },
            {
                "name": "beats_multi_task_lora",
                "holds": False,
                "good": False,
                "words": "Full: no gain over one LoRA. Difference -.01 (-.06 to .04).",
            },
            {"name": "matches_oracle", "holds": None, "good": None, "words": "Not measured."},
        ],
        "gap_closed": {"bare": 0.17, "full": 0.45},
        "operation_gain": {"bare": {"mean": 0.8, "low": 0.3, "high": 1.2, "share_positive": 0.8}},
        "cosine": {"same_task": 0.999, "different_task": 0.79},
        "failures": [
            {
                "slug": "title-case~json",
                "description": "Title case, as JSON",
                "wanted": '{"text": "Blue Door"}',
                "got": "<b>blue</b>-door",
            },
            {"slug": "weekday", "wanted": "Tuesday", "got": "2024-03-05"},
        ],
    }
