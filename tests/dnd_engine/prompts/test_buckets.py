"""Buckets share one prompt batch fairly, always in the same way, or say why they cannot."""

import math
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnd_engine.errors import BucketError, ConfigError
from dnd_engine.limits import PromptLimits
from dnd_engine.prompts.buckets import (
    Bucket,
    check_buckets,
    draw_prompt_batch,
    measured_prompts,
    parse_bucket_option,
    with_instruction,
)
from dnd_engine.prompts.files import Prompt, PromptFile
from dnd_engine.prompts.words import one_line
from dnd_engine.synthesis.learn import _examples

LIMITS = PromptLimits()


def prompt_file(*texts: str, name: str = "a.txt", num_bytes: int = 10) -> PromptFile:
    return PromptFile(
        name=name,
        prompts=tuple(Prompt(text=t, file=name, line=i) for i, t in enumerate(texts, 1)),
        split="lines",
        column=None,
        notes=(),
        num_bytes=num_bytes,
        sha256="0" * 64,
    )


def bucket(name: str, weight: float, count: int) -> Bucket:
    return Bucket(name, weight, (prompt_file(*(f"{name} {i}" for i in range(count))),))


def made_of(shapes: list[tuple[float, int]]) -> list[Bucket]:
    return [bucket(f"b{i}", weight, count) for i, (weight, count) in enumerate(shapes)]


@st.composite
def bucket_shapes(draw: st.DrawFn) -> list[tuple[float, int]]:
    """(Weight, prompts) of one to five buckets, some 0, at least one that counts."""
    weights = st.one_of(st.just(0.0), st.just(1), st.floats(0.01, 2.0))
    shapes = draw(st.lists(st.tuples(weights, st.integers(0, 30)), max_size=4))
    counting = (draw(st.floats(0.01, 2.0)), draw(st.integers(1, 30)))
    shapes.insert(draw(st.integers(0, len(shapes))), counting)
    return shapes


BATCH = {
    "shapes": bucket_shapes(),
    "num_prompts": st.integers(1, 128),
    "seed": st.integers(0, 2**31 - 1),
}


# Buckets


def test_a_bucket_drops_texts_that_an_earlier_file_holds() -> None:
    held = Bucket("b", 1.0, (prompt_file("x", "y"), prompt_file("y", "z", name="b.txt")))
    assert [(p.text, p.file) for p in held.prompts] == [
        ("x", "a.txt"),
        ("y", "a.txt"),
        ("z", "b.txt"),
    ]
    assert held.num_prompts == 3


def test_a_bucket_name_is_cleaned_to_one_line() -> None:
    assert Bucket("  ${x}\n<b>\u202e\x00 ").name == "${x}<b>"


@pytest.mark.parametrize("name", ["نمی\u200cبرند", "क्\u200dष", "👩\u200d💻", "❤️\u200d🔥"])
def test_a_bucket_name_keeps_the_joiners_that_shape_it(name: str) -> None:
    assert Bucket(f"\u200d{name}\u200c").name == name
    assert Bucket(name[0] + "\u200d\u200db").name == name[0] + "b"


@pytest.mark.parametrize(
    "name",
    [
        "a\ufeff\u200d\ufeffb",
        "a\u061c\u200d\u061cb",
        "क\u200d\ufeff\u200dष",
        "ế\u200dế",
        "й\u200dй",
        "\u200d\u200c",
    ],
)
def test_joiners_that_only_hide_go(name: str) -> None:
    shown = one_line(name)
    assert not {"\u200c", "\u200d"} & {*shown}
    assert one_line(shown) == shown


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", r"Bucket name: expected 1 to 60 characters, got none\. Give the bucket a short name"),
        (" \n\x00", r"expected 1 to 60 characters, got none"),
        ("n" * 61, r"expected 1 to 60 characters, got 61 \(n+…n+\)"),
    ],
)
def test_a_bucket_needs_a_short_name(name: str, message: str) -> None:
    with pytest.raises(BucketError, match=message):
        Bucket(name)


def test_a_bucket_name_may_have_sixty_characters() -> None:
    assert Bucket("n" * 60).name == "n" * 60


# check_buckets


def test_buckets_without_weight_or_prompts_do_not_count() -> None:
    counting, negative = bucket("a", 1, 2), bucket("d", -2.0, 1)
    given_buckets = [bucket("b", 0.0, 2), counting, bucket("c", 1.0, 0), negative]
    assert check_buckets(given_buckets, LIMITS) == (counting, negative)


