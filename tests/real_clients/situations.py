"""What can go wrong with a backend, and what kind of failure each of it is."""

from __future__ import annotations

from dataclasses import dataclass

RETRY_AFTER_S = 7.0
RETRY_AFTER_MS = 1500
RETRY_DATE_S = 30


@dataclass(frozen=True, slots=True)
class Situation:
    """One way in which a backend fails.

    Attributes:
        right: the kinds that are right for it; several where clients differ for good reasons.
        retry_after_s: what the backend asks for, in seconds.
        stream: whether the client is asked for a stream.
        providers: those that answer like this; empty means all.
    """

    right: tuple[str, ...]
    retry_after_s: float | None = None
    stream: bool = False
    providers: tuple[str, ...] = ()


SITUATIONS: dict[str, Situation] = {
    "429s": Situation(("rate_limited",), RETRY_AFTER_S),
    "429ms": Situation(("rate_limited",), RETRY_AFTER_MS / 1000),
    "429date": Situation(("rate_limited",), float(RETRY_DATE_S)),
    "429quota": Situation(("quota",)),
    "401": Situation(("auth",)),
    "403": Situation(("auth",)),
    "402": Situation(("quota",)),
    "400": Situation(("caller",)),
    "400ctx": Situation(("too_large",)),
    "404": Situation(("not_found",)),
    "408": Situation(("timeout",)),
    "413": Situation(("too_large",)),
    "422": Situation(("caller",)),
    "500": Situation(("unavailable",)),
    "503s": Situation(("unavailable",), RETRY_AFTER_S),
    "529": Situation(("unavailable",)),
    "502html": Situation(("unavailable",)),
    "200err": Situation(("unavailable",)),
    "200empty": Situation(("unknown", "unavailable")),
    "200filter": Situation(("caller",)),
    "200length": Situation(("unknown", "too_large")),
    "200trunc": Situation(("unavailable", "unknown")),
    "200html": Situation(("unavailable", "unknown")),
    "closed": Situation(("unavailable",)),
    "reset": Situation(("unavailable",)),
    # An async client may call a refused connection a timeout; both count for the breaker.
    "refused": Situation(("unavailable", "timeout")),
    "hang": Situation(("timeout",)),
    "400credit": Situation(("quota",), providers=("anthropic",)),
    "400key": Situation(("auth",), providers=("gemini",)),
    "400expired": Situation(("auth",), providers=("bedrock",)),
    "st_ok": Situation((), stream=True),
    "st_cut": Situation(("unavailable",), stream=True),
    "st_rst": Situation(("unavailable",), stream=True),
    "st_err": Situation(("unavailable",), stream=True),
    "st_noend": Situation(("unavailable", "unknown"), stream=True),
    "st_hang": Situation(("timeout",), stream=True),
}


def applies(name: str, provider: str) -> bool:
    """Whether a provider answers in this way at all."""
    providers = SITUATIONS[name].providers
    return not providers or provider in providers
