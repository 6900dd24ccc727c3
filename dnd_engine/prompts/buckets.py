"""Buckets: named, weighted groups of prompt files, and the prompt batches sampled from them.

This module decides which buckets are used, and how weights divide a condition. Imports no torch.
"""

import hashlib
import math
import random
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain, islice, zip_longest
from pathlib import Path

from dnd_engine.errors import BucketError, ConfigError
from dnd_engine.files import expanded
from dnd_engine.limits import FIXED, PromptLimits
from dnd_engine.notes import Note, joined, noted
from dnd_engine.prompts.files import Prompt, PromptFile
from dnd_engine.prompts.split import close_blank_lines, split_prompt
from dnd_engine.prompts.words import megabytes, one_line, printable, shorten

MAX_WEIGHT = 2.0
"""Largest absolute weight. Negative weights ("less of this") need the sum mix."""
_MAX_MEASURED = 16
"""Enough to judge an adapter by its effect. Takes about a second."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A named, weighted group of prompt files on the canvas.

    Raises:
        BucketError: If the name has no printable characters, or more than 60 characters.
    """

    name: str
    """Cleaned to one line. It is untrusted text: escape it wherever you show it."""
    weight: float = 1.0
    """Checked by `check_buckets`, because a slider may pass invalid values. JSON sends ints."""
    files: tuple[PromptFile, ...] = ()
    instruction: str = ""
    """Put above every prompt that has none of its own. Its own blank lines are removed."""
    above_all: bool = False
    """Put the instruction above prompts with one of their own, too, as recipes of earlier versions
    did."""

    def __post_init__(self) -> None:
        name = one_line(self.name)
        if not 1 <= len(name) <= FIXED.max_name_chars:
            raise BucketError(
                "Bucket name: expected 1 to {most} characters, got {found}. Give the bucket a "
                "short name.",
                most=FIXED.max_name_chars,
                found=noted("{number} ({name})", number=len(name), name=shorten(name, 40))
                if name
                else noted("none"),
            )
        object.__setattr__(self, "name", name)
        instruction = close_blank_lines(printable(self.instruction))
        if len(instruction) > FIXED.max_instruction_chars:
            raise BucketError(
                "Bucket `{bucket}`: expected an instruction of at most {most} characters, got "
                "{found}. Shorten it.",
                bucket=name,
                most=FIXED.max_instruction_chars,
                found=len(instruction),
            )
        object.__setattr__(self, "instruction", instruction)

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """The distinct whole prompts of all files, in order, each with its first label."""
        distinct: dict[str, Prompt] = {}
        for file in self.files:
            for prompt in file.prompts:
                whole = self.whole(prompt)
                first = distinct.setdefault(whole.text, whole)
                if first.label is None and whole.label is not None:
                    distinct[whole.text] = whole
        return tuple(distinct.values())

    @property
    def num_prompts(self) -> int:
        """Number of distinct prompts in the bucket."""
        texts = {prompt.text for file in self.files for prompt in file.prompts}
        if not self.instruction or self.above_all:
            return len(texts)
        # Without making all whole prompts: the instruction of many short ones would take gigabytes.
        repeated = (f"{self.instruction}\n\n{t}" in texts and not _has_own(t) for t in texts)
        return len(texts) - sum(repeated)

    @property
    def num_without_instruction(self) -> int:
        """Number of distinct prompts without an instruction of their own or of the bucket."""
        if self.instruction:
            return 0
        return sum(not _has_own(prompt.text) for prompt in self.prompts)

    @property
    def memory_bytes(self) -> int:
        """Memory that the whole prompts of all files take, about."""
        above = sys.getsizeof(self.instruction) if self.instruction else 0
        return sum(file.memory_bytes + above * len(file.prompts) for file in self.files)

    def whole(self, prompt: Prompt) -> Prompt:
        """Return a prompt with an instruction: its own, or else that of the bucket."""
        if not self.instruction:
            return prompt
        # A second instruction would make the prompt's own one a part of its input.
        if not self.above_all and _has_own(prompt.text):
            return prompt
        return replace(prompt, text=f"{self.instruction}\n\n{prompt.text}")


def with_instruction(buckets: Sequence[Bucket], instruction: str) -> list[Bucket]:
    """Set the instruction of each bucket in which a prompt has none."""
    if not instruction.strip():
        return list(buckets)
    return [
        replace(bucket, instruction=instruction) if bucket.num_without_instruction else bucket
        for bucket in buckets
    ]


