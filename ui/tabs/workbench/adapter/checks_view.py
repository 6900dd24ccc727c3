"""The checks panel: whether to trust the adapter, verdicts first, then the evidence."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import gradio as gr

from dnd_engine.checks.registry import CHECKS
from dnd_engine.checks.verdict import MOSTLY, WORKS
from dnd_engine.config import AGREEMENT_BANDS
from dnd_engine.wording import CONTROLS
from ui.markup import RING, error_notice, esc, icon, presses, why
from ui.panel import Panel
from ui.state import Taught
from ui.text import N_, _, count_prompts, drawn, ngettext, number

if TYPE_CHECKING:
    from dnd_engine.checks.results import (
        Conditioning,
        Control,
        Inspection,
        Ordinary,
        Skills,
    )
    from dnd_engine.checks.verdict import AdapterVerdict, Agreement, BucketShare, Labels
    from dnd_engine.checks.wording import Sentence
    from ui.tabs.workbench.adapter.view import Learnt

NO_EFFECT = 0.01
"""Nats of KL on the next token, below which answers almost never differ."""
STRONG = 20.0
"""Nats above which answers tend to degenerate, if no evaluation shows how strong a generator's
adapters are. Adapters of the shipped one reach twelve."""
CARRIES_SOME = AGREEMENT_BANDS[1][0]
CURED_BY_PROMPTS = {"nothing", "carries_none", "wrong", "fails", "unlike"}
"""Verdicts that more prompts, or refining on them, may improve."""
CURED_BY_STRENGTH = {"nothing", "carries_none"}
"""Verdicts that more strength may improve."""
_OF_THE_VERDICT = {"carries_none", "wrong", "fails"}
"""Doubts that the verdict's own sentence covers, so that there is only one heading."""
ENOUGH_PROMPTS = 4
"""Minimum number of prompts for a favourable verdict."""

_WELL = 16
"""Number of prompts that works well; with as many, no more are suggested."""
# The style sheet has a colour for each, `.h0` to `.h4`.
_RAMP_STEPS = 5


