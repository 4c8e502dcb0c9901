"""A scenario that is like a recording: its arrivals, how long its members take, their faults."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from greenroom.flight.flight_lines import FlightError, MemberFacts
from greenroom.messages.config import PoolConfig
from greenroom.messages.status import FailureKind
from greenroom.simulate.recorded_flight import RecordedCall, RecordedFlight
from greenroom.simulate.scenario_file import POOL
from greenroom.simulate.tally import quantile

_SLICE_CALLS = 40
"""The time is cut such that a slice has so many calls of a member on average."""
_FEW_CALLS = 5
"""Of fewer calls in a slice nothing is known by them."""
_MOST_SLICES = 120
_FAILING = 0.2
"""Where a greater share of a slice fails (or hangs), that is a fault."""
_SLOW = 1.0
"""Where it takes so much more than usual, as a share of that, that is a fault."""
_LEAST_SIGMA = 0.01


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a member did in one slice of the time."""

    from_s: float
    until_s: float
    calls: Sequence[RecordedCall]

    def share(self, kind: FailureKind | None, hung: bool) -> float:
        """Of its calls that ended so."""
        return sum(_is(each, kind, hung) for each in self.calls) / len(self.calls)


def _is(call: RecordedCall, kind: FailureKind | None, hung: bool) -> bool:
    end = call.end
    if end is None:
        return False
    if hung:
        return end.seconds == math.inf
    return end.kind is kind and end.seconds != math.inf


def fitted(flight: RecordedFlight) -> str:
    """The TOML of a scenario that a simulation can be made of; what is no setting of one is left
    out.

    Raises:
        FlightError: too little was recorded.
    """
    arrivals = flight.arrivals
    if len(arrivals) < _SLICE_CALLS:
        raise FlightError(
            f"too little was recorded for a scenario: {len(arrivals)} requests, not {_SLICE_CALLS}"
        )
    began = arrivals[0].at
    duration_s = max(arrivals[-1].at - began, 1e-3)
    calls: dict[int, list[RecordedCall]] = {each.index: [] for each in flight.members}
    for arrival in arrivals:
        for call in arrival.calls:
            calls.setdefault(call.member, []).append(call._replace(at=call.at - began))
    tables = [
        _table(
            "",
            {
                "duration_s": _rounded(duration_s),
                "within_s": 60.0,
                "strategies": [flight.header.strategy],
            },
        ),
        _table("[load]", _load(flight, len(arrivals) / duration_s)),
        _table("[pool]", _settings(flight)),
    ]
    faults = []
    for member in flight.members:
        slices = list(_slices(calls[member.index], duration_s))
        tables.append(_table("[[members]]", _member(member, slices)))
        faults += [_table("[[faults]]", each) for each in _faults(member, slices)]
    return "\n".join([*tables, *faults])


def _table(head: str, values: dict[str, Any]) -> str:
    lines = [f"{name} = {_toml(value)}" for name, value in values.items()]
    return "\n".join([head, *lines] if head else lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_name(k)} = {_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)  # a text, a number and a truth value are the same there


def _name(key: str) -> str:
    return key if re.fullmatch(r"[\w-]+", key, re.ASCII) else json.dumps(key)


def _load(flight: RecordedFlight, rate_per_s: float) -> dict[str, Any]:
    load: dict[str, Any] = {"rate_per_s": _rounded(rate_per_s)}
    keys = {each.facts["key"] for each in flight.arrivals if each.facts and "key" in each.facts}
    if keys:
        load["keys"] = len(keys)
    costs: dict[str, list[float]] = {}
    for arrival in flight.arrivals:
        for name, cost in ((arrival.facts or {}).get("cost") or {}).items():
            costs.setdefault(name, []).append(cost)
    if costs:
        load["cost"] = {name: [min(each), max(each)] for name, each in costs.items()}
    return load


def _settings(flight: RecordedFlight) -> dict[str, Any]:
    said = flight.header.settings
    usual = PoolConfig()
    return {
        name: said[name]
        for name in POOL
        if said.get(name) is not None and said[name] != getattr(usual, name)
    }


def _member(member: MemberFacts, slices: Sequence[_Seen]) -> dict[str, Any]:
    values: dict[str, Any] = {"name": member.name, "latency": _latency(slices)}
    values["concurrency"] = member.max_concurrency
    plain = MemberFacts(index=0, name="")
    for name in ("weight", "priority", "group", "cost", "tags"):
        value = getattr(member, name)
        if value != getattr(plain, name):
            values[name] = list(value) if name == "tags" else value
    if member.limits:
        values["limits"] = [
            {
                "amount": amount,
                "per_s": per_s,
                "cost": cost,
                **({} if group is None else {"group": group}),
            }
            for amount, per_s, cost, group in member.limits
        ]
    return values


def _latency(slices: Sequence[_Seen]) -> dict[str, Any]:
    """Log-normal, by the median and the quartiles of its answers in good times; what it takes in
    bad ones is a fault's affair.
    """
    usual = _usual_s(slices)
    good = [each for each in slices if _slowness(each, usual) <= _SLOW] or slices
    times = sorted(_answers(good))
    if not times:
        return {"kind": "lognormal", "median_s": 1.0, "sigma": 0.5}
    median = quantile(times, 0.5) or 0.0
    low, high = quantile(times, 0.25) or 0.0, quantile(times, 0.75) or 0.0
    if median <= 0.0 or low <= 0.0:
        return {"kind": "constant", "mean_s": _rounded(sum(times) / len(times))}
    # The quartiles of a normal distribution are 1.349 sigma apart.
    sigma = max(_LEAST_SIGMA, math.log(high / low) / 1.349)
    return {"kind": "lognormal", "median_s": _rounded(median), "sigma": _rounded(sigma)}


