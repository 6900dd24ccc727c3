"""Keep, the library and import as plain functions, with an engine without models."""

import json
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from dnd_engine import library as library_module
from dnd_engine.checks.results import Inspection, Skills
from dnd_engine.checks.verdict import Agreement
from dnd_engine.config import ImprintConfig, RefineConfig
from dnd_engine.library import Entry, Library
from dnd_engine.limits import PromptLimits
from dnd_engine.lora.changes import ChangedBy
from dnd_engine.lora.provenance import Imprinting, Refinement
from tests.present import present
from tests.ui.conftest import OWNERS_KEY
from tests.ui.fake_adapter import digest
from tests.ui.fake_engine import FakeEngine
from tests.ui.listed import listed
from tests.ui.orders import chat, last, make
from ui.canvas import Arrangement
from ui.engine_calls import EngineCalls
from ui.engine_handle import EngineHandle
from ui.handlers import Handlers
from ui.owner import Owner
from ui.serve import own_library
from ui.session_files import SessionFiles, file_stem
from ui.shared import App, Updates
from ui.spaces import serves_others
from ui.state import Place, Session
from ui.tabs.library.view import entry_words
from ui.tabs.measure.view import of_html
from ui.tabs.workbench.adapter.check_lines import check_lines
from ui.tabs.workbench.compare.sides import as_changed

Arrange = Callable[..., Arrangement]
RequestOf = Callable[..., gr.Request]


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "library")


@pytest.fixture
def at_home(
    handle: EngineHandle, files: SessionFiles, tmp_path: Path, library: Library
) -> Handlers:
    app = App(
        EngineCalls(handle), PromptLimits(), files, tmp_path / "cache", Owner(library, OWNERS_KEY)
    )
    return listed(Handlers(app))


@pytest.fixture
def kept(
    at_home: Handlers, arrange: Arrange, request_of: RequestOf, library: Library
) -> tuple[Session, Entry]:
    """A visit whose adapter was measured and kept."""
    session = Session()
    make(at_home, session, arrange(SQL={"a.txt": "one\ntwo\n"}), request_of("s"))
    at_home.adapter.check(session)
    at_home.library.keep(session, "vault", False, request_of("s"))
    return session, library.get("vault")


def test_an_adapter_is_kept_with_its_checks_and_without_its_texts(
    kept: tuple[Session, Entry],
) -> None:
    session, entry = kept
    assert session.made is not None
    assert entry.sha256 == session.made.original.sha256
    assert entry.checks["effect"] == 0.42
    assert entry.buckets == [("SQL", 1.0, 2)]
    assert entry.recipe is not None
    assert entry.recipe.has_texts is False


def test_keeping_the_same_again_is_told_and_texts_are_kept_when_asked_for(
    at_home: Handlers, kept: tuple[Session, Entry], request_of: RequestOf, library: Library
) -> None:
    session, _ = kept
    assert "Already" in at_home.library.keep(session, "vault", False, request_of("s"))["keep_told"]
    assert len(library.entries()) == 1
    at_home.library.keep(session, "with texts", True, request_of("s"))
    recipe = library.get("with texts").recipe
    assert recipe is not None
    assert recipe.has_texts is True
    at_home.adapter.set_strength(session, 0.5)
    taken = at_home.library.keep(session, "vault", False, request_of("s"))["keep_told"]
    assert "is-error" in taken
    assert "Choose another name" in taken


def test_the_same_weights_made_again_are_not_kept_twice(
    at_home: Handlers,
    kept: tuple[Session, Entry],
    arrange: Arrange,
    request_of: RequestOf,
    library: Library,
) -> None:
    session, entry = kept
    make(at_home, session, arrange(SQL={"a.txt": "one\ntwo\n"}), request_of("s"))
    made = session.made
    assert made is not None
    assert made.kept is None
    name = made.adapter.name
    assert "Already" in at_home.library.keep(session, name, False, request_of("s"))["keep_told"]
    assert made.kept is not None
    assert made.kept.key == entry.key
    assert len(library.entries()) == 1


def test_an_adapter_of_the_visit_keeps_its_history_when_it_is_loaded_from_the_library(
    at_home: Handlers, kept: tuple[Session, Entry], request_of: RequestOf, library: Library
) -> None:
    session, entry = kept
    made = session.made
    assert made is not None
    before, stages, inspection = made.before, made.stages, made.inspection
    library.rename(entry.key, "safe")
    last(at_home.library.load_kept(session, entry.key, request_of("s")))
    assert session.made is made
    assert (made.before, made.stages, made.inspection) == (before, stages, inspection)
    assert made.adapter.name == "safe"


