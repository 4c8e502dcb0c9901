"""What is reported of a call that its pool has given up."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from greenroom import FailureKind, PoolConfig, Request, RequestCancelledError
from greenroom.actors.executors.thread_executor import ThreadExecutor
from greenroom.actors.member.attempt_call import AttemptCall
from greenroom.actors.member.call_outcome import outcome_of
from greenroom.actors.runtime.clock import SYSTEM_CLOCK
from greenroom.messages.execution import Execute, Failed, Refused
from greenroom.messages.status import CancelReason

MESSAGE = Execute("r", 1, 1, Request("payload"))


def outcome(cancelled: CancelReason | None, error: BaseException) -> Failed | Refused | None:
    """The report of a call that ended with this error, after it was given up or not."""
    around: Any = SimpleNamespace(clock=SYSTEM_CLOCK, config=PoolConfig())
    call = AttemptCall(Mock(), Mock(), ThreadExecutor("p", SYSTEM_CLOCK), MESSAGE)
    call.begin(0.0)
    call.cancelled = cancelled
    call.end()
    return outcome_of(around, "a", call, None, error)


@pytest.mark.parametrize(
    "error", [RequestCancelledError("given up"), asyncio.CancelledError(), GeneratorExit()]
)
@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (CancelReason.STOPPING, FailureKind.CRASHED),
        (CancelReason.ATTEMPT_TIMEOUT, FailureKind.TIMEOUT),
        (CancelReason.CALLER, FailureKind.CANCELLED),
        (CancelReason.DEADLINE, FailureKind.CANCELLED),
    ],
)
def test_a_call_that_ends_because_it_was_given_up_has_the_kind_of_that(
    reason: CancelReason, kind: FailureKind, error: BaseException
) -> None:
    """Also when it heard of it from `started_side_effects`, which raises RequestCancelledError."""
    report = outcome(reason, error)
    assert isinstance(report, Failed)
    assert report.kind is kind


@pytest.mark.parametrize("reason", [None, CancelReason.STOPPING])
def test_an_error_of_its_own_stays_what_it_is(reason: CancelReason | None) -> None:
    """Given up or not, an agent that fails by itself is reported with its own error."""
    error = ValueError("its own")
    report = outcome(reason, error)
    assert isinstance(report, Failed)
    assert (report.kind, report.error) == (FailureKind.UNKNOWN, error)


def test_an_inner_pools_cancelled_request_is_no_cancelled_call() -> None:
    """A call that was not given up has failed, whatever the error's name."""
    report = outcome(None, RequestCancelledError("of an inner pool"))
    assert isinstance(report, Failed)
    assert report.kind is FailureKind.UNKNOWN


@pytest.mark.parametrize(
    ("error", "certain", "may_mend"),
    [
        (ConnectionResetError(), False, True),
        (ConnectionRefusedError(), False, False),
        (TimeoutError(), False, False),
        (ValueError("its own"), False, False),
    ],
)
def test_a_report_says_who_may_mend_it(error: Exception, certain: bool, may_mend: bool) -> None:
    """Whether the member is at fault for certain, and whether it may do better at once."""
    report = outcome(None, error)
    assert isinstance(report, Failed)
    assert (report.opens_at_once, report.same_member_may_mend) == (certain, may_mend)


def test_a_bad_key_is_certain_to_be_the_members() -> None:
    """The report of a 401 says so, and that of a 403 does not."""
    for status, certain in ((401, True), (402, True), (403, False)):
        error = RuntimeError("refused")
        error.status_code = status  # type: ignore[attr-defined]
        report = outcome(None, error)
        assert isinstance(report, Failed)
        assert (report.opens_at_once, report.same_member_may_mend) == (certain, False)
