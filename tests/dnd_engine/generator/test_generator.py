"""A generator starts as the base, survives its folder, and refuses bases it was not made for."""

import json
import os
from array import array
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dnd_engine import files
from dnd_engine.errors import (
    AssetError,
    BaseMismatchError,
    ConfigError,
    GeneratorError,
    LayoutMismatchError,
)
from dnd_engine.files import asset_path
from dnd_engine.generator.card import save_report
from dnd_engine.generator.config import GeneratorConfig
from dnd_engine.generator.folder import (
    Generator,
    GeneratorFolder,
    TaskCentroid,
    check_base,
    check_encoder,
    save_generator,
    save_teacher,
)
from dnd_engine.generator.hyperconv import HyperConvDecoder
from dnd_engine.models.base import BaseModel, fingerprint
from tests.dnd_engine.tiny import CPU, LAYOUT, save_tiny, tiny_base
from tests.reports import report

STAGES = ((4, 6, 8), (16, 5, 8), (64, 4, 32))
CONFIG = GeneratorConfig(
    features=STAGES,
    kernel_size=3,
    layout=LAYOUT,
    base={"id": "example/tiny-llama", "fingerprint": {}},
    encoder={"id": "example/encoder", "sha256": "e" * 64},
    training={"kind": "generator", "data": [{"task": "a", "licence": "MIT"}]},
)
TASKS = (
    TaskCentroid("copy", "Repeat the input ü.", (0.5, -0.25)),
    TaskCentroid("count", "Count words.", (1.0, 0.0)),
)


def trained(seed: int = 0) -> Generator:
    """A generator whose every parameter and buffer differs from its start."""
    torch.manual_seed(seed)
    generator = Generator(CONFIG)
    for tensor in generator.state_dict().values():
        tensor.copy_(torch.rand_like(tensor) + 0.1)
    return generator


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_generator(trained(), tmp_path / "made", TASKS, "# Card")
    return tmp_path / "made"


# At the start


def test_the_shared_tokens_start_with_a_random_and_b_zero() -> None:
    shared = Generator(CONFIG).shared
    for m in LAYOUT.matrices():
        part = shared[m.first_token : m.first_token + m.num_tokens]
        assert bool(part.any()) == (m.side == "A")


def test_the_decoder_adds_to_the_shared_tokens_with_its_scale() -> None:
    generator = trained()
    condition = torch.randn(2, *STAGES[0])
    expected = generator.shared + 0.01 * generator.decoder(condition)
    assert torch.equal(generator(condition), expected)
    assert not torch.equal(generator(condition)[0], generator(condition)[1])


def test_padding_becomes_the_channel_mean() -> None:
    generator = Generator(CONFIG)
    generator.set_condition_statistics(torch.full((8,), 3.0), torch.full((8,), 2.0))
    mask = torch.tensor([[True, False]])
    found = generator.standardise(torch.full((1, 2, 8), 7.0), mask)
    assert torch.equal(found, torch.tensor([2.0, 0.0])[None, :, None].expand(1, 2, 8))


def test_a_channel_that_never_varies_gives_no_nan() -> None:
    generator = Generator(CONFIG)
    generator.set_condition_statistics(torch.zeros(8), torch.zeros(8))
    found = generator.standardise(torch.ones(1, 2, 8), torch.ones(1, 2, dtype=torch.bool))
    assert torch.allclose(found, torch.tensor(20.0))


@pytest.mark.parametrize(("mean", "std"), [((7,), (7,)), ((1,), (1,))])
def test_statistics_of_other_channels_are_refused(
    mean: tuple[int, ...], std: tuple[int, ...]
) -> None:
    with pytest.raises(LayoutMismatchError, match=r"expected the mean and deviation of 8 channels"):
        Generator(CONFIG).set_condition_statistics(torch.zeros(mean), torch.ones(std))


