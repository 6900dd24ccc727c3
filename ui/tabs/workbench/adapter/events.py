"""Events of the adapter in the bar: show, check, scale and zip it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr

from dnd_engine.config import RefineConfig
from dnd_engine.errors import DndError
from dnd_engine.progress import ProgressStage
from dnd_engine.prompts.buckets import Bucket
from dnd_engine.prompts.split import split_prompt
from ui.engine_calls import Done
from ui.markup import brief, busy, error_notice, remark, sentence
from ui.progress import step_words
from ui.shared import App, Updates, broke
from ui.state import Made, Session
from ui.tabs.workbench.adapter.checks_view import checks_html
from ui.tabs.workbench.adapter.judgement_view import Judgement
from ui.tabs.workbench.adapter.learnt import Learnt, learnt
from ui.tabs.workbench.adapter.norms_view import norms_html
from ui.tabs.workbench.adapter.proof_view import proof_html
from ui.tabs.workbench.adapter.view import adapter_html
from ui.tabs.workbench.compare.events import CompareEvents
from ui.tabs.workbench.compare.sides import choosers
from ui.tabs.workbench.compare.view import NUM_SUGGESTIONS
from ui.text import N_, _, said

if TYPE_CHECKING:
    from dnd_engine.checks.results import Inspection
    from dnd_engine.engine import Engine
    from dnd_engine.lora.adapter import Adapter

_MIN_LABELS = RefineConfig().least_prompts
"""Minimum number of labelled prompts for refining."""

_PROOF_STEPS: Mapping[ProgressStage, str] = {
    "decode": N_("Making the others"),
    "check": N_("Measuring"),
}

_CHECKING = N_("Checking whether it works on your prompts. You can chat meanwhile.")
"""Said in the verdict's place: on a phone, the panel of checks is far below."""
_CHECKING_OTHERS = N_("Checking what else it changes. You can chat meanwhile.")
"""The same for an adapter that came without its prompts."""


