"""The app much as a Space starts it: the files of the upload, its packages alone, its own home.

Unlike on a Space, files are links to those here, and models come from the cache. Packages are links
too, because an installation takes minutes and up to some gigabytes; with `-m soak` there is one.
"""

import os
import socket
import subprocess
import venv
from collections.abc import Iterator, Mapping
from contextlib import suppress
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
SPACE_PORT = 7860
"""Port on which a Space expects its app, without a setting that says so."""


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


@pytest.fixture(
    scope="module", params=["linked", pytest.param("installed", marks=pytest.mark.soak)]
)
def python(
    request: pytest.FixtureRequest, space: Path, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """An interpreter that sees what requirements.txt brings, and nothing else installed here."""
    folder = tmp_path_factory.mktemp("venv")
    python = str(folder / "bin" / "python")
    if request.param == "installed":
        venv.create(folder, symlinks=True, with_pip=True)
        listed = str(space / "requirements.txt")
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", listed], check=True)
    else:
        venv.create(folder, symlinks=True)
        (packages,) = folder.glob("lib/python*/site-packages")
        link_packages(packages)
    return python


def link_packages(folder: Path) -> None:
    """Link what pyproject.toml asks for, and what that needs, as it is installed here."""
    for name in needed(map(Requirement, PROJECT["dependencies"])):
        installed = distribution(name)
        tops = {Path(str(file)).parts[0] for file in installed.files or ()}
        for top in tops - {"..", "__pycache__"}:
            if not (folder / top).exists():  # a namespace is shared by packages
                (folder / top).symlink_to(str(installed.locate_file(top)))


@pytest.fixture(scope="module")
def port() -> int:
    """That of a Space, unless something listens there."""
    with socket.socket() as wanted, suppress(OSError):
        wanted.bind(("0.0.0.0", SPACE_PORT))
        return SPACE_PORT
    return free_port()


@pytest.fixture(scope="module")
def settings(port: int, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The environment of a Space whose models are downloaded.

    Source: what Dockerfiles for Gradio on Spaces set, such as that of reach-vb/gradio-oauth.
    """
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
        "GRADIO_ALLOW_FLAGGING": "never",
        "GRADIO_NUM_PORTS": "1",
        "GRADIO_SERVER_NAME": "0.0.0.0",
        "GRADIO_THEME": "huggingface",
        "PYTHONUNBUFFERED": "1",
        # Not of a Space: without these, tests would ask the Hub, and write beside the linked files.
        "HF_HUB_OFFLINE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        **({} if port == SPACE_PORT else {"GRADIO_SERVER_PORT": str(port)}),
    }


@pytest.fixture(scope="module")
def url(
    space: Path, uploaded: set[Path], python: str, port: int, settings: Mapping[str, str]
) -> Iterator[str]:
    address = f"http://127.0.0.1:{port}"
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
