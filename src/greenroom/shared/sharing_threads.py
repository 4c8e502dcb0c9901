"""The threads around `Sharing`: what the pool tells, what lies in the store, what follows."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import random
import socket
import threading
import time
from collections.abc import Iterable
from contextvars import Context

import pykka

from greenroom.actors.handle.pool_ref import PoolRef
from greenroom.actors.runtime.clock import Clock
from greenroom.actors.runtime.event_bus import EventBus, say
from greenroom.messages.errors import PoolStoppedError, ResourceError, summary
from greenroom.messages.events import (
    BreakerClosed,
    BreakerHalfOpened,
    BreakerOpened,
    Event,
    MemberResting,
    MemberStopped,
    PoolStopped,
    SharedStateAway,
    SharedStateBack,
)
from greenroom.messages.requests import GetStats, ReportMember
from greenroom.messages.shared_limits import LeaseGranted, LeaseRefused, LeaseWanted, LimitTold
from greenroom.shared.learned_words import LearnedWords
from greenroom.shared.learned_words import Said as Learned
from greenroom.shared.lease_book import LONGEST_LEASE_S, LeaseBook
from greenroom.shared.sharing import Alone, Back, Effect, LookAtMembers, Looked, Put, Say, Sharing
from greenroom.shared.state_store import Ledger, Listener, SharedState, Store, key_text
from greenroom.supervisors.policy.breaker import DISABLED_BY_HAND

LONGEST_WAIT_S = 1.0
"""How long a thread waits at most before it looks whether the pool has ended."""
JOIN_S = 1.0
"""How long the end of a pool waits for its connection to the store to be closed."""
MOST_TRIES = 40
"""How often a ledger is changed by others meanwhile before it counts as out of reach."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.002, 0.05
"""How long it is waited at most before the next try: twice as long each time. All tries together
take less time than a budget waits for its answer.
"""
LEDGER_KEPT_S = 60.0
"""For how long a ledger stays in its store beyond what counts in it."""
ASK_S = 1.0
"""How long the pool may take to say how its members are."""

_KINDS = (
    BreakerOpened,
    BreakerHalfOpened,
    BreakerClosed,
    MemberResting,
    MemberStopped,
    PoolStopped,
)


class _News:
    """Something may have changed in the store."""


_NEWS = _News()

_Item = tuple[Event, float] | _News | LeaseWanted | LimitTold
Inbox = queue.SimpleQueue[_Item]
"""What the pool, and who listens for news, have to say to the thread that shares."""


