"""The library tab: stored adapters and their actions."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import gradio as gr

from dnd_engine.library import DamagedEntry, Entry
from dnd_engine.limits import FIXED
from dnd_engine.lora.changes import ChangedBy
from dnd_engine.measure.kept import Scores
from ui.fields import Textbox
from ui.markup import heading, none_yet, sentence
from ui.panel import Panel, button
from ui.tabs.measure.view import mode_words
from ui.tabs.workbench.adapter.check_lines import check_lines
from ui.tabs.workbench.adapter.judgement_view import Judgement
from ui.tabs.workbench.adapter.learnt import Learnt, learnt
from ui.tabs.workbench.take.view import where_words
from ui.text import N_, _, count_prompts, day, drawn, score_number, size

if TYPE_CHECKING:
    from dnd_engine.checks.results import Inspection

_MAX_BUCKETS = 4


_VOTE_OUTCOMES: Mapping[str, str] = {
    "won": N_("won"),
    "lost": N_("lost"),
    "tie": N_("tied"),
    "bad": N_("both bad"),
}


class LibraryPanel(Panel):
    """The tab."""

    PREFIX = "library_"

    def __init__(self, *, shared: bool) -> None:
        nothing = _("Nothing kept yet. Make an adapter on the Workbench and press Keep or export.")
        with gr.Column(elem_id="dnd-library", elem_classes="dnd-panel", min_width=0):
            with gr.Row(elem_id="dnd-library-head"):
                # Says how long adapters are kept, which depends on the visitor.
                self.head = gr.HTML(
                    drawn(library_head_html, ends=shared), padding=False, min_width=0
                )
                self.bring = gr.UploadButton(
                    _("Import"),
                    file_types=[".zip", ".json"],
                    size="md",
                    min_width=0,
                    elem_id="dnd-import",
                )
            self.told = gr.HTML("", padding=False, elem_id="dnd-library-told")
            self.empty = gr.HTML(
                drawn(none_yet, nothing),
                padding=False,
                visible=False,
                elem_id="dnd-library-empty",
            )
            # The adapters; actions apply to the selected one.
            self.kept = gr.Radio(
                [], label=_("Adapters kept"), visible=False, elem_id="dnd-kept", show_label=False
            )
            with gr.Row(visible=False, elem_id="dnd-library-actions") as self.actions:
                self.load = button(_("Load into the workbench"), "dnd-kept-load", variant="primary")
                self.name = Textbox(
                    label=_("Name"),
                    max_lines=1,
                    max_length=FIXED.max_name_chars,
                    elem_id="dnd-kept-name",
                )
                self.rename = button(_("Rename"), "dnd-kept-rename")
                self.duplicate = button(_("Duplicate"), "dnd-kept-copy")
                self.recipe = gr.DownloadButton(
                    _("Recipe, JSON"), size="md", elem_id="dnd-kept-recipe"
                )
                self.delete = button(_("Delete"), "dnd-kept-delete")
            self.undo = button("", "dnd-kept-undo", visible=False)


def library_head_html(*, ends: bool) -> str:
    """Draw the heading of the tab; `ends` says whether the library ends with the visit."""
    importing = _(
        "Import takes a PEFT zip or a recipe. The recipe's prompt files must be on the "
        "canvas unless it contains their text."
    )
    return heading(_("Library"), where_words(ends=ends), importing)


def entry_words(entry: Entry | DamagedEntry, found: "Inspection | None" = None) -> str:
    """Describe an adapter in a few lines of plain text, the first of them its name."""
    kept = day(entry.created.astimezone())
    if isinstance(entry, DamagedEntry):
        return "\n".join([_("Damaged: {key}", key=entry.key), f"{kept}, {entry.reason}"])
    facts = [
        kept,
        _("strength {strength:.2f}", strength=entry.strength),
        _("rank {rank}", rank=entry.r),
        size(entry.num_bytes),
        *([_("imported")] if entry.imported else []),
    ]
    brought = learnt(entry.teaching, imported=entry.imported)
    lines = check_lines(found, changed_by=entry.changed_by) if found else []
    judged = [f"{line.title} {line.value}".strip() for line in lines]
    unmeasured = _("Not measured here") if entry.imported else _("Not measured")
    votes = [
        f"{entry.votes[name]} {_(words)}"
        for name, words in _VOTE_OUTCOMES.items()
        if entry.votes.get(name)
    ]
    return "\n".join(
        [
            entry.name,
            " · ".join([_prompts(entry), *facts]),
            *([verdict] if (verdict := _verdict(found, entry.changed_by, brought)) else []),
            *([sentence(brought.words)] if brought else []),
            " · ".join([*(judged or [unmeasured]), *votes]),
            *(_scored(entry, file, scores) for file, scores in entry.scores.items()),
        ]
    )


def _verdict(
    found: "Inspection | None", changed_by: ChangedBy | None, brought: Learnt | None
) -> str:
    """Say whether it works, as far as its checks or its teaching tell; empty if neither does."""
    if found is not None:
        return Judgement(found, changed_by, brought).words()
    if brought is None:
        return ""
    words = brought.short
    return _("Warning: {reasons}.", reasons=words.rstrip(".")) if brought.warns else words


def _scored(entry: Entry, file: str, scores: Scores) -> str:
    """Describe scores on labelled rows, beside the base's, and their strength if it differs."""
    parts = []
    for mode, own, base in scores.brief:
        score = f"{mode_words(mode)} {score_number(own)}"
        if base is not None:
            score = _("{score} (base {base})", score=score, base=score_number(base))
        parts.append(score)
    if scores.strength != entry.strength:
        file = _("{file}, at strength {strength:.2f}", file=file, strength=scores.strength)
    return f"{file}: {', '.join(parts)}"


def _prompts(entry: Entry) -> str:
    buckets: Sequence[tuple[str, float, int]] = entry.buckets
    if not buckets:
        return count_prompts(entry.num_prompts) if entry.num_prompts else _("prompts unknown")
    named = [f"{name} {count}" for name, _weight, count in buckets[:_MAX_BUCKETS]]
    more = ["…"] if len(buckets) > _MAX_BUCKETS else []
    return f"{count_prompts(entry.num_prompts)} ({', '.join([*named, *more])})"