@pytest.mark.parametrize("weight", [2.1, -2.1, math.nan, math.inf, -math.inf, 10**400])
def test_a_weight_outside_the_range_is_refused(weight: float) -> None:
    with pytest.raises(
        BucketError,
        match=r"Bucket `a`: expected a weight between -2 and 2, got \S+\. Choose one in between",
    ):
        check_buckets([bucket("a", weight, 1)], LIMITS)


def test_no_bucket_is_refused() -> None:
    with pytest.raises(BucketError, match=r"Expected a bucket with prompts, got no bucket\. Make"):
        check_buckets([], LIMITS)


def test_buckets_without_any_prompt_are_refused() -> None:
    with pytest.raises(BucketError, match=r"Expected prompts in a bucket, found none\. Drop"):
        check_buckets([bucket("a", 1.0, 0), Bucket("b")], LIMITS)


def test_buckets_that_all_weigh_nothing_are_refused() -> None:
    with pytest.raises(BucketError, match=r"Every bucket with prompts has weight 0\. Raise"):
        check_buckets([bucket("a", 0.0, 3), bucket("b", 1.0, 0)], LIMITS)


def test_too_many_files_in_all_buckets_are_refused() -> None:
    two = [bucket("a", 1.0, 1), bucket("b", 1.0, 1)]
    assert check_buckets(two, PromptLimits(max_files=2))
    with pytest.raises(BucketError, match=r"at most 1 files in all buckets, got 2\. Remove some"):
        check_buckets(two, PromptLimits(max_files=1))


def test_too_many_bytes_in_all_buckets_are_refused_in_megabytes() -> None:
    half = prompt_file("x", num_bytes=12_500_000)
    two = [Bucket("a", 1.0, (half,)), Bucket("b", 1.0, (half,))]
    assert check_buckets(two, LIMITS)
    one_over = replace(half, num_bytes=12_500_001)
    with pytest.raises(BucketError, match=r"all buckets hold 25\.1 MB; the limit is 25 MB\. Rem"):
        check_buckets([two[0], Bucket("b", 1.0, (one_over,))], LIMITS)


def test_prompts_that_take_too_much_memory_are_refused_with_their_instruction() -> None:
    file = prompt_file(*(f"{number} {'x' * 1000}" for number in range(100)))
    assert 100_000 < file.memory_bytes < 130_000
    limits = PromptLimits(max_total_memory_bytes=250_000)
    two = [Bucket("a", 1.0, (file,)), Bucket("b", 1.0, (file,))]
    assert check_buckets(two, limits)
    above = replace(two[1], instruction="y" * 500)
    message = r"take 0\.3 MB of memory; the limit is 0\.25 MB, and an instruction counts for each"
    with pytest.raises(BucketError, match=message):
        check_buckets([two[0], above], limits)


def test_counts_of_prompts_are_those_of_whole_prompts() -> None:
    file = prompt_file("Say it.\n\na", "a", "b", "Name it.\n\nc")
    for above_all in (False, True):
        found = Bucket("x", 1.0, (file, file), "Say it.", above_all=above_all)
        assert found.num_prompts == len(found.prompts) == (4 if above_all else 3)
        assert found.num_without_instruction == 0
    assert Bucket("x", 1.0, (file,)).num_prompts == 4
    assert Bucket("x", 1.0, (file,)).num_without_instruction == 2


def test_all_faults_of_the_buckets_are_told_at_once() -> None:
    twins = [bucket("a", 3.0, 1), bucket(" a ", 0.5, 1)]
    with pytest.raises(BucketError, match=r"got 3\.0\.[^\n]*\nBucket `a`: expected one bucket of"):
        check_buckets(twins, LIMITS)


# parse_bucket_option


def test_a_bucket_option_names_weight_and_files() -> None:
    assert parse_bucket_option("my sql = 0.5:a.csv, C:/b=c.txt,") == (
        "my sql",
        0.5,
        [Path("a.csv"), Path("C:/b=c.txt")],
    )
    assert parse_bucket_option("less=-1:a.csv") == ("less", -1.0, [Path("a.csv")])


@pytest.mark.parametrize(
    "option",
    ["", "sql", "sql=1", "sql=1:", "sql=1:,", "=1:a.csv", "sql=:a.csv", "sql=x:a.csv", "s=nan:a"],
)
def test_a_broken_bucket_option_shows_the_form(option: str) -> None:
    with pytest.raises(BucketError, match=r"Bucket option `.*`: expected NAME=WEIGHT:FILE,FILE"):
        parse_bucket_option(option)


# draw_prompt_batch


@given(**BATCH)
def test_a_batch_has_its_length_and_only_prompts_of_counting_buckets(
    shapes: list[tuple[float, int]], num_prompts: int, seed: int
) -> None:
    buckets = made_of(shapes)
    batch = draw_prompt_batch(buckets, num_prompts, seed)
    assert len(batch) == num_prompts
    assert set(batch) <= {p for b in buckets if b.weight > 0 for p in b.prompts}


