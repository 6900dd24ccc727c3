"""What can be loaded is listed with its size, and only the Hub is asked where only it knows."""

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, ModelInfo
from huggingface_hub.utils import httpx  # type: ignore[attr-defined]  # public, but not typed

from dnd_engine.config import NO_GENERATOR, EngineConfig
from dnd_engine.errors import AssetError, GeneratorError
from dnd_engine.generator.folder import GeneratorFolder
from dnd_engine.generator.installed import (
    Availability,
    availability,
    encoder_name,
    installed,
    loaded_choice,
)
from dnd_engine.models.sources import BASES
from tests.dnd_engine.test_engine import write_generator

EMBEDDED = "smollm2-135m-instruct"

CODER = "Qwen/Qwen2.5-Coder-0.5B-Instruct"
"""Its generator is shipped, its weights are not."""


@pytest.fixture(autouse=True)
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the Hub."""
    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.utils._cache_manager.HF_HUB_CACHE", str(cache))
    return cache


@pytest.fixture(autouse=True)
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the user's own generators, which is not there yet."""
    monkeypatch.setattr("dnd_engine.generator.installed.user_folder", lambda name: tmp_path / name)
    return tmp_path / "generators"


def test_what_is_shipped_comes_first_and_every_base_goes_alone_too(
    tiny_folder: Path, mine: Path, caplog: pytest.LogCaptureFixture
) -> None:
    written = write_generator(tiny_folder, mine / "tiny")
    (mine / "broken").mkdir()
    dangling = write_generator(tiny_folder, mine / "dangling")
    (dangling / "model-2.safetensors").symlink_to(mine / "nowhere")
    config = EngineConfig(base=str(tiny_folder), generator=written)
    found = installed(config)
    assert [(one.base, one.generator and one.generator.name) for one in found] == [
        (str(tiny_folder), "tiny"),
        (EMBEDDED, EMBEDDED),
        (CODER, "qwen2.5-coder-0.5b-instruct"),
        (str(tiny_folder), None),
        (EMBEDDED, None),
        (CODER, None),
    ], "the loaded one by the name that it was loaded by"
    assert found[1].base_name == "SmolLM2-135M-Instruct"
    assert found[0].generator_bytes == (written / "model.safetensors").stat().st_size
    assert "broken" in caplog.text, "the log says what is not offered"
    assert loaded_choice(config).key == found[0].key
    assert loaded_choice(EngineConfig()).key == found[1].key
    alone = EngineConfig(base=BASES[EMBEDDED].hub_id, generator=NO_GENERATOR)
    assert loaded_choice(alone).key == found[4].key
    assert [one.is_lora for one in found] == [False, False, True, False, False, False]


def test_the_generators_encoder_is_loaded_unless_another_is_asked_for(
    tiny_folder: Path, tmp_path: Path
) -> None:
    own, other, overlong = (
        GeneratorFolder.open(write_generator(tiny_folder, tmp_path / name, encoder=encoder))
        for name, encoder in (
            ("own", {"id": "sentence-transformers/all-MiniLM-L6-v2"}),
            ("other", {"id": "sentence-transformers/all-MiniLM-L12-v2"}),
            ("overlong", {"id": f"user/{'x' * 5000}"}),
        )
    )
    assert encoder_name(EngineConfig(), None) == "all-minilm-l6-v2"
    assert encoder_name(EngineConfig(), own) == "all-minilm-l6-v2", "as it is embedded"
    assert encoder_name(EngineConfig(), other) == "sentence-transformers/all-MiniLM-L12-v2"
    assert encoder_name(EngineConfig(encoder="mine"), other) == "mine"
    assert encoder_name(EngineConfig(), overlong) == f"user/{'x' * 5000}", "the Hub may refuse it"


