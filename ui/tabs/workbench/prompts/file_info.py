"""Information about a file for the canvas: its card, and the dialog of its prompts."""

from dataclasses import asdict
from pathlib import PurePosixPath
from typing import Any

from dnd_engine.prompts.files import FORMATS, Prompt, PromptFile
from dnd_engine.prompts.reading import Column
from dnd_engine.prompts.split import split_prompt
from dnd_engine.prompts.words import cut
from ui.canvas import Arrangement, CanvasCard
from ui.markup import brief
from ui.state import CardReading, Session
from ui.text import note_words, said

_MAX_SHOWN_CHARS = 2_000
"""Maximum characters of a prompt in the dialog."""


def reading_info(reading: CardReading, card: CanvasCard) -> dict[str, Any]:
    """Describe a reading for its card."""
    # A doubtful file is not used yet, but its card says what it would give.
    file = reading.file or reading.whole
    info: dict[str, Any] = {
        # The canvas ignores an answer to options that have changed since.
        "version": card.version,
        "error": said(reading.error),
        "num_good": reading.num_good,
        "opens": reading.opens,
        "has_columns": len(_columns(reading)) > 1,
        "num_prompts": 0,
        "notes": [],
    }
    if file is None or reading.error:
        return info
    return {
        **info,
        "doubt": note_words(file.doubt) if reading.file is None else "",
        "num_prompts": len(file.prompts),
        "lacks_instruction": any(split_prompt(one.text).input is None for one in file.prompts),
        "notes": [note_words(note) for note in file.notes],
        # The beginning of the first input, because instructions do not distinguish files.
        "preview": brief(split_prompt(file.prompts[0].text).bare, 90),
        "splits": _splits(file),
        "asks_split": _asks_split(file, reading),
    }


def look(arrangement: Arrangement, session: Session) -> dict[str, Any] | None:
    """Return the prompts to show, including those removed by hand.

    None if none are requested, or the file is gone or was never read.
    """
    looking = arrangement.looking
    reading = session.readings.get(looking.card) if looking else None
    if looking is None or reading is None or not reading.opens:
        return None
    whole, words = reading.whole, looking.query.casefold().split()
    # If no column could be read as prompts, the dialog offers the columns alone.
    prompts = () if whole is None else whole.prompts
    found = [(place, prompt) for place, prompt in enumerate(prompts) if _holds(prompt, words)]
    return {
        "card": looking.card,
        "query": looking.query,
        "notes": [] if whole is None else [note_words(note) for note in whole.notes],
        "num_prompts": len(prompts),
        "num_found": len(found),
        "columns": [asdict(column) for column in _columns(reading)],
        "prompts": [_shown(place, prompt) for place, prompt in found[: looking.most]],
    }


def _columns(reading: CardReading) -> tuple[Column, ...]:
    return reading.columns if reading.whole is None else reading.whole.columns


def _holds(prompt: Prompt, words: list[str]) -> bool:
    text = prompt.text.casefold()
    return all(word in text for word in words)


def _shown(place: int, prompt: Prompt) -> dict[str, Any]:
    parts = split_prompt(prompt.text)
    has_input = parts.input is not None
    return {
        "place": place,
        "instruction": cut(parts.instruction, _MAX_SHOWN_CHARS) if has_input else "",
        "input": cut(parts.bare, _MAX_SHOWN_CHARS),
        "label": cut(prompt.label or "", 200),
    }


def _asks_split(file: PromptFile, reading: CardReading) -> bool:
    """Return whether to ask about a text file of several lines that was read as one prompt."""
    # An instruction and its input are one, as the card says of them.
    is_one = len(file.prompts) == 1 and "\n" in file.prompts[0].text and file.split != "pairs"
    return _splits(file) and is_one and reading.split == "auto"


def _splits(file: PromptFile) -> bool:
    return FORMATS[PurePosixPath(file.name).suffix.lower()].splits