def check_buckets(buckets: Sequence[Bucket], limits: PromptLimits) -> tuple[Bucket, ...]:
    """Return the buckets to use: those with prompts and a nonzero weight.

    Args:
        buckets: All buckets of a canvas or command, in order.
        limits: Maximum number and size of files in all buckets together.

    Raises:
        BucketError: With every fault of the buckets, also if none is left.
    """
    faults = [
        noted(
            "Bucket `{bucket}`: expected a weight between {least:g} and {most:g}, got {weight}. "
            "Choose one in between.",
            bucket=bucket.name,
            least=-MAX_WEIGHT,
            most=MAX_WEIGHT,
            weight=bucket.weight,
        )
        for bucket in buckets
        if not abs(bucket.weight) <= MAX_WEIGHT  # also catches NaN
    ]
    # Cards, provenance and an imprint's teachers know a bucket by its name alone.
    names = Counter(bucket.name for bucket in buckets)
    faults += [
        noted(
            "Bucket `{bucket}`: expected one bucket of that name, got {found}. Rename the others.",
            bucket=name,
            found=count,
        )
        for name, count in names.items()
        if count > 1
    ]
    files = [file for bucket in buckets for file in bucket.files]
    if len(files) > limits.max_files:
        faults.append(
            noted(
                "Expected at most {most} files in all buckets, got {found}. Remove some, or join "
                "small ones.",
                most=limits.max_files,
                found=len(files),
            )
        )
    num_bytes = sum(file.num_bytes for file in files)
    if num_bytes > limits.max_total_bytes:
        faults.append(
            noted(
                "The files of all buckets hold {size:,g} MB; the limit is {most:g} MB. Remove "
                "some, or keep a sample of each.",
                size=megabytes(num_bytes),
                most=limits.max_total_bytes / 1e6,
            )
        )
    faults += memory_faults(sum(bucket.memory_bytes for bucket in buckets), limits)
    filled = [bucket for bucket in buckets if bucket.num_prompts]
    if not buckets:
        faults.append(
            noted("Expected a bucket with prompts, got no bucket. Make one and drop files on it.")
        )
    elif not filled:
        faults.append(noted("Expected prompts in a bucket, found none. Drop prompt files on one."))
    elif all(bucket.weight == 0 for bucket in filled):
        faults.append(noted("Every bucket with prompts has weight 0. Raise the weight of one."))
    if faults:
        raise BucketError(joined(faults, "\n"))
    return tuple(bucket for bucket in filled if bucket.weight != 0)


def check_pool(buckets: Sequence[Bucket]) -> None:
    """Refuse weights that a pool cannot sample by.

    Raises:
        BucketError: If weights are negative or not finite; names every such bucket.
    """
    faults = [
        noted(
            "Bucket `{bucket}`: expected a weight of at least 0 in a pool, got {weight}. "
            "Raise it, or mix by sum.",
            bucket=bucket.name,
            weight=bucket.weight,
        )
        for bucket in buckets
        if not 0 <= bucket.weight < math.inf
    ]
    if faults:
        raise BucketError(joined(faults, "\n"))


def memory_faults(num_bytes: int, limits: PromptLimits) -> list[Note]:
    """Return a sentence if the prompts of all buckets take too much memory."""
    if num_bytes <= limits.max_total_memory_bytes:
        return []
    return [
        noted(
            "The prompts of all buckets take {size:,g} MB of memory; the limit is {most:g} MB, and "
            "an instruction counts for each of its prompts. Remove some files, or keep a sample "
            "of each.",
            size=megabytes(num_bytes),
            most=limits.max_total_memory_bytes / 1e6,
        )
    ]


def parse_bucket_option(option: str) -> tuple[str, float, list[Path]]:
    """Read `NAME=WEIGHT:FILE,FILE` from a command line.

    The name ends at the first `=` and the weight at the first `:` after it. So file names may
    contain both, but no comma.

    Raises:
        BucketError: If a part is missing or the weight is no number.
    """
    name, equals, rest = option.partition("=")
    weight, colon, files = rest.partition(":")
    paths = [expanded(file.strip()) for file in files.split(",") if file.strip()]
    try:
        number = float(weight)
    except ValueError:
        # NaN fails the check below, so every fault of the form has one message.
        number = math.nan
    if not (one_line(name) and equals and colon and paths and math.isfinite(number)):
        raise BucketError(
            f"Bucket option `{shorten(one_line(option), 80)}`: expected NAME=WEIGHT:FILE,FILE "
            "with a number for WEIGHT. Write for example sql=1.0:queries.csv,more.txt"
        )
    return one_line(name), number, paths


