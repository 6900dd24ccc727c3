"""Imprint as plain functions, with an engine without models."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr
import pytest

from dnd_engine.errors import AdapterError
from dnd_engine.library import Entry, Library
from dnd_engine.prompts.examples import load_examples
from tests.ui.fake_engine import ALONE, FakeEngine
from tests.ui.orders import make, sent
from tests.ui.test_teach import prompts, refine
from tests.until import until
from ui.canvas import Arrangement
from ui.engine_handle import LoadState
from ui.frame.view import header_html
from ui.handlers import Handlers
from ui.shared import Updates
from ui.state import Made, Session
from ui.tabs.library.view import entry_words
from ui.tabs.workbench.adapter.events import facts_of
from ui.text import speaking

if TYPE_CHECKING:
    from dnd_engine.lora.adapter import Adapter

Arrange = Callable[..., Arrangement]
RequestOf = Callable[[str], gr.Request]


def follow(on: Handlers, session: Session, request: gr.Request) -> list[Updates]:
    """What the page does by itself after a synthesis."""
    begun = on.imprint.begin_imprint(session, True)
    return [begun, *on.imprint.imprint(session, request), on.runs.show_run(session)]


def synthesized(
    on: Handlers, session: Session, arrangement: Arrangement, request: gr.Request
) -> Made:
    make(on, session, arrangement, request)
    assert session.made is not None
    return session.made


def imprintable(
    on: Handlers, session: Session, arrange: Arrange, request: gr.Request, text: str = "IMPRINT"
) -> Made:
    """Make an adapter from prompts that an imprint follows."""
    return synthesized(on, session, arrange(SQL={"a.jsonl": prompts(9, text)}), request)


def test_it_follows_a_synthesis_and_its_adapter_takes_the_place_of_the_generators(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    session = Session()
    before = imprintable(on, session, arrange, request_of("s"))
    begun, *steps, done = follow(on, session, request_of("s"))
    assert begun["stop_imprint"].visible is True
    assert begun["synthesize"].visible is True
    assert "Imprinting the instruction" in begun["stages"]
    assert "Measured as soon as" in begun["checks"]
    assert "The verdict follows" in begun["warning"]
    assert "Checking whether it works" in done["warning"]
    assert "weights in" in sent(steps)["adapter_facts"]
    made = session.made
    assert made is not None
    assert made.before is before
    assert made.adapter.is_imprinted
    assert made.norms != before.norms
    assert made.archive not in (None, before.archive)
    assert engine.imprints[-1]["from"] == before.original.sha256
    assert engine.imprints[-1]["memory"] is session.memory
    assert "then imprinted in 3.2 s" in done["adapter_facts"]
    assert "Layer 30 of 30" in done["stages"]
    assert "Asking with the instruction: 8 of 9 prompts" in done["stages"]
    assert "How it was imprinted" in done["stages"]
    assert done["stop_imprint"].visible is False
    assert done["undo"].visible is True
    assert done["undo"].value == "Undo imprint"
    assert done["strength"] == 1.0
    assert not {"keep_name", "keep_texts"} & done.keys(), "they may have been filled in meanwhile"
    assert f"{made.adapter.name}, imprinted" in dict(done["right_choice"].choices)
    checks = on.adapter.check(session)["checks"]
    assert "Imprinted with your instruction" in checks
    assert "Carries the instruction" in checks
    assert "adapters changed the score" not in checks, "those were not imprinted"
    assert before.inspection is None  # measured once, at the end


def test_an_instruction_typed_on_the_page_is_put_above_prompts_that_have_none(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    session = Session()
    arrangement = arrange(
        Plain={"a.txt": "IMPRINT one\nIMPRINT two\n"}, SQL={"b.jsonl": prompts(2, "IMPRINT")}
    )
    before = synthesized(on, session, arrangement, request_of("s"))
    updates = on.prompts.set_instruction("Shout.", session)
    assert "Not made from the buckets as they are now." in updates["adapter_facts"]
    assert updates["synthesize"].interactive is True
    after = synthesized(on, session, arrangement, request_of("s"))
    assert after.key != before.key
    texts = engine.calls[-1]["texts"]
    assert {"Shout.\n\nIMPRINT one", "Shout.\n\nIMPRINT two"} < set(texts)
    assert sum(text.startswith("Shout.") for text in texts) == 2
    assert "IMPRINT two" in session.suggestions, "asked without the instruction"


def test_the_seed_is_the_one_of_the_synthesis(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    session = Session()
    arrangement = arrange(SQL={"a.jsonl": prompts(9, "IMPRINT")})
    on.prompts.update_prompts(arrangement, session, request_of("s"))
    on.synthesis.begin_synthesis(arrangement, session)
    list(on.synthesis.synthesize(session, "pool", 7, request_of("s")))
    on.runs.show_run(session)
    follow(on, session, request_of("s"))
    assert engine.imprints[-1]["seed"] == 7


def test_a_remix_is_imprinted_too(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    session = Session()
    arrangement = arrange(SQL={"a.jsonl": prompts(9, "IMPRINT")})
    synthesized(on, session, arrangement, request_of("s"))
    follow(on, session, request_of("s"))
    on.synthesis.begin_remix(arrangement, session)
    list(on.synthesis.synthesize(session, "pool", 0, request_of("s")))
    on.runs.show_run(session)
    follow(on, session, request_of("s"))
    assert len(engine.imprints) == 2
    assert session.made is not None
    assert session.made.adapter.is_imprinted


def test_a_remix_that_ends_an_imprint_and_fails_leaves_no_promise_of_one(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    session = Session()
    contents = {"a.jsonl": prompts(9, "IMPRINT")}
    synthesized(on, session, arrange(SQL=contents), request_of("s"))
    begun = on.imprint.begin_imprint(session, True)
    assert "The verdict follows once" in begun["warning"]
    muted = arrange({"SQL": 0.0}, SQL=contents)
    on.prompts.update_prompts(muted, session, request_of("s"))
    on.synthesis.begin_remix(muted, session)
    list(on.synthesis.synthesize(session, "pool", 0, request_of("s")))
    shown = on.runs.show_run(session, "synthesis")
    assert "Every bucket with prompts has weight 0" in shown["stages"]
    assert "Checking whether it works" in shown["warning"]
    assert "works" in on.adapter.check(session)["warning"], "which follows"


def test_switched_off_the_generators_adapter_stays_as_it_is(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    session = Session()
    arrangement = arrange(SQL={"a.jsonl": prompts(9, "IMPRINT")})
    shown = make(on, session, arrangement, request_of("s"))
    before = session.made
    assert shown["teach_open"].interactive is False, "an imprint may follow, which closes Teach"
    begun = on.imprint.begin_imprint(session, False)
    assert begun["imprint_now"].visible
    assert begun["teach_open"].interactive is True
    assert list(on.imprint.imprint(session, request_of("s"))) == []
    assert on.runs.show_run(session) == {}, "what is shown already would fold the canvas again"
    assert session.made is before
    assert engine.imprints == []
    assert "Carries the instruction" in on.adapter.check(session)["checks"]


def test_what_was_stopped_or_undone_is_imprinted_when_asked(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    session = Session()
    arrangement = arrange(SQL={"a.jsonl": prompts(9, "IMPRINT")})
    before = synthesized(on, session, arrangement, request_of("s"))
    assert not on.adapter.show(session)["imprint_now"].visible, "it follows by itself"
    assert not on.imprint.begin_imprint(session, True)["imprint_now"].visible
    assert on.runs.stop_run(session)["imprint_now"].visible
    assert not on.imprint.order(session)["imprint_now"].visible
    list(on.imprint.imprint(session, request_of("s")))
    assert not on.runs.show_run(session)["imprint_now"].visible
    assert session.made is not None
    assert session.made.changed_by == "imprint"
    assert on.imprint.order(session) == {}, "it is"
    assert on.teach.undo(session)["imprint_now"].visible
    assert session.made is before
    session.made = None
    assert on.imprint.order(session) == {}


def test_nothing_is_imprinted_unless_a_synthesis_made_an_adapter(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    session = Session()
    assert on.imprint.begin_imprint(session, True) == {}
    arrangement = arrange(SQL={"a.jsonl": prompts(9, "IMPRINT")})
    synthesized(on, session, arrangement, request_of("s"))
    on.synthesis.begin_synthesis(arrangement, session)
    assert "stages" not in on.imprint.begin_imprint(session, True), "another was ordered meanwhile"
    on.runs.stop_run(session)
    assert "stages" not in on.imprint.begin_imprint(session, True), "it was stopped"
    make(on, session, arrangement, request_of("s"))
    refine(on, session, request_of("s"))
    assert "stages" not in on.imprint.begin_imprint(session, True), "refined, not synthesized"
    assert engine.imprints == []


def test_an_adapter_is_shown_before_its_imprint_begins(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    """What follows a run that was stopped may come when the next one has just ended."""
    session = Session()
    arrangement = arrange(SQL={"a.jsonl": prompts(9, "IMPRINT")})
    on.prompts.update_prompts(arrangement, session, request_of("s"))
    on.synthesis.begin_synthesis(arrangement, session)
    on.runs.stop_run(session)
    on.synthesis.begin_synthesis(arrangement, session)
    list(on.synthesis.synthesize(session, "pool", 0, request_of("s")))
    assert on.imprint.begin_imprint(session, True) == {}, "of the run that was stopped"
    shown = on.runs.show_run(session, "synthesis")
    assert shown["inbox"] == {"op": "fold"}
    assert shown["blind"].visible is True
    assert "stages" in on.imprint.begin_imprint(session, True)


def test_prompts_that_leave_nothing_to_imprint_are_no_failure(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    session = Session()
    before = synthesized(on, session, arrange(SQL={"a.txt": "one\ntwo\n"}), request_of("s"))
    on.adapter.set_strength(session, 0.5)
    *_, refused, ended, shown = follow(on, session, request_of("s"))
    words = "Not imprinted: no prompt has an instruction and an input."
    assert words in refused["adapter_facts"]
    assert "How it was made" in ended["stages"]
    assert "is-error" not in ended["stages"] + refused["adapter_facts"]
    assert shown["stop_imprint"].visible is False
    assert "Measuring on your prompts" in shown["checks"]
    assert session.made is before
    assert before.adapter.strength == 0.5
    on.adapter.check(session)
    assert words in on.adapter.set_strength(session, 0.8)["adapter_facts"]
    with speaking("de"):
        assert "Nicht eingeprägt: Kein Prompt" in facts_of(session)


def test_an_adapter_from_the_library_can_have_nothing_to_imprint_either(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    session, request = Session(), request_of("s")
    made = synthesized(on, session, arrange(SQL={"a.txt": "one\ntwo\n"}), request)
    on.imprint.begin_imprint(session, False)
    on.library.keep(session, "plain", False, request)
    assert made.kept is not None
    session.shelf = []  # as in a later visit
    list(on.library.load_kept(session, made.kept.key, request))
    loaded = session.made
    assert loaded is not None
    assert loaded.stages is None
    assert on.imprint.order(session)["stop_imprint"].visible is True
    *_, refused, ended = on.imprint.imprint(session, request)
    assert "Not imprinted: no prompt has an instruction" in refused["adapter_facts"]
    shown = on.runs.show_run(session)
    assert ended["stages"] == shown["stages"] == ""
    assert shown["imprint_now"].visible is False
    assert session.made is loaded


def test_a_bucket_that_was_not_imprinted_is_named_above_the_chat_with_the_way_out(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    session, request = Session(), request_of("s")
    both = arrange(SQL={"a.jsonl": prompts(9, "IMPRINT")}, Tone={"b.txt": "one\ntwo\n"})
    before = synthesized(on, session, both, request)
    assert "was not imprinted" not in str(on.adapter.check(session)["warning"])
    before.inspection = None
    follow(on, session, request)
    judged = on.adapter.check(session)["warning"]
    assert "Bucket <code>Tone</code> was not imprinted: none of its prompts has" in judged
    assert "Type one under Advanced</button>, and press Synthesize again." in judged
    assert "data-focuses='#dnd-instruction textarea'" in judged
    assert "dnd-icon-check" not in judged.partition("<details>")[0], "that is no plain success"
    with speaking("de"):
        shown = on.adapter.show(session)["warning"]
        assert "Die Gruppe <code>Tone</code> wurde nicht eingeprägt" in str(shown)
    refine(on, session, request)
    assert "was not imprinted" not in str(on.adapter.check(session)["warning"]), "taught since"
    on.prompts.set_instruction("IMPRINT this.", session)
    synthesized(on, session, both, request)
    follow(on, session, request)
    assert "was not imprinted" not in str(on.adapter.check(session)["warning"])


def test_another_error_is_shown_as_one(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    session = Session()
    before = imprintable(on, session, arrange, request_of("s"), "IMPRINT OOM")
    shown = follow(on, session, request_of("s"))[-1]
    assert "Imprinting failed; the adapter is unchanged." in shown["stages"]
    assert "ran out of memory" in shown["stages"]
    assert session.made is before


def test_undo_goes_back_to_the_generators_adapter(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    session = Session()
    before = imprintable(on, session, arrange, request_of("s"))
    follow(on, session, request_of("s"))
    imprinted = session.made
    refined = refine(on, session, request_of("s"))[-1]
    assert refined["undo"].value == "Undo teaching"
    assert on.teach.undo(session)["undo"].value == "Undo imprint"
    assert session.made is imprinted
    undone = on.teach.undo(session)
    assert session.made is before
    assert undone["undo"].visible is False
    assert "imprinted" not in undone["adapter_facts"]
    assert "How it was made" in undone["stages"]
    assert "Carries the instruction" in on.adapter.check(session)["checks"]
    assert (len(engine.calls), len(engine.imprints)) == (1, 1)


def test_stop_keeps_the_generators_adapter_and_closes_the_engine(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    session = Session()
    before = imprintable(on, session, arrange, request_of("s"))
    with engine.pace.held("imprint"):
        steps = started(on, session, request_of("s"))
        stopped = on.runs.stop_run(session)
        assert "The adapter is unchanged." in stopped["stages"]
        assert stopped["stop_imprint"].visible is False
        list(steps)
        assert "Measuring on your prompts" in on.runs.show_run(session)["checks"]
        assert session.made is before
        until(lambda: engine.closed_imprints == 1)
    assert engine.imprints[-1]["steps"] == 1


def started(on: Handlers, session: Session, request: gr.Request) -> Iterator[Updates]:
    """Order an imprint and follow it until it asks."""
    on.imprint.begin_imprint(session, True)
    steps = on.imprint.imprint(session, request)
    while "Asking with" not in next(steps)["stages"]:
        pass
    return steps


def test_a_synthesis_ordered_meanwhile_stops_it(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    session = Session()
    arrangement = arrange(SQL={"a.jsonl": prompts(9, "IMPRINT")})
    before = synthesized(on, session, arrangement, request_of("s"))
    with engine.pace.held("imprint"):
        steps = started(on, session, request_of("s"))
        assert on.synthesis.begin_synthesis(arrangement, session)["stop_imprint"].visible is False
        assert "Imprint" not in list(steps)[-1]["stages"]
    assert on.runs.show_run(session) == {}
    assert session.made is before


def test_the_strength_that_was_chosen_meanwhile_is_kept(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    session = Session()
    before = imprintable(on, session, arrange, request_of("s"))
    with engine.pace.held("imprint"):
        steps = started(on, session, request_of("s"))
        on.adapter.set_strength(session, 0.5)
    *drawn, last = steps
    assert sent(drawn)["strength"] == 0.5
    # It is sent again when the stream ends, when the strength may have been moved again.
    assert set(last) == {"stages"}
    made = session.made
    assert made is not None
    assert made is not before
    assert (made.original.strength, made.adapter.strength) == (1.0, 0.5)
    assert made.archive is not None


def test_a_strength_chosen_during_the_last_check_is_kept_and_its_zip_is_due(
    on: Handlers, arrange: Arrange, request_of: RequestOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session()
    before = imprintable(on, session, arrange, request_of("s"))
    on.imprint.begin_imprint(session, True)
    save = on.app.calls.save

    def save_and_drag(adapter: "Adapter", path: Path) -> Path:
        before.adapter = before.original.with_strength(0.5)
        return save(adapter, path)

    monkeypatch.setattr(on.app.calls, "save", save_and_drag)
    list(on.imprint.imprint(session, request_of("s")))
    made = session.made
    assert made is not None
    assert made is not before
    assert made.adapter.strength == 0.5
    assert made.archive is None


@pytest.mark.parametrize("stopped", [False, True])
def test_show_me_asks_when_the_imprint_has_ended_however_it_ended(
    on: Handlers, arrange: Arrange, request_of: RequestOf, stopped: bool
) -> None:
    (example, *_) = load_examples()
    session = Session()
    on.prompts.show_me(example, session)
    before = imprintable(on, session, arrange, request_of("s"))
    assert session.run is not None
    session.run.question = session.to_show
    on.imprint.begin_imprint(session, True)
    assert on.compare.ask_shown(session) == {}
    if stopped:
        on.runs.stop_run(session)
    list(on.imprint.imprint(session, request_of("s")))
    assert "send" in on.compare.ask_shown(session)
    right = session.turns[-1].right
    assert right is not None
    assert (right.made is before) is stopped


def test_the_library_names_an_imprinted_adapter_and_a_recipe_announces_its_stages(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    session = Session()
    synthesized(on, session, arrange(SQL={"a.jsonl": prompts(9, "IMPRINT")}), request_of("s"))
    follow(on, session, request_of("s"))
    on.adapter.check(session)
    on.library.keep(session, "mine", False, request_of("s"))
    library: Library = on.app.library(session, request_of("s"))
    (entry,) = library.entries()
    assert isinstance(entry, Entry)
    found, _proof = engine.recall(entry.checks)
    assert "Imprinted with your instruction" in entry_words(entry, found)
    assert entry.recipe is not None
    ordered = on.library.order(session, entry.recipe)
    ask, imprint = (ordered["stages"].index(f"<b>{name}</b>") for name in ("Ask", "Imprint"))
    assert ordered["stages"].index("<b>Decode</b>") < ask < imprint
    assert "<b>Teach</b>" not in ordered["stages"]


def test_a_doubtful_imprint_can_still_be_refined(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    session = Session()
    synthesized(
        on, session, arrange(SQL={"a.jsonl": prompts(9, "IMPRINT NOTHING")}), request_of("s")
    )
    follow(on, session, request_of("s"))
    doubtful = on.adapter.check(session)
    assert "You can teach it below" in doubtful["warning"]
    assert doubtful["teach_box"].visible is True
    assert doubtful["proof_box"].visible is True


def test_an_adapter_that_was_loaded_meanwhile_is_left_alone(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    session = Session()
    made = synthesized(on, session, arrange(SQL={"a.txt": "one\n"}), request_of("s"))
    session.made = replace(made, stages=None)  # as the library gives it
    assert "stages" not in on.imprint.begin_imprint(session, True)


def test_an_adapter_that_was_chosen_meanwhile_stays_in_the_bar(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    session = Session()
    other = synthesized(on, session, arrange(Tone={"b.txt": "two\n"}), request_of("s"))
    before = imprintable(on, session, arrange, request_of("s"))
    steps = started(on, session, request_of("s"))
    on.adapter.choose(session, other.key)
    shown = sent(steps)
    assert other.key[:8] in shown["adapter_facts"]
    assert "How it was made" in shown["stages"]
    done = on.runs.show_run(session)
    assert session.made is other
    imprinted = session.shelf[-1]
    assert imprinted.before is before
    assert imprinted.changed_by == "imprint"
    assert f"{before.adapter.name}, imprinted" in dict(done["right_choice"].choices)
    assert "How it was made" in done["stages"]
    assert "How it was imprinted" in on.adapter.choose(session, imprinted.key)["stages"]


def test_without_a_generator_the_synthesis_is_the_imprint(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    """Its stages are told as they are, and no second imprint follows."""
    engine.info, engine.reports, engine.card = ALONE, {}, ""
    session = Session()
    arrangement = arrange(SQL={"a.jsonl": prompts(9, "IMPRINT")})
    made = synthesized(on, session, arrangement, request_of("s"))
    assert made.adapter.is_imprinted
    assert made.stages is not None
    told = made.stages.html()
    assert "Layer 30 of 30" in told
    assert "Decode" not in told
    assert "imprinted in 3.2 s, without a generator" in str(facts_of(session))
    assert "stages" not in on.imprint.begin_imprint(session, True)
    assert len(engine.imprints) == 1
    assert "Carries the instruction" in on.adapter.check(session)["checks"]


def test_the_page_says_that_adapters_are_imprinted_alone(on: Handlers, engine: FakeEngine) -> None:
    chips = header_html(LoadState("ready"), ALONE)
    assert "Imprint alone" in chips
    assert "Generator <code" not in chips
    engine.info, engine.reports, engine.card = ALONE, {}, ""
    shown = on.report.report(Session(), None, "score")
    assert "### No generator" in shown["report_card"]
    assert shown["report_controls"].visible is False
    with speaking("de"):
        assert "Nur eingeprägt" in header_html(LoadState("ready"), ALONE)


def test_without_a_generator_a_prompt_without_an_instruction_makes_nothing(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    engine.info = ALONE
    session = Session()
    make(on, session, arrange(SQL={"a.txt": "one\ntwo\n"}), request_of("s"))
    assert session.made is None
    assert session.run is not None
    assert "no prompt has an instruction and an input" in session.run.stages.html().lower()


def test_an_adapter_that_left_the_bar_before_its_imprint_is_offered_one(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    session = Session()
    make(on, session, arrange(A={"a.jsonl": prompts(9, "other")}), request_of("s"))
    on.imprint.begin_imprint(session, False)
    first = session.made
    make(on, session, arrange(SQL={"a.jsonl": prompts(9, "IMPRINT")}), request_of("s"))
    second = session.made
    assert first is not None
    assert second is not None
    on.adapter.choose(session, first.key)
    on.imprint.begin_imprint(session, True)
    assert on.adapter.choose(session, second.key)["imprint_now"].visible is True


def test_an_adapter_of_another_base_is_shown_without_its_picture(
    on: Handlers, arrange: Arrange, request_of: RequestOf, engine: FakeEngine
) -> None:
    """Its base may have been changed since; a visit could not be restored with it in the bar."""
    session = Session()
    make(on, session, arrange(A={"a.jsonl": prompts(9)}), request_of("s"))
    made = session.made
    assert made is not None
    made.thumbprint = ()

    def refuse(adapter: object) -> None:
        raise AdapterError("made for another base")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "relative_norms", refuse)
        assert made.adapter.sha256[:8] in on.adapter.show(session)["adapter_facts"]
    assert made.thumbprint == ()
    on.adapter.show(session)
    assert made.thumbprint != ()


def test_a_language_switch_during_an_imprint_says_that_checks_wait(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    session = Session()
    make(on, session, arrange(SQL={"a.jsonl": prompts(9, "IMPRINT")}), request_of("s"))
    begun = on.imprint.begin_imprint(session, True)
    again = on.language.say_again(
        session, session.canvas, None, "gguf", None, "score", request_of("s")
    )
    assert (again["warning"], again["checks"]) == (begun["warning"], begun["checks"])


def test_the_end_of_a_stopped_imprint_leaves_the_next_synthesis_to_its_own_event(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    """What follows a synthesis waits for its own event, and was drawn over by the other one."""
    session, canvas = Session(), arrange(SQL={"a.jsonl": prompts(9, "IMPRINT")})
    make(on, session, canvas, request_of("s"))
    on.imprint.begin_imprint(session, True)
    on.synthesis.begin_synthesis(canvas, session)
    list(on.synthesis.synthesize(session, "sum", 1, request_of("s")))
    assert on.runs.show_run(session, kind="imprint") == {}
    assert "adapter_facts" in on.runs.show_run(session, kind="synthesis")
