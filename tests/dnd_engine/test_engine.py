"""The facade: buckets in, an adapter out, and chat with it; on a tiny base and generator."""

import json
import math
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save, save_file
from typer.testing import CliRunner

from dnd_engine.checks.subject import Reference
from dnd_engine.cli import app
from dnd_engine.config import (
    MIXES,
    EngineConfig,
    ImprintConfig,
    LabelledConfig,
    MeasureConfig,
    Mix,
    RefineConfig,
    Sampling,
    check_teacher,
)
from dnd_engine.engine import Engine
from dnd_engine.errors import (
    AdapterError,
    BaseMismatchError,
    BucketError,
    ConfigError,
    GeneratorError,
    ImprintError,
    LayoutMismatchError,
    RecipeError,
    TrainingError,
    VerificationError,
)
from dnd_engine.export.verify import Verifier
from dnd_engine.files import sha256_of
from dnd_engine.generator.card import save_report
from dnd_engine.generator.config import GeneratorConfig
from dnd_engine.generator.folder import (
    Generator,
    GeneratorFolder,
    TaskCentroid,
    save_generator,
    save_teacher,
)
from dnd_engine.limits import PromptLimits, check_seed
from dnd_engine.lora.adapter import Adapter, write_files
from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.lora.layout import LoRALayout, LoRASpec
from dnd_engine.lora.provenance import Imprinting, Recipe, Refinement, read_recipe
from dnd_engine.lora.seen import Seen, digest, digests, with_inputs
from dnd_engine.models import turns
from dnd_engine.models.base import fingerprint
from dnd_engine.models.encoder import EncodedPrompts, PromptEncoder, PromptMemory
from dnd_engine.models.replies import Reply
from dnd_engine.models.runtime import Runtime
from dnd_engine.models.sources import ENCODERS, resolve
from dnd_engine.progress import Progress, finish, in_english
from dnd_engine.prompts.buckets import Bucket
from dnd_engine.prompts.examples import load_examples
from dnd_engine.prompts.files import read_prompt_file
from dnd_engine.prompts.split import split_prompt
from dnd_engine.tasks.folder import Example
from dnd_engine.teach.endpoint import Endpoint
from dnd_engine.teach.local import LocalTeacher
from dnd_engine.training.finetune.refine import RefineStep, choose
from tests.dnd_engine.serving.chat_server import Handler, running_chat
from tests.dnd_engine.tiny import (
    CONFIG,
    CPU,
    LAYOUT,
    bucket,
    delta,
    make_adapter,
    random_tokens,
    save_larger,
    tiny_base,
    user,
)
from tests.present import present
from tests.reports import report

SQL = [f"List the orders of customer {i}." for i in range(6)]
TONE = [f"Please reply kindly to complaint {i}" for i in range(3)]


def write_generator(
    tiny_folder: Path,
    folder: Path,
    centroid_width: int = 384,
    size: float = 2,
    layout: LoRALayout = LAYOUT,
    **fields: Any,
) -> Path:
    """A random generator for a tiny base, by default loud enough to change every answer."""
    encoder = resolve("all-minilm-l6-v2", ENCODERS)
    base = tiny_base(tiny_folder)
    torch.manual_seed(0)
    given: dict[str, Any] = {
        "features": ((4, 8, 384), (16, 6, 32), layout.grid()),
        "kernel_size": 3,
        "layout": layout,
        "base": {"id": "tiny", "fingerprint": fingerprint(base)},
        "encoder": {"id": encoder.hub_id, "sha256": encoder.sha256},
        "training": {"data": [{"task": "a", "family": "f", "licence": "MIT", "category": "c"}]},
    }
    generator = Generator(GeneratorConfig(**(given | fields)))
    with torch.no_grad():
        generator.shared.copy_(random_tokens(layout, size=0.1))
        for name, parameter in generator.decoder.named_parameters():
            # Weights that start at zero are those that make the weight tokens.
            if name.endswith("weight") and not parameter.any():
                parameter.normal_(std=size)
        generator.condition_std.fill_(0.3)
    tasks = [
        TaskCentroid(f"task{i}", "d", tuple(torch.randn(centroid_width).tolist())) for i in range(7)
    ]
    save_generator(generator, folder, tasks, "# Card")
    return folder


def adapter_of(engine: Engine, seed: int = 0) -> Adapter:
    """A random adapter of what the engine has loaded."""
    return make_adapter(seed, base_id=engine.info.base_id)


@pytest.fixture(scope="module")
def generator_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_generator(tiny_folder, tmp_path_factory.mktemp("generators") / "tiny")


@pytest.fixture(scope="module")
def config(tiny_folder: Path, generator_folder: Path) -> EngineConfig:
    return EngineConfig(base=str(tiny_folder), generator=generator_folder, device="cpu")


@pytest.fixture(scope="module")
def engine(config: EngineConfig) -> Engine:
    return Engine.load(config)


