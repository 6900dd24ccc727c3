"""A forecast is how probable a teacher finds its own answers."""

import math
from statistics import fmean

import pytest
import torch

from dnd_engine.checks.forecast import forecast
from dnd_engine.checks.verdict import sure_of
from dnd_engine.config import SURENESS_BANDS
from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.models.runtime import Runtime
from tests.dnd_engine.tiny import LAYOUT, random_tokens, stock_answer
from tests.present import present

PROMPTS = [f"Say {word}.\n\n{word}" for word in ("one", "two", "three")]


def own_probability(runtime: Runtime, teacher: FittedLoRA, prompt: str) -> float:
    """By transformers' own generation and logits."""
    text = runtime.base.tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False
    )
    ids = runtime.base.tokenizer(text, add_special_tokens=False)["input_ids"]
    with runtime.host.applying(teacher):
        told = stock_answer(runtime.base.model, ids, max_new_tokens=24)
        if len(told) < 24:
            told = [*told, runtime.base.turn_end]
        with torch.inference_mode():
            logits = runtime.base.model(torch.tensor([[*ids, *told]])).logits[0].float()
    steps = logits[len(ids) - 1 : -1].log_softmax(dim=-1)
    return math.exp(float(steps.gather(1, torch.tensor(told)[:, None]).sum()))


@pytest.mark.parametrize("size", [0.1, 3.0])
def test_it_is_the_mean_probability_of_whole_answers(runtime: Runtime, size: float) -> None:
    teacher = runtime.host.fit(random_tokens(seed=3, size=size)[None], LAYOUT)
    expected = fmean(own_probability(runtime, teacher, prompt) for prompt in PROMPTS)
    found = present(forecast(runtime, teacher, [*PROMPTS, "no instruction"]))
    assert found.num_prompts == 3
    assert found.sureness == pytest.approx(expected, rel=0.05, abs=0)


def test_nothing_is_foretold_without_an_instruction_and_an_input(runtime: Runtime) -> None:
    assert forecast(runtime, None, ["just a line", "another one"]) is None


def test_every_sureness_has_its_word() -> None:
    edges = [low for low, _high in SURENESS_BANDS]
    assert [sure_of(edge) for edge in (*edges, 1.0)] == ["unsure", "partly", "sure", "sure"]
    assert [sure_of(edge - 1e-9) for edge in edges[1:]] == ["unsure", "partly"]


def test_one_answer_to_all_is_noticed_where_they_are_not_few(runtime: Runtime) -> None:
    found = [present(forecast(runtime, None, PROMPTS[:1] * number)) for number in (3, 4)]
    assert [one.alike for one in found] == [False, True]
