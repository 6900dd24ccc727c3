"""What the server accepts as a canvas. The browser side is in `tests/browser`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from gradio import processing_utils
from gradio.context import LocalContext
from gradio.exceptions import InvalidPathError
from gradio.utils import get_upload_folder
from pydantic import ValidationError

from dnd_engine.checks.examples import RESULT, measured_result
from dnd_engine.files import asset_path
from dnd_engine.limits import PromptLimits
from dnd_engine.prompts.examples import load_examples, measured_together
from dnd_engine.prompts.files import FORMATS, read_prompt_file
from ui.canvas import CanvasData, Inbox, PromptCanvas
from ui.tabs.workbench.prompts.view import example_html, together_html
from ui.text import speaking

META = {"_type": "gradio.FileData"}


def canvas_value(file: Any, **card: Any) -> dict[str, Any]:
    return {
        "buckets": [{"id": "b", "name": "SQL", "weight": 1.0, "cards": ["c"]}],
        "cards": [{"id": "c", "name": "a.txt", "file": file, **card}],
    }


def receive(value: dict[str, Any]) -> Any:
    """Do what Gradio does with a value that a browser sent."""
    with gr.Blocks(analytics_enabled=False) as demo:
        canvas = PromptCanvas(limits=PromptLimits())
    demo.has_launched = True
    token = LocalContext.blocks.set(demo)
    try:
        checked = processing_utils.move_files_to_cache(value, canvas, check_in_upload_folder=True)
        data = CanvasData.model_validate(checked, context={"validate_meta": True})
    finally:
        LocalContext.blocks.reset(token)
    return canvas.preprocess(data)


def test_an_upload_is_accepted() -> None:
    folder = Path(get_upload_folder()) / "test"
    folder.mkdir(parents=True, exist_ok=True)
    upload = folder / "a.txt"
    upload.write_text("one")
    [bucket] = receive(canvas_value({"path": str(upload), "meta": META})).buckets
    assert (bucket.name, bucket.weight) == ("SQL", 1.0)
    assert bucket.cards[0].upload == upload


def test_a_smuggled_path_with_the_mark_of_an_upload_is_refused() -> None:
    with pytest.raises(InvalidPathError, match="was not uploaded by a user"):
        receive(canvas_value({"path": "/etc/passwd", "meta": META}))


@pytest.mark.parametrize("path", ["/etc/passwd", "../../etc/passwd"])
def test_a_smuggled_path_without_the_mark_is_refused(path: str) -> None:
    with pytest.raises(ValidationError, match="meta"):
        receive(canvas_value({"path": path}))


def test_a_path_in_any_other_field_is_only_a_name() -> None:
    [bucket] = receive(canvas_value(None, name="/etc/passwd")).buckets
    assert bucket.cards[0].upload is None


def test_a_split_nobody_offers_is_refused() -> None:
    with pytest.raises(ValidationError, match="split"):
        receive(canvas_value(None, split="rm -rf"))


def test_a_card_counts_once_however_often_it_is_named() -> None:
    value = canvas_value(None)
    value["buckets"] *= 2
    value["buckets"][0]["cards"] = ["c", "c", "unknown"]
    first, second = receive(value).buckets
    assert [card.id for card in first.cards] == ["c"]
    assert second.cards == ()


def test_names_are_cleaned_and_weights_are_numbers() -> None:
    value = canvas_value(None)
    value["buckets"][0] |= {"name": "\u202e\x00 \n", "weight": float("nan")}
    [bucket] = receive(value).buckets
    assert (bucket.name, bucket.weight) == ("Unnamed", 0.0)


def test_a_canvas_of_absurd_size_is_refused() -> None:
    with pytest.raises(gr.Error, match="more than it can"):
        receive({"buckets": [{"id": str(i), "name": "x"} for i in range(2000)], "cards": []})


def test_no_text_of_a_stranger_can_reach_a_template() -> None:
    for name in ("canvas.html", "canvas.js", "transcript.js"):
        source = asset_path(name).read_text(encoding="utf-8")
        for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert sink not in source
    template = asset_path("canvas.html").read_text(encoding="utf-8")
    assert "${" not in template
    assert "{{" not in template


def test_the_browser_is_told_the_limits() -> None:
    canvas = PromptCanvas(limits=PromptLimits())
    told = canvas.props["limits"]
    expected = {"suffixes": list(FORMATS), "max_file_bytes": 5_000_000, "max_files": 60}
    assert told == {**expected, "max_instruction_chars": 2_000}


def test_the_browser_is_told_of_a_registered_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, ".odt", FORMATS[".txt"])
    assert ".odt" in PromptCanvas(limits=PromptLimits()).props["limits"]["suffixes"]


def test_equal_messages_differ_so_that_both_arrive() -> None:
    inbox = Inbox()
    assert inbox.postprocess({"op": "fold"}) != inbox.postprocess({"op": "fold"})


def test_examples_hold_what_the_page_says() -> None:
    examples = load_examples()
    assert [example.bucket for example in examples] == ["SQL", "Legal", "Tone of voice"]
    assert [example.weight for example in examples] == [1.0, 0.7, 0.4]
    for example in examples:
        read = [
            read_prompt_file(asset_path("examples", example.id, name)) for name in example.files
        ]
        assert sum(len(file.prompts) for file in read) == example.num_prompts >= 24
        assert all("\n\n" in prompt.text for file in read for prompt in file.prompts)


def test_what_was_measured_of_the_examples_has_all_that_is_measured_now() -> None:
    """Results of an earlier code lacked what a later check had found."""
    for kept in (*(example.measured for example in load_examples()), measured_together()):
        assert RESULT.dump_python(measured_result(kept), mode="json") == kept


def test_examples_in_one_adapter_have_their_names_in_the_visitor_s_language() -> None:
    with speaking("de"):
        shown = together_html(measured_result(measured_together()))
    assert "Tone of voice" not in shown
    assert "Tonfall" in shown


def test_an_example_says_what_was_measured_before_it_is_loaded() -> None:
    example = load_examples()[0]
    assert measured_result(example.measured).works, "Show me uses it"
    shown = example_html(example)
    assert "dnd-icon-check" in shown
    assert "It works without the instruction." in shown
    assert "Forecast: sure." in shown
    assert "harms" not in shown
    # Another generator, or a changed check, may find less; then the page says that.
    measured = RESULT.dump_python(measured_result(example.measured), mode="json")
    measured["forecast"]["sureness"] = 0.1
    measured["verdict"] |= {"outcome": "with_instruction", "same": 2, "num_prompts": 6}
    measured["skills"]["after"] = 9
    shown = example_html(replace(example, measured=measured))
    assert "It rarely works without the instruction: for 2 of 6 prompts." in shown
    assert "Forecast: unsure." in shown
    assert "It harms other answers: 9 of" in shown
    assert "dnd-icon-warn" in shown