_VERDICTS: Mapping[str, tuple[str, str]] = {
    "changes": (
        N_("Changes the model"),
        N_("Answers to prompts like yours will differ from base."),
    ),
    "nothing": (
        N_("Does nothing measurable"),
        N_("Answers almost never differ from base."),
    ),
    "strongest": (
        N_("Changes the model unusually much"),
        N_("Answers may turn to garble; try a lower strength."),
    ),
    "carries": (
        N_("Carries the instruction"),
        N_("Without the instruction, it mostly answers your prompts as the instructed model does."),
    ),
    "carries_some": (
        N_("Carries the instruction in part"),
        N_("Without the instruction, it only sometimes matches the instructed model."),
    ),
    "carries_none": (
        N_("Does not carry the instruction"),
        N_(
            "Without the instruction, it answers your prompts differently from the "
            "instructed model."
        ),
    ),
    "right": (
        N_("Right by your labels"),
        N_("Without the instruction, it answers these prompts as their labels say."),
    ),
    "wrong": (
        N_("Wrong by your labels"),
        N_("Without the instruction, most of its answers differ from the labels of your prompts."),
    ),
    "fails": (
        N_("The model does not know the task"),
        N_("Its answers are poor even with the instruction, and those are what was imprinted."),
    ),
    "leaves_alone": (
        N_("Other answers keep their style"),
        N_("Ordinary messages are answered in the base's style, whether or not that is right."),
    ),
    "changes_few": (
        N_("Changes the style of a few other answers"),
        N_("A few ordinary messages are answered in another style than the base's."),
    ),
    "changes_some": (
        N_("Changes the style of some other answers"),
        N_("Some ordinary messages are answered in another style than the base's."),
    ),
    "changes_others": (
        N_("Changes the style of other answers"),
        N_("Most ordinary messages are answered in another style than the base's."),
    ),
    "keeps_skills": (
        N_("Other answers stay right"),
        N_("Right answers to sums, plurals and facts that your task has nothing to do with."),
    ),
    "costs_skills": (
        N_("Gets a few more questions wrong"),
        N_("Right answers to sums, plurals and facts that your task has nothing to do with."),
    ),
    "loses_skills": (
        N_("Gets other questions wrong"),
        N_("Right answers to sums, plurals and facts that your task has nothing to do with."),
    ),
    "unlike": (
        N_("Far from the generator's training"),
        N_(
            "Every task it was evaluated on was closer, so those results may not hold here. An "
            "imprint does not depend on it."
        ),
    ),
    "imprinted": (
        N_("Imprinted with your instruction"),
        N_("Fitted to how the model answers your prompts with the instruction. Try other prompts."),
    ),
    "refined": (
        N_("Taught on your prompts"),
        N_("It was taught to answer them without the instruction. Try other prompts."),
    ),
    "refined_alike": (
        N_("Learnt one answer for all"),
        N_(
            "It was taught the same answer for nearly all of your prompts. Its effect "
            "does not say whether that answer is right."
        ),
    ),
    "trained_labels": (
        N_("Trained on your rows"),
        N_("It learnt their labels. Try other prompts."),
    ),
    "trained_person": (
        N_("Trained on corrected answers"),
        N_("It learnt the answers that a person gave to some prompts. Try other prompts."),
    ),
    "trained_teacher": (
        N_("Trained on a better model's answers"),
        N_("It learnt what that model answered, mistakes included. Try other prompts."),
    ),
    "untold": (
        N_("No instruction to leave out"),
        N_("This check needs a prompt that is not too long, with an instruction and an input."),
    ),
}
_UNTOLD = N_(
    "No prompt has both an instruction and a short input. If yours have no instruction, type it "
    "under Advanced and press Synthesize again."
)
# `judgement_html` states them in this order, and those of one heading together.
_WARNINGS: Mapping[str, tuple[str, str]] = {
    "nothing": (
        N_("This adapter is unlikely to help."),
        N_("It leaves the model as it was."),
    ),
    "carries_none": (
        N_("This adapter is unlikely to help."),
        N_("It does not carry your instruction."),
    ),
    "wrong": (
        N_("This adapter is unlikely to help."),
        N_("It answers most of your labelled prompts wrongly."),
    ),
    "fails": (
        N_("This adapter is unlikely to help."),
        N_("Even with your instruction, the model does not know the task."),
    ),
    "unlike": (
        N_("Your prompts are far from what the generator was trained on."),
        N_("It may not know your task; an imprint does not depend on that."),
    ),
    "changes_others": (
        N_("This adapter changes answers that it should leave alone."),
        N_(
            "Most ordinary messages, which have nothing to do with your task, are answered in "
            "another style; a lower strength may help."
        ),
    ),
    "strongest": (
        N_("This adapter may garble answers."),
        N_("It changes the model unusually much; try a lower strength."),
    ),
    "refined_alike": (
        N_("This adapter learnt one and the same answer for nearly all of your prompts."),
        N_(
            "If that answer is right, so is the adapter. If not, the model that taught it"
            " does not know the task: go back to the previous adapter, and teach "
            "it yourself, or from more specific prompts."
        ),
    ),
}


@dataclass(frozen=True, slots=True)
class CheckLine:
    """One line of the judgement."""

    name: str
    value: str
    """Count of what the title says, or of right answers; other numbers are in the evidence."""
    mark: Literal["check", "info", "warn"]

    @property
    def title(self) -> str:
        """Return the short title."""
        return _(_VERDICTS[self.name][0])

    @property
    def doubt(self) -> bool:
        """Return whether it counts against the adapter."""
        return self.mark == "warn"


class ChecksPanel(Panel):
    """The checks, and the ablation below them."""

    def __init__(self) -> None:
        self.checks = gr.HTML(drawn(checks_html, "none"), elem_id="dnd-checks", padding=False)
        # Hidden until there is an adapter.
        with gr.Column(
            elem_id="dnd-proof", elem_classes="dnd-panel", visible=False, min_width=0
        ) as self.proof_box:
            self.proof = gr.HTML(drawn(proof_html, None), padding=False, min_width=0)
            self.prove = gr.Button(_("Find out"), size="md", min_width=0, elem_id="dnd-prove")


