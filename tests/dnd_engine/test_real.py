"""The embedded default, with its real weights: what the engine promises, not how good it is."""

import copy
import hashlib
import json
import shutil
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftConfig, PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM

from dnd_engine.bench.examples import all_together, measure_example
from dnd_engine.checks.examples import ExampleResult, measured_result
from dnd_engine.checks.results import Forecast
from dnd_engine.config import EngineConfig, Sampling
from dnd_engine.engine import Engine
from dnd_engine.errors import BaseMismatchError, VerificationError
from dnd_engine.export.verify import Verifier
from dnd_engine.files import asset_path
from dnd_engine.lora.adapter import Adapter
from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.models.base import next_token_logits
from dnd_engine.models.forward import Forward, HookedForward
from dnd_engine.models.new_tokens import NewTokens
from dnd_engine.models.replies import Message
from dnd_engine.prompts.buckets import Bucket
from dnd_engine.prompts.examples import load_examples, measured_together
from dnd_engine.prompts.files import from_texts, read_prompt_file
from tests.dnd_engine.tiny import bucket, random_tokens, user
from tests.present import present

pytestmark = pytest.mark.real

SAMPLING = Sampling(max_new_tokens=12)
QUESTION = user("The film was long, loud and, against all odds, a delight.")


@pytest.fixture(scope="module")
def buckets(tmp_path_factory: pytest.TempPathFactory) -> list[Bucket]:
    folder = tmp_path_factory.mktemp("prompts")
    made = []
    for name, text in (("sql", "Name table {} of the shop."), ("tone", "Reply kindly to mail {}")):
        path = folder / f"{name}.txt"
        path.write_text("\n".join(text.format(i) for i in range(20)))
        made.append(Bucket(name, 1.0, (read_prompt_file(path),)))
    return made


@pytest.fixture(scope="module")
def made(real_engine: Engine, buckets: list[Bucket]) -> Adapter:
    return real_engine.generate(buckets)


def loud(made: Adapter, seed: int) -> Adapter:
    """An adapter of the same layout that changes every answer, however the generator is trained."""
    tokens = random_tokens(made.layout, seed, size=0.06).to(torch.bfloat16)
    return replace(made, tokens=tokens)


def ids_of(engine: Engine, messages: Sequence[Message]) -> Tensor:
    text = engine.base.tokenizer.apply_chat_template(
        list(messages), add_generation_prompt=True, tokenize=False
    )
    ids: Tensor = engine.base.tokenizer(str(text), return_tensors="pt")["input_ids"]
    return ids.to(engine.base.device)


def plain_base(engine: Engine) -> torch.nn.Module:
    """A model that has never seen the engine."""
    dtype = next(engine.base.model.parameters()).dtype
    model: torch.nn.Module = AutoModelForCausalLM.from_pretrained(
        engine.info.base_path, dtype=dtype
    )
    return model.eval().to(engine.base.device)


def texts(engine: Engine, adapter: Adapter) -> tuple[str, str]:
    *_, last = engine.chat(QUESTION, adapter=adapter, sampling=SAMPLING)
    assert last.adapted is not None
    return last.base.text, last.adapted.text


def largest_difference(ours: Tensor, theirs: Tensor) -> float:
    """Relative to the largest logit, as `Engine.verify` measures it."""
    return float((ours.float() - theirs.float()).abs().max() / ours.float().abs().max())


def test_the_same_prompts_give_the_same_bytes(
    real_engine: Engine, buckets: list[Bucket], made: Adapter, tmp_path: Path
) -> None:
    again = real_engine.generate(buckets)
    assert again.sha256 == made.sha256
    one, two = (real_engine.save(a, tmp_path / f"{n}.zip") for n, a in enumerate((made, again)))
    assert one.read_bytes() == two.read_bytes()
    assert real_engine.generate(buckets[:1]).sha256 != made.sha256


def test_a_saved_zip_loads_with_stock_peft_on_a_plain_base(
    real_engine: Engine, made: Adapter, tmp_path: Path
) -> None:
    """No key is missing or unexpected, and the logits are the in-memory adapter's."""
    adapter = loud(made, seed=1).with_strength(0.7)
    with zipfile.ZipFile(real_engine.save(adapter, tmp_path / "a.zip")) as archive:
        (tmp_path / "peft").mkdir()
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            (tmp_path / "peft" / name).write_bytes(archive.read(name))
    config = PeftConfig.from_pretrained(str(tmp_path / "peft"))
    assert config.base_model_name_or_path == "HuggingFaceTB/SmolLM2-135M-Instruct"
    model = PeftModel.from_pretrained(
        plain_base(real_engine), str(tmp_path / "peft"), autocast_adapter_dtype=False
    )
    report = model.load_adapter(tmp_path / "peft", "default", autocast_adapter_dtype=False)
    assert [key for key in report.missing_keys if "lora_" in key] == []
    assert report.unexpected_keys == []
    lora = {k.replace(".default.", "."): v for k, v in model.state_dict().items() if "lora_" in k}
    assert lora.keys() == adapter.state.keys()
    assert all(torch.equal(value, adapter.state[key]) for key, value in lora.items())
    ids = ids_of(real_engine, QUESTION)
    active = real_engine.runtime.host.fit(adapter.scaled_tokens[None], adapter.layout)
    with torch.inference_mode():
        with real_engine.runtime.host.applying(active):
            ours = real_engine.base.model(input_ids=ids).logits
        base = real_engine.base.model(input_ids=ids).logits
        theirs = model(input_ids=ids).logits
    assert largest_difference(ours, theirs) < 0.1
    assert largest_difference(ours, base) > 0.25


