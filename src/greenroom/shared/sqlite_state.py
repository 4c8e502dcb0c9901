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
from greenroom.shared.state_store import LONGEST_TTL_S, Held, Lying

if TYPE_CHECKING:
    import sqlite3

LOOK_S = 0.02
"""How often it is looked whether the file has changed."""
_BUSY_S = 1.0
_LEDGERS = """
CREATE TABLE IF NOT EXISTS ledgers (
    pool TEXT NOT NULL, key TEXT NOT NULL, text TEXT NOT NULL,
    boot TEXT NOT NULL, revision TEXT NOT NULL, until REAL NOT NULL,
    PRIMARY KEY (pool, key)
) WITHOUT ROWID
"""
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

    Rate limits that they have together are in a file of their own beside it, `PATH-limits`, so that
    what changes many times a second is no news.

    It holds the names of pools and members, what is said of them and by which process, for as long
    as that holds; no payload, no key. It is made with the permissions 0600, so its processes are of
    one user. It must lie on a disk of the host, never on a network file system: SQLite's locks do
    not hold there, and neither is the clock one that all would share.

    Args:
        path: of the file; its folder must be there. Two files with that name and `-wal` and `-shm`
            lie beside it while it is used, and beside that of the limits.

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
        self._pool = pool
        self._words = _File(path, _TABLE)
        self._ledgers = _File(f"{path}-limits", _LEDGERS)
        with _forks.lock:
            _forks.stores.add(self)
            self._words.connected()

    def put(self, key: str, value: str, ttl_s: float) -> None:
        now = host_now()
        with _forks.lock:
            self._words.connected().execute(
                "INSERT OR REPLACE INTO words VALUES (?, ?, ?, ?, ?, ?)",
                (self._pool, key, value, BOOT, now, now + ttl_s),
            )

    def get(self) -> Mapping[str, Lying]:
        now = host_now()
        with _forks.lock:
            rows = self._words.connected().execute(
                "SELECT key, value, until FROM words"
                " WHERE pool = ? AND boot = ? AND said_at <= ? AND until > ? AND until < ?"
                # A column of SQLite's holds whatever somebody puts there.
                " AND typeof(key) = 'text' AND typeof(value) = 'text' AND typeof(until) = 'real'",
                (self._pool, BOOT, now, now, now + LONGEST_TTL_S + 1.0),
            )
            return {key: Lying(value, until - now) for key, value, until in rows}

    def read(self, key: str) -> Held:
        with _forks.lock:
            row = (
                self._ledgers.connected()
                .execute(
                    "SELECT text, boot, revision FROM ledgers WHERE pool = ? AND key = ?",
                    (self._pool, key),
                )
                .fetchone()
            )
        if row is None:
            return Held(None, "", host_now())
        text, boot, revision = row
        known = boot == BOOT and isinstance(text, str)
        return Held(text if known else None, revision, host_now())

    def replace(self, key: str, text: str, revision: str, ttl_s: float) -> bool:
        new, until = os.urandom(8).hex(), host_now() + ttl_s
        with _forks.lock:
            db = self._ledgers.connected()
            if not revision:
                done = db.execute(
                    "INSERT OR IGNORE INTO ledgers VALUES (?, ?, ?, ?, ?, ?)",
                    (self._pool, key, text, BOOT, new, until),
                )
            else:
                done = db.execute(
                    "UPDATE ledgers SET text = ?, boot = ?, revision = ?, until = ?"
                    " WHERE pool = ? AND key = ? AND revision = ?",
                    (text, BOOT, new, until, self._pool, key, revision),
                )
            return done.rowcount == 1

    def close(self) -> None:
        with _forks.lock:
            self.disconnect()

    def disconnect(self) -> None:
        """Have no connection until the next word."""
        self._words.disconnect()
        self._ledgers.disconnect()


class _File:
    """A file and the connection to it. A file that somebody has deleted or replaced meanwhile is
    left for the one that has its name now: else processes that have come later would share another
    one than those before.
    """

    def __init__(self, path: str, table: str) -> None:
        self._path = path
        self._table = table
        self._db: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None

    def connected(self) -> sqlite3.Connection:
        if self._db is not None:
            if _identity(self._path) == self._opened:
                return self._db
            self._leave(self._db)
        return self._connect()

    def disconnect(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            db.close()

    def _leave(self, db: sqlite3.Connection) -> None:
        """Of what lies beside the file, the other one has its own: none of it is to be removed."""
        import sqlite3

        keep = getattr(sqlite3, "SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE", None)
        if keep is not None:  # from Python 3.12 on
            with contextlib.suppress(sqlite3.Error):
                db.setconfig(keep, True)  # type: ignore[attr-defined]
        self.disconnect()

    def _connect(self) -> sqlite3.Connection:
        import sqlite3  # here alone: not every Python has it

        # Made first, so that it never has other permissions; SQLite gives its own to the others.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        opened = _identity(self._path)
        # Closed by whichever thread forks; the lock sees to it that there is one at a time.
        db = sqlite3.connect(
            self._path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        try:
            db.execute("PRAGMA journal_mode=WAL")
            # No word waits for the disk: what a crash of the machine loses is of no use after it.
            db.execute("PRAGMA synchronous=NORMAL")
            db.execute(self._table)
        except BaseException:
            db.close()
            raise
        self._db, self._opened = db, opened
        return db


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


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
