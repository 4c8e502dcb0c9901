"""What real clients raise, client by client: shapes only, none of them is installed."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import ssl
import subprocess
import sys
import urllib.error
import warnings
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers_client_errors import (
    GrpcCode,
    Header,
    Response,
    anthropic_error,
    client_error,
    gemini_error,
    grpclib_status,
    http_status_error,
    openai_error,
    retry_info,
    rpc_error,
    rpc_status,
    shape,
)

from greenroom.actors.classify import Verdict, classify, classify_value
from greenroom.messages.status import FailureKind

ERA = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


def kind_of(error: BaseException) -> str:
    return classify(error, wall_now=ERA).kind.value


def wait_of(error: BaseException) -> float | None:
    return classify(error, wall_now=ERA).retry_after_s


# -- connections that were cut

PARSER = shape("aiohttp.http_exceptions.TransferEncodingError", "PayloadEncodingError", code=400)
PAYLOAD = shape("aiohttp.client_exceptions.ClientPayloadError", "ClientError", cause=PARSER)
INCOMPLETE = http.client.IncompleteRead(b"x", 10)
PROTOCOL = shape(
    "urllib3.exceptions.ProtocolError", "HTTPError", text="Connection broken", cause=INCOMPLETE
)

CUT = [
    PAYLOAD,
    shape("google.genai.errors.UnknownApiResponseError", "ValueError", cause=PAYLOAD),
    PARSER,
    shape("requests.exceptions.ChunkedEncodingError", "RequestException", text=PROTOCOL),
    PROTOCOL,
    INCOMPLETE,
    http.client.RemoteDisconnected("closed"),
    asyncio.IncompleteReadError(b"", 5),
    shape("botocore.exceptions.ConnectionClosedError", "HTTPClientError", "BotoCoreError"),
    shape("botocore.exceptions.ResponseStreamingError", "HTTPClientError"),
    shape("azure.core.exceptions.ServiceResponseError", "AzureError", inner_exception=PROTOCOL),
    shape("grpclib.exceptions.StreamTerminatedError", "Exception"),
    shape("httpx.RemoteProtocolError", "ProtocolError", "TransportError"),
    shape("openai.APIConnectionError", "APIError", cause=shape("httpx.ReadError", "NetworkError")),
    shape("anyio.ClosedResourceError"),
]


@pytest.mark.parametrize("error", CUT, ids=repr)
def test_a_cut_connection_is_nobodys_fault_but_the_members(error: BaseException) -> None:
    """Whatever number a parser's error further in may have; the same member may mend it."""
    assert classify(error) == Verdict(FailureKind.UNAVAILABLE, same_member_may_mend=True)


REFUSED = [
    urllib.error.URLError(ConnectionRefusedError(111, "refused")),
    urllib.error.URLError(socket.gaierror(-2, "unknown")),
    urllib.error.URLError(ssl.SSLCertVerificationError("untrusted")),
    shape("azure.core.exceptions.ServiceRequestError", "AzureError"),
    shape("nats.errors.NoServersError", "Error"),
    shape("botocore.exceptions.EndpointConnectionError", "ConnectionError"),
    shape("requests.exceptions.ConnectionError", OSError, text=shape("urllib3.NewConnectionError")),
    shape("openai.APIConnectionError", "APIError", cause=shape("httpx.ConnectError")),
    ValueError("Cannot invoke RPC on closed channel!"),
    RuntimeError("Cannot send a request, as the client has been closed."),
]


@pytest.mark.parametrize("error", REFUSED, ids=repr)
def test_a_connection_that_was_never_made_is_not_tried_again_at_once(error: BaseException) -> None:
    """Unavailable, but the same member would say the same."""
    assert classify(error) == Verdict(FailureKind.UNAVAILABLE)


def test_a_url_error_without_a_cause_is_not_known() -> None:
    """Its reason may be that the URL makes no sense."""
    assert kind_of(urllib.error.URLError("no host given")) == "unknown"


READ_TIMEOUT = shape("urllib3.exceptions.ReadTimeoutError", "TimeoutError", "HTTPError")


