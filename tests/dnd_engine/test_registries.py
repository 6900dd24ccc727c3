"""A new kind of head, export, check, prompt format or base is one entry in a registry.

Each test registers a double, as a new module would, and uses it where a person would.
"""

import json
import re
import zipfile
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn
from typer.testing import CliRunner

from dnd_engine.checks.registry import CHECKS, Check, inspected, recall
from dnd_engine.checks.results import Inspection
from dnd_engine.checks.subject import Subject
from dnd_engine.cli import app
from dnd_engine.errors import PromptFileError
from dnd_engine.export.registry import EXPORTS, ExportTarget
from dnd_engine.export.verify import Verifier
from dnd_engine.generator.folder import GeneratorFolder
from dnd_engine.generator.heads import HEADS, Head, HeadSettings
from dnd_engine.lora.adapter import Adapter, write_files
from dnd_engine.models.base import BaseModel
from dnd_engine.notes import noted
from dnd_engine.prompts.files import FORMATS, read_prompt_file
from dnd_engine.prompts.reading import Asked, Entry, Format, Reading
from dnd_engine.training.recipe import TrainRecipe
from dnd_engine.training.trainer import train
from tests.dnd_engine.test_engine import write_generator
from tests.dnd_engine.tiny import CPU, make_adapter
from ui.tabs.workbench.adapter.checks_view import checks_html


@pytest.fixture(scope="module")
def generator_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_generator(tiny_folder, tmp_path_factory.mktemp("generators") / "tiny")


def dnd(*arguments: object) -> Any:
    """Run a command that prints JSON."""
    found = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


# A prompt format


def read_odt(data: bytes, asked: Asked) -> Reading:
    """Read each paragraph of an OpenDocument text as one prompt."""
    xml = zipfile.ZipFile(BytesIO(data)).read("content.xml").decode()
    texts = re.findall(r"<text:p>(.*?)</text:p>", xml)
    return Reading(
        entries=[Entry(place, text, None) for place, text in enumerate(texts, 1)],
        split="paragraphs",
        unit="paragraph",
        notes=[noted("Read {name} as ODT.", name=asked.name)],
    )


@pytest.mark.slow
def test_a_registered_prompt_format_makes_adapters_at_the_command_line(
    tiny_folder: Path, generator_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FORMATS, ".odt", Format(read=read_odt, has_labels=False))
    path = tmp_path / "prompts.odt"
    texts = "".join(f"<text:p>Name {n} colours.</text:p>" for n in range(5))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("content.xml", texts)
    file = read_prompt_file(path)
    assert (file.prompts[4].text, file.prompts[4].line) == ("Name 4 colours.", 5)
    assert file.notes == ("Read prompts.odt as ODT.",)
    models = ("--base", tiny_folder, "--generator", generator_folder, "--device", "cpu")
    made = dnd("generate", path, *models, "--no-imprint", "--out", tmp_path / "a.zip")
    assert made["num_prompts"] == 5
    with pytest.raises(PromptFileError, match=r"PDF is not a prompt file.* zip or odt\."):
        read_prompt_file(tmp_path / "prompts.pdf")


# A decoder head


class LinearHead(nn.Module):
    """One linear layer on the mean of the condition."""

    def __init__(self, settings: HeadSettings) -> None:
        super().__init__()
        self.grid = settings.features[-1]
        count = self.grid[0] * self.grid[1] * self.grid[2]
        self.down = nn.Linear(settings.features[0][2], settings.head_options["rank"])
        self.up = nn.Linear(settings.head_options["rank"], count)
        for parameter in self.up.parameters():
            nn.init.zeros_(parameter)

    def forward(
        self, condition: Float[Tensor, "batch prompts length width"]
    ) -> Float[Tensor, "batch tokens rows cols"]:
        """Write one adapter per condition."""
        tokens: Tensor = self.up(self.down(condition.mean(dim=(1, 2))))
        return tokens.reshape(-1, *self.grid)


