"""A served page with an owner, and raw requests to it as strangers send them."""

from collections.abc import Iterator

import httpx
import pytest

from dnd_engine.library import Library
from dnd_engine.limits import ServerLimits
from tests.serving import serving
from tests.ui.fake_engine import FakeEngine, handle_of
from ui.owner import Owner

SMALL = ServerLimits(
    sessions=8,
    queued_calls_per_visitor=3,
    request_bytes=200_000,
    upload_bytes=300_000,
    uploads_per_visitor_bytes=1_000_000,
    logins_per_minute=3,
)
"""Limits that a test reaches in a moment."""


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Owner:
    return Owner(Library(tmp_path_factory.mktemp("owner") / "library"))


@pytest.fixture(scope="module")
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture(scope="module")
def url(owner: Owner, engine: FakeEngine) -> Iterator[str]:
    with serving(handle_of(engine), owner=owner, server=SMALL) as address:
        yield address


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=120) as client:
        yield client
