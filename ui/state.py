"""The state of one visit: a `Session`, in the `gr.State` of its page.

A session contains prompts, adapters and a conversation, never a model or a tensor on a device. It
outlives its page; `ui.visits` restores it.
"""

import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dnd_engine.config import LabelledConfig, MeasureConfig, Sampling
from dnd_engine.library import Entry, EntryName, Library
from dnd_engine.limits import ServerLimits
from dnd_engine.lora.changes import ChangedBy, changed_by
from dnd_engine.lora.provenance import Recipe
from dnd_engine.prompts.buckets import Bucket
from dnd_engine.prompts.files import PromptFile
from dnd_engine.prompts.reading import Choices, Column, Split
from ui.canvas import Arrangement
from ui.engine_calls import Answers, Stop
from ui.stages import RunKind, Stages
from ui.text import ENGLISH

if TYPE_CHECKING:
    from dnd_engine.checks.results import Conditioning, Forecast, Inspection
    from dnd_engine.lora.adapter import Adapter
    from dnd_engine.measure.kept import Scores
    from dnd_engine.measure.results import Measurement
    from dnd_engine.models.encoder import PromptMemory
    from dnd_engine.models.replies import Reply

AskMode = Literal["told", "written", "bare"]
"""What is sent: the instruction to the left side only, the question as written, or its input
alone."""

Place = Literal["left", "right"]
"""Left is the base, or an adapter in its place; right is the adapter in the bar."""

Vote = Literal["left", "right", "tie", "bad"]
"""Which answer is better; `bad` means that both are bad, which is not a tie."""

_UNDO_STEPS = 5
"""Number of adapters that Undo can return to; each stays in memory."""


@dataclass(frozen=True, slots=True)
class CardReading:
    """Result of reading a file, of a card or of rows to measure on, with certain options."""

    split: Split
    copy: Path
    """The visit's own copy, so that it can be read with other options."""
    file: PromptFile | None = None
    """Prompts to use; None if the file cannot be read, or looks unlike prompts and was not
    accepted."""
    error: str = ""
    choices: Choices = field(default_factory=Choices)
    accepted: bool = False
    """Whether the visitor confirmed that these are prompts."""
    whole: PromptFile | None = None
    """The file including prompts that were removed by hand."""
    num_good: int = 0
    """Number of prompts that are left without the broken ones."""
    columns: tuple[Column, ...] = ()
    """Columns to choose from. A card has them only if no prompts show them."""

    @property
    def opens(self) -> bool:
        """Return whether there are prompts or columns to look at."""
        return self.whole is not None or bool(self.columns)

    @property
    def awaits_choice(self) -> bool:
        """Return whether the visitor can have an unused file used, by a choice on its card."""
        is_doubtful = self.file is None and self.whole is not None and not self.error
        return is_doubtful or self.num_good > 0 or bool(self.columns)


@dataclass(frozen=True, slots=True)
class Kept:
    """Library entry of a visit's adapter."""

    library: Library
    key: str

    @property
    def entry(self) -> Entry | None:
        """Return the current entry; None if it was deleted or damaged since."""
        # Looked up each time, because other pages and processes change libraries too.
        return next(
            (e for e in self.library.entries() if isinstance(e, Entry) and e.key == self.key), None
        )


