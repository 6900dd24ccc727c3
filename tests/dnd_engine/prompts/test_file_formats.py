"""Files as people have them: chats, tables, spreadsheets, documents, notebooks, archives."""

import io
import json
import math
import re
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import openpyxl
import pandas as pd
import pytest

from dnd_engine.errors import BrokenItemsError, PromptFileError
from dnd_engine.files import asset_path
from dnd_engine.limits import FIXED, PromptLimits
from dnd_engine.prompts.columns import Table
from dnd_engine.prompts.files import PromptFile, read_prompt_file, without
from dnd_engine.prompts.reading import Choices, Split
from dnd_engine.prompts.split import split_prompt
from tests.conftest import Write


def texts(file: PromptFile) -> list[str]:
    return [prompt.text for prompt in file.prompts]


def roles(file: PromptFile) -> dict[str, str]:
    return {column.name: column.role for column in file.columns}


def zipped(members: Mapping[str, str | bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return data.getvalue()


# Columns


ROWS = [
    {"id": 1, "ticket": "My screen is black.", "team": "hardware", "ask": "Name the team."},
    {"id": 2, "ticket": "I forgot my password.", "team": "accounts", "ask": "Name the team."},
]


def as_table(kind: str, tmp_path: Path) -> Path:
    path, table = tmp_path / f"rows.{kind}", pd.DataFrame(ROWS)
    if kind == "csv":
        table.to_csv(path, index=False)
    elif kind == "tsv":
        table.to_csv(path, index=False, sep="\t")
    elif kind == "json":
        table.to_json(path, orient="records")
    elif kind == "jsonl":
        table.to_json(path, orient="records", lines=True)
    elif kind == "parquet":
        table.to_parquet(path)
    else:
        table.to_excel(path, index=False)
    return path


def test_the_sample_of_a_prompt_of_several_lines_keeps_its_words_apart(write: Write) -> None:
    file = read_prompt_file(write("a.csv", 'prompt,label\n"Yes or no?\n\nIt rains.",yes\n'))
    assert file.columns[0].samples == ("Yes or no? It rains.",)


@pytest.mark.parametrize("kind", ["csv", "tsv", "json", "jsonl", "parquet", "xlsx"])
def test_every_table_finds_its_longest_text_and_takes_other_columns_on_request(
    kind: str, tmp_path: Path
) -> None:
    path = as_table(kind, tmp_path)
    file = read_prompt_file(path)
    assert texts(file) == [str(row["ticket"]) for row in ROWS]
    assert roles(file) == {"id": "", "ticket": "text", "team": "", "ask": ""}
    assert file.columns[0].samples == ("1", "2")
    assert "read `ticket`, the longest text" in file.notes[0]

    choices = Choices(text="ticket", instruction="ask", label="team")
    chosen = read_prompt_file(path, choices=choices)
    assert texts(chosen)[0] == "Name the team.\n\nMy screen is black."
    assert [prompt.label for prompt in chosen.prompts] == ["hardware", "accounts"]
    assert roles(chosen) == {"id": "", "ticket": "text", "team": "label", "ask": "instruction"}
    assert chosen.choices == choices


def test_a_chosen_column_that_is_not_there_is_refused_with_those_that_are(write: Write) -> None:
    with pytest.raises(
        PromptFileError,
        match=r"^a\.csv: expected a column `body`, found columns `id`, `text`\. Choose one of",
    ):
        read_prompt_file(write("a.csv", "id,text\n1,x\n"), choices=Choices(text="body"))
    with pytest.raises(PromptFileError, match=r"expected a key `body`, found key `text`"):
        read_prompt_file(write("a.jsonl", '{"text": "x"}'), choices=Choices(text="body"))


def test_columns_are_named_as_the_page_shows_them_and_in_any_case(write: Write) -> None:
    name = "x" * 100
    path = write("a.csv", f"id,{name},Body\n1,long,short\n")
    shown = read_prompt_file(path).columns[1].name
    assert len(shown) == 60
    assert texts(read_prompt_file(path, choices=Choices(text=shown))) == ["long"]
    assert texts(read_prompt_file(path, choices=Choices(text="body"))) == ["short"]


def test_columns_of_one_name_can_be_told_apart(write: Write) -> None:
    path = write("a.csv", "text,text,id\nfirst,second,7\n")
    assert [column.name for column in read_prompt_file(path).columns] == ["text", "text (2)", "id"]
    assert texts(read_prompt_file(path)) == ["first"]
    found = read_prompt_file(path, choices=Choices(text="text (2)"))
    assert texts(found) == ["second"]
    assert found.column == "text (2)"
    assert [column.role for column in found.columns] == ["", "text", ""]


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ("text,text,text (2)", ["text", "text (3)", "text (2)"]),
        ('" text",text', ["text (2)", "text"]),
        (",#1", ["#1 (2)", "#1"]),
    ],
)
def test_a_made_up_name_is_no_other_columns_own(
    write: Write, header: str, names: list[str]
) -> None:
    cells = [f"cell {number}" for number in range(len(names))]
    path = write("a.csv", f"{header}\n{','.join(cells)}\n")
    assert [column.name for column in read_prompt_file(path).columns] == names
    for name, cell in zip(names, cells, strict=True):
        assert texts(read_prompt_file(path, choices=Choices(text=name))) == [cell]


