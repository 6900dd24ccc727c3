"""The base reads prompts as it would anyway, no further than needed, and tells them apart."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dnd_engine.engine import Engine
from dnd_engine.errors import ConfigError, LayoutMismatchError
from dnd_engine.models.activations import BaseActivations, check_prompts_differ, prompt_variance
from dnd_engine.models.base import BaseModel
from dnd_engine.models.encoder import ConditionSource
from tests.dnd_engine.tiny import save_tiny, tiny_base, user

LAYERS = (1, 3)
TEXTS = (
    "Name the capital.\n\nFrance",
    "Say it in French.\n\nGood morning, everyone",
    "Shout",
    "Count the words of this.\n\none two\n\nthree",
)


@pytest.fixture(scope="module")
def deep_base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """Four layers, of which three are in the middle or before."""
    return tiny_base(save_tiny(tmp_path_factory.mktemp("deep"), num_hidden_layers=4))


@pytest.fixture(scope="module")
def source(deep_base: BaseModel) -> BaseActivations:
    return BaseActivations(deep_base, LAYERS)


def full_states(base: BaseModel, ids: Tensor) -> tuple[Tensor, ...]:
    """Return those of a whole forward pass, as transformers gives them."""
    with torch.inference_mode():
        states: tuple[Tensor, ...] = base.model.get_submodule("model")(
            input_ids=ids, output_hidden_states=True, use_cache=False
        ).hidden_states
    return states


def unit_rms(vectors: Tensor) -> Tensor:
    return vectors / vectors.square().mean(dim=-1, keepdim=True).sqrt()


def by_hand(base: BaseModel, text: str, layers: Sequence[int]) -> Tensor:
    """(length, width): one prompt alone, through a whole pass over the rendered chat turn."""
    turn = str(
        base.tokenizer.apply_chat_template(user(text), add_generation_prompt=True, tokenize=False)
    )
    encoded = base.tokenizer(turn, add_special_tokens=False, return_offsets_mapping=True)
    first = turn.index(text)
    last = first + len(text.partition("\n\n")[0])
    inside = [
        i
        for i, (start, end) in enumerate(encoded["offset_mapping"])
        if first <= start < end <= last
    ]
    states = full_states(base, torch.tensor([encoded["input_ids"]]))
    rows = []
    for layer in layers:
        vectors = unit_rms(states[layer][0].float())
        rows += [unit_rms(vectors[inside].mean(dim=0)), vectors[-1]]
    return torch.stack(rows)


def standardised(tokens: Tensor) -> Tensor:
    """As a generator does it, with the same least deviation."""
    return (tokens - tokens.mean(dim=0)) / tokens.std(dim=0).clamp(min=0.05)


# What is read


def test_states_are_exactly_those_of_a_whole_forward_pass(
    deep_base: BaseModel, source: BaseActivations
) -> None:
    ids = torch.randint(3, 259, (3, 17))
    expected = full_states(deep_base, ids)
    with torch.inference_mode():
        found = source.read(ids)
    assert [torch.equal(f, expected[k]) for f, k in zip(found, LAYERS, strict=True)] == [True, True]


def test_a_prompt_is_the_mean_of_its_instruction_and_the_last_token_before_the_answer(
    deep_base: BaseModel, source: BaseActivations
) -> None:
    """Prompts of several lengths in one batch, in the order given, each as if alone."""
    found = source.encode(TEXTS, 4)
    for row, text in enumerate(TEXTS):
        expected = by_hand(deep_base, text, LAYERS)
        torch.testing.assert_close(found.tokens[row], expected, atol=1e-4, rtol=1e-4)


def test_more_prompts_than_a_batch_keep_their_order(source: BaseActivations) -> None:
    texts = [f"{'Do it again. ' * (i % 5)}Number {i}.\n\n{'x' * (i % 7)}" for i in range(40)]
    together = source.encode(texts, 4).tokens
    for row in (0, 17, 39):
        alone = source.encode([texts[row]], 4).tokens[0]
        torch.testing.assert_close(together[row], alone, atol=1e-4, rtol=1e-4)


def test_an_input_changes_the_last_token_and_not_the_instruction(source: BaseActivations) -> None:
    one, two = source.encode(["Name it.\n\nA cat", "Name it.\n\nTwo dogs"], 4).tokens
    torch.testing.assert_close(one[::2], two[::2], atol=1e-4, rtol=1e-4)
    assert ((one - two)[1::2].abs().amax(dim=1) > 0.1).all()


def test_a_prompt_without_a_blank_line_is_all_instruction(source: BaseActivations) -> None:
    one, two = source.encode(["Name it. A cat", "Name it. Two dogs"], 4).tokens
    assert ((one - two)[::2].abs().amax(dim=1) > 0.01).all()


def test_long_prompts_are_cut_at_the_end_of_their_input(source: BaseActivations) -> None:
    """The tiny base's tokens are bytes; 96 of them are read."""
    begin = "Name it.\n\n" + "y" * 86
    one, two = source.encode([begin, begin + "and so on"], 4).tokens
    torch.testing.assert_close(one, two)


def test_all_positions_are_real_and_vectors_have_unit_size(source: BaseActivations) -> None:
    found = source.encode(TEXTS, 4)
    assert found.tokens.shape == (4, 4, 64)
    assert found.mask.all()
    sizes = found.tokens.square().mean(dim=2)
    torch.testing.assert_close(sizes, torch.ones(4, 4), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        found.pooled, nn.functional.normalize(found.tokens.mean(dim=1), dim=1)
    )
    assert isinstance(source, ConditionSource)


def test_no_prompts_give_an_empty_condition(source: BaseActivations) -> None:
    assert source.encode([], 4).tokens.shape == (0, 4, 64)


