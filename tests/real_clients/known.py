"""Errors that cannot be judged rightly, and why: what is asked for is not in them."""

from __future__ import annotations

_NO_BODY = "raise_for_status leaves the body out"
_OWN_ERROR = "it raises for no status: all there is is the application's own sentence"
_UNREAD = "the body is not read yet, and reading it would take it from the application"
_NO_STATUS = "the client drops status and headers; what is left is a JSON-RPC code of its own"
_NO_HEADERS = "the error keeps the status and drops the headers"
_NO_METADATA = "GRPCError keeps no trailing metadata"
_PARSING = "the client trips over the error body of a 200, and keeps nothing of it"

KNOWN: dict[tuple[str, str], str] = {
    ("aiohttp", "429quota"): _NO_BODY,
    ("aiohttp", "400ctx"): _NO_BODY,
    ("urllib", "429quota"): _UNREAD,
    ("urllib", "400ctx"): _UNREAD,
    ("urllib3", "429quota"): _OWN_ERROR,
    ("urllib3", "400ctx"): _OWN_ERROR,
    **{
        ("mcp", late + name): _NO_STATUS
        for late in ("", "late_")
        for name in ("401", "403", "429s")
    },
    ("cohere", "200err"): _PARSING,
    ("dashscope", "200err"): _PARSING,
    ("dashscope", "st_err"): _PARSING,
    ("ollama", "200err"): _PARSING,
    ("replicate", "200err"): _PARSING,
    ("replicate", "200filter"): "all there is is the model's own sentence, in no fixed words",
    ("pydantic_ai_anthropic", "200err"): _PARSING,
    ("pydantic_ai_google", "200err"): _PARSING,
    ("pydantic_ai_openai", "200err"): _PARSING,
}

_WAITS = ("429s", "429ms", "429date", "503s")
NO_WAIT: dict[tuple[str, str], str] = {
    **{("urllib3", situation): _OWN_ERROR for situation in _WAITS},
    **{("ollama", situation): _NO_HEADERS for situation in _WAITS},
    **{("replicate", situation): _NO_HEADERS for situation in _WAITS},
    **{("mcp", late + name): _NO_STATUS for late in ("", "late_") for name in ("429s", "503s")},
    ("grpclib", "RESOURCE_EXHAUSTED metadata"): _NO_METADATA,
    ("grpclib", "RESOURCE_EXHAUSTED RetryInfo"): _NO_METADATA,
}
"""The same for a Retry-After."""


def reason_of(client: str, situation: str, mode: str, what: str = "kind") -> str | None:
    """Why a client's error cannot be judged rightly in a situation; None if it can."""
    known = KNOWN if what == "kind" else NO_WAIT
    return known.get((client, situation)) or known.get((f"{client}:{mode}", situation))