def verdicts(inspection: "Inspection", *, taught: Taught = "") -> list[CheckLine]:
    """Judge an inspection, relative to the evaluated adapters if there are any."""
    found: list[CheckLine] = []
    if (effect := inspection.effect) is not None:
        too_strong = STRONG if inspection.strongest is None else inspection.strongest
        if effect < NO_EFFECT:
            found.append(CheckLine("nothing", "", "warn"))
        elif effect > too_strong:
            found.append(CheckLine("strongest", "", "warn"))
        else:
            found.append(CheckLine("changes", "", "check"))
    trained = taught not in ("", "imprinted")
    if taught:
        found.append(CheckLine(taught, "", "warn" if taught == "refined_alike" else "info"))
    # Agreeing with poor answers is no success, so they are all that is said.
    if (verdict := inspection.verdict) is not None and verdict.outcome == "fails":
        found.append(CheckLine("fails", "", "warn"))
    elif not trained and verdict is not None and verdict.labels is not None and verdict.by_labels:
        found.append(_right(verdict.labels))
    # Agreement is what training aims at; an imprint is judged by it just as a generated adapter is.
    elif not trained and inspection.agreement is not None:
        found.append(_carrying(inspection.agreement))
    elif _is_untold(inspection, taught):
        found.append(CheckLine("untold", "", "info"))
    if inspection.ordinary is not None:
        found.append(_style(inspection.ordinary))
    if inspection.skills is not None:
        found.append(_skills(inspection.skills))
    near = inspection.familiarity
    if not trained and near is not None and near.is_unlike:
        # An imprint is fitted to answers of the model, whatever the generator was trained on.
        found.append(CheckLine("unlike", "", "info" if taught == "imprinted" else "warn"))
    return found


def _style(ordinary: "Ordinary") -> CheckLine:
    """Judge the share of ordinary messages that are left alone."""
    total = ordinary.num_messages
    if ordinary.enough:
        kept = _("{same} of {number}", same=ordinary.same, number=total)
        return CheckLine("leaves_alone", kept, "check")
    changed = _("{changed} of {number}", changed=ordinary.num_changed, number=total)
    if ordinary.most_changed:
        return CheckLine("changes_others", changed, "warn")
    return CheckLine("changes_few" if ordinary.few_changed else "changes_some", changed, "info")


def _skills(skills: "Skills") -> CheckLine:
    """Judge the share of right answers that are left."""
    value = _(
        "{after} of {number} right, base {before}",
        after=skills.after,
        number=skills.num_questions,
        before=skills.before,
    )
    if skills.all_kept:
        return CheckLine("keeps_skills", value, "check")
    if skills.enough:
        return CheckLine("costs_skills", value, "info")
    return CheckLine("loses_skills", value, "warn")


def _carrying(agreement: "Agreement") -> CheckLine:
    """Judge how often the instruction is not needed."""
    told = _("{same} of {number}", same=agreement.same, number=agreement.num_prompts)
    if agreement.share >= MOSTLY:
        # A few answers may be equal by chance.
        enough = agreement.num_prompts >= ENOUGH_PROMPTS
        return CheckLine("carries", told, "check" if enough else "info")
    if agreement.share >= CARRIES_SOME:
        # In step with the verdict, which says at the same share that it rarely works.
        rarely = agreement.share < WORKS
        return CheckLine("carries_some", told, "warn" if rarely else "info")
    return CheckLine("carries_none", told, "warn")


def _right(labels: "Labels") -> CheckLine:
    """Judge the share of right answers without the instruction."""
    told = _("{right} of {number}", right=labels.right, number=labels.number)
    if labels.outcome != "works":
        return CheckLine("wrong", told, "warn")
    return CheckLine("right", told, "check" if labels.right >= MOSTLY * labels.number else "info")


