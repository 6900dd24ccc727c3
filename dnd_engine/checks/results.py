"""What the checks of an adapter found, in plain values, and what that says in words.

`checks.registry` writes them to JSON and reads them back. Imports no torch, so that whatever only
shows results does not wait for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from dnd_engine.checks.verdict import AdapterVerdict
from dnd_engine.checks.wording import Sentence
from dnd_engine.lora.provenance import NearestTask
from dnd_engine.wording import N_

__all__ = [
    "CONTROLS",
    "Agreement",
    "Conditioning",
    "Control",
    "ControlName",
    "Familiarity",
    "Inspection",
    "Ordinary",
    "Outlook",
    "Skills",
]

_ENOUGH_PROMPTS = 4
"""The mean of fewer is farther from everything: of 60 examined tasks one prompt put 8 below all
that was examined, two prompts 2, and four to 32 prompts 1 or 2, that lowest task among them."""

_ENOUGH_ORDINARY = 0.8
"""Share of ordinary messages that an adapter should leave alone."""

_ENOUGH_SKILLS = 0.75
"""Share of what the base answers right that an adapter should too. A few answers change with any
adapter: of 20, five may."""

_ALL_SKILLS = 0.9
"""Share from which nothing is harmed as far as so few questions can tell."""

ControlName = Literal["wrong", "mean", "shuffled", "base"]
CONTROLS: tuple[ControlName, ...] = get_args(ControlName)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often both said the same."""

    same: int
    """Prompts with the same greedy answer, as far as answers are compared."""
    num_prompts: int
    """Prompts that were asked; only those with a blank line between instruction and input can."""
    left_out: bool = False
    """Whether these prompts took no part in the fit of an imprint."""
    wavering: int = 0
    """Prompts whose answer the instructed model itself finds unlikely."""

    @property
    def share(self) -> float:
        """Share of the prompts."""
        return self.same / self.num_prompts


@dataclass(frozen=True, slots=True)
class Ordinary:
    """How often ordinary messages are answered as the base answers them."""

    same: int
    """Messages whose answer by the base is at most `limit` less likely."""
    num_messages: int
    limit: float
    """Nats per token."""

    @property
    def share(self) -> float:
        """Share of the messages."""
        return self.same / self.num_messages

    @property
    def enough(self) -> bool:
        """Whether the adapter leaves the rest alone."""
        return self.share >= _ENOUGH_ORDINARY

    @property
    def sentence(self) -> Sentence:
        """What was found, in words."""
        return Sentence(
            N_("It answers {same} of {number} ordinary messages as the base does."),
            {"same": self.same, "number": self.num_messages},
        )


@dataclass(frozen=True, slots=True)
class Skills:
    """How many unrelated questions with known answers are answered right."""

    before: int
    """By the base."""
    after: int
    """With the adapter."""
    lost: int
    """Right before, wrong after."""
    num_questions: int

    @property
    def all_kept(self) -> bool:
        """Whether the adapter harms nothing that shows."""
        return self.after >= _ALL_SKILLS * self.before

    @property
    def enough(self) -> bool:
        """Whether the adapter harms little of what the base can do."""
        return self.after >= _ENOUGH_SKILLS * self.before

    @property
    def sentence(self) -> Sentence:
        """What was found, in words."""
        return Sentence(
            N_(
                "It answers {after} of {number} unrelated questions right (sums, plurals, facts); "
                "the base answers {before}. Right before and wrong now: {lost}."
            ),
            {
                "after": self.after,
                "number": self.num_questions,
                "before": self.before,
                "lost": self.lost,
            },
        )


@dataclass(frozen=True, slots=True)
class Control:
    """How another adapter, or none, fares on the same prompts."""

    name: ControlName
    nll: float
    """Loss on the instructed model's answers, nats per token."""
    saved: float
    """Nats per token by which the adapter itself is better: mean over the prompts."""
    low: float
    high: float
    """95 % interval of `saved`: Student's t over the paired differences."""


@dataclass(frozen=True, slots=True)
class Conditioning:
    """An adapter beside its controls."""

    nll: float
    num_prompts: int
    """Prompts measured on. The adapter was made from them, so this is no examination."""
    controls: tuple[Control, ...]
    wrong_from: tuple[str, ...]
    """Names of the buckets that the wrong adapters were made from."""

    @property
    def depends(self) -> bool:
        """Whether it is clearly better than adapters made from other prompts, and than the mean.

        One made from shuffled prompts may be as good: often the words alone tell the task.
        """
        return all(c.low > 0 for c in self.controls if c.name in ("wrong", "mean"))

    @property
    def sentences(self) -> tuple[Sentence, ...]:
        """What was found, with one sentence for each control."""
        head = N_("It depends on the {number} prompts that it was compared on.")
        if not self.depends:
            head = N_("No evidence, on {number} prompts, that it depends on them.")
        names = ", ".join(self.wrong_from)
        return (
            Sentence(head, {"number": self.num_prompts}),
            *(
                Sentence(
                    _BESIDE[control.name],
                    {
                        **{"saved": control.saved, "low": control.low, "high": control.high},
                        **({"names": names} if control.name == "wrong" else {}),
                    },
                )
                for control in self.controls
            ),
        )