@pytest.mark.slow
def test_a_generator_does_not_choose_a_folder_of_this_computer_as_its_encoder(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here" / "encoder").mkdir(parents=True)
    for number, named in enumerate((str(tmp_path), "./x", "../a/b", "~/x", "here/encoder")):
        written = write_generator(tiny_folder, tmp_path / f"made{number}", encoder={"id": named})
        opened = GeneratorFolder.open(written)
        with pytest.raises(GeneratorError, match=r"which is no id of the Hub.*--encoder"):
            encoder_name(EngineConfig(), opened)
        assert encoder_name(EngineConfig(encoder="mine"), opened) == "mine", "its user may"


def test_what_an_encoder_adds_must_be_downloaded_too() -> None:
    base = Availability(num_bytes=5, download_bytes=0)
    assert base.with_part(Availability(num_bytes=1, download_bytes=3)).download_bytes == 3
    assert base.with_part(Availability(num_bytes=None, download_bytes=None)).download_bytes is None


def test_a_loaded_generator_that_is_named_by_a_dot_is_offered_by_the_name_of_its_folder(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write_generator(tiny_folder, tmp_path / "mine"))
    offered = installed(EngineConfig(base=str(tiny_folder), generator=Path()))
    assert offered[0].generator == tmp_path / "mine"


def test_a_generator_elsewhere_is_listed_while_it_is_loaded(
    tiny_folder: Path, tmp_path: Path
) -> None:
    written = write_generator(tiny_folder, tmp_path / "run" / "generator")
    config = EngineConfig(base=str(tiny_folder), generator=written)
    assert written in [one.generator for one in installed(config)]
    assert written not in [one.generator for one in installed()]


def test_models_that_the_hub_left_here_are_listed_if_they_are_supported(hub_cache: Path) -> None:
    for name, told in (
        ("a/llama", '{"model_type": "llama"}'),
        ("b/bert", '{"model_type": "bert"}'),
        ("c/damaged", '{"model_ty'),
        ("d/list", "[]"),
        ("e/odd", '{"model_type": []}'),
    ):
        folder = hub_cache / f"models--{name.replace('/', '--')}" / "snapshots" / ("0" * 40)
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(told)
        (folder / "model.safetensors").write_bytes(b"x" * 100)
    bases = [one.base for one in installed()]
    assert bases == [EMBEDDED, CODER, EMBEDDED, CODER, "a/llama"]


def test_sizes_are_those_of_the_files(tiny_folder: Path, tmp_path: Path) -> None:
    wheel = availability(EMBEDDED, tmp_path / "empty")
    assert (wheel.num_bytes, wheel.download_bytes) == (None, BASES[EMBEDDED].download_bytes)
    folder = availability(str(tiny_folder))
    assert folder.num_bytes == (tiny_folder / "model.safetensors").stat().st_size
    assert folder.download_bytes == 0
    file = tmp_path / "some.gguf"
    file.write_bytes(b"12345")
    assert availability(str(file)).num_bytes == 5
    unknown = availability("somebody/something")
    assert (unknown.num_bytes, unknown.download_bytes) == (None, None)


@pytest.mark.parametrize("base", ["/no/such/folder", "./none", "~/nothing-here", "~nobody-here/x"])
def test_a_place_without_a_model_is_refused(base: str) -> None:
    with pytest.raises(AssetError, match="no model at"):
        availability(base)


@pytest.mark.parametrize("base", [f"/{'x' * 5000}", "y" * 5000])
def test_an_overlong_base_is_refused_while_it_is_typed(base: str) -> None:
    with pytest.raises(AssetError, match=r"cannot be read: File name") as no:
        availability(base)
    assert len(str(no.value)) < 400


def test_a_hub_that_cannot_be_reached_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise httpx.ConnectError("no route")

    monkeypatch.setattr(HfApi, "model_info", offline)
    with pytest.raises(AssetError, match="nor does the Hub say what it is: no route"):
        availability("somebody/something", ask_hub=True)


def test_the_hub_is_asked_only_if_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssetError, match="neither here nor does the Hub say"):
        availability("somebody/something", ask_hub=True)
    sizes = {"model.safetensors": 100, "config.json": 7, "pytorch_model.bin": 900, "a.png": 50}
    sizes["consolidated.safetensors"] = 100
    files = [{"rfilename": name, "size": size} for name, size in sizes.items()]
    made: Any = ModelInfo  # its constructor has no types
    monkeypatch.setattr(HfApi, "model_info", lambda self, name, **_: made(id=name, siblings=files))
    found = availability("somebody/something", ask_hub=True)
    assert (found.num_bytes, found.download_bytes) == (100, 107), "what would be fetched"
    del files[0], files[-1]
    with pytest.raises(AssetError, match=r"no \.safetensors weights"):
        availability("somebody/something", ask_hub=True)
