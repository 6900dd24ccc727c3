"""Reads Excel workbooks: the first non-empty sheet as a table, a visible one if there is one."""

import datetime
import io
import re
import warnings
from collections.abc import Container, Mapping, Sequence
from typing import Any, NamedTuple

from dnd_engine.errors import PromptFileError
from dnd_engine.limits import FIXED
from dnd_engine.notes import Note, counted, noted
from dnd_engine.prompts.columns import Table, read_table
from dnd_engine.prompts.readers.zips import Members, open_zip
from dnd_engine.prompts.reading import Asked, Reading
from dnd_engine.prompts.words import one_line, quoted

_MAX_ROWS = 1_048_576
"""Excel's limit per sheet, here for all sheets together: a file can claim any number of empty
rows."""
_LONG_CHARS = 100
"""Characters from which on searching a cell takes longer than finding out that it is known."""
_RANGE = re.compile(r"([A-Z]{1,3})(\d{1,7}):[A-Z]{1,3}(\d{1,7})", re.ASCII)
_VISIBLE = "visible"
"""The state of a sheet that is neither `hidden` nor `veryHidden`."""


class _Found(NamedTuple):
    """What a sheet holds."""

    records: list[tuple[int, list[str]]]
    """The non-empty rows with their positions."""
    num_rows: int
    """Number of all rows."""
    num_errors: int
    """Number of cells that hold an error."""


def read_xlsx(data: bytes, asked: Asked) -> Reading:
    """Read a workbook's values, not formulas; the first row contains column names."""
    name = asked.name
    members = open_zip(data, asked, noted("an Excel workbook"))
    if "xl/workbook.xml" not in members.names:
        raise PromptFileError(
            "{name}: expected an Excel workbook, got another archive. Save it as xlsx again.",
            name=name,
        )
    for member in members.names:
        members.read(member)  # openpyxl unpacks everything and trusts the stated sizes
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about styles and extensions, which do not matter here
            (sheet, *others), found = _first_filled(_opened(data), members, asked)
            _fill_down(found.records, members.read(sheet._worksheet_path))
    except PromptFileError:
        raise
    # Hostile XML makes openpyxl raise its own errors, lxml's, or any other.
    except Exception as error:
        raise PromptFileError(
            "{name}: expected an Excel workbook, got something that does not read as one. Save it "
            "again, or save the sheet as csv.",
            name=name,
        ) from error
    (_, header), *rows = found.records
    # A row may have cells beyond the last name, such as a remark.
    header += [""] * (max(map(len, (row for _, row in found.records))) - len(header))
    reading = read_table(Table(header=header, rows=rows, unit="row"), asked)
    if note := _sheet_note(sheet, others):
        reading.notes.append(note)
    if found.num_errors:
        reading.notes.append(
            counted(
                "One cell holds an error such as `{error}` and was read as empty.",
                "{number} cells hold an error such as `{error}` and were read as empty.",
                found.num_errors,
                error="#N/A",
            )
        )
    return reading


def _opened(data: bytes) -> Any:
    """Open a workbook for reading the values of its cells, row by row."""
    # Lazy, because only this format needs it. It has no type stubs.
    from openpyxl.cell.text import Text
    from openpyxl.reader.excel import ExcelReader
    from openpyxl.xml.constants import SHARED_STRINGS, SHEET_MAIN_NS
    from openpyxl.xml.functions import iterparse

    reader = ExcelReader(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)

    def read_strings() -> None:
        # Its own removes every `x005F_`, which leaves no difference between an escape and a text
        # that only looks like one.
        if (part := reader.package.find(SHARED_STRINGS)) is None:
            return
        with reader.archive.open(part.PartName[1:]) as source:
            for _, node in iterparse(source):
                if node.tag == f"{{{SHEET_MAIN_NS}}}si":
                    reader.shared_strings.append(Text.from_tree(node).content)
                    node.clear()

    reader.read_strings = read_strings
    reader.read()
    return reader.wb


def _sheet_note(sheet: Any, others: Sequence[Any]) -> Note | None:
    """Say which sheet was read, unless there is no other to take it for."""
    title, ignored = one_line(sheet.title), quoted([other.title for other in others])
    if sheet.sheet_state == _VISIBLE:
        if not others:
            return None
        return noted("Read the sheet `{sheet}`; {others} ignored.", sheet=title, others=ignored)
    if not others:
        return noted("Read the hidden sheet `{sheet}`: no visible one holds text.", sheet=title)
    return noted(
        "Read the hidden sheet `{sheet}`: no visible one holds text. {others} ignored.",
        sheet=title,
        others=ignored,
    )


def _first_filled(book: Any, members: Members, asked: Asked) -> tuple[list[Any], _Found]:
    """Return the used sheet and those after it, and what it holds."""
    # Programs keep lists and settings in hidden sheets, often before the visible ones.
    sheets = sorted(book.worksheets, key=lambda sheet: sheet.sheet_state != _VISIBLE)
    left = _MAX_ROWS
    for index, sheet in enumerate(sheets):
        found = _read_sheet(sheet, asked, left)
        left -= found.num_rows
        # Below names of columns, all cells may be such formulas.
        if len(found.records) == 1 and _is_uncalculated(sheet, members):
            break
        if found.records:
            return sheets[index:], found
        if left <= 0:
            break
    if any(_is_uncalculated(sheet, members) for sheet in sheets):
        raise PromptFileError(
            "{name}: expected at least one prompt, got formulas without values. Open the workbook "
            "in a spreadsheet program and save it.",
            name=asked.name,
        )
    raise PromptFileError(
        "{name}: expected at least one prompt, got a workbook without text. Choose another file.",
        name=asked.name,
    )


