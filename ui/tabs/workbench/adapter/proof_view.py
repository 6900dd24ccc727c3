"""The ablation: an adapter compared with controls, such as one made from other prompts."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dnd_engine.wording import CONTROLS
from ui.markup import RING, error_notice, esc, facts, icon, quiet, why
from ui.text import N_, _, count_prompts, number

if TYPE_CHECKING:
    from dnd_engine.checks.results import Conditioning, Control

_PROOF_NO: Mapping[str, tuple[str, str]] = {
    "wrong": (
        N_("No evidence of it: one made from another task's prompts does about as well."),
        N_("No evidence of it: one made from another task's prompts does better."),
    ),
    "mean": (
        N_("No evidence of it: what all adapters of this generator share does about as well."),
        N_("No evidence of it: what all adapters of this generator share does better."),
    ),
}
"""Doubts by control: where the interval reaches 0, and where all of it is below."""


def proof_html(
    proof: "Conditioning | None", *, running: str = "", failed: str = "", done: bool = False
) -> str:
    """Draw how an adapter compares with its controls.

    `running` says what is being done, `failed` why it ended; `done` is whether it was requested.
    """
    if running:
        body = f"<p class='dnd-sub' aria-live='polite'>{RING} {esc(running)}</p>"
    elif failed:
        body = error_notice(failed)
    elif proof is None:
        more = _(
            "Compares this adapter with others, such as one made from another task's prompts, on "
            "up to 16 of your prompts. You can chat meanwhile."
        )
        if done:
            more = _("This needs two prompts that have an instruction and an input.")
        body = quiet(more)
    else:
        body = _controls_html(proof)
    return f"<h2 class='dnd-heading'>{_('Does it read your prompts?')}</h2>{body}"


def _controls_html(proof: "Conditioning") -> str:
    controls: dict[str, Control] = {control.name: control for control in proof.controls}
    # Controls may be missing: without a generator, adapters share nothing, shuffled words have no
    # instruction to imprint, and another task's prompts may have none either.
    compared = [(controls[name], words) for name, words in _PROOF_NO.items() if name in controls]
    # An interval that reaches 0 is compatible with no difference at all.
    doubts = [
        _(better if control.high < 0 else alike)
        for control, (alike, better) in compared
        if control.low <= 0
    ]
    if not compared:
        doubts = [_("Not known: no adapter could be made from another task's prompts.")]
    yes = _("Yes. Other prompts do clearly worse.")
    if "mean" in controls:
        yes = _("Yes. Other prompts, and what all adapters share, do clearly worse.")
    sentences = "".join(f"<span>{why}</span>" for why in doubts) or yes
    if proof.depends and "shuffled" in controls and controls["shuffled"].low <= 0:
        only = N_("Word order barely matters: shuffled words do about as well.")
        if controls["shuffled"].high < 0:
            only = N_("Word order does not help: shuffled words do better.")
        sentences += f" {_(only)}"
    names = ", ".join(_(name) for name in proof.wrong_from)
    # The axis contains 0 and .1, so that it always has a width.
    low = min(0.0, *(control.low for control in proof.controls))
    high = max(0.1, *(control.high for control in proof.controls))

    def place(value: float) -> float:
        return 100 * (value - low) / (high - low)

    rows = "".join(
        f"<li><span>{esc(_(CONTROLS[name], names=names))}</span>"
        f"<span class='dnd-num'>{number(control.saved, '+.2f')} <small>"
        f"{_('({low:+.2f} to {high:+.2f}) nats per token', low=control.low, high=control.high)}"
        "</small></span><span class='dnd-saved' aria-hidden='true'>"
        f"<i class='dnd-zero' style='left:{place(0):.1f}%'></i>"
        f"<i class='dnd-range-bar' style='left:{place(control.low):.1f}%;"
        f"width:{place(control.high) - place(control.low):.1f}%'></i>"
        f"<i class='dnd-mean' style='left:{place(control.saved):.1f}%'></i></span></li>"
        for name, control in controls.items()
    )
    measure = _(
        "Nats per token that this adapter saves on the answers the model gives with the "
        "instruction, with 95 % intervals. One nat makes each token 2.7 times as likely. Right of "
        "0, this adapter is better. Measured on {prompts} that it was made from.",
        prompts=count_prompts(proof.num_prompts),
    )
    return (
        f"<p class='dnd-told'>{icon('info' if doubts else 'check')}<span>{sentences}</span></p>"
        + quiet(_("What this adapter saves, compared with others:"))
        + f"<ul class='dnd-controls'>{rows}</ul>"
        + why(facts(measure))
    )
