"""Results of an adapter's checks, as plain values and in words.

`checks.registry` converts them to JSON and back. Sentences that the page shows are notes; it draws
other results itself. Imports no torch, so that code that only shows results does not wait for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from dnd_engine.checks.verdict import AdapterVerdict, Agreement, Sure, sure_of
from dnd_engine.lora.provenance import NearestTask
from dnd_engine.notes import Note, noted
from dnd_engine.wording import CONTROLS_AS_SUBJECTS

_ENOUGH_PROMPTS = 4
"""The mean of fewer prompts is farther from everything. Of 60 evaluated tasks, one prompt put 8
below the lowest evaluated one, two prompts 2, and four to 32 prompts 1 or 2, including that lowest
task."""

_ENOUGH_ORDINARY = 0.8
"""Share of ordinary messages that an adapter should leave alone."""

_FEW_CHANGED = 0.25
"""Share of changed messages up to which they are a few."""

_MOST_ORDINARY = 0.5
"""Share below which it changes most of them."""

_ENOUGH_SKILLS = 0.75
"""Share of the base's right answers that an adapter should keep. A few answers change with any
adapter: of 20, five may."""

_ALL_SKILLS = 0.9
"""Share from which on so few questions show no harm."""

ControlName = Literal["wrong", "mean", "shuffled", "base"]
CONTROLS: tuple[ControlName, ...] = get_args(ControlName)


@dataclass(frozen=True, slots=True)
class Ordinary:
    """How often ordinary messages are answered as the base answers them."""

    same: int
    """Messages whose base answer becomes at most `limit` less likely."""
    num_messages: int
    limit: float
    """Allowed increase of the loss, in nats per token."""

    @property
    def share(self) -> float:
        """Return the share of unchanged messages."""
        return self.same / self.num_messages

    @property
    def enough(self) -> bool:
        """Return whether the adapter leaves enough messages unchanged."""
        return self.share >= _ENOUGH_ORDINARY

    @property
    def few_changed(self) -> bool:
        """Return whether the adapter changes a few messages at most."""
        return self.num_changed <= _FEW_CHANGED * self.num_messages

    @property
    def num_changed(self) -> int:
        """Return the number of messages that are answered otherwise."""
        return self.num_messages - self.same

    @property
    def most_changed(self) -> bool:
        """Return whether the adapter changes most messages."""
        return self.share < _MOST_ORDINARY

    @property
    def sentence(self) -> str:
        """Describe the result."""
        return f"It answers {self.same} of {self.num_messages} ordinary messages as the base does."


@dataclass(frozen=True, slots=True)
class Skills:
    """How many unrelated questions with known answers are answered right."""

    before: int
    """Right answers of the base."""
    after: int
    """Right answers with the adapter."""
    lost: int
    """Questions answered right before and wrong after."""
    num_questions: int

    @property
    def all_kept(self) -> bool:
        """Return whether no harm shows."""
        return self.after >= _ALL_SKILLS * self.before

    @property
    def enough(self) -> bool:
        """Return whether the adapter keeps enough of the base's right answers."""
        return self.after >= _ENOUGH_SKILLS * self.before

    @property
    def sentence(self) -> str:
        """Describe the result."""
        return (
            f"It answers {self.after} of {self.num_questions} unrelated questions right (sums, "
            f"plurals, facts); the base answers {self.before}. Right before and wrong now: "
            f"{self.lost}."
        )


@dataclass(frozen=True, slots=True)
class Control:
    """Score of a control (another adapter, or none) on the same prompts."""

    name: ControlName
    nll: float
    """Loss on the instructed model's answers, nats per token."""
    saved: float
    """Nats per token by which the adapter is better than the control, averaged over prompts."""
    low: float
    """Lower end of the 95 % interval of `saved`: Student's t over the paired differences."""
    high: float
    """Upper end of that interval."""


@dataclass(frozen=True, slots=True)
class Conditioning:
    """An adapter compared with its controls."""

    nll: float
    num_prompts: int
    """Number of prompts. The adapter was made from them, so this is no evaluation on unseen
    data."""
    controls: tuple[Control, ...]
    wrong_from: tuple[str, ...]
    """Names of the buckets behind the wrong adapters."""

    @property
    def depends(self) -> bool:
        """Return whether it clearly beats adapters of other tasks' prompts, and the shared part.

        An adapter made from shuffled prompts may be as good: the words alone often reveal the task.
        """
        lows = [c.low for c in self.controls if c.name in ("wrong", "mean")]
        # Without a generator there may be neither, and then nothing is known.
        return min(lows, default=0) > 0

    @property
    def sentences(self) -> tuple[str, ...]:
        """Describe the result, with one sentence per control."""
        head = f"It depends on the {self.num_prompts} prompts that it was compared on."
        if not self.depends:
            head = f"No evidence, on {self.num_prompts} prompts, that it depends on them."
        return (
            head,
            *(self._beside(control) for control in self.controls),
            "One nat per token makes each token of the answers 2.7 times as likely.",
        )

    def _beside(self, control: Control) -> str:
        """Compare with one control."""
        other = CONTROLS_AS_SUBJECTS[control.name].format(names=", ".join(self.wrong_from))
        by, low, high = abs(control.saved), control.low, control.high
        if low > 0:
            return f"{other} does worse, by {by:.2f} nats per token ({low:.2f} to {high:.2f})."
        if high < 0:
            return f"{other} does better, by {by:.2f} nats per token ({-high:.2f} to {-low:.2f})."
        return f"{other} does about as well ({low:+.2f} to {high:+.2f} nats per token)."


