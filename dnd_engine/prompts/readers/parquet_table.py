"""Unpacks a parquet table as a program of its own, whose memory has a limit.

All sizes in a parquet file are its own claims: ten kilobytes can unpack to gigabytes, inside a
library that cannot be interrupted. So `parquet.py` runs this file with the table as standard input.
It imports nothing of this project, and takes a quarter of a second.
"""

import io
import json
import re
import sys
from typing import Any

MAGIC = b"PAR1"
"""Begins and ends every parquet table."""
OUT_OF_MEMORY = 4
"""Exit code of a process at its limit."""

# Names of tests in `pyarrow.types`. Dates and decimals, because they may be labels.
_TEXT = ("string", "large_string", "string_view", "dictionary", "binary", "large_binary")
_OTHERS = ("integer", "floating", "boolean", "decimal", "date", "time", "timestamp")
_MIDNIGHT = re.compile(r"( 00:00:00)?(\.0+)?$")


def unpack(
    data: bytes, *, max_rows: int, max_bytes: int, max_columns: int, max_chars: int
) -> dict[str, Any]:
    """Return the columns of text and numbers, without nested ones.

    Args:
        data: A parquet file.
        max_rows: Maximum number of rows.
        max_bytes: Maximum unpacked size, in bytes, as the file claims it.
        max_columns: Maximum number of columns to read; those of text come first.
        max_chars: Number of characters at which a cell is cut.

    Returns:
        Values for JSON: `num_rows`; `columns`, each with a `name`, its `distinct` cells (text,
        numbers or booleans), and for each of the `rows` the index of its cell, None if it is empty;
        and `unread`, the names of the other columns. Of a table that exceeds a limit, only
        `num_rows` or `num_bytes`.

    Raises:
        pyarrow.ArrowException, OSError, UnicodeDecodeError: If it is no parquet table.
    """
    # Not at the top, because the engine imports this file for its limit. It has no type stubs.
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(io.BytesIO(data))
    groups = [file.metadata.row_group(index) for index in range(file.num_row_groups)]
    num_rows = sum(group.num_rows for group in groups)
    if num_rows > max_rows:
        return {"num_rows": num_rows}
    if (num_bytes := sum(group.total_byte_size for group in groups)) > max_bytes:
        return {"num_bytes": num_bytes}
    kinds = {column.name: column.type for column in file.schema_arrow}
    text = [name for name, kind in kinds.items() if _is_any(kind, _TEXT)]
    others = [name for name, kind in kinds.items() if _is_any(kind, _OTHERS)]
    wanted = set([*text, *others][:max_columns])
    names = [name for name in kinds if name in wanted]
    try:
        # Opened again, because this needs the names, which only the footer has. Repeated cells
        # stay references to one string.
        opened = pq.ParquetFile(io.BytesIO(data), read_dictionary=text)
        table = opened.read(columns=names, use_threads=False)
    except OSError:
        # Cells stored as differences are not read so. Asking the footer where they are crashes
        # pyarrow if it is damaged.
        table = file.read(columns=names, use_threads=False)
    table.validate(full=True)  # a damaged file may contain indices outside its dictionary
    if table.num_rows != num_rows:
        raise pa.ArrowInvalid("rows are missing")
    columns: list[dict[str, Any]] = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        # The name `a.b` also selects the field `b` of a nested column `a`.
        if name in wanted and (cells := _cells(column, max_chars)) is not None:
            columns.append({"name": name, **cells})
    # Some encodings write only how a cell differs from the one above.
    chars = sum(len(cell) for c in columns for cell in c["distinct"] if isinstance(cell, str))
    if chars > max_bytes:
        return {"num_bytes": chars}
    unread = kinds.keys() - {column["name"] for column in columns}
    return {
        "num_rows": num_rows,
        "columns": columns,
        "unread": [name for name in kinds if name in unread],
    }


def _is_any(kind: Any, names: tuple[str, ...]) -> bool:
    import pyarrow as pa

    return any(getattr(pa.types, f"is_{name}")(kind) for name in names)


def _cells(column: Any, max_chars: int) -> dict[str, list[Any]] | None:
    """Return a column's distinct cells and the index of each row's; None for bytes, not text."""
    import pyarrow as pa

    places: dict[Any, int] = {}
    rows: list[int | None] = []
    for chunk in column.dictionary_encode().chunks:
        try:
            found = _plain(chunk.dictionary)
        except pa.ArrowInvalid:
            return None
        # Cut here, too, because every row may repeat one long text.
        cut = (cell[:max_chars] if isinstance(cell, str) else cell for cell in found)
        indices = [places.setdefault(cell, len(places)) for cell in cut]
        rows += [None if index is None else indices[index] for index in chunk.indices.to_pylist()]
    return {"distinct": [*places], "rows": rows}


def _plain(cells: Any) -> list[str | int | float | bool]:
    """Return cells as text, numbers or booleans."""
    import pyarrow as pa

    kind = cells.type
    if pa.types.is_float16(kind) or pa.types.is_float32(kind):
        # Through text, or .1 would be .10000000149011612.
        return [float(cell) for cell in cells.cast(pa.float32()).cast(pa.string()).to_pylist()]
    if pa.types.is_timestamp(kind):
        return [_MIDNIGHT.sub("", cell) for cell in cells.cast(pa.string()).to_pylist()]
    if not _is_any(kind, ("integer", "floating", "boolean")):
        cells = cells.cast(pa.large_string())
    plain: list[str | int | float | bool] = cells.to_pylist()
    return plain


def main() -> None:
    """Write the table of standard input as JSON to standard output; fail if it is none."""
    import pyarrow as pa

    arguments = json.loads(sys.argv[1])
    memory_bytes = arguments.pop("memory_bytes")

    try:
        # After the import, so that the limit is the table's. Not every system has it.
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    except (ImportError, OSError, ValueError):
        pass
    try:
        found = unpack(sys.stdin.buffer.read(), **arguments)
    except MemoryError:  # pyarrow's own error is one, too
        sys.exit(OUT_OF_MEMORY)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        sys.exit(str(error))
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
