"""A plan's counts are those of the real modules, and its formulas those of real runs."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
import yaml
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from typer.testing import CliRunner

from dnd_engine.charts import short
from dnd_engine.cli import app
from dnd_engine.engine import Engine
from dnd_engine.errors import ConfigError, LayoutError
from dnd_engine.files import asset_path
from dnd_engine.generator.config import GeneratorConfig
from dnd_engine.generator.hyperconv import HyperConvDecoder
from dnd_engine.generator.projection import Projection
from dnd_engine.imprint import ordinary, solve
from dnd_engine.lora.layout import ARCHITECTURES, LoRALayout, LoRASpec
from dnd_engine.models import sharding
from dnd_engine.models.base import BaseModel, last_hidden, output_layer
from dnd_engine.plan import costs
from dnd_engine.plan.costs import Plan, Workload, make_plan, saved_bytes, training_step_flops
from dnd_engine.plan.decoders import our_decoder, papers_decoder, papers_spec, size_of
from dnd_engine.plan.hardware import read_hardware
from dnd_engine.plan.pictures import draw
from dnd_engine.plan.shapes import BaseShape, read_shape, shipped_shapes
from dnd_engine.plan.words import amount, table_rows
from dnd_engine.tables import markdown_table
from dnd_engine.training.recipe import TrainRecipe
from tests.dnd_engine.tiny import CONFIG, random_tokens, tiny_llama
from tests.imprint_costs import BUCKET, counted

HERE = "cpu-2-cores"
SMOLLM = "smollm2-135m-instruct"
QWEN = "Qwen/Qwen2.5-0.5B-Instruct"
PAGE = Path(__file__).parents[3] / "docs" / "cost-at-scale.md"


def planned(base: str = SMOLLM, hardware: str = HERE, **work: int) -> Plan:
    return make_plan(base, LoRASpec(), read_hardware()[hardware], Workload(**work))


@pytest.mark.parametrize("name", shipped_shapes())
def test_parameters_are_those_of_the_model_that_transformers_builds(name: str) -> None:
    """And within 2 % of what the model's card states, so the shipped sizes are the model's."""
    values = dict(shipped_shapes()[name])
    stated = values.pop("parameters")
    config = AutoConfig.for_model(**values)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    counted = read_shape(name, LoRASpec()).parameters
    assert counted == sum(p.numel() for p in model.parameters())
    assert counted == pytest.approx(stated * 1e9, rel=0.02)


@pytest.mark.parametrize("biases", [{}, {"attention_bias": True, "mlp_bias": True}])
@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_every_architecture_is_counted_without_what_transformers_fills_in(
    model_type: str, biases: dict[str, bool]
) -> None:
    """Some tie their embeddings by default and a config need not say so; some heed no biases."""
    values = {**CONFIG, "head_dim": 16, "model_type": model_type, **biases}
    config = AutoConfig.for_model(**values, pad_token_id=0)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    counted = BaseShape.from_config(model_type, values, LoRASpec()).parameters
    assert counted == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", [SMOLLM, QWEN, "Qwen2.5-7B-Instruct", "Llama-3.3-70B-Instruct"])
def test_our_decoder_is_the_module_that_training_builds(name: str) -> None:
    layout = read_shape(name, LoRASpec()).layout
    recipe = TrainRecipe(tasks=(Path(),), out=Path())
    grid = (layout.num_tokens, layout.spec.r, layout.width)
    config = GeneratorConfig(
        features=(*recipe.stages, grid), kernel_size=recipe.kernel_size, layout=layout
    )
    with torch.device("meta"):
        decoder = HyperConvDecoder(config.features, config.kernel_size)
    assert our_decoder(layout).parameters == sum(p.numel() for p in decoder.parameters())


@pytest.mark.parametrize(
    ("name", "billions", "teraflops", "tokens"),
    [(QWEN, 1.113, 8.3, 4296), ("Qwen2.5-1.5B-Instruct", 1.7153 + .0276, 27 + .34, 4508),
     ("Qwen2.5-7B-Instruct", 1.9365 + .0276, 53 + .34, 4928)],
)  # fmt: skip
def test_the_papers_decoders_have_the_released_sizes(
    name: str, billions: float, teraflops: float, tokens: int
) -> None:
    """Source: the authors' released configurations and checkpoint sizes (1.113 B is 4.46 GB).

    The larger two are counted with the projection of 26,624 tokens to 1,000.
    """
    shape = read_shape(name, papers_spec(read_shape(name, LoRASpec())))
    size, released = papers_decoder(shape)
    assert released
    assert shape.layout.num_tokens == tokens
    assert size.parameters / 1e9 == pytest.approx(billions, abs=5e-4)
    assert size.forward_flops / 1e12 == pytest.approx(teraflops, rel=0.02)


@pytest.mark.parametrize(
    ("features", "kernel"), [(((4, 6, 5), (3, 7, 8)), 3), (((2, 9, 4), (5, 3, 6), (7, 2, 8)), 5)]
)
def test_a_decoder_is_counted_as_torch_counts_it(
    features: tuple[tuple[int, int, int], ...], kernel: int
) -> None:
    decoder = HyperConvDecoder(features, kernel)
    with FlopCounterMode(display=False) as counter:
        decoder(torch.randn(1, *features[0]))
    size = size_of(features, kernel)
    assert size.forward_flops == counter.get_total_flops()
    assert size.parameters == sum(p.numel() for p in decoder.parameters())


def test_a_projection_is_counted_as_torch_counts_it() -> None:
    features, reads = ((4, 6, 5), (3, 7, 8)), 40
    decoder, projection = HyperConvDecoder(features, 3), Projection(reads, 6)
    with FlopCounterMode(display=False) as counter:
        decoder(projection(torch.randn(1, 4, reads, 5)))
    size = size_of(features, 3, reads)
    modules = (decoder, projection)
    assert size.parameters == sum(p.numel() for module in modules for p in module.parameters())
    assert size.forward_flops == pytest.approx(counter.get_total_flops(), rel=1e-3)


def test_an_adapter_has_the_planned_tokens_and_bytes() -> None:
    layout = LoRALayout.from_config(CONFIG, LoRASpec())
    shape = BaseShape.from_config("tiny", CONFIG, LoRASpec())
    tokens = random_tokens(layout).to(torch.bfloat16)
    assert shape.layout.num_tokens == len(tokens)
    assert shape.layout.num_parameters * 2 == tokens.nbytes


def lora_step(
    shape: BaseShape, model: nn.Module, rows: int, length: int, mask: Tensor | None = None
) -> Callable[[], Tensor]:
    """A forward and backward pass of stock PEFT, with a loss on the last eight tokens of a row."""
    spec = shape.layout.spec
    peft: Any = get_peft_model(
        model,
        LoraConfig(r=spec.r, target_modules=list(spec.target_modules)),
        autocast_adapter_dtype=False,
    )
    ids = torch.randint(0, peft.get_base_model().config.vocab_size, (rows, length))

    def run() -> Tensor:
        inputs = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
        hidden = last_hidden(peft.get_base_model(), **inputs)
        logits = output_layer(peft.get_base_model())(hidden[:, -8:])
        loss: Tensor = logits.float().square().mean()
        return loss

    return run


SIZES: list[dict[str, int]] = [
    {},
    {"hidden_size": 128, "num_key_value_heads": 4},
    {"intermediate_size": 384, "vocab_size": 1000},
    {"num_hidden_layers": 5},
]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_operations_of_a_lora_step_are_those_that_torch_counts(sizes: dict[str, int]) -> None:
    shape = BaseShape.from_config("tiny", CONFIG | sizes, LoRASpec())
    run = lora_step(shape, tiny_llama(**sizes), rows=8, length=64)
    with FlopCounterMode(display=False) as counter:
        run().backward()
    work = Workload(lora_steps=1)
    made = [f for f in _figures(shape, work) if f.key == "lora_flops"]
    assert made[0].value == pytest.approx(counter.get_total_flops(), rel=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["HuggingFaceTB/SmolLM2-135M-Instruct", QWEN])
def test_operations_are_those_that_torch_counts_for_two_bases_of_true_size(name: str) -> None:
    """On no device, so nothing is computed. Counted: 1.03 and 1.01 of what is planned."""
    values = dict(shipped_shapes()[name])
    del values["parameters"]
    shape = BaseShape.from_config(name, values, LoRASpec())
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**values))
        # Without a mask, transformers would look at values to see whether rows are packed.
        mask = torch.ones(1, 1, 64, 64, dtype=torch.bool).tril()
        lora_step(shape, model, rows=8, length=64, mask=mask)().backward()
    made = {f.key: f.value for f in _figures(shape, Workload(lora_steps=1))}
    assert made["lora_flops"] == pytest.approx(counter.get_total_flops(), rel=0.05)


def _figures(shape: BaseShape, work: Workload) -> Any:
    from dnd_engine.plan.costs import _Costs

    return _Costs(shape, shape, read_hardware()[HERE], work).figures()


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_memory_of_a_step_is_what_torch_keeps_for_the_gradient(sizes: dict[str, int]) -> None:
    shape = BaseShape.from_config("tiny", CONFIG | sizes, LoRASpec())
    model: nn.Module = tiny_llama(**sizes)
    model.to(torch.bfloat16)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, tuple[int, Tensor]] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if not tensor.is_leaf and storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    run = lora_step(shape, model, rows=4, length=64)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        run()
    found = sum(size for size, _ in kept.values())
    assert saved_bytes(shape, 4 * 64) == pytest.approx(found, rel=0.2)


@pytest.mark.slow
def test_operations_of_a_wide_layers_penalty_are_those_that_torch_counts() -> None:
    """It counts products alone; the bases and eigenvectors between them are a tenth."""
    tokens, wide = 5000, 2112
    with FlopCounterMode(display=False) as counter:
        solve.Penalty.of(
            torch.randn(tokens, wide),
            torch.randn(tokens, 2),
            torch.ones(tokens),
            floor=0.1,
            most=costs._DIRECTIONS,
        )
    counted = counter.get_total_flops()
    assert counted < costs.penalty_flops(wide, tokens) < 1.2 * counted
    assert (costs._EXACT_WIDTH, costs._SPARE, costs._ROUNDS) == (
        solve._EXACT_WIDTH,
        solve._SPARE,
        solve._ROUNDS,
    )
    assert costs._DIRECTIONS == ordinary._DIRECTIONS


@pytest.mark.real
def test_operations_of_an_imprint_are_those_that_torch_counts(real_engine: Engine) -> None:
    """Counted here .97, and at 0.5 B .98 of what is planned (`python -m tests.imprint_costs`)."""
    flops, work = counted(real_engine, BUCKET)
    plan = make_plan(SMOLLM, LoRASpec(), read_hardware()[HERE], work)
    assert plan["imprint_flops"] == pytest.approx(flops, rel=0.1)


def test_an_imprint_takes_memory_for_packed_weights_where_there_is_room() -> None:
    values = dict(shipped_shapes()[QWEN])
    del values["parameters"]
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**values))
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    copy = sum(2 * module.weight.numel() for module in linear) / 1e9
    cpu = read_hardware()[HERE]

    def planned_gb(**changes: Any) -> float:
        plan = make_plan(QWEN, LoRASpec(), replace(cpu, **changes), Workload())
        return float(plan["imprint_memory_gb"] or 0)

    assert planned_gb() - planned_gb(packs_weights=False) == pytest.approx(copy)
    assert planned_gb(memory_gb=2.5) == planned_gb(packs_weights=False)


@pytest.mark.parametrize("key", ["imprint", "ordinary"])
def test_regressions_take_as_long_as_float32_does(key: str) -> None:
    """A quarter of the peak in bfloat16, unless the table says something else."""
    cpu = read_hardware()[HERE]

    def seconds(**changes: Any) -> float:
        machine = replace(cpu, **changes)
        return float(make_plan(QWEN, LoRASpec(), machine, Workload())[f"{key}_seconds"] or 0)

    assert seconds() == seconds(float32_tflops=cpu.tflops / 4)
    without = seconds(float32_tflops=1e9)
    slow = seconds(float32_tflops=cpu.tflops / 8)
    assert slow - without == pytest.approx(2 * (seconds() - without), rel=1e-3)
    assert without < seconds()


def test_measured_runs_are_within_a_fifth_of_what_is_derived() -> None:
    """Operations of a training step: torch's count for the shipped recipe, 1,776 positions."""
    runs = yaml.safe_load(asset_path("plan", "measured.yaml").read_text(encoding="utf-8"))
    (base,) = runs
    compared = 0
    for hardware, figures in runs[base].items():
        plan = planned(base, hardware)
        for key, run in figures.items():
            if key != "break_even":  # a difference of two times, where their errors add up
                assert plan[key] == pytest.approx(run["value"], rel=0.2), key
                compared += 1
    assert compared >= 3
    step = training_step_flops(read_shape(SMOLLM, LoRASpec()), Workload())
    assert step == pytest.approx(1.031e12, rel=0.2)
    assert planned()["synthesis_flops"] == pytest.approx(1.7326e11, rel=0.01)


