"""Prompt files are read as people write them; what cannot be read is refused in words that help."""

import codecs
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tracemalloc
import unicodedata
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dnd_engine.errors import BrokenItemsError, PromptFileError
from dnd_engine.limits import FIXED, PromptLimits
from dnd_engine.prompts.files import (
    FORMATS,
    PromptFile,
    from_texts,
    read_prompt_file,
)
from dnd_engine.prompts.readers import parquet
from dnd_engine.prompts.readers.parquet_table import unpack
from dnd_engine.prompts.reading import Choices, Split
from dnd_engine.prompts.split import split_prompt
from dnd_engine.prompts.words import display_name
from tests.conftest import Write


def found(file: PromptFile) -> list[tuple[int, str]]:
    return [(prompt.line, prompt.text) for prompt in file.prompts]


# Text


def test_lines_are_prompts_when_no_line_is_blank(write: Write) -> None:
    file = read_prompt_file(write("a.txt", "\n\none\n  two \r\nthree\u2028still three\n\n"))
    assert found(file) == [(3, "one"), (4, "two"), (5, "three\u2028still three")]
    assert file.split == "lines"
    assert file.column is None
    assert file.notes == ("Read as one prompt per line.",)


def test_an_instruction_above_every_input_is_read_with_it(write: Write) -> None:
    text = "Name the city.\n\nParis is big.\n\nName the city.\n\nI like Rome.\nA lot.\n"
    file = read_prompt_file(write("a.txt", text))
    assert [prompt.text for prompt in file.prompts] == [
        "Name the city.\n\nParis is big.",
        "Name the city.\n\nI like Rome.\nA lot.",
    ]
    assert [prompt.line for prompt in file.prompts] == [1, 5]
    assert file.split == "pairs"
    assert "Every other paragraph is the same" in file.notes[0]
    assert len(read_prompt_file(write("a.txt", text), split="paragraphs").prompts) == 3
    for other in ("a\n\nb\n\na\n\nb", "a\n\nb\n\na", "a\n\nb\n\nc\n\nd", "a\n\na\n\na\n\nb"):
        assert "one prompt per paragraph" in read_prompt_file(write("b.txt", other)).notes[0]


def test_a_title_above_instructions_and_inputs_in_turns_is_left_out(write: Write) -> None:
    turns = "Name the city.\n\nParis is big.\n\nName the city.\n\nI like Rome.\n"
    file = read_prompt_file(write("a.txt", f"Cities of May\n\n{turns}"))
    assert [(prompt.line, prompt.text) for prompt in file.prompts] == [
        (3, "Name the city.\n\nParis is big."),
        (7, "Name the city.\n\nI like Rome."),
    ]
    assert file.notes[1] == (
        "One heading was left out. To read it as a prompt, choose how to split the file."
    )
    for first in ("I like Oslo.", "Two\nlines", "Name the city."):
        assert read_prompt_file(write("b.txt", f"{first}\n\n{turns}")).split == "paragraphs"


@pytest.mark.parametrize("gap", ["\n\n", "\n"])
def test_a_title_directly_above_the_first_instruction_is_left_out(write: Write, gap: str) -> None:
    """The other prompts show where the instruction begins."""
    inputs = ("Paris is big.", "I like Rome.", "Oslo, too.")
    text = "\n\n".join(f"Name the city.{gap}{given}" for given in inputs)
    file = read_prompt_file(write("a.txt", f"Cities of May\n{text}\n"))
    assert [p.text for p in file.prompts] == [f"Name the city.\n\n{given}" for given in inputs]
    assert file.prompts[0].line == 2
    assert any("One heading was left out." in note for note in file.notes)
    assert file.split != "paragraphs", "a recipe would ask for that, and read the title again"
    as_it_is = read_prompt_file(write("b.txt", f"Cities of May\n{text}\n"), split="paragraphs")
    assert as_it_is.prompts[0].text.startswith("Cities of May\nName the city.")


def test_a_title_directly_above_prompts_between_separators_is_left_out(write: Write) -> None:
    prompts = [f"Name the city.\n\n{given}" for given in ("Paris is big.", "I like Rome.")]
    file = read_prompt_file(write("a.txt", "Cities of May\n" + "\n---\n".join(prompts)))
    assert [(p.line, p.text) for p in file.prompts] == [(2, prompts[0]), (6, prompts[1])]
    assert any("One heading was left out." in note for note in file.notes)
    assert file.split == "titled", "a recipe would ask for separators, and read the title again"
    # A sentence may be a part of the instruction, and a single prompt shows no other one's.
    kept = ["I am a guide.\n" + "\n---\n".join(prompts), f"Cities of May\n{prompts[0]}\n---\n"]
    for text in kept:
        first = read_prompt_file(write("b.txt", text)).prompts[0]
        assert first.text.startswith(text.partition("\n")[0])
    assert read_prompt_file(write("c.txt", "a\n---\n")).split == "separator"


@pytest.mark.parametrize(
    "text",
    [
        # A sentence belongs to the instruction.
        "Be brief.\nName it.\n\nParis.\n\nName it.\n\nRome.",
        # Without a second prompt that begins alike, nobody can tell.
        "Cities\nName it.\n\nParis.\n\nRome.",
        "Cities\nName it.\nParis.\n\nName it.\nRome.",
        # Every prompt has the line.
        "Name it\nin a word.\n\nParis.\n\nName it\nin a word.\n\nRome.",
        "Urgent\nReply to this mail: A\n\nReply to this mail: B\n\nReply to this mail: C",
    ],
)
def test_a_line_that_may_begin_a_prompt_stays(write: Write, text: str) -> None:
    file = read_prompt_file(write("a.txt", text))
    assert file.prompts[0].text.startswith(text.partition("\n")[0])
    assert not any("heading" in note for note in file.notes)


