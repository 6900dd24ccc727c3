"""The library, import and export with the real models, as the user of this computer sees them."""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import gguf
import pytest
from playwright.sync_api import expect

from dnd_engine.library import Entry, Library
from tests.browser.conftest import Visits
from tests.serving import serving
from ui.engine_handle import EngineHandle
from ui.owner import Owner

if TYPE_CHECKING:
    from dnd_engine.engine import Engine

pytestmark = [
    pytest.mark.browser,
    pytest.mark.real,
    pytest.mark.usefixtures("few_questions"),
]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return Library(tmp_path_factory.mktemp("kept") / "library")


@pytest.fixture(scope="module")
def own(library: Library, real_engine: "Engine") -> Iterator[tuple[str, Owner]]:
    handle, owner = EngineHandle(lambda on_progress: real_engine), Owner(library)
    with serving(handle, owner=owner) as url:
        assert handle.wait(300) is not None
        yield url, owner


def names(library: Library) -> list[str]:
    return [entry.name for entry in library.entries() if isinstance(entry, Entry)]


def test_an_adapter_is_kept_for_other_days_and_taken_to_other_tools(
    visits: Visits, own: tuple[str, Owner], library: Library, tmp_path: Path
) -> None:
    visit = visits(*own)
    page = visit.page
    page.locator("#dnd-example-sql").click()
    expect(page.locator("#dnd-synthesize")).to_be_enabled()
    page.locator("#dnd-synthesize").click()
    # The first imprint on a machine also measures what ordinary messages look like.
    expect(page.locator("#dnd-checks .dnd-verdicts")).to_be_visible(timeout=300_000)
    expect(page.locator("#dnd-download")).to_be_enabled()

    page.locator("#dnd-take-open").click()
    page.locator("#dnd-keep-name input").fill("Questions to SQL")
    page.locator("#dnd-keep-now").click()
    expect(page.locator("#dnd-keep-told")).to_contain_text("Questions to SQL")
    assert names(library) == ["Questions to SQL"]
    (entry,) = library.entries()
    assert isinstance(entry, Entry)
    visit.until(lambda: bool(library.get(entry.key).checks))

    page.locator("#dnd-export").click()
    expect(page.locator("#dnd-export-file")).to_be_visible()
    expect(page.locator("#dnd-export")).to_be_focused()
    with page.expect_download() as download:
        page.locator("#dnd-export-file").click()
    name = download.value.suggested_filename
    usage = page.locator("#dnd-export-usage textarea")
    expect(usage).to_have_value(re.compile(rf"--lora {re.escape(name)}$"))
    file = tmp_path / "adapter.gguf"
    download.value.save_as(file)
    tensors = gguf.GGUFReader(file).tensors
    assert len(tensors) == 2 * 30  # an imprint changes `down_proj` alone
    visit.shot("real-exported")

    page.get_by_role("tab", name="Library").click()
    expect(page.locator("#dnd-kept label")).to_have_count(1)
    page.locator("#dnd-kept-delete").click()
    expect(page.locator("#dnd-library-empty")).to_be_visible()
    assert names(library) == []
    expect(page.locator("#dnd-kept-undo")).to_be_focused()
    page.locator("#dnd-kept-undo").click()
    expect(page.locator("#dnd-kept label")).to_have_count(1)
    expect(page.locator("#dnd-kept input")).to_be_focused()
    assert names(library) == ["Questions to SQL"]

    visit.reload()
    page.get_by_role("tab", name="Library").click()
    kept = page.locator("#dnd-kept label")
    expect(kept).to_contain_text("Questions to SQL")
    expect(kept).to_contain_text("Changes the model")
    field = page.locator("#dnd-kept-name input")
    visit.enter(field, "../up")
    page.locator("#dnd-kept-rename").click()
    expect(page.locator("#dnd-library-told")).to_contain_text("is not a valid name")
    expect(field).to_have_value("../up")
    visit.enter(field, "queries")
    page.locator("#dnd-kept-rename").click()
    expect(kept).to_contain_text("queries")
    assert names(library) == ["queries"]
    page.locator("#dnd-kept-load").click()
    bar = page.locator("#dnd-adapter")
    expect(bar).to_contain_text("queries")
    expect(bar).to_contain_text(entry.sha256[:8])
    expect(page.locator("#dnd-checks")).to_contain_text("Changes the model")
    expect(page.locator("#dnd-warning")).to_be_focused()
    visit.ask("Count the films from 2003.")
    expect(page.locator("#dnd-panes .dnd-answer-facts")).to_have_count(2)
    expect(page.locator("#dnd-send")).to_be_visible()
    adapted = visit.answer("right").inner_text()
    assert "SELECT" in adapted
    assert visit.answer("left").inner_text() != adapted
    visit.shot("real-loaded")
    page.locator(".dnd-models-open").click()
    page.locator("#dnd-models-close").click()
    expect(page.locator("#dnd-models")).to_be_hidden()
    expect(page.locator(".dnd-models-open")).to_be_focused()


def test_a_hostile_zip_shows_all_its_faults_and_enters_nothing(
    visits: Visits, own: tuple[str, Owner], library: Library, tmp_path: Path
) -> None:
    before = len(library.entries())
    path = tmp_path / "hostile.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../evil.txt", "out")
        archive.writestr("adapter_config.json", '{"peft_type": "LORA", "use_dora": true}')
        archive.writestr("adapter_model.bin", "pickle")
    visit = visits(*own)
    visit.page.get_by_role("tab", name="Library").click()
    expect(visit.page.locator("#dnd-import")).to_be_visible()
    visit.bring(path)
    told = visit.page.locator("#dnd-library-told .is-error")
    expect(told).to_be_visible()
    faults = told.locator("li").all_inner_texts()
    for fault in ("outside of its folder", "safetensors missing", "pickle", "use_dora"):
        assert any(fault in line for line in faults), fault
    assert all(str(path.parent) not in line and "Traceback" not in line for line in faults)
    assert len(library.entries()) == before
    visit.shot("real-refused")
