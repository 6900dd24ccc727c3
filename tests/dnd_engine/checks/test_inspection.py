"""Measurements of an adapter are what their definitions say."""

import copy
import json
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from dnd_engine.checks.effect import kl_to_base
from dnd_engine.checks.familiarity import familiarity, nearest_tasks, outlook, precedent
from dnd_engine.checks.norms import base_norms, relative_norms, thumbprint
from dnd_engine.checks.registry import CHECKS, Check, as_checks, recall, run_checks, words
from dnd_engine.checks.results import (
    Conditioning,
    Control,
    Familiarity,
    Inspection,
    Ordinary,
    Outlook,
    Precedent,
    Skills,
)
from dnd_engine.checks.subject import Reference, Subject
from dnd_engine.checks.verdict import (
    AdapterVerdict,
    Agreement,
    Answered,
    BucketShare,
    Labels,
    Teaching,
    judge,
)
from dnd_engine.config import Teacher
from dnd_engine.errors import AdapterError, ConfigError
from dnd_engine.generator.folder import TaskCentroid
from dnd_engine.generator.report import (
    AgreementGauge,
    Gain,
    Prediction,
    Report,
    Similar,
    SimilarityGauge,
    VerdictBand,
    VerdictGauge,
)
from dnd_engine.lora.adapter import Adapter
from dnd_engine.lora.provenance import NearestTask
from dnd_engine.models.base import BaseModel
from dnd_engine.tasks.folder import Mode
from tests.dnd_engine.tiny import LAYOUT, delta, make_adapter
from tests.imprints import recorded_imprint
from tests.present import present
from tests.reports import report


def test_the_effect_is_the_divergence_from_the_base() -> None:
    """Against torch's own, and zero for equal rows whatever their offset."""
    base, adapted = torch.randn(3, 50), torch.randn(3, 50)
    expected = torch.nn.functional.kl_div(
        base.log_softmax(-1), adapted.softmax(-1), reduction="none"
    ).sum(-1)
    torch.testing.assert_close(kl_to_base(base, adapted), expected)
    assert kl_to_base(base, base + 5).abs().max() < 1e-5
    assert not torch.allclose(kl_to_base(base, adapted), kl_to_base(adapted, base))


@pytest.mark.parametrize("strength", [1.0, -3.0, 0.0])
def test_norms_are_those_of_the_explicit_change(base: BaseModel, strength: float) -> None:
    made = make_adapter().with_strength(strength)
    found = relative_norms(made, base_norms(base.model, LAYOUT))
    assert list(found) == list(LAYOUT.spec.target_modules)
    for path, change in delta(made.state, LAYOUT).items():
        layer, module = int(path.split(".")[2]), path.split(".")[-1]
        weight = base.model.get_parameter(f"{path}.weight").double()
        assert found[module][layer] == pytest.approx(
            float(change.norm() / weight.norm()), rel=1e-4, abs=1e-9
        )


def test_changes_of_a_weight_of_zeros_are_absolute(base: BaseModel) -> None:
    """Pruned models have such layers."""
    model = copy.deepcopy(base.model)
    path = LAYOUT.targets[0].path
    torch.nn.init.zeros_(model.get_parameter(f"{path}.weight"))
    assert base_norms(model, LAYOUT)[path] == 1.0


