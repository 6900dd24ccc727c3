"""Records which prompts an adapter has seen, as short digests in its provenance, never as text.

A prompt with an instruction has two digests: of the whole and of its input alone, because labelled
rows often hold only the input. Earlier versions listed whole prompts only.

A digest is 32 bits of SHA-256. That is enough to keep seen prompts out of a score. Among thousands
of rows, one may be excluded by a chance collision, which does no harm.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dnd_engine.limits import FIXED
from dnd_engine.prompts.split import split_prompt

_READ, _LEARNT = "prompts_read", "labels_learnt"
"""Provenance entries with space-separated digests: the prompts, and their inputs, that the adapter
was made from or refined on, and those whose labels it was trained on."""

_UNTOLD = "met_untold"
"""Set if the adapter saw more prompts than are listed, or started from one whose prompts are
unknown."""

_HEX = 8


def digest(text: str) -> str:
    """Return the digest of a prompt. White space does not matter."""
    return hashlib.sha256(" ".join(text.split()).encode()).hexdigest()[:_HEX]


def digests(texts: Iterable[str]) -> frozenset[str]:
    """Return the digests of several prompts."""
    return frozenset(digest(text) for text in texts)


def with_inputs(texts: Iterable[str]) -> frozenset[str]:
    """Return the digests of several prompts, and of their inputs without the instruction."""
    return digests(part for text in texts for part in (text, split_prompt(text).bare))


def with_met(
    provenance: Mapping[str, Any],
    texts: Iterable[str],
    *,
    labels: bool,
    after: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a provenance that also lists these prompts and their inputs.

    It lists none if they are more than `max_listed_prompts`, which its reader would refuse.

    Args:
        provenance: Provenance of the new adapter.
        texts: Prompts that it was made from, refined on or trained on.
        labels: Whether it was trained on their labels.
        after: Provenance of the adapter it started from, if any.
    """
    entry = _LEARNT if labels else _READ
    found = _found(provenance, entry) | with_inputs(texts)
    too_many = len(found) > 2 * FIXED.max_listed_prompts
    # Sorted, so that the order reveals nothing about the file.
    listed = "" if too_many else " ".join(sorted(found))
    # An adapter that starts from an unknown one stays unknown, whatever it lists later.
    unknown = too_many or (after is not None and not Seen.by(after).known)
    return {**provenance, **({_UNTOLD: True} if unknown else {}), entry: listed}


@dataclass(frozen=True, slots=True)
class Seen:
    """The prompts that an adapter has seen."""

    read: frozenset[str]
    """Digests of the prompts it was made from and of their inputs, without labels."""
    learnt: frozenset[str]
    """Digests of the prompts whose labels it was trained on, and of their inputs."""
    known: bool
    """Whether the adapter lists its prompts. Adapters from other tools and earlier versions do
    not, nor those of very many prompts."""

    @classmethod
    def by(cls, provenance: Mapping[str, Any]) -> "Seen":
        """Read a provenance, which may come from an untrusted file."""
        # What was made from prompts must list those it read; a LoRA from labels alone read none.
        generated = "generator_sha256" in provenance or "imprint" in provenance
        known = (_READ if generated else _LEARNT) in provenance and _UNTOLD not in provenance
        return cls(_found(provenance, _READ), _found(provenance, _LEARNT), known)


def _found(provenance: Mapping[str, Any], entry: str) -> frozenset[str]:
    listed = provenance.get(entry)
    return frozenset(listed.split()) if isinstance(listed, str) else frozenset()
