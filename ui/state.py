"""What one visit holds: a `Session`, in the `gr.State` of the page that shows it.

A session holds prompts, an adapter and a conversation, never a model or a tensor on a device. It
outlives its page; `ui.visits` finds it again.
"""

import hashlib
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dnd_engine.config import LabelledConfig, MeasureConfig, Sampling
from dnd_engine.library import Entry, Library
from dnd_engine.limits import ServerLimits
from dnd_engine.lora.provenance import AnsweredBy, Recipe, answered_by, taught_alike
from dnd_engine.prompts.buckets import Bucket
from dnd_engine.prompts.files import PromptFile
from dnd_engine.prompts.reading import Choices, Column, Split
from dnd_engine.teach.endpoint import Endpoint
from ui.canvas import Arrangement
from ui.engine_calls import Stop
from ui.stages import RunKind, Stages
from ui.text import ENGLISH

if TYPE_CHECKING:
    from dnd_engine.checks.results import Conditioning, Inspection
    from dnd_engine.lora.adapter import Adapter
    from dnd_engine.measure.kept import Scores
    from dnd_engine.measure.results import Measurement
    from dnd_engine.models.encoder import PromptMemory
    from dnd_engine.models.replies import Reply

__all__ = [
    "TRAINED",
    "Answer",
    "AskMode",
    "Batch",
    "Found",
    "Kept",
    "Made",
    "MeasureRun",
    "Place",
    "Proposed",
    "Reading",
    "RemoteSide",
    "Run",
    "Session",
    "SessionFiles",
    "Taught",
    "Turn",
    "Typed",
    "Vote",
]

Taught = Literal[
    "",
    "imprinted",
    "refined",
    "refined_alike",
    "trained_labels",
    "trained_person",
    "trained_teacher",
]
"""What became of an adapter since the generator wrote it: its instruction imprinted, or trained on
its own prompts, on those with one answer for all of them, or on the answers of somebody else."""

TRAINED: Mapping[AnsweredBy, Taught] = {
    "labels": "trained_labels",
    "person": "trained_person",
    "teacher": "trained_teacher",
}
"""What became of an adapter that was trained on somebody's answers."""

AskMode = Literal["told", "written", "bare"]
"""What is sent: the instruction to the left side only, the question as written, or its input
alone."""

Place = Literal["left", "right"]
"""The base, or what is compared in its place, is left; the adapter in the bar is right."""

Vote = Literal["left", "right", "tie", "bad"]
"""Which answer is better; both bad is not a tie."""


PROMPTS = "prompts-"
"""Beginning of the names of a visit's own copies of prompt files."""
_UNDO_STEPS = 5
"""Adapters that Undo goes back to, one after the other: each stays in memory."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of reading the file of one card, one way of splitting."""

    split: Split
    copy: Path
    """The visit's own copy, so that another way of splitting can be tried."""
    file: PromptFile | None = None
    """What is used; None if it cannot be read, or looks unlike prompts and was not accepted."""
    error: str = ""
    choices: Choices = field(default_factory=Choices)
    accepted: bool = False
    """Whether somebody said that these are prompts."""
    whole: PromptFile | None = None
    """The file with the prompts that were removed by hand."""
    num_good: int = 0
    """Prompts that can be used without the broken ones."""
    columns: tuple[Column, ...] = ()
    """Columns to choose from, if none of a table could be read."""

    @property
    def opens(self) -> bool:
        """Whether there is anything to look at: prompts, or columns to choose from."""
        return self.whole is not None or bool(self.columns)


@dataclass(frozen=True, slots=True)
class Kept:
    """Where an adapter of a visit is kept."""

    library: Library
    key: str

    @property
    def entry(self) -> Entry | None:
        """As it is there now; None if it was deleted or damaged since."""
        return next(
            (e for e in self.library.entries() if isinstance(e, Entry) and e.key == self.key), None
        )