def _answers(slices: Iterable[_Seen]) -> Iterator[float]:
    for each in slices:
        for call in each.calls:
            if call.end is not None and call.end.kind is None:
                yield call.end.seconds


def _usual_s(slices: Sequence[_Seen]) -> float:
    """The median of the medians: most slices are of good times."""
    medians = sorted(
        median for each in slices if (median := quantile(sorted(_answers([each])), 0.5)) is not None
    )
    return quantile(medians, 0.5) or 0.0


def _slowness(each: _Seen, usual_s: float) -> float:
    """How much more than the usual it took, as a share of that."""
    times = sorted(_answers([each]))
    median = quantile(times, 0.5)
    if len(times) < _FEW_CALLS or median is None or usual_s <= 0.0:
        return 0.0
    return median / usual_s - 1.0


def _slices(calls: Sequence[RecordedCall], duration_s: float) -> Iterator[_Seen]:
    count = max(1, min(_MOST_SLICES, len(calls) // _SLICE_CALLS))
    step_s = duration_s / count
    parts: list[list[RecordedCall]] = [[] for _ in range(count)]
    for call in calls:
        parts[min(count - 1, max(0, int(call.at / step_s)))].append(call)
    for number, part in enumerate(parts):
        yield _Seen(number * step_s, (number + 1) * step_s, part)


def _faults(member: MemberFacts, slices: Sequence[_Seen]) -> Iterator[dict[str, Any]]:
    usual = _usual_s(slices)
    kinds = Counter(
        call.end.kind
        for each in slices
        for call in each.calls
        if call.end is not None and call.end.kind is not None and call.end.seconds != math.inf
    )
    for kind in kinds:
        if kind is FailureKind.CALLER:
            continue
        for run in _runs(slices, partial(_Seen.share, kind=kind, hung=False), _FAILING):
            yield _failing(member, run, kind)
    for run in _runs(slices, partial(_Seen.share, kind=None, hung=True), _FAILING):
        yield _failing(member, run, None, hung=True)
    for run in _runs(slices, partial(_slowness, usual_s=usual), _SLOW):
        median = quantile(sorted(_answers(run)), 0.5) or usual
        factor = _rounded(median / usual)
        yield {"member": member.name, "kind": "slow", "factor": factor, **_span(run)}


def _failing(
    member: MemberFacts, run: Sequence[_Seen], kind: FailureKind | None, hung: bool = False
) -> dict[str, Any]:
    """From the first call that failed so until the last one."""
    calls = sorted((call for each in run for call in each.calls), key=_began)
    bad = [call for call in calls if _is(call, kind, hung)]
    first, last = bad[0].at, bad[-1].at
    within = [call for call in calls if first <= call.at <= last]
    ends = [call.end for call in bad if call.end is not None]
    span = {"from_s": _rounded(first), "until_s": _rounded(last + 1e-3 + _step_s(calls))}
    base: dict[str, Any] = {"member": member.name, **span}
    if hung:
        return {**base, "kind": "hang", "rate": _rounded(len(bad) / len(within))}
    base["after_s"] = _rounded(quantile(sorted(end.seconds for end in ends), 0.5) or 0.0)
    if kind is FailureKind.RATE_LIMITED:
        let_in = sum(call.end is not None and call.end.kind is None for call in within)
        per_s = max(0.001, let_in / max(last - first, 1e-3))
        limit: dict[str, Any] = {**base, "kind": "rate_limit", "per_s": _rounded(per_s)}
        asked = sorted(end.retry_after_s for end in ends if end.retry_after_s)
        if asked:
            limit["retry_after_s"] = _rounded(quantile(asked, 0.5) or asked[0])
        return limit
    rate = _rounded(len(bad) / len(within))
    return {**base, "kind": "fail", "rate": rate, "failure": str(kind)}


def _step_s(calls: Sequence[RecordedCall]) -> float:
    """How long it is from one call to the next."""
    return (calls[-1].at - calls[0].at) / len(calls)


def _began(call: RecordedCall) -> float:
    return call.at


def _span(run: Sequence[_Seen]) -> dict[str, float]:
    return {"from_s": _rounded(run[0].from_s), "until_s": _rounded(run[-1].until_s)}


def _runs(
    slices: Sequence[_Seen], badness: Callable[[_Seen], float], limit: float
) -> Iterator[list[_Seen]]:
    """Slices one after the other that are bad. Those between two of them are so as well, where they
    are half as bad, or where there is hardly a call, as while a breaker is open.
    """
    run: list[_Seen] = []
    unknown: list[_Seen] = []
    lead: list[_Seen] = []  # what may be its beginning: failures that have opened a breaker, say
    for each in slices:
        bad = badness(each) if each.calls else 0.0
        if bad > limit:
            run += [*lead, *unknown, each]
            unknown, lead = [], []
        elif run and (len(each.calls) < _FEW_CALLS or bad > limit / 2.0):
            unknown.append(each)
        elif run:
            yield run
            run, unknown = [], []
        elif len(each.calls) < _FEW_CALLS or bad > limit / 4.0:
            lead.append(each)
        else:
            lead = []
    if run:
        yield run


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
