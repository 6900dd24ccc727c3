"""The twin chat: the same question to two models, answers side by side; blind, if one likes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from dnd_engine.config import Sampling
from dnd_engine.files import asset_path
from dnd_engine.prompts.split import split_prompt
from ui.differences import marked
from ui.markup import code_blocks, esc, icon, unfenced
from ui.state import Answer, Made, Place, Turn
from ui.text import Text

__all__ = [
    "MAX_ANSWER_TOKENS",
    "NUM_SUGGESTIONS",
    "ComparePanel",
    "View",
    "compare_panel",
    "head_html",
    "pane_html",
]

NUM_SUGGESTIONS = 3

MAX_ANSWER_TOKENS = 512
"""As long as an answer may be asked to be: about half a minute on two CPU cores."""


@dataclass(frozen=True, slots=True)
class ComparePanel:
    """Components of the chat."""

    head: gr.HTML
    beside: gr.Dropdown
    differences: gr.Checkbox
    blind: gr.Checkbox
    left: gr.HTML
    right: gr.HTML
    vote_row: gr.Row
    votes: tuple[gr.Button, ...]
    """One for each of `text.VOTES`."""
    box: gr.Textbox
    send: gr.Button
    stop: gr.Button
    again: gr.Button
    clear: gr.Button
    mode: gr.Radio
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
    keep_row: gr.Row
    keep_markdown: gr.DownloadButton
    keep_json: gr.DownloadButton
    keep_votes: gr.DownloadButton

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


@dataclass(frozen=True, slots=True)
class View:
    """How a conversation is looked at."""

    names: tuple[str, str] = ("", "")
    """Of the models left and right, as they stand beside the titles."""
    beside: Made | None = None
    """The adapter that stands left; None for the base."""
    made: Made | None = None
    """The one that stands right."""
    differences: bool = False
    blind: bool = False


def compare_panel(text: Text) -> ComparePanel:
    """Lay out the chat."""
    with gr.Column(elem_id="dnd-compare", elem_classes="dnd-panel", min_width=0):
        with gr.Row(elem_id="dnd-compare-bar", equal_height=False):
            head = gr.HTML(
                head_html(text, has_adapter=False), elem_id="dnd-compare-head", padding=False
            )
            beside = gr.Dropdown(
                [(text.BASE, "")],
                value="",
                label=text.BESIDE,
                visible=False,
                scale=0,
                min_width=0,
                elem_id="dnd-beside",
            )
            differences = gr.Checkbox(
                False,
                label=text.DIFFERENCES,
                visible=False,
                scale=0,
                min_width=0,
                elem_id="dnd-differences",
            )
            blind = gr.Checkbox(
                False, label=text.BLIND, visible=False, scale=0, min_width=0, elem_id="dnd-blind"
            )
        with gr.Row(elem_id="dnd-panes", equal_height=True):
            left = _pane(text, "left")
            right = _pane(text, "right")
        with gr.Row(elem_id="dnd-votes", visible=False) as vote_row:
            votes = tuple(
                gr.Button(words, size="md", min_width=0, elem_id=f"dnd-vote-{name}")
                for name, words in text.VOTES.items()
            )
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
            again = gr.Button(
                text.AGAIN, size="md", scale=0, min_width=72, visible=False, elem_id="dnd-again"
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
        mode = gr.Radio(
            [(words, name) for name, words in text.ASK_MODES.items()],
            value="written",
            label=text.ASK_MODE,
            info=text.ASK_MODE_INFO,
            elem_id="dnd-mode",
        )
        controls = _sampling(text)
        with gr.Row(elem_id="dnd-keep", visible=False) as keep_row:
            gr.HTML(f"<span class='dnd-facts'>{text.KEEP}</span>", min_width=0)
            keep = [
                gr.DownloadButton(words, size="sm", min_width=0, elem_id=f"dnd-keep-{name}")
                for name, words in text.KEEPS.items()
            ]
    return ComparePanel(
        head=head,
        beside=beside,
        differences=differences,
        blind=blind,
        left=left,
        right=right,
        vote_row=vote_row,
        votes=votes,
        box=box,
        send=send,
        stop=stop,
        again=again,
        clear=clear,
        mode=mode,
        suggestions=suggestions,
        suggestions_row=suggestions_row,
        keep_row=keep_row,
        keep_markdown=keep[0],
        keep_json=keep[1],
        keep_votes=keep[2],
        **controls,
    )


def _pane(text: Text, place: Place) -> gr.HTML:
    return gr.HTML(
        pane_html(text, [], place, View()),
        js_on_load=asset_path("transcript.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        padding=False,
        min_width=0,
        elem_id=f"dnd-pane-{place}",
        elem_classes="dnd-pane",
    )


def _sampling(text: Text) -> dict[str, Any]:
    usual = Sampling()
    with gr.Accordion(text.SAMPLING, open=False, elem_id="dnd-sampling"):
        system = gr.Textbox(label=text.SYSTEM_PROMPT, lines=1, max_lines=4, max_length=8_000)
        with gr.Row():
            max_tokens = gr.Slider(
                8,
                MAX_ANSWER_TOKENS,
                value=usual.max_new_tokens,
                step=8,
                label=text.MAX_TOKENS,
                buttons=[],
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


def head_html(text: Text, *, has_adapter: bool) -> str:
    """Draw the heading of the chat."""
    more = text.COMPARE_MORE if has_adapter else text.COMPARE_BASE_ONLY
    return (
        f"<div class='dnd-row'><h2 class='dnd-heading'>{text.COMPARE}</h2>"
        f"<p class='dnd-sub'>{more}</p></div>"
    )


def pane_html(text: Text, turns: Sequence[Turn], place: Place, view: View) -> str:
    """Draw one side of the conversation.

    Args:
        text: The words of the page.
        turns: The conversation.
        place: Which pane; while blind, a turn's sides may have changed places.
        view: How to look at it.
    """
    kind, title, name = _title(text, place, view)
    if turns:
        body = _log_html(text, turns, place, view)
    else:
        words = text.EMPTY_BASE
        if place == "right":
            words = text.EMPTY_ADAPTED_READY if view.made else text.EMPTY_ADAPTED
        body = f"<p class='dnd-empty'>{words}</p>"
    again = ""
    if turns and turns[-1].finished and not view.blind:
        again = (
            f"<button type='button' class='dnd-tool' data-event='retry' title='{text.AGAIN}' "
            f"aria-label='{text.fill(text.AGAIN_SIDE, side=title)}'>{icon('again')}</button>"
        )
    return (
        f"<section class='dnd-side is-{kind}' aria-label='{title}'>"
        f"<div class='dnd-side-head'><i aria-hidden='true'></i><h3>{title}</h3>"
        f"<span class='dnd-facts'>{esc(name)}</span><span class='dnd-side-tools'>{again}"
        f"<button type='button' class='dnd-tool dnd-copy' title='{text.COPY}' "
        f"aria-label='{text.fill(text.COPY_SIDE, side=title)}'>{icon('copy')}</button></span></div>"
        "<div class='dnd-log' role='log' tabindex='0' "
        f"aria-label='{text.fill(text.ANSWERS, side=title)}'>{body}</div></section>"
    )


def _title(text: Text, place: Place, view: View) -> tuple[str, str, str]:
    """Return the kind, the title and the model's name of a pane."""
    left = place == "left"
    if view.blind:
        return "blind", text.BLIND_SIDES[0 if left else 1], ""
    name = view.names[0 if left else 1]
    if not left:
        return "adapted", text.ADAPTED, name
    return ("other", text.OTHER, name) if view.beside else ("base", text.BASE, name)


