"""Where an error keeps its status, and what its words make of it. Pure.

All answers are statuses in the sense of `error_words`: those of HTTP and a few more.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from enum import Enum
from itertools import islice
from traceback import walk_tb
from typing import Any

from greenroom.actors.reading import error_words as words
from greenroom.actors.reading.error_access import (
    Said,
    is_a,
    is_bare,
    loaded_body,
    look,
    text_of,
    whole_number,
)

_STATUS_FIELDS = ("status_code", "status", "code")
# Asked only after those: botocore's and the like have none of the three.
_RARE_STATUS_FIELDS = ("api_error_status", "http_status", "statusCode", "http_code")

_WORD_FIELDS = ("code", "type", "status", "status_code", "reason", "error_code", "subtype")
_BODY_FIELDS = (
    "body", "error", "errors", "details", "detail", "response_json", "data", "message", "msg",
    "title",
)  # fmt: skip

_ERRNOS = frozenset({errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH})
_RPC_CLASSES = frozenset({"RpcError", "AioRpcError"})
_OPENING = ("{", "[", b"{", b"[")
_FRAMES_LIMIT = 100
# POSIX: a command that was found and cannot be run, and one that was not found.
_NOT_FOUND_BY_SHELL = (126, 127)

# Where words say more than the status: what a 400 or a 429 is about. The rest needs no look.
TALKS = frozenset({400, 402, 403, 409, 413, 422, 424, 429})


def status_of(error: BaseException, names: list[str]) -> int | None:
    """What one error says by itself, without its causes and its sentences; None for nothing.

    Args:
        names: of its class and of those above, the nearest first.
    """
    if is_bare(error):
        return words.by_name(names) or _of_system(error) or _of_arguments(error)
    status = words.by_decisive_name(names)
    if status is not None:
        # pydantic-ai has one class for a bad key and for a 403.
        return 403 if status == 401 and number_of(error) == 403 else status
    if "ConnectionClosed" in names:
        return _of_close(error)
    status = number_of(error)
    if status is not None:
        return refined(status, error) if status in TALKS else status
    if not _RPC_CLASSES.isdisjoint(names):
        return _of_rpc(error)
    return (
        words.by_name(names)
        or _of_protocol(error, names)
        or _of_system(error)
        or _of_event(error, names)
    )


def _of_event(error: BaseException, names: list[str]) -> int | None:
    """What the codes say of an error that came in the middle of a 200."""
    status = by_codes(error, said_by(error))
    unread = names[0].endswith(words.UNREAD) and status == 400
    return 502 if unread else status


def by_sentence(error: BaseException) -> int | None:
    """What an error without a status says in words: the last that is asked."""
    said = said_by(error)
    text = said.text
    status = words.status_in_words(text) or words.by_phrase(text) or words.type_in_words(text)
    return refined(status, error, said) if status in TALKS and status else status


def number_of(error: Any) -> int | None:
    """The first number from 400 to 599 where an error or an answer, or its response, keeps one."""
    # google.api_core: one HTTP status stands for several of these.
    enum = look(error, "grpc_status_code")
    if enum is not None:
        return _rpc_status(enum)
    return (
        _failing_field(error, _STATUS_FIELDS)
        or _of_response(look(error, "response"))
        or _failing_field(error, _RARE_STATUS_FIELDS)
        or _rpc_status(look(error, "status"))
    )


def _failing_field(owner: Any, names: tuple[str, ...]) -> int | None:
    for name in names:
        status = failing(look(owner, name))
        if status is not None:
            return status
    return None


def failing(value: Any) -> int | None:
    """A number from 400 to 599, also of an enum or as three digits; None for all else."""
    if value is None:
        return None
    number = whole_number(value)
    return number if number is not None and 400 <= number <= 599 else None


def refined(status: int, error: Any, said: Said | None = None) -> int:
    """A status in the light of what the error says: a 400 may be about an empty account."""
    said = said_by(error) if said is None else said
    told_by = {words.TOKENS[token] for token in said.tokens if token in words.TOKENS}
    text = said.text
    if status in (400, 413, 422, 429) and (413 in told_by or words.says_too_large(text)):
        return 413
    if 402 in told_by or words.says_quota(text):
        return 402
    if status in (400, 403) and (401 in told_by or words.says(text, words.AUTH)):
        return 401
    if status in (400, 403, 422) and (451 in told_by or words.says(text, words.MODERATED)):
        return 451
    if status in (400, 403, 422) and (404 in told_by or words.says(text, words.NO_MODEL)):
        return 404
    if status in (400, 422) and words.says(text, words.BROKEN_ANSWER):
        return 502
    return 429 if status in (400, 403) and 429 in told_by else status


def by_codes(error: Any, said: Said) -> int | None:
    """The status that the codes in an error or an answer stand for."""
    status = next((n for n in said.numbers if 400 <= n <= 599), None)
    if status is None:
        told_by = {words.TOKENS[token] for token in said.tokens if token in words.TOKENS}
        status = next((status for status in words.FIRST if status in told_by), None)
    return refined(status, error, said) if status is not None and status in TALKS else status


def said_by(error: Any) -> Said:
    """All that an error or an answer says of itself, as far as it can be read without asking."""
    said = Said()
    if is_bare(error):
        _arguments(error, said)
        return said
    if is_a(error, Mapping):
        said.body(error)
    for name in _WORD_FIELDS:
        value = look(error, name)
        if value is not None:
            said.word(value)
    for owner in (look(error, "response"), look(error, "raw_response")):
        if owner is not None:
            said.body(loaded_body(owner))
    for name in _BODY_FIELDS:
        value = look(error, name)
        if value is not None and not is_a(value, (int, float, type)) and not callable(value):
            said.body(value)
    _arguments(error, said)
    return said


def _arguments(error: Any, said: Said) -> None:
    arguments = look(error, "args")
    if type(arguments) is tuple:
        for value in arguments[:3]:
            if not is_a(value, (int, float, BaseException)):
                said.body(value)


def _of_arguments(error: BaseException) -> int | None:
    """What an error of Python's own was given, where that is a body (langchain does so)."""
    given: Any = error.args[0] if error.args else None
    if not is_a(given, (dict, str, bytes)) or (not is_a(given, dict) and given[:1] not in _OPENING):
        return None
    said = Said()
    said.body(given)
    return by_codes(error, said)


