"""The twin chat: one question, one batch, two answers; asked again, marked, voted on and kept."""

import secrets
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import gradio as gr

from dnd_engine.config import Sampling
from dnd_engine.errors import DndError
from dnd_engine.prompts.split import split_prompt
from ui.engine_thread import TICK_SECONDS
from ui.handlers.base import HandlerBase, Updates, broke
from ui.panels.header import progress_words
from ui.panels.votes import votes_html
from ui.spaces import borrows_gpu, gpu
from ui.state import Answer, AskMode, Made, Place, Session, Turn, Vote
from ui.transcript import write_transcript

if TYPE_CHECKING:
    from dnd_engine.lora.adapter import Adapter
    from dnd_engine.models.replies import Message, Reply

    Row = tuple[list[Message], Adapter | None]

__all__ = ["ChatHandlers"]

_STREAM_SECONDS = 0.3
"""Least time between two redraws of a stream: where the browser shares two cores with the engine,
each costs half a token's time."""


class ChatHandlers(HandlerBase):
    """Events of the chat."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._chat_steps = gpu(self._chat_steps_here)

    def ask(self, question: str, mode: AskMode, session: Session) -> Updates:
        """Take a question: show it on both sides at once, before the queue."""
        question = question.strip()
        if not question:
            return {}
        if session.turns and not session.turns[-1].finished:
            return {}  # one at a time; the words stay in the box
        beside, made = session.beside, session.made
        turn = Turn(
            question,
            left=Answer(self._label(beside), beside),
            right=None if made is None else Answer(self._label(made), made),
            mode=mode,
            swapped=bool(secrets.randbits(1)),
        )
        session.turns.append(turn)
        return {"box": "", **self._start(session, turn.sides)}

    def ask_shown(self, session: Session) -> Updates:
        """Ask what Show me promised; nothing, if no adapter came of it."""
        question, session.to_show = session.to_show, ""
        run = session.run
        # An imprint goes on beside the chat; it was ordered because the adapter was made.
        if not question or run is None or (run.kind != "imprint" and run.stages.ended != "done"):
            return {}
        return self.ask(question, "written", session)

    def ask_again(self, session: Session, place: Place | None = None) -> Updates:
        """Ask the last question again, of both sides or of one, as they are now."""
        turn = session.turns[-1] if session.turns else None
        if turn is None or not turn.finished or (place and place not in turn.sides):
            return {}
        turn.error, turn.vote = "", None
        for side in (place,) if place else tuple(turn.sides):
            before = turn.sides[side]
            again = Answer(self._label(before.made), before.made, times=before.times + 1)
            setattr(turn, side, again)
        return self._start(session, (place,) if place else turn.sides)

    def edit(self, session: Session) -> Updates:
        """Take the last question back into the box, to be changed and sent anew."""
        if not session.turns or not session.turns[-1].finished:
            return {}
        turn = session.turns.pop()
        return {"box": turn.question, "mode": turn.mode, **self._panes(session), **_idle(session)}

    def answer(
        self,
        session: Session,
        system: str | None,
        max_tokens: float,
        temperature: float,
        top_p: float,
        top_k: float,
        penalty: float,
        seed: float,
        context: bool,
    ) -> Iterator[Updates]:
        """Stream the answers to the last question, from the sides that were asked."""
        stop = session.stop_chat
        turn = session.turns[-1] if session.turns else None
        if turn is None or stop is None or turn.finished:
            return
        places = tuple(place for place in turn.sides if place in turn.running)
        try:
            while self._handle.wait(2 * TICK_SECONDS) is None:
                if stop.is_set():
                    break
                self._handle.start()
                turn.waiting = progress_words(self._handle.snapshot())
                yield self._panes(session)
            if not stop.is_set():
                times = max(turn.sides[place].times for place in places)
                sampling = Sampling(
                    max_new_tokens=int(max_tokens),
                    temperature=float(temperature),
                    top_p=float(top_p),
                    top_k=int(top_k),
                    repetition_penalty=float(penalty),
                    seed=(int(seed or 0) + times) % 2**31,
                )
                for place in places:
                    side = turn.sides[place]
                    side.label = self._label(side.made)
                    side.seed = sampling.seed if sampling.temperature else None
                for _step in self._stream(
                    session.turns, places, system or "", context, sampling, stop
                ):
                    yield self._panes(session)
        except DndError as error:
            turn.error = str(error)
        if session.stop_chat is stop:
            for place in places:
                turn.sides[place].stopped = not turn.sides[place].finished
            turn.running = frozenset()
        # Gradio sends the last of a stream again when it ends. It must not be what Clear, or
        # another order, has taken the place of.
        yield self._panes(session)

    def answered(self, session: Session, request: gr.Request) -> Updates:
        """Put the buttons back and write the conversation, once the answers are there.

        An event of its own: while words come, each redraw costs as much as it has outputs.
        """
        if not session.turns or not session.turns[-1].finished:
            return {}  # cleared, or the next was asked already
        return {**_idle(session), **self._keep(session, request.session_hash or "")}

    def stop_chat(self, session: Session) -> Updates:
        """Stop at the next token; the words so far stay."""
        if session.stop_chat is not None:
            session.stop_chat.set()
        if session.turns and not session.turns[-1].finished:
            turn = session.turns[-1]
            for place in turn.running:
                turn.sides[place].stopped = not turn.sides[place].finished
            turn.running = frozenset()
        return {**self._panes(session), **_idle(session)}

    def clear_chat(self, session: Session) -> Updates:
        """Forget the conversation, its votes with it."""
        if session.stop_chat is not None:
            session.stop_chat.set()
        session.stop_chat = None
        session.turns = []
        return {
            **self._panes(session),
            **_idle(session),
            "votes": votes_html([]),
            "keep_row": gr.Row(visible=False),
        }

    def chat_broke(self, session: Session) -> Updates:
        """Put the buttons back after an error nobody foresaw."""
        if session.turns and not session.turns[-1].finished:
            session.turns[-1].error = broke()
            session.turns[-1].running = frozenset()
        return {**self._panes(session), **_idle(session)}

    def suggest(self, index: int, session: Session) -> Updates:
        """Put a suggested question in the box."""
        if index >= len(session.suggestions):
            return {}
        return {"box": session.suggestions[index]}

    def stand_beside(self, session: Session, key: str) -> Updates:
        """Put the base, or another adapter of this visit, left; the next question goes there."""
        session.beside = next((m for m in session.shelf if m.key == key), None)
        return self._panes(session)

    def mark_differences(self, session: Session, on: bool) -> Updates:
        """Mark the words that differ, or leave the answers as they are."""
        session.differences = on
        return self._panes(session)

    def go_blind(self, session: Session, on: bool) -> Updates:
        """Hide who answers, or tell it again; votes take the place of the checks meanwhile."""
        session.blind = on
        return {
            **self._panes(session),
            **_idle(session),
            "strength": gr.Slider(interactive=not on),
            "beside": gr.Dropdown(interactive=not on),
            "checks": gr.HTML(visible=not on),
            "votes": gr.HTML(votes_html(session.turns), visible=on),
        }

    def vote(self, chosen: str, session: Session, request: gr.Request) -> Updates:
        """Take a vote on the last turn, as its answers stand on the page: a, b, tie or bad."""
        turn = session.turns[-1] if session.turns else None
        if turn is None or not turn.complete or turn.vote is not None or not session.blind:
            return {}
        votes: dict[str, Vote] = {"a": "left", "b": "right", "tie": "tie", "bad": "bad"}
        if turn.swapped:
            votes |= {"a": "right", "b": "left"}
        turn.vote = votes[chosen]
        for side in turn.sides.values():
            if side.made is not None:
                self._note_vote(turn, side.made)
        return {
            **self._panes(session),
            **_idle(session),
            "votes": votes_html(session.turns),
            **self._keep(session, request.session_hash or ""),
        }

    def _start(self, session: Session, places: Sequence[Place] | dict[Place, Answer]) -> Updates:
        turn = session.turns[-1]
        turn.running, turn.waiting = frozenset(places), "…"
        session.stop_chat = threading.Event()
        return {**self._panes(session), **_running()}

    def _note_vote(self, turn: Turn, made: Made) -> None:
        """Write a vote to the entry of a kept adapter.

        What is kept is the adapter at its strength; at another strength it is another one.
        """
        entry = made.kept.entry if made.kept is not None else None
        outcome = turn.outcome(self._label(made))
        if outcome and entry is not None and entry.strength == made.adapter.strength:
            self._note(made, votes={outcome: 1})

    def _keep(self, session: Session, session_hash: str) -> Updates:
        """Write the conversation anew, for whoever wants to keep it."""
        folder = self._files.folder(session_hash)
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
        self,
        turns: Sequence[Turn],
        places: Sequence[Place],
        system: str,
        context: bool,
        sampling: Sampling,
        stop: threading.Event,
    ) -> Iterator[None]:
        turn = turns[-1]
        asked = [turn.sides[place] for place in places]
        made = [side.made for side in asked]
        rows: list[Row] = [
            (_messages(turns, place, system, context), None if one is None else one.adapter)
            for place, one in zip(places, made, strict=True)
        ]
        # A worker on a borrowed GPU sees nothing of the slider.
        strengths = None if borrows_gpu() else [_strength(one) for one in made]
        # The engine's thread does not wait for the page: drawing holds up no token.
        steps = _some(self._chat_steps(rows, sampling, strengths), stop)
        for replies in self._ticking(steps, stop):
            if replies is not None:
                for side, reply in zip(asked, replies, strict=True):
                    side.reply = reply
                yield None
        if stop.is_set():
            return
        for side in asked:
            if (ended := self._label(side.made)) != side.label:
                side.label = f"{side.label} then {ended}"

    def _chat_steps_here(
        self,
        rows: "Sequence[Row]",
        sampling: Sampling,
        strengths: Sequence[Callable[[], float] | None] | None,
    ) -> "Generator[list[Reply], None, None]":
        conversations = [messages for messages, _ in rows]
        adapters = [adapter for _messages, adapter in rows]
        yield from self._ready_engine().compare(
            conversations, adapters, sampling=sampling, strengths=strengths
        )


def _some(
    steps: "Generator[list[Reply], None, None]", stop: threading.Event
) -> "Iterator[list[Reply]]":
    """Pass on the first step, the last, and some between."""
    due, replies = 0.0, None
    with closing(steps):
        for replies in steps:
            if stop.is_set():
                return
            if (now := time.monotonic()) >= due:
                due = now + _STREAM_SECONDS
                yield replies
                replies = None
    if replies is not None:
        yield replies


def _strength(made: Made | None) -> Callable[[], float] | None:
    """What the slider says of an adapter, whenever it is asked."""
    return None if made is None else lambda: made.adapter.strength


def _messages(turns: Sequence[Turn], place: Place, system: str, context: bool) -> "list[Message]":
    """Build what one side is sent: with context, its own earlier answers."""
    messages = [{"role": "system", "content": system.strip()}] if system.strip() else []
    for turn in turns[:-1] if context else ():
        answer = turn.sides.get(place)
        if answer is not None and answer.reply is not None and answer.reply.text:
            messages.append({"role": "user", "content": _sent(turn, place)})
            messages.append({"role": "assistant", "content": answer.reply.text})
    return [*messages, {"role": "user", "content": _sent(turns[-1], place)}]


def _sent(turn: Turn, place: Place) -> str:
    """Return the question as this side reads it."""
    told = turn.mode == "written" or (turn.mode == "told" and place == "left")
    return turn.question if told else split_prompt(turn.question).bare


def _running() -> Updates:
    return {
        "send": gr.Button(visible=False),
        "stop_chat": gr.Button(visible=True),
        "again": gr.Button(visible=False),
        "vote_row": gr.Row(visible=False),
    }


def _idle(session: Session) -> Updates:
    turn = session.turns[-1] if session.turns else None
    due = session.blind and turn is not None and turn.complete and turn.vote is None
    return {
        "send": gr.Button(visible=True),
        "stop_chat": gr.Button(visible=False),
        "again": gr.Button(visible=turn is not None),
        "vote_row": gr.Row(visible=due),
    }
