"""What several test folders share; the engine is imported only where it is used, as it is slow."""

import atexit
import gc
import inspect
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import is_dataclass
from functools import cache, partial
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, SimpleNamespace
from typing import TYPE_CHECKING, Any, get_type_hints
from unittest.mock import patch

import jaxtyping
import pytest
from hypothesis import settings
from jaxtyping import _import_hook as shape_checks

if TYPE_CHECKING:
    from dnd_engine.engine import Engine

Write = Callable[[str, str | bytes], Path]
"""Writes a file of the given name, and returns its path."""

# Python's own pace of collecting garbage takes a tenth of the time of tests without models.
gc.disable()

# No test may reach the model hub: what needs no hub must prove it, and what does fails fast.
os.environ["HF_HUB_OFFLINE"] = "1"

# Each process has its own visits, as each server has: tests count the folders there.
_VISITS = tempfile.TemporaryDirectory(prefix="dnd-test-visits-")
os.environ["GRADIO_TEMP_DIR"] = _VISITS.name

# Workers that find the same port free at once would take it from each other, so each has its own
# five hundred, below those that the system gives to connections.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
os.environ["GRADIO_SERVER_PORT"] = str(20_000 + 500 * _WORKER)

# Workers beside each other share the cores: threads of several would wait for one another. Tests
# that need two wait asleep, or they would take the core from the thread that they wait for. Torch
# reads this when it is imported, which no test file has done yet.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _get_code(loader: Any, name: str) -> CodeType | None:
    """Compile a module of ours with checks of shapes; its bytecode has a name of its own."""
    own = partial(shape_checks._optimized_cache_from_source, loader._typechecker.get_hash())
    with patch("importlib._bootstrap_external.cache_from_source", own):
        return SourceFileLoader.get_code(loader, name)


# jaxtyping 0.3 renames bytecode for as long as a module of ours runs, so also that of every library
# which the module imports: torch and transformers are then compiled from source, 10 to 20 s a
# process. Only the module's own bytecode needs the name.
_loader = pytest.MonkeyPatch()
_loader.setattr(shape_checks._JaxtypingLoader, "get_code", _get_code)
_loader.setattr(shape_checks._JaxtypingLoader, "exec_module", SourceFileLoader.exec_module)


def _checked(thing: Any = None, *, typechecker: Callable[[Any], Any]) -> Any:
    """Check the types of a function's calls, or of a dataclass's fields; shapes where it names any.

    In place of `jaxtyping.jaxtyped`, which binds and checks the arguments of each call twice, also
    where no array is: a third to a half of the processor time of tests without a browser.
    """
    if thing is None:
        return partial(_checked, typechecker=typechecker)
    if inspect.isclass(thing):
        if "__init__" in vars(thing) and is_dataclass(thing):
            init = _checked(vars(thing)["__init__"], typechecker=typechecker)
            thing.__init__ = init  # type: ignore[method-assign]  # as `dataclass` itself does
        return thing
    hints = inspect.get_annotations(thing)
    if any("jaxtyping" in repr(hint) or "[Tensor," in repr(hint) for hint in hints.values()):
        return _jaxtyped(thing, typechecker=typechecker)
    # As in jaxtyping: a name that only type checkers import fits everything.
    thing.__annotations__ = {
        name: _resolved(hint, thing.__globals__) for name, hint in hints.items()
    }
    return typechecker(thing)


def _resolved(hint: Any, names: dict[str, Any]) -> Any:
    """Return an annotation without quotes; `Any` if it names something unknown."""
    if isinstance(hint, type):
        return hint
    quoted = SimpleNamespace(__annotations__={"it": hint})
    try:
        return get_type_hints(quoted, names, include_extras=True)["it"]
    except (NameError, AttributeError, TypeError):  # also of a class that no runtime can subscript
        return Any


_jaxtyped = jaxtyping.jaxtyped
_loader.setattr(jaxtyping, "jaxtyped", _checked)

# On a busy machine any example may be slow; no test is about wall time. Examples are the same in
# every run, so that a test fails for what was changed and not by chance; `explore` draws new ones.
settings.register_profile("full", deadline=None, derandomize=True)
settings.register_profile("quick", deadline=None, derandomize=True, max_examples=20)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.register_profile("fuzz", deadline=None, max_examples=100_000)
settings.load_profile("full")

