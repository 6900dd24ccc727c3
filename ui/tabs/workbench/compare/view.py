"""The twin chat: one question to two models, answers side by side, optionally blind."""

from collections.abc import Mapping, Sequence

import gradio as gr
from gradio.components import Component

from dnd_engine.config import Sampling
from dnd_engine.limits import FIXED
from dnd_engine.prompts.split import split_prompt
from ui.fields import Number, Slider, Textbox
from ui.markup import brief, code_blocks, error_notice, esc, heading, icon, label_html, unfenced
from ui.panel import Panel, button, script
from ui.state import Answer, AskMode, Made, Place, RemoteSide, Session, Turn
from ui.tabs.workbench.compare.differences import marked
from ui.tabs.workbench.compare.sent import has_several_instructions, is_told, sent
from ui.tabs.workbench.compare.sides import as_changed, is_beside, name_of
from ui.text import N_, _, drawn, localized, number, said

NUM_SUGGESTIONS = 3
INSTRUCTION_CHARACTERS = 80
"""Maximum characters of an instruction where it is named."""

# By position on the page, unlike `votes_view.VOTE_WORDS`, which are about the models.
_VOTES: Mapping[str, str] = {
    "a": N_("A is better"),
    "b": N_("B is better"),
    "tie": N_("Tie"),
    "bad": N_("Both bad"),
}
"""Votes by their names in events."""

_ASK_MODES: Mapping[AskMode, str] = {
    "told": N_("Tell only the base model"),
    "written": N_("As written"),
    "bare": N_("Without the instruction"),
}
_TOLD_OTHER = N_("Tell only the other adapter")
"""Mode *told* where another adapter replaces the base."""
_COMPARED: Mapping[AskMode, str] = {
    "told": N_("{other} reads the instruction and your input. Adapted reads the input alone."),
    "written": N_("Both read exactly what you write."),
    "bare": N_("Both read the input alone: text above a blank line is left out."),
}
"""One line on what is compared. It uses the titles of the panes, because on a phone they are not
left and right."""
_COMPARED_CHOSEN = N_(
    "{other} reads “{instruction}” before your input. You can choose another instruction below. "
    "Adapted reads the input alone."
)
"""The same where there are several instructions, so that the wrong one may be read."""
_COMPARED_BLIND = N_("One reads the instruction and your input, the other the input alone.")
_COMPARED_CHOSEN_BLIND = N_(
    "One reads “{instruction}” before your input, the other the input alone. You can choose "
    "another instruction below."
)
_KEEPS: Mapping[str, str] = {
    "markdown": N_("Markdown"),
    "json": N_("JSON"),
    "votes": N_("Votes, JSONL"),
}


_Who = Made | RemoteSide | None
"""Model on a side; None is the base."""


