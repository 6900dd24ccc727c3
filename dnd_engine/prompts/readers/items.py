"""Reads JSON: strings, objects with a prompt, and chats."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from dnd_engine.errors import PromptFileError
from dnd_engine.notes import Note, counted, noted
from dnd_engine.prompts.columns import (
    Row,
    Table,
    describe,
    is_number,
    label_note,
    prompt_keys,
    read_table,
)
from dnd_engine.prompts.readers.chats import CHAT_KEYS, read_chat
from dnd_engine.prompts.reading import (
    LABEL_KEYS,
    PROMPT_KEYS,
    Asked,
    Column,
    Entry,
    Faults,
    Finding,
    Reading,
    Role,
)
from dnd_engine.prompts.words import cell_text, named

_DESCRIBED = 50
"""Number of items whose keys are offered for selection."""

_REPLY = "(reply)"
"""Name for the answer in a chat, which has no key of its own."""

Item = tuple[int, object]
"""Position in the file, and the value."""


class _NoKey(Finding):
    """An object has no known key for a prompt."""


def read_json(text: str, asked: Asked) -> Reading:
    """Read an array of prompts, an object with one array, or one prompt."""
    try:
        items = list(enumerate(_array(parse_json(text)), 1))
    except Finding as finding:
        raise PromptFileError(
            "{name}: expected an array of prompts, or an object with one array, got {finding}. "
            "Name the file .jsonl if it holds one JSON object per line.",
            name=asked.name,
            finding=str(finding),
        ) from None
    asked.bound(len(items), "items")
    faults = Faults(asked.name, "item")
    return _read_items(items, faults, asked, noted('Write strings, or objects with a "prompt".'))


def read_jsonl(text: str, asked: Asked) -> Reading:
    """Read one prompt per line."""
    faults = Faults(asked.name, "line")
    items: list[Item] = []
    num_lines = 0
    # Not `splitlines`: it also splits at U+2028, which a JSON string may contain as it is.
    for place, line in enumerate(text.split("\n"), 1):
        if line.strip():
            asked.bound(num_lines := num_lines + 1, "lines")
            try:
                items.append((place, parse_json(line)))
            except Finding as finding:
                faults.add(place, _expected(finding))
    return _read_items(items, faults, asked, noted("Write one JSON object per line."))


def parse_json(text: str) -> object:
    """Parse JSON.

    Raises:
        Finding: With the place of the syntax error.
    """
    try:
        parsed: object = json.loads(text)
    except json.JSONDecodeError as error:
        # Only the place: Python's own words are fragments, in English whatever the page speaks.
        values = {"line": str(error.lineno), "column": str(error.colno)}
        if "\n" in text:
            finding = noted("broken JSON at line {line}, column {column}", **values)
        else:
            finding = noted("broken JSON at column {column}", **values)
        raise Finding(finding) from None
    except RecursionError:
        raise Finding(noted("JSON that is nested too deeply")) from None
    except ValueError:  # Python rejects integers of more than 4,300 digits
        raise Finding(noted("a number with too many digits")) from None
    return parsed


def _array(document: object) -> list[object]:
    """Return the items of a JSON file: its array, its object's only array, or its single prompt."""
    if isinstance(document, list):
        return document
    if not isinstance(document, dict):
        raise Finding(_kind(document))
    try:
        # A single prompt first: a chat is also an object with one array.
        _item_text(document)
    except Finding:
        arrays = [value for value in document.values() if isinstance(value, list)]
        if len(arrays) != 1:
            raise Finding(
                counted(
                    "an object with {number} array", "an object with {number} arrays", len(arrays)
                )
            ) from None
        return arrays[0]
    return [document]


def _read_items(items: list[Item], faults: Faults, asked: Asked, way_out: str) -> Reading:
    choices = asked.choices
    known = None if choices.text or choices.instruction or choices.label else _known(items, faults)
    if known is None:
        return _as_table(items, faults, asked, way_out)
    entries, found, labels = known
    notes = faults.settle(way_out, num_good=len(entries), skip=choices.skip_broken)
    keys = sorted(found - {""})
    if keys:
        notes.insert(0, noted("Read {columns}.", columns=named("key", keys)))
    else:
        notes.insert(0, noted("Read as plain strings."))
    chats = _hold_chats(items, found)
    if chats:
        notes.insert(
            1,
            noted(
                "From each chat, the last user turn was read, below the system message unless the "
                "turn has an instruction of its own; the reply to it is its label."
            ),
        )
    if labels:
        notes.append(label_note("key", sorted(labels)))
    used = keys[0] if len(found) == len(keys) == 1 else None
    return Reading(
        entries=entries,
        split="objects",
        unit=faults.unit,
        column=used,
        columns=() if chats else _columns(items, used or "", labels),
        notes=notes,
    )


def _known(items: list[Item], faults: Faults) -> tuple[list[Entry], set[str], set[str]] | None:
    """Read items by known keys; None if all are objects without one."""
    entries: list[Entry] = []
    found: set[str] = set()
    labels: set[str] = set()
    strange: list[tuple[int, str]] = []
    for place, item in items:
        try:
            prompt, key, given = _item_text(item)
        except _NoKey as finding:
            # No fault yet: if all objects are like this, their keys are the columns of a table.
            strange.append((place, _expected(finding)))
        except Finding as finding:
            faults.add(place, _expected(finding))
        else:
            entries.append(Entry(place, prompt, next(filter(str.strip, given.values()), None)))
            found.add(key)
            labels |= given.keys() - {_REPLY}
    objects = [item for _, item in items if isinstance(item, dict)]
    if len(strange) == len(objects) > 0 and not entries and _hold_text(objects):
        return None
    for place, fault in strange:
        faults.add(place, fault)
    return entries, found, labels


