"""Scales, labels and the SVG of charts."""

from xml.etree import ElementTree

import pytest

from dnd_engine.charts import (
    Line,
    Row,
    Scale,
    apart,
    clock,
    clock_scale,
    line_chart,
    row_chart,
    short,
    svg_file,
)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 5.1, (0, 2, 4, 6)),
        (0, 1.0, (0, 0.25, 0.5, 0.75, 1)),
        (0, 0.0, (0, 0.0025, 0.005, 0.0075, 0.01)),
        (-0.3, 1.2, (-0.5, 0, 0.5, 1, 1.5)),
    ],
)
def test_a_scale_ends_at_round_numbers(low: float, high: float, ticks: tuple[float, ...]) -> None:
    assert Scale.nice(low, high).ticks == pytest.approx(ticks)


def test_a_scale_of_one_huge_number_has_two_ends() -> None:
    scale = Scale.nice(1e17, 1e17)
    assert scale.low < scale.high


def test_a_log_scale_shows_whole_powers() -> None:
    scale = Scale.log(2e-5, 1)
    written = [scale.label(tick) for tick in scale.ticks]
    assert written == ["10⁻⁵", "10⁻⁴", ".001", ".01", ".1", "1"]
    assert scale.place(1e-5) == 0
    assert scale.place(1) == 1
    assert scale.place(0.001) == pytest.approx(2 / 5)


def test_a_scale_of_seconds_is_written_as_a_clock_shows_them() -> None:
    scale = clock_scale(0.005, 7200)
    written = [scale.label(tick) for tick in scale.ticks]
    assert written == ["10 ms", "100 ms", "1 s", "10 s", "1 min", "10 min", "1 h"]


@pytest.mark.parametrize(
    ("low", "high", "written"),
    [
        (12, 50, ["20 s", "30 s"]),
        (25, 70, ["30 s", "1 min"]),
        (70, 640, ["2 min", "5 min", "10 min"]),
        (12, 19, ["12 s", "19 s"]),
    ],
)
def test_a_short_scale_of_seconds_has_finer_ticks_or_shows_its_ends(
    low: float, high: float, written: list[str]
) -> None:
    """One tick alone says nothing of how long the axis is."""
    scale = clock_scale(low, high)
    assert [scale.label(tick) for tick in scale.ticks] == written


def test_what_rounds_up_to_a_thousand_is_written_so() -> None:
    assert [short(v) for v in (999.4, 999.7, -999.7)] == ["999", "1,000", "-1,000"]
    assert [short(v) for v in (2e9, -1e30)] == ["2,000,000,000", "-1e+30"]
    assert [clock(v) for v in (0.9994, 0.9996, 2000 * 86_400)] == ["999 ms", "1 s", "2,000 d"]


def test_numbers_below_one_have_no_leading_zero() -> None:
    assert [short(v) for v in (0.14, -0.003, 0, -2.5, 1234)] == [
        ".14",
        "-.003",
        "0",
        "-2.5",
        "1,234",
    ]


def test_labels_keep_apart_and_within_the_picture() -> None:
    placed = apart([(0.99, "b"), (0.2, "a"), (1.0, "c")], 0.1)
    assert [name for _, name in placed] == ["a", "b", "c"]
    assert [y for y, _ in placed] == pytest.approx([0.11, 0.9, 1])


def test_a_long_line_keeps_its_extremes_and_its_end() -> None:
    points = [(n, 5.0 if n == 4321 else 1.0) for n in range(10_000)]
    scales = Scale(0, 10_000, (0,)), Scale(0, 10, (0,))
    path = line_chart([Line(points, "own")], *scales, "told").body.split("d='M")[1].split("'")[0]
    assert path.count("L") < 500
    assert "432.1 85.00" in path  # half of 170 pixels
    assert path.endswith("999.9 153.00")


def test_many_whiskers_are_all_there() -> None:
    points = [(n / 999, 0.5) for n in range(1000)]
    line = Line(points, "own", whiskers=[(0, 0.5)] * 1000)
    assert line_chart([line], Scale.share(), Scale.share(), "").body.count("'whisker") == 1000


def test_words_are_escaped_in_files_and_on_pages() -> None:
    evil = "<img src=x onerror=alert('1')>&"
    row = Row(evil, evil, "own", marks=[(0.5, "own")], tooltip=evil)
    rows = row_chart([row], Scale.share(), evil, axis=evil).titled(evil, evil)
    lines = line_chart([Line([(0, 1)], "own", evil)], Scale.share(), Scale.share(), evil)
    for drawn in (svg_file([rows, lines], heading=evil), rows.html(), lines.html()):
        assert "<img" not in drawn
        ElementTree.fromstring(drawn)


def test_a_point_alone_is_a_mark_and_many_are_a_line() -> None:
    alone = line_chart([Line([(1, 1)], "own")], Scale.share(), Scale.share(), "told").body
    many = [(n / 99, 0.5) for n in range(99)]
    drawn = line_chart([Line(many, "own", style="marked")], Scale.share(), Scale.share(), "").body
    assert (alone.count("<circle"), alone.count("<path")) == (1, 0)
    assert (drawn.count("<circle"), drawn.count("<path")) == (0, 1)
