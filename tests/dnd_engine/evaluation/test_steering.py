"""Steering vectors on a tiny random base."""

import torch

from dnd_engine.evaluation.steering import SteeredForward, Steering, steering_between
from dnd_engine.models.base import block
from dnd_engine.models.forward import HookedForward
from dnd_engine.models.new_tokens import NewTokens
from dnd_engine.models.runtime import Runtime
from tests.dnd_engine.tiny import LAYOUT, random_tokens

PROMPTS = [("Say it twice.\n\nrain", "rain"), ("Say it twice.\n\na long road", "a long road")]


def test_the_vector_is_the_mean_change_of_the_last_tokens_state(runtime: Runtime) -> None:
    base = runtime.base
    teacher = runtime.host.fit(random_tokens(LAYOUT, seed=3)[None])
    found = steering_between(runtime, PROMPTS, teacher)
    assert found.block == base.num_layers // 2
    states: list[torch.Tensor] = []
    block(base.model, found.block).register_forward_hook(
        lambda _module, _args, output: states.append(output[0, -1])
    )
    changes = []
    for whole, bare in PROMPTS:
        for text, active in ((whole, teacher), (bare, None)):
            with runtime.host.applying(active), torch.inference_mode():
                base.model(torch.tensor([base.chat_ids(text)]))
        changes.append(states[-2] - states[-1])
    mean = torch.stack(changes).mean(dim=0)
    torch.testing.assert_close(found.change, mean, atol=1e-3, rtol=1e-3)
    alone = steering_between(runtime, PROMPTS, None)
    assert not torch.allclose(found.change, alone.change)


def test_the_vector_is_added_to_every_state_of_its_block_and_removed_afterwards(
    runtime: Runtime,
) -> None:
    base = runtime.base
    ids = torch.tensor([base.chat_ids("rain"), base.chat_ids("snow")])
    positions = torch.arange(ids.shape[1]).expand_as(ids)
    before: list[torch.Tensor] = []
    last = base.num_layers - 1
    hook = block(base.model, last).register_forward_hook(lambda _m, _a, out: before.append(out))
    plain = HookedForward(base, runtime.host.applying)
    unchanged = plain.hidden(NewTokens(ids, positions, None, plain.new_cache(2), None))
    hook.remove()
    change = torch.linspace(-1, 1, before[0].shape[-1])
    steered = SteeredForward(base, runtime.host.applying, Steering(last, change))
    found = steered.hidden(NewTokens(ids, positions, None, steered.new_cache(2), None))
    with torch.inference_mode():
        expected = base.model.get_submodule("model.norm")(before[0] + change)
    torch.testing.assert_close(found, expected)
    again = plain.hidden(NewTokens(ids, positions, None, plain.new_cache(2), None))
    torch.testing.assert_close(again, unchanged)
