"""Which prompts an adapter has met, told by short digests in its provenance: texts never leave.

A digest is 32 bits of SHA-256. That suffices to keep met prompts from being scored: among thousands
of rows one may be taken for met by chance, which costs nothing. Knows no models.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Seen", "digests", "with_met"]

_READ, _LEARNT = "prompts_read", "labels_learnt"
"""Entries of a provenance, digests in a row: prompts that the adapter was made from or refined on,
and those whose labels it was trained on."""

_UNTOLD = "met_untold"
"""Present if it began as an adapter that did not say what it was made from."""

_HEX = 8


def digest(text: str) -> str:
    """Of a prompt, up to white space."""
    return hashlib.sha256(" ".join(text.split()).encode()).hexdigest()[:_HEX]


def digests(texts: Iterable[str]) -> frozenset[str]:
    """Of several prompts."""
    return frozenset(digest(text) for text in texts)


def with_met(
    provenance: Mapping[str, Any],
    texts: Iterable[str],
    *,
    labels: bool,
    after: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A provenance that also tells of these prompts.

    Args:
        provenance: Of what was generated, refined or trained.
        texts: Prompts met in doing so.
        labels: Whether their labels were learnt.
        after: Provenance of the adapter that it began as, if it began as one.
    """
    entry = _LEARNT if labels else _READ
    # In an order that tells nothing.
    told = " ".join(sorted(_found(provenance, entry) | digests(texts)))
    untold = {} if after is None or Seen.by(after).known else {_UNTOLD: True}
    return {**provenance, **untold, entry: told}


@dataclass(frozen=True, slots=True)
class Seen:
    """The prompts that an adapter has met."""

    read: frozenset[str]
    """Digests of those it was made from, without their labels."""
    learnt: frozenset[str]
    """Of those whose labels it was trained on."""
    known: bool
    """Whether the adapter says what it was made from; those of other tools, and of earlier
    versions, do not."""

    @classmethod
    def by(cls, provenance: Mapping[str, Any]) -> "Seen":
        """Read a provenance, which may be a stranger's."""
        generated = "generator_sha256" in provenance
        known = (_READ if generated else _LEARNT) in provenance and _UNTOLD not in provenance
        return cls(_found(provenance, _READ), _found(provenance, _LEARNT), known)


def _found(provenance: Mapping[str, Any], entry: str) -> frozenset[str]:
    told = provenance.get(entry)
    return frozenset(told.split()) if isinstance(told, str) else frozenset()