@dataclass(slots=True)
class Made:
    """The adapter of a visit, and what it was made from."""

    original: "Adapter"
    """At strength 1."""
    adapter: "Adapter"
    """At the strength chosen."""
    made_from: str
    """Fingerprint of the arrangement, to say when the prompts have changed since; empty if it was
    not made from one."""
    buckets: tuple[Bucket, ...]
    """Those that counted; to measure on, and to teach on. None if it came without its prompts."""
    stages: Stages | None = None
    """How it came about; None if it came from the library."""
    settling: bool = False
    """Whether it was just synthesized, and an imprint may still follow by itself."""
    before: "Made | None" = None
    """What it was imprinted on or refined from: where Undo goes."""
    norms: "Mapping[str, Sequence[float]]" = field(default_factory=dict)
    thumbprint: tuple[tuple[float, ...], ...] = ()
    """What is drawn to tell it from others."""
    inspection: "Inspection | None" = None
    check_failed: str = ""
    """Why it could not be inspected."""
    proof: "Conditioning | None" = None
    """How it compares with adapters made from other prompts; None until somebody asks."""
    archive: Path | None = None
    """The verified zip of `adapter`; None until it is written."""
    card_due: bool = False
    """Whether more has been measured since than its card says."""
    kept: Kept | None = None
    scores: "Mapping[str, Scores]" = field(default_factory=dict)
    """What it is worth on labelled rows, by the name of their file."""

    @property
    def key(self) -> str:
        """Tells the adapters of a visit apart, whatever their strength."""
        return self.original.sha256

    @property
    def can_be_imprinted(self) -> bool:
        """Whether its prompts have an instruction that was not carried into it."""
        made = self.original
        known = made.is_imprinted or made.was_trained or bool(made.not_imprinted)
        return bool(self.buckets) and not known

    @property
    def taught(self) -> Taught:
        """What became of it since, if anything did; labels count for most."""
        if "trained" in self.adapter.provenance:
            return TRAINED[answered_by(self.adapter.provenance["trained"])]
        if not self.refined:
            return "imprinted" if self.adapter.is_imprinted else ""
        return "refined_alike" if taught_alike(self.adapter.provenance["refined"]) else "refined"

    @property
    def refined(self) -> bool:
        """Whether it was trained since the generator wrote it."""
        return self.adapter.was_trained


@dataclass(slots=True)
class Run:
    """A synthesis, an imprint or a refinement, from its order to its end."""

    kind: RunKind
    stages: Stages
    buckets: tuple[Bucket, ...]
    """What it was ordered from."""
    start: Made | None = None
    """The adapter to imprint on, or to teach."""
    labels: bool = False
    """Whether a refinement learns the labels."""
    answers: Mapping[str, str] | None = None
    """Answers of the visitor that a refinement learns, by whole prompts."""
    teacher: Endpoint | None = None
    """Whose answers a refinement learns; forgotten as soon as it begins, with its key."""
    enough: Stop = field(default_factory=Stop)
    """Set to end a refinement with what it has learnt."""
    learning: bool = False
    """Whether a refinement has learnt anything yet."""
    recipe: Recipe | None = None
    """What a remake carries out; it holds its prompts."""
    question: str = ""
    """What Show me asks the adapter that comes of it."""
    stop: Stop = field(default_factory=Stop)
    """Set to end it at its next step."""
    shown: bool = False
    """Whether the page has shown what came of it."""


@dataclass(frozen=True, slots=True)
class Proposed:
    """Prompts of an adapter with answers, for the visitor to correct."""

    buckets: tuple[Bucket, ...]
    """Whose prompts they are."""
    prompts: tuple[str, ...]
    """Whole."""
    answers: tuple[str, ...]
    """As they are now."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was measured of one adapter on labelled rows, and of LoRAs trained beside it."""

    made: Made
    adapter: "Adapter"
    """As it was measured, at the strength it had then."""
    file: PromptFile
    measured: "Measurement"


@dataclass(slots=True)
class MeasureRun:
    """A measurement or a training, from its order to its end."""

    kind: Literal["measurement", "training"]
    stages: Stages
    made: Made
    adapter: "Adapter"
    """At the strength it had when this was ordered."""
    file: PromptFile
    config: MeasureConfig | LabelledConfig
    measured: "Measurement | None" = None
    """What a training adds to."""
    warm_start: bool = False
    """Whether a training begins from the adapter."""
    scored: bool = False
    """Whether anything was scored since it began."""
    stop: Stop = field(default_factory=Stop)
    """Set to end it at its next step."""


