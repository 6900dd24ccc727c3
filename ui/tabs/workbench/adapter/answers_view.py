"""The prompts that a verdict rests on, with both answers to each, to read for oneself."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dnd_engine.prompts.words import cut
from ui.markup import esc, icon, quiet, scrolling, table
from ui.text import _

if TYPE_CHECKING:
    from dnd_engine.checks.verdict import Answered

_SHOWN_CHARACTERS = 240
"""Maximum characters of an input in the table."""


def answers_html(answers: Sequence["Answered"]) -> str:
    """Draw the prompts with their answers, folded; empty if they are not known.

    Args:
        answers: They are known until the adapter is loaded again: nothing stored contains prompts.
    """
    if not answers:
        return ""
    labelled = any(one.label is not None for one in answers)
    several = len({one.bucket for one in answers}) > 1
    heads = [
        *([_("Bucket")] if several else []),
        _("Prompt, without its instruction"),
        _("The adapter's answer"),
        _("The model's answer with the instruction"),
        *([_("Label")] if labelled else []),
    ]
    rows = "".join(_row(one, several=several, labelled=labelled) for one in answers)
    about = _("The adapter did not see the instruction. Long answers are compared at their start.")
    drawn = scrolling(_("Answers"), table(heads, rows), "many")
    return f"<details><summary>{_('Read the answers')}</summary>{quiet(about)}{drawn}</details>"


def _row(one: "Answered", *, several: bool, labelled: bool) -> str:
    bucket = f"<td>{esc(one.bucket)}</td>" if several else ""
    label = f"<td>{esc(one.label or '')}</td>" if labelled else ""
    given = esc(cut(one.input, _SHOWN_CHARACTERS))
    return (
        f"<tr>{bucket}<th scope='row'>{given}</th><td>{_mark(one)} {esc(one.bare)}</td>"
        f"<td>{esc(one.instructed)}</td>{label}</tr>"
    )


def _mark(one: "Answered") -> str:
    """Say whether the adapter's answer counts for it: by the label, or by the model's answer."""
    if one.label is not None:
        good, words = one.right, _("right") if one.right else _("wrong")
    else:
        good, words = one.same, _("the same") if one.same else _("another answer")
    return f"{icon('check' if good else 'error')}<span class='dnd-sr'>{words}: </span>"
