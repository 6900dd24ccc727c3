"""Imprinting on a tiny random base: what the regression is given, and what comes out."""

import copy
import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
from hypothesis import strategies as st
from safetensors import SafetensorError
from torch import Tensor

from dnd_engine.config import ImprintConfig
from dnd_engine.errors import ConfigError, ImprintError
from dnd_engine.imprint import ordinary
from dnd_engine.imprint.fit import (
    Imprinted,
    ImprintStep,
    Source,
    _fair_share,
    first_layer,
    imprint,
)
from dnd_engine.imprint.ordinary import measure_ordinary, ordinary_messages, ordinary_penalties
from dnd_engine.imprint.solve import Penalty, Update, solve
from dnd_engine.models.base import block, last_hidden
from dnd_engine.models.blocks import BlockPass, cut_rows
from dnd_engine.models.runtime import Runtime
from dnd_engine.progress import finish
from tests.dnd_engine.tiny import LAYOUT, byte_tokenizer, random_tokens, tiny_base
from tests.present import present

CONFIG = ImprintConfig(r=8, first_layer_share=0, ridge=1e-3, max_answer_tokens=4)
INPUTS = [a + b for a, b in itertools.product("abcd", "wxyz")]
MESSAGES = ("Good morning.", "What is rain?", "Name a fruit.")


@pytest.fixture
def runtime(tiny_folder: Path) -> Runtime:
    return Runtime.of(tiny_base(tiny_folder), LAYOUT)


@pytest.fixture
def penalties(runtime: Runtime) -> Mapping[int, Penalty]:
    return finish(measure_ordinary(runtime, MESSAGES, 0))


def source(instruction: str, inputs: list[str], weight: float = 1.0) -> Source:
    return Source(tuple((f"{instruction}\n\n{i}", i) for i in inputs), None, weight)


def hidden(runtime: Runtime, text: str, made: Imprinted | None = None) -> Tensor:
    """The state that the first token of an answer is predicted from."""
    fitted = None if made is None else runtime.host.fit(made.tokens[None], made.layout)
    with torch.inference_mode(), runtime.host.applying(fitted):
        ids = torch.tensor([runtime.base.chat_ids(text)])
        return last_hidden(runtime.base.model, input_ids=ids)[0, -1]


def test_blocks_one_by_one_are_the_forward_pass(runtime: Runtime) -> None:
    """Rows share their beginnings and see nothing of one another."""
    base = runtime.base
    rows = [base.chat_ids(text) for text in ("a", "a much longer message", "two words", "a")]
    seen: list[Tensor] = []
    last = block(base.model, base.num_layers - 1)
    handle = last.register_forward_hook(lambda _m, _a, out: seen.append(out))
    with torch.inference_mode():
        walk = BlockPass(base, rows)
        for layer in range(base.num_layers):
            walk.advance(layer)
        seen.clear()
        for row, places in zip(rows, walk.places, strict=True):
            last_hidden(base.model, input_ids=torch.tensor([row]))
            torch.testing.assert_close(walk.states[places], seen[-1][0], rtol=1e-3, atol=1e-3)
    handle.remove()
    assert walk.places[0] == walk.places[3]
    assert len(walk.states) < sum(map(len, rows[:3]))


def test_rows_are_cut_where_their_tree_would_grow_too_large() -> None:
    rows = [[1, 2, 3, 4], [9, 9], [1, 2, 3, 5, 6], [1, 2, 7], list(range(20))]
    cut = cut_rows(rows, 7)
    assert sorted(n for part in cut for n in part) == [0, 1, 2, 3, 4]
    assert [4] in cut
    for part in cut:
        tokens = {tuple(rows[n][:size]) for n in part for size in range(1, len(rows[n]) + 1)}
        assert len(tokens) <= 7 or len(part) == 1
    assert cut_rows([], 7) == []


def test_what_is_added_to_a_block_is_what_a_lora_adds(runtime: Runtime) -> None:
    base, layer = runtime.base, 1
    a, b = torch.randn(3, 128), torch.randn(64, 3)
    with torch.inference_mode():
        walk = BlockPass(base, [base.chat_ids("hello")])
        for index in range(layer + 1):
            walk.advance(index)
        plain = walk.states
        assert walk.inputs is not None
        walk.add(a, b)
    torch.testing.assert_close(walk.states, plain + walk.inputs @ (b @ a).T, rtol=1e-3, atol=1e-3)


