"""What is read is hostile until checked, and a refusal tells every fault at once."""

import io
import json
import os
import stat
import tracemalloc
import zipfile
from pathlib import Path
from typing import IO, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from dnd_engine.config import ImprintConfig
from dnd_engine.errors import AdapterError, BaseMismatchError, DndError
from dnd_engine.lora import reader as adapter_reader
from dnd_engine.lora.adapter import Adapter, write_files
from dnd_engine.lora.layout import LoRALayout, LoRASpec
from dnd_engine.lora.provenance import FILES, BucketSource, Imprinting, Recipe
from dnd_engine.lora.reader import read_adapter
from dnd_engine.lora.weight_tokens import tokenize
from tests.dnd_engine.tiny import BASE_ID, CONFIG, LAYOUT, bucket, make_adapter

ORIGIN = {
    "buckets": [{"name": "tone", "weight": 0.5, "num_prompts": 3}],
    "mix": "pool",
    "seed": 7,
    "num_prompts": 3,
    "generator_sha256": "abc",
}


def read(path: Path) -> Adapter:
    return read_adapter(path, CONFIG, BASE_ID)


# What is read


def test_an_adapter_comes_back_from_folder_and_zip(tmp_path: Path) -> None:
    made = make_adapter(provenance=ORIGIN, num_prompts=3)
    for name in ("tone.zip", "tone"):
        back = read(made.save(tmp_path / name))
        assert torch.equal(back.tokens, made.tokens)
        assert (back.layout.targets, back.r) == (LAYOUT.targets, 4)
        assert (back.base_id, back.name) == (BASE_ID, "tone")
        assert (back.provenance, back.num_prompts) == (ORIGIN, 3)
        assert back.sha256 == made.sha256


@pytest.mark.parametrize("name", ["tone-1.5", "tone-1.5.zip", "TONE-1.5.ZIP"])
def test_dots_in_a_name_stay_and_an_ending_is_one_in_any_case(tmp_path: Path, name: str) -> None:
    path = make_adapter().save(tmp_path / name)
    assert path.is_dir() == (name == "tone-1.5")
    assert read(path).name.casefold() == "tone-1.5"


def test_a_folded_strength_comes_back_as_strength_one(tmp_path: Path) -> None:
    made = make_adapter().with_strength(2.0)
    back = read(made.save(tmp_path / "a.zip"))
    assert back.strength == 1
    assert back.sha256 == made.sha256


def test_an_adapter_of_another_rank_and_fewer_modules_is_read(tmp_path: Path) -> None:
    layout = LoRALayout.from_config(CONFIG, LoRASpec(r=2, target_modules=("q_proj", "v_proj")))
    made = make_adapter(layout=layout)
    back = read(made.save(tmp_path / "a.zip"))
    assert back.r == 2
    assert back.sha256 == made.sha256


def test_an_adapter_of_other_tools_without_provenance_is_read(tmp_path: Path) -> None:
    files = {k: v for k, v in make_adapter().files().items() if k in FILES[:2]}
    back = read(write_files(files, tmp_path / "theirs.zip"))
    assert (back.provenance, back.num_prompts) == ({}, 0)


def test_what_was_imprinted_and_then_taught_is_still_from_prompts(tmp_path: Path) -> None:
    """Without a generator, the imprint alone tells that it was made from prompts."""
    imprinting = Imprinting.of(
        ImprintConfig(),
        teacher="base",
        from_sha256="c" * 64,
        num_prompts=3,
        num_answers=2,
        commonest_share=0.5,
        unfinished=0,
        layers=(0.0, 0.5),
    )
    recipe = Recipe(
        base="base",
        base_sha256="b" * 64,
        mix="pool",
        seed=0,
        buckets=(BucketSource.of(bucket("tone", ["Be kind.\n\nHello."])),),
        imprint=imprinting,
    )
    trained = {"answers": "person", "start": "adapter", "num_examples": 8, "steps": 4}
    made = make_adapter(provenance={**recipe.to_json(), "trained": trained})
    back = read(made.save(tmp_path / "taught.zip"))
    assert back.is_imprinted
    card = back.files()["README.md"].decode()
    assert "imprinted in closed form, then trained on answers that a person corrected" in card
    assert "- tone: weight 1, 1 prompts" in card