@pytest.fixture(scope="module")
def quiet_engine(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """An engine whose generator changes the base so little that its answers can be imprinted."""
    folder = write_generator(tiny_folder, tmp_path_factory.mktemp("generators") / "quiet", size=0.1)
    cache = tmp_path_factory.mktemp("cache")
    return Engine.load(
        EngineConfig(base=str(tiny_folder), generator=folder, device="cpu", cache_dir=cache)
    )


# Loading


def test_loading_tells_its_stages_and_what_is_loaded(config: EngineConfig) -> None:
    seen: list[Progress] = []
    info = Engine.load(config, seen.append).info
    assert [in_english(p) for p in seen] == [
        "Loading the base model",
        "Loading the text encoder",
        "Loading the generator",
        "Ready",
    ]
    assert {p.stage for p in seen} == {"load"}
    assert [p.fraction for p in seen] == sorted(p.fraction or 0 for p in seen)
    assert info.base_parameters == sum(
        p.numel() for p in tiny_base(Path(config.base)).model.parameters()
    )
    assert info.device == "cpu"
    digests = (info.generator_sha256, info.encoder_sha256, info.base_sha256)
    assert [len(present(digest)) for digest in digests] == [64, 64, 64]


def test_a_wrong_generator_folder_is_refused_before_any_weights_are_read(tmp_path: Path) -> None:
    config = EngineConfig(base="example/not-to-be-had", generator=tmp_path / "none")
    with pytest.raises(GeneratorError, match=r"no generator folder at "):
        Engine.load(config)


def test_a_generator_whose_centroids_are_not_the_encoders_is_refused(
    tiny_folder: Path, tmp_path: Path
) -> None:
    write_generator(tiny_folder, tmp_path / "g", centroid_width=64)
    with pytest.raises(LayoutMismatchError, match=r"`tasks\.json` holds centroids 64 wide"):
        Engine.load(EngineConfig(base=str(tiny_folder), generator=tmp_path / "g", device="cpu"))


def test_a_generator_named_by_a_dot_has_the_name_of_its_folder(
    config: EngineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or its adapters have recipes that name no generator."""
    assert config.generator is not None
    monkeypatch.chdir(config.generator)
    assert Engine.load(replace(config, generator=Path())).info.generator_id == "tiny"


def test_card_and_reports_are_those_of_the_generators_folder(
    engine: Engine, generator_folder: Path
) -> None:
    """Read when asked for, so that an examination made meanwhile is there."""
    assert engine.card == "# Card"
    assert engine.reports == {}
    save_report(generator_folder, "heldout", report())
    assert engine.reports["heldout"].rows == report().rows


# Synthesis


def test_equal_prompts_give_equal_adapters_whatever_their_order(engine: Engine) -> None:
    first = engine.generate([bucket("sql", SQL)])
    again = engine.generate([bucket("sql", SQL[::-1])])
    assert torch.equal(first.tokens, again.tokens)
    assert first.sha256 == engine.generate([bucket("sql", SQL)]).sha256


def test_weight_tokens_are_what_the_decoder_makes_of_the_encoded_prompts(
    tiny_folder: Path, tmp_path: Path
) -> None:
    """Down to the numbers, with another head; so are the similarities of training tasks."""
    path = write_generator(tiny_folder, tmp_path / "g", head="mlp", head_options={"hidden": 16})
    engine = Engine.load(EngineConfig(base=str(tiny_folder), generator=path, device="cpu"))
    made = engine.generate([bucket("sql", SQL[:4])])
    assert engine.generator.config.head == "mlp"
    encoder = PromptEncoder(resolve("all-minilm-l6-v2", ENCODERS).path, CPU, torch.bfloat16)
    encoded = encoder.encode(sorted(SQL[:4]), 8)
    folder = GeneratorFolder.open(path)
    generator = folder.load(CPU, torch.float32)
    condition = generator.standardise(encoded.tokens, encoded.mask)
    expected = generator(condition[None])[0].to(made.tokens.dtype)
    torch.testing.assert_close(made.tokens, expected, atol=0.02, rtol=0.05)
    pooled = encoded.pooled.mean(dim=0)
    tasks = {task.slug: task for task in folder.tasks}
    for near in made.nearest_tasks:
        centroid = torch.tensor(tasks[near.slug].centroid)
        similarity = float(torch.cosine_similarity(pooled, centroid, dim=0))
        assert near.similarity == pytest.approx(similarity, abs=0.01)


def test_other_prompts_give_another_adapter(engine: Engine) -> None:
    assert engine.generate([bucket("x", SQL)]).sha256 != engine.generate([bucket("x", TONE)]).sha256


def test_the_seed_draws_the_prompts(engine: Engine) -> None:
    """Six prompts for two batches of four: two stand twice."""
    made = {engine.generate([bucket("sql", SQL)], seed=seed).sha256 for seed in range(3)}
    assert len(made) > 1


def test_an_adapter_knows_where_it_comes_from_but_no_texts(engine: Engine) -> None:
    made = engine.generate([bucket("sql", SQL, 0.5), bucket("tone", TONE)], seed=3)
    assert (made.name, made.num_prompts, made.kept_energy) == ("sql-tone", 9, None)
    origin = made.provenance
    assert (origin["mix"], origin["seed"], origin["num_prompts"]) == ("pool", 3, 9)
    assert [(b["name"], b["weight"], b["num_prompts"]) for b in origin["buckets"]] == [
        ("sql", 0.5, 6),
        ("tone", 1.0, 3),
    ]
    written = b"".join(made.files().values())
    assert not any(text.encode() in written for text in SQL + TONE)
    assert len(made.nearest_tasks) == 5
    assert set(made.seconds) == {"encode", "decode", "total"}


def test_an_adapter_knows_by_digest_which_prompts_it_read(engine: Engine) -> None:
    """Those that were drawn, whatever the mix; so that they are not scored by mistake."""
    for mix in MIXES:
        made = engine.generate([bucket("sql", SQL), bucket("tone", TONE)], mix=mix)
        assert Seen.by(made.provenance) == Seen(digests(SQL + TONE), frozenset(), known=True)
    many = engine.generate([bucket("many", [f"Prompt {i}" for i in range(300)])])
    assert len(Seen.by(many.provenance).read) == 128


@pytest.mark.slow
def test_measuring_leaves_out_what_the_adapter_read_and_adds_a_trained_lora(
    engine: Engine, tmp_path: Path
) -> None:
    rows = "".join(f'"Say it.\n\nword {i}",{i}\n' for i in range(24))
    (path := tmp_path / "rows.csv").write_text("prompt,label\n" + rows, encoding="utf-8")
    file = read_prompt_file(path)
    read = [prompt.text for prompt in file.prompts[:8]]
    made = engine.generate([bucket("rows", read)])
    found = finish(engine.measure(made, file, MeasureConfig(limit_items=6, modes=("bare",))))
    assert found.sides.num_seen == 8
    assert not {e.prompt for e in found.sides.test} & set(read)
    assert "imprint" in made.seconds, "an imprint is part of making it"
    assert found.synthesis_seconds == made.seconds["total"] + made.seconds["imprint"]
    taught = replace(made, seconds={"refine": 3.0})
    assert taught.making_seconds is None, "how long it took before it was read is unknown"
    assert [r.row for r in found.rows] == ["base", "few_shot", "shared_lora", "adapter"]
    config = LabelledConfig(steps=2, batch_size=4)
    trained = finish(engine.train_lora(made, found, config)).trained["trained_lora"]
    assert trained.provenance["base_sha256"] == engine.info.base_sha256
    assert trained.making_seconds == trained.seconds["train"], "training is the whole of it"
    assert trained.was_trained
    with pytest.raises(BaseMismatchError, match="was made for another/base, and"):
        finish(engine.train_lora(replace(made, base_id="another/base"), found, config))
    assert engine.read_adapter(engine.save(trained, tmp_path / "t.zip")).sha256 == trained.sha256
    assert engine.inspect(trained, [bucket("rows", read)]).agreement is None
    with pytest.raises(AdapterError, match="was trained on these prompts"):
        finish(engine.prove(trained, [bucket("rows", read)]))


def test_synthesis_is_timed_again_only_for_an_adapter_of_this_generator(
    engine: Engine, tmp_path: Path
) -> None:
    (path := tmp_path / "rows.csv").write_text(
        "prompt,label\n" + "".join(f"Plain {i},{i}\n" for i in range(6)), encoding="utf-8"
    )
    file, config = read_prompt_file(path), MeasureConfig(limit_items=1)
    made = engine.generate([bucket("a", SQL)])
    assert not finish(engine.measure(made, file, config)).synthesis_estimated
    back = engine.read_adapter(engine.save(made, tmp_path / "a.zip"))
    found = finish(engine.measure(back, file, config))
    assert present(found.synthesis_seconds) > 0
    assert found.to_json()["synthesis_estimated"] is True
    few = replace(file, prompts=file.prompts[:5])
    found = finish(engine.measure(back, few, config))
    assert found.synthesis_seconds is None, "it was made from six prompts"
    assert not found.synthesis_estimated
    stranger = replace(back, provenance={})
    found = finish(engine.measure(stranger, file, config))
    assert found.synthesis_seconds is None
    assert "does not say which prompts" in found.markdown()
    letters = [(text, text[-1]) for text in LETTERS]
    path.write_text("prompt,label\n" + "".join(f'"{t}",{label}\n' for t, label in letters))
    imprinted = engine.generate([bucket("letters", LETTERS[:12])])
    assert imprinted.is_imprinted
    back = engine.read_adapter(engine.save(imprinted, tmp_path / "imprinted.zip"))
    step = next(engine.measure(back, read_prompt_file(path), config))
    assert step.measured.synthesis_seconds is None, "an imprint is no work to do in passing"


def test_progress_goes_through_its_stages(engine: Engine) -> None:
    steps = list(engine.synthesize([bucket("a", SQL), bucket("b", TONE)], mix="sum"))
    assert [step.stage for step in steps] == ["encode", "encode", "decode", "decode", "check"]
    elapsed = [step.elapsed_seconds for step in steps]
    assert elapsed == sorted(elapsed)
    assert (steps[0].doing, steps[0].name) == ("read", "a")
    assert in_english(steps[0]) == "Reading a"


def test_a_sum_of_one_bucket_is_the_pool(engine: Engine) -> None:
    pool = engine.generate([bucket("sql", SQL)])
    for weight in (1.0, -1.0, 0.5):
        total = engine.generate([bucket("sql", SQL, weight)], mix="sum")
        assert total.kept_energy == pytest.approx(1, abs=1e-5)
        expected = delta(pool.state, LAYOUT)
        for path, change in delta(total.state, LAYOUT).items():
            error = (change - weight * expected[path]).norm() / expected[path].norm()
            assert error < 0.02


def test_a_sum_of_two_buckets_is_not_their_pool(engine: Engine) -> None:
    both = [bucket("sql", SQL), bucket("tone", TONE)]
    total, pool = engine.generate(both, mix="sum"), engine.generate(both)
    assert total.kept_energy is not None
    assert 0 < total.kept_energy <= 1
    assert total.sha256 != pool.sha256
    assert total.provenance["mix"] == "sum"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Prompts that were encoded, filled as they are."""
    found: list[str] = []
    encode = PromptEncoder.encode

    def watch(self: PromptEncoder, texts: list[str], length: int) -> EncodedPrompts:
        found.extend(texts)
        return encode(self, texts, length)

    monkeypatch.setattr(PromptEncoder, "encode", watch)
    return found


@pytest.mark.parametrize("mix", ["pool", "sum"])
def test_mixing_anew_reads_no_prompt_again_and_gives_the_same_adapter(
    engine: Engine, read: list[str], mix: Mix
) -> None:
    memory = PromptMemory()
    engine.generate([bucket("sql", SQL), bucket("tone", TONE)], mix=mix, memory=memory)
    others = [bucket("sql", SQL, 0.5), bucket("tone", TONE, 1.5)], [bucket("tone", TONE, 2)]
    fresh = [engine.generate(buckets, mix=mix).sha256 for buckets in others]
    read.clear()
    again = [engine.generate(buckets, mix=mix, memory=memory).sha256 for buckets in others]
    assert again == fresh
    assert len(set(again)) == 2
    assert read == []


@pytest.mark.parametrize("mix", ["pool", "sum"])
def test_what_was_read_ahead_is_not_encoded_again_and_gives_the_same_adapter(
    engine: Engine, read: list[str], mix: Mix
) -> None:
    many = [f"Translate the number {number}." for number in range(40)]
    buckets = [bucket("sql", SQL), bucket("many", many, 0.5)]
    fresh = engine.generate(buckets, mix=mix, imprinted=False).sha256
    memory = PromptMemory()
    parts = iter([True, False])
    read.clear()
    engine.read_ahead(buckets, mix=mix, memory=memory, goes_on=lambda: next(parts))
    # A sum draws more than one part.
    assert len(read) == 32 if mix == "sum" else 0 < len(read) <= 32
    engine.read_ahead(buckets, mix=mix, memory=memory)
    read.clear()
    made = engine.generate(buckets, mix=mix, imprinted=False, memory=memory)
    assert made.sha256 == fresh
    assert read == []


def test_weights_shift_a_pool(engine: Engine) -> None:
    made = {
        engine.generate([bucket("sql", SQL, weight), bucket("tone", TONE)]).sha256
        for weight in (0.2, 1.0, 2.0)
    }
    assert len(made) == 3


@pytest.mark.parametrize(
    ("buckets", "mix", "message"),
    [
        ([], "pool", r"Expected a bucket with prompts, got no bucket\."),
        ([bucket("a", [])], "sum", r"Expected prompts in a bucket, found none\."),
        ([bucket("a", SQL, -1.0)], "pool", r"at least 0 in a pool, got -1.* mix by sum"),
        ([bucket("a", SQL, 3.0)], "sum", r"Bucket `a`: expected a weight between -2 and 2"),
    ],
)
def test_buckets_that_make_no_adapter_are_refused(
    engine: Engine, buckets: list[Bucket], mix: Mix, message: str
) -> None:
    with pytest.raises(BucketError, match=message):
        engine.generate(buckets, mix=mix)


def test_the_limits_are_the_engines(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(engine.config, limits=PromptLimits(max_files=1))
    monkeypatch.setattr(engine, "_loaded", replace(engine._loaded, config=config))
    with pytest.raises(BucketError, match=r"at most 1 files in all buckets, got 2\."):
        engine.generate([bucket("a", SQL), bucket("b", TONE)])


@pytest.mark.parametrize("strength", [11.0, float("nan")])
def test_a_strength_out_of_bounds_is_refused(engine: Engine, strength: float) -> None:
    with pytest.raises(ConfigError, match=r"`strength` must be between -10 and 10"):
        engine.generate([bucket("a", SQL)], strength=strength)


# Chat


def texts(
    engine: Engine, adapter: Adapter | None, sampling: Sampling | None = None
) -> tuple[str, str]:
    sampling = sampling or Sampling(max_new_tokens=12)
    *_, last = engine.chat(user("Hi"), adapter=adapter, sampling=sampling)
    return last.base.text, last.adapted.text if last.adapted else ""


def test_without_an_adapter_only_the_base_answers(engine: Engine) -> None:
    *_, last = engine.chat(user("Hi"), adapter=None, sampling=Sampling(max_new_tokens=12))
    assert last.adapted is None
    assert last.base.text == texts(engine, adapter_of(engine))[0]


def test_an_adapter_of_another_base_is_refused_wherever_it_would_answer(
    engine: Engine, tmp_path: Path
) -> None:
    """The page can exchange the models while adapters of a visit stay."""
    other = make_adapter(base_id="another/base")
    learnt = [bucket("a", ["Say it.\n\none", "Say it.\n\ntwo"])]
    for use in (
        lambda: texts(engine, other),
        lambda: engine.inspect(other),
        lambda: finish(engine.imprint(other, learnt)),
        lambda: finish(engine.refine(other, learnt)),
        lambda: finish(engine.teach(other, {"Say it.\n\none": "one"})),
        lambda: engine.save(other, tmp_path / "a.zip"),
        lambda: engine.export(other, "merged", tmp_path / "whole"),
        lambda: engine.push(other, "someone/other", token="hf_any"),
        lambda: engine.relative_norms(other),
    ):
        with pytest.raises(BaseMismatchError, match="was made for another/base, and"):
            use()


def test_the_adapted_model_may_remember_answers_of_its_own(engine: Engine) -> None:
    made = adapter_of(engine)
    theirs = [*user("Hi"), {"role": "assistant", "content": "Ah!"}, *user("Hi")]
    sampling = Sampling(max_new_tokens=12)
    *_, last = engine.compare([user("Hi"), theirs], [None, made], sampling=sampling)
    *_, other = engine.chat(theirs, adapter=made, sampling=sampling)
    assert other.adapted is not None
    assert last[0].text == texts(engine, made)[0]
    assert last[1].text == other.adapted.text


def test_any_two_adapters_can_be_compared(engine: Engine) -> None:
    one, two = adapter_of(engine), adapter_of(engine, seed=1).with_strength(0.5)
    sampling = Sampling(max_new_tokens=12)
    *_, last = engine.compare([user("Hi")] * 2, [one, two], sampling=sampling)
    assert [reply.text for reply in last] == [texts(engine, a)[1] for a in (one, two)]
    *_, last = engine.compare([user("Hi")] * 2, [one, None], sampling=sampling)
    assert [reply.text for reply in last] == list(texts(engine, one)[::-1])
    for chats, adapters in (([user("Hi")], [None, one]), ([user("Hi")] * 2, [one]), ([], [])):
        with pytest.raises(ConfigError, match="for each of at least one model, got"):
            next(engine.compare(chats, adapters))


def test_a_strength_may_change_while_the_answer_is_written(engine: Engine) -> None:
    made, sampling = adapter_of(engine), Sampling(max_new_tokens=12)
    base_text, adapted_text = texts(engine, made)
    strength = [0.0]

    def answers() -> Iterator[list[Reply]]:
        slider = [lambda: strength[0]]
        return engine.compare([user("Hi")], [made], sampling=sampling, strengths=slider)

    *_, last = answers()
    assert last[0].text == base_text
    for replies in answers():
        last, strength[0] = replies, float(replies[0].num_tokens > 3)
    assert last[0].text[:3] == base_text[:3]
    assert last[0].text not in (base_text, adapted_text)


def test_the_base_is_the_base_after_many_adapters(engine: Engine) -> None:
    """Whichever adapter is beside it, or was there before."""
    before = texts(engine, None)[0]
    for seed in range(8):
        assert texts(engine, adapter_of(engine, seed=seed).with_strength(1 - seed / 4))[0] == before


def test_no_strength_answers_as_the_base(engine: Engine) -> None:
    base_text, adapted_text = texts(engine, adapter_of(engine).with_strength(0))
    assert adapted_text == base_text
    assert texts(engine, adapter_of(engine))[1] != base_text


def test_visitors_at_once_get_what_each_would_get_alone(engine: Engine) -> None:
    """In PEFT the active adapter is shared; here it is chosen at every step, under one lock."""
    adapters = [adapter_of(engine, seed=s) for s in range(4)]
    alone = [texts(engine, a) for a in adapters]
    assert len({adapted for _, adapted in alone}) == 4
    found: list[list[tuple[str, str]]] = [[], [], [], []]
    start = threading.Barrier(4)

    def visit(number: int) -> None:
        start.wait()
        for _ in range(3):
            found[number].append(texts(engine, adapters[number]))

    visitors = [threading.Thread(target=visit, args=(n,)) for n in range(4)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    assert found == [[replies] * 3 for replies in alone]


def test_an_abandoned_chat_does_not_block_the_next(engine: Engine) -> None:
    stream = engine.chat(user("Hi"), adapter=adapter_of(engine))
    next(stream)
    assert texts(engine, adapter_of(engine, seed=1))


def test_work_of_ones_own_is_not_disturbed(engine: Engine) -> None:
    """Chat waits for the end of the block, and goes on after it."""
    alone = texts(engine, adapter_of(engine))
    done: list[tuple[str, str]] = []
    visitor = threading.Thread(target=lambda: done.append(texts(engine, adapter_of(engine))))
    with engine.runtime.lock:
        visitor.start()
        visitor.join(timeout=0.3)
        assert visitor.is_alive()
        assert done == []
    visitor.join()
    assert done == [alone]


# Measuring and saving


@pytest.mark.slow
def test_inspection_measures_the_effect_on_the_prompts_given(engine: Engine) -> None:
    made = engine.generate([bucket("sql", SQL)])
    many = [f"{text} ({number})" for text in SQL for number in range(5)]
    found = engine.inspect(made, [bucket("sql", many)])
    assert found.num_prompts == 16
    assert found.effect is not None
    assert found.effect > 1e-3
    assert found.nearest_tasks == made.nearest_tasks
    assert engine.inspect(made).effect is None
    assert engine.inspect(made, [bucket("sql", SQL, weight=0)]).effect is None
    nothing = engine.inspect(made.with_strength(0), [bucket("sql", [*SQL, "x" * 3000])])
    assert nothing.effect == pytest.approx(0, abs=1e-6)
    assert all(norm == 0 for norms in nothing.relative_norms.values() for norm in norms)


ORDERS = [f"Name the customer.\n\nOrder {i} is from shop {i % 3}." for i in range(5)]
REPLIES = [f"Reply kindly.\n\nComplaint {i} is about shop {i % 3}." for i in range(4)]


@pytest.mark.slow
def test_an_adapter_stands_beside_those_of_other_buckets(engine: Engine) -> None:
    buckets = [bucket("orders", ORDERS), bucket("replies", REPLIES)]
    adapter = engine.generate(buckets)
    found = finish(engine.prove(adapter, buckets))
    assert found is not None
    assert [control.name for control in found.controls] == ["wrong", "mean", "shuffled", "base"]
    assert found.wrong_from == ("replies", "orders")
    assert found.num_prompts == 9
    assert all(control.low <= control.saved <= control.high for control in found.controls)
    # Each saved figure is a difference of losses, whatever the loss.
    for control in found.controls:
        assert control.saved == pytest.approx(control.nll - found.nll, abs=1e-5)
    assert engine.with_checks(adapter, engine.inspect(adapter), found).checks["conditioning"]


@pytest.mark.slow
def test_a_bucket_that_is_alone_is_compared_with_the_example_least_like_it(engine: Engine) -> None:
    buckets = [load_examples()[0].read()]
    found = finish(engine.prove(engine.generate(buckets), buckets))
    assert found is not None
    assert found.wrong_from != (buckets[0].name,)
    assert len(found.wrong_from) == 1


@pytest.mark.slow
def test_a_model_that_another_thread_loads_changes_no_adapter(
    quiet_engine: Engine, tmp_path: Path
) -> None:
    """While transformers builds a model, its type is the default of the whole process."""
    letters = bucket("letters", LETTERS)
    # One that has measured nothing of its base yet.
    engine = Engine.load(replace(quiet_engine.config, cache_dir=tmp_path))

    def made(by: Engine) -> tuple[Any, ...]:
        adapter = by.generate([letters])
        return adapter.sha256, by.inspect(adapter, [letters]), by.thumbprint(adapter)

    expected = made(quiet_engine)
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert made(engine) == expected
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.slow
def test_an_imprint_is_held_against_the_answers_of_its_own_teacher(
    quiet_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[Sequence[Reference]] = []

    def watch(runtime: Runtime, references: Sequence[Reference], *rest: Any) -> None:
        held.append(references)

    monkeypatch.setattr("dnd_engine.synthesis.prove.compare_conditions", watch)
    letters = bucket("letters", LETTERS)
    for adapter in (
        quiet_engine.generate([letters], imprinted=False),
        quiet_engine.generate([letters]),
        quiet_engine.generate([letters], teacher="base"),
    ):
        finish(quiet_engine.prove(adapter, [letters]))
    shared, own, base = (reference.teacher for (reference,) in held)
    # The shared part is a control, and would win on answers of its own.
    assert _same_weights(shared, quiet_engine._loaded.fit_shared())
    assert not _same_weights(shared, own)
    assert base is None


def _same_weights(one: FittedLoRA | None, other: FittedLoRA | None) -> bool:
    ups = ([up for _, up in present(fitted).factors.values()] for fitted in (one, other))
    return all(map(torch.equal, *ups))


def test_a_refined_adapter_is_not_compared_with_others_that_were_not(engine: Engine) -> None:
    adapter = replace(engine.generate([bucket("a", ORDERS)]), provenance={"refined": {}})
    with pytest.raises(AdapterError, match="taught from"):
        finish(engine.prove(adapter, [bucket("a", ORDERS)]))


def test_saving_proves_that_stock_peft_reads_it_back(engine: Engine, tmp_path: Path) -> None:
    made = engine.generate([bucket("sql", SQL)], strength=1.5)
    path = engine.save(made, tmp_path / "a.zip")
    back = engine.read_adapter(path)
    assert back.sha256 == made.sha256
    assert engine.verify(back, back.files()) <= 0.05
    assert texts(engine, back) == texts(engine, made)


def test_an_adapter_of_another_rank_and_fewer_modules_can_be_used(
    engine: Engine, tmp_path: Path
) -> None:
    spec = LoRASpec(r=2, target_modules=("v_proj", "up_proj"))
    layout = LoRALayout.from_config(CONFIG, spec)
    made = make_adapter(layout=layout, base_id=engine.info.base_id)
    back = engine.read_adapter(engine.save(made, tmp_path / "a"))
    assert texts(engine, back)[1] != texts(engine, back)[0]
    assert set(engine.inspect(back, [bucket("sql", SQL)]).relative_norms) == {"v_proj", "up_proj"}


def test_verifying_leaves_the_base_as_it_was(engine: Engine) -> None:
    made = make_adapter(base_id=engine.info.base_id)
    before = texts(engine, made)
    engine.verify(made, made.files())
    assert texts(engine, made) == before
    names = [name for name, _ in engine.base.model.named_modules() if "lora" in name]
    assert names == []


def test_warming_up_spares_the_first_order_what_is_made_once(config: EngineConfig) -> None:
    fresh = Engine.load(config)
    fresh.warm_up()
    wrapped = fresh._verifier._stock_peft._model
    assert wrapped is not None
    adapter = fresh.generate([bucket("sql", SQL)])
    fresh.verify(adapter, adapter.files())
    assert fresh._verifier._stock_peft._model is wrapped


def without_a_key(weights: bytes) -> bytes:
    state = load(weights)
    del state[sorted(state)[3]]
    return save(state)


def with_a_bit_changed(weights: bytes) -> bytes:
    return weights[:-1] + bytes([weights[-1] ^ 1])


def with_a_key_misspelt(weights: bytes) -> bytes:
    return save(
        {k.replace("layers.1.mlp.up", "layers.7.mlp.up"): v for k, v in load(weights).items()}
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            with_a_bit_changed,
            r"verify failed: 1 tensors differ after reload \(.*lora_.*\)\. Nothin",
        ),
        (without_a_key, r"1 keys missing or unexpected after reload \(.*lora_.*\)\. Nothing was s"),
        (with_a_key_misspelt, r"4 keys missing or unexpected after reload \(.*lora_.*\)\. Nothing"),
    ],
)
def test_what_comes_back_different_is_not_saved(
    engine: Engine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[bytes], bytes],
    message: str,
) -> None:
    made = make_adapter(base_id=engine.info.base_id)
    engine.verify(made, made.files())  # what a sound one leaves behind must not stand in for it
    written = made.files()
    written["adapter_model.safetensors"] = damage(made.weights)
    monkeypatch.setattr(type(made), "files", lambda adapter: written)
    with pytest.raises(VerificationError, match=message):
        engine.save(made, tmp_path / "a.zip")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ('"lora_alpha": 32', r"reloaded layers scale by 8, expected 2\. Nothing was saved\."),
        ('"alpha_pattern": {"v_proj": 9}', r"layers scale by 2\.25, expected 2\. Nothing"),
    ],
)
def test_a_weak_adapter_of_another_scale_is_not_saved(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str, message: str
) -> None:
    """All tensors are right, and too weak to change the logits much."""
    made = make_adapter(base_id=engine.info.base_id).with_strength(0.01)
    written = made.files()
    config = json.loads(written["adapter_config.json"]) | json.loads(f"{{{entry}}}")
    written["adapter_config.json"] = json.dumps(config).encode()
    monkeypatch.setattr(type(made), "files", lambda adapter: written)
    with pytest.raises(VerificationError, match=message):
        engine.save(made, tmp_path / "a.zip")
    assert list(tmp_path.iterdir()) == []


