"""The command that tells how a run of `dnd train` or `dnd collect` goes."""

import time
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dnd_engine.cli.common import Json, plain_errors, show
from dnd_engine.progress import duration

if TYPE_CHECKING:
    from dnd_engine.training.watch import Collecting, Training

__all__ = ["watch"]

_FOLLOW_SECONDS = 5.0
_NUMBERS = {
    "validation_loss": "validation loss, right prompts",
    "validation_loss_wrong_prompts": "validation loss, wrong prompts",
    "validation_exact": "answers exactly right",
    "families_loss": "unseen families, right prompts",
    "families_loss_wrong_prompts": "unseen families, wrong prompts",
    "families_exact": "unseen families, exactly right",
    "between_task_share": "between-task share",
}


@plain_errors
def watch(
    run: Annotated[Path, typer.Argument(help="The --out folder of `dnd train` or `dnd collect`.")],
    follow: Annotated[
        bool, typer.Option("--follow", help="Tell again whenever it has moved, until it is done.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Tell how a run goes: its progress, its losses, the time left."""
    from dnd_engine.training.watch import RunFolder

    folder = RunFolder(run)
    told = None
    while True:
        seen = folder.look()
        if told != (seen.state, seen.moved):
            show(_values(seen), as_json, _words(seen))
            told = (seen.state, seen.moved)
        if not follow or seen.state == "finished":
            return
        time.sleep(_FOLLOW_SECONDS)


def _values(seen: "Training | Collecting") -> dict[str, Any]:
    """All but the curves, which are in the folder."""
    from dnd_engine.training.watch import Training

    values = {f.name: getattr(seen, f.name) for f in fields(seen)}
    if isinstance(seen, Training):
        del values["rows"]
        latest = seen.latest().items()
        values["latest"] = {name: {"step": s, "value": v} for name, (s, v) in latest}
        values["smoothed_loss"] = seen.smooth_loss()[-1][1] if seen.rows else None
    else:
        values["curves"] = [
            {"slug": slug, "seed": seed, **asdict(rows[-1])}
            for (slug, seed), rows in seen.curves.items()
        ]
        values["runs"] = [run.to_json() for run in seen.runs]
    return values


def _words(seen: "Training | Collecting") -> str:
    from dnd_engine.training.watch import Training

    idle = duration(seen.idle_seconds)
    state = {
        "starting": f"has not written a step yet; its folder last changed {idle} ago",
        "running": f"running, last moved {idle} ago",
        "still": f"has not moved for {idle}",
        "finished": "finished",
    }[seen.state]
    things = "steps" if isinstance(seen, Training) else "LoRAs"
    of_all = "" if seen.total is None else f" of {seen.total:,}"
    facts = [f"{seen.done:,}{of_all} {things}"]
    if seen.seconds_left is not None:
        facts.append(f"{duration(seen.seconds_left)} left at this pace")
    if isinstance(seen, Training):
        if seen.tokens_per_second is not None:
            facts.append(f"{seen.tokens_per_second:.0f} tokens a second")
        if seen.stopped_early:
            facts.append("stopped early, since validations brought nothing better")
        table = _numbers(seen)
    else:
        table = _losses(seen)
    head = f"{seen.name} ({seen.kind.replace('_', ' ')}): {state}"
    return "\n".join([head, ", ".join(facts), *table])


def _numbers(seen: "Training") -> Iterable[str]:
    if seen.rows:
        step, loss = seen.smooth_loss()[-1]
        yield f"  {'training loss, smoothed':34} {loss:8.3g}  step {step}"
    latest = seen.latest()
    for name, words in _NUMBERS.items():
        if name in latest:
            step, value = latest[name]
            yield f"  {words:34} {value:8.3g}  step {step}"
    if seen.collapsed_at is not None:
        yield "  Collapsed: adapters of different tasks are alike, the prompts make no difference."


def _losses(seen: "Collecting") -> Iterable[str]:
    for run in seen.runs:
        before, after = run.first_validation_loss, run.last_validation_loss
        yield f"  {run.slug:36} {before:6.3f} -> {after:6.3f}  {run.steps} steps"
    for (slug, _), rows in seen.curves.items():
        loss = "" if rows[-1].loss is None else f"{rows[-1].loss:6.3f}"
        yield f"  {slug:36} in training: {loss}  step {rows[-1].step}"