def draw_prompt_batch(buckets: Sequence[Bucket], num_prompts: int, seed: int) -> tuple[Prompt, ...]:
    """Sample the prompt batch of a pooled condition.

    Each bucket contributes prompts in proportion to its weight (largest remainder). A bucket with
    fewer prompts than its share repeats them evenly; otherwise no prompt occurs twice. A text in
    several buckets belongs to the first one.

    Args:
        buckets: Buckets in the order of the result. Those of weight 0 are ignored.
        num_prompts: Length of the batch.
        seed: Sampling seed. The order of files and of prompts within them does not matter.

    Returns:
        `num_prompts` prompts, bucket by bucket, sorted by text within each.

    Raises:
        BucketError: If a weight is negative or not finite, or no bucket is left.
        ConfigError: If `num_prompts` is less than 1.

    Source: Liang et al. 2025, arXiv:2506.16406, prompt batches; the weights are this project's.
    """
    if num_prompts < 1:
        raise ConfigError(f"`num_prompts` must be at least 1, got {num_prompts}.")
    check_pool(buckets)
    taken: set[str] = set()
    pools: list[list[Prompt]] = []
    weights: list[Fraction] = []
    for bucket in buckets:
        pool: list[Prompt] = []
        if bucket.weight > 0:
            # Not `bucket.prompts`: of equal texts it keeps the first file's, so the order of files
            # would matter.
            found = (bucket.whole(prompt) for file in bucket.files for prompt in file.prompts)
            for prompt in sorted(found, key=_canonical):
                if prompt.text not in taken:
                    taken.add(prompt.text)
                    pool.append(prompt)
        if pool:
            pools.append(pool)
            weights.append(Fraction(bucket.weight))
    if not pools:
        raise BucketError(
            noted(
                "Expected a bucket with prompts and a weight above 0, got none. Drop prompt files "
                "on one, or raise its weight."
            )
        )
    # A test pins this draw. Recipes repeat it to make the same adapter again, byte for byte.
    chance = random.Random(seed)
    drawn: list[Prompt] = []
    for pool, quota in zip(pools, _quotas(weights, num_prompts), strict=True):
        # Repeat the prompts of a bucket smaller than its share: its size must not change its
        # weight.
        rounds, rest = divmod(quota, len(pool))
        drawn += sorted(pool * rounds + chance.sample(pool, rest), key=_canonical)
    return tuple(drawn)


def measured_prompts(
    buckets: Sequence[Bucket], most: int | None = _MAX_MEASURED
) -> tuple[str, ...]:
    """Choose the prompts that an adapter's effect and agreement are measured on.

    The command line, the page and the API share this rule, so that an adapter's card does not
    depend on where it was made. The choice depends only on names and texts, not on the weights or
    the order of buckets, files and prompts.

    Args:
        buckets: Buckets of weight 0 are ignored.
        most: Number of prompts; None returns all, in the same order.

    Returns:
        At most 16 distinct prompts, from each bucket in turn.
    """
    taken: set[str] = set()
    pools: list[list[str]] = []
    for bucket in sorted(buckets, key=lambda bucket: bucket.name):
        if bucket.weight != 0:
            texts = {prompt.text for prompt in bucket.prompts} - taken
            taken |= texts
            # Files are often sorted, so their first prompts would resemble each other.
            pools.append(sorted(texts, key=_hash))
    # A bucket that has run out contributes None.
    in_turn = chain.from_iterable(zip_longest(*pools))
    return tuple(islice((text for text in in_turn if text is not None), most))


def _has_own(text: str) -> bool:
    """Return whether a prompt has an instruction of its own."""
    return split_prompt(text).input is not None


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _canonical(prompt: Prompt) -> tuple[str, str, int]:
    return prompt.text, prompt.file, prompt.line


def _quotas(weights: Sequence[Fraction], total: int) -> list[int]:
    """Divide `total` by weight, largest remainders first. Fractions avoid rounding errors."""
    shares = [total * weight / sum(weights) for weight in weights]
    quotas = [math.floor(share) for share in shares]
    # The sort is stable, so the earlier bucket wins a tie.
    by_remainder = sorted(range(len(shares)), key=lambda index: quotas[index] - shares[index])
    for index in by_remainder[: total - sum(quotas)]:
        quotas[index] += 1
    return quotas
