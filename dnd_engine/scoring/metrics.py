r"""Scores of a generated text against its reference; knows texts and tasks, no models.

How *normalised exact match* compares an answer, without rewarding a copy of the input:

- Blanks are one space, and case counts: a dozen tasks are about case.
- A reference with `####` is compared by the number behind it, one with `\boxed{…}` by its content.
- Numbers are equal if their values are; a final punctuation mark that the reference lacks is
  forgiven.
- A list (parts split by line breaks, semicolons, or commas between short parts) is equal in any
  order, unless it is the input's own words in another order: then the order is the task.
- Tasks made by an operation are exact by construction, so their answers are compared as they are,
  apart from white space: an operation may be about punctuation, leading zeros or order.
"""

import re
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from dnd_engine.tasks.folder import Example, Task
from dnd_engine.tasks.formats import ANSWER_FORMATS, AnswerFormat

_LIST_PART_WORDS = 3
"""Maximum words of a list part between commas; a sentence's clauses are longer."""

_CLOSING = ".,;:!?"

_MORE_OF_A_NUMBER = re.compile(r"[.,/:\u2013-]\d")
"""What follows the first digits of 4.5, 1,000, 4/5, 4:30 or 4-5."""


@dataclass(frozen=True, slots=True)
class Grade:
    """Grade of one generated text; see `ItemScore` for the fields."""

    score: float
    exact: bool
    format_ok: bool | None
    content_ok: bool | None


@dataclass(frozen=True, slots=True)
class Grader:
    """Grades texts by a metric; if a format is required, also by format and content.

    With a format, the score is the payload's if the format is right, else 0.
    """

    metric: str
    literal: bool = False
    """Compare answers as they are, apart from white space."""
    format: AnswerFormat | None = None

    @classmethod
    def of(cls, task: Task) -> "Grader":
        """Return the grader of a task."""
        info = task.info
        format = ANSWER_FORMATS[info.answer_format] if info.answer_format else None
        return cls(info.metric, bool(info.operation), format)

    def payload(self, text: str) -> str | None:
        """Return the answer inside its format; None if the format is wrong."""
        return text if self.format is None else self.format.unwrap(text.strip())

    def grade(self, example: Example, text: str) -> Grade:
        """Grade a generated text; the example's reference is in the required format."""
        exact = exact_match(text, example.response, example.bare, literal=self.literal)
        found, wanted = self.payload(text), self.payload(example.response)
        assert wanted is not None, f"{example.response!r} does not stand in its own format"
        if found is None:
            return Grade(0.0, exact, False, None)
        right = exact_match(found, wanted, example.bare, literal=self.literal)
        if self.metric == "choice":
            # Options are in the task's format, like its answers.
            options = [self.payload(option) or option for option in example.options]
            right = chosen_option(found, options) == wanted
            score = float(right)
        elif self.metric == "exact":
            score = float(right)
        else:
            score = (rouge if self.metric == "rouge" else bleu)(found, wanted)
        if self.format is None:
            return Grade(score, exact, None, None)
        return Grade(score, exact, True, right)


def exact_match(text: str, reference: str, bare: str | None = None, *, literal: bool) -> bool:
    """Return whether a text equals the reference, by the rules in the module docstring.

    The bare input tells lists from orderings of the input. `literal` normalises only blanks.
    """
    found, wanted = _plain(text), _plain(reference)
    if found == wanted:
        return True
    if literal:
        return False
    if "####" in reference:
        return "####" in text and _same(_last(text), _last(reference))
    boxed = _boxed(reference)
    if boxed is not None:
        return _boxed(text) == boxed
    return _same(found, wanted) or _same_list(text, reference, bare)


def chosen_option(text: str, options: list[str]) -> str | None:
    """Return the longest option that a text equals or begins with, at a word boundary, if any.

    Case matters only if options differ in nothing else. The number 4.5 does not begin with 4.
    """
    fold = str.casefold if len({o.casefold() for o in options}) == len(set(options)) else str
    found = fold(_plain(text))
    for option in sorted(options, key=len, reverse=True):
        wanted = fold(_plain(option))
        if not wanted or not found.startswith(wanted):
            continue
        rest = found.removeprefix(wanted)
        if wanted[-1].isdigit() and _MORE_OF_A_NUMBER.match(rest):
            continue
        if not rest or not rest[0].isalnum():
            return option
    return None


def rouge(text: str, reference: str) -> float:
    """Return the ROUGE-L F measure."""
    # Imported on first use, because it imports nltk, and that scikit-learn and pandas.
    from rouge_score.rouge_scorer import RougeScorer

    return float(RougeScorer(["rougeL"]).score(reference, text)["rougeL"].fmeasure)


def bleu(text: str, reference: str) -> float:
    """Return the sentence BLEU, 0 to 1, with the n-gram orders that a short text has."""
    import sacrebleu  # on first use, too: most engines score no long answers

    # Equal texts may score slightly above 100, by rounding.
    return min(1.0, float(sacrebleu.sentence_bleu(text, [reference]).score) / 100)


def _plain(text: str) -> str:
    return " ".join(text.split())


def _last(text: str) -> str:
    """Return the first word after the last `####`."""
    return _plain(text.rpartition("####")[2]).partition(" ")[0]


def _boxed(text: str) -> str | None:
    r"""Return the content of the last `\boxed{…}`, with balanced braces, without blanks."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth = 0
    for at in range(start + len("\\boxed"), len(text)):
        # The first character is the opening brace itself, so depth 0 means that it is closed.
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return "".join(text[start + len("\\boxed{") : at].split())
    return None


def _same(found: str, wanted: str) -> bool:
    # An empty reference forgives nothing: its end is the empty string, which every string contains.
    if found == wanted or (wanted[-1:] not in _CLOSING and found.rstrip(_CLOSING) == wanted):
        return True
    numbers = _number(found), _number(wanted)
    return numbers[0] is not None and numbers[0] == numbers[1]


def _number(text: str) -> Decimal | None:
    try:
        # Decimal, because two different long numbers may be equal as floats.
        value = Decimal(
            re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text.rstrip(_CLOSING)).removeprefix("$")
        )
    except InvalidOperation:
        return None
    # Decimal also reads `NaN` and `Infinity`, which are words here.
    return value if value.is_finite() else None


def _same_list(text: str, reference: str, bare: str | None) -> bool:
    wanted, found = _parts(reference), _parts(text)
    if len(wanted) < 2 or Counter(found) != Counter(wanted):
        return False
    return bare is None or Counter(_words(bare)) != Counter(_words(reference))


def _parts(text: str) -> list[str]:
    """Split a list into its parts; return one part if the text is not a list."""
    text = text.strip()
    # Commas last: the lines of a list may have commas of their own.
    for separator in ("\n", ";"):
        if separator in text:
            return [_plain(part) for part in text.split(separator) if part.strip()]
    parts = [_plain(part) for part in text.split(",")]
    return parts if all(len(p.split()) <= _LIST_PART_WORDS for p in parts) else [_plain(text)]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text)
