"""The file that a pool was started from, which it takes over anew while it runs."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from greenroom.actors.handle.pool_ref import PoolRef
from greenroom.actors.runtime import forks
from greenroom.actors.runtime.future import PoolFuture
from greenroom.kinds.pool_changes import changes, is_of_file
from greenroom.kinds.pool_file import PoolFile, PoolFileError, read_pool_file
from greenroom.messages.configure import Configure
from greenroom.messages.errors import MemberExistsError, PoolError, UnknownMemberError
from greenroom.messages.member import Member
from greenroom.messages.requests import GetMembers

TRIES = 5
"""How often a file is compared with members that change meanwhile."""


class _Overtaken(PoolFileError):
    """Members have come or gone between the look at them and the command."""


class FileSource:
    """What `PoolRef.reload` asks.

    Args:
        file: what the pool was started from.
    """

    def __init__(self, file: PoolFile) -> None:
        # Absolute: the process may be somewhere else when it is read again.
        self._file = replace(file, path=_absolute(file.path))
        self._turn = threading.Lock()
        forks.renew(self)

    def renew_locks(self) -> None:
        """Run in a child of a fork."""
        self._turn = threading.Lock()

    def reload(self, pool: PoolRef, path: str | os.PathLike[str] | None) -> tuple[str, ...]:
        """Have the pool be what stands in a file now; what has changed, in words."""
        for _ in range(TRIES - 1):
            with suppress(_Overtaken):
                return self._reload(pool, path)
        return self._reload(pool, path)

    def _reload(self, pool: PoolRef, path: str | os.PathLike[str] | None) -> tuple[str, ...]:
        with self._alone(pool) as turn:
            file, command = self._read(path, pool.ask(GetMembers()))
            with _of_file(file):
                said: tuple[str, ...] = turn.sent(pool, command, file).get()
                return said

    async def areload(self, pool: PoolRef, path: str | os.PathLike[str] | None) -> tuple[str, ...]:
        """The same, without blocking the event loop. Cancelled once the pool has been told, the
        file is taken over all the same.
        """
        for _ in range(TRIES - 1):
            with suppress(_Overtaken):
                return await self._areload(pool, path)
        return await self._areload(pool, path)

    async def _areload(self, pool: PoolRef, path: str | os.PathLike[str] | None) -> tuple[str, ...]:
        with self._alone(pool) as turn:
            present = await pool.aask(GetMembers())
            file, command = await asyncio.to_thread(self._read, path, present)
            with _of_file(file):
                said: tuple[str, ...] = await turn.sent(pool, command, file)
                return said

    @contextmanager
    def _alone(self, pool: PoolRef) -> Iterator[_Turn]:
        """What is compared with must be what the pool is; nobody waits for the other one's turn, be
        it on a loop.
        """
        lock = self._turn
        if not lock.acquire(blocking=False):
            raise PoolError(f"pool {pool.name!r} is being reloaded already: try again after that")
        turn = _Turn(lock, self._take_over)
        try:
            yield turn
        finally:
            turn.leave()

    def _take_over(self, file: PoolFile) -> None:
        self._file = file

    def _read(
        self, path: str | os.PathLike[str] | None, present: Mapping[str, Member | None]
    ) -> tuple[PoolFile, Configure]:
        before = self._file
        made = {
            member.name: (before.makings[member.name], member)
            for member in before.members
            # One that has left, or is about to, has its agent closed.
            if is_of_file(present.get(member.name), member)
        }
        file = read_pool_file(before.path if path is None else _absolute(path), made)
        return file, changes(before, file, present)


class _Turn:
    """A reload's turn. It lasts until the pool has answered, whoever has stopped waiting for that:
    what the pool takes over meanwhile is its file.

    Args:
        lock: held, and released at the end.
        take_over: told of the file that the pool has taken over.
    """

    def __init__(self, lock: threading.Lock, take_over: Callable[[PoolFile], object]) -> None:
        self._lock = lock
        self._take_over = take_over
        self._sent: tuple[PoolFile, PoolFuture[tuple[str, ...]]] | None = None
        # The answer ends it, and so does who waits for that, who may be quicker to have it. One
        # that can be taken again: a signal handler may break in on either.
        self._ending = threading.RLock()
        self._over = False

    def sent(self, pool: PoolRef, command: Configure, file: PoolFile) -> PoolFuture[Any]:
        """Tell the pool to be what stands in the file; its answer."""
        future: PoolFuture[tuple[str, ...]] = pool.ask(command, block=False)
        self._sent = file, future
        future.add_done_callback(lambda _: self.leave())
        return future

    def leave(self) -> None:
        """End it, unless the pool has been told and has not answered."""
        with self._ending:
            if self._over or not (self._sent is None or self._sent[1].done()):
                return
            self._over = True
            try:
                self._note()
            finally:
                self._lock.release()

    def _note(self) -> None:
        if self._sent is None:
            return
        file, future = self._sent
        with suppress(BaseException):  # a refusal, of which whoever waits is told
            future.get()
            self._take_over(file)


def _absolute(path: str | os.PathLike[str]) -> Path:
    return Path(os.path.abspath(path))  # a link stays one: it may be turned to another file


@contextmanager
def _of_file(file: PoolFile) -> Iterator[None]:
    """What the pool refuses of the whole is told with the file's name."""
    try:
        yield
    except (TypeError, ValueError, KeyError) as error:
        words = error.args[0] if error.args else error  # a KeyError would quote it
        moved = isinstance(error, UnknownMemberError | MemberExistsError)
        kind = _Overtaken if moved else PoolFileError
        raise kind(f"{file.path}: {words}") from error