# Imprinting

LETTERS = [f"Name the letter.\n\n{a}{b}" for a in "abcdef" for b in "wxyz"]
"""Inputs so much alike that a fit to some predicts the others, even on a random base."""


@pytest.mark.slow
def test_an_imprint_is_not_compared_with_an_adapter_that_lacks_one(quiet_engine: Engine) -> None:
    """It would seem to depend on its prompts, where it depends on being imprinted."""
    buckets = [bucket("letters", LETTERS), bucket("plain", ["Reply kindly to a guest."] * 4)]
    adapter = quiet_engine.generate(buckets)
    assert adapter.is_imprinted
    found = present(finish(quiet_engine.prove(adapter, buckets)))
    assert [control.name for control in found.controls] == ["mean", "shuffled", "base"]
    assert found.wrong_from == ()


@pytest.mark.slow
def test_what_is_generated_is_imprinted_where_prompts_have_an_instruction(
    quiet_engine: Engine,
) -> None:
    plain = quiet_engine.generate([bucket("letters", LETTERS)], imprinted=False)
    made = quiet_engine.generate([bucket("letters", LETTERS)], strength=0.5)
    assert made.is_imprinted
    assert not plain.is_imprinted
    assert not made.not_imprinted
    assert made.strength == 0.5
    assert made.r == ImprintConfig().r
    assert made.layout.spec.target_modules == ("down_proj",)
    found = Imprinting.from_json(made.provenance["imprint"])
    assert found.config == ImprintConfig()
    assert found.from_sha256 == plain.sha256
    assert (found.num_prompts, len(found.left_out)) == (18, 6)
    assert set(found.left_out) < digests(LETTERS) <= Seen.by(made.provenance).read
    assert found.explained > 0
    assert made.seconds["imprint"] > 0
    assert quiet_engine.generate([bucket("letters", LETTERS[::-1])], strength=0.5).sha256 == (
        made.sha256
    )


