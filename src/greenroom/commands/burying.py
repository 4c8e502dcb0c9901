"""What `greenroom dead` does: it asks a courier for the tells that are set aside."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from greenroom.commands.exits import Exit, UsageError
from greenroom.commands.opened_pool import at_work, file_errors
from greenroom.commands.terminal import complain, say
from greenroom.courier.courier_store import CourierStore, DeadTell
from greenroom.courier.named_courier import courier
from greenroom.courier.parcel import ParcelError, unpacked
from greenroom.kinds.pool_file import read_pool_file
from greenroom.messages.errors import summary


class Action(StrEnum):
    """What is to be done."""

    LIST = "list"
    SHOW = "show"
    RETRY = "retry"
    DROP = "drop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The arguments of the command."""

    action: Action = Action.LIST
    request: str | None = None
    pool: Path
    every: bool = False
    payload: bool = False
    json: bool = False


def carry_out(options: Options) -> Exit:
    """Do it, and print what there is to say.

    Raises:
        UsageError: bad arguments, a file that cannot be used, a courier that cannot be reached.
    """
    _check(options)
    with at_work(0), file_errors(options.pool):
        file = read_pool_file(options.pool)
        if file.courier is None:
            raise UsageError(f"{options.pool}: pool has no courier")
        try:
            there = courier("courier", file.courier)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{options.pool}: {error}") from None
        with _answers():
            store = there.open(file.name)
        try:
            with _answers():
                return _done(options, store)
        finally:
            store.close()


@contextmanager
def _answers() -> Iterator[None]:
    try:
        yield
    except (UsageError, OSError) as error:
        if isinstance(error, ConnectionError | TimeoutError):
            raise UsageError(f"the courier cannot be asked: {summary(error)}") from None
        raise
    except Exception as error:  # of the engine's library
        raise UsageError(f"the courier cannot be asked: {summary(error)}") from None


def _check(options: Options) -> None:
    takes_all = options.action in (Action.RETRY, Action.DROP)
    if options.every and not takes_all:
        raise UsageError("--all is for retry and drop")
    if options.every and options.request is not None:
        raise UsageError("an ID and --all cannot be given together")
    if options.action is Action.LIST:
        if options.request is not None:
            raise UsageError("list takes no ID: show does")
    elif options.request is None and not options.every:
        raise UsageError(f"{options.action} needs an ID" + (", or --all" if takes_all else ""))
    if options.payload and options.action is not Action.SHOW:
        raise UsageError("--payload is for show")


def _done(options: Options, store: CourierStore) -> Exit:
    match options.action:
        case Action.LIST:
            _list(store.dead(), options.json)
            return Exit.DONE
        case Action.SHOW:
            found = next((x for x in store.dead() if x.request_id == options.request), None)
            if found is None:
                return _unknown(options)
            _show(found, options)
            return Exit.DONE
    act = store.revive if options.action is Action.RETRY else store.drop
    if options.every:
        count = sum(act(each.request_id) for each in store.dead())
        did = "retried" if options.action is Action.RETRY else "dropped"
        say(json.dumps({did: count}) if options.json else f"{count} {did}")
        return Exit.DONE
    assert options.request is not None
    return Exit.DONE if act(options.request) else _unknown(options)


def _unknown(options: Options) -> Exit:
    complain(f"there is no dead tell of the id {options.request!r}")
    return Exit.FAILED


def _list(tells: Sequence[DeadTell], as_json: bool) -> None:
    if as_json:
        say(json.dumps({"dead": [_plain(each) for each in tells]}))
        return
    for each in tells:
        reasons = each.record.reasons
        last = reasons[-1].what if reasons else "unknown"
        say(
            f"{each.request_id}: {_when(each.died_at)}, {each.record.deliveries} deliveries, {last}"
        )


def _show(tell: DeadTell, options: Options) -> None:
    plain = _plain(tell) | _carried(tell, options.payload)
    if options.json:
        say(json.dumps(plain, default=repr))
        return
    say(f"{tell.request_id}: dead since {_when(tell.died_at)}")
    for reason in tell.record.reasons:
        say(f"  delivery {reason.delivery}, {_when(reason.at)}: {reason.what}")
    for name, value in _carried(tell, options.payload).items():
        say(f"  {name}: {json.dumps(value, default=repr)}")


def _plain(tell: DeadTell) -> dict[str, Any]:
    return {
        "request_id": tell.request_id,
        "died_at": tell.died_at,
        "deliveries": tell.record.deliveries,
        "reasons": [
            {"delivery": each.delivery, "at": each.at, "what": each.what}
            for each in tell.record.reasons
        ],
    }


def _carried(tell: DeadTell, payload: bool) -> dict[str, Any]:
    """What is in it: its payload only where that is asked for."""
    said: dict[str, Any] = {"bytes": len(tell.body)}
    try:
        request = unpacked(tell.body)
    except ParcelError as error:
        return said | {"unreadable": str(error)}
    said |= {
        "priority": request.priority,
        "idempotent": request.idempotent,
        "metadata_keys": sorted(request.metadata),
    }
    if payload:
        said |= {"key": request.key, "metadata": dict(request.metadata), "payload": request.payload}
    return said


def _when(at: float) -> str:
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):  # no time at all: anybody can write there
        return "?"
