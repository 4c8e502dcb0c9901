"""Word for other processes, on whatever hosts, in a PostgreSQL; with the extra `postgres`."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import math
import os
import re
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from greenroom.messages import _validate as check
from greenroom.shared.state_store import Held, Lying

_PREFIX = re.compile(r"[a-z_][a-z0-9_]{0,39}")
# In one message, hence in one transaction: two that come at the same time would both create them.
_CREATE = """
SELECT pg_advisory_xact_lock(hashtext('{prefix}'));
CREATE TABLE IF NOT EXISTS {prefix}_words (
    pool text NOT NULL, key text NOT NULL, value text NOT NULL, until timestamptz NOT NULL,
    PRIMARY KEY (pool, key)
);
CREATE TABLE IF NOT EXISTS {prefix}_limits (
    pool text NOT NULL, key text NOT NULL, text text NOT NULL, revision text NOT NULL,
    until timestamptz NOT NULL,
    PRIMARY KEY (pool, key)
)
"""
_PUT = """
WITH old AS (
    DELETE FROM {prefix}_words WHERE (pool, key) IN (
        SELECT pool, key FROM {prefix}_words
        WHERE pool = %(pool)s AND key <> %(key)s
            AND until < clock_timestamp() - interval '60 seconds'
        FOR UPDATE SKIP LOCKED
    )
), put AS (
    INSERT INTO {prefix}_words AS w VALUES (
        %(pool)s, %(key)s, %(value)s, clock_timestamp() + make_interval(secs => %(ttl_s)s)
    )
    ON CONFLICT (pool, key) DO UPDATE SET value = excluded.value, until = excluded.until
    RETURNING 1
)
SELECT pg_notify(%(channel)s, '') FROM put
"""
_GET = """
SELECT key, value, extract(epoch FROM until - clock_timestamp())::float8 FROM {prefix}_words
WHERE pool = %(pool)s AND until > clock_timestamp()
"""
_READ = """
SELECT extract(epoch FROM clock_timestamp())::float8, held.text, held.revision
FROM (SELECT 1) AS once
LEFT JOIN {prefix}_limits AS held ON held.pool = %(pool)s AND held.key = %(key)s
"""
_ADD = """
INSERT INTO {prefix}_limits VALUES (
    %(pool)s, %(key)s, %(text)s, %(new)s, clock_timestamp() + make_interval(secs => %(ttl_s)s)
)
ON CONFLICT DO NOTHING
"""
_CHANGE = """
UPDATE {prefix}_limits SET text = %(text)s, revision = %(new)s,
    until = clock_timestamp() + make_interval(secs => %(ttl_s)s)
WHERE pool = %(pool)s AND key = %(key)s AND revision = %(revision)s
"""
# Each statement is a transaction of its own, so who is stopped between two holds no row. One that
# is stopped in the middle of one is put out by its server. What a crash of that loses of the last
# moment is said again.
_SETTINGS = """
SELECT set_config('statement_timeout', %(ms)s, false), set_config('lock_timeout', %(ms)s, false),
    set_config('idle_in_transaction_session_timeout', %(ms)s, false),
    set_config('synchronous_commit', 'off', false)