def _is_uncalculated(sheet: Any, members: Members) -> bool:
    """Return whether a sheet has a formula without a value, as programs write that calculate none.

    A formula whose value is an empty text is another thing.
    """
    from openpyxl.xml.constants import SHEET_MAIN_NS
    from openpyxl.xml.functions import iterparse

    row, cell, formula, value = (f"{{{SHEET_MAIN_NS}}}{tag}" for tag in ("row", "c", "f", "v"))
    for _, node in iterparse(io.BytesIO(members.read(sheet._worksheet_path))):
        if node.tag == cell and node.find(formula) is not None:
            found = node.findtext(value)
            if found is None or (not found and node.get("t") != "str"):
                return True
        elif node.tag == row:
            node.clear()
    return False


def _read_sheet(sheet: Any, asked: Asked, most: int) -> _Found:
    """Read at most so many rows, empty ones too."""
    from openpyxl.cell.read_only import EMPTY_CELL
    from openpyxl.utils.escape import unescape

    records: list[tuple[int, list[str]]] = []
    # Longer than a prompt may be, so that cleaning still notes the cut.
    longest = 2 * asked.limits.max_prompt_chars
    long: dict[str, str] = {}

    def text(value: object) -> str:
        cell = _cell(value)
        if len(cell) < _LONG_CHARS and "_x" not in cell:
            return cell
        # Truncate here too, because every cell may repeat one long text; and only once, because a
        # million cells can.
        if cell not in long:
            long[cell] = unescape(cell)[:longest]  # Excel writes a carriage return as `_x000D_`
        return long[cell]

    # Ignore the sheet's stated size, which may be wrong or outdated.
    sheet.reset_dimensions()
    place = num_errors = 0
    before = None
    # One cell in Excel's last column would make its row 16,384 cells wide.
    for place, row in enumerate(sheet.iter_rows(max_col=FIXED.max_columns, max_row=most), 1):
        # Rows that the file leaves out, perhaps a million, are all the same tuple.
        if row is before:
            continue
        before = row
        filled = [index for index, cell in enumerate(row) if cell is not EMPTY_CELL]
        if not filled:
            continue
        cells = [""] * (filled[-1] + 1)
        for index in filled:
            if row[index].data_type == "e":
                num_errors += 1
            else:
                cells[index] = text(row[index].value)
        while cells and not cells[-1].strip():
            cells.pop()
        if not cells:
            continue
        # `>` and not `>=`, because the first record is the header.
        if len(records) > asked.limits.max_prompts:
            raise PromptFileError(
                "{name}, row {row}: expected at most {most} rows, got one more. Split the file, "
                "or keep a sample of it.",
                name=asked.name,
                row=str(place),
                most=asked.limits.max_prompts,
            )
        records.append((place, cells))
    return _Found(records, place, num_errors)


def _fill_down(records: list[tuple[int, list[str]]], xml: bytes) -> None:
    """Repeat the text of cells merged over several rows, which only the first of these holds.

    Only the first column of a range is filled, in rows that hold something themselves. Column names
    are not prompts, so ranges that begin in their row are not filled.
    """
    if b"mergeCell" not in xml:
        return
    from defusedxml.ElementTree import DefusedXMLParser

    # Not what openpyxl has read: to read row by row it leaves that out.
    merged = _Merged({place for place, _ in records[1:]})
    parser = DefusedXMLParser(target=merged)
    parser.feed(xml)
    parser.close()
    # One walk with at most one range a column, because a hostile file may have a million ranges
    # that all reach down to the last row.
    open_ranges: dict[int, tuple[int, str]] = {}
    for place, cells in records[1:]:
        for column, (bottom, text) in [*open_ranges.items()]:
            if place > bottom:
                del open_ranges[column]
                continue
            cells += [""] * (column + 1 - len(cells))
            cells[column] = cells[column] if cells[column].strip() else text
        for column, bottom in merged.ranges.get(place, {}).items():
            if column not in open_ranges and column < len(cells) and cells[column].strip():
                open_ranges[column] = bottom, cells[column]


class _Merged:
    """Receives the tags of a sheet, and keeps the ranges of merged cells that can be filled."""

    def __init__(self, places: Container[int]) -> None:
        self.ranges: dict[int, dict[int, int]] = {}
        """The last row of a range by its first one and the index of its first column."""
        self._places = places

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if not tag.endswith("}mergeCell"):
            return
        from openpyxl.utils import column_index_from_string

        if not (found := _RANGE.fullmatch(attributes.get("ref", ""))):
            return
        column, top, bottom = found.groups()
        index, first, last = column_index_from_string(column) - 1, int(top), int(bottom)
        if first < last and first in self._places and index < FIXED.max_columns:
            self.ranges.setdefault(first, {}).setdefault(index, last)

    def close(self) -> None:
        """Do nothing; a parser calls it."""


def _cell(value: object) -> str:
    if value is None:
        return ""
    # A date without a time is stored as midnight of that day.
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    return str(value)
