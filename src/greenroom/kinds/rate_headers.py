"""What a response's headers say of rate limits, and its usage of what it took. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from greenroom.actors.reading.retry_after import seconds
from greenroom.messages.limits import MOST, REQUESTS

_EPOCH = 1e9
"""Seconds: a reset above this is a time, not a length of time."""

_OPENAI = {REQUESTS: "requests", "tokens": "tokens"}
_ANTHROPIC = {
    REQUESTS: "requests",
    "tokens": "tokens",
    "input_tokens": "input-tokens",
    "output_tokens": "output-tokens",
}
_USAGE = {
    "tokens": ("total_tokens",),
    "input_tokens": ("prompt_tokens", "input_tokens"),
    "output_tokens": ("completion_tokens", "output_tokens"),
}


class Seen(NamedTuple):
    """What is said of one limit: the arguments of `CallContext.limits`."""

    cost: str
    remaining: int
    resets_in_s: float
    limit: int | None


def limits_in(headers: Mapping[str, str], wall_now: float) -> Iterator[Seen]:
    """What OpenAI's `x-ratelimit-*` say of requests and tokens, and Anthropic's
    `anthropic-ratelimit-*`, which tell tokens that go in from those that come out. What is not
    whole, or makes no sense, is left out.

    Args:
        headers: by names of small letters, or of whatever letters where they are looked up so.
        wall_now: seconds since the epoch: Anthropic's resets are times.
    """
    for cost, name in _OPENAI.items():
        said = [headers.get(f"x-ratelimit-{each}-{name}") for each in _PARTS]
        yield from _seen(cost, said, wall_now)
    for cost, name in _ANTHROPIC.items():
        said = [headers.get(f"anthropic-ratelimit-{name}-{each}") for each in _PARTS]
        yield from _seen(cost, said, wall_now)


_PARTS = ("remaining", "reset", "limit")


def _seen(cost: str, said: list[str | None], wall_now: float) -> Iterator[Seen]:
    remaining, limit = _whole(said[0]), _whole(said[2])
    resets_in_s = seconds(said[1], 1.0, wall_now)
    if said[1] is not None and (time := _whole(said[1])) is not None and time > _EPOCH:
        resets_in_s = max(0.0, time - wall_now)
    if remaining is not None and resets_in_s is not None:
        yield Seen(cost, remaining, resets_in_s, limit or None)


def _whole(said: str | None) -> int | None:
    """A number of at least 0; None for anything else."""
    if said is None or not said.strip().isascii() or not said.strip().isdigit():
        return None
    return min(int(said[:20]), MOST)


def spent_in(usage: Mapping[str, Any] | None) -> dict[str, int]:
    """What an answer took, by its usage: `tokens`, `input_tokens`, `output_tokens`."""
    spent = {}
    for cost, names in _USAGE.items():
        for name in names:
            value = None if usage is None else usage.get(name)
            if type(value) is int and 0 <= value <= MOST:
                spent[cost] = value
                break
    return spent
