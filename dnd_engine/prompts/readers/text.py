"""Reads plain text, split at `---` lines, at blank lines, or at every line."""

import itertools
import re
from collections.abc import Sequence

from dnd_engine.notes import Note, counted, noted
from dnd_engine.prompts.doubts import doubt
from dnd_engine.prompts.reading import Asked, Entry, Reading, SplitMode
from dnd_engine.prompts.split import shared_head, split_prompt

_SEPARATOR = "---"

_FRONT_MATTER = re.compile(r"---[ \t]*\n(?:\w[\w-]*:.*\n|[ \t#-].*\n)+?---[ \t]*\n")
"""Settings between two lines of dashes at the very beginning: `title: ...`, lists and comments."""

_MIN_LIST = 4
"""Lines from which on a paragraph counts as a list; fewer may be one prompt of several lines."""


def read_text(text: str, asked: Asked) -> Reading:
    """Split a text into prompts."""
    split = asked.split
    lines = text.split("\n")
    bare = [line.strip() for line in lines]
    mode: SplitMode
    if split != "auto":
        mode = split
    elif _SEPARATOR in bare:
        mode = "separator"
    else:
        mode = "paragraphs" if "\n\n" in "\n".join(bare).strip() else "lines"
    note = {
        "separator": noted(
            "Read as prompts separated by lines of `{separator}`.", separator=_SEPARATOR
        ),
        "paragraphs": noted("Read as one prompt per paragraph: blank lines separate prompts."),
        "lines": noted("Read as one prompt per line."),
    }[mode]
    if split == "auto" and mode == "paragraphs":
        note = noted(
            "Read as one prompt per paragraph: blank lines separate prompts. If prompts hold blank "
            "lines themselves, put a line `{separator}` between them.",
            separator=_SEPARATOR,
        )
    gap = _SEPARATOR if mode == "separator" else ""
    # Pieces outnumber prompts only if some are empty.
    asked.bound(len(bare) - bare.count("") if mode == "lines" else _runs(bare, gap), "prompts")
    entries = cut = _cut(lines, bare, mode)
    if split == "auto" and mode == "paragraphs":
        entries = _without_title(cut)
    elif split == "auto" and mode == "separator":
        entries = _without_heading(cut)
    titled = entries is not cut
    if titled and mode == "separator":
        mode = "titled"
    if split == "auto" and mode == "paragraphs" and _takes_turns([e.text for e in entries]):
        mode = "pairs"
        note = noted(
            "Every other paragraph is the same, so each was read together with the one below it, "
            "as one prompt."
        )
        pairs = zip(entries[::2], entries[1::2], strict=True)
        entries = [Entry(head.place, f"{head.text}\n\n{rest.text}", None) for head, rest in pairs]
    elif split == "auto" and mode == "paragraphs" and _is_headed([e.text for e in entries]):
        # Tried before `_is_one`, which would take the whole list for one input.
        mode = "headed"
        note = noted("The first paragraph was read as the instruction of each line below it.")
        head, block = entries
        inputs = block.text.split("\n")
        # The check above counted the whole paragraph as one prompt.
        asked.bound(len(inputs), "prompts")
        # Every line repeats the instruction, which may be as long as the file.
        entries = asked.fit(
            Entry(place, f"{head.text}\n\n{line}", None)
            for place, line in enumerate(inputs, start=block.place)
        )
    elif split == "auto" and mode == "paragraphs" and _is_one([e.text for e in entries]):
        mode = "pairs"
        note = noted(
            "Read as one prompt: an instruction, a blank line and its input. If these are two "
            "prompts, put a line `{separator}` between them.",
            separator=_SEPARATOR,
        )
        head, rest = entries
        entries = [Entry(head.place, f"{head.text}\n\n{rest.text}", None)]
    # A person who chose a split, or wrote separators, has already confirmed that these are prompts.
    # Lines around the settings at the head of a Markdown page only look like separators.
    unsure = split == "auto" and mode in ("lines", "paragraphs", "headed")
    body = text if unsure else _below_front_matter(text) if split == "auto" else ""
    return Reading(
        entries=entries,
        split=mode,
        unit="line",
        notes=[note, headings_left_out(1)] if titled else [note],
        doubt=doubt(body) if body.strip() else "",
    )


