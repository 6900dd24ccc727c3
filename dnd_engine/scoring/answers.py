"""Batched inference on test items, with one adapter per group of items.

For every item it computes the loss of reference and options, and generates an answer. Each prompt
is read once for all of these. The common prefix of a group's prompts (chat prefix, instruction,
few-shot examples) is read once per group, and its cache copied to the rows; finished rows leave the
batch. Knows token ids and adapters; knows no tasks and no metrics.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, pairwise
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dnd_engine.lora.apply import FittedLoRA
from dnd_engine.models.base import end_tokens
from dnd_engine.models.key_values import KeyValues
from dnd_engine.models.new_tokens import NewTokens, StateWatch, left_padded, shared_length
from dnd_engine.models.runtime import Runtime
from dnd_engine.models.turns import is_patient
from dnd_engine.scoring.questions import Answer, Question

_T = TypeVar("_T")

_Place = tuple[int, int]
"""Indices of a group and of a question in it."""

_FORWARD_TOKENS = 1024
"""Positions per forward pass while reading, including padding. On a CPU the time per token is the
same from 256 to 2,048."""

_PATIENT_TOKENS = 256
"""Positions per forward pass of a check: a chat waits for one pass at most."""

_SPREAD = 1.25
"""Maximum ratio of lengths in one pass. Beyond it, padding costs more than another pass."""

_MAX_ROWS = 64
"""Rows generated at once. A step for 64 rows costs little more than one for 16."""

_MAX_CACHED = 12_288
"""Positions in a cache: about 300 MB for the embedded base, and briefly twice that."""

_SIMILAR_NEW_TOKENS = 32
"""Answers are batched with others of a similar maximum length."""

_WORTH_DROPPING = 0.9
"""Finished rows are dropped once the batch shrinks to this share, because that copies the cache."""


def batches(groups: Sequence[Sequence[Question]], *, shared: bool) -> list[list[list[_Place]]]:
    """Group questions of similar length into batches that fit.

    Args:
        groups: Groups of questions, one per adapter.
        shared: All groups have the same adapter, so their questions may be combined in any
            number.

    Returns:
        The places of each batch, by group. With `shared` there is one group; without, each has
        questions of one group of `groups`.
    """
    lengths = [[question.length for question in group] for group in groups]

    def fits(parts: Sequence[Sequence[_Place]]) -> bool:
        # Every group of a batch has as many rows as its largest.
        rows = len(parts) * max(map(len, parts))
        longest = max(lengths[g][q] for part in parts for g, q in part)
        return rows <= _MAX_ROWS and rows * longest <= _MAX_CACHED

    def size(place: _Place) -> tuple[int, int]:
        """Answer length first, then prompt length, to reduce padding."""
        g, q = place
        return groups[g][q].max_new_tokens // _SIMILAR_NEW_TOKENS, lengths[g][q]

    def cut(places: Iterable[_Place]) -> list[list[_Place]]:
        return _runs(sorted(places, key=size), lambda part, place: fits([[*part, place]]))

    places = [[(g, q) for q in range(len(group))] for g, group in enumerate(groups)]
    if shared:
        return [[part] for part in cut(chain.from_iterable(places))]
    parts = chain.from_iterable(map(cut, places))
    ordered = sorted(parts, key=lambda part: size(part[-1]))
    return _runs(ordered, lambda batch, part: fits([*batch, part]))


def answer_in_batches(
    runtime: Runtime,
    questions: Sequence[Question],
    active: FittedLoRA | None,
    *,
    watch_from: int | None = None,
) -> Iterator[list[tuple[int, Answer]]]:
    """Answer any number of questions under one adapter, those of similar length together.

    The runtime's lock is held for one batch at a time. `active` is one adapter, or None for the
    base alone; see `answer` for `watch_from`.

    Yields:
        Indices of the questions of one batch, with their answers.
    """
    for (part,) in batches([questions], shared=True):
        numbers = [number for _, number in part]
        asked = [questions[number] for number in numbers]
        found = answer_batch(runtime, asked, active, watch_from=watch_from)
        yield list(zip(numbers, found, strict=True))


def answer_all(
    runtime: Runtime, questions: Sequence[Question], active: FittedLoRA | None
) -> list[Answer]:
    """Answer any number of questions under one adapter, and keep their order."""
    found = dict(chain.from_iterable(answer_in_batches(runtime, questions, active)))
    return [found[number] for number in range(len(questions))]


def answer_batch(
    runtime: Runtime,
    questions: Sequence[Question],
    active: FittedLoRA | None,
    *,
    watch_from: int | None = None,
    log_probs: bool = False,
) -> list[Answer]:
    """Answer questions under one adapter in one batch, with the runtime's lock held."""
    with runtime.lock:
        (answers,) = answer(
            runtime, [questions], active, watch_from=watch_from, log_probs=log_probs
        )
    return answers


