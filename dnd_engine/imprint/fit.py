"""Imprints instructions into one LoRA: query the model with them, then fit layer by layer.

Each prompt is read three ways, with the same answer behind it:

- *taught*: instruction and input, with the teacher's adapter active. Its states are the target, and
are kept while it answers.
- *bare*: the input alone, no adapter. This is what the imprint changes.
- *full*: instruction and input, no adapter. Fitted too, with less weight, so that the adapter also
does the task when the instruction is given.

The last two go through the blocks together, so each layer is fitted to what the layers below leave
uncorrected. The result starts from the bare base: the teacher's adapter is not part of it, and
ordinary messages, whose activity is the penalty, keep the base's answers.
"""

import random
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dnd_engine.config import ImprintConfig
from dnd_engine.errors import ImprintError
from dnd_engine.imprint.solve import Penalty, Update, solve
from dnd_engine.limits import check_positive
from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.lora.layout import LoRALayout, LoRASpec
from dnd_engine.lora.weight_tokens import tokenize
from dnd_engine.models.base import BaseModel, end_tokens
from dnd_engine.models.blocks import BlockPass, cut_rows
from dnd_engine.models.runtime import Runtime
from dnd_engine.notes import noted
from dnd_engine.scoring.answers import answer_in_batches
from dnd_engine.scoring.questions import Question

_MAX_ROWS = 1536
"""Maximum number of matched tokens to fit. Solving is cubic in their number, and four times as many
scored .01 more at most: 16 prompts with short answers have 32 to 400, and eight such buckets reach
the limit."""

MIN_EXPLAINED = 0.02
"""Layers whose update explains less of the change for left-out prompts stay unchanged."""

_MIN_GAIN = 1e-3
"""Lower bound on a norm's gains, relative to the largest, so that dividing by them stays finite."""

_Pair = tuple[tuple[int, ...], tuple[int, ...]]
"""Token ids of a prompt, whole and bare."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImprintStep:
    """Progress of an imprint."""

    stage: Literal["ask", "imprint"]
    done: int
    """Number of prompts asked, or of layers fitted."""
    total: int


@dataclass(frozen=True, slots=True)
class Source:
    """The prompts of one bucket, with their teacher and weight."""

    prompts: tuple[tuple[str, str], ...]
    """Pairs of the whole prompt and its input without the instruction."""
    teacher: FittedLoRA | None
    """Active while the model answers whole prompts; None is the base alone."""
    weight: float = 1.0
    """Above 0: a regression has no negative shares."""

    def __post_init__(self) -> None:
        check_positive(self, "weight")


@dataclass(frozen=True, slots=True)
class Imprinted:
    """An imprint as weight tokens, with its quality of fit."""

    tokens: Float[Tensor, "tokens rows cols"]
    layout: LoRALayout
    num_by_source: tuple[int, ...]
    """Number of fitted prompts of each source."""
    too_long_by_source: tuple[int, ...]
    """Number of prompts of each source that were too long to be fitted."""
    num_answers: int
    """Number of distinct answers."""
    commonest_share: float
    """Share of the prompts with the most common answer."""
    commonest_by_source: tuple[float, ...]
    """The same for the prompts of each source; 0 without any."""
    unfinished: int
    """Number of truncated answers."""
    layers: tuple[float, ...]
    """Share of the wanted change that each layer predicts for left-out prompts; 0 for an unchanged
    layer."""

    @property
    def num_prompts(self) -> int:
        """Return the number of fitted prompts."""
        return sum(self.num_by_source)


@dataclass(frozen=True, slots=True)
class Turn:
    """One prompt with its answer, as token ids."""

    full: tuple[int, ...]
    bare: tuple[int, ...]
    answer: tuple[int, ...]
    """Includes the end of turn unless it was truncated."""
    offsets: Sequence[int]
    """Positions in the answer to read, by the states that predict them."""


@dataclass(frozen=True, slots=True)
class _Row(Turn):
    """A turn of one source, answered by its teacher."""

    source: int
    taught: Float[Tensor, "layers matched width"]
    """States at the offsets, as the teacher has them after each fitted layer."""


PromptOf = Callable[[Turn], tuple[int, ...]]
"""Selects the prompt of a turn to read."""

full_of: PromptOf = attrgetter("full")
bare_of: PromptOf = attrgetter("bare")


class Reading:
    """A pass over turns that gives the states at their offsets, turn by turn."""

    def __init__(self, base: BaseModel, turns: Sequence[Turn], prompt: PromptOf) -> None:
        self.blocks = BlockPass(base, [_tokens(turn, prompt) for turn in turns])
        at = [
            places[len(prompt(turn)) - 1 + offset]
            for turn, places in zip(turns, self.blocks.places, strict=True)
            for offset in turn.offsets
        ]
        self._at = torch.tensor(at, device=base.device)

    def states(self) -> Float[Tensor, "matched width"]:
        """Return the states, in float32."""
        return self.blocks.states[self._at].float()

    def inputs(self) -> Float[Tensor, "matched inputs"]:
        """Return the inputs of the last block's `down_proj`, in float32."""
        assert self.blocks.inputs is not None
        return self.blocks.inputs[self._at].float()

    def sizes(self) -> Float[Tensor, " matched"]:
        """Return the sizes of that layer's outputs, if a norm follows them."""
        sizes = self.blocks.sizes
        assert sizes is not None
        return sizes[self._at].clamp(min=1e-6)

    def hidden(self) -> Float[Tensor, "matched width"]:
        """Return the last hidden states."""
        return self.blocks.hidden[self._at]

    def apply(self, a: Float[Tensor, "r inputs"], b: Float[Tensor, "outputs r"]) -> None:
        """Add an update of the last block's `down_proj` to the states."""
        self.blocks.add(a.to(self.blocks.states), b.to(self.blocks.states))