@pytest.mark.parametrize(
    "error",
    [
        shape("requests.exceptions.ConnectionError", "RequestException", text=READ_TIMEOUT),
        shape("requests.exceptions.ConnectionError", "RequestException", cause=READ_TIMEOUT),
        shape(
            "litellm.exceptions.MidStreamFallbackError",
            "ServiceUnavailableError",
            status_code=503,
            original_exception=shape("litellm.exceptions.Timeout", status_code=408),
        ),
        shape("httpx.ConnectTimeout", "TimeoutException"),
        http_status_error(504),
        shape("nats.errors.TimeoutError", TimeoutError),
    ],
    ids=repr,
)
def test_a_timeout_is_one_under_any_name(error: BaseException) -> None:
    """Also where the client calls it a broken connection; it is never tried again at once."""
    assert classify(error) == Verdict(FailureKind.TIMEOUT)


def test_499_is_no_callers_fault() -> None:
    """The server says that its client has gone: that was not the asker."""
    assert kind_of(shape("google.api_core.exceptions.Cancelled", code=499)) == "unavailable"


def test_a_middle_of_a_stream_is_judged_by_its_cause() -> None:
    """litellm gives it a 503; without a cause that stands."""
    name = "litellm.exceptions.MidStreamFallbackError"
    inner = shape("litellm.exceptions.RateLimitError", status_code=429)
    assert kind_of(shape(name, status_code=503, original_exception=inner)) == "rate_limited"
    assert kind_of(shape(name, status_code=503)) == "unavailable"


# -- prompts that do not fit

