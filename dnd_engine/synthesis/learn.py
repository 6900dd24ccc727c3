"""Training of one adapter: on the base's answers, a better model's, or a person's."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Generator as Steps
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch

from dnd_engine.config import RefineConfig
from dnd_engine.errors import ConfigError
from dnd_engine.lora.adapter import Adapter
from dnd_engine.lora.provenance import BucketScore, BucketSource, Imprinting, Refinement
from dnd_engine.lora.seen import Seen, digest, with_met
from dnd_engine.progress import AnswerCounts, Doing, Progress, each_as
from dnd_engine.prompts.buckets import Bucket, check_buckets
from dnd_engine.synthesis.loaded import Loaded
from dnd_engine.tasks.folder import Example
from dnd_engine.teach.local import BetterModel
from dnd_engine.training.finetune.refine import (
    ASKED_TOGETHER,
    AnswersOf,
    Refined,
    RefineStep,
    choose,
    propose,
    refine,
)

_TAUGHT = "-taught"
"""Suffix of the name of an adapter that was trained, on whoever's answers; added once."""

_MAX_ANSWER_CHARACTERS = 40
"""Maximum characters of a teacher's answer in a progress message."""


def refine_adapter(
    loaded: Loaded,
    adapter: Adapter,
    buckets: Sequence[Bucket],
    config: RefineConfig,
    enough: Callable[[], bool] | None = None,
) -> Steps[Progress, None, Adapter]:
    """Train an adapter on prompts of its own task; see `Engine.refine`."""
    started = time.monotonic()
    counting = _counting(loaded, buckets)
    made = yield from _train(loaded, adapter, _examples(counting), counting, config, None, enough)
    refined = Refinement.of(
        # An early end belongs to the recipe; the learning rate still follows the schedule of all
        # steps.
        replace(config, stop_after=made.steps if made.steps < config.steps else None),
        from_sha256=adapter.sha256,
        teacher_sha256="" if config.labels else loaded.teacher_sha256(config),
        num_prompts=len(made.prompts),
        commonest_share=made.commonest_share,
        score=made.score,
        score_before=made.score_before,
        num_held_back=made.num_held_back,
        by_bucket=_by_bucket(made, counting),
        # Training starts from the scaled tokens, so the strength is folded in from here on.
        folded=tuple(adapter.fold().provenance.get("folded", ())),
        buckets=tuple(map(BucketSource.of, counting)),
    )
    origin = dict(adapter.provenance)
    if before := origin.get("refined"):
        origin["refined_before"] = [*origin.get("refined_before", ()), before]
    if isinstance(trained := origin.get("trained"), Mapping):
        # What others taught still counts, but its score is no longer the last.
        origin["trained"] = {**trained, "refined_later": True}
    # Earlier foldings belong to the refinement; a recipe applies later ones after it.
    origin |= {"folded": [], "refined": refined.to_json()}
    return _trained(adapter, made, origin, "refine", started, labels=config.labels)


def teach_adapter(
    loaded: Loaded,
    adapter: Adapter,
    answers: Mapping[str, str] | BetterModel,
    buckets: Sequence[Bucket],
    config: RefineConfig,
    enough: Callable[[], bool] | None = None,
) -> Steps[Progress, None, Adapter]:
    """Train an adapter on the answers of a person or of a better model; see `Engine.teach`."""
    started = time.monotonic()
    asked: AnswersOf | None = None
    if isinstance(answers, Mapping):
        examples = [Example(text, given.strip()) for text, given in answers.items()]
    else:
        examples, asked = _examples(_counting(loaded, buckets)), answers.answers
    config = replace(config, labels=asked is None)
    counting = [bucket for bucket in buckets if bucket.weight > 0]
    made = yield from _train(loaded, adapter, examples, counting, config, asked, enough)
    trained: dict[str, Any] = {
        **_whose(answers),
        "labels": True,
        "start": "adapter",
        "from_sha256": adapter.sha256,
        "num_examples": len(made.prompts),
        "steps": made.steps,
        "seed": config.seed,
        "score": made.score,
        "score_before": made.score_before,
        "num_held_back": made.num_held_back,
    }
    if parts := _by_bucket(made, counting):
        trained["by_bucket"] = [asdict(part) for part in parts]
    if made.steps < config.steps:
        trained["stop_after"] = made.steps
    if made.num_lost:
        trained["num_lost"] = made.num_lost
    origin = {**adapter.provenance, "trained": trained}
    return _trained(adapter, made, origin, "train", started, labels=True)


def _trained(
    start: Adapter, made: Refined, origin: dict[str, Any], step: str, began: float, *, labels: bool
) -> Adapter:
    """Return the adapter after a step of training, with its new provenance."""
    return start.with_tokens(
        made.tokens.to(torch.bfloat16),
        name=f"{start.name.removesuffix(_TAUGHT)}{_TAUGHT}",
        strength=1.0,
        provenance=with_met(origin, made.prompts, labels=labels, after=start.provenance),
        seconds=start.seconds_with(step, time.monotonic() - began),
    )


def _by_bucket(made: Refined, buckets: Sequence[Bucket]) -> tuple[BucketScore, ...] | None:
    """Return the parts of a score; None for one bucket, or if no prompt was held back."""
    if len(buckets) < 2 or not made.scores:
        return None
    found = []
    for bucket in buckets:
        texts = dict.fromkeys(prompt.text for prompt in bucket.prompts)
        scores = [made.scores[text] for text in texts if text in made.scores]
        mean = sum(scores) / len(scores) if scores else None
        found.append(BucketScore(bucket=bucket.name, num_held_back=len(scores), score=mean))
    return tuple(found)


