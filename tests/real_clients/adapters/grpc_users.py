"""What speaks gRPC by way of others: google-api-core on grpcio, xai-sdk, and grpclib by itself."""

from __future__ import annotations

from typing import Any

import grpc
import grpclib.client
import xai_sdk
import xai_sdk.chat
from google.api_core import grpc_helpers

from real_clients.adapters.grpc_ import OWN, target
from real_clients.case import KEY, PROMPT, Adapter, Case

_METHOD = "/backend.Backend/Call"
# A prompt says to the server what is wanted, as xai's calls have no other room for it.
_CODES = {name: OWN[name] for name in OWN if not name.startswith(("st ", "channel"))}


def _google(case: Case) -> object:
    with grpc.insecure_channel(target(case)) as channel:
        call: Any = grpc_helpers.wrap_errors(channel.unary_unary(_METHOD))
        return call(case.situation.encode(), timeout=case.timeout_s)


class _Bytes:
    """A codec that leaves messages as they are."""

    __content_subtype__ = "proto"

    def encode(self, message: bytes, message_type: Any) -> bytes:
        return message

    def decode(self, data: bytes, message_type: Any) -> bytes:
        return data


async def _grpclib(case: Case) -> object:
    host, _, port = target(case).rpartition(":")
    codec: Any = _Bytes()
    channel = grpclib.client.Channel(host, int(port), codec=codec)
    try:
        method: Any = grpclib.client.UnaryUnaryMethod(channel, _METHOD, bytes, bytes)
        return await method(case.situation.encode(), timeout=case.timeout_s)
    finally:
        channel.close()


def _xai_settings(case: Case) -> dict[str, Any]:
    return {
        "api_key": KEY,
        "api_host": target(case),
        "use_insecure_channel": True,
        "metadata": (("situation", case.situation),),
    } | case.settings(timeout=case.timeout_s, channel_options=[("grpc.enable_retries", 0)])


def _xai(case: Case) -> object:
    client = xai_sdk.Client(**_xai_settings(case))
    return client.chat.create(model="none", messages=[xai_sdk.chat.user(PROMPT)]).sample()


async def _axai(case: Case) -> object:
    client = xai_sdk.AsyncClient(**_xai_settings(case))
    return await client.chat.create(model="none", messages=[xai_sdk.chat.user(PROMPT)]).sample()


ADAPTERS = [
    Adapter("google_api_core", "google-api-core", "grpc", _google, own=_CODES),
    Adapter("grpclib", "grpclib", "grpc", None, _grpclib, own=_CODES),
    Adapter("xai_sdk", "xai-sdk", "grpc", _xai, _axai, own=_CODES),
]