@torch.inference_mode()
def answer(
    runtime: Runtime,
    groups: Sequence[Sequence[Question]],
    active: FittedLoRA | None,
    *,
    watch_from: int | None = None,
    log_probs: bool = False,
) -> list[list[Answer]]:
    """Answer every question of a batch.

    Args:
        runtime: The frozen model. Hold its lock if other threads use it.
        groups: Questions, one non-empty group per adapter.
        active: One adapter per group, or None for the bare base.
        watch_from: Lowest block whose outputs to return with the answers; None returns none.
        log_probs: Whether to return how probable the generated answers are.

    Returns:
        Answers in the order of the questions.
    """
    # Without each prompt's last token, which must be read in a row of its own, since its state
    # predicts the answer.
    shared = [shared_length([q.prompt[:-1] for q in group]) for group in groups]
    openings = _Rows(runtime, active, len(groups), watch_from=watch_from)
    if any(shared):
        openings.read([group[0].prompt[:n] for group, n in zip(groups, shared, strict=True)])
    parts: list[_Rows] = []
    firsts: list[Tensor] = []
    losses: dict[tuple[int, int], dict[tuple[int, ...], float]] = {}
    for g, (group, start) in enumerate(zip(groups, shared, strict=True)):
        prompts = [q.prompt[start:] for q in group]
        offered = [tuple(dict.fromkeys((q.reference, *q.options))) for q in group]
        sizes = [len(p) + sum(map(len, o)) for p, o in zip(prompts, offered, strict=True)]
        # One pass for rows of similar length, each on a copy of the group's cache.
        for run in _passes(sizes):
            part = openings.copies(g, len(run))
            first, found = part.read_and_weigh([prompts[q] for q in run], [offered[q] for q in run])
            parts.append(part)
            firsts.append(first)
            losses |= {(g, q): nlls for q, nlls in zip(run, found, strict=True)}
    # Adapters apply to equal runs of rows, so pad a smaller group with copies of its last question.
    width = max(map(len, groups))
    # `losses` lists the questions in the order of their rows in `parts`.
    number = {at: row for row, at in enumerate(losses)}
    index = [
        number[g, min(q, len(group) - 1)] for g, group in enumerate(groups) for q in range(width)
    ]
    everyone = _Rows.joined(parts, index, active)
    limits = [
        group[q].max_new_tokens if q < len(group) else 0 for group in groups for q in range(width)
    ]
    written, states, likely = everyone.write(torch.cat(firsts)[index], limits, log_probs=log_probs)
    return [
        [
            Answer(
                losses[g, q][question.reference],
                tuple(losses[g, q][option] for option in question.options),
                written[g * width + q],
                states[g * width + q],
                likely[g * width + q],
            )
            for q, question in enumerate(group)
        ]
        for g, group in enumerate(groups)
    ]


