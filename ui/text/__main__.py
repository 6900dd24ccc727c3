"""Brings the catalogues up to date with the code, and lists what they lack.

    python -m ui.text            after a message was added, changed or removed
    python -m ui.text --check    changes nothing; fails if a catalogue is not up to date or complete
    python -m ui.text --add fr   begins a language

It works on a checkout: an installed package has no scripts beside its modules.
"""

import argparse
import io
import re
import string
import sys
from collections.abc import Iterator
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import write_po

from ui.text.catalogue import ENGLISH, LOCALES, languages, read_catalogue
from ui.text.extract import KEYWORDS

ROOT = Path(__file__).parents[2]
_METHODS = [
    ("dnd_engine/**.py", "ui.text.extract:python"),
    ("ui/**.py", "ui.text.extract:python"),
    ("assets/*.js", "javascript"),
    ("assets/*.html", "ui.text.extract:template"),
]
_TAG = re.compile(r"<[^<>]*>|&\w+;")


def messages() -> Catalog:
    """Return all messages in the code."""
    template = Catalog()
    for folder in ("assets", "dnd_engine", "ui"):
        for path, line, message, comments, context in extract_from_dir(
            ROOT / folder,
            # Babel matches patterns against paths inside of the folder.
            [(p.removeprefix(f"{folder}/"), m) for p, m in _METHODS if p.startswith(folder)],
            # Babel's JavaScript extractor reads template literals only with this option.
            options_map={"*.js": {"parse_template_string": "true"}},
            keywords=dict(KEYWORDS),
            comment_tags=["Translators:"],
            strip_comment_tags=True,
        ):
            place = (f"{folder}/{path}", line)
            template.add(message, None, [place], auto_comments=comments, context=context)
    return template


def begun(code: str) -> Catalog:
    """Return an empty catalogue for a new language."""
    return Catalog(
        code,
        header_comment="# Part of Drag-and-Drop LLMs, and under its licence.",
        project="Drag-and-Drop LLMs",
        version="1",
        msgid_bugs_address="see the repository",
        last_translator="see the repository",
        language_team="see the repository",
        fuzzy=False,
    )


def updated(code: str, template: Catalog) -> Catalog:
    """Return a language's catalogue with the messages of the code, and no others.

    A slightly changed message keeps its translation, marked as fuzzy. Fuzzy translations are not
    used until somebody reviews them and removes the mark.
    """
    catalogue = read_catalogue(code)
    catalogue.update(template, update_creation_date=False)
    return catalogue


def written(catalogue: Catalog) -> str:
    """Return a catalogue in its file format."""
    file = io.BytesIO()
    # Without line numbers, so that a catalogue changes only when its messages do.
    write_po(
        file, catalogue, width=100, sort_output=True, ignore_obsolete=True, include_lineno=False
    )
    return file.getvalue().decode("utf-8")


def faults(catalogue: Catalog) -> Iterator[str]:
    """Yield what is missing or wrong in an updated catalogue, one line each."""
    for message in catalogue:
        if not message.id:  # the header
            continue
        source, words = _forms(message.id), _forms(message.string)
        if not all(words):
            yield f"missing: {source[0]}"
        elif message.fuzzy:
            yield f"fuzzy: {source[0]}"
        else:
            yield from (f"{fault}: {source[0]}" for fault in _unlike(message))
    for message in catalogue.obsolete.values():
        yield f"obsolete: {_forms(message.id)[0]}"


def _unlike(message: Message) -> Iterator[str]:
    # A plural form may omit the number, so compare each with all placeholders of the source.
    source, words = _forms(message.id), _forms(message.string)
    holes = set[tuple[str, str]]().union(*map(_holes, source))
    if len(source) == 1 and _holes(words[0]) != holes:
        yield "other placeholders"
    if any(not _holes(form) <= holes for form in words):
        yield "unknown placeholders"
    tags = [sorted(_TAG.findall(form)) for form in (*source, *words)]
    if any(found != tags[0] for found in tags):
        yield "other markup"


def _forms(words: str | tuple[str, ...] | list[str] | None) -> tuple[str, ...]:
    return (words or "",) if words is None or isinstance(words, str) else tuple(words)


def _holes(words: str) -> set[tuple[str, str]]:
    parsed = string.Formatter().parse(words)
    return {(name, spec or "") for _text, name, spec, _conversion in parsed if name is not None}


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m ui.text", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing")
    parser.add_argument("--add", metavar="CODE", help="begin a language")
    options = parser.parse_args()
    template = messages()
    codes = {code for code in languages() if code != ENGLISH}
    if options.add:
        _save(options.add, written(begun(options.add)))
        codes.add(options.add)
    found = []
    for code in sorted(codes):
        catalogue = updated(code, template)
        found += [f"{code}: {fault}" for fault in faults(catalogue)]
        if not options.check:
            _save(code, written(catalogue))
        # Both are written again, so that only messages count and not how a file is laid out.
        elif written(catalogue) != written(read_catalogue(code)):
            found.append(f"{code}: not up to date; run python -m ui.text")
    print("\n".join(found) or "All catalogues are complete.")  # noqa: T201 - what it is for
    return int(bool(found))


def _save(code: str, words: str) -> None:
    path = LOCALES / code / "LC_MESSAGES" / "messages.po"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(words, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