@dataclass(frozen=True, slots=True)
class RemoteSide:
    """A model of another server, on one side of the comparison."""

    url: str
    model: str

    @property
    def key(self) -> str:
        """Tells it from other sides, as `Made.key` does."""
        return f"{self.url} {self.model}"


@dataclass(slots=True)
class Answer:
    """One side of a turn: who was asked, and what came."""

    label: str
    """Hash of the base, or hash and strength of an adapter."""
    made: Made | None = None
    """Whose adapter answers; None for the base."""
    remote: RemoteSide | None = None
    """The server's model that answers in place of both."""
    reply: "Reply | None" = None
    stopped: bool = False
    strength: float | None = None
    """Strength of the adapter when it was asked; None for the base."""
    seed: int | None = None
    """Seed of the words drawn; None if none were, at temperature 0."""
    times: int = 0
    """How often it was asked again; each time draws other words."""

    @property
    def finished(self) -> bool:
        """Whether it ended by itself."""
        return self.reply is not None and self.reply.finished


@dataclass(slots=True)
class Turn:
    """A question, and what both sides answered."""

    question: str
    left: Answer
    right: Answer | None = None
    """None if it was asked before there was an adapter."""
    mode: AskMode = "written"
    asked: datetime = field(default_factory=lambda: datetime.now(UTC))
    """When it was asked, last."""
    system: str = ""
    """The system prompt that was sent."""
    sampling: Sampling | None = None
    """How words were chosen; None until the engine was asked."""
    context: bool = False
    """Whether earlier turns were sent along."""
    instruction: str = ""
    """What a side that is told read before a question without an instruction of its own."""
    running: frozenset[Place] = frozenset()
    """Sides that words still come from."""
    waiting: str = ""
    """Why nothing comes yet."""
    error: str = ""
    swapped: bool = False
    """Whether the sides change places while the comparison is blind."""
    vote: Vote | None = None

    @property
    def finished(self) -> bool:
        """Whether no more words will come."""
        return not self.running

    @property
    def sides(self) -> dict[Place, Answer]:
        """Those that were asked."""
        sides: dict[Place, Answer] = {"left": self.left}
        if self.right is not None:
            sides["right"] = self.right
        return sides

    def stop(self) -> None:
        """End it with the words it has."""
        for place in self.running:
            self.sides[place].stopped = not self.sides[place].finished
        self.running = frozenset()

    def outcome(self, label: str) -> str:
        """What the vote says of whoever answered under a label: won, lost, tie or bad.

        Empty without a vote, or if they did not answer.
        """
        mine = next((place for place, side in self.sides.items() if side.label == label), None)
        if self.vote is None or mine is None:
            return ""
        if self.vote in ("tie", "bad"):
            return self.vote
        return "won" if self.vote == mine else "lost"

    @property
    def complete(self) -> bool:
        """Whether there are two whole answers to compare."""
        return self.finished and all(
            side is not None and side.reply is not None for side in (self.left, self.right)
        )


@dataclass(frozen=True, slots=True)
class Typed:
    """What stood in the question box, and what was to be sent of it."""

    text: str
    mode: AskMode


@dataclass(slots=True)
class Batch:
    """Many inputs that both sides of the comparison answer at once."""

    inputs: tuple[str, ...] = ()
    mode: AskMode = "written"
    instruction: str = ""
    """What a side that is told reads before each input."""
    left: Made | None = None
    """None for the base."""
    right: Made | None = None
    """None before there is an adapter."""
    replies: "list[list[Reply | None]]" = field(default_factory=list)
    """For each input, left and then right; None until words come."""
    error: str = ""
    running: bool = False
    stop: Stop = field(default_factory=Stop)

    @property
    def compares(self) -> bool:
        """Whether two models answer."""
        return self.right is not None