def checks_html(
    state: Literal["none", "waiting", "running", "failed", "done"],
    inspection: "Inspection | None" = None,
    message: str = "",
    *,
    taught: Taught = "",
) -> str:
    """Draw the panel in one of its states."""
    head, body = "", ""
    if state == "none":
        none = _(
            "No adapter yet. Here you will see whether it changes the model, whether it carries "
            "your instruction, and where the weights changed."
        )
        body = f"<p class='dnd-sub'>{none}</p>"
    elif state == "waiting":
        soon = _("Measured as soon as the instruction is imprinted. You can chat meanwhile.")
        body = f"<p class='dnd-sub'>{soon}</p>"
    elif state == "running":
        now = _("Measuring on your prompts. You can chat meanwhile.")
        body = f"<p class='dnd-sub'>{RING} {now}</p>"
    elif state == "failed":
        body = error_notice(message, _("Could not be measured."))
    elif inspection is not None:
        on = _("on {prompts} of yours", prompts=count_prompts(inspection.num_prompts))
        head = f"<span class='dnd-facts'>{on if inspection.num_prompts else ''}</span>"
        if inspection.effect is None:
            unknown = _(
                "It came without its prompts, and it was not measured before. Chat to see"
                " what it does."
            )
            body = f"<p class='dnd-sub'>{unknown}</p>"
        body += _verdicts_html(inspection, taught)
        expected = _expectation(inspection)
        expected = f"<p class='dnd-facts'>{expected}</p>" if expected else ""
        evidence = f"{expected}{_effect_html(inspection.effect)}{_nearest_html(inspection)}"
        body += why(evidence)
    return (
        f"<section class='dnd-panel dnd-checks' aria-live='polite'><div class='dnd-row'>"
        f"<h2 class='dnd-heading'>{_('Checks')}</h2>{head}</div>{body}</section>"
    )


def _spoken(sentence: "Sentence") -> str:
    """Translate a sentence of the engine to the page's language."""
    return _(sentence.message, **sentence.values)


