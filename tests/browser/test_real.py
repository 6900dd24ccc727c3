"""The whole path with the real models: drop, synthesize, chat, download, open the zip with PEFT."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import ViewportSize, expect

from dnd_engine.files import asset_path
from dnd_engine.prompts.examples import load_examples
from dnd_engine.prompts.split import split_prompt
from tests.browser.conftest import DESK, PHONE, TAKE_PICTURES, Visits
from tests.browser.test_measure import drop_rows
from tests.serving import serving
from ui.engine_handle import EngineHandle

if TYPE_CHECKING:
    from dnd_engine.engine import Engine

pytestmark = [pytest.mark.browser, pytest.mark.real]


@pytest.fixture(scope="module")
def real_handle(real_engine: "Engine") -> EngineHandle:
    return EngineHandle(lambda on_progress: real_engine)


@pytest.fixture(scope="module")
def real_url(real_handle: EngineHandle) -> Iterator[str]:
    with serving(real_handle) as url:
        yield url


@pytest.mark.usefixtures("few_questions")
def test_prompts_become_an_adapter_that_peft_opens(
    visits: Visits, real_handle: EngineHandle, real_url: str, tmp_path: Path
) -> None:
    visit = visits(real_url)
    for name, bucket in (("films.jsonl", "SQL"), ("more-films.csv", "SQL")):
        visit.drop([asset_path("examples", "sql", name)], bucket)
        visit.ready(name)
    visit.drop([asset_path("examples", "legal", "clauses.md")], "Legal")
    visit.ready("clauses.md")
    forecasts = visit.page.locator("#dnd-forecast").get_by_role("listitem")
    expect(forecasts).to_have_count(2, timeout=300_000)
    # The report on the shipped teacher says how such forecasts turned out.
    expect(forecasts.first).to_contain_text("adapters were right about")
    visit.picture("docs/pictures/canvas.png", 1080)
    visit.page.locator("#dnd-synthesize").click()
    bar = visit.page.locator("#dnd-adapter")
    expect(bar).to_contain_text("36 prompts from 3 files", timeout=300_000)
    expect(visit.page.locator("#dnd-download")).to_be_enabled(timeout=300_000)
    expect(visit.page.locator("#dnd-checks")).to_contain_text(
        "Effect on the model", timeout=300_000
    )
    visit.shot("real-made")

    visit.ask("Count the films from 2003.")
    # A short answer is there before anyone could see its cursor.
    expect(visit.page.locator("#dnd-panes .dnd-answer-facts")).to_have_count(2, timeout=300_000)
    expect(visit.page.locator("#dnd-panes .dnd-cursor")).to_have_count(0, timeout=300_000)
    expect(visit.page.locator("#dnd-send")).to_be_visible(timeout=300_000)
    answers = [visit.answer(side).inner_text() for side in ("left", "right")]
    assert all(answers)
    # An adapter of an untrained generator does nothing, and then the page must have said so.
    warned = visit.page.locator("#dnd-warning .is-warn").count() == 1
    assert answers[0] != answers[1] or warned
    visit.shot("real-chat")

    with visit.page.expect_download() as download:
        visit.page.locator("#dnd-download").click()
    folder = tmp_path / "adapter"
    with zipfile.ZipFile(download.value.path()) as archive:
        assert sorted(archive.namelist()) == [
            "README.md",
            "adapter_config.json",
            "adapter_model.safetensors",
            "provenance.json",
        ]
        folder.mkdir()
        for name in archive.namelist():
            (folder / name).write_bytes(archive.read(name))
    assert json.loads((folder / "adapter_config.json").read_text())["peft_type"] == "LORA"

    engine = real_handle.engine
    assert engine is not None
    assert _opens_with_peft(folder, engine.info.base_path)


@pytest.mark.usefixtures("few_questions")
def test_strength_zero_answers_as_the_base_does(visits: Visits, real_url: str) -> None:
    visit = visits(real_url)
    visit.page.locator("#dnd-example-tone").click()
    expect(visit.page.locator("#dnd-synthesize")).to_be_enabled()
    visit.page.locator("#dnd-synthesize").click()
    expect(visit.page.locator("#dnd-adapter")).to_contain_text("26 prompts", timeout=300_000)
    expect(visit.page.locator("#dnd-checks")).to_contain_text(
        "Effect on the model", timeout=300_000
    )
    number = visit.page.locator("#dnd-strength input[type=number]")
    visit.enter(number, "0")
    expect(visit.page.locator("#dnd-download")).to_be_enabled(timeout=300_000)
    visit.page.get_by_label("As written").check()  # both sides read the same
    visit.ask("the hotline kept me waiting for an hour.")
    expect(visit.page.locator("#dnd-send")).to_be_visible(timeout=300_000)
    expect(visit.page.locator("#dnd-pane-right")).to_contain_text("both answers are the same")


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_show_me_leads_a_newcomer_to_a_true_difference(
    visits: Visits, real_handle: EngineHandle, real_url: str, size: ViewportSize
) -> None:
    example = load_examples()[0]
    visit = visits(real_url, size=size)
    offer = visit.page.locator("#dnd-show")
    expect(offer).to_contain_text(example.question)
    visit.shot(f"show-me-{size['width']}")
    offer.get_by_role("button", name="Show me").click()
    expect(visit.page.locator("#dnd-pane-right .dnd-asked")).to_have_text(
        example.question, timeout=300_000
    )
    facts = visit.page.locator("#dnd-panes .dnd-answer-facts")
    expect(facts).to_have_count(2, timeout=300_000)
    expect(visit.page.locator("#dnd-send")).to_be_visible(timeout=300_000)
    expect(visit.answer("right")).to_be_in_viewport()
    visit.shot(f"shown-{size['width']}", full=False)
    if size is DESK:
        visit.picture("docs/pictures/show-me.png")
    base, adapted = (visit.answer(side).inner_text() for side in ("left", "right"))
    # The right query; the base, told the instruction, counts the year of the instruction's example.
    assert adapted == "SELECT COUNT(*) FROM films WHERE year = 2003"
    assert "2003" not in base
    # Not canned: the engine says the same when asked without the page, and its files do not.
    engine = real_handle.engine
    assert engine is not None
    prompts = [prompt.text for prompt in example.read().prompts]
    assert not any(example.question in prompt for prompt in prompts)
    instruction = split_prompt(prompts[0]).instruction
    made = engine.generate([example.read()])
    told = [{"role": "user", "content": f"{instruction}\n\n{example.question}"}]
    bare = [{"role": "user", "content": example.question}]
    *_, last = engine.compare([told, bare], [None, made])
    assert tuple(reply.text for reply in last) == (base, adapted)
    expect(visit.page.locator("#dnd-checks")).to_contain_text(
        "Effect on the model", timeout=300_000
    )
    # The checks agree with what the panel promised, and a reader need not look for them.
    verdict = visit.page.locator("#dnd-warning .dnd-verdict")
    expect(verdict).to_contain_text("It works without the instruction.")
    expect(verdict).not_to_contain_text("harms other answers")
    expect(verdict).to_be_in_viewport(ratio=0.9)
    expect(visit.answer("right")).to_be_in_viewport()
    expect(visit.page.locator("#dnd-download")).to_be_enabled(timeout=300_000)
    if size is DESK:
        visit.page.locator("#dnd-prove").click()
        proof = visit.page.locator("#dnd-proof")
        expect(proof).to_contain_text("Yes. Other prompts", timeout=300_000)
        visit.picture("assets/screenshot.png", 1330)
        visit.page.get_by_role("tab", name="Report card").click()
        report = visit.page.locator("#dnd-report")
        expect(report).to_contain_text("How good are adapters on unseen tasks?")
        visit.picture("docs/pictures/report.png")


@pytest.mark.usefixtures("few_questions")
def test_an_adapter_is_measured_beside_a_lora_that_is_trained_now(
    visits: Visits, real_url: str, tmp_path: Path
) -> None:
    visit = visits(real_url)
    page = visit.page
    page.locator("#dnd-example-sql").click()
    expect(page.locator("#dnd-synthesize")).to_be_enabled()
    page.locator("#dnd-synthesize").click()
    # What counts is the adapter that the visitor is left with, not what the imprint begins from.
    expect(page.locator("#dnd-adapter")).to_contain_text("then imprinted in", timeout=300_000)
    page.get_by_role("tab", name="Measure").click()
    drop_rows(visit, _rows(tmp_path / "rows.jsonl"))
    expect(page.locator("#dnd-measure-told")).to_contain_text("36 with a label")
    # The picture has all rows and a training of some length.
    limit, steps = ("18", "40") if TAKE_PICTURES else ("4", "5")
    visit.enter(page.locator("#dnd-measure-limit input[type=number]"), limit)
    page.locator("#dnd-measure-start").click()
    stages = page.locator("#dnd-measure-stages summary")
    expect(stages).to_contain_text("How it was measured", timeout=300_000)
    visit.enter(page.locator("#dnd-train-steps input[type=number]"), steps)
    page.locator("#dnd-train-start").click()
    expect(stages).to_contain_text("How it was trained", timeout=300_000)
    found = page.locator("#dnd-measured")
    expect(found.locator(".dnd-worth")).to_contain_text("this adapter scores")
    expect(found.locator(".mark.is-labels")).not_to_have_count(0)
    visit.picture("docs/pictures/measure.png", 1500)
    page.locator("#dnd-take-trained_lora").click()
    expect(page.locator("#dnd-adapter")).to_contain_text("trained-from-scratch", timeout=300_000)
    expect(page.locator("#dnd-download")).to_be_enabled(timeout=300_000)


def _rows(path: Path) -> Path:
    """Questions of the example, about years that it does not name, with their queries."""
    prompts = [prompt.text for prompt in load_examples()[0].read().prompts]
    instruction = split_prompt(prompts[0]).instruction
    questions = ("How many films are from {}?", "Count the films from {}.")
    years = [year for year in range(1950, 2024) if not any(f" {year}" in text for text in prompts)]
    lines = []
    for year in years[:18]:
        for question in questions:
            prompt = f"{instruction}\n\n{question.format(year)}"
            query = f"SELECT COUNT(*) FROM films WHERE year = {year}"
            lines.append(json.dumps({"prompt": prompt, "label": query}))
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def _opens_with_peft(folder: Path, base: str) -> bool:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)
    return any("lora_A" in name for name, _ in model.named_parameters())
