"""One page for all languages: built once, answered in the visitor's, said again at a switch."""

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr
import pytest
from gradio.state_holder import SessionState

from dnd_engine.errors import GeneratorError
from dnd_engine.limits import PromptLimits
from tests.loops import run
from tests.serving import fetch, serving
from tests.ui.fake_engine import FakeEngine, handle_of
from tests.ui.orders import chat, make
from ui.build import build_ui
from ui.canvas import Arrangement
from ui.engine_handle import EngineHandle
from ui.handlers import Handlers
from ui.language import said_of, say_again
from ui.shared import Updates
from ui.state import Session
from ui.text import _, drawn, speaking

Arrange = Callable[..., Arrangement]
RequestOf = Callable[[str], gr.Request]


@pytest.fixture(scope="module")
def demo() -> gr.Blocks:
    return build_ui(handle_of(), PromptLimits())


def props(demo: gr.Blocks) -> dict[int, dict[str, Any]]:
    return {component["id"]: component["props"] for component in demo.config["components"]}


def test_the_page_is_served_in_the_language_spoken_and_is_the_same_in_all_else(
    demo: gr.Blocks,
) -> None:
    english = props(demo)
    with speaking("de"):
        german = props(demo)
    assert english.keys() == german.keys()
    by_id = {block["elem_id"]: number for number, block in english.items() if block.get("elem_id")}
    button, canvas = by_id["dnd-synthesize"], by_id["dnd-canvas"]
    assert (english[button]["value"], german[button]["value"]) == ("Synthesize", "Adapter erzeugen")
    assert "Dateien hier ablegen" in german[canvas]["props"]["words"]
    assert "Dateien hier ablegen" not in english[canvas]["props"]["words"]
    assert german[by_id["dnd-mode"]]["choices"][1] == ("Wie geschrieben", "written")
    same = ("elem_id", "visible", "interactive", "name", "html_template", "js_on_load")
    for number in english:
        assert [english[number].get(key) for key in same] == [
            german[number].get(key) for key in same
        ]


def test_the_switch_says_all_that_the_page_says(demo: gr.Blocks) -> None:
    """Whatever differs between the pages of two languages is an output of the one event."""
    english = props(demo)
    with speaking("de"):
        german = props(demo)
    came_in = {
        block._id
        for block in demo.blocks.values()
        if isinstance(block, gr.Textbox)
        and not block.visible
        and english[block._id].get("value") == "en"
    }
    differ = {number for number in english if english[number] != german[number]} - came_in
    assert len(differ) > 80
    (speak,) = [fn for fn in demo.fns.values() if fn.name == "speak"]
    assert differ <= {block._id for block in speak.outputs}


def test_what_a_handler_draws_counts_where_the_layout_says_something_too() -> None:
    button = gr.Button(_("Find out"), visible=False, render=False)
    view = gr.HTML(drawn(lambda: f"<p>{_('Checks')}</p>"), elem_id="x", render=False)
    with speaking("de"):
        assert said_of(button) == {"value": "Herausfinden"}
        assert said_of(view) == {"value": "<p>Prüfung</p>"}
        assert say_again(button) == gr.update(value="Herausfinden")
        assert say_again(button, gr.Button(visible=True)) == gr.update(
            value="Herausfinden", visible=True
        )
        assert say_again(button, gr.Button(_("Measure again"))) == gr.update(value="Neu messen")
        assert say_again(view, "<b>drawn</b>") == gr.update(value="<b>drawn</b>")


def test_a_visit_is_drawn_again_as_it_is_and_nothing_of_it_changes(
    on: Handlers, arrange: Arrange, request_of: RequestOf
) -> None:
    session, request = Session(), request_of("s")
    arrangement = arrange(SQL={"a.txt": "one\ntwo"})
    make(on, session, arrangement, request)
    on.adapter.check(session)
    chat(on, session, "What?")
    made, turns = session.made, list(session.turns)
    with speaking("de"):
        drawn_again = on.language.say_again(
            session, arrangement, None, "base-gguf", None, "score", request
        )
    assert session.made is made
    assert session.turns == turns
    assert "2 Prompts aus 1 Datei" in drawn_again["adapter_facts"]
    assert "Ändert das Modell" in drawn_again["checks"]
    assert "Tok./s" in drawn_again["right_pane"]
    assert "Wie er entstand" in drawn_again["stages"]
    assert "1 Datei, 2 Prompts" in drawn_again["hint"]
    (reading,) = drawn_again["inbox"]["readings"].values()
    assert reading["notes"] == ["Als ein Prompt je Zeile gelesen."]
    assert drawn_again["export"].value == "Exportieren"
    # An exported file stays, and so does how to use it.
    assert "visible" not in drawn_again["export_usage"].constructor_args
    assert "--lora" in drawn_again["export_usage"].info
    for shown in ("adapter_box", "teach_box", "strength", "take_box"):
        assert shown not in drawn_again


