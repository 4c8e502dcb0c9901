"""Errors of protocols, kit by kit: botocore, gRPC, events in streams, websockets, A2A, MCP."""

from __future__ import annotations

import asyncio
import json
import subprocess
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers_client_errors import (
    GrpcCode,
    anthropic_error,
    client_error,
    grpclib_status,
    http_status_error,
    kind_of,
    openai_error,
    rpc_error,
    shape,
)

from greenroom.actors.reading.classify import Verdict, classify
from greenroom.messages.status import FailureKind

BEDROCK = {
    ("ThrottlingException", 429): "rate_limited",
    ("TooManyRequestsException", 429): "rate_limited",
    ("ThrottlingException", 400): "rate_limited",
    ("AccessDeniedException", 403): "auth",
    ("ValidationException", 400): "caller",
    ("ValidationException", 413): "too_large",
    ("InternalServerException", 500): "unavailable",
    ("ServiceUnavailableException", 503): "unavailable",
    ("ModelNotReadyException", 529): "unavailable",
    ("ModelErrorException", 424): "unavailable",
    ("ModelTimeoutException", 408): "timeout",
    ("502", 502): "unavailable",
}


@pytest.mark.parametrize(("code", "status"), BEDROCK)
def test_botocores_status_is_in_a_dict(code: str, status: int) -> None:
    """`response["ResponseMetadata"]` and `response["Error"]["Code"]`."""
    assert kind_of(client_error(code, status)) == BEDROCK[code, status]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("modelStreamErrorException", "unavailable"),
        ("throttlingException", "rate_limited"),
        ("validationException", "caller"),
        ("internalServerException", "unavailable"),
    ],
)
def test_an_event_of_botocores_has_a_code_alone(code: str, kind: str) -> None:
    """EventStreamError comes in the middle of a 200."""
    error = shape(
        "botocore.exceptions.EventStreamError", "ClientError", response={"Error": {"Code": code}}
    )
    assert kind_of(error) == kind


GRPC = {
    "CANCELLED": "unavailable",
    "UNKNOWN": "unknown",
    "INVALID_ARGUMENT": "caller",
    "DEADLINE_EXCEEDED": "timeout",
    "NOT_FOUND": "not_found",
    "ALREADY_EXISTS": "caller",
    "PERMISSION_DENIED": "auth",
    "RESOURCE_EXHAUSTED": "rate_limited",
    "FAILED_PRECONDITION": "caller",
    "ABORTED": "unavailable",
    "OUT_OF_RANGE": "caller",
    "UNIMPLEMENTED": "not_found",
    "INTERNAL": "unavailable",
    "UNAVAILABLE": "unavailable",
    "DATA_LOSS": "unavailable",
    "UNAUTHENTICATED": "auth",
}


@pytest.mark.parametrize("code", GRPC)
def test_all_sixteen_codes_of_grpc_are_known(code: str) -> None:
    """As grpcio's method, grpclib's enum, google's class attribute and a body's word."""
    assert kind_of(rpc_error(code)) == GRPC[code]
    grpclib = shape("grpclib.exceptions.GRPCError", status=grpclib_status(code), message="x")
    assert kind_of(grpclib) == GRPC[code]
    # One HTTP status stands for several codes there: 409, 499 and 501 would be judged otherwise.
    google = shape("google.api_core.exceptions.X", code=None, grpc_status_code=GrpcCode[code])
    assert kind_of(google) == GRPC[code]
    assert kind_of(shape("client.Error", body={"error": {"status": code}})) == GRPC[code]


def test_a_grpc_call_that_still_runs_is_not_asked() -> None:
    """Its `code` would block until it ends, and an actor with it."""

    def block() -> None:
        raise AssertionError("it would block")

    error = shape(
        "grpc._channel._MultiThreadedRendezvous",
        "RpcError",
        code=block,
        details=block,
        trailing_metadata=block,
        done=lambda: False,
    )
    assert classify(error) == Verdict(FailureKind.UNKNOWN)


def test_a_message_that_is_too_large_for_grpc() -> None:
    """It comes as RESOURCE_EXHAUSTED, and only the words tell."""
    assert (
        kind_of(rpc_error("RESOURCE_EXHAUSTED", "Received message larger than max (9 vs. 8)"))
        == "too_large"
    )


