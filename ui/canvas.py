"""The drag-and-drop canvas: a `gr.HTML` whose value is a typed, validated model.

The browser side is `assets/canvas.js`. Data flows one way each: the canvas's value is the visitor's
arrangement, and answers come back through the `Inbox`. So no answer can undo a move.
"""

import math
import secrets
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import gradio as gr
from gradio.data_classes import FileData, GradioModel
from pydantic import Field

from dnd_engine.files import asset_path
from dnd_engine.limits import FIXED, PromptLimits
from dnd_engine.prompts.files import FORMATS
from dnd_engine.prompts.reading import Choices, Split
from dnd_engine.prompts.words import one_line
from ui.panel import script
from ui.text import _, script_words

_NAME = Field(default=None, max_length=200)
_ID = Field(max_length=200)


class CardChoices(GradioModel):
    """A person's options for a file, as the browser sends them; see `Choices`."""

    text: str | None = _NAME
    instruction: str | None = _NAME
    label: str | None = _NAME
    skip_broken: bool = False
    # As many as a file may have prompts.
    without: list[int] = Field(default_factory=list, max_length=20_000)


class Looking(GradioModel):
    """The prompts that the visitor looks at."""

    card: str = _ID
    query: str = Field(default="", max_length=200)
    most: int = Field(default=50, ge=1, le=1_000)
    """Number of prompts to show."""


class CardData(GradioModel):
    """A card as the browser sends it."""

    id: str = _ID
    name: str = Field(max_length=1_000)
    size: int = 0
    split: Split = "auto"
    file: FileData | None = None
    """The upload, until the server has read it. Gradio checks that it was uploaded."""
    waiting: bool = False
    """Whether the card still waits for an answer."""
    example: str = Field(default="", max_length=200)
    """Its file name in an example, if it is from one."""
    choices: CardChoices = Field(default_factory=CardChoices)
    accepted: bool = False
    """Whether the visitor confirmed that these are prompts despite doubts."""
    version: int = 0
    """Incremented with each change of options; an answer carries the version it belongs to."""


class BucketData(GradioModel):
    """A bucket as the browser sends it."""

    id: str = _ID
    name: str = Field(max_length=1_000)
    weight: float = 1.0
    unmuted: float = 1.0
    """The weight that a muted bucket had."""
    instruction: str = Field(default="", max_length=10_000)
    cards: list[str] = Field(default_factory=list)


class CanvasData(GradioModel):
    """The value of the canvas."""

    buckets: list[BucketData] = Field(default_factory=list)
    cards: list[CardData] = Field(default_factory=list)
    attempt: int = 0
    """Incremented when the same arrangement is sent again."""
    remixing: bool = False
    """Whether a remix follows immediately."""
    looking: Looking | None = None


@dataclass(frozen=True, slots=True)
class CanvasCard:
    """A validated card: its path, if any, is an upload."""

    id: str
    name: str
    split: Split
    upload: Path | None
    waiting: bool = False
    size: int = 0
    example: str = ""
    choices: Choices = field(default_factory=Choices)
    accepted: bool = False
    version: int = 0


@dataclass(frozen=True, slots=True)
class CanvasBucket:
    """A validated bucket."""

    name: str
    weight: float
    cards: tuple[CanvasCard, ...]
    unmuted: float = 1.0
    """The weight that it had before it was muted."""
    id: str = ""
    """Id from the browser. It identifies the initial buckets, whose names depend on the
    language."""
    instruction: str = ""
    """For its prompts that have none of their own; takes precedence over the one for all
    buckets."""


@dataclass(frozen=True, slots=True)
class Arrangement:
    """The buckets on the canvas, in order, as handlers receive them."""

    buckets: tuple[CanvasBucket, ...] = ()
    remixing: bool = False
    looking: Looking | None = None
    """Prompts to show; None if the visitor looks at no file."""

    @property
    def cards(self) -> tuple[CanvasCard, ...]:
        """Return all cards, bucket by bucket."""
        return tuple(card for bucket in self.buckets for card in bucket.cards)

    def to_message(self) -> dict[str, Any]:
        """Return buckets and cards in the form that the canvas accepts."""
        buckets = [
            {
                **{"id": b.id, "name": b.name, "weight": b.weight, "unmuted": b.unmuted},
                "instruction": b.instruction,
                "cards": [card.id for card in b.cards],
            }
            for b in self.buckets
        ]
        cards = [asdict(card) for card in self.cards]
        for card in cards:
            # Of the page that sent it: a new one has neither.
            del card["upload"], card["waiting"]
        return {"buckets": buckets, "cards": cards}