def headings_left_out(count: int) -> Note:
    """Return the note that headings were not read as prompts."""
    return counted(
        "One heading was left out. To read it as a prompt, choose how to split the file.",
        "{number} headings were left out. To read them as prompts, choose how to split the file.",
        count,
    )


def _below_front_matter(text: str) -> str:
    """Return what follows YAML front matter; empty without it, or if separators follow it."""
    found = _FRONT_MATTER.match(text)
    rest = text[found.end() :] if found else ""
    return "" if any(line.strip() == _SEPARATOR for line in rest.split("\n")) else rest


def _runs(bare: Sequence[str], gap: str) -> int:
    """Count the runs of lines between gaps."""
    return sum(line != gap and before == gap for before, line in itertools.pairwise([gap, *bare]))


def _cut(lines: Sequence[str], bare: Sequence[str], mode: SplitMode) -> list[Entry]:
    gap = _SEPARATOR if mode == "separator" else ""
    entries: list[Entry] = []
    for is_gap, group in itertools.groupby(range(len(lines)), key=lambda i: bare[i] == gap):
        # A prompt's position is its first line that is not blank.
        block = list(itertools.dropwhile(lambda i: not bare[i], group))
        if mode == "lines":
            entries.extend(Entry(i + 1, lines[i], None) for i in block)
        elif block and not is_gap:
            entries.append(Entry(block[0] + 1, "\n".join(lines[i] for i in block), None))
    return entries


def _is_one(paragraphs: Sequence[str]) -> bool:
    """Return whether two paragraphs are a one-line instruction and its input."""
    head = paragraphs[0].strip()
    return len(paragraphs) == 2 and "\n" not in head and head.endswith((":", ".", "?"))


def _is_headed(paragraphs: Sequence[str]) -> bool:
    """Return whether a one-line instruction precedes a list of one-line inputs."""
    if len(paragraphs) != 2:
        return False
    head, *lines = (line.strip() for line in "\n".join(paragraphs).split("\n"))
    single = "\n" not in paragraphs[0].strip()
    return single and len(lines) >= _MIN_LIST and len({*lines}) == len(lines) and head not in lines


def _takes_turns(paragraphs: Sequence[str]) -> bool:
    """Return whether the same instruction precedes every input: A, x, A, y, A, z."""
    heads = {text.strip() for text in paragraphs[::2]}
    rests = {text.strip() for text in paragraphs[1::2]}
    return len(heads) == 1 and len(paragraphs) % 2 == 0 and len(rests) >= 2 and not heads & rests


def _without_title(entries: list[Entry]) -> list[Entry]:
    """Remove a title, on a line of its own or directly above the first instruction.

    A title is one line that is no sentence. It may as well begin a prompt, so it goes only where
    all prompts then have the same instruction: in turns with inputs, or as their first line.
    """
    first, *others = entries
    title, _, rest = first.text.strip().partition("\n")
    if title.rstrip().endswith((":", ".", "?", "!")):
        return entries
    texts = [entry.text.strip() for entry in others]
    if not rest:
        return others if title not in texts and _takes_turns(texts) else entries
    whole = [rest.strip(), *texts]
    if _takes_turns(whole) or shared_head(whole) == whole[0].partition("\n")[0]:
        return [Entry(first.place + 1, rest, None), *others]
    return entries


def _without_heading(entries: list[Entry]) -> list[Entry]:
    """Remove a title directly above the first prompt, if all have the same instruction then."""
    if len(entries) < 2:
        return entries
    first, *others = entries
    title, _, rest = first.text.strip().partition("\n")
    parts = [split_prompt(text) for text in (rest, *(entry.text for entry in others))]
    same = len({part.instruction for part in parts}) == 1 and parts[0].input is not None
    if not same or title.rstrip().endswith((":", ".", "?", "!")):
        return entries
    return [Entry(first.place + 1, rest, None), *others]
