"""What the checks say of an adapter, line by line."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dnd_engine.checks.verdict import MOSTLY, WORKS, are_few
from dnd_engine.config import AGREEMENT_BANDS
from dnd_engine.lora.changes import ChangedBy
from ui.text import N_, _

if TYPE_CHECKING:
    from dnd_engine.checks.results import Inspection, Ordinary, Skills
    from dnd_engine.checks.verdict import AdapterVerdict, Agreement, Labels

NO_EFFECT = 0.01
"""Nats of KL on the next token, below which answers almost never differ."""
_STRONG = 20.0
"""Nats above which answers tend to degenerate, if no evaluation shows how strong a generator's
adapters are. Adapters of the shipped one reach twelve."""
_CARRIES_SOME = AGREEMENT_BANDS[1][0]

_SKILLS = N_("Right answers to sums, plurals and facts, unrelated to your task.")
_WORDS: Mapping[str, tuple[str, str]] = {
    "changes": (
        N_("Changes the model"),
        N_("Answers to prompts like yours will differ from base."),
    ),
    "nothing": (N_("Does nothing measurable"), N_("Answers almost never differ from base.")),
    "strongest": (
        N_("Changes the model unusually much"),
        N_("Answers may become garbled; try a lower strength."),
    ),
    "carries": (
        N_("Carries the instruction"),
        N_("Without the instruction, it mostly answers your prompts as the instructed model does."),
    ),
    "carries_some": (
        N_("Carries the instruction in part"),
        N_("Without the instruction, not all of its answers match the instructed model's."),
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
    "unsure": (
        N_("The model is unsure of the task"),
        N_("It doubts its answers even with the instruction, and those are what was imprinted."),
    ),
    "leaves_alone": (
        N_("Other answers keep their style"),
        N_("Ordinary messages still get the base's style; whether they are right is not tested."),
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
    "keeps_skills": (N_("Other answers stay right"), _SKILLS),
    "costs_skills": (N_("Gets a few more questions wrong"), _SKILLS),
    "loses_skills": (N_("Gets other questions wrong"), _SKILLS),
    "unlike": (
        N_("Far from the generator's training"),
        N_(
            "Every task it was evaluated on was closer, so those results may not hold here. An "
            "imprint does not depend on it."
        ),
    ),
    "imprint": (
        N_("Imprinted with your instruction"),
        N_("Fitted to how the model answers your prompts with the instruction. Try other prompts."),
    ),
    "itself": (
        N_("Taught on your prompts"),
        N_("It was taught to answer them without the instruction. Try other prompts."),
    ),
    "itself_alike": (
        N_("Learnt one answer for all"),
        N_(
            "It was taught the same answer for nearly all of your prompts. Its effect "
            "does not say whether that answer is right."
        ),
    ),
    "labels": (
        N_("Trained on your labels"),
        N_("It learnt the labels of some prompts. Try other prompts."),
    ),
    "person": (
        N_("Trained on corrected answers"),
        N_("It learnt the answers that a person gave to some prompts. Try other prompts."),
    ),
    "teacher": (
        N_("Trained on a better model's answers"),
        N_("It learnt what that model answered, mistakes included. Try other prompts."),
    ),
    "untold": (
        N_("No instruction to leave out"),
        N_("This check needs a prompt that is not too long, with an instruction and an input."),
    ),
}


@dataclass(frozen=True, slots=True)
class CheckLine:
    """One line of the checks."""

    name: str
    mark: Literal["check", "info", "warn"]
    value: str = ""
    """Count of what the title says, or of right answers; other numbers are in the evidence."""

    @property
    def title(self) -> str:
        """Return the short title."""
        return _(_WORDS[self.name][0])

    @property
    def more(self) -> str:
        """Return a sentence on what the title means."""
        return _(_WORDS[self.name][1])

    @property
    def doubt(self) -> bool:
        """Return whether it counts against the adapter."""
        return self.mark == "warn"


def check_lines(
    inspection: "Inspection", *, changed_by: ChangedBy | None = None
) -> list[CheckLine]:
    """Judge an inspection, relative to the evaluated adapters if there are any."""
    lines = (
        _effect(inspection),
        _change(changed_by),
        _task(inspection, changed_by),
        None if inspection.ordinary is None else _style(inspection.ordinary),
        None if inspection.skills is None else _skills(inspection.skills),
        _nearness(inspection, changed_by),
    )
    return [line for line in lines if line is not None]


def is_trained(changed_by: ChangedBy | None) -> bool:
    """Return whether an adapter was trained after generation, and not only imprinted."""
    return changed_by not in (None, "imprint")


def is_untold(inspection: "Inspection", changed_by: ChangedBy | None) -> bool:
    """Return whether none of its prompts has a removable instruction."""
    untold = inspection.agreement is None and inspection.num_prompts > 0
    return untold and not is_trained(changed_by)


def harm_words(skills: "Skills") -> str:
    """Say how many right answers an adapter costs that does harm."""
    return _(
        "It harms other answers: {after} of {number} unrelated questions right, where the "
        "base has {before}.",
        after=skills.after,
        number=skills.num_questions,
        before=skills.before,
    )


def _effect(inspection: "Inspection") -> CheckLine | None:
    if (effect := inspection.effect) is None:
        return None
    if effect < NO_EFFECT:
        return CheckLine("nothing", "warn")
    too_strong = _STRONG if inspection.strongest is None else inspection.strongest
    return CheckLine("strongest", "warn") if effect > too_strong else CheckLine("changes", "check")


def _change(changed_by: ChangedBy | None) -> CheckLine | None:
    if changed_by is None:
        return None
    return CheckLine(changed_by, "warn" if changed_by == "itself_alike" else "info")


def _task(inspection: "Inspection", changed_by: ChangedBy | None) -> CheckLine | None:
    """Judge whether it does the task without the instruction."""
    verdict, trained = inspection.verdict, is_trained(changed_by)
    # Agreeing with poor answers is no success, so they are all that is said.
    if verdict is not None and verdict.outcome == "fails":
        return CheckLine("unsure" if verdict.is_only_unsure else "fails", "warn")
    if not trained and verdict is not None and verdict.labels is not None and verdict.by_labels:
        return _right(verdict, verdict.labels)
    # Agreement is what training aims at; an imprint is judged by it just as a generated adapter is.
    if not trained and inspection.agreement is not None:
        return _carrying(inspection.agreement)
    return CheckLine("untold", "info") if is_untold(inspection, changed_by) else None


def _nearness(inspection: "Inspection", changed_by: ChangedBy | None) -> CheckLine | None:
    near = inspection.familiarity
    if is_trained(changed_by) or near is None or not near.is_unlike:
        return None
    # An imprint is fitted to answers of the model, whatever the generator was trained on.
    return CheckLine("unlike", "info" if changed_by == "imprint" else "warn")


def _right(verdict: "AdapterVerdict", labels: "Labels") -> CheckLine:
    """Judge the share of right answers without the instruction."""
    count = _("{right} of {number}", right=labels.right, number=labels.number)
    if labels.outcome != "works":
        return CheckLine("wrong", "warn", count)
    sure = verdict.degree == "works" and not verdict.only_seems_to_work
    return CheckLine("right", "check" if sure else "info", count)


def _carrying(agreement: "Agreement") -> CheckLine:
    """Judge how often the instruction is not needed."""
    count = _("{same} of {number}", same=agreement.same, number=agreement.num_prompts)
    # In a mix, its worst bucket decides, as for the verdict.
    parts = [part.share for part in agreement.by_bucket if part.num_prompts]
    least = min(parts, default=agreement.share)
    if least >= MOSTLY:
        # A few answers may be equal by chance.
        few = are_few(agreement.same, agreement.num_prompts)
        return CheckLine("carries", "info" if few else "check", count)
    if agreement.share >= _CARRIES_SOME:
        # In step with the verdict, which says at the same share that it rarely works.
        rarely = least < WORKS
        return CheckLine("carries_some", "warn" if rarely else "info", count)
    return CheckLine("carries_none", "warn", count)


def _style(ordinary: "Ordinary") -> CheckLine:
    """Judge the share of ordinary messages that are left alone."""
    total = ordinary.num_messages
    # In one direction under every title, so that two adapters can be compared.
    kept = _("{same} of {number} kept", same=ordinary.same, number=total)
    if ordinary.enough:
        return CheckLine("leaves_alone", "check", kept)
    if ordinary.most_changed:
        return CheckLine("changes_others", "warn", kept)
    return CheckLine("changes_few" if ordinary.few_changed else "changes_some", "info", kept)


def _skills(skills: "Skills") -> CheckLine:
    """Judge the share of right answers that are left."""
    value = _(
        "{after} of {number} right, base {before}",
        after=skills.after,
        number=skills.num_questions,
        before=skills.before,
    )
    if skills.all_kept:
        return CheckLine("keeps_skills", "check", value)
    if skills.enough:
        return CheckLine("costs_skills", "info", value)
    return CheckLine("loses_skills", "warn", value)
