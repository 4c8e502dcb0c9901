"""The file that a pool was started from, which it takes over anew while it runs."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from greenroom.actors.handle.pool_ref import PoolRef
from greenroom.actors.runtime import forks
from greenroom.kinds.pool_changes import changes
from greenroom.kinds.pool_file import PoolFile, PoolFileError, read_pool_file
from greenroom.messages.configure import Configure
from greenroom.messages.errors import PoolError
from greenroom.messages.replies import PoolStats


class FileSource:
    """What `PoolRef.reload` asks.

    Args:
        file: what the pool was started from.
    """

    def __init__(self, file: PoolFile) -> None:
        self._file = file
        self._turn = threading.Lock()
        forks.renew(self)

    def renew_locks(self) -> None:
        """Run in a child of a fork."""
        self._turn = threading.Lock()

    def reload(self, pool: PoolRef, path: str | os.PathLike[str] | None) -> tuple[str, ...]:
        """Have the pool be what stands in a file now; what has changed, in words."""
        with self._alone(pool):
            file, command = self._read(path, _names(pool.stats()))
            with _of_file(file):
                said: tuple[str, ...] = pool.ask(command)
            self._file = file
            return said

    async def areload(self, pool: PoolRef, path: str | os.PathLike[str] | None) -> tuple[str, ...]:
        """The same, without blocking the event loop."""
        with self._alone(pool):
            names = _names(await pool.astats())
            file, command = await asyncio.to_thread(self._read, path, names)
            with _of_file(file):
                said: tuple[str, ...] = await pool.aask(command)
            self._file = file
            return said

    @contextmanager
    def _alone(self, pool: PoolRef) -> Iterator[None]:
        """What is compared with must be what the pool is; nobody waits for the other one's turn, be
        it on a loop.
        """
        if not self._turn.acquire(blocking=False):
            raise PoolError(f"pool {pool.name!r} is being reloaded already: try again after that")
        try:
            yield
        finally:
            self._turn.release()

    def _read(
        self, path: str | os.PathLike[str] | None, present: Collection[str]
    ) -> tuple[PoolFile, Configure]:
        before = self._file
        made = {
            member.name: (before.makings[member.name], member)
            for member in before.members
            # One that has left has had its agent closed.
            if member.name in present
        }
        file = read_pool_file(before.path if path is None else Path(path), made)
        return file, changes(before, file, present)


def _names(stats: PoolStats) -> list[str]:
    return [each.name for each in stats.members]


@contextmanager
def _of_file(file: PoolFile) -> Iterator[None]:
    """What the pool refuses of the whole is told with the file's name."""
    try:
        yield
    except (TypeError, ValueError, KeyError) as error:
        words = error.args[0] if error.args else error  # a KeyError would quote it
        raise PoolFileError(f"{file.path}: {words}") from error
