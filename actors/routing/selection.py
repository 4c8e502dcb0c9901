"""Who may have a request, by what it says and by what members say of its payload. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from greenroom.actors.routing.slot import Slot
from greenroom.actors.strategies import RoutingStrategy
from greenroom.messages.requests import Request, RequestOptions
from greenroom.messages.screening import NOBODY_ASKED, Heard
from greenroom.messages.status import SkipReason

TermsKey = tuple[
    tuple[str, ...], tuple[str, ...], tuple[str, ...], tuple[tuple[int, str], ...] | None
]

_CAME_LATER = "it came when the request had been made"


class Barred(NamedTuple):
    """Why a member must not have a request."""

    reason: SkipReason
    detail: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """What a request asks of those who may have it.

    Attributes:
        key: equal where two requests ask the same.
        heard: None of what has no payload: no `accepts` is asked about that.
    """

    only: tuple[str, ...]
    exclude: tuple[str, ...]
    prefer: tuple[str, ...]
    heard: Heard | None
    key: TermsKey = field(init=False)

    def __post_init__(self) -> None:
        refusals = None if self.heard is None else self.heard.refusals
        object.__setattr__(self, "key", (self.only, self.exclude, self.prefer, refusals))

    def bar(self, slot: Slot) -> Barred | None:
        """Why that member must not have the request; None if it may."""
        if self.only and slot.known_as.isdisjoint(self.only):
            return Barred(SkipReason.NOT_NAMED, f"only {', '.join(self.only)} may have it")
        if self.exclude and not slot.known_as.isdisjoint(self.exclude):
            return Barred(SkipReason.RULED_OUT, f"not {', '.join(self.exclude)}")
        accepts = slot.route.accepts
        if accepts is None or self.heard is None:
            return None
        detail = dict(self.heard.refusals).get(id(accepts), _CAME_LATER)
        return Barred(SkipReason.NOT_ACCEPTED, detail) if detail else None


UNHEARD = Terms((), (), (), NOBODY_ASKED)
"""Those of a request that says nothing, and was made when nobody had an `accepts`."""


def terms_of(work: RequestOptions, heard: Heard | None) -> Terms:
    """What a request asks.

    Args:
        heard: None if nobody was asked about its payload.
    """
    if not isinstance(work, Request):
        heard = None
    elif heard is None:
        heard = NOBODY_ASKED
    only, exclude, prefer = work.only or (), work.exclude or (), work.prefer or ()
    return Terms(tuple(only), tuple(exclude), tuple(prefer), heard)


@dataclass(frozen=True, slots=True, eq=False)
class Eligible:
    """What comes of a request's terms for the members that there are.

    Attributes:
        barred: who must not have it, and why.
        others: who may, but is not preferred; empty if nobody is.
        named: whether there is anybody of those who alone may have it.
        strategy: what picks among those who may; None for the pool's own.
    """

    barred: Mapping[str, Barred]
    others: frozenset[str]
    named: bool
    strategy: RoutingStrategy | None


EVERYBODY = Eligible(MappingProxyType({}), frozenset(), True, None)


def eligible(terms: Terms, slots: Iterable[Slot], strategy: RoutingStrategy | None) -> Eligible:
    """Who may have a request of these terms.

    Args:
        strategy: what is to pick among them, if that is not the pool's own.
    """
    slots = tuple(slots)
    bars = {slot.name: terms.bar(slot) for slot in slots}
    barred = {name: bar for name, bar in bars.items() if bar is not None}
    others: frozenset[str] = frozenset()
    if terms.prefer:
        others = frozenset(s.name for s in slots if s.known_as.isdisjoint(terms.prefer))
    named = not terms.only or any(not s.known_as.isdisjoint(terms.only) for s in slots)
    return Eligible(barred, others - barred.keys(), named, strategy)
