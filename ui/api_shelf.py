"""Adapters that were made through the API, each under an id that gives access to it."""

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dnd_engine.errors import AdapterError
from dnd_engine.limits import ServerLimits
from dnd_engine.prompts.buckets import Bucket

if TYPE_CHECKING:
    from dnd_engine.checks.results import Inspection
    from dnd_engine.lora.adapter import Adapter


@dataclass(slots=True)
class Kept:
    """An adapter made through the API, with its results."""

    adapter: "Adapter"
    buckets: tuple[Bucket, ...]
    inspection: "Inspection"
    archive: Path
    session: str
    """Gradio session that made it; empty for calls without a session of their own."""
    visitor: str
    """Address of the visitor who made it."""
    key: str
    used: float = field(default_factory=time.monotonic)

    @property
    def num_bytes(self) -> int:
        """Memory of its weights and prompts."""
        return self.adapter.num_bytes + memory_bytes(self.buckets)

    def facts(self) -> dict[str, Any]:
        """Return its properties and check results, for callers."""
        adapter = self.adapter
        return {
            "adapter_id": self.key,
            "name": adapter.name,
            "sha256": adapter.sha256,
            "buckets": {bucket.name: bucket.weight for bucket in self.buckets},
            "strength": adapter.strength,
            "num_prompts": adapter.num_prompts,
            "r": adapter.r,
            "num_parameters": adapter.num_parameters,
            "num_bytes": adapter.num_bytes,
            "imprinted": adapter.is_imprinted,
            "not_imprinted": adapter.not_imprinted,
            "seconds": dict(adapter.seconds),
            "kept_energy": adapter.kept_energy,
            "checks": dict(adapter.checks),
        }


class Shelf:
    """Adapters by id, limited in number, memory and age.

    `forget` is called with the id of each dropped adapter.
    """

    def __init__(self, limits: ServerLimits, forget: Callable[[str], None]) -> None:
        self._limits = limits
        self._forget = forget
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Kept] = OrderedDict()

    def add(self, kept: Kept) -> None:
        """Add an adapter, dropping others if there are too many."""
        with self._lock:
            self._drop_unused()
            self._kept[kept.key] = kept
            if kept.session:
                mine = [one.key for one in self._kept.values() if one.session == kept.session]
                self._drop(mine[: -self._limits.adapters_per_session])
            while len(self._kept) > self._limits.adapters:
                self._drop_one_of_most(lambda one: 1)
            # The new one stays: its id is about to be returned.
            while len(self._kept) > 1 and self._num_bytes > self._limits.adapters_bytes:
                self._drop_one_of_most(lambda one: one.num_bytes)

    @property
    def _num_bytes(self) -> int:
        return sum(one.num_bytes for one in self._kept.values())

    def _drop_one_of_most(self, weigh: Callable[[Kept], int]) -> None:
        """Drop the longest unused adapter of the address that has the most, except the newest.

        So nobody displaces other people's adapters. A client may start a session with each call,
        but has one address.
        """
        *others, _newest = all_kept = [*self._kept.values()]
        held: Counter[tuple[str, ...]] = Counter()
        for one in all_kept:
            held[(one.visitor,)] += weigh(one)
            held[one.visitor, one.session] += weigh(one)
        most = max(others, key=lambda o: (held[(o.visitor,)], held[o.visitor, o.session]))
        self._drop([most.key])

    def get(self, key: str) -> Kept:
        """Return an adapter and mark it as used.

        Raises:
            AdapterError: If there is no adapter with that id.
        """
        with self._lock:
            self._drop_unused()
            kept = self._kept.get(key)
            if kept is None:
                raise AdapterError(
                    f"Adapter id {key[:40]!r}: expected one that `make_adapter` gave, got one that "
                    f"is not known. Ids are forgotten when their session ends, after "
                    f"{self._limits.adapter_seconds // 60} minutes unused, or when newer ones need "
                    "the room. Make the adapter again."
                )
            kept.used = time.monotonic()
            # The dict is in order of use, so the first one of several goes first.
            self._kept.move_to_end(key)
            return kept

    def of(self, session: str) -> list[Kept]:
        """Return the adapters of a session, the last used one at the end."""
        with self._lock:
            self._drop_unused()
            return [kept for kept in self._kept.values() if session and kept.session == session]

    def end(self, session: str) -> None:
        """Drop the adapters of a session."""
        with self._lock:
            self._drop([k.key for k in self._kept.values() if session and k.session == session])

    def _drop_unused(self) -> None:
        since = time.monotonic() - self._limits.adapter_seconds
        self._drop([kept.key for kept in self._kept.values() if kept.used < since])

    def _drop(self, keys: Sequence[str]) -> None:
        for key in keys:
            if self._kept.pop(key, None) is not None:
                self._forget(key)


def memory_bytes(buckets: Sequence[Bucket]) -> int:
    """Return the memory of the prompts, as read."""
    return sum(file.memory_bytes for bucket in buckets for file in bucket.files)
