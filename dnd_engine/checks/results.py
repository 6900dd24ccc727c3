"""What the checks of an adapter found, in plain values, written to JSON and read back.

Numbers only; what is much or little is for the reader, or the window, to say. Imports no torch, so
that whatever only shows results does not wait for it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import TypeAdapter, ValidationError

from dnd_engine.checks.verdict import AdapterVerdict
from dnd_engine.checks.wording import Sentence
from dnd_engine.errors import AdapterError
from dnd_engine.lora.provenance import NearestTask, validation_words
from dnd_engine.wording import N_

if TYPE_CHECKING:
    from dnd_engine.lora.adapter import Adapter

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
    "as_checks",
    "recall",
]

_ENOUGH_PROMPTS = 4
"""The mean of fewer lies farther from everything: of 60 examined tasks one prompt put 8 below all
that was examined, two prompts 2, and four to 32 prompts 1 or 2, that lowest task among them."""

_ENOUGH_ORDINARY = 0.8
"""Share of ordinary messages that an adapter should leave alone."""

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


@dataclass(frozen=True, slots=True)
class Outlook:
    """What adapters like this one did on the unseen tasks that their generator was examined on."""

    n_tasks: int
    """Tasks whose adapters agreed about as often with the model that is told the instruction."""
    gain: float
    """Mean score that these adapters added to the base, on inputs without instruction."""
    low: float
    high: float
    """95 % interval of `gain`."""
    rank_correlation: float | None
    """Correlation of agreement with gain over all examined tasks: about 0 where agreement says
    nothing about gain. None if it could not be measured."""


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

    @property
    def sentences(self) -> tuple[Sentence, ...]:
        """What cards and the command line say: the verdict, its reasons, the side effects."""
        verdict = () if self.verdict is None else (self.verdict.head, *self.verdict.reasons)
        return (*verdict, *(() if self.ordinary is None else (self.ordinary.sentence,)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checks:
    """As `as_checks` writes it, for what reads it back."""

    effect: float | None = None
    agreement: Agreement | None = None
    outlook: Outlook | None = None
    familiarity: Familiarity | None = None
    conditioning: Conditioning | None = None
    ordinary: Ordinary | None = None
    verdict: AdapterVerdict | None = None


_CHECKS = TypeAdapter(_Checks)


def as_checks(
    adapter: "Adapter", found: Inspection, proof: Conditioning | None = None
) -> dict[str, Any]:
    """Put what was measured of an adapter into plain values, for `Adapter.checks`."""
    measured = {
        "strength": adapter.strength,
        "effect": found.effect,
        "agreement": found.agreement and asdict(found.agreement),
        "outlook": found.outlook and asdict(found.outlook),
        "familiarity": found.familiarity and asdict(found.familiarity),
        "conditioning": proof and asdict(proof),
        "ordinary": found.ordinary and asdict(found.ordinary),
        "verdict": found.verdict and asdict(found.verdict),
        # In words too, for the adapter's card: it is written where no check is known.
        "words": [str(sentence) for sentence in found.sentences],
    }
    return {name: value for name, value in measured.items() if value is not None and value != []}


def recall(
    checks: Mapping[str, Any], nearest: Sequence[NearestTask], strongest: float | None
) -> tuple[Inspection | None, Conditioning | None]:
    """Read what was measured before, the reverse of `as_checks`.

    Args:
        checks: Of an adapter that was kept.
        nearest: Its nearest tasks.
        strongest: Of the generator's examination.

    Returns:
        What `as_checks` was given, as far as it is in there; None for what was not measured. How
        many prompts the effect was measured on is not known any more.

    Raises:
        AdapterError: If they are not what `as_checks` writes.
    """
    try:
        kept = _CHECKS.validate_python(checks)
    except ValidationError as error:
        raise AdapterError(
            f"the checks that are kept with the adapter are damaged: {validation_words(error)}. "
            "Measure it anew."
        ) from error
    if kept.effect is None:
        return None, None
    found = Inspection(
        effect=kept.effect,
        relative_norms={},
        nearest_tasks=tuple(nearest),
        num_prompts=0,
        agreement=kept.agreement,
        outlook=kept.outlook,
        strongest=strongest,
        familiarity=kept.familiarity,
        ordinary=kept.ordinary,
        verdict=kept.verdict,
    )
    return found, kept.conditioning
