"""What a generated text is worth: exactly what it says, and no credit for copying the input."""

import pytest

from dnd_engine.scoring.metrics import (
    Grade,
    Grader,
    bleu,
    chosen_option,
    exact_match,
    rouge,
)
from dnd_engine.tasks.folder import Example, Task
from dnd_engine.tasks.formats import ANSWER_FORMATS, formatted
from tests.task_info import task_info


def task(example: Example, metric: str = "exact", **fields: str) -> Task:
    return Task(task_info(metric=metric, **fields), (example,), (example,))


@pytest.mark.parametrize(
    ("text", "reference", "prompt"),
    [
        ("Paris", "Paris", ""),
        ("cafe\u0301", "café", ""),
        (" New \n York ", "New York", ""),
        ("Paris.", "Paris", ""),
        ("Is it?", "Is it?", ""),
        ("1600", "1,600", ""),
        ("48.0", "48", ""),
        ("$48.", "48", ""),
        ("3.1", "3.10", ""),
        (".5", "0.5", ""),
        ("Two and two.\n#### 4", "Add them.\n#### 4", ""),
        ("#### 1,000.", "So\n#### 1000", ""),
        (r"so $\boxed{\frac{1}{2}}$.", r"We get \boxed{ \frac{1}{2} }", ""),
        ("people; human", "human; people", "Some people, each a human"),
        ("b, a", "a, b", "a, x, b"),
        (r"\boxed{1,000}", r"\boxed{1000}", ""),
        ("state: Ohio\nsort: best", "sort: best\nstate: Ohio", "The best in Ohio"),
    ],
)
def test_what_counts_as_the_reference(text: str, reference: str, prompt: str) -> None:
    assert exact_match(text, reference, prompt, literal=False)


@pytest.mark.parametrize(
    ("text", "reference", "prompt"),
    [
        ("paris", "PARIS", ""),
        ("Is it", "Is it?", ""),
        ("Paris, France", "Paris", ""),
        ("1,2345", "12345", ""),
        ("", "Paris", ""),
        ("4", "Add.\n#### 4", ""),
        ("#### 5", "Add.\n#### 4", ""),
        ("So 4 #### and 5", "#### 4", ""),
        (r"\boxed{3}", r"\boxed{4}", ""),
        (r"\boxed{4", r"\boxed{4}", ""),
        ("4", r"\boxed{4}", ""),
        ("48, 36, 7", "7, 36, 48", "48, 36, 7"),
        ("c b a", "a b c", "c b a"),
        ("a, b, a", "a, b", "a, b, a"),
        ("a, b", "a, b, c", "a b c d"),
        (
            "then he left the room, he did not die in Chicago",
            "he did not die in Chicago, then he left the room",
            "x",
        ),
        ("NaN", "nan", ""),
        ("476", "+476", ""),
        ("1234", "01234", ""),
        ("1_000", "1000", ""),
        ("5", "$5", ""),
        ("#### Weather: rainy", "#### Weather: sunny", ""),
        ("pear, apple, fig", "apple, fig, pear", "Sort these: pear, apple, fig"),
    ],
)
def test_what_does_not(text: str, reference: str, prompt: str) -> None:
    assert not exact_match(text, reference, prompt, literal=False)


@pytest.mark.parametrize(
    ("text", "reference"), [("word.", "word"), ("7", "7.0"), ("1,600", "1600"), ("b, a", "a, b")]
)
def test_answers_of_operations_are_taken_literally(text: str, reference: str) -> None:
    """An operation may be about a full stop, leading zeros, commas or order."""
    assert exact_match(text, reference, literal=False)
    assert not exact_match(text, reference, literal=True)
    assert exact_match(f" {reference}\n", reference, literal=True)
    example = Example("Do it.\n\nx", reference)
    assert Grader.of(task(example)).grade(example, text).score == 1
    assert Grader.of(task(example, operation="op-x")).grade(example, text).score == 0


def test_a_task_may_give_the_order_of_its_lists() -> None:
    example = Example("From A to Z:\n\nOut fell garlic, dates and walnuts!", "dates, garlic")
    assert Grader.of(task(example)).grade(example, "garlic, dates").score == 0, "it is a copy"
    example = Example("From A to Z:\n\nOut fell walnuts and dates!", "dates, walnuts")
    assert Grader.of(task(example)).grade(example, "walnuts, dates").score == 1
    in_order = Grader.of(task(example, order="fixed"))
    assert in_order.grade(example, "walnuts, dates").score == 0
    assert in_order.grade(example, "dates, walnuts.").score == 1


