"""The container's files fit the repository: what they copy, start and publish exists."""

import os
import re
import secrets
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from dnd_engine.export.space import select_files

ROOT = Path(__file__).parents[1]
TORCH_INDEX = os.environ.get("TORCH_INDEX", "")
"""An index of CPU builds, where PyTorch is a tenth of the size; empty for the usual one."""
IMPORTS = "import os, dnd_engine.engine, ui.build; assert os.getuid() == 1000, os.getuid()"
"""What the app needs of the image, and as whom it runs."""


def instructions() -> list[tuple[str, str]]:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split()[0], line.partition(" ")[2]) for line in lines]


def test_the_image_holds_what_a_space_holds() -> None:
    """Both run the same app, so a folder that one needs the other needs too."""
    copied = {
        source
        for name, rest in instructions()
        if name == "COPY"
        for source in shlex.split(rest)[:-1]
    }
    # A Space installs `requirements.txt` before it has any other file.
    pinned = {"constraints.txt"}
    assert {file.name.split("/")[0] for file in select_files(ROOT).files} | pinned == copied
    allowed = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), flags=re.MULTILINE)
    assert set(allowed) == copied


def test_the_image_is_linted() -> None:
    """The rules of hadolint that matter here, since no linter for Dockerfiles is on PyPI."""
    found = instructions()
    names = [name for name, _ in found]
    assert names[0] == "FROM"
    assert set(names) <= {
        *("FROM", "ARG", "RUN", "WORKDIR", "COPY", "USER", "VOLUME", "ENV", "EXPOSE"),
        *("HEALTHCHECK", "CMD"),
    }
    image, _, tag = found[0][1].partition(":")
    assert (image, tag != "", tag != "latest") == ("python", True, True)
    assert [rest for name, rest in found if name == "USER"] == ["app"], "it does not run as root"
    for name, rest in found:
        if name == "RUN" and "pip install" in rest:
            assert rest.count("pip install") == rest.count("--no-cache-dir")
        if name in ("CMD", "VOLUME"):
            assert rest.startswith("["), f"{name} needs no shell"
    # Packages come before the code, so that a change of the code does not install them again.
    order = [rest for name, rest in found if name == "COPY"]
    assert order[0].startswith("requirements.txt")
    assert names.index("USER") < names.index("CMD")


def test_compose_publishes_the_port_that_the_app_listens_on_to_this_machine_alone() -> None:
    compose: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    service = compose["services"]["app"]
    environment = " ".join(rest for name, rest in instructions() if name == "ENV")
    assert "GRADIO_SERVER_PORT=7860" in environment
    assert service["ports"] == ["127.0.0.1:7860:7860"]
    assert ("EXPOSE", "7860") in instructions()
    volumes = {one.partition(":")[2] for one in service["volumes"]}
    declared = next(rest for name, rest in instructions() if name == "VOLUME")
    assert volumes == set(yaml.safe_load(declared))
    assert {one.partition(":")[0] for one in service["volumes"]} == set(compose["volumes"])


def builder() -> str | None:
    """What builds images here: a program whose service, if it has one, answers."""
    for name in ("docker", "podman"):
        if (program := shutil.which(name)) is not None:
            answer = subprocess.run([program, "info"], capture_output=True, check=False)
            if answer.returncode == 0:
                return program
    return None


def ran(*command: str) -> None:
    """Run a command; where it fails, say what it said."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}"


@pytest.mark.slow
def test_the_image_builds_and_holds_what_the_app_imports() -> None:
    program = builder()
    if program is None:
        pytest.skip("neither docker nor podman is installed and answers")
    tag = f"drag-and-drop-llms-test-{secrets.token_hex(4)}"
    ran(program, "build", "--build-arg", f"TORCH_INDEX={TORCH_INDEX}", "--tag", tag, ".")
    try:
        # Without a network, so that it can download nothing; else as under compose.
        closed = ["--network", "none", "--read-only", "--tmpfs", "/tmp"]
        ran(program, "run", "--rm", *closed, tag, "python", "-c", IMPORTS)
    finally:
        ran(program, "rmi", "--force", tag)