def test_a_thumbprint_is_linear_and_leaves_out_what_all_share(base: BaseModel) -> None:
    norms, made = base_norms(base.model, LAYOUT), make_adapter()
    found = torch.tensor(thumbprint(made, norms))
    modules = len(LAYOUT.spec.target_modules)
    assert found.numel() == len(LAYOUT.targets) * -(-7 // modules)
    assert found.abs().min() > 0
    half = torch.tensor(thumbprint(made.with_strength(0.5), norms))
    torch.testing.assert_close(half, found / 2, rtol=1e-2, atol=1e-6)
    nothing = torch.tensor(thumbprint(made, norms, made.tokens))
    assert nothing.abs().max() < 1e-6 * found.abs().max()


def test_nearest_tasks_come_by_cosine_of_the_mean() -> None:
    tasks = [
        TaskCentroid("right", "d", (0.0, 5.0)),
        TaskCentroid("diagonal", "d", (1.0, 1.0)),
        TaskCentroid("opposite", "d", (0.0, -1.0)),
    ]
    prompts = torch.tensor([[1.0, 2.0], [-1.0, 2.0]])  # their mean points up
    found = nearest_tasks(prompts, tasks, count=2)
    assert [(t.slug, t.similarity) for t in found] == [("right", 1.0), ("diagonal", 0.7071)]
    assert len(nearest_tasks(prompts, tasks)) == 3
    assert nearest_tasks(prompts, []) == ()


def examined(**changes: Any) -> Report:
    """Three bands of agreement, in both modes."""
    found = ((0.0, 0.12, 0.0, 30), (0.12, 0.49, 0.1, 9), (0.49, 1.0, 0.5, 5))
    bands = tuple(
        Gain(
            mode=mode,
            begin=begin,
            end=end,
            n_tasks=tasks,
            gain=gain + shift,
            low=gain + shift - 0.1,
            high=gain + shift + 0.1,
        )
        for mode, shift in SHIFTS.items()
        for begin, end, gain, tasks in found
    )
    ranked: dict[Mode, Prediction] = {
        "bare": Prediction(rank_correlation=0.7, low=0.5, high=0.8, n_tasks=44)
    }
    gauge = AgreementGauge(bands=bands, predicts_gain=ranked, tasks=())
    return replace(report(), agreement=replace(gauge, **changes))


SHIFTS: dict[Mode, float] = {"full": 0.5, "bare": 0.0}


@pytest.mark.parametrize(
    ("same", "n_tasks", "gain"), [(0, 30, 0.0), (1, 9, 0.1), (3, 9, 0.1), (4, 5, 0.5), (8, 5, 0.5)]
)
def test_the_outlook_is_told_by_the_unseen_tasks_that_agreed_about_as_often(
    same: int, n_tasks: int, gain: float
) -> None:
    found = outlook(Agreement(same, 8), examined())
    assert found == Outlook(n_tasks, gain, gain - 0.1, gain + 0.1, 0.7)


def test_without_an_examination_or_prompts_nothing_is_said_of_the_outlook() -> None:
    assert outlook(Agreement(4, 8), None) is None
    assert outlook(Agreement(4, 8), report()) is None
    assert outlook(None, examined()) is None
    assert outlook(Agreement(4, 8), examined(bands=())) is None
    whole = present(examined().agreement)
    lower = examined(bands=whole.bands[:-1])
    assert outlook(Agreement(4, 8), lower) is None, "nothing agreed as often"
    found = present(outlook(Agreement(4, 8), examined(predicts_gain={})))
    assert found.rank_correlation is None


TAUGHT = Teaching(num_prompts=24, commonest_share=0.5, unfinished=0, explained=0.6)

GAUGE = VerdictGauge(
    teacher_sha256="t" * 64,
    bands=(
        VerdictBand(verdict="works", score=0.7, low=0.6, high=0.8, n_tasks=9),
        VerdictBand(verdict="does_not", score=0.1, low=0.0, high=0.2, n_tasks=30),
    ),
    predicts_score=None,
    tasks=(),
)


def on_left_out(same: int, **changes: Any) -> AdapterVerdict:
    return judge(Agreement(same, 8, **{"left_out": True, **changes}), TAUGHT)


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (on_left_out(8), Precedent(9, 0.7, 0.6, 0.8)),
        (on_left_out(0), Precedent(30, 0.1, 0.0, 0.2)),
        (on_left_out(5), None),  # no evaluated adapter got it
        (on_left_out(8, left_out=False), None),
        (on_left_out(8, labels=Labels(8, 8, 8)), None),
        (on_left_out(8, by_bucket=(BucketShare("a", 4, 4), BucketShare("b", 4, 4))), None),
        (None, None),
    ],
)
def test_an_imprint_is_expected_to_score_as_evaluated_ones_with_its_verdict(
    verdict: AdapterVerdict | None, expected: Precedent | None
) -> None:
    assert precedent(verdict, GAUGE) == expected
    assert precedent(verdict, None) is None


