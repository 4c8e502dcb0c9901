"""boto3's bedrock-runtime."""

from __future__ import annotations

import threading
from typing import Any

import boto3
from botocore.config import Config

from real_clients.case import KEY, PROMPT, Adapter, Case, read

_ASK: dict[str, Any] = {
    "modelId": "none",
    "messages": [{"role": "user", "content": [{"text": PROMPT}]}],
}
_SESSION = boto3.session.Session(KEY, KEY, region_name="us-east-1")
_LOCK = threading.Lock()


def _call(case: Case) -> object:
    once = Config(
        retries={"total_max_attempts": 1},
        connect_timeout=case.timeout_s,
        read_timeout=case.timeout_s,
    )
    with _LOCK:  # a session is not safe among threads
        client = _SESSION.client(
            "bedrock-runtime", endpoint_url=case.url, **case.settings(config=once)
        )
    if case.stream:
        return read(client.converse_stream(**_ASK)["stream"])
    return client.converse(**_ASK)


ADAPTERS = [Adapter("bedrock", "boto3", "bedrock", _call)]
