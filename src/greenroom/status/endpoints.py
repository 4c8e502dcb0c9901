"""The status endpoints of this process: pools that name one address share one of them."""

from __future__ import annotations

import contextlib
import threading

from greenroom.actors.handle.pool_ref import PoolRef
from greenroom.actors.runtime import forks
from greenroom.actors.runtime.event_bus import EventBus
from greenroom.status.board import Board
from greenroom.status.request_tally import RequestTally
from greenroom.status.status_address import StatusAddress
from greenroom.status.status_server import Place, StatusServer, place_of
from greenroom.status.watched_pool import WatchedPool


class _Endpoint:
    """A server, and how many pools have a place in it."""

    def __init__(self, address: StatusAddress, place: Place | None) -> None:
        self.board = Board()
        self.server = StatusServer(address, self.board, place)
        self.asked_for = address
        self.places = 0


# Under the lock; a signal handler may start a pool where one is being started.
_lock = threading.RLock()
_endpoints: list[_Endpoint] = []


class StatusPlace:
    """A pool's place in an endpoint, from before its start to its end.

    Args:
        address: where the pool is to be seen.

    Attributes:
        tally: what its router is to tell of its requests.
        url: where it is.

    Raises:
        OSError: the process cannot listen there.
        ResourceError: the machine has no thread for it.
    """

    def __init__(self, address: StatusAddress) -> None:
        self.tally = RequestTally()
        self._pool: WatchedPool | None = None
        self._left = False
        # Before the lock: a pool that ends meanwhile waits for no name server.
        place = place_of(address)
        with _lock:
            self._endpoint = _endpoint_at(address, place)
            self._endpoint.places += 1
        self.url = self._endpoint.server.address.url

    def hear(self, ref: PoolRef, bus: EventBus) -> None:
        """The pool begins: have its events."""
        self._pool = WatchedPool(ref, bus, self.tally)
        ref.status_url = self.url

    def show(self) -> None:
        """The pool runs, and can be asked."""
        with _lock:
            if not self._left and self._pool is not None:  # else it has ended meanwhile
                self._endpoint.board.add(self._pool)

    def leave(self) -> None:
        """The pool has ended, or has not come to be; after the last one the endpoint ends."""
        with _lock:
            if self._left or self._endpoint not in _endpoints:
                return
            self._left = True
            if self._pool is not None:
                self._endpoint.board.remove(self._pool)
            self._endpoint.places -= 1
            if not self._endpoint.places:
                _endpoints.remove(self._endpoint)
                self._endpoint.board.close()
                self._endpoint.server.stop()


def _endpoint_at(address: StatusAddress, place: Place | None) -> _Endpoint:
    for each in _endpoints:
        if address in (each.asked_for, each.server.address):
            return each
    endpoint = _Endpoint(address, place)
    try:
        endpoint.server.start()
    except BaseException:
        endpoint.server.stop()
        raise
    _endpoints.append(endpoint)
    return endpoint


def _begin_anew() -> None:
    """Run in a child, where no thread serves: the endpoints are its parent's."""
    global _lock
    _lock = threading.RLock()
    for each in _endpoints:
        with contextlib.suppress(OSError):
            each.server.forget()
    _endpoints.clear()


forks.in_child(_begin_anew)
