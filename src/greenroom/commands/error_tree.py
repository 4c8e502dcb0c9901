"""What became of a request that has no answer: for people in lines, for programs as a tree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from greenroom.kinds.secrets import without_secrets
from greenroom.messages.errors import (
    AllPoolMembersFailedError,
    AttemptError,
    DeadlineExceededError,
    PoolSaturatedError,
    StreamInterruptedError,
    summary,
)

_WITH_ATTEMPTS = (AllPoolMembersFailedError, DeadlineExceededError, StreamInterruptedError)


def as_text(error: Exception) -> str:
    """What happened, and below it, a line each with its kind, what became of every member."""
    if not isinstance(error, _WITH_ATTEMPTS):
        return without_secrets(summary(error))
    lines = str(error).splitlines()[:1]
    return without_secrets("\n".join([*lines, *_lines(error.errors, "  ")]))


def as_json(error: Exception) -> dict[str, Any]:
    """The same as a tree of plain data: `errors` has one entry a member, with its `kind`."""
    said: dict[str, Any] = {
        "type": type(error).__name__,
        "message": without_secrets(as_text(error).partition("\n")[0]),
    }
    if isinstance(error, AllPoolMembersFailedError | PoolSaturatedError):
        said["retry_after_s"] = error.retry_after_s
    if isinstance(error, _WITH_ATTEMPTS):
        said["errors"] = [attempt_as_json(each) for each in error.errors]
    return said


def attempt_as_json(error: AttemptError) -> dict[str, Any]:
    """What became of one member; `errors` says it of the members of one that is a pool."""
    said: dict[str, Any] = {
        "member": error.member,
        "kind": str(error.kind),
        "skipped": error.skipped,
        "attempts": error.attempts,
        "elapsed_s": error.elapsed_s,
        "error": without_secrets(summary(error.error) or error.detail) or None,
        "retry_after_s": error.retry_after_s,
    }
    if error.errors:
        said["errors"] = [attempt_as_json(each) for each in error.errors]
    return said


def _lines(errors: tuple[AttemptError, ...], indent: str) -> Iterator[str]:
    for error in errors:
        yield from (f"{indent}{line}" for line in str(error).splitlines())
        yield from _lines(error.errors, f"{indent}  ")