class _Rows:
    """Rows of tokens with their cache, and the adapter of each equal run of rows."""

    def __init__(
        self,
        runtime: Runtime,
        active: FittedLoRA | None,
        num_rows: int,
        cache: KeyValues | None = None,
        *,
        watch_from: int | None,
    ) -> None:
        self.runtime = runtime
        self.watch_from = watch_from
        self.outputs: Float[Tensor, "blocks rows width"] | None = None
        """Block outputs at each row's last token, from the last pass, if they are watched."""
        self.forward = runtime.forward
        self.activate(active)
        self.cache = cache or self.forward.new_cache(num_rows)
        self.seen: Bool[Tensor, "rows keys"] = torch.zeros(
            num_rows, 0, dtype=torch.bool, device=runtime.base.device
        )
        """The cached positions that each row may attend to."""
        self.positions: Int[Tensor, " rows"] = torch.zeros(
            num_rows, dtype=torch.long, device=runtime.base.device
        )
        """Number of tokens each row has read, which is the position of its next token."""

    def activate(self, active: FittedLoRA | None) -> None:
        """Apply one adapter to each equal run of rows."""
        self.active = active
        self._prepared = self.forward.prepare(active)

    def copies(self, row: int, count: int) -> "_Rows":
        """Return copies of one row, with the adapter of its group."""
        active = None if self.active is None else _choose(self.active, [row])
        cache = self.cache.copies(row, count)
        rows = _Rows(self.runtime, active, count, cache, watch_from=self.watch_from)
        rows.seen = self.seen[row].expand(count, -1)
        rows.positions = self.positions[row].expand(count)
        return rows

    @classmethod
    def joined(
        cls, parts: Sequence["_Rows"], index: Sequence[int], active: FittedLoRA | None
    ) -> "_Rows":
        """Stack rows of several parts; `index` selects the row of each place."""
        cache = KeyValues.joined([part.cache for part in parts], index)
        rows = cls(parts[0].runtime, active, len(index), cache, watch_from=parts[0].watch_from)
        if rows.watch_from is not None:
            outputs = [part.outputs for part in parts if part.outputs is not None]
            rows.outputs = torch.cat(outputs, dim=1)[:, index]
        gaps = [cache.length - part.seen.shape[1] for part in parts]
        padded = [
            nn.functional.pad(part.seen, (0, gap)) for part, gap in zip(parts, gaps, strict=True)
        ]
        rows.seen = torch.cat(padded)[index]
        rows.positions = torch.cat([part.positions for part in parts])[index]
        return rows

    def read(self, rows: Sequence[tuple[int, ...]]) -> Float[Tensor, "rows width"]:
        """Read more tokens in each row and return the state at each row's last token."""
        device = self.runtime.base.device
        ids, real = left_padded(rows, device)
        positions = self.positions[:, None] + (real.cumsum(dim=1) - 1).clamp(min=0)
        # `seen` grows only after the last slice; until then `visible` covers all new positions.
        for new in _slices(ids.shape[1], len(rows)):
            visible = real[:, None, : new.stop] & _causal(new, device)
            last = torch.full((len(rows),), new.stop - new.start - 1, device=device)
            hidden = self._forward(ids[:, new], positions[:, new], visible, last)
        self.seen = torch.cat([self.seen, real], dim=1)
        self.positions = self.positions + real.sum(dim=1)
        return hidden[:, -1]

    def read_and_weigh(
        self,
        prompts: Sequence[tuple[int, ...]],
        offered: Sequence[Sequence[tuple[int, ...]]],
    ) -> tuple[Float[Tensor, "rows width"], list[dict[tuple[int, ...], float]]]:
        """Read the rest of each row's prompt and score the offered answers.

        The answers follow the prompt one after another. Each attends to the prompt and itself only.

        Returns:
            The state at each prompt's last token, and each answer's mean loss per token.
        """
        device = self.runtime.base.device
        owned = [(row, ids) for row, answers in enumerate(offered) for ids in answers]
        # Token, the token it must predict, owner (0 for the prompt, n for the nth answer, -1 for
        # padding) and offset. Padding is on the right here, so that answers can be cropped from the
        # cache.
        rows: list[list[tuple[int, int, int, int]]] = [
            [(token, 0, 0, at) for at, token in enumerate(prompt)] for prompt in prompts
        ]
        for number, (row, ids) in enumerate(owned, start=1):
            start = len(prompts[row])
            rows[row] += [
                (token, following, number, start + at)
                # The last token of an answer is only predicted, so it is not read.
                for at, (token, following) in enumerate(pairwise(ids))
            ]
        length = max(map(len, rows))
        table = torch.tensor([row + [(0, 0, -1, 0)] * (length - len(row)) for row in rows])
        tokens, targets, owner, offsets = table.to(device).unbind(dim=2)
        key_owner = owner[:, None, :]
        visible = (owner[:, :, None] == key_owner) | (key_owner == 0)
        visible = visible & _causal(slice(0, length), device)
        ends = torch.tensor([len(prompt) for prompt in prompts], device=device)
        hidden = self._forward(tokens, self.positions[:, None] + offsets, visible, ends - 1)
        first = hidden[torch.arange(len(rows), device=device), ends - 1]
        # The state at a prompt's end predicts the first token of each answer to it.
        whose = torch.tensor([row for row, _ in owned], device=device)
        opening = torch.tensor([ids[0] for _, ids in owned], device=device)
        total = -self.forward.logits(first).float().log_softmax(dim=-1)[whose, opening]
        real = owner > 0
        nlls = nn.functional.cross_entropy(
            self.forward.logits(hidden[real]).float(), targets[real], reduction="none"
        )
        total.index_add_(0, owner[real] - 1, nlls)
        found: list[dict[tuple[int, ...], float]] = [{} for _ in rows]
        for (row, ids), nll in zip(owned, total.tolist(), strict=True):
            found[row][ids] = nll / len(ids)
        # Generation continues from the prompts, so drop the answers. Behind a shorter prompt some
        # stay, hidden by `seen`.
        kept = max(map(len, prompts))
        self.cache.crop(self.cache.length - length + kept)
        self.seen = torch.cat([self.seen, owner[:, :kept] == 0], dim=1)
        self.positions = self.positions + ends
        return first, found

    def write(
        self, first: Float[Tensor, "rows width"], limits: Sequence[int], *, log_probs: bool
    ) -> tuple[
        list[tuple[int, ...]],
        list[Float[Tensor, "blocks answered width"] | None],
        list[float] | list[None],
    ]:
        """Generate every row's answer greedily, to its end of turn or limit. Consumes the cache.

        Rows with limit 0 only keep the groups equal in size.

        Returns:
            Every row's tokens, the watched states that predicted them, and with `log_probs` their
            log-probability.
        """
        ends = end_tokens(self.runtime.base)
        written: list[list[int]] = [[] for _ in limits]
        states: list[list[Tensor]] = [[] for _ in limits]
        likely = [0.0] * len(limits)
        ended = {row for row, limit in enumerate(limits) if limit == 0}
        # Row index at each place of the batch, group by group.
        groups = 1 if self.active is None else self.active.num_groups
        places = torch.arange(len(limits)).view(groups, -1).tolist()
        hidden = first
        while True:
            logits = self.forward.logits(hidden)
            tokens = logits.argmax(dim=-1).tolist()
            # Of the likeliest token, which is the one chosen.
            steps = logits.float().log_softmax(dim=-1).amax(dim=-1).tolist() if log_probs else None
            for place, (row, token) in enumerate(zip(_flat(places), tokens, strict=True)):
                if row not in ended:
                    written[row].append(token)
                    if steps is not None:
                        likely[row] += steps[place]
                    if self.outputs is not None:
                        states[row].append(self.outputs[:, place])
                    if token in ends or len(written[row]) >= limits[row]:
                        ended.add(row)
            if len(ended) == len(limits):
                return (
                    [tuple(t for t in ids if t not in ends) for ids in written],
                    [torch.stack(seen, dim=1) if seen else None for seen in states],
                    likely if log_probs else [None] * len(limits),
                )
            places = self._drop(places, ended)
            # Rows of limit 0 have written nothing, and read any token to stay in the batch.
            hidden = self.read([tuple(written[row][-1:]) or (0,) for row in _flat(places)])

    def _drop(self, places: list[list[int]], ended: set[int]) -> list[list[int]]:
        """Drop finished rows from the batch, as far as groups stay equal in size."""
        # Unfinished rows come first; finished ones pad a group to the common size.
        ordered = [sorted(group, key=lambda row: row in ended) for group in places]
        alive = [sum(row not in ended for row in group) for group in places]
        width = max(alive)
        kept = [group[:width] for group, count in zip(ordered, alive, strict=True) if count]
        if len(_flat(kept)) > _WORTH_DROPPING * len(_flat(places)):
            return places
        where = {row: place for place, row in enumerate(_flat(places))}
        index = torch.tensor([where[row] for row in _flat(kept)], device=self.runtime.base.device)
        self.cache.select(index)
        self.seen, self.positions = self.seen[index], self.positions[index]
        # Adapters belong to groups, so they change only when a whole group is done.
        if self.active is not None and len(kept) < len(places):
            self.activate(_choose(self.active, [g for g, count in enumerate(alive) if count]))
        return kept

    def _forward(
        self,
        ids: Int[Tensor, "rows new"],
        positions: Int[Tensor, "rows new"],
        visible: Bool[Tensor, "rows new keys"],
        last: Int[Tensor, " rows"],
    ) -> Float[Tensor, "rows new width"]:
        """Run one forward pass over new positions.

        Args:
            ids: Tokens of the new positions. The values of padding do not matter.
            positions: Positions of the tokens in their rows.
            visible: Positions since `seen` that each new one may attend to, itself included.
            last: The new position of each row whose states are watched.
        """
        rows, new, keys = visible.shape
        # Padding attends to itself. A position that attends to nothing becomes NaN, which would
        # spread to positions that give it weight zero.
        itself = torch.eye(keys, dtype=torch.bool, device=ids.device)[keys - new :]
        past = self.seen[:, None, :].expand(rows, new, -1)
        mask = torch.cat([past, visible | itself], dim=2)[:, None]
        self.runtime.lock.give_way()  # no adapter is active between two passes
        watch = None
        if self.watch_from is not None:
            watch = StateWatch(self.watch_from, torch.arange(rows, device=ids.device) * new + last)
        tokens = NewTokens(ids, positions, mask, self.cache, self._prepared, watch)
        hidden = self.forward.hidden(tokens)
        if watch is not None:
            self.outputs = torch.stack(watch.outputs)
        return hidden