class AdapterEvents:
    """Events of the adapter bar, and of an adapter that enters it."""

    def __init__(self, app: App, compare: CompareEvents) -> None:
        self._app = app
        self._compare = compare

    def check(self, session: Session) -> Updates:
        """Check the adapter on some of the visit's own prompts."""
        made = session.made
        if made is None:
            return {}
        if made.inspection is not None:
            # Perhaps since the page was drawn: a reload waits for the check of the page before.
            updates = {**checked(made), "download": download(made)}
            updates.pop("teach_box", None)  # it may have been closed meanwhile
            return {**updates, "adapter_facts": facts_of(session)}
        try:
            # Before the checks, because other models may be loaded while they run.
            engine = self._app.calls.ready()
            made.inspection = self._app.calls.inspect(made.original, made.buckets)
        except DndError as error:
            made.check_failed = sentence(self._app.error_words(session, error, "check"))
            updates = checked(made)
        else:
            if made.buckets:
                self.put_on_card(session, made, engine)
            updates = {**checked(made), "download": download(made)}
        # If another adapter was selected meanwhile, the results stay with this one, unshown.
        # The strength may have been moved meanwhile, too; the facts say so.
        return {**updates, "adapter_facts": facts_of(session)} if session.made is made else {}

    def check_again(self, session: Session) -> Updates:
        """Say that the checks run once more."""
        if session.made is None:
            return {}
        session.made.check_failed = ""
        return checked(session.made)

    def check_broke(self, session: Session) -> Updates:
        """Say that an unexpected error ended the checks."""
        made = session.made
        if made is None:
            return {}
        if made.inspection is None:
            made.check_failed = broke()
        return checked(made)

    def prove(self, session: Session) -> Iterator[Updates]:
        """Compare the adapter with controls, such as one of another task's prompts."""
        made = session.made
        # The controls are not trained, so comparing a taught adapter with them would be unfair.
        if made is None or made.adapter.was_trained or made.inspection is None or not made.buckets:
            return
        updates: Updates = {}
        made.proving = True
        try:
            engine = self._app.calls.ready()
            for step in self._app.calls.prove(made.original, made.buckets, session.memory):
                if session.made is not made:
                    return
                if isinstance(step, Done):
                    made.proof = step.result
                elif step is not None:
                    doing, detail = _(_PROOF_STEPS[step.stage]), step_words(step)
                    running = f"{doing}: {detail}" if detail else f"{doing} …"
                    yield {"proof": proof_html(None, running=running)}
        except DndError as error:
            failed = self._app.error_words(session, error, "prove")
            updates["proof"] = proof_html(None, failed=failed)
        else:
            self.put_on_card(session, made, engine)
            updates["proof"] = proof_html(made.proof, done=True)
            updates["download"] = download(made)
        finally:
            made.proving = False
        if session.made is made:
            yield {**updates, "prove": gr.Button(_("Measure again"))}

    def prove_broke(self) -> Updates:
        """Say that an unexpected error ended the comparison."""
        failed = proof_html(None, failed=broke())
        return {"proof": failed, "prove": gr.Button(_("Measure again"))}

    def put_on_card(self, session: Session, made: Made, engine: "Engine") -> None:
        """Add new results to the adapter's card, so that its zip must be rewritten."""
        assert made.inspection is not None
        strength = made.adapter.strength
        made.original = engine.with_checks(made.original, made.inspection, made.proof)
        made.adapter = made.original.with_strength(strength)
        made.card_due = True
        self._app.note(session, made, checks=made.original.checks)

    def choose(self, session: Session, key: str) -> Updates:
        """Put another adapter of this visit in the bar."""
        chosen = session.choose("right", key)
        if chosen is None or chosen is session.made:
            return {}
        session.put_in_bar(chosen)
        return self.show(session)

    def set_strength(self, session: Session, strength: float) -> Updates:
        """Scale the adapter for the next message, without synthesizing again."""
        made = session.made
        # The slider may send a value twice, and the second must not discard the zip of the first.
        if made is None or abs(made.adapter.strength - strength) < 1e-9:
            return {}
        made.adapter = made.original.with_strength(float(strength))
        made.archive = None
        return {
            "adapter_facts": facts_of(session),
            "download": download(made),
            **nothing_exported(),
        }

    def prepare_download(self, session: Session, request: gr.Request) -> Updates:
        """Write and verify the zip of the adapter at its current strength."""
        made = session.made
        if made is None:
            return {}
        if _is_written(made) and not made.card_due:
            # Said again: an earlier event may have written this zip, and said so before the page
            # heard that it is being prepared.
            return {"download": download(made)}
        wanted = made.adapter
        # Before writing, so that results which arrive meanwhile set it again.
        made.card_due = False
        try:
            archive = self._zip(session, made, wanted, request)
        except DndError as error:
            return {
                "download": gr.DownloadButton(_("No zip"), interactive=False),
                "warning": error_notice(self._app.error_words(session, error, "prepare_download")),
            }
        if made.adapter is not wanted:
            return {}  # the slider moved again; its next event follows
        made.archive = archive
        return {"download": download(made)} if session.made is made else {}

    def show(self, session: Session) -> Updates:
        """Draw the visit's adapter with all its results, and everything that depends on it."""
        made = session.made
        assert made is not None
        # Here and not before, because a chat need not wait for it. Without an engine, next time.
        if not made.thumbprint and self._app.calls.engine is not None:
            # After a change of models it is another base's; it is shown without its picture.
            with suppress(DndError):
                made.norms = self._app.calls.norms(made.original)
                made.thumbprint = self._app.calls.thumbprint(made.original)
        session.drawn = made
        session.suggestions = _suggestions(made.buckets, session.example_questions)
        idle = not session.is_busy
        # Answers that somebody corrected must not be passed over without a word.
        proposed = _is_proposed(session)
        by_labels = _labelled(made.buckets) and not proposed
        # A run goes on, with its Stop, while another adapter is looked at.
        run = session.run if session.is_busy else None
        stages = made.stages if run is None else run.stages
        teaches = run is not None and run.kind == "refinement"
        return {
            **offered(session),
            "stages": stages.html() if stages else "",
            **bar(session),
            **undoable(made),
            "norms": norms_html(made.norms),
            **self._compare.compared(session),
            **choosers(session),
            "differences": gr.Checkbox(visible=True),
            "blind": gr.Checkbox(visible=True),
            # Open where answers wait to be learnt, or a reload would seem to have lost them.
            "teach_box": gr.Column(visible=teaches or (proposed and not made.adapter.was_trained)),
            "teach_open": gr.Button(visible=bool(made.buckets), interactive=idle),
            "teach_labels": gr.Checkbox(
                value=by_labels, visible=_labelled(made.buckets), interactive=idle
            ),
            **answers_asked(session, by_labels=by_labels),
            "keep_name": gr.Textbox(made.adapter.name),
            # Texts serve to recreate an adapter, which is impossible for one trained on labels.
            "keep_texts": gr.Checkbox(
                value=False, visible=bool(made.buckets) and "trained" not in made.adapter.provenance
            ),
            "keep_told": "",
            **nothing_exported(),
            **_suggestion_buttons(session.suggestions),
            **self._compare.panes(session),
            # Last: for a doubtful adapter it opens `teach_box`, which is closed above.
            **checked(made),
        }

    def show_remixed(self, session: Session) -> Updates:
        """Draw the visit's adapter after a changed weight; what comes back keeps its place.

        Otherwise the page would jump at each step. `assets/page.js` keeps the heights of texts.
        """
        made, before = session.made, session.drawn
        assert made is not None
        updates = self.show(session)
        # Whether it was opened or is offered again, the panel stays.
        if not updates["teach_box"].visible:
            del updates["teach_box"]
        # It comes back with the imprint that follows, which a further weight may have put off.
        had_it = before is not None and (before.before is not None or session.undo_awaits)
        session.undo_awaits = had_it and made.settling and not made.original.is_imprinted
        if session.undo_awaits:
            updates["undo"] = gr.Button(_("Undo imprint"), visible=True, interactive=False)
        return updates

    def show_unchanged(self, session: Session) -> Updates:
        """Draw an adapter that was not imprinted after all: its checks, and what its pane says."""
        made = session.made
        assert made is not None
        return {**checked(made), **choosers(session), **self._compare.panes(session)}

    def verify(self, session: Session, made: Made, request: gr.Request) -> Iterator[None]:
        """Write and verify the zip: nothing is shown before it can be trusted."""
        # The shelf drops the oldest adapters, and their files would stay.
        kept = {made.key, *(one.key for one in session.adapters())}
        self._app.files.tidy(request.session_hash or "", kept)
        made.archive = self._zip(session, made, made.adapter, request)
        yield None

    def _zip(self, session: Session, made: Made, adapter: "Adapter", request: gr.Request) -> Path:
        """Write and verify the zip of an adapter at some strength, in place of an earlier one."""
        session_hash = request.session_hash or ""
        self._app.visits.check_writing(session, session_hash, adapter.num_bytes)
        place = self._app.files.archive(adapter, session_hash, made.key)
        archive = self._app.calls.save(adapter, place)
        self._app.files.supersede(archive)
        return archive


