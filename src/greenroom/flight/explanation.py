"""What became of a request and why, in plain sentences, from what was recorded. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from greenroom.flight.choice_words import chosen_since, passed_by, would_have_taken
from greenroom.flight.flight_lines import FlightError, RequestLine
from greenroom.flight.flight_log import FlightLog
from greenroom.flight.flight_steps import (
    STARTED,
    Failed,
    FirstChunk,
    Given,
    Left,
    Queued,
    Released,
    Resumes,
    Step,
    Succeeded,
)
from greenroom.flight.reasons import (
    END_WORDS,
    FAILURE_WORDS,
    LEFT_WORDS,
    joined,
    seconds,
    why_out,
)

_SHORT_S = 0.0005
"""Less than that is not worth a word."""


@dataclass(frozen=True, slots=True)
class Section:
    """One question, and the answer to it."""

    title: str
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that is to be said of a request, or of the members that are out."""

    headline: str
    sections: tuple[Section, ...] = ()

    def __str__(self) -> str:
        lines = [self.headline]
        for section in self.sections:
            lines += ["", section.title, *(f"  {each}" for each in section.sentences)]
        return "\n".join(lines)


def explain(log: FlightLog, request_id: str) -> Explanation:
    """Why a request went where it did, what it waited for, and how it ended.

    Raises:
        FlightError: nothing is recorded of such a request.
    """
    line = log.requests.get(request_id)
    if line is None:
        refused = log.refused.get(request_id)
        if refused is not None:
            return Explanation(
                f"{request_id} was not taken in at {log.clock(refused.at)}: "
                f"{END_WORDS.get(refused.error, refused.error)}."
            )
        missing = f"; {log.lost} lines are missing from it" if log.lost else ""
        raise FlightError(f"nothing is recorded of a request {request_id!r}{missing}")
    story = _Story(log, line)
    found = (
        ("Where its time went", story.time()),
        ("Why it went where it did", story.choices()),
        ("Why it failed over", story.failures()),
        ("Why it was tried so often", story.retries()),
        ("How it ended", story.end()),
        ("Trials", story.trials()),
        ("Hedges", story.hedges()),
        ("Its key", story.key()),
        ("What would have changed it", story.changes()),
    )
    sections = [Section(title, tuple(sentences)) for title, sentences in found]
    return Explanation(story.headline(), tuple(each for each in sections if each.sentences))


def who_is_out(log: FlightLog, at: float | None = None) -> Explanation:
    """Who is out, why, and until when.

    Args:
        at: a moment on the pool's clock; None: the last one that is recorded.
    """
    at = log.last_at if at is None else at
    sentences = []
    for member in log.members():
        state, rest = log.state(member.index, at), log.rest(member.index, at)
        dry = log.dry(member.index, at)
        if state is not None and state.blocked is not None:
            out = (member.index, state.blocked, state.until, member.max_concurrency)
            sentences.append(f"{member.name} is out: {why_out(log, out, at, now=True)}.")
        elif rest is not None and (state is None or state.circuit != "disabled"):
            out = (member.index, "cooling_down", rest.until, member.max_concurrency)
            sentences.append(f"{member.name} is out: {why_out(log, out, at, now=True)}.")
        elif dry is not None:
            out = (member.index, "headroom", dry, member.max_concurrency)
            sentences.append(f"{member.name} is out: {why_out(log, out, at, now=True)}.")
        elif state is not None and state.circuit == "half_open":
            sentences.append(f"{member.name} is half-open: it is being tried.")
    if not sentences:
        sentences = ["Nobody."]
    return Explanation(
        f"Pool {log.header.pool} at {log.clock(at)}", (Section("Who is out", tuple(sentences)),)
    )


