"""A teacher that is unsure sees its own surest answers; one that is sure sees none."""

from collections.abc import Sequence

import pytest

from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.models.base import BaseModel
from dnd_engine.models.runtime import Runtime
from dnd_engine.scoring import own_shots
from dnd_engine.scoring.own_shots import FirstAnswers, answers_again, first_answers
from dnd_engine.scoring.questions import Answer, Question, text_of
from tests.dnd_engine.tiny import LAYOUT, MANY_ENDS, random_tokens

PROMPTS = [f"Say {word}.\n\n{word}" for word in ("one", "two", "three", "four", "five", "six")]


@pytest.fixture
def runtime(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """Its answers are short, because only those that end are shown."""
    monkeypatch.setattr("dnd_engine.scoring.answers.end_tokens", lambda _: MANY_ENDS)
    return Runtime.of(base, LAYOUT)


@pytest.fixture
def teacher(runtime: Runtime) -> FittedLoRA:
    return runtime.host.fit(random_tokens(seed=3, size=0.1)[None], LAYOUT)


def ask(
    runtime: Runtime,
    teacher: FittedLoRA,
    prompts: Sequence[str] = PROMPTS,
    *,
    num_shots: int = 2,
    shots_below: float = 0.6,
    seed: int = 0,
) -> FirstAnswers:
    return first_answers(
        runtime,
        teacher,
        prompts,
        num_shots=num_shots,
        shots_below=shots_below,
        max_new_tokens=6,
        seed=seed,
    )


def answered(
    monkeypatch: pytest.MonkeyPatch, given: Sequence[tuple[tuple[int, ...], float]]
) -> None:
    """Make these the answers to the prompts that are asked, with their log-probabilities."""

    def answers(_runtime: Runtime, asked: Sequence[Question], *_: object, **__: object) -> object:
        return [Answer(0.0, (), ids, log_prob=found) for ids, found in given[: len(asked)]]

    monkeypatch.setattr(own_shots, "answer_batch", answers)


def test_the_surest_answers_are_shown_and_stay(runtime: Runtime, teacher: FittedLoRA) -> None:
    """An untrained model is sure of nothing."""
    unsure = ask(runtime, teacher)
    sure = ask(runtime, teacher, shots_below=0.0)
    assert (sure.shots, [*sure.final]) == ((), [*range(6)]), "nothing is asked again"
    ended = [n for n, answer in sure.final.items() if 0 < len(answer.ids) < 6]
    surest = sorted(ended, key=lambda n: -sure.final[n].sureness)[:2]
    assert [PROMPTS.index(shot.prompt) for shot in unsure.shots] == surest
    assert set(unsure.final) == set(surest)
    for shot, n in zip(unsure.shots, surest, strict=True):
        assert shot.response == text_of(runtime.base.tokenizer, sure.final[n])
        assert unsure.final[n] == sure.final[n]
    again = answers_again(runtime, teacher, [shot.prompt for shot in unsure.shots], 6)
    assert again == unsure.shots
    assert answers_again(runtime, teacher, [], 6) == ()


def test_different_answers_are_shown_first(
    runtime: Runtime, teacher: FittedLoRA, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The likeliest four would be one answer, which teaches a teacher to say nothing else."""
    yes, no = (20, 21), (22,)
    empty, cut_off = (), (20,) * 6
    given = [(yes, -0.9), (cut_off, -0.1), (no, -3.0), (empty, 0.0), (yes, -0.7), (no, -2.0)]
    answered(monkeypatch, given)
    found = ask(runtime, teacher, num_shots=3)
    assert [PROMPTS.index(shot.prompt) for shot in found.shots] == [4, 5, 0]
    # At most half of the prompts, so that there are others to answer.
    assert len(ask(runtime, teacher, PROMPTS[:5], num_shots=4).shots) == 2
    assert ask(runtime, teacher, PROMPTS[:1]).shots == ()
    assert [*ask(runtime, teacher, PROMPTS[:1]).final] == [0]


def test_empty_answers_show_nothing(
    runtime: Runtime, teacher: FittedLoRA, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered(monkeypatch, [((), -5.0)] * 6)
    found = ask(runtime, teacher)
    assert (found.shots, len(found.final)) == ((), 6)


def test_of_many_prompts_sixteen_are_asked_first(runtime: Runtime, teacher: FittedLoRA) -> None:
    many = [f"Say {n}.\n\n{n}" for n in range(40)]
    found = ask(runtime, teacher, many, shots_below=0.0)
    assert len(found.final) == 16
    assert set(found.final) != set(range(16))
    assert found.final == ask(runtime, teacher, many, shots_below=0.0).final
    assert set(found.final) != set(ask(runtime, teacher, many, shots_below=0.0, seed=1).final)


def test_without_shots_nothing_is_asked(runtime: Runtime, teacher: FittedLoRA) -> None:
    assert ask(runtime, teacher, num_shots=0) == FirstAnswers((), {})


def test_long_prompts_are_not_shown(runtime: Runtime, teacher: FittedLoRA) -> None:
    """A base that reads 512 tokens keeps three quarters of them for the prompt and its answer."""
    room = int(runtime.base.config["max_position_embeddings"])
    long = [f"{'x ' * room}\n\n{n}" for n in range(4)]
    found = ask(runtime, teacher, [prompt[: room // 2] + "\n\n1" for prompt in long])
    assert found.shots == ()
    assert found.final