def _forward_tokens() -> int:
    return min(_PATIENT_TOKENS, _FORWARD_TOKENS) if is_patient() else _FORWARD_TOKENS


def _passes(sizes: Sequence[int]) -> list[list[int]]:
    """Group rows by size into runs that one forward pass reads with little padding."""

    def fits(run: Sequence[int], row: int) -> bool:
        fills = (len(run) + 1) * sizes[row] > _forward_tokens()
        return not fills and sizes[row] <= _SPREAD * sizes[run[0]]

    return _runs(sorted(range(len(sizes)), key=lambda row: sizes[row]), fits)


def _runs(ordered: Iterable[_T], fits: Callable[[list[_T], _T], bool]) -> list[list[_T]]:
    """Split things into runs, each as long as the next one fits."""
    runs: list[list[_T]] = []
    for one in ordered:
        if not runs or not fits(runs[-1], one):
            runs.append([])
        runs[-1].append(one)
    return runs


def _choose(active: FittedLoRA, groups: list[int]) -> FittedLoRA:
    return FittedLoRA({path: (a[groups], b[groups]) for path, (a, b) in active.factors.items()})


def _slices(length: int, rows: int) -> Iterator[slice]:
    """Yield runs of positions that one forward pass reads."""
    step = max(1, _forward_tokens() // rows)
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))


def _causal(new: slice, device: torch.device) -> Bool[Tensor, "new keys"]:
    """Return a causal mask for positions `new`."""
    query = torch.arange(new.start, new.stop, device=device)
    return torch.arange(new.stop, device=device) <= query[:, None]


def _flat(places: Sequence[Sequence[int]]) -> list[int]:
    return [row for group in places for row in group]
