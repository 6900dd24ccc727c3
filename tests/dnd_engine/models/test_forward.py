"""The packed forward pass computes what the base's own modules compute, or is not used."""

import inspect
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from dnd_engine.config import Sampling
from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.lora.layout import LoRALayout, LoRASpec
from dnd_engine.models import packed
from dnd_engine.models import runtime as runtimes
from dnd_engine.models.base import BaseModel
from dnd_engine.models.decode import decode
from dnd_engine.models.forward import Forward, HookedForward
from dnd_engine.models.new_tokens import NewTokens
from dnd_engine.models.packed import PackedForward, refusal
from dnd_engine.models.runtime import Runtime
from tests.dnd_engine.tiny import CONFIG, LAYOUT, random_tokens, tiny_llama, user

KINDS: dict[str, Any] = {
    "llama": lambda: tiny_llama(),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**CONFIG, initializer_range=0.3)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**CONFIG, head_dim=32, initializer_range=0.3)),
    "mistral": lambda: MistralForCausalLM(
        MistralConfig(**CONFIG, sliding_window=None, initializer_range=0.3)
    ),
}


def runtime_of(base: BaseModel, model: nn.Module) -> Runtime:
    for name, weight in model.named_parameters():
        if "norm" in name or name.endswith("bias"):
            nn.init.uniform_(weight, 0.5, 1.5)
    return Runtime.of(replace(base, model=model.eval().requires_grad_(False)))


def both(runtime: Runtime) -> tuple[Forward, Forward]:
    return PackedForward(runtime.base), HookedForward(runtime.base, runtime.host.applying)


@torch.inference_mode()
def read(
    forward: Forward, cuts: list[int], pads: list[int], active: FittedLoRA | None
) -> list[Tensor]:
    """States after reading nine tokens in several passes, some rows padded on the left."""
    torch.manual_seed(1)
    rows = len(pads)
    ids = torch.randint(3, 260, (rows, 9))
    real = torch.arange(9) >= torch.tensor(pads)[:, None]
    positions = (real.cumsum(dim=1) - 1).clamp(min=0)
    visible = torch.ones(9, 9, dtype=torch.bool).tril() & real[:, None] | torch.eye(9).bool()
    past, found = forward.new_cache(rows), []
    prepared = forward.prepare(active)
    for start, end in pairwise(cuts):
        shown = visible[:, None, start:end, :end] if any(pads) else None
        new = slice(start, end)
        states = forward.hidden(NewTokens(ids[:, new], positions[:, new], shown, past, prepared))
        found.append(forward.logits(states[:, -1]))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_architecture_is_read_as_its_own_modules_read_it(base: BaseModel, kind: str) -> None:
    torch.manual_seed(0)
    runtime = runtime_of(base, KINDS[kind]())
    layout = LoRALayout.from_config(runtime.base.config, LoRASpec(r=4, lora_alpha=8))
    active = runtime.host.fit(random_tokens(layout)[None], layout)
    ours, theirs = both(runtime)
    for pads in ([0, 0], [2, 0]):
        for found, expected in zip(
            read(ours, [0, 6, 7, 8, 9], pads, active),
            read(theirs, [0, 6, 7, 8, 9], pads, active),
            strict=True,
        ):
            torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("few", [0, 64], ids=["bfloat16", "float32"])
