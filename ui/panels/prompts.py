"""The canvas, the examples beside it, and the action bar below."""

from dataclasses import dataclass

import gradio as gr

from dnd_engine.config import PromptLimits
from dnd_engine.prompts.examples import Example, load_examples
from ui.canvas import Inbox, PromptCanvas
from ui.markup import esc
from ui.text import Text

__all__ = ["PromptsPanel", "hint_html", "prompts_panel"]


@dataclass(frozen=True, slots=True)
class PromptsPanel:
    """Components of the prompts panel."""

    canvas: PromptCanvas
    inbox: Inbox
    show: gr.Button
    """The shortest way: makes an adapter of the first example and asks both models its question."""
    examples: tuple[tuple[Example, gr.Button], ...]
    load_all: gr.Button
    mix: gr.Radio
    seed: gr.Number
    synthesize: gr.Button
    stop: gr.Button
    hint: gr.HTML


def prompts_panel(text: Text, limits: PromptLimits) -> PromptsPanel:
    """Lay out canvas, examples and action bar."""
    gr.HTML(
        f"<section class='dnd-hero'><h2>{text.HERO}</h2><p>{text.HERO_MORE}</p></section>",
        elem_id="dnd-hero",
    )
    first = load_examples()[0]
    with gr.Row(elem_id="dnd-show"):
        show = gr.Button(text.SHOW, variant="primary", size="lg", elem_id="dnd-show-me")
        gr.HTML(_show_html(text, first), padding=False, min_width=0)
    inbox = Inbox(elem_id="dnd-inbox")
    with gr.Row(elem_id="dnd-bench", equal_height=False):
        with gr.Column(elem_id="dnd-canvas-box", elem_classes="dnd-panel", min_width=0):
            buckets = [
                {"id": f"first-{number}", "name": name, "weight": 1.0, "cards": []}
                for number, name in enumerate(text.BUCKETS.values())
            ]
            canvas = PromptCanvas(
                {"buckets": buckets}, text=text, limits=limits, elem_id="dnd-canvas"
            )
        with gr.Column(elem_id="dnd-examples", elem_classes="dnd-panel", min_width=0):
            examples, load_all = _examples(text)
    with gr.Row(elem_id="dnd-action", elem_classes="dnd-panel"):
        mix = gr.Radio(
            [(text.MIX_POOL, "pool"), (text.MIX_SUM, "sum")],
            value="pool",
            label=text.MIX,
            elem_id="dnd-mix",
        )
        with gr.Accordion(text.ADVANCED, open=False, elem_id="dnd-advanced"):
            gr.HTML(f"<p class='dnd-info'>{text.MIX_INFO}</p>")
            seed = gr.Number(
                0, label=text.SEED, info=text.SEED_INFO, precision=0, minimum=0, maximum=2**31 - 1
            )
        with gr.Column(elem_id="dnd-go", min_width=0):
            synthesize = gr.Button(
                text.SYNTHESIZE,
                variant="primary",
                size="lg",
                interactive=False,
                elem_id="dnd-synthesize",
            )
            stop = gr.Button(text.STOP, size="lg", visible=False, elem_id="dnd-stop-synthesis")
            hint = gr.HTML(hint_html(text.HINT_NO_PROMPTS), elem_id="dnd-hint")
    return PromptsPanel(
        canvas=canvas,
        inbox=inbox,
        show=show,
        examples=examples,
        load_all=load_all,
        mix=mix,
        seed=seed,
        synthesize=synthesize,
        stop=stop,
        hint=hint,
    )


def _show_html(text: Text, example: Example) -> str:
    """Say what Show me will do, in full: the question is asked of both as it stands here."""
    prompts = text.count(example.num_prompts, "prompt")
    question = f"<q>{esc(example.question)}</q>"
    return f"<p class='dnd-sub'>{text.fill(text.SHOW_MORE, prompts=prompts, question=question)}</p>"


def _examples(text: Text) -> tuple[tuple[tuple[Example, gr.Button], ...], gr.Button]:
    gr.HTML(
        f"<h2 class='dnd-heading'>{text.EXAMPLES}</h2><p class='dnd-sub'>{text.EXAMPLES_MORE}</p>",
        elem_classes="dnd-examples-head",
    )
    buttons: list[tuple[Example, gr.Button]] = []
    for example in load_examples():
        with gr.Row(elem_classes="dnd-example"):
            facts = (
                f"{text.count(len(example.files), 'file')}, "
                f"{text.count(example.num_prompts, 'prompt')}"
            )
            title, about = text.EXAMPLE_WORDS[example.id]
            gr.HTML(
                f"<b>{title}</b><span class='dnd-facts'>{facts}</span><span>{about}</span>",
                min_width=0,
            )
            button = gr.Button(
                text.EXAMPLE_LOAD, size="sm", min_width=0, elem_id=f"dnd-example-{example.id}"
            )
            buttons.append((example, button))
    load_all = gr.Button(text.EXAMPLE_LOAD_ALL, size="md", elem_id="dnd-example-all")
    return tuple(buttons), load_all


def hint_html(words: str) -> str:
    """Draw the line under Synthesize that says why it is off, or what it will use."""
    return f"<p class='dnd-hint'>{esc(words)}</p>"
