"""Reads csv and tsv tables."""

import csv
import io
import re

from dnd_engine.errors import PromptFileError
from dnd_engine.notes import counted, noted
from dnd_engine.prompts.columns import Row, Table, read_table
from dnd_engine.prompts.reading import Asked, Faults, Reading
from dnd_engine.prompts.words import one_line

_WAY_OUT = noted(
    'Put fields that hold delimiters or quotes in "quotes", and double the quotes within.'
)


def read_csv(text: str, asked: Asked) -> Reading:
    """Read a table with commas, semicolons or tabs between its fields.

    A first line like `sep=;`, which spreadsheets write for each other, names another delimiter.
    """
    if named := re.match(r'sep=([^" ])(?=\r|\n)', text, re.IGNORECASE):
        # Its line stays, empty, so that messages count the lines of the file.
        return _read(text[named.end() :], asked, named[1])
    return _read(text, asked, _delimiter(text))


def read_tsv(text: str, asked: Asked) -> Reading:
    """Read a table with tabs between its fields."""
    return _read(text, asked, "\t")


def _delimiter(text: str) -> str:
    """Return the most common delimiter of the header line, or one that cannot occur."""
    # A quoted column name may contain delimiters and line breaks.
    unquoted = re.sub(r'"[^"]*"', "quoted", text)
    header = next(line for line in unquoted.split("\n") if line.strip())
    found = max(",;\t", key=header.count)
    # A single column has no delimiter, so its commas are text. NUL was rejected on decoding.
    return found if found in header else "\0"


def _read(text: str, asked: Asked, delimiter: str) -> Reading:
    # Python's limit is one for the whole process. Files have their own, and prompts are cut.
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    try:
        # By hand, people put a blank between a delimiter and a quote.
        records = _records(text, asked, delimiter, skip_blanks=True)
    except PromptFileError:
        # In a field without quotes around it, text after a blank may begin with a quote.
        records = _records(text, asked, delimiter, skip_blanks=False)
    faults = Faults(asked.name, "line")
    header: list[str] | None = None
    rows: list[tuple[int, Row]] = []
    for place, record in records:
        if header is None:
            header = record if any(cell.strip() for cell in record) else None
        elif any(cell.strip() for cell in record[len(header) :]):
            # Probably an unquoted comma in a prompt, which would be cut short there.
            faults.add(
                place,
                counted(
                    "expected {number} field, got {found}",
                    "expected {number} fields, got {found}",
                    len(header),
                    found=len(record),
                ),
            )
        elif any(cell.strip() for cell in record):
            rows.append((place, record))
    notes = faults.settle(_WAY_OUT, num_good=len(rows), skip=asked.choices.skip_broken)
    reading = read_table(Table(header=header or [], rows=rows, unit="line"), asked)
    reading.notes.extend(notes)
    return reading


def _records(
    text: str, asked: Asked, delimiter: str, *, skip_blanks: bool
) -> list[tuple[int, list[str]]]:
    """Return the records, each with the line where it begins."""
    records: list[tuple[int, list[str]]] = []
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        skipinitialspace=skip_blanks,
        # Otherwise an unclosed quote would swallow the rest of the file into one prompt.
        strict=True,
    )
    start = 1
    try:
        for record in reader:
            # `line_num` counts a record's last line; quoted fields may span several.
            place, start = start, reader.line_num + 1
            if record:
                records.append((place, record))
                asked.bound(len(records), "rows")
    except csv.Error as error:
        # The start of the next record is unknown, so only the rows so far would be usable.
        raise PromptFileError(
            "{name}, line {line}: expected a CSV record, got an error ({reason}). {way_out}",
            name=asked.name,
            line=str(start),
            reason=one_line(str(error)),
            way_out=_WAY_OUT,
        ) from None
    return records