@pytest.mark.parametrize(
    ("text", "instruction"),
    [
        ("Which team?\nMy card\n\nWhich team?\nA crash\n\nWhich team?\nHello", "Which team?"),
        (
            "Say it in French: cat\nSay it in French: dog\nSay it in French: big cow\n",
            "Say it in French:",
        ),
        (
            "Say which it is: meat or milk? Use “one” word. rump steak\n"
            "Say which it is: meat or milk? Use “one” word. rice. No: oats.\n"
            "Say which it is: meat or milk? Use “one” word. ribs",
            "Say which it is: meat or milk? Use “one” word.",
        ),
        (
            "Say yes or no. An owl\nSay yes or no. A hat\nSay yes or no. An emu",
            "Say yes or no.",
        ),
        (
            'Say it in "French." cat\nSay it in "French." dog\nSay it in "French." cow',
            'Say it in "French."',
        ),
        (
            "Say which it is. Answer Yes or No. An owl\nSay which it is. Answer Yes or No. A hat\n"
            "Say which it is. Answer Yes or No. An emu",
            "Say which it is. Answer Yes or No.",
        ),
        ("Say, A or B. An owl\nSay, A or B. A hat\nSay, A or B. An emu", "Say, A or B."),
        ("Say hello to Mrs. Green\nSay hello to Mrs. Gale\nSay hello to Mrs. Gray", None),
        ("Review: bad\nReview: good\nReview: so so", None),
        ("Dear Sir or Madam,\nA\n\nDear Sir or Madam,\nB\n\nDear Sir or Madam,\nC", None),
        ("Say it in French: cat\nSay it in French: dog", None),
        ("Say it in French: cat\nSay it in French: dog\nSay it in French: ", None),
        ("the cat sat: a\nthe cow sat: b\nthe cat ran: c", None),
    ],
)
def test_an_instruction_that_all_begin_with_needs_no_blank_line(
    text: str, instruction: str | None, write: Write
) -> None:
    items = re.split(r"\n\n|\n(?=Say|Rev|the)", text)
    lines = "".join(f"{json.dumps(item)}\n" for item in items)
    for name, content in (("a.txt", text), ("a.jsonl", lines)):
        file = read_prompt_file(write(name, content))
        parts = {split_prompt(prompt.text) for prompt in file.prompts}
        found = {part.instruction for part in parts if part.input is not None}
        assert found == ({instruction} if instruction else set())
        assert any("read as their instruction" in note for note in file.notes) == bool(instruction)
        if name == "a.txt" and instruction:
            assert file.split == "shared", "a recipe that repeats `lines` would read it otherwise"
    if instruction:
        by_hand = read_prompt_file(write("a.txt", text), split="paragraphs")
        assert all(split_prompt(prompt.text).input is None for prompt in by_hand.prompts)


def test_an_instruction_above_a_list_is_read_with_each_line(write: Write) -> None:
    text = "Name the city.\n\nParis is big.\nI like Rome.\nOslo, my love\n7 days in Graz\n"
    file = read_prompt_file(write("a.txt", text))
    assert found(file)[0] == (3, "Name the city.\n\nParis is big.")
    assert found(file)[-1] == (6, "Name the city.\n\n7 days in Graz")
    assert file.split == "headed"
    assert "read as the instruction of each line" in file.notes[0]
    assert len(read_prompt_file(write("a.txt", text), split="paragraphs").prompts) == 2
    three, twice = text.replace("I like Rome.\n", ""), text.replace("I like Rome.", "Paris is big.")
    for one in (three, twice):
        file = read_prompt_file(write("b.txt", one))
        assert [prompt.text for prompt in file.prompts] == [one.strip()]
        assert "Read as one prompt" in file.notes[0]
        assert len(read_prompt_file(write("b.txt", one), split="paragraphs").prompts) == 2
    for other in (f"{text}\nMore", f"Two\n{text}", text.replace("city.", "city")[:25]):
        assert "one prompt per paragraph" in read_prompt_file(write("b.txt", other)).notes[0]


def test_blank_lines_separate_paragraphs(write: Write) -> None:
    file = read_prompt_file(write("a.md", "one\n  more\n \t\ntwo\n\n\n\nthree"))
    assert found(file) == [(1, "one\n  more"), (4, "two"), (8, "three")]
    assert file.split == "paragraphs"
    assert "one prompt per paragraph" in file.notes[0]
    assert "put a line `---` between them" in file.notes[0]


def test_a_separator_line_lets_prompts_hold_blank_lines(write: Write) -> None:
    text = "---\n\nTranslate.\n\nGood day\n---  \n\n---\nTranslate.\n\nBye --- bye\n"
    file = read_prompt_file(write("a.txt", text))
    assert found(file) == [(3, "Translate.\n\nGood day"), (9, "Translate.\n\nBye --- bye")]
    assert file.split == "separator"
    assert file.notes == ("Read as prompts separated by lines of `---`.",)


@pytest.mark.parametrize(
    ("split", "texts"),
    [
        ("separator", ["a\n\nb\nc"]),
        ("paragraphs", ["a", "b\nc"]),
        ("lines", ["a", "b", "c"]),
    ],
)
def test_the_split_can_be_chosen(write: Write, split: Split, texts: list[str]) -> None:
    file = read_prompt_file(write("a.txt", "a\n\nb\nc"), split=split)
    assert [prompt.text for prompt in file.prompts] == texts
    assert file.split == split
    assert "put a line" not in file.notes[0]


# Tables


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", '\nid,Prompt ,LABEL\n1,"a, ""b""",x\n\n2,"c\n\nd",y\n3,e,z\n'),
        ("a.csv", '\nid;Prompt ;LABEL\n1;"a, ""b""";x\n\n2;"c\n\nd";y\n3;e;z\n'),
        ("a.csv", '\nid\tPrompt \tLABEL\n1\t"a, ""b"""\tx\n\n2\t"c\n\nd"\ty\n3\te\tz\n'),
        ("a.tsv", '\nid\tPrompt \tLABEL\n1\t"a, ""b"""\tx\n\n2\t"c\n\nd"\ty\n3\te\tz\n'),
        ("a.csv", '\r\nid,Prompt ,LABEL\r\n1,"a, ""b""",x\r\n\r\n2,"c\r\n\r\nd",y\r\n3,e,z\r\n'),
    ],
)
def test_a_table_is_read_by_its_column_at_physical_lines(
    write: Write, name: str, text: str
) -> None:
    file = read_prompt_file(write(name, text))
    assert found(file) == [(3, 'a, "b"'), (5, "c\n\nd"), (8, "e")]
    assert file.split == "rows"
    assert file.column == "Prompt"
    assert file.notes == (
        "Read column `Prompt`.",
        "Label column `LABEL` left out of the prompts; checks, teaching and measuring use it.",
    )


@pytest.mark.parametrize(
    ("header", "column"),
    [
        ("text,prompt,question", "prompt"),
        ("input,question,text", "text"),
        ("input,QUESTION,other", "QUESTION"),
        ("other,instruction,label", "instruction"),
        ("other,output,input", "input"),
        ("text,instruction,input", "instruction + input"),
        ("question,instruction,answer", "instruction + question"),
        ("number,Instruction,Text,owner", "Instruction + Text"),
        ("prompt,instruction,input", "prompt"),
        ("summary,notes,count", "summary"),
    ],
)
def test_columns_are_chosen_in_a_fixed_order(write: Write, header: str, column: str) -> None:
    file = read_prompt_file(write("a.csv", f"{header}\naaaaa,bbb,c\n,bbb\n"))
    assert file.column == column


def test_instruction_and_input_are_joined_by_a_blank_line(write: Write) -> None:
    file = read_prompt_file(write("a.csv", "input,output,instruction\nx,1,Add.\n,2,Say.\n"))
    assert found(file) == [(2, "Add.\n\nx"), (3, "Say.")]
    assert file.notes[0] == "Read columns `instruction`, `input`."


def test_of_two_columns_of_one_name_the_first_filled_one_is_read(write: Write) -> None:
    file = read_prompt_file(write("a.csv", "text,text,Text\n,first,second\n"))
    assert found(file) == [(2, "first")]


