"""Adapters are plain LoRA, the same bytes each time; strengths and sums are what they say."""

import hashlib
import io
import json
import math
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from dnd_engine import files
from dnd_engine.errors import AdapterError, ConfigError
from dnd_engine.lora import adapter as adapter_module
from dnd_engine.lora.adapter import adapter_name, sum_adapters, zip_bytes
from dnd_engine.lora.apply import LoRAHost
from dnd_engine.lora.layout import LoRALayout, LoRASpec, Target
from dnd_engine.lora.provenance import FILES, NearestTask
from dnd_engine.lora.reader import read_adapter
from dnd_engine.lora.weight_tokens import detokenize
from dnd_engine.models.base import BaseModel
from tests.dnd_engine.tiny import (
    BASE_ID,
    CONFIG,
    LAYOUT,
    delta,
    ids_of,
    make_adapter,
    random_tokens,
    tiny_llama,
)

ORIGIN = {
    "buckets": [{"name": "tone", "weight": 0.5, "num_prompts": 3}],
    "mix": "pool",
    "seed": 7,
    "num_prompts": 3,
    "generator_sha256": "abc",
}


def read(path: Path) -> adapter_module.Adapter:
    return read_adapter(path, CONFIG, BASE_ID)


# What is written


def test_equal_adapters_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_adapter(provenance=ORIGIN).save(tmp_path / f"{name}.zip")
        make_adapter(provenance=ORIGIN).save(tmp_path / name)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert make_adapter(seed=1).sha256 != make_adapter(seed=2).sha256


def test_a_zip_holds_exactly_the_four_files_of_the_folder(tmp_path: Path) -> None:
    made = make_adapter(provenance=ORIGIN)
    with zipfile.ZipFile(made.save(tmp_path / "a.zip")) as archive:
        in_zip = {name: archive.read(name) for name in archive.namelist()}
        assert archive.testzip() is None
    folder = made.save(tmp_path / "a")
    assert in_zip == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sorted(in_zip) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "provenance.json",
    ]


def test_the_config_is_plain_lora_for_the_hub_id() -> None:
    config = json.loads(make_adapter().files()["adapter_config.json"])
    assert config["peft_type"] == "LORA"
    assert (config["r"], config["lora_alpha"]) == (4, 8)
    assert config["base_model_name_or_path"] == BASE_ID
    assert config["target_modules"] == sorted(LAYOUT.spec.target_modules)
    assert config["task_type"] == "CAUSAL_LM"
    assert not any(
        config[name]
        for name in ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "modules_to_save")
    )
    assert config["bias"] == "none"


def test_provenance_holds_the_origin_and_the_digest_of_the_weights() -> None:
    made = make_adapter(provenance=ORIGIN).with_strength(0.5)
    files = made.files()
    provenance = json.loads(files["provenance.json"])
    assert provenance == ORIGIN | {"strength": 0.5, "sha256": made.sha256}
    assert made.num_bytes == len(files["adapter_model.safetensors"])


def test_what_is_asked_about_the_file_does_not_keep_it_in_memory() -> None:
    made = make_adapter()
    assert made.num_bytes == len(made.weights)
    assert made.sha256 == hashlib.sha256(made.weights).hexdigest()
    assert not any(isinstance(value, bytes) for value in vars(made).values())


def test_the_card_names_buckets_as_text_not_as_markup() -> None:
    origin = ORIGIN | {"buckets": [{"name": "# <b>x</b>\n[y](z)", "weight": 1, "num_prompts": 2}]}
    tasks = (NearestTask("sums", "Add two numbers.", 0.8),)
    made = make_adapter(name="<i>x", provenance=origin, nearest_tasks=tasks)
    card = made.files()["README.md"].decode()
    assert "\n# \\<i\\>x\n" in card
    assert r"- \# \<b\>x\</b\> \[y\](z): weight 1, 2 prompts" in card
    assert "- sums: 0.80 (Add two numbers.)" in card
    assert card.startswith(f"---\nbase_model: {BASE_ID}\n")


