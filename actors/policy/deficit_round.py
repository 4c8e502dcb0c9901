"""Deficit round robin: whose turn it is among those that have something waiting. Pure."""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

QUANTUM = 1.0
"""What a key of weight 1 gets at the start of each of its turns: the cost of a usual request."""


class _Account:
    __slots__ = ("deficit", "fresh", "weight")

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.deficit = 0.0
        self.fresh = True  # it has not been given its share of this turn


class DeficitRound(Generic[K]):
    """Keys take turns. In each it may be served for what its turns have brought it, `QUANTUM` times
    its weight each, less what it has been served for; what is left is kept for its next turn, as
    long as it has something waiting. Then the next one has its turn.

    Whatever the keys and the costs are, two of them that both have something waiting that could be
    served are served alike, by weight: what they have been served for, over their weights, differs
    by no more than one quantum and the largest cost over the lower weight of the two. Who comes
    waits for one turn of each of the others. As long as anything can be served, somebody is.

    Source: Shreedhar and Varghese, Efficient Fair Queueing Using Deficit Round Robin (1995), with
    weights, and with keys that are passed over as long as nobody can serve them.
    """

    def __init__(self) -> None:
        self._accounts: OrderedDict[K, _Account] = OrderedDict()

    def __len__(self) -> int:
        return len(self._accounts)

    def __contains__(self, key: object) -> bool:
        return key in self._accounts

    def enter(self, key: K, weight: float = 1.0) -> None:
        """A key has something waiting; it comes behind the others. Of one that is there already
        only the weight changes.

        Args:
            weight: above 0.
        """
        account = self._accounts.get(key)
        if account is None:
            self._accounts[key] = _Account(weight)
        else:
            account.weight = weight

    def leave(self, key: K) -> None:
        """It has nothing waiting any more; what its turns have left it is lost."""
        self._accounts.pop(key, None)

    def served(self, key: K, cost: float) -> None:
        """Something of a key has been served, be it out of turn."""
        account = self._accounts.get(key)
        if account is not None:
            account.deficit -= cost
            # Here, not when its next turn is looked for: others may have had theirs by then.
            if account.deficit <= 0.0:
                self._end_turn(key, account)

    def _in_order(self) -> Iterator[tuple[K, _Account]]:
        """Each once, from the first on; whoever has been given out may be put behind the others. As
        long as the first can be served, or has had its turn, nobody else is looked at.
        """
        accounts = self._accounts
        count = len(accounts)
        for given in range(count):
            first = next(iter(accounts))
            yield first, accounts[first]
            if next(iter(accounts)) is first:  # passed over
                yield from list(itertools.islice(accounts.items(), 1, count - given))
                return

    def _end_turn(self, key: K, account: _Account) -> None:
        account.fresh = True
        self._accounts.move_to_end(key)

    def turn(self, cost_of: Callable[[K], float | None]) -> K | None:
        """Whose turn it is; asked again without `served` or `leave`, it is the same one's.

        Args:
            cost_of: what serving the next of a key costs, at least 0; None if nobody can serve it:
                it is passed over then, and keeps its turn.

        Returns:
            None if nobody can serve any.
        """
        while True:
            # Each of those that may be served has had its turn by the end of one pass.
            short: list[tuple[_Account, float]] = []
            for key, account in self._in_order():
                cost = cost_of(key)
                if cost is None:
                    continue
                if account.fresh:
                    account.deficit += QUANTUM * account.weight
                    account.fresh = False
                if account.deficit >= cost:
                    return key
                self._end_turn(key, account)
                short.append((account, cost))
            if not short:
                return None
            _pass_rounds(short)


def _pass_rounds(short: list[tuple[_Account, float]]) -> None:
    """Let as many turns of each go by at once as bring nobody enough: with a low weight, or a high
    cost, these may be many.
    """
    lacking = [(cost - each.deficit) / (QUANTUM * each.weight) for each, cost in short]
    rounds = math.ceil(min(lacking)) - 1
    if rounds > 0:
        for each, _ in short:
            each.deficit += rounds * QUANTUM * each.weight