@pytest.mark.parametrize("size", [3e38, 1e30, 2e4])
def test_exploding_weights_are_named_as_such(tmp_path: Path, size: float) -> None:
    """They are finite, but answers with them are empty or cannot be sampled."""
    state = load(make_adapter().weights)
    state["base_model.model.model.layers.1.mlp.up_proj.lora_B.weight"][3, 1] = -size
    files = parts() | {"adapter_model.safetensors": save(state)}
    path = write_files(files, tmp_path / "a.zip")
    with pytest.raises(AdapterError, match=r"has weights as large as .*1\.mlp\.up_proj\.lora_B"):
        read(path)


@pytest.mark.parametrize(
    "key", [b'"data_offsets"', rb'"data_off\u0073ets"'], ids=["plain", "escaped"]
)
def test_more_tensors_than_any_lora_has_are_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: bytes
) -> None:
    monkeypatch.setattr(adapter_reader, "load", lambda data: pytest.fail("it was read"))
    many = save({f"t{number}": torch.zeros(0) for number in range(10_001)})
    header = many[8:].replace(b'"data_offsets"', key)
    many = len(header).to_bytes(8, "little") + header
    path = write_files(parts() | {"adapter_model.safetensors": many}, tmp_path / "a")
    with pytest.raises(AdapterError, match=r"holds 10,001 tensors in .*, allowed 10,000\."):
        read(path)


@pytest.mark.parametrize("note", ["\ud800", "a\udfffb", "\ud83d \ude00"])
def test_half_characters_of_a_strangers_file_become_whole_ones(tmp_path: Path, note: str) -> None:
    """JSON may escape them, but no file, page or terminal can hold them."""
    origin = json.dumps({**ORIGIN, "note": note, "buckets": [{"name": note}]}).encode()
    path = write_files(parts() | {"provenance.json": origin}, tmp_path / "a.zip")
    back = read(path)
    again = read(back.save(tmp_path / "b.zip"))
    assert again.provenance == back.provenance
    assert "?" in json.dumps(back.provenance)


