"""What an examination measures, and how much of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dnd_engine.errors import ConfigError
from dnd_engine.limits import check_least, check_seed
from dnd_engine.scoring.scores import DEFAULT_ROWS, MODES, ROWS
from dnd_engine.tasks.folder import SPLITS, Mode
from dnd_engine.teach.local import LocalTeacher


@dataclass(frozen=True, slots=True, kw_only=True)
class ExaminationConfig:
    """What to measure, and how much of it."""

    out: Path
    rows: tuple[str, ...] = DEFAULT_ROWS
    modes: tuple[Mode, ...] = MODES
    split: str = "heldout"
    """`train` is for tasks that training saw, and says nothing of generalisation."""
    limit_items: int = 10
    """Test items per task, drawn by seed."""
    draws: int = 3
    """Prompt draws of the rows in `DRAWN`."""
    condition_prompts: int = 64
    """Prompts of the train side that a condition is drawn from."""
    adapters: Path | None = None
    """Collection of trained LoRAs; the rows that need one are left out without."""
    teacher: LocalTeacher | None = None
    """Better model of the row `imprint_taught_20`, which is left out without one."""
    multi_task_lora: Path | None = None
    """Generator folder of kind `multi_task_lora`; its row is left out without one."""
    runs: tuple[Path, ...] = ()
    """Run folders of the generator and of what it was started from, for what training cost."""
    seed: int = 0

    def __post_init__(self) -> None:
        known: tuple[tuple[str, Sequence[str], Sequence[str]], ...] = (
            ("rows", self.rows, ROWS),
            ("modes", self.modes, MODES),
            ("split", (self.split,), SPLITS),
        )
        for name, values, allowed in known:
            strays = [value for value in values if value not in allowed]
            if strays or not values or len(set(values)) < len(values):
                raise ConfigError(
                    f"`{name}` must be some of {', '.join(allowed)}, each once; got "
                    f"{', '.join(strays or values) or 'none'}."
                )
        if len(set(self.runs)) < len(self.runs):
            raise ConfigError("`runs` names a run twice, which would count its cost twice.")
        check_least(self, 1, "limit_items", "condition_prompts", "draws")
        check_seed(self.seed)
