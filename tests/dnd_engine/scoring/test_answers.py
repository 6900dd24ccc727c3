"""Batched scoring gives what a plain loop over single items gives."""

import math
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from dnd_engine.lora.layout import LoRALayout
from dnd_engine.models.base import BaseModel, load_base
from dnd_engine.models.blocks import BlockPass
from dnd_engine.models.forward import Forward, HookedForward
from dnd_engine.models.new_tokens import NewTokens
from dnd_engine.models.packed import PackedForward
from dnd_engine.models.runtime import Runtime
from dnd_engine.models.sources import BASES, resolve
from dnd_engine.scoring import answers as scoring
from dnd_engine.scoring.answers import answer, batches
from dnd_engine.scoring.questions import Answer, Question, ask
from dnd_engine.tasks.folder import Example
from dnd_engine.training.examples import EncodedExample, pack, response_losses
from tests.dnd_engine.tiny import CPU, byte_tokenizer, random_tokens, stock_answer
from tests.present import present

END = byte_tokenizer().eos_token_id
assert isinstance(END, int)


def question(
    prompt: str, reference: str, options: Sequence[str] = (), max_new_tokens: int = 12
) -> Question:
    tokenizer = byte_tokenizer()

    def ids(text: str) -> tuple[int, ...]:
        return tuple(tokenizer(text)["input_ids"])

    chat = f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
    return Question(
        ids(chat),
        (*ids(reference), END),
        tuple((*ids(option), END) for option in options),
        max_new_tokens,
    )


def random_questions(seed: int, count: int) -> list[Question]:
    """Make questions of very different lengths, with and without options."""
    rng = random.Random(seed)

    def text(most: int) -> str:
        return "".join(rng.choice("abcdefg ") for _ in range(rng.randint(1, most)))

    made = []
    for number in range(count):
        options = [text(6) + str(i) for i in range(rng.choice((0, 2, 4)))]
        reference = options[-1] if options else text(20)
        limit = rng.randint(3, 30)
        made.append(question(f"Task {seed}. {text(60)}{number}", reference, options, limit))
    return made


GROUPS = [random_questions(1, 7), random_questions(2, 1), random_questions(3, 4)]


def losses_of(base: BaseModel, asked: Question, reply: tuple[int, ...]) -> float:
    packed = pack([[EncodedExample((*asked.prompt, *reply), len(asked.prompt))]])
    with torch.inference_mode():
        return float(response_losses(base.model, packed).nll[0])


def plain_loop(base: BaseModel, asked: Question) -> Answer:
    """One item at a time, without cache, batch or shared prefix."""
    ids = list(asked.prompt)
    for _ in range(asked.max_new_tokens):
        with torch.inference_mode():
            logits = base.model(input_ids=torch.tensor([ids]), use_cache=False).logits
        ids.append(int(logits[0, -1].argmax()))
        if ids[-1] == END:
            break
    return Answer(
        losses_of(base, asked, asked.reference),
        tuple(losses_of(base, asked, option) for option in asked.options),
        tuple(i for i in ids[len(asked.prompt) :] if i != END),
    )


