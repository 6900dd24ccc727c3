"""A Space: what is uploaded starts there, and a dry run says what that is."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dnd_engine.cli import app
from dnd_engine.errors import HubError
from dnd_engine.export.space import check_space, select_files
from tests.dnd_engine.hub_server import READ_TOKEN, TOKEN, Hub

ROOT = Path(__file__).parents[3]
SPACE = "someone/drag-and-drop"


@pytest.fixture(scope="session")
def whole_checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a Space needs, without the weights of the generator, and the tested versions."""
    tmp_path = tmp_path_factory.mktemp("space")
    for file in select_files(ROOT).files:
        target = tmp_path / "checkout" / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.num_bytes < 1_000_000:
            shutil.copy(file.path, target)
        else:
            target.write_bytes(b"large")
    shutil.copy(ROOT / "constraints.txt", tmp_path / "checkout")
    return tmp_path / "checkout"


@pytest.fixture
def checkout(whole_checkout: Path, tmp_path: Path) -> Path:
    """A copy with few of the modules, as each check compiles all of them."""
    copy = tmp_path / "checkout"
    for name in ("assets/app.css", "dnd_engine/__init__.py", "ui/build.py"):
        (copy / name).parent.mkdir(parents=True)
        shutil.copy(whole_checkout / name, copy / name)
    for file in whole_checkout.iterdir():
        if file.is_file():
            shutil.copy(file, copy)
    return copy


def deploy(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["deploy", "--space", SPACE, *map(str, arguments)])


def test_everything_the_app_needs_is_uploaded_and_nothing_else() -> None:
    names = {file.name for file in select_files(ROOT).files}
    assert {"app.py", "requirements.txt", "README.md", "ui/build.py", "assets/app.css"} <= names
    assert "assets/generators/smollm2-135m-instruct/model.safetensors" in names
    assert not [name for name in names if name.startswith(("tests/", "docs/", "assets/tasks/"))]
    assert not [name for name in names if "__pycache__" in name or "/." in name]


def test_a_checkout_may_lie_in_a_hidden_folder(checkout: Path) -> None:
    """As under `~/.worktrees`, or `../checkout`, whose first part begins with a dot too."""
    hidden = checkout.parent / ".worktrees" / "checkout"
    hidden.parent.mkdir()
    shutil.copytree(checkout, hidden)
    (hidden / "ui" / ".cache").mkdir()
    (hidden / "ui" / ".cache" / "x").touch()
    names = [file.name for file in select_files(hidden).files]
    assert names == [file.name for file in select_files(checkout).files]
    assert "ui/build.py" in names


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=someone", "-c", "user.email=someone@example.org")
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


def test_what_git_does_not_track_stays_here(checkout: Path, hub: Hub) -> None:
    git(checkout, "init")
    git(checkout, "add", ".")
    names = [file.name for file in select_files(checkout).files]
    (checkout / "assets" / "my.key").write_text("secret")
    assert [file.name for file in select_files(checkout).files] == names
    listed = deploy("--root", checkout, "--dry-run")
    assert "\nleft out, because git does not track it: assets/my.key\n" in listed.stdout
    made = deploy("--root", checkout, "--token", TOKEN, "--json")
    assert json.loads(made.stdout)["untracked"] == ["assets/my.key"]
    assert sorted(hub.files[SPACE]) == names
    git(checkout, "rm", "--cached", "requirements.txt")
    with pytest.raises(HubError, match=r"git does not track requirements\.txt"):
        check_space(checkout)


def test_a_copy_in_the_folder_of_another_repository_is_no_part_of_it(checkout: Path) -> None:
    names = [file.name for file in select_files(checkout).files]
    git(checkout.parent, "init")
    assert [file.name for file in select_files(checkout).files] == names


def test_a_repository_that_git_cannot_read_is_refused_in_its_words(checkout: Path) -> None:
    (checkout / ".git").write_text("gitdir: nowhere")
    with pytest.raises(HubError, match=r"private files could be uploaded: fatal: .*nowhere"):
        select_files(checkout)


def test_the_space_arrives_as_it_is_here(whole_checkout: Path, hub: Hub) -> None:
    made = deploy("--root", whole_checkout, "--token", TOKEN, "--json")
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["url"] == f"{hub.url}/spaces/{SPACE}"
    assert hub.kinds[SPACE] == "spaces"
    assert "sdk gradio" in hub.asked
    arrived = hub.files[SPACE]
    assert arrived == {
        file.name: file.path.read_bytes() for file in select_files(whole_checkout).files
    }
    assert hub.private[SPACE]