TOO_LARGE: dict[str, Any] = {
    "openai": (400, "This model's maximum context length is 8192 tokens. However, you requested 9"),
    "openai-code": (400, "x", "context_length_exceeded"),
    "openai-responses": (400, "Your input exceeds the context window of this model."),
    "openai-tpm": (429, "Request too large for gpt-4 on tokens per min (TPM): Limit 10000"),
    "llama.cpp": (
        400,
        "the request exceeds the available context size (4096 tokens), try increasing it",
        "exceed_context_size_error",
    ),
    "vllm": (400, "The decoder prompt (length 9) is longer than the maximum model length of 8"),
    "anthropic": (400, "prompt is too long: 210000 tokens > 200000 maximum"),
    "anthropic-sum": (400, "input length and `max_tokens` exceed context limit: 1 + 2 > 2"),
    "mistral": (400, "Prompt contains 9 tokens, too large for model with 8 maximum context length"),
    "cohere": (400, "too many tokens: total number of tokens in the prompt cannot exceed 4081"),
    "groq": (400, "Please reduce the length of the messages or completion."),
    "together": (422, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8193"),
    "tgi": (422, "`inputs` must have less than 1024 tokens. Given: 2000"),
    "gemini": (400, "The input token count (9) exceeds the maximum number of tokens allowed (8)."),
    "ollama": (400, "the input length exceeds the context length"),
    "bedrock": (400, "Input is too long for requested model."),
    "bedrock-nova": (
        400,
        "Too many input tokens. Max input tokens: 8, request input token count: 9",
    ),
    "openrouter": (400, "This endpoint's maximum context length is 8 tokens."),
    "zhipu": (400, "Prompt exceeds max length", "1261"),
    "dashscope": (400, "Range of input length should be [1, 30720]"),
    "xai": (400, "This model's maximum prompt length is 8 but the request contains 9 tokens."),
    "moonshot": (400, "Invalid request: Your request exceeded model token limit: 8192"),
    "copilot": (400, "prompt token count of 9 exceeds the limit of 8"),
    "nginx": (413, "<html><title>413 Request Entity Too Large</title></html>"),
}


@pytest.mark.parametrize("provider", TOO_LARGE)
def test_a_prompt_that_does_not_fit_is_known_in_each_providers_words(provider: str) -> None:
    """Only the words tell, wherever the client keeps them: body, bytes, text, message."""
    status, message, *code = TOO_LARGE[provider]
    body: dict[str, Any] = {"message": message, "type": "invalid_request_error"}
    body |= {"code": code[0]} if code else {}
    raw = json.dumps({"error": body}).encode()
    for error in (
        openai_error("BadRequestError", status, body),
        http_status_error(status, raw),
        shape("cohere.BadRequestError", status_code=status, body={"message": message, **body}),
        shape("mistralai.SDKError", status_code=status, body=raw.decode(), raw_response=None),
        shape("ollama._types.ResponseError", status_code=status, error=json.dumps(body)),
        shape("litellm.BadRequestError", status_code=status, message=f"AnthropicException {raw!r}"),
        shape("pydantic_ai.ModelHTTPError", status_code=status, body=body),
        shape("replicate.ReplicateError", status=status, detail=f"{message} {code}"),
        client_error("ValidationException", status, f"{message} {code}"),
        shape(
            "a2a.A2AClientError",
            text=f"HTTP Error {status}: x",
            cause=http_status_error(status, raw),
        ),
    ):
        assert classify(error) == Verdict(FailureKind.TOO_LARGE), (provider, error)


@pytest.mark.parametrize(
    "name",
    [
        "pydantic_ai.exceptions.ModelContextWindowExceededError",
        "litellm.exceptions.ContextWindowExceededError",
        "langchain_openai.OpenAIContextOverflowError",
        "strands.ContextWindowOverflowException",
        "nats.errors.MaxPayloadError",
    ],
)
def test_a_class_of_such_errors_is_known_by_its_ending(name: str) -> None:
    """They come as a plain 400, and their names alone tell."""
    assert kind_of(shape(name, "BadRequestError", status_code=400)) == "too_large"


@pytest.mark.parametrize("status", [401, 404, 408, 500, 503])
def test_the_words_count_for_refusals_of_a_request_alone(status: int) -> None:
    """A 500 that mentions a context window is no prompt that is too long."""
    error = http_status_error(status, b'{"error": {"message": "maximum context length"}}')
    assert kind_of(error) != "too_large"


def test_what_a_refusal_quotes_is_not_taken_for_its_own_words() -> None:
    """A validation error echoes the prompt, and a prompt may speak of anything."""
    echo = {"detail": [{"type": "missing", "msg": "Field required", "input": "prompt is too long"}]}
    assert kind_of(shape("client.Error", status_code=422, body=echo)) == "caller"


# -- accounts and keys


@pytest.mark.parametrize(
    "error",
    [
        openai_error("RateLimitError", 429, {"type": "insufficient_quota", "message": "x"}),
        openai_error("RateLimitError", 429, {"code": "insufficient_quota", "message": "x"}),
        openai_error("RateLimitError", 429, {"message": "You exceeded your current quota, please"}),
        anthropic_error(
            "BadRequestError", 400, "invalid_request_error", "Your credit balance is too low to"
        ),
        anthropic_error("APIStatusError", 402, "billing_error", "x"),
        http_status_error(429, b'{"error": {"code": "insufficient_quota"}}'),
        shape(
            "litellm.RateLimitError", status_code=429, message="x {'code': 'insufficient_quota'}"
        ),
        shape("ollama._types.ResponseError", status_code=429, error="insufficient_quota: x"),
        shape("pydantic_ai.exceptions.ModelQuotaExceededError", "ModelHTTPError", status_code=429),
        client_error("ServiceQuotaExceededException", 400),
        client_error("ValidationException", 402),
        gemini_error(
            429,
            "RESOURCE_EXHAUSTED",
            "You exceeded your current quota, please check your plan and billing details.",
            {"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]},
        ),
    ],
    ids=repr,
)
def test_an_empty_account_is_known_in_each_providers_words(error: BaseException) -> None:
    """It opens the breaker at once, whatever status it comes with."""
    verdict = classify(error)
    assert (verdict.kind, verdict.opens_at_once) == (FailureKind.QUOTA, True)


def test_geminis_quota_of_a_minute_is_a_rate_limit() -> None:
    """The same sentence as for an empty account; the id of the quota tells, and the delay."""
    error = gemini_error(
        429,
        "RESOURCE_EXHAUSTED",
        "You exceeded your current quota, please check your plan and billing details.",
        {"violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel"}]},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "21s"},
    )
    assert classify(error) == Verdict(FailureKind.RATE_LIMITED, 21.0)


