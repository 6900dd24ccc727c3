"""What is shipped: requirements in step with pyproject, no stray paths, a wheel that holds all."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def rendered_requirements() -> str:
    """`requirements.txt` as Spaces installs it: pyproject's dependencies, line by line."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    head = "# Generated from pyproject.toml: python tests/test_packaging.py\n"
    return head + "".join(f"{name}\n" for name in project["dependencies"])


def test_requirements_are_those_of_pyproject() -> None:
    assert (ROOT / "requirements.txt").read_text(encoding="utf-8") == rendered_requirements()


def test_the_readme_front_matter_starts_this_app_on_a_space() -> None:
    import yaml

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["sdk"] == "gradio"
    assert (ROOT / front["app_file"]).is_file()
    assert front["license"] == "apache-2.0"
    assert "HuggingFaceTB/SmolLM2-135M-Instruct" in front["models"]
    minor = ".".join(front["sdk_version"].split(".")[:2])
    assert f"gradio>={minor}" in rendered_requirements()


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
        for path in (ROOT / package).rglob("*.py")
    }
    assert modules <= names, "a pattern of .gitignore hides them from the build"
    assert not any(name.startswith(("tests/", "runs/")) for name in names)


if __name__ == "__main__":
    (ROOT / "requirements.txt").write_text(rendered_requirements(), encoding="utf-8")
