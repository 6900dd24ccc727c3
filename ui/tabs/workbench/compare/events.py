"""Events of the twin chat: ask, retry, edit, mark differences, vote and export."""

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import gradio as gr

from dnd_engine.config import Sampling
from dnd_engine.errors import DndError
from dnd_engine.limits import FIXED
from dnd_engine.prompts.split import split_prompt
from ui.engine_calls import Stop
from ui.frame.view import progress_words
from ui.markup import brief
from ui.shared import App, Updates, broke
from ui.state import (
    Answer,
    Asked,
    AskMode,
    Compared,
    Made,
    Place,
    RemoteSide,
    Session,
    Turn,
    Typed,
    Vote,
)
from ui.tabs.workbench.compare.sent import instructions_of, sent
from ui.tabs.workbench.compare.settings import Settings
from ui.tabs.workbench.compare.sides import choosers, is_beside
from ui.tabs.workbench.compare.transcript import write_transcript
from ui.tabs.workbench.compare.view import (
    INSTRUCTION_CHARACTERS,
    head_html,
    mode_choices,
    pane_html,
    told_label,
)
from ui.tabs.workbench.compare.votes_view import votes_html
from ui.text import _

if TYPE_CHECKING:
    from dnd_engine.models.replies import Message
    from ui.engine_calls import Row


