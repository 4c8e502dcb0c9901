"""Errors as real clients raise them: classes by name, attributes, causes. No client is needed."""

from __future__ import annotations

import enum
from types import SimpleNamespace
from typing import Any


def shape(
    path: str,
    *bases: str | type[BaseException],
    text: Any = "failed",
    cause: BaseException | None = None,
    context: BaseException | None = None,
    **attributes: Any,
) -> BaseException:
    """An error of a class of that module and name, with the classes above it, the nearest first."""
    above: type[BaseException] = Exception
    for base in reversed(bases):
        above = base if isinstance(base, type) else type(base, (above,), {})
    module, _, name = path.rpartition(".")
    made: BaseException = type(name, (above,), {"__module__": module or "client"})(text)
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


def openai_error(name: str, status: int | None, body: dict[str, Any], **headers: str) -> Any:
    """One of openai's, groq's, together's: the body's `error` is taken out of it already."""
    return shape(
        f"openai.{name}",
        *(["APIStatusError"] if status else []),
        "APIError",
        "OpenAIError",
        text=f"Error code: {status} - {body}",
        **({"status_code": status, "response": Response(status, **headers)} if status else {}),
        body=body,
        code=body.get("code"),
        type=body.get("type"),
        message=f"Error code: {status} - {body}" if status else body.get("message"),
        param=None,
        request=object(),
    )


def anthropic_error(name: str, status: int, kind: str, message: str, **headers: str) -> Any:
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


def http_status_error(status: int, body: bytes = b"", **headers: str) -> BaseException:
    """httpx's."""
    return shape(
        "httpx.HTTPStatusError",
        "HTTPError",
        text=f"Client error '{status} x' for url 'http://127.0.0.1/'",
        response=Response(status, body, **headers),
        request=object(),
    )


def client_error(code: str, status: int, message: str = "failed", **headers: str) -> BaseException:
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


GrpcCode = enum.Enum(
    "GrpcCode",
    {
        name: (number, name.lower().replace("_", " "))
        for number, name in enumerate(
            "OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS "
            "PERMISSION_DENIED RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE "
            "UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED".split()
        )
    },
)
"""grpcio's StatusCode: its values are pairs."""

GrpclibStatus = enum.Enum(
    "GrpclibStatus", {each.name: number for number, each in enumerate(GrpcCode)}
)
"""grpclib's Status: its values are numbers."""


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
