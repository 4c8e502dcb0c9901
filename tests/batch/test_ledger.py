"""What of a batch is done, in a few bytes a prompt."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.batch import ledger as ledger_module
from greenroom.batch.ledger import HashMarks, Ledger, LineMarks, Marks, Seen
from greenroom.batch.prompts import PromptReader


@pytest.mark.parametrize("make", [LineMarks, HashMarks])
@given(
    st.lists(
        st.tuples(st.integers(0, 40) | st.integers(0, (1 << 64) - 1), st.integers(0, 65_535)),
        max_size=80,
    )
)
def test_marks_are_what_was_put_last(
    make: Callable[[], Marks], puts: list[tuple[int, int]]
) -> None:
    """As in a dict, where 0 stands for nothing."""
    marks, model = make(), dict[int, int]()
    for key, mark in puts:
        key = max(key, 1)  # a hash of 0 counts as 1
        marks.put(key, mark)
        model[key] = mark
    for key in {*model, 41, 2, 1 << 63}:
        assert marks.get(key) == model.get(key, 0)


def test_hashes_have_room_however_many_come() -> None:
    """Also such as begin at the same place."""
    marks, rng = HashMarks(), random.Random(5)
    keys = [rng.getrandbits(64) for _ in range(5_000)] + [each << 20 for each in range(1, 300)]
    for number, key in enumerate(keys):
        marks.put(key, number + 1)
    assert all(marks.get(key) == number + 1 for number, key in enumerate(keys))


@pytest.mark.parametrize("explicit", [False, True])
def test_a_prompt_is_open_until_it_is_answered(explicit: bool) -> None:
    """It is taken once; what is answered already never is."""
    ledger = Ledger(explicit)
    assert ledger.note_answer(2, digest=9)
    assert ledger.see(1, digest=5) is Seen.OPEN
    assert ledger.see(2, digest=9) is Seen.DONE
    assert [ledger.take(1), ledger.take(1), ledger.take(2), ledger.take(3)] == [
        True,
        False,
        False,
        False,
    ]
    assert (ledger.answered, ledger.matched) == (1, 1)


@pytest.mark.parametrize("explicit", [False, True])
def test_what_does_not_fit_is_noticed(explicit: bool) -> None:
    """An id that comes twice, in the output or the input; one that was another prompt; an answer
    whose prompt is not in the input.
    """
    ledger = Ledger(explicit)
    assert ledger.note_answer(1, digest=5)
    assert not ledger.note_answer(1, digest=5)
    assert ledger.note_answer(2, digest=5)
    assert ledger.note_answer(3, digest=5)
    assert ledger.see(1, digest=6) is Seen.OTHER
    assert ledger.see(2, digest=5) is Seen.DONE
    assert ledger.see(2, digest=5) is Seen.TWICE
    assert ledger.matched == 2 < ledger.answered
    assert not ledger.is_seen(3)


def test_a_text_and_a_number_are_two_ids() -> None:
    """As they are in JSON."""
    ledger = Ledger(explicit=True)
    assert ledger.see("7", digest=1) is Seen.OPEN
    assert ledger.see(7, digest=1) is Seen.OPEN


def test_every_digest_counts_as_an_answer() -> None:
    """None of them looks like no answer."""
    ledger = Ledger(explicit=False)
    for line, digest in enumerate([0, 32_766, 32_767, (1 << 32) - 1], 1):
        assert ledger.note_answer(line, digest)
        assert ledger.see(line, digest) is Seen.DONE


def peak_of(lines: int, ids: bool) -> int:
    """Bytes in use at most while so many lines are read and taken, as the input of a batch is."""
    reader, ledger = PromptReader("p.jsonl"), Ledger(explicit=ids)
    tracemalloc.start()
    try:
        for number in range(1, lines + 1):
            own = f'"id": "prompt-number-{number}", ' if ids else ""
            for each in reader.feed(f'{{{own}"prompt": "what is {number}?"}}\n'.encode()):
                ledger.see(each.id, each.digest)
                ledger.take(each.id)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("ids", "bytes_each"), [(False, 2), (True, 50)])
def test_memory_stays_flat(ids: bool, bytes_each: int) -> None:
    """Two bytes a line; thirty for an id, however long, half as much again while it grows."""
    few, many = 2_000, 30_000
    grown = peak_of(many, ids) - peak_of(few, ids)
    assert grown < bytes_each * (many - few) + 2 * ledger_module._PAGE
