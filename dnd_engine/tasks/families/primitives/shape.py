"""Primitives that join words, count them, or put them into a template."""

from dnd_engine.tasks.families.operation import Primitives, Variant, on_words
from dnd_engine.tasks.families.words import spelled


def _join(name: str, signs: str, sign: str, separator: str, spans: str) -> Variant:
    def function(words: list[str]) -> str | None:
        return separator.join(words) if len(words) > 1 else None

    return on_words(f"join-{name}", function, spans, "join", signs=signs, sign=sign)


def _template(name: str, template: str, spans: str = "whole") -> Variant:
    def function(words: list[str]) -> str:
        return template.replace("X", " ".join(words))

    return on_words(f"template-{name}", function, spans, "template", template=template)


PRIMITIVES: Primitives = {
    ("join", "format"): (
        _join(
            "hyphen", "hyphens", "a hyphen", "-", "whole each-line last-line each-item after-colon"
        ),
        _join(
            "underscore",
            "underscores",
            "an underscore",
            "_",
            "whole each-line each-item first-sentence",
        ),
        _join("slash", "slashes", "a slash", "/", "whole each-line after-colon"),
        _join("comma", "commas", "a comma", ", ", "whole after-colon first-line"),
        _join("plus", "plus signs", "a plus sign", " + ", "whole after-colon"),
        _join("bar", "vertical bars", "a vertical bar", " | ", "whole each-line"),
        _join("and", "the word and", "the word and", " and ", "whole after-colon"),
        _join("newline", "line breaks", "a line break", "\n", "whole"),
    ),
    ("count", "string"): (
        on_words("count-digits", lambda words: str(len(words)), "whole each-line"),
        on_words("count-spelled", lambda words: spelled(len(words)), "whole each-line"),
    ),
    ("template", "format"): (
        _template("see", "I can see X", "whole each-line"),
        _template("where", "where is X now", "whole after-colon"),
        _template("hello", "hello X!", "whole each-line"),
        _template("need", "we need X today"),
        _template("not", "not X but something else", "whole each-item"),
        _template("about", "a story about X"),
        _template("title", "Title: X"),
    ),
}
