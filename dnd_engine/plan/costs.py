"""Operations, memory, time and money of every phase, for a base, a workload and a machine.

Formulas only. Operations are the multiplications and additions of matrix products, as torch counts
them; tests compare them with torch's count of real runs.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from dnd_engine.config import ImprintConfig
from dnd_engine.limits import check_between
from dnd_engine.lora.layout import LoRASpec
from dnd_engine.plan.decoders import OUR_STAGES, our_decoder, papers_decoder, papers_spec
from dnd_engine.plan.hardware import Hardware
from dnd_engine.plan.shapes import BaseShape, read_shape

_ENCODER_PARAMETERS = 10_646_784
"""Parameters of the linear layers of all-MiniLM-L6-v2, without its embeddings."""
_WHOLE_ENCODER = 22_700_000
"""All its parameters."""
_BF16, _FP32 = 2, 4
_STATES = 16
"""Bytes per trained parameter: value, gradient and AdamW's two moments in float32."""
_USABLE = 0.9
"""Share of a card's memory that a run may use."""
_MAX_CARDS = 1024
"""Up to how many cards are tried for a training step."""
_GATHERED = 2
"""Blocks that `models.sharding`, which imports torch, makes whole at the same time."""
_EIGEN = 9
"""Operations of a symmetric eigendecomposition, divided by the cube of its size (Golub & Van
Loan)."""

_DIRECTIONS, _EXACT_WIDTH, _SPARE, _ROUNDS = 512, 2048, 64, 3
"""Those of `imprint.ordinary` and `imprint.solve`, which import torch: directions that a layer's
penalty keeps; up to which width all are computed; and how the leading ones of wider layers are
searched."""

_ENCODER_LAYERS, _DECODER_STAGES, _ENCODER_BATCH = 6, 5, 16
_ROW_FILL = 0.87
"""Measured fill of training rows: of 256 tokens, 222 are used before no other example fits."""

_IMPRINT = ImprintConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Amounts of training, synthesis and imprint."""

    tasks: int = 700
    """Tasks with one LoRA each, if checkpoints are collected; end-to-end training needs none."""
    lora_steps: int = 40
    lora_examples: int = 8
    example_tokens: int = 64
    steps: int = 2300
    """Steps of generator training, as for the shipped generator in two runs: 1,300 and 1,000."""
    tasks_per_step: int = 8
    row_tokens: int = 256
    """Tokens per task in a step."""
    answer_tokens: int = 8
    """Tokens of an answer, the only ones that reach the output layer and have a loss."""
    paper_steps: int = 5000
    paper_batch: int = 48
    """Prompt batches per step in the paper's training."""
    prompts: int = 128
    """Prompts per synthesis."""
    imprint_prompts: int = 16
    """Prompts that are fitted, without those left out to test it."""
    imprint_tokens: int = 48
    """Tokens per prompt with its instruction, chat template included, as in the everyday tasks."""
    imprint_shared_tokens: int = 32
    """How many of them are the same in all prompts: the template's beginning, the instruction."""
    imprint_answer_tokens: int = _IMPRINT.max_answer_tokens // 3
    """Average tokens of an answer: most end long before the limit."""
    ordinary_tokens: int = 7800
    """Tokens of the shipped ordinary messages and their answers, read once per base."""

    def __post_init__(self) -> None:
        # Far beyond any training, and small enough for products of several to be numbers.
        check_between(self, 1, 10**9, *self.__slots__)


