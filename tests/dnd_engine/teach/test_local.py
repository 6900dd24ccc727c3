"""A larger base on this computer as the teacher: what it answers, and that it goes again."""

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config

from dnd_engine.errors import AssetError, ConfigError, LayoutError
from dnd_engine.models import base as bases
from dnd_engine.models import memory, sources
from dnd_engine.tasks.folder import Example
from dnd_engine.teach.local import LocalTeacher
from tests.dnd_engine.tiny import byte_tokenizer, save_larger, tiny_base

EXAMPLES = [Example(f"Say it.\n\n{n}", "") for n in range(20)]


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_larger(tmp_path_factory.mktemp("bases") / "larger")


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32, the same answers on every machine."""
    monkeypatch.setattr(bases, "best_dtype", lambda device: torch.float32)


@pytest.mark.slow
def test_all_prompts_get_its_own_greedy_answers_in_their_order(larger: Path, exact: None) -> None:
    """As transformers generates them, one by one."""
    parts = list(LocalTeacher(base=str(larger), device="cpu").answers(EXAMPLES))
    assert [len(part) for part in parts] == [16, 4]
    wanted = [generated(tiny_base(larger), example.prompt, 192) for example in EXAMPLES]
    assert [text for part in parts for text in part] == wanted
    assert len(set(wanted)) > 5


def generated(base: bases.BaseModel, prompt: str, most: int) -> str | None:
    """A greedy answer; None if it is empty or does not end."""
    ids, ends = torch.tensor([base.chat_ids(prompt)]), sorted(bases.end_tokens(base))
    model: Any = base.model
    found = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=most,
        do_sample=False,
        eos_token_id=ends,
        pad_token_id=ends[0],
    )
    *written, last = found[0, ids.shape[1] :].tolist()
    if last not in ends:
        return None
    return str(base.tokenizer.decode(written, skip_special_tokens=True)).strip() or None


@pytest.mark.slow
@pytest.mark.parametrize("to_the_end", [True, False])
def test_it_is_loaded_with_the_first_answers_and_gone_after_the_last(
    larger: Path, monkeypatch: pytest.MonkeyPatch, to_the_end: bool
) -> None:
    loaded: list[weakref.ref[Any]] = []
    load = bases.load_base

    def noting(*given: Any) -> bases.BaseModel:
        base = load(*given)
        loaded.append(weakref.ref(base.model))
        return base

    monkeypatch.setattr(bases, "load_base", noting)
    steps = LocalTeacher(base=str(larger), device="cpu").answers(EXAMPLES)
    assert loaded == []
    next(steps)
    (model,) = loaded
    assert model() is not None
    gc.disable()  # so that nothing but the teacher collects it
    try:
        if to_the_end:
            list(steps)
        else:
            steps.close()
        assert model() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "use",
    [LocalTeacher.check, lambda teacher: next(teacher.answers(EXAMPLES))],
    ids=["check", "ask"],
)
def test_one_that_does_not_fit_is_refused_before_it_is_hashed_or_read(
    larger: Path, use: Callable[[LocalTeacher], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "sha256_of", None)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", None)
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1_000)
    with pytest.raises(AssetError, match=r"larger needs about .* and 0\.0 GB are free"):
        use(LocalTeacher(base=str(larger), device="cpu"))


def test_what_is_no_base_is_refused_without_reading_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "sha256_of", None)
    with pytest.raises(ConfigError, match="needs the name of a base"):
        LocalTeacher(base=" ")
    with pytest.raises(AssetError, match="no model folder at"):
        LocalTeacher(base=str(tmp_path / "none")).check()
    GPT2Config(n_layer=1, n_embd=8, n_head=1).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not read")
    byte_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(LayoutError, match="architecture 'gpt2' is not supported"):
        LocalTeacher(base=str(tmp_path)).check()


def test_its_name_says_nothing_of_this_computers_folders(
    larger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert LocalTeacher(base=str(larger)).model == "larger"
    assert LocalTeacher(base=f"{larger}/").model == "larger"
    assert LocalTeacher(base="Qwen/Qwen3-1.7B").model == "Qwen/Qwen3-1.7B"
    monkeypatch.chdir(larger)
    assert LocalTeacher(base=".").model == "larger"
