"""What is shipped: requirements in step with pyproject, no stray paths, a wheel that holds all."""

import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable
from importlib.metadata import requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONSTRAINTS = ROOT / "constraints.txt"
LICENCES = ROOT / "docs/licences.md"
BUILDS = re.compile(r"torch|triton|nvidia-|cuda-")
"""Whose versions depend on the build of PyTorch: for CPU, CUDA, ROCm or macOS."""


def rendered_requirements() -> str:
    """`requirements.txt` as Spaces installs it: pyproject's dependencies, as tested together.

    What those need follows. It names no constraints file, because a Space installs it before it has
    other files.
    """
    head = "# Generated from pyproject.toml and constraints.txt: python tests/test_packaging.py\n"
    tested = pins()
    lines = {canonicalize_name(Requirement(line).name): line for line in PROJECT["dependencies"]}
    pinned = lines.keys() & tested.keys() - {"pip"}
    direct = "".join(
        f"{name}=={tested[name]}\n" if name in pinned else f"{line}\n"
        for name, line in lines.items()
    )
    inner = needed(map(Requirement, lines.values()), without=BUILDS) & tested.keys() - lines.keys()
    return f"{head}{direct}# What those need.\n" + "".join(
        f"{name}=={tested[name]}\n" for name in sorted(inner)
    )


def pins() -> dict[str, str]:
    """Versions of `constraints.txt`, by package."""
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()[1:]
    return dict(line.split("==") for line in lines)


def direct() -> list[Requirement]:
    """What this project asks for itself, with all extras."""
    extras = PROJECT["optional-dependencies"].values()
    names = [*PROJECT["dependencies"], *(name for extra in extras for name in extra)]
    found = [Requirement(name) for name in names]
    return [one for one in found if one.name != PROJECT["name"] and not BUILDS.match(one.name)]


def rendered_constraints() -> str:
    """The versions installed here of all that the project needs, and of what those need."""
    head = "# Tested together. Generated from an installation: python tests/test_packaging.py\n"
    names = sorted(needed(direct(), without=BUILDS))
    return head + "".join(f"{name}=={version(name)}\n" for name in names)


def needed(wanted: Iterable[Requirement], without: re.Pattern[str] | None = None) -> set[str]:
    """Packages that an installation brings: those wanted, and what those need."""
    found: set[str] = set()
    waiting = list(wanted)
    while waiting:
        one = waiting.pop()
        name = canonicalize_name(one.name)
        extras = one.extras or {""}
        if without is not None and without.match(name):
            continue
        if one.marker and not any(one.marker.evaluate({"extra": extra}) for extra in extras):
            continue
        if name in found and not one.extras:
            continue
        found.add(name)
        for inner in map(Requirement, requires(name) or ()):
            asked = [e for e in extras if not inner.marker or inner.marker.evaluate({"extra": e})]
            if asked:
                inner.marker = None
                waiting.append(inner)
    return found


def test_constraints_pin_what_pyproject_asks_for_but_no_build_of_pytorch() -> None:
    tested = pins()
    assert not [name for name in tested if BUILDS.match(name)]
    for one in direct():
        pinned = tested.get(canonicalize_name(one.name))
        assert pinned, f"{one.name} has no pin: python tests/test_packaging.py"
        assert one.specifier.contains(pinned), f"{one} and {pinned} contradict each other"


def test_the_oldest_pip_knows_the_progress_bar_that_we_read() -> None:
    """Pythons bring pip 24.0, which refuses it, so that no base model was loaded."""
    (pip,) = (one for one in direct() if one.name == "pip")
    assert [pip.specifier.contains(found) for found in ("24.0", "24.1")] == [False, True]


def test_what_installs_for_tests_and_images_installs_these_versions() -> None:
    for name in ("tests/run.sh", "Dockerfile"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "--constraint constraints.txt" in text


def test_requirements_are_those_of_pyproject_at_the_tested_versions() -> None:
    assert (ROOT / "requirements.txt").read_text(encoding="utf-8") == rendered_requirements()


def test_requirements_pin_what_the_app_leans_on_and_nothing_that_only_tests_need() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    listed = {canonicalize_name(Requirement(line).name) for line in lines if line[0] != "#"}
    assert {"starlette", "fastapi", "uvicorn", "python-multipart", "pydantic-core"} <= listed
    assert not {"pytest", "mypy", "mcp", "ray", "mlx"} & listed


def test_the_list_of_licences_has_what_the_app_installs_and_no_copyleft() -> None:
    rows = re.findall(r"^\| ([\w.-]+) +\| (.+?) +\|$", LICENCES.read_text("utf-8"), re.MULTILINE)
    listed = {canonicalize_name(name): licence for name, licence in rows}
    wanted = {canonicalize_name(Requirement(name).name) for name in PROJECT["dependencies"]}
    assert wanted - {"pip"} <= listed.keys(), "just licences"
    assert not [name for name, licence in listed.items() if "UNKNOWN" in licence]
    assert not [name for name, licence in listed.items() if re.search("GPL|GNU", licence)]


def test_the_readme_front_matter_starts_this_app_on_a_space() -> None:
    import yaml

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["sdk"] == "gradio"
    assert (ROOT / front["app_file"]).is_file()
    assert front["license"] == "apache-2.0"
    assert "HuggingFaceTB/SmolLM2-135M-Instruct" in front["models"]
    assert f"gradio=={front['sdk_version']}\n" in rendered_requirements()


@pytest.mark.slow
def test_a_built_wheel_carries_engine_window_assets_and_generator(tmp_path: Path) -> None:
    subprocess.run(
        [
            sys.executable,
            "-m",
            "build",
            "--wheel",
            "--no-isolation",
            "-o",
            str(tmp_path),
            str(ROOT),
        ],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    generator = "dnd_engine/assets/generators/smollm2-135m-instruct"
    assert {
        "dnd_engine/engine.py",
        "ui/build.py",
        "ui/locale/de/LC_MESSAGES/messages.po",
        "dnd_engine/assets/canvas.js",
        f"{generator}/model.safetensors",
        f"{generator}/config.json",
    } <= names
    modules = {
        path.relative_to(ROOT).as_posix()
        for package in ("dnd_engine", "ui")
        for path in (ROOT / package).rglob("*")
        if path.suffix in (".py", ".txt")  # and the lists of words and phrases
    }
    assert modules <= names, "a pattern of .gitignore hides them from the build"
    assert not any(name.startswith(("tests/", "runs/")) for name in names)


if __name__ == "__main__" and "--needed" in sys.argv:
    sys.stdout.write(" ".join(sorted(needed(map(Requirement, PROJECT["dependencies"])))))
elif __name__ == "__main__":
    CONSTRAINTS.write_text(rendered_constraints(), encoding="utf-8")
    (ROOT / "requirements.txt").write_text(rendered_requirements(), encoding="utf-8")
