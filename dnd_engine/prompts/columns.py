"""Assigns columns of a table, or keys of objects, to prompt, instruction and label."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dnd_engine.errors import NoTextColumnError
from dnd_engine.limits import FIXED
from dnd_engine.notes import Note, noted
from dnd_engine.prompts.reading import (
    LABEL_KEYS,
    PROMPT_KEYS,
    Asked,
    Column,
    Entry,
    Reading,
    Role,
    SplitMode,
)
from dnd_engine.prompts.split import close_blank_lines
from dnd_engine.prompts.words import Thing, cut, named, one_line, quoted, shown_column

_A_THING: Mapping[Thing, Note] = {"column": noted("a column"), "key": noted("a key")}
_NAME_IT: Mapping[Thing, Note] = {
    "column": noted("Rename your column of prompts to `prompt`."),
    "key": noted("Rename your key of prompts to `prompt`."),
}
_SAMPLE_ROWS = 3
_SAMPLE_CHARS = 60

Row = Sequence[str] | Mapping[int, str]
"""Cells in header order, or, if most are missing, by column index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Named columns of text cells."""

    header: Sequence[str]
    rows: Sequence[tuple[int, Row]]
    """Position in the file, and cells."""
    unit: str
    """Unit of the position."""
    thing: Thing = "column"
    """Name for a column in messages."""
    split: SplitMode = "rows"
    names: Sequence[str] = field(init=False)
    """Names of the columns as people see and choose them, by `_unique`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", _unique(self.header))


@dataclass(frozen=True, slots=True)
class _Chosen:
    text: list[int]
    """Index of the prompt column, or of instruction and input in an Alpaca table."""
    instruction: int | None
    labels: list[int]

    @property
    def roles(self) -> dict[int, Role]:
        """Return the role of each used column."""
        # `Choices` names one label column, so only the first is shown as such.
        roles: dict[int, Role] = dict.fromkeys(self.labels[:1], "label")
        roles |= dict.fromkeys(self.text, "text")
        above = self.instruction if len(self.text) < 2 else self.text[0]
        return roles if above is None else roles | {above: "instruction"}


def prompt_keys(present: Collection[str]) -> list[str]:
    """Return the keys that form the prompt: one, instruction and input, or none."""
    if "prompt" not in present and "instruction" in present:
        below = [key for key in ("input", "question", "text") if key in present]
        if below:
            return ["instruction", below[0]]
    return [key for key in PROMPT_KEYS if key in present][:1]


def label_note(thing: Thing, names: Sequence[str]) -> Note:
    """Note that labels are not part of the prompts."""
    return noted(
        "Label {columns} left out of the prompts; checks, teaching and measuring use it.",
        columns=named(thing, names),
    )


def read_table(table: Table, asked: Asked) -> Reading:
    """Choose columns by request, by name or by the longest text, then read the rows.

    Raises:
        PromptFileError: If a requested column is missing, or no column contains text.
    """
    notes: list[Note] = []
    chosen = _choose(table, asked, notes)
    if chosen.labels:
        notes.append(label_note(table.thing, [table.names[index] for index in chosen.labels]))
    used = [*([] if chosen.instruction is None else [chosen.instruction]), *chosen.text]
    # Of several label columns, the first that this row fills is its label.
    # Every row may join the same long cells to a text of its own.
    entries = asked.fit(
        Entry(place, _text(row, chosen), next(filter(str.strip, _cells(row, chosen.labels)), None))
        for place, row in table.rows
    )
    return Reading(
        entries=entries,
        split=table.split,
        unit=table.unit,
        column=" + ".join(shown_column(table.names[index]) for index in used) or None,
        columns=describe(table, chosen.roles),
        notes=notes,
    )