@pytest.mark.parametrize(
    "error",
    [
        gemini_error(400, "INVALID_ARGUMENT", "API key not valid.", {"reason": "API_KEY_INVALID"}),
        shape("pydantic_ai.exceptions.ModelAuthenticationError", "ModelHTTPError", status_code=400),
        client_error("ExpiredTokenException", 403),
        client_error("ExpiredToken", 400),
        client_error("UnrecognizedClientException", 403),
        openai_error("AuthenticationError", 401, {"code": "invalid_api_key"}),
        rpc_error("UNAUTHENTICATED"),
        shape("openai.OpenAIError", text="Missing credentials. Please pass an `api_key`, or"),
        shape("openai.OpenAIError", text="The api_key client option must be set either by passing"),
        TypeError('"Could not resolve authentication method. Expected one of api_key"'),
        shape("botocore.exceptions.NoCredentialsError", "BotoCoreError"),
        shape("google.auth.exceptions.DefaultCredentialsError", "GoogleAuthError"),
        shape("nats.errors.Error", text="nats: 'Authorization Violation'"),
        shape("claude_agent_sdk._errors.ResultError", api_error_status=401),
    ],
    ids=repr,
)
def test_a_bad_key_is_certain_to_be_the_members(error: BaseException) -> None:
    """It opens the breaker at once."""
    assert classify(error) == Verdict(FailureKind.AUTH, opens_at_once=True)


@pytest.mark.parametrize(
    "error",
    [
        http_status_error(403),
        client_error("AccessDeniedException", 403),
        rpc_error("PERMISSION_DENIED"),
        anthropic_error("PermissionDeniedError", 403, "permission_error", "x"),
        shape("client.PermissionDeniedError"),
        shape("pydantic_ai.exceptions.ModelAuthenticationError", "ModelHTTPError", status_code=403),
    ],
    ids=repr,
)
def test_a_403_may_follow_the_request(error: BaseException) -> None:
    """Another member is asked, and no breaker opens for one of them."""
    assert classify(error) == Verdict(FailureKind.AUTH)


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"code": 403, "message": "x", "metadata": {"reasons": ["violence"]}}},
        {"error": {"code": "content_filter", "message": "x"}},
        {"error": {"message": "Your input was flagged"}},
        {"code": "DataInspectionFailed", "message": "x"},
        {"error": {"innererror": {"code": "ResponsibleAIPolicyViolation"}}},
    ],
    ids=repr,
)
def test_a_403_of_moderation_is_the_callers(body: dict[str, Any]) -> None:
    """No other member would do better, and none is at fault."""
    for status in (400, 403):
        assert kind_of(shape("client.Error", status_code=status, body=body)) == "caller"
    assert kind_of(http_status_error(403, json.dumps(body).encode())) == "caller"


@pytest.mark.parametrize(
    "name",
    [
        "pydantic_ai.exceptions.ContentFilterError",
        "agents.exceptions.ModelRefusalError",
        "litellm.exceptions.ContentPolicyViolationError",
    ],
)
def test_a_class_of_filtered_content_is_the_callers(name: str) -> None:
    """They have no status of their own."""
    assert kind_of(shape(name)) == "caller"


# -- what is not there any more