def test_a_failed_check_stays_failed_in_another_language(
    on: Handlers, arrange: Arrange, request_of: RequestOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, request = Session(), request_of("s")
    arrangement = arrange(SQL={"a.txt": "one\ntwo"})
    make(on, session, arrangement, request)
    assert session.made is not None
    session.made.check_failed = "out of memory"
    with speaking("de"):
        drawn_again = on.language.say_again(
            session, arrangement, None, "gguf", None, "score", request
        )
    assert "Ließ sich nicht messen." in drawn_again["checks"]
    assert "out of memory" in drawn_again["checks"]


def test_the_report_is_redrawn_in_another_language_if_it_can_be_read(
    on: Handlers, request_of: RequestOf, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_german() -> Updates:
        with speaking("de"):
            return on.language.say_again(
                Session(), Arrangement(), None, "gguf", "heldout", "score", request_of("s")
            )

    def damaged(_: object) -> None:
        raise GeneratorError("`heldout.json`: this is no sound report.")

    assert {"report_card", "report_group", "report", "report_more"} <= in_german().keys()
    with monkeypatch.context() as patch:
        patch.setattr(type(engine), "reports", property(damaged), raising=False)
        assert "report_group" not in in_german()
    monkeypatch.setattr(EngineHandle, "engine", None)  # as while other models are loaded
    without = in_german()
    assert "report_group" not in without
    assert "Noch nicht geladen" in without["report_card"]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(handle_of(), start=False) as url:
        yield url


@pytest.mark.parametrize(
    ("path", "headers", "words"),
    [
        ("/", {}, "Synthesize"),
        ("/", {"accept-language": "de-DE,de;q=0.9"}, "Adapter erzeugen"),
        ("/?lang=en", {"accept-language": "de"}, "Synthesize"),
        ("/?lang=de", {}, "Adapter erzeugen"),
        ("/?lang=xx", {"accept-language": "de"}, "Adapter erzeugen"),
        ("/", {"accept-language": "en", "cookie": "dnd-language=de"}, "Adapter erzeugen"),
        ("/?lang=en", {"cookie": "dnd-language=de"}, "Synthesize"),
    ],
)
def test_a_request_is_answered_in_the_language_chosen_kept_or_preferred(
    url: str, path: str, headers: dict[str, str], words: str
) -> None:
    response = fetch(url + path, headers)
    assert f'"value":"{words}"' in response.text
    assert "Accept-Language" in response.headers["vary"]
    kept = response.headers.get("set-cookie", "")
    assert ("dnd-language=" in kept) == (path in ("/?lang=en", "/?lang=de"))


def test_a_visit_begins_in_the_language_its_page_came_in(
    on: Handlers, request_of: Callable[[str], gr.Request]
) -> None:
    for code, began in (("de", "de"), ("en", "en"), ("../de", "en"), ("", "en")):
        session = Session()
        header = on.visit.open(session, code, "", request_of(code))["header"]
        assert session.language == began
        assert ("Bereit" in header) == (began == "de")


def test_what_is_refused_before_a_handler_runs_is_said_in_the_language_of_the_visit(
    demo: gr.Blocks,
) -> None:
    state = SessionState(demo)
    (session,) = [
        n for n, b in demo.blocks.items() if isinstance(getattr(b, "value", None), Session)
    ]
    state[session] = Session(language="de")
    typed = next(fn for fn in demo.fns.values() if fn.name == "set_instruction")
    values = ["x" * 100_000 if isinstance(b, gr.Textbox) else None for b in typed.inputs]
    with pytest.raises(gr.Error, match="Erwartet") as told:
        run(demo.process_api(typed, values, state))
    assert told.value.title == "Fehler"
