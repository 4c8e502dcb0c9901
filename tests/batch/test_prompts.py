"""What is a prompt of a batch, and what is said of a line that is none."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.batch import prompts
from greenroom.batch.prompts import BatchError, Format, Lines, Prompt, PromptReader, digest_of


def read(data: bytes, name: str = "p.jsonl", format: Format = Format.AUTO) -> list[Prompt]:
    reader = PromptReader(name, format)
    return [*reader.feed(data), *reader.end()]


def wrong(data: bytes, name: str = "p.jsonl", format: Format = Format.AUTO) -> str:
    with pytest.raises(BatchError) as caught:
        read(data, name, format)
    return str(caught.value)


def test_an_object_has_a_prompt_or_messages() -> None:
    """With an id of its own, that is its id; messages go through as they are."""
    data = (
        b'{"id": "a", "prompt": "hi"}\n'
        b'{"id": 7, "messages": [{"role": "user", "content": "hi", "name": "x"}]}\n'
    )
    first, second = read(data)
    assert (first.id, first.payload, first.line) == ("a", "hi", 1)
    assert (second.id, second.line) == (7, 2)
    assert second.payload == [{"role": "user", "content": "hi", "name": "x"}]


def test_without_ids_they_are_the_numbers_of_lines() -> None:
    """Of all lines: blank ones are passed over, and count. The last one need not end."""
    found = read(b'"one"\n\n  \r\n{"prompt": "two"}\r\n"three"')
    assert [(each.id, each.payload) for each in found] == [(1, "one"), (4, "two"), (5, "three")]


def test_lines_of_text_are_prompts_as_they_are() -> None:
    """Without their end; blanks at its ends are the prompt's."""
    found = read("\ufeff gr\u00fcn \r\n\nlast".encode(), "p.txt")
    assert [(each.id, each.payload) for each in found] == [(1, " gr\u00fcn "), (3, "last")]


@pytest.mark.parametrize(
    ("name", "data", "format"),
    [
        ("p.jsonl", b'"x"', Format.JSONL),
        ("p.NDJSON", b'"x"', Format.JSONL),
        ("p.txt", b'{"prompt": 1}', Format.TEXT),
        ("stdin", b'\n {"prompt": "x"}', Format.JSONL),
        ("p.csv", b'"x"', Format.JSONL),
        ("stdin", b'x\n{"prompt": 1}', Format.TEXT),
    ],
)
def test_the_format_goes_by_name_or_first_line(name: str, data: bytes, format: Format) -> None:
    """A name that says it decides; else the first line that is not blank."""
    reader = PromptReader(name)
    assert [*reader.feed(data), *reader.end()]
    assert reader.format is format


def test_the_format_may_be_said() -> None:
    """It counts more than name and lines."""
    assert read(b'{"prompt": "x"}', "p.jsonl", Format.TEXT)[0].payload == '{"prompt": "x"}'
    assert wrong(b"x", "p.txt", Format.JSONL).startswith("p.txt:1: must be JSON")


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        (b"[1]", "must be an object or a string, got a list"),
        (b"7", "must be an object or a string, got a number"),
        (b"null", "must be an object or a string, got null"),
        (b'{"prompt": "x', "must be JSON: Unterminated string"),
        (b"{" * 100_000, "must be JSON"),
        (b"[" * 100_000, "must be JSON that is less deep"),
        (b"{}", "must have prompt or messages, got neither"),
        (b'{"prompt": "x", "messages": []}', "must have prompt or messages, got both"),
        (b'{"promt": "x"}', "'promt' is no key of a prompt; did you mean prompt?"),
        (b'{"prompt": "x", "temperature": 1}', "those are id, prompt, messages"),
        (b'{"prompt": 1}', "prompt must be a string, got a number"),
        (b'{"prompt": ""}', "prompt must not be empty"),
        (b'""', "prompt must not be empty"),
        (b'{"messages": []}', "messages must be a list of objects, got an empty one"),
        (b'{"messages": "secret"}', "messages must be a list of objects, got a string"),
        (b'{"messages": [{}, "secret"]}', "messages[1] must be an object, got a string"),
        (b'{"id": true, "prompt": "x"}', "id must be a string or a whole number, got a truth"),
        (b'{"id": 1.5, "prompt": "x"}', "id must be a string or a whole number, got a number"),
        (b'{"id": "", "prompt": "x"}', "id must have 1 to 1000 characters, got 0"),
        (b'{"prompt": "\xff"}', "must be UTF-8: invalid start byte"),
    ],
)
def test_what_is_no_prompt_is_refused(line: bytes, rule: str) -> None:
    """With the file, the line and the rule, and never with what may be a prompt."""
    said = wrong(b"\n" + line + b"\n")
    assert said.startswith("p.jsonl:2: ")
    assert rule in said
    assert "secret" not in said


def test_all_prompts_have_an_id_or_none() -> None:
    """Else a number could be an id, or that of a line."""
    assert wrong(b'\n"x"\n{"id": 1, "prompt": "x"}\n') == (
        "p.jsonl:3: has an id, line 2 has none: all prompts must have one, or none"
    )
    assert wrong(b'{"id": 1, "prompt": "x"}\n"x"\n') == (
        "p.jsonl:2: has no id, line 1 has one: all prompts must have one, or none"
    )


def test_what_comes_before_a_wrong_line_is_read() -> None:
    """One by one, up to it."""
    reader = PromptReader("p.jsonl")
    found = reader.feed(b'"x"\n7\n')
    assert next(found).payload == "x"
    with pytest.raises(BatchError):
        next(found)


def test_a_line_is_held_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that does not end."""
    monkeypatch.setattr(prompts, "MOST_LINE_BYTES", 10)
    lines = Lines("p")
    assert list(lines.feed(b"0123456789\n01234")) == [b"0123456789"]
    with pytest.raises(BatchError, match="p:2: must have at most 10 bytes"):
        list(lines.feed(b"567890"))


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=5))
def test_lines_are_the_same_however_blocks_are_cut(data: bytes, cuts: list[int]) -> None:
    """And what follows the last newline is the rest."""
    lines = Lines("p")
    places = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    found = [line for begin, end in pairwise(places) for line in lines.feed(data[begin:end])]
    assert [*found, lines.rest()] == data.split(b"\n")


def test_a_digest_is_of_what_is_asked() -> None:
    """The same for text and JSON, whatever the order of keys; half a surrogate pair is a text."""
    assert digest_of("x") == digest_of("x") != digest_of("y")
    assert digest_of([{"a": 1, "b": 2}]) == digest_of([{"b": 2, "a": 1}]) != digest_of([{"a": 1}])
    assert digest_of("\ud800") != digest_of("\udfff")
    assert 0 <= digest_of("x") < 1 << 32


def test_a_prompt_shows_nothing_of_what_it_asks() -> None:
    """A repr may come into a log."""
    assert repr(read(b'{"id": "a", "prompt": "secret"}')[0]) == "<Prompt 'a', line 1>"
