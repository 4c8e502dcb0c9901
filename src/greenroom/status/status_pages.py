"""What the status endpoint answers to a path: read-only, and plain."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from types import MappingProxyType
from urllib.parse import parse_qsl, urlsplit

from greenroom.status.board import Board
from greenroom.status.watched_pool import KEPT

NEEDS_METRICS = "/metrics needs prometheus-client: pip install 'greenroom[metrics]'\n"
PATHS = ("/", "/healthz", "/readyz", "/status.json", "/metrics", "/events")
LAST_EVENTS = 20
"""How many events `/status.json` has unless it is asked for another number."""

_TEXT = "text/plain; charset=utf-8"
_NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    status: int
    body: bytes
    content_type: str = _TEXT
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Events:
    """The answer is a stream of events, those of requests included if it wants everything."""

    everything: bool


SAFETY: Mapping[str, str] = MappingProxyType(
    {
        "Cache-Control": "no-store",
        "Content-Security-Policy": _NOTHING,
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }
)
"""Headers of every answer; the page's own policy lets its own script in."""


def text(status: int, said: str) -> Answer:
    """A line for people."""
    return Answer(status, f"{said.rstrip()}\n".encode())


def answer(board: Board, target: str, accept: str = "") -> Answer | Events:
    """What is at that path.

    Args:
        target: as the request has it, with its query.
        accept: the header of the request.
    """
    try:
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query, keep_blank_values=True, max_num_fields=10))
    except ValueError:
        return text(400, "the path of the request cannot be read")
    page = _PAGES.get(parts.path)
    if page is None:
        return text(404, f"there is no such page; there are {', '.join(PATHS)}")
    return page(board, query, accept)


Query = Mapping[str, str]


def _healthz(board: Board, query: Query, accept: str) -> Answer:
    """200 while each pool answers, be it that nobody in it can work."""
    silent = [each.pool.name for each in board.look() if each.stats is None]
    if silent:
        return text(503, f"does not answer: {', '.join(silent)}")
    return text(200, "ok")


def _readyz(board: Board, query: Query, accept: str) -> Answer:
    """200 while each pool, or the one that is asked for, could serve a request."""
    name = query.get("pool")
    seen = board.look(name)
    if not seen:
        return text(404 if name else 503, f"no pool is named so: {name!r}" if name else "no pool")
    lines = []
    for each in seen:
        if each.stats is None:
            state = "does not answer"
        elif each.stats.draining:
            state = "draining"
        else:
            state = "ready" if each.stats.can_serve else "nobody is available"
        lines.append((state == "ready", f"{each.pool.name}: {state}"))
    return text(200 if all(ready for ready, _ in lines) else 503, "\n".join(x for _, x in lines))


def _status(board: Board, query: Query, accept: str) -> Answer:
    wanted = query.get("events", str(LAST_EVENTS))
    if not (wanted.isascii() and wanted.isdigit() and len(wanted) <= 9):
        return text(400, f"events must be a whole number from 0 to {KEPT}, got {wanted!r}")
    body = json.dumps(board.plain(int(wanted)), ensure_ascii=False).encode("utf-8", "replace")
    return Answer(200, body + b"\n", "application/json")


def _metrics(board: Board, query: Query, accept: str) -> Answer:
    try:
        from greenroom.status.metrics import exposition
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("prometheus_client"):
            raise
        return text(501, NEEDS_METRICS)
    body, content_type = exposition(board.look(), accept)
    return Answer(200, body, content_type)


def _events(board: Board, query: Query, accept: str) -> Answer | Events:
    only = query.get("only")
    if only not in (None, "members"):
        return text(400, f"only must be 'members', or left out, got {only!r}")
    return Events(only is None)


def _page(board: Board, query: Query, accept: str) -> Answer:
    body, policy = _page_and_policy()
    headers = {"Content-Security-Policy": policy}
    return Answer(200, body, "text/html; charset=utf-8", headers)


@functools.cache
def _page_and_policy() -> tuple[bytes, str]:
    """The page, and the policy by which its one script and its one style are let in."""
    page = files("greenroom.status").joinpath("status_page.html").read_text(encoding="utf-8")
    script, style = (_hash_of(page, tag) for tag in ("script", "style"))
    policy = f"{_NOTHING}; script-src {script}; style-src {style}; connect-src 'self'"
    return page.encode(), policy


def _hash_of(page: str, tag: str) -> str:
    (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
    return f"'sha256-{digest}'"


_PAGES: Mapping[str, Callable[[Board, Query, str], Answer | Events]] = MappingProxyType(
    {
        "/": _page,
        "/healthz": _healthz,
        "/readyz": _readyz,
        "/status.json": _status,
        "/metrics": _metrics,
        "/events": _events,
    }
)
