"""What a library keeps of a measurement: few numbers, read back without a model or torch."""

from dataclasses import dataclass

__all__ = ["RowScore", "Scores"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowScore:
    """A row in one input mode."""

    row: str
    """As in `results.ROWS`."""
    mode: str
    steps: int
    """Training steps; 0 for rows without training."""
    score: float
    low: float
    high: float
    """Upper end of the 95 % interval; `low` is the lower end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What an adapter is worth on one file of labelled rows, and what stood beside it."""

    file_sha256: str
    metric: str
    num_scored: int
    strength: float
    """Strength of the adapter when it was measured."""
    own: str
    """The row that the adapter is."""
    rows: tuple[RowScore, ...]

    @property
    def brief(self) -> tuple[tuple[str, float, float | None], ...]:
        """Mode, own score and the base's, for each mode that it was measured in."""
        found = {(r.row, r.mode): r.score for r in self.rows}
        return tuple(
            (mode, score, found.get(("base", mode)))
            for (row, mode), score in found.items()
            if row == self.own
        )