def test_stages_that_miss_the_token_grid_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"last stage must be the layout's token grid \(64, 4, 32\), got \(\(64,"
    ):
        replace(CONFIG, features=(STAGES[0], (64, 4, 31)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"delta_scale": 0.0}, r"`delta_scale` must be above 0, got 0\.0\."),
        ({"delta_scale": float("nan")}, r"`delta_scale` must be above 0, got nan\."),
        ({"tokens": "standardised"}, r"token grid \(64, 6, 34\), got \(\(64, 4, 32\),\)"),
        (
            {"tokens": "standardised", "head": "mlp", "features": (STAGES[0], (64, 6, 34))},
            r"the head mlp writes plain tokens, got 'standardised'\.",
        ),
    ],
)
def test_a_config_that_contradicts_itself_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(CONFIG, **changes)


# The folder


def test_a_folder_has_the_name_it_was_given_and_a_dot_that_of_the_place(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Links included, whose targets often have names that say nothing."""
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(folder)
    names = [GeneratorFolder.open(path).name for path in (folder, tmp_path / "link", Path())]
    assert names == ["made", "link", "made"]


def test_a_generator_comes_back_from_its_folder(folder: Path) -> None:
    opened = GeneratorFolder.open(folder)
    assert opened.config == CONFIG
    assert opened.tasks == TASKS
    loaded = opened.load(CPU, torch.float32)
    for name, value in trained().state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value.to(torch.bfloat16).float())
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert sorted(file.name for file in folder.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "tasks.json",
    ]
    assert [path.name for path in folder.parent.iterdir()] == ["made"]


def test_centroids_take_eight_bytes_a_number(folder: Path) -> None:
    """As Python's floats they would take four times as much."""
    for task in GeneratorFolder.open(folder).tasks:
        assert isinstance(task.centroid, array)
        assert task.centroid.itemsize == 8


def test_equal_generators_give_equal_files(folder: Path, tmp_path: Path) -> None:
    save_generator(trained(), tmp_path / "again", TASKS, "# Card")
    for file in folder.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()


def test_only_the_decoder_is_cast_to_the_compute_type(folder: Path) -> None:
    """The shared tokens and the statistics are added and divided in float32."""
    loaded = GeneratorFolder.open(folder).load(CPU, torch.bfloat16)
    kinds = {name.split(".")[0]: v.dtype for name, v in loaded.state_dict().items()}
    assert kinds == {
        "shared": torch.float32,
        "condition_mean": torch.float32,
        "condition_std": torch.float32,
        "decoder": torch.bfloat16,
    }


def edit(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / "config.json"
        values = json.loads(path.read_text())
        change(values)
        path.write_text(json.dumps(values))

    return apply


def edit_task(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Change the second task."""

    def apply(folder: Path) -> None:
        path = folder / "tasks.json"
        values = json.loads(path.read_text())
        change(values[1])
        path.write_text(json.dumps(values))

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "tasks.json").unlink(), r"is no generator folder: tasks\.json missing\."),
        (
            lambda f: [(f / n).unlink() for n in ("config.json", "model.safetensors")],
            r"is no generator folder: config\.json, model\.safetensors missing\.",
        ),
        (lambda f: (f / "config.json").write_text("{"), r"made`: `config\.json` is not JSON: Exp"),
        (lambda f: (f / "config.json").write_bytes(b"\xff"), r"`config\.json` is not JSON: .*utf"),
        (
            lambda f: (f / "config.json").write_text("[]"),
            r"^generator folder `.*made`: `config\.json` must hold an object, found a list\.",
        ),
        (
            lambda f: (f / "config.json").write_text("[" * 100_000),
            r"`config\.json` is not JSON: .*recursion",
        ),
        (edit(lambda v: v.pop("layout")), r"not a generator's `config\.json`: 'layout' is missing"),
        (edit(lambda v: v.update(layout=[])), r"`layout` must list at least one adapted layer"),
        (
            edit(lambda v: v["layout"].append(v["layout"][0])),
            r"`layout` must list at least one adapted",
        ),
        (edit(lambda v: v["layout"][0].pop()), r"not a generator's `config\.json`: ValueError"),
        (edit(lambda v: v["layout"][0].__setitem__(0, -1)), r"`layout` must hold .* got -1\."),
        (edit(lambda v: v["layout"][0].__setitem__(1, "norm")), r"`layout` names 'norm', which `t"),
        (edit(lambda v: v["layout"][0].__setitem__(1, ["norm"])), r"`layout` names \['norm'\]"),
        (
            edit(lambda v: v["lora"].update(r=8)),
            r"last stage must be the layout's token grid \(64, 8",
        ),
        (edit(lambda v: v["lora"].update(r="4")), r"`r` must hold whole numbers .* got '4'\."),
        (edit(lambda v: v["lora"].update(r=4.0)), r"`r` must hold whole numbers .* got 4\.0\."),
        (edit(lambda v: v["lora"].update(r=True)), r"`r` must hold whole numbers .* got True\."),
        (edit(lambda v: v["lora"].update(target_modules=3)), r"`config\.json`: TypeError"),
        (edit(lambda v: v["features"][0].__setitem__(0, 10**6)), r"`features` must hold .*65,536"),
        (
            edit(lambda v: v.update(features=[[1, 2]])),
            r"not a generator's `config\.json`: ValueErr",
        ),
        (
            edit(lambda v: v.update(features=[[1, 1, 1]] * 40)),
            r"`features` must list at most 32 stages, got 40\.",
        ),
        (
            lambda f: os.truncate(f / "config.json", 64_000_001),
            r"`config\.json` is larger than 64 MB\. Use another generator",
        ),
        (
            edit(lambda v: v.update(kernel_size=65)),
            r"`kernel_size` must hold .* 1 and 63, got 65\.",
        ),
        (edit(lambda v: v.update(delta_scale="1")), r"`delta_scale` must be a number, got '1'\."),
        (edit(lambda v: v.update(delta_scale=10**400)), r"`config\.json`: OverflowError"),
        (
            edit(lambda v: v.update(delta_scale=float("nan"))),
            r"`config\.json` is not JSON: it holds NaN\.",
        ),
        (edit(lambda v: v.update(format=5)), r"`format` is 5; this version reads formats 1 to 4\."),
        (edit(lambda v: v.update(format=4)), r"`config\.json`: 'reads_tokens' is missing"),
        (
            edit(lambda v: v.update(format=4, reads_tokens=10**6)),
            r"`reads_tokens` must hold whole numbers between 1 and 65,536, got 1000000\.",
        ),
        (
            edit(lambda v: v.update(format=4, reads_tokens=None)),
            r"`reads_tokens` must hold whole numbers .* got None\.",
        ),
        (edit(lambda v: v.update(format="1")), r"`format` is '1'; this version reads formats 1"),
        (edit(lambda v: v.update(base=3)), r"`base` must be an object, got 3\."),
        (edit(lambda v: v["base"].update(id=3)), r"`id` must be a string, got 3\."),
        (edit(lambda v: v["encoder"].update(id=3)), r"`id` must be a string, got 3\."),
        (edit(lambda v: v["encoder"].update(sha256=5)), r"`sha256` must be a string, got 5\."),
        (
            edit(lambda v: v["base"].update(fingerprint=[])),
            r"`fingerprint` must be an object, got \[\]",
        ),
        (
            edit(lambda v: v["base"]["fingerprint"].update(architecture=5)),
            r"`architecture` must be an object, got 5\.",
        ),
        (
            edit(lambda v: v["base"]["fingerprint"].update(norms=5)),
            r"`norms` must be a list of finite numbers, got 5\.",
        ),
        (
            edit(lambda v: v["base"]["fingerprint"].update(norms=["a"])),
            r"`norms` must be a number, got 'a'\.",
        ),
        (edit(lambda v: v.update(tokens=8)), r"`tokens` must be one of plain, standardised, got 8"),
        (edit(lambda v: v.update(padding="")), r"`padding` must be one of zero, kept, got ''\."),
        (edit(lambda v: v.pop("tokens")), r"not a generator's `config\.json`: 'tokens' is missing"),
        (edit(lambda v: v.pop("head")), r"not a generator's `config\.json`: 'head' is missing"),
        (
            edit(lambda v: v.update(head="cnn")),
            r"`head` must be one of hyperconv, mlp, got 'c",
        ),
        (edit(lambda v: v.update(head=[])), r"`head` must be one of hyperconv, .*, got \[\]\."),
        (
            edit(lambda v: v.update(head_options=[1])),
            r"`head_options` must be an object, got \[1\]\.",
        ),
        (
            edit(lambda v: v.update(head="mlp", head_options={"hidden": 1e3})),
            r"option `hidden` of the head mlp must be a whole number .*, got 1000\.0\.",
        ),
        (
            edit(lambda v: v.update(condition="base", condition_layers=[1])),
            r"made`: .*`condition` must be 'encoder', got 'base': .* Use another generator, or tr",
        ),
        (lambda f: (f / "tasks.json").write_text("nope"), r"`tasks\.json` is not JSON"),
        (
            lambda f: (f / "tasks.json").write_text("{}"),
            r"`tasks\.json` must hold a list, found a d",
        ),
        (
            lambda f: (f / "tasks.json").write_text("[{}]"),
            r"`tasks\.json`, entry 1: expected `slug`",
        ),
        (edit_task(lambda row: row.update(slug=3)), r"entry 2: `slug` and `description` must be s"),
        (edit_task(lambda row: row.update(centroid=[])), r"entry 2: `centroid` must be a list of"),
        (edit_task(lambda row: row.update(centroid=[1, "2"])), r"entry 2: `centroid` must be a li"),
        (edit_task(lambda row: row.update(centroid=[1, 10**400])), r"entry 2: `centroid` must be "),
        (
            edit_task(lambda row: row.update(centroid=[1.0])),
            r"entry 2: `centroid` has 1 numbers, the first 2\.",
        ),
        (edit_task(lambda row: row.update(slug="copy")), r"`tasks\.json` names a task twice\."),
    ],
)
def test_a_broken_folder_is_refused_when_opened(
    folder: Path, damage: Callable[[Path], Any], message: str
) -> None:
    damage(folder)
    with pytest.raises(GeneratorError, match=message):
        GeneratorFolder.open(folder)


@pytest.mark.parametrize(
    ("version", "unnamed", "named"),
    [
        (1, ("tokens", "padding", "head", "head_options"), {}),
        (2, ("tokens", "padding"), {"condition": "encoder", "condition_layers": []}),
        (3, (), {"condition": "encoder", "condition_layers": []}),
        (3, (), {"reads_tokens": 9}),
    ],
)
def test_a_folder_of_an_earlier_version_is_read(
    folder: Path, version: int, unnamed: tuple[str, ...], named: dict[str, Any]
) -> None:
    """What it knew one of, it did not name; some named a condition, the encoder."""
    path = folder / "config.json"
    values = json.loads(path.read_text())
    assert values["format"] == 3
    for name in unnamed:
        del values[name]
    path.write_text(json.dumps(values | named | {"format": version}))
    opened = GeneratorFolder.open(folder)
    assert opened.config == CONFIG
    condition = torch.randn(2, *STAGES[0])
    assert torch.equal(opened.load(CPU, torch.float32)(condition), reloaded(folder)(condition))


def test_a_generator_that_projects_comes_back_from_its_folder(tmp_path: Path) -> None:
    """Its folder alone needs this version: earlier ones knew no projection."""
    config = replace(CONFIG, reads_tokens=20)
    torch.manual_seed(0)
    generator = Generator(config)
    save_generator(generator, tmp_path / "made", TASKS, "# Card")
    values = json.loads((tmp_path / "made" / "config.json").read_text())
    assert (values["format"], values["reads_tokens"]) == (4, 20)
    opened = GeneratorFolder.open(tmp_path / "made")
    assert opened.config == config
    loaded = opened.load(CPU, torch.bfloat16)
    assert {value.dtype for value in loaded.project(torch.randn(1, 4, 20, 8).bfloat16())} == {
        torch.bfloat16
    }
    state = generator.state_dict()
    for name, value in loaded.state_dict().items():
        assert torch.equal(value.float(), state[name].to(torch.bfloat16).float())


def reloaded(folder: Path) -> Generator:
    """By hand, from the weights' names."""
    generator = trained()
    generator.load_state_dict(
        {name: value.float() for name, value in load_file(folder / "model.safetensors").items()}
    )
    return generator


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_shipped_generator_writes_what_its_weights_say(dtype: torch.dtype) -> None:
    """Bit by bit, from the names that its first version was saved with."""
    opened = GeneratorFolder.open(asset_path("generators", "smollm2-135m-instruct"))
    config = opened.config
    state = load_file(opened.path / "model.safetensors")
    decoder = HyperConvDecoder(config.features, config.kernel_size)
    prefix = "decoder."
    decoder.load_state_dict(
        {k.removeprefix(prefix): v.float() for k, v in state.items() if k.startswith(prefix)}
    )
    decoder.to(dtype)
    condition = torch.randn(1, *config.features[0]).to(dtype)
    with torch.inference_mode():
        expected = state["shared"].float() + config.delta_scale * decoder(condition)
        assert torch.equal(opened.load(CPU, dtype)(condition), expected)
    assert config.head == "hyperconv"


@pytest.mark.parametrize("failing", [1, 2])
def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    replace_file, calls = os.replace, []

    def fail_once(*paths: Path) -> None:
        calls.append(paths)
        if len(calls) == failing:
            raise OSError("disk on fire")
        replace_file(*paths)

    monkeypatch.setattr(files, "exchange", lambda *_: False)  # two moves, as on other systems
    monkeypatch.setattr(os, "replace", fail_once)
    with pytest.raises(OSError, match="disk on fire"):
        save_generator(trained(seed=1), folder, (), "# Other")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["made"]


# Reports


def test_reports_are_read_by_split_and_a_new_generator_has_none(folder: Path) -> None:
    assert GeneratorFolder.open(folder).reports() == {}
    save_report(folder, "train", report("train"))
    save_report(folder, "heldout", report())
    (folder / "reports" / "notes.txt").write_text("no report")
    opened = GeneratorFolder.open(folder)
    assert {name: found.split for name, found in opened.reports().items()} == {
        "heldout": "heldout",
        "train": "train",
    }
    before = opened.reports()
    assert opened.reports()["train"] is before["train"], "read once"
    save_report(folder, "heldout", replace(report(), n_tasks=3))
    assert opened.reports()["heldout"].n_tasks == 3
    save_generator(trained(), folder, TASKS, "# Card")
    assert opened.reports() == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "[]",
            r"reports/heldout\.json` is damaged: `heldout\.json` must hold an object, found a list",
        ),
        ('{"score": NaN}', r"damaged: `heldout\.json` is not JSON: it holds NaN\."),
        ("{", r"damaged: `heldout\.json` is not JSON: "),
        ("{}", r"damaged: faults in a report's JSON: `command`: .*Write it again with `dnd ev"),
    ],
)
def test_a_report_that_is_damaged_is_refused_with_its_name(
    folder: Path, content: str, message: str
) -> None:
    (folder / "reports").mkdir()
    (folder / "reports" / "heldout.json").write_text(content)
    with pytest.raises(GeneratorError, match=message):
        GeneratorFolder.open(folder).reports()