class PromptCanvas(gr.HTML):
    """Buckets of prompt files that people drag and drop."""

    # Without a model, Gradio would pass any path that a client names to the handlers.
    data_model = CanvasData

    def __init__(
        self,
        value: Any = None,
        *,
        words: str | None = None,
        limits: PromptLimits | None = None,
        **kwargs: Any,
    ):
        """Read the canvas's template, script and style.

        Messages of the script come from `script_words`. The browser enforces the limits, too.
        """
        # Gradio treats a quoted name in the script as an event, unless it is an attribute.
        self.words = words or script_words()
        if limits is not None:
            kwargs["limits"] = {
                "suffixes": list(FORMATS),
                "max_file_bytes": limits.max_file_bytes,
                "max_files": limits.max_files,
                "max_instruction_chars": FIXED.max_instruction_chars,
            }
        sortable = asset_path("vendor", "Sortable-1.15.7.min.js").read_text(encoding="utf-8")
        super().__init__(
            value=value,
            # Gradio runs a template as code, so no text of a visitor may get into it: the script
            # adds them as text nodes.
            html_template=asset_path("canvas.html").read_text(encoding="utf-8"),
            words=self.words,
            js_on_load=script("words", "columns", "canvas"),
            # Inline, so that the page sends no request for it.
            head=f"<script>{sortable}</script>",
            apply_default_css=False,
            **kwargs,
        )

    def preprocess(self, payload: CanvasData | None) -> Arrangement:  # type: ignore[override]  # HTML has texts
        """Convert the browser's value to buckets of validated cards.

        Raises:
            gr.Error: If the value is larger than a canvas can be.
        """
        if payload is None:
            return Arrangement()
        # A program can send any amount, whatever the script allows.
        if max(len(payload.buckets), len(payload.cards)) > FIXED.max_canvas_parts:
            words = _("This canvas holds more than it can. Reload the page.")
            raise gr.Error(words, print_exception=False)
        cards = {card.id: _validated(card) for card in payload.cards}
        return Arrangement(
            tuple(
                CanvasBucket(
                    name=one_line(bucket.name)[:60] or _("Unnamed"),
                    # Python's JSON also reads NaN and infinity.
                    weight=bucket.weight if math.isfinite(bucket.weight) else 0.0,
                    unmuted=bucket.unmuted if math.isfinite(bucket.unmuted) else 1.0,
                    # A card is in one bucket; `pop` prevents a crafted value from duplicating it.
                    cards=tuple(cards.pop(key) for key in bucket.cards if key in cards),
                    id=bucket.id,
                    instruction=bucket.instruction[: FIXED.max_instruction_chars],
                )
                for bucket in payload.buckets
            ),
            payload.remixing,
            payload.looking,
        )

    def postprocess(self, value: CanvasData | dict[str, Any] | None) -> CanvasData:  # type: ignore[override]  # HTML has texts
        """Accept a dict or a model."""
        if isinstance(value, CanvasData):
            return value
        return CanvasData(**(value or {}))

    def example_payload(self) -> dict[str, Any]:
        """Return an empty canvas."""
        return {"buckets": [], "cards": []}

    def api_info(self) -> dict[str, Any]:
        """Return the schema of the value."""
        return _schema(CanvasData)


@cache  # Gradio asks for it thirty times while it builds a page
def _schema(model: type[GradioModel]) -> dict[str, Any]:
    return model.model_json_schema()


def _validated(card: CardData) -> CanvasCard:
    choices = {**card.choices.model_dump(), "without": tuple(card.choices.without)}
    return CanvasCard(
        **card.model_dump(exclude={"file", "choices"}),
        # Gradio has checked that this is an upload, because the model says `FileData`.
        upload=Path(card.file.path) if card.file else None,
        choices=Choices(**choices),
    )


class ExampleFile(GradioModel):
    """A file of an example."""

    name: str
    size: int
    file: FileData


class ExampleSet(GradioModel):
    """The files of an example, and the bucket they go to."""

    bucket: str
    """English name; the canvas translates it."""
    weight: float
    files: list[ExampleFile]


class Message(GradioModel):
    """One answer to the canvas."""

    op: Literal["none", "readings", "load", "fold", "restore"] = "none"
    readings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    looked: dict[str, Any] | None = None
    """Prompts of the file that the visitor looks at."""
    sets: list[ExampleSet] = Field(default_factory=list)
    buckets: list[BucketData] = Field(default_factory=list)
    cards: list[CardData] = Field(default_factory=list)
    """Cards; with `readings`, those on the canvas when the page was left."""
    folded: bool = False
    tell_when_read: bool = False
    """Whether the canvas sends its event `read` once these are read."""
    nonce: str = ""
    """Makes equal messages differ, because Gradio sends only changes."""


class Inbox(gr.HTML):
    """Carries answers from Python to the canvas, and shows nothing itself."""

    data_model = Message

    def __init__(self, value: Any = None, **kwargs: Any):
        super().__init__(
            value=value,
            html_template="<span></span>",
            js_on_load=(
                # Through the window, because components do not see each other.
                'watch("value", () => window.dispatchEvent('
                'new CustomEvent("dnd-inbox", { detail: props.value })));'
            ),
            apply_default_css=False,
            **kwargs,
        )

    def preprocess(self, payload: Message | None) -> None:  # type: ignore[override]  # HTML has texts
        """Ignore input: nothing is read back."""

    def postprocess(self, value: dict[str, Any] | None) -> Message:  # type: ignore[override]  # HTML has texts
        """Stamp a message, so that it is sent even if it equals the last one."""
        return Message(**(value or {}), nonce=secrets.token_hex(8))

    def example_payload(self) -> dict[str, Any]:
        """Return an empty message."""
        return {}

    def api_info(self) -> dict[str, Any]:
        """Return the schema of the value."""
        return _schema(Message)
