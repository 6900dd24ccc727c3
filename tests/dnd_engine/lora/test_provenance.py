"""A recipe finds the same prompts again under whatever names, or says which are missing."""

import codecs
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dnd_engine.config import RefineConfig
from dnd_engine.errors import PromptFileError, RecipeError
from dnd_engine.limits import PromptLimits
from dnd_engine.lora.changes import ChangedBy, changed_by, taught_alike, taught_score
from dnd_engine.lora.provenance import BucketSource, Recipe, Refinement, read_recipe
from dnd_engine.prompts.buckets import Bucket
from dnd_engine.prompts.files import read_prompt_file
from tests.present import present

SQL = "".join(f'"Write a query.\n\nOrders of customer {i}",SELECT {i}\n' for i in range(9))


def write_prompts(folder: Path) -> tuple[Path, Path]:
    """A table with labels, and a text that is cut one way or another."""
    folder.mkdir(exist_ok=True)
    table, text = folder / "sql.csv", folder / "tone.txt"
    table.write_text("question,answer\n" + SQL, encoding="utf-8")
    text.write_text("Be kind.\nTo all.\n\nBe blunt.\n", encoding="utf-8")
    return table, text


def buckets(folder: Path) -> list[Bucket]:
    table, text = write_prompts(folder)
    return [
        Bucket("SQL", 1.0, (read_prompt_file(table),)),
        Bucket("tone", 0.5, (read_prompt_file(text, split="lines"),)),
    ]


def recipe(of: Sequence[Bucket], **fields: Any) -> Recipe:
    given: dict[str, Any] = {
        "base": "base",
        "base_sha256": "b" * 64,
        "encoder": "encoder",
        "encoder_sha256": "e" * 64,
        "generator": "generator",
        "generator_sha256": "f" * 64,
        "mix": "pool",
        "seed": 3,
        "buckets": tuple(map(BucketSource.of, of)),
        "strength": 0.5,
        "sha256": "a" * 64,
    }
    return Recipe(**(given | fields))


def refined(of: Sequence[Bucket]) -> Refinement:
    sources = tuple(map(BucketSource.of, of))
    return Refinement.of(
        RefineConfig(steps=7), from_sha256="c" * 64, num_prompts=9, folded=(0.5,), buckets=sources
    )


def test_a_recipe_makes_what_came_from_prompts_alone_and_not_for_hours(tmp_path: Path) -> None:
    """A LoRA trained on labels keeps the recipe of what it began from; that would make another."""
    whole = recipe(buckets(tmp_path)).to_json()
    with pytest.raises(RecipeError, match=r"was trained on answers, .*Keep the adapter"):
        Recipe.from_json(whole | {"trained": {"steps": 3}})
    once = refined(buckets(tmp_path)).to_json()
    with pytest.raises(RecipeError, match=r"expected at most 16 refinements, got 17"):
        Recipe.from_json(whole | {"refined": once, "refined_before": [once] * 16})
    for name, value in (("steps", 10**6), ("seed", 10**30)):
        with pytest.raises(RecipeError, match=rf"`{name}` must be between"):
            Recipe.from_json(whole | {"refined": once | {name: value}})
    with pytest.raises(RecipeError, match=r"at most 100 strengths folded in, got 101"):
        Recipe.from_json(whole | {"refined": once, "folded": [0.5] * 100})


def test_a_recipe_comes_back_from_its_file_and_holds_no_texts(tmp_path: Path) -> None:
    made = buckets(tmp_path)
    kept = recipe(made, refined=refined(made[:1]), refined_before=(refined(made),), folded=(2.0,))
    path = kept.save(tmp_path / "new" / "recipe.json")
    assert read_recipe(path) == kept
    written = path.read_text(encoding="utf-8")
    assert "customer" not in written
    assert "Be kind" not in written
    assert not kept.has_texts
    assert [p.name for p in path.parent.iterdir()] == ["recipe.json"]


def test_a_recipe_with_texts_needs_no_files(tmp_path: Path) -> None:
    made = buckets(tmp_path)
    files = [file for one in made for file in one.files]
    kept = recipe(made, refined=refined(made[:1])).with_texts(files)
    back = read_recipe(kept.save(tmp_path / "recipe.json"))
    assert back.has_texts
    found = [source.bucket() for source in back.buckets]
    assert [(b.name, b.weight, b.prompts) for b in found] == [
        (b.name, b.weight, b.prompts) for b in made
    ]
    assert found[0].prompts[0].label == "SELECT 0"
    assert back.without_texts() == recipe(made, refined=refined(made[:1]))