# What is not done


def test_layers_after_the_last_one_are_not_computed(
    deep_base: BaseModel, source: BaseActivations
) -> None:
    seen: list[int] = []
    hooks = [
        layer.register_forward_hook(lambda *_, number=number: seen.append(number))
        for number, layer in enumerate(deep_base.model.get_submodule("model.layers").children())
    ]
    try:
        source.encode(TEXTS[:1], 4)
    finally:
        for hook in hooks:
            hook.remove()
    assert set(seen) == {0, 1, 2}


def test_nothing_is_left_on_the_base(deep_base: BaseModel, source: BaseActivations) -> None:
    """Neither after reading nor after a failure; whole passes then run to their end."""

    def hooks() -> list[int]:
        return [len(module._forward_hooks) for module in deep_base.model.modules()]

    ids, hooked = torch.randint(3, 259, (1, 5)), hooks()
    before = deep_base.model(input_ids=ids).logits
    source.encode(TEXTS, 4)
    with pytest.raises(IndexError):
        source.read(torch.tensor([[100_000]]))
    assert hooks() == hooked
    assert torch.equal(deep_base.model(input_ids=ids).logits, before)


def test_reading_prompts_does_not_change_what_was_read_of_the_template(
    source: BaseActivations,
) -> None:
    with torch.inference_mode():
        start = source._read_template()
        length = start.get_seq_length()
        for _ in range(2):
            source.read(torch.randint(3, 259, (3, 7)), start)
    assert start.get_seq_length() == length == len(source._before)


# Telling prompts apart


def prompts_of_tasks() -> list[str]:
    instructions = [f"{verb} the {noun}." for verb in ("Name", "Count", "Flip") for noun in "abcde"]
    return [f"{words}\n\ninput {i}" for words in instructions for i in range(3)]


def test_two_instructions_give_clearly_different_conditions(source: BaseActivations) -> None:
    """And two inputs of one instruction give nearly the same."""
    texts = prompts_of_tasks()
    condition = standardised(source.encode(texts, 4).tokens)
    check_prompts_differ(condition)
    assert prompt_variance(condition) > 0.9
    means = nn.functional.normalize(condition[:, ::2].flatten(1), dim=1)
    similar = means @ means.T
    assert similar[0, 1] > 0.99
    assert similar[0, 3:].max() < 0.9


def test_activations_as_they_are_would_make_all_prompts_look_alike() -> None:
    """One channel is thousands of times as large, in the first token alone, as in real bases.

    All other channels and tokens differ from prompt to prompt.
    """
    torch.manual_seed(0)
    states = torch.randn(30, 12, 64)
    states[:, 0, 5] = 5_000 + torch.randn(30)
    naive = standardised(unit_rms(states.mean(dim=1))[:, None])
    assert prompt_variance(naive) < 0.05
    with pytest.raises(
        ConfigError,
        match=r"conditions of 30 prompts are nearly the same: .* is 0\.0\d\d, expected 0\.2 or m",
    ):
        check_prompts_differ(naive)
    check_prompts_differ(standardised(unit_rms(unit_rms(states)[:, 1:].mean(dim=1))[:, None]))


def test_conditions_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"variance after standardisation is nan"):
        check_prompts_differ(torch.full((3, 2, 4), float("nan")))


# Refusals


@pytest.mark.parametrize("layers", [(), (0, 1), (1, 4), (3, 1), (2, 2)])
def test_layers_the_base_does_not_have_are_refused(
    deep_base: BaseModel, layers: tuple[int, ...]
) -> None:
    with pytest.raises(
        ConfigError, match=r"must rise and lie between 1 and 3, as .* has 4 layers; got \["
    ):
        BaseActivations(deep_base, layers)


def test_another_length_is_refused(source: BaseActivations) -> None:
    with pytest.raises(
        LayoutMismatchError, match=r"2 layers of the base make conditions 4 long, asked for 48\."
    ):
        source.encode(TEXTS, 48)


def test_a_template_that_hides_the_message_is_refused(tmp_path: Path) -> None:
    base = tiny_base(save_tiny(tmp_path / "base"))
    base.tokenizer.chat_template = "Hello!"
    with pytest.raises(ConfigError, match=r"does not show the message between a beginning and"):
        BaseActivations(replace(base), (1,))


# The embedded base


@pytest.mark.real
def test_the_embedded_base_reads_exactly_what_it_would_compute(real_engine: Engine) -> None:
    layers = (8, 12, 16, 20)
    with real_engine.exclusive() as (base, _):
        source = BaseActivations(base, layers)
        encoded = base.tokenizer(list(TEXTS), return_tensors="pt", padding=True)
        ids = encoded["input_ids"].to(base.device)
        expected = full_states(base, ids)
        with torch.inference_mode():
            found = source.read(ids)
    assert all(torch.equal(f, expected[k]) for f, k in zip(found, layers, strict=True))


@pytest.mark.real
def test_the_embedded_base_tells_prompts_apart_and_naively_would_not(real_engine: Engine) -> None:
    """Naively: the mean over a text's tokens, the first one's large state among them."""
    texts = prompts_of_tasks()
    with real_engine.exclusive() as (base, _):
        sound = BaseActivations(base, (12,)).encode(texts, 2).tokens
        rows = [base.tokenizer(text, return_tensors="pt")["input_ids"] for text in texts]
        states = [full_states(base, ids.to(base.device))[12][0].float().cpu() for ids in rows]
    naive = torch.stack([unit_rms(vectors.mean(dim=0)) for vectors in states])[:, None]
    check_prompts_differ(standardised(sound))
    with pytest.raises(ConfigError, match=r"conditions of 45 prompts are nearly the same"):
        check_prompts_differ(standardised(naive))