def test_the_card_of_an_adapter_from_a_file_keeps_its_nearest_tasks(
    base: BaseModel, tmp_path: Path
) -> None:
    """Only the provenance has them then, and whoever edited it may have put anything there."""
    near = [{"slug": "sums", "description": "Add *two*.", "similarity": 0.8}]
    odd = [7, {"slug": "x"}, {"slug": 1, "description": "", "similarity": 0.5}]
    odd += [{"slug": "x", "description": "", "similarity": 10**400}]
    path = make_adapter(provenance=ORIGIN | {"nearest_tasks": near + odd}).save(tmp_path / "a.zip")
    again = read_adapter(path, base.config, BASE_ID)
    assert again.nearest_tasks == ()
    card = again.files()["README.md"].decode()
    assert card.endswith("prompt embeddings)\n\n- sums: 0.80 (Add \\*two\\*.)\n")
    broken: Any
    for broken in ("sums", [], None):
        made = make_adapter(provenance=ORIGIN | {"nearest_tasks": broken})
        assert made.files()["README.md"].decode().endswith("Unknown.\n")


@pytest.mark.parametrize(
    ("provenance", "words"),
    [
        (ORIGIN, "without a gradient step"),
        (ORIGIN | {"refined": {"labels": False}}, "trained a little on the base's own answers"),
        (ORIGIN | {"refined": {"commonest_share": 1.0}}, "nearly all of them one and the same"),
        (ORIGIN | {"refined": {"labels": True}}, "trained a little on the labels"),
        (ORIGIN | {"refined": "a stranger's words"}, "trained a little on the base's own answers"),
        (ORIGIN | {"trained": {"start": "adapter"}}, "unlabeled prompts, then trained on labels"),
        (
            ORIGIN | {"imprint": {}, "trained": {"start": "adapter"}},
            "instruction imprinted in closed form, then trained on labels",
        ),
        ({"trained": {"num_examples": 1200, "steps": 40}}, "labels: 1,200 examples, 40 steps"),
        ({"trained": "a stranger's words"}, "A LoRA adapter trained on labels: unknown examples"),
        ({"trained": {"start": "adapter"}}, "A LoRA adapter trained on labels"),
        ({"trained": {"answers": "person"}}, "trained on answers that a person corrected: unknown"),
        (
            {"trained": {"answers": "teacher", "teacher": "qwen[2]"}},
            "trained on the answers of qwen\\[2\\]: unknown examples",
        ),
        ({"trained": {"answers": ["a list"]}}, "A LoRA adapter trained on labels"),
        ({}, "A LoRA adapter of unknown origin."),
    ],
)
def test_the_card_says_how_the_adapter_was_made(provenance: dict[str, Any], words: str) -> None:
    assert words in make_adapter(provenance=provenance).files()["README.md"].decode()


@pytest.mark.parametrize(("section", "right"), [("trained", "right"), ("refined", "answered as")])
def test_the_card_says_what_was_scored_on_held_back_prompts(section: str, right: str) -> None:
    scores = {"num_held_back": 4, "score_before": 0.25, "score": 0.5}

    def card(**more: Any) -> str:
        made = make_adapter(provenance=ORIGIN | {section: {**scores, **more}})
        return made.files()["README.md"].decode()

    assert f"- Prompts held back from teaching: 4, of which 25% {right}" in card()
    assert "before, and 50% after the last step\n" in card()
    for wrong in (7.0, math.nan, "all"):
        assert "held back" not in card(score=wrong)


def test_stock_peft_loads_what_is_written_and_computes_the_same(
    base: BaseModel, tmp_path: Path
) -> None:
    made = make_adapter().with_strength(0.5)
    folder = made.save(tmp_path / "a")
    ids = ids_of(["hello"])
    host = LoRAHost(base.model, LAYOUT)
    with torch.no_grad(), host.applying(host.fit(made.scaled_tokens[None])):
        ours = base.model(input_ids=ids).logits
    model = PeftModel.from_pretrained(tiny_llama(), str(folder))
    stock = {k.replace(".default.", "."): v for k, v in model.state_dict().items() if "lora_" in k}
    assert stock.keys() == made.state.keys()
    with torch.no_grad():
        theirs = model(input_ids=ids).logits
    torch.testing.assert_close(theirs, ours, atol=1e-5 * float(ours.abs().max()), rtol=0)


# Strength


def test_strength_is_folded_into_b_alone() -> None:
    plain, strong = make_adapter(), make_adapter().with_strength(-2.0)
    for key, value in strong.state.items():
        factor = -2.0 if "lora_B" in key else 1.0
        assert torch.equal(value, factor * plain.state[key])
    assert torch.equal(strong.tokens, plain.tokens)


