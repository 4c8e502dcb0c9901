"""Whether a member's client seems to retry by itself, which multiplies what the pool does. Pure."""

from __future__ import annotations

from greenroom.messages.status import FailureKind

TIMES_USUAL = 3.0
LEAST_S = 1.0
"""A client that retries waits at least half a second and then a second, as a rule."""

_REFUSALS = (FailureKind.RATE_LIMITED, FailureKind.UNAVAILABLE)
"""What a backend says fast, and what clients retry: 429, 500, 502, 503, a refused connection."""

HINT = (
    "pool {pool!r}: member {member!r} took {elapsed_s:.1f} s to fail as {kind}, and usually takes"
    " {usual_s:.1f} s to answer: its client seems to retry by itself, on top of the pool;"
    " docs/clients.md has the switches that turn it off"
)


class ClientRetries:
    """Suspects each member once.

    A refusal is quick. One that took longer than a second and than three answers of the same member
    looks like several of them with pauses between. It is no proof: a gateway may be slow to refuse.
    Nor is everything found: without an answer so far there is nothing to compare with, and a client
    whose three tries take less than three usual answers goes unseen.
    """

    def __init__(self) -> None:
        self._suspected: set[str] = set()

    def suspects(
        self, member: str, kind: FailureKind, elapsed_s: float, usual_s: float | None
    ) -> bool:
        """Whether a failure is the first that looks like several in one.

        Args:
            member: whose failure it is.
            kind: what the pool took it for.
            elapsed_s: how long the attempt took, in seconds.
            usual_s: what the member's successes take on average; None before the first.
        """
        if kind not in _REFUSALS or usual_s is None or member in self._suspected:
            return False
        if elapsed_s <= max(LEAST_S, TIMES_USUAL * usual_s):
            return False
        # Once for each member: it is advice on how it was set up,
        # which does not change with every failure.
        self._suspected.add(member)
        return True
