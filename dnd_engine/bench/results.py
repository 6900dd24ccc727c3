"""Results of the bench: medians, and ratios of alternating measurements."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from statistics import median
from typing import Any

from dnd_engine.bench.config import BUSY, LORA_STEPS, BenchConfig
from dnd_engine.config import ImprintConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResult:
    """Measured costs; `to_json` is what `dnd bench --json` prints."""

    seconds: dict[str, float] = field(default_factory=dict)
    """Medians. Chat is per token, an examination per item, training per step. `lora_run` covers all
    LoRA steps, `lora_equal` the steps that the generator's report says a LoRA needs to score as
    much, and `generator_training` the steps that the loaded generator was trained."""
    ratios: dict[str, float] = field(default_factory=dict)
    """Medians over rounds of each round's ratio. Exception: `lora_over_synthesis` divides the LoRA
    run's mean by the median synthesis, because a run pays for its slow steps too."""
    flops: dict[str, float] = field(default_factory=dict)
    """Floating point operations, counted by torch once, for a synthesis and for the LoRA run.
    Elementwise operations and the CPU's fused attention are not counted: torch has no formula for
    the latter."""
    tokens_per_second: dict[str, float] = field(default_factory=dict)
    """For training only: positions that the base computes, padding included."""
    ready_parts: dict[str, float] = field(default_factory=dict)
    """Median seconds of each step of `ready`: reading prompts, writing weights, comparing with
    training tasks; writing the zip and reloading it in stock PEFT; norms by layer."""
    memory_mb: dict[str, float] = field(default_factory=dict)
    """Resident memory of the process, with pages of mapped files: `idle` with all models loaded,
    `peak` after synthesis and chat, `peak_training` after a generator's training step too. The
    stock LoRA and llama.cpp are loaded later. On a CUDA device also what torch has allocated on the
    card, as `cuda_idle`, `cuda_peak` and `cuda_peak_training`."""
    machine: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """Caveats for reading the numbers."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class EqualSteps:
    """The shortest LoRA run on labels that scores as the decoder's adapters do."""

    report: str
    """Name of the report that compared them."""
    n_tasks: int
    """On how many tasks."""
    steps: int


def account(
    result: BenchResult, flops: Mapping[str, float], equal: EqualSteps | None, steps: int
) -> BenchResult:
    """Derive costs from the times: operations, the LoRA run of equal score, generator training.

    Args:
        result: Measured seconds; it stays as it is.
        flops: Operations of a synthesis and of a LoRA step, if measured.
        equal: The shortest LoRA run that matches the generator's score; None if unknown.
        steps: End-to-end training steps of the loaded generator; 0 if unknown, or if it was trained
            with another objective.

    Returns:
        The result with the costs added.
    """
    seconds, ratios, notes = dict(result.seconds), dict(result.ratios), list(result.notes)
    counted: dict[str, float] = {}
    if flops:
        counted = {
            "synthesis": flops["synthesis"],
            "lora_run": flops["lora_step"] * LORA_STEPS,
        }
        ratios["lora_over_synthesis_flops"] = counted["lora_run"] / counted["synthesis"]
        if equal is not None:
            seconds["lora_equal"] = seconds["lora_run"] / LORA_STEPS * equal.steps
            ratios["lora_equal_over_synthesis"] = seconds["lora_equal"] / seconds["synthesis"]
            notes.append(
                f"The generator's report `{equal.report}` says that a LoRA trained for "
                f"{equal.steps} steps on the labels of the same prompts scores at least as much as "
                f"the decoder's adapters without imprint, on the bare inputs of {equal.n_tasks} "
                "unseen tasks; `lora_equal` is so many of these steps."
            )
    if "train_step" in seconds and steps:
        seconds["generator_training"] = seconds["train_step"] * steps
        notes.append(
            f"The generator was trained for {steps} steps, end to end: no LoRAs had to be "
            "collected. `generator_training` is so many of the steps measured here, which are as "
            "large as those of its last run."
        )
        for name in ("lora_run", "lora_equal"):
            saved = seconds[name] - seconds["synthesis"] if name in seconds else 0
            # If a LoRA run is cheaper than a synthesis, training never pays off.
            if saved > 0:
                break_even = seconds["generator_training"] / saved
                ratios[f"tasks_to_pay_off_{name}"] = math.ceil(break_even)
    return replace(result, seconds=seconds, ratios=ratios, flops=counted, notes=tuple(notes))


