"""Plans as text: all figures of one base, or one line per base."""

from collections.abc import Callable, Sequence

from dnd_engine.charts import clock, short
from dnd_engine.plan.costs import Figure, Plan
from dnd_engine.tables import aligned

_UNITS = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))

ASSUMPTIONS = (
    "Assumed: the shares of peak speed that GPUs reach, prices, the same recipe for every size "
    "(whether a large base needs more steps is not known), and machines that share work without "
    "loss. Not counted: encoding prompts, failed runs, people. Figures for several machines are "
    "what it would cost to split the base between them. This program splits it in training "
    "alone, with `shard_base` in the recipe, which was never tried on GPUs."
)


def amount(value: float) -> str:
    """Format a count with three significant figures and a prefix: 1.11 G."""
    for size, prefix in _UNITS:
        # Three significant figures round 999.5 up to the next prefix.
        if value >= 0.9995 * size:
            return f"{short(value / size)} {prefix}"
    # The space keeps a unit apart; callers without one strip it.
    return f"{value:.0f} "


def money(dollars: float) -> str:
    """Format dollars; small amounts with one significant figure."""
    if dollars >= 100:
        return f"${dollars:,.0f}"
    return f"${dollars:.2f}" if dollars >= 0.01 else f"${dollars:.1g}"


def _value(figure: Figure) -> str:
    value = figure.value
    if value is None:
        return "never"
    match figure.unit:
        case "s":
            return clock(value)
        case "$":
            return money(value)
        case "GB":
            return f"{short(value)} GB"
        case "FLOP" | "bytes" | "parameters":
            unit = {"FLOP": "FLOP", "bytes": "B", "parameters": ""}[figure.unit]
            return f"{amount(value)}{unit}".rstrip()
        case _:
            return f"{value:,.0f}"


def listing(plan: Plan) -> str:
    """List every figure of one plan with its source."""
    rows = [(f.title, _value(f), f.mark, f.note) for f in plan.figures]
    head = f"{plan.shape.name} on {plan.hardware.title}, r {plan.shape.layout.spec.r}"
    return "\n".join([head, "", *aligned(rows, "<><<"), "", ASSUMPTIONS])


def _known(key: str, write: Callable[[float], str]) -> Callable[[Plan], str]:
    def cell(plan: Plan) -> str:
        value = plan[key]
        return "never" if value is None else write(value).rstrip()

    return cell


_COLUMNS: tuple[tuple[str, Callable[[Plan], str]], ...] = (
    ("base", lambda plan: plan.shape.name.split("/")[-1].removesuffix("-Instruct")),
    ("LoRA", _known("lora_parameters", amount)),
    ("our decoder", _known("decoder", amount)),
    ("the paper's", _known("paper_decoder", amount)),
    ("machines", _known("training_cards", lambda value: f"{value:.0f}")),
    ("LoRA run", _known("lora_seconds", clock)),
    ("imprint", _known("imprint_seconds", clock)),
    ("training", _known("training_seconds", clock)),
    ("cost", _known("training_dollars", money)),
    ("the paper's training", _known("paper_training_dollars", money)),
    ("pays after", _known("break_even", lambda value: f"{value:,.0f} tasks")),
)


def table_rows(plans: Sequence[Plan]) -> list[list[str]]:
    """Return the names of the columns and the cells of each base."""
    head = [title for title, _ in _COLUMNS]
    return [head, *([write(plan) for _, write in _COLUMNS] for plan in plans)]


def table(plans: Sequence[Plan]) -> str:
    """Compare bases in a table of derived figures, one line each."""
    lines = aligned(table_rows(plans), f"<{'>' * (len(_COLUMNS) - 1)}")
    head = f"On {plans[0].hardware.title}, r {plans[0].shape.layout.spec.r}; all derived"
    return "\n".join([head, "", *lines, "", ASSUMPTIONS])