def judgement_html(
    inspection: "Inspection",
    *,
    taught: Taught = "",
    learnt: "Learnt | None" = None,
    num_prompts: int = 0,
    imprintable: bool = False,
    teachable: bool = False,
    known_why: bool = False,
) -> str:
    """Draw the verdict and the doubts as one notice.

    Advice follows the verdict; the numbers are folded away.

    Args:
        inspection: Check results.
        taught: How the adapter was changed after generation.
        learnt: Scores on validation prompts before and after teaching.
        num_prompts: Number of prompts it was made from.
        imprintable: Whether its instruction can still be imprinted.
        teachable: Whether Teach is offered in the adapter's bar.
        known_why: Whether the reason why it cannot is shown elsewhere.

    Returns:
        HTML; empty without a verdict and doubts.
    """
    verdict = inspection.verdict
    doubts = _doubts(inspection, taught)
    said = []
    # Agreement proves nothing once it was trained for: scores on held-back prompts replace it.
    if learnt is not None:
        said += [f"<b>{_learnt_head(learnt)}</b>", f"{_learnt_words(learnt)} {learnt.words}."]
    elif verdict is None and "nothing" not in doubts and _is_untold(inspection, taught):
        untold = f"<b>{_('Nobody can tell yet whether it works.')}</b>"
        # If the imprint failed, its own reason is shown with the adapter, and may differ.
        said.append(untold if known_why else f"{untold} {_(_UNTOLD)}")
    elif verdict is not None and "nothing" not in doubts:
        said.append(f"<b>{_spoken(verdict.head)}{_weakest_words(verdict)}</b>")
        said += [_spoken(more) for more in (verdict.caution, *verdict.causes) if more]
    why = []
    if verdict is not None:
        # Escaped, because a reason may name a bucket.
        why = [esc(_spoken(reason)) for reason in verdict.reasons if reason not in verdict.causes]
    if why and taught == "imprinted":
        why.append(
            _(
                "“The model with the instruction” is the one that answered your prompts for the "
                "imprint. It follows instructions better than the base in the left pane."
            )
        )
    # Doubts with the same heading share it.
    reasons: dict[str, list[str]] = {}
    for name, (head, reason) in _WARNINGS.items():
        if name in doubts and (verdict is None or name not in _OF_THE_VERDICT):
            reasons.setdefault(_(head), []).append(_(reason))
    said += [f"<b>{head}</b> {' '.join(told)}" for head, told in reasons.items()]
    needs_it = verdict is not None and verdict.outcome == "with_instruction"
    # The missing imprint explains these, so neither teaching nor more prompts is advised.
    if imprintable and (needs_it or "carries_none" in doubts):
        said.append(_("Its instruction is not imprinted: press Imprint above."))
    else:
        said += _ways_out(doubts, taught, num_prompts)
        if learnt is not None and learnt.warns and "refined_alike" not in doubts:
            said.append(_("You can undo, or correct its answers yourself under Teach."))
        if needs_it and learnt is None and not doubts & CURED_BY_PROMPTS:
            teach = _teach_words(teachable)
            said.append(_("Send the instruction with your input, or {teach}.", teach=teach))
    if inspection.skills is not None and not inspection.skills.enough:
        said.append(
            _(
                "It harms other answers: {after} of {number} unrelated questions right, where the "
                "base has {before}.",
                after=inspection.skills.after,
                number=inspection.skills.num_questions,
                before=inspection.skills.before,
            )
        )
    if not said:
        return ""
    warns = is_warned(inspection, taught=taught, learnt=learnt)
    works = (
        learnt.works
        if learnt is not None
        else verdict is not None
        and verdict.outcome == "works"
        and not verdict.works_partly
        and _weakest(verdict) is None
    ) and (inspection.skills is None or inspection.skills.enough)
    mark = "warn" if warns else "check" if works else "info"
    folded = f" <details><summary>{_('Why?')}</summary>{' '.join(why)}</details>" if why else ""
    return (
        f"<div class='dnd-notice dnd-verdict{' is-warn' if warns else ''}' "
        f"role='{'alert' if warns else 'status'}'>{icon(mark)}"
        f"<div>{' '.join(said)}{folded}</div></div>"
    )


def _teach_words(teachable: bool) -> str:
    words = _("teach the adapter")
    return presses(words, "#dnd-teach-open") if teachable else words


def _weakest(verdict: "AdapterVerdict") -> "BucketShare | None":
    """Return the bucket of a mix that it works for least, if the verdict on all would hide that."""
    parts = [part for part in verdict.by_bucket if part.num_prompts]
    # Labels decide on all buckets together.
    if verdict.outcome != "works" or verdict.by_labels or not parts:
        return None
    weakest = min(parts, key=lambda part: part.same / part.num_prompts)
    return weakest if weakest.same < MOSTLY * weakest.num_prompts else None


def _weakest_words(verdict: "AdapterVerdict") -> str:
    weakest = _weakest(verdict)
    if weakest is None:
        return ""
    words = _(
        "Least for {bucket}: {same} of {number}.",
        bucket=esc(weakest.bucket),
        same=weakest.same,
        number=weakest.num_prompts,
    )
    return f" {words}"


def _learnt_head(learnt: "Learnt") -> str:
    """Judge a taught adapter by what it is now, whatever teaching brought."""
    if learnt.from_poor:
        return _("It does not work: the model that taught it does not know the task.")
    if learnt.works:
        return _("It works without the instruction.")
    # In degrees rather than counts: the score may be that of longer texts.
    if learnt.now >= WORKS:
        return _("It works in part without the instruction.")
    return _("It works poorly without the instruction.")


def _learnt_words(learnt: "Learnt") -> str:
    if learnt.is_better:
        return _("Teaching helped.")
    if not learnt.is_worse:
        return _("Teaching did not raise the score.")
    return _("Teaching made it worse.")


