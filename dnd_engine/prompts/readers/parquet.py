"""Reads parquet tables."""

import io
from typing import Any

from dnd_engine.errors import PromptFileError
from dnd_engine.limits import FIXED
from dnd_engine.prompts.columns import Table, read_table
from dnd_engine.prompts.readers.zips import unpacks_to
from dnd_engine.prompts.reading import Asked, Reading
from dnd_engine.prompts.words import cell_text


def read_parquet(data: bytes, asked: Asked) -> Reading:
    """Read the columns of text and numbers, without nested ones."""
    name, limits = asked.name, asked.limits
    # Lazy, because only this format needs it. It has no type stubs.
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(io.BytesIO(data))
        groups = [file.metadata.row_group(index) for index in range(file.num_row_groups)]
        num_rows = sum(group.num_rows for group in groups)
        unpacked = sum(group.total_byte_size for group in groups)
        kinds = {column.name: column.type for column in file.schema_arrow}
        is_text = (pa.types.is_string, pa.types.is_large_string, pa.types.is_dictionary)
        is_number = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
        text = [column for column, kind in kinds.items() if any(test(kind) for test in is_text)]
        numbers = [c for c, kind in kinds.items() if any(test(kind) for test in is_number)]
        # Compression and dictionaries can pack gigabytes into a small file. So limit bytes and rows
        # before unpacking, and keep repeated cells as references to one string.
        if num_rows > limits.max_prompts:
            raise PromptFileError(
                "{name}: expected at most {most} rows, got {found}. Split the file, or keep a "
                "sample of it.",
                name=name,
                most=limits.max_prompts,
                found=num_rows,
            )
        if unpacked > limits.max_total_bytes:
            raise PromptFileError(unpacks_to(unpacked, name, limits))
        wanted = [*text, *numbers][: FIXED.max_columns]
        wanted = [column for column in kinds if column in set(wanted)]
        # Opened again, because `read_dictionary` needs the names, which only the footer tells.
        table = pq.ParquetFile(io.BytesIO(data), read_dictionary=text).read(columns=wanted)
        table.validate(full=True)  # a damaged file may contain indices outside its dictionary
        # The limits above trusted the footer's number of rows.
        if table.num_rows != num_rows:
            raise pa.ArrowInvalid("rows are missing")
        # Longer than a prompt may be, so that cleaning still notes the cut.
        cells = [_cells(column, 2 * limits.max_prompt_chars) for column in table.columns]
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise PromptFileError(
            "{name}: expected a parquet table, got something that does not read as one. Write it "
            "again, or save it as jsonl.",
            name=name,
        ) from error
    # Columns that were not read have no cells, but messages name them.
    header = [*table.column_names, *(c for c in kinds if c not in set(table.column_names))]
    rows = [(row + 1, [column[row] for column in cells]) for row in range(num_rows)]
    return read_table(Table(header=header, rows=rows, unit="row"), asked)


def _cells(column: Any, max_chars: int) -> list[str]:
    """Return a column's cells, truncated here too, because every row may repeat one long text."""
    cells: list[str] = []
    for chunk in column.dictionary_encode().chunks:
        words = [cell_text(word)[:max_chars] for word in chunk.dictionary.to_pylist()]
        cells.extend("" if index is None else words[index] for index in chunk.indices.to_pylist())
    return cells
