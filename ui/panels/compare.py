"""The twin chat: the same question to base and adapted model, answers side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import gradio as gr

from dnd_engine.asset_files import asset_path
from dnd_engine.config import Sampling
from ui import text
from ui.markup import code_blocks, esc, icon
from ui.state import Turn

if TYPE_CHECKING:
    from dnd_engine.chat import Reply

__all__ = ["NUM_SUGGESTIONS", "ComparePanel", "compare_panel", "head_html", "pane_html"]

NUM_SUGGESTIONS = 3

Side = Literal["base", "adapted"]


@dataclass(frozen=True, slots=True)
class ComparePanel:
    """Components of the chat."""

    head: gr.HTML
    base: gr.HTML
    adapted: gr.HTML
    box: gr.Textbox
    send: gr.Button
    stop: gr.Button
    clear: gr.Button
    suggestions: tuple[gr.Button, ...]
    suggestions_row: gr.Row
    system: gr.Textbox
    max_tokens: gr.Slider
    temperature: gr.Slider
    top_p: gr.Slider
    top_k: gr.Slider
    penalty: gr.Slider
    seed: gr.Number
    context: gr.Checkbox

    @property
    def settings(self) -> list[gr.components.Component]:
        """The sampling controls, in the order in which handlers take them."""
        return [
            self.system,
            self.max_tokens,
            self.temperature,
            self.top_p,
            self.top_k,
            self.penalty,
            self.seed,
            self.context,
        ]


def compare_panel() -> ComparePanel:
    """Lay out the chat."""
    with gr.Column(elem_id="dnd-compare", elem_classes="dnd-panel", min_width=0):
        head = gr.HTML(head_html(has_adapter=False), elem_id="dnd-compare-head", padding=False)
        with gr.Row(elem_id="dnd-panes", equal_height=True):
            base = _pane("base")
            adapted = _pane("adapted")
        with gr.Row(elem_id="dnd-ask", equal_height=True):
            box = gr.Textbox(
                placeholder=text.ASK,
                label=text.ASK,
                show_label=False,
                lines=1,
                max_lines=6,
                max_length=20_000,
                submit_btn=False,
                scale=1,
                min_width=0,
                elem_id="dnd-box",
            )
            send = gr.Button(
                text.SEND, variant="primary", size="md", scale=0, min_width=72, elem_id="dnd-send"
            )
            stop = gr.Button(
                text.STOP, size="md", scale=0, min_width=72, visible=False, elem_id="dnd-stop-chat"
            )
            clear = gr.Button(
                text.CLEAR, size="md", scale=0, min_width=72, elem_id="dnd-clear-chat"
            )
        with gr.Row(elem_id="dnd-suggestions", visible=False) as suggestions_row:
            gr.HTML(f"<span class='dnd-facts'>{text.TRY}</span>", min_width=0)
            suggestions = tuple(
                gr.Button("", size="sm", min_width=0, visible=False, elem_classes="dnd-suggestion")
                for _ in range(NUM_SUGGESTIONS)
            )
        controls = _sampling()
    return ComparePanel(
        head=head,
        base=base,
        adapted=adapted,
        box=box,
        send=send,
        stop=stop,
        clear=clear,
        suggestions=suggestions,
        suggestions_row=suggestions_row,
        **controls,
    )


def _pane(side: Side) -> gr.HTML:
    return gr.HTML(
        pane_html([], side, name="", has_adapter=False),
        js_on_load=asset_path("transcript.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        padding=False,
        min_width=0,
        elem_id=f"dnd-pane-{side}",
        elem_classes="dnd-pane",
    )


def _sampling() -> dict[str, Any]:
    usual = Sampling()
    with gr.Accordion(text.SAMPLING, open=False, elem_id="dnd-sampling"):
        system = gr.Textbox(label=text.SYSTEM_PROMPT, lines=1, max_lines=4, max_length=8_000)
        with gr.Row():
            max_tokens = gr.Slider(
                8, 512, value=usual.max_new_tokens, step=8, label=text.MAX_TOKENS, buttons=[]
            )
            temperature = gr.Slider(
                0,
                2,
                value=usual.temperature,
                step=0.05,
                label=text.TEMPERATURE,
                info=text.TEMPERATURE_INFO,
                buttons=[],
            )
            seed = gr.Number(usual.seed, label=text.SEED, precision=0, minimum=0, maximum=2**31 - 1)
        with gr.Row():
            top_p = gr.Slider(0.05, 1, value=usual.top_p, step=0.05, label=text.TOP_P, buttons=[])
            top_k = gr.Slider(
                0,
                200,
                value=usual.top_k,
                step=1,
                label=text.TOP_K,
                info=text.TOP_K_INFO,
                buttons=[],
            )
            penalty = gr.Slider(
                0.8,
                2,
                value=usual.repetition_penalty,
                step=0.05,
                label=text.PENALTY,
                buttons=[],
            )
        context = gr.Checkbox(False, label=text.CONTEXT, info=text.CONTEXT_INFO)
    return {
        "system": system,
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "penalty": penalty,
        "seed": seed,
        "context": context,
    }


def head_html(*, has_adapter: bool) -> str:
    """Draw the heading of the chat."""
    more = text.COMPARE_MORE if has_adapter else text.COMPARE_BASE_ONLY
    return (
        f"<div class='dnd-row'><h2 class='dnd-heading'>{text.COMPARE}</h2>"
        f"<p class='dnd-sub'>{more}</p></div>"
    )


def pane_html(turns: Sequence[Turn], side: Side, *, name: str, has_adapter: bool) -> str:
    """Draw one side of the conversation.

    Args:
        turns: The conversation.
        side: Whose answers.
        name: Of the model, as it stands beside the title.
        has_adapter: Whether there is one to ask.
    """
    title = text.BASE if side == "base" else text.ADAPTED
    if turns:
        body = "".join(_turn_html(turn, side) for turn in turns)
    else:
        words = text.EMPTY_BASE
        if side == "adapted":
            words = text.EMPTY_ADAPTED_READY if has_adapter else text.EMPTY_ADAPTED
        body = f"<p class='dnd-empty'>{words}</p>"
    return (
        f"<section class='dnd-side is-{side}' aria-label='{title}'>"
        f"<div class='dnd-side-head'><i aria-hidden='true'></i><h3>{title}</h3>"
        f"<span class='dnd-facts'>{esc(name)}</span>"
        f"<button type='button' class='dnd-copy' aria-label='Copy the last answer of {title}'>"
        f"{icon('copy')}</button></div>"
        f"<div class='dnd-log' role='log' tabindex='0' aria-label='{title}, answers'>{body}</div>"
        "</section>"
    )


def _turn_html(turn: Turn, side: Side) -> str:
    question = f"<p class='dnd-asked' data-testid='user'>{esc(turn.question)}</p>"
    reply = turn.base if side == "base" else turn.adapted
    if turn.error:
        answer = (
            f"<div class='dnd-notice is-error' role='alert'>{icon('error')}"
            f"<span class='dnd-pre'>{esc(turn.error)}</span></div>"
            if side == "base"
            else ""
        )
        return question + answer
    if side == "adapted" and not turn.label:
        return f"{question}<p class='dnd-empty'>{text.ASKED_BEFORE}</p>"
    if reply is None:
        words = text.STOPPED_TURN if turn.stopped else turn.waiting
        return f"{question}<p class='dnd-empty'>{esc(words)}</p>"
    cursor = (
        "" if reply.finished or turn.stopped else "<i class='dnd-cursor' aria-hidden='true'></i>"
    )
    return (
        f"{question}<div class='dnd-answer' data-testid='bot'>"
        f"<div class='dnd-answer-text'>{code_blocks(reply.text)}{cursor}</div>"
        f"<p class='dnd-answer-facts'>{_footer(turn, side, reply)}</p></div>"
    )


def _footer(turn: Turn, side: Side, reply: "Reply") -> str:
    label = turn.base_label if side == "base" else turn.label
    parts = [f"<code>{esc(label)}</code>", f"{reply.num_tokens} tok"]
    if reply.tokens_per_second:
        parts.append(f"{reply.tokens_per_second:.0f} tok/s")
    if reply.first_token_seconds is not None:
        parts.append(f"first token {reply.first_token_seconds:.2f} s")
    if turn.stopped and not reply.finished:
        parts.append(f"<b>{text.STOPPED_TURN}</b>")
    elif reply.stop_reason == "length":
        parts.append(f"cut at {reply.num_tokens} tokens")
    both_done = turn.base and turn.adapted and turn.base.finished and turn.adapted.finished
    if side == "adapted" and both_done and turn.base and turn.base.text == reply.text:
        parts.append(f"<b class='is-doubt'>{text.SAME}</b>")
    return " ".join(f"<span>{part}</span>" for part in parts)