class _Story:
    """One request; each method answers one question, by sentences."""

    def __init__(self, log: FlightLog, line: RequestLine) -> None:
        self._log = log
        self._line = line
        self._given = [each for each in line.steps if isinstance(each, Given)]
        self._settings = log.settings(line.at)
        self._members = log.members(line.members)

    def headline(self) -> str:
        line, count = self._line, len(self._given)
        attempts = f"{count} attempt{'' if count == 1 else 's'}"
        came = f"{line.id} came at {self._log.clock(line.at)}"
        end = line.end
        if end is None:
            return f"{came} and is still under way ({attempts} so far)."
        took = seconds(end.at - line.at)
        if end.how == "answered":
            by = "" if end.member is None else f" by {self._name(end.member)}"
            return f"{came} and was answered{by} after {took} ({attempts})."
        how = {"failed": "failed", "cancelled": "was cancelled", "rejected": "was rejected"}
        return f"{came} and {how.get(end.how, end.how)} after {took} ({attempts})."

    # -- the time

    def time(self) -> Iterator[str]:
        spans = list(self._spans())
        for _, words in spans:
            yield words
        end = self._line.end
        total = None if end is None else end.at - self._line.at
        if total is not None and total > _SHORT_S and len(spans) > 1:
            most, words = max(spans, key=_length)
            share = min(1.0, most / total)
            yield f"Most of it, {share:.0%}: {words[0].lower()}{words[1:]}"

    def _spans(self) -> Iterator[tuple[float, str]]:
        """What took how long, in order; and in words."""
        free_at, since = self._line.at, ""
        for step in self._line.steps:
            match step:
                case Queued():
                    since = self._waited_for(step)
                case Given(role="main"):
                    waited = step.at - free_at
                    if waited > _SHORT_S:
                        yield waited, f"It waited {seconds(waited)}{since}."
                    since = ""
                    took, words = self._attempt(step)
                    yield took, words
                    free_at = step.at + took
                case Given():
                    yield self._attempt(step)
                case Resumes():
                    pause = step.until - step.at
                    since = f", of which {seconds(pause)} were a pause before the next attempt"
        end = self._line.end
        rest = (self._log.last_at if end is None else end.at) - free_at
        if rest <= _SHORT_S:
            return
        if end is not None and end.how == "answered":
            yield rest, f"{seconds(rest)} went by until the pool had heard of its answer."
        elif end is not None:
            yield rest, f"It waited {seconds(rest)}{since}, to its end."
        elif since:
            yield rest, f"It has waited {seconds(rest)}{since} so far."

    def _waited_for(self, step: Queued) -> str:
        names = {each[0] for each in step.out}
        reasons = [f"{self._name(each[0])}: {self._why_out(each, step.at)}" for each in step.out]
        reasons += [
            f"{self._name(i)} {_barred(why, said)}"
            for i, why, said in step.barred
            if i not in names
        ]
        return " for a member (" + "; ".join(reasons) + ")" if reasons else " for a member"

    def _attempt(self, given: Given) -> tuple[float, str]:
        name = f"Attempt {given.number} on {self._name(given.member)}"
        if given.role == "hedge":
            name += " (a hedge)"
        elif given.role == "beside":
            name += " (a trial beside)"
        chunk = next((s.seconds for s in self._after(given) if isinstance(s, FirstChunk)), None)
        streamed = "" if chunk is None else f", its first chunk after {seconds(chunk)}"
        for step in self._after(given):
            match step:
                case Succeeded():
                    return (
                        step.seconds,
                        f"{name} took {seconds(step.seconds)} and answered{streamed}.",
                    )
                case Failed():
                    took = step.at - given.at
                    return took, f"{name} took {seconds(took)} and failed: {step.kind}{streamed}."
                case Left():
                    took = step.at - given.at
                    why = LEFT_WORDS.get(step.reason, step.reason)
                    return took, f"{name} was left after {seconds(took)}: {why}{streamed}."
                case Released():
                    took = step.at - given.at
                    return took, f"{name} ended after {seconds(took)}{streamed}."
        took = self._log.last_at - given.at
        return took, f"{name} has run for {seconds(took)}{streamed}."

    def _after(self, given: Given) -> Iterator[Step]:
        """The steps of that attempt."""
        for step in self._line.steps:
            if getattr(step, "number", None) == given.number and step is not given:
                yield step

    # -- the choices

    def choices(self) -> Iterator[str]:
        tried: dict[int, Given] = {}
        for given in self._given:
            name = self._name(given.member)
            yield f"Attempt {given.number} went to {name}: {self._why(given, tried)}."
            unseen = 0
            for member in self._members:
                if member.index == given.member or given.role == "beside":
                    continue
                why_not = self._why_not(given, member.index, tried)
                if why_not is None:
                    unseen += 1
                else:
                    yield f"Not to {member.name}: {why_not}."
            if unseen:
                yield (
                    f"Not to {unseen:,} others: what they were doing was not recorded, since the "
                    "pool has too many members."
                )
            tried[given.member] = given

    def _why(self, given: Given, tried: dict[int, Given]) -> str:
        if given.role == "hedge":
            why = "the first attempt was slow, and it was the choice among the others"
        elif given.role == "beside":
            return "its breaker was half-open and it was tried beside, at no cost to the request"
        else:
            why = chosen_since(self._log, given, self._members, set(tried))
        if given.trial and given.role == "main":
            why += "; it was the trial of its half-open breaker"
        return why

    def _why_not(self, given: Given, index: int, tried: dict[int, Given]) -> str | None:
        """None where nothing was noted of it."""
        barred = next((each for each in given.barred if each[0] == index), None)
        if barred is not None:
            return f"it {_barred(barred[1], barred[2])}"
        out = next((each for each in given.out if each[0] == index), None)
        if index in tried:
            return self._fate(tried[index], given)
        beside = [each for each in self._given if each.role == "beside" and each.at == given.at]
        if given.role == "main" and index in {each.member for each in beside}:
            return "its breaker was half-open, so it was tried beside"
        if out is not None:
            return self._why_out(out, given.at)
        if not given.loads:
            return None
        return passed_by(self._log, given, self._members, index)

    def _why_out(self, out: tuple[int, str, float | None, int], at: float) -> str:
        return why_out(self._log, out, at)

    def _fate(self, given: Given, later: Given) -> str:
        """What there was to be said of an attempt when a later one began."""
        before = self._line.steps[: self._line.steps.index(later)]
        for step in self._after(given):
            if step not in before:
                break
            if isinstance(step, Failed):
                return f"it had it before (attempt {given.number} failed: {step.kind})"
            if isinstance(step, Left):
                why = LEFT_WORDS.get(step.reason, step.reason)
                return f"it had it before (attempt {given.number} was left: {why})"
        return f"attempt {given.number} was running on it"

    # -- what went wrong

    def _failed(self) -> list[tuple[Given, Failed]]:
        return [
            (given, step)
            for given in self._given
            for step in self._after(given)
            if isinstance(step, Failed)
        ]

    def failures(self) -> Iterator[str]:
        for given, step in self._failed():
            name = self._name(given.member)
            error = f" ({step.error})" if step.error else ""
            words = FAILURE_WORDS.get(step.kind, step.kind)
            asked = ""
            if step.retry_after_s is not None:
                asked = f"; it asked to be left alone for {seconds(step.retry_after_s)}"
            unborn = "" if step.flags & STARTED else "; its agent had not begun"
            failed = f"{name} failed attempt {given.number}: {step.kind}{error}"
            yield f"{failed}, {words}{asked}{unborn}."
            yield self._what_followed(given)

    def _what_followed(self, given: Given) -> str:
        steps = list(self._line.steps)
        for step in steps[steps.index(given) + 1 :]:
            match step:
                case Resumes():
                    pause = seconds(step.until - step.at)
                    return (
                        "Nobody untried was left that could take it, so it paused for "
                        f"{pause} before the next attempt."
                    )
                case Given() if step.role == "main":
                    if step.member == given.member:
                        return f"The same member was tried again: attempt {step.number}."
                    return f"So it went on to {self._name(step.member)}: attempt {step.number}."
        return "No other attempt followed."

    def retries(self) -> Iterator[str]:
        main = [each for each in self._given if each.role == "main"]
        if len(main) < 2:
            return
        limit = self._line.facts.get("max_retries", self._settings.get("max_retries"))
        before = [each for each in map(self._why_again, main[:-1]) if each]
        ones = "one before" if len(main) == 2 else "ones before"
        why = f", since the {ones} failed: {joined(before)}" if before else ""
        yield f"It was tried {len(main)} times{why}. max_retries allows {limit} after the first."
        pauses = [s.until - s.at for s in self._line.steps if isinstance(s, Resumes)]
        if pauses:
            yield f"Between them it paused {seconds(sum(pauses))} altogether."

    def _why_again(self, given: Given) -> str:
        for step in self._after(given):
            if isinstance(step, Failed):
                return f"{step.kind} on {self._name(given.member)}"
            if isinstance(step, Left):
                why = LEFT_WORDS.get(step.reason, step.reason)
                return f"left on {self._name(given.member)}, {why}"
        return ""

    # -- how it ended

    def end(self) -> Iterator[str]:
        end = self._line.end
        if end is None or end.how == "answered":
            return
        words = END_WORDS.get(end.error, f"its asker got a {end.error}")
        if end.error == "PoolSaturatedError":
            bound = self._settings.get(end.reason)
            words = f"too many requests waited: {end.reason} is {bound}"
        reason = f" ({end.reason})" if end.reason and end.error != "PoolSaturatedError" else ""
        yield f"It got no answer: {words}{reason}."
        for name, why, said in end.skipped:
            index = next((m.index for m in self._members if m.name == name), -1)
            state = self._log.state(index, end.at)
            until = None if state is None else state.until
            rest = self._log.rest(index, end.at)
            if why == "cooling_down" and rest is not None:
                until = rest.until
            out = (index, why, until, 0)
            told = f" ({said})" if said and until is None else ""
            yield f"{name} was not asked: {self._why_out(out, end.at)}{told}."

    # -- trials, hedges, keys

    def trials(self) -> Iterator[str]:
        found = [each for each in self._given if each.trial]
        for each in found:
            how = "beside another attempt" if each.role == "beside" else "as its only way"
            yield (
                f"Attempt {each.number} was a trial of {self._name(each.member)}'s half-open "
                f"breaker, {how}."
            )
        if not found:
            yield "No attempt of it was a trial."

    def hedges(self) -> Iterator[str]:
        hedges = [each for each in self._given if each.role == "hedge"]
        after = self._settings.get("hedge_after_s")
        for each in hedges:
            waited = seconds(each.at - self._given[0].at)
            yield f"Attempt {each.number} was a hedge, {waited} after the first began."
        if hedges:
            return
        yield f"There was no hedge: {self._why_no_hedge(after)}."

    def _why_no_hedge(self, after: object) -> str:
        facts, end = self._line.facts, self._line.end
        if after is None:
            return "hedge_after_s is not set"
        if facts.get("once"):
            return "the request is not idempotent"
        if facts.get("lease"):
            return "its caller runs the agent itself"
        if any(each.role == "beside" for each in self._given):
            return "it carried a trial, and has one race at most"
        if not self._given:
            return "no attempt of it began"
        limit = facts.get("max_retries", self._settings.get("max_retries"))
        if len(self._given) > int(limit or 0):
            return f"a hedge counts as a retry, and max_retries is {limit}"
        longest = max(self._attempt(each)[0] for each in self._given)
        if isinstance(after, float | int) and longest < after:
            return f"each attempt was over before hedge_after_s={after:g}"
        last = self._given[-1]
        others = [m for m in self._members if m.index not in {g.member for g in self._given}]
        out = {each[0] for each in last.out}
        if not [m for m in others if m.index not in out]:
            return "nobody untried was free"
        if end is not None and isinstance(after, str):
            return "each attempt was over before 95% of the recent ones were (hedge_after_s='p95')"
        return "its budget was used up, or nobody untried was free when it was due"

    def key(self) -> Iterator[str]:
        if self._line.facts.get("key") is None:
            return
        before = self._log.before(self._line)
        if before is None or not self._given:
            yield "No earlier request of its key is recorded."
            return
        had = next(each for each in reversed(before.steps) if isinstance(each, Given)).member
        if before.end is not None and before.end.member is not None:
            had = before.end.member
        first = self._given[0]
        if first.member == had:
            yield f"Its key stayed with {self._name(had)}, which had it at {self._clock(before)}."
            return
        gone = all(each.index != had for each in self._members)
        why = "it has left the pool" if gone else self._why_not(first, had, {})
        why = why or "what it was doing was not recorded, since the pool has too many members"
        yield (
            f"Its key moved from {self._name(had)}, which had it at {self._clock(before)}, "
            f"to {self._name(first.member)}: {why}."
        )
        if self._log.header.strategy != "consistent_hash":
            yield f"The strategy {self._log.header.strategy} does not look at keys."

    def _clock(self, line: RequestLine) -> str:
        return self._log.clock(line.at)

    # -- what if

    def changes(self) -> Iterator[str]:
        seen: set[str] = set()
        for given in self._given:
            if given.role != "main":
                continue
            for member in self._members:
                if member.index == given.member:
                    continue
                words = would_have_taken(self._log, given, self._members, member.index)
                if words is not None and words not in seen:
                    seen.add(words)
                    yield words
        end = self._line.end
        if end is not None and end.error == "PoolSaturatedError":
            yield f"A higher {end.reason}, or more members, would have let it wait."

    def _name(self, index: int | None) -> str:
        for each in self._members:
            if each.index == index:
                return each.name
        return self._log.name(index)


def _barred(reason: str, words: str) -> str:
    said = {
        "not_named": "may not have it",
        "ruled_out": "may not have it",
        "not_accepted": "does not accept its payload",
        "headroom": "had no headroom for it in its rate limits",
    }.get(reason, reason)
    return f"{said} ({words})" if words else said


def _length(span: tuple[float, str]) -> float:
    return span[0]


def titles(explanation: Explanation) -> Sequence[str]:
    """What is answered."""
    return [each.title for each in explanation.sections]