@given(**BATCH)
def test_a_bucket_repeats_only_when_its_share_is_larger_and_then_evenly(
    shapes: list[tuple[float, int]], num_prompts: int, seed: int
) -> None:
    buckets = made_of(shapes)
    batch = Counter(draw_prompt_batch(buckets, num_prompts, seed))
    for b in buckets:
        counts = [batch[p] for p in b.prompts]
        if b.weight > 0 and counts:
            assert max(counts) - min(counts) <= 1


@given(chance=st.randoms(use_true_random=False), **BATCH)
def test_a_batch_does_not_depend_on_the_order_of_files_or_prompts(
    shapes: list[tuple[float, int]], chance: random.Random, num_prompts: int, seed: int
) -> None:
    buckets, shuffled = made_of(shapes), []
    for b in buckets:
        prompts = list(b.prompts)
        chance.shuffle(prompts)
        cut = chance.randint(0, len(prompts))
        files = [
            replace(b.files[0], prompts=tuple(part)) for part in (prompts[:cut], prompts[cut:])
        ]
        chance.shuffle(files)
        shuffled.append(replace(b, files=tuple(files)))
    expected = draw_prompt_batch(buckets, num_prompts, seed)
    assert draw_prompt_batch(shuffled, num_prompts, seed) == expected


@given(**BATCH)
def test_quotas_follow_the_weights_however_little_a_bucket_holds(
    shapes: list[tuple[float, int]], num_prompts: int, seed: int
) -> None:
    buckets = [b for b in made_of(shapes) if b.weight > 0 and b.prompts]
    batch = draw_prompt_batch(buckets, num_prompts, seed)
    total = sum(b.weight for b in buckets)
    for b in buckets:
        count = sum(p in b.prompts for p in batch)
        assert abs(count - num_prompts * b.weight / total) < 1 + 1e-9


def test_quotas_go_to_the_largest_remainders() -> None:
    buckets = [bucket("a", 1.0, 9), bucket("b", 0.5, 9), bucket("c", 0.25, 9)]
    batch = draw_prompt_batch(buckets, 6, seed=0)  # shares 3.43, 1.71, 0.86
    assert "".join(p.text[0] for p in batch) == "aaabbc"


def test_a_small_bucket_keeps_its_weight_by_repeating() -> None:
    buckets = [bucket("a", 2.0, 1), bucket("b", 1.0, 9), bucket("c", 0.5, 9)]
    batch = draw_prompt_batch(buckets, 7, seed=0)
    assert "".join(p.text[0] for p in batch) == "aaaabbc"


def test_a_batch_stands_bucket_by_bucket_sorted_by_text() -> None:
    first, second = prompt_file("d", "b"), prompt_file("c", "a", name="b.txt")
    batch = draw_prompt_batch([Bucket("z", 1.0, (first,)), Bucket("y", 1.0, (second,))], 8, seed=3)
    assert "".join(p.text for p in batch) == "bbddaacc"


def test_a_text_in_two_buckets_is_drawn_once() -> None:
    buckets = [Bucket("a", 1.0, (prompt_file("x"),)), Bucket("b", 1.0, (prompt_file("x", "y"),))]
    assert [p.text for p in draw_prompt_batch(buckets, 2, seed=0)] == ["x", "y"]


def test_the_seed_chooses_the_prompts() -> None:
    batches = {draw_prompt_batch([bucket("a", 1.0, 50)], 5, seed) for seed in range(10)}
    assert len(batches) == 10


def test_a_draw_is_pinned_across_versions() -> None:
    """The same prompts and seed must give the same adapter bytes tomorrow."""
    batch = draw_prompt_batch([bucket("a", 1.0, 9), bucket("b", 0.5, 9)], 6, seed=7)
    assert [p.text for p in batch] == ["a 2", "a 3", "a 5", "a 8", "b 0", "b 1"]


@pytest.mark.parametrize("weight", [-0.5, math.nan, math.inf])
def test_a_pool_refuses_a_negative_weight_and_names_the_sum(weight: float) -> None:
    with pytest.raises(
        BucketError, match=r"`a`: expected a weight of at least 0 in a pool, got .* mix by sum"
    ):
        draw_prompt_batch([bucket("a", weight, 3), bucket("b", 1.0, 3)], 4, seed=0)


def test_a_batch_of_nothing_is_refused() -> None:
    with pytest.raises(BucketError, match=r"prompts and a weight above 0, got none\. Drop"):
        draw_prompt_batch([bucket("a", 0.0, 3), bucket("b", 1.0, 0)], 4, seed=0)


