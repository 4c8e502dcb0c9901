"""What the tests of the fallback chain share."""

from __future__ import annotations

from typing import Any

from greenroom import FallbackChain


class Script:
    """A function of an agent that fails for some of them, and writes down whom it was given."""

    def __init__(self, **errors: BaseException) -> None:
        self.errors = errors
        self.calls: list[str] = []

    def __call__(self, agent: str) -> str:
        self.calls.append(agent)
        if agent in self.errors:
            raise self.errors[agent]
        return f"{agent} answers"


def chain_of(*names: str, **settings: Any) -> FallbackChain[str]:
    """A chain whose agents are strings, each its own name."""
    chain: FallbackChain[str] = FallbackChain(**settings)
    for name in names:
        chain.add(name, name)
    return chain