@pytest.mark.parametrize("first", ["synthesis", "zip"])
def test_an_imprint_lets_those_go_first_who_have_no_adapter_yet(
    quiet_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """The page lets a visitor chat once the zip of what was synthesized is verified."""
    monkeypatch.setattr(turns, "_COURTESY_SECONDS", 120.0)
    letters = bucket("letters", LETTERS[:12])
    plain = quiet_engine.generate([letters], imprinted=False)
    for _ in quiet_engine.measure_ordinary():
        pass  # or else the first imprint does so, without waiting
    begun = threading.Event()

    def imprint() -> None:
        for _ in quiet_engine.imprint(plain, [letters]):
            begun.set()

    imprinting = threading.Thread(target=imprint)

    def compare(*_: object) -> float:
        imprinting.start()
        assert not begun.wait(0.5)
        return 0.0

    monkeypatch.setattr(Verifier, "compare", compare)
    if first == "zip":
        quiet_engine.save(plain, tmp_path / "plain.zip")
    else:
        waiting = quiet_engine.synthesize([letters])
        next(waiting)
        compare()
        finish(waiting)
    assert begun.wait(60)
    imprinting.join(60)


@pytest.mark.slow
def test_an_instruction_typed_once_is_imprinted_like_one_in_every_prompt(
    quiet_engine: Engine, tmp_path: Path
) -> None:
    inputs = [split_prompt(text).bare for text in LETTERS]
    plain = replace(bucket("letters", inputs), instruction="Name the letter.")
    made = quiet_engine.generate([plain])
    assert made.sha256 == quiet_engine.generate([bucket("letters", LETTERS)]).sha256
    assert Seen.by(made.provenance).read >= digests(inputs)
    found = quiet_engine.inspect(made, [plain])
    assert found.agreement is not None
    assert found.agreement.num_prompts == 6
    made.recipe.save(tmp_path / "recipe.json")
    recipe = read_recipe(tmp_path / "recipe.json").with_texts(plain.files)
    assert finish(quiet_engine.regenerate(recipe)).sha256 == made.sha256


@pytest.mark.slow
def test_an_imprint_is_judged_by_prompts_it_was_not_fitted_to(quiet_engine: Engine) -> None:
    """By those left out, by others that it never read, and by its own where there are no others."""
    made = quiet_engine.generate([bucket("letters", LETTERS)])
    found = quiet_engine.inspect(made, [bucket("letters", LETTERS)])
    assert found.agreement is not None
    assert (found.agreement.num_prompts, found.agreement.left_out) == (6, True)
    assert found.verdict is not None
    assert found.verdict.same == found.agreement.same
    assert found.verdict.teaching is not None
    assert found.verdict.teaching.num_prompts == 18
    new = [bucket("new", ["Name the letter.\n\nzz", "Name the letter.\n\nyy"])]
    other = quiet_engine.inspect(made, new).agreement
    assert other is not None
    assert (other.num_prompts, other.left_out) == (2, True)
    left_out = Imprinting.from_json(made.provenance["imprint"]).left_out
    fitted = [text for text in LETTERS if not digests([text]) <= set(left_out)]
    own = quiet_engine.inspect(made, [bucket("letters", fitted)]).agreement
    assert own is not None
    assert (own.num_prompts, own.left_out) == (8, False)
    assert quiet_engine.inspect(made, [bucket("sql", SQL)]).verdict is None


def test_a_few_prompts_are_all_fitted(quiet_engine: Engine) -> None:
    one = bucket("letters", LETTERS[:1])
    made = quiet_engine.generate([one])
    found = Imprinting.from_json(made.provenance["imprint"])
    assert (found.num_prompts, found.left_out) == (1, ())
    agreement = quiet_engine.inspect(made, [one]).agreement
    assert agreement is not None
    assert (agreement.num_prompts, agreement.left_out) == (1, False)


def test_a_teacher_is_half_its_own_and_half_what_all_share(
    quiet_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    resident = quiet_engine._loaded.resident()
    own = torch.randn_like(resident.generator.shared)
    monkeypatch.setattr(resident.generator.shared, "data", torch.ones_like(own))
    torch.testing.assert_close(resident.towards_shared(own, 0.5), (own + 1) / 2)
    assert torch.equal(resident.towards_shared(own, 1), own)
    monkeypatch.setattr(resident.generator.shared, "data", torch.zeros_like(own))
    assert torch.equal(resident.towards_shared(own, 0.5), own), "nothing is shared"


@pytest.mark.slow
@pytest.mark.usefixtures("answers_end")
def test_a_trained_teacher_answers_in_place_of_the_generators_adapters(
    quiet_engine: Engine, tmp_path: Path
) -> None:
    plain = quiet_engine.generator
    taught, letters = tmp_path / "taught", bucket("letters", LETTERS)
    data = {"task": "b", "family": "g", "licence": "MIT", "category": "c"}
    save_teacher(plain, taught, random_tokens(seed=3, size=0.3), {"data": [data]})
    engine = Engine.load(replace(quiet_engine.config, generator=taught))
    assert [row["task"] for row in engine.generator.seen("data")] == ["a", "b"]
    odd = replace(engine.generator, teacher={"data": [{"no": "task"}, ["list"], 3], "variants": 7})
    assert len(odd.seen("data")) == 4, "a stranger's notes never end in a raw exception"
    assert odd.seen("variants") == []
    assert engine.info.generator_sha256 == quiet_engine.info.generator_sha256
    made, without = engine.generate([letters]), quiet_engine.generate([letters])
    assert made.sha256 != without.sha256
    found = made.recipe.imprint
    assert found is not None
    assert (found.trained_teacher, len(found.teacher_sha256)) == (True, 64)
    recipe = made.recipe.with_texts(letters.files)
    assert finish(engine.regenerate(recipe)).sha256 == made.sha256
    with pytest.raises(RecipeError, match=r"needs the teacher with the SHA-256 .* has none\."):
        finish(quiet_engine.regenerate(recipe))
    # Recipes from before the teacher make the same adapters as then, with a refinement, too.
    config = RefineConfig(steps=2, least_prompts=1, held_back_share=0)
    refined = finish(quiet_engine.refine(without, [letters], config))
    for one in (without, refined):
        earlier = one.recipe.with_texts(letters.files)
        assert finish(engine.regenerate(earlier)).sha256 == one.sha256
    # The oldest do not name the setting.
    written = without.recipe.to_json()
    for name in ("trained_teacher", "teacher_sha256"):
        del written["imprint"][name]
    earlier = Recipe.from_json(written).with_texts(letters.files)
    assert finish(engine.regenerate(earlier)).sha256 == without.sha256


@pytest.mark.slow
def test_a_teacher_of_a_higher_rank_imprints_and_forecasts(
    quiet_engine: Engine, tmp_path: Path
) -> None:
    """Rows of zeros change nothing, so it does what the same teacher does at the usual rank."""
    letters, tokens = bucket("letters", LETTERS), random_tokens(seed=3, size=0.3)
    higher = torch.cat([tokens, torch.zeros_like(tokens[:, :2])], dim=1)
    made, forecasts = [], []
    for name, teacher in (("usual", tokens), ("higher", higher)):
        save_teacher(quiet_engine.generator, tmp_path / name, teacher, {})
        engine = Engine.load(replace(quiet_engine.config, generator=tmp_path / name))
        made.append(engine.generate([letters]))
        forecasts.append(present(engine.forecast(replace(letters, weight=0.0))))
    assert made[1].recipe.imprint != made[0].recipe.imprint, "another teacher"
    torch.testing.assert_close(made[1].tokens, made[0].tokens)
    assert forecasts[1].sureness == pytest.approx(forecasts[0].sureness, rel=1e-3)
    assert forecasts[1].num_prompts == 8
    assert quiet_engine.forecast(letters) is None, "it has no teacher"
    plain = bucket("plain", ["no instruction", "none here"])
    assert engine.forecast(plain) is None


@pytest.mark.slow
def test_one_lora_for_all_tasks_is_its_own_teacher(
    quiet_engine: Engine, tiny_folder: Path, tmp_path: Path
) -> None:
    letters = bucket("letters", LETTERS)
    training = {**quiet_engine.generator.config.training, "kind": "multi_task_lora"}
    folder = write_generator(tiny_folder, tmp_path / "lora", size=0, training=training)
    engine = Engine.load(replace(quiet_engine.config, generator=folder))
    assert engine.info.teacher_sha256 == engine.info.generator_sha256
    taught = present(engine.generator.load_teacher())
    assert torch.equal(taught, engine.generate([letters], imprinted=False).tokens)
    assert present(engine.forecast(letters)).num_prompts == 8
    start = engine.generate([letters], imprinted=False)
    made = finish(engine.imprint(start, [letters]))
    # As before it counted as a teacher: half of the way from itself to itself.
    earlier = finish(engine.imprint(start, [letters], ImprintConfig(trained_teacher=False)))
    assert torch.equal(made.tokens, earlier.tokens)
    assert present(made.recipe.imprint).teacher_sha256 == engine.info.generator_sha256
    save_teacher(engine.generator, tmp_path / "further", random_tokens(seed=3, size=0.3), {})
    further = Engine.load(replace(quiet_engine.config, generator=tmp_path / "further"))
    assert further.info.teacher_sha256 not in ("", further.info.generator_sha256)


@pytest.mark.usefixtures("answers_end")
def test_a_trained_teacher_also_answers_what_teach_asks(
    quiet_engine: Engine, tmp_path: Path
) -> None:
    taught, letters = tmp_path / "taught", bucket("letters", LETTERS * 2)
    save_teacher(quiet_engine.generator, taught, random_tokens(seed=3, size=0.3), {})
    engine = Engine.load(replace(quiet_engine.config, generator=taught))
    start = engine.generate([letters], imprinted=False)
    config = RefineConfig(steps=1, least_prompts=1, held_back_share=0)
    made = finish(engine.refine(start, [letters], config))
    assert made.recipe.refined is not None
    assert made.recipe.refined.teacher_sha256 == engine.generator.teacher_sha256
    recipe = made.recipe.with_texts(letters.files)
    assert finish(engine.regenerate(recipe)).sha256 == made.sha256
    with pytest.raises(RecipeError, match=r"needs the teacher with the SHA-256"):
        finish(quiet_engine.regenerate(recipe))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"tokens": torch.zeros(3, 4, 32)}, r"holds no teacher .* found \(3, 4, 32\)\."),
        ({"tokens": torch.zeros(64, 3, 32)}, r"\(64, 4 or more, 32\), found \(64, 3, 32\)\."),
        ({"tokens": torch.zeros(64, 33, 32)}, r"\(64, 4 or more, 32\), found \(64, 33, 32\)\."),
        ({"tokens": torch.zeros(64, 4)}, r"\(64, 4 or more, 32\), found \(64, 4\)\."),
        ({"other": torch.zeros(64, 4, 32)}, r"holds no teacher .* found other\."),
        ({"tokens": torch.full((64, 4, 32), math.nan)}, r"expected finite `tokens`"),
        (
            {"tokens": torch.zeros(64, 4, 32, dtype=torch.float8_e4m3fn)},
            r"in BF16, F16, F32 of .* found \(64, 4, 32\) in F8_E4M3\.",
        ),
        (None, r"is damaged"),
    ],
)
def test_a_damaged_teacher_is_refused_when_the_engine_loads(
    quiet_engine: Engine, tmp_path: Path, tensors: dict[str, torch.Tensor] | None, message: str
) -> None:
    plain, taught = quiet_engine.generator, tmp_path / "taught"
    save_teacher(plain, taught, random_tokens(), {})
    file = taught / "teacher.safetensors"
    if tensors is None:
        file.write_bytes(b"no weights")
    else:
        save_file(tensors, file)
    with pytest.raises(GeneratorError, match=message):
        Engine.load(replace(quiet_engine.config, generator=taught))