SLOW_SECONDS = 4.0
"""More processor time than that fails a test without a mark.

A test of 1 s on an idle core needs the mark `slow`. The rest is room for cores that share their
units with another worker: such a machine must not fail a test for itself. Nor must a slower one,
see `_slowness`."""

_LOOP_SECONDS = 0.09
"""Half of the processor time of the loop in `_slowness` on cores where tests take about twice as
long as on those that `SLOW_SECONDS` was set on, where the loop itself was not timed."""

MAY_BE_SLOW = frozenset({"real", "browser", "slow", "soak"})


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave `soak` out unless `-m` names it, and begin with the files that take longest.

    Each file stays in one worker, and with this order the workers end together. A marked test
    counts as fifty others.
    """
    # Not `-m "not soak"` among the default options, which any other `-m` would replace.
    if "soak" not in config.getoption("markexpr"):
        soak = [item for item in items if item.get_closest_marker("soak")]
        config.hook.pytest_deselected(items=soak)
        items[:] = [item for item in items if not item.get_closest_marker("soak")]
    weights: Counter[Path] = Counter()
    for item in items:
        marked = MAY_BE_SLOW & {mark.name for mark in item.iter_markers()}
        weights[item.path] += 50 if marked else 1
    items.sort(key=lambda item: -weights[item.path])
    # A browser on a shared machine can lose a click. In CI, one that fails twice is a fault; on a
    # desk, one that fails once is looked into.
    if "CI" in os.environ:
        for item in items:
            if item.get_closest_marker("browser"):
                item.add_marker(pytest.mark.flaky(reruns=1))


def pytest_collection_finish() -> None:
    """Begin to collect garbage, though not among the tests and modules that exist by now."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000)
    gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """End a worker without taking down a million objects one by one, which takes 7 s."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        atexit._run_exitfuncs()
        os._exit(0)  # the run has its results by now


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Fail an unmarked test that would make a quick run slow.

    By processor time, which other work on the machine does not lengthen as it does wall time. The
    first test to need a library loads it for all others, so its time says nothing.
    """
    seconds, modules = _processor_seconds(), len(sys.modules)
    yield
    seconds = _processor_seconds() - seconds
    loaded_a_library = len(sys.modules) - modules > 100
    marked = MAY_BE_SLOW & {mark.name for mark in item.iter_markers()}
    if marked or loaded_a_library or seconds <= SLOW_SECONDS:
        return
    if seconds > SLOW_SECONDS * _slowness():
        pytest.fail(
            f"took {seconds:.1f} s of processor time. Make it cheaper, for example with a session "
            "fixture, or mark it `slow`.",
            pytrace=False,
        )


@cache
def _slowness() -> float:
    """Return how many times as long this core takes as a usual one; at least 1."""
    times = []
    for _ in range(3):
        started = time.process_time()
        sum(number * number for number in range(2_000_000))
        times.append(time.process_time() - started)
    return max(1.0, min(times) / _LOOP_SECONDS)


def _processor_seconds() -> float:
    """Return the time of all threads of this process and of the processes it waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write files into the test's own folder."""

    def make(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return make


@pytest.fixture
def few_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight ordinary messages and four questions: all of them take most of an inspection's time."""
    from dnd_engine.checks import ordinary, skills

    messages, questions = ordinary.check_messages()[:8], skills.known_answers()[:4]
    monkeypatch.setattr(ordinary, "check_messages", lambda: messages)
    for module in (ordinary, skills):
        monkeypatch.setattr(module, "known_answers", lambda: questions)
    # What an engine remembers of the base belongs to all questions; the cache on disk has both.
    monkeypatch.setattr(
        "dnd_engine.synthesis.loaded.OrdinaryBaseline.answers",
        lambda self: ordinary.kept_base_answers(self._runtime, self._cache),
    )


@pytest.fixture(scope="session")
def real_engine() -> "Engine":
    """The embedded default, loaded once."""
    from dnd_engine.engine import Engine

    return Engine.load()


@pytest.fixture
def resident(real_engine: "Engine", monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever would load the default models finds them loaded."""
    monkeypatch.setattr(
        type(real_engine), "load", lambda config=None, on_progress=None: real_engine
    )
