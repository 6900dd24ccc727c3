"""The registry of checks, which need no labels, and use those of the prompts if there are some.

Running a check, its JSON and its words each have one place. `Engine.inspect`, cards, the command
line, the API and the page go through `CHECKS`. Imports no torch until a check runs.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from dnd_engine.checks.results import (
    Conditioning,
    Familiarity,
    Inspection,
    Ordinary,
    Outlook,
    Precedent,
    Skills,
)
from dnd_engine.checks.verdict import (
    AdapterVerdict,
    Agreement,
    Teaching,
    imprinting_of,
    judge,
    lowered,
)
from dnd_engine.errors import AdapterError, ConfigError
from dnd_engine.lora.provenance import NearestTask
from dnd_engine.recipe_file import validation_words

if TYPE_CHECKING:
    from dnd_engine.checks.subject import Subject
    from dnd_engine.lora.adapter import Adapter


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One question about an adapter."""

    result: Any
    """Type of the result: a number, or a frozen dataclass of plain values that converts to JSON and
    back."""
    run: Callable[..., Any] | None
    """Measures, given a `Subject` and the results of `needs`; returns None if it does not apply.
    None for a slow check that runs only on request."""
    needs: tuple[str, ...] = ()
    """Checks that run before it, because it takes their results; None if they do not apply."""
    words: Callable[[Any], Sequence[str]]
    """Describes the result for cards and the command line. The page shows this of checks that it
    does not draw itself, and translates what are notes."""


def run_checks(subject: "Subject", only: Collection[str] | None = None) -> dict[str, Any]:
    """Run all checks and omit those that do not apply.

    `only` names the checks to run, with those that they need; None is all.

    Raises:
        ConfigError: If `only` names an unknown check.
    """
    if unknown := sorted({*(only or ())} - CHECKS.keys()):
        raise ConfigError(f"unknown check `{unknown[0]}`; known are {', '.join(CHECKS)}.")
    found: dict[str, Any] = {}

    def result(name: str) -> Any:
        if name not in found:
            check = CHECKS[name]
            needed = [result(other) for other in check.needs]
            found[name] = None if check.run is None else check.run(subject, *needed)
        return found[name]

    for name in CHECKS:
        if only is None or name in only:
            result(name)
    return {name: one for name, one in found.items() if one is not None}


def inspected(found: Inspection, proof: Conditioning | None = None) -> dict[str, Any]:
    """Return all results by the names of their checks, in plain values for JSON."""
    return {
        name: TypeAdapter(check.result).dump_python(result, mode="json")
        for name, check, result in _results(found, proof)
    }


def words(found: Inspection, proof: Conditioning | None = None) -> list[str]:
    """Describe all results in words, check by check."""
    return [said for _, check, result in _results(found, proof) for said in check.words(result)]


def _results(found: Inspection, proof: Conditioning | None) -> list[tuple[str, Check, Any]]:
    pairs = ((name, proof if name == "conditioning" else found.result(name)) for name in CHECKS)
    return [(name, CHECKS[name], result) for name, result in pairs if result is not None]


def as_checks(adapter: "Adapter", found: Inspection, proof: Conditioning | None) -> dict[str, Any]:
    """Convert the results of an adapter's checks to plain values, for `Adapter.checks`."""
    measured = {"strength": adapter.strength, **inspected(found, proof)}
    # Include the words, because the card is written by code that knows no checks.
    if said := words(found, proof):
        measured["words"] = said
    return measured


def recall(
    checks: Mapping[str, Any], nearest: Sequence[NearestTask], strongest: float | None
) -> tuple[Inspection | None, Conditioning | None]:
    """Restore earlier results from `Adapter.checks`; the inverse of `as_checks`.

    Returns:
        The arguments of `as_checks`; None for what was not measured, and for all of it if nothing
        was measured on prompts. The number of prompts behind the effect is not stored.

    Raises:
        AdapterError: If `checks` is not what `as_checks` writes.
    """
    kept = {
        name: _read(name, check, checks[name])
        for name, check in CHECKS.items()
        if checks.get(name) is not None
    }
    if "effect" not in kept:
        return None, None
    proof = kept.pop("conditioning", None)
    verdict = kept.get("verdict")
    if verdict is not None and verdict.teaching is not None:
        # Earlier versions kept one of imprints, too, though it is about adapters before theirs.
        kept.pop("outlook", None)
    return Inspection.of(kept, nearest_tasks=tuple(nearest), strongest=strongest), proof


def _read(name: str, check: Check, value: Any) -> Any:
    try:
        return TypeAdapter(check.result).validate_python(value)
    except ValidationError as error:
        raise AdapterError(
            "the checks that are kept with the adapter are damaged: `{name}`: {faults}. Measure "
            "it again.",
            name=name,
            faults=validation_words(error),
        ) from error


