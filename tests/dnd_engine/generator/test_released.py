"""The authors' `.pth` files become generator folders that compute what the authors' code computes.

Their own files were not to be had: the tests write files with their code's names and shapes.
"""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi, ModelInfo
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer, GPT2Config
from typer.testing import CliRunner

from dnd_engine import engine as engine_module
from dnd_engine.cli import app
from dnd_engine.config import EngineConfig
from dnd_engine.engine import Engine
from dnd_engine.errors import BaseMismatchError, GeneratorError
from dnd_engine.generator import released
from dnd_engine.generator.config import GeneratorConfig
from dnd_engine.generator.folder import Generator, GeneratorFolder
from dnd_engine.generator.hyperconv import HyperConvDecoder
from dnd_engine.generator.released import convert, read_released
from dnd_engine.generator.stage import Stage
from dnd_engine.lora.layout import LoRALayout, LoRASpec, Target
from dnd_engine.lora.weight_tokens import destandardise, detokenize
from dnd_engine.models import sources
from dnd_engine.models.sources import ENCODERS, resolve
from dnd_engine.plan.shapes import shipped_shapes
from tests.dnd_engine.tiny import CPU, bucket, make_adapter, save_tiny_encoder

DATA = Path(__file__).parents[2] / "data"
ENCODER = "all-minilm-l6-v2"
STAGES: tuple[Stage, ...] = ((4, 24, 384), (6, 9, 20), (64, 6, 34))
"""For the tiny base: prompts of 24 tokens, and its grid (64, 4, 32) with the authors' border."""


def state(stages: tuple[Stage, ...] = STAGES, kernel_size: int = 3) -> dict[str, Tensor]:
    """What the authors' training scripts save, random."""
    torch.manual_seed(0)
    decoder = HyperConvDecoder(stages, kernel_size)
    weights = {f"model.{name}": value for name, value in decoder.state_dict().items()}
    return {"criterion_weight": torch.ones(1, stages[-1][0], 1, 1), **weights}


PROJECTING: tuple[Stage, ...] = ((4, 24, 16), (6, 9, 20), (64, 6, 34))
READS = 96
"""Tokens that are projected to 24, in pieces of 32 which the tiny encoder reads at once."""


def projecting_state(reads: int = READS, length: int = 24) -> dict[str, Tensor]:
    """What their scripts for 1.5B and 7B save: the projection stands beside `model`."""
    saved = state(PROJECTING)
    sizes = {"down_proj": (length, reads), "gate_proj": (length, length)}
    for name, size in sizes.items():
        saved[f"{name}.weight"], saved[f"{name}.bias"] = torch.randn(size), torch.randn(length)
    return saved


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.save(state(), tmp_path / "ARC-c.pth")
    return tmp_path / "ARC-c.pth"


# Parity with the authors: numbers of their release (see tests/data/README.md), tolerance 1e-5.


@pytest.mark.parametrize("case", ["a", "b", "c"])
def test_the_authors_weights_in_their_file_give_their_output(case: str, tmp_path: Path) -> None:
    """Stages and kernel are found from the shapes alone."""
    meta = json.loads((DATA / "hyperconv_parity.json").read_text())[case]
    tensors = load_file(DATA / "hyperconv_parity.safetensors")
    prefix = f"{case}.weights."
    weights = {
        f"model.{k.removeprefix(prefix)}": v for k, v in tensors.items() if k.startswith(prefix)
    }
    torch.save(weights, tmp_path / "case.pth")
    found = read_released(tmp_path / "case.pth")
    assert [list(stage) for stage in found.features] == meta["features"]
    decoder = HyperConvDecoder(found.features, found.kernel_size)
    decoder.load_state_dict(found.weights)
    output = decoder(tensors[f"{case}.condition"])
    torch.testing.assert_close(output, tensors[f"{case}.output"], atol=1e-5, rtol=0)


class Fixed(nn.Module):
    """A decoder that writes the same tokens for every condition."""

    def __init__(self, tokens: Tensor) -> None:
        super().__init__()
        self.tokens = tokens

    def forward(self, condition: Tensor) -> Tensor:
        """(batch, tokens, rows, columns)."""
        return self.tokens.expand(len(condition), *self.tokens.shape)


