"""The answers that a visitor corrects: a `gr.HTML` whose value is a typed, validated model.

One component for all of them. A page opens slower with each component and each event that it has.
"""

import secrets
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.data_classes import GradioModel
from pydantic import Field

from dnd_engine.config import RefineConfig
from dnd_engine.limits import FIXED
from ui.fields import check_length
from ui.panel import script

NUM_ROWS = RefineConfig().max_prompts
"""Maximum number of proposed answers: training takes no more."""


class AnswerRow(GradioModel):
    """An answer below its prompt."""

    prompt: str = ""
    about: str = ""
    """What else is said of the prompt: its bucket, its instruction."""
    answer: str = ""


@dataclass(frozen=True, slots=True)
class TypedAnswers:
    """What a page sends."""

    proposal: str = ""
    """`Proposed.key` of the prompts that it shows."""
    answers: tuple[str, ...] = ()
    """In the order of the prompts."""


class AnswersData(GradioModel):
    """The value of the component, both ways."""

    rows: list[AnswerRow] = Field(default_factory=list, max_length=NUM_ROWS)
    proposal: str = ""
    """See `TypedAnswers`."""
    nonce: str = ""
    """Differs when the server sends the same answers again: the page draws each value once."""


class AnswerFields(gr.HTML):
    """A field for each answer, which sends the event `typed` when it is left."""

    # Without a model, anything that a client sends would reach the handlers.
    data_model = AnswersData

    def __init__(self, value: Any = None, **kwargs: Any):
        super().__init__(
            value=value,
            html_template=f"<div class='dnd-answers' data-most='{FIXED.max_taught_chars}'></div>",
            js_on_load=script("answers"),
            apply_default_css=False,
            padding=False,
            **kwargs,
        )

    def preprocess(self, payload: AnswersData | None) -> TypedAnswers:  # type: ignore[override]  # HTML has texts
        """Return the answers without the prompts, which the server knows.

        Raises:
            gr.Error: If one is too long.
        """
        if payload is None:
            return TypedAnswers()
        for row in payload.rows:
            check_length(row.answer, FIXED.max_taught_chars)
        return TypedAnswers(payload.proposal, tuple(row.answer for row in payload.rows))

    def postprocess(self, value: AnswersData | None) -> AnswersData:  # type: ignore[override]  # HTML has texts
        """Return the value, or no rows, with a nonce of its own."""
        value = AnswersData() if value is None else value
        return AnswersData(rows=value.rows, proposal=value.proposal, nonce=secrets.token_hex(8))

    def example_payload(self) -> dict[str, Any]:
        """Return no rows."""
        return {"rows": []}

    def api_info(self) -> dict[str, Any]:
        """Return the schema of the value."""
        return AnswersData.model_json_schema()
