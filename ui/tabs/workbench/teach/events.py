"""Events of Teach: the adapter learns answers of the model, a better one, or the visitor."""

import math
from collections import Counter
from collections.abc import Collection, Generator, Iterator
from dataclasses import replace

import gradio as gr

from dnd_engine.config import RefineConfig
from dnd_engine.errors import DndError, TrainingError
from dnd_engine.prompts.buckets import Bucket
from dnd_engine.prompts.split import split_prompt
from dnd_engine.prompts.words import cut
from dnd_engine.teach.endpoint import Endpoint
from dnd_engine.teach.local import BetterModel, LocalTeacher
from ui.engine_calls import Answers, Done
from ui.markup import busy, esc, facts, faults, remark
from ui.shared import App, Updates, broke, locked_words
from ui.stages import Stages
from ui.state import Made, Proposed, Run, Session
from ui.tabs.workbench.adapter.events import AdapterEvents, answers_asked
from ui.tabs.workbench.runs.events import RunEvents, shown_stages
from ui.tabs.workbench.teach.answers import NUM_ROWS, AnswerRow, AnswersData, TypedAnswers
from ui.tabs.workbench.teach.view import PROPOSED_TOGETHER, Door, Place
from ui.text import _, note_words, number, size

_MIN_PROMPTS = RefineConfig().least_prompts
_MOST_CORRECTED = 4 * NUM_ROWS

_LABEL_CHARACTERS = 300
"""Maximum characters of a prompt above its answer."""