def imprinted(teacher: Teacher = "generator", teacher_sha256: str = "t" * 64) -> Adapter:
    made = make_adapter()
    found = recorded_imprint(teacher=teacher, teacher_sha256=teacher_sha256)
    return replace(made, provenance={**made.provenance, "imprint": found.to_json()})


@pytest.mark.parametrize(
    ("adapter", "told"),
    [
        (make_adapter(), "outlook"),
        (imprinted(), "precedent"),
        (imprinted("base", ""), None),
        (imprinted(teacher_sha256="f" * 64), None),
    ],
)
def test_nothing_is_told_of_an_imprint_that_was_measured_before_one(
    adapter: Adapter, told: str | None
) -> None:
    """Nor of an imprint by another teacher than the evaluated one, in results and words alike."""
    subject = Mock(spec=Subject, adapter=adapter, report=examined(), verdict_gauge=GAUGE)
    verdict = on_left_out(8)
    known = {"agreement": Agreement(8, 8, left_out=True), "verdict": verdict}
    found = {}
    for name in ("outlook", "precedent"):
        run = present(CHECKS[name].run)
        if (result := run(subject, *(known[need] for need in CHECKS[name].needs))) is not None:
            found[name] = result
    assert [*found] == ([told] if told else [])
    said = " ".join(map(str, words(Inspection.of(found))))
    assert ("changed the score by" in said) == (told == "outlook")
    assert ("verdict (9), imprinted adapters of this generator scored 0.70" in said) == (
        told == "precedent"
    )


def test_what_earlier_versions_kept_of_imprints_is_not_told_again() -> None:
    worth = Outlook(12, 0.4, 0.2, 0.6, None)
    kept = Inspection(0.5, {}, (), 0, outlook=worth, verdict=on_left_out(8))
    found, _proof = recall(as_checks(imprinted(), kept, None), (), None)
    assert found == replace(kept, outlook=None)


@pytest.mark.parametrize(
    ("right", "told"),
    [
        (1, "It does not work: teach it."),
        (4, "It works without the instruction for some prompts only: 4 of 8."),
        (8, "It seems to work without the instruction, judged on 3 prompts only."),
    ],
)
def test_labels_of_fitted_prompts_can_only_lower_what_too_few_left_out_ones_say(
    right: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[list[str], bool]] = []

    def agreement(
        runtime: object,
        fitted: object,
        references: list[Reference],
        *,
        labels: dict[str, str],
        **how: bool,
    ) -> Agreement | None:
        prompts = [prompt for reference in references for prompt in reference.prompts]
        asked.append((prompts, how.get("left_out", False)))
        if how:
            return Agreement(3, 3, left_out=True, labels=Labels(1, 1, 1))
        answers = tuple(
            Answered(bucket="a", input=prompt, bare="", instructed="", same=True)
            for prompt in prompts
        )
        return Agreement(8, 8, labels=Labels(right, right, 8), answers=answers)

    monkeypatch.setattr("dnd_engine.checks.agreement.agreement", agreement)
    fitted = [f"fitted {number}" for number in range(8)]
    every = [*fitted, "left 1", "left 2", "left 3", "plain"]
    subject = Mock(
        spec=Subject,
        adapter=imprinted(),
        prompts=every,
        labels=dict.fromkeys([*fitted, "left 1"], "x"),
        references=lambda: iter(
            [
                (True, [Reference("a", None, every[-4:])]),
                (False, [Reference("a", None, every), Reference("b", None, ["no label"])]),
            ]
        ),
    )
    found = run_checks(subject, only=["agreement"])["agreement"]
    assert asked == [(every[-4:], True), ([*fitted, "left 1"], False)]
    assert str(judge(found).head) == told
    assert len(found.answers) == (9 if right < 8 else 0)


def test_a_check_alone_runs_after_those_it_needs_wherever_they_are_registered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    second = Check(result=int, run=lambda _, first: first + 1, needs=("first",), words=str)
    monkeypatch.setitem(CHECKS, "second", second)
    monkeypatch.setitem(CHECKS, "first", Check(result=int, run=lambda _: 1, words=str))
    assert run_checks(Mock(spec=Subject), only=["second"]) == {"first": 1, "second": 2}


