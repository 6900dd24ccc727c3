"""Adapters of any tool: what they hold, and what of it a loader drops without a word."""

import codecs
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel
from typer.testing import CliRunner

from dnd_engine.cli import app
from dnd_engine.cli.structure import is_foreign
from dnd_engine.errors import AdapterError
from dnd_engine.library import Library
from dnd_engine.lora.layout import LoRALayout
from dnd_engine.lora.structure import AdapterStructure, read_structure
from tests.dnd_engine.tiny import CONFIG, make_adapter, tiny_llama

LAYOUT = LoRALayout.from_config(CONFIG)
PLACE = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A LoRA as stock PEFT writes it, with B drawn at random."""
    return write_foreign(tmp_path / "theirs")


def write_foreign(folder: Path, **settings: Any) -> Path:
    torch.manual_seed(0)
    usual: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
    config = LoraConfig(**(usual | settings), init_lora_weights=False)
    model = get_peft_model(tiny_llama(), config)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.02)
    model.peft_config["default"].base_model_name_or_path = "someone/llama"
    model.save_pretrained(str(folder))
    return folder


def test_a_sound_adapter_of_stock_peft_works(foreign: Path) -> None:
    found = read_structure(foreign, LAYOUT)
    assert found.works, (found.faults, found.does_nothing)
    assert (found.num_keys, found.num_layers) == (8, 4)
    assert found.modules == {"q_proj": 2, "v_proj": 2}
    assert (found.r, found.lora_alpha, found.dtypes) == (4, 8, ("float32",))


def test_another_architecture_is_read_too(tmp_path: Path) -> None:
    model = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=8, n_layer=2, n_head=2))
    config = LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True)
    get_peft_model(model, config).save_pretrained(str(tmp_path / "fresh"))
    found = read_structure(tmp_path / "fresh")
    assert found.modules == {"c_attn": 2}
    # Nobody trained it, so its B is zero.
    assert "A or B is all zeros in every layer" in found.does_nothing[0]


def change(
    folder: Path,
    tensors: Callable[[dict[str, Tensor]], None] = lambda state: None,
    settings: Mapping[str, Any] | None = None,
) -> AdapterStructure:
    state = load_file(folder / "adapter_model.safetensors")
    tensors(state)
    save_file(state, folder / "adapter_model.safetensors")
    config = json.loads((folder / "adapter_config.json").read_text()) | dict(settings or {})
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return read_structure(folder, LAYOUT)


def rename(old: str, new: str) -> Callable[[dict[str, Tensor]], None]:
    def run(state: dict[str, Tensor]) -> None:
        for key in [key for key in state if old in key]:
            state[key.replace(old, new)] = state.pop(key)

    return run


def put(key: str, value: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Tensor]], None]:
    def run(state: dict[str, Tensor]) -> None:
        state[key] = value(state[key])

    return run


A, B = f"{PLACE}.lora_A.weight", f"{PLACE}.lora_B.weight"

IDLE: list[tuple[Callable[[dict[str, Tensor]], object], dict[str, Any], str]] = [
    (rename("base_model.model.", ""), {}, "8 keys that no loader expects"),
    (rename(".weight", ".default.weight"), {}, "8 keys that no loader expects"),
    (lambda state: state.pop(B), {}, "1 layer with only A or only B"),
    (lambda state: None, {"target_modules": ["q_proj"]}, "2 layers that `target_modules` does not"),
    (lambda state: None, {"target_modules": ".*q_proj"}, "2 layers that `target_modules` does not"),
    (lambda state: None, {"target_modules": "(" * 9999}, "4 layers that `target_modules` does not"),
    (
        lambda state: None,
        {"target_modules": ["q_proj", "v_proj", "qkv"]},
        "1 module named in `target_modules` without weights (qkv)",
    ),
    (lambda state: None, {"lora_alpha": 0}, "4 layers multiplied by 0, by `lora_alpha` or"),
    (
        lambda state: state.update({k: t * 0 for k, t in state.items() if "lora_B" in k}),
        {},
        "A or B is all zeros in every layer",
    ),
    (rename("layers.1.", "layers.9."), {}, "2 layers that the base does not have"),
]


@pytest.mark.parametrize(("tensors", "settings", "message"), IDLE)
def test_what_silently_does_nothing_is_said(
    tensors: Callable[[dict[str, Tensor]], None],
    settings: dict[str, Any],
    message: str,
    foreign: Path,
) -> None:
    found = change(foreign, tensors, settings)
    assert message in "; ".join(found.does_nothing)
    assert not found.works


FAULTS: list[tuple[Callable[[dict[str, Tensor]], None], dict[str, Any], str]] = [
    (lambda state: None, {"r": 8}, "4 layers of another rank than `r` 8"),
    (
        put(A, lambda t: (t * float("nan")).to(torch.float8_e4m3fn)),
        {},
        "1 layer with values that are not finite",
    ),
    (put(A, lambda t: t * float("nan")), {}, "1 layer with values that are not finite"),
    (put(A, lambda t: t[:, :32].clone()), {}, "1 layer of another size than the base's"),
    (put(A, lambda t: t[0, 0].clone()), {}, "1 layer of another size than the base's"),
    (put(B, lambda t: t[:, 0].clone()), {}, "1 layer of another size than the base's"),
    (lambda state: state.clear(), {}, "adapts no layer at all"),
]


@pytest.mark.parametrize(("tensors", "settings", "message"), FAULTS)
def test_what_a_loader_would_refuse_is_said(
    tensors: Callable[[dict[str, Tensor]], None],
    settings: dict[str, Any],
    message: str,
    foreign: Path,
) -> None:
    assert message in "; ".join(change(foreign, tensors, settings).faults)


def test_a_pattern_of_ranks_is_no_fault(foreign: Path) -> None:
    patterns = {"q_proj": 4, ".*v_proj": 4}
    assert change(foreign, settings={"r": 8, "rank_pattern": patterns}).faults == ()


# Held to what stock PEFT does with the same files.


def logits(folder: Path) -> Tensor:
    """Answers of the tiny base with an adapter, whose prompt has tokens 1 to 3."""
    with torch.no_grad():
        model = PeftModel.from_pretrained(tiny_llama(), str(folder))
        found = model(input_ids=torch.arange(1, 18)[None]).logits
    assert isinstance(found, Tensor)
    return found


def moves(folder: Path, part: str) -> bool:
    """Whether PEFT answers otherwise if the tensors whose keys hold `part` are others."""
    before = logits(folder)
    state = load_file(folder / "adapter_model.safetensors")
    assert any(part in key for key in state)
    changed = {key: t * 3 + 0.1 if part in key else t for key, t in state.items()}
    save_file(changed, folder / "adapter_model.safetensors")
    return not torch.equal(before, logits(folder))


@pytest.mark.parametrize(
    ("settings", "part", "said"),
    [
        ({"use_dora": True}, "lora_magnitude_vector", "4 keys of DoRA"),
        ({"lora_bias": True}, "lora_B.bias", "4 keys of a bias of B"),
        ({"trainable_token_indices": [1, 2, 3]}, "trainable_tokens", "1 key of trained tokens"),
        (
            {"target_modules": ["q_proj", "embed_tokens"]},
            "lora_embedding_A",
            "2 keys of a LoRA of embeddings",
        ),
        (
            {"target_modules": ["q_proj", "embed_tokens"]},
            "embed_tokens.base_layer.weight",
            "1 key in place of the base's own",
        ),
        ({"modules_to_save": ["head"]}, "lm_head", "1 key of modules trained in full"),
        ({"layers_to_transform": [1]}, "layers.1.", ""),
        ({"rank_pattern": {"q_proj": 8}, "alpha_pattern": {"q_proj": 16}}, "q_proj", ""),
        ({"target_modules": ["q_proj", "lm_head"]}, "lm_head.lora_A", ""),
    ],
)
def test_what_peft_uses_is_not_called_idle(
    settings: dict[str, Any], part: str, said: str, tmp_path: Path
) -> None:
    folder = write_foreign(tmp_path / "theirs", **settings)
    found = read_structure(folder, LAYOUT)
    assert found.works, (found.faults, found.does_nothing)
    assert said in "; ".join(found.peft_only)
    assert moves(folder, part)


@pytest.mark.parametrize(
    ("made", "tensors", "settings", "part", "message"),
    [
        (
            {},
            rename("model.layers", "transformer.h"),
            {},
            "transformer.h",
            "4 layers that the base does not have (transformer.h.0.self_attn.q_proj",
        ),
        (
            {},
            rename("q_proj", "qq_proj"),
            {"target_modules": ["qq_proj", "v_proj"]},
            "qq_proj",
            "2 layers that the base does not have (model.layers.0.self_attn.qq_proj",
        ),
        (
            {},
            None,
            {"layers_to_transform": [0], "layers_pattern": "layers"},
            "layers.1.",
            "2 layers that `layers_to_transform` leaves out (model.layers.1.",
        ),
        (
            {},
            None,
            {"exclude_modules": ["q_proj"]},
            "q_proj",
            "2 layers that `exclude_modules` leaves out (model.layers.0.self_attn.q_proj",
        ),
        (
            {},
            None,
            {"alpha_pattern": {"layers.1.self_attn.q_proj": 0}},
            "layers.1.self_attn.q_proj",
            "1 layer multiplied by 0, by `lora_alpha` or `alpha_pattern`",
        ),
        ({"use_dora": True}, None, {"use_dora": False}, "magnitude", "4 keys that no loader"),
        ({"lora_bias": True}, None, {"lora_bias": False}, "B.bias", "4 keys that no loader"),
        (
            {"target_modules": ["q_proj", "lm_head"]},
            None,
            {"target_modules": "all-linear"},
            "lm_head.lora",
            "1 layer that `target_modules` does not name (lm_head)",
        ),
    ],
)
def test_what_peft_ignores_is_called_idle(
    made: dict[str, Any],
    tensors: Callable[[dict[str, Tensor]], None] | None,
    settings: dict[str, Any],
    part: str,
    message: str,
    tmp_path: Path,
) -> None:
    folder = write_foreign(tmp_path / "theirs", **made)
    found = change(folder, tensors or (lambda state: None), settings)
    assert message in "; ".join(found.does_nothing)
    assert not moves(folder, part)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank_pattern": {"q_proj": 77}}, "2 layers of another rank than `r` 4 or `rank_pattern`"),
        (
            {"modules_to_save": ["lm_head"]},
            "1 module named in `modules_to_save` without weights (lm_head)",
        ),
        ({"trainable_token_indices": [1]}, "`trainable_token_indices` is set, and there are no"),
        (
            {"target_modules": ".*proj", "layers_to_transform": [0]},
            "`layers_to_transform` is set, which PEFT refuses",
        ),
        ({"alpha_pattern": {"(": 1}}, "1 pattern that cannot be read (()"),
        ({"alpha_pattern": {"(x)\\2": 1}}, "1 pattern that cannot be read"),
    ],
)
def test_what_peft_refuses_is_called_wrong(
    settings: dict[str, Any], message: str, foreign: Path
) -> None:
    assert message in "; ".join(change(foreign, settings=settings).faults)
    with pytest.raises(Exception, match=r"."):  # of several kinds, and in words of PEFT's own
        logits(foreign)


def test_a_matrix_without_dimensions_is_wrong(foreign: Path) -> None:
    found = change(foreign, put(A, lambda _: torch.tensor(1.0)))
    assert "1 layer whose A or B is no matrix" in "; ".join(found.faults)


def test_dora_without_its_magnitudes_is_wrong(foreign: Path) -> None:
    """PEFT loads it, and answers with magnitudes of its own."""
    found = change(foreign, settings={"use_dora": True})
    assert "4 layers without the magnitude that `use_dora` needs" in found.faults[0]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("adapter_model.safetensors", b"\0" * 20, "is damaged"),
        ("adapter_config.json", b"{", "is damaged"),
        ("adapter_config.json", b'{"peft_type": "IA3"}', "its `peft_type` is 'IA3'"),
        ("adapter_config.json", b"[]", "`adapter_config.json`: Input should be an object"),
        ("adapter_config.json", b"[" * 100_000, "recursion limit exceeded"),
        ("adapter_config.json", b'{"r": [4]}', "`r`: Input should be a valid integer"),
        ("adapter_config.json", b'{"modules_to_save": 3}', "`modules_to_save`: Input should be a"),
        (
            "adapter_config.json",
            b'{"target_modules": [3]}',
            r"json`: `target_modules\.0`: Input should be a valid string\. Copy",
        ),
        (
            "adapter_config.json",
            b'{"lora_alpha": "x"}',
            r"json`: `lora_alpha`: Input should be a valid number\. Copy",
        ),
        (
            "adapter_config.json",
            b'{"target_modules": 3}',
            r"json`: `target_modules`: Input should be a valid array\. Copy",
        ),
        ("adapter_config.json", b'{"base_model_name_or_path": ["a"]}', "a valid string"),
    ],
)
def test_damaged_files_are_refused(file: str, content: bytes, message: str, foreign: Path) -> None:
    (foreign / file).write_bytes(content)
    with pytest.raises(AdapterError, match=message):
        read_structure(foreign)
    # The command says the same, whatever base it would load.
    shown = inspect(foreign, "--files")
    assert shown.exit_code == 1
    assert "Copy it again" in " ".join(shown.output.split()) or "is no LoRA" in shown.output


def test_a_byte_order_mark_is_no_damage(foreign: Path) -> None:
    """Editors on Windows may begin a file with one."""
    config = foreign / "adapter_config.json"
    config.write_bytes(codecs.BOM_UTF8 + config.read_bytes())
    assert read_structure(foreign).r == 4
    assert is_foreign(foreign, "another/base")


def test_a_pickle_is_not_opened(foreign: Path) -> None:
    (foreign / "adapter_model.safetensors").rename(foreign / "adapter_model.bin")
    with pytest.raises(AdapterError, match="which can run code"):
        read_structure(foreign)


def inspect(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["inspect", *map(str, arguments)])


def test_inspect_takes_an_adapter_of_another_base_without_loading_a_model(
    foreign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dnd_engine.cli.adapters.load_engine", None)
    shown = inspect(foreign)
    assert shown.exit_code == 0, shown.output
    assert "4 adapted layers: q_proj 2, v_proj 2" in shown.output
    assert "not compared with its base" in shown.output
    assert "A loader uses all of it." in shown.output
    change(foreign, put(B, torch.zeros_like))
    part = inspect(foreign)
    assert part.exit_code == 0, part.output
    assert "v_proj 2; 3 of them change the base, the others are zero" in part.output
    change(foreign, settings={"lora_alpha": 0})
    idle = inspect(foreign, "--json")
    assert idle.exit_code == 1
    assert json.loads(idle.stdout)["works"] is False


@pytest.mark.parametrize(
    "config",
    [
        b"[" * 100_000,
        b"[]",
        b'{"base_model_name_or_path": ["a"]}',
        b'{"base_model_name_or_path": ""}',
    ],
)
def test_an_adapter_without_a_readable_base_is_left_to_the_reader(
    config: bytes, foreign: Path
) -> None:
    (foreign / "adapter_config.json").write_bytes(config)
    assert not is_foreign(foreign, "someone/llama")


def test_inspect_says_what_only_peft_applies(tmp_path: Path) -> None:
    shown = inspect(write_foreign(tmp_path / "theirs", use_dora=True))
    assert shown.exit_code == 0, shown.output
    assert "Used by PEFT, not by the engines that people serve with: 4 keys of DoRA" in shown.output
    assert "Engines cannot serve it: `use_dora` is set to True" in shown.output
    assert "PEFT uses all of it." in shown.output
    ranked = inspect(write_foreign(tmp_path / "high", r=64), "--json")
    found = json.loads(ranked.stdout)["engines"]
    assert found["refuse"] == []
    assert "--max-lora-rank 64" in found["warnings"][0]


def test_inspect_compares_with_a_base_whose_sizes_are_shipped(foreign: Path) -> None:
    change(foreign, settings={"base_model_name_or_path": "Qwen/Qwen2.5-0.5B-Instruct"})
    shown = inspect(foreign)
    assert shown.exit_code == 1
    assert "compared with the layers of Qwen/Qwen2.5-0.5B-Instruct" in shown.output
    assert "Wrong: 4 layers of another size than the base's" in shown.output


def test_inspect_compares_with_a_base_that_is_here(
    foreign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the user's folder or the Hub's cache; a folder that the adapter names is a stranger's."""
    wide = {**CONFIG, "hidden_size": 128}
    for name, values in (("same", CONFIG), ("wide", wide), ("gpt2", {"model_type": "gpt2"})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(values))
    fits = inspect(foreign, "--base", tmp_path / "same")
    assert fits.exit_code == 0, fits.output
    assert f"compared with the layers of {tmp_path / 'same'}" in fits.output
    wrong = inspect(foreign, "--base", tmp_path / "wide", "--files")
    assert wrong.exit_code == 1
    assert "Wrong: 4 layers of another size than the base's" in wrong.output
    assert "not compared" in inspect(foreign, "--base", tmp_path / "gpt2").output
    config = str(tmp_path / "wide" / "config.json")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda base, file: config)
    assert "compared with the layers of someone/llama" in inspect(foreign).output
    monkeypatch.undo()
    change(foreign, settings={"base_model_name_or_path": str(tmp_path / "wide")})
    assert "not compared" in inspect(foreign).output


def test_files_of_a_zip_can_be_checked_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_adapter().save(tmp_path / "ours.zip")
    shown = inspect(path, "--files")
    assert shown.exit_code == 0, shown.output
    monkeypatch.setenv("HOME", str(tmp_path))
    assert inspect(Path("~/ours.zip"), "--files").exit_code == 0
    library = Library(tmp_path / "library")
    library.add(make_adapter(), "my one")
    kept = inspect(Path("my one"), "--files", "--library", library.root)
    assert (kept.exit_code, kept.output[-200:]) == (0, shown.output[-200:])
    missing = inspect(tmp_path / "nothing", "--files")
    assert missing.exit_code == 1
    assert "no adapter at" in missing.output
    shutil.unpack_archive(path, tmp_path / "ours")
    assert inspect(tmp_path / "ours", "--files").exit_code == 0
