"""The first sentence of a report card, without jargon."""

from collections.abc import Mapping

from dnd_engine.generator.report import Report, ReportRow
from dnd_engine.scoring.scores import REFINED, made_row
from ui.text import N_, _, number

_OPENINGS: Mapping[str, str] = {
    "written": N_(
        "On kinds of task that nothing here was trained on, an adapter made the way this page does "
        "is right about {own} times in 100 without being told what to do."
    ),
    "heldout": N_(
        "On tasks held out of its training, but like it in kind, an adapter is right about {own} "
        "times in 100 without being told what to do."
    ),
    "refine": N_(
        "On kinds of task that the generator never saw, an adapter taught on their prompts is "
        "right about {own} times in 100 without being told what to do."
    ),
    "train": N_(
        "On tasks it was trained on, an adapter is right about {own} times in 100 without being "
        "told what to do."
    ),
}
_PART = N_(
    "On this kind of task, an adapter is right about {own} times in 100 without being told what to "
    "do."
)


def lead(report: Report, split: str, holdout: str = "") -> str:
    """Describe how often an adapter is right on bare inputs, beside the base and a trained LoRA.

    `holdout` is the kind of novelty of the tasks; empty for all. Nothing is said of an unknown
    split, or if bare inputs or the generator were not scored.
    """
    bare = {row.row: row for row in report.rows_of(holdout) if row.mode == "bare"}
    own = bare.get(made_row(bare))
    if own is None or split not in _OPENINGS:
        return ""
    if split == "refine" and own.row not in REFINED:
        return ""  # nothing was taught
    said = [_(_PART if holdout else _OPENINGS[split], own=_times(own.score))]
    if "base" in bare:
        said.append(_("The base model alone: {base}.", base=_times(bare["base"].score)))
    if (oracle := bare.get("oracle_lora")) is not None:
        words = N_("A LoRA trained on labels of the task: {lora}.")
        # Not every task has a LoRA of its own, and other tasks have another mean.
        if oracle.n_tasks != own.n_tasks:
            words = N_("A LoRA trained on labels of the task, on {some} of {all} tasks: {lora}.")
        said.append(_(words, lora=_times(oracle.score), some=oracle.n_tasks, all=own.n_tasks))
    elif (labelled := _trained_longest(bare)) is not None and labelled.n_tasks == own.n_tasks:
        words = N_("A LoRA trained on the right answers to the same prompts: {lora}.")
        said.append(_(words, lora=_times(labelled.score)))
    elif (shown := bare.get("few_shot")) is not None and shown.n_tasks == own.n_tasks:
        words = N_("The base model with a few right answers in its prompt: {shown}.")
        said.append(_(words, shown=_times(shown.score)))
    # Where nothing but a whole match counts, there is nothing to explain.
    if any(row.exact != row.score for row in bare.values()):
        said.append(_("Longer answers count in part, by how many words match."))
    if own.row in REFINED and (holdout or split != "refine"):
        said.append(_("That is after teaching it on the prompts of the task."))
    if own.row == "generator":
        said.append(_("That is before the imprint, which this report did not measure."))
    return " ".join(said)


def _trained_longest(rows: Mapping[str, ReportRow]) -> ReportRow | None:
    """Return the row that was trained on labels of the same prompts, for most steps."""
    labelled = [
        row for row in rows.values() if row.row in REFINED and REFINED[row.row].from_labels_alone
    ]
    return max(labelled, key=lambda row: REFINED[row.row].steps or 0, default=None)


def _times(score: float) -> str:
    return number(round(100 * round(score, 2)))  # as the chart below rounds it
