"""Runs the bench: every measurement once per round, in alternating order."""

from collections.abc import Mapping
from functools import partial

from tqdm import tqdm

from dnd_engine.bench.config import BenchConfig, recipe_of
from dnd_engine.bench.engine_costs import (
    Chat,
    Contended,
    Copy,
    Examination,
    bytes_per_token,
    crowd,
    imprint,
    synthesis,
    synthesis_flops,
)
from dnd_engine.bench.llama_cpp import LlamaCpp
from dnd_engine.bench.measurement import Measurement, idle_memory, machine_of, peak_memory
from dnd_engine.bench.results import BenchResult, EqualSteps, account, summarise
from dnd_engine.bench.training_costs import (
    GeneratorStep,
    StockLoRA,
    lora_run,
    lora_step_flops,
    training,
)
from dnd_engine.engine import Engine
from dnd_engine.generator.config import trained_steps
from dnd_engine.generator.report import Report


def bench(engine: Engine, config: BenchConfig | None = None) -> BenchResult:
    """Measure the configured sections.

    Training is measured with a new generator of the loaded one's sizes; the engine's own weights
    are not touched.

    Raises:
        ChatError: If the base ends every answer at once, so that chat cannot be timed.
    """
    trained = engine.generator.config.training
    config = (config or BenchConfig()).of(trained)
    equal = _equal_steps(engine.reports)
    # The bench times end-to-end steps; steps on checkpoint weights cost something else.
    end_to_end = recipe_of(trained).get("objective") == "task_loss"
    steps = trained_steps(trained) if end_to_end else 0
    device = engine.base.device
    with engine.runtime.lock:
        # After the block, only properties of the base that never change are read.
        machine = machine_of(engine.base)
    memory = idle_memory(device)
    measurements = _warmed(_resident(engine, config))
    if measurements:
        # Before anything is trained, because the peak of a process never falls.
        memory |= peak_memory(device)
    own = GeneratorStep(engine, config) if "training" in config.only else None
    if own:
        own.step(own.batch(-1))
        # Before the LoRA that it is compared with, which has a base of its own.
        memory |= peak_memory(device, "peak_training")
    stock = StockLoRA(engine) if {"synthesis", "training"} & set(config.only) else None
    measurements += _warmed(_trains(engine, own, stock, config))
    # Another program's model, which no peak of this one may count.
    if "chat" in config.only and (llama_cpp := LlamaCpp.where_possible(engine, config)):
        measurements += _warmed([llama_cpp])
    flops: dict[str, float] = {}
    if stock and "synthesis" in config.only:
        # Not within a round, because torch's counter slows what it counts.
        flops["synthesis"] = synthesis_flops(engine, config)
        flops["lora_step"] = lora_step_flops(stock, config)
    rounds: list[dict[str, float]] = []
    for number in tqdm(range(config.rounds), desc="Bench", unit="round"):
        # Reverse the order every other round, so that no measurement always follows the same one.
        order = measurements if number % 2 == 0 else measurements[::-1]
        rounds.append({})
        for measurement in order:
            rounds[-1] |= measurement(number)
    result = summarise(rounds, config, bytes_per_token(engine.base.model), memory, machine)
    return account(result, flops, equal, steps)


def _warmed(measurements: list[Measurement]) -> list[Measurement]:
    """Run the discarded round of measurements, and return them."""
    for measurement in measurements:
        measurement(-1)
    return measurements


def _resident(engine: Engine, config: BenchConfig) -> list[Measurement]:
    """Return the selected measurements of the resident engine."""
    found: list[Measurement] = []
    if "synthesis" in config.only:
        found.append(partial(synthesis, engine, config))
    if "imprint" in config.only:
        found.append(partial(imprint, engine, config))
    if "crowd" in config.only:
        found.append(partial(crowd, engine, config))
    if "chat" in config.only:
        found += [Chat(engine, config), Copy(engine, config)]
    if "examination" in config.only:
        found.append(Examination(engine, config))
    return found


def _trains(
    engine: Engine, own: GeneratorStep | None, stock: StockLoRA | None, config: BenchConfig
) -> list[Measurement]:
    """Return the selected measurements that keep gradients or need a second copy of the base."""
    found: list[Measurement] = []
    if stock and "synthesis" in config.only:
        found.append(partial(lora_run, stock, config))
    if own and stock:
        found.append(partial(training, own, stock, config))
    if "contended" in config.only:
        found.append(Contended(engine, config))
    return found


def _equal_steps(reports: Mapping[str, Report]) -> EqualSteps | None:
    """Read the shortest LoRA run of equal score from the report that compared most tasks."""
    known = [
        EqualSteps(name, found.n_tasks, found.shortest_steps)
        for name, report in reports.items()
        if report.split == "heldout" and (found := report.equal_score) and found.shortest_steps
    ]
    return max(known, key=lambda found: found.n_tasks, default=None)
