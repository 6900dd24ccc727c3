"""The adapter bar: picture, facts, strength, zip and the way to teach."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import gradio as gr

from dnd_engine.lora.changes import changed_by
from ui.fields import Slider
from ui.markup import esc, facts, icon, prose
from ui.panel import Panel, button
from ui.state import Made
from ui.tabs.workbench.adapter.learnt import learnt
from ui.text import N_, _, count_files, count_prompts, ngettext, note_words, number, size

if TYPE_CHECKING:
    from dnd_engine.lora.adapter import Adapter

_STEPS = 4
"""Number of shades in the picture, not counting the lightest."""


class AdapterBar(Panel):
    """The bar, hidden until there is an adapter."""

    def __init__(self) -> None:
        with gr.Row(
            elem_id="dnd-adapter", elem_classes="dnd-panel", visible=False, equal_height=False
        ) as self.adapter_box:
            self.adapter_facts = gr.HTML(elem_id="dnd-adapter-facts", padding=False, min_width=0)
            self.strength = Slider(
                -0.5,
                2.0,
                value=1.0,
                step=0.05,
                label=_("Strength"),
                info=_("0 is base. Acts on the next word."),
                buttons=[],
                elem_id="dnd-strength",
            )
            with gr.Row(elem_classes="dnd-buttons"):
                self.download = gr.DownloadButton(
                    _("Preparing the zip"),
                    interactive=False,
                    variant="primary",
                    size="md",
                    elem_id="dnd-download",
                )
                # Opens the panel of `workbench.take`.
                self.take_open = button(_("Keep or export"), "dnd-take-open")
                # Imprints an adapter whose imprint was stopped, undone or switched off.
                self.imprint_now = button(_("Imprint"), "dnd-imprint-now", visible=False)
                # Opens the panel of `workbench.teach`.
                self.teach_open = button(_("Teach"), "dnd-teach-open")
                self.undo = button(_("Undo teaching"), "dnd-undo", visible=False)
        self.warning = gr.HTML("", elem_id="dnd-warning", padding=False)
        # Shown below a warning that the checks could not be finished.
        self.check_again = button(_("Run the checks again"), "dnd-check-again", visible=False)


def adapter_html(made: Made, *, stale: bool) -> str:
    """Draw the facts of an adapter; `stale` is whether its prompts have changed since."""
    adapter = made.adapter
    prompts = count_prompts(adapter.num_prompts)
    taught = learnt(adapter.provenance, imported=made.imported)
    if num_files := sum(len(bucket.files) for bucket in made.buckets):
        prompts = _("{prompts} from {files}", prompts=prompts, files=count_files(num_files))
    parts = [
        prompts if adapter.num_prompts else _("prompts unknown"),
        _took(adapter),
        "" if taught is None else taught.words,
    ]
    size_facts = [
        _("rank {rank}", rank=adapter.r),
        size(adapter.num_bytes),
        ngettext("{number} parameter", "{number} parameters", adapter.num_parameters),
    ]
    lines = "".join(
        f"<p class='dnd-note'>{icon('info')}<span>{prose(note)}</span></p>"
        for note in _notes(adapter, stale)
    )
    whole_hash = _("SHA-256 {sha256}", sha256=esc(adapter.sha256))
    return (
        f"<div class='dnd-adapter'>{fingerprint(made.thumbprint)}<div>"
        f"<h2 class='dnd-heading'>{esc(adapter.name)} "
        f"<code title='{whole_hash}'>{esc(adapter.sha256[:8])}</code></h2>"
        f"{facts(' · '.join(filter(None, parts)))}{lines}"
        f"<details class='dnd-fold'><summary>{_('Details')}</summary>"
        f"{' · '.join(size_facts)}</details></div></div>"
    )


def _notes(adapter: "Adapter", stale: bool) -> Iterator[str]:
    """Say what else to know of an adapter."""
    if adapter.kept_energy is not None:
        yield _(
            "The sum was cut back to rank {rank} and keeps {share:.0f} % of the change.",
            rank=adapter.r,
            share=100 * adapter.kept_energy,
        )
    if adapter.not_imprinted:
        yield _("Not imprinted: {why}", why=note_words(adapter.not_imprinted))
    if lost := _lost(adapter):
        yield _(
            "The teacher's server failed on the way. Prompts without an answer: {number}.",
            number=lost,
        )
    if adapter.strength > 1.5:
        yield _("Strong: answers may become garbled.")
    measured = adapter.checks.get("strength")  # of any type, in a file from elsewhere
    if isinstance(measured, int | float) and abs(measured - adapter.strength) > 1e-9:
        yield _(
            "Verdict and checks were measured at strength {measured:g}, not at this one.",
            measured=measured,
        )
    if stale:
        yield _("Not made from the buckets as they are now.")
    if stale and adapter.was_trained:
        yield _(
            "A taught adapter stays as it is. To mix a new one, press Edit prompts, then "
            "Synthesize."
        )


def _took(adapter: "Adapter") -> str:
    """Describe how long each step took; an imported file does not say so of those before."""
    seconds, made = adapter.seconds, []
    if "total" in seconds:
        words = N_("imprinted in {seconds:.1f} s, without a generator")
        if adapter.is_generated:
            words = N_("weights in {seconds:.2f} s")
        made.append(_(words, seconds=seconds["total"]))
    if "imprint" in seconds and adapter.is_generated:
        made.append(_("then imprinted in {seconds:.1f} s", seconds=seconds["imprint"]))
    if "refined" in adapter.provenance and "refine" in seconds:
        words = N_("then taught in {seconds:.0f} s")
        # Without a later training, which has a time of its own.
        if changed_by({"refined": adapter.provenance["refined"]}) == "labels":
            words = N_("then taught with labels in {seconds:.0f} s")
        made.append(_(words, seconds=seconds["refine"]))
    if "train" in seconds:
        words = N_("trained on labels in {seconds:.0f} s")
        if (by := _teacher(adapter.provenance.get("trained"))) is not None:
            words = N_("then taught by {teacher} in {seconds:.0f} s")
        made.append(_(words, teacher=esc(by or ""), seconds=seconds["train"]))
    return ", ".join(made)


def _teacher(trained: object) -> str | None:
    """Name a person or a better model as the source of the answers."""
    if not isinstance(trained, Mapping):
        return None
    by = trained.get("answers")
    return _("you") if by == "person" else str(trained.get("teacher")) if by == "teacher" else None


def _lost(adapter: "Adapter") -> str:
    """Count the prompts without an answer because the teacher's server failed."""
    trained = adapter.provenance.get("trained")
    lost = trained.get("num_lost") if isinstance(trained, Mapping) else None
    return number(lost) if isinstance(lost, int) and lost > 0 else ""


