"""What is to be done about a failure, in a few words, by its kind. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from greenroom.messages.status import FailureKind

ADVICE: Mapping[FailureKind, str] = MappingProxyType(
    {
        FailureKind.TIMEOUT: "see why it is slow, or give it more request_timeout_s",
        FailureKind.UNAVAILABLE: "if it lasts, look at its server, its address and the network",
        FailureKind.CRASHED: "see its member.terminated line",
        FailureKind.UNKNOWN: "see its error; PoolConfig(classify=) says what such a one means",
        FailureKind.RATE_LIMITED: "declare its limits by Member(limits=), or have them raised",
        FailureKind.AUTH: "check its key",
        FailureKind.QUOTA: "see to the credit or the quota of its account",
        FailureKind.NOT_FOUND: "check the name of its model, and its address",
        FailureKind.TOO_LARGE: "shorten the request, or add a member that takes more",
        FailureKind.CALLER: "mend the request",
        FailureKind.CANCELLED: "see who has cancelled it",
        FailureKind.CREATE_FAILED: "see its member.create_failed line",
        FailureKind.INTERRUPTED: "ask again",
    }
)
"""By the kind of a failure, of the member that has failed."""

SEE_ITS_FAILURES = "see its attempt.failed lines"
"""Where no kind is known."""


def of_kind(kind: FailureKind | None) -> str:
    """What is to be done about a member that fails so."""
    return SEE_ITS_FAILURES if kind is None else ADVICE[kind]
