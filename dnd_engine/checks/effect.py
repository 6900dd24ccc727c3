"""How far an adapter moves the base's next token."""

from jaxtyping import Float
from torch import Tensor

__all__ = ["kl_to_base"]


def kl_to_base(
    base_logits: Float[Tensor, "rows vocabulary"], adapted_logits: Float[Tensor, "rows vocabulary"]
) -> Float[Tensor, " rows"]:
    """KL(adapted ‖ base) in nats, computed in float32."""
    base = base_logits.float().log_softmax(dim=-1)
    adapted = adapted_logits.float().log_softmax(dim=-1)
    return (adapted.exp() * (adapted - base)).sum(dim=-1)
