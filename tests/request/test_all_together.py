"""Limits, turns, terms, groups, breakers, hedges, costs and changes of all of these, at random."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

import pytest
from helpers_flow import Call, World

from greenroom import CircuitState, FailureKind, Limit, SkipReason
from greenroom.actors.request.job import JobPhase
from greenroom.actors.request.refills import costs_of
from greenroom.actors.routing.routing_table import Slot
from greenroom.messages.execution import Failed, Refused, Succeeded
from greenroom.messages.screening import Heard
from greenroom.messages.status import RefusalReason
from greenroom.messages.supervision import MemberRoute

NAMES = ("ann", "bob", "cat", "dan", "eve")
TAGS = ("eu", "us", "large")
STRATEGIES = (
    "priority",
    "round_robin",
    "least_outstanding",
    "adaptive",
    "cheapest",
    "weighted",
    "random",
)
KINDS = (
    FailureKind.UNAVAILABLE,
    FailureKind.UNAVAILABLE,
    FailureKind.AUTH,
    FailureKind.RATE_LIMITED,
    FailureKind.CALLER,
    FailureKind.TOO_LARGE,
)
WINDOW_S = 20.0
STEPS = 250
PASSING = (SkipReason.SATURATED, SkipReason.HEADROOM, SkipReason.STARTING)
"""Why a member cannot take a request now that can before long."""


Owner = tuple[str, str]
"""Of a limit: the member or the group, and the cost."""


@dataclass
class Begun:
    """What a call has taken of the limits of its member, as the test counts it."""

    call: Call
    at: float
    taken: dict[Owner, int]


def headroom_of(slot: Slot) -> list[str]:
    return [f"{b.cost} {b.window.used}/{b.window.amount}" for b in slot.buckets if b.window]


class Storm:
    """Does what may happen to a pool, one thing at a time, and looks at it after each."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.waits = rng.random() < 0.5
        self.fair = rng.random() < 0.6
        fair: dict[str, Any] = {"fair_by": "key", "max_pending_per_key": 8}
        self.world = World(
            *NAMES,
            strategy=rng.choice(STRATEGIES),
            request_timeout_s=None,
            max_pending=rng.choice((5, 40)),
            max_retries=rng.choice((0, 2, 5)),
            when_unavailable="wait" if self.waits else "fail",
            hedge_after_s=rng.choice((None, 3.0)),
            **(fair if self.fair else {}),
        )
        self.asked = 0
        self.begun: list[Begun] = []
        self.away: list[MemberRoute] = []
        for name in NAMES:
            self.world.routes[name] = replace(self.world.routes[name], **self.some_settings(name))
        self.world.snapshot()

    # -- what may happen

    def some_limits(self, name: str) -> tuple[Limit, ...]:
        limits = []
        if self.rng.random() < 0.4:
            limits.append(Limit(self.rng.randint(1, 6), per_s=WINDOW_S))
        if self.rng.random() < 0.6:
            limits.append(Limit(self.rng.randint(50, 200), per_s=WINDOW_S, cost="tokens"))
        elif name in NAMES[:2]:
            amount = self.rng.randint(80, 200)
            limits.append(Limit(amount, per_s=WINDOW_S, cost="tokens", group="key"))
        return tuple(limits)

    def some_settings(self, name: str) -> dict[str, Any]:
        return {
            "limits": self.some_limits(name),
            "group": self.rng.choice((None, "one", "two")),
            "tags": tuple(self.rng.sample(TAGS, self.rng.randint(0, 2))),
            "cost": float(self.rng.randint(0, 3)),
            "priority": self.rng.randint(0, 1),
            "max_concurrency": self.rng.randint(1, 3),
        }

    def some_of(self, share: float) -> tuple[str, ...] | None:
        if self.rng.random() > share:
            return None
        return tuple(self.rng.sample((*NAMES, *TAGS), self.rng.randint(1, 2)))

    def ask(self) -> None:
        rng = self.rng
        self.asked += 1
        options: dict[str, Any] = {
            "only": self.some_of(0.3),
            "exclude": self.some_of(0.2),
            "prefer": self.some_of(0.2),
            "priority": rng.choice((0, 0, 0, 1, 5)),
            "timeout": rng.choice((None, None, 5.0, 30.0)),
            "idempotent": rng.random() < 0.8,
            "cost": rng.choice((None, {"tokens": rng.choice((1, 20, 60, 120, 220))})),
        }
        whose = rng.choice(("secret-x", "secret-y", "secret-z"))
        heard = Heard(fair_key=whose, weight=rng.choice((0.5, 1.0, 2.0))) if self.fair else None
        self.world.ask(f"r{self.asked}", heard, **options)

    def end(self) -> None:
        if not self.world.calls:
            return
        call = self.rng.choice(self.world.calls)
        self.end_call(call, self.rng.random())

    def end_call(self, call: Call, fate: float) -> None:
        world, about = self.world, call.about
        world.calls.remove(call)
        begun = next(each for each in self.begun if each.call is call)
        spent = {"tokens": self.rng.randint(0, 40)} if self.rng.random() < 0.5 else None
        if fate < 0.1:
            spent = None
            begun.taken.clear()
            world.flow.refused(Refused(reason=RefusalReason.STOPPING, **about))
        elif fate < 0.4:
            kind = self.rng.choice(KINDS)
            error = ConnectionError("down")
            pause = 4.0 if kind is FailureKind.RATE_LIMITED else None
            world.flow.failed(
                Failed(
                    kind=kind,
                    error=error,
                    elapsed_s=0.5,
                    retry_after_s=pause,
                    spent=spent,
                    **about,
                )
            )
        else:
            world.flow.succeeded(Succeeded(value="well", elapsed_s=0.5, spent=spent, **about))
        for owner in begun.taken:
            begun.taken[owner] = (spent or {}).get(owner[1], begun.taken[owner])
        world.settle()
        self.count()

    def cancel(self) -> None:
        if self.world.flow.jobs:
            self.world.flow.cancel(self.rng.choice(list(self.world.flow.jobs)))
            self.world.settle()

    def pass_(self) -> None:
        self.world.pass_(self.rng.choice((0.25, 1.0, 3.0)))
        for route in list(self.world.routes.values()):
            if route.reopens_at is not None and route.reopens_at <= self.world.now:
                self.turn_breaker(route)

    def breaker(self) -> None:
        """The next state of the breaker of one of them."""
        route = self.rng.choice(list(self.world.routes.values()))
        self.turn_breaker(route)

    def turn_breaker(self, route: MemberRoute) -> None:
        following: dict[str, Any] = {"epoch": route.epoch + 1, "eased_in": False}
        if route.circuit is CircuitState.CLOSED:
            following |= {
                "circuit": CircuitState.OPEN,
                "blocked": SkipReason.CIRCUIT_OPEN,
                "reopens_at": self.world.now + 5.0,
            }
        elif route.circuit is CircuitState.OPEN:
            following |= {
                "circuit": CircuitState.HALF_OPEN,
                "blocked": None,
                "reopens_at": None,
                "trial_permits": 1,
            }
        else:
            following |= {
                "circuit": CircuitState.CLOSED,
                "trial_permits": None,
                "eased_in": True,
            }
        self.world.change(route.name, **following)

    def configure(self) -> None:
        name = self.rng.choice(list(self.world.routes))
        settings = self.some_settings(name)
        asked = self.rng.sample(sorted(settings), 2)
        self.world.change(name, **{each: settings[each] for each in asked})

    def restart(self) -> None:
        self.world.restart(self.rng.choice(list(self.world.routes)))

    def leave(self) -> None:
        """One of them is removed; its calls end with it."""
        if len(self.world.routes) > 1:
            name = self.rng.choice(list(self.world.routes))
            self.away.append(self.world.routes.pop(name))
            self.world.calls = [each for each in self.world.calls if each.member != name]
            self.world.snapshot()

    def come(self) -> None:
        """One that has left comes back, with other settings, behind the others."""
        if self.away:
            gone = self.away.pop(0)
            index = 1 + max(route.index for route in self.world.routes.values())
            self.world.routes[gone.name] = MemberRoute(
                gone.name,
                index=max(index, gone.index + 1),
                incarnation=gone.incarnation + 1,
                ref=gone.ref,
                epoch=gone.epoch + 1,
                **self.some_settings(gone.name),
            )
            self.world.snapshot()

    def step(self) -> None:
        acts: tuple[Any, ...] = (
            *(self.ask,) * 8,
            *(self.end,) * 6,
            *(self.pass_,) * 4,
            self.cancel,
            self.breaker,
            self.breaker,
            self.configure,
            self.rng.choice((self.restart, self.leave, self.come, self.come)),
        )
        self.rng.choice(acts)()
        self.look()

    # -- what has to hold

    def look(self) -> None:
        world = self.world
        world.pass_(0.0)  # what is due at once
        assert world.complaints == []
        assert all(len(answers) == 1 for answers in world.answers.values())
        assert world.answers.keys().isdisjoint(world.flow.jobs)
        self.count()
        for job in list(world.flow.jobs.values()):
            if job.phase is JobPhase.QUEUED:
                self.look_at_waiting(job)
            elif job.phase is JobPhase.PAUSED:
                assert job.alarm is not None
            else:
                assert job.phase in (JobPhase.RUNNING, JobPhase.LAST_TRIAL), job.phase
                assert job.current is not None

    def count(self) -> None:
        """No window of any limit holds more than its amount when something begins."""
        now = self.world.now
        known = {id(each.call) for each in self.begun}
        new = [call for call in self.world.calls if id(call) not in known]
        amounts: dict[Owner, int] = {}
        for name, route in self.world.routes.items():
            for limit in route.limits:
                owner = limit.group or name, limit.cost
                amounts[owner] = min(limit.amount, amounts.get(owner, limit.amount))
        for call in new:
            costs = {"requests": 1, **(call.message.work.cost or {})}
            limits = self.world.routes[call.member].limits
            owners = [(limit.group or call.member, limit.cost) for limit in limits]
            self.begun.append(
                Begun(call, now, {each: int(costs.get(each[1], 0)) for each in owners})
            )
        self.begun = [
            each for each in self.begun if each.at > now - WINDOW_S or each.call in self.world.calls
        ]
        for owner in {owner for each in self.begun if each.call in new for owner in each.taken}:
            within = [each for each in self.begun if each.at > now - WINDOW_S]
            assert sum(each.taken.get(owner, 0) for each in within) <= amounts[owner], owner

    def look_at_waiting(self, job: Any) -> None:
        """Nobody who could take it is free, and somebody is worth waiting for."""
        table = self.world.flow.table
        may = [slot for slot in table if slot.name not in table.eligible(job.terms).barred]
        for slot in may:
            if slot.name in job.taken or job.bound is not None or slot.is_trial:
                continue
            fits = table.headroom.fits(slot, costs_of(job), self.world.now)
            held = self.is_held(slot, job)
            assert not slot.is_free or not fits or held, (job.id, slot)
        if not job.failures and job.trial is None:
            assert any(self.comes(slot, job) for slot in may), (
                job.id,
                self.waits,
                costs_of(job),
                [(s, headroom_of(s)) for s in may],
            )

    def is_held(self, slot: Slot, job: Any) -> bool:
        hold = self.world.flow.table.headroom._hold
        return (
            hold is not None
            and hold.asker is not job
            and hold.asker.cell is not None
            and hold.name == slot.name
        )

    def comes(self, slot: Slot, job: Any) -> bool:
        headroom, now = self.world.flow.table.headroom, self.world.now
        if headroom.free_at(slot, costs_of(job), now) is None:
            return False
        reason = slot.skip_reason()
        if reason is None or slot.rests_for_its_pace(self.world.now):
            return True
        return reason in PASSING or self.waits or reason is SkipReason.TRIAL_RUNNING

    def calm(self) -> None:
        """All are well from now on: whoever waits is answered before long, or told that nobody can
        answer.
        """
        world = self.world
        for route in list(world.routes.values()):
            while world.routes[route.name].circuit is not CircuitState.CLOSED:
                self.turn_breaker(world.routes[route.name])
        self.look()
        for _ in range(600):
            if not world.flow.jobs and not world.calls:
                break
            for call in list(world.calls):
                if call in world.calls:
                    self.end_call(call, 1.0)
            world.pass_(1.0)
            self.look()
        assert not world.flow.jobs, [(job.id, job.phase) for job in world.flow.jobs.values()]
        world.pass_(2 * WINDOW_S)

    def rest(self) -> None:
        """Nothing is left over."""
        world = self.world
        assert len(world.answers) + world.flow.endings.counts["cancelled"] >= self.asked
        assert set(world.in_flight().values()) <= {0}
        assert not world.flow.attempts.live
        assert world.flow.room.queue.size == 0
        for slot in world.flow.table:
            assert slot.is_free, slot
            for stats in world.flow.table.headroom.stats(slot, world.now):
                # What 429s have taught is known for a while.
                paced = stats.pace_per_s is not None
                assert stats.used == 0 or (paced and stats.used is None)
                assert paced or stats.headroom == stats.limit
        assert "secret" not in repr((world.events, world.answers, world.noted, world.outcomes))
        texts = [str(each) for answers in world.answers.values() for each in answers]
        assert not any("secret" in text for text in texts)


@pytest.mark.parametrize("seed", range(30))
def test_whatever_comes_together_everybody_is_served_or_told(seed: int) -> None:
    """Behaviour 319: limits, groups, tags, breakers, fair keys, costs, terms, hedges, cancels,
    deadlines and changes of all of these: each request ends once or waits for somebody that may
    come, no window of a limit is ever over, and nothing is left over at the end.
    """
    storm = Storm(seed)
    for _ in range(STEPS):
        storm.step()
    storm.calm()
    storm.rest()
