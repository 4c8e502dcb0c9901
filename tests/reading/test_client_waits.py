"""When to come back, wherever a client keeps it: headers, bodies, metadata, sentences."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from helpers_client_errors import (
    ERA,
    Header,
    Response,
    client_error,
    gemini_error,
    http_status_error,
    retry_info,
    rpc_error,
    rpc_status,
    shape,
    wait_of,
)

from greenroom.actors.reading.classify import classify


def limited(**attributes: Any) -> BaseException:
    return shape("client.Error", status_code=429, **attributes)


RETRY_INFO: dict[str, Any] = {"google.rpc.retryinfo_bin": retry_info(300, 5 * 10**8)}
DURATION = SimpleNamespace(seconds=7, nanos=5 * 10**8)
IN_SEVEN = http_status_error(429, retry_after="7")
BUSY = http_status_error(503, retry_after="7")
OLLAMA = "ollama._types.ResponseError"


@pytest.mark.parametrize(
    ("error", "wait"),
    [
        (limited(headers={Header("Retry-After"): Header("7")}), 7.0),
        (limited(headers=[("Content-Type", "x"), ("Retry-After", "7")]), 7.0),
        (limited(headers={"retry-after-ms": "700", "retry-after": "1"}), 0.7),
        (limited(headers={"Retry-After": "30s"}), 30.0),
        (limited(headers={"Retry-After": "1m30s"}), 90.0),
        (limited(headers={"Retry-After": "PT1M30S"}), 90.0),
        (limited(headers={"Retry-After": "20ms"}), 0.02),
        (limited(headers={"Retry-After": ["7", "8"]}), 7.0),
        (limited(headers={"Retry-After": "Tue, 14 Nov 2023 22:14:05 GMT"}), 45.0),
        (limited(headers={"Retry-After": "2023-11-14T22:14:05Z"}), 45.0),
        (limited(litellm_response_headers={"retry-after": "7"}), 7.0),
        (limited(response_headers={"retry-after": "7"}), 7.0),
        (limited(raw_response=Response(429, retry_after="7")), 7.0),
        (limited(retry_after=timedelta(seconds=7)), 7.0),
        (limited(retry_after="7s"), 7.0),
        (limited(retry_after_ms=700), 0.7),
        (limited(body={"error": {"retry_after": 7}}), 7.0),
        (limited(body=b'{"retry_after_ms": 700}'), 0.7),
        (limited(body={"error": {"metadata": {"headers": {"Retry-After": "7"}}}}), 7.0),
        (limited(message="Rate limit reached. Please try again in 1.5s. Visit x"), 1.5),
        (limited(message="Please retry in 21.4s."), 21.4),
        (limited(message="Please retry after 26 seconds."), 26.0),
        (limited(message="Please try again in 20ms."), 0.02),
        (limited(message="Please try again in 6m0s."), 360.0),
        (limited(details=[SimpleNamespace(retry_delay=timedelta(seconds=7))]), 7.0),
        (limited(details=[SimpleNamespace(retry_delay=DURATION)]), 7.5),
        (gemini_error(429, "RESOURCE_EXHAUSTED", "x", {"retryDelay": "21s"}), 21.0),
        (gemini_error(503, "UNAVAILABLE", "x", {"retryDelay": "2.5s"}), 2.5),
        (client_error("ThrottlingException", 429, retry_after="7"), 7.0),
        (rpc_error("RESOURCE_EXHAUSTED", retry_after="7"), 7.0),
        (rpc_error("UNAVAILABLE", grpc_retry_pushback_ms="700"), 0.7),
        (rpc_error("RESOURCE_EXHAUSTED", **RETRY_INFO), 300.5),
        (rpc_error("UNAVAILABLE", grpc_status_details_bin=rpc_status(retry_info(7))), 7.0),
        (shape(OLLAMA, status_code=429, context=IN_SEVEN), 7.0),
        (shape(OLLAMA, status_code=429, context=BUSY), None),
        (shape("x.Wrapped", cause=http_status_error(503, retry_after="7")), 7.0),
    ],
)  # fmt: skip
def test_a_retry_after_is_found_where_clients_keep_it(
    error: BaseException, wait: float | None
) -> None:
    """In headers of any make, on the error, in its body, in gRPC's metadata, in a sentence."""
    assert wait_of(error) == (None if wait is None else pytest.approx(wait))


@pytest.mark.parametrize("status", [402, 429, 500, 503, 504, 529])
def test_a_retry_after_counts_wherever_time_may_mend_it(status: int) -> None:
    """402, 503, 504 and 529 too; then the same member is not asked again at once."""
    verdict = classify(http_status_error(status, retry_after="7"))
    assert (verdict.retry_after_s, verdict.same_member_may_mend) == (7.0, False)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "6m0s"}, 1.0),
        (
            {
                "x-ratelimit-remaining-requests": "9",
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "6m0s",
            },
            360.0,
        ),
        ({"anthropic-ratelimit-requests-reset": "2023-11-14T22:14:05Z"}, 45.0),
        (
            {
                "anthropic-ratelimit-requests-remaining": "5",
                "anthropic-ratelimit-requests-reset": "2023-11-14T22:13:21Z",
                "anthropic-ratelimit-input-tokens-remaining": "0",
                "anthropic-ratelimit-input-tokens-reset": "2023-11-14T22:14:05Z",
            },
            45.0,
        ),
        ({"x-ratelimit-reset": str(int(ERA) + 45)}, 45.0),
        ({"x-ratelimit-reset": str((int(ERA) + 45) * 1000)}, 45.0),
        ({"ratelimit-reset": "45"}, 45.0),
        ({"retry-after": "3", "x-ratelimit-reset-tokens": "6m0s"}, 3.0),
        ({"x-ratelimit-reset": "never"}, None),
    ],
)
def test_the_reset_of_a_budget_says_when_after_a_429(headers: dict[str, str], wait: float) -> None:
    """Of the budgets that are used up the last one counts; they come with every response."""
    assert wait_of(limited(headers=headers)) == wait
    if "retry-after" not in headers:
        assert wait_of(shape("client.Error", status_code=503, headers=headers)) is None