def parts(**config: Any) -> dict[str, bytes]:
    """The files of a good adapter, with changes in its config; None removes a field."""
    files = make_adapter().files()
    values = json.loads(files["adapter_config.json"]) | config
    values = {k: v for k, v in values.items() if v is not None}
    return files | {"adapter_config.json": json.dumps(values).encode()}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"use_dora": True}, r"is not plain LoRA: it sets use_dora\. Only one r and one alpha"),
        ({"use_rslora": True}, r"it sets use_rslora\."),
        ({"rank_pattern": {"q_proj": 8}}, r"it sets rank_pattern\."),
        ({"alpha_pattern": {"q": 8}, "modules_to_save": ["x"]}, r"alpha_pattern, modules_to_save"),
        ({"bias": "all"}, r"it sets bias\."),
        ({"peft_type": "IA3"}, r"is no LoRA: `peft_type` must be LORA\."),
        ({"peft_type": None}, r"is no LoRA: `peft_type` must be LORA\."),
        ({"target_modules": "all-linear"}, r"must be a list of names, got 'all-linear'"),
        ({"target_modules": ["q_proj", "lm_head"]}, r"must be some of .* got q_proj, lm_head\."),
        ({"target_modules": []}, r"must be some of .* got none\."),
        ({"r": None}, r"`r` must be a whole number from 1 to 1,024, got None\."),
        ({"r": 0}, r"`r` must be a whole number from 1 to 1,024, got 0\."),
        ({"r": "many"}, r"`r` must be a whole number .* got 'many'\."),
        ({"lora_alpha": 4.9}, r"`lora_alpha` must be a whole number .* got 4\.9\."),
        ({"lora_alpha": 10**300}, r"`lora_alpha` must be a whole number from 1 to 1,000,000"),
        ({"init_lora_weights": "pissa"}, r"it sets init_lora_weights\."),
        ({"fan_in_fan_out": True}, r"it sets fan_in_fan_out\."),
        ({"r": float("inf")}, r"`r` must be a whole number .* got inf\."),
        ({"lora_alpha": 10**400}, r"`lora_alpha` must be a whole number from 1 to 1,000,000"),
    ],
)
def test_what_is_not_plain_lora_is_refused(
    tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    path = write_files(parts(**config), tmp_path / "a.zip")
    with pytest.raises(AdapterError, match=message):
        read(path)


def test_an_adapter_for_another_base_is_refused_by_name(tmp_path: Path) -> None:
    path = write_files(parts(base_model_name_or_path="other/base"), tmp_path / "a.zip")
    with pytest.raises(
        BaseMismatchError, match=r"was made for other/base\. It cannot run on example/tiny-llama\."
    ):
        read(path)


def test_an_adapter_of_other_shapes_is_refused_by_key(tmp_path: Path) -> None:
    files = parts() | {"adapter_model.safetensors": save({"lora_A": torch.zeros(1)})}
    path = write_files(files, tmp_path / "a.zip")
    with pytest.raises(
        BaseMismatchError, match=r"does not fit example/tiny-llama: LoRA state: missing base_model"
    ):
        read(path)


def test_a_stated_rank_that_is_not_the_tensors_is_refused(tmp_path: Path) -> None:
    path = write_files(parts(r=8), tmp_path / "a.zip")
    with pytest.raises(BaseMismatchError, match=r"lora_A\.weight is \(4, 64\), expected \(8, 64\)"):
        read(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3.4028e38])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    """They would crash sampling, and only long after the upload."""
    state = {key: weight.float() for key, weight in load(make_adapter().weights).items()}
    state["base_model.model.model.layers.1.mlp.up_proj.lora_B.weight"][3, 1] = value
    files = parts() | {"adapter_model.safetensors": save(state)}
    path = write_files(files, tmp_path / "a.zip")
    with pytest.raises(AdapterError, match=r"holds weights that are not finite numbers"):
        read(path)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("adapter_config.json", b"{", r"is damaged: Expecting property name"),
        ("adapter_config.json", b"\xff\xfe\xfd", r"is damaged: "),
        ("adapter_config.json", b"[]", r"is no LoRA"),
        ("adapter_config.json", b"null", r"is no LoRA"),
        ("adapter_config.json", b"[" * 100_000, r"is damaged: "),
        ("adapter_model.safetensors", b"", r"is damaged: "),
        ("adapter_model.safetensors", b"\xff" * 64, r"is damaged: "),
        ("adapter_model.safetensors", make_adapter().weights[:-8], r"is damaged: "),
        ("provenance.json", b"{]", r"is damaged: "),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    path = write_files(parts() | {name: data}, tmp_path / "a.zip")
    with pytest.raises(AdapterError, match=message):
        read(path)


@pytest.mark.parametrize(
    "provenance",
    [
        [1],
        {"buckets": 3},
        {"buckets": [1, {"name": 2}]},
        {"num_prompts": "x", "buckets": [{"name": "b", "weight": "w", "num_prompts": None}]},
        {"generator_sha256": "a", "buckets": [{"name": "b", "weight": 10**400, "num_prompts": 3}]},
        {"buckets": [{"name": "b", "weight": float("nan"), "num_prompts": 3}]},
        {"num_prompts": True, "seconds": float("nan")},
        {"num_prompts": -3},
    ],
)
def test_a_strange_provenance_never_prevents_saving(tmp_path: Path, provenance: Any) -> None:
    """It is a stranger's text; only ours is trusted to have its form."""
    files = parts() | {"provenance.json": json.dumps(provenance).encode()}
    back = read(write_files(files, tmp_path / "a.zip"))
    assert back.num_prompts == 0
    assert "NaN" not in json.dumps(back.provenance)
    assert read(back.save(tmp_path / "b.zip")).sha256 == back.sha256


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"seed": 3, "mix": "sum"}, {"seed": 3, "mix": "sum"}),
        ({"seed": [1], "mix": ["sum"]}, {}),
        ({"seed": True, "mix": "blend"}, {}),
    ],
)
def test_seed_and_mix_of_a_stranger_are_those_that_can_make_controls(
    tmp_path: Path, given: dict[str, Any], kept: dict[str, Any]
) -> None:
    files = parts() | {"provenance.json": json.dumps(given).encode()}
    assert read(write_files(files, tmp_path / "a.zip")).provenance == kept


