"""A loop with `try`, as one writes it without any library: one provider, then the other.

Who is first changes from request to request. `loop` gives up when both have failed; `loop-waiting`
waits for as long as the shorter Retry-After says (a tenth of a second after any other failure), and
begins anew until its deadline.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.peers import calls
from benchmarks.peers.base import LimitedCall, Peer, Providers

PAUSE_S = 0.1


class PlainLoop(Peer):
    """Each provider once."""

    waits = False

    @asynccontextmanager
    async def limited(self, providers: Providers) -> AsyncIterator[LimitedCall]:
        if providers.fair:
            self._has_no_fairness()
        names = providers.names
        pause_s = PAUSE_S * providers.pace
        turn = itertools.count()

        async def once() -> str:
            first = next(turn)
            failed: list[Exception] = []
            for number in range(len(names)):
                try:
                    return await calls.call(providers, names[(first + number) % len(names)])
                except (calls.Refused, OSError) as error:
                    failed.append(error)
            raise ExceptionGroup("nobody could answer", failed)

        async def call(_: str) -> str:
            while True:
                try:
                    return await once()
                except ExceptionGroup as group:
                    if not self.waits:
                        raise
                    waits = [getattr(each, "retry_after", None) for each in group.exceptions]
                    await asyncio.sleep(min(pause_s if each is None else each for each in waits))

        yield call


class WaitingLoop(PlainLoop):
    """Again and again."""

    waits = True