def test_an_empty_named_column_gives_way_to_a_filled_one(write: Write) -> None:
    assert read_prompt_file(write("a.csv", "prompt,text\n,x\n")).column == "text"


def test_a_column_that_is_the_same_in_every_row_is_the_instruction(write: Write) -> None:
    """It was the longest text, so all rows but one were dropped as duplicates."""
    task = "Name what is out of tune."
    rows = f"nr,note,task,culprit\n1,flat on top,{task},oboe\n2,sharp,{task},tuba\n"
    file = read_prompt_file(write("a.csv", rows))
    assert [prompt.text for prompt in file.prompts] == [
        f"{task}\n\nflat on top",
        f"{task}\n\nsharp",
    ]
    assert file.column == "task + note"
    assert file.notes[:2] == (
        "`task` is the same in every row, so it was read as the instruction above `note`.",
        "The first row was taken as column names.",
    )
    chosen = read_prompt_file(path := write("a.csv", rows), choices=Choices(text="note"))
    assert [prompt.text for prompt in chosen.prompts] == ["flat on top", "sharp"]
    below = read_prompt_file(path, choices=Choices(instruction="culprit"))
    assert below.column == "culprit + task"
    same = read_prompt_file(write("b.csv", "n,task\n1,Name it.\n2,Name it.\n"))
    assert [prompt.text for prompt in same.prompts] == ["Name it."]


def test_without_a_known_name_the_longest_text_column_is_read_but_no_label(write: Write) -> None:
    rows = "n,title,body,answer\n123456789,short,rather long,by far the longest of all\n1,t,,y\n"
    file = read_prompt_file(write("a.csv", rows))
    assert found(file) == [(2, "rather long")]
    assert file.column == "body"
    assert file.notes == (
        "No column is named prompt, text, question, instruction or input; read `body`, "
        "the longest text column.",
        "The first row was taken as column names.",
        "Label column `answer` left out of the prompts; checks, teaching and measuring use it.",
        "1 empty prompt skipped.",
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "prompt,answer,label\na,yes,1\nb,,2\nc,,\n"),
        ("a.jsonl", '{"prompt": "a", "answer": " yes "}\n{"prompt": "b", "label": 2}\n"c"\n'),
        (
            "a.jsonl",
            '{"prompt": "a", "answer": "yes"}\n{"prompt": "b", "label": 2}\n'
            '{"prompt": "c", "answer": ["no"]}\n',
        ),
    ],
)
def test_a_label_is_kept_beside_its_prompt_and_is_no_part_of_it(
    write: Write, name: str, text: str
) -> None:
    file = read_prompt_file(write(name, text))
    assert [(p.text, p.label) for p in file.prompts] == [("a", "yes"), ("b", "2"), ("c", None)]
    assert any(
        note.endswith("left out of the prompts; checks, teaching and measuring use it.")
        for note in file.notes
    )


def test_in_a_table_of_one_column_commas_are_text(write: Write) -> None:
    file = read_prompt_file(write("a.csv", 'prompt\nHello, world\n"Bye, all"\n'))
    assert found(file) == [(2, "Hello, world"), (3, "Bye, all")]


@pytest.mark.parametrize("header", ["id,score", "id,label", '"id","score"'])
def test_a_table_without_text_is_refused_and_its_columns_named(write: Write, header: str) -> None:
    columns = header.replace('"', "").split(",")
    with pytest.raises(
        PromptFileError,
        match=rf"a\.csv: expected a column of text, found only columns `{columns[0]}`, "
        rf"`{columns[1]}`, which hold numbers.* Rename your column of prompts to `prompt`",
    ):
        read_prompt_file(write("a.csv", f"{header}\n1,0.5\n2,\n"))


def test_many_hostile_column_names_are_listed_short(write: Write) -> None:
    header = ",".join(["x" * 10_000, "\x1b[31m", *(f"c{i}" for i in range(100))])
    with pytest.raises(PromptFileError, match=r"columns `x{20}…x+`, `\[31m`, .* and 94 more") as e:
        read_prompt_file(write("a.csv", f"{header}\n1\n"))
    assert len(str(e.value)) < 300


def test_a_table_of_names_alone_is_refused(write: Write) -> None:
    with pytest.raises(PromptFileError, match=r"a\.csv: expected at least one .* column names al"):
        read_prompt_file(write("a.csv", "prompt,label\n"))


def test_rows_with_too_many_fields_are_all_told(write: Write) -> None:
    """An unquoted comma would otherwise cut the prompt short in silence."""
    with pytest.raises(
        PromptFileError,
        match=r"a\.csv, line 3: expected 2 fields, got 3\.\na\.csv, line 5: .* got 4\. Put field",
    ):
        read_prompt_file(write("a.csv", "id,prompt\n1,a,,\n2,b,c\n3,d\n4,e,f,g\n"))


def test_an_unclosed_quote_is_refused_where_it_opens(write: Write) -> None:
    with pytest.raises(
        PromptFileError, match=r"a\.csv, line 3: expected a CSV record, got .*unexpected end.* qu"
    ):
        read_prompt_file(write("a.csv", 'prompt,label\na,b\n"c,d\ne,f\n'))


def test_a_very_long_field_is_cut_as_in_other_formats(write: Write) -> None:
    file = read_prompt_file(write("a.csv", "prompt\n" + "x" * 200_000))
    assert file.notes[-1] == "1 prompt cut at 8,000 characters."


def test_a_blank_before_a_quoted_field_is_no_part_of_it(write: Write) -> None:
    """People and models write tables so by hand."""
    text = 'id, prompt, label\n1, "Say a, b", "c, d"\n2, "Say ""e"".", f\n'
    file = read_prompt_file(write("a.csv", text))
    assert found(file) == [(2, "Say a, b"), (3, 'Say "e".')]
    assert [prompt.label for prompt in file.prompts] == ["c, d", "f"]


def test_a_field_may_begin_with_a_blank_and_quotes_that_are_its_text(write: Write) -> None:
    file = read_prompt_file(write("a.csv", 'id,prompt\n1, "Hello" he said\n2,"Say a, b"\n'))
    assert found(file) == [(2, '"Hello" he said'), (3, "Say a, b")]


@pytest.mark.parametrize("sign", ['"', " "])
def test_what_cannot_be_a_delimiter_is_not_taken_for_one(write: Write, sign: str) -> None:
    with suppress(PromptFileError):
        read_prompt_file(write("a.csv", f"sep={sign}\nprompt\nSay it.\n"))


def test_rows_that_repeat_a_prompt_give_it_the_label_that_it_lacks(write: Write) -> None:
    file = read_prompt_file(write("a.csv", "prompt,label\na,\na,x\nb,y\na,\nb,y\n"))
    assert [(p.text, p.label) for p in file.prompts] == [("a", "x"), ("b", "y")]
    assert file.notes[-1] == "3 duplicates dropped."


