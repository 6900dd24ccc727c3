"""Reads chats: OpenAI's `messages` and ShareGPT's `conversations`."""

from collections.abc import Mapping, Sequence

from dnd_engine.notes import noted
from dnd_engine.prompts.reading import Finding
from dnd_engine.prompts.split import close_blank_lines, split_prompt

CHAT_KEYS = ("messages", "conversations", "conversation", "prompt")
"""Keys of a list of turns; the first one present is used."""

_ROLES: Mapping[str, str] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
}


def read_chat(turns: Sequence[object], system: str = "") -> tuple[str, str]:
    """Read a list of turns: objects with `role` and `content`, or `from` and `value`.

    Args:
        turns: A chat.
        system: System message stored beside the turns.

    Returns:
        The last user turn and the answer to it, which may be empty. The system message is put above
        the turn unless the turn has an instruction and an input of its own.

    Raises:
        Finding: If no user turn has text.
    """
    said = [turn for turn in map(_turn, turns) if turn is not None]
    users = [place for place, (role, text) in enumerate(said) if role == "user" and text.strip()]
    if not users:
        raise Finding(noted("no user turn of text"))
    last = users[-1]
    systems = [text for role, text in said[:last] if role == "system" and text.strip()]
    instruction = close_blank_lines(systems[-1] if systems else system)
    question = said[last][1]
    # Turns of other roles, such as a tool's, may come between question and answer.
    replies = [text for role, text in said[last + 1 :] if role == "assistant"]
    # A second instruction would make the turn's own one a part of its input.
    if instruction and split_prompt(question).input is None:
        question = f"{instruction}\n\n{question}"
    return question, replies[0] if replies else ""


def _turn(turn: object) -> tuple[str, str] | None:
    """Return role and text of a turn; None if it has neither."""
    if not isinstance(turn, dict):
        return None
    role = turn.get("role", turn.get("from"))
    text = turn.get("content", turn.get("value"))
    if isinstance(text, list):  # parts; images have no text
        parts = [part.get("text") for part in text if isinstance(part, dict)]
        text = "\n".join(part for part in parts if isinstance(part, str))
    if not isinstance(role, str) or not isinstance(text, str):
        return None
    return _ROLES.get(role.strip().casefold(), ""), text