@dataclass(slots=True)
class Made:
    """An adapter of the visit, with its origin."""

    original: "Adapter"
    """The adapter at strength 1."""
    adapter: "Adapter"
    """The adapter at the chosen strength."""
    made_from: str
    """Fingerprint of its canvas, to detect later changes of the prompts; empty if it was not
    made from one."""
    buckets: tuple[Bucket, ...]
    """Buckets used, for measuring and teaching; empty if it came without its prompts."""
    stages: Stages | None = None
    """Stages of making it; None if it came from the library."""
    settling: bool = False
    """Whether it was just synthesized, and an imprint may follow automatically."""
    before: "Made | None" = None
    """The adapter before imprint or refinement, which Undo returns to."""
    norms: "Mapping[str, Sequence[float]]" = field(default_factory=dict)
    thumbprint: tuple[tuple[float, ...], ...] = ()
    """Numbers to draw as its picture."""
    inspection: "Inspection | None" = None
    check_failed: str = ""
    """Reason why its checks failed."""
    proof: "Conditioning | None" = None
    """Result of the ablation; None until requested."""
    proving: bool = False
    """Whether the ablation runs."""
    archive: Path | None = None
    """Verified zip of `adapter`; None until written."""
    card_due: bool = False
    """Whether there are newer results than on its card."""
    kept: Kept | None = None
    imported: bool = False
    """Whether it came from a file, so that others say how it was made."""
    scores: "Mapping[str, Scores]" = field(default_factory=dict)
    """Scores on labelled rows, by file name."""

    @property
    def key(self) -> str:
        """Identifies an adapter within its visit, at any strength."""
        return self.original.sha256

    @property
    def can_be_imprinted(self) -> bool:
        """Return whether its prompts have an instruction that was not imprinted."""
        made = self.original
        known = made.is_imprinted or made.was_trained or bool(made.not_imprinted)
        return bool(self.buckets) and not known

    @property
    def imprint_missing(self) -> bool:
        """Whether its instruction could be imprinted, and that does not follow by itself."""
        return self.can_be_imprinted and not self.settling

    @property
    def changed_by(self) -> ChangedBy | None:
        """How it was changed after generation; None if it was not."""
        return changed_by(self.adapter.provenance)


@dataclass(slots=True)
class Run:
    """A synthesis, imprint or refinement, from request to end."""

    kind: RunKind
    stages: Stages
    buckets: tuple[Bucket, ...]
    start: Made | None = None
    """Adapter to imprint or teach."""
    answers: Answers | None = None
    """What a refinement learns. Removed when it starts, because a teacher contains its server's
    key."""
    enough: Stop = field(default_factory=Stop)
    """Set to end a refinement and keep its result."""
    learning: bool = False
    """Whether a refinement has made its first step."""
    remixes: bool = False
    """Whether it follows a changed weight: then the page keeps the places of what comes back."""
    recipe: Recipe | None = None
    """Recipe of a remake, with its prompts."""
    question: str = ""
    """Question to ask the resulting adapter, from Show me."""
    stop: Stop = field(default_factory=Stop)
    """Set to cancel at the next step."""
    shown: bool = False
    """Whether the page has shown the result."""


@dataclass(frozen=True, slots=True)
class Proposed:
    """Prompts of an adapter with proposed answers, for the visitor to correct."""

    buckets: tuple[Bucket, ...]
    prompts: tuple[str, ...] = ()
    """Whole prompts."""
    answers: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    """Name of the bucket of each prompt."""
    key: str = field(default_factory=lambda: secrets.token_hex(8))
    """Stays the same with more prompts: what a page sends may be answers to other prompts."""

    def is_for(self, made: Made) -> bool:
        """Return whether the answers are to prompts of an adapter, or of one it was made from.

        By identity: an imprint or a teaching passes the same buckets on, a synthesis makes new
        ones.
        """
        return self.buckets is made.buckets


@dataclass(frozen=True, slots=True)
class Found:
    """Measurement of one adapter on labelled rows, with LoRAs trained for comparison."""

    made: Made
    adapter: "Adapter"
    """The adapter at the strength it was measured at."""
    file: PromptFile
    measured: "Measurement"


@dataclass(slots=True)
class MeasureRun:
    """A measurement or a training run, from request to end."""

    kind: Literal["measurement", "training"]
    stages: Stages
    made: Made
    adapter: "Adapter"
    """The adapter at its strength at the time of the request."""
    file: PromptFile
    config: MeasureConfig | LabelledConfig
    measured: "Measurement | None" = None
    """Measurement that a training run extends."""
    warm_start: bool = False
    """Whether training starts from the adapter."""
    scored: bool = False
    """Whether anything was scored since the start."""
    stop: Stop = field(default_factory=Stop)
    """Set to cancel at the next step."""


