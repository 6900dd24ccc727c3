"""Reads parquet tables."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dnd_engine.errors import PromptFileError
from dnd_engine.limits import FIXED
from dnd_engine.prompts.columns import Table, read_table
from dnd_engine.prompts.readers import parquet_table
from dnd_engine.prompts.readers.zips import unpacks_to
from dnd_engine.prompts.reading import Asked, Reading
from dnd_engine.prompts.words import cell_text


def read_parquet(data: bytes, asked: Asked) -> Reading:
    """Read the columns of text, numbers and dates, without nested ones."""
    name, limits = asked.name, asked.limits
    found = _unpacked(data, asked)
    if "num_bytes" in found:
        raise PromptFileError(unpacks_to(found["num_bytes"], name, limits))
    if "columns" not in found:
        raise PromptFileError(
            "{name}: expected at most {most} rows, got {found}. Split the file, or keep a "
            "sample of it.",
            name=name,
            most=limits.max_prompts,
            found=found["num_rows"],
        )
    columns = [_cells(column) for column in found["columns"]]
    rows = [(row + 1, [cells[row] for cells in columns]) for row in range(found["num_rows"])]
    # Columns that were not read have no cells, but messages name them.
    header = [*(column["name"] for column in found["columns"]), *found["unread"]]
    return read_table(Table(header=header, rows=rows, unit="row"), asked)


def _cells(column: Mapping[str, Any]) -> list[str]:
    words = [cell_text(cell) for cell in column["distinct"]]
    return ["" if place is None else words[place] for place in column["rows"]]


def _unpacked(data: bytes, asked: Asked) -> dict[str, Any]:
    """Unpack a table in a process of its own, which takes the harm of a hostile one."""
    bounds = {
        "max_rows": asked.limits.max_prompts,
        "max_bytes": asked.limits.max_total_bytes,
        "max_columns": FIXED.max_columns,
        # Longer than a prompt may be, so that cleaning still notes the cut.
        "max_chars": 2 * asked.limits.max_prompt_chars,
        "memory_bytes": FIXED.max_parquet_bytes,
    }
    if not (data.startswith(parquet_table.MAGIC) and data.endswith(parquet_table.MAGIC)):
        raise _is_no_table(asked)
    try:
        done = subprocess.run(
            # Without the folder of this file, whose names would hide those of the library.
            [sys.executable, "-P", str(Path(parquet_table.__file__)), json.dumps(bounds)],
            input=data,
            capture_output=True,
            timeout=FIXED.max_parquet_seconds,
            check=True,
            # Other pools reserve more memory than they use, and threads are not worth their start.
            env={**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system", "OMP_NUM_THREADS": "1"},
        )
    except subprocess.SubprocessError as error:
        if getattr(error, "returncode", None) == parquet_table.OUT_OF_MEMORY:
            raise PromptFileError(
                "{name}: expected at most {most:g} MB when unpacked, got far more than the file "
                "says. Write it again, or save it as jsonl.",
                name=asked.name,
                most=asked.limits.max_total_bytes / 1e6,
            ) from error
        raise _is_no_table(asked) from error
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _is_no_table(asked: Asked) -> PromptFileError:
    return PromptFileError(
        "{name}: expected a parquet table, got something that does not read as one. Write it "
        "again, or save it as jsonl.",
        name=asked.name,
    )
