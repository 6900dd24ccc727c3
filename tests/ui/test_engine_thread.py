"""One thread computes, as long as it can."""

import contextvars
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import gradio as gr
import pytest

from dnd_engine.errors import DndError
from dnd_engine.progress import Progress
from tests.ui.fake_engine import FakeEngine, handle_of
from tests.ui.orders import chat, make
from tests.until import until
from ui.canvas import Arrangement
from ui.engine_handle import EngineHandle
from ui.engine_thread import EngineThread, Stop
from ui.handlers import Handlers
from ui.state import Session

Arrange = Callable[..., Arrangement]
RequestOf = Callable[[str], gr.Request]


@pytest.fixture
def thread() -> EngineThread:
    return EngineThread()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has just been done is waited for, however long a slow machine takes to report it."""
    monkeypatch.setattr("ui.engine_thread._GRACE_SECONDS", 120.0)


@pytest.fixture
def go() -> Iterator[threading.Event]:
    """Lets work end that `hold` began."""
    event = threading.Event()
    yield event
    event.set()


def hold(thread: EngineThread, go: threading.Event) -> None:
    begun = threading.Event()

    def work() -> None:
        begun.set()
        go.wait(60)

    thread.start(work)
    assert begun.wait(60)


def here() -> int:
    return threading.get_ident()


def test_each_thread_is_prepared_before_it_computes(
    thread: EngineThread, go: threading.Event
) -> None:
    prepared: list[int] = []
    thread.prepare = lambda: prepared.append(threading.get_ident())
    hold(thread, go)  # so that the next work gets a thread of its own
    beside = thread.run(here)
    assert len(prepared) == 2
    assert prepared[1] == beside
    assert prepared[0] != beside


def fail() -> None:
    raise ZeroDivisionError


def seen_by_others(call: Callable[[], int]) -> set[int]:
    """What several threads at once get from a call, one after the other."""
    found: set[int] = set()
    for _ in range(4):
        caller = threading.Thread(target=lambda: found.add(call()))
        caller.start()
        caller.join()
    return found


@pytest.mark.usefixtures("patient")
def test_whoever_calls_the_same_thread_computes(thread: EngineThread) -> None:
    (one,) = seen_by_others(lambda: thread.run(here))
    steps = (here() for _ in "ab")
    assert list(thread.ticking(steps, Stop())) == [one, one]
    assert here() != one


def test_while_it_is_busy_others_compute_and_end_with_their_work(
    thread: EngineThread, go: threading.Event
) -> None:
    stays = thread.run(here)
    hold(thread, go)
    beside = thread.run(threading.current_thread)
    assert beside.ident != stays
    beside.join(60)
    assert not beside.is_alive()
    go.set()
    until(lambda: thread.run(here) == stays)


def test_what_computes_already_goes_on_where_it_is(thread: EngineThread) -> None:
    one, other = thread.run(lambda: (here(), thread.run(here)))
    assert one == other


def test_a_failure_comes_back_and_the_thread_stays(thread: EngineThread) -> None:
    stays = thread.run(here)
    with pytest.raises(ZeroDivisionError):
        thread.run(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        next(thread.ticking((1 / 0 for _ in "a"), Stop()))
    thread.start(fail)
    until(lambda: thread.run(here) == stays)


def test_the_callers_context_goes_along(thread: EngineThread) -> None:
    visitor = contextvars.ContextVar("visitor", default="nobody")
    visitor.set("somebody")
    assert thread.run(visitor.get) == "somebody"
    assert next(thread.ticking((visitor.get() for _ in "a"), Stop())) == "somebody"


ENDS = """
import threading, time
from ui.engine_thread import EngineThread, Stop
thread = EngineThread()
begun, stepped = threading.Event(), threading.Event()
def steps():
    begun.set()
    for step in range(1000):
        thread.ending.wait()
        time.sleep(0.1)
        print("step", step, flush=True)
        stepped.set()
        yield step
def work():
    stepped.wait()
    time.sleep(0.2)
    print("whole", flush=True)
