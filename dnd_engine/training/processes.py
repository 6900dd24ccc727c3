"""Training in several processes at once, as `accelerate launch` or `torchrun` starts them.

Every process draws the same batch, computes the gradient of its own tasks and adds it to those of
the others, so each takes the same step that one process would take alone. Only the first watches,
logs and writes. Knows processes and gradients; knows no model.
"""

import os
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from dnd_engine.errors import TrainingError

_UNSUPPORTED = {
    "ACCELERATE_USE_FSDP": "--use_fsdp",
    "ACCELERATE_USE_DEEPSPEED": "--use_deepspeed",
    "ACCELERATE_USE_MEGATRON_LM": "--use_megatron_lm",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "--use_parallelism_config",
}
"""Options of `accelerate launch` that split a model over cards, by the variable that each sets."""


class Processes:
    """The processes of this run; one alone unless a launcher says otherwise.

    Args:
        environment: Where launchers say how many there are.

    Raises:
        TrainingError: If the launcher was asked to split the model.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        # Without a word, a base too large for one card would fail for lack of memory.
        for name, option in _UNSUPPORTED.items():
            if environment.get(name, "").lower() in ("1", "true", "yes", "y", "on", "t"):
                raise TrainingError(
                    f"`{option}` of `accelerate launch` ({name}) splits a model over cards in a "
                    "way that training does not support. Start without it. If the base does not "
                    "fit one card, set `shard_base: true` in the recipe."
                )
        self._state: Any = None
        # torchrun and accelerate both set it.
        if int(environment.get("WORLD_SIZE", "1")) > 1:
            # A run in one process need not load it.
            from accelerate import PartialState

            self._state = PartialState(cpu=not torch.cuda.is_available())

    @property
    def count(self) -> int:
        """How many there are."""
        return 1 if self._state is None else int(self._state.num_processes)

    @property
    def rank(self) -> int:
        """Which of them this is, from 0."""
        return 0 if self._state is None else int(self._state.process_index)

    @property
    def is_first(self) -> bool:
        """Whether this one watches, logs and writes."""
        return self.rank == 0

    def check(self, objective: str, tasks_per_step: int, *, shard_base: bool = False) -> None:
        """Refuse what cannot be shared.

        Raises:
            TrainingError: If tasks would not go round, the objective needs all of them at once, or
                one process should split the base with others.
        """
        if self.count == 1:
            if shard_base:
                raise TrainingError(
                    "`shard_base` splits the base over several processes, and one was started. "
                    "Start `dnd train` with `accelerate launch` or `torchrun`, or set `shard_base: "
                    "false`."
                )
            return
        if objective == "reconstruction":
            raise TrainingError(
                f"the objective reconstruction trains in one process; {self.count} were started. "
                "Run `dnd train` without a launcher, or use another objective."
            )
        if shard_base and objective == "imprint":
            raise TrainingError(
                "`shard_base` cannot be used with `objective: imprint`, where each process runs "
                "the base on tasks of its own. Set `shard_base: false`."
            )
        if tasks_per_step < self.count:
            raise TrainingError(
                f"{self.count} processes share {tasks_per_step} tasks a step, so some would have "
                f"none. Set `tasks_per_step` to {self.count} or more, best to a multiple of it."
            )

    def first_goes_first(self) -> AbstractContextManager[None]:
        """Let the first process do slow work whose result the others read from the disk."""
        return nullcontext() if self._state is None else self._state.main_process_first()

    def wait(self) -> None:
        """Wait until every process is here."""
        if self._state is not None:
            self._state.wait_for_everyone()

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process; all get the same answer."""
        return self.sum(float(flag)) > 0

    def sum(self, value: float) -> float:
        """Add a number over all processes."""
        if self._state is None:
            return value
        total = torch.tensor(value, dtype=torch.float64, device=self._state.device)
        torch.distributed.all_reduce(total)
        return float(total.item())

    def of_first(self, value: float) -> float:
        """Return the first process's number, in all of them."""
        return self.sum(value if self.is_first else 0.0)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add every gradient over all processes, in place."""
        if self._state is None:
            return
        for parameter in parameters:
            # All must join every reduction, or the others wait for ever; a process without
            # tasks has no gradient yet.
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            # A sum, not a mean: losses are already weighted by their share of all examples.
            torch.distributed.all_reduce(parameter.grad)

    def close(self) -> None:
        """Part from the others at the end of a run."""
        if self._state is not None:
            self._state.wait_for_everyone()
            self._state.destroy_process_group()
