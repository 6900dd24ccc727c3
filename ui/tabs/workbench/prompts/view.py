"""The canvas, the examples beside it, and the action bar below."""

from collections.abc import Mapping
from dataclasses import replace

import gradio as gr

from dnd_engine.checks.examples import ExampleResult, measured_result
from dnd_engine.checks.verdict import Sure
from dnd_engine.limits import FIXED, PromptLimits
from dnd_engine.prompts.examples import ExampleBucket, load_examples, measured_together
from ui.canvas import Inbox, PromptCanvas
from ui.fields import Number, Textbox
from ui.markup import esc, heading, icon, label_html, prose, quiet
from ui.panel import Panel
from ui.tabs.workbench.adapter.check_lines import harm_words
from ui.text import N_, _, count_files, count_prompts, drawn, note_words, script_words

# The names in `assets/examples/examples.json`, a file from which no messages are extracted.
EXAMPLE_BUCKETS = (N_("SQL"), N_("Legal"), N_("Tone of voice"))
"""Buckets of the examples, which the canvas translates."""

_EXAMPLE_WORDS: Mapping[str, tuple[str, str]] = {
    "sql": (N_("Questions to SQL"), N_("Questions about a table, asked in plain English.")),
    "legal": (N_("Contract clauses"), N_("Short clauses; the answer names who must act.")),
    "tone": (N_("A kinder tone"), N_("Sour sentences, to be made positive.")),
}

_FORECASTS: Mapping[Sure, str] = {
    "sure": N_("sure"),
    "partly": N_("partly sure"),
    "unsure": N_("unsure"),
}


class PromptsPanel(Panel):
    """Canvas, examples and action bar."""

    def __init__(self, limits: PromptLimits) -> None:
        gr.HTML(drawn(_hero_html), elem_id="dnd-hero")
        first = load_examples()[0]
        with gr.Row(elem_id="dnd-show"):
            # The shortest way: makes an adapter from the first example and asks both models its
            # question.
            self.show = gr.Button(_("Show me"), variant="primary", size="lg", elem_id="dnd-show-me")
            gr.HTML(drawn(_show_html, first), padding=False, min_width=0)
        self.inbox = Inbox(elem_id="dnd-inbox")
        with gr.Row(elem_id="dnd-bench", equal_height=False):
            with gr.Column(elem_id="dnd-canvas-box", elem_classes="dnd-panel", min_width=0):
                self.canvas = PromptCanvas(
                    words=drawn(script_words, *EXAMPLE_BUCKETS), limits=limits, elem_id="dnd-canvas"
                )
            with gr.Column(elem_id="dnd-examples", elem_classes="dnd-panel", min_width=0):
                self._lay_out_examples()
        self.forecast = gr.HTML(elem_id="dnd-forecast", padding=False)
        with gr.Row(elem_id="dnd-action", elem_classes="dnd-panel"):
            with gr.Accordion(_("Advanced"), open=False, elem_id="dnd-advanced"):
                self._lay_out_advanced()
            with gr.Column(elem_id="dnd-go", min_width=0):
                self.synthesize = gr.Button(
                    _("Synthesize"),
                    variant="primary",
                    size="lg",
                    interactive=False,
                    elem_id="dnd-synthesize",
                )
                self.stop_synthesis = gr.Button(
                    _("Stop"), size="lg", visible=False, elem_id="dnd-stop-synthesis"
                )
                self.hint = gr.HTML(
                    drawn(hint_html, _("Drop prompt files first.")), elem_id="dnd-hint"
                )

    def _lay_out_examples(self) -> None:
        more = _(
            "Each example puts its files in a bucket and says what we measured. Your own task may "
            "turn out better or worse."
        )
        gr.HTML(drawn(heading, _("No files at hand?"), more), elem_classes="dnd-examples-head")
        # Instead, once there are files.
        gr.HTML(drawn(label_html, _("Add an example:")), elem_classes="dnd-examples-more")
        self.examples: dict[str, gr.Button] = {}
        for example in load_examples():
            with gr.Row(elem_classes="dnd-example"):
                gr.HTML(drawn(example_html, example), min_width=0)
                self.examples[example.id] = gr.Button(
                    _("Load {bucket}", bucket=_(example.bucket)),
                    size="sm",
                    min_width=0,
                    elem_id=f"dnd-example-{example.id}",
                )
        with gr.Row(elem_classes="dnd-example"):
            together = measured_result(measured_together())
            gr.HTML(drawn(together_html, together), min_width=0)
            self.load_all = gr.Button(
                _("Load all three"), size="sm", min_width=0, elem_id="dnd-example-all"
            )

    def _lay_out_advanced(self) -> None:
        # 2**31 - 1 is the largest seed that `Sampling` and `ImprintConfig` accept.
        self.seed = Number(
            0,
            label=_("Seed"),
            info=_(
                "Decides which prompts are drawn. The same prompts and seed give the same adapter."
            ),
            precision=0,
            minimum=0,
            maximum=2**31 - 1,
        )
        self.instruction = Textbox(
            label=_("Instruction for prompts that have none"),
            info=_(
                "Put above every prompt that has no instruction of its own or of its bucket. Kept "
                "in the adapter's recipe."
            ),
            max_length=FIXED.max_instruction_chars,
            elem_id="dnd-instruction",
        )
        self.imprint = gr.Checkbox(
            True,
            label=_("Imprint the instruction"),
            info=_(
                "After synthesis, also writes your instruction into the weights, so that the "
                "adapter follows it when you send the input alone."
            ),
            elem_id="dnd-imprint",
        )
        # An imprint replaces the generator's mix, so few visitors need this choice.
        self.mix = gr.Radio(
            [(_("Pool prompts"), "pool"), (_("Sum adapters"), "sum")],
            value="pool",
            label=_("Mix without imprint"),
            info=_(
                "An imprint fits all buckets together, by weight. Without it, Pool makes one "
                "adapter from all prompts, drawn by weight; Sum makes one for each bucket and "
                "adds them by weight."
            ),
            elem_id="dnd-mix",
        )