def _choose(table: Table, asked: Asked, notes: list[Note]) -> _Chosen:
    choices = asked.choices
    keys = [column.strip().casefold() for column in table.header]
    if choices.label is None:
        labels = _present(table, [index for index, key in enumerate(keys) if key in LABEL_KEYS])
    else:
        labels = [_find(table, choices.label, asked.name)] if choices.label else []
    instruction = None
    if choices.instruction:
        instruction = _find(table, choices.instruction, asked.name)
    if choices.text:
        text = [_find(table, choices.text, asked.name)]
    else:
        text = _by_content(table, {instruction, *labels}, asked, notes)
    # A column that was chosen for another role is no label, whatever its name.
    labels = [index for index in labels if index not in {*text, instruction}]
    if choices.text or choices.instruction:
        notes.append(_read_note(table, text, instruction))
    return _Chosen(text, instruction, labels)


def _present(table: Table, places: Sequence[int]) -> list[int]:
    """Return those columns that any row reaches, which lists of a parquet table do not."""
    reached = max(
        (max(row) if isinstance(row, Mapping) else len(row) - 1 for _, row in table.rows if row),
        default=-1,
    )
    return [place for place in places if place <= reached]


def _find(table: Table, wanted: str, name: str) -> int:
    """Return the index of a column by its name in the file or on the page."""
    # Exact names first: a table may have both `Body` and `body`, or long names that look the same
    # when shortened.
    if wanted in table.names:
        return table.names.index(wanted)
    for same in (str, shown_column, lambda column: one_line(column).casefold()):
        looked_for = same(wanted)
        for index, column in enumerate(table.header):
            if same(column) == looked_for:
                return index
    raise NoTextColumnError(
        "{name}: expected {thing} {wanted}, found {columns}. Choose one of these.",
        describe(table, {}),
        name=name,
        thing=_A_THING[table.thing],
        wanted=quoted([wanted]),
        columns=named(table.thing, table.names),
    )


def _unique(header: Sequence[str]) -> list[str]:
    """Name each column, so that a person can choose every one that is offered.

    A name that occurs again gets a number, a missing one its place. No such name is another
    column's own. Columns beyond those that are offered keep theirs, as there may be millions.
    """
    offered = header[: FIXED.max_columns]
    own = {column for column in offered if column and column == shown_column(column)}
    taken = {*header[len(offered) :]}
    names: list[str] = []
    for index, column in enumerate(offered):
        # An empty name would mean that no column was chosen.
        shown = name = shown_column(column) or f"#{index + 1}"
        number = 1
        while (name in taken or name in own) and column not in own:
            number += 1
            name = f"{shown} ({number})"
        own.discard(column)  # only the first of several keeps it
        taken.add(name)
        names.append(name)
    return [*names, *header[len(offered) :]]


def _by_content(table: Table, taken: set[int | None], asked: Asked, notes: list[Note]) -> list[int]:
    """Choose the prompt column by name, else the text column with the longest cells on average.

    If that one says the same in every row, it is the instruction above the longest that does not.
    """
    chars: Counter[int] = Counter()
    filled: Counter[int] = Counter()
    textual: set[int] = set()
    for _, row in table.rows:
        # A mapping has only the cells that are there, instead of rows times columns of them.
        for index, cell in row.items() if isinstance(row, Mapping) else enumerate(row):
            if cell.strip():
                chars[index] += len(cell)
                filled[index] += 1
                if index not in textual and not is_number(cell):
                    textual.add(index)
    # In reverse, because a later entry replaces an earlier one: of equal names, the first filled
    # column is read.
    named_keys = {
        table.header[index].strip().casefold(): index
        for index in sorted(filled, reverse=True)
        if index not in taken
    }
    if chosen := [named_keys[key] for key in prompt_keys(named_keys)]:
        if not asked.choices.instruction:
            columns = named(table.thing, [table.names[index] for index in chosen])
            notes.append(noted("Read {columns}.", columns=columns))
        return chosen
    if free := textual.difference(taken):
        # Of equally long columns the first.
        by_length = sorted(free, key=lambda index: (-chars[index] / filled[index], index))
        best, below = by_length[0], None
        if asked.choices.instruction is None and _is_same_in_all(table, best):
            # Not what every prompt asks: what all of them ask.
            varied = (index for index in by_length if not _is_same_in_all(table, index))
            below = next(varied, None)
        if not asked.choices.instruction:
            notes.append(
                _longest_note(table.thing, table.names[best])
                if below is None
                else noted(
                    "{above} is the same in every row, so it was read as the instruction above "
                    "{below}.",
                    above=quoted([table.names[best]]),
                    below=quoted([table.names[below]]),
                )
            )
            # Only csv and tsv tables have rows that are lines.
            if table.unit == "line" and table.split == "rows":
                notes.append(noted("The first row was taken as column names."))
        return [best] if below is None else [best, below]
    if table.rows:
        raise NoTextColumnError(
            "{name}: expected {thing} of text, found only {columns}, which hold numbers, labels "
            "or nothing. {way_out}",
            describe(table, {}),
            name=asked.name,
            thing=_A_THING[table.thing],
            columns=named(table.thing, table.names),
            way_out=_NAME_IT[table.thing],
        )
    # A header without rows. `_clean` says that there are column names alone.
    return []