@pytest.mark.slow
def test_an_imprint_of_an_earlier_version_comes_again_from_its_recipe(
    quiet_engine: Engine,
) -> None:
    """It had one first layer, no prompts left out, no limit a bucket, and its own teacher."""
    buckets = [
        bucket("letters", LETTERS),
        bucket("others", [text.replace("Name", "Spell") for text in LETTERS]),
    ]
    start = quiet_engine.generate(buckets, imprinted=False)
    earlier = ImprintConfig(
        left_out_share=0, own_share=1, max_bucket_prompts=1024, mix_first_layer_share=0.4
    )
    made = finish(quiet_engine.imprint(start, buckets, earlier))
    written = made.recipe.to_json()
    for name in (
        "left_out_share",
        "left_out",
        "own_share",
        "max_bucket_prompts",
        "mix_first_layer_share",
    ):
        del written["imprint"][name]
    recipe = Recipe.from_json(written).with_texts([*buckets[0].files, *buckets[1].files])
    assert finish(quiet_engine.regenerate(recipe)).sha256 == made.sha256


def test_an_adapter_is_checked_for_what_it_does_to_ordinary_messages(engine: Engine) -> None:
    made = engine.generate([bucket("sql", SQL)])
    found = engine.inspect(made).ordinary
    assert found is not None
    assert found.num_messages == 64
    silent = engine.inspect(made.with_strength(0)).ordinary
    assert silent is not None
    assert silent.share == 1


