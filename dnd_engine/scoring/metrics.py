r"""Scores of a generated text against its reference; knows texts and tasks, no models.

How *normalised exact match* compares an answer, without rewarding a copy of the input:

- Blanks are one space, and case counts: a dozen tasks are about case. A letter with an accent is
  one character.
- A reference that ends in `#### 4` is compared by that word, one with `\boxed{…}` by its content.
- Plain numbers are equal if their values are. Those with a plus sign or leading zeros are texts.
  A dollar sign or a final punctuation mark that the reference lacks is forgiven.
- A list (parts split by line breaks, semicolons, or commas between short parts) is equal in any
  order, unless its task gives it one, the reference is the input's own words in another order, or
  the answer is a copy from the prompt.
- Tasks made by an operation are exact by construction, so their answers are compared as they are,
  apart from white space: an operation may be about punctuation, leading zeros or order.
"""

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal

from dnd_engine.prompts.split import split_prompt
from dnd_engine.tasks.folder import Example, Task
from dnd_engine.tasks.formats import ANSWER_FORMATS, AnswerFormat

_LIST_PART_WORDS = 3
"""Maximum words of a list part between commas; a sentence's clauses are longer."""

_CLOSING = ".,;:!?"

_NUMBER = re.compile(r"(-?)\$?((?:0|[1-9]\d*|[1-9]\d{0,2}(?:,\d{3})+)?(?:\.\d+)?)", re.ASCII)

_FINAL = re.compile(r"####\s*(\S+)\s*$")

_MORE_OF_A_NUMBER = re.compile(r"[.,/:\u2013-]\d|\s+(?:\d|million\b|billion\b)")
"""What follows the first digits of 4.5, 1,000, 4/5, 4:30, 4-5, 4 1/2 or 4 million."""

_MORE_OF_A_WORD = re.compile(r"[-']\w|[+#]")
"""What follows the first letters of spam-free, can't or C++."""

_OR = re.compile(r"\s+or\s+|\s*/\s*")


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
    in_order: bool = False
    """Take a list in another order for another answer."""
    format: AnswerFormat | None = None

    @classmethod
    def of(cls, task: Task) -> "Grader":
        """Return the grader of a task."""
        info = task.info
        format = ANSWER_FORMATS[info.answer_format] if info.answer_format else None
        return cls(info.metric, bool(info.operation), info.order == "fixed", format)

    def payload(self, text: str) -> str | None:
        """Return the answer inside its format; None if the format is wrong."""
        return text if self.format is None else self.format.unwrap(text.strip())

    def grade(self, example: Example, text: str) -> Grade:
        """Grade a generated text; the example's reference is in the required format."""
        exact = self._exact(text, example.response, example)
        found, wanted = self.payload(text), self.payload(example.response)
        assert wanted is not None, f"{example.response!r} does not stand in its own format"
        if found is None:
            return Grade(0.0, exact, False, None)
        right = self._exact(found, wanted, example)
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

    def _exact(self, text: str, reference: str, example: Example) -> bool:
        return exact_match(
            text, reference, example.prompt, literal=self.literal, in_order=self.in_order
        )


def exact_match(
    text: str, reference: str, prompt: str = "", *, literal: bool, in_order: bool = False
) -> bool:
    """Return whether a text equals the reference, by the rules in the module docstring.

    Args:
        text: The answer.
        reference: The right one.
        prompt: The whole prompt, which tells lists from orderings of the input.
        literal: Normalise only blanks and accents.
        in_order: Refuse a list in another order.
    """
    found, wanted = _plain(text), _plain(reference)
    if found == wanted:
        return True
    if literal:
        return False
    if final := _FINAL.search(reference):
        return "####" in text and _same(_last(text), _plain(final[1]))
    boxed = _boxed(reference)
    if boxed is not None:
        answer = _boxed(text)
        return answer is not None and _same(answer, boxed)
    return _same(found, wanted) or (not in_order and _same_list(text, reference, prompt))


def chosen_option(text: str, options: list[str]) -> str | None:
    """Return the longest option that a text equals or begins with, at a word boundary, if any.

    Case matters only if options differ in nothing else. The number 4.5 does not begin with 4, nor
    "can't" with "can", and "yes or no" is neither.
    """
    fold = str.casefold if len({o.casefold() for o in options}) == len(set(options)) else str
    found = fold(_straight(text))
    folded = {option: fold(_straight(option)) for option in options}
    for option in sorted(options, key=len, reverse=True):
        wanted = folded[option]
        if not wanted or not found.startswith(wanted):
            continue
        rest = found.removeprefix(wanted)
        if wanted[-1].isdigit() and _MORE_OF_A_NUMBER.match(rest):
            continue
        if wanted[-1].isalpha() and _MORE_OF_A_WORD.match(rest):
            continue
        if joint := _OR.match(rest):
            others = tuple(other for other in folded.values() if other and other != wanted)
            if rest.startswith(others, joint.end()):
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
    return unicodedata.normalize("NFC", " ".join(text.split()))


def _straight(text: str) -> str:
    return _plain(text).replace("\u2019", "'")


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
    return (
        numbers[0] is not None and numbers[0] == numbers[1] and ("$" in found or "$" not in wanted)
    )


def _number(text: str) -> Decimal | None:
    if not (match := _NUMBER.fullmatch(text.rstrip(_CLOSING))) or not match[2]:
        return None
    # Decimal, because two different long numbers may be equal as floats.
    return Decimal(match[1] + match[2].replace(",", ""))


def _same_list(text: str, reference: str, prompt: str) -> bool:
    wanted, found = _parts(reference), _parts(text)
    if len(wanted) < 2 or Counter(found) != Counter(wanted):
        return False
    given = _words(split_prompt(prompt).bare)
    if Counter(given) == Counter(_words(reference)):
        return False
    copied = _words(text)
    ends = range(len(copied), len(given) + 1)
    return not any(given[end - len(copied) : end] == copied for end in ends)


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
