"""Display names of rows, modes, splits, metrics and checks, and formatting of numbers.

Reports, cards, the command line and the page use these names. `N_` marks those that the page
translates (see `ui.text`); elsewhere they are English.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from dnd_engine.notes import joined, noted


def N_(message: str) -> str:
    """Mark a message in a table for the page's catalogues; it is translated when it is drawn."""
    return message


LISTED = N_("{names} and {last}")
"""Several things in a row, see `listed`."""
ROWS: Mapping[str, str] = {
    "base": N_("Base"),
    "few_shot": N_("Base, few-shot prompt"),
    "mean_lora": N_("Mean of training LoRAs"),
    "multi_task_lora": N_("Multi-task LoRA"),
    "nearest_lora": N_("Nearest task's LoRA"),
    "shared_lora": N_("What all adapters share"),
    "trained_teacher": N_("Trained teacher"),
    "generator": N_("Generator, right prompts"),
    "generator_wrong": N_("Generator, wrong prompts"),
    "generator_shuffled": N_("Generator, shuffled words"),
    "generator_constant": N_("Generator, one fixed sentence"),
    "imprint": N_("Imprint, without the generator"),
    "generator_imprint": N_("Generator, imprinted"),
    "generator_imprint_wrong": N_("Imprinted, wrong prompts"),
    "steering_vector": N_("Steering vector, no adapter"),
    "generator_refined_15": N_("Refined, 15 steps"),
    "generator_refined_30": N_("Refined, 30 steps"),
    "generator_refined": N_("Generator, refined"),
    "scratch_refined_15": N_("From scratch, 15 steps"),
    "scratch_refined_30": N_("From scratch, 30 steps"),
    "scratch_refined": N_("Refined from scratch"),
    "imprint_refined_15": N_("Imprinted, then refined, 15 steps"),
    "imprint_taught_20": N_("Imprinted, then a better model, 20 steps"),
    "labelled_5": N_("Own LoRA, 5 steps"),
    "labelled_10": N_("Own LoRA, 10 steps"),
    "labelled_20": N_("Own LoRA, 20 steps"),
    "labelled_40": N_("Own LoRA, 40 steps"),
    "imprint_labelled_20": N_("Imprinted, then on labels, 20 steps"),
    "imprint_labelled_40": N_("Imprinted, then on labels, 40 steps"),
    "oracle_lora": N_("Own LoRA, trained on labels"),
}
"""Every row of an evaluation, in report order. `evaluation.baselines` defines their adapters."""

MEASURED_ROWS: Mapping[str, str] = {
    "adapter": N_("This adapter"),
    "trained_lora": N_("LoRA trained from scratch"),
    "warm_lora": N_("LoRA trained from this adapter"),
}
"""Rows that only measurements have."""

LINES: Mapping[str, str] = {
    "base": N_("Base"),
    "adapter": N_("Adapter"),
    "trained_lora": N_("From scratch"),
    "warm_lora": N_("From adapter"),
}
"""Short row names for line labels, where there is little room."""

WAYS: Mapping[str, str] = {
    "generator": N_("From the adapter"),
    "imprint": N_("Imprinted first"),
    "scratch": N_("From nothing"),
    "labels": N_("On labels"),
    "imprint_better": N_("Imprinted, a better model's answers"),
    "imprint_labels": N_("Imprinted, on labels"),
    "teacher": N_("Teacher"),
}
"""Starting points and sources of training in the chart *What teaching brings*."""

_PLAIN = N_("As in your file")
MODES: Mapping[str, str] = {"bare": N_("Bare"), "full": N_("Full"), "plain": _PLAIN}
"""Names of what is sent. `plain` is `full` for labelled rows without an instruction."""
_INPUTS: Mapping[str, str] = {
    "bare": N_("Bare inputs"),
    "full": N_("Full prompts"),
    "plain": _PLAIN,
}
NO_INSTRUCTIONS = N_("Your rows have no instruction, so the base was not told the task.")
"""Caveat of a measurement on rows without an instruction."""
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
"""Evaluations by split or section of the card, the hardest first."""

