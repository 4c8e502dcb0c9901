"""A signal handler that raises, at any place of an attempt in the caller's own thread or task."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator

import pytest
from helpers_interrupts import SIGNALS, Limit, interrupt_each
from helpers_pools import echo
from test_interrupts import Stage

from greenroom import AgentPool, Member, PoolConfig
from greenroom.actors.runtime.call_ancestry import INSIDE

ERRORS = pytest.mark.parametrize("error", [Limit, KeyboardInterrupt])


class QuickStage(Stage):
    """One that does not wait before it tries again."""

    def __init__(self) -> None:
        config = PoolConfig(request_timeout_s=None, retry_delay_s=0.0)
        self.pool = AgentPool.start([Member("m0", echo)], config=config)
        self.loop = asyncio.new_event_loop()
        self.exact = False


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = QuickStage()
    gc.freeze()  # each look for what has been let go of is quick then
    try:
        yield stage
    finally:
        gc.unfreeze()
        stage.loop.close()
        stage.pool.stop(timeout=20)


def interrupted(stage: Stage, hand_over: Callable[[], object], error: type[BaseException]) -> None:
    """At each place in turn; afterwards all slots are back, and all are served."""

    def check() -> None:
        gc.collect()  # frames of the traceback hold the attempt
        assert INSIDE.get() == ()
        stage.settled()
        stage.pool.reset_member("m0")
        stage.serves()

    interrupt_each(hand_over, check, SIGNALS, error)


@ERRORS
@pytest.mark.parametrize("fails", [False, True])
def test_an_interrupted_block_in_a_thread_leaves_no_slot_behind(
    stage: Stage, error: type[BaseException], fails: bool
) -> None:
    """Wherever it breaks in: while the slot is waited for, taken, given back, or the next one is
    waited for. (The failure is one in band: an error would hold the frames that it has come by.)
    """

    def hand_over() -> None:
        for count, attempt in enumerate(stage.pool.attempts()):
            with attempt as agent:
                assert agent(count) == count
                if fails and count == 0:
                    attempt.fail()

    interrupted(stage, hand_over, error)


@pytest.mark.parametrize("fails", [False, True])
def test_an_interrupted_block_in_a_task_leaves_no_slot_behind(stage: Stage, fails: bool) -> None:
    """The same on a loop, which the error may leave."""

    async def block() -> None:
        count = 0
        async for attempt in stage.pool.attempts():
            async with attempt as agent:
                count += 1
                assert agent(count) == count
                if fails and count == 1:
                    attempt.fail()

    interrupted(stage, lambda: stage.run(block()), Limit)
