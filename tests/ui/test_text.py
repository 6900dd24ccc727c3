"""Messages: English in the code, all in every catalogue, and English where one is missing."""

import ast
import copy
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest
from babel.messages.catalog import Catalog

from dnd_engine.errors import AdapterError, AssetError
from dnd_engine.lora.reader import read_files
from dnd_engine.notes import counted, joined, noted
from dnd_engine.progress import AnswerCounts, Doing, Progress, in_english
from dnd_engine.prompts.examples import load_examples
from dnd_engine.prompts.files import read_prompt_file
from dnd_engine.prompts.reading import Choices
from ui.frame.keys_view import SHORTCUTS
from ui.language import preferred
from ui.progress import step_words
from ui.tabs.workbench.prompts.view import EXAMPLE_BUCKETS
from ui.text import (
    ENGLISH,
    Words,
    _,
    catalogue,
    count_files,
    count_prompts,
    day,
    drawn,
    languages,
    ngettext,
    note_words,
    number,
    said,
    script_words,
    size,
    speaking,
)
from ui.text.__main__ import begun, faults, messages, updated, written
from ui.text.extract import KEYWORDS

ROOT = Path(__file__).parents[2]
OTHERS = [code for code in languages() if code != ENGLISH]
TAG = re.compile(r"<[^<>]*>|&\w+;")


@pytest.fixture(scope="module")
def template() -> Catalog:
    return messages()


@pytest.mark.parametrize("code", OTHERS)
def test_a_catalogue_is_complete_and_up_to_date_with_the_code(code: str, template: Catalog) -> None:
    found = updated(code, template)
    missing = list(faults(found))
    assert missing == [], "run python -m ui.text, then translate:\n" + "\n".join(missing)
    assert written(found) == written(catalogue.read_catalogue(code)), "run python -m ui.text"


def test_what_a_catalogue_lacks_is_listed() -> None:
    found = begun("de")
    found.add("Missing")
    found.add("Guessed", "Geraten", flags=["fuzzy"])
    found.add("{low:.2f} to {high:.2f}", "{low:.2f} bis {hgih:.2f}")
    found.add("Kept as <b>{name}</b>", "Liegt als <i>{name}</i>")
    found.add(("{number} file", "{number} files"), ("eine Datei", "{number} Dateien"))
    found.add("Gone", "Weg")
    template = Catalog()
    for message in list(found)[1:-1]:
        template.add(message.id)
    found.update(template)
    assert list(faults(found)) == [
        "missing: Missing",
        "fuzzy: Guessed",
        "other placeholders: {low:.2f} to {high:.2f}",
        "unknown placeholders: {low:.2f} to {high:.2f}",
        "other markup: Kept as <b>{name}</b>",
        "obsolete: Gone",
    ]


