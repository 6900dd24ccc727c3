"""How rows and numbers are written in reports, verdicts and pictures, so that all three agree."""

from dnd_engine.scoring.statistics import Interval

__all__ = [
    "CONTROLS",
    "holdout_label",
    "listed",
    "mode_label",
    "number",
    "percent",
    "row_label",
    "signed",
    "span",
]

CONTROLS = ("generator_wrong", "generator_shuffled", "generator_constant")
"""Rows that the generator must beat if its prompts matter."""

_ROWS = {
    "base": "Base",
    "few_shot": "Base, few-shot prompt",
    "mean_lora": "Mean of training LoRAs",
    "multi_task_lora": "Multi-task LoRA",
    "nearest_lora": "Nearest task's LoRA",
    "generator": "Generator, right prompts",
    "generator_refined_15": "Refined, 15 steps",
    "generator_refined_30": "Refined, 30 steps",
    "generator_refined": "Generator, refined",
    "scratch_refined_15": "From scratch, 15 steps",
    "scratch_refined_30": "From scratch, 30 steps",
    "scratch_refined": "Refined from scratch",
    "labelled_5": "Own LoRA, 5 steps",
    "labelled_10": "Own LoRA, 10 steps",
    "labelled_20": "Own LoRA, 20 steps",
    "labelled_40": "Own LoRA, 40 steps",
    "shared_lora": "Generator's shared part",
    "generator_wrong": "Generator, wrong prompts",
    "generator_shuffled": "Generator, shuffled words",
    "generator_constant": "Generator, one fixed sentence",
    "imprint": "Imprint, without the generator",
    "generator_imprint": "Generator, imprinted",
    "generator_imprint_wrong": "Imprinted, wrong prompts",
    "oracle_lora": "Own LoRA, trained on labels",
}

_MODES = {"bare": "Bare", "full": "Full"}

_HOLDOUTS = {
    "": "All tasks",
    "seen": "Seen tasks",
    "family": "New families",
    "primitive": "New operations",
    "composition": "New compositions of known operations",
    "pair": "Known tasks in known formats, new pairs",
    "format": "New answer formats",
}


def row_label(row: str) -> str:
    """A row in words; a row that has none yet, by its name."""
    return _ROWS.get(row, row.replace("_", " ").capitalize())


def mode_label(mode: str) -> str:
    """An input mode in words."""
    return _MODES[mode]


def holdout_label(holdout: str) -> str:
    """What is new about a group of tasks, in words."""
    return _HOLDOUTS.get(holdout, holdout.capitalize())


def number(value: float) -> str:
    """Write a score or a loss with two places, and without a leading zero: .14, 1.20, -.03.

    What two places would turn into zero gets a third, so that an interval clear of zero looks it.
    """
    # Reports keep four places; rounding from those everywhere gives one number everywhere.
    kept = round(value, 4)
    text = f"{kept:.2f}" if abs(kept) >= 0.005 else f"{kept:.3f}"
    if float(text) == 0:
        return "0"
    return text.replace("0.", ".", 1) if abs(float(text)) < 1 else text


def signed(value: float) -> str:
    """Write a difference: +.13, -.03, 0."""
    text = number(value)
    return text if text[0] in "-0" else f"+{text}"


def span(interval: Interval) -> str:
    """Write an interval: .09 to .20."""
    return f"{number(interval.low)} to {number(interval.high)}"


def percent(share: float) -> str:
    """Write a share: 17 %."""
    return f"{round(100 * share) + 0:d} %"


def listed(parts: list[str]) -> str:
    """Join with commas and a last "and"."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
