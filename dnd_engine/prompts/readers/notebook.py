"""Reads Jupyter notebooks: each Markdown cell is a prompt."""

from dnd_engine.errors import PromptFileError
from dnd_engine.notes import Note, counted, noted
from dnd_engine.prompts.readers.items import parse_json
from dnd_engine.prompts.reading import Asked, Entry, Finding, Reading


def read_notebook(text: str, asked: Asked) -> Reading:
    """Read the Markdown cells of a notebook of format 4."""
    try:
        document = parse_json(text)
        cells = document.get("cells") if isinstance(document, dict) else None
        if not isinstance(cells, list):
            raise Finding(noted("JSON without a list of cells"))
    except Finding as finding:
        raise PromptFileError(
            "{name}: expected a Jupyter notebook, got {finding}. Save it again in Jupyter.",
            name=asked.name,
            finding=str(finding),
        ) from None
    asked.bound(len(cells), "cells")
    entries = []
    for place, cell in enumerate(cells, 1):
        if isinstance(cell, dict) and cell.get("cell_type") == "markdown":
            source = cell.get("source")
            # The format allows a text, or a list of its lines with their line breaks.
            lines = source if isinstance(source, list) else [source]
            entries.append(
                Entry(place, "".join(line for line in lines if isinstance(line, str)), None)
            )
    if not entries:
        raise PromptFileError(
            counted(
                "{name}: expected Markdown cells, found {number} cell of other kinds. Write the "
                "prompts in Markdown cells.",
                "{name}: expected Markdown cells, found {number} cells of other kinds. Write the "
                "prompts in Markdown cells.",
                len(cells),
                name=asked.name,
            )
        )
    others = len(cells) - len(entries)
    notes: list[Note] = [noted("Read each Markdown cell as a prompt.")]
    if others:
        notes.append(
            counted("{number} other cell ignored.", "{number} other cells ignored.", others)
        )
    return Reading(entries=entries, split="cells", unit="cell", notes=notes)
