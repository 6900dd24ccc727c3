"""Visits outlive their page: they are restored after a reload, a crash or a closed browser.

The browser stores a random key, this process stores the visit. A key gives access to its own visit
only. Two tabs with the same visit would overwrite each other, so the newest tab takes it over, and
the earlier one may no longer change it. Visits end some time after their last use; those without a
page end earlier if there are too many, and all end with the server.
"""

import hashlib
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Literal

from dnd_engine.errors import LibraryError, NoRoomError
from dnd_engine.library import Library
from dnd_engine.limits import ServerLimits
from ui.session_files import SessionFiles
from ui.state import Session
from ui.text import _, size

_SWEEP_SECONDS = 600.0
_MAX_KEY_CHARS = 100

Outcome = Literal["new", "back", "lost"]
"""Result of opening a page: a new visit, a restored one, or a lost one."""


class Visits:
    """The visits of this process, by key. The clock is also that of `Session.used`."""

    def __init__(
        self,
        files: SessionFiles,
        limits: ServerLimits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._files = files
        self._limits = limits
        self._clock = clock
        # Lost with the process, as the visits are.
        self._secret = secrets.token_bytes(16)
        self._visits: dict[bytes, Session] = {}
        self._pages: dict[str, str] = {}
        """Key of the visit that each page shows, or showed until it was closed.

        Also of ended visits: a page may have slept for days, and must be told."""
        files.resolve_with(self._visit_of)
        self._lock = threading.Lock()
        self.drawing = threading.Lock()
        """Held from reading what a page shows to noting what is drawn instead.

        Two events of a visit may draw at the same time. If the later one missed what the earlier
        one drew, the page would end with the words of one choice beside the button of another.
        """
        self._timer: threading.Timer | None = None

    def open(
        self, key: str, page: str, fresh: Session, visitor: str = ""
    ) -> tuple[Session, Outcome]:
        """Return the visit of a key for a new page, or start the `fresh` one.

        The browser's key may be empty; `page` is Gradio's hash of the page's session.
        """
        with self._lock:
            # Before the sweep, or a reload would count as one visit more.
            if fresh.key != key:
                self._visits.pop(self._digest(fresh.key), None)
            # First, so that an expired visit cannot be restored.
            self._sweep()
            found = self._visits.get(self._digest(key))
            closed = ""
            outcome: Outcome = "lost" if key else "new"
            # Lookup time reveals only digests, which tell nothing about keys; the final comparison
            # takes constant time.
            if found is not None and secrets.compare_digest(
                found.key.encode(), key.encode(errors="replace")
            ):
                # The page may ask again for the visit that it shows already, whose files must stay.
                if fresh is not found:
                    self._close(fresh, "moved")
                if found.is_parked:
                    closed = self._newest_page(found.key)
                fresh, outcome = found.hand_over(), "back"
            fresh.used, fresh.limits, fresh.visitor = self._clock(), self._limits, visitor
            self._visits[self._digest(fresh.key)] = fresh
            self._pages.pop(page, None)  # the newest must be last
            # Folders go by visit, so that the new page finds the files of the old one.
            self._pages[page] = fresh.key
            if closed != page:
                self._pages.pop(closed, None)
            return fresh, outcome

    def of_page(self, session: Session, page: str, visitor: str) -> Session:
        """Return the visit that a page shows; `session` is the one that Gradio gives its events.

        Gradio gives a blank one to a page whose state it has dropped, and until a page has opened
        its visit. Some clients never open one: theirs is counted here, because otherwise no limit
        per address would apply to it, and nothing would end it.
        """
        # Without the lock, because every event asks. Without a page, nothing of it is kept.
        if not page or session.over or self._pages.get(page) == session.key:
            return session
        with self._lock:
            self._sweep()
            key = self._pages.get(page)
            if key is None:
                session.limits, session.visitor = self._limits, visitor
                self._visits[self._digest(session.key)] = session
                self._pages[page] = session.key
                return session
            found = self._visits.get(self._digest(key))
            if found is None:
                session.end("ended")
            elif self._newest_page(key) != page:
                session.end("moved")
            return session if found is None or session.over else found

    def leave(self, page: str) -> None:
        """Keep the visit of a closed page, so that it can be restored.

        An empty one too: the page may have lost only its connection, and work may go on there.
        """
        with self._lock:
            key = self._pages.get(page, "")
            visit = self._visits.get(self._digest(key))
            # In a reload, the old page often closes after the new one has opened.
            if visit is not None and self._newest_page(key) == page:
                visit.left = self._clock()
                visit.memory = None  # recomputed when needed
            elif visit is not None:
                del self._pages[page]
            self._sweep()

    def _visit_of(self, page: str) -> str:
        """Return the key of a page's visit, and anything else as it is."""
        return self._pages.get(page, page)

    def _newest_page(self, key: str) -> str:
        return next((page for page in reversed(self._pages) if self._pages[page] == key), "")

    def end(self, page: str) -> None:
        """Delete the visit of a page at once, with all its files."""
        with self._lock:
            self._drop(self._digest(self._pages.get(page, "")))

    def check_reading(self, session: Session, page: str, num_bytes: int) -> None:
        """Check that a visit may read this much more; see also `check_writing`.

        Raises:
            NoRoomError: If this visit, its address or all visits have read as much as they may.
        """
        limits, most = self._limits, self._limits.readings_per_visit_bytes
        if num_bytes + self._files.reading_bytes(page) > most:
            raise NoRoomError(
                _(
                    "The files of this visit would take more than {number} MB of memory, which is "
                    "the limit; removed ones count, since Undo brings them back. Delete this "
                    "visit, at the foot of the page, to start over.",
                    number=most // 1_000_000,
                )
            )
        # Last, because it may drop other visits to make room.
        share, total = limits.readings_per_visitor_bytes, limits.readings_bytes
        self._make_room(num_bytes, session.visitor, self._files.reading_bytes, share, total)

    def check_writing(self, session: Session, page: str, num_bytes: int) -> None:
        """Check that a visit may write this many more bytes to disk, and count them from now on.

        Deleted adapters of its library are purged if there is no room otherwise.

        Raises:
            NoRoomError: If the files of this visit, its address or all visits take as much as they
                may.
        """
        if session.own:
            return  # on their own computer, the disk is the limit
        limits, most = self._limits, self._limits.files_per_visit_bytes
        if self._files.measure(page) + num_bytes > most:
            place = self._files.folder(page) / "library"
            if place.is_dir():
                # If it cannot be purged, what follows says what to do.
                with suppress(LibraryError):
                    Library(place).empty_trash()
            if self._files.measure(page) + num_bytes > most:
                raise NoRoomError(
                    _(
                        "The files of this visit would take more than {size} on disk, which is the "
                        "limit. Delete adapters in the Library, or delete this visit, at the foot "
                        "of the page, to start over.",
                        size=size(most),
                    )
                )
        # Last, because it may drop other visits to make room.
        share, total = limits.files_per_visitor_bytes, limits.files_bytes
        self._make_room(num_bytes, session.visitor, self._files.measured_bytes, share, total)
        self._files.expect(page, num_bytes)

    def _make_room(
        self, num_bytes: int, visitor: str, used: Callable[[str | None], int], share: int, most: int
    ) -> None:
        """Check the room of an address and of all; see `check_reading`.

        Visits without a page are dropped to make room, oldest first: the visitor's own for the
        limit per visitor, anybody's for the total. None is dropped if that would not be enough.
        """

        def held(digests: Iterable[bytes]) -> int:
            return sum(used(self._visits[digest].key) for digest in digests)

        def over_share() -> int:
            mine = [digest for digest, visit in self._visits.items() if visit.visitor == visitor]
            return held(mine) + num_bytes - share

        def over_total() -> int:
            return used(None) + num_bytes - most

        with self._lock:
            # A visitor beyond their share displaces nobody but themselves.
            # Dropping a visit without files makes no room.
            left = [digest for digest in self._left() if held([digest])]
            own = [digest for digest in left if self._visits[digest].visitor == visitor]
            if over_share() > held(own) or over_total() > held(left):
                words = _("The server holds too many files of other visits. Try again later.")
                raise NoRoomError(words)
            self._drop_while(over_share, own)
            self._drop_while(over_total, left)

    def _drop_while(self, over: Callable[[], int], digests: Sequence[bytes]) -> None:
        """Drop one visit after the other as long as there are bytes over a limit."""
        for digest in digests:
            if over() <= 0:
                return
            self._drop(digest)

    def _left(self) -> list[bytes]:
        """Return the visits without a page, empty ones first, then the oldest."""
        left = [visit for visit in self._visits.values() if visit.is_parked]
        left.sort(key=lambda visit: (not visit.is_empty, visit.used))
        return [self._digest(visit.key) for visit in left]

    def _least_missed(self) -> list[bytes]:
        """Order visits for dropping: empty ones first, then those of the heaviest address.

        Ties are broken by least recent use.
        """
        many = Counter(visit.visitor for visit in self._visits.values())

        def missed(digest: bytes) -> tuple[bool, int, float]:
            visit = self._visits[digest]
            return not visit.is_empty, -many[visit.visitor], visit.used

        return sorted(self._visits, key=missed)

    def _sweep(self) -> None:
        """Drop expired visits, and repeat as long as there are any visits."""
        now = self._clock()
        for digest, visit in list(self._visits.items()):
            # Counted from the last use; leaving a page does not count as one.
            if now - visit.used > self._limits.visit_seconds:
                self._drop(digest)
        # Otherwise a client that opens pages and never closes one would keep them all.
        most = self._limits.sessions + self._limits.left_visits
        for digest in self._least_missed()[: max(0, len(self._visits) - most)]:
            self._drop(digest)
        held = {digest: self._visits[digest].num_bytes for digest in self._left()}
        for digest in self._left():
            is_heavy = held[digest] and sum(held.values()) > self._limits.left_visits_bytes
            if is_heavy or len(held) > self._limits.left_visits:
                del held[digest]
                self._drop(digest)
        self._lighten()
        ended = [page for page, key in self._pages.items() if self._digest(key) not in self._visits]
        for page in ended[: max(0, len(ended) - most)]:
            del self._pages[page]
        if self._visits and (self._timer is None or not self._timer.is_alive()):
            # Without visitors, nothing else would end the visits of earlier ones.
            self._timer = threading.Timer(_SWEEP_SECONDS, self._sweep_again)
            self._timer.daemon = True
            self._timer.start()

    def _lighten(self) -> None:
        """Drop visits while all together use too many bytes, but never the last one used."""
        weights = {digest: visit.num_bytes for digest, visit in self._visits.items()}
        heavy = [digest for digest, num_bytes in weights.items() if num_bytes]
        # Somebody is working there, and one visit alone is bounded by its own limits.
        last = max(heavy, key=lambda digest: self._visits[digest].used, default=b"")
        for digest in self._least_missed():
            if sum(weights.values()) <= self._limits.visits_bytes:
                break
            # Dropping a visit that weighs nothing makes no room.
            if digest != last and weights.pop(digest):
                self._drop(digest)

    def _sweep_again(self) -> None:
        with self._lock:
            self._timer = None
            self._sweep()

    def _drop(self, digest: bytes) -> None:
        """End a visit and remove its files."""
        visit = self._visits.get(digest)
        if visit is None:
            return
        del self._visits[digest]
        self._close(visit, "ended")

    def _close(self, visit: Session, how: Literal["moved", "ended"]) -> None:
        # Work for it would go on, and write files that nobody removes.
        visit.interrupt()
        # Before `end`, which also forgets where they are, and the key.
        visit.delete_files()
        self._files.remove(visit.key)
        visit.end(how)

    def _digest(self, key: str) -> bytes:
        """Return a key's digest for lookup, keyed so that nobody can construct a similar one."""
        # A client may send any length, and lone surrogates, which UTF-8 has no bytes for.
        short = key[:_MAX_KEY_CHARS].encode(errors="replace")
        return hashlib.blake2b(short, key=self._secret, digest_size=16).digest()