def test_a_new_teacher_takes_along_the_generator_alone(folder: Path, tmp_path: Path) -> None:
    """No report of the teacher before it, and nothing that a stranger's folder links to."""
    save_report(folder, "heldout", report())
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "id_rsa").write_text("key")
    (folder / "extra").symlink_to(secret)
    opened = GeneratorFolder.open(folder)
    out = tmp_path / "taught"
    save_teacher(opened, out, torch.zeros(LAYOUT.grid()), {"kind": "teacher"})
    kept = {"config.json", "model.safetensors", "tasks.json", "README.md"}
    assert {path.name for path in out.rglob("*")} == kept | {"teacher.safetensors", "teacher.json"}
    taught = GeneratorFolder.open(out)
    assert (taught.sha256, taught.card()) == (opened.sha256, "# Card")


def test_the_card_is_its_readme(folder: Path) -> None:
    opened = GeneratorFolder.open(folder)
    assert opened.card() == "# Card"
    (folder / "README.md").unlink()
    assert opened.card() == ""


def test_a_folder_that_is_not_there_is_named_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(
        GeneratorError, match=r"no generator folder at `.*nowhere`\. Expected .* `dnd train` makes"
    ):
        GeneratorFolder.open(tmp_path / "nowhere")


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    path = folder / "model.safetensors"
    state = load_file(path)
    change(state)
    save_file(state, path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, r"model\.safetensors` does not fit its `config\.json`: "),
        (
            lambda f: change_weights(f, lambda s: s.pop("shared")),
            r"`shared` is missing, expected \(",
        ),
        (
            lambda f: change_weights(f, lambda s: s.update(extra=torch.zeros(1))),
            r"`extra` is \(1,\), expected none",
        ),
        (
            lambda f: change_weights(f, lambda s: s.update(shared=torch.zeros(64, 4, 16))),
            r"`shared` is \(64, 4, 16\), expected",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    folder: Path, damage: Callable[[Path], Any], message: str
) -> None:
    damage(folder)
    with pytest.raises(GeneratorError, match=rf"(?s){message}"):
        GeneratorFolder.open(folder).load(CPU, torch.float32)