def test_cost_grows_with_the_base_and_no_faster() -> None:
    """The answer to "exponentially expensive": 520 times the base, not many times that."""
    small, large = planned(SMOLLM, "h100"), planned("Llama-3.3-70B-Instruct", "h100")
    grown = {
        key: float(large[key] or 0) / float(small[key] or 1)
        for key in ("parameters", "training_flops", "lora_parameters", "decoder", "ordinary_flops")
    }
    assert grown["ordinary_flops"] < grown["parameters"]
    assert grown["training_flops"] < 1.25 * grown["parameters"]
    assert grown["decoder"] < grown["lora_parameters"] < grown["parameters"] / 10


def test_what_does_not_fit_one_card_is_spread_over_several() -> None:
    plan = planned("Llama-3.3-70B-Instruct", "h100")
    assert plan["training_cards"] == 4
    alone = planned("Qwen2.5-7B-Instruct", "h100")
    assert alone["training_cards"] == 1
    small_cards = planned("Llama-3.3-70B-Instruct", "l4")
    assert float(small_cards["training_cards"] or 0) > small_cards.workload.tasks_per_step
    # A card's gathered blocks, embeddings and training state alone are more than it has.
    too_small = planned("Llama-3.3-70B-Instruct")
    assert too_small["training_cards"] is too_small["training_seconds"] is None
    plans = (alone, plan, small_cards, too_small)
    assert [p.to_json()["trainable_here"] for p in plans] == [True, True, False, False]
    listed = invoke("--base", "Llama-3.3-70B-Instruct", "--hardware", "l4").stdout
    assert "as `shard_base` does" not in listed, "it gives each card a task at least"


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("cards", [2, 3])
def test_a_cards_share_of_the_base_is_what_training_counts(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch, cards: int, tied: bool
) -> None:
    config = CONFIG | {"num_hidden_layers": 5, "tie_word_embeddings": tied}
    model = LlamaForCausalLM(LlamaConfig(**config, pad_token_id=0)).bfloat16()

    class CountedError(Exception):
        """Stops before the base is split, which takes several processes."""

    def count(needed: int, *_: object) -> None:
        raise CountedError(needed)

    monkeypatch.setattr(sharding, "check_memory", count)
    with pytest.raises(CountedError) as counted:
        sharding.shard_base(replace(base, model=model), cards)
    shape = BaseShape.from_config("tiny", config, LoRASpec())
    assert counted.value.args == (costs.shard_bytes(shape, cards),)
    assert costs._GATHERED == sharding._GATHERED


