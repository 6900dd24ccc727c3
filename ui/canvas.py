"""The drag-and-drop canvas: a `gr.HTML` whose value is a typed, checked model.

The browser side is `assets/canvas.js`. Traffic is one-way each: the canvas's value is what the
visitor arranged, and answers travel back through the `Inbox`. So no answer can undo a move.
"""

import math
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import gradio as gr
from gradio.data_classes import FileData, GradioModel
from pydantic import Field

from dnd_engine.config import PromptLimits
from dnd_engine.files import asset_path
from dnd_engine.limits import FIXED
from dnd_engine.prompts.files import FORMATS
from dnd_engine.prompts.reading import Choices, Split
from dnd_engine.prompts.words import one_line
from ui.text import _, script_words
from ui.without_stub import WithoutStub

__all__ = ["Arrangement", "CanvasBucket", "CanvasCard", "CanvasData", "Inbox", "PromptCanvas"]

_NAME = Field(default=None, max_length=200)
_ID = Field(max_length=200)


class CardChoices(GradioModel):
    """What was chosen for a file, as the browser sends it; see `Choices`."""

    text: str | None = _NAME
    instruction: str | None = _NAME
    label: str | None = _NAME
    skip_broken: bool = False
    without: list[int] = Field(default_factory=list, max_length=20_000)


class Looking(GradioModel):
    """Which prompts somebody looks at."""

    card: str = _ID
    query: str = Field(default="", max_length=200)
    most: int = Field(default=50, ge=1, le=1_000)
    """Prompts to show."""


class CardData(GradioModel):
    """A card as the browser sends it."""

    id: str = _ID
    name: str = Field(max_length=1_000)
    size: int = 0
    split: Split = "auto"
    file: FileData | None = None
    """Until the server has read it. Gradio checks that it was uploaded."""
    waiting: bool = False
    """Whether the card still has no answer."""
    example: str = Field(default="", max_length=200)
    """Which file of an example it is, if any."""
    pasted: bool = False
    choices: CardChoices = Field(default_factory=CardChoices)
    accepted: bool = False
    """Whether somebody said that these are prompts, however they look."""
    version: int = 0
    """Counts up with each choice; an answer names the one it belongs to."""


class BucketData(GradioModel):
    """A bucket as the browser sends it."""

    id: str = _ID
    name: str = Field(max_length=1_000)
    weight: float = 1.0
    cards: list[str] = Field(default_factory=list)


class CanvasData(GradioModel):
    """The canvas's value."""

    buckets: list[BucketData] = Field(default_factory=list)
    cards: list[CardData] = Field(default_factory=list)
    attempt: int = 0
    """Counts up when the same arrangement is sent again."""
    remixing: bool = False
    """Whether a remix of it is ordered right away."""
    looking: Looking | None = None


@dataclass(frozen=True, slots=True)
class CanvasCard:
    """A card, checked: its path, if any, is among the uploads."""

    id: str
    name: str
    split: Split
    upload: Path | None
    waiting: bool = False
    size: int = 0
    example: str = ""
    pasted: bool = False
    choices: Choices = field(default_factory=Choices)
    accepted: bool = False
    version: int = 0


@dataclass(frozen=True, slots=True)
class CanvasBucket:
    """A bucket, checked."""

    name: str
    weight: float
    cards: tuple[CanvasCard, ...]
    id: str = ""
    """The browser's own; it tells the first buckets, which have a name in each language."""


@dataclass(frozen=True, slots=True)
class Arrangement:
    """What handlers get: the buckets on the canvas, in order."""

    buckets: tuple[CanvasBucket, ...] = ()
    remixing: bool = False
    """Whether a remix of these is ordered right away."""
    looking: Looking | None = None
    """Which prompts to show, if somebody looks at a file."""

    @property
    def cards(self) -> tuple[CanvasCard, ...]:
        """All cards, bucket by bucket."""
        return tuple(card for bucket in self.buckets for card in bucket.cards)

    def to_message(self) -> dict[str, Any]:
        """Return buckets and cards as the canvas takes them back."""
        buckets = [
            {"id": b.id, "name": b.name, "weight": b.weight, "cards": [card.id for card in b.cards]}
            for b in self.buckets
        ]
        cards = [
            {
                "id": card.id,
                "name": card.name,
                "size": card.size,
                "split": card.split,
                "example": card.example,
                "pasted": card.pasted,
                "choices": asdict(card.choices),
                "accepted": card.accepted,
                "version": card.version,
            }
            for card in self.cards
        ]
        return {"buckets": buckets, "cards": cards}


