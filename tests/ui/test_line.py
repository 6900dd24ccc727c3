"""The queue shows visitors how many runs are ahead, and how long they take."""

from ui.line import Line
from ui.stages import RunKind, Stages
from ui.text import said


class Clock:
    """Stands still until it is set."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time that was set."""
        return self.now


def ordered(line: Line, clock: Clock, kind: RunKind = "synthesis") -> tuple[Stages, str]:
    run = Stages(("wait", "read"), kind, clock)
    told = line.join(run)
    run.enter("wait", told)
    return run, said(told)


def test_who_waits_is_told_of_those_ahead_in_the_same_lane_and_of_measured_seconds() -> None:
    clock, line = Clock(), Line()
    first, told = ordered(line, clock)
    assert told == ""
    _second, told = ordered(line, clock)
    assert told == "1 ahead of you"  # nothing was measured yet
    assert ordered(line, clock, "imprint")[1] == ""
    clock.now = 5.0
    first.enter("read")
    clock.now = 15.0
    first.finish("done")
    third, told = ordered(line, clock)
    assert told == "1 ahead of you, about 10 s"
    assert "1 ahead of you, about 10 s" in third.html()


def test_seconds_that_a_run_has_worked_are_not_waited_for_again() -> None:
    clock, line = Clock(), Line()
    first, _ = ordered(line, clock)
    first.enter("read")
    clock.now = 10.0
    first.finish("done")
    second, _ = ordered(line, clock)
    second.enter("read")
    clock.now = 14.0
    assert ordered(line, clock)[1] == "1 ahead of you, about 6 s"
    assert ordered(line, clock, "remix")[1] == "2 ahead of you, about 16 s"


def test_nobody_waits_for_a_run_that_ended_or_was_left_in_the_queue() -> None:
    clock, line = Clock(), Line()
    stopped, _ = ordered(line, clock)
    stopped.finish("stopped")
    assert ordered(line, clock)[1] == ""
    clock.now = 1000.0
    long, told = ordered(line, clock)
    assert told == ""
    long.enter("read")
    clock.now = 2000.0
    assert ordered(line, clock)[1] == "1 ahead of you", "it works as long as it takes"


def test_who_has_waited_too_long_to_be_counted_is_not_told_of_later_ones() -> None:
    clock, line = Clock(), Line()
    first, _ = ordered(line, clock)
    first.enter("read")
    patient, told = ordered(line, clock)
    assert told
    clock.now = 1000.0
    ordered(line, clock)
    assert line.ahead_of(patient) == ""


def test_a_run_counts_for_as_long_as_its_page_asks() -> None:
    clock, line = Clock(), Line()
    closed, _ = ordered(line, clock)
    patient, _ = ordered(line, clock)
    for clock.now in range(0, 1001, 100):
        told = said(line.ahead_of(patient))
    assert told == ""
    assert closed.waits
    assert ordered(line, clock)[1] == "1 ahead of you"


def test_who_still_waits_is_told_how_much_is_left() -> None:
    clock, line = Clock(), Line()
    first, _ = ordered(line, clock)
    first.enter("read")
    clock.now = 10.0
    first.finish("done")
    second, _ = ordered(line, clock)
    third, _ = ordered(line, clock)
    fourth, _ = ordered(line, clock)
    second.enter("read")
    for now, told in ((11.0, "2 ahead of you, about 19 s"), (15.0, "2 ahead of you, about 15 s")):
        clock.now = now
        assert said(line.ahead_of(fourth)) == told
    second.finish("done")
    assert said(line.ahead_of(fourth)).startswith("1 ahead of you")
    assert third.waits
    third.wait(line.ahead_of(third))
    assert "Waiting for the engine" in third.html()
    third.enter("read")
    assert not third.waits
