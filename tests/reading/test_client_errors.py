"""What real clients raise, client by client: shapes only, none of them is installed."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import ssl
import sys
import urllib.error
from types import SimpleNamespace
from typing import Any

import pytest
from helpers_client_errors import (
    ERA,
    GrpcCode,
    Response,
    anthropic_error,
    client_error,
    gemini_error,
    http_status_error,
    kind_of,
    openai_error,
    rpc_error,
    shape,
)

from greenroom.actors.reading.classify import Verdict, classify, classify_value
from greenroom.messages.status import FailureKind

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
    mends = Verdict(FailureKind.UNAVAILABLE, same_member_may_mend=True, disconnected=True)
    assert classify(error) == mends


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
    assert classify(error) == Verdict(FailureKind.UNAVAILABLE, disconnected=True)


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


@pytest.mark.parametrize(
    "name", ["strands.types.exceptions.MaxTokensReachedException", "openai.LengthFinishReasonError"]
)
def test_an_answer_that_was_cut_off_at_its_length_may_fit_another_member(name: str) -> None:
    """Some raise it. The member has done what it could: its breaker hears nothing of it."""
    assert classify(shape(name)) == Verdict(FailureKind.TOO_LARGE)


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