def test_a_plan_for_several_cards_says_that_only_training_can_use_them() -> None:
    listed = invoke("--base", "Llama-3.3-70B-Instruct", "--hardware", "h200")
    assert "if 2 split the model, which this program cannot do" in listed.stdout
    assert "if 2 split the model, as `shard_base` does" in listed.stdout
    for made in (listed, invoke()):
        assert "This program splits it in training alone, with `shard_base`" in made.stdout
    assert "cannot do" not in invoke("--base", SMOLLM).stdout


def test_training_that_saves_nothing_never_pays() -> None:
    slow = replace(read_hardware()[HERE], reached_forward=1e-6)
    plan = make_plan(SMOLLM, LoRASpec(), slow, Workload())
    assert plan["break_even"] is None


def test_steps_and_tasks_scale_their_phases() -> None:
    usual, more = planned(), planned(steps=4600, tasks=1400)
    for key in ("training_flops", "collection_flops", "collection_dollars"):
        assert more[key] == pytest.approx(2 * float(usual[key] or 0))
    assert more["lora_seconds"] == usual["lora_seconds"]


def test_a_local_config_serves_as_a_base(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    for place in (tmp_path, tmp_path / "config.json"):
        assert read_shape(str(place), LoRASpec()).hidden_size == CONFIG["hidden_size"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "no `hidden_size`"),
        ("{", "cannot be read as JSON"),
        (
            "GGUF\3",
            r"is a GGUF file, and a plan is made from a model's `config\.json`\. Name ",
        ),
        (json.dumps({**CONFIG, "vocab_size": None}), "`vocab_size`"),
        (
            json.dumps({"model_type": "gemma3", "text_config": CONFIG}),
            "'gemma3' is not supported; .* It also reads images; take the text-only model",
        ),
        (json.dumps({**CONFIG, "num_hidden_layers": -1}), "`num_hidden_layers`"),
        ("[" * 100_000, "cannot be read as JSON"),
        (json.dumps({**CONFIG, "vocab_size": 10**30}), "in `vocab_size`, expected at most 1,000,"),
        (json.dumps({**CONFIG, "num_key_value_heads": 10**400}), "in `num_key_value_heads`, exp"),
        (
            json.dumps({**CONFIG, "tie_word_embeddings": "false"}),
            "needs true or false in `tie_word_embeddings`, got 'false'",
        ),
        (json.dumps({**CONFIG, "mlp_bias": "no"}), "true or false in `mlp_bias`"),
    ],
)
def test_a_wrong_config_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises((ConfigError, LayoutError), match=message):
        read_shape(str(path), LoRASpec())


