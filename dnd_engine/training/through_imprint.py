"""A teacher trained for what its imprints do: the loss goes back through the regression.

Each task of a step is treated as in use: the teacher answers some of its prompts, an imprint is
fitted to these answers, and right answers to other inputs give the loss, bare, under the imprint.
Its gradient reaches the teacher through the states that the layers are fitted to. Constants of the
gradient are the answers, the penalty's weight, the directions of the rank, and which layers change.

Source: differentiating through a ridge regression is Bertinetto et al. 2019 (R2-D2),
arXiv:1805.08136.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from dnd_engine.config import ImprintConfig
from dnd_engine.errors import TrainingError
from dnd_engine.imprint.fit import MIN_EXPLAINED, Reading, Turn, bare_of, first_layer, full_of
from dnd_engine.imprint.ordinary import ordinary_penalties
from dnd_engine.imprint.solve import Penalty, solve
from dnd_engine.models.base import logit_cap, mlp_norm, output_layer
from dnd_engine.models.runtime import Runtime
from dnd_engine.progress import finish
from dnd_engine.scoring.answers import answer_in_batches
from dnd_engine.scoring.questions import Question
from dnd_engine.training.batches import Batch, TaskPool
from dnd_engine.training.examples import encode_example
from dnd_engine.training.recipe import TrainRecipe
from dnd_engine.training.token_loss import token_losses

_INSTRUCTED_WEIGHT = 0.5
"""Weight of whole prompts under the teacher alone, beside 1 for bare inputs under its imprint: what
the teacher cannot do with the instruction, no imprint of it can do without."""


class ImprintLoss:
    """Nats per answer token of bare inputs under imprints of the teacher's answers.

    The runtime has the layout of the teacher, the pools are those that `has_bare_inputs`.

    Raises:
        TrainingError: If a norm follows the layers that an imprint changes.
    """

    needs_examples = False

    def __init__(self, runtime: Runtime, pools: Sequence[TaskPool], recipe: TrainRecipe) -> None:
        base = runtime.base
        if mlp_norm(base.model, 0) is not None:
            raise TrainingError(
                f"the objective imprint cannot train on {base.weights.hub_id}: a norm follows the "
                "layers that an imprint changes. Use `objective: task_loss`."
            )
        self._runtime, self._pools, self._recipe = runtime, pools, recipe
        self._config = ImprintConfig()
        self._first = first_layer(base.num_layers, self._config)
        self._penalties = _measured(runtime, self._first, recipe.cache_folder)

    def loss(self, batch: Batch, tokens: Float[Tensor, "tasks tokens rows cols"]) -> Tensor:
        """Mean over tasks; one whose prompts the teacher does not answer counts as 0."""
        teacher = tokens[0]
        total, slope = 0.0, torch.zeros_like(teacher)
        for task in batch.tasks:
            pool = self._pools[task]
            rng = random.Random(f"{self._recipe.seed}:{batch.step}:{pool.task.info.slug}:imprint")
            # Task by task, which frees the activations of one before the next begins.
            own = teacher.detach().requires_grad_(torch.is_grad_enabled())
            value = self._of_task(self._draw(pool, rng), own)
            if value is None:
                continue
            total += value.item()
            if value.requires_grad:
                slope += torch.autograd.grad(value, own)[0]
        # As far as its value and gradient go, the mean of the tasks' losses.
        return (total + ((teacher - teacher.detach()) * slope).sum()) / len(batch.tasks)

    def _draw(self, pool: TaskPool, rng: random.Random) -> list[Turn]:
        """Draw prompts to imprint and examples to score, all different."""
        wanted = _needed(self._recipe)
        turns: list[Turn] = []
        for example in rng.sample(pool.examples, len(pool.examples)):
            tokenizer = self._runtime.base.tokenizer
            full = encode_example(tokenizer, example, "full")
            bare = encode_example(tokenizer, example, "bare")
            if full is None or bare is None or len(full.ids) > self._recipe.max_tokens:
                continue
            answer = full.ids[full.start :]
            whole, short = full.ids[: full.start], bare.ids[: bare.start]
            turns.append(Turn(whole, short, answer, range(len(answer))))
            if len(turns) == wanted:
                break
        return turns

    def _of_task(
        self, turns: Sequence[Turn], tokens: Float[Tensor, "tokens rows cols"]
    ) -> Tensor | None:
        """Imprint the teacher's answers to the first turns, and score the others.

        Returns:
            None if there are not enough answers to fit, or none to score.
        """
        prompts, scored = (
            turns[: self._recipe.imprint_prompts],
            turns[self._recipe.imprint_prompts :],
        )
        fitted = self._answered(prompts, tokens)
        # A single prompt cannot be left out, so no layer would change.
        if len(fitted) < 2 or not scored:
            return None
        base, host, config = self._runtime.base, self._runtime.host, self._config
        teacher = host.fit(tokens[None])
        taught = Reading(base, [*fitted, *scored], full_of)
        bare, full = Reading(base, fitted, bare_of), Reading(base, fitted, full_of)
        asked = Reading(base, scored, bare_of)
        owners = torch.arange(len(fitted)).repeat_interleave(
            torch.tensor([len(turn.answer) for turn in fitted])
        )
        num_matched = len(owners)
        groups = torch.cat([owners, owners]).to(base.device)
        weights = torch.ones(2 * num_matched, device=base.device)
        weights[num_matched:] = config.full_weight
        for layer in range(base.num_layers):
            with host.applying(teacher):
                taught.blocks.advance(layer)
            for one in (bare, full, asked):
                one.blocks.advance(layer)
            if layer < self._first:
                continue
            target = taught.states()[:num_matched].repeat(2, 1)
            update = solve(
                torch.cat([bare.inputs(), full.inputs()]),
                target - torch.cat([bare.states(), full.states()]),
                groups,
                weights,
                self._penalties[layer],
                ridge=config.ridge,
                ordinary_change=config.ordinary_change,
                r=config.r,
            )
            if update.explained > MIN_EXPLAINED:
                for one in (bare, full, asked):
                    one.apply(update.a, update.b)
        without = self._nll(asked.hidden(), scored)
        return without + _INSTRUCTED_WEIGHT * self._nll(taught.hidden()[num_matched:], scored)

    def _answered(
        self, turns: Sequence[Turn], tokens: Float[Tensor, "tokens rows cols"]
    ) -> list[Turn]:
        """Replace the right answers by the teacher's own; leave out empty ones."""
        runtime = self._runtime
        most = self._config.max_answer_tokens
        questions = [Question(t.full, (runtime.base.turn_end,), (), most) for t in turns]
        found: dict[int, tuple[int, ...]] = {}
        with torch.inference_mode():
            teacher = runtime.host.fit(tokens.detach()[None])
            for batch in answer_in_batches(runtime, questions, teacher):
                found |= {n: questions[n].answered(one) for n, one in batch if one.ids}
        return [
            replace(turns[n], answer=a, offsets=range(len(a))) for n, a in sorted(found.items())
        ]

    def _nll(self, hidden: Float[Tensor, "answer_tokens width"], turns: Sequence[Turn]) -> Tensor:
        """Mean over turns of the loss per answer token."""
        model = self._runtime.base.model
        targets = torch.tensor([token for turn in turns for token in turn.answer])
        nll, _ = token_losses(
            hidden, output_layer(model).weight, targets.to(hidden.device), logit_cap(model)
        )
        by_turn = nll.split([len(turn.answer) for turn in turns])
        return torch.stack([own.mean() for own in by_turn]).mean()


def has_bare_inputs(pool: TaskPool, recipe: TrainRecipe) -> bool:
    """Return whether a task has enough examples that can be shown without the instruction."""
    return sum(example.bare is not None for example in pool.examples) >= _needed(recipe)


def _needed(recipe: TrainRecipe) -> int:
    return recipe.imprint_prompts + recipe.examples_per_task


def _measured(runtime: Runtime, first: int, cache: Path) -> Mapping[int, Penalty]:
    """Measure the penalty of the layers, as for any imprint, or read it from the cache."""
    found = finish(ordinary_penalties(runtime, first, cache))
    # Copies, because tensors from inference mode cannot be saved for a gradient.
    return {
        layer: replace(penalty, directions=penalty.directions.clone(), gains=penalty.gains.clone())
        for layer, penalty in found.items()
    }