@dataclass(frozen=True, slots=True)
class Forecast:
    """What to expect of an adapter for some prompts, before it is made."""

    sureness: float
    """Mean probability that the instructed model gives its own greedy answers."""
    num_prompts: int
    """Number of prompts asked."""
    alike: bool = False
    """Whether nearly all of them got one and the same answer."""

    @property
    def sure(self) -> Sure:
        """Return how sure the model is, in a word."""
        return sure_of(self.sureness)


@dataclass(frozen=True, slots=True)
class Outlook:
    """Gains of adapters like this one on the unseen tasks of the generator's evaluation."""

    n_tasks: int
    """Number of evaluated tasks whose adapters have similar agreement."""
    gain: float
    """Mean gain in score of their adapters over the base, on inputs without instruction."""
    low: float
    """Lower end of the 95 % interval of `gain`."""
    high: float
    """Upper end of that interval."""
    rank_correlation: float | None
    """Rank correlation of agreement with gain over all evaluated tasks; about 0 if agreement does
    not predict gain. None if it could not be measured."""

    @property
    def sentence(self) -> str:
        """Describe what to expect."""
        return (
            f"On {self.n_tasks} unseen tasks with about as much agreement, adapters of this "
            f"generator changed the score by {self.gain:+.2f} ({self.low:+.2f} to "
            f"{self.high:+.2f}) without the instruction."
        )


@dataclass(frozen=True, slots=True)
class Precedent:
    """Scores of imprinted adapters that got the same verdict in the generator's evaluation."""

    n_tasks: int
    """Number of evaluated tasks, unseen in training, whose adapters got it."""
    score: float
    """Mean score of their adapters on inputs without instruction."""
    low: float
    """Lower end of the 95 % interval of `score`."""
    high: float
    """Upper end of that interval."""

    @property
    def sentence(self) -> Note:
        """Describe what to expect."""
        return noted(
            "On the unseen tasks with this verdict ({n_tasks}), imprinted adapters of this "
            "generator scored {score:.2f} ({low:.2f} to {high:.2f}) without the instruction.",
            n_tasks=self.n_tasks,
            score=self.score,
            low=self.low,
            high=self.high,
        )


@dataclass(frozen=True, slots=True)
class Familiarity:
    """How near prompts are to training, compared with the generator's evaluated unseen tasks.

    Nearness is the cosine of the mean embedding to that of the nearest training task.
    """

    similarity: float
    num_prompts: int
    """Number of prompts behind the mean."""
    lowest: float
    """Nearness of the least familiar evaluated task."""
    highest: float
    """Nearness of the most familiar one."""
    n_tasks: int
    """Number of evaluated tasks."""
    rank_correlation: float | None
    """Rank correlation of nearness with gain over these tasks; about 0 if nearness does not predict
    gain. None if it could not be measured."""
    low: float | None
    """Lower end of the 95 % interval of `rank_correlation`."""
    high: float | None
    """Upper end of that interval."""

    @property
    def is_unlike(self) -> bool:
        """Return whether enough prompts are farther from training than every evaluated task."""
        return self.num_prompts >= _ENOUGH_PROMPTS and self.similarity < self.lowest

    @property
    def sentence(self) -> str:
        """Describe how near the prompts are."""
        doubt = ", so their results may not hold here" if self.is_unlike else ""
        return (
            f"The nearest training task is at cosine {self.similarity:.2f}; the {self.n_tasks} "
            f"unseen tasks of the generator's evaluation were at {self.lowest:.2f} to "
            f"{self.highest:.2f}{doubt}."
        )


@dataclass(frozen=True, slots=True)
class Inspection:
    """Everything that was measured about one adapter."""

    effect: float | None
    """Mean KL(adapted ‖ base) of the first answer token over the prompts, in nats; None without
    prompts."""
    relative_norms: Mapping[str, tuple[float, ...]]
    """Module name to ‖ΔW‖/‖W‖ (Frobenius) of each layer."""
    nearest_tasks: tuple[NearestTask, ...]
    num_prompts: int
    """Number of prompts behind `effect`."""
    agreement: Agreement | None = None
    """Whether the adapter carries the instruction. None without suitable prompts, or if it was
    refined and so trained on these very answers."""
    outlook: Outlook | None = None
    """Expected gain of an adapter that is not imprinted. None without `agreement`, or if no
    evaluated adapter has similar agreement."""
    strongest: float | None = None
    """Largest effect of an adapter in the generator's evaluation, in nats; None without one."""
    familiarity: Familiarity | None = None
    """Nearness to training. None without nearest tasks or an evaluation."""
    ordinary: Ordinary | None = None
    """Whether ordinary messages are answered as before; None if not measured."""
    verdict: AdapterVerdict | None = None
    """Whether it works without the instruction; None without `agreement`."""
    skills: Skills | None = None
    """Whether unrelated answers stay right; None if not measured."""
    precedent: Precedent | None = None
    """Expected score of an imprinted adapter; None if no evaluated one got its verdict."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Results of registered checks that have no field here, by name."""

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
        """Collect the results of the registered checks."""
        own = {name: result for name, result in results.items() if name in _FIELDS}
        return cls(
            **{"effect": None, **own},
            relative_norms=relative_norms or {},
            nearest_tasks=nearest_tasks,
            num_prompts=num_prompts,
            strongest=strongest,
            more={name: result for name, result in results.items() if name not in own},
        )

    def result(self, name: str) -> Any:
        """Return the result of a registered check; None if it did not apply."""
        return getattr(self, name) if name in _FIELDS else self.more.get(name)


_FIELDS = frozenset(field.name for field in fields(Inspection))
"""Names of the fields, among them those of the checks that have one."""
