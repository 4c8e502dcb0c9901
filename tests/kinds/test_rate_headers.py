"""What providers' headers say of rate limits, and what comes of that in a pool."""

from __future__ import annotations

import asyncio

import pytest
from helpers_completions import EVENTS, JSON, Wire, body, events, part, response, whole
from helpers_pools import WAIT_S

from greenroom import AgentPool, AllPoolMembersFailedError, Limit, LimitStats, Member, Request
from greenroom.kinds import OpenAIAgent
from greenroom.kinds.rate_headers import limits_in, spent_in
from greenroom.testing import FakeClock

NOON = 1_800_000_000.0
OPENAI = {
    "x-ratelimit-limit-requests": "60",
    "x-ratelimit-remaining-requests": "59",
    "x-ratelimit-reset-requests": "1s",
    "x-ratelimit-limit-tokens": "150000",
    "x-ratelimit-remaining-tokens": "149984",
    "x-ratelimit-reset-tokens": "6m0s",
}
ANTHROPIC = {
    "anthropic-ratelimit-requests-limit": "50",
    "anthropic-ratelimit-requests-remaining": "0",
    "anthropic-ratelimit-requests-reset": "2027-01-15T08:00:30Z",
    "anthropic-ratelimit-input-tokens-limit": "40000",
    "anthropic-ratelimit-input-tokens-remaining": "39000",
    "anthropic-ratelimit-input-tokens-reset": "2027-01-15T08:00:01Z",
}


@pytest.mark.parametrize(
    ("headers", "seen"),
    [
        (OPENAI, [("requests", 59, 1.0, 60), ("tokens", 149984, 360.0, 150000)]),
        (ANTHROPIC, [("requests", 0, 30.0, 50), ("input_tokens", 39000, 1.0, 40000)]),
        ({**OPENAI, "x-ratelimit-reset-tokens": str(int(NOON) + 7)},
         [("requests", 59, 1.0, 60), ("tokens", 149984, 7.0, 150000)]),
        ({"x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": "120ms"},
         [("requests", 3, 0.12, None)]),
        ({"x-ratelimit-remaining-requests": "3"}, []),
        ({"x-ratelimit-remaining-requests": "-1", "x-ratelimit-reset-requests": "1s"}, []),
        ({"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "soon"}, []),
        ({"x-ratelimit-remaining-requests": "9" * 5000, "x-ratelimit-reset-requests": "1s",
          "x-ratelimit-limit-requests": "0"}, [("requests", 10**15, 1.0, None)]),
        ({}, []),
    ],
)  # fmt: skip
def test_headers_are_read_as_their_providers_mean_them(
    headers: dict[str, str], seen: list[tuple[object, ...]]
) -> None:
    """Behaviour 306: OpenAI's and Anthropic's; what is not whole or makes no sense is left out."""
    assert [tuple(each) for each in limits_in(headers, NOON)] == seen


def test_a_usage_is_what_an_answer_took() -> None:
    """Behaviour 306: in the words of either."""
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    assert spent_in(usage) == {"tokens": 12, "input_tokens": 9, "output_tokens": 3}
    assert spent_in({"input_tokens": 9, "output_tokens": True}) == {"input_tokens": 9}
    assert spent_in({"total_tokens": -1}) == spent_in(None) == {}


HEADERS = tuple(f"{name}: {value}" for name, value in OPENAI.items())
NOTHING_LEFT = (
    "x-ratelimit-limit-requests: 60",
    "x-ratelimit-remaining-requests: 0",
    "x-ratelimit-reset-requests: 60s",
)
USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}


def test_a_pool_goes_by_what_a_server_says() -> None:
    """Behaviour 306: of answers, of streams, and of a 429."""
    answer = body({**whole(), "usage": USAGE})
    stream = events(part("hi"), part(finish="stop"), {"choices": [], "usage": USAGE})
    server = Wire(
        response(answer, "200 OK", *HEADERS, content_type=JSON),
        response(stream, "200 OK", *HEADERS, content_type=EVENTS),
        response(answer, "429 Too Many Requests", *NOTHING_LEFT, content_type=JSON),
    )

    async def app() -> None:
        clock = FakeClock()
        async with server.running():
            agent = OpenAIAgent("m", base_url=server.url)
            limits = [Limit(1000, per_s=60, cost="tokens")]
            member = Member("a", agent, limits=limits, close=OpenAIAgent.aclose)
            async with AgentPool.start([member], clock=clock) as pool:
                await pool.aask(Request("x", cost={"tokens": 500}), timeout=WAIT_S)
                tokens, requests = (await pool.astats())["a"].limits
                assert (tokens.used, tokens.headroom) == (12, 988)
                assert requests == LimitStats(
                    cost="requests", limit=60, per_s=None, used=None, headroom=59
                )
                async for _ in pool.stream(Request("x", cost={"tokens": 500}), timeout=WAIT_S):
                    pass
                assert (await pool.astats())["a"].limits[0].used == 24
                with pytest.raises(AllPoolMembersFailedError):
                    await pool.aask(Request("x", max_retries=0), timeout=WAIT_S)
                assert (await pool.astats())["a"].limits[1].headroom == 0

    asyncio.run(app())
