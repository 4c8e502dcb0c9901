"""nopanic: a rate limit for each provider, a retry around both, a deadline around all.

It has no router: the choice is written with its own policies, as its pages compose them. Each
provider has a limiter of its own (`rate_limit` where the limit is told, else
`adaptive_rate_limit`), in which calls wait in order; a request takes that with more tokens left,
and a `fallback` takes it to the other when its call fails. `retry` begins anew for as long as the
`deadline` allows, which limiters know, too, and honours the `retry_after` of a 429.
Fairness: `keyed`, which is a limiter for each tenant, each with its share; what one leaves is
nobody's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from benchmarks.peers import calls
from benchmarks.peers.base import LimitedCall, Peer, Providers

nopanic: Any = import_module("nopanic")

ATTEMPTS = 100
"""More than the deadline lets anybody have."""
START_PER_S, FLOOR_PER_S = 10.0, 1.0
"""Where `adaptive_rate_limit` begins, and what it never goes below."""
TENANTS = 10


class Nopanic(Peer):
    """Its policies, composed."""

    @asynccontextmanager
    async def limited(self, providers: Providers) -> AsyncIterator[LimitedCall]:
        limiters = {name: _limiter(providers, name) for name in providers.names}

        async def ask(name: str) -> str:
            return await calls.call(providers, name)

        async def either() -> Any:
            first, second = sorted(
                providers.names, key=lambda name: limiters[name].available_tokens, reverse=True
            )
            step = nopanic.fallback(lambda _: limiters[second].acall(ask, second), on=FAILED)
            return await step.acall(limiters[first].acall, ask, first)

        pace = providers.pace
        retry = nopanic.retry(
            attempts=ATTEMPTS,
            on=(*FAILED, nopanic.RateLimited),
            backoff=nopanic.backoff.full_jitter(0.05 * pace, cap=0.5 * pace),
        )
        whole = nopanic.compose(nopanic.deadline(providers.deadline_s), retry)
        shares = _shares(providers)

        async def call(tenant: str) -> Any:
            async def fairly() -> Any:
                if shares is None:
                    return await either()
                return await shares.acall(lambda _: either(), tenant)

            return await whole.acall(fairly)

        yield call


FAILED = (calls.Refused, OSError)


def _limiter(providers: Providers, name: str) -> Any:
    per_s = providers.pace
    if providers.told is None:
        return nopanic.adaptive_rate_limit(START_PER_S, per=per_s, min_rate=FLOOR_PER_S, name=name)
    return nopanic.rate_limit(providers.told * per_s, per=per_s, name=name)


def _shares(providers: Providers) -> Any:
    if not providers.fair or providers.told is None:
        return None
    share = len(providers.names) * providers.told / TENANTS

    def new(tenant: str) -> Any:
        return nopanic.rate_limit(share * providers.pace, per=providers.pace, name=tenant)

    return nopanic.keyed(new, key=str)
