"""The summary of a measurement that a library stores; readable without a model or torch."""

from dataclasses import dataclass

from pydantic import FiniteFloat


@dataclass(frozen=True, slots=True, kw_only=True)
class RowScore:
    """Score of one row in one input mode."""

    row: str
    """One of `results.ROWS`."""
    mode: str
    """What was sent, one of `wording.MODES`."""
    steps: int
    """Training steps; 0 for rows without training."""
    score: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat
    """Upper end of the 95 % interval; `low` is the lower end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Scores of an adapter and its baselines on one file of labelled rows."""

    file_sha256: str
    metric: str
    num_scored: int
    strength: float
    """Strength of the adapter when measured."""
    own: str
    """Row of the adapter itself."""
    rows: tuple[RowScore, ...]

    @property
    def brief(self) -> tuple[tuple[str, float, float | None], ...]:
        """Return mode, own score and the base's score, for each measured mode."""
        found = {(r.row, r.mode): r.score for r in self.rows}
        return tuple(
            (mode, score, found.get(("base", mode)))
            for (row, mode), score in found.items()
            if row == self.own
        )