@dataclass(frozen=True, slots=True)
class RemoteSide:
    """A model of another server, on one side of the comparison."""

    url: str
    model: str

    @property
    def key(self) -> str:
        """Identifies this side, like `Made.key`."""
        return f"{self.url} {self.model}"


@dataclass(frozen=True, slots=True)
class Asked:
    """How a model was asked; the other side may have been asked again in another way."""

    at: datetime
    sampling: Sampling
    system: str
    """System prompt that was sent."""
    context: bool
    """Whether earlier turns were sent too."""


@dataclass(slots=True)
class Answer:
    """One side of a turn: the model and its answer."""

    label: str
    """Hash of the base, or hash and strength of an adapter."""
    made: Made | None = None
    """Adapter that answers; None for the base."""
    remote: RemoteSide | None = None
    """Model of another server that answers instead."""
    asked: Asked | None = None
    """None until the engine was called."""
    reply: "Reply | None" = None
    stopped: bool = False
    strength: float | None = None
    """Strength of the adapter when it began to answer; None for the base."""
    sha256: str | None = None
    """Hash of its weights at that strength."""
    seed: int | None = None
    """Sampling seed; None at temperature 0."""
    times: int = 0
    """Number of retries, each with other random numbers."""

    @property
    def finished(self) -> bool:
        """Return whether the answer is complete."""
        return self.reply is not None and self.reply.finished


@dataclass(slots=True)
class Turn:
    """A question with the answers of both sides."""

    question: str
    left: Answer
    right: Answer | None = None
    """None if there was no adapter yet."""
    mode: AskMode = "written"
    instruction: str = ""
    """Instruction for an instructed side, if the question has none of its own."""
    running: frozenset[Place] = frozenset()
    """Sides that are still answering."""
    waiting: str = ""
    error: str = ""
    swapped: bool = False
    """Whether the sides are swapped in a blind comparison."""
    named: bool = False
    """Whether its answers were shown with their models' names, so that no vote on them is blind."""
    vote: Vote | None = None

    @property
    def finished(self) -> bool:
        """Return whether all answers have ended."""
        return not self.running

    @property
    def sides(self) -> dict[Place, Answer]:
        """Return the sides that answer."""
        sides: dict[Place, Answer] = {"left": self.left}
        if self.right is not None:
            sides["right"] = self.right
        return sides

    def stop(self) -> None:
        """End the turn with the text so far."""
        for place in self.running:
            # A side that had ended by itself was not stopped.
            self.sides[place].stopped = not self.sides[place].finished
        self.running = frozenset()

    def outcome(self, label: str) -> str:
        """Return the outcome of the vote for a label: won, lost, tie or bad.

        Empty without a vote, or if that model did not answer.
        """
        mine = next((place for place, side in self.sides.items() if side.label == label), None)
        if self.vote is None or mine is None:
            return ""
        if self.vote in ("tie", "bad"):
            return self.vote
        return "won" if self.vote == mine else "lost"

    @property
    def complete(self) -> bool:
        """Return whether there are two complete answers to compare."""
        return self.finished and all(
            side is not None and side.reply is not None for side in (self.left, self.right)
        )


@dataclass(frozen=True, slots=True)
class Compared:
    """What adapters change above the chat; the defaults are those of a new page."""

    beside: bool = False
    """Whether the modes are named as beside another adapter."""
    mode: AskMode = "written"
    instructions: tuple[tuple[str, str], ...] = ()
    """Names and values of the instructions to choose from."""
    head: str = ""
    """HTML of the heading."""

    @property
    def has_instructions(self) -> bool:
        """Return whether an instruction can be chosen."""
        return self.mode == "told" and bool(self.instructions)


@dataclass(frozen=True, slots=True)
class Typed:
    """Text of the question box, and the settings to send it with."""

    text: str
    mode: AskMode | None
    """None if the visitor has not chosen one."""


