"""Runs groups of cases: a process for each peer, all of which take turns, round after round.

A peer's threads, imports and garbage are in nobody else's process, and in every round each peer's
value stands beside the others', so that a noisy minute hits all of them alike. While one measures,
the others wait for a line to read. All of it is repeated with fresh processes, since what a process
got in its lap (addresses, hash seeds, the order of its imports) moves figures, too.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from benchmarks.model import FULL, QUICK, Group, Samples, Scale

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("ray", "thespian")
"""Peers with processes of their own, which would disturb the others: they get greenroom alone for
company."""
LIMIT_S = 300.0
"""For one round, or one start of a process."""
NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is run.

    Attributes:
        core: the core that all processes share; None: they run where the system puts them.
        pace: how many times as long everything in a load takes.
    """

    processes: int
    rounds: int
    quick: bool
    core: int | None
    pace: float = 1.0

    @property
    def scale(self) -> Scale:
        """How much of everything is measured."""
        return replace(QUICK if self.quick else FULL, pace=self.pace)

    @property
    def mode(self) -> str:
        """What the report calls it."""
        return "free" if self.core is None else "pinned"


class Worker:
    """A process that measures one peer.

    Args:
        errors: a file for its standard error, whose end says why a process died.
        needs: variables of its environment, beside this process's.
    """

    def __init__(
        self, group: str, peer: str, plan: Plan, errors: IO[str], needs: Mapping[str, str]
    ) -> None:
        command = [sys.executable, "-m", "benchmarks.worker", group, peer]
        command += ["--quick"] if plan.quick else []
        command += ["--pace", str(plan.pace)]
        command += ["--core", str(plan.core)] if plan.core is not None else []
        self._errors = errors
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=ROOT,
            env=os.environ | needs,
            text=True,
        )
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def wait_until_ready(self) -> bool:
        """Until it has imported all it needs, which would disturb who measures already.

        Returns:
            Whether its peer is a slow one, which is given less to do.
        """
        return bool(self._answer().get("slow", False))

    def begin(self, case: str) -> None:
        """One round, whose answer is read later."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it has died: there is no answer, either
            print(case, file=self._process.stdin, flush=True)

    def end(self) -> dict[str, Any]:
        """Its value, or why there is none."""
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        try:
            answer = self._answers.get(timeout=LIMIT_S)
        except queue.Empty:
            self._process.kill()
            return {"missing": f"it took longer than {LIMIT_S:g} s"}
        if not answer:
            self._answers.put("")  # for whoever asks next
            return {"missing": self._last_words()}
        return dict(json.loads(answer))

    def close(self) -> None:
        """Let it clean up, and end it if it does not."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(timeout=30)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._listener.join(timeout=30)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._answers.put(line)
        self._answers.put("")

    def _last_words(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        return f"its process ended with {code}: {lines[-1][:200] if lines else 'no word'}"


@contextlib.contextmanager
def worker(
    group: Group, peer: str, plan: Plan, needs: Mapping[str, str] = NOTHING
) -> Iterator[Worker]:
    """A process that is ended at the end."""
    with tempfile.TemporaryFile("w+") as errors:
        started = Worker(group.name, peer, plan, errors, needs)
        try:
            yield started
        finally:
            started.close()


def run_group(
    group: Group, peers: Sequence[str], plan: Plan, tell: Callable[[str], None]
) -> list[Samples]:
    """Everything of a group that these peers can do, in companies of light and heavy ones."""
    samples = []
    for company in companies(group, peers):
        samples += run_company(group, company, plan, tell)
    return samples


def companies(group: Group, peers: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Who is measured side by side."""
    able = [peer for peer in peers if any(peer in case.peers for case in group.cases)]
    light = tuple(peer for peer in able if peer not in HEAVY)
    if light:
        yield light
    for peer in able:
        if peer in HEAVY:
            yield ("greenroom", peer)


def run_company(
    group: Group, company: Sequence[str], plan: Plan, tell: Callable[[str], None]
) -> list[Samples]:
    samples = {
        (case.name, peer): Samples(
            plan.mode, group.name, case.name, peer, "+".join(company), case.title, case.unit
        )
        for case in group.cases
        for peer in company
        if peer in case.peers
    }
    for number in range(1 if group.together else plan.processes):
        tell(f"{plan.mode}: {group.name}: {', '.join(company)}: process {number + 1}")
        with contextlib.ExitStack() as stack:
            needs = (
                NOTHING if group.beside is None else stack.enter_context(group.beside(plan.scale))
            )
            workers = {
                peer: stack.enter_context(worker(group, peer, plan, needs)) for peer in company
            }
            slow = [peer for peer, each in workers.items() if each.wait_until_ready()]
            for sample in samples.values():
                scale = plan.scale.for_slow() if sample.peer in slow else plan.scale
                sample.title = group.case(sample.case).title.format(scale=scale)
            for turn in range(1 if group.once or group.together else plan.rounds):
                one_round(samples, workers, turn, together=group.together)
    return list(samples.values())


def one_round(
    samples: dict[tuple[str, str], Samples],
    workers: dict[str, Worker],
    turn: int,
    *,
    together: bool = False,
) -> None:
    """Every case of every peer once, one peer after the other or together; who begins changes from
    round to round.
    """
    turns = sorted(samples, reverse=bool(turn % 2))  # a case's peers stay side by side
    for _, at_once in groupby(turns, key=lambda key: key[0] if together else key):
        measured = [key for key in at_once if samples[key].missing is None]
        for case, peer in measured:
            workers[peer].begin(case)
        for key in measured:
            answer = workers[key[1]].end()
            samples[key].missing = answer.get("missing")
            if "value" in answer:
                samples[key].values.append(answer["value"])


def a_core() -> int | None:
    """The core to pin to; None where a process cannot be pinned."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    return max(os.sched_getaffinity(0))