def test_an_unknown_base_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no base `Bert`.*SmolLM2-135M-Instruct"):
        read_shape("Bert", LoRASpec())


@pytest.mark.parametrize(
    ("base", "why"),
    [
        ("~nobody-here/x", "there is no base `~nobody-here/x`"),
        ("x" * 5000, r"cannot be read: File .*\. Name a known base"),
    ],
)
def test_a_base_that_does_not_exist_is_refused_with_a_way_out(base: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as no:
        read_shape(base, LoRASpec())
    assert len(str(no.value)) < 500


def test_a_hub_that_cannot_be_reached_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="cannot be fetched from the Hub"):
        read_shape("someone/some-model", LoRASpec())


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"tflops": -1}, "tflops"),
        ({"reached_forward": 2}, "reached_forward"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_table_of_machines_is_refused(
    tmp_path: Path, entry: dict[str, Any], message: str
) -> None:
    shipped = yaml.safe_load(asset_path("plan", "hardware.yaml").read_text(encoding="utf-8"))
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"mine": shipped["h100"] | entry}))
    with pytest.raises(ConfigError, match=message):
        read_hardware(path)


def test_amounts_have_three_figures_up_to_the_next_prefix() -> None:
    told = [amount(value) for value in (999, 999_400, 999_600, 1.234e21)]
    assert told == ["999 ", "999 k", "1 M", "1,234 E"]