def test_an_instruction_above_every_input_is_found_again_as_pairs(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text("Name it.\n\nOne.\n\nName it.\n\nTwo.\n", encoding="utf-8")
    kept = recipe([Bucket("pairs", 1.0, (read_prompt_file(path),))])
    found = kept.find_files([tmp_path])
    assert kept.with_texts(found).has_texts
    assert [prompt.text for prompt in found[0].prompts] == ["Name it.\n\nOne.", "Name it.\n\nTwo."]


def test_prompt_files_are_found_by_hash_whatever_they_are_called(tmp_path: Path) -> None:
    kept = recipe(buckets(tmp_path / "then"))
    deep = tmp_path / "now" / "deep"
    deep.mkdir(parents=True)
    (tmp_path / "then" / "sql.csv").rename(deep / "x.backup")
    (tmp_path / "then" / "tone.txt").rename(tmp_path / "now" / "y.md")
    (deep / "other.txt").write_text("Something else.", encoding="utf-8")
    (deep / "broken").symlink_to(deep / "nowhere")
    found = kept.find_files([tmp_path / "now"])
    assert kept.with_texts(found).has_texts
    assert sorted(file.name for file in found) == ["sql.csv", "tone.txt"]
    assert [len(file.prompts) for file in found] == [9, 3], "read in lines, as it was then"


def test_every_missing_prompt_file_is_named(tmp_path: Path) -> None:
    kept = recipe(buckets(tmp_path))
    (tmp_path / "tone.txt").write_text("Changed.", encoding="utf-8")
    (tmp_path / "sql.csv").unlink()
    with pytest.raises(RecipeError) as refused:
        kept.with_texts(kept.find_files([tmp_path]))
    told = str(refused.value)
    assert told.startswith("2 prompt file(s) that the adapter was made from are missing")
    assert "`sql.csv` (9 prompts, SHA-256 " in told
    assert "`tone.txt` (3 prompts, SHA-256 " in told
    assert "On the page, drop them on the Workbench first; on the command line, name them" in told


def test_a_file_that_reads_otherwise_now_is_not_taken(tmp_path: Path) -> None:
    kept = recipe(buckets(tmp_path))
    shorter = kept.find_files([tmp_path], PromptLimits(max_prompt_chars=20))
    with pytest.raises(
        RecipeError, match=r"1 prompt file\(s\) .* read otherwise with these limits"
    ):
        kept.with_texts(shorter)


@pytest.mark.parametrize("name", ["none", "none" * 100])
def test_a_path_without_anything_is_an_error(tmp_path: Path, name: str) -> None:
    """Also a name that is too long, for which the system has another error."""
    kept = recipe(buckets(tmp_path))
    with pytest.raises(PromptFileError, match=r"none: expected a file or folder, found nothing"):
        kept.find_files([tmp_path / name])


def test_texts_that_were_changed_are_refused(tmp_path: Path) -> None:
    made = buckets(tmp_path)
    values = recipe(made).with_texts([f for b in made for f in b.files]).to_json()
    values["buckets"][1]["files"][0]["prompts"][0]["text"] = "Be cruel."
    with pytest.raises(RecipeError, match=r"the texts of `tone\.txt` .* are not those the adapter"):
        Recipe.from_json(values)


def test_a_bucket_of_an_earlier_version_puts_its_instruction_above_all(tmp_path: Path) -> None:
    made = buckets(tmp_path)
    values = recipe(made).with_texts([f for b in made for f in b.files]).to_json()
    assert [b.above_all for b in bucket_of(values)] == [False, False]
    for source in values["buckets"]:
        del source["above_all"]
    assert [b.above_all for b in bucket_of(values)] == [True, True]


def bucket_of(values: dict[str, Any]) -> list[Bucket]:
    return [source.bucket() for source in Recipe.from_json(values).buckets]


def test_what_a_later_version_adds_is_left_out(tmp_path: Path) -> None:
    kept = recipe(buckets(tmp_path))
    assert Recipe.from_json({**kept.to_json(), "nearest_tasks": [], "checks": {}}) == kept


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, r"expected a recipe of format 1, got format 2\."),
        ({"format": None}, r"Adapters of other tools have no recipe"),
        (
            {"seed": "x", "mix": "blend"},
            r"`mix`: Input should be 'pool' or 'sum'; `seed`: Input sh",
        ),
        ({"buckets": 3}, r"`buckets`: Input should be a valid"),
        ({"strength": float("nan")}, r"`strength`: Input should be"),
        ({"folded": [1, 99]}, r"`folded\.1`: Input should be less than or equal to 10"),
        ({"strength": "strong"}, r"`strength`: Input should be a valid number"),
        ({"refined": {"steps": 0}}, r"`refined.*`: "),
        ({"generator": ""}, r"`generator`: String should have at least 1 character"),
        ({"generator": None}, r"names neither a generator nor an imprint"),
        ({"generator_sha256": None}, r"names generator and encoder, each with its SHA-256"),
        ({"encoder_sha256": None}, r"names generator and encoder, each with its SHA-256"),
    ],
)
def test_what_is_no_recipe_is_refused_with_every_fault(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe(buckets(tmp_path)).to_json() | change), encoding="utf-8")
    with pytest.raises(RecipeError, match=message):
        read_recipe(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", r"recipe `.*r\.json` is not JSON: "),
        (
            b"\xff\xfe",
            r"r\.json` is no recipe file: it holds no text\. Use a recipe",
        ),
        (b"[" * 100_000, r"is not JSON: "),
        (b"[]", r"must be an object in braces, got `\[\]`\. Use a recipe"),
        (b"{}", r"expected a recipe of format 1, got format none\."),
    ],
)
def test_files_that_hold_no_recipe_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "r.json").write_bytes(data)
    with pytest.raises(RecipeError, match=message):
        read_recipe(tmp_path / "r.json")


