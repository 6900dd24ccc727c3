"""The library keeps adapters whole, lets nothing out of its folder, and forgives damage."""

import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from dnd_engine import library as library_module
from dnd_engine.errors import AdapterError, BaseMismatchError, LibraryError, RecipeError
from dnd_engine.library import DamagedEntry, Entry, Library, check_name
from dnd_engine.lora.adapter import Adapter
from dnd_engine.lora.provenance import BucketSource, NearestTask, Recipe
from dnd_engine.lora.reader import read_adapter
from dnd_engine.measure.kept import RowScore, Scores
from dnd_engine.prompts.buckets import Bucket
from dnd_engine.prompts.files import PromptFile, read_prompt_file
from tests.dnd_engine.tiny import BASE_ID, CONFIG, make_adapter

ROOT = Path(__file__).parents[2]


def read(path: Path) -> Adapter:
    return read_adapter(path, CONFIG, BASE_ID)


@pytest.fixture
def prompts(tmp_path: Path) -> PromptFile:
    path = tmp_path / "secrets.txt"
    path.write_text("The vault opens at nine.\nThe guard sleeps at ten.", encoding="utf-8")
    return read_prompt_file(path)


@pytest.fixture
def shelf(tmp_path: Path) -> Library:
    return Library(tmp_path / "library")


def made(prompts: PromptFile, seed: int = 0, **fields: Any) -> Adapter:
    """An adapter as the engine makes it."""
    bucket = Bucket("vault", 0.5, (prompts,))
    recipe = Recipe(
        base=BASE_ID,
        base_sha256="b" * 64,
        encoder="encoder",
        encoder_sha256="e" * 64,
        generator="generator",
        generator_sha256="f" * 64,
        mix="pool",
        seed=seed,
        buckets=(BucketSource.of(bucket),),
    )
    given: dict[str, Any] = {
        "name": "vault",
        "provenance": recipe.to_json() | {"num_prompts": 2},
        "num_prompts": 2,
        "seconds": {"total": 0.5},
        "nearest_tasks": (NearestTask("sums", "Add.", 0.8),),
        "checks": {"strength": 0.7, "effect": 2.5},
        "kept_energy": 0.9,
        "strength": 0.7,
    }
    return make_adapter(seed, **(given | fields))


# Keeping and loading


def test_an_adapter_comes_back_with_all_that_was_known(shelf: Library, prompts: PromptFile) -> None:
    adapter = made(prompts)
    entry = shelf.add(adapter)
    back = shelf.load(entry.name, read)
    assert (back.sha256, back.strength) == (adapter.sha256, 0.7)
    assert back.with_strength(1).sha256 == adapter.with_strength(1).sha256 == entry.sha256
    for name in ("name", "num_prompts", "seconds", "nearest_tasks", "checks", "kept_energy"):
        assert getattr(back, name) == getattr(adapter, name)
    assert back.recipe == adapter.recipe
    assert (entry.base, entry.r, entry.strength, entry.num_prompts) == (BASE_ID, 4, 0.7, 2)
    assert entry.buckets == [("vault", 0.5, 2)]
    assert entry.recipe == replace(adapter.recipe, sha256=None)
    assert not entry.imported


def test_what_is_kept_is_a_peft_folder(shelf: Library, prompts: PromptFile) -> None:
    shelf.add(made(prompts))
    assert read(shelf.path("vault")).sha256 == shelf.get("vault").sha256


def test_prompt_texts_are_kept_only_if_somebody_asks(shelf: Library, prompts: PromptFile) -> None:
    without, with_texts = shelf.add(made(prompts)), shelf.add(made(prompts), texts=[prompts])
    assert without.recipe is not None
    assert with_texts.recipe is not None
    assert (without.recipe.has_texts, with_texts.recipe.has_texts) == (False, True)
    assert with_texts.recipe.buckets[0].bucket().prompts == prompts.prompts

    def holds_texts(folder: Path) -> bool:
        return any(b"vault opens" in file.read_bytes() for file in folder.iterdir())

    assert not holds_texts(shelf.path(without.key))
    assert holds_texts(shelf.path(with_texts.key))
    assert "vault opens" not in json.dumps(with_texts.to_json())
    exported = shelf.load(with_texts.key, read).files()
    assert not any(b"vault opens" in data for data in exported.values())