def _log_html(text: Text, turns: Sequence[Turn], place: Place, view: View) -> str:
    """Draw the turns, and a line wherever another model takes the place of the one before."""
    parts, before = [], _asked(turns[0])
    for turn in turns:
        parts += [_line_html(text, before, _asked(turn), place, view)]
        parts += [_turn_html(text, turn, place, view, turn is turns[-1])]
        before = _asked(turn)
    now: dict[Place, Made | None] = {"left": view.beside, "right": view.made}
    return "".join([*parts, _line_html(text, before, now, place, view)])


def _asked(turn: Turn) -> dict[Place, Made | None]:
    return {place: side.made for place, side in turn.sides.items()}


def _line_html(
    text: Text,
    before: Mapping[Place, Made | None],
    now: Mapping[Place, Made | None],
    place: Place,
    view: View,
) -> str:
    """Draw the line between two turns, if there is one; while blind it names nobody."""
    changed = [
        side
        for side in before.keys() & now.keys()
        if (was := before[side]) is not (new := now[side])
        and (was is None or new is None or was.key != new.key)
    ]
    if view.blind:
        words = text.NOW_OTHERS if changed else ""
    elif place in changed:
        made = now[place]
        name = text.BASE
        if made is not None:
            name = f"{esc(made.adapter.name)} <code>{esc(made.key[:8])}</code>"
        words = text.fill(text.NOW_ASKED, name=name)
    else:
        words = ""
    return f"<p class='dnd-from-here'><span>{words}</span></p>" if words else ""