def test_a_recipe_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    kept = recipe(buckets(tmp_path))
    path = kept.save(tmp_path / "r.json")
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    assert read_recipe(path) == kept


def test_a_missing_recipe_and_a_place_that_cannot_be_written_are_told(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"none\.json` cannot be read: No such file"):
        read_recipe(tmp_path / "none.json")
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"file` is not a folder\. Choose another place\."):
        recipe([]).save(tmp_path / "file" / "recipe.json")


@pytest.mark.parametrize(
    ("refined", "alike"),
    [
        ({"commonest_share": 0.9}, True),
        ({"commonest_share": 0.89}, False),
        ({"commonest_share": 1.0, "labels": True}, False),
        ({"commonest_share": True}, False),
        ({"commonest_share": "1.0"}, False),
        ({}, False),
        (["commonest_share"], False),
        (None, False),
    ],
)
def test_one_answer_for_all_is_known_from_whatever_a_file_says(refined: Any, alike: bool) -> None:
    assert taught_alike(refined) == alike


@pytest.mark.parametrize(
    ("provenance", "changed"),
    [
        ({}, None),
        ({"imprint": {}}, "imprint"),
        ({"imprint": {}, "refined": {"labels": False}}, "itself"),
        ({"refined": {"commonest_share": 1.0}}, "itself_alike"),
        ({"refined": {"commonest_share": 1.0, "labels": True}}, "labels"),
        ({"refined": "a stranger's words"}, "itself"),
        ({"refined": {}, "trained": {"answers": "person"}}, "person"),
        ({"imprint": {}, "trained": {"answers": "teacher"}}, "teacher"),
        ({"trained": {}}, "labels"),
        ({"trained": "a stranger's words"}, "labels"),
    ],
)
def test_how_an_adapter_was_changed_is_known_from_whatever_a_file_says(
    provenance: dict[str, Any], changed: ChangedBy | None
) -> None:
    assert changed_by(provenance) == changed


def test_the_score_of_teaching_is_the_last_one() -> None:
    by_hand = {"answers": "person", "num_held_back": 4, "score_before": 0.0, "score": 0.5}
    by_itself = {"num_held_back": 8, "score_before": 0.5, "score": 0.75}
    taught = {"refined": by_itself, "trained": by_hand}
    assert present(taught_score(taught)).now == 0.5
    assert present(taught_score(taught)).by_itself is False
    refined = {"refined": by_itself, "trained": {**by_hand, "refined_later": True}}
    assert present(taught_score(refined)).now == 0.75
    assert present(taught_score(refined)).by_itself is True
    assert changed_by(refined) == "person", "what a person taught counts on"


def test_settings_of_a_refinement_are_those_it_was_made_with() -> None:
    assert refined([]).config == RefineConfig(steps=7)
    assert replace(refined([]), steps=8) != refined([])
