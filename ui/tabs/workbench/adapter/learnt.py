"""What teaching brought an adapter, by the scores in its provenance."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dnd_engine.checks.verdict import WORKS, are_few, degree_of, seems_to_work, uneven_head, worst
from dnd_engine.lora.changes import is_share, taught_score, taught_section
from dnd_engine.notes import Note, noted
from dnd_engine.wording import listed
from ui.text import N_, _, note_words, number

if TYPE_CHECKING:
    from dnd_engine.config import Degree


@dataclass(frozen=True, slots=True)
class LearntPart:
    """Score on the validation prompts of one of several buckets."""

    bucket: str
    count: int
    now: float
    """0 without such prompts."""

    @property
    def degree(self) -> "Degree":
        """Return the band of the score."""
        return degree_of(self.now * self.count, self.count)

    @property
    def words(self) -> Note:
        """Name the bucket, with its score: counts, unless longer texts are scored in parts."""
        same = round(self.now * self.count)
        # Scores are rounded in files.
        if math.isclose(self.now * self.count, same, abs_tol=0.01):
            return noted(
                "{bucket} ({same} of {number})", bucket=self.bucket, same=same, number=self.count
            )
        return noted(
            "{bucket} ({share:.0f} % of {number})",
            bucket=self.bucket,
            share=100 * self.now,
            number=self.count,
        )


@dataclass(frozen=True, slots=True)
class Learnt:
    """Scores on validation prompts before and after teaching."""

    count: int
    before: float
    now: float
    by_itself: bool
    """Whether the reference is the model's own answers, right or wrong."""
    was_stopped: bool = False
    """Whether somebody ended it before its last step."""
    from_poor: bool = False
    """Whether these answers are known to be poor."""
    imported: bool = False
    """Whether the adapter came from a file, which alone says so."""
    by_bucket: tuple[LearntPart, ...] = ()
    """Parts of the score; empty for one bucket, or if they are not known."""

    @property
    def is_worse(self) -> bool:
        """Return whether teaching did harm."""
        return self.now < self.before

    @property
    def works(self) -> bool:
        """Return whether it now needs no instruction, by the threshold of the verdict."""
        return self._degree == "works" and not self._are_few

    @property
    def warns(self) -> bool:
        """Return whether to warn before use, by the threshold of the verdict."""
        return self.is_worse or self._degree == "does_not"

    @property
    def _degree(self) -> "Degree":
        if self.from_poor:
            return "does_not"
        whole = degree_of(self.now * self.count, self.count)
        return worst([part.degree for part in self._scored] or [whole])

    @property
    def _are_few(self) -> bool:
        return are_few(self.now * self.count, self.count) or bool(self._unscored)

    @property
    def _scored(self) -> list[LearntPart]:
        return [part for part in self.by_bucket if part.count]

    @property
    def _unscored(self) -> list[str]:
        return [part.bucket for part in self.by_bucket if not part.count]

    @property
    def _works_somewhere(self) -> bool:
        return self.now >= WORKS or any(part.degree == "works" for part in self._scored)

    @property
    def head(self) -> str:
        """Judge the adapter by what it is now, whatever teaching brought."""
        if self.from_poor:
            return _("It does not work: the model that taught it does not know the task.")
        if len({part.degree for part in self._scored}) > 1:
            return note_words(uneven_head([(part.degree, part.words) for part in self._scored]))
        if self._degree == "works":
            if self._unscored:
                return _(
                    "It seems to work without the instruction for {scored}; {unscored} was not "
                    "checked.",
                    scored=note_words(listed([part.bucket for part in self._scored])),
                    unscored=note_words(listed(self._unscored)),
                )
            if self._are_few:
                return note_words(seems_to_work(self.count))
            return _("It works without the instruction.")
        # In degrees rather than counts: the score may be that of longer texts.
        if self._degree == "in_part":
            return _("It works in part without the instruction.")
        return _("It works poorly without the instruction.")

    @property
    def short(self) -> str:
        """Judge it in one sentence, for a list: what warns, if anything does."""
        return self.brought if self.is_worse and self._degree != "does_not" else self.head

    @property
    def brought(self) -> str:
        """Say what teaching did to the score, and on which prompts that was counted."""
        if self.now > self.before:
            if self.from_poor:
                return _("It came closer to that model's answers.")
            return _("Teaching raised the score on the prompts held back from it.")
        if not self.is_worse:
            return _(
                "Teaching did not raise the score on the prompts held back from it; it may have "
                "helped with other prompts."
            )
        if round((self.before - self.now) * self.count, 6) <= 1:
            return _(
                "Teaching lowered the score on the prompts held back from it by one prompt at "
                "most, which may be chance."
            )
        return _("Teaching lowered the score on the prompts held back from it.")

    @property
    def caution(self) -> str:
        """Say what the score leaves open; empty if nothing."""
        if self._unscored and self._degree != "works":
            return _(
                "No prompt of {buckets} was held back for the check.",
                buckets=note_words(listed(self._unscored)),
            )
        if self.by_itself and not self.from_poor and self._works_somewhere:
            return _("Whether its answers are right, only you can tell.")
        if self.now >= WORKS:
            return ""
        if self.was_stopped:
            return _("It was stopped early. Teach again to continue from here.")
        if self.by_itself:
            return ""
        return _(
            "Only the expected wording counts. If another wording is right too, as for a title, "
            "read some answers yourself."
        )

    @property
    def numbers(self) -> list[str]:
        """Return the score of each bucket of a mix."""
        return [f"{note_words(part.words)}." for part in self._scored]

    @property
    def words(self) -> str:
        """Describe both scores."""
        # The last state is kept, even if an earlier one did better on these few prompts: choosing
        # the one that did best loses right answers to others (docs/LOG.md).
        words = N_(
            "{count} held-back prompts: {before:.0f} % right before, {now:.0f} % after the last "
            "step"
        )
        if self.by_itself:
            words = N_(
                "{count} held-back prompts: {before:.0f} % answered as its teacher does before, "
                "{now:.0f} % after the last step"
            )
        scores = _(words, before=100 * self.before, now=100 * self.now, count=number(self.count))
        if not self.imported:
            return scores
        return _("measured before, where it was made: {scores}", scores=scores)


def learnt(provenance: Mapping[str, Any], *, imported: bool = False) -> Learnt | None:
    """Return the scores of teaching; None if it was not taught, or a file has invalid numbers.

    Args:
        provenance: Provenance of an adapter, or its sections on teaching. It may be from a
            stranger's file, so nothing in it is taken on trust.
        imported: Whether the adapter came from a file.
    """
    if (score := taught_score(provenance)) is None:
        return None
    return Learnt(
        score.num_held_back,
        score.before,
        score.now,
        score.by_itself,
        score.was_stopped,
        imported=imported,
        by_bucket=_parts(taught_section(provenance).get("by_bucket")),
    )


def _parts(found: object) -> tuple[LearntPart, ...]:
    """Return the scores by bucket; nothing if any is invalid."""
    parts = []
    for one in found if isinstance(found, Sequence) else ():
        if not isinstance(one, Mapping):
            return ()
        bucket, count, now = (one.get(k) for k in ("bucket", "num_held_back", "score"))
        if not (isinstance(bucket, str) and isinstance(count, int) and 0 <= count < 1000):
            return ()
        if count and not is_share(now):
            return ()
        parts.append(LearntPart(bucket, count, now if is_share(now) else 0.0))
    return tuple(parts)
