"""The app much as a Space starts it: the files of the upload, its packages alone, its own home.

Unlike on a Space, files and packages are links to those here, the port is a free one instead of
7860, and models come from the cache.
"""

import os
import subprocess
import venv
from collections.abc import Iterator, Mapping
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from platformdirs import user_cache_path
from playwright.sync_api import expect

from dnd_engine.export.space import select_files
from dnd_engine.models.sources import BASES, ENCODERS, resolve
from tests.browser.conftest import ROOT, Visits
from tests.serving import fetch_page, free_port
from tests.test_packaging import PROJECT, needed

pytestmark = [pytest.mark.browser, pytest.mark.real]

APP = "drag-and-drop-llms"


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is uploaded, where a Space has it."""
    root = tmp_path_factory.mktemp("space") / "app"
    for file in select_files(ROOT).files:
        target = root / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(file.path.resolve())
    return root


@pytest.fixture(scope="module")
def uploaded(space: Path) -> set[Path]:
    """All that is there before the app starts."""
    return set(space.rglob("*"))


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter that sees what requirements.txt brings, and nothing else installed here."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    for name in needed(map(Requirement, PROJECT["dependencies"])):
        installed = distribution(name)
        tops = {Path(str(file)).parts[0] for file in installed.files or ()}
        for top in tops - {"..", "__pycache__"}:
            if not (packages / top).exists():  # a namespace is shared by packages
                (packages / top).symlink_to(str(installed.locate_file(top)))
    return str(folder / "bin" / "python")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The environment of a Space whose models are downloaded."""
    resolve("smollm2-135m-instruct", BASES)
    resolve("all-minilm-l6-v2", ENCODERS)
    home = tmp_path_factory.mktemp("home")
    for name in (".cache", "tmp"):
        (home / name).mkdir()
    (home / ".cache" / APP).symlink_to(user_cache_path(APP, appauthor=False))
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return {
        **kept,
        "HOME": str(home),
        "TMPDIR": str(home / "tmp"),
        "SYSTEM": "spaces",
        "SPACE_ID": "someone/drag-and-drop",
        "HF_HUB_OFFLINE": "1",
        "GRADIO_SERVER_PORT": str(free_port()),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


@pytest.fixture(scope="module")
def url(
    space: Path, uploaded: set[Path], python: str, settings: Mapping[str, str]
) -> Iterator[str]:
    address = f"http://127.0.0.1:{settings['GRADIO_SERVER_PORT']}"
    said = Path(settings["HOME"]) / "said"
    with (
        said.open("w") as output,
        subprocess.Popen(
            [python, "app.py"], cwd=space, env=settings, stdout=output, stderr=output
        ) as app,
    ):
        try:
            try:
                fetch_page(f"{address}/", app)
            except AssertionError as error:
                raise AssertionError(said.read_text()) from error
            yield address
        finally:
            app.terminate()


def test_the_space_makes_an_adapter_for_a_visitor(
    visits: Visits, uploaded: set[Path], space: Path, url: str, settings: Mapping[str, str]
) -> None:
    visit = visits(url)
    page = visit.page
    page.set_default_timeout(600_000)
    expect(page.locator(".dnd-models-open")).to_have_count(0)
    page.locator("#dnd-example-sql").click()
    page.locator("#dnd-synthesize").click()
    expect(page.locator("#dnd-download")).to_be_enabled(timeout=600_000)
    visit.ask("Count the films from 2003.")
    expect(page.locator("#dnd-panes .dnd-answer-facts")).to_have_count(2, timeout=600_000)
    with page.expect_download(timeout=600_000) as download:
        page.locator("#dnd-download").click()
    assert download.value.suggested_filename.endswith(".zip")
    page.get_by_role("tab", name="Library").click()
    expect(page.locator("#dnd-library-empty")).to_be_visible()
    assert set(space.rglob("*")) == uploaded, "nothing is written beside the app"
    assert not (Path(settings["HOME"]) / ".local").exists(), "no library of an owner is made"
    page.context.close()
    # On a Space, Gradio would add a bar of the Hub, with facts from the Hub and fonts from Google.
    # The page's own policy refuses the requests, and Gradio does without.
    bar = ("https://huggingface.co/", "https://fonts.googleapis.com/", "Space not found")
    visit.outside = [address for address in visit.outside if not address.startswith(bar)]
    visit.console = [said for said in visit.console if not any(part in said for part in bar)]
