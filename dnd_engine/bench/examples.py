"""Measures the shipped examples again and writes what was found beside them.

    python -m dnd_engine.bench.examples

Each example, and all of them together, is made as the page makes it by default, then forecast and
checked. Run it after an example, the generator or a check has changed. It works on a checkout.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace

from dnd_engine.checks.examples import RESULT, ExampleResult
from dnd_engine.engine import Engine
from dnd_engine.files import asset_path, write_whole
from dnd_engine.prompts.buckets import Bucket
from dnd_engine.prompts.examples import TOGETHER, load_examples


def all_together() -> list[Bucket]:
    """Return the buckets that the page makes of all examples."""
    return [replace(example.read(), weight=example.weight) for example in load_examples()]


def measure_example(engine: Engine, buckets: Sequence[Bucket]) -> ExampleResult:
    """Make the adapter of one example or several, forecast one and check the adapter."""
    forecast = engine.forecast(buckets[0]) if len(buckets) == 1 else None
    found = engine.inspect(engine.generate(buckets), buckets)
    # All examples have instructions and inputs.
    assert found.verdict is not None
    assert found.skills is not None
    return ExampleResult(forecast=forecast, verdict=found.verdict, skills=found.skills)


def main() -> None:
    """Measure all examples, print their verdicts, and rewrite the files that hold them."""
    path = asset_path("examples", "examples.json")
    listed = json.loads(path.read_text(encoding="utf-8"))
    engine = Engine.load()

    def measured(name: str, buckets: Sequence[Bucket]) -> object:
        found = measure_example(engine, buckets)
        sure = f"{found.forecast.sure}. " if found.forecast else ""
        words = f"{found.verdict.head} {found.verdict.reasons[0]} {found.skills.sentence}"
        sys.stdout.write(f"{name}: {sure}{words}\n")
        return RESULT.dump_python(found, mode="json")

    for entry, example in zip(listed, load_examples(), strict=True):
        entry["measured"] = measured(example.id, [example.read()])
    together = measured("together", all_together())
    for target, values in ((path, listed), (path.with_name(TOGETHER), together)):
        write_whole(target, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
