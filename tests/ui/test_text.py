"""The words of the page: every language says the same things, and nobody else says anything."""

import ast
import re
import string
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from dnd_engine.prompts.examples import load_examples
from ui.language import preferred
from ui.panels.keys import SHORTCUTS
from ui.text import ENGLISH, LANGUAGES, Text

ROOT = Path(__file__).parents[2]
OTHERS = [text for text in LANGUAGES.values() if text is not ENGLISH]
TAG = re.compile(r"<[^<>]*>|&\w+;")


def words_of(text: Text) -> Mapping[str, Any]:
    """A language's own words, not those it inherits."""
    return {name: value for name, value in vars(type(text)).items() if name.isupper()}


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from leaves(part, f"{path}.{key}")
    else:
        for index, part in enumerate(value):
            yield from leaves(part, f"{path}[{index}]")


def placeholders(sentence: str) -> set[tuple[str, str]]:
    parsed = string.Formatter().parse(sentence)
    return {(name, spec or "") for _, name, spec, _ in parsed if name is not None}


@pytest.mark.parametrize("text", OTHERS, ids=lambda text: text.CODE)
def test_every_language_says_the_same_things_with_the_same_values(text: Text) -> None:
    source, other = dict(leaves(words_of(ENGLISH))), dict(leaves(words_of(text)))
    assert source.keys() == other.keys()
    for path, sentence in source.items():
        assert bool(other[path]) == bool(sentence), path
        assert placeholders(other[path]) == placeholders(sentence), path
        assert TAG.findall(other[path].replace("Entf", "Del")) == TAG.findall(sentence), path


@pytest.mark.parametrize("text", LANGUAGES.values(), ids=lambda text: text.CODE)
def test_words_are_plain(text: Text) -> None:
    for path, sentence in leaves(words_of(text)):
        assert "!" not in sentence, path
        # Words stand in attributes within single quotes, and in a template that JavaScript reads.
        allowed = path.startswith((".CANVAS", ".OUTLOOK", ".REPORT", ".VERDICTS", ".WARN"))
        assert not re.search(r"[<>&]", TAG.sub("", sentence)), path
        assert "$" not in sentence, path
        assert allowed or "'" not in sentence or path in IN_TEXT_ONLY, path


IN_TEXT_ONLY = {".EMPTY_BASE", ".EMPTY_ADAPTED", ".REFINE_LABELS_INFO"}


@pytest.mark.parametrize("text", LANGUAGES.values(), ids=lambda text: text.CODE)
def test_every_example_has_words(text: Text) -> None:
    for example in load_examples():
        assert example.id in text.EXAMPLE_WORDS
        assert example.bucket in text.BUCKETS


def test_numbers_and_counts_are_written_as_the_language_does() -> None:
    german = LANGUAGES["de"]
    assert ENGLISH.count(1, "prompt") == "1 prompt"
    assert ENGLISH.count(1234, "file") == "1,234 files"
    assert german.count(1, "file") == "1 Datei"
    assert german.count(1234, "file") == "1.234 Dateien"
    assert ENGLISH.size(2_442_240) == "2.4 MB"
    assert german.size(2_442_240) == "2,4 MB"
    assert german.fill("{low:+.2f} bis {name}", low=0.5, name="1.5") == "+0,50 bis 1.5"


def test_steps_of_the_engine_are_translated_or_left_out() -> None:
    german = LANGUAGES["de"]
    assert ENGLISH.step("Loss 0.512, 8 s left") == "Loss 0.512, 8 s left"
    assert german.step("Loss 0.512, 8 s left") == "Verlust 0,512, noch 8 s"
    told = "“3.5 times” to 9 of 26 prompts"
    assert german.step(told) == "„3.5 times“ auf 9 von 26 Prompts"
    told += ", 3 different answers"
    assert german.step(told) == "„3.5 times“ auf 9 von 26 Prompts, 3 verschiedene Antworten"
    assert german.step("Reading SQL") == ""


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


# Who draws takes words from the catalogue. What is left in a string of a module is names, slots and
# markup; these are the signs of a sentence or a label of its own.
SENTENCE = re.compile(r"[A-Z][a-z]+ [a-z]|[a-z]{2,} [a-z]{2,}[.:?]")
SPOKEN_ATTRIBUTE = re.compile(r"(?:aria-label|title|alt|placeholder)=['\"][^'\"{]*[A-Za-z]{2}")
LABELS = {"label", "info", "placeholder", "title"}
NAMED_FIRST = {"Accordion", "Button", "DownloadButton", "Tab"}
# One engine serves visitors of every language: what its thread tells and logs is English, and so is
# what programs are told, and the command line.
OF_THE_ENGINE = {"api.py", "engine_handle.py", "engine_thread.py", "serve.py"}


def strings(tree: ast.AST) -> Iterator[str]:
    """Every string of a module but docstrings, with {} for the values of f-strings."""
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            skipped.add(id(node.value))
        elif isinstance(node, ast.JoinedStr):
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
def test_no_module_has_words_of_its_own(path: Path) -> None:
    found = own_words(ast.parse(path.read_text(encoding="utf-8")))
    assert found == [] or path.name in OF_THE_ENGINE


def test_words_of_its_own_would_be_found() -> None:
    for source in (
        'f"<b>Only {number} left</b>"',
        '"Drop files first."',
        "f\"<i title='Two words'></i>\"",
        'gr.Button("Go")',
        'gr.Slider(label="Weight")',
    ):
        assert own_words(ast.parse(f"x = {source}"))


def test_the_canvas_and_the_scripts_have_no_words_of_their_own() -> None:
    html = (ROOT / "assets" / "canvas.html").read_text(encoding="utf-8")
    assert set(re.findall(r"\[\[(\w+)\]\]", html)) <= ENGLISH.CANVAS.keys()
    bare = re.sub(r"\[\[\w+\]\]", "", html)
    assert not re.search("[A-Za-z]", TAG.sub("", bare))
    assert not SPOKEN_ATTRIBUTE.search(bare)
    for name in ("canvas.js", "transcript.js", "page.js"):
        script = (ROOT / "assets" / name).read_text(encoding="utf-8")
        code = re.sub(r"(?m)(^|\s)//.*$|console\.warn.*$", "", script)
        for literal in re.findall(r'"[^"\n]*"|`[^`]*`', code):
            spoken = re.sub(r"\$\{[^}]*\}|\b(dnd|is)-[\w-]*", "", literal)
            assert not SENTENCE.search(spoken), literal
            assert not re.search(r"[a-z]{3,} [a-z]{3,}", spoken), literal


def test_the_canvas_script_and_template_use_every_word_they_are_given() -> None:
    script = (ROOT / "assets" / "canvas.js").read_text(encoding="utf-8")
    html = (ROOT / "assets" / "canvas.html").read_text(encoding="utf-8")
    used = set(re.findall(r"words\.(\w+)", script)) - {"code", "things"}
    used |= set(re.findall(r"\[\[(\w+)\]\]", html))
    assert used == ENGLISH.CANVAS.keys()


def test_every_key_has_words_and_no_two_are_the_same() -> None:
    shortcuts = [shortcut for group in SHORTCUTS.values() for shortcut in group]
    for text in LANGUAGES.values():
        assert text.KEYS_GROUPS.keys() == SHORTCUTS.keys()
        assert text.KEYS_DO.keys() == {shortcut.name for shortcut in shortcuts}
    keys = [key for shortcut in shortcuts for key in shortcut.keys]
    assert len(keys) == len(set(keys))