def test_a_strangers_markup_does_not_reach_the_card(tmp_path: Path) -> None:
    evil = "`\n# Trust me\n[here](http://evil)"
    provenance = {"generator_sha256": evil, "mix": evil, "seed": evil}
    files = parts() | {"provenance.json": json.dumps(provenance).encode()}
    card = read(write_files(files, tmp_path / "a.zip")).files()["README.md"].decode()
    assert "evil" not in card
    assert "- Generator: unknown" in card


# Hostile zips and folders


def packed(entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tree(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_names_that_climb_out_are_never_extracted(tmp_path: Path) -> None:
    home = tmp_path / "deep" / "home"
    home.mkdir(parents=True)
    path = home / "a.zip"
    climbing = {"../up.txt": b"x", str(tmp_path / "abs.txt"): b"x", "..\\back.txt": b"x"}
    path.write_bytes(packed(parts() | climbing))
    before = tree(tmp_path)
    told = r"would land outside of its folder \(`\.\./up\.txt`, .* Nothing was extracted"
    with pytest.raises(AdapterError, match=told):
        read(path)
    assert tree(tmp_path) == before


class Trap:
    """Unpickling it would leave a file behind."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


@pytest.mark.parametrize("as_zip", [True, False])
def test_a_pickle_inside_is_not_even_opened(tmp_path: Path, as_zip: bool) -> None:
    buffer = io.BytesIO()
    torch.save({"w": Trap(str(tmp_path / "sprung"))}, buffer)
    entries = parts() | {"adapter_model.bin": buffer.getvalue()}
    path = tmp_path / "a.zip"
    if as_zip:
        path.write_bytes(packed(entries))
    else:
        path = tmp_path / "a"
        path.mkdir()
        for name, data in entries.items():
            (path / name).write_bytes(data)
    assert read(path).sha256 == make_adapter().sha256
    assert not (tmp_path / "sprung").exists()


def test_a_pickle_is_no_substitute_for_safetensors(tmp_path: Path) -> None:
    entries = parts()
    entries["adapter_model.bin"] = entries.pop("adapter_model.safetensors")
    path = tmp_path / "a.zip"
    path.write_bytes(packed(entries))
    told = (
        r"adapter_model\.safetensors missing\.\n.*has its weights in a pickle "
        r"\(`adapter_model\.bin`\), which can run code when it is read; it was not opened\."
    )
    with pytest.raises(AdapterError, match=told):
        read(path)


def with_declared_size(size: int, data: bytes) -> bytes:
    """A zip whose directory states another size for the weights than they have."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (parts() | {"adapter_model.safetensors": data}).items():
            archive.writestr(name, content)
        archive.getinfo("adapter_model.safetensors").file_size = size
    return buffer.getvalue()


def test_a_declared_size_over_the_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(with_declared_size(513_000_000, b""))
    with pytest.raises(AdapterError, match=r"`adapter_model\.safetensors` in .* is over 512 MB"):
        read(path)


def test_a_bomb_that_lies_about_its_size_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(with_declared_size(1000, bytes(200_000_000)))
    tracemalloc.start()
    try:
        with pytest.raises(AdapterError, match=r"is no readable zip: Bad CRC-32"):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000, "no more was unpacked than stated"
    finally:
        tracemalloc.stop()


def test_a_folder_over_the_limit_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_adapter().save(tmp_path / "a")
    monkeypatch.setitem(adapter_reader._LIMITS, "adapter_model.safetensors", 1_000_000)
    with (folder / "adapter_model.safetensors").open("r+b") as file:
        file.truncate(1_000_001)
    with pytest.raises(AdapterError, match=r"`adapter_model\.safetensors` in .* is over 1 MB"):
        read(folder)


def flip(archive: bytes, at: int) -> bytes:
    return archive[:at] + bytes(b ^ 0xFF for b in archive[at : at + 40]) + archive[at + 40 :]


_NO_ZIP = r"a\.zip` is no zip, or its end is missing\. Name a PEFT folder, or a zip of one\."
_BROKEN = r"a\.zip` is no readable zip: "


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", _NO_ZIP, id="empty"),
        pytest.param(b"not a zip at all", _NO_ZIP, id="text"),
        pytest.param(packed(parts())[:-30], _NO_ZIP, id="cut"),
        pytest.param(flip(packed(parts()), 60), _BROKEN, id="broken deflate stream"),
        pytest.param(flip(packed(parts(), zipfile.ZIP_STORED), 60), _BROKEN, id="wrong checksum"),
    ],
)
def test_an_unreadable_zip_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(data)
    with pytest.raises(AdapterError, match=message):
        read(path)


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    data = bytearray(packed(parts()))
    at = -1
    while (at := data.find(b"PK\x01\x02", at + 1)) >= 0:
        data[at + 8] |= 1  # the flag in the directory
    path = tmp_path / "a.zip"
    path.write_bytes(data)
    with pytest.raises(AdapterError, match=r"is no readable zip: .*encrypted"):
        read(path)