def answers_asked(session: Session, *, by_labels: bool) -> Updates:
    """Show the answers to correct, or that Start needs some, unless labels take their place."""
    proposed = _is_proposed(session)
    return {
        "teach_propose": gr.Button(visible=not by_labels, interactive=not session.is_busy),
        "teach_first": gr.Column(visible=not by_labels and not proposed),
        "teach_rows": gr.Column(visible=not by_labels and proposed),
    }


def _is_proposed(session: Session) -> bool:
    """Return whether there are answers to correct for the adapter in the bar."""
    made, proposed = session.made, session.proposed
    return made is not None and proposed is not None and proposed.is_for(made)


def offered(session: Session) -> Updates:
    """Offer to imprint the adapter in the bar, unless that follows automatically."""
    made = session.made
    can = made is not None and made.imprint_missing
    return {"imprint_now": gr.Button(visible=can and not session.is_busy)}


def facts_of(session: Session) -> str:
    """Draw the facts of the adapter in the bar."""
    made = session.made
    assert made is not None
    known = bool(session.canvas.cards and made.made_from)
    stale = known and session.canvas_fingerprint != made.made_from
    return adapter_html(made, stale=stale)


def bar(session: Session) -> Updates:
    """Show name, zip and strength of the visit's adapter."""
    made = session.made
    assert made is not None
    return {
        "adapter_box": gr.Row(visible=True),
        "adapter_facts": facts_of(session),
        "strength": made.adapter.strength,
        "download": download(made),
    }


def awaits_imprint() -> Updates:
    """Say that the checks wait until it is known which adapter stays."""
    return {
        "checks": checks_html("waiting"),
        "warning": remark(_("The verdict follows once the instruction is imprinted.")),
    }


def unjudged(session: Session) -> Updates:
    """Take the verdict on the adapter before away from a new one, which has none yet."""
    made = session.made
    assert made is not None
    if session.drawn is None or made.inspection is not None:
        return {}
    return {"warning": checked(made)["warning"]}


def undoable(made: Made) -> Updates:
    """Offer Undo if there is an adapter to return to."""
    return {"undo": gr.Button(undo_words(made), visible=made.before is not None, interactive=True)}


def undo_words(made: Made) -> str:
    """Name the change that Undo reverts."""
    return _("Undo imprint") if made.changed_by == "imprint" else _("Undo teaching")