def test_texts_of_other_prompts_are_refused(shelf: Library, prompts: PromptFile) -> None:
    other = replace(prompts, prompts=prompts.prompts[:1])
    with pytest.raises(RecipeError, match=r"1 prompt file\(s\) .* are missing"):
        shelf.add(made(prompts), texts=[other])
    assert shelf.entries() == []


def test_an_adapter_of_another_tool_is_kept_without_a_recipe(
    shelf: Library, tmp_path: Path
) -> None:
    path = make_adapter().save(tmp_path / "from elsewhere.zip")
    entry = shelf.add(read(path), imported=True)
    assert (entry.name, entry.imported, entry.recipe) == ("from elsewhere", True, None)
    assert entry.buckets == []
    assert shelf.load(entry.key, read).sha256 == make_adapter().sha256


def test_adapters_stand_newest_first(shelf: Library, prompts: PromptFile) -> None:
    names = [shelf.add(made(prompts, seed), f"a{seed}").name for seed in range(3)]
    assert [e.name for e in shelf.entries() if isinstance(e, Entry)] == names[::-1]


def test_names_are_listed_newest_first_and_past_what_cannot_be_read(
    shelf: Library, prompts: PromptFile, tmp_path: Path
) -> None:
    one, _two, three = (shelf.add(made(prompts, seed), name=str(seed)) for seed in range(3))
    (shelf.path("1") / "entry.json").write_text("{}")
    (shelf.path("0") / "recipe.json").write_text("{}")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "entry.json").write_bytes((shelf.path("2") / "entry.json").read_bytes())
    (shelf.root / "entries" / "0123456789ab").symlink_to(outside, target_is_directory=True)
    listed = [(named.key, named.name, named.sha256) for named in shelf.entry_names()]
    assert listed == [(entry.key, entry.name, entry.sha256) for entry in (three, one)]


def test_an_empty_library_is_no_error_and_makes_no_folder(shelf: Library) -> None:
    assert shelf.entries() == shelf.deleted() == []
    assert not shelf.root.exists()


def test_the_users_own_library_is_in_the_data_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("dnd_engine.files.user_data_path", lambda *_, **__: tmp_path)
    assert Library().root == tmp_path / "library"


# Names


def test_a_name_that_is_taken_gets_a_number_unless_it_was_chosen(
    shelf: Library, prompts: PromptFile
) -> None:
    names = [shelf.add(made(prompts)).name for _ in range(3)]
    assert names == ["vault", "vault-2", "vault-3"]
    with pytest.raises(LibraryError, match=r"the library has an adapter `VAULT`\. Choose another"):
        shelf.add(made(prompts), "VAULT")
    with pytest.raises(LibraryError, match=r"the library has an adapter `vault-2`\."):
        shelf.rename("vault", "vault-2")
    with pytest.raises(LibraryError, match=r"the library has an adapter `Vault-2`\."):
        shelf.check_free("Vault-2")
    assert shelf.check_free(" new\n") == "new"
    assert shelf.rename("vault", "Vault").name == "Vault", "its own name in another case"


@pytest.mark.parametrize("name", ["", " ", "\x00"])
def test_an_adapter_needs_a_name(shelf: Library, name: str) -> None:
    with pytest.raises(LibraryError, match=r"needs a name\. Type one\."):
        shelf.check_free(name)


@pytest.mark.parametrize(
    "name", ["x" * 61, "../up", "a/b", "a\\b", "C:x", ".hidden", "-rf", "~root"]
)
def test_names_that_could_be_paths_or_options_are_refused(
    shelf: Library, prompts: PromptFile, name: str
) -> None:
    with pytest.raises(LibraryError, match=r"is not a valid name for an adapter: expected 1 to 60"):
        shelf.add(made(prompts), name)
    with pytest.raises(LibraryError, match=r"is not a valid name for an adapter"):
        shelf.check_free(name)
    assert shelf.entries() == []


@given(st.text(max_size=80))
def test_an_adapters_own_name_can_always_be_kept(name: str) -> None:
    own = library_module._own_name(name)
    assert check_name(own) == own