@dataclass(slots=True)
class Session:
    """One visit."""

    key: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    """What its browser brings it back with. A secret: it is never logged or shown."""
    over: Literal["", "moved", "ended"] = ""
    """Why its page may not change it any more: a newer page took it over, or it was deleted."""
    limits: ServerLimits = field(default_factory=ServerLimits)
    """What it may hold."""
    visitor: str = ""
    """The address that its page came from."""
    used: float = field(default_factory=time.monotonic)
    """When its page last asked for anything."""
    left: float | None = None
    """When its page was closed; of the last time, if it was opened again."""
    canvas: Arrangement = field(default_factory=Arrangement)
    """What lies on the canvas now."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What the visitor has set, by slot: mix, seed, sampling and the like."""
    readings: dict[str, Reading] = field(default_factory=dict)
    """By card. Kept when a card is removed, since Undo may bring it back."""
    made: Made | None = None
    """The adapter in the bar."""
    drawn: Made | None = None
    """The one that the page shows there; another, until a run that ended has been shown."""
    shelf: list[Made] = field(default_factory=list)
    """All adapters of this visit, the newest last."""
    beside: Made | None = None
    """What is on the left of the comparison; None for the base."""
    differences: bool = False
    """Whether words that differ are marked."""
    remote: "tuple[RemoteSide, RemoteSide] | None" = None
    """A server's models, left and right, in place of this app's."""
    remote_access: str = field(default="", repr=False)
    """The key of that server; kept nowhere else, so that it can be forgotten."""
    blind: bool = False
    """Whether it is hidden who answers."""
    mode: AskMode | None = None
    """What the visitor chose to send; None until they choose."""
    told_with: str = ""
    """The instruction chosen for a side that is told."""
    turns: list[Turn] = field(default_factory=list)
    editing: "Typed | None" = None
    """What stood in the box before the last question was taken back into it; None if it was not."""
    batch: Batch | None = None
    """The last inputs that were asked together."""
    suggestions: list[str] = field(default_factory=list)
    example_questions: dict[str, str] = field(default_factory=dict)
    """By bucket name: what to ask after an example."""
    to_show: str = ""
    """What the run that Show me orders will ask; it waits here until the example is read."""
    instruction: str = ""
    """Typed for buckets whose prompts have none."""
    arrangement: str = ""
    """Fingerprint of what is on the canvas now."""
    memory: "PromptMemory | None" = None
    """What the text encoder made of this visit's prompts: mixing again reads none of them."""
    run: Run | None = None
    """The last synthesis, imprint or refinement that was ordered."""
    proposed: Proposed | None = None
    """Answers to correct."""
    labelled: PromptFile | None = None
    """The rows to measure on."""
    watching: bool = False
    """Whether the tab with the operator's training runs is open."""
    measuring: MeasureRun | None = None
    """The last measurement or training that was ordered; it goes on beside `run`."""
    found: Found | None = None
    """The last that was measured, as far as it got."""
    stop_chat: Stop | None = None
    language: str = ENGLISH
    """What the page says, it says in this one."""
    folder: Path | None = None
    """Where its files are, once there are some."""

    def take(self, made: Made) -> None:
        """Put an adapter in the bar, and on the shelf."""
        self.made = made
        self.shelve(made)
        if self.beside is not None and self.beside.key == made.key:
            self.beside = None

    def shelve(self, made: Made) -> None:
        """Put an adapter on the shelf; the same one again takes its place there.

        Where there is no room the oldest go, but not the one in the bar.
        """
        step = made
        for _undo in range(_UNDO_STEPS):
            if step.before is None:
                break
            step = step.before
        step.before = None
        self.shelf = [*(one for one in self.shelf if one.key != made.key), made]
        for one in self.shelf[:-1]:
            few = len(self.shelf) <= self.limits.adapters_per_session
            if few and self._weights_bytes <= self.limits.adapters_per_session_bytes:
                break
            if one is not self.made:
                self.shelf = [other for other in self.shelf if other is not one]

    def leave_server(self) -> None:
        """Have this app's models answer again, and forget the server's key."""
        self.remote, self.remote_access = None, ""

    def access_to(self, side: RemoteSide) -> str:
        """Return the key of a server, if it is the one that was given it."""
        same = self.remote is not None and self.remote[0].url == side.url
        return self.remote_access if same else ""

    @property
    def is_parked(self) -> bool:
        """Whether its page was closed, and none has asked for anything since."""
        return self.left is not None and self.used <= self.left

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to bring back."""
        return not (self.canvas.cards or self.shelf or self.turns or self.labelled or self.folder)

    @property
    def num_bytes(self) -> int:
        """Bytes it holds in memory: weights, encoded prompts, labelled rows.

        `SessionFiles` counts the prompt files.
        """
        rows = (self.labelled, *(one.file for one in (self.measuring, self.found) if one))
        held = {id(file): file.num_bytes for file in rows if file is not None}
        encoded = 0 if self.memory is None else self.memory.num_bytes
        return self._weights_bytes + encoded + sum(held.values())

    @property
    def _weights_bytes(self) -> int:
        held: dict[int, int] = {}
        for made in (*self.shelf, self.made, self.beside):
            while made is not None:
                for one in (made.original, made.adapter):
                    held[id(one)] = one.num_bytes
                made = made.before
        return sum(held.values())

    def hand_over(self) -> "Session":
        """Return the visit for another page; the page that shows this one may not go on with it."""
        successor = replace(self)
        successor.interrupt()
        self.end("moved")
        return successor

    def end(self, how: Literal["moved", "ended"]) -> None:
        """Let go of all it holds. Its page keeps the object for a while, and must not keep that."""
        empty = Session()
        for one in fields(self):
            setattr(self, one.name, getattr(empty, one.name))
        self.over = how

    def delete_files(self) -> None:
        """Remove its folder, if it has one."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def interrupt(self) -> None:
        """End what ran for the page before."""
        for run in (self.run, self.measuring):
            if run is not None and not run.stages.ended:
                run.stop.set()
                run.stages.interrupt()
        if self.made is not None:
            self.made.settling = False
        if self.batch is not None:
            self.batch.stop.set()
            self.batch.running = False
        if self.stop_chat is not None:
            self.stop_chat.set()
        for turn in self.turns:
            turn.stop()
        self.to_show, self.editing = "", None

    def __deepcopy__(self, memo: dict[int, Any]) -> "Session":
        """Return a new visit: Gradio copies the first value of a state for each page."""
        return Session()


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0  # its visit ended meanwhile


