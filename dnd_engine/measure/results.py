"""Results of a measurement: answered items, and the rows, intervals and words derived from them.

Only items are stored and all else is derived, so that a measurement stopped half-way reads like any
other. Knows no models.
"""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

from dnd_engine.measure.kept import RowScore, Scores
from dnd_engine.measure.sides import Sides
from dnd_engine.notes import Note, noted
from dnd_engine.prompts.words import quoted
from dnd_engine.scoring.metrics import Grader
from dnd_engine.scoring.statistics import Cell, Interval, interval, paired, with_width
from dnd_engine.tables import cell, markdown_table
from dnd_engine.tasks.folder import Mode
from dnd_engine.wording import (
    NO_INSTRUCTIONS,
    inputs_label,
    listed,
    mode_label,
    number,
    row_label,
    signed,
    span,
)

if TYPE_CHECKING:
    from dnd_engine.lora.adapter import Adapter

Row = Literal["base", "few_shot", "shared_lora", "adapter", "trained_lora", "warm_lora"]
ROWS: tuple[Row, ...] = get_args(Row)
"""Rows in table order."""

TRAINED: tuple[Row, ...] = ("trained_lora", "warm_lora")

Verdict = Literal["gain", "loss", "no clear difference", "too few items"]
"""Result of comparing this adapter with a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemResult:
    """One answered item."""

    line: int
    """Line of the item in its file."""
    score: float
    """Score by the metric, 0 to 1."""
    choice: bool | None
    """Whether the right label has the highest likelihood; None without options."""
    nll: float
    """Loss of the label in nats per token, teacher-forced."""
    text: str
    """Generated text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalPass:
    """Items that a row has answered so far in one mode."""

    row: Row
    mode: Mode
    steps: int = 0
    """Training steps; 0 for rows without training."""
    train_seconds: float = 0.0
    """Duration of training, without scoring."""
    seconds: float = 0.0
    """Duration of scoring, without waiting for other work."""
    items: tuple[ItemResult, ...] = ()

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Return its scores for the statistics: one task of one family, so items are resampled."""
        return tuple(Cell("", "", item.line, item.score) for item in self.items)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowResult:
    """A row of the table, or a point of a curve."""

    row: Row
    mode: Mode
    steps: int
    train_seconds: float
    seconds: float
    num_items: int
    score: Interval
    choice: float | None
    """Share of items whose right label has the highest likelihood; None without options."""
    nll: float
    """Mean loss of the label, in nats per token."""
    lead: Interval | None
    """This adapter's score minus the row's, paired by item. None for the adapter itself, and until
    it has answered all its items."""

    @property
    def label(self) -> str:
        """Return the row's name in words."""
        label = row_label(self.row)
        return f"{label}, {self.steps} steps" if self.row in TRAINED else label

    @property
    def verdict(self) -> Verdict | None:
        """Return the verdict on the lead; None without one."""
        if self.lead is None:
            return None
        if self.lead.too_few:
            return "too few items"
        if self.lead.above_zero:
            return "gain"
        return "loss" if self.lead.below_zero else "no clear difference"


