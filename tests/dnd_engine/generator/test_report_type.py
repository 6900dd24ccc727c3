"""A report is read whole, from this version or an older one, or refused with its faults."""

import json
from typing import Any

import pytest

from dnd_engine.errors import GeneratorError
from dnd_engine.files import asset_path
from dnd_engine.generator.report import Report
from tests.reports import report

SHIPPED = asset_path("generators", "smollm2-135m-instruct", "reports")

CHANGED = {"retention", "ordinary", "distances", "cost"}
"""What version 0.1 wrote otherwise: one retention, nothing of ordinary messages, and in two groups
no keys for what was not measured."""


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.json")), ids=lambda path: path.stem)
def test_reports_of_the_shipped_generator_keep_every_number(path: Any) -> None:
    values = json.loads(path.read_text(encoding="utf-8"))
    again = Report.from_json(values).to_json()
    # Numbers that nothing read are no longer written.
    (values["similarity"] or {}).pop("gains", None)
    values.pop("substitution", None)
    for name in ("distributions", "n_adapters", "outside_span"):
        values["distances"].pop(name, None)
    for name in ("distribution", "leave_one_out", "nearest_task"):
        (values["distances"]["nearest"] or {}).pop(name, None)
    for row in values["rows"]:
        row.pop("per_draw", None)
    for name in values.keys() - CHANGED:
        assert again[name] == values[name], name
    for group in ("distances", "cost"):
        known = {name: value for name, value in values[group].items() if name in again[group]}
        assert set(known) == set(values[group])
    assert again["cost"] == {**again["cost"], **values["cost"]}
    near = again["distances"]["nearest"]
    assert near == (near and {**near, **values["distances"]["nearest"]})
    for name in ("retention", "ordinary"):
        assert again[name] == (values[name] if "ordinary" in values else {})


def test_a_report_comes_back_from_json() -> None:
    found = report()
    values = json.loads(json.dumps(found.to_json()))
    assert values["gap_closed"] == {"bare": 0.17, "full": 0.45}
    assert Report.from_json(values) == found
    assert Report.from_json(values | {"from_a_newer_version": 1}) == found


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"rows": [{"row": "base", "mode": "bare"}]}, "rows.0"),
        ({"rows": 3}, "rows"),
        ({"verdicts": [{"words": "no name"}]}, "verdicts.0.name"),
        ({"strongest_effect": "much"}, "strongest_effect"),
        ({"strongest_effect": True}, "strongest_effect"),
        ({"strongest_effect": float("nan")}, "strongest_effect"),
        ({"n_tasks": -1}, "n_tasks"),
        ({"n_tasks": "12"}, "n_tasks"),
        ({"agreement": {"bands": 3}}, "agreement.bands"),
        ({"similarity": {"tasks": []}}, "similarity.tasks"),
        ({"retention": 5}, "retention"),
        ({"equal_score": {"shortest_steps": 0}}, "equal_score.shortest_steps"),
        ({"operation_gain": {"sideways": {}}}, "operation_gain.sideways"),
    ],
)
def test_a_damaged_report_names_its_faults(change: dict[str, Any], place: str) -> None:
    with pytest.raises(GeneratorError, match=f"faults in a report's JSON: .*`{place}"):
        Report.from_json(report().to_json() | change)