_BESIDE: Mapping[ControlName, str] = {
    "wrong": N_(
        "It saves {saved:+.2f} nats per token ({low:+.2f} to {high:+.2f}) over an adapter made "
        "from other prompts ({names})."
    ),
    "mean": N_(
        "It saves {saved:+.2f} nats per token ({low:+.2f} to {high:+.2f}) over what all adapters "
        "of its generator share."
    ),
    "shuffled": N_(
        "It saves {saved:+.2f} nats per token ({low:+.2f} to {high:+.2f}) over an adapter made "
        "from the same prompts with their words shuffled."
    ),
    "base": N_(
        "It saves {saved:+.2f} nats per token ({low:+.2f} to {high:+.2f}) over the base alone."
    ),
}
"""Losses are those of the model's own answers with the instruction."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What adapters like this one did on the unseen tasks that their generator was examined on."""

    n_tasks: int
    """Tasks whose adapters agreed about as often with the instructed model."""
    gain: float
    """Mean score that these adapters added to the base, on inputs without instruction."""
    low: float
    high: float
    """95 % interval of `gain`."""
    rank_correlation: float | None
    """Correlation of agreement with gain over all examined tasks: about 0 where agreement says
    nothing about gain. None if it could not be measured."""

    @property
    def sentence(self) -> Sentence:
        """What to expect, in words."""
        message = N_(
            "On {n_tasks} unseen tasks with about as much agreement, adapters of this generator "
            "changed the score by {gain:+.2f} ({low:+.2f} to {high:+.2f}) without the instruction."
        )
        values = {"gain": self.gain, "low": self.low, "high": self.high}
        return Sentence(message, {"n_tasks": self.n_tasks, **values})


@dataclass(frozen=True, slots=True)
class Familiarity:
    """How near prompts are to training, beside the unseen tasks that the generator was examined on.

    Nearness is the cosine of the mean embedding to that of the nearest training task.
    """

    similarity: float
    num_prompts: int
    """Prompts that it is the mean of."""
    lowest: float
    highest: float
    """How near the least and the most familiar examined tasks were."""
    n_tasks: int
    """Tasks that were examined."""
    rank_correlation: float | None
    """Correlation of nearness with gain over them: about 0 where nearness says nothing about gain.
    None if it could not be measured."""
    low: float | None
    high: float | None
    """95 % interval of `rank_correlation`."""

    @property
    def is_unlike(self) -> bool:
        """Whether enough prompts are farther from training than all that was ever examined."""
        return self.num_prompts >= _ENOUGH_PROMPTS and self.similarity < self.lowest

    @property
    def sentence(self) -> Sentence:
        """Where the prompts are, in words."""
        message = N_(
            "The nearest training task is at cosine {similarity:.2f}; the {n_tasks} unseen tasks "
            "of the generator's evaluation were at {lowest:.2f} to {highest:.2f}."
        )
        if self.is_unlike:
            message = N_(
                "The nearest training task is at cosine {similarity:.2f}; the {n_tasks} unseen "
                "tasks of the generator's evaluation were at {lowest:.2f} to {highest:.2f}, so "
                "their results may not hold here."
            )
        return Sentence(
            message,
            {
                **{"similarity": self.similarity, "n_tasks": self.n_tasks},
                **{"lowest": self.lowest, "highest": self.highest},
            },
        )


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was measured of one adapter."""

    effect: float | None
    """Mean KL(adapted ‖ base) of the first answer token over the prompts, in nats; None without
    prompts."""
    relative_norms: Mapping[str, tuple[float, ...]]
    """Module name to ‖ΔW‖/‖W‖ (Frobenius) of each layer."""
    nearest_tasks: tuple[NearestTask, ...]
    num_prompts: int
    """Prompts that `effect` was measured on."""
    agreement: Agreement | None = None
    """Whether the adapter carries the instruction; None without prompts that can say, or if it was
    refined, and so taught what is asked here."""
    outlook: Outlook | None = None
    """None without `agreement`, or if no examined adapter agreed about as often."""
    strongest: float | None = None
    """Largest effect of an adapter in the generator's examination, in nats; None without one."""
    familiarity: Familiarity | None = None
    """None if the nearest tasks are unknown, or without an examination."""
    ordinary: Ordinary | None = None
    """Whether ordinary messages are answered as before; None where it was not measured."""
    verdict: AdapterVerdict | None = None
    """Whether it works without the instruction; None where `agreement` is."""
    skills: Skills | None = None
    """Whether unrelated answers stay right; None where it was not measured."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """What checks found that have no field of their own, by their names in the registry."""

    @classmethod
    def of(
        cls,
        results: Mapping[str, Any],
        *,
        relative_norms: Mapping[str, tuple[float, ...]] | None = None,
        nearest_tasks: tuple[NearestTask, ...] = (),
        num_prompts: int = 0,
        strongest: float | None = None,
    ) -> "Inspection":
        """Put together what the checks of the registry found."""
        own = {name: results.get(name) for name in _OWN}
        return cls(
            **own,
            relative_norms=relative_norms or {},
            nearest_tasks=nearest_tasks,
            num_prompts=num_prompts,
            strongest=strongest,
            more={name: result for name, result in results.items() if name not in own},
        )

    def result(self, name: str) -> Any:
        """Return what a check of the registry found; None if it said nothing."""
        return getattr(self, name) if name in _OWN else self.more.get(name)


_OWN = ("effect", "agreement", "outlook", "familiarity", "ordinary", "verdict", "skills")
"""Checks whose results have a field, for what draws them."""