def test_no_strength_is_no_change() -> None:
    changes = delta(make_adapter().with_strength(0).state, LAYOUT)
    assert not any(change.any() for change in changes.values())
    assert any(change.any() for change in delta(make_adapter().state, LAYOUT).values())


def test_strength_is_set_not_multiplied() -> None:
    made = make_adapter()
    assert made.with_strength(3).with_strength(1).sha256 == made.sha256
    assert made.with_strength(3).sha256 != made.sha256


@pytest.mark.parametrize("strength", [10.5, -11, float("nan"), float("inf")])
def test_a_strength_out_of_bounds_is_refused(strength: float) -> None:
    with pytest.raises(ConfigError, match=r"`strength` must be between -10 and 10, got "):
        make_adapter().with_strength(strength)


# Sums


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (float("nan"), "1 of .* weights that are NaN or infinite"),
        (float("-inf"), "1 of .* weights that are NaN or infinite"),
        (-1e30, r"weights as large as 1e\+30; those of a LoRA"),
    ],
)
def test_whatever_makes_an_adapter_must_make_finite_weights(value: float, words: str) -> None:
    tokens = make_adapter().tokens.clone()
    tokens[1, 2, 3] = value
    with pytest.raises(AdapterError, match=f"adapter `tiny` has {words}"):
        make_adapter(tokens=tokens)
    large = make_adapter(tokens=torch.full_like(tokens, 9e3))
    summed, _kept = sum_adapters([large, large], [2.0, 2.0])
    with pytest.raises(AdapterError, match="has weights as large as"):
        make_adapter(tokens=summed)


def of_rank(rank: int, seed: int) -> adapter_module.Adapter:
    """An adapter of r 4 whose ΔW have at most `rank`: its last rows of A and columns of B are 0."""
    tokens = random_tokens(seed=seed)
    tokens[:, rank:] = 0
    return make_adapter(tokens=tokens.to(torch.bfloat16))


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.5, -2.0)])
def test_a_sum_whose_ranks_fit_is_exact(weights: tuple[float, float]) -> None:
    """Two of rank 2 fit in r 4; what is left is the rounding of bfloat16."""
    adapters = [of_rank(2, seed=1), of_rank(2, seed=2)]
    tokens, kept = sum_adapters(adapters, weights)
    assert kept == pytest.approx(1, abs=1e-6)
    found = delta(detokenize(tokens, LAYOUT), LAYOUT)
    parts = [delta(a.state, LAYOUT) for a in adapters]
    for path, change in found.items():
        expected = weights[0] * parts[0][path] + weights[1] * parts[1][path]
        assert relative_error(change, expected) < 0.01


def test_a_sum_that_does_not_fit_keeps_the_best_rank_r() -> None:
    """Against the singular values of the explicit ΔW."""
    adapters, weights = [make_adapter(seed=s) for s in (1, 2, 3)], (1.0, 0.5, -1.5)
    tokens, kept = sum_adapters(adapters, weights)
    found = delta(detokenize(tokens, LAYOUT), LAYOUT)
    parts = [delta(a.state, LAYOUT) for a in adapters]
    kept_square = square = 0.0
    for path, change in found.items():
        total = sum(w * part[path] for w, part in zip(weights, parts, strict=True))
        u, s, vh = torch.linalg.svd(total, full_matrices=False)
        best = u[:, :4] * s[:4] @ vh[:4]
        assert relative_error(change, best) < 0.01
        kept_square += float(s[:4].square().sum())
        square += float(s.square().sum())
    assert kept < 0.95
    assert kept == pytest.approx(kept_square / square, abs=1e-5)


def test_a_sum_counts_the_strengths() -> None:
    one = of_rank(2, seed=1)
    tokens, _ = sum_adapters([one.with_strength(2.0)], [0.5])
    for path, change in delta(detokenize(tokens, LAYOUT), LAYOUT).items():
        assert relative_error(change, delta(one.state, LAYOUT)[path]) < 0.01


def test_opposites_sum_to_nothing() -> None:
    tokens, kept = sum_adapters([make_adapter(), make_adapter()], [1.0, -1.0])
    changes = delta(detokenize(tokens, LAYOUT), LAYOUT)
    assert max(float(change.abs().max()) for change in changes.values()) < 1e-6
    assert 0 <= kept <= 1