@pytest.mark.parametrize(
    "error",
    [
        http_status_error(404),
        http_status_error(410),
        openai_error("PermissionDeniedError", 403, {"code": "model_not_found", "message": "x"}),
        openai_error("BadRequestError", 400, {"code": "model_decommissioned", "message": "x"}),
        openai_error("BadRequestError", 400, {"message": "gpt-9 is not a valid model ID"}),
        openai_error("NotFoundError", 404, {"code": "DeploymentNotFound", "message": "x"}),
        client_error("ResourceNotFoundException", 404),
        client_error("ValidationException", 400, "The provided model identifier is invalid."),
        rpc_error("NOT_FOUND"),
        rpc_error("UNIMPLEMENTED"),
        shape(
            "google.api_core.MethodNotImplemented",
            code=501,
            grpc_status_code=GrpcCode["UNIMPLEMENTED"],
        ),
        openai_error("APIError", None, {"type": "not_found_error", "message": "x"}),
    ],
    ids=repr,
)
def test_a_retired_model_is_another_members_turn(error: BaseException) -> None:
    """404 under all its names: it must not be the user's error while a healthy one stands by."""
    assert classify(error) == Verdict(FailureKind.NOT_FOUND)


# -- where the status sits

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
    assert classify(asyncio.CancelledError()) == Verdict(FailureKind.UNAVAILABLE)


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


# -- Retry-After


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


# -- values


class TestValues:
    @pytest.mark.parametrize(
        ("value", "verdict"),
        [
            (
                {"status_code": 429, "headers": {"Retry-After": "7"}},
                Verdict(FailureKind.RATE_LIMITED, 7.0),
            ),
            (
                SimpleNamespace(status_code=429, headers={"Retry-After": "7"}),
                Verdict(FailureKind.RATE_LIMITED, 7.0),
            ),
            (
                SimpleNamespace(status_code=401, code="InvalidApiKey", message="x", output=None),
                Verdict(FailureKind.AUTH, None, True),
            ),
            (
                SimpleNamespace(status_code=400, message="Range of input length is"),
                Verdict(FailureKind.TOO_LARGE),
            ),
            (
                {"error": {"type": "overloaded_error", "message": "x"}},
                Verdict(FailureKind.UNAVAILABLE),
            ),
            (
                {"error": {"code": 502, "message": "x"}, "choices": []},
                Verdict(FailureKind.UNAVAILABLE, None, False, True),
            ),
            (
                SimpleNamespace(error=SimpleNamespace(code="server_error", message="x")),
                Verdict(FailureKind.UNAVAILABLE, None, False, True),
            ),
            ({"choices": []}, Verdict(FailureKind.UNKNOWN)),
            ("<html>", Verdict(FailureKind.UNKNOWN)),
            (None, Verdict(FailureKind.UNKNOWN)),
        ],
    )  # fmt: skip
    def test_a_refused_value_is_judged_like_an_error(self, value: Any, verdict: Verdict) -> None:
        """By its status, codes, words and Retry-After."""
        assert classify_value(value, wall_now=ERA) == verdict


# -- bounds


def test_nothing_unread_is_read() -> None:
    """A response's text, content and json may go to the network: only what is there counts."""
    error = shape("httpx.HTTPStatusError", status_code=400)
    error.response = response = Response(400)  # type: ignore[attr-defined]
    del response._content
    assert kind_of(error) == "caller"


@pytest.mark.parametrize(
    "text",
    ["a" * 5_000_000, "1h" * 1_000_000, "token count" * 300_000, "retry in 1" * 300_000,
     "[" * 10_000, '{"error":' * 2_000, "http " * 100_000, "{" + "}" * 19_000],
    ids=lambda text: text[:10],
)  # fmt: skip
def test_a_huge_text_is_looked_at_in_part(text: str) -> None:
    """Long, deep and repetitive: the work is bounded, whatever it says."""
    counted = 0

    def count(*_: Any) -> None:
        nonlocal counted
        counted += 1

    error = shape(
        "client.Error", text=text, status_code=429, body=text, message=text, retry_after=text
    )
    sys.setprofile(count)
    try:
        assert kind_of(error) == "rate_limited"
    finally:
        sys.setprofile(None)
    assert counted < 20_000


def test_a_circle_of_bodies_ends() -> None:
    """A body may hold itself."""
    body: dict[str, Any] = {"message": "x"}
    body["error"] = body["details"] = [body] * 1000
    assert kind_of(shape("client.Error", status_code=400, body=body)) == "caller"
