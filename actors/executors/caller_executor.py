"""The executor of attempts whose code is their caller's own: it hands over, and takes back."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable

from greenroom.actors.executors.call import Call, set_since
from greenroom.actors.executors.loop_executor import Grace
from greenroom.actors.runtime.lease import Lease, LeaseFuture
from greenroom.messages.errors import PoolError
from greenroom.messages.status import CancelReason


class CallerExecutor:
    """Calls as leases. A block in a task can be cut short, and has `grace_s` to clean up then; one
    in a thread cannot be: it is abandoned, as a thread of the pool's own would be.
    """

    def __init__(self, grace_s: float) -> None:
        self.guard = threading.Lock()
        self._grace_s = grace_s

    def run(self, call: Call) -> None:
        lease = call.handle = Lease(call)
        asker = call.work(call)
        if isinstance(asker, LeaseFuture):
            # Of its caller's own, the block has the rest anyway, and as they are by then.
            if call.context is not None and call.context is not asker.context:
                lease.variables = set_since(asker.context, call.context)
            asker.grant(lease)
        else:
            call.broke(PoolError("an agent is asked for by pool.attempts or pool.acquire"))

    def cancel(self, call: Call, reason: CancelReason) -> None:
        # First: who begins the block in this very moment sees it, or has begun before this.
        call.cancelled = reason
        if call.drop():
            call.finish(None, None)
            return
        lease: Lease | None = call.handle  # the block takes it away when it has ended
        if lease is None or lease.cut(functools.partial(self._begin_grace, call, lease.asker)):
            return
        # Its loop has closed, or it is in a thread: see `ThreadExecutor.cancel`.
        if lease.can_be_cut or reason is CancelReason.ATTEMPT_TIMEOUT:
            _abandon(call, lease.asker)

    def ping(self, answer: Callable[[], object]) -> bool:
        answer()
        return True

    def close(self) -> None:
        """There is nothing of its own."""

    def join(self, timeout_s: float) -> None:
        """Nor is there a thread."""

    def _begin_grace(self, call: Call, asker: LeaseFuture) -> Callable[[], object]:
        return Grace(self._grace_s, functools.partial(_abandon, call, asker)).cancel


def _abandon(call: Call, asker: LeaseFuture) -> None:
    if call.abandon():
        call.finish(None, None)
        # Its caller is elsewhere, for nobody knows how long: no other member shall wait for it.
        asker.let_go()