def test_only_the_columns_that_are_offered_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table may have a million, each with a name of a thousand characters."""
    named = []

    def shown_column(column: str) -> str:
        named.append(column)
        return column

    monkeypatch.setattr("dnd_engine.prompts.columns.shown_column", shown_column)
    table = Table(header=[f"c{number}" for number in range(1000)], rows=[], unit="line")
    assert len(table.names) == 1000
    assert len(named) <= 2 * FIXED.max_columns


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_label_that_is_no_number_is_none(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    rows = [{"prompt": "a", "label": math.nan}, {"prompt": "b", "label": 2.0}]
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        pd.DataFrame(rows).to_parquet(path)
    file = read_prompt_file(path, choices=Choices(text="prompt", label="label"))
    assert [prompt.label for prompt in file.prompts] == [None, "2.0"]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_line_that_names_the_delimiter_is_no_header(write: Write, end: str) -> None:
    rows = ["sep=;", "prompt;label", "a, b;yes", "c;no;more"]
    path = write("a.csv", end.join(rows))
    with pytest.raises(BrokenItemsError, match=r"line 4: expected 2 fields, got 3"):
        read_prompt_file(path)
    file = read_prompt_file(path, choices=Choices(skip_broken=True))
    assert [(prompt.text, prompt.label) for prompt in file.prompts] == [("a, b", "yes")]


def test_no_label_is_a_choice_too(write: Write) -> None:
    path = write("a.csv", "prompt,label\na,yes\n")
    assert read_prompt_file(path).prompts[0].label == "yes"
    file = read_prompt_file(path, choices=Choices(label=""))
    assert file.prompts[0].label is None
    assert roles(file) == {"prompt": "text", "label": ""}


def test_an_instruction_column_with_blank_lines_stays_one_instruction(write: Write) -> None:
    path = write("a.jsonl", json.dumps({"say": "Be kind.\n\nBe short.", "body": "No."}))
    file = read_prompt_file(path, choices=Choices(text="body", instruction="say"))
    assert split_prompt(file.prompts[0].text).instruction == "Be kind.\nBe short."


def test_a_thousand_columns_are_read_and_a_hundred_offered(write: Write) -> None:
    header = ",".join(f"c{n}" for n in range(1000))
    file = read_prompt_file(write("a.csv", f"{header}\n{',' * 998}last,prompt\n"))
    assert texts(file) == ["prompt"] or texts(file) == ["last"]
    assert len(file.columns) == 100
    assert "text" in roles(file).values()


@pytest.mark.slow
def test_objects_that_share_no_key_are_read_without_growing(write: Write) -> None:
    lines = "\n".join(json.dumps({f"k{n}": "word"}) for n in range(20_000))
    file = read_prompt_file(write("a.jsonl", lines))
    assert texts(file) == ["word"]


# Chats


@pytest.mark.parametrize(
    "item",
    [
        {
            "messages": [
                {"role": "system", "content": "Be kind.\n\nBe short."},
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Hello"},
                {"role": "user", "content": "Why?"},
                {"role": "assistant", "content": "Because."},
            ]
        },
        {
            "conversations": [
                {"from": "system", "value": "Be kind.\n\nBe short."},
                {"from": "human", "value": "Why?"},
                {"from": "gpt", "value": "Because."},
            ]
        },
        {
            "system": "Be kind.\n\nBe short.",
            "conversations": [
                {"from": "human", "value": "Why?"},
                {"from": "gpt", "value": "Because."},
            ],
        },
        {
            "messages": [
                {"role": "developer", "content": [{"type": "text", "text": "Be kind.\nBe short."}]},
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": "x"}, {"text": "Why?"}],
                },
                {"role": "assistant", "content": "Because."},
            ]
        },
    ],
    ids=["messages", "sharegpt", "system-beside", "parts"],
)
def test_a_chat_keeps_its_system_message_as_instruction(write: Write, item: Any) -> None:
    [prompt] = read_prompt_file(write("a.jsonl", json.dumps(item))).prompts
    parts = split_prompt(prompt.text)
    assert (parts.instruction, parts.input) == ("Be kind.\nBe short.", "Why?")
    assert prompt.label == "Because."


def test_a_turn_with_an_instruction_of_its_own_takes_no_system_message(write: Write) -> None:
    turns = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "Translate to French.\n \nThe house."},
        {"role": "assistant", "content": "La maison."},
    ]
    [prompt] = read_prompt_file(write("a.jsonl", json.dumps({"messages": turns}))).prompts
    parts = split_prompt(prompt.text)
    assert (parts.instruction, parts.input) == ("Translate to French.", "The house.")
    assert prompt.label == "La maison."


@pytest.mark.parametrize(
    "turns",
    [
        [],
        [1, None, "x", []],
        [{"from": "gpt", "value": "only an answer"}],
        [{"from": "human", "value": {"deep": 1}}],
        [{"from": ["human"], "value": "x"}],
        [{"from": "human", "value": "  "}],
    ],
)
def test_a_chat_without_a_question_is_a_fault(write: Write, turns: Any) -> None:
    with pytest.raises(PromptFileError, match="`conversations` without a user turn of text"):
        read_prompt_file(write("a.json", json.dumps([{"conversations": turns}])))


# Encodings


@pytest.mark.parametrize(
    ("encoding", "text", "said"),
    [
        ("cp1252", "Größe und Maß\nnaïve", "Windows-1252"),
        ("cp1252", "Translate: “Schöne Grüße” – 5 €\n", "Windows-1252"),
        ("cp1251", "Переведи на английский: Привет, мир\nЧто такое любовь?", "Windows-1251"),
        ("cp932", "次の文を英語に訳してください。\nこんにちは、世界", "Shift JIS"),
        ("gb18030", "请把下面的句子翻译成英文。\n你好，世界", "GB 18030"),
        ("cp1253", "Μετάφρασε στα αγγλικά: Γεια σου κόσμε", "Windows-1253"),
    ],
)
def test_older_encodings_are_guessed_and_said(
    write: Write, encoding: str, text: str, said: str
) -> None:
    file = read_prompt_file(write("a.txt", text.encode(encoding)))
    assert texts(file) == text.splitlines()
    assert file.notes[-1].startswith(f"Not UTF-8, so decoded as {said}")
    assert "save the file as UTF-8" in file.notes[-1]


def test_damaged_utf8_is_not_taken_for_an_older_encoding(write: Write) -> None:
    with pytest.raises(PromptFileError, match=r"line 2: expected UTF-8 text, got the byte 0xFF"):
        read_prompt_file(write("a.txt", "größe\n".encode() + b"\xff"))


# Doubts


NOT_PROMPTS = {
    "an e-mail": "From: Ann <ann@example.org>\nTo: Bob\nSubject: Lunch\n\nShall we?\n\nAnn",
    "the minutes of a meeting": (
        "Team meeting, 3 May\n\nAttendees: Ann, Bob\n\nAgenda\n\n1. Budget\n\nAction items: Bob"
    ),
    "a README or other documentation": (
        "# Tool\n\nIt does things.\n\n## Installation\n\n```sh\npip install tool\n```\n\n"
        "See [the docs](https://example.org)."
    ),
    "a letter": "Dear Ms Smith,\n\nThank you for your order.\n\nKind regards,\nBob",
    "a log": "\n".join(f"2024-05-0{n} 10:00:00 INFO started" for n in range(1, 9)),
    "a document": " ".join(f"§ {n}. Members pay in week {n}, or leave." for n in range(400)),
    "program code": "import os\n\ndef main():\n    return os.name\n\nclass A:\n    pass\n",
}


def test_a_letter_or_log_under_one_line_is_doubted_too(write: Write) -> None:
    letter = "Dear Ms Smith,\n\nThank you.\nIt has come.\nAll is well.\nKind regards,\nBob"
    log = f"Our server\n\n{NOT_PROMPTS['a log']}"
    for text, kind in ((letter, "a letter"), (log, "a log")):
        file = read_prompt_file(write("a.txt", text))
        assert file.split == "headed"
        assert file.doubt == f"This looks like {kind}, not like a list of prompts."


def test_minutes_may_be_numbered(write: Write) -> None:
    minutes = "Minutes of the club\nPresent: Ann\n1. Apologies from Bob.\n2) Next meeting: May."
    assert "the minutes of a meeting" in read_prompt_file(write("a.txt", minutes)).doubt
    prompts = "\n".join(f"{n}. Present tense of verb {n}?" for n in range(9))
    assert read_prompt_file(write("b.txt", prompts)).doubt == ""


@pytest.mark.parametrize("kind", NOT_PROMPTS)
def test_a_text_that_is_hardly_prompts_is_said_to_be_so(write: Write, kind: str) -> None:
    path = write("a.txt", NOT_PROMPTS[kind])
    assert read_prompt_file(path).doubt == f"This looks like {kind}, not like a list of prompts."
    assert read_prompt_file(path, split="paragraphs").doubt == ""


def test_one_long_text_among_prompts_is_no_document(write: Write) -> None:
    statutes = NOT_PROMPTS["a document"]
    prompts = "\n".join(f"Say hello to {n} guests, please." for n in range(600))
    assert read_prompt_file(write("a.txt", f"{prompts}\n{statutes}")).doubt == ""
    assert read_prompt_file(write("b.txt", "word " * 3000)).doubt == ""


def test_a_text_below_thousands_of_blank_lines_is_looked_at(write: Write) -> None:
    blank = " \n" * 20_000
    assert read_prompt_file(write("a.txt", f"{blank}Say hello.")).doubt == ""
    letter = read_prompt_file(write("b.txt", blank + NOT_PROMPTS["a letter"]))
    assert letter.doubt.startswith("This looks like a letter")


def test_settings_at_the_head_of_a_page_do_not_hide_what_it_is(write: Write) -> None:
    """The lines around them were taken for separators, so a README was two prompts."""
    head = "---\ntitle: Tool\ntags: [a]\nmodels:\n  - b\n- c: d\n---\n\n"
    readme = NOT_PROMPTS["a README or other documentation"]
    assert read_prompt_file(write("a.md", head + readme)).doubt.startswith("This looks like a READ")
    prompts = f"---\nQuestion: who?\n---\nSum this up.\n\n{readme}\n---\nSay hello."
    assert read_prompt_file(write("b.md", prompts)).doubt == ""
    many = "---\n" + "- a: b\n" * 20_000
    assert read_prompt_file(write("c.md", many)).doubt == ""


@pytest.mark.parametrize(
    "text",
    [
        "From which city does the mayor come?\nTo whom was it sold?\nSubject to what?",
        "Dear reader, who are you?\nHi there, how is the weather?",
        "Write a letter.\n\nDear Ann, thank you.\n\nWrite a letter.\n\nDear Bob, no.",
        f"Sort this mail.\n\n{NOT_PROMPTS['an e-mail']}\n---\nSort this mail.\n\nSubject: x",
        "# One\n\nSay hello.\n\n# Two\n\nSay goodbye.",
        "Return the capital of France.\nImport duties: what are they?\nClass: what is it?",
    ],
)
def test_prompts_that_quote_such_texts_are_not_doubted(write: Write, text: str) -> None:
    assert read_prompt_file(write("a.md", text)).doubt == ""


def test_no_example_that_comes_with_the_app_is_doubted() -> None:
    files = [p for p in asset_path("examples").rglob("*") if p.suffix in (".txt", ".md", ".csv")]
    assert len(files) >= 3
    assert [read_prompt_file(path).doubt for path in files] == [""] * len(files)


# Excel


def workbook(sheets: Mapping[str, Sequence[Sequence[object]]], path: Path) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def test_the_first_sheet_that_holds_something_is_read(tmp_path: Path) -> None:
    path = workbook(
        {
            "Cover": [],
            "Tickets": [["prompt", "label", "when"], ["a", 1, None], [None, None], ["b", True]],
            "More": [["x"], ["y"]],
        },
        tmp_path / "a.xlsx",
    )
    file = read_prompt_file(path)
    assert [(p.text, p.line, p.label) for p in file.prompts] == [("a", 2, "1"), ("b", 4, "True")]
    assert file.notes[-1] == "Read the sheet `Tickets`; `More` ignored."


@pytest.mark.parametrize("state", ["hidden", "veryHidden"])
def test_a_hidden_sheet_is_read_only_if_no_visible_one_holds_text(
    tmp_path: Path, state: str
) -> None:
    rows = {"Lists": [["prompt"], ["a choice"]], "Cover": [], "Tickets": [["prompt"], ["a"]]}
    path = workbook(rows, tmp_path / "a.xlsx")
    book = openpyxl.load_workbook(path)
    book["Lists"].sheet_state = state
    book.save(path)
    file = read_prompt_file(path)
    assert texts(file) == ["a"]
    assert file.notes[-1] == "Read the sheet `Tickets`; `Lists` ignored."
    book["Tickets"].sheet_state = state
    book.save(path)
    file = read_prompt_file(path)
    assert texts(file) == ["a choice"]
    assert file.notes[-1] == (
        "Read the hidden sheet `Lists`: no visible one holds text. `Tickets` ignored."
    )
    del book["Tickets"]
    book.save(path)
    file = read_prompt_file(path)
    assert file.notes[-1] == "Read the hidden sheet `Lists`: no visible one holds text."


def test_a_cell_that_holds_an_error_is_empty(tmp_path: Path) -> None:
    rows = [["prompt", "label"], ["a", "#N/A"], ["#REF!", "yes"], ["b", "#DIV/0!"], ["#NAME?"]]
    file = read_prompt_file(workbook({"A": rows}, tmp_path / "a.xlsx"))
    assert [(prompt.text, prompt.label) for prompt in file.prompts] == [("a", None), ("b", None)]
    assert "4 cells hold an error such as `#N/A` and were read as empty." in file.notes
    file = read_prompt_file(workbook({"A": rows[:2]}, tmp_path / "b.xlsx"))
    assert "One cell holds an error such as `#N/A` and was read as empty." in file.notes


def test_cells_merged_over_several_rows_hold_their_text_in_each(tmp_path: Path) -> None:
    rows: list[list[object]] = [
        ["ask", "prompt", "label", "label"],
        [None, None, "first", "second"],
        ["Name the city.", "Paris is big.", "Paris"],
        [None, "I like Rome."],
        [],
        [None, "Bonn is small.", "Bonn"],
        ["Name the river.", "The Rhine is long.", "Rhine"],
        [None, "The Po is in Italy.", "Po"],
        [None, "We saw the Nile."],
    ]
    path = workbook({"A": rows}, tmp_path / "a.xlsx")
    book = openpyxl.load_workbook(path)
    # Of two rows of names, over an empty row, and up to a row that is no part of it.
    for cells in ("A1:A2", "B1:B2", "C1:D1", "A3:A6", "A7:A8"):
        book.active.merge_cells(cells)
    book.save(path)
    file = read_prompt_file(path, choices=Choices(text="prompt", instruction="ask"))
    assert [(prompt.text, prompt.line) for prompt in file.prompts] == [
        ("Name the city.\n\nParis is big.", 3),
        ("Name the city.\n\nI like Rome.", 4),
        ("Name the city.\n\nBonn is small.", 6),
        ("Name the river.\n\nThe Rhine is long.", 7),
        ("Name the river.\n\nThe Po is in Italy.", 8),
        ("We saw the Nile.", 9),
    ]


@pytest.mark.parametrize("kind", ["shared", "inline", "formula"])
def test_characters_that_excel_escapes_are_read_as_themselves(
    tmp_path: Path, write: Write, kind: str
) -> None:
    escaped = "one_x000D_\ntwo _x005F_x000D_ _x00E4_ x005F_ _xyz_"
    cell = {
        "shared": '<c r="A2" t="s"><v>0</v></c>',
        "inline": f'<c r="A2" t="inlineStr"><is><t>{escaped}</t></is></c>',
        "formula": f'<c r="A2" t="str"><f>B2</f><v>{escaped}</v></c>',
    }[kind]
    path = workbook({"A": [["prompt"], ["TEXT"]]}, tmp_path / "a.xlsx")
    written = '<c r="A2" t="inlineStr"><is><t>TEXT</t></is></c>'
    path.write_bytes(
        rewritten(path, "xl/worksheets/sheet1.xml", lambda xml: xml.replace(written, cell))
    )
    # openpyxl writes no shared strings, Excel no others.
    space = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(
            "xl/sharedStrings.xml", f'<sst xmlns="{space}"><si><t>{escaped}</t></si></sst>'
        )
    part = (
        '<Override PartName="/xl/sharedStrings.xml" ContentType="application/vnd.openxmlformats-'
        'officedocument.spreadsheetml.sharedStrings+xml"/></Types>'
    )
    data = rewritten(path, "[Content_Types].xml", lambda xml: xml.replace("</Types>", part))
    file = read_prompt_file(write("b.xlsx", data))
    assert texts(file) == ["one\ntwo _x000D_ ä x005F_ _xyz_"]


def test_a_workbook_without_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PromptFileError, match="got a workbook without text"):
        read_prompt_file(workbook({"A": [], "B": []}, tmp_path / "a.xlsx"))


@pytest.mark.parametrize("head", [[], [["prompt", "label"]]], ids=["alone", "below-names"])
def test_formulas_that_were_never_calculated_are_named(
    tmp_path: Path, write: Write, head: list[list[object]]
) -> None:
    rows: list[list[object]] = [*head, ['="Say " & B9', "=1+1"]]
    path = workbook({"Cover": [], "A": rows}, tmp_path / "a.xlsx")
    with pytest.raises(
        PromptFileError,
        match=r"a\.xlsx: .* got formulas without values\. Open the workbook in a spreadsheet",
    ):
        read_prompt_file(path)
    # Calculated, to an empty text.
    data = rewritten(
        path,
        "xl/worksheets/sheet2.xml",
        lambda xml: re.sub(r'(<c r="\w+")(><f>)', r'\1 t="str"\2', xml),
    )
    with pytest.raises(PromptFileError, match=r"without text|column names alone"):
        read_prompt_file(write("b.xlsx", data))


def test_the_last_row_of_excel_costs_no_memory(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active["A1"], book.active["A1048576"] = "prompt", "far away"
    book.active["XFD2"] = "too far right"
    book.save(tmp_path / "a.xlsx")
    assert texts(read_prompt_file(tmp_path / "a.xlsx")) == ["far away"]


def test_cells_beyond_the_names_of_columns_are_read_as_columns_without_one(tmp_path: Path) -> None:
    rows: list[list[object]] = [["id", "prompt"], [1, "a"], [2, "b", None, "a remark"]]
    file = read_prompt_file(workbook({"A": rows}, tmp_path / "a.xlsx"))
    assert texts(file) == ["a", "b"]
    assert [column.name for column in file.columns] == ["id", "prompt", "#3", "#4"]
    remarks = read_prompt_file(tmp_path / "a.xlsx", choices=Choices(text="#4"))
    assert texts(remarks) == ["a remark"]


def test_too_many_rows_are_refused(tmp_path: Path) -> None:
    path = workbook({"A": [["prompt"], *[[f"p{n}"] for n in range(5)]]}, tmp_path / "a.xlsx")
    assert len(read_prompt_file(path, limits=PromptLimits(max_prompts=5)).prompts) == 5
    with pytest.raises(PromptFileError, match=r"a\.xlsx, row 6: expected at most 4 rows"):
        read_prompt_file(path, limits=PromptLimits(max_prompts=4))


def test_huge_ranges_of_merged_cells_cost_no_more_than_the_rows(
    tmp_path: Path, write: Write
) -> None:
    path = workbook({"A": [["prompt", "x"], ["a", 1], [None, 2], ["b", 3]]}, tmp_path / "a.xlsx")
    hostile = ("A2:XFD1048576", "A3:A1048576", "XFC2:XFD4", "A1:B1048576")
    merged = "".join(f'<mergeCell ref="{cells}"/>' for cells in hostile * 500)
    xml = f"</sheetData><mergeCells>{merged}</mergeCells>"
    data = rewritten(
        path, "xl/worksheets/sheet1.xml", lambda sheet: sheet.replace("</sheetData>", xml)
    )
    file = read_prompt_file(write("b.xlsx", data))
    assert texts(file) == ["a", "b"]
    assert "1 duplicate" in " ".join(file.notes)


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE b [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY a{n} "{f"&a{n - 1 if n else str()};" * 10}">' for n in range(9))
    + "]>"
)


def rewritten(path: Path, member: str, change: Callable[[str], str]) -> bytes:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members[member] = change(members[member].decode()).encode()
    return zipped(members)


@pytest.mark.parametrize("member", ["xl/worksheets/sheet1.xml", "xl/workbook.xml"])
def test_entities_in_a_workbook_are_refused(tmp_path: Path, write: Write, member: str) -> None:
    path = workbook({"A": [["prompt"], ["a"]]}, tmp_path / "a.xlsx")
    data = rewritten(
        path, member, lambda xml: BOMB + xml.partition("?>")[2].replace(">a<", ">&a8;<")
    )
    with pytest.raises(PromptFileError, match=r"b\.xlsx: expected an Excel workbook"):
        read_prompt_file(write("b.xlsx", data))


@pytest.mark.parametrize("cut", [0.2, 0.6, 0.9])
def test_a_damaged_workbook_or_document_is_refused(
    tmp_path: Path, write: Write, cut: float
) -> None:
    data = workbook({"A": [["prompt"], ["a"]]}, tmp_path / "a.xlsx").read_bytes()
    for name in ("b.xlsx", "b.docx", "b.zip"):
        with pytest.raises(PromptFileError, match="does not read as one"):
            read_prompt_file(write(name, data[: int(len(data) * cut)]))


def test_another_archive_is_no_workbook_and_no_document(write: Write) -> None:
    for name, kind in {"a.xlsx": "an Excel workbook", "a.docx": "a Word document"}.items():
        with pytest.raises(PromptFileError, match=f"expected {kind}, got an"):
            read_prompt_file(write(name, zipped({"a.txt": "x"})))


# Word


NAMESPACE = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def document(body: str, head: str = "", styles: str = "") -> bytes:
    xml = f"{head}<w:document {NAMESPACE}><w:body>{body}</w:body></w:document>"
    more = {"word/styles.xml": f"<w:styles {NAMESPACE}>{styles}</w:styles>"} if styles else {}
    return zipped({"word/document.xml": xml, **more})


def paragraph(text: str, style: str = "") -> str:
    properties = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{properties}<w:r><w:t>{text}</w:t></w:r></w:p>"


# As German Word writes it.
HEADINGS = (
    '<w:style w:type="paragraph" w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style>'
    '<w:style w:type="paragraph" w:styleId="Titel"><w:name w:val="Title"/></w:style>'
    '<w:style w:type="paragraph" w:styleId="Liste"><w:name w:val="List Paragraph"/></w:style>'
    '<w:style w:type="paragraph" w:styleId="Aufzhlung"><w:name w:val="List Bullet"/></w:style>'
)
MARK = '<w:pPr><w:numPr><w:numId w:val="1"/></w:numPr></w:pPr>'


def test_a_word_document_is_read_as_its_lines(write: Write) -> None:
    lines = ["Name the city.", "", "Paris is big.", "---", "Name the city.", "", "I like Rome."]
    body = "".join(map(paragraph, lines))
    file = read_prompt_file(write("a.docx", document(body)))
    assert texts(file) == ["Name the city.\n\nParis is big.", "Name the city.\n\nI like Rome."]
    assert file.split == "separator"
    by_line = read_prompt_file(write("a.docx", document(body)), split="lines")
    assert len(by_line.prompts) == 4


def test_headings_of_a_word_document_are_no_prompts(write: Write) -> None:
    asked = [paragraph(text, "Liste") for text in ("Where is it?", "Is it warm?", "Why?")]
    body = paragraph("Questions", "Titel") + paragraph("Weather", "berschrift1") + "".join(asked)
    path = write("a.docx", document(body, styles=HEADINGS))
    file = read_prompt_file(path)
    assert texts(file) == ["Where is it?", "Is it warm?", "Why?"]
    assert "2 headings were left out." in " ".join(file.notes)
    assert file.split not in get_args(Split), "a recipe would ask for that, and read the headings"
    # Whoever chooses how to split has seen them.
    assert texts(read_prompt_file(path, split="lines"))[0] == "Questions"
    # A document of nothing else is read as it is, and so is one without named styles.
    path = write("b.docx", document(paragraph("Questions", "Titel"), styles=HEADINGS))
    assert texts(read_prompt_file(path)) == ["Questions"]
    assert len(read_prompt_file(write("c.docx", document(body))).prompts) == 5


def test_a_heading_above_a_list_of_inputs_stays_their_instruction(write: Write) -> None:
    inputs = ("Good soup.", "Cold soup.", "No soup.", "Hot soup.")
    body = paragraph("Does the customer like it?", "berschrift1") + paragraph("")
    body += "".join(map(paragraph, inputs))
    file = read_prompt_file(write("a.docx", document(body, styles=HEADINGS)))
    assert texts(file)[1] == "Does the customer like it?\n\nCold soup."
    assert len(file.prompts) == 4


def test_a_list_in_word_follows_its_instruction_without_an_empty_paragraph(write: Write) -> None:
    inputs = ("Good soup.", "Cold soup.", "No soup.", "Hot soup.")
    head = paragraph("Menu", "Titel") + paragraph("Does the customer like it?")
    marked = "".join(paragraph(text).replace("<w:r>", f"{MARK}<w:r>") for text in inputs)
    styled = "".join(paragraph(text, "Aufzhlung") for text in inputs)
    for n, items in enumerate((marked, styled)):
        file = read_prompt_file(write(f"{n}.docx", document(head + items, styles=HEADINGS)))
        assert texts(file) == [f"Does the customer like it?\n\n{text}" for text in inputs]
    # A title is not an instruction.
    titled = paragraph("Menu", "Titel") + marked
    file = read_prompt_file(write("t.docx", document(titled, styles=HEADINGS)))
    assert texts(file) == list(inputs)
    # Another paragraph below it: then nobody knows what the list is.
    file = read_prompt_file(write("c.docx", document(head + marked + head, styles=HEADINGS)))
    assert "\n\n" not in "".join(texts(file))


def test_headings_tell_that_a_word_document_is_no_list_of_prompts(write: Write) -> None:
    heads = ("Attendees", "Agenda", "Action items")
    body = "".join(paragraph(head, "berschrift1") + paragraph("Ann") for head in heads)
    file = read_prompt_file(write("a.docx", document(body, styles=HEADINGS)))
    assert "the minutes of a meeting" in file.doubt


def test_breaks_tabs_and_tables_are_read_and_deleted_text_is_not(write: Write) -> None:
    body = (
        "<w:p><w:r><w:t>one</w:t><w:br/><w:t>more</w:t><w:tab/><w:t>x</w:t></w:r>"
        "<w:del><w:r><w:delText>gone</w:delText></w:r></w:del></w:p>"
        f"<w:tbl><w:tr><w:tc>{paragraph('cell')}</w:tc></w:tr></w:tbl>"
    )
    assert texts(read_prompt_file(write("a.docx", document(body)))) == ["one", "more\tx", "cell"]


def test_a_document_with_a_table_says_how_its_cells_were_read(write: Write) -> None:
    note = "The document holds a table: each paragraph of a cell was read as a line of its own."
    for cell, said in ((paragraph("yes"), True), ("<w:p/>", False)):
        table = f"<w:tbl><w:tr><w:tc>{cell}</w:tc></w:tr></w:tbl>"
        file = read_prompt_file(write("a.docx", document(paragraph("one") + table)))
        assert (note in file.notes) == said


def test_hyphens_and_tabs_that_are_elements_are_read(write: Write) -> None:
    body = (
        "<w:p><w:r><w:t>e</w:t><w:noBreakHyphen/><w:t>mail</w:t>"
        '<w:ptab w:relativeTo="margin" w:alignment="right" w:leader="none"/>'
        "<w:t>auto</w:t><w:softHyphen/><w:t>matic</w:t></w:r></w:p>"
    )
    assert texts(read_prompt_file(write("a.docx", document(body)))) == ["e-mail\tautomatic"]


@pytest.mark.parametrize(
    "space",
    [
        "http://schemas.openxmlformats.org/officeDocument/2006/math",
        "http://purl.oclc.org/ooxml/officeDocument/math",
    ],
    ids=["transitional", "strict"],
)
def test_the_text_of_equations_is_read(write: Write, space: str) -> None:
    body = (
        f'<w:p xmlns:m="{space}"><w:r><w:t xml:space="preserve">Solve </w:t></w:r>'
        "<m:oMath><m:r><m:t>x+1=2</m:t></m:r></m:oMath><w:r><w:t>.</w:t></w:r></w:p>"
    )
    assert texts(read_prompt_file(write("a.docx", document(body)))) == ["Solve x+1=2."]


def test_text_that_was_moved_is_read_where_it_went(write: Write) -> None:
    """What is left of its paragraph is no blank line, which would separate prompts."""
    run, mark = "<w:r><w:t>moved</w:t></w:r>", "<w:pPr><w:rPr><w:{}/></w:rPr></w:pPr>"
    body = (
        f"{paragraph('one')}<w:p>{mark.format('moveFrom')}<w:moveFrom>{run}</w:moveFrom></w:p>"
        f"<w:p>{mark.format('del')}<w:del><w:r><w:delText>gone</w:delText></w:r></w:del></w:p>"
        f"{paragraph('two')}<w:p>{mark.format('moveTo')}<w:moveTo>{run}</w:moveTo></w:p>"
    )
    file = read_prompt_file(write("a.docx", document(body)))
    assert texts(file) == ["one", "two", "moved"]
    assert file.split == "lines"
    assert not any("duplicate" in note for note in file.notes)


def test_hidden_text_is_not_read(write: Write) -> None:
    def run(properties: str, text: str) -> str:
        return f"<w:r><w:rPr>{properties}</w:rPr><w:t>{text}</w:t></w:r>"

    shown = "".join(run(f'<w:vanish w:val="{off}"/>', off) for off in ("false", "0", "off"))
    hidden = run("<w:b/><w:vanish/>", "a note") + run('<w:vanish w:val="1"/>', "more")
    body = (
        f"<w:p>{hidden}{shown}</w:p>"
        f"<w:p><w:pPr><w:rPr><w:vanish/></w:rPr></w:pPr>{hidden}</w:p>{paragraph('two')}"
    )
    file = read_prompt_file(write("a.docx", document(body)))
    assert texts(file) == ["false0off", "two"]


def test_the_tab_stops_of_a_paragraph_are_no_tabs(write: Write) -> None:
    stops = '<w:pPr><w:tabs><w:tab w:val="left" w:pos="720"/></w:tabs></w:pPr>'
    body = paragraph("one") + paragraph("two").replace("<w:r>", f"{stops}<w:r>")
    file = read_prompt_file(write("a.docx", document(body)), split="paragraphs")
    assert texts(file) == ["one\ntwo"]


def test_a_text_box_is_read_once_though_word_writes_it_twice(write: Write) -> None:
    """Once for itself and once for old programs, which read the fallback."""
    markup = 'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
    box = f"<w:txbxContent>{paragraph('in the box')}</w:txbxContent>"
    body = (
        f"<w:p {markup}><w:r><w:t>above</w:t><mc:AlternateContent>"
        f'<mc:Choice Requires="wps">{box}</mc:Choice><mc:Fallback>{box}</mc:Fallback>'
        "</mc:AlternateContent></w:r></w:p>"
    )
    file = read_prompt_file(write("a.docx", document(body + paragraph("below"))))
    assert texts(file) == ["above", "in the box", "below"]
    # Equal prompts are read once anyway, and said to be.
    assert not any("duplicate" in note for note in file.notes)


def test_a_document_of_pictures_is_refused(write: Write) -> None:
    with pytest.raises(PromptFileError, match=r"a document without text\. Pictures"):
        read_prompt_file(write("a.docx", document("<w:p/>")))


@pytest.mark.parametrize(
    "data",
    [
        document(paragraph("&a8;"), BOMB),
        document(paragraph("&x;"), '<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]>'),
        zipped({"word/document.xml": "<w:document>"}),
        zipped({"word/document.xml": b"\xff\xfe\x00"}),
    ],
    ids=["bomb", "outside", "broken", "binary"],
)
def test_hostile_xml_in_a_document_is_refused(write: Write, data: bytes) -> None:
    with pytest.raises(PromptFileError, match=r"a\.docx: expected a Word document, got XML"):
        read_prompt_file(write("a.docx", data))


def test_text_of_nested_paragraphs_is_read_once(write: Write) -> None:
    """Each reading it again would take a tiny file to gigabytes."""
    body = "<w:p>" * 2_000 + "<w:r><w:t>deep</w:t></w:r>" + "</w:p>" * 2_000
    assert texts(read_prompt_file(write("a.docx", document(body)))) == ["deep"]


def test_deeply_nested_xml_does_not_crash(write: Write) -> None:
    body = "<w:x>" * 5_000 + paragraph("deep") + "</w:x>" * 5_000
    assert texts(read_prompt_file(write("a.docx", document(body)))) == ["deep"]


# Notebooks


def notebook(*cells: tuple[str, object]) -> str:
    return json.dumps({"cells": [{"cell_type": kind, "source": s} for kind, s in cells]})


def test_markdown_cells_are_prompts(write: Write) -> None:
    cells = [("markdown", ["# A\n", "Say it."]), ("code", "print()"), ("markdown", "B")]
    file = read_prompt_file(write("a.ipynb", notebook(*cells)))
    assert [(p.line, p.text) for p in file.prompts] == [(1, "# A\nSay it."), (3, "B")]
    assert file.notes == ("Read each Markdown cell as a prompt.", "1 other cell ignored.")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "broken JSON"),
        ("[]", "JSON without a list of cells"),
        ('{"cells": {}}', "JSON without a list of cells"),
        ('{"cells": [1, {"cell_type": "code"}]}', "found 2 cells of other kinds"),
        ('{"cells": [{"cell_type": "markdown", "source": [1, {}]}]}', "none that holds text"),
    ],
)
def test_what_is_no_notebook_of_prompts_is_refused(write: Write, text: str, message: str) -> None:
    with pytest.raises(PromptFileError, match=message):
        read_prompt_file(write("a.ipynb", text))


# Archives


def test_the_prompt_files_of_an_archive_are_read_as_one(write: Write, tmp_path: Path) -> None:
    sheet = workbook({"A": [["prompt"], ["from excel"]]}, tmp_path / "s.xlsx").read_bytes()
    members: dict[str, str | bytes] = {
        "set/a.txt": "one\ntwo\n",
        "set/b.jsonl": '{"prompt": "three", "label": "x"}\n{"prompt": "one"}',
        "set/c.xlsx": sheet,
        "set/inner.zip": zipped({"d.txt": "hidden"}),
        "set/photo.png": b"\x89PNG",
        "README.md": NOT_PROMPTS["a README or other documentation"],
        "__MACOSX/set/._a.txt": b"\0\0",
        ".DS_Store": b"\0",
    }
    file = read_prompt_file(write("a.zip", zipped(members)))
    assert texts(file) == ["one", "two", "three", "from excel"]
    assert file.prompts[2].label == "x"
    assert file.prompts[0].file == "a.zip/a.txt"
    assert file.split == "files"
    assert file.notes[0] == "Read 3 files: `a.txt`, `b.jsonl`, `c.xlsx`."
    assert "Left out `README.md`: not likely to be prompts." in file.notes
    assert "Left out `inner.zip`, `photo.png`: no prompt files." in file.notes


def test_chosen_columns_are_those_of_the_tables_in_an_archive(write: Write) -> None:
    csv = "ask,body,grade\nDo it.,a long body,1\nDo it.,another long body,2\n"
    packed = zipped({"a.csv": csv, "b.txt": "Say it.\n"})
    choices = Choices(text="body", instruction="ask", label="grade")
    file = read_prompt_file(write("a.zip", packed), choices=choices)
    assert [(p.text, p.label) for p in file.prompts] == [
        ("Do it.\n\na long body", "1"),
        ("Do it.\n\nanother long body", "2"),
        ("Say it.", None),
    ]
    with pytest.raises(BrokenItemsError, match=r"a\.csv: expected a column `none`, found"):
        read_prompt_file(write("a.zip", packed), choices=Choices(text="none"))


@pytest.mark.parametrize("name", ["a.txt", "a.zip"])
def test_columns_chosen_of_a_text_are_said_to_be_ignored(write: Write, name: str) -> None:
    content = b"Say a.\nSay b.\n" if name == "a.txt" else zipped({"a.txt": "Say a.\nSay b.\n"})
    file = read_prompt_file(write(name, content), choices=Choices(label="grade"))
    assert "The chosen columns were ignored: only tables and JSON have some." in file.notes


def test_a_broken_file_in_an_archive_is_told_or_left_out(write: Write) -> None:
    members: dict[str, str | bytes] = {
        "a.txt": "one\ntwo",
        "b.jsonl": '"three"\n[1]',
        "c.csv": "a,b\n1,2\n",
        "d.txt": "",
    }
    path = write("a.zip", zipped(members))
    with pytest.raises(BrokenItemsError, match=r"a\.zip, b\.jsonl, line 2: .* got a list") as error:
        read_prompt_file(path)
    assert "a.zip, c.csv: expected a column of text" in str(error.value)
    assert error.value.num_good == 3
    file = read_prompt_file(path, choices=Choices(skip_broken=True))
    assert texts(file) == ["one", "two", "three"]
    assert "Left out `c.csv`, `d.txt`, which cannot be read." in file.notes


def test_an_archive_of_doubtful_files_alone_is_doubted(write: Write) -> None:
    data = zipped({"mail.txt": NOT_PROMPTS["an e-mail"]})
    assert read_prompt_file(write("a.zip", data)).doubt.startswith("mail.txt: This looks like")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"../a.txt": "x"}, "the path of `a.txt` leads out of the archive"),
        ({"/etc/a.txt": "x"}, "leads out of the archive"),
        ({"..\\a.txt": "x"}, "leads out of the archive"),
        ({"C:\\a.txt": "x"}, "leads out of the archive"),
        ({"a/../../b.txt": "x"}, "leads out of the archive"),
        ({".": "x"}, "a file in it has no name"),
        ({"a.png": "x", "b.zip": "y"}, "expected prompt files in it, found `a.png`, `b.zip`"),
        ({}, "expected prompt files in it, found none"),
        (
            {"card/adapter_config.json": "{}", "card/README.md": "Yes or no?"},
            "expected prompt files in it, found an adapter. Import it in the Library.",
        ),
        ({f"{n}.txt": "x" for n in range(61)}, "at most 60 prompt files in it, got 61"),
        ({f"{n}.bin": "" for n in range(2001)}, "at most 2,000 files in it, got 2,001"),
        ({"a.txt": "a" * 2_000_000}, "unpacks to more than 200 times its size"),
        ({f"{n}.txt": "a" * 900_000 for n in range(28)}, "25.2 MB when unpacked; the limit is"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_hostile_archive_is_refused(write: Write, members: dict[str, str], message: str) -> None:
    with pytest.raises(PromptFileError, match=message):
        read_prompt_file(write("a.zip", zipped({**members})))


@pytest.mark.parametrize("name", ["a.zip", "a.docx", "a.xlsx"])
def test_a_file_whose_name_begins_with_a_zero_has_none(write: Write, name: str) -> None:
    """A name ends at its first zero, and `ZipInfo.is_dir` of Python 3.11 fails on an empty one."""
    data = zipped({"one.txt": "x"}).replace(b"one.txt", b"\0ne.txt")
    with pytest.raises(PromptFileError, match="a file in it has no name"):
        read_prompt_file(write(name, data))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_ways_to_compress_are_refused(write: Write, method: int) -> None:
    with pytest.raises(PromptFileError, match="compressed in a way that is not read"):
        read_prompt_file(write("a.zip", zipped({"a.txt": "x"}, method)))


def test_an_encrypted_file_is_refused(write: Write) -> None:
    data = bytearray(zipped({"a.txt": "x"}))
    at = data.index(b"PK\x01\x02")
    data[at + 8] |= 1
    with pytest.raises(PromptFileError, match=r"is encrypted\. Pack it without a password"):
        read_prompt_file(write("a.zip", bytes(data)))


def test_a_size_that_lies_unpacks_no_more_than_it_states(write: Write) -> None:
    data = bytearray(zipped({"a.txt": "x" * 20_000_000}))
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", 100)
    with pytest.raises(PromptFileError, match=r"`a\.txt` in it is damaged"):
        read_prompt_file(write("a.zip", bytes(data)))


def test_a_sheet_that_lies_about_its_size_is_not_unpacked(write: Write, tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.append(["x" * 30_000] * 200)
    book.save(tmp_path / "a.xlsx")
    data = bytearray((tmp_path / "a.xlsx").read_bytes())
    at = -1
    while (at := data.find(b"PK\x01\x02", at + 1)) >= 0:
        data[at + 24 : at + 28] = struct.pack("<I", 100)
    with pytest.raises(PromptFileError, match="in it is damaged"):
        read_prompt_file(write("b.xlsx", bytes(data)))


def test_two_files_of_one_name_are_refused(write: Write) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("a.txt", "x")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.txt", "y")
    with pytest.raises(PromptFileError, match="two files in it have the same name"):
        read_prompt_file(write("a.zip", data.getvalue()))


# Prompts removed by hand


def test_prompts_are_left_out_by_their_place(write: Write) -> None:
    path = write("a.txt", "one\ntwo\nthree\n")
    file = read_prompt_file(path, choices=Choices(without=(1, 7, -1)))
    assert texts(file) == ["one", "three"]
    assert file.choices.without == (1,)
    assert file.notes[-1] == "1 prompt removed by hand."
    assert without(read_prompt_file(path), [1]) == file
    with pytest.raises(PromptFileError, match="got none, since all were removed"):
        read_prompt_file(path, choices=Choices(without=(0, 1, 2)))
