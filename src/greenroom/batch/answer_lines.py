"""What stands in the output of a batch: an answer a line, or why there is none. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from greenroom.batch.prompts import MOST_LINE_BYTES, Prompt, PromptId
from greenroom.messages.errors import AttemptError, summary
from greenroom.messages.replies import Reply

_HEAD = b'{"id": '
"""Every line begins so: a torn one is known by it."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What a line of the output says of its prompt.

    Attributes:
        failed: whether it holds an error.
    """

    id: PromptId
    digest: int
    failed: bool


def answer_line(prompt: Prompt, reply: Reply[Any]) -> bytes:
    """The line of an answer.

    Raises:
        ValueError: the answer is nothing that JSON can hold, or too long to be read again.
    """
    said = {
        **_head(prompt),
        "member": reply.member,
        "attempts": reply.attempts,
        "seconds": round(reply.elapsed_s, 6),
        "answer": reply.value,
    }
    try:
        line = _line(said)
    except (TypeError, ValueError, RecursionError):
        kind = type(reply.value).__name__
        raise ValueError(f"an answer must be what JSON can hold, got a {kind}") from None
    size = len(line) - len(b"\n")
    if size > MOST_LINE_BYTES:
        raise ValueError(
            f"an answer must have a line of at most {MOST_LINE_BYTES} bytes, got {size}"
        )
    return line


def error_line(
    prompt: Prompt, error: Exception, elapsed_s: float, hide: Callable[[str], str]
) -> bytes:
    """The line of a prompt that has no answer: the error, and below it those of the members.

    Args:
        hide: takes what is secret out of a text.
    """
    members = _errors_of(error)
    told: dict[str, Any] = {"type": type(error).__name__, "message": hide(summary(error))}
    retry_after_s = getattr(error, "retry_after_s", None)
    if retry_after_s is not None:
        told["retry_after_s"] = round(retry_after_s, 3)
    if members:
        told["members"] = _tree(members, hide)
    return _line(
        {
            **_head(prompt),
            "attempts": sum(each.attempts for each in members if not each.skipped),
            "seconds": round(elapsed_s, 6),
            "error": told,
        }
    )


def read_answer(line: bytes, explicit: bool) -> Answered:
    """What a line says.

    Args:
        explicit: whether prompts have ids of their own.

    Raises:
        ValueError: it is none of a batch; the message says why.
    """
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("is not JSON: no line of an answer, or a torn one") from None
    if not isinstance(said, dict) or not {"id", "digest"} <= said.keys():
        raise ValueError("is no line of an answer: it has not id and digest")
    if ("answer" in said) == ("error" in said):
        raise ValueError("is no line of an answer: it must have answer or error")
    return Answered(_id_in(said["id"], explicit), _digest_in(said["digest"]), "error" in said)


def is_torn(rest: bytes) -> bool:
    """Whether what follows the last newline is the beginning of a line of ours."""
    return rest.startswith(_HEAD) or _HEAD.startswith(rest)


def _head(prompt: Prompt) -> dict[str, Any]:
    return {"id": prompt.id, "digest": f"{prompt.digest:08x}"}


def _line(said: dict[str, Any]) -> bytes:
    try:
        return json.dumps(said, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except UnicodeEncodeError:  # half of a surrogate pair
        return json.dumps(said, allow_nan=False).encode() + b"\n"


def _errors_of(error: BaseException) -> tuple[AttemptError, ...]:
    errors = getattr(error, "errors", ())
    return tuple(each for each in errors if isinstance(each, AttemptError))


def _tree(errors: Iterable[AttemptError], hide: Callable[[str], str]) -> list[dict[str, Any]]:
    return [_branch(each, hide) for each in errors]


def _branch(error: AttemptError, hide: Callable[[str], str]) -> dict[str, Any]:
    told: dict[str, Any] = {"member": error.member, "kind": str(error.kind)}
    if error.skipped:
        told |= {"skipped": True, "message": hide(error.detail)}
    else:
        told |= {
            "attempts": error.attempts,
            "seconds": round(error.elapsed_s, 6),
            "message": hide(summary(error.error)),
        }
    if error.errors:
        told["members"] = _tree(error.errors, hide)
    return told


def _id_in(value: Any, explicit: bool) -> PromptId:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("is no line of an answer: its id is neither a string nor a number")
    if not explicit and (isinstance(value, str) or value < 1):
        raise ValueError(f"has the id {value!r}, and the prompts of the input have no ids")
    return value


def _digest_in(value: Any) -> int:
    try:
        return int(value, 16)
    except (TypeError, ValueError):
        raise ValueError("is no line of an answer: its digest is no hexadecimal number") from None
