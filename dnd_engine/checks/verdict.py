"""Whether an adapter works without the instruction, in one sentence and the numbers behind it.

Where prompts have labels, these decide. Elsewhere the reference is the instructed model's own
answers, preferably on prompts that an imprint was not fitted to. Such a verdict is only as good as
that model, and says so where its answers are poor. Imports no torch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field

from dnd_engine.config import AGREEMENT_BANDS, SURENESS_BANDS, Degree
from dnd_engine.lora.provenance import Imprinting
from dnd_engine.notes import Note, counted, noted
from dnd_engine.wording import listed

if TYPE_CHECKING:
    from dnd_engine.lora.adapter import Adapter

Outcome = Literal["works", "with_instruction", "fails"]
"""Works without the instruction; only with it; or does not even work with it. The best comes
first."""

Sure = Literal["unsure", "partly", "sure"]

WORKS = AGREEMENT_BANDS[-1][0]
"""Share of prompts answered as the instructed model does, from which on an adapter "works"."""

MOSTLY = 0.75
"""Share from which on the sentence needs no numbers. Between `WORKS` and this it states them, so
that an adapter that works for every second prompt does not sound perfect."""

_POOR = 0.5
"""Share of unsure answers of the instructed model, or of repeated inputs, above which the verdict
blames them."""

_ALIKE = 0.9
"""Share of identical answers of the instructed model, from which on they ignore the inputs."""

_ENOUGH = 4
"""Minimum number of answers; fewer may be equal by chance."""

_CONFIDENCE_Z = 1.2816
"""Standard normal quantile of a one-sided 90 % bound. With it, every share of eight prompts from
`MOSTLY` on is clear of `WORKS`, as it was when the verdicts on eight left-out prompts were compared
with scores; 3 of 4 is not."""

_BEST_FIRST: tuple[Degree, ...] = ("works", "in_part", "does_not")

_HEADS: dict[Outcome, Note] = {
    "works": noted("It works without the instruction."),
    "with_instruction": noted("At best, it works with the instruction."),
    "fails": noted("It does not work: teach it."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Teaching:
    """The instructed model's answers that an imprint was fitted to."""

    num_prompts: int
    commonest_share: float
    """Share of the prompts with the most common answer."""
    unfinished: int
    """Number of truncated answers."""
    explained: float
    """Share of the wanted change that the lowest fitted layer predicts for left-out prompts."""
    one_answer: tuple[str, ...] = ()
    """Buckets of a mix whose prompts nearly all got the same answer."""

    @property
    def has_one_answer(self) -> bool:
        """Return whether nearly all prompts got the same answer."""
        return are_alike(self.commonest_share, self.num_prompts)


