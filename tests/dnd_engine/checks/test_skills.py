"""Unrelated questions with known answers show what an adapter harms."""

import pytest

from dnd_engine.checks.results import Skills
from dnd_engine.checks.skills import ANSWER_TOKENS, KnownAnswer, known_answers, right_answers
from dnd_engine.config import Sampling
from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.models.decode import decode
from dnd_engine.models.runtime import Runtime
from tests.dnd_engine.tiny import LAYOUT, random_tokens, user


@pytest.mark.parametrize(
    ("answers", "text", "right"),
    [
        (("12",), "7 + 5 = 12.", True),
        (("12",), "It is 120.", False),
        (("Paris",), "the capital is PARIS", True),
        (("RIVER",), "RIVER", True),
        (("RIVER",), "The river", False),
        (("carbon dioxide", "CO2"), "They take in CO2", True),
        (("ran",), "The past tense is orange", False),
    ],
)
def test_an_answer_is_right_if_it_names_a_whole_word(
    answers: tuple[str, ...], text: str, right: bool
) -> None:
    assert KnownAnswer("?", answers).is_right(text) is right


def test_no_question_holds_its_answer() -> None:
    """An adapter that repeats the question would count as right."""
    items = known_answers()
    assert len({item.question for item in items}) == len(items) == 24
    assert [item.question for item in items if item.is_right(item.question)] == []


def test_the_adapter_answers_and_not_the_base(runtime: Runtime) -> None:
    fitted = runtime.host.fit(random_tokens(seed=1, size=0.3)[None], LAYOUT)
    sampling = Sampling(max_new_tokens=ANSWER_TOKENS, temperature=0)

    def answer_with(active: FittedLoRA | None) -> str:
        *_, (reply,) = decode(runtime, [user("Hello")], lambda: active, sampling)
        return reply.text

    said = [answer_with(None), answer_with(fitted)]
    assert said[0] != said[1]
    items = [KnownAnswer("Hello", (text,)) for text in said]
    assert right_answers(runtime, None, items) == (True, False)
    assert right_answers(runtime, fitted, items) == (False, True)


def test_an_adapter_may_lose_a_quarter_of_what_the_base_knows() -> None:
    assert Skills(20, 18, 2, 24).all_kept
    assert not Skills(20, 17, 3, 24).all_kept
    assert Skills(20, 15, 5, 24).enough
    assert not Skills(20, 14, 6, 24).enough
    assert Skills(0, 0, 0, 24).enough
