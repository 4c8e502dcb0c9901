"""One pool under its traffic and its faults; it comes to rest, and the model has a look."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections import deque
from collections.abc import Iterator

from chaos import books, closers, footprint, forked, model, rest, signals
from chaos.appside import App
from chaos.books import Tally
from chaos.calm import Calm
from chaos.drills import Drills
from chaos.entry import CallEnd, Entry
from chaos.faults import Faults
from chaos.findings import Findings, Stuck, Violation
from chaos.ledger import Ledger
from chaos.model import Terms
from chaos.moves import POISON
from chaos.plan import INNER_SETTINGS, Act, Ending, Round
from chaos.rest import PATIENCE_S, Rest, patience
from chaos.stage import JumpingClock, Stage
from chaos.steps import ON_LOOPS, Do, Send, Way, cancel_of, manner_of, names_of, reading_of, sent_as
from chaos.traffic import Sender
from chaos.watch import Watch
from chaos.ways import senders_on
from greenroom import AgentPool, Drain, PoolConfig, PoolFuture, PoolRef, PoolStats


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
        self._marks: list[footprint.Mark] = []
        self._to_cancel: deque[tuple[int, Entry]] = deque()
        self._cancelled: list[tuple[Entry, PoolFuture[bool]]] = []
        self._config = PoolConfig(**act.settings)
        self._hedges = 0
        self._open = contextlib.ExitStack()
        self._open.enter_context(watch.on(lambda: self._ledger))
        self._app: App | None = None
        if act.home:
            self._app = App()
            self._ways = ways | senders_on(self._app.loop)
            self._stage.app_loop = self._app.loop
        self._shared_ways = ways
        self._open.enter_context(self._stage.machine.in_charge())
        self.pool: PoolRef = self._app.call(self._start) if self._app else self._start()
        self._faults = Faults(self.pool, self._stage, self._ledger, act.nested)
        self._resting = Rest(self.pool, self._stage, self._ledger, self._faults)
        self._calm = Calm(self.pool, self._stage, self._ledger, self._faults, self._send)

        self._drills = Drills(self.pool, self._stage, self._ledger, self._send)

    def _start(self) -> PoolRef:
        pool: PoolRef = AgentPool.start(
            strategy=self.act.strategy,
            config=self._config,
            name="chaos",
            clock=self._clock,
            rng=random.Random(self.act.seed),
        )
        return pool

    def play(self) -> None:
        """Every round, then the end."""
        self._calm.bring_everybody_in()
        *rounds, last = self.act.rounds
        for each in rounds:
            self._play(each)
            if each in (rounds[0], rounds[-1]):
                self._marks.append(footprint.mark(self._findings.sent, closers.kept()))
        self._look("memory of a pool at work is flat", footprint.judge_memory(self._marks))
        self.where = f"act {self.act.number + 1} ({self.act.strategy}), its end"
        self._storm(last)
        self._end()

    def report_stuck(self, error: Exception) -> None:
        """What did not come about, and the requests that are not over."""
        self._found(str(error) if isinstance(error, Stuck) else repr(error))
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
            self._resting.until(self.pool._ended.is_set, "the pool stops")
            ended.get(timeout=PATIENCE_S)
            self._faults.inner.close()
        with contextlib.suppress(Stuck):
            self._leave_app()
        self._open.close()
        self._findings.performed.update(self._stage.performed)
        self._findings.seen["hedges"] += self._hedges
        self._findings.acts.append(
            f"{self.act.strategy}{' over pools' if self.act.nested else ''}"
            f"{' on the loop of the app' if self.act.home else ''}, "
            f"{self._config.when_unavailable}, {self.act.ending}: "
            f"{self.act.requests} requests in {len(self.act.rounds)} rounds"
        )

    # -- a round

    def _play(self, each: Round) -> None:
        self.where = (
            f"act {self.act.number + 1} ({self.act.strategy}), "
            f"round {each.number + 1} ({each.weather.name})"
        )
        before = self.pool.stats()
        if each.weather.clear and not self.act.nested:
            self._stage.slots = {member.name: member.max_concurrency for member in before.members}
            self._stage.limit_s = self._terms().least_s
        with self._watch.events(self._ledger) if each.observed else contextlib.nullcontext():
            self._storm(each)
            self._rest()
        self._look("no member was given more calls than it takes", self._stage.judge_room())
        terms = self._terms(clear=each.weather.clear)
        entries = self._judge(self._ledger.close(), terms, observed=each.observed)
        stats = self.pool.stats()
        self._look_at_books(stats)
        if each.weather.clear and not self.act.nested:
            told = books.judge_members(before, stats, entries, terms)
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
        if not self.act.nested:
            self._drill()
        self._look_at_books(self.pool.stats())

    def _drill(self) -> None:
        """What one request, or a limit, must not do to members that are well."""
        self._calm.reset_everybody()
        poison = POISON[len(self._marks) % len(POISON)]
        self._look("one poison request harms nobody", self._drills.poison(poison))
        self._judge(self._ledger.close(), self._terms())
        self._calm.reset_everybody()
        told = self._drills.throttling()
        self._look("throttling is not ill health", told)
        self._judge(self._ledger.close(), self._terms())

    def _storm(self, each: Round) -> None:
        """The traffic and the faults of a round."""
        for number, step in enumerate(each.steps()):
            if each.number == self.act.app_ends and number == each.size // 2:
                self._app_ends()
            self._findings.planned.update(names_of(step))
            if isinstance(step, Do):
                self._faults.do(step)
                continue
            self._resting.make_room(self.act.window)
            entry = self._send(step, observed=each.observed)
            self._stage.count(sent_as(step))
            if step.is_stream:
                self._stage.count(reading_of(step))
            if step.is_block:
                self._stage.count(manner_of(step))
            self._findings.sent += 1
            if step.cancel_after is not None:
                self._to_cancel.append((number + step.cancel_after, entry))
            self._cancel_due(number)

    def _app_ends(self) -> None:
        """The loop ends in the middle of the traffic: its own asks with it, the pool goes on."""
        self._ledger.kills += 1
        for entry in list(self._ledger.entries.values()):
            if entry.send.way in ON_LOOPS and not entry.heard:
                entry.cancel_asked = True
                entry.note(self._clock.now(), "its asker's loop ends")
        self._leave_app()
        self._stage.count("the app's loop ended before its pool")

    def _leave_app(self) -> None:
        if self._app is not None:
            self._app.end(self._stage.let_go)
        self._app, self._ways = None, self._shared_ways

    def _send(self, send: Send, observed: bool = False) -> Entry:
        entry = Entry(f"{self.act.number + 1}-{next(self._numbers)}", send)
        entry.ends = 0 if observed else None
        entry.pause = self._stage.gate
        entry.stage = self._stage
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
        self._stage.count(cancel_of(entry.send))
        answer = self._ways[entry.send.way].cancel(self.pool, entry)
        if answer is not None:
            self._cancelled.append((entry, answer))

    def _rest(self) -> None:
        """Give up what is still to be given up, then wait until nothing is left to do."""
        for _, entry in self._to_cancel:
            self._cancel(entry)
        self._to_cancel.clear()
        self._resting.come()
        for entry, answer in self._cancelled:
            entry.cancel_said = answer.get(timeout=PATIENCE_S)
        self._cancelled.clear()
        for what in self._faults.wrong_answers():
            self._found(what)

    # -- the end

    def _end(self) -> None:
        """Fork, then end the pool in the middle of its traffic, and look at what is left."""
        with self._stage.machine.mended():
            self._look("a child of a fork is told so at once", forked.judge(self.pool))
            self._findings.performed["fault: fork"] += 1
            told = closers.judge(random.Random(self.act.seed))
            self._look("what fits into its grace is cleaned up, then closed", told)
            told = signals.judge(random.Random(self.act.seed))
            self._look("a signal handler that raises in an asker harms nobody else", told)
        ended = self._app.call(self._begin_end) if self._app else self._begin_end()
        for _ in range(20):
            self._send(Send(Way.FUTURE))
            self._send(Send(Way.AWAITED))
            self._send(Send(Way.ASYNC_ATTEMPTS))
        self._resting.until(lambda: self._ended(ended), "the drain is over")
        stopped = self._app.begin(_stop(self.pool)) if self._app else None
        self.pool.stop(block=False)
        self._resting.until(self.pool._ended.is_set, "the pool stops")
        if stopped is not None:
            stopped.result(PATIENCE_S)
        self._send(Send(Way.BLOCKING))
        self._resting.everything_ends()
        self._cancelled.clear()
        self.pool.stop(timeout=PATIENCE_S)
        self._faults.inner.close()
        self._to_cancel.clear()
        self._judge(self._ledger.close(), self._terms(final=True))
        self._look_at_what_is_left()

    def _begin_end(self) -> PoolFuture[bool] | None:
        if self.act.ending is Ending.STOP:
            self.pool.stop(block=False)
            return None
        drain = Drain(0.2 if self.act.ending is Ending.LATE_DRAIN else None)
        over: PoolFuture[bool] = self.pool.ask(drain, block=False)
        return over

    @staticmethod
    def _ended(drain: PoolFuture[bool] | None) -> bool:
        return drain is None or drain.done()

    def _look_at_what_is_left(self) -> None:
        if self._app is not None:
            self._look("a pool leaves no task on the app's loop", _tasks_left(self._app))
            self._leave_app()
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
        told = self._stage.judge_stays(rest.PATIENCE_S)
        self._look("what was entered has been left, where it was", told)
        self._findings.marks.append(footprint.mark(self._findings.sent, closers.kept()))

    # -- judgement

    def _terms(
        self, *, clear: bool = False, must_answer: bool = False, final: bool = False
    ) -> Terms:
        return Terms(
            timeout_s=self._config.request_timeout_s or float("inf"),
            chunk_limit_s=_least(self._config.first_chunk_timeout_s, self._config.chunk_timeout_s),
            stream_buffer=self._config.stream_buffer,
            attempts_inside=1 + INNER_SETTINGS["max_retries"] if self.act.nested else 0,
            hedging=self._config.hedge_after_s is not None,
            on_cut=self._config.on_cut,
            max_retries=self._config.max_retries,
            same_member_retries=self._config.same_member_retries or 0,
            stays=self._config.stay_for_retry_after_s > 0,
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
            self._count_stream(entry)
            for what in model.judge(entry, terms):
                self._found(what, entry)
        if observed:
            self._findings.checks["one event at the end of every request"] += len(entries)
        return entries

    def _count_stream(self, entry: Entry) -> None:
        if entry.send.is_stream:
            self._findings.checks["every stream: one end, and the chunks of one call"] += 1
            self._findings.seen["chunks taken"] += len(entry.chunks)
            for heard in entry.heard:
                self._findings.seen[f"stream heard: {heard}"] += 1

    def _look(self, invariant: str, complaints: Iterator[str]) -> None:
        self._findings.checks[invariant] += 1
        for what in complaints:
            self._found(what)

    def _look_at_books(self, stats: PoolStats) -> None:
        self._look("statistics equal the model", books.judge_rest(stats, self._tally))
        hedging = self._config.hedge_after_s is not None
        self._look("hedges within their budget", books.judge_hedges(stats, hedging))
        self._hedges = stats.hedges

    def _found(self, what: str, entry: Entry | None = None) -> None:
        story = tuple(entry.story()) if entry is not None else ()
        request = entry.id if entry is not None else ""
        self._findings.violations.append(Violation(what, self.where, request, story))


async def _stop(pool: PoolRef) -> None:
    await pool.stop(block=False)


def _tasks_left(app: App) -> Iterator[str]:
    left = app.tasks()
    for _ in patience():
        if not left:
            return
        left = app.tasks()
    yield f"{len(left)} tasks: {', '.join(left[:5])}"


def _least(*limits_s: float | None) -> float:
    return min((each for each in limits_s if each is not None), default=float("inf"))