def test_labels_that_contradict_each_other_are_said(write: Write) -> None:
    file = read_prompt_file(write("a.csv", "prompt,label\na,x\na,y\nb,y\na,z\n"))
    assert [(p.text, p.label) for p in file.prompts] == [("a", "x"), ("b", "y")]
    assert file.notes[-2:] == (
        "2 duplicates dropped.",
        "2 of them had another label than the prompt that was kept.",
    )


def test_controls_that_end_a_line_do_not_join_words(write: Write) -> None:
    file = read_prompt_file(write("a.jsonl", json.dumps("a\x0bb\x0cc\x85d\x01e")))
    assert file.prompts[0].text == "a\nb\nc\nde"


def test_parquet_is_read_by_the_same_column_rule(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = {
        "id": [1, 2, 3],
        "text": pd.Categorical(["a\r\nb", "c", "a\r\nb"]),
        "note": ["longer than the text", None, ""],
        "label": [0, 1, 0],
    }
    pd.DataFrame(table).to_parquet(path)
    file = read_prompt_file(path)
    assert found(file) == [(1, "a\nb"), (2, "c")]
    assert (file.split, file.column) == ("rows", "text")
    assert file.notes == (
        "Read column `text`.",
        "Label column `label` left out of the prompts; checks, teaching and measuring use it.",
        "1 duplicate dropped.",
    )


def test_parquet_without_text_is_refused_and_its_columns_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pd.DataFrame({"n": [1], "lists": [["a"]]}).to_parquet(path)
    with pytest.raises(PromptFileError, match=r"expected a column of text, .* `n`, `lists`, which"):
        read_prompt_file(path)


def test_parquet_that_unpacks_too_far_is_refused_before_it_does(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pd.DataFrame({"text": ["ab" * 500_000]}).to_parquet(path, compression="zstd")
    assert path.stat().st_size < 100_000
    limits = PromptLimits(max_file_bytes=100_000, max_total_bytes=900_000)
    with pytest.raises(PromptFileError, match=r"a\.parquet: 1\.1 MB when unpacked; the limit is 0"):
        read_prompt_file(path, limits=limits)
    pd.DataFrame({"text": ["x"] * 30}).to_parquet(path)
    with pytest.raises(PromptFileError, match=r"a\.parquet: expected at most 20 rows, got 30\. Sp"):
        read_prompt_file(path, limits=PromptLimits(max_prompts=20))


def test_what_is_no_parquet_is_refused(write: Write, tmp_path: Path) -> None:
    path = tmp_path / "whole.parquet"
    pd.DataFrame({"text": ["a", "b"]}).to_parquet(path)
    whole = path.read_bytes()
    for content in (b"PAR1", b"plain text", whole[:-9], whole[:40] + whole[60:], b"\0" * 99):
        with pytest.raises(PromptFileError, match=r"a\.parquet: expected a parquet table, got"):
            read_prompt_file(write("a.parquet", content))


def test_damaged_parquet_never_gives_another_error(tmp_path: Path) -> None:
    """A changed byte may leave a readable file, or indices that lie outside their dictionary."""
    path = tmp_path / "a.parquet"
    pd.DataFrame({"text": ["a", "b", "a", "c"]}).to_parquet(path, compression=None)
    whole = path.read_bytes()
    refused = 0
    for place in range(4, 120):
        for value in (0x03, 0xFF):
            damaged = whole[:place] + bytes([value]) + whole[place + 1 :]
            try:
                # Here, as the reader would start a process for each.
                unpack(damaged, max_rows=9, max_bytes=10**6, max_columns=9, max_chars=99)
            except (pa.ArrowException, OSError, UnicodeDecodeError):
                refused += 1
                last = damaged
    assert refused
    path.write_bytes(last)
    with pytest.raises(PromptFileError, match=r"a\.parquet: expected a parquet table, got"):
        read_prompt_file(path)


def test_parquet_that_says_it_is_small_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each cell repeats the one above but for its end, and the file stores only that end."""
    path = tmp_path / "a.parquet"

    def write(number_of: int) -> None:
        table = pa.table({"text": [f"{'long ' * 2_500}{n}" for n in range(number_of)]})
        encoding = {"text": "DELTA_BYTE_ARRAY"}
        pq.write_table(table, path, use_dictionary=False, column_encoding=encoding)

    write(3)
    assert len(read_prompt_file(path).prompts) == 1  # once they are cut, they are the same
    write(3_000)
    assert path.stat().st_size < 60_000
    with pytest.raises(
        PromptFileError, match=r"a\.parquet: 3\d(\.\d)? MB when unpacked; the limit"
    ):
        read_prompt_file(path)
    monkeypatch.setattr(parquet, "FIXED", replace(FIXED, max_parquet_bytes=120_000_000))
    with pytest.raises(PromptFileError, match=r"at most 25 MB when unpacked, got far more than"):
        read_prompt_file(path)


def test_numbers_and_dates_of_parquet_are_labels(tmp_path: Path) -> None:
    labels: dict[str, Any] = {
        "float": pa.array([0.1, None], pa.float32()),
        "decimal": pa.array([Decimal("1.50"), None]),
        "date": pa.array([date(2026, 1, 2), None]),
        "moment": pa.array([datetime(2026, 1, 2, 3, 4, 5), datetime(2026, 1, 2)]),
        "flag": pa.array([True, None]),
    }
    path = tmp_path / "a.parquet"
    got = {}
    for name, values in labels.items():
        pq.write_table(pa.table({"prompt": ["a", "b"], "label": values}), path)
        got[name] = [prompt.label for prompt in read_prompt_file(path).prompts]
    assert got == {
        "float": ["0.1", None],
        "decimal": ["1.50", None],
        "date": ["2026-01-02", None],
        "moment": ["2026-01-02 03:04:05", "2026-01-02"],
        "flag": ["true", None],
    }


def test_parquet_labels_that_are_lists_are_not_promised(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"prompt": ["a", "b"], "answers": [["x"], ["y"]]}), path)
    file = read_prompt_file(path)
    assert file.notes == ("Read column `prompt`.",)
    assert [column.role for column in file.columns] == ["text", ""]


@pytest.mark.parametrize("kind", [pa.string_view(), pa.binary(), pa.large_string()])
def test_every_kind_of_parquet_text_is_read(tmp_path: Path, kind: pa.DataType) -> None:
    """Some writers do not mark text as text, so that it reads as bytes."""
    path = tmp_path / "a.parquet"
    table = {
        "picture": pa.array([b"\xff\xd8", b"\xff\xd9", None]),
        "prompt": pa.array(["Say ä.", "Say b.", "Say ä."]).cast(kind),
    }
    pq.write_table(pa.table(table), path)
    assert found(read_prompt_file(path)) == [(1, "Say ä."), (2, "Say b.")]


def test_a_parquet_column_may_have_the_name_of_a_nested_field(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = {"prompt": [{"text": "nested"}], "prompt.text": ["Say it."]}
    pq.write_table(pa.table(table), path)
    assert found(read_prompt_file(path)) == [(1, "Say it.")]


# JSON


def test_blank_keys_hide_no_filled_ones(write: Write) -> None:
    turns = [{"role": "user", "content": "Say c."}, {"role": "assistant", "content": "c"}]
    items = [
        {"prompt": " ", "text": "Say a.", "label": " ", "answer": "a"},
        {"prompt": "", "instruction": "Say it.", "input": "b", "output": "", "label": 2},
        {"prompt": "", "messages": turns, "label": ""},
        {"instruction": "Say d.", "input": "", "text": "Say d. Answer: d"},
    ]
    file = read_prompt_file(write("a.json", json.dumps(items)))
    assert [(p.text, p.label) for p in file.prompts] == [
        *(("Say a.", "a"), ("Say it.\n\nb", "2"), ("Say c.", "c"), ("Say d.", None)),
    ]


def test_json_lines_may_be_strings_objects_and_chats(write: Write) -> None:
    turns = [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "answer"},
        {"role": "user", "content": "last"},
        {"role": "assistant", "content": "answer"},
    ]
    items = [
        "plain",
        {"Prompt": "p", "response": "r", "input": "i"},
        {"instruction": "Do.", "input": "it", "output": "o"},
        {"instruction": "Do.", "input": None, "text": "Do. Done.", "output": "Done."},
        {"instruction": "Do.", "text": "this"},
        {"messages": turns},
    ]
    file = read_prompt_file(write("a.jsonl", "\n\n".join(map(json.dumps, items))))
    read = ["plain", "p", "Do.\n\nit", "Do.", "Do.\n\nthis", "last"]
    assert found(file) == list(zip(range(1, 12, 2), read, strict=True))
    assert (file.split, file.column) == ("objects", None)
    assert file.notes == (
        "Read keys `instruction`, `instruction + input`, `instruction + text`, `messages`, "
        "`prompt`.",
        "From each chat, the last user turn was read, below the system message unless the turn has "
        "an instruction of its own; the reply to it is its label.",
        "Label keys `output`, `response` left out of the prompts; checks, teaching and measuring "
        "use it.",
    )


def test_of_keys_that_differ_in_case_the_first_filled_one_is_read(write: Write) -> None:
    """As in tables, and as the samples of the columns show it."""
    items = [
        {"prompt": "a", "Prompt": "b", "label": 0, "Label": 1},
        {"prompt": "", "Prompt": "c"},
        {"prompt": " ", "Prompt": "d"},
        {"prompt": None, "Prompt": "e"},
    ]
    file = read_prompt_file(write("a.json", json.dumps(items)))
    assert [(p.text, p.label) for p in file.prompts] == [
        ("a", "0"),
        ("c", None),
        ("d", None),
        ("e", None),
    ]
    assert [c.name for c in file.columns if c.role == "text"] == ["prompt"]


@pytest.mark.parametrize(
    ("document", "texts", "column"),
    [
        (["a", "b"], ["a", "b"], None),
        ([{"question": "a"}, {"question": "b"}], ["a", "b"], "question"),
        ({"version": 1, "data": [{"text": "a"}]}, ["a"], "text"),
        ({"prompt": ["a", "b"]}, ["a", "b"], None),
        ({"prompt": "a", "options": ["x", "y"]}, ["a"], "prompt"),
        ({"messages": [{"role": "user", "content": "a"}]}, ["a"], "messages"),
    ],
)
def test_json_is_an_array_or_holds_one(
    write: Write, document: object, texts: list[str], column: str | None
) -> None:
    file = read_prompt_file(write("a.json", json.dumps(document, indent=1)))
    assert found(file) == list(enumerate(texts, 1))
    assert (file.split, file.column) == ("objects", column)


@pytest.mark.parametrize("number", ["15", "1.5", "-2e3"])
def test_objects_of_numbers_alone_are_no_table(write: Write, number: str) -> None:
    content = "\n".join([json.dumps({"a": number})] * 3)
    with pytest.raises(PromptFileError, match='expected an object with a string "prompt"'):
        read_prompt_file(write("numbers.jsonl", content))


def test_a_broken_line_is_told_with_its_place_and_the_way_out(write: Write) -> None:
    with pytest.raises(
        PromptFileError,
        match=r'^prompts\.jsonl, line 2: expected an object with a string "prompt", got a list\. '
        r"Write one JSON object per line\.$",
    ):
        read_prompt_file(write("prompts.jsonl", '"fine"\n["a"]\n"fine"'))


@pytest.mark.parametrize(
    ("line", "finding"),
    [
        ("3.5", r"a number"),
        ("true", r"a boolean"),
        ("null", r"null"),
        ("{}", r"an object with keys \(none\)"),
        ('{"a": 1, "b\\u0000`": 2}', r"an object with keys `a`, `b``"),
        ('{"prompt": ["a"]}', r"a list under `prompt`"),
        ('{"text": {"a": 1}}', r"an object under `text`"),
        ('{"messages": []}', r"`messages` without a user turn of text"),
        ('{"messages": [{"role": "user"}, 1]}', r"`messages` without a user turn of text"),
        ('{"prompt": "a"', r"broken JSON at column 15"),
        ("NaN!", r"broken JSON at column 4"),
        ("[" * 100_000, r"JSON that is nested too deeply"),
        ('{"prompt": "a", "n": ' + "9" * 5000 + "}", r"a number with too many digits"),
    ],
)
def test_each_kind_of_broken_item_is_named(write: Write, line: str, finding: str) -> None:
    with pytest.raises(PromptFileError, match=rf'line 1: .* "prompt", got {finding}\. Write one'):
        read_prompt_file(write("a.jsonl", line))


def test_equal_faults_are_told_once_with_their_places(write: Write) -> None:
    with pytest.raises(BrokenItemsError) as error:
        read_prompt_file(write("a.jsonl", '"fine"\n' + "1\n" * 2000))
    assert str(error.value) == (
        'a.jsonl, lines 2, 3, 4, 5 and 1,996 more: expected an object with a string "prompt", got '
        "a number. Write one JSON object per line."
    )
    assert error.value.num_good == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", '"fine"\n' * 1200 + "1\n"),
        ("a.txt", "fine\n" * 1200 + "b\0"),
        ("a.csv", "prompt\n" + "fine\n" * 1199 + '"a"b\n'),
    ],
)
def test_the_number_of_a_line_is_written_as_in_an_editor(
    write: Write, name: str, text: str
) -> None:
    with pytest.raises(PromptFileError, match=rf"{name}, line 1201: expected"):
        read_prompt_file(write(name, text))


def test_five_kinds_of_fault_are_told_and_the_others_counted(write: Write) -> None:
    lines = [*(f'{{"x{n}": 1}}' for n in range(7)), "1"]
    with pytest.raises(
        PromptFileError, match=r"line 5: .*\nAnd 3 more kinds of fault\. W"
    ) as error:
        read_prompt_file(write("a.jsonl", "\n".join(lines)))
    assert "line 1" in str(error.value).split("\n")[0]
    assert not isinstance(error.value, BrokenItemsError)
    assert str(error.value).count("\n") == 5


def test_good_lines_are_used_without_the_broken_ones_on_request(write: Write) -> None:
    skip = Choices(skip_broken=True)
    path = write("a.jsonl", '{"prompt": "a"}\n{"prompt": \n{"prompt": "b"}\n[]\n')
    with pytest.raises(BrokenItemsError, match=r"line 2: .*broken JSON") as error:
        read_prompt_file(path)
    assert error.value.num_good == 2
    file = read_prompt_file(path, choices=skip)
    assert found(file) == [(1, "a"), (3, "b")]
    assert "Skipped lines 2 and 4, which cannot be read." in file.notes
    table = write("a.csv", "id,prompt\n1,a\n2,b,c\n3,d\n")
    assert [p.text for p in read_prompt_file(table, choices=skip).prompts] == ["a", "d"]
    with pytest.raises(PromptFileError, match="line 1: expected an object"):
        read_prompt_file(write("b.jsonl", "[]"), choices=skip)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"prompt": "a"}\n{"prompt": "b"}',
            r"broken JSON at line 2, column 1\. Name",
        ),
        ("5", r"got a number\. Name the file \.jsonl if it holds one JSON object per line"),
        ('{"a": [], "b": []}', r"or an object with one array, got an object with 2 arrays"),
        ("[" * 100_000, r"got JSON that is nested too deeply"),
        ("[" + "9" * 5000 + "]", r"got a number with too many digits"),
        (
            '["a", [], {"x": 1}]',
            r"item 2: .* got a list\.\n.*item 3: .* key `x`\. Write strings, or",
        ),
        ("[]", r"expected at least one prompt, got none that holds text\. Add prompts"),
    ],
)
def test_a_broken_json_file_is_refused(write: Write, text: str, message: str) -> None:
    with pytest.raises(PromptFileError, match=rf"a\.json[:,] .*{message}"):
        read_prompt_file(write("a.json", text))


# Bytes and encodings


@pytest.mark.parametrize(
    ("encoding", "notes"),
    [
        ("utf-8", ()),
        ("utf-8-sig", ()),
        ("utf-16", ("Decoded from UTF-16.",)),
        ("utf-16-be", ("Decoded from UTF-16.",)),
    ],
)
@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl"])
def test_utf8_and_utf16_are_told_apart_by_their_mark(
    write: Write, name: str, encoding: str, notes: tuple[str, ...]
) -> None:
    text = {"a.txt": "größe\r\n漢字", "a.csv": "text\ngröße\n漢字", "a.jsonl": '"größe"\n"漢字"'}[
        name
    ]
    mark = codecs.BOM_UTF16_BE if encoding == "utf-16-be" else b""
    file = read_prompt_file(write(name, mark + text.encode(encoding)))
    assert [prompt.text for prompt in file.prompts] == ["größe", "漢字"]
    assert file.notes[1:] == notes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"%PDF-1.7\n", r"a\.txt: expected text, got what looks like a PDF\. Use txt, md, csv"),
        (b"\x89PNG\r\n\x1a\n", r"looks like a PNG image"),
        (b"PK\x03\x04...", r"looks like a zip archive, or a docx or xlsx"),
        (b"PAR1...", r"looks like a parquet table"),
        (b"a\nb\0c", r"a\.txt, line 2: expected UTF-8 text, got a NUL byte\. .* save it as UTF-8"),
        (b"a\r\n\xc3\xaf\nna\xefve", r"a\.txt, line 3: expected UTF-8 text, got the byte 0xEF"),
        (b"a\nb\x01\xef", r"a\.txt, line 2: expected UTF-8 text, got the byte 0xEF"),
        ("a".encode("utf-16-le"), r"line 1: expected UTF-8 text, got a NUL byte"),
        ("a\nb".encode("utf-16") + b"x", r"line 2: expected UTF-16 text, got the byte 0x78"),
    ],
)
def test_what_is_not_text_is_refused(write: Write, content: bytes, message: str) -> None:
    with pytest.raises(PromptFileError, match=message):
        read_prompt_file(write("a.txt", content))


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_empty_file_is_refused(write: Write, suffix: str) -> None:
    with pytest.raises(
        PromptFileError, match=r"expected at least one prompt, got an empty file\. Choose"
    ):
        read_prompt_file(write(f"a{suffix}", b""))


@pytest.mark.parametrize(
    "suffix", [s for s, f in FORMATS.items() if s != ".parquet" and not f.packed]
)
def test_a_file_of_white_space_is_refused(write: Write, suffix: str) -> None:
    with pytest.raises(PromptFileError, match=r"got only white space\. Choose another"):
        read_prompt_file(write(f"a{suffix}", b"\xef\xbb\xbf \r\n\t\n"))


@pytest.mark.parametrize(
    ("name", "text"), [("a.txt", "---\n---"), ("a.txt", "\u200b\n\x01"), ("a.jsonl", '" "\n""')]
)
def test_a_file_without_a_prompt_after_cleaning_is_refused(
    write: Write, name: str, text: str
) -> None:
    with pytest.raises(PromptFileError, match=r"expected at least one prompt, got none that holds"):
        read_prompt_file(write(name, text))


def test_the_digest_and_size_are_those_of_the_bytes(write: Write) -> None:
    content = b"\xef\xbb\xbfone\r\ntwo"
    file = read_prompt_file(write("a.txt", content))
    assert (file.num_bytes, file.sha256) == (11, hashlib.sha256(content).hexdigest())


# Cleaning and limits


def test_prompts_that_a_shared_head_makes_equal_are_one(write: Write) -> None:
    head = "Translate this to French:"
    lines = [f"{head} cat", f"{head}  cat", f"{head} dog", f"{head} cow"]
    file = read_prompt_file(write("a.txt", "\n".join(lines)))
    assert [prompt.text for prompt in file.prompts] == [
        f"{head}\n\n{animal}" for animal in ("cat", "dog", "cow")
    ]
    assert "1 duplicate dropped." in file.notes


def test_duplicates_are_told_by_stripped_nfc_text(write: Write) -> None:
    file = read_prompt_file(write("a.txt", "caf\u00e9\n cafe\u0301 \ncafé!\ncafé"))
    assert found(file) == [(1, "caf\u00e9"), (3, "café!")]
    assert file.notes[1:] == ("2 duplicates dropped.",)


def test_control_characters_and_lone_surrogates_are_stripped(write: Write) -> None:
    file = read_prompt_file(write("a.jsonl", r'"\u0000a\tb\r\nc\u001b[0m\ud800\u0085"'))
    assert found(file) == [(1, "a\tb\nc[0m")]


def test_a_long_prompt_is_cut_with_a_note(write: Write) -> None:
    limits = PromptLimits(max_prompt_chars=5)
    file = read_prompt_file(
        write("a.txt", "12345\n123456\n1234 678\n\u0958\u0958\u0958"), limits=limits
    )
    # The last is three characters, of two each in NFC.
    assert [len(prompt.text) for prompt in file.prompts] == [5, 4, 5]
    assert file.notes[1:] == ("1 duplicate dropped.", "1 prompt cut at 5 characters.")


def test_too_many_prompts_are_refused_where_they_become_too_many(write: Write) -> None:
    limits = PromptLimits(max_prompts=2)
    assert read_prompt_file(write("a.txt", "a\nb\na\nb"), limits=limits).prompts
    with pytest.raises(
        PromptFileError, match=r"a\.txt, line 4: expected at most 2 prompts, got one more\. Split"
    ):
        read_prompt_file(write("a.txt", "a\nb\na\nc\nd"), limits=limits)


MANY = {
    "a.jsonl": "{}\n" * 4,
    "b.jsonl": '"a"\n' * 4,
    "c.jsonl": "no JSON\n\n" * 4,
    "d.csv": "prompt\n" + "a\n" * 3,
    "e.csv": "a\n" + "1,2\n" * 3,
    "f.json": "[{}, {}, {}, {}]",
    "g.txt": "a\n" * 4,
    "h.md": "a\n\n" * 4,
    "i.txt": "a\n---\n" * 3 + "a",
    "j.ipynb": '{"cells": [1, 2, 3, 4]}',
}


def refusal(path: Path, limits: PromptLimits) -> str:
    try:
        read_prompt_file(path, limits=limits)
    except PromptFileError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(("name", "text"), MANY.items())
def test_a_reader_stops_at_too_many_rows_good_or_not(write: Write, name: str, text: str) -> None:
    """Two million of them had kept everyone waiting for 12 s, to be duplicates in the end."""
    path, words = write(name, text), "that hold something, got more"
    assert words in refusal(path, PromptLimits(max_rows=3))
    assert words not in refusal(path, PromptLimits(max_rows=4))


@pytest.mark.parametrize("line", ['"a"\n', "no JSON\n"])
def test_the_files_of_an_archive_share_the_rows(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in "ab":
            archive.writestr(f"{name}.jsonl", line * 3)
    with pytest.raises(PromptFileError, match=r"a\.zip: expected at most 4 rows that hold"):
        read_prompt_file(path, limits=PromptLimits(max_rows=4))


LONG = "Classify this " + "😀" * 6_000
"""One of these in each of 300 prompts takes 7 MB."""
TIGHT = PromptLimits(max_memory_bytes=5_000_000)


def shared_text(folder: Path, kind: str) -> Path:
    """Write a small file whose prompts or labels all repeat one long text."""
    path = folder / f"a.{kind}"
    items = [f"item {number}" for number in range(300)]
    if kind == "txt":
        path.write_text(f"{LONG}:\n\n" + "\n".join(items))
    elif kind == "parquet":
        pd.DataFrame({"instruction": LONG, "input": items}).to_parquet(path)
    elif kind == "xlsx":
        shared_strings(path, LONG, items)
    return path


def shared_strings(path: Path, text: str, items: Sequence[str]) -> None:
    """Write a workbook whose rows refer to one text, as Excel does; openpyxl would repeat it."""
    plain = io.BytesIO()
    openpyxl.Workbook().save(plain)
    namespace = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    first = [("s", "0"), ("s", "1")]
    rows = [first, *([("s", "2"), ("str", item)] for item in items)]
    cells = ("".join(f'<c t="{kind}"><v>{value}</v></c>' for kind, value in row) for row in rows)
    written = "".join(f"<row>{row}</row>" for row in cells)
    strings = "".join(f"<si><t>{word}</t></si>" for word in ("instruction", "input", text))
    listed = (
        '<Override PartName="/xl/sharedStrings.xml" ContentType="application/'
        'vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"/></Types>'
    )
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            content = old.read(name).decode()
            if name.endswith("sheet1.xml"):
                content = f"<worksheet {namespace}><sheetData>{written}</sheetData></worksheet>"
            new.writestr(name, content.replace("</Types>", listed))
        new.writestr("xl/sharedStrings.xml", f"<sst {namespace}>{strings}</sst>")


@pytest.mark.parametrize("kind", ["txt", "parquet", "xlsx"])
def test_a_long_text_that_all_prompts_repeat_counts_each_time(tmp_path: Path, kind: str) -> None:
    """A text file of one megabyte had taken gigabytes of memory, and one of fifty kB 560 MB."""
    path = shared_text(tmp_path, kind)
    assert path.stat().st_size < 50_000
    assert refused_with_little_memory(path)
    file = read_prompt_file(path)
    assert len(file.prompts) == 300
    assert 7_200_000 < file.memory_bytes < 7_300_000


def test_long_cells_are_not_kept_for_each_row(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    shared_strings(path, LONG * 3, ["item"] * 300)
    assert refused_with_little_memory(path)


def refused_with_little_memory(path: Path) -> bool:
    """Return whether a file is refused before its prompts are in memory."""
    tracemalloc.start()
    try:
        with pytest.raises(PromptFileError, match=r"its prompts take more than 5 MB of memory"):
            read_prompt_file(path, limits=TIGHT)
        return tracemalloc.get_traced_memory()[1] < 12_000_000
    finally:
        tracemalloc.stop()


def test_the_files_of_an_archive_share_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in "abc":
            archive.write(shared_text(tmp_path, "parquet"), f"{name}.parquet")
    limits = PromptLimits(max_memory_bytes=20_000_000)
    with pytest.raises(
        PromptFileError, match=r"a\.zip: its prompts take more than 20 MB of memory"
    ):
        read_prompt_file(path, limits=limits)


def test_a_label_that_rows_share_is_one_text(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    items = [f"item {number}" for number in range(300)]
    pd.DataFrame({"prompt": items, "label": LONG}).to_parquet(path)
    file = read_prompt_file(path)
    assert len({id(prompt.label) for prompt in file.prompts}) == 1
    assert file.memory_bytes < 500_000


def test_plain_text_of_the_largest_file_fits_into_memory(write: Write) -> None:
    """One emoji makes every other character of its text take four bytes, too."""
    lines = [json.dumps(f"{n} 😀 {'x' * 230}", ensure_ascii=False) for n in range(20_000)]
    file = read_prompt_file(write("a.jsonl", "\n".join(lines)))
    assert 4_800_000 < file.num_bytes < 5_000_000
    assert file.memory_bytes > 4 * file.num_bytes


def test_a_file_over_the_limit_is_refused_in_megabytes(write: Write) -> None:
    assert read_prompt_file(write("a.txt", b"a" * 5_000_000)).num_bytes == 5_000_000
    with pytest.raises(PromptFileError, match=r"a\.txt: 5\.1 MB; the limit is 5 MB a file\. Split"):
        read_prompt_file(write("a.txt", b"a" * 5_000_001))


# Names and paths


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd.txt", "passwd.txt"),
        (r"C:\Users\me\a.txt", "a.txt"),
        ("${x}<script>.txt", "${x}<script>.txt"),
        ("a\n\x00\x1b\u202eb.txt ", "ab.txt"),
        ("3.40\u202fPM.txt", "3.40 PM.txt"),
        ("漢字 🙂.TXT", "漢字 🙂.TXT"),
        ("x" * 5000 + ".txt", "x" * 60 + "…" + "x" * 55 + ".txt"),
    ],
)
def test_only_a_clean_last_part_of_the_name_is_shown(write: Write, name: str, shown: str) -> None:
    file = read_prompt_file(write("upload.tmp", "a"), name=name)
    assert (file.name, file.prompts[0].file) == (shown, shown)


@pytest.mark.parametrize("name", ["", "/", "a/", " \x00\n"])
def test_a_name_that_vanishes_is_replaced(name: str) -> None:
    assert display_name(name) == "unnamed"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "report.pdf",
            r"report\.pdf: PDF is not a prompt file\. Use txt, md, csv, tsv, jsonl, json, parq",
        ),
        ("../../etc/passwd", r"^passwd: a name without a suffix is not a prompt file\. Use txt"),
        (".txt", r"a name without a suffix is not a prompt file"),
        ("a.txt.exe", r"a\.txt\.exe: EXE is not a prompt file"),
    ],
)
def test_an_unknown_suffix_is_refused_with_the_known_ones(
    write: Write, name: str, message: str
) -> None:
    with pytest.raises(PromptFileError, match=message):
        read_prompt_file(write("upload.txt", "a"), name=name)


def test_only_a_regular_file_is_opened(tmp_path: Path) -> None:
    (tmp_path / "folder.txt").mkdir()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "link.txt").symlink_to(tmp_path / "pipe.txt")
    (tmp_path / "loop.txt").symlink_to(tmp_path / "loop.txt")
    for name, message in {
        "missing.txt": r"missing\.txt: expected a file, found nothing there\. Check the path",
        "folder.txt": r"folder\.txt: expected a file, got a folder\. Name the files one by one",
        "folder": r"folder: a folder is not a prompt file\. Use txt",
        "pipe.txt": r"pipe\.txt: expected a file, got a pipe or device",
        "link.txt": r"link\.txt: expected a file, got a pipe or device",
        "loop.txt": r"loop\.txt: expected a readable file, got an error \(Too many levels of sym",
        "nul\0.txt": r"nul\.txt: expected a readable file, got an error \(not a valid path\)",
        "x" * 300 + ".txt": r"expected a readable file, got an error \(File name too long\)",
    }.items():
        with pytest.raises(PromptFileError, match=message):
            read_prompt_file(tmp_path / name)


# The whole


def test_prompts_and_buckets_load_neither_torch_nor_gradio() -> None:
    code = (
        "import sys, dnd_engine.prompts.files, dnd_engine.prompts.buckets;"
        "print({'torch', 'transformers', 'gradio', 'pandas', 'pyarrow'} & set(sys.modules))"
    )
    run = [sys.executable, "-c", code]
    root = Path(__file__).parents[3]
    assert subprocess.run(run, cwd=root, capture_output=True, check=True).stdout == b"set()\n"


_PIECES = st.one_of(
    st.sampled_from(',;\t"{}[]: \n\0\ufeff\u2028'),
    st.sampled_from(["\r\n", "---\n", "prompt", "messages", "label", "NaN", "1e999", "e\u0301"]),
    st.sampled_from([r"\u0000", r"\ud800"]),
)


@pytest.mark.parametrize("suffix", FORMATS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.one_of(st.binary(max_size=60), st.lists(_PIECES).map("".join)))
def test_any_bytes_give_clean_prompts_or_a_prompt_file_error(
    write: Write, suffix: str, content: str | bytes
) -> None:
    path = write(f"a{suffix}", content)
    try:
        texts = [prompt.text for prompt in read_prompt_file(path).prompts]
    except PromptFileError:
        return
    assert texts
    assert len(set(texts)) == len(texts)
    for text in texts:
        assert text == unicodedata.normalize("NFC", text.strip())
        assert text.encode()


@pytest.mark.slow
@given(texts=st.lists(st.text(st.characters(categories=["L", "N", "P"]), min_size=1), min_size=1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_prompts_come_back_from_every_format_the_same(tmp_path: Path, texts: list[str]) -> None:
    """Round trip: whatever wrote the prompts, the same ones are read."""
    texts = list(dict.fromkeys(unicodedata.normalize("NFC", text) for text in texts))
    table = pd.DataFrame({"prompt": texts, "label": "x"})
    table.to_csv(tmp_path / "a.csv", index=False)
    table.to_csv(tmp_path / "a.tsv", index=False, sep="\t")
    table.to_json(tmp_path / "a.json", orient="records")
    table.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    table.to_parquet(tmp_path / "a.parquet")
    (tmp_path / "a.txt").write_text("\n---\n".join(["", *texts]), encoding="utf-8")
    for suffix in (".csv", ".tsv", ".json", ".jsonl", ".parquet", ".txt"):
        read = read_prompt_file(tmp_path / f"a{suffix}")
        assert [prompt.text for prompt in read.prompts] == texts


# Texts that come from no file


@pytest.mark.parametrize("labels", [None, ["A", None, "B\n"]], ids=["plain", "labelled"])
def test_texts_read_as_the_jsonl_file_that_holds_them(
    write: Callable[[str, str], Path], labels: list[str | None] | None
) -> None:
    texts = ["  one\r\n\r\ntwo ", "cafe\u0301", "three\u0000"]
    items: list[object] = [*texts]
    if labels is not None:
        items = [{"prompt": t, "label": label} for t, label in zip(texts, labels, strict=True)]
    file = read_prompt_file(write("a.jsonl", "".join(f"{json.dumps(i)}\n" for i in items)))
    made = from_texts(texts, name="a.jsonl", labels=labels)
    assert made == replace(file, notes=(), columns=())


def test_texts_are_cleaned_and_limited_as_a_file_is() -> None:
    found = from_texts(
        ["one", "one", " ", "x" * 30, "four.\r\rfive"],
        name="a\nb",
        limits=PromptLimits(max_prompt_chars=20),
    )
    assert [prompt.text for prompt in found.prompts] == ["one", "x" * 20, "four.\n\nfive"]
    assert (found.name, found.split) == ("ab", "objects")
    assert found.notes == (
        "1 empty prompt skipped.",
        "1 duplicate dropped.",
        "1 prompt cut at 20 characters.",
    )
    with pytest.raises(PromptFileError, match=r"a: expected at least one prompt, got none"):
        from_texts([], name="a")
    with pytest.raises(PromptFileError, match=r"a, text 2: expected at most 1 prompts"):
        from_texts(["a", "b"], name="a", limits=PromptLimits(max_prompts=1))
    with pytest.raises(PromptFileError, match=r"a: 0\.1 MB; the limit is"):
        from_texts(["a" * 50], name="a", limits=PromptLimits(max_file_bytes=50))


def test_plain_prompts_are_not_said_to_be_chats(tmp_path: Path) -> None:
    path = tmp_path / "plain.jsonl"
    path.write_text('{"prompt": "Say it.\\n\\none"}\n', encoding="utf-8")
    read = read_prompt_file(path)
    assert not any("chat" in note for note in read.notes)
