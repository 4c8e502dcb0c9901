"""When a member asked to be left alone until: where that stands, and in which form. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Any

from greenroom.actors.reading.error_access import Said, is_a, is_bare, look, text_of
from greenroom.actors.reading.error_status import asked, said_by

RETRY_AFTER_MAX_S = 24 * 3600.0
"""The longest Retry-After that is believed."""

_HEADERS_LIMIT = 200
_BYTES_LIMIT = 20_000

_SECONDS_IN = {
    "retry-after-ms": 0.001,
    "x-ms-retry-after-ms": 0.001,
    "grpc-retry-pushback-ms": 0.001,
    "retry-after": 1.0,
    "x-ratelimit-reset-after": 1.0,
}
"""The headers that say when to come back, the most exact first, and their unit."""

_RESETS = re.compile(
    r"(?:x-)?ratelimit-(reset|remaining)(-[a-z-]{1,40})?|"
    r"anthropic-ratelimit-([a-z-]{1,40})-(reset|remaining)"
)
"""Headers that say when a budget is full again, and what is left of it. They come with every
response, so they mean something after a 429 alone."""

_EPOCH = 1e9
"""Seconds: a reset above this is a time, not a length of time."""

_UNITS = {
    "ms": 0.001,
    **dict.fromkeys(("us", "µs"), 1e-6),
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
    "d": 86400.0,
}
_PART = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)(ms|us|µs|[a-z]{1,7})")
_ISO_DURATION = re.compile(
    r"P(?:(\d{1,6})D)?(?:T(?:(\d{1,6})H)?(?:(\d{1,6})M)?(?:(\d{1,9}(?:\.\d{1,9})?)S)?)?"
)
_IN_WORDS = re.compile(
    r"(?:try again|retry|resets?) (?:in|after) ~?(\d[\d.dhms]{0,20})"
    r"(?: ?(milliseconds|second|sec|minute|min|hour))?"
)


def retry_after(links: Sequence[Any], wall_now: float, *, throttled: bool) -> float | None:
    """The first Retry-After of a chain of errors that makes sense, in seconds.

    Args:
        links: the error and what caused it; a value that was refused will do as well.
        wall_now: seconds since the epoch; 0 ignores dates.
        throttled: whether it was for asking too often: then headers on the state of a budget and
            sentences like "try again in 20 s" count, too.
    """
    for link in links:
        if is_bare(link):
            continue
        for value, unit in _values(link):
            wait = seconds(value, unit, wall_now)
            if wait is not None:
                return wait
    # Bodies after all headers: to read one costs more, and a number in a header needs no guess.
    for link in links:
        wait = _of_body(link, wall_now, throttled)
        if wait is not None:
            return wait
    return None


def seconds(value: Any, unit: float, wall_now: float) -> float | None:
    """A number of units, a length of time or a date, in seconds from now; None for nonsense."""
    if value is None:
        return None
    try:
        number = _parsed(value, unit, wall_now)
    except BaseException:
        return None
    if number is None or not math.isfinite(number) or number < 0:
        return None
    return min(number, RETRY_AFTER_MAX_S)


def _values(error: Any) -> Iterator[tuple[Any, float]]:
    """Whatever an error has to say on when to come back, with the unit in seconds."""
    for name in ("retry_after", "retry_after_s"):
        value = look(error, name)
        if value is not None and not callable(value):
            yield value, 1.0
    yield look(error, "retry_after_ms"), 0.001
    for headers in headers_of(error):
        found = picked(headers)
        for name, unit in _SECONDS_IN.items():
            if name in found:
                yield found[name], unit
        if "google.rpc.retryinfo-bin" in found:
            yield _delay_in(found["google.rpc.retryinfo-bin"]), 1.0
        if "grpc-status-details-bin" in found:
            yield _delay_in_status(found["grpc-status-details-bin"]), 1.0


def headers_of(error: Any) -> Iterator[Any]:
    """All headers that an error or a response has, its own after those of its response."""
    for name in ("response", "raw_response"):
        response = look(error, name)
        if response is None:
            continue
        if is_a(response, Mapping):  # botocore's
            said = Said()
            said.body({"ResponseMetadata": response.get("ResponseMetadata")})
            yield from said.headers
        else:
            yield look(response, "headers")
    for name in ("headers", "response_headers", "litellm_response_headers"):
        yield look(error, name)
    if callable(look(error, "trailing_metadata")):
        yield asked(error, "trailing_metadata")


def picked(headers: Any) -> dict[str, Any]:
    """Those of a mapping or of a list of pairs that say when to come back, by lower name."""
    found: dict[str, Any] = {}
    if headers is None or is_a(headers, (str, bytes)):
        return found
    try:
        items = look(headers, "items")
        pairs = items() if callable(items) else headers
        for name, value in islice(pairs, _HEADERS_LIMIT):
            key = text_of(name).lower()
            if key in _SECONDS_IN or key.endswith("-bin") or "ratelimit-" in key:
                # The first of several headers of a name, or of the values of one.
                found.setdefault(key, value[0] if is_a(value, (list, tuple)) else value)
    except BaseException:  # not a mapping, or one that raises: what was found until then
        pass
    return found


def _of_body(error: Any, wall_now: float, throttled: bool) -> float | None:
    """What its body says, its headers on budgets, or its sentences."""
    said = said_by(error)
    waits = [seconds(value, unit, wall_now) for value, unit in said.waits]
    waits += [
        seconds(value, _SECONDS_IN[name], wall_now)
        for headers in said.headers
        for name, value in picked(headers).items()
        if name in _SECONDS_IN
    ]
    waits.append(_retry_delay(look(error, "details"), wall_now))
    wait = next((wait for wait in waits if wait is not None), None)
    if wait is not None or not throttled:
        return wait
    for headers in (*headers_of(error), *said.headers):
        wait = _reset(picked(headers), wall_now)
        if wait is not None:
            return wait
    return _in_words(said.text)


def _retry_delay(details: Any, wall_now: float) -> float | None:
    """That of a google.rpc.RetryInfo among the details, as google.api_core keeps them."""
    if not is_a(details, (list, tuple)):
        return None
    for detail in islice(details, _HEADERS_LIMIT):
        delay = look(detail, "retry_delay")
        if is_a(delay, timedelta):
            return seconds(delay, 1.0, wall_now)
        whole, nanos = look(delay, "seconds"), look(delay, "nanos")
        if type(whole) is int and type(nanos) is int:
            return seconds(whole + nanos * 1e-9, 1.0, wall_now)
    return None


def _reset(headers: dict[str, Any], wall_now: float) -> float | None:
    """When the budget is full again that is used up; of several the last, of none known the first.

    Who comes back too early is told so by the next 429; who comes back late has lost the time.
    """
    resets: dict[str, float] = {}
    spent: set[str] = set()
    for name, value in headers.items():
        matched = _RESETS.fullmatch(name)
        if matched is None:
            continue
        what = matched[1] or matched[4]
        budget = (matched[2] or matched[3] or "").strip("-")
        if what == "remaining":
            if text_of(value) == "0" or value == 0:
                spent.add(budget)
            continue
        wait = _until(value, wall_now)
        if wait is not None:
            resets[budget] = wait
    of_spent = [wait for budget, wait in resets.items() if budget in spent]
    return max(of_spent) if of_spent else min(resets.values(), default=None)


def _until(value: Any, wall_now: float) -> float | None:
    """A length of time, or a time in seconds or milliseconds since the epoch."""
    try:
        number = float(value if is_a(value, (int, float)) else text_of(value))
    except (ValueError, OverflowError):
        return seconds(value, 1.0, wall_now)
    if number < _EPOCH:
        return seconds(number, 1.0, wall_now)
    when = number / 1000.0 if number > _EPOCH * 1000.0 else number
    return seconds(when - wall_now, 1.0, wall_now) if wall_now else None


def _in_words(text: str) -> float | None:
    """What a sentence says ("Please try again in 1m30s", "Please retry in 21.4s")."""
    found = _IN_WORDS.search(text)
    if found is None:
        return None
    number = found[1].rstrip(".")
    if found[2] is None:
        return seconds(_length(number), 1.0, 0.0)
    return seconds(number, _UNITS["ms" if found[2][2:3] == "l" else found[2]], 0.0)


def _parsed(value: Any, unit: float, wall_now: float) -> float | None:
    """What a Retry-After says (RFC 9110, 10.2.3), in seconds; None or an error for nothing."""
    if is_a(value, (int, float)):
        # True is an int as well: `retry_after=True` is no second.
        return None if type(value) is bool else float(value) * unit
    if is_a(value, timedelta):
        return float(value.total_seconds())
    if is_a(value, datetime):
        return _since(value, wall_now)
    text = text_of(value)
    if not text:
        return None
    try:
        return float(text) * unit
    except ValueError:
        pass
    length = _length(text)
    if length is not None:
        return length
    # ISO 8601 begins with the year, an HTTP date with a word.
    date = datetime.fromisoformat if text[:1].isdigit() else parsedate_to_datetime
    return _since(date(text), wall_now)


def _length(text: str) -> float | None:
    """A length of time such as `30s`, `1m30s`, `20ms`, `PT30S`; None for what is none."""
    iso = _ISO_DURATION.fullmatch(text)
    if iso is not None:
        if not any(iso.groups()):
            return None
        days, hours, minutes, rest = (float(part or 0) for part in iso.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + rest
    total, end = 0.0, 0
    for part in _PART.finditer(text):
        if part.start() != end or part[2] not in _UNITS:
            return None
        total += float(part[1]) * _UNITS[part[2]]
        end = part.end()
    return total if end == len(text) else None


def _since(date: datetime, wall_now: float) -> float | None:
    if not wall_now:
        return None
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - wall_now


# -- protocol buffers, as far as google.rpc.RetryInfo needs them


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field of a message (https://protobuf.dev/programming-guides/encoding/)."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        if tag & 7 == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
        elif tag & 7 == 2:
            length, at = _varint(data, at)
            yield tag >> 3, data[at : at + length]
            at += length
        elif tag & 7 in (1, 5):
            at += 8 if tag & 7 == 1 else 4
        else:
            return


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    # Ten bytes with seven bits each are the most for 64 bits.
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("no number of 64 bits is as long")


def _delay_in(data: Any) -> float | None:
    """The delay of a RetryInfo: field 1, a Duration of seconds (1) and nanos (2)."""
    if not is_a(data, bytes) or len(data) > _BYTES_LIMIT:
        return None
    try:
        duration = dict(_fields(dict(_fields(data))[1]))
        return float(duration.get(1, 0)) + float(duration.get(2, 0)) * 1e-9
    except (IndexError, KeyError, ValueError, TypeError):
        return None


def _delay_in_status(data: Any) -> float | None:
    """That of a google.rpc.Status: its details (3) are Anys of a type (1) and a value (2)."""
    if not is_a(data, bytes) or len(data) > _BYTES_LIMIT:
        return None
    try:
        for number, detail in _fields(data):
            if number == 3:
                entry = dict(_fields(detail))
                if bytes(entry.get(1, b"")).endswith(b"/google.rpc.RetryInfo"):
                    return _delay_in(entry.get(2))
    except (IndexError, ValueError, TypeError):
        pass
    return None
