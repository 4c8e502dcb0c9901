"""Whether a value that an agent returned is a failure all the same.

Ready-made predicates for `PoolConfig.is_failure`, public as `greenroom.answers`. Each takes any
value and says None, or a `Fault` with the reason. None of them runs code of the value's own, so
mocks, lazy objects and those that raise are good answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from greenroom.actors.reading.answer_shapes import (
    CUT_SHORT,
    FILTERED,
    NO_ROOM,
    Fault,
    Reading,
    read,
)
from greenroom.actors.reading.classify import classify_value
from greenroom.actors.reading.html_pages import document_in, gateway_page
from greenroom.actors.reading.value_access import BARE, filled, get, has, number, record, word
from greenroom.messages.errors import UnsuccessfulResultError
from greenroom.messages.status import FailureKind

Predicate = Callable[[Any], object]
"""What `is_failure` may be: it says something true of a failure. A `Fault` or a `FailureKind` says
of which kind; of anything else only the truth is asked."""

SURELY_GOOD = BARE - {str, list}
"""Types of which no value is a failure to `auto`."""

_SIZED = (str, bytes, bytearray, list, tuple, dict)

_NO_CHOICES = Fault("an answer without a choice in it")
_NO_CONTENT = Fault("an answer without content")
_FILTERED = Fault("an answer that a content filter has stopped", FailureKind.CALLER)
_CUT_SHORT = Fault("an answer that was cut off at its length", FailureKind.TOO_LARGE)
_REFUSED = Fault("an answer in which the model refuses", FailureKind.CALLER)
_PAGE = Fault("an HTML page", FailureKind.UNAVAILABLE)
_ERROR_FLAG = Fault("a value that says it is an error")
_ERROR_SET = Fault("a value with an error in it")


def auto(value: Any) -> Fault | None:
    """What `is_failure="auto"` means: only what is plainly a failure of a client's.

    An answer of a known client's shape with an error, a content filter, no choice or no content in
    it; an HTTP response with a status from 400; the page of a gateway. A text, a number, a list, a
    dict or an object of one's own is a good answer, and so is one that was cut off at its length.
    """
    kind = type(value)
    if kind is str:
        return gateway_page(value) if "<" in value[:64] else None
    if kind in BARE:
        return None
    reading = read(value)
    if reading is None:
        return None
    return _whole(reading)


def _whole(reading: Reading) -> Fault | None:
    """What is wrong with a value of a known shape, if it is to be a whole answer."""
    if reading.fault is not None:
        return reading.fault
    if not reading.listed:
        return _NO_CHOICES
    if reading.content or reading.may_be_empty or (reading.marks and not reading.ended):
        return None  # a chunk, or the answer to a call of another kind, carries what it likes
    return NO_ROOM if reading.finish in CUT_SHORT else _NO_CONTENT


def http_status(value: Any) -> Fault | None:
    """A value with an HTTP status of 400 to 599, under any of the names that clients have."""
    held = record(value)
    names = ("status_code", "status", "statusCode", "http_status", "api_error_status", "code")
    found = [get(held, name) for name in names] if held else []
    found.append(get(record(get(held, "ResponseMetadata")), "HTTPStatusCode"))
    for each in found:
        status = number(each)
        if status is not None and 400 <= status <= 599:
            return Fault(f"a value with HTTP status {status}")
    return None


def error_flag(value: Any) -> Fault | None:
    """A value that says it is an error: `is_error`, `isError`, or an `error` that is set."""
    held = record(value)
    if get(held, "is_error") is True or get(held, "isError") is True:
        return _ERROR_FLAG
    return _ERROR_SET if filled(get(held, "error")) else None


def no_choices(value: Any) -> Fault | None:
    """A value with a list of choices, or of candidates, that is None or empty."""
    held = record(value)
    for name in ("choices", "candidates"):
        if has(held, name) and not filled(get(held, name)):
            return _NO_CHOICES
    reading = read(value)
    return _NO_CHOICES if reading is not None and not reading.listed else None


def no_content(value: Any) -> Fault | None:
    """Nothing: None, a blank text, an empty list or dict, or an answer of a client's without any
    text, tool call or other content.
    """
    if not filled(value) and value is not False:
        return _NO_CONTENT
    if issubclass(type(value), str):
        return _NO_CONTENT if not str.strip(value) else None
    reading = read(value)
    if reading is not None:
        return None if reading.content else _NO_CONTENT
    held = record(value)
    names = [name for name in ("content", "text", "message") if has(held, name)]
    empty = bool(names) and not any(filled(get(held, name)) for name in names)
    return _NO_CONTENT if empty else None


def content_filter(value: Any) -> Fault | None:
    """An answer that a content filter has stopped, or has let nothing through of: the request's own
    fault (`caller`), so no other member is asked.
    """
    return _FILTERED if _finish_of(value) in FILTERED or _says(value, FailureKind.CALLER) else None


def cut_short(value: Any) -> Fault | None:
    """An answer that was cut off at its length. Another member may have room for all of it, and
    this one is none the worse for it, so it counts as `too_large`.
    """
    return _CUT_SHORT if _finish_of(value) in CUT_SHORT else None


def refusal(value: Any) -> Fault | None:
    """An answer in which the model says in its client's own field that it will not answer. It is
    about the request (`caller`), so no other member is asked.
    """
    reading = read(value)
    refused = reading is not None and reading.refused
    return _REFUSED if refused or filled(get(record(value), "refusal")) else None


def html_page(value: Any) -> Fault | None:
    """A text (or bytes) that is an HTML document, whoever wrote it."""
    return _PAGE if document_in(value) else None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class AnyOf:
    """What `any_of` makes: a predicate of several, asked in turn."""

    predicates: tuple[Predicate, ...]

    def __call__(self, value: Any) -> object:
        for predicate in self.predicates:
            found = predicate(value)
            if found:
                return found
        return None

    def __repr__(self) -> str:
        return f"any_of{self.predicates!r}"


def any_of(*predicates: Predicate) -> AnyOf:
    """A failure is what any of these says is one; the first of them gives the reason.

        PoolConfig(is_failure=answers.any_of(answers.auto, answers.cut_short, my_own))

    Raises:
        TypeError: one of them cannot be called.
    """
    for predicate in predicates:
        if not callable(predicate):
            raise TypeError(f"any_of takes functions, got {predicate!r}")
    return AnyOf(predicates)


def includes_auto(is_failure: object) -> bool:
    """Whether it judges by the rules of `auto`, maybe beside others."""
    if type(is_failure) is AnyOf:
        return any(map(includes_auto, is_failure.predicates))
    return is_failure is auto or is_failure == "auto"


def found_by(predicate: Predicate, value: Any) -> Fault | None:
    """What a predicate says of a value. It raises what the predicate does."""
    found = predicate(value)
    if type(found) is Fault:
        return found
    if not found:
        return None
    kind = found if type(found) is FailureKind else None
    return Fault(f"a {type(value).__name__} that is_failure refused", kind)


def refusal_of(fault: Fault, value: Any, member: str, wall_now: float) -> UnsuccessfulResultError:
    """The error that tells of a refused value: why, of what kind, and when to come back."""
    held = record(value)
    if type(value) is not dict and (has(held, "headers") or has(held, "_headers")):
        value = SimpleNamespace(response=value)  # as the error has it that it would have raised
    said = classify_value(value, wall_now=wall_now)
    own = fault.kind or (fault.otherwise if said.kind is FailureKind.UNKNOWN else None)
    return UnsuccessfulResultError(
        f"{member} returned {fault.reason}",
        kind=own or said.kind,
        retry_after_s=said.retry_after_s,
        opens_at_once=said.opens_at_once if own is None else own.opens_at_once,
    )


def _finish_of(value: Any) -> str:
    """Why an answer ends, by its own word."""
    reading = read(value)
    if reading is not None:
        return reading.finish
    held = record(value)
    names = ("finish_reason", "finishReason", "stop_reason", "stopReason", "done_reason")
    return next((word(get(held, name)) for name in names if word(get(held, name))), "")


def _says(value: Any, kind: FailureKind) -> bool:
    reading = read(value)
    return reading is not None and reading.fault is not None and reading.fault.kind is kind


def nothing_in(chunk: Any) -> bool:
    """What counts as an empty chunk with `is_empty=None`: None, and a string, bytes, list, tuple or
    dict with nothing in it.
    """
    # A mock says of itself that it is an instance of what it stands for, and has no length.
    return chunk is None or (issubclass(type(chunk), _SIZED) and not chunk)


def is_empty_chunk(chunk: Any) -> bool:
    """What `is_empty="auto"` means: None, a string, bytes, list, tuple or dict with nothing in it,
    and a chunk of a client's that carries neither text nor a tool call nor any other content: a
    role, a usage, a ping, the mark of the end. An object of no known shape is not empty.
    """
    if type(chunk) is str:  # first: most chunks are, and nothing more is to be read of one
        return not chunk
    if nothing_in(chunk):
        return True
    reading = read(chunk)
    return reading is not None and not reading.content
