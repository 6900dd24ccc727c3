"""A real Chromium and server, and an engine without models; `test_real.py` has the real one."""

# ruff: noqa: D102 - the names say it

import io
import logging
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import (
    APIResponse,
    Browser,
    FloatRect,
    Locator,
    Page,
    Route,
    ViewportSize,
    expect,
)

from tests.serving import serving
from tests.ui.fake_engine import FakeEngine, handle_of
from tests.until import until
from ui.engine_handle import EngineHandle
from ui.owner import Owner

logger = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]
ARTIFACTS = ROOT / "test-artifacts"
TAKE_PICTURES = bool(os.environ.get("DND_UPDATE_PICTURES"))
TAKE_SHOTS = bool(os.environ.get("DND_SHOTS"))
DESK = ViewportSize(width=1440, height=900)
PHONE = ViewportSize(width=390, height=844)
_CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
LAUNCH: dict[str, Any] = {
    "args": ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"],
    **({"executable_path": _CHROMIUM} if _CHROMIUM else {}),
}
"""How Chromium is started: the system's where there is one."""

MAX_MS = 120_000
"""How long anything may take: a slow or busy machine is no fault."""
expect.set_options(timeout=MAX_MS)

AT_REST = """() => Promise.race([
    Promise.all([
        ...document.getAnimations()
            .filter((one) => one.effect?.getComputedTiming().endTime !== Infinity)
            .map((one) => one.finished.catch(() => null)),
        new Promise((done) => requestAnimationFrame(() => requestIdleCallback(done))),
    ]),
    new Promise((done) => setTimeout(done, 5000)),
]).then(() => null)"""
"""Wait until what moves has arrived and the page has nothing left to do."""

_BROKEN_OFF = ("AbortError", "Connection errored out", "404: Not Found")
"""What Gradio says of streams that the end of a page breaks off, some of it only after a while."""

_DROPS = """() => {
    if (window.testDrops === undefined) {
        window.testDrops = 0;
        window.addEventListener("drop", () => { window.testDrops += 1; }, true);
    }
    return window.testDrops;
}"""
"""How many drops the page was told of since this was asked first."""

_OPENED = """(() => {
    const keep = Storage.prototype.setItem;
    Storage.prototype.setItem = function (name, value) {
        keep.call(this, name, value);
        window.testOpened ||= name === "dnd-visit-shown";
    };
})()"""
"""Note that the page has its visit."""

_EVENTS_OF = """(handler) => window.gradio_config.dependencies
    .filter((one) => String(one.api_name).replace(/_\\d+$/, "") === handler)
    .map((one) => one.id)"""
"""Numbers of the events that a handler answers."""

_STORES = "cookies,file_systems,indexeddb,local_storage,service_workers,websql"
"""What Chromium is to clear of an origin: all but what it has loaded and compiled."""

_UNANSWERED = """() => {
    const left = document.querySelector("#dnd-pane-left");
    return left.querySelectorAll(".dnd-asked").length
        - left.querySelectorAll(".dnd-answer, .is-error").length
        + document.querySelectorAll("#dnd-panes .dnd-cursor").length;
}"""


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    return {**browser_type_launch_args, **LAUNCH}


@pytest.fixture(scope="session")
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture(scope="session")
def app_url(engine: FakeEngine) -> Iterator[str]:
    with serving(handle_of(engine)) as url:
        yield url


Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a server of the test's own; it goes after the pages that `visits` closes."""
    with ExitStack() as servers:

        def start(handle: EngineHandle, **options: Any) -> str:
            return servers.enter_context(serving(handle, **options))

        yield start


