"""The library: what was kept, and what to do with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import gradio as gr

from dnd_engine.library import DamagedEntry, Entry
from dnd_engine.lora.provenance import taught_alike
from dnd_engine.measure.kept import Scores
from ui.panels.checks import verdicts
from ui.panels.measure import score_words
from ui.state import Taught
from ui.text import Text

if TYPE_CHECKING:
    from dnd_engine.checks.results import Inspection

__all__ = ["LibraryPanel", "entry_words", "library_panel"]

_BUCKETS_TOLD = 4


@dataclass(frozen=True, slots=True)
class LibraryPanel:
    """Components of the tab."""

    bring: gr.UploadButton
    told: gr.HTML
    empty: gr.HTML
    kept: gr.Radio
    """The adapters, one chosen; what is done is done to that one."""
    actions: gr.Row
    load: gr.Button
    name: gr.Textbox
    rename: gr.Button
    duplicate: gr.Button
    recipe: gr.DownloadButton
    delete: gr.Button
    undo: gr.Button


def library_panel(text: Text, *, shared: bool) -> LibraryPanel:
    """Lay out the tab.

    Args:
        text: The words of the page.
        shared: Whether the library ends with the visit.
    """
    where = text.KEEP_IT_VISIT if shared else text.KEEP_IT_HERE
    with gr.Column(elem_id="dnd-library", elem_classes="dnd-panel", min_width=0):
        with gr.Row(elem_id="dnd-library-head"):
            gr.HTML(
                f"<h2 class='dnd-heading'>{text.TAB_LIBRARY}</h2>"
                f"<p class='dnd-sub'>{where} {text.IMPORT_MORE}</p>",
                padding=False,
                min_width=0,
            )
            bring = gr.UploadButton(
                text.IMPORT,
                file_types=[".zip", ".json"],
                size="md",
                min_width=0,
                elem_id="dnd-import",
            )
        told = gr.HTML("", padding=False, elem_id="dnd-library-told")
        empty = gr.HTML(
            f"<p class='dnd-none'>{text.LIBRARY_EMPTY}</p>",
            padding=False,
            visible=False,
            elem_id="dnd-library-empty",
        )
        kept = gr.Radio(
            [], label=text.LIBRARY_LIST, visible=False, elem_id="dnd-kept", show_label=False
        )
        with gr.Row(visible=False, elem_id="dnd-library-actions") as actions:
            load = gr.Button(
                text.LIBRARY_LOAD,
                variant="primary",
                size="md",
                min_width=0,
                elem_id="dnd-kept-load",
            )
            name = gr.Textbox(
                label=text.ADAPTER_NAME, max_lines=1, max_length=60, elem_id="dnd-kept-name"
            )
            rename = gr.Button(text.RENAME, size="md", min_width=0, elem_id="dnd-kept-rename")
            duplicate = gr.Button(text.DUPLICATE, size="md", min_width=0, elem_id="dnd-kept-copy")
            recipe = gr.DownloadButton(text.RECIPE, size="md", elem_id="dnd-kept-recipe")
            delete = gr.Button(text.DELETE, size="md", min_width=0, elem_id="dnd-kept-delete")
        undo = gr.Button("", visible=False, size="md", min_width=0, elem_id="dnd-kept-undo")
    return LibraryPanel(
        bring=bring,
        told=told,
        empty=empty,
        kept=kept,
        actions=actions,
        load=load,
        name=name,
        rename=rename,
        duplicate=duplicate,
        recipe=recipe,
        delete=delete,
        undo=undo,
    )


def entry_words(text: Text, entry: Entry | DamagedEntry, found: "Inspection | None" = None) -> str:
    """Tell of an adapter in a few lines, the first of them its name; no markup.

    Args:
        text: The words of the page.
        entry: Of the library.
        found: What was measured of it.
    """
    day = text.day(entry.created.astimezone())
    if isinstance(entry, DamagedEntry):
        return "\n".join([text.fill(text.DAMAGED, key=entry.key), f"{day}, {entry.reason}"])
    taught: Taught = "trained" if entry.trained else ""
    if not taught and entry.recipe is not None and (refined := entry.recipe.refined) is not None:
        taught = "refined_alike" if taught_alike(refined.to_json()) else "refined"
    facts = [
        day,
        text.fill(text.STRENGTH_OF, strength=entry.strength),
        text.fill(text.RANK, rank=entry.r),
        text.size(entry.num_bytes),
        *([text.IMPORTED_HERE] if entry.imported else []),
    ]
    judged = [
        f"{text.VERDICTS[v.name][0]} {v.value}".strip()
        for v in (verdicts(text, found, taught=taught) if found else [])
    ]
    votes = [
        f"{entry.votes[name]} {text.VOTE_OUTCOMES[name]}"
        for name in text.VOTE_OUTCOMES
        if entry.votes.get(name)
    ]
    return "\n".join(
        [
            entry.name,
            " · ".join([_prompts(text, entry), *facts]),
            " · ".join([*(judged or [text.UNCHECKED]), *votes]),
            *(_scored(text, entry, file, scores) for file, scores in entry.scores.items()),
        ]
    )


def _scored(text: Text, entry: Entry, file: str, scores: Scores) -> str:
    """Say what it is worth on labelled rows, beside the base; and at which strength, if another."""
    told = []
    for mode, own, base in scores.brief:
        words = {
            "mode": text.MEASURE_MODES.get(mode, mode),
            "score": score_words(text, own),
            "base": "" if base is None else score_words(text, base),
        }
        told.append(text.fill(text.SCORED_BESIDE if words["base"] else text.SCORED_MODE, **words))
    if scores.strength != entry.strength:
        file = text.fill(text.SCORED_AT, file=file, strength=scores.strength)
    return text.fill(text.SCORED, file=file, scores=", ".join(told))


def _prompts(text: Text, entry: Entry) -> str:
    buckets: Sequence[tuple[str, float, int]] = entry.buckets
    if not buckets:
        return (
            text.count(entry.num_prompts, "prompt") if entry.num_prompts else text.PROMPTS_UNKNOWN
        )
    told = [f"{name} {count}" for name, _, count in buckets[:_BUCKETS_TOLD]]
    more = ["…"] if len(buckets) > _BUCKETS_TOLD else []
    return f"{text.count(entry.num_prompts, 'prompt')} ({', '.join([*told, *more])})"
