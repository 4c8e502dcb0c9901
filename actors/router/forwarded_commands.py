"""Commands that the router passes on to the supervisor, until they are answered."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, get_args

from greenroom.actors.runtime.future import PoolFuture
from greenroom.actors.runtime.pool_actor import tell
from greenroom.messages.errors import PoolStoppedError, not_begun
from greenroom.messages.replies import MemberStats, PoolStats
from greenroom.messages.requests import Command, GetStats
from greenroom.messages.supervision import CommandDone, Forwarded, Recipient

FORWARDED: tuple[type[Command], ...] = get_args(Command)


class Commands:
    """Who asked for what. The supervisor tells the new routing table before it answers, so that
    a command holds when its answer arrives.
    """

    def __init__(self, pool: str, complete: Callable[[tuple[MemberStats, ...]], PoolStats]) -> None:
        self._pool = pool
        self._complete = complete
        self._asked: dict[int, tuple[Command, PoolFuture[Any] | None]] = {}
        self._tickets = itertools.count(1)

    def forward(
        self, supervisor: Recipient, command: Command, future: PoolFuture[Any] | None
    ) -> None:
        """Pass a command on."""
        ticket = next(self._tickets)
        # Noted only if it was told: an exception here is the answer of whoever asks. The reply
        # comes to this actor's mailbox, so it cannot come before the note.
        if not tell(supervisor, Forwarded(ticket, command)):
            raise PoolStoppedError(f"pool {self._pool!r} is stopping")
        self._asked[ticket] = (command, future)

    def done(self, message: CommandDone) -> None:
        """The supervisor has answered."""
        command, future = self._asked.pop(message.ticket, (None, None))
        if future is None:
            return
        try:
            if isinstance(command, GetStats) and message.error is None:
                # The supervisor sees no slots: in flight, and who is free, are filled in here.
                future.resolve(self._complete(message.value))
            else:
                future.resolve(message.value, message.error)
        except BaseException as error:  # nobody else will answer; see `Endings` of what is no error
            told = error if isinstance(error, Exception) else not_begun("the command", error)
            future.resolve(error=told)
            raise

    def failed(self, ticket: int, error: BaseException) -> None:
        """The supervisor's answer has been lost on its way."""
        _, future = self._asked.pop(ticket, (None, None))
        if future is not None:
            future.resolve(error=error)

    def fail_all(self, error: Exception) -> None:
        """Nobody will answer any more."""
        for _, future in self._asked.values():
            if future is not None:
                future.resolve(error=error)
        self._asked.clear()