def _show_html(example: ExampleBucket) -> str:
    """Describe all that Show me will do, with its question."""
    words = _(
        "Makes an adapter from {prompts} about tables, then asks both models. Only the base is "
        "told to write SQL: {question}",
        prompts=count_prompts(example.num_prompts),
        question=f"<q>{esc(example.question)}</q>",
    )
    return quiet(words)


def _hero_html() -> str:
    more = _(
        "A generator reads your unlabeled prompts and writes a LoRA adapter for a small language "
        "model, with no training run. Then you compare base and adapted answers and see how far to "
        "trust the result."
    )
    title = _("Drop prompts. Get an adapter. See if it works.")
    return f"<section class='dnd-hero'><h2>{title}</h2><p>{more}</p></section>"


def example_html(example: ExampleBucket) -> str:
    """Describe an example, and say how it turned out."""
    title, about = map(_, _EXAMPLE_WORDS[example.id])
    size = f"{count_files(len(example.files))}, {count_prompts(example.num_prompts)}"
    found = _measured_html(measured_result(example.measured))
    return f"<b>{title}</b>{label_html(size)}<span>{about}</span>{found}"


def together_html(found: ExampleResult) -> str:
    """Say how all examples in one adapter turned out."""
    return f"<b>{_('All in one adapter')}</b>{_measured_html(found)}"


def _measured_html(found: ExampleResult) -> str:
    """Say what to expect of an example, in the words of its later forecast and verdict."""
    # The canvas names the buckets of examples in the visitor's language, too.
    named = [replace(part, bucket=_(part.bucket)) for part in found.verdict.by_bucket]
    verdict, skills = replace(found.verdict, by_bucket=tuple(named)), found.skills
    said = [
        note_words(verdict.head),
        _("Measured: {same} of {number} prompts.", same=verdict.same, number=verdict.num_prompts),
    ]
    if found.forecast is not None:
        said.append(_("Forecast: {sure}.", sure=_(_FORECASTS[found.forecast.sure])))
    if not skills.enough:
        said.append(harm_words(skills))
    warns = verdict.warns or not skills.enough
    mark = icon("check" if found.works else "warn" if warns else "info")
    return f"<span class='dnd-example-found'>{mark} {' '.join(said)}</span>"


def hint_html(words: str) -> str:
    """Draw the line under Synthesize: why it is disabled, or what it will use."""
    return f"<p class='dnd-hint'>{prose(words)}</p>"
