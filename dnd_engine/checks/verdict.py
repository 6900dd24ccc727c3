"""Whether an adapter works without the instruction, in one sentence and the numbers behind it.

Takes no labels: the reference is the instructed model's own answers, preferably on prompts that an
imprint was not fitted to. So a verdict is only as good as the instructed model, and says so where
that model's answers are poor. Imports no torch.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from dnd_engine.checks.wording import Sentence
from dnd_engine.config import AGREEMENT_BANDS
from dnd_engine.lora.provenance import Imprinting
from dnd_engine.wording import N_

if TYPE_CHECKING:
    from dnd_engine.lora.adapter import Adapter

Outcome = Literal["works", "with_instruction", "fails"]
"""Works without the instruction; only with it; or does not even work with it."""

WORKS = AGREEMENT_BANDS[-1][0]
"""Share of prompts answered as the instructed model does, from which on an adapter "works"."""

MOSTLY = 0.75
"""Share from which on the sentence needs no numbers. Between `WORKS` and this it states them, so
that an adapter that works for every second prompt does not sound perfect."""

_POOR = 0.5
"""Share of unsure answers of the instructed model, above which the verdict blames them."""

_ALIKE = 0.9
"""Share of identical answers of the instructed model, from which on they ignore the inputs."""

_ENOUGH = 4
"""Minimum number of answers; fewer may be equal by chance."""

_HEADS: dict[Outcome, str] = {
    "works": N_("It works without the instruction."),
    "with_instruction": N_("It works only with the instruction."),
    "fails": N_("It does not work: teach it."),
}
_PARTLY = N_("It works without the instruction for some prompts only: {same} of {number}.")
_RARELY = N_("It rarely works without the instruction: for {same} of {number} prompts.")


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


@dataclass(frozen=True, slots=True)
class BucketShare:
    """Agreement on the prompts of one of several buckets."""

    bucket: str
    same: int
    num_prompts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterVerdict:
    """Whether an adapter works, and why."""

    outcome: Outcome
    same: int
    """Prompts that it answers without the instruction as the instructed model does with it."""
    num_prompts: int
    left_out: bool
    """Whether an imprint was not fitted to these prompts."""
    wavering: int
    """Prompts whose answer the instructed model itself is unsure of."""
    teaching: Teaching | None = None
    """Quality of the imprint's teaching; None for an adapter that is not imprinted."""
    by_bucket: tuple[BucketShare, ...] = ()
    """Parts of `same` and `num_prompts`; empty for one bucket, or if they are not known."""

    @property
    def warns(self) -> bool:
        """Return whether to warn before use: it was made to work without the instruction."""
        return self.outcome != "works"

    @property
    def works_partly(self) -> bool:
        """Return whether it works, but for so few prompts that the numbers must be stated."""
        return self.outcome == "works" and self.same < MOSTLY * self.num_prompts

    @property
    def head(self) -> Sentence:
        """Return the verdict itself."""
        if self.works_partly:
            return Sentence(_PARTLY, self._counts)
        if self.outcome == "with_instruction" and self.same:
            return Sentence(_RARELY, self._counts)
        return Sentence(_HEADS[self.outcome])

    @property
    def reasons(self) -> tuple[Sentence, ...]:
        """Return the numbers behind the verdict."""
        if self.left_out:
            told = N_(
                "Without the instruction it answers {same} of {number} prompts that it was not "
                "fitted to as the model does with it."
            )
        elif self.teaching is not None:
            told = N_(
                "Without the instruction it answers {same} of {number} prompts as the model does "
                "with it. It was fitted to these prompts: 8 or more leave some out for this check."
            )
        else:
            told = N_(
                "Without the instruction it answers {same} of {number} prompts as the model does "
                "with it."
            )
        found = [Sentence(told, self._counts)]
        for part in self.by_bucket:
            counts = {"same": part.same, "number": part.num_prompts}
            found.append(
                Sentence(N_("{bucket}: {same} of {number}."), {"bucket": part.bucket, **counts})
            )
        found += self.causes
        if (teaching := self.teaching) is not None:
            if teaching.unfinished:
                found.append(
                    Sentence(
                        N_(
                            "With the instruction, {unfinished} of {number} answers were cut off "
                            "before their end."
                        ),
                        {"unfinished": teaching.unfinished, "number": teaching.num_prompts},
                    )
                )
            if teaching.explained > 0:
                found.append(
                    Sentence(
                        N_(
                            "The fit predicts {share:.0%} of the change for prompts left out of it."
                        ),
                        {"share": teaching.explained},
                    )
                )
        return tuple(found)

    @property
    def causes(self) -> tuple[Sentence, ...]:
        """Return those reasons for which it fails: the instructed model's answers are poor."""
        found = []
        if _wavers(self.wavering, self.num_prompts):
            found.append(
                Sentence(
                    N_(
                        "Even with the instruction, the model is unsure of its answer to "
                        "{wavering} of {number} prompts."
                    ),
                    {"wavering": self.wavering, "number": self.num_prompts},
                )
            )
        if self.teaching is not None and _one_answer(self.teaching):
            found.append(
                Sentence(
                    N_(
                        "Even with the instruction, the model gives one and the same answer to "
                        "{share:.0%} of the prompts."
                    ),
                    {"share": self.teaching.commonest_share},
                )
            )
        return tuple(found)

    @property
    def _counts(self) -> dict[str, Any]:
        return {"same": self.same, "number": self.num_prompts}


def judge(
    *,
    same: int,
    num_prompts: int,
    left_out: bool,
    wavering: int,
    teaching: Teaching | None = None,
    by_bucket: tuple[BucketShare, ...] = (),
) -> AdapterVerdict:
    """Choose the verdict; see `AdapterVerdict` for the arguments."""
    outcome: Outcome = "works" if same >= WORKS * num_prompts else "with_instruction"
    # `unfinished` does not count: tasks with long answers would always fail.
    poor = _wavers(wavering, num_prompts) or (teaching is not None and _one_answer(teaching))
    # Agreeing with poor answers is no success.
    if poor:
        outcome = "fails"
    return AdapterVerdict(
        outcome=outcome,
        same=same,
        num_prompts=num_prompts,
        left_out=left_out,
        wavering=wavering,
        teaching=teaching,
        by_bucket=by_bucket,
    )


def imprinting_of(adapter: "Adapter") -> Imprinting | None:
    """Return how an adapter was imprinted; None if it was not, or was trained since."""
    if not adapter.is_imprinted or adapter.was_trained:
        return None
    return Imprinting.from_json(adapter.provenance["imprint"])


def _wavers(wavering: int, num_prompts: int) -> bool:
    return wavering > _POOR * num_prompts


def _one_answer(teaching: Teaching) -> bool:
    return teaching.num_prompts >= _ENOUGH and teaching.commonest_share >= _ALIKE
