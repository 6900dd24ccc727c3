"""Every supported architecture computes what transformers does, along the whole path."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GraniteConfig,
    LlamaConfig,
    PreTrainedModel,
    T5Config,
)

from dnd_engine.config import EngineConfig, Sampling
from dnd_engine.engine import Engine
from dnd_engine.errors import AssetError, ChatError, LayoutError
from dnd_engine.export.gguf import write_gguf
from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.lora.layout import ARCHITECTURES, Architecture, LoRALayout, LoRASpec
from dnd_engine.lora.weight_tokens import detokenize, tokenize
from dnd_engine.models.attention import attends_plainly, layer_kinds
from dnd_engine.models.base import BaseModel, block, fingerprint, load_base
from dnd_engine.models.blocks import BlockPass
from dnd_engine.models.chat_format import chat_text, turn_end
from dnd_engine.models.decode import decode
from dnd_engine.models.forward import HookedForward
from dnd_engine.models.packed import PackedForward, refusal
from dnd_engine.models.runtime import Runtime
from dnd_engine.models.sources import resolve
from dnd_engine.scoring.answers import answer
from dnd_engine.scoring.questions import Question
from dnd_engine.tasks.folder import Example
from dnd_engine.training.examples import answer_logits, encode_example, pack, response_losses
from tests.dnd_engine.architectures import CONFIGS, HELIUM, save_base
from tests.dnd_engine.test_engine import LETTERS, write_generator
from tests.dnd_engine.tiny import (
    BASE_ID,
    CPU,
    bucket,
    byte_tokenizer,
    delta,
    make_adapter,
    random_tokens,
    stock_answer,
    text_of,
    user,
)
from tests.present import present

BaseOf = Callable[[str], BaseModel]
EVERY = pytest.mark.parametrize("kind", CONFIGS)
IDS = torch.randint(3, 260, (2, 14), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in made:
            made[kind] = save_base(CONFIGS[kind], tmp_path_factory.mktemp(kind) / kind)
        return made[kind]

    return make


@pytest.fixture
def base_of(folder_of: Callable[[str], Path]) -> BaseOf:
    def load(kind: str) -> BaseModel:
        loaded = load_base(resolve(str(folder_of(kind)), {}), CPU, torch.float32)
        return replace(loaded, weights=replace(loaded.weights, hub_id=BASE_ID))

    return load


def layout_of(base: BaseModel) -> LoRALayout:
    return LoRALayout.from_config(base.config, LoRASpec(r=4, lora_alpha=8))


def merged(base: BaseModel, layout: LoRALayout, tokens: Tensor) -> nn.Module:
    """The base with ΔW added to its weights: an adapter without any code of ours to apply it."""
    state = {key: value.clone() for key, value in base.model.state_dict().items()}
    for path, change in delta(detokenize(tokens, layout), layout, torch.float32).items():
        state[f"{path}.weight"] += change
    assert isinstance(base.model, PreTrainedModel)
    config = base.model.config
    model: nn.Module = AutoModelForCausalLM.from_config(
        config, attn_implementation=config._attn_implementation
    )
    model.load_state_dict(state)
    return model.eval()


def test_all_that_is_supported_is_tested() -> None:
    assert set(CONFIGS) == set(ARCHITECTURES)


@EVERY
def test_a_layout_names_every_linear_layer_of_a_block(base_of: BaseOf, kind: str) -> None:
    base = base_of(kind)
    layout = layout_of(base)
    linear = {name for name, module in base.model.named_modules() if isinstance(module, nn.Linear)}
    assert {target.path for target in layout.targets} == linear - {"lm_head"}
    assert LoRALayout.from_json(layout.to_json()) == layout
    tokens = random_tokens(layout)
    assert torch.equal(tokenize(detokenize(tokens, layout), layout), tokens)
    assert len(fingerprint(base)["norms"]) == 2


@EVERY
def test_an_adapter_computes_what_the_merged_weights_do(base_of: BaseOf, kind: str) -> None:
    base = base_of(kind)
    runtime = Runtime.of(base)
    layout = layout_of(base)
    tokens = random_tokens(layout)
    with torch.inference_mode(), runtime.host.applying(runtime.host.fit(tokens[None], layout)):
        found = base.model(input_ids=IDS).logits
    expected = merged(base, layout, tokens)(input_ids=IDS).logits
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
    assert (found - base.model(input_ids=IDS).logits).abs().max() > 0.1


@EVERY
def test_a_training_step_has_the_loss_and_gradient_of_examples_alone(
    base_of: BaseOf, kind: str
) -> None:
    base = base_of(kind)
    runtime = Runtime.of(base)
    layout = layout_of(base)
    examples = [
        encode_example(base.tokenizer, Example(f"Say it.\n\n{word}", word[::-1]), "full")
        for word in ("abc", "a longer word", "z")
    ]
    encoded = [example for example in examples if example is not None]
    tokens = random_tokens(layout).requires_grad_()
    with runtime.host.applying(runtime.host.fit(tokens[None], layout)):
        losses = response_losses(base.model, pack([encoded])).nll
        losses.sum().backward()
        logits, _ = answer_logits(base.model, pack([encoded]))
    alone = random_tokens(layout).requires_grad_()
    expected, theirs = [], []
    with runtime.host.applying(runtime.host.fit(alone[None], layout)):
        for example in encoded:
            ids = torch.tensor([example.ids])
            whole = base.model(input_ids=ids).logits[0, example.start - 1 : -1]
            theirs.append(whole)
            expected.append(nn.functional.cross_entropy(whole, ids[0, example.start :]))
        torch.stack(expected).sum().backward()
    torch.testing.assert_close(losses, torch.stack(expected), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(logits, torch.cat(theirs), atol=2e-3, rtol=1e-3)
    assert tokens.grad is not None
    torch.testing.assert_close(tokens.grad, alone.grad, atol=2e-2, rtol=1e-2)
    runtime.host.recompute()
    again = random_tokens(layout).requires_grad_()
    with runtime.host.applying(runtime.host.fit(again[None], layout)):
        recomputed = response_losses(base.model, pack([encoded])).nll
    recomputed.sum().backward()
    torch.testing.assert_close(recomputed, losses, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(again.grad, tokens.grad, atol=2e-2, rtol=1e-2)


@EVERY
def test_greedy_chat_is_transformers_own(base_of: BaseOf, kind: str) -> None:
    """Far beyond the window, beside a longer conversation that pads it, and with an adapter."""
    base = base_of(kind)
    runtime = Runtime.of(base)
    layout = layout_of(base)
    tokens = random_tokens(layout)
    active = FittedLoRA.stack([None, runtime.host.fit(tokens[None], layout)])
    chats = [user("Hi"), user("A longer question?")]
    models = [base.model, merged(base, layout, tokens)]
    *_, last = decode(runtime, chats, lambda: active, Sampling(max_new_tokens=24))
    for reply, chat, model in zip(last, chats, models, strict=True):
        prompt = base.chat_ids(chat[0]["content"])
        ids = stock_answer(model, prompt, max_new_tokens=24, pad_token_id=0)
        expected = text_of(base.tokenizer, ids, skip_special_tokens=True)
        assert reply.text.rstrip("\ufffd") == expected.rstrip("\ufffd")


@EVERY
def test_batched_answers_weigh_and_write_as_one_alone(base_of: BaseOf, kind: str) -> None:
    """Shared beginnings, offered answers behind each other, rows that end at different times."""
    base = base_of(kind)
    runtime = Runtime.of(base)
    prompts = [base.chat_ids(text) for text in ("Say a.", "Say a word, please.", "Say b.")]
    options = ((70, 71, 2), (80, 2), (90, 91, 92, 2))
    questions = [Question(prompt, options[0], options, 10) for prompt in prompts]
    (found,) = answer(runtime, [questions], None)
    for prompt, one in zip(prompts, found, strict=True):
        for option, nll in zip(options, one.option_nlls, strict=True):
            ids = torch.tensor([[*prompt, *option]])
            logits = base.model(input_ids=ids).logits[0, len(prompt) - 1 : -1]
            expected = nn.functional.cross_entropy(logits, torch.tensor(option))
            assert nll == pytest.approx(float(expected), abs=2e-3)
        ((alone,),) = answer(runtime, [[Question(prompt, (2,), (), 10)]], None)
        assert one.ids == alone.ids


@EVERY
def test_block_by_block_a_base_computes_what_it_does_at_once(base_of: BaseOf, kind: str) -> None:
    """Rows that share a beginning, and a change of `down_proj` as an adapter would make it."""
    base = base_of(kind)
    runtime = Runtime.of(base)
    spec = LoRASpec(r=4, lora_alpha=4, target_modules=("down_proj",))
    layout = LoRALayout.from_config(base.config, spec)
    tokens = random_tokens(layout, size=0.3)
    state = detokenize(tokens, layout)
    rows = [IDS[0].tolist(), [*IDS[0, :9].tolist(), *IDS[1, :5].tolist()]]
    ahead: list[Tensor] = []
    with torch.inference_mode():
        blocks = BlockPass(base, rows)
        for layer in range(2):
            blocks.advance(layer)
            target = layout.targets[layer]
            blocks.add(state[target.key("A")], state[target.key("B")])
        hook = block(base.model, 1).register_forward_hook(lambda *given: ahead.append(given[2]))
        with runtime.host.applying(runtime.host.fit(tokens[None], layout)):
            base.model(input_ids=torch.tensor(rows))
        hook.remove()
    for row, places in enumerate(blocks.places):
        torch.testing.assert_close(blocks.states[places], ahead[0][row], atol=1e-3, rtol=1e-3)


@EVERY
def test_the_fast_path_is_taken_where_it_is_exact_and_refused_openly_elsewhere(
    base_of: BaseOf, kind: str
) -> None:
    base = base_of(kind)
    forward, reason = Runtime.of(base).forward, refusal(base.model)
    if kind in ("llama", "qwen3"):
        assert isinstance(forward, PackedForward)
    else:
        assert isinstance(forward, HookedForward)
        assert reason
        assert "window" in reason or "no architecture" in reason


@pytest.mark.slow
@EVERY
def test_an_adapter_is_imprinted_saved_read_by_peft_and_chatted_with(
    folder_of: Callable[[str], Path], kind: str, tmp_path: Path
) -> None:
    config = EngineConfig(base=str(folder_of(kind)), device="cpu", cache_dir=tmp_path / "cache")
    engine = Engine.load(config)
    made = engine.generate([bucket("letters", LETTERS)])
    assert made.is_imprinted
    assert bool(made.tokens.any())
    engine.save(made, tmp_path / "made.zip")
    again = engine.read_adapter(tmp_path / "made.zip")
    assert again.sha256 == made.sha256
    found = engine.inspect(again, [bucket("letters", LETTERS)])
    assert found.verdict is not None
    *_, step = engine.chat(user("ab"), adapter=again, sampling=Sampling(max_new_tokens=4))
    *_, alone = engine.chat(user("ab"), adapter=None, sampling=Sampling(max_new_tokens=4))
    assert step.base.text == alone.base.text
    layout = layout_of(engine.base)
    whole = make_adapter(layout=layout, base_id=engine.info.base_id)
    engine.save(whole, tmp_path / "whole.zip")
    engine.export(whole, "merged", tmp_path / "merged")
    write_gguf(whole, engine.base.config, tmp_path / "whole.gguf")
    assert (tmp_path / "whole.gguf").stat().st_size > 4 * whole.num_parameters


@EVERY
def test_a_generator_writes_an_adapter_with_which_stock_peft_answers_as_our_chat(
    folder_of: Callable[[str], Path],
    base_of: BaseOf,
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A small random decoder of this architecture's layout, saved as a generator and loaded."""
    monkeypatch.setattr("dnd_engine.engine.best_dtype", lambda device: torch.float32)
    layout = layout_of(base_of(kind))
    generator = write_generator(folder_of(kind), tmp_path / "generator", layout=layout)
    config = EngineConfig(base=str(folder_of(kind)), generator=generator, device="cpu")
    engine = Engine.load(config)
    made = engine.generate([bucket("letters", LETTERS)], imprinted=False)
    assert made.layout == layout
    sampling = Sampling(max_new_tokens=8)
    *_, said = engine.chat(user("ab"), adapter=made, sampling=sampling)
    folder = engine.export(made, "peft", tmp_path / "peft").path
    plain = AutoModelForCausalLM.from_pretrained(folder_of(kind), dtype=torch.float32)
    before = plain(input_ids=IDS).logits
    stock = PeftModel.from_pretrained(plain, str(folder)).eval()
    fitted = engine.runtime.host.fit(made.scaled_tokens[None], layout)
    with torch.inference_mode(), engine.runtime.host.applying(fitted):
        ours = engine.base.model(input_ids=IDS).logits
    torch.testing.assert_close(stock(input_ids=IDS).logits, ours, atol=1e-3, rtol=1e-3)
    assert (ours - before).abs().max() > 0.1
    ids = stock_answer(
        stock.get_base_model(), engine.base.chat_ids("ab"), max_new_tokens=8, pad_token_id=0
    )
    theirs = text_of(engine.base.tokenizer, ids, skip_special_tokens=True)
    assert present(said.adapted).text.rstrip("\ufffd") == theirs.rstrip("\ufffd")