def test_what_is_missing_or_fuzzy_is_said_in_english(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = begun("fr")
    found.add("Library", "Bibliothèque")
    found.add("Measure", "Mesures", flags=["fuzzy"])
    found.add("Workbench")
    found.add(("{number} file", "{number} files"), ("{number} fichier", "{number} fichiers"))
    path = tmp_path / "fr" / "LC_MESSAGES" / "messages.po"
    path.parent.mkdir(parents=True)
    path.write_text(written(found), encoding="utf-8")
    monkeypatch.setattr(catalogue, "LOCALES", tmp_path)
    languages.cache_clear()
    try:
        assert list(languages()) == [ENGLISH, "fr"]
        with speaking("fr"):
            assert [_("Library"), _("Measure"), _("Workbench")] == [
                "Bibliothèque",
                "Measure",
                "Workbench",
            ]
            assert _("Nobody has translated {name}, {share:.1f} %", name="this", share=0.5) == (
                "Nobody has translated this, 0,5 %"
            )
            assert count_files(0) == "0 fichier"  # none is one, in French
            assert count_prompts(2) == "2 prompts"
    finally:
        monkeypatch.undo()
        languages.cache_clear()
    with pytest.raises(KeyError), speaking("fr"):
        pass


def test_messages_are_plain(template: Catalog) -> None:
    for found in (template, *map(catalogue.read_catalogue, OTHERS)):
        for message in found:
            if not message.id:
                continue
            for words in (message.id, message.string or ""):
                for form in [words] if isinstance(words, str) else words:
                    assert "!" not in form
                    assert not re.search(r"[<>&]", TAG.sub("", form)), form


def test_german_advice_is_in_one_form() -> None:
    """“Datei neu speichern.”, as in most of it, and not “Speichern Sie die Datei neu.”."""
    ordered = re.compile(r"(?:^|[.:;] |(?:und|oder) )\w+n Sie\b")
    told = [message.string or "" for message in catalogue.read_catalogue("de")]
    forms = [form for words in told for form in ([words] if isinstance(words, str) else words)]
    assert not [form for form in forms if ordered.search(form)]


def test_advice_names_what_else_to_try(template: Catalog) -> None:
    """“Try others.” could mean other adapters, or other answers."""
    assert not [message.id for message in template if "Try others" in str(message.id)]


def test_every_example_has_words() -> None:
    assert [example.bucket for example in load_examples()] == list(EXAMPLE_BUCKETS)


def test_numbers_dates_and_counts_are_written_as_the_language_does() -> None:
    moment = datetime(2026, 7, 1, 12, 30, tzinfo=UTC)

    def told() -> list[str]:
        return [
            count_prompts(1),
            count_files(1234),
            size(2_442_240),
            size(4_900),
            number(0.5, "+.2f"),
            _("{low:+.2f} to {name}", low=0.5, name="1.5"),
        ]

    assert told() == ["1 prompt", "1,234 files", "2.4 MB", "5 kB", "+0.50", "+0.50 to 1.5"]
    # Python 3.11's Babel may put a narrow space before PM.
    assert re.fullmatch(r"Jul 1, 2026, 12:30\sPM", day(moment))
    with speaking("de"):
        assert told()[:5] == ["1 Prompt", "1.234 Dateien", "2,4 MB", "5 kB", "+0,50"]
        assert day(moment) == "01.07.2026, 12:30"


def test_words_can_be_said_again_in_another_language() -> None:
    def page(title: str, *more: str) -> str:
        return f"<h2>{title}</h2>{_('Library')}: {', '.join(more)}"

    words = drawn(page, _("Checks"), ngettext("{number} file", "{number} files", 2))
    assert words == "<h2>Checks</h2>Library: 2 files"
    with speaking("de"):
        assert said(words) == "<h2>Prüfung</h2>Sammlung: 2 Dateien"
        assert said([(words, 1), "Library", {"x": _("Library")}]) == [
            ("<h2>Prüfung</h2>Sammlung: 2 Dateien", 1),
            "Library",
            {"x": "Sammlung"},
        ]
        nested = _("Kept in the library as <b>{name}</b>.", name=_("Checks"))
    assert said(nested) == "Kept in the library as <b>Checks</b>."
    assert words == "<h2>Checks</h2>Library: 2 files"
    plain = ["Library", ("x", 1), {"y": None}]
    assert all(said(value) is value for value in plain)


def test_words_survive_str_and_are_copied_as_plain_text() -> None:
    words = _("Library")
    assert isinstance(str(words), Words)
    for copied in (copy.deepcopy(words), pickle.loads(pickle.dumps(words))):
        assert (type(copied), copied) == (str, "Library")
    assert _("") == ""


def test_scripts_get_what_they_say_and_no_more() -> None:
    assert script_words("Legal") == (
        '{"code": "en", "plural": "(n != 1)", "messages": {"Legal": "Legal"}}'
    )
    with speaking("de"):
        german = script_words("Legal")
    assert '"Browse files": "Dateien w\\u00e4hlen"' in german
    assert '"{number} file": ["{number} Datei", "{number} Dateien"]' in german
    assert "Report card" not in german


STEPS: Mapping[Doing, tuple[dict[str, Any], str, str]] = {
    "download": ({"name": "base==1"}, "base==1", "base==1"),
    "load_encoder": ({}, "Text encoder", "Text-Encoder"),
    "read": ({"name": "SQL"}, "Reading SQL", "SQL wird gelesen"),
    "measure_ordinary": (
        {},
        "Once per base model: measuring its ordinary answers",
        "Einmal je Basismodell: Seine gewöhnlichen Antworten werden gemessen",
    ),
    "ask_with_instruction": (
        {"done": 3, "total": 16},
        "Asking with the instruction: 3 of 16 prompts",
        "Fragen mit der Anweisung: 3 von 16 Prompts",
    ),
    "fit_layer": ({"done": 2, "total": 30}, "Layer 2 of 30", "Schicht 2 von 30"),
    "compare_adapters": ({"num_prompts": 16}, "on 16 prompts", "an 16 Prompts"),
    "train": (
        {"loss": 0.5117, "seconds_left": 8.2},
        "Loss 0.512",
        "Verlust 0,512",
    ),
    "ask": (
        {"done": 16, "total": 1200},
        "Asking the teacher: 16 of 1,200 prompts",
        "Der Lehrer wird gefragt: 16 von 1.200 Prompts",
    ),
    "answered": (
        {"answers": AnswerCounts("3.5 times", 9, 26, 3), "done": 26, "total": 30},
        "“3.5 times” to 9 of 26 prompts, 3 different answers",
        "„3.5 times“ auf 9 von 26 Prompts, 3 verschiedene Antworten",
    ),
}


@pytest.mark.parametrize("doing", get_args(Doing))
def test_every_step_of_the_engine_has_words(doing: Doing) -> None:
    values, english, german = STEPS.get(doing, ({}, "", ""))
    step = Progress("check", None, 0.0, doing, **values)
    assert bool(step_words(step)) == (doing not in ("ready", "fetch"))
    assert not english or step_words(step) == english
    with speaking("de"):
        assert not german or step_words(step) == german
    assert in_english(step)


def test_one_answer_to_all_and_all_buckets_have_words_of_their_own() -> None:
    alike = Progress("ask", 1.0, 0.0, "answered", answers=AnswerCounts("no", 3, 3, 1))
    assert step_words(alike) == "“no” to 3 of 3 prompts"
    assert step_words(Progress("encode", 0.0, 0.0, "read")) == "Reading all prompts"


@pytest.mark.parametrize(
    ("accepted", "code"),
    [
        ("", "en"),
        ("*", "en"),
        ("fr-FR,fr;q=0.9", "en"),
        ("de-AT,de;q=0.9,en;q=0.5", "de"),
        ("fr,en-GB;q=0.8,de;q=0.7", "en"),
        ("en;q=0.5, de;q=0.9", "de"),
        ("de,en", "de"),
        ("de;q=0, en;q=0.1", "en"),
        ("de;q=very", "en"),
        ("en; q=0.5, de; q=0.9", "de"),
    ],
)
def test_a_visitor_gets_the_language_their_browser_likes_best(accepted: str, code: str) -> None:
    assert preferred(accepted) == code


# What is shown is marked for translation. What is left in a string of a module is names, slots and
# markup; these are the signs of a sentence or a label that nobody can translate.
SENTENCE = re.compile(r"[A-Z][a-z]+ [a-z]|[a-z]{2,} [a-z]{2,}[.:?]")
SPOKEN_ATTRIBUTE = re.compile(r"(?:aria-label|title|alt|placeholder)=['\"][^'\"{]*[A-Za-z]{2}")
LABELS = {"label", "info", "placeholder", "title"}
NAMED_FIRST = {"Accordion", "Button", "DownloadButton", "Tab"}
OF_DEVELOPERS = {"SlotError", "UnlistedSlotError"}
"""Raised for a mistake in the code, so no visitor reads it."""
# One engine serves visitors of every language: what its thread tells and logs is English, and so is
# what programs are told, and the command line.
OF_THE_ENGINE = {"api.py", "api_shelf.py", "engine_handle.py", "engine_thread.py", "serve.py"}


def strings(tree: ast.AST) -> Iterator[str]:
    """Every string of a module but docstrings and messages, with {} for the values of f-strings."""
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) in KEYWORDS:
            skipped.update(map(id, node.args))
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) in OF_DEVELOPERS:
            skipped.update(map(id, ast.walk(node)))
        if isinstance(node, ast.Expr):
            skipped.add(id(node.value))
        elif isinstance(node, ast.JoinedStr) and id(node) not in skipped:
            skipped.update(map(id, node.values))
            yield "".join(
                str(p.value) if isinstance(p, ast.Constant) else "{}" for p in node.values
            )
        elif isinstance(node, ast.Constant) and id(node) not in skipped:
            yield node.value if isinstance(node.value, str) else ""