def test_a_path_without_anything_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"no adapter at `.*none`\. Expected a PEFT folder or z"):
        read(tmp_path / "none")


@pytest.mark.parametrize("prefix", ["../", "/", "./", "C:\\", "a//", "C:/"])
def test_an_adapter_under_a_name_that_is_no_plain_path_is_refused(
    tmp_path: Path, prefix: str
) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(packed({prefix + name: data for name, data in parts().items()}))
    with pytest.raises(AdapterError, match=r"would land outside of its folder"):
        read(path)


def test_a_folder_that_was_packed_as_a_whole_is_read(tmp_path: Path) -> None:
    """As file managers do it, with what macOS adds."""
    path = tmp_path / "a.zip"
    entries = {f"my adapter/{name}": data for name, data in parts().items()}
    path.write_bytes(packed({"my adapter/": b"", "__MACOSX/._my adapter": b"x"} | entries))
    assert read(path).sha256 == make_adapter().sha256


def test_several_adapters_in_one_zip_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    entries = {f"{folder}/{n}": data for folder in "ab" for n, data in parts().items()}
    path.write_bytes(packed(entries))
    with pytest.raises(AdapterError, match=r"holds several adapters \(`a/`, `b/`\)\. Pack one"):
        read(path)


def test_an_adapter_deep_inside_is_not_looked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(packed({f"a/b/{name}": data for name, data in parts().items()}))
    told = r"is no PEFT adapter: adapter_config\.json, adapter_model\.safetensors missing\."
    with pytest.raises(AdapterError, match=told):
        read(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("adapter_model.bin", r"is a pickle, which can run code when it is read; it was not opene"),
        ("checkpoint.PT", r"is a pickle, .* Save it again with PEFT, which writes safetensors\."),
        ("adapter_model.safetensors", r"lacks its `adapter_config\.json`\. Name the folder"),
    ],
)
def test_one_file_of_an_adapter_is_refused_with_the_reason(
    tmp_path: Path, name: str, message: str
) -> None:
    torch.save({"w": Trap(str(tmp_path / "sprung"))}, tmp_path / name)
    with pytest.raises(AdapterError, match=message):
        read(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


def test_a_pickle_named_zip_is_refused_unopened(tmp_path: Path) -> None:
    """What torch saves is a zip."""
    torch.save({"w": Trap(str(tmp_path / "sprung"))}, tmp_path / "a.zip")
    with pytest.raises(AdapterError, match=r"has its weights in a pickle \(`.*data\.pkl`\)"):
        read(tmp_path / "a.zip")
    assert not (tmp_path / "sprung").exists()


def test_links_are_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_bytes(parts()["adapter_config.json"])
    folder = make_adapter().save(tmp_path / "a")
    (folder / "adapter_config.json").unlink()
    (folder / "adapter_config.json").symlink_to(secret)
    told = r"holds `adapter_config\.json` as a link, which is not followed\. Copy the folder"
    with pytest.raises(AdapterError, match=told):
        read(folder)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, data in parts().items():
            info = zipfile.ZipInfo(name)
            if name == "adapter_config.json":
                info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, str(secret).encode() if info.external_attr else data)
    with pytest.raises(AdapterError, match=r"holds `adapter_config\.json` as a link\. Pack the f"):
        read(tmp_path / "a.zip")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    folder = make_adapter().save(tmp_path / "a")
    (folder / "adapter_config.json").unlink()
    os.mkfifo(folder / "adapter_config.json")
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.safetensors").mkdir()
    told = r"holds `adapter_config\.json`, which is no file\..*\n.*`adapter_model\.safetensors`, wh"
    with pytest.raises(AdapterError, match=told):
        read(folder)