class SharingThreads:
    """Two threads of a pool: one has the store and decides, the other waits for news. Both are
    daemons, and end with the pool. Nothing of a request waits for either: what the pool has to say
    is put into a queue, and it is told by messages.

    Args:
        scope: the name under which processes share: that of the pool, as it was given.
        name: that of the pool.
    """

    def __init__(
        self,
        state: SharedState,
        scope: str,
        *,
        name: str,
        pool: PoolRef,
        bus: EventBus,
        clock: Clock,
        rng: random.Random,
        inbox: Inbox | None = None,
    ) -> None:
        self._state = state
        self._scope = scope
        self._name = name
        self._pool = pool
        self._bus = bus
        self._clock = clock
        source = f"{socket.gethostname()[:60]}:{os.getpid()}"
        self._by, self._rng = os.urandom(16).hex(), rng
        self._inbox: Inbox = queue.SimpleQueue() if inbox is None else inbox
        self._has_said_own = False
        self._learned = LearnedWords(self._by)
        self._unsaid: dict[str, Learned] = {}
        self._sharing = Sharing(self._by, source, rng)
        self._over = threading.Event()
        self._thread = self._made(self._share, "shared")
        self._listening = self._made(self._listen, "shared-news")

    def start(self) -> None:
        """Begin.

        Raises:
            ResourceError: the machine has no threads for it.
        """
        end = self._bus.subscribe_to(_KINDS, self._told)
        try:
            for thread in (self._thread, self._listening):
                Context().run(thread.start)  # nobody's: what it carries would live as long
        except BaseException as error:
            end()
            self._over.set()
            if isinstance(error, RuntimeError):
                raise ResourceError(f"no thread to share by: {error}") from error
            raise

    def _made(self, run: object, what: str) -> threading.Thread:
        assert callable(run)
        return threading.Thread(target=run, name=f"greenroom-{self._name}-{what}", daemon=True)

    def _told(self, event: Event) -> None:
        """Called by whoever emits: it only puts."""
        self._inbox.put((event, self._clock.now()))
        if isinstance(event, PoolStopped):
            self._over.set()
            self._inbox.put(_NEWS)
            if self._thread is not threading.current_thread():
                self._thread.join(JOIN_S)

    # -- the thread that decides

    def _share(self) -> None:
        # A local of this thread alone: in a child of a fork, which has no such thread, nobody ends
        # what is its parent's.
        store: Store | None = None
        try:
            while not self._over.is_set():
                store = self._step(store)
        except (pykka.ActorDeadError, PoolStoppedError):
            pass  # the pool has ended meanwhile
        except BaseException as error:
            self._bus.complain_of("it shares nothing any more", error)
        finally:
            store = self._given_back(store)
            self._let_go(store)

    def _given_back(self, store: Store | None) -> Store | None:
        """See to what the pool has said last of its leases."""
        with contextlib.suppress(queue.Empty):
            while store is not None:
                last = self._inbox.get_nowait()
                if isinstance(last, LeaseWanted):
                    store = self._lend(store, last)
        return store

    def _step(self, store: Store | None) -> Store | None:
        """Wait for what happens next, and see to it; the connection, if there is one then."""
        sharing = self._sharing
        wait_s = min(LONGEST_WAIT_S, max(0.0, sharing.next_at() - self._clock.now()))
        news: list[_Item] = []
        with contextlib.suppress(queue.Empty):
            news.append(self._inbox.get(timeout=wait_s))
            while True:
                news.append(self._inbox.get_nowait())
        for each in news:  # first: somebody waits for these
            if isinstance(each, LeaseWanted):
                store = self._lend(store, each)
        effects = [effect for each in news for effect in self._happened(each)]
        if self._over.is_set():  # what was found out last is still told, and nobody else is
            puts = [each for each in effects if isinstance(each, Put)]
            return self._exchange(store, puts)[0] if puts else store
        effects += sharing.tick(self._clock.now())
        puts = self._carried_out(effects)
        if puts or self._unsaid or _NEWS in news or sharing.polls(self._clock.now()):
            store, effects = self._exchange(store, puts)
            self._carried_out(effects)
        return store

    def _lend(self, store: Store | None, asked: LeaseWanted) -> Store | None:
        """Ask the ledger for a part of a limit, and tell the pool; the connection, if there is one
        then.
        """
        sharing, answer = self._sharing, None
        try:
            if store is None and sharing.polls(self._clock.now()):
                store = self._state.open(self._scope)
            if store is not None:
                answer = self._lent(store, asked)
                self._carried_out(sharing.answered(self._clock.now()))
        except Exception as error:  # as in `_exchange`
            self._let_go(store)
            store = None
            self._carried_out(sharing.failed(summary(error), self._clock.now()))
        if answer is None:
            answer = LeaseRefused(key=asked.key, serial=asked.serial)
        with contextlib.suppress(pykka.ActorDeadError, PoolStoppedError):
            self._pool.tell(answer)
        return store

    def _lent(self, store: Store, asked: LeaseWanted) -> LeaseGranted | LeaseRefused:
        if not isinstance(store, Ledger):
            if not self._has_said_own:
                self._has_said_own = True
                say(
                    "INFO", __name__, "its rate limits are its own: what it shares by has no ledger"
                )
            return LeaseRefused(key=asked.key, serial=asked.serial, ever=False)
        key = json.dumps([*asked.key[:3], float(asked.key[3])])
        for number in range(MOST_TRIES):
            held = store.read(key)
            book = LeaseBook.read(held.text, held.now)
            answer = book.lend(asked, self._by)
            ttl_s = asked.per_s + LONGEST_LEASE_S + LEDGER_KEPT_S
            if store.replace(key, book.text(), held.revision, ttl_s):
                return answer
            # Others are at it as well. While the pool ends, too: it is then that all give back.
            longest_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0**number)
            time.sleep(self._rng.random() * longest_s)
        raise TimeoutError(f"a ledger was changed by others {MOST_TRIES} times meanwhile")

    def _happened(self, news: _Item) -> list[Effect]:
        if isinstance(news, LimitTold):
            learned = self._learned.told(news)
            self._unsaid[learned.key] = learned
            return []
        if isinstance(news, _News | LeaseWanted):
            return []
        event, at = news
        sharing, member = self._sharing, event.member or ""
        match event:
            case (
                BreakerOpened(observed=True)
                | BreakerHalfOpened(observed=True)
                | BreakerClosed(observed=True)
                | MemberStopped()
            ):
                sharing.let_go(member)
            case BreakerOpened():
                return sharing.opened(member, event.reopens_in_s, event.kind, event.heard, at)
            case BreakerHalfOpened():
                return sharing.half_opened(member, at)
            case BreakerClosed(reason=reason) if reason == DISABLED_BY_HAND:
                sharing.let_go(member)
            case BreakerClosed():
                return sharing.closed(member, event.heard, at)
            case MemberResting(heard=False):
                return sharing.rested(member, event.rests_s, event.kind, at)
        return []

    def _carried_out(self, effects: Iterable[Effect]) -> list[Put]:
        """Do what is to be done in this process; what is left for the store."""
        puts: list[Put] = []
        for effect in effects:
            match effect:
                case Put():
                    puts.append(effect)
                case Say(member, state, for_s, source, kind):
                    with contextlib.suppress(TypeError, ValueError):  # no name that a member has
                        self._pool.tell(
                            ReportMember(member, state, for_s=for_s, source=source, kind=kind)
                        )
                case LookAtMembers():
                    puts += self._carried_out(self._look_at_members())
                case Alone(why):
                    self._bus.emit(SharedStateAway(pool=self._name, error=why))
                case Back():
                    self._bus.emit(SharedStateBack(pool=self._name))
        return puts

    def _look_at_members(self) -> list[Effect]:
        try:
            stats = self._pool.ask(GetStats(), timeout=ASK_S)
        except pykka.Timeout:
            return []
        now = self._clock.now()
        since_epoch_s = self._clock.wall() - now
        looked = {
            each.name: Looked(
                _moved(each.health.last_success_at, since_epoch_s),
                _moved(each.health.last_failure_at, since_epoch_s),
                each.in_flight,
            )
            for each in stats.members
        }
        return self._sharing.members(looked, now)

    def _exchange(
        self, store: Store | None, puts: Iterable[Put]
    ) -> tuple[Store | None, list[Effect]]:
        """Have words lie in the store, and look at what else does."""
        sharing = self._sharing
        try:
            if store is None:
                if not sharing.polls(self._clock.now()):
                    return None, []  # what was to be said is said once there is a store
                store = self._state.open(self._scope)
            _put(store, puts)
            while self._unsaid:
                store.put(*self._unsaid.pop(next(iter(self._unsaid))))
            lying = store.get()
            effects = sharing.looked(lying, self._clock.now())
            _put(store, (each for each in effects if isinstance(each, Put)))
            for heard in self._learned.looked(lying):
                self._pool.tell(heard)
            return store, [each for each in effects if not isinstance(each, Put)]
        except (pykka.ActorDeadError, PoolStoppedError):
            self._let_go(store)
            raise
        except Exception as error:  # whatever it raises: each process does as well without it
            self._let_go(store)
            self._unsaid.clear()  # it is old by the time that there is a store again
            return None, sharing.failed(summary(error), self._clock.now())

    def _let_go(self, store: Store | None) -> None:
        if store is not None:
            with contextlib.suppress(Exception):
                store.close()

    # -- the thread that waits for news

    def _listen(self) -> None:
        while not self._over.is_set():
            listener: Listener | None = None
            try:
                listener = self._state.listen(self._scope)
                while not self._over.is_set():
                    if listener.wait(LONGEST_WAIT_S / 4):
                        self._inbox.put(_NEWS)
            except Exception:
                # Of no account: it only hastens what is found within a second, and whether the
                # store is away is told by the other thread.
                self._over.wait(LONGEST_WAIT_S)
            finally:
                if listener is not None:
                    with contextlib.suppress(Exception):
                        listener.close()


def _moved(at: float | None, by_s: float) -> float | None:
    return None if at is None else at - by_s


def _put(store: Store, puts: Iterable[Put]) -> None:
    for each in puts:
        store.put(key_text(each.key), each.word.text(), each.ttl_s)