# What is registered, and what is not


@pytest.mark.slow
def test_an_architecture_is_added_by_one_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_base(HELIUM, tmp_path / "helium")
    with pytest.raises(LayoutError, match=r"architecture 'helium' is not supported; llama, mistra"):
        load_base(resolve(str(folder), {}), CPU, torch.float32)
    monkeypatch.setitem(ARCHITECTURES, "helium", Architecture())
    engine = Engine.load(EngineConfig(base=str(folder), device="cpu", cache_dir=tmp_path / "cache"))
    made = engine.generate([bucket("letters", LETTERS)])
    engine.save(made, tmp_path / "made.zip")
    assert engine.read_adapter(tmp_path / "made.zip").sha256 == made.sha256


@pytest.mark.parametrize("config", [GPT2Config(n_layer=1, n_embd=8, n_head=1), T5Config()])
def test_what_is_not_supported_is_refused_by_name_before_its_weights_are_read(
    config: GPT2Config | T5Config, tmp_path: Path
) -> None:
    config.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not read")
    byte_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(
        LayoutError, match=rf"architecture '{config.model_type}' .* To add one, des"
    ):
        load_base(resolve(str(tmp_path), {}), CPU, torch.float32)


def test_a_model_that_also_sees_is_refused_with_what_to_take() -> None:
    with pytest.raises(LayoutError, match=r"'gemma3' is not supported; .* take the text-only mod"):
        LoRALayout.from_config({"model_type": "gemma3"})