def test_a_channel_that_was_closed_under_a_call_is_no_crash() -> None:
    """grpc.aio raises a CancelledError that nobody has asked for."""
    assert classify(asyncio.CancelledError()) == Verdict(FailureKind.UNAVAILABLE, disconnected=True)


BUSY_BODY = {"message": "x", "type": "server_error", "param": None}
UNREADABLE = "GeminiException - Unable to get json response - Expecting value: line 1 column 1"
INVALID = {"object": "error", "type": "invalid_request_error"}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (shape("claude_agent_sdk._errors.ResultError", api_error_status=429), "rate_limited"),
        (shape("claude_agent_sdk._errors.ResultError", api_error_status=529), "unavailable"),
        (shape("claude_agent_sdk._errors.ResultError", api_error_status=402), "quota"),
        (shape("claude_agent_sdk._errors.ResultError", api_error_status=400), "caller"),
        (shape("claude_agent_sdk._errors.ProcessError", exit_code=-9), "crashed"),
        (shape("claude_agent_sdk._errors.CLINotFoundError", "CLIConnectionError"), "unavailable"),
        (subprocess.CalledProcessError(-9, "agent"), "crashed"),
        (subprocess.CalledProcessError(137, "agent"), "crashed"),
        (subprocess.CalledProcessError(127, "agent"), "unavailable"),
        (subprocess.CalledProcessError(1, "agent"), "unknown"),
        (openai_error("APIError", None, {"code": "502", "message": "x"}), "unavailable"),
        (openai_error("APIError", None, {"code": 429, "message": "x"}), "rate_limited"),
        (shape("client.Error", status="503"), "unavailable"),
        (shape("client.Error", body=b'{"error": {"code": 502, "message": "x"}}'), "unavailable"),
        (RuntimeError("HTTP 503: try later"), "unavailable"),
        (RuntimeError("429 Too Many Requests"), "rate_limited"),
        (RuntimeError("Error code: 401 - {}"), "auth"),
        (RuntimeError("I have 429 apples and 503 pears"), "unknown"),
        (ValueError({"message": "x", "type": "overloaded_error"}), "unavailable"),
        (shape("nats.errors.NoRespondersError", "Error"), "unavailable"),
        (shape("nats.errors.ConnectionClosedError", "Error"), "unavailable"),
        (shape("nats.js.errors.NoStreamResponseError", "Error"), "unavailable"),
        (json.JSONDecodeError("x", "y", 0), "unknown"),
        (openai_error("APIError", None, {"message": "x"}), "unavailable"),
        (shape("ollama._types.ResponseError", error="llama runner has terminated"), "unavailable"),
        (shape("agents.ModelBehaviorError", text=f"no choices ({BUSY_BODY})"), "unavailable"),
        (ValueError("got {'type': 'invalid_request_error'}"), "unknown"),
        (shape("litellm.BadRequestError", status_code=400, message=UNREADABLE), "unavailable"),
        (shape("litellm.BadRequestError", status_code=422, message=UNREADABLE), "unavailable"),
        (shape("x.ResponseValidationError", status_code=200, body=INVALID), "unavailable"),
    ],
    ids=repr,
)
def test_a_status_is_found_in_odd_places(error: BaseException, kind: str) -> None:
    """Attributes of other names, digits as text, exit codes, bodies, sentences at the last."""
    assert kind_of(error) == kind


EVENTS = {
    "overloaded_error": "unavailable",
    "rate_limit_error": "rate_limited",
    "authentication_error": "auth",
    "invalid_request_error": "caller",
    "permission_error": "auth",
    "not_found_error": "not_found",
    "request_too_large": "too_large",
    "api_error": "unavailable",
    "server_error": "unavailable",
    "timeout_error": "timeout",
    "billing_error": "quota",
}


@pytest.mark.parametrize("kind", EVENTS)
def test_an_error_event_in_a_stream_has_a_type_alone(kind: str) -> None:
    """The status was 200 already."""
    assert kind_of(anthropic_error("APIStatusError", 200, kind, "x")) == EVENTS[kind]
    body = {"type": kind, "message": "x", "code": None}
    assert kind_of(openai_error("APIError", None, body)) == EVENTS[kind]
    raw = json.dumps({"error": body})
    assert kind_of(shape("mistralai.SDKError", status_code=200, body=raw)) == EVENTS[kind]


CLOSES = {
    1000: "unavailable", 1001: "unavailable", 1003: "caller", 1007: "caller", 1008: "caller",
    1009: "too_large", 1011: "unavailable", 1012: "unavailable", 1013: "unavailable",
    3000: "auth", 3003: "auth", 3008: "timeout", 4711: "unavailable",
}  # fmt: skip