class TeachEvents:
    """Events of the panel, and Undo."""

    def __init__(self, app: App, adapter: AdapterEvents, runs: RunEvents) -> None:
        self._app = app
        self._adapter = adapter
        self._runs = runs

    def open(self) -> Updates:
        """Show the panel."""
        return {"teach_box": gr.Column(visible=True)}

    def close(self) -> Updates:
        """Hide the panel."""
        return {"teach_box": gr.Column(visible=False)}

    def choose(self, session: Session, door: Door, request: gr.Request) -> Updates:
        """Show the fields that a teacher needs, without the failure of an earlier one."""
        shown: Updates = {}
        run = session.run
        if run is not None and run.kind == "refinement" and run.stages.ended == "failed":
            session.run = None
            shown["stages"] = shown_stages(session)
        return {
            **shown,
            "teach_itself": gr.Column(visible=door == "itself"),
            "teach_better": gr.Column(visible=door == "better"),
            "teach_mine": gr.Column(visible=door == "mine"),
            "teach_told": "",
            "teach_start": gr.Button(interactive=True),
            **(self._locked(request) if door == "better" else {}),
        }

    def choose_place(self, place: Place, base: str, request: gr.Request) -> Updates:
        """Show the fields of a server or of a model on this computer, with its size."""
        shown: Updates = {
            "teach_server": gr.Column(visible=place == "server"),
            "teach_local": gr.Column(visible=place == "local"),
        }
        words = self._local_words(base, request) if place == "local" else ""
        return {**shown, "teach_base_told": words, "teach_told": ""}

    def use_labels(self, session: Session, labels: bool) -> Updates:
        """Learn from the labels, or from answers to correct."""
        return answers_asked(session, by_labels=labels)

    def propose(self, session: Session) -> Iterator[Updates]:
        """Let the model answer some prompts, and show them for correction."""
        made = session.made
        if made is None or not made.buckets:
            return
        yield {
            "teach_told": busy(_("The model answers some of your prompts")),
            "teach_propose": gr.Button(interactive=False),
        }
        old = session.proposed
        if old is None or not old.is_for(made):
            old = Proposed(made.buckets)
        try:
            more = self._propose_more(old)
        except DndError as error:
            words = self._app.error_words(session, error, "propose")
            yield {**_proposable(), "teach_told": faults(_("No answers."), words)}
            return
        # Another adapter was selected; these would be answers to its predecessor's prompts.
        if session.made is not made:
            yield {**_proposable(), "teach_told": ""}
            return
        last = session.proposed or old  # with corrections that were typed meanwhile
        if last.is_for(made):
            old = last
        # The same prompts of an earlier adapter keep what was corrected.
        answers = map(session.corrected.get, more.prompts, more.answers)
        session.proposed = replace(
            old,
            prompts=(*old.prompts, *more.prompts),
            answers=(*old.answers, *answers),
            names=(*old.names, *more.names),
        )
        none = remark(esc(_("There are no more prompts to propose.")))
        yield {**_proposable(), **rows(session), "teach_told": "" if more.prompts else none}

    def _propose_more(self, old: Proposed) -> Proposed:
        """Let the model answer prompts that are not shown yet, equally many of each bucket.

        Raises:
            DndError: If it cannot answer, or if no prompt was ever usable.
        """
        new: dict[str, str] = {}
        names: list[str] = []
        most = min(PROPOSED_TOGETHER, NUM_ROWS - len(old.prompts))
        shown = Counter(old.names)
        buckets = [bucket for bucket in old.buckets if bucket.weight > 0]
        # The next ones make up for what a small bucket lacks.
        buckets.sort(key=lambda bucket: (shown[bucket.name], bucket.num_prompts))
        unusable: TrainingError | None = None
        for num_later, bucket in zip(reversed(range(len(buckets))), buckets, strict=True):
            left = _without(bucket, {*old.prompts, *new})
            limit = math.ceil((most - len(new)) / (num_later + 1))
            if not left.files or not limit:
                continue
            try:
                found = self._proposed(left, limit)
            except TrainingError as error:
                unusable = error
                continue
            new |= found
            names += [bucket.name] * len(found)
        if unusable is not None and not (old.prompts or new):
            raise unusable
        return Proposed(old.buckets, tuple(new), tuple(new.values()), tuple(names))

    def _proposed(self, bucket: Bucket, limit: int) -> dict[str, str]:
        """Let the model answer prompts of a bucket."""
        found: dict[str, str] = {}
        for step in self._app.calls.propose([bucket], limit):
            if isinstance(step, Done):
                found = step.result
        return found

    def propose_broke(self) -> Updates:
        """Restore the button after an unexpected error."""
        return {**_proposable(), "teach_told": faults(_("No answers."), broke())}

    def keep_answers(self, session: Session, typed: TypedAnswers) -> Updates:
        """Store the typed answers, so that the visit can be restored.

        A page that shows the prompts of another adapter still changes nothing.
        """
        proposed = session.proposed
        if proposed is not None and typed.proposal == proposed.key:
            # A page that has not drawn the latest prompts yet sends fewer.
            kept = (*typed.answers, *proposed.answers[len(typed.answers) :])
            kept = kept[: len(proposed.prompts)]
            rows = zip(proposed.prompts, proposed.answers, kept, strict=True)
            session.corrected |= {prompt: now for prompt, before, now in rows if now != before}
            for prompt in [*session.corrected][:-_MOST_CORRECTED]:
                del session.corrected[prompt]
            session.proposed = replace(proposed, answers=kept)
        return {}

    def begin(
        self,
        session: Session,
        door: Door,
        labels: bool,
        place: Place,
        url: str,
        model: str,
        key: str,
        base: str,
        typed: TypedAnswers,
        request: gr.Request,
    ) -> Updates:
        """Accept a request for the adapter in the bar, or show what is missing.

        A better model is at `url`, or is `base` on this computer. `labels` says whether the files'
        labels take the place of the visitor's answers.
        """
        made = session.made
        if made is None:
            return {}
        learns: Answers = "base"
        # The key leaves the page even if nothing is started.
        cleared: Updates = {"teach_key": "", "teach_told": ""}
        try:
            if door == "better" and place == "local":
                learns, _size = self._local(base, request)
            elif door == "better":
                learns = self._endpoint(url, model, key.strip(), request)
            elif door == "mine" and labels:
                learns = "labels"
            elif door == "mine":
                self.keep_answers(session, typed)
                learns = _corrected(session, typed.proposal)
        except DndError as error:
            return {**cleared, "teach_told": faults(_("Not started."), note_words(str(error)))}
        keys = ("ask", "refine", "check") if _must_ask(learns) else ("refine", "check")
        stages = Stages(("wait", *keys), "refinement")
        # Not the buckets on the canvas, which may have changed since the adapter was made.
        run = Run("refinement", stages, made.buckets, made, answers=learns)
        return {**cleared, **self._runs.begin(session, run)}

    def teach(self, session: Session, request: gr.Request) -> Iterator[Updates]:
        """Train the adapter step by step; the earlier one stays until all is done."""
        run = self._runs.ordered(session, "refinement")
        if run is None:
            return
        yield from self._runs.carry_out(session, run, self._teaching(run), request)

    def stop(self, session: Session) -> Updates:
        """End the training and keep its result; before the first step, discard it."""
        run = session.run
        # On ZeroGPU, another process trains, which cannot see `enough`.
        if run is None or not run.learning or not self._app.calls.stop_keeps:
            return self._runs.stop_run(session)
        run.enough.set()
        return {"teach_stop": gr.Button(_("Finishing"), interactive=False)}

    def undo(self, session: Session) -> Updates:
        """Return to the earlier adapter, without computing anything."""
        made = session.made
        if made is None or made.before is None:
            return {}
        session.put_in_bar(made.before)
        if any(one.key == made.key for one in session.shelf):
            words = _("{adapter} can still be chosen in Compare.", adapter=made.adapter.name)
            gr.Info(esc(words), title=_("Undone."))
        return self._adapter.show(session)

    def _locked(self, request: gr.Request) -> Updates:
        """Offer a page without the owner's key no model that it may not ask, and say why."""
        if not self._app.is_locked_out(request):
            return {}
        servers = self._app.server.teacher_servers
        words = _("Only the owner of this computer may let a better model answer here.")
        if servers:
            words = _("This page may ask: {servers}", servers=", ".join(servers))
        return {
            "teach_place": gr.Radio(visible=False),
            "teach_server": gr.Column(visible=bool(servers)),
            "teach_local": gr.Column(visible=False),
            "teach_start": gr.Button(interactive=bool(servers)),
            "teach_told": remark(esc(f"{words} {locked_words()}")),
        }

    def _endpoint(self, url: str, model: str, key: str, request: gr.Request) -> Endpoint:
        """Return the teacher's endpoint; visitors may use only servers that are allowed."""
        # Otherwise a visitor could have this server ask any address that it can reach.
        own = self._app.is_own(request)
        try:
            return Endpoint(
                url=url,
                model=model,
                key=key,
                allowed=None if own else self._app.server.teacher_servers,
            )
        except DndError as error:
            if self._app.is_locked_out(request):
                raise DndError(f"{note_words(str(error))} {locked_words()}") from error
            raise

    def _local(self, base: str, request: gr.Request) -> tuple[LocalTeacher, int | None]:
        """Return a base on this computer as the teacher, and its size on disk; for its owner."""
        # Otherwise a visitor could learn which files exist, and fill the memory.
        if not self._app.is_own(request):
            words = _("Only the owner of this computer may let its models teach.")
            more = f" {locked_words()}" if self._app.is_locked_out(request) else ""
            raise DndError(words + more)
        return self._app.calls.local_teacher(base.strip())

    def _local_words(self, base: str, request: gr.Request) -> str:
        """Say how large a base is; while none is named, which others are known."""
        if not base.strip() and self._app.is_own(request):
            choices, now = self._app.calls.choices()
            others = dict.fromkeys(choice.base for choice in choices if choice.base != now.base)
            words = _("No other model is known yet. “Change models” above can download one.")
            if others:
                words = _("Listed under “Change models”: {bases}.", bases=", ".join(others))
            return facts(esc(words))
        try:
            teacher, num_bytes = self._local(base, request)
        except DndError as error:
            return faults(_("This model cannot teach."), note_words(str(error)))
        found = _("{base}: {size} on disk.", base=teacher.model, size=size(num_bytes or 0))
        return facts(esc(found))

    def _teaching(self, run: Run) -> Generator[Updates, None, Made]:
        # The visit keeps its run, but must not keep the teacher's key.
        before, answers, run.answers = run.start, run.answers, None
        assert before is not None
        assert answers is not None
        asks = ""
        if isinstance(answers, BetterModel):
            asks = _("{model} answers your prompts", model=answers.model)
        run.stages.enter("ask" if _must_ask(answers) else "refine", asks)
        yield {"stages": run.stages.html()}
        # From the adapter at its strength, which becomes part of the new weights.
        steps = self._app.calls.teach(before.adapter, run.buckets, answers, run.enough, run.stop)
        adapter = yield from self._runs.follow(run, steps)
        return Made(
            original=adapter,
            adapter=adapter,
            made_from=before.made_from,
            buckets=run.buckets,
            stages=run.stages,
            before=before,
        )