def labels(tree: ast.AST) -> Iterator[str]:
    """Strings that are given to Gradio to be shown."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            shown = [keyword.value for keyword in node.keywords if keyword.arg in LABELS]
            shown += node.args[:1] if node.func.attr in NAMED_FIRST else []
            for value in shown:
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield value.value


def own_words(tree: ast.AST) -> list[str]:
    found = [label for label in labels(tree) if label]
    for words in strings(tree):
        shown = TAG.sub(" ", words)
        marked_up = shown != words and re.search(r"[A-Za-z]{3,}", shown.replace("{}", ""))
        if marked_up or SENTENCE.search(shown) or SPOKEN_ATTRIBUTE.search(words):
            found.append(words)
    return found


@pytest.mark.parametrize(
    "path",
    [path for path in sorted((ROOT / "ui").rglob("*.py")) if path.parent.name != "text"],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_every_sentence_is_marked_for_translation(path: Path) -> None:
    found = own_words(ast.parse(path.read_text(encoding="utf-8")))
    assert found == [] or path.name in OF_THE_ENGINE


def test_a_sentence_that_is_not_marked_would_be_found() -> None:
    for source in (
        'f"<b>Only {number} left</b>"',
        '"Drop files first."',
        "f\"<i title='Two words'></i>\"",
        'gr.Button("Go")',
        'gr.Slider(label="Weight")',
    ):
        assert own_words(ast.parse(f"x = {source}"))
    assert not own_words(ast.parse('x = gr.Button(_("Drop files first."))'))


@pytest.mark.parametrize("path", sorted((ROOT / "ui").rglob("*.py")), ids=lambda path: path.name)
def test_a_message_in_an_attribute_is_escaped(path: Path) -> None:
    """A translation may hold a quotation mark where the English has none."""
    assert not re.search(r"""[\w-]=['"]\{_\(""", path.read_text(encoding="utf-8"))


def test_the_canvas_and_the_scripts_have_every_sentence_marked() -> None:
    html = (ROOT / "assets" / "canvas.html").read_text(encoding="utf-8")
    unmarked = re.sub(r"<(\w+)\b[^>]*\bdata-say(?!-)[^>]*>.*?</\1>", "", html, flags=re.DOTALL)
    assert not re.search("[A-Za-z]", TAG.sub("", unmarked))
    assert len(re.findall("aria-label=", html)) == len(re.findall("data-say-label", html))
    for name in ("canvas.js", "transcript.js", "page.js", "words.js"):
        script = (ROOT / "assets" / name).read_text(encoding="utf-8")
        code = re.sub(r"(?m)(^|\s)//.*$|console\.warn.*$", "", script)
        code = re.sub(r'\b_\("[^"]*"|ngettext\("[^"]*", "[^"]*"', "", code)
        for literal in re.findall(r'"[^"\n]*"|`[^`]*`', code):
            spoken = re.sub(r"\$\{[^}]*\}|\b(dnd|is)-[\w-]*", "", literal)
            assert not SENTENCE.search(spoken), literal
            assert not re.search(r"[a-z]{3,} [a-z]{3,}", spoken), literal


def test_no_two_keys_are_the_same() -> None:
    shortcuts = [shortcut for group in SHORTCUTS.values() for shortcut in group]
    keys = [key for shortcut in shortcuts for key in shortcut.keys]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    ("name", "content", "notes", "german"),
    [
        (
            "a.csv",
            "prompt,label\none,x\none,x\n",
            ("Read column `prompt`.", "1 duplicate dropped."),
            ("Gelesen: Spalte `prompt`.", "1 Dublette weggelassen."),
        ),
        (
            "a.jsonl",
            "\n".join(['{"instruction": "a", "input": "b"}', *"[]{", "7", "8", "9"]),
            (
                "Read key `instruction + input`.",
                "Skipped lines 2, 3, 4, 5 and 2 more, which cannot be read.",
            ),
            (
                "Gelesen: Schlüssel `instruction + input`.",
                "Übersprungen, weil nicht lesbar: Zeilen 2, 3, 4, 5 und 2 weitere.",
            ),
        ),
        (
            "a.csv",
            "{number},b\n" + "Write a {poem}.,1\n",
            ("read `{number}`, the longest text column.",),
            ("gelesen wurde `{number}`, die Spalte mit den längsten Texten.",),
        ),
    ],
    ids=["columns and a count", "keys and places", "braces in a name"],
)
def test_notes_on_a_file_are_said_in_the_language_of_the_page(
    tmp_path: Path, name: str, content: str, notes: tuple[str, ...], german: tuple[str, ...]
) -> None:
    path = tmp_path / name
    path.write_text(content)
    file = read_prompt_file(path, choices=Choices(skip_broken=True))
    whole = " ".join(file.notes)
    assert all(note in whole for note in notes), whole
    assert [note_words(note) for note in file.notes] == [*file.notes], "English as it is"
    with speaking("de"):
        said = " ".join(map(note_words, file.notes))
        assert " ".join(map(note_words, pickle.loads(pickle.dumps(file.notes)))) == said
    assert all(note in said for note in german), said
    assert all(type(note_words(note)) is str for note in file.notes), "Gradio's JSON takes no other"
    assert note_words("A plugin's own note.") == "A plugin's own note."