@given(st.text(max_size=20))
def test_no_name_leads_out_of_the_folder(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    place = tmp_path_factory.getbasetemp() / "none"
    with pytest.raises(LibraryError, match=r"no adapter `"):
        Library(place).path(name)
    assert not place.exists()


def test_a_name_that_is_the_key_of_another_adapter_does_not_take_its_place(
    shelf: Library, prompts: PromptFile
) -> None:
    first, second = shelf.add(made(prompts), "first"), shelf.add(made(prompts), "second")
    shelf.rename(second.key, first.key)
    shelf.delete(first.key)
    assert [entry.key for entry in shelf.entries()] == [second.key]


def test_adapters_are_found_by_name_in_any_case_and_by_key(
    shelf: Library, prompts: PromptFile
) -> None:
    entry = shelf.add(made(prompts), "Night shift")
    assert shelf.get("night SHIFT") == shelf.get(entry.key) == entry
    with pytest.raises(LibraryError, match=r"no adapter `day` in the library `.*`; it holds Night"):
        shelf.get("day")


def test_renaming_changes_the_name_alone(shelf: Library, prompts: PromptFile) -> None:
    entry = shelf.add(made(prompts))
    assert shelf.rename("vault", "bank") == replace(entry, name="bank")
    assert shelf.load("bank", read).name == "bank"


def test_a_duplicate_is_an_adapter_of_its_own(shelf: Library, prompts: PromptFile) -> None:
    first = shelf.add(made(prompts))
    copy = shelf.duplicate("vault")
    assert copy.name == "vault-2"
    assert copy == replace(first, key=copy.key, name=copy.name, created=copy.created)
    shelf.update("vault-2", strength=2)
    shelf.delete("vault")
    assert shelf.load("vault-2", read).strength == 2
    assert shelf.duplicate("vault-2", "other").name == "other"


# Votes and scores


def scored(score: float) -> Scores:
    rows = [("base", 0.0), ("adapter", score)]
    return Scores(
        file_sha256="0" * 64,
        metric="exact",
        num_scored=12,
        strength=1.0,
        own="adapter",
        rows=tuple(
            RowScore(row=row, mode="bare", steps=0, score=s, low=s, high=s) for row, s in rows
        ),
    )


def test_votes_add_up_scores_replace_and_strength_is_set(
    shelf: Library, prompts: PromptFile
) -> None:
    shelf.add(made(prompts))
    old, new = scored(0.25), scored(0.5)
    shelf.update("vault", votes={"won": 2, "tie": 1}, scores={"a.csv": old, "b.csv": old})
    entry = shelf.update("vault", votes={"won": 1, "tie": -3}, scores={"a.csv": new}, strength=-2)
    assert entry.votes == {"won": 3, "tie": 0}
    assert entry.scores == {"a.csv": new, "b.csv": old}
    assert entry.scores["a.csv"].brief == (("bare", 0.5, 0.0),)
    assert (entry.strength, entry.checks) == (-2, {"strength": 0.7, "effect": 2.5})
    assert shelf.update("vault", checks={"effect": 3}).checks == {"effect": 3}
    assert shelf.get("vault").votes == {"won": 3, "tie": 0}


@pytest.mark.parametrize("strength", [11, float("nan")])
def test_a_strength_out_of_bounds_is_refused(
    shelf: Library, prompts: PromptFile, strength: float
) -> None:
    shelf.add(made(prompts))
    with pytest.raises(LibraryError, match=r"`strength` must be between -10 and 10, got "):
        shelf.update("vault", strength=strength)


# Deleting


def test_what_is_deleted_comes_back_the_last_first(shelf: Library, prompts: PromptFile) -> None:
    kept = [shelf.add(made(prompts, seed)) for seed in range(3)]
    for entry in kept[:2]:
        shelf.delete(entry.name)
        time.sleep(0.02)  # the order of deletion is the folders' time
    assert shelf.entries() == kept[2:]
    assert shelf.deleted() == [kept[1], kept[0]]
    assert shelf.undo() == kept[1]
    assert shelf.undo(kept[0].key) == kept[0]
    assert shelf.entries() == kept[::-1]
    with pytest.raises(LibraryError, match=r"nothing to restore: no adapter was deleted in"):
        shelf.undo()


def test_what_does_not_belong_in_the_trash_keeps_nothing_from_being_deleted(
    shelf: Library, prompts: PromptFile, tmp_path: Path
) -> None:
    shelf.add(made(prompts), "one")
    shelf.add(made(prompts), "two")
    shelf.delete("one")
    outside = tmp_path / "outside"
    outside.mkdir()
    stray, link = shelf.root / "trash" / ".DS_Store", shelf.root / "trash" / "link"
    stray.write_text("")
    link.symlink_to(outside)
    for path in (stray, link):
        os.utime(path, (0, 0), follow_symlinks=False)
    shelf.delete("two")
    assert not stray.exists()
    assert not link.is_symlink()
    assert outside.is_dir()
    assert {e.name for e in shelf.deleted() if isinstance(e, Entry)} == {"one", "two"}


def test_a_lora_that_learnt_labels_is_kept_without_a_recipe(
    shelf: Library, prompts: PromptFile
) -> None:
    """What its provenance tells would make the adapter that it began from."""
    begun = made(prompts)
    trained = replace(begun, provenance={**begun.provenance, "trained": {"steps": 5}})
    assert shelf.add(begun, "begun").recipe is not None
    assert shelf.add(trained, "trained").recipe is None
    assert shelf.get("trained").trained
    assert not shelf.get("begun").trained


def test_a_name_that_was_taken_meanwhile_gets_a_number(shelf: Library, prompts: PromptFile) -> None:
    shelf.add(made(prompts))
    shelf.delete("vault")
    shelf.add(made(prompts))
    assert shelf.undo() == shelf.get("vault-2")


def test_the_trash_is_kept_for_some_days_or_until_it_is_emptied(
    shelf: Library, prompts: PromptFile
) -> None:
    for name in ("old", "new", "newest"):
        shelf.add(made(prompts), name)
    old = shelf.delete("old")
    month = time.time() - 31 * 86_400
    os.utime(shelf.root / "trash" / old.key, (month, month))
    new = shelf.delete("new")
    assert shelf.deleted() == [new], "deleting puts out what is a month old"
    assert shelf.empty_trash() == 1
    assert shelf.deleted() == []
    assert [e.key for e in shelf.entries()] == [shelf.get("newest").key]
    assert shelf.empty_trash() == 0


# Damage

SCORES = {
    **{"file_sha256": "a", "metric": "exact", "num_scored": 1, "strength": 1.0, "own": "adapter"},
    "rows": [
        {"row": "adapter", "mode": "bare", "steps": 0, "score": math.nan, "low": 0.0, "high": 1.0}
    ],
}
EDITED = {
    "a name that climbs": {"name": "../up"},
    "another format": {"format": 9},
    "no strength": {"strength": math.nan},
    "no date elsewhere": {"created": "0001-01-01T00:00:00Z"},
    "fewer than no prompts": {"num_prompts": -1},
    "no score": {"scores": {"a.csv": SCORES}},
}
"""Kind of damage to the values of a record that somebody changed."""


def damage(folder: Path, kind: str) -> None:
    if kind == "no record":
        (folder / "entry.json").unlink()
    elif kind == "broken record":
        (folder / "entry.json").write_text("{", encoding="utf-8")
    elif kind == "wrong values":
        (folder / "entry.json").write_text('{"name": 3, "strength": "x"}', encoding="utf-8")
    elif kind in EDITED:
        values = json.loads((folder / "entry.json").read_text()) | EDITED[kind]
        (folder / "entry.json").write_text(json.dumps(values), encoding="utf-8")
    elif kind == "no weights":
        (folder / "adapter_model.safetensors").unlink()
    elif kind == "broken config":
        (folder / "adapter_config.json").write_bytes(b"\xff")
    elif kind == "no rank":
        values = json.loads((folder / "adapter_config.json").read_text()) | {"r": True}
        (folder / "adapter_config.json").write_text(json.dumps(values), encoding="utf-8")
    elif kind == "another recipe":
        values = json.loads((folder / "provenance.json").read_text()) | {"sha256": "0" * 64}
        (folder / "provenance.json").write_text(json.dumps(values), encoding="utf-8")


def test_what_cannot_be_read_back_is_not_entered(shelf: Library, prompts: PromptFile) -> None:
    adapter = made(prompts)
    odd = replace(adapter, provenance={**adapter.provenance, "seed": 1.5})
    with pytest.raises(LibraryError, match="seed"):
        shelf.add(odd, "odd")
    assert shelf.entries() == []


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("no record", r"`entry\.json`: No such file"),
        ("broken record", r"`entry\.json`: .*Invalid JSON"),
        ("wrong values", r"`name`: Input should be a valid string.*; `created`: .*`strength`"),
        ("another format", r"`format`: Input should be 1"),
        ("a name that climbs", r"is not a valid name for an adapter"),
        ("no strength", r"`entry\.json`: `strength` must be between -10 and 10, got nan"),
        ("no date elsewhere", r"`entry\.json`: `created` is in the year 1"),
        ("fewer than no prompts", r"`num_prompts`: Input should be greater than or equal to 0"),
        ("no score", r"`scores\.a\.csv\.rows\.0\.score`: Input should be a finite number"),
        ("no rank", r"`adapter_config\.json` names no base or no rank"),
        ("no weights", r"`adapter_model\.safetensors`: No such file"),
        ("broken config", r"`adapter_config\.json` is not JSON"),
        ("another recipe", r"its recipe belongs to another adapter"),
    ],
)
def test_a_damaged_adapter_is_listed_with_the_reason_and_hides_no_other(
    shelf: Library, prompts: PromptFile, kind: str, reason: str
) -> None:
    good, bad = shelf.add(made(prompts), "good"), shelf.add(made(prompts), "bad")
    damage(shelf.path("bad"), kind)
    (found,) = (e for e in shelf.entries() if isinstance(e, DamagedEntry))
    assert [e for e in shelf.entries() if isinstance(e, Entry)] == [good]
    assert found.key == bad.key
    with pytest.raises(LibraryError, match=rf"`{bad.key}` in the library is damaged: .*{reason}"):
        shelf.get(bad.key)
    assert found.to_json()["damaged"] == found.reason
    assert shelf.load("good", read).name == "good"
    shelf.delete(bad.key)
    assert shelf.entries() == [good]
    assert shelf.undo().key == bad.key


