"""The model of a stream: what its consumer may have seen. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from chaos.chunks import is_empty, is_start_of, leading, those_that_count
from chaos.entry import Call, CallEnd, End, Entry
from greenroom import StreamInterruptedError


def judge_stream(
    entry: Entry, buffer: int, *, sure: bool = True, hedging: bool = False, restarts: bool = False
) -> Iterator[str]:
    """What cannot have been so of a stream, once its pool is at rest or has ended.

    Args:
        buffer: the different empty chunks that are kept back before any is shown.
        sure: no call had been given up before, which might have begun late.
        restarts: another member may have begun anew when its consumer left: the mark that says so
            lies behind the last chunk that it took.
        hedging: a second call may have been on its way when the first one began to answer.
    """
    taken = those_that_count(entry.chunks)
    sources = [call for call in entry.calls if _gave(call, taken)]
    if not sources and entry.chunks:
        yield "its chunks are not those of one call, in order"
    if taken and sources:  # two may have given the very same object: one of them fits
        complaints = [
            [*_fits(entry, each, buffer, restarts), *_last_if(sure, entry, each, hedging)]
            for each in sources
        ]
        yield from min(complaints, key=len)
    for end in entry.heard:
        yield from _may_be_heard(entry, end)
    if entry.again is not None and entry.heard != [entry.again]:
        yield f"after its end it went on with {entry.again!r}"


def _fits(entry: Entry, source: Call, buffer: int, restarts: bool) -> Iterator[str]:
    """What speaks against the chunks being of that call."""
    yield from _has_its_empty_ones(entry, source, buffer)
    if entry.member in (None, source.member):
        return
    later = {each.member for each in entry.calls if each.began > source.began}
    whole = End.VALUE in entry.heard  # it may have been answered, and its consumer have left
    if not restarts or whole or entry.member not in later:
        yield f"it is said to be of {entry.member}, its chunks are of {source.member}"


def _last_if(sure: bool, entry: Entry, source: Call, hedging: bool) -> Iterator[str]:
    return _is_the_last_one(entry, source, hedging) if sure else iter(())


def _has_its_empty_ones(entry: Entry, source: Call, buffer: int) -> Iterator[str]:
    """None that the source has sent is lost, and of those of others are shown only what did not
    fit: of such a call no chunk that counts has come, though it may have made one too late.
    """
    came, sent = leading(entry.chunks), leading(source.chunks)
    others = len(came) - len(sent)
    if others < 0 or not is_start_of(came[others:], sent):
        yield f"{len(came)} empty chunks came, its member has sent {len(sent)}"
    shown = [each for each in entry.calls if each is not source and len(each.chunks) > buffer]
    if others > sum(len(leading(each.chunks)) for each in shown):
        yield f"{len(came)} empty chunks came, its member has sent {len(sent)}"


def _gave(call: Call, taken: list[object]) -> bool:
    return is_start_of(taken, those_that_count(call.chunks))


def _is_the_last_one(entry: Entry, source: Call, hedging: bool) -> Iterator[str]:
    later = entry.calls[entry.calls.index(source) + 1 :]
    if len(later) > (1 if hedging else 0):
        yield f"{later[0].member} was called after {source.member} had begun to answer"


def _may_be_heard(entry: Entry, end: End) -> Iterator[str]:
    """Whether there is a reason for what the consumer heard in the end."""
    taken = those_that_count(entry.chunks)
    if end is End.VALUE and not any(_is_all_of(call, taken) for call in entry.calls):
        yield "no call has given exactly these chunks"
    if end is End.INTERRUPTED:
        yield from _is_a_real_interruption(entry)
    if taken and end in (End.FAILED, End.CALLER, End.SATURATED):
        yield f"it ended in {end!r} after its first chunk"


def _is_all_of(call: Call, taken: list[object]) -> bool:
    given = those_that_count(call.chunks)
    return call.end is CallEnd.VALUE and len(given) == len(taken) and _gave(call, taken)


def _is_a_real_interruption(entry: Entry) -> Iterator[str]:
    error, taken = entry.error, entry.chunks
    if not isinstance(error, StreamInterruptedError):
        return  # its asker was told something else: that is complained of
    if not taken or (all(map(is_empty, taken)) and not _flushed(entry) and not entry.marks):
        yield "it was interrupted before its first chunk"
    void = len(taken) - error.received_count
    if not 0 <= void <= len(leading(taken)):  # of one that failed, if they did not fit
        yield f"{len(taken)} chunks were taken, its error says {error.received_count}"
    end = taken[len(taken) - len(error.received) :]
    if not is_start_of(error.received, end):
        yield "its error holds chunks that its consumer has not had"


def _flushed(entry: Entry) -> bool:
    """Whether some call has sent nothing that counts, which then was the stream."""
    return any(not those_that_count(call.chunks) and call.chunks for call in entry.calls)