@dataclass
class Visit:
    """One visitor: a browser context of their own, watched for errors and outside requests."""

    page: Page
    url: str
    console: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    left: bool = False
    """The page before this one may still complain of streams that its end broke off."""

    def hear(self, said: str) -> None:
        if not (self.left and any(word in said for word in _BROKEN_OFF)):
            self.console.append(said)

    def bucket(self, name: str) -> Locator:
        title = f"input[aria-label='Bucket name, {name}']"
        return self.page.locator(".dnd-bucket").filter(has=self.page.locator(title))

    def card(self, name: str, within: str | None = None) -> Locator:
        root = self.bucket(within) if within else self.page
        return root.locator(".dnd-card").filter(has=self.page.get_by_text(name, exact=True))

    def has(self, bucket: str, *names: str) -> None:
        """Wait until a bucket has these files and no others."""
        expect(self.bucket(bucket).locator(".dnd-name")).to_have_text(list(names))

    def box(self, of: Locator) -> FloatRect:
        """Where something is, once it stays there."""
        self.page.evaluate(AT_REST)
        found: list[FloatRect] = []

        def is_found() -> bool:
            # There is none in the moment in which something is drawn again.
            box = of.bounding_box()
            found.extend([box] if box else [])
            return box is not None

        until(is_found)
        return found[0]

    def drop(self, paths: list[Path], bucket: str) -> None:
        """Drop files on a bucket; it is made first if there is none of this name."""
        if self.bucket(bucket).count():
            self.drop_on(self.bucket(bucket), paths)
        elif self.page.locator(".dnd-zone").is_visible():
            self.drop_on(
                self.page.locator(".dnd-zone"), paths, mark=self.page.locator(".dnd-canvas")
            )
            self.rename(self.page.locator(".dnd-title"), bucket)
        else:
            self.add_bucket(bucket)
            self.drop_on(self.bucket(bucket), paths)

    def add_first(self, path: Path) -> None:
        """Drop a file on the empty canvas."""
        self.drop_on(self.page.locator(".dnd-zone"), [path], self.page.locator(".dnd-canvas"))
        self.ready(path.name)

    def add_bucket(self, name: str) -> None:
        self.page.get_by_role("button", name="Add bucket").click()
        self.rename(self.page.locator(".dnd-title").last, name)

    def rename(self, title: Locator, name: str) -> None:
        title.fill(name)
        title.press("Enter")
        expect(self.bucket(name)).to_be_visible()

    def drop_on(
        self,
        target: Locator,
        paths: list[Path],
        mark: Locator | None = None,
        *,
        marks: bool = True,
    ) -> None:
        """Drop files as the operating system delivers them.

        Like a person: over a place until what will take them is marked, wherever the page has
        moved it by then, and only then let go. Gradio's own places mark nothing. Chromium does
        not tell the page of files that are let go before it has heard that the page takes them,
        as happens on a busy machine; then they are dragged once more.
        """
        names = [str(path) for path in paths]
        for _ in range(3):
            before = self.page.evaluate(_DROPS)
            self._drag(target, {"items": [], "files": names}, mark or target, marks=marks)
            for _ in range(200):
                if self.page.evaluate(_DROPS) > before:
                    return
                self.page.wait_for_timeout(100)
        raise AssertionError(f"the page was never told of a drop on {target}")

    def drop_text(self, target: Locator, text: str) -> None:
        """Drop text that was selected on another page."""
        items = [{"mimeType": "text/plain", "data": text}]
        self._drag(target, {"items": items}, target, marks=True)

    def _drag(
        self, target: Locator, carried: dict[str, Any], marked: Locator, *, marks: bool
    ) -> None:
        data = {**carried, "dragOperationsMask": 1}
        session = self.page.context.new_cdp_session(self.page)

        def drag(kind: str) -> None:
            # Each time, because the page may scroll to what it has just made.
            target.scroll_into_view_if_needed()
            box, size = self.box(target), self.page.viewport_size
            assert size is not None
            # Over what the window shows of it.
            top, end = max(box["y"], 0), min(box["y"] + box["height"], size["height"])
            where = {"x": box["x"] + box["width"] / 2, "y": top + min((end - top) / 2, 120)}
            session.send("Input.dispatchDragEvent", {"type": kind, **where, "data": data})

        drag("dragEnter")
        for _ in range(MAX_MS // 100):
            drag("dragOver")
            if not marks or "is-target" in (marked.get_attribute("class") or "").split():
                break
            self.page.wait_for_timeout(100)
        else:
            raise AssertionError(f"{marked} was never marked under the files")
        drag("drop")
        session.detach()

    def ready(self, name: str) -> Locator:
        card = self.card(name)
        expect(card).to_have_class(has_class("is-ready"))
        return card

    def synthesize(self) -> None:
        self.page.locator("#dnd-synthesize").click()
        expect(self.page.locator("#dnd-download")).to_contain_text("Download")
        expect(self.page.locator("#dnd-download")).to_be_enabled()

    def enter(self, field: Locator, value: str) -> None:
        """Type into a field that was just unfolded.

        Gradio mounts it, then sets its default a moment later, which undoes what a script, though
        no person, has typed by then. So: type until it stays.
        """
        for _ in range(20):
            field.fill(value)
            field.press("Tab")
            self.page.wait_for_timeout(150)
            self.page.evaluate(AT_REST)
            if field.input_value() == value:
                return
        raise AssertionError(f"the field still shows {field.input_value()!r}, not {value!r}")

    def ask(self, question: str) -> None:
        asked = self.page.locator("#dnd-pane-left .dnd-asked")
        before = asked.count()
        self.page.locator("#dnd-box textarea").fill(question)
        self.page.locator("#dnd-send").click()
        expect(asked).to_have_count(before + 1)

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait for what the server does, whenever it gets to it."""
        for _ in range(MAX_MS // 50):
            if holds():
                return
            self.page.wait_for_timeout(50)
        raise AssertionError("the server did not get to it")

    def until_still(self, count: Callable[[], int], seconds: float) -> None:
        """Wait until a count stays the same for so long; one that goes on counting never does."""
        for _ in range(5):
            before = count()
            self.page.wait_for_timeout(1000 * seconds)
            if count() == before:
                return
        raise AssertionError(f"it still counts: {count()}")

    def reload(self) -> None:
        """Load the page again.

        The old one complains of streams that this breaks off, which is no fault.
        """
        self.page.reload()
        self.forgive_what_broke_off()

    def revisit(self, address: str = "") -> None:
        """Open the page at an address once more, from the page that is open."""
        self.page.goto(f"{self.url}/{address}")
        self.forgive_what_broke_off()

    def opened(self) -> None:
        """Wait until the page has its visit: before, that may undo what a test does."""
        expect(self.page.locator(".dnd-canvas:not(.is-unsaid)")).to_be_attached()
        self.until(lambda: self.page.evaluate("window.testOpened === true"))

    def forgive_what_broke_off(self) -> None:
        self.opened()
        self.left, heard = True, self.console
        self.console = []
        for said in heard:
            self.hear(said)

    def keep_back(self, handler: str) -> Callable[[], None]:
        """Keep back what a handler answers, as a busy machine may; return what delivers it."""
        numbers = self.page.evaluate(_EVENTS_OF, handler)
        assert numbers, handler
        kept: list[tuple[Route, APIResponse]] = []

        def keep(route: Route) -> None:
            answer = route.fetch()
            if (route.request.post_data_json or {}).get("fn_index") in numbers:
                kept.append((route, answer))
            else:
                route.fulfill(response=answer)

        def deliver() -> None:
            self.until(lambda: len(kept) > 0)
            for route, answer in kept:
                route.fulfill(response=answer)
            self.page.unroute("**/gradio_api/run/**", keep)
            self.page.evaluate(AT_REST)

        self.page.route("**/gradio_api/run/**", keep)
        return deliver

    def bring(self, path: Path) -> None:
        """Import a file into the library."""
        with self.page.expect_file_chooser() as chooser:
            self.page.locator("#dnd-import").click()
        chooser.value.set_files(path)

    def answer(self, side: str) -> Locator:
        return self.page.locator(f"#dnd-pane-{side} .dnd-answer-text").last

    def idle(self) -> None:
        """Wait until all that was asked is answered."""
        self.until(lambda: self.page.evaluate(_UNANSWERED) == 0)
        expect(self.page.locator("#dnd-send")).to_be_visible()

    def shot(self, name: str, *, full: bool = True) -> None:
        """Photograph a state to look at, where that is asked for."""
        if TAKE_SHOTS:
            self.photograph(name, full=full)

    def photograph(self, name: str, *, full: bool = True) -> None:
        ARTIFACTS.mkdir(exist_ok=True)
        self.page.screenshot(path=ARTIFACTS / f"{name}.png", full_page=full)

    def picture(self, path: str, height: int = DESK["height"]) -> None:
        """Photograph the top of the page for the documentation, where that is asked for.

        Of real models only, never the fake's invented numbers.
        """
        if not TAKE_PICTURES:
            return
        expect(self.page.locator(".dnd-chip code")).to_have_count(1, timeout=300_000)  # loaded
        width = DESK["width"]
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.evaluate("window.scrollTo(0, 0)")
        self.page.wait_for_timeout(500)
        target = ROOT / path
        target.parent.mkdir(exist_ok=True)
        photograph = Image.open(io.BytesIO(self.page.screenshot()))
        # A palette is enough for a page of few colours, and a third of the size.
        photograph.quantize(256).save(target, optimize=True)
        self.page.set_viewport_size(DESK)

    def check_accessible(self) -> None:
        """Nothing serious for axe, and nothing wider than the screen."""
        for _ in range(3):  # what is drawn again meanwhile may be seen half drawn, but only once
            # Colours in transition, and words half under the sticky bar, have no contrast.
            self.page.evaluate("window.scrollTo(0, document.documentElement.scrollHeight)")
            self.page.evaluate(AT_REST)
            found = Axe().run(
                self.page,
                options={
                    "resultTypes": ["violations"],
                    # Off by default as an experiment of axe. Voice-control users say the visible
                    # text, so the accessible name must contain it (WCAG 2.5.3).
                    "rules": {"label-content-name-mismatch": {"enabled": True}},
                },
            )
            serious = [
                (violation["id"], [node["html"][:160] for node in violation["nodes"]])
                for violation in found.response["violations"]
                if violation["impact"] in ("serious", "critical")
            ]
            if not serious:
                break
        assert serious == []
        wider = "document.documentElement.scrollWidth - innerWidth"
        self.until(lambda: self.page.evaluate(wider) <= 0)


def has_class(name: str) -> Any:
    """Match one class among others."""
    import re

    return re.compile(rf"(^|\s){name}(\s|$)")


_LASTING = (
    *("add_init_script", "add_locator_handler", "emulate_media", "expose_binding"),
    *("expose_function", "grant_permissions", "new_cdp_session", "on", "once", "route"),
    "set_offline",
)
"""What a test may do to a page or its context that another test would notice."""


class Tab:
    """A page of its own browser context, which one test after another may use.

    A new context has nothing compiled and its page a process of its own: opening the app there
    takes nearly twice the processor time.
    """

    def __init__(self, browser: Browser, context: dict[str, Any]) -> None:
        self._context = browser.new_context(**context)
        self._context.set_default_timeout(MAX_MS)  # of all its tabs
        self._context.add_init_script(_OPENED)
        self.page = self._context.new_page()
        self._devtools = self._context.new_cdp_session(self.page)
        self._origins: set[str] = set()
        self._visit: Visit | None = None
        self.page.on("request", self._on_request)
        self.page.on("pageerror", lambda error: self._hear(f"page: {error}"))
        self.page.on(
            "console", lambda said: self._hear(said.text) if said.type == "error" else None
        )
        self._is_altered = False
        for of in (self.page, self._context):
            for name in _LASTING:
                if hasattr(of, name):
                    setattr(of, name, self._noting(getattr(of, name)))

    def visit(self, url: str, address: str, size: ViewportSize) -> Visit:
        """Open the app as somebody who was never there."""
        self.page.set_viewport_size(size)
        if url in self._origins:
            self.page.goto(f"{url}/health")  # only a page of the origin reaches this storage
            self.page.evaluate("sessionStorage.clear()")
        self._visit = Visit(self.page, url)
        self._origins.add(url)
        self.page.goto(address)
        return self._visit

    def empty(self) -> bool:
        """Forget the visit; False if the next test could notice something of this one."""
        self._visit = None
        if self._is_altered or self.page.is_closed() or len(self._context.pages) > 1:
            return False
        self.page.goto("about:blank")
        self._context.clear_cookies()
        for origin in self._origins:
            stores = {"origin": origin, "storageTypes": _STORES}
            self._devtools.send("Storage.clearDataForOrigin", stores)
        return True

    def close(self) -> None:
        self._context.close()

    def _on_request(self, request: Any) -> None:
        if (seen := self._visit) is None:
            return
        own = (seen.url, seen.url.replace("http", "ws"), "data:", "blob:", "about:")
        if not request.url.startswith(own):
            seen.outside.append(request.url)

    def _hear(self, said: str) -> None:
        if self._visit is not None:
            self._visit.hear(said)

    def _noting(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **kwargs: Any) -> Any:
            self._is_altered = True
            return call(*args, **kwargs)

        return noted


Visits = Callable[..., Visit]


@pytest.fixture(scope="session")
def emptied() -> dict[str | None, list[Tab]]:
    """Tabs that wait for the next test, by their language; `browser` closes them."""
    return defaultdict(list)


@pytest.fixture
def visits(
    browser: Browser,
    app_url: str,
    serve: Serve,
    emptied: dict[str | None, list[Tab]],
    request: pytest.FixtureRequest,
) -> Iterator[Visits]:
    """Open visits; at the end of the test nothing may have gone wrong in any of them."""
    opened: list[tuple[Visit, Tab, list[Tab] | None]] = []
    failed_before = request.session.testsfailed

    def visit(
        url: str = app_url,
        owner: Owner | None = None,
        *,
        dark: bool = False,
        size: ViewportSize = DESK,
        **context: Any,
    ) -> Visit:
        shared = emptied[context.get("locale")] if set(context) <= {"locale"} else None
        tab = shared.pop() if shared else Tab(browser, {"viewport": size, **context})
        address = owner.address(url) if owner is not None else f"{url}/?"
        seen = tab.visit(url, f"{address}&__theme=dark" if dark else address, size)
        opened.append((seen, tab, shared))
        seen.opened()
        # It listens to keys.
        keys = seen.page.locator(".dnd-keys-open")
        expect(keys).to_have_attribute("aria-keyshortcuts", "?")
        return seen

    yield visit
    failed = request.session.testsfailed > failed_before
    for number, (seen, tab, shared) in enumerate(opened):
        if failed and not seen.page.is_closed():
            seen.photograph(f"failed-{request.node.name}-{number}")
            page = seen.page.locator("body").aria_snapshot()
            logger.error("the page of the failed test:\n%s\nits console: %s", page, seen.console)
        if shared is not None and not failed and tab.empty():
            shared.append(tab)
        else:
            tab.close()
    for seen, _, _ in opened:
        assert seen.outside == []
        assert seen.console == []


@pytest.fixture
def visit(visits: Visits) -> Visit:
    return visits()
