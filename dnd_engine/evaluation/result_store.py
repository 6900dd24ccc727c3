"""Scores on disk: appended as they come, continued by a second call, refused if settings differ."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TypedDict, TypeVar

from dnd_engine.checks.results import Skills
from dnd_engine.checks.verdict import AdapterVerdict
from dnd_engine.config import Degree
from dnd_engine.errors import ConfigError
from dnd_engine.evaluation.items import EvalItems
from dnd_engine.files import only_call_on, write_whole
from dnd_engine.scoring.scores import IMPRINTED, MODES, REFINED, ItemScore
from dnd_engine.tasks.folder import Mode

_T = TypeVar("_T")

_LORAS = ("other LoRAs", "or name the collection used before")
_LEAVE_OUT = "or leave the row out"
_SOURCES = {
    "multi_task_lora": ("another multi-task LoRA", "or name the one used before"),
    "trained_teacher": ("another teacher", _LEAVE_OUT),
    "steering_vector": ("another teacher", _LEAVE_OUT),
    **dict.fromkeys(IMPRINTED, ("another teacher, or other settings of the imprint", _LEAVE_OUT)),
    **dict.fromkeys(REFINED, ("another teacher, or other settings of refining", _LEAVE_OUT)),
}
"""Row to what differs if its source does, and the other way out; `_LORAS` for all others."""

_Key = tuple[str, str, int, str]
"""Row, mode, draw and task."""


class KeptVerdict(TypedDict):
    """What is kept of the verdict on an imprinted adapter, which is about left-out prompts."""

    same: int
    """Left-out prompts that it answers as the instructed model does."""
    num_prompts: int
    verdict: Degree


@dataclass(slots=True, kw_only=True)
class Findings:
    """What was measured, and what that took."""

    # Without the scores, in the order of the head of a store.
    seconds: dict[str, float] = field(default_factory=dict)
    """Row to what measuring it took."""
    synthesis_seconds: list[float] = field(default_factory=list)
    refine_seconds: dict[str, list[float]] = field(default_factory=dict)
    """Refined row to what refining took, task by task."""
    similarities: dict[str, float] = field(default_factory=dict)
    """Task to the similarity of its prompts to those of the nearest training task."""
    imprint_seconds: dict[str, list[float]] = field(default_factory=dict)
    """Imprinted row to what imprinting took beside the synthesis, task by task."""
    checks: dict[str, dict[str, float | None]] = field(default_factory=dict)
    """Task to `agreement` and `effect` of its first adapter, on the prompts it was made from."""
    sureness: dict[str, float | None] = field(default_factory=dict)
    """Task to how sure the instructed model is of its answers to the prompts; None if it could not
    be asked."""
    ordinary: dict[str, dict[str, float]] = field(default_factory=dict)
    """Row to task to the share of ordinary messages that its first adapter leaves alone."""
    skills: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    """Row to task to how many unrelated questions are answered right `before` and `after` its first
    adapter, of how many (`num_questions`)."""
    adapter_verdicts: dict[str, KeptVerdict | None] = field(default_factory=dict)
    """Task to the verdict on the first adapter of `FORECAST_ROW`; None without left-out prompts."""
    scores: list[ItemScore] = field(default_factory=list)


_HEAD = tuple(each.name for each in fields(Findings) if each.name != "scores")
"""What the head of a store holds of its findings; heads of earlier versions lack some."""


class _Append(TypedDict):
    """The last scores that were to be appended, by which a head knows that they never were."""

    num_scores: int
    """How many the file holds with them."""
    seconds: dict[str, float]
    """Row to what measuring them took."""


@dataclass(slots=True)
class ResultStore:
    """Scores on disk, for exactly one set of settings.

    `scores.jsonl` holds one item score a line and only ever grows; `examination.json` says what the
    scores belong to, and what else was found.
    """

    out: Path
    settings: str
    sources: dict[str, str] = field(default_factory=dict)
    """Row to the hash of what it is made of."""
    found: Findings = field(default_factory=Findings)
    agreed: dict[str, str] = field(default_factory=dict)
    """As `sources`, of the rows that this call measures; written with their first scores."""
    _done: Counter[_Key] = field(default_factory=Counter)
    _last: "_Append" = field(default_factory=lambda: _Append(num_scores=0, seconds={}))

    @classmethod
    def open(cls, out: Path, settings: str, all_items: Sequence[EvalItems]) -> "ResultStore":
        """Start in an empty folder, or continue.

        What a killed run left of a task is forgotten: half a line, or some of its items.

        Raises:
            ConfigError: If the folder holds scores of other settings, or they are damaged or
                cannot be read.
        """
        store = cls(out, settings)
        with _writable(out):
            out.mkdir(parents=True, exist_ok=True)
            if not store._head.exists():
                # Without a head, scores may belong to anything.
                if store._lines.exists():
                    raise store._other()
                write_whole(store._head, store._head_text)
                return store
        try:
            with _readable(out):
                head = json.loads(store._head.read_text(encoding="utf-8"))
                text = store._lines.read_text(encoding="utf-8") if store._lines.exists() else ""
            if head["settings"] != settings:
                raise store._other()
            store.sources = dict(head["sources"])
            for name in _HEAD:
                empty = getattr(store.found, name)
                setattr(store.found, name, type(empty)(head.get(name, empty)))
            # What follows the last line break is a line that a kill cut off. `splitlines` also
            # splits at other characters, but JSON escapes those.
            whole, _, _ = text.rpartition("\n")
            scores = [_score(line) for line in whole.splitlines()]
            store._forget_lost(head.get("last"), len(scores))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            # A ConfigError is a ValueError too, and already says what is wrong.
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(
                f"`{out}` holds damaged scores ({error!r}). Remove the folder, or choose another "
                "--out."
            ) from error
        counts = Counter(map(_key, scores))
        expected = {
            (mode, of_task.slug): len(of_task.asked(mode))
            for of_task in all_items
            for mode in MODES
        }
        store.found.scores = [
            score
            for score in scores
            if counts[_key(score)] == expected.get((score.mode, score.slug))
        ]
        store._done = Counter(map(_key, store.found.scores))
        # A row whose scores are gone may be made of something else this time.
        scored = {score.row for score in store.found.scores}
        store.sources = {row: source for row, source in store.sources.items() if row in scored}
        kept = "".join(map(_line, store.found.scores))
        if kept != text:
            with _appending(out):
                write_whole(store._lines, kept)
        return store

    def _forget_lost(self, last: _Append | None, num_scores: int) -> None:
        """Take back what measuring scores took that a kill kept from being written."""
        # Earlier versions did not say.
        if last is None or num_scores >= last["num_scores"]:
            return
        for row, seconds in last["seconds"].items():
            self.found.seconds[row] = round(max(0.0, self.found.seconds[row] - seconds), 2)

    def agree(self, sources: Mapping[str, str]) -> None:
        """Check what rows are made of; a row measured with another source is refused.

        Raises:
            ConfigError: If it was.
        """
        for row, source in sources.items():
            if self.sources.get(row, source) != source:
                what, way_out = _SOURCES.get(row, _LORAS)
                raise ConfigError(
                    f"`{self.out}` holds scores of the row {row} made with {what}. "
                    f"Choose another --out, {way_out}."
                )
        self.agreed = dict(sources)

    def has(self, row: str, mode: Mode, draw: int, slug: str) -> bool:
        """Whether a task is scored under a row, mode and draw."""
        return self._done[row, mode, draw, slug] > 0

    def add(self, scores: Sequence[ItemScore], row: str, seconds: float) -> None:
        """Append scores, in one write.

        The head comes first: what it says of scores that a kill keeps from being written is found
        again when they are, but the other way round it would be lost.

        Raises:
            ConfigError: If the disk refuses them.
        """
        self._append(scores, {row: seconds} if scores else {})

    def _append(self, scores: Sequence[ItemScore], took: dict[str, float]) -> None:
        for row, seconds in took.items():
            self.found.seconds[row] = round(self.found.seconds.get(row, 0.0) + seconds, 2)
            self.sources[row] = self.agreed[row]
        num_scores = len(self.found.scores) + len(scores)
        self._last = _Append(num_scores=num_scores, seconds=took)
        self._write_head()
        with _appending(self.out), self._lines.open("a", encoding="utf-8") as stream:
            stream.write("".join(map(_line, scores)))
        self.found.scores += scores
        self._done.update(map(_key, scores))

    def known(self, slugs: Set[str]) -> Findings:
        """Return what is known of some tasks under the rows of this call, without what it took."""
        found = self.found
        return Findings(
            similarities=_only(found.similarities, slugs),
            checks=_only(found.checks, slugs),
            sureness=_only(found.sureness, slugs),
            ordinary={row: _only(shares, slugs) for row, shares in found.ordinary.items()},
            skills={row: _only(counts, slugs) for row, counts in found.skills.items()},
            adapter_verdicts=_only(found.adapter_verdicts, slugs),
            # The store that absorbs them must have agreed on every row's source.
            scores=[s for s in found.scores if s.slug in slugs and s.row in self.agreed],
        )

    def absorb(self, found: Findings) -> None:
        """Add what another store holds; what is known already stays as it is."""
        scores = [score for score in found.scores if not self._done[_key(score)]]
        # What a job was told comes without times, so none is counted twice.
        took = {score.row: found.seconds.get(score.row, 0.0) for score in scores}
        ours = self.found
        ours.synthesis_seconds += found.synthesis_seconds
        for row, taken in found.imprint_seconds.items():
            ours.imprint_seconds.setdefault(row, []).extend(taken)
        for row, taken in found.refine_seconds.items():
            ours.refine_seconds.setdefault(row, []).extend(taken)
        ours.similarities |= found.similarities
        ours.checks |= found.checks
        ours.sureness |= found.sureness
        ours.adapter_verdicts |= found.adapter_verdicts
        for row, shares in found.ordinary.items():
            ours.ordinary.setdefault(row, {}).update(shares)
        for row, counts in found.skills.items():
            ours.skills.setdefault(row, {}).update(counts)
        # Last, since it writes the head, which holds all of the above.
        self._append(scores, took)

    def check(
        self, slug: str, agreement: float | None, effect: float | None, similarity: float | None
    ) -> None:
        """Keep what an inspection says of a task's adapter."""
        self.found.checks[slug] = {"agreement": agreement, "effect": effect}
        if similarity is not None:
            self.found.similarities[slug] = similarity
        self._write_head()

    def keep_sureness(self, slug: str, sureness: float | None) -> None:
        """Keep how sure the instructed model is of its answers to a task's prompts."""
        self.found.sureness[slug] = None if sureness is None else round(sureness, 4)
        self._write_head()

    def keep_verdict(self, slug: str, verdict: AdapterVerdict | None) -> None:
        """Keep the verdict that users see on a task's imprinted adapter."""
        self.found.adapter_verdicts[slug] = (
            None
            if verdict is None
            else KeptVerdict(
                same=verdict.same, num_prompts=verdict.num_prompts, verdict=verdict.degree
            )
        )
        self._write_head()

    def has_side_effects(self, row: str, slug: str) -> bool:
        """Whether it is known what a row's first adapter of a task does to other answers."""
        return slug in self.found.ordinary.get(row, {}) and slug in self.found.skills.get(row, {})

    def keep_side_effects(
        self, row: str, shares: Mapping[str, float], found: Mapping[str, Skills]
    ) -> None:
        """Keep by task what a row's first adapters do to other answers.

        These are the share of ordinary messages that are left alone, and the unrelated questions
        that are answered right.
        """
        counts = {
            slug: {"before": one.before, "after": one.after, "num_questions": one.num_questions}
            for slug, one in found.items()
        }
        self.found.ordinary[row] = {**self.found.ordinary.get(row, {}), **shares}
        self.found.skills[row] = {**self.found.skills.get(row, {}), **counts}
        self._write_head()

    @property
    def _head(self) -> Path:
        return self.out / "examination.json"

    @property
    def _lines(self) -> Path:
        return self.out / "scores.jsonl"

    @property
    def _head_text(self) -> str:
        head = {"settings": self.settings, "sources": self.sources, "last": self._last}
        found = {name: getattr(self.found, name) for name in _HEAD}
        return json.dumps(head | found, indent=1) + "\n"

    def _write_head(self) -> None:
        with _appending(self.out):
            write_whole(self._head, self._head_text)

    def _other(self) -> ConfigError:
        return ConfigError(
            f"`{self.out}` holds scores of other settings, other items or another generator. "
            "Choose another --out, or remove it."
        )


