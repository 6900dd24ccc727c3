"""The judgement above the chat: whether an adapter works, why to doubt it, and what to do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dnd_engine.lora.changes import ChangedBy
from dnd_engine.wording import listed
from ui.markup import esc, icon, presses, prose, sentence
from ui.tabs.workbench.adapter.answers_view import answers_html
from ui.tabs.workbench.adapter.check_lines import (
    CheckLine,
    check_lines,
    harm_words,
    is_trained,
    is_untold,
)
from ui.tabs.workbench.adapter.learnt import Learnt
from ui.tabs.workbench.prompts.forecast_view import type_instruction
from ui.text import N_, _, note_words

if TYPE_CHECKING:
    from dnd_engine.checks.results import Inspection

_CURED_BY_PROMPTS = {"nothing", "carries_none", "wrong", "fails", "unsure", "unlike"}
"""Doubts that more prompts, or refining on them, may resolve."""
_CURED_BY_STRENGTH = {"nothing", "carries_none"}
"""Doubts that more strength may resolve."""
_OF_THE_VERDICT = {"carries_none", "carries_some", "wrong", "fails", "unsure"}
"""Doubts that the verdict's own sentence covers, so that there is only one heading."""
_WELL = 16
"""Number of prompts that works well; with as many, no more are suggested."""