class SessionFiles:
    """A folder for each visit, inside Gradio's cache, removed when the visit ends.

    Gradio serves files of its cache to whoever knows their path, so the folder's name is a secret:
    what it is made of is known to the browser alone, and a key of this process is mixed in.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._key = secrets.token_bytes(16)
        self._visits: dict[str, str] = {}

    def attach(self, session_hash: str, visit: str) -> None:
        """Give a page the folder of the visit with a key."""
        self._visits[session_hash] = visit

    def detach(self, session_hash: str) -> None:
        """Forget which visit a page showed."""
        self._visits.pop(session_hash, None)

    def folder(self, session_hash: str) -> Path:
        """Return the folder of the visit that a page shows, made on first use."""
        folder = self._path(session_hash)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def archive(self, adapter: "Adapter", session_hash: str) -> Path:
        """Return where the zip of an adapter is written."""
        safe = "".join(c if c.isalnum() and c.isascii() else "-" for c in adapter.name).strip("-")
        name = f"{safe[:40] or 'adapter'}-{adapter.sha256[:8]}.zip"
        return self.folder(session_hash) / name

    def reading_bytes(self, session_hash: str | None = None) -> int:
        """Return the size of the prompt files that a visit has read, or that all visits have."""
        folders = self.root.glob("visit-*") if session_hash is None else [self._path(session_hash)]
        files = (file for folder in folders for file in folder.glob(f"{PROMPTS}*"))
        return sum(_size(file) for file in files)

    def remove(self, session_hash: str) -> None:
        """Remove whatever the visit left."""
        shutil.rmtree(self._path(session_hash), ignore_errors=True)

    def _path(self, session_hash: str) -> Path:
        name = self._visits.get(session_hash, session_hash)
        digest = hashlib.blake2b(name.encode(), key=self._key, digest_size=16)
        return self.root / f"visit-{digest.hexdigest()}"