@dataclass(frozen=True, slots=True)
class Labels:
    """How many answers are right by the labels of their prompts."""

    right: int
    """Right answers without the instruction."""
    right_when_told: int
    """Right answers of the instructed model."""
    number: int
    """Prompts asked that have a label."""
    foreign: bool = False
    """Whether the prompts share a few labels, and none of the answers is any of these."""

    @property
    def decide(self) -> bool:
        """Return whether there are enough of them to judge by."""
        return self.number >= _ENOUGH

    @property
    def outcome(self) -> Outcome:
        """Return the verdict by labels alone."""
        if self.right >= WORKS * self.number:
            return "works"
        return "with_instruction" if self.right_when_told >= WORKS * self.number else "fails"

    @property
    def sentence(self) -> Note:
        """Describe the result."""
        return noted(
            "By your labels, {right} of {number} answers are right without the instruction, and "
            "{told} with it.",
            right=self.right,
            number=self.number,
            told=self.right_when_told,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One of the prompts that decide a verdict, with both answers."""

    bucket: str
    input: str
    """The prompt without its instruction."""
    bare: str
    """Beginning of the adapter's answer to the input alone."""
    instructed: str
    """Beginning of the instructed model's answer to the whole prompt."""
    same: bool
    """Whether they are the same, token by token."""
    label: str | None = None
    """The right answer; None if the prompt has no label that can be compared."""
    right: bool = False
    """Whether the adapter's answer is right by the label."""


@dataclass(frozen=True, slots=True)
class BucketShare:
    """Agreement on the prompts of one of several buckets."""

    bucket: str
    same: int
    num_prompts: int
    labels: Labels | None = None
    """What the labels of its prompts say; None without labels."""
    alike: bool = False
    """Whether the instructed model gives nearly all of its prompts one answer, and that is not
    always right: agreeing with it is no success."""

    @property
    def degree(self) -> Degree:
        """Return the band of its agreement."""
        return "does_not" if self.alike else degree_of(self.same, self.num_prompts)

    @property
    def share(self) -> float:
        """Return the share of equal answers."""
        return self.same / self.num_prompts

    @property
    def by_labels(self) -> "BucketShare":
        """Return the bucket with its right answers as the count, if its prompts have labels."""
        if self.labels is None:
            return self
        return BucketShare(self.bucket, self.labels.right, self.labels.number, alike=self.alike)

    @property
    def words(self) -> Note:
        """Name the bucket, with its count."""
        if self.alike:
            return noted("{bucket} (one answer to all)", bucket=self.bucket)
        return noted(
            "{bucket} ({same} of {number})",
            bucket=self.bucket,
            same=self.same,
            number=self.num_prompts,
        )


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often adapter and instructed model give the same answer."""

    same: int
    """Prompts with equal greedy answers, up to the compared length."""
    num_prompts: int
    """Number of prompts asked. They need a blank line between instruction and input."""
    left_out: bool = False
    """Whether an imprint was not fitted to these prompts."""
    wavering: int = 0
    """Prompts whose answer the instructed model itself is unsure of."""
    by_bucket: tuple[BucketShare, ...] = ()
    """Parts of both counts; empty for one bucket, or if they are not known."""
    repeated: int = 0
    """Prompts whose input the instructed model only repeats."""
    commonest_share: float = 0.0
    """Share of the prompts to which the instructed model gives its most common answer."""
    sureness: float | None = None
    """Mean probability that the instructed model gives its own greedy answers; None if one of the
    teachers is the base, for which it foretells nothing."""
    labels: Labels | None = None
    """What the prompts' labels say of these answers; None without labels."""
    answers: Annotated[
        tuple[Answered, ...], Field(exclude=True), BeforeValidator(lambda _stored: ())
    ] = field(default=(), compare=False, repr=False)
    """The prompts and their answers, to read now. They are neither written to JSON, because stored
    checks are published with the adapter, nor read from it, because anybody could have written
    them."""

    @property
    def share(self) -> float:
        """Return the share of equal answers."""
        return self.same / self.num_prompts


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterVerdict(Agreement):
    """Whether an adapter works, and why: its agreement, how it was taught, and the outcome."""

    outcome: Outcome
    teaching: Teaching | None = None
    """Quality of the imprint's teaching; None for an adapter that is not imprinted."""

    @property
    def by_labels(self) -> bool:
        """Return whether labels decided."""
        return self.labels is not None and self.labels.decide

    @property
    def warns(self) -> bool:
        """Return whether to warn before use: it was made to work without the instruction."""
        return self.degree == "does_not"

    @property
    def degree(self) -> Degree:
        """Return the band of the verdict, by which a report says how often it is right.

        A mix is in the band of its worst bucket.
        """
        if self.outcome != "works":
            return "does_not"
        whole = degree_of(self._counts["same"], self._counts["number"])
        return worst([part.degree for part in self.uneven] or [whole])

    @property
    def only_seems_to_work(self) -> bool:
        """Return whether it works, but on few prompts or fitted ones, so that the head says so."""
        counts = self._counts
        few = are_few(counts["same"], counts["number"])
        return self.degree == "works" and (self._is_fitted or few)

    @property
    def uneven(self) -> tuple[BucketShare, ...]:
        """Return the buckets of a mix, with the counts that decide, if their bands differ."""
        parts = [part for part in self.by_bucket if part.num_prompts]
        labelled = {part.bucket for part in parts if part.labels is not None}
        if self.by_labels:
            # Earlier versions kept no labels by bucket, and agreement must not contradict labels.
            if not labelled:
                return ()
            parts = [part.by_labels for part in parts]
        if len({part.degree for part in parts}) < 2:
            return ()
        # A mix that fails by its labels may have a bucket that works. Where the instructed model's
        # answers are poor, a bucket's agreement says nothing.
        counting = labelled if self.is_poorly_taught else {part.bucket for part in parts}
        works = any(part.degree != "does_not" and part.bucket in counting for part in parts)
        return tuple(parts) if self.outcome != "fails" or (self.by_labels and works) else ()

    @property
    def head(self) -> Note:
        """Return the verdict itself."""
        if self.uneven:
            return uneven_head([(part.degree, part.words) for part in self.uneven])
        if self.degree == "in_part":
            return noted(
                "It works without the instruction for some prompts only: {same} of {number}.",
                **self._counts,
            )
        if self.outcome == "with_instruction":
            if self._counts["same"]:
                return noted(
                    "It rarely works without the instruction: for {same} of {number} prompts.",
                    **self._counts,
                )
            # Without labels, nobody knows whether it works with the instruction.
            if self.by_labels:
                return noted("It works only with the instruction.")
        if self.only_seems_to_work and self._is_fitted:
            return counted(
                "It works for the one prompt that it was fitted to; others were not tried.",
                "It works for {same} of the {number} prompts that it was fitted to; others were "
                "not tried.",
                self._counts["number"],
                same=self._counts["same"],
            )
        if self.only_seems_to_work:
            return seems_to_work(self._counts["number"])
        return _HEADS[self.outcome]

    @property
    def caution(self) -> Note | None:
        """Return what a favourable verdict leaves open; None if nothing."""
        # In a mix, some buckets may go by agreement beside others that go by labels.
        labelled = {part.labels is not None for part in self.by_bucket}
        if self.outcome != "works" or (self.by_labels and len(labelled) < 2):
            return None
        return noted("Whether its answers are right, only you can tell.")

    @property
    def sentences(self) -> tuple[Note, ...]:
        """Return everything that there is to say, the verdict first."""
        return (self.head, *([self.caution] if self.caution else []), *self.reasons)

    @property
    def reasons(self) -> tuple[Note, ...]:
        """Return the numbers behind the verdict."""
        found = [self._agreement_words()]
        if self.labels is not None and self.outcome != "fails":
            found.insert(0, self.labels.sentence)
        found += (
            noted(
                "{bucket}: {same} of {number}.",
                bucket=part.bucket,
                same=part.same,
                number=part.num_prompts,
            )
            for part in self.by_bucket
        )
        if alike := [part.bucket for part in self.by_bucket if part.alike]:
            found.append(
                noted(
                    "Even with the instruction, the model gives one and the same answer to nearly "
                    "all prompts of {buckets}.",
                    buckets=listed(alike),
                )
            )
        found += self.causes
        if (teaching := self.teaching) is not None:
            if teaching.unfinished:
                found.append(
                    noted(
                        "With the instruction, {unfinished} of {number} answers were cut off "
                        "before their end.",
                        unfinished=teaching.unfinished,
                        number=teaching.num_prompts,
                    )
                )
            if teaching.explained > 0:
                found.append(
                    noted(
                        "The fit predicts {share:.0f} % of the change for prompts left out of it.",
                        share=100 * teaching.explained,
                    )
                )
        return tuple(found)

    def _agreement_words(self) -> Note:
        counts = {"same": self.same, "number": self.num_prompts}
        if self.left_out:
            return noted(
                "Of {number} prompts left out of the fit, it answers {same} without the "
                "instruction as the model does with it.",
                **counts,
            )
        if self.teaching is not None:
            return noted(
                "Of {number} prompts, it answers {same} without the instruction as the model does "
                "with it. It was fitted to all of them; with 8 or more, some are left out for this "
                "check.",
                **counts,
            )
        return noted(
            "Of {number} prompts, it answers {same} without the instruction as the model does with "
            "it.",
            **counts,
        )

    @property
    def causes(self) -> tuple[Note, ...]:
        """Return why it fails: the instructed model's answers are poor, or it is unsure of them."""
        if self.outcome != "fails":
            return ()
        found = [] if self.labels is None else [self.labels.sentence]
        if self.labels is not None and self.labels.decide and self.labels.foreign:
            found.append(
                noted(
                    "No answer matches any of your labels; perhaps they are not written the way "
                    "the instruction asks."
                )
            )
        if self._wavers:
            found.append(
                noted(
                    "Even with the instruction, the model is unsure of its answer to {wavering} of "
                    "{number} prompts.",
                    wavering=self.wavering,
                    number=self.num_prompts,
                )
            )
        elif self._is_unsure:
            found.append(noted("Even with the instruction, the model is unsure of its answers."))
        if self._repeats:
            found.append(
                noted(
                    "Even with the instruction, the model repeats the input of {repeated} of "
                    "{number} prompts.",
                    repeated=self.repeated,
                    number=self.num_prompts,
                )
            )
        if self._gives_one_answer:
            taught = self.teaching or self  # an imprint's teaching is of more prompts
            found.append(
                noted(
                    "Even with the instruction, the model gives one and the same answer to "
                    "{share:.0f} % of the prompts.",
                    share=100 * taught.commonest_share,
                )
            )
        if self.is_only_unsure:
            found.append(
                noted(
                    "Where many answers are right, as for a title, it may be unsure and still "
                    "right: read some."
                )
            )
        return tuple(found)

    @property
    def is_only_unsure(self) -> bool:
        """Return whether it fails for the instructed model's doubts alone, not for its answers."""
        poor = self._repeats or self._has_one_answer
        return self.outcome == "fails" and not (self.by_labels or poor)

    @property
    def is_poorly_taught(self) -> bool:
        """Return whether the instructed model's own answers are poor.

        `unfinished` answers do not count: tasks with long ones would always fail.
        """
        return self._is_unsure or self._wavers or self._repeats or self._has_one_answer

    @property
    def _gives_one_answer(self) -> bool:
        if self.teaching is not None:
            return self.teaching.has_one_answer
        return are_alike(self.commonest_share, self.num_prompts)

    @property
    def _has_one_answer(self) -> bool:
        # A mix does not fail as a whole while another of its buckets works.
        return self._gives_one_answer or (
            any(part.alike for part in self.by_bucket)
            and all(part.degree == "does_not" for part in self.by_bucket)
        )

    @property
    def _counts(self) -> dict[str, Any]:
        """Prompts that it works for, and all of them."""
        if self.labels is not None and self.by_labels:
            return {"same": self.labels.right, "number": self.labels.number}
        return {"same": self.same, "number": self.num_prompts}

    @property
    def _is_fitted(self) -> bool:
        """Whether an imprint was fitted to the very prompts that decide."""
        return self.teaching is not None and not (self.left_out or self.by_labels)

    @property
    def _wavers(self) -> bool:
        return self.wavering > _POOR * self.num_prompts

    @property
    def _repeats(self) -> bool:
        return self.repeated > _POOR * self.num_prompts

    @property
    def _is_unsure(self) -> bool:
        # A long answer is never sure, so this counts only where agreement is low.
        low = self.same < WORKS * self.num_prompts
        return low and self.sureness is not None and sure_of(self.sureness) == "unsure"


def degree_of(same: float, number: int) -> Degree:
    """Return the band of a share of prompts that an adapter works for."""
    if same < WORKS * number:
        return "does_not"
    return "works" if same >= MOSTLY * number else "in_part"


def worst(degrees: Sequence[Degree]) -> Degree:
    """Return the band of a mix, given those of its buckets."""
    return max(degrees, key=_BEST_FIRST.index)


def uneven_head(parts: Sequence[tuple[Degree, Note]]) -> Note:
    """Return the verdict on a mix of buckets whose bands differ, given the words for each."""
    named = {
        degree: listed(words)
        for degree in _BEST_FIRST
        if (words := [said for band, said in parts if band == degree])
    }
    if "works" not in named:
        return noted(
            "It works without the instruction for some prompts of {in_part}, but not for "
            "{does_not}.",
            **named,
        )
    if "does_not" not in named:
        return noted(
            "It works without the instruction for {works}, and for some prompts of {in_part}.",
            **named,
        )
    if "in_part" not in named:
        return noted(
            "It works without the instruction for {works}, but not for {does_not}.", **named
        )
    return noted(
        "It works without the instruction for {works}, for some prompts of {in_part}, but not "
        "for {does_not}.",
        **named,
    )


def are_few(same: float, number: int) -> bool:
    """Return whether so few prompts do not show that an adapter works, though most are answered.

    They do if the lower end of Wilson's interval of the share reaches `WORKS`.
    """
    share, z2 = same / number, _CONFIDENCE_Z**2
    spread = _CONFIDENCE_Z * math.sqrt(share * (1 - share) / number + z2 / (4 * number**2))
    low = (share + z2 / (2 * number) - spread) / (1 + z2 / number)
    return number < _ENOUGH or low < WORKS


def seems_to_work(number: int) -> Note:
    """Return the verdict that "works" becomes on few prompts."""
    return counted(
        "It seems to work without the instruction, judged on {number} prompt only.",
        "It seems to work without the instruction, judged on {number} prompts only.",
        number,
    )


def judge(found: Agreement, teaching: Teaching | None = None) -> AdapterVerdict:
    """Choose the verdict; `teaching` is None for an adapter that is not imprinted."""

    def is_alike(part: BucketShare) -> bool:
        alike = part.alike if teaching is None else part.bucket in teaching.one_answer
        return alike and not _all_right(part.labels)

    parts = tuple(replace(part, alike=is_alike(part)) for part in found.by_bucket)
    # Agreeing with poor answers is no success.
    same = found.same - sum(part.same for part in parts if part.alike)
    measured = AdapterVerdict(
        **{each.name: getattr(found, each.name) for each in fields(Agreement)}
        | {"by_bucket": parts},
        outcome="works" if same >= WORKS * found.num_prompts else "with_instruction",
        teaching=teaching,
    )
    if found.labels is not None and found.labels.decide:
        # One answer to everything may be right for half of the prompts without doing the task.
        one = measured._has_one_answer and not _all_right(found.labels)
        return replace(measured, outcome="fails" if one else found.labels.outcome)
    return replace(measured, outcome="fails") if measured.is_poorly_taught else measured


def lowered(found: Agreement, fitted: Agreement, teaching: Teaching | None) -> Agreement:
    """Let the labels of prompts that an imprint was fitted to decide, if they lower the verdict.

    They can show that its teacher is wrong. If it is right, that says little about other prompts.

    Args:
        found: Agreement on prompts left out of the fit, of which too few have a label.
        fitted: Agreement on labelled prompts of the same buckets, most of them fitted.
        teaching: Quality of the imprint's teaching.
    """
    labels = fitted.labels
    if labels is None or not labels.decide:
        return found
    # `by_bucket` is empty for a single bucket.
    by_bucket = {one.bucket: labels for one in fitted.answers}
    by_bucket |= {part.bucket: part.labels or labels for part in fitted.by_bucket}
    labelled = replace(
        found,
        labels=labels,
        by_bucket=tuple(
            replace(part, labels=by_bucket.get(part.bucket, part.labels))
            for part in found.by_bucket
        ),
        # Answers of buckets without labels do not decide, but are shown.
        answers=(
            *fitted.answers,
            *(one for one in found.answers if one.bucket not in by_bucket),
        ),
    )
    before, after = (_badness(judge(one, teaching)) for one in (found, labelled))
    return labelled if after > before else found


def _badness(verdict: AdapterVerdict) -> tuple[int, int]:
    """Return a sort key by which worse verdicts come later."""
    return _BEST_FIRST.index(verdict.degree), get_args(Outcome).index(verdict.outcome)


def are_alike(share: float, number: int) -> bool:
    """Return whether answers ignore their inputs, by the share of the most common one."""
    return number >= _ENOUGH and share >= _ALIKE


def _all_right(labels: Labels | None) -> bool:
    return labels is not None and labels.right == labels.number


def imprinting_of(adapter: "Adapter") -> Imprinting | None:
    """Return how an adapter was imprinted; None if it was not, or was trained since."""
    if not adapter.is_imprinted or adapter.was_trained:
        return None
    return Imprinting.from_json(adapter.provenance["imprint"])


def sure_of(sureness: float) -> Sure:
    """Return the word for the band of a sureness."""
    (_, partly), (_, sure), _ = SURENESS_BANDS
    if sureness < partly:
        return "unsure"
    return "partly" if sureness < sure else "sure"