@dataclass(slots=True)
class Batch:
    """Many inputs that both models answer."""

    inputs: tuple[str, ...] = ()
    mode: AskMode = "written"
    instruction: str = ""
    """Instruction for an instructed side, before each input."""
    left: Made | None = None
    """Adapter on the left; None for the base."""
    right: Made | None = None
    """Adapter on the right; None if there is none yet."""
    adapters: "tuple[Adapter | None, Adapter | None]" = (None, None)
    """Both at the strengths that they have for the whole table, wherever the slider is."""
    replies: "list[list[Reply | None]]" = field(default_factory=list)
    """Replies to each input, left and right; None until they start."""
    error: str = ""
    running: bool = False
    stop: Stop = field(default_factory=Stop)
    earlier: "Batch | None" = None
    """The table before, which comes back if this one ends in an error without any answer."""

    @property
    def compares(self) -> bool:
        """Return whether two models answer."""
        return self.right is not None

    @property
    def answered(self) -> bool:
        """Return whether there is any answer, complete or not."""
        return any(reply is not None for row in self.replies for reply in row)


@dataclass(slots=True)
class Session:
    """One visit."""

    key: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    """Key that the browser restores the visit with. A secret: never logged or shown."""
    over: Literal["", "moved", "ended"] = ""
    """Why its page may no longer change it: a newer page took over, or it was deleted."""
    limits: ServerLimits = field(default_factory=ServerLimits)
    visitor: str = ""
    """Address of its page."""
    own: bool = False
    """Whether its page was opened by the owner of this computer: their files have no limit, and
    messages may name folders. Access to library and login is checked with each request."""
    used: float = field(default_factory=time.monotonic)
    """Time of the page's last request."""
    left: float | None = None
    """Time when its page was last closed; None if never."""
    canvas: Arrangement = field(default_factory=Arrangement)
    settings: dict[str, Any] = field(default_factory=dict)
    """The visitor's settings by slot: mix, seed, sampling and so on."""
    readings: dict[str, CardReading] = field(default_factory=dict)
    """Readings by card. Kept when a card is removed, because Undo may restore it."""
    made: Made | None = None
    """The adapter in the bar."""
    drawn: Made | None = None
    """Adapter that the page shows; it differs until a finished run has been shown."""
    shelf: list[Made] = field(default_factory=list)
    """All adapters of this visit, newest last."""
    beside: Made | None = None
    """Adapter on the left of the comparison; None for the base."""
    library: tuple[EntryName, ...] = ()
    """Adapters of the library when it was last read, to choose from for both sides; newest first.
    Only names, because recipes may contain prompts, which `num_bytes` would have to count."""
    awaited: dict[Place, str] = field(default_factory=dict)
    """Key of the library's adapter that was chosen for a side, until it is loaded or another is
    chosen."""
    differences: bool = False
    """Whether differing words are marked."""
    remote: "tuple[RemoteSide, RemoteSide] | None" = None
    """A server's models on both sides, instead of this app's."""
    remote_access: str = field(default="", repr=False)
    """API key of that server; stored nowhere else, so that it can be forgotten."""
    blind: bool = False
    """Whether the models' names are hidden."""
    mode: AskMode | None = None
    """What the visitor chose to send; None until they choose."""
    told_with: str = ""
    """Instruction chosen for the instructed side."""
    turns: list[Turn] = field(default_factory=list)
    editing: "Typed | None" = None
    """Text of the box before the last question was taken back for editing; None otherwise."""
    batch: Batch | None = None
    suggestions: list[str] = field(default_factory=list)
    example_questions: dict[str, str] = field(default_factory=dict)
    """Questions to suggest for examples, by bucket name."""
    to_show: str = ""
    """Question for Show me's run, until the example is read."""
    instruction: str = ""
    """Instruction typed for buckets whose prompts have none."""
    canvas_fingerprint: str = ""
    """Identifies the contents of `canvas`, like `Made.made_from`; see `shared.fingerprint`."""
    forecasts: "dict[tuple[str, str], Forecast | None]" = field(default_factory=dict)
    """Forecasts by model and contents of a bucket; None where the model cannot be asked."""
    memory: "PromptMemory | None" = None
    """Cache of encoded prompts, so that a remix encodes none again."""
    run: Run | None = None
    """The last requested synthesis, imprint or refinement."""
    undo_awaits: bool = False
    """Whether Undo stays in the bar, disabled, until the imprint that follows a remix."""
    proposed: Proposed | None = None
    corrected: dict[str, str] = field(default_factory=dict)
    """Prompt to the answer that was last typed for it, for whichever adapter."""
    rows: CardReading | None = None
    """The file of rows to measure on, which has no `whole`."""
    rows_asked: object = None
    """Identifies the last request to read rows; what an earlier one reads late is dropped."""
    watching: bool = False
    """Whether the Training tab is open."""
    kept_now: str = ""
    """Key of the adapter that was kept last, until the Library is opened."""
    compared_as: Compared | None = field(default_factory=Compared)
    """What the page names above the chat; None to name it again."""
    measuring: MeasureRun | None = None
    """The last requested measurement or training, independent of `run`."""
    found: Found | None = None
    """The last measurement, possibly incomplete."""
    stop_chat: Stop | None = None
    chat_due: bool = False
    """Whether a question waits for `CompareEvents.answer`."""
    language: str = ENGLISH
    folder: Path | None = None
    """Folder of its files; None until there are any."""

    @property
    def labelled(self) -> PromptFile | None:
        """Return the rows to measure on; None if there are none with a label."""
        return None if self.rows is None else self.rows.file

    @property
    def is_busy(self) -> bool:
        """Return whether a synthesis, imprint or refinement has not ended."""
        return self.run is not None and not self.run.stages.ended

    def choose(self, place: Place, key: str) -> Made | None:
        """Return an adapter of the shelf that was chosen for a side.

        None for the base, or if the adapter is in the library; then that one is awaited.
        """
        chosen = next((made for made in self.shelf if made.key == key), None)
        # Whatever was awaited on this side was chosen earlier.
        self.awaited.pop(place, None)
        if key and chosen is None:
            self.awaited[place] = key
        return chosen

    def take(self, made: Made) -> None:
        """Put an adapter in the bar and on the shelf."""
        self.put_in_bar(made)
        self.shelve(made)

    def put_in_bar(self, made: Made) -> None:
        """Put an adapter in the bar; it is not compared with itself."""
        self.made = made
        if self.beside is not None and self.beside.key == made.key:
            self.beside = None

    def shelve(self, made: Made) -> None:
        """Put an adapter on the shelf, replacing an earlier version of it.

        If there is no room, the oldest are dropped, first those that the library has, except those
        that are compared.
        """
        step = made
        for _undo in range(_UNDO_STEPS):
            if step.before is None:
                break
            step = step.before
        # Without a cut here, every adapter would keep all earlier ones in memory.
        step.before = None
        self.shelf = [*(one for one in self.shelf if one.key != made.key), made]
        # The last one is the adapter that was just added, which always stays.
        for one in sorted(self.shelf[:-1], key=lambda one: one.kept is None):
            few = len(self.shelf) <= self.limits.adapters_per_session
            num_bytes = sum(_held_by(self.adapters()).values())
            if few and num_bytes <= self.limits.adapters_per_session_bytes:
                break
            if one is not self.made and one is not self.beside:
                self.shelf = [other for other in self.shelf if other is not one]

    def leave_server(self) -> None:
        """Return to this app's models, and forget the server's key."""
        self.remote, self.remote_access = None, ""

    def access_to(self, side: RemoteSide) -> str:
        """Return the key of a side's server, if it was entered for that server."""
        # An earlier question may be asked again after the visitor named another server.
        same = self.remote is not None and self.remote[0].url == side.url
        return self.remote_access if same else ""

    @property
    def is_parked(self) -> bool:
        """Return whether its page was closed and has sent nothing since."""
        return self.left is not None and self.used <= self.left

    @property
    def is_empty(self) -> bool:
        """Return whether there is nothing to restore."""
        typed = self.instruction or self.settings
        work = self.canvas.cards or self.shelf or self.turns or self.batch or self.rows
        return not (typed or work or self.folder)

    @property
    def num_bytes(self) -> int:
        """Return the bytes in memory: weights, and prompts, also encoded and labelled ones."""
        rows = (self.labelled, *(one.file for one in (self.measuring, self.found) if one))
        # A copy, because this is asked for all visits while their own threads read more files.
        read = (reading.whole for reading in list(self.readings.values()))
        # Read once, because the visit may end meanwhile.
        run, memory = self.run, self.memory
        wanted = () if run is None else (f for b in run.buckets for f in b.files)
        files = (*rows, *read, *wanted)
        held = _held_by((*self.adapters(), *self._dropped()))
        # The LoRAs that it has trained are not on the shelf before they are taken to the Workbench.
        for found in (one for one in (self.found, self.measuring) if one is not None):
            trained = () if found.measured is None else found.measured.trained.values()
            held |= {id(one): one.num_bytes for one in (found.adapter, *trained)}
        held |= {id(file): file.memory_bytes for file in files if file is not None}
        encoded = 0 if memory is None else memory.num_bytes
        return encoded + sum(held.values())

    def adapters(self) -> Iterator[Made]:
        """Yield the adapters of the visit, including those that Undo returns to; some repeat."""
        return _with_earlier((*self.shelf, self.made, self.beside))

    def _dropped(self) -> Iterator[Made]:
        """Yield the adapters of answers and runs, which keep them when the shelf drops them."""
        batch, run = self.batch, self.run
        tables = (batch, None if batch is None else batch.earlier)
        return _with_earlier(
            (
                *(side.made for turn in self.turns for side in turn.sides.values()),
                *(made for one in tables if one is not None for made in (one.left, one.right)),
                *(() if run is None else (run.start,)),
                *(one.made for one in (self.found, self.measuring) if one is not None),
            )
        )

    def hand_over(self) -> "Session":
        """Return the visit for another page; the current page may no longer change it."""
        # A shallow copy shares all contents; `end` then empties the old object.
        successor = replace(self)
        successor.interrupt()
        self.end("moved")
        return successor

    def end(self, how: Literal["moved", "ended"]) -> None:
        """Drop all contents, because the page keeps this object for a while."""
        empty = Session()
        for one in fields(self):
            setattr(self, one.name, getattr(empty, one.name))
        self.over = how

    def delete_files(self) -> None:
        """Remove its folder, if it has one."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def interrupt(self) -> None:
        """Cancel work that was started by the earlier page."""
        for run in (self.run, self.measuring):
            if run is not None and not run.stages.ended:
                run.stop.set()
                run.stages.interrupt()
        if self.made is not None:
            # The event that was to imprint it went with its page.
            for one in (self.made, *self.shelf):
                one.settling = False
        if self.batch is not None:
            self.batch.stop.set()
            self.batch.running = False
        if self.stop_chat is not None:
            self.stop_chat.set()
        for turn in self.turns:
            turn.stop()
        self.to_show, self.editing, self.awaited = "", None, {}

    def __deepcopy__(self, memo: dict[int, Any]) -> "Session":
        """Return a new visit: Gradio copies the initial value of a state for each page."""
        return Session()


def _with_earlier(adapters: Iterable[Made | None]) -> Iterator[Made]:
    """Yield adapters, each with those that Undo returns to."""
    for made in adapters:
        while made is not None:
            yield made
            made = made.before


def _held_by(adapters: Iterable[Made]) -> dict[int, int]:
    """Return the bytes of weights and prompts, by identity.

    Undo, the bar and the shelf share adapters, and adapters share prompt files with the canvas.
    """
    held: dict[int, int] = {}
    for made in adapters:
        for one in (made.original, made.adapter):
            held[id(one)] = one.num_bytes
        for bucket in made.buckets:
            held |= {id(file): file.memory_bytes for file in bucket.files}
    return held
