"""Planted generators are called by name, from their scores and distances alone."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from dnd_engine.evaluation.verdicts import judge
from dnd_engine.generator.report import Cosine, Distances, Verdict
from dnd_engine.scoring.scores import ItemScore
from dnd_engine.tasks.folder import Mode
from dnd_engine.wording import number, signed
from tests.dnd_engine.synthetic import CHANCES, COSINE, DISTANCES, scores, tasks

TASKS = tasks(items=4)


def named(
    found: list[ItemScore],
    cosine: Cosine = COSINE,
    distances: Distances = DISTANCES,
    **more: Any,
) -> dict[str, Verdict]:
    return {v.name: v for v in judge(found, cosine, distances, seed=0, **more)}


def bare(**chances: float) -> dict[Mode, dict[str, float]]:
    return {"bare": {**CHANCES["bare"], **chances}}


def held(verdicts: Mapping[str, Verdict]) -> set[str]:
    return {name for name, verdict in verdicts.items() if verdict.holds}


def cosines(same: float | None, different: float | None) -> Cosine:
    return Cosine(
        same_task=0.999,
        different_task=0.99,
        same_task_centred=same,
        different_task_centred=different,
    )


def test_a_generator_that_reads_its_prompts_is_called_one() -> None:
    found = named(scores(bare(), of=TASKS))
    assert held(found) == {
        "depends_on_prompts",
        "beats_base",
        "beats_multi_task_lora",
        "better_than_nearest",
        "gain_on_unseen",
    }
    assert all(verdict.holds is not None for verdict in found.values())
    assert found["depends_on_prompts"].words.startswith("Bare: the prompts carry the task. ")
    assert "Generator, right prompts .2" in found["depends_on_prompts"].words


def test_a_small_lead_is_worded_as_one() -> None:
    planted = scores(bare(generator=0.5, generator_wrong=0.0, generator_constant=0.0), of=TASKS)
    small = [replace(score, score=score.score * 0.06) for score in planted]
    found = named(small)["depends_on_prompts"]
    assert found.holds
    assert found.good is None, "too little to be good news"
    assert found.words.startswith("Bare: the prompts barely carry the task. ")


def test_what_is_made_of_an_adapter_is_judged_by_its_own_row() -> None:
    planted = scores(CHANCES, of=TASKS, draws=1)
    imprinted = named(planted, row="generator_imprint")
    assert {v.row for v in imprinted.values()} == {"generator_imprint"}
    assert imprinted["made_beats_base"].words.startswith(
        "Bare: better than the base. Generator, imprinted .4"
    )
    assert imprinted["made_beats_base"].good
    assert imprinted["made_depends_on_prompts"].holds
    assert "Imprinted, wrong prompts .0" in imprinted["made_depends_on_prompts"].words
    taught = named(planted, row="generator_refined")
    assert taught["made_beats_generator"].words.startswith("Bare: better than the generator alone.")
    assert not {"made_depends_on_prompts", "made_ignores_prompts"} & set(taught), (
        "no row has another task's prompts"
    )
    assert "made_beats_imprint" in taught
    assert "made_beats_imprint" not in named(planted, row="imprint"), "not compared with itself"


def imprints(copies: Mapping[str, str] | None = None, /, **chances: float) -> dict[str, Verdict]:
    planted = scores(bare(**chances), of=TASKS, copies=copies, draws=1)
    return named(planted, row="generator_imprint")


def test_an_imprint_that_carries_its_task_beats_whatever_does_not() -> None:
    found = imprints(imprint=0.2)
    assert held(found) == {
        "made_depends_on_prompts",
        *(f"made_beats_{row}" for row in ("base", "generator", "imprint", "multi_task_lora")),
        *("made_beats_steering_vector", "made_beats_few_shot"),
    }
    assert found["made_ignores_prompts"].good, "a bad thing that does not hold"
    assert "Imprint, without the generator .1" in found["made_beats_imprint"].words


@pytest.mark.parametrize(
    ("other", "name"),
    [
        ("imprint", "an imprint without the generator"),
        ("steering_vector", "a steering vector"),
        ("few_shot", "labelled examples in the prompt"),
        ("base", "the base"),
        ("generator", "the generator alone"),
    ],
)
def test_an_imprint_that_gives_no_more_than_another_row_is_told_so(other: str, name: str) -> None:
    found = imprints({other: "generator_imprint"})[f"made_beats_{other}"]
    assert (found.holds, found.good) == (False, False)
    assert found.words.startswith(f"Bare: no clear gain over {name}. Generator, imprinted .4")
    worse = imprints(**{other: 0.9})[f"made_beats_{other}"]
    assert worse.words.startswith(f"Bare: clearly worse than {name}. ")


def test_an_imprint_that_is_the_same_for_any_prompts_ignores_them() -> None:
    found = imprints({"generator_imprint_wrong": "generator_imprint"})
    assert found["made_ignores_prompts"].holds
    assert found["made_ignores_prompts"].good is False
    assert found["made_depends_on_prompts"].holds is False
    # The cosine is that of the generator's own adapters, so it says nothing of imprints.
    level = imprints(generator_imprint_wrong=0.4)["made_ignores_prompts"]
    assert level.holds is None
    assert "The cosine of ΔW was not measured." in level.words
    without = [s for s in scores(bare(), of=TASKS) if s.row != "generator_imprint_wrong"]
    assert named(without, row="generator_imprint")["made_ignores_prompts"].holds is None


def test_a_generator_that_gives_the_same_for_any_prompt_ignores_them() -> None:
    same = {"generator_wrong": "generator", "generator_constant": "generator"}
    # Two draws of one adapter are the same adapter.
    planted = scores(bare(), of=TASKS, copies=same, draws=1)
    found = named(planted, Cosine(), Distances())
    assert found["ignores_prompts"].holds
    assert found["ignores_prompts"].good is False
    assert found["depends_on_prompts"].holds is False
    assert found["gain_on_unseen"].holds is False


@pytest.mark.slow
def test_a_generator_whose_adapters_differ_by_noise_alone_ignores_its_prompts() -> None:
    planted = scores(bare(generator=0.1, generator_wrong=0.1, generator_constant=0.1), of=TASKS)
    assert named(planted, cosines(0.03, -0.02))["ignores_prompts"].holds
    assert named(planted, cosines(None, None))["ignores_prompts"].holds
    changed = named(planted, cosines(0.95, -0.02))["ignores_prompts"]
    assert changed.holds is False
    assert "change the adapter, not what it does" in changed.words
    assert named(planted, Cosine(), Distances())["ignores_prompts"].holds is None


def test_a_generator_that_returns_the_nearest_training_adapter_retrieves() -> None:
    planted = scores(bare(), of=TASKS, copies={"generator": "nearest_lora"}, draws=1)
    found = named(planted, Cosine(), Distances())
    assert found["retrieves_nearest"].holds
    assert found["better_than_nearest"].holds is False


@pytest.mark.parametrize(("ratio", "holds"), [(0.05, True), (0.9, False), (None, None)])
def test_equal_scores_are_retrieval_only_near_a_training_adapter(
    ratio: float | None, holds: bool | None
) -> None:
    planted = scores(bare(generator=0.2, nearest_lora=0.2), of=TASKS)
    assert DISTANCES.nearest is not None
    nearest = None if ratio is None else replace(DISTANCES.nearest, ratio=ratio)
    distances = replace(DISTANCES, nearest=nearest)
    assert named(planted, distances=distances)["retrieves_nearest"].holds is holds


def test_a_generator_as_good_as_the_oracle_matches_it() -> None:
    found = named(scores(bare(generator=0.95), of=TASKS))
    assert found["matches_oracle"].holds
    assert found["solves_unseen"].holds


def test_a_difference_too_wide_to_tell_is_no_match_with_the_oracle() -> None:
    """Level on average, but half the families are .3 under the oracle: it may well be worse."""
    planted = scores(bare(), of=TASKS, copies={"generator": "oracle_lora"}, draws=1)
    swing = {f"family-{n:02}": 0.3 if n % 2 else -0.3 for n in range(20)}
    wide = [
        replace(s, score=s.score + swing[s.family]) if s.row == "generator" else s for s in planted
    ]
    found = named(wide)["matches_oracle"]
    assert found.holds is None
    assert found.good is None
    assert found.words.startswith("Bare: not known whether it matches a LoRA trained on labels. ")
    assert "difference 0 (-.1" in found.words
    assert found.words.endswith("A match has its whole interval above -.05.")


def test_a_small_shortfall_is_a_match_and_a_clear_large_one_is_none() -> None:
    planted = scores(bare(), of=TASKS, copies={"generator": "oracle_lora"}, draws=1)

    def under(shortfall: float) -> Verdict:
        return named(
            [replace(s, score=s.score - shortfall) if s.row == "generator" else s for s in planted]
        )["matches_oracle"]

    assert under(0.04).holds
    assert under(0.06).holds is False
    assert "below a LoRA trained on labels" in under(0.06).words


def test_what_one_shared_lora_does_as_well_is_no_match_with_the_oracle() -> None:
    found = named(scores(bare(generator=0.95, multi_task_lora=0.95), of=TASKS))
    assert found["matches_oracle"].holds is False
    assert "so is one LoRA for all tasks" in found["matches_oracle"].words


def test_clearly_worse_is_said() -> None:
    found = named(scores(bare(generator=0.1, multi_task_lora=0.5), of=TASKS))
    assert "clearly worse than one LoRA for all tasks" in found["beats_multi_task_lora"].words


def test_odds_alone_do_not_carry_a_task() -> None:
    planted = scores(bare(generator_wrong=0.3, generator_constant=0.3), of=TASKS, draws=1)
    shifted = [replace(s, nll=s.nll - 0.4 * (s.row == "generator")) for s in planted]
    found = named(shifted)
    assert found["depends_on_prompts"].holds is False
    assert "likelier, but no more of them come out." in found["depends_on_prompts"].words
    assert found["gain_on_unseen"].holds
    assert found["ignores_prompts"].holds is False


@pytest.mark.parametrize(
    ("row", "open_verdicts"),
    [
        ("generator_wrong", {"depends_on_prompts", "gain_on_unseen", "ignores_prompts"}),
        ("nearest_lora", {"better_than_nearest", "retrieves_nearest"}),
        ("oracle_lora", {"matches_oracle", "solves_unseen"}),
        ("multi_task_lora", {"beats_multi_task_lora", "matches_oracle"}),
        ("base", {"beats_base", "solves_unseen"}),
    ],
)
def test_a_verdict_is_open_where_its_row_is_missing(row: str, open_verdicts: set[str]) -> None:
    without = [s for s in scores(bare(), of=TASKS) if s.row != row]
    found = named(without)
    assert {name for name, verdict in found.items() if verdict.holds is None} == open_verdicts
    for name in open_verdicts:
        assert f"Not measured: {row}" in found[name].words
        assert found[name].good is None


def test_without_a_generator_everything_is_open() -> None:
    rest = [s for s in scores(bare(), of=TASKS) if s.row != "generator"]
    assert {v.holds for v in judge(rest, COSINE, DISTANCES, seed=0)} == {None}
    assert judge([], COSINE, DISTANCES, seed=0) == ()


def test_a_control_that_was_not_measured_is_named() -> None:
    without = [s for s in scores(bare(), of=TASKS) if s.row != "generator_constant"]
    found = named(without)["depends_on_prompts"]
    assert found.holds
    assert "Not measured: Generator, one fixed sentence." in found.words


def test_the_gain_leaves_out_tasks_whose_wrong_prompts_ask_for_another_format() -> None:
    found = scores(bare(), of=TASKS)
    half = {task.info.slug for task in TASKS[::2]}
    assert "of 20 tasks" in named(found, other_format=half)["gain_on_unseen"].words
    everything = {task.info.slug for task in TASKS}
    assert named(found, other_format=everything)["gain_on_unseen"].holds is None


def test_there_is_no_gain_on_unseen_tasks_among_seen_ones() -> None:
    seen = [replace(s, holdout="") for s in scores(bare(), of=TASKS)]
    found = named(seen)
    assert found["gain_on_unseen"].holds is None
    assert found["solves_unseen"].holds is None


def test_full_prompts_are_judged_apart_and_after_bare_ones() -> None:
    found = judge(scores(CHANCES, of=TASKS, draws=1), COSINE, DISTANCES, seed=0)
    names = [v.name for v in found]
    assert len(set(names)) == len(names) == 18
    assert [v.mode for v in found if not v.name.endswith("_full")] == ["bare"] * 9
    assert names[0] == "depends_on_prompts"
    assert next(v for v in found if v.name == "beats_multi_task_lora_full").holds is False


def test_a_single_family_is_judged_by_its_items_and_that_is_said() -> None:
    alone = tasks(count=2, items=8)
    words = named(scores(bare(generator=0.9), of=alone))["beats_base"].words
    assert "better than the base" in words
    assert "over items of one family" in words


FROM_DIFFERENCES = {
    "depends_on_prompts",
    "beats_base",
    "beats_multi_task_lora",
    "better_than_nearest",
    "gain_on_unseen",
    "solves_unseen",
    "matches_oracle",
    "ignores_prompts",
    "retrieves_nearest",
}


@pytest.mark.parametrize(("families", "settled"), [(2, False), (4, False), (5, False), (6, True)])
def test_what_luck_alone_could_do_to_a_few_families_is_left_open(
    families: int, settled: bool
) -> None:
    """All of n families lie above zero by luck once in 2^n: 6 are the first under 2.5 %."""
    found = named(scores(bare(generator=1.0), of=tasks(count=2 * families, items=8)))
    assert set(found) == FROM_DIFFERENCES
    unseen = {"solves_unseen"}  # of new families and operations alone, two thirds of these
    for name in FROM_DIFFERENCES - unseen:
        verdict = found[name]
        assert (verdict.holds is not None) is (verdict.good is not None) is settled
        if not settled:
            assert ": too few families. " in verdict.words
            assert f"It takes 6 families to rule out luck, and {families} could" in verdict.words
    assert found["solves_unseen"].holds is None
    if settled:
        assert found["depends_on_prompts"].holds


def test_new_operations_are_judged_over_enough_families_of_their_own() -> None:
    """Five of eight families have new operations, and other families say nothing about those."""
    found = named(scores(bare(generator=1.0), of=tasks(count=16, items=8)))["solves_unseen"]
    assert found.holds is None
    assert "It takes 6 families to rule out luck, and " in found.words
    assert named(scores(bare(generator=1.0), of=tasks(count=24, items=8)))["solves_unseen"].holds


def test_one_item_a_task_of_one_family_settles_nothing() -> None:
    """Its intervals have no width."""
    found = named(scores(bare(generator=1.0), of=tasks(count=2, items=1)))
    assert {v.holds for v in found.values()} == {None}
    assert "too few items. " in found["depends_on_prompts"].words
    assert "It takes 6 items to rule out luck, and 1 could" in found["depends_on_prompts"].words


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-0.0001, "0"), (0.14, ".14"), (1.2, "1.20"), (-0.034, "-.03"), (0.0036, ".004")],
)
def test_numbers_are_written_one_way(value: float, text: str) -> None:
    assert number(value) == text
    assert signed(value) == (f"+{text}" if value > 0 else text)