class CompareEvents:
    """Events of the chat."""

    def __init__(self, app: App) -> None:
        self._app = app

    def panes(self, session: Session) -> Updates:
        """Draw both sides of the conversation."""
        engine = self._app.calls.engine
        base = engine.info.base_id.rpartition("/")[2] if engine else ""
        return {
            "left_pane": pane_html(session, "left", base),
            "right_pane": pane_html(session, "right", base),
        }

    def ask(self, question: str, mode: AskMode, session: Session) -> Updates:
        """Accept a question: show it on both sides at once, before the queue."""
        asked = self._ask(question, mode, session, edited=session.editing is not None)
        return {"box": "", **asked} if asked else {}

    def _ask(
        self, question: str, mode: AskMode, session: Session, *, edited: bool = False
    ) -> Updates:
        question = question.strip()
        if not question:
            return {}
        if session.turns and not session.turns[-1].finished:
            return {}  # one at a time; the text stays in the box
        if edited:
            session.turns.pop()  # the new question replaces it
        elif len(session.turns) >= FIXED.max_turns:
            words = _(
                "This conversation has {number} questions, which is the limit. Clear it first.",
                number=FIXED.max_turns,
            )
            # Not printed: that a visitor has reached a limit is no fault.
            raise gr.Error(words, print_exception=False)
        session.editing = None
        left, right = self._sides(session)
        turn = Turn(
            question,
            left=left,
            right=right,
            mode=mode,
            instruction=session.told_with if mode == "told" else "",
            swapped=bool(secrets.randbits(1)),
        )
        session.turns.append(turn)
        return self._start(session, turn.sides)

    def _sides(self, session: Session) -> tuple[Answer, Answer | None]:
        """Start both answers; the right one is None without an adapter."""
        if session.remote is not None:
            left, right = map(self._asked, session.remote)
            return left, right
        made = session.made
        return self._asked(session.beside), None if made is None else self._asked(made)

    def _label(self, side: Answer) -> str:
        return side.remote.model if side.remote else self._app.label(side.made)

    def _asked(self, who: Made | RemoteSide | None, times: int = 0) -> Answer:
        """Start an answer of a server, of the adapter as it is now, or of the base."""
        if isinstance(who, RemoteSide):
            return Answer(who.model, remote=who, times=times)
        answer = Answer("", who, times=times)
        self._note_adapter(answer)
        return answer

    def _note_adapter(self, side: Answer) -> None:
        """Note the model that answers, at the strength that it has now."""
        side.label = self._label(side)
        if side.made is not None:
            adapter = side.made.adapter
            side.strength, side.sha256 = adapter.strength, adapter.sha256

    @staticmethod
    def _mode_of(session: Session) -> AskMode:
        """Return the chosen mode, else that of the fair comparison.

        With instructions in the prompts, the point is that the adapter does not need them, so only
        the base gets the instruction.
        """
        made = session.made
        if session.mode is not None:
            return session.mode
        return "told" if made is not None and instructions_of(made.buckets) else "written"

    def choose_mode(self, session: Session, mode: AskMode) -> Updates:
        """Change what is sent from now on."""
        session.mode = mode
        updates = self.compared(session)
        # The page shows the choice. An answer that comes late would take back the next one.
        del updates["mode"]
        return updates

    def choose_instruction(self, session: Session, instruction: str | None) -> Updates:
        """Change the base's instruction from now on."""
        session.told_with = instruction or ""
        return {"compare_head": self._drawn_head(session)}

    def compared(self, session: Session) -> Updates:
        """Draw what the adapter in the bar is compared with."""
        with self._app.visits.drawing:
            return self._draw_compared(session)

    def _draw_compared(self, session: Session) -> Updates:
        made, mode = session.made, self._mode_of(session)
        listed = instructions_of(made.buckets) if made is not None else []
        instructions = [instruction for _bucket, instruction in listed]
        # The choice may be of an earlier adapter.
        if session.told_with not in instructions:
            session.told_with = instructions[0] if instructions else ""
        choices = [
            (f"{bucket}: {brief(instruction, INSTRUCTION_CHARACTERS)}", instruction)
            for bucket, instruction in listed
        ]
        beside, head = is_beside(session), self._head(session)
        now = Compared(beside, mode, tuple(choices), head)
        drawn, session.compared_as = session.compared_as, now
        # Drawn again only for other words, because they then lose the focus. And another mode may
        # have been chosen on the page meanwhile, which the same one as before would take back: what
        # is drawn first may arrive last.
        modes: dict[str, Any] = {}
        if drawn is None or drawn.mode != mode:
            modes["value"] = mode
        if drawn is None or drawn.beside != beside:
            modes["choices"] = mode_choices(beside=beside)
        told_with: dict[str, Any] = {}
        if drawn is None or drawn.has_instructions != now.has_instructions:
            told_with["visible"] = now.has_instructions
        if drawn is None or (drawn.beside, drawn.instructions) != (beside, tuple(choices)):
            told_with |= {
                "label": told_label(beside=beside),
                "choices": choices,
                "value": session.told_with or None,
            }
        is_new = drawn is None or drawn.head != head
        return {
            "mode": gr.Radio(**modes),
            "told_with": gr.Dropdown(**told_with),
            **({"compare_head": head} if is_new else {}),
        }

    def _head(self, session: Session) -> str:
        return head_html(session, self._mode_of(session))

    def _drawn_head(self, session: Session) -> str:
        with self._app.visits.drawing:
            head = self._head(session)
            if session.compared_as is not None:
                session.compared_as = replace(session.compared_as, head=head)
            return head

    def _instruction_of(self, session: Session, question: str) -> str:
        """Return the instruction of a suggested question; may be empty."""
        buckets = session.made.buckets if session.made is not None else ()
        # An example's question need not be among its prompts, so its bucket is looked up instead.
        of_examples = {text: name for name, text in session.example_questions.items()}
        for name, instruction in instructions_of(buckets):
            if of_examples.get(question) == name:
                return instruction
        for bucket in buckets:
            for parts in (split_prompt(prompt.text) for prompt in bucket.prompts):
                if parts.input == question:
                    return parts.instruction
        return ""

    def ask_shown(self, session: Session) -> Updates:
        """Ask Show me's question once its run has ended, if it made an adapter."""
        run = session.run
        if run is None or not run.question or not run.stages.ended:
            return {}
        question, run.question = run.question, ""
        # If an imprint was requested, there is an adapter, even if the imprint was stopped.
        if run.kind != "imprint" and run.stages.ended != "done":
            return {}
        # Keep the text that is being typed in the box.
        return self._ask(question, self._mode_of(session), session)

    def ask_again(self, session: Session, place: Place | None = None) -> Updates:
        """Ask the last question again, on both sides or one, with the current models."""
        turn = session.turns[-1] if session.turns else None
        if turn is None or not turn.finished or (place and place not in turn.sides):
            return {}
        # The vote was for answers that are about to go, and has told which side is whose.
        turn.named |= turn.vote is not None
        turn.error, turn.vote = "", None
        left = self._leave_edit(session)
        for side in (place,) if place else tuple(turn.sides):
            before = turn.sides[side]
            # The same server, even if the visit has left it; its key is then no longer sent.
            setattr(turn, side, self._asked(before.remote or before.made, before.times + 1))
        return {**left, **self._start(session, (place,) if place else turn.sides)}

    def edit(self, session: Session, typed: str) -> Updates:
        """Take the last question back into the box; its turn stays until the new one is sent."""
        if not session.turns or not session.turns[-1].finished:
            return {}
        # At a second press, the box contains the question and no longer the visitor's text.
        if session.editing is None:
            session.editing = Typed(typed, session.mode)
        turn = session.turns[-1]
        session.mode = turn.mode
        return {
            "box": turn.question,
            **self.compared(session),
            "edit_row": gr.Row(visible=True),
            **self.panes(session),
        }

    def cancel_edit(self, session: Session) -> Updates:
        """Cancel editing, and restore the earlier text of the box."""
        left = self._leave_edit(session)
        return left and {**left, "edit_row": gr.Row(visible=False), **self.panes(session)}

    def _leave_edit(self, session: Session) -> Updates:
        """Put the box and what is sent back to what they were before the last question came in."""
        before, session.editing = session.editing, None
        if before is None:
            return {}
        session.mode = before.mode
        return {"box": before.text, **self.compared(session)}

    def put_back(self, session: Session, request: gr.Request) -> Updates:
        """Restore a conversation with its files; a server's key is not restored."""
        session.leave_server()
        session.compared_as = Compared()  # by a page that is new
        kept: Updates = {}
        if session.turns:
            # A full disk has no room for its files, but must not keep the visit from coming back.
            with suppress(OSError):
                kept = self._keep(session, request)
        return {**self.panes(session), **self.compared(session), **_buttons(session), **kept}

    def switches(self, session: Session) -> Updates:
        """Restore the switches."""
        there = session.made is not None
        return {
            "differences": gr.Checkbox(session.differences, visible=there),
            "blind": gr.Checkbox(session.blind, visible=there),
        }

    def opened(self, session: Session) -> Updates:
        """Draw what was asked while the page opened, and hide the models' names if it is blind.

        On a slow line the answer that opens a page may come after a question, of which it does not
        know.
        """
        if session.blind:
            return self.hide_names(session)
        return {**self.panes(session), **_buttons(session)} if session.turns else {}

    def answer(self, session: Session, *settings: Any) -> Iterator[Updates]:
        """Stream the answers to the last question, once; see `Settings.of`.

        Every event that may ask ends here, also one that asked nothing because an answer runs.
        """
        stop = session.stop_chat
        turn = session.turns[-1] if session.turns else None
        if turn is None or stop is None or turn.finished or not session.chat_due:
            return
        session.chat_due = False
        places = tuple(place for place in turn.sides if place in turn.running)
        try:
            # A server answers while this app's own models are still loading.
            waits = turn.left.remote is None
            for state in self._app.calls.until_ready(stop, ticks=2) if waits else ():
                turn.waiting = progress_words(state)
                yield self.panes(session)
            if not stop.is_set():
                # All sides that answer share a seed, and it must be new for each of them.
                times = max(turn.sides[place].times for place in places)
                asking = Settings.of(*settings)
                sampling = asking.again(times)
                asked = Asked(datetime.now(UTC), sampling, asking.system, asking.context)
                for place in places:
                    side = turn.sides[place]
                    side.asked = asked
                    # The strength may have changed while the question was queued.
                    self._note_adapter(side)
                    # Greedy decoding draws nothing, so a seed would mean nothing.
                    side.seed = sampling.seed if sampling.temperature else None
                for is_new in self._stream(session, places, sampling, stop):
                    # Also without news, because a page that was closed is noticed only here.
                    yield self.panes(session) if is_new else {}
        except DndError as error:
            turn.error = self._app.error_words(session, error, "answer")
        # Otherwise the turn was stopped and asked again, and its new answers must not be ended.
        if session.stop_chat is stop:
            turn.stop()
        # Gradio sends the last item of a stream again when it ends, so draw the current state:
        # Clear or another request may have replaced it.
        yield self.panes(session)

    def answered(self, session: Session, request: gr.Request) -> Updates:
        """Restore the buttons and write the conversation, once the answers are complete.

        A separate event, because the cost of each redraw grows with the number of outputs. It draws
        the answers, too: a browser that was busy has been seen to miss the end of a stream.
        """
        if not session.turns or not session.turns[-1].finished:
            return {}  # cleared, or already followed by another question
        kept = self._keep(session, request)
        # The answer to Stop has drawn the rest. This one may be slow, and would undo what the next
        # question shows.
        if session.stop_chat is not None and session.stop_chat.is_set():
            return kept
        return {**self.panes(session), **_buttons(session), **kept}

    def stop_chat(self, session: Session) -> Updates:
        """Stop at the next token, keeping the text so far."""
        if session.stop_chat is not None:
            session.stop_chat.set()
        if session.turns and not session.turns[-1].finished:
            session.turns[-1].stop()
        return {**self.panes(session), **_buttons(session)}

    def clear_chat(self, session: Session) -> Updates:
        """Clear the conversation and its votes."""
        if session.stop_chat is not None:
            session.stop_chat.set()
        session.stop_chat = None
        session.turns = []
        return {
            **self._leave_edit(session),
            **self.panes(session),
            **_buttons(session),
            "votes": votes_html([]),
            "keep_row": gr.Row(visible=False),
        }

    def chat_broke(self, session: Session) -> Updates:
        """Restore the buttons after an unexpected error."""
        if session.turns and not session.turns[-1].finished:
            session.turns[-1].error = broke()
            session.turns[-1].running = frozenset()
        return {**self.panes(session), **_buttons(session)}

    def suggest(self, index: int, session: Session) -> Updates:
        """Put a suggested question in the box."""
        if index >= len(session.suggestions):
            return {}
        question = session.suggestions[index]
        told_with = self._instruction_of(session, question)
        if not told_with or told_with == session.told_with:
            return {"box": question}
        session.told_with = told_with
        head = self._drawn_head(session)
        return {"box": question, "told_with": told_with, "compare_head": head}

    def stand_beside(self, session: Session, key: str) -> Updates:
        """Put the base or another adapter of this visit on the left, for the next question."""
        chosen = session.choose("left", key)
        if key and chosen is None:
            return {}
        # The page may offer what was put on the right a moment ago.
        session.beside = chosen if chosen is not session.made else None
        return self.sides(session)

    def sides(self, session: Session) -> Updates:
        """Draw who answers on both sides."""
        return {**choosers(session), **self.panes(session), **self.compared(session)}

    def mark_differences(self, session: Session, on: bool) -> Updates:
        """Switch the marking of differing words on or off."""
        session.differences = on
        return self.panes(session)

    def go_blind(self, session: Session, on: bool) -> Updates:
        """Hide or reveal the models' names; while hidden, votes replace the checks."""
        session.blind = on
        if not on:
            for turn in session.turns:
                turn.named |= turn.vote is None
        return {
            **_buttons(session),
            **self.sides(session),
            # What acts on one side alone would reveal which one it is.
            "strength": gr.Slider(interactive=not on),
            "checks": gr.HTML(visible=not on),
            "votes": gr.HTML(votes_html(session.turns), visible=on),
        }

    def hide_names(self, session: Session) -> Updates:
        """Hide the models' names again if they are to be hidden.

        What shows an adapter may have been drawn before the visitor hid them, and arrive after.
        """
        return self.go_blind(session, True) if session.blind else {}

    def vote(self, chosen: str, session: Session, request: gr.Request) -> Updates:
        """Record a vote on the last turn, by position on the page: a, b, tie or bad."""
        turn = session.turns[-1] if session.turns else None
        if turn is None or not _is_vote_due(session):
            return {}
        votes: dict[str, Vote] = {"a": "left", "b": "right", "tie": "tie", "bad": "bad"}
        # The buttons name positions on the page, the vote names models.
        if turn.swapped:
            votes |= {"a": "right", "b": "left"}
        turn.vote = votes[chosen]
        for side in turn.sides.values():
            if side.made is not None:
                self._write_vote(session, turn, side.made)
        return {
            **self.panes(session),
            **_buttons(session),
            "votes": votes_html(session.turns),
            **self._keep(session, request),
        }

    def _start(self, session: Session, places: Sequence[Place] | dict[Place, Answer]) -> Updates:
        turn = session.turns[-1]
        turn.running, turn.waiting = frozenset(places), "…"
        turn.named |= not session.blind
        session.stop_chat, session.chat_due = Stop(), True
        return {**self.panes(session), **_buttons(session)}

    def _write_vote(self, session: Session, turn: Turn, made: Made) -> None:
        """Store a vote with the adapter's library entry.

        A vote at another strength than the stored one does not apply to the entry.
        """
        entry = made.kept.entry if made.kept is not None else None
        outcome = turn.outcome(self._app.label(made))
        if outcome and entry is not None and entry.strength == made.adapter.strength:
            self._app.note(session, made, votes={outcome: 1})

    def _keep(self, session: Session, request: gr.Request) -> Updates:
        """Rewrite the conversation's files for download."""
        folder = self._app.files.folder(request.session_hash or "")
        markdown, whole, votes = write_transcript(session.turns, folder)
        return {
            "keep_row": gr.Row(visible=True),
            "keep_markdown": gr.DownloadButton(value=str(markdown)),
            "keep_json": gr.DownloadButton(value=str(whole)),
            "keep_votes": gr.DownloadButton(
                value=None if votes is None else str(votes), visible=votes is not None
            ),
        }

    def _stream(
        self, session: Session, places: Sequence[Place], sampling: Sampling, stop: Stop
    ) -> Iterator[bool]:
        turns = session.turns
        turn = turns[-1]
        # These objects, because asking again after Stop puts new ones in the turn.
        asked = [turn.sides[place] for place in places]
        messages = [_messages(turns, place) for place in places]
        remote = [side.remote for side in asked if side.remote is not None]
        if remote:
            models = [one.model for one in remote]
            asking = list(zip(models, messages, strict=True))
            server = (remote[0].url, session.access_to(remote[0]))
            steps = self._app.calls.compare_remote(*server, asking, sampling, stop)
        else:
            made = [side.made for side in asked]
            adapters = [None if one is None else one.adapter for one in made]
            rows: list[Row] = list(zip(messages, adapters, strict=True))
            steps = self._app.calls.compare(rows, sampling, [_strength(one) for one in made], stop)
        ended = [side.label for side in asked]
        for replies in steps:
            if replies is not None:
                for side, reply in zip(asked, replies, strict=True):
                    side.reply = reply
                ended = [self._label(side) for side in asked]
            yield replies is not None
        for side, last in zip(asked, ended, strict=True):
            # The slider was moved during the answer.
            if last != side.label:
                side.label = f"{side.label} then {last}"


