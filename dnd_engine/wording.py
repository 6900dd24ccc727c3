"""What rows, modes, splits, metrics and checks are called, and how numbers are written.

Reports, cards, the command line and the page take every such name from here. `N_` marks those that
the page translates (see `ui.text`); elsewhere they are English.
"""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

__all__ = [
    "CONTROLS",
    "HOLDOUTS",
    "LINES",
    "METRICS",
    "MODES",
    "MODE_NOTES",
    "N_",
    "ROWS",
    "SECTIONS",
    "WAYS",
    "holdout_label",
    "inputs_label",
    "listed",
    "mode_label",
    "number",
    "percent",
    "row_label",
    "section_label",
    "signed",
    "span",
]


def N_(message: str) -> str:
    """Mark a name for the catalogues of the page."""
    return message


ROWS: Mapping[str, str] = {
    "base": N_("Base"),
    "few_shot": N_("Base, few-shot prompt"),
    "mean_lora": N_("Mean of training LoRAs"),
    "multi_task_lora": N_("Multi-task LoRA"),
    "nearest_lora": N_("Nearest task's LoRA"),
    "shared_lora": N_("What all adapters share"),
    "generator": N_("Generator, right prompts"),
    "generator_wrong": N_("Generator, wrong prompts"),
    "generator_shuffled": N_("Generator, shuffled words"),
    "generator_constant": N_("Generator, one fixed sentence"),
    "imprint": N_("Imprint, without the generator"),
    "generator_imprint": N_("Generator, imprinted"),
    "generator_imprint_wrong": N_("Imprinted, wrong prompts"),
    "generator_refined_15": N_("Refined, 15 steps"),
    "generator_refined_30": N_("Refined, 30 steps"),
    "generator_refined": N_("Generator, refined"),
    "scratch_refined_15": N_("From scratch, 15 steps"),
    "scratch_refined_30": N_("From scratch, 30 steps"),
    "scratch_refined": N_("Refined from scratch"),
    "imprint_refined_15": N_("Imprinted, then refined, 15 steps"),
    "labelled_5": N_("Own LoRA, 5 steps"),
    "labelled_10": N_("Own LoRA, 10 steps"),
    "labelled_20": N_("Own LoRA, 20 steps"),
    "labelled_40": N_("Own LoRA, 40 steps"),
    "imprint_labelled_20": N_("Imprinted, then on labels, 20 steps"),
    "oracle_lora": N_("Own LoRA, trained on labels"),
    "adapter": N_("This adapter"),
    "trained_lora": N_("LoRA trained from scratch"),
    "warm_lora": N_("LoRA trained from this adapter"),
}
"""Rows of reports, in their order, then those that only measurements have."""

LINES: Mapping[str, str] = {
    "base": N_("Base"),
    "adapter": N_("Adapter"),
    "trained_lora": N_("From scratch"),
    "warm_lora": N_("From adapter"),
}
"""Rows of a measurement at the end of a line, where there is little room."""

WAYS: Mapping[str, str] = {
    "generator": N_("From the adapter"),
    "imprint": N_("Imprinted first"),
    "scratch": N_("From nothing"),
    "labels": N_("On labels"),
    "imprint_labels": N_("Imprinted, on labels"),
    "teacher": N_("Teacher"),
}
"""Where training starts from, or learns from, in the chart *What teaching brings*."""

MODES: Mapping[str, str] = {"bare": N_("Bare"), "full": N_("Full")}
_INPUTS: Mapping[str, str] = {"bare": N_("Bare inputs"), "full": N_("Full prompts")}
MODE_NOTES: Mapping[str, str] = {
    "bare": N_("only the input is sent: “The film was a delight.”"),
    "full": N_("the instruction is sent too"),
}

SECTIONS: Mapping[str, str] = {
    "written": N_("Unseen tasks, imprinted"),
    "heldout": N_("Unseen tasks"),
    "refine": N_("Unseen tasks, taught"),
    "train": N_("Seen tasks, new items"),
}
"""Examinations, by split or section of the card; the hardest question first."""

HOLDOUTS: Mapping[str, str] = {
    "": N_("All tasks"),
    "seen": N_("Seen tasks"),
    "family": N_("New families"),
    "primitive": N_("New operations"),
    "composition": N_("New compositions of known operations"),
    "pair": N_("Known tasks in known formats, new pairs"),
    "format": N_("New answer formats"),
}
"""What is new about a group of tasks."""

METRICS: Mapping[str, str] = {
    "score": N_("Score"),
    "format_share": N_("Right format"),
    "nll": N_("Loss"),
}

CONTROLS: Mapping[str, str] = {
    "wrong": N_("Made from other prompts ({names})"),
    "mean": N_("What all adapters share"),
    "shuffled": N_("Made from shuffled words"),
    "base": N_("No adapter"),
}
"""What an adapter is put beside to see whether it reads its prompts."""


@runtime_checkable
class Ends(Protocol):
    """Anything with an interval."""

    @property
    def low(self) -> float:
        """Lower end."""

    @property
    def high(self) -> float:
        """Upper end."""


def row_label(row: str) -> str:
    """A row in words; a row that has none yet, by its name."""
    return ROWS.get(row, row.replace("_", " ").capitalize())


def mode_label(mode: str) -> str:
    """An input mode in a word."""
    return MODES.get(mode, mode)


def inputs_label(mode: str) -> str:
    """What is sent in a mode."""
    return _INPUTS.get(mode, mode)


def holdout_label(holdout: str) -> str:
    """What is new about a group of tasks, in words."""
    return HOLDOUTS.get(holdout, holdout.capitalize())


def section_label(section: str) -> str:
    """An examination in words; one with a name of its own, by that."""
    return SECTIONS.get(section, section.replace("-", " ").capitalize())


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


def span(interval: Ends) -> str:
    """Write an interval: .09 to .20."""
    return f"{number(interval.low)} to {number(interval.high)}"


def percent(share: float) -> str:
    """Write a share: 17 %."""
    return f"{round(100 * share) + 0:d} %"


def listed(parts: list[str]) -> str:
    """Join with commas and a last "and"."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
