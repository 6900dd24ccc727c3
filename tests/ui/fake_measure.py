"""Measuring without models: invented answers in the real engine's own words for a measurement."""

import hashlib
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from dnd_engine.config import LabelledConfig, MeasureConfig
from dnd_engine.errors import MeasureError, TrainingError
from dnd_engine.lora.seen import with_met
from dnd_engine.measure.results import EvalPass, ItemResult, Measurement, MeasureStep, Row
from dnd_engine.measure.sides import Sides, labelled_rows
from dnd_engine.prompts.files import PromptFile
from dnd_engine.tasks.folder import Example
from tests.ui.fake_adapter import FakeAdapter
from tests.ui.pace import Pace

if TYPE_CHECKING:
    from dnd_engine.engine import Engine
    from dnd_engine.lora.adapter import Adapter
else:
    Engine = object  # as for the adapter: without torch

_RECIPE = {"learning_rate": 5e-4, "warmup_steps": 5, "batch_size": 8, "num_examples": 20}


@dataclass(frozen=True, kw_only=True)
class Measured(Measurement):
    """The real one, but for whose adapters it holds."""

    trained: Mapping[Row, Any] = field(default_factory=dict, repr=False)


class FakeMeasuring(Engine):
    """Half of a `FakeEngine`."""

    pace: Pace
    closed_measurements: int

    def measure(
        self, adapter: "Adapter", labelled: PromptFile, config: MeasureConfig | None = None
    ) -> Generator[MeasureStep, None, Measurement]:
        """The adapter has seen prompts with MET in them."""
        config = config or MeasureConfig()
        rows = labelled_rows(labelled)
        fresh = [row for row in rows if config.allow_seen or "MET" not in row.text]
        if not fresh:
            raise MeasureError(
                f"{labelled.name}: the adapter was made from the prompts or inputs of all "
                f"{len(rows)} labelled rows, so none is left to score. Give rows that it has not "
                "seen, or tick “Score prompts it was made from too”."
            )
        test = fresh[: min(config.limit_items, len(rows) // 2)]
        train = [row for row in rows if row not in test]
        scored = tuple(Example(row.text, row.label or "") for row in test)
        sides = Sides(
            file=labelled.name,
            file_sha256=labelled.sha256,
            metric="exact",
            options=(),
            modes=("bare", "full") if any(e.bare is not None for e in scored) else ("full",),
            test=scored,
            lines=tuple(row.line for row in test),
            train=tuple(Example(row.text, row.label or "") for row in train),
            max_new_tokens=8,
            num_rows=len(labelled.prompts),
            num_unlabelled=len(labelled.prompts) - len(rows),
            num_too_long=0,
            num_repeated=0,
            num_seen=0,
            num_seen_scored=0,
            seen_known=True,
        )
        measured: Measurement = Measured(
            sides=sides,
            adapter=adapter.name,
            adapter_sha256=adapter.sha256,
            strength=adapter.strength,
            base="HuggingFaceTB/SmolLM2-135M-Instruct",
            synthesis_seconds=adapter.making_seconds,
            seed=config.seed,
        )
        worth: dict[Row, float] = {"base": 0.1, "adapter": 0.6, "shared_lora": 0.3, "few_shot": 0.5}
        total, done, count = 2 * len(worth) * len(test), 0, 0
        try:
            for row, quality in worth.items():
                for after in self._evaluate(measured, EvalPass(row=row, mode="bare"), quality):
                    measured = after
                    done += len(measured.passes[-1].items) % 16 or 16
                    step = MeasureStep(
                        stage="score",
                        row=row,
                        done=min(done, total),
                        total=total,
                        measured=measured,
                        seconds_left=(total - done) / 16,
                    )
                    yield step
                    yield from self.pace.stay("measure", count := count + 1, step)
        finally:
            self.closed_measurements += 1
        return measured

    def train_lora(
        self,
        adapter: "Adapter",
        measured: Measurement,
        config: LabelledConfig | None = None,
        *,
        warm_start: bool = False,
    ) -> Generator[MeasureStep, None, Measurement]:
        """It is as good as the adapter after ten steps; fewer than eight rows teach nothing."""
        config = config or LabelledConfig()
        row: Row = "warm_lora" if warm_start else "trained_lora"
        if len(measured.sides.train) < config.least_examples:
            raise TrainingError(
                f"expected {config.least_examples} or more labelled rows to learn from, got "
                f"{len(measured.sides.train)}. Add rows."
            )
        same = "adapter" if warm_start else "base"
        shown = measured
        measured = replace(
            measured, trained={r: made for r, made in measured.trained.items() if r != row}
        )
        kept = tuple(s for s in measured.passes if s.row != row)
        kept += tuple(replace(s, row=row) for s in kept if s.row == same)
        measured = replace(measured, passes=kept, recipes={**measured.recipes, row: _RECIPE})
        points = {5, 10, 20, 40, 80, 160, config.steps}
        try:
            for step in range(1, config.steps + 1):
                said = MeasureStep(
                    stage="train",
                    row=row,
                    done=step,
                    total=config.steps,
                    measured=shown,
                    loss=2 / step,
                    seconds_left=0.3 * (config.steps - step),
                )
                yield said
                yield from self.pace.stay("train", step, said)
                if step not in points:
                    continue
                measured = replace(
                    measured,
                    trained={**measured.trained, row: self._trained(adapter, measured, row, step)},
                )
                eval_pass = EvalPass(row=row, mode="bare", steps=step, train_seconds=0.3 * step)
                for after in self._evaluate(measured, eval_pass, min(0.9, 0.4 + step / 50)):
                    measured = shown = after
                    answered = len(measured.passes[-1].items)
                    yield MeasureStep(
                        stage="score",
                        row=row,
                        done=answered,
                        total=len(measured.sides.test),
                        measured=measured,
                        seconds_left=0.3 * (config.steps - step),
                    )
        finally:
            self.closed_measurements += 1
        return measured

    def _evaluate(
        self, measured: Measurement, eval_pass: EvalPass, quality: float
    ) -> Iterator[Measurement]:
        """Answer sixteen at a time, so many of ten rightly; full prompts as bare ones."""
        sides, before = measured.sides, measured.passes
        known = list(zip(sides.lines, sides.test, strict=True))
        for first in range(0, len(known), 16):
            for number, (line, example) in enumerate(known[first : first + 16], first):
                right = (7 * number) % 10 < round(10 * quality)
                item = ItemResult(
                    line=line,
                    score=float(right),
                    choice=None,
                    nll=1 - quality / 2,
                    text=example.response if right else "<i>no</i>",
                )
                eval_pass = replace(eval_pass, items=(*eval_pass.items, item), seconds=0.1)
            # The bare one is last: its caller goes on from it.
            passes = [replace(eval_pass, mode=mode) for mode in reversed(sides.modes)]
            yield replace(measured, passes=(*before, *passes))

    @staticmethod
    def _trained(adapter: "Adapter", measured: Measurement, row: Row, steps: int) -> FakeAdapter:
        assert isinstance(adapter, FakeAdapter)
        root = hashlib.sha256(f"{adapter.sha256} {row} {steps}".encode()).hexdigest()
        kept = adapter.provenance if row == "warm_lora" else {"unlike": False}
        name = "trained" if row == "warm_lora" else "trained-from-scratch"
        return replace(
            adapter,
            name=f"{adapter.name}-{name}",
            sha256=root,
            strength=1.0,
            provenance=with_met(
                {
                    **kept,
                    **{"root": root, "useless": False, "trained": {"steps": steps, "labels": True}},
                },
                [example.prompt for example in measured.sides.train],
                labels=True,
            ),
            seconds={**(adapter.seconds if row == "warm_lora" else {}), "train": 0.3 * steps},
            checks={},
        )