def fingerprint(thumbprint: Sequence[Sequence[float]]) -> str:
    """Draw a picture to distinguish adapters, with all shades equally frequent."""
    if not thumbprint:  # measured a moment after the adapter is shown, and must not move it then
        return '<svg class="dnd-fingerprint" aria-hidden="true"></svg>'
    # Zeros are left out: they mean no change, as in the layers that an imprint leaves alone.
    ranked = sorted(value for row in thumbprint for value in row if value)
    rows = [[_step(value, ranked) for value in row] for row in thumbprint]
    if not ranked:
        return ""
    width = max(map(len, rows))
    cells = "".join(
        f'<rect x="{4 * x}" y="{4 * y}" width="3.4" height="3.4" class="h{level}"/>'
        for y, levels in enumerate(rows)
        for x, level in enumerate(levels)
    )
    label = esc(_("Fingerprint of the weight change"))
    return (
        f'<svg class="dnd-fingerprint" viewBox="0 0 {4 * width} {4 * len(rows)}" '
        f'preserveAspectRatio="none" role="img" aria-label="{label}">{cells}</svg>'
    )


def _step(value: float, ranked: Sequence[float]) -> int:
    """Return the shade of a value; the lightest means no change."""
    return 1 + _STEPS * bisect_left(ranked, value) // len(ranked) if value else 0
