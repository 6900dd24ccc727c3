"""Evidence of verdicts is read back from a report's text, for other languages."""

import pytest

from dnd_engine.evaluation.evidence import read_back
from dnd_engine.evaluation.verdicts import judge
from dnd_engine.notes import Note
from tests.dnd_engine.evaluation.test_verdicts import TASKS, bare
from tests.dnd_engine.synthetic import COSINE, DISTANCES, scores


def evidence(**rows: float) -> list[str]:
    """What is behind the verdicts that are shown: those that are decided."""
    found = judge(scores(bare(**rows), of=TASKS), COSINE, DISTANCES, seed=0)
    return [v.words.partition(". ")[2] for v in found if v.holds is not None]


@pytest.mark.parametrize("rows", [{}, {"generator": 0.1}, {"generator": 0.9}])
def test_what_is_behind_a_verdict_is_read_back_as_it_was_written(rows: dict[str, float]) -> None:
    found = evidence(**rows)
    assert len(found) > 4
    for text in found:
        assert read_back(text) == text


def test_values_and_names_of_rows_are_told_apart_from_their_sentence() -> None:
    note = read_back("Generator, imprinted .40, Base .01. Difference +.39 (.33 to .44).")
    both, difference = (part(sentence) for sentence in part(note).values.values())
    assert both.values["mean"] == ".40"
    assert part(both.values["row"]).messages == ("Generator, imprinted",)
    ends = {"mean": "+.39", "low": ".33", "high": ".44"}
    assert part(difference.values["difference"]).values == ends


def part(value: object) -> Note:
    assert isinstance(value, Note)
    return value


@pytest.mark.parametrize("text", ["", "Of another version.", "Difference: large. Over Base 1."])
def test_text_of_another_version_is_not_read(text: str) -> None:
    assert read_back(text) is None