def test_a_dry_run_lists_files_and_sizes_and_asks_the_hub_nothing(checkout: Path, hub: Hub) -> None:
    shown = deploy("--root", checkout, "--dry-run")
    assert shown.exit_code == 0, shown.output
    size = (checkout / "app.py").stat().st_size
    assert f"{size:>12,}  app.py\n" in shown.stdout
    assert "none uploaded" in shown.stdout
    assert hub.asked == []


def test_nothing_private_goes_into_a_public_space(checkout: Path, hub: Hub) -> None:
    assert deploy("--root", checkout, "--token", TOKEN, "--public").exit_code == 0
    refused = deploy("--root", checkout, "--token", TOKEN, "--private")
    assert refused.exit_code == 1
    assert "is public, so nothing was uploaded" in refused.output


@pytest.mark.parametrize(
    ("token", "message"), [(READ_TOKEN, "may not write there"), ("hf_wrong", "is not valid")]
)
def test_a_refusal_says_why(token: str, message: str, checkout: Path, hub: Hub) -> None:
    made = deploy("--root", checkout, "--token", token)
    assert made.exit_code == 1
    assert message in made.output


def test_a_folder_that_is_no_checkout_is_refused(tmp_path: Path) -> None:
    made = deploy("--root", tmp_path, "--dry-run")
    assert made.exit_code == 1
    assert "is no checkout of this project: README.md" in made.output


def test_a_wrong_name_is_refused_first(tmp_path: Path) -> None:
    made = CliRunner().invoke(app, ["deploy", "--space", "nobody", "--dry-run"])
    assert made.exit_code == 1
    assert "`nobody` cannot be a repository" in made.output


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("", "`sdk` is gradio"),
        ("gradio\n", "README.md begins with settings that cannot be read: .* should be a dict"),
        ("sdk: [\n", "README.md begins with settings that cannot be read: while parsing"),
    ],
)
def test_settings_that_are_none_are_refused_in_words(
    settings: str, message: str, checkout: Path
) -> None:
    (checkout / "README.md").write_text(f"---\n{settings}---\n# A title\n")
    with pytest.raises(HubError, match=message):
        check_space(checkout)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("README.md", "sdk: gradio", "sdk: docker", "`sdk` is gradio"),
        ("README.md", "---\n", "", "`sdk` is gradio"),
        ("README.md", "app_file: app.py", "app_file: main.py", "`main.py`, which is missing"),
        ("README.md", r"(sdk_version:) .*", r"\1 5.1.0", r"`sdk_version` is ==[\d.]+, got '5.1.0'"),
        ("README.md", r"sdk_version: .*\n", "", r"`sdk_version` is ==[\d.]+, got None"),
        ("README.md", r"(python_version:) .*", r"\1 3.9", r"`python_version` is >=3.11, got 3.9"),
        ("README.md", r"(python_version:) .*", r"\1 new", r"`python_version` is .*, got 'new'"),
        ("README.md", r"python_version: .*\n", "", r"`python_version` is >=3.11, got None"),
        ("requirements.txt", "typer==", "typo==", "differ in typer, typo"),
        ("requirements.txt", "\ngradio==.*", "\ngradio==5.0.0", "differ in gradio;"),
        ("requirements.txt", "starlette==.*", "starlette==0.1", "differ in starlette;"),
        ("requirements.txt", "torch>=.*", "torch>=1", "differ in torch;"),
        ("requirements.txt", "torch>=.*", "torch", "differ in torch;"),
        ("requirements.txt", "torch>=.*", "torch>=!", "cannot be read: `torch>=!`"),
        ("app.py", "import typer\n", "import typer os\n", "app.py, line 14, is no Python: invalid"),
        ("ui/build.py", "def ", "def\0 ", "ui/build.py.* is no Python"),
    ],
)
def test_what_would_not_start_is_not_uploaded(
    file: str, old: str, new: str, message: str, checkout: Path, hub: Hub
) -> None:
    path = checkout / file
    text, count = re.subn(old, new, path.read_text())
    assert count, "the test changes nothing"
    path.write_text(text)
    with pytest.raises(HubError, match=message):
        check_space(checkout)
    assert deploy("--root", checkout, "--token", TOKEN).exit_code == 1
    assert hub.asked == []