def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    data = packed(parts() | {"ä": b"x"}, zipfile.ZIP_STORED)
    path = tmp_path / "a.zip"
    path.write_bytes(data.replace("ä".encode(), b"\xff\xff"))
    with pytest.raises(AdapterError, match=r"is no readable zip: .*utf-8"):
        read(path)


def test_numbers_that_cannot_be_joined_are_refused(tmp_path: Path) -> None:
    state = make_adapter().state
    key = next(iter(state))
    state[key] = state[key].to(torch.float8_e4m3fn)
    files = parts() | {"adapter_model.safetensors": save(state)}
    path = write_files(files, tmp_path / "a.zip")
    with pytest.raises(AdapterError, match=r"holds torch\.float8_e4m3fn; expected plain floats\."):
        read(path)


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(packed(parts() | {"adapter_model.safetensors": bytes(20_000_000)}))
    assert path.stat().st_size < 100_000
    unpacked: list[str] = []
    unpack = zipfile.ZipFile.open

    def watch(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> IO[bytes]:
        unpacked.append(entry.filename)
        return unpack(archive, entry)

    monkeypatch.setattr(zipfile.ZipFile, "open", watch)
    with pytest.raises(AdapterError, match=r"packed to less than 1 % of its size, as a zip bomb"):
        read(path)
    assert unpacked
    assert "adapter_model.safetensors" not in unpacked


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA], ids=["bzip2", "lzma"])
def test_packings_whose_size_cannot_be_bounded_are_refused(tmp_path: Path, kind: int) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, data in parts().items():
            archive.writestr(name, data)
    with pytest.raises(AdapterError, match=r"packed in a way that is not read\. Use Deflate"):
        read(path)


def test_a_fresh_lora_is_no_bomb(tmp_path: Path) -> None:
    """Its B is all zeros."""
    state = {k: v * ("lora_A" in k) for k, v in make_adapter().state.items()}
    path = tmp_path / "a.zip"
    path.write_bytes(packed(parts() | {"adapter_model.safetensors": save(state)}))
    assert not any(v.any() for k, v in read(path).state.items() if "lora_B" in k)


def test_a_zip_of_many_entries_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(packed(parts() | {f"{i}.txt": b"" for i in range(1000)}))
    with pytest.raises(AdapterError, match=r"holds 1,004 entries, allowed 1,000\. Pack the adap"):
        read(path)


def test_a_file_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts().items():
            archive.writestr(name, data)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("adapter_config.json", b"{}")
    with pytest.raises(AdapterError, match=r"holds `adapter_config\.json` twice\. Export it again"):
        read(path)


# Reports


def test_a_refusal_tells_every_fault_at_once(tmp_path: Path) -> None:
    state = {key: weight.float() for key, weight in load(make_adapter().weights).items()}
    state["base_model.model.model.layers.1.mlp.up_proj.lora_B.weight"][3, 1] = float("nan")
    state["base_model.model.model.layers.0.mlp.up_proj.lora_A.weight"] = torch.zeros(2, 2).int()
    files = parts(
        use_dora=True, bias="all", r="many", target_modules=["lm_head"], base_model_name_or_path="x"
    )
    files |= {
        "adapter_model.safetensors": save(state),
        "provenance.json": b"{]",
        "../up.txt": b"x",
    }
    path = tmp_path / "a.zip"
    path.write_bytes(packed(files))
    with pytest.raises(AdapterError) as refused:
        read(path)
    lines = str(refused.value).splitlines()
    assert all(line.startswith(f"`{path}` ") for line in lines)
    expected = (
        "would land outside of its folder",
        "it sets bias, use_dora.",
        "got lm_head.",
        "`r` must be a whole number",
        "holds torch.int32; expected plain floats.",
        "not finite numbers, in `base_model.model.model.layers.1.mlp.up_proj.lora_B.weight`.",
        "is damaged: Expecting",
        "was made for x.",
    )
    assert len(lines) == len(expected)
    for words, line in zip(expected, lines, strict=True):
        assert words in line