def test_logits_that_are_scaled_are_refused_even_if_somebody_registers_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ARCHITECTURES, "granite", Architecture())
    sizes = {k: v for k, v in CONFIGS["llama"].to_dict().items() if k in GraniteConfig().to_dict()}
    for name in ("model_type", "architectures", "rope_parameters", "transformers_version"):
        sizes.pop(name, None)
    folder = save_base(GraniteConfig(**sizes, logits_scaling=8.0), tmp_path / "granite")
    with pytest.raises(AssetError, match=r"\(granite\) has `logits_scaling` 8\.0, which training"):
        load_base(resolve(str(folder), {}), CPU, torch.float32)


def test_layers_that_an_architecture_does_not_have_are_named() -> None:
    spec = LoRASpec(target_modules=("q_proj",))
    with pytest.raises(
        LayoutError, match=r"a phi3 base has no layer q_proj; its layers are qkv_pr"
    ):
        LoRALayout.from_config(CONFIGS["phi3"].to_dict(), spec)


def test_windows_are_read_from_either_kind_of_config(base_of: BaseOf) -> None:
    assert layer_kinds(CONFIGS["mistral"]) == ("sliding_attention",) * 2
    assert layer_kinds(CONFIGS["qwen2"]) == ("full_attention", "sliding_attention")
    assert [attends_plainly(base_of(kind).model) for kind in ("llama", "gemma2")] == [True, False]