def test_a_visit_holds_names_of_the_library_and_no_prompts_of_its_recipes(
    at_home: Handlers,
    arrange: Arrange,
    request_of: RequestOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secret = "The vault opens at nine."
    maker = Session()
    make(at_home, maker, arrange(SQL={"a.txt": f"{secret}\n"}), request_of("s"))
    at_home.library.keep(maker, "vault", True, request_of("s"))
    session = Session()
    at_home.library.open_library(session, None, request_of("t"))
    assert [one.name for one in session.library] == ["vault"]
    for visit in (maker, session):
        assert secret not in repr(visit.library)
    # A page opens without parsing every recipe.
    monkeypatch.setattr(library_module, "read_recipe", pytest.fail)
    opened = at_home.visit.open(Session(), "en", "", request_of("u"))
    assert names(opened["right_choice"]) == ["vault"]


def test_on_a_server_for_others_a_library_is_the_visits_own_and_goes_with_it(
    on: Handlers, arrange: Arrange, request_of: RequestOf, files: SessionFiles
) -> None:
    session, stranger = Session(), Session()
    on.visit.open(session, "en", "", request_of("s"))
    make(on, session, arrange(SQL={"a.txt": "one\n"}), request_of("s"))
    on.library.keep(session, "mine", False, request_of("s"))
    mine = on.library.open_library(session, None, request_of("s"))
    assert "mine" in mine["library_kept"].choices[0][0]
    theirs = on.library.open_library(stranger, None, request_of("t"))
    assert theirs["library_kept"].choices == []
    assert theirs["library_empty"].visible is True
    folder = files.folder("s") / "library"
    assert folder.is_dir()
    on.visit.leave(request_of("s"))
    assert folder.is_dir()
    on.visit.forget(request_of("s"))
    assert not folder.exists()


def test_a_visit_on_a_server_for_others_keeps_so_many(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    session = Session()
    make(on, session, arrange(SQL={"a.txt": "one\n"}), request_of("s"))
    for number in range(20):
        on.library.keep(session, f"a{number}", False, request_of("s"))
    assert (
        "keeps up to 20 adapters"
        in on.library.keep(session, "more", False, request_of("s"))["keep_told"]
    )
    full = on.library.duplicate_kept(session, "a1", request_of("s"))
    assert "keeps up to 20 adapters" in full["library_told"]
    key = on.library.open_library(session, None, request_of("s"))["library_kept"].value
    deleted = on.library.delete_kept(session, key, request_of("s"))["library_kept"]
    on.library.keep(session, "more", False, request_of("s"))
    kept_before = deleted.choices[-1][1]
    listed = on.library.open_library(session, kept_before, request_of("s"))
    assert len(listed["library_kept"].choices) == 20
    assert listed["library_kept"].value != kept_before, "what was just kept"
    listed = on.library.open_library(session, kept_before, request_of("s"))
    assert listed["library_kept"].value == kept_before
    assert listed["library_undo"].visible is False, "what was deleted has made room"


@pytest.mark.parametrize(
    "cookie",
    [
        *("", "dnd-owner-7860=", "dnd-owner-7860=the-key-of-another-start", "a;;=;\x00"),
        f"dnd-owner-7861={OWNERS_KEY}",
        f"dnd-owner={OWNERS_KEY}",
    ],
)
def test_without_the_key_of_this_start_a_visitor_has_a_library_of_their_own(
    at_home: Handlers, kept: tuple[Session, Entry], request_of: RequestOf, cookie: str
) -> None:
    opened = at_home.library.open_library(Session(), None, request_of("t", cookie=cookie))
    assert opened["library_kept"].choices == []
    assert "the address that the app printed" in opened["library_told"]
    assert "dnd-icon-check" not in opened["library_told"], "nothing was done"


def test_where_adapters_are_kept_is_told_to_each_visitor_as_it_is(
    at_home: Handlers, request_of: RequestOf
) -> None:
    for cookie, said in (
        (f"dnd-owner-7860={OWNERS_KEY}", "in the library on this computer, until they are"),
        ("", "for this visit only and deleted when it ends"),
    ):
        request = request_of("t", cookie=cookie)
        arranged, session = Arrangement(()), Session()
        opened = at_home.visit.open(session, "en", "", request)
        spoken = at_home.language.say_again(session, arranged, None, "gguf", None, "score", request)
        for slot in ("keep_head", "library_head"):
            assert said in opened[slot]
            assert said in spoken[slot]


@pytest.mark.parametrize("host", ["localhost:7860", "[::1]:7860", "studio.example:7860"])
def test_the_key_opens_the_owners_library_whatever_leads_there(
    at_home: Handlers, kept: tuple[Session, Entry], request_of: RequestOf, host: str
) -> None:
    request = request_of("s", **{"host": host, "x-forwarded-for": "203.0.113.7"})
    opened = at_home.library.open_library(Session(), None, request)
    assert [key for _, key in opened["library_kept"].choices] == [kept[1].key]
    assert opened["library_told"] == ""


def test_without_a_selected_adapter_the_buttons_say_so(on: Handlers, request_of: RequestOf) -> None:
    """No page sends such a call; it was a fault."""
    session, request = Session(), request_of("s")
    *_, loaded = on.library.load_kept(session, None, request)
    for updates in (
        loaded,
        on.library.rename_kept(session, None, None, request),
        on.library.duplicate_kept(session, None, request),
        on.library.delete_kept(session, None, request),
    ):
        assert "Select an adapter first." in updates["library_told"]


def test_a_fault_of_a_visits_library_does_not_tell_where_it_is(
    on: Handlers, request_of: RequestOf, files: SessionFiles
) -> None:
    (files.folder("s") / "library").write_text("in the way")
    told = on.library.delete_kept(Session(), "0" * 32, request_of("s"))["library_told"]
    assert "is-error" in told
    assert str(files.folder("s")) not in told


def test_the_list_tells_what_is_known_and_damaged_ones_can_only_be_deleted(
    at_home: Handlers, kept: tuple[Session, Entry], request_of: RequestOf, library: Library
) -> None:
    session, entry = kept
    broken = library.duplicate("vault", "broken")
    (library.path("broken") / "entry.json").write_text("{")
    updates = at_home.library.open_library(session, entry.key, request_of("s"))
    words = {key: label for label, key in updates["library_kept"].choices}
    name, facts, judged = words[entry.key].split("\n")
    assert name == "vault"
    assert "2 prompts (SQL 2)" in facts
    assert "strength 1.00" in facts
    assert "Changes the model · Carries the instruction 6 of 8" in judged
    assert words[broken.key].startswith(f"Damaged: {broken.key}\n")
    assert "entry.json" in words[broken.key]
    assert updates["library_load"].visible is True
    assert updates["library_recipe"].visible is True
    chosen = at_home.library.choose_kept(session, broken.key, request_of("s"))
    assert chosen["library_actions"].visible is True
    assert chosen["library_load"].visible is False
    assert chosen["library_recipe"].visible is False


def test_a_row_of_the_library_tells_the_verdict_and_its_warnings(
    kept: tuple[Session, Entry],
) -> None:
    session, entry = kept
    assert session.made is not None
    found = session.made.inspection
    assert found is not None
    assert found.verdict is not None
    _name, _facts, verdict, _checks = entry_words(entry, found).split("\n")
    assert verdict == "It works without the instruction."
    rarely = replace(found.verdict, outcome="with_instruction", same=2, num_prompts=6)
    skills = Skills(before=20, after=9, lost=11, num_questions=24)
    agrees = Agreement(2, 6)  # which the verdict says, so that the warning need not
    poor = entry_words(entry, replace(found, agreement=agrees, verdict=rarely, skills=skills))
    assert (
        "\nWarning: It rarely works without the instruction: for 2 of 6 prompts; "
        "Gets other questions wrong.\n"
    ) in poor


IMPRINT = Imprinting.of(
    ImprintConfig(),
    from_sha256="0" * 64,
    num_prompts=2,
    num_answers=2,
    commonest_share=0.5,
    unfinished=0,
    layers=(0.6,),
).to_json()


def refined(**more: Any) -> dict[str, Any]:
    """The section on a refinement of a provenance."""
    done = Refinement.of(RefineConfig(), from_sha256="0" * 64, num_prompts=2, folded=(), buckets=())
    return {**done.to_json(), **more}


@pytest.mark.parametrize(
    ("sections", "changed_by", "checks", "name", "learnt_from"),
    [
        ({}, None, "", "a", "made from prompts alone"),
        ({"imprint": IMPRINT}, "imprint", "Imprinted with your", "a, imprinted", "model's own"),
        (
            {"refined": refined()},
            "itself",
            "Taught on your",
            "a, by the model itself",
            "model's own answers",
        ),
        (
            {"imprint": IMPRINT, "refined": refined(commonest_share=1.0)},
            "itself_alike",
            "Learnt one answer for all",
            "a, by the model itself",
            "the model's own answers",
        ),
        (
            {"refined": refined(labels=True)},
            "labels",
            "Trained on your labels",
            "a, with labels",
            "the labels of some prompts",
        ),
        (
            {"imprint": IMPRINT, "trained": {"labels": True}},
            "labels",
            "Trained on your labels",
            "a, with labels",
            "the labels of some prompts",
        ),
        (
            {"refined": refined(), "trained": {"answers": "person"}},
            "person",
            "Trained on corrected answers",
            "a, by hand",
            "a person gave",
        ),
        (
            {"trained": {"answers": "teacher"}},
            "teacher",
            "Trained on a better model's answers",
            "a, by a better model",
            "a better model's answers",
        ),
    ],
)
def test_all_places_say_the_same_of_how_an_adapter_was_changed(
    kept: tuple[Session, Entry],
    library: Library,
    sections: dict[str, Any],
    changed_by: ChangedBy | None,
    checks: str,
    name: str,
    learnt_from: str,
) -> None:
    made = present(kept[0].made)
    provenance = {**made.original.provenance, **sections, "root": digest("changed")}
    made.original = replace(made.original, provenance=provenance).with_strength(1.0)
    made.adapter = made.original
    entry = library.add(made.original, "changed")
    assert made.changed_by == entry.changed_by == changed_by
    titles = [
        line.title for line in check_lines(Inspection(0.4, {}, (), 16), changed_by=changed_by)
    ]
    of_changes = ("Imprinted", "Taught", "Learnt", "Trained")
    said = [title for title in titles if title.startswith(of_changes)]
    assert [title.startswith(checks) for title in said] == ([] if changed_by is None else [True])
    assert checks in entry_words(entry, made.inspection)
    assert as_changed(made, "a") == name
    assert learnt_from in unescape(of_html(made))


def test_damaged_checks_are_told_in_the_list(
    at_home: Handlers, kept: tuple[Session, Entry], request_of: RequestOf, library: Library
) -> None:
    library.update("vault", checks={"effect": "much"})
    updates = at_home.library.open_library(kept[0], None, request_of("s"))
    assert "damaged" in updates["library_kept"].choices[0][0]


def test_adapters_are_renamed_copied_deleted_and_brought_back(
    at_home: Handlers, kept: tuple[Session, Entry], request_of: RequestOf, library: Library
) -> None:
    session, entry = kept
    here = request_of("s")
    renamed = at_home.library.rename_kept(session, entry.key, "<img src=x>", here)
    assert renamed["library_kept"].value == entry.key
    refused = at_home.library.rename_kept(session, entry.key, "../etc", here)
    assert "is not a valid name" in refused["library_told"]
    assert refused["library_kept"].value == entry.key
    assert "library_name" not in refused, "what was typed stays, to be corrected"
    copied = at_home.library.duplicate_kept(session, entry.key, here)
    assert copied["library_kept"].value != entry.key
    assert len(copied["library_kept"].choices) == 2
    deleted = at_home.library.delete_kept(session, entry.key, here)
    assert len(deleted["library_kept"].choices) == 1
    assert deleted["library_undo"].visible is True
    back = at_home.library.undo_delete(session, None, here)
    assert back["library_kept"].value == entry.key
    assert back["library_undo"].visible is False
    assert "Nothing to restore" in at_home.library.undo_delete(session, None, here)["library_told"]
    assert len(library.entries()) == 2


@pytest.fixture
def copied(kept: tuple[Session, Entry], library: Library) -> Entry:
    """A copy of the kept adapter, which another page has deleted since."""
    entry = kept[1]
    copy = library.duplicate(entry.key)
    library.delete(entry.key)
    return copy


def test_a_name_for_an_adapter_that_is_gone_names_no_other(
    at_home: Handlers, kept: tuple[Session, Entry], copied: Entry, request_of: RequestOf
) -> None:
    session, entry = kept
    refused = at_home.library.rename_kept(session, entry.key, "mine", request_of("s"))
    assert refused["library_kept"].value == copied.key
    assert refused["library_name"].value == copied.name


def test_the_recipe_of_an_entry_is_a_file_of_the_visit(
    at_home: Handlers, kept: tuple[Session, Entry], request_of: RequestOf, files: SessionFiles
) -> None:
    session, entry = kept
    at_home.library.choose_kept(session, entry.key, request_of("s"))
    (path,) = files.folder("s").glob(f"recipe-{file_stem(entry.name)}-*.json")
    assert json.loads(path.read_text())["buckets"][0]["name"] == "SQL"


def test_loading_what_was_deleted_elsewhere_updates_the_list(
    at_home: Handlers, kept: tuple[Session, Entry], copied: Entry, request_of: RequestOf
) -> None:
    session, entry = kept
    updates = last(at_home.library.load_kept(session, entry.key, request_of("s")))
    assert "it holds vault-2" in updates["library_told"]
    assert [key for _words, key in updates["library_kept"].choices] == [copied.key]
    assert updates["library_load"].interactive is True


def test_a_kept_adapter_is_loaded_with_its_checks_and_can_be_compared(
    at_home: Handlers, kept: tuple[Session, Entry], request_of: RequestOf, library: Library
) -> None:
    library.update("vault", strength=0.5)
    session = Session()
    updates = last(at_home.library.load_kept(session, kept[1].key, request_of("t")))
    made = session.made
    assert made is not None
    assert updates["tabs"].selected == "workbench"
    assert updates["strength"] == 0.5
    assert made.archive is not None
    assert made.archive.is_file()
    assert "Changes the model" in updates["checks"]
    assert "2 prompts" in updates["adapter_facts"]
    assert updates["teach_open"].visible is False
    assert updates["keep_texts"].visible is False
    assert at_home.adapter.check(session)["checks"] == updates["checks"]
    chat(at_home, session, "What?")
    assert session.turns[-1].right is not None
    # Beside one of another visit's making.
    assert session.shelf == [made]


def test_a_loaded_adapter_has_its_prompts_if_its_recipe_or_the_canvas_has(
    at_home: Handlers, kept: tuple[Session, Entry], arrange: Arrange, request_of: RequestOf
) -> None:
    session = Session()
    at_home.prompts.update_prompts(arrange(Any={"b.txt": "one\ntwo\n"}), session, request_of("t"))
    updates = last(at_home.library.load_kept(session, kept[1].key, request_of("t")))
    assert session.made is not None
    assert session.made.buckets[0].name == "SQL"
    assert updates["teach_open"].visible is True
    assert "Not made from the buckets" in updates["adapter_facts"]  # whose bucket is another
    arranged = arrange(SQL={"a.txt": "one\ntwo\n"})
    at_home.prompts.update_prompts(arranged, session, request_of("t"))
    updates = last(at_home.library.load_kept(session, kept[1].key, request_of("t")))
    assert "Not made from the buckets" not in updates["adapter_facts"]


def names(choice: gr.Radio) -> list[str]:
    return [str(name) for name, _ in choice.choices]


def bring(
    at_home: Handlers, place: Place, session: Session, key: str, request: gr.Request
) -> Updates:
    """Choose an adapter of the library for a side, and load it."""
    choose = at_home.compare.stand_beside if place == "left" else at_home.adapter.choose
    assert choose(session, key) == {}
    return last(at_home.library.bring(place, session, key, request))


@pytest.fixture
def three(at_home: Handlers, arrange: Arrange, request_of: RequestOf, library: Library) -> Library:
    """A library of three adapters."""
    for name in ("one", "two", "three"):
        session = Session()
        make(at_home, session, arrange(SQL={"a.txt": f"{name}\n"}), request_of("made"))
        at_home.library.keep(session, name, False, request_of("made"))
    return library


def test_any_two_adapters_of_the_library_are_compared_after_one_choice_a_side(
    at_home: Handlers, three: Library, request_of: RequestOf
) -> None:
    here = request_of("s")
    opened = at_home.visit.open(Session(), "en", "", here)
    session = opened["session"]
    assert names(opened["left_choice"]) == ["Base"]
    assert names(opened["right_choice"]) == ["three", "two", "one"]
    assert opened["right_choice"].visible is True
    assert opened["right_choice"].value is None
    assert "choose one above" in opened["right_pane"]
    one, two = three.get("one").sha256, three.get("two").sha256
    assert at_home.adapter.choose(session, two) == {}
    right = last(at_home.library.bring("right", session, two, here))
    assert "two" in right["adapter_facts"]
    assert right["right_choice"].value == two
    assert names(right["right_choice"]) == ["three", "two", "one"], "none moves when it is chosen"
    assert names(right["left_choice"]) == ["Base", "three", "one"]
    assert at_home.compare.stand_beside(session, one) == {}
    first, left = list(at_home.library.bring("left", session, one, here))
    assert first["left_choice"].interactive is False
    assert left["left_choice"].value == one
    assert left["left_choice"].interactive is True
    assert "<h3>Other adapter</h3><span class='dnd-facts'>one</span>" in left["left_pane"]
    chat(at_home, session, "Which?")
    turn = session.turns[-1]
    assert turn.right is not None
    assert [side.label[:8] for side in (turn.left, turn.right)] == [one[:8], two[:8]]
    # The other way round: neither is loaded again.
    at_home.adapter.choose(session, one)
    assert list(at_home.library.bring("right", session, one, here)) == []
    assert session.made is not None
    assert (session.made.key, session.beside) == (one, None)
    at_home.compare.stand_beside(session, two)
    assert session.beside is not None
    assert session.beside.key == two


def test_the_last_choice_of_a_side_counts_while_an_earlier_one_waits_to_be_loaded(
    at_home: Handlers, three: Library, request_of: RequestOf
) -> None:
    here = request_of("s")
    session = at_home.visit.open(Session(), "en", "", here)["session"]
    one, two, three_ = (three.get(name).sha256 for name in ("one", "two", "three"))
    bring(at_home, "right", session, one, here)
    bring(at_home, "right", session, two, here)
    assert at_home.adapter.choose(session, three_) == {}
    at_home.adapter.choose(session, one)
    assert list(at_home.library.bring("right", session, three_, here)) == []
    assert at_home.compare.stand_beside(session, three_) == {}
    at_home.compare.stand_beside(session, "")
    assert list(at_home.library.bring("left", session, three_, here)) == []
    assert session.made is not None
    assert (session.made.key, session.beside) == (one, None)
    # Not even once the adapter is being loaded.
    at_home.adapter.choose(session, three_)
    loading = at_home.library.bring("right", session, three_, here)
    next(loading)
    at_home.adapter.choose(session, two)
    updates = last(loading)
    assert updates["right_choice"].value == session.made.key == two
    assert updates["right_choice"].interactive is True
    # What came into the bar by other means meanwhile stays there, too.
    at_home.adapter.choose(session, one)
    made = session.made
    session.take(next(made for made in session.shelf if made.key == two))
    assert list(at_home.library.bring("right", session, one, here)) == []
    assert session.made is not made


def test_an_adapter_chosen_for_both_sides_at_once_stands_on_the_right(
    at_home: Handlers, three: Library, request_of: RequestOf
) -> None:
    here = request_of("s")
    one, two = three.get("one").sha256, three.get("two").sha256
    sides: tuple[tuple[Place, Place], ...] = (("left", "right"), ("right", "left"))
    for order in sides:
        session = at_home.visit.open(Session(), "en", "", here)["session"]
        bring(at_home, "right", session, two, here)
        choose = {"left": at_home.compare.stand_beside, "right": at_home.adapter.choose}
        for place in order:
            assert choose[place](session, one) == {}
        for place in order:
            updates = last(at_home.library.bring(place, session, one, here))
        assert session.made is not None
        assert (session.made.key, session.beside) == (one, None), "not compared with itself"
        assert (updates["left_choice"].value, updates["right_choice"].value) == ("", one)


def test_a_choice_that_a_closed_page_waited_for_is_dropped(
    at_home: Handlers, three: Library, request_of: RequestOf
) -> None:
    session = at_home.visit.open(Session(), "en", "", request_of("a"))["session"]
    bring(at_home, "right", session, three.get("two").sha256, request_of("a"))
    at_home.adapter.choose(session, three.get("one").sha256)
    back = at_home.visit.open(Session(), "en", session.key, request_of("b"))["session"]
    assert (back.awaited, session.awaited) == ({}, {})


def test_an_adapter_keeps_its_place_among_the_choices_when_it_is_kept(
    at_home: Handlers, three: Library, arrange: Arrange, request_of: RequestOf
) -> None:
    session, here = Session(), request_of("s")
    at_home.visit.open(session, "en", "", here)
    make(at_home, session, arrange(Films={"a.txt": "one\n"}), here)
    make(at_home, session, arrange(Letters={"b.txt": "two\n"}), here)
    before = names(at_home.compare.sides(session)["right_choice"])
    assert before == ["letters", "films", "three", "two", "one"]
    kept = at_home.library.keep(session, "mine", False, here)
    assert names(kept["right_choice"]) == ["mine", "films", "three", "two", "one"]
    assert len(three.entries()) == 4


def test_an_adapter_is_offered_by_the_name_under_which_it_was_kept_last(
    at_home: Handlers, arrange: Arrange, request_of: RequestOf, library: Library
) -> None:
    maker = Session()
    make(at_home, maker, arrange(SQL={"a.txt": "one\n"}), request_of("s"))
    for name in ("first", "second"):
        kept = at_home.library.keep(maker, name, False, request_of("s"))
        assert names(kept["right_choice"]) == [name]
        assert f"<span class='dnd-facts'>{name}</span>" in kept["right_pane"]
    here = request_of("t")
    opened = at_home.visit.open(Session(), "en", "", here)
    session = opened["session"]
    assert names(opened["right_choice"]) == ["second"]
    first, second = library.get("first"), library.get("second")
    brought = bring(at_home, "right", session, first.sha256, here)
    assert session.made is not None
    assert session.made.kept is not None
    assert session.made.kept.key == second.key
    assert names(brought["right_choice"]) == ["second"]
    # One that was loaded by hand has its own name there.
    loaded = last(at_home.library.load_kept(session, first.key, here))
    assert names(loaded["right_choice"]) == ["first"]
    renamed = at_home.library.rename_kept(session, first.key, "third", here)
    assert names(renamed["right_choice"]) == ["third"]
    deleted = at_home.library.delete_kept(session, first.key, here)
    assert names(deleted["right_choice"]) == ["second"]


def test_the_choice_comes_back_with_a_visit_and_hides_what_a_blind_one_must_not_tell(
    at_home: Handlers, three: Library, request_of: RequestOf
) -> None:
    one, two = three.get("one").sha256, three.get("two").sha256
    session = at_home.visit.open(Session(), "en", "", request_of("a"))["session"]
    bring(at_home, "right", session, two, request_of("a"))
    bring(at_home, "left", session, one, request_of("a"))
    at_home.visit.leave(request_of("a"))
    back = at_home.visit.open(Session(), "de", session.key, request_of("b"))
    visit = back["session"]
    assert (back["left_choice"].value, back["right_choice"].value) == (one, two)
    assert names(back["left_choice"]) == ["Basis", "three", "one"]
    blind = at_home.compare.go_blind(visit, True)
    shown = at_home.adapter.choose(visit, one)
    for updates in (blind, shown):
        assert updates["left_choice"].visible is updates["right_choice"].visible is False
    seen = at_home.compare.go_blind(visit, False)
    assert seen["left_choice"].visible is seen["right_choice"].visible is True
    # The same browser without the owner's key no longer sees the owner's library.
    at_home.visit.leave(request_of("b"))
    strange = at_home.visit.open(Session(), "en", visit.key, request_of("c", cookie=""))
    assert names(strange["right_choice"]) == ["one", "two"]


def test_without_a_library_there_is_no_empty_choice(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    opened = on.visit.open(Session(), "en", "", request_of("s"))
    session = opened["session"]
    listed_first = on.library.open_library(Session(), None, request_of("t"))
    made = make(on, session, arrange(SQL={"a.txt": "one\n"}), request_of("s"))
    for updates in (opened, listed_first, made):
        assert updates["left_choice"].visible is updates["right_choice"].visible is False
    looked = on.visit.open(Session(), "en", "", request_of("u"))["session"]
    assert looked.is_empty, "to look for a library makes no folder"


def test_an_adapter_that_cannot_be_loaded_leaves_both_sides_as_they_were(
    at_home: Handlers,
    three: Library,
    request_of: RequestOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []
    monkeypatch.setattr(gr, "Warning", lambda message, title: told.append(f"{title} {message}"))
    here = request_of("s")
    session = at_home.visit.open(Session(), "en", "", here)["session"]
    gone = three.get("one").sha256
    three.delete("one")
    (three.path("two") / "adapter_model.safetensors").write_bytes(b"0" * 64)
    for key, reason in ((gone, "no longer in the library"), (three.get("two").sha256, "changed")):
        updates = bring(at_home, "right", session, key, here)
        assert "Not loaded." in told[-1]
        assert reason in told[-1]
        assert updates["right_choice"].value is None
        assert updates["right_choice"].interactive is True
    assert names(updates["right_choice"]) == ["three", "two"]
    assert session.made is None
    assert at_home.library.bring_broke(session)["right_choice"].interactive is True
    assert "Something broke" in told[-1]


def test_loading_what_was_damaged_is_refused(
    at_home: Handlers, kept: tuple[Session, Entry], request_of: RequestOf, library: Library
) -> None:
    weights = library.path("vault") / "adapter_model.safetensors"
    weights.write_bytes(b"0" * 64)
    session = Session()
    updates = last(at_home.library.load_kept(session, kept[1].key, request_of("t")))
    assert "were changed" in updates["library_told"]
    assert updates["library_load"].interactive is True
    assert session.made is None


def test_votes_and_checks_of_a_kept_adapter_are_written_to_its_entry(
    at_home: Handlers, arrange: Arrange, request_of: RequestOf, library: Library
) -> None:
    session = Session()
    make(at_home, session, arrange(SQL={"a.txt": "one\n"}), request_of("s"))
    session.blind = True

    def vote(which: str) -> None:
        chat(at_home, session, "What?")
        session.turns[-1].swapped = False
        at_home.compare.vote(which, session, request_of("s"))

    vote("b")  # for the adapter, before it is kept
    at_home.library.keep(session, "vault", False, request_of("s"))
    assert library.get("vault").votes == {"won": 1}
    assert library.get("vault").checks == {}
    at_home.adapter.check(session)
    assert library.get("vault").checks["effect"] == 0.42
    vote("a")
    vote("tie")
    vote("bad")
    assert library.get("vault").votes == {"won": 1, "lost": 1, "tie": 1, "bad": 1}
    assert "1 won · 1 lost · 1 tied · 1 both bad" in str(
        at_home.library.open_library(session, None, request_of("s"))["library_kept"].choices
    )
    at_home.adapter.set_strength(session, 0.5)  # another adapter than the one that is kept
    vote("b")
    assert library.get("vault").votes["won"] == 1
    library.delete("vault")
    at_home.adapter.set_strength(session, 1.0)
    vote("b")  # nobody minds


def test_a_zip_is_imported_and_a_hostile_one_shows_all_its_faults(
    at_home: Handlers,
    kept: tuple[Session, Entry],
    request_of: RequestOf,
    library: Library,
    tmp_path: Path,
) -> None:
    session, entry = kept
    assert session.made is not None
    path = str(session.made.archive)
    again = last(at_home.library.import_file(session, path, request_of("s")))
    assert f"Already in the library, as <b>{entry.name}</b>." in again["library_told"]
    assert len(library.entries()) == 1
    library.delete(entry.key)
    updates = last(at_home.library.import_file(session, path, request_of("s")))
    newest, *_ = library.entries()
    assert isinstance(newest, Entry)
    assert newest.imported is True
    assert "imported" in updates["library_kept"].choices[0][0]
    evil = tmp_path / "evil.zip"
    evil.write_bytes(b"no zip")
    refused = last(at_home.library.import_file(session, str(evil), request_of("s")))["library_told"]
    assert refused.count("<li>") == 2
    assert "role='alert'" in refused
    assert str(tmp_path) not in refused
    assert "<code>evil.zip</code> is no PEFT adapter" in refused
    assert "<b>evil</b>" not in refused


def test_an_adapter_of_another_tool_is_loaded_with_nothing_to_measure_on(
    at_home: Handlers, kept: tuple[Session, Entry], request_of: RequestOf, library: Library
) -> None:
    session, entry = kept
    (library.path("vault") / "provenance.json").write_text("{}")
    entry = library.update("vault", checks={})
    session = Session()
    updates = last(at_home.library.load_kept(session, entry.key, request_of("t")))
    assert "Measuring on messages unlike its prompts" in updates["checks"]
    assert "your prompts" not in updates["warning"]
    checked = at_home.adapter.check(session)
    assert "came without its prompts" in checked["checks"]
    assert library.get("vault").checks == {}
    assert last(iter([*at_home.adapter.prove(session), {}])) == {}


def test_what_a_zip_says_of_its_teaching_is_repeated_as_measured_elsewhere(
    at_home: Handlers, kept: tuple[Session, Entry], request_of: RequestOf, library: Library
) -> None:
    provenance = library.path("vault") / "provenance.json"
    trained = {"num_held_back": 4, "score_before": 0.25, "score": 0.25, "answers": "person"}
    provenance.write_text(json.dumps({"trained": trained}))
    scores = "4 held-back prompts: 25 % right before, 25 % after the last step"

    def listed() -> str:
        page = at_home.library.open_library(Session(), None, request_of("t"))
        (choice, _key), *_others = page["library_kept"].choices
        return str(choice)

    assert f"Warning: It works poorly without the instruction.\n{scores}\n" in listed()
    entry = library.update("vault", checks={})
    record = provenance.with_name("entry.json")
    record.write_text(json.dumps({**json.loads(record.read_text()), "imported": True}))
    assert f"Measured before, where it was made: {scores}\nNot measured here" in listed()
    session = Session()
    last(at_home.library.load_kept(session, entry.key, request_of("t")))
    checked = at_home.adapter.check(session)
    assert "It works poorly without the instruction." in checked["warning"]
    assert f"Measured before, where it was made: {scores}." in checked["warning"]
    assert "undo" not in checked["warning"]
    assert f"measured before, where it was made: {scores}" in checked["adapter_facts"]
    assert "not measured before" not in checked["checks"]


def test_a_program_that_imports_no_file_is_told_so(
    at_home: Handlers, request_of: RequestOf
) -> None:
    told = last(at_home.library.import_file(Session(), None, request_of("s")))["library_told"]
    assert "Choose the file of an adapter." in told


def test_a_recipe_makes_the_same_adapter_of_the_files_on_the_canvas(
    at_home: Handlers, kept: tuple[Session, Entry], arrange: Arrange, request_of: RequestOf
) -> None:
    session, entry = kept
    updates = at_home.library.choose_kept(session, entry.key, request_of("s"))
    path = updates["library_recipe"].value["path"]
    stranger = Session()
    refused = last(at_home.library.import_file(stranger, path, request_of("t")))["library_told"]
    assert "1 prompt file(s) that the adapter was made from are missing" in refused
    assert "<code>a.txt</code> (2 prompts" in refused
    at_home.prompts.update_prompts(arrange(Any={"b.txt": "one\ntwo\n"}), stranger, request_of("t"))
    ordered = last(at_home.library.import_file(stranger, path, request_of("t")))
    assert ordered["tabs"].selected == "workbench"
    assert ordered["stop_synthesis"].visible is True
    list(at_home.library.remake(stranger, request_of("t")))
    updates = at_home.runs.show_run(stranger)
    assert stranger.made is not None
    assert stranger.made.key == entry.sha256
    assert "to the last bit" in updates["stages"]
    assert "Read prompts" not in updates["stages"], "they were read before, or the recipe has them"
    assert updates["suggestion_0"].visible is True


def test_a_recipe_of_another_generator_fails_in_its_stages(
    at_home: Handlers,
    kept: tuple[Session, Entry],
    request_of: RequestOf,
    engine: FakeEngine,
    tmp_path: Path,
) -> None:
    session, entry = kept
    assert entry.recipe is not None
    values = {**entry.recipe.to_json(), "generator_sha256": "0" * 64}
    path = tmp_path / "other.json"
    path.write_text(json.dumps(values))
    last(at_home.library.import_file(session, str(path), request_of("s")))
    made = session.made
    list(at_home.library.remake(session, request_of("s")))
    updates = at_home.runs.show_run(session)
    assert "The recipe needs another generator" in updates["stages"]
    assert session.made is made
    path.write_text("[]")
    assert (
        "must be an object"
        in last(at_home.library.import_file(session, str(path), request_of("s")))["library_told"]
    )


@pytest.mark.parametrize(
    ("host", "others"),
    [("127.0.0.1", False), ("localhost", False), ("::1", False), ("0.0.0.0", True), ("box", True)],
)
def test_the_users_library_is_only_for_a_page_that_no_one_else_can_open(
    monkeypatch: pytest.MonkeyPatch, host: str, others: bool
) -> None:
    monkeypatch.delenv("SPACE_ID", raising=False)
    monkeypatch.delenv("GRADIO_ROOT_PATH", raising=False)
    assert serves_others(host) is others
    assert (own_library(host) is None) is others
    monkeypatch.setenv("SPACE_ID", "user/space")
    assert own_library("127.0.0.1") is None