def test_the_bare_input_comes_close_to_the_state_with_the_instruction(
    runtime: Runtime, penalties: Mapping[int, Penalty]
) -> None:
    """Also for inputs that were not fitted."""
    made = finish(imprint(runtime, [source("Say X.", INPUTS[:12])], penalties, CONFIG))
    assert made.num_prompts == 12
    assert any(share > 0.1 for share in made.layers)
    for given in INPUTS[12:]:
        wanted = hidden(runtime, f"Say X.\n\n{given}")
        before = (hidden(runtime, given) - wanted).norm()
        after = (hidden(runtime, given, made) - wanted).norm()
        assert after < 0.8 * before


def test_ordinary_messages_change_less_than_what_is_imprinted(
    runtime: Runtime, penalties: Mapping[int, Penalty]
) -> None:
    made = finish(imprint(runtime, [source("Say X.", INPUTS)], penalties, CONFIG))

    def change(text: str) -> float:
        return float((hidden(runtime, text, made) - hidden(runtime, text)).norm())

    ordinary = [change(message) for message in MESSAGES]
    assert max(ordinary) < min(change(given) for given in INPUTS)


def test_equal_prompts_give_equal_bytes(runtime: Runtime, penalties: Mapping[int, Penalty]) -> None:
    sources = [source("Say X.", INPUTS)]
    first, second = (finish(imprint(runtime, sources, penalties, CONFIG)) for _ in range(2))
    assert first.tokens.equal(second.tokens)


def test_the_base_is_left_as_it_was(runtime: Runtime, penalties: Mapping[int, Penalty]) -> None:
    before = hidden(runtime, "ab")
    finish(imprint(runtime, [source("Say X.", INPUTS)], penalties, CONFIG))
    assert hidden(runtime, "ab").equal(before)
    assert not runtime.lock.locked()


def test_steps_count_prompts_then_layers(
    runtime: Runtime, penalties: Mapping[int, Penalty]
) -> None:
    seen: list[ImprintStep] = []
    finish(imprint(runtime, [source("Say X.", INPUTS[:5])], penalties, CONFIG), seen.append)
    assert [(s.stage, s.done, s.total) for s in seen] == [
        ("ask", 0, 5),
        ("ask", 5, 5),
        ("imprint", 1, 2),
        ("imprint", 2, 2),
    ]


def test_closing_frees_the_base(runtime: Runtime, penalties: Mapping[int, Penalty]) -> None:
    steps = imprint(runtime, [source("Say X.", INPUTS)], penalties, CONFIG)
    next(steps)
    next(steps)
    steps.close()
    assert not runtime.lock.locked()


def test_the_teacher_answers_with_its_adapter_and_the_imprint_starts_without(
    runtime: Runtime, penalties: Mapping[int, Penalty]
) -> None:
    teacher = runtime.host.fit(random_tokens(size=0.03)[None], LAYOUT)
    plain = source("Say X.", INPUTS)
    made = finish(imprint(runtime, [Source(plain.prompts, teacher)], penalties, CONFIG))
    with torch.inference_mode(), runtime.host.applying(teacher):
        ids = torch.tensor([runtime.base.chat_ids("Say X.\n\nab")])
        wanted = last_hidden(runtime.base.model, input_ids=ids)[0, -1]
    assert (hidden(runtime, "ab", made) - wanted).norm() < (hidden(runtime, "ab") - wanted).norm()


def test_sources_are_fitted_together_and_a_heavier_one_better(
    runtime: Runtime, penalties: Mapping[int, Penalty]
) -> None:
    """With rank 1 the two compete."""

    def missed(weight: float) -> float:
        sources = [source("Say X.", INPUTS[:8], weight), source("Count them!", INPUTS[8:])]
        config = ImprintConfig(r=1, first_layer_share=0, ridge=1e-3, max_answer_tokens=4)
        made = finish(imprint(runtime, sources, penalties, config))
        return sum(
            float((hidden(runtime, i, made) - hidden(runtime, f"Say X.\n\n{i}")).norm())
            for i in INPUTS[:8]
        )

    assert missed(10.0) < missed(0.1)


def test_more_prompts_than_allowed_are_drawn_by_seed(
    runtime: Runtime, penalties: Mapping[int, Penalty]
) -> None:
    def tokens(seed: int) -> Tensor:
        config = ImprintConfig(
            r=8, first_layer_share=0, ridge=1e-3, max_answer_tokens=4, max_prompts=6, seed=seed
        )
        made = finish(imprint(runtime, [source("Say X.", INPUTS)], penalties, config))
        assert made.num_prompts == 6
        return made.tokens

    assert tokens(0).equal(tokens(0))
    assert not tokens(0).equal(tokens(1))