def _effect(subject: "Subject") -> float | None:
    from dnd_engine.checks.effect import effect

    if not subject.prompts:
        return None
    return effect(subject.runtime, subject.fitted, subject.adapter.strength, subject.prompts)


def _effect_words(effect: float) -> list[str]:
    return [f"Effect: {effect:.3g} nats (KL from the base, first token of the answer)."]


def _agreement(subject: "Subject") -> Agreement | None:
    from dnd_engine.checks.agreement import agreement

    # A trained adapter has learnt these very answers, so its agreement would say nothing.
    if not subject.prompts or subject.adapter.was_trained:
        return None
    # Prompts left out of the imprint come first: the adapter nearly always agrees on the others.
    agrees: Agreement | None = None
    for left_out, references in subject.references():
        if agrees is None:
            agrees = agreement(
                subject.runtime,
                subject.fitted,
                references,
                left_out=left_out,
                labels=subject.labels,
            )
        elif agrees.labels is None or not agrees.labels.decide:
            # Too few left-out prompts have labels to decide; those of fitted ones may refute it.
            labelled = [
                replace(reference, prompts=known)
                for reference in references
                if (known := [text for text in reference.prompts if text in subject.labels])
            ]
            more = agreement(subject.runtime, subject.fitted, labelled, labels=subject.labels)
            agrees = agrees if more is None else lowered(agrees, more, _teaching(subject))
    return agrees


def _verdict(subject: "Subject", agrees: Agreement | None) -> AdapterVerdict | None:
    if agrees is None:
        return None
    return judge(agrees, _teaching(subject))


def _teaching(subject: "Subject") -> Teaching | None:
    imprinting = imprinting_of(subject.adapter)
    if imprinting is None:
        return None
    return Teaching(
        num_prompts=imprinting.num_prompts,
        commonest_share=imprinting.commonest_share,
        one_answer=imprinting.one_answer,
        unfinished=imprinting.unfinished,
        explained=imprinting.explained,
    )


def _outlook(subject: "Subject", agrees: Agreement | None) -> Outlook | None:
    from dnd_engine.checks.familiarity import outlook

    # The evaluated agreement and gain are those of adapters before their imprint.
    if subject.adapter.is_imprinted:
        return None
    return outlook(agrees, subject.report)


def _precedent(subject: "Subject", verdict: AdapterVerdict | None) -> Precedent | None:
    from dnd_engine.checks.familiarity import precedent

    imprinting, gauge = imprinting_of(subject.adapter), subject.verdict_gauge
    if imprinting is None or gauge is None:
        return None
    # What was measured of one teacher does not hold for another.
    if imprinting.teacher == "base" or imprinting.teacher_sha256 != gauge.teacher_sha256:
        return None
    return precedent(verdict, gauge)


def _ordinary(subject: "Subject") -> Ordinary:
    from dnd_engine.checks.ordinary import ordinary_share

    return ordinary_share(subject.runtime, subject.fitted, subject.base_answers())


def _skills(subject: "Subject") -> Skills:
    from dnd_engine.checks.skills import skills

    return skills(subject.runtime, subject.fitted, subject.base_answers().known)


def _familiarity(subject: "Subject") -> Familiarity | None:
    from dnd_engine.checks.familiarity import familiarity

    return familiarity(subject.nearest, subject.adapter.num_prompts, subject.report)


CHECKS: dict[str, Check] = {
    "effect": Check(result=float, run=_effect, words=_effect_words),
    # The verdict already states the agreement.
    "agreement": Check(result=Agreement, run=_agreement, words=lambda found: ()),
    "verdict": Check(
        result=AdapterVerdict,
        run=_verdict,
        needs=("agreement",),
        words=lambda found: found.sentences,
    ),
    "outlook": Check(
        result=Outlook, run=_outlook, needs=("agreement",), words=lambda found: (found.sentence,)
    ),
    "precedent": Check(
        result=Precedent, run=_precedent, needs=("verdict",), words=lambda found: (found.sentence,)
    ),
    "ordinary": Check(result=Ordinary, run=_ordinary, words=lambda found: (found.sentence,)),
    "skills": Check(result=Skills, run=_skills, words=lambda found: (found.sentence,)),
    "familiarity": Check(
        result=Familiarity, run=_familiarity, words=lambda found: (found.sentence,)
    ),
    # Runs only on request, because it makes other adapters to compare with; see `Engine.prove`.
    "conditioning": Check(result=Conditioning, run=None, words=lambda found: found.sentences),
}
"""Checks by their names in JSON, in the order in which they are reported."""