class ConnectionClosed(Exception):
    """websockets': its `code` and `reason` warn that they are deprecated."""

    def __init__(self, received: int | None) -> None:
        super().__init__("closed")
        self.rcvd = None if received is None else SimpleNamespace(code=received, reason="x")

    @property
    def code(self) -> int:
        warnings.warn("use rcvd.code", DeprecationWarning, stacklevel=2)
        return 400

    reason = code


@pytest.mark.parametrize("code", CLOSES)
def test_a_websocket_is_judged_by_its_close_code(code: int) -> None:
    """The one that came from the other side; nothing that warns is looked at."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert kind_of(ConnectionClosed(code)) == CLOSES[code]
        assert kind_of(ConnectionClosed(None)) == "unavailable"
    assert told == []


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("InvalidParamsError", "caller"),
        ("TaskNotFoundError", "caller"),
        ("UnsupportedOperationError", "caller"),
        ("VersionNotSupportedError", "caller"),
        ("InternalError", "unavailable"),
    ],
)
def test_an_error_of_a2a_is_known_by_its_class(name: str, kind: str) -> None:
    """Their numbers mean other things elsewhere; a class of that name elsewhere means nothing."""
    assert kind_of(shape(f"a2a.utils.errors.{name}", "A2AError", message="x")) == kind
    assert kind_of(shape(f"app.{name}", message="x")) == "unknown"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (-32602, "caller"),
        (-32601, "caller"),
        (-32600, "caller"),
        (-32603, "unavailable"),
        (-32001, "timeout"),
        (-32000, "unavailable"),
        (-32050, "unavailable"),
        (-1, "unknown"),
    ],
)
def test_mcps_errors_have_the_numbers_of_json_rpc(code: int, kind: str) -> None:
    """On the error, or on what it holds; mostly in a group of a task group's."""
    inner = SimpleNamespace(code=code, message="x", data=None)
    error = shape("mcp.shared.exceptions.MCPError", error=inner, code=code)
    assert kind_of(error) == kind
    assert kind_of(shape("mcp.McpError", error=inner)) == kind
    assert kind_of(ExceptionGroup("unhandled errors in a TaskGroup", [error])) == kind


def test_a_404_of_mcps_server_is_no_unknown_method() -> None:
    """It has the number of one, and the words of HTTP."""
    for words, kind in (("Not Found", "not_found"), ("Method not found", "caller")):
        inner = SimpleNamespace(code=-32601, message=words)
        assert kind_of(shape("mcp.MCPError", error=inner, code=-32601, message=words)) == kind


def test_a_group_is_judged_by_what_another_member_could_mend() -> None:
    """The order of the tasks says nothing."""
    fine, mine = http_status_error(429, retry_after="7"), http_status_error(400)
    noise = shape("anyio.ClosedResourceError")
    for order in ([mine, fine, noise], [noise, mine, fine], [ExceptionGroup("y", [fine]), mine]):
        assert classify(ExceptionGroup("x", order)) == Verdict(FailureKind.RATE_LIMITED, 7.0)
        wrapped = shape("app.Failed", cause=ExceptionGroup("x", order))
        assert classify(wrapped) == Verdict(FailureKind.RATE_LIMITED, 7.0)
    assert kind_of(shape("app.Failed", cause=ExceptionGroup("x", [mine]))) == "caller"
    assert kind_of(ExceptionGroup("x", [mine, KeyError()])) == "caller"
    assert kind_of(ExceptionGroup("x", [KeyError(), ValueError()])) == "unknown"


def test_a_command_that_is_not_there_is_unavailable() -> None:
    """A file that is not there is not: it may be the agent's own."""
    with pytest.raises(FileNotFoundError) as caught:
        subprocess.run(["no-such-command-as-this"], check=False)
    assert kind_of(caught.value) == "unavailable"
    with pytest.raises(FileNotFoundError) as caught:
        Path("/no/such/file").read_bytes()
    assert kind_of(caught.value) == "unknown"


def test_what_does_not_fit_among_a_commands_arguments_is_too_large() -> None:
    """Another member may take it some other way."""
    with pytest.raises(OSError, match="too long") as caught:
        subprocess.run(["true", "x" * 3_000_000], check=False)
    assert kind_of(caught.value) == "too_large"
