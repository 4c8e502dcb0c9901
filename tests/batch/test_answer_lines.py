"""What stands in the output of a batch: an answer a line, or why there is none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from greenroom import (
    AllPoolMembersFailedError,
    AttemptError,
    FailureKind,
    PoolSaturatedError,
    Reply,
    SkipReason,
)
from greenroom.batch.answer_lines import Answered, answer_line, error_line, is_torn, read_answer
from greenroom.batch.prompts import Prompt

PROMPT = Prompt(3, "a", "hi", 0x00BEEF01)


def said(line: bytes) -> dict[str, Any]:
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    found: dict[str, Any] = json.loads(line)
    return found


def test_a_line_has_all_of_an_answer() -> None:
    """Its prompt, who gave it, after how many attempts and how long."""
    reply = Reply("line one\nline two \u2028 \u00fc", member="gpt", attempts=2, elapsed_s=1.25)
    line = answer_line(PROMPT, reply)
    assert said(line) == {
        "id": "a",
        "digest": "00beef01",
        "member": "gpt",
        "attempts": 2,
        "seconds": 1.25,
        "answer": reply.value,
    }
    assert read_answer(line, explicit=True) == Answered("a", 0x00BEEF01, failed=False)


@pytest.mark.parametrize("value", ["\ud800", {"tool_calls": [{"name": "x"}]}, None, 1.5])
def test_an_answer_may_be_anything_of_json(value: Any) -> None:
    """Also half of a surrogate pair, which UTF-8 has not."""
    assert said(answer_line(PROMPT, Reply(value, member="m")))["answer"] == value


@pytest.mark.parametrize("value", [object(), float("nan"), b"x", {1, 2}])
def test_what_is_not_json_is_no_answer(value: Any) -> None:
    """Its type is told, and not the value."""
    with pytest.raises(ValueError, match="an answer must be what JSON can hold, got a ") as caught:
        answer_line(PROMPT, Reply(value, member="m"))
    assert type(value).__name__ in str(caught.value)


def test_a_line_has_the_tree_of_errors() -> None:
    """Who failed, how and when, who was passed over, and what became of a pool in the pool."""
    inner = AllPoolMembersFailedError(
        "inner", ["x"], [AttemptError("x", 0, FailureKind.AUTH, PermissionError("no"), 0.5)]
    )
    error = AllPoolMembersFailedError(
        "outer",
        ["a", "b", "c"],
        [
            AttemptError(
                "a", 0, FailureKind.TIMEOUT, TimeoutError("slow\nsecond"), 2.0, attempts=2
            ),
            AttemptError("b", 1, FailureKind.AUTH, inner, 1.0),
            AttemptError("c", 2, SkipReason.CIRCUIT_OPEN, attempts=0, detail="reopens in 2.0 s"),
        ],
        retry_after_s=2.0,
    )
    line = error_line(PROMPT, error, 3.5, str)
    told = said(line)
    assert (told["id"], told["attempts"], told["seconds"]) == ("a", 3, 3.5)
    assert told["error"]["type"] == "AllPoolMembersFailedError"
    assert told["error"]["retry_after_s"] == 2.0
    timeout, pool, skipped = told["error"]["members"]
    assert timeout == {
        "member": "a",
        "kind": "timeout",
        "attempts": 2,
        "seconds": 2.0,
        "message": "TimeoutError: slow",
    }
    assert pool["members"][0]["message"] == "PermissionError: no"
    assert skipped == {
        "member": "c",
        "kind": "circuit_open",
        "skipped": True,
        "message": "reopens in 2.0 s",
    }
    assert read_answer(line, explicit=True).failed


def test_an_error_without_a_tree_has_a_line() -> None:
    """What it is and what it says, without secrets."""
    told = said(error_line(PROMPT, PoolSaturatedError("p", 3, 1.0), 0.0, str))
    assert "members" not in told["error"]
    key = ValueError("key sk-abcdefghijklmnopqrstuvwxyz012345")
    assert b"abcdefghij" not in error_line(PROMPT, key, 0.0, str)


def test_what_is_to_be_hidden_is_hidden_in_all_of_the_tree() -> None:
    """In the error, in those of members, in why one was skipped."""
    refused = AttemptError("a", 0, FailureKind.AUTH, PermissionError("not hunter2"))
    inner = AllPoolMembersFailedError("inner", ["a"], [refused])
    members = [
        refused,
        AttemptError("b", 1, FailureKind.AUTH, inner),
        AttemptError("c", 2, SkipReason.CIRCUIT_OPEN, detail="since hunter2"),
    ]
    error = AllPoolMembersFailedError("p", ["a", "b", "c"], members)
    line = error_line(PROMPT, error, 0.0, lambda text: text.replace("hunter2", "***"))
    assert b"hunter2" not in line
    first, second, third = said(line)["error"]["members"]
    assert first["message"] == second["members"][0]["message"] == "PermissionError: not ***"
    assert third["message"] == "since ***"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b'{"id": 1, "dig', "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "it has not id and digest"),
        (b'{"id": 1}', "it has not id and digest"),
        (b'{"id": 1, "digest": "00000000"}', "it must have answer or error"),
        (b'{"id": 1, "digest": "x", "answer": ""}', "its digest is no hexadecimal number"),
        (b'{"id": 1, "digest": 1, "answer": ""}', "its digest is no hexadecimal number"),
        (b'{"id": null, "digest": "0", "answer": ""}', "its id is neither a string nor a number"),
        (b'{"id": "a", "digest": "0", "answer": ""}', "the prompts of the input have no ids"),
        (b'{"id": 0, "digest": "0", "answer": ""}', "the prompts of the input have no ids"),
    ],
)
def test_what_is_no_line_of_a_batch_is_refused(line: bytes, why: str) -> None:
    """And says so."""
    with pytest.raises(ValueError, match=why):
        read_answer(line, explicit=False)


def test_a_torn_line_is_known_by_its_beginning() -> None:
    """Wherever it was torn; what begins in another way is somebody else's."""
    line = answer_line(PROMPT, Reply("x", member="m"))
    assert all(is_torn(line[:end]) for end in range(len(line)))
    assert not any(map(is_torn, (b"notes", b"\0\0\0", b'{"idx": 1')))