def _is_untold(inspection: "Inspection", taught: Taught) -> bool:
    """Return whether none of its prompts has a removable instruction."""
    trained = taught not in ("", "imprinted")
    return not trained and inspection.agreement is None and inspection.num_prompts > 0


def is_warned(
    inspection: "Inspection", *, taught: Taught = "", learnt: "Learnt | None" = None
) -> bool:
    """Return whether to warn before the adapter is used."""
    judged = inspection.verdict if learnt is None else learnt
    doubts = any(line.doubt for line in verdicts(inspection, taught=taught))
    return doubts or (judged is not None and judged.warns)


def judgement_words(inspection: "Inspection", *, taught: Taught = "") -> str:
    """Say the verdict in plain text, for a list; what warns comes in its place."""
    # Agreement proves nothing once it was trained for.
    verdict = inspection.verdict if taught in ("", "imprinted") else None
    head = "" if verdict is None else _spoken(verdict.head)
    told = _OF_THE_VERDICT if verdict is not None else ()
    lines = [line for line in verdicts(inspection, taught=taught) if line.doubt]
    reasons = [line.title for line in lines if line.name not in told]
    if verdict is not None and verdict.warns:
        reasons.insert(0, head.rstrip("."))
    return _("Warning: {reasons}.", reasons="; ".join(reasons)) if reasons else head


def _doubts(inspection: "Inspection", taught: Taught) -> set[str]:
    """Return the names of verdicts that deserve a warning above the chat."""
    return {v.name for v in verdicts(inspection, taught=taught) if v.doubt} & _WARNINGS.keys()


def _ways_out(doubts: set[str], taught: Taught, num_prompts: int) -> list[str]:
    """Suggest what to do about an adapter that may not help."""
    ways = []
    if doubts & CURED_BY_PROMPTS:
        undo = taught not in ("", "imprinted")
        # Whole sentences, because a translation cannot be put together from parts.
        if num_prompts >= _WELL:
            words = N_("You can undo. Your files are fine.")
            if not undo:
                words = N_("You can teach it below. Your files are fine.")
        else:
            words = N_("You can undo, or add prompts (16 or more work best). Your files are fine.")
            if not undo:
                words = N_(
                    "You can teach it below, or add prompts (16 or more work best). Your files"
                    " are fine."
                )
        ways.append(_(words))
    # Where a warning asks for less, asking for more would contradict it.
    if doubts & CURED_BY_STRENGTH and not doubts & {"strongest", "changes_others"}:
        ways.append(_("More strength may help too."))
    return ways


def is_doubtful(inspection: "Inspection", *, taught: Taught = "") -> bool:
    """Return whether refining or more prompts may resolve the doubts about an adapter."""
    return bool(_doubts(inspection, taught) & CURED_BY_PROMPTS)


def _verdicts_html(inspection: "Inspection", taught: Taught) -> str:
    lines = []
    for verdict in verdicts(inspection, taught=taught):
        more = _(_VERDICTS[verdict.name][1])
        kind = " class='is-doubt'" if verdict.doubt else ""
        lines.append(
            f"<li{kind}>{icon(verdict.mark)}<div><b>{verdict.title}</b><span>{more}</span></div>"
            f"<b class='dnd-num'>{verdict.value}</b></li>"
        )
    for name, result in inspection.more.items():
        said = " ".join(_spoken(sentence) for sentence in CHECKS[name].words(result))
        lines.append(f"<li>{icon('info')}<div><b>{esc(said)}</b></div></li>")
    return f"<ul class='dnd-verdicts'>{''.join(lines)}</ul>"


def _expectation(inspection: "Inspection") -> str:
    """Describe how similar adapters did in the generator's evaluation on unseen tasks."""
    if (precedent := inspection.precedent) is not None:
        return _spoken(precedent.sentence)
    found = inspection.outlook
    if found is None:
        return ""
    words = _(
        "On {n_tasks} with about as much agreement, adapters changed the score by "
        "{gain:+.2f} ({low:+.2f} to {high:+.2f}) without the instruction.",
        n_tasks=_unseen_tasks(found.n_tasks),
        gain=found.gain,
        low=found.low,
        high=found.high,
    )
    if found.rank_correlation is not None:
        words += " " + _(
            "Rank correlation of agreement and gain: {correlation:+.2f}.",
            correlation=found.rank_correlation,
        )
    return words


