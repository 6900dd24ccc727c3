"""The conversation of a visit as files to keep: Markdown to read, JSON and JSONL to work with."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ui.state import Answer, Turn
from ui.tabs.workbench.compare.view import label_words, mode_words
from ui.tabs.workbench.compare.votes_view import VOTE_WORDS
from ui.text import _

__all__ = ["NAMES", "write_transcript"]

NAMES = ("conversation.md", "conversation.json", "votes.jsonl")


def write_transcript(turns: Sequence[Turn], folder: Path) -> tuple[Path, Path, Path | None]:
    """Write what was asked, answered and voted.

    Args:
        turns: The conversation; those without an answer are left out.
        folder: Where the files go; they replace earlier ones.

    Returns:
        Markdown, JSON, and the votes in JSON lines; None without votes.
    """
    kept = [turn for turn in turns if any(side.reply for side in turn.sides.values())]
    markdown, whole, votes = (folder / name for name in NAMES)
    markdown.write_text("\n".join(_markdown(turn) for turn in kept), encoding="utf-8")
    rows = [_row(turn) for turn in kept]
    whole.write_text(json.dumps(rows, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    voted = [row for row in rows if row["vote"]]
    if not voted:
        votes.unlink(missing_ok=True)
        return markdown, whole, None
    lines = [json.dumps(row, ensure_ascii=False) for row in voted]
    votes.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return markdown, whole, votes


def _row(turn: Turn) -> dict[str, Any]:
    return {
        "question": turn.question,
        "sent": turn.mode,
        "left": _side(turn.left),
        "right": None if turn.right is None else _side(turn.right),
        "vote": turn.vote,
    }


def _side(answer: Answer) -> dict[str, Any]:
    reply, made = answer.reply, answer.made
    return {
        "model": answer.label,
        "adapter_sha256": None if made is None else made.adapter.sha256,
        "text": "" if reply is None else reply.text,
        "num_tokens": 0 if reply is None else reply.num_tokens,
        "tokens_per_second": None if reply is None else reply.tokens_per_second,
        "first_token_seconds": None if reply is None else reply.first_token_seconds,
        "stopped": answer.stopped,
        "seed": answer.seed,
    }


def _markdown(turn: Turn) -> str:
    parts = [f"## {_('Question')}\n\n{_quoted(turn.question)}\n"]
    if turn.mode != "written":
        parts.append(f"{_('What is sent')}: {mode_words(turn.mode).lower()}.\n")
    for side in turn.sides.values():
        if side.reply is not None:
            parts.append(f"### `{label_words(side.label)}`\n\n{_quoted(side.reply.text)}\n")
    if turn.vote:
        better = {"left": turn.left, "right": turn.right}.get(turn.vote)
        words = _(VOTE_WORDS[turn.vote]) if better is None else f"`{label_words(better.label)}`"
        parts.append(f"{_('Better, judged blind')}: {words}.\n")
    return "\n".join(parts)


def _quoted(words: str) -> str:
    """As a quotation: no line of a stranger can pose as a heading of ours."""
    return "\n".join(f"> {line}".rstrip() for line in words.splitlines() or [""])
