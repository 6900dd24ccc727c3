"""Measures the shipped examples again and writes what was found beside them.

    python -m dnd_engine.bench.examples

Each example is made as the page makes it by default, then forecast and checked. Run it after an
example, the generator or a check has changed. It works on a checkout.
"""

import json
import sys

from dnd_engine.checks.examples import RESULT, ExampleResult
from dnd_engine.engine import Engine
from dnd_engine.files import asset_path, write_whole
from dnd_engine.prompts.examples import ExampleBucket, load_examples


def measure_example(engine: Engine, example: ExampleBucket) -> ExampleResult:
    """Make an example's adapter, and forecast and check it."""
    bucket = example.read()
    forecast = engine.forecast(bucket)
    found = engine.inspect(engine.generate([bucket]), [bucket])
    # All examples have instructions and inputs, and the shipped generator has a teacher.
    assert forecast is not None
    assert found.verdict is not None
    assert found.skills is not None
    return ExampleResult(forecast=forecast, verdict=found.verdict, skills=found.skills)


def main() -> None:
    """Measure every example, print its verdict, and rewrite their list."""
    path = asset_path("examples", "examples.json")
    listed = json.loads(path.read_text(encoding="utf-8"))
    engine = Engine.load()
    for entry, example in zip(listed, load_examples(), strict=True):
        found = measure_example(engine, example)
        entry["measured"] = RESULT.dump_python(found, mode="json")
        sys.stdout.write(
            f"{example.id}: {found.forecast.sure} ({found.forecast.sureness:.2f}). "
            f"{found.verdict.head} {found.verdict.reasons[0]} {found.skills.sentence}\n"
        )
    write_whole(path, json.dumps(listed, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