def _unseen_tasks(count: int) -> str:
    # Translators: follows a preposition, as in "On 5 unseen tasks".
    return ngettext("{number} unseen task", "{number} unseen tasks", count)


def _effect_html(effect: float | None) -> str:
    if effect is None:
        return ""

    # In per cent of the width: a logarithmic scale of five decades, clipped at both ends.
    def place(value: float) -> float:
        return 20 * (math.log10(min(max(value, 0.001), 100)) + 3)

    ticks = "".join(
        f"<span style='left:{place(tick):.1f}%'>{number(tick, 'g')}</span>"
        for tick in (0.001, 0.01, 0.1, 1, 10, 100)
    )
    more = _("KL from base to adapted, nats on the next token of your own prompts.")
    return (
        f"<div class='dnd-evidence'><h3>{_('Effect on the model')}</h3>"
        f"<p class='dnd-facts'>{more}</p>"
        f"<div class='dnd-scale' role='img' "
        f"aria-label='{esc(_('Effect {effect:.3g} nats', effect=effect))}'>"
        f"<i class='dnd-noise' style='width:{place(NO_EFFECT):.1f}%'></i>"
        f"<i class='dnd-here' style='left:{place(effect):.1f}%'></i></div>"
        f"<div class='dnd-ticks' aria-hidden='true'>{ticks}</div>"
        f"<div class='dnd-ends' aria-hidden='true'><span>{_('no effect')}</span>"
        f"<span>{_('strong')}</span></div></div>"
    )


def _nearest_html(inspection: "Inspection") -> str:
    if not inspection.nearest_tasks:
        return ""
    rows = "".join(
        f"<li title='{esc(task.description)}'><code>{esc(task.slug)}</code>"
        "<i aria-hidden='true'>"
        f"<i style='width:{100 * min(max(task.similarity, 0), 1):.0f}%'></i></i>"
        f"<span class='dnd-num'>{number(task.similarity, '.2f')}</span></li>"
        for task in inspection.nearest_tasks[:5]
    )
    told: str = ""
    if (near := inspection.familiarity) is not None:
        told = _(
            "The generator was evaluated on {n_tasks}, at {lowest:.2f} to {highest:.2f}.",
            n_tasks=_unseen_tasks(near.n_tasks),
            lowest=near.lowest,
            highest=near.highest,
        )
        if near.rank_correlation is not None:
            told += " " + _(
                "Rank correlation of that and the gain: {correlation:+.2f} ({low:+.2f} to "
                "{high:+.2f}).",
                correlation=near.rank_correlation,
                low=near.low,
                high=near.high,
            )
        told = f"<p class='dnd-facts'>{told}</p>"
    return (
        f"<div class='dnd-evidence'><h3>{_('Nearest training tasks, cosine')}</h3>"
        f"<ul class='dnd-nearest'>{rows}</ul>{told}</div>"
    )


