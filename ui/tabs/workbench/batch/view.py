"""The batch table of inputs with both answers, drawn as they come, and its CSV file."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr

from dnd_engine.limits import FIXED
from dnd_engine.prompts.words import cut
from dnd_engine.tables import cell
from ui.fields import Textbox
from ui.markup import brief, error_notice, esc, quiet, scrolling, table, unfenced
from ui.panel import Panel
from ui.state import Batch, Made
from ui.tabs.workbench.compare.sent import has_several_instructions
from ui.tabs.workbench.compare.view import INSTRUCTION_CHARACTERS, told_label
from ui.text import _, drawn, number, said

if TYPE_CHECKING:
    from dnd_engine.models.replies import Reply

_SHOWN_CHARACTERS = 400
"""Maximum characters of an answer in the table; the CSV file has all."""


class BatchPanel(Panel):
    """The table, initially collapsed."""

    PREFIX = "batch_"

    def __init__(self) -> None:
        with gr.Accordion(
            _("Ask many at once"), open=False, elem_id="dnd-batch", elem_classes="dnd-panel"
        ) as self.box:
            self.inputs = Textbox(
                label=_("Inputs, one per line"),
                info=_(
                    "Up to {number} new inputs. Each goes to this app's two models chosen above, "
                    "in the form chosen there. Even at temperature 0, an answer may differ from "
                    "the chat's, because inputs that are answered together are rounded "
                    "differently.",
                    number=FIXED.max_batch_inputs,
                ),
                lines=4,
                max_lines=12,
                max_length=FIXED.max_batch_inputs * FIXED.max_batch_chars,
                elem_id="dnd-batch-inputs",
            )
            with gr.Row():
                self.start = gr.Button(
                    _("Answer all"),
                    variant="primary",
                    size="md",
                    scale=0,
                    elem_id="dnd-batch-start",
                )
                self.stop = gr.Button(
                    _("Stop"), size="md", scale=0, visible=False, elem_id="dnd-batch-stop"
                )
                self.file = gr.DownloadButton(
                    _("Download as CSV"),
                    size="md",
                    scale=0,
                    visible=False,
                    elem_id="dnd-batch-file",
                )
            self.table = gr.HTML(drawn(batch_html, None), elem_id="dnd-batch-table", padding=False)


def batch_html(batch: Batch | None) -> str:
    """Draw the inputs and answers so far, below what ended them; empty before the first."""
    if batch is None:
        return ""
    failed = error_notice(said(batch.error)) if batch.error else ""
    if batch.error and not batch.answered:
        return failed
    left, right = _names(batch)
    heads = [_("Input"), left, *([right] if batch.compares else [])]
    rows = "".join(
        f"<tr><th scope='row'>{esc(given)}</th>"
        + "".join(f"<td>{_answer_html(reply)}</td>" for reply in replies)
        + "</tr>"
        for given, replies in zip(batch.inputs, batch.replies, strict=True)
    )
    answers = scrolling(_("Answers"), table(map(esc, heads), rows), "many")
    told = quiet(words) if (words := _told_words(batch)) else ""
    progress = f"<p class='dnd-sub' role='status'>{_progress_words(batch)}</p>"
    return f"{failed}{progress}{told}{answers}"


def write_batch(batch: Batch, path: Path) -> Path:
    """Write the table as CSV, with cells escaped against spreadsheet formulas."""
    left, right = _names(batch)
    heads = ["input", left, *([right] if batch.compares else [])]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([cell(head) for head in heads])
        for given, replies in zip(batch.inputs, batch.replies, strict=True):
            writer.writerow([cell(given), *(cell(r.text if r else "") for r in replies)])
    return path


def _names(batch: Batch) -> tuple[str, str]:
    """Name the models, and say which of them read the instruction."""
    left = _name(batch.left) if batch.left else _("Base")
    right = _name(batch.right) if batch.right else ""
    if batch.mode == "told" and batch.instruction:
        left = _("{model}, with the instruction", model=left)
    return left, right


def _told_words(batch: Batch) -> str:
    """Say which instruction was read before all inputs; empty if none was."""
    if batch.mode != "told" or not batch.instruction:
        return ""
    beside = batch.left is not None
    words = _(
        "{model} reads “{instruction}” before each input that has no instruction of its own.",
        model=esc(_name(batch.left)) if batch.left else _("Base"),
        instruction=esc(brief(batch.instruction, INSTRUCTION_CHARACTERS)),
    )
    if batch.right is not None and has_several_instructions(batch.right.buckets):
        words += " " + _(
            "For inputs that need another instruction, choose it above, under “{label}”.",
            label=told_label(beside=beside),
        )
    return words


def _name(made: Made) -> str:
    """Name an adapter, with the hash that the bar shows: the table stays when another is chosen."""
    return f"{made.adapter.name} {made.key[:8]}"


def _progress_words(batch: Batch) -> str:
    """Count the answers, and how many of them differ."""
    answered = [row for row in batch.replies if all(r is not None and r.finished for r in row)]
    done = len(answered)
    words = _("{done} of {total} inputs answered.", done=done, total=len(batch.inputs))
    if batch.compares and done:
        same = sum(len({reply.text.strip() for reply in row if reply}) == 1 for row in answered)
        words += " " + _("Both give the same answer to {same}.", same=number(same))
    if batch.stop.is_set() and done < len(batch.inputs):
        words += " " + _("Stopped.")
    return words


def _answer_html(reply: "Reply | None") -> str:
    return "…" if reply is None else esc(cut(unfenced(reply.text).strip(), _SHOWN_CHARACTERS))