def test_a_choice_is_the_option_that_the_text_begins_with() -> None:
    options = ["yes", "no", "not known", "No."]
    assert chosen_option(" Yes, because it is.", ["yes", "no"]) == "yes"
    assert chosen_option("not known at all", options) == "not known"
    assert chosen_option("nobody", ["yes", "no"]) is None
    assert chosen_option("I say yes", ["yes", "no"]) is None
    assert chosen_option("", ["yes", "no"]) is None


@pytest.mark.parametrize(
    "text",
    ["4.5", "4.5 stars", "4,000", "4/5", "4:30", "4-5", "4\u20135", "45", "4 1/2", "4 million"],
)
def test_a_longer_number_is_not_the_option_that_it_begins_with(text: str) -> None:
    options = ["1", "4", "5"]
    assert chosen_option(text, options) is None
    assert chosen_option("4. Good", options) == "4"
    assert chosen_option("4, I think", options) == "4"
    assert chosen_option("4-star", options) == "4"
    assert chosen_option("4.5 stars", [*options, "4.5"]) == "4.5"


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("can't", ["can", "cannot"]),
        ("can\u2019t", ["can", "cannot"]),
        ("spam-free", ["spam", "ham"]),
        ("C++", ["C", "Java"]),
        ("cafe\u0301", ["cafe", "bar"]),
        ("yes or no", ["yes", "no"]),
        ("positive/negative", ["positive", "negative"]),
    ],
)
def test_a_longer_word_or_two_options_are_no_option(text: str, options: list[str]) -> None:
    assert chosen_option(text, options) is None


def test_punctuation_and_curly_quotes_do_not_hide_an_option() -> None:
    assert chosen_option("can\u2019t", ["can", "can't"]) == "can't"
    assert chosen_option("yes - or nearly", ["yes", "no"]) == "yes"
    assert chosen_option("yes or so", ["yes", "no"]) == "yes"
    assert chosen_option("yes/", ["yes", "no"]) == "yes"


def test_case_decides_between_options_that_differ_by_nothing_else() -> None:
    assert chosen_option("polish", ["Polish", "polish"]) == "polish"
    assert chosen_option("POLISH", ["Polish", "polish"]) is None


def test_a_choice_task_is_scored_by_its_option() -> None:
    example = Example("Good?\n\nfine film", "positive", ("positive", "negative"))
    grader = Grader.of(task(example, "choice"))
    assert grader.grade(example, "Positive, I think") == Grade(1.0, False, None, None)
    assert grader.grade(example, "positive") == Grade(1.0, True, None, None)
    assert grader.grade(example, "negative") == Grade(0.0, False, None, None)


def test_rouge_is_the_f_measure_of_the_longest_common_subsequence() -> None:
    """By hand: of 3 and 4 words, 2 in common order: precision 2/3, recall 2/4."""
    assert rouge("the cat ran", "the black cat sat") == pytest.approx(2 * (2 / 3) * 0.5 / (7 / 6))
    assert rouge("The cat.", "the cat") == 1
    assert rouge("", "the cat") == 0
    example = Example("p", "the black cat sat")
    assert Grader.of(task(example, "rouge")).grade(example, "the cat ran").score == pytest.approx(
        4 / 7
    )


def test_bleu_is_of_one_sentence_and_at_most_one() -> None:
    assert bleu("a man rides a horse", "a man rides a horse") == pytest.approx(1)
    assert 0 < bleu("a man rides", "a man rides a horse") < 1
    assert bleu("", "a man") == 0
    assert bleu("ja", "ja") == pytest.approx(1)
    example = Example("p", "a man rides a horse")
    assert Grader.of(task(example, "bleu")).grade(example, "a man rides a horse").score > 0.99


@pytest.mark.parametrize("name", list(ANSWER_FORMATS))
@pytest.mark.parametrize("metric", ["exact", "choice"])
def test_format_and_content_are_told_apart(name: str, metric: str) -> None:
    plain = Example("Which?\n\nx", "owl", ("owl", "cod"))
    asked = formatted(task(plain, metric), name, seed=0)
    grader, example, wrap = Grader.of(asked), asked.test[0], ANSWER_FORMATS[name].wrap
    assert grader.grade(example, wrap("owl")) == Grade(1.0, True, True, True)
    assert grader.grade(example, f"\n{wrap('owl')} ") == Grade(1.0, True, True, True)
    assert grader.grade(example, wrap("cod")) == Grade(0.0, False, True, False)
    assert grader.grade(example, "owl") == Grade(0.0, False, False, None)
    assert grader.grade(example, f"It is {wrap('owl')}, see?") == Grade(0.0, False, False, None)