def test_conditions_are_never_divided_by_zero(folder: Path) -> None:
    change_weights(folder, lambda s: s["condition_std"][2:3].fill_(0))
    with pytest.raises(GeneratorError, match="`condition_std` that is not positive"):
        GeneratorFolder.open(folder).load(CPU, torch.float32)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_named_as_such(folder: Path, number: float) -> None:
    change_weights(folder, lambda s: s["shared"].view(-1)[3:4].fill_(number))
    with pytest.raises(GeneratorError, match=r"NaN or infinite, in 1 tensor.*first `shared`"):
        GeneratorFolder.open(folder).load(CPU, torch.float32)


def test_a_config_that_asks_for_gigabytes_is_refused_before_it_takes_them(folder: Path) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["kernel_size"] = 63
    path.write_text(json.dumps(config))
    made: list[torch.Size] = []

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            found = func(*args, **(kwargs or {}))
            if isinstance(found, torch.Tensor) and found.device.type != "meta":
                made.append(found.shape)
            return found

    with Watch(), pytest.raises(GeneratorError, match=r"does not fit its `config\.json`: `"):
        GeneratorFolder.open(folder).load(CPU, torch.float32)
    assert max((shape.numel() for shape in made), default=0) < 100_000, "nothing large was made"


def test_small_weights_whose_stages_fill_the_memory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels of 1 between large stages: 11 MB of weights, 69 GB once a prompt is decoded."""
    monkeypatch.setattr("dnd_engine.models.memory.free_bytes", lambda device: 60 * 10**9)
    wide = replace(CONFIG, kernel_size=1, features=(STAGES[0], (65_536, 512, 512), STAGES[-1]))
    save_generator(Generator(wide), tmp_path / "wide", TASKS, "")
    with pytest.raises(AssetError, match=r"needs about 75\.\d GB of memory"):
        GeneratorFolder.open(tmp_path / "wide").load(CPU, torch.float32)


def test_a_folder_that_cannot_be_read_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("dnd_engine.generator.folder.sha256_of", refuse)
    with pytest.raises(GeneratorError, match=r"`.*made` cannot be read: Permission denied\. Check"):
        GeneratorFolder.open(folder)


# The base and the encoder it was made for


def made_for(base: BaseModel) -> GeneratorConfig:
    """As a folder would bring it back: through JSON."""
    stated = {"id": "example/tiny-llama", "fingerprint": fingerprint(base)}
    return GeneratorConfig.from_json(json.loads(json.dumps(replace(CONFIG, base=stated).to_json())))


def test_the_base_it_was_made_for_is_accepted(base: BaseModel) -> None:
    check_base(made_for(base), "example/tiny-llama", fingerprint(base))


def test_a_requantised_base_is_accepted(base: BaseModel) -> None:
    config = made_for(base)
    with torch.no_grad():
        base.model.get_parameter("model.layers.0.input_layernorm.weight").mul_(1.01)
    check_base(config, "example/tiny-llama", fingerprint(base))


def test_another_architecture_is_refused_by_what_differs(base: BaseModel, tmp_path: Path) -> None:
    other = tiny_base(save_tiny(tmp_path / "other", intermediate_size=192))
    with pytest.raises(
        BaseMismatchError,
        match=r"made for example/tiny-llama\. It cannot run on example/other: `intermediate_size` "
        r"is 192, expected 128\. Choose another generator, or train one .* `dnd train`\.",
    ):
        check_base(made_for(base), "example/other", fingerprint(other))


def test_more_layers_are_another_architecture(base: BaseModel, tmp_path: Path) -> None:
    other = tiny_base(save_tiny(tmp_path / "other", num_hidden_layers=3))
    with pytest.raises(BaseMismatchError, match=r"`num_hidden_layers` is 3, expected 2"):
        check_base(made_for(base), "example/other", fingerprint(other))


def test_another_model_of_the_same_shape_is_refused(base: BaseModel, tmp_path: Path) -> None:
    other = tiny_base(save_tiny(tmp_path / "other", seed=9))
    with torch.no_grad():
        other.model.get_parameter("model.layers.1.input_layernorm.weight").mul_(1.5)
    with pytest.raises(
        BaseMismatchError,
        match=r"example/other: it has the same shape but other weights \(norm scales d",
    ):
        check_base(made_for(base), "example/other", fingerprint(other))


def test_a_base_whose_norms_are_not_numbers_is_refused(base: BaseModel) -> None:
    found = fingerprint(base)
    found["norms"] = [found["norms"][0], float("nan")]
    with pytest.raises(BaseMismatchError, match=r"same shape but other weights"):
        check_base(made_for(base), "example/other", found)


def test_a_generator_without_a_fingerprint_is_refused(base: BaseModel) -> None:
    with pytest.raises(BaseMismatchError, match=r"does not say which base it was made for"):
        check_base(CONFIG, "example/tiny-llama", fingerprint(base))


def test_the_encoder_it_was_trained_with_is_accepted() -> None:
    check_encoder(CONFIG, 8, "e" * 64)


def test_an_encoder_of_another_width_is_refused() -> None:
    with pytest.raises(
        LayoutMismatchError, match=r"reads embeddings 8 wide, the encoder's are 384 wide\. .*exampl"
    ):
        check_encoder(CONFIG, 384, "e" * 64)


def test_an_encoder_that_reads_too_few_tokens_is_refused() -> None:
    check_encoder(CONFIG, 8, "e" * 64, longest=6)
    with pytest.raises(
        LayoutMismatchError, match=r"reads 6 tokens of a prompt, the encoder example/encoder at mos"
    ):
        check_encoder(CONFIG, 8, "e" * 64, longest=5)


def test_a_projection_is_filled_by_whole_pieces_of_the_encoder() -> None:
    projecting = replace(CONFIG, reads_tokens=20)
    for longest in (5, 20, 512, None):
        check_encoder(projecting, 8, "e" * 64, longest=longest)
    with pytest.raises(
        LayoutMismatchError, match=r"reads 20 tokens of a prompt, the encoder .* pieces of 6\. Use"
    ):
        check_encoder(projecting, 8, "e" * 64, longest=6)


def test_an_encoder_with_other_weights_is_refused() -> None:
    with pytest.raises(
        LayoutMismatchError,
        match=r"trained with the encoder example/encoder \(SHA-256 e{12}…\), th",
    ):
        check_encoder(CONFIG, 8, "f" * 64)


def test_centroids_of_another_encoder_are_refused() -> None:
    check_encoder(CONFIG, 8, "e" * 64, [replace(TASKS[0], centroid=(0.1,) * 8)])
    with pytest.raises(
        LayoutMismatchError, match=r"`tasks\.json` holds centroids 2 wide, the enc.* 8 wide\. Train"
    ):
        check_encoder(CONFIG, 8, "e" * 64, TASKS)