def test_a_registered_head_is_trained_from_a_recipe_and_opens_again(
    recipe: TrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        HEADS, "linear", Head(build=LinearHead, options={"rank": 4}, learning_rate=2e-2)
    )
    file = tmp_path / "recipe.yaml"
    file.write_text(
        f"tasks: {recipe.tasks[0]}\nout: {recipe.out}\nbase: {recipe.base}\nhead: linear\n"
        "stages: [[4, 8, 384]]\nsteps: 3\nmax_tokens: 120\nrow_tokens: 200\n"
    )
    asked = TrainRecipe.read(file)
    assert asked.decoder_lr == 2e-2
    made = train(replace(asked, tasks_per_step=2, examples_per_task=2, pool_prompts=8))
    folder = GeneratorFolder.open(made.generator)
    assert "- Head: linear, " in folder.card()
    assert "; rank 4" in folder.card()
    generator = folder.load(CPU, torch.float32)
    assert isinstance(generator.decoder, LinearHead)
    assert generator.decoder.up.weight.any()


# An export target


def write_plain(adapter: Adapter, base: BaseModel, path: Path) -> None:
    """Write the weights alone."""
    path.write_bytes(adapter.weights)


def verify_plain(verifier: Verifier, adapter: Adapter, path: Path) -> float:
    """Read the weights again, in place of the adapter's own."""
    return verifier.peft_files(
        adapter, adapter.files() | {"adapter_model.safetensors": path.read_bytes()}
    )


PLAIN = ExportTarget(
    title="Plain weights",
    suffixes=(".safetensors",),
    write=write_plain,
    verify=verify_plain,
    usage=lambda adapter, place: f"load_file({place!r})",
    note="Load it yourself.",
)


def test_a_registered_export_is_written_checked_and_explained_at_the_command_line(
    tiny_folder: Path, generator_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EXPORTS, "plain", PLAIN)
    adapter = tmp_path / "a.zip"
    write_files(make_adapter(base_id=str(tiny_folder)).files(), adapter)
    models = ("--base", tiny_folder, "--generator", generator_folder, "--device", "cpu")
    out = tmp_path / "a.safetensors"
    made = dnd("export", adapter, *models, "--format", "plain", "--out", out)
    assert made["usage"] == f"load_file('{out}')"
    assert made["difference"] is not None
    assert load_file(out).keys() == make_adapter().state.keys()
    refused = CliRunner().invoke(
        app, ["export", str(adapter), *map(str, models), "--format", "plain", "--out", "a.zip"]
    )
    assert "`a.zip` must end in .safetensors" in refused.output


# A check


@dataclass(frozen=True)
class Longest:
    """The longest prompt, and whether it was found after the effect."""

    characters: int
    after_effect: bool


def run_longest(subject: Subject, effect: float | None) -> Longest | None:
    """Say nothing without prompts."""
    if not subject.prompts:
        return None
    return Longest(max(map(len, subject.prompts)), effect is not None)


LONGEST = Check(
    result=Longest,
    run=run_longest,
    needs=("effect",),
    words=lambda found: [noted("Its longest prompt has {n} characters.", n=found.characters)],
)


@pytest.mark.slow
def test_a_registered_check_runs_and_is_told_at_the_command_line_on_the_card_and_on_the_page(
    tiny_folder: Path, generator_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CHECKS, "longest", LONGEST)
    prompts, adapter = tmp_path / "prompts.txt", tmp_path / "a.zip"
    prompts.write_text("Name a colour.\nName a colour of the sky.\n")
    models = ("--base", tiny_folder, "--generator", generator_folder, "--device", "cpu")
    said, measured = (
        "Its longest prompt has 25 characters.",
        {"characters": 25, "after_effect": True},
    )
    made = dnd("generate", prompts, *models, "--no-imprint", "--out", adapter)
    assert made["longest"] == measured
    asked = ["inspect", str(adapter), "--prompts", str(prompts), *map(str, models)]
    assert said in CliRunner().invoke(app, asked).stdout
    assert dnd("inspect", adapter, *models)["longest"] is None
    with zipfile.ZipFile(adapter) as archive:
        assert f"- {said}" in archive.read("README.md").decode()
        kept = json.loads(archive.read("provenance.json"))["checks"]
    found, _proof = recall(kept, (), None)
    assert isinstance(found, Inspection)
    assert found.result("longest") == Longest(25, after_effect=True)
    assert inspected(found)["longest"] == measured
    assert said in checks_html("done", found)
