"""Splits a frozen base over the processes of a training run, block by block.

Each process keeps its share of every transformer block. The processes gather a block when it
computes, forward and again backward, and drop what is not theirs afterwards. So all of them must
run the same passes in the same order. What is outside the blocks stays whole in each process,
because the loss reads the output layer's weights directly (`training.token_loss`).

Source: PyTorch's fully sharded data parallelism, Zhao et al. 2023, arXiv:2304.11277.
"""

from collections.abc import Iterable

from torch import nn

from dnd_engine.models.base import BaseModel, block, output_layer
from dnd_engine.models.memory import check_memory

_GATHERED = 2
"""Blocks that are whole at the same time: one computes while the next is gathered."""


def shard_base(base: BaseModel, num_processes: int) -> None:
    """Keep only this process's share of each block, on the base's device.

    Every process calls it. The weights may be in main memory until then; block after block goes to
    the device, so the whole base is never there.

    Args:
        base: A loaded base.
        num_processes: Processes of the run's process group.

    Raises:
        AssetError: If the share does not fit into the device's memory.
    """
    # Here, because torch may be built without it, and a run in one process does not need it.
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    stack = base.model.get_submodule("model")
    blocks = [block(base.model, index) for index in range(base.num_layers)]
    whole = [part for part in stack.children() if not isinstance(part, nn.ModuleList)]
    whole.append(output_layer(base.model))
    gathered = _GATHERED * max(_num_bytes([layer]) for layer in blocks)
    needed = _num_bytes(whole) + _num_bytes(blocks) // num_processes + gathered
    check_memory(needed, f"the share of {base.weights.hub_id}", base.device)
    for part in whole:
        part.to(base.device)
    mesh = init_device_mesh(base.device.type, (num_processes,))
    for layer in blocks:
        fully_shard(layer, mesh=mesh)
    # Around the blocks, so that one is gathered while another computes.
    fully_shard(stack, mesh=mesh, ignored_params={p for part in whole for p in part.parameters()})


def _num_bytes(modules: Iterable[nn.Module]) -> int:
    """Return the bytes of the weights of modules; tied ones count once."""
    return sum(p.nbytes for p in {p for module in modules for p in module.parameters()})
