"""A base without a generator makes adapters by imprint alone, and everything after works."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from dnd_engine.cli import app
from dnd_engine.config import (
    NO_GENERATOR,
    EngineConfig,
    ImprintConfig,
    MeasureConfig,
    RefineConfig,
    Sampling,
)
from dnd_engine.engine import Engine
from dnd_engine.errors import GeneratorError, ImprintError, RecipeError
from dnd_engine.evaluation.baselines import Baselines
from dnd_engine.evaluation.examine import examine
from dnd_engine.evaluation.page import report_markdown
from dnd_engine.evaluation.settings import ExaminationConfig
from dnd_engine.imprint.left_out import leave_out
from dnd_engine.lora.provenance import Imprinting, Recipe, read_recipe
from dnd_engine.lora.seen import Seen, digests, with_inputs
from dnd_engine.progress import Progress, finish
from dnd_engine.prompts.files import from_texts
from dnd_engine.scoring.scores import DEFAULT_ROWS
from dnd_engine.tasks.folder import load_tasks
from tests.dnd_engine.test_engine import LETTERS, write_generator
from tests.dnd_engine.tiny import bucket, user
from tests.present import present


@pytest.fixture(scope="module")
def alone(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    cache = tmp_path_factory.mktemp("cache")
    return Engine.load(EngineConfig(base=str(tiny_folder), device="cpu", cache_dir=cache))


def test_nothing_is_said_of_a_generator_where_there_is_none(alone: Engine) -> None:
    assert not alone.info.has_generator
    assert (alone.info.generator_id, alone.info.generator_sha256) == (None, None)
    assert (alone.card, alone.reports) == ("", {})
    with pytest.raises(GeneratorError, match=r"no generator is loaded for .*can only be impr"):
        _ = alone.generator


@pytest.mark.slow
def test_what_a_generator_taught_is_inspected_without_its_teacher(
    alone: Engine, tiny_folder: Path, tmp_path: Path
) -> None:
    letters = bucket("letters", LETTERS)
    folder = write_generator(tiny_folder, tmp_path / "generator", size=0.1)
    made = Engine.load(replace(alone.config, generator=folder)).generate([letters])
    assert Imprinting.from_json(made.provenance["imprint"]).teacher == "generator"
    found = alone.inspect(made, [letters])
    assert found.effect is not None
    assert (found.agreement, found.verdict) == (None, None)
    with pytest.raises(GeneratorError, match="no generator is loaded"):
        next(alone.prove(made, [letters]))


@pytest.mark.slow
def test_an_adapter_is_the_imprint_of_the_bases_own_answers(
    alone: Engine, tiny_folder: Path, tmp_path: Path
) -> None:
    """The same weights as an engine with a generator gives that lets the base teach."""
    letters = bucket("letters", LETTERS)
    made = alone.generate([letters], seed=2)
    found = Imprinting.from_json(made.provenance["imprint"])
    assert (found.teacher, found.num_prompts) == ("base", 18)
    assert made.layout.spec.target_modules == ("down_proj",)
    assert not {"generator", "generator_sha256", "encoder"} & set(made.provenance)
    assert set(made.seconds) == {"imprint", "total"}
    assert made.making_seconds == made.seconds["total"]
    long = replace(made, seconds={"imprint": 1000.0, "total": 1000.0})
    assert present(finish(alone.imprint(long, [letters])).making_seconds) < 1000
    folder = write_generator(tiny_folder, tmp_path / "generator", size=0.1)
    other = Engine.load(replace(alone.config, generator=folder))
    assert other.generate([letters], seed=2, teacher="base").sha256 == made.sha256


def test_a_generator_can_be_left_out(tiny_folder: Path) -> None:
    config = EngineConfig(base=str(tiny_folder), generator=NO_GENERATOR, device="cpu")
    assert not Engine.load(config).info.has_generator


def test_its_stages_are_those_of_an_imprint(alone: Engine) -> None:
    seen: list[Progress] = []
    made = finish(alone.synthesize([bucket("letters", LETTERS)], strength=0.5), seen.append)
    assert {step.stage for step in seen} == {"ask", "imprint"}
    assert made.strength == 0.5
    assert made.is_imprinted


def test_where_nothing_can_be_imprinted_nothing_is_made(alone: Engine) -> None:
    with pytest.raises(ImprintError, match="no prompt has an instruction and an input"):
        alone.generate([bucket("sql", ["List the orders."])])
    with pytest.raises(GeneratorError, match="Leave imprint on, name a generator"):
        alone.generate([bucket("letters", LETTERS)], imprinted=False)


def test_a_prompt_that_two_buckets_have_is_left_out_only_if_neither_fits_it(
    alone: Engine,
) -> None:
    texts = sorted(LETTERS)
    buckets = [bucket("one", texts[:16]), bucket("other", texts[8:])]
    made = alone.generate(buckets)
    config = ImprintConfig()
    parts = [leave_out([(t, t) for t in part], config, 2) for part in (texts[:16], texts[8:])]
    fitted, others = ({text for part in parts for text, _ in part[n]} for n in (0, 1))
    assert fitted & others
    found = Imprinting.from_json(made.provenance["imprint"])
    assert set(found.left_out) == digests(others - fitted)


@pytest.mark.slow
def test_chat_checks_download_and_recipe_work(alone: Engine, tmp_path: Path) -> None:
    letters = bucket("letters", LETTERS)
    made = alone.generate([letters])
    *_, step = alone.chat(user("ab"), adapter=made, sampling=Sampling(max_new_tokens=4))
    assert step.adapted is not None
    found = alone.inspect(made, [letters])
    assert found.agreement is not None
    assert (found.agreement.num_prompts, found.agreement.left_out) == (6, True)
    assert found.verdict is not None
    assert found.familiarity is None
    proof = finish(alone.prove(made, [letters]))
    assert proof is not None
    assert {control.name for control in proof.controls} <= {"wrong", "base"}
    alone.save(made, tmp_path / "made.zip")
    again = alone.read_adapter(tmp_path / "made.zip")
    assert again.sha256 == made.sha256
    card = again.files()["README.md"].decode()
    assert "instruction imprinted in closed form" in card
    assert "Generator: none" in card
    assert "hypernetwork" not in card
    made.recipe.with_texts(letters.files).save(tmp_path / "recipe.json")
    recipe = read_recipe(tmp_path / "recipe.json")
    assert finish(alone.regenerate(recipe)).sha256 == made.sha256
    assert Seen.by(made.provenance).read == with_inputs(LETTERS)
    assert Seen.by(made.provenance).known


def test_it_is_evaluated_by_imprint_alone(
    alone: Engine, tasks_folder: Path, tmp_path: Path
) -> None:
    # All tasks are unseen where nothing was trained.
    tasks = load_tasks([tasks_folder])[:2]
    settings = ExaminationConfig(
        out=tmp_path, rows=DEFAULT_ROWS, modes=("bare",), limit_items=2, draws=1
    )
    report = examine(alone, tasks, settings)
    assert {row.row for row in report.rows} == {"base", "few_shot", "imprint"}
    assert report.not_measured["generator"] == "needs a generator"
    assert "seed 0, no generator." in report_markdown(report)
    assert (report.generator, report.generator_sha256) == ("imprint alone", "")
    assert Path(report.base).parts == (Path(alone.info.base_id).name,), "a path says who made it"
    assert {verdict.row for verdict in report.verdicts} == {"imprint"}
    page = (tmp_path / "REPORT.md").read_text()
    assert "No generator: imprint alone." in page


def test_rows_that_train_an_imprint_need_no_generator_but_others_answers(
    alone: Engine, tasks_folder: Path, tmp_path: Path
) -> None:
    tasks = load_tasks([tasks_folder])[:1]
    settings = ExaminationConfig(
        out=tmp_path, rows=("imprint_labelled_20",), modes=("bare",), limit_items=2, draws=1
    )
    report = examine(alone, tasks, settings)
    assert [row.row for row in report.rows] == ["imprint_labelled_20"]
    assert report.cost.refine_seconds["imprint_labelled_20"] > 0
    why_not = Baselines(alone, tasks, settings).why_not
    assert why_not("imprint_taught_20") == "needs a better model: name one with --teacher-base"
    assert why_not("imprint_refined_15") == "needs a generator"
    assert why_not("labelled_20") == "needs a generator"


def test_a_report_cannot_be_kept_beside_no_generator(
    alone: Engine, tasks_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "load", lambda *_, **__: alone)
    command = ["evaluate", "--tasks", str(tasks_folder), "--out", str(tmp_path), "--card"]
    shown = CliRunner().invoke(app, [*command, "--generator", "none"])
    assert shown.exit_code == 2
    assert "has none" in shown.output
    assert not list(tmp_path.iterdir()), "before anything is measured"


@pytest.mark.parametrize(
    "others",
    [
        [f"Say {word * 3}.\n\n{word}" for word in ("cup", "zebra")],
        ["List the orders.", "Count the shops."],
    ],
    ids=["nothing fits", "no instruction"],
)
def test_a_control_that_some_prompts_lack_is_left_out(alone: Engine, others: list[str]) -> None:
    """Imprinting the other bucket alone fails, and so the letters have no wrong adapter."""
    with pytest.raises(ImprintError):
        alone.generate([bucket("others", others)])
    buckets = [bucket("letters", LETTERS), bucket("others", others)]
    proof = finish(alone.prove(alone.generate(buckets), buckets))
    assert proof is not None
    assert [control.name for control in proof.controls] == ["base"]
    assert proof.wrong_from == ()
    assert not proof.depends


@pytest.mark.usefixtures("answers_end")
@pytest.mark.slow
def test_a_recipe_of_imprint_alone_is_carried_out_beside_a_generator_too(
    alone: Engine, tiny_folder: Path, tmp_path: Path
) -> None:
    letters = bucket("letters", LETTERS)
    made = alone.generate([letters], seed=1)
    recipe = made.recipe.with_texts(letters.files)
    folder = write_generator(tiny_folder, tmp_path / "generator", size=0.1)
    other = Engine.load(replace(alone.config, generator=folder))
    assert finish(other.regenerate(recipe)).sha256 == made.sha256
    config = RefineConfig(steps=3, least_prompts=1, held_back_share=0)
    refined = finish(alone.refine(made, [letters], config))
    recipe = refined.recipe.with_texts(letters.files)
    assert finish(other.regenerate(recipe)).sha256 == refined.sha256
    theirs = other.generate([letters], imprinted=False).recipe.with_texts(letters.files)
    with pytest.raises(
        RecipeError, match=r"the recipe needs the generator .*, loaded is none\. Lo"
    ):
        finish(alone.regenerate(theirs))


@pytest.mark.parametrize("part", ["imprint", "generator_sha256"])
def test_a_recipe_that_names_nothing_that_makes_it_is_refused(
    alone: Engine, tiny_folder: Path, part: str
) -> None:
    values = alone.generate([bucket("letters", LETTERS)]).recipe.to_json()
    if part == "imprint":
        del values["imprint"]
    else:
        values["generator"] = "some"
    with pytest.raises(RecipeError, match=r"neither a generator nor an imprint|each with its SHA"):
        Recipe.from_json(values)


def test_refining_and_measuring_work_without_a_generator(alone: Engine) -> None:
    made = alone.generate([bucket("letters", LETTERS)])
    rows = from_texts(
        [f"Name the letter.\n\n{chr(100 + i)}q" for i in range(12)],
        labels=[str(i % 2) for i in range(12)],
        name="rows.csv",
    )
    measured = finish(alone.measure(made, rows, MeasureConfig(limit_items=4, modes=("bare",))))
    assert "shared_lora" not in {row.row for row in measured.rows}
    assert "has no generator" in measured.left_out["shared_lora"]


def test_warming_up_needs_no_generator(alone: Engine) -> None:
    alone.warm_up()


@pytest.mark.slow
def test_the_first_imprint_says_that_it_measures_the_base(
    tiny_folder: Path, tmp_path: Path
) -> None:
    fresh = Engine.load(EngineConfig(base=str(tiny_folder), device="cpu", cache_dir=tmp_path))
    letters = [bucket("letters", LETTERS)]

    def doings() -> set[str]:
        return {step.doing for step in fresh.synthesize(letters)}

    assert "measure_ordinary" in doings()
    assert "measure_ordinary" not in doings()


@pytest.mark.slow
def test_who_measures_beforehand_spares_the_first_imprint_that(
    tiny_folder: Path, tmp_path: Path
) -> None:
    config = EngineConfig(base=str(tiny_folder), device="cpu", cache_dir=tmp_path)
    fresh, letters = Engine.load(config), [bucket("letters", LETTERS)]
    whole = list(fresh.measure_ordinary())
    assert not list(fresh.measure_ordinary())
    assert all(step.doing != "measure_ordinary" for step in fresh.synthesize(letters))
    # The next start reads it, and so has nothing to say about it.
    again = Engine.load(config)
    assert all(step.doing != "measure_ordinary" for step in again.synthesize(letters))
    assert len(whole) > 2


@pytest.mark.slow
def test_a_measurement_that_pauses_holds_nobody_up(tiny_folder: Path, tmp_path: Path) -> None:
    fresh = Engine.load(EngineConfig(base=str(tiny_folder), device="cpu", cache_dir=tmp_path))
    paused = fresh.measure_ordinary()
    next(paused)
    next(paused)
    steps = list(fresh.synthesize([bucket("letters", LETTERS)]))
    # It goes on from there, so the last step is known to be near.
    shares = [present(step.fraction) for step in steps if step.doing == "measure_ordinary"]
    assert len(shares) > 0
    assert shares == sorted(shares)
    assert not list(paused)


def test_an_imprint_may_have_its_own_rank(alone: Engine) -> None:
    letters = [bucket("letters", LETTERS)]
    start = alone.generate(letters)
    made = finish(alone.imprint(start, letters, ImprintConfig(r=3)))
    assert made.r == 3
    recipe = made.recipe.with_texts(letters[0].files)
    assert finish(alone.regenerate(recipe)).sha256 == made.sha256


@pytest.mark.slow
def test_the_command_line_needs_a_base_only(tiny_folder: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.md"
    prompts.write_text("\n---\n".join(LETTERS))
    (tmp_path / "bare.txt").write_text("\n".join("abcd"))
    # A pool takes its negative weight, because no generator samples by it.
    less = ["--bucket", f"less=-1:{tmp_path / 'bare.txt'}"]
    cache = ["--base", str(tiny_folder), "--cache-dir", str(tmp_path), "--device", "cpu"]
    out = str(tmp_path / "made.zip")
    made = ["generate", str(prompts), *less, "--out", out, *cache]
    ran = CliRunner().invoke(app, [*made, "--json"])
    assert ran.exit_code == 0, ran.output
    told = json.loads(ran.stdout)
    assert told["generator"] is None
    reason = (
        "Bucket `less` was not imprinted: its weight is negative, and an instruction has no "
        "opposite."
    )
    assert told["skipped_buckets"] == [{"name": "less", "reason": reason}]
    assert reason in ran.stderr
    assert told["imprint"]["teacher"] == "base"
    assert told["verdict"] is not None
    assert "decode" not in told["seconds"]
    ran = CliRunner().invoke(app, made)
    assert "Imprinted without a generator in" in ran.stdout
    assert reason in ran.stdout
    assert reason not in ran.stderr
    ran = CliRunner().invoke(app, ["info", *cache])
    assert "generator: none, adapters are imprinted alone" in ran.stdout
    ran = CliRunner().invoke(app, ["generate", str(prompts), "--no-imprint", *cache])
    assert ran.exit_code == 1
    assert "adapters can only be imprinted" in ran.stderr
    ran = CliRunner().invoke(app, ["chat", "ab", "--adapter", out, "--max-new-tokens", "2", *cache])
    assert ran.exit_code == 0, ran.output
    assert torch.isfinite(torch.tensor(told["effect"]))
