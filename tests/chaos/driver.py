"""Drives real pools through the plan, lets them come to rest, and has the model look."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from chaos import footprint, model
from chaos.calm import Calm
from chaos.entry import CallEnd, Entry
from chaos.faults import Faults
from chaos.ledger import Ledger
from chaos.model import Tally, Terms
from chaos.plan import Act, Do, Ending, Round, Send, Way, acts, names_of
from chaos.stage import JumpingClock, Stage
from chaos.traffic import Sender, senders
from chaos.watch import Watch
from greenroom import AgentPool, Drain, PoolConfig, PoolFuture, PoolRef

WAIT_S = 60.0
"""Real seconds that anything may take which must come: only a failure needs them."""


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must never be.

    Attributes:
        where: act and round.
        story: the last that is known of the request concerned.
    """

    what: str
    where: str
    request: str = ""
    story: tuple[str, ...] = ()


@dataclass(slots=True)
class Findings:
    """What a run has come to.

    Attributes:
        planned: what the plan says, by name: a function of seed and size.
        performed: what agents, factories, probes and hooks did of it.
        seen: requests by how they ended, events and complaints by name.
        checks: how often each invariant was looked at.
    """

    seed: int
    requests: int
    planned: Counter[str] = field(default_factory=Counter)
    performed: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)
    checks: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)
    marks: list[footprint.Mark] = field(default_factory=list)
    sent: int = 0
    acts: list[str] = field(default_factory=list)
    before: footprint.Footprint | None = None
    after: footprint.Footprint | None = None


class Stuck(Exception):
    """What must come did not: the run cannot go on."""


def run(seed: int, requests: int, tell: Callable[[str], object] = lambda _: None) -> Findings:
    """Carry out a plan.

    Args:
        seed, requests: of the plan.
        tell: is given a line after every act.
    """
    findings, watch = Findings(seed, requests), Watch()
    ways = senders()
    try:
        findings.before = footprint.footprint()
        for act in acts(seed, requests):
            one = OneAct(act, findings, watch, ways)
            try:
                one.play()
            except Stuck as stuck:
                one.report_stuck(stuck)
                break
            finally:
                one.leave()
            tell(f"act {act.number + 1}: {act.strategy}, {findings.sent} requests sent")
    finally:
        for each in ways.values():
            each.close()
    findings.after = footprint.footprint()
    findings.seen.update(watch.seen)
    findings.checks["memory"] += 1
    for what in model_of_memory(findings):
        findings.violations.append(Violation(what, "the whole run"))
    return findings


def model_of_memory(findings: Findings) -> Iterator[str]:
    """Whether memory stayed flat from the end of the first act on."""
    return footprint.judge_memory(findings.marks)