_UNTOLD = N_(
    "No prompt has both an instruction and a short input. If yours have no instruction, type it "
    "under Advanced and press Synthesize again."
)
_UNLIKELY = N_("This adapter is unlikely to help.")
# They are stated in this order, and those of one heading together.
_WARNINGS: Mapping[str, tuple[str, str]] = {
    "nothing": (_UNLIKELY, N_("It leaves the model as it was.")),
    "carries_none": (_UNLIKELY, N_("It does not carry your instruction.")),
    "wrong": (_UNLIKELY, N_("It answers most of your labelled prompts wrongly.")),
    "fails": (_UNLIKELY, N_("Even with your instruction, the model does not know the task.")),
    "unsure": (_UNLIKELY, N_("Even with your instruction, the model is unsure of its answers.")),
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
    "itself_alike": (
        N_("This adapter learnt one and the same answer for nearly all of your prompts."),
        N_(
            "If that answer is right, so is the adapter. If not, the model that taught it"
            " does not know the task: go back to the previous adapter, and teach "
            "it yourself, or from more specific prompts."
        ),
    ),
}


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on an adapter, the reasons to doubt it, and what to do about them."""

    inspection: "Inspection"
    changed_by: ChangedBy | None = None
    """How the adapter was changed after generation."""
    learnt: Learnt | None = None
    """Scores on validation prompts before and after teaching."""
    num_prompts: int = 0
    """Number of prompts it was made from."""
    imprintable: bool = False
    """Whether its instruction can still be imprinted."""
    teachable: bool = False
    """Whether Teach is offered in the adapter's bar."""
    undoable: bool = False
    """Whether Undo is offered there."""
    known_why: bool = False
    """Whether the reason why nobody can tell is shown elsewhere."""
    skipped_buckets: Sequence[str] = ()
    """Sentences that name each bucket that its imprint left out."""
    lacks_instruction: bool = False
    """Whether one of its buckets has no instruction at all."""
    without_any: bool = False
    """Whether none of its buckets has one."""
    labelled: bool = False
    """Whether it can be taught from the labels of its prompts."""

    @property
    def warns(self) -> bool:
        """Return whether to warn before the adapter is used."""
        judged = self.inspection.verdict if self.learnt is None else self.learnt
        return bool(self._doubtful_lines) or (judged is not None and judged.warns)

    @property
    def is_doubtful(self) -> bool:
        """Return whether refining or more prompts may resolve the doubts."""
        return bool(self._doubts & _CURED_BY_PROMPTS)

    def words(self) -> str:
        """Say the verdict in plain text, for a list; what warns comes in its place."""
        # Agreement proves nothing once it was trained for.
        verdict = None if is_trained(self.changed_by) else self.inspection.verdict
        judged = verdict if self.learnt is None else self.learnt
        head = "" if verdict is None else note_words(verdict.head)
        if self.learnt is not None:
            head = self.learnt.short
        said = _OF_THE_VERDICT if verdict is not None else ()
        reasons = [line.title for line in self._doubtful_lines if line.name not in said]
        if judged is not None and judged.warns:
            reasons.insert(0, head.rstrip("."))
        return _("Warning: {reasons}.", reasons="; ".join(reasons)) if reasons else head

    def html(self) -> str:
        """Draw everything as one notice, with the numbers folded away; empty if nothing is said."""
        parts = (self._verdict, self._skipped, self._reasons, self._actions, self._harm)
        said = [words for part in parts for words in part()]
        if not said:
            return ""
        mark = "warn" if self.warns else "check" if self._works else "info"
        numbers = " ".join(self._numbers())
        folded = f" <details><summary>{_('Why?')}</summary>{numbers}</details>" if numbers else ""
        return (
            f"<div class='dnd-notice dnd-verdict{' is-warn' if self.warns else ''}'>{icon(mark)}"
            # What is folded is read out only by those who open it.
            f"<div><span role='{'alert' if self.warns else 'status'}'>{' '.join(said)}</span>"
            f"{folded} {self._answers()}</div></div>"
        )

    def _verdict(self) -> list[str]:
        verdict = self.inspection.verdict
        # Agreement proves nothing once it was trained for: scores on held-back prompts replace it.
        if (learnt := self.learnt) is not None:
            # Escaped, because they may name buckets.
            head, caution = esc(learnt.head), esc(learnt.caution)
            said = [f"<b>{head}</b>", f"{learnt.brought} {sentence(learnt.words)}.", caution]
            return [*filter(None, said)]
        if "nothing" in self._doubts:
            return []
        if verdict is not None:
            more = [note_words(one) for one in (verdict.caution, *verdict.causes) if one]
            # Escaped, because it may name buckets.
            return [f"<b>{esc(note_words(verdict.head))}</b>", *more]
        if not is_untold(self.inspection, self.changed_by):
            return []
        untold = f"<b>{_('Nobody can tell yet whether it works.')}</b>"
        if self.without_any:
            way = type_instruction()
            ways = [_("No instruction found."), _("{way}, and press Synthesize again.", way=way)]
            if self.labelled and self.teachable:
                learns = presses(_("teach it from your labels"), "#dnd-teach-open")
                ways.append(_("Or {teach}.", teach=learns))
            return [untold, *ways]
        # If the imprint failed, its own reason is shown with the adapter, and may differ.
        return [untold if self.known_why else f"{untold} {_(_UNTOLD)}"]

    def _skipped(self) -> list[str]:
        """Name the buckets that were not imprinted, with the step that helps."""
        if not self.skipped_buckets or self.changed_by != "imprint":
            return []
        said = [prose(note_words(why)) for why in self.skipped_buckets]
        if self.lacks_instruction:
            said.append(_("{way}, and press Synthesize again.", way=type_instruction()))
        return said

    def _reasons(self) -> list[str]:
        """Name the doubts; those with the same heading share it."""
        said = () if self.inspection.verdict is None else _OF_THE_VERDICT
        doubts, reasons = self._doubts, dict[str, list[str]]()
        for name, (head, reason) in _WARNINGS.items():
            if name in doubts and name not in said:
                reasons.setdefault(_(head), []).append(_(reason))
        return [f"<b>{head}</b> {' '.join(words)}" for head, words in reasons.items()]

    def _actions(self) -> list[str]:
        """Suggest what to do about an adapter that may not help."""
        verdict, doubts = self.inspection.verdict, self._doubts
        weak = [part.bucket for part in verdict.uneven if part.degree != "works"] if verdict else []
        needs_it = bool(weak) or (verdict is not None and verdict.outcome == "with_instruction")
        # The missing imprint explains these, so neither teaching nor more prompts is advised.
        if self.imprintable and (needs_it or "carries_none" in doubts):
            return [_("Its instruction is not imprinted: press Imprint above.")]
        ways = []
        if self.is_doubtful and (self.undoable or not is_trained(self.changed_by)):
            ways.append(self._teach_or_undo())
        # Where a warning asks for less, asking for more would contradict it.
        if doubts & _CURED_BY_STRENGTH and not doubts & {"strongest", "changes_others"}:
            ways.append(_("More strength may help too."))
        if self.learnt is not None and self.learnt.warns and "itself_alike" not in doubts:
            ways += self._undo_or_correct()
        if needs_it and self.learnt is None and not self.is_doubtful:
            teach: str = _("teach the adapter")
            if self.teachable:
                teach = presses(teach, "#dnd-teach-open")
            words = _("Send the instruction with your input, or {teach}.", teach=teach)
            if weak:
                words = _(
                    "For {buckets}, send the instruction with your input, or {teach}.",
                    buckets=esc(note_words(listed(weak))),
                    teach=teach,
                )
            ways.append(words)
        return ways

    def _undo_or_correct(self) -> list[str]:
        """Advise what the bar offers: a loaded adapter has no Undo, and perhaps no prompts."""
        # Whoever corrected its answers is not advised to.
        teachable = self.teachable and self.changed_by != "person"
        if self.undoable and teachable:
            return [_("You can undo, or correct its answers yourself under Teach.")]
        if self.undoable:
            return [_("You can undo.")]
        return [_("You can correct its answers yourself under Teach.")] if teachable else []

    def _teach_or_undo(self) -> str:
        # Whole sentences, because a translation cannot be put together from parts.
        if is_trained(self.changed_by):
            if self.num_prompts >= _WELL:
                return _("You can undo. Your files are fine.")
            return _("You can undo, or add prompts (16 or more work best). Your files are fine.")
        if self.num_prompts >= _WELL:
            return _("You can teach it below. Your files are fine.")
        return _(
            "You can teach it below, or add prompts (16 or more work best). Your files are fine."
        )

    def _harm(self) -> list[str]:
        skills = self.inspection.skills
        return [] if skills is None or skills.enough else [harm_words(skills)]

    def _numbers(self) -> list[str]:
        """Return the numbers behind the verdict."""
        if self.learnt is not None:
            return [esc(one) for one in self.learnt.numbers]
        if (verdict := self.inspection.verdict) is None:
            return []
        # Escaped, because a reason may name a bucket.
        why = [esc(note_words(one)) for one in verdict.reasons if one not in verdict.causes]
        if why and self.changed_by == "imprint":
            why.append(
                _(
                    "“The model with the instruction” is the one that answered your prompts for "
                    "the imprint. It follows instructions better than the base that you chat with."
                )
            )
        return why

    def _answers(self) -> str:
        """Draw the answers that the verdict rests on."""
        verdict = self.inspection.verdict
        return "" if verdict is None or self.learnt is not None else answers_html(verdict)

    @property
    def _works(self) -> bool:
        """Return whether it works without reservation."""
        if self._harm() or self._skipped():
            return False
        if self.learnt is not None:
            return self.learnt.works
        verdict = self.inspection.verdict
        if verdict is None:
            return False
        return verdict.degree == "works" and not verdict.only_seems_to_work

    @property
    def _doubtful_lines(self) -> list[CheckLine]:
        return [
            line for line in check_lines(self.inspection, changed_by=self.changed_by) if line.doubt
        ]

    @property
    def _doubts(self) -> set[str]:
        """Return the names of lines that deserve a warning above the chat."""
        return {line.name for line in self._doubtful_lines} & _WARNINGS.keys()
