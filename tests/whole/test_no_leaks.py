"""Payloads and keys are in no repr, no error's text and no line of the log."""

from __future__ import annotations

from typing import Any

import pytest
from helpers_pools import WAIT_S, pool_of

from greenroom import (
    AllPoolMembersFailedError,
    Apply,
    AttemptError,
    FailureKind,
    Member,
    Request,
    StreamInterruptedError,
)
from greenroom.actors.runtime.event_bus import traced
from greenroom.messages.errors import summary
from greenroom.messages.execution import Execute, Succeeded
from greenroom.messages.pickling import masked
from greenroom.testing import EventRecorder

SECRETS = {
    "OpenAI": "Incorrect API key provided: {}. You can find your key at",
    "bearer": "401 for Authorization: Bearer {}",
    "bearer in a dict": "headers={{'authorization': 'Bearer {}'}}",
    "basic": "Authorization: Basic {}",
    "api_key": "api_key={} is not valid",
    "api-key": "x-api-key: {}",
    "JSON": '{{"api_key": "{}"}}',
    "query": "400 for https://example.com/v1/models?alt=sse&key={}&x=1",
    "token": "refused token={}",
    "access token": "https://example.com/?access_token={}",
    "password": "password='{}'",
    "URL": "cannot reach https://user:{}@example.com/v1",
}
"""Where a secret stands in an error's first line."""
PLACED = {
    "OpenAI": "sk-proj-abcdef0123456789",
    "basic": "dXNlcjpwYXNzd29yZA==",
}
KEYS = [
    "sk-secret",
    "sk-ant-api03-abcdefgh_ij-kl",
    "gsk_abcdefgh12345678",
    "hf_abcdefgh12345678",
    "xai-abcdefgh12345678",
    "AIzaSyA-abcdefgh_12345678",
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_abcdefgh12345678",
    "xoxb-12345678-abcdefgh",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-def_123",
]
HARMLESS = [
    "429 Too Many Requests: 40000 tokens per minute, max_tokens: 4096",
    "KeyError: 'choices'",
    "a key: value pair, keys=3 and monkey=true",
    "the risk-free task-oriented model is overloaded",
    "basic authentication failed",
    "key must be a string, got 7 (int)",
    "cannot connect to host example.com:443 ssl:default [Connect call failed ('::1', 443, 0, 0)]",
    "https://example.com:8080/path",
]


@pytest.mark.parametrize("where", SECRETS)
def test_a_secret_in_an_errors_first_line_is_masked(where: str) -> None:
    """By what stands before it, whatever it looks like; the rest of the line stays."""
    secret = PLACED.get(where, "Zq7-very.secret_99")
    line = SECRETS[where].format(secret)
    shown = summary(RuntimeError(line))
    assert secret not in shown
    assert shown == "RuntimeError: " + SECRETS[where].format("***").replace("user:***", "***")


@pytest.mark.parametrize("key", KEYS)
def test_a_key_is_masked_wherever_it_stands(key: str) -> None:
    """By its looks."""
    assert masked(f"the backend says ({key}), no") == "the backend says (***), no"


@pytest.mark.parametrize("line", HARMLESS)
def test_what_is_no_secret_stays(line: str) -> None:
    """Words that only sound like one."""
    assert masked(line) == line


def test_a_secret_at_the_cut_is_masked_as_well() -> None:
    """The line is masked before it is cut to 200 characters."""
    shown = summary(ValueError("x" * 190 + " sk-secret-0123456789 and more"))
    assert "sk-" not in shown
    assert len(shown) <= len("ValueError: ") + 200


@pytest.mark.parametrize(
    "line", ["a" * 400, "key=" * 100, "basic " * 70, "://" + "a" * 400, "eyJ" * 130, "_" * 400]
)
def test_masking_takes_a_line_in_steps_that_are_bounded(line: str) -> None:
    """No text makes it search for long: it comes back (and this does not run into its limit)."""
    for _ in range(100):
        masked(line)