def _strength(made: Made | None) -> Callable[[], float] | None:
    """Return a function that reads the slider's strength for an adapter."""
    # Read at every token, so that the slider acts during an answer.
    return None if made is None else lambda: made.adapter.strength


def _messages(turns: Sequence[Turn], place: Place) -> "list[Message]":
    """Build the messages for one side: with context, including its own earlier answers."""
    how = turns[-1].sides[place].asked
    assert how is not None, "set before a side is asked"
    messages = [{"role": "system", "content": how.system}] if how.system else []
    for turn in turns[:-1] if how.context else ():
        answer = turn.sides.get(place)
        if answer is not None and answer.reply is not None and answer.reply.text:
            messages.append({"role": "user", "content": _sent(turn, place)})
            messages.append({"role": "assistant", "content": answer.reply.text})
    return [*messages, {"role": "user", "content": _sent(turns[-1], place)}]


def _sent(turn: Turn, place: Place) -> str:
    """Return the question as this side reads it."""
    return sent(turn.question, turn.mode, place, turn.instruction)


def _buttons(session: Session) -> Updates:
    """Show the buttons that may be pressed now."""
    turn = session.turns[-1] if session.turns else None
    running = turn is not None and not turn.finished
    return {
        "send": gr.Button(visible=not running),
        "stop_chat": gr.Button(visible=running),
        "again": gr.Button(visible=turn is not None and not running),
        "vote_row": gr.Row(visible=_is_vote_due(session)),
        "edit_row": gr.Row(visible=session.editing is not None),
    }


def _is_vote_due(session: Session) -> bool:
    """Return whether the last answers can be voted on: blind all along, and not voted on yet."""
    turn = session.turns[-1] if session.turns else None
    if turn is None or not session.blind or turn.named:
        return False
    return turn.complete and turn.vote is None