class ComparePanel(Panel):
    """The chat."""

    def __init__(self) -> None:
        with gr.Column(elem_id="dnd-compare", elem_classes="dnd-panel", min_width=0):
            with gr.Row(elem_id="dnd-compare-bar", equal_height=False):
                self.compare_head = gr.HTML(
                    drawn(head_html, Session()), elem_id="dnd-compare-head", padding=False
                )
                self.differences = gr.Checkbox(
                    label=_("Differences"),
                    visible=False,
                    scale=0,
                    min_width=0,
                    elem_id="dnd-differences",
                )
                self.blind = gr.Checkbox(
                    label=_("Blind"), visible=False, scale=0, min_width=0, elem_id="dnd-blind"
                )
            with gr.Row(elem_id="dnd-panes", equal_height=True):
                with gr.Column(min_width=0):
                    self.left_choice = _choice(_("Compare with"), "left")
                    self.left_pane = _pane("left")
                with gr.Column(min_width=0):
                    self.right_choice = _choice(_("Adapter"), "right")
                    self.right_pane = _pane("right")
            with gr.Row(elem_id="dnd-votes", visible=False) as self.vote_row:
                # One button per entry of `_VOTES`.
                self.vote = {
                    name: button(_(words), f"dnd-vote-{name}") for name, words in _VOTES.items()
                }
            # Shown while the last question is in the box for editing, with a way to cancel.
            with gr.Row(elem_id="dnd-editing", visible=False) as self.edit_row:
                editing = _("Editing the last question. Its answers stay until you send.")
                gr.HTML(drawn(label_html, editing), min_width=0, padding=False)
                self.cancel_edit = gr.Button(
                    _("Cancel edit"), size="sm", scale=0, min_width=0, elem_id="dnd-cancel-edit"
                )
            # Instruction for the instructed side.
            self.told_with = gr.Dropdown(
                [],
                label=told_label(beside=False),
                info=_("It comes before inputs that bring no instruction of their own."),
                visible=False,
                elem_id="dnd-told-with",
            )
            with gr.Row(elem_id="dnd-ask", equal_height=True):
                self.box = Textbox(
                    placeholder=_("Ask both models"),
                    label=_("Ask both models"),
                    show_label=False,
                    lines=1,
                    max_lines=6,
                    max_length=FIXED.max_question_chars,
                    submit_btn=False,
                    scale=1,
                    min_width=0,
                    elem_id="dnd-box",
                )
                self.send = button(_("Send"), "dnd-send", variant="primary", scale=0, min_width=72)
                self.stop_chat = button(
                    _("Stop"), "dnd-stop-chat", scale=0, min_width=72, visible=False
                )
                self.again = button(
                    _("Ask again"), "dnd-again", scale=0, min_width=72, visible=False
                )
                self.clear = button(_("Clear"), "dnd-clear-chat", scale=0, min_width=72)
            with gr.Row(elem_id="dnd-suggestions", visible=False) as self.suggestions_row:
                gr.HTML(drawn(label_html, _("Try:")), min_width=0)
                self.suggestion = tuple(
                    gr.Button(
                        "", size="sm", min_width=0, visible=False, elem_classes="dnd-suggestion"
                    )
                    for _number in range(NUM_SUGGESTIONS)
                )
            self.mode = gr.Radio(
                mode_choices(beside=False),
                value="written",
                label=_("What is sent"),
                info=_(
                    "The instruction is the text before the first blank line. For ordinary "
                    "questions, choose “As written”."
                ),
                elem_id="dnd-mode",
            )
            # The sampling controls, in the order of the handlers' arguments.
            self.settings = _sampling()
            with gr.Row(elem_id="dnd-keep", visible=False) as self.keep_row:
                gr.HTML(drawn(label_html, _("Keep the conversation:")), min_width=0)
                self.keep = {
                    name: gr.DownloadButton(
                        _(words), size="sm", min_width=0, elem_id=f"dnd-keep-{name}"
                    )
                    for name, words in _KEEPS.items()
                }


def _choice(label: str, place: Place) -> gr.Radio:
    """Lay out the models of one side in a line; see `sides.choosers`."""
    return gr.Radio(
        [],
        label=label,
        show_label=False,
        visible=False,
        elem_id=f"dnd-choice-{place}",
        elem_classes="dnd-choice",
    )


def _pane(place: Place) -> gr.HTML:
    return gr.HTML(
        drawn(pane_html, Session(), place),
        js_on_load=script("transcript"),
        # Gradio's own style for prose would change headings and lists.
        apply_default_css=False,
        padding=False,
        min_width=0,
        elem_id=f"dnd-pane-{place}",
        elem_classes="dnd-pane",
    )


def mode_words(mode: AskMode, *, beside: bool) -> str:
    """Name a mode by who reads the instruction; with `beside`, an adapter replaces the base."""
    return _(_TOLD_OTHER if beside and mode == "told" else _ASK_MODES[mode])


def mode_choices(*, beside: bool) -> list[tuple[str, AskMode]]:
    """List the modes with their names; see `mode_words`."""
    return [(mode_words(mode, beside=beside), mode) for mode in _ASK_MODES]


def told_label(*, beside: bool) -> str:
    """Name the choice of the instruction by who reads it."""
    if beside:
        return _("Instruction for the other adapter")
    return _("Instruction for the base model")


