"""Reasons in words: why a member was out, what a failure means, how a request ended. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from greenroom.flight.flight_log import FlightLog

FAILURE_WORDS: Mapping[str, str] = {
    "timeout": "it had not answered in time",
    "unavailable": "it said that it is not available, or could not be reached",
    "crashed": "its actor or process ended",
    "unknown": "an error that says nothing about whose fault it is",
    "rate_limited": "it is asked too much for now, and is left alone for a while",
    "auth": "it does not accept the credentials",
    "quota": "its quota is used up",
    "not_found": "it has no such model or path",
    "too_large": "the request is too large for it",
    "caller": "the request itself is at fault, so nobody else was asked",
    "cancelled": "the call was cancelled",
    "create_failed": "its agent could not be made",
    "interrupted": "the machine or the process was the reason, not the member",
}
"""By the kind of a failure."""

LEFT_WORDS: Mapping[str, str] = {
    "caller": "the caller gave the request up",
    "attempt_timeout": "its time was over",
    "deadline": "the deadline of the request was over",
    "stopping": "the pool was stopping",
    "loop_lost": "its event loop did not answer any more",
    "loop_ended": "its event loop had ended",
    "lost_race": "another attempt was first",
}
"""By the reason for which an attempt was left behind."""

END_WORDS: Mapping[str, str] = {
    "AllPoolMembersFailedError": "nobody could answer it",
    "PoolSaturatedError": "too many requests waited",
    "DeadlineExceededError": "its deadline was over",
    "AskTimeoutError": "the time that its asker gave it was over",
    "RequestCancelledError": "its caller gave it up",
    "PoolStoppedError": "the pool was draining or had ended",
    "ReentrantAskError": "it would have waited for the very call that asked it",
    "StreamInterruptedError": "its stream broke off",
    "StrategyError": "the strategy raised",
    "UnknownMemberError": "nobody in the pool has a name or tag that it asks for",
    "ValueError": "its id was in use",
}
"""By the class of what the asker got."""

_OUT: Mapping[str, str] = {
    "unjudged": "its last failure had not been judged yet",
    "trial_running": "its breaker was half-open and its trials were taken",
    "headroom": "nothing was left of its rate limits",
    "starting": "it was starting",
    "stalled": "its event loop did not answer",
    "draining": "it was being removed",
    "gave_up": "it was given up after too many restarts",
    "excluded": "the strategy did not choose it, or no attempt was left",
    "not_named": "the request asks for others",
    "ruled_out": "the request rules it out",
    "not_accepted": "it does not accept the payload",
    "too_slow": "it takes longer than the request had left",
}
_OUT_NOW: Mapping[str, str] = {
    "trial_running": "its breaker is half-open and is being tried",
    "starting": "it is starting",
    "stalled": "its event loop does not answer",
    "draining": "it is being removed",
    "headroom": "nothing is left of its rate limits",
}


def why_out(
    log: FlightLog, out: tuple[int, str, float | None, int], at: float, *, now: bool = False
) -> str:
    """Why a member was out at that moment, and until when.

    Args:
        out: its index, a `SkipReason`, when it may be back, how many calls it takes.
        now: whether that is told of this moment.
    """
    index, reason, until, takes = out
    verb = "is" if now else "was"
    if reason == "circuit_open":
        state = log.state(index, at)
        if state is not None and state.circuit == "forced_open":
            return f"its breaker {verb} forced open by hand"
        since = "" if state is None else f" since {log.clock(state.at)}"
        return f"its breaker {verb} open{since}{_until(log, until, at)}"
    if reason == "cooling_down":
        rest = log.rest(index, at)
        kind = "" if rest is None else f" ({rest.kind})"
        return f"it {'rests' if now else 'rested'}{kind}{_until(log, until, at)}"
    if reason == "saturated":
        if takes:
            return f"it {verb} full: {takes} call{'' if takes == 1 else 's'} at a time"
        return f"it {verb} full"
    words = (_OUT_NOW if now else {}).get(reason) or _OUT.get(reason, reason)
    return f"{words}{_until(log, until, at)}"


def _until(log: FlightLog, until: float | None, at: float) -> str:
    if until is None:
        return ""
    left = until - at
    return f" until {log.clock(until)}" + (f" ({seconds(left)} more)" if left > 0 else "")


def seconds(value: float) -> str:
    """A time in a few figures."""
    if value < 0.0995:
        return f"{max(0.0, value) * 1000:.3g} ms"
    return f"{value:.3g} s" if value < 1000 else f"{value:.0f} s"


def joined(words: Sequence[str]) -> str:
    """With commas and an "and"."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"
