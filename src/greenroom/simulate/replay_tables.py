"""A replay beside what really happened, for people (tables, a plot) and for programs (JSON)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence

from greenroom.simulate.recorded_flight import Transition
from greenroom.simulate.replay import Replay
from greenroom.simulate.replay_figures import Figures
from greenroom.simulate.result_tables import aligned, share_words, time_words

_BARS = "▁▂▃▄▅▆▇█"
_MOST_TRANSITIONS = 20
_HAPPENED, _REPLAYED = "happened", "replayed"


def replay_as_json(replay: Replay) -> str:
    """An object. Times are in seconds, shares from 0 to 1."""
    said = dataclasses.asdict(replay)
    for name, figures in (("happened", replay.happened), ("would_have", replay.would_have)):
        said[name]["goodput"] = figures.goodput
        said[name]["transitions"] = [each._asdict() for each in figures.transitions]
        del said[name]["slices"]
    return json.dumps(said, indent=2)


def replay_as_text(replay: Replay) -> str:
    """What changed, the figures of both, the calls of each member, the breakers, the plot."""
    parts = [
        [_headline(replay), *(f"  {each}" for each in replay.notes)],
        _figures(replay),
        _calls(replay),
        _transitions(replay),
        _plot(replay),
        _guess(replay),
    ]
    return "\n\n".join("\n".join(each) for each in parts if each)


def _headline(replay: Replay) -> str:
    before, after = replay.strategy
    strategy = before if before == after else f"{before} -> {after}"
    count = replay.happened.arrived
    return f"{count:,} requests in {time_words(replay.duration_s)}, strategy {strategy}"


def _figures(replay: Replay) -> list[str]:
    within = "answered" if replay.within_s is None else f"in {replay.within_s:g} s"
    heads = ("", within, "p50", "p95", "p99", "failovers", "hedges", "not answered")
    rows = [
        (
            name,
            share_words(each.goodput),
            *(time_words(time) for time in (each.p50_s, each.p95_s, each.p99_s)),
            f"{each.failovers:,}",
            f"{each.hedges:,}",
            ", ".join(f"{count:,} {how}" for how, count in each.ended.items()) or "-",
        )
        for name, each in _both(replay)
    ]
    return aligned(heads, rows, heads[1:-1])


def _both(replay: Replay) -> tuple[tuple[str, Figures], tuple[str, Figures]]:
    return (_HAPPENED, replay.happened), (_REPLAYED, replay.would_have)


def _calls(replay: Replay) -> list[str]:
    names = list(replay.happened.calls)
    rows = [
        (name, *(f"{each.calls.get(member, 0):,}" for member in names))
        for name, each in _both(replay)
    ]
    return aligned(("calls of", *names), rows, names)


def _transitions(replay: Replay) -> list[str]:
    lines = []
    for name, each in _both(replay):
        opened = [t for t in each.transitions if t.circuit == "open"]
        words = ", ".join(_opening(replay, each.transitions, t) for t in opened[:_MOST_TRANSITIONS])
        more = len(opened) - _MOST_TRANSITIONS
        rest = f" and {more} more" if more > 0 else ""
        lines.append(f"breakers open, {name}: {words or 'never'}{rest}")
    return lines


def _opening(replay: Replay, all_: Sequence[Transition], opened: Transition) -> str:
    """Whose breaker was open from when until it closed, in seconds from the first request on."""
    began = opened.at - replay.from_s
    closed = next(
        (
            t.at
            for t in all_
            if t.member == opened.member and t.at > opened.at and t.circuit != "open"
        ),
        None,
    )
    until = "..." if closed is None else f"{closed - replay.from_s:.1f}"
    return f"{opened.member} {began:.1f}-{until} s"


def _plot(replay: Replay) -> list[str]:
    """By slices of the time: the share that was answered in time, and the 95th percentile."""
    lines = [f"over the time, {time_words(replay.duration_s)} from left to right"]
    for title, of in (("answered", _share), ("p95", _p95)):
        values = [[of(each) for each in figures.slices] for _, figures in _both(replay)]
        known = [each for series in values for each in series if each is not None]
        if not known:
            continue
        top = 1.0 if title == "answered" else max(known)
        for (name, _), series in zip(_both(replay), values, strict=True):
            scale = "100%" if title == "answered" else time_words(top)
            lines.append(f"{title:8} {name}  {_bars(series, top)}  {scale}")
    return lines


Slice = tuple[int, int, float | None]
_Of = Callable[[Slice], float | None]


def _share(each: Slice) -> float | None:
    return each[1] / each[0] if each[0] else None


def _p95(each: Slice) -> float | None:
    return each[2]


def _bars(values: Sequence[float | None], top: float) -> str:
    most = len(_BARS) - 1
    return "".join(
        " " if each is None else _BARS[min(most, int(each / top * most + 0.5)) if top else 0]
        for each in values
    )


def _guess(replay: Replay) -> list[str]:
    calls = sum(replay.would_have.calls.values())
    same = f"{replay.same_picks:,} of {replay.picks:,} calls went where they went."
    if not replay.guessed:
        return [f"{same} No call is a guess."]
    part = replay.guessed / calls if calls else 0.0
    guess = (
        f"{replay.guessed:,} of {calls:,} calls ({part:.1%}) are a guess: the member was not asked "
        "for that request, and its answer is drawn from those that it gave about then."
    )
    return [same, guess]