HOLDOUTS: Mapping[str, str] = {
    "": N_("All tasks"),
    "seen": N_("Seen tasks"),
    "family": N_("New families"),
    "primitive": N_("New operations"),
    "composition": N_("New compositions of known operations"),
    "pair": N_("Known tasks in known formats, new pairs"),
    "format": N_("New answer formats"),
}
"""Kinds of novelty of tasks."""

# The tables of tasks name them so, and English shows them as they are.
CATEGORIES: tuple[str, ...] = (
    N_("classification"),
    N_("code"),
    N_("commonsense"),
    N_("extraction"),
    N_("format"),
    N_("grammar"),
    N_("intent"),
    N_("knowledge"),
    N_("legal"),
    N_("lexical"),
    N_("logic"),
    N_("math"),
    N_("medical"),
    N_("nli"),
    N_("rewriting"),
    N_("safety"),
    N_("science"),
    N_("sentiment"),
    N_("sql"),
    N_("string"),
    N_("style"),
    N_("summarisation"),
    N_("topic"),
)
"""Kinds of task."""

METRICS: Mapping[str, str] = {
    "score": N_("Score"),
    "format_share": N_("Right format"),
    "nll": N_("Loss"),
}

CONTROLS: Mapping[str, str] = {
    "wrong": N_("Made from another task's prompts ({names})"),
    "mean": N_("What all adapters share"),
    "shuffled": N_("Made from shuffled words"),
    "base": N_("No adapter"),
}
"""Controls of the ablation."""

# Not marked for translation: the page draws the controls.
CONTROLS_AS_SUBJECTS: Mapping[str, str] = {
    "wrong": "An adapter made from another task's prompts ({names})",
    "mean": "What all adapters of its generator share",
    "shuffled": "An adapter made from the same prompts with their words shuffled",
    "base": "The base alone",
}
"""The same as subjects of sentences."""


# In tests beartype checks annotations, and asks this of a protocol.
@runtime_checkable
class Ends(Protocol):
    """Anything with an interval."""

    @property
    def low(self) -> float:
        """Lower end of the interval."""

    @property
    def high(self) -> float:
        """Upper end of the interval."""


def row_label(row: str) -> str:
    """Return a row's display name; unknown rows keep their key."""
    # Reports of other versions and generators may have rows that are unknown here.
    label = ROWS.get(row) or MEASURED_ROWS.get(row)
    return label or row.replace("_", " ").capitalize()


def mode_label(mode: str) -> str:
    """Return the display name of an input mode."""
    return MODES.get(mode, mode)


def inputs_label(mode: str) -> str:
    """Return the input of a mode in words."""
    return _INPUTS.get(mode, mode)


def holdout_label(holdout: str) -> str:
    """Return the display name of a kind of novelty."""
    return HOLDOUTS.get(holdout, holdout.capitalize())


def section_label(section: str) -> str:
    """Return the display name of an evaluation; unknown sections keep their key."""
    return SECTIONS.get(section, section.replace("-", " ").capitalize())


def number(value: float) -> str:
    """Format a score or a loss with two decimals, without a leading zero: .14, 1.20, -.03.

    Values that would round to zero get a third decimal, so that an interval that excludes zero
    shows it.
    """
    # Reports store four decimals; rounding from those gives the same number everywhere.
    kept = round(value, 4)
    text = f"{kept:.2f}" if abs(kept) >= 0.005 else f"{kept:.3f}"
    if float(text) == 0:
        return "0"
    return text.replace("0.", ".", 1) if abs(float(text)) < 1 else text


def signed(value: float) -> str:
    """Format a difference: +.13, -.03, 0."""
    text = number(value)
    return text if text[0] in "-0" else f"+{text}"


def span(interval: Ends) -> str:
    """Format an interval: .09 to .20."""
    return f"{number(interval.low)} to {number(interval.high)}"


def percent(share: float) -> str:
    """Format a share: 17 %."""
    return f"{round(100 * share)} %"


def size(num_bytes: int) -> str:
    """Format the size of a file: 2.4 MB, 37 kB."""
    if num_bytes >= 1e6:
        return f"{num_bytes / 1e6:,.1f} MB"
    return f"{num_bytes / 1e3:.0f} kB"


def listed(parts: Sequence[str]) -> str:
    """Join one or more parts with commas and a final "and"."""
    *first, last = parts
    return noted(LISTED, names=joined(first, ", "), last=last) if first else last