def test_tracebacks_are_masked() -> None:
    """Those of complaints about hooks and subscribers, which are logged whole."""
    shown = traced(ValueError("first\ntoken=Zq7-very.secret_99"))
    assert shown == "ValueError: first\ntoken=***"


# -- reprs


def test_reprs_show_no_payload() -> None:
    """Of requests and of what the actors say to each other; options that were given are shown."""
    request = Request("PAYLOAD", key="k", timeout_s=5, metadata={"user": "PAYLOAD"})
    assert repr(request) == "Request(<str>, key='k', timeout=5, metadata=<1>)"
    assert repr(Request(b"PAYLOAD")) == "Request(<bytes>)"
    assert "PAYLOAD" not in repr(Execute("1", 1, 1, request))
    done = Succeeded(
        member="a", incarnation=1, request_id="1", attempt=1, value="PAYLOAD", elapsed_s=0.1
    )
    assert "PAYLOAD" not in repr(done)


def test_the_repr_of_an_apply_names_its_function_alone() -> None:
    """What a closure or a partial holds is payload."""
    from functools import partial

    assert repr(Apply(partial(print, "PAYLOAD"))) == "Apply(<partial>)"
    assert repr(Apply(len, priority=2)) == "Apply(len, priority=2)"


def test_reprs_of_errors_show_causes_in_a_line() -> None:
    """And of a stream that broke off no chunks."""
    cause = ValueError("first sk-secret-key\nPAYLOAD")
    failed = AttemptError("a", 0, FailureKind.UNKNOWN, cause)
    error = AllPoolMembersFailedError("p", ["a"], [failed])
    broken = StreamInterruptedError("p", "a", [failed], ["PAYLOAD"], 1)
    for each in (failed, error, broken):
        assert "PAYLOAD" not in repr(each)
        assert "sk-secret" not in repr(each)
        assert "ValueError" in repr(each)
    assert repr(error).startswith("AllPoolMembersFailedError('p', ('a',), (AttemptError('a', 0, ")


def test_reprs_of_futures_and_streams() -> None:
    """The id and the state."""
    with pool_of(Member("a", lambda payload: payload), name="web") as pool:
        future = pool.ask(Request("PAYLOAD", request_id="r"), block=False)
        future.get(timeout=WAIT_S)
        stream = pool.stream(Request("PAYLOAD", request_id="s"))
        assert stream.collect() == ["PAYLOAD"]
        assert repr(future) == "<PoolFuture r answered>"
        assert "PAYLOAD" not in repr(stream)


# -- bad input


def test_what_is_given_in_place_of_a_request_is_not_quoted() -> None:
    """It may be the payload itself."""
    given: Any = "PAYLOAD"
    with pool_of(Member("a", lambda payload: payload)) as pool:
        for refused in (lambda: pool.stream(given), lambda: pool.ask(given, timeout=WAIT_S)):
            with pytest.raises(TypeError) as caught:
                refused()
            assert "PAYLOAD" not in str(caught.value)
            assert "str" in str(caught.value)
    for options in ({"metadata": given}, {"metadata": [given]}):
        with pytest.raises(TypeError, match=r"metadata must be a mapping, got a (str|list)"):
            Request(1, **options)
    with pytest.raises(TypeError, match="function must be callable, got a str"):
        Apply(given)


def test_events_and_errors_of_a_failure_show_no_secret() -> None:
    """From the agent's error to the log's events, the statistics and what the asker is told."""

    def agent(payload: Any) -> Any:
        raise ConnectionError(f"refused, api_key=Zq7-very.secret_99\n{payload}")

    with EventRecorder() as recorder, pool_of(Member("a", agent)) as pool:
        with pytest.raises(AllPoolMembersFailedError) as caught:
            pool.execute("PAYLOAD", timeout=WAIT_S)
        shown = [str(caught.value), repr(caught.value), repr(pool.stats()), pool.stats()["a"]]
    shown += [event.describe() for event in recorder.all]
    shown += [repr(event) for event in recorder.all]
    assert any("api_key=***" in str(each) for each in shown)
    for each in shown:
        assert "Zq7" not in str(each)
        assert "PAYLOAD" not in str(each)