stop = Stop()
threading.Thread(target=lambda: list(thread.ticking(steps(), stop)), daemon=True).start()
begun.wait()
thread.start(work)
print("end", flush=True)
"""


def test_a_process_that_ends_waits_for_the_step_that_is_computed() -> None:
    """Cut off inside of torch, a thread aborts the process."""
    done = subprocess.run(
        [sys.executable, "-c", ENDS], capture_output=True, text=True, timeout=300, check=True
    )
    assert done.stdout.splitlines() == ["end", "step 0", "whole"]
    assert done.stderr == "Waiting for what is being computed\n"


@pytest.mark.usefixtures("patient")
def test_work_beside_leaves_the_thread_free(thread: EngineThread) -> None:
    stays = thread.run(here)
    steps = thread.ticking((here() for _ in "ab"), Stop(), beside=True)
    assert next(steps) != stays
    assert thread.run(here) == stays


def test_a_load_ends_with_the_process() -> None:
    told: list[float] = []

    def load(on_progress: Callable[[Progress], None]) -> FakeEngine:
        for share in (0.1, 0.2):
            on_progress(Progress("download", share, 1.0, "download"))
            told.append(share)
            handle.thread.ending.set()
        return FakeEngine()

    handle = EngineHandle(load)
    handle.start()
    with pytest.raises(DndError, match="The process ends"):
        handle.wait(60)
    assert told == [0.1]


def test_a_failed_load_keeps_nothing_of_those_who_waited() -> None:
    def load(_report: object) -> FakeEngine:
        raise DndError("no such model.")

    handle = EngineHandle(load)
    handle.start()

    def waited() -> int:
        with pytest.raises(DndError, match="no such model") as failed:
            handle.wait(60)
        return len(failed.traceback)

    assert len({waited() for _ in range(5)}) == 1


def test_nothing_is_begun_once_the_process_ends(thread: EngineThread) -> None:
    thread.ending.set()
    with pytest.raises(RuntimeError, match="the process ends"):
        thread.run(here)


@pytest.mark.usefixtures("patient")
def test_the_engine_is_warmed_up_in_its_thread_before_it_is_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    warmed: list[int] = []
    engine = FakeEngine()
    monkeypatch.setattr(engine, "warm_up", lambda: warmed.append(here()))
    handle = handle_of(engine)
    handle.start()
    assert handle.wait(60) is engine
    assert warmed == [handle.thread.run(here)]


def test_memory_that_loading_freed_is_given_back_before_the_engine_is_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And once more after ordinary answers are measured, which the first start does."""
    engine, seen = FakeEngine(), queue.SimpleQueue[str]()
    handle = handle_of(engine)
    monkeypatch.setattr("ui.engine_handle.give_back", lambda: seen.put(handle.snapshot().status))
    handle.start()
    assert [seen.get(timeout=60) for _ in range(2)] == ["loading", "ready"]


@pytest.mark.parametrize(("seconds", "times"), [(0.0, 3), (60.0, 0)])
def test_long_work_gives_memory_back_when_it_ends(
    thread: EngineThread, monkeypatch: pytest.MonkeyPatch, seconds: float, times: int
) -> None:
    own: set[int] = set()
    seen: list[int] = []
    thread.prepare = lambda: own.add(here())
    monkeypatch.setattr("ui.engine_thread._LONG_SECONDS", seconds)
    monkeypatch.setattr("ui.engine_thread.give_back", lambda: seen.append(here()))
    thread.run(here)
    assert len(list(thread.ticking((here() for _ in "ab"), Stop()))) == 2
    thread.start(fail)
    # The engine of an earlier test may end something at this moment, too.
    until(lambda: sum(one in own for one in seen) == times)


def test_an_engine_that_does_not_warm_up_is_used_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = FakeEngine()
    monkeypatch.setattr(engine, "warm_up", fail)
    handle = handle_of(engine)
    handle.start()
    assert handle.wait(60) is engine


def test_ordinary_answers_are_measured_once_the_engine_is_ready(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = FakeEngine()
    ready: queue.SimpleQueue[str] = queue.SimpleQueue()

    def measure() -> Iterator[None]:
        ready.put(handle.snapshot().status)
        yield
        fail()

    monkeypatch.setattr(engine, "measure_ordinary", measure)
    handle = handle_of(engine)
    handle.start()
    assert ready.get(timeout=60) == "ready"
    until(lambda: "the first imprint will do it" in caplog.text)
    assert handle.engine is engine


@pytest.mark.usefixtures("patient")
def test_all_that_a_visit_orders_is_computed_in_one_thread(
    on: Handlers, engine: FakeEngine, arrange: Arrange, request_of: RequestOf
) -> None:
    session = Session()
    make(on, session, arrange(SQL={"a.txt": "one\n"}), request_of("s"))
    on.adapter.check(session)
    list(on.adapter.prove(session))
    on.adapter.prepare_download(session, request_of("s"))
    chat(on, session, "What?")
    assert len(engine.threads) == 1