class OneAct:
    """One pool, from its start to its end."""

    def __init__(self, act: Act, findings: Findings, watch: Watch, ways: dict[Way, Sender]) -> None:
        self.act = act
        self.where = f"act {act.number + 1} ({act.strategy})"
        self._findings = findings
        self._watch = watch
        self._ways = ways
        self._before = footprint.footprint()
        self._clock = JumpingClock()
        self._stage = Stage(self._clock)
        self._ledger = Ledger(self._clock)
        self._tally = Tally()
        self._numbers = itertools.count(1)
        self._to_cancel: deque[tuple[int, Entry]] = deque()
        self._cancelled: list[tuple[Entry, PoolFuture[bool]]] = []
        self._config = PoolConfig(**act.settings)
        self._open = contextlib.ExitStack()
        self._open.enter_context(watch.on(lambda: self._ledger))
        self.pool: PoolRef = AgentPool.start(
            strategy=act.strategy,
            config=self._config,
            name="chaos",
            clock=self._clock,
            rng=random.Random(act.seed),
        )
        self._faults = Faults(self.pool, self._stage, self._ledger)
        self._calm = Calm(self.pool, self._stage, self._ledger, self._faults, self._send)

    def play(self) -> None:
        """Every round, then the end."""
        self._calm.bring_everybody_in()
        *rounds, last = self.act.rounds
        for each in rounds:
            self._play(each)
        self.where = f"act {self.act.number + 1} ({self.act.strategy}), its end"
        self._storm(last)
        self._end()

    def report_stuck(self, stuck: Stuck) -> None:
        """What did not come about, and the requests that are not over."""
        self._found(str(stuck))
        for entry in self._ledger.close():
            if any(call.end is CallEnd.RUNNING for call in entry.calls):
                self._found("one of its calls does not end", entry)
            elif entry.end is None and not entry.is_tell:
                self._found("it has no answer", entry)

    def leave(self) -> None:
        """Leave nothing behind, however the act went."""
        self._stage.behave()
        ended = self.pool.stop(block=False)
        with contextlib.suppress(Exception):
            self._let_go_until(lambda: self.pool._ended.is_set(), "the pool stops")
            ended.get(timeout=WAIT_S)
        self._open.close()
        self._findings.performed.update(self._stage.performed)
        self._findings.acts.append(
            f"{self.act.strategy}, {self._config.when_unavailable}, {self.act.ending}: "
            f"{self.act.requests} requests in {len(self.act.rounds)} rounds"
        )

    # -- a round

    def _play(self, each: Round) -> None:
        self.where = (
            f"act {self.act.number + 1} ({self.act.strategy}), "
            f"round {each.number + 1} ({each.weather.name})"
        )
        before = self.pool.stats()
        with self._watch.events(self._ledger) if each.observed else contextlib.nullcontext():
            self._storm(each)
            self._rest()
        terms = self._terms(clear=each.weather.clear)
        entries = self._judge(self._ledger.close(), terms, observed=each.observed)
        stats = self.pool.stats()
        self._look("statistics equal the model", model.judge_rest(stats, self._tally))
        if each.weather.clear:
            told = model.judge_members(before, stats, entries, terms)
            self._look("members' counts equal what their agents saw", told)
        del entries
        self._recover()

    def _recover(self) -> None:
        """Every member comes back, and every slot of each can be taken."""
        self._faults.listeners_leave()
        self._look("every member comes back", self._calm.everybody_comes_back())
        self._judge(self._ledger.close(), self._terms())
        self._look("every slot of every member is free", self._calm.every_slot_is_free(self.act))
        self._judge(self._ledger.close(), self._terms(must_answer=True))
        stats = self.pool.stats()
        self._look("statistics equal the model", model.judge_rest(stats, self._tally))

    def _storm(self, each: Round) -> None:
        """The traffic and the faults of a round."""
        for number, step in enumerate(each.steps()):
            self._findings.planned.update(names_of(step))
            if isinstance(step, Do):
                self._faults.do(step)
                continue
            self._make_room()
            entry = self._send(step, observed=each.observed)
            self._findings.sent += 1
            if step.cancel_after is not None:
                self._to_cancel.append((number + step.cancel_after, entry))
            self._cancel_due(number)

    def _send(self, send: Send, observed: bool = False) -> Entry:
        entry = Entry(f"{self.act.number + 1}-{next(self._numbers)}", send)
        entry.ends = 0 if observed else None
        self._ledger.open(entry)
        self._ways[send.way].send(self.pool, self._ledger, entry)
        return entry

    def _cancel_due(self, number: int) -> None:
        due = [entry for when, entry in self._to_cancel if when <= number]
        self._to_cancel = deque(each for each in self._to_cancel if each[0] > number)
        for entry in due:
            self._cancel(entry)

    def _cancel(self, entry: Entry) -> None:
        entry.cancel_asked = True
        entry.note(self._clock.now(), "given up by its asker")
        answer = self._ways[entry.send.way].cancel(self.pool, entry)
        if answer is not None:
            self._cancelled.append((entry, answer))

    def _make_room(self) -> None:
        """Keep the requests that are unanswered at a time within the window."""
        fewer = self._ledger.fewer_than(self.act.window)
        for turn in range(100_000):
            if self._ledger.wait(fewer, 0.0):
                return
            self._clock.advance(0.05 if turn < 20 else 0.5)
            self.pool.stats()  # all that the time has brought about is done
            if turn >= 20:
                self._stage.let_go(1)
        raise Stuck(f"no answer came, and {self._ledger.unanswered} are open")

    # -- rest

    def _rest(self) -> None:
        """Every request over, every call ended, every command answered."""
        for _, entry in self._to_cancel:
            self._cancel(entry)
        self._to_cancel.clear()
        self._stage.behave()
        self._let_go_until(self._is_over, "every request is answered")
        self._let_go_until(self._nothing_runs, "every call ends")
        self._let_go_until(self._is_at_rest, "the pool comes to rest")
        self._let_go_until(self._faults.all_answered, "every command is answered")
        for entry, answer in self._cancelled:
            entry.cancel_said = answer.get(timeout=WAIT_S)
        self._cancelled.clear()
        for what in self._faults.wrong_answers():
            self._found(what)

    def _is_over(self) -> bool:
        return self._ledger.wait(self._ledger.all_heard, 0.02)

    def _nothing_runs(self) -> bool:
        return self._stage.wait_until_nothing_runs(0.02)

    def _is_at_rest(self) -> bool:
        stats = self.pool.stats()
        return stats.pending == stats.in_flight == 0 and not any(m.abandoned for m in stats.members)

    def _let_go_until(self, condition: Callable[[], bool], what: str) -> None:
        """Let time pass and hanging calls go until something has come about."""
        for _ in self._calm.patience():
            self._stage.let_go()
            if condition():
                return
            self._clock.advance(0.5)
        raise Stuck(f"{what}: that never came about; {self._ledger.unanswered} asks are open")

    # -- the end

    def _end(self) -> None:
        """End the pool in the middle of its traffic, then look at what is left."""
        ended = self._begin_end()
        for _ in range(20):
            self._send(Send(Way.FUTURE))
            self._send(Send(Way.AWAITED))
        self._let_go_until(lambda: self._ended(ended), "the drain is over")
        self.pool.stop(block=False)
        self._let_go_until(lambda: self.pool._ended.is_set(), "the pool stops")
        self._send(Send(Way.BLOCKING))
        self._let_go_until(self._is_over, "every request is answered")
        self._let_go_until(self._nothing_runs, "every call ends")
        self._let_go_until(self._faults.all_answered, "every command is answered")
        self._cancelled.clear()
        self.pool.stop(timeout=WAIT_S)
        self._to_cancel.clear()
        self._judge(self._ledger.close(), self._terms(final=True))
        self._look_at_what_is_left()

    def _begin_end(self) -> PoolFuture[bool] | None:
        match self.act.ending:
            case Ending.DRAIN:
                return self.pool.ask(Drain(), block=False)
            case Ending.LATE_DRAIN:
                return self.pool.ask(Drain(0.2), block=False)
            case Ending.STOP:
                self.pool.stop(block=False)
        return None

    @staticmethod
    def _ended(drain: PoolFuture[bool] | None) -> bool:
        return drain is None or drain.done()

    def _look_at_what_is_left(self) -> None:
        self._open.close()
        self._open = contextlib.ExitStack()
        for what in self._watch.faults:
            self._found(what)
        self._watch.faults.clear()
        if self._ledger.strangers:
            self._found(f"answered after they were over: {self._ledger.strangers}")
        footprint.wait_for_threads(self._before, 10.0)
        left = footprint.judge_footprint(self._before, footprint.footprint())
        self._look("no thread, descriptor, actor or handler left", left)
        self._findings.marks.append(footprint.mark(self._findings.sent))

    # -- judgement

    def _terms(
        self, *, clear: bool = False, must_answer: bool = False, final: bool = False
    ) -> Terms:
        return Terms(
            timeout_s=self._config.request_timeout_s or float("inf"),
            max_retries=self._config.max_retries,
            max_pending=self._config.max_pending,
            exhaustive=self.act.strategy == "failover",
            clear=clear,
            must_answer=must_answer,
            final=final,
        )

    def _judge(self, entries: list[Entry], terms: Terms, observed: bool = False) -> list[Entry]:
        for entry in entries:
            self._tally.add(entry, terms)
            self._findings.checks["every request: one answer, and one that fits"] += 1
            self._findings.seen[f"ended: {'a tell' if entry.is_tell else entry.end}"] += 1
            for what in model.judge(entry, terms):
                self._found(what, entry)
        if observed:
            self._findings.checks["one event at the end of every request"] += len(entries)
        return entries

    def _look(self, invariant: str, complaints: Iterator[str]) -> None:
        self._findings.checks[invariant] += 1
        for what in complaints:
            self._found(what)

    def _found(self, what: str, entry: Entry | None = None) -> None:
        story = tuple(entry.story()) if entry is not None else ()
        request = entry.id if entry is not None else ""
        self._findings.violations.append(Violation(what, self.where, request, story))
