"""What the page adds to the engine: from the click to a ready adapter, and to a token of chat.

A click comes as soon as it can, and on a second page once the prompts are encoded.

Run by hand, `python -m tests.browser.speed 128 60`, with the numbers of prompts and of words in
each: real models, a real browser, both sides in turns in one process. Prints medians of seconds and
of the ratios within a round, as JSON.
"""

import json
import random
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright

from dnd_engine import Adapter, Bucket, Engine, read_prompt_file
from dnd_engine.config import EngineConfig
from tests.browser.conftest import DESK, LAUNCH, Visit
from tests.serving import serving
from ui.engine_handle import EngineHandle

_ROUNDS = 5
_MIN_TOKENS = 48
_SETTLED = 2.0
"""Seconds after which the page is at rest, and prompts are encoded."""
_WORDS = ("film", "letter", "city", "long", "kind", "never", "early", "river", "stone", "paper")

_CLICK_TO_READY = """() => new Promise((resolve) => {
    const began = performance.now();
    const look = () => {
        const bar = document.querySelector('#dnd-adapter-facts');
        if (bar !== null && bar.offsetParent !== null && bar.textContent.trim() !== '')
            resolve((performance.now() - began) / 1000);
        else requestAnimationFrame(look);
    };
    document.querySelector('#dnd-synthesize').click();
    look();
})"""


def main(num_prompts: int, num_words: int) -> None:
    """Measure and print."""
    handle = EngineHandle.of(EngineConfig())
    rounds = []
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(handle) as url,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(**LAUNCH)
        while handle.wait(1) is None:
            pass
        assert handle.engine is not None
        for number in range(-1, _ROUNDS):  # the first warms up
            path = _prompts(Path(folder), number, num_prompts, num_words)
            visits = _open(browser, url), _open(browser, url)
            found = _round(*visits, handle, path, number)
            if number >= 0:
                rounds.append(found)
        browser.close()
    print(json.dumps(_summary(rounds), indent=1))  # noqa: T201 - what it is for


def _round(
    hasty: Visit, visit: Visit, handle: EngineHandle, path: Path, number: int
) -> dict[str, float]:
    engine = handle.engine
    assert engine is not None
    at_once = _ready_on_page(hasty, path)
    hasty.page.context.close()
    rested = _ready_on_page(visit, path, _SETTLED)
    time.sleep(_SETTLED)  # the zip is written again, with what the checks found on its card
    # In the same thread as the page's work: teams of OpenMP in two would slow both.
    alone, adapter = handle.thread.run(_ready_in_engine, engine, path)
    for attempt in range(10):
        question = f"Tell me a long story about {number + 3 + 100 * attempt} dragons."
        token_page, length = _token_on_page(visit, question)
        if length >= _MIN_TOKENS:
            break
    visit.page.context.close()
    return {
        "ready_page": at_once,
        "ready_page_rested": rested,
        "ready_engine": alone,
        "token_page": token_page,
        "token_engine": handle.thread.run(_token_in_engine, engine, adapter, question),
    }


def _summary(rounds: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    return {
        "seconds": {name: round(median(r[name] for r in rounds), 4) for name in rounds[0]},
        "ratios": {
            f"{what}_page_over_engine": round(
                median(r[f"{what}_page"] / r[f"{what}_engine"] for r in rounds), 3
            )
            for what in ("ready", "token")
        },
        "rounds": len(rounds),
    }


def _prompts(folder: Path, number: int, num_prompts: int, num_words: int) -> Path:
    """Distinct prompts."""
    rng = random.Random(f"speed:{number}")
    lines = (
        json.dumps(f"{i}: {' '.join(rng.choices(_WORDS, k=num_words))}") for i in range(num_prompts)
    )
    path = folder / f"prompts-{number}.jsonl"
    path.write_text("\n".join(lines))
    return path


def _open(browser: Browser, url: str) -> Visit:
    page: Page = browser.new_context(viewport=DESK).new_page()
    page.goto(url)
    expect(page.locator(".dnd-canvas:not(.is-unsaid)")).to_be_visible(timeout=20_000)
    return Visit(page, url)


def _ready_on_page(visit: Visit, path: Path, rest: float = 0.0) -> float:
    visit.drop([path], "SQL")
    visit.ready(path.name)
    expect(visit.page.locator("#dnd-synthesize")).to_be_enabled()
    time.sleep(rest)
    seconds: float = visit.page.evaluate(_CLICK_TO_READY)
    # What is measured afterwards must not lie under the chat.
    expect(visit.page.locator("#dnd-checks")).to_contain_text("Effect on the model", timeout=60_000)
    expect(visit.page.locator("#dnd-download")).to_be_enabled(timeout=60_000)
    return seconds


def _ready_in_engine(engine: Engine, path: Path) -> tuple[float, Adapter]:
    file = read_prompt_file(path)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        sql = Bucket("SQL", 1.0, (file,))
        adapter = engine.generate([sql], imprinted=False, memory=engine.new_memory())
        engine.save(adapter, Path(folder) / "adapter.zip")
        engine.relative_norms(adapter)
        return time.perf_counter() - began, adapter


def _token_on_page(visit: Visit, question: str) -> tuple[float, int]:
    """Seconds per token of a twin whose words are compared as they come, and its tokens."""
    visit.page.locator("#dnd-differences input").check()
    visit.ask(question)
    expect(visit.page.locator("#dnd-send")).to_be_visible(timeout=120_000)
    with visit.page.expect_download() as download:
        visit.page.locator("#dnd-keep-json").click()
    turn = json.loads(download.value.path().read_text())["turns"][-1]
    longer = max((turn["left"], turn["right"]), key=lambda side: side["num_tokens"])
    return 1 / longer["tokens_per_second"], longer["num_tokens"]


def _token_in_engine(engine: Engine, adapter: Adapter, question: str) -> float:
    *_, last = engine.chat([{"role": "user", "content": question}], adapter=adapter)
    assert last.adapted is not None
    longer = max((last.base, last.adapted), key=lambda reply: reply.num_tokens)
    return 1 / longer.tokens_per_second


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