def test_tokens_of_the_authors_decoder_become_the_authors_lora() -> None:
    """Through the generator, for two conditions at once; noise makes their border cells differ."""
    tensors = load_file(DATA / "qwen2.5-0.5b_tokens_parity.safetensors")
    layout = LoRALayout(
        spec=LoRASpec(r=8, lora_alpha=16, target_modules=("q_proj", "k_proj")),
        targets=(Target(0, "q_proj", 896, 896), Target(0, "k_proj", 896, 128)),
    )
    generator = Generator(
        GeneratorConfig(
            features=((1, 2, 3), layout.grid("standardised")),
            kernel_size=1,
            layout=layout,
            tokens="standardised",
            delta_scale=1.0,
        )
    )
    generator.shared.data.zero_()
    # Only q's noisy tokens are pinned.
    tokens = torch.cat([tensors["noisy_tokens"][:14], tensors["tokens"][14:]])
    generator.decoder = Fixed(tokens)
    for plain in generator(torch.zeros(2, 1, 2, 3)):
        found = detokenize(plain, layout)
        for key in list(found)[:2]:
            expected = tensors[f"detokenized_noisy.{key}"]
            torch.testing.assert_close(found[key], expected, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_a_converted_decoder_writes_what_the_authors_pipeline_does(
    file: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the command line, then by the engine as any generator, which names its own encoder.

    What is expected is computed apart from both: the tokenizer pads to one length, the encoder's
    states are read at every position, padding too, and the decoder's tokens are read back.
    """
    out = tmp_path / "made"
    options = ["--out", str(out), "--base", str(tiny_folder), "--encoder", ENCODER, "--json"]
    done = CliRunner().invoke(app, ["convert", str(file), *options])
    assert done.exit_code == 0, done.output
    opened = GeneratorFolder.open(out)
    assert json.loads(done.stdout)["sha256"] == opened.sha256
    assert opened.config.encoder["id"] == "sentence-transformers/all-MiniLM-L6-v2"

    prompts = [f"{'Sort the words by length. ' * i}Number {i}" for i in range(4)]
    monkeypatch.setattr(engine_module, "best_dtype", lambda device: torch.float32)
    engine = Engine.load(EngineConfig(base=str(tiny_folder), generator=out, device="cpu"))
    made = engine.generate([bucket("sort", prompts)], imprinted=False)

    folder = resolve(ENCODER, ENCODERS).path
    ids = AutoTokenizer.from_pretrained(folder)(
        sorted(prompts), padding="max_length", truncation=True, max_length=24, return_tensors="pt"
    )
    assert not ids["attention_mask"].all()
    decoder = HyperConvDecoder(STAGES, 3)
    weights = {k.removeprefix("model."): v for k, v in state().items() if k.startswith("model.")}
    decoder.load_state_dict({k: v.bfloat16().float() for k, v in weights.items()})
    with torch.inference_mode():
        condition = AutoModel.from_pretrained(folder)(**ids).last_hidden_state
        expected = destandardise(decoder(condition[None])[0])
    # Adapters hold bfloat16, which has eight bits.
    torch.testing.assert_close(made.tokens.float(), expected, atol=1e-4, rtol=0.01)
    assert expected.std() > 0.01
    assert made.nearest_tasks == ()
    assert "The authors' decoder for" in engine.card
    assert "Not examined yet" in engine.card


@pytest.fixture
def reads_pieces(tmp_path: Path) -> Path:
    """A text encoder that reads 32 tokens at once."""
    return save_tiny_encoder(tmp_path / "encoder")


def test_a_decoder_that_projects_writes_what_the_authors_pipeline_does(
    tiny_folder: Path, reads_pieces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their steps, computed apart: ids in pieces, states, reshape, projection, reshape, decoder."""
    saved = projecting_state()
    torch.save(saved, tmp_path / "Coding.pth")
    base, encoder = str(tiny_folder), str(reads_pieces)
    folder = convert(tmp_path / "Coding.pth", tmp_path / "made", base=base, encoder=encoder)
    assert (folder.config.reads_tokens, folder.config.num_prompts) == (READS, 4)
    assert "4 prompts of 24 vectors, 16 wide, projected from 96 tokens" in folder.card()

    prompts = ["a", "b c d " * 9, "e" * 30, "f " * 300]
    monkeypatch.setattr(engine_module, "best_dtype", lambda device: torch.float32)
    engine = Engine.load(
        EngineConfig(base=base, encoder=encoder, generator=folder.path, device="cpu")
    )
    made = engine.generate([bucket("code", prompts)], imprinted=False)

    ids = AutoTokenizer.from_pretrained(reads_pieces)(
        sorted(prompts), padding="max_length", truncation=True, max_length=READS,
        return_tensors="pt",
    )  # fmt: skip
    assert ids["attention_mask"].sum(dim=1).tolist() == [3, 29, 32, 96]
    pieces = {k: ids[k].view(4, 3, 32).view(12, 32) for k in ("input_ids", "attention_mask")}
    rounded = {name: value.bfloat16().float() for name, value in saved.items()}
    decoder = HyperConvDecoder(PROJECTING, 3)
    decoder.load_state_dict(
        {k.removeprefix("model."): v for k, v in rounded.items() if k.startswith("model.")}
    )
    with torch.inference_mode():
        states = AutoModel.from_pretrained(reads_pieces)(**pieces).last_hidden_state
        rows = states.view(1, 4, READS, 16).view(1, 4, 16, READS)
        for name in ("down_proj", "gate_proj"):
            rows = nn.functional.linear(rows, rounded[f"{name}.weight"], rounded[f"{name}.bias"])
        expected = destandardise(decoder(rows.view(1, 4, 24, 16))[0])
    # Adapters hold bfloat16, which has eight bits.
    torch.testing.assert_close(made.tokens.float(), expected, atol=1e-4, rtol=0.01)
    assert expected.std() > 0.01
    assert engine.verify(made, made.files()) <= 0.05


def test_what_was_projected_is_kept_for_its_own_generator_alone(
    tiny_folder: Path, reads_pieces: Path, tmp_path: Path
) -> None:
    """A visit's memory outlives a change of models."""
    memory, made = Engine.new_memory(), []
    for number in range(2):
        saved = projecting_state()
        saved["down_proj.weight"] *= 1 + number
        torch.save(saved, tmp_path / f"{number}.pth")
        base, encoder = str(tiny_folder), str(reads_pieces)
        folder = convert(
            tmp_path / f"{number}.pth", tmp_path / f"{number}", base=base, encoder=encoder
        )
        engine = Engine.load(
            EngineConfig(base=base, encoder=encoder, generator=folder.path, device="cpu")
        )
        prompts = [bucket("code", ["a", "b", "c", "d"])]
        made.append(engine.generate(prompts, imprinted=False, memory=memory).sha256)
        assert made[-1] == engine.generate(prompts, imprinted=False).sha256
    assert made[0] != made[1]
    one = 4 * 24 * 16 + 24 + 4 * 16
    assert memory.num_bytes == 8 * one, "only what the decoders read is kept"


@pytest.fixture
def qwen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder with the sizes of the authors' base, and next to no weights."""
    folder = tmp_path / "qwen"
    folder.mkdir()
    shape = dict(shipped_shapes()["Qwen/Qwen2.5-0.5B-Instruct"])
    (folder / "config.json").write_text(json.dumps(shape))
    save_file({"a": torch.zeros(1)}, folder / "model.safetensors")
    monkeypatch.setattr(released, "_fingerprint", lambda weights: {"norms": [1.0]})
    return str(folder)


def test_a_decoder_for_the_authors_base_makes_a_whole_lora(qwen: str, tmp_path: Path) -> None:
    """All 4,296 tokens of the true size; fewer prompts, channels and stages than theirs."""
    stages: tuple[Stage, ...] = ((2, 384, 384), (3, 10, 20), (4296, 10, 130))
    torch.save(state(stages), tmp_path / "decoder.pth")
    folder = convert(tmp_path / "decoder.pth", tmp_path / "made", base=qwen, encoder=ENCODER)
    layout = folder.config.layout
    assert (layout.spec.r, layout.spec.lora_alpha) == (8, 16)
    generator = folder.load(CPU, torch.float32)
    condition = torch.randn(1, *stages[0])
    tokens = generator(condition)[0]
    assert torch.equal(tokens, destandardise(generator.decoder(condition)[0]))
    lora = detokenize(tokens, layout)
    assert len(lora) == 24 * 7 * 2
    assert sum(value.numel() for value in lora.values()) == 4_399_104


# What is refused


class Code:
    """Runs something when it is unpickled by a reader that allows it."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return print, ("run",)


def changed(**changes: Tensor | None) -> Callable[[Path], None]:
    """Save the state with other or without some values, named by their ends."""

    def write(path: Path) -> None:
        values = state()
        for end, value in changes.items():
            name = f"model.decoder.module_list.{end.replace('__', '.')}"
            if value is None:
                del values[name]
            else:
                values[name] = value
        torch.save(values, path)

    return write


def saved(value: object, **options: bool) -> Callable[[Path], None]:
    return lambda path: torch.save(value, path, **options)


def packed(path: Path) -> None:
    """The same zip, compressed: a small file might grow without end."""
    torch.save(state(), path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)


def newer(path: Path) -> None:
    """A zip that says it needs a later version of the format."""
    torch.save(state(), path)
    data = path.read_bytes()
    place = data.index(b"PK\x01\x02") + 6
    path.write_bytes(data[:place] + b"\xff" + data[place + 1 :])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, r"there is no such file\."),
        (
            lambda path: path.write_bytes(b"\x80\x04"),
            r"it is not a zip, which `torch\.save`",
        ),
        (
            saved(state(), _use_new_zipfile_serialization=False),
            r"it is not a zip, which `torch\.save`",
        ),
        (newer, r"not a zip, .* \(zip file version 25\.5\)"),
        (packed, r"it is a zip, but not as `torch\.save` writes one\."),
        (saved({"a": Code()}), r"something other than weights \(it names GLOBAL \S*print\)"),
        (saved(torch.zeros(3)), r"expected a state dict, found a float32 tensor\."),
        (saved({}), r"expected a state dict, found a dict\."),
        (saved({"model": state(), "step": 3}), r"found 'model' \(a dict\), 'step' \(a int\)\."),
        (saved({3: torch.zeros(1)}), r"state dict of weights, found 3 \(a float32 tensor\)\."),
        (saved({"a": torch.zeros(1, dtype=torch.int64)}), r"found 'a' \(a int64 tensor\)\."),
        (saved({"a": torch.zeros(1).to_sparse()}), r"found 'a' \(a float32 tensor\)\."),
        (saved({"a": torch.zeros(1).expand(9**9)}), r"claims 1,549,681,956 bytes of weights, more"),
        (
            saved(state() | {"down_proj.weight": torch.zeros(1, 1)}),
            r"missing: down_proj\.bias, gate_proj\.bias, gate_proj\.weight; unknown: none\.",
        ),
        (
            saved(projecting_state() | {"gate_proj.scale": torch.zeros(1)}),
            r"missing: none; unknown: gate_proj\.scale\.",
        ),
        (
            saved(projecting_state(length=23)),
            r"down_proj\.weight is \(23, 96\), expected \(24, 96\), down_proj\.bias is \(23,\)",
        ),
        (
            saved(projecting_state() | {"gate_proj.weight": torch.zeros(24, 96)}),
            r"wrong shape: gate_proj\.weight is \(24, 96\), expected \(24, 24\)\.",
        ),
        (
            saved(projecting_state() | {"down_proj.weight": torch.zeros(())}),
            r"wrong shape: down_proj\.weight is \(\), expected \(24, 1\)\.",
        ),
        (
            saved(projecting_state() | {"down_proj.weight": torch.zeros(24, 96, 1)}),
            r"wrong shape: down_proj\.weight is \(24, 96, 1\), expected \(24, 1\)\.",
        ),
        (
            saved(projecting_state() | {"gate_proj.bias": torch.full((24,), float("inf"))}),
            r"NaN or infinite: gate_proj\.bias\.",
        ),
        (
            changed(**{"1__linear2__bias": None, "0__extra": torch.zeros(1)}),
            r"weights missing: decoder\.module_list\.1\.linear2\.bias; unknown: "
            r"decoder\.module_list\.0\.extra\.",
        ),
        (
            saved({"condition_module.a": torch.zeros(1)}),
            r"missing: decoder\.module_list\.0\.linear1\.bias, .*; unknown: condition_module\.a\.",
        ),
        (saved({"\x1b[2J" * 99: torch.zeros(1)}), r"unknown: (\[2J){33}…\."),
        (
            changed(**{"0__linear1__conv1w__weight": torch.zeros(20, 384, 5, 5)}),
            r"wrong shape: decoder\.module_list\.0\.linear1\.conv1w\.weight is "
            r"\(20, 384, 5, 5\), expected \(20, 384, 3, 3\)\.",
        ),
        (
            changed(**{"1__linear1__bias": torch.zeros(3)}),
            r"do not have the dimensions of convolutions\.",
        ),
        (
            changed(**{"0__linear2__weight": torch.zeros(())}),
            r"do not have the dimensions of convolutions\.",
        ),
        (
            changed(**{"1__linear2__bias": torch.full((64,), float("nan"))}),
            r"NaN or infinite: decoder\.module_list\.1\.linear2\.bias\.",
        ),
    ],
)
def test_what_is_no_decoder_is_refused_before_anything_else_loads(
    tmp_path: Path,
    write: Callable[[Path], None],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(path := tmp_path / "hostile.pth")
    with pytest.raises(GeneratorError, match=rf"hostile\.pth` is not a decoder .*: .*{message}"):
        convert(path, tmp_path / "made", base="example/not-to-be-had")
    assert not capsys.readouterr().out
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (
            ((4, 24, 384), (64, 6, 33)),
            r"writes \(tokens, rows, columns\) \(64, 6, 33\), and a LoRA of rank 4 for `.*` has "
            r"\(64, 6, 34\)",
        ),
        (((4, 24, 384), (64, 1, 34)), r"a LoRA of rank 1 for"),
        (((4, 24, 300), (64, 6, 34)), r"reads 24 tokens of a prompt, 300 wide; `all-minilm-l6-v2`"),
        (((4, 513, 384), (64, 6, 34)), r"reads 513 tokens .* at most 512 tokens, 384 wide\."),
    ],
)
def test_another_base_or_encoder_is_refused(
    stages: tuple[Stage, ...], message: str, tiny_folder: Path, tmp_path: Path
) -> None:
    torch.save(state(stages, 1), tmp_path / "a.pth")
    with pytest.raises(BaseMismatchError, match=message):
        convert(tmp_path / "a.pth", tmp_path / "made", base=str(tiny_folder), encoder=ENCODER)


@pytest.mark.parametrize(
    ("reads", "message"),
    [
        (100, r"reads 100 tokens of a prompt, 16 wide; `.*encoder` gives pieces of 32 tokens, 16"),
        (65_568, r"`reads_tokens` must hold whole numbers between 1 and 65,536, got 65568\."),
        (0, r"wrong shape: down_proj\.weight is \(24, 0\), expected \(24, 1\)\."),
    ],
)
def test_a_projection_that_no_encoder_can_fill_is_refused(
    reads: int, message: str, tiny_folder: Path, reads_pieces: Path, tmp_path: Path
) -> None:
    torch.save(projecting_state(reads), tmp_path / "a.pth")
    base, encoder = str(tiny_folder), str(reads_pieces)
    with pytest.raises((BaseMismatchError, GeneratorError), match=message):
        convert(tmp_path / "a.pth", tmp_path / "made", base=base, encoder=encoder)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("command", ["convert", "import"])
def test_a_base_of_the_hub_that_is_not_supported_is_refused_before_it_is_downloaded(
    command: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    GPT2Config(n_layer=1, n_embd=8, n_head=1).save_pretrained(tmp_path / "base")
    made: Any = ModelInfo  # its constructor has no types
    files = [{"rfilename": "model.safetensors", "size": 10**9}]
    monkeypatch.setattr(HfApi, "model_info", lambda api, name, **_: made(id=name, siblings=files))
    monkeypatch.setattr(
        sources, "hf_hub_download", lambda name, file: str(tmp_path / "base" / file)
    )
    monkeypatch.setattr(
        sources, "snapshot_download", lambda *_, **__: pytest.fail("it was downloaded")
    )
    arguments = {
        "convert": [file, "--out", tmp_path / "made", "--encoder", ENCODER],
        "import": [make_adapter().save(tmp_path / "a.zip"), "--library", tmp_path / "library"],
    }[command]
    done = CliRunner().invoke(app, [command, *map(str, arguments), "--base", "somebody/gpt"])
    assert done.exit_code == 1
    assert "architecture 'gpt2' is not supported" in done.stderr


def test_a_place_that_is_taken_or_closed_is_refused(
    file: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(GeneratorError, match=r"ARC-c\.pth` exists\. Choose a new folder\."):
        convert(file, file, base=str(tiny_folder), encoder=ENCODER)
    with pytest.raises(GeneratorError, match=r"ARC-c\.pth/made` cannot be written: .*exists"):
        convert(file, file / "made", base=str(tiny_folder), encoder=ENCODER)


def test_a_decoder_larger_than_the_memory_is_refused_before_it_takes_any(
    qwen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(state(((1, 2, 384), (4296, 10, 130)), 1), tmp_path / "a.pth")
    folder = convert(tmp_path / "a.pth", tmp_path / "made", base=qwen, encoder=ENCODER)
    monkeypatch.setattr("dnd_engine.models.memory.free_bytes", lambda device: 1_000)
    with pytest.raises(OSError, match=r"the generator `.*made` needs about 0\.0 GB of memory, and"):
        folder.load(CPU, torch.float32)


def test_conversion_is_the_same_every_time(file: Path, tiny_folder: Path, tmp_path: Path) -> None:
    one, other = (
        convert(file, tmp_path / name, base=str(tiny_folder), encoder=ENCODER) for name in "ab"
    )
    assert one.config == other.config
    assert one.sha256 == other.sha256