def _tokens(turn: Turn, prompt: PromptOf) -> tuple[int, ...]:
    """Return the tokens to read, without the answer's last, which predicts nothing."""
    return prompt(turn) + turn.answer[:-1]


def first_layer(num_layers: int, config: ImprintConfig, num_sources: int = 1) -> int:
    """Return the lowest layer that is fitted, for one source or for several together."""
    share = config.first_layer_share if num_sources == 1 else config.mix_first_layer_share
    return int(num_layers * share)


def imprint_layout(base: Mapping[str, Any], config: ImprintConfig) -> LoRALayout:
    """Return the layout of an imprint: `down_proj` of every layer of a base with this config."""
    spec = LoRASpec(r=config.r, lora_alpha=config.r, target_modules=("down_proj",))
    return LoRALayout.from_config(base, spec)


def imprint(
    runtime: Runtime,
    sources: Sequence[Source],
    penalties: Mapping[int, Penalty],
    config: ImprintConfig,
) -> Generator[ImprintStep, None, Imprinted]:
    """Fit one adapter to all sources, step by step; closing the iterator cancels.

    Args:
        runtime: Runtime of the base; its lock is held for one batch or block at a time.
        sources: Prompts to imprint. Each matched token of a prompt has its source's weight, divided
            by the number of the source's prompts, so longer answers weigh more.
        penalties: Cost of changing ordinary outputs, by fitted layer (see `ordinary`).
        config: Rank, layers and limits.

    Yields:
        Progress, after every batch of answers and every layer.

    Returns:
        The adapter, by `yield from` or `StopIteration.value`.

    Raises:
        ImprintError: If no prompt is short enough, every answer is empty, or nothing fits.
    """
    base = runtime.base
    first = first_layer(base.num_layers, config, len(sources))
    short = [_short_enough(base, source, config) for source in sources]
    rows = yield from _ask(runtime, sources, short, config, first)
    explained: list[float] = []
    layout = imprint_layout(base.config, config)
    state: dict[str, Tensor] = {}
    walk = _Walk(runtime, sources, rows, first, config)
    matrices = tuple(layout.matrices())
    for down, up in zip(matrices[0::2], matrices[1::2], strict=True):
        layer = down.target.layer
        # Layer by layer, each fitted to what the layers below leave uncorrected: fitted
        # independently, each would make the whole change.
        walk.advance(layer)
        a = torch.zeros(config.r, down.long, dtype=torch.float32)
        b = torch.zeros(up.long, config.r, dtype=torch.float32)
        share = 0.0
        if layer >= first:
            update = walk.solve(layer, penalties[layer])
            # A layer that predicts nothing for left-out prompts would only memorise the fitted
            # ones. With a single prompt nothing can be left out.
            if update.explained > MIN_EXPLAINED or len(rows) == 1:
                share = update.explained
                # Both factors equally large, so that gradient steps from here change neither more.
                root = update.a.norm(dim=1).clamp(min=1e-12).sqrt()
                a, b = _stored(update.a / root[:, None]), _stored(update.b * root)
                walk.apply(a, b)
        explained.append(share)
        state |= {down.key: a, up.key: b}
        yield ImprintStep(stage="imprint", done=layer + 1, total=base.num_layers)
    if not any(explained) and len(rows) > 1:
        raise ImprintError(
            noted(
                "no layer predicts what the instruction does to a prompt that it was not fitted "
                "to. Add prompts of the same kind, or use one instruction for all of them."
            )
        )
    answers = Counter(row.answer for row in rows)
    by_source: list[Counter[tuple[int, ...]]] = [Counter() for _ in sources]
    for row in rows:
        by_source[row.source][row.answer] += 1
    return Imprinted(
        tokens=tokenize(state, layout).to(torch.bfloat16),
        layout=layout,
        num_by_source=tuple(found.total() for found in by_source),
        too_long_by_source=tuple(
            len(source.prompts) - len(pairs) for source, pairs in zip(sources, short, strict=True)
        ),
        num_answers=len(answers),
        commonest_share=max(answers.values()) / len(rows),
        commonest_by_source=tuple(
            max(found.values(), default=0) / max(1, found.total()) for found in by_source
        ),
        unfinished=sum(row.answer[-1] not in end_tokens(base) for row in rows),
        layers=tuple(round(share, 3) for share in explained),
    )


