"""grpcio, in its two flavours: all codes, a deadline, a refused connection, a closed channel."""

from __future__ import annotations

import asyncio
import functools
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc.aio

from real_clients.case import Adapter, Case
from real_clients.server import free_port
from real_clients.situations import Situation

RIGHT: dict[str, tuple[str, ...]] = {
    "CANCELLED": ("unavailable",),
    "UNKNOWN": ("unknown",),
    "INVALID_ARGUMENT": ("caller",),
    "DEADLINE_EXCEEDED": ("timeout",),
    "NOT_FOUND": ("not_found",),
    "ALREADY_EXISTS": ("caller",),
    "PERMISSION_DENIED": ("auth",),
    "RESOURCE_EXHAUSTED": ("rate_limited",),
    "FAILED_PRECONDITION": ("caller",),
    "ABORTED": ("unavailable",),
    "OUT_OF_RANGE": ("caller",),
    "UNIMPLEMENTED": ("not_found", "caller"),
    "INTERNAL": ("unavailable",),
    "UNAVAILABLE": ("unavailable",),
    "DATA_LOSS": ("unavailable",),
    "UNAUTHENTICATED": ("auth",),
}

OWN = {
    **{code: Situation(right) for code, right in RIGHT.items()},
    "RESOURCE_EXHAUSTED metadata": Situation(("rate_limited",), 7.0),
    "RESOURCE_EXHAUSTED RetryInfo": Situation(("rate_limited",), 7.0),
    "refused": Situation(("unavailable",)),
    "hang": Situation(("timeout",)),
    "channel closed": Situation(("unavailable",)),
    "st RESOURCE_EXHAUSTED": Situation(("rate_limited",), stream=True),
    "st UNAVAILABLE": Situation(("unavailable",), stream=True),
}
_METHOD = "/backend.Backend/Call"


def retry_info(seconds: int) -> bytes:
    """A google.rpc.Status with a google.rpc.RetryInfo, as it goes over the wire."""

    def field(number: int, payload: bytes) -> bytes:
        return bytes([number << 3 | 2, len(payload)]) + payload

    url = b"type.googleapis.com/google.rpc.RetryInfo"
    duration = bytes([8, seconds])
    detail = field(1, url) + field(2, field(1, duration))
    return bytes([8, 8]) + field(2, b"slow down") + field(3, detail)


def _refuse(situation: str, context: Any) -> None:
    name, _, extra = situation.removeprefix("st ").partition(" ")
    if extra == "metadata":
        context.set_trailing_metadata((("retry-after", "7"),))
    if extra == "RetryInfo":
        context.set_trailing_metadata((("grpc-status-details-bin", retry_info(7)),))
    context.abort(grpc.StatusCode[name], f"the backend says {name.lower()}")


def _serve(request: bytes, context: Any) -> bytes:
    # xai-sdk sends messages of its own, and says in the metadata what is wanted.
    asked = dict(context.invocation_metadata()).get("situation")
    situation = str(asked) if asked else request.decode()
    if situation in ("hang", "channel closed"):
        threading.Event().wait(2.5)
        return b""
    _refuse(situation, context)
    return b""


def _stream(request: bytes, context: Any) -> Any:
    yield b"one"
    _refuse(request.decode(), context)


class _Handler(grpc.GenericRpcHandler):
    def service(self, details: Any) -> Any:
        if details.method.endswith("Stream"):
            return grpc.unary_stream_rpc_method_handler(_stream)
        return grpc.unary_unary_rpc_method_handler(_serve)


@functools.cache
def port() -> int:
    """That of the server, which is started at the first call."""
    server = grpc.server(ThreadPoolExecutor(8), handlers=(_Handler(),))
    number = server.add_insecure_port("127.0.0.1:0")
    server.start()
    port.server = server  # type: ignore[attr-defined]
    return int(number)


def target(case: Case) -> str:
    """Where to connect."""
    return f"127.0.0.1:{free_port() if case.situation == 'refused' else port()}"


def _call(case: Case) -> object:
    with grpc.insecure_channel(target(case)) as channel:
        what = case.situation.encode()
        if case.stream:
            return list(channel.unary_stream(_METHOD + "Stream")(what, timeout=case.timeout_s))
        if case.situation == "channel closed":
            threading.Timer(0.2, channel.close).start()
        return channel.unary_unary(_METHOD)(what, timeout=case.timeout_s)


async def _acall(case: Case) -> object:
    async with grpc.aio.insecure_channel(target(case)) as channel:
        what = case.situation.encode()
        if case.stream:
            call = channel.unary_stream(_METHOD + "Stream")(what, timeout=case.timeout_s)
            return [chunk async for chunk in call]
        if case.situation == "channel closed":
            closing = asyncio.get_running_loop().call_later(
                0.2, lambda: asyncio.ensure_future(channel.close())
            )
            try:
                return await channel.unary_unary(_METHOD)(what, timeout=case.timeout_s)
            finally:
                closing.cancel()
        return await channel.unary_unary(_METHOD)(what, timeout=case.timeout_s)


ADAPTERS = [Adapter("grpcio", "grpcio", "grpc", _call, _acall, own=OWN)]