@pytest.mark.parametrize(
    ("max_prompts", "max_bucket_prompts", "fitted"), [(6, 4, 3 + 3), (8, 3, 3 + 3), (16, 5, 5 + 4)]
)
def test_a_bucket_has_a_share_of_all_prompts_and_a_limit_of_its_own(
    max_prompts: int,
    max_bucket_prompts: int,
    fitted: int,
    runtime: Runtime,
    penalties: Mapping[int, Penalty],
) -> None:
    config = ImprintConfig(
        first_layer_share=0,
        max_answer_tokens=4,
        max_prompts=max_prompts,
        max_bucket_prompts=max_bucket_prompts,
    )
    sources = [source("Say X.", INPUTS[:8]), source("Count them!", INPUTS[8:12])]
    assert finish(imprint(runtime, sources, penalties, config)).num_prompts == fitted


def test_layers_below_the_first_stay_zero(
    runtime: Runtime, penalties: Mapping[int, Penalty]
) -> None:
    config = ImprintConfig(r=8, first_layer_share=0.5, ridge=1e-3, max_answer_tokens=4)
    assert first_layer(2, config) == 1
    made = finish(imprint(runtime, [source("Say X.", INPUTS)], penalties, config))
    assert made.layers[0] == 0
    assert made.layers[1] > 0
    half = len(made.tokens) // 2
    assert not made.tokens[:half].any()
    assert made.tokens[half:].any()


def test_several_sources_have_a_first_layer_of_their_own(
    runtime: Runtime, penalties: Mapping[int, Penalty]
) -> None:
    config = replace(CONFIG, mix_first_layer_share=0.5)
    sources = [source("Say X.", INPUTS[:8]), source("Count them!", INPUTS[8:])]
    assert [first_layer(2, config, count) for count in (1, 2, 3)] == [0, 1, 1]
    assert finish(imprint(runtime, sources[:1], penalties, config)).layers[0] > 0
    assert finish(imprint(runtime, sources, penalties, config)).layers[0] == 0


@hypothesis.given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=20), spare=st.integers(0, 400)
)
def test_what_short_answers_leave_goes_to_longer_ones(lengths: list[int], spare: int) -> None:
    total = len(lengths) + spare
    share = _fair_share(lengths, total)
    assert sum(min(length, share) for length in lengths) <= total
    # A larger share would be too much, or nobody needs it.
    assert share == max(lengths) or sum(min(n, share + 1) for n in lengths) > total


