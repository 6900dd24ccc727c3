"""An adapter beside its controls: what is compared, with what, and on what."""

from dataclasses import replace

import pytest

from dnd_engine.checks.ablation import Candidate, compare_conditions, others, shuffled, some_prompts
from dnd_engine.checks.registry import as_checks
from dnd_engine.checks.results import Conditioning, Control, Familiarity, Inspection, Outlook
from dnd_engine.checks.subject import Reference
from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.models.runtime import Runtime
from tests.dnd_engine.tiny import LAYOUT, bucket, make_adapter, random_tokens
from tests.present import present

PROMPTS = [
    f"Say where it is.\n\nThe {thing} stands {place}."
    for thing in ("cup", "box", "jar")
    for place in ("here", "outside")
]


def fit(runtime: Runtime, seed: int) -> FittedLoRA:
    return runtime.host.fit(random_tokens(seed=seed, size=0.3)[None], LAYOUT)


def test_who_answers_as_when_told_is_best_and_the_same_saves_nothing(runtime: Runtime) -> None:
    told, other = fit(runtime, 1), fit(runtime, 2)
    everyone = range(len(PROMPTS))
    candidates: list[Candidate] = [
        ("adapter", other, everyone),
        ("mean", other, everyone),
        ("base", None, everyone),
        ("wrong", fit(runtime, 3), range(3)),
        ("wrong", other, range(3, 6)),
    ]
    # Whose prompts they are does not matter, if one teacher answers them all.
    references = [Reference("cups", told, PROMPTS[:2]), Reference("boxes", told, PROMPTS[2:])]
    found = present(compare_conditions(runtime, references, candidates, ["elsewhere"]))
    assert found.num_prompts == len(PROMPTS)
    assert found.wrong_from == ("elsewhere",)
    controls = {control.name: control for control in found.controls}
    assert list(controls) == ["wrong", "mean", "base"]
    same = controls["mean"]
    assert (same.nll, same.saved, same.low, same.high) == (found.nll, 0, 0, 0)
    assert not found.depends
    # Half of the wrong ones are the adapter itself.
    assert controls["wrong"].low < controls["wrong"].saved < controls["wrong"].high
    assert controls["wrong"].nll == pytest.approx(found.nll + controls["wrong"].saved, abs=1e-5)


def test_too_few_prompts_with_an_instruction_say_nothing(runtime: Runtime) -> None:
    active = fit(runtime, 1)
    prompts = [PROMPTS[0], "No blank line here.", "a\n\n" + "long " * 2_000]
    candidates: list[Candidate] = [("adapter", active, range(3)), ("mean", active, range(3))]
    assert compare_conditions(runtime, [Reference("", active, prompts)], candidates, []) is None


def test_shuffling_keeps_the_words_and_loses_their_order() -> None:
    one = bucket("a", ["one two three four five six seven eight"] * 2, weight=0.5)
    (mixed,) = shuffled([one], seed=0)
    assert mixed.weight == 0.5
    words = mixed.files[0].prompts[0].text.split()
    assert sorted(words) == sorted(one.files[0].prompts[0].text.split())
    assert words != one.files[0].prompts[0].text.split()
    assert shuffled([one], seed=0) == (mixed,)
    assert shuffled([one], seed=1) != (mixed,)


def test_every_bucket_has_the_others_for_a_wrong_one() -> None:
    a, b, c = (bucket(name, PROMPTS) for name in "abc")
    assert others([a, b, c], []) == [(a, (b, c)), (b, (a, c)), (c, (a, b))]
    assert others([a], [b]) == [(a, (b,))]


def test_only_prompts_with_something_to_leave_out_are_measured_on() -> None:
    assert some_prompts(bucket("a", ["plain", *PROMPTS]), 2) == PROMPTS[:2]


def test_what_was_measured_is_on_the_card() -> None:
    adapter = make_adapter()
    assert "## Checks" not in adapter.files()["README.md"].decode()
    found = Inspection(
        effect=0.4242,
        relative_norms={},
        nearest_tasks=(),
        num_prompts=16,
        outlook=Outlook(12, 0.43, 0.22, 0.61, None),
        familiarity=Familiarity(0.71, 16, 0.43, 0.97, 80, None, None, None),
    )
    proof = Conditioning(1.2, 16, (Control("wrong", 2, 0.58, 0.45, 0.72),), ("Tone*",))
    checks = as_checks(adapter, found, proof)
    card = replace(adapter, checks=checks).files()["README.md"].decode()
    for words in (
        "at strength 1",
        "0.424 nats",
        "+0.43 (+0.22 to +0.61)",
        r"(Tone\*)",
    ):
        assert words in card
    assert "at cosine 0.71; the 80 unseen tasks" in card
    assert "were at 0.43 to 0.97." in card
    assert "It depends on the 16 prompts that it was compared on." in card
    assert "does worse, by 0.58 nats per token (0.45 to 0.72)" in card


@pytest.mark.parametrize(
    ("saved", "low", "high", "words"),
    [
        (2.77, 1.61, 3.93, "does worse, by 2.77 nats per token (1.61 to 3.93)."),
        (0.1, -0.2, 0.4, "does about as well (-0.20 to +0.40 nats per token)."),
        (-2.77, -3.93, -1.61, "does better, by 2.77 nats per token (1.61 to 3.93)."),
    ],
)
def test_which_of_two_does_better_is_said_in_words(
    saved: float, low: float, high: float, words: str
) -> None:
    proof = Conditioning(1.2, 16, (Control("mean", 2, saved, low, high),), ())
    assert f"What all adapters of its generator share {words}" in map(str, proof.sentences)


def test_without_another_tasks_adapter_nothing_is_known() -> None:
    assert not Conditioning(1.2, 16, (Control("base", 3.3, 2.0, 1.7, 2.4),), ()).depends