def test_the_faults_of_an_adapter_are_said_in_the_language_of_the_page(tmp_path: Path) -> None:
    path = tmp_path / "{x}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("adapter_model.bin", b"")
    with pytest.raises(AdapterError) as caught:
        read_files(path)
    with speaking("de"):
        told = note_words(str(caught.value))
    missing = "Es fehlt: adapter_config.json, adapter_model.safetensors."
    assert f"`{path}` ist kein PEFT-Adapter: {missing}\n" in told
    assert f"`{path}` hat seine Gewichte in einem Pickle (`adapter_model.bin`), das" in told


def test_what_a_note_was_made_of_is_translated_too() -> None:
    inner = counted("line {places}", "lines {places}", 2, places="1, 2")
    faults = [noted("{name}, {places}: {fault}.", name="{a}.csv", places=inner, fault="x"), "y"]
    error = AssetError(joined(faults, "\n"))
    assert f"{error}" == "{a}.csv, lines 1, 2: x.\ny"
    assert f"{note_words(str(error))}" == f"{error}"
    with speaking("de"):
        assert note_words(str(error)) == "{a}.csv, Zeilen 1, 2: x.\ny"
        elsewhere = pickle.loads(pickle.dumps(error))  # from the worker of a Space
        assert note_words(str(elsewhere)) == note_words(str(error))
        assert note_words(noted("{size:,g} MB", size=1234.5)) == "1.234,5 MB", "in no catalogue"
        assert note_words(str(AssetError("Nobody marked this."))) == "Nobody marked this."


def test_a_note_takes_a_whole_number_where_it_formats_a_float() -> None:
    late = noted("{seconds:g} seconds for {number} rows", seconds=60, number=1200)
    assert late == "60 seconds for 1,200 rows"
    with speaking("de"):
        assert note_words(late) == "60 seconds for 1.200 rows"
