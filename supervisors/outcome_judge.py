"""What the outcomes of attempts mean for the members' breakers and health."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from greenroom.messages import advice
from greenroom.messages.events import (
    BreakerClosed,
    BreakerHalfOpened,
    BreakerOpened,
    BreakerSpared,
    HealthChanged,
)
from greenroom.messages.status import CircuitState, FailureKind
from greenroom.messages.supervision import (
    AttemptOutcome,
    FailuresSeen,
    Outcomes,
    RequestSettled,
    Successes,
    TrialDue,
    TrialStarted,
)
from greenroom.supervisors.last_one import LastOne
from greenroom.supervisors.member_record import MemberRecord
from greenroom.supervisors.policy.breaker import Transition
from greenroom.supervisors.policy.peers import (
    LATELY_S,
    LEAST_CALLS,
    WINDOW_S,
    Sample,
    fails_as_its_peers,
)
from greenroom.supervisors.policy.provisional_failures import Case, ProvisionalFailures
from greenroom.supervisors.route_publisher import RoutePublisher
from greenroom.supervisors.shared_fate import SharedFate
from greenroom.supervisors.supervisor_ports import SupervisorPorts

_ABOUT_NOW_S = 1e-9
_BY_HAND = frozenset((CircuitState.FORCED_OPEN, CircuitState.DISABLED))


@dataclass(eq=False, repr=False)
class OutcomeJudge:
    """Takes in what the router reports of attempts, and says what changes by it.

    Args:
        _answer: tells the router which failures have been judged.
    """

    _ports: SupervisorPorts
    _routes: RoutePublisher
    _answer: Callable[[FailuresSeen], None]

    def __post_init__(self) -> None:
        self._records = self._routes.records
        self._ledger = ProvisionalFailures(self._ports.config.circuit_failure_threshold)
        self._last_one = LastOne(self._ports, self._records, self.announce)
        self._shared_fate = SharedFate(self._ports, self._records, self.announce)
        self._routes.keep_in = self._keep_in

    def configure(self) -> None:
        """The settings have changed."""
        self._ledger.configure(self._ports.config.circuit_failure_threshold)

    def take_in(self, message: Outcomes) -> None:
        """Judge a batch; the router has the new table before it hears what has been judged."""
        judged: dict[tuple[str, int], int] = {}
        changed = changed_elsewhere = False
        # Health is looked at once for each member, not once for each outcome.
        touched: dict[str, MemberRecord] = {}
        settled: dict[str, MemberRecord] = {}
        now = self._ports.now()
        for outcome in message.batch:
            if isinstance(outcome, RequestSettled):
                # By a request that ends breakers of any members may change,
                # not only of those in this batch.
                changed_elsewhere = self._settle(outcome, settled, now) or changed_elsewhere
                continue
            record = self._records.get(outcome.member)
            if record is None or outcome.incarnation < record.since:
                continue
            touched[record.name] = record
            if isinstance(outcome, Successes):
                changed = self._take(record, outcome) or changed
                continue
            changed = self._judge(record, outcome, now) or changed
            # The last number of a member covers those before it: they come in order.
            if outcome.number:
                judged[outcome.member, outcome.incarnation] = outcome.number
        for record in (settled | touched).values():
            self.review_health(record, now)
        if changed_elsewhere:
            self._routes.publish()
        elif changed:
            self._routes.publish(*touched.values())
        # By incarnation: a new actor's failures are numbered from 1 again.
        for (member, incarnation), count in judged.items():
            self._answer(FailuresSeen(member=member, incarnation=incarnation, count=count))

    def not_taken_in(self, message: Outcomes) -> None:
        """`take_in` has raised: a member whose failures the router waits for to be judged gets no
        request until then.
        """
        for each in message.batch:
            if isinstance(each, AttemptOutcome) and each.number:
                self._answer(
                    FailuresSeen(
                        member=each.member, incarnation=each.incarnation, count=each.number
                    )
                )

    def _take(self, record: MemberRecord, run: Successes) -> bool:
        """Judge successes: as a rule all at once."""
        record.crashes_in_a_row = 0
        self._ledger.answered(record.name)
        # As good as all runs: a closed breaker, and nothing slow.
        if record.breaker.take(run.epoch, run.elapsed_s):
            record.health.extend(run.at, run.elapsed_s)
            return False
        changed = False
        for at, elapsed_s in zip(run.at, run.elapsed_s, strict=True):
            record.health.record(at, None, elapsed_s)
            before = record.breaker.trial_credit
            transition = record.breaker.record(
                run.epoch,
                at,
                kind=None,
                elapsed_s=elapsed_s,
                may_open=self._answer_may_open(record, at),
            )
            changed = self._follow(record, before, transition) or changed
        return changed

    def _judge(self, record: MemberRecord, outcome: AttemptOutcome, now: float) -> bool:
        """Let the breaker and the health record have an outcome; whether routing changes by it."""
        kind = _pardoned(record, outcome.kind)
        case: Case | None = None
        if kind is None:
            record.crashes_in_a_row = 0
            self._ledger.answered(record.name)
        elif kind.counts_for_breaker:
            # Before the breaker hears of it: the case's number is
            # what its failure is taken back by.
            case = self._ledger.failed(outcome.request_id, record.name)
        number = None if case is None else case.number
        record.health.record(outcome.at, kind, outcome.elapsed_s, outcome.error, number)
        before = record.breaker.trial_credit
        transition = record.breaker.record(
            outcome.epoch,
            outcome.at,
            kind=kind,
            elapsed_s=outcome.elapsed_s,
            retry_after_s=outcome.retry_after_s,
            began=outcome.began,
            opens_at_once=outcome.opens_at_once,
            request=number,
            may_open=(
                self._answer_may_open(record, now)
                if case is None
                else self._may_open(record, case, outcome.opens_at_once, now)
            ),
        )
        opened = transition is not None and transition.before is CircuitState.CLOSED
        # A request opens one breaker at most, however many members it fails on: see `_may_open`.
        if case is not None and opened:
            case.opened = record.name
        why = f" ({outcome.error})" if outcome.error else ""
        return self._follow(record, before, transition, why)

    def _follow(
        self, record: MemberRecord, credit: int | None, transition: Transition | None, why: str = ""
    ) -> bool:
        """Announce what a breaker has made of an outcome; whether routing changes by it."""
        if transition is None:
            return record.breaker.trial_credit != credit
        self.announce(record, transition, why)
        return True

    def _settle(
        self, request: RequestSettled, settled: dict[str, MemberRecord], now: float
    ) -> bool:
        """A request has ended: its failures are taken back, or are the members' from now on, which
        are put among the `settled`.
        """
        case, spared = self._ledger.settle(request, self._others_in_doubt)
        if case is None:
            return False
        changed = False
        for record in [self._records[name] for name in case.members if name in self._records]:
            if record.name in spared:
                record.health.retract(case.number)
                transition = record.breaker.retract(case.number, now)
            else:
                record.health.settle(case.number)
                record.breaker.settle(case.number)
                # While the request went on its failures may not have been allowed to open this one.
                transition = self._held_back(record, case, now)
                # What its breaker has opened by may be beyond doubt by now: its group rests, too.
                changed = self._shared_fate.review(record) or changed
            if transition is not None:
                self.announce(record, transition)
            settled[record.name] = record
            changed = changed or transition is not None
        return changed

    def _held_back(self, record: MemberRecord, case: Case, now: float) -> Transition | None:
        """The opening that a request at its end makes possible."""
        if case.opened is not None or not record.breaker.is_near_opening():
            return None
        if self._is_spared(record, now):
            return None
        transition = record.breaker.review(now, beyond_doubt=not self._others_serve(record, now))
        if transition is not None:
            case.opened = record.name
        return transition

    def _answer_may_open(self, record: MemberRecord, now: float) -> bool:
        """The same of an answer, which can make the calls enough for a rate: no reason to have
        nobody any more.
        """
        if not record.breaker.is_near_opening():
            record.spared = False
            return True
        return self._others_serve(record, now) and not self._is_spared(record, now)

    def _may_open(self, record: MemberRecord, case: Case, opens_at_once: bool, now: float) -> bool:
        """Whether a failure may open its member's breaker: not if its request has opened another,
        nor if that would leave nobody and it may all turn out to be the fault of requests, nor if
        its peers fail alike.
        """
        if case.opened not in (None, record.name):
            return False
        if not opens_at_once and not record.breaker.is_near_opening():
            record.spared = False
            return True  # it does not, whoever else serves
        if opens_at_once:
            return True
        if self._is_spared(record, now):
            return False
        return record.breaker.must_open() or self._others_serve(record, now)

    def _is_spared(self, record: MemberRecord, now: float) -> bool:
        """Whether its breaker stays as it is, since its peers fail alike; the first time it is told
        to whoever listens.
        """
        if not self._is_no_outlier(record, now):
            return False
        if not record.spared:
            record.spared = True
            self._ports.emit(BreakerSpared(pool=self._ports.pool, member=record.name))
        return True

    def _is_no_outlier(self, record: MemberRecord, now: float) -> bool:
        """Whether a member answers with errors of servers as all of them do that have had calls in
        the same time: see `fails_as_its_peers`. Any other failure is a member's own.
        """
        kinds = record.health.recent_kinds(now)
        failures = [kind for kind in kinds if kind is not None]
        if not failures or any(kind is not FailureKind.UNAVAILABLE for kind in failures):
            return False
        # By now nobody answers any more: that is an outage, however good it was before.
        lately = min(record.health.since_calls(LEAST_CALLS), now - LATELY_S)
        if not any(each.health.has_answered_since(lately) for each in self._records.values()):
            return False
        since = min(record.health.oldest_at - _ABOUT_NOW_S, now - WINDOW_S)
        peers = (
            _sample(each.health.recent_kinds(now, since))
            for each in self._records.values()
            if each is not record
        )
        return fails_as_its_peers(
            _sample(kinds),
            record.health.consecutive_failures,
            peers,
            self._ports.config.degraded_error_rate_threshold,
        )

    def _others_in_doubt(self, case: Case) -> bool:
        """Whether a request had only the members that it failed on because others are kept out by
        what may be the fault of requests, too.
        """
        others = (each for each in self._records.values() if each.name not in case.members)
        return any(each.breaker.in_doubt for each in others)

    def _others_serve(self, record: MemberRecord, now: float) -> bool:
        """Whether another member takes requests; true as well where there is no other, and so no
        request can be told from its member.
        """
        if len(self._records) < 2:
            return True
        for each in self._records.values():  # noqa: SIM110 - any() takes twice as long
            if each is not record and each.serves(now):
                return True
        return False

    def trial_started(self, message: TrialStarted) -> None:
        """A permit of a half-open breaker has been spent."""
        record = self._records.get(message.member)
        if record is not None:  # of whichever incarnation: the permit is the breaker epoch's
            record.breaker.trial_started(message.epoch, message.at)
            self._routes.plan_review(record)

    # -- what has changed

    def review(self, record: MemberRecord, now: float) -> None:
        """Let time pass for a member's breaker."""
        self.announce(record, record.breaker.tick(now))

    def announce(self, record: MemberRecord, transition: Transition | None, why: str = "") -> None:
        """Log a breaker's change of state, and have the probes follow it."""
        if transition is None:
            return
        now = self._ports.now()
        observed = self._ports.config.circuit == "observe" and _BY_HAND.isdisjoint(
            (transition.before, transition.after)
        )
        if not transition.goes_on:  # else there is nothing new
            self._ports.emit(self._event(record, transition, why, observed, now))
        if not observed:
            # Before anything is sent to it: the trial may have to find another agent.
            if transition.after is CircuitState.HALF_OPEN:
                self._ports.tell(record, TrialDue())
            self._steer_probes(record, transition, now)
        self.review_health(record, now)
        if not observed:
            self._last_one.turned(record, transition)
        self._shared_fate.turned(record, transition)

    def _keep_in(self, changed: Sequence[MemberRecord]) -> list[MemberRecord]:
        """Before the router is told: others that change by what has changed."""
        also = self._shared_fate.moved()
        return also + self._last_one.review((*changed, *also) if changed else ())

    def _event(
        self, record: MemberRecord, transition: Transition, why: str, observed: bool, now: float
    ) -> BreakerOpened | BreakerHalfOpened | BreakerClosed:
        pool, member, reopens_at = self._ports.pool, record.name, transition.reopens_at
        match transition.after:
            case CircuitState.OPEN | CircuitState.FORCED_OPEN:
                rest_s = None if reopens_at is None else max(0.0, reopens_at - now)
                reason = transition.reason + why
                what = advice.of_kind(transition.kind)
                if transition.after is CircuitState.FORCED_OPEN:
                    what = f"pool.reset_member({member!r}) ends that"
                return BreakerOpened(
                    pool=pool,
                    member=member,
                    reason=reason,
                    reopens_in_s=rest_s,
                    observed=observed,
                    advice=what,
                    kind=transition.kind,
                    heard=transition.heard,
                )
            case CircuitState.HALF_OPEN:
                trial = "its probe" if record.waits_for_probe else "one request"
                return BreakerHalfOpened(pool=pool, member=member, trial=trial, observed=observed)
            case CircuitState.CLOSED | CircuitState.DISABLED:
                reason, heard = transition.reason, transition.heard
                return BreakerClosed(
                    pool=pool, member=member, reason=reason, observed=observed, heard=heard
                )

    def _steer_probes(self, record: MemberRecord, transition: Transition, now: float) -> None:
        if record.probes is None:
            return
        match transition.after:
            # No probe before: it would spend what the opening is there to spare.
            case CircuitState.OPEN if transition.reopens_at is not None:
                record.probes.hold_until(transition.reopens_at)
            case CircuitState.HALF_OPEN:
                record.probes.hurry(now)
            case CircuitState.FORCED_OPEN | CircuitState.DISABLED:
                record.probes.hold_until(float("inf"))
            case _:
                record.probes.resume(now)

    def review_health(self, record: MemberRecord, now: float) -> None:
        """Announce how a member is, if that has changed."""
        after = record.health.status(now, record.circuit)
        before, record.status = record.status, after
        if before is not after:
            self._ports.emit(
                HealthChanged(
                    pool=self._ports.pool,
                    member=record.name,
                    before=before,
                    after=after,
                    error_rate=record.health.error_rate(now),
                )
            )
            self._routes.plan_review(record)


def _sample(kinds: Sequence[FailureKind | None]) -> Sample:
    return Sample(len(kinds), sum(kind is FailureKind.UNAVAILABLE for kind in kinds))


def _pardoned(record: MemberRecord, kind: FailureKind | None) -> FailureKind | None:
    """Who had no time because another member blocked the loop has not timed out; who could not be
    reached has not failed, but for a key that was refused: that has come from him.
    """
    if record.unreachable_until is not None and kind is not None and not kind.opens_at_once:
        return FailureKind.INTERRUPTED if kind.counts_for_breaker else kind
    if kind is not FailureKind.TIMEOUT or not record.on_loop or record.blocks_loop:
        return kind
    return FailureKind.INTERRUPTED if record.stalled else kind