@pytest.mark.parametrize(("most", "matched"), [(1000, 40), (40, 40), (39, 20), (2, 20)])
def test_matched_tokens_are_limited_and_every_answer_keeps_its_first(
    most: int,
    matched: int,
    runtime: Runtime,
    penalties: Mapping[int, Penalty],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ten answers of two tokens each, read bare and full."""
    groups: list[Tensor] = []

    def solved(inputs: Tensor, wanted: Tensor, of: Tensor, *args: Any, **kwargs: Any) -> Update:
        groups.append(of)
        return solve(inputs, wanted, of, *args, **kwargs)

    monkeypatch.setattr("dnd_engine.imprint.fit.solve", solved)
    monkeypatch.setattr("dnd_engine.imprint.fit._MAX_ROWS", most)
    config = replace(CONFIG, max_answer_tokens=2)
    finish(imprint(runtime, [source("Say X.", INPUTS[:10])], penalties, config))
    assert {len(of) for of in groups} == {matched}
    assert groups[0].unique().tolist() == list(range(10))


def test_one_prompt_is_imprinted_though_nothing_can_be_left_out(
    runtime: Runtime, penalties: Mapping[int, Penalty]
) -> None:
    made = finish(imprint(runtime, [source("Say X.", ["ab"])], penalties, CONFIG))
    wanted = hidden(runtime, "Say X.\n\nab")
    assert (hidden(runtime, "ab", made) - wanted).norm() < (hidden(runtime, "ab") - wanted).norm()


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
def test_a_source_counts_for_something(weight: float) -> None:
    with pytest.raises(ConfigError, match="`weight` must be above 0"):
        Source((("Say X.\n\nab", "ab"),), None, weight)


def test_prompts_that_are_all_too_long_are_refused_in_words(
    runtime: Runtime, penalties: Mapping[int, Penalty]
) -> None:
    config = ImprintConfig(max_tokens=8)
    with pytest.raises(ImprintError, match=r"every prompt has more than 8 tokens.*Shorten some"):
        finish(imprint(runtime, [source("Say X.", INPUTS)], penalties, config))


@pytest.mark.parametrize(
    "field", ["r", "ridge", "max_prompts", "max_bucket_prompts", "max_answer_tokens"]
)
def test_settings_out_of_bounds_are_refused_by_name(field: str) -> None:
    values: dict[str, Any] = {field: 0}
    with pytest.raises(ConfigError, match=f"`{field}` must be between"):
        ImprintConfig(**values)


# Ordinary activity


def test_ordinary_activity_is_kept_on_disk_and_read_back(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dnd_engine.imprint.ordinary.ordinary_messages", lambda: MESSAGES)
    shares: list[float] = []
    first = finish(ordinary_penalties(runtime, 0, tmp_path), shares.append)
    assert shares == sorted(set(shares))
    assert shares[-1] == 1
    (kept,) = tmp_path.iterdir()
    monkeypatch.setattr("dnd_engine.imprint.ordinary.measure_ordinary", None)  # not called again
    again = finish(ordinary_penalties(runtime, 0, tmp_path))
    assert first.keys() == again.keys() == {0, 1}
    for layer, penalty in first.items():
        assert penalty.directions.equal(again[layer].directions)
        assert penalty.gains.equal(again[layer].gains)
        assert (penalty.floor, penalty.size) == (again[layer].floor, again[layer].size)
    assert kept.name.startswith("ordinary-")


def test_ordinary_activity_that_cannot_be_kept_is_used_all_the_same(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dnd_engine.imprint.ordinary.ordinary_messages", lambda: MESSAGES)
    (tmp_path / "file").write_text("")
    found = finish(ordinary_penalties(runtime, 0, tmp_path / "file"))
    kept = finish(ordinary_penalties(runtime, 0, tmp_path))
    assert found[1].directions.equal(kept[1].directions)
    assert found[1].floor == pytest.approx(kept[1].floor)


def test_kept_activity_is_read_to_the_device_of_the_base(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is measured there; `meta` stands for a GPU."""
    monkeypatch.setattr("dnd_engine.imprint.ordinary.ordinary_messages", lambda: MESSAGES)
    finish(ordinary_penalties(runtime, 0, tmp_path))
    (file,) = tmp_path.iterdir()
    kept = present(ordinary._read(file, torch.device("meta")))
    inputs = torch.empty(3, 128, device="meta")
    assert all(part.is_meta for part in kept[0].divide(inputs))


def test_activity_of_a_base_in_another_precision_is_measured_for_itself(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dnd_engine.imprint.ordinary.ordinary_messages", lambda: MESSAGES)
    model = copy.deepcopy(runtime.base.model).bfloat16()
    for one in (runtime, Runtime.of(replace(runtime.base, model=model), LAYOUT)):
        kept = finish(ordinary_penalties(one, 0, tmp_path))
        own = finish(measure_ordinary(one, MESSAGES, 0))
        assert kept[0].size == pytest.approx(own[0].size, rel=1e-6)


def test_a_damaged_file_is_measured_again(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dnd_engine.imprint.ordinary.ordinary_messages", lambda: MESSAGES)
    first = finish(ordinary_penalties(runtime, 0, tmp_path))
    (kept,) = tmp_path.iterdir()
    cut = kept.read_bytes()[:100]
    kept.unlink()  # a new file, because the first activity is mapped from the old one
    kept.write_bytes(cut)
    again = finish(ordinary_penalties(runtime, 0, tmp_path))
    assert first[1].directions.equal(again[1].directions)


def test_another_chat_template_is_measured_for_itself(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights may stay the same when a repository gets another template."""
    monkeypatch.setattr("dnd_engine.imprint.ordinary.ordinary_messages", lambda: MESSAGES)
    finish(ordinary_penalties(runtime, 0, tmp_path))
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}[{{ m.content }}]<|im_end|>{% endfor %}"
    base = replace(runtime.base, tokenizer=tokenizer)
    finish(ordinary_penalties(Runtime(base, runtime.host), 0, tmp_path))
    assert len([*tmp_path.iterdir()]) == 2


def test_a_full_disk_costs_the_next_start_time_and_nothing_now(
    runtime: Runtime,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(tensors: object, path: Path) -> None:
        raise SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr("dnd_engine.imprint.ordinary.ordinary_messages", lambda: MESSAGES)
    monkeypatch.setattr("dnd_engine.imprint.ordinary.save_file", full)
    assert finish(ordinary_penalties(runtime, 0, tmp_path)).keys() == {0, 1}
    assert "No space left" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_shipped_messages_are_distinct_lines() -> None:
    messages = ordinary_messages()
    assert len(messages) == len({message.casefold() for message in messages}) >= 128
    assert all(message == message.strip() and message for message in messages)