def _hold_chats(items: list[Item], found: set[str]) -> bool:
    """Return whether a used key contains turns: `prompt` may be a chat or plain text."""
    return any(
        isinstance(value, list) and key.strip().casefold() in found.intersection(CHAT_KEYS)
        for _, item in items
        if isinstance(item, dict)
        for key, value in item.items()
    )


def _hold_text(objects: list[dict[str, Any]]) -> bool:
    """Return whether a key other than a label contains words."""
    return any(
        isinstance(value, str) and value.strip() and not is_number(value)
        for item in objects
        for key, value in item.items()
        if key.strip().casefold() not in LABEL_KEYS
    )


def _as_table(items: list[Item], faults: Faults, asked: Asked, way_out: str) -> Reading:
    """Read objects as rows and their keys as columns."""
    header, rows = _rows(items)
    for place, item in items:
        if not isinstance(item, dict):
            faults.add(place, noted("expected an object, got {finding}", finding=_kind(item)))
    notes = faults.settle(way_out, num_good=len(rows), skip=asked.choices.skip_broken)
    table = Table(header=header, rows=rows, unit=faults.unit, thing="key", split="objects")
    reading = read_table(table, asked)
    reading.notes.extend(notes)
    return reading


def _rows(items: Iterable[Item]) -> tuple[list[str], list[tuple[int, Row]]]:
    places: dict[str, int] = {}
    rows: list[tuple[int, Row]] = []
    for place, item in items:
        if isinstance(item, dict):
            # By index: full-width lists would take quadratic memory if no key were shared.
            rows.append(
                (place, {places.setdefault(key, len(places)): cell_text(item[key]) for key in item})
            )
    return [*places], rows


def _columns(items: list[Item], used: str, labels: set[str]) -> tuple[Column, ...]:
    """Describe the selectable keys, with the roles that the reader chose."""
    header, rows = _rows(items[:_DESCRIBED])
    keys = {key.strip().casefold(): index for index, key in reversed([*enumerate(header)])}
    roles: dict[int, Role] = {keys[key]: "label" for key in labels if key in keys}
    *above, text = used.split(" + ")
    roles |= {keys[key]: "instruction" for key in above if key in keys}
    roles |= {keys[key]: "text" for key in [text] if key in keys}
    return describe(Table(header=header, rows=rows, unit=""), roles)


def _item_text(item: object) -> tuple[str, str, dict[str, str]]:
    """Return a JSON item's prompt, its key ("" for a string), and its labels.

    Labels are by key, in the item's order; values other than text, numbers and booleans are empty.
    """
    if isinstance(item, str):
        return item, "", {}
    if not isinstance(item, dict):
        raise Finding(_kind(item))
    fields: dict[str, Any] = {}
    for key, value in item.items():
        folded = key.strip().casefold()
        # Of keys that differ in case alone, the first filled one is read. Blank text is empty, as
        # it is in tables.
        kept = fields.get(folded)
        if kept is None or (isinstance(kept, str) and not kept.strip()):
            fields[folded] = value
    labels = {key: cell_text(value) for key, value in fields.items() if key in LABEL_KEYS}
    texts = {key: value for key, value in fields.items() if isinstance(value, str)}
    # An Alpaca item without an input: its `text` contains the answer.
    if "instruction" in texts and fields.get("input", "") is None:
        texts.pop("text", None)
    # Blank keys hide no others, but instruction and input belong together.
    filled = {key for key, value in texts.items() if value.strip()}
    pair = {"instruction", "input"}
    filled |= pair & texts.keys() if pair & filled else set()
    is_chat = any(isinstance(fields.get(key), list) for key in CHAT_KEYS)
    if chosen := prompt_keys(filled or ([] if is_chat else texts)):
        text = "\n\n".join(texts[key] for key in chosen if texts[key].strip())
        return text, " + ".join(chosen), labels
    for key in CHAT_KEYS:
        if isinstance(turns := fields.get(key), list):
            system = fields.get("system")
            try:
                prompt, reply = read_chat(turns, system if isinstance(system, str) else "")
            except Finding as finding:
                if key in PROMPT_KEYS:  # a list that is not a chat
                    break
                raise Finding(noted("`{key}` without a user turn of text", key=key)) from finding
            return prompt, key, labels if any(map(str.strip, labels.values())) else {_REPLY: reply}
    for key in PROMPT_KEYS:
        if key in fields:
            raise Finding(noted("{finding} under `{key}`", finding=_kind(fields[key]), key=key))
    raise _NoKey(noted("an object with {keys}", keys=named("key", list(item))))


def _expected(finding: Finding) -> Note:
    return noted('expected an object with a string "prompt", got {finding}', finding=str(finding))


_KINDS: Mapping[type, Note] = {
    dict: noted("an object"),
    list: noted("a list"),
    str: noted("a string"),
    bool: noted("a boolean"),
    int: noted("a number"),
    float: noted("a number"),
}


def _kind(value: object) -> str:
    return "null" if value is None else _KINDS[type(value)]