def label_words(answer: Answer) -> str:
    """Translate the label of an answer. In the session it is English, and identifies the model."""
    if answer.remote is not None:
        return answer.label  # a name that another server gave
    # Nothing else in a label is a word: the rest is hashes and strengths.
    words = localized(answer.label)
    return words.replace("base", _("base")).replace("then", _("then"))


def _sampling() -> dict[str, Component]:
    usual, controls = Sampling(), dict[str, Component]()
    with gr.Accordion(_("Sampling"), open=False, elem_id="dnd-sampling"):
        controls["system"] = Textbox(
            label=_("System prompt"), lines=1, max_lines=4, max_length=FIXED.max_system_chars
        )
        with gr.Row():
            controls["max_tokens"] = Slider(
                8,
                FIXED.max_answer_tokens,
                value=usual.max_new_tokens,
                step=8,
                label=_("Maximum tokens"),
                buttons=[],
            )
            controls["temperature"] = Slider(
                0,
                2,
                value=usual.temperature,
                step=0.05,
                label=_("Temperature"),
                info=_("0 is greedy."),
                buttons=[],
            )
            controls["seed"] = Number(
                usual.seed, label=_("Seed"), precision=0, minimum=0, maximum=2**31 - 1
            )
        with gr.Row():
            controls["top_p"] = Slider(
                0.05, 1, value=usual.top_p, step=0.05, label=_("Top p"), buttons=[]
            )
            controls["top_k"] = Slider(
                0,
                200,
                value=usual.top_k,
                step=1,
                label=_("Top k"),
                info=_("0 keeps all."),
                buttons=[],
            )
            controls["penalty"] = Slider(
                0.8,
                2,
                value=usual.repetition_penalty,
                step=0.05,
                label=_("Repetition penalty"),
                buttons=[],
            )
        controls["context"] = gr.Checkbox(
            label=_("Send earlier turns as context"),
            info=_("Off: each question is independent, as in the generator's training."),
        )
    return controls


def head_html(session: Session, mode: AskMode = "written") -> str:
    """Draw the chat's heading, with one line on what is compared."""
    made, blind, chosen = session.made, session.blind, session.told_with
    other = _("Other adapter") if is_beside(session) else _("Base")
    more = _(_COMPARED[mode], other=other)
    if mode == "told" and chosen and made is not None and has_several_instructions(made.buckets):
        words = _COMPARED_CHOSEN_BLIND if blind else _COMPARED_CHOSEN
        more = _(words, other=other, instruction=esc(brief(chosen, INSTRUCTION_CHARACTERS)))
    elif mode == "told" and blind:
        more = _(_COMPARED_BLIND)
    if made is None and session.remote is None:
        more = _(
            "You can chat with the base model now. The adapted answer appears beside it after "
            "Synthesize."
        )
    return f"<div class='dnd-row'>{heading(_('Compare'), more)}</div>"


def pane_html(session: Session, place: Place, base: str = "") -> str:
    """Draw one side of the conversation; while blind, a turn's sides may be swapped."""
    kind, title, name = _title(session, place, base)
    # Read once, as another event may clear the conversation meanwhile.
    turns, made = session.turns, session.made
    if turns:
        body = _log_html(session, turns, place)
    else:
        words = _("The base model's answers appear here.")
        if place == "right":
            words = _("No adapter yet. Its answers will appear here, beside the base model's.")
            if session.library:
                words = _("No adapter yet. Make one, or choose one above.")
            if session.remote:
                words = _("The adapter's answers appear here.")
            elif made:
                words = _("Ask with the input alone: the adapter should know the instruction.")
                if made.original.not_imprinted or made.imprint_missing:
                    words = _("No instruction was imprinted. Ask as your files do, and compare.")
        body = f"<p class='dnd-empty'>{words}</p>"
    again = ""
    # While blind, a side cannot be asked again alone: the panes may be swapped.
    if turns and turns[-1].finished and not session.blind:
        again = (
            "<button type='button' class='dnd-tool' data-event='retry' "
            f"title='{esc(_('Ask again'))}' "
            f"aria-label='{esc(_('Ask {side} again', side=title))}'>{icon('again')}</button>"
        )
    copy = esc(_("Copy the last answer of {side}", side=title))
    return (
        f"<section class='dnd-side is-{kind}' aria-label='{esc(title)}'>"
        f"<div class='dnd-side-head'><i aria-hidden='true'></i><h3>{title}</h3>"
        f"<span class='dnd-facts'>{esc(name)}</span><span class='dnd-side-tools'>{again}"
        f"<button type='button' class='dnd-tool dnd-copy' title='{esc(_('Copy the last answer'))}' "
        f"aria-label='{copy}'>{icon('copy')}</button></span></div>"
        # Focusable, so that it can be scrolled with the keyboard.
        "<div class='dnd-log' role='log' tabindex='0' "
        f"aria-label='{esc(_('{side}, answers', side=title))}'>{body}</div></section>"
    )


