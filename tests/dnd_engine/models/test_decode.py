"""Twin decoding: every row answers as it would alone, the same each time."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders
from tokenizers.models import BPE
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from dnd_engine.config import MIN_TEMPERATURE, Sampling
from dnd_engine.errors import ChatError, ConfigError
from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.models import decode as chat
from dnd_engine.models.base import BaseModel, next_token_logits
from dnd_engine.models.decode import decode
from dnd_engine.models.forward import HookedForward
from dnd_engine.models.packed import PackedForward
from dnd_engine.models.replies import Message, Reply
from dnd_engine.models.runtime import Runtime
from tests.dnd_engine.tiny import byte_tokenizer, random_tokens, stock_answer, user

GREEDY = Sampling(max_new_tokens=24)
SAMPLED = Sampling(max_new_tokens=24, temperature=1.0, top_p=0.95, top_k=50, seed=3)
SHORT, LONG = user("Hi"), user("A question that is a good deal longer than the other one?")


def answer(
    runtime: Runtime,
    conversations: Sequence[Sequence[Message]],
    active: FittedLoRA | None = None,
    sampling: Sampling = GREEDY,
) -> list[Reply]:
    """The finished replies."""
    *_, last = decode(runtime, conversations, lambda: active, sampling)
    return last


def applying(active: FittedLoRA | None) -> Callable[[], FittedLoRA | None]:
    """The same at every token."""
    return lambda: active


BARE = applying(None)


def texts(replies: Sequence[Reply]) -> list[str]:
    return [reply.text for reply in replies]


def twin(runtime: Runtime, seed: int = 0) -> FittedLoRA:
    """Nothing for row 0, an adapter for row 1."""
    tokens = random_tokens(seed=seed, size=0.3)
    return runtime.host.fit(torch.stack([torch.zeros_like(tokens), tokens]))


def test_half_a_character_does_not_end_a_chat(runtime: Runtime) -> None:
    """JSON and a shell may contain one, and no tokenizer can encode it."""
    whole, half = (answer(runtime, [user(text)])[0].text for text in ("a?b", "a\ud800b"))
    assert half == whole


def greedy_ids(base: BaseModel, conversation: list[Message], **options: float) -> list[int]:
    """New tokens of transformers' own greedy generation."""
    text = base.tokenizer.apply_chat_template(
        conversation, add_generation_prompt=True, tokenize=False
    )
    return stock_answer(base.model, base.tokenizer(text)["input_ids"], max_new_tokens=24, **options)


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(max_new_tokens=8, temperature=1.0)])
@pytest.mark.parametrize("size", [1e4, float("nan")])
def test_scores_that_overflow_are_told_before_the_first_token(
    runtime: Runtime, sampling: Sampling, size: float
) -> None:
    """Greedy decoding answered nothing without a word; sampling raised an error of torch's own."""
    tokens = torch.full_like(random_tokens(), 1.0) * size
    active = runtime.host.fit(torch.stack([torch.zeros_like(tokens), tokens * 1e30]))
    steps = decode(runtime, [user("What?")] * 2, lambda: active, sampling)
    with pytest.raises(ChatError, match="scores of the next token are NaN or infinite"):
        next(steps)
    assert not runtime.lock.locked()


@given(
    st.builds(
        Sampling,
        temperature=st.just(0.0) | st.floats(MIN_TEMPERATURE, 5),
        top_p=st.floats(0.01, 1),
        top_k=st.integers(0, 1000),
        repetition_penalty=st.floats(0.5, 3),
        seed=st.integers(0, 2**31 - 1),
    ),
    st.lists(st.floats(-3e38, 3e38), min_size=3, max_size=9),
)
# No example changes the base.
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(Sampling(temperature=MIN_TEMPERATURE), [40.0, -40.0, 0.0])
@example(Sampling(temperature=MIN_TEMPERATURE), [3e38, -3e38, 0.0])
def test_any_sampling_draws_a_token_or_says_that_the_scores_are_too_large(
    base: BaseModel, sampling: Sampling, scores: list[float]
) -> None:
    row = chat._Row(base, [0, 1], sampling)
    # Scores beyond these may overflow while they are sampled.
    too_large = max(map(abs, scores)) > 1e35
    with suppress(ChatError) if too_large else nullcontext():
        row.take(torch.tensor(scores), 0.0)
        assert 0 <= row.ids[-1] < len(scores)


@pytest.mark.parametrize("temperature", [1e-300, 1e-45, 1e-38, 0.0099])
def test_a_temperature_just_above_0_is_refused(temperature: float) -> None:
    """Logits divided by it overflow, which raised an error of torch's own."""
    with pytest.raises(ConfigError, match=r"`temperature` must be 0 or at least 0\.01"):
        Sampling(temperature=temperature)