def assert_same(found: Sequence[Answer], expected: Sequence[Answer]) -> None:
    assert [a.ids for a in found] == [a.ids for a in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.nll == pytest.approx(other.nll, abs=1e-4)
        assert one.option_nlls == pytest.approx(other.option_nlls, abs=1e-4)


@pytest.mark.slow
def test_every_group_answers_as_a_plain_loop_under_its_own_adapter(runtime: Runtime) -> None:
    """In float32: losses to 1e-4, and the very same tokens."""
    tokens = torch.stack([random_tokens(seed=n) for n in range(3)])
    found = answer(runtime, GROUPS, runtime.host.fit(tokens))
    for number, group in enumerate(GROUPS):
        with runtime.host.applying(runtime.host.fit(tokens[number : number + 1])):
            assert_same(found[number], [plain_loop(runtime.base, asked) for asked in group])
        bare = [plain_loop(runtime.base, asked) for asked in group]
        assert [a.ids for a in bare] != [a.ids for a in found[number]]


def test_the_bare_base_answers_as_a_plain_loop(runtime: Runtime) -> None:
    """All questions in one group, or in groups that share what they begin with."""
    everyone = [asked for group in GROUPS for asked in group]
    expected = [plain_loop(runtime.base, asked) for asked in everyone]
    (together,) = answer(runtime, [everyone], None)
    assert_same(together, expected)
    apart = answer(runtime, GROUPS, None)
    assert_same([a for group in apart for a in group], expected)


def test_small_slices_change_nothing(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts and answers are read in slices, each of which sees the ones before."""
    active = runtime.host.fit(torch.stack([random_tokens(seed=n) for n in range(3)]))
    whole = answer(runtime, GROUPS, active)
    monkeypatch.setattr(scoring, "_FORWARD_TOKENS", 40)
    for found, expected in zip(answer(runtime, GROUPS, active), whole, strict=True):
        assert_same(found, expected)


def test_what_is_written_is_what_generate_writes(runtime: Runtime) -> None:
    """Parity with transformers' own greedy search, one row at a time."""
    tokens = random_tokens(seed=4)[None]
    group = random_questions(5, 6)
    (found,) = answer(runtime, [group], runtime.host.fit(tokens))
    for asked, reply in zip(group, found, strict=True):
        with runtime.host.applying(runtime.host.fit(tokens)):
            expected = stock_answer(
                runtime.base.model, asked.prompt, max_new_tokens=asked.max_new_tokens
            )
        assert reply.ids == tuple(i for i in expected if i != END)


@pytest.mark.parametrize("packed", [True, False])
def test_states_that_predict_an_answer_are_those_of_a_plain_pass(
    runtime: Runtime, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several groups, rows that end early, and answers with and without an end of turn."""
    forward: Forward = HookedForward(runtime.base, runtime.host.applying)
    if packed:
        forward = PackedForward(runtime.base)
    tokens = torch.stack([random_tokens(seed=n) for n in range(3)])
    with runtime.through(forward):
        whole = answer(runtime, GROUPS, runtime.host.fit(tokens))
        # Untrained weights almost never end a turn. Treat a token that they do write as its end.
        end = whole[0][0].ids[2]
        monkeypatch.setattr(scoring, "end_tokens", lambda _: frozenset({END, end}))
        found = answer(runtime, GROUPS, runtime.host.fit(tokens), watch_from=1)
    ended = []
    for number, group in enumerate(GROUPS):
        for asked, one in zip(group, found[number], strict=True):
            given = asked.answered(one)
            ended.append(len(given) > len(one.ids))
            with runtime.host.applying(runtime.host.fit(tokens[number : number + 1])):
                plain = BlockPass(runtime.base, [asked.prompt + given[:-1]])
                plain.advance(0)
                plain.advance(1)
            assert one.states is not None
            assert one.states.shape[:2] == (1, len(given))
            expected = plain.states[-len(given) :]
            torch.testing.assert_close(one.states[0], expected, atol=2e-4, rtol=1e-4)
    assert {True, False} == set(ended)
    assert answer(runtime, GROUPS, None)[0][0].states is None


def watch(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, torch.Tensor]]:
    """Rows and mask of every forward pass from now on."""
    seen: list[tuple[int, torch.Tensor]] = []
    hidden = runtime.forward.hidden

    def look(tokens: NewTokens) -> torch.Tensor:
        assert tokens.visible is not None
        seen.append((len(tokens.ids), tokens.visible))
        return hidden(tokens)

    monkeypatch.setattr(runtime.forward, "hidden", look)
    return seen


def test_rows_that_have_ended_leave_the_batch(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With limits of 1 to 12 tokens, most steps must read few rows."""
    group = [replace(q, max_new_tokens=n + 1) for n, q in enumerate(random_questions(6, 12))]
    seen = watch(runtime, monkeypatch)
    answer(runtime, [group], None)
    sizes = [rows for rows, _ in seen]
    assert sizes[0] == 1
    steps = sizes[-11:]
    assert steps == sorted(steps, reverse=True)
    assert steps[-1] <= 2


def test_a_group_that_has_ended_takes_its_adapter_along(runtime: Runtime) -> None:
    short = [replace(asked, max_new_tokens=1) for asked in GROUPS[0]]
    groups = [short, GROUPS[2]]
    tokens = torch.stack([random_tokens(seed=n) for n in range(2)])
    found = answer(runtime, groups, runtime.host.fit(tokens))
    with runtime.host.applying(runtime.host.fit(tokens[1:])):
        assert_same(found[1], [plain_loop(runtime.base, asked) for asked in groups[1]])


def test_no_position_is_left_without_anything_to_look_at(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attention over nothing is NaN in some kernels, and padding would carry it on."""
    seen = watch(runtime, monkeypatch)
    answer(
        runtime, GROUPS, runtime.host.fit(torch.stack([random_tokens(seed=n) for n in range(3)]))
    )
    assert seen
    assert all(bool(visible.any(dim=-1).all()) for _, visible in seen)


def test_an_answer_that_is_scored_has_an_end_unless_it_was_cut_off() -> None:
    asked = Question((1, 2), (9,), (), 3)
    whole, cut_off = Answer(0.0, (), (5, 6)), Answer(0.0, (), (5, 6, 7))
    assert asked.weighing(whole) == Question((1, 2), (5, 6, 9), (), 0)
    assert asked.weighing(cut_off) == Question((1, 2), (5, 6, 7), (), 0)


def test_how_probable_an_answer_is_includes_its_end(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compared with answers that are read at once, some with and some without an end of turn."""
    active = runtime.host.fit(random_tokens(seed=1)[None])
    group = random_questions(6, 8)
    end = answer(runtime, [group], active)[0][0].ids[2]
    monkeypatch.setattr(scoring, "end_tokens", lambda _: frozenset({end}))
    group = [replace(asked, reference=(end,)) for asked in group]
    (found,) = answer(runtime, [group], active, log_probs=True)
    again = [asked.weighing(one) for asked, one in zip(group, found, strict=True)]
    (weighed,) = answer(runtime, [again], active)
    assert {asked.reference[-1] == end for asked in again} == {True, False}
    for asked, one, read in zip(again, found, weighed, strict=True):
        assert one.log_prob == pytest.approx(-read.nll * len(asked.reference), rel=1e-4)
        assert one.sureness == pytest.approx(math.exp(present(one.log_prob)))
    assert answer(runtime, [group], active)[0][0].log_prob is None


def test_the_likeliest_option_is_that_of_the_smallest_loss() -> None:
    asked = Example("Is it?", "no", options=("yes", "no"))
    found = [
        Answer(nll=1.0, option_nlls=losses, ids=()).right_is_likeliest(asked)
        for losses in ((0.4, 0.3), (0.3, 0.4))
    ]
    assert found == [True, False]
    free = Answer(nll=1.0, option_nlls=(), ids=())
    assert free.right_is_likeliest(Example("Is it?", "no")) is None


def test_the_base_wears_nothing_afterwards(runtime: Runtime) -> None:
    ids = torch.tensor([GROUPS[0][0].prompt])
    before = runtime.base.model(input_ids=ids).logits
    answer(runtime, GROUPS[:1], runtime.host.fit(random_tokens()[None]))
    assert torch.equal(runtime.base.model(input_ids=ids).logits, before)


@pytest.mark.parametrize("shared", [True, False])
def test_every_question_is_dealt_once_into_batches_that_fit(shared: bool) -> None:
    rng = random.Random(0)
    groups = [
        [
            Question((0,) * rng.randint(5, 900), (1,), (), rng.randint(1, 96))
            for _ in range(rng.choice((1, 3, 40, 150)))
        ]
        for _ in range(12)
    ]
    dealt = list(batches(groups, shared=shared))
    everyone = [at for batch in dealt for part in batch for at in part]
    assert sorted(everyone) == [(g, q) for g, group in enumerate(groups) for q in range(len(group))]
    for batch in dealt:
        rows = len(batch) * max(map(len, batch))
        longest = max(groups[g][q].length for part in batch for g, q in part)
        assert rows <= 64
        assert rows * longest <= 12_288 or rows == 1
        if shared:
            assert len(batch) == 1
        else:
            assert all(len({g for g, _ in part}) == 1 for part in batch)
    assert len(dealt) < len(everyone) / 8


@pytest.mark.real
def test_the_real_base_answers_as_generate_and_as_a_loss_of_its_own() -> None:
    """In float32, where rounding does not decide between tokens; with an adapter and without."""
    base = load_base(resolve("smollm2-135m-instruct", BASES), CPU, torch.float32)
    layout = LoRALayout.from_config(base.config)
    runtime = Runtime.of(base, layout)
    texts = ("What is the capital of France?", "Write one word: blue, in German")
    group = [
        ask(base.tokenizer, Example(text, "Paris", ("Paris", "Rome")), "full", max_new_tokens=6)
        for text in texts
    ]
    for active in (None, runtime.host.fit(random_tokens(layout, size=0.02)[None])):
        (found,) = answer(runtime, [group], active)
        for asked, reply in zip(group, found, strict=True):
            packed = pack([[EncodedExample((*asked.prompt, *asked.reference), len(asked.prompt))]])
            with torch.inference_mode(), runtime.host.applying(active):
                expected = stock_answer(base.model, asked.prompt, max_new_tokens=6)
                nll = float(response_losses(base.model, packed).nll[0])
            end = base.tokenizer.eos_token_id
            assert reply.ids == tuple(i for i in expected if i != end)
            assert reply.nll == pytest.approx(nll, abs=1e-3)
            assert reply.option_nlls[0] == reply.nll
