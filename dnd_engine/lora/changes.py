"""How an adapter was changed after generation, as its provenance tells.

In a file from elsewhere, the sections of a provenance may be of any type.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

_ALIKE = 0.9
"""Share of identical answers from which on an adapter was taught that answer, not a task."""

AnsweredBy = Literal["labels", "person", "teacher"]
"""Source of the answers that an adapter was trained on: labels in files, a person, or a better
model."""

ChangedBy = Literal["imprint", "itself", "itself_alike"] | AnsweredBy
"""How an adapter was changed after generation: by an imprint, or by training on the base's own
answers, on the base's one answer to nearly all prompts, or on another's answers."""


def answered_by(trained: object) -> AnsweredBy:
    """Return the source of answers that the training section of a provenance names."""
    by = trained.get("answers") if isinstance(trained, Mapping) else None
    return by if by in ("person", "teacher") else "labels"


def changed_by(provenance: Mapping[str, Any]) -> ChangedBy | None:
    """Return how an adapter was changed after generation; None if it was not.

    Training on another's answers takes precedence over a refinement, and that over an imprint.
    """
    if "trained" in provenance:
        return answered_by(provenance["trained"])
    if "refined" in provenance:
        refined = provenance["refined"]
        if isinstance(refined, Mapping) and refined.get("labels"):
            return "labels"
        return "itself_alike" if taught_alike(refined) else "itself"
    return "imprint" if "imprint" in provenance else None


def taught_alike(refined: object) -> bool:
    """Return whether the base taught about one answer to all inputs; labels do not count."""
    if not isinstance(refined, Mapping) or refined.get("labels"):
        return False
    share = refined.get("commonest_share")
    return isinstance(share, float) and share >= _ALIKE


@dataclass(frozen=True, slots=True)
class TaughtScore:
    """Score of teaching on the prompts held back from it."""

    num_held_back: int
    before: float
    now: float
    by_itself: bool
    """Whether the reference is the model's own answers, right or wrong."""
    was_stopped: bool
    """Whether somebody ended it before its last step."""


def taught_score(provenance: Mapping[str, Any]) -> TaughtScore | None:
    """Return the score of teaching; None if it was not taught, or a file has invalid numbers."""
    taught = taught_section(provenance)
    count, before, now = (taught.get(k) for k in ("num_held_back", "score_before", "score"))
    if not (isinstance(count, int) and 0 < count < 1000 and is_share(before) and is_share(now)):
        return None
    return TaughtScore(
        count,
        before,
        now,
        by_itself=taught is provenance.get("refined") and not taught.get("labels"),
        was_stopped=taught.get("stop_after") is not None,
    )


def taught_section(provenance: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the section on how an adapter was taught last; empty if it was not."""
    trained, refined = provenance.get("trained"), provenance.get("refined")
    refined_last = isinstance(trained, Mapping) and trained.get("refined_later")
    taught = refined if refined_last or not trained else trained
    return taught if isinstance(taught, Mapping) else {}


def is_share(value: object) -> TypeGuard[float]:
    """Return whether a value of a provenance is a number from 0 to 1."""
    return isinstance(value, float) and 0 <= value <= 1  # JSON files may contain NaN and infinity
