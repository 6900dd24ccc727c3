"""What adapters do to answers that have nothing to do with their task."""

from dnd_engine.generator.report import Report
from dnd_engine.scoring.scores import made_row
from dnd_engine.wording import percent, row_label
from ui.markup import esc, section
from ui.text import _


def side_effects_html(report: Report) -> str:
    """Describe how often other answers stay as they are, and right; empty if not measured."""
    made = made_row({row.row for row in report.rows})
    # First what the page is about.
    rows = sorted({*report.ordinary, *report.skills}, key=lambda row: (row != made, row))
    lines = "".join(
        f"<dt>{esc(_(row_label(row)))}</dt><dd>{_sentences(report, row)}</dd>" for row in rows
    )
    if not lines:
        return ""
    return section(_("What else does it change?"), f"<dl class='dnd-doors'>{lines}</dl>")


def _sentences(report: Report, row: str) -> str:
    sentences = []
    if (alone := report.ordinary.get(row)) is not None:
        sentences.append(
            _(
                "{share} of ordinary messages are answered as the base does ({low} to {high}).",
                share=percent(alone.share),
                low=percent(alone.low),
                high=percent(alone.high),
            )
        )
    if (right := report.skills.get(row)) is not None:
        sentences.append(
            _(
                "{share} of unrelated questions (sums, plurals, facts) are answered right ({low} "
                "to {high}); the base alone: {base}.",
                share=percent(right.share),
                low=percent(right.low),
                high=percent(right.high),
                base=percent(right.base),
            )
        )
    return " ".join(sentences)