def test_names_that_look_the_same_are_the_same(shelf: Library, prompts: PromptFile) -> None:
    """An accent is a letter of its own in some file systems, and a part of its letter in others."""
    joined, apart = "caf\u00e9", "cafe\u0301"
    shelf.add(made(prompts), apart)
    assert shelf.get(joined).key == shelf.get(apart).key
    with pytest.raises(LibraryError, match="Choose another name"):
        shelf.check_free(joined)


def test_weights_that_were_changed_are_not_loaded(shelf: Library, prompts: PromptFile) -> None:
    shelf.add(made(prompts))
    weights = shelf.path("vault") / "adapter_model.safetensors"
    weights.write_bytes(make_adapter(seed=9).weights)
    with pytest.raises(LibraryError, match=r"weights of `vault` in the library were changed: SHA"):
        shelf.load("vault", read)
    weights.write_bytes(b"\xff" * 64)
    with pytest.raises(AdapterError, match="is damaged"):
        shelf.load("vault", read)


def test_an_adapter_for_another_base_is_listed_but_not_loaded(
    shelf: Library, prompts: PromptFile
) -> None:
    shelf.add(made(prompts))
    with pytest.raises(BaseMismatchError, match=r"was made for example/tiny-llama"):
        shelf.load("vault", lambda path: read_adapter(path, CONFIG, "other/base"))
    assert shelf.get("vault").base == BASE_ID


