"""A power cut between any two moves leaves what was there before, or what was to come after.

Trainings and collections have this test of their own: they go on to the same bytes.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dnd_engine.generator.folder import GeneratorFolder, save_generator
from dnd_engine.library import Entry, Library
from dnd_engine.lora.adapter import write_files
from dnd_engine.lora.reader import read_adapter
from dnd_engine.models import sources
from tests.disks import power_cuts
from tests.dnd_engine.generator.test_generator import trained
from tests.dnd_engine.models.test_models import SOURCE, resolved
from tests.dnd_engine.tiny import BASE_ID, CONFIG, CPU, make_adapter, save_tiny

ADAPTERS = [make_adapter(seed) for seed in range(2)]


def read(path: Path) -> str:
    return read_adapter(path, CONFIG, BASE_ID).sha256


def test_an_adapter_as_a_zip_or_a_folder_is_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    for name in ("a.zip", "a"):
        place = tmp_path / name / "files"
        write_files(ADAPTERS[0].files(), place / name)
        with power_cuts(place, tmp_path / name / "cuts") as cuts:
            write_files(ADAPTERS[1].files(), place / name)
        found = [read(cut / name) for cut in cuts]
        assert set(found) <= {adapter.sha256 for adapter in ADAPTERS}
        assert found[-1] == ADAPTERS[1].sha256


@pytest.mark.slow
def test_a_library_keeps_every_entry_through_all_that_changes_it(tmp_path: Path) -> None:
    shelf = Library(tmp_path / "library")
    kept = shelf.add(ADAPTERS[0], "first")
    with power_cuts(shelf.root, tmp_path / "cuts") as cuts:
        shelf.add(ADAPTERS[1], "second")
        shelf.rename("first", "renamed")
        shelf.update("renamed", strength=2.0)
        shelf.duplicate("renamed", "copy")
        shelf.delete("second")
        shelf.undo()
    assert len(cuts) >= 6
    for cut in cuts:
        after = Library(cut)
        entries = [entry for entry in after.entries() if isinstance(entry, Entry)]
        assert len(entries) == len(after.entries()), "none is damaged"
        assert kept.key in {entry.key for entry in entries}
        for entry in entries:
            adapter = after.load(entry.name, lambda path: read_adapter(path, CONFIG, BASE_ID))
            assert adapter.with_strength(1.0).sha256 in {one.sha256 for one in ADAPTERS}


@pytest.mark.parametrize("restored", [True, False])
def test_a_deleted_adapter_is_kept_or_in_the_trash(tmp_path: Path, restored: bool) -> None:
    """Its move was not flushed, and the next entry's was: then its name was in neither folder."""
    shelf = Library(tmp_path / "library")
    gone = shelf.add(ADAPTERS[0], "gone")
    with power_cuts(shelf.root, tmp_path / "cuts") as cuts:
        shelf.delete("gone")
        shelf.add(ADAPTERS[1], "other")
        if restored:
            shelf.undo()
    for cut in cuts:
        after = Library(cut)
        assert gone.key in {entry.key for entry in (*after.entries(), *after.deleted())}
    assert (gone.key in {entry.key for entry in after.entries()}) == restored


def test_a_generator_is_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    place = tmp_path / "files" / "generator"
    save_generator(trained(0), place, [], "# Old")
    with power_cuts(place.parent, tmp_path / "cuts") as cuts:
        save_generator(trained(1), place, [], "# New")
    for cut in cuts:
        folder = GeneratorFolder.open(cut / "generator")
        card = (folder.path / "README.md").read_text()
        seed = ["# Old", "# New"].index(card)
        found = folder.load(CPU, torch.float32).state_dict()
        for name, tensor in trained(seed).state_dict().items():
            assert torch.equal(found[name], tensor.to(torch.bfloat16).float())
    assert card == "# New"


def test_a_base_in_the_cache_is_whole_or_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = 0

    def convert(source: sources.WheelGGUF, scratch: Path, aside: Path, progress: object) -> None:
        nonlocal made
        made += 1
        save_tiny(aside)

    monkeypatch.setattr(sources, "_convert_wheel", convert)
    cache = tmp_path / "cache"
    cache.mkdir()
    with power_cuts(cache, tmp_path / "cuts") as cuts:
        weights = resolved(cache)
    whole = digests(weights.path)
    for number, cut in enumerate(cuts):
        made = 0
        assert digests(resolved(cut).path) == whole
        assert made <= (number < 2), "only before the first move was flushed"
    newer = replace(SOURCE, sha256="0" * 64)
    with power_cuts(cache, tmp_path / "newer") as cuts:
        resolved(cache, newer)
    for cut in cuts:
        assert resolved(cut, newer).path.is_dir()


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