def _turn_html(text: Text, turn: Turn, place: Place, view: View, last: bool) -> str:
    editable = last and turn.finished and place == "left"
    question = _question_html(text, turn, place, editable=editable)
    if turn.error:
        told = (
            f"<div class='dnd-notice is-error' role='alert'>{icon('error')}"
            f"<span class='dnd-pre'>{esc(turn.error)}</span></div>"
        )
        return question + (told if place == "left" else "")
    # While blind, whoever answers may stand on either side.
    swapped = view.blind and turn.swapped
    mine: Place = place if not swapped else "right" if place == "left" else "left"
    answer = turn.sides.get(mine)
    if answer is None:
        return f"{question}<p class='dnd-empty'>{text.ASKED_BEFORE}</p>"
    if answer.reply is None:
        words = turn.waiting if mine in turn.running else text.STOPPED_TURN
        return f"{question}<p class='dnd-empty'>{esc(words)}</p>"
    running = mine in turn.running and not answer.finished
    cursor = "<i class='dnd-cursor' aria-hidden='true'></i>" if running else ""
    other = turn.sides.get("right" if mine == "left" else "left")
    words = code_blocks(answer.reply.text)
    if view.differences and turn.complete and other is not None and other.reply is not None:
        words = marked(text, unfenced(answer.reply.text), unfenced(other.reply.text))
    return (
        f"{question}<div class='dnd-answer' data-testid='bot'>"
        f"<div class='dnd-answer-text'>{words}{cursor}</div>"
        f"<p class='dnd-answer-facts'>{_footer(text, turn, mine, answer, view)}</p></div>"
    )


def _question_html(text: Text, turn: Turn, place: Place, *, editable: bool) -> str:
    """Draw what was asked; the instruction that was left out on this side is struck."""
    told = turn.mode == "written" or (turn.mode == "told" and place == "left")
    words = esc(turn.question)
    parts = split_prompt(turn.question)
    if not told and parts.input is not None:
        words = f"<s title='{text.LEFT_OUT}'>{esc(parts.instruction)}</s>\n\n{esc(parts.input)}"
    edit = (
        f"<button type='button' class='dnd-tool' data-event='edit' title='{text.EDIT}' "
        f"aria-label='{text.EDIT}'>{icon('edit')}</button>"
        if editable
        else ""
    )
    return (
        f"<div class='dnd-asked-row'>{edit}"
        f"<p class='dnd-asked' data-testid='user'>{words}</p></div>"
    )


def _footer(text: Text, turn: Turn, place: Place, answer: Answer, view: View) -> str:
    reply = answer.reply
    assert reply is not None
    if view.blind and turn.vote is None:  # whatever stands here would give it away
        return f"<span><b>{text.STOPPED_TURN}</b></span>" if answer.stopped else ""
    parts = [f"<code>{esc(answer.label)}</code>", text.fill(text.TOKENS, number=reply.num_tokens)]
    if view.blind:
        who = text.ADAPTED if place == "right" else text.OTHER if view.beside else text.BASE
        better = f" {text.VOTED_BETTER}" if turn.vote == place else ""
        parts.insert(0, f"<b>{who}{better}</b>")
    if reply.tokens_per_second:
        parts.append(text.fill(text.TOKENS_PER_SECOND, number=reply.tokens_per_second))
    if reply.first_token_seconds is not None:
        parts.append(text.fill(text.FIRST_TOKEN, seconds=reply.first_token_seconds))
    if answer.seed is not None:
        parts.append(text.fill(text.SEED_USED, seed=answer.seed))
    if answer.stopped:
        parts.append(f"<b>{text.STOPPED_TURN}</b>")
    elif reply.stop_reason == "length":
        parts.append(text.fill(text.CUT_AT, number=reply.num_tokens))
    both = turn.right is not None and turn.left.finished and turn.right.finished
    if place == "right" and both and turn.left.reply and turn.left.reply.text == reply.text:
        parts.append(f"<b class='is-doubt'>{text.SAME}</b>")
    return " ".join(f"<span>{part}</span>" for part in parts)