# Writing


def tree(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_a_zip_is_not_written_over_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.zip").mkdir()
    with pytest.raises(AdapterError, match=r"a\.zip` is a folder\. Choose another name, or remove"):
        make_adapter().save(tmp_path / "a.zip")


def test_a_folder_is_not_written_over_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    with pytest.raises(AdapterError, match=r"a` is a file\. Choose another name, or remove it\."):
        make_adapter().save(tmp_path / "a")
    assert (tmp_path / "a").read_text() == "mine"


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "thesis.tex").write_text("mine")
    with pytest.raises(AdapterError, match=r"a` holds other files\. Choose a new or an empty fold"):
        make_adapter().save(tmp_path / "a")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("name", ["a.zip", "a", "new/folders/a.zip"])
def test_saving_again_replaces_the_whole_and_leaves_nothing_aside(
    tmp_path: Path, name: str
) -> None:
    make_adapter(seed=1).save(tmp_path / name)
    path = make_adapter(seed=2).save(tmp_path / name)
    assert path == tmp_path / name
    assert read(path).sha256 == make_adapter(seed=2).sha256
    assert [sibling.name for sibling in path.parent.iterdir()] == ["a" + path.suffix]


def test_a_written_zip_is_readable_like_any_new_file(tmp_path: Path) -> None:
    """A temporary file is private at first; a download must not stay so."""
    (tmp_path / "plain").write_text("x")
    path = make_adapter().save(tmp_path / "a.zip")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    ("name", "existing", "moves_before"),
    [("a.zip", True, 0), ("a.zip", False, 0), ("a", True, 0), ("a", True, 1), ("a", False, 0)],
)
def test_an_interrupted_write_leaves_the_old_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, existing: bool, moves_before: int
) -> None:
    """Wherever the move fails: no half file, no leftovers, and the old adapter still there."""
    path = tmp_path / name
    if existing:
        make_adapter(seed=1).save(path)
    before = tree(tmp_path)
    monkeypatch.setattr(files, "exchange", lambda *_: False)
    replace, moves = os.replace, []

    def failing(source: Any, target: Any) -> None:
        moves.append(source)
        if len(moves) == moves_before + 1:
            raise OSError("power cut")
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(AdapterError, match="cannot be written: power cut"):
        make_adapter(seed=2).save(path)
    assert tree(tmp_path) == before
    if existing:
        assert read(path).sha256 == make_adapter(seed=1).sha256


def test_zip_bytes_do_not_depend_on_the_clock() -> None:
    with zipfile.ZipFile(io.BytesIO(zip_bytes({"a": b"x"}))) as archive:
        assert archive.getinfo("a").date_time == (1980, 1, 1, 0, 0, 0)


@pytest.mark.parametrize(
    ("buckets", "name"),
    [
        (["Tone of voice", "SQL"], "tone-of-voice-sql"),
        (["../../etc"], "etc"),
        (["漢字", "…"], "adapter"),
        (["Verträge", "Größe", "café"], "vertraege-groesse-cafe"),
        ([], "adapter"),
        (["x" * 60, "y" * 60, "z" * 60, "w"], f"{'x' * 20}-{'y' * 20}-{'z' * 18}"),
    ],
)
def test_names_are_safe_for_files(buckets: list[str], name: str) -> None:
    assert adapter_name(buckets) == name


@pytest.mark.parametrize("r", [4, 6])
def test_a_wide_and_a_narrow_layer_sum_alike(r: int) -> None:
    """More ranks than a layer has columns: the decomposition is smaller, even than r."""
    layout = LoRALayout(
        spec=LoRASpec(r=r, target_modules=("k_proj",)), targets=(Target(0, "k_proj", 8, 4),)
    )
    adapters = [make_adapter(seed=s, layout=layout) for s in (1, 2)]
    tokens, kept = sum_adapters(adapters, [1.0, 1.0])
    assert kept == pytest.approx(1, abs=1e-6)
    found = delta(detokenize(tokens, layout), layout)
    expected = [delta(a.state, layout) for a in adapters]
    for path, change in found.items():
        assert relative_error(change, expected[0][path] + expected[1][path]) < 0.01
