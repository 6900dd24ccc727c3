"""The map of where an adapter changed the weights."""

from collections.abc import Mapping, Sequence

from ui.markup import esc, facts, scrolling, table
from ui.text import _, number

# The style sheet has a colour for each, `.h0` to `.h4`.
_RAMP_STEPS = 5


def norms_html(norms: Mapping[str, Sequence[float]]) -> str:
    """Draw the weight-change map, with the numbers one click away."""
    values = [value for layers in norms.values() for value in layers]
    if not values:
        return ""
    low, high = min(values), max(values)
    num_layers = max(map(len, norms.values()))

    def step(value: float) -> int:
        # All norms may be equal. The largest would otherwise be a step beyond the last.
        return min(int(_RAMP_STEPS * (value - low) / ((high - low) or 1.0)), _RAMP_STEPS - 1)

    heat = "".join(
        f"<span class='dnd-heat-name'>{esc(name.removesuffix('_proj'))}</span>"
        + "".join(f"<i class='h{step(value)}'></i>" for value in layers)
        for name, layers in norms.items()
    )
    axis = "<span></span>" + "".join(
        f"<span class='dnd-heat-axis'>{layer if layer % 5 == 0 or layer == num_layers - 1 else ''}"
        "</span>"
        for layer in range(num_layers)
    )
    rows = "".join(
        f"<tr><th scope='row'>{esc(name)}</th>"
        + "".join(f"<td>{number(100 * value, '.2f')}</td>" for value in layers)
        + "</tr>"
        for name, layers in norms.items()
    )
    numbers = table(("", *map(str, range(num_layers))), rows)
    ends = [number(100 * end, ".2g") for end in (low, high)]
    title = _("Where the weights changed")
    label = _(
        "Relative weight change: from {low:.2g} to {high:.2g} per cent",
        low=100 * low,
        high=100 * high,
    )
    more = _(
        "Size of the change relative to the weights (‖ΔW‖ / ‖W‖), by layer and matrix. It shows "
        "where and how much, not how well."
    )
    ramp = "".join(f"<i class='h{level}'></i>" for level in range(_RAMP_STEPS))
    return (
        f"<details class='dnd-panel dnd-norms'><summary>{title}</summary>"
        f"{facts(more)}"
        f"<div class='dnd-heat' style='--layers:{num_layers}' role='img' "
        f"aria-label='{esc(label)}'>{heat}{axis}</div>"
        f"<p class='dnd-ramp'><span>{_('layer')}</span><span class='dnd-ramp-scale'>"
        f"{ends[0]} % {ramp} {ends[1]} %</span></p>"
        f"<details><summary>{_('All numbers, in per cent')}</summary>"
        f"{scrolling(title, numbers)}</details></details>"
    )
