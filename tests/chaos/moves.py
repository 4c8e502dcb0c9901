"""What an agent may be told to do in one call, and what kind of failure the pool must call it."""

from __future__ import annotations

from enum import StrEnum

from greenroom import FailureKind


class Move(StrEnum):
    """One call's script."""

    OK = "answers"
    SLOW = "slow"
    GARBAGE = "garbage"
    HUGE = "enormous value"
    AWAITABLE = "awaitable from a sync agent"
    HANG = "hang"
    STUBBORN = "hang that swallows its cancellation"
    HOLD = "held by the check of the slots"
    ERROR = "exception"
    HOSTILE_ERROR = "exception that cannot be looked at"
    UNTOUCHABLE_ERROR = "exception that raises at any look, or its class does"
    UNTOUCHABLE = "value that raises at any look, or its class does"
    TIMEOUT = "timeout error"
    UNAVAILABLE = "503"
    RATE_LIMIT = "rate limit"
    AUTH = "401"
    QUOTA = "402"
    TOO_LARGE = "413"
    CALLER = "400"
    SIDE_EFFECTS = "503 after side effects"
    EXIT = "SystemExit"
    INTERRUPT = "KeyboardInterrupt"
    GENERATOR_EXIT = "GeneratorExit"
    CANCELLED = "CancelledError by itself"
    EMPTY = "empty chunks only"
    CLOSE_RAISES = "raises when it is closed"
    FORBIDDEN = "403 for what it asks"
    MISSING_KEY = "KeyError over its payload"
    BROKEN = "500 over its payload"
    THROTTLED = "429 with an exact Retry-After"
    CLOSE_IGNORED = "goes on when it is closed"


KINDS: dict[Move, FailureKind] = {
    Move.ERROR: FailureKind.UNKNOWN,
    Move.HOSTILE_ERROR: FailureKind.UNKNOWN,
    Move.UNTOUCHABLE_ERROR: FailureKind.UNKNOWN,
    Move.TIMEOUT: FailureKind.TIMEOUT,
    Move.UNAVAILABLE: FailureKind.UNAVAILABLE,
    Move.RATE_LIMIT: FailureKind.RATE_LIMITED,
    Move.AUTH: FailureKind.AUTH,
    Move.QUOTA: FailureKind.QUOTA,
    Move.TOO_LARGE: FailureKind.TOO_LARGE,
    Move.CALLER: FailureKind.CALLER,
    Move.SIDE_EFFECTS: FailureKind.UNAVAILABLE,
    Move.EXIT: FailureKind.CRASHED,
    Move.INTERRUPT: FailureKind.CRASHED,
    Move.GENERATOR_EXIT: FailureKind.CRASHED,
    Move.CANCELLED: FailureKind.UNAVAILABLE,  # by nobody of the pool: see `docs/failures.md`
    Move.FORBIDDEN: FailureKind.AUTH,
    Move.MISSING_KEY: FailureKind.UNKNOWN,
    Move.BROKEN: FailureKind.UNAVAILABLE,
    Move.THROTTLED: FailureKind.RATE_LIMITED,
}
"""Every move that ends in an exception; the others end in a value, if they are let."""

QUIET: dict[Move, FailureKind] = {Move.EMPTY: FailureKind.UNKNOWN}
"""Every move that is a failure without an exception, where it is a stream."""

REPLACED = frozenset({Move.UNTOUCHABLE_ERROR})
"""The moves whose exception nobody is shown, but only what may be told of it."""

COUNTED = frozenset(move for move, kind in (KINDS | QUIET).items() if kind.counts_for_breaker)
"""The moves that a member's statistics call a failure, if they raise or end a stream so."""

LASTING = frozenset({Move.HANG, Move.STUBBORN, Move.HOLD})
"""The moves that end only when the driver lets them go, or when they are cancelled."""

STREAM_MOVES = frozenset({Move.EMPTY, Move.CLOSE_RAISES, Move.CLOSE_IGNORED})
"""The moves that mean something to a stream alone; elsewhere they are answers."""

POISON = (Move.FORBIDDEN, Move.MISSING_KEY, Move.BROKEN)
"""What a request does to whoever is given it; where calls may hang, that as well."""

BASE_EXCEPTIONS = (Move.EXIT, Move.INTERRUPT, Move.GENERATOR_EXIT, Move.CANCELLED)
