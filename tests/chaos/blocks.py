"""Attempts in the caller's own code: blocks that do what else the agents do, and more."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from chaos.entry import Call, CallEnd, End, Entry, end_of
from chaos.ledger import Ledger
from chaos.moves import BASE_EXCEPTIONS, KINDS, Move
from chaos.players import AsyncPlayer, Player, SyncPlayer
from chaos.steps import ON_LOOPS, ONCE, Manner
from chaos.traffic import ByLoop, ByThreads
from greenroom import PoolError, PoolRef

_RAISED = frozenset({*BASE_EXCEPTIONS, Move.SIDE_EFFECTS, Move.CALLER})
"""The failures that are never told of, but raised."""


class BlocksByThreads(ByThreads):
    """`for attempt in pool.attempts()`, `with pool.acquire()`, by threads."""

    def send(self, pool: PoolRef, ledger: Ledger, entry: Entry) -> None:
        self._waiting.put(lambda: ledger.heard(entry, _use(pool, entry)))


class BlocksByLoop(ByLoop):
    """The same by tasks of an event loop."""

    def _start(self, pool: PoolRef, ledger: Ledger, entry: Entry) -> None:
        begun: list[bool] = []

        async def use() -> End:
            begun.append(True)
            return await _ause(pool, entry)

        task = entry.hold = self._loop.create_task(use())

        def hear(_: object) -> None:
            entry.hold = None
            if begun:
                ledger.heard(entry, End.CANCELLED if task.cancelled() else task.result())
            else:
                ledger.withdraw(entry)

        task.add_done_callback(hear)

    def _asking(self, pool: PoolRef, entry: Entry) -> Coroutine[Any, Any, End]:
        return _ause(pool, entry)


def _use(pool: PoolRef, entry: Entry) -> End:
    """All its attempts in this thread; how that ended for its caller."""
    try:
        if entry.send.way in ONCE:
            return _use_one(pool.acquire(**_options(entry)), entry)
        for attempt in pool.attempts(**_options(entry)):
            if entry.send.manner is Manner.DROPPED:
                return _drop(entry, attempt, attempt.__enter__())
            with attempt as agent:
                ThreadBlock(entry, attempt, agent).use()
            if _leaves(entry):
                return End.LEFT
    except BaseException as error:
        return _end_by(error, entry)
    return End.VALUE


def _use_one(block: Any, entry: Entry) -> End:
    if entry.send.manner is Manner.DROPPED:
        return _drop(entry, block, block.__enter__())
    with block as agent:
        ThreadBlock(entry, block, agent).use()
    return _end_of_once(entry)


async def _ause(pool: PoolRef, entry: Entry) -> End:
    """The same in this task."""
    try:
        if entry.send.way in ONCE:
            return await _ause_one(pool.acquire(**_options(entry)), entry)
        async for attempt in pool.attempts(**_options(entry)):
            if entry.send.manner is Manner.DROPPED:
                return _drop(entry, attempt, await attempt.__aenter__())
            async with attempt as agent:
                await TaskBlock(entry, attempt, agent).use()
            if _leaves(entry):
                return End.LEFT
    except BaseException as error:
        if type(error) in (asyncio.CancelledError, GeneratorExit) and not _raised(entry, error):
            raise
        return _end_by(error, entry)
    return End.VALUE


async def _ause_one(block: Any, entry: Entry) -> End:
    if entry.send.manner is Manner.DROPPED:
        return _drop(entry, block, await block.__aenter__())
    async with block as agent:
        await TaskBlock(entry, block, agent).use()
    return _end_of_once(entry)


def _options(entry: Entry) -> dict[str, Any]:
    send = entry.send
    options: dict[str, Any] = {
        "request_id": entry.id,
        "timeout_s": send.timeout_s,
        "key": send.key,
        "stream": send.has_chunks,
    }
    if send.way not in ONCE:
        options |= {"idempotent": send.idempotent, "max_retries": send.max_retries}
    return options


def _drop(entry: Entry, block: Any, agent: Any) -> End:
    """The block is entered, and never left."""
    Block(entry, block, agent).begin_and_end()
    return End.LEFT


def _leaves(entry: Entry) -> bool:
    """Whether the loop is left here, between two attempts."""
    return entry.send.manner is Manner.LEFT and entry.calls[-1].end is CallEnd.RAISED


def _end_by(error: BaseException, entry: Entry) -> End:
    # By its type: what an agent raises may raise at any look.
    kind, raised = type(error), _raised(entry, error)
    failed = issubclass(kind, Exception) or (kind is asyncio.CancelledError and _on_loop(entry))
    once = entry.send.way in ONCE and not issubclass(kind, PoolError)
    if once and failed and (raised or not entry.calls):
        return End.OWN  # what its block has raised, or what was to make its agent
    if failed:
        return end_of(error)
    if not raised:
        entry.odd.append(f"its block was left by a {kind.__name__} that it has not raised")
    return End.LEFT


def _on_loop(entry: Entry) -> bool:
    return entry.send.way in ON_LOOPS


def _raised(entry: Entry, error: BaseException) -> bool:
    """Whether that is what its block has raised."""
    return any(call.result is error for call in entry.calls)


def _end_of_once(entry: Entry) -> End:
    """A block that has told of a failure raises nothing."""
    told = any(call.end is CallEnd.RAISED for call in entry.calls)
    return End.OWN if told else End.VALUE


class Block(Player):
    """The code of one block: an attempt at an entry, with the agent it was handed."""

    def __init__(self, entry: Entry, attempt: Any, agent: Any) -> None:
        super().__init__(entry.stage, attempt.member)
        self._entry = entry
        self._attempt = attempt
        owner = getattr(agent, "__self__", agent)  # the agent may be a method
        if isinstance(owner, Player) and owner.name != self.name:
            entry.odd.append(f"a block of {self.name} was handed the agent of {owner.name}")
        if not isinstance(owner, (Player, PoolRef)):
            entry.odd.append(f"a block of {self.name} was handed a {type(owner).__name__}")

    def begin_and_end(self) -> None:
        """It has the agent, for a moment."""
        self._stage.leave(self._entry, self._stage.begin(self._entry, self.name))

    def _mark(self, call: Call) -> None:
        """Pass on as many chunks as are planned."""
        if self._entry.send.manner is Manner.MARKS:
            for number in range(self._entry.send.before):
                self._attempt.first()
                call.chunks.append((self._entry.id, number))

    def _end(self, call: Call) -> None:
        """End as its move says: what an agent would raise may be told of instead."""
        attempt, move = self._attempt, call.move
        if self._entry.send.manner is Manner.TELLS and move in KINDS.keys() - _RAISED:
            attempt.fail(f"it {move}", kind=KINDS[move])
            call.ended(CallEnd.RAISED, attempt._fault)
        else:
            self._finish(self._entry, call, attempt.context)


class ThreadBlock(Block, SyncPlayer):
    """One in a thread."""

    def use(self) -> None:
        """Do what the entry's next move says."""
        entry = self._entry
        call = self._stage.begin(entry, self.name)
        try:
            self._mark(call)
            if entry.send.manner is Manner.PAUSES:
                with self._attempt.paused():
                    self._linger(entry, call.move)
            else:
                self._linger(entry, call.move)
            self._end(call)
        finally:
            self._stage.leave(entry, call)


class TaskBlock(Block, AsyncPlayer):
    """One in a task."""

    async def use(self) -> None:
        """The same."""
        entry = self._entry
        call = self._stage.begin(entry, self.name)
        try:
            self._mark(call)
            if entry.send.manner is Manner.PAUSES:
                with self._attempt.paused():
                    await self._linger(entry, call)
            else:
                await self._linger(entry, call)
            self._end(call)
        finally:
            self._stage.leave(entry, call)
