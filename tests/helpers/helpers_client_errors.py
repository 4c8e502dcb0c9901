"""Errors as real clients raise them: classes by name, attributes, causes. No client is needed."""

from __future__ import annotations

import enum
from types import SimpleNamespace
from typing import Any

from greenroom.actors.reading.classify import classify


def shape(
    path: str,
    *bases: str | type[BaseException],
    text: object = "failed",
    cause: BaseException | None = None,
    context: BaseException | None = None,
    **attributes: Any,
) -> Exception:
    """An error of a class of that module and name, with the classes above it, the nearest first."""
    above: Any = Exception
    for base in reversed(bases):
        above = base if isinstance(base, type) else type(base, (above,), {})
    module, _, name = path.rpartition(".")
    made: Exception = type(name, (above,), {"__module__": module or "client"})(text)
    for attribute, value in attributes.items():
        setattr(made, attribute, value)
    made.__cause__ = cause
    if cause is None and context is not None:
        made.__context__, made.__suppress_context__ = context, True
    return made


class Header(str):
    """aiohttp's `istr`: a str by descent."""

    __slots__ = ()


class Response:
    """What an HTTP client keeps of a response that has been read; looking for more would read."""

    def __init__(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.status_code = status
        self.headers = {Header(name.replace("_", "-")): value for name, value in headers.items()}
        self._content = body

    @property
    def text(self) -> str:
        raise AssertionError("this reads from the network")

    content = read = json = text


def openai_error(name: str, status: Any, body: dict[str, Any], **headers: Any) -> Any:
    """One of openai's, groq's, together's: the body's `error` is taken out of it already."""
    kept: dict[str, Any] = {}
    if status:
        kept = {"status_code": status, "response": Response(status, **headers)}
    return shape(
        f"openai.{name}",
        *(["APIStatusError"] if status else []),
        "APIError",
        "OpenAIError",
        text=f"Error code: {status} - {body}",
        **kept,
        body=body,
        code=body.get("code"),
        type=body.get("type"),
        message=f"Error code: {status} - {body}" if status else body.get("message"),
        param=None,
        request=object(),
    )


def anthropic_error(name: str, status: int, kind: str, message: str, **headers: Any) -> Any:
    body = {"type": "error", "error": {"type": kind, "message": message}}
    return shape(
        f"anthropic.{name}",
        "APIStatusError",
        "APIError",
        "AnthropicError",
        text=f"Error code: {status} - {body}",
        status_code=status,
        response=Response(status, **headers),
        body=body,
        type=kind,
        message=f"Error code: {status} - {body}",
    )


def http_status_error(status: Any, body: bytes = b"", **headers: str) -> Exception:
    """httpx's."""
    return shape(
        "httpx.HTTPStatusError",
        "HTTPError",
        text=f"Client error '{status} x' for url 'http://127.0.0.1/'",
        response=Response(status, body, **headers),
        request=object(),
    )


def client_error(code: str, status: Any, message: str = "failed", **headers: str) -> Exception:
    """botocore's: everything is in a dict named `response`."""
    return shape(
        f"botocore.errorfactory.{code}",
        "ClientError",
        text=f"An error occurred ({code}) when calling the Converse operation: {message}",
        response={
            "Error": {"Code": code, "Message": message},
            "message": message,
            "ResponseMetadata": {
                "RequestId": "1",
                "HTTPStatusCode": status,
                "HTTPHeaders": {k.replace("_", "-"): v for k, v in headers.items()},
                "RetryAttempts": 0,
            },
        },
        operation_name="Converse",
    )


class GrpcCode(enum.Enum):
    """grpcio's StatusCode: its values are pairs."""

    OK = (0, "ok")
    CANCELLED = (1, "cancelled")
    UNKNOWN = (2, "unknown")
    INVALID_ARGUMENT = (3, "invalid argument")
    DEADLINE_EXCEEDED = (4, "deadline exceeded")
    NOT_FOUND = (5, "not found")
    ALREADY_EXISTS = (6, "already exists")
    PERMISSION_DENIED = (7, "permission denied")
    RESOURCE_EXHAUSTED = (8, "resource exhausted")
    FAILED_PRECONDITION = (9, "failed precondition")
    ABORTED = (10, "aborted")
    OUT_OF_RANGE = (11, "out of range")
    UNIMPLEMENTED = (12, "unimplemented")
    INTERNAL = (13, "internal")
    UNAVAILABLE = (14, "unavailable")
    DATA_LOSS = (15, "data loss")
    UNAUTHENTICATED = (16, "unauthenticated")


def grpclib_status(code: str) -> Any:
    """grpclib's Status: its values are numbers."""
    statuses: Any = enum.Enum
    return statuses("Status", [(each.name, each.value[0]) for each in GrpcCode])[code]


def rpc_error(code: str, details: str = "failed", **metadata: Any) -> Any:
    """grpcio's: `code`, `details` and `trailing_metadata` are methods."""
    pairs = tuple((name.replace("_", "-"), value) for name, value in metadata.items())
    return shape(
        "grpc._channel._InactiveRpcError",
        "RpcError",
        text=SimpleNamespace(),
        code=lambda: GrpcCode[code],
        details=lambda: details,
        trailing_metadata=lambda: pairs,
        done=lambda: True,
    )


def retry_info(seconds: int, nanos: int = 0) -> bytes:
    """A google.rpc.RetryInfo on the wire."""
    duration = (b"\x08" + varint(seconds)) + (b"\x10" + varint(nanos) if nanos else b"")
    return b"\x0a" + bytes([len(duration)]) + duration


def rpc_status(detail: bytes) -> bytes:
    """A google.rpc.Status on the wire: code 8, a message, and that RetryInfo as its detail."""
    url = b"type.googleapis.com/google.rpc.RetryInfo"
    packed = b"\x0a" + bytes([len(url)]) + url + b"\x12" + bytes([len(detail)]) + detail
    return b"\x08\x08\x12\x04slow\x1a" + bytes([len(packed)]) + packed


def varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def gemini_error(status: int, word: str, message: str, *details: Any, **kept: Any) -> Any:
    """google-genai's: `code`, `status`, `details` is the whole body."""
    body = {"error": {"code": status, "message": message, "status": word, "details": [*details]}}
    return shape(
        "google.genai.errors.ClientError",
        "APIError",
        text=f"{status} {word}. {body}",
        code=status,
        status=word,
        message=message,
        details=body,
        response=kept.get("response"),
    )


ERA = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


def kind_of(error: BaseException) -> str:
    return classify(error, wall_now=ERA).kind.value


def wait_of(error: BaseException) -> float | None:
    return classify(error, wall_now=ERA).retry_after_s
