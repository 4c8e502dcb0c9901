"""Word for other processes of the same host, in a file: SQLite, and nothing to install or start."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from greenroom.messages import _validate as check
from greenroom.shared.state_store import LONGEST_TTL_S, Lying

if TYPE_CHECKING:
    import sqlite3

LOOK_S = 0.02
"""How often it is looked whether the file has changed."""
_BUSY_S = 1.0
_TABLE = """
CREATE TABLE IF NOT EXISTS words (
    pool TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL,
    boot TEXT NOT NULL, said_at REAL NOT NULL, until REAL NOT NULL,
    PRIMARY KEY (pool, key)
) WITHOUT ROWID
"""


@dataclass(frozen=True, slots=True)
class SqliteState:
    """A file in which the processes of one host leave word for each other.

    It holds the names of pools and members, what is said of them and by which process, for as long
    as that holds; no payload, no key. It is made with the permissions 0600, so its processes are of
    one user. It must lie on a disk of the host, never on a network file system: SQLite's locks do
    not hold there, and neither is the clock one that all would share.

    Args:
        path: of the file; its folder must be there. Two files with that name and `-wal` and `-shm`
            lie beside it while it is used.

    Raises:
        TypeError, ValueError: `path` is none.
    """

    path: str | os.PathLike[str]

    def __post_init__(self) -> None:
        if not isinstance(self.path, str | os.PathLike):
            raise check.misfit("path must be a path", self.path)
        check.text("path", os.fspath(self.path))
        if os.fspath(self.path) == ":memory:":
            raise ValueError("path must be that of a file that processes can share, got ':memory:'")
        # Absolute: the process may be somewhere else when a connection is made.
        object.__setattr__(self, "path", os.path.abspath(os.fspath(self.path)))

    def open(self, pool: str) -> _SqliteStore:
        """Connect to what is said of a pool's members."""
        return _SqliteStore(os.fspath(self.path), pool)

    def listen(self, pool: str) -> _FileWatch:
        """Listen for news of it."""
        return _FileWatch(os.fspath(self.path))


class _SqliteStore:
    """Times are those of a clock that all processes of the host share, and that starts anew with
    it: what lies there from before is known by the name of that boot where there is one, else by
    having been said in the future.

    No connection is there while the process forks: SQLite keeps the locks of all connections of a
    process together, so what one of them held at that moment would be locked in the child for ever.
    A fork waits for what is at hand, and connections are made anew after it.
    """

    def __init__(self, path: str, pool: str) -> None:
        self._path = path
        self._pool = pool
        self._db: sqlite3.Connection | None = None
        with _forks.lock:
            _forks.stores.add(self)
            self._connection()

    def put(self, key: str, value: str, ttl_s: float) -> None:
        now = host_now()
        with _forks.lock:
            self._connection().execute(
                "INSERT OR REPLACE INTO words VALUES (?, ?, ?, ?, ?, ?)",
                (self._pool, key, value, BOOT, now, now + ttl_s),
            )

    def get(self) -> Mapping[str, Lying]:
        now = host_now()
        with _forks.lock:
            rows = self._connection().execute(
                "SELECT key, value, until FROM words"
                " WHERE pool = ? AND boot = ? AND said_at <= ? AND until > ? AND until < ?",
                (self._pool, BOOT, now, now, now + LONGEST_TTL_S + 1.0),
            )
            return {key: Lying(value, until - now) for key, value, until in rows}

    def close(self) -> None:
        with _forks.lock:
            self.disconnect()

    def disconnect(self) -> None:
        """Have no connection until the next word."""
        db, self._db = self._db, None
        if db is not None:
            db.close()

    def _connection(self) -> sqlite3.Connection:
        import sqlite3  # here alone: not every Python has it

        if self._db is not None:
            return self._db
        # Made first, so that it never has other permissions; SQLite gives its own to the others.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        # Closed by whichever thread forks; the lock sees to it that there is one at a time.
        db = sqlite3.connect(
            self._path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        try:
            db.execute("PRAGMA journal_mode=WAL")
            # No word waits for the disk: what a crash of the machine loses is of no use after it.
            db.execute("PRAGMA synchronous=NORMAL")
            db.execute(_TABLE)
        except BaseException:
            db.close()
            raise
        self._db = db
        return db


class _Forks:
    """Sees to it that no connection is there while the process forks."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.stores: weakref.WeakSet[_SqliteStore] = weakref.WeakSet()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self._before, after_in_parent=self._after, after_in_child=self._in_child
            )

    def _before(self) -> None:
        self.lock.acquire()
        for store in list(self.stores):
            with contextlib.suppress(Exception):
                store.disconnect()

    def _after(self) -> None:
        self.lock.release()

    def _in_child(self) -> None:
        self.lock = threading.RLock()
        self.stores = weakref.WeakSet()  # the parent's


_forks = _Forks()


class _FileWatch:
    """Looks at the files' sizes and times: a hundred looks cost what one query does. What two
    writes within one tick of the file system's clock might hide is found by the next poll.
    """

    def __init__(self, path: str) -> None:
        self._paths = (path, f"{path}-wal")
        self._seen = self._signs()
        self._closed = False

    def wait(self, timeout_s: float) -> bool:
        until = time.monotonic() + timeout_s
        while not self._closed and time.monotonic() < until:
            signs = self._signs()
            if signs != self._seen:
                self._seen = signs
                return True
            time.sleep(LOOK_S)
        return False

    def close(self) -> None:
        self._closed = True

    def _signs(self) -> tuple[tuple[int, int, int], ...]:
        return tuple(map(_sign, self._paths))


def _sign(path: str) -> tuple[int, int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_size, found.st_mtime_ns)


def host_now() -> float:
    """Seconds by a clock that all processes of this host share, which nobody can set."""
    if hasattr(time, "CLOCK_BOOTTIME"):  # goes on while the machine sleeps
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def _boot() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


BOOT = _boot()
"""The name of this run of the machine; empty where it has none."""
