import gc
from collections.abc import Iterator

import pytest

from dnd_engine.models.allocator import importing


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_a_library_is_imported_without_garbage_collections() -> None:
    frozen = gc.get_freeze_count()
    with importing("a library that nobody has"):
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > frozen


def test_a_failed_import_leaves_the_collector_on() -> None:
    with pytest.raises(ImportError), importing("a library that nobody has"):
        raise ImportError
    assert gc.isenabled()


def test_what_exists_when_a_library_is_asked_for_again_can_be_collected() -> None:
    frozen = gc.get_freeze_count()
    with importing("gc"):
        assert gc.isenabled()
    assert gc.get_freeze_count() == frozen
