"""The prompts that a verdict rests on, with both answers to each, to read for oneself."""

from typing import TYPE_CHECKING

from dnd_engine.prompts.words import cut
from ui.markup import esc, icon, quiet, scrolling, table
from ui.text import _

if TYPE_CHECKING:
    from dnd_engine.checks.verdict import AdapterVerdict, Answered

_SHOWN_CHARACTERS = 240
"""Maximum characters of an input in the table."""


def answers_html(verdict: "AdapterVerdict") -> str:
    """Draw the prompts of a verdict with their answers, folded.

    Empty once the adapter is loaded again, because nothing stored contains prompts.
    """
    if not verdict.answers:
        return ""
    labelled = any(one.label is not None for one in verdict.answers)
    several = len({one.bucket for one in verdict.answers}) > 1
    heads = [
        *([_("Bucket")] if several else []),
        _("Prompt, without its instruction"),
        _("The adapter's answer"),
        _("The model's answer with the instruction"),
        *([_("Label")] if labelled else []),
    ]
    rows = "".join(
        _row(one, verdict, several=several, labelled=labelled) for one in verdict.answers
    )
    signs = _("A tick means: as the model answers with the instruction.")
    if verdict.by_labels:
        signs = _("A tick means: right by the label.")
    about = _("The adapter did not see the instruction. Long answers are compared at their start.")
    drawn = scrolling(_("Answers behind the verdict"), table(heads, rows), "many")
    summary = _("Read the answers")
    return f"<details><summary>{summary}</summary>{quiet(f'{about} {signs}')}{drawn}</details>"


def _row(one: "Answered", verdict: "AdapterVerdict", *, several: bool, labelled: bool) -> str:
    bucket = f"<td>{esc(one.bucket)}</td>" if several else ""
    label = f"<td>{esc(one.label or '')}</td>" if labelled else ""
    given = esc(cut(one.input, _SHOWN_CHARACTERS))
    mark = _mark(one, by_labels=verdict.by_labels)
    return (
        f"<tr>{bucket}<th scope='row'>{given}</th><td>{mark}{esc(one.bare)}</td>"
        f"<td>{esc(one.instructed)}</td>{label}</tr>"
    )


def _mark(one: "Answered", *, by_labels: bool) -> str:
    """Say whether an answer counts for the adapter; nothing if it does not count."""
    if by_labels and one.label is None:
        return ""
    if by_labels:
        good, words = one.right, _("right") if one.right else _("wrong")
    else:
        good, words = one.same, _("the same") if one.same else _("another answer")
    return f"{icon('check' if good else 'error')}<span class='dnd-sr'>{words}: </span>"
