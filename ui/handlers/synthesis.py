"""Synthesis: prompts in, adapter out."""

from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr

from dnd_engine.buckets import Bucket, check_buckets
from dnd_engine.config import Mix, RefineConfig
from dnd_engine.prompts import one_line
from ui.canvas import Arrangement
from ui.handlers.base import TICK_SECONDS, Updates, bare, fingerprint, told, used_words
from ui.handlers.runs import RunHandlers, Stopped
from ui.markup import cut
from ui.panels.compare import NUM_SUGGESTIONS
from ui.panels.stages import Stages
from ui.spaces import gpu
from ui.state import Made, Run, RunKind, Session

if TYPE_CHECKING:
    from dnd_engine.encoder import PromptMemory

__all__ = ["SynthesisHandlers"]

_LEAST_LABELS = RefineConfig().least_prompts
"""Labelled prompts from which refining can learn."""


class SynthesisHandlers(RunHandlers):
    """Events of the action bar."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # On ZeroGPU it runs in a worker, which has the engine by fork: never as an argument.
        self._synthesis_steps = gpu(self._synthesis_steps_here)

    def begin_synthesis(
        self, arrangement: Arrangement, session: Session, *, kind: RunKind = "synthesis"
    ) -> Updates:
        """Take the order for what lies on the canvas now; a remix has read it before."""
        stages = Stages(self._text, ("wait", "read", "encode", "decode", "check"), kind)
        buckets = tuple(self._buckets(arrangement, session))
        return self._begin(session, Run(kind, stages, buckets))

    def synthesize(
        self, session: Session, mix: Mix, seed: float, request: gr.Request
    ) -> Iterator[Updates]:
        """Make the adapter, stage by stage."""
        run = self._ordered(session, "synthesis", "remix")
        if run is None:
            return
        work = self._synthesis(session, run, mix, int(seed or 0))
        made = yield from self._carry_out(session, run, work, request.session_hash or "")
        if made is None:
            return
        yield {
            **self._over(session, run),
            **self._show(session),
            **self._offers(session, made),
            "inbox": {"op": "fold"},
        }

    def _offers(self, session: Session, made: Made) -> Updates:
        """What follows from an adapter's prompts: what to ask, and whether labels are there."""
        session.suggestions = _suggestions(made.buckets, session.example_questions)
        return {
            **_suggestion_buttons(session.suggestions),
            "refine_labels": gr.Checkbox(
                value=False, visible=_labelled(made.buckets), interactive=True
            ),
        }

    def _synthesis(
        self, session: Session, run: Run, mix: Mix, seed: int
    ) -> Generator[Updates, None, Made]:
        stages = run.stages
        yield from self._wait_for_engine(run)
        stages.enter("read")
        buckets = check_buckets(run.buckets, self._limits)
        stages.enter("read", used_words(self._text, buckets, 0))
        if session.memory is None:
            session.memory = self._ready_engine().new_memory()
        steps = self._synthesis_steps(buckets, mix, seed, session.memory)
        adapter = yield from self._follow(run, steps)
        return Made(
            original=adapter,
            adapter=adapter,
            made_from=fingerprint(run.buckets),
            buckets=buckets,
            stages=stages,
        )

    def _wait_for_engine(self, run: Run) -> Iterator[Updates]:
        stages = run.stages
        self._handle.start()
        while True:
            if run.stop.is_set():
                raise Stopped
            if self._handle.wait(TICK_SECONDS) is not None:
                return
            state = self._handle.snapshot()
            if state.progress is None:
                stages.enter("load")
            else:
                stages.enter(
                    "download" if state.progress.stage == "download" else "load",
                    self._text.step(state.progress.detail),
                    state.progress.fraction,
                )
            yield {"stages": stages.html()}

    def _synthesis_steps_here(
        self, buckets: tuple[Bucket, ...], mix: Mix, seed: int, memory: "PromptMemory"
    ) -> Iterator[tuple[str, Any]]:
        engine = self._ready_engine()
        yield from told(engine.synthesize(buckets, mix=mix, seed=seed, memory=memory))


def _labelled(buckets: Sequence[Bucket]) -> bool:
    """Whether enough prompts have a label to learn from."""
    labelled = {
        prompt.text
        for bucket in buckets
        if bucket.weight > 0
        for prompt in bucket.prompts
        if prompt.label is not None
    }
    return len(labelled) >= _LEAST_LABELS


def _suggestions(buckets: Sequence[Bucket], questions: dict[str, str]) -> list[str]:
    """Return questions worth asking: an example's own, or an input, of each bucket; then more."""
    found = [questions.get(bucket.name) or bare(bucket.prompts[-1].text) for bucket in buckets]
    found += [bare(prompt.text) for bucket in buckets for prompt in reversed(bucket.prompts)]
    return list(dict.fromkeys(found))[:NUM_SUGGESTIONS]


def _suggestion_buttons(suggestions: Sequence[str]) -> Updates:
    updates: Updates = {"suggestions_row": gr.Row(visible=bool(suggestions))}
    for index in range(NUM_SUGGESTIONS):
        words = suggestions[index] if index < len(suggestions) else ""
        label = cut(one_line(words.replace("\n", " ")), 60)
        updates[f"suggestion_{index}"] = gr.Button(label, visible=bool(words))
    return updates