def test_a_machine_that_costs_nothing_is_drawn_without_money() -> None:
    free = replace(read_hardware()[HERE], dollars_per_hour=0)
    root = ElementTree.fromstring(draw([make_plan(SMOLLM, LoRASpec(), free, Workload())]))
    words = " ".join(root.itertext())
    assert "Wall time" in words
    assert "Money" not in words


def test_a_figure_that_no_plan_has_is_a_missing_key() -> None:
    with pytest.raises(KeyError, match="moon_seconds"):
        planned()["moon_seconds"]


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["plan", *map(str, arguments)])


def test_the_command_prints_tables_and_json_and_draws(tmp_path: Path) -> None:
    path = tmp_path / "plan.svg"
    made = invoke("--base", SMOLLM, "--base", QWEN, "--hardware", HERE, "--plot", path, "--json")
    assert made.exit_code == 0, made.output
    plans = json.loads(made.stdout)["plans"]
    assert "splits it in training alone" in json.loads(made.stdout)["assumptions"]
    assert [one["base"].split("/")[1] for one in plans] == [
        "SmolLM2-135M-Instruct",
        "Qwen2.5-0.5B-Instruct",
    ]
    marks = {f["mark"] for one in plans for f in one["figures"]}
    assert marks == {"derived", "measured"}
    # Only one of the two bases was measured.
    assert not [f for f in plans[1]["figures"] if f["mark"] == "measured"]
    root = ElementTree.parse(path).getroot()
    words = " ".join(root.itertext())
    assert "the paper's decoder" in words
    assert "parameters of the base" in words
    listed = invoke("--base", SMOLLM, "--hardware", HERE)
    assert "Synthesis, 128 prompts: wall time, measured" in listed.stdout
    assert "Llama-3.3-70B" in invoke().stdout


