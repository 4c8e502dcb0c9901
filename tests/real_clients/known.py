"""Errors that cannot be judged rightly, and why: what is asked for is not in them."""

from __future__ import annotations

_NO_BODY = "raise_for_status leaves the body out"
_OWN_ERROR = "it raises for no status: all there is is the application's own sentence"
_UNREAD = "the body is not read yet, and reading it would take it from the application"

KNOWN: dict[tuple[str, str], str] = {
    ("aiohttp", "429quota"): _NO_BODY,
    ("aiohttp", "400ctx"): _NO_BODY,
    ("urllib", "429quota"): _UNREAD,
    ("urllib", "400ctx"): _UNREAD,
    ("urllib3", "429quota"): _OWN_ERROR,
    ("urllib3", "400ctx"): _OWN_ERROR,
}
NO_WAIT: dict[tuple[str, str], str] = {
    ("urllib3", situation): _OWN_ERROR for situation in ("429s", "429ms", "429date", "503s")
}
"""The same for a Retry-After."""


def reason_of(client: str, situation: str, mode: str, what: str = "kind") -> str | None:
    """Why a client's error cannot be judged rightly in a situation; None if it can."""
    known = KNOWN if what == "kind" else NO_WAIT
    return known.get((client, situation)) or known.get((f"{client}:{mode}", situation))
