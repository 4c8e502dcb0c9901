"""Plain HTTP clients: httpx, httpx2, requests, aiohttp, urllib, urllib3."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import aiohttp
import httpx
import httpx2
import requests
import urllib3

from real_clients.case import KEY, PROMPT, Adapter, Case

_BODY: dict[str, Any] = {"model": "none", "messages": [{"role": "user", "content": PROMPT}]}
_HEADERS = {"authorization": f"Bearer {KEY}"}
_PATH = "/v1/chat/completions"


def _httpx(case: Case, library: Any = httpx) -> object:
    with library.Client(**case.settings(timeout=case.timeout_s)) as client:
        if not case.stream:
            answer = client.post(case.url + _PATH, json=_BODY, headers=_HEADERS)
            answer.raise_for_status()
            return answer.json()
        with client.stream("POST", case.url + _PATH, json=_BODY, headers=_HEADERS) as answer:
            answer.raise_for_status()
            return list(answer.iter_lines())


async def _ahttpx(case: Case, library: Any = httpx) -> object:
    async with library.AsyncClient(**case.settings(timeout=case.timeout_s)) as client:
        if not case.stream:
            answer = await client.post(case.url + _PATH, json=_BODY, headers=_HEADERS)
            answer.raise_for_status()
            return answer.json()
        async with client.stream("POST", case.url + _PATH, json=_BODY, headers=_HEADERS) as answer:
            answer.raise_for_status()
            return [line async for line in answer.aiter_lines()]


def _httpx2(case: Case) -> object:
    return _httpx(case, httpx2)


async def _ahttpx2(case: Case) -> object:
    return await _ahttpx(case, httpx2)


def _requests(case: Case) -> object:
    settings = case.settings(timeout=case.timeout_s)
    answer = requests.post(
        case.url + _PATH, json=_BODY, headers=_HEADERS, stream=case.stream, **settings
    )
    answer.raise_for_status()
    return list(answer.iter_lines()) if case.stream else answer.json()


async def _aiohttp(case: Case) -> object:
    settings = case.settings(timeout=aiohttp.ClientTimeout(total=case.timeout_s))
    async with (
        aiohttp.ClientSession(**settings) as session,
        session.post(case.url + _PATH, json=_BODY, headers=_HEADERS) as answer,
    ):
        answer.raise_for_status()
        if case.stream:
            return [line async for line in answer.content]
        return await answer.json()


def _urllib(case: Case) -> object:
    request = urllib.request.Request(
        case.url + _PATH, json.dumps(_BODY).encode(), {**_HEADERS, "content-type": "text/plain"}
    )
    with urllib.request.urlopen(request, **case.settings(timeout=case.timeout_s)) as answer:
        return answer.readlines() if case.stream else json.load(answer)


def _urllib3(case: Case) -> object:
    """It raises for no status: the application that does so writes an error of its own."""
    settings = case.settings(timeout=urllib3.Timeout(case.timeout_s), retries=False)
    with urllib3.PoolManager(**settings) as pool:
        answer = pool.request(
            "POST", case.url + _PATH, json=_BODY, headers=_HEADERS, preload_content=not case.stream
        )
        if answer.status >= 400:
            raise RuntimeError(f"HTTP {answer.status}")
        return list(answer.stream()) if case.stream else answer.json()


ADAPTERS = [
    Adapter("httpx", "httpx", "openai", _httpx, _ahttpx),
    Adapter("httpx2", "httpx2", "openai", _httpx2, _ahttpx2),
    Adapter("requests", "requests", "openai", _requests),
    Adapter("aiohttp", "aiohttp", "openai", None, _aiohttp),
    Adapter("urllib", "", "openai", _urllib),
    Adapter("urllib3", "urllib3", "openai", _urllib3),
]