def _is_same_in_all(table: Table, index: int) -> bool:
    """Return whether a column holds one text in all of several rows."""
    cells = {next(_cells(row, [index]), "").strip() for _, row in table.rows}
    return len(table.rows) > 1 and len(cells) == 1


def _read_note(table: Table, text: Sequence[int], instruction: int | None) -> Note:
    columns = named(table.thing, [table.names[index] for index in text])
    if instruction is None:
        return noted("Read {columns}, as chosen.", columns=columns)
    return noted(
        "Read {columns} below the instruction in {above}, as chosen.",
        columns=columns,
        above=quoted([table.names[instruction]]),
    )


def _longest_note(thing: Thing, name: str) -> Note:
    *known, last = PROMPT_KEYS
    values = {"names": ", ".join(known), "last": last, "longest": quoted([name])}
    if thing == "key":
        return noted(
            "No key is named {names} or {last}; read {longest}, the longest text key.", **values
        )
    return noted(
        "No column is named {names} or {last}; read {longest}, the longest text column.", **values
    )


def _text(row: Row, chosen: _Chosen) -> str:
    text = "\n\n".join(cell for cell in _cells(row, chosen.text) if cell.strip())
    if chosen.instruction is None or not text.strip():
        return text
    # A blank line inside the instruction would end it early.
    above = close_blank_lines(next(_cells(row, [chosen.instruction]), ""))
    return f"{above}\n\n{text}" if above else text


def _cells(row: Row, places: Iterable[int]) -> Iterator[str]:
    for place in places:
        if isinstance(row, Mapping):
            yield row.get(place, "")
        elif place < len(row):
            yield row[place]


def describe(table: Table, roles: Mapping[int, Role]) -> tuple[Column, ...]:
    """Describe the selectable columns: those with a role, and the first others."""
    rest = [index for index in range(len(table.header)) if index not in roles]
    shown = sorted([*roles, *rest[: max(0, FIXED.max_columns - len(roles))]])[: FIXED.max_columns]
    first = [row for _, row in table.rows[:_SAMPLE_ROWS]]
    return tuple(
        Column(
            name=shown_column(table.names[index]),
            role=roles.get(index, ""),
            # Cut before cleaning, which looks at every character of a cell that may hold megabytes.
            samples=tuple(
                cut(
                    one_line(" ".join(next(_cells(row, [index]), "")[:1000].split())), _SAMPLE_CHARS
                )
                for row in first
            ),
        )
        for index in shown
    )


def is_number(cell: str) -> bool:
    """Return whether a cell is a number, such as 1.5 or -2e3."""
    try:
        float(cell)
    except ValueError:
        return False
    return True