def test_an_adapter_for_another_base_tells_shapes_too(tmp_path: Path) -> None:
    path = write_files(parts(base_model_name_or_path="other/base", r=8), tmp_path / "a.zip")
    with pytest.raises(BaseMismatchError) as refused:
        read(path)
    named, misfit = str(refused.value).splitlines()
    assert "write example/tiny-llama as `base_model_name_or_path`" in named
    assert "expected (8, 64)" in misfit


# Whatever comes

GOOD = packed(parts(), zipfile.ZIP_STORED)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
SETTINGS = sorted(json.loads(parts()["adapter_config.json"]))


def read_or_refuse(path: Path) -> None:
    """An adapter whose files can be written, or a message."""
    try:
        found = read(path)
    except DndError as error:
        message = str(error)
    else:
        message = found.sha256
        assert found.files()
        assert found.tokens.isfinite().all()
    assert 0 < len(message) < 2000


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Written over by every example."""
    return tmp_path_factory.mktemp("fuzz") / "a.zip"


@settings(max_examples=150)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=8))))
def test_any_damage_to_a_zip_is_a_message(fuzzed: Path, changes: list[tuple[int, bytes]]) -> None:
    data = bytearray(GOOD)
    for at, change in changes:
        data[at : at + len(change)] = change
    fuzzed.write_bytes(data)
    read_or_refuse(fuzzed)


@pytest.mark.slow
@settings(max_examples=100)
@given(st.dictionaries(st.sampled_from(SETTINGS), JSON_VALUES, max_size=4))
def test_any_config_is_read_or_refused(fuzzed: Path, config: dict[str, Any]) -> None:
    values = json.loads(parts()["adapter_config.json"]) | config
    fuzzed.write_bytes(packed(parts() | {"adapter_config.json": json.dumps(values).encode()}))
    read_or_refuse(fuzzed)


@pytest.mark.slow
@settings(max_examples=100)
@given(
    JSON_VALUES
    | st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            ("format", "buckets", "refined", "refined_before", "folded", "num_prompts", "seed"),
            JSON_VALUES,
        ),
    )
)
def test_any_provenance_is_read_and_written_again(fuzzed: Path, provenance: Any) -> None:
    fuzzed.write_bytes(packed(parts() | {"provenance.json": json.dumps(provenance).encode()}))
    back = read(fuzzed)
    assert back.with_strength(0.5).fold().files()


@given(st.text(max_size=12), st.binary(max_size=64))
def test_any_safetensors_header_is_a_message(fuzzed: Path, key: str, data: bytes) -> None:
    header = json.dumps({key: {"dtype": "BF16", "shape": [len(data)], "data_offsets": [0, 99]}})
    weights = len(header).to_bytes(8, "little") + header.encode() + data
    fuzzed.write_bytes(packed(parts() | {"adapter_model.safetensors": weights}))
    read_or_refuse(fuzzed)


def test_tokens_of_a_state_are_applied_as_they_were_read(tmp_path: Path) -> None:
    """A stranger's float32 weights are kept as bfloat16, and the digest says so."""
    state = {k: v.float() + 1e-4 for k, v in make_adapter().state.items()}
    files = parts() | {"adapter_model.safetensors": save(state)}
    back = read(write_files(files, tmp_path / "a.zip"))
    assert back.tokens.dtype == torch.bfloat16
    assert torch.equal(back.tokens, tokenize(state, LAYOUT).to(torch.bfloat16))