def test_the_base_row_is_exactly_an_untouched_model(real_engine: Engine, made: Adapter) -> None:
    """Bit by bit in the same batch shape, whichever adapters came before."""
    ids = ids_of(real_engine, QUESTION).repeat(2, 1)
    expected = next_token_logits(plain_base(real_engine), ids)
    for number in range(3):
        adapter = loud(made, seed=number)
        texts(real_engine, adapter)
        real_engine.verify(adapter, adapter.files())
        tokens = torch.stack([torch.zeros_like(adapter.tokens), adapter.tokens])
        active = real_engine.runtime.host.fit(tokens, adapter.layout)
        with real_engine.runtime.host.applying(active):
            found = next_token_logits(real_engine.base.model, ids)
        assert torch.equal(found[0], expected[0])
        assert not torch.equal(found[1], expected[1])
    assert torch.equal(next_token_logits(real_engine.base.model, ids), expected)


@torch.inference_mode()
def test_chat_rounds_no_worse_than_the_model_itself(real_engine: Engine, made: Adapter) -> None:
    """Beside float32, packed logits are off by no more than transformers' own in the same dtype.

    And the twin's base row is, bit by bit, what the same kernels give without an adapter.
    """
    runtime, tokens = real_engine.runtime, loud(made, seed=1).tokens
    ids = ids_of(real_engine, QUESTION).repeat(2, 1)
    exact = copy.deepcopy(plain_base(real_engine)).float()
    active = runtime.host.fit(torch.stack([torch.zeros_like(tokens), tokens]), made.layout)

    def logits(forward: Forward, fitted: FittedLoRA | None) -> Tensor:
        past, prepared = forward.new_cache(2), forward.prepare(fitted)
        last = ids.shape[1] - 1
        positions = torch.arange(last).expand(2, -1)
        forward.hidden(NewTokens(ids[:, :last], positions, None, past, prepared))
        at = torch.full((2, 1), last)
        return forward.logits(
            forward.hidden(NewTokens(ids[:, last:], at, None, past, prepared))[:, -1]
        )

    ours = runtime.forward
    modules = HookedForward(runtime.base, runtime.host.applying)
    expected = exact(input_ids=ids[:1]).logits[0, -1]
    packed, theirs = logits(ours, active), logits(modules, active)
    assert (packed[0] - expected).abs().mean() < 1.2 * (theirs[0] - expected).abs().mean() + 1e-5
    assert (packed[1] - expected).abs().mean() > 4 * (packed[0] - expected).abs().mean()
    assert torch.equal(packed[0], logits(ours, None)[0])