"""


@dataclass(frozen=True, slots=True)
class PostgresState:
    """A PostgreSQL, in which processes of one host or of several leave word for each other.

    It holds the names of pools and members, what is said of them and by which process, and who
    holds how much of a rate limit; no payload, no key. The two tables `PREFIX_words` and
    `PREFIX_limits` are created where they are missing.

    Args:
        dsn: `postgresql://...`, or a connection string of libpq, with the password in it if it
            needs one.
        prefix: of the tables; a name in lower case.
        timeout_s: after which it counts as away; it waits for two seconds at least for a
            connection.

    Raises:
        ModuleNotFoundError: the extra `postgres` is not installed.
        TypeError, ValueError: a value of the wrong type or out of range, named with its field.
    """

    dsn: str = field(repr=False)  # it may hold a password
    prefix: str = field(default="greenroom", kw_only=True)
    timeout_s: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        check.text("dsn", self.dsn)
        check.text("prefix", self.prefix)
        if not _PREFIX.fullmatch(self.prefix):
            raise ValueError(
                "prefix must be a name of a table: at most 40 of a-z, 0-9 and _, "
                f"got {self.prefix[:60]!r}"
            )
        check.number("timeout_s", self.timeout_s, above=True)
        psycopg = _psycopg()
        try:
            psycopg.conninfo.conninfo_to_dict(self.dsn)
        except Exception as error:  # which may show a part of the password
            what = type(error).__name__
            raise ValueError(f"dsn must be one that libpq understands: {what}") from None

    def open(self, pool: str) -> _PostgresStore:
        """Connect to what is said of a pool's members."""
        db = self._connection()
        try:
            tables = (f"{self.prefix}_words", f"{self.prefix}_limits")
            found = db.execute("SELECT to_regclass(%s), to_regclass(%s)", tables).fetchone()
            if None in found:  # who may not create any can have been given them
                db.execute(_CREATE.format(prefix=self.prefix))
            return _PostgresStore(db, self.prefix, pool)
        except BaseException:
            db.close()
            raise

    def listen(self, pool: str) -> _Channel:
        """Listen for news of it."""
        db = self._connection()
        try:
            db.execute(f"LISTEN {_channel(self.prefix, pool)}")
        except BaseException:
            db.close()
            raise
        return _Channel(db)

    def _connection(self) -> Any:
        psycopg = _psycopg()
        kind = _bounded_connection(psycopg)
        try:
            db = kind.connect(
                self.dsn,
                autocommit=True,
                prepare_threshold=None,  # behind a pooler, the next statement may be elsewhere
                connect_timeout=max(2, math.ceil(self.timeout_s)),
                application_name="greenroom",
            )
        except psycopg.Error as error:
            raise ConnectionError(self._without_password(str(error))) from None
        try:
            db.limit_s = self.timeout_s
            # Sooner than this end's: after the server's word the connection is of use.
            db.execute(_SETTINGS, {"ms": str(max(1, math.ceil(self.timeout_s * 500)))})
        except BaseException:
            db.close()
            raise
        return db

    def _without_password(self, text: str) -> str:
        secret = _psycopg().conninfo.conninfo_to_dict(self.dsn).get("password")
        return text.replace(str(secret), "***") if secret else text


def _psycopg() -> Any:
    try:
        importlib.import_module("psycopg.conninfo")
        return importlib.import_module("psycopg")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "PostgresState needs psycopg: pip install 'greenroom[postgres]'", name=error.name
        ) from error
    except ImportError as error:  # it has found no libpq
        raise ModuleNotFoundError(
            "PostgresState needs psycopg with libpq: pip install 'greenroom[postgres]'"
        ) from error


def _bounded_connection(psycopg: Any) -> Any:
    """A connection whose statements end in time, whatever the server does: its own limits are of no
    use where it is stopped, or out of reach.
    """

    class Bounded(psycopg.Connection):  # type: ignore[misc]
        limit_s = math.inf

        def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
            if options.get("timeout") is None:  # who waits for notices has one
                gen = _in_time(gen, time.monotonic() + self.limit_s)
            return super().wait(gen, *args, **options)

    return Bounded


def _in_time(steps: Generator[Any, Any, Any], until: float) -> Generator[Any, Any, Any]:
    """The same steps, unless nothing comes until then: `wait` looks in ten times a second."""
    try:
        wanted = next(steps)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() >= until:
                raise TimeoutError("the server does not answer")
            wanted = steps.send(ready)
    except StopIteration as end:
        return end.value


def _channel(prefix: str, pool: str) -> str:
    """A name that the server takes as it is, of whatever pool."""
    return f"{prefix}_{hashlib.sha256(pool.encode()).hexdigest()[:16]}"


class _PostgresStore:
    def __init__(self, db: Any, prefix: str, pool: str) -> None:
        self._db = db
        self._prefix = prefix
        self._pool = pool
        self._channel = _channel(prefix, pool)

    def put(self, key: str, value: str, ttl_s: float) -> None:
        self._execute(_PUT, key=key, value=value, ttl_s=ttl_s, channel=self._channel)

    def get(self) -> Mapping[str, Lying]:
        return {key: Lying(value, left_s) for key, value, left_s in self._execute(_GET).fetchall()}

    def read(self, key: str) -> Held:
        now, text, revision = self._execute(_READ, key=key).fetchone()
        return Held(text, revision or "", now)

    def replace(self, key: str, text: str, revision: str, ttl_s: float) -> bool:
        done = self._execute(
            _CHANGE if revision else _ADD,
            key=key,
            text=text,
            revision=revision,
            new=os.urandom(8).hex(),
            ttl_s=ttl_s,
        )
        return bool(done.rowcount == 1)

    def close(self) -> None:
        self._db.close()

    def _execute(self, statement: str, **values: Any) -> Any:
        return self._db.execute(
            statement.format(prefix=self._prefix), {"pool": self._pool, **values}
        )


class _Channel:
    def __init__(self, db: Any) -> None:
        self._db = db

    def wait(self, timeout_s: float) -> bool:
        return any(True for _ in self._db.notifies(timeout=timeout_s, stop_after=1))

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._db.close()