# The same each time


def test_the_same_seed_gives_the_same_answer(runtime: Runtime) -> None:
    first, again = (texts(answer(runtime, [SHORT], sampling=SAMPLED)) for _ in range(2))
    assert first == again
    others = {answer(runtime, [SHORT], sampling=replace(SAMPLED, seed=s))[0].text for s in range(4)}
    assert len(others) == 4


def test_the_seed_is_the_chats_own(runtime: Runtime) -> None:
    """Whatever else draws random numbers in the process."""
    torch.manual_seed(1)
    first = texts(answer(runtime, [SHORT], sampling=SAMPLED))
    torch.manual_seed(2)
    assert texts(answer(runtime, [SHORT], sampling=SAMPLED)) == first


def test_equal_rows_draw_equal_numbers(runtime: Runtime) -> None:
    first, second = texts(answer(runtime, [SHORT, SHORT], sampling=SAMPLED))
    assert first == second


def test_greedy_is_transformers_greedy(runtime: Runtime) -> None:
    """Parity with `model.generate`, with and without a repetition penalty."""
    for penalty in (1.0, 1.3):
        sampling = replace(GREEDY, repetition_penalty=penalty)
        for conversation in (SHORT, LONG):
            ids = greedy_ids(runtime.base, conversation, repetition_penalty=penalty)
            expected = runtime.base.tokenizer.decode(ids, skip_special_tokens=True)
            assert answer(runtime, [conversation], sampling=sampling)[0].text == expected


# Every row as it would be alone


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_the_base_row_of_a_twin_is_the_base_alone(runtime: Runtime, sampling: Sampling) -> None:
    alone = answer(runtime, [SHORT], sampling=sampling)[0].text
    base_row, adapted_row = texts(answer(runtime, [SHORT, SHORT], twin(runtime), sampling))
    assert base_row == alone
    assert adapted_row != alone


def test_the_adapted_row_is_the_adapter_alone(runtime: Runtime) -> None:
    tokens = random_tokens(size=0.3)
    alone = answer(runtime, [SHORT], runtime.host.fit(tokens[None]))[0].text
    assert texts(answer(runtime, [SHORT, SHORT], twin(runtime)))[1] == alone


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_rows_of_different_length_answer_as_if_alone(runtime: Runtime, sampling: Sampling) -> None:
    """Left padding is masked and positions are counted from the first real token."""
    separately = [answer(runtime, [c], sampling=sampling)[0].text for c in (SHORT, LONG)]
    assert texts(answer(runtime, [SHORT, LONG], sampling=sampling)) == separately
    assert separately[0] != separately[1]


