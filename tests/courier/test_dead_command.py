"""`greenroom dead`: what is set aside is listed, shown, retried and dropped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers_courier import MemoryCourier

from greenroom import Request
from greenroom.cli import main
from greenroom.commands import burying
from greenroom.courier.courier_store import Bury, DeadTell, Reason, Record
from greenroom.courier.parcel import packed

Capture = pytest.CaptureFixture[str]

FILE = """
[pool]
name = "letters"
courier = "redis://127.0.0.1:1"
[[members]]
name = "a"
kind = "command"
argv = ["cat"]
"""


@pytest.fixture
def courier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryCourier]:
    """Two dead tells of the pool that stands in the file here."""
    (tmp_path / "pool.toml").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    memory = MemoryCourier()
    monkeypatch.setattr(burying, "courier", lambda field, value: memory)
    store = memory.open("letters")
    for at, name in enumerate(("one", "two")):
        request = Request({"secret": name}, key="ann", metadata={"tenant": "t"})
        store.put(name, packed(request, name))
        reasons = (Reason(1, 0.0, "a: timeout"), Reason(2, 60.0, f"a: unknown ({name})"))
        (receipt,) = store.receive(1, 0.0)
        store.settle([Bury(receipt, Record(2, 2, reasons), 86_400.0 + at)])
    yield memory
    assert memory.closed == memory.opened - 1


def test_b510_they_are_listed_with_their_last_reasons(
    courier: MemoryCourier, capsys: Capture
) -> None:
    """The oldest first; without an action, too. Nothing of a payload."""
    for arguments in (["dead"], ["dead", "list"], ["dead", "-c", "pool.toml"]):
        assert main(arguments) == 0
        assert capsys.readouterr().out == (
            "one: 1970-01-02 00:00:00Z, 2 deliveries, a: unknown (one)\n"
            "two: 1970-01-02 00:00:01Z, 2 deliveries, a: unknown (two)\n"
        )
    assert main(["dead", "--json"]) == 0
    dead = json.loads(capsys.readouterr().out)["dead"]
    assert [each["request_id"] for each in dead] == ["one", "two"]
    assert dead[0]["reasons"][0] == {"delivery": 1, "at": 0.0, "what": "a: timeout"}


def test_b510_one_is_shown_with_its_reasons_and_its_payload_only_when_asked(
    courier: MemoryCourier, capsys: Capture
) -> None:
    """The names of its metadata, and with --payload all of it."""
    assert main(["dead", "show", "one"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("one: dead since 1970-01-02 00:00:00Z\n")
    assert "  delivery 2, 1970-01-01 00:01:00Z: a: unknown (one)\n" in said
    assert '["tenant"]' in said
    assert not [each for each in ("secret", "ann", '"t"') if each in said]
    assert main(["dead", "show", "one", "--payload", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["payload"], shown["key"]) == ({"secret": "one"}, "ann")
    assert shown["metadata"] == {"tenant": "t"}


def test_b510_one_is_retried_or_dropped(courier: MemoryCourier, capsys: Capture) -> None:
    """By its id, or all; of one that is not there it ends with 1."""
    shelf = courier.shelf("letters")
    assert main(["dead", "retry", "one"]) == 0
    assert (set(shelf.tells), set(shelf.graves)) == ({"one"}, {"two"})
    for action in ("retry", "drop", "show"):
        assert main(["dead", action, "one"]) == 1
        assert "there is no dead tell of the id 'one'" in capsys.readouterr().err
    assert main(["dead", "drop", "--all"]) == 0
    assert capsys.readouterr().out == "1 dropped\n"
    assert not shelf.graves
    shelf.graves["three"] = DeadTell("three", Record(), 0.0, b"")
    assert main(["dead", "retry", "--all", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"retried": 1}


def test_b510_what_is_odd_is_listed_all_the_same(courier: MemoryCourier, capsys: Capture) -> None:
    """Times that are none, and a parcel that is none, without what it holds."""
    odd = Record(1, 1, (Reason(1, 1e300, "why"),))
    courier.shelf("letters").graves["odd"] = DeadTell("odd", odd, 1e300, b'{"v":"secret"}')
    assert main(["dead"]) == 0
    assert main(["dead", "show", "odd", "--payload"]) == 0
    said = capsys.readouterr().out
    assert "odd: ?, 1 deliveries, why" in said
    assert "secret" not in said


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["show"], "show needs an ID"),
        (["retry"], "retry needs an ID, or --all"),
        (["list", "x"], "list takes no ID"),
        (["show", "--all"], "--all is for retry and drop"),
        (["drop", "x", "--all"], "an ID and --all cannot be given together"),
        (["--payload"], "--payload is for show"),
        (["-c", "none.toml"], "none.toml"),
    ],
)
def test_b510_what_cannot_be_done_is_2(
    arguments: list[str], why: str, courier: MemoryCourier, capsys: Capture
) -> None:
    """And says why."""
    assert main(["dead", *arguments]) == 2
    assert why in capsys.readouterr().err


def test_b510_a_courier_that_cannot_be_asked_is_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """One that is away, and a file that has none."""
    pytest.importorskip("redis")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pool.toml").write_text(FILE)
    assert main(["dead"]) == 2
    assert "the courier cannot be asked: " in capsys.readouterr().err
    (tmp_path / "pool.toml").write_text(FILE.replace("courier", "# courier"))
    assert main(["dead"]) == 2
    assert "pool has no courier" in capsys.readouterr().err
