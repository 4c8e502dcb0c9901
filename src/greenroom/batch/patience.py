"""What follows when nobody takes a prompt: it is asked again, for a while. Pure."""

from __future__ import annotations

import math

from greenroom.messages.errors import AttemptError, PoolError, PoolSaturatedError
from greenroom.messages.status import FailureKind

_SOONEST_S = 0.05
_USUAL_S = 1.0
_LATEST_S = 30.0


def turned_away(error: Exception) -> bool:
    """Whether nothing has been made of a prompt: no member has begun with it, or each that has was
    limiting its rate. Then it has not failed; it has come too soon.
    """
    if isinstance(error, PoolSaturatedError):
        return True
    errors = getattr(error, "errors", ())
    if isinstance(error, PoolError) and errors:
        return all(_sent_back(each) for each in errors)
    return isinstance(error, PoolError) and not error.started


class Patience:
    """How long to hold back, how many to ask at a time then, and when to give up.

    As TCP does (RFC 5681): half as many when some were turned away, one more with each answer.

    Args:
        wait_s: how long the batch goes on without an answer while prompts are turned away.
        now: the time, in seconds.

    Attributes:
        until: when to ask again; the past where nothing is held back.
        room: how many may be under way.
    """

    def __init__(self, wait_s: float, now: float) -> None:
        self.until = now
        self.room = math.inf
        self._wait_s = wait_s
        self._since: float | None = None

    def answered(self) -> None:
        """A prompt has been answered. (One that fails says little: so a wrong key would go on.)"""
        self._since = None
        self.room += 1

    def sent_back(self, error: Exception, now: float, under_way: int = 0) -> bool:
        """A prompt was turned away; whether to ask it again.

        Args:
            under_way: how many others are.
        """
        if now >= self.until:  # the first of those that were asked together
            self.room = max(1, under_way // 2)
        if self._since is None:
            self._since = now
        wish = getattr(error, "retry_after_s", None)
        pause = min(max(_USUAL_S if wish is None else wish, _SOONEST_S), _LATEST_S)
        self.until = max(self.until, now + pause)
        return now - self._since < self._wait_s


def _sent_back(error: AttemptError) -> bool:
    return error.skipped or error.kind is FailureKind.RATE_LIMITED