class PromptCanvas(gr.HTML, metaclass=WithoutStub):
    """Buckets of prompt files that people drag and drop."""

    data_model = CanvasData

    def __init__(
        self,
        value: Any = None,
        *,
        words: str | None = None,
        limits: PromptLimits | None = None,
        **kwargs: Any,
    ):
        """Read the files that the canvas is made of.

        Args:
            value: Its first buckets, by the English names that `words` translates.
            words: What the script says, from `script_words`; English by default.
            limits: What the browser may refuse by itself.
            kwargs: For `gr.HTML`.
        """
        # Gradio takes a name that the script quotes for an event, unless it is an attribute.
        self.words = words or script_words()
        if limits is not None:
            kwargs["limits"] = {
                "suffixes": list(FORMATS),
                "max_file_bytes": limits.max_file_bytes,
                "max_files": limits.max_files,
            }
        scripts = (
            asset_path(name).read_text(encoding="utf-8") for name in ("words.js", "canvas.js")
        )
        sortable = asset_path("vendor", "Sortable-1.15.7.min.js").read_text(encoding="utf-8")
        super().__init__(
            value=value,
            html_template=asset_path("canvas.html").read_text(encoding="utf-8"),
            words=self.words,
            js_on_load="\n".join(scripts),
            # Inline, so that the page asks nobody for it.
            head=f"<script>{sortable}</script>",
            apply_default_css=False,
            **kwargs,
        )

    def preprocess(self, payload: CanvasData | None) -> Arrangement:  # type: ignore[override]  # HTML has texts
        """Turn the browser's value into buckets of checked cards.

        Raises:
            gr.Error: If the value is larger than any canvas is.
        """
        if payload is None:
            return Arrangement()
        if max(len(payload.buckets), len(payload.cards)) > FIXED.max_canvas_parts:
            raise gr.Error(_("This canvas holds more than it can. Reload the page."))
        cards = {
            card.id: CanvasCard(
                id=card.id,
                name=card.name,
                split=card.split,
                upload=Path(card.file.path) if card.file else None,
                waiting=card.waiting,
                size=card.size,
                example=card.example,
                pasted=card.pasted,
                choices=Choices(
                    **{**card.choices.model_dump(), "without": tuple(card.choices.without)}
                ),
                accepted=card.accepted,
                version=card.version,
            )
            for card in payload.cards
        }
        return Arrangement(
            tuple(
                CanvasBucket(
                    name=one_line(bucket.name)[:60] or _("Unnamed"),
                    weight=bucket.weight if math.isfinite(bucket.weight) else 0.0,
                    # A card is in one bucket; `pop` keeps a made-up value from doubling it.
                    cards=tuple(cards.pop(key) for key in bucket.cards if key in cards),
                    id=bucket.id,
                )
                for bucket in payload.buckets
            ),
            payload.remixing,
            payload.looking,
        )

    def postprocess(self, value: CanvasData | dict[str, Any] | None) -> CanvasData:  # type: ignore[override]  # HTML has texts
        """Accept a value as a dict or a model."""
        if isinstance(value, CanvasData):
            return value
        return CanvasData(**(value or {}))

    def example_payload(self) -> dict[str, Any]:
        """Return an empty canvas."""
        return {"buckets": [], "cards": []}

    def example_value(self) -> dict[str, Any]:
        """Return an empty canvas."""
        return {"buckets": [], "cards": []}

    def api_info(self) -> dict[str, Any]:
        """Describe the value."""
        return CanvasData.model_json_schema()


class ExampleFile(GradioModel):
    """A file of an example."""

    name: str
    size: int
    file: FileData


class ExampleSet(GradioModel):
    """The files of an example, and the bucket they go to."""

    bucket: str
    """In English; the canvas translates it."""
    weight: float
    files: list[ExampleFile]


class Message(GradioModel):
    """One answer to the canvas."""

    op: Literal["none", "readings", "load", "fold", "restore"] = "none"
    readings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    looked: dict[str, Any] | None = None
    """The prompts of a file that somebody looks at."""
    sets: list[ExampleSet] = Field(default_factory=list)
    buckets: list[BucketData] = Field(default_factory=list)
    cards: list[CardData] = Field(default_factory=list)
    """With `readings`, what lay on the canvas when the page was left."""
    folded: bool = False
    tell_when_read: bool = False
    """Whether the canvas says so, as its event `read`, once these are read."""
    nonce: str = ""
    """Makes equal messages differ, since Gradio sends changes only."""


class Inbox(gr.HTML, metaclass=WithoutStub):
    """Carries answers from Python to the canvas, and shows nothing itself."""

    data_model = Message

    def __init__(self, value: Any = None, **kwargs: Any):
        super().__init__(
            value=value,
            html_template="<span></span>",
            js_on_load=(
                'watch("value", () => window.dispatchEvent('
                'new CustomEvent("dnd-inbox", { detail: props.value })));'
            ),
            apply_default_css=False,
            **kwargs,
        )

    def preprocess(self, payload: Message | None) -> None:  # type: ignore[override]  # HTML has texts
        """Nothing is read back."""

    def postprocess(self, value: dict[str, Any] | None) -> Message:  # type: ignore[override]  # HTML has texts
        """Stamp a message, so that it arrives even if it equals the last one."""
        return Message(**(value or {}), nonce=secrets.token_hex(8))

    def example_payload(self) -> dict[str, Any]:
        """Return an empty message."""
        return {}

    def example_value(self) -> dict[str, Any]:
        """Return an empty message."""
        return {}

    def api_info(self) -> dict[str, Any]:
        """Describe the value."""
        return Message.model_json_schema()