def _title(session: Session, place: Place, base: str) -> tuple[str, str, str]:
    """Return kind, title and model name of a pane."""
    left = place == "left"
    if session.blind:
        return "blind", "A" if left else "B", ""
    who = _next(session)[place]
    name = base if left else ""
    if who is not None:
        name = who.model if isinstance(who, RemoteSide) else name_of(session, who)
    if not left:
        return "adapted", _("Adapted"), name
    if isinstance(who, Made):
        return "other", _("Other adapter"), name
    return "base", _("Base"), name


def _log_html(session: Session, turns: Sequence[Turn], place: Place) -> str:
    """Draw the turns, with a line wherever the model changes."""
    blind = session.blind
    # The first turn is compared with itself, so no line precedes it.
    parts, before = [], _asked(turns[0])
    for turn in turns:
        parts += [_line_html(before, _asked(turn), place, blind=blind)]
        parts += [_turn_html(session, turn, place, turn is turns[-1])]
        before = _asked(turn)
    # The last line tells who will answer the next question.
    return "".join([*parts, _line_html(before, _next(session), place, blind=blind)])


def _next(session: Session) -> dict[Place, _Who]:
    """Return who answers the next question."""
    if (remote := session.remote) is not None:
        return {"left": remote[0], "right": remote[1]}
    return {"left": session.beside, "right": session.made}


def _asked(turn: Turn) -> dict[Place, _Who]:
    return {place: side.remote or side.made for place, side in turn.sides.items()}


def _line_html(
    before: Mapping[Place, _Who], now: Mapping[Place, _Who], place: Place, *, blind: bool
) -> str:
    """Draw the line between two turns, if there is one; while blind it names no model."""
    # By key, because one adapter may be several objects: made twice, or loaded again.
    changed = [
        side
        for side in before.keys() & now.keys()
        if (was := before[side]) is not (new := now[side])
        and (was is None or new is None or was.key != new.key)
    ]
    if blind:
        words = _("From here on: other models") if changed else ""
    elif place in changed:
        made = now[place]
        name = _("Base")
        if isinstance(made, RemoteSide):
            name = f"<code>{esc(made.model)}</code>"
        elif made is not None:
            changed_name = as_changed(made, made.adapter.name)
            name = f"{esc(changed_name)} <code>{esc(made.key[:8])}</code>"
        words = _("From here on: {name}", name=name)
    else:
        words = ""
    return f"<p class='dnd-from-here'><span>{words}</span></p>" if words else ""