def rows(session: Session) -> Updates:
    """Show the prompts with their current answers."""
    proposed = session.proposed or Proposed(())
    # A common instruction would only repeat itself above each answer.
    parts = [split_prompt(prompt) for prompt in proposed.prompts]
    several = len({one.instruction for one in parts if one.input is not None}) > 1
    named = len(set(proposed.names)) > 1
    fields = []
    for prompt, name, answer in zip(parts, proposed.names, proposed.answers, strict=True):
        about = [name] if named else []
        about += [prompt.instruction] if several and prompt.input is not None else []
        row = AnswerRow(
            prompt=cut(" ".join(prompt.bare.split()), _LABEL_CHARACTERS),
            about=cut(": ".join(about), _LABEL_CHARACTERS),
            answer=answer,
        )
        fields.append(row)
    return {
        "teach_rows": gr.Column(visible=bool(parts)),
        "teach_answers": AnswersData(rows=fields, proposal=proposed.key),
    }


def _must_ask(answers: Answers) -> bool:
    """Return whether a model is asked for the answers, which are not at hand yet."""
    return answers == "base" or isinstance(answers, BetterModel)


def _without(bucket: Bucket, prompts: Collection[str]) -> Bucket:
    """Return the bucket without these whole prompts, and without files that are then empty."""
    left = [
        replace(file, prompts=tuple(p for p in file.prompts if bucket.whole(p).text not in prompts))
        for file in bucket.files
    ]
    return replace(bucket, files=tuple(file for file in left if file.prompts))


def _proposable() -> Updates:
    return {"teach_propose": gr.Button(interactive=True)}


def _corrected(session: Session, proposal: str) -> dict[str, str]:
    """Return the answers to train on; `proposal` is the one that the page showed.

    Raises:
        DndError: If there are too few, or the page showed others.
    """
    proposed, made = session.proposed, session.made
    if proposed is None or made is None or not proposed.is_for(made):
        raise DndError(_("Press Propose answers first, and correct them."))
    if proposal != proposed.key:
        raise DndError(_("The answers have just changed. Check them, and press Start again."))
    pairs = zip(proposed.prompts, proposed.answers, strict=True)
    # An emptied answer is left out, as the page promises.
    found = {prompt: answer for prompt, answer in pairs if answer.strip()}
    if len(found) < _MIN_PROMPTS:
        words = _(
            "{least} answers or more are needed, got {found}. Fill in some that are empty, or "
            "add prompts.",
            least=number(_MIN_PROMPTS),
            found=number(len(found)),
        )
        raise DndError(words)
    return found