def checked(made: Made) -> Updates:
    """Draw the check results; for a doubtful adapter, offer to teach it."""
    provable = made.inspection is not None and bool(made.buckets) and not made.adapter.was_trained
    proof: Updates = {
        "proof_box": gr.Column(visible=provable),
        "proof": proof_html(made.proof),
        "prove": gr.Button(_("Find out") if made.proof is None else _("Measure again")),
    }
    if made.inspection is None:
        checking = _CHECKING if made.buckets else _CHECKING_OTHERS
        state = checks_html("running", has_prompts=bool(made.buckets))
        message = busy(_(checking))
        if made.check_failed:
            state = checks_html("failed", message=said(made.check_failed))
            head = _("The checks could not be finished, so nobody can tell yet whether it works.")
            message = error_notice(said(made.check_failed), head)
        again = gr.Button(visible=bool(made.check_failed))
        return {"checks": state, "warning": message, "check_again": again, **proof}
    judged = _judgement(made, made.inspection)
    updates: Updates = {
        **proof,
        "check_again": gr.Button(visible=False),
        "checks": checks_html("done", made.inspection, changed_by=made.changed_by),
        "warning": judged.html(),
    }
    if made.buckets and not made.adapter.was_trained and judged.is_doubtful:
        updates["teach_box"] = gr.Column(visible=True)
    return updates


def _judgement(made: Made, inspection: "Inspection") -> Judgement:
    lacking = [b.num_without_instruction == b.num_prompts for b in made.buckets]
    return Judgement(
        inspection,
        changed_by=made.changed_by,
        learnt=_learnt(made),
        num_prompts=made.adapter.num_prompts,
        imprintable=made.can_be_imprinted,
        teachable=bool(made.buckets),
        undoable=made.before is not None,
        known_why=bool(made.original.not_imprinted),
        skipped_buckets=made.original.skipped_buckets,
        lacks_instruction=any(lacking),
        without_any=bool(lacking) and all(lacking),
        labelled=_labelled(made.buckets),
    )


def _learnt(made: Made) -> Learnt | None:
    """Return the scores of teaching, and whether the answers it was taught are known to be poor."""
    found = learnt(made.adapter.provenance, imported=made.imported)
    start = made
    while start.adapter.was_trained and start.before is not None:
        start = start.before
    verdict = start.inspection.verdict if start.inspection is not None else None
    if found is None or not found.by_itself or verdict is None or verdict.outcome != "fails":
        return found
    # The same model answered for the verdict, and an adapter that repeats it is no better.
    return replace(found, from_poor=True)


def _labelled(buckets: Sequence[Bucket]) -> bool:
    """Return whether enough prompts have labels to train on."""
    # As training counts them: distinct prompts of buckets with a positive weight.
    labelled = {
        prompt.text
        for bucket in buckets
        if bucket.weight > 0
        for prompt in bucket.prompts
        if prompt.label is not None
    }
    return len(labelled) >= _MIN_LABELS


def _suggestions(buckets: Sequence[Bucket], questions: dict[str, str]) -> list[str]:
    """Return questions to suggest: per bucket an example's own question or an input; then more."""
    found = [
        questions.get(bucket.name) or split_prompt(bucket.prompts[-1].text).bare
        for bucket in buckets
    ]
    found += [
        split_prompt(prompt.text).bare for bucket in buckets for prompt in reversed(bucket.prompts)
    ]
    distinct: dict[str, str] = {}
    for words in found:  # those that begin alike would be buttons that look the same
        distinct.setdefault(_suggestion_label(words), words)
    return list(distinct.values())[:NUM_SUGGESTIONS]


def _suggestion_label(words: str) -> str:
    return brief(words, 60)


def _suggestion_buttons(suggestions: Sequence[str]) -> Updates:
    updates: Updates = {"suggestions_row": gr.Row(visible=bool(suggestions))}
    for index in range(NUM_SUGGESTIONS):
        words = suggestions[index] if index < len(suggestions) else ""
        updates[f"suggestion_{index}"] = gr.Button(_suggestion_label(words), visible=bool(words))
    return updates


def nothing_exported() -> Updates:
    """Remove the export of another adapter or strength."""
    return {
        "export_told": "",
        "export_usage": gr.Textbox(visible=False),
        "export_file": gr.DownloadButton(visible=False),
    }


def _is_written(made: Made) -> bool:
    """Return whether its zip is there: it may have been replaced by one of another strength."""
    return made.archive is not None and made.archive.is_file()


def download(made: Made) -> gr.DownloadButton:
    """Offer the zip once it is written; less prominently for a doubtful adapter."""
    if not _is_written(made):
        return gr.DownloadButton(_("Preparing the zip"), value=None, interactive=False)
    doubtful = made.inspection is not None and _judgement(made, made.inspection).warns
    return gr.DownloadButton(
        _("Download anyway") if doubtful else _("Download PEFT zip"),
        value=str(made.archive),
        interactive=True,
        variant="secondary" if doubtful else "primary",
    )