def _turn_html(session: Session, turn: Turn, place: Place, last: bool) -> str:
    editable = last and turn.finished and place == "left"
    question = _question_html(turn, place, blind=session.blind, editable=editable)
    # An error is of the whole turn, so it is shown once.
    if turn.error:
        return question + (error_notice(said(turn.error)) if place == "left" else "")
    # While blind, either model may be on this side.
    swapped = session.blind and turn.swapped
    mine: Place = place if not swapped else "right" if place == "left" else "left"
    answer = turn.sides.get(mine)
    if answer is None:
        return f"{question}<p class='dnd-empty'>{_('Asked before there was an adapter.')}</p>"
    if answer.reply is None:
        words: str = turn.waiting if mine in turn.running else _("stopped")
        return f"{question}<p class='dnd-empty'>{esc(words)}</p>"
    running = mine in turn.running and not answer.finished
    footer = _footer(turn, mine, answer, blind=session.blind)
    cursor = "<i class='dnd-cursor' aria-hidden='true'></i>" if running else ""
    other = turn.sides.get("right" if mine == "left" else "left")
    words = code_blocks(answer.reply.text)
    # Until both are complete, most of the longer answer would be marked.
    if session.differences and turn.complete and other is not None and other.reply is not None:
        words = marked(unfenced(answer.reply.text), unfenced(other.reply.text))
    return (
        f"{question}<div class='dnd-answer' data-testid='bot'>"
        f"<div class='dnd-answer-text'>{words}{cursor}</div>"
        f"<div class='dnd-answer-facts'>{footer}</div></div>"
    )


def _question_html(turn: Turn, place: Place, *, blind: bool, editable: bool) -> str:
    """Draw the question, striking the instruction if it was omitted on this side."""
    # While blind, an instruction on only one side would reveal the model.
    words = esc(turn.question if blind else sent(turn.question, turn.mode, place, turn.instruction))
    parts = split_prompt(turn.question)
    if not blind and not is_told(turn.mode, place) and parts.input is not None:
        left_out = f"<s title='{esc(_('left out on this side'))}'>{esc(parts.instruction)}</s>"
        words = f"{left_out}\n\n{esc(parts.input)}"
    edit, label = "", esc(_("Edit and resend"))
    if editable:
        edit = (
            f"<button type='button' class='dnd-tool' data-event='edit' title='{label}' "
            f"aria-label='{label}'>{icon('edit')}</button>"
        )
    return (
        f"<div class='dnd-asked-row'>{edit}"
        f"<p class='dnd-asked' data-testid='user'>{words}</p></div>"
    )


def _footer(turn: Turn, place: Place, answer: Answer, *, blind: bool) -> str:
    reply = answer.reply
    assert reply is not None
    if blind and turn.vote is None:  # any text here would reveal the model
        return f"<span><b>{_('stopped')}</b></span>" if answer.stopped else ""
    parts = [_("{number} tok", number=reply.num_tokens)]
    if blind:
        who = _("Adapted") if place == "right" else _("Other adapter") if answer.made else _("Base")
        better = f" {_('better')}" if turn.vote == place else ""
        parts.insert(0, f"<b>{who}{better}</b>")
    if speed := reply.tokens_per_second:
        # One decimal below ten; from 9.95 on, that would be 10.0.
        parts.append(_("{number} tok/s", number=number(speed, ".0f" if speed >= 9.95 else ".1f")))
    if answer.stopped:
        parts.append(f"<b>{_('stopped')}</b>")
    elif reply.stop_reason == "length":
        parts.append(_("cut at {number} tokens", number=reply.num_tokens))
    both = turn.right is not None and turn.left.finished and turn.right.finished
    if place == "right" and both and turn.left.reply and turn.left.reply.text == reply.text:
        read = [sent(turn.question, turn.mode, side, turn.instruction) for side in turn.sides]
        if read[0] != read[1] and turn.left.made is None:
            parts.append(f"<b>{_('as the base answers with the instruction')}</b>")
        else:
            same = _("both answers are the same, word for word")
            parts.append(f"<b class='is-doubt'>{same}</b>")
    more = [f"<code>{esc(label_words(answer))}</code>"]
    if reply.first_token_seconds is not None:
        more.append(_("first token {seconds:.2f} s", seconds=reply.first_token_seconds))
    if answer.seed is not None:
        more.append(_("seed {seed}", seed=answer.seed))
    return f"{_spans(parts)}<details><summary>{_('Details')}</summary>{_spans(more)}</details>"


def _spans(parts: Sequence[str]) -> str:
    return " ".join(f"<span>{part}</span>" for part in parts)