# Without slots, because `cached_property` keeps its value in the object's `__dict__`.
@dataclass(frozen=True, kw_only=True)
class Measurement:
    """All results so far. Immutable; updates create a new object."""

    sides: Sides = field(repr=False)
    adapter: str
    """Name of the adapter."""
    adapter_sha256: str
    strength: float
    """Strength of the adapter."""
    base: str
    """Hub id of the base."""
    synthesis_seconds: float | None
    """Seconds to make the adapter; None if unknown."""
    synthesis_estimated: bool = False
    """Whether the time is an estimate from a synthesis of as many prompts."""
    seed: int
    passes: tuple[EvalPass, ...] = field(default=(), repr=False)
    trained: "Mapping[Row, Adapter]" = field(default_factory=dict, repr=False)
    """LoRAs trained here, at their last point."""
    recipes: Mapping[Row, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    """Training recipes of these LoRAs."""
    left_out: Mapping[Row, str] = field(default_factory=dict)
    """Rows that could not be measured, with the reason."""

    @cached_property
    def rows(self) -> tuple[RowResult, ...]:
        """Return the rows in table order: by mode, then row, then steps."""
        modes = self.sides.modes
        answered = sorted(
            (s for s in self.passes if s.items),
            key=lambda s: (modes.index(s.mode), ROWS.index(s.row), s.steps),
        )
        return tuple(self._row(eval_pass) for eval_pass in answered)

    def row(self, row: Row, mode: Mode) -> RowResult | None:
        """Return one row, a trained one at its last complete point; None without one."""
        found = [r for r in self.rows if (r.row, r.mode) == (row, mode) and self.is_whole(r)]
        return found[-1] if found else None

    def _row(self, eval_pass: EvalPass) -> RowResult:
        items, own = eval_pass.items, self._own_pass(eval_pass.mode).cells
        # Items come short ones first: until all are answered, a lead would be on these alone.
        through = len(own) == len(self.sides.asked(eval_pass.mode))
        pairs = paired(own, eval_pass.cells) if through and eval_pass.row != "adapter" else ()
        return RowResult(
            row=eval_pass.row,
            mode=eval_pass.mode,
            steps=eval_pass.steps,
            train_seconds=eval_pass.train_seconds,
            seconds=eval_pass.seconds,
            num_items=len(items),
            score=with_width(interval(eval_pass.cells, seed=self.seed), 0, 1),
            choice=_mean([item.choice for item in items]) if self.sides.options else None,
            nll=_mean([item.nll for item in items]),
            lead=with_width(interval(pairs, seed=self.seed), -1, 1) if pairs else None,
        )

    def commonest(self, mode: Mode) -> tuple[str, float] | None:
        """Return the most common label of a mode's rows, and the score of always answering it.

        None if answers are not a choice among a few labels.
        """
        if not self.sides.options:
            return None
        # Rows without an instruction are asked in full mode only.
        asked = [example for _, example in self.sides.asked(mode)]
        counts = Counter(example.response for example in asked)
        ((label, _),) = counts.most_common(1)
        # By the metric, because labels may share words, or be the same number or list. One example
        # of each label is enough, as there are few.
        grader = Grader(self.sides.metric)
        scores = {e.response: grader.grade(e, label).score for e in asked}
        return label, sum(scores[e.response] for e in asked) / len(asked)

    def beats_commonest(self, mode: Mode) -> bool:
        """Return whether the adapter clearly beats always answering the most common label."""
        own, label = self.row("adapter", mode), self.commonest(mode)
        return own is not None and (label is None or own.score.low > label[1])

    def always_answers(self, mode: Mode) -> str | None:
        """Return the adapter's answer if it is the same for every row."""
        texts = {item.text.strip() for item in self._own_pass(mode).items}
        return texts.pop() if len(texts) == 1 and len(self.sides.asked(mode)) > 1 else None

    def _own_pass(self, mode: Mode) -> EvalPass:
        known = (s for s in self.passes if (s.row, s.mode) == ("adapter", mode))
        return next(known, EvalPass(row="adapter", mode=mode))

    def is_whole(self, row: RowResult) -> bool:
        """Return whether a row has answered all its items.

        Short items come first, so an incomplete row looks too good.
        """
        return row.num_items == len(self.sides.asked(row.mode))

    def scores(self, own: Row = "adapter") -> dict[str, Scores]:
        """Return the scores of an adapter for a library, by file name.

        They are empty until the row of that adapter is complete.
        """
        last = [r for mode in self.sides.modes for row in ROWS if (r := self.row(row, mode))]
        # The LoRA itself is at its last point, whose scores may not be complete.
        steps = max((r.steps for r in self.rows if r.row == own), default=0)
        last = [r for r in last if r.row != own or r.steps == steps]
        if all(r.row != own for r in last):
            return {}
        kept = Scores(
            file_sha256=self.sides.file_sha256,
            metric=self.sides.metric,
            num_scored=len(self.sides.test),
            # A LoRA trained here comes as an adapter of strength 1.
            strength=self.strength if own == "adapter" else 1.0,
            own=own,
            rows=tuple(
                RowScore(
                    row=r.row,
                    mode=self.sides.sent(r.mode),
                    steps=r.steps,
                    score=round(r.score.mean, 4),
                    low=round(r.score.low, 4),
                    high=round(r.score.high, 4),
                )
                for r in last
            ),
        )
        return {self.sides.file: kept}

    def beside(self, mode: Mode) -> dict[Verdict, list[tuple[RowResult, Interval]]]:
        """Return the completed rows with the adapter's lead over them, by verdict.

        Trained rows are at their last complete point. At step 0 they are left out: until then they
        equal the base or the adapter.
        """
        found: dict[Verdict, list[tuple[RowResult, Interval]]] = {}
        for row in filter(None, (self.row(name, mode) for name in ROWS)):
            untrained = row.row in TRAINED and not row.steps
            if row.lead is not None and row.verdict is not None and not untrained:
                found.setdefault(row.verdict, []).append((row, row.lead))
        return found

    @property
    def verdicts(self) -> tuple[str, ...]:
        """Return a sentence per mode that compares the adapter with the completed rows."""
        sentences = []
        for mode in self.sides.modes:
            own = self.row("adapter", mode)
            beside = self.beside(mode)
            if own is not None and beside:
                words = [
                    f"{_WORDS[verdict]} {listed([_beside_words(*pair) for pair in rows])}."
                    for verdict, rows in beside.items()
                ]
                words += self._doubts(mode)
                sentences.append(
                    f"{inputs_label(self.sides.sent(mode))}: this adapter scores "
                    f"{number(own.score.mean)} ({span(own.score)}). {' '.join(words)}"
                )
        return tuple(sentences)

    def _doubts(self, mode: Mode) -> list[str]:
        """Return caveats about what the scores can show."""
        doubts = [] if self.sides.has_instructions else [NO_INSTRUCTIONS]
        if (known := self.commonest(mode)) is not None and not self.beats_commonest(mode):
            label, share = known
            doubts.append(f"Answering always {_code(label)} would score {number(share)}.")
        if (always := self.always_answers(mode)) is not None:
            doubts.append(f"It gives every row the same answer: {_code(always)}.")
        return doubts

    @property
    def notes(self) -> tuple[Note, ...]:
        """Return sentences to show under a table."""
        notes = [*self.sides.notes]
        notes += [
            noted("{row} was not measured: {why}", row=noted(row_label(row)), why=why)
            for row, why in self.left_out.items()
        ]
        for row, recipe in self.recipes.items():
            notes.append(
                noted(
                    "{row}: AdamW, learning rate {learning_rate:g} held after {warmup_steps} "
                    "steps, batches of {batch_size} of {num_examples} labelled rows, the adapter's "
                    "own layout.",
                    row=noted(row_label(row)),
                    learning_rate=recipe["learning_rate"],
                    warmup_steps=recipe["warmup_steps"],
                    batch_size=recipe["batch_size"],
                    num_examples=recipe["num_examples"],
                )
            )
        notes.append(
            noted(
                "Intervals are 95 %, by a bootstrap over items, or Wilson's where no item differs; "
                "leads are paired by item."
            )
        )
        return tuple(notes)

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON, without items; see `items_csv`."""
        sides = {
            name: value
            for name, value in asdict(self.sides).items()
            if name not in ("test", "train", "lines")
        }
        return {
            "adapter": self.adapter,
            "adapter_sha256": self.adapter_sha256,
            "strength": self.strength,
            "base": self.base,
            "data": sides
            | {"num_scored": len(self.sides.test), "num_train": len(self.sides.train)},
            "seed": self.seed,
            "synthesis_seconds": _round(self.synthesis_seconds),
            "synthesis_estimated": self.synthesis_estimated,
            "rows": [
                # An incomplete row has no verdict yet, though it has a lead on its answered items.
                _row_json(row) | {"verdict": row.verdict if self.is_whole(row) else None}
                for row in self.rows
            ],
            "recipes": {row: dict(recipe) for row, recipe in self.recipes.items()},
            "left_out": dict(self.left_out),
            "verdicts": list(self.verdicts),
            "notes": list(self.notes),
        }

    def items_csv(self) -> str:
        """Return every answer as CSV, with texts escaped against spreadsheet formulas."""
        known = dict(zip(self.sides.lines, self.sides.test, strict=True))
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        head = ("row", "mode", "steps", "line", "score", "choice", "nll")
        writer.writerow((*head, "prompt", "label", "answer"))
        for eval_pass in self.passes:
            for item in eval_pass.items:
                example = known[item.line]
                choice = "" if item.choice is None else int(item.choice)
                writer.writerow(
                    (
                        *(eval_pass.row, eval_pass.mode, eval_pass.steps, item.line),
                        *(round(item.score, 4), choice, round(item.nll, 4)),
                        *map(cell, (example.prompt, example.response, item.text)),
                    )
                )
        return out.getvalue()

    def markdown(self) -> str:
        """Return a Markdown table with verdicts and notes."""

        def lead_of(row: RowResult) -> str:
            known = row.lead if self.is_whole(row) else None
            return "" if known is None else f"{signed(known.mean)} ({span(known)})"

        choice = "right label likeliest: | " if self.sides.options else ""
        table = markdown_table(
            f"input | row | score: | 95 %: | {choice}nats a token: | this adapter's lead: | "
            "items: | train s: | score s:",
            (
                (
                    *(mode_label(self.sides.sent(r.mode)), r.label),
                    *(number(r.score.mean), span(r.score)),
                    *([number(r.choice)] if r.choice is not None else []),
                    number(r.nll),
                    lead_of(r),
                    str(r.num_items),
                    f"{r.train_seconds:.1f}" if r.row in TRAINED else "",
                    f"{r.seconds:.1f}",
                )
                for r in self.rows
            ),
        )
        notes = "\n".join(f"- {note}" for note in self.notes)
        return "\n\n".join(["\n".join(table), *self.verdicts, notes]) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureStep:
    """Progress of a measurement."""

    stage: Literal["score", "train"]
    row: Row
    done: int
    """Number of items scored or steps trained."""
    total: int
    measured: Measurement
    """All results so far. Keep the last one, and closing the iterator loses nothing."""
    loss: float | None = None
    """Loss of a training step, in nats per token."""
    seconds_left: float | None = None
    """Estimated time left for the whole operation; None if unknown."""

    @property
    def detail(self) -> str:
        """Describe the progress in words."""
        words = row_label(self.row) + ("" if self.loss is None else f", loss {self.loss:.3f}")
        left = "" if self.seconds_left is None else f", {self.seconds_left:.0f} s left"
        return f"{words}{left}"


_WORDS: Mapping[Verdict, str] = {
    "gain": "A clear gain over",
    "loss": "Clearly worse than",
    "no clear difference": "No gain clear of zero over",
    "too few items": "Too few items to place it beside",
}


def _code(text: str) -> str:
    """Quote a label or a model's answer, which may hold Markdown, terminal codes, or pages."""
    return quoted([text.replace("`", "'")])


def _beside_words(row: RowResult, lead: Interval) -> str:
    # In mid-sentence a label begins in lower case, unless its first word is LoRA.
    label = row.label if row.row in TRAINED else row.label[0].lower() + row.label[1:]
    return f"{label} ({signed(lead.mean)}, {span(lead)})"


def _row_json(row: RowResult) -> dict[str, Any]:
    def ends(of: Interval | None) -> dict[str, float] | None:
        if of is None:
            return None
        return {"mean": round(of.mean, 4), "low": round(of.low, 4), "high": round(of.high, 4)}

    return {
        "row": row.row,
        "label": row.label,
        "mode": row.mode,
        "steps": row.steps,
        "score": round(row.score.mean, 4),
        "low": round(row.score.low, 4),
        "high": round(row.score.high, 4),
        "choice": _round(row.choice),
        "nll": round(row.nll, 4),
        "n_items": row.num_items,
        "train_seconds": round(row.train_seconds, 3),
        "seconds": round(row.seconds, 3),
        "lead": ends(row.lead),
    }


def _mean(values: Sequence[float | bool | None]) -> float:
    known = [float(value) for value in values if value is not None]
    return sum(known) / len(known)


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
