"""The `dnd watch` command: shows the progress of a `dnd train` or `dnd collect` run."""

import time
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dnd_engine.cli.common import Json, plain_errors, show
from dnd_engine.progress import duration

if TYPE_CHECKING:
    from dnd_engine.training.watch import Collecting, Training

_FOLLOW_SECONDS = 5.0


@plain_errors
def watch(
    run: Annotated[Path, typer.Argument(help="The --out folder of `dnd train` or `dnd collect`.")],
    follow: Annotated[
        bool, typer.Option("--follow", help="Print again after each change, until the run ends.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the progress of a run; with --json every number."""
    from dnd_engine.training.watch import RunFolder

    folder = RunFolder(run)
    printed = None
    while True:
        seen = folder.look()
        # Not all of `seen`, which also says how long nothing has changed, and so always differs.
        if printed != (seen.state, seen.moved):
            show(_values(seen), as_json, _words(seen))
            printed = (seen.state, seen.moved)
        if not follow or seen.state == "finished":
            return
        time.sleep(_FOLLOW_SECONDS)


def _values(seen: "Training | Collecting") -> dict[str, Any]:
    """Return all values except the training curves, which are files in the run folder."""
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
        "running": f"running, last change {idle} ago",
        "still": f"no change for {idle}",
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
            facts.append("stopped early, because validation did not improve")
        if seen.collapsed_at is not None:
            facts.append("collapsed: adapters of different tasks are nearly the same")
    head = f"{seen.name} ({seen.kind.replace('_', ' ')}): {state}"
    return f"{head}\n{', '.join(facts)}"
