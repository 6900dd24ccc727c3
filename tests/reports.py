"""Invented reports in the form that `dnd evaluate` writes: pictures to look at, not results."""

from dnd_engine.generator.report import (
    Cosine,
    Cost,
    Distances,
    Failure,
    Gap,
    OperationGain,
    Report,
    ReportRow,
    Verdict,
)
from dnd_engine.tasks.folder import Mode

SHA = "a1c94e" + "0" * 58

_ROWS = {
    "base": (0.0, 0.01, 5.1),
    "few_shot": (0.05, 0.12, 3.8),
    "mean_lora": (0.01, 0.09, 4.0),
    "nearest_lora": (0.04, 0.21, 3.2),
    "multi_task_lora": (0.01, 0.41, 2.9),
    "generator": (0.14, 0.40, 2.1),
    "generator_wrong": (0.0, 0.24, 3.9),
    "generator_shuffled": (0.03, 0.33, 2.6),
    "oracle_lora": (0.83, 0.88, 0.5),
}


def report(split: str = "heldout", generator_sha256: str = SHA) -> Report:
    """A whole report, with one part measured apart."""
    rows = tuple(
        ReportRow(
            row=row,
            mode=mode,
            split=split,
            holdout=holdout,
            score=score,
            low=max(0.0, score - 0.06),
            high=min(1.0, score + 0.07),
            unit="families",
            n_tasks=19,
            n_families=12,
            n_items=380,
            draws=3 if row == "generator" else 1,
            exact=score,
            format_share=min(1.0, score + 0.5),
            content_given_format=None,
            choice=None,
            nll=nll,
            per_category={"classify": score, "transform": score / 2, "sql": score / 3},
        )
        for holdout in ("", "primitive", "family")
        for row, (bare, full, nll) in _ROWS.items()
        for mode, score in _modes(bare, full)
    )
    return Report(
        command="dnd evaluate --tasks tasks --split heldout --out report",
        seed=0,
        split=split,
        data="19 invented tasks.",
        metric="each task's own metric",
        generator="fake",
        generator_sha256=generator_sha256,
        base="fake",
        n_tasks=19,
        n_families=12,
        trained_families_among_them=(),
        verdicts=(
            Verdict(
                name="depends_on_prompts",
                holds=True,
                good=True,
                mode="bare",
                words="Bare: the prompts carry the task. Generator .14 (.09 to .20), wrong "
                "prompts 0.",
            ),
            Verdict(
                name="beats_multi_task_lora",
                holds=False,
                good=False,
                mode="full",
                words="Full: no clear gain over one LoRA. Difference -.01 (-.06 to .04).",
            ),
            Verdict(
                name="matches_oracle", holds=None, good=None, mode="bare", words="Not measured."
            ),
        ),
        rows=rows,
        not_measured={},
        contrasts=(),
        gaps=tuple(
            Gap(mode=mode, holdout="", share=share, low=0.1, high=0.6, n_tasks=19)
            for mode, share in _modes(0.17, 0.45)
        ),
        operation_gain={
            "bare": OperationGain(
                mean=0.8,
                low=0.3,
                high=1.2,
                share_positive=0.8,
                n_tasks=19,
                left_out=(),
                per_task={},
            )
        },
        retention={},
        refine=None,
        equal_score=None,
        similarity=None,
        agreement=None,
        strongest_effect=None,
        cosine=Cosine(same_task=0.999, different_task=0.79),
        distances=Distances(),
        cost=Cost(),
        failures=(
            _failure(
                "title-case~json",
                "Title case, as JSON",
                '{"text": "Blue Door"}',
                "<b>blue</b>-door",
            ),
            _failure("weekday", "", "Tuesday", "2024-03-05"),
        ),
    )


def _modes(bare: float, full: float) -> tuple[tuple[Mode, float], ...]:
    return ("bare", bare), ("full", full)


def _failure(slug: str, description: str, wanted: str, got: str) -> Failure:
    return Failure(
        mode="bare",
        slug=slug,
        item=0,
        description=description,
        asked="",
        wanted=wanted,
        got=got,
        score=0.0,
    )