def test_an_imprinted_adapter_is_saved_and_read_back_like_any_other(
    quiet_engine: Engine, tmp_path: Path
) -> None:
    made = quiet_engine.generate([bucket("letters", LETTERS)])
    quiet_engine.save(made, tmp_path / "made.zip")
    again = quiet_engine.read_adapter(tmp_path / "made.zip")
    assert again.sha256 == made.sha256
    assert again.is_imprinted
    assert "instruction imprinted in closed form" in made.files()["README.md"].decode()


@pytest.mark.slow
def test_inspect_compares_the_prompts_it_is_given_with_the_training_tasks(
    engine: Engine, config: EngineConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The adapter's file knows only the tasks nearest to the prompts that it was made from."""
    made = engine.generate([bucket("sql", SQL)], imprinted=False).save(tmp_path / "made.zip")
    (others := tmp_path / "tone.txt").write_text("\n".join(TONE), encoding="utf-8")
    monkeypatch.setattr("dnd_engine.cli.adapters.load_engine", lambda config: engine)
    command = ["inspect", str(made), "--base", config.base]

    def nearest(*prompts: str) -> Any:
        shown = CliRunner().invoke(app, [*command, *prompts, "--json"])
        assert shown.exit_code == 0, shown.output
        return json.loads(shown.stdout)["nearest_tasks"]

    here = engine.rank_tasks([bucket("tone", TONE)])[:5]
    assert nearest("--prompts", str(others)) == [asdict(task) for task in here]
    assert nearest() == engine.read_adapter(made).provenance["nearest_tasks"]
    assert nearest() != nearest("--prompts", str(others))
    words = CliRunner().invoke(app, [*command, "--prompts", str(others)]).stdout
    assert "Training tasks nearest to the prompts (cosine):\n" in words
    assert f"\n  {here[0].slug} {here[0].similarity:.2f}\n" in words


def test_a_recipe_imprints_again(quiet_engine: Engine, tmp_path: Path) -> None:
    letters = bucket("letters", LETTERS)
    made = quiet_engine.generate([letters], seed=3)
    made.recipe.with_texts(letters.files).save(tmp_path / "recipe.json")
    recipe = read_recipe(tmp_path / "recipe.json")
    assert recipe.imprint is not None
    assert recipe.imprint.seed == 3
    assert finish(quiet_engine.regenerate(recipe)).sha256 == made.sha256


@pytest.mark.slow
def test_the_base_can_teach_instead_of_the_generator(quiet_engine: Engine, tmp_path: Path) -> None:
    """Then the generator decides nothing of the weights, and the recipe remembers who taught."""
    letters = bucket("letters", LETTERS)
    made = quiet_engine.generate([letters], teacher="base")
    ours = quiet_engine.generate([letters])
    assert made.sha256 != ours.sha256
    start = quiet_engine.generate([bucket("other", SQL)], imprinted=False)
    assert finish(quiet_engine.imprint(start, [letters], teacher="base")).sha256 == made.sha256
    made.recipe.with_texts(letters.files).save(tmp_path / "recipe.json")
    recipe = read_recipe(tmp_path / "recipe.json")
    assert recipe.imprint is not None
    assert recipe.imprint.teacher == "base"
    assert finish(quiet_engine.regenerate(recipe)).sha256 == made.sha256


def test_where_nothing_can_be_imprinted_the_adapter_says_why(quiet_engine: Engine) -> None:
    made = quiet_engine.generate([bucket("sql", SQL)])
    assert not made.is_imprinted
    assert made.not_imprinted.startswith("no prompt has an instruction and an input. Write")
    with pytest.raises(ImprintError, match="no prompt has an instruction and an input"):
        finish(quiet_engine.imprint(made, [bucket("sql", SQL)]))
    with pytest.raises(ImprintError, match="no prompt has"):
        finish(quiet_engine.imprint(made, [bucket("letters", LETTERS, -1), bucket("sql", SQL)]))


@pytest.mark.slow
def test_each_bucket_that_an_imprint_left_out_is_named_with_its_reason(
    quiet_engine: Engine,
) -> None:
    letters = bucket("letters", LETTERS)
    long = bucket("long", [f"Say X.\n\n{'word ' * 400}{number}" for number in range(3)])
    others = [bucket("sql", SQL), bucket("less", LETTERS, -1), long]
    start = quiet_engine.generate([letters], imprinted=False)
    made = finish(quiet_engine.imprint(start, [letters, *others]))
    assert made.skipped_buckets == (
        "Bucket `sql` was not imprinted: none of its prompts has an instruction.",
        "Bucket `less` was not imprinted: its weight is negative, and an instruction has no "
        "opposite.",
        "Bucket `long` was not imprinted: its prompts are too long (the limit is about 288 words), "
        "or the model answers nothing to them.",
    )
    assert finish(quiet_engine.imprint(made, [letters])).skipped_buckets == ()
    partly = bucket("partly", [*LETTERS, f"Say X.\n\n{'word ' * 400}"])
    assert finish(quiet_engine.imprint(start, [partly])).skipped_buckets == (
        "1 prompt of bucket `partly` was too long to be imprinted; the limit is about 288 words.",
    )


def test_what_was_trained_is_not_imprinted_over(quiet_engine: Engine) -> None:
    letters = bucket("letters", LETTERS)
    made = replace(quiet_engine.generate([letters], imprinted=False), provenance={"refined": {}})
    with pytest.raises(ImprintError, match="would replace what it learnt"):
        finish(quiet_engine.imprint(made, [letters]))


def test_an_imprint_tells_its_stages_and_leaves_the_adapter(quiet_engine: Engine) -> None:
    letters = bucket("letters", LETTERS)
    start = quiet_engine.generate([letters], imprinted=False)
    before, seen = start.sha256, list[Progress]()
    made = finish(quiet_engine.imprint(start, [letters]), seen.append)
    assert [p.stage for p in seen] == ["ask", "ask", "imprint", "imprint"]
    assert seen[-1].fraction == 1
    assert start.sha256 == before != made.sha256
    assert Seen.by(made.provenance).read >= digests(LETTERS)


def test_refining_moves_every_layer_of_an_imprint(quiet_engine: Engine) -> None:
    """The layers that an imprint leaves at zero, A and B alike, would never leave it."""
    start = quiet_engine.generate([bucket("letters", LETTERS)])
    config = RefineConfig(steps=2, batch_size=4, labels=True, learning_rate=1e-2)
    made = finish(quiet_engine.refine(start, [labelled(LETTERS)], config))
    for key, weight in made.state.items():
        if ".lora_B." in key:
            assert not weight.equal(start.state[key])


# Refining

WORDS = [f"Name the letter.\n\n{letter * 3}" for letter in "abcdefghij"]


def labelled(texts: Sequence[str]) -> Bucket:
    made = bucket("letters", texts)
    prompts = tuple(replace(p, label=p.text[-1]) for p in made.prompts)
    return replace(made, files=(replace(made.files[0], prompts=prompts),))


def test_refining_trains_a_copy_and_says_so_in_its_provenance(engine: Engine) -> None:
    start = engine.generate([bucket("letters", WORDS)], strength=0.5)
    before = start.sha256
    config = RefineConfig(steps=4, batch_size=4, labels=True, learning_rate=1e-2)
    steps = engine.refine(start, [labelled(WORDS)], config)
    seen: list[Progress] = []
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as stop:
            made = stop.value
            break
    assert [p.stage for p in seen] == ["refine"] * 4
    assert [p.fraction for p in seen] == [0.25, 0.5, 0.75, 1]
    assert seen[0].loss is not None
    assert seen[0].seconds_left is not None
    assert "s left; on 2 prompts held back 0." in in_english(seen[0])
    assert not seen[0].by_itself
    assert start.sha256 == before
    assert made.sha256 != before
    assert made.strength == 1
    assert made.name == "letters-taught"
    refined = made.provenance["refined"]
    assert Refinement(**{**refined, "buckets": (), "folded": ()}).config == config
    assert (refined["from_sha256"], refined["num_prompts"]) == (before, 8)
    assert (refined["score_before"], refined["score"]) == (seen[0].score_before, seen[-1].score)
    assert (refined["folded"], made.provenance["folded"]) == ([0.5], [])
    assert "Name the letter" not in str(made.provenance)
    assert made.seconds["refine"] > 0
    again = finish(engine.refine(made, [labelled(WORDS)], config))
    assert again.name == "letters-taught"
    assert again.provenance["refined"]["from_sha256"] == made.sha256
    assert again.provenance["refined_before"] == [refined]


def test_other_weights_do_not_keep_what_was_measured_on_the_first(quiet_engine: Engine) -> None:
    """Or the card of what was refined or imprinted states results of what it began from."""
    words = [bucket("letters", WORDS)]
    start = quiet_engine.generate(words, imprinted=False)
    start = quiet_engine.with_checks(start, quiet_engine.inspect(start, words))
    start = replace(start, not_imprinted="why", kept_energy=0.9)
    assert start.checks
    config = RefineConfig(steps=1, batch_size=4)
    answers = {prompt.text: prompt.label or "" for prompt in labelled(WORDS).prompts}
    imprinted = finish(quiet_engine.imprint(start, words))
    for made in (
        finish(quiet_engine.refine(start, [labelled(WORDS)], replace(config, labels=True))),
        finish(quiet_engine.teach(start, answers, config=config)),
        imprinted,
    ):
        assert (made.checks, made.kept_energy) == ({}, None)
        assert "## Checks" not in made.files()["README.md"].decode()
    assert not imprinted.not_imprinted


def test_seconds_of_teaching_add_up_and_those_of_an_imprint_are_its_own(
    quiet_engine: Engine,
) -> None:
    """Teaching goes on from what was taught; an imprint starts afresh."""
    words = [bucket("letters", WORDS)]
    steps = ("total", "imprint", "refine", "train")
    start = quiet_engine.generate(words, imprinted=False)
    start = replace(start, seconds=dict.fromkeys(steps, 1000.0))
    config = RefineConfig(steps=1, batch_size=4, labels=True)
    answers = {prompt.text: prompt.label or "" for prompt in labelled(WORDS).prompts}
    refined = finish(quiet_engine.refine(start, [labelled(WORDS)], config))
    taught = finish(quiet_engine.teach(refined, answers, config=config))
    for step in ("refine", "train"):
        assert 1000 < taught.seconds[step] < 2000
    assert taught.making_seconds == pytest.approx(sum(taught.seconds[step] for step in steps))
    imprinted = finish(quiet_engine.imprint(start, words))
    assert imprinted.seconds["imprint"] < 1000
    assert imprinted.seconds["total"] == 1000


@pytest.mark.slow
def test_labels_are_learnt_from_prompts_without_an_instruction(quiet_engine: Engine) -> None:
    """They are their own input, and a person may correct what the model answers to them."""
    plain = labelled(WORDS)
    prompts = tuple(replace(p, text=p.text.rpartition("\n")[2]) for p in plain.prompts)
    plain = replace(plain, files=(replace(plain.files[0], prompts=prompts),))
    assert plain.num_without_instruction == len(WORDS)
    start = quiet_engine.generate([plain], imprinted=False)
    config = RefineConfig(steps=20, batch_size=4, labels=True, learning_rate=1e-2)
    refined = finish(quiet_engine.refine(start, [plain], config)).provenance["refined"]
    assert refined["num_prompts"] + refined["num_held_back"] == len(WORDS)
    assert refined["score"] is not None
    proposed = finish(quiet_engine.propose([plain]))
    assert proposed == {prompt.text: prompt.label for prompt in prompts}
    taught = finish(quiet_engine.teach(start, proposed, [plain], config)).provenance["trained"]
    assert taught["num_examples"] == refined["num_prompts"]
    with pytest.raises(TrainingError, match=r"got 0 of 10 \(10 without a blank line\)"):
        next(quiet_engine.refine(start, [plain], replace(config, labels=False)))


def test_the_score_of_teaching_a_mix_is_kept_by_bucket(quiet_engine: Engine) -> None:
    buckets = [
        replace(labelled(WORDS[:5]), name="first"),
        replace(labelled(WORDS[5:]), name="second"),
    ]
    start = quiet_engine.generate(buckets, imprinted=False)
    config = RefineConfig(steps=1, batch_size=4, labels=True)
    answers = {prompt.text: prompt.label or "" for each in buckets for prompt in each.prompts}
    refined = finish(quiet_engine.refine(start, buckets, config)).provenance["refined"]
    taught = finish(quiet_engine.teach(start, answers, buckets, config)).provenance["trained"]
    for found in (refined, taught):
        parts = found["by_bucket"]
        assert [part["bucket"] for part in parts] == ["first", "second"]
        assert sum(part["num_held_back"] for part in parts) == found["num_held_back"] == 2
        scored = [part for part in parts if part["num_held_back"]]
        total = sum(part["score"] * part["num_held_back"] for part in scored)
        assert total / 2 == pytest.approx(found["score"])
    one = finish(quiet_engine.refine(start, buckets[:1], replace(config, least_prompts=2)))
    assert "by_bucket" not in one.provenance["refined"]


@pytest.mark.slow
def test_teaching_an_imprint_holds_back_prompts_it_was_not_fitted_to(
    quiet_engine: Engine,
) -> None:
    """Or the score before would be one on prompts that the imprint has learnt."""
    letters = [labelled(LETTERS)]
    start = quiet_engine.generate(letters)
    left_out = set(Imprinting.from_json(start.provenance["imprint"]).left_out)
    config = RefineConfig(steps=5, batch_size=4, labels=True)
    answers = {prompt.text: prompt.label or "" for prompt in letters[0].prompts}
    taught = finish(quiet_engine.teach(start, answers, config=config))
    learnt = Seen.by(taught.provenance).learnt
    assert taught.provenance["trained"]["num_held_back"] == len(left_out) == 6
    assert learnt == with_inputs(t for t in LETTERS if digest(t) not in left_out)
    refined = finish(quiet_engine.refine(start, letters, config))
    assert Seen.by(refined.provenance).learnt == learnt
    assert finish(quiet_engine.regenerate(refined.recipe.with_texts(letters[0].files))).sha256 == (
        refined.sha256
    )
    # A recipe of an earlier version makes what it made.
    earlier = finish(quiet_engine.refine(start, letters, replace(config, hold_back_unfitted=False)))
    assert Seen.by(earlier.provenance).learnt != learnt
    recipe = earlier.recipe.to_json()
    del recipe["refined"]["hold_back_unfitted"]
    again = Recipe.from_json(recipe).with_texts(letters[0].files)
    assert finish(quiet_engine.regenerate(again)).sha256 == earlier.sha256


@pytest.mark.slow
def test_a_recipe_that_precedes_drawing_by_bucket_makes_what_it_made(quiet_engine: Engine) -> None:
    """Also where it left labelled prompts without an instruction out."""
    first, second = labelled(WORDS[:8]), replace(labelled(WORDS[8:]), name="second")
    plain = tuple(replace(p, text=p.text.rpartition("\n")[2]) for p in second.prompts[:1])
    second = replace(second, files=(replace(second.files[0], prompts=plain + second.prompts[1:]),))
    start = quiet_engine.generate([first, second], imprinted=False)
    config = RefineConfig(steps=9, batch_size=4, labels=True)
    now = finish(quiet_engine.refine(start, [first, second], config))
    made = now.provenance["refined"]
    assert made["num_prompts"] + made["num_held_back"] == len(WORDS)
    config = replace(config, each_bucket=False, learn_whole=False)
    earlier = finish(quiet_engine.refine(start, [first, second], config))
    made = earlier.provenance["refined"]
    assert made["num_prompts"] + made["num_held_back"] == len(WORDS) - 1
    recipe = earlier.recipe.to_json()
    del recipe["refined"]["each_bucket"], recipe["refined"]["learn_whole"]
    again = Recipe.from_json(recipe).with_texts((*first.files, *second.files))
    assert finish(quiet_engine.regenerate(again)).sha256 == earlier.sha256


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        (["no"] * 3, "“no” to 3 of 3 prompts"),
        (["a b", "c", "a b"], "“a b” to 2 of 3 prompts, 2 different answers"),
        (["x" * 50], f"“{'x' * 40}…” to 1 of 1 prompts"),
    ],
)
def test_what_the_teacher_answers_is_told(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, answers: list[str], told: str
) -> None:
    asked = RefineStep("ask", 3, 3, answers=tuple(answers))
    steps = (one for one in [asked])
    monkeypatch.setattr("dnd_engine.synthesis.learn.refine", lambda *_, **_more: steps)
    start = engine.generate([bucket("letters", WORDS)])
    first = next(engine.refine(start, [bucket("letters", WORDS)]))
    assert in_english(first) == told
    assert first.by_itself