Mark = Literal["derived", "measured"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number of a plan."""

    key: str
    title: str
    value: float | None
    """None if undefined, such as the break-even of training that never pays off."""
    unit: str
    mark: Mark = "derived"
    """`derived` from the config and the tables by a formula, or `measured` in a run."""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Cost of a generator for one base on one machine."""

    shape: BaseShape
    hardware: Hardware
    workload: Workload
    figures: tuple[Figure, ...]

    def __getitem__(self, key: str) -> float | None:
        return {f.key: f.value for f in self.figures if f.mark == "derived"}[key]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object that `dnd plan --json` prints."""
        cards = self["training_cards"]
        return {
            "base": self.shape.name,
            "r": self.shape.layout.spec.r,
            "hardware": asdict(self.hardware),
            "workload": asdict(self.workload),
            "figures": [asdict(figure) for figure in self.figures],
            # Our trainer splits a base over as many processes as a step has tasks.
            "trainable_here": cards is not None and cards <= self.workload.tasks_per_step,
        }


def make_plan(
    base: str,
    spec: LoRASpec,
    hardware: Hardware,
    workload: Workload,
    measured: Mapping[str, Mapping[str, Any]] | None = None,
) -> Plan:
    """Estimate the costs for one base.

    Each figure in `measured` has a `value` and its `source`, shown after the derived one.

    Raises:
        ConfigError, LayoutError: If there is no such base, or it is not supported.
    """
    # The paper's rank depends on the size of the base, which only a shape tells.
    shape, papers = read_shape(base, spec), read_shape(base, LoRASpec())
    papers = read_shape(base, papers_spec(papers))
    figures = [*_sizes(shape, papers), *_Costs(shape, papers, hardware, workload).figures()]
    by_key = {figure.key: figure for figure in figures}
    for key, run in (measured or {}).items():
        figure = by_key[key]
        figures.insert(
            figures.index(figure) + 1,
            Figure(
                key=key,
                title=f"{figure.title}, measured",
                value=float(run["value"]),
                unit=figure.unit,
                mark="measured",
                note=str(run["source"]),
            ),
        )
    return Plan(shape=shape, hardware=hardware, workload=workload, figures=tuple(figures))


def _sizes(shape: BaseShape, papers: BaseShape) -> Iterator[Figure]:
    layout = shape.layout
    paper, released = papers_decoder(papers)
    ours = our_decoder(layout)
    note = "the authors' stages" if released else "the authors' stages for the next size"
    lora, theirs = layout.num_parameters, papers.layout
    generator_bytes = (ours.parameters + lora) * _FP32
    papers_lora = f"The paper's LoRA, r {theirs.spec.r}"
    figures = (
        ("parameters", "Base", shape.parameters, "parameters", ""),
        ("matrices", "LoRA matrices", 2 * len(layout.targets), "matrices", ""),
        ("lora_parameters", "LoRA", lora, "parameters", ""),
        ("weight_tokens", "Weight tokens", layout.num_tokens, "tokens", ""),
        ("adapter_bytes", "Adapter file", lora * _BF16, "bytes", ""),
        ("decoder", "Our decoder", ours.parameters, "parameters", ""),
        ("generator_bytes", "Our generator's file", generator_bytes, "bytes", ""),
        ("paper_lora_parameters", papers_lora, theirs.num_parameters, "parameters", ""),
        ("paper_decoder", "The paper's decoder", paper.parameters, "parameters", note),
    )
    for key, title, value, unit, said in figures:
        yield Figure(key=key, title=title, value=value, unit=unit, note=said)


@dataclass(frozen=True, slots=True)
class _Costs:
    """Phases of one base, from collection to imprint."""

    shape: BaseShape
    papers: BaseShape
    hardware: Hardware
    work: Workload

    def figures(self) -> Iterator[Figure]:
        """Yield operations, memory, seconds and dollars per phase, then their totals."""
        shape, work, seconds_of = self.shape, self.work, self.hardware.seconds
        layers = shape.num_layers
        tokens = work.lora_examples * work.example_tokens
        answers = work.lora_examples * work.answer_tokens
        flops = work.lora_steps * _backed_flops(shape, tokens, answers)
        lora = seconds_of(flops, work.lora_steps * layers, trains=True)
        memory_gb = self._memory(tokens, shape.layout.num_parameters)
        yield from self._phase("lora", "One LoRA run", flops, lora, memory_gb)
        title = f"Collecting {work.tasks} LoRAs"
        flops, collection = flops * work.tasks, lora * work.tasks
        yield from self._phase("collection", title, flops, collection, memory_gb)

        flops = work.steps * training_step_flops(shape, work)
        training = seconds_of(flops, work.steps * layers, trains=True)
        memory_gb = self._memory(_row_tokens(work, work.tasks_per_step), self._trained)
        yield from self._phase("training", "Training our generator", flops, training, memory_gb)

        title = "Training the paper's decoder"
        paper, _ = papers_decoder(self.papers)
        # For each product of the forward pass, a backward pass takes two: the gradients of inputs
        # and of weights.
        flops = 3.0 * paper.forward_flops * work.paper_batch * work.paper_steps
        # No layers of the base: reconstruction compares weights and never runs it.
        papers = seconds_of(flops, 0, trains=True)
        # The gradient of one prompt batch's activations is small compared to the decoder's states.
        memory_gb = paper.parameters * _STATES / 1e9
        yield from self._phase("paper_training", title, flops, papers, memory_gb)

        title = f"Synthesis, {work.prompts} prompts"
        flops, seconds = self._synthesis_flops(), self._synthesis_seconds()
        memory_gb = (shape.parameters + self._trained + _WHOLE_ENCODER) * _BF16 / 1e9
        yield from self._phase("synthesis", title, flops, seconds, memory_gb)

        title = f"Imprint, {work.imprint_prompts} prompts"
        readings, regressions = self._reading_flops(), self._regression_flops()
        # One pass for each token of an answer, and two readings.
        passes = layers * (work.imprint_answer_tokens + 2)
        seconds = seconds_of(readings, passes, trains=False, float32_flops=regressions)
        memory_gb = self._imprint_bytes() / 1e9
        yield from self._phase("imprint", title, readings + regressions, seconds, memory_gb)

        title = "Measuring ordinary activity, once"
        # Twice: while the base answers, and again layer by layer.
        messages = float(2 * shape.block_parameters * work.ordinary_tokens * 2)
        penalty = penalty_flops(shape.intermediate_size, work.ordinary_tokens)
        penalties = float(self._fitted_layers() * penalty)
        seconds = seconds_of(messages, passes, trains=False, float32_flops=penalties)
        memory_gb = (self._imprint_bytes() + self._penalty_bytes()) / 1e9
        yield from self._phase("ordinary", title, messages + penalties, seconds, memory_gb)
        yield self._pays("break_even", "Tasks until our training pays", training, lora)
        invested = papers + collection  # reconstruction first needs a LoRA of every task
        yield self._pays("paper_break_even", "Tasks until the paper's pays", invested, lora)

    def _phase(
        self, key: str, title: str, flops: float, seconds: float, memory_gb: float
    ) -> Iterator[Figure]:
        cards: int | None = max(1, math.ceil(memory_gb / self._room_gb))
        how = "which this program cannot do"
        if key == "training":
            cards = self._training_cards(memory_gb)
            if cards and cards <= self.work.tasks_per_step:
                how = "as `shard_base` does"
        note = "" if cards in (1, None) else f"if {cards} split the model, {how}"
        # Cards are assumed to share work without loss: several take less time, and cost as much.
        values = (
            ("flops", "operations", flops, "FLOP", ""),
            ("memory_gb", "memory", memory_gb, "GB", ""),
            ("cards", "machines that hold it", cards, "machines", ""),
            ("seconds", "wall time", seconds / cards if cards else None, "s", note),
            ("dollars", "money", seconds / 3600 * self.hardware.dollars_per_hour, "$", ""),
        )
        for name, words, value, unit, more in values:
            yield Figure(
                key=f"{key}_{name}", title=f"{title}: {words}", value=value, unit=unit, note=more
            )

    @property
    def _room_gb(self) -> float:
        return _USABLE * self.hardware.memory_gb

    @property
    def _trained(self) -> int:
        """Trained parameters of a generator: the decoder, and what all adapters share."""
        return our_decoder(self.shape.layout).parameters + self.shape.layout.num_parameters

    def _training_cards(self, memory_gb: float) -> int | None:
        """Return how many cards hold a training step; None if even very many do not.

        Each holds its part of the base, the whole training state, and what its own tasks store.
        """
        if memory_gb <= self._room_gb:
            return 1
        tasks = self.work.tasks_per_step
        for cards in range(2, _MAX_CARDS + 1):
            tokens = _row_tokens(self.work, math.ceil(tasks / cards))
            own = self._trained * _STATES + saved_bytes(self.shape, tokens)
            if (shard_bytes(self.shape, cards) + own) / 1e9 <= self._room_gb:
                return cards
        return None

    def _pays(self, key: str, title: str, invested: float, lora_seconds: float) -> Figure:
        saved = lora_seconds - self._synthesis_seconds()
        tasks = math.ceil(invested / saved) if saved > 0 else None
        return Figure(key=key, title=title, value=tasks, unit="tasks")

    def _synthesis_seconds(self) -> float:
        batches = -(-self.work.prompts // _ENCODER_BATCH)
        passes = batches * _ENCODER_LAYERS + _DECODER_STAGES
        return self.hardware.seconds(self._synthesis_flops(), passes, trains=False)

    def _memory(self, tokens: int, trained: int) -> float:
        """Return the gigabytes of a training step, without torch's own."""
        activations = saved_bytes(self.shape, tokens)
        return (self.shape.parameters * _BF16 + trained * _STATES + activations) / 1e9

    def _synthesis_flops(self) -> float:
        prompts, length, _ = OUR_STAGES[0]
        batches = -(-self.work.prompts // prompts)
        read = 2 * _ENCODER_PARAMETERS * length * self.work.prompts
        decoder = our_decoder(self.shape.layout)
        before_last = decoder.forward_flops - decoder.last_flops
        return float(read + batches * before_last + decoder.last_flops)

    def _reading_flops(self) -> float:
        """Count the operations of an imprint's answers, and of two more readings per prompt."""
        shape, work = self.shape, self.work
        count = work.imprint_prompts
        shared = min(work.imprint_shared_tokens, work.imprint_tokens)
        answer = work.imprint_answer_tokens
        # What prompts share is computed once. Without the instruction it is less, but a batch of
        # many prompts computes it again.
        tokens = shared + count * (work.imprint_tokens - shared + answer)
        read = 3 * 2 * shape.block_parameters * tokens
        asked = 2 * shape.head_parameters * count * answer
        return float(read + asked)

    def _regression_flops(self) -> float:
        """Count the operations of an imprint's regressions, which are in float32."""
        wide, out = self.shape.intermediate_size, self.shape.hidden_size
        # Bare and full readings are both fitted, a row for each token of the answer.
        rows = 2 * self.work.imprint_prompts * self.work.imprint_answer_tokens
        # `solve` looks for eigenvectors in the smaller space.
        least = min(rows, out)
        regression = (
            4 * rows * wide * _DIRECTIONS  # inputs times the penalty's inverse
            + 2 * rows**2 * wide  # the Gram matrix
            + 2 * rows**2 * out  # the solution
            + 2 * rows**3  # its factor, and the prompts left out
            + 4 * rows * least * out  # the cut to a rank, with the next term
            + _EIGEN * least**3
        )
        return float(self._fitted_layers() * regression)

    def _fitted_layers(self) -> int:
        first = int(self.shape.num_layers * _IMPRINT.first_layer_share)
        return self.shape.num_layers - first

    def _imprint_bytes(self) -> float:
        """Return the bytes of base, packed copy, encoder, and the penalty of every fitted layer."""
        weights = (self.shape.parameters + _WHOLE_ENCODER) * _BF16
        penalty = self._fitted_layers() * _DIRECTIONS * self.shape.intermediate_size * _FP32
        return weights + self._packed_bytes() + penalty

    def _packed_bytes(self) -> int:
        """Return the bytes of the packed copy of linear layers; see `models.packed`."""
        copy = (self.shape.block_parameters + self.shape.head_parameters) * _BF16
        free = self.hardware.memory_gb * 1e9 - self.shape.parameters * _BF16
        return copy if self.hardware.packs_weights and 2 * copy <= free else 0

    def _penalty_bytes(self) -> float:
        """Return the bytes of computing one layer's penalty: inputs, scaled inputs, directions."""
        wide = self.shape.intermediate_size
        return (2 * self.work.ordinary_tokens + 3 * _searched(wide)) * wide * _FP32


def penalty_flops(wide: int, tokens: int) -> int:
    """Count the operations of the penalty of a layer with `tokens` inputs of width `wide`.

    Up to a certain width, the penalty uses all directions; above it, a search for the leading ones.
    """
    if wide <= _EXACT_WIDTH:
        return 2 * tokens * wide**2 + _EIGEN * wide**3
    searched = _searched(wide)
    return (
        (4 * _ROUNDS + 2) * tokens * wide * searched  # two products a round, and the image
        + 4 * _ROUNDS * wide * searched**2  # the orthogonal basis of each round
        + 2 * tokens * searched**2
        + _EIGEN * searched**3  # eigenvectors in the image
        + 2 * wide * searched * _DIRECTIONS  # turned back
    )


def _searched(wide: int) -> int:
    """Return the number of directions that a penalty is computed with."""
    return wide if wide <= _EXACT_WIDTH else _DIRECTIONS + _SPARE


def _backed_flops(shape: BaseShape, tokens: int, answers: int) -> float:
    """Count the operations of a forward and backward pass with one LoRA per row.

    A frozen weight takes two products, forward and for the gradient of its inputs; a LoRA's weight
    takes three.
    """
    return float(
        4 * shape.block_parameters * tokens
        + 4 * shape.head_parameters * answers
        + 6 * shape.layout.num_parameters * tokens
    )


def training_step_flops(shape: BaseShape, work: Workload) -> float:
    """Count the operations of one end-to-end step: base, LoRAs, and the decoder per task."""
    tokens = _row_tokens(work, work.tasks_per_step)
    answers = tokens * work.answer_tokens // work.example_tokens
    decoder = 3 * our_decoder(shape.layout).forward_flops * work.tasks_per_step
    return _backed_flops(shape, tokens, answers) + decoder


def _row_tokens(work: Workload, tasks: int) -> int:
    return round(tasks * work.row_tokens * _ROW_FILL)


def shard_bytes(shape: BaseShape, cards: int) -> int:
    """Return the bytes of weights in bfloat16 that each card holds with `shard_base`.

    A share of all blocks, the gathered ones, and everything outside the blocks.
    """
    blocks = _BF16 * (shape.parameters - shape.outer_parameters)
    gathered = _GATHERED * blocks // shape.num_layers
    return _BF16 * shape.outer_parameters + blocks // cards + gathered


def saved_bytes(shape: BaseShape, tokens: int) -> int:
    """Return the bytes that a forward pass in bfloat16 stores for its gradient.

    Per token and layer: 8 hidden and 4 intermediate widths, 2 of keys or values and 7 ranks. Exact
    for PyTorch's Llama-style blocks with fused attention.
    """
    units = (
        8 * shape.hidden_size
        + 4 * shape.intermediate_size
        + 2 * shape.key_value_size
        + len(shape.layout.spec.target_modules) * shape.layout.spec.r
    )
    return units * _BF16 * tokens * shape.num_layers