@pytest.mark.parametrize("rows", [3, 6])
def test_adapters_reach_their_rows_alone(
    base: BaseModel, rows: int, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bare rows first, then adapters of other ranks and layers, one for each run of rows."""
    monkeypatch.setattr(packed, "_FEW_POSITIONS", few)
    runtime = Runtime.of(base)
    narrow = LoRALayout.from_config(
        CONFIG, LoRASpec(r=2, lora_alpha=4, target_modules=("k_proj", "up_proj", "o_proj"))
    )
    active = FittedLoRA.stack(
        [
            None,
            runtime.host.fit(random_tokens(narrow)[None], narrow),
            runtime.host.fit(random_tokens(LAYOUT)[None], LAYOUT),
        ]
    ).without_bare()
    ours, theirs = both(runtime)
    cuts = [0, 7, 8, 9]
    found, expected = (read(f, cuts, [0] * rows, active)[-1] for f in (ours, theirs))
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-4)
    assert torch.equal(found[: rows // 3], read(ours, cuts, [0] * rows, None)[-1][: rows // 3])


def test_layers_that_no_adapter_changes_are_left_alone(base: BaseModel) -> None:
    runtime = Runtime.of(base)
    one = LoRALayout.from_config(CONFIG, LoRASpec(r=2, lora_alpha=4, target_modules=("v_proj",)))
    active = runtime.host.fit(random_tokens(one)[None], one)
    ours, theirs = both(runtime)
    found, expected = (read(f, [0, 8, 9], [0], active)[-1] for f in (ours, theirs))
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-4)
    assert not torch.allclose(found, read(ours, [0, 8, 9], [0], None)[-1], atol=1e-2)


def test_layers_whose_b_is_zero_cost_no_product(base: BaseModel) -> None:
    """As the lower ones of an imprint."""
    runtime = Runtime.of(base)
    tokens = random_tokens()
    first = next(LAYOUT.matrices()).target.layer
    for matrix in LAYOUT.matrices():
        if matrix.side == "B" and matrix.target.layer == first:
            tokens[matrix.first_token : matrix.first_token + matrix.num_tokens] = 0
    fused = PackedForward(base).prepare(runtime.host.fit(tokens[None], LAYOUT))
    assert fused is not None
    changed = [any(factor.numel() for factor in block) for block in fused.factors]
    assert changed == [number != first for number in range(base.num_layers)]


def test_the_functions_run_alike_compiled_and_as_they_are(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TorchScript compiles them up to Python 3.13; later they run as Python."""
    runtime = Runtime.of(base, LAYOUT)
    active = runtime.host.fit(random_tokens()[None])
    forward = PackedForward(runtime.base)
    expected = read(forward, [0, 7, 8, 9], [0], active)
    monkeypatch.setattr(packed, "_compiled", lambda: packed._run_blocks)
    assert inspect.isfunction(packed._compiled())
    for found, wanted in zip(read(forward, [0, 7, 8, 9], [0], active), expected, strict=True):
        assert torch.equal(found, wanted)


def test_a_base_that_is_not_packed_answers_through_its_modules(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answers() -> list[str]:
        runtime = Runtime.of(base, LAYOUT)
        active = FittedLoRA.stack([None, runtime.host.fit(random_tokens(size=0.3)[None])])
        chats = [user("Hi"), user("A longer question?")]
        *_, last = decode(runtime, chats, lambda: active, Sampling(max_new_tokens=12))
        used.append(type(runtime.forward))
        return [reply.text for reply in last]

    used: list[type[Forward]] = []
    expected = answers()
    monkeypatch.setattr(runtimes, "refusal", lambda model: "this is a test")
    assert answers() == expected
    assert used == [PackedForward, HookedForward]


def test_a_copy_that_would_fill_the_memory_is_not_made(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of the container, if it has a limit: the host may have far more.
    monkeypatch.setattr(packed, "free_bytes", lambda: 100_000)
    assert isinstance(Runtime.of(base).forward, HookedForward)
    assert "and 0 MB are free" in str(refusal(base.model))


def mistral_with_a_window() -> nn.Module:
    return MistralForCausalLM(MistralConfig(**CONFIG, sliding_window=4))


def qwen_with_windows() -> nn.Module:
    config = Qwen2Config(**CONFIG, use_sliding_window=True, sliding_window=4, max_window_layers=1)
    return Qwen2ForCausalLM(config)


def gelu_llama() -> nn.Module:
    model = tiny_llama()
    model.config.hidden_act = "gelu"
    return model


def llama_elsewhere() -> nn.Module:
    with torch.device("meta"):
        return LlamaForCausalLM(tiny_llama().config)


def gpt2() -> nn.Module:
    return GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=10))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (gpt2, "GPT2LMHeadModel is no architecture that"),
        (mistral_with_a_window, "sliding window"),
        (qwen_with_windows, "sliding window"),
        (gelu_llama, "its activation is gelu"),
        (llama_elsewhere, "the model is on meta"),
    ],
)
def test_what_cannot_be_packed_is_named(make: Any, reason: str) -> None:
    assert reason in str(refusal(make()))


def test_memory_of_past_tokens_grows_without_losing_any(base: BaseModel) -> None:
    """Beyond one step of growth, a long text read token by token gives what one pass gives."""
    runtime = Runtime.of(base)
    forward = PackedForward(runtime.base)
    torch.manual_seed(0)
    ids = torch.randint(3, 260, (1, 140))
    positions = torch.arange(140)[None]
    past = forward.new_cache(1)
    for n in range(140):
        last = forward.hidden(
            NewTokens(ids[:, n : n + 1], positions[:, n : n + 1], None, past, None)
        )
    whole = forward.hidden(NewTokens(ids, positions, None, forward.new_cache(1), None))
    torch.testing.assert_close(last[:, -1], whole[:, -1], atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_tokens_of_several_chats_are_read_as_each_alone(base: BaseModel, kind: str) -> None:
    """The chats differ in length, padding, number of rows and rank of the adapter."""
    torch.manual_seed(0)
    runtime = runtime_of(base, KINDS[kind]())
    wide, narrow = (
        LoRALayout.from_config(runtime.base.config, LoRASpec(r=r, lora_alpha=8)) for r in (4, 2)
    )
    adapters = [
        None,
        runtime.host.fit(random_tokens(wide)[None], wide),
        FittedLoRA.stack([None, runtime.host.fit(random_tokens(narrow)[None], narrow)]),
    ]
    ours, theirs = PackedForward(runtime.base), both(runtime)[1]
    chats = list(zip(([0], [1, 0, 0], [2, 0]), adapters, strict=True))
    together = ours.joined_hidden([next_tokens(ours, n, *chat) for n, chat in enumerate(chats)])
    for n, (states, chat) in enumerate(zip(together, chats, strict=True)):
        for forward in (ours, theirs):
            alone = forward.hidden(next_tokens(forward, n, *chat))
            torch.testing.assert_close(states, alone, atol=2e-4, rtol=1e-4)


@torch.inference_mode()
def next_tokens(
    forward: Forward, seed: int, pads: list[int], active: FittedLoRA | None
) -> NewTokens:
    """The token after some that were read, of rows padded on the left."""
    torch.manual_seed(seed)
    rows, length = len(pads), 5 + seed
    ids = torch.randint(3, 260, (rows, length + 1))
    real = torch.arange(length + 1) >= torch.tensor(pads)[:, None]
    positions = (real.cumsum(dim=1) - 1).clamp(min=0)
    visible = torch.ones(len(real[0]), len(real[0])).tril().bool() & real[:, None]
    visible = (visible | torch.eye(len(real[0])).bool())[:, None]
    past, prepared = forward.new_cache(rows), forward.prepare(active)
    masks = (visible[:, :, :length, :length], visible[:, :, length:]) if any(pads) else (None, None)
    before, last = masks
    forward.hidden(NewTokens(ids[:, :length], positions[:, :length], before, past, prepared))
    return NewTokens(ids[:, length:], positions[:, length:], last, past, prepared)