def test_the_teacher_s_answers_are_counted_while_it_is_asked(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = (RefineStep("ask", done, 20, answers=("no",) * done) for done in (0, 16))
    monkeypatch.setattr("dnd_engine.synthesis.learn.refine", lambda *_, **_more: steps)
    start = engine.generate([bucket("letters", WORDS)])
    progress = engine.refine(start, [bucket("letters", WORDS)])
    asking = next(progress)
    assert in_english(asking) == "Asking the teacher: 0 of 20 prompts"
    assert (next(progress).done, asking.total) == (16, 20)


def test_a_refined_adapter_remembers_all_that_it_met(engine: Engine) -> None:
    """Also what it was refined on before, with labels or without."""
    config = RefineConfig(steps=1, batch_size=4, labels=True, least_prompts=3)
    start = engine.generate([bucket("letters", WORDS[:2])])
    for part in (WORDS[2:5], WORDS[5:8]):
        start = finish(engine.refine(start, [labelled(part)], config))
    seen = Seen.by(start.provenance)
    assert (seen.read, seen.learnt) == (with_inputs(WORDS[:2]), with_inputs(WORDS[2:8]))


def test_a_training_that_is_enough_keeps_what_it_learnt_and_its_recipe_makes_the_same(
    engine: Engine,
) -> None:
    files = [labelled(WORDS)]
    start = engine.generate(files, imprinted=False)
    config = RefineConfig(steps=6, batch_size=4, labels=True, learning_rate=1e-2)
    said = iter([False, True])
    made = finish(engine.refine(start, files, config, enough=lambda: next(said)))
    assert made.provenance["refined"]["stop_after"] == 2
    assert made.sha256 != start.sha256
    recipe = made.recipe.with_texts(file for bucket in files for file in bucket.files)
    assert finish(engine.regenerate(recipe)).sha256 == made.sha256


def test_answers_of_a_person_are_learnt_and_never_scored_after(engine: Engine) -> None:
    start = engine.generate([bucket("letters", WORDS)])
    answers = {prompt.text: f" {prompt.label} " for prompt in labelled(WORDS).prompts}
    config = RefineConfig(steps=4, batch_size=4, learning_rate=1e-2)
    made = finish(engine.teach(start, answers, config=config))
    trained = made.provenance["trained"]
    assert (trained["answers"], trained["num_held_back"], trained["steps"]) == ("person", 2, 4)
    assert made.name == "letters-taught"
    assert made.was_trained
    refined = finish(engine.refine(made, [labelled(WORDS)], replace(config, labels=True)))
    assert refined.provenance["trained"]["refined_later"] is True
    learnt = Seen.by(made.provenance).learnt
    assert len(learnt & digests(answers)) == trained["num_examples"] == 8
    assert learnt < with_inputs(answers)
    again = finish(engine.teach(made, answers, config=config))
    assert again.name == "letters-taught"
    with pytest.raises(RecipeError, match="trained on answers"):
        _ = made.recipe


def test_a_teacher_elsewhere_answers_while_the_training_goes_on(engine: Engine) -> None:
    start = engine.generate([bucket("letters", WORDS)])
    config = RefineConfig(steps=7, batch_size=4, learning_rate=1e-2)
    with running_chat(lambda server, body: server.answer(body, "x")) as server:
        teacher = Endpoint(url=server.url, model="wise")
        made = finish(engine.teach(start, teacher, [bucket("letters", WORDS)], config))
    trained = made.provenance["trained"]
    assert (trained["answers"], trained["teacher"]) == ("teacher", "wise")
    asked = sorted(body["messages"][-1]["content"] for body in server.asked)
    assert asked == sorted(p.text for p in bucket("letters", WORDS).prompts)
    assert server.url not in str(made.provenance)


@pytest.mark.slow
def test_what_is_learnt_of_a_larger_base_are_its_answers(engine: Engine, tmp_path: Path) -> None:
    """A server that gives the same answers teaches the same adapter, bit by bit."""
    larger = LocalTeacher(base=str(save_larger(tmp_path / "larger")), device="cpu")
    words = [bucket("letters", [f"Name it.\n\n{a}{b}" for a in "abcdef" for b in "klmn"])]
    start = engine.generate(words, imprinted=False)
    # With all questions first, it does not matter how many are answered at a time.
    config = RefineConfig(steps=4, batch_size=4, learning_rate=1e-2, ask_every=0)
    made = finish(engine.teach(start, larger, words, config))
    trained = made.provenance["trained"]
    assert (trained["answers"], trained["teacher"]) == ("teacher", "larger")
    assert trained["teacher_sha256"] == sha256_of(tmp_path / "larger" / "model.safetensors")
    assert str(tmp_path) not in str(made.provenance)
    assert "the answers of larger" in made.files()["README.md"].decode()
    with pytest.raises(RecipeError, match="trained on answers"):
        _ = made.recipe

    chosen = choose([Example(p.text, "") for p in words[0].prompts], engine.base, config)
    given = [text for part in larger.answers(chosen) for text in part]
    said = {e.prompt: text or "" for e, text in zip(chosen, given, strict=True)}
    assert len(set(said.values())) > 5

    def same(server: Handler, body: dict[str, Any]) -> None:
        server.answer(body, said[body["messages"][-1]["content"]])

    with running_chat(same) as server:
        teacher = Endpoint(url=server.url, model="wise")
        assert finish(engine.teach(start, teacher, words, config)).sha256 == made.sha256
    with running_chat(lambda server, body: server.answer(body, "x")) as server:
        teacher = Endpoint(url=server.url, model="wise")
        assert finish(engine.teach(start, teacher, words, config)).sha256 != made.sha256


def test_proposed_answers_are_labels_where_there_are_some(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def answers(_runtime: Runtime, examples: Sequence[Example], *_: Any) -> list[str | None]:
        asked.extend(example.prompt for example in examples)
        return ["a guess", *[None] * (len(examples) - 1)]

    monkeypatch.setattr("dnd_engine.training.finetune.refine._greedy_answers", answers)
    known, unknown = labelled(WORDS[:4]), bucket("others", WORDS[4:7])
    found = finish(engine.propose([known, unknown]))
    assert {p.text: found[p.text] for p in known.prompts} == {
        p.text: p.label for p in known.prompts
    }
    assert sorted(asked) == sorted(p.text for p in unknown.prompts)
    assert sorted(found[text] for text in asked) == ["", "", "a guess"]
    assert len(finish(engine.propose([known, unknown], limit=2))) == 2
    with pytest.raises(ConfigError, match="`limit` must be between 1 and 1000, got 0"):
        finish(engine.propose([known, unknown], limit=0))


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_a_seed_that_no_recipe_could_hold_is_refused(engine: Engine, seed: int) -> None:
    with pytest.raises(ConfigError, match="`seed` must be between 0 and 2147483647"):
        engine.generate([bucket("letters", WORDS)], seed=seed, imprinted=False)
    with pytest.raises(ConfigError, match="`seed` must be between 0"):
        Sampling(seed=seed)


@pytest.mark.parametrize("seed", [1.5, np.int64(3), "1", None])
def test_a_seed_that_is_no_whole_number_is_refused(seed: object) -> None:
    with pytest.raises(ConfigError, match=f"a whole number, got {re.escape(repr(seed))}"):
        check_seed(seed)


def test_an_unknown_teacher_is_refused() -> None:
    with pytest.raises(ConfigError, match="`teacher` must be generator or base, got 'other'"):
        check_teacher("other")


def test_a_strength_of_numpy_and_a_suffix_in_capitals_can_be_saved(
    engine: Engine, tmp_path: Path
) -> None:
    made = engine.generate([bucket("letters", WORDS)], strength=np.float64(0.5), imprinted=False)
    assert type(made.strength) is float
    engine.save(made, tmp_path / "made.ZIP")
    assert engine.read_adapter(tmp_path / "made.ZIP").sha256 == made.sha256


def test_refining_with_labels_needs_labelled_prompts(engine: Engine) -> None:
    start = engine.generate([bucket("letters", WORDS)])
    config = RefineConfig(labels=True)
    with pytest.raises(TrainingError, match=r"got 0 of 10 \(10 without a label\)"):
        next(engine.refine(start, [bucket("letters", WORDS)], config))


def test_a_bucket_that_counts_against_the_adapter_is_not_learnt(engine: Engine) -> None:
    start = engine.generate([bucket("letters", WORDS)])
    less = replace(labelled(WORDS), weight=-1.0, name="less")
    few = replace(labelled(WORDS[:3]), name="few")
    with pytest.raises(TrainingError, match="got 3 of 3"):
        next(engine.refine(start, [few, less], RefineConfig(labels=True)))


# Recipes


def written(tmp_path: Path, name: str, texts: Sequence[str]) -> Bucket:
    """A bucket of a real file of labelled prompts."""
    path = tmp_path / f"{name}.jsonl"
    lines = (json.dumps({"prompt": text, "label": text[-1]}) for text in texts)
    path.write_text("\n".join(lines), encoding="utf-8")
    return Bucket(name, 1.0, (read_prompt_file(path),))


@pytest.mark.parametrize("mix", ["pool", "sum"])
def test_a_recipe_makes_the_same_files_again(engine: Engine, tmp_path: Path, mix: Mix) -> None:
    buckets = [written(tmp_path, "sql", SQL), replace(written(tmp_path, "tone", TONE), weight=0.5)]
    made = engine.generate(buckets, mix=mix, strength=0.7, seed=5)
    recipe = read_recipe(made.recipe.save(tmp_path / "recipe.json"))
    (tmp_path / "sql.jsonl").rename(tmp_path / "renamed")
    again = finish(engine.regenerate(recipe, [tmp_path]))
    assert again.files() == made.files()
    assert again.recipe.sha256 == recipe.sha256 == made.sha256
    with_texts = recipe.with_texts(file for one in buckets for file in one.files)
    assert finish(engine.regenerate(with_texts)).sha256 == made.sha256


def test_a_recipe_goes_through_refinements_files_and_strengths(
    engine: Engine, tmp_path: Path
) -> None:
    """Strengths that were folded in by writing a file are folded in again, one after another."""
    letters, others = written(tmp_path, "letters", WORDS), written(tmp_path, "tone", TONE)
    config = RefineConfig(steps=2, batch_size=4, labels=True, learning_rate=1e-2)
    made = engine.generate([letters, others], strength=0.7)
    made = engine.read_adapter(made.save(tmp_path / "a.zip")).with_strength(1.3)
    made = finish(engine.refine(made, [letters], config))
    made = finish(engine.refine(made.with_strength(0.9), [letters], replace(config, seed=1)))
    made = engine.read_adapter(made.with_strength(1.1).save(tmp_path / "b.zip")).with_strength(-0.3)
    recipe = made.recipe
    assert [step.folded for step in recipe.refinements] == [(0.7, 1.3), (0.9,)]
    assert (recipe.folded, recipe.strength) == ((1.1,), -0.3)
    again = finish(engine.regenerate(recipe, [tmp_path]))
    assert again.sha256 == made.sha256
    assert again.recipe == recipe


def test_a_recipe_is_refused_by_another_generator_base_and_encoder(
    engine: Engine, tmp_path: Path
) -> None:
    recipe = engine.generate([written(tmp_path, "sql", SQL)]).recipe
    other = "0" * 64
    foreign = replace(recipe, base_sha256=other, encoder_sha256=other, generator_sha256=other)
    with pytest.raises(RecipeError) as refused:
        next(engine.regenerate(foreign, [tmp_path]))
    lines = str(refused.value).splitlines()
    for line, part in zip(lines, ("base", "encoder", "generator"), strict=True):
        assert line.startswith(f"the recipe needs the {part} {getattr(recipe, part)} (SHA-256 0000")
        assert "loaded is" in line


def test_a_recipe_without_its_prompts_is_refused(engine: Engine, tmp_path: Path) -> None:
    recipe = engine.generate([written(tmp_path, "sql", SQL)]).recipe
    with pytest.raises(
        RecipeError, match=r"1 prompt file\(s\) .*\n  `sql\.jsonl` \(6 prompts, SHA"
    ):
        next(engine.regenerate(recipe))


def test_adapters_of_others_have_no_recipe_nor_has_one_that_was_changed(
    engine: Engine, tmp_path: Path
) -> None:
    made = engine.generate([written(tmp_path, "sql", SQL)])
    files = made.files()
    with pytest.raises(RecipeError, match="Adapters of other tools have no recipe"):
        make_adapter().recipe  # noqa: B018  # the access is the test
    state = {key: value * 2 for key, value in load(files["adapter_model.safetensors"]).items()}
    changed = write_files(files | {"adapter_model.safetensors": save(state)}, tmp_path / "a.zip")
    with pytest.raises(RecipeError, match="Adapters of other tools have no recipe"):
        engine.read_adapter(changed).recipe  # noqa: B018  # the access is the test