def test_a_finished_row_stays_as_it_is_while_the_other_goes_on(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = greedy_ids(runtime.base, SHORT), greedy_ids(runtime.base, LONG)
    end = next(token for token in first[2:] if token not in second)
    monkeypatch.setattr(chat, "end_tokens", lambda base: {end})
    steps = list(decode(runtime, [SHORT, LONG], BARE, GREEDY))
    length = first.index(end) + 1
    assert len(steps) == 24 > length
    assert {step[0].text for step in steps[length - 1 :]} == {steps[-1][0].text}
    assert (steps[-1][0].num_tokens, steps[-1][0].stop_reason) == (length, "eos")
    assert (steps[-1][1].num_tokens, steps[-1][1].stop_reason) == (24, "length")
    assert steps[-1][1].text == runtime.base.tokenizer.decode(second, skip_special_tokens=True)


@pytest.mark.parametrize("padded", [0, 3])
def test_a_token_read_alone_is_read_as_in_one_pass(runtime: Runtime, padded: int) -> None:
    """Each step gives the logits of reading everything at once."""
    torch.manual_seed(0)
    whole = torch.randint(3, 260, (2, 9))
    mask = torch.ones_like(whole)
    mask[0, :padded] = 0
    past = runtime.forward.new_cache(2)

    def logits(start: int, end: int) -> torch.Tensor:
        seen = mask[:, :end].bool() if padded else None
        tokens = chat._new_tokens(whole[:, start:end], seen, past, None)
        return chat._next_logits(runtime, "a chat", runtime.forward, tokens)

    logits(0, 6)
    for end in (7, 8, 9):
        expected = next_token_logits(runtime.base.model, whole[:, :end], mask[:, :end])
        torch.testing.assert_close(logits(end - 1, end), expected, atol=1e-4, rtol=0)


# The stream


@pytest.mark.parametrize("packed", [True, False])
def test_a_prompt_read_in_parts_is_answered_as_in_one_and_can_be_stopped_between(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    forward = PackedForward(runtime.base)
    passes = forward if packed else HookedForward(runtime.base, runtime.host.applying)
    asked = ([SHORT, LONG], applying(twin(runtime)), GREEDY)
    with runtime.through(passes):
        *_, whole = decode(runtime, *asked)
        monkeypatch.setattr(chat, "_READ_AT_ONCE", 7)
        *steps, last = decode(runtime, *asked)
        assert texts(last) == texts(whole)
        length = len(runtime.base.chat_ids(LONG[0]["content"]))
        assert sum(not any(r.num_tokens for r in step) for step in steps) == (length - 1) // 7
        stopped = decode(runtime, *asked)
        next(stopped)
        assert not runtime.lock.locked()
        stopped.close()


def test_every_step_brings_one_token_to_every_row(runtime: Runtime) -> None:
    steps = list(decode(runtime, [SHORT, LONG], BARE, GREEDY))
    assert [[reply.num_tokens for reply in step] for step in steps] == [
        [n, n] for n in range(1, 25)
    ]
    assert [step[0].finished for step in steps] == [False] * 23 + [True]
    for before, after in pairwise(steps):
        assert all(b.text.startswith(a.text) for a, b in zip(before, after, strict=True))
    assert 0 < steps[-1][0].first_token_seconds == steps[0][0].first_token_seconds
    assert steps[0][0].tokens_per_second == 0 < steps[-1][0].tokens_per_second


def test_the_answer_ends_at_the_limit(runtime: Runtime) -> None:
    one = answer(runtime, [SHORT], sampling=replace(GREEDY, max_new_tokens=1))[0]
    assert (one.num_tokens, one.stop_reason) == (1, "length")


def test_the_lock_is_free_between_tokens_and_after_closing(runtime: Runtime) -> None:
    """A visitor who stops reading must not stop the others."""
    stream = decode(runtime, [SHORT, SHORT], applying(twin(runtime)), GREEDY)
    next(stream)
    assert not runtime.lock.locked()
    stream.close()
    assert not runtime.lock.locked()


def test_a_failing_step_frees_the_lock_and_takes_the_adapter_off(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("out of memory")

    before = answer(runtime, [SHORT])[0].text
    with monkeypatch.context() as patch:
        patch.setattr(runtime.forward, "hidden", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            next(decode(runtime, [SHORT, SHORT], applying(twin(runtime)), GREEDY))
    assert not runtime.lock.locked()
    assert answer(runtime, [SHORT])[0].text == before


def test_two_chats_that_take_turns_do_not_disturb_each_other(runtime: Runtime) -> None:
    """Tokens of two visitors alternate on one base; the adapter is chosen at every step."""
    one, two = twin(runtime, seed=1), twin(runtime, seed=2)
    alone = [texts(answer(runtime, [SHORT, SHORT], active)) for active in (one, two)]
    assert alone[0] != alone[1]
    streams = [decode(runtime, [SHORT, SHORT], applying(active), GREEDY) for active in (one, two)]
    *_, last = zip(*streams, strict=True)
    assert [texts(replies) for replies in last] == alone


def test_what_is_active_may_change_while_an_answer_is_written(runtime: Runtime) -> None:
    one, two = twin(runtime, seed=1), twin(runtime, seed=2)
    asked: list[FittedLoRA] = []

    def chosen() -> FittedLoRA:
        asked.append(one if len(asked) < 6 else two)
        return asked[-1]

    *_, changed = decode(runtime, [SHORT, SHORT], chosen, GREEDY)
    assert len(asked) == 24
    first, second = (answer(runtime, [SHORT, SHORT], active) for active in (one, two))
    assert changed[0].text == first[0].text
    assert changed[1].text[:4] == first[1].text[:4]
    assert changed[1].text not in (first[1].text, second[1].text)


def scripted(ids: Sequence[int]) -> Callable[..., torch.Tensor]:
    """Stands in for the logits: one token after the other, the same for every row."""
    script = iter(ids)

    def next_logits(_runtime: object, _chat: object, _forward: object, tokens: Any) -> Tensor:
        logits = torch.zeros(len(tokens.ids), 300)
        logits[:, next(script)] = 1
        return logits

    return next_logits


def test_unfinished_characters_are_held_back(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = runtime.base.tokenizer("a漢🙂b")["input_ids"]
    assert len(ids) == 1 + 3 + 4 + 1
    monkeypatch.setattr(chat, "_next_logits", scripted(ids))
    sampling = replace(GREEDY, max_new_tokens=len(ids))
    steps = list(decode(runtime, [SHORT], BARE, sampling))
    assert [step[0].text for step in steps] == [
        *("a", "a", "a", "a漢", "a漢", "a漢", "a漢", "a漢🙂", "a漢🙂b")
    ]


def test_a_character_that_never_ends_shows_in_the_last_step(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = runtime.base.tokenizer("a漢")["input_ids"][:3]
    monkeypatch.setattr(chat, "_next_logits", scripted(ids))
    steps = list(decode(runtime, [SHORT], BARE, replace(GREEDY, max_new_tokens=3)))
    assert [step[0].text for step in steps] == ["a", "a", "a\ufffd"]


def fallback_tokenizer() -> PreTrainedTokenizerFast:
    """Bytes as sentencepiece models spell them, where each stray byte is a \ufffd of its own."""
    pieces = ["<pad>", "<|im_start|>", "<|im_end|>", *(f"<0x{b:02X}>" for b in range(256))]
    tokenizer = Tokenizer(BPE(vocab={p: i for i, p in enumerate(pieces)}, merges=[]))
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>")
    fast.chat_template = byte_tokenizer().chat_template
    return fast


def test_unfinished_characters_of_byte_fallback_are_held_back(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = fallback_tokenizer()
    monkeypatch.setattr(chat, "_render", lambda tokenizer, messages: [1, 5])
    monkeypatch.setattr(chat, "_next_logits", scripted([3 + b for b in "🙂b".encode()]))
    steps = list(
        decode(
            replace(runtime, base=replace(runtime.base, tokenizer=tokenizer)),
            [SHORT],
            BARE,
            replace(GREEDY, max_new_tokens=5),
        )
    )
    assert [step[0].text for step in steps] == ["", "", "", "🙂", "🙂b"]


# What cannot be answered


@pytest.mark.parametrize(
    ("conversation", "message"),
    [
        ([], r"a conversation must end with a message of role `user`\."),
        ([{"role": "assistant", "content": "Hi"}], r"must end with a message of role `user`\."),
        ([{"content": "Hi"}], r"must end with a message of role `user`\."),
        (user(""), r"the message is empty\. Write one first\."),
        (user(" \n\t"), r"the message is empty\."),
        ([{"role": "user"}], r"the message is empty\."),
        (
            [{"role": "tool", "content": "x"}, *user("Hi")],
            r"unknown role 'tool'; expected system, user or assistant\.",
        ),
        ([{"content": "x"}, *user("Hi")], r"unknown role None; expected system"),
        ([{"role": "user", "content": None}], r"`content` of a message must be a text, got NoneT"),
        ([{"role": "user", "content": [{"text": "x"}]}], r"must be a text, got list\."),
        (
            user("x" * 500),
            r"the conversation is 5\d\d tokens long; this base reads 512\. Clear the chat, or sho",
        ),
    ],
)
def test_a_conversation_that_cannot_be_answered_is_refused(
    runtime: Runtime, conversation: list[Message], message: str
) -> None:
    with pytest.raises(ChatError, match=message):
        answer(runtime, [SHORT, conversation])


def test_an_answer_that_may_be_too_long_is_told_as_such(runtime: Runtime) -> None:
    said = r"is \d+ tokens long and the answer may have 505; this base reads 512 in all\. Lower the"
    with pytest.raises(ChatError, match=said):
        answer(runtime, [SHORT], sampling=Sampling(max_new_tokens=505))


def test_megabytes_are_refused_before_they_are_tokenised(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat, "_render", lambda *_: pytest.fail("it was tokenised"))
    with pytest.raises(ChatError, match=r"is 8,000,000 characters long; this base reads"):
        answer(runtime, [user("x" * 8_000_000)])


def test_the_longest_conversation_that_fits_is_answered(runtime: Runtime) -> None:
    room = 512 - 24
    rendered = runtime.base.tokenizer.apply_chat_template(
        user("x"), add_generation_prompt=True, tokenize=False
    )
    frame = len(runtime.base.tokenizer(rendered)["input_ids"]) - 1
    assert answer(runtime, [user("x" * (room - frame))])[0].num_tokens == 24
    with pytest.raises(ChatError, match=r"is 489 tokens long and the answer may have 24"):
        answer(runtime, [user("x" * (room - frame + 1))])


def test_earlier_turns_and_a_system_message_are_part_of_the_conversation(runtime: Runtime) -> None:
    history = [*user("Hi"), {"role": "assistant", "content": "Yes?"}, *user("Hi")]
    told = [{"role": "system", "content": "Be brief."}, *SHORT]
    found = {answer(runtime, [c])[0].text for c in (SHORT, history, told)}
    assert len(found) == 3
