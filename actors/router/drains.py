"""Who waits for the pool to have nothing left to do."""

from __future__ import annotations

from typing import Any

from greenroom.actors.runtime.future import PoolFuture


class Drains:
    """The drains under way.

    Attributes:
        failed: whether requests had to be failed instead of finished.
    """

    def __init__(self) -> None:
        self.failed = False
        self._futures: list[PoolFuture[Any]] = []

    def add(self, future: PoolFuture[Any] | None) -> None:
        """One more wants to know; None for a tell, that does not."""
        if future is not None:
            self._futures.append(future)

    def done(self) -> None:
        """There is nothing left to do."""
        # Taken away first: it is called anew by every request that ends once the pool is closed.
        futures, self._futures = self._futures, []
        for future in futures:
            future.resolve(not self.failed)