def test_a_batch_needs_a_length() -> None:
    with pytest.raises(ConfigError, match=r"`num_prompts` must be at least 1, got 0"):
        draw_prompt_batch([bucket("a", 1.0, 3)], 0, seed=0)


# The prompts that an adapter is measured on


def test_the_same_prompts_are_measured_whatever_their_order_and_weight() -> None:
    """A canvas, a command line and an API call list the same buckets in other orders."""
    here = [bucket("a", 1.0, 40), bucket("b", 0.5, 9)]
    turned = [
        replace(b, files=tuple(replace(f, prompts=f.prompts[::-1]) for f in b.files)) for b in here
    ]
    there = [replace(b, weight=-1.0) for b in turned[::-1]]
    chosen = measured_prompts(here)
    assert measured_prompts(there) == chosen
    assert len(set(chosen)) == 16
    assert Counter(text[0] for text in chosen) == {"a": 8, "b": 8}


def test_few_prompts_are_all_measured_once_and_those_of_weight_zero_never() -> None:
    few = [bucket("a", 1.0, 3), Bucket("b", 1.0, bucket("a", 1.0, 5).files), bucket("c", 0.0, 5)]
    assert sorted(measured_prompts(few)) == [f"a {number}" for number in range(5)]
    assert measured_prompts([]) == ()


def test_the_first_prompts_of_a_sorted_file_are_not_all_that_is_measured() -> None:
    chosen = measured_prompts([bucket("a", 1.0, 400)])
    assert max(int(text.split()[1]) for text in chosen) > 200


def test_what_no_tokenizer_can_encode_is_no_part_of_an_instruction() -> None:
    """A shell passes bytes that are no UTF-8 as lone surrogates."""
    assert Bucket("x", instruction="Do\udcff it.\x00\r\nNow.").instruction == "Do it.\nNow."


def test_an_instruction_goes_above_every_prompt_that_has_none() -> None:
    plain = Bucket("plain", 1.0, (prompt_file("one", "two", "one"),))
    own = Bucket("own", 1.0, (prompt_file("Say it.\n\nthree", "Say it.\n\nfour"),))
    given, kept = with_instruction([plain, own], "  Shout.\n\n Twice.  \n")
    assert kept is own
    assert given.instruction == "Shout.\n Twice."
    assert [p.text for p in given.prompts] == [f"Shout.\n Twice.\n\n{n}" for n in ("one", "two")]
    assert given.num_prompts == 2
    assert (plain.num_without_instruction, given.num_without_instruction) == (2, 0)
    drawn = draw_prompt_batch([given], 2, 0)
    assert {p.text for p in drawn} == {p.text for p in given.prompts}
    assert with_instruction([plain], " \n") == [plain]


def test_an_instruction_fills_only_the_prompts_of_a_bucket_that_lack_one() -> None:
    mixed = Bucket("mixed", 1.0, (prompt_file("Say it.\n\none", "two", "Shout.\n\ntwo"),))
    assert mixed.num_without_instruction == 1
    (given,) = with_instruction([mixed], "Shout.")
    texts = ["Say it.\n\none", "Shout.\n\ntwo"]
    assert [p.text for p in given.prompts] == texts
    assert (given.num_prompts, given.num_without_instruction) == (2, 0)
    assert {p.text for p in draw_prompt_batch([given], 2, 0)} == set(texts)


def test_recipes_of_earlier_versions_put_the_instruction_above_all() -> None:
    mixed = Bucket("mixed", 1.0, (prompt_file("Say it.\n\none", "two"),), "Shout.", above_all=True)
    assert [p.text for p in mixed.prompts] == ["Shout.\n\nSay it.\n\none", "Shout.\n\ntwo"]


def test_an_instruction_has_a_bounded_length() -> None:
    assert Bucket("a", instruction="x" * 2000).instruction == "x" * 2000
    with pytest.raises(BucketError, match="`a`: expected an instruction of at most 2,000 char"):
        Bucket("a", instruction="x" * 2001)


def test_a_prompt_has_its_label_whichever_of_its_copies_comes_first() -> None:
    bare, labelled = prompt_file("one", "two"), prompt_file("two", "one")
    labelled = replace(
        labelled, prompts=tuple(replace(p, label=p.text.upper()) for p in labelled.prompts)
    )
    for files in ((bare, labelled), (labelled, bare)):
        first, second = Bucket("b", 1.0, files).prompts
        assert {first.label, second.label} == {"ONE", "TWO"}
    buckets = [Bucket("b", 1.0, (file,)) for file in (labelled, bare)]
    examples = _examples(buckets)
    assert {example.response for example in examples} == {"ONE", "TWO"}