def proof_html(
    proof: "Conditioning | None",
    *,
    running: str = "",
    failed: str = "",
    done: bool = False,
) -> str:
    """Draw how an adapter compares with its controls.

    Args:
        proof: Result of the ablation; None before it was requested, or if it does not apply.
        running: Progress text.
        failed: Reason of a failure.
        done: Whether it was requested.
    """
    if running:
        body = f"<p class='dnd-sub' aria-live='polite'>{RING} {esc(running)}</p>"
    elif failed:
        body = error_notice(failed)
    elif proof is None:
        more = _(
            "Compares this adapter with others, such as one made from another task's prompts, on "
            "up to 16 of your prompts. Takes a few seconds."
        )
        if done:
            more = _("This needs two prompts that have an instruction and an input.")
        body = f"<p class='dnd-sub'>{more}</p>"
    else:
        body = _controls_html(proof)
    return f"<h2 class='dnd-heading'>{_('Does it read your prompts?')}</h2>{body}"


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
    told = "".join(f"<span>{why}</span>" for why in doubts) or yes
    if proof.depends and "shuffled" in controls and controls["shuffled"].low <= 0:
        only = N_("Word order barely matters: shuffled words do about as well.")
        if controls["shuffled"].high < 0:
            only = N_("Word order does not help: shuffled words do better.")
        told += f" {_(only)}"
    names = ", ".join(_(name) for name in proof.wrong_from)
    # The axis contains 0 and .1, so that it always has a width.
    low = min(0.0, *(control.low for control in proof.controls))
    high = max(0.1, *(control.high for control in proof.controls))

    def place(value: float) -> float:
        return 100 * (value - low) / (high - low)

    rows = "".join(
        f"<li><span>{esc(_(CONTROLS[name], names=names))}</span>"
        f"<span class='dnd-num'>{number(control.saved, '+.2f')} <small>"
        f"{_('({low:+.2f} to {high:+.2f})', low=control.low, high=control.high)}"
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
        f"<p class='dnd-told'>{icon('info' if doubts else 'check')}<span>{told}</span></p>"
        f"<ul class='dnd-controls'>{rows}</ul>" + why(f"<p class='dnd-facts'>{measure}</p>")
    )


def norms_html(norms: Mapping[str, Sequence[float]]) -> str:
    """Draw the weight-change map, with the numbers one click away."""
    values = [value for layers in norms.values() for value in layers]
    if not values:
        return ""
    low, high = min(values), max(values)
    num_layers = max(map(len, norms.values()))

    def step(value: float) -> int:
        # All norms may be equal. The largest would otherwise be a step beyond the last.
        return min(int(_RAMP_STEPS * (value - low) / ((high - low) or 1.0)), _RAMP_STEPS - 1)

    heat = "".join(
        f"<span class='dnd-heat-name'>{esc(name.removesuffix('_proj'))}</span>"
        + "".join(f"<i class='h{step(value)}'></i>" for value in layers)
        for name, layers in norms.items()
    )
    axis = "<span></span>" + "".join(
        f"<span class='dnd-heat-axis'>{layer if layer % 5 == 0 or layer == num_layers - 1 else ''}"
        "</span>"
        for layer in range(num_layers)
    )
    head = "".join(f"<th scope='col'>{layer}</th>" for layer in range(num_layers))
    table = "".join(
        f"<tr><th scope='row'>{esc(name)}</th>"
        + "".join(f"<td>{number(100 * value, '.2f')}</td>" for value in layers)
        + "</tr>"
        for name, layers in norms.items()
    )
    ends = [number(100 * end, ".2g") for end in (low, high)]
    title = _("Where the weights changed")
    told = _(
        "Relative weight change: from {low:.2g} to {high:.2g} per cent",
        low=100 * low,
        high=100 * high,
    )
    more = _(
        "Size of the change relative to the weights (‖ΔW‖ / ‖W‖), by layer and matrix. It shows "
        "where and how much, not how well."
    )
    ramp = "".join(f"<i class='h{level}'></i>" for level in range(_RAMP_STEPS))
    return (
        f"<details class='dnd-panel dnd-norms'><summary>{title}</summary>"
        f"<p class='dnd-facts'>{more}</p>"
        f"<div class='dnd-heat' style='--layers:{num_layers}' role='img' "
        f"aria-label='{esc(told)}'>{heat}{axis}</div>"
        f"<p class='dnd-ramp'><span>{_('layer')}</span><span class='dnd-ramp-scale'>"
        f"{ends[0]} % {ramp} {ends[1]} %</span></p>"
        f"<details><summary>{_('All numbers, in per cent')}</summary>"
        f"<div class='dnd-table' tabindex='0' role='region' aria-label='{esc(title)}'>"
        f"<table><thead><tr><td></td>{head}</tr></thead><tbody>{table}</tbody></table></div>"
        "</details></details>"
    )