def test_measured_runs_are_not_shown_beside_another_recipe() -> None:
    made = invoke("--base", SMOLLM, "--hardware", HERE, "--steps", 10, "--json")
    figures = json.loads(made.stdout)["plans"][0]["figures"]
    assert {f["mark"] for f in figures} == {"derived"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--hardware", "abacus"), "must be one of cpu-2-cores"),
        (("--base", "Bert"), "no base `Bert`"),
        (("--plot", "a.png"), "must end in .svg"),
        (("--rank", "0"), "Input should be greater than or equal to 1"),
        (("--rank", "9" * 400), "Input should be less than or equal to 65536"),
        (("--steps", "0"), "`steps` must be between 1 and 1000000000"),
        (("--steps", "9" * 400), "`steps` must be between 1 and 1000000000"),
    ],
)
def test_wrong_arguments_are_refused(arguments: tuple[str, ...], message: str) -> None:
    made = invoke(*arguments)
    assert made.exit_code != 0
    assert message in made.output


def test_the_page_shows_the_table_that_the_command_computes() -> None:
    machine = read_hardware()["h100"]
    made = [make_plan(name, LoRASpec(), machine, Workload()) for name in shipped_shapes()]
    (name, *numbers), *rows = table_rows(made)
    table = "\n".join(markdown_table(" | ".join([name, *(f"{n}:" for n in numbers)]), rows))
    assert table in PAGE.read_text(encoding="utf-8"), table


RECIPES = Path(__file__).parents[3] / "assets" / "recipes" / "bases"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_what_a_recipe_says_it_needs_is_what_the_plan_that_it_names_says(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    said = " ".join(line.removeprefix("# ") for line in text.splitlines() if line[0] == "#")
    (command,) = re.findall(r"`dnd (plan [^`]*)`", said)
    named = CliRunner().invoke(app, [*command.split(), "--hardware", HERE, "--json"])
    assert named.exit_code == 0, named.output
    (made,) = json.loads(named.stdout)["plans"]
    assert made["base"] == values["base"]
    figures = {f["key"]: f["value"] for f in made["figures"]}
    (memory,) = re.findall(r"[Nn]eeds ([\d.]+) GB of memory", said)
    (card,) = re.findall(r"a GPU with (\d+) GB or more", said)
    if path.stem.endswith("paper"):  # of which only the decoder has a plan
        assert memory == short(figures["paper_training_memory_gb"])
        assert float(memory) < 0.9 * int(card)
        return
    amounts = ("steps", "tasks_per_step", "row_tokens")
    assert [made["workload"][key] for key in amounts] == [values[key] for key in amounts]
    assert made["r"] == values["r"]
    assert memory == short(figures["training_memory_gb"])
    usual = [size for size in (4, 8, 12, 16, 24, 32, 40) if 0.9 * size >= float(memory)]
    assert int(card) == max(8, usual[0]), "no smaller card holds it"
    for hours in re.findall(r"([\d.]+) hours on two CPU cores", said):
        assert hours == f"{figures['training_seconds'] / 3600:.1f}"


def test_the_steps_of_a_plan_are_those_of_the_shipped_generators_runs() -> None:
    runs = ("smollm2-135m.yaml", "smollm2-135m-longer.yaml")
    steps = [yaml.safe_load((RECIPES.parent / run).read_text())["steps"] for run in runs]
    assert Workload().steps == sum(steps)