def test_an_unknown_check_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown check `norm`; known are "):
        run_checks(Mock(spec=Subject), only=["norm", "norms"])


NEAREST = (NearestTask("a", "", 0.3), NearestTask("b", "", 0.6))


def compared(**changes: Any) -> Report:
    """Three unseen tasks, by how near their prompts are to training."""
    gauge = SimilarityGauge(
        terciles=(),
        predicts_gain={"bare": Prediction(rank_correlation=-0.2, low=-0.4, high=0.1, n_tasks=3)},
        tasks=tuple(Similar(slug=str(at), similarity=at, score={}) for at in (0.5, 0.4, 0.9)),
    )
    return replace(report(), similarity=replace(gauge, **changes))


def test_prompts_are_placed_among_the_examined_tasks_by_their_nearest_one() -> None:
    found = familiarity(NEAREST, 16, compared())
    assert found == Familiarity(0.6, 16, 0.4, 0.9, 3, -0.2, -0.4, 0.1)
    assert not found.is_unlike
    far = familiarity(NEAREST[:1], 4, compared(predicts_gain={}))
    assert far == Familiarity(0.3, 4, 0.4, 0.9, 3, None, None, None)
    assert far.is_unlike
    assert not replace(far, num_prompts=3).is_unlike, "too few to say"


def test_without_an_examination_or_training_tasks_nothing_is_said_of_nearness() -> None:
    assert familiarity((), 16, compared()) is None
    assert familiarity(NEAREST, 16, None) is familiarity(NEAREST, 16, report()) is None


@pytest.mark.parametrize("is_imprinted", [False, True])
def test_what_was_measured_comes_back_from_the_checks_of_a_kept_adapter(is_imprinted: bool) -> None:
    worth = None if is_imprinted else Outlook(12, 0.4, 0.2, 0.6, None)
    likely = Precedent(9, 0.7, 0.6, 0.8) if is_imprinted else None
    near = Familiarity(0.5, 9, 0.4, 0.9, 80, -0.2, -0.4, 0.1)
    parts = (BucketShare("legal", 3, 4), BucketShare("SQL", 0, 4))
    agrees, ordinary = Agreement(3, 8, True, 1, parts), Ordinary(60, 64, 0.5)
    verdict = judge(agrees, TAUGHT if is_imprinted else None)
    skills = Skills(20, 13, 8, 24)
    found = Inspection(0.5, {}, (), 0, agrees, worth, 7.0, near, ordinary, verdict, skills, likely)
    proof = Conditioning(1.2, 9, (Control("wrong", 1.5, 0.3, 0.1, 0.5),), ("legal",))
    checks = json.loads(json.dumps(as_checks(make_adapter(), found, proof)))
    assert recall(checks, (), 7.0) == (found, proof)
    assert recall({"effect": 0.5}, (), None) == (Inspection(0.5, {}, (), 0), None)
    assert recall({}, (), 7.0) == (None, None)
    card = replace(make_adapter(), checks=checks).files()["README.md"].decode()
    said = [str(sentence) for sentence in words(found, proof)]
    assert len(said) == (13 if is_imprinted else 12)
    assert [line[2:] for line in card.splitlines() if line.startswith("- ")][-len(said) :] == said


@pytest.mark.parametrize(
    "checks",
    [
        {"effect": "much"},
        {"effect": 1, "agreement": {"same": 1}},
        {"effect": 1, "outlook": 3},
        {"effect": 1, "precedent": {"score": 0.5}},
        {"effect": 1, "familiarity": {"similarity": 0.5}},
        {"effect": 1, "familiarity": []},
        {
            "effect": 1,
            "familiarity": {
                **{"similarity": "near", "lowest": 0.4, "highest": 0.9, "n_tasks": 80},
                **{"num_prompts": 9, "rank_correlation": None, "low": None, "high": None},
            },
        },
        {"effect": 1, "conditioning": {"nll": 1.2, "num_prompts": 9, "controls": [{}]}},
    ],
)
def test_damaged_checks_are_refused(checks: dict[str, Any]) -> None:
    with pytest.raises(AdapterError, match="damaged"):
        recall(checks, (), None)
