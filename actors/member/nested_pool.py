"""A pool as an agent: one attempt of the outer pool is one request of the inner one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NoReturn

from greenroom.actors.handle.pool_ref import PoolRef
from greenroom.actors.runtime.future import AskTimeoutError
from greenroom.messages.errors import PoolError
from greenroom.messages.member import CallContext
from greenroom.messages.status import FailureKind


class InnerFailure(Exception):
    """What an inner pool answered, on its way to `outcome_of`, which unwraps it.

    Attributes:
        error: the inner pool's error.
        started: whether one of its agents may have begun.
        kind: `caller` for what the pool passes on as it is: it has judged so already, maybe by
            rules of its own, and no member of another pool would do better. None for its own
            errors, which say themselves what they are.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error
        self.started = not isinstance(error, PoolError) or error.started
        self.kind = None if isinstance(error, PoolError) else FailureKind.CALLER


async def answer(pool: PoolRef, payload: Any, context: CallContext) -> Any:
    """Have an inner pool answer; what `runner_of` makes of a pool.

    Cancelling it cancels the inner request.

    Raises:
        InnerFailure: the inner pool could not.
    """
    future = pool.forward(payload, context)
    try:
        reply = await future
        if reply.metadata:
            context.describe(**reply.metadata)
        return reply.value
    except AskTimeoutError:
        await _cut_off()
    except Exception as error:
        future.cancel()  # nothing is left to cancel, unless it could not even be waited for
        raise InnerFailure(error) from None


async def chunks(pool: PoolRef, payload: Any, context: CallContext) -> AsyncIterator[Any]:
    """Have an inner pool answer chunk by chunk; closing it closes the inner stream.

    Raises:
        InnerFailure: the inner pool could not, or its stream broke off.
    """
    try:
        with pool.forward_stream(payload, context) as stream:
            async for chunk in stream:
                yield chunk
            if stream.metadata:
                context.describe(**stream.metadata)
    except AskTimeoutError:
        await _cut_off()
    except Exception as error:
        raise InnerFailure(error) from None


async def _cut_off() -> NoReturn:
    """The time that the outer pool gave is over, and the outer pool is about to say so itself.

    It alone can tell a caller in a hurry from a member that is slow, so it must not be told of a
    failure first.
    """
    while True:
        await asyncio.get_running_loop().create_future()
