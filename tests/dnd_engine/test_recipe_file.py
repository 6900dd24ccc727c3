"""A recipe file says what it means: no blanks, no numbers for paths, no booleans for numbers."""

from pathlib import Path

import pytest

from dnd_engine.errors import ConfigError
from dnd_engine.training.recipe import TrainRecipe


def read(folder: Path, text: str) -> TrainRecipe:
    path = folder / "r.yaml"
    path.write_text(text)
    return TrainRecipe.read(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tasks: t\nout:\n", r"needs out\. Write it into the file\."),
        ("tasks: t\nout: o\nsteps: 6\nsteps: 2\n", r"each key once, got `steps` again"),
        ("tasks:\nout:\n", r"needs tasks and out\. Write them into the file\."),
        ("tasks: t\nout: 7\n", r"`out`: expected a path, got 7"),
        ("tasks: t\nout: ' '\n", r"`out`: expected a path, got ' '"),
        ("tasks: [7]\nout: o\n", r"`tasks`: expected a path, got 7"),
        ("tasks: [t, null]\nout: o\n", r"`tasks`: expected a path, got None"),
        ("tasks: t\nout: o\ncollection: 7\n", r"`collection`: expected a path, got 7"),
        ("tasks: t\nout: o\nbare_share: true\n", r"`bare_share`: expected a number, got True"),
        ("tasks: t\nout: o\nbare_share:\n", r"`bare_share`: expected a number, got None"),
        ("tasks: t\nout: o\nvalidation_families: true\n", r"expected a number, got True"),
        ("tasks: t\nout: o\nsteps: -0x" + "9" * 6000, r"`steps`: .* at most 63 bits, got one of "),
        ("tasks: t\nout: o\nsteps: true\n", r"`steps`: expected a whole number, got True"),
        ("tasks: t\nout: o\nsteps:\n", r"`steps`: expected a whole number, got None"),
        ("tasks: t\nout: o\nbase:\n", r"`base`: expected a name, got None"),
        ("tasks: t\nout: o\nstages: [[true, 2, 3]]\n", r"`stages`: expected a list of \["),
    ],
)
def test_what_is_blank_or_of_another_kind_is_refused_by_its_setting(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("tasks: [\n", "line 2, column 1: expected the node content, but found '<stream end>'"),
        ("tasks: a: b\n", "line 1, column 9: mapping values are not allowed here"),
        ("a: 1\na: 2\n", "line 2, column 1: expected each key once, got `a` again"),
        ("a: *b\n", "line 1, column 4: expected a value, got an alias (`*name`). Write the value "),
        ("a: \a\n", "character 4 is one that YAML forbids"),
        ("a: 2026-13-01\n", "month must be in 1..12"),
    ],
)
def test_broken_yaml_is_one_line_with_its_place(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ConfigError) as told:
        read(tmp_path, text)
    words = str(told.value)
    assert f"r.yaml` cannot be read: {reason}" in words
    assert words.endswith(". Fix the file.")
    assert "\n" not in words
    assert "<unicode string>" not in words


def test_a_file_without_text_is_no_recipe(tmp_path: Path) -> None:
    path = tmp_path / "adapter.zip"
    path.write_bytes(b"PK\x03\x04\xff\xfe")
    with pytest.raises(ConfigError, match=r"recipe `.*adapter\.zip` is not UTF-8 text\."):
        TrainRecipe.read(path)


def test_blank_is_none_where_none_may_stand_and_numbers_may_be_written_any_way(
    tmp_path: Path,
) -> None:
    found = read(tmp_path, "tasks: t\nout: o\ncache:\ndecoder_lr: 5e-4\nbare_share: 1\n")
    assert found.cache is None
    assert (found.decoder_lr, found.bare_share) == (5e-4, 1.0)


def test_a_flag_stands_in_for_a_blank(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("tasks: t\nout:\n")
    assert TrainRecipe.read(path, out=tmp_path / "o").out == tmp_path / "o"


def test_where_a_model_lies_on_this_machine_is_not_told(tmp_path: Path) -> None:
    base = tmp_path / "models" / "mine"
    base.mkdir(parents=True)
    recipe = read(tmp_path, f"tasks: t\nout: o\nbase: {base}\n")
    assert recipe.base == str(base)
    assert recipe.to_json()["base"] == "mine"
    assert recipe.to_json()["encoder"] == recipe.encoder
    assert "base" not in recipe.identity(), "its contents are compared instead"
    assert recipe.identity()["encoder"] == recipe.encoder
    overlong = read(tmp_path, f"tasks: t\nout: o\nbase: {'x' * 5000}\n")
    assert overlong.to_json()["base"] == "x" * 5000
