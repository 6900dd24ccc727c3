"""Exports a conversation: Markdown to read, JSON and JSONL to process."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ui.state import Answer, Asked, Turn
from ui.tabs.workbench.compare.sent import sent
from ui.tabs.workbench.compare.view import label_words, mode_words, told_label
from ui.tabs.workbench.compare.votes_view import VOTE_WORDS
from ui.text import _, number

_NAMES = ("conversation.md", "conversation.json", "votes.jsonl")


def write_transcript(turns: Sequence[Turn], folder: Path) -> tuple[Path, Path, Path | None]:
    """Write questions, answers and votes in place of earlier ones.

    Returns:
        Paths of Markdown, JSON and the votes as JSON Lines; the last is None without votes.
    """
    kept = [turn for turn in turns if any(side.reply for side in turn.sides.values())]
    markdown, whole, votes = (folder / name for name in _NAMES)
    now = datetime.now(UTC)
    head = f"# {_('Conversation')}\n\n{_('Written on {day}.', day=_moment(now))}\n"
    markdown.write_text("\n".join([head, *map(_markdown, kept)]), encoding="utf-8")
    rows = [_row(turn) for turn in kept]
    written = {"written": _iso(now), "turns": rows}
    whole.write_text(json.dumps(written, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    voted = [row for row in rows if row["vote"]]
    if not voted:
        # The file may contain votes of a conversation that was cleared since.
        votes.unlink(missing_ok=True)
        return markdown, whole, None
    lines = [json.dumps(row, ensure_ascii=False) for row in voted]
    votes.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return markdown, whole, votes


def _row(turn: Turn) -> dict[str, Any]:
    return {
        "question": turn.question,
        "sent": turn.mode,
        "instruction": turn.instruction,
        **_asked(turn),
        "left": _side(turn.left),
        "right": None if turn.right is None else _side(turn.right),
        "vote": turn.vote,
    }


def _asked(turn: Turn) -> dict[str, Any]:
    """Return how a turn was asked the last time; `left` and `right` say it of their answers."""
    ways = [side.asked for side in turn.sides.values() if side.asked is not None]
    return _way(max(ways, key=lambda asked: asked.at)) if ways else {}


def _way(asked: Asked) -> dict[str, Any]:
    return {
        "asked": _iso(asked.at),
        "system_prompt": asked.system,
        "sampling": asdict(asked.sampling),
        "earlier_turns_sent": asked.context,
    }


def _side(answer: Answer) -> dict[str, Any]:
    reply, made = answer.reply, answer.made
    return {
        "model": answer.label,
        "adapter": None if made is None else made.adapter.name,
        # Not the adapter's own, whose strength may have been changed since.
        "adapter_sha256": answer.sha256,
        "strength": answer.strength,
        "text": "" if reply is None else reply.text,
        "num_tokens": 0 if reply is None else reply.num_tokens,
        "tokens_per_second": None if reply is None else reply.tokens_per_second,
        "first_token_seconds": None if reply is None else reply.first_token_seconds,
        "stopped": answer.stopped,
        "seed": answer.seed,
        **({} if answer.asked is None else _way(answer.asked)),
    }


def _markdown(turn: Turn) -> str:
    parts = [f"## {_('Question')}\n\n{_quoted(turn.question)}\n"]
    ways = {side.asked for side in turn.sides.values() if side.asked is not None}
    if len(ways) == 1:
        parts += _settings(*ways)
    beside = turn.left.made is not None
    if turn.mode != "written":
        parts.append(f"{_('What is sent')}: {mode_words(turn.mode, beside=beside)}.\n")
    if (
        turn.mode == "told"
        and sent(turn.question, "told", "left", turn.instruction) != turn.question
    ):
        parts.append(f"{told_label(beside=beside)}:\n\n{_quoted(turn.instruction)}\n")
    for side in turn.sides.values():
        if side.reply is not None:
            parts.append(f"### `{_model(side)}`\n\n{_quoted(side.reply.text)}\n")
            if len(ways) > 1 and side.asked is not None:
                parts += _settings(side.asked)
            if side.strength is not None:
                parts.append(f"{_('Strength')}: {number(side.strength, '.2f')}.\n")
    if turn.vote:
        # A tie, or two bad answers, names no side.
        better = {"left": turn.left, "right": turn.right}.get(turn.vote)
        words = _(VOTE_WORDS[turn.vote]) if better is None else f"`{_model(better)}`"
        parts.append(f"{_('Better, judged blind')}: {words}.\n")
    return "\n".join(parts)


def _model(answer: Answer) -> str:
    """Name a model with its hash, because adapters may share a name."""
    words = label_words(answer)
    if answer.made is None:
        return words
    # The name may be a stranger's, and must not end the code that it is set in.
    return f"{' '.join(answer.made.adapter.name.replace('`', '').split())} {words}"


def _settings(asked: Asked) -> list[str]:
    """Describe when and how a question was asked."""
    how = asked.sampling
    named = (
        (_("Maximum tokens"), number(how.max_new_tokens)),
        (_("Temperature"), number(how.temperature, "g")),
        (_("Top p"), number(how.top_p, "g")),
        (_("Top k"), number(how.top_k)),
        (_("Repetition penalty"), number(how.repetition_penalty, "g")),
        (_("Seed"), str(how.seed)),
    )
    parts = [_moment(asked.at), *(f"{name}: {value}" for name, value in named)]
    if asked.context:
        parts.append(_("Send earlier turns as context"))
    found = ["; ".join(parts) + ".\n"]
    if asked.system:
        found.append(f"{_('System prompt')}:\n\n{_quoted(asked.system)}\n")
    return found


def _moment(when: datetime) -> str:
    return when.strftime("%Y-%m-%d %H:%M UTC")


def _iso(when: datetime) -> str:
    return when.isoformat(timespec="seconds")


def _quoted(words: str) -> str:
    """Format as a Markdown quotation, so that untrusted text cannot look like a heading of ours."""
    return "\n".join(f"> {line}".rstrip() for line in words.splitlines() or [""])
