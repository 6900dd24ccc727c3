"""A better teacher on this computer: a larger base, loaded only while it answers.

Importing this loads no torch: a command and a page name a teacher before any model loads.
"""

import gc
from collections.abc import Generator as Steps
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from dnd_engine.config import RefineConfig
from dnd_engine.errors import ConfigError
from dnd_engine.files import public_name
from dnd_engine.notes import noted
from dnd_engine.tasks.folder import Example
from dnd_engine.teach.endpoint import Endpoint

if TYPE_CHECKING:
    from dnd_engine.models.sources import ResolvedWeights


# Without slots: `cached_property` needs a `__dict__`.
@dataclass(frozen=True, kw_only=True)
class LocalTeacher:
    """A base that answers in place of the adapter's own.

    Raises:
        ConfigError: If the base has no name.
    """

    base: str
    """The name of an embedded model, a Hub id, a local folder or a GGUF file, as
    `EngineConfig.base`."""
    cache_dir: Path | None = None
    """Cache for converted weights; None is the user's cache folder."""
    device: str | None = None
    """`cpu`, `cuda` or `mps`. None selects the best available device."""

    def __post_init__(self) -> None:
        if not self.base.strip():
            raise ConfigError(
                noted("the teacher needs the name of a base, such as a Hub id or a folder.")
            )

    @property
    def model(self) -> str:
        """Its name for adapters, which may be published: only the last part of a path."""
        return public_name(self.base)

    @cached_property
    def weights(self) -> "ResolvedWeights":
        """Its files: downloaded or converted on first use, but not loaded.

        Raises:
            AssetError: If they are unavailable or damaged, or do not fit into memory.
            ConfigError: If the device is not available.
            LayoutError: If its architecture is not supported.
        """
        from dnd_engine.models.base import best_device, best_dtype, resolve_base

        device = best_device(self.device)
        return resolve_base(self.base, device, best_dtype(device), self.cache_dir)

    @property
    def sha256(self) -> str:
        """Hash of its weights; see `weights`."""
        return self.weights.sha256

    def check(self) -> None:
        """Refuse what is no usable base, without loading it, with the errors of `weights`."""
        from dnd_engine.lora.layout import architecture_of
        from dnd_engine.models.base import read_config

        architecture_of(read_config(self.weights.path))

    def answers(self, examples: Sequence[Example]) -> Steps[Sequence[str | None], None, None]:
        """Load the base, and answer whole prompts greedily, a batch at a time.

        Yields:
            Answers in the order of the examples; None for an empty one, or one that does not end.

        Raises:
            AssetError: As `check`, or if it does not fit into memory beside what is loaded.
            LayoutError: If its architecture is not supported.
        """
        import torch

        try:
            yield from self._loaded_answers(examples)
        finally:
            # The base is gone only with its cycles, which the hooks for adapters close. On CUDA,
            # the next check of free memory must see what it has left.
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _loaded_answers(
        self, examples: Sequence[Example]
    ) -> Steps[Sequence[str | None], None, None]:
        from dnd_engine.models.base import best_device, best_dtype, load_base
        from dnd_engine.models.runtime import Runtime
        from dnd_engine.training.finetune.refine import propose

        device = best_device(self.device)
        # It checks that this base fits beside the adapter's own, which is loaded already.
        runtime = Runtime.of(load_base(self.weights, device, best_dtype(device)))
        # Longer answers could not be learnt.
        config = RefineConfig(max_answer_tokens=RefineConfig().max_tokens)
        yield from propose(runtime, examples, None, config)


BetterModel = Endpoint | LocalTeacher
"""Who answers in place of the base: a server, or a larger base on this computer."""
