"""Primitives that join words, count them, or put them into a template."""

from dnd_engine.tasks.families.operation import OnWords, Primitives
from dnd_engine.tasks.families.words import spelled


def _join(name: str, signs: str, sign: str, separator: str, spans: tuple[str, ...]) -> OnWords:
    def function(words: list[str]) -> str | None:
        return separator.join(words) if len(words) > 1 else None

    return OnWords(
        name=f"join-{name}",
        function=function,
        phrases=(
            f"join the words{{inside}} with {signs}",
            f"put {sign} between the words{{inside}}",
            f"connect the words{{inside}} by {signs}",
            f"separate the words{{inside}} with {signs}",
            f"link the words{{inside}} with {signs}",
        ),
        spans=spans,
    )


def _template(name: str, template: str, spans: tuple[str, ...] = ("",)) -> OnWords:
    return OnWords(
        name=f"template-{name}",
        function=lambda words: template.replace("X", " ".join(words)),
        phrases=(
            f'put the words{{inside}} in place of X in "{template}"',
            f'write "{template}" with the words{{inside}} instead of X',
            f'fill the words{{inside}} into "{template}" at the X',
            f'take "{template}" and replace X with the words{{inside}}',
            f'use "{template}" where X stands for the words{{inside}}',
        ),
        spans=spans,
    )


PRIMITIVES: Primitives = {
    ("join", "format"): (
        _join(
            "hyphen",
            "hyphens",
            "a hyphen",
            "-",
            ("", "each-line", "last-line", "each-item", "after-colon"),
        ),
        _join(
            "underscore",
            "underscores",
            "an underscore",
            "_",
            ("", "each-line", "each-item", "first-sentence"),
        ),
        _join("slash", "slashes", "a slash", "/", ("", "each-line", "after-colon")),
        _join("comma", "commas", "a comma", ", ", ("", "after-colon", "first-line")),
        _join("plus", "plus signs", "a plus sign", " + ", ("", "after-colon")),
        _join("bar", "vertical bars", "a vertical bar", " | ", ("", "each-line")),
        _join("and", "the word and", "the word and", " and ", ("", "after-colon")),
        _join("newline", "line breaks", "a line break", "\n", ("",)),
    ),
    ("count", "string"): (
        OnWords("count-digits", lambda words: str(len(words)), spans=("", "each-line")),
        OnWords("count-spelled", lambda words: spelled(len(words)), spans=("", "each-line")),
    ),
    ("template", "format"): (
        _template("see", "I can see X", ("", "each-line")),
        _template("where", "where is X now", ("", "after-colon")),
        _template("hello", "hello X!", ("", "each-line")),
        _template("need", "we need X today"),
        _template("not", "not X but something else", ("", "each-item")),
        _template("about", "a story about X"),
        _template("title", "Title: X", ("",)),
    ),
}