@contextmanager
def only_evaluation_in(out: Path) -> Iterator[None]:
    """Keep other calls away from a report folder: each would take the other's scores for damage.

    Raises:
        ConfigError: If another call is writing to it, or it cannot be written to.
    """
    with ExitStack() as held:
        with _writable(out):
            held.enter_context(only_call_on(out))
        yield


@contextmanager
def _naming(out: Path, fault: str, way_out: str) -> Iterator[None]:
    """Say what the system refuses to do with a report folder, and how to go on."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"`{out}` {fault}: {error.strerror or error}. {way_out}") from error


def _writable(out: Path) -> AbstractContextManager[None]:
    return _naming(out, "cannot be a report folder", "Choose another --out.")


def _readable(out: Path) -> AbstractContextManager[None]:
    return _naming(out, "cannot be read", "Remove the folder, or choose another --out.")


def _appending(out: Path) -> AbstractContextManager[None]:
    way_out = "What was measured before is whole: make room, and run the command again."
    return _naming(out, "cannot be written to", way_out)


def _only(values: Mapping[str, _T], slugs: Set[str]) -> dict[str, _T]:
    return {slug: value for slug, value in values.items() if slug in slugs}


def _key(score: ItemScore) -> _Key:
    return score.row, score.mode, score.draw, score.slug


def _score(line: str) -> ItemScore:
    values = dict(json.loads(line))
    # Earlier versions also wrote whether the answer was another operation's.
    values.pop("substituted", None)
    return ItemScore(**values)


def _line(score: ItemScore) -> str:
    return json.dumps(asdict(score)) + "\n"