def summarise(
    rounds: Sequence[Mapping[str, float]],
    config: BenchConfig,
    token_bytes: int,
    memory: dict[str, float],
    machine: dict[str, Any],
) -> BenchResult:
    """Compute medians and ratios from the values that each round measured, by name.

    `token_bytes` are the bytes of weights that the base reads per token.
    """
    names = [name for name in rounds[0] if "." not in name]
    seconds = {name: median(r[name] for r in rounds) for name in names}
    speeds: dict[str, float] = {}
    ratios: dict[str, float] = {}
    notes: list[str] = []
    ratio = partial(_ratio, rounds)
    if "synthesis" in config.only:
        steps = config.rounds * config.lora_steps
        # The mean, because a run pays for its slow steps too.
        seconds["lora_run"] = sum(r["lora_step"] for r in rounds) / len(rounds) * LORA_STEPS
        ratios["lora_over_synthesis"] = seconds["lora_run"] / seconds["synthesis"]
        ratios["remix_over_synthesis"] = ratio("remix", "synthesis")
        how = "measured whole" if steps >= LORA_STEPS else f"scaled up from {steps} measured steps"
        notes.append(
            f"The LoRA run is {LORA_STEPS} steps of {config.lora_examples} examples of "
            f"{config.example_tokens} tokens with stock PEFT, {how}; synthesis reads "
            f"{config.num_prompts} prompts, and a remix draws again from those it read. `ready` "
            "is all that the page does between the click and an adapter to use: synthesis, the zip "
            "read back by stock PEFT, norms and a fingerprint by layer."
        )
    if "imprint" in config.only:
        small, large = config.imprinted_prompts
        ratios["imprint_over_handed_over"] = ratio("imprint_small", "handed_over_small")
        ratios["imprint_large_over_small"] = ratio("imprint_large", "imprint_small")
        notes.append(
            f"Imprint has a bucket of {small} short prompts (small) or {large} (large), answers "
            f"included; at most {ImprintConfig().max_bucket_prompts} are fitted; "
            "`handed_over` is what comes before: prompts read, weights written, the files read "
            "back by stock PEFT. Then chat may begin."
        )
    if "crowd" in config.only:
        ratios["crowd_over_alone"] = ratio("crowd_at_once", "crowd_alone")
        notes.append(
            f"Crowd is {config.visitors} visitors with {config.imprinted_prompts[0]} short prompts "
            "each: until the last one has an adapter to chat with, one by one (alone), and all at "
            "once, while the adapters of those before are imprinted."
        )
    if "chat" in config.only:
        ratios["twin_over_single"] = ratio("chat_twin", "chat_single")
        if all("chat_imprinted" in r for r in rounds):
            ratios["imprinted_over_single"] = ratio("chat_imprinted", "chat_single")
        ratios["turned_over_twin"] = ratio("chat_turned", "chat_twin")
        # A copy reads and writes each byte.
        copied = 2 * config.copy_megabytes * 1_000_000
        ratios["bandwidth_share"] = median(
            (token_bytes / r["chat_single"]) / (copied / r["copy"]) for r in rounds
        )
        notes.append(
            f"Chat is greedy, seconds per token after the first, both answers of a twin counting "
            f"as one token; turned is a twin whose strength changes at every token, imprinted one "
            f"with an imprinted adapter. A token reads {token_bytes / 1e6:.0f} MB of weights; "
            f"bandwidth is that of a {config.copy_megabytes} MB copy, read and write counted."
        )
        if "chat_modules" in rounds[0]:
            ratios["twin_over_modules"] = ratio("chat_twin", "chat_modules")
            notes.append(
                "`chat_modules` is the same twin through transformers' own modules, as bases run "
                "whose weights cannot be packed."
            )
        if "chat_llama_cpp" in rounds[0]:
            ratios["single_over_llama_cpp"] = ratio("chat_single", "chat_llama_cpp")
            ratios["twin_over_llama_cpp"] = median(
                r["chat_twin"] / (r["chat_llama_cpp"] + r["chat_llama_cpp_lora"]) for r in rounds
            )
            notes.append(
                "`chat_llama_cpp` is llama.cpp with the same base, prompts and number of threads, "
                "`chat_llama_cpp_lora` the same with the adapter. It computes both in turn where a "
                f"twin computes them together. Its base is in float16, ours in {machine['dtype']}."
            )
    if "examination" in config.only:
        ratios["examination_over_loop"] = ratio("examination", "examination_loop")
        tasks, items = config.examined_items
        notes.append(
            f"Examination is seconds per item: {tasks} tasks of {items} items, an adapter for "
            "each task, in the batches of `dnd evaluate`; the loop answers one item after the "
            "other through transformers' own modules. An item is the loss of four options and a "
            "greedy answer."
        )
    if "contended" in config.only:
        for name in ("twin", "synthesis", "training"):
            ratios[f"contended_over_alone_{name}"] = median(
                r[f"{name}_contended"] / r[f"{name}_alone"] for r in rounds
            )
        notes.append(
            f"Contended is beside {BUSY} processes that do nothing but compute, in turn with the "
            "same without them."
        )
    if "training" in config.only:
        sides = ("train", "lora_packed", "lora_rows")
        rates = [{s: r[f"{s}.tokens"] / r[f"{s}_step"] for s in sides} for r in rounds]
        speeds |= {side: median(rate[side] for rate in rates) for side in sides}
        ratios["train_over_lora_throughput"] = median(
            rate["train"] / max(rate["lora_packed"], rate["lora_rows"]) for rate in rates
        )
        notes.append(
            f"Training steps have {config.tasks_per_step} tasks of up to "
            f"{config.examples_per_task} examples in {config.row_tokens} tokens. The "
            "LoRA they are compared with is stock PEFT in the base's dtype, with the same rank and "
            "targets, the same loss and AdamW: on the same packed batch "
            f"(lora_packed), and on ordinary rows of {config.example_tokens} tokens with as many "
            "positions (lora_rows); the ratio is to the faster one in each round."
        )
    if any(name.startswith("cuda_") for name in memory):
        notes.append(
            "Memory under `cuda_` is what torch allocated on the card, the peaks by its "
            "`max_memory_allocated` since all models were loaded; the driver and the kernels take "
            "more. The rest is the process's own resident memory."
        )

    ready = [name for name in rounds[0] if name.startswith("ready.")]
    return BenchResult(
        seconds=seconds,
        ratios=ratios,
        tokens_per_second=speeds,
        ready_parts={n.removeprefix("ready."): median(r[n] for r in rounds) for n in ready},
        memory_mb=memory,
        machine=machine,
        notes=tuple(notes),
    )


def _ratio(rounds: Sequence[Mapping[str, float]], of: str, to: str) -> float:
    return median(values[of] / values[to] for values in rounds)
