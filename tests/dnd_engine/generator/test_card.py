"""The card says what a generator is made of and made from; reports are kept beside it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dnd_engine.errors import GeneratorError
from dnd_engine.generator.card import add_teacher, new_card, save_report, update_card
from dnd_engine.generator.config import GeneratorConfig
from dnd_engine.generator.report import Report
from dnd_engine.tasks.families.registry import all_operations
from tests.dnd_engine.tiny import BASE_ID, LAYOUT
from tests.reports import report

RECIPE: dict[str, Any] = {
    "objective": "task_loss",
    "tasks_per_step": 2,
    "examples_per_task": 3,
    "bare_share": 0.7,
    "seed": 5,
    "patience": 3,
    "warm_start": None,
    "without_licence_classes": ["nc-or-research"],
}
RESULT: dict[str, Any] = {
    "steps": 100,
    "kept_step": 75,
    "stopped_early": False,
    "tasks": 3,
    "variants": 7,
    "validation_loss": 1.5,
    "validation_exact": 0.25,
    "validation_loss_wrong_prompts": 2.5,
    "validation_wrong_prompt_gap": 1.0,
    "validation_operation_gain": 0.5,
}
DATA = [
    {"task": "a", "family": "f", "licence": "MIT", "category": "c"},
    {"task": "b", "family": "g", "licence": "MIT", "category": "c"},
    {"task": "c", "family": "g", "licence": "CC0-1.0", "category": "c"},
]


def card(
    recipe: dict[str, Any] | None = None,
    result: dict[str, Any] | None = None,
    kind: str = "generator",
    validation_data: list[dict[str, str]] | None = None,
    **fields: Any,
) -> str:
    training = {
        "kind": kind,
        "recipe": RECIPE | (recipe or {}),
        "result": RESULT | (result or {}),
        "data": DATA,
        "variants": ["a--b", "a--c", "b--b", "b--c"],
        "validation_data": validation_data or [],
    }
    defaults: dict[str, Any] = {"features": ((4, 8, 384), (16, 6, 32), (64, 4, 32))}
    config = GeneratorConfig(
        **(defaults | fields),
        kernel_size=3,
        layout=LAYOUT,
        base={"id": BASE_ID},
        encoder={"id": "some/encoder"},
        training=training,
    )
    return new_card(config)


def test_a_card_names_structure_training_and_data() -> None:
    text = card()
    for line in (
        "- Condition: text encoder some/encoder; 4 prompts of 8 vectors, 384 wide",
        "stages (4, 8, 384) > (16, 6, 32) > (64, 4, 32), kernel 3",
        "- Objective: task loss, end to end through the frozen base",
        "- Training: 100 steps of 2 tasks x up to 3 examples, 70% bare inputs, seed 5; weights of "
        "step 75, the best validation",
        "1.500 nats per answer token with the task's prompts, 2.500 with another family's; +0.500 "
        "where only the operation is another family's",
        "3 tasks of 2 families, and 4 variants of them (answer formats, labels)",
        "Families that only validated: none.",
        "Left out: licence classes nc-or-research.",
        "| MIT | 2 |",
        "| CC0-1.0 | 1 |",
    ):
        assert line in text
    assert "families left out of training" not in text


def test_a_card_counts_what_a_warm_start_has_seen() -> None:
    seen = [{"task": "d", "family": "f", "licence": "MIT", "category": "c"}]
    text = card(result={"tasks": 1, "variants": 2}, validation_data=seen)
    assert "3 tasks of 2 families, and 4 variants" in text
    assert "Families that only validated: none." in text, "this run has trained on f"


def test_a_card_names_validation_families_and_their_losses() -> None:
    more = [{"task": "v", "family": "kept-out", "licence": "MIT", "category": "c"}]
    text = card(result={"families_loss": 3.25, "stopped_early": True}, validation_data=more)
    assert "Families that only validated: kept-out." in text
    bare = ", bare inputs where a task has them"
    assert f"which chose the step{bare}: 3.250 nats per answer token\n" in text
    assert "the best validation, stopped early" in text
    whole = card({"patience": 0}, {"families_loss": 3.25}, validation_data=more)
    assert "weights of step 75\n" in whole
    assert f"families left out of training{bare}: 3.250" in whole


def test_a_card_counts_no_more_tasks_a_step_than_there_are() -> None:
    assert "100 steps of 7 tasks x up to" in card({"tasks_per_step": 8})


def test_a_card_names_other_heads() -> None:
    text = card(features=((4, 2, 64), (64, 4, 32)), head="mlp", head_options={"hidden": 16})
    assert "- Head: mlp, " in text
    assert "parameters with the shared LoRA; hidden 16" in text
    assert "kernel" not in text


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ({"objective": "reconstruction"}, "reconstruction of LoRA checkpoints (the paper's)"),
        ({"objective": "task_loss"}, "task loss, end to end through the frozen base"),
    ],
)
def test_a_card_names_its_objective(recipe: dict[str, Any], words: str) -> None:
    text = card(recipe)
    assert words in text
    assert ("bare inputs, seed" in text) == (recipe["objective"] == "task_loss")


def test_the_card_of_a_multi_task_lora_does_not_call_it_a_generator() -> None:
    values = {k: v for k, v in RESULT.items() if "wrong" not in k and "gain" not in k}
    text = card(kind="multi_task_lora", result=dict.fromkeys(RESULT.keys() - values, None))
    assert f"# Multi-task LoRA for {BASE_ID}" in text
    assert "- Head" not in text
    assert "another family's" not in text


def test_a_section_is_replaced_and_others_stay(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(card())
    update_card(tmp_path, "heldout", "first words")
    update_card(tmp_path, "train", "other words")
    update_card(tmp_path, "heldout", "second words")
    text = (tmp_path / "README.md").read_text()
    assert "first words" not in text
    assert text.count("## Unseen tasks") == 1
    assert text.index("other words") < text.index("second words")
    assert "Not examined yet" not in text
    update_card(tmp_path, "my-own", "third words")
    assert "## My own\n\nthird words" in (tmp_path / "README.md").read_text()


def test_a_new_teacher_takes_the_place_of_what_was_measured_of_another(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(card())
    notes = {"recipe": RECIPE | {"r": 4}, "result": RESULT, "data": DATA, "variants": []}
    for section in ("heldout", "train"):
        update_card(tmp_path, section, "old words")
    add_teacher(tmp_path, notes)
    text = (tmp_path / "README.md").read_text()
    assert "old words" not in text
    assert "examination" not in text
    assert text.index("## Data") < text.index("Not examined yet") < text.index("## Teacher")
    update_card(tmp_path, "heldout", "new words")
    assert "Not examined yet" not in (tmp_path / "README.md").read_text()


def test_a_readme_in_another_encoding_is_added_to(tmp_path: Path) -> None:
    """It ended an evaluation of hours in a UnicodeDecodeError."""
    (tmp_path / "README.md").write_bytes(b"# caf\xe9\n")
    update_card(tmp_path, "heldout", "words")
    assert (tmp_path / "README.md").read_text("utf-8").startswith("# caf\ufffd\n\n")


def test_reports_are_kept_by_split(tmp_path: Path) -> None:
    first, second, third = (replace(report(), seed=seed) for seed in (1, 2, 3))
    assert save_report(tmp_path, "heldout", first) == tmp_path / "reports" / "heldout.json"
    save_report(tmp_path, "train", second)
    save_report(tmp_path, "heldout", third)
    found = {p.stem: json.loads(p.read_text()) for p in (tmp_path / "reports").iterdir()}
    assert {split: values["seed"] for split, values in found.items()} == {"heldout": 3, "train": 2}


def test_a_kept_report_quotes_this_projects_own_tasks_only(tmp_path: Path) -> None:
    """A generator is passed on with its report; other people's test data are not ours to give."""
    ours, written = next(iter(all_operations())), "say-fix-typo"
    like = report().failures[0]
    failures = tuple(
        replace(like, slug=slug, asked=f"text of {slug}")
        for slug in ("some-dataset", ours, written, f"{ours}~json", "some-dataset~json")
    )
    path = save_report(tmp_path, "heldout", replace(report(), failures=failures))
    kept = Report.from_json(json.loads(path.read_text()))
    assert [f.slug for f in kept.failures] == [ours, written, f"{ours}~json"]
    assert kept.failures_left_out == 2
    assert "some-dataset" not in path.read_text()


def test_a_report_that_cannot_be_kept_says_so(tmp_path: Path) -> None:
    (tmp_path / "reports").write_text("in the way")
    with pytest.raises(
        GeneratorError, match=r"the report cannot be kept as `.*heldout\.json`: .*leave --card out"
    ):
        save_report(tmp_path, "heldout", report())
