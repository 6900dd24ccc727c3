"""Charts of plans over the size of the base."""

from collections.abc import Callable, Sequence

from dnd_engine.charts import Chart, Line, Look, Scale, clock, line_chart, svg_file
from dnd_engine.plan.costs import Plan
from dnd_engine.plan.words import amount, money

_Series = tuple[str, str, Look]
"""Key, label and look of a figure."""

_CHARTS: tuple[tuple[str, str, Callable[[float], str], tuple[_Series, ...]], ...] = (
    (
        "Sizes",
        "parameters",
        amount,
        (
            ("parameters", "the base", "base"),
            ("paper_decoder", "the paper's decoder", "other"),
            ("decoder", "our decoder", "own"),
            ("lora_parameters", "one LoRA", "labels"),
        ),
    ),
    (
        "Wall time",
        "if the machines that hold it could share it",
        clock,
        (
            ("paper_training_seconds", "the paper's training", "other"),
            ("training_seconds", "our training", "own"),
            ("lora_seconds", "one LoRA run", "labels"),
            ("imprint_seconds", "one imprint", "also"),
        ),
    ),
    (
        "Money",
        "dollars, at the table's prices",
        money,
        (
            ("paper_training_dollars", "the paper's training", "other"),
            ("collection_dollars", "collecting LoRAs", "base"),
            ("training_dollars", "our training", "own"),
        ),
    ),
)


def draw(plans: Sequence[Plan]) -> str:
    """Draw plans for one machine: sizes, time and money over the base's parameters.

    Both axes are logarithmic.
    """
    plans = sorted(plans, key=lambda plan: plan.shape.parameters)
    charts = [chart for parts in _CHARTS if (chart := _chart(plans, *parts))]
    return svg_file(charts, f"What a generator costs on {plans[0].hardware.title}, derived")


def _chart(
    plans: Sequence[Plan],
    title: str,
    unit: str,
    write: Callable[[float], str],
    series: Sequence[_Series],
) -> Chart | None:
    lines = []
    for key, label, look in series:
        points = [(float(plan.shape.parameters), plan[key]) for plan in plans]
        # A logarithmic axis has no zero.
        if known := [(x, y) for x, y in points if y]:
            lines.append(Line(known, look, label, "marked"))
    # A machine of one's own may cost nothing an hour.
    if not lines:
        return None
    values = [y for line in lines for _, y in line.points]
    sizes = [plan.shape.parameters for plan in plans]
    ends = "; ".join(f"{line.label} up to {write(line.points[-1][1])}" for line in lines)
    return line_chart(
        lines,
        Scale.log(0.99 * min(sizes), 1.01 * max(sizes), amount),
        Scale.log(0.99 * min(values), 1.01 * max(values), write),
        f"{title}, {unit}: {ends}",
        axis="parameters of the base",
    ).titled(title, unit)