def test_links_and_folders_of_others_are_not_followed(
    shelf: Library, prompts: PromptFile, tmp_path: Path
) -> None:
    kept = shelf.add(made(prompts))
    elsewhere = tmp_path / "elsewhere"
    shelf.path(kept.key).rename(elsewhere)
    (shelf.root / "entries" / kept.key).symlink_to(elsewhere)
    (shelf.root / "entries" / "mine").mkdir()
    (shelf.root / "entries" / "note.txt").write_text("x", encoding="utf-8")
    (found,) = shelf.entries()
    assert isinstance(found, DamagedEntry)
    assert "it is a link" in found.reason


def test_a_folder_that_cannot_be_read_is_told(
    shelf: Library, prompts: PromptFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.add(made(prompts))

    def fail(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", fail)
    with pytest.raises(
        LibraryError, match=r"cannot be read: Permission denied\. Name another fold"
    ):
        shelf.entries()


# Processes


def test_an_interrupted_keeping_leaves_nothing(
    shelf: Library, prompts: PromptFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.add(made(prompts))
    before = {path for path in shelf.root.rglob("*") if path.name != ".lock"}

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        changes: list[Callable[[], object]] = [
            lambda: shelf.add(made(prompts)),
            lambda: shelf.duplicate("vault"),
            lambda: shelf.delete("vault"),
        ]
        for change in changes:
            with pytest.raises(LibraryError, match=r"cannot be changed: No space left on device"):
                change()
    after = {path for path in shelf.root.rglob("*") if path.name != ".lock"}
    assert after - {shelf.root / "trash"} == before


def test_what_a_killed_process_left_is_cleared_away(shelf: Library, prompts: PromptFile) -> None:
    left = shelf.root / ".aside-dead" / "0123456789ab"
    left.mkdir(parents=True)
    (left.parent / "lock").touch()
    shelf.add(made(prompts))
    assert not left.parent.exists()
    assert len(shelf.entries()) == 1


def test_a_library_that_is_in_use_is_waited_for_and_then_told(
    shelf: Library, prompts: PromptFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.add(made(prompts))
    monkeypatch.setattr(library_module, "_PATIENCE", 0.1)
    with FileLock(shelf.root / ".lock"):
        with pytest.raises(LibraryError, match=r"is in use by another process for over"):
            shelf.rename("vault", "bank")
        assert shelf.get("vault").name == "vault", "reading needs no lock"


@pytest.mark.slow
def test_two_processes_at_once_lose_no_vote_and_share_no_name(
    shelf: Library, prompts: PromptFile
) -> None:
    shelf.add(made(prompts))
    code = (
        "import sys; from pathlib import Path; from dnd_engine.library import Library\n"
        "shelf = Library(Path(sys.argv[1]))\n"
        "for _ in range(20): shelf.update('vault', votes={'won': 1}); shelf.duplicate('vault')\n"
    )
    command = [sys.executable, "-c", code, str(shelf.root)]
    running = [subprocess.Popen(command, cwd=ROOT) for _ in range(2)]
    listed = 0
    while any(process.poll() is None for process in running):
        assert all(isinstance(e, Entry) for e in shelf.entries()), "no half entry is ever seen"
        listed += 1
    assert [process.returncode for process in running] == [0, 0]
    assert listed > 0
    assert shelf.get("vault").votes == {"won": 40}
    names = [e.name for e in shelf.entries() if isinstance(e, Entry)]
    assert len(names) == len(set(names)) == 41


def test_threads_of_one_process_wait_for_each_other(shelf: Library, prompts: PromptFile) -> None:
    shelf.add(made(prompts))

    def vote() -> None:
        for _ in range(10):
            Library(shelf.root).update("vault", votes={"won": 1})

    threads = [threading.Thread(target=vote) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shelf.get("vault").votes == {"won": 40}


def test_a_library_that_cannot_be_is_noticed_before_an_adapter_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LibraryError, match=r"cannot be changed: `.*file` is not a folder"):
        Library(tmp_path / "file").check_place()
    with pytest.raises(LibraryError, match="cannot be read: Not a directory"):
        Library(tmp_path / "file").entries()
    Library(str(tmp_path / "none" / "yet")).check_place()
    assert Library(tmp_path / "none" / "yet").entries() == []


def test_damaged_entries_are_named_where_an_adapter_is_missed(
    shelf: Library, prompts: PromptFile
) -> None:
    kept = shelf.add(made(prompts), "mine")
    record = shelf.path(kept.key) / "entry.json"
    text = record.read_bytes()
    record.write_bytes(b"\xef\xbb\xbf" + text)  # as some editors on Windows save it
    assert shelf.get("mine").key == kept.key
    record.write_bytes(text[:-9])
    with pytest.raises(LibraryError, match=r"holds none\. Others in it are damaged \(1\);"):
        shelf.get("mine")