def _whose(answers: Mapping[str, str] | BetterModel) -> dict[str, str]:
    """Name the source of answers for a provenance: a model with its hash, if that is known."""
    if isinstance(answers, Mapping):
        return {"answers": "person"}
    named = {"answers": "teacher", "teacher": answers.model}
    return named | ({"teacher_sha256": answers.sha256} if answers.sha256 else {})


def propose_answers(
    loaded: Loaded, buckets: Sequence[Bucket], *, limit: int, seed: int
) -> Steps[Progress, None, dict[str, str]]:
    """Let the base answer some prompts, for a person to correct; see `Engine.propose`."""
    started = time.monotonic()
    if not 1 <= limit <= 1000:
        raise ConfigError(f"`limit` must be between 1 and 1000, got {limit}.")
    config = RefineConfig(max_prompts=limit, least_prompts=1, seed=seed)
    examples = _examples(_counting(loaded, buckets))
    # Kept apart, because `choose` drops responses unless it is to train on labels.
    labels = {example.prompt: example.response for example in examples}
    chosen = choose(examples, loaded.base, config, whole=True)
    found = {one.prompt: labels[one.prompt] for one in chosen}
    unknown = [Example(prompt, "") for prompt, label in found.items() if not label]
    rest = iter(unknown)
    proposed = propose(loaded.runtime, unknown, loaded.fit_asked(config), config)
    for number, answers in enumerate(proposed, start=1):
        found |= {next(rest).prompt: answer or "" for answer in answers}
        # The last batch may be smaller.
        done, total = min(number * ASKED_TOGETHER, len(unknown)), len(unknown)
        elapsed = time.monotonic() - started
        yield Progress("ask", done / total, elapsed, "ask", done=done, total=total)
    return found


def _train(
    loaded: Loaded,
    adapter: Adapter,
    examples: Sequence[Example],
    buckets: Sequence[Bucket],
    config: RefineConfig,
    answers: AnswersOf | None,
    enough: Callable[[], bool] | None,
) -> Steps[Progress, None, Refined]:
    loaded.check_made_here(adapter)
    # Lazy, because its metrics load nltk, which nothing else needs.
    from dnd_engine.teach.held_back import score_bare

    started = time.monotonic()
    steps = refine(
        loaded.runtime,
        adapter.scaled_tokens,
        adapter.layout,
        examples,
        loaded.fit_asked(config),
        config,
        answers=answers,
        score=partial(score_bare, loaded.runtime, adapter.layout),
        unfitted=_unfitted(adapter, examples, config),
        groups=[{p.text for p in bucket.prompts} for bucket in buckets if config.each_bucket],
        enough=enough,
    )

    def words(step: RefineStep) -> Progress:
        asking: Doing = "answered" if step.answers else "ask"
        asks = step.stage == "ask"
        return Progress(
            step.stage,
            step.done / step.total,
            time.monotonic() - started,
            asking if asks else "train",
            # Prompts are answered in batches: a share would stay at 0 % and then jump.
            done=step.done if asks else None,
            total=step.total if asks else None,
            loss=step.loss,
            seconds_left=step.seconds_left,
            answers=_counted(step.answers) if step.answers else None,
            score=step.score,
            score_before=step.score_before,
            num_held_back=step.num_held_back,
            by_itself=answers is None and not config.labels,
        )

    return (yield from each_as(steps, words))


def _unfitted(
    adapter: Adapter, examples: Sequence[Example], config: RefineConfig
) -> frozenset[str]:
    """Return the prompts to hold back first: those that the adapter's imprint was not fitted to."""
    # Where nothing is held back, the draw stays as it is.
    wanted = config.hold_back_unfitted and config.held_back_share > 0
    if not (wanted and adapter.is_imprinted):
        return frozenset()
    seen = Seen.by(adapter.provenance)
    # The imprint counts its left-out prompts as read, too.
    left_out = Imprinting.from_json(adapter.provenance["imprint"]).left_out
    fitted = (seen.read - frozenset(left_out)) | seen.learnt
    return frozenset(e.prompt for e in examples if digest(e.prompt) not in fitted)


def _counting(loaded: Loaded, buckets: Sequence[Bucket]) -> list[Bucket]:
    """Return the buckets to train on, those of positive weight, all with equal weight."""
    return [b for b in check_buckets(buckets, loaded.config.limits) if b.weight > 0]


def _examples(buckets: Sequence[Bucket]) -> list[Example]:
    """Return the distinct prompts of buckets with their labels, of several the last."""
    labels: dict[str, str] = {}
    for prompt in (prompt for bucket in buckets for prompt in bucket.prompts):
        labels[prompt.text] = prompt.label or labels.get(prompt.text, "")
    return [Example(text, label) for text, label in labels.items()]


def _counted(answers: Sequence[str]) -> AnswerCounts:
    counts = Counter(answers)
    ((answer, times),) = counts.most_common(1)
    if len(answer) > _MAX_ANSWER_CHARACTERS:
        answer = answer[:_MAX_ANSWER_CHARACTERS].rstrip() + "…"
    return AnswerCounts(answer, times, len(answers), len(counts))
