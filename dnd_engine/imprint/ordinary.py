"""Measures the base's layers on ordinary messages, whose answers an imprint must preserve.

The base answers the shipped messages (`assets/ordinary.txt`, ours). The mean outer product of each
layer's inputs is the penalty of the regression (see `solve`): a change costs as much as it alters
the outputs on ordinary messages. Its limit is relative to these outputs. Both are measured once per
base and cached on disk.
"""

import hashlib
import logging
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dnd_engine.files import asset_path, written_aside
from dnd_engine.imprint.solve import Penalty
from dnd_engine.models.blocks import BlockPass, cut_rows
from dnd_engine.models.runtime import Runtime
from dnd_engine.scoring.answers import answer_in_batches, batches
from dnd_engine.scoring.questions import open_question

logger = logging.getLogger(__name__)

_ANSWER_TOKENS = 24
_FIRST_WEIGHT = 5.0
"""Weight of an answer's first token, which decides its style."""
_INPUT_WEIGHT = 0.2
"""Weight of the message's own tokens, whose changes reach the answer through attention."""
_FLOOR = 0.1
"""Share of the mean variance added to every direction. Results did not differ from .01 to 1."""
_DIRECTIONS = 512
"""Leading directions kept per layer, a third of the embedded base's; the rest are at the floor."""


def ordinary_messages() -> tuple[str, ...]:
    """Return the shipped messages."""
    return tuple(asset_path("ordinary.txt").read_text(encoding="utf-8").split("\n")[:-1])


def ordinary_penalties(
    runtime: Runtime, first_layer: int, cache: Path
) -> Generator[float, None, Mapping[int, Penalty]]:
    """Find the penalty of every layer from `first_layer` up, cached on disk.

    Yields:
        Share of the measurement that is done; nothing if the cache has it.

    Returns:
        The penalties by layer, by `yield from` or `StopIteration.value`.
    """
    messages = ordinary_messages()
    # Per device and type: they round differently, and an imprint promises equal bytes.
    device, dtype = runtime.base.device.type, str(next(runtime.base.model.parameters()).dtype)
    key = repr((runtime.base.weights.sha256, first_layer, _ANSWER_TOKENS, _FIRST_WEIGHT))
    key += repr((device, dtype))
    # "size": files of earlier versions lack it.
    key += repr((_INPUT_WEIGHT, _FLOOR, _DIRECTIONS, messages, "size"))
    # Bases of equal weights may have other templates, as after an update on the Hub.
    key += repr(open_question(runtime.base.tokenizer, messages[0], _ANSWER_TOKENS).prompt)
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    path = cache / f"ordinary-{digest}.safetensors"
    if (kept := _read(path, runtime.base.device)) is not None:
        return kept
    penalties = yield from measure_ordinary(runtime, messages, first_layer)
    _write(path, penalties)
    # From the file, as in later starts: it is mapped, and rounds what was measured.
    return _read(path, runtime.base.device) or penalties


@torch.inference_mode()
def measure_ordinary(
    runtime: Runtime, messages: Sequence[str], first_layer: int
) -> Generator[float, None, dict[int, Penalty]]:
    """Let the base answer messages, and measure inputs and outputs of its layers.

    The base's lock is held for one batch or block at a time.

    Yields:
        Share that is done, after every batch of answers and every layer.

    Returns:
        The penalties by layer.
    """
    base = runtime.base
    questions = [open_question(base.tokenizer, text, _ANSWER_TOKENS) for text in messages]
    answers: dict[int, tuple[int, ...]] = {}
    num_batches = len(list(batches([questions], shared=True)))
    num_steps = num_batches + base.num_layers
    for step, batch in enumerate(answer_in_batches(runtime, questions, None), 1):
        answers |= {number: one.ids for number, one in batch}
        yield step / num_steps
    rows = {n: questions[n].prompt + answers[n] for n in sorted(answers)}
    numbered = list(rows)
    passes, weights = [], []
    for cut in cut_rows(list(rows.values())):
        chunk = [numbered[place] for place in cut]
        one = BlockPass(base, [rows[n] for n in chunk])
        passes.append(one)
        weights.append(torch.zeros(len(one.states), dtype=torch.float32))
        for n, places in zip(chunk, one.places, strict=True):
            # A token that several rows share counts once per row.
            own = _weights(questions[n].prompt, answers[n])
            weights[-1].index_add_(0, torch.tensor(places), own)
    penalties = {}
    for layer in range(base.num_layers):
        inputs, outputs = [], []
        for one in passes:
            with runtime.lock:
                one.advance(layer)
            assert one.inputs is not None
            if layer >= first_layer:
                inputs.append(one.inputs.float())
                outputs.append(one.outputs)
        if layer >= first_layer:
            penalties[layer] = Penalty.of(
                torch.cat(inputs),
                torch.cat(outputs),
                torch.cat(weights).to(inputs[0]),
                floor=_FLOOR,
                most=_DIRECTIONS,
            )
        yield (num_batches + layer + 1) / num_steps
    return penalties


def _weights(prompt: Sequence[int], answered: Sequence[int]) -> Tensor:
    """Return token weights of one row: message, last position before the answer, answer."""
    weights = torch.ones(len(prompt) + len(answered), dtype=torch.float32)
    weights[: len(prompt)] = _INPUT_WEIGHT
    # Ignore the first position. All rows share it, and its state is far larger than any other: it
    # would dominate the mean, and no update changes it.
    weights[0] = 0
    weights[len(prompt) - 1] = _FIRST_WEIGHT
    return weights


def _read(path: Path, device: torch.device) -> dict[int, Penalty] | None:
    """Read cached penalties to the base's device; None if they are missing or damaged."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            layers = sorted({int(name.split(".")[0]) for name in file.keys()})  # noqa: SIM118  # no mapping
            return {
                layer: Penalty(
                    file.get_tensor(f"{layer}.directions").to(device),
                    file.get_tensor(f"{layer}.gains").to(device),
                    float(file.get_tensor(f"{layer}.floor")),
                    float(file.get_tensor(f"{layer}.size")),
                )
                for layer in layers
            }
    except (OSError, SafetensorError, ValueError) as error:
        logger.warning("Measuring ordinary activity again: `%s` is damaged (%s).", path.name, error)
        return None


def _write(path: Path, penalties: Mapping[int, Penalty]) -> None:
    """Cache penalties for the next start; on a disk error, that start just takes longer."""
    tensors = {
        f"{layer}.{name}": torch.as_tensor(getattr(penalty, name), dtype=torch.float32).cpu()
        for layer, penalty in penalties.items()
        for name in ("directions", "gains", "floor", "size")
    }
    try:
        with written_aside(path) as aside:
            save_file(tensors, aside)
    # safetensors reports a full disk with its own exception.
    except (OSError, SafetensorError) as error:
        logger.warning("Ordinary activity is not kept in `%s`: %s.", path.parent, error)
