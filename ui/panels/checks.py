"""How far to trust the adapter: verdicts first, then the evidence."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import gradio as gr

from dnd_engine.config import AGREEMENT_BANDS
from ui.markup import esc, icon
from ui.state import Taught
from ui.text import Text

if TYPE_CHECKING:
    from dnd_engine.checks.results import Agreement, Conditioning, Control, Inspection, Outlook

__all__ = [
    "ChecksPanel",
    "Verdict",
    "checks_html",
    "checks_panel",
    "heat_levels",
    "is_doubtful",
    "norms_html",
    "proof_html",
    "verdicts",
    "warning_html",
]

NO_EFFECT = 0.01
"""Nats of KL on the next token below which answers hardly ever differ."""
STRONG = 20.0
"""Nats above which answers tend to fall apart, where no examination says how strong adapters of a
generator are. Adapters of the shipped one reach twelve."""
_, CARRIES_SOME, CARRIES = (low for low, _ in AGREEMENT_BANDS)
CURED_BY_PROMPTS = {"nothing", "carries_none", "unlike"}
"""Verdicts that more prompts, or refining on them, may change."""
CURED_BY_STRENGTH = {"nothing", "carries_none"}
"""Likewise, by more strength."""
ENOUGH_PROMPTS = 4
"""Fewer say nothing of how often an adapter agrees."""

_RAMP_STEPS = 5


@dataclass(frozen=True, slots=True)
class Verdict:
    """One line of judgement."""

    name: str
    value: str
    mark: Literal["check", "info", "warn"]

    @property
    def doubt(self) -> bool:
        """Whether it speaks against the adapter."""
        return self.mark == "warn"


@dataclass(frozen=True, slots=True)
class ChecksPanel:
    """Components of the checks panel."""

    view: gr.HTML
    proof_box: gr.Column
    """Hidden until there is an adapter to ask about."""
    proof: gr.HTML
    prove: gr.Button


def checks_panel(text: Text) -> ChecksPanel:
    """Lay out the panel."""
    view = gr.HTML(checks_html(text, "none"), elem_id="dnd-checks", padding=False)
    with gr.Column(
        elem_id="dnd-proof", elem_classes="dnd-panel", visible=False, min_width=0
    ) as proof_box:
        proof = gr.HTML(proof_html(text, None), padding=False, min_width=0)
        prove = gr.Button(text.PROOF_RUN, size="md", min_width=0, elem_id="dnd-prove")
    return ChecksPanel(view=view, proof_box=proof_box, proof=proof, prove=prove)


def verdicts(text: Text, inspection: "Inspection", *, taught: Taught = "") -> list[Verdict]:
    """Judge an inspection, by what was examined where there is something."""
    found: list[Verdict] = []
    if (effect := inspection.effect) is not None:
        value = text.fill(text.VERDICT_EFFECT, effect=effect)
        too_strong = STRONG if inspection.strongest is None else inspection.strongest
        if effect < NO_EFFECT:
            found.append(Verdict("nothing", value, "warn"))
        elif effect > too_strong:
            found.append(Verdict("strongest", value, "warn"))
        else:
            found.append(Verdict("changes", value, "check"))
    if taught:
        found.append(Verdict(taught, "", "warn" if taught == "refined_alike" else "info"))
    elif inspection.agreement is not None:
        found.append(_carrying(text, inspection.agreement, inspection.outlook))
    elif inspection.num_prompts:
        found.append(Verdict("untold", "", "info"))
    near = inspection.familiarity
    if not taught and near is not None and near.is_unlike:
        cosine = text.fill(text.VERDICT_COSINE, similarity=near.similarity)
        found.append(Verdict("unlike", cosine, "warn"))
    return found


def _carrying(text: Text, agreement: "Agreement", outlook: "Outlook | None") -> Verdict:
    """Judge how often the instruction is not needed: doubt only where there is a reason."""
    told = text.fill(text.VERDICT_SHARE, same=agreement.same, number=agreement.num_prompts)
    name = "carries_none"
    mark: Literal["check", "info", "warn"] = "warn"
    if agreement.share >= CARRIES:
        name, mark = "carries", "check"
    elif agreement.share >= CARRIES_SOME:
        name, mark = "carries_some", "info"
    gained = outlook is not None and outlook.low > 0
    if agreement.num_prompts < ENOUGH_PROMPTS or (mark == "warn" and gained):
        mark = "info"
    return Verdict(name, told, mark)


def checks_html(
    text: Text,
    state: Literal["none", "running", "failed", "done"],
    inspection: "Inspection | None" = None,
    message: str = "",
    *,
    taught: Taught = "",
) -> str:
    """Draw the panel in one of its states."""
    head, body = "", ""
    if state == "none":
        body = f"<p class='dnd-sub'>{text.CHECKS_NONE}</p>"
    elif state == "running":
        body = (
            "<p class='dnd-sub'><span class='dnd-ring' aria-hidden='true'></span> "
            f"{text.CHECKS_RUNNING}</p>"
        )
    elif state == "failed":
        body = (
            f"<div class='dnd-notice is-error'>{icon('error')}<div><b>{text.CHECKS_FAILED}</b> "
            f"<span class='dnd-pre'>{esc(message)}</span></div></div>"
        )
    elif inspection is not None:
        prompts = text.count(inspection.num_prompts, "prompt")
        on = text.fill(text.CHECKS_ON, prompts=prompts)
        head = f"<span class='dnd-facts'>{on if inspection.num_prompts else ''}</span>"
        if inspection.effect is None:
            body = f"<p class='dnd-sub'>{text.CHECKS_NO_PROMPTS}</p>"
        body += _verdicts_html(text, inspection, taught)
        body += _effect_html(text, inspection.effect)
        body += _nearest_html(text, inspection)
    return (
        f"<section class='dnd-panel dnd-checks' aria-live='polite'><div class='dnd-row'>"
        f"<h2 class='dnd-heading'>{text.CHECKS}</h2>{head}</div>{body}</section>"
    )


def warning_html(text: Text, inspection: "Inspection", *, taught: Taught = "") -> str:
    """Draw the warning about an adapter that may not help; empty if none is due."""
    doubts = {v.name for v in verdicts(text, inspection, taught=taught) if v.doubt}
    reasons: dict[str, list[str]] = {}
    for name, (head, reason) in text.WARNINGS.items():
        if name in doubts:
            reasons.setdefault(head, []).append(reason)
    if not reasons:
        return ""
    warnings = [f"<b>{head}</b> {' '.join(why)}" for head, why in reasons.items()]
    if doubts & CURED_BY_PROMPTS:
        warnings.append(text.WARNING_TRY_REFINED if taught else text.WARNING_TRY)
    if doubts & CURED_BY_STRENGTH and "strongest" not in doubts:
        warnings.append(text.WARNING_TRY_STRENGTH)
    return (
        f"<div class='dnd-notice is-warn' role='alert'>{icon('warn')}<div>"
        f"{' '.join(warnings)}</div></div>"
    )


def is_doubtful(text: Text, inspection: "Inspection") -> bool:
    """Whether refining, or more prompts, may mend what speaks against a generated adapter."""
    return any(v.doubt and v.name in CURED_BY_PROMPTS for v in verdicts(text, inspection))


def _verdicts_html(text: Text, inspection: "Inspection", taught: Taught) -> str:
    lines = []
    for verdict in verdicts(text, inspection, taught=taught):
        title, more = text.VERDICTS[verdict.name]
        if verdict.name.startswith("carries"):
            more = f"{more} {_outlook(text, inspection)}".strip()
        kind = " class='is-doubt'" if verdict.doubt else ""
        lines.append(
            f"<li{kind}>{icon(verdict.mark)}<div><b>{title}</b><span>{more}</span></div>"
            f"<b class='dnd-num'>{verdict.value}</b></li>"
        )
    return f"<ul class='dnd-verdicts'>{''.join(lines)}</ul>"


def _outlook(text: Text, inspection: "Inspection") -> str:
    """Say what adapters like this one gained when the generator was examined on unseen tasks."""
    found = inspection.outlook
    if found is None:
        return ""
    words = text.fill(
        text.OUTLOOK,
        n_tasks=text.count(found.n_tasks, "unseen"),
        gain=found.gain,
        low=found.low,
        high=found.high,
    )
    if found.rank_correlation is not None:
        words += " " + text.fill(text.OUTLOOK_RANKS, correlation=found.rank_correlation)
    return words


def _effect_html(text: Text, effect: float | None) -> str:
    if effect is None:
        return ""

    def place(value: float) -> float:
        return 20 * (math.log10(min(max(value, 0.001), 100)) + 3)

    ticks = "".join(
        f"<span style='left:{place(tick):.1f}%'>{text.number(tick, 'g')}</span>"
        for tick in (0.001, 0.01, 0.1, 1, 10, 100)
    )
    return (
        f"<div class='dnd-evidence'><h3>{text.EFFECT}</h3>"
        f"<p class='dnd-facts'>{text.EFFECT_MORE}</p>"
        f"<div class='dnd-scale' role='img' "
        f"aria-label='{text.fill(text.EFFECT_TOLD, effect=effect)}'>"
        f"<i class='dnd-noise' style='width:{place(NO_EFFECT):.1f}%'></i>"
        f"<i class='dnd-here' style='left:{place(effect):.1f}%'></i></div>"
        f"<div class='dnd-ticks' aria-hidden='true'>{ticks}</div>"
        f"<div class='dnd-ends' aria-hidden='true'><span>{text.EFFECT_NONE}</span>"
        f"<span>{text.EFFECT_STRONG}</span></div></div>"
    )


def _nearest_html(text: Text, inspection: "Inspection") -> str:
    if not inspection.nearest_tasks:
        return ""
    rows = "".join(
        f"<li title='{esc(task.description)}'><code>{esc(task.slug)}</code>"
        f"<i aria-hidden='true'><i style='width:{100 * _clip(task.similarity):.0f}%'></i></i>"
        f"<span class='dnd-num'>{text.number(task.similarity, '.2f')}</span></li>"
        for task in inspection.nearest_tasks[:5]
    )
    told = ""
    if (near := inspection.familiarity) is not None:
        told = text.fill(
            text.NEAREST_EXAMINED,
            n_tasks=text.count(near.n_tasks, "unseen"),
            lowest=near.lowest,
            highest=near.highest,
        )
        if near.rank_correlation is not None:
            told += " " + text.fill(
                text.NEAREST_RANKS,
                correlation=near.rank_correlation,
                low=near.low,
                high=near.high,
            )
        told = f"<p class='dnd-facts'>{told}</p>"
    return (
        f"<div class='dnd-evidence'><h3>{text.NEAREST}</h3>"
        f"<ul class='dnd-nearest'>{rows}</ul>{told}</div>"
    )


def _clip(share: float) -> float:
    return max(0.0, min(1.0, share))


def proof_html(
    text: Text,
    proof: "Conditioning | None",
    *,
    running: str = "",
    failed: str = "",
    done: bool = False,
) -> str:
    """Draw how an adapter stands beside its controls.

    Args:
        text: The words of the page.
        proof: None before it was asked for, or where it cannot be told.
        running: What is being done.
        failed: Why it could not be measured.
        done: Whether it was asked for.
    """
    if running:
        body = (
            "<p class='dnd-sub' aria-live='polite'><span class='dnd-ring' aria-hidden='true'>"
            f"</span> {esc(running)}</p>"
        )
    elif failed:
        body = (
            f"<div class='dnd-notice is-error' role='alert'>{icon('error')}"
            f"<span class='dnd-pre'>{esc(failed)}</span></div>"
        )
    elif proof is None:
        body = f"<p class='dnd-sub'>{text.PROOF_NONE if done else text.PROOF_MORE}</p>"
    else:
        body = _controls_html(text, proof)
    return f"<h2 class='dnd-heading'>{text.PROOF}</h2>{body}"


def _controls_html(text: Text, proof: "Conditioning") -> str:
    controls: dict[str, Control] = {control.name: control for control in proof.controls}
    doubts = [why for name, why in text.PROOF_NO.items() if controls[name].low <= 0]
    told = "".join(f"<span>{why}</span>" for why in doubts) or text.PROOF_YES
    if proof.depends and controls["shuffled"].low <= 0:
        told += f" {text.PROOF_WORDS_ONLY}"
    names = ", ".join(text.BUCKETS.get(name, name) for name in proof.wrong_from)
    low = min(0.0, *(control.low for control in proof.controls))
    high = max(0.1, *(control.high for control in proof.controls))

    def place(value: float) -> float:
        return 100 * (value - low) / (high - low)

    rows = "".join(
        f"<li><span>{esc(text.fill(text.PROOF_CONTROLS[name], names=names))}</span>"
        f"<span class='dnd-num'>{text.number(control.saved, '+.2f')} <small>"
        f"{text.fill(text.PROOF_INTERVAL, low=control.low, high=control.high)}"
        "</small></span><span class='dnd-saved' aria-hidden='true'>"
        f"<i class='dnd-zero' style='left:{place(0):.1f}%'></i>"
        f"<i class='dnd-range-bar' style='left:{place(control.low):.1f}%;"
        f"width:{place(control.high) - place(control.low):.1f}%'></i>"
        f"<i class='dnd-mean' style='left:{place(control.saved):.1f}%'></i></span></li>"
        for name, control in controls.items()
    )
    prompts = text.count(proof.num_prompts, "prompt")
    return (
        f"<p class='dnd-told'>{icon('info' if doubts else 'check')}<span>{told}</span></p>"
        f"<ul class='dnd-controls'>{rows}</ul>"
        f"<p class='dnd-facts'>{text.fill(text.PROOF_MEASURE, prompts=prompts)}</p>"
    )


def heat_levels(norms: Mapping[str, Sequence[float]]) -> list[tuple[str, list[int]]]:
    """Sort relative norms into the steps of the ramp, between the least and the largest of all."""
    values = [value for layers in norms.values() for value in layers]
    if not values:
        return []
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return [
        (
            name.removesuffix("_proj"),
            [min(int(_RAMP_STEPS * (value - low) / span), _RAMP_STEPS - 1) for value in layers],
        )
        for name, layers in norms.items()
    ]


def norms_html(text: Text, norms: Mapping[str, Sequence[float]]) -> str:
    """Draw the weight-change map, with the numbers one click away."""
    rows = heat_levels(norms)
    if not rows:
        return ""
    values = [value for layers in norms.values() for value in layers]
    num_layers = max(len(levels) for _, levels in rows)
    heat = "".join(
        f"<span class='dnd-heat-name'>{esc(name)}</span>"
        + "".join(f"<i class='h{level}'></i>" for level in levels)
        for name, levels in rows
    )
    axis = "<span></span>" + "".join(
        f"<span class='dnd-heat-axis'>{layer if layer % 5 == 0 or layer == num_layers - 1 else ''}"
        "</span>"
        for layer in range(num_layers)
    )
    head = "".join(f"<th scope='col'>{layer}</th>" for layer in range(num_layers))
    table = "".join(
        f"<tr><th scope='row'>{esc(name)}</th>"
        + "".join(f"<td>{text.number(100 * value, '.2f')}</td>" for value in layers)
        + "</tr>"
        for name, layers in norms.items()
    )
    ends = [text.number(100 * end, ".2g") for end in (min(values), max(values))]
    told = text.fill(text.NORMS_TOLD, low=100 * min(values), high=100 * max(values))
    ramp = "".join(f"<i class='h{level}'></i>" for level in range(_RAMP_STEPS))
    return (
        f"<section class='dnd-panel dnd-norms'><h3>{text.NORMS}</h3>"
        f"<p class='dnd-facts'>{text.NORMS_MORE}</p>"
        f"<div class='dnd-heat' style='--layers:{num_layers}' role='img' aria-label='{told}'>"
        f"{heat}{axis}</div>"
        f"<p class='dnd-ramp'><span>{text.NORMS_LAYER}</span><span class='dnd-ramp-scale'>"
        f"{ends[0]} % {ramp} {ends[1]} %</span></p>"
        f"<details><summary>{text.NORMS_ALL}</summary>"
        f"<div class='dnd-table' tabindex='0' role='region' aria-label='{text.NORMS}'>"
        f"<table><thead><tr><td></td>{head}</tr></thead><tbody>{table}</tbody></table></div>"
        "</details></section>"
    )
