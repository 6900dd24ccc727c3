"""The chat's settings, for everything that generates with them."""

from dataclasses import dataclass, replace
from typing import Self

from dnd_engine.config import Sampling


@dataclass(frozen=True, slots=True)
class Settings:
    """The validated settings of the chat."""

    system: str
    sampling: Sampling
    context: bool
    """Whether to send earlier turns too."""

    @classmethod
    def of(
        cls,
        system: str | None,
        max_tokens: float,
        temperature: float,
        seed: float,
        top_p: float,
        top_k: float,
        penalty: float,
        context: bool,
    ) -> Self:
        """Read the components of `ComparePanel.settings`, in their order.

        Raises:
            ConfigError: If a value is out of bounds.
        """
        sampling = Sampling(
            max_new_tokens=int(max_tokens),
            temperature=float(temperature),
            top_p=float(top_p),
            top_k=int(top_k),
            repetition_penalty=float(penalty),
            # An empty number field gives None.
            seed=int(seed or 0),
        )
        return cls((system or "").strip(), sampling, context)

    def again(self, times: int) -> Sampling:
        """Return the sampling settings of a retry, with another seed each time."""
        # Wrapped around, because `Sampling` refuses larger seeds.
        return replace(self.sampling, seed=(self.sampling.seed + times) % 2**31)