def test_windows_that_an_architecture_does_not_use_are_not_read() -> None:
    """A config keeps every entry of its file, also those that its model ignores."""
    entries: dict[str, Any] = {"sliding_window": 4, "layer_types": ["sliding_attention"] * 2}
    foreign = LlamaConfig(num_hidden_layers=2, **entries)
    assert layer_kinds(foreign) == ("full_attention",) * 2


# Chat templates


def test_an_answer_ends_as_the_template_ends_it() -> None:
    tokenizer = byte_tokenizer()
    assert turn_end(tokenizer) == 2
    gemma = byte_tokenizer()
    gemma.add_tokens(["<end_of_turn>"], special_tokens=True)
    gemma.chat_template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}<end_of_turn>\n{% endfor %}"
    )
    assert gemma.convert_ids_to_tokens(turn_end(gemma)) == "<end_of_turn>"
    plain = byte_tokenizer()
    plain.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    assert turn_end(plain) == plain.eos_token_id
    silent = byte_tokenizer()
    silent.add_tokens(["<start_of_turn>"], special_tokens=True)
    silent.chat_template = "<start_of_turn>{{ messages[0].content }}"
    assert turn_end(silent) == silent.eos_token_id


def test_a_base_that_never_ends_an_answer_is_refused() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = None
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    with pytest.raises(AssetError, match="which token ends an answer"):
        turn_end(tokenizer)


def test_a_template_tells_the_same_day_every_day_and_does_not_ask_for_thoughts() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = (
        "{{ strftime_now('%d %b %Y') }}{% if enable_thinking is not defined or enable_thinking %}"
        "<think>{% endif %}{{ messages[0].content }}"
    )
    assert chat_text(tokenizer, user("Hi")) == "26 Jul 2024Hi"


def test_a_conversation_that_the_template_refuses_is_told() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}{{ messages[0].content }}"
    )
    with pytest.raises(ChatError, match="refuses this conversation: System role not supported"):
        chat_text(tokenizer, [{"role": "system", "content": "Be kind."}, *user("Hi")])