def _stored(weight: Tensor) -> Tensor:
    """Round as the adapter's file does, so that later layers are fitted to the stored weights."""
    return weight.to(torch.bfloat16).float().cpu()


def _ask(
    runtime: Runtime,
    sources: Sequence[Source],
    short: Sequence[Sequence[_Pair]],
    config: ImprintConfig,
    first: int,
) -> Generator[ImprintStep, None, list[_Row]]:
    """Let each source's teacher answer its whole prompts greedily; keep states from `first` up."""
    end = runtime.base.turn_end
    # Buckets share the limit evenly, so that a large one cannot crowd out the others.
    share = min(config.max_bucket_prompts, max(1, config.max_prompts // len(sources)))
    asked = [
        random.Random(config.seed).sample(pairs, share) if len(pairs) > share else pairs
        for pairs in short
    ]
    total = sum(map(len, asked))
    if not total:
        raise ImprintError(
            "every prompt has more than {most} tokens, and imprint reads shorter ones only: up to "
            "about {words} words. Shorten some.",
            most=config.max_tokens,
            words=config.max_tokens * 3 // 4,
        )
    rng, rows = random.Random(config.seed), list[_Row]()
    yield ImprintStep(stage="ask", done=0, total=total)
    done = 0
    for number, (source, prompts) in enumerate(zip(sources, asked, strict=True)):
        questions = [Question(full, (end,), (), config.max_answer_tokens) for full, _ in prompts]
        for batch in answer_in_batches(runtime, questions, source.teacher, watch_from=first):
            for n, one in batch:
                if not one.ids:
                    continue  # an empty answer says nothing about the instruction
                answer = questions[n].answered(one)
                assert one.states is not None
                rows.append(_Row(*prompts[n], answer, range(len(answer)), number, one.states))
            # After every batch, so that states of long answers are not kept for nothing.
            rows = _thinned(rows, rng)
            done += len(batch)
            yield ImprintStep(stage="ask", done=done, total=total)
    if not rows:
        raise ImprintError(
            noted(
                "the model answers nothing to these prompts, even with their instruction. Word the "
                "instruction so that it asks for an answer."
            )
        )
    return rows


def _short_enough(base: BaseModel, source: Source, config: ImprintConfig) -> list[_Pair]:
    """Return token ids of the prompts that imprint reads, whole and bare."""
    ids = [(base.chat_ids(full), base.chat_ids(bare)) for full, bare in source.prompts]
    return [pair for pair in ids if len(pair[0]) <= config.max_tokens]


def _thinned(rows: list[_Row], rng: random.Random) -> list[_Row]:
    """Match fewer tokens of the longest answers, until all together are within the limit.

    Each answer keeps its first: that token decides the rest.
    """
    # Each token is matched twice, bare and full.
    most = _fair_share([len(row.offsets) for row in rows], _MAX_ROWS // 2)
    thinned = []
    for row in rows:
        if len(row.offsets) <= most:
            thinned.append(row)
            continue
        kept = [0, *sorted(rng.sample(range(1, len(row.offsets)), most - 1))]
        offsets = tuple(row.offsets[place] for place in kept)
        thinned.append(replace(row, offsets=offsets, taught=row.taught[:, kept]))
    return thinned


def _fair_share(lengths: Sequence[int], total: int) -> int:
    """Return how much each may take of a total, when short ones leave what they do not need."""
    left = total
    for done, length in enumerate(sorted(lengths)):
        share = left // (len(lengths) - done)
        if length > share:
            return max(1, share)
        left -= length
    return max(lengths, default=1)


class _Walk:
    """The bare and the full reading of every row, between two blocks.

    Values of matched tokens come in the order of the rows: bare, then full.
    """

    # Each method enters inference mode by itself: a suspended generator would leave its mode on for
    # its caller.
    @torch.inference_mode()
    def __init__(
        self,
        runtime: Runtime,
        sources: Sequence[Source],
        rows: Sequence[_Row],
        first: int,
        config: ImprintConfig,
    ) -> None:
        self._runtime, self._rows, self._first, self._config = runtime, rows, first, config
        base = runtime.base
        self._readings: list[Reading] = []
        owners_read: list[int] = []
        # Match whole prompts too: with the instruction, the adapter should still answer as the
        # teacher does.
        for before, prompt in ((0, bare_of), (len(rows), full_of)):
            for cut in cut_rows([_tokens(row, prompt) for row in rows]):
                self._readings.append(Reading(base, [rows[n] for n in cut], prompt))
                owners_read += [before + n for n in cut for _ in rows[n].offsets]
        self._order = torch.argsort(torch.tensor(owners_read), stable=True).to(base.device)
        per_source = Counter(row.source for row in rows)
        counts = torch.tensor([len(row.offsets) for row in rows])
        owners = torch.arange(len(rows)).repeat_interleave(counts)
        mean = len(rows) / len(per_source)
        weight = torch.tensor(
            # Divide by the number of prompts, so that a bucket's weight does not depend on it. By
            # the number of tokens gains nothing clear (docs/LOG.md, 1 December).
            [sources[row.source].weight * mean / per_source[row.source] for row in rows],
            dtype=torch.float32,
        )[owners]
        self.groups: Int[Tensor, " matched"] = torch.cat([owners, owners]).to(base.device)
        """Index of the prompt that each matched token belongs to."""
        self.weights: Float[Tensor, " matched"] = torch.cat(
            [weight, weight * config.full_weight]
        ).to(base.device)

    @torch.inference_mode()
    def advance(self, layer: int) -> None:
        """Run one block of both readings."""
        for reading in self._readings:
            with self._runtime.lock:
                reading.blocks.advance(layer)

    @torch.inference_mode()
    def solve(self, layer: int, penalty: Penalty) -> Update:
        """Fit `down_proj` of the block that ran last to what the matched states lack, in float32.

        If a norm follows `down_proj`, a change of its output reaches the states divided by that
        output's size and multiplied by the norm's gains. So wanted changes are multiplied by the
        sizes, without changing a row's weight, and B is divided by the gains. A norm also removes
        the part of a change that is parallel to the output; that part is lost.
        """
        taught = torch.cat([row.taught[layer - self._first] for row in self._rows]).float()
        # Relative to the current states, which include the changes of lower layers.
        changes, weights = taught.repeat(2, 1) - self._read(Reading.states), self.weights
        gains = self._readings[0].blocks.gains
        if gains is not None:
            sizes = self._read(Reading.sizes)
            changes = changes * sizes[:, None]
            weights = weights / sizes.square() * sizes.square().mean()
        update = solve(
            self._read(Reading.inputs),
            changes,
            self.groups,
            weights,
            penalty,
            ridge=self._config.ridge,
            ordinary_change=self._config.ordinary_change,
            r=self._config.r,
        )
        if gains is None:
            return update
        least = _MIN_GAIN * float(gains.abs().max())
        small = gains.abs() < least
        gains = torch.where(small, torch.full_like(gains, least).copysign(gains), gains)
        return replace(update, b=update.b / gains[:, None])

    @torch.inference_mode()
    def apply(self, a: Float[Tensor, "r inputs"], b: Float[Tensor, "outputs r"]) -> None:
        """Apply the adapter's change to both readings."""
        for reading in self._readings:
            reading.apply(a, b)

    def _read(self, values: Callable[[Reading], Tensor]) -> Tensor:
        return torch.cat([values(reading) for reading in self._readings])[self._order]
