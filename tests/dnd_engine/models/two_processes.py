"""One of two processes that run bases whole and sharded; torchrun starts it with their folders."""

import sys
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed import destroy_process_group, get_rank, init_process_group
from torch.distributed.tensor import DTensor

from dnd_engine.lora.layout import LoRALayout, LoRASpec
from dnd_engine.models.runtime import Runtime
from dnd_engine.models.sharding import shard_base
from dnd_engine.tasks.folder import Example
from dnd_engine.training.examples import encode_example, pack, response_losses
from tests.dnd_engine.tiny import random_tokens, tiny_base


def losses_and_gradients(folder: Path, *, sharded: bool, recompute: bool) -> list[Tensor]:
    """Loss and gradient of two passes, and the loss of one without a gradient."""
    base = tiny_base(folder)
    runtime = Runtime.of(base)
    if recompute:
        runtime.host.recompute()
    if sharded:
        shard_base(base, 2)
    # Each process has other examples, of another length, as in training.
    said = [Example(f"Say it.\n\n{word}", word) for word in ("abc", "a longer word")]
    encoded = [encode_example(base.tokenizer, e, "full") for e in said[: get_rank() + 1]]
    batch = pack([[example for example in encoded if example is not None]])
    layout = LoRALayout.from_config(base.config, LoRASpec(r=4, lora_alpha=8))
    tokens = random_tokens(layout).requires_grad_()
    found = []
    for with_gradient in (True, False, True):
        with (
            torch.set_grad_enabled(with_gradient),
            runtime.host.applying(runtime.host.fit(tokens[None], layout)),
        ):
            loss = response_losses(base.model, batch).nll.sum()
        if with_gradient:
            loss.backward()
            assert tokens.grad is not None
            found.append(tokens.grad.clone())
        found.append(loss.detach())
    stack = base.model.get_submodule("model.layers")
    assert all(isinstance(weight, DTensor) == sharded for weight in stack.parameters())
    return found


if __name__ == "__main__":
    init_process_group("gloo")
    for folder in map(Path, sys.argv[1:]):
        for recompute in (False, True):
            whole, sharded = (
                losses_and_gradients(folder, sharded=sharded, recompute=recompute)
                for sharded in (False, True)
            )
            for found, expected in zip(sharded, whole, strict=True):
                said = f"{folder.name}: {{}}".format
                torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4, msg=said)
    destroy_process_group()