def test_a_damaged_adapter_is_not_saved(
    real_engine: Engine, made: Adapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter, other = loud(made, seed=1), loud(made, seed=2).files()
    monkeypatch.setattr(Adapter, "files", lambda adapter: other)
    with pytest.raises(VerificationError, match=r"verify failed: 420 tensors differ after reload"):
        real_engine.save(adapter, tmp_path / "a.zip")
    assert list(tmp_path.iterdir()) == []


def test_an_adapter_too_strong_to_compare_is_compared_at_less_strength(
    real_engine: Engine, buckets: list[Bucket], monkeypatch: pytest.MonkeyPatch
) -> None:
    strong = real_engine.generate(buckets, imprinted=False).with_strength(10)
    compare = Verifier.compare

    ours = 1.0

    def magnifying(self: Verifier, adapter: Adapter, model: torch.nn.Module) -> float:
        if adapter.strength > 5:
            raise VerificationError("rounding decides")
        return compare(self, adapter.with_strength(ours * adapter.strength), model)

    monkeypatch.setattr(Verifier, "compare", magnifying)
    assert real_engine.verify(strong, strong.files()) < 0.15
    ours = 2.0
    with pytest.raises(VerificationError, match=r"logits differ by .* allowed 15%"):
        real_engine.verify(strong, strong.files())


def test_two_visitors_at_once_read_what_each_would_read_alone(
    real_engine: Engine, made: Adapter
) -> None:
    adapters = [loud(made, seed=1), loud(made, seed=2)]
    alone = [texts(real_engine, adapter) for adapter in adapters]
    assert alone[0][1] != alone[1][1]
    found: list[tuple[str, str] | None] = [None, None]
    start = threading.Barrier(2)

    def visit(number: int) -> None:
        start.wait()
        found[number] = texts(real_engine, adapters[number])

    visitors = [threading.Thread(target=visit, args=(n,)) for n in range(2)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    assert found == alone


def test_pool_and_sum_are_two_ways(
    real_engine: Engine, buckets: list[Bucket], made: Adapter
) -> None:
    total = real_engine.generate(buckets, mix="sum")
    assert made.kept_energy is None
    assert total.kept_energy is not None
    assert 0 < total.kept_energy <= 1
    assert total.sha256 != made.sha256
    negative = [buckets[0], replace(buckets[1], weight=-0.5)]
    assert real_engine.generate(negative, mix="sum").sha256 != total.sha256


def test_no_strength_answers_as_the_base(real_engine: Engine, made: Adapter) -> None:
    adapter = loud(made, seed=1)
    base_text, adapted_text = texts(real_engine, adapter.with_strength(0))
    assert adapted_text == base_text
    assert texts(real_engine, adapter)[0] == base_text
    assert texts(real_engine, adapter)[1] != base_text


def test_a_saved_adapter_answers_as_in_memory(
    real_engine: Engine, made: Adapter, tmp_path: Path
) -> None:
    adapter = loud(made, seed=3).with_strength(1.5)
    back = real_engine.read_adapter(real_engine.save(adapter, tmp_path / "a"))
    assert texts(real_engine, back) == texts(real_engine, adapter)


def test_inspection_of_the_real_base(real_engine: Engine, made: Adapter) -> None:
    found = real_engine.inspect(made, [bucket("a", ["Name the tables.", "x" * 2000])])
    assert found.effect is not None
    assert found.effect >= 0
    assert {len(norms) for norms in found.relative_norms.values()} == {30}
    silent = real_engine.inspect(made.with_strength(0), [bucket("a", ["Name the tables."])])
    assert silent.effect == pytest.approx(0, abs=1e-6)


def test_a_forecast_tells_a_plain_task_from_an_open_one(real_engine: Engine) -> None:
    things = ("car", "hat", "door", "bus", "ball", "house", "cup", "bag")

    def forecast(instruction: str, text: str) -> Forecast:
        prompts = [f"{instruction}\n\n{text.format(thing)}" for thing in things]
        bucket = Bucket("any", 1.0, (from_texts(prompts, name="any.txt"),))
        return present(real_engine.forecast(bucket))

    plain = forecast("Which colour is named? Answer with one word.", "The {} is red.")
    open_ended = forecast("Write a short poem about this.", "the {}")
    assert (plain.sure, open_ended.sure) == ("sure", "unsure")


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """Compute with so many threads, which round sums in different orders."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(
    ("buckets", "measured"),
    [
        *(([example.read()], example.measured) for example in load_examples()),
        (all_together(), measured_together()),
    ],
    ids=[*(example.id for example in load_examples()), "together"],
)
def test_examples_do_as_well_as_the_page_says(
    real_engine: Engine, buckets: list[Bucket], measured: Mapping[str, Any]
) -> None:
    """Another processor rounds differently, so the words are compared, not the counts."""

    def words(result: ExampleResult) -> tuple[object, ...]:
        sure = result.forecast and result.forecast.sure
        return sure, result.verdict.outcome, result.skills.enough

    assert words(measure_example(real_engine, buckets)) == words(measured_result(measured))


def test_the_shipped_generator_refuses_another_base(tiny_folder: Path) -> None:
    shipped = asset_path("generators", "smollm2-135m-instruct")
    with pytest.raises(
        BaseMismatchError,
        match=r"made for HuggingFaceTB/SmolLM2-135M-Instruct\. It cannot run on .*: `vocab_size` "
        r"is 260, expected 49152",
    ):
        Engine.load(EngineConfig(base=str(tiny_folder), generator=shipped))


def test_a_generator_for_another_model_of_the_same_shape_is_refused(tmp_path: Path) -> None:
    """SmolLM2's base and instruct models differ in their norms only."""
    folder = shutil.copytree(asset_path("generators", "smollm2-135m-instruct"), tmp_path / "g")
    config = json.loads((folder / "config.json").read_text())
    config["base"]["fingerprint"]["norms"][5] *= 1.1
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        BaseMismatchError, match=r"it has the same shape but other weights \(norm scal"
    ):
        Engine.load(EngineConfig(generator=folder))


def test_the_shipped_parts_are_those_the_project_names(real_engine: Engine) -> None:
    info = real_engine.info
    assert info.base_id == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert info.base_sha256.startswith("b179c9523d0e")
    assert info.encoder_sha256.startswith("53aa51172d14")
    weights = (present(info.generator_path) / "model.safetensors").read_bytes()
    assert info.generator_sha256 == hashlib.sha256(weights).hexdigest()
    assert len(weights) < 40_000_000  # two bytes a parameter