def _of_response(response: Any) -> int | None:
    if not is_a(response, Mapping):
        return _failing_field(response, ("status_code", "status"))
    try:  # botocore's
        return failing((response.get("ResponseMetadata") or {}).get("HTTPStatusCode"))
    except BaseException:
        return None


def _rpc_status(value: Any) -> int | None:
    """What a gRPC status code (an enum of grpc or grpclib) stands for."""
    if value is None or not is_a(value, Enum):
        return None
    said = Said()
    said.word(value)
    if "unknown" in said.tokens:
        return words.UNKNOWN
    return next((words.TOKENS[t] for t in said.tokens if t in words.TOKENS), None)


def _of_rpc(error: BaseException) -> int | None:
    """What grpc's error says: there `code` and `details` are methods."""
    status = _rpc_status(asked(error, "code"))
    if status not in TALKS:
        return status
    assert status is not None
    said = Said()
    said.sentence(asked(error, "details"))
    return refined(status, error, said)


def asked(error: Any, name: str) -> Any:
    """What a method of a grpc error returns.

    Those of a call that still runs block until it ends, so `done` is asked first, which does not.
    """
    try:
        done = look(error, "done")
        if callable(done) and done() is not True:
            return None
        method = look(error, name)
        return method() if callable(method) else None
    except BaseException:
        return None


def _of_close(error: BaseException) -> int:
    """What a websocket's close code says; the other side's, and where it sent none a cut."""
    received = look(error, "rcvd")
    code = whole_number(look(received, "code")) if received is not None else None
    return words.CUT if code is None else words.CLOSE_CODES.get(code, words.CUT)


def _of_protocol(error: BaseException, names: list[str]) -> int | None:
    """What an error of A2A or of JSON-RPC says."""
    for cls in type(error).__mro__:
        if cls.__name__ in words.A2A_ERRORS and str(cls.__module__).partition(".")[0] == "a2a":
            return words.A2A_ERRORS[cls.__name__]
    inner = look(error, "error")
    for owner in (error, inner):
        code = None if owner is None else look(owner, "code")
        # What JSON-RPC 2.0 reserves for errors of the protocol; all else is the app's own.
        if type(code) is int and -32768 <= code <= -32000:
            if code == -32601 and text_of(look(owner, "message")).lower() == "not found":
                return 404  # mcp's word for the server's own 404: no method is named so
            known = words.RPC_ERRORS.get(code)
            return known or (500 if code in words.RPC_SERVER_ERRORS else None)
    return None


def _of_system(error: BaseException) -> int | None:
    """What the operating system says: of the network, of a command that is missing or killed."""
    if is_a(error, OSError):
        number = look(error, "errno")
        if type(number) is int and number in _ERRNOS:
            return words.REFUSED
        if number in (errno.ENOENT, errno.EACCES) and _is_of_a_command(error):
            return words.REFUSED
        if number == errno.E2BIG and _is_of_a_command(error):
            return 413  # a prompt that does not fit among the arguments
        return None
    for name in ("returncode", "exit_code"):
        code = look(error, name)
        if type(code) is int:
            if code in _NOT_FOUND_BY_SHELL:
                return words.REFUSED
            # Ended by a signal: `subprocess` has its number negative, a shell adds 128 to it.
            return words.CRASHED if code < 0 or code > 128 else None
    return None


def _is_of_a_command(error: BaseException) -> bool:
    """Whether a file is missing that was to be run as a command: the last frame tells."""
    frames = islice(walk_tb(error.__traceback__), _FRAMES_LIMIT)
    # Of `subprocess.Popen`: a file that is missing elsewhere says nothing of the agent's command.
    return any(frame.f_code.co_name == "_execute_child" for frame, _ in frames)
